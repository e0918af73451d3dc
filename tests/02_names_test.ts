/**
 * Lesson 2: a protocol has states.
 *
 * The same line means one thing before a client has a name, and another after.
 * Until then it is nobody: it hears nothing, and nothing that it sends reaches
 * anyone. Without states, a chat shows the words of people who have not come
 * in; without rules for names, two of them are called alice, and a third SYSTEM.
 *
 * Try: join with `nc 127.0.0.1 9999` as `Alice`, then from a second terminal as
 * `ａｌｉｃｅ`. Without nc: `deno run --allow-net client.ts`, twice.
 */

import { assertEquals, assertMatch } from "@std/assert";
import {
  assertLine,
  type Person,
  testNet,
  TestServer,
  texts,
} from "./helpers.ts";

/** Fails unless this is made of what is typed; 'A name has' or so refuses it. */
async function becomes(
  visitor: Person,
  typed: string,
  expected: string,
): Promise<void> {
  await visitor.says(typed);
  const line = await visitor.nextLine();
  const { name, why } = /^\[SYSTEM\] (Welcome, (?<name>[^!]+)!|(?<why>.*))/
    .exec(line)?.groups ?? {};
  const answer = name ?? why?.slice(0, expected.length);
  assertLine(answer, expected, `Who types ${JSON.stringify(typed)}`);
}

testNet(
  "names: letters, digits and marks of any script, and . - _",
  async () => {
    await using server = new TestServer();
    for (const name of ["a", "7", "Zoë", "李小龍", "Олег", "अजय", "a.b-c_d"]) {
      await becomes(await server.connect(), name, name);
    }
  },
);

testNet("names: surrounding blanks do not count", async () => {
  await using server = new TestServer();
  await becomes(await server.connect(), "  alice \t", "alice");
});

testNet(
  "names: letters that only look different are made the same",
  async () => {
    await using server = new TestServer();
    await becomes(await server.connect(), "ａｌｉｃｅ", "alice");
    await becomes(await server.connect(), "e\u0301va", "\u00e9va");
  },
);

testNet(
  "names: 20 characters pass, 21 do not, and none counts twice",
  async () => {
    await using server = new TestServer();
    const long = "A name has at most 20 characters. Enter another name:";
    const visitor = await server.connect();
    await becomes(visitor, "a".repeat(21), long);
    await becomes(visitor, "\u{20000}".repeat(21), long);
    await becomes(visitor, "\u{20000}".repeat(20), "\u{20000}".repeat(20));
  },
);

testNet("names: nothing else is one", async () => {
  await using server = new TestServer();
  const visitor = await server.connect();
  const wrong = ["two words", "_a", "-a", ".a", "a!", "😀", "a:", "\u0301a"];
  const invisible = ["a\u001b[31m", "a\u200bb", "\u3164", "a\u202eb"];
  for (const typed of [...wrong, ...invisible]) {
    await becomes(visitor, typed, "A name has letters, digits and");
  }
  await becomes(visitor, "alice", "alice"); // one may try again
});

testNet("names: SYSTEM and You belong to nobody", async () => {
  await using server = new TestServer();
  const visitor = await server.connect();
  for (const typed of ["SYSTEM", "system", "You", "YOU"]) {
    await becomes(visitor, typed, `The name ${typed} is reserved.`);
  }
  await becomes(visitor, "ｙｏｕ", "The name you is reserved.");
});

testNet("names: one that is taken is refused, in whatever case", async () => {
  await using server = new TestServer();
  await server.joinAll("alice", "οδος", "strasse");
  const newcomer = await server.connect();
  for (const taken of ["alice", "ALICE", "ΟΔΟΣ", "straße"]) {
    await newcomer.says(taken);
    await newcomer.hears(
      `[SYSTEM] The name ${taken} is taken. Enter another name:`,
    );
  }
  await becomes(newcomer, "alicia", "alicia");
});

testNet("names: who connects is offered one with its port", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect(); // has seen texts.enterName(port)
  await newcomer.says("");
  const name = `User_${newcomer.port}`;
  await newcomer.hears(texts.welcome(name, name));
});

testNet(
  "names: if somebody has User_PORT, the server finds another",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = [await server.connect(), await server.connect()];
    await becomes(alice, `user_${bob.port}`, `user_${bob.port}`);
    await becomes(bob, "", `User_${bob.port}_2`);
  },
);

testNet("names: one is free again as soon as its owner has left", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  alice.hangsUp();
  await bob.hears(texts.left("alice"));
  await server.join("Alice");
  await bob.hears(texts.joined("Alice"));
});

testNet(
  "names: the welcome lists everybody who is here, in order",
  async () => {
    await using server = new TestServer();
    await server.joinAll("carol", "Bob");
    const alice = await server.connect();
    await alice.says("alice");
    await alice.hears(texts.welcome("alice", "alice", "Bob", "carol"));
  },
);

testNet("names: the welcome lists twenty, and counts the others", async () => {
  await using server = new TestServer();
  for (let n = 1; n <= 21; n++) await server.join(`user${n}`);
  const newcomer = await server.connect();
  await newcomer.says("zoe");
  const welcome = await newcomer.nextLine();
  assertMatch(welcome, / Active users \(22\): .*, zoe and 2 more$/);
  assertEquals(welcome.split(",").length - 1, 20, welcome);
});

testNet("names: without one, a client hears nothing of the chat", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("a secret");
  await bob.hears("alice: a secret"); // so it has been sent to everybody
  await newcomer.says("carol");
  await newcomer.hears(texts.welcome("carol", "alice", "bob", "carol"));
});

testNet("names: without one, nobody hears of a client", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const newcomer = await server.connect();
  await newcomer.says("not a name!");
  await newcomer.nextLine();
  newcomer.hangsUp();
  await server.join("bob");
  await alice.hears(texts.joined("bob")); // and not that somebody went
  assertEquals(server.printed.filter((it) => it.includes("not a name")), []);
});
