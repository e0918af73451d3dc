/**
 * Lesson 7: limits.
 *
 * All clients share the server's memory and its one thread. A client that takes all of
 * the memory, or all of the time, stops the chat for everybody. This is called a denial
 * of service. It can be an attack or a mistake. So in this lesson, the server limits
 * five things: the cost of checking a name, the length of a line, the time without a
 * name, the number of clients, and the memory that a short line keeps. (Lesson 11 limits
 * how much waits for a slow receiver.)
 *
 * Other servers have such limits, too. A web server limits the size of a request's
 * header, and the time until the header is complete. Otherwise the attack "Slowloris"
 * succeeds: it opens many connections, sends a header on each of them very slowly, and so
 * uses up all connections that the server allows. A mail server limits the length of a
 * line, and a database server limits the number of connections.
 *
 * Some tests replace the clock, so they need not wait. Some use a network in memory
 * instead of TCP: there, a test controls what arrives together.
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

// ------------------------------------------------- cheap checks before costly ones

/** Normalizing a text of this length takes less than 1 ms, whatever it contains. */
const CHEAP_LENGTH = 1_000;

const normalize = String.prototype.normalize;

/**
 * Records the length of the longest text that the program normalizes. For this, it
 * replaces the method `normalize` of all strings, until the end of the test.
 */
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

Deno.test("limits: the server refuses a name that is far too long, and does not normalize it", async () => {
  await using server = new TestServer();
  using spy = new NormalizeSpy();
  const newcomer = await server.connect();
  // NFKC sorts the combining marks after a character. If two of them alternate, the time
  // for sorting grows with the square of their number. NFKC also turns U+FDFA into 18
  // characters.
  const marks = "a" + "\u0301\u0323".repeat(1_500);
  for (const typed of [marks, "\ufdfa".repeat(1_500), "a".repeat(3_000)]) {
    await newcomer.sends(typed);
    await newcomer.receives(NAME_TOO_LONG);
  }
  const complaint = `The server normalizes a name of ${spy.maxLength} ` +
    "characters. 60,000 take a second, and nobody else is served";
  assert(spy.maxLength <= CHEAP_LENGTH, complaint);
});

Deno.test("limits: a name of 80 characters is accepted if NFKC combines them into 20", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  // A Greek letter and three combining marks are one character: ᾧ.
  await newcomer.sends("\u03c9\u0314\u0342\u0345".repeat(20));
  const name = "\u1fa7".repeat(20);
  await newcomer.receives(announcements.welcome(name, name));
});

Deno.test("limits: 1,000 spaces around a name do not make it too long", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  await newcomer.sends(" ".repeat(500) + "alice" + " ".repeat(500));
  await newcomer.receives(announcements.welcome("alice", "alice"));
});

// ------------------------------------------------------------------ long lines

// V8, the JavaScript engine, offers `gc` only in a context that was made after this flag
// was set.
v8.setFlagsFromString("--expose-gc");
const collectGarbage: () => void = vm.runInNewContext("gc");

/** The bytes that JavaScript objects and strings use, without garbage. */
function measureHeap(): number {
  collectGarbage();
  return Deno.memoryUsage().heapUsed;
}

function formatMB(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

Deno.test("limits: a line without a newline does not fill the server's memory", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const before = measureHeap();
  const bytes = new Uint8Array(1_000_000).fill(0x78); // the letter x
  for (let n = 0; n < 8; n++) await alice.sendsRaw(bytes);
  // The network holds less than 4 MB, and `sendsRaw` waits while it is full. So the
  // server has read more than 4 MB. It may keep less than 1.5 MB of that. (What the
  // network holds does not count: byte arrays are not in this heap.)
  const grown = measureHeap() - before;
  const complaint = "The server keeps a line without an end: " +
    `after 4 MB of input, it uses ${formatMB(grown)} more memory`;
  assert(grown < 1_500_000, complaint);
  await alice.sends(""); // the newline
  await alice.receives(announcements.messageTooLong);
  await alice.sends("still here");
  await bob.receives("alice: still here");
});

Deno.test("limits: a message is refused if its line is too long, even if few characters would be left of it", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // The server ignores lines of spaces. They separate "still here" from the long line.
  // Otherwise both could arrive in one chunk. A server that throws away the whole chunk
  // has to fail in a later test, which looks for lost lines, but not in this one.
  const spaces = Array(20).fill(" ".repeat(1_000));
  await alice.sends("hello" + "\0".repeat(100_000), ...spaces);
  await alice.sends("still here");
  await bob.receives("alice: still here");
  await bob.sends("after it");
  await alice.receives(announcements.messageTooLong, "bob: after it");
});

/** Waits until the server has read all that a person has sent. In memory only. */
async function waitUntilRead(person: Person): Promise<void> {
  while (person.bytesUnreadByServer > 0) await turn();
}

Deno.test("limits: the server never broadcasts only the start of a long line", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  // We do not know your limit, so the test tries four likely ones.
  for (const limit of [4_096, 8_192, 16_384, 65_536]) {
    for (const length of [limit - 1, limit, limit + 1, limit + 2]) {
      const nulls = "\0".repeat(length - "hello\r".length);
      await alice.sendsRaw(`hello${nulls}\r`);
      // The server reads this start before the rest arrives. A server that throws the
      // rest away sees the `\r` just before the newline, and removes both. Then the line
      // is shorter by one, and the server may take it for a whole line.
      await waitUntilRead(alice);
      await alice.sendsRaw("rest");
      await waitUntilRead(alice);
      await alice.sends(""); // the newline
      await waitUntilRead(alice);
      await alice.sends("next");
      // If the line was refused, the next line is the first that bob receives.
      const [line] = await bob.receivesUntil("alice: next");
      const complaint = `Alice sent more than ${length} characters in one ` +
        `line, but bob receives only its start: "alice: hello"`;
      assert(line !== "alice: hello", complaint);
    }
  }
});

Deno.test("limits: the server loses no line before or after a line that is too long", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(500, 100);
  const text = lines.map((line) => line + "\n").join("");
  await alice.sendsRaw(text + "x".repeat(300_000) + "\n" + text);
  const received = lines.map((line) => `alice: ${line}`);
  await bob.receives(...received, ...received);
  await alice.receives(announcements.messageTooLong);
});

Deno.test("limits: a name is refused if its line is too long, whatever the line contains", async () => {
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

// ---------------------------------------------- a time limit for giving a name

/** No other timer has this duration. So the clock below recognizes the one for names. */
const NAME_TIMEOUT_MS = 54_321;
const realSetTimeout = globalThis.setTimeout;
const realClearTimeout = globalThis.clearTimeout;

/**
 * A clock that the test controls, so that no test has to wait. If the server calls
 * `setTimeout` with NAME_TIMEOUT_MS, this clock keeps the timer. All other timers are
 * real.
 */
class TestClock {
  #now = 0;
  readonly #timers = new Map<
    unknown,
    { expiresAt: number; callback: () => void }
  >();

  constructor() {
    const start = (callback: () => void, ms?: number) => {
      if (ms !== NAME_TIMEOUT_MS) return realSetTimeout(callback, ms);
      const timer = {};
      this.#timers.set(timer, { expiresAt: this.#now + ms, callback });
      return timer;
    };
    const clear = (timer?: number) => {
      if (!this.#timers.delete(timer)) realClearTimeout(timer);
    };
    globalThis.setTimeout = start as unknown as typeof setTimeout;
    globalThis.clearTimeout = clear as typeof clearTimeout;
  }

  /** Moves the clock, and calls the functions of the timers that have expired. */
  advance(ms: number): void {
    this.#now += ms;
    for (const [timer, { expiresAt, callback }] of this.#timers) {
      if (expiresAt > this.#now) continue;
      this.#timers.delete(timer);
      callback();
    }
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = realSetTimeout;
    globalThis.clearTimeout = realClearTimeout;
  }
}

/** Sends a name, and expects that the server ignores it and disconnects the client. */
async function expectTooLate(client: Person): Promise<void> {
  await client.sends("carol"); // It comes too late.
  await client.receives(announcements.noNameInTime);
  await client.isDisconnected();
}

Deno.test("limits: a client that gives no name within the time limit is disconnected", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const alice = await server.join("alice");
  const newcomer = await server.connect();
  clock.advance(NAME_TIMEOUT_MS);
  await expectTooLate(newcomer);
  await server.join("bob");
  // Alice must have received nothing about the newcomer.
  await alice.receives(announcements.joined("bob"));
});

Deno.test("limits: a client whose name is refused gets no additional time to give a name", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const newcomer = await server.connect();
  clock.advance(NAME_TIMEOUT_MS - 1);
  await newcomer.sends("x".repeat(21));
  await newcomer.receives(NAME_TOO_LONG);
  clock.advance(1);
  await expectTooLate(newcomer);
});

Deno.test("limits: a member that sends nothing for a long time is not disconnected", async () => {
  using clock = new TestClock();
  await using server = new TestServer({ nameTimeoutMs: NAME_TIMEOUT_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  clock.advance(10 * NAME_TIMEOUT_MS);
  await alice.sends("I am still here");
  await bob.receives("alice: I am still here");
});

// -------------------------------------------- a limit on the number of clients

/** Sends a name, and expects that the server ignores it, because the chat is full. */
async function expectRefused(client: Person): Promise<void> {
  await client.sends("carol"); // The server has not asked for a name.
  await client.receives(announcements.chatFull);
  await client.isDisconnected();
}

Deno.test("limits: if the chat is full, the server says so to the next client, and disconnects it", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await expectRefused(await server.visit("the third client"));
  await alice.sends("Are we alone?");
  // Bob must have received nothing about the third client.
  await bob.receives("alice: Are we alone?");
});

Deno.test("limits: a client that has no name yet takes up one of the chat's places", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [first, second] = [await server.connect(), await server.connect()];
  await expectRefused(await server.visit("the third client"));
  await first.sends("alice");
  await first.receives(announcements.welcome("alice", "alice"));
  await second.sends("bob");
  await second.receives(announcements.welcome("bob", "alice", "bob"));
});

Deno.test("limits: a client that has left takes up no place in the chat, whether it had a name or not", async () => {
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

Deno.test("limits: a refused client takes up no place in the chat, even while its connection is open", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const third = await server.visit("the third client");
  // The third client does not close its side, so its connection is still open.
  await third.receives(announcements.chatFull);
  await bob.halfCloses();
  await bob.isDisconnected();
  await alice.receives(announcements.left("bob"));
  await server.join("carol");
});

// ------------------------------------------------------ memory of short lines

// Each short line is written together with a long line, so both arrive in one chunk. The
// server refuses the long line. All short lines stay in memory, because `TestServer`
// keeps what its server prints.

/** The number of short lines that a test sends. */
const SHORT_LINES = 100;
/** Too long, so it is refused. Because of the `€`, V8 needs 2 bytes per unit: 28 KB. */
const REFUSED_LINE = "x".repeat(14_000) + "€\n";
/** The short lines need less than this. 100 chunks of 28 KB would need 2.8 MB. */
const MAX_KEPT_BYTES = 1_500_000;

function assertKeepsLittle(heapBefore: number, what: string): void {
  const bytes = measureHeap() - heapBefore;
  const complaint =
    `${SHORT_LINES} ${what} keep ${formatMB(bytes)} in memory: ` +
    "the long lines of the same chunks are still there";
  assert(bytes < MAX_KEPT_BYTES, complaint);
}

Deno.test("limits: a short message does not keep the rest of its chunk in memory", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const heapBefore = measureHeap();
  for (let n = 0; n < SHORT_LINES; n++) {
    await alice.sendsRaw(`${REFUSED_LINE}This is message ${n}.\n`);
    await bob.receives(`alice: This is message ${n}.`);
  }
  assertKeepsLittle(heapBefore, "short messages");
});

Deno.test("limits: a name does not keep the rest of its chunk in memory", async () => {
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
