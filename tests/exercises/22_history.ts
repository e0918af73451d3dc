/**
 * Exercise 22: a newcomer sees the last ten messages.
 *
 * Whoever joins a conversation wants to know what it is about. So the room remembers
 * a little. How much has to be a number, because a room that talks for a month would
 * keep a month of messages in its memory otherwise.
 *
 * Right after the welcome, and before anything new:
 *
 *     > carol
 *     < [SYSTEM] Welcome, carol! Active users (3): alice, bob, carol
 *     < alice: Hello everyone!
 *     < bob: Hi there!
 *
 * These are the last ten messages, or all of them if there are fewer, as they were
 * said. Announcements do not belong to them, and neither does anything that was for
 * one member only.
 *
 * A lesson claims that a newcomer sees nothing of what was said before. It has to
 * stay true. So how many messages are remembered is one more option of the server,
 * `historyLines`, and its default is 0. The program asks for ten.
 *
 * First rung: remember only the last message, and send it to each newcomer, if
 * `historyLines` is not 0. Then three tests are green.
 *
 * Begin in server.ts at `ServerOptions` and `DEFAULT_OPTIONS`. In `#say` there is
 * something to remember, and `#join` is where somebody wants it. `run` starts the
 * server of the program.
 *
 * Hints:
 *
 *   - The log is no memory: it drops an entry when everybody has received it.
 *   - `sendLine` sends a line to one client, before the send loop starts.
 *   - A function runs until its next `await`. So what is sent together with the
 *     welcome can neither miss a message nor bring one twice.
 *
 *     deno task learn 22
 *     deno test tests/exercises/22_history.ts
 */

import {
  announcements,
  assertLines,
  type Person,
  TestServer,
} from "../helpers.ts";

// `maxClients` changes nothing. With it, TypeScript accepts the options also while
// the server has no option `historyLines`.
const TEN = { maxClients: 100, historyLines: 10 };

function numberedLines(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `line ${n}`);
}

/** Sends lines. When the receiver has received them, they have reached the server. */
async function tell(receiver: Person, sender: Person, ...lines: string[]) {
  await sender.sends(...lines);
  await receiver.receives(...lines.map((line) => `${sender.name}: ${line}`));
}

Deno.test("history: a message stays when all members have left", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "remember me");
  for (const person of [alice, bob]) {
    await person.halfCloses();
    await person.receivesUntil(); // up to the end
  }
  const carol = await server.join("carol");
  await server.join("dan");
  await carol.receives("alice: remember me", announcements.joined("dan"));
});

Deno.test("history: it holds neither announcements nor refused messages", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "old");
  await bob.sends("x".repeat(1_001));
  await bob.receives(announcements.messageTooLong);
  (await server.join("dan")).closes();
  await alice.receives(announcements.joined("dan"), announcements.left("dan"));
  const carol = await server.join("carol");
  await alice.sends("new");
  await carol.receives("alice: old", "alice: new");
});

Deno.test("history: a client without a name receives nothing of it", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "old");
  const newcomer = await server.connect();
  await newcomer.sends("ALICE", "carol");
  await alice.receives(announcements.joined("carol"));
  await alice.sends("new");
  await newcomer.receives(
    "[SYSTEM] The name ALICE is taken. Enter another name:",
    announcements.welcome("carol", "alice", "bob", "carol"),
  );
  await newcomer.receives("alice: old", "alice: new");
});

Deno.test("history: a newcomer sees what was said, and then what is said now", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "Hello everyone!");
  await tell(alice, bob, "Hi there!");
  const carol = await server.join("carol"); // She has received the welcome.
  await alice.sends("new");
  await carol.receives("alice: Hello everyone!", "bob: Hi there!");
  await carol.receives("alice: new");
  // A member does not receive the history again.
  await bob.receives(announcements.joined("carol"), "alice: new");
});

Deno.test("history: of twelve messages a newcomer sees the last ten", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, ...numberedLines(12));
  const carol = await server.join("carol");
  await alice.sends("new");
  const lines = [...numberedLines(12).slice(2), "new"];
  await carol.receives(...lines.map((line) => `alice: ${line}`));
});

Deno.test("history: during a flood no message is missing, and none comes twice", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  const old = numberedLines(10);
  await tell(bob, alice, ...old);
  const flooding = (async () => {
    for (const line of numberedLines(1_000)) await alice.sends(line);
  })();
  const carol = await server.join("carol");
  await flooding;
  await alice.sends("the end");

  const byBob = await bob.receivesUntil("alice: the end");
  const said = [...old.map((line) => `alice: ${line}`), ...byBob];
  const join = said.indexOf(announcements.joined("carol"));
  // Carol sees the ten messages before her own announcement, but not that one.
  const expected = said.slice(join - 10).toSpliced(10, 1);
  assertLines(await carol.receivesUntil("alice: the end"), expected, "carol");
});
