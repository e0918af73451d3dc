/**
 * Lesson 17: the terminal.
 *
 * The user and the chat write on the same screen. Usually, the terminal itself edits
 * and shows the line that the user types, and passes it on when Enter is pressed.
 * This is its canonical mode. A chat line that arrives before Enter mixes with the typed text.
 *
 * In raw mode, a terminal passes on each key at once, and shows nothing. So the
 * program has to draw the typed line, and to draw it again below each line that
 * arrives. It also has to leave raw mode before it exits, even after an error or a
 * signal. Otherwise the shell might not show what users type next. Shells, editors, `less`
 * and `ssh` use raw mode or a mode like it.
 *
 * The tests press keys in a real terminal, tmux, and look at its screen.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { announcements, assertLine, inTime, TestServer } from "./helpers.ts";
import { FakeServer, Server } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const HINT = "Type messages and press Enter. Type 'quit' to exit.";
const WELCOME = announcements.welcome("alice", "alice");
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";

testTerminal("terminal: keys edit the typed line as in a shell", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "alice");
  // These are tmux's names of keys: BSpace is Backspace, C-a is Ctrl+A.
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
  "terminal: when the window is closed, the client does not send the half-typed line",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    {
      await using alice = await Terminal.join(server.port, "alice");
      await alice.type("half typed");
      await alice.endsWith("You: half typed");
    }
    // The block has closed alice's window. Bob receives no message before "left".
    await bob.receives(announcements.joined("alice"));
    await bob.receives(announcements.left("alice"));
  },
);

// ------------------------------------------------------- lines that arrive

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
  "terminal: a thousand lines that arrive together are all shown above the half-typed line",
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
  "terminal: a typed line of three rows stays complete when other lines arrive",
  async () => {
    await using server = new TestServer();
    const window = { columns: 30 };
    await using alice = await Terminal.join(server.port, "alice", window);
    await alice.type("x".repeat(60));
    await alice.press("Left", "Left");
    // The third row has five characters. The cursor has gone back by two.
    await alice.hasCursorAt(3);
    await server.join("bob");
    const typed = ["You: " + "x".repeat(25), "x".repeat(30), "xxxxx"];
    const above = [announcements.joined("bob")];
    await alice.endsWith(...above, ...typed);
    await alice.hasCursorAt(3);
    await alice.press("Home");
    // The start of the typed line is after "You: ", two rows above the last row.
    await alice.hasCursorAt(5, 2);
    await server.join("eve");
    above.push(announcements.joined("eve"));
    await alice.endsWith(...above, ...typed);
    await alice.hasCursorAt(5, 2);
  },
);

testTerminal(
  "terminal: a typed line exactly as wide as the window stays complete when a line arrives",
  async () => {
    await using server = new TestServer();
    const window = { columns: 30 };
    await using alice = await Terminal.join(server.port, "alice", window);
    const typed = "You: " + "x".repeat(25);
    await alice.type("x".repeat(25));
    await alice.endsWith(typed);
    await server.join("bob");
    await alice.endsWith(announcements.joined("bob"), typed);
    // The typed line fills its row, so the cursor is at the start of the row below.
    await alice.hasCursorAt(0, -1);
    await alice.type("y");
    await alice.endsWith(announcements.joined("bob"), typed, "y");
  },
);

// ------------------------------------------------------- a name, then messages

testTerminal(
  "terminal: the prompt asks for a name until the server accepts one, then a hint is shown",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    // The client draws the prompt "Name:" even before the server's question arrives.
    // So the test waits for the question first.
    await alice.shows("Enter your name");
    await alice.endsWith("Name:");
    // The first two rows are the process ID (see terminal.ts) and "Connecting".
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
  "terminal: with --name, the client does not ask for a name, and the name may be quit",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "quit");
    await alice.endsWith(announcements.welcome("quit", "quit"), HINT, "You:");
    const rows = await alice.rows();
    // Process ID, "Connecting", "Connected", welcome, hint and prompt: six rows.
    assertEquals(rows.length, 6, `nothing else, please:\n${rows.join("\n")}`);
    // The client hides only the question. Any other first line is shown.
    using full = new FakeServer();
    await using bob = await Terminal.open(client(full.port, "--name", "bob"));
    const connection = await full.accept();
    await connection.sends(announcements.chatFull);
    connection.closes();
    await bob.shows(announcements.chatFull);
  },
);

testTerminal(
  "terminal: the key Arrow up brings back typed messages, but not the name",
  async () => {
    await using server = new TestServer();
    await server.join("bob");
    await using alice = await Terminal.open(client(server.port));
    await alice.endsWith("Name:");
    await alice.type("bob\r");
    await alice.shows("The name bob is taken.");
    await alice.press("Up");
    await alice.type("alice");
    await alice.endsWith("Name: alice");
    await alice.type("\r");
    await alice.endsWith("You:");
    await alice.type("one\r");
    await alice.endsWith("You: one", "You:");
    await alice.type("two\r");
    await alice.endsWith("You: one", "You: two", "You:");
    // Above the oldest message, there is only an empty line, and not the name.
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
  "terminal: if a name is refused, the client reports the lines that were typed after it, and does not send them",
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
  "terminal: when the server ends the connection, the client reports the lines not sent",
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
  "terminal: a user can leave soon even if the server does not end the connection",
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

for (const letter of ["C", "D"]) {
  testTerminal(
    `terminal: after Ctrl+${letter}, lines that still come in are shown above Goodbye`,
    async () => {
      using server = new FakeServer();
      await using alice = await Terminal.open(
        client(server.port, "--name", "alice"),
      );
      const connection = await server.accept();
      await connection.receives("alice");
      await connection.sends(WELCOME);
      await alice.endsWith("You:");
      await alice.press(`C-${letter.toLowerCase()}`); // as tmux calls the key
      // The client half-closes: it sends a FIN, and can still receive.
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

testTerminal(
  "terminal: quit at the prompt for a name ends the client",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    await alice.endsWith("Name:");
    await alice.type("quit\r");
    await alice.ends(0);
    await alice.shows("👋 Goodbye!");
  },
);

for (const quit of ["quit", "/quit"]) {
  testTerminal(
    `terminal: lines that are pasted are sent only up to ${quit}`,
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
  "terminal: no pasted line is sent after quit, even if the line separator U+2028 is between the lines",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.shows(announcements.joined("bob"));
    await alice.paste("/quit\u2028not this line\u2028");
    await bob.receives(announcements.left("alice"));
    await alice.ends(0);
  },
);

testTerminal(
  "terminal: when the server is killed, the half-typed line stays on the client's screen",
  async () => {
    await using server = await Server.start();
    await using alice = await Terminal.join(server.port, "alice");
    await alice.type("half typed");
    await alice.press("Left");
    await alice.hasCursorAt("You: half type".length);
    server.kill("SIGKILL");
    await alice.ends(1);
    await alice.shows(
      "You: half typed\nThe connection to the server has ended. Check",
    );
  },
);

testTerminal(
  "terminal: when the server shuts down, its announcement is the last line that the client shows",
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
    `terminal: ${signal} ends the client with exit status ${status}, and the terminal can still be used`,
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

/** Reads a file again and again until a line of it is an exit status. */
async function readExitStatus(file: string): Promise<string> {
  let text = "";
  while (!/^\d+\n/m.test(text)) text = await Deno.readTextFile(file);
  return text;
}

testTerminal(
  "terminal: when the window is closed, the client ends without a complaint",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const file = await Deno.makeTempFile();
    try {
      // Closing a window sends SIGHUP and SIGCONT. This shell survives the first one.
      const command = `${client(server.port, "--name", "alice")} 2>${file}`;
      const program = `sh -c "trap : HUP; ${command}; echo \\$? >>${file}"`;
      {
        await using alice = await Terminal.open(program);
        await bob.receives(announcements.joined("alice"));
        await alice.type("half typed");
        await alice.endsWith("You: half typed");
      }
      await bob.receives(announcements.left("alice"));
      const written = await inTime(
        readExitStatus(file),
        "The test",
        "the client's exit status",
      );
      // The end of the input and SIGHUP race: the exit status is 0 or 129.
      assertMatch(written, /Connected!\n(.*Goodbye!\n)?(0|129)\n$/);
    } finally {
      await Deno.remove(file);
    }
  },
);

testTerminal(
  "terminal: Ctrl+Z does nothing, and after kill -TSTP and fg, the client still edits the line",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using terminal = await Terminal.open("bash --norc -i");
    const program = client(server.port, "--name", "alice");
    // `$$` is the process ID of `sh`. After `exec`, it is the client's.
    await terminal.type(`sh -c 'echo client $$; exec ${program}'\r`);
    await bob.receives(announcements.joined("alice"));
    await terminal.press("C-z"); // If this suspended the client, bash would get "half".
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

// ----------------------------------------------- messages that are too long

testTerminal(
  "terminal: a message that is too long is put back into the typed line, and can be shortened",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.endsWith(announcements.joined("bob"), "You:");
    await alice.paste("y".repeat(1_001));
    // "You: " has 5 characters, and the window is 80 columns wide.
    await alice.hasCursorAt((5 + 1_001) % 80);
    await alice.press("Enter");
    await alice.shows(`${TOO_LONG}\nYou: yyyy`);
    await alice.press("BSpace", "Enter");
    await bob.receives("alice: " + "y".repeat(1_000));
  },
);

testTerminal(
  "terminal: the client refuses a message that is too long and was typed before the welcome",
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
