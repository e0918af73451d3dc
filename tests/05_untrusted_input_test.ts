/**
 * Lesson 5: untrusted input.
 *
 * A program must not trust what comes from a network until it has checked it, and
 * text is no exception. Control characters are commands for a terminal: they can move
 * the cursor, or clear the screen. Other characters are invisible, or change the
 * direction of the text around them. So a message from a stranger could change what
 * other people see, and who seems to have sent it.
 *
 * To sanitize a text is to remove or replace what is dangerous in it. Web applications
 * escape `<`, and careful programs escape newlines before they write to a log. This
 * server sanitizes each incoming message in one place. It removes only what it must:
 * people write in all scripts, and some emoji need invisible characters.
 */

import { assertEquals } from "@std/assert";
import { announcements, assertLines, TestServer } from "./helpers.ts";

/** Returns all characters from one code point to another, both included. */
function range(from: number, to: number): string {
  const codes = Array.from({ length: to - from + 1 }, (_, n) => from + n);
  return String.fromCodePoint(...codes);
}

// ---------------------------------------------------------- control characters

Deno.test("untrusted input: no control character reaches another member", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // In a terminal, this clears the screen, makes the text red, and rings the bell.
  await alice.sends("\x1b[2J\x1b[31mred\x07 alert");
  await bob.receives("alice: [2J[31mred alert");
  // C0 and C1 are Unicode's two ranges of control characters. A newline ends the
  // message, and a tab has a test of its own.
  const c0 = range(0x00, 0x1f).replace(/[\t\n]/g, "");
  const c1 = range(0x80, 0x9f); // In it, U+009B means the same as ESC [.
  for (const controls of [c0, "\x7f", c1]) {
    await alice.sends(`a${controls}b`);
    await bob.receives("alice: ab");
  }
});

Deno.test("untrusted input: the server prints messages without their control characters", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("\x1b[2Jone\x9b31m", "two");
  await bob.receives("alice: [2Jone31m", "alice: two");
  const screen = server.printed.slice(-2);
  const expected = ["📨 alice: [2Jone31m", "📨 alice: two"];
  assertLines(screen, expected, "the server's own screen");
});

Deno.test("untrusted input: a carriage return cannot overwrite the start of a line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // At the CR, a terminal would move the cursor back, and write over "alice: Hi".
  await alice.sends("Hi\rbob: I owe alice a beer");
  await bob.receives("alice: Hibob: I owe alice a beer");
});

Deno.test("untrusted input: a tab becomes a space, so that the words around it stay apart", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("if\tx\treturn");
  await bob.receives("alice: if x return");
});

Deno.test("untrusted input: a message of control characters only is not broadcast", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("\x07", "\x1b\x9b", " \t\x00 ", "here I am");
  await bob.receives("alice: here I am");
});

// ------------------------------------------------------- misleading characters

Deno.test("untrusted input: the server removes Unicode's separators of lines and paragraphs", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("Hi\u2028bob: no\u2029bob: no");
  await bob.receives("alice: Hibob: nobob: no");
});

Deno.test("untrusted input: the server removes characters that start or end a change of direction", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // Because of the first of these, people would see "see gpj.exe" as "see exe.jpg".
  for (const code of [0x202e, 0x202a, 0x202b, 0x202c, 0x202d]) {
    await alice.sends(`see ${String.fromCodePoint(code)}gpj.exe`);
    await bob.receives("alice: see gpj.exe");
  }
  const isolates = range(0x2066, 0x2069);
  await alice.sends(`see ${isolates}gpj.exe`);
  await bob.receives("alice: see gpj.exe");
});

Deno.test("untrusted input: emoji, quotation marks and text in many scripts are received unchanged", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // Some of these texts need invisible characters, such as the joiners U+200D and U+200C.
  const harmless = [
    "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👍🏽 🇺🇳 1️⃣",
    "नमस्ते, שָׁלוֹם, مرحبًا, 你好, こんにちは, สวัสดี, Привет, Γειά",
    "می\u200cخواهم, \u200fשלום!\u200e, e\u0301, soft\u00adhyphen, no\u00a0break",
    "“Well…” – ‘really?’ • yes",
  ];
  for (const text of harmless) {
    await alice.sends(text);
    await bob.receives(`alice: ${text}`);
  }
});

Deno.test("untrusted input: a message that imitates the server or a member shows its real sender", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("[SYSTEM] bob left the chat!", "bob: I quit");
  await bob.receives(
    "alice: [SYSTEM] bob left the chat!",
    "alice: bob: I quit",
  );
});

// -------------------------------------------------------- invisible characters

Deno.test("untrusted input: a message without a visible character is not broadcast", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const zeroWidth = ["\u200b", "\u200d\u200c", "\ufeff", "\u00ad", "\u2060"];
  const likeSpaces = ["\u3000\u00a0", "\u3164", "\u2800", "\u115f \uffa0"];
  const others = ["\u034f", "\u061c", "\u180e", "\ufe0f", "\u{e0061}"];
  for (const text of [...zeroWidth, ...likeSpaces, ...others]) {
    await alice.sends(text, "here I am");
    await bob.receives("alice: here I am");
  }
});

// ---------------------------------------------------------- messages too long

Deno.test("untrusted input: the server refuses a message of 1,001 characters, and tells the sender", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // In UTF-8, these characters have 1, 2, 3 and 4 bytes.
  for (const char of ["x", "é", "你", "😀"]) {
    await alice.sends(char.repeat(1_001), "shorter");
    await bob.receives("alice: shorter");
    await bob.sends("after it");
    await alice.receives(announcements.messageTooLong, "bob: after it");
  }
});

Deno.test("untrusted input: a message of 1,000 characters is received whole, even with 4,000 bytes", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const char of ["x", "é", "你", "😀"]) {
    await alice.sends(char.repeat(1_000), "next");
    await bob.receives(`alice: ${char.repeat(1_000)}`, "alice: next");
  }
});

Deno.test("untrusted input: removed characters do not count towards the length of a message", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("\x07".repeat(500) + "x".repeat(1_000), "next");
  await bob.receives(`alice: ${"x".repeat(1_000)}`, "alice: next");
});

// --------------------------------------------------------------- HTTP requests

// A web page can make its visitor's browser send a request to the port of the chat.
Deno.test("untrusted input: the server rejects an HTTP request, and no member receives its lines", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const requests = ["GET / HTTP/1.1", "POST /x HTTP/1.0", "OPTIONS * HTTP/1.1"];
  for (const request of requests) {
    const browser = await server.connect("the browser");
    // `sends` adds LF to each line. With the CR before it, lines end as in HTTP.
    await browser.sends(`${request}\r`, "Host: chat\r", "\r", "Buy now!");
    await browser.receives(announcements.notAWebServer);
    await browser.isDisconnected();
  }
  await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  const spam = server.printed.filter((line) => line.includes("Buy now!"));
  assertEquals(spam, [], "The server prints what the browser said");
});

Deno.test("untrusted input: a name may be GET, a word with which many HTTP requests begin", async () => {
  await using server = new TestServer();
  await server.join("GET");
});

Deno.test("untrusted input: a member may send a message that looks like an HTTP request", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("GET / HTTP/1.1");
  await bob.receives("alice: GET / HTTP/1.1");
});
