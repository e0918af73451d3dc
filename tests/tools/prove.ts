/**
 * The proof that the course is what it says, in some minutes:
 *
 *     deno task prove
 *
 * - The sum of all steps is the program, to the letter.
 * - Each program of the course is clean (format, lint, types) and starts.
 * - Exactly the tests that a step's page lists are red before it, because of
 *   what somebody would see and not because they wait in vain; after it they
 *   are green, and so are all lessons before.
 * - The tests of an exercise are red before its solution, and green after it,
 *   and so are all lessons.
 * - `deno task learn` leads from one step to the next, and loses nothing.
 *
 * It looks at the project's own files, and never at `lab/`.
 */

import { cpSync } from "node:fs";
import { pathToFileURL } from "node:url";
import {
  claimedTests,
  exists,
  isSame,
  NAIVE,
  type Program,
  readProgram,
  readSteps,
  readText,
  ROOT,
  stems,
  type Step,
  stepFile,
  writeProgram,
} from "./steps.ts";
import { type Result, runDeno, runTests, writeTests } from "./trial.ts";

/** Jobs at a time: most tests wait for something, so more than there are CPUs. */
const JOBS = 3;
/** A program that has not said by then that it listens does not start. */
const START_MS = 20_000;
/** What a failed test of an exercise says is to be read: lines at most. */
const MAX_MESSAGE_LINES = 25;

interface Claim {
  name: string;
  /** Throws if it is not so. Says what is missing if nobody can tell here. */
  check(): unknown;
}

/** The tests that could not run here. Their names say why. */
const missing = new Set<string>();
const MISSING = Symbol("cannot be tried here");

function assert(isTrue: boolean, complaint: string): asserts isTrue {
  if (!isTrue) throw new Error(complaint);
}

// ------------------------------------------------------------------ claims

function claimAll(steps: Step[], work: URL): Claim[] {
  const lessons = steps.filter((step) => !step.isBeyond);
  const tests = lessons.map((it) => it.tests);
  const naive = readProgram(NAIVE);
  return [
    { name: "each lesson and exercise has a diff", check: checkFiles },
    {
      name: "learn leads on, and keeps what one wrote",
      check: () => checkLearn(new URL("learn/", work)),
    },
    {
      name: "the sum of the steps is the program",
      check: () => checkSum(lessons.at(-1)?.after ?? naive),
    },
    {
      name: "00_naive: clean, and starts",
      check: () => checkProgram(new URL("00/", work), naive, tests),
    },
    ...steps.flatMap((step) => claimStep(step, tests, work)),
  ];
}

function claimStep(step: Step, lessons: string[], work: URL): Claim[] {
  const { stem, tests, after } = step;
  const earlier = lessons.filter((it) => step.isBeyond || it < tests);
  const folder = (name: string) => new URL(`${stem}-${name}/`, work);
  return [
    {
      name: `${stem}: red before`,
      check: () => checkRed(folder("before"), step),
    },
    {
      name: `${stem}: green after, with the lessons before`,
      check: () => checkGreen(folder("after"), after, [...earlier, tests]),
    },
    {
      name: `${stem}: clean, and starts`,
      check: () => checkProgram(folder("clean"), after, [...lessons, tests]),
    },
  ];
}

function checkFiles(): void {
  const { lessons, exercises } = stems();
  for (const stem of [...lessons, ...exercises]) {
    assert(exists(stepFile(stem)), `${stem} has no diff`);
  }
}

function checkSum(sum: Program): void {
  for (const [name, text] of Object.entries(sum)) {
    const lines = readText(new URL(name, ROOT)).split("\n");
    const line = text.split("\n").findIndex((it, n) => it !== lines[n]) + 1;
    assert(line === 0, `${name} is another from line ${line} on`);
  }
  assert(isSame(sum, readProgram(ROOT)), "some lines or files are missing");
}

/** Format, lint and types of a program, and of tests with it; its start. */
async function checkProgram(
  folder: URL,
  program: Program,
  tests: string[],
): Promise<void> {
  prepare(folder, program);
  const files = Object.keys(program);
  const commands = [
    ["fmt", "--check", ...files],
    ["lint", ...files],
    ["check", ...files, ...tests],
  ];
  for (const args of commands) {
    const { success, output } = await runDeno(folder, args);
    assert(success, output);
  }
  await checkStart(folder);
}

async function checkStart(folder: URL): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-net", "server.ts", "0"],
    cwd: folder,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), START_MS);
  let said = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    said += text;
    if (said.includes("Listening on")) break;
  }
  clearTimeout(timer);
  if (said.includes("Listening on")) child.kill("SIGKILL");
  await child.status;
  assert(said.includes("Listening on"), `server.ts does not start: ${said}`);
}

async function checkRed(folder: URL, step: Step): Promise<symbol | void> {
  prepare(folder, step.before);
  const { failed, ignored, trouble } = await runHere(folder, [step.tests]);
  assert(trouble === undefined, trouble ?? "");
  if (failed.size === 0 && ignored.length > 0) return MISSING;
  for (const [name, message] of failed) {
    assert(message.includes("AssertionError"), `${name}: ${message}`);
    assert(!message.includes("in vain"), `${name} waits: ${message}`);
    const lines = message.split("\n").length;
    const isShort = !step.isBeyond || lines <= MAX_MESSAGE_LINES;
    assert(isShort, `${name} says ${lines} lines:\n${message}`);
  }
  assert(failed.size > 0, "nothing is red");
  if (!step.isBeyond) checkListed(step, failed, ignored);
}

/** What is red must be what the page of the step says. */
function checkListed(
  step: Step,
  failed: Map<string, string>,
  ignored: string[],
): void {
  const listed = claimedTests(step.page).filter((name) =>
    !ignored.some((it) => it.startsWith(name))
  );
  const extra = [...failed.keys()].filter((name) => !listed.includes(name));
  const green = listed.filter((name) => !failed.has(name));
  assert(extra.length === 0, `red, but not listed:\n- ${extra.join("\n- ")}`);
  assert(green.length === 0, `listed, but not red:\n- ${green.join("\n- ")}`);
}

async function checkGreen(folder: URL, program: Program, tests: string[]) {
  prepare(folder, program);
  const { failed, trouble } = await runHere(folder, tests);
  assert(trouble === undefined, trouble ?? "");
  const all = [...failed].map(([name, message]) => `${name}: ${message}`);
  assert(all.length === 0, all.join("\n\n"));
}

/** Walks a step in a copy of the project: not done, taken, done, and back. */
async function checkLearn(folder: URL): Promise<void> {
  for (const name of ["tests/", "vendor/", "deno.json"]) {
    cpSync(new URL(name, ROOT), new URL(name, folder), { recursive: true });
  }
  const own = "// my own\n";
  const kept = new URL("lab/kept.1/server.ts", folder);
  const walk: [command: string, isDone: boolean, says: string][] = [
    ["", true, "Step 1 of"],
    ["next", false, "not done yet"],
    ["take", true, "official program of step 1"],
    ["next", true, "Step 2 of"],
    ["1", true, "kept.1"],
    ["999", false, "No step 999"],
  ];
  for (const [command, isDone, says] of walk) {
    if (command === "1") {
      Deno.writeTextFileSync(new URL("lab/server.ts", folder), own);
    }
    const args = ["run", "-A", "tests/tools/learn.ts", command].filter(Boolean);
    const { success, output } = await runDeno(folder, args);
    assert(success === isDone, `learn ${command} says:\n${output}`);
    assert(output.includes(says), `learn ${command} says:\n${output}`);
  }
  assert(readText(kept) === own, "learn 1 does not keep what one wrote");
}

// ------------------------------------------------------------------- work

function prepare(folder: URL, program: Program): void {
  writeProgram(folder, program);
  writeTests(folder, []);
}

async function runHere(folder: URL, files: string[]): Promise<Result> {
  const flags = ["--no-check", "--parallel"];
  const result = await runTests(folder, files, ...flags);
  result.ignored.forEach((name) => missing.add(name));
  return result;
}

/** Tries all claims, some at a time; says how many hold and how many do not. */
async function tryAll(claims: Claim[]) {
  const waiting = [...claims];
  const count = { "✓": 0, "✗": 0, "?": 0 };
  const work = async () => {
    for (let claim = waiting.shift(); claim; claim = waiting.shift()) {
      const start = performance.now();
      const [verdict, why] = await tryOne(claim);
      const seconds = ((performance.now() - start) / 1_000).toFixed(1);
      count[verdict]++;
      console.log(`${verdict} ${claim.name} (${seconds} s)`);
      if (why !== "") console.log(why.replace(/^/gm, "    "));
    }
  };
  await Promise.all(Array.from({ length: JOBS }, work));
  return count;
}

async function tryOne({ check }: Claim): Promise<["✓" | "✗" | "?", string]> {
  try {
    return (await check()) === MISSING ? ["?", "cannot run here"] : ["✓", ""];
  } catch (error) {
    return ["✗", (error as Error).message];
  }
}

async function main(): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "prove-" });
  try {
    const claims = claimAll(readSteps(), pathToFileURL(`${folder}/`));
    const count = await tryAll(claims);
    for (const name of missing) console.log(`Missing here: ${name}`);
    console.log(`${count["✓"]} passed, ${count["✗"]} failed`);
    Deno.exitCode = count["✗"] > 0 ? 1 : 0;
  } catch (error) {
    console.log(`${(error as Error).message}\n0 passed, 1 failed`);
    Deno.exitCode = 1;
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

if (import.meta.main) await main();
