/**
 * Lesson 16: the filter.
 *
 * A filter is a program that reads its input to the end, writes results to its
 * output, and ends: `sort`, `grep`, and in a pipe our client. Other programs rely on
 * its contract. stdout is for results and stderr for everything else, the end of the
 * input is no reason to lose what is still on its way, and the exit status says how
 * it ended. HTTP clients such as curl have the same contract. So have `ssh` and `nc`,
 * which half-close a connection at the end of their input.
 *
 * Most of these tests need no program: a conversation is a function over a
 * connection, an input and an output. Here the connection is one in memory, and the
 * test is the user and the server.
 *
 * No test sleeps to wait. A test about a timeout starts a second conversation, whose
 * server is silent for good. When the client has given that server up, the timeout
 * of the first conversation has passed as well.
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  fail,
} from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  beforeIdle,
  inTime,
  Person,
  quote,
  testProgram,
  TestServer,
  turn,
  within,
} from "./helpers.ts";
import { type ConnectOptions, MemoryNetwork } from "./network.ts";
import { type Ended, FakeServer, Program, Server } from "./programs.ts";

const QUESTION = announcements.enterName(54321);
const WELCOME = announcements.welcome("alice", "alice");
const REFUSAL = "[SYSTEM] The name alice is taken. Enter another name:";
const GONE = "The server is gone: it ended. Check that it is running.";
const SILENT = "The server does not answer.";
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";

// ------------------------------------------------- a conversation in memory

/** How a conversation ends: the exit status, and a sentence for the user. */
interface Ending {
  status: number;
  message?: string;
}

/** What the function `chat` of client.ts is given. Early steps ignore some of it. */
interface ChatOptions {
  input: ReadableStream<string>;
  output: {
    show(line: string): void | Promise<void>;
    showNotice(sentence: string): void;
  };
  canTryAgain: boolean;
  answerTimeoutMs?: number;
  sendTimeoutMs?: number;
}

type Chat = (conn: Deno.TcpConn, options: ChatOptions) => Promise<Ending>;

/** The function `chat`. It does not exist before the first step of this lesson. */
async function importChat(): Promise<Chat> {
  const client: Record<string, unknown> = await import("../client.ts");
  const { chat } = client;
  const advice = "the page of step 16.1 says what it has to do";
  assert(chat, `client.ts does not export a function "chat" yet: ${advice}`);
  return chat as Chat;
}

/** If nothing is shown in so many turns of the event loop, nothing will be. */
const IDLE_TURNS = 1_000;

/** A conversation in which the test is the user and the server. */
class TestChat {
  /** How the conversation ends. */
  readonly ending: Promise<Ending>;
  /** The lines that were shown. */
  readonly shown: string[] = [];
  /** What the client itself has said. */
  readonly remarks: string[] = [];
  #input!: ReadableStreamDefaultController<string>;

  /** Starts a conversation. */
  static async start(
    options: Partial<ChatOptions> = {},
    connectOptions?: ConnectOptions,
  ): Promise<TestChat> {
    const chat = await importChat();
    const network = new MemoryNetwork();
    const listener = network.listen();
    const accepted = listener.accept();
    const conn = await network.connect(listener.addr.port, connectOptions);
    const server = new Person(await accepted, "the server");
    return new TestChat(chat, conn, server, options);
  }

  /** Starts a conversation in which alice is a member. */
  static async startAsMember(
    options: Partial<ChatOptions> = {},
    connectOptions?: ConnectOptions,
  ): Promise<TestChat> {
    const chat = await TestChat.start(options, connectOptions);
    chat.types("alice");
    await chat.serverReceives("alice");
    await chat.serverSends(WELCOME);
    if (!options.output) await chat.shows(1);
    return chat;
  }

  constructor(
    chat: Chat,
    conn: Deno.TcpConn,
    readonly server: Person,
    options: Partial<ChatOptions>,
  ) {
    const input = new ReadableStream<string>({
      start: (controller) => {
        this.#input = controller;
      },
      // Some inputs cannot be cancelled while a read is pending.
      cancel: () => new Promise(() => {}),
    });
    const output = {
      show: (line: string) => void this.shown.push(line),
      showNotice: (sentence: string) => void this.remarks.push(sentence),
    };
    const all = { input, output, canTryAgain: true, ...options };
    this.ending = chat(conn, all);
    this.ending.catch(() => {}); // The test looks at it later.
  }

  /** The user types lines. */
  types(...lines: string[]): void {
    for (const line of lines) this.#input.enqueue(line);
  }

  /** The input ends. */
  endsInput(): void {
    this.#input.close();
  }

  /** The input fails. */
  failsInput(error: Error): void {
    this.#input.error(error);
  }

  /** The server sends lines. */
  async serverSends(...lines: string[]): Promise<void> {
    const complaint = `The client is gone, and cannot show ${quote(lines[0]!)}`;
    await this.server.sends(...lines).catch(() => fail(complaint));
  }

  /** Fails unless the server receives exactly these lines next. */
  async serverReceives(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const next = this.server.nextLineOrEnd();
      const complaint = `The client does not send ${quote(line)}`;
      assertLine(await beforeIdle(next, complaint), line, "The server");
    }
  }

  /** Fails unless the client ends its side of the connection, and sends nothing before. */
  async leaves(): Promise<void> {
    const next = this.server.nextLineOrEnd();
    const line = await beforeIdle(next, "The client does not end its side");
    if (line !== undefined) {
      fail(`The client should end its side, but sends ${quote(line)}`);
    }
  }

  /** Waits until so many lines were shown. */
  async shows(count: number): Promise<void> {
    for (let n = 0; n < IDLE_TURNS && this.shown.length < count; n++) {
      await turn();
    }
    const shown = this.shown.length;
    assert(shown >= count, `The user sees ${shown} lines instead of ${count}`);
  }

  /** Fails unless the conversation ends like this. */
  async endsWith(status: number, message?: string): Promise<void> {
    const expected = describe({ status, message });
    const complaint = `The client should end ${expected}`;
    const ending = await beforeIdle(this.ending, complaint).catch((error) =>
      fail(`${complaint}\nbut fails with ${error}`)
    );
    assertEnding(ending, { status, message });
  }
}

function assertEnding(seen: Ending, expected: Ending): void {
  const isSame = seen.status === expected.status &&
    seen.message === expected.message;
  if (isSame) return;
  fail(`The client should end ${describe(expected)}
but ends ${describe(seen)}`);
}

function describe({ status, message }: Ending): string {
  const says = message ? `the message ${quote(message)}` : "no message";
  return `with exit status ${status} and ${says}`;
}

Deno.test("filter: a conversation sends what the user types, and shows what the server sends", async () => {
  const chat = await TestChat.start();
  await chat.serverSends(QUESTION, "[SYSTEM] One moment, please.");
  await chat.shows(2);
  chat.types("alice");
  await chat.serverReceives("alice");
  await chat.serverSends(WELCOME);
  await chat.shows(3);
  chat.types("hi", "grüß 😀");
  await chat.serverReceives("hi", "grüß 😀");
  chat.server.closes();
  const complaint = "The conversation goes on although the server ended";
  const { status } = await beforeIdle(chat.ending, complaint);
  assertEquals(status, 1, "exit status if the server ends the connection");
  const lines = [QUESTION, "[SYSTEM] One moment, please.", WELCOME];
  assertLines(chat.shown, lines, "the user");
});

Deno.test("filter: a line that the connection accepts in parts arrives whole", async () => {
  const chat = await TestChat.startAsMember({}, { bufferSize: 100 });
  const line = "x".repeat(500);
  chat.types(line);
  await chat.serverReceives(line);
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

Deno.test("filter: an error of the input ends the conversation and its connection", async () => {
  const chat = await TestChat.startAsMember();
  chat.failsInput(new RangeError("the input is broken"));
  await chat.leaves();
  await assertRejects(() => chat.ending, RangeError, "the input is broken");
});

Deno.test("filter: an error of the output ends the conversation and its connection", async () => {
  const output = {
    show: () => Promise.reject(new RangeError("the output is broken")),
    showNotice: () => {},
  };
  const chat = await TestChat.start({ output });
  await chat.serverSends(QUESTION);
  await chat.leaves();
  await assertRejects(() => chat.ending, RangeError, "the output is broken");
});

// ---------------------------------------------------- the program in a pipe

const CLIENT = ["--no-prompt", "--allow-net", "client.ts", "127.0.0.1"];
const HINT = "Type messages and press Enter. Type 'quit' to exit.";

/** A client in a pipe. Without an input, the pipe stays open. */
function startClient(
  port: number,
  input?: string,
  ...options: string[]
): Program {
  return new Program([...CLIENT, `${port}`, ...options], { input });
}

/** How a client has ended. What it said at its start is taken out. */
function withoutStart({ code, stdout, stderr }: Ended): Ended {
  const start = /^(\[[\w:]+\] )?(🔄|✅).*\n/gmu;
  return {
    code,
    stdout: stdout.replace(start, ""),
    stderr: stderr.replace(start, ""),
  };
}

/** Fails unless the client ends like this. Returns what it wrote to stdout. */
async function endsWith(
  client: Program,
  code: number,
  complaint = /^$/,
): Promise<string> {
  const ended = withoutStart(await client.ends());
  assertMatch(ended.stderr, complaint, "what it says on stderr");
  assertEquals(ended.code, code, "its exit status");
  return ended.stdout;
}

/** Ends a shell command that starts the client, as `withoutStart` does. */
async function runShell(command: string): Promise<Ended> {
  const shell = new Deno.Command("sh", {
    args: ["-c", command],
    cwd: new URL("..", import.meta.url),
  });
  const output = await inTime(shell.output(), "The test", command);
  const decoder = new TextDecoder();
  return withoutStart({
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  });
}

function clientCommand(port: number, ...options: string[]): string {
  return [Deno.execPath(), "run", ...CLIENT, port, ...options].join(" ");
}

testProgram(
  "filter: stdout is what the server sends, and nothing else",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server.port);
    client.types("alice\n");
    const connection = await server.accept();
    await connection.receives("alice");
    const lines = `${QUESTION}
${WELCOME}
bob:       spaces      stay
bob: grüß 😀 👨‍👩‍👧 שלום

${announcements.left("bob")}
`;
    await connection.sendsRaw(lines);
    connection.closes();
    const { stdout } = await client.ends();
    assertEquals(stdout, lines);
  },
);

testProgram(
  "filter: what the client itself says goes to stderr, with the time",
  async () => {
    await using server = new TestServer();
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    await server.stop();
    const { stderr } = await client.ends();
    const start = `[time] 🔄 Connecting to 127.0.0.1:${server.port}...
[time] ✅ Connected! ${HINT}
`;
    assertEquals(stderr.slice(0, start.length), start);
  },
);

testProgram(
  "filter: a signal ends it with an exit status of 128 and the signal's number",
  async () => {
    await using server = new TestServer();
    for (
      const [signal, status] of [
        ["SIGINT", 130],
        ["SIGTERM", 143],
        ["SIGHUP", 129],
      ] as const
    ) {
      await using client = startClient(server.port);
      client.types("alice\n");
      await client.stdout.shows(/Welcome, alice!/);
      client.kill(signal);
      await endsWith(client, status);
    }
  },
);

testProgram(
  "filter: an input that cannot be read is one line on stderr and exit status 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, stderr } = await runShell(`${client} < /tmp`);
    assertMatch(stderr, /^Cannot read the input: Is a directory.*\n$/);
    assertEquals(code, 1);
  },
);

// ------------------------------------------------------------------- leaving

Deno.test("filter: at the end of the input the client half-closes, and shows what still comes", async () => {
  const chat = await TestChat.start();
  chat.types("alice");
  await chat.serverReceives("alice");
  await chat.serverSends(WELCOME);
  chat.types("hi");
  chat.endsInput();
  await chat.serverReceives("hi");
  await chat.leaves();
  await chat.serverSends("bob: late");
  chat.server.closes();
  await chat.endsWith(0);
  assertLines(chat.shown, [WELCOME, "bob: late"], "the user");
});

for (const quit of ["quit", "/quit", " quit "]) {
  Deno.test(`filter: a member who types "${quit}" leaves, although the input goes on`, async () => {
    const chat = await TestChat.startAsMember();
    chat.types("hi", quit, "not this");
    await chat.serverReceives("hi");
    await chat.leaves();
    await chat.serverSends("bob: late");
    chat.server.closes();
    await chat.endsWith(0);
    assertLines(chat.shown, [WELCOME, "bob: late"], "the user");
  });
}

Deno.test("filter: a shutdown of the server after the user has left is no failure", async () => {
  const chat = await TestChat.startAsMember();
  chat.types("quit");
  await chat.leaves();
  await chat.serverSends(announcements.shutdown);
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("filter: a welcome before the first name makes a member, too", async () => {
  const chat = await TestChat.start();
  await chat.serverSends(WELCOME);
  await chat.shows(1);
  chat.types("alice", "hi", "quit");
  await chat.serverReceives("alice", "hi");
  await chat.leaves();
  await chat.serverSends("bob: late");
  chat.server.closes();
  await chat.endsWith(0);
});

testProgram(
  "filter: a file of 10,000 lines arrives whole, and so does what comes back",
  async () => {
    using server = new FakeServer();
    const sent = Array.from({ length: 10_000 }, (_, n) => `line ${n}`);
    const input = ["alice", ...sent].join("\n"); // The last line has no newline.
    await using client = startClient(server.port, input);
    const connection = await server.accept();
    await connection.receives("alice");
    await connection.sends(WELCOME);
    await connection.receives(...sent);
    assertLine(await connection.nextLineOrEnd(), undefined, "The server");
    // These are more than a pipe holds, and the test reads none of them yet.
    const late = Array.from(
      { length: 5_000 },
      (_, n) => `bob: ${n}`.padEnd(99),
    );
    await connection.sends(...late).catch(() => fail("The client is gone"));
    connection.closes();
    const stdout = await endsWith(client, 0);
    assertLines(
      stdout.split("\n"),
      [WELCOME, ...late, ""],
      "whoever reads stdout",
    );
  },
);

// -------------------------------------------------------------- registration

Deno.test("filter: no message is sent before the name is accepted", async () => {
  const chat = await TestChat.start();
  chat.types("alice", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends("[SYSTEM] One moment, please.");
  await chat.shows(1);
  chat.server.halfCloses();
  await chat.leaves(); // A hasty client has sent "hi" by now.
});

Deno.test("filter: the line after a refused name is the next name", async () => {
  const chat = await TestChat.start();
  chat.types("alice", "quit", "hi", "quit");
  await chat.serverReceives("alice");
  await chat.serverSends(REFUSAL);
  await chat.serverReceives("quit"); // So this is a name, and nobody leaves.
  await chat.serverSends(announcements.welcome("quit", "quit"));
  await chat.serverReceives("hi");
  await chat.leaves();
  chat.server.closes();
  await chat.endsWith(0);
});

testProgram(
  "filter: quit as the first line, or after --name, is a name",
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
      await bob.receives(announcements.joined("quit"), "quit: hi");
      await bob.receives(announcements.left("quit"));
    }
  },
);

Deno.test("filter: a refused name ends it if the user cannot type another", async () => {
  const chat = await TestChat.start({ canTryAgain: false });
  chat.types("alice", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends(REFUSAL);
  await chat.leaves();
  const message = "Cannot join: The name alice is taken. Choose another name.";
  await chat.endsWith(1, message);
  assertLines(chat.shown, [REFUSAL], "the user");
});

testProgram(
  "filter: in a pipe a refused name is one line on stderr and exit status 1",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    const { code, stderr } = await runShell(
      `printf 'alice\\nhi\\n' | ${clientCommand(server.port)}`,
    );
    const said = "Cannot join: The name alice is taken. Choose another name.\n";
    assertEquals({ code, stderr }, { code: 1, stderr: said });
    await server.join("carol");
    await alice.receives(announcements.joined("carol")); // Nobody is called hi.
  },
);

// -------------------------------------------------------------- how it ended

for (
  const line of [
    announcements.chatFull,
    announcements.noNameInTime,
    announcements.notAWebServer,
    announcements.shutdown,
  ]
) {
  Deno.test(`filter: after "${line}" the end needs no other explanation`, async () => {
    const chat = await TestChat.start();
    chat.types("GET / HTTP/1.1");
    await chat.serverReceives("GET / HTTP/1.1");
    await chat.serverSends(line);
    chat.server.closes();
    await chat.endsWith(1);
  });
}

Deno.test("filter: a server that resets the connection is gone, and what came before is shown", async () => {
  const chat = await TestChat.startAsMember();
  const left = announcements.left("bob"); // This explains nothing.
  await chat.serverSends("bob: one", left);
  chat.server.resets();
  await chat.endsWith(1, GONE);
  assertLines(chat.shown, [WELCOME, "bob: one", left], "the user");
});

Deno.test("filter: a line that cannot be sent any more is no other failure than a server that is gone", async () => {
  const canShow = Promise.withResolvers<void>();
  const output = { show: () => canShow.promise, showNotice: () => {} };
  const chat = await TestChat.startAsMember({ output });
  chat.server.resets();
  canShow.resolve();
  chat.types("one", "two");
  await chat.endsWith(1, GONE);
});

for (const signal of ["SIGKILL", "SIGINT"] as const) {
  const isExplained = signal === "SIGINT";
  const title = isExplained
    ? "a server that shuts down says so itself, and the exit status is 1"
    : "a server that is killed is one line on stderr and exit status 1";
  testProgram(`filter: ${title}`, async () => {
    await using server = await Server.start();
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    server.kill(signal);
    const complaint = isExplained ? /^$/ : /^The server is gone: .*Check .*\n$/;
    const stdout = await endsWith(client, 1, complaint);
    const lastLine = stdout.trimEnd().split("\n").at(-1);
    assertEquals(lastLine === announcements.shutdown, isExplained, stdout);
  });
}

// ------------------------------------------------- what is not sent, and said

Deno.test("filter: a message that is too long is not sent, and the others are", async () => {
  const chat = await TestChat.startAsMember();
  const longest = "😀".repeat(1_000);
  const cut = "hi" + "\x00".repeat(4 * 1024); // Some of it may be missing.
  chat.types(longest, longest + "!", cut, "after it");
  await chat.serverReceives(longest, "after it");
  assertEquals(chat.remarks, [TOO_LONG, TOO_LONG]);
  assertLines(chat.shown, [WELCOME], "the user");
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

Deno.test("filter: what is sent, and measured, are the characters that the server would pass on", async () => {
  const chat = await TestChat.start();
  chat.types("al\x1bice");
  await chat.serverReceives("alice");
  await chat.serverSends(WELCOME);
  await chat.shows(1);
  const longest = "x".repeat(1_000);
  chat.types("a\tb\x1b[2Jc\u202ed", "\u2800", longest + "\x00", "next");
  await chat.serverReceives("a b[2Jcd", "", longest, "next");
  assertEquals(chat.remarks, []);
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

Deno.test("filter: a name that may have been cut does not become a short one", async () => {
  const chat = await TestChat.start();
  const longName = "a" + "\x00".repeat(4_095);
  chat.types(longName);
  await chat.serverReceives(longName);
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

testProgram(
  "filter: with --name all lines are messages, and one that is too long is said on stderr",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const longest = "😀".repeat(1_000);
    const input = ["hi", longest, longest + "!", "after it"].join("\n");
    await using client = startClient(server.port, input, "--name", "alice");
    await bob.receives(announcements.joined("alice"));
    await bob.receives("alice: hi", `alice: ${longest}`, "alice: after it");
    await bob.receives(announcements.left("alice"));
    const stdout = await endsWith(client, 0, /^\[time\] A message has .*\n$/);
    assert(!stdout.includes("too long"), "the server had to refuse it");
  },
);

// ------------------------------------------------- the program behind the pipe

testProgram(
  "filter: a program behind the pipe that wants no more lines is no failure",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    await client.stdout.close(); // as `head -1` does
    await bob.sends("one", "two");
    await within(5_000, client.ends(), "The client goes on for nobody")
      .then(({ code, stderr }) => {
        const says = stderr.replace(/^\[time\] (🔄|✅).*\n/gm, "");
        assertEquals(says, "", "what it says on stderr");
        assertEquals(code, 0, "its exit status");
      });
  },
);

testProgram(
  "filter: an output that cannot be written is one line on stderr and exit status 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, stderr } = await runShell(`${client} > /dev/full`);
    assertMatch(stderr, /^Cannot write the output: No space left.*\n$/);
    assertEquals(code, 1);
  },
);

// ------------------------------------------------------- a server that is silent

const TIMEOUTS = { answerTimeoutMs: 100, sendTimeoutMs: 100 };
/** The client gives a silent server up long before. */
const PATIENCE_MS = 2_000;

/** Fails unless the client gives its server up. */
async function isGivenUp(chat: TestChat, when: string): Promise<void> {
  const complaint = `The client still waits for a server ${when}`;
  const ending = await within(PATIENCE_MS, chat.ending, complaint);
  assertEnding(ending, { status: 1, message: SILENT });
}

/** Resolves when every conversation with these timeouts must have ended. */
async function timeoutsPass(): Promise<void> {
  const chat = await TestChat.start({ answerTimeoutMs: 200 });
  chat.types("alice");
  await isGivenUp(chat, "that does not answer a name");
}

Deno.test("filter: a server that answers nothing, accepts nothing, or does not end the connection is given up", async () => {
  const answersNothing = await TestChat.start(TIMEOUTS);
  answersNothing.types("alice");
  const answersOnlyOnce = await TestChat.start(TIMEOUTS);
  answersOnlyOnce.types("alice");
  await answersOnlyOnce.serverReceives("alice");
  await answersOnlyOnce.serverSends("[SYSTEM] One moment, please.");
  const small = { bufferSize: 100 };
  const acceptsNothing = await TestChat.startAsMember(TIMEOUTS, small);
  acceptsNothing.types("x".repeat(500));
  const doesNotEnd = await TestChat.startAsMember(TIMEOUTS);
  doesNotEnd.endsInput();
  await isGivenUp(answersNothing, "that does not answer a name");
  await isGivenUp(answersOnlyOnce, "that only says to wait");
  await isGivenUp(acceptsNothing, "that accepts no message");
  await isGivenUp(doesNotEnd, "that does not end the connection");
});

Deno.test("filter: a server may be silent for any time while nothing is expected of it", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS);
  await timeoutsPass();
  chat.types("hi");
  await chat.serverReceives("hi");
  chat.endsInput();
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("filter: a wait for our own output is not the server's silence", async () => {
  const canShow = Promise.withResolvers<void>();
  const shown: string[] = [];
  const show = async (line: string) => {
    if (shown.length > 0) await canShow.promise;
    shown.push(line);
  };
  const output = { show, showNotice: () => {} };
  const chat = await TestChat.startAsMember({ ...TIMEOUTS, output });
  chat.endsInput();
  await chat.leaves();
  await chat.serverSends("bob: one", "bob: two");
  chat.server.closes();
  await timeoutsPass();
  canShow.resolve();
  await chat.endsWith(0);
  assertLines(shown, [WELCOME, "bob: one", "bob: two"], "the user");
});

Deno.test("filter: a member may be held back for longer than an answer may take", async () => {
  const options = { answerTimeoutMs: 100, sendTimeoutMs: 60_000 };
  const chat = await TestChat.startAsMember(options, { bufferSize: 100 });
  const lines = Array.from({ length: 100 }, (_, n) => `line ${n}`);
  chat.types(...lines);
  chat.endsInput();
  await timeoutsPass();
  await chat.serverReceives(...lines);
  await chat.leaves();
  chat.server.closes();
  await chat.endsWith(0);
});

testProgram(
  "filter: a server that says nothing is given up after some seconds",
  async () => {
    using server = new FakeServer();
    await using nameless = startClient(server.port, "");
    await using hasty = startClient(server.port, "alice\nhi\n");
    const endings = Promise.all(
      [nameless, hasty].map((client) =>
        endsWith(client, 1, /^The server does not answer\.\n$/)
      ),
    );
    await within(8_000, endings, "The client still waits after 8 seconds");
  },
);
