/**
 * Prose drifts from code unless something holds it: what README.md quotes of
 * the program must be what the program says.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  GOODBYE_MS,
  MAX_LINE_BYTES,
  MAX_MESSAGE_CHARS,
  MAX_NAME_CHARS,
  MAX_OUTBOX_BYTES,
  NAME_TIMEOUT_MS,
  STALL_MS,
  texts,
} from "../protocol.ts";

const ROOT = new URL("../", import.meta.url);
const ignore = (["read", "run"] as const).some((name) =>
  Deno.permissions.querySync({ name }).state !== "granted"
);

function test(name: string, fn: (readme: string) => void | Promise<void>) {
  Deno.test(`README: ${name}`, { ignore }, async () => {
    const readme = await Deno.readTextFile(new URL("README.md", ROOT));
    // the formatter pads the cells of tables
    await fn(readme.replace(/^\|.*$/gm, (row) => row.replace(/ +/g, " ")));
  });
}

test("the help texts are those of the programs", async (readme) => {
  for (const program of ["server.ts", "client.ts"]) {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", program, "--help"],
      cwd: ROOT,
    }).output();
    const help = new TextDecoder().decode(stdout).trim();
    assertStringIncludes(readme, help, `the help of ${program}`);
  }
});

test("every sentence of the server in it is one that the server says", (readme) => {
  const name = "[\\w.-]+";
  const says = [
    texts.enterName(0).replace("_0", "_\\d+"),
    texts.nameRefused(texts.nameTaken(name)),
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

test("the limits are those of protocol.ts", (readme) => {
  const count = (n: number) => n.toLocaleString("en-US");
  const rows = [
    ["a message", `${count(MAX_MESSAGE_CHARS)} characters`],
    ["a line without end", `${MAX_LINE_BYTES / 1024} KiB`],
    ["a name", `${MAX_NAME_CHARS} characters`],
    ["time to give a name", `${NAME_TIMEOUT_MS / 1000} s`],
    ["what waits for one reader", `${MAX_OUTBOX_BYTES / 1024 / 1024} MiB`],
    ["a reader over that limit takes nothing", `${STALL_MS / 1000} s`],
    ["what is on its way to somebody who leaves", `${GOODBYE_MS / 1000} s`],
  ];
  for (const [limit, value] of rows) {
    assertStringIncludes(readme, `| ${limit} | ${value} |`);
  }
});

test("it lists every lesson and every exercise, and no other", async (readme) => {
  const files: string[] = [];
  for (const folder of ["tests/", "tests/exercises/"]) {
    for await (const { name } of Deno.readDir(new URL(folder, ROOT))) {
      if (/^\d\d_/.test(name)) files.push(name);
    }
  }
  const stems = files.map((name) => name.replace(/\.\w+$/, ""));
  const listed = readme.match(/^\| `\d\d_\w+/gm) ?? [];
  assertEquals(
    listed.map((row) => row.slice(3)).sort(),
    [...new Set(stems)].sort(),
  );
});

test("every file that it names is there", async (readme) => {
  const paths = [
    ...readme.matchAll(/\]\(([\w./]+)\)/g),
    ...readme.matchAll(/(tests\/[\w./]+\.(?:ts|patch|svg))/g),
  ];
  for (const [, path = ""] of paths) {
    const { isFile } = await Deno.stat(new URL(path, ROOT));
    assert(isFile, path);
  }
});
