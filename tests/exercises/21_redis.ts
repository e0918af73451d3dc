/**
 * Exercise 21: two servers, one room.
 *
 * One server is one process. Who needs more puts a broker between several: a
 * program that passes on to all what any of them tells it. Ours is Redis. With
 * `server.ts PORT --redis HOST:PORT` all servers at one Redis are one chat.
 *
 * Order needs one place. If each server told its own people first and the other
 * server then, alice would see her line before bob's, and bob his before hers.
 * So a server tells only the broker (`PUBLISH`), and appends to its log what
 * comes back (`SUBSCRIBE`), even what its own people said: the broker has one
 * thread, and tells all in one order. Without `--redis` nothing changes.
 *
 * RESP, the protocol of Redis, frames by length where ours frames by newline:
 * `$5\r\nhello\r\n` is a text of five bytes, `*2\r\n` begins a list of two. That
 * buys texts that hold any byte, and nobody searches in them. It costs that one
 * must know the length before one begins, that no person can type it with `nc`,
 * and that one wrong length spoils all that follows. A command is a list of such
 * texts. After `HELLO 3` who has subscribed may still ask; answers begin with
 * `+ : - _` too (done, number, error, nothing), or `%`, a list of pairs. What is
 * published, and the answer to `SUBSCRIBE`, is a list that begins with `>`. Ask
 * without waiting for earlier answers: they come in the same order.
 *
 * Names are unique everywhere: `SET key 1 NX PX 3000` takes one if nobody has it
 * (the key from `nameKey`). It expires unless its server sets it again in time.
 * Between this `SET` and the join there is a gap: if the server dies in it, the
 * name is taken and nobody has it, until it expires. A server that was cut off
 * from Redis may find that others have names of its people: it sends these away.
 *
 * A server that stops takes its people along: they leave at the others, and
 * their names are free. One that is killed tells nobody: who is not heard of for
 * 3 seconds has left, and all hear so at the same place among the lines.
 *
 * When Redis is gone, or says nothing for 2 seconds, there is no order: nobody
 * speaks, no name is given, nobody leaves. All see once, and who speaks, again:
 *
 *     < [SYSTEM] The chat is interrupted: what was said last may be lost.
 *
 * A newcomer's name is refused: `The name carol cannot be had now.` When Redis
 * is back, all see `[SYSTEM] The chat goes on.`, and nothing else. What was said
 * last is lost or not, nobody knows. Whoever floods waits until the lines came
 * back. Begin with `#append`: what calls it now, and what will?
 *
 *     deno task learn 21        (or: deno test -A tests/exercises/21_redis.ts)
 */

import { fail } from "@std/assert";
import { assertLine, assertLines, inTime, messages } from "../helpers.ts";
import { type Person, testRun, texts } from "../helpers.ts";
import { Server } from "../programs.ts";

const APART =
  "[SYSTEM] The chat is interrupted: what was said last may be lost.";
const NO_NAME =
  "[SYSTEM] The name carol cannot be had now. Enter another name:";
const TOGETHER = "[SYSTEM] The chat goes on.";

/** Alice here, bob there, and the Redis between their servers: it is new. */
class Chat {
  here!: Server;
  there!: Server;
  alice!: Person;
  bob!: Person;
  readonly #folder = Deno.makeTempDirSync();
  readonly #port = freePort();
  readonly #servers: Server[] = [];
  #redis?: Deno.ChildProcess;

  async start(): Promise<void> {
    await this.startRedis();
    const both = [this.#startServer(), this.#startServer()] as const;
    [this.here, this.there] = await Promise.all(both);
    this.alice = await this.here.join("alice");
    this.bob = await this.there.join("bob");
    await this.alice.hears(texts.joined("bob"));
  }

  /** Resolves when Redis lets somebody in. */
  async startRedis(): Promise<void> {
    const args = ["--port", `${this.#port}`, "--bind", "127.0.0.1"];
    args.push("--dir", this.#folder, "--save", "", "--appendonly", "no");
    const command = new Deno.Command("redis-server", { args, stdout: "piped" });
    this.#redis = command.spawn();
    const output = this.#redis.stdout.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const piece of output) {
      if ((text += piece).includes("Ready to accept")) return;
    }
    fail(`Redis does not start: ${text}`);
  }

  async #startServer(): Promise<Server> {
    const options = ["0", "--redis", `127.0.0.1:${this.#port}`];
    const server = new Server(["--allow-net", "server.ts", ...options]);
    this.#servers.push(server);
    const start = server.stdout.shows(/Listening on .+:(\d+)\n/);
    const [, port] = await start.catch(async () => {
      const { stderr } = await server.ends();
      fail(`Nobody can join, for the server has ended: ${stderr}`);
    });
    server.port = Number(port);
    return server;
  }

  async signalRedis(signal: Deno.Signal): Promise<void> {
    this.#redis?.kill(signal);
    if (signal === "SIGKILL") await this.#redis?.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.signalRedis("SIGKILL").catch(() => {}); // when it is gone already
    await Deno.remove(this.#folder, { recursive: true });
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function isMissing(): boolean {
  try {
    new Deno.Command("redis-server", { args: ["--version"] }).outputSync();
    return false;
  } catch (error) {
    return error instanceof Deno.errors.NotFound;
  }
}

function testRedis(name: string, fn: (chat: Chat) => Promise<void>): void {
  async function test(): Promise<void> {
    await using chat = new Chat();
    await chat.start();
    await fn(chat);
  }
  if (!isMissing()) testRun(`redis: ${name}`, test);
  else Deno.test.ignore(`redis: ${name} (needs redis-server)`, test);
}

/** Somebody new asks for a name. Resolves with the answer. */
async function asks(server: Server, name: string): Promise<string> {
  const person = await server.connect();
  await person.says(name);
  await person.hears(texts.enterName(person.port));
  return await person.nextLine();
}

testRedis("who is here and what is said, at both", async (chat) => {
  const { alice, bob, here } = chat;
  const answer = await asks(here, "carol");
  assertLine(answer, texts.welcome("carol", "alice", "bob", "carol"), "carol");
  for (const member of [alice, bob]) await member.hears(texts.joined("carol"));
  await alice.says("Hello 👋");
  await bob.hears("alice: Hello 👋");
  await bob.says("Hi!");
  await alice.hears("bob: Hi!");
  await bob.endsInput();
  await alice.hears(texts.left("bob"));
  const again = await asks(here, "Bob");
  assertLine(again, texts.welcome("Bob", "alice", "Bob", "carol"), "Bob");
});

testRedis("all see one order, wherever they are", async (chat) => {
  const { alice, bob, here, there } = chat;
  const [carol, dan] = [await here.join("carol"), await there.join("dan")];
  await carol.hears(texts.joined("dan"));
  const lines = messages(500, 20);
  await Promise.all([alice.says(...lines), bob.says(...lines)]);
  const [seen, seenThere]: [string[], string[]] = [[], []];
  for (const _ of [...lines, ...lines]) {
    seen.push(await carol.nextLine());
    seenThere.push(await dan.nextLine());
  }
  assertLines(seenThere, seen, "dan, as carol does,");
});

testRedis("two ask for one name at once, and one gets it", async (chat) => {
  for (const name of ["a", "b", "c", "d", "e", "f", "g", "h"]) {
    const both = [asks(chat.here, name), asks(chat.there, name)];
    const answers = await Promise.all(both);
    const welcomes = answers.filter((answer) => answer.includes("Welcome"));
    if (welcomes.length !== 1) fail(`They see:\n${answers.join("\n")}`);
    await chat.alice.hears(texts.joined(name));
    await chat.bob.hears(texts.joined(name));
  }
});

testRedis("a server stops, and its people leave", async (chat) => {
  await chat.here.stop();
  await chat.alice.hears(texts.shutdown);
  const answer = await asks(chat.there, "Alice");
  assertLine(answer, texts.welcome("Alice", "Alice", "bob"), "Alice");
  await chat.bob.hears(texts.left("alice"), texts.joined("Alice"));
});

testRedis("kill -9 of a server, and its people leave", async (chat) => {
  chat.here.kill("SIGKILL");
  await chat.bob.hears(texts.left("alice"));
  let answer = "";
  async function tries(): Promise<void> { // again and again
    do answer = await asks(chat.there, "alice"); while (
      !answer.includes("Welcome")
    );
  }
  await inTime(tries(), "The new alice", "the name of one who is gone");
  assertLine(answer, texts.welcome("alice", "alice", "bob"), "the new alice");
});

testRedis("kill -9 of Redis, and a new one", async (chat) => {
  const { alice, bob, here } = chat;
  await chat.signalRedis("SIGKILL");
  for (const person of [alice, bob]) await person.hears(APART);
  await alice.says("Is anybody there?");
  await alice.hears(APART);
  assertLine(await asks(here, "carol"), NO_NAME, "carol");
  await chat.startRedis();
  for (const person of [alice, bob]) await person.hears(TOGETHER);
  await alice.says("There you are!");
  await bob.hears("alice: There you are!");
  const answer = await asks(here, "carol");
  assertLine(answer, texts.welcome("carol", "alice", "bob", "carol"), "carol");
  for (const person of [alice, bob]) await person.hears(texts.joined("carol"));
});

testRedis("a Redis that does not answer is gone, too", async (chat) => {
  const { alice, bob } = chat;
  await chat.signalRedis("SIGSTOP");
  for (const person of [alice, bob]) await person.hears(APART);
  for (let n = 0; n < 3; n++) {
    await alice.says("Hello?");
    await alice.hears(APART);
  }
  await chat.signalRedis("SIGCONT");
  for (const person of [alice, bob]) await person.hears(TOGETHER);
  await alice.says("There you are!");
  await bob.hears("alice: There you are!");
});

testRedis("a flood arrives once, in order; others speak", async (chat) => {
  const { alice, bob, here, there } = chat;
  const [carol, dan] = [await here.join("carol"), await there.join("dan")];
  await carol.hears(texts.joined("dan"));
  await bob.hears(texts.joined("carol"), texts.joined("dan"));
  const lines = messages(20_000);
  const flood = lines.map((line) => `alice: ${line}`);
  const [seen] = await Promise.all([
    bob.hearsUntil(flood.at(-1)!),
    carol.hearsUntil(flood.at(-1)!),
    alice.says(...lines),
    dan.hears(flood[0]!).then(() => dan.says("Me, too!")),
  ]);
  const at = seen.indexOf("dan: Me, too!");
  if (at < 0) fail("bob has to wait for dan until the flood is over");
  assertLines(seen.toSpliced(at, 1), flood, "bob");
});
