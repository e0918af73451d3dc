/**
 * Exercise 11: `/nick NAME`, for somebody who wants another name.
 *
 * A name is state that others lean on: the map that keeps names unique, the
 * lists, the line that says who left. To change it is to change all of that at
 * once. A server that forgets one keeps a ghost whose name is taken for ever, or
 * lets two be called the same.
 *
 * On the wire, to everybody, whoever asked for it included:
 *
 *     > /nick amy
 *     < [SYSTEM] alice is now called amy.
 *
 * or, to whoever asked alone, if the name is no name or is somebody else's:
 *
 *     < [SYSTEM] REASON You are still alice.
 *
 * with the REASON of a name that is refused at the door: `The name bob is
 * taken.` The rules are those of the door, too; your own name in another case is
 * yours. The old name is free at once. Only `/nick` with a blank or nothing
 * behind it is the command; what follows the blank is the name, and `/nick`
 * alone is refused like any name that has no letters.
 *
 * Begin in server.ts, at `Room.hear`, and look at what `#register` does with a
 * name. Everything that must change is where `client.name` or `#members` is.
 *
 * A hint: `#announce` speaks to all, so nobody needs an answer of its own.
 *
 *     deno test --allow-net tests/exercises/11_nick.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/11_nick.patch
 */

import { texts } from "../../protocol.ts";
import { testNet, TestServer } from "../helpers.ts";

testNet("nick: everybody is told, and from there on it is used", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("before", "/nick amy", "after");
  await bob.hears("alice: before");
  await bob.hears("[SYSTEM] alice is now called amy.", "amy: after");
  await bob.says("hi amy");
  await alice.hears("[SYSTEM] alice is now called amy.", "bob: hi amy");
});

testNet("nick: somebody else's name is refused, in whatever case", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick BOB", "still me");
  await bob.hears("alice: still me");
  await bob.says("next");
  await alice.hears(
    "[SYSTEM] The name BOB is taken. You are still alice.",
    "bob: next",
  );
});

testNet("nick: what is no name at the door is none here", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick two words", "/nick", "/nick system", "still me");
  await bob.hears("alice: still me");
  await bob.says("next");
  const letters =
    "A name has letters, digits, dots, dashes and underscores only, " +
    "and begins with a letter or digit.";
  await alice.hears(
    `[SYSTEM] ${letters} You are still alice.`,
    `[SYSTEM] ${letters} You are still alice.`,
    "[SYSTEM] The name system is reserved. You are still alice.",
    "bob: next",
  );
});

testNet("nick: one's own name in another case is no other's", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick Alice");
  await alice.says("taller");
  await bob.hears("[SYSTEM] alice is now called Alice.", "Alice: taller");
});

testNet("nick: the new name is taken, and the old one is free", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick amy", "done");
  await bob.hears("[SYSTEM] alice is now called amy.", "amy: done");
  const newcomer = await server.connect();
  await newcomer.says("Amy", "alice");
  await newcomer.hears(
    "[SYSTEM] The name Amy is taken. Enter another name:",
    "[SYSTEM] Welcome, alice! Active users (3): alice, amy, bob",
  );
});

testNet("nick: whoever leaves does so under the new name", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick amy");
  await alice.endsInput();
  await bob.hears("[SYSTEM] alice is now called amy.", texts.left("amy"));
  await server.join("amy");
});
