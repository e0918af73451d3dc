/**
 * A stand-in for `@std/assert`, and it confesses: this is not std's code. It is
 * used only where JSR cannot be reached (see `.ci/vendor.ts`). It has just the
 * assertions that our tests use, with std's names, parameters and strictness;
 * deep equality is Deno's built-in `node:util`, and there is no coloured diff.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";

/** What a failed assertion throws. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

// deno-lint-ignore no-explicit-any -- a class may take whatever it likes.
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Makes an assertion that `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails, always. */
export function fail(msg?: string): never {
  throw new AssertionError(join("Failed assertion", msg));
}

/** Makes an assertion that both values are deeply and strictly equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (isDeepStrictEqual(actual, expected)) return;
  complain("Values are not equal", msg, actual, expected);
}

/** Makes an assertion that the two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!isDeepStrictEqual(actual, expected)) return;
  complain("Values are equal, but should differ", msg, actual, expected);
}

/** Makes an assertion that `actual` matches the regular expression. */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  // search, unlike test, starts from the beginning even for a /g expression.
  if (actual.search(expected) !== -1) return;
  complain("Text does not match", msg, actual, expected);
}

/** Makes an assertion that `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void {
  if (actual.includes(expected)) return;
  complain("Text does not contain what it should", msg, actual, expected);
}

/** Makes an assertion that `fn` throws, and gives back what it threw. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Makes an assertion that `fn` throws such an error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  ...expected: [] | ExpectedError
): unknown {
  try {
    fn();
  } catch (error) {
    return checkError(error, ...expected);
  }
  return failToThrow("Expected function to throw", ...expected);
}

/** Makes an assertion that the promise rejects, and gives back what with. */
export function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
/** Makes an assertion that the promise rejects with such an error. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  ...expected: [] | ExpectedError
): Promise<unknown> {
  try {
    await fn();
  } catch (error) {
    return checkError(error, ...expected);
  }
  return failToThrow("Expected function to reject", ...expected);
}

/** Either a message of one's own, or an error class and what its message holds. */
type ExpectedError =
  | [msg?: string]
  | [errorClass: ErrorClass<Error>, msgIncludes?: string, msg?: string];

function checkError(error: unknown, ...expected: ExpectedError): unknown {
  const [errorClass, msgIncludes, msg] = expected;
  if (typeof errorClass !== "function") return error;
  if (!(error instanceof errorClass)) {
    complain("Error is of another class", msg, `${error}`, errorClass.name);
  }
  if (!error.message.includes(msgIncludes ?? "")) {
    complain("Error says something else", msg, error.message, msgIncludes);
  }
  return error;
}

function failToThrow(what: string, ...expected: ExpectedError): never {
  const [first, , msg] = expected;
  throw new AssertionError(join(what, typeof first === "string" ? first : msg));
}

/** How to show a value: all of it, since the difference may be at its end. */
const WHOLE: Deno.InspectOptions = {
  depth: Infinity,
  iterableLimit: Infinity,
  strAbbreviateSize: Infinity,
};

function complain(
  what: string,
  msg: string | undefined,
  actual: unknown,
  expected: unknown,
): never {
  const show = (value: unknown) => Deno.inspect(value, WHOLE);
  throw new AssertionError(
    `${join(what, msg)}\n  actual:   ${show(actual)}\n` +
      `  expected: ${show(expected)}`,
  );
}

function join(what: string, msg?: string): string {
  return msg ? `${what}: ${msg}` : what;
}
