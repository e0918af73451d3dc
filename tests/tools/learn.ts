/**
 * Leads through the course, one step after the other, in a folder of your own:
 *
 *     deno task learn         shows what to do; begins the course if there is no lab/
 *     deno task learn next    checks the step, and goes on to the next one
 *     deno task learn hint    shows the next hint
 *     deno task learn show    shows our change (`show 9.2`: of step 9.2)
 *     deno task learn take    makes our change
 *     deno task learn 9.2     begins at step 9.2 with our program of the step before
 *     deno task learn 9       begins at the first step of lesson 9
 *     deno task learn 19      begins exercise 19
 *
 * Nothing outside `lab/` changes. If a program of yours is replaced there, a copy
 * of it is kept in `lab/kept.1/`, `lab/kept.2/` and so on.
 */

import {
  Course,
  exists,
  isSame,
  type Program,
  readProgram,
  readText,
  ROOT,
  type Step,
  writeProgram,
} from "./steps.ts";
import {
  onlyTitles,
  type Result,
  runDeno,
  runTests,
  setUpLab,
} from "./trial.ts";

const LAB = new URL("lab/", ROOT);
/** Holds the number of the learner's step, and how many hints were shown. */
const STATE = new URL("STEP", LAB);

/** So many of the failed tests are shown, and so much of each. */
const MAX_FAILURES = 4;
const MAX_FAILURE_LINES = 6;
const MAX_TROUBLE_LINES = 12;
/** A longer line of a page is broken. */
const PAGE_COLUMNS = 80;

const USAGE =
  "Usage: deno task learn [next | hint | show [STEP] | take | STEP]";
const COMMANDS = ["", "next", "hint", "show", "take"];

/** Exits with one line that says what is wrong. */
function exit(code: number, line: string): never {
  console.error(line);
  Deno.exit(code);
}

const course = new Course();

function findStep(number: string): Step {
  const step = course.find(number)[0];
  if (step !== undefined) return step;
  const first = course.all[0]?.number;
  const last = course.all.at(-1)?.number;
  exit(2, `There is no step ${number}: the steps are ${first} to ${last}.`);
}

// ------------------------------------------------------------------ the state

interface State {
  step: Step;
  shownHints: number;
}

/** A folder `lab/` that is something else must not be written into. */
function checkLab(): void {
  if (exists(LAB) && !exists(STATE)) {
    exit(1, "lab/ is not a learner's folder. Move it away, then try again.");
  }
}

function readState(): State {
  if (!exists(LAB)) {
    exit(1, "There is no lab/ yet. To begin the course: deno task learn");
  }
  const text = readText(STATE);
  const [number = ""] = text.split("\n");
  const shownHints = Number(/^hints: (\d+)$/m.exec(text)?.[1] ?? 0);
  return { step: findStep(number), shownHints };
}

function writeState({ step, shownHints }: State): void {
  Deno.writeTextFileSync(STATE, `${step.number}\nhints: ${shownHints}\n`);
}

/** Makes a step the learner's step. The program stays as it is. */
function goTo(step: Step): void {
  setUpLab(LAB, step.allTests);
  writeState({ step, shownHints: 0 });
}

/** Puts one of our programs into the lab. A program of the learner's own is kept. */
function replaceProgram(program: Program): void {
  const old = readProgram(LAB);
  const official = course.all.flatMap((step) => [step.before, step.after]);
  const isOfficial = official.some((it) => isSame(it, old));
  if (!isOfficial && Object.keys(old).length > 0) keep(old);
  const officialNames = official.flatMap((it) => Object.keys(it));
  for (const name of Object.keys(old)) {
    if (officialNames.includes(name)) Deno.removeSync(new URL(name, LAB));
  }
  writeProgram(LAB, program);
}

function keep(program: Program): void {
  let n = 1;
  while (exists(new URL(`kept.${n}/`, LAB))) n++;
  writeProgram(new URL(`kept.${n}/`, LAB), program);
  console.log(`Your program is kept in lab/kept.${n}/.\n`);
}

// ---------------------------------------------------------------- what to do

function titleOf(step: Step): string {
  const topic = step.stem.replace(/^[\d.]+_/, "").replaceAll("_", " ");
  return step.page.title || `${capitalize(step.name)}: ${topic}`;
}

/** Breaks long lines between words. Commands, which are indented, stay whole. */
export function wrap(text: string): string {
  return text.split("\n")
    .map((line) => line.startsWith("    ") ? line : wrapLine(line))
    .join("\n");
}

function wrapLine(line: string): string {
  const indent = /^(?:- |\d+\. )/.test(line) ? "  " : "";
  const rows = [""];
  for (const word of line.split(" ")) {
    const row = rows.at(-1)!;
    const longer = row === "" ? word : `${row} ${word}`;
    if (longer.length <= PAGE_COLUMNS || row === "") {
      rows[rows.length - 1] = longer;
    } else rows.push(indent + word);
  }
  return rows.join("\n");
}

/** Shows the page of a step, without its hints and its list of tests. */
function showPage(step: Step): void {
  const place = course.steps.indexOf(step) + 1;
  const progress = step.isExercise
    ? ""
    : ` (${place} of ${course.steps.length})`;
  console.log(`=== ${titleOf(step)}${progress}\n`);
  console.log(`${wrap(step.page.body)}\n`);
  console.log(describeTests(step));
  console.log("\nAll these commands are for the folder lab/ (cd lab):\n");
  const commands = {
    "deno run --allow-net server.ts": "starts your server (Ctrl+C stops it)",
    "deno run --allow-net client.ts": "starts your client",
    [`deno test -A ${step.tests}`]: "runs the tests (also with --watch)",
    "deno task learn next": "checks the step, and goes on to the next one",
    "deno task learn hint": "shows a hint",
    "deno task learn show": "shows our change",
    "deno task learn take": "makes our change",
  };
  const width = Math.max(...Object.keys(commands).map((it) => it.length));
  for (const [command, effect] of Object.entries(commands)) {
    console.log(`  ${command.padEnd(width)}  ${effect}`);
  }
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function describeTests(step: Step): string {
  const file = `lab/${step.tests}`;
  if (step.isExercise) {
    return `The tests are in ${file}. The head of that file says more.`;
  }
  if (step.page.noTests !== undefined) return step.page.noTests;
  const count = plural(step.page.tests.length, "test");
  const later = course.testsOfLaterSteps(step).length > 0
    ? "\nOther tests in that file stay red until a later step of this lesson."
    : "";
  return `This step turns ${count} green in ${file}.\n` +
    `The head of that file explains the concept.${later}`;
}

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

/** Shows the next hint. When all were shown, it shows them all again. */
function showHint({ step, shownHints }: State): void {
  const { hints } = step.page;
  const hint = hints[shownHints];
  if (hint !== undefined) {
    console.log(wrap(`Hint ${shownHints + 1} of ${hints.length}: ${hint}`));
    writeState({ step, shownHints: shownHints + 1 });
    if (shownHints + 1 < hints.length) return;
  } else {
    hints.forEach((hint, n) => console.log(wrap(`Hint ${n + 1}: ${hint}`)));
  }
  console.log(
    "\nThere are no more hints. To see our change: " +
      "deno task learn show",
  );
}

// ----------------------------------------------------------- is the step done?

/** Checks whether the step is done. If so, goes on to the next one. */
async function next(step: Step): Promise<void> {
  const types = await checkTypes(step);
  if (types !== undefined) return explain(step, types, "deno check");

  console.log(`Running the tests of ${step.tests} ...`);
  const own = await runOwnTests(step);
  if (!isGreen(own)) return explain(step, own, `deno test -A ${step.tests}`);

  const earlier = await runEarlierTests(step);
  if (!isGreen(earlier)) return explain(step, earlier, "deno test -A");

  for (const title of own.ignored) console.log(`Not run here: ${title}`);
  const later = course.testsOfLaterSteps(step);
  if (later.length > 0) {
    console.log(`Not run yet: ${plural(later.length, "test")} of later steps.`);
  }
  console.log(`${capitalize(step.name)} is done.`);
  compareWithOfficial(step);
  goOn(step);
}

/** A step that changes no test is checked by the types, of the client as well. */
async function checkTypes(step: Step): Promise<Result | undefined> {
  if (step.page.noTests === undefined) return undefined;
  console.log("Checking the types ...");
  const files = Object.keys(readProgram(LAB));
  const { success, output } = await runDeno(LAB, ["check", ...files]);
  if (success) return undefined;
  return { passed: [], failed: new Map(), ignored: [], trouble: output };
}

/**
 * Runs the tests of the lesson up to this step. Those of later steps would be red, and
 * some of them wait for a long time before they fail.
 */
async function runOwnTests(step: Step): Promise<Result> {
  if (course.testsOfLaterSteps(step).length === 0) {
    return await runTests(LAB, [step.tests]);
  }
  const titles = course.steps
    .filter(({ lesson, part }) => lesson === step.lesson && part <= step.part)
    .flatMap(({ page }) => page.tests);
  if (titles.length === 0) {
    return { passed: [], failed: new Map(), ignored: [] };
  }
  const result = await runTests(LAB, [step.tests], [onlyTitles(titles)]);
  const ignored = result.ignored.filter((title) => titles.includes(title));
  return { ...result, ignored };
}

/** A red test is run once more by itself: a busy machine can make tests fail. */
async function runEarlierTests(step: Step): Promise<Result> {
  const files = step.allTests.filter((file) => file !== step.tests);
  if (files.length === 0) {
    return { passed: [], failed: new Map(), ignored: [] };
  }
  console.log("Running the tests of the earlier lessons ...");
  const result = await runTests(LAB, files, ["--parallel"]);
  if (isGreen(result)) return result;

  const titles = [...result.failed.keys()];
  const tests = titles.length > 0 ? plural(titles.length, "test") : "something";
  console.log(`Red: ${tests}. Running that once more, by itself ...`);
  const filter = result.trouble === undefined ? [onlyTitles(titles)] : [];
  const again = await runTests(LAB, files, filter);
  if (isGreen(again)) {
    console.log("Now it is green. Perhaps the machine was busy.");
  }
  return again;
}

function isGreen({ failed, trouble }: Result): boolean {
  return failed.size === 0 && trouble === undefined;
}

/** Compares the learner's program with ours. */
function compareWithOfficial(step: Step): void {
  const program = readProgram(LAB);
  if (isSame(program, step.after)) return;
  console.log(`Our change: deno task learn show ${step.number}`);
  const following = stepAfter(step);
  const isUnchanged = isSame(program, step.before);
  if (isUnchanged && following !== undefined) {
    console.log(
      "Your program has not changed. To begin the next step with this change: " +
        `deno task learn ${following.number}`,
    );
  }
}

function stepAfter(step: Step): Step | undefined {
  return course.all[course.all.indexOf(step) + 1];
}

function goOn(step: Step): void {
  const following = stepAfter(step);
  if (following === undefined) {
    console.log("That was the last exercise. Well done!");
    return;
  }
  if (following.isExercise && !step.isExercise) {
    console.log("The program is complete. The exercises go beyond it.");
  }
  goTo(following);
  console.log();
  showPage(following);
}

/** Says in a few lines what is wrong, and which command shows all of it. */
function explain(
  step: Step,
  { failed, trouble }: Result,
  command: string,
): void {
  Deno.exitCode = 1;
  console.log(`\n${capitalize(step.name)} is not done yet.`);
  if (trouble !== undefined) console.log(shorten(trouble, MAX_TROUBLE_LINES));
  for (const [title, message] of [...failed].slice(0, MAX_FAILURES)) {
    const lines = shorten(withoutErrorName(message), MAX_FAILURE_LINES);
    console.log(`\n  ✗ ${title}\n${lines}`);
  }
  if (failed.size > MAX_FAILURES) {
    console.log(`\n  and ${failed.size - MAX_FAILURES} more`);
  }
  console.log(`\nTo see everything: cd lab, then ${command}`);
  console.log("To get a hint: deno task learn hint");
}

function withoutErrorName(message: string): string {
  return message.replace(
    /^Uncaught (AssertionError: )?(Failed assertion: )?/,
    "",
  );
}

/** Returns the first lines of a text, indented, without empty ones. */
function shorten(text: string, maxLines: number): string {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length > maxLines) lines.splice(maxLines - 1, Infinity, "...");
  return lines.map((line) => `    ${line}`).join("\n");
}

// --------------------------------------------------------------- command line

/** Makes our change. */
function take(step: Step): void {
  replaceProgram(step.after);
  console.log(`lab/ now has our program after ${step.name}.`);
  console.log("Read it, run the tests, then: deno task learn next");
}

/** Begins at a step, with our program of the step before. */
function begin(step: Step): void {
  Deno.mkdirSync(LAB, { recursive: true });
  replaceProgram(step.before);
  goTo(step);
  console.log(`lab/ now has our program before ${step.name}.`);
  console.log("Nothing outside lab/ changes.\n");
  showPage(step);
}

async function main(): Promise<void> {
  const [command = "", argument] = Deno.args;
  const isStep = /^\d+(\.\d+)?$/.test(command);
  if (!isStep && !COMMANDS.includes(command)) {
    exit(2, `Unknown command "${command}". ${USAGE}`);
  }
  const maxArguments = command === "show" ? 1 : 0;
  if (Deno.args.length > 1 + maxArguments) exit(2, USAGE);

  if (command === "show" && argument !== undefined) {
    return console.log(findStep(argument).diff);
  }
  checkLab();
  if (command === "" && !exists(LAB)) return begin(course.all[0]!);
  if (isStep) return begin(findStep(command));
  const state = readState();
  if (command === "") return showPage(state.step);
  if (command === "hint") return showHint(state);
  if (command === "show") return console.log(state.step.diff);
  if (command === "take") return take(state.step);
  await next(state.step);
}

if (import.meta.main) {
  await main().catch((error: Error) => exit(1, error.message));
}
