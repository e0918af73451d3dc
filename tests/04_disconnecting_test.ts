/**
 * Lesson 4: disconnecting.
 *
 * A TCP connection is two streams, one in each direction. A FIN ends one of them: "I will
 * send no more". Then the connection is half-closed. An RST ends both: "this connection no
 * longer exists". If a program closes a socket, or crashes, before it has read all input,
 * its kernel sends an RST.
 *
 * A server can notice an end in three ways: the input ends, a read or a write fails, or
 * nothing arrives any more, for example because a cable was cut. (Only a timer or TCP
 * keep-alive can notice the last one.) With separate code for each case, it is easy to
 * forget one. Then members who left are still listed, and sockets stay open until there
 * are no file descriptors left. The usual answer is one function that ends a connection.
 * Calling it twice must do no harm, because a read and a write can fail together.
 *
 * A network error is normal: it ends only its connection. Any other error is a bug, and is
 * reported.
 *
 * A sleeper is a member that reads nothing until the test makes it read. Some of these
 * tests use a network in memory, with `inMemory: true`. There, the buffer of a sleeper is
 * too small for a `LARGE_MESSAGE`, so the server's write to it waits.
 */

import { assertEquals, fail } from "@std/assert";
import {
  announcements,
  LARGE_MESSAGE,
  messages,
  type Person,
  quote,
  saidBy,
  TestServer,
  untilIdle,
} from "./helpers.ts";

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

  /** Fires all timers that were set for at most this time, without waiting for it. */
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

Deno.test("disconnecting: what a member says before it closes its connection is delivered", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(500, 100);
  await alice.sends(...lines);
  alice.closes();
  await bob.receives(...saidBy("alice", lines));
  await bob.receives(announcements.left("alice"));
});

Deno.test("disconnecting: when a member closes or resets its connection, the others see once that it left", async () => {
  await using server = new TestServer();
  const [bob, dave] = await server.joinAll("bob", "dave");
  for (const name of ["alice", "carol"]) {
    const leaver = await server.join(name, { canReset: true });
    await bob.receives(announcements.joined(name));
    if (name === "alice") leaver.closes();
    else leaver.resets();
    await bob.receivesAmongPings(dave, announcements.left(name));
    await untilIdle(); // Now bob would see that it left a second time.
    await dave.sends("that was all");
    await bob.receives("dave: that was all");
  }
});

Deno.test("disconnecting: a name is free again after a reset", async () => {
  await using server = new TestServer();
  const [bob, carol] = await server.joinAll("bob", "carol");
  const alice = await server.join("alice", { canReset: true });
  await bob.receives(announcements.joined("alice"));
  alice.resets();
  await bob.receivesAmongPings(carol, announcements.left("alice"));
  await server.join("alice");
});

Deno.test("disconnecting: if a member with unread lines resets its connection, the others see that it left", async () => {
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
  await bob.receivesAmongPings(carol, announcements.left("alice"));
});

Deno.test("disconnecting: when many leave at the same time, none stays on the list", async () => {
  await using server = new TestServer();
  const [witness, talker] = await server.joinAll("witness", "talker");
  const names = Array.from({ length: 20 }, (_, n) => `user${n}`);
  const leavers: Person[] = [];
  for (const name of names) {
    leavers.push(await server.join(name, { canReset: true }));
    leavers.push(await server.connect(undefined, { canReset: true }));
  }
  await witness.receivesUntil(announcements.joined("user19"));
  leavers.forEach((person, n) =>
    n % 3 === 0 ? person.resets() : person.closes()
  );
  const leaves = names.map((name) => announcements.left(name));
  await witness.receivesAmongPings(talker, ...leaves);
  const last = await server.connect("the last one");
  await last.sends("last");
  await last.receives(
    announcements.welcome("last", "witness", "talker", "last"),
  );
});

// ------------------------------------------------------------------- half-close

Deno.test("disconnecting: a client that half-closes receives what was on its way, then is disconnected", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const leaver = await server.joinSleeper("leaver", bob);
  await alice.sends(LARGE_MESSAGE);
  await bob.receives(`alice: ${LARGE_MESSAGE}`);
  await leaver.halfCloses();
  await bob.receivesNow(announcements.left("leaver"));
  await leaver.receives(`alice: ${LARGE_MESSAGE}`);
  await untilIdle();
  if (leaver.serverEnd.isClosed) return;
  fail("leaver should be disconnected after the last line\nbut is not");
});

Deno.test("disconnecting: a client that half-closes right after its name is still welcomed", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.visit("alice", { bufferSize: 10 });
  await alice.sends("alice");
  await alice.halfCloses();
  await untilIdle();
  await alice.receives(
    announcements.enterName(alice.port),
    announcements.welcome("alice", "alice"),
  );
  await alice.isDisconnected();
});

// ------------------------------------------------------------------------ resets

Deno.test("disconnecting: lines that arrived before a reset are still broadcast", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const alice = await server.join("alice", { canReset: true });
  await bob.receives(announcements.joined("alice"));
  const lines = messages(600, 50); // The server's kernel can hold all of them.
  await alice.sendsRaw([...lines, "half a li"].join("\n"));
  alice.resets();
  await bob.receives(...saidBy("alice", lines));
  await bob.receives("alice: half a li", announcements.left("alice"));
});

// ------------------------------------------------------------------ a time limit

Deno.test("disconnecting: a client that half-closes and reads nothing is disconnected after a second", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  await alice.sends(LARGE_MESSAGE);
  await bob.receives(`alice: ${LARGE_MESSAGE}`);
  using clock = new Clock();
  await sleeper.halfCloses();
  await bob.receivesNow(announcements.left("sleeper"));
  clock.advance(1_000);
  const lines = await sleeper.receivesUntil();
  if (lines.length === 0) return; // Its line was cut off, so no whole line arrives.
  fail(`sleeper should be disconnected after a second of reading nothing
but still receives the rest`);
});

// -------------------------------------------------------------------------- bugs

const BUG = new TypeError("a bug"); // It does not come from the network.

/** Fails unless the server has warned exactly once, about that bug. */
function assertOneWarning({ warnings }: TestServer): void {
  if (warnings.length === 1 && warnings[0]!.includes("a bug")) return;
  const seen = warnings.map((line) => `\n  ${quote(line)}`).join("");
  fail(`The server should warn once, about "a bug"
but warns ${warnings.length} times${seen}`);
}

Deno.test("disconnecting: a bug while the server writes to a client is reported, and ends only its connection", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  alice.serverEnd.write = () => Promise.reject(BUG);
  await bob.sends("hi");
  await server.join("dave");
  await carol.receives(
    "bob: hi",
    announcements.left("alice"),
    announcements.joined("dave"),
  );
  assertOneWarning(server);
});

Deno.test("disconnecting: a bug while the server reads from a client is reported, and ends only its connection", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  alice.serverEnd.read = () => Promise.reject(BUG);
  await alice.sends("hi"); // This ends the read that waits already. The next one fails.
  await untilIdle();
  await server.join("carol");
  const lines = await bob.receivesUntil(announcements.joined("carol"));
  const saysAliceLeft = (line: string) => line === announcements.left("alice");
  assertEquals(
    lines.filter(saysAliceLeft).length,
    1,
    "How often bob sees alice leave",
  );
  assertOneWarning(server);
});

Deno.test("disconnecting: a bug is reported, but a broken connection is not", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  await alice.sends(LARGE_MESSAGE);
  await bob.receives(`alice: ${LARGE_MESSAGE}`);
  sleeper.resets();
  bob.serverEnd.write = () => Promise.reject(BUG);
  await alice.sends("hi");
  await untilIdle();
  assertOneWarning(server);
});

Deno.test("disconnecting: if the network is down, the connection ends, and no bug is reported", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  for (const code of ["EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN"]) {
    const alice = await server.join(`alice_${code}`);
    await bob.receives(announcements.joined(alice.name));
    const error = Object.assign(new Error("the network is down"), { code });
    alice.serverEnd.write = () => Promise.reject(error);
    await bob.sends("hi"); // The write of this line fails.
    alice.serverEnd.read = () => Promise.reject(error);
    await alice.sends("hi"); // This ends the read that waits. The next one fails.
    await bob.receivesNow(
      `${alice.name}: hi`,
      announcements.left(alice.name),
    );
    assertEquals(server.warnings, []);
  }
});

Deno.test("disconnecting: if a bug ends a sender's connection, its waiting lines are not broadcast", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, carol] = await server.joinAll("alice", "carol");
  const sleeper = await server.joinSleeper("sleeper", carol);
  await alice.sends(LARGE_MESSAGE, "after it"); // The second line waits for the sleeper.
  await carol.receives(`alice: ${LARGE_MESSAGE}`);
  alice.serverEnd.write = () => Promise.reject(BUG);
  await carol.sends("hi"); // Now the server writes to alice.
  await carol.receivesNowUntil(announcements.left("alice"));
  await sleeper.receivesUntil(announcements.left("alice")); // Now nothing waits.
  await server.join("dave");
  await carol.receivesNow(announcements.joined("dave"));
});

// ---------------------------------------------------------------------- the stop

Deno.test("disconnecting: a server that stops ends all connections", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  await alice.sends(LARGE_MESSAGE);
  await bob.receives(`alice: ${LARGE_MESSAGE}`);
  using clock = new Clock();
  await sleeper.halfCloses();
  await bob.receivesNow(announcements.left("sleeper"));

  const closedAtStop = server.stop().then(() => sleeper.serverEnd.isClosed);
  let isConnected = true;
  const end = bob.receivesUntil().finally(() => isConnected = false);
  await untilIdle();
  if (isConnected) {
    end.catch(() => {});
    fail("bob should be disconnected when the server stops\nbut is not");
  }
  alice.closes();
  bob.closes();
  await untilIdle();
  clock.advance(1_000);
  if (await closedAtStop) return;
  fail(
    "sleeper should be disconnected when the server has stopped\nbut is not",
  );
});

// ---------------------------------------------------------------- silent peers

Deno.test("disconnecting: the server turns on TCP keep-alive for each connection", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const prototype = Object.getPrototypeOf(alice.serverEnd);
  const { setKeepAlive } = prototype;
  const askedFor: boolean[] = [];
  prototype.setKeepAlive = (isOn = true) => void askedFor.push(isOn);
  try {
    await server.join("bob");
  } finally {
    prototype.setKeepAlive = setKeepAlive;
  }
  assertEquals(askedFor, [true], "Calls of setKeepAlive for a connection");
});
