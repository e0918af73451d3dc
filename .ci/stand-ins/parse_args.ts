/**
 * A stand-in for `@std/cli/parse-args`, and it confesses: this is not std's
 * code. It is used only where JSR cannot be reached (see `.ci/vendor.ts`). It
 * understands the options of std's `parseArgs` that our programs use, and
 * treats a command line as std does, rare clusters of letters (`-hp5`) and a
 * `true` or `false` after a boolean option apart. It lacks `collect`,
 * `negatable`, `stopEarly`, `"--"`, and dots in names.
 *
 * @module
 */

/** How to read the command line. */
export interface ParseOptions<
  Booleans extends string,
  Strings extends string,
  Defaults extends Record<string, unknown>,
> {
  /** Options that are there or not, and never take the next argument. */
  boolean?: readonly Booleans[];
  /** Options whose value stays text. With `"_"`, positionals do too. */
  string?: readonly Strings[];
  /** Other names of an option: each name gets the value of all. */
  alias?: Record<string, string | readonly string[]>;
  /** Values of options that were not given. */
  default?: Defaults;
  /** Is told of undeclared options, and of positionals; `false` leaves one out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/**
 * Option names to values, as far as they were declared, and `_`: the positionals.
 *
 * As in std's own types, `string: ["_"]` makes `_` an odd `string & Array`: good
 * to index and destructure, where it gives strings, but no `string[]`. Ours is
 * as odd, so that what passes `deno check` here passes it with std's too.
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
    [Name in keyof Defaults]:
      | Defaults[Name]
      | (Name extends Booleans ? boolean : never)
      | (Name extends Strings ? string : never);
  }
  & { _: Array<string | number> };

/** Takes a command line apart. */
export function parseArgs<
  Booleans extends string = never,
  Strings extends string = never,
  Defaults extends Record<string, unknown> = Record<never, never>,
>(
  args: string[],
  options: ParseOptions<Booleans, Strings, Defaults> = {},
): Args<Booleans, Strings, Defaults> {
  const { alias = {}, unknown = () => true } = options;
  const families = Object.entries(alias).map(([name, others]) =>
    [name, others].flat()
  );
  const allNamesOf = (name: string) =>
    families.find((family) => family.includes(name)) ?? [name];
  const booleans = new Set((options.boolean ?? []).flatMap(allNamesOf));
  const strings = new Set((options.string ?? []).flatMap(allNamesOf));

  const result: Record<string, unknown> & { _: Array<string | number> } = {
    _: [],
  };
  const set = (name: string, value: unknown) => {
    for (const each of allNamesOf(name)) result[each] = value;
  };

  /** Handles an option; `next` is the argument after it. Says whether it took that. */
  function takeOption(arg: string, text: string, next?: string): boolean {
    // An "=" at the very start or end does not split name and value.
    const [, name = text, inline] = text.match(/^(.+?)=(.+)$/s) ?? [];
    const takesNext = inline === undefined && !booleans.has(name) &&
      !!next && !next.startsWith("-");
    const given = inline ?? (takesNext ? next : undefined);
    const value = booleans.has(name)
      ? given !== "false"
      : given ?? (strings.has(name) ? "" : true);

    const known = booleans.has(name) || strings.has(name) ||
      families.flat().includes(name);
    if (known || unknown(arg, name, value) !== false) {
      set(name, strings.has(name) ? value : toNumber(value));
    }
    return takesNext;
  }

  /** Handles `-abc`: `-a -b -c`; but where `a` takes text, `-a bc`. */
  function takeLetters(arg: string, next?: string): boolean {
    let rest = arg.slice(1);
    while (rest.length > 1 && rest[1] !== "=" && !takesRest(rest)) {
      takeOption(arg, rest[0]!);
      rest = rest.slice(1);
    }
    if (rest.length > 1 && rest[1] !== "=") {
      rest = `${rest[0]}=${rest.slice(1)}`;
    }
    return takeOption(arg, rest, next);
  }

  /** Whether, as in `-p9999`, what follows the first letter is its value. */
  function takesRest(letters: string): boolean {
    return !booleans.has(letters[0]!) && /^[a-z]-?\d+(\.\d*)?$/i.test(letters);
  }

  const end = args.indexOf("--");
  const before = end === -1 ? args : args.slice(0, end);
  for (let i = 0; i < before.length; i++) {
    const arg = before[i]!;
    const next = before[i + 1];
    if (/^--./s.test(arg)) {
      if (takeOption(arg, arg.slice(2), next)) i++;
    } else if (/^-./s.test(arg)) {
      if (takeLetters(arg, next)) i++;
    } else if (unknown(arg) !== false) {
      result._.push(strings.has("_") ? arg : toNumber(arg));
    }
  }
  if (end !== -1) result._.push(...args.slice(end + 1));

  for (const [name, value] of Object.entries(options.default ?? {})) {
    if (!(name in result)) set(name, value);
  }
  for (const name of booleans) result[name] ??= false;
  return result as Args<Booleans, Strings, Defaults>;
}

/** Text that looks like a number, as that number; anything else as it is. */
function toNumber<T>(value: T): T | number {
  const isNumeric = typeof value === "string" && value.trim() !== "" &&
    Number.isFinite(Number(value));
  return isNumeric ? Number(value) : value;
}
