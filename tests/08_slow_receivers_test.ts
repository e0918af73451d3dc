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
 * A sleeper is a member who reads nothing. Most of these tests use the network in
 * memory, where its buffers are small.
 */

import { fail } from "@std/assert";
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

/** The size of a sleeper's buffer, in bytes. */
const SMALL_BUFFER = 2_000;
/** More lines than a sleeper's buffer can hold. The server can keep them. */
const FLOOD = messages(50);

const byAlice = (lines: string[]) => lines.map((line) => `alice: ${line}`);

/** A member with a small buffer, who reads nothing until the test says so. */
async function joinSleeper(
  server: TestServer,
  name: string,
  ...others: Person[]
): Promise<Person> {
  const sleeper = await server.join(name, { bufferSize: SMALL_BUFFER });
  for (const other of others) await other.receives(announcements.joined(name));
  return sleeper;
}

/** In memory, a line needs fewer turns than this, unless the server waits for somebody. */
const ENOUGH_TURNS = 2_000;

/** Fails unless the lines are received within some turns of the event loop. */
async function receivesNow(person: Person, ...lines: string[]): Promise<void> {
  for (const line of lines) {
    let isReceived = false;
    const next = person.nextLine().finally(() => isReceived = true);
    next.catch(() => {}); // The connection ends when the test has failed.
    for (let n = 0; n < ENOUGH_TURNS && !isReceived; n++) await turn();
    if (!isReceived) {
      fail(
        `${person.name} should receive:\n  ${
          quote(line)
        }\nbut receives nothing`,
      );
    }
    assertLine(await next, line, person.name);
  }
}

Deno.test("slow receivers: a sleeper does not keep others from receiving", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await joinSleeper(server, "sleeper", alice, bob);
  await alice.sends(...FLOOD);
  await receivesNow(bob, ...byAlice(FLOOD));
});

Deno.test("slow receivers: a newcomer receives a member that was alone with a sleeper", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  await joinSleeper(server, "sleeper", alice);
  await alice.sends(...messages(5)); // The sleeper has room for one or two.
  for (let n = 0; n < ENOUGH_TURNS; n++) await turn(); // The server has read them.
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await alice.sends("Is anybody here?");
  await receivesNow(bob, "alice: Is anybody here?");
});

Deno.test("slow receivers: a sender that reads none of its answers can still be received", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const alice = await joinSleeper(server, "alice", bob);
  const tooLong = "x".repeat(1_001);
  await alice.sends(...Array(100).fill(tooLong), "Shorter");
  await receivesNow(bob, "alice: Shorter");
});

Deno.test("slow receivers: a sleeper that wakes up receives every line, whole and in order", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await joinSleeper(server, "sleeper", alice, bob);
  const sent = alice.sends(...FLOOD, "the end");
  const reading = bob.receives(...byAlice([...FLOOD, "the end"]));
  for (let n = 0; n < ENOUGH_TURNS; n++) await turn();
  await sleeper.receives(...byAlice([...FLOOD, "the end"]));
  await Promise.all([sent, reading]);
});

Deno.test("slow receivers: receivers of all speeds receive the same lines", async () => {
  await using server = new TestServer();
  const receivers = await server.joinAll("bob", "carol", "dave", "erin");
  const alice = await server.join("alice");
  const said = messages(500);
  const sent = alice.sends(...said, "the end");
  await Promise.all(receivers.map(async (receiver, n) => {
    const seen: string[] = [];
    while (seen.at(-1) !== "alice: the end") {
      seen.push(await receiver.nextLine());
      // Receiver 0 is fast. The others pause after every ten lines.
      const pauses = seen.length % 10 === 0 ? 2 * n : 0;
      for (let pause = 0; pause < pauses; pause++) await turn();
    }
    const broadcast = seen.filter((line) => !line.startsWith("[SYSTEM]"));
    assertLines(broadcast, byAlice([...said, "the end"]), receiver.name);
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
    alice.receives(...said.map((text) => `bob: ${text}`)),
    bob.receives(...byAlice(said)),
  ]);
});
