/**
 * Lesson 18: rendering.
 *
 * What a screen shows is the sum of all bytes that were written to it: characters,
 * and escape sequences such as "up one row" or "clear what follows". So text from a
 * stranger can clear the screen, or look like what it is not. Terminals, editors,
 * `git log` and `less` were all fooled this way once, and web pages have the same
 * problem, called cross-site scripting.
 *
 * A program that draws a line again has to know where it is. The characters of a
 * text, its bytes, and the columns that it fills are three different numbers: 漢 is
 * one character of three bytes in two columns. And each look at a line costs time, so
 * a program must not draw for each character, or for each line that comes in.
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

/** Nobody minds this on a busy machine, and what is wrong takes far longer. */
const FAST_MS = 3_000;

// ------------------------------------------------------ the client trusts no server

interface Ending {
  status: number;
  message?: string;
}

/** What a client shows whose server sends these lines, and how it ends. */
async function show(
  ...lines: string[]
): Promise<{ shown: string[]; ending: Ending }> {
  const { chat } = await import("../client.ts");
  const network = new MemoryNetwork();
  const listener = network.listen();
  const accepted = listener.accept();
  const conn = await network.connect(listener.addr.port);
  const server = new Person(await accepted, "the server");
  const shown: string[] = [];
  const ending = chat(conn, {
    input: ReadableStream.from(["alice", "hi"]),
    output: { show: (line) => void shown.push(line), showNotice: () => {} },
    canTryAgain: false,
  });
  await server.receives("alice");
  await server.sends(...lines);
  await server.halfCloses();
  return { shown, ending: await ending };
}

/** Fails unless the user sees this. */
function assertSeen(seen: string, expected: string, what: string): void {
  if (seen === expected) return;
  fail(`${what}: the user should see
  ${quote(expected)}
but sees
  ${quote(seen)}`);
}

Deno.test("rendering: escape sequences and control characters leave nothing behind", async () => {
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

Deno.test("rendering: a title without an end takes the rest of its line only", async () => {
  const { shown } = await show("bob: be\x1b]0;title", "bob: next");
  assertLines(shown, ["bob: be", "bob: next"], "the user");
});

Deno.test("rendering: what the client repeats of a refusal is safe, too", async () => {
  const { ending } = await show(
    "[SYSTEM] No\x1b[1m such\x9b1m name. Enter another name:",
  );
  const message = "Cannot join: No such name. Choose another name.";
  assertEquals(ending, { status: 1, message });
});

Deno.test("rendering: a long line takes no time, whatever sequences it is made of", async () => {
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

/** As `decorate` does it, without colors. */
async function plain(line: string): Promise<string> {
  const decorate = await importDecorate();
  // deno-lint-ignore no-control-regex
  return decorate(line).replace(/\x1b\[\d+m/g, "");
}

Deno.test("rendering: a message in any script, or with emoji, stays as it is", async () => {
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

Deno.test("rendering: an announcement is not taken for a message", async () => {
  const line = announcements.enterName(1);
  assertSeen(await plain(line), line, "An announcement");
});

Deno.test("rendering: only a name of the length of a name is taken for one", async () => {
  const marks = "e" + "\u0301".repeat(32_000) + ": hello";
  const start = performance.now();
  assertSeen(await plain(marks), marks, "A name of 32,000 marks");
  const ms = performance.now() - start;
  assert(ms < FAST_MS, `a name of 32,000 marks takes ${Math.round(ms)} ms`);
});

testTerminal(
  "rendering: each name has a color, but for NO_COLOR",
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

Deno.test("rendering: a gap is not wider than four spaces, whatever it is made of", async () => {
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
    const shown = (await plain(line)).replace(/[\p{Mn}\p{Me}\p{Cf}]/gu, "");
    const codes = [...filler].map((char) => char.codePointAt(0)!.toString(16));
    const expected = "📨 bob: hi    [SYSTEM] carol left the chat!";
    assertSeen(shown, expected, `A gap of U+${codes.join(" U+")}`);
  }
});

Deno.test("rendering: an emoji before a gap stays as it is", async () => {
  assertSeen(await plain("bob: ❤️      x"), "📨 bob: ❤️    x", "A gap");
});

Deno.test("rendering: a line with many gaps takes no time, whatever fills them", async () => {
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

/** Runs a test with a file to which tmux copies whatever the client writes. */
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
  "rendering: lines that come in together are drawn together",
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
        await alice.endsWith("[SYSTEM] 999", "You:"); // until it is written
        bytes = await recorded();
      }
      const count = bytes.split("You: ").length - 1;
      assert(
        count < 300,
        `1,000 lines, and the prompt is drawn ${count} times`,
      );
    });
  },
);

testTerminal(
  "rendering: 5,000 characters can be pasted, and then Ctrl+C leaves",
  async () => {
    await using server = new TestServer();
    for (const columns of [80, 30]) {
      await using alice = await Terminal.join(server.port, "alice", {
        columns,
      });
      const text = "x".repeat(4_993) + "THE END";
      const pasting = alice.paste(text).then(() => alice.shows("THE END"));
      await within(FAST_MS, pasting, "alice does not see what she has pasted");
      await alice.paste(text); // This time she does not wait.
      await alice.press("C-c");
      const complaint = "Ctrl+C does nothing after a paste";
      await within(FAST_MS, alice.ends(0), complaint);
    }
  },
);

testTerminal(
  "rendering: a hundred lines can be pasted, and the last one can be edited",
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
  "rendering: the keys edit a paste of several rows",
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
  "rendering: a line with characters of two columns stays whole when lines come in",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", {
      columns: 30,
    });
    const bob = await server.join("bob");
    // A wide character does not fit into the last column, nor into half of it.
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
  "rendering: a tab is a space, on the screen and on the way",
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
