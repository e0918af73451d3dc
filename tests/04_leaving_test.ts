/**
 * Lesson 4: leaving. A TCP connection is two streams, and each ends by itself.
 *
 * FIN says 'no more from me': a half-close; the other direction goes on. RST
 * says 'this connection is gone', and what was on its way may be lost. A chat
 * that takes the end of input for the end of everything cuts off the last lines
 * for whoever says something and leaves; one that drops what came before a
 * reset loses lines that were said; one that forgets a way to leave keeps ghosts
 * in its list of users.
 *
 * Try: `printf 'alice\nbye' | nc -N 127.0.0.1 9999`: is there a welcome, does
 * the other one see `bye`? Then kill a client with `kill -9`. Without nc:
 * `printf 'alice\nbye' | deno run --allow-net client.ts`.
 */

import { assertEquals } from "@std/assert";
import { createConnection, type Socket } from "node:net";
import { assertLines, messages, type Person, testNet } from "./helpers.ts";
import { TestServer, texts, within } from "./helpers.ts";

/** Somebody who reads nothing, and goes with a reset (RST). */
class Rude {
  readonly #socket: Socket;

  constructor(port: number) {
    this.#socket = createConnection(port, "127.0.0.1").pause();
  }

  async sends(text: string): Promise<void> {
    await new Promise((resolve) => this.#socket.write(text, resolve));
  }

  async resets(): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.on("close", resolve));
    this.#socket.resetAndDestroy();
    await closed;
  }
}

testNet("leaving: the others are told, once", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  alice.hangsUp();
  await bob.hears("[SYSTEM] alice left the chat!");
  await server.join("carol");
  await bob.hears(texts.joined("carol"));
});

testNet("leaving: what was said before is delivered", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(1_000, 100);
  await alice.says(...lines);
  alice.hangsUp();
  await bob.hears(...lines.map((l) => `alice: ${l}`), texts.left("alice"));
});

testNet(
  "leaving: a half-close loses nothing on its way to who leaves",
  async () => {
    await using server = new TestServer();
    const [bob, carol] = await server.joinAll("bob", "carol");
    const leavers: Person[] = [];
    for (let n = 0; n < 10; n++) leavers.push(await server.join(`leaver${n}`));
    bob.says(...messages(6_000, 300)).catch(() => {});
    const order: string[] = []; // what carol sees
    const screens: Promise<string[]>[] = []; // what the leavers see
    for (const leaver of leavers) { // each amid the flood
      for (let n = 0; n < 300; n++) order.push(await carol.nextLine());
      await leaver.endsInput();
      screens.push(leaver.hearsUntil());
    }
    for (const [n, { name }] of leavers.entries()) {
      const left = texts.left(name);
      if (!order.includes(left)) order.push(...await carol.hearsUntil(left));
      const isBobs = (line: string) => line.startsWith("bob: ");
      const said = order.slice(0, order.indexOf(left)).filter(isBobs);
      assertLines((await screens[n]!).filter(isBobs), said, name);
    }
  },
);

testNet("leaving: who comes and half-closes at once is welcomed", async () => {
  await using server = new TestServer();
  const alice = await server.connect("alice");
  await alice.says("alice");
  await alice.endsInput();
  await alice.hears(texts.welcome("alice", "alice"));
  await alice.isHungUpOn();
});

testNet("leaving: whoever half-closes is hung up on", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  await alice.endsInput();
  await alice.isHungUpOn();
});

testNet("leaving: who half-closes and reads nothing is given up", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sent = bob.says(...messages(3_000)); // alice reads nothing of it
  await server.join("carol");
  await alice.endsInput();
  await bob.hears(texts.joined("carol"), texts.left("alice"));
  await sent;
  // the server may stop at once: nothing of alice is left after a second
  await within(2_500, server.stop(), "alice, who left, keeps the server busy");
});

testNet(
  "leaving: a reset is an end, and loses nothing said before it",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const alice = new Rude(server.port);
    await alice.sends("alice\n");
    await bob.hears(texts.joined("alice"));
    const lines = messages(600, 50); // no more than the kernel takes at once
    await alice.sends([...lines, "half a li"].join("\n"));
    await alice.resets();
    await bob.hears(...lines.map((line) => `alice: ${line}`));
    await bob.hears("alice: half a li", texts.left("alice"));
  },
);

testNet(
  "leaving: one who is reset with lines unread has left, too",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const alice = new Rude(server.port);
    await alice.sends("alice\n");
    await bob.hears(texts.joined("alice"));
    await bob.says("a line that alice never reads");
    await alice.resets();
    await bob.says("another one"); // whose write fails, or not: bob stays
    await bob.hears(texts.left("alice"));
    await server.join("carol");
    await bob.hears(texts.joined("carol"));
  },
);

testNet("leaving: who goes without a name leaves no trace", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  for (let n = 0; n < 20; n++) (await server.connect()).hangsUp();
  await new Rude(server.port).resets();
  await server.join("bob");
  await alice.hears(texts.joined("bob"));
  assertEquals(server.printed.filter((it) => it.includes("✅")).length, 2);
});

testNet("leaving: many at once leave an empty room", async () => {
  await using server = new TestServer();
  const names = Array.from({ length: 30 }, (_, n) => `user${n}`);
  const people = await Promise.all(names.map((name) => server.join(name)));
  const witness = await server.join("witness");
  for (const person of people) person.hangsUp();
  const gone = new Set<string>();
  for (const _ of people) gone.add(await witness.nextLine());
  assertEquals(gone, new Set(names.map(texts.left)));
  const last = await server.connect();
  await last.says("last");
  await last.hears(texts.welcome("last", "last", "witness"));
});
