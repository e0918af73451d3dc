/**
 * Lesson 2: a protocol has states.
 *
 * The same line means one thing before a client has a name, and another after.
 * Until then it is nobody: it hears nothing, and nothing that it sends reaches
 * anyone. Without states, a chat shows the words of people who have not come
 * in, and two of them may be called alice.
 *
 * Try: join with `nc 127.0.0.1 9999` as `Alice`, then from a second `nc` as
 * `ａｌｉｃｅ`; then leave, and take the name again.
 */

import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { checkName, nameKey, texts } from "../protocol.ts";
import { testNet, TestServer } from "./helpers.ts";

/** The name that is made of what was typed; the refusal, if it is one. */
function nameOf(typed: string): string {
  const check = checkName(typed);
  return "name" in check ? check.name : check.refusal;
}

Deno.test("names: letters, digits and marks of any script, and . - _", () => {
  for (const name of ["a", "7", "Zoë", "李小龍", "Олег", "अजय", "a.b-c_d"]) {
    assertEquals(nameOf(name), name);
  }
});

Deno.test("names: surrounding blanks do not count", () => {
  assertEquals(nameOf("  alice \t"), "alice");
});

Deno.test("names: letters that only look different are made the same", () => {
  assertEquals(nameOf("ａｌｉｃｅ"), "alice");
  assertEquals(nameOf("e\u0301va"), "\u00e9va");
});

Deno.test("names: 20 characters pass, 21 do not, and an emoji would not count twice", () => {
  assertEquals(nameOf("𝒶".repeat(20)), "a".repeat(20));
  assertMatch(nameOf("a".repeat(21)), /name has at most 20 characters/);
});

Deno.test("names: nothing else is one", () => {
  const wrong = [
    "two words",
    "_a",
    "-a",
    ".a",
    "a!",
    "😀",
    "a\u001b[31m",
    "a:",
  ];
  for (const typed of [...wrong, "\u0301a", "a\u200bb", "\u3164", "a\u202eb"]) {
    assertMatch(nameOf(typed), /^A name has letters/, JSON.stringify(typed));
  }
});

Deno.test("names: SYSTEM and You are taken for ever, however they are written", () => {
  for (const typed of ["SYSTEM", "system", "You", "YOU", "ｙｏｕ"]) {
    assertMatch(nameOf(typed), /^The name \S+ is reserved\.$/, typed);
  }
});

Deno.test("names: two are the same if only their case differs", () => {
  assertEquals(nameKey("Alice"), nameKey("aLICE"));
  assertEquals(nameKey("ΟΔΟΣ"), nameKey("οδος"));
  assertNotEquals(nameKey("alice"), nameKey("alicia"));
});

testNet(
  "names: who connects is asked for one, and offered one with its port",
  async () => {
    await using server = new TestServer();
    const newcomer = await server.connect(); // has seen texts.enterName(port)
    await newcomer.says("");
    const name = `User_${newcomer.port}`;
    await newcomer.hears(
      `[SYSTEM] Welcome, ${name}! Active users (1): ${name}`,
    );
  },
);

testNet("names: the welcome lists everybody who is here", async () => {
  await using server = new TestServer();
  await server.joinAll("bob", "carol");
  const alice = await server.connect();
  await alice.says("alice");
  await alice.hears(
    "[SYSTEM] Welcome, alice! Active users (3): alice, bob, carol",
  );
});

testNet("names: the welcome lists twenty, and counts the others", async () => {
  await using server = new TestServer();
  for (let n = 1; n <= 21; n++) await server.join(`user${n}`);
  const newcomer = await server.connect();
  await newcomer.says("zoe");
  const welcome = await newcomer.nextLine();
  assertEquals(welcome.split(",").length - 1, 20, welcome);
  assertMatch(welcome, / Active users \(22\): .*, zoe and 2 more$/);
});

testNet(
  "names: one that is taken is refused, in whatever case, and one may try again",
  async () => {
    await using server = new TestServer();
    await server.join("alice");
    const newcomer = await server.connect();
    await newcomer.says("ALICE", "bob");
    await newcomer.hears(
      "[SYSTEM] The name ALICE is taken. Enter another name:",
      "[SYSTEM] Welcome, bob! Active users (2): alice, bob",
    );
  },
);

testNet(
  "names: when somebody has User_PORT already, the server finds another",
  async () => {
    await using server = new TestServer();
    const alice = await server.connect();
    const bob = await server.connect();
    await alice.says(`user_${bob.port}`);
    await alice.nextLine();
    await bob.says("");
    assertMatch(await bob.nextLine(), /^\[SYSTEM\] Welcome, User_\d+_2! /);
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

testNet("names: without one, a client hears nothing of the chat", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("a secret");
  await bob.hears("alice: a secret"); // so it has been sent to everybody
  await newcomer.says("carol");
  await newcomer.hears(
    "[SYSTEM] Welcome, carol! Active users (3): alice, bob, carol",
  );
});

testNet(
  "names: without one, nobody hears of a client, not even that it went",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    const newcomer = await server.connect();
    await newcomer.says("not a name!");
    await newcomer.nextLine();
    newcomer.hangsUp();
    await server.join("bob");
    await alice.hears(texts.joined("bob"));
  },
);

testNet(
  "names: who does not give one in time is told, and hung up on",
  async () => {
    await using server = new TestServer({ nameTimeoutMs: 50 });
    const newcomer = await server.connect();
    await newcomer.hears("[SYSTEM] No name given in time. Goodbye!");
    await newcomer.isHungUpOn();
  },
);

testNet("names: who gave one in time may stay", async () => {
  await using server = new TestServer({ nameTimeoutMs: 300 });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const late = await server.connect(); // its time ends after theirs would have
  await late.hears(texts.noName);
  await alice.says("still here");
  await bob.hears("alice: still here");
});
