/**
 * Exercise 26: telnet and PuTTY as full members.
 *
 * `nc` sends what a person types, and nothing else. A telnet client also sends commands
 * to the server, between the bytes of the text, and our server takes them for text. See
 * it: start the server, the proxy and telnet, each in a terminal.
 *
 *     deno task server
 *     deno task proxy
 *     telnet 127.0.0.1 9998
 *
 * Give a name, and press Ctrl+C. The proxy shows "\xff\xf4\xff\xfd\u{6}". From now on,
 * telnet shows nothing that others say: it waits for an answer. PuTTY begins with seven
 * commands, so its first name is always refused. Try `plink -telnet -P 9998 127.0.0.1`.
 *
 * A command begins with the byte ff, which is called IAC, "interpret as command". UTF-8
 * never contains this byte, so commands and text cannot be confused:
 *
 *     ff f4                 ff, and a byte from ec to f9; f4 is Ctrl+C
 *     ff fd 06              ff, a byte from fb to fe, and the number of an option
 *     ff fa 18 00 ff f0     a subnegotiation: details about an option
 *     ff ff                 no command, but one byte ff; in a subnegotiation, too
 *
 * The bytes from fb to fe are WILL, WONT, DO and DONT. A client requests something with
 * two of them: "I WILL use this option", and "DO use this option". Whoever refuses
 * answers DONT to WILL, and WONT to DO.
 *
 * What to build:
 *
 *   - Commands are removed, and nothing else. A chunk may end between any two bytes.
 *     After ff, a byte below ec is no command: both are text, as now. A subnegotiation
 *     has at most 1,024 bytes. If it does not end before, text begins again.
 *   - Each request is refused once: the answer to `ff fd 06` is `ff fc 06`, and the
 *     answer to `ff fb 1f` is `ff fe 1f`. Nothing else is answered. A client that does
 *     not read its answers is not read either.
 *   - A client that has sent a command receives `\r\n` at the end of each line. In
 *     PuTTY, lines that end with `\n` alone make stairs. Everybody else receives the
 *     same bytes as before.
 *   - A telnet client in character mode sends each key at once. There, Enter is `\r\0`,
 *     which ends a line, too. Backspace is 08, 7f or `ff f7`, and what was rubbed out
 *     must not be said. This is for all clients that end lines with `\r\0` or `\r\n`,
 *     also if they send no command. From a client that ends lines with `\n` alone, 7f
 *     rubs out nothing: a lesson claims that.
 *
 * First rung: remove the commands, and answer none. Then the first four tests are
 * green. Each of the other three points is a rung of its own.
 *
 * Begin in protocol.ts at `readText`, where bytes become text. From the second rung on,
 * you also need `Client` in server.ts.
 *
 * Hints:
 *
 *   - What the next byte means depends on those before it. A machine with some states
 *     remembers that from one chunk to the next: in text, after ff, before an option,
 *     in a subnegotiation. Draw it first.
 *   - A socket has one writer at a time. The send loop of a member is one send, and it
 *     lasts until the member leaves. When would an answer behind it be sent?
 *   - A client may flood you with requests. What if you read its next chunk only when
 *     the answers to this one have been sent?
 *   - Commands make no line. Lesson 12 says what happens if a client sends thousands of
 *     them and nothing else.
 *   - Receivers share their batches. Not all of them are telnet clients.
 *   - Each key comes in a chunk of its own. So what is rubbed out may have gone through
 *     the decoder long before. When is all of it in one place?
 *   - A line of more than 4,096 units loses its end. What if Backspaces are lost?
 *
 *     deno task learn 26
 *     deno test tests/exercises/26_telnet.ts
 *     deno test -A tests/exercises/26_telnet.ts      also with telnet and plink
 */

import { assert, fail } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  inTime,
  type Person,
  quote,
  settled,
  testProgram,
  TestServer,
  turn,
  type VisitOptions,
} from "../helpers.ts";
import { Pipe } from "../programs.ts";
import { Terminal, testTerminal } from "../terminal.ts";

// ------------------------------------------------------------ bytes, to and fro

const IAC = 0xff;
const DONT = 0xfe;
const DO = 0xfd;
const WONT = 0xfc;
const WILL = 0xfb;

const TIMING_MARK = 0x06;
const NO_OPERATION = [IAC, 0xf1];
/** What Linux telnet sends for Ctrl+C: the second command asks for an answer. */
const CTRL_C = [IAC, 0xf4, IAC, DO, TIMING_MARK];
const CTRL_C_ANSWER = [IAC, WONT, TIMING_MARK];
/** What Enter is in character mode. */
const ENTER = "\r\0";

/** The first bytes of PuTTY: seven requests. */
const PUTTY_OPENING = [
  ...[IAC, WILL, 0x1f],
  ...[IAC, WILL, 0x20],
  ...[IAC, WILL, 0x18],
  ...[IAC, WILL, 0x27],
  ...[IAC, DO, 0x01],
  ...[IAC, WILL, 0x03],
  ...[IAC, DO, 0x03],
];

type Part = string | number[];

/** Joins bytes and texts. A text is encoded as UTF-8. */
function bytesOf(...parts: Part[]): Uint8Array {
  const encoder = new TextEncoder();
  const bytes = parts.flatMap((part) =>
    typeof part === "string" ? [...encoder.encode(part)] : part
  );
  return Uint8Array.from(bytes);
}

function decode(bytes: Iterable<number>): string {
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

/** Bytes as a person can read them: commands look like `<ff fd 06>`. */
function show(bytes: Uint8Array): string {
  const hex = (byte: number) => byte.toString(16).padStart(2, "0");
  let shown = "";
  let text: number[] = [];
  for (let n = 0; n < bytes.length; n++) {
    if (bytes[n] !== IAC) {
      text.push(bytes[n]!);
      continue;
    }
    const length = bytes[n + 1]! >= WILL ? 3 : 2;
    const command = [...bytes.subarray(n, n + length)].map(hex).join(" ");
    shown += decode(text) + `<${command}>`;
    text = [];
    n += length - 1;
  }
  return quote(shown + decode(text));
}

/** Reads bytes. Fails at the end of the connection, and if nothing arrives. */
async function read(person: Person, buffer: Uint8Array): Promise<number> {
  const reading = person.conn.read(buffer);
  const count = await inTime(reading, person.name, "bytes");
  return count ?? fail(`${person.name} was disconnected`);
}

/** Fails unless exactly these bytes are received next. */
async function receivesBytes(person: Person, ...parts: Part[]): Promise<void> {
  const expected = bytesOf(...parts);
  const seen = new Uint8Array(expected.length);
  let count = 0;
  while (count < expected.length) {
    count += await read(person, seen.subarray(count));
    const wrong = seen.findIndex((byte, n) => byte !== expected[n]);
    if (wrong === -1 || wrong >= count) continue;
    const start = Math.max(0, wrong - 30); // Before that, all is right.
    const end = Math.min(wrong + 90, count);
    fail(
      `${person.name} should receive:\n` +
        `  ${show(expected.subarray(start, wrong + 90))}\n` +
        `but receives:\n  ${show(seen.subarray(start, end))}`,
    );
  }
}

/** Receives bytes up to a text. */
async function receivesBytesUntil(
  person: Person,
  last: string,
): Promise<Uint8Array> {
  const bytes: number[] = [];
  const buffer = new Uint8Array(1);
  while (!decode(bytes).includes(last)) {
    await read(person, buffer);
    bytes.push(buffer[0]!);
  }
  return Uint8Array.from(bytes);
}

/** Sends bytes and texts in one chunk. */
function sendsBytes(person: Person, ...parts: Part[]): Promise<void> {
  return person.sendsRaw(bytesOf(...parts));
}

/** Resolves when the server has read all that a person has sent: in memory only. */
async function isRead(person: Person): Promise<void> {
  while (person.bytesUnreadByServer > 0) await turn();
  await turn();
}

/** Sends each byte alone, as a client in character mode does with keys. In memory only. */
async function types(person: Person, ...parts: Part[]): Promise<void> {
  for (const byte of bytesOf(...parts)) {
    await person.sendsRaw(Uint8Array.of(byte));
    await isRead(person);
  }
}

/** A member whose bytes the test looks at. */
async function joinWithBytes(
  server: TestServer,
  name: string,
  others: Person[],
  options?: VisitOptions,
): Promise<Person> {
  const person = await server.visit(name, options);
  await receivesBytes(person, announcements.enterName(person.port) + "\n");
  await person.sends(name);
  const names = [...others.map((other) => other.name), name];
  await receivesBytes(person, announcements.welcome(name, ...names) + "\n");
  for (const other of others) await other.receives(announcements.joined(name));
  return person;
}

// --------------------------------------------------- first rung: remove commands

Deno.test("telnet: the opening of PuTTY does not spoil the first name", async () => {
  await using server = new TestServer();
  const zoe = await server.connect("zoë");
  await sendsBytes(zoe, PUTTY_OPENING, "zoë\r\n");
  const line = await zoe.nextLine();
  const isWelcome = line.includes(announcements.welcome("zoë", "zoë"));
  assert(isWelcome, `zoë should be welcomed\nbut receives:\n  ${quote(line)}`);
});

Deno.test("telnet: a command is removed as a whole, and no byte besides", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const commands = [
    NO_OPERATION,
    [IAC, 0xf4], // Ctrl+C
    [IAC, 0xec], // Ctrl+D in PuTTY
    [IAC, DO, 0x41], // The number of this option is also that of an A.
    [IAC, WILL, 0x0a], // This one looks like a newline,
    [IAC, WONT, 0xf0], // this one like a command,
    [IAC, DONT, 0xff], // and this one like IAC.
    [...CTRL_C, ...NO_OPERATION, ...PUTTY_OPENING],
  ];
  for (const command of commands) {
    await sendsBytes(alice, "grü", command, "ße\r\n");
    await bob.receives("alice: grüße");
  }
  await sendsBytes(alice, "one byte: ", [IAC, IAC], "\r\n");
  await bob.receives("alice: one byte: \ufffd");
});

Deno.test("telnet: a subnegotiation is removed up to its end", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const subnegotiations = [
    bytesOf([IAC, 0xfa, 0x18, 0x00], "xterm", [IAC, 0xf0]),
    bytesOf([IAC, 0xfa, 0x27, 0x00], "x".repeat(1_000), [IAC, 0xf0]),
    bytesOf([IAC, 0xfa, 0x1f, 0, 80, 0, 0x0a, IAC, 0xf0]), // 80 columns, 10 rows
    bytesOf([IAC, 0xfa, 0x1f, 0, 0xf0, 0, 0x41, IAC, 0xf0]), // 240 columns
    bytesOf([IAC, 0xfa, 0x1f, 0, IAC, IAC, 0xf0, 0x41, IAC, 0xf0]), // 255 and more
  ];
  for (const bytes of subnegotiations) {
    await sendsBytes(alice, "Hel", [...bytes], "lo\r\n");
    await bob.receives("alice: Hello");
  }
});

Deno.test("telnet: a chunk may end between any two bytes of a command", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const subnegotiation = [IAC, 0xfa, 0x27, 0x0a, IAC, IAC, 0xf0, IAC, 0xf0];
  const bytes = bytesOf(
    ...["ä", CTRL_C, "ö", subnegotiation, NO_OPERATION, "ü"],
    ...[[IAC, WILL, 0x1f], "ß", [IAC, IAC], "😀", [IAC, DONT, 0xff], "\r\n"],
  );
  for (let cut = 1; cut < bytes.length; cut++) {
    await alice.sendsRaw(bytes.subarray(0, cut));
    await isRead(alice);
    await alice.sendsRaw(bytes.subarray(cut));
    await bob.receives("alice: äöüß\ufffd😀");
  }
  await types(alice, [...bytes]);
  await bob.receives("alice: äöüß\ufffd😀");
});

// ------------------------------------------------------ second rung: the answers

for (const [how, send] of Object.entries({ sendsBytes, types })) {
  const chunks = how === "types" ? "cut anywhere" : "in one chunk";
  Deno.test(`telnet: each request is refused once, and nothing else is answered, ${chunks}`, async () => {
    await using server = new TestServer({ inMemory: true });
    const bob = await server.join("bob");
    const alice = await joinWithBytes(server, "alice", [bob]);
    const requests: number[] = [];
    const refusals: number[] = [];
    for (let option = 0; option < 256; option++) {
      requests.push(...[IAC, DO, option], ...[IAC, WILL, option]);
      refusals.push(...[IAC, WONT, option], ...[IAC, DONT, option]);
      // These two refuse what nobody has asked for. An answer would do the same.
      requests.push(...[IAC, WONT, option], ...[IAC, DONT, option]);
    }
    await send(alice, NO_OPERATION, requests, [IAC, 0xf6], "done\r\n");
    await bob.receives("alice: done");
    await bob.sends("Hi!");
    await receivesBytes(alice, refusals, "bob: Hi!");
  });
}

Deno.test("telnet: a client without a name is answered, too", async () => {
  await using server = new TestServer();
  const alice = await server.visit("alice");
  await receivesBytes(alice, announcements.enterName(alice.port) + "\n");
  await sendsBytes(alice, CTRL_C, "alice\r\n");
  await receivesBytes(
    alice,
    CTRL_C_ANSWER,
    announcements.welcome("alice", "alice"),
  );
});

Deno.test("telnet: an answer and a line that is being written do not mix", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const narrow = { bufferSize: 5 }; // A line takes several writes.
  const alice = await joinWithBytes(server, "alice", [bob], narrow);
  const receiving = receivesBytesUntil(alice, "the end");
  receiving.catch(() => {}); // It is awaited below, unless the test fails before.
  const lines = Array.from({ length: 50 }, (_, n) => `${n} grüße`);
  for (const line of lines) {
    await bob.sends(line);
    await sendsBytes(alice, CTRL_C);
  }
  await sendsBytes(alice, "done\r\n");
  await bob.receives("alice: done");
  await bob.sends("the end");

  const bytes = String.fromCharCode(...await receiving);
  // If an answer is torn apart, a part of it remains between the lines.
  const parts = bytes.split(String.fromCharCode(...CTRL_C_ANSWER));
  const rest = parts.join("");
  const text = decode(Uint8Array.from(rest, (char) => char.charCodeAt(0)));
  const seen = text.split(/\r?\n/);
  const expected = [...lines, "the end"].map((line) => `bob: ${line}`);
  assertLines(seen, expected, "alice");
  const complaint = `alice presses Ctrl+C 50 times, and receives ` +
    `${parts.length - 1} answers`;
  assert(parts.length - 1 === lines.length, complaint);
});

Deno.test("telnet: a client that does not read its answers is not read either", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const narrow = { bufferSize: 1_024 };
  const mallory = await server.join("mallory", narrow);
  const visitor = await server.connect("a visitor", narrow);
  await bob.receives(announcements.joined("mallory"));
  const requests = Array(1_000_000).fill([IAC, DO, TIMING_MARK]).flat();
  for (const person of [mallory, visitor]) {
    await sendsBytes(person, requests);
    const unread = () => person.bytesUnreadByServer;
    const count = (requests.length - await settled(unread)) / 3;
    const complaint = `${person.name} sends 1,000,000 requests, and reads no ` +
      `answer. The server reads ${count} of them, and has to keep the answers`;
    assert(count < 100_000, complaint);
  }
  await alice.sends("Hello");
  await bob.receives("alice: Hello");
});

// ------------------------------------------------------ third rung: ends of lines

Deno.test("telnet: a telnet client receives each line with CR LF, and nobody else does", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const carol = await joinWithBytes(server, "carol", [bob]);
  const alice = await server.visit("alice");
  await receivesBytes(alice, announcements.enterName(alice.port) + "\n");
  await sendsBytes(alice, NO_OPERATION, "bob\r\n", "alice\r\n");
  await receivesBytes(
    alice,
    "[SYSTEM] The name bob is taken. Enter another name:\r\n",
    announcements.welcome("alice", "bob", "carol", "alice") + "\r\n",
  );
  await bob.receives(announcements.joined("alice"));
  await receivesBytes(carol, announcements.joined("alice") + "\n");

  // The option with the number of a newline is no line.
  await sendsBytes(
    alice,
    [IAC, DO, 0x0a],
    "x".repeat(1_001) + "\r\n",
    "done\r\n",
  );
  await bob.receives("alice: done");
  await bob.sends("one", "two", "thrée");
  await receivesBytes(
    alice,
    [IAC, WONT, 0x0a],
    announcements.messageTooLong + "\r\n",
    "bob: one\r\nbob: two\r\nbob: thrée\r\n",
  );
  await receivesBytes(
    carol,
    "alice: done\n",
    "bob: one\nbob: two\nbob: thrée\n",
  );
});

// -------------------------------------------------- fourth rung: character mode

Deno.test("telnet: a line may end with CR NUL, wherever it is cut", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sendsRaw("one\r\0two\r\nthree\nfour\r");
  await isRead(alice);
  await alice.sendsRaw("\0five\r\0");
  const lines = ["one", "two", "three", "four", "five"];
  await bob.receives(...lines.map((line) => `alice: ${line}`));
});

Deno.test("telnet: what is rubbed out is not said", async () => {
  await using server = new TestServer({ inMemory: true });
  const bob = await server.join("bob");
  const alice = await server.connect("alice");
  await types(alice, "bobby\b\b\b\b\balice\r\n");
  await alice.receives(announcements.welcome("alice", "bob", "alice"));
  await bob.receives(announcements.joined("alice"));
  const eraseCharacter = [IAC, 0xf7];
  for (const key of ["\b", "\x7f", eraseCharacter]) {
    const sixTimes = Array(6).fill(key);
    await types(alice, "my secret", ...sixTimes, "name is alice", ENTER);
    await bob.receives("alice: my name is alice");
  }
});

Deno.test("telnet: Backspace rubs out one character, whatever its bytes, and never a line", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const cases: [typed: string, said: string][] = [
    ["one", "one"],
    ["\b\b\b\b\btwo", "two"],
    ["thrü\x7fee", "three"],
    ["four 👋😀\b!", "four 👋!"],
    ["👋\x7f\x7f\x7ffive", "five"],
  ];
  for (const [typed, said] of cases) {
    // An empty line is no message. But the newline ends the line in any case.
    await types(alice, typed, ENTER, "\n");
    await sendsBytes(alice, typed, ENTER, "\n");
    await bob.receives(`alice: ${said}`, `alice: ${said}`);
  }
});

Deno.test("telnet: what is rubbed out is not said, however long the line is", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  for (const limit of [4_096, 8_192, 16_384, 65_536]) { // whatever yours is
    const chars = Math.round(limit * 0.6);
    await sendsBytes(alice, "secret".padEnd(chars, "x"));
    for (let n = 0; n < chars; n += 100) {
      await isRead(alice);
      await sendsBytes(alice, "\b".repeat(100));
    }
    await sendsBytes(alice, "public", ENTER, "next", ENTER);
    await settled(() => bob.unreadBytes);
    await carol.sends(`after ${limit}`);
    const seen = await bob.receivesUntil(`carol: after ${limit}`);
    // The long line may be refused.
    const others = seen.filter((line) => line !== "alice: public");
    const expected = ["alice: next", `carol: after ${limit}`];
    assertLines(others, expected, "bob");
  }
});

// ---------------------------------------------------------- those who do not stop

/** What mallory sends again and again, and how the flood ends. */
const FLOODS: Record<string, [chunk: number[], end: string]> = {
  "commands": [NO_OPERATION, ""],
  "subnegotiations": [[IAC, 0xfa, 0x18, 0x00, IAC, 0xf0], ""],
  "requests": [[IAC, DO, TIMING_MARK], ""],
  "Backspaces": [[0x08], ENTER],
};

for (const [name, [chunk, end]] of Object.entries(FLOODS)) {
  Deno.test(`telnet: ${name} without a pause keep nobody waiting`, async () => {
    await using server = new TestServer({ inMemory: true });
    const names = ["alice", "bob", "mallory"] as const;
    const [alice, bob, mallory] = await server.joinAll(...names);
    const count = Math.round(1_000_000 / chunk.length);
    const flood = Array(count).fill(chunk).flat();
    await Promise.all([sendsBytes(mallory, flood), alice.sends("Hello")]);
    await bob.receives("alice: Hello");
    const unread = () => mallory.bytesUnreadByServer;
    const bytes = flood.length - unread();
    const complaint = `mallory sends ${flood.length} bytes of ${name}, and ` +
      `alice says hello at the same time. The server reads ${bytes} of them ` +
      `before bob receives the hello`;
    assert(bytes < 500_000, complaint);
    await sendsBytes(mallory, end, "I stop\r\n");
    await settled(unread);
    await alice.sends("Thank you");
    await bob.receives("mallory: I stop", "alice: Thank you");
  });
}

Deno.test("telnet: a subnegotiation without an end does not silence its client", async () => {
  await using server = new TestServer();
  const [mallory, bob] = await server.joinAll("mallory", "bob");
  const newlines = "\n".repeat(2_000);
  await sendsBytes(mallory, "Hi\n", [IAC, 0xfa, 0x18], newlines, "I am back\n");
  await bob.receives("mallory: Hi", "mallory: I am back");
});

// ---------------------------------------------------------------- real programs

/** The programs, and the packages of Debian that have them. */
const PACKAGES = { telnet: "telnet", plink: "putty-tools" };

/** Whether a program can be started here. */
function isInstalled(program: string): boolean {
  const { state } = Deno.permissions.querySync({ name: "run" });
  if (state !== "granted") return true; // `testProgram` skips the test anyway.
  try {
    new Deno.Command(program, { args: ["-V"] }).outputSync();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Registers a test. If its program is missing, the title says so. */
function testWith(
  program: keyof typeof PACKAGES,
  name: string,
  fn: () => Promise<void>,
  register = testTerminal,
): void {
  const advice = `needs ${program}: apt install ${PACKAGES[program]}`;
  if (isInstalled(program)) register(`telnet: ${name}`, fn);
  else Deno.test.ignore(`telnet: ${name} (${advice})`, fn);
}

testWith("telnet", "Linux telnet shows lines also after Ctrl+C", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  await using alice = await Terminal.open(`telnet 127.0.0.1 ${server.port}`);
  await alice.shows("Enter your name");
  await alice.type("alice\r");
  await bob.receives(announcements.joined("alice"));
  await bob.sends("before");
  await alice.shows("bob: before");
  for (let n = 0; n < 3; n++) {
    await alice.press("C-c");
    await alice.type(`Ctrl+C ${n}\r`);
    await bob.receives(`alice: Ctrl+C ${n}`);
    await bob.sends(`after ${n}`);
    await alice.shows(`bob: after ${n}`);
  }
});

testWith("telnet", "Linux telnet may be put into character mode", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  await using alice = await Terminal.open(`telnet 127.0.0.1 ${server.port}`);
  await alice.shows("Enter your name");
  await alice.type("alice\r");
  await bob.receives(announcements.joined("alice"));
  await alice.shows("Welcome, alice!");
  await alice.press("C-]");
  await alice.shows("telnet>");
  await alice.type("mode character\r");
  await alice.type("Hello!\r");
  await alice.press("C-j"); // This ends the line in any mode.
  await bob.receives("alice: Hello!");
  await bob.sends("Hi!");
  await alice.shows("bob: Hi!"); // Now telnet has received all answers.
  await alice.type("secret");
  await alice.press(...Array(6).fill("BSpace"));
  await alice.type("public\r");
  await bob.receives("alice: public");
  await bob.sends("no", "stairs");
  await alice.endsWith("bob: no", "bob: stairs");
  await alice.press("C-]");
  await alice.endsWith("^]", "telnet>");
  await alice.type("quit\r");
  await bob.receives(announcements.left("alice"));
  await alice.ends(0);
});

testWith(
  "plink",
  "with PuTTY's plink, the first name is accepted",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const program = `plink -telnet -P ${server.port} 127.0.0.1`;
    await using zoe = await Terminal.open(program);
    await zoe.shows("Enter your name");
    await zoe.type("zoë\r");
    await zoe.shows("Welcome, zoë!");
    await bob.receives(announcements.joined("zoë"));
    await zoe.type("Grüße\r");
    await bob.receives("zoë: Grüße");
    await bob.sends("Hi!", "👋");
    await zoe.endsWith("bob: Hi!", "bob: 👋");
  },
);

testWith(
  "plink",
  "PuTTY's plink sends CR NUL and Backspaces, and receives CR LF",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const plink = new Deno.Command("plink", {
      args: ["-telnet", "-P", `${server.port}`, "127.0.0.1"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const output = new Pipe(plink.stdout);
    const input = plink.stdin.getWriter();
    try {
      // plink makes CR NUL of each CR. The newline ends the line in any case.
      await input.write(bytesOf("alicia\b\be\r\n"));
      const [line] = await output.shows(
        /\n[^\n]*(Welcome|another name:)[^\n]*\n/,
      );
      const welcome = announcements.welcome("alice", "bob", "alice");
      assertLine(line, `\n${welcome}\r\n`, "alice, with the newlines,");
      await bob.receives(announcements.joined("alice"));
      await input.write(bytesOf("secret\b\b\b\b\b\bpublic\r"));
      await bob.receives("alice: public");
    } finally {
      plink.kill("SIGKILL");
      await plink.status;
      await output.close();
      await input.abort().catch(() => {});
    }
  },
  testProgram,
);
