/**
 * What README.md and tests/README.md say about the program must be what the program
 * is. Text does not notice when the code beside it changes. So these tests compare:
 * help texts, a whole session, limits, and the names of functions, files, lessons
 * and tasks.
 */

import { assert, assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import { announcements, testProgram } from "./helpers.ts";
import { Program, Server } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const ROOT = new URL("../", import.meta.url);
const README = "README.md";
const COURSE = "tests/README.md";
const SOURCES = ["protocol.ts", "server.ts", "client.ts"];

async function read(path: string): Promise<string> {
  const text = await Deno.readTextFile(new URL(path, ROOT));
  return text.replaceAll("\r\n", "\n");
}

/** The part of a document below this heading. */
function section(text: string, heading: string): string {
  const part = text.split(/^## /m).find((part) => part.startsWith(heading));
  assert(part, `There is no heading "${heading}"`);
  return part;
}

/** The blocks of text in a part of a document, without their fences. */
function blocks(text: string): string[] {
  return [...text.matchAll(/^```text\n(.*?)\n```$/gms)].map(([, it]) => it!);
}

// ------------------------------------------------------------ what programs show

testProgram("readme: the help texts are those of the programs", async () => {
  const readme = await read(README);
  for (const file of ["server.ts", "client.ts"]) {
    await using program = new Program([file, "--help"], { input: "" });
    const { stdout } = await program.ends();
    assert(
      readme.includes(stdout.trim()),
      `README.md does not show this help:\n${stdout}`,
    );
  }
});

testTerminal(
  "readme: server, Alice and Bob see the session as it is shown",
  async () => {
    const readme = await read(README);
    await using server = await Server.start();
    await using alice = await Terminal.open(client(server.port));
    await enterName(alice, "alice");
    await using bob = await Terminal.open(client(server.port));
    await enterName(bob, "bob");
    await alice.shows("bob joined the chat!");
    await alice.type("Hello everyone!\r");
    await bob.shows("alice: Hello everyone!");
    await bob.type("Hi alice!\r");
    await alice.shows("bob: Hi alice!");
    await bob.type("quit\r");
    await alice.shows("bob left the chat!");
    await bob.ends(0);
    const { stdout } = await server.stop();
    await alice.ends(1);

    const alicesRows = await alice.rows();
    const bobsRows = await bob.rows();
    const ports = [
      server.port,
      suggestedPort(alicesRows),
      suggestedPort(bobsRows),
    ];
    const seen = [
      stdout.trimEnd(),
      rowsOfClient(alicesRows),
      rowsOfClient(bobsRows),
    ];
    const shown = blocks(section(readme, "A session"));
    const [serverShown = "", aliceShown = "", bobShown = ""] = shown;
    const people = ["the server", "Alice", "Bob"];
    for (const [n, text] of [serverShown, aliceShown, bobShown].entries()) {
      assertEquals(
        generalize(seen[n]!, ports),
        generalize(text, [9999, 50000, 50001]),
        `README.md does not show what ${people[n]} sees`,
      );
    }
  },
);

async function enterName(terminal: Terminal, name: string): Promise<void> {
  await terminal.shows("press Enter to be User_", "Name:");
  await terminal.type(name + "\r");
  await terminal.shows("You:");
}

/** The port that the server sees for a client, from its question for a name. */
function suggestedPort(rows: string[]): number {
  return Number(/User_(\d+)/.exec(rows.join("\n"))?.[1]);
}

/** What the client itself wrote: without the number of its process and its exit. */
function rowsOfClient(rows: string[]): string {
  const isOurs = /^(pid \d+|exit \d+|a sane terminal)$/;
  return rows.filter((row) => !isOurs.test(row)).join("\n");
}

/** Replaces what differs from session to session: times and ports. */
function generalize(text: string, ports: number[]): string {
  let result = text.replace(/^\[\d\d:\d\d:\d\d\] /gm, "[time] ");
  for (const [n, port] of ports.entries()) {
    result = result.replaceAll(`${port}`, `PORT_${n}`);
  }
  return result;
}

testProgram(
  "readme: each announcement that is shown is one that the server sends",
  async () => {
    const name = "[\\w.-]+";
    const patterns = [
      announcements.enterName(0).replace("_0", "_\\d+"),
      `[SYSTEM] The name ${name} is taken. Enter another name:`,
      `[SYSTEM] Welcome, ${name}! Active users \\(\\d+\\): ${name}(, ${name})*`,
      announcements.joined(name),
      announcements.left(name),
      announcements.shutdown,
    ].map((text) => new RegExp(`^\\${text}$`));
    let count = 0;
    for (const file of [README, COURSE]) {
      for (const line of (await read(file)).match(/^\[SYSTEM\] .+$/gm) ?? []) {
        count++;
        const isReal = patterns.some((pattern) => pattern.test(line));
        assert(isReal, `${file} shows a line that no server sends: ${line}`);
      }
    }
    assert(count >= 10, "The documents show no session any more");
  },
);

// ------------------------------------------------------------- what is in the code

testProgram("readme: the limits are those of the program", async () => {
  const limits = section(await read(README), "Limits");
  const source = await read("protocol.ts") + await read("server.ts");
  const claims: Record<string, string> = {
    MAX_MESSAGE_CHARS: "messages of more than N characters",
    MAX_NAME_CHARS: "names of more than N,",
    MAX_LINE_LENGTH: "lines of more than N,",
    nameTimeoutMs: "clients without a name after N s",
    maxClients: "connections after the first N ",
    stallTimeoutMs: "for N s while a sender waits",
    MAX_LOG_SIZE: "if the log holds more than N characters",
    MAX_UNDELIVERED: "senders with more than N undelivered",
    CROWDED_LOG_SIZE: "if the log holds over N)",
    MAX_LINES_PER_TURN: "clients after N lines in one turn",
    MAX_LEAVING: "while N connections are ending",
    DRAIN_TIMEOUT_MS: "has not received after N s",
    MAX_UNPRINTED_LINES: "while N lines wait",
  };
  for (const [constant, claim] of Object.entries(claims)) {
    const value = valueOf(constant, source);
    const isTime = /ms$/i.test(constant);
    const number = (isTime ? value / 1_000 : value).toLocaleString("en-US");
    const expected = claim.replace("N", number);
    assert(limits.includes(expected), `README.md does not say: ${expected}`);
  }
});

/** The value of a constant that is written as a product, such as `64 * 1024`. */
function valueOf(constant: string, source: string): number {
  const pattern = new RegExp(
    `\\b${constant}(?: =|:) ([\\d_]+(?: \\* [\\d_]+)*)`,
  );
  const product = pattern.exec(source)?.[1];
  assert(product, `The program has no constant ${constant}`);
  let value = 1;
  for (const factor of product.split(" * ")) {
    value *= Number(factor.replaceAll("_", ""));
  }
  return value;
}

testProgram(
  "readme: each concept is in the code where the table says, and in a lesson",
  async () => {
    const concepts = section(await read(README), "Concepts");
    const rows = [...concepts.matchAll(/`(\w+\.ts):(#?\w+)` *\| `(\w+)`/g)];
    assert(rows.length > 8, "README.md has no table of concepts any more");
    for (const [, file = "", name = "", lesson = ""] of rows) {
      const pattern = new RegExp(`(^|\\W)${name}\\W`);
      assert(pattern.test(await read(file)), `There is no ${name} in ${file}`);
      await assertExists(`tests/${lesson}_test.ts`, README);
    }
  },
);

// ------------------------------------------------- files, lessons and commands

async function assertExists(path: string, document: string): Promise<void> {
  const info = await Deno.stat(new URL(path, ROOT)).catch(() => undefined);
  assert(info, `${document} names ${path}, which does not exist`);
}

testProgram(
  "readme: tests/README.md lists every lesson and every exercise, and no other",
  async () => {
    const stems = new Set<string>();
    for (const folder of ["tests/", "tests/exercises/"]) {
      for await (const { name } of Deno.readDir(new URL(folder, ROOT))) {
        const stem = /^(\d\d_[a-z_]+?)(_test\.ts|\.ts|\.diff)$/.exec(name)?.[1];
        if (stem) stems.add(stem);
      }
    }
    const rows = (await read(COURSE)).matchAll(/^\| `(\d\d_\w+)`/gm);
    const listed = [...rows].map(([, stem]) => stem);
    const complaint = "tests/README.md does not list the lessons and exercises";
    assertEquals(listed, [...stems].sort(), complaint);
  },
);

testProgram("readme: every file that the documents name exists", async () => {
  for (const file of [README, COURSE]) {
    const text = await read(file);
    const links = [...text.matchAll(/\]\((?!https:)([\w./]+)\)/g)];
    for (const [, path = ""] of links) {
      await assertExists(new URL(path, new URL(file, ROOT)).href, file);
    }
    for (const [path] of text.matchAll(/\btests\/[a-z0-9_/]+(\.\w+)?/g)) {
      const isMadeByTool = path.includes("steps/unpacked");
      if (!isMadeByTool) await assertExists(path, file);
    }
  }
  const tree = section(await read(README), "The project");
  for (const file of SOURCES) {
    assert(tree.includes(`${file} `), `The tree has no ${file}`);
  }
});

testProgram("readme: every task that the documents name exists", async () => {
  for (const file of [README, COURSE]) {
    for (
      const [, task = ""] of (await read(file)).matchAll(/deno task (\w+)/g)
    ) {
      assert(
        task in config.tasks,
        `${file} names deno task ${task}: no such task`,
      );
    }
  }
});
