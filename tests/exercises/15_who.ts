/**
 * Exercise 15: `/who`, for somebody who came early and has lost count.
 *
 * The welcome lists who is here, once. Let a member ask for that list again,
 * and answer that member alone: a line to one person, amid what all of them
 * hear.
 *
 *     > /who
 *     < [SYSTEM] Active users (3): alice, bob, carol
 *
 * The list is that of the welcome, and names whoever asks. Nobody else hears
 * the question or the answer. Only `/who`, with nothing but blanks behind it,
 * is the command; all else stays a message, so a blank before it says `/who`
 * aloud.
 *
 * Begin in server.ts at `#say`, where a line becomes a message. `#join` makes
 * the list. Every sentence of the server is in `texts` of protocol.ts.
 *
 * A hint: of a hundred users the list has twenty. Who has to be among them?
 *
 *     deno task learn 15
 *     deno test --allow-net tests/exercises/15_who.ts
 */

import { assertMatch } from "@std/assert";
import { testNet, TestServer, texts } from "../helpers.ts";

const ALICE_AND_BOB = "[SYSTEM] Active users (2): alice, bob";

testNet("who: whoever asks is told who is here, itself included", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/who", "/who  ", "thanks");
  await bob.hears("alice: thanks"); // nobody else hears that somebody asks
  await bob.says("and?");
  await alice.hears(ALICE_AND_BOB, ALICE_AND_BOB, "bob: and?");
});

testNet("who: whoever has left is not in the list", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  carol.hangsUp();
  await alice.hears(texts.left("carol"));
  await alice.says("/who", "asked");
  await bob.hears(texts.left("carol"), "alice: asked");
  await bob.says("and?");
  await alice.hears(ALICE_AND_BOB, "bob: and?");
});

testNet("who: the answer keeps its place among what is said", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await bob.says("before");
  await alice.hears("bob: before");
  await alice.says("my own", "/who", "my own again");
  await bob.hears("alice: my own", "alice: my own again");
  await bob.says("after");
  await alice.hears(ALICE_AND_BOB, "bob: after");
});

testNet("who: a long list is cut, but names whoever asks", async () => {
  await using server = new TestServer();
  for (let n = 1; n <= 21; n++) await server.join(`user${n}`);
  const [zoe, zora] = await server.joinAll("zoe", "zora");
  await zoe.says("/who", "asked");
  await zora.hears("zoe: asked");
  await zora.says("and?");
  const list = /^\[SYSTEM\] Active users \(23\): (\w+, ){19}zoe and 3 more$/;
  assertMatch(await zoe.nextLine(), list, "on zoe's screen");
});

testNet("who: nothing else that looks like it is a command", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/who", " /who", "/whoever", "/who is it", "who");
  await bob.hears("alice:  /who", "alice: /whoever");
  await bob.hears("alice: /who is it", "alice: who");
});
