/**
 * Proves that the course is what it says, in some minutes:
 *
 *     deno task prove                everything
 *     deno task prove 9.2            one step with its mistakes
 *     deno task prove 9              all steps of lesson 9
 *     deno task prove --exercises    all exercises (`prove 19`: one exercise)
 *
 * - The sum of all steps is exactly the program.
 * - Each program of the course is clean (format, lint, types), and starts.
 * - Exactly the tests that the page of a step lists are red before the step. Each says
 *   what somebody would see, and none only waits in vain. After the step they are
 *   green, and so are all tests of the earlier lessons. A step that only prepares the
 *   next one changes no test.
 * - Each test of a lesson is listed by one step, or green from the start.
 * - Each mistake has the right types, and turns the tests red that it lists.
 * - Pages are short and complete, the names in them exist, and changes are small.
 * - The tests of an exercise are red before its solution. After it, they are green,
 *   and so are all lessons.
 * - `deno task learn` leads from one step to the next, and loses nothing.
 *
 * A busy machine can make a test fail. So a claim about tests that does not hold is
 * checked once more, when nothing else runs, before it counts as failed.
 *
 * What proves nothing new is not done again:
 *
 * - The program after a step is the program before the next one. Its tests run once,
 *   for both claims.
 * - A test that only a later step lists does not run: it may be red or green.
 * - A lesson that does not name the client runs without it. So it runs once for all
 *   steps in a row that change only the client.
 * - Format, lint and types are checked for all programs of a lesson at once. Only if
 *   something is wrong, each step is checked alone, to say which.
 *
 * The proof looks at the files of the project, and never at `lab/`.
 */

import { cpSync } from "node:fs";
import { pathToFileURL } from "node:url";
import {
  type Change,
  Course,
  EXERCISES,
  exists,
  formatSize,
  isSame,
  LESSON_FILE,
  LESSONS,
  list,
  type Page,
  type Program,
  readProgram,
  readText,
  ROOT,
  sizeOf,
  type Step,
  stepOfMistake,
  STEPS,
  writeProgram,
} from "./steps.ts";
import {
  copyTests,
  onlyTitles,
  type Result,
  runDeno,
  runTests,
} from "./trial.ts";

/** So many claims are checked at a time. */
const JOBS = 3;
/** So many claims about terminals are checked besides. They wait most of the time. */
const TERMINAL_JOBS = 3;
/** A server that has not said by then that it listens does not start. */
const START_TIMEOUT_MS = 20_000;
/** A failed test may show the screen of a terminal, and say a few words. */
const MAX_MESSAGE_LINES = 30;
/** The length of a page with its heading, but without hints and list. */
const MAX_PAGE_LINES = 40;
/** A longer line of a page counts as several. */
const PAGE_COLUMNS = 80;
/** The size of an official change, without comments and empty lines. */
const MAX_CHANGED_LINES = 80;
/** What `tests/steps/` holds besides steps and mistakes. */
const OTHER_FILES = ["00_naive", "README.md", "unpacked"];

const USAGE = "Usage: deno task prove [STEP... | --exercises]";

/** Something that is to be proven. */
interface Claim {
  name: string;
  /** What it depends on. A busy machine can make tests fail. */
  dependsOn: "files" | "tests" | "terminal";
  /** Throws if the claim does not hold. Returns lines that are worth knowing. */
  check(): string[] | Promise<string[]>;
}

/** A claim cannot be checked on this machine, since a program is missing. */
class NotPossible extends Error {
  override message = "cannot run here";
}

function assert(isTrue: boolean, complaint: string): asserts isTrue {
  if (!isTrue) throw new Error(complaint);
}

/** Complains about items, if there are any. */
function assertNone(items: string[], complaint: string): void {
  assert(items.length === 0, `${complaint}:\n- ${items.join("\n- ")}`);
}

function duplicates(items: string[]): string[] {
  return items.filter((item, n) => items.indexOf(item) < n);
}

// ---------------------------------------------------- claims about the course

class Proof {
  readonly course = new Course();
  /** The tests that could not run here. Their titles say why. */
  readonly notRun = new Set<string>();
  /** What has run already: the results of tests, by program, files and titles. */
  readonly #runs = new Map<string, Promise<Result>>();
  /** Whether the programs of a lesson are clean, by the number of the lesson. */
  readonly #cleanLessons = new Map<number, Promise<boolean>>();
  /** Holds `deno.json` and `vendor/` for the folders below it, and Deno's cache. */
  readonly #work: URL;
  readonly #env: Record<string, string>;

  constructor(work: string) {
    this.#work = pathToFileURL(`${work}/`);
    this.#env = { DENO_DIR: `${work}/cache` };
    for (const name of ["deno.json", "vendor/"]) {
      const copy = new URL(name, this.#work);
      cpSync(new URL(name, ROOT), copy, { recursive: true });
    }
  }

  /** All claims. */
  claims(): Claim[] {
    const first = this.course.all[0]!;
    return [
      {
        name: "the files fit together",
        dependsOn: "files",
        check: () => this.#checkFiles(),
      },
      {
        name: "the sum of the steps is the program",
        dependsOn: "files",
        check: () => this.#checkSum(),
      },
      {
        name: "names in the comments of the tests exist",
        dependsOn: "files",
        check: () => this.#checkTestNames(),
      },
      {
        name: "learn leads on, and keeps a program of one's own",
        dependsOn: "tests",
        check: () => this.#checkLearn(),
      },
      {
        name: "00_naive: clean, and starts",
        dependsOn: "files",
        check: () => this.#checkProgram(first, first.before),
      },
      ...this.course.all.flatMap((step) => this.claimsOf(step)),
    ];
  }

  /** The claims about one step or exercise. */
  claimsOf(step: Step): Claim[] {
    const { number, mistakes } = step;
    const isPreparing = step.page.noTests !== undefined;
    const dependsOn = usesTerminal(step.tests) ? "terminal" : "tests";
    return [
      {
        name: `${number}: page and size`,
        dependsOn: "files",
        check: () => this.#checkPage(step),
      },
      {
        name: `${number}: clean, and starts`,
        dependsOn: "files",
        check: () => this.#checkProgram(step, step.after),
      },
      isPreparing
        ? {
          name: `${number}: changes no test`,
          dependsOn,
          check: () => this.#checkNoChange(step),
        }
        : {
          name: `${number}: red before`,
          dependsOn,
          check: () => this.#checkRed(step),
        },
      {
        name: `${number}: green after, with all earlier lessons`,
        dependsOn,
        check: () => this.#checkGreen(step),
      },
      ...mistakes.map((mistake): Claim => ({
        name: `${number}: ${mistake.stem} is red`,
        dependsOn,
        check: () => this.#checkMistake(step, mistake),
      })),
    ];
  }

  /** Forgets what has run. So a claim that is checked once more runs its tests again. */
  forgetRuns(): void {
    this.#runs.clear();
  }

  // ------------------------------------------------------------------- files

  #checkFiles(): string[] {
    const { steps, exercises, all } = this.course;
    const steplessLessons = list(LESSONS, LESSON_FILE)
      .filter((name) => !steps.some(({ tests }) => tests === `tests/${name}`));
    assertNone(steplessLessons, "lessons without a step");

    const solved = exercises.map(({ tests }) => tests);
    const unsolved = list(EXERCISES, /^\d\d_\w+\.ts$/)
      .filter((name) => !solved.includes(`tests/exercises/${name}`));
    assertNone(unsolved, "exercises without a solution");
    const testless = exercises
      .filter(({ tests }) => !exists(new URL(tests, ROOT)))
      .map(({ stem }) => stem);
    assertNone(testless, "solutions without an exercise");

    const stems = steps.map(({ stem }) => stem);
    const strangers = list(STEPS, /./).filter((name) => {
      const stem = name.replace(/\.diff$/, "");
      const isStep = stems.includes(stem);
      const isMistake = stems.includes(stepOfMistake(stem));
      return !isStep && !isMistake && !OTHER_FILES.includes(name);
    });
    assertNone(strangers, "neither a step nor a mistake of a step");

    const titles = steps.flatMap(({ page }) => page.tests);
    assertNone(duplicates(titles), "tests that two steps list");
    const numbers = all.map(({ number }) => number);
    assertNone(duplicates(numbers), "numbers that two steps have");
    return [];
  }

  #checkSum(): string[] {
    const sum = this.course.program;
    for (const [name, text] of Object.entries(sum)) {
      const lines = readText(new URL(name, ROOT)).split("\n");
      const line = text.split("\n").findIndex((it, n) => it !== lines[n]) + 1;
      assert(line === 0, `${name} differs from the program at line ${line}`);
    }
    const isWhole = isSame(sum, readProgram(ROOT));
    assert(isWhole, "The program has more lines or files than the sum.");
    return [];
  }

  // ------------------------------------------------------------------- pages

  #checkPage(step: Step): string[] {
    const { page, diff, isExercise } = step;
    checkNames(page.text, [...Object.values(step.after), diff]);
    const size = sizeOf(diff);
    if (isExercise) return [formatSize(size)];

    checkParts(step);
    const lines = pageLines(page);
    assert(
      lines <= MAX_PAGE_LINES,
      `The page has ${lines} lines of ${PAGE_COLUMNS} columns, at most ` +
        `${MAX_PAGE_LINES} are allowed.`,
    );
    const isSmall = size.added + size.removed <= MAX_CHANGED_LINES;
    assert(
      isSmall,
      `${formatSize(size)}, at most ${MAX_CHANGED_LINES} are allowed.`,
    );
    step.mistakes.forEach(checkMistakePage);
    return [`${formatSize(size)}, a page of ${lines} lines`];
  }

  /** Private names in the comments of lessons, exercises and their helpers. */
  #checkTestNames(): string[] {
    const names = Object.values(this.course.program);
    const lessons = readProgram(LESSONS);
    const all = [...names, ...Object.values(lessons)];
    for (const [file, text] of Object.entries(lessons)) {
      checkPrivateNames(`tests/${file}`, text, all);
    }
    for (const { tests, after, diff } of this.course.exercises) {
      const text = readText(new URL(tests, ROOT));
      checkPrivateNames(tests, text, [...Object.values(after), diff, text]);
    }
    return [];
  }

  // ------------------------------------------------------------------- tests

  /** Exactly the listed tests must be red before the step. */
  async #checkRed(step: Step): Promise<string[]> {
    const result = await this.#runBefore(step);
    const { failed, ignored } = result;
    // The page of an exercise lists no tests: all of its file may be red.
    const listed = step.isExercise ? [...failed.keys()] : step.page.tests;
    const possible = listed.filter((title) => !isIgnored(title, ignored));
    if (possible.length === 0 && ignored.length > 0) throw new NotPossible();
    assert(possible.length > 0, "nothing is red");
    const green = possible.filter((title) => !failed.has(title));
    assertNone(green, "listed, but not red");
    this.#checkUnlisted(step, result, listed);
    for (const title of possible) checkMessage(title, failed.get(title)!);
    return this.#greenFromTheStart(step, result);
  }

  /** A step that only prepares the next one must not change a test. */
  async #checkNoChange(step: Step): Promise<string[]> {
    const before = await this.#runBefore(step);
    const after = await this.#runAfter(step);
    this.#checkUnlisted(step, before);
    const { failed: redBefore } = before;
    const { failed: redAfter } = after;
    const nowGreen = [...redBefore.keys()].filter((it) => !redAfter.has(it));
    const nowRed = [...redAfter.keys()].filter((it) => !redBefore.has(it));
    assertNone(nowGreen, "the step turns green");
    assertNone(nowRed, "the step turns red");
    return this.#greenFromTheStart(step, before);
  }

  /** Only listed tests may be red, and those that a later step lists. */
  #checkUnlisted(step: Step, { failed }: Result, listed: string[] = []): void {
    const allowed = [...listed, ...this.course.testsOfLaterSteps(step)];
    const unlisted = [...failed.keys()].filter((it) => !allowed.includes(it));
    assertNone(unlisted, "red, but not listed");
  }

  /** The tests of a lesson that no step needs to turn green. */
  #greenFromTheStart(step: Step, { passed }: Result): string[] {
    const isFirst = this.course.find(`${step.lesson}`)[0] === step;
    if (!isFirst) return [];
    return passed.map((title) => `green from the start: ${title}`);
  }

  async #checkGreen(step: Step): Promise<string[]> {
    const laterTests = this.course.testsOfLaterSteps(step);
    const own = await this.#runAfter(step);
    const earlier = await this.#runEarlierLessons(step);
    const results = [own, ...earlier];
    const ignored = results.flatMap((result) => result.ignored);
    for (const title of ignored) this.notRun.add(title);
    const red = results
      .flatMap((result) => [...result.failed])
      .filter(([title]) => !laterTests.includes(title))
      .map(([title, message]) => `${title}: ${message}`);
    assertNone(red, "red");
    const passed = results.flatMap((result) => result.passed);
    assertNone(duplicates(passed), "titles that two tests have");
    return [];
  }

  async #checkMistake(step: Step, mistake: Change): Promise<string[]> {
    const { after: program, page: { tests } } = mistake;
    const files = await this.#filesWith(tests, step.allTests);
    const result = await this.#run(program, files, tests);
    const { failed, ignored, trouble } = result;
    const possible = tests.filter((title) => !isIgnored(title, ignored));
    if (possible.length === 0) throw new NotPossible();
    const green = possible.filter((title) => !failed.has(title));
    assertNone(green, `listed, but not red${trouble ? ` (${trouble})` : ""}`);
    return [];
  }

  // ----------------------------------------------------------- runs of tests

  /**
   * Runs the tests of a step's lesson on the program before the step. A step that only
   * prepares the next one lists no tests. Then those of the next one have to stay red.
   */
  #runBefore(step: Step): Promise<Result> {
    return this.#runOwnTests(step.before, this.course.nextWithTests(step));
  }

  /** Runs them after the step. In the same lesson that is before the next step. */
  #runAfter(step: Step): Promise<Result> {
    const next = this.course.following(step);
    if (next) return this.#runBefore(next);
    return this.#runOwnTests(step.after, step);
  }

  /** Runs the tests of a step's lesson, but not those that only later steps list. */
  async #runOwnTests(program: Program, step: Step): Promise<Result> {
    const later = this.course.testsOfLaterSteps(step);
    const all = await this.#titlesIn(step.tests);
    const titles = all.filter((title) => !later.includes(title));
    const result = await this.#runLessons(program, [step.tests], titles);
    const ignored = result.ignored.filter((title) => titles.includes(title));
    return { ...result, ignored };
  }

  /** Runs all lessons before that of a step. Some of them do not need the client. */
  async #runEarlierLessons(step: Step): Promise<Result[]> {
    const server = { ...step.after };
    delete server["client.ts"];
    const earlier = step.allTests.filter((file) => file !== step.tests);
    const ofServer = earlier.filter((file) => !usesClient(file));
    const ofClient = earlier.filter((file) => usesClient(file));
    return [
      await this.#runLessons(server, ofServer),
      await this.#runLessons(step.after, ofClient),
    ];
  }

  /** Runs whole lessons, or those tests of them that have these titles. */
  async #runLessons(
    program: Program,
    files: string[],
    titles?: string[],
  ): Promise<Result> {
    const result = await this.#run(program, files, titles);
    const { trouble } = result;
    assert(trouble === undefined, trouble ?? "");
    return result;
  }

  /** Finds the files with these tests. */
  async #filesWith(titles: string[], files: string[]): Promise<string[]> {
    const found: string[] = [];
    for (const file of files) {
      const all = await this.#titlesIn(file);
      const isHere = titles.some((it) =>
        all.includes(it) || isIgnored(it, all)
      );
      if (isHere) found.push(file);
    }
    return found;
  }

  /** Returns the titles of all tests in a file. None of them runs. */
  async #titlesIn(file: string): Promise<string[]> {
    const { ignored } = await this.#runLessons(readProgram(ROOT), [file], []);
    return ignored;
  }

  /** Runs tests on a program, unless they have run on the same program already. */
  #run(
    program: Program,
    files: string[],
    titles?: string[],
  ): Promise<Result> {
    const key = JSON.stringify([program, files, titles]);
    const run = this.#runs.get(key) ?? this.#runAnew(program, files, titles);
    this.#runs.set(key, run);
    return run;
  }

  /** Runs tests on a program, in a folder of its own. `#checkClean` checks their types. */
  async #runAnew(
    program: Program,
    files: string[],
    titles?: string[],
  ): Promise<Result> {
    if (files.length === 0) {
      return { passed: [], failed: new Map(), ignored: [] };
    }
    const flags = ["--no-check", "--parallel"];
    if (titles) flags.push(onlyTitles(titles));
    return await this.#inFolder((folder) => {
      writeProgram(folder, program);
      copyTests(folder);
      return runTests(folder, files, flags, this.#env);
    });
  }

  // ---------------------------------------------------------------- programs

  /** Format, lint and types of a step, and the start of the program before or after it. */
  async #checkProgram(step: Step, program: Program): Promise<string[]> {
    const isLessonClean = await this.#isLessonClean(step);
    if (!isLessonClean) await this.#checkClean([step]);
    return await this.#inFolder(async (folder) => {
      writeProgram(folder, program);
      await this.#checkStart(folder);
      return [];
    });
  }

  /** Returns whether all programs of a step's lesson are clean. */
  #isLessonClean({ lesson }: Step): Promise<boolean> {
    const steps = this.course.find(`${lesson}`);
    const isClean = this.#cleanLessons.get(lesson) ??
      this.#checkClean(steps).then(() => true, () => false);
    this.#cleanLessons.set(lesson, isClean);
    return isClean;
  }

  /**
   * Complains unless the programs before and after these steps of one lesson are clean.
   * The tests of the lesson and mistakes of the steps need only have the right types.
   */
  async #checkClean(steps: Step[]): Promise<void> {
    const programs = new Map<string, Program>();
    for (const step of steps) {
      programs.set(step.previous?.stem ?? "00_naive", step.before);
      programs.set(step.stem, step.after);
    }
    await this.#inFolder(async (folder) => {
      const files: string[] = [];
      const others: string[] = [];
      for (const [name, program] of programs) {
        const place = new URL(`${name}/`, folder);
        writeProgram(place, program);
        copyTests(place);
        files.push(...pathsIn(name, Object.keys(program)));
        others.push(...pathsIn(name, steps[0]!.allTests));
      }
      for (const { stem, after } of steps.flatMap((step) => step.mistakes)) {
        writeProgram(new URL(`${stem}/`, folder), after);
        others.push(...pathsIn(stem, Object.keys(after)));
      }
      await this.#succeed(folder, ["fmt", "--check", ...files]);
      await this.#succeed(folder, ["lint", ...files]);
      const modules = [...files, ...others].filter((it) => it.endsWith(".ts"));
      await this.#succeed(folder, ["check", "--quiet", ...modules]);
    });
  }

  /** Runs Deno. Complains with its output if it fails. */
  async #succeed(folder: URL, args: string[]): Promise<void> {
    const { success, output } = await this.#deno(folder, args);
    assert(success, output);
  }

  async #checkStart(folder: URL): Promise<void> {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-net", "server.ts", "0"],
      cwd: folder,
      env: this.#env,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const timer = setTimeout(() => child.kill("SIGKILL"), START_TIMEOUT_MS);
    const output = child.stdout.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const chunk of output) {
      text += chunk;
      if (text.includes("Listening on")) break;
    }
    clearTimeout(timer);
    const hasStarted = text.includes("Listening on");
    if (hasStarted) child.kill("SIGKILL");
    await child.status;
    assert(hasStarted, `server.ts does not start: ${text}`);
  }

  // ------------------------------------------------------------------- learn

  #checkLearn(): Promise<string[]> {
    return this.#inFolder(async (folder) => {
      for (const name of ["tests/", "vendor/", "deno.json"]) {
        const copy = new URL(name, folder);
        cpSync(new URL(name, ROOT), copy, { recursive: true });
      }
      await this.#walk(folder);
      return [];
    });
  }

  /** Walks in a copy of the project: not done, a hint, taken, done, and back. */
  async #walk(project: URL): Promise<void> {
    const [first, second] = this.course.all;
    const preparing = this.course.steps
      .find(({ page }) => page.noTests !== undefined);
    const learn = async (command: string, isOk: boolean, says: string) => {
      const args = ["run", "-A", "tests/tools/learn.ts", command];
      const run = await this.#deno(project, args.filter((it) => it !== ""));
      const isRight = run.success === isOk && run.output.includes(says);
      assert(isRight, `learn ${command} should say ${says}\n${run.output}`);
    };
    await learn("", true, first!.page.title);
    await learn("hint", true, "Hint 1 of");
    await learn("next", false, "not done yet");
    await learn("show", true, "+++ b/");
    await learn("take", true, `after ${first!.name}`);
    await learn("next", true, second!.page.title);

    const own = "// a program of one's own\n";
    Deno.writeTextFileSync(new URL("lab/server.ts", project), own);
    await learn(first!.number, true, "kept.1");
    const kept = readText(new URL("lab/kept.1/server.ts", project));
    assert(kept === own, "learn does not keep a program of one's own");
    await learn("999", false, "no step 999");

    if (preparing === undefined) return;
    await learn(preparing.number, true, preparing.page.title);
    await learn("next", true, `Step ${preparing.number} is done`);
  }

  // ----------------------------------------------------------------- folders

  #deno(folder: URL, args: string[]) {
    return runDeno(folder, args, this.#env);
  }

  /** Makes a folder, uses it, and removes it. */
  async #inFolder<T>(use: (folder: URL) => Promise<T>): Promise<T> {
    const folder = new URL(`${crypto.randomUUID()}/`, this.#work);
    Deno.mkdirSync(folder);
    try {
      return await use(folder);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  }
}

function pathsIn(folder: string, files: string[]): string[] {
  return files.map((file) => `${folder}/${file}`);
}

/** Returns whether a file with tests needs the client. */
function usesClient(tests: string): boolean {
  return /client\.ts|terminal\.ts/.test(readText(new URL(tests, ROOT)));
}

/** Returns whether a file with tests needs a terminal. */
function usesTerminal(tests: string): boolean {
  return /terminal\.ts/.test(readText(new URL(tests, ROOT)));
}

/** A test that cannot run on this machine is ignored, and its title says why. */
function isIgnored(title: string, ignored: string[]): boolean {
  return ignored.some((it) => it.startsWith(`${title} (`));
}

// ------------------------------------------------------- rules for one message

/** A failed test must say in a few lines what somebody sees. */
function checkMessage(title: string, message: string): void {
  const isAssertion = message.includes("AssertionError");
  assert(isAssertion, `${title}: this is no AssertionError: ${message}`);
  const isInVain = message.includes("in vain");
  assert(!isInVain, `${title}: somebody only waits: ${message}`);
  const lines = message.split("\n").length;
  const isShort = lines <= MAX_MESSAGE_LINES;
  assert(isShort, `${title}: ${lines} lines are too many:\n${message}`);
}

// --------------------------------------------------------- rules for one page

/** The parts of a page must be there, in their order. */
function checkParts({ page, number }: Step): void {
  const isPreparing = page.noTests !== undefined;
  const isTitled = page.title.startsWith(`Step ${number}: `);
  assert(isTitled, `The page must begin with "# Step ${number}: ...".`);
  const change = page.body.indexOf("**Change.**");
  assert(change >= 0, "The page has no **Change.**");
  if (!isPreparing) {
    const problem = page.body.indexOf("**What goes wrong.**");
    const demo = page.body.indexOf("**See it.**");
    const isInOrder = 0 <= problem && problem < demo && demo < change;
    assert(isInOrder, "Needs **What goes wrong.**, **See it.**, **Change.**");
  }
  assert(page.hints.length > 0, "The page has no hints.");
  const hasTests = page.tests.length > 0;
  assert(
    hasTests !== isPreparing,
    'The page needs either a list of tests or "No test changes: ...".',
  );
}

function checkMistakePage({ stem, page, after, diff }: Change): void {
  checkNames(page.text, [...Object.values(after), diff]);
  assert(page.body !== "", `${stem} does not say what is wrong.`);
  assert(page.tests.length > 0, `${stem} lists no test that turns red.`);
}

/** The length of a page in lines, if long lines are wrapped. */
function pageLines({ title, body }: Page): number {
  const lines = [title, "", ...body.split("\n")];
  const rows = lines.map((line) =>
    Math.max(1, Math.ceil(line.length / PAGE_COLUMNS))
  );
  return rows.reduce((sum, count) => sum + count, 0);
}

/** The lines of a program, or of a diff, that are comments. */
const COMMENTS = /^[+-]?\s*(\/\/|\/\*|\*\/|\*( |$)).*$/gm;

/** Finds `#name` and `name()` in what a text has in backticks. */
export function namesIn(text: string): string[] {
  const names: string[] = [];
  for (const [code] of text.matchAll(/`[^`\n]+`/g)) {
    for (const [name] of code.matchAll(/#[a-z_]\w*/gi)) names.push(name);
    for (const [call] of code.matchAll(/(?<!#)\b[a-z_]\w*\(\)/gi)) {
      names.push(call);
    }
  }
  return [...new Set(names)];
}

/** Returns whether the code of a program, or of a diff, has a name. */
function hasName(sources: string[], name: string): boolean {
  const pattern = new RegExp(`(?<!\\w)${name.replace("()", "")}\\b`);
  return sources.some((source) => pattern.test(source.replace(COMMENTS, "")));
}

function checkNames(text: string, sources: string[]): void {
  const unknown = namesIn(text).filter((name) => !hasName(sources, name));
  assertNone(unknown, "names that neither the program nor the diff has");
}

function checkPrivateNames(
  file: string,
  text: string,
  sources: string[],
): void {
  const comments = text.match(COMMENTS) ?? [];
  const unknown = namesIn(comments.join("\n"))
    .filter((name) => name.startsWith("#") && !hasName(sources, name));
  assertNone(unknown, `${file} has names that do not exist`);
}

// ------------------------------------------------------------------- checking

type Verdict = "✓" | "✗" | "?";

/** Checks a claim, and says how it went. */
async function check(claim: Claim, label = claim.name): Promise<Verdict> {
  const start = performance.now();
  let verdict: Verdict = "✓";
  let notes: string[];
  try {
    notes = await claim.check();
  } catch (error) {
    verdict = error instanceof NotPossible ? "?" : "✗";
    notes = [(error as Error).message];
  }
  const seconds = ((performance.now() - start) / 1_000).toFixed(1);
  console.log(`${verdict} ${label} (${seconds} s)`);
  for (const note of notes) console.log(note.replace(/^/gm, "    "));
  return verdict;
}

/** Checks all claims, several at a time, and returns how many hold and do not. */
async function checkAll(proof: Proof, claims: Claim[]) {
  const count = { "✓": 0, "✗": 0, "?": 0 };
  const retries: Claim[] = [];
  const isOfTerminal = ({ dependsOn }: Claim) => dependsOn === "terminal";
  const terminal = claims.filter(isOfTerminal);
  const others = claims.filter((claim) => !isOfTerminal(claim));
  const work = async (next: () => Claim | undefined) => {
    for (let claim = next(); claim; claim = next()) {
      const verdict = await check(claim);
      if (verdict === "✗" && claim.dependsOn !== "files") {
        retries.push(claim);
        console.log("    This claim is checked once more at the end.");
      } else {
        count[verdict]++;
      }
    }
  };
  const workers: Promise<void>[] = [];
  for (let n = 0; n < TERMINAL_JOBS; n++) {
    workers.push(work(() => terminal.shift()));
  }
  for (let n = 0; n < JOBS; n++) {
    workers.push(work(() => others.shift() ?? terminal.shift()));
  }
  await Promise.all(workers);
  proof.forgetRuns();
  for (const claim of retries) {
    const verdict = await check(claim, `once more, by itself: ${claim.name}`);
    count[verdict]++;
  }
  return count;
}

/** Finds the steps that the arguments name. Returns none if one is unknown. */
function select({ course }: Proof, args: string[]): Step[] {
  const steps = args.map((arg) =>
    arg === "--exercises" ? course.exercises : course.find(arg)
  );
  return steps.every((found) => found.length > 0) ? steps.flat() : [];
}

async function main(): Promise<void> {
  const work = Deno.makeTempDirSync({ prefix: "prove-" });
  try {
    const proof = new Proof(work);
    const steps = select(proof, Deno.args);
    const claims = Deno.args.length === 0
      ? proof.claims()
      : steps.flatMap((step) => proof.claimsOf(step));
    if (claims.length === 0) {
      console.error(`There is no such step. ${USAGE}`);
      Deno.exitCode = 2;
      return;
    }
    const count = await checkAll(proof, claims);
    for (const title of proof.notRun) console.log(`Not run here: ${title}`);
    console.log(`${count["✓"]} passed, ${count["✗"]} failed`);
    Deno.exitCode = count["✗"] > 0 ? 1 : 0;
  } catch (error) {
    console.log(`${(error as Error).message}\n0 passed, 1 failed`);
    Deno.exitCode = 1;
  } finally {
    Deno.removeSync(work, { recursive: true });
  }
}

if (import.meta.main) await main();
