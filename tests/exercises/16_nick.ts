/**
 * Exercise 16: `/nick NAME`, for somebody who wants another name.
 *
 * A name is state that much depends on: the map that keeps names unique, the
 * lists, the line that says who left. To change it is to change all of that at
 * once. A server that forgets one of them keeps a name taken for ever, or lets
 * two people have one name.
 *
 * To everybody, whoever asked for it included:
 *
 *     > /nick amy
 *     < [SYSTEM] alice is now called amy.
 *
 * or, if it is no name or somebody else's, to whoever asked alone:
 *
 *     < [SYSTEM] The name bob is taken. You are still alice.
 *
 * The rules, and the reasons why a name is refused, are those of `register`: so
 * `/nick` alone makes a `User_54321`, as Enter does. Your own name in another
 * case is yours. The old name is free at once. Only `/nick` with a blank or
 * nothing behind it is the command.
 *
 * Begin in server.ts at `#say`, and see what `#join` does with a name. What
 * must change is wherever `name` of a client or `#members` is.
 *
 *     deno task learn 16
 *     deno test --allow-net tests/exercises/16_nick.ts
 */

import { assertMatch } from "@std/assert";
import { testNet, TestServer, texts } from "../helpers.ts";

const ALICE_IS_AMY = "[SYSTEM] alice is now called amy.";

testNet("nick: everybody is told, and from there on it is used", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("before", "/nick amy", "after");
  await bob.hears("alice: before", ALICE_IS_AMY, "amy: after");
  await bob.says("hi amy");
  await alice.hears(ALICE_IS_AMY, "bob: hi amy");
});

testNet("nick: somebody else's name is refused, in whatever case", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick BOB", "still me");
  await bob.hears("alice: still me");
  await bob.says("next");
  const refusal = "[SYSTEM] The name BOB is taken. You are still alice.";
  await alice.hears(refusal, "bob: next");
});

testNet("nick: what is no name for a newcomer is none here", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const wrong = ["two words", "system", "x".repeat(21), "/nick"];
  await alice.says(...wrong.map((name) => `/nick ${name}`), "still me");
  await bob.hears("alice: still me");
  for (const name of wrong) {
    const refusal = /^\[SYSTEM\] .*\bname\b.*\. You are still alice\.$/;
    assertMatch(await alice.nextLine(), refusal, `of /nick ${name}`);
  }
});

testNet("nick: no name is the one that Enter makes", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const name = `User_${alice.port}`;
  await alice.says("/nickname", "/nick", "hi");
  await bob.hears("alice: /nickname");
  await bob.hears(`[SYSTEM] alice is now called ${name}.`, `${name}: hi`);
});

testNet("nick: one's own name in another case is no other's", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick Alice", "taller");
  await bob.hears("[SYSTEM] alice is now called Alice.", "Alice: taller");
});

testNet("nick: the new name is taken, and the old one is free", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick amy");
  await bob.hears(ALICE_IS_AMY);
  const newcomer = await server.connect();
  await newcomer.says("Amy", "alice");
  await newcomer.hears("[SYSTEM] The name Amy is taken. Enter another name:");
  await newcomer.hears(texts.welcome("alice", "alice", "amy", "bob"));
});

testNet("nick: whoever leaves does so under the new name", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/nick amy");
  await alice.endsInput();
  await bob.hears(ALICE_IS_AMY, texts.left("amy"));
  await server.join("amy");
});
