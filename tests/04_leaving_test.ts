/**
 * Lesson 4: leaving. A TCP connection is two streams, and each ends by itself.
 *
 * FIN says 'no more from me': a half-close; the other direction goes on. RST
 * says 'this connection is gone', and what was on its way may be lost. A chat
 * that takes the end of input for the end of everything cuts off the last lines
 * of whoever says something and leaves (`printf 'alice\nbye\n' | nc -N ...`);
 * one that forgets a way to leave keeps ghosts in its list of users.
 *
 * Try: kill a client with `kill -9` and watch the server's log. In `serve` of
 * server.ts, close the connection as soon as `readLines` ends.
 */

import { assertEquals } from "@std/assert";
import { texts } from "../protocol.ts";
import { Person, testNet, testRun, TestServer } from "./helpers.ts";

testNet("leaving: the others are told, once", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  alice.hangsUp();
  await bob.hears("[SYSTEM] alice left the chat!");
  await server.join("carol");
  await bob.hears(texts.joined("carol"));
});

testNet(
  "leaving: what was said before is delivered, though nobody stays to hear",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("one", "two", "three");
    alice.hangsUp();
    await bob.hears("alice: one", "alice: two", "alice: three");
    await bob.hears(texts.left("alice"));
  },
);

testNet(
  "leaving: half a line at the end of the input is still said",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.sends("bye");
    await alice.endsInput();
    await bob.hears("alice: bye", texts.left("alice"));
  },
);

testNet(
  "leaving: a half-close ends the connection, and loses nothing on its way",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const lines = Array.from({ length: 5_000 }, (_, n) => `line ${n}`);
    await bob.says(...lines, "the end");
    await server.join("carol"); // so the server has taken in all of that
    await alice.endsInput();
    for (const line of lines) await alice.hears(`bob: ${line}`);
    await alice.hears("bob: the end");
  },
);

testNet(
  "leaving: who gives a name and half-closes at once is still welcomed",
  async () => {
    await using server = new TestServer();
    const alice = await server.connect();
    await alice.says("alice");
    await alice.endsInput();
    await alice.hears("[SYSTEM] Welcome, alice! Active users (1): alice");
    await alice.isHungUpOn();
  },
);

testNet("leaving: whoever half-closes is hung up on", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  await alice.endsInput();
  await alice.isHungUpOn();
});

/** Joins as alice, reads nothing, and stays until it is killed. */
const ALICE = `
  const port = Number(Deno.args[0]);
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode("alice\\n"));
  setInterval(() => {}, 60_000);
`;

testRun(
  "leaving: a client that is killed, with lines unread, has left, too",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const alice = new Deno.Command(Deno.execPath(), {
      args: ["eval", ALICE, `${server.port}`],
    }).spawn();
    await bob.hears(texts.joined("alice"));
    await bob.says("a line that alice never reads", "x".repeat(1_001));
    await bob.hears(texts.messageTooLong); // so that line is on its way to her
    alice.kill("SIGKILL"); // her kernel answers with RST, not FIN
    await alice.status;
    await bob.hears(texts.left("alice"));
  },
);

testNet(
  "leaving: who comes and goes without a name leaves no trace",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    for (let n = 0; n < 20; n++) (await server.connect()).hangsUp();
    await server.join("bob");
    await alice.hears(texts.joined("bob"));
    assertEquals(server.log.match(/connected from/g)?.length, 2);
  },
);

testNet("leaving: many at once leave an empty room", async () => {
  await using server = new TestServer();
  const names = Array.from({ length: 30 }, (_, n) => `user${n}`);
  const people = await Promise.all(names.map((name) => server.join(name)));
  const witness = await server.join("witness");
  for (const person of people) person.hangsUp();
  const gone = new Set<string>();
  for (const _ of people) gone.add(await witness.nextLine());
  assertEquals(gone, new Set(names.map(texts.left)));
});

testNet("leaving: when one is gone, there is room for another", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice] = await server.joinAll("alice", "bob");
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  const refused = new Person(conn);
  await refused.hears("[SYSTEM] The chat is full. Try again later.");
  await refused.isHungUpOn();
  refused.hangsUp();
  await alice.endsInput();
  await alice.isHungUpOn();
  await server.join("carol");
});
