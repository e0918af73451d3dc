/**
 * Lesson 8: back-pressure. Who causes work waits for it, and nobody else.
 *
 * A log that keeps all until everybody has got it grows without end when one
 * reader stops and one speaker does not. Lines must not be lost, so somebody has
 * to wait: the one who causes it. What a connection has said is its debt; over
 * the limit its socket is not read until everybody has got that, and TCP makes it
 * wait at home. Others do not wait. A reader that takes nothing while somebody
 * waits for it has to go after some seconds; one that is only slow may stay.
 *
 * Try: join as `sleeper`, press Ctrl+Z, and let somebody else run
 * `(echo bob; yes) | nc 127.0.0.1 9999 > /dev/null`; watch the server's memory
 * in `top`. Without nc, put `deno run --allow-net client.ts` in its place.
 */

import { assert } from "@std/assert";
import { assertLines, messages } from "./helpers.ts";
import { memoryOf, testNet, testRun, TestServer } from "./helpers.ts";
import { texts, within } from "./helpers.ts";
import { Server } from "./programs.ts";

/** So long a reader that takes nothing may let somebody wait, in here. */
const STALL_MS = 300;
/** More of these than the kernel takes for a reader that takes nothing. */
const FLOOD = messages(20_000);

const byAlice = (lines: string[]) => lines.map((line) => `alice: ${line}`);

testNet("waiting: who causes work waits for it", async () => {
  await using server = new TestServer({ stallMs: STALL_MS });
  const [alice, bob, sleeper] = await server.joinAll("alice", "bob", "sleeper");
  const sent = alice.says(...FLOOD, "the end");
  const said = await bob.hearsUntil(texts.left("sleeper"), "alice: the end");
  assert(
    said.at(-1) === texts.left("sleeper"),
    "alice has said all, though one who does not read has not got it",
  );
  const got = (await sleeper.hearsUntil()).length;
  const kibibytes = Math.round((said.length - got) * 1_008 / 1024);
  assert(kibibytes < 300, `alice was ${kibibytes} KiB ahead of the sleeper`);
  await bob.hearsUntil("alice: the end");
  await sent;
});

testNet("waiting: nobody else waits", async () => {
  await using server = new TestServer({ stallMs: 60_000 });
  const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
  const sent = alice.says(...FLOOD).catch(() => {}); // she waits to the end
  for (let n = 0; n < 3_500; n++) await bob.nextLine();
  const carol = await within(
    1_000,
    server.join("carol"),
    "carol waits for alice's reader, and is not let in",
  );
  for (let n = 0; n < 10; n++) {
    await bob.says(`ping ${n}`);
    await within(
      1_000,
      carol.hearsUntil(`bob: ping ${n}`),
      "carol does not hear bob: he waits for alice's reader",
    );
    await carol.says(`pong ${n}`);
    await bob.hearsUntil(`carol: pong ${n}`);
  }
  for (const person of [alice, bob, carol]) person.hangsUp();
  await sent;
});

testNet(
  "waiting: a reader that takes nothing has to go, and once",
  async () => {
    await using server = new TestServer({ stallMs: STALL_MS });
    const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
    const sent = alice.says(...FLOOD, "the end");
    const seen = await within(
      6_000,
      bob.hearsUntil("alice: the end"),
      "One who does not read keeps alice from speaking",
    );
    const left = texts.left("sleeper");
    assertLines(seen.filter((line) => line === left), [left], "bob");
    const said = byAlice([...FLOOD, "the end"]);
    assertLines(seen.filter((line) => line !== left), said, "bob");
    await sent;
  },
);

testNet("waiting: it may stay while nobody waits for it", async () => {
  await using server = new TestServer({ stallMs: 50 });
  const [alice, bob, sleeper] = await server.joinAll("alice", "bob", "sleeper");
  const start = performance.now();
  let count = 0;
  for (; performance.now() < start + 300; count++) {
    await alice.says(`line ${count}`);
    await bob.hears(`alice: line ${count}`);
  }
  for (let n = 0; n < count; n++) await sleeper.hears(`alice: line ${n}`);
});

testNet("waiting: who reads slowly stays, and gets it all", async () => {
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
      await new Promise((resolve) => setTimeout(resolve, STALL_MS / 4));
    }
  }
  assertLines(seen, byAlice(said), "bob");
  await sent;
  await server.join("carol");
  await bob.hears(texts.joined("carol"));
});

testNet(
  "waiting: who only talks and never reads is heard to the end",
  async () => {
    await using server = new TestServer({ stallMs: STALL_MS });
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (let n = 0; n < 16; n++) { // alice does not get her own lines
      const some = messages(500);
      await alice.says(...some);
      await bob.hears(...byAlice(some));
    }
    await server.join("carol");
    await bob.hears(texts.joined("carol")); // and not: alice left
  },
);

testNet("waiting: a line that is too long has its price, too", async () => {
  await using server = new TestServer({ stallMs: STALL_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const tooLong = ("x".repeat(1_001) + "\n").repeat(5_000);
  let times = 0;
  const flooding = (async () => {
    for (; times < 25; times++) await alice.sends(tooLong);
  })().catch(() => {}); // writing fails when there is nobody to write to
  await within(5_000, flooding, "alice never reads, and keeps the server busy");
  assert(times < 25, "alice never reads the answers, and may go on");
  await bob.hears(texts.left("alice"));
});

testNet("waiting: so has a refused name, and a blank line", async () => {
  await using server = new TestServer({ stallMs: STALL_MS });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const mallory = await server.connect("mallory");
  const count = 100_000; // with answers of 94 bytes each
  await mallory.sends("!\n".repeat(count));
  const start = performance.now();
  while (performance.now() < start + 4 * STALL_MS) { // she reads nothing
    await alice.says("tick");
    await bob.hears("alice: tick");
  }
  let answers = 0;
  while (answers < count && await mallory.nextLineOrEnd()) answers++;
  assert(answers < count, `mallory read nothing, and got ${answers} answers`);
});

testRun("waiting: what nobody reads does not fill the memory", async () => {
  await using server = await Server.start();
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  await alice.hears(texts.joined("bob"));
  const mallory = await server.connect();
  const before = await memoryOf(server.pid);
  const sent = mallory.sends("!\n".repeat(300_000)).catch(() => {});
  for (let n = 0; n < 300; n++) { // while mallory is read, or waits
    await alice.says(`line ${n}`);
    await bob.hears(`alice: line ${n}`);
  }
  const grown = await memoryOf(server.pid) - before;
  assert(grown < 32, `answers that nobody reads took ${grown.toFixed()} MB`);
  mallory.hangsUp();
  await sent;
}, ["linux"]);
