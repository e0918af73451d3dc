/**
 * The client: a conversation over a connection in memory, which needs no permission,
 * and then the program in a pipe and at a terminal.
 *
 * No test sleeps to wait. A test about a timeout starts a second conversation with
 * the same timeout, whose server is really silent. When the client has given that
 * server up, the timeout of the first conversation has passed as well.
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { chat, type ChatOptions, decorate, type Ending } from "../client.ts";
import {
  assertLine,
  assertLines,
  inTime,
  Person,
  testProgram,
  TestServer,
} from "./helpers.ts";
import { type ConnectOptions, MemoryNetwork } from "./network.ts";
import { failsToStart, FakeServer, Program } from "./programs.ts";
import { client, Terminal, testTerminal } from "./terminal.ts";

const QUESTION = "[SYSTEM] Enter your name, or press Enter to be User_54321:";
const WELCOME = "[SYSTEM] Welcome, alice! Active users (1): alice";
const REFUSAL = "[SYSTEM] The name alice is taken. Enter another name:";
const SHUTDOWN = "[SYSTEM] The server is shutting down. Goodbye!";
const GONE = "The server is gone: it ended. Check that it is running.";
const SILENT = "The server does not answer.";
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";

// ------------------------------------------------- a conversation in memory

/** A conversation in which the test types the lines, and is the server. */
class TestChat {
  /** How the conversation has ended. */
  readonly ending: Promise<Ending>;
  /** The lines that were shown. */
  readonly shown: string[] = [];
  /** What the client itself has said. */
  readonly remarks: string[] = [];
  #input!: ReadableStreamDefaultController<string>;
  #hasShown = Promise.withResolvers<void>();

  /** Starts a conversation. */
  static async start(
    options: Partial<ChatOptions> = {},
    connectOptions?: ConnectOptions,
  ): Promise<TestChat> {
    const network = new MemoryNetwork();
    const listener = network.listen();
    const accepted = listener.accept();
    const conn = await network.connect(listener.addr.port, connectOptions);
    const server = new Person(await accepted, "the server");
    return new TestChat(conn, server, options);
  }

  /** Starts a conversation in which alice is a member. */
  static async startAsMember(
    options: Partial<ChatOptions> = {},
    connectOptions?: ConnectOptions,
  ): Promise<TestChat> {
    const chat = await TestChat.start(options, connectOptions);
    chat.type("alice");
    await chat.server.receives("alice");
    await chat.server.sends(WELCOME);
    return chat;
  }

  constructor(
    conn: Deno.TcpConn,
    readonly server: Person,
    options: Partial<ChatOptions>,
  ) {
    const input = new ReadableStream<string>({
      start: (controller) => {
        this.#input = controller;
      },
    });
    const output = {
      show: (line: string) => this.#show(line),
      remark: (sentence: string) => void this.remarks.push(sentence),
    };
    const all = { input, output, canTryAgain: true, ...options };
    this.ending = chat(conn, all);
    this.ending.catch(() => {}); // The test looks at it later.
  }

  /** The user types lines. */
  type(...lines: string[]): void {
    for (const line of lines) this.#input.enqueue(line);
  }

  /** The input ends. */
  endInput(): void {
    this.#input.close();
  }

  /** The input fails. */
  failInput(error: Error): void {
    this.#input.error(error);
  }

  /** Waits until so many lines were shown. */
  async shows(count: number): Promise<void> {
    while (this.shown.length < count) {
      await inTime(this.#hasShown.promise, "The user", `${count} lines`);
    }
  }

  /** Fails unless the client half-closes now, and sends no other line before. */
  async leaves(): Promise<void> {
    assertLine(await this.server.nextLineOrEnd(), undefined, "The server");
  }

  /** Fails unless the conversation ends like this. */
  async endsWith(status: number, message?: string): Promise<void> {
    const ending = await inTime(this.ending, "The test", "the end");
    assertEquals(ending, { status, message });
  }

  #show(line: string): void {
    this.shown.push(line);
    this.#hasShown.resolve();
    this.#hasShown = Promise.withResolvers();
  }
}

Deno.test("conversation: the first line is the name, the others are messages, and the end of the input leaves", async () => {
  const chat = await TestChat.start();
  chat.type("alice", "hi", "bye");
  chat.endInput();
  await chat.server.sends(QUESTION, WELCOME);
  await chat.server.receives("alice", "hi", "bye");
  await chat.leaves();
  await chat.server.sends("bob: late");
  chat.server.closes();
  await chat.endsWith(0);
  assertLines(chat.shown, [QUESTION, WELCOME, "bob: late"], "the user");
});

Deno.test("conversation: no message is sent before the name is accepted", async () => {
  const chat = await TestChat.start();
  chat.type("alice", "hi");
  await chat.server.receives("alice");
  await chat.server.sends("[SYSTEM] One moment, please.");
  await chat.shows(1); // A hasty client has sent "hi" by now.
  await chat.server.halfCloses();
  await chat.endsWith(1, GONE);
  await chat.leaves();
});

Deno.test("conversation: quit is a name like another until a name is accepted", async () => {
  const chat = await TestChat.start();
  chat.type("quit", "hi");
  await chat.server.receives("quit");
  await chat.server.sends("[SYSTEM] Welcome, quit! Active users (1): quit");
  await chat.server.receives("hi");
  chat.endInput();
  await chat.leaves();
  chat.server.closes();
  await chat.endsWith(0);
});

for (const quit of ["quit", "/quit", "  quit "]) {
  Deno.test(`conversation: "${quit}" from a member leaves, although the input goes on`, async () => {
    const chat = await TestChat.startAsMember();
    chat.type("hi", quit, "not this");
    await chat.server.receives("hi");
    await chat.leaves();
    chat.server.closes();
    await chat.endsWith(0);
  });
}

Deno.test("conversation: the line after a refused name is the next name", async () => {
  const chat = await TestChat.start();
  chat.type("alice");
  await chat.server.receives("alice");
  await chat.server.sends(REFUSAL);
  await chat.shows(1);
  chat.type("bob", "hi");
  await chat.server.receives("bob");
  await chat.server.sends(WELCOME);
  await chat.server.receives("hi");
  chat.server.closes();
  await chat.endsWith(1, GONE);
});

Deno.test("conversation: a refused name ends it if the user cannot type another", async () => {
  const chat = await TestChat.start({ canTryAgain: false });
  chat.type("alice", "hi");
  await chat.server.receives("alice");
  await chat.server.sends(REFUSAL);
  const message = "Cannot join: The name alice is taken. Choose another name.";
  await chat.endsWith(1, message);
  assertLines(chat.shown, [REFUSAL], "the user");
  await chat.leaves();
});

Deno.test("conversation: a message that is too long is not sent, and the others are", async () => {
  const chat = await TestChat.startAsMember();
  const longest = "😀".repeat(1_000);
  chat.type(longest, longest + "!", "after it");
  await chat.server.receives(longest, "after it");
  assertEquals(chat.remarks, [TOO_LONG]);
  assertLines(chat.shown, [WELCOME], "the user");
  chat.server.closes();
  await chat.endsWith(1, GONE);
});

Deno.test("conversation: what is sent is sanitized, and U+2800 alone is no message", async () => {
  const chat = await TestChat.startAsMember();
  chat.type("a\tb\x1b[2Jc\u202ed", "\u2800", "next");
  await chat.server.receives("a b[2Jcd", "", "next");
  chat.server.closes();
  await chat.endsWith(1, GONE);
});

for (
  const line of [
    "[SYSTEM] The chat is full. Try again later.",
    "[SYSTEM] No name given in time. Goodbye!",
    "[SYSTEM] This is a chat, not a web server. Goodbye!",
    SHUTDOWN,
  ]
) {
  Deno.test(`conversation: after "${line}" the end needs no other explanation`, async () => {
    const chat = await TestChat.start();
    chat.type("GET / HTTP/1.1");
    await chat.server.receives("GET / HTTP/1.1");
    await chat.server.sends(line);
    chat.server.closes();
    await chat.endsWith(1);
  });
}

Deno.test("conversation: a shutdown of the server after the user has left is no failure", async () => {
  const chat = await TestChat.startAsMember();
  chat.type("quit");
  await chat.leaves();
  await chat.server.sends(SHUTDOWN);
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("conversation: a server that resets the connection is gone", async () => {
  const chat = await TestChat.startAsMember();
  await chat.shows(1);
  chat.server.resets();
  await chat.endsWith(1, GONE);
});

Deno.test("conversation: what came before a reset is shown", async () => {
  const chat = await TestChat.startAsMember();
  await chat.server.sends("bob: one", "bob: two");
  chat.server.resets();
  await chat.endsWith(1, GONE);
  assertLines(chat.shown, [WELCOME, "bob: one", "bob: two"], "the user");
});

Deno.test("conversation: an error of the input is passed on, and closes the connection", async () => {
  const chat = await TestChat.startAsMember();
  chat.failInput(new RangeError("the input is broken"));
  await chat.leaves();
  await assertRejects(() => chat.ending, RangeError, "the input is broken");
});

Deno.test("conversation: an error of the output is passed on, and closes the connection", async () => {
  const output = {
    show: () => Promise.reject(new RangeError("the output is broken")),
    remark: () => {},
  };
  const chat = await TestChat.start({ output });
  await chat.server.sends(QUESTION);
  await chat.leaves();
  await assertRejects(() => chat.ending, RangeError, "the output is broken");
});

// ----------------------------------------------------- waiting and timeouts

const TIMEOUTS = { answerTimeoutMs: 200, sendTimeoutMs: 200 };

/** Resolves when a client with these timeouts has given up a silent server. */
async function silentServerIsGivenUp(): Promise<void> {
  const chat = await TestChat.start(TIMEOUTS);
  chat.type("alice");
  await chat.endsWith(1, SILENT);
}

Deno.test("silence: a server that does not answer a name is given up", async () => {
  await silentServerIsGivenUp();
});

Deno.test("silence: a server that does not end the connection is given up", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS);
  chat.endInput();
  await chat.endsWith(1, SILENT);
});

Deno.test("silence: a server that accepts no message is given up", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS, { bufferSize: 100 });
  await chat.shows(1);
  chat.type("x".repeat(500));
  await chat.endsWith(1, SILENT);
});

Deno.test("silence: a server has all the time of the world while nothing is expected of it", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS);
  await chat.shows(1);
  await silentServerIsGivenUp();
  chat.type("hi");
  await chat.server.receives("hi");
  chat.endInput();
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("silence: a wait for our own output is not the server's silence", async () => {
  const canWrite = Promise.withResolvers<void>();
  const shown: string[] = [];
  const show = async (line: string) => {
    if (shown.length > 0) await canWrite.promise;
    shown.push(line);
  };
  const output = { show, remark: () => {} };
  const chat = await TestChat.startAsMember({ ...TIMEOUTS, output });
  chat.endInput();
  const lines = Array.from({ length: 5_000 }, (_, n) => `bob: line ${n}`);
  await chat.server.sends(...lines);
  chat.server.closes();
  await silentServerIsGivenUp();
  canWrite.resolve();
  await chat.endsWith(0);
  assertLines(shown, [WELCOME, ...lines], "the user");
});

Deno.test("silence: a member may be held back for longer than an answer may take", async () => {
  const options = { ...TIMEOUTS, sendTimeoutMs: 60_000 };
  const chat = await TestChat.startAsMember(options, { bufferSize: 100 });
  await chat.shows(1);
  const lines = Array.from({ length: 100 }, (_, n) => `line ${n}`);
  chat.type(...lines);
  chat.endInput();
  await silentServerIsGivenUp();
  await chat.server.receives(...lines);
  await chat.leaves();
  chat.server.closes();
  await chat.endsWith(0);
});

// ----------------------------------------------------- what is shown is safe

for (
  const [what, text] of [
    ["a color", "\x1b[31m"],
    ["a color with an 8-bit introducer", "\x9b31m"],
    ["a title that ends with BEL", "\x1b]0;title\x07"],
    ["a title that ends with ESC \\", "\x1b]0;title\x1b\\"],
    ["a title that ends with an 8-bit terminator", "\x9d0;title\x9c"],
    ["a device control string", "\x1bP1$r0m\x1b\\"],
    ["an application program command", "\x1b_Gi=1;AAAA\x1b\\"],
    ["a choice of characters", "\x1b(B"],
    ["a full reset", "\x1bc"],
  ] as const
) {
  Deno.test(`sanitizing: ${what} leaves nothing behind`, async () => {
    const chat = await TestChat.start();
    await chat.server.sends(`bob: be${text}fore`);
    chat.server.closes();
    await chat.endsWith(1, GONE);
    assertLines(chat.shown, ["bob: before"], "the user");
  });
}

Deno.test("sanitizing: a title without an end takes the rest of its line only", async () => {
  const chat = await TestChat.start();
  await chat.server.sends("bob: be\x1b]0;title", "bob: next");
  chat.server.closes();
  await chat.endsWith(1, GONE);
  assertLines(chat.shown, ["bob: be", "bob: next"], "the user");
});

/** As `decorate` does it, without colors. */
function plain(line: string): string {
  // deno-lint-ignore no-control-regex
  return decorate(line).replace(/\x1b\[\d+m/g, "");
}

for (
  const filler of [
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
  ]
) {
  const codes = [...filler].map((char) => char.codePointAt(0)!.toString(16));
  Deno.test(`decoration: a gap of ${codes.join(" ")} is not wider than four spaces`, () => {
    const line = `bob: hi${filler.repeat(70)}[SYSTEM] carol left the chat!`;
    const shown = plain(line).replace(/[\p{Mn}\p{Me}\p{Cf}]/gu, "");
    assertEquals(shown, "📨 bob: hi    [SYSTEM] carol left the chat!");
  });
}

for (
  const text of [
    "four    spaces",
    "👨‍👩‍👧‍👦 family, ❤️ heart, 🏳️‍🌈 flag, 👍🏽 thumb, 1️⃣ key",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 England 🏴󠁧󠁢󠁳󠁣󠁴󠁿🏴󠁧󠁢󠁷󠁬󠁳󠁿",
    "नमस्ते दुनिया, สวัสดีชาวโลก, שָׁלוֹם עוֹלָם, مرحبا بالعالم, می‌خواهم",
    "Z̷̧̛a̷l̵g̸o̶ ệ ệ 한국어 ᄒᆞᆫ",
    "a ́ b ̂ c ̃ d",
    "١٢٣ ۝ ؀١",
  ]
) {
  Deno.test(`decoration: "${text}" stays as it is`, () => {
    assertEquals(plain(`bob: ${text}`), `📨 bob: ${text}`);
  });
}

Deno.test("decoration: an emoji before a gap stays as it is", () => {
  assertEquals(plain("bob: ❤️      x"), "📨 bob: ❤️    x");
});

Deno.test("decoration: a long line takes no time, whatever it is made of", () => {
  const start = performance.now();
  for (
    const part of [
      " \u200e",
      "\u200e",
      "    \u0300",
      "\u3164\u200d",
      " ",
      "a ",
      "\u{e0067}",
    ]
  ) {
    for (const end of ["", "x", " x", "\u0300x"]) {
      plain("bob: " + part.repeat(4_000) + end);
      plain("bob: " + (" " + "\u0300".repeat(999)).repeat(4) + end);
    }
  }
  const ms = performance.now() - start;
  assert(ms < 1_000, `56 lines took ${Math.round(ms)} ms`);
});

Deno.test("decoration: an announcement is not taken for a message", () => {
  const line = "[SYSTEM] Enter your name, or press Enter to be User_1:";
  assertEquals(plain(line), line);
});

// ---------------------------------------------------- the program in a pipe

const CLIENT = ["--no-prompt", "--allow-net", "client.ts", "127.0.0.1"];

/** How a shell command has ended that starts the client. */
async function runShell(command: string): Promise<Ended> {
  const shell = new Deno.Command("sh", {
    args: ["-c", command],
    cwd: new URL("..", import.meta.url),
  });
  const output = shell.output();
  const { code, stdout, stderr } = await inTime(output, "The test", command);
  const decoder = new TextDecoder();
  const complaint = decoder.decode(stderr)
    .replace(/^\[[\d:]+\] (🔄|✅).*\n/gm, "");
  return { code, stdout: decoder.decode(stdout), complaint };
}

interface Ended {
  code: number;
  stdout: string;
  /** stderr, without "Connecting" and "Connected". */
  complaint: string;
}

function clientCommand(port: number, ...options: string[]): string {
  return [Deno.execPath(), "run", ...CLIENT, port, ...options].join(" ");
}

testProgram(
  "filter: --name quit joins as quit, and so does quit as the first line",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    for (
      const command of [
        `echo hi | ${clientCommand(server.port, "--name", "quit")}`,
        `printf 'quit\\nhi\\n' | ${clientCommand(server.port)}`,
      ]
    ) {
      const { code, stdout } = await runShell(command);
      assertStringIncludes(stdout, "Welcome, quit!");
      assertEquals(code, 0);
      await bob.receives("[SYSTEM] quit joined the chat!", "quit: hi");
      await bob.receives("[SYSTEM] quit left the chat!");
    }
  },
);

testProgram(
  "filter: an input that cannot be read is one line on stderr and exit status 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, complaint } = await runShell(`${client} < /tmp`);
    assertMatch(complaint, /^Cannot read the input: Is a directory.*\n$/);
    assertEquals(code, 1);
  },
);

testProgram(
  "filter: an output that cannot be written is one line on stderr and exit status 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, complaint } = await runShell(`${client} > /dev/full`);
    assertMatch(complaint, /^Cannot write the output: No space left.*\n$/);
    assertEquals(code, 1);
  },
);

for (
  const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const
) {
  testProgram(
    `filter: ${signal} ends it with exit status ${status}`,
    async () => {
      await using server = new TestServer();
      await using program = new Program([...CLIENT, `${server.port}`]);
      program.types("alice\n");
      await program.stdout.shows(/Welcome, alice!/);
      program.kill(signal);
      assertEquals((await program.ends()).code, status);
    },
  );
}

testProgram(
  "filter: a program behind the pipe that reads late gets every line",
  async () => {
    using server = new FakeServer();
    await using program = new Program([...CLIENT, `${server.port}`], {
      input: "alice\n",
    });
    const connection = await server.accept();
    await connection.receives("alice");
    const lines = Array.from({ length: 5_000 }, (_, n) => `bob: line ${n}`);
    await connection.sends(
      WELCOME,
      ...lines.map((line) => line.padEnd(100, ".")),
    );
    assertEquals(await connection.nextLineOrEnd(), undefined);
    connection.closes();
    // When this client has given up its server, the same time has passed for both.
    await using other = new Program([...CLIENT, `${server.port}`], {
      input: "alice\n",
    });
    assertStringIncludes((await other.ends()).stderr, "does not answer");
    const { code, stdout, stderr } = await program.ends();
    assertEquals(stdout.split("\n").length, 5_002, stderr);
    assertEquals(code, 0);
  },
);

testProgram(
  "command line: a wrong argument is blamed by its name, with exit status 2",
  async () => {
    const run = ["--no-prompt", "--allow-net", "client.ts"];
    await failsToStart(2, [...run, "--name="], "Missing name after --name");
    await failsToStart(2, [...run, "--name"], "Missing name after --name");
    await failsToStart(2, [...run, ""], 'Wrong host in ""');
    await failsToStart(
      2,
      [...run, "localhost", ""],
      'Wrong port in "localhost "',
    );
    await failsToStart(2, [...run, ":9999"], 'Wrong host in ":9999"');
    await failsToStart(
      2,
      [...run, "10123"],
      "for a port, type 127.0.0.1:10123.",
    );
    await failsToStart(2, [...run, "a", "1", "b"], 'Unexpected argument "b"');
  },
);

// -------------------------------------------------- the program at a terminal

testTerminal("terminal: quit at the prompt for a name leaves", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.open(client(server.port));
  await alice.endsWith("Name:");
  await alice.type("quit\r");
  await alice.ends(0);
  await alice.shows("👋 Goodbye!");
});

testTerminal("terminal: --name quit is a name", async () => {
  await using server = new TestServer();
  await using alice = await Terminal.join(server.port, "quit");
  await alice.shows("Welcome, quit!");
});

testTerminal("terminal: who leaves sees what was not sent", async () => {
  using server = new FakeServer();
  await using alice = await Terminal.open(client(server.port));
  const connection = await server.accept();
  await alice.endsWith("Name:");
  await alice.type("alice\rhello\r");
  await connection.receives("alice");
  await alice.endsWith("Name: alice", "Name: hello", "Name:");
  await alice.press("C-c");
  await alice.ends(0);
  await alice.shows("Name: alice\nName: hello\nNot sent: hello\n");
  const shown = (await alice.rows()).join("\n");
  assert(!shown.includes("Not sent: alice"), `alice was sent:\n${shown}`);
});

testTerminal(
  "terminal: a line that is too long, typed before the name is accepted, is complained of above the prompt",
  async () => {
    using server = new FakeServer();
    await using alice = await Terminal.open(client(server.port));
    const connection = await server.accept();
    await alice.endsWith("Name:");
    await alice.paste("alice\n" + "y".repeat(1_001) + "\n");
    await connection.receives("alice");
    await connection.sends(WELCOME);
    const hint = "Type messages and press Enter. Type 'quit' to exit.";
    await alice.endsWith(WELCOME, hint, TOO_LONG, "You:");
  },
);

testTerminal(
  "terminal: after kill -TSTP and fg the line is edited as before",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using terminal = await Terminal.open("bash --norc -i");
    const program = client(server.port, "--name", "alice");
    await terminal.type(`sh -c 'echo client $$; exec ${program}'\r`);
    await bob.receives("[SYSTEM] alice joined the chat!");
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
    await bob.sends("hi");
    await terminal.endsWith("📨 bob: hi", "You: Xhalf a line");
    await terminal.press("Enter");
    await terminal.endsWith("📨 bob: hi", "You: Xhalf a line", "You:");
    await bob.receives("alice: Xhalf a line");
  },
);
