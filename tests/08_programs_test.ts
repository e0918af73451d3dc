/**
 * Lesson 8: a program has a contract.
 *
 * Who starts it, a person or a script, sees its arguments, what it writes to
 * stdout and to stderr, its exit status, and how it takes signals; nothing
 * else. stdout is for results, stderr for remarks; 0 means done, 2 'you called
 * me wrongly', 1 'it did not work'. Then programs can be put together: a filter
 * in a pipe reads, writes, and ends when its input ends.
 *
 * Without it, `client.ts | grep bob` finds remarks among the messages, a script
 * goes on after a failure, `| head -1` ends in a stack trace, and a client
 * whose server has died waits for ever.
 *
 * Try: `printf 'alice\nhi\n' | deno run --allow-net client.ts; echo $?` with a
 * server, and without one. Then with `2>/dev/null`, then with `>/dev/null`.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { texts } from "../protocol.ts";
import { inTime, Person, testRun, TestServer } from "./helpers.ts";

const SERVER = ["--allow-net", "server.ts"];
const CLIENT = ["--allow-net", "client.ts"];
/** All programs live here: its clock differs from that of UTC by 5 h 45 min. */
const TIME_ZONE = "Asia/Kathmandu";

/** How a program ended, and all that it wrote, with `[time]` for the times. */
interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function timeless(text: string): string {
  return text.replace(/^\[\d\d:\d\d:\d\d\] /gm, "[time] ");
}

/** The reading end of a pipe. What nobody asks for is not read. */
class Pipe {
  text = "";
  readonly #pieces: ReadableStreamDefaultReader<string>;

  constructor(bytes: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#pieces = bytes.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Reads until the pattern is there. Fails if the program ends before. */
  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) return match;
      const isOpen = await inTime(this.more(), `whoever looks for ${pattern}`);
      assert(isOpen, `No ${pattern} before the end, only: ${this.text}`);
    }
  }

  /** Reads one piece; says whether there was one. */
  async more(): Promise<boolean> {
    const { value, done } = await this.#pieces.read();
    this.text += value ?? "";
    return !done;
  }

  async toEnd(): Promise<string> {
    while (await this.more());
    return this.text;
  }

  /** Reads no more, as `head` does when it has enough. */
  close(): Promise<void> {
    return this.#pieces.cancel();
  }
}

/** A program, in pipes. Its input stays open unless all of it is given. */
class Program {
  readonly stdout: Pipe;
  readonly stderr: Pipe;
  readonly #command: string;
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;

  /** @param args what one types after `deno run`. */
  constructor(args: string[], input?: string) {
    this.#command = `deno run ${args.join(" ")}`;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", ...args],
      cwd: new URL("..", import.meta.url),
      env: { TZ: TIME_ZONE },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.stdout = new Pipe(this.#child.stdout);
    this.stderr = new Pipe(this.#child.stderr);
    this.#stdin = this.#child.stdin.getWriter();
    if (input !== undefined) {
      this.types(input);
      this.#stdin.close().catch(() => {});
    }
  }

  types(text: string): void {
    // a program may end without having read all of it
    this.#stdin.write(new TextEncoder().encode(text)).catch(() => {});
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for the 📍 line, which says where a server listens. */
  async port(): Promise<number> {
    const [, port] = await this.stdout.shows(/📍 Listening on .+:(\d+)\n/);
    return Number(port);
  }

  /** Waits for the end of the program. */
  async ends(): Promise<Ended> {
    const [stdout, stderr, { code }] = await inTime(
      Promise.all([
        this.stdout.toEnd(),
        this.stderr.toEnd(),
        this.#child.status,
      ]),
      `whoever started ${this.#command}`,
    );
    return { code, stdout: timeless(stdout), stderr: timeless(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it has ended, as it should
    }
    await this.#child.status;
    await Promise.all([this.stdout.close(), this.stderr.close()]);
    await this.#stdin.abort().catch(() => {});
  }
}

/** The server as a program. */
class Server extends Program {
  #people: Person[] = [];

  constructor(...args: string[]) {
    super([...SERVER, ...args]);
  }

  /** Somebody who has connected and been told the first line. */
  async connect(): Promise<[Person, string]> {
    const port = await this.port();
    const person = new Person(await Deno.connect({ port }));
    this.#people.push(person);
    return [person, await person.nextLine()];
  }

  async join(name: string): Promise<Person> {
    const [person] = await this.connect();
    await person.says(name);
    assertMatch(await person.nextLine(), /^\[SYSTEM\] Welcome, /);
    person.name = name;
    return person;
  }

  /** Presses Ctrl+C. */
  async stop(): Promise<Ended> {
    this.kill("SIGINT");
    return await this.ends();
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    for (const person of this.#people) person.hangsUp();
    await super[Symbol.asyncDispose]();
  }
}

/** A server of which a test decides what it says. */
class FakeServer {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly port = (this.#listener.addr as Deno.NetAddr).port;
  #client?: Person;

  async accept(): Promise<Person> {
    const conn = await inTime(this.#listener.accept(), "the fake server");
    return this.#client = new Person(conn);
  }

  [Symbol.dispose](): void {
    this.#client?.hangsUp();
    this.#listener.close();
  }
}

/**
 * A program that reads one byte. If it is killed then, the system sends RST, as
 * for all programs that die with unread bytes. (`conn.close()` sends FIN first.)
 */
const RUDE_SERVER = "data:text/javascript," + encodeURIComponent(`
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log("📍 Listening on 127.0.0.1:" + listener.addr.port);
  const conn = await listener.accept();
  await conn.read(new Uint8Array(1));
  console.log("It has read one.");
  await listener.accept();
`);

function startClient(port: number, input?: string, ...options: string[]) {
  return new Program([...CLIENT, "127.0.0.1", `${port}`, ...options], input);
}

async function runClient(
  port: number,
  input: string,
  ...options: string[]
): Promise<Ended> {
  await using client = startClient(port, input, ...options);
  return await client.ends();
}

/** What every client says on stderr before the chat begins. */
function connected(port: number): string {
  return `[time] 🔄 Connecting to 127.0.0.1:${port}...
[time] ✅ Connected! Type messages and press Enter. Type 'quit' to exit.
`;
}

/** Fails unless the program ends so, with one line on stderr and no more. */
async function failsToStart(
  code: number,
  args: string[],
  ...words: string[]
): Promise<void> {
  await using program = new Program(args, "");
  const command = `deno run ${args.join(" ")}`;
  // a server that starts all the same would not end by itself
  const hasStarted = await inTime(program.stdout.more(), command);
  if (hasStarted) program.kill("SIGTERM");
  const { stderr, ...rest } = await program.ends();
  assertEquals(rest, { code, stdout: "" }, command);
  assertMatch(stderr, /^.+\n$/, `${command}: one line, please`);
  for (const word of words) {
    assert(stderr.includes(word), `${command}: no ${word} in: ${stderr}`);
  }
}

/** A port where nobody listens. */
function freePort(): number {
  using server = new FakeServer();
  return server.port;
}

// ------------------------------------------------------------- the server

testRun(
  "server: its log has a line for all that happens, and nothing else",
  async () => {
    await using server = new Server("0");
    const alice = await server.join("alice");
    await alice.says("Hello everyone!");
    await alice.endsInput();
    await alice.isHungUpOn();
    assertEquals(await server.stop(), {
      code: 0,
      stdout: `[time] 🚀 Chat Server Started
[time] 📍 Listening on 127.0.0.1:${await server.port()}
[time] ⏳ Waiting for clients to connect...
[time] ✅ alice connected from 127.0.0.1:${alice.port}
[time] [SYSTEM] alice joined the chat!
[time] 📊 Active users (1): alice
[time] 📨 alice: Hello everyone!
[time] [SYSTEM] alice left the chat!
[time] 🛑 Chat Server Stopped
`,
      stderr: "",
    });
  },
);

testRun("server: --quiet leaves out what people say, only that", async () => {
  await using server = new Server("0", "--quiet");
  const alice = await server.join("alice");
  await alice.says("a secret");
  await alice.endsInput();
  await alice.isHungUpOn();
  const { stdout } = await server.stop();
  const marks = stdout.trimEnd().split("\n").map((line) => line.split(" ")[1]);
  assertEquals(marks.join(" "), "🚀 📍 ⏳ ✅ [SYSTEM] 📊 [SYSTEM] 🛑");
});

testRun("server: the times in the log are local ones", async () => {
  const clock = () =>
    new Date().toLocaleTimeString("en-GB", { timeZone: TIME_ZONE }).slice(0, 5);
  const before = clock();
  await using server = new Server("0");
  await server.port();
  const shown = server.stdout.text.slice(1, 6);
  if (shown !== before) assertEquals(shown, clock());
});

testRun("server: port 0 is any free one, so two can start", async () => {
  await using one = new Server("0");
  await using other = new Server("0");
  await one.join("alice");
  await other.join("alice"); // in another chat
});

testRun(
  "server: it takes the port it is told, also one just given up",
  async () => {
    await using first = new Server("0");
    const alice = await first.join("alice");
    const port = await first.port();
    await first.stop();
    await alice.hears(texts.shutdown);
    await using second = new Server(`${port}`);
    assertEquals(await second.port(), port);
    await second.join("alice");
  },
);

testRun("server: SIGTERM stops it just as Ctrl+C does", async () => {
  await using server = new Server("0");
  const alice = await server.join("alice");
  server.kill("SIGTERM");
  await alice.hears(texts.shutdown);
  await alice.isHungUpOn();
  const { code, stdout } = await server.ends();
  assertEquals(code, 0);
  assertMatch(stdout, /\n\[time\] 🛑 Chat Server Stopped\n$/);
});

function hasIPv6(): boolean {
  if (Deno.permissions.querySync({ name: "net" }).state !== "granted") {
    return true; // whatever it is, `testRun` leaves the test out
  }
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

(hasIPv6() ? testRun : Deno.test.ignore)(
  "server, client: IPv6 addresses are shown in brackets",
  async () => {
    await using server = new Server("0", "--host", "::1");
    const port = await server.port();
    await using client = new Program([...CLIENT, "::1", `${port}`], "alice\n");
    const { code, stderr } = await client.ends();
    assertEquals(code, 0, stderr);
    assertMatch(stderr, new RegExp(` Connecting to \\[::1\\]:${port}\\.`));
    const { stdout } = await server.stop();
    assertMatch(stdout, /📍 Listening on \[::1\]:\d+\n/);
    assertMatch(stdout, /✅ alice connected from \[::1\]:\d+\n/);
  },
);

testRun("server: --max-clients 1 lets one in, and tells the next", async () => {
  await using server = new Server("0", "--max-clients", "1");
  await server.join("alice");
  const [next, line] = await server.connect();
  assertEquals(line, "[SYSTEM] The chat is full. Try again later.");
  await next.isHungUpOn();
});

testRun(
  "server: with its stdout closed (| head) the chat goes on",
  async () => {
    await using server = new Server("0");
    const alice = await server.join("alice");
    const bob = await server.join("bob");
    await server.stdout.close();
    for (const text of ["one", "two", "three"]) {
      await alice.says(text);
      await bob.hears(`alice: ${text}`);
    }
    const { code, stderr } = await server.stop();
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
  },
);

/** Has more said than all buffers take together, while nobody reads the log. */
async function floodLog(server: Server): Promise<void> {
  const alice = await server.join("alice");
  const bob = await server.join("bob");
  const text = "x".repeat(1_000);
  const said = alice.says(...Array<string>(2_500).fill(text));
  for (let n = 0; n < 2_500; n++) await bob.hears(`alice: ${text}`);
  await said;
}

testRun("server: with its stdout not read the chat goes on", async () => {
  await using server = new Server("0");
  await floodLog(server);
  const { code, stderr } = await server.stop();
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
});

testRun(
  "server: lines that its log had to drop are counted there",
  async () => {
    await using server = new Server("0");
    await floodLog(server);
    const lines = (await server.stop()).stdout.trimEnd().split("\n");
    const notes = lines.filter((line) => / lost here: \d+$/.test(line));
    const lost = notes.reduce(
      (n, note) => n + Number(/\d+$/.exec(note)![0]),
      0,
    );
    const logged = lines.length - notes.length;
    assert(lost > 0, `The log has ${logged} lines, and no word of lost ones`);
    const all = 3 + 2 * 3 + 2_500 + 1; // start, joins, messages, stop
    assertEquals(
      logged + lost,
      all,
      `logged: ${logged}, said to be lost: ${lost}`,
    );
  },
);

testRun("server: a wrong argument is named, exit status 2", async () => {
  for (const port of ["abc", "65536", "-1", "80x", "1e3"]) {
    await failsToStart(2, [...SERVER, port], port);
  }
  await failsToStart(2, [...SERVER, ""], "port");
  await failsToStart(2, [...SERVER, "0", "extra"], "extra");
  await failsToStart(2, [...SERVER, "0", "--colour"], "--colour");
  await failsToStart(2, [...SERVER, "0", "--host"], "--host");
  await failsToStart(2, [...SERVER, "0", "--host", "--quiet"], "--host");
  await failsToStart(2, [...SERVER, "0", "--max-clients"], "--max-clients");
  for (const limit of ["0", "-3", "abc"]) {
    await failsToStart(2, [...SERVER, "0", "--max-clients", limit], limit);
  }
});

testRun("server: a port in use is an error, exit status 1", async () => {
  using other = new FakeServer();
  const port = `${other.port}`;
  await failsToStart(1, [...SERVER, port], `127.0.0.1:${port}`, "in use");
});

testRun("server: somebody else's address is one, too", async () => {
  const args = [...SERVER, "0", "--host", "192.0.2.1"];
  await failsToStart(1, args, "192.0.2.1:0", "--host");
});

testRun("server: without --allow-net it says how to start it", async () => {
  await failsToStart(1, ["server.ts", "0"], "deno run --allow-net server.ts");
});

testRun("server: --help needs no permission", async () => {
  await using server = new Program(["server.ts", "--help"]);
  const { stdout, ...rest } = await server.ends();
  assertEquals(rest, { code: 0, stderr: "" });
  assertMatch(stdout, /^Usage: .*9999.*--host.*--max-clients.*--quiet/s);
});

// ------------------------------------------------------------- the client

testRun(
  "client in a pipe: the first line is the name, the others are said",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const { code } = await runClient(server.port, "alice\nhi\n");
    assertEquals(code, 0);
    await bob.hears(texts.joined("alice"), "alice: hi", texts.left("alice"));
  },
);

testRun(
  "client in a pipe: a last line without a newline counts",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await runClient(server.port, "alice\nhi\nbye");
    await bob.hears(texts.joined("alice"), "alice: hi", "alice: bye");
  },
);

testRun(
  "client in a pipe: 10,000 lines arrive, all of them, in order",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const lines = Array.from({ length: 10_000 }, (_, n) => `line ${n}`);
    const input = ["alice", ...lines, ""].join("\n");
    await using client = startClient(server.port, input);
    await bob.hears(texts.joined("alice"));
    for (const line of lines) await bob.hears(`alice: ${line}`);
    await bob.hears(texts.left("alice"));
    assertEquals((await client.ends()).code, 0);
  },
);

testRun("client in a pipe: with --name, all lines are said", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  await runClient(server.port, "hi\n", "--name", "alice");
  await bob.hears(texts.joined("alice"), "alice: hi");
});

testRun(
  "client in a pipe: a name that is refused ends it, with nothing said",
  async () => {
    await using server = new TestServer();
    await server.join("alice");
    const { code, stderr } = await runClient(server.port, "alice\nmallory\n");
    assertEquals(code, 1);
    const end = stderr.slice(connected(server.port).length);
    assertMatch(end, /^Cannot join: The name alice is taken\. .*\n$/);
    const bob = await server.connect();
    await bob.says("bob"); // the room: alice, bob, and no mallory
    await bob.hears(
      "[SYSTEM] Welcome, bob! Active users (2): alice, bob",
    );
    assert(!server.log.includes("mallory"), server.log);
  },
);

testRun(
  "client in a pipe: nothing is said before the name is accepted",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server.port, "alice\nhi\n");
    const connection = await server.accept();
    await connection.hears("alice");
    await connection.says("[SYSTEM] One moment, please.");
    await client.stdout.shows(/One moment/); // a hasty one has said it by now
    await connection.says(texts.nameRefused("Not this name."));
    await connection.isHungUpOn();
  },
);

testRun(
  "client in a pipe: stdout is what the server says, as it is",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server.port, "alice\n");
    const connection = await server.accept();
    const lines = `${texts.enterName(1)}
${texts.welcome("alice", "Active users (2): alice, bob")}
bob:   blanks  stay  
bob: grüß 😀 👨‍👩‍👧 שלום

${texts.left("bob")}
`;
    await connection.sends(lines);
    connection.hangsUp();
    assertEquals((await client.ends()).stdout, lines);
  },
);

testRun("client in a pipe: remarks go to stderr, with the time", async () => {
  await using server = new TestServer();
  const { stderr } = await runClient(server.port, "alice\nhi\n");
  assertEquals(stderr, connected(server.port));
});

testRun(
  "client in a pipe: quit leaves, though the input goes on",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using client = startClient(server.port);
    client.types("alice\nhi\nquit\nnot this\n");
    await bob.hears(texts.joined("alice"), "alice: hi", texts.left("alice"));
    assertEquals((await client.ends()).code, 0);
  },
);

testRun(
  "client in a pipe: a message too long is not sent, and that is said",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const longest = "😀".repeat(1_000);
    const input = ["alice", longest, longest + "!", "after it"].join("\n");
    const { code, stdout, stderr } = await runClient(server.port, input);
    await bob.hears(texts.joined("alice"), `alice: ${longest}`);
    await bob.hears("alice: after it");
    assertEquals(code, 0);
    assert(!stdout.includes(texts.messageTooLong), "the server had to refuse");
    const end = stderr.slice(connected(server.port).length);
    assertMatch(end, /^\[time\] A message has at most 1,000 .*not sent\.\n$/);
  },
);

testRun("client in a pipe: without any input it just leaves", async () => {
  await using server = new TestServer();
  const { code, stderr } = await runClient(server.port, "");
  assertEquals({ code, stderr }, { code: 0, stderr: connected(server.port) });
});

testRun(
  "client in a pipe: when its input has ended it prints what still comes",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server.port, "alice\n");
    const connection = await server.accept();
    await connection.hears("alice");
    await connection.says(texts.welcome("alice", "Active users (1): alice"));
    await connection.isHungUpOn(); // a half-close: we may still speak
    const lines = Array.from({ length: 1_000 }, (_, n) => `bob: line ${n}`);
    await connection.says(...lines);
    connection.hangsUp();
    const { code, stdout } = await client.ends();
    assertEquals(stdout.trimEnd().split("\n").slice(1), lines);
    assertEquals(code, 0);
  },
);

testRun(
  "client in a pipe: Ctrl+C leaves, with nothing to complain about",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    client.kill("SIGINT");
    const { code, stderr } = await client.ends();
    assertEquals({ code, stderr }, { code: 0, stderr: connected(server.port) });
    await bob.hears(texts.joined("alice"), texts.left("alice"));
  },
);

testRun(
  "client in a pipe: escape sequences of a hostile server stay out",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server.port, "alice\n");
    const connection = await server.accept();
    await connection.says(
      "\x1b[2J\x1b]0;new title\x07cleared",
      "mallory: \x1b[31mred\x1b[0m \u009b5mblinking\u009b0m",
      "mallory: before\rafter\b\b\x00\x7f",
      texts.nameRefused("No\x1b[1m such\x9b1m name."),
    );
    connection.hangsUp();
    const { stdout, stderr } = await client.ends();
    // deno-lint-ignore no-control-regex
    const control = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;
    for (const shown of [stdout, stderr]) {
      assert(!control.test(shown), `on the screen: ${JSON.stringify(shown)}`);
    }
    assertMatch(stdout, /cleared\nmallory: red blinking\nmallory: before/);
  },
);

testRun("client: no server there is an error, exit status 1", async () => {
  const port = freePort();
  const { code, stdout, stderr } = await runClient(port, "alice\nhi\n");
  assertEquals({ code, stdout }, { code: 1, stdout: "" });
  assertMatch(
    stderr,
    /^.* Connecting to .*\nCannot connect to 127\.0\.0\.1:\d+: .*Check .*\n$/,
  );
});

testRun("client: no such host is one, too", async () => {
  await using client = new Program([...CLIENT, "nosuch.invalid"], "alice\n");
  const { code, stdout, stderr } = await client.ends();
  assertEquals({ code, stdout }, { code: 1, stdout: "" });
  assertMatch(
    stderr,
    /^.* Connecting to .*\nCannot connect to nosuch\.invalid:9999: .*Check .*\n$/,
  );
});

testRun(
  "client in a pipe: a server that dies ends it, though the input is open",
  async () => {
    await using server = new Server("0");
    const port = await server.port();
    await using client = startClient(port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    server.kill("SIGKILL");
    const { code, stderr } = await client.ends();
    assertEquals(code, 1, stderr);
    const end = stderr.slice(connected(port).length);
    assertMatch(end, /^The server is gone: .*Check .*\n$/);
  },
);

testRun("client in a pipe: so does a connection that breaks", async () => {
  await using server = new Program(["--allow-net", RUDE_SERVER]);
  const port = await server.port();
  await using client = startClient(port);
  client.types("alice\n");
  await server.stdout.shows(/has read/);
  server.kill("SIGKILL");
  const { code, stderr } = await client.ends();
  assertEquals(code, 1, stderr);
  const end = stderr.slice(connected(port).length);
  assertMatch(end, /^The server is gone: .*Check .*\n$/);
});

testRun(
  "client in a pipe: so does a server that shuts down, with its last words",
  async () => {
    await using server = new Server("0");
    const port = await server.port();
    await using client = startClient(port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    await server.stop();
    const { code, stdout, stderr } = await client.ends();
    assertEquals(code, 1, stderr);
    assertEquals(stdout.split("\n").at(-2), texts.shutdown);
    const end = stderr.slice(connected(port).length);
    assertMatch(end, /^The server is gone: .*shutting down.*\n$/);
  },
);

testRun(
  "client in a pipe: when nobody reads on (| head -1) that is no error",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    await client.stdout.close();
    // more than the pipe holds, should it not be closed at once
    await bob.says(...Array(100).fill("x".repeat(1_000)));
    const { code, stderr } = await client.ends();
    assertEquals({ code, stderr }, { code: 0, stderr: connected(server.port) });
    await bob.hears(texts.joined("alice"), texts.left("alice"));
  },
);

testRun("client: a wrong argument is named, exit status 2", async () => {
  for (const port of ["abc", "65536", "-1", "80x"]) {
    await failsToStart(2, [...CLIENT, "127.0.0.1", port], port);
  }
  await failsToStart(2, [...CLIENT, "127.0.0.1", ""], "port");
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "extra"], "extra");
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "--quiet"], "--quiet");
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "--name"], "--name");
});

testRun("client: without --allow-net it says how to start it", async () => {
  await failsToStart(1, ["client.ts"], "deno run --allow-net client.ts");
});

testRun("client: --help needs no permission", async () => {
  await using client = new Program(["client.ts", "--help"]);
  const { stdout, ...rest } = await client.ends();
  assertEquals(rest, { code: 0, stderr: "" });
  assertMatch(stdout, /^Usage: .*127\.0\.0\.1.*9999.*--name/s);
});
