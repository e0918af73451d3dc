/**
 * Lesson 16: the filter.
 *
 * A filter is a program that reads its input to the end, writes results to its output,
 * and exits. Examples are `sort`, `grep`, and our client in a pipe. A pipe makes the
 * output of one program the input of the next. Other programs rely on three rules:
 *
 *   - Results go to stdout, and everything else goes to stderr. Otherwise the next
 *     program would read an error as a result.
 *   - The exit status says how the program has ended: 0 means success.
 *   - The end of the input is not the end of the work: answers may still be on their
 *     way. So our client half-closes: it sends a FIN, and still receives.
 *
 * `curl --fail` follows the first two rules. `nc -N` of OpenBSD half-closes at the end of its
 * input, and `ssh` does the same inside its own protocol.
 *
 * Most of these tests start no program. They call the function `chat` of client.ts with
 * an in-memory connection, and the test plays both user and server.
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
  IDLE_TURNS,
  idleTurn,
  inTime,
  Person,
  quote,
  testProgram,
  TestServer,
  untilIdle,
  within,
} from "./helpers.ts";
import { type ConnectOptions, MemoryNetwork } from "./network.ts";
import { type Ended, FakeServer, Program, Server } from "./programs.ts";

const QUESTION = announcements.enterName(54321);
const WELCOME = announcements.welcome("alice", "alice");
const REFUSAL = "[SYSTEM] The name alice is taken. Enter another name:";
const ENDED =
  "The connection to the server has ended. Check that the server is running.";
const SILENT = "The server does not answer.";
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";

// ------------------------------------------------- a conversation in memory

/** How a conversation ends: the exit status, and a sentence for the user. */
interface Ending {
  status: number;
  message?: string;
}

/** The options of the function `chat` of client.ts. Early steps ignore some of them. */
interface ChatOptions {
  input: AsyncIterable<string>;
  output: {
    show(line: string): void | Promise<void>;
    showNotice(sentence: string): void;
    onRefusal?(reason: string): void;
  };
  silenceTimeoutMs?: number;
  memberTimeoutMs?: number;
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

/** A conversation in which the test is the user and the server. */
class TestChat {
  /** How the conversation ends. */
  readonly ending: Promise<Ending>;
  /** The lines that were shown. */
  readonly shown: string[] = [];
  /** The sentences from the client itself. */
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
    readonly conn: Deno.TcpConn,
    readonly server: Person,
    options: Partial<ChatOptions>,
  ) {
    const input = new ReadableStream<string>({
      start: (controller) => {
        this.#input = controller;
      },
    });
    const output = {
      show: (line: string) => void this.shown.push(line),
      showNotice: (sentence: string) => void this.remarks.push(sentence),
    };
    this.ending = chat(conn, { input, output, ...options });
    // A test looks at an error later. Without this line, Deno would report the error
    // as an unhandled rejection before.
    this.ending.catch(() => {});
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
    const complaint = `The client has ended, and cannot show ${
      quote(lines[0]!)
    }`;
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
    for (let n = 1; n <= IDLE_TURNS && this.shown.length < count; n++) {
      await idleTurn(n);
    }
    const shown = this.shown.length;
    assert(shown >= count, `The user sees ${shown} lines instead of ${count}`);
  }

  /** Fails unless the conversation ends with this exit status and message. */
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

Deno.test("filter: the client sends what the user types, and shows what the server sends", async () => {
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

Deno.test("filter: the client sends a whole line, even if each write accepts only a part of it", async () => {
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

/** Starts a client in a pipe. Without the argument `input`, its stdin stays open. */
function startClient(
  port: number,
  input?: string,
  ...options: string[]
): Program {
  return new Program([...CLIENT, `${port}`, ...options], { input });
}

/** How a client has ended, without the lines that it wrote at its start. */
function withoutStart({ code, stdout, stderr }: Ended): Ended {
  const start = /^(\[[\w:]+\] )?(🔄|✅).*\n/gmu;
  return {
    code,
    stdout: stdout.replace(start, ""),
    stderr: stderr.replace(start, ""),
  };
}

/** Fails unless the client ends with this exit status. Returns what it wrote to stdout. */
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

/** Runs a shell command that starts the client. Returns its end as `withoutStart` does. */
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
  "filter: the client writes to stdout what the server sends, and nothing else",
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
  "filter: the client reports on stderr that it connects, with the time",
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
  "filter: a signal ends the client, and its exit status is 128 plus the signal's number",
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
  "filter: if the input cannot be read, the client writes one line to stderr and exits with 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, stderr } = await runShell(`${client} < /tmp`);
    assertMatch(stderr, /^Cannot read the input: Is a directory.*\n$/);
    assertEquals(code, 1);
  },
);

// ------------------------------------------------------------------- leaving

Deno.test("filter: at the end of the input, the client half-closes, and shows what it still receives", async () => {
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
  testProgram(
    `filter: a member who types "${quit}" leaves, although the input goes on`,
    async () => {
      using server = new FakeServer();
      await using client = startClient(server.port); // Its stdin stays open.
      client.types(`alice\nhi\n${quit}\nnot this\n`);
      const connection = await server.accept();
      await connection.receives("alice");
      await connection.sends(WELCOME);
      await connection.receives("hi");
      assertLine(await connection.nextLineOrEnd(), undefined, "The server");
      await connection.sends("bob: late").catch(() => fail("It has exited"));
      connection.closes();
      assertEquals(await endsWith(client, 0), `${WELCOME}\nbob: late\n`);
    },
  );
}

Deno.test("filter: if the server shuts down after the user has left, the client exits with 0", async () => {
  const chat = await TestChat.startAsMember();
  chat.endsInput();
  await chat.leaves();
  await chat.serverSends(announcements.shutdown);
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("filter: if the server sends a welcome before the first name, the user becomes a member", async () => {
  const chat = await TestChat.start();
  await chat.serverSends(WELCOME);
  await chat.shows(1);
  chat.types("alice", "hi");
  chat.endsInput();
  await chat.serverReceives("alice", "hi");
  await chat.leaves();
  await chat.serverSends("bob: late");
  chat.server.closes();
  await chat.endsWith(0);
});

testProgram(
  "filter: the client sends all 10,000 lines of a file, and shows all lines that come back",
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
    // These lines are more than a pipe holds, and the test does not read stdout yet.
    // So the client has to wait before it can write all of them.
    const late = Array.from(
      { length: 5_000 },
      (_, n) => `bob: ${n}`.padEnd(99),
    );
    await connection.sends(...late).catch(() => fail("The client has exited"));
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

Deno.test("filter: the client sends no message before the server has accepted the name", async () => {
  const chat = await TestChat.start();
  chat.types("alice", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends("[SYSTEM] One moment, please.");
  await chat.shows(1);
  chat.server.halfCloses();
  await chat.leaves(); // A client that does not wait has sent "hi" by now.
});

Deno.test("filter: after a refused name, the next line is another name", async () => {
  const chat = await TestChat.start();
  chat.types("alice", "bob", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends(REFUSAL);
  await chat.serverReceives("bob");
  await chat.serverSends("[SYSTEM] One moment, please.");
  await chat.shows(2);
  chat.server.halfCloses();
  await chat.leaves(); // A client that does not wait has sent "hi" by now.
});

testProgram(
  "filter: the client takes 'quit' as a name if it is the first line, or follows --name",
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

Deno.test("filter: if a name is refused, the output receives the reason, and can end the conversation", async () => {
  const output = {
    show: () => {},
    showNotice: () => {},
    onRefusal: (reason: string) => {
      throw new RangeError(reason);
    },
  };
  const chat = await TestChat.start({ output });
  chat.types("alice", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends(REFUSAL);
  await chat.leaves();
  const reason = "The name alice is taken.";
  await assertRejects(() => chat.ending, RangeError, reason);
});

testProgram(
  "filter: in a pipe, the client reports a refused name in one line on stderr and exits with 1",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    const { code, stderr } = await runShell(
      `printf 'alice\\nhi\\n' | ${clientCommand(server.port)}`,
    );
    const said = "Cannot join: The name alice is taken. Choose another name.\n";
    assertEquals({ code, stderr }, { code: 1, stderr: said });
    await server.join("carol");
    await alice.receives(announcements.joined("carol")); // No "hi" has joined before.
  },
);

// -------------------------------------------------- how a conversation ends

for (
  const line of [
    announcements.chatFull,
    announcements.noNameInTime,
    announcements.notAWebServer,
    announcements.shutdown,
  ]
) {
  Deno.test(`filter: after "${line}", the client adds no explanation`, async () => {
    const chat = await TestChat.start();
    chat.types("GET / HTTP/1.1");
    await chat.serverReceives("GET / HTTP/1.1");
    await chat.serverSends(line);
    chat.server.closes();
    await chat.endsWith(1);
  });
}

Deno.test("filter: the client shows the lines that it read before an RST, and says that the connection has ended", async () => {
  const chat = await TestChat.startAsMember();
  const left = announcements.left("bob"); // It does not say why the server ends.
  await chat.serverSends("bob: one", left);
  chat.server.resets();
  await chat.endsWith(1, ENDED);
  assertLines(chat.shown, [WELCOME, "bob: one", left], "the user");
});

Deno.test("filter: if a line cannot be sent after an RST, the client says that the connection has ended", async () => {
  const canShow = Promise.withResolvers<void>();
  const output = {
    show: async (line: string) => {
      if (line !== WELCOME) await canShow.promise;
    },
    showNotice: () => {},
  };
  const chat = await TestChat.startAsMember({ output });
  await chat.serverSends("bob: one");
  chat.server.resets();
  chat.types("one", "two");
  chat.endsInput();
  await untilIdle(); // A line could be sent by now.
  canShow.resolve();
  await chat.endsWith(1, ENDED);
});

for (const signal of ["SIGKILL", "SIGINT"] as const) {
  const isExplained = signal === "SIGINT";
  const title = isExplained
    ? "if the server announces its shutdown, the client adds nothing and exits with 1"
    : "if the server is killed, the client prints one line on stderr and exits with 1";
  testProgram(`filter: ${title}`, async () => {
    await using server = await Server.start();
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    server.kill(signal);
    const complaint = isExplained
      ? /^$/
      : /^The connection to the server has ended\. Check .*\n$/;
    const stdout = await endsWith(client, 1, complaint);
    const lastLine = stdout.trimEnd().split("\n").at(-1);
    assertEquals(lastLine === announcements.shutdown, isExplained, stdout);
  });
}

// ----------------------------------------------- what the client does not send

Deno.test("filter: the client does not send a message that is too long, but sends the next one", async () => {
  const chat = await TestChat.startAsMember();
  const longest = "😀".repeat(1_000);
  const cut = "hi" + "\x00".repeat(4 * 1024); // So long a line may have been cut.
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

Deno.test("filter: the client sanitizes a message before it sends it, and measures only what is left", async () => {
  const chat = await TestChat.startAsMember();
  const longest = "x".repeat(1_000);
  chat.types("a\tb\x07c\u202ed", "\u2800", longest + "\x00", "next");
  await chat.serverReceives("a bcd", "", longest, "next");
  assertEquals(chat.remarks, []);
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

Deno.test("filter: the client sends a name unchanged, so that the server can refuse it", async () => {
  const chat = await TestChat.start();
  const cutName = "a" + "\x00".repeat(4_097);
  // If the client sanitized these, the first one would be empty, and the last one "a".
  for (const name of ["\u200b", "al\x1bice", cutName]) {
    chat.types(name);
    await chat.serverReceives(name);
    await chat.serverSends("[SYSTEM] No. Enter another name:");
  }
  chat.server.closes();
  await beforeIdle(
    chat.ending,
    "The conversation goes on although the server ended",
  );
});

testProgram(
  "filter: with --name, all lines are messages, and stderr reports one that is too long",
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
  "filter: a name with newlines after --name stays one line",
  async () => {
    using server = new FakeServer();
    for (const end of ["hi", "x".repeat(5_000)]) {
      await using _ = startClient(server.port, "", "--name", `bob\n${end}`);
      const connection = await server.accept();
      await connection.receives(`bob${end}`);
    }
  },
);

testProgram(
  "filter: if the next program in the pipe closes its input, the client exits with 0",
  async () => {
    await using server = new TestServer();
    const [bob, carol] = await server.joinAll("bob", "carol");
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    await client.stdout.close(); // `head -1` does this when it has one line.
    // The pipe may stay open for a moment. So bob talks until the client has ended.
    let hasEnded = false;
    const ends = client.ends().finally(() => hasEnded = true);
    for (let n = 0; n < 10_000 && !hasEnded; n++) {
      await bob.sends("hello");
      await carol.receivesUntil("bob: hello");
    }
    await within(5_000, ends, "The client goes on for nobody")
      .then(({ code, stderr }) => {
        const says = stderr.replace(/^\[time\] (🔄|✅).*\n/gm, "");
        assertEquals(says, "", "what it says on stderr");
        assertEquals(code, 0, "its exit status");
      });
  },
);

testProgram(
  "filter: if the output cannot be written, the client writes one line to stderr and exits with 1",
  async () => {
    await using server = new TestServer();
    const client = clientCommand(server.port, "--name", "dora");
    const { code, stderr } = await runShell(`${client} > /dev/full`);
    assertMatch(stderr, /^Cannot write the output: No space left.*\n$/);
    assertEquals(code, 1);
  },
);

// ------------------------------------------------------- a server that is silent

const TIMEOUTS = { silenceTimeoutMs: 100, memberTimeoutMs: 100 };
/** This is far more than the timeouts, because the machine may be busy. */
const PATIENCE_MS = 2_000;

/** Fails unless the client gives up its server and says that it is silent. */
async function isGivenUp(chat: TestChat, when: string): Promise<void> {
  const complaint = `The client still waits for a server ${when}`;
  const error = await within(
    PATIENCE_MS,
    assertRejects(() => chat.ending),
    complaint,
  );
  const { status, message } = error as Error & { status: number };
  assertEnding({ status, message }, { status: 1, message: SILENT });
}

/**
 * Waits until the timeouts of 100 ms have passed. It does not sleep for a fixed time,
 * which may be too short on a busy machine. It starts a second conversation, whose
 * server never answers, and whose timeout is twice as long. When the client has given
 * up that server, a timeout of the first conversation has passed as well.
 */
async function timeoutsPass(silenceTimeoutMs = 200): Promise<void> {
  const chat = await TestChat.start({ silenceTimeoutMs });
  chat.types("alice");
  await isGivenUp(chat, "that does not answer a name");
}

Deno.test("filter: the client gives up on a server that does not answer a name, accept a message, or end the connection", async () => {
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

Deno.test("filter: if a write fails, and the server does not end the connection, the client gives up", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS);
  chat.conn.write = () => Promise.reject(new Deno.errors.BrokenPipe("a test"));
  chat.types("hi");
  await isGivenUp(chat, "that does not end a broken connection");
  const noMember = await TestChat.start({
    ...TIMEOUTS,
    memberTimeoutMs: 60_000,
  });
  noMember.conn.write = chat.conn.write;
  noMember.types("alice");
  await isGivenUp(noMember, "that does not end a broken connection");
});

Deno.test("filter: a timeout that is undefined takes its default", async () => {
  const realSetInterval = globalThis.setInterval;
  const fast = (callback: () => void, ms = 0) =>
    realSetInterval(callback, ms / 100); // so that 5 seconds take 50 ms
  globalThis.setInterval = fast as typeof setInterval;
  try {
    const chat = await TestChat.start({ silenceTimeoutMs: undefined });
    chat.types("alice");
    await isGivenUp(chat, "if the timeout is undefined");
  } finally {
    globalThis.setInterval = realSetInterval;
  }
});

Deno.test("filter: while a member sends nothing, the client does not give up on a silent server", async () => {
  const chat = await TestChat.startAsMember(TIMEOUTS);
  await timeoutsPass();
  chat.types("hi");
  await chat.serverReceives("hi");
  chat.endsInput();
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("filter: while the client waits for its own output, it does not give up on the server", async () => {
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

Deno.test("filter: if the output is slow to show the answer to a name, the client does not give up on the server", async () => {
  const canShow = Promise.withResolvers<void>();
  const output = { show: () => canShow.promise, showNotice: () => {} };
  const chat = await TestChat.start({ ...TIMEOUTS, output });
  chat.types("alice", "hi");
  await chat.serverReceives("alice");
  await chat.serverSends(WELCOME);
  await timeoutsPass();
  canShow.resolve();
  await chat.serverReceives("hi");
  chat.endsInput();
  chat.server.closes();
  await chat.endsWith(0);
});

Deno.test("filter: the client waits longer for the server to accept a message than to answer a name", async () => {
  const options = { silenceTimeoutMs: 100, memberTimeoutMs: 60_000 };
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

Deno.test("filter: for each message that it sends, the client measures the server's silence from zero", async () => {
  const options = { memberTimeoutMs: 500 };
  const chat = await TestChat.startAsMember(options, { bufferSize: 100 });
  // Each line fills the buffer, so it waits until the server has read the one before.
  const lines = Array.from({ length: 10 }, (_, n) => `${n}`.padEnd(99, "x"));
  chat.types(...lines);
  chat.endsInput();
  for (const line of lines) {
    await timeoutsPass(100);
    await chat.serverReceives(line);
  }
  await chat.leaves();
  chat.server.closes();
  await chat.endsWith(0);
});

testProgram(
  "filter: the client program gives up on a silent server within 8 seconds",
  async () => {
    using server = new FakeServer();
    await using nameless = startClient(server.port, "");
    await using hasty = startClient(server.port, "alice\nhi\n");
    const endings = Promise.all(
      [nameless, hasty].map((client) =>
        endsWith(client, 1, /^The server does not answer\.\n$/)
      ),
    );
    // The client waits for 5 seconds. The rest is for the start of two programs.
    await within(8_000, endings, "The client still waits after 8 seconds");
  },
);
