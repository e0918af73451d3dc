/**
 * Lesson 17: the terminal.
 *
 * Two write on one screen: the person who types, and the chat. A terminal usually
 * edits and shows the line that is being typed by itself, and passes it on at Enter.
 * Whatever comes in meanwhile is written into the middle of that line. In raw mode a
 * terminal passes on each key and shows nothing. Then the program has to draw the
 * line, to draw it again below each line that comes in, and to end raw mode, however
 * it ends: otherwise the shell that follows cannot be used. Editors, shells, `less`
 * and `ssh` do the same.
 *
 * These tests look at the screen of a real terminal, tmux.
 */

import { assert, assertEquals } from "@std/assert";
import { announcements, assertLine, TestServer } from "./helpers.ts";
import { FakeServer, Server } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const HINT = "Type messages and press Enter. Type 'quit' to exit.";
const WELCOME = announcements.welcome("alice", "alice");
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";

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

testTerminal(
  "terminal: a window that is closed does not send the line that is being typed",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    {
      await using alice = await Terminal.join(server.port, "alice");
      await alice.type("half typed");
      await alice.endsWith("You: half typed");
    }
    await bob.receives(announcements.joined("alice"));
    await bob.receives(announcements.left("alice"));
  },
);

// ------------------------------------------------------- lines that come in

testTerminal(
  "terminal: a line that comes in stands above the line that is being typed",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    await alice.type("hello world");
    await alice.press("Left", "Left", "Left");
    await alice.hasCursorAt("You: hello wo".length);
    const bob = await server.join("bob");
    const above = announcements.joined("bob");
    await alice.endsWith(above, "You: hello world");
    await alice.hasCursorAt("You: hello wo".length);
    await alice.type("o");
    await alice.press("Enter");
    await alice.endsWith(above, "You: hello woorld", "You:");
    await bob.receives("alice: hello woorld");
  },
);

testTerminal(
  "terminal: a thousand lines that come in leave the line that is being typed as it was",
  async () => {
    using server = new FakeServer();
    await using alice = await Terminal.open(
      client(server.port, "--name", "alice"),
    );
    const connection = await server.accept();
    await connection.receives("alice");
    await connection.sends(WELCOME);
    await alice.endsWith("You:");
    await alice.type("half typed");
    await alice.endsWith("You: half typed");
    const lines = Array.from({ length: 1_000 }, (_, n) => `[SYSTEM] line ${n}`);
    await connection.sends(...lines);
    await alice.endsWith("[SYSTEM] line 999", "You: half typed");
    await alice.hasCursorAt("You: half typed".length);
    const rows = await alice.rows("-S", "-");
    assertEquals(
      rows.slice(rows.indexOf(lines[0]!)),
      [...lines, "You: half typed"],
      "what alice's terminal has shown since the first line:",
    );
  },
);

testTerminal(
  "terminal: a line of three rows stays whole when lines come in",
  async () => {
    await using server = new TestServer();
    const window = { columns: 30 };
    await using alice = await Terminal.join(server.port, "alice", window);
    await alice.type("x".repeat(60));
    await alice.press("Left", "Left");
    await alice.hasCursorAt(3);
    await server.join("bob");
    const typed = ["You: " + "x".repeat(25), "x".repeat(30), "xxxxx"];
    const above = [announcements.joined("bob")];
    await alice.endsWith(...above, ...typed);
    await alice.hasCursorAt(3);
    await alice.press("Home");
    await alice.hasCursorAt(5, 2);
    await server.join("eve");
    above.push(announcements.joined("eve"));
    await alice.endsWith(...above, ...typed);
    await alice.hasCursorAt(5, 2);
  },
);

testTerminal(
  "terminal: a line that is exactly as wide as the window stays whole",
  async () => {
    await using server = new TestServer();
    const window = { columns: 30 };
    await using alice = await Terminal.join(server.port, "alice", window);
    const typed = "You: " + "x".repeat(25);
    await alice.type("x".repeat(25));
    await alice.endsWith(typed);
    await server.join("bob");
    await alice.endsWith(announcements.joined("bob"), typed);
    await alice.hasCursorAt(0, -1);
    await alice.type("y");
    await alice.endsWith(announcements.joined("bob"), typed, "y");
  },
);

// ------------------------------------------------------- a name, then messages

testTerminal(
  "terminal: the prompt asks for a name until one is accepted, and then comes the hint",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    await alice.shows("Enter your name"); // The prompt is there before it.
    await alice.endsWith("Name:");
    const [, , connected, question] = await alice.rows();
    assertEquals(connected?.slice(-12), "✅ Connected!", "the third row");
    assertEquals(question?.slice(0, 24), "[SYSTEM] Enter your name");
    await alice.type("SYSTEM\r");
    await alice.shows("Enter another name:");
    await alice.endsWith("Name:");
    await alice.type("alice\r");
    await alice.endsWith(WELCOME, HINT, "You:");
  },
);

testTerminal(
  "terminal: with --name there is no question, and quit is a name like another",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "quit");
    await alice.endsWith(announcements.welcome("quit", "quit"), HINT, "You:");
    const rows = await alice.rows();
    assertEquals(rows.length, 6, `nothing else, please:\n${rows.join("\n")}`);
    using full = new FakeServer();
    await using bob = await Terminal.open(client(full.port, "--name", "bob"));
    const connection = await full.accept();
    await connection.sends(announcements.chatFull);
    connection.closes();
    await bob.shows(announcements.chatFull);
  },
);

testTerminal(
  "terminal: arrow up brings back messages, and no names",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    await alice.endsWith("Name:");
    await alice.type("alice\r");
    await alice.endsWith("You:");
    await alice.type("one\r");
    await alice.endsWith("You: one", "You:");
    await alice.type("two\r");
    await alice.endsWith("You: one", "You: two", "You:");
    for (const line of ["You: two", "You: one", "You:"]) {
      await alice.press("Up");
      await alice.endsWith("You: two", line);
    }
    await alice.press("Down");
    await alice.endsWith("You: two", "You: one");
  },
);

// ------------------------------------------------------------- what is not sent

testTerminal(
  "terminal: what was typed ahead of a refused name is said, and becomes no name",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    await using newcomer = await Terminal.open(client(server.port));
    await newcomer.endsWith("Name:");
    await newcomer.paste("alice\nhello\nsecond line\n");
    await newcomer.shows(
      "The name alice is taken.",
      "Not sent: hello",
      "Not sent: second line",
    );
    await newcomer.endsWith("Name:");
    await newcomer.type("bob\r");
    await alice.receives(announcements.joined("bob"));
    await newcomer.type("hi\r");
    await alice.receives("bob: hi");
  },
);

testTerminal(
  "terminal: at the end, what was typed and not sent is said",
  async () => {
    using server = new FakeServer();
    await using alice = await Terminal.open(client(server.port));
    const connection = await server.accept();
    await alice.endsWith("Name:");
    await alice.type("alice\rhello\r");
    await connection.receives("alice");
    await alice.endsWith("Name: alice", "Name: hello", "Name:");
    connection.closes();
    await alice.shows("Name: alice\nName: hello\nNot sent: hello\n");
    await alice.ends(1);
    const rows = (await alice.rows()).join("\n");
    assert(!rows.includes("Not sent: alice"), `alice was sent:\n${rows}`);
  },
);

// ------------------------------------------------------------------- leaving

testTerminal(
  "terminal: a server that does not end the connection keeps nobody from leaving",
  async () => {
    using server = new FakeServer();
    await using alice = await Terminal.open(
      client(server.port, "--name", "alice"),
    );
    const connection = await server.accept();
    await connection.receives("alice");
    await connection.sends(WELCOME);
    await alice.endsWith("You:");
    await alice.press("C-c");
    await alice.shows("exit 0\na sane terminal");
  },
);

for (const key of ["C-c", "C-d"]) {
  testTerminal(
    `terminal: ${key} leaves, and what still comes is shown above Goodbye`,
    async () => {
      using server = new FakeServer();
      await using alice = await Terminal.open(
        client(server.port, "--name", "alice"),
      );
      const connection = await server.accept();
      await connection.receives("alice");
      await connection.sends(WELCOME);
      await alice.endsWith("You:");
      await alice.press("C-z"); // It does nothing.
      await alice.press(key);
      assertLine(await connection.nextLineOrEnd(), undefined, "the server");
      await connection.sends("[SYSTEM] late");
      connection.closes();
      await alice.ends(0);
      const rows = await alice.rows();
      const late = rows.indexOf("[SYSTEM] late");
      assertEquals(rows[late + 1]?.slice(-11), "👋 Goodbye!", rows.join("\n"));
    },
  );
}

testTerminal("terminal: quit at the prompt for a name leaves", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.open(client(server.port));
  await alice.endsWith("Name:");
  await alice.type("quit\r");
  await alice.ends(0);
  await alice.shows("👋 Goodbye!");
});

for (const quit of ["quit", "/quit"]) {
  testTerminal(
    `terminal: lines that are pasted are sent, up to ${quit}`,
    async () => {
      await using server = new TestServer();
      await using alice = await Terminal.join(server.port, "alice");
      const bob = await server.join("bob");
      await alice.shows(announcements.joined("bob"));
      await alice.paste(`one\ntwo\n/shrug\n${quit}\nnot this\n`);
      await bob.receives("alice: one", "alice: two", "alice: /shrug");
      await bob.receives(announcements.left("alice"));
      await alice.ends(0);
      await alice.shows(`You: one\nYou: two\nYou: /shrug\nYou: ${quit}\n`);
      const rows = (await alice.rows()).join("\n");
      assert(!rows.includes("not this"), `alice was about to leave:\n${rows}`);
    },
  );
}

testTerminal(
  "terminal: a server that is killed leaves the half-typed line on the screen",
  async () => {
    await using server = await Server.start();
    await using alice = await Terminal.join(server.port, "alice");
    await alice.type("half typed");
    await alice.press("Left");
    await alice.hasCursorAt("You: half type".length);
    server.kill("SIGKILL");
    await alice.ends(1);
    await alice.shows("You: half typed\nThe server is gone: it ended. Check");
  },
);

testTerminal(
  "terminal: a server that shuts down leaves no prompt behind, and no other explanation",
  async () => {
    await using server = await Server.start();
    await using alice = await Terminal.join(server.port, "alice");
    await server.stop();
    await alice.ends(1);
    const end = ["exit 1", "a sane terminal"];
    await alice.endsWith(HINT, announcements.shutdown, ...end);
  },
);

// ------------------------------------------------------------------- signals

for (const [signal, status] of [["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  testTerminal(
    `terminal: ${signal} ends it with exit status ${status}, and a terminal that can be used`,
    async () => {
      await using server = new TestServer();
      await using alice = await Terminal.join(server.port, "alice");
      await alice.type("half typed");
      await alice.endsWith("You: half typed");
      await alice.kill(signal);
      await alice.ends(status);
      await alice.shows("You: half typed\nexit");
    },
  );
}

testTerminal(
  "terminal: after kill -TSTP and fg the line is edited as before",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using terminal = await Terminal.open("bash --norc -i");
    const program = client(server.port, "--name", "alice");
    await terminal.type(`sh -c 'echo client $$; exec ${program}'\r`);
    await bob.receives(announcements.joined("alice"));
    await terminal.type("half");
    await terminal.endsWith("You: half");
    const rows = (await terminal.rows()).join("\n");
    Deno.kill(Number(/^client (\d+)$/m.exec(rows)?.[1]), "SIGTSTP");
    await terminal.shows("Stopped");
    await terminal.type("fg\r");
    await terminal.endsWith("You: half");
    await terminal.type(" a line");
    await terminal.press("Home", "X");
    await terminal.endsWith("You: Xhalf a line");
    await server.join("eve");
    const above = announcements.joined("eve");
    await terminal.endsWith(above, "You: Xhalf a line");
    await terminal.press("Enter");
    await terminal.endsWith(above, "You: Xhalf a line", "You:");
    await bob.receives(above, "alice: Xhalf a line");
  },
);

// -------------------------------------------------------- messages too long

testTerminal(
  "terminal: a message that is too long stays, and can be shortened",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.endsWith(announcements.joined("bob"), "You:");
    await alice.paste("y".repeat(1_001));
    await alice.hasCursorAt((5 + 1_001) % 80);
    await alice.press("Enter");
    const above = `${announcements.joined("bob")}\n${TOO_LONG}`;
    await alice.shows(`${above}\nYou: yyyy`);
    await alice.press("BSpace", "Enter");
    await bob.receives("alice: " + "y".repeat(1_000));
  },
);

testTerminal(
  "terminal: a line that is too long, typed before the name is accepted, is refused above the prompt",
  async () => {
    using server = new FakeServer();
    await using alice = await Terminal.open(client(server.port));
    const connection = await server.accept();
    await alice.endsWith("Name:");
    await alice.paste("alice\n" + "y".repeat(1_001) + "\n");
    await connection.receives("alice");
    await connection.sends(WELCOME);
    await alice.endsWith(WELCOME, HINT, TOO_LONG, "You:");
  },
);
