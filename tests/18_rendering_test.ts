/**
 * Lesson 18: rendering.
 *
 * A terminal receives bytes. They are characters to show, or escape sequences: commands
 * such as "up one row" or "clear what follows". Most begin with the character ESC. So
 * text from a stranger can clear the screen, or look as if somebody else had sent it:
 * escape sequence injection. By default, GNU `ls` and `less` pass on no such sequence
 * to a terminal. Web pages have a similar problem, called cross-site scripting.
 *
 * To redraw a line, a program has to know how many rows it fills. The numbers of its
 * characters, bytes and columns can differ: 漢 is one character, of three bytes in
 * UTF-8, and fills two columns. It takes time to measure and draw a long line. So a
 * program must not do this for each pasted character, or for each line that comes in.
 *
 * The tests call functions of client.ts, or run the client in a real terminal, tmux.
 */

import { assert, assertEquals, fail } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  Person,
  quote,
  TestServer,
  within,
} from "./helpers.ts";
import { MemoryNetwork } from "./network.ts";
import { FakeServer } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const WELCOME = announcements.welcome("alice", "alice");
const HINT = "Type messages and press Enter. Type 'quit' to exit.";

/** Even on a busy machine, the client needs less. A slow algorithm needs far more. */
const FAST_MS = 3_000;

// ------------------------------------------------------ the client trusts no server

/** Returns a connection for a client, and the server at its other end. */
async function connect(): Promise<{ conn: Deno.TcpConn; server: Person }> {
  const network = new MemoryNetwork();
  const listener = network.listen();
  const accepted = listener.accept();
  const conn = await network.connect(listener.addr.port);
  return { conn, server: new Person(await accepted, "the server") };
}

/** Runs a client whose server sends these lines. Returns what its output gets. */
async function show(
  ...lines: string[]
): Promise<{ shown: string[]; refusals: string[] }> {
  const { chat } = await import("../client.ts");
  const { conn, server } = await connect();
  const shown: string[] = [];
  const refusals: string[] = [];
  const ending = chat(conn, {
    input: ReadableStream.from(["alice", "hi"]),
    output: {
      show: (line) => void shown.push(line),
      showNotice: () => {},
      onRefusal: (reason) => void refusals.push(reason),
    },
  });
  await server.receives("alice");
  await server.sends(...lines);
  await server.halfCloses();
  await ending;
  return { shown, refusals };
}

/** Fails unless the user sees the expected text. */
function assertSeen(seen: string, expected: string, what: string): void {
  if (seen === expected) return;
  fail(`${what}: the user should see
  ${quote(expected)}
but sees
  ${quote(seen)}`);
}

Deno.test("rendering: the client removes whole escape sequences, and control characters", async () => {
  const sequences = {
    "a color": "\x1b[31m",
    "a color with an 8-bit introducer": "\x9b31m",
    "a title that ends with BEL": "\x1b]0;title\x07",
    "a title that ends with ESC \\": "\x1b]0;title\x1b\\",
    "a title that ends with an 8-bit terminator": "\x9d0;title\x9c",
    "a device control string": "\x1bP1$r0m\x1b\\",
    "an application program command": "\x1b_Gi=1;AAAA\x1b\\",
    "a choice of characters": "\x1b(B",
    "a full reset": "\x1bc",
    "control characters": "\r\b\x00\x7f\x85",
  };
  for (const [what, sequence] of Object.entries(sequences)) {
    const { shown } = await show(`bob: be${sequence}fore`);
    assertSeen(shown.join("\n"), "bob: before", what);
  }
});

Deno.test("rendering: the client removes whole escape sequences from the messages that its user sends", async () => {
  const { chat } = await import("../client.ts");
  const { conn, server } = await connect();
  // The second message has 1,501 characters, but only one of them is not a color.
  const messages = ["\x1b[31mred\x1b[0m", "\x1b[31m".repeat(300) + "x"];
  const ending = chat(conn, {
    input: ReadableStream.from(["alice", ...messages]),
    output: { show: () => {}, showNotice: () => {} },
  });
  await server.receives("alice");
  await server.sends(WELCOME);
  await server.receives("red", "x");
  await server.halfCloses();
  await ending;
});

Deno.test("rendering: the client removes the text of an unfinished window title, but not the next line", async () => {
  const { shown } = await show("bob: be\x1b]0;title", "bob: next");
  assertLines(shown, ["bob: be", "bob: next"], "the user");
});

Deno.test("rendering: the client removes escape sequences from a refusal that it repeats", async () => {
  const { refusals } = await show(
    "[SYSTEM] No\x1b[1m such\x9b1m name. Enter another name:",
  );
  assertEquals(refusals, ["No such name."]);
});

Deno.test("rendering: the client sanitizes long lines fast, even if they are full of escape sequences", async () => {
  const parts = [";#", "\x1b[", "\x1b]", "\x1b;", "\x9b", "\x1b(", "\x1b];"];
  const lines = parts.map((part) => `a\x1b${part.repeat(2_000)}`);
  const showing = show(...lines, "bob: done");
  const complaint = `${lines.length} lines take more than ${FAST_MS} ms`;
  const { shown } = await within(FAST_MS, showing, complaint);
  assertLine(shown.at(-1), "bob: done", "The user");
  // deno-lint-ignore no-control-regex
  const unsafe = shown.filter((line) => /[\x00-\x1f\x7f-\x9f]/.test(line));
  assertLines(unsafe, [], "the user");
});

// ------------------------------------------------------------ who has sent it

/** The function `decorate` of client.ts. It does not exist before step 18.2. */
async function importDecorate(): Promise<(line: string) => string> {
  const client: Record<string, unknown> = await import("../client.ts");
  const { decorate } = client;
  const advice = "the page of step 18.2 says what it has to do";
  assert(decorate, `client.ts does not export "decorate" yet: ${advice}`);
  return decorate as (line: string) => string;
}

/** Decorates a line with `decorate`, and then removes the colors. */
async function plain(line: string): Promise<string> {
  const decorate = await importDecorate();
  // deno-lint-ignore no-control-regex
  return decorate(line).replace(/\x1b\[\d+m/g, "");
}

Deno.test("rendering: the client does not change messages in many scripts, or with emoji", async () => {
  const texts = [
    "four    spaces",
    "👨‍👩‍👧‍👦 family, ❤️ heart, 🏳️‍🌈 flag, 👍🏽 thumb, 1️⃣ key",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 England 🏴󠁧󠁢󠁳󠁣󠁴󠁿🏴󠁧󠁢󠁷󠁬󠁳󠁿",
    "नमस्ते दुनिया, สวัสดีชาวโลก, שָׁלוֹם עוֹלָם, مرحبا بالعالم, می‌خواهم",
    "Z̷̧̛a̷l̵g̸o̶ ệ ệ 한국어 ᄒᆞᆫ",
    "a ́ b ̂ c ̃ d",
    "١٢٣ ۝ ؀١",
  ];
  for (const text of texts) {
    assertSeen(await plain(`bob: ${text}`), `📨 bob: ${text}`, text);
  }
});

Deno.test("rendering: the client does not show an announcement as a message", async () => {
  const line = announcements.enterName(1);
  assertSeen(await plain(line), line, "An announcement");
});

Deno.test("rendering: the client does not treat a very long text before a colon as a name", async () => {
  const marks = "e" + "\u0301".repeat(32_000) + ": hello";
  const start = performance.now();
  assertSeen(await plain(marks), marks, "A name of 32,000 marks");
  const ms = performance.now() - start;
  assert(ms < FAST_MS, `a name of 32,000 marks takes ${Math.round(ms)} ms`);
});

testTerminal(
  "rendering: a sender's name keeps its color, and with NO_COLOR the client shows no colors",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    await using carol = await Terminal.join(server.port, "carol", {
      env: "NO_COLOR=1",
    });
    const [bob, dave] = await server.joinAll("bob", "dave");
    await bob.sends("1");
    await dave.receives("bob: 1");
    await dave.sends("2");
    await bob.receives("dave: 2");
    await bob.sends("3");
    const messages = ["📨 bob: 1", "📨 dave: 2", "📨 bob: 3"];
    await alice.endsWith(...messages, "You:");
    await carol.endsWith(...messages, "You:");

    const colors = (await alice.rows("-e")).slice(-4, -1)
      // deno-lint-ignore no-control-regex
      .map((row) => /\x1b\[(\d+)m(bob|dave)/.exec(row)?.[1]);
    assert(colors.every(Boolean), `no color in ${colors}`);
    assertEquals(colors[0], colors[2], "bob's color, first and later:");
    assert(colors[0] !== colors[1], "bob and dave have the same color");
    const uncolored = (await carol.rows("-e")).join("\n");
    assert(
      !uncolored.includes("\x1b"),
      `colors in spite of NO_COLOR:\n${uncolored}`,
    );
  },
);

// ----------------------------------------------------------------------- gaps

Deno.test("rendering: the client shortens a wide gap to four spaces, even a gap of invisible characters", async () => {
  const fillers = [
    " ",
    "\u00a0",
    "\u3000",
    "\u2800",
    "\u3164",
    "\u00ad",
    " \u200b",
    "    \u200e",
    "    \u00ad",
    "    \u034f",
    "    \ufe0f",
    "    \u0300",
    "    \u20dd",
    "    \ufff9",
    "    \u{e0067}",
    "    \u0300\u200d\ufe0f",
  ];
  for (const filler of fillers) {
    const line = `bob: hi${filler.repeat(70)}[SYSTEM] carol left the chat!`;
    // Characters without a width may remain: they do not make the gap wider.
    const shown = (await plain(line)).replace(/[\p{Mn}\p{Me}\p{Cf}]/gu, "");
    const codes = [...filler].map((char) => char.codePointAt(0)!.toString(16));
    const expected = "📨 bob: hi    [SYSTEM] carol left the chat!";
    assertSeen(shown, expected, `A gap of U+${codes.join(" U+")}`);
  }
});

Deno.test("rendering: an emoji before a gap stays as it is", async () => {
  assertSeen(await plain("bob: ❤️      x"), "📨 bob: ❤️    x", "A gap");
});

Deno.test("rendering: the client decorates 56 long lines with many gaps in less than 3 seconds", async () => {
  const fillers = [
    " \u200e",
    "\u200e",
    "    \u0300",
    "\u3164\u200d",
    " ",
    "a ",
  ];
  const start = performance.now();
  for (const filler of [...fillers, "\u{e0067}"]) {
    for (const end of ["", "x", " x", "\u0300x"]) {
      await plain("bob: " + filler.repeat(4_000) + end);
      await plain("bob: " + (" " + "\u0300".repeat(999)).repeat(4) + end);
    }
  }
  const ms = performance.now() - start;
  assert(ms < FAST_MS, `56 lines take ${Math.round(ms)} ms`);
  const line = "bob:" + " ".repeat(4_000) + "x";
  assertSeen(await plain(line), "📨 bob:    x", "A gap of 4,000 spaces");
});

// ---------------------------------------------------------------------- drawing

/** Runs a test while tmux copies all that the client writes to a file. */
async function withRecording(
  port: number,
  test: (alice: Terminal, recorded: () => Promise<string>) => Promise<void>,
): Promise<void> {
  const file = await Deno.makeTempFile();
  const program = client(port, "--name", "alice");
  const record = `tmux pipe-pane \\"cat > ${file}\\"`;
  try {
    await using alice = await Terminal.open(
      `sh -c "${record}; exec ${program}"`,
    );
    await test(alice, () => Deno.readTextFile(file));
  } finally {
    await Deno.remove(file);
  }
}

testTerminal(
  "rendering: the client draws many lines at once if they come in together",
  async () => {
    using server = new FakeServer();
    await withRecording(server.port, async (alice, recorded) => {
      const connection = await server.accept();
      await connection.receives("alice");
      await connection.sends(WELCOME);
      await alice.endsWith(WELCOME, HINT, "You:");
      const lines = Array.from({ length: 1_000 }, (_, n) => `[SYSTEM] ${n}`);
      await connection.sends(...lines);
      await alice.endsWith("[SYSTEM] 999", "You:");
      let bytes = await recorded();
      while (!/ 999\W.*You:/s.test(bytes)) {
        // tmux may write to the file later than to the screen. This waits a little.
        await alice.endsWith("[SYSTEM] 999", "You:");
        bytes = await recorded();
      }
      const count = bytes.split("You: ").length - 1;
      // The lines arrive in several parts, so the prompt is drawn more than once. A
      // client that draws it for each line needs more than 1,000 times.
      assert(
        count < 300,
        `1,000 lines, and the prompt is drawn ${count} times`,
      );
    });
  },
);

testTerminal(
  "rendering: a user can paste 5,000 characters, and then leave with Ctrl+C",
  async () => {
    await using server = new TestServer();
    for (const columns of [80, 30]) {
      await using alice = await Terminal.join(server.port, "alice", {
        columns,
      });
      const text = "x".repeat(4_993) + "THE END";
      const pasting = alice.paste(text).then(() => alice.shows("THE END"));
      await within(FAST_MS, pasting, "alice does not see what she has pasted");
      await alice.paste(text); // This time, alice does not wait for the screen.
      await alice.press("C-c");
      const complaint = "Ctrl+C does nothing after a paste";
      await within(FAST_MS, alice.ends(0), complaint);
    }
  },
);

testTerminal(
  "rendering: the client sends 100 pasted lines, and keeps the unfinished last line",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.shows(announcements.joined("bob"));
    const filler = "x".repeat(50);
    const lines = Array.from({ length: 100 }, (_, n) => `${n} ${filler}`);
    await alice.paste(lines.join("\n") + "\nhalf typed");
    const complaint = "bob receives nothing of what was pasted";
    const receiving = bob.receives(...lines.map((line) => `alice: ${line}`));
    await within(FAST_MS, receiving, complaint);
    await alice.endsWith(`You: ${lines.at(-1)}`, "You: half typed");
  },
);

testTerminal(
  "rendering: the keys Home and Ctrl+K work in a pasted text of several rows",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", {
      columns: 30,
    });
    await alice.paste("x".repeat(60));
    await alice.press("Home", "a");
    const above = ["Type messages and press Enter.", " Type 'quit' to exit."];
    const typed = ["You: a" + "x".repeat(24), "x".repeat(30), "x".repeat(6)];
    await alice.endsWith(...above, ...typed);
    await alice.press("C-k");
    await alice.endsWith(...above, "You: a");
  },
);

// ---------------------------------------------------------------------- columns

testTerminal(
  "rendering: a typed line with two-column characters stays intact when messages come in",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", {
      columns: 30,
    });
    const bob = await server.join("bob");
    // One column is left in the first row. 漢 fills two, so it goes to the next row.
    await alice.type("x".repeat(24) + "漢字🎉".repeat(7));
    const typed = [
      "You: " + "x".repeat(24),
      "漢字🎉漢字🎉漢字🎉漢字🎉漢字🎉",
      "漢字🎉漢字🎉",
    ];
    const above = [announcements.joined("bob")];
    await alice.endsWith(...above, ...typed);
    await bob.sends("Hi!");
    above.push("📨 bob: Hi!");
    await alice.endsWith(...above, ...typed);
    await alice.press("Left");
    await alice.hasCursorAt(10);
    await bob.sends("Ho!");
    above.push("📨 bob: Ho!");
    await alice.endsWith(...above, ...typed);
    await alice.hasCursorAt(10);
  },
);

testTerminal(
  "rendering: a typed tab becomes a space on the screen and in the message",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.endsWith(announcements.joined("bob"), "You:");
    await alice.type("a\tb\r");
    await bob.receives("alice: a b");
    await alice.endsWith("You: a b", "You:");
  },
);

testTerminal(
  "rendering: pasted control characters do not reach the user's own terminal",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const output = await alice.recordUntil(
      "31m the end",
      () => alice.paste("U+009B is like ESC and [: \u009b31m the end"),
    );
    assert(!output.includes("\u009b"), "The terminal receives U+009B");
  },
);

testTerminal(
  "rendering: a window that becomes narrower or wider shows no line twice",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    let typed = "You: " + "0123456789".repeat(11);
    await alice.type("0123456789".repeat(11));
    await alice.hasCursorAt(typed.length % 80);
    const above = [announcements.joined("bob")];
    for (const columns of [50, 100, 60]) {
      await alice.resize(columns);
      await alice.type("+");
      typed += "+";
      await alice.hasCursorAt(typed.length % columns);
      await bob.sends(`${columns} columns`);
      above.push(`📨 bob: ${columns} columns`);
      const rows = typed.match(new RegExp(`.{1,${columns}}`, "g"))!;
      await alice.endsWith(above.at(-1)!, ...rows);
      await alice.hasCursorAt(typed.length % columns);
    }
    await alice.press("C-u");
    await alice.endsWith(...above, "You:");
  },
);
