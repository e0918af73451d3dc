/**
 * Exercise 21: `/msg NAME text` is a private message.
 *
 * Until now, only the server says something to one member alone. Two things go wrong
 * easily when a member can do it. The line may look like one that everybody
 * receives. Or the private lines go into a queue of their own, which nobody limits,
 * while the log is limited so well.
 *
 * What alice types, and what bob receives, and nobody else:
 *
 *     > /msg bob See you at eight?
 *     < alice (private): See you at eight?
 *
 * Alice receives nothing, as after every message, or one of these:
 *
 *     < [SYSTEM] Nobody here is called bert. It was not sent.
 *     < [SYSTEM] A private message looks like this: /msg NAME text
 *
 * She receives the second one if there is no name, or nothing to see after it. A name
 * is found in any case. A private message has its place among all messages, and the
 * server does not print it. Only `/msg` with a space or nothing after it is the
 * command.
 *
 * First rung: take the command apart and answer what is wrong with it. Send nothing
 * yet. Then the first two tests are green.
 *
 * Begin in server.ts at `#say`. `#members` finds a member by the `nameKey` of its name.
 * Look at `Entry` and `isFor`: they decide who receives an entry.
 *
 * Hints:
 *
 *   - Receivers at the same offset share a `Batch`, unless one of them must receive
 *     other bytes. `#nextBatch` finds that out with `senders`. Who else must receive
 *     other bytes now?
 *   - If alice fills up bob's buffers, who waits? Each entry counts against somebody.
 *   - Some characters are sent, but cannot be seen: U+200B, for example. `sanitize`
 *     knows them.
 *
 *     deno task learn 21
 *     deno test tests/exercises/21_private.ts
 */

import { assertEquals } from "@std/assert";
import {
  announcements,
  assertLine,
  hasSockets,
  messages,
  TestServer,
} from "../helpers.ts";

const USAGE = "[SYSTEM] A private message looks like this: /msg NAME text";

Deno.test("private: a message to nobody, or without a text, is not sent", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/msg bert hi", "/msg bob", "/msg bob  ", "/msg", "oh");
  await bob.receives("alice: oh");
  await bob.sends("what?");
  await alice.receives("[SYSTEM] Nobody here is called bert. It was not sent.");
  await alice.receives(USAGE, USAGE, USAGE, "bob: what?");
});

Deno.test("private: a text in which there is nothing to see is not sent", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const invisible = ["\u200b", "\u200b \u200b", "\u2800", "\u00ad", "\u001b"];
  await alice.sends(...invisible.map((text) => `/msg bob ${text}`), "oh");
  await bob.receives("alice: oh");
  await bob.sends("what?");
  await alice.receives(...invisible.map(() => USAGE), "bob: what?");
});

Deno.test("private: its receiver gets it, and nobody else", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.sends("/msg BOB See you  at eight?", "That is all");
  await carol.receives("alice: That is all");
  await bob.receives("alice (private): See you  at eight?");
  await bob.receives("alice: That is all");
  await carol.sends("over");
  await alice.receives("carol: over");
});

Deno.test("private: it has its place among the messages to all", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("one", "/msg bob two", "/msg bob three", "four");
  await bob.receives("alice: one", "alice (private): two");
  await bob.receives("alice (private): three", "alice: four");
});

Deno.test("private: each of ten receivers gets the message for it alone", async () => {
  await using server = new TestServer();
  const names = Array.from({ length: 10 }, (_, n) => `user${n}`);
  const [alice, ...others] = await server.joinAll("alice", ...names);
  const lines = names.map((name) => `/msg ${name} for ${name}`);
  await alice.sends("begin", ...lines, "end");
  for (const person of others) {
    await person.receivesUntil("alice: begin");
    await person.receives(`alice (private): for ${person.name}`, "alice: end");
  }
});

Deno.test("private: the server does not print it", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/msg bob a secret", "to all");
  await bob.receives("alice (private): a secret", "alice: to all");
  const printed = server.printed.filter((line) => line.includes("secret"));
  assertEquals(printed, [], "The server prints it");
});

Deno.test("private: no message to all looks like a private one", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/msg bob 1", "(private): 2", "/msgbob 3", " /msg bob 4");
  await bob.receives("alice (private): 1", "alice: (private): 2");
  await bob.receives("alice: /msgbob 3", "alice:  /msg bob 4");
});

Deno.test("private: a sender waits for a receiver that does not read", async () => {
  await using server = new TestServer({ stallTimeoutMs: 300 });
  const [alice, carol] = await server.joinAll("alice", "carol");
  await server.joinSleeper("bob", alice, carol);
  // Sockets hold some megabytes for bob. These 4,000 lines are 16 MB.
  const count = hasSockets ? 4_000 : 500;
  const lines = messages(count, 990, "😀").map((line) => `/msg bob ${line}`);
  const sent = alice.sends(...lines, "done").catch(() => {}); // Carol will see it.
  assertLine(await carol.nextLine(), announcements.left("bob"), "carol");
  assertLine(await carol.nextLine(), "alice: done", "carol");
  await sent;
});
