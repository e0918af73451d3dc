/**
 * What the lessons share: a chat server in this process, and people who talk to it.
 *
 * Where the permission `--allow-net` was granted, people connect over real sockets.
 * Otherwise they use the network in memory of network.ts, so that plain `deno test`
 * needs no permission. The tests are the same. With the environment variable
 * `CHAT_PROXY`, people connect through a proxy that is a bad network.
 *
 * Nothing of the program is used here but `startServer`. So the lessons can judge
 * every server that speaks the protocol: that of each step, and yours.
 *
 * No test sleeps to wait. To show that something did not arrive, a test sends a line
 * after it, and checks that this line arrives first: TCP keeps the order.
 */

import { assert, fail } from "@std/assert";
import { connect as connectNodeSocket, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { startServer } from "../server.ts";
import { MemoryNetwork, reset, trafficOf } from "./network.ts";

/** A person who waits longer than this for a line fails the test. */
const PATIENCE_MS = 10_000;

/** What the server says. It is written here again, so that a test can check it. */
export const announcements = {
  enterName: (port: number): string =>
    `[SYSTEM] Enter your name, or press Enter to be User_${port}:`,
  welcome: (name: string, ...users: string[]): string =>
    `[SYSTEM] Welcome, ${name}! Active users (${users.length}): ` +
    users.join(", "),
  joined: (name: string): string => `[SYSTEM] ${name} joined the chat!`,
  left: (name: string): string => `[SYSTEM] ${name} left the chat!`,
  messageTooLong:
    "[SYSTEM] Message too long: 1,000 characters at most. It was not sent.",
  chatFull: "[SYSTEM] The chat is full. Try again later.",
  noNameInTime: "[SYSTEM] No name given in time. Goodbye!",
  notAWebServer: "[SYSTEM] This is a chat, not a web server. Goodbye!",
  shutdown: "[SYSTEM] The server is shutting down. Goodbye!",
};

function isGranted(name: "env" | "net" | "run"): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}

/** Whether people connect over real sockets. */
export const hasSockets: boolean = isGranted("net");
/** Whether tests may start programs. */
export const canRunPrograms: boolean = hasSockets && isGranted("run");
/** Whether people connect through a proxy: see {@linkcode startProxy}. */
const hasProxy: boolean = hasSockets && isGranted("env") &&
  Deno.env.has("CHAT_PROXY");

let skippedTests = 0;

/** Counts the tests of this file that cannot run, and says it with one line. */
function skip(_name: string, _fn?: () => Promise<void>): void {
  skippedTests++;
  if (skippedTests > 1) return;
  queueMicrotask(() => { // when all tests of the file have been registered
    const file = /(\w+?)(?:_test)?\.ts$/.exec(Deno.mainModule)?.[1];
    const isOne = skippedTests === 1;
    const reason = hasProxy
      ? `${isOne ? "does" : "do"} not run through a proxy`
      : `${isOne ? "starts" : "start"} programs`;
    const tests = `${skippedTests} ${isOne ? "test" : "tests"}`;
    Deno.test.ignore(`${file}: ${tests} ${reason}: deno task test`, () => {});
  });
}

/** Tests with this in their title or in their text do not run through a proxy. */
const WITHOUT_PROXY: RegExp[] = [
  /inMemory|assertCost|readBeforeHello|testFailures/, // They have no real sockets.
  /arrived before a reset/, // An RST overtakes what the proxy still holds.
  /still reads new input/, // The proxies take their part of the server's time.
  /every letter of Unicode/, // It waits for thousands of answers, for minutes.
];

if (hasProxy) {
  const register = Deno.test;
  const registerOrSkip = (
    test: string | Deno.TestDefinition,
    fn?: () => Promise<void>,
  ): void => {
    const title = typeof test === "string" ? test : test.name;
    const isSkipped = WITHOUT_PROXY.some((it) => it.test(`${title} ${fn}`));
    if (isSkipped) skip(title, fn);
    else if (typeof test === "string") register(test, fn!);
    else register(test);
  };
  Object.assign(Deno, { test: Object.assign(registerOrSkip, Deno.test) });
}

/** Registers a test that needs real sockets. Without permission it is only counted. */
export const testSockets: (name: string, fn: () => Promise<void>) => void =
  hasSockets ? Deno.test : skip;

/** Registers a test that starts programs. Without permission it is only counted. */
export const testProgram: (name: string, fn: () => Promise<void>) => void =
  canRunPrograms && !hasProxy ? Deno.test : skip;

/** The options of a server that tests override. Early steps ignore them. */
export interface TestOptions {
  maxClients?: number;
  nameTimeoutMs?: number;
  stallTimeoutMs?: number;
  quiet?: boolean;
  /** Uses the network in memory even if there are sockets: to count, for example. */
  inMemory?: boolean;
}

/** How a person connects. */
export interface VisitOptions {
  /** The person can end the connection with an RST. */
  canReset?: boolean;
  /** Bytes that the network holds for this person. Sockets ignore it. */
  bufferSize?: number;
}

/**
 * In memory, a sleeper's buffer holds this many bytes. Linux holds some megabytes for
 * a real socket.
 */
const SLEEPER_BUFFER_SIZE = 2_000;

/** A message that is too large for a sleeper's buffer: an emoji has four bytes. */
export const LARGE_MESSAGE: string = "😀".repeat(1_000);

/** A chat server in this process, on a port of its own. */
export class TestServer {
  /** Its TCP port. */
  readonly port: number;
  /** The lines that it has printed so far. */
  readonly printed: string[] = [];
  /** The warnings that it has printed so far. */
  readonly warnings: string[] = [];
  /** The network in memory, if that is used. */
  readonly memory?: MemoryNetwork;
  /** Where it listens. */
  readonly listener: Deno.TcpListener;
  readonly #shutDown: () => Promise<void>;
  #stopped?: Promise<void>;
  #people: Person[] = [];
  #proxies: PersonalProxy[] = [];

  constructor({ inMemory, ...options }: TestOptions = {}) {
    if (inMemory && hasProxy) {
      fail("Say in WITHOUT_PROXY why there is no proxy");
    }
    if (inMemory || !hasSockets) this.memory = new MemoryNetwork();
    this.listener = this.memory?.listen({ backlog: 4_096 }) ??
      Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 4_096 });
    this.port = this.listener.addr.port;
    this.#shutDown = startServer(
      this.listener,
      {
        ...options,
        print: (line: string) => void this.printed.push(line),
        warn: (line: string) => void this.warnings.push(line),
      } as Parameters<typeof startServer>[1],
    );
  }

  /** A person who has connected, and has received nothing yet. */
  async visit(
    name = "the newcomer",
    options: VisitOptions = {},
  ): Promise<Person> {
    if (hasProxy) return await this.#visitThroughProxy(name, options);
    return this.#add(await this.#connect(options, this.port), name);
  }

  async #visitThroughProxy(
    name: string,
    options: VisitOptions,
  ): Promise<Person> {
    const proxy = await startProxy(this.port, options);
    this.#proxies.push(proxy);
    const person = this.#add(await this.#connect(options, proxy.port), name);
    const portAtServer = await proxy.portAtServer;
    if (portAtServer === undefined) throw new Deno.errors.ConnectionRefused();
    person.port = portAtServer;
    return person;
  }

  #add(conn: Deno.TcpConn, name: string): Person {
    const person = new Person(conn, name);
    this.#people.push(person);
    return person;
  }

  async #connect(options: VisitOptions, port: number): Promise<Deno.TcpConn> {
    if (this.memory) {
      const { bufferSize } = options;
      return await this.memory.connect(
        port,
        bufferSize ? { bufferSizeToClient: bufferSize } : {},
      );
    }
    if (options.canReset) return await connectWithReset(port);
    return await Deno.connect({ hostname: "127.0.0.1", port });
  }

  /** A person who has connected and received the question for a name. */
  async connect(name?: string, options?: VisitOptions): Promise<Person> {
    const person = await this.visit(name, options);
    await person.receives(announcements.enterName(person.port));
    return person;
  }

  /** A person who has joined and received the welcome. */
  async join(name: string, options?: VisitOptions): Promise<Person> {
    const person = await this.connect(name, options);
    await person.sends(name);
    const line = await person.nextLine();
    const isWelcome = line.startsWith(
      `[SYSTEM] Welcome, ${name}! Active users`,
    );
    assert(
      isWelcome,
      `${name} should be welcomed\nbut receives:\n  ${quote(line)}`,
    );
    return person;
  }

  /** Several people who have joined and have seen each other join. */
  async joinAll<Names extends string[]>(
    ...names: Names
  ): Promise<{ [Index in keyof Names]: Person }> {
    const people: Person[] = [];
    for (const name of names) {
      const newcomer = await this.join(name);
      for (const person of people) {
        await person.receives(announcements.joined(name));
      }
      people.push(newcomer);
    }
    return people as { [Index in keyof Names]: Person };
  }

  /**
   * A member who reads nothing until the test says so, and whose buffer is small in
   * memory. The others see the sleeper join.
   */
  async joinSleeper(name: string, ...others: Person[]): Promise<Person> {
    const sleeper = await this.join(name, { bufferSize: SLEEPER_BUFFER_SIZE });
    for (const person of others) {
      await person.receives(announcements.joined(name));
    }
    return sleeper;
  }

  /** Shuts the server down. Resolves when nothing of it is left. */
  stop(): Promise<void> {
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  /** Closes all connections and stops the server. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const person of this.#people) person.closes();
    await inTime(this.stop(), "The test", "the server to stop");
    const stopped = this.#proxies.map((proxy) => proxy.stop());
    await inTime(Promise.all(stopped), "The test", "the proxies to stop");
  }
}

/** The server's end of a connection in memory. */
export interface ServerEnd extends Deno.TcpConn {
  /** Whether the server has closed it. */
  isClosed: boolean;
}

const encoder = new TextEncoder();

/** Who has not received a line after this many others will not receive it. */
const MAX_PINGS = 100;
const TURNS_PER_PING = 500;

/** A person at the other end of a connection, as with `nc`. */
export class Person {
  /** The TCP port that the server sees: the number in `User_54321`. */
  port: number;
  #lines: AsyncGenerator<string>;
  #isClosed = false;

  /** @param name who it is, for the message of a failed test. */
  constructor(readonly conn: Deno.TcpConn, public name = "the newcomer") {
    this.port = conn.localAddr.port;
    this.#lines = linesFrom(conn);
  }

  /** How often the server has written to this person: in memory only. */
  get writesReceived(): number {
    return trafficOf(this.conn).peerWrites;
  }

  /** How often the server has read from this person: in memory only. */
  get readsByServer(): number {
    return trafficOf(this.conn).peerReads;
  }

  /** The bytes that this person could read now: in memory only. */
  get unreadBytes(): number {
    return trafficOf(this.conn).unreadBytes;
  }

  /** The bytes from this person that the server has not read: in memory only. */
  get bytesUnreadByServer(): number {
    return trafficOf(this.conn).peerUnreadBytes;
  }

  /** The server's end of the connection: in memory only. */
  get serverEnd(): ServerEnd {
    const { peer } = this.conn as unknown as { peer: ServerEnd };
    return peer;
  }

  /** Sends lines. */
  sends(...lines: string[]): Promise<void> {
    return this.sendsRaw(lines.map((line) => line + "\n").join(""));
  }

  /** Sends text or bytes as they are, without a newline. */
  async sendsRaw(data: string | Uint8Array): Promise<void> {
    let bytes = typeof data === "string" ? encoder.encode(data) : data;
    while (bytes.length > 0) {
      bytes = bytes.subarray(await this.conn.write(bytes));
    }
  }

  /** The next line, or `undefined` at the end of the connection. */
  async nextLineOrEnd(awaited = "a line"): Promise<string | undefined> {
    return (await inTime(this.#lines.next(), this.name, awaited)).value;
  }

  /** The next line. Fails at the end of the connection. */
  async nextLine(): Promise<string> {
    return await this.nextLineOrEnd() ?? fail(`${this.name} was disconnected`);
  }

  /** Fails unless exactly these lines are received next. */
  async receives(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const seen = await this.nextLineOrEnd(`the line\n  ${quote(line)}`);
      assertLine(seen, line, this.name);
    }
  }

  /** Like `receives`. Also fails if nothing more happens before: in memory only. */
  async receivesNow(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const complaint = this.#complaintAbout(line);
      const seen = await beforeIdle(this.nextLineOrEnd(), complaint);
      assertLine(seen, line, this.name);
    }
  }

  /** All lines up to one of these, or up to the end. */
  async receivesUntil(...last: string[]): Promise<string[]> {
    const awaited = last.map(quote).join(" or ") || "the end of the connection";
    const lines: string[] = [];
    for (;;) {
      const line = await this.nextLineOrEnd(awaited);
      if (line === undefined) return lines;
      lines.push(line);
      if (last.includes(line)) return lines;
    }
  }

  /**
   * Receives these lines, in any order, while another member says one "ping" after the
   * other. It is for connections that have ended: the kernel tells the server, but it may
   * do so after it has passed on other lines. If a line has not come after MAX_PINGS, this
   * fails.
   */
  async receivesAmongPings(from: Person, ...lines: string[]): Promise<void> {
    const missing = new Set(lines);
    for (let n = 1; missing.size > 0; n++) {
      const ping = `ping ${n}`;
      await from.sends(ping);
      const lastLine = `${from.name}: ${ping}`;
      for (const line of await this.receivesUntil(lastLine)) {
        if (!missing.delete(line)) assertLine(line, lastLine, this.name);
      }
      const [expected] = missing;
      if (expected && n === MAX_PINGS) {
        assertLine(lastLine, expected, this.name);
      }
      for (let n = 0; n < TURNS_PER_PING; n++) await turn();
    }
  }

  /** All lines up to this one. Fails if nothing more happens before: in memory only. */
  async receivesNowUntil(last: string): Promise<string[]> {
    const complaint = this.#complaintAbout(last);
    return await beforeIdle(this.receivesUntil(last), complaint);
  }

  #complaintAbout(line: string): string {
    return `${this.name} should receive:\n  ${quote(line)}\nbut has to wait`;
  }

  /** Fails unless the server ends the connection now, with no further line. */
  async isDisconnected(): Promise<void> {
    assertLine(await this.nextLineOrEnd(), undefined, this.name);
    this.closes();
  }

  /** Half-closes: sends a FIN, and can still receive. */
  halfCloses(): Promise<void> {
    return this.conn.closeWrite();
  }

  /** Closes the connection, as a program that exits. */
  closes(): void {
    if (!this.#isClosed) this.conn.close();
    this.#isClosed = true;
  }

  /** Ends the connection with an RST. Needs {@linkcode VisitOptions.canReset}. */
  resets(): void {
    this.#isClosed = true;
    if (this.conn instanceof ResettableConn) this.conn.reset();
    else reset(this.conn);
  }
}

// --------------------------------------------------------- framing, once more

/** Splits bytes into lines. It is written here again, so that a test can check it. */
async function* linesFrom(conn: Deno.TcpConn): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const buffer = new Uint8Array(64 * 1024);
  let rest = "";
  for (;;) {
    const count = await conn.read(buffer).catch(() => null);
    const bytes = buffer.subarray(0, count ?? 0);
    rest += decoder.decode(bytes, { stream: count !== null });
    const lines = rest.split("\n");
    rest = lines.pop()!;
    yield* lines;
    if (count === null) return;
  }
}

// ------------------------------------------------------- connections with reset

async function connectWithReset(port: number): Promise<Deno.TcpConn> {
  // Without `setNoDelay`, small writes are gathered, and an RST would discard them.
  const socket = connectNodeSocket(port, "127.0.0.1").pause().setNoDelay();
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve).once("error", reject);
  });
  return new ResettableConn(socket) as unknown as Deno.TcpConn;
}

/** A socket of Node, which can send an RST, with the methods of a `Deno.Conn`. */
class ResettableConn {
  readonly localAddr: { port: number };
  readonly #socket: Socket;
  #chunk: Uint8Array = new Uint8Array();

  constructor(socket: Socket) {
    this.#socket = socket.on("error", () => {});
    this.localAddr = { port: socket.localPort! };
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#chunk.length === 0) {
      const chunk: Uint8Array | null = this.#socket.read();
      if (chunk) this.#chunk = chunk;
      else if (this.#socket.readableEnded || this.#socket.destroyed) {
        return null;
      } else await this.#changes();
    }
    const count = Math.min(into.length, this.#chunk.length);
    into.set(this.#chunk.subarray(0, count));
    this.#chunk = this.#chunk.subarray(count);
    return count;
  }

  #changes(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        for (const name of names) this.#socket.off(name, done);
        resolve();
      };
      const names = ["readable", "end", "close"];
      for (const name of names) this.#socket.on(name, done);
    });
  }

  write(bytes: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.write(
        bytes,
        (error) => error ? reject(error) : resolve(bytes.length),
      );
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve) => this.#socket.end(resolve));
  }

  close(): void {
    this.#socket.destroy();
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }
}

// ------------------------------------------------------------- through a proxy

const PROXY_DELAY_MS = 1;

/** The proxy of one person. */
interface PersonalProxy {
  /** Where the person connects. */
  port: number;
  /** From where the proxy connects to the server; `undefined` if it cannot. */
  portAtServer: Promise<number | undefined>;
  stop(): Promise<void>;
}

/**
 * Starts a proxy that is a bad network: everything is a little late, and no chunk has
 * more bytes than the environment variable `CHAT_PROXY` says, for example 3.
 */
async function startProxy(
  serverPort: number,
  { canReset }: VisitOptions,
): Promise<PersonalProxy> {
  const portAtServer = Promise.withResolvers<number | undefined>();
  // This is no literal in `import`, because a learner's folder has no such file.
  const path = "./tools/proxy.ts";
  const proxy = await (await import(path)).startProxy({
    listenPort: 0,
    serverHost: "127.0.0.1",
    serverPort,
    tear: Number(Deno.env.get("CHAT_PROXY")),
    delay: PROXY_DELAY_MS,
    reset: canReset ? Infinity : undefined, // So an RST is passed on as an RST.
    print(line: string) {
      const port = / SYN ACK: .* port (\d+)$/.exec(line)?.[1];
      if (port) portAtServer.resolve(Number(port));
      if (line.includes("no SYN ACK")) portAtServer.resolve(undefined);
    },
  });
  return { ...proxy, portAtServer: portAtServer.promise };
}

// ------------------------------------------------------------------ assertions

const MAX_QUOTED_CHARS = 100;

/** A line in quotes. Characters that a terminal obeys, or does not show, are escaped. */
export function quote(line: string): string {
  const chars = line.length > MAX_QUOTED_CHARS ? [...line] : [];
  const isLong = chars.length > MAX_QUOTED_CHARS;
  const start = isLong ? chars.slice(0, MAX_QUOTED_CHARS).join("") : line;
  const quoted = JSON.stringify(start).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
  return isLong ? `${quoted}… (${chars.length} characters)` : quoted;
}

/**
 * Fails unless somebody has received the expected line. The message says what they
 * see instead. `undefined` stands for the end of the connection.
 */
export function assertLine(
  seen: string | undefined,
  expected: string | undefined,
  who: string,
): void {
  if (seen === expected) return;
  const should = expected === undefined
    ? "should be disconnected"
    : `should receive:\n  ${quote(expected)}`;
  const but = seen === undefined
    ? "was disconnected"
    : `receives:\n  ${quote(seen)}`;
  fail(`${who} ${should}\nbut ${but}`);
}

/** Fails at the first line that differs. */
export function assertLines(
  seen: string[],
  expected: string[],
  who: string,
): void {
  for (let n = 0; n < Math.max(seen.length, expected.length); n++) {
    assertLine(seen[n], expected[n], `Line ${n + 1}: ${who}`);
  }
}

// ------------------------------------------------------------------- many lines

/** Messages of that many characters, each with its number. */
export function messages(count: number, chars = 1_000, filler = "x"): string[] {
  return Array.from({ length: count }, (_, n) => {
    const start = `${n} `;
    return start + filler.repeat(chars - start.length);
  });
}

/** What the other members receive if somebody says these lines. */
export function saidBy(name: string, lines: string[]): string[] {
  return lines.map((line) => `${name}: ${line}`);
}

// ------------------------------------------------------------- waiting, but not long

/** Fails with the complaint if the promise needs longer, or rejects. */
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

/** Fails after PATIENCE_MS, and says who waited in vain, and for what. */
export function inTime<T>(
  promise: Promise<T>,
  who: string,
  awaited: string,
): Promise<T> {
  const complaint = `${who} waited ${PATIENCE_MS} ms in vain for ${awaited}`;
  return within(PATIENCE_MS, promise, complaint);
}

/** Lets the event loop turn once. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** If nothing happens in so many turns of the event loop, nothing will. */
export const IDLE_TURNS = 5_000;
/** Once in so many turns, a timer passes, too: the program may wait for `sleep(0)`. */
const TURNS_PER_TIMER = 250;

/** Lets turn number `n` pass, of those that show that the program is idle. */
export async function idleTurn(n: number): Promise<void> {
  await turn();
  if (n % TURNS_PER_TIMER === 0) await sleep(0);
}

/** Lets everything happen that can happen now. */
export async function untilIdle(): Promise<void> {
  for (let n = 1; n <= IDLE_TURNS; n++) await idleTurn(n);
}

/** The number, as soon as it does not change any more. In memory only. */
export async function settled(
  count: () => number,
  idleTurns = IDLE_TURNS,
): Promise<number> {
  let last = count();
  for (let n = 1; n <= idleTurns; n++) {
    await idleTurn(n);
    if (count() !== last) n = 0; // It changes: the turns are counted anew.
    last = count();
  }
  return last;
}

/** Fails with the complaint if nothing more happens before. In memory only. */
export async function beforeIdle<T>(
  promise: Promise<T>,
  complaint: string,
): Promise<T> {
  let isPending = true;
  const done = promise.finally(() => isPending = false);
  done.catch(() => {}); // It is awaited below, unless it remains pending.
  for (let n = 1; n <= IDLE_TURNS && isPending; n++) await idleTurn(n);
  if (isPending) fail(complaint);
  return await done;
}

/** The clocks of this program, which can be put forward as long as this is used. */
export class Clocks {
  readonly #dateNow = Date.now;
  readonly #performanceNow = performance.now;

  /** Puts them forward. */
  jump(ms: number): void {
    const dateNow = Date.now;
    const performanceNow = performance.now;
    Date.now = () => dateNow() + ms;
    performance.now = () => performanceNow.call(performance) + ms;
  }

  /** Sets them right again. */
  [Symbol.dispose](): void {
    Date.now = this.#dateNow;
    performance.now = this.#performanceNow;
  }
}
