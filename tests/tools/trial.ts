/**
 * Runs the tests of the course on a program, in a folder of its own.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { cpSync } from "node:fs";
import { basename } from "node:path";
import { exists, LESSON_FILE, readText, ROOT } from "./steps.ts";

/** Deno is stopped if it runs for longer than this. */
const DENO_TIMEOUT_MS = 300_000;

/** The tasks of the project that make sense in a learner's folder, too. */
const LAB_TASKS = ["server", "client", "proxy", "test", "learn"];
/** Each task of the project fills `vendor/` first. A learner's folder has its own. */
const FILL_VENDOR = "deno run -qA .ci/vendor.ts && ";

// -------------------------------------------------------------------- folders

/** Returns whether a file or folder of `tests/` is needed to run the lessons. */
function isNeeded(path: string): boolean {
  const name = basename(path);
  if (name === "steps" || name === "tools" || /\.(diff|md)$/.test(name)) {
    return false;
  }
  // The tests that are no lesson judge the tools, the README and the like.
  return !name.endsWith("_test.ts") || LESSON_FILE.test(name);
}

/** Copies lessons, exercises and helpers into a folder. Overwrites nothing. */
export function copyTests(folder: URL): void {
  cpSync(new URL("tests/", ROOT), new URL("tests/", folder), {
    recursive: true,
    force: false,
    filter: isNeeded,
  });
}

/**
 * Makes a folder in which a learner can work, or brings it up to date: with
 * lessons, packages, and a `deno.json` by which `deno test` runs these tests.
 */
export function setUpLab(lab: URL, tests: string[]): void {
  copyTests(lab);
  const vendor = new URL("vendor/", ROOT);
  if (exists(vendor)) {
    cpSync(vendor, new URL("vendor/", lab), { recursive: true, force: false });
  }
  const file = new URL("deno.json", lab);
  const settings = exists(file) ? JSON.parse(readText(file)) : labSettings();
  settings.test.include = tests;
  Deno.writeTextFileSync(file, JSON.stringify(settings, null, 2) + "\n");
}

function labSettings() {
  const all: Record<string, { description: string; command: string }> =
    config.tasks;
  const tasks: typeof all = {};
  for (const name of LAB_TASKS) {
    const task = all[name];
    if (task === undefined) continue;
    const command = task.command
      .replace(FILL_VENDOR, "")
      .replace("tests/tools/", "../tests/tools/");
    tasks[name] = { ...task, command };
  }
  return { ...config, tasks, exclude: ["vendor*/", "kept*/"] };
}

// ---------------------------------------------------------------------- tests

/** The result of a run of tests. */
export interface Result {
  /** The titles of the tests that passed. */
  passed: string[];
  /** The message of each test that failed, by its title. */
  failed: Map<string, string>;
  /** The titles of the tests that were ignored. They say why. */
  ignored: string[];
  /** Deno's output, if something failed besides tests: wrong types, for example. */
  trouble?: string;
}

/**
 * Runs tests in a folder.
 *
 * @param flags flags of `deno test`.
 * @param env environment variables for Deno, besides those that are set.
 */
export async function runTests(
  folder: URL,
  files: string[],
  flags: string[] = [],
  env: Record<string, string> = {},
): Promise<Result> {
  const report = Deno.makeTempFileSync({ suffix: ".xml" });
  try {
    const args = ["test", "-A", `--junit-path=${report}`, ...flags, ...files];
    const { success, output } = await runDeno(folder, args, env);
    const result = readReport(Deno.readTextFileSync(report));
    // An error that no test caught stops the other tests of its file.
    const wasStopped = output.includes("(uncaught error)");
    if (wasStopped || !success && result.failed.size === 0) {
      const start = output.indexOf("\n ERRORS \n");
      result.trouble = output.slice(Math.max(start, 0)).trim();
    }
    return result;
  } finally {
    Deno.removeSync(report);
  }
}

/**
 * The flag of `deno test` to run only the tests with these titles. Deno reports all
 * other tests as ignored.
 */
export function onlyTitles(titles: string[]): string {
  const escaped = titles.map((title) =>
    title.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
  );
  return `--filter=/^(${escaped.join("|")})$/`;
}

/** Runs Deno in a folder until it exits. */
export async function runDeno(
  folder: URL,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ success: boolean; output: string }> {
  const timeout = AbortSignal.timeout(DENO_TIMEOUT_MS);
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: folder,
    stdin: "null",
    env: { NO_COLOR: "1", ...env },
    signal: timeout,
  }).output();
  const decoder = new TextDecoder();
  const output = decoder.decode(stderr) + decoder.decode(stdout);
  const late = `Stopped after ${DENO_TIMEOUT_MS / 1_000} seconds.\n`;
  return { success, output: timeout.aborted ? late + output : output };
}

// -------------------------------------------------------------------- reports

const TEST_CASE = /<testcase name="([^"]*)"[^>]*>(.*?)<\/testcase>/gs;

/** Reads a report in JUnit's format, as `deno test` writes it. */
function readReport(xml: string): Result {
  const result: Result = { passed: [], failed: new Map(), ignored: [] };
  for (const [, name = "", body = ""] of xml.matchAll(TEST_CASE)) {
    const title = unescape(name);
    // An `error` is a test that was cancelled, because another error ended its file.
    const [, summary, text] =
      /<(?:failure|error) message="([^"]*)"[^>]*>([^<]*)/.exec(body) ?? [];
    // "Leaks detected" alone does not say what leaks.
    const message = summary === "Leaks detected" ? text : summary;
    if (body.includes("<skipped")) result.ignored.push(title);
    else if (message === undefined) result.passed.push(title);
    else result.failed.set(title, unescape(message));
  }
  return result;
}

function unescape(xml: string): string {
  return xml
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");
}
