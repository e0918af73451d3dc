/**
 * Exercise 14: a rate limit, for somebody who pastes a novel.
 *
 * One who sends a thousand lines in a second is heard by all, and nobody else
 * is. To throw lines away loses what was said; to hang up loses the person. But
 * TCP has a brake already: what is not read fills the kernel's buffers, and then
 * the sender has to wait. So do not read.
 *
 * On the wire nothing new is said, and nothing is lost: who has said `maxBurst`
 * messages within `burstMs` waits, until `burstMs` after the first of them. Then
 * a new burst may begin. Only what others hear counts: no blank line, and none
 * that is refused. Others do not wait, and whoever does can still hear.
 *
 * Both numbers are further `RoomOptions`. A `Room` that is not given `maxBurst`
 * has no limit, as the lessons flood theirs on purpose; let `main` give it one.
 *
 * Begin in server.ts, at `isFull` and `ready`, which say when a client's next
 * line has to wait, and for what; `serve` asks them. `hear` can count.
 *
 * Two hints. `ready` looks again after every turn, so see that there is one when
 * a pause ends. And a timer that nobody clears outlives its client: `client.timer`
 * has nothing to do between the name and the goodbye.
 *
 *     deno test --allow-net tests/exercises/14_rate_limit.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/14_rate_limit.patch
 */

import { assert } from "@std/assert";
import { texts } from "../../protocol.ts";
import { testNet, TestServer } from "../helpers.ts";

// No test has to be quick. Either a pause is longer than any test, and we see
// who goes on meanwhile; or it is short, and we see that it was not left out.
// `maxClients` changes nothing: it is there as the program knows it already.
const LONG_PAUSE = { maxClients: 100, maxBurst: 3, burstMs: 600_000 };
const SHORT_PAUSE = { maxClients: 100, maxBurst: 3, burstMs: 50 };

testNet("rate: whoever is too fast waits, and others go ahead", async () => {
  await using server = new TestServer(LONG_PAUSE);
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.says("1", "2", "3", "4");
  await carol.hears("alice: 1", "alice: 2", "alice: 3");
  await carol.says("my turn");
  await bob.hears("alice: 1", "alice: 2", "alice: 3", "carol: my turn");
});

testNet("rate: whoever waits can still hear", async () => {
  await using server = new TestServer(LONG_PAUSE);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await bob.says("slow down");
  await alice.hears("bob: slow down");
  const carol = await server.join("carol");
  await bob.hears(texts.joined("carol")); // and not the fourth
  await carol.says("hi");
  await alice.hears(texts.joined("carol"), "carol: hi");
});

testNet("rate: what nobody hears does not count", async () => {
  await using server = new TestServer(LONG_PAUSE);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("", " ", "x".repeat(1_001), "1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await server.join("carol");
  await bob.hears(texts.joined("carol")); // and not the fourth
});

testNet(
  "rate: all that waits is said in time, in order, then left",
  async () => {
    await using server = new TestServer(SHORT_PAUSE);
    const [alice, bob] = await server.joinAll("alice", "bob");
    const start = performance.now();
    await alice.says(..."0123456789");
    await alice.endsInput();
    for (const digit of "0123456789") await bob.hears(`alice: ${digit}`);
    await bob.hears(texts.left("alice"));
    const passed = performance.now() - start;
    // after the third, the sixth and the ninth; a timer may be 1 ms early
    assert(passed >= 3 * 49, `three pauses of 50 ms, but only ${passed} ms`);
  },
);

testNet("rate: nobody who waits keeps the server from stopping", async () => {
  await using server = new TestServer(LONG_PAUSE);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await server.room.shutDown();
  await alice.hears(texts.shutdown);
  await bob.hears(texts.shutdown);
});
