/**
 * Lesson 10: batching.
 *
 * Each write is a system call, and each write can become a packet. Both have a fixed
 * cost, however few bytes they carry. So what is ready at the same time should be sent
 * with one write. This is called batching, and the lines of one write are a batch.
 *
 * The danger is latency: if the server waits until a batch is large enough, the first
 * line of the batch arrives late. Our server waits only for the end of the current turn
 * of the event loop. In one turn, the event loop runs everything that can continue.
 * Nagle's algorithm, a part of TCP, batches as well: it can delay a small write until
 * the peer has acknowledged earlier data. A database can write several transactions to
 * the disk together ("group commit").
 *
 * A real socket hides how often the server writes. The network in memory counts writes.
 * A sleeper is a member that reads nothing until the test makes it read.
 */

import { assert, fail } from "@std/assert";
import {
  announcements,
  messages,
  type Person,
  saidBy,
  TestServer,
  turn,
} from "./helpers.ts";

/** Lets this many members join. Each one has received that the later ones joined. */
function joinMany(server: TestServer, count: number): Promise<Person[]> {
  const names = Array.from({ length: count }, (_, n) => `member${n}`);
  return server.joinAll(...names);
}

/** Collects what the server passes to `write` for a person from now on. */
function watchWrites(person: Person): Uint8Array[] {
  const { serverEnd } = person;
  const write = serverEnd.write.bind(serverEnd);
  const batches: Uint8Array[] = [];
  serverEnd.write = (bytes) => {
    batches.push(bytes);
    return write(bytes);
  };
  return batches;
}

function assertAtMost(count: number, max: number, complaint: string): void {
  assert(count <= max, `${complaint}: ${count}, not ${max} or fewer`);
}

// --------------------------------------------------- many lines in one write

Deno.test("batching: when a slow receiver reads again, the server sends it many lines with one write", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", alice, bob);
  // With `alice: ` and a newline, each line has 100 bytes. The buffer of the sleeper
  // holds 20 lines, so about 25 writes are enough.
  const lines = messages(500, 92);
  await alice.sends(...lines);
  await bob.receives(...saidBy("alice", lines));
  const before = sleeper.writesReceived;
  await sleeper.receives(...saidBy("alice", lines));
  const count = sleeper.writesReceived - before;
  assertAtMost(count, 50, "For 500 lines the server writes too often");
});

Deno.test("batching: the server limits the bytes of one write, even if many lines wait for a receiver", async () => {
  await using server = new TestServer({ inMemory: true });
  const senders = await joinMany(server, 5);
  const sleeper = await server.joinSleeper("sleeper", ...senders);
  const witness = await server.join("witness");
  const writes = watchWrites(sleeper);
  for (const sender of senders) {
    await sender.sends(...messages(100));
    await witness.receives(...saidBy(sender.name, messages(100)));
  }
  await witness.sends("the end");
  await sleeper.receivesUntil("witness: the end");
  // All lines together have about 505,000 bytes. Our batches have about 128 KiB.
  const longest = Math.max(...writes.map((bytes) => bytes.length));
  assertAtMost(longest, 256 * 1024, "The server writes too many bytes at once");
});

// ------------------------------------------------------------- once per turn

Deno.test("batching: if 1,000 lines arrive together, the server sends them to a member with few writes", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(1_000, 50);
  const before = bob.writesReceived;
  await alice.sends(...lines);
  await bob.receives(...saidBy("alice", lines));
  const count = bob.writesReceived - before;
  assertAtMost(count, 20, "For 1,000 lines the server writes too often to bob");
});

Deno.test("batching: if lines of different senders arrive together, the server sends them together", async () => {
  await using server = new TestServer({ inMemory: true });
  const senders = await joinMany(server, 20);
  const bob = await server.join("bob");
  const before = bob.writesReceived;
  await Promise.all(senders.map((sender) => sender.sends("now")));
  await bob.receives(...senders.map(({ name }) => `${name}: now`));
  const count = bob.writesReceived - before;
  assertAtMost(count, 4, "For 20 lines the server writes too often to bob");
});

Deno.test("batching: the server does not wait for more lines before it sends a single line", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("now");
  let isReceived = false;
  const received = bob.receives("alice: now").then(() => isReceived = true);
  for (let n = 0; n < 50 && !isReceived; n++) await turn();
  if (!isReceived) fail("50 turns later, bob has not received alice's line");
  await received;
});

// ------------------------------------------------------------ Nagle's algorithm

Deno.test("batching: the server turns off Nagle's algorithm for the connection of a member", async () => {
  await using server = new TestServer({ inMemory: true });
  const anyone = await server.connect();
  // All connections in memory have the same prototype. If its method is replaced, the
  // test sees for which connections the server calls it.
  const prototype = Object.getPrototypeOf(anyone.serverEnd);
  const { setNoDelay } = prototype;
  const conns = new Set<unknown>();
  prototype.setNoDelay = function (isOn = true) {
    if (isOn) conns.add(this);
    else conns.delete(this);
  };
  try {
    const alice = await server.join("alice");
    assert(
      conns.has(alice.serverEnd),
      "The kernel may keep a line for alice back, until she has received others",
    );
  } finally {
    prototype.setNoDelay = setNoDelay;
  }
});

// ---------------------------------------------------------- one batch for all

Deno.test("batching: the server does not encode the same line again for each of fifty receivers", async () => {
  await using server = new TestServer({ inMemory: true });
  const receivers = await joinMany(server, 50);
  const alice = await server.join("alice");
  for (const receiver of receivers) {
    await receiver.receives(announcements.joined("alice"));
  }
  const writes = receivers.map(watchWrites);
  for (const line of messages(20)) {
    await alice.sends(line);
    for (const receiver of receivers) {
      await receiver.receivesNow(`alice: ${line}`);
    }
  }
  // Writes with the same buffer send bytes that were encoded only once. One encoding for
  // each line and receiver would make 1,000 buffers.
  const buffers = new Set(writes.flat().map((bytes) => bytes.buffer));
  assertAtMost(buffers.size, 40, "For 20 lines the server encodes too often");
});

Deno.test("batching: each member receives the lines of all other members, but not its own lines", async () => {
  await using server = new TestServer({ inMemory: true });
  const people = await joinMany(server, 5);
  const senders = people.toSpliced(2, 1); // The third member sends nothing.
  for (const line of messages(20, 10)) {
    await Promise.all(senders.map((sender) => sender.sends(line)));
    for (const person of people) {
      const others = senders.filter((sender) => sender !== person);
      const lines = others.map(({ name }) => `${name}: ${line}`);
      await person.receivesNow(...lines);
    }
  }
});

Deno.test("batching: a member that leaves still receives all earlier lines, but no later ones", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", alice, bob);
  const leaver = await server.joinSleeper("leaver", alice, bob, sleeper);
  const lines = messages(50);
  await alice.sends(...lines);
  await bob.receivesNow(...saidBy("alice", lines));
  await alice.sends("before");
  await bob.receivesNow("alice: before");
  await leaver.halfCloses();
  await bob.receivesNow(announcements.left("leaver"));
  await alice.sends("after");
  await bob.receivesNow("alice: after");
  const all = saidBy("alice", [...lines, "before"]);
  await sleeper.receivesNow(
    ...all,
    announcements.left("leaver"),
    "alice: after",
  );
  await leaver.receivesNow(...all);
  await leaver.isDisconnected();
});

Deno.test("batching: a member that leaves receives what was said just before, in the same turn of the event loop", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await Promise.all([bob.sends("just before"), alice.halfCloses()]);
  await alice.receives("bob: just before");
  await alice.isDisconnected();
  await bob.receives(announcements.left("alice"));
});

Deno.test("batching: the answer to a message that is too long goes only to its sender", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (let n = 0; n < 3; n++) {
    await alice.sends("x".repeat(1_001));
    await alice.receivesNow(announcements.messageTooLong);
    await alice.sends("Shorter");
    await bob.receivesNow("alice: Shorter");
  }
});
