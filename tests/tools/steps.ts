/**
 * The steps of the course, for the tools beside this file.
 *
 * Step 0 is a whole program, `tests/steps/00_naive/`. Each `NN_topic.diff` beside
 * it makes the next program of the one before; the last is `server.ts`,
 * `client.ts`, `protocol.ts`. What goes beyond that is in `tests/exercises/`:
 * each of its diffs changes the last program. The text above a diff is the page
 * for who takes the step.
 *
 * @module
 */

/** The folder of the whole project. */
export const ROOT: URL = new URL("../../", import.meta.url);
/** The folder of the steps. */
export const STEPS: URL = new URL("tests/steps/", ROOT);
/** The program that the course begins with. */
export const NAIVE: URL = new URL("00_naive/", STEPS);
const LESSONS = new URL("tests/", ROOT);
const EXERCISES = new URL("tests/exercises/", ROOT);
/** The text of each file of a program. */
export type Program = Record<string, string>;

/** A step of the course, or an exercise beyond the program. */
export interface Step {
  number: number;
  /** Its number and topic, as `03_room`. */
  stem: string;
  isBeyond: boolean;
  /** The file with its diff. */
  file: URL;
  /** What the learner reads. */
  page: string;
  diff: string;
  /** The file with its tests, from {@linkcode ROOT} or from a copy. */
  tests: string;
  before: Program;
  after: Program;
}

/** The text of a file. Git may have put `\r\n` there, on Windows. */
export function readText(file: URL): string {
  return Deno.readTextFileSync(file).replaceAll("\r\n", "\n");
}

/** Whether there is such a file or folder. */
export function exists(path: URL): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The names in a folder that match, sorted. */
export function list(folder: URL, pattern: RegExp): string[] {
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name);
  return names.filter((name) => pattern.test(name)).sort();
}

/** The program in a folder: each `.ts` file there, not those below. */
export function readProgram(folder: URL): Program {
  const names = list(folder, /\.ts$/);
  return Object.fromEntries(
    names.map((name) => [name, readText(new URL(name, folder))]),
  );
}

/** Writes a program into a folder. */
export function writeProgram(folder: URL, program: Program): void {
  Deno.mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(program)) {
    Deno.writeTextFileSync(new URL(name, folder), text);
  }
}

/** Whether two programs have the same files with the same text. */
export function isSame(one: Program, other: Program): boolean {
  const names = Object.keys({ ...one, ...other });
  return names.every((name) => one[name] === other[name]);
}

/** The names of all lessons and exercises, as `03_room`: each has a diff. */
export function stems(): { lessons: string[]; exercises: string[] } {
  return {
    lessons: list(LESSONS, /^\d\d_\w+_test\.ts$/)
      .map((name) => name.replace("_test.ts", "")),
    exercises: list(EXERCISES, /^\d\d_\w+\.ts$/)
      .map((name) => name.replace(".ts", "")),
  };
}

/** The file with the page and the diff of a step or exercise. */
export function stepFile(stem: string): URL {
  const isLesson = stems().lessons.includes(stem);
  return new URL(`${stem}.diff`, isLesson ? STEPS : EXERCISES);
}

/** All steps, and then all exercises. */
export function readSteps(): Step[] {
  const steps: Step[] = [];
  let program = readProgram(NAIVE);
  for (const folder of [STEPS, EXERCISES]) {
    for (const name of list(folder, /^\d\d_\w+\.diff$/)) {
      const step = readStep(new URL(name, folder), name, program);
      steps.push(step);
      if (!step.isBeyond) program = step.after;
    }
  }
  return steps;
}

function readStep(file: URL, name: string, before: Program): Step {
  const stem = name.replace(".diff", "");
  const isBeyond = file.href.startsWith(EXERCISES.href);
  const tests = isBeyond
    ? `tests/exercises/${stem}.ts`
    : `tests/${stem}_test.ts`;
  const { page, diff } = splitPage(readText(file));
  const after = applyDiff(before, diff, stem);
  const number = parseInt(stem);
  return { number, stem, isBeyond, file, page, diff, tests, before, after };
}

/** Takes the page off a diff. */
export function splitPage(text: string): { page: string; diff: string } {
  const start = text.search(/^--- (a\/|\/dev\/null)/m);
  const end = start < 0 ? text.length : start;
  return { page: text.slice(0, end).trim(), diff: text.slice(end) };
}

/** The tests that a page says go green: each a line that begins with `- `. */
export function claimedTests(page: string): string[] {
  return [...page.matchAll(/^- (.+)$/gm)].map(([, name = ""]) => name);
}

// ------------------------------------------------------------------- diffs

/** Lines that follow each other, what comes in their place, and where. */
interface Hunk {
  file: string;
  at: number;
  old: string[];
  new: string[];
}

function parseDiff(diff: string): Hunk[] {
  const hunks: Hunk[] = [];
  let file = "";
  for (const line of diff.replace(/\n$/, "").split("\n")) {
    const name = /^\+\+\+ b\/(\S+)/.exec(line)?.[1];
    const start = /^@@ -(\d+)/.exec(line)?.[1];
    const hunk = hunks.at(-1);
    if (name) file = name;
    else if (start) hunks.push({ file, at: +start - 1, old: [], new: [] });
    else if (hunk && !/^--- (a\/|\/dev\/null)/.test(line)) {
      if (/^[ -]/.test(line)) hunk.old.push(line.slice(1));
      if (/^[ +]/.test(line)) hunk.new.push(line.slice(1));
    }
  }
  return hunks;
}

/**
 * Makes the next program of a program. Like `patch` it finds lines that have
 * moved; unlike `patch` it wants every line around a change to be there.
 */
export function applyDiff(
  program: Program,
  diff: string,
  stem: string,
): Program {
  const result = { ...program };
  let [moved, file] = [0, ""];
  for (const hunk of parseDiff(diff)) {
    if (hunk.file !== file) [moved, file] = [0, hunk.file];
    const lines = (result[file] ?? "").split("\n");
    const at = findLines(lines, hunk.old, Math.max(hunk.at, 0) + moved);
    if (at === undefined) {
      const where = `from line ${hunk.at + 1} on: ${hunk.old[0] ?? ""}`;
      throw new Error(`${stem} does not apply to ${file}, ${where}`);
    }
    lines.splice(at, hunk.old.length, ...hunk.new);
    result[file] = lines.join("\n");
    moved = at - hunk.at + hunk.new.length - hunk.old.length;
  }
  return result;
}

/** Where these lines are, as near as can be to where they should be. */
function findLines(
  all: string[],
  wanted: string[],
  near: number,
): number | undefined {
  for (let away = 0; away <= all.length; away++) {
    for (const at of [near - away, near + away]) {
      if (wanted.every((line, n) => all[at + n] === line)) return at;
    }
  }
  return undefined;
}
