/**
 * Exercise 18: the last ten messages, for a newcomer.
 *
 * Who comes into a conversation wants to know what it is about. So the room
 * remembers a little; and 'a little' is a number, or a room that talks for a
 * month keeps a month of talk in its memory.
 *
 * Right behind the welcome, and before anything new:
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
 * it may go on holding, make it one more number in `DEFAULTS`, `historyLines`,
 * with 0 as its value there. Let `main` ask for ten.
 *
 * Begin in server.ts at `#say`, where there is something to remember, and at
 * `#join`, where somebody wants it. What `#append` can do is enough to give it.
 *
 * A hint: between two `await`s nothing else runs. So what comes together with
 * the welcome can neither miss a line nor bring one twice.
 *
 *     deno task learn 18
 *     deno test --allow-net tests/exercises/18_history.ts
 */

import { assertLines, type Person, testNet } from "../helpers.ts";
import { TestServer, texts } from "../helpers.ts";

// `maxClients` changes nothing: with it, types pass before there is a history
const TEN = { maxClients: 100, historyLines: 10 };

const numbers = (count: number) =>
  Array.from({ length: count }, (_, n) => `line ${n}`);

/** Says lines that somebody hears: then the server has them. */
async function tells(listener: Person, speaker: Person, ...lines: string[]) {
  await speaker.says(...lines);
  await listener.hears(...lines.map((line) => `${speaker.name}: ${line}`));
}

testNet("history: a newcomer sees what was said, then the new", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tells(bob, alice, "Hello everyone!");
  await tells(alice, bob, "Hi there!");
  const carol = await server.join("carol"); // has seen the welcome
  await alice.says("new");
  await carol.hears("alice: Hello everyone!", "bob: Hi there!", "alice: new");
  await bob.hears(texts.joined("carol"), "alice: new"); // nobody hears it twice
});

testNet("history: of twelve messages it is the last ten", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tells(bob, alice, ...numbers(12));
  const carol = await server.join("carol");
  await alice.says("new");
  const last = [...numbers(12).slice(2), "new"];
  await carol.hears(...last.map((line) => `alice: ${line}`));
});

testNet("history: it is messages only", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tells(bob, alice, "old");
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
  await tells(bob, alice, "remember me");
  for (const person of [alice, bob]) {
    await person.endsInput();
    await person.hearsUntil(); // to the end
  }
  const carol = await server.join("carol");
  await server.join("dan");
  await carol.hears("alice: remember me", texts.joined("dan"));
});

testNet("history: without a name, nobody hears of it", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tells(bob, alice, "old");
  const newcomer = await server.connect();
  await newcomer.says("ALICE", "carol");
  await alice.hears(texts.joined("carol"));
  await alice.says("new");
  await newcomer.hears("[SYSTEM] The name ALICE is taken. Enter another name:");
  await newcomer.hears(texts.welcome("carol", "alice", "bob", "carol"));
  await newcomer.hears("alice: old", "alice: new");
});

testNet("history: in a flood no line is missing, and none twice", async () => {
  await using server = new TestServer(TEN);
  const [alice, bob] = await server.joinAll("alice", "bob");
  const [old, flood] = [numbers(10), numbers(1_000)];
  await tells(bob, alice, ...old);
  const sent = (async () => {
    for (const line of flood) await alice.says(line);
  })();
  const carol = await server.join("carol");
  await sent;
  await alice.says("the end");

  const byBob = await bob.hearsUntil("alice: the end");
  const said = [...old.map((line) => `alice: ${line}`), ...byBob];
  const join = said.indexOf(texts.joined("carol"));
  const expected = said.slice(join - 10).filter((_, n) => n !== 10);
  assertLines(await carol.hearsUntil("alice: the end"), expected, "carol");
});
