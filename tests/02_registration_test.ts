/**
 * Lesson 2: registration.
 *
 * The same line can mean different things: here a client's first line is a name, and a
 * later line is a message. So a server remembers a state for each client. Until it
 * knows who a client is, it accepts only what identifies the client. An SMTP client has
 * to send HELO or EHLO before MAIL, an IRC client NICK and USER before JOIN. The
 * states, and the inputs that lead from one to another, form a state machine. Draw it
 * before you write the server.
 *
 * A name is an identity here: people believe that a line from alice was written by
 * Alice. So each name belongs to one member, and no name may look like the server's
 * own.
 */

import { fail } from "@std/assert";
import {
  announcements,
  assertLine,
  type Person,
  quote,
  TestServer,
  turn,
} from "./helpers.ts";

/** Sends `typed` as a name. Fails unless the server welcomes the person as `name`. */
async function isAccepted(
  person: Person,
  typed: string,
  name = typed,
): Promise<void> {
  await person.sends(typed);
  const line = await person.nextLine();
  if (line.startsWith(`[SYSTEM] Welcome, ${name}!`)) return;
  fail(`Who types ${quote(typed)} should be welcomed as ${quote(name)}
but receives:\n  ${quote(line)}`);
}

/** Sends `typed` as a name. Fails unless the server refuses it and asks again. */
async function isRefused(person: Person, typed: string): Promise<void> {
  await person.sends(typed);
  const line = await person.nextLine();
  const isRefusal = /^\[SYSTEM\] .*\bname\b.* Enter another name:$/.test(line);
  if (isRefusal) return;
  fail(`Who types ${quote(typed)} should receive why that is no name:
  "[SYSTEM] … name … Enter another name:"
but receives:\n  ${quote(line)}`);
}

// ----------------------------------------------------------------------- states

Deno.test("registration: a client without a name receives nothing of the chat", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect("carol");
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("a secret");
  await bob.receives("alice: a secret"); // The server has broadcast it.
  await newcomer.sends("carol");
  await newcomer.receives(
    announcements.welcome("carol", "alice", "bob", "carol"),
  );
});

Deno.test("registration: a client without a name is not on the list of users", async () => {
  await using server = new TestServer();
  await server.connect();
  const alice = await server.connect("alice");
  await alice.sends("alice");
  await alice.receives(announcements.welcome("alice", "alice"));
});

Deno.test("registration: the server does not announce that a client without a name has left", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const newcomer = await server.connect();
  newcomer.closes();
  await server.join("bob");
  await alice.receives(announcements.joined("bob"));
});

Deno.test("registration: members are listed in the order of joining, not of connecting", async () => {
  await using server = new TestServer();
  const bob = await server.connect("bob");
  await server.join("carol");
  await server.join("alice");
  await bob.sends("bob");
  await bob.receives(announcements.welcome("bob", "carol", "alice", "bob"));
});

// ------------------------------------------------------ one name for one member

Deno.test("registration: a newcomer cannot take a member's name, whether in upper or lower case", async () => {
  await using server = new TestServer();
  const alice = await server.join("Alice");
  const newcomer = await server.connect();
  for (const typed of ["Alice", "alice", "ALICE"]) {
    await isRefused(newcomer, typed);
  }
  await isAccepted(newcomer, "alicia");
  await alice.receives(announcements.joined("alicia"));
});

Deno.test("registration: spaces around a name do not make it another name", async () => {
  await using server = new TestServer();
  await server.join("alice");
  const newcomer = await server.connect();
  await isRefused(newcomer, "  alice \t");
  await isAccepted(newcomer, "  bob \t", "bob");
});

Deno.test("registration: a name is free again when its owner has left", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("Alice", "bob");
  const newcomer = await server.connect();
  await isRefused(newcomer, "alice");
  alice.closes();
  await bob.receives(announcements.left("Alice"));
  await isAccepted(newcomer, "alice");
});

Deno.test("registration: after a refused name the next line is a name, not a message", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const newcomer = await server.connect();
  await newcomer.sends("alice", "Hello");
  await alice.receives(announcements.joined("Hello"));
});

Deno.test("registration: if User_PORT is taken, a client that sends an empty line gets another name", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const suggested = `User_${newcomer.port}`;
  await server.join(suggested.toLowerCase());
  await server.join(`${suggested}_2`);
  await server.join(`${suggested}_3`);
  await newcomer.sends("");
  const line = await newcomer.nextLine();
  const name = /^\[SYSTEM\] Welcome, (User_\w+)!/.exec(line)?.[1];
  const taken = [suggested, `${suggested}_2`, `${suggested}_3`];
  if (name && !taken.includes(name)) return;
  fail(
    `Who presses Enter should be welcomed as User_…, but not as ${
      taken.join(", ")
    }
but receives:\n  ${quote(line)}`,
  );
});

Deno.test("registration: the server sends a refusal before it reads the next name", async () => {
  await using server = new TestServer({ inMemory: true });
  await server.join("alice");
  // This buffer has room for only one whole refusal, and the newcomer reads none.
  const newcomer = await server.connect("the newcomer", { bufferSize: 100 });
  const readsBefore = newcomer.readsByServer;
  for (let n = 0; n < 100; n++) {
    await newcomer.sends("alice");
    await turn(); // The server can read this name before the next one is sent.
  }
  const reads = newcomer.readsByServer - readsBefore;
  // Until the buffer is full, the server may read some names. 20 is a generous bound.
  if (reads < 20) return;
  fail(`A client that reads no answer should have to wait with its next name
but the server reads ${reads} names from it`);
});

// ------------------------------------------------------------------------ rules

Deno.test("registration: a name has 20 characters at most", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  await isRefused(newcomer, "a".repeat(21));
  await isAccepted(newcomer, "a".repeat(20));
});

/** Yields the ASCII characters that no name may have, but not LF: it ends a line. */
function* signsOfAscii(): Generator<string> {
  for (let code = 0; code < 128; code++) {
    const char = String.fromCharCode(code);
    if (!/[A-Za-z0-9._\n-]/.test(char)) yield char;
  }
}

Deno.test("registration: in ASCII, a name may have only letters, digits, dots, hyphens and underscores", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  await isRefused(newcomer, "two words");
  await isRefused(newcomer, "[SYSTEM]");
  for (const sign of signsOfAscii()) await isRefused(newcomer, `a${sign}b`);
  await isAccepted(newcomer, "a.b-c_D7");
});

Deno.test("registration: a name starts with a letter or a digit", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  for (const typed of ["_a", "-a", ".a", "-"]) await isRefused(newcomer, typed);
  await isAccepted(newcomer, "7");
});

Deno.test("registration: the server refuses the names SYSTEM and You, in upper and lower case", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  // The server's lines begin with [SYSTEM], and the client's prompt is "You: ".
  for (const typed of ["SYSTEM", "system", "You", "YOU"]) {
    await isRefused(newcomer, typed);
  }
});

// ----------------------------------------------------------- the list of members

Deno.test("registration: the welcome lists the first 20 members and counts the others", async () => {
  await using server = new TestServer();
  for (let n = 1; n <= 19; n++) await server.join(`user${n}`);
  const ends = ["user19, user20", "user20 and 1 more", "user20 and 2 more"];
  for (const [index, end] of ends.entries()) {
    const newcomer = await server.connect();
    await newcomer.sends(`user${20 + index}`);
    const line = await newcomer.nextLine();
    const users = line.slice(line.indexOf("Active users"));
    const start = `Active users (${20 + index}): user1, user2,`;
    assertLine(users.slice(0, start.length), start, newcomer.name);
    assertLine(users.slice(-end.length), end, newcomer.name);
    const count = users.split(", ").length;
    assertLine(`${count} names`, "20 names", newcomer.name);
  }
});
