/**
 * Lesson 14: a terminal is a stream of bytes, too.
 *
 * What you see is the sum of all bytes written so far: letters, and orders such
 * as 'up one row' and 'clear to the end', which begin with ESC. Whoever draws a
 * line anew must know where it is, so how wide each letter is (漢 takes two
 * columns) and how wide the window is now. What somebody pastes must not cost a
 * look at the whole line for each letter. And what comes from a server must
 * give no orders, take no time, and not look like what it is not.
 *
 * Try: in `#draw` of client.ts replace `rows` by 0; then type a long line in a
 * window that is 30 columns wide. In `type` let each key go to readline by
 * itself; then paste a long text.
 */

import { assert, assertEquals } from "@std/assert";
import { type Person, TestServer, texts, within } from "./helpers.ts";
import { FakeServer } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

/** Nobody minds this on a busy machine, and what is wrong takes far longer. */
const FAST_MS = 3_000;

testTerminal("screen: mine is exactly as wide as the window", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice", {
    columns: 30,
  });
  const bob = await server.join("bob");
  const mine = "You: " + "x".repeat(25);
  await alice.type("x".repeat(25));
  await alice.endsWith(mine);
  await bob.says("Hi!");
  await alice.endsWith("📨 bob: Hi!", mine);
  await alice.hasCursorAt(0, -1);
  await alice.type("y");
  await alice.endsWith("📨 bob: Hi!", mine, "y");
});

testTerminal("screen: some letters are two columns wide", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice", {
    columns: 30,
  });
  const bob = await server.join("bob");
  // a wide letter does not fit into the last column, nor into half of it
  await alice.type("x".repeat(24) + "漢字🎉".repeat(7));
  const mine = [
    "You: " + "x".repeat(24),
    "漢字🎉漢字🎉漢字🎉漢字🎉漢字🎉",
    "漢字🎉漢字🎉",
  ];
  await alice.endsWith(texts.joined("bob"), ...mine);
  await bob.says("Hi!");
  await alice.endsWith(texts.joined("bob"), "📨 bob: Hi!", ...mine);
  await alice.press("Left");
  await alice.hasCursorAt(10);
  await bob.says("Ho!");
  await alice.endsWith("📨 bob: Hi!", "📨 bob: Ho!", ...mine);
  await alice.hasCursorAt(10);
});

testTerminal("screen: a window narrower or wider leaves no ghost", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  let mine = "You: " + "0123456789".repeat(11);
  await alice.type("0123456789".repeat(11));
  await alice.hasCursorAt(mine.length % 80);
  for (const columns of [50, 100, 60]) {
    await alice.resize(columns);
    await alice.type("+");
    mine += "+";
    await alice.hasCursorAt(mine.length % columns);
    await bob.says(`${columns} columns`);
    const rows = mine.match(new RegExp(`.{1,${columns}}`, "g"))!;
    await alice.endsWith(`📨 bob: ${columns} columns`, ...rows);
    await alice.hasCursorAt(mine.length % columns);
  }
  await alice.press("C-u");
  await alice.endsWith(
    texts.joined("bob"),
    "📨 bob: 50 columns",
    "📨 bob: 100 columns",
    "📨 bob: 60 columns",
    "You:",
  );
});

testTerminal("screen: 5,000 letters can be pasted, then Ctrl+C", async () => {
  await using server = new TestServer();
  for (const columns of [80, 30]) {
    await using alice = await Terminal.join(server.port, "alice", { columns });
    const text = "x".repeat(4_993) + "THE END";
    const pasting = alice.paste(text).then(() => alice.shows("THE END"));
    await within(FAST_MS, pasting, "alice does not see what she has pasted");
    await alice.paste(text); // this time she does not wait
    await alice.press("C-c");
    await within(FAST_MS, alice.ends(0), "Ctrl+C does nothing after a paste");
  }
});

testTerminal("screen: a paste of many lines is as fast", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  await alice.shows(texts.joined("bob"));
  const lines = Array.from({ length: 100 }, (_, n) => `${n} ${"x".repeat(50)}`);
  await alice.paste(lines.join("\n") + "\nhalf\ttyped");
  const said = lines.map((line) => `alice: ${line}`);
  await within(FAST_MS, bob.hears(...said), "bob hears nothing of the paste");
  await alice.endsWith(`You: ${lines.at(-1)}`, "You: half typed");
});

testTerminal("screen: a tab is a blank, also on the way", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  await alice.type("a\tb\r");
  await bob.hears("alice: a b");
  await alice.endsWith("You: a b", "You:");
});

testTerminal("screen: each name has a colour, but for NO_COLOR", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  await using carol = await Terminal.join(server.port, "carol", {
    env: "NO_COLOR=1",
  });
  const [bob, dave] = await server.joinAll("bob", "dave");
  await bob.says("1");
  await dave.hears("bob: 1");
  await dave.says("2");
  await bob.hears("dave: 2");
  await bob.says("3");
  await alice.endsWith("📨 bob: 1", "📨 dave: 2", "📨 bob: 3", "You:");
  await carol.endsWith("📨 bob: 1", "📨 dave: 2", "📨 bob: 3", "You:");

  const colors = (await alice.rows("-e")).slice(-4, -1)
    // deno-lint-ignore no-control-regex
    .map((row) => /\x1b\[(\d+)m(bob|dave)/.exec(row)?.[1]);
  assert(colors.every(Boolean), `no colour in ${colors}`);
  assertEquals(colors[0], colors[2], "bob's colour, first and later:");
  assert(colors[0] !== colors[1], "bob and dave have the same colour");
  const plain = (await carol.rows("-e")).join("\n");
  assert(!plain.includes("\x1b"), `colours in spite of NO_COLOR:\n${plain}`);
});

/** A server of ours, and alice's client on it. */
async function meet(server: FakeServer): Promise<[Terminal, Person]> {
  const alice = await Terminal.open(client(server.port));
  return [alice, await server.accept()];
}

testTerminal("screen: a hostile server gives no orders to it", async () => {
  using server = new FakeServer();
  const [terminal, connection] = await meet(server);
  await using alice = terminal;
  const evil = "\x1b[2J\x1b[H\x1b]0;title\x07a\rb\x9b31mc\x1b[8md";
  await connection.says(`evil: ${evil}`, "evil: done");
  await alice.endsWith("📨 evil: abcd", "📨 evil: done", "Name:");
  await alice.shows("Connected!"); // so nothing was cleared
});

testTerminal("screen: a hostile server does not keep me busy", async () => {
  using server = new FakeServer();
  const [terminal, connection] = await meet(server);
  await using alice = terminal;
  await alice.endsWith("Name:");
  const sequence = "\x1b" + ";#".repeat(30_000);
  const marks = "e" + "\u0301".repeat(32_000) + ": hello";
  for (let n = 0; n < 5; n++) await connection.says(sequence, marks);
  await connection.says("evil: done");
  const ending = alice.shows("📨 evil: done")
    .then(() => alice.press("C-c")).then(() => alice.ends(0));
  await within(FAST_MS, ending, "Ctrl+C does nothing while the server talks");
});

testTerminal("screen: a gap makes no announcement of a message", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  for (const blank of [" ", "\u2800", " \u200b", "\u3164"]) {
    const gap = blank.repeat(70 / blank.length);
    await bob.says(`hi${gap}[SYSTEM] carol left the chat!`);
    await alice.endsWith("📨 bob: hi    [SYSTEM] carol left the chat!", "You:");
    await bob.says("next");
    await alice.endsWith("📨 bob: next", "You:");
  }
});

testTerminal(
  "screen: after a paste of some rows the keys edit it",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", {
      columns: 30,
    });
    await alice.paste("x".repeat(60));
    await alice.press("Home", "a");
    const mine = ["You: a" + "x".repeat(24), "x".repeat(30), "x".repeat(6)];
    await alice.endsWith(
      "Type messages and press Enter.",
      " Type 'quit' to exit.",
      ...mine,
    );
    await alice.press("C-k");
    await alice.endsWith(" Type 'quit' to exit.", "You: a");
  },
);
