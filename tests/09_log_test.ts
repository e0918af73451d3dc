/**
 * Lesson 9: one log for all.
 *
 * A server that does not wait for slow receivers must keep their lines. With one
 * queue for each receiver, a line that waits for 1,000 receivers is in 1,000 queues:
 * that costs memory and time.
 *
 * A log keeps each line once, as an entry. New entries are added only at its end. Each
 * receiver has an offset: the number of the entry that it needs next. So all receivers
 * get the lines in the same order. An entry that no receiver needs any more is dropped.
 * A newcomer begins at the end of the log. An answer to one member is an entry, too, so
 * it arrives in the right order.
 *
 * Kafka and Redis Streams keep messages in logs, too. PostgreSQL sends a log of its
 * changes, the write-ahead log, to its replicas. Each replica has its own offset in it.
 *
 * Some of these tests measure the memory that the server needs. Most use the network in
 * memory of lesson 8, where a receiver's buffer is small.
 */

import { assert } from "@std/assert";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  announcements,
  assertLines,
  messages,
  type Person,
  saidBy,
  TestServer,
  turn,
} from "./helpers.ts";

/**
 * From now on, the server's writes to a person wait. Call the returned function to make
 * all waiting and later writes fail. The server can still read from the person.
 */
function blockWritesTo(person: Person): () => void {
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {}); // If no write waits for it, this is no error.
  person.serverEnd.write = () => broken.promise;
  return () => broken.reject(new Deno.errors.BrokenPipe("EPIPE"));
}

// --------------------------------------------------------------------- memory

// V8 offers its garbage collector only with this flag, and in a new context.
setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

/** The bytes that this process uses (the tests and the server), including garbage. */
function memoryInUse(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** Clears what the server has printed, collects garbage, and returns the bytes in use. */
async function memoryNeeded(server: TestServer): Promise<number> {
  await turn(); // The server may drop lines in a later turn.
  await turn();
  server.printed.length = 0;
  collectGarbage();
  return memoryInUse();
}

/** Measures how much more memory a server needs than at the start. */
class MemoryGrowth {
  private constructor(readonly server: TestServer, readonly start: number) {}

  static async from(server: TestServer): Promise<MemoryGrowth> {
    return new MemoryGrowth(server, await memoryNeeded(server));
  }

  /** Fails if the memory has grown by more than `maxBytes`. */
  async isAtMost(
    maxBytes: number,
    complain: (bytes: number) => string,
  ): Promise<void> {
    // Collecting garbage is slow. Usually the growth is below the limit without that.
    if (memoryInUse() - this.start <= maxBytes) return;
    const growth = await memoryNeeded(this.server) - this.start;
    assert(growth <= maxBytes, complain(growth));
  }
}

const LINES_PER_SENDER = 1_000;
const LINES_PER_BATCH = 50;

/**
 * Some of the sleepers are senders: each sends 1,000 lines. No sleeper reads, only bob
 * does. Fails if the memory grows by more than `maxCost` bytes for each line.
 */
async function assertCost(
  maxCost: number,
  { sleepers, senders }: { sleepers: number; senders: number },
): Promise<void> {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const people: Person[] = [];
  for (let n = 0; n < sleepers; n++) {
    people.push(await server.joinSleeper(`sleeper${n}`, bob));
  }
  const memory = await MemoryGrowth.from(server);
  const maxBytes = maxCost * senders * LINES_PER_SENDER;
  let count = 0;
  for (const sender of people.slice(0, senders)) {
    for (let n = 0; n < LINES_PER_SENDER; n += LINES_PER_BATCH) {
      const lines = messages(LINES_PER_BATCH, 20);
      await sender.sends(...lines);
      await bob.receives(...saidBy(sender.name, lines));
      count += LINES_PER_BATCH;
      await memory.isAtMost(maxBytes, (bytes) => {
        const cost = Math.round(bytes / count);
        return `${count} lines wait for ${sleepers} sleepers. The server ` +
          `should need at most ${maxCost} bytes for a line\nbut needs ${cost}`;
      });
    }
  }
}

Deno.test("log: a line that waits for 100 members costs at most 3,200 bytes in all", async () => {
  await assertCost(100 * 32, { sleepers: 100, senders: 1 });
});

Deno.test("log: a line that waits for 200 members costs at most 1,000 bytes in all", async () => {
  await assertCost(1_000, { sleepers: 200, senders: 3 });
});

// In each of the next tests, 2,000 lines are sent.
const FLOOD = messages(2_000);
const MAX_GROWTH = 1_000_000; // bytes; FLOOD has about 2,000,000
const complain = (bytes: number) =>
  `The memory should grow by at most ${MAX_GROWTH} bytes\nbut grew by ${bytes}`;

/** Connects twenty people before the memory is measured: they do not count as growth. */
async function connectVisitors(server: TestServer): Promise<Person[]> {
  const visitors: Person[] = [];
  for (let n = 0; n < 20; n++) visitors.push(await server.connect());
  return visitors;
}

/**
 * One after the other, each visitor joins, sends a hundred lines, and leaves. Carol
 * reads everything.
 */
async function visit(visitors: Person[], carol: Person): Promise<void> {
  for (const visitor of visitors) {
    await visitor.sends("", ...FLOOD.slice(0, 100)); // "": the name is User_PORT.
    await visitor.halfCloses();
    await carol.receivesUntil(announcements.left(`User_${visitor.port}`));
    visitor.closes();
  }
}

Deno.test("log: a line is dropped when the last receiver that needed it has received it", async () => {
  await using server = new TestServer({ inMemory: true });
  const carol = await server.join("carol");
  const sleeper = await server.joinSleeper("sleeper", carol);
  const visitors = await connectVisitors(server);
  const memory = await MemoryGrowth.from(server);
  await visit(visitors, carol);
  // Now the log keeps the flood for the sleeper, who reads it. No new line follows, so
  // the server has to drop the lines without one.
  const lastPort = visitors.at(-1)!.port;
  await sleeper.receivesUntil(announcements.left(`User_${lastPort}`));
  await memory.isAtMost(MAX_GROWTH, complain);
});

Deno.test("log: when writes to a member fail, lines that waited only for it are dropped", async () => {
  await using server = new TestServer({ inMemory: true });
  const [carol, bob] = await server.joinAll("carol", "bob");
  const visitors = await connectVisitors(server);
  const memory = await MemoryGrowth.from(server);
  const breakWrites = blockWritesTo(bob);
  await visit(visitors, carol);
  breakWrites(); // Now the server has to drop the lines, although no new line follows.
  await memory.isAtMost(MAX_GROWTH, complain);
});

Deno.test("log: if writes to every member have failed, new lines are not kept", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const breakWrites = blockWritesTo(alice);
  breakWrites();
  await alice.sends("x".repeat(1_001)); // The server tries to answer: this write fails.
  const memory = await MemoryGrowth.from(server);
  await alice.sends(...FLOOD);
  while (server.printed.length < FLOOD.length) await turn();
  await memory.isAtMost(MAX_GROWTH, complain);
});

// -------------------------------------------------- joining, leaving, answers

Deno.test("log: a newcomer does not receive older lines that are kept for a slow member", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await server.joinSleeper("sleeper", alice, bob);
  const old = messages(50);
  await alice.sends(...old);
  await bob.receives(...saidBy("alice", old));
  const carol = await server.join("carol");
  await alice.sends("new");
  await carol.receives("alice: new");
});

Deno.test("log: a member that joins during a flood receives every line after its join", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const flood = async () => {
    for (const line of messages(300)) {
      await alice.sends(line);
      await turn();
    }
  };
  const flooding = flood();
  const carol = await server.join("carol"); // She reads only the welcome.
  await flooding;
  await alice.sends("the end");
  const bobsLines = await bob.receivesUntil("alice: the end");
  const carolsLines = await carol.receivesUntil("alice: the end");
  const joinIndex = bobsLines.indexOf(announcements.joined("carol"));
  assertLines(carolsLines, bobsLines.slice(joinIndex + 1), "carol");
});

Deno.test("log: a slow member that half-closes receives all lines from before that, but none from after it", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const leaver = await server.joinSleeper("leaver", alice, bob);
  const said = messages(50);
  await alice.sends(...said);
  await bob.receives(...saidBy("alice", said));
  await leaver.halfCloses();
  await bob.receives(announcements.left("leaver"));
  await alice.sends("after leaver has left");
  await bob.receives("alice: after leaver has left");
  await leaver.receives(...saidBy("alice", said));
  await leaver.isDisconnected();
});

Deno.test("log: the answer to a message that is too long comes after all earlier lines and before all later ones", async () => {
  await using server = new TestServer({ inMemory: true });
  const [bob, carol] = await server.joinAll("bob", "carol");
  const alice = await server.joinSleeper("alice", bob, carol);
  await bob.sends(...messages(20));
  await carol.receives(...saidBy("bob", messages(20)));
  await alice.sends("x".repeat(1_001), "Shorter");
  await carol.receives("alice: Shorter");
  await bob.sends("after the answer");
  await carol.receives("bob: after the answer");
  await alice.receives(
    ...saidBy("bob", messages(20)),
    announcements.messageTooLong,
    "bob: after the answer",
  );
});
