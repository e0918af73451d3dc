/**
 * The chat server: everybody's lines go to everybody else.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080 --host 0.0.0.0 --max-clients 50
 *
 * The way of a message: bytes become lines (`#serve`), a member's line goes to
 * the end of the log (`#say`), and once in a turn of the event loop every idle
 * reader starts to write what it has not got yet (`#turn`, `#write`). There are
 * no threads, so no locks: between two `await`s nothing else runs.
 */

import { parseArgs } from "@std/cli/parse-args";
import * as timers from "node:timers/promises";
import { formatAddress, parsePort, readLines } from "./protocol.ts";
import { cleanText, isTooLong, MAX_LINE_LENGTH } from "./protocol.ts";
import { nameKey, register, texts } from "./protocol.ts";
import { DEFAULT_HOST, DEFAULT_PORT, GOODBYE_MS } from "./protocol.ts";

const BACKLOG = 4_096; // connections not accepted yet; more have to try again
const MAX_LEAVING = 1_000; // more connections, about to close; newcomers wait
const NEWCOMERS_A_TURN = 16; // let in before those who are in have a turn
const ACCEPT_AGAIN_MS = 100; // when nobody can be let in, look again so soon
const WARN_AGAIN_MS = 60_000; // the time between two warnings about that
const MAX_DEBT = 128 * 1024; // characters not delivered; their author waits
const MIN_CHARGE = 128; // characters that each line costs at least
const STALL_LOOK_MS = 100; // how often who waits looks for stalled readers
const MAX_BEHIND = 500_000; // entries; a reader farther behind is disconnected
const MAX_CHUNK = 128 * 1024; // characters in one write; the rest in the next
const MAX_LISTED_NAMES = 20; // in a list of users; the others are counted
const MAX_UNPRINTED = 1024 * 1024; // characters; further lines are dropped
const encoder = new TextEncoder();

/** What a test may want otherwise than the program. */
export const DEFAULTS = {
  maxClients: 1_000, // connections, named or not; one more is told: full
  nameTimeoutMs: 60_000, // to give a name; then the connection ends
  stallMs: 5_000, // a reader that takes nothing while somebody waits has to go
  print: (_line: string): unknown => undefined, // for the server's screen
  warn: (line: string): unknown => console.error(line), // for who runs it
};

/** A line of the log: for all but its author, or for one client only. */
type Entry = { line: string; author?: Client; only?: Client };
/** Some entries, packed to be written, and the number of the one after them. */
type Chunk = { bytes: Uint8Array; end: number };

/** One connection, from accept to close. */
class Client {
  name?: string; // set when a name has been accepted: then it is a member
  joinedAt = Infinity; // it hears nothing of the chat before this entry
  leftAt = Infinity; // it hears nothing at all from this entry on
  lastOwn = -1; // the last entry that it wrote, or that is for it only
  debt = 0; // what it has caused and not everybody has got, in characters
  writingSince?: number; // when the write that is under way began, if one is
  timer?: ReturnType<typeof setTimeout>; // ends it, or its goodbye
  /** @param position the entry that it gets next, Infinity after its last. */
  constructor(readonly conn: Deno.TcpConn, public position: number) {}
}

/**
 * The room owns all state: who is here, what was said, and who has got how much
 * of it. Every line, to all or to one, goes to the end of the log, so there is
 * one order. Each client has a position in it: the entry that it gets next.
 */
class Room {
  #log: Entry[] = [];
  #first = 0; // the number of the first entry that is kept
  #end = 0; // the number of the entry that comes next
  #clients = new Set<Client>(); // all connections, those about to close as well
  #leaving = 0; // how many of them are about to close
  #members = new Map<string, Client>(); // those with a name, by its key
  #chunks = new Map<number, Chunk>(); // of this turn, by their first entry
  #turned = Promise.withResolvers<void>(); // resolved after each turn
  #nextTurn?: ReturnType<typeof setImmediate>;
  constructor(readonly options: typeof DEFAULTS) {}

  /** Lets people in until the listener is closed; then says goodbye to all. */
  async open(listener: Deno.TcpListener): Promise<void> {
    const { maxClients, warn } = this.options;
    for (let [n, warned] = [1, -Infinity];; n++) {
      if (n % NEWCOMERS_A_TURN === 0) await timers.setImmediate();
      try {
        const isCrowded = this.#clients.size >= maxClients + MAX_LEAVING;
        if (isCrowded) await timers.setTimeout(ACCEPT_AGAIN_MS);
        else this.#serve(await listener.accept()).catch(warn);
      } catch (error) {
        if (error instanceof Deno.errors.BadResource) break; // closed
        const { code, message } = error as Error & { code?: string };
        if (code !== "EMFILE" && code !== "ENFILE") continue; // a newcomer's own
        if (performance.now() > warned + WARN_AGAIN_MS) {
          warned = performance.now();
          warn(`Cannot let anybody in: ${message}. A higher ulimit -n helps.`);
        }
        await timers.setTimeout(ACCEPT_AGAIN_MS);
      }
    }
    for (const client of this.#clients) this.#leave(client, texts.shutdown);
    while (this.#clients.size > 0) await this.#turned.promise;
  }

  /** Reads one connection from its first byte to its last. */
  async #serve(conn: Deno.TcpConn): Promise<void> {
    const client = this.#admit(conn);
    try {
      conn.setNoDelay(true); // lines are gathered here, not by the kernel
      conn.setKeepAlive(true); // a cable pulled out is noticed one day
      for await (const line of readLines(conn)) {
        if (client.leftAt === Infinity) this.#hear(client, line);
        if (client.debt > MAX_DEBT) await this.#payDebt(client);
      }
    } finally {
      this.#leave(client);
      while (client.position < Infinity) await this.#turned.promise;
      this.#close(client);
    }
  }

  /** A new connection is asked for a name, or told that there is no room. */
  #admit(conn: Deno.TcpConn): Client {
    const client = new Client(conn, this.#end);
    this.#clients.add(client);
    const expire = () => this.#leave(client, texts.noName);
    client.timer = setTimeout(expire, this.options.nameTimeoutMs);
    const isFull = this.#clients.size - this.#leaving > this.options.maxClients;
    const line = texts.enterName(conn.remoteAddr.port);
    if (isFull) this.#leave(client, texts.full);
    else this.#append({ only: client, line });
    return client;
  }

  /** A line of a client is its name, or something to say. It has its price. */
  #hear(client: Client, line: string): void {
    if (this.#first > client.lastOwn) client.debt = 0; // everybody has got it
    client.debt += Math.max(line.length, MIN_CHARGE);
    if (client.name === undefined) this.#join(client, line);
    else this.#say(client, line);
  }

  #join(client: Client, typed: string): void {
    const { hostname, port } = client.conn.remoteAddr;
    const answer = register(typed, port, (key) => this.#members.has(key));
    if ("refusal" in answer) {
      const line = texts.nameRefused(answer.refusal);
      return this.#append({ only: client, line });
    }
    const name = client.name = answer.name;
    clearTimeout(client.timer);
    client.joinedAt = this.#end;
    // listed are the newcomer and those who are here longest
    const others = this.#members.keys().take(MAX_LISTED_NAMES - 1);
    const keys = [nameKey(name), ...others].sort();
    this.#members.set(nameKey(name), client);
    const names = keys.map((key) => this.#members.get(key)!.name!);
    const users = texts.activeUsers(this.#members.size, names);
    const { print } = this.options;
    print(`✅ ${name} connected from ${formatAddress(hostname, port)}`);
    this.#append({ author: client, line: texts.joined(name) });
    this.#append({ only: client, line: texts.welcome(name, users) });
    print(`📊 ${users}`);
  }

  #say(author: Client, line: string): void {
    const text = cleanText(line);
    if (line.length >= MAX_LINE_LENGTH || isTooLong(text)) {
      this.#append({ only: author, line: texts.messageTooLong });
    } else if (text !== "") {
      const message = texts.message(author.name!, text);
      this.#append({ author, line: message }, `📨 ${message}`);
    }
  }

  #append(entry: Entry, printed = entry.line): void {
    const owner = entry.only ?? entry.author;
    if (owner) owner.lastOwn = this.#end;
    if (!entry.only) this.options.print(printed);
    this.#log.push(entry);
    this.#end++;
    this.#planTurn();
  }

  /**
   * Who causes work waits for it, and nobody else: its socket is not read until
   * everybody has got what is in the log by now. Meanwhile it disconnects readers
   * that take nothing. (On loopback, under 1 MB in `stallMs` looks like nothing.)
   */
  async #payDebt(client: Client): Promise<void> {
    const target = this.#end;
    const waitingSince = performance.now();
    const look = setInterval(() => {
      const latest = performance.now() + STALL_LOOK_MS - this.options.stallMs;
      for (const reader of this.#clients) {
        const since = Math.max(waitingSince, reader.writingSince ?? Infinity);
        if (reader.position < target && since <= latest) this.#close(reader);
      }
    }, STALL_LOOK_MS);
    while (this.#first < target && client.leftAt === Infinity) {
      await this.#turned.promise;
    }
    clearInterval(look);
  }

  /**
   * The one way out, whatever the reason. What is on its way is still written,
   * within GOODBYE_MS. Meanwhile `#serve` reads on, and nothing is heard: to
   * close a socket with unread bytes resets it, and can destroy the last words.
   */
  #leave(client: Client, lastWords?: string): void {
    if (client.leftAt < Infinity) return;
    this.#leaving++;
    clearTimeout(client.timer);
    client.timer = setTimeout(() => this.#close(client), GOODBYE_MS);
    if (lastWords) this.#append({ only: client, line: lastWords });
    client.leftAt = this.#end;
    if (client.name !== undefined && !lastWords) { // at a stop nobody is told
      this.#members.delete(nameKey(client.name));
      this.#append({ line: texts.left(client.name) });
    }
    this.#planTurn();
  }

  #close(client: Client): void {
    this.#leave(client);
    if (!this.#clients.delete(client)) return;
    this.#leaving--;
    clearTimeout(client.timer);
    [client.position, client.leftAt] = [Infinity, -1]; // a late write is nothing
    client.conn.close();
    this.#planTurn();
  }

  /** First all that arrives in a turn, then one write for a hundred lines. */
  #planTurn(): void {
    this.#nextTurn ??= setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#nextTurn = undefined;
    this.#chunks.clear();
    let slowest = this.#end;
    for (const client of this.#clients) {
      if (this.#end - client.position > MAX_BEHIND) this.#close(client);
      const isDue = client.position < this.#end || client.leftAt < Infinity;
      if (isDue && client.writingSince === undefined) this.#wake(client);
      slowest = Math.min(slowest, client.position);
    }
    this.#log.splice(0, slowest - this.#first);
    this.#first = slowest;
    this.#turned.resolve();
    this.#turned = Promise.withResolvers();
  }

  /** The only writer of a socket, and only one at a time: see `#turn`. */
  async #write(client: Client, { bytes, end }: Chunk): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) {
        client.writingSince = performance.now();
        at += await client.conn.write(bytes.subarray(at)); // perhaps a part
      }
      client.position = end < client.leftAt ? end : Infinity;
      if (end === client.leftAt) await client.conn.closeWrite(); // sends a FIN
    } catch {
      client.position = Infinity; // it reads no more, but may have said more
    }
    client.writingSince = undefined;
    this.#planTurn();
  }

  /** Packs what an idle reader hears next: once for all who hear the same. */
  #wake(client: Client): void {
    const { position, joinedAt, leftAt, lastOwn } = client;
    const isShared = lastOwn < position && leftAt === Infinity;
    const key = joinedAt < Infinity ? position : -1 - position; // hears nothing
    let chunk = isShared ? this.#chunks.get(key) : undefined;
    if (!chunk) {
      const stop = Math.min(this.#end, leftAt);
      let [text, end] = ["", position];
      for (; end < stop && text.length < MAX_CHUNK; end++) {
        const { line, author, only } = this.#log[end - this.#first]!;
        const isForAll = !only && end >= joinedAt && author !== client;
        if (isForAll || only === client) text += line + "\n";
      }
      chunk = { bytes: encoder.encode(text), end };
      if (isShared) this.#chunks.set(key, chunk);
    }
    const isHeard = chunk.bytes.length > 0 || chunk.end === leftAt;
    if (isHeard) this.#write(client, chunk);
    else client.position = chunk.end;
  }
}

/** A `print` for an output that may be slow or closed; nobody waits for it. */
function printTo(output: typeof Deno.stdout, quiet = false) {
  let [text, dropped, second, time] = ["", 0, 0, ""];
  let writing: Promise<void> | undefined;
  function add(line: string): void {
    const now = Math.trunc(Date.now() / 1_000);
    if (now !== second) time = new Date().toTimeString().slice(0, 8); // is slow
    second = now;
    text += `[${time}] ${line}\n`;
  }
  async function write(): Promise<void> {
    while (text !== "") {
      await timers.setImmediate();
      if (dropped > 0) add(`⚠️ Lines lost here: ${dropped}`);
      const bytes = encoder.encode(text);
      [text, dropped] = ["", 0];
      for (let at = 0; at < bytes.length;) {
        at += await output.write(bytes.subarray(at));
      }
    }
    writing = undefined;
  }
  return (line: string): Promise<void> | undefined => {
    if (quiet && line.startsWith("📨")) return;
    if (text.length > MAX_UNPRINTED) dropped++;
    else add(line);
    return writing ??= write().catch(() => {});
  };
}

/** Starts the chat on a listener. Returns what stops it, with a goodbye. */
export function startServer(
  listener: Deno.TcpListener,
  options: Partial<typeof DEFAULTS> = {},
): () => Promise<void> {
  const closed = new Room({ ...DEFAULTS, ...options }).open(listener);
  return () => {
    listener.close();
    return closed;
  };
}

const USAGE = `Usage: deno run --allow-net server.ts [port] [options]

  port              TCP port, 0 for any free one (default ${DEFAULT_PORT})
  --host ADDRESS    address to listen on (default ${DEFAULT_HOST};
                    0.0.0.0 for everybody on the network)
  --max-clients N   connections at a time (default ${DEFAULTS.maxClients})
  --quiet           do not print people's messages
  -h, --help        show this help`;

/** Ends the program, with one line that says what is wrong and what to do. */
function exit(status: 0 | 1 | 2, message: string): never {
  (status === 0 ? console.log : console.error)(message);
  Deno.exit(status);
}

function parseOptions(args: string[]) {
  const flags = parseArgs(args, {
    boolean: ["quiet", "help"],
    string: ["host", "max-clients", "_"],
    alias: { help: "h" },
    default: { host: DEFAULT_HOST, "max-clients": `${DEFAULTS.maxClients}` },
    unknown: (arg) =>
      !arg.startsWith("-") || exit(2, `Unknown option ${arg}: see --help.`),
  });
  const { help, host: hostname, "max-clients": most, quiet } = flags;
  if (help) exit(0, USAGE);
  const [word = `${DEFAULT_PORT}`, extra] = flags._.map(String);
  const port = parsePort(word) ?? exit(2, `Wrong port "${word}": see --help.`);
  if (extra) exit(2, `Unexpected argument "${extra}": see --help.`);
  if (!hostname) exit(2, "Missing address after --host: see --help.");
  const isCount = /^[1-9]\d{0,5}$/.test(most);
  if (!isCount) exit(2, `Wrong --max-clients "${most}": see --help.`);
  return { hostname, port, quiet, maxClients: Number(most) };
}

function listen(hostname: string, port: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port, tcpBacklog: BACKLOG });
  } catch (error) {
    const { name, message } = error as Error;
    const hint = name === "AddrInUse" ? " Choose another port." : "";
    const address = formatAddress(hostname, port);
    exit(1, `Cannot listen on ${address}: ${message}.${hint}`);
  }
}

async function main(): Promise<void> {
  const { hostname, port, maxClients, quiet } = parseOptions(Deno.args);
  const listener = listen(hostname, port);
  const print = printTo(Deno.stdout, quiet);
  const { addr } = listener; // port 0 has become a real one
  print("🚀 Chat Server Started");
  print(`📍 Listening on ${formatAddress(addr.hostname, addr.port)}`);
  print("⏳ Waiting for clients to connect...");
  const warn = printTo(Deno.stderr);
  const stop = startServer(listener, { maxClients, print, warn });
  const ending = Promise.withResolvers<void>(); // a second signal is nothing new
  const signals: Deno.Signal[] = ["SIGINT", "SIGHUP"];
  if (Deno.build.os !== "windows") signals.push("SIGTERM");
  for (const name of signals) Deno.addSignalListener(name, ending.resolve);
  await ending.promise.then(stop);
  const printed = print("🛑 Chat Server Stopped");
  await Promise.race([printed, timers.setTimeout(GOODBYE_MS)]);
  Deno.exit(0);
}

if (import.meta.main) main();
