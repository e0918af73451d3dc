/**
 * Exercise 10: `/who`, for somebody who came early and has lost count.
 *
 * The welcome lists who is here, once. Let a member ask for that list again,
 * and answer it alone: a line to one person, amid what all of them hear.
 *
 * On the wire:
 *
 *     > /who
 *     < [SYSTEM] Active users (3): alice, bob, carol
 *
 * The list is that of the welcome, with whoever asks in it. Nobody else hears
 * the question or the answer. Only a line that begins with `/who`, with nothing
 * but blanks behind it, is the command; all else stays a message, so a blank
 * before it is how to say `/who` aloud.
 *
 * Begin in server.ts, at `Room.hear`: there a line becomes a message. `#tell`
 * speaks to one client, and `#activeUsers` makes the list. Every sentence of the
 * server is in `texts` of protocol.ts; so is this one.
 *
 * A hint: of a hundred users the list has twenty. Who has to be among them?
 *
 *     deno test --allow-net tests/exercises/10_who.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/10_who.patch
 */

import { assertMatch } from "@std/assert";
import { texts } from "../../protocol.ts";
import { testNet, TestServer } from "../helpers.ts";

testNet("who: nobody else hears that somebody asks", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/who", "/who  ", "thanks");
  await bob.hears("alice: thanks");
});

testNet("who: whoever asks is told who is here, itself included", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/who", "asked");
  await bob.hears("alice: asked");
  await bob.says("and?");
  await alice.hears("[SYSTEM] Active users (2): alice, bob", "bob: and?");
});

testNet("who: whoever has left is not in the list", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  carol.hangsUp();
  await alice.hears(texts.left("carol"));
  await alice.says("/who", "asked");
  await bob.hears(texts.left("carol"), "alice: asked");
  await bob.says("and?");
  await alice.hears("[SYSTEM] Active users (2): alice, bob", "bob: and?");
});

testNet("who: the answer keeps its place among what is said", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await bob.says("before");
  await alice.hears("bob: before");
  await alice.says("my own", "/who", "my own again");
  await bob.hears("alice: my own", "alice: my own again");
  await bob.says("after");
  await alice.hears("[SYSTEM] Active users (2): alice, bob", "bob: after");
});

testNet("who: a long list is cut, but names whoever asks", async () => {
  await using server = new TestServer();
  for (let n = 1; n <= 21; n++) await server.join(`user${n}`);
  const [zoe, zora] = await server.joinAll("zoe", "zora");
  await zoe.says("/who", "asked");
  await zora.hears("zoe: asked");
  await zora.says("and?");
  const list = /^\[SYSTEM\] Active users \(23\): .*, zoe and 3 more$/;
  assertMatch(await zoe.nextLine(), list, "on zoe's screen");
});

testNet("who: nothing else that looks like it is a command", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/who", " /who", "/whoever", "/who is it", "who");
  await bob.hears("alice:  /who", "alice: /whoever");
  await bob.hears("alice: /who is it", "alice: who");
});
