/**
 * Lesson 3: the room. A server is a relay: one line in, a line out to everybody
 * else, in the same order for all.
 *
 * Who owns the list of people, and when does it change? Here one object does,
 * and between two `await`s nothing else runs. A server with a thread for each
 * client needs a lock around that list; without it, somebody may leave while
 * the list is walked through, and the walk breaks.
 *
 * Try: in `Room.hear` of server.ts leave out the author (`, client`) and see
 * who notices.
 */

import { assertEquals } from "@std/assert";
import { texts } from "../protocol.ts";
import { testNet, TestServer } from "./helpers.ts";

testNet(
  "room: what one says, all others see, with the name before it",
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
  const alice = await server.join("alice");
  const bob = await server.join("bob");
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

testNet(
  "room: a join comes before the first message, the last before the leave",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    const bob = await server.connect();
    await bob.sends("bob\nfirst\nlast\n");
    await bob.endsInput();
    await alice.hears(
      texts.joined("bob"),
      "bob: first",
      "bob: last",
      texts.left("bob"),
    );
  },
);

testNet(
  "room: blanks within a message stay, a blank message is ignored",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("", "   ", "  two  blanks  ");
    await bob.hears("alice:   two  blanks  ");
  },
);

testNet("room: all see the same order, whoever speaks", async () => {
  await using server = new TestServer();
  const names = ["ann", "ben", "cleo", "dan"];
  const speakers = await server.joinAll(...names);
  const [one, two] = await server.joinAll("one", "two");
  for (const speaker of speakers) {
    await speaker.hears(texts.joined("one"), texts.joined("two"));
  }
  const lines = Array.from({ length: 50 }, (_, n) => `line ${n}`);
  await Promise.all(speakers.map((speaker) => speaker.says(...lines)));

  const heard: string[] = [];
  for (let n = 0; n < names.length * lines.length; n++) {
    const line = await one.nextLine();
    heard.push(line);
    await two.hears(line);
  }
  for (const name of names) {
    const own = heard.filter((line) => line.startsWith(name));
    assertEquals(own, lines.map((line) => texts.message(name, line)));
  }
});

testNet(
  "room: a speaker sees the others in that order, too, without gaps",
  async () => {
    await using server = new TestServer();
    const [ann, ben, cleo] = await server.joinAll("ann", "ben", "cleo");
    const lines = Array.from({ length: 200 }, (_, n) => `line ${n}`);
    await Promise.all([ann, ben].map((speaker) => speaker.says(...lines)));
    const all: string[] = [];
    while (all.length < 400) all.push(await cleo.nextLine());
    await ann.hears(...all.filter((line) => line.startsWith("ben")));
    await ben.hears(...all.filter((line) => line.startsWith("ann")));
  },
);

testNet("room: the server's log shows who comes, speaks and goes", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("Hello everyone!");
  await bob.hears("alice: Hello everyone!");
  alice.hangsUp();
  await bob.hears(texts.left("alice"));
  const log = server.log.replace(/^\[\d\d:\d\d:\d\d\] /gm, "").split("\n");
  assertEquals(log, [
    `✅ alice connected from 127.0.0.1:${alice.port}`,
    "[SYSTEM] alice joined the chat!",
    "📊 Active users (1): alice",
    `✅ bob connected from 127.0.0.1:${bob.port}`,
    "[SYSTEM] bob joined the chat!",
    "📊 Active users (2): alice, bob",
    "📨 alice: Hello everyone!",
    "[SYSTEM] alice left the chat!",
    "",
  ]);
});
