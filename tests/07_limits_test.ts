/**
 * Lesson 7: limits.
 *
 * A server has many clients, but only one memory and one thread. A client that takes
 * all of the memory, or all of the time, stops the chat for everybody. That is a
 * denial of service, whether the client wants it or not. So whatever a client can
 * make grow has a limit: the cost of a check, the length of a line, the time without
 * a name, the number of connections. Each limit has a consequence, and the client
 * receives a line that says so.
 *
 * Every server has such limits. A web server bounds the header of a request, and the
 * time that it may take: "Slowloris" is an attack that sends it byte by byte. A mail
 * server bounds the length of a line, and a database the number of connections.
 */

import { assert } from "@std/assert";
import v8 from "node:v8";
import vm from "node:vm";
import {
  announcements,
  messages,
  type Person,
  TestServer,
  turn,
} from "./helpers.ts";

const NAME_TOO_LONG =
  "[SYSTEM] A name has at most 20 characters. Enter another name:";

// ------------------------------------------------- cheap checks before costly

/** NFKC of this many UTF-16 units takes less than a millisecond, whatever they are. */
const CHEAP_LENGTH = 1_000;

const normalize = String.prototype.normalize;

/** Notes how long the texts are that the program normalizes. */
class NormalizeSpy {
  maxLength = 0;

  constructor() {
    const note = (text: string) => {
      this.maxLength = Math.max(this.maxLength, text.length);
    };
    String.prototype.normalize = function (form?: string): string {
      note(String(this));
      return normalize.call(this, form);
    };
  }

  [Symbol.dispose](): void {
    String.prototype.normalize = normalize;
  }
}

Deno.test("limits: a name that is far too long is refused before any costly check", async () => {
  await using server = new TestServer();
  using spy = new NormalizeSpy();
  const newcomer = await server.connect();
  // NFKC sorts combining marks. Its time grows with the square of their number.
  const marks = "a" + "\u0301\u0323".repeat(1_500);
  for (const typed of [marks, "\ufdfa".repeat(1_500), "a".repeat(3_000)]) {
    await newcomer.sends(typed);
    await newcomer.receives(NAME_TOO_LONG);
  }
  const complaint = `The server normalizes a name of ${spy.maxLength} ` +
    "characters. For 60,000 that takes a second, and nobody else is served";
  assert(spy.maxLength <= CHEAP_LENGTH, complaint);
});

Deno.test("limits: a name of 80 characters is accepted if they make only 20", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  // A Greek letter and three combining marks are one character: ᾧ.
  await newcomer.sends("\u03c9\u0314\u0342\u0345".repeat(20));
  const name = "\u1fa7".repeat(20);
  await newcomer.receives(announcements.welcome(name, name));
});

Deno.test("limits: spaces around a name do not make it too long", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  await newcomer.sends(" ".repeat(500) + "alice" + " ".repeat(500));
  await newcomer.receives(announcements.welcome("alice", "alice"));
});

// ------------------------------------------------------------------ long lines

v8.setFlagsFromString("--expose-gc");
const collectGarbage: () => void = vm.runInNewContext("gc");

/** The memory in bytes that JavaScript's objects take, without garbage. */
function measureHeap(): number {
  collectGarbage();
  return Deno.memoryUsage().heapUsed;
}

function formatMB(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

Deno.test("limits: a line without an end does not fill the memory", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const before = measureHeap();
  const bytes = new Uint8Array(1_000_000).fill(0x78);
  for (let n = 0; n < 8; n++) await alice.sendsRaw(bytes);
  // The network holds 4 MB at most, so the server has read 4 MB of the line.
  const grown = measureHeap() - before;
  const complaint = "The server keeps a line without an end: " +
    `after 4 MB of it, it has ${formatMB(grown)} more in memory`;
  assert(grown < 1_500_000, complaint);
  await alice.sends("");
  await alice.receives(announcements.messageTooLong);
  await alice.sends("still here");
  await bob.receives("alice: still here");
});

Deno.test("limits: a message is refused if its line is too long, even if it has few visible characters", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // These lines are ignored. After them, "still here" comes in another chunk.
  const nothingToSee = Array(20).fill(" ".repeat(1_000));
  await alice.sends("hello" + "\0".repeat(100_000), ...nothingToSee);
  await alice.sends("still here");
  await bob.receives("alice: still here");
  await bob.sends("after it");
  await alice.receives(announcements.messageTooLong, "bob: after it");
});

/** Resolves when the server has read all that a person has sent: in memory only. */
async function isRead(person: Person): Promise<void> {
  while (person.bytesUnreadByServer > 0) await turn();
}

Deno.test("limits: no line is broadcast without its end", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const limit of [4_096, 8_192, 16_384, 65_536]) { // whatever yours is
    for (const length of [limit - 1, limit, limit + 1, limit + 2]) {
      const nulls = "\0".repeat(length - "hello\r".length);
      await alice.sendsRaw(`hello${nulls}\r`);
      // The server reads the start before the rest arrives. If it throws the rest
      // away, the `\r` seems to belong to the newline.
      await isRead(alice);
      await alice.sendsRaw("rest");
      await isRead(alice);
      await alice.sends(""); // the newline
      await isRead(alice);
      await alice.sends("next");
      const [line] = await bob.receivesUntil("alice: next");
      const complaint = `Of a line of ${length} characters and more, bob ` +
        `receives the start alone: "alice: hello"`;
      assert(line !== "alice: hello", complaint);
    }
  }
});

Deno.test("limits: the lines before and after one that is too long are not lost", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(500, 100);
  const text = lines.map((line) => line + "\n").join("");
  await alice.sendsRaw(text + "x".repeat(300_000) + "\n" + text);
  const received = lines.map((line) => `alice: ${line}`);
  await bob.receives(...received, ...received);
  await alice.receives(announcements.messageTooLong);
});

Deno.test("limits: a name is refused if its line is too long, even if it has few visible characters", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const spaces = " ".repeat(100_000);
  for (const typed of ["x".repeat(1_000_000), spaces, spaces + "alice"]) {
    await newcomer.sends(typed);
    await newcomer.receives(NAME_TOO_LONG);
  }
  await newcomer.sends("alice");
  await newcomer.receives(announcements.welcome("alice", "alice"));
});

Deno.test("limits: an HTTP request is refused, however long its first line is", async () => {
  await using server = new TestServer();
  const browser = await server.connect("the browser");
  const path = "/" + "x".repeat(100_000);
  await browser.sends(`POST ${path} HTTP/1.1\r`, "\r", "Buy now!");
  await browser.receives(announcements.notAWebServer);
  await browser.isDisconnected();
});

// ------------------------------------------------------------- a limit in time

const NAME_TIMEOUT_MS = 54_321;
const realSetTimeout = globalThis.setTimeout;
const realClearTimeout = globalThis.clearTimeout;

/**
 * A clock that the test moves, so that no test has to wait. It keeps the timers of
 * NAME_TIMEOUT_MS that the server starts with `setTimeout`. All others are real.
 */
class TestClock {
  #now = 0;
  readonly #timers = new Map<unknown, { endsAt: number; end: () => void }>();

  constructor() {
    const start = (end: () => void, ms?: number) => {
      if (ms !== NAME_TIMEOUT_MS) return realSetTimeout(end, ms);
      const timer = {};
      this.#timers.set(timer, { endsAt: this.#now + ms, end });
      return timer;
    };
    const clear = (timer?: number) => {
      if (!this.#timers.delete(timer)) realClearTimeout(timer);
    };
    globalThis.setTimeout = start as unknown as typeof setTimeout;
    globalThis.clearTimeout = clear as typeof clearTimeout;
  }

  /** Moves the clock, and ends the timers that are over. */
  advance(ms: number): void {
    this.#now += ms;
    for (const [timer, { endsAt, end }] of this.#timers) {
      if (endsAt > this.#now) continue;
      this.#timers.delete(timer);
      end();
    }
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = realSetTimeout;
    globalThis.clearTimeout = realClearTimeout;
  }
}

/** Fails unless the client is disconnected because it has not given a name in time. */
async function isTooLate(client: Person): Promise<void> {
  await client.sends("carol"); // It is too late for that.
  await client.receives(announcements.noNameInTime);
  await client.isDisconnected();
}

Deno.test("limits: a client that gives no name in time is disconnected", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const alice = await server.join("alice");
  const newcomer = await server.connect();
  clock.advance(NAME_TIMEOUT_MS);
  await isTooLate(newcomer);
  await server.join("bob");
  await alice.receives(announcements.joined("bob")); // and nothing before it
});

Deno.test("limits: a refused name gives its client no more time", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const newcomer = await server.connect();
  clock.advance(NAME_TIMEOUT_MS - 1);
  await newcomer.sends("x".repeat(21));
  await newcomer.receives(NAME_TOO_LONG);
  clock.advance(1);
  await isTooLate(newcomer);
});

Deno.test("limits: a member may be silent for as long as it likes", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  clock.advance(10 * NAME_TIMEOUT_MS);
  await alice.sends("I am still here");
  await bob.receives("alice: I am still here");
});

// ----------------------------------------------------------- a limit in number

/** Fails unless the client is disconnected because the chat is full. */
async function isRefused(client: Person): Promise<void> {
  await client.sends("carol"); // Nobody asks for that.
  await client.receives(announcements.chatFull);
  await client.isDisconnected();
}

Deno.test("limits: if the chat is full, one more client is notified and disconnected", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await isRefused(await server.visit("the third client"));
  await alice.sends("Are we alone?");
  await bob.receives("alice: Are we alone?"); // and nothing before it
});

Deno.test("limits: a client without a name takes up a place, too", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [first, second] = [await server.connect(), await server.connect()];
  await isRefused(await server.visit("the third client"));
  await first.sends("alice");
  await first.receives(announcements.welcome("alice", "alice"));
  await second.sends("bob");
  await second.receives(announcements.welcome("bob", "alice", "bob"));
});

Deno.test("limits: a client that has left takes up no place, whether it had a name or not", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const alice = await server.join("alice");
  for (let n = 0; n < 3; n++) {
    const bob = await server.join("bob");
    await alice.receives(announcements.joined("bob"));
    await bob.halfCloses();
    await bob.isDisconnected();
    await alice.receives(announcements.left("bob"));

    const newcomer = await server.connect();
    await newcomer.halfCloses();
    await newcomer.isDisconnected();
  }
});

Deno.test("limits: a client that was refused takes up no place", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const third = await server.visit("the third client");
  await third.receives(announcements.chatFull); // and it keeps its side open
  await bob.halfCloses();
  await bob.isDisconnected();
  await alice.receives(announcements.left("bob"));
  await server.join("carol");
});

// ------------------------------------------------------ memory of short lines

/**
 * So many short lines arrive, each in one chunk with a long line that is refused. In
 * the network in memory, what is written at once arrives at once. All short lines
 * are kept: `TestServer` keeps what its server prints.
 */
const SHORT_LINES = 100;
/** The line that is refused. Because of the `€`, V8 keeps the chunk in 28 KB. */
const REFUSED_LINE = "x".repeat(14_000) + "€\n";
/** The short lines together need less, with all that is around them. */
const MAX_KEPT_BYTES = 1_500_000;

function assertKeepsLittle(heapBefore: number, what: string): void {
  const bytes = measureHeap() - heapBefore;
  const complaint =
    `${SHORT_LINES} ${what} keep ${formatMB(bytes)} in memory: ` +
    "also the long lines that arrived together with them";
  assert(bytes < MAX_KEPT_BYTES, complaint);
}

Deno.test("limits: a short message does not keep its whole chunk in memory", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const heapBefore = measureHeap();
  for (let n = 0; n < SHORT_LINES; n++) {
    await alice.sendsRaw(`${REFUSED_LINE}This is message ${n}.\n`);
    await bob.receives(`alice: This is message ${n}.`);
  }
  assertKeepsLittle(heapBefore, "short messages");
});

Deno.test("limits: a name does not keep its whole chunk in memory", async () => {
  await using server = new TestServer({ inMemory: true });
  const heapBefore = measureHeap();
  for (let n = 0; n < SHORT_LINES; n++) {
    const alice = await server.connect();
    await alice.sendsRaw(`${REFUSED_LINE}alice_is_number_${n}\n`);
    await alice.receives(NAME_TOO_LONG);
    await alice.nextLine(); // the welcome
    await alice.halfCloses();
    await alice.isDisconnected();
  }
  assertKeepsLittle(heapBefore, "names");
});
