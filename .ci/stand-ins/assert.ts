/**
 * A stand-in for `@std/assert`. It is our own text, not the code of the
 * standard library, and it is used only where JSR cannot be reached: see
 * `.ci/vendor.ts`. It has the assertions that our tests use, with the names, the
 * types and the messages of the real ones.
 *
 * Two things differ. A failed `assertEquals` shows both values, without the
 * coloured diff of the real one. And deep equality is that of Deno's built-in
 * `node:util`: for text, numbers, arrays, plain objects, maps and sets it is the
 * same. It is stricter about `-0` inside an object and about objects without a
 * prototype, and less strict about `Error` and `URL` objects.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";

/** The error that a failed assertion throws. */
export class AssertionError extends Error {
  /** Makes an error with this message. */
  constructor(message: string) {
    super(message);
    this.name = "AssertionError";
  }
}

/** Anything with a length and numbered elements, but no string. */
export type ArrayLikeArg<T> = ArrayLike<T> & object;

// deno-lint-ignore no-explicit-any -- an error class may have any parameters.
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

// ---- Values

/** Asserts that `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails in any case. */
export function fail(msg?: string): never {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}

/** Marks code that must never run: fails in any case. */
export function unreachable(msg?: string): never {
  throw new AssertionError(`Unreachable${suffix(msg)}`);
}

/** Asserts that both values are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (isEqual(actual, expected)) return;
  throw new AssertionError(
    `Values are not equal${suffix(msg)}\n` +
      `  actual:   ${show(actual)}\n` +
      `  expected: ${show(expected)}`,
  );
}

/** Asserts that the two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!isEqual(actual, expected)) return;
  throw new AssertionError(
    `Expected actual: ${show(actual)} not to be: ${show(expected)}` +
      suffix(msg),
  );
}

// ---- Order. Here, as in the real package, `msg` replaces the whole message.

/** Asserts that `actual` is less than `expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (actual < expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} < ${show(expected)}`,
  );
}

/** Asserts that `actual` is less than or equal to `expected`. */
export function assertLessOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (actual <= expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} <= ${show(expected)}`,
  );
}

/** Asserts that `actual` is greater than `expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (actual > expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} > ${show(expected)}`,
  );
}

/** Asserts that `actual` is greater than or equal to `expected`. */
export function assertGreaterOrEqual<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (actual >= expected) return;
  throw new AssertionError(
    msg ?? `Expect ${show(actual)} >= ${show(expected)}`,
  );
}

// ---- Text and arrays

/**
 * Asserts that `actual` matches `expected`. As with the real one, an expression
 * with the flag `g` or `y` starts where its last match ended.
 */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  if (expected.test(actual)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to match: "${expected}"${suffix(msg)}`,
  );
}

/** Asserts that `actual` does not match `expected`. */
export function assertNotMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  if (!expected.test(actual)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to not match: "${expected}"${suffix(msg)}`,
  );
}

/** Asserts that `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void {
  if (actual.includes(expected)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to contain: "${expected}"${suffix(msg)}`,
  );
}

/** Asserts that `actual` contains each element of `expected`, in any order. */
export function assertArrayIncludes<T>(
  actual: ArrayLikeArg<T>,
  expected: ArrayLikeArg<T>,
  msg?: string,
): void {
  const present = Array.from(actual);
  const missing = Array.from(expected).filter((wanted) =>
    !present.some((element) => isEqual(element, wanted))
  );
  if (missing.length === 0) return;
  throw new AssertionError(
    `Expected actual: "${show(actual)}" to include: "${show(expected)}"` +
      `${suffix(msg)}\nmissing: ${show(missing)}`,
  );
}

// ---- Errors

/** Asserts that `fn` throws, and returns what it threw. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Asserts that `fn` throws an error of this class, and returns the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  classOrMsg?: ErrorClass<Error> | string,
  msgIncludes?: string,
  msgAfterClass?: string,
): unknown {
  const msg = typeof classOrMsg === "string" ? classOrMsg : msgAfterClass;
  try {
    fn();
  } catch (error) {
    if (typeof classOrMsg === "function") {
      checkError(error, classOrMsg, "thrown", msgIncludes, msg);
    }
    return error;
  }
  throw new AssertionError(`Expected function to throw${suffix(msg)}`);
}

/** Asserts that the promise of `fn` rejects, and returns the reason. */
export function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
/** Asserts that the promise of `fn` rejects with an error of this class. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  classOrMsg?: ErrorClass<Error> | string,
  msgIncludes?: string,
  msgAfterClass?: string,
): Promise<unknown> {
  const msg = typeof classOrMsg === "string" ? classOrMsg : msgAfterClass;
  const promise = callForPromise(fn, msg);
  try {
    await promise;
  } catch (error) {
    if (typeof classOrMsg === "function") {
      checkError(error, classOrMsg, "rejected", msgIncludes, msg);
    }
    return error;
  }
  throw new AssertionError(`Expected function to reject${suffix(msg)}`);
}

/** Calls `fn`. A function that throws, or returns no promise, does not reject. */
function callForPromise(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): PromiseLike<unknown> {
  const message = `Function throws when expected to reject${suffix(msg)}`;
  let result: PromiseLike<unknown>;
  try {
    result = fn();
  } catch {
    throw new AssertionError(message);
  }
  if (typeof result?.then !== "function") throw new AssertionError(message);
  return result;
}

/** Asserts that an error has this class, and this text in its message. */
function checkError(
  error: unknown,
  errorClass: ErrorClass<Error>,
  how: "thrown" | "rejected",
  msgIncludes = "",
  msg?: string,
): void {
  if (!(error instanceof Error)) {
    throw new AssertionError(`A non-Error object was ${how}${suffix(msg)}`);
  }
  const actualName = error.constructor.name;
  if (!(error instanceof errorClass)) {
    throw new AssertionError(
      `Expected error to be instance of "${errorClass.name}", ` +
        `but was "${actualName}"${suffix(msg)}`,
    );
  }
  if (!error.message.includes(msgIncludes)) {
    throw new AssertionError(
      `Expected error message to include ${JSON.stringify(msgIncludes)}, ` +
        `but got ${JSON.stringify(error.message)}${suffix(msg)}`,
    );
  }
}

// ---- Details

function isEqual(a: unknown, b: unknown): boolean {
  // The comparison with `===` makes 0 and -0 equal, as in the real package.
  return a === b || isDeepStrictEqual(a, b);
}

/** The end of a message: what the test adds, or a full stop. */
function suffix(msg?: string): string {
  return msg ? `: ${msg}` : ".";
}

/** Shows the whole value, because the difference may be at its end. */
function show(value: unknown): string {
  return Deno.inspect(value, {
    depth: Infinity,
    iterableLimit: Infinity,
    strAbbreviateSize: Infinity,
  });
}
