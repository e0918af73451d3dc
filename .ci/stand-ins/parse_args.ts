/**
 * A stand-in for `@std/cli/parse-args`. It is our own text, not the code of the
 * standard library, and it is used only where JSR cannot be reached: see
 * `.ci/vendor.ts`.
 *
 * It reads a command line as the real `parseArgs` does, even where that is a
 * surprise: `--no-host=x` sets `host`, and `-hp5` sets `h` to `p5`. It lacks the
 * options `collect`, `negatable`, `stopEarly` and `"--"`, and gives no meaning to
 * dots in names. It also declares less: `deno check` refuses what is missing.
 *
 * @module
 */

// ---- Types

/** What a program declares about its command line. */
export interface ParseOptions<
  Booleans extends string,
  Strings extends string,
  Defaults extends Record<string, unknown>,
> {
  /** Options without a value: they are present or not. */
  boolean?: readonly Booleans[];
  /** Options whose value stays text. With `"_"`, positional arguments do too. */
  string?: readonly Strings[];
  /** Other names of an option. All names of an option have the same value. */
  alias?: Record<string, string | readonly string[]>;
  /** The values of options that are not on the command line. */
  default?: Defaults;
  /**
   * Called with each option that is not declared, and with each positional
   * argument. If it returns `false`, the argument is left out of the result.
   */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/**
 * The result: the value of each option by name, and the positional arguments
 * in `_`.
 *
 * As in the real package, `string: ["_"]` makes `_` an odd `string & Array`, which
 * is no `string[]`. The stand-in is as odd, so that a program that passes
 * `deno check` with the stand-in passes with the real package, too.
 */
export type Args<
  Booleans extends string,
  Strings extends string,
  Defaults extends Record<string, unknown>,
> =
  & Record<string, unknown>
  & { [Name in Exclude<Booleans, keyof Defaults>]: boolean }
  & { [Name in Exclude<Strings, keyof Defaults>]?: string }
  & {
    [Name in Extract<Booleans | Strings, keyof Defaults>]:
      | Defaults[Name]
      | (Name extends Booleans ? boolean : never)
      | (Name extends Strings ? string : never);
  }
  & { _: Array<string | number> };

// ---- Parsing

/** Reads a command line into options and positional arguments. */
export function parseArgs<
  Booleans extends string = never,
  Strings extends string = never,
  Defaults extends Record<string, unknown> = Record<never, never>,
>(
  args: string[],
  options: ParseOptions<Booleans, Strings, Defaults> = {},
): Args<Booleans, Strings, Defaults> {
  const parser = new Parser(options);
  parser.read(args);
  parser.addDefaults(options.default ?? {});
  return parser.result as Args<Booleans, Strings, Defaults>;
}

type AnyOptions = ParseOptions<string, string, Record<string, unknown>>;

class Parser {
  readonly result: Record<string, unknown> & { _: Array<string | number> } = {
    _: [],
  };

  /** From each name of an option that has several, to all of its names. */
  readonly #aliases = new Map<string, string[]>();
  /** All names of the options that are declared as boolean. */
  readonly #booleans = new Set<string>();
  /** All names of the options that are declared as string. */
  readonly #strings = new Set<string>();
  readonly #unknown: NonNullable<AnyOptions["unknown"]>;

  constructor(options: AnyOptions) {
    this.#unknown = options.unknown ?? (() => true);
    for (const [name, others] of Object.entries(options.alias ?? {})) {
      const names = [name].concat(others);
      for (const each of names) this.#aliases.set(each, names);
    }
    for (const name of options.boolean ?? []) {
      for (const each of this.#namesOf(name)) this.#booleans.add(each);
    }
    for (const name of options.string ?? []) {
      for (const each of this.#namesOf(name)) this.#strings.add(each);
    }
  }

  /** Reads all arguments. Those after `--` are positional, whatever they are. */
  read(args: string[]): void {
    const end = args.includes("--") ? args.indexOf("--") : args.length;
    const parsed = args.slice(0, end);
    let index = 0;
    while (index < parsed.length) {
      const next = parsed[index + 1] ?? "";
      const isNextUsed = this.#readArgument(parsed[index]!, next);
      index += isNextUsed ? 2 : 1;
    }
    this.result._.push(...args.slice(end + 1));
  }

  /** Gives a value to each declared option that the command line leaves out. */
  addDefaults(defaults: Record<string, unknown>): void {
    for (const [name, value] of Object.entries(defaults)) {
      if (!Object.hasOwn(this.result, name)) this.#store(name, value);
    }
    for (const name of this.#booleans) {
      if (!Object.hasOwn(this.result, name)) this.result[name] = false;
    }
  }

  /** Returns whether `next`, the argument that follows, was used as a value. */
  #readArgument(arg: string, next: string): boolean {
    if (arg.startsWith("--")) return this.#readLongOption(arg, next);
    // A `-` alone is positional: by convention, it means standard input.
    if (arg.startsWith("-") && arg !== "-") {
      return this.#readShortOptions(arg, next);
    }
    this.#readPositional(arg);
    return false;
  }

  /** Reads `--name=value`, `--name value` or `--name`. */
  #readLongOption(arg: string, next: string): boolean {
    const text = arg.slice(2);
    const hasNegation = text.startsWith("no-") && text !== "no-";
    const start = hasNegation ? "no-".length : 0;
    // A name has at least one character, even if that character is a `=`.
    const equals = text.indexOf("=", start + 1);
    if (equals === -1) {
      return this.#readValue(arg, text, next, next.startsWith("-"));
    }
    const name = text.slice(start, equals);
    const value = text.slice(equals + 1);
    this.#set(arg, name, this.#booleans.has(name) ? value !== "false" : value);
    return false;
  }

  /** Reads options of one character each: `-a`, `-abc`, `-p 9999` or `-p9999`. */
  #readShortOptions(arg: string, next: string): boolean {
    const last = arg.length - 1;
    for (let index = 1; index < last; index++) {
      const name = arg[index]!;
      const rest = arg.slice(index + 1);
      const value = findAttachedValue(name, rest);
      this.#set(arg, name, value ?? this.#presentValue(name));
      if (value !== undefined) return false;
    }
    return this.#readValue(arg, arg[last]!, next, /^--?[^-]/.test(next));
  }

  /** Sets an option whose value, if it has one, is the next argument. */
  #readValue(
    arg: string,
    name: string,
    next: string,
    isNextOption: boolean,
  ): boolean {
    if (next !== "" && !isNextOption && !this.#booleans.has(name)) {
      this.#set(arg, name, next);
      return true;
    }
    if (next === "true" || next === "false") {
      this.#set(arg, name, next === "true");
      return true;
    }
    this.#set(arg, name, this.#presentValue(name));
    return false;
  }

  #readPositional(arg: string): void {
    if (this.#unknown(arg) === false) return;
    this.result._.push(this.#strings.has("_") ? arg : toNumber(arg));
  }

  /** Sets an option, unless it is not declared and the program refuses it. */
  #set(arg: string, name: string, value: string | boolean): void {
    const isDeclared = this.#booleans.has(name) || this.#strings.has(name) ||
      this.#aliases.has(name);
    if (!isDeclared && this.#unknown(arg, name, value) === false) return;
    const staysText = typeof value !== "string" || this.#strings.has(name);
    this.#store(name, staysText ? value : toNumber(value));
  }

  #store(name: string, value: unknown): void {
    for (const each of this.#namesOf(name)) this.result[each] = value;
  }

  #namesOf(name: string): string[] {
    return this.#aliases.get(name) ?? [name];
  }

  /** The value of an option that is present without a value. */
  #presentValue(name: string): string | boolean {
    return this.#strings.has(name) ? "" : true;
  }
}

/**
 * Finds the value of a short option in the characters that follow it in the
 * same argument: `=5` or `5` after `-p`. Returns `undefined` if those characters
 * are options themselves.
 */
function findAttachedValue(name: string, rest: string): string | undefined {
  if (rest === "-") return rest;
  if (rest === "=") return "";
  if (/[A-Za-z]/.test(name)) {
    const afterEquals = rest.match(/=(.+)/)?.[1];
    if (afterEquals !== undefined) return afterEquals;
    const endsLikeNumber = /\d\.?$/.test(rest);
    if (endsLikeNumber) return rest;
  }
  const startsWithSign = rest.length > 1 && /^\W/.test(rest);
  return startsWithSign ? rest : undefined;
}

/** Text that looks like a number becomes that number; other text stays. */
function toNumber(text: string): string | number {
  const isNumber = text.trim() !== "" && Number.isFinite(Number(text));
  return isNumber ? Number(text) : text;
}
