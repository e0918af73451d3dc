/**
 * Exercise 28: a name can belong to somebody.
 *
 * Until now, whoever comes first has the name. So alice can go for a coffee, and somebody
 * else is alice. An account is a name with a password. Whoever wants to join under the
 * name has to know the password.
 *
 * What is hard about it is not to check a password, but all the rest. The server must not
 * keep the password, because files are stolen. It must not pass it on, because people
 * type it in the wrong place. And strangers must not be able to try ten thousand of them,
 * while they must not keep the owner out either, by trying them all day.
 *
 *     deno run --allow-net --allow-read=accounts.db --allow-write=accounts.db \
 *         server.ts --accounts accounts.db
 *
 * A member registers its name, and may do so again, with a new password:
 *
 *     > /register correct horse
 *     < [SYSTEM] Registered. Now your name needs this password.
 *
 * The owner comes back, and types name and password in one line. No name has a space:
 *
 *     > alice correct horse
 *     < [SYSTEM] Welcome, alice! Active users (1): alice
 *
 * Whoever types a registered name alone, a wrong password, or a wrong name before a
 * password, receives the same answer. Everybody else joins as before.
 *
 *     < [SYSTEM] Wrong name or password. For a registered name, type NAME PASSWORD. Enter another name:
 *
 * What this means exactly:
 *
 *   - A password has 8 to 100 characters after NFC, and a space among them. So it can
 *     never be a name: whoever types it when asked for a name does not join under it.
 *   - What may have been meant as `/register` is never broadcast and never printed,
 *     however it is mistyped: in capitals, with a space before it, without a password.
 *     The member receives the line below. A server without accounts does the same.
 *
 *         < [SYSTEM] Not registered: type /register and 8 to 100 characters with a space.
 *
 *   - The table is `accounts`. Its columns are `key`, the `nameKey` of the name, `salt`,
 *     `rounds` and `hash`. The hash is PBKDF2 with SHA-256 and has 32 bytes. A new one
 *     has a salt of 16 random bytes and 600,000 rounds. An older one may have had fewer.
 *   - To hash takes about 0.1 s. Meanwhile everybody else chats, and however many ask at
 *     once, one core is busy at most.
 *   - After a wrong guess, the next one at the same name waits before it is checked:
 *     2 seconds, whoever makes it. The right password ends that. Other names do not wait.
 *   - If the database cannot be written, nothing is registered, and the server warns. If
 *     it cannot be read, no name is given away. It does not grow without limit.
 *
 * Write accounts.ts with a class `Accounts`, which is made with a `DatabaseSync`, and with
 * the milliseconds that a guess waits. It is a new option of the server, `accounts`.
 *
 * First rung: no accounts yet. Whatever looks like `/register` is not broadcast, and the
 * member receives the answer. Then two tests are green. The next rung is a registered
 * name that nobody can use, and after that comes the password.
 *
 * Begin in server.ts at `#say`, and at `#register`. `run` makes the accounts if there is
 * an option `--accounts`.
 *
 * Hints:
 *
 *   - `crypto.subtle` knows PBKDF2: `importKey`, then `deriveBits`. Its work is done in
 *     another thread. That of `pbkdf2Sync` of `node:crypto` is done in yours.
 *   - After an `await`, look again: is the client still new, is the name still free?
 *   - `timingSafeEqual` of `node:crypto` compares two hashes, and takes as long whether
 *     they differ at the start or at the end.
 *   - One work after the other: `waitInBulkQueue` of protocol.ts does that.
 *   - Whether the wait is before the check or after it makes a difference to somebody
 *     who does not wait for the answer.
 *   - Who has to wait, if all who guess at a name stand in one queue?
 *
 *     deno task learn 28
 *     deno test tests/exercises/28_accounts.ts       with databases in memory
 *     deno test -A tests/exercises/28_accounts.ts    all: they start programs
 */

import { assert, assertEquals, assertNotEquals, fail } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import {
  announcements,
  assertLine,
  type Person,
  quote,
  TestServer,
  turn,
} from "../helpers.ts";
import { failsToStart, Program, type Server, testDisk } from "../programs.ts";

const REGISTERED = "[SYSTEM] Registered. Now your name needs this password.";
const NOT_REGISTERED =
  "[SYSTEM] Not registered: type /register and 8 to 100 characters with a space.";
const WRONG =
  "[SYSTEM] Wrong name or password. For a registered name, type NAME PASSWORD. " +
  "Enter another name:";

const PASSWORD = "correct horse";

/** Makes what the exercise builds. Until it is there, the server has no accounts. */
async function makeAccounts(db: DatabaseSync, guessWaitMs?: number) {
  try {
    const { Accounts } = await import("../../accounts.ts");
    return new Accounts(db, guessWaitMs);
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith("Module not found")) return undefined;
    fail(`accounts.ts makes no Accounts, so nobody can join: ${message}`);
  }
}

interface Options {
  db?: DatabaseSync;
  guessWaitMs?: number;
  nameTimeoutMs?: number;
}

/** A server with accounts in a database. */
async function start(options: Options = {}): Promise<TestServer> {
  const { db = new DatabaseSync(":memory:"), nameTimeoutMs = 60_000 } = options;
  const accounts = await makeAccounts(db, options.guessWaitMs);
  const testOptions = { nameTimeoutMs, accounts, inMemory: true };
  return new TestServer(testOptions);
}

/** What PBKDF2 makes of a password. */
async function hashOf(password: string, salt: Uint8Array, rounds: number) {
  const { subtle } = crypto;
  const bytes = new TextEncoder().encode(password);
  const key = await subtle.importKey("raw", bytes, "PBKDF2", false, [
    "deriveBits",
  ]);
  const how = { name: "PBKDF2", hash: "SHA-256", salt: new Uint8Array(salt) };
  const bits = await subtle.deriveBits(
    { ...how, iterations: rounds },
    key,
    256,
  );
  return new Uint8Array(bits);
}

/** Puts an account into a database. Few rounds make it fast to check. */
async function addAccount(db: DatabaseSync, key: string, rounds = 1_000) {
  db.exec(
    "CREATE TABLE IF NOT EXISTS accounts " +
      "(key TEXT PRIMARY KEY, salt BLOB, rounds INTEGER, hash BLOB)",
  );
  const salt = crypto.getRandomValues(new Uint8Array(16));
  const hash = await hashOf(PASSWORD, salt, rounds);
  db.prepare("INSERT INTO accounts VALUES (?, ?, ?, ?)")
    .run(key, salt, rounds, hash);
}

/** A database in which these names have accounts. */
async function databaseWith(...keys: string[]): Promise<DatabaseSync> {
  const db = new DatabaseSync(":memory:");
  for (const key of keys) await addAccount(db, key);
  return db;
}

/** Somebody asks for a name, and receives exactly this answer. */
async function asks(person: Person, line: string, answer: string) {
  await person.sends(line);
  assertLine(
    await person.nextLine(),
    answer,
    `Whoever types ${quote(line)}`,
  );
}

function welcome(name: string, ...others: string[]): string {
  return announcements.welcome(name, ...others, name);
}

/** A member registers its name, and receives exactly this answer. */
async function registers(member: Person, password: string, answer: string) {
  // The second line has an answer in any case, so that nobody waits in vain.
  await member.sends(`/register ${password}`, "x".repeat(1_001));
  await member.receives(answer, announcements.messageTooLong);
}

/** A member leaves. */
async function leaves(member: Person): Promise<void> {
  await member.halfCloses();
  await member.receivesUntil();
}

// ------------------------------------------- first rung: what must not be passed on

const MISTYPED = [
  "/register",
  "/register ",
  "/register secret",
  " /register secret word",
  "/REGISTER secret word",
  "/registersecret word",
  "/register\tsecret word",
  "/register\u00a0secret word",
  "//register secret word",
  "\\register secret word",
  "/ register secret word",
  "\u200b/register secret word",
  "\u001b/register secret word",
  "／ｒｅｇｉｓｔｅｒ secret word",
  `/register secret ${"word".repeat(30)}`,
  `/register secret ${"word".repeat(250_000)}`, // 1 MB
];

async function testMistyped(server: TestServer): Promise<void> {
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends(...MISTYPED, "over");
  await bob.receives("alice: over");
  for (const line of MISTYPED) {
    const answer = await alice.nextLine();
    assertLine(answer, NOT_REGISTERED, `Whoever types ${quote(line)}`);
  }
  const printed = [...server.printed, ...server.warnings].join("\n");
  assert(!printed.includes("secret"), `The server prints it: ${printed}`);
  await leaves(alice);
  const carol = await server.connect("carol");
  await carol.sends("alice");
  await carol.receives(welcome("alice", "bob")); // Nothing was registered.
}

Deno.test("accounts: what looks like /register is never broadcast, however it is mistyped", async () => {
  await using server = await start();
  await testMistyped(server);
});

Deno.test("accounts: a server without accounts does not broadcast a /register, either", async () => {
  await using server = new TestServer();
  await testMistyped(server);
});

// ------------------------------------------- second rung: a name that needs a password

Deno.test("accounts: a registered name needs its password", async () => {
  await using server = await start();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await registers(alice, PASSWORD, REGISTERED);
  await leaves(alice);
  await bob.receives(announcements.left("alice"));
  const stranger = await server.connect("the stranger");
  await asks(stranger, "alice", WRONG);
  await asks(stranger, "alice wrong horse", WRONG);
  const owner = await server.connect("the owner");
  await asks(owner, `alice ${PASSWORD}`, welcome("alice", "bob"));
  await bob.receives(announcements.joined("alice")); // and nothing of the stranger
  await owner.sends("Here I am again.");
  await bob.receives("alice: Here I am again.");
});

Deno.test("accounts: wrong names and wrong passwords receive the same answer", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: 0 });
  const person = await server.connect("somebody");
  await asks(person, "alice", WRONG);
  await asks(person, "alice wrong horse", WRONG);
  await asks(person, "alice short", WRONG);
  await asks(person, `alcie ${PASSWORD}`, WRONG);
  await asks(person, "alcie wrong horse", WRONG);
  await asks(person, "  alice   correct horse  ", welcome("alice"));
});

Deno.test("accounts: a registered name needs its password in every spelling", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: 0 });
  const person = await server.connect("somebody");
  for (const name of ["ALICE", "Alice", "ａｌｉｃｅ"]) {
    await asks(person, name, WRONG);
    await asks(person, `${name} wrong horse`, WRONG);
  }
  await asks(person, `ＡＬＩＣＥ ${PASSWORD}`, welcome("ALICE"));
});

Deno.test("accounts: without an account, everybody joins as before", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db });
  const bob = await server.connect("bob");
  const reserved = "[SYSTEM] The name system is reserved. Enter another name:";
  await asks(bob, "system", reserved);
  await asks(bob, " bob ", welcome("bob"));
  const carol = await server.connect("carol");
  await asks(
    carol,
    "BOB",
    "[SYSTEM] The name BOB is taken. Enter another name:",
  );
  await asks(carol, "", welcome(`User_${carol.port}`, "bob"));
  // A name that the server has suggested may be registered as well.
  const dan = await server.connect("dan");
  await addAccount(db, `user_${dan.port}`);
  await asks(dan, "", WRONG);
});

Deno.test("accounts: the database holds a salt and a slow hash, and no password", async () => {
  const db = new DatabaseSync(":memory:");
  await using server = await start({ db });
  const people = await server.joinAll("alice", "bob");
  for (const person of people) await registers(person, PASSWORD, REGISTERED);
  const rows = db.prepare("SELECT * FROM accounts ORDER BY key").all() as {
    key: string;
    salt: Uint8Array;
    rounds: number;
    hash: Uint8Array;
  }[];
  assertEquals(rows.map(({ key }) => key), ["alice", "bob"], "The keys");
  for (const { salt, rounds, hash } of rows) {
    assert(salt.length >= 16, `A salt of ${salt.length} bytes can be guessed`);
    assert(rounds >= 600_000, `A thief can try fast with ${rounds} rounds`);
    assertEquals(hash, await hashOf(PASSWORD, salt, rounds), "The hash");
  }
  const [alice, bob] = rows;
  assertNotEquals(alice!.hash, bob!.hash, "Both seem to have one password");
});

Deno.test("accounts: after a restart, a name still needs its password", async () => {
  const db = new DatabaseSync(":memory:");
  {
    await using server = await start({ db });
    const alice = await server.join("alice");
    await registers(alice, PASSWORD, REGISTERED);
  }
  await using server = await start({ db });
  const person = await server.connect("somebody");
  await asks(person, "alice", WRONG);
  await asks(person, `alice ${PASSWORD}`, welcome("alice"));
});

Deno.test("accounts: a member can register again, and the old password is wrong then", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: 0 });
  const alice = await server.connect("alice");
  await asks(alice, `alice ${PASSWORD}`, welcome("alice"));
  await registers(alice, "battery staple", REGISTERED);
  await leaves(alice);
  const again = await server.connect("alice");
  await asks(again, `alice ${PASSWORD}`, WRONG);
  await asks(again, "alice battery staple", welcome("alice"));
});

Deno.test("accounts: a password is the same, whether an é is one character or two", async () => {
  await using server = await start({ guessWaitMs: 0 });
  const alice = await server.join("alice");
  await registers(alice, "Les éléphants", REGISTERED);
  await leaves(alice);
  const again = await server.connect("alice");
  await asks(again, "alice Les elephants", WRONG);
  await asks(again, "alice Les e\u0301le\u0301phants", welcome("alice"));
});

Deno.test("accounts: too short, too long or without a space, it is no password", async () => {
  await using server = await start({ guessWaitMs: 0 });
  const alice = await server.join("alice");
  const longest = "😀 " + "x".repeat(98);
  for (const password of ["a b c d", "correcthorse", `${longest}x`]) {
    await registers(alice, password, NOT_REGISTERED);
  }
  await registers(alice, `a ${"x".repeat(1_000_000)}`, NOT_REGISTERED);
  await registers(alice, longest, REGISTERED);
  await leaves(alice);
  const again = await server.connect("alice");
  await again.sends(`alice ${longest}x`, `alice a ${"x".repeat(1_000_000)}`);
  for (const _ of "12") {
    const line = await again.nextLine();
    const isRefused = /^\[SYSTEM\] .+ Enter another name:$/.test(line);
    assert(isRefused, `Too long a password is answered with: ${quote(line)}`);
  }
  await asks(again, `alice ${longest}`, welcome("alice"));
});

Deno.test("accounts: a password that is typed instead of a name is refused", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: 0 });
  const bob = await server.join("bob");
  const alice = await server.connect("alice");
  await asks(alice, "alice wrong horse", WRONG);
  await asks(alice, PASSWORD, WRONG);
  await asks(alice, `alice ${PASSWORD}`, welcome("alice", "bob"));
  await bob.receives(announcements.joined("alice"));
});

Deno.test("accounts: of two who know the password, one joins", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db });
  const [one, other] = [await server.connect(), await server.connect()];
  await Promise.all([
    one.sends(`alice ${PASSWORD}`),
    other.sends(`alice ${PASSWORD}`),
  ]);
  const answers = [await one.nextLine(), await other.nextLine()].sort();
  const taken = "[SYSTEM] The name alice is taken. Enter another name:";
  assertEquals(answers, [taken, welcome("alice")], "They receive");
});

// ---------------------------------------------------------- third rung: guesses

/** Counts what is hashed, until it is disposed of. */
class HashCounter {
  count = 0;
  /** So many were hashed at a time. */
  maxAtOnce = 0;
  #atOnce = 0;
  readonly #original = SubtleCrypto.prototype.deriveBits;

  constructor() {
    const original = this.#original;
    const onStart = () => {
      this.count++;
      this.#atOnce++;
      this.maxAtOnce = Math.max(this.maxAtOnce, this.#atOnce);
    };
    const onEnd = () => this.#atOnce--;
    SubtleCrypto.prototype.deriveBits = function (...args) {
      onStart();
      return original.apply(this, args).finally(onEnd);
    };
  }

  [Symbol.dispose](): void {
    SubtleCrypto.prototype.deriveBits = this.#original;
  }
}

Deno.test("accounts: while a password is checked, all others chat", async () => {
  const db = new DatabaseSync(":memory:");
  await addAccount(db, "slow", 5_000_000); // most of a second
  await using server = await start({ db });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const person = await server.connect("somebody");
  await person.sends("slow wrong horse");
  let answer: string | undefined;
  const answered = person.nextLine().then((line) => answer = line);
  for (let n = 0; n < 20; n++) {
    await alice.sends(`${n}`);
    await bob.receives(`alice: ${n}`);
  }
  const hasWaited = answer !== undefined;
  assertLine(await answered, WRONG, "somebody");
  if (hasWaited) {
    fail("bob waits for alice's lines while a password is checked");
  }
});

Deno.test("accounts: of eight guesses at once, one is checked at a time", async () => {
  const names = [..."abcdefgh"];
  const db = await databaseWith(...names);
  await using server = await start({ db });
  using hashes = new HashCounter();
  await Promise.all(names.map(async (name) => {
    const person = await server.connect(name);
    await asks(person, `${name} wrong horse`, WRONG);
  }));
  assertEquals(hashes.maxAtOnce, 1, "So many cores are busy");
});

/** Milliseconds. A computer that is busy does not make a test fail. */
const WAIT_MS = 600;

Deno.test("accounts: after a wrong guess, the next one at this name waits, whoever makes it", async () => {
  const db = await databaseWith("alice", "bob");
  await using server = await start({ db, guessWaitMs: WAIT_MS });
  const one = await server.connect("the first stranger");
  const other = await server.connect("the second stranger");
  const bob = await server.connect("bob");
  await asks(one, "alice wrong horse", WRONG);
  const begin = performance.now();
  const guess = asks(other, "alice other horse", WRONG)
    .then(() => Math.round(performance.now() - begin));
  await asks(bob, `bob ${PASSWORD}`, welcome("bob"));
  const bobWaits = Math.round(performance.now() - begin);
  const strangerWaits = await guess;
  // A timer may be 1 ms early.
  const isSlow = strangerWaits >= WAIT_MS - 1;
  assert(isSlow, `The second stranger waits for ${strangerWaits} ms only`);
  const isFast = bobWaits < WAIT_MS;
  assert(isFast, `Bob waits for ${bobWaits} ms because of guesses at alice`);
});

Deno.test("accounts: a stranger who does not wait for the answer does not guess faster", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: WAIT_MS });
  const first = await server.connect("the stranger");
  await asks(first, "alice wrong horse", WRONG);
  using hashes = new HashCounter();
  const strangers = await Promise.all(
    Array.from({ length: 10 }, () => server.connect("the stranger")),
  );
  for (const stranger of strangers) await stranger.sends("alice other horse");
  for (let n = 0; n < 20; n++) await turn();
  assertEquals(hashes.count, 0, "So many guesses were checked at once");
  for (const stranger of strangers) await stranger.receives(WRONG);
});

Deno.test("accounts: strangers who guess all the time do not keep the owner out", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db, guessWaitMs: WAIT_MS });
  const strangers = await Promise.all(
    Array.from({ length: 20 }, () => server.connect("the stranger")),
  );
  for (const stranger of strangers) {
    await stranger.sends(...Array(20).fill("alice wrong horse"));
  }
  for (const stranger of strangers) await stranger.receives(WRONG);
  const alice = await server.connect("alice");
  const begin = performance.now();
  await asks(alice, `alice ${PASSWORD}`, welcome("alice"));
  const passed = Math.round(performance.now() - begin);
  assert(passed < 5 * WAIT_MS, `The owner of the name waits ${passed} ms`);
  // Now the name is taken, and no more guesses are checked.
  const taken = "[SYSTEM] The name alice is taken. Enter another name:";
  for (const stranger of strangers) await stranger.receivesUntil(taken);
});

Deno.test("accounts: of ten thousand guesses, few are checked", async () => {
  const db = await databaseWith("alice");
  await using server = await start({
    db,
    guessWaitMs: 100,
    nameTimeoutMs: 1_000,
  });
  const [bob, carol] = await server.joinAll("bob", "carol");
  const guesses = Array.from({ length: 1_000 }, (_, n) => `alice guess ${n}`);
  using hashes = new HashCounter();
  const strangers = await Promise.all(
    Array.from({ length: 10 }, () => server.connect("the stranger")),
  );
  const ends = strangers.map(async (stranger) => {
    await stranger.sends(...guesses).catch(() => {}); // The server may have ended it.
    return await stranger.receivesUntil();
  });
  await bob.sends("Is anybody here?");
  await carol.receives("bob: Is anybody here?");
  for (const lines of await Promise.all(ends)) {
    assertLine(lines[0], WRONG, "the stranger");
    assertLine(lines.at(-1), announcements.noNameInTime, "the stranger");
  }
  const { count } = hashes;
  assert(count <= 10 * 15, `${count} guesses were checked in a second`);
});

Deno.test("accounts: if the database cannot be written, nothing is registered, and the server warns", async () => {
  const db = new DatabaseSync(":memory:");
  await using server = await start({ db });
  const [alice, bob] = await server.joinAll("alice", "bob");
  db.exec("PRAGMA query_only = ON");
  await registers(alice, PASSWORD, NOT_REGISTERED);
  assertEquals(server.warnings.length, 1, "So many warnings");
  const [warning = ""] = server.warnings;
  assert(!warning.includes(PASSWORD), `The password is in it: ${warning}`);
  await alice.sends("Never mind.");
  await bob.receives("alice: Never mind.");
});

Deno.test("accounts: if the database cannot be read, no name is given away", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db });
  const person = await server.connect("somebody");
  db.exec("ALTER TABLE accounts RENAME TO gone");
  await person.sends("alice");
  const line = await person.nextLineOrEnd();
  if (line?.includes("Welcome")) fail(`A stranger receives: ${line}`);
});

Deno.test("accounts: when there are very many accounts, no other name can be registered", async () => {
  const db = await databaseWith("alice");
  await using server = await start({ db });
  const [bob, carol] = await server.joinAll("bob_has_a_long_name", "carol");
  await registers(carol, PASSWORD, REGISTERED);
  let key = 0;
  /** Copies the account of alice. Returns whether there was room for the copies. */
  function fill(count: number): boolean {
    const copies = `WITH RECURSIVE keys (key) AS (SELECT ${key} UNION ALL
      SELECT key + 1 FROM keys WHERE key < ${key + count - 1})
      SELECT keys.key, salt, rounds, hash FROM accounts, keys
      WHERE accounts.key = 'alice'`;
    try {
      db.exec(`INSERT INTO accounts ${copies}`);
      key += count;
      return true;
    } catch {
      return false;
    }
  }
  while (key < 100_000 && fill(1_000));
  while (key < 100_000 && fill(1));
  await registers(bob, PASSWORD, NOT_REGISTERED);
});

// --------------------------------------------------------- fourth rung: the program

/** Somebody who has connected, and received the question for a name. */
async function connect(server: Server): Promise<Person> {
  const person = await server.connect();
  await person.receives(announcements.enterName(person.port));
  return person;
}

/** Fails if the server has printed a part of the password, also a wrong one. */
function assertNoPassword(output: string): void {
  assert(!output.includes("horse"), `The server prints it: ${output}`);
}

testDisk(
  "accounts: a registration survives a kill -9, and no password is printed",
  async (disk) => {
    const server = await disk.start("--accounts");
    const alice = await server.join("alice");
    await registers(alice, PASSWORD, REGISTERED);
    server.kill("SIGKILL");
    const killed = await server.ends();
    assertNoPassword(killed.stdout + killed.stderr);

    const again = await disk.start("--accounts");
    const person = await connect(again);
    await asks(person, "alice", WRONG);
    await asks(person, "alice wrong horse", WRONG);
    await asks(person, `alice ${PASSWORD}`, welcome("alice"));
    person.closes();
    const stopped = await again.stop();
    assertNoPassword(stopped.stdout + stopped.stderr);
    assertEquals(stopped.stderr, "", "stderr");

    const bytes = await Deno.readFile(disk.file);
    const text = new TextDecoder("latin1").decode(bytes);
    assert(!text.includes("horse"), "The password is in the file");
    if (Deno.build.os === "windows") return;
    const { mode } = await Deno.stat(disk.file);
    assertEquals(mode! & 0o077, 0, "Others can read the file: the last bits");
  },
);

testDisk("accounts: the client joins with name and password", async (disk) => {
  await using server = await disk.start("--accounts");
  const alice = await server.join("alice");
  await registers(alice, PASSWORD, REGISTERED);
  await leaves(alice);
  const bob = await server.join("bob");
  const args = ["--allow-net", "client.ts", `127.0.0.1:${server.port}`];

  const input = `alice ${PASSWORD}\nHello!\n`;
  await using client = new Program(args, { input });
  await bob.receives(announcements.joined("alice"), "alice: Hello!");
  const { code } = await client.ends();
  assertEquals(code, 0, "The exit status of the client");
  await bob.receives(announcements.left("alice"));

  await using stranger = new Program(args, { input: "alice wrong horse\n" });
  const ended = await stranger.ends();
  assertEquals(ended.code, 1, "The exit status of the stranger's client");
  const isSaid = ended.stderr.includes("Wrong name or password.");
  assert(isSaid, `The stranger should see why, but sees: ${ended.stderr}`);
});

testDisk(
  "accounts: a file that is no database stays as it is, and the server exits with one line",
  async (disk) => {
    const picture = new Uint8Array(10_000).fill(7);
    picture.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    await Deno.writeFile(disk.file, picture);
    const allow = [
      "--no-prompt",
      "--allow-net",
      "--allow-read",
      "--allow-write",
    ];
    const server = ["server.ts", "0", "--accounts"];
    const args = [...allow, ...server, disk.file];
    await failsToStart(1, args, disk.file, "not a database");
    assertEquals(
      await Deno.readFile(disk.file),
      picture,
      "The file has changed",
    );
    await failsToStart(1, [...allow, ...server, disk.folder], disk.folder);
    await failsToStart(2, [...allow, ...server], "--accounts");
    const forbidden = ["--no-prompt", "--allow-net", ...server, disk.file];
    await failsToStart(1, forbidden, "--allow-");
  },
);
