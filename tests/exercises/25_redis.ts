/**
 * Exercise 25: two servers, one chat.
 *
 * One server is one process. If that is not enough, several servers share a broker:
 * a program that passes on to all of them what any of them publishes. Ours is Redis.
 * All servers that use the same Redis are one chat. Without `--redis`, nothing changes.
 *
 *     redis-server
 *     deno run --allow-net server.ts 9999 --redis 127.0.0.1:6379
 *     deno run --allow-net server.ts 9998 --redis 127.0.0.1:6379
 *
 * There are three rungs, and each has its part of the tests below.
 *
 * First rung: RESP, the protocol of Redis, and no server yet. RESP frames by length,
 * where the chat frames by newline. So a text may hold any byte, and nobody searches
 * for its end. The cost is that one wrong length spoils everything after it, and that
 * nobody can type it with `nc`. The first character says what follows:
 *
 *     +OK\r\n               a short text, without a newline
 *     :12\r\n               a number
 *     _\r\n                 nothing
 *     -ERR no\r\n           an error
 *     $5\r\nhello\r\n       a text of five bytes
 *     *2\r\n                a list; the two replies after it belong to it
 *     %1\r\n                pairs; the key and the value after it belong to it
 *     >3\r\n                a list that nobody has asked for: a published message
 *
 * A command is a `*` list of `$` texts. Write redis.ts with `encodeCommand`, which
 * returns the bytes of a command, and `readReplies`, which yields replies. Its source
 * is that of `readLines`. Text, number, nothing and list become `string`, `number`,
 * `null` and an array, and pairs are one array. An error, and what is not RESP, throws.
 * Begin with `encodeCommand`. Its test is the first, and it needs no Redis.
 *
 * Second rung: one server at Redis. These commands are enough:
 *
 *     HELLO 3                  speaks version 3 of RESP: the one above
 *     SUBSCRIBE chat           from now on receives what is published on `chat`
 *     PING                     is answered with PONG
 *     PUBLISH chat TEXT        sends > message chat TEXT to all who have subscribed
 *
 * SUBSCRIBE is answered with a `>` list, too. Begin in server.ts with the new option,
 * in `parseOptions` and `run`. Then look at `#say`, `#join` and `#removeMember`, which
 * change the room. The problems:
 *
 *   - One order needs one place. If each server appended the lines of its own members
 *     at once, alice would see her line before that of bob, and bob his before hers.
 *     So a server only publishes, and appends what Redis sends back, also what its own
 *     members said. What calls `append` now, and what will?
 *   - Commands need not wait for earlier replies, because replies come in the order of
 *     the commands. But if nobody ever waits, a flood fills the memory.
 *   - Redis can end, or send nothing for 2 seconds. Then there is no order: nobody
 *     speaks, joins or leaves. All members see the first line, and whoever speaks sees
 *     it again. A newcomer sees the second line, and when Redis is back, all members
 *     see the third line. Nobody knows whether the last messages were lost.
 *
 *     < [SYSTEM] The chat is interrupted: what was said last may be lost.
 *     < [SYSTEM] The name carol is not available now. Enter another name:
 *     < [SYSTEM] The chat continues.
 *
 * Third rung: two servers. The problems:
 *
 *   - A name must be unique at all servers. `SET KEY 1 NX PX 3000` answers OK to the
 *     first who asks for a key, and `null` to others until `DEL KEY`. The key is free
 *     again after 3 seconds, unless its server sets it again without NX.
 *   - A server that starts has to find out who is here already.
 *   - If a server stops, its members leave, and their names are free. A server that is
 *     killed cannot say so: its members have left when nothing of them was received
 *     for 3 seconds. All servers see each leave at the same place among the lines.
 *   - A server that was suspended for longer may find out that a member of another
 *     server has the name of its own member. Its own member sees this, and then it is
 *     disconnected:
 *
 *     < [SYSTEM] Your name has been lost. Goodbye!
 *
 * Hints: what the servers publish is your own protocol. JSON has no newline in it, and
 * RESP would not mind one. What a server publishes returns to it, so when the reply to
 * a later PING is here, everything published before is here, too.
 *
 *     deno task learn 25
 *     deno test tests/exercises/25_redis.ts         the first rung
 *     deno test -A tests/exercises/25_redis.ts      all: they start redis-server
 */

import { assertEquals, assertRejects, fail } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  inTime,
  messages,
  type Person,
  testProgram,
} from "../helpers.ts";
import { Program, Server } from "../programs.ts";

const INTERRUPTED =
  "[SYSTEM] The chat is interrupted: what was said last may be lost.";
const RESUMED = "[SYSTEM] The chat continues.";
const NAME_LOST = "[SYSTEM] Your name has been lost. Goodbye!";
const NO_NAME =
  "[SYSTEM] The name carol is not available now. Enter another name:";

// ------------------------------------------------------- first rung: RESP alone

/** What the first rung builds, in redis.ts. */
interface Resp {
  encodeCommand(...words: string[]): Uint8Array;
  readReplies(source: Pick<Deno.Conn, "read">): AsyncIterator<unknown>;
}

async function loadResp(): Promise<Resp> {
  try {
    return await import("../../redis.ts");
  } catch (error) {
    fail(
      `There should be redis.ts beside server.ts: ${(error as Error).message}`,
    );
  }
}

/** What arrives, in chunks of a given size. Then the connection ends. */
function sourceOf(text: string, chunkSize = Infinity): Pick<Deno.Conn, "read"> {
  let bytes = new TextEncoder().encode(text);
  return {
    read: (buffer) => {
      const chunk = bytes.subarray(0, Math.min(chunkSize, buffer.length));
      buffer.set(chunk);
      bytes = bytes.subarray(chunk.length);
      return Promise.resolve(chunk.length > 0 ? chunk.length : null);
    },
  };
}

/** Fails unless exactly these replies are read from a text. */
async function assertReplies(
  text: string,
  expected: unknown[],
  chunkSize?: number,
): Promise<void> {
  const { readReplies } = await loadResp();
  const replies = readReplies(sourceOf(text, chunkSize));
  for (const reply of expected) {
    assertEquals((await replies.next()).value, reply, JSON.stringify(text));
  }
}

Deno.test("redis: a command is a list of texts, each with its length in bytes", async () => {
  const { encodeCommand } = await loadResp();
  const bytes = encodeCommand("SET", "chat:bob", "👋");
  const text = new TextDecoder().decode(bytes);
  const expected = "*3\r\n$3\r\nSET\r\n$8\r\nchat:bob\r\n$4\r\n👋\r\n";
  assertEquals(text, expected, "SET chat:bob 👋");
});

Deno.test("redis: replies are texts, numbers, nothing, and lists of these", async () => {
  await assertReplies("+OK\r\n:12\r\n_\r\n$0\r\n\r\n", ["OK", 12, null, ""]);
  await assertReplies("*2\r\n$1\r\na\r\n*1\r\n:1\r\n", [["a", [1]]]);
  const message = ">3\r\n+message\r\n$4\r\nchat\r\n$2\r\nhi\r\n";
  await assertReplies(message, [["message", "chat", "hi"]]);
  await assertReplies("%1\r\n+proto\r\n:3\r\n+PONG\r\n", [
    ["proto", 3],
    "PONG",
  ]);
});

Deno.test("redis: a reply is complete wherever the network cuts it", async () => {
  const text =
    ":1\r\n*2\r\n$4\r\n👋\r\n+é\r\n$12\r\nhello\r\n+OK\r\n\r\n:2\r\n";
  const expected = [1, ["👋", "é"], "hello\r\n+OK\r\n", 2];
  for (const chunkSize of [1, 2, 3, 5, 7]) {
    await assertReplies(text, expected, chunkSize);
  }
});

Deno.test("redis: an error, and what is not RESP, ends the replies", async () => {
  const { readReplies } = await loadResp();
  for (
    const text of ["-ERR no\r\n", "[SYSTEM] Enter your name\r\n", "$5\r\nhe"]
  ) {
    const replies = readReplies(sourceOf(text));
    await assertRejects(() => replies.next(), Error, undefined, text);
  }
});

// ------------------------------------------------ second rung: one server at Redis

/** A chat whose servers use a Redis of their own. */
class Chat {
  readonly #folder = Deno.makeTempDirSync();
  readonly #port = findFreePort();
  readonly #servers: Server[] = [];
  #redis?: Deno.ChildProcess;

  /** Starts Redis. Resolves when it accepts connections. */
  async startRedis(): Promise<void> {
    const args = ["--port", `${this.#port}`, "--bind", "127.0.0.1"];
    args.push("--dir", this.#folder, "--save", "", "--appendonly", "no");
    const command = new Deno.Command("redis-server", { args, stdout: "piped" });
    this.#redis = command.spawn();
    const output = this.#redis.stdout.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const chunk of output) {
      text += chunk;
      if (text.includes("Ready to accept")) return;
    }
    fail(`Redis does not start: ${text}`);
  }

  /** Starts a server. Resolves when it accepts connections. */
  async startServer(): Promise<Server> {
    const options = ["0", "--redis", `127.0.0.1:${this.#port}`];
    const server = new Server(["--allow-net", "server.ts", ...options]);
    this.#servers.push(server);
    await server.listens();
    return server;
  }

  async signalRedis(signal: Deno.Signal): Promise<void> {
    this.#redis?.kill(signal);
    if (signal === "SIGKILL") await this.#redis?.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.signalRedis("SIGKILL").catch(() => {}); // It may be gone already.
    await Deno.remove(this.#folder, { recursive: true });
  }
}

function findFreePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Whether redis-server can be started here. */
function hasRedis(): boolean {
  const { state } = Deno.permissions.querySync({ name: "run" });
  if (state !== "granted") return true; // `testProgram` skips the test anyway.
  try {
    new Deno.Command("redis-server", { args: ["--version"] }).outputSync();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function testRedis(name: string, fn: (chat: Chat) => Promise<void>): void {
  async function test(): Promise<void> {
    await using chat = new Chat();
    await chat.startRedis();
    await fn(chat);
  }
  if (hasRedis()) testProgram(`redis: ${name}`, test);
  else Deno.test.ignore(`redis: ${name} (needs redis-server)`, test);
}

/** Somebody new asks for a name. Resolves with the answer. */
async function askForName(server: Server, name: string): Promise<string> {
  const person = await server.connect();
  await person.sends(name);
  await person.receives(announcements.enterName(person.port));
  return await person.nextLine();
}

testRedis("members of one server chat through Redis", async (chat) => {
  const server = await chat.startServer();
  const alice = await server.join("alice");
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await alice.sends("Hello 👋");
  await bob.receives("alice: Hello 👋");
  await bob.sends("Hi!", "", "x".repeat(1_001), "Bye!");
  await bob.receives(announcements.messageTooLong);
  await alice.receives("bob: Hi!", "bob: Bye!");
  await bob.halfCloses();
  await alice.receives(announcements.left("bob"));
  const answer = await askForName(server, "Bob");
  assertLine(answer, announcements.welcome("Bob", "alice", "Bob"), "Bob");
});

testRedis("the chat is interrupted until Redis is back", async (chat) => {
  const server = await chat.startServer();
  const alice = await server.join("alice");
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await chat.signalRedis("SIGKILL");
  for (const person of [alice, bob]) await person.receives(INTERRUPTED);
  await alice.sends("Is anybody there?");
  await alice.receives(INTERRUPTED);
  assertLine(await askForName(server, "carol"), NO_NAME, "carol");
  await chat.startRedis();
  for (const person of [alice, bob]) await person.receives(RESUMED);
  await alice.sends("There you are!");
  await bob.receives("alice: There you are!");
  await server.join("carol");
  await bob.receives(announcements.joined("carol"));
});

testRedis("a Redis that does not answer is as good as gone", async (chat) => {
  const server = await chat.startServer();
  const alice = await server.join("alice");
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  await chat.signalRedis("SIGSTOP");
  for (const person of [alice, bob]) await person.receives(INTERRUPTED);
  for (let n = 0; n < 3; n++) {
    await alice.sends("Hello?");
    await alice.receives(INTERRUPTED);
  }
  await chat.signalRedis("SIGCONT");
  for (const person of [alice, bob]) await person.receives(RESUMED);
  await alice.sends("There you are!");
  await bob.receives("alice: There you are!");
});

testRedis("a server without a Redis exits with one line", async () => {
  const nowhere = `127.0.0.1:${findFreePort()}`;
  const cases: [address: string, code: number, word: string][] = [
    [nowhere, 1, nowhere],
    ["localhost", 2, "Wrong --redis"],
    ["localhost:99999", 2, "Wrong --redis"],
  ];
  for (const [address, code, word] of cases) {
    const args = ["--allow-net", "server.ts", "0", "--redis", address];
    await using program = new Program(args, { input: "" });
    const ended = await program.ends();
    const isLine = /^.+\n$/.test(ended.stderr) && ended.stderr.includes(word);
    if (ended.code !== code || !isLine) {
      fail(`--redis ${address} exits with ${ended.code}: ${ended.stderr}`);
    }
  }
});

// ------------------------------------------------------- third rung: two servers

/** Joins with a name that was taken, and asks for it until it is free. */
async function joinAgain(server: Server, name: string): Promise<Person> {
  const person = await server.connect();
  person.name = name;
  await person.receives(announcements.enterName(person.port));
  async function askUntilWelcome(): Promise<void> {
    let answer = "";
    while (!answer.startsWith("[SYSTEM] Welcome")) {
      await person.sends(name);
      answer = await person.nextLine();
    }
  }
  await inTime(askUntilWelcome(), `The new ${name}`, "its name");
  return person;
}

/** Alice at a server here, and bob at a server there. */
interface TwoServers {
  chat: Chat;
  here: Server;
  there: Server;
  alice: Person;
  bob: Person;
}

function testTwo(name: string, fn: (two: TwoServers) => Promise<void>): void {
  testRedis(name, async (chat) => {
    const [here, there] = await Promise.all([
      chat.startServer(),
      chat.startServer(),
    ]);
    const alice = await here.join("alice");
    const bob = await there.join("bob");
    await alice.receives(announcements.joined("bob"));
    await fn({ chat, here, there, alice, bob });
  });
}

testTwo("members of two servers see each other, and chat", async (two) => {
  const { alice, bob, here } = two;
  const answer = await askForName(here, "carol");
  const welcome = announcements.welcome("carol", "alice", "bob", "carol");
  assertLine(answer, welcome, "carol");
  for (const member of [alice, bob]) {
    await member.receives(announcements.joined("carol"));
  }
  await alice.sends("Hello 👋");
  await bob.receives("alice: Hello 👋");
  await bob.sends("Hi!");
  await alice.receives("bob: Hi!");
  await bob.halfCloses();
  await alice.receives(announcements.left("bob"));
  const again = await askForName(here, "Bob");
  const newWelcome = announcements.welcome("Bob", "alice", "carol", "Bob");
  assertLine(again, newWelcome, "Bob");
});

testTwo("members of two servers see one order", async (two) => {
  const { alice, bob, here, there } = two;
  const carol = await here.join("carol");
  const dan = await there.join("dan");
  await carol.receives(announcements.joined("dan"));
  const lines = messages(500, 20);
  await Promise.all([alice.sends(...lines), bob.sends(...lines)]);
  const seenByCarol: string[] = [];
  const seenByDan: string[] = [];
  for (const _ of [...lines, ...lines]) {
    seenByCarol.push(await carol.nextLine());
    seenByDan.push(await dan.nextLine());
  }
  assertLines(seenByDan, seenByCarol, "dan, like carol,");
});

testTwo("of two who ask for one name at once, one gets it", async (two) => {
  const { alice, bob, here, there } = two;
  for (const name of ["a", "b", "c", "d", "e", "f", "g", "h"]) {
    const answers = await Promise.all([
      askForName(here, name),
      askForName(there, name),
    ]);
    const welcomes = answers.filter((answer) => answer.includes("Welcome"));
    if (welcomes.length !== 1) fail(`They receive:\n${answers.join("\n")}`);
    await alice.receives(announcements.joined(name));
    await bob.receives(announcements.joined(name));
  }
});

testTwo("when a server stops, its members leave", async (two) => {
  await two.here.stop();
  await two.alice.receives(announcements.shutdown);
  const answer = await askForName(two.there, "Alice");
  assertLine(answer, announcements.welcome("Alice", "bob", "Alice"), "Alice");
  await two.bob.receives(
    announcements.left("alice"),
    announcements.joined("Alice"),
  );
});

testTwo("when a server is killed, its members leave", async (two) => {
  two.here.kill("SIGKILL");
  await two.bob.receives(announcements.left("alice"));
  const alice = await joinAgain(two.there, "alice");
  await two.bob.receives(announcements.joined("alice"));
  await alice.sends("Here I am again.");
  await two.bob.receives("alice: Here I am again.");
});

testTwo("a server that was stopped too long loses its names", async (two) => {
  two.here.kill("SIGSTOP");
  await two.bob.receives(announcements.left("alice"));
  const alice = await joinAgain(two.there, "alice");
  await two.bob.receives(announcements.joined("alice"));
  two.here.kill("SIGCONT");
  await two.alice.receivesUntil(NAME_LOST);
  await two.alice.isDisconnected();
  await alice.sends("It is me.");
  await two.bob.receives("alice: It is me.");
});

testTwo("a new Redis makes one chat of two servers again", async (two) => {
  const { chat, alice, bob, here } = two;
  await chat.signalRedis("SIGKILL");
  for (const person of [alice, bob]) await person.receives(INTERRUPTED);
  await chat.startRedis();
  for (const person of [alice, bob]) await person.receives(RESUMED);
  await alice.sends("There you are!");
  await bob.receives("alice: There you are!");
  const answer = await askForName(here, "carol");
  const welcome = announcements.welcome("carol", "alice", "bob", "carol");
  assertLine(answer, welcome, "carol");
  for (const person of [alice, bob]) {
    await person.receives(announcements.joined("carol"));
  }
});

testTwo("a flood arrives in order, and others speak meanwhile", async (two) => {
  const { alice, bob, here, there } = two;
  const carol = await here.join("carol");
  const dan = await there.join("dan");
  await carol.receives(announcements.joined("dan"));
  await bob.receives(
    announcements.joined("carol"),
    announcements.joined("dan"),
  );
  const lines = messages(20_000);
  const flood = lines.map((line) => `alice: ${line}`);
  const last = flood.at(-1)!;
  async function speak(): Promise<void> {
    await dan.receives(flood[0]!);
    await dan.sends("Me, too!");
  }
  const [seen] = await Promise.all([
    bob.receivesUntil(last),
    carol.receivesUntil(last),
    alice.sends(...lines),
    speak(),
  ]);
  const index = seen.indexOf("dan: Me, too!");
  if (index === -1) {
    fail(
      "bob receives nothing of dan before the flood is over",
    );
  }
  assertLines(seen.toSpliced(index, 1), flood, "bob");
});
