/**
 * Exercise 20: `/nick NAME` gives a member another name.
 *
 * Much depends on a name: the map that keeps names unique, the list of members, the
 * start of each message, the line that says who has left. All of that has to change
 * at once. If a server forgets one of them, a name is taken forever, or two members
 * have the same name.
 *
 * All members receive the change, also the one who asked for it:
 *
 *     > /nick amy
 *     < [SYSTEM] alice is now called amy.
 *
 * Only the asker receives a refusal:
 *
 *     > /nick bob
 *     < [SYSTEM] The name bob is taken. You are still alice.
 *
 * The rules for names, and the reasons for a refusal, are those of `checkName`. So
 * `/nick` alone stands for `User_54321`, as Enter alone does when a client joins. Your
 * own name in another case is not taken by somebody else, so you may have it. The old
 * name is free at once. With a new name, a member is the last one in the list, as if
 * it had just joined. Only `/nick` with a space or nothing after it is the command.
 *
 * First rung: refuse. Check the name, and answer if it may not be used. Then two
 * tests are green, and nothing has changed its name yet.
 *
 * Begin in server.ts at `#say`, where a line becomes a message. `#join` shows what
 * the room does with a name, and `#removeMember` what it undoes.
 *
 * Hints:
 *
 *   - A function runs until its next `await`. If there is none between two changes,
 *     nobody sees the one without the other.
 *   - Nobody receives their own entries, and `/nick` in an endless loop must make its
 *     sender wait, like messages do. So against whom does the line count that all receive?
 *
 *     deno task learn 20
 *     deno test tests/exercises/20_nick.ts
 */

import { assertMatch } from "@std/assert";
import { announcements, assertLine, TestServer } from "../helpers.ts";

const ALICE_IS_AMY = "[SYSTEM] alice is now called amy.";

Deno.test("nick: a name that another member has is refused, in any case", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/nick BOB", "still me");
  await bob.receives("alice: still me");
  await bob.sends("next");
  const refusal = "[SYSTEM] The name BOB is taken. You are still alice.";
  await alice.receives(refusal, "bob: next");
});

Deno.test("nick: a name that a newcomer may not have is refused", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const wrong = ["two words", "system", "x".repeat(21), "/nick"];
  await alice.sends(...wrong.map((name) => `/nick ${name}`), "still me");
  await bob.receives("alice: still me");
  for (const name of wrong) {
    const refusal = /^\[SYSTEM\] .*\bname\b.*\. You are still alice\.$/;
    assertMatch(await alice.nextLine(), refusal, `The answer to /nick ${name}`);
  }
});

Deno.test("nick: all members receive the change, and messages have the new name", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("before", "/nick amy", "after");
  await bob.receives("alice: before", ALICE_IS_AMY, "amy: after");
  await bob.sends("hi amy");
  await alice.receives(ALICE_IS_AMY, "bob: hi amy");
});

Deno.test("nick: without a name, it is the name that Enter alone gives", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const name = `User_${alice.port}`;
  await alice.sends("/nickname", "/nick", "hi");
  await bob.receives("alice: /nickname");
  await bob.receives(`[SYSTEM] alice is now called ${name}.`, `${name}: hi`);
});

Deno.test("nick: a member may have its own name in another case", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/nick Alice", "taller");
  await bob.receives("[SYSTEM] alice is now called Alice.", "Alice: taller");
});

Deno.test("nick: the new name is taken, and the old one is free", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/nick amy");
  await bob.receives(ALICE_IS_AMY);
  const newcomer = await server.connect();
  await newcomer.sends("Amy", "alice");
  await newcomer.receives(
    "[SYSTEM] The name Amy is taken. Enter another name:",
    announcements.welcome("alice", "bob", "amy", "alice"),
  );
});

Deno.test("nick: a member leaves with its new name, which is free then", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/nick amy");
  await alice.halfCloses();
  await bob.receives(ALICE_IS_AMY, announcements.left("amy"));
  await server.join("amy");
});

Deno.test("nick: a member that changes its name 5,000 times waits for a slow receiver", async () => {
  await using server = new TestServer({ inMemory: true, stallTimeoutMs: 300 });
  const [alice, carol] = await server.joinAll("alice", "carol");
  await server.joinSleeper("bob", alice, carol);
  const twice = ["/nick Alice", "/nick alice"];
  const changes = Array.from({ length: 2_500 }, () => twice).flat();
  await alice.sends(...changes, "done");
  await carol.receives("[SYSTEM] alice is now called Alice.");
  const bobLeft = announcements.left("bob");
  const lines = await carol.receivesUntil(bobLeft, "alice: done");
  assertLine(lines.at(-1), bobLeft, "carol");
});
