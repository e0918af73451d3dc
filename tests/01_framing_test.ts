/**
 * Lesson 1: framing.
 *
 * TCP carries a stream of bytes. Unless the connection breaks, all of them arrive, in
 * order. But TCP does not keep the boundaries between writes: the bytes of one read,
 * called a chunk here, may be a part of one write, or come from several writes. So a
 * protocol needs framing: a rule that says where a message ends. One common way is a
 * delimiter: this chat ends each message with a newline (LF), SMTP and IRC end a line
 * with CR LF. Another way is a length before each message, as in HTTP/2, TLS, and the
 * protocols of PostgreSQL and MySQL.
 *
 * Characters have the same problem: UTF-8 encodes every character outside ASCII in
 * two to four bytes, and these bytes may arrive in different chunks.
 */

import { fail } from "@std/assert";
import {
  announcements,
  assertLines,
  inTime,
  type Person,
  quote,
  testProgram,
  TestServer,
} from "./helpers.ts";
import { FakeServer, Program } from "./programs.ts";

const encoder = new TextEncoder();

/**
 * Sends a line from the speaker to the listener. When the line arrives, the server has
 * had time to read what others sent before.
 */
async function serverHasRead(speaker: Person, listener: Person): Promise<void> {
  await speaker.sends("in between");
  await listener.receives(`${speaker.name}: in between`);
}

Deno.test("framing: three lines in one chunk are three messages", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw("one\ntwo\nthree\n");
  await bob.receives("alice: one", "alice: two", "alice: three");
});

Deno.test("framing: the server keeps half a line until the other half arrives", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw("Hello ");
  await serverHasRead(bob, alice);
  await alice.sendsRaw("everyone!\n");
  await bob.receives("alice: Hello everyone!");
});

Deno.test("framing: the server sends a whole line, even if the next line is incomplete", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw("one\ntw");
  await bob.receives("alice: one");
  await alice.sendsRaw("o\n");
  await bob.receives("alice: two");
});

Deno.test("framing: a name and a message in one chunk are two lines", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const alice = await server.connect("alice");
  await alice.sendsRaw("alice\nHello\n");
  await bob.receives(announcements.joined("alice"), "alice: Hello");
});

Deno.test("framing: a name that arrives in two halves is one name", async () => {
  await using server = new TestServer();
  const [bob, carol] = await server.joinAll("bob", "carol");
  const alice = await server.connect("alice");
  await alice.sendsRaw("al");
  await serverHasRead(carol, bob);
  await alice.sendsRaw("ice\n");
  await bob.receives(announcements.joined("alice"));
});

Deno.test("framing: a line may end with CR LF, as telnet ends it", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // The second CR and its LF arrive in different chunks.
  await alice.sendsRaw("one\r\ntwo\r");
  await bob.receives("alice: one");
  await alice.sendsRaw("\nthree\r\n");
  await bob.receives("alice: two", "alice: three");
});

Deno.test("framing: an emoji whose bytes arrive in two chunks is received whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw(new Uint8Array([0xf0, 0x9f])); // 😀 is f0 9f 98 80.
  await serverHasRead(bob, alice);
  await alice.sendsRaw(new Uint8Array([0x98, 0x80, 0x0a]));
  await bob.receives("alice: 😀");
});

Deno.test("framing: a line that arrives byte by byte is one message", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const byte of encoder.encode("grüß 😀\n")) {
    await serverHasRead(bob, alice);
    await alice.sendsRaw(new Uint8Array([byte]));
  }
  await bob.receives("alice: grüß 😀");
});

Deno.test("framing: bytes that are not valid UTF-8 become U+FFFD", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const [a, b, newline] = [0x61, 0x62, 0x0a];
  // The byte ff is never valid. The byte c3 needs another byte after it.
  await alice.sendsRaw(new Uint8Array([0xff, a, 0xc3, newline, b, newline]));
  await bob.receives("alice: \ufffda\ufffd", "alice: b");
});

Deno.test("framing: a FIN ends the sender's last line, even in the middle of a character", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw("one\nbye");
  await alice.sendsRaw(new Uint8Array([0xc3])); // This is the first byte of ü.
  await alice.halfCloses();
  await bob.receives("alice: one", "alice: bye\ufffd");
  await bob.receives(announcements.left("alice"));
});

Deno.test("framing: the server keeps the character U+FEFF at the start of a line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  // At the start of a text, U+FEFF is a byte order mark, and by default a TextDecoder
  // removes it. That would happen here if each chunk were decoded as a text of its own.
  await alice.sends("\ufeffHello");
  await bob.receives("alice: \ufeffHello");
});

// ---------------------------------------------------------- bytes on the wire

/** Formats bytes as text, with two hexadecimal digits for each byte. */
function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function bytesOf(hexDigits: string): Uint8Array {
  return Uint8Array.from(hexDigits.split(" "), (byte) => parseInt(byte, 16));
}

/** Receives bytes until they end with `last`. Returns them as hexadecimal digits. */
async function receivesBytesUntil(person: Person, last: string) {
  const buffer = new Uint8Array(1_024);
  let received = "";
  while (!received.endsWith(last)) {
    const reading = person.conn.read(buffer);
    const count = await inTime(reading, person.name, `the bytes ${last}`);
    received = `${received} ${hex(buffer.subarray(0, count ?? 0))}`.trim();
    if (count === null) break;
  }
  return received;
}

function describe(hexDigits: string): string {
  const text = new TextDecoder().decode(bytesOf(hexDigits));
  return `${hexDigits}\n  ${quote(text)}`;
}

Deno.test("framing: the server ends each message with LF, even if the sender used CR LF", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("al", "bob");
  const input = [
    "48 69 0d 0a", // Hi, CR, LF
    "c3 bc 0a", // ü, LF
  ];
  const output = [
    "61 6c 3a 20 48 69 0a", // al: Hi, LF
    "61 6c 3a 20 c3 bc 0a", // al: ü, LF
    "61 6c 3a 20 2e 0a", // al: ., LF
  ];
  await alice.sendsRaw(bytesOf(input.join(" ")));
  await alice.sendsRaw(bytesOf("2e 0a")); // The last message is a dot.
  const received = await receivesBytesUntil(bob, "2e 0a");
  const expected = output.join(" ");
  if (received === expected) return;
  fail(`bob should receive these bytes:
  ${describe(expected)}
but receives:
  ${describe(received)}`);
});

// ----------------------------------------------------------------- the client

/** Starts client.ts, which connects to the given server. */
function startClient(server: FakeServer): Program {
  const address = ["127.0.0.1", `${server.port}`];
  return new Program(["--allow-net", "client.ts", ...address]);
}

/** Accepts the client's connection, asks for a name, and welcomes the client as alice. */
async function welcome(server: FakeServer, client: Program): Promise<Person> {
  const conn = await server.accept();
  await conn.sends(announcements.enterName(1));
  client.types("alice\n");
  await conn.receives("alice");
  await conn.sends(announcements.welcome("alice", "alice"));
  return conn;
}

testProgram(
  "framing: the client shows a line that arrives byte by byte as one line",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server);
    const conn = await welcome(server, client);
    for (const byte of encoder.encode("bob: grüß 😀\n")) {
      await conn.sendsRaw(new Uint8Array([byte]));
      // When this line arrives, the client has had time to read the byte.
      client.types("so far\n");
      await conn.receives("so far");
    }
    await conn.sends("bob: the end");
    await client.stdout.shows(/the end\n/);
    const shown = client.stdout.text.trimEnd().split("\n");
    const welcomeLine = shown.findIndex((line) => line.includes("Welcome"));
    assertLines(
      shown.slice(welcomeLine + 1),
      ["bob: grüß 😀", "bob: the end"],
      "alice, at the client,",
    );
  },
);

testProgram(
  "framing: a line that is typed in the client may end with CR LF",
  async () => {
    using server = new FakeServer();
    await using client = startClient(server);
    const conn = await welcome(server, client);
    client.types("one\r\nquit\r\nnot sent\n");
    await conn.receives("one");
    await conn.isDisconnected();
  },
);
