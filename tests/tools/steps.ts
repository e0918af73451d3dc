/**
 * The course, for the tools beside this file.
 *
 * The course begins with a whole program, `tests/steps/00_naive/`. Each file
 * `NN.M_slug.diff` beside it is step M of lesson NN: a page for the learner, and
 * below it a diff that makes the next program of the one before. The last program
 * is `server.ts`, `client.ts` and `protocol.ts`.
 *
 * A file `NN.M_slug.wrongK.diff` is a mistake: a change that a learner might try
 * after step NN.M, and that breaks something.
 *
 * An exercise, `tests/exercises/NN_topic.diff`, goes beyond the course: its diff
 * changes the last program.
 *
 * @module
 */

/** The folder of the whole project. */
export const ROOT: URL = new URL("../../", import.meta.url);
/** The folder of the lessons: each is a file with tests, `NN_topic_test.ts`. */
export const LESSONS: URL = new URL("tests/", ROOT);
/** The folder of the steps. */
export const STEPS: URL = new URL("tests/steps/", ROOT);
/** The folder of the program that the course begins with. */
export const NAIVE: URL = new URL("00_naive/", STEPS);
/** The folder of the exercises. */
export const EXERCISES: URL = new URL("tests/exercises/", ROOT);

/** The name of a lesson's file. */
export const LESSON_FILE = /^\d\d_\w+_test\.ts$/;
/** The name of a step, without `.diff`. */
export const STEP_STEM = /^\d\d\.\d+_\w+$/;
/** The name of a mistake, without `.diff`. */
export const MISTAKE_STEM = /^(\d\d\.\d+_\w+)\.wrong\d+$/;
/** The name of an exercise, without `.diff`. */
export const EXERCISE_STEM = /^\d\d_\w+$/;

// ------------------------------------------------------------ files, programs

/** The text of each file of a program, by the name of the file. */
export type Program = Record<string, string>;

/** Reads a text file. Git may have put `\r\n` there, on Windows. */
export function readText(file: URL): string {
  return Deno.readTextFileSync(file).replaceAll("\r\n", "\n");
}

/** Returns whether there is such a file or folder. */
export function exists(path: URL): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Returns the names in a folder that match the pattern, sorted. */
export function list(folder: URL, pattern: RegExp): string[] {
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name);
  return names.filter((name) => pattern.test(name)).sort();
}

/** Reads the program in a folder: each `.ts` and `.html` file there, none below. */
export function readProgram(folder: URL): Program {
  const program: Program = {};
  for (const name of list(folder, /\.(ts|html)$/)) {
    program[name] = readText(new URL(name, folder));
  }
  return program;
}

/** Writes a program into a folder, which is made if necessary. */
export function writeProgram(folder: URL, program: Program): void {
  Deno.mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(program)) {
    Deno.writeTextFileSync(new URL(name, folder), text);
  }
}

/** Returns whether two programs have the same files with the same text. */
export function isSame(one: Program, other: Program): boolean {
  const names = Object.keys({ ...one, ...other });
  return names.every((name) => one[name] === other[name]);
}

// ----------------------------------------------------------------- the course

/** The course: all steps in their order, and the exercises that follow them. */
export class Course {
  readonly steps: Step[] = [];
  readonly exercises: Step[] = [];

  /** Reads all files. A diff is applied only when its program is needed. */
  constructor() {
    for (const stem of stemsIn(STEPS, STEP_STEM).sort(byNumber)) {
      this.steps.push(new Step(stem, STEPS, this.steps.at(-1)));
    }
    for (const stem of stemsIn(EXERCISES, EXERCISE_STEM)) {
      this.exercises.push(new Step(stem, EXERCISES, this.steps.at(-1)));
    }
    for (const stem of stemsIn(STEPS, MISTAKE_STEM)) {
      const step = this.steps.find((step) => step.stem === stepOfMistake(stem));
      step?.mistakes.push(new Change(stem, STEPS, step));
    }
  }

  /** The steps, and then the exercises. */
  get all(): Step[] {
    return [...this.steps, ...this.exercises];
  }

  /** The program after the last step. */
  get program(): Program {
    return this.steps.at(-1)?.after ?? readProgram(NAIVE);
  }

  /**
   * Finds steps by what a person types: `9.2` is one step, `9` is all steps of
   * lesson 9, and `19` is an exercise.
   */
  find(number: string): Step[] {
    const [lesson, part] = number.split(".");
    return this.all.filter((step) =>
      step.lesson === Number(lesson) &&
      (part === undefined || step.part === Number(part))
    );
  }

  /** The next step of the same lesson, if there is one. */
  following({ lesson, part }: Step): Step | undefined {
    return this.steps.find((it) => it.lesson === lesson && it.part > part);
  }

  /** The step itself, if it lists tests, or the next step of the lesson that does. */
  nextWithTests(step: Step): Step {
    const next = this.following(step);
    const isEnough = step.page.tests.length > 0 || next === undefined;
    return isEnough ? step : this.nextWithTests(next);
  }

  /** The tests of the same lesson that only a later step turns green. */
  testsOfLaterSteps({ lesson, part }: Step): string[] {
    return this.steps
      .filter((step) => step.lesson === lesson && step.part > part)
      .flatMap((step) => step.page.tests);
  }
}

/** A page and a diff in one file: a step, an exercise, or a mistake. */
export class Change {
  /** The name of the file without `.diff`: `09.2_log`. */
  readonly stem: string;
  readonly file: URL;
  /** The step whose program the diff changes; without one it is the first program. */
  readonly previous?: Step;
  readonly page: Page;
  readonly diff: string;
  #after?: Program;

  constructor(stem: string, folder: URL, previous?: Step) {
    this.stem = stem;
    this.file = new URL(`${stem}.diff`, folder);
    this.previous = previous;
    const text = readText(this.file);
    const start = text.search(/^--- (a\/|\/dev\/null)/m);
    const end = start < 0 ? text.length : start;
    this.page = parsePage(text.slice(0, end));
    this.diff = text.slice(end);
  }

  /** The program that the diff changes. */
  get before(): Program {
    return this.previous?.after ?? readProgram(NAIVE);
  }

  /** The program that results. Throws if the diff does not apply. */
  get after(): Program {
    this.#after ??= applyDiff(this.before, this.diff, this.stem);
    return this.#after;
  }
}

/** A step, or an exercise. */
export class Step extends Change {
  /** The number of the lesson or of the exercise. */
  readonly lesson: number;
  /** The number of the step within the lesson, from 1 on. An exercise has 0. */
  readonly part: number;
  /** Changes that a learner might try after this step, and that break something. */
  readonly mistakes: Change[] = [];

  constructor(stem: string, folder: URL, previous?: Step) {
    super(stem, folder, previous);
    this.lesson = lessonOf(stem);
    this.part = partOf(stem);
  }

  get isExercise(): boolean {
    return this.part === 0;
  }

  /** What one types to get there: `9.2`, or `19` for an exercise. */
  get number(): string {
    return this.isExercise ? `${this.lesson}` : `${this.lesson}.${this.part}`;
  }

  /** What it is called: `step 9.2` or `exercise 19`. */
  get name(): string {
    return `${this.isExercise ? "exercise" : "step"} ${this.number}`;
  }

  /** The file with its tests, seen from {@linkcode ROOT} or from a copy of it. */
  get tests(): string {
    if (this.isExercise) return `tests/exercises/${this.stem}.ts`;
    const file = list(LESSONS, LESSON_FILE)
      .find((name) => parseInt(name) === this.lesson);
    if (file === undefined) {
      throw new Error(`tests/ has no lesson for ${this.name}.`);
    }
    return `tests/${file}`;
  }

  /** The files with the tests of all earlier lessons and of this one. */
  get allTests(): string[] {
    const earlier = this.previous?.allTests ?? [];
    return [...new Set([...earlier, this.tests])];
  }
}

/** Returns the names of the `.diff` files in a folder, without `.diff`. */
function stemsIn(folder: URL, pattern: RegExp): string[] {
  return list(folder, /\.diff$/)
    .map((name) => name.replace(/\.diff$/, ""))
    .filter((stem) => pattern.test(stem));
}

/** The number in `09.2_log` before the dot. */
function lessonOf(stem: string): number {
  return parseInt(stem);
}

/** The number in `09.2_log` after the dot; 0 if there is none. */
function partOf(stem: string): number {
  return Number(/^\d+\.(\d+)/.exec(stem)?.[1] ?? 0);
}

/** Compares the names of two steps: step 10 of a lesson follows step 9. */
export function byNumber(one: string, other: string): number {
  return lessonOf(one) - lessonOf(other) || partOf(one) - partOf(other);
}

/** The name of the step that a mistake belongs to. */
export function stepOfMistake(stem: string): string {
  return MISTAKE_STEM.exec(stem)?.[1] ?? "";
}

// ---------------------------------------------------------------------- pages

/** The page above a diff. */
export interface Page {
  /** All of it. */
  text: string;
  /** The heading without `#`: `Step 9.2: one log for all`. */
  title: string;
  /** What the learner reads first: without the heading, the hints and the list. */
  body: string;
  /** From where to look to the lines that matter. */
  hints: string[];
  /** The titles of the tests that the page lists. */
  tests: string[];
  /** The sentence that the step changes no test, if the page has it. */
  noTests?: string;
}

/** The lines that begin the last parts of a page. */
const PART =
  /^(Hints:|These tests turn green:|These tests turn red:|No test changes: .+)$/m;

/** Takes a page apart. */
export function parsePage(text: string): Page {
  // The odd pieces are the lines that begin a part, each followed by its part.
  const [head = "", ...pieces] = text.trim().split(PART);
  const page: Page = {
    text: text.trim(),
    title: /^# (.+)/.exec(head)?.[1] ?? "",
    body: head.replace(/^# .+\n/, "").trim(),
    hints: [],
    tests: [],
  };
  for (let n = 0; n < pieces.length; n += 2) {
    const start = pieces[n]!;
    const part = pieces[n + 1]!;
    if (start === "Hints:") page.hints = parseHints(part);
    else if (start.startsWith("No test")) page.noTests = start;
    else page.tests = parseList(part);
  }
  return page;
}

function parseHints(text: string): string[] {
  const [_beforeFirst, ...hints] = text.split(/^\d+\. +/m);
  return hints.map((hint) => hint.trim());
}

function parseList(text: string): string[] {
  const items = text.matchAll(/^- (.+)$/gm);
  return [...items].map((item) => item[1]!.trim());
}

// ---------------------------------------------------------------------- diffs

/** Lines that follow each other, the lines that take their place, and where. */
interface Hunk {
  file: string;
  /** The index of the first of the old lines. */
  start: number;
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
    if (name !== undefined) {
      file = name;
    } else if (start !== undefined) {
      hunks.push({ file, start: Number(start) - 1, old: [], new: [] });
    } else if (hunk && !/^--- (a\/|\/dev\/null)/.test(line)) {
      if (/^[ -]/.test(line)) hunk.old.push(line.slice(1));
      if (/^[ +]/.test(line)) hunk.new.push(line.slice(1));
    }
  }
  return hunks;
}

/**
 * Makes the next program of a program. Like `patch`, it finds lines that have
 * moved. Unlike `patch`, it needs every line around a change to be there.
 *
 * @param stem the name of the diff, for the error message.
 * @throws if the diff does not apply.
 */
export function applyDiff(
  program: Program,
  diff: string,
  stem: string,
): Program {
  const result = { ...program };
  let file = "";
  let offset = 0; // how far the hunks before have moved the lines of this file
  for (const hunk of parseDiff(diff)) {
    if (hunk.file !== file) {
      file = hunk.file;
      offset = 0;
    }
    const lines = (result[file] ?? "").split("\n");
    const index = findLines(lines, hunk.old, Math.max(hunk.start, 0) + offset);
    if (index === undefined) {
      const where = `from line ${hunk.start + 1} on: ${hunk.old[0] ?? ""}`;
      throw new Error(`${stem}.diff does not apply to ${file}, ${where}`);
    }
    lines.splice(index, hunk.old.length, ...hunk.new);
    result[file] = lines.join("\n");
    offset = index - hunk.start + hunk.new.length - hunk.old.length;
  }
  return result;
}

/** Finds lines in a file, as near as possible to where they should be. */
function findLines(
  all: string[],
  wanted: string[],
  near: number,
): number | undefined {
  for (let distance = 0; distance <= all.length; distance++) {
    for (const index of [near - distance, near + distance]) {
      if (wanted.every((line, n) => all[index + n] === line)) return index;
    }
  }
  return undefined;
}

/** The size of a diff, in lines that are code. */
export interface Size {
  added: number;
  removed: number;
}

/** Counts the lines that a diff changes. Empty lines and comments do not count. */
export function sizeOf(diff: string): Size {
  const size = { added: 0, removed: 0 };
  for (const line of diff.split("\n")) {
    const isCode = /^[+-](?!-- |\+\+ )/.test(line) &&
      !/^.\s*($|\/\/|\/\*|\*\/|\*( |$))/.test(line);
    if (isCode && line.startsWith("+")) size.added++;
    if (isCode && line.startsWith("-")) size.removed++;
  }
  return size;
}

/** Formats a size: `46 changed lines (+34 -12)`. */
export function formatSize({ added, removed }: Size): string {
  return `${added + removed} changed lines (+${added} -${removed})`;
}
