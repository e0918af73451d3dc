/**
 * Lesson 7: to stop is to say goodbye to everybody, and then to go.
 *
 * Ctrl+C sends SIGINT, a service manager SIGTERM; without a handler either ends
 * the program in the middle of a line. Then people see their connection break
 * and cannot tell a server that was stopped from a cable that was pulled out.
 * The other mistake is to wait for everybody: one laptop that was closed keeps
 * the server from ever ending. So each gets all that was said, the goodbye and
 * the end of the stream, and a second to take it.
 *
 * Try: press Ctrl+C in the server's terminal while you are in the chat with
 * `nc 127.0.0.1 9999`. In `main` of server.ts, leave out `room.shutDown()`.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { TextLineStream } from "@std/streams/text-line-stream";
import { texts } from "../protocol.ts";
import { inTime, Person, testNet, testRun, TestServer } from "./helpers.ts";

const GOODBYE = "[SYSTEM] The server is shutting down. Goodbye!";

/** A server that takes longer than this to end is killed. */
const PATIENCE_MS = 4_000;

/** Messages of 1,000 characters, each with its number. */
function messages(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${n} `.padEnd(1_000, "x"));
}

/**
 * All that a person sees until nothing comes for a while, and what comes next.
 * That nothing comes cannot be seen but by waiting.
 */
async function untilSilence(
  person: Person,
): Promise<{ seen: string[]; next: Promise<string> }> {
  const seen: string[] = [];
  for (;;) {
    const next = person.nextLine();
    const silence = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => silence.resolve(undefined), 250);
    const line = await Promise.race([next, silence.promise]);
    clearTimeout(timer);
    if (line === undefined) return { seen, next };
    seen.push(short(line));
  }
}

/** All that a person sees until the server hangs up. */
async function untilEnd(
  person: Person,
  next: Promise<string>,
): Promise<string[]> {
  const seen: string[] = [];
  for (;; next = person.nextLine()) {
    const line = await next.catch(() => undefined);
    if (line === undefined) return seen;
    seen.push(short(line));
  }
}

/** A message without its padding, and without the name of its author. */
function short(line: string): string {
  return line.replace(/^alice: |x+$/g, "");
}

// ------------------------------------------------------ what people see of it

testNet("shutdown: everybody is told, and then hung up on", async () => {
  await using server = new TestServer();
  const people = await server.joinAll("alice", "bob", "carol");
  const stopped = server.room.shutDown();
  for (const person of people) {
    await person.hears(GOODBYE); // and nobody is told that the others 'left'
    await person.isHungUpOn();
  }
  await stopped;
});

testNet("shutdown: who has no name yet is told, too", async () => {
  await using server = new TestServer();
  await server.join("alice");
  const visitor = await server.connect();
  await server.room.shutDown();
  await visitor.says("bob"); // too late
  await visitor.hears(GOODBYE);
  await visitor.isHungUpOn();
});

testNet("shutdown: what was said before comes before the goodbye", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  alice.says(...messages(8_000)).catch(() => {}); // cut off by the goodbye
  const { seen, next } = await untilSilence(carol); // all wait for bob to read
  const stopped = server.room.shutDown();
  const forBob = await untilEnd(bob, bob.nextLine());
  const forCarol = [...seen, ...await untilEnd(carol, next)];
  assertEquals(forBob.pop(), GOODBYE, "bob's last line:");
  assertEquals(forCarol.pop(), GOODBYE, "carol's last line:");
  assertEquals(forBob, messages(forBob.length).map(short), "bob, before that:");
  assertEquals(forCarol, forBob, "what carol has seen, and bob:");
  await stopped;
});

testNet(
  "shutdown: who comes too late is told, and not asked for a name",
  async () => {
    await using server = new TestServer();
    await server.room.shutDown();
    const conn = await Deno.connect({
      hostname: "127.0.0.1",
      port: server.port,
    });
    const late = new Person(conn);
    await late.hears(GOODBYE);
    await late.isHungUpOn();
    late.hangsUp();
  },
);

// ------------------------------------------------------- the program itself

/** The chat server as a program of its own. */
class Program {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;
  port = 0;

  private constructor(port: number) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-net", "server.ts", `${port}`],
      cwd: new URL("..", import.meta.url),
      stdout: "piped",
    }).spawn();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
  }

  /** Resolves when it listens. */
  static async start(port = 0): Promise<Program> {
    const program = new Program(port);
    while (program.port === 0) {
      const line = await program.nextLine();
      assert(line !== undefined, "the server ended before it could listen");
      program.port = Number(/Listening on .*:(\d+)$/.exec(line)?.[1] ?? 0);
    }
    return program;
  }

  /** The next line of its log, `undefined` after the last. */
  async nextLine(): Promise<string | undefined> {
    return (await inTime(this.#output.read(), "who reads the log")).value;
  }

  connect(): Promise<Deno.TcpConn> {
    return Deno.connect({ hostname: "127.0.0.1", port: this.port });
  }

  async join(name: string): Promise<Person> {
    const person = new Person(await this.connect());
    person.name = name;
    await person.says(name);
    await person.nextLine(); // the question
    assertMatch(await person.nextLine(), /^\[SYSTEM\] Welcome, /);
    return person;
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** All lines of its log that nobody has read yet. */
  async restOfLog(): Promise<string[]> {
    const lines: string[] = [];
    for (let line; (line = await this.nextLine()) !== undefined;) {
      lines.push(line);
    }
    return lines;
  }

  /** Fails unless it ends soon, and with this status. */
  async endsWith(status: number): Promise<void> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE_MS);
    const { code } = await this.#child.status;
    clearTimeout(timer);
    assertEquals(code, status, `exit status (137: not by ${PATIENCE_MS} ms)`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#output.cancel();
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it has ended already
    }
    await this.#child.status;
  }
}

/**
 * A server whose log nobody reads, so that it is still there when it has said
 * goodbye: it gives the rest of its log a second to be read.
 */
async function startUnread(): Promise<[Program, Person]> {
  const program = await Program.start();
  const alice = await program.join("alice");
  const bob = await program.join("bob");
  const said = messages(700);
  await alice.says(...said);
  await bob.hears(...said.map((text) => `alice: ${text}`));
  alice.hangsUp();
  await bob.hears(texts.left("alice"));
  return [program, bob];
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  testRun(
    `shutdown: at ${signal} the server says goodbye and ends well`,
    async () => {
      await using program = await Program.start();
      const alice = await program.join("alice");
      program.signal(signal);
      await alice.hears(GOODBYE);
      await alice.isHungUpOn();
      await program.endsWith(0);
      const log = await program.restOfLog();
      assertMatch(
        log.at(-1) ?? "",
        /^\[\d\d:\d\d:\d\d\] 🛑 Chat Server Stopped$/,
      );
      alice.hangsUp();
    },
  );
}

testRun(
  "shutdown: who does not read cannot keep the server from ending",
  async () => {
    await using program = await Program.start();
    const log = program.restOfLog();
    const sleeper = await program.join("sleeper");
    const [alice, bob] = [
      await program.join("alice"),
      await program.join("bob"),
    ];
    alice.says(...messages(8_000)).catch(() => {}); // cut off by the goodbye
    const { next } = await untilSilence(bob); // all wait for the sleeper
    program.signal("SIGTERM");
    const seen = await untilEnd(bob, next);
    assertEquals(seen.at(-1), GOODBYE, "bob's last line:");
    await program.endsWith(0);
    await log;
    for (const person of [sleeper, alice, bob]) person.hangsUp();
  },
);

testRun(
  "shutdown: while the server stops, nobody gets in any more",
  async () => {
    const [program, bob] = await startUnread();
    await using _ = program;
    program.signal("SIGINT");
    await bob.hears(GOODBYE);
    await bob.isHungUpOn();
    await assertRejects(() => program.connect(), Deno.errors.ConnectionRefused);
    bob.hangsUp();
  },
);

testRun("shutdown: a second Ctrl+C ends the server at once", async () => {
  const [program, bob] = await startUnread();
  await using _ = program;
  program.signal("SIGINT");
  await bob.hears(GOODBYE);
  // two at once would be one, and nobody presses a key twice faster than this
  await new Promise((resolve) => setTimeout(resolve, 100));
  program.signal("SIGINT");
  await program.endsWith(130);
  bob.hangsUp();
});

testRun(
  "shutdown: a Ctrl+C that comes twice at once, as by `deno task`, is one",
  async () => {
    await using program = await Program.start();
    const bob = await program.join("bob");
    program.signal("SIGINT");
    program.signal("SIGTERM"); // another SIGINT might be taken for the same
    await bob.hears(GOODBYE);
    await bob.isHungUpOn();
    bob.hangsUp();
    await program.endsWith(0);
    const log = await program.restOfLog();
    assertMatch(log.at(-1) ?? "", /🛑 Chat Server Stopped$/);
  },
);

testRun("shutdown: the next server can have the port at once", async () => {
  await using program = await Program.start();
  const alice = await program.join("alice");
  program.signal("SIGINT");
  while (!(await program.nextLine())?.endsWith("🛑 Chat Server Stopped"));
  await using next = await Program.start(program.port);
  const bob = await next.join("bob");
  for (const person of [alice, bob]) person.hangsUp();
});
