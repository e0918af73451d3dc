/**
 * The way through the course, one step after the other, in a working copy:
 *
 *     deno task learn         where am I, and what is to be done?
 *     deno task learn next    is the step done? Then on to the next one
 *     deno task learn show    shows the official change (`show 3`: of step 3)
 *     deno task learn take    makes the official change
 *     deno task learn 5       begins at step 5, with the official program
 *
 * Nothing outside `lab/` is touched. Whatever of yours is replaced there is
 * kept beside it, in `lab/kept.1/`, `lab/kept.2/` and so on.
 */

import {
  exists,
  isSame,
  type Program,
  readProgram,
  readSteps,
  readText,
  ROOT,
  type Step,
  writeProgram,
} from "./steps.ts";
import { type Result, runTests, writeTests } from "./trial.ts";

const LAB = new URL("lab/", ROOT);
/** Holds the number of the step that the learner is at. */
const STATE = new URL("STEP", LAB);
/** Of what is red, so much is shown; `deno test` shows all. */
const MAX_FAILURES = 4;
const MAX_FAILURE_LINES = 6;
const MAX_TROUBLE_LINES = 12;

const USAGE = "Usage: deno task learn [next | show [STEP] | take | STEP]";
const NOT_OURS = "lab/ is not a working copy: move it away, then try again.";

/** Ends the program with one line. */
function exit(code: number, line: string): never {
  console.error(line);
  Deno.exit(code);
}

function load(): Step[] {
  try {
    return readSteps();
  } catch (error) {
    exit(1, (error as Error).message);
  }
}

const steps = load();
const lastStep = steps.filter((step) => !step.isBeyond).length;

function findStep(number: string): Step {
  const step = steps.find((step) => step.number === Number(number));
  const last = steps.at(-1)?.number;
  return step ?? exit(2, `No step ${number}: they are 1 to ${last}.`);
}

/** The lessons up to a step; to an exercise belong all lessons and itself. */
function testsUpTo(step: Step): string[] {
  const lessons = steps.filter((it) => !it.isBeyond && it.number < step.number);
  return [...lessons.map((it) => it.tests), step.tests];
}

/** Goes to a step. The program stays. */
function goTo(step: Step): void {
  writeTests(LAB, testsUpTo(step));
  Deno.writeTextFileSync(STATE, `${step.number}\n`);
}

/** Puts an official program into the lab. What the learner wrote is kept. */
function replaceProgram(program: Program): void {
  const old = readProgram(LAB);
  const official = steps.flatMap(({ before, after }) => [before, after]);
  if (!official.some((it) => isSame(it, old)) && !isSame({}, old)) {
    let n = 1;
    while (exists(new URL(`kept.${n}/`, LAB))) n++;
    writeProgram(new URL(`kept.${n}/`, LAB), old);
    console.log(`What you wrote is kept in lab/kept.${n}/.\n`);
  }
  const ours = Object.keys(Object.assign({}, ...official));
  for (const name of Object.keys(old)) {
    if (ours.includes(name)) Deno.removeSync(new URL(name, LAB));
  }
  writeProgram(LAB, program);
}

// ---------------------------------------------------------------- commands

/** Says what is to be done. */
function showPage(step: Step): void {
  const title = step.isBeyond
    ? `Exercise ${step.number}, beyond the program`
    : `Step ${step.number} of ${lastStep}`;
  // The page ends with a list of tests, which `deno test` shows as well.
  const [text = ""] = step.page.split(/^(?:.+:\n+)?- /m);
  const width = `deno test -A ${step.tests}`.length;
  const row = (command: string, what: string) =>
    `  ${command.padEnd(width)}  ${what}`;
  console.log(`=== ${title}: ${step.stem.slice(3)}

${text.trim()}

The lesson is lab/${step.tests}: its head says more.
All commands are for lab/ (cd lab):

${
    row(
      "deno run --allow-net server.ts",
      "starts your server (stop the old one: Ctrl+C)",
    )
  }
${row("deno run --allow-net client.ts", "starts your client")}
${row(`deno test -A ${step.tests}`, "its tests (also with --watch)")}
${row("deno task learn next", "goes on, if they are green")}
${row("deno task learn show", "shows the official change")}
${row("deno task learn take", "makes the official change")}`);
}

/** Looks whether the step is done, and goes on. */
async function next(step: Step): Promise<void> {
  console.log(`Running the tests of ${step.stem} ...`);
  const own = await runTests(LAB, [step.tests]);
  if (!isGreen(own)) return explain(step, own, ` ${step.tests}`);
  const earlier = testsUpTo(step).slice(0, -1);
  if (earlier.length > 0) {
    console.log("Green. Running the earlier ones ...");
    const result = await runTests(LAB, earlier, "--parallel");
    if (!isGreen(result)) return explain(step, result, "");
  }
  for (const name of own.ignored) console.log(`Not tried: ${name}`);
  const isOwn = !isSame(readProgram(LAB), step.after);
  console.log(
    `Step ${step.number} is done.` +
      (isOwn ? ` The official way: deno task learn show ${step.number}` : ""),
  );
  goOn(step, steps[steps.indexOf(step) + 1]);
}

function goOn(step: Step, following?: Step): void {
  if (!following) return console.log("That was the last one. Well done!");
  if (following.isBeyond && !step.isBeyond) {
    console.log("The program is whole. What follows goes beyond it.");
  }
  goTo(following);
  console.log();
  showPage(following);
}

function isGreen({ failed, trouble }: Result): boolean {
  return failed.size === 0 && trouble === undefined;
}

/** What a failed test says, without the name of the error. */
function plain(message: string): string {
  return message.replace(
    /^Uncaught (AssertionError: )?(Failed assertion: )?/,
    "",
  );
}

/** Says in a few lines what is red. */
function explain(step: Step, { failed, trouble }: Result, tests: string): void {
  Deno.exitCode = 1;
  console.log(`\nStep ${step.number} is not done yet.`);
  if (trouble !== undefined) console.log(cut(trouble, MAX_TROUBLE_LINES));
  for (const [name, message] of [...failed].slice(0, MAX_FAILURES)) {
    console.log(`\n  ✗ ${name}\n${cut(plain(message), MAX_FAILURE_LINES)}`);
  }
  if (failed.size > MAX_FAILURES) {
    console.log(`\n  and ${failed.size - MAX_FAILURES} more`);
  }
  console.log(`\nAll that they say: cd lab, then deno test -A${tests}`);
}

/** The first lines of a text. */
function cut(text: string, count: number): string {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length > count) lines.splice(count - 1, Infinity, "...");
  return lines.map((line) => `    ${line}`).join("\n");
}

function take(step: Step): void {
  replaceProgram(step.after);
  console.log(`lab/ has the official program of step ${step.number} now.`);
  console.log("Read it, run the tests, then: deno task learn next");
}

function begin(step: Step): void {
  Deno.mkdirSync(LAB, { recursive: true });
  replaceProgram(step.before);
  goTo(step);
  const number = step.isBeyond ? lastStep : step.number - 1;
  console.log(`lab/ has the official program of step ${number} now.
Nothing outside lab/ is touched.\n`);
  showPage(step);
}

async function main(): Promise<void> {
  const [command = "", argument, extra] = Deno.args;
  const isStep = /^\d+$/.test(command);
  const isKnown = isStep || ["", "next", "show", "take"].includes(command);
  if (!isKnown) exit(2, `Unknown "${command}". ${USAGE}`);
  if (extra || argument && command !== "show") exit(2, USAGE);
  if (command === "show" && argument) {
    return console.log(findStep(argument).diff);
  }
  const isNew = !exists(LAB);
  if (!isNew && !exists(STATE)) exit(1, NOT_OURS);
  if (isStep || isNew && command === "") {
    return begin(findStep(command || "1"));
  }
  if (isNew) exit(1, "There is no lab/ yet: deno task learn makes it.");
  const step = findStep(readText(STATE).trim());
  if (command === "") return showPage(step);
  if (command === "show") return console.log(step.diff);
  if (command === "take") return take(step);
  await next(step);
}

if (import.meta.main) {
  await main().catch((error: Error) => exit(1, error.message));
}
