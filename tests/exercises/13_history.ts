/**
 * Exercise 13: the last ten lines, for a newcomer.
 *
 * Who comes into a conversation wants to know what it is about. So the room
 * remembers a little; and 'a little' is a number, or a room that talks for a
 * month remembers itself to death.
 *
 * On the wire, right behind the welcome and before anything new:
 *
 *     > carol
 *     < [SYSTEM] Welcome, carol! Active users (3): alice, bob, carol
 *     < alice: Hello everyone!
 *     < bob: Hi there!
 *
 * These are the last ten messages, or as many as there are, as they were said:
 * no announcements, and nothing that was said to one person only.
 *
 * Lesson 3 holds that a newcomer sees nothing of what was said before. So that
 * it may go on holding, a `Room` remembers nothing unless it is told to, by
 * another number in `RoomOptions`: `historyLines`. Let `main` ask for ten.
 *
 * Begin in server.ts, at `Room.hear`, where there is something to remember, and
 * at `#register`, where somebody wants it. `#tell` is good enough to give it.
 *
 * A hint: between two `await`s nothing else runs. So what is told in the same
 * breath as the welcome can neither miss a line nor bring one twice.
 *
 *     deno test --allow-net tests/exercises/13_history.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/13_history.patch
 */

import { assertEquals } from "@std/assert";
import { texts } from "../../protocol.ts";
import { type Person, testNet, TestServer } from "../helpers.ts";

// `maxClients` changes nothing: it is there as the program knows it already
const TEN = { maxClients: 100, historyLines: 10 };

/** Says lines that `listener` hears: then the server has them. */
async function told(
  speaker: Person,
  listener: Person,
  ...lines: string[]
): Promise<void> {
  await speaker.says(...lines);
  for (const line of lines) await listener.hears(`${speaker.name}: ${line}`);
}

testNet(
  "history: a newcomer sees what was said, and then the new",
  async () => {
    await using server = new TestServer(TEN);
    const [alice, bob] = await server.joinAll("alice", "bob");
    await told(alice, bob, "Hello everyone!");
    await told(bob, alice, "Hi there!");
    const carol = await server.join("carol"); // has seen the welcome
    await alice.says("new");
    await carol.hears("alice: Hello everyone!", "bob: Hi there!", "alice: new");
  },
);

testNet("history: of twelve lines it is the last ten", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = Array.from({ length: 12 }, (_, n) => `line ${n}`);
  await told(alice, bob, ...lines);
  const carol = await server.join("carol");
  await alice.says("new");
  for (const line of lines.slice(2)) await carol.hears(`alice: ${line}`);
  await carol.hears("alice: new");
});

testNet("history: it is messages only", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await told(alice, bob, "old");
  await bob.says("x".repeat(1_001)); // is refused
  await bob.hears(texts.messageTooLong);
  (await server.join("dan")).hangsUp();
  await alice.hears(texts.joined("dan"), texts.left("dan"));
  const carol = await server.join("carol");
  await alice.says("new");
  await carol.hears("alice: old", "alice: new");
});

testNet("history: it outlives those who said it", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await told(alice, bob, "remember me");
  await alice.endsInput();
  await bob.hears(texts.left("alice"));
  await bob.endsInput();
  await bob.isHungUpOn();
  const carol = await server.join("carol");
  await server.join("dan");
  await carol.hears("alice: remember me", texts.joined("dan"));
});

testNet("history: without a name, nobody hears of it", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await told(alice, bob, "old");
  const newcomer = await server.connect();
  await newcomer.says("ALICE", "carol");
  await alice.hears(texts.joined("carol"));
  await alice.says("new");
  await newcomer.hears(
    "[SYSTEM] The name ALICE is taken. Enter another name:",
    "[SYSTEM] Welcome, carol! Active users (3): alice, bob, carol",
    "alice: old",
    "alice: new",
  );
});

testNet(
  "history: amid a flood no line is missing, and none twice",
  async () => {
    await using server = new TestServer(TEN);
    const [alice, bob] = await server.joinAll("alice", "bob");
    const lines = Array.from({ length: 1_000 }, (_, n) => `line ${n}`);
    await told(alice, bob, ...lines.slice(0, 10));
    async function flood(): Promise<void> {
      for (const line of lines.slice(10)) await alice.says(line);
    }
    const [carol] = await Promise.all([server.join("carol"), flood()]);
    await alice.says("the end");

    const all = lines.slice(0, 10).map((line) => `alice: ${line}`);
    while (all.at(-1) !== "alice: the end") all.push(await bob.nextLine());
    const join = all.indexOf(texts.joined("carol"));
    const heard: string[] = [];
    while (heard.at(-1) !== "alice: the end") {
      heard.push(
        await carol.nextLine(),
      );
    }
    const expected = [...all.slice(join - 10, join), ...all.slice(join + 1)];
    assertEquals(heard, expected, "on carol's screen:");
  },
);
