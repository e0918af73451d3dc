/**
 * Exercise 17: `/msg NAME text`, a word in private.
 *
 * Until now only the server had something to say to one person alone. Now
 * people have. Two things go wrong easily: the line looks like something said
 * to all; or a second queue comes up that nobody limits, while the log is
 * watched so well.
 *
 * To bob, and to nobody else:
 *
 *     > /msg bob See you at eight?
 *     < alice (private): See you at eight?
 *
 * To whoever sent it nothing, as with every message; or, if it was not sent:
 *
 *     < [SYSTEM] Nobody here is called bert. It was not sent.
 *     < [SYSTEM] A private message goes like this: /msg NAME text
 *
 * the second one if there is no name, or nothing to see behind it. A name is
 * found in whatever case. A private line comes at its place among all that is
 * said, and the server does not print it. Only `/msg` with a blank or nothing
 * behind it is the command.
 *
 * Begin in server.ts at `#say`; `#members` finds people by the `nameKey` of
 * their name. Which entries of the log are for one client only?
 *
 * A hint for the last test: who waits for bob when alice fills what he reads?
 *
 *     deno task learn 17
 *     deno test --allow-net tests/exercises/17_private.ts
 */

import { assertEquals } from "@std/assert";
import { assertLine, messages, testNet } from "../helpers.ts";
import { TestServer, texts } from "../helpers.ts";

testNet("private: the one it is for hears it, and nobody else", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.says("/msg BOB See you  at eight?", "That is all");
  await carol.hears("alice: That is all");
  await bob.hears("alice (private): See you  at eight?", "alice: That is all");
  await carol.says("over");
  await alice.hears("carol: over");
});

testNet("private: it keeps its place among what is said to all", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("one", "/msg bob two", "/msg bob three", "four");
  await bob.hears("alice: one", "alice (private): two");
  await bob.hears("alice (private): three", "alice: four");
});

testNet("private: to nobody, or without a text, it is not sent", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/msg bert hi", "/msg bob", "/msg bob  ", "/msg", "oh");
  await bob.hears("alice: oh");
  await bob.says("what?");
  const usage = "[SYSTEM] A private message goes like this: /msg NAME text";
  await alice.hears("[SYSTEM] Nobody here is called bert. It was not sent.");
  await alice.hears(usage, usage, usage, "bob: what?");
});

testNet("private: the server does not print it", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/msg bob a secret", "to all");
  await bob.hears("alice (private): a secret", "alice: to all");
  const printed = server.printed.filter((line) => line.includes("secret"));
  assertEquals(printed, [], "on the server's screen");
});

testNet("private: what only looks like one cannot be mistaken", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/msg bob 1", "(private): 2", "/msgbob 3", " /msg bob 4");
  await bob.hears("alice (private): 1", "alice: (private): 2");
  await bob.hears("alice: /msgbob 3", "alice:  /msg bob 4");
});

testNet("private: who fills a reader who does not read waits", async () => {
  await using server = new TestServer({ stallMs: 300 });
  const [alice, _bob, carol] = await server.joinAll("alice", "bob", "carol");
  // 16 MB: the kernel takes a part of it for bob, and alice waits with the rest
  const lines = messages(4_096, 990, "😀").map((line) => `/msg bob ${line}`);
  const sent = alice.says(...lines, "done").catch(() => {}); // carol will tell
  assertLine(await carol.nextLine(), texts.left("bob"), "carol");
  assertLine(await carol.nextLine(), "alice: done", "carol");
  await sent;
});
