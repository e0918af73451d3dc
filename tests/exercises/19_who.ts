/**
 * Exercise 19: `/who` lists the members.
 *
 * The welcome lists the members once, when a client joins. After an hour of joining
 * and leaving, nobody remembers who is here. Let a member ask for the list again.
 * The answer is for the asker alone, in a log that everybody reads.
 *
 *     > /who
 *     < [SYSTEM] Active users (3): alice, bob, carol
 *
 * The list is that of the welcome: members in the order of joining, and the asker is
 * one of them. If there are more than twenty, the list names the first twenty and
 * counts the others. So an asker who joined late is only counted. Nobody else
 * receives the command or the answer.
 *
 * Only `/who` with nothing but spaces after it is the command. Everything else is
 * still a message, also `/who` with a space before it.
 *
 * First rung: do not broadcast the command. Then the first test is green. After
 * that, send the answer.
 *
 * Begin in server.ts at `#say`, where a line becomes a message. `#listUsers` makes
 * the list. Everything that the server itself says is in `announcements` of
 * protocol.ts.
 *
 * Hints:
 *
 *   - `sendLine` waits until the send loop has ended, and that is when the member
 *     leaves. So the answer has to be an entry of the log. It then has a place among
 *     the messages, and it counts against the asker: asking without end is no way to
 *     fill the server's memory.
 *   - There are entries already that only one member receives.
 *
 *     deno task learn 19
 *     deno test tests/exercises/19_who.ts
 */

import { announcements, TestServer } from "../helpers.ts";

const ALICE_AND_BOB = "[SYSTEM] Active users (2): alice, bob";

Deno.test("who: a line that only resembles the command is a message", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/who", " /who", "/whoever", "/who is it", "who");
  await bob.receives("alice:  /who", "alice: /whoever");
  await bob.receives("alice: /who is it", "alice: who");
});

Deno.test("who: the asker alone receives the list, and is in it", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/who", "/who  ", "thanks");
  await bob.receives("alice: thanks"); // neither a command nor an answer before it
  await bob.sends("and?");
  await alice.receives(ALICE_AND_BOB, ALICE_AND_BOB, "bob: and?");
});

Deno.test("who: a member who has left is not in the list", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  carol.closes();
  await alice.receives(announcements.left("carol"));
  await alice.sends("/who", "asked");
  await bob.receives(announcements.left("carol"), "alice: asked");
  await bob.sends("and?");
  await alice.receives(ALICE_AND_BOB, "bob: and?");
});

Deno.test("who: the answer has its place among the messages", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await bob.sends("before");
  await alice.receives("bob: before");
  await alice.sends("my own", "/who", "my own again");
  await bob.receives("alice: my own", "alice: my own again");
  await bob.sends("after");
  await alice.receives(ALICE_AND_BOB, "bob: after");
});

Deno.test("who: of 23 members the list names the first 20, and counts 3", async () => {
  await using server = new TestServer();
  const names = Array.from({ length: 21 }, (_, n) => `user${n + 1}`);
  for (const name of names) await server.join(name);
  const [zoe, zora] = await server.joinAll("zoe", "zora");
  await zoe.sends("/who", "asked");
  await zora.receives("zoe: asked");
  await zora.sends("and?");
  const listed = names.slice(0, 20).join(", ");
  await zoe.receives(`[SYSTEM] Active users (23): ${listed} and 3 more`);
});
