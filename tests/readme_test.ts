/**
 * Prose drifts from code unless something holds it: what README.md says of the
 * program must be what the program is.
 */

import { assert, assertEquals } from "@std/assert";
import { texts } from "../protocol.ts";

const ROOT = new URL("../", import.meta.url);
const MAX_WORDS = 3_000;
const missing = (["read", "run"] as const).filter((name) =>
  Deno.permissions.querySync({ name }).state !== "granted"
);
const needs = missing.length > 0 ? ` (needs --allow-${missing[0]})` : "";

const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

function test(name: string, fn: (readme: string) => void | Promise<void>) {
  const ignore = missing.length > 0;
  Deno.test({
    name: `README: ${name}${needs}`,
    ignore,
    // the formatter pads the cells of tables
    fn: async () =>
      await fn((await read("README.md")).replace(
        /^\|.*$/gm,
        (row) => row.replace(/ +/g, " "),
      )),
  });
}

test("the help texts are those of the programs", async (readme) => {
  for (const program of ["server.ts", "client.ts"]) {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", program, "--help"],
      cwd: ROOT,
    }).output();
    const help = new TextDecoder().decode(stdout).trim();
    assert(readme.includes(help), `README has not this help:\n${help}`);
  }
});

test("every sentence of the server in it is one that the server says", (readme) => {
  const name = "[\\w.-]+";
  const says = [
    texts.enterName(0).replace("_0", "_\\d+"),
    texts.nameRefused("The name \\w+ is taken."),
    texts.welcome(name, "Active users \\(\\d+\\): [\\w, .-]+?"),
    texts.joined(name),
    texts.left(name),
    texts.shutdown,
  ].map((text) => new RegExp(`^\\${text}$`));
  const quoted = readme.match(/^\[SYSTEM\] .+$/gm) ?? [];
  assert(quoted.length >= 4, "it shows a session");
  for (const line of quoted) {
    assert(says.some((pattern) => pattern.test(line)), line);
  }
});

test("the limits are those of the program", async (readme) => {
  const source = await read("protocol.ts") + await read("server.ts");
  /** A constant such as `64 * 1024` or `60_000`, in the unit asked for. */
  function limit(name: string, unit = 1): string {
    const found = new RegExp(`\\b${name}\\b[ :=]+([\\d_]+)(?: \\* ([\\d_]+))?`)
      .exec(source);
    assert(found, `there is no ${name}`);
    const [, a, b = "1"] = found;
    const plain = (digits = "") => Number(digits.replaceAll("_", ""));
    return (plain(a) * plain(b) / unit).toLocaleString("en-US");
  }
  const rows = [
    ["a message", `${limit("MAX_MESSAGE_CHARS")} characters`],
    ["a line without end", `${limit("MAX_LINE_LENGTH", 1024)} KiB`],
    ["a name", `${limit("MAX_NAME_CHARS")} characters`],
    ["time to give a name", `${limit("nameTimeoutMs", 1000)} s`],
    ["connections", `${limit("maxClients")} (\`--max-clients\`)`],
    ["connections about to close", `${limit("MAX_LEAVING")} more`],
    ["lines of all who send much, in one turn", limit("MAX_LINES_A_TURN")],
    [
      "what one has caused and not everybody has got",
      `${limit("MAX_DEBT", 1024)} KiB`,
    ],
    [
      "a reader takes nothing while somebody waits",
      `${limit("stallMs", 1000)} s`,
    ],
    ["a reader is behind", `${limit("MAX_BEHIND")} entries`],
    [
      "what is on its way to somebody who leaves",
      `${limit("GOODBYE_MS", 1000)} s`,
    ],
    [
      "what the server prints and nobody takes",
      `${limit("MAX_UNPRINTED", 1024 * 1024)} MiB`,
    ],
  ];
  for (const [what, value] of rows) {
    const row = `| ${what} | ${value} |`;
    assert(readme.includes(row), `README has no row ${row}`);
  }
});

test("it lists every lesson and every exercise, and no other", async (readme) => {
  const stems = new Set<string>();
  for (const folder of ["tests/", "tests/exercises/"]) {
    for await (const { name } of Deno.readDir(new URL(folder, ROOT))) {
      const stem = /^\d\d_[a-z_]+?(?=_test\.ts|\.ts|\.diff)/.exec(name);
      if (stem) stems.add(stem[0]);
    }
  }
  const listed = readme.match(/^\| `\d\d_\w+/gm) ?? [];
  assertEquals(listed.map((row) => row.slice(3)), [...stems].sort());
});

test("every file that it names is there, and as long as it says", async (readme) => {
  const paths = [
    ...readme.matchAll(/\]\(([\w./]+)\)/g),
    ...readme.matchAll(/(tests\/[\w./]+\.\w+)/g),
  ];
  for (const [, path = ""] of paths) {
    const { isFile } = await Deno.stat(new URL(path, ROOT));
    assert(isFile, path);
  }
  const files = ["protocol.ts", "server.ts", "client.ts"];
  for (const file of files) {
    const lines = (await read(file)).split("\n").length - 1;
    const [, said = ""] =
      new RegExp(`\\(${file}\\)[^(]*\\((\\d+)`).exec(readme) ?? [];
    assertEquals(Number(said), lines, `lines of ${file}, as README says`);
  }
});

test(`it has at most ${MAX_WORDS} words`, async () => {
  const words = (await read("README.md")).trim().split(/\s+/).length;
  assert(words <= MAX_WORDS, `README.md has ${words} words`);
});

// The last line of a plain `deno test`, where it cannot scroll away.
if (missing.length > 0) {
  const hint = "most tests need the network, or programs: `deno task test`";
  Deno.test.ignore(`IGNORED: ${hint} runs them all`, () => {});
}
