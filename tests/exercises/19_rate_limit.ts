/**
 * Exercise 19: a rate limit, for somebody who pastes a novel.
 *
 * When one person sends a thousand lines in a second, nobody can follow anybody
 * else. To throw lines away loses what was said; to hang up loses the person.
 * But TCP has a brake already: what is not read fills the kernel's buffers, and
 * then the sender has to wait. So do not read.
 *
 * On the wire nothing new is said, and nothing is lost: who has said `maxBurst`
 * messages within `burstMs` waits, until `burstMs` after the first of them.
 * Then a new burst may begin. Only what others hear counts: no blank line, and
 * none that is refused. Others do not wait, and whoever does can still hear.
 *
 * Both numbers are further `DEFAULTS`. There `maxBurst` is `Infinity`, for
 * lessons flood the room on purpose; let `main` give it a limit.
 *
 * Begin in server.ts at `#serve`: who is in debt waits there already. `#say`
 * can count.
 *
 * Two hints. `#turned` is resolved after a turn, so see that there is one when
 * a burst ends. And a timer that nobody clears lives longer than its client:
 * `timer` of a client has nothing to do between its name and its goodbye.
 *
 *     deno task learn 19
 *     deno test --allow-net tests/exercises/19_rate_limit.ts
 */

import { assert } from "@std/assert";
import { testNet, TestServer, texts } from "../helpers.ts";

// No test has to be quick. Either a burst is longer than any test, and we see
// who goes on meanwhile; or it is short, and we see that nobody was too fast.
// `maxClients` changes nothing: with it, types pass before there is a limit.
const LONG = { maxClients: 100, maxBurst: 3, burstMs: 600_000 };
const SHORT = { maxClients: 100, maxBurst: 3, burstMs: 50 };

testNet("rate: whoever is too fast waits, and others go ahead", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.says("1", "2", "3", "4");
  await carol.hears("alice: 1", "alice: 2", "alice: 3");
  await carol.says("my turn");
  await bob.hears("alice: 1", "alice: 2", "alice: 3", "carol: my turn");
});

testNet("rate: whoever waits can still hear", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await bob.says("slow down");
  await alice.hears("bob: slow down");
  await server.join("carol");
  await alice.hears(texts.joined("carol"));
  await bob.hears(texts.joined("carol")); // and not the fourth
});

testNet("rate: what nobody hears does not count", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("", " ", "x".repeat(1_001), "1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await server.join("carol");
  await bob.hears(texts.joined("carol")); // and not the fourth
});

testNet("rate: all that waits is said in time, in order", async () => {
  await using server = new TestServer(SHORT);
  const [alice, bob] = await server.joinAll("alice", "bob");
  const start = performance.now();
  await alice.says(..."0123456789");
  await alice.endsInput();
  for (const digit of "0123456789") await bob.hears(`alice: ${digit}`);
  await bob.hears(texts.left("alice"));
  const passed = Math.round(performance.now() - start);
  // after the third, the sixth and the ninth; a timer may be 1 ms early
  assert(passed >= 3 * 49, `alice waits 3 times 50 ms, not ${passed} in all`);
});

testNet("rate: nobody who waits keeps the server from stopping", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("1", "2", "3", "4");
  await bob.hears("alice: 1", "alice: 2", "alice: 3");
  await server.stop();
  for (const person of [alice, bob]) await person.hears(texts.shutdown);
});
