/**
 * Lesson 2: registration.
 *
 * A protocol has states, and the same line means different things in different
 * states. Until a server knows who a client is, it accepts only what belongs to
 * that question. SMTP wants HELO before MAIL, IRC wants NICK and USER before
 * JOIN, and a database wants a password before the first query. A state machine
 * on paper is a good start for a server.
 *
 * A name is an identity here: whoever is called alice is believed to be alice. So
 * one name belongs to one member, and no name may look like the server's own.
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

/** Sends what somebody types as a name. Fails unless it is accepted as that name. */
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

/** Sends what somebody types as a name. Fails unless it is refused. */
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
  await bob.receives("alice: a secret"); // So it has been sent to everybody.
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

Deno.test("registration: nobody is notified when a client without a name leaves", async () => {
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

// -------------------------------------------------------------------- one owner

Deno.test("registration: the name of a member is refused, in upper and lower case", async () => {
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

Deno.test("registration: Enter alone takes another name if somebody has User_PORT", async () => {
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

Deno.test("registration: a name is answered before the next name is read", async () => {
  await using server = new TestServer({ inMemory: true });
  await server.join("alice");
  // The server's answers do not fit into this buffer, and nobody reads them.
  const newcomer = await server.connect("the newcomer", { bufferSize: 100 });
  const readsBefore = newcomer.readsByServer;
  for (let n = 0; n < 100; n++) {
    await newcomer.sends("alice");
    await turn();
  }
  const reads = newcomer.readsByServer - readsBefore;
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

/** Yields the characters of ASCII that no name has. */
function* signsOfAscii(): Generator<string> {
  for (let code = 0; code < 128; code++) {
    const char = String.fromCharCode(code);
    if (!/[A-Za-z0-9._\n-]/.test(char)) yield char;
  }
}

Deno.test("registration: a name has no spaces, no colon and no other signs", async () => {
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

Deno.test("registration: SYSTEM and You are reserved, in upper and lower case", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  for (const typed of ["SYSTEM", "system", "You", "YOU"]) {
    await isRefused(newcomer, typed);
  }
});

// ------------------------------------------------------------------ a short list

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
