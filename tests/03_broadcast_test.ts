/**
 * Lesson 3: broadcast.
 *
 * To broadcast is to send a copy of each message to all other members. If a receiver is
 * slow, the server's send buffer for it becomes full: a write may accept only a part of
 * a line, and the rest has to wait. Two things can go wrong. If one send starts before
 * another one has finished, their lines mix. And if receivers get the lines in
 * different orders, people read different conversations.
 *
 * The usual answers: only one piece of code, the writer, writes to a socket, and all
 * lines go through one list, which sets their order for everybody. In Go the writer is often a goroutine that reads from a
 * channel, in Erlang a process with its mailbox. In the IRC server ngircd, all code
 * appends to a buffer of the connection, and only the main loop writes this buffer to
 * the socket.
 *
 * In these tests, a sleeper is a member that reads nothing until the test makes it read.
 * Tests with `inMemory: true` use a network in memory. There, the buffer of a sleeper
 * is too small for a `LARGE_MESSAGE`.
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

// -------------------------------------------------------------- the basic rules

Deno.test("broadcast: every member except the sender receives a message", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.sends("Hello everyone!");
  await bob.receives("alice: Hello everyone!");
  await carol.receives("alice: Hello everyone!");
  await bob.sends("Hi alice!");
  await alice.receives("bob: Hi alice!"); // Her own message does not come first.
});

Deno.test("broadcast: a new member does not receive a message that was sent before it joined", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("old");
  await bob.receives("alice: old");
  const carol = await server.join("carol");
  await alice.sends("new");
  await carol.receives("alice: new");
});

Deno.test("broadcast: the server keeps spaces, but ignores a message that is empty or only spaces", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("", "   ", "  two  spaces");
  await bob.receives("alice:   two  spaces");
});

Deno.test("broadcast: the server prints when a member joins, says something or leaves", async () => {
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

Deno.test("broadcast: all members receive the lines of three busy senders in the same order", async () => {
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

Deno.test("broadcast: a line arrives whole, even if a write accepts only a part of it", async () => {
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

// ------------------------------------------------------------ broken connections

Deno.test("broadcast: if one connection breaks, the other receivers still receive every message", async () => {
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
      // The server may notice the RST at any time, so this line has no fixed place.
      lines.filter((line) => line !== announcements.left("carol")),
      ["alice: one", "alice: two", announcements.joined("erin")],
      receiver.name,
    );
  }
});

// --------------------------------------------------------------------- one order

Deno.test("broadcast: a receiver that reads nothing does not delay the other receivers", async () => {
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

Deno.test("broadcast: two members receive lines in one order, even if a third member reads nothing", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  const carol = await server.join("carol");
  await bob.receives(announcements.joined("carol"));
  await alice.sends(LARGE_MESSAGE, LARGE_MESSAGE);
  await untilIdle();
  // Nothing more can be sent to the sleeper now, since its buffer is full.
  await sleeper.sends("two");
  const order = await bob.receivesNowUntil("sleeper: two");
  assertLines(await carol.receivesNowUntil("sleeper: two"), order, "carol");
});

Deno.test("broadcast: a new member receives the welcome before any message", async () => {
  await using server = new TestServer({ inMemory: true });
  const alice = await server.join("alice");
  const sleeper = await server.joinSleeper("sleeper", alice);
  // The server still holds this message for the sleeper when carol joins.
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
