/**
 * Lesson 3: the room. A server is a relay: one line in, a line out to everybody
 * else, whole, and in the same order for all.
 *
 * Who owns the list of people, and who writes to a socket? Here one object owns
 * the list, and each socket has one writer. Without that, two who speak at once
 * write into the same socket, and what `write` could not take in one piece ends
 * up in the middle of another line, or nowhere. (A server with a thread for each
 * client needs a lock for both.)
 *
 * Try: join as `sleeper` with `deno run --allow-net client.ts > seen.txt`, press
 * Ctrl+Z, and let bob and carl (two terminals) send much at once:
 * `(echo bob; yes $(printf 'x%.0s' $(seq 900)) | head -c 30000000) |
 * deno run --allow-net client.ts > /dev/null`. Wake the sleeper with `fg`, end it,
 * and count: `grep -vcE '^(bob|carl): x{900}$' seen.txt`.
 */

import { assertEquals } from "@std/assert";
import { startServer } from "../server.ts";
import {
  assertLine,
  assertLines,
  fakeListener,
  messages,
  testNet,
  TestServer,
  texts,
  turn,
} from "./helpers.ts";

testNet(
  "room: what one says all others see, with the name before it",
  async () => {
    await using server = new TestServer();
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    await alice.says("Hello everyone!");
    await bob.hears("alice: Hello everyone!");
    await carol.hears("alice: Hello everyone!");
  },
);

testNet("room: nobody sees what they said themselves", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("mine");
  await bob.hears("alice: mine");
  await bob.says("after it");
  await alice.hears("bob: after it");
});

testNet("room: everybody but the newcomer sees who joined", async () => {
  await using server = new TestServer();
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  await alice.hears("[SYSTEM] bob joined the chat!");
  await alice.says("hi");
  await bob.hears("alice: hi"); // and not that he joined
});

testNet("room: a newcomer sees nothing of what was said before", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("old");
  await bob.hears("alice: old");
  const carol = await server.join("carol");
  await alice.says("new");
  await carol.hears("alice: new");
});

testNet("room: a join comes first, a leave last", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const bob = await server.connect();
  await bob.sends("bob\nfirst\nlast\n");
  await bob.endsInput();
  const said = ["bob: first", "bob: last"];
  await alice.hears(texts.joined("bob"), ...said, texts.left("bob"));
});

testNet(
  "room: blanks in a message stay, a blank message is ignored",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("", "   ", "  two  blanks  ");
    await bob.hears("alice:   two  blanks  ");
  },
);

testNet("room: a thousand lines in one piece arrive in order", async () => {
  await using server = new TestServer();
  const [alice, ...others] = await server.joinAll("alice", "bob", "carol");
  const lines = messages(1_000, 100);
  await alice.says(...lines);
  for (const it of others) await it.hears(...lines.map((l) => `alice: ${l}`));
});

testNet("room: all see the same order, whoever speaks", async () => {
  await using server = new TestServer();
  const [witness, ...speakers] = await server.joinAll(
    "zoe",
    "ann",
    "ben",
    "cy",
  );
  const lines = messages(300, 20);
  for (const line of lines) { // each in a piece of its own
    await Promise.all(speakers.map((speaker) => speaker.says(line)));
  }
  const order: string[] = [];
  while (order.length < 900) order.push(await witness.nextLine());
  await witness.says("the end");
  for (const { name } of speakers) {
    const own = order.filter((line) => line.startsWith(name));
    assertLines(own, lines.map((line) => `${name}: ${line}`), "the witness");
  }
  for (const speaker of speakers) {
    const others = order.filter((line) => !line.startsWith(speaker.name));
    await speaker.hears(...others, "zoe: the end");
  }
});

/** A connection that takes seven bytes at a time, as a slow one may. */
class Narrow {
  readonly remoteAddr = { hostname: "127.0.0.1", port: 1, transport: "tcp" };
  seen = "";
  #said = Promise.withResolvers<string | null>();
  #decoder = new TextDecoder();

  says(text: string | null): void {
    this.#said.resolve(text);
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const text = await this.#said.promise;
    if (text === null) return null;
    this.#said = Promise.withResolvers();
    return new TextEncoder().encodeInto(text, buffer).written;
  }

  async write(bytes: Uint8Array): Promise<number> {
    const part = bytes.slice(0, 7);
    await turn();
    this.seen += this.#decoder.decode(part, { stream: true });
    return part.length;
  }

  closeWrite = () => Promise.resolve();
  close = () => this.says(null);
  setNoDelay() {}
  setKeepAlive() {}
}

Deno.test("room: no line is cut up, though a reader is slow", async () => {
  const [carol, alice] = [new Narrow(), new Narrow()];
  const waiting = [carol, alice];
  const listener = fakeListener(() =>
    waiting.shift() as unknown as Deno.TcpConn | undefined
  );
  const stop = startServer(listener);
  for (
    const [person, text] of [[carol, "carol\n"], [alice, "alice\n"]] as const
  ) {
    person.says(text);
    for (let n = 0; n < 200; n++) await turn(); // enough to see it all
  }
  alice.says("Hello everyone!\n");
  for (let n = 0; n < 200; n++) await turn();
  const lines = carol.seen.split("\n");
  carol.close();
  alice.close();
  await stop();
  const expected = [
    texts.enterName(1),
    texts.welcome("carol", "carol"),
    texts.joined("alice"),
    "alice: Hello everyone!",
  ];
  for (const line of expected) assertLine(lines.shift(), line, "carol");
});

testNet(
  "room: the server's screen shows who comes, speaks and goes",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("Hello everyone!");
    await bob.hears("alice: Hello everyone!");
    alice.hangsUp();
    await bob.hears(texts.left("alice"));
    assertEquals(server.printed, [
      `✅ alice connected from 127.0.0.1:${alice.port}`,
      "[SYSTEM] alice joined the chat!",
      "📊 Active users (1): alice",
      `✅ bob connected from 127.0.0.1:${bob.port}`,
      "[SYSTEM] bob joined the chat!",
      "📊 Active users (2): alice, bob",
      "📨 alice: Hello everyone!",
      "[SYSTEM] alice left the chat!",
    ]);
  },
);
