/**
 * Exercise 23: a rate limit for members who send too much at once.
 *
 * If somebody pastes a novel, a thousand messages arrive in a second, and nobody can
 * follow the others any more. A server that drops some of them loses what was said. A
 * server that disconnects the sender loses the member. But TCP has a brake already:
 * if a socket is not read, its buffers fill up, and the sender has to wait. So do not
 * read. Nobody receives a new line because of that, and no message is lost.
 *
 * A burst begins with a message, and takes `burstMs` milliseconds. A member that has
 * sent `maxBurst` messages in it waits until the burst is over. After a burst, the
 * next message begins a new one. Only messages count: no line that is refused, and
 * none in which there is nothing to see. Other members do not wait, and a member that
 * waits still receives.
 *
 * Both numbers are `ServerOptions`. The default of `maxBurst` is `Infinity`, because
 * many lessons flood the room. The default of `burstMs` is 1,000. Whoever starts the
 * program can set a limit for each second:
 *
 *     deno run --allow-net server.ts --max-burst 10
 *
 * First rung: read nothing more, forever, from a member that has sent `maxBurst`
 * messages. Then the first three tests are green. After that, let the burst end.
 *
 * Begin in server.ts at `serve`. A member whose lines are undelivered waits there
 * already. `#say` knows which lines are messages. `parseOptions` and `run` are for the
 * program, and for the last test.
 *
 * Hints:
 *
 *   - A `Condition` lets a function wait until something may have changed.
 *   - A timer that nobody clears lives longer than its client. `setTimer` of `Client`
 *     has nothing to do while the client is a member.
 *   - If a member is disconnected while it waits, at a shutdown for example, its
 *     receive loop has to continue, to find the end of the input.
 *
 *     deno task learn 23
 *     deno test tests/exercises/23_rate_limit.ts
 */

import { assert, fail } from "@std/assert";
import { announcements, testProgram, TestServer, within } from "../helpers.ts";
import { Server } from "../programs.ts";

// No test has to be fast. Either a burst is longer than any test, and we see who
// continues meanwhile. Or it is short, and we see that nobody was too fast.
// `maxClients` changes nothing. With it, TypeScript accepts the options also while
// the server has no rate limit.
const LONG = { maxClients: 100, maxBurst: 3, burstMs: 600_000 };
const SHORT = { maxClients: 100, maxBurst: 3, burstMs: 50 };

Deno.test("rate limit: a member that is too fast waits, and others do not", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.sends("1", "2", "3", "4");
  await carol.receives("alice: 1", "alice: 2", "alice: 3");
  await carol.sends("my turn");
  await bob.receives("alice: 1", "alice: 2", "alice: 3", "carol: my turn");
});

Deno.test("rate limit: a member that waits still receives", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("1", "2", "3", "4");
  await bob.receives("alice: 1", "alice: 2", "alice: 3");
  await bob.sends("slow down");
  await alice.receives("bob: slow down");
  await server.join("carol");
  await alice.receives(announcements.joined("carol"));
  await bob.receives(announcements.joined("carol")); // and not the fourth message
});

Deno.test("rate limit: lines that nobody else receives do not count", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("", " ", "x".repeat(1_001), "1", "2", "3", "4");
  await bob.receives("alice: 1", "alice: 2", "alice: 3");
  await server.join("carol");
  await bob.receives(announcements.joined("carol")); // and not the fourth message
});

Deno.test("rate limit: all messages arrive in order, three in each burst", async () => {
  await using server = new TestServer(SHORT);
  const [alice, bob] = await server.joinAll("alice", "bob");
  const start = performance.now();
  await alice.sends(..."0123456789");
  await alice.halfCloses();
  for (const digit of "0123456789") await bob.receives(`alice: ${digit}`);
  await bob.receives(announcements.left("alice"));
  const passed = Math.round(performance.now() - start);
  // Alice waits after the third, the sixth and the ninth. A timer may be 1 ms early.
  assert(passed >= 3 * 49, `alice waits 3 times 50 ms, not ${passed} in all`);
});

Deno.test("rate limit: a member that waits does not delay a shutdown", async () => {
  await using server = new TestServer(LONG);
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("1", "2", "3", "4");
  await bob.receives("alice: 1", "alice: 2", "alice: 3");
  const stopped = server.stop();
  for (const person of [alice, bob]) {
    await person.receives(announcements.shutdown);
    await person.isDisconnected();
  }
  // The server would wait this long for a client that does not close its side.
  await within(900, stopped, "the server waits for alice, who has left");
});

testProgram(
  "rate limit: with --max-burst 3, a fourth message waits",
  async () => {
    await using server = await Server.start(["0", "--max-burst", "3"])
      .catch(() => fail("The server does not start with --max-burst 3"));
    const alice = await server.join("alice");
    const bob = await server.join("bob");
    const start = performance.now();
    await alice.sends("1", "2", "3", "4");
    await bob.receives("alice: 1", "alice: 2", "alice: 3", "alice: 4");
    const passed = Math.round(performance.now() - start);
    assert(passed >= 999, `alice waits a second, not ${passed} ms`);
  },
);
