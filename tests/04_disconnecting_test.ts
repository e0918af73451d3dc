/**
 * Lesson 4: disconnecting.
 *
 * A TCP connection is two streams, one in each direction, and each ends by itself. A
 * FIN says "I send no more"; the other direction goes on. That is a half-close. An
 * RST says "this connection is broken": a kernel sends it if a program crashes or
 * closes a socket with unread input. If a cable is cut, nothing arrives at all.
 *
 * So a server sees an end as the end of the input, as an error of a read or a write,
 * or not at all. Whoever handles each case where it appears forgets one: members who
 * left are still listed, and sockets stay open until there are none left. The usual
 * answer, in HTTP servers as in databases, is one function that ends a connection,
 * and that may be called twice.
 */

import { assertEquals, fail } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  messages,
  type Person,
  quote,
  TestServer,
  turn,
} from "./helpers.ts";

/**
 * The network in memory holds this many bytes for a narrow receiver: one short line.
 * Such a receiver is slow as soon as its test does not read.
 */
const NARROW = { bufferSize: 80 };
/** A line that does not fit into the buffer of a narrow receiver. */
const LONG = "x".repeat(90);

/** Lets the server do all that it can do now: it may need some turns and timers. */
async function settle(): Promise<void> {
  for (let n = 0; n < SETTLE_PAUSES; n++) await pause();
}

const SETTLE_PAUSES = 20;

async function pause(): Promise<void> {
  for (let n = 0; n < 5; n++) await turn();
  await new Promise((resolve) => setTimeout(resolve));
}

/** The next line. Fails if the server could have sent it by now, but has not. */
async function nextLineSoon(person: Person): Promise<string> {
  let hasArrived = false;
  const line = person.nextLine().finally(() => hasArrived = true);
  for (let n = 0; n < SETTLE_PAUSES && !hasArrived; n++) await pause();
  if (hasArrived) return await line;
  line.catch(() => {}); // It fails later, when the test has ended.
  fail(`${person.name} should receive a line now\nbut has to wait`);
}

/** All lines up to this one. */
async function linesSoonUntil(person: Person, last: string): Promise<string[]> {
  const lines: string[] = [];
  while (lines.at(-1) !== last) lines.push(await nextLineSoon(person));
  return lines;
}

/** Fails unless this line is the next one. */
async function receivesSoon(person: Person, line: string): Promise<void> {
  assertLine(await nextLineSoon(person), line, person.name);
}

/** The server's end of a connection in memory. */
function serverEnd(person: Person): Deno.TcpConn & { isClosed: boolean } {
  return (person.conn as unknown as { peer: ReturnType<typeof serverEnd> })
    .peer;
}

/** Lets timers fire early, so that the tests do not have to wait for them. */
class Clock {
  readonly #setTimeout = globalThis.setTimeout;
  readonly #clearTimeout = globalThis.clearTimeout;
  readonly #timers = new Map<unknown, { ms: number; onTimeout: () => void }>();

  constructor() {
    const set = (onTimeout: () => void, ms = 0) => {
      const timer = this.#setTimeout(onTimeout, ms);
      this.#timers.set(timer, { ms, onTimeout });
      return timer;
    };
    globalThis.setTimeout = set as unknown as typeof setTimeout;
    globalThis.clearTimeout = (timer) => {
      this.#timers.delete(timer);
      this.#clearTimeout.call(globalThis, timer);
    };
  }

  /** Fires all timers of up to this time. */
  advance(maxMs: number): void {
    for (const [timer, { ms, onTimeout }] of this.#timers) {
      if (ms > maxMs) continue;
      clearTimeout(timer as number);
      onTimeout();
    }
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
    globalThis.clearTimeout = this.#clearTimeout;
  }
}

// ---------------------------------------------------- every connection ends once

Deno.test("disconnecting: what a member says before it closes is delivered", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(500, 100);
  await alice.sends(...lines);
  alice.closes();
  await bob.receives(...lines.map((line) => `alice: ${line}`));
  await bob.receives(announcements.left("alice"));
});

Deno.test("disconnecting: after a close or a reset, the others are notified once", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  for (const name of ["alice", "carol"]) {
    const leaver = await server.join(name, { canReset: true });
    await bob.receives(announcements.joined(name));
    if (name === "alice") leaver.closes();
    else leaver.resets();
    await settle();
    const next = await server.join(`after_${name}`);
    await bob.receives(
      announcements.left(name),
      announcements.joined(next.name),
    );
  }
});

Deno.test("disconnecting: a name is free again after a reset", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice", { canReset: true });
  alice.resets();
  await settle();
  await server.join("alice");
});

Deno.test("disconnecting: a member that is reset with lines unread has left, too", async () => {
  await using server = new TestServer();
  const [bob, carol] = await server.joinAll("bob", "carol");
  const alice = await server.join("alice", { canReset: true });
  await bob.receives(announcements.joined("alice"));
  await bob.sends("a line that alice never reads");
  await carol.receives(
    announcements.joined("alice"),
    "bob: a line that alice never reads",
  );
  alice.resets();
  await settle();
  await server.join("dave");
  await bob.receives(announcements.left("alice"), announcements.joined("dave"));
});

Deno.test("disconnecting: when many leave at the same time, none stays on the list", async () => {
  await using server = new TestServer();
  const witness = await server.join("witness");
  const names = Array.from({ length: 20 }, (_, n) => `user${n}`);
  const leavers: Person[] = [];
  for (const name of names) {
    leavers.push(await server.join(name, { canReset: true }));
    leavers.push(await server.connect(undefined, { canReset: true }));
  }
  await witness.receivesUntil(announcements.joined("user19"));
  leavers.forEach((person, n) => n % 3 ? person.closes() : person.resets());
  await settle();
  const last = await server.connect("the last one");
  await last.sends("last");
  const lines = await witness.receivesUntil(announcements.joined("last"));
  const expected = names.map((name) => announcements.left(name));
  expected.push(announcements.joined("last"));
  assertLines(lines.sort(), expected.sort(), "the witness");
  await last.receives(announcements.welcome("last", "witness", "last"));
});

// ------------------------------------------------------------------- half-close

Deno.test("disconnecting: whoever half-closes still receives what was on its way", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const leaver = await server.join("leaver", NARROW);
  await bob.receives(announcements.joined("leaver"));
  await alice.sends(LONG);
  await bob.receives(`alice: ${LONG}`);
  await leaver.halfCloses();
  await receivesSoon(bob, announcements.left("leaver"));
  await leaver.receives(`alice: ${LONG}`);
  await settle();
  if (serverEnd(leaver).isClosed) return;
  fail("leaver should be disconnected after the last line\nbut is not");
});

Deno.test("disconnecting: whoever half-closes after the name is still welcomed", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.visit("alice", { bufferSize: 10 });
  await alice.sends("alice");
  await alice.halfCloses();
  await settle();
  await alice.receives(
    announcements.enterName(alice.port),
    announcements.welcome("alice", "alice"),
  );
  await alice.isDisconnected();
});

// ------------------------------------------------------------------------ resets

Deno.test("disconnecting: a reset loses nothing that was said before it", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const alice = await server.join("alice", { canReset: true });
  await bob.receives(announcements.joined("alice"));
  const lines = messages(600, 50); // The kernel accepts them at once.
  await alice.sendsRaw([...lines, "half a li"].join("\n"));
  alice.resets();
  await bob.receives(...lines.map((line) => `alice: ${line}`));
  await bob.receives("alice: half a li", announcements.left("alice"));
});

// ------------------------------------------------------------------ a time limit

Deno.test("disconnecting: whoever half-closes and reads nothing is closed after a second", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.join("sleeper", NARROW);
  await bob.receives(announcements.joined("sleeper"));
  await alice.sends(LONG); // The server cannot write all of it to the sleeper.
  await bob.receives(`alice: ${LONG}`);
  using clock = new Clock();
  await sleeper.halfCloses();
  await receivesSoon(bob, announcements.left("sleeper"));
  clock.advance(1_000);
  const lines = await sleeper.receivesUntil();
  if (lines.length === 0) return;
  fail(`sleeper should be disconnected after a second of reading nothing
but still receives the rest`);
});

// -------------------------------------------------------------------------- bugs

const BUG = new TypeError("a bug");

/** Fails unless the server has warned once, and of that bug. */
function assertOneWarning({ warnings }: TestServer): void {
  if (warnings.length === 1 && warnings[0]!.includes("a bug")) return;
  const seen = warnings.map((line) => `\n  ${quote(line)}`).join("");
  fail(`The server should warn once, of "a bug"
but warns ${warnings.length} times${seen}`);
}

Deno.test("disconnecting: a bug while sending is reported, and ends one connection", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  serverEnd(alice).write = () => Promise.reject(BUG);
  await bob.sends("hi");
  await server.join("dave");
  await carol.receives(
    "bob: hi",
    announcements.left("alice"),
    announcements.joined("dave"),
  );
  assertOneWarning(server);
});

Deno.test("disconnecting: a bug while reading is reported, and ends one connection", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  serverEnd(alice).read = () => Promise.reject(BUG);
  await alice.sends("hi");
  await settle();
  await server.join("carol");
  const lines = await bob.receivesUntil(announcements.joined("carol"));
  const isLeft = (line: string) => line === announcements.left("alice");
  assertEquals(
    lines.filter(isLeft).length,
    1,
    "How often bob sees alice leave",
  );
  assertOneWarning(server);
});

Deno.test("disconnecting: a bug is reported, but a broken connection is not", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.join("sleeper", NARROW);
  await bob.receives(announcements.joined("sleeper"));
  await alice.sends(LONG); // The server cannot write all of it to the sleeper.
  await bob.receives(`alice: ${LONG}`);
  sleeper.resets();
  serverEnd(bob).write = () => Promise.reject(BUG);
  await alice.sends("hi");
  await settle();
  assertOneWarning(server);
});

Deno.test("disconnecting: after a bug has ended a member, none of its lines is broadcast", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, carol] = await server.joinAll("alice", "carol");
  const sleeper = await server.join("sleeper", NARROW);
  await carol.receives(announcements.joined("sleeper"));
  await alice.sends(LONG, "after it"); // The sleeper delays the second message.
  await carol.receives(`alice: ${LONG}`);
  serverEnd(alice).write = () => Promise.reject(BUG);
  await carol.sends("hi");
  await linesSoonUntil(carol, announcements.left("alice"));
  await sleeper.receivesUntil(announcements.left("alice"));
  await server.join("dave");
  await receivesSoon(carol, announcements.joined("dave"));
});

// ---------------------------------------------------------------------- the stop

Deno.test("disconnecting: a server that stops ends all connections", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.join("sleeper", NARROW);
  await bob.receives(announcements.joined("sleeper"));
  await alice.sends(LONG); // The server cannot write all of it to the sleeper.
  await bob.receives(`alice: ${LONG}`);
  using clock = new Clock();
  await sleeper.halfCloses();
  await receivesSoon(bob, announcements.left("sleeper"));

  const isSleeperClosed = server.stop().then(() => serverEnd(sleeper).isClosed);
  let isConnected = true;
  const end = bob.receivesUntil().finally(() => isConnected = false);
  await settle();
  if (isConnected) {
    end.catch(() => {});
    fail("bob should be disconnected when the server stops\nbut is not");
  }
  alice.closes();
  bob.closes();
  await settle();
  clock.advance(1_000);
  if (await isSleeperClosed) return;
  fail(
    "sleeper should be disconnected when the server has stopped\nbut is not",
  );
});

// ---------------------------------------------------------------- silent peers

Deno.test("disconnecting: the server asks the kernel to look for silent peers", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const ends = Object.getPrototypeOf(serverEnd(alice));
  const { setKeepAlive } = ends;
  const askedFor: boolean[] = [];
  ends.setKeepAlive = (isOn = true) => void askedFor.push(isOn);
  try {
    await server.join("bob");
  } finally {
    ends.setKeepAlive = setKeepAlive;
  }
  assertEquals(askedFor, [true], "Calls of setKeepAlive for a connection");
});
