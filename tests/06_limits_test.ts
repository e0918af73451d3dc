/**
 * Lesson 6: everything has a limit, and the limit has a consequence.
 *
 * A line that never ends fills the memory. A connection that never gives a name
 * keeps a place for ever. A thousand more fill the machine. And a check that is
 * slow for odd input stops everybody: NFKC takes more than a second for 64 KiB
 * of combining marks. So each of these has a limit, the sentence says which, and
 * cheap checks come before costly ones.
 *
 * Try: `(echo mallory; head -c 200000000 /dev/zero | tr '\0' x) |
 * nc 127.0.0.1 9999` and watch the server's memory in `top`. Without nc, put
 * `deno run --allow-net client.ts` in its place: it has the limit of its own.
 */

import { assert } from "@std/assert";
import { memoryOf, messages, testNet, testRun } from "./helpers.ts";
import { TestServer, texts, within } from "./helpers.ts";
import { Server } from "./programs.ts";

// ------------------------------------------------------------- long lines

testNet("limits: of 64 KiB or more the rest is thrown away", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const length of [65_535, 65_536, 65_537, 1_000_000, 8_000_000]) {
    await alice.sends("x".repeat(length) + "\nstill here\n");
    await alice.hears(texts.messageTooLong); // once, and alice stays
    await bob.hears("alice: still here");
  }
});

testNet(
  "limits: what has nothing to see, but no end, is too long",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.sends("\x07".repeat(100_000) + "\nstill here\n");
    await bob.hears("alice: still here");
    await bob.says("after it");
    await alice.hears(texts.messageTooLong, "bob: after it");
  },
);

testNet("limits: lines around one that is too long are not lost", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const lines = messages(500, 100);
  await alice.sends(lines.join("\n") + "\n" + "x".repeat(300_000) + "\n");
  await alice.says(...lines);
  const said = lines.map((line) => `alice: ${line}`);
  await bob.hears(...said, ...said);
  await alice.hears(texts.messageTooLong);
});

testNet(
  "limits: a name of megabytes is refused, and nothing else",
  async () => {
    await using server = new TestServer();
    const newcomer = await server.connect();
    await newcomer.sends("x".repeat(2_000_000) + "\n" + " ".repeat(70_000));
    await newcomer.sends("\nalice\n");
    const tooLong =
      "[SYSTEM] A name has at most 20 characters. Enter another name:";
    await newcomer.hears(tooLong, tooLong, texts.welcome("alice", "alice"));
  },
);

testRun(
  "limits: a line without an end does not fill the memory",
  async () => {
    await using server = await Server.start();
    const [alice, bob] = [
      await server.join("alice"),
      await server.join("bob"),
    ];
    await alice.hears(texts.joined("bob"));
    const before = await memoryOf(server.pid);
    const piece = "x".repeat(1_000_000);
    for (let n = 0; n < 16; n++) await alice.sends(piece);
    await bob.says("between"); // by now the server has had nearly all of that
    await alice.hears("bob: between");
    const grown = await memoryOf(server.pid) - before;
    assert(grown < 30, `16 MB without a newline took ${grown.toFixed()} MB`);
  },
  ["linux"],
);

// ------------------------------------------- cheap checks before costly ones

testNet("limits: names that are costly to check stop nobody", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const costly = ["\u0301".repeat(60_000), "\ufdfa".repeat(20_000)];
  for (const typed of [...costly, "a" + "\u0301\u0323".repeat(30_000)]) {
    const start = performance.now();
    await newcomer.says(typed);
    await newcomer.nextLine(); // the server and this test share one thread
    const ms = performance.now() - start;
    assert(ms < 300, `for ${ms.toFixed()} ms nobody else was heard`);
  }
});

// ------------------------------------------------------------ time and space

testNet("limits: whoever gives no name in time has to go", async () => {
  await using server = new TestServer({ nameTimeoutMs: 300 });
  const alice = await server.join("alice");
  const [silent, busy] = [await server.connect(), await server.connect()];
  await busy.says("two words"); // who tries in vain has to go, too
  await busy.nextLine();
  for (const visitor of [silent, busy]) {
    await within(
      2_000,
      visitor.hears("[SYSTEM] No name given in time. Goodbye!"),
      "Somebody gave no name, and is still connected after 2 s",
    );
    await visitor.isHungUpOn();
  }
  await server.join("bob"); // alice has her name: she is still here, and heard
  await alice.hears(texts.joined("bob")); // nothing about those two
});

testNet(
  "limits: when the room is full, one more is told, and goes",
  async () => {
    await using server = new TestServer({ maxClients: 2 });
    const alice = await server.join("alice");
    const unnamed = await server.connect(); // takes a place, too
    const late = await server.visit();
    await late.hears("[SYSTEM] The chat is full. Try again later.");
    await late.isHungUpOn();
    await unnamed.says("bob");
    await alice.hears(texts.joined("bob")); // nothing about the late one
  },
);

testNet("limits: who has left, in whatever way, takes no place", async () => {
  await using server = new TestServer({ maxClients: 2 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  alice.hangsUp();
  await bob.hears(texts.left("alice"));
  const carol = await server.join("carol");
  await bob.hears(texts.joined("carol"));
  await carol.endsInput();
  await carol.isHungUpOn();
  await bob.hears(texts.left("carol"));
  await server.join("dave");
});
