/**
 * The chat server: everybody's lines go to everybody else.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080 --host 0.0.0.0 --max-clients 50
 *
 * Join with `deno run --allow-net client.ts`, or with `nc 127.0.0.1 9999`.
 *
 * The way of a message: bytes arrive and become lines (`serve`), a line of a
 * client with a name is appended to the log (`Room.hear`), and once in a turn
 * of the event loop (`Room.#turn`) every reader that is idle starts to write
 * what it has not written yet (`Room.#write`). There are no threads, so no
 * locks: between two `await`s nothing else runs.
 */

import { parseArgs } from "@std/cli/parse-args";
import {
  checkName,
  cleanText,
  DEFAULT_HOST,
  DEFAULT_MAX_CLIENTS,
  DEFAULT_PORT,
  formatAddress,
  GOODBYE_MS,
  isBlank,
  isTooLong,
  LineTooLongError,
  MAX_LISTED_NAMES,
  MAX_MESSAGE_CHARS,
  MAX_NAME_CHARS,
  MAX_OUTBOX_BYTES,
  NAME_TIMEOUT_MS,
  nameKey,
  nextTurn,
  parsePort,
  readLines,
  STALL_MS,
  suggestedName,
  texts,
  textStream,
} from "./protocol.ts";

/** Connections that may wait to be accepted; further ones have to try again. */
const BACKLOG = 4_096;
/** After a failed accept (no file descriptor left), try again so much later. */
const ACCEPT_RETRY_MS = 100;
/** For `--max-clients`; the log keeps space for all of them to leave. */
const MOST_CLIENTS = 999_999;
/** How shells name the end by Ctrl+C: 128 and the number of the signal. */
const EXIT_INTERRUPTED = 130;
/**
 * Two signals within this time are one: under `deno task`, Ctrl+C reaches us
 * from the terminal, and again from the task, which passes it on.
 */
const SAME_PRESS_MS = 50;
/** Bytes of asides that may wait for one client; then its next line waits. */
const MAX_ASIDE_BYTES = 64 * 1024;
/** Bytes put together for a reader with detours; the rest in the next piece. */
const MAX_COPY_BYTES = 64 * 1024;
/** Bytes that may wait for a slow stdout; further lines of it are dropped. */
const MAX_JOURNAL_BYTES = 1024 * 1024;
/** The longest line of the log; a character has 4 bytes at most. */
const MAX_ENTRY_BYTES = 4 * (MAX_NAME_CHARS + MAX_MESSAGE_CHARS + 3);
/** The longest announcement that somebody left. */
const MAX_LEFT_BYTES = 4 * (MAX_NAME_CHARS + texts.left("").length + 1);
/** Where a reader stands that does not follow the log: beyond its end. */
const NOT_IN_ROOM = Infinity;

const USAGE = `Usage: deno run --allow-net server.ts [port] [options]

  port              TCP port, 0 for any free one (default ${DEFAULT_PORT})
  --host ADDRESS    address to listen on (default ${DEFAULT_HOST};
                    0.0.0.0 for everybody on the network)
  --max-clients N   connections at a time (default ${DEFAULT_MAX_CLIENTS})
  --quiet           do not print people's messages
  --help            show this help`;

const encoder = new TextEncoder();

/**
 * All that is said, one line after the other, in a ring of bytes: a position
 * counts all bytes ever said, and its remainder by the size is where the byte
 * lies. What is behind the slowest reader is overwritten; so memory is flat.
 */
class Log {
  readonly #ring: Uint8Array<ArrayBuffer>;
  readonly #entry = new Uint8Array(MAX_ENTRY_BYTES);
  /** The position after the last line. */
  end = 0;

  constructor(size: number) {
    this.#ring = new Uint8Array(size);
  }

  /** Encodes a line, once for all readers. The result is valid until the next. */
  append(line: string): Uint8Array {
    const { written } = encoder.encodeInto(line + "\n", this.#entry);
    const entry = this.#entry.subarray(0, written);
    const start = this.end % this.#ring.length;
    const untilWrap = this.#ring.length - start;
    this.#ring.set(entry.subarray(0, untilWrap), start);
    this.#ring.set(entry.subarray(untilWrap), 0);
    this.end += written;
    return entry;
  }

  /** The bytes themselves, not a copy, up to `to` or to where the ring ends. */
  slice(from: number, to: number): Uint8Array {
    const start = from % this.#ring.length;
    return this.#ring.subarray(start, start + to - from);
  }

  owns(chunk: Uint8Array): boolean {
    return chunk.buffer === this.#ring.buffer;
  }
}

/** Where one reader's way through the log differs from everybody's. */
interface Detour {
  at: number;
  /** Where it goes on. After `at`, if it skips a line: its own. */
  to: number;
  /** A line for this reader only: a prompt, a welcome, a refusal. */
  aside?: Uint8Array;
}

/** One connection, from accept to close. */
interface Client {
  readonly conn: Deno.TcpConn;
  readonly address: Deno.NetAddr;
  /** Set when a name has been accepted: from then on it is a member. */
  name?: string;
  /** All of the log before this has been written to it. */
  position: number;
  /** Where it stops listening: the end of the log when it left. */
  until: number;
  /** In the order in which it comes to them. */
  readonly detours: Detour[];
  asideBytes: number;
  /** When the write that is under way began, if one is. */
  writingSince?: number;
  /** Set when it leaves; resolved when it has been written all that it gets. */
  ended?: PromiseWithResolvers<void>;
  /** Resolved when the socket is closed. */
  readonly closed: PromiseWithResolvers<void>;
  /** Ends it: first for want of a name, later when its goodbye takes too long. */
  timer?: ReturnType<typeof setTimeout>;
}

/** What a test may want otherwise than the program. */
export interface RoomOptions {
  maxClients?: number;
  nameTimeoutMs?: number;
  stallMs?: number;
}

/**
 * The room: the log, and for each client a position in it.
 *
 * Saying something appends it once. A reader writes all from its position to
 * the end in one piece; while that is under way more gathers, and leaves
 * together in the next piece. All write slices of the same bytes: however many
 * they are, a line is encoded once, and copied only for who has a detour.
 *
 * If the slowest reader is MAX_OUTBOX_BYTES behind, whoever speaks has to wait.
 */
export class Room {
  readonly #maxClients: number;
  readonly #nameTimeoutMs: number;
  readonly #stallMs: number;
  readonly #journal: Journal;
  readonly #log: Log;
  readonly #copy = new Uint8Array(MAX_COPY_BYTES);
  /** Everybody connected; the limit counts these. */
  readonly #clients = new Set<Client>();
  /** These, and those who left but are still being written to. */
  readonly #readers = new Set<Client>();
  /** Those with a name, by its key. */
  readonly #members = new Map<string, Client>();
  /** The position of the slowest reader, as of the last turn. */
  #cut = 0;
  #turnIsPlanned = false;
  /** Resolved, and replaced, in every turn. */
  #turned = Promise.withResolvers<void>();
  #stallTimer?: ReturnType<typeof setTimeout>;
  #isClosing = false;

  constructor(journal: Journal, options: RoomOptions = {}) {
    this.#journal = journal;
    this.#maxClients = options.maxClients ?? DEFAULT_MAX_CLIENTS;
    this.#nameTimeoutMs = options.nameTimeoutMs ?? NAME_TIMEOUT_MS;
    this.#stallMs = options.stallMs ?? STALL_MS;
    // To leave, nobody waits; so there must be space for everybody's leaving.
    this.#log = new Log(
      MAX_OUTBOX_BYTES + MAX_ENTRY_BYTES + this.#maxClients * MAX_LEFT_BYTES,
    );
  }

  /** A new connection; it is asked for a name, or told that there is no room. */
  admit(conn: Deno.TcpConn): Client {
    const client: Client = {
      conn,
      address: conn.remoteAddr,
      position: NOT_IN_ROOM,
      until: NOT_IN_ROOM,
      detours: [],
      asideBytes: 0,
      closed: Promise.withResolvers(),
    };
    this.#readers.add(client);
    if (this.#isClosing) {
      this.end(client, texts.shutdown);
    } else if (this.#clients.size >= this.#maxClients) {
      this.end(client, texts.full);
    } else {
      this.#clients.add(client);
      this.#tell(client, texts.enterName(client.address.port));
      const expire = () => this.end(client, texts.noName);
      client.timer = setTimeout(expire, this.#nameTimeoutMs);
    }
    return client;
  }

  /**
   * Back-pressure: whether a client's next line has to wait, because of the
   * slowest reader, or because the client does not read what it is told. While
   * it waits its socket is not read, so TCP slows it down; nothing is lost, and
   * the log stays as small as it is.
   */
  isFull(client: Client): boolean {
    if (client.ended) return false; // nothing that it says is heard any more
    return this.#log.end - this.#cut > MAX_OUTBOX_BYTES ||
      client.asideBytes > MAX_ASIDE_BYTES;
  }

  /** Resolves at the end of the next turn, when there may be space again. */
  turned(): Promise<void> {
    return this.#turned.promise;
  }

  /** A line from a client: its name, or something to say. */
  hear(client: Client, line: string): void {
    if (client.ended) return;
    if (client.name === undefined) return this.#register(client, line);
    const text = cleanText(line);
    if (isBlank(text)) return;
    if (isTooLong(text)) return this.#tell(client, texts.messageTooLong);
    const entry = this.#say(texts.message(client.name, text), client);
    this.#journal.message(entry);
  }

  /**
   * The one way out, whatever the reason: the others are told, the last words
   * are said, what is on its way is written, within GOODBYE_MS. Safe to call
   * twice. Resolves when all is written, or lost.
   */
  end(client: Client, lastWords?: string, wait = GOODBYE_MS): Promise<void> {
    if (client.ended) return client.ended.promise;
    client.ended = Promise.withResolvers();
    clearTimeout(client.timer);
    client.timer = setTimeout(() => this.close(client), wait);
    this.#clients.delete(client);
    client.until = this.#log.end;
    if (lastWords) this.#tell(client, lastWords);
    if (client.name !== undefined) {
      this.#members.delete(nameKey(client.name));
      if (!this.#isClosing) this.#announce(texts.left(client.name));
    }
    this.#planTurn();
    return client.ended.promise;
  }

  /** Frees the socket. Safe to call twice. */
  close(client: Client): void {
    clearTimeout(client.timer);
    this.#readers.delete(client);
    client.ended?.resolve();
    client.closed.resolve();
    try {
      client.conn.close();
    } catch {
      // it is closed already
    }
    this.#planTurn();
  }

  /**
   * Says goodbye to everybody, and lets nobody in any more. Resolves when all
   * have hung up, or GOODBYE_MS are over: if the program ended before, those
   * who are still sending would get a reset instead of the goodbye.
   */
  async shutDown(): Promise<void> {
    this.#isClosing = true;
    const leaving = [...this.#readers];
    for (const client of leaving) this.end(client, texts.shutdown);
    await Promise.all(leaving.map((client) => client.closed.promise));
  }

  #register(client: Client, line: string): void {
    const check = line.trim() === ""
      ? { name: this.#freeName(client.address.port) }
      : checkName(line);
    if ("refusal" in check) {
      return this.#tell(client, texts.nameRefused(check.refusal));
    }
    const { name } = check;
    if (this.#members.has(nameKey(name))) {
      return this.#tell(client, texts.nameRefused(texts.nameTaken(name)));
    }
    clearTimeout(client.timer);
    client.name = name;
    this.#members.set(nameKey(name), client);
    const { hostname, port } = client.address;
    const address = formatAddress(hostname, port);
    this.#journal.line(`✅ ${name} connected from ${address}`);
    this.#announce(texts.joined(name));
    this.#follow(client);
    const users = this.#activeUsers(client);
    this.#tell(client, texts.welcome(name, users));
    this.#journal.line(`📊 ${users}`);
  }

  #freeName(port: number): string {
    let name = suggestedName(port);
    for (let n = 2; this.#members.has(nameKey(name)); n++) {
      name = `${suggestedName(port)}_${n}`;
    }
    return name;
  }

  /** The newcomer and those who are here longest, in the order of their names. */
  #activeUsers(newcomer: Client): string {
    const keys = [nameKey(newcomer.name!)];
    for (const key of this.#members.keys()) {
      if (keys.length === MAX_LISTED_NAMES) break;
      if (key !== keys[0]) keys.push(key);
    }
    const names = keys.sort().map((key) => this.#members.get(key)!.name!);
    return texts.activeUsers(this.#members.size, names);
  }

  /** From here on the client hears what is said, after what it was told so far. */
  #follow(client: Client): void {
    client.position = this.#log.end;
    for (const detour of client.detours) detour.at = detour.to = this.#log.end;
  }

  #announce(line: string): void {
    this.#say(line);
    this.#journal.line(line);
  }

  /** Appends a line; its author's own way leads around it. */
  #say(line: string, author?: Client): Uint8Array {
    const at = this.#log.end;
    const entry = this.#log.append(line);
    if (author && author.position !== NOT_IN_ROOM) {
      const last = author.detours.at(-1);
      if (last && !last.aside && last.to === at) last.to = this.#log.end;
      else author.detours.push({ at, to: this.#log.end });
    }
    this.#planTurn();
    return entry;
  }

  /**
   * A line to one client, at its place among what it hears. Of MAX_ENTRY_BYTES
   * at most, for `#gather` keeps space for that; and only in answer to a line
   * of that client, for it is what waits when there are too many.
   */
  #tell(client: Client, line: string): void {
    const at = client.position === NOT_IN_ROOM
      ? NOT_IN_ROOM
      : Math.min(this.#log.end, client.until);
    const aside = encoder.encode(line + "\n");
    client.detours.push({ at, to: at, aside });
    client.asideBytes += aside.length;
    this.#planTurn();
  }

  /**
   * All that arrives in one turn of the event loop is in the log before anybody
   * is woken: one write for a hundred lines instead of a hundred writes.
   */
  #planTurn(): void {
    if (this.#turnIsPlanned) return;
    this.#turnIsPlanned = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#turnIsPlanned = false;
    const now = performance.now();
    let cut = this.#log.end;
    let stallsAt = Infinity;
    for (const client of this.#readers) {
      this.#wake(client);
      if (client.position < client.until) cut = Math.min(cut, client.position);
      if (this.#isBehind(client)) {
        const due = client.writingSince! + this.#stallMs;
        if (due <= now) this.end(client, undefined, 0);
        else stallsAt = Math.min(stallsAt, due);
      }
    }
    this.#cut = cut;
    clearTimeout(this.#stallTimer);
    if (stallsAt < Infinity) {
      this.#stallTimer = setTimeout(() => this.#planTurn(), stallsAt - now);
    }
    this.#turned.resolve();
    this.#turned = Promise.withResolvers();
  }

  /** Lets an idle reader write what waits for it; says when there is nothing. */
  #wake(client: Client): void {
    if (client.writingSince !== undefined) return;
    const chunk = this.#nextChunk(client);
    if (chunk) {
      this.#write(client, chunk);
    } else if (client.ended) {
      this.#readers.delete(client);
      client.conn.closeWrite().catch(() => {}); // gone already: as good
      client.ended.resolve();
    }
  }

  /** The only writer of this socket, for as long as something waits. */
  async #write(client: Client, first: Uint8Array): Promise<void> {
    try {
      let chunk: Uint8Array | undefined = first;
      while (chunk) {
        client.writingSince = performance.now();
        const written = await client.conn.write(chunk); // perhaps only a part
        this.#planTurn();
        if (!this.#log.owns(chunk) && written < chunk.length) {
          chunk = chunk.subarray(written);
          continue;
        }
        if (this.#log.owns(chunk)) client.position += written;
        chunk = this.#nextChunk(client);
      }
    } catch {
      // Nobody is there to read. Lines that came before are still to be
      // delivered, so it is for the reading side to end the connection.
      client.position = NOT_IN_ROOM;
      client.detours.length = client.asideBytes = 0;
      this.#planTurn();
    }
    client.writingSince = undefined;
  }

  /** What a reader has not got yet: a slice of the log, or a copy with detours. */
  #nextChunk(client: Client): Uint8Array | undefined {
    const stop = Math.min(this.#log.end, client.until);
    if (client.detours.length > 0) {
      const copy = this.#gather(client, stop);
      if (copy.length > 0) return copy;
    }
    if (client.position >= stop) return undefined;
    return this.#log.slice(client.position, stop);
  }

  /** Copies the log, with the detours, and moves the position past them. */
  #gather(client: Client, stop: number): Uint8Array {
    const { detours } = client;
    let length = 0;
    const add = (piece: Uint8Array) => {
      this.#copy.set(piece, length);
      length += piece.length;
    };
    let next = 0;
    while (length < MAX_COPY_BYTES - MAX_ENTRY_BYTES) {
      const detour = detours[next];
      if (detour?.at === client.position) {
        if (detour.aside) {
          add(detour.aside);
          client.asideBytes -= detour.aside.length;
        }
        client.position = detour.to;
        next++;
      } else {
        const space = client.position + MAX_COPY_BYTES - length;
        const end = Math.min(detour?.at ?? stop, stop, space);
        if (client.position >= end) break;
        const piece = this.#log.slice(client.position, end);
        add(piece);
        client.position += piece.length;
      }
    }
    detours.splice(0, next);
    return this.#copy.slice(0, length);
  }

  /**
   * Whether a reader is so slow that somebody waits for it. What the kernel
   * tells of a reader is coarse: a write that has to wait goes on only when a
   * third of the socket's buffer is free again. On loopback that is 1 MB, so
   * there, a reader that takes less than that in STALL_MS looks like one that
   * reads nothing. On other networks the buffer is as small as they are slow.
   */
  #isBehind(client: Client): boolean {
    const waiting = Math.min(this.#log.end, client.until) - client.position;
    return client.writingSince !== undefined &&
      (waiting > MAX_OUTBOX_BYTES || client.asideBytes > MAX_ASIDE_BYTES);
  }
}

/** Where the journal goes: stdout, or a test's array. */
export interface Output {
  write(bytes: Uint8Array): Promise<number>;
}

/**
 * What the server prints. Its lines gather while a write is under way, as for any
 * reader, so that a flood of messages costs few writes. A terminal that is
 * paused does not stop the chat: lines are dropped then, and counted.
 */
export class Journal {
  readonly #quiet: boolean;
  readonly #output: Output;
  #waiting = new Uint8Array(MAX_JOURNAL_BYTES);
  #length = 0;
  /** Takes turns with `#waiting`: one gathers while the other is written. */
  #spare = new Uint8Array(MAX_JOURNAL_BYTES);
  #dropped = 0;
  #writing?: Promise<void>;
  #second = 0;
  #time = "";
  #messageStart = new Uint8Array();

  /** @param quiet whether people's messages are left out. */
  constructor(quiet: boolean, output: Output = Deno.stdout) {
    this.#quiet = quiet;
    this.#output = output;
  }

  /** A line about the server and its clients. */
  line(text: string): void {
    this.#readClock();
    this.#add(encoder.encode(`[${this.#time}] ${text}\n`));
  }

  /** A message as it is in the room's log, where it was encoded already. */
  message(entry: Uint8Array): void {
    if (this.#quiet) return;
    this.#readClock();
    this.#add(this.#messageStart, entry);
  }

  /** Resolves when all is written, or GOODBYE_MS are over. */
  async flush(): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, GOODBYE_MS);
    await Promise.race([this.#writing, late.promise]);
    clearTimeout(timer);
  }

  #add(...pieces: Uint8Array[]): void {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (this.#length + length > MAX_JOURNAL_BYTES) {
      this.#dropped++;
      return;
    }
    for (const piece of pieces) {
      this.#waiting.set(piece, this.#length);
      this.#length += piece.length;
    }
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    try {
      while (this.#length > 0) {
        await nextTurn();
        const gathered = this.#waiting.subarray(0, this.#length);
        [this.#waiting, this.#spare] = [this.#spare, this.#waiting];
        this.#length = 0;
        await this.#put(gathered);
        if (this.#dropped === 0) continue;
        // a little early: what is waiting by now was logged before those
        const note = `⚠️ Lines that were lost here: ${this.#dropped}`;
        this.#dropped = 0;
        await this.#put(encoder.encode(`[${this.#time}] ${note}\n`));
      }
    } catch {
      // stdout is closed (`server.ts | head`): the chat goes on without
    }
    this.#writing = undefined;
  }

  async #put(bytes: Uint8Array): Promise<void> {
    while (bytes.length > 0) {
      bytes = bytes.subarray(await this.#output.write(bytes));
    }
  }

  /** Made once a second, because many lines come within one. */
  #readClock(): void {
    const second = Math.floor(Date.now() / 1_000);
    if (second === this.#second) return;
    this.#second = second;
    this.#time = new Date(second * 1_000).toTimeString().slice(0, 8);
    this.#messageStart = encoder.encode(`[${this.#time}] 📨 `);
  }
}

/** Reads one connection from its first byte to its last. */
export async function serve(conn: Deno.TcpConn, room: Room): Promise<void> {
  const client = room.admit(conn);
  let lastWords: string | undefined;
  try {
    conn.setNoDelay(true); // lines are gathered by the room, not by the kernel
    conn.setKeepAlive(true); // so that a cable pulled out is noticed one day
    for await (const line of readLines(conn)) {
      // Checked anew after each wait: all who wait wake in the same turn, and
      // the first of them may fill the log again.
      while (room.isFull(client)) await room.turned();
      room.hear(client, line);
    }
  } catch (error) {
    if (error instanceof LineTooLongError) lastWords = texts.lineTooLong;
    else if (!isDisconnect(error)) console.error(`In a connection: ${error}`);
  }
  await room.end(client, lastWords);
  // To close while unread bytes lie there resets the connection, and a reset
  // can destroy the last words on their way. So read, for what is left of
  // GOODBYE_MS, what is still sent.
  await textStream(conn).pipeTo(new WritableStream()).catch(() => {});
  room.close(client);
}

/** Whether the other side is gone, or we have closed: nobody's mistake. */
function isDisconnect(error: unknown): boolean {
  const { BadResource, BrokenPipe, ConnectionAborted, ConnectionReset } =
    Deno.errors;
  const { Interrupted, NotConnected, TimedOut } = Deno.errors;
  return [BadResource, BrokenPipe, ConnectionAborted, ConnectionReset]
    .concat([Interrupted, NotConnected, TimedOut])
    .some((kind) => error instanceof kind);
}

/** Lets people in until the listener is closed. No error ends it. */
async function accept(listener: Deno.TcpListener, room: Room): Promise<void> {
  let hasWarned = false;
  for (;;) {
    try {
      serve(await listener.accept(), room);
      hasWarned = false;
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return; // closed
      // Too many open files, most likely. Those who want in wait in the
      // kernel's queue, and those who are in do not notice.
      if (!hasWarned) {
        console.error(
          `Cannot let anybody in: ${(error as Error).message}. ` +
            "Trying again; if it is open files, raise the limit (ulimit -n).",
        );
      }
      hasWarned = true;
      await new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_MS));
    }
  }
}

/** Ends the program with one line that says what is wrong and what to do. */
function fail(status: 1 | 2, message: string): never {
  console.error(message);
  Deno.exit(status);
}

interface Options {
  hostname: string;
  port: number;
  maxClients: number;
  quiet: boolean;
}

function parseOptions(args: string[]): Options {
  const flags = parseArgs(args, {
    boolean: ["quiet", "help"],
    string: ["host", "max-clients", "_"],
    default: { host: DEFAULT_HOST, "max-clients": `${DEFAULT_MAX_CLIENTS}` },
    unknown: (arg) => {
      if (arg.startsWith("-")) fail(2, `Unknown option ${arg}: see --help.`);
    },
  });
  if (flags.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const extra = flags._[1];
  if (extra !== undefined) {
    fail(2, `Unexpected argument "${extra}": expected one port at most.`);
  }
  const port = parsePort(String(flags._[0] ?? DEFAULT_PORT));
  if (port === undefined) {
    fail(2, `Invalid port "${flags._[0]}": expected 0 to 65535.`);
  }
  const hostname = flags.host;
  if (hostname === "") {
    fail(2, "Missing value for --host: expected an address.");
  }
  const given = flags["max-clients"];
  const maxClients = /^\d+$/.test(given) ? Number(given) : NaN;
  if (!(maxClients >= 1 && maxClients <= MOST_CLIENTS)) {
    fail(2, `Invalid --max-clients "${given}": expected 1 to ${MOST_CLIENTS}.`);
  }
  return { hostname, port, maxClients, quiet: flags.quiet };
}

function listen(hostname: string, port: number): Deno.TcpListener {
  const address = formatAddress(hostname, port);
  try {
    // Without this, Deno would ask at a terminal, and wait for the answer.
    const permission = { name: "net", host: address } as const;
    if (Deno.permissions.querySync(permission).state !== "granted") {
      throw new Deno.errors.NotCapable();
    }
    return Deno.listen({ hostname, port, tcpBacklog: BACKLOG });
  } catch (error) {
    fail(1, `Cannot listen on ${address}: ${explain(error)}`);
  }
}

/** Why one cannot listen, and what to do. */
function explain(error: unknown): string {
  if (error instanceof Deno.errors.NotCapable) {
    return "no permission. Start with: deno run --allow-net server.ts";
  }
  if (error instanceof Deno.errors.AddrInUse) {
    return "the port is in use. Stop the program that has it, or choose " +
      "another port: deno run --allow-net server.ts 10000";
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return "ports below 1024 are the administrator's. Choose a higher one.";
  }
  return "that is no address of this machine. Choose another --host: " +
    "127.0.0.1 for this machine only, 0.0.0.0 for all of its addresses.";
}

async function main(): Promise<void> {
  const { hostname, port, maxClients, quiet } = parseOptions(Deno.args);
  const listener = listen(hostname, port);
  const journal = new Journal(quiet);
  const room = new Room(journal, { maxClients });
  journal.line("🚀 Chat Server Started");
  const bound = listener.addr as Deno.NetAddr;
  const address = formatAddress(bound.hostname, bound.port);
  journal.line(`📍 Listening on ${address}`);
  journal.line("⏳ Waiting for clients to connect...");

  const accepting = accept(listener, room);
  let stoppingSince: number | undefined;
  async function stop() {
    const now = performance.now();
    if (stoppingSince !== undefined) {
      if (now - stoppingSince > SAME_PRESS_MS) Deno.exit(EXIT_INTERRUPTED);
      return;
    }
    stoppingSince = now;
    listener.close();
    await accepting; // now it is closed
    await room.shutDown();
    journal.line("🛑 Chat Server Stopped");
    await journal.flush();
    Deno.exit(0);
  }
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);

  await accepting;
}

if (import.meta.main) await main();
