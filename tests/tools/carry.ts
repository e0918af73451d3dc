/**
 * Carries a change of the program through the steps:
 *
 *     deno run -A tests/tools/carry.ts unpack    the programs of all steps
 *     deno run -A tests/tools/carry.ts pack      their diffs, made anew
 *
 * See `tests/steps/README.md`. It needs `diff`, which learners do not.
 */

import { pathToFileURL } from "node:url";
import {
  applyDiff,
  exists,
  isSame,
  NAIVE,
  type Program,
  readProgram,
  readSteps,
  readText,
  ROOT,
  splitPage,
  stems,
  type Step,
  stepFile,
  STEPS,
  writeProgram,
} from "./steps.ts";

/** The folder with a folder for each step; git does not see it. */
const UNPACKED = new URL("unpacked/", STEPS);
const NO_PAGE = "TODO: what goes wrong without it.\n\n- a test that goes green";

const USAGE = "Usage: deno run -A tests/tools/carry.ts unpack | pack";

function folderOf(stem: string): URL {
  return new URL(`${stem}/`, UNPACKED);
}

/** The last step has no folder: its program is the program itself. */
function unpack(): void {
  if (exists(UNPACKED)) {
    throw new Error("tests/steps/unpacked/ is there: pack it, or remove it.");
  }
  writeProgram(folderOf("00_naive"), readProgram(NAIVE));
  const last = stems().lessons.at(-1);
  for (const { stem, after } of readSteps()) {
    if (stem !== last) writeProgram(folderOf(stem), after);
  }
  console.log("Change the programs in tests/steps/unpacked/, then pack.");
}

/** Writes all diffs or, if a step is in the way, none. */
function pack(): void {
  if (!exists(UNPACKED)) throw new Error("Nothing is unpacked.");
  const { lessons, exercises } = stems();
  const recorded = new Map(readSteps().map((step) => [step.stem, step]));
  const naive = readProgram(folderOf("00_naive"));
  const texts = new Map<URL, string>();
  let before = naive;
  for (const stem of [...lessons, ...exercises]) {
    const step = recorded.get(stem);
    const isLast = stem === lessons.at(-1);
    const after = isLast ? readProgram(ROOT) : carry(before, stem, step);
    const file = stepFile(stem);
    const page = step?.page ?? (exists(file) ? readPage(file) : NO_PAGE);
    const diff = makeDiff(before, after);
    if (diff !== step?.diff) report(stem, diff);
    texts.set(file, `${page}\n\n${diff}`);
    if (lessons.includes(stem)) before = after;
  }
  writeProgram(NAIVE, naive);
  for (const [file, text] of texts) Deno.writeTextFileSync(file, text);
  Deno.removeSync(UNPACKED, { recursive: true });
  console.log("Packed. Now: deno task prove");
}

function readPage(file: URL): string {
  return splitPage(readText(file)).page;
}

/** The program of a step: as changed by hand, or by its diff as it was. */
function carry(before: Program, stem: string, step?: Step): Program {
  const folder = folderOf(stem);
  if (!exists(folder)) throw new Error(`tests/steps/unpacked/${stem} is gone.`);
  const after = readProgram(folder);
  if (!step || !isSame(after, step.after)) return after;
  try {
    return applyDiff(before, step.diff, stem);
  } catch (error) {
    throw new Error(
      `${(error as Error).message}\nMake the change by hand in ` +
        `tests/steps/unpacked/${stem}/, too, then pack again.`,
    );
  }
}

function report(stem: string, diff: string): void {
  const count = diff.match(/^[+-](?!-- |\+\+ )/gm)?.length ?? 0;
  console.log(`${stem} has another diff now: ${count} changed lines`);
}

function makeDiff(before: Program, after: Program): string {
  const folder = Deno.makeTempDirSync();
  const dir = pathToFileURL(`${folder}/`);
  writeProgram(new URL("a/", dir), before);
  writeProgram(new URL("b/", dir), after);
  const diffs = Object.keys(after).sort().map((name) => {
    const old = name in before ? `a/${name}` : "/dev/null";
    const files = [old, `b/${name}`];
    const labels = files.flatMap((label) => ["--label", label]);
    const { stdout, code } = new Deno.Command("diff", {
      args: ["-u", ...labels, ...files],
      cwd: folder,
    }).outputSync();
    if (code > 1) throw new Error(`diff failed with ${files.join(" and ")}`);
    return new TextDecoder().decode(stdout);
  });
  Deno.removeSync(folder, { recursive: true });
  return diffs.join("");
}

function main(): void {
  const [command] = Deno.args;
  try {
    if (command === "unpack") return unpack();
    if (command === "pack") return pack();
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
  console.error(USAGE);
  Deno.exit(2);
}

if (import.meta.main) main();
