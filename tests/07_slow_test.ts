/**
 * Lesson 7: somebody is always slower than the one who talks.
 *
 * What a reader does not take waits: first in the kernel, a few megabytes, and
 * then `write` waits. If the server waits with it, one closed laptop stops the
 * room. If it keeps a queue for each reader, a thousand readers make a thousand
 * copies. So all is kept once, in a log; each client has a position in it, and
 * gets what comes next as fast as it reads.
 *
 * Try: join as `sleeper`, press Ctrl+Z, and let somebody else run
 * `(echo bob; yes | head -c 20000000) | nc 127.0.0.1 9999 > /dev/null`. Does a
 * third one still hear bob? Without nc, put
 * `deno run --allow-net client.ts` in its place.
 */

import { assert } from "@std/assert";
import { assertLines, messages, type Person } from "./helpers.ts";
import { testNet, TestServer, texts, within } from "./helpers.ts";

/** More of these than the kernel takes for a reader that takes nothing. */
const FLOOD = messages(20_000);

const byAlice = (lines: string[]) => lines.map((line) => `alice: ${line}`);

testNet("slow: who does not read stops nobody", async () => {
  await using server = new TestServer({ stallMs: 300 });
  const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
  const sent = alice.says(...FLOOD, "the end");
  sent.catch(() => {}); // if bob hears nothing, nobody waits for it
  const seen = await within(
    4_000,
    bob.hearsUntil("alice: the end"),
    "One who does not read keeps bob from hearing alice",
  );
  const all = [...FLOOD, "the end"];
  assertLines(
    seen.filter((line) => line !== texts.left("sleeper")),
    byAlice(all),
    "bob",
  );
  await sent;
});

testNet("slow: nor does it keep a newcomer out", async () => {
  await using server = new TestServer({ stallMs: 300 });
  const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
  alice.says(...FLOOD, "the end").catch(() => {});
  const reading = bob.hearsUntil("alice: the end").catch(() => {});
  for (const name of ["carol", "dave", "erin"]) {
    await within(
      3_000,
      server.join(name),
      `One who does not read keeps ${name} out`,
    );
  }
  await within(4_000, reading, "One who does not read keeps bob from hearing");
});

testNet(
  "slow: who comes amid a flood is welcomed, then hears all",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const sent = alice.says(...messages(4_000));
    const carol = await server.join("carol"); // the welcome is all that she saw
    await sent;
    await alice.says("the end");
    const [bobs, carols] = await Promise.all([
      bob.hearsUntil("alice: the end"),
      carol.hearsUntil("alice: the end"),
    ]);
    const place = bobs.indexOf(texts.joined("carol"));
    assertLines(carols, bobs.slice(place + 1), "carol");
    await sent;
  },
);

testNet("slow: megabytes pass, and none is mangled or lost", async () => {
  await using server = new TestServer();
  const [alice, ...others] = await server.joinAll("alice", "bob", "carol");
  const said = messages(800, 1_000, "😀");
  const hearing = others.map((person) => person.hears(...byAlice(said)));
  await Promise.all([alice.says(...said), ...hearing]);
});

testNet("slow: nor is any when two talk past each other", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const said = messages(800, 1_000, "😀");
  await Promise.all([
    alice.says(...said),
    bob.says(...said),
    alice.hears(...said.map((text) => `bob: ${text}`)),
    bob.hears(...byAlice(said)),
  ]);
});

testNet("slow: what only alice is told keeps its place", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  const tooLong = "x".repeat(1_001); // alice alone is told, right after 'mark'
  const sent = Promise.all([
    bob.says(...messages(5_000, 100), "the end"),
    alice.says(...Array(100).fill(`mark\n${tooLong}`)),
  ]);
  /** How many of bob's lines come before each of those. */
  async function places(person: Person, mark: string): Promise<number[]> {
    const lines: string[] = [];
    while (lines.length < 5_101) lines.push(await person.nextLine());
    const marks = lines.flatMap((line, n) => line === mark ? [n] : []);
    return marks.map((at, n) => at - n);
  }
  const marks = await places(carol, "alice: mark");
  const answers = await places(alice, texts.messageTooLong);
  answers.forEach((answer, n) => {
    const [mark = 0, next = 5_001] = marks.slice(n);
    assert(
      mark <= answer && answer <= next,
      `alice is told after line ${answer} of bob's, not ${mark} to ${next}`,
    );
  });
  await sent;
});

testNet("slow: readers of all speeds see the same", async () => {
  await using server = new TestServer();
  const readers = await server.joinAll("bob", "carol", "dave", "erin");
  const alice = await server.join("alice");
  const said = messages(1_500);
  const sent = alice.says(...said, "the end");
  await Promise.all(readers.map(async (reader, n) => {
    const seen: string[] = [];
    while (seen.at(-1) !== "alice: the end") {
      seen.push(await reader.nextLine());
      // what makes a reader slow: others come first, so many times
      for (let turn = 0; turn < n && seen.length % 10 === 0; turn++) {
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
    const heard = seen.filter((line) => !line.startsWith("[SYSTEM]"));
    assertLines(heard, byAlice([...said, "the end"]), reader.name);
  }));
  await sent;
});
