/**
 * Lesson 6: back-pressure. Somebody is always slower than the one who talks.
 *
 * What a reader does not take waits: first in the kernel, a few megabytes, and
 * then write() waits, and what was to be written has to wait in the server. A
 * chat without a plan for that either keeps everything (until the memory is
 * full), or throws lines away, or stops for all because one laptop was closed.
 * Ours keeps 1 MiB, then lets the speakers wait by not reading their sockets,
 * and gives up on a reader that has taken nothing for 5 seconds.
 *
 * Try: join with `nc 127.0.0.1 9999`, give a name, press Ctrl+Z, and let
 * somebody else run `(echo bob; yes) | nc 127.0.0.1 9999 > /dev/null`: watch
 * the server's log stop, and go on. In `isFull` of server.ts, return false.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { MAX_OUTBOX_BYTES, texts } from "../protocol.ts";
import { type Person, testNet, TestServer, within } from "./helpers.ts";

/** So long a reader that takes nothing may hold up the others, in here. */
const STALL_MS = 300;
/** Messages to fill the kernel and the log, if one reader takes nothing. */
const FLOOD = 8_000;

/** Messages of 1,000 characters, each with its number. */
function messages(count: number, filler = "x"): string[] {
  return Array.from({ length: count }, (_, n) => {
    const start = `${n} `;
    return start + filler.repeat(1_000 - start.length);
  });
}

/** How the others see it when alice says these. */
function byAlice(texts: string[]): string[] {
  return texts.map((text) => `alice: ${text}`);
}

/** The next lines on a screen, up to the last one that is asked for. */
async function screen(person: Person, last: string): Promise<string[]> {
  const lines: string[] = [];
  do lines.push(await person.nextLine()); while (lines.at(-1) !== last);
  return lines;
}

/** Fails at the first line that is not as expected, and shows its beginning. */
function assertLines(seen: string[], expected: string[], who: string): void {
  const length = Math.max(seen.length, expected.length);
  for (let n = 0; n < length; n++) {
    const [line, other] = [seen[n]?.slice(0, 40), expected[n]?.slice(0, 40)];
    assertEquals(line, other, `line ${n} of ${length} on ${who}'s screen:`);
    assert(seen[n] === expected[n], `on ${who}'s screen, cut up: ${line}`);
  }
}

/** As `hears`, for long lines: shows only the beginning of a wrong one. */
async function hearsAll(person: Person, lines: string[]): Promise<void> {
  for (const line of lines) {
    const seen = await person.nextLine();
    const who = `on ${person.name}'s screen`;
    assertEquals(seen.slice(0, 40), line.slice(0, 40), `${who}:`);
    assert(seen === line, `${who}, cut up: ${seen.slice(0, 40)}`);
  }
}

// ------------------------------------------------------------- much at once

testNet(
  "slow: a thousand lines in one piece reach everybody in order",
  async () => {
    await using server = new TestServer();
    const [alice, ...others] = await server.joinAll("alice", "bob", "carol");
    const said = messages(1_000);
    await alice.says(...said);
    for (const person of others) {
      const seen = await screen(person, `alice: ${said.at(-1)}`);
      assertLines(seen, byAlice(said), person.name);
    }
  },
);

testNet("slow: when all talk at once, all see the same order", async () => {
  await using server = new TestServer();
  const [witness, ...speakers] = await server.joinAll("witness", "a", "b", "c");
  const lines = Array.from({ length: 300 }, (_, n) => `line ${n}`);
  for (const line of lines) { // each in a piece of its own
    await Promise.all(speakers.map((speaker) => speaker.says(line)));
  }
  const order: string[] = [];
  while (order.length < 900) order.push(await witness.nextLine());
  await witness.says("the end");
  for (const speaker of speakers) {
    const isOwn = (line: string) => line.startsWith(`${speaker.name}:`);
    assertLines(
      order.filter(isOwn),
      lines.map((l) => `${speaker.name}: ${l}`),
      "the witness",
    );
    const seen = await screen(speaker, "witness: the end");
    const others = order.filter((line) => !isOwn(line));
    assertLines(seen, [...others, "witness: the end"], speaker.name);
  }
});

testNet(
  "slow: what only alice is told keeps its place among the rest",
  async () => {
    await using server = new TestServer();
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    const tooLong = "x".repeat(1_001); // alice alone is told, right after 'mark'
    const sent = Promise.all([
      bob.says(...messages(5_000).map((text) => text.slice(0, 100)), "the end"),
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
      const place = `between line ${mark} and ${next} of bob's, as alice spoke`;
      assert(mark <= answer && answer <= next, `${answer} is not ${place}`);
    });
    await sent;
  },
);

testNet(
  "slow: megabytes pass through the log, and none is mangled",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const said = messages(800, "😀"); // 3 MB: around the log more than once
    const sent = alice.says(...said);
    await hearsAll(bob, byAlice(said));
    await sent;
  },
);

testNet("slow: nor is any when two talk past each other", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const said = messages(800, "😀");
  await Promise.all([
    alice.says(...said),
    bob.says(...said),
    hearsAll(alice, said.map((text) => `bob: ${text}`)),
    hearsAll(bob, byAlice(said)),
  ]);
});

// ------------------------------------------------------- readers that are slow

testNet(
  "slow: who does not read is hung up on, and nobody loses a line",
  async () => {
    await using server = new TestServer({ stallMs: STALL_MS });
    const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
    const said = [...messages(FLOOD), "the end"];
    const sent = alice.says(...said);
    const seen = await within(
      5_000,
      screen(bob, "alice: the end"),
      "one who does not read keeps bob from hearing alice",
    );
    const left = texts.left("sleeper");
    assertEquals(seen.filter((line) => line === left), [left]);
    assertLines(seen.filter((line) => line !== left), byAlice(said), "bob");
    await sent;
  },
);

testNet("slow: while a reader takes nothing, the speaker waits", async () => {
  await using server = new TestServer({ stallMs: STALL_MS });
  const [alice, bob, sleeper] = await server.joinAll("alice", "bob", "sleeper");
  const sent = alice.says(...messages(FLOOD), "the end");
  const said = await screen(bob, texts.left("sleeper"));
  let slept = 0; // the lines that were not written to the sleeper in time
  for (;; slept++) {
    const line = await sleeper.nextLine().catch((error) => error);
    if (line instanceof Error) {
      assertMatch(line.message, /was hung up on/);
      break;
    }
  }
  const waiting = (said.length - slept) * 1_000;
  assert(waiting < MAX_OUTBOX_BYTES + 10_000, `${waiting} bytes were waiting`);
  await screen(bob, "alice: the end");
  await sent;
});

testNet("slow: who reads slowly stays, and gets it all in order", async () => {
  await using server = new TestServer({ stallMs: 2 * STALL_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const said = [...messages(14_000), "the end"];
  const sent = alice.says(...said);
  const seen: string[] = [];
  while (seen.length < said.length) {
    seen.push(await bob.nextLine());
    // What makes bob slow; nothing is waited for. The kernel lets a writer go
    // on only after a megabyte or so was taken.
    if (seen.length % 1_500 === 0) {
      await new Promise((resolve) => setTimeout(resolve, STALL_MS / 2));
    }
  }
  assertLines(seen, byAlice(said), "bob");
  await sent;
  await server.join("carol");
  await bob.hears(texts.joined("carol"));
});

testNet(
  "slow: who only talks and never reads is heard to the end",
  async () => {
    await using server = new TestServer({ stallMs: STALL_MS });
    const [alice, bob] = await server.joinAll("alice", "bob");
    const said = [...messages(FLOOD), "the end"]; // alice does not get her own
    for (let n = 0; n < said.length; n += 500) {
      const some = said.slice(n, n + 500);
      await alice.says(...some);
      await hearsAll(bob, byAlice(some));
    }
    await server.join("carol");
    await bob.hears(texts.joined("carol")); // and not: alice left
  },
);

testNet("slow: who never reads the answers is hung up on", async () => {
  await using server = new TestServer({ stallMs: STALL_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const tooLong = ("x".repeat(1_001) + "\n").repeat(1_000);
  const sent = (async () => {
    for (;;) await alice.sends(tooLong);
  })().catch(() => {}); // writing fails when there is nobody to write to
  await within(
    6_000,
    bob.hears(texts.left("alice")),
    "alice never reads, and is still connected",
  );
  await sent;
});
