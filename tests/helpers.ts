/**
 * What the lessons share: a server in this process, and people who talk to it
 * over real sockets. Nothing in here comes from the program but `startServer`,
 * so the lessons judge any server that speaks the protocol: each step, and yours.
 *
 * No test sleeps to wait. To show that something did not arrive, a test has
 * something said after it, and sees that arrive first: TCP keeps the order.
 */

import { assert, fail } from "@std/assert";
import { startServer } from "../server.ts";

/** Somebody who waits longer than this for a line fails the test. */
const PATIENCE_MS = 10_000;

/** What the server says, once more: a test must not ask whom it examines. */
export const texts = {
  enterName: (port: number): string =>
    `[SYSTEM] Enter your name, or press Enter to be User_${port}:`,
  welcome: (name: string, ...users: string[]): string =>
    `[SYSTEM] Welcome, ${name}! Active users (${users.length}): ` +
    users.join(", "),
  joined: (name: string): string => `[SYSTEM] ${name} joined the chat!`,
  left: (name: string): string => `[SYSTEM] ${name} left the chat!`,
  messageTooLong:
    "[SYSTEM] Message too long: 1,000 characters at most. It was not sent.",
  full: "[SYSTEM] The chat is full. Try again later.",
  noName: "[SYSTEM] No name given in time. Goodbye!",
  shutdown: "[SYSTEM] The server is shutting down. Goodbye!",
};

function isGranted(name: "net" | "run"): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}

/** A test that needs sockets; without them its name says why it is ignored. */
export function testNet(name: string, fn: () => Promise<void>): void {
  if (isGranted("net")) Deno.test(name, fn);
  else Deno.test.ignore(`${name} (needs --allow-net)`, fn);
}

/**
 * A test that starts programs; where it cannot, its name says why it is ignored.
 *
 * @param systems those on which alone it can be run.
 */
export function testRun(
  name: string,
  fn: () => Promise<void>,
  systems: string[] = [Deno.build.os],
): void {
  const isHere = systems.includes(Deno.build.os);
  if (!isHere) Deno.test.ignore(`${name} (needs ${systems.join(" or ")})`, fn);
  else if (isGranted("net") && isGranted("run")) Deno.test(name, fn);
  else Deno.test.ignore(`${name} (needs -A)`, fn);
}

/** What a test may want otherwise. Early steps know nothing of it. */
export interface TestOptions {
  maxClients?: number;
  nameTimeoutMs?: number;
  stallMs?: number;
}

/** A chat server in this process, on a port of its own. */
export class TestServer {
  readonly port: number;
  /** The lines on its screen so far. */
  readonly printed: string[] = [];
  readonly #stop: () => Promise<void>;
  #stopped?: Promise<void>;
  #people: Person[] = [];

  constructor(options: TestOptions = {}) {
    const listener = Deno.listen({
      hostname: "127.0.0.1",
      port: 0,
      tcpBacklog: 4_096,
    });
    this.port = listener.addr.port;
    const print = (line: string) => this.printed.push(line);
    const all: TestOptions & { print: typeof print } = { ...options, print };
    this.#stop = startServer(listener, all);
  }

  /** Somebody who has connected, and seen nothing yet. */
  async visit(name = "the newcomer"): Promise<Person> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    const person = new Person(conn, name);
    this.#people.push(person);
    return person;
  }

  /** Somebody who has connected and seen the question for the name. */
  async connect(name?: string): Promise<Person> {
    const person = await this.visit(name);
    await person.hears(texts.enterName(person.port));
    return person;
  }

  /** Somebody who has joined, and seen the welcome. */
  async join(name: string): Promise<Person> {
    const person = await this.connect(name);
    await person.says(name);
    const line = await person.nextLine();
    const isWelcome = line.startsWith(
      `[SYSTEM] Welcome, ${name}! Active users`,
    );
    assert(
      isWelcome,
      `${name} should be welcomed, but sees:\n  ${short(line)}`,
    );
    return person;
  }

  /** Several people in a room where everybody has seen everybody come. */
  async joinAll<Names extends string[]>(
    ...names: Names
  ): Promise<{ [Index in keyof Names]: Person }> {
    const people: Person[] = [];
    for (const name of names) {
      const newcomer = await this.join(name);
      for (const person of people) await person.hears(texts.joined(name));
      people.push(newcomer);
    }
    return people as { [Index in keyof Names]: Person };
  }

  /** Stops the server; resolves when nothing of it is left. */
  stop(): Promise<void> {
    return this.#stopped ??= this.#stop();
  }

  /** Everybody hangs up, and the server stops. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const person of this.#people) person.hangsUp();
    await inTime(this.stop(), "The test", "the server to stop");
  }
}

const encoder = new TextEncoder();

/** A person at the other end of a connection, as with `nc`. */
export class Person {
  #lines: AsyncGenerator<string>;
  #isGone = false;

  constructor(readonly conn: Deno.TcpConn, public name = "the newcomer") {
    this.#lines = linesFrom(conn);
  }

  /** The TCP port of this end: the number in `User_54321`. */
  get port(): number {
    return this.conn.localAddr.port;
  }

  /** Sends lines. */
  says(...lines: string[]): Promise<void> {
    return this.sends(lines.map((line) => line + "\n").join(""));
  }

  /** Sends text or bytes as they are, without a newline. */
  async sends(data: string | Uint8Array): Promise<void> {
    let bytes = typeof data === "string" ? encoder.encode(data) : data;
    while (bytes.length > 0) {
      bytes = bytes.subarray(await this.conn.write(bytes));
    }
  }

  /** The next line on the screen, `undefined` when there is none to come. */
  async nextLineOrEnd(awaited = "a line"): Promise<string | undefined> {
    return (await inTime(this.#lines.next(), this.name, awaited)).value;
  }

  /** The next line on the screen. Fails when there is none to come. */
  async nextLine(): Promise<string> {
    return await this.nextLineOrEnd() ?? fail(`${this.name} was hung up on`);
  }

  /** Fails unless exactly these lines are the next on the screen. */
  async hears(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const seen = await this.nextLineOrEnd(`the line\n  ${short(line)}`);
      assertLine(seen, line, this.name);
    }
  }

  /** All lines up to one of these, or to the end. */
  async hearsUntil(...last: string[]): Promise<string[]> {
    const awaited = last.map(short).join(" or ") || "the end";
    const lines: string[] = [];
    for (;;) {
      const line = await this.nextLineOrEnd(awaited);
      if (line === undefined) return lines;
      lines.push(line);
      if (last.includes(line)) return lines;
    }
  }

  /** Fails unless the server hangs up now, with nothing more said. So do they. */
  async isHungUpOn(): Promise<void> {
    assertLine(await this.nextLineOrEnd(), undefined, this.name);
    this.hangsUp();
  }

  /** Says 'no more from me' and can still hear: half-close, a FIN. */
  endsInput(): Promise<void> {
    return this.conn.closeWrite();
  }

  /** Is gone, as if the program had been closed. */
  hangsUp(): void {
    if (!this.#isGone) this.conn.close();
    this.#isGone = true;
  }
}

/** Framing once more, for a test must not ask whom it examines. */
async function* linesFrom(conn: Deno.TcpConn): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(64 * 1024);
  for (let rest = "";;) {
    const count = await conn.read(buffer).catch(() => null);
    const bytes = buffer.subarray(0, count ?? 0);
    rest += decoder.decode(bytes, { stream: count !== null });
    const lines = rest.split("\n");
    rest = lines.pop()!;
    yield* lines;
    if (count === null) return;
  }
}

/** The beginning of a line, with what cannot be seen written as an escape. */
function short(line: string): string {
  const chars = line.length <= 100 ? [] : [...line]; // an emoji counts once
  if (chars.length <= 100) return JSON.stringify(line);
  const start = JSON.stringify(chars.slice(0, 100).join(""));
  return `${start}… (${chars.length} characters)`;
}

/** Fails, saying what somebody sees, unless it is that; undefined is the end. */
export function assertLine(
  seen: string | undefined,
  expected: string | undefined,
  who: string,
): void {
  if (seen === expected) return;
  const should = expected === undefined
    ? "should be hung up on"
    : `should see:\n  ${short(expected)}`;
  const sees = seen === undefined
    ? "was hung up on"
    : `sees:\n  ${short(seen)}`;
  fail(`${who} ${should}\nbut ${sees}`);
}

/** Fails at the first line that is not as expected. */
export function assertLines(
  seen: string[],
  expected: string[],
  who: string,
): void {
  for (let n = 0; n < Math.max(seen.length, expected.length); n++) {
    assertLine(seen[n], expected[n], `Line ${n + 1}: ${who}`);
  }
}

/** Messages of that many characters, each with its number. */
export function messages(count: number, chars = 1_000, filler = "x"): string[] {
  return Array.from({ length: count }, (_, n) => {
    const start = `${n} `;
    return start + filler.repeat(chars - start.length);
  });
}

/** The memory that a program has, in MB. Linux only: it asks /proc. */
export async function memoryOf(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s*(\d+)/.exec(status)?.[1]) / 1_000;
}

/** Fails with the complaint if the promise takes longer than that, or fails. */
export async function within<T>(
  ms: number,
  promise: Promise<T>,
  complaint: string,
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(), ms);
  return await Promise.race([promise, late.promise])
    .catch((error) => fail(complaint + (error ? ` (${error.message})` : "")))
    .finally(() => clearTimeout(timer));
}

/** Fails, saying who waited in vain, and for what, after PATIENCE_MS. */
export function inTime<T>(
  promise: Promise<T>,
  who: string,
  awaited: string,
): Promise<T> {
  const complaint = `${who} waited ${PATIENCE_MS} ms in vain for ${awaited}`;
  return within(PATIENCE_MS, promise, complaint);
}

/** A turn of the event loop for everybody else. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A listener that lets in whoever is there; until it is closed, it waits. */
export function fakeListener(
  next: () => Deno.TcpConn | undefined,
): Deno.TcpListener {
  const closed = Promise.withResolvers<void>();
  async function accept(): Promise<Deno.TcpConn> {
    const conn = next();
    if (conn) return conn;
    await closed.promise;
    throw new Deno.errors.BadResource();
  }
  return {
    accept,
    close: closed.resolve,
    async *[Symbol.asyncIterator]() {
      try {
        for (;;) yield await accept();
      } catch {
        // as of a real listener: when it is closed, no more come
      }
    },
  } as unknown as Deno.TcpListener;
}
