/**
 * Lesson 13: two want to write on one screen.
 *
 * A plain terminal edits and shows what you type by itself, and whatever comes
 * in meanwhile is written into the middle of it. In raw mode it hands over each
 * key and shows nothing. Then we must draw the line ourselves, anew below each
 * line that comes in, and end raw mode whatever happens, or the shell that
 * follows cannot be used.
 *
 * These tests look at the screen of a real terminal, tmux.
 *
 * Try: join with `nc 127.0.0.1 9999` and type half a line; then somebody else
 * says something. Without nc: `deno run --allow-net client.ts | cat`.
 */

import { assertEquals } from "@std/assert";
import { TestServer, texts } from "./helpers.ts";
import { FakeServer, Server } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const HINT = "Type messages and press Enter. Type 'quit' to exit.";

testTerminal("terminal: a line that comes in does not tear mine", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  await alice.type("hello world");
  await alice.press("Left", "Left", "Left");
  await alice.hasCursorAt("You: hello wo".length);
  await bob.says("Hi there!");
  await alice.endsWith(
    texts.joined("bob"),
    "📨 bob: Hi there!",
    "You: hello world",
  );
  await alice.hasCursorAt("You: hello wo".length);
  await alice.type("o");
  await alice.press("Enter");
  await alice.endsWith("📨 bob: Hi there!", "You: hello woorld", "You:");
  await bob.hears("alice: hello woorld");
});

testTerminal("terminal: mine stays whole when it has three rows", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice", {
    columns: 30,
  });
  const bob = await server.join("bob");
  await alice.type("x".repeat(60));
  await alice.press("Left", "Left");
  await alice.hasCursorAt(3);
  await bob.says("Hi!");
  const mine = ["You: " + "x".repeat(25), "x".repeat(30), "xxxxx"];
  await alice.endsWith(texts.joined("bob"), "📨 bob: Hi!", ...mine);
  await alice.hasCursorAt(3);
  await alice.press("Home");
  await alice.hasCursorAt(5, 2);
  await bob.says("Ho!");
  await alice.endsWith("📨 bob: Hi!", "📨 bob: Ho!", ...mine);
  await alice.hasCursorAt(5, 2);
});

testTerminal("terminal: a thousand lines leave mine as it was", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  await alice.type("half typed");
  await alice.endsWith("You: half typed");
  const lines = Array.from({ length: 1_000 }, (_, n) => `line ${n}`);
  await bob.says(...lines);
  await alice.endsWith("📨 bob: line 999", "You: half typed");
  await alice.hasCursorAt("You: half typed".length);
  const all = await alice.rows("-S", "-");
  assertEquals(
    all.slice(all.indexOf(texts.joined("bob")) + 1),
    [...lines.map((line) => `📨 bob: ${line}`), "You: half typed"],
    "all that alice's terminal has shown since bob came:",
  );
});

testTerminal("terminal: the keys edit the line as in any shell", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const steps: [keys: string[], line: string, column: number][] = [
    [["b", "c", "d"], "bcd", 3],
    [["Home", "a"], "abcd", 1],
    [["End", "e"], "abcde", 5],
    [["C-a", "Right", "BSpace"], "bcde", 0],
    [["C-e", "Left", "C-k"], "bcd", 3],
    [["Space", "e", "f", "C-w"], "bcd", 4],
    [["C-u"], "", 0],
  ];
  for (const [keys, line, column] of steps) {
    await alice.press(...keys);
    await alice.endsWith(`You: ${line}`.trimEnd());
    await alice.hasCursorAt("You: ".length + column);
  }
});

testTerminal("terminal: arrow up offers what I said, not my name", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.open(client(server.port));
  await alice.endsWith("Name:");
  await alice.type("alice\r");
  await alice.endsWith("You:");
  await alice.type("one\rtwo\r");
  await alice.endsWith("You: one", "You: two", "You:");
  for (const line of ["You: two", "You: one", "You:"]) {
    await alice.press("Up");
    await alice.endsWith("You: two", line);
  }
  await alice.press("Down");
  await alice.endsWith("You: two", "You: one");
});

testTerminal("terminal: the hint comes when my name is accepted", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.open(client(server.port));
  await alice.shows("Enter your name"); // the prompt is there before it
  await alice.endsWith("Name:");
  const [, , connected, question] = await alice.rows();
  assertEquals(connected?.slice(-12), "✅ Connected!", "the third row");
  assertEquals(question?.slice(0, 24), "[SYSTEM] Enter your name");
  await alice.type("SYSTEM\r");
  await alice.shows("Enter another name:");
  await alice.endsWith("Name:");
  await alice.type("alice\r");
  await alice.endsWith(texts.welcome("alice", "alice"), HINT, "You:");
});

testTerminal("terminal: with --name there is no question", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  await alice.endsWith(texts.welcome("alice", "alice"), HINT, "You:");
  const rows = await alice.rows();
  assertEquals(rows.length, 6, `nothing else, please:\n${rows.join("\n")}`);
});

testTerminal("terminal: what I typed ahead becomes no name", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  await using newcomer = await Terminal.open(client(server.port));
  await newcomer.endsWith("Name:");
  await newcomer.paste("alice\nhello\nsecond line\n");
  await newcomer.shows("The name alice is taken.", "Not sent: second line");
  await newcomer.endsWith("Name:");
  await newcomer.type("bob\r");
  await alice.hears(texts.joined("bob"));
  await newcomer.type("hi\r");
  await alice.hears("bob: hi");
});

for (const quit of ["quit", "/quit"]) {
  testTerminal(`terminal: pasted lines are said; ${quit} leaves`, async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.shows(texts.joined("bob"));
    await alice.paste(`one\ntwo\n/shrug\n${quit}\nnot this\n`);
    await bob.hears("alice: one", "alice: two", "alice: /shrug");
    await bob.hears(texts.left("alice"));
    await alice.ends(0);
    await alice.shows(`You: one\nYou: two\nYou: /shrug\nYou: ${quit}\n`);
  });
}

testTerminal("terminal: a message too long comes back to me", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  const bob = await server.join("bob");
  await alice.endsWith(texts.joined("bob"), "You:");
  await alice.paste("y".repeat(1_001));
  await alice.hasCursorAt((5 + 1_001) % 80);
  await alice.press("Enter");
  await alice.shows(
    texts.joined("bob") +
      "\nA message has at most 1,000 characters: it was not sent.\nYou: yyyy",
  );
  await alice.press("BSpace", "Enter");
  await bob.hears("alice: " + "y".repeat(1_000));
});

for (const key of ["C-c", "C-d"]) {
  testTerminal(`terminal: ${key} says goodbye, restores all`, async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    await alice.press("C-z"); // does nothing: we may send no signal
    await alice.press(key);
    await alice.ends(0);
    await alice.shows("👋 Goodbye!\n");
  });
}

testTerminal("terminal: a server that is killed leaves my line", async () => {
  await using server = await Server.start();
  await using alice = await Terminal.join(server.port, "alice");
  await alice.type("half typed");
  await alice.press("Left");
  await alice.hasCursorAt("You: half type".length);
  server.kill("SIGKILL");
  await alice.ends(1);
  await alice.shows("You: half typed\nThe server is gone: it ended. Check");
});

testTerminal("terminal: a server that says goodbye says it once", async () => {
  await using server = await Server.start();
  await using alice = await Terminal.join(server.port, "alice");
  await server.stop();
  await alice.ends(1);
  await alice.endsWith(HINT, texts.shutdown, "exit 1", "a sane terminal");
});

testTerminal("terminal: a server that says nothing is given up", async () => {
  using server = new FakeServer();
  await using alice = await Terminal.open(client(server.port));
  const connection = await server.accept();
  await alice.endsWith("Name:");
  await alice.type("alice\r");
  await connection.hears("alice");
  await alice.ends(1);
  await alice.shows("Name: alice\nThe server does not answer.\n");
});

for (const [signal, code] of [["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  testTerminal(`terminal: ${signal} restores it, too`, async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    await alice.type("half typed");
    await alice.endsWith("You: half typed");
    await alice.kill(signal);
    await alice.ends(code);
    await alice.shows("You: half typed\nexit");
  });
}

testTerminal("terminal: a closed window does not send my line", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  {
    await using alice = await Terminal.join(server.port, "alice");
    await alice.type("half typed");
    await alice.endsWith("You: half typed");
  }
  await bob.hears(texts.joined("alice"), texts.left("alice"));
});
