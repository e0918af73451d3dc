/**
 * Lesson 3: broadcast.
 *
 * One line comes in, and a copy goes out to each other member. Two questions arise
 * as soon as a receiver is slow, and a copy cannot be sent at once. Who else may
 * write to that socket meanwhile? If two functions do, their lines mix. And in which
 * order does everybody receive what is said meanwhile? If it is not the same for
 * all, people read different conversations.
 *
 * The usual answers: each socket has one writer, and one place decides the order. In
 * Go that is a channel for each client, in Erlang a process with its mailbox, and
 * chat servers such as ngircd have a queue for each connection.
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

// ------------------------------------------------- what was right from the start

Deno.test("broadcast: all members but the sender receive a message", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.sends("Hello everyone!");
  await bob.receives("alice: Hello everyone!");
  await carol.receives("alice: Hello everyone!");
  await bob.sends("Hi alice!");
  await alice.receives("bob: Hi alice!"); // and not her own message before it
});

Deno.test("broadcast: a newcomer receives nothing that was said before", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("old");
  await bob.receives("alice: old");
  const carol = await server.join("carol");
  await alice.sends("new");
  await carol.receives("alice: new");
});

Deno.test("broadcast: spaces in a message stay, and an empty message is ignored", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("", "   ", "  two  spaces");
  await bob.receives("alice:   two  spaces");
});

Deno.test("broadcast: the server prints who joins, says something and leaves", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("Hello everyone!");
  await bob.receives("alice: Hello everyone!");
  alice.closes();
  await bob.receives(announcements.left("alice"));
  bob.closes();
  await server.stop();
  const expected = [
    `✅ alice connected from 127.0.0.1:${alice.port}`,
    "[SYSTEM] alice joined the chat!",
    "📊 Active users (1): alice",
    `✅ bob connected from 127.0.0.1:${bob.port}`,
    "[SYSTEM] bob joined the chat!",
    "📊 Active users (2): alice, bob",
    "📨 alice: Hello everyone!",
    "[SYSTEM] alice left the chat!",
    "📊 Active users (1): bob",
  ];
  assertEquals(server.printed.slice(0, expected.length), expected);
});

Deno.test("broadcast: all receivers see the lines of three busy senders in one order", async () => {
  await using server = new TestServer();
  const [witness, ...senders] = await server.joinAll("zoe", "ann", "ben", "cy");
  const lines = messages(100, 20);
  for (const line of lines) {
    await Promise.all(senders.map((sender) => sender.sends(line)));
  }
  const order: string[] = [];
  while (order.length < 3 * lines.length) order.push(await witness.nextLine());
  for (const sender of senders) {
    const isOwn = (line: string) => line.startsWith(`${sender.name}: `);
    assertLines(
      order.filter(isOwn),
      lines.map((line) => `${sender.name}: ${line}`),
      "zoe",
    );
    await sender.receives(...order.filter((line) => !isOwn(line)));
  }
});

// ------------------------------------------------------------------ whole lines

Deno.test("broadcast: a line arrives whole, even if the network accepts it in parts", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const carol = await server.join("carol", NARROW);
  await alice.sends(LONG.repeat(3), "the end");
  await carol.receives(`alice: ${LONG.repeat(3)}`, "alice: the end");
});

Deno.test("broadcast: lines of several senders do not mix, even if a receiver is slow", async () => {
  await using server = new TestServer({ inMemory: true });
  const senders = await server.joinAll("ann", "ben", "cy");
  const carol = await server.join("carol", NARROW);
  for (const sender of senders) await sender.sends(LONG, "the end");
  const expected = new Set<string>();
  for (const { name } of senders) {
    expected.add(`${name}: ${LONG}`).add(`${name}: the end`);
  }
  while (expected.size > 0) {
    const line = await nextLineSoon(carol);
    if (expected.delete(line)) continue;
    fail(`carol should receive whole lines, each once
but receives:\n  ${quote(line)}`);
  }
});

// -------------------------------------------------------------- broken receivers

Deno.test("broadcast: a receiver with a broken connection harms neither sender nor others", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob, carol, dave] = await server.joinAll(
    "alice",
    "bob",
    "carol",
    "dave",
  );
  carol.resets();
  await alice.sends("one");
  await alice.sends("two");
  const erin = await server.connect("erin");
  await erin.sends("erin");
  for (const receiver of [bob, dave]) {
    const lines = await linesSoonUntil(receiver, announcements.joined("erin"));
    assertLines(
      lines.filter((line) => line !== announcements.left("carol")),
      ["alice: one", "alice: two", announcements.joined("erin")],
      receiver.name,
    );
  }
});

// --------------------------------------------------------------------- one order

Deno.test("broadcast: nobody waits for a receiver that reads nothing", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await server.join("sleeper", NARROW);
  const carol = await server.join("carol");
  await bob.receivesUntil(announcements.joined("carol"));
  await alice.sends(LONG); // The server cannot write all of it to the sleeper.
  for (const receiver of [bob, carol]) {
    assertLine(await nextLineSoon(receiver), `alice: ${LONG}`, receiver.name);
  }
});

Deno.test("broadcast: all see the same order, even if one of them reads nothing", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.join("sleeper", NARROW);
  const carol = await server.join("carol");
  await bob.receivesUntil(announcements.joined("carol"));
  await alice.sends(LONG, LONG); // More than the sleeper's buffer can hold.
  await settle();
  await sleeper.sends("two");
  const order = await linesSoonUntil(bob, "sleeper: two");
  assertLines(await linesSoonUntil(carol, "sleeper: two"), order, "carol");
});

Deno.test("broadcast: the first line of a new member is the welcome", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const sleeper = await server.join("sleeper", NARROW);
  await alice.receives(announcements.joined("sleeper"));
  await alice.sends(LONG); // The server cannot write all of it to the sleeper.
  const carol = await server.connect("carol");
  await carol.sends("carol");
  await linesSoonUntil(alice, announcements.joined("carol"));
  await sleeper.sends("hi");
  await alice.receives("sleeper: hi");
  await carol.receives(
    announcements.welcome("carol", "alice", "sleeper", "carol"),
    "sleeper: hi",
  );
});
