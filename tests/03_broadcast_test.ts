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
 *
 * A sleeper is a member who reads nothing until the test says so. In memory its buffer
 * is so small that a `LARGE_MESSAGE` does not fit into it.
 */

import { assertEquals, fail } from "@std/assert";
import {
  announcements,
  assertLines,
  beforeIdle,
  LARGE_MESSAGE,
  messages,
  quote,
  saidBy,
  TestServer,
  untilIdle,
} from "./helpers.ts";

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
      saidBy(sender.name, lines),
      "zoe",
    );
    await sender.receives(...order.filter((line) => !isOwn(line)));
  }
});

// ------------------------------------------------------------------ whole lines

Deno.test("broadcast: a line arrives whole, even if the network accepts it in parts", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const carol = await server.joinSleeper("carol");
  await alice.sends(LARGE_MESSAGE, "the end");
  await carol.receives(`alice: ${LARGE_MESSAGE}`, "alice: the end");
});

Deno.test("broadcast: lines of several senders do not mix, even if a receiver is slow", async () => {
  await using server = new TestServer({ inMemory: true });
  const senders = await server.joinAll("ann", "ben", "cy");
  const carol = await server.joinSleeper("carol");
  const said = [LARGE_MESSAGE, "the end"];
  for (const sender of senders) await sender.sends(...said);
  const expected = new Set(senders.flatMap(({ name }) => saidBy(name, said)));
  while (expected.size > 0) {
    const complaint = `carol has to wait for ${expected.size} of 6 lines`;
    const line = await beforeIdle(carol.nextLine(), complaint);
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
    const lines = await receiver.receivesNowUntil(announcements.joined("erin"));
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
  await server.joinSleeper("sleeper", bob);
  const carol = await server.join("carol");
  await bob.receives(announcements.joined("carol"));
  await alice.sends(LARGE_MESSAGE);
  for (const receiver of [bob, carol]) {
    await receiver.receivesNow(`alice: ${LARGE_MESSAGE}`);
  }
});

Deno.test("broadcast: all see the same order, even if one of them reads nothing", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  const carol = await server.join("carol");
  await bob.receives(announcements.joined("carol"));
  await alice.sends(LARGE_MESSAGE, LARGE_MESSAGE);
  await untilIdle();
  await sleeper.sends("two");
  const order = await bob.receivesNowUntil("sleeper: two");
  assertLines(await carol.receivesNowUntil("sleeper: two"), order, "carol");
});

Deno.test("broadcast: the first line of a new member is the welcome", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const sleeper = await server.joinSleeper("sleeper", alice);
  await alice.sends(LARGE_MESSAGE);
  const carol = await server.connect("carol");
  await carol.sends("carol");
  await alice.receivesNow(announcements.joined("carol"));
  await sleeper.sends("hi");
  await alice.receives("sleeper: hi");
  await carol.receives(
    announcements.welcome("carol", "alice", "sleeper", "carol"),
    "sleeper: hi",
  );
});
