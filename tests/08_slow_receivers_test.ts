/**
 * Lesson 8: slow receivers.
 *
 * Sooner or later, a receiver is slower than a sender: its network is bad, or its
 * program is suspended and reads nothing. The operating systems at both ends buffer
 * some data, often a few megabytes. When these buffers are full, `write` waits,
 * perhaps for hours. If a server waits for this `write` before it sends to the others,
 * the slowest receiver sets the speed for all. This is called head-of-line blocking:
 * one write that waits blocks every write behind it.
 *
 * Chat servers, message brokers such as Kafka and RabbitMQ, and live streams all have
 * to decide what to do about a slow receiver: wait for it, drop data, disconnect it, or
 * keep the data for it. This chat keeps the data in memory. Then no sender waits, but
 * the memory can grow without a limit, until lesson 11.
 *
 * A sleeper is a member that reads nothing until the test makes it read. Most of these
 * tests use a network in memory instead of TCP. There, a few lines fill the buffer of a
 * connection.
 */

import {
  announcements,
  assertLines,
  messages,
  saidBy,
  TestServer,
  turn,
  untilIdle,
} from "./helpers.ts";

/** More lines than a sleeper's buffer can hold. The server keeps the rest. */
const FLOOD = messages(50);

Deno.test("slow receivers: a member that reads nothing does not delay lines to the others", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await server.joinSleeper("sleeper", alice, bob);
  await alice.sends(...FLOOD);
  await bob.receivesNow(...saidBy("alice", FLOOD));
});

Deno.test("slow receivers: if the only other member reads nothing, a sender still reaches a newcomer", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  await server.joinSleeper("sleeper", alice);
  await alice.sends(...messages(5)); // The sleeper's buffer holds one or two.
  await untilIdle(); // Gives the server time to read them.
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await alice.sends("Is anybody here?");
  await bob.receivesNow("alice: Is anybody here?");
});

Deno.test("slow receivers: a member that does not read the server's answers can still send to others", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const alice = await server.joinSleeper("alice", bob);
  const tooLong = "x".repeat(1_001); // One character too many: the server answers.
  await alice.sends(...Array(100).fill(tooLong), "Shorter");
  await bob.receivesNow("alice: Shorter");
});

Deno.test("slow receivers: a sleeper that wakes up receives every line, whole and in order", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", alice, bob);
  const sent = alice.sends(...FLOOD);
  const reading = bob.receives(...saidBy("alice", FLOOD));
  await untilIdle(); // Now the server keeps what did not fit. The sleeper begins to read:
  await sleeper.receives(...saidBy("alice", FLOOD));
  await Promise.all([sent, reading]);
});

Deno.test("slow receivers: fast and slow receivers receive the same lines in the same order", async () => {
  await using server = new TestServer();
  const receivers = await server.joinAll("bob", "carol", "dave", "erin");
  const alice = await server.join("alice");
  const said = [...messages(500), "the end"];
  const sent = alice.sends(...said);
  await Promise.all(receivers.map(async (receiver, n) => {
    const seen: string[] = [];
    while (seen.at(-1) !== "alice: the end") {
      seen.push(await receiver.nextLine());
      // After every ten lines, receiver n pauses for 2 × n turns of the event loop.
      const pauses = seen.length % 10 === 0 ? 2 * n : 0;
      for (let pause = 0; pause < pauses; pause++) await turn();
    }
    const broadcast = seen.filter((line) => !line.startsWith("[SYSTEM]"));
    assertLines(broadcast, saidBy("alice", said), receiver.name);
  }));
  await sent;
});

Deno.test("slow receivers: two members that flood each other lose nothing", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const said = messages(400, 1_000, "😀");
  await Promise.all([
    alice.sends(...said),
    bob.sends(...said),
    alice.receives(...saidBy("bob", said)),
    bob.receives(...saidBy("alice", said)),
  ]);
});
