/**
 * Lesson 10: to stop is to say goodbye to everybody, and then to go.
 *
 * Ctrl+C sends SIGINT, a closed terminal SIGHUP, a service manager SIGTERM;
 * without a handler each ends the program in the middle of a line. Then people
 * see their connection break and cannot tell a server that was stopped from a
 * cable that was pulled out. The other mistake is to wait for everybody: one
 * laptop that was closed keeps the server from ever ending. So each gets all
 * that was said, the goodbye and the end of the stream, and a second to take it.
 *
 * Try: press Ctrl+C in the server's terminal while somebody is in the chat with
 * `nc 127.0.0.1 9999`, or with `deno run --allow-net client.ts`.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { assertLine, assertLines, messages } from "./helpers.ts";
import { testNet, testRun, TestServer, within } from "./helpers.ts";
import { Server } from "./programs.ts";

const GOODBYE = "[SYSTEM] The server is shutting down. Goodbye!";

testNet("stopping: everybody is told, and then hung up on", async () => {
  await using server = new TestServer();
  const people = await server.joinAll("alice", "bob", "carol");
  const stopped = server.stop();
  for (const person of people) {
    await person.hears(GOODBYE); // and nobody is told that the others 'left'
    await person.isHungUpOn();
  }
  await stopped;
});

testNet("stopping: who has no name yet is told, too", async () => {
  await using server = new TestServer();
  const visitor = await server.connect();
  const stopped = server.stop();
  visitor.says("bob").catch(() => {}); // too late
  await visitor.hears(GOODBYE);
  await visitor.isHungUpOn();
  await stopped;
});

testNet("stopping: what was said before comes before the goodbye", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  alice.says(...messages(20_000)).catch(() => {}); // cut off by the goodbye
  for (let n = 0; n < 1_000; n++) await carol.nextLine();
  const stopped = server.stop();
  const [bobs, carols] = [await bob.hearsUntil(), await carol.hearsUntil()];
  for (const person of [alice, bob, carol]) person.hangsUp();
  assertLine(bobs.pop(), GOODBYE, "At the end, bob");
  assertLine(carols.pop(), GOODBYE, "At the end, carol");
  const said = messages(bobs.length).map((line) => `alice: ${line}`);
  assertLines(bobs, said, "bob");
  assertLines(carols, said.slice(1_000), "carol");
  await stopped;
});

testNet(
  "stopping: who never stops sending still reads the goodbye",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const flooding = (async () => {
      for (;;) await alice.says(...messages(100));
    })().catch(() => {}); // writing fails when there is nobody to write to
    for (let n = 0; n < 1_000; n++) await bob.nextLine();
    const stopped = server.stop();
    await alice.hears(GOODBYE); // a reset could have destroyed it
    await alice.isHungUpOn();
    await Promise.all([stopped, flooding]);
  },
);

testNet("stopping: who does not read keeps nobody waiting", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob", "sleeper");
  const sent = alice.says(...messages(20_000)).catch(() => {});
  for (let n = 0; n < 3_500; n++) await bob.nextLine();
  const stopped = server.stop();
  const bobs = await bob.hearsUntil();
  assertLine(bobs.at(-1), GOODBYE, "At the end, bob");
  await within(2_500, stopped, "A sleeper keeps the server from ending");
  await sent;
});

testNet("stopping: nobody gets in any more", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const stopped = server.stop();
  await alice.hears(GOODBYE);
  await assertRejects(() => server.visit(), Deno.errors.ConnectionRefused);
  await alice.isHungUpOn();
  await stopped;
});

// ------------------------------------------------------- the program itself

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  testRun(
    `stopping: at ${signal} the server says goodbye, and ends`,
    async () => {
      await using server = await Server.start();
      const alice = await server.join("alice");
      server.kill(signal);
      await alice.hears(GOODBYE);
      await alice.isHungUpOn();
      const { code, stdout, stderr } = await server.ends();
      assertEquals({ code, stderr }, { code: 0, stderr: "" });
      assertMatch(stdout, /🛑 Chat Server Stopped\n$/);
    },
    ["linux", "darwin"],
  );
}

testRun(
  "stopping: a Ctrl+C that comes twice, by `deno task`, is one",
  async () => {
    await using server = await Server.start();
    const bob = await server.join("bob");
    server.kill("SIGINT");
    server.kill("SIGTERM"); // another SIGINT might be taken for the same
    await bob.hears(GOODBYE);
    await bob.isHungUpOn();
    const { code, stdout } = await server.ends();
    assertEquals(code, 0);
    assertMatch(stdout, /🛑 Chat Server Stopped\n$/);
  },
  ["linux", "darwin"],
);

testRun("stopping: the next server can have the port at once", async () => {
  await using server = await Server.start();
  const alice = await server.join("alice");
  server.kill("SIGINT");
  await alice.hears(GOODBYE);
  await alice.isHungUpOn();
  const { code, stdout } = await server.ends();
  assertEquals(code, 0, stdout);
  await using next = await Server.start([`${server.port}`]);
  assert(next.port === server.port, `it listens on ${next.port}`);
  await next.join("alice");
}, ["linux", "darwin"]);
