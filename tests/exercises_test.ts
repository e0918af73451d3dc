/**
 * The proof that the exercises are what they say. For each, in a copy of what
 * is committed:
 *
 * - `NN_topic.patch` alone takes something out: it applies, format, lint and
 *   types still pass, and exactly the tests that it lists go red, each by an
 *   assertion, none by waiting in vain.
 * - `NN_topic.ts` specifies something new, `NN_topic.patch` beside it is a
 *   solution: the specification fails before and passes after, and all lessons
 *   still pass.
 *
 *     deno test -A tests/exercises_test.ts
 *
 * It takes minutes, and needs git. While you work on an exercise you do not
 * need it: it looks at what is committed, not at what you write.
 */

import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);
const LESSONS = /^tests\/0\d_\w+_test\.ts$/;

const allowed = (["read", "write", "run", "net", "env"] as const).every((
  name,
) => Deno.permissions.querySync({ name }).state === "granted");

/** Runs a command to its end. */
async function run(command: string, args: string[], cwd: string | URL) {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    stdin: "null",
    // more test files at a time than cores, as most of them wait for something
    env: { NO_COLOR: "1", DENO_JOBS: "3" },
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Fails, with all that the command said, unless it succeeds. */
async function succeed(command: string, args: string[], cwd: string | URL) {
  const { code, text } = await run(command, args, cwd);
  assertEquals(code, 0, `${command} ${args.join(" ")}:\n${text}`);
  return text;
}

function deno(args: string[], cwd: string | URL) {
  return succeed(Deno.execPath(), args, cwd);
}

/** A copy of what is committed, at the same place each time. */
async function freshCopy(dir: string): Promise<string[]> {
  await Deno.remove(dir, { recursive: true }).catch(() => {});
  await Deno.mkdir(dir);
  const archive = `${dir}.tar`;
  await succeed("git", ["archive", "-o", archive, "HEAD"], ROOT);
  await succeed("tar", ["xf", archive], dir);
  await Deno.remove(archive);
  await deno(["run", "-qA", ".ci/vendor.ts"], dir);
  const files = await succeed(
    "git",
    ["ls-tree", "-r", "--name-only", "HEAD"],
    ROOT,
  );
  return files.trim().split("\n");
}

/** Format, lint and types, as `.ci/run` has them. */
async function check(dir: string): Promise<void> {
  await deno(["fmt", "--check"], dir);
  await deno(["lint"], dir);
  await deno(["check", "server.ts", "client.ts", "protocol.ts", "tests/"], dir);
}

/** Runs tests. The failed ones with what they said, and the ignored ones. */
async function runTests(
  dir: string,
  files: string[],
): Promise<{ failed: Map<string, string>; ignored: Set<string> }> {
  const report = `${dir}/report.xml`;
  const flags = ["-A", "--no-check", "--parallel", `--junit-path=${report}`];
  const { text } = await run(
    Deno.execPath(),
    ["test", ...flags, ...files],
    dir,
  );
  const failed = new Map<string, string>();
  const ignored = new Set<string>();
  const xml = await Deno.readTextFile(report).catch(() => {
    throw new Error(`The tests did not run:\n${text}`);
  });
  await Deno.remove(report);
  for (const [, attributes = "", body = ""] of xml.matchAll(TEST_CASE)) {
    const name = unescape(/name="(.*?)"/.exec(attributes)?.[1] ?? "");
    if (/<(failure|error)\b/.test(body)) failed.set(name, unescape(body));
    if (/<skipped\b/.test(body)) ignored.add(name);
  }
  assert(xml.includes("<testcase"), `No test ran:\n${text}`);
  return { failed, ignored };
}

/** In a JUnit report; a test that passed has no body. */
const TEST_CASE = /<testcase ((?:[^>"]|"[^"]*")*?)(?:\/>|>(.*?)<\/testcase>)/gs;

function unescape(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"').replaceAll("&apos;", "'")
    .replaceAll("&#39;", "'").replaceAll("&amp;", "&");
}

/** A failure must tell what the other person would see. */
function assertSpeaks(failed: Map<string, string>): void {
  for (const [name, message] of failed) {
    assert(/AssertionError|TODO \d\d/.test(message), `${name}:\n${message}`);
    assert(!message.includes("in vain"), `${name} only waited:\n${message}`);
  }
}

async function proveRebuild(dir: string, stem: string): Promise<void> {
  const files = await freshCopy(dir);
  const patch = `tests/exercises/${stem}.patch`;
  const header = (await Deno.readTextFile(`${dir}/${patch}`))
    .split(/^diff --git /m)[0] ?? "";
  const listed = [...header.matchAll(/^- (.+)$/gm)].map((match) => match[1]);
  assert(listed.length > 0, `${patch} lists no test that goes red`);
  await succeed("git", ["apply", patch], dir);
  await check(dir);
  const lessons = files.filter((file) => LESSONS.test(file));
  const { failed, ignored } = await runTests(dir, lessons);
  assertSpeaks(failed);
  // without tmux, say, a test cannot go red
  const expected = listed.filter((name) => name && !ignored.has(name));
  assertEquals([...failed.keys()].sort(), expected.sort(), `red: ${patch}`);
}

async function proveBeyond(dir: string, stem: string): Promise<void> {
  const files = await freshCopy(dir);
  const spec = `tests/exercises/${stem}.ts`;
  const before = await runTests(dir, [spec]);
  assert(before.failed.size > 0, `${spec} passes before anything is built`);
  assertSpeaks(before.failed);
  await succeed("git", ["apply", `tests/exercises/${stem}.patch`], dir);
  await check(dir);
  const lessons = files.filter((file) => LESSONS.test(file));
  const after = await runTests(dir, [spec, ...lessons]);
  assertEquals([...after.failed], [], "with the solution");
}

const folder = new URL("exercises/", import.meta.url);
const names = allowed
  ? [...Deno.readDirSync(folder)].map((entry) => entry.name).sort()
  : [];
const stems = [...new Set(names.map((name) => name.replace(/\.\w+$/, "")))];

Deno.test({
  name: "exercises: there is no other file, and enough of each kind",
  ignore: !allowed,
  fn() {
    for (const name of names) assert(/^\d\d_\w+\.(ts|patch)$/.test(name), name);
    const beyond = stems.filter((stem) => names.includes(`${stem}.ts`));
    for (const stem of stems) {
      assert(names.includes(`${stem}.patch`), `${stem} has no solution`);
    }
    assert(beyond.length >= 5, "five go beyond the program");
    assert(stems.length - beyond.length >= 8, "eight rebuild it");
  },
});

/** A copy lives here; also the next one, so that Deno knows most of its types. */
const work = allowed ? await Deno.makeTempDir({ prefix: "exercises-" }) : "";
for (const stem of stems) {
  const isBeyond = names.includes(`${stem}.ts`);
  Deno.test(`exercises: ${stem} ${isBeyond ? "goes beyond" : "rebuilds"}`, () =>
    (isBeyond ? proveBeyond : proveRebuild)(`${work}/chat`, stem));
}
Deno.test.afterAll(async () => {
  if (allowed) await Deno.remove(work, { recursive: true });
});
if (!allowed) {
  Deno.test.ignore("exercises: all are as they say (needs -A)", () => {});
}
