/**
 * Lesson 8: slow receivers.
 *
 * Some receiver is always slower than the sender: its network is bad, or its program
 * was stopped and reads nothing. TCP accepts a few megabytes for such a receiver. Then
 * `write` waits, perhaps for hours. If a server that sends to many
 * waits with it, the slowest receiver sets the speed for all. This is called
 * head-of-line blocking. Chat servers, message brokers such as Kafka and RabbitMQ,
 * and live streams all have to decide what happens then: wait, drop data, disconnect
 * the receiver, or keep the data for it. The chat keeps it, and nobody waits.
 *
 * A sleeper is a member who reads nothing until the test says so. Most of these tests
 * use the network in memory, where its buffer is small.
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

/** More lines than a sleeper's buffer can hold. The server can keep them. */
const FLOOD = messages(50);

Deno.test("slow receivers: a sleeper does not keep others from receiving", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await server.joinSleeper("sleeper", alice, bob);
  await alice.sends(...FLOOD);
  await bob.receivesNow(...saidBy("alice", FLOOD));
});

Deno.test("slow receivers: a newcomer receives a member that was alone with a sleeper", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  await server.joinSleeper("sleeper", alice);
  await alice.sends(...messages(5)); // The sleeper has room for one or two.
  await untilIdle(); // The server has read them.
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await alice.sends("Is anybody here?");
  await bob.receivesNow("alice: Is anybody here?");
});

Deno.test("slow receivers: a sender that reads none of its answers can still be received", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const alice = await server.joinSleeper("alice", bob);
  const tooLong = "x".repeat(1_001);
  await alice.sends(...Array(100).fill(tooLong), "Shorter");
  await bob.receivesNow("alice: Shorter");
});

Deno.test("slow receivers: a sleeper that wakes up receives every line, whole and in order", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", alice, bob);
  const sent = alice.sends(...FLOOD);
  const reading = bob.receives(...saidBy("alice", FLOOD));
  await untilIdle();
  await sleeper.receives(...saidBy("alice", FLOOD));
  await Promise.all([sent, reading]);
});

Deno.test("slow receivers: receivers of all speeds receive the same lines", async () => {
  await using server = new TestServer();
  const receivers = await server.joinAll("bob", "carol", "dave", "erin");
  const alice = await server.join("alice");
  const said = [...messages(500), "the end"];
  const sent = alice.sends(...said);
  await Promise.all(receivers.map(async (receiver, n) => {
    const seen: string[] = [];
    while (seen.at(-1) !== "alice: the end") {
      seen.push(await receiver.nextLine());
      // Receiver 0 is fast. The others pause after every ten lines.
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
