/**
 * Carries a change of the program through the steps:
 *
 *     deno run -A tests/tools/carry.ts unpack    makes the programs of all steps
 *     deno run -A tests/tools/carry.ts pack      makes their diffs anew
 *
 * `unpack` makes a folder for each step, exercise and mistake, with the program after
 * it. Only the last step has none: its program is `server.ts`, `client.ts` and
 * `protocol.ts`. With `--all`, it has a folder, too. That is for a course whose last
 * step does not reach the program yet. Change some of these programs, or make a folder
 * with a new name: that is a new step.
 *
 * `pack` takes a program as it is if you have changed it. To every other program it
 * makes the changes of the steps before, as `git merge` would. If both have changed the
 * same lines, `pack` says so and writes nothing. Then make the change by hand, too. If
 * the program is right as it is, say so with its name: `pack 09.2_log 19_who`.
 *
 * It needs the programs `diff` and `git`, which learners do not need.
 */

import { pathToFileURL } from "node:url";
import {
  byNumber,
  Change,
  Course,
  EXERCISE_STEM,
  EXERCISES,
  exists,
  formatSize,
  isSame,
  list,
  MISTAKE_STEM,
  NAIVE,
  type Program,
  readProgram,
  ROOT,
  sizeOf,
  STEP_STEM,
  stepOfMistake,
  STEPS,
  writeProgram,
} from "./steps.ts";

/** Holds a folder for each program. Git ignores it. */
const UNPACKED = new URL("unpacked/", STEPS);
/** Holds the same programs as they were unpacked, and that of the last step. */
const ORIGINALS = new URL(".originals/", UNPACKED);
/** The name of the first program. */
const FIRST = "00_naive";

/** What a new step begins with. */
const NEW_STEP = `# Step N.M: TODO

**What goes wrong.** TODO

**See it.** TODO

**Change.** TODO

Hints:

1. TODO

These tests turn green:

- TODO`;

/** What a new mistake begins with. */
const NEW_MISTAKE = `TODO: what a learner would try, and what breaks for whom.

These tests turn red:

- TODO`;

/** What a new exercise begins with. */
const NEW_EXERCISE = "TODO: the idea of the solution.";

const USAGE = `Usage: deno run -A tests/tools/carry.ts unpack [--all]
       deno run -A tests/tools/carry.ts pack [NAME...]`;

// ------------------------------------------------------------------- unpacking

/** Makes all programs before it writes the first one. */
function unpack(hasLast: boolean): void {
  if (exists(UNPACKED)) {
    throw new Error("tests/steps/unpacked/ exists. Pack it, or remove it.");
  }
  const { all, steps } = new Course();
  const programs = new Map([[FIRST, readProgram(NAIVE)]]);
  for (const change of all.flatMap((step) => [step, ...step.mistakes])) {
    programs.set(change.stem, change.after);
  }
  const last = steps.at(-1)?.stem;
  for (const [stem, program] of programs) {
    writeProgram(folderIn(ORIGINALS, stem), program);
    const isWanted = hasLast || stem !== last;
    if (isWanted) writeProgram(folderIn(UNPACKED, stem), program);
  }
  console.log("Change the programs in tests/steps/unpacked/, then pack.");
}

function folderIn(parent: URL, stem: string): URL {
  return new URL(`${stem}/`, parent);
}

// --------------------------------------------------------------------- packing

/** Makes all diffs before it writes the first one. */
function pack(keptStems: string[]): void {
  if (!exists(UNPACKED)) throw new Error("Nothing is unpacked.");
  const folders = list(UNPACKED, /^\d/);
  const unknown = keptStems.find((stem) => !folders.includes(stem));
  if (unknown !== undefined) {
    throw new Error(`tests/steps/unpacked/${unknown}/ does not exist.`);
  }
  const packing = new Packing(folders, keptStems);
  packing.packSteps();
  packing.packExercises();
  packing.packMistakes();
  packing.write();
  Deno.removeSync(UNPACKED, { recursive: true });
  console.log("Packed. Now: deno task prove");
}

/** The new programs and diffs, before they are written. */
class Packing {
  readonly #folders: string[];
  readonly #keptStems: string[];
  /** The new program after each step, exercise and mistake. */
  readonly #programs = new Map<string, Program>();
  /** The new text of each file. */
  readonly #texts = new Map<URL, string>();

  /**
   * @param folders the names of the folders that are unpacked.
   * @param keptStems the names of those whose programs are right as they are.
   */
  constructor(folders: string[], keptStems: string[]) {
    this.#folders = folders;
    this.#keptStems = keptStems;
  }

  packSteps(): void {
    const stems = this.#stems(STEPS, STEP_STEM).sort(byNumber);
    const first = readProgram(folderIn(UNPACKED, FIRST));
    this.#programs.set(FIRST, first);
    let before = first;
    for (const stem of stems) {
      const isTheProgram = stem === stems.at(-1) &&
        !this.#folders.includes(stem);
      const after = isTheProgram
        ? readProgram(ROOT)
        : this.#carry(before, stem);
      this.#pack(stem, STEPS, before, after, NEW_STEP);
      before = after;
    }
  }

  packExercises(): void {
    const before = [...this.#programs.values()].at(-1)!;
    for (const stem of this.#stems(EXERCISES, EXERCISE_STEM)) {
      const after = this.#carry(before, stem);
      this.#pack(stem, EXERCISES, before, after, NEW_EXERCISE);
    }
  }

  packMistakes(): void {
    for (const stem of this.#stems(STEPS, MISTAKE_STEM)) {
      const before = this.#programs.get(stepOfMistake(stem));
      if (before === undefined) throw new Error(`${stem} belongs to no step.`);
      const after = this.#carry(before, stem);
      this.#pack(stem, STEPS, before, after, NEW_MISTAKE);
    }
  }

  /** The names that match the pattern, of folders and of `.diff` files. */
  #stems(parent: URL, pattern: RegExp): string[] {
    const files = list(parent, /\.diff$/);
    const recorded = files.map((name) => name.replace(/\.diff$/, ""));
    const all = new Set([...recorded, ...this.#folders]);
    all.delete(FIRST);
    return [...all].filter((stem) => pattern.test(stem));
  }

  /** Returns the new program: as changed by hand, or with the changes before it. */
  #carry(before: Program, stem: string): Program {
    if (!this.#folders.includes(stem)) {
      throw new Error(
        `tests/steps/unpacked/${stem}/ is missing. To remove it from the course, ` +
          `remove ${stem}.diff, too.`,
      );
    }
    const program = readProgram(folderIn(UNPACKED, stem));
    const original = folderIn(ORIGINALS, stem);
    const isChanged = !exists(original) ||
      !isSame(program, readProgram(original));
    if (isChanged || this.#keptStems.includes(stem)) return program;
    return merge(stem, originalBefore(stem), before, program);
  }

  #pack(
    stem: string,
    parent: URL,
    before: Program,
    after: Program,
    newPage: string,
  ): void {
    const file = new URL(`${stem}.diff`, parent);
    const recorded = exists(file) ? new Change(stem, parent) : undefined;
    const page = recorded?.page.text ?? newPage;
    const diff = makeDiff(before, after);
    const remark = diff === recorded?.diff ? "" : ", a new diff";
    console.log(`${stem}: ${formatSize(sizeOf(diff))}${remark}`);
    this.#programs.set(stem, after);
    this.#texts.set(file, `${page}\n\n${diff}`);
  }

  write(): void {
    writeProgram(NAIVE, this.#programs.get(FIRST)!);
    for (const [file, text] of this.#texts) Deno.writeTextFileSync(file, text);
  }
}

/** The program that a step, exercise or mistake changed when it was unpacked. */
function originalBefore(stem: string): Program {
  const steps = list(ORIGINALS, STEP_STEM).sort(byNumber);
  const chain = [FIRST, ...steps];
  const index = chain.indexOf(stem);
  let before = chain.at(-1)!; // that of an exercise
  if (index > 0) before = chain[index - 1]!;
  if (MISTAKE_STEM.test(stem)) before = stepOfMistake(stem);
  return readProgram(folderIn(ORIGINALS, before));
}

// ------------------------------------------------------------ merging, diffing

/**
 * Makes two changes of the same original.
 *
 * @param stem the name of the step that makes the second change.
 * @throws if both have changed the same lines.
 */
function merge(
  stem: string,
  original: Program,
  before: Program,
  after: Program,
): Program {
  const result: Program = {};
  for (const name of Object.keys({ ...before, ...after })) {
    const files = {
      before: before[name] ?? "",
      original: original[name] ?? "",
      after: after[name] ?? "",
    };
    const labels = ["the steps before", "as it was unpacked", stem];
    const flags = labels.flatMap((label) => ["-L", label]);
    const command = [
      "git",
      "merge-file",
      "-p",
      ...flags,
      ...Object.keys(files),
    ];
    const { code, output } = run(command, files);
    if (code !== 0) throw new Error(describeConflict(stem, name, output));
    result[name] = output;
  }
  return result;
}

function describeConflict(stem: string, name: string, output: string): string {
  const [conflict = ""] = /^<{7}.*?^>{7}.*?$/ms.exec(output) ?? [];
  return `${stem} and the steps before it change the same lines of ${name}:

${conflict}

Make the change by hand in tests/steps/unpacked/${stem}/, too, then pack again.
If the program there is right as it is: pack ${stem}`;
}

function makeDiff(before: Program, after: Program): string {
  let diff = "";
  for (const name of Object.keys(after).sort()) {
    const oldName = name in before ? `a/${name}` : "/dev/null";
    const labels = ["--label", oldName, "--label", `b/${name}`];
    const files = { before: before[name] ?? "", after: after[name] ?? "" };
    const command = ["diff", "-u", ...labels, ...Object.keys(files)];
    const { code, output } = run(command, files);
    if (code > 1) throw new Error(`diff failed for ${name}: ${output}`);
    diff += output;
  }
  return diff;
}

/** Runs a command in a folder that holds these files. */
function run(
  [program, ...args]: string[],
  files: Record<string, string>,
): { code: number; output: string } {
  const path = Deno.makeTempDirSync();
  try {
    writeProgram(pathToFileURL(`${path}/`), files);
    const command = new Deno.Command(program!, { args, cwd: path });
    const { code, stdout } = command.outputSync();
    return { code, output: new TextDecoder().decode(stdout) };
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

// ---------------------------------------------------------------- command line

function main(): void {
  const [command, ...rest] = Deno.args;
  const hasAll = rest.length === 1 && rest[0] === "--all";
  try {
    if (command === "unpack" && (rest.length === 0 || hasAll)) {
      return unpack(hasAll);
    }
    if (command === "pack") return pack(rest);
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
  console.error(USAGE);
  Deno.exit(2);
}

if (import.meta.main) main();
