/**
 * Exercise 27: what was said survives a restart.
 *
 * A server forgets everything when it ends. What must not be forgotten has to be
 * written to a disk, and the questions are always the same. What is written when, and
 * who waits for it? What does a crash lose? What if the disk is full, or read-only, or
 * somebody else has changed the file?
 *
 * A database has answers. SQLite is a whole database in one file, without a server of
 * its own, and Deno contains it: `node:sqlite`. Changes that belong together are a
 * transaction: after a crash, either all of them are in the file, or none.
 *
 *     deno run --allow-net --allow-read=chat.db --allow-write=chat.db \
 *         server.ts --history chat.db
 *
 * These permissions are enough, and there is no smaller set. Deno checks the path that
 * the program opens. SQLite also makes chat.db-wal and chat.db-shm beside the file.
 *
 * Right after the welcome, and before anything new, a newcomer receives the last
 * hundred messages, as they were said, also those from before the restart:
 *
 *     > carol
 *     < [SYSTEM] Welcome, carol! Active users (1): carol
 *     < alice: Hello everyone!
 *     < bob: Hi there!
 *
 * Announcements do not belong to them. What this means exactly:
 *
 *   - The table is `messages`. Its columns are `id`, an INTEGER PRIMARY KEY, and `line`.
 *     It never holds more than the last hundred messages.
 *   - Before anybody receives a message, it is in the database. So when the server is
 *     killed, even by `kill -9`, nothing is lost that somebody has received. All that
 *     was said in one turn of the event loop is one transaction.
 *   - If the database cannot be written, the chat goes on, and newcomers receive the
 *     last hundred messages from memory. The server warns once. When it can be written
 *     again, what is missing there is saved.
 *   - Another program may use the same file. SQLite is synchronous: while it waits for
 *     the other program, nobody is served. So it waits 50 ms at most.
 *   - A line of the file that no member can have said is left out. A file that is no
 *     database is not touched: the server says so with one line, and exits with 1.
 *
 * Write history.ts with a class `History`, which is made with a `DatabaseSync` and a
 * function that prints a warning. It is a new option of the server, `history`. Without
 * it, nothing changes. `run` makes it if there is an option `--history`.
 *
 * First rung: a `History` that keeps messages in memory only, in an array. The room adds
 * each message, and sends all to each newcomer. Then three tests are green. The next
 * rung is a `messages` table: read it at the start, and write each message into it.
 *
 * Begin in server.ts at `ServerOptions`. In `#say` there is something to keep, `#join`
 * is where somebody wants it, and `#flush` of the log lets the send loops continue.
 *
 * Hints:
 *
 *   - The send loops continue at the end of a turn. But one that has just finished a
 *     write takes new entries at once. How can an entry wait until it is saved?
 *   - `BEGIN IMMEDIATE` asks for the right to write at once, and `COMMIT` ends the
 *     transaction. After an error, `isTransaction` says whether a `ROLLBACK` is needed.
 *   - Never make a statement out of what somebody has typed: `VALUES (?)`.
 *   - In the mode `PRAGMA journal_mode = WAL`, a commit only appends to a file, and
 *     whoever reads never waits. Look up `synchronous = NORMAL`, too.
 *   - The file comes from outside, like a message. `octet_length` tells how long a text
 *     is without reading it. A row of 600 MB stops even Deno itself.
 *
 *     deno task learn 27
 *     deno test tests/exercises/27_disk.ts         with databases in memory
 *     deno test -A tests/exercises/27_disk.ts      all: they start servers, and kill them
 */

import { assert, assertEquals, fail } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import {
  announcements,
  assertLines,
  type Person,
  quote,
  saidBy,
  TestServer,
  turn,
} from "../helpers.ts";
import {
  type Disk,
  type Ended,
  failsToStart,
  type Server,
  testDisk,
} from "../programs.ts";

type Warn = (line: string) => void;

/** Makes what the exercise builds. Until it is there, the server has no history. */
async function makeHistory(db: DatabaseSync, warn: Warn) {
  try {
    const { History } = await import("../../history.ts");
    return new History(db, warn);
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith("Module not found")) return undefined;
    fail(`history.ts makes no History, so there is no chat: ${message}`);
  }
}

/** A server that keeps its history in a database. */
async function startOn(
  db: DatabaseSync,
  warnings: string[] = [],
): Promise<TestServer> {
  const history = await makeHistory(db, (line) => warnings.push(line));
  // `maxClients` changes nothing. With it, TypeScript accepts the options also while
  // the server has no option `history`.
  const options = { maxClients: 100, history, inMemory: true };
  return new TestServer(options);
}

function memoryDatabase(): DatabaseSync {
  return new DatabaseSync(":memory:");
}

/** All lines that are in a database, the oldest one first. */
function savedLines(db: DatabaseSync): string[] {
  try {
    const rows = db.prepare("SELECT line FROM messages ORDER BY id").all();
    return rows.map((row) => `${row.line}`);
  } catch {
    return []; // There is no such table yet.
  }
}

function numberedLines(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `line ${n}`);
}

/** The number of a line that `numberedLines` has made, otherwise -1. */
function numberOf(line: string | undefined): number {
  return Number(/ line (\d+)$/.exec(line ?? "")?.[1] ?? -1);
}

/** Sends lines. When the receiver has received them, they have reached the server. */
async function tell(receiver: Person, sender: Person, ...lines: string[]) {
  await sender.sends(...lines);
  await receiver.receives(...saidBy(sender.name, lines));
}

/** Fails unless a newcomer receives exactly these lines before anything new. */
async function newcomerReceives(
  server: TestServer,
  lines: string[],
): Promise<void> {
  const carol = await server.join("carol");
  const dan = await server.join("dan");
  const joined = announcements.joined("dan");
  const seen = await carol.receivesUntil(joined);
  assertLines(seen, [...lines, joined], "carol");
  for (const person of [carol, dan]) {
    await person.halfCloses();
    await person.receivesUntil(); // up to the end
  }
}

// -------------------------------------------------------- first rung: a history

Deno.test("disk: a newcomer receives what was said before, and then what is said now", async () => {
  await using server = await startOn(memoryDatabase());
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "Hello everyone!");
  await tell(alice, bob, "Hi there!");
  const carol = await server.join("carol"); // She has received the welcome.
  await alice.sends("new");
  await carol.receives("alice: Hello everyone!", "bob: Hi there!");
  await carol.receives("alice: new");
  await bob.receives(announcements.joined("carol"), "alice: new");
});

Deno.test("disk: announcements and refused messages are not kept", async () => {
  await using server = await startOn(memoryDatabase());
  const [alice, bob] = await server.joinAll("alice", "bob");
  await tell(bob, alice, "old");
  await bob.sends("x".repeat(1_001), "", "\u200b");
  await bob.receives(announcements.messageTooLong);
  (await server.join("dan")).closes();
  await alice.receives(announcements.joined("dan"), announcements.left("dan"));
  await tell(alice, bob, "and older");
  await newcomerReceives(server, ["alice: old", "bob: and older"]);
});

Deno.test("disk: during a flood a newcomer misses no message, and receives none twice", async () => {
  await using server = await startOn(memoryDatabase());
  const [alice, bob] = await server.joinAll("alice", "bob");
  const old = numberedLines(100);
  await tell(bob, alice, ...old);
  const flooding = (async () => {
    for (const line of numberedLines(1_000)) await alice.sends(line);
  })();
  const carol = await server.join("carol");
  await flooding;
  await alice.sends("the end");

  const byBob = await bob.receivesUntil("alice: the end");
  const said = [...saidBy("alice", old), ...byBob];
  const join = said.indexOf(announcements.joined("carol"));
  // Carol sees a hundred messages before her own announcement, but not that one.
  const expected = said.slice(join - 100).toSpliced(100, 1);
  assertLines(await carol.receivesUntil("alice: the end"), expected, "carol");
});

// ------------------------------------------------------ second rung: a database

Deno.test("disk: after a restart, a newcomer receives what was said before it", async () => {
  const db = memoryDatabase();
  {
    await using server = await startOn(db);
    const [alice, bob] = await server.joinAll("alice", "bob");
    await tell(bob, alice, "Hello everyone!");
    await tell(alice, bob, "Hi there! 👋");
  }
  await using server = await startOn(db);
  await newcomerReceives(server, [
    "alice: Hello everyone!",
    "bob: Hi there! 👋",
  ]);
});

Deno.test("disk: of 250 messages the last hundred are kept, and no more are saved", async () => {
  const db = memoryDatabase();
  const lines = numberedLines(250);
  const last = saidBy("alice", lines).slice(-100);
  {
    await using server = await startOn(db);
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (const line of lines) await tell(bob, alice, line);
    await newcomerReceives(server, last);
  }
  assertLines(savedLines(db), last, "whoever reads the database");
  await using server = await startOn(db);
  await newcomerReceives(server, last);
});

Deno.test("disk: what somebody has received is in the database already", async () => {
  const db = memoryDatabase();
  await using server = await startOn(db);
  const bob = await server.join("bob", { bufferSize: 200 });
  const alice = await server.join("alice");
  await bob.receives(announcements.joined("alice"));
  for (const line of numberedLines(10)) {
    // The send loop of bob has to wait in the middle of this line.
    await alice.sends("x".repeat(300));
    for (let n = 0; n < 10; n++) await turn();
    // Now it ends this write in the turn in which the next line arrives.
    await alice.sends(line);
    await bob.conn.read(new Uint8Array(200));
    await turn();
    await bob.nextLine(); // the rest of the long line
    await bob.receives(`alice: ${line}`);
    const isSaved = savedLines(db).at(-1) === `alice: ${line}`;
    if (!isSaved) fail(`After a kill now, bob's line "${line}" would be lost`);
  }
});

Deno.test("disk: SQL in a message is only text", async () => {
  const db = memoryDatabase();
  const lines = [
    "'); DROP TABLE messages; --",
    '"); DELETE FROM messages; --',
    "? ?1 :line $line @line \\ %s",
    "it's 'quoted' \"twice\"",
  ];
  {
    await using server = await startOn(db);
    const [alice, bob] = await server.joinAll("alice", "bob");
    await tell(bob, alice, ...lines);
  }
  await using server = await startOn(db);
  await newcomerReceives(server, saidBy("alice", lines));
});

Deno.test("disk: what no member can have said is left out of a changed file", async () => {
  const db = memoryDatabase();
  db.exec("CREATE TABLE messages (id INTEGER PRIMARY KEY, line)");
  const insert = db.prepare("INSERT INTO messages (line) VALUES (?)");
  const lines = [
    "alice: one",
    "mallory: two\n[SYSTEM] lines",
    "mallory: \u001b[2J",
    "mallory: \u202e",
    announcements.shutdown,
    "",
    null,
    new Uint8Array([0xff, 0x00]),
    12.5,
    "mallory: " + "x".repeat(100_000),
    "bob: two",
  ];
  for (const line of lines) insert.run(line);
  await using server = await startOn(db);
  await newcomerReceives(server, ["alice: one", "bob: two"]);
});

// ---------------------------------------------------- third rung: what can fail

/** Alice says lines, and each of them must arrive. */
async function chatGoesOn(alice: Person, bob: Person, lines: string[]) {
  for (const line of lines) await tell(bob, alice, line);
}

/** Fails unless whoever runs the server sees exactly one warning. */
function assertOneWarning(server: TestServer, warnings: string[]): void {
  const all = [...server.warnings, ...warnings];
  if (all.length === 1) return;
  const seen = all.slice(0, 3).map((line) => `\n${quote(line)}`).join("");
  fail(`The server should warn once, but warns ${all.length} times:${seen}`);
}

/** Breaks a database while people chat, and repairs it. Nothing may be missing. */
async function testBroken(breakIt: string, repair: string): Promise<void> {
  const db = memoryDatabase();
  const before = numberedLines(3);
  const after = Array.from(
    { length: 20 },
    (_, n) => `${n} ${"😀".repeat(990)}`,
  );
  const all = saidBy("alice", [...before, ...after]);
  {
    const warnings: string[] = [];
    await using server = await startOn(db, warnings);
    const [alice, bob] = await server.joinAll("alice", "bob");
    await chatGoesOn(alice, bob, before);
    db.exec(breakIt);
    await chatGoesOn(alice, bob, after);
    assertOneWarning(server, warnings);
    await newcomerReceives(server, all);
    db.exec(repair);
  }
  // When the server stopped, it saved what was missing.
  await using server = await startOn(db);
  await newcomerReceives(server, all);
}

Deno.test("disk: if it is full, the chat goes on, and the server warns once", async () => {
  await testBroken(
    "PRAGMA max_page_count = 8",
    "PRAGMA max_page_count = 1000000",
  );
});

Deno.test("disk: if it becomes read-only, the chat goes on, and the server warns once", async () => {
  await testBroken("PRAGMA query_only = ON", "PRAGMA query_only = OFF");
});

// ----------------------------------------------------- fourth rung: the program

/** What a newcomer receives from a server that starts now. */
async function restartAndRead(disk: Disk): Promise<string[]> {
  await using server = await disk.start("--history");
  const carol = await server.join("carol");
  await server.join("dan");
  const lines = await carol.receivesUntil(announcements.joined("dan"));
  return lines.slice(0, -1);
}

/** Everybody leaves, and then somebody presses Ctrl+C. */
async function stop(server: Server, ...people: Person[]): Promise<Ended> {
  for (const person of people) person.closes();
  return await server.stop();
}

async function joinTwo(server: Server): Promise<[Person, Person]> {
  const alice = await server.join("alice");
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  return [alice, bob];
}

testDisk(
  "disk: a server that may use one file keeps its history there",
  async (disk) => {
    const server = await disk.start("--history");
    const [alice, bob] = await joinTwo(server);
    await tell(bob, alice, "Hello everyone! 👋");
    const { code, stderr } = await stop(server, alice, bob);
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
    const files = [...Deno.readDirSync(disk.folder)].map(({ name }) => name);
    assertEquals(files, ["chat.db"], "After Ctrl+C there is one file to copy");
    assertLines(
      await restartAndRead(disk),
      ["alice: Hello everyone! 👋"],
      "carol",
    );
  },
);

/** Kills a server amid a flood, and compares what bob saw with what is saved. */
async function testKill(disk: Disk, linesUntilKill: number): Promise<void> {
  const server = await disk.start("--history");
  const [alice, bob] = await joinTwo(server);
  const flooding = alice.sends(...numberedLines(20_000)).catch(() => {});
  let received = "";
  for (let n = 0; n < linesUntilKill; n++) received = await bob.nextLine();
  server.kill("SIGKILL");
  received = (await bob.receivesUntil()).at(-1) ?? received;
  await flooding;
  await server.ends();

  const lines = await restartAndRead(disk);
  const last = numberOf(lines.at(-1));
  if (last < numberOf(received)) {
    fail(`bob has received ${received}, and carol only ${lines.at(-1)}`);
  }
  const all = saidBy("alice", numberedLines(last + 1));
  assertLines(lines, all.slice(-100), "carol");
}

for (const count of [10, 300, 2_000]) {
  testDisk(
    `disk: after ${count} lines, a kill -9 loses nothing that somebody has received`,
    (disk) => testKill(disk, count),
  );
}

testDisk(
  "disk: a thousand lines at once are few transactions",
  async (disk) => {
    const db = new DatabaseSync(disk.file);
    // Now each transaction makes FILE-wal grow by one page at least.
    db.exec("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
    {
      await using server = await startOn(db);
      const [alice, bob] = await server.joinAll("alice", "bob");
      await tell(bob, alice, ...numberedLines(1_000));
      assertEquals(numberOf(savedLines(db).at(-1)), 999, "The last saved line");
      const { size } = await Deno.stat(`${disk.file}-wal`);
      const pages = Math.round(size / 4_096);
      assert(
        pages < 500,
        `1,000 lines take ${pages} pages, so everybody waits`,
      );
    }
    db.close();
  },
);

testDisk(
  "disk: while another program holds the file, nobody waits for long",
  async (disk) => {
    const server = await disk.start("--history");
    const [alice, bob] = await joinTwo(server);
    await tell(bob, alice, "before");
    const db = new DatabaseSync(disk.file);
    db.exec("BEGIN IMMEDIATE");
    for (const line of numberedLines(10)) {
      const start = performance.now();
      await tell(bob, alice, line);
      const passed = Math.round(performance.now() - start);
      if (passed > 1_000) fail(`bob waits ${passed} ms for alice's ${line}`);
    }
    db.exec("ROLLBACK");
    db.close();
    const { stderr } = await stop(server, alice, bob);
    // The second line may say that messages are saved again.
    const isShort = /^(.+\n){1,2}$/.test(stderr);
    assert(isShort, `The server should warn once: ${quote(stderr)}`);
    const lines = ["before", ...numberedLines(10)];
    assertLines(await restartAndRead(disk), saidBy("alice", lines), "carol");
  },
);

testDisk(
  "disk: two servers with one file save what is said at both",
  async (disk) => {
    const here = await disk.start("--history");
    const there = await disk.start("--history");
    const [alice, bob] = await joinTwo(here);
    const [anna, ben] = await joinTwo(there);
    for (const line of numberedLines(5)) {
      await tell(bob, alice, line);
      await tell(anna, ben, line);
    }
    await Promise.all([stop(here, alice, bob), stop(there, anna, ben)]);
    const lines = numberedLines(5).flatMap((line) => [
      `alice: ${line}`,
      `bob: ${line}`,
    ]);
    assertLines(await restartAndRead(disk), lines, "carol");
  },
);

testDisk(
  "disk: a file that is no database stays as it is, and the server exits with one line",
  async (disk) => {
    const PNG_START = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
    const picture = new Uint8Array(10_000).fill(7);
    picture.set(PNG_START);
    const text = new TextEncoder().encode("alice: Hello everyone!\n");
    for (const bytes of [picture, text]) {
      await Deno.writeFile(disk.file, bytes);
      const allow = [
        "--no-prompt",
        "--allow-net",
        "--allow-read",
        "--allow-write",
      ];
      const args = [...allow, "server.ts", "0", "--history", disk.file];
      await failsToStart(1, args, disk.file, "not a database");
      assertEquals(
        await Deno.readFile(disk.file),
        bytes,
        "The file has changed",
      );
      const files = [...Deno.readDirSync(disk.folder)];
      assertEquals(files.length, 1, "There are other files beside it");
    }
  },
);

testDisk(
  "disk: a file that cannot be opened is one line on stderr, and the exit status says whose fault it is",
  async (disk) => {
    const start = ["--no-prompt", "--allow-net"];
    const server = ["server.ts", "0", "--history"];
    const allow = ["--allow-read", "--allow-write"];
    const noFolder = `${disk.folder}/nowhere/chat.db`;
    await failsToStart(1, [...start, ...allow, ...server, noFolder], noFolder);
    const folder = disk.folder;
    await failsToStart(1, [...start, ...allow, ...server, folder], folder);
    await failsToStart(1, [...start, ...server, disk.file], "--allow-read");
    await failsToStart(2, [...start, ...server], "--history");
  },
);
