/**
 * Lesson 5: whatever comes from a network is hostile until it has been checked.
 *
 * Anybody can connect and send any bytes. A chat that passes them on lets a
 * stranger clear your screen (ESC), write over the line before (carriage
 * return), turn the direction of what follows, or write a line of its own with
 * another's name before it. So text is cleaned once, before anybody sees it, and
 * it has a limit. Yet emoji and every script stay whole.
 *
 * Try: `printf 'mallory\n\033[2J\033[31mHello\n' | nc -N 127.0.0.1 9999` while
 * somebody looks on with nc, too. Without nc, look at the server's screen, and
 * send it with `printf 'mallory\n\033[2J\033[31mHello\n' |
 * deno run --allow-net client.ts`.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { testNet, TestServer, texts } from "./helpers.ts";

/** The characters from one code point to another. */
function range(from: number, to: number): string {
  const codes = Array.from({ length: to - from + 1 }, (_, n) => from + n);
  return String.fromCodePoint(...codes);
}

testNet("hostile: no control character reaches a screen", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("\x1b[2J\x1b[31mred\x07 alert"); // clears, colours, beeps
  await bob.hears("alice: [2J[31mred alert");
  const c0 = range(0x00, 0x1f).replace(/[\t\n]/g, "");
  for (const controls of [c0, "\x7f", range(0x80, 0x9f)]) {
    await alice.says(`a${controls}b`);
    await bob.hears("alice: ab");
  }
});

testNet(
  "hostile: no control character reaches the server's screen",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("\x1b[2Jone\x9b31m", "two");
    await bob.hears("alice: [2Jone31m", "alice: two");
    assertEquals(server.printed.slice(-2), [
      "📨 alice: [2Jone31m",
      "📨 alice: two",
    ]);
  },
);

testNet("hostile: a tab is a blank, so pasted code stays apart", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("if\tx\treturn");
  await bob.hears("alice: if x return");
});

testNet("hostile: a carriage return cannot write over a line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("Hi\rbob: I owe alice a beer");
  await bob.hears("alice: Hibob: I owe alice a beer");
});

testNet("hostile: Unicode's line separators make no second line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("Hi\u2028bob: no\u2029\u0085\v\fbob: no");
  await bob.hears("alice: Hibob: nobob: no");
});

testNet("hostile: no message turns the direction of what follows", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const [overrides, isolates] = [range(0x202a, 0x202e), range(0x2066, 0x2069)];
  await alice.says(`see ${overrides}gpj.exe${isolates}!`);
  await bob.hears("alice: see gpj.exe!");
});

testNet("hostile: nobody can speak as the server, or as another", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("[SYSTEM] bob left the chat!", "bob: I quit");
  await bob.hears("alice: [SYSTEM] bob left the chat!", "alice: bob: I quit");
});

testNet("hostile: emoji with joiners and every script stay whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const harmless = [
    "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👍🏽 🇺🇳 1️⃣",
    "नमस्ते, שָׁלוֹם, مرحبًا, 你好, こんにちは, สวัสดี, Привет, Γειά",
    "می\u200cخواهم, \u200fשלום!\u200e, e\u0301, soft\u00adhyphen, no\u00a0break",
  ];
  await alice.says(...harmless);
  for (const text of harmless) await bob.hears(`alice: ${text}`);
});

testNet("hostile: a message with nothing to see is not passed on", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("", "  \t ", "\u3000\u00a0", "\x1b\x07", "\u2028\u202e");
  await alice.says("\u200b\u200d\ufeff", "\u3164", "\u00ad", "here I am");
  await bob.hears("alice: here I am");
});

testNet("hostile: a message of 1,000 characters passes whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const char of ["x", "é", "你", "😀"]) { // 1, 2, 3 and 4 bytes each
    await alice.says(char.repeat(1_000), "next");
    await bob.hears(`alice: ${char.repeat(1_000)}`, "alice: next");
  }
});

testNet("hostile: of one of 1,001 only its author is told", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const char of ["x", "😀"]) {
    await alice.says(char.repeat(1_001), "shorter");
    await bob.hears("alice: shorter");
    await alice.hears(
      "[SYSTEM] Message too long: 1,000 characters at most. It was not sent.",
    );
  }
});

testNet("hostile: what is taken out of a message does not count", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("\x07".repeat(500) + "x".repeat(1_000));
  await bob.hears(`alice: ${"x".repeat(1_000)}`);
});

testNet("hostile: a bad name is refused in one harmless line", async () => {
  await using server = new TestServer();
  const visitor = await server.connect();
  const wrong = ["x".repeat(21), "two words", "a:", "[SYSTEM]", ".", "😀"];
  const escapes = ["\x1b[2J", "bob\x07", "bob\rSYSTEM", "bo\u202eb"];
  const invisible = ["\u3164", "\u115f", "bo\u200bb", "bo\u200db", "bob\ufe0f"];
  for (const name of [...wrong, ...escapes, ...invisible, "ＹＯＵ"]) {
    await visitor.says(name);
    assertMatch(
      await visitor.nextLine(),
      /^\[SYSTEM\] \P{C}*\bname\b\P{C}* Enter another name:$/u,
      `for the name ${JSON.stringify(name)} the visitor sees:`,
    );
  }
  await visitor.says("bob");
  await visitor.hears(texts.welcome("bob", "bob"));
});
