/**
 * Lesson 8: slow receivers.
 *
 * Sooner or later, a receiver is slower than a sender: its network is slow, or its
 * program is suspended and reads nothing. The operating systems at both ends buffer
 * some data, often a few megabytes. When these buffers are full, the server's next
 * `write` to this receiver waits, perhaps for hours. If the server waits for this write
 * before it goes on, the slowest receiver sets the speed for all. This is called
 * head-of-line blocking: one write that waits delays every write that comes after it.
 *
 * Chat servers, message brokers such as RabbitMQ, and live-streaming servers all have to
 * decide what to do about a slow receiver: make the sender wait (back-pressure), drop
 * data, disconnect the receiver, or keep the data for it. In this lesson, the chat keeps
 * the data in memory. Then no sender waits, but the server's memory can grow without a
 * limit. Lesson 11 adds a limit.
 *
 * A sleeper is a member that reads nothing until the test makes it read. Most of these
 * tests use a network in memory instead of TCP. On the way to a client, this network
 * holds only one or two lines. After that, the server's `write` waits. `receivesNow`
 * fails if a line does not arrive while the sleeper still reads nothing.
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

/** More lines than the network holds for a sleeper. The server must keep the rest. */
const FLOOD = messages(50);

Deno.test("slow receivers: a member that reads nothing does not delay lines to the others", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await server.joinSleeper("sleeper", alice, bob); // Alice and bob see it join.
  await alice.sends(...FLOOD);
  await bob.receivesNow(...saidBy("alice", FLOOD));
});

Deno.test("slow receivers: while lines wait for a slow receiver, a member that joins receives new lines without delay", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  await server.joinSleeper("sleeper", alice);
  await alice.sends(...messages(5)); // More than the network holds for the sleeper.
  await untilIdle(); // Lets the server read the five lines.
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await alice.sends("Is anybody here?");
  await bob.receivesNow("alice: Is anybody here?");
});

Deno.test("slow receivers: a member that does not read the server's answers can still send to others", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const alice = await server.joinSleeper("alice", bob);
  // One character too many: for each such line, the server answers with an error.
  const tooLong = "x".repeat(1_001);
  await alice.sends(...Array(100).fill(tooLong), "Shorter");
  await bob.receivesNow("alice: Shorter");
});

Deno.test("slow receivers: a member that begins to read late receives every line, whole and in order", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", alice, bob);
  const sending = alice.sends(...FLOOD);
  const reading = bob.receives(...saidBy("alice", FLOOD));
  await untilIdle(); // Now the server keeps the lines that the sleeper has not read.
  await sleeper.receives(...saidBy("alice", FLOOD)); // The sleeper begins to read.
  await Promise.all([sending, reading]);
});

Deno.test("slow receivers: fast and slow receivers all receive every line of a sender, in the order sent", async () => {
  await using server = new TestServer();
  const receivers = await server.joinAll("bob", "carol", "dave", "erin");
  const alice = await server.join("alice");
  const said = [...messages(500), "the end"];
  const sending = alice.sends(...said);
  await Promise.all(receivers.map(async (receiver, n) => {
    const seen: string[] = [];
    while (seen.at(-1) !== "alice: the end") {
      seen.push(await receiver.nextLine());
      // After every ten lines, receiver n waits for 2 × n turns of the event loop. So
      // receiver 0 is the fastest.
      const turns = seen.length % 10 === 0 ? 2 * n : 0;
      for (let i = 0; i < turns; i++) await turn();
    }
    // Each of them has seen other members join, so only the messages are compared.
    const received = seen.filter((line) => !line.startsWith("[SYSTEM]"));
    assertLines(received, saidBy("alice", said), receiver.name);
  }));
  await sending;
});

Deno.test("slow receivers: if two members flood each other with long lines, each of them receives every line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const said = messages(400, 1_000, "😀"); // 400 lines of 1,000 emoji
  await Promise.all([
    alice.sends(...said),
    bob.sends(...said),
    alice.receives(...saidBy("bob", said)),
    bob.receives(...saidBy("alice", said)),
  ]);
});
