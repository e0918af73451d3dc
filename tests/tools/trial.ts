/**
 * Trying a program of the course in a folder of its own, with its lessons.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { cpSync } from "node:fs";
import { exists, readText, ROOT } from "./steps.ts";

/** Tests that run longer than this are given up. */
const TESTS_MS = 300_000;
/** What nobody needs to try a program: the tools, the answers. */
const LEFT_OUT = /[\\/](steps|tools)[\\/]?$|\.diff$|readme_test\.ts$/;

/**
 * Puts all that a program needs to be tested into a folder: lessons, helpers,
 * packages, a `deno.json`. What is there already stays as it is, but that
 * `deno test` there runs these tests.
 */
export function writeTests(folder: URL, tests: string[]): void {
  for (const name of ["tests/", "vendor/"]) {
    if (!exists(new URL(name, ROOT))) continue;
    cpSync(new URL(name, ROOT), new URL(name, folder), {
      recursive: true,
      force: false, // overwrites nothing
      filter: (path) => !LEFT_OUT.test(path),
    });
  }
  const file = new URL("deno.json", folder);
  const tasks = { learn: "deno run -A ../tests/tools/learn.ts" };
  const settings = exists(file)
    ? JSON.parse(readText(file))
    : { ...config, tasks, exclude: ["vendor*/"] };
  settings.test.include = tests;
  Deno.writeTextFileSync(file, JSON.stringify(settings, null, 2) + "\n");
}

/** How tests went. */
export interface Result {
  passed: number;
  /** What each failed test says. */
  failed: Map<string, string>;
  /** Which could not run here; their names say why. */
  ignored: string[];
  /** What Deno said, when it failed without a failed test: wrong types, say. */
  trouble?: string;
}

/** Runs tests in a folder; the flags are those of `deno test`. */
export async function runTests(
  folder: URL,
  files: string[],
  ...flags: string[]
): Promise<Result> {
  const report = Deno.makeTempFileSync({ suffix: ".xml" });
  try {
    const args = ["test", "-A", `--junit-path=${report}`, ...flags, ...files];
    const { success, output } = await runDeno(folder, args);
    const result = readReport(Deno.readTextFileSync(report));
    if (!success && result.failed.size === 0) result.trouble = output;
    return result;
  } finally {
    Deno.removeSync(report);
  }
}

/** Runs Deno in a folder, to its end. */
export async function runDeno(
  folder: URL,
  args: string[],
): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: folder,
    stdin: "null",
    env: { NO_COLOR: "1" },
    signal: AbortSignal.timeout(TESTS_MS),
  }).output();
  const decoder = new TextDecoder();
  return { success, output: decoder.decode(stderr) + decoder.decode(stdout) };
}

const TEST_CASE = /<testcase name="([^"]*)"[^>]*>(.*?)<\/testcase>/gs;

/** Reads a report in JUnit's format, as `deno test` writes it. */
function readReport(xml: string): Result {
  const result: Result = { passed: 0, failed: new Map(), ignored: [] };
  for (const [, name = "", body = ""] of xml.matchAll(TEST_CASE)) {
    const failure = /<failure message="([^"]*)"/.exec(body)?.[1];
    if (body.includes("<skipped")) result.ignored.push(unescape(name));
    else if (failure === undefined) result.passed++;
    else result.failed.set(unescape(name), unescape(failure));
  }
  return result;
}

function unescape(xml: string): string {
  return xml.replaceAll("&lt;", "<").replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"').replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");
}
