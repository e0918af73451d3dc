/**
 * Lesson 1: TCP carries bytes, not messages.
 *
 * What one side writes in one piece may arrive in three, and three pieces in
 * one. Framing is the agreement on where a message ends; ours is the newline.
 * Without it, a chat works on your own machine, where pieces mostly stay whole,
 * and mangles lines as soon as the network is slow or people are many.
 *
 * Try: `printf 'alice\nHello\nagain\n' | nc 127.0.0.1 9999` while somebody
 * looks on. Without nc, the same lines into the client:
 * `printf 'alice\nHello\nagain\n' | deno run --allow-net client.ts`.
 */

import { testNet, TestServer, texts } from "./helpers.ts";

testNet("lines: three in one piece are three lines", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("one\ntwo\nthree\n");
  await bob.hears("alice: one", "alice: two", "alice: three");
});

testNet("lines: half a line waits for its other half", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("Hello ");
  await bob.says("between"); // alice hears this: the server has had her half
  await alice.hears("bob: between");
  await alice.sends("everyone!\n");
  await bob.hears("alice: Hello everyone!");
});

testNet("lines: the end of one and the start of the next", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("one\ntw");
  await bob.hears("alice: one");
  await alice.sends("o\n");
  await bob.hears("alice: two");
});

testNet("lines: a name and a message in one piece", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const alice = await server.connect("alice");
  await alice.sends("alice\nHello\n");
  await alice.hears(texts.welcome("alice", "alice", "bob"));
  await bob.hears(texts.joined("alice"), "alice: Hello");
});

testNet("lines: a name in two pieces is one name", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const alice = await server.connect("alice");
  await alice.sends("al");
  await server.join("carol"); // by now the server has had her half
  await bob.hears(texts.joined("carol"));
  await alice.sends("ice\n");
  await bob.hears(texts.joined("alice"));
});

testNet("lines: CR LF, as telnet sends it, ends a line like LF", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("one\r\ntwo\r");
  await bob.hears("alice: one");
  await alice.sends("\nthree\r\n");
  await bob.hears("alice: two", "alice: three");
});

testNet(
  "lines: an emoji cut in the middle of its bytes stays whole",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.sends(new Uint8Array([0xf0, 0x9f])); // 😀 is F0 9F 98 80
    await bob.says("between");
    await alice.hears("bob: between");
    await alice.sends(new Uint8Array([0x98, 0x80, 0x0a]));
    await bob.hears("alice: 😀");
  },
);

testNet("lines: every byte in a packet of its own is one line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const byte of new TextEncoder().encode("grüß 😀\n")) {
    await bob.says("tick"); // alice hears this: the server has had her byte
    await alice.hears("bob: tick");
    await alice.sends(new Uint8Array([byte]));
  }
  await bob.hears("alice: grüß 😀");
});

testNet("lines: bytes that are no UTF-8 become U+FFFD", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends(new Uint8Array([0xff, 0x61, 0xc3, 0x0a, 0x62, 0x0a]));
  await bob.hears("alice: \uFFFDa\uFFFD", "alice: b");
});

testNet("lines: a long one arrives whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const long = "你".repeat(1_000); // 3,000 bytes
  await alice.says(long, "next");
  await bob.hears(`alice: ${long}`, "alice: next");
});

testNet(
  "lines: what has no newline at the end of the input is one",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.sends("one\nbye");
    await alice.endsInput();
    await bob.hears("alice: one", "alice: bye", texts.left("alice"));
  },
);
