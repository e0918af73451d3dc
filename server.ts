/**
 * The chat server. It sends each line from a member to all other members.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080 --host 0.0.0.0 --max-clients 50
 *
 * Each member is served by two loops:
 *
 *     receive loop    socket → lines → log      (`Room.serve`)
 *     send loop       log → batches → socket    (`Log.subscribe`, `Client.sendBatches`)
 *
 * An example. Alice, Bob and Carol are members. Alice types "Hi" and presses Enter:
 *
 *     1. The bytes 48 69 0a arrive. Alice's receive loop gets the line "Hi".
 *     2. The room appends "alice: Hi" to the log, as entry 7.
 *     3. At the end of this turn of the event loop, the log wakes the send loops.
 *     4. Bob's and Carol's send loops write "alice: Hi\n". Alice's skips her own entry.
 *     5. When everybody has received entry 7, the log drops it.
 *
 * If Carol's connection is slow, only her send loop waits. The log remembers which
 * entry she needs next. If Alice sends much more than Carol can receive, Alice's
 * receive loop waits, too: that is back-pressure.
 *
 * There is one thread and there are no locks: a function runs until its next
 * `await`, and only then can another one continue. One turn of the event loop runs
 * everything that can continue. Between turns, the loop looks for new input.
 *
 * The terms:
 *
 *     client      a connection, from accept to close
 *     member      a client that has a name; a sender when it says something,
 *                 and a receiver of what others say
 *     entry       a line in the log; its offset is its number
 *     batch       several entries as bytes, sent with one write
 *     FIN, RST    how TCP ends a connection: "I send no more", "it is broken"
 */

import { parseArgs } from "@std/cli/parse-args";
import {
  setImmediate as nextTurn,
  setTimeout as sleep,
} from "node:timers/promises";
import {
  announcements,
  checkName,
  DEFAULT_HOST,
  DEFAULT_PORT,
  formatAddress,
  formatMessage,
  formatUsers,
  isConnectionError,
  isHttpRequest,
  isLongerThan,
  MAX_MESSAGE_CHARS,
  mayHaveBeenCut,
  nameKey,
  parsePort,
  readLines,
  sanitize,
} from "./protocol.ts";

/** The options of a server. */
export interface ServerOptions {
  /** Clients, named or not, but without those that leave. Others are refused. */
  maxClients: number;
  /** Milliseconds that a client has to give a name. Then it is disconnected. */
  nameTimeoutMs: number;
  /**
   * Milliseconds that a receiver may go without accepting data while a sender waits
   * for it. Then the receiver is disconnected.
   */
  stallTimeoutMs: number;
  /** Whether messages are left out of the server's own output. */
  quiet: boolean;
  /** Prints a line of the server's own output. */
  print: (line: string) => void;
  /** Prints a warning for whoever runs the server. */
  warn: (line: string) => void;
}

const DEFAULT_OPTIONS: ServerOptions = {
  maxClients: 1_000,
  nameTimeoutMs: 60_000,
  stallTimeoutMs: 5_000,
  quiet: false,
  print: () => {},
  warn: console.error,
};

// -------------------------------------------------------------------- the room

/** A list of members shows at most this many names. The others are only counted. */
const MAX_LISTED_NAMES = 20;
/** How long a leaving client may take to receive what is left, and to close its side. */
const DRAIN_TIMEOUT_MS = 1_000;

/**
 * The room knows who is here, and decides what happens to each line. Until a client
 * has a name, each line is a request for a name. After that, it is a message.
 *
 * A connection ends in one of two ways:
 *
 *     end of input, shutdown, no name …    `#disconnect`, and then `#close`
 *     a stalled receiver, a bug            `#close` at once
 *
 * If a connection is broken, its input ends, too.
 */
class Room {
  readonly #clients = new Set<Client>(); // All clients that are not closed.
  readonly #members = new Map<string, Client>(); // The keys come from `nameKey`.
  readonly #log = new Log();
  readonly #flowControl: FlowControl;
  readonly #connectionClosed = new Condition();
  #isShuttingDown = false;

  constructor(readonly options: ServerOptions) {
    this.#flowControl = new FlowControl(
      this.#log,
      options.stallTimeoutMs,
      (client) => this.#close(client),
    );
  }

  /** Serves one connection, from accept to close. Its loop is the receive loop. */
  async serve(conn: Deno.TcpConn): Promise<void> {
    const client = new Client(
      conn,
      (error) => this.#handleError(client, error),
    );
    this.#clients.add(client);
    try {
      conn.setNoDelay(true); // The log batches lines, so the kernel need not.
      conn.setKeepAlive(true); // If the peer vanishes, reads fail after some hours.
      this.#greet(client);
      for await (const line of readLines(conn)) {
        if (client.state === "new") {
          await this.#register(client, line);
        } else if (client.state === "member") {
          this.#say(client, line);
          await this.#flowControl.waitForReceivers(client);
        }
        // What a leaving client sends is ignored: see `#disconnect`.
      }
      this.#disconnect(client);
      await client.waitUntilSent();
    } catch (error) {
      this.#handleError(client, error);
    }
    this.#close(client);
  }

  /** Asks for a name, unless the chat is full. */
  #greet(client: Client): void {
    if (this.#isShuttingDown) {
      return this.#disconnect(client, announcements.shutdown);
    }
    if (this.countClients("new", "member") > this.options.maxClients) {
      return this.#disconnect(client, announcements.chatFull);
    }
    client.sendLine(announcements.enterName(client.conn.remoteAddr.port));
    client.setTimer(
      this.options.nameTimeoutMs,
      () => this.#disconnect(client, announcements.noNameInTime),
    );
  }

  /**
   * Registration is request and response: the client asks for a name, and receives
   * the answer before its next line is read.
   */
  async #register(client: Client, line: string): Promise<void> {
    if (isHttpRequest(line)) {
      return this.#disconnect(client, announcements.notAWebServer);
    }
    const { port } = client.conn.remoteAddr;
    const result = checkName(line, port, (key) => this.#members.has(key));
    if ("name" in result) {
      this.#join(client, result.name);
    } else {
      await client.sendLine(announcements.nameRefused(result.refusal));
    }
  }

  /** Makes a client a member, and starts its send loop. */
  #join(client: Client, name: string): void {
    client.clearTimer();
    client.name = name;
    client.state = "member";
    this.#members.set(nameKey(name), client);
    const { hostname, port } = client.conn.remoteAddr;
    const address = formatAddress(hostname, port);
    this.options.print(`✅ ${name} connected from ${address}`);
    this.#announce(announcements.joined(name));
    client.sendLine(announcements.welcome(name, this.#listUsers()));
    // It subscribes after its own join, and so does not receive it.
    client.sendBatches(this.#log.subscribe(client));
  }

  /** Broadcasts a message, unless it is too long or there is nothing to see in it. */
  #say(sender: Client, line: string): void {
    const text = sanitize(line);
    if (mayHaveBeenCut(line) || isLongerThan(text, MAX_MESSAGE_CHARS)) {
      // `sendLine` would wait until the send loop ends. So even an answer to one member
      // goes through the log.
      const answer = announcements.messageTooLong;
      this.#log.append({ line: answer, sender, onlyForSender: true });
    } else if (text !== "") {
      const message = formatMessage(sender.name, text);
      this.#log.append({ line: message, sender });
      if (!this.options.quiet) this.options.print(`📨 ${message}`);
    }
  }

  /** Broadcasts that somebody has joined or left, and prints who is here now. */
  #announce(line: string): void {
    this.#log.append({ line });
    this.options.print(line);
    this.options.print(`📊 ${this.#listUsers()}`);
  }

  #listUsers(): string {
    const names = this.#members.values().map((member) => member.name);
    const listedNames = names.take(MAX_LISTED_NAMES).toArray();
    return formatUsers(this.#members.size, listedNames);
  }

  /**
   * Disconnects a client, for whatever reason. What was said until now is still sent
   * to it, then `lastLine`, then a FIN, which means that the server sends no more.
   * The client has DRAIN_TIMEOUT_MS to accept that, and to close its side. Meanwhile
   * its input is read and ignored: closing a socket with unread input sends an RST,
   * which may destroy the last line.
   */
  #disconnect(client: Client, lastLine?: string): void {
    if (client.state === "leaving" || client.state === "closed") return;
    this.#removeMember(client);
    client.state = "leaving";
    client.setTimer(DRAIN_TIMEOUT_MS, () => this.#close(client));
    if (lastLine) client.sendLine(lastLine);
    client.sendFin();
  }

  /** Closes a connection at once. What has not been sent yet is lost. */
  #close(client: Client): void {
    if (client.state === "closed") return;
    this.#removeMember(client);
    client.state = "closed";
    client.clearTimer();
    client.conn.close();
    this.#clients.delete(client);
    this.#connectionClosed.notifyAll();
  }

  /** Removes a client from the members, if it is one, and frees its name. */
  #removeMember(client: Client): void {
    if (client.state !== "member") return;
    this.#log.unsubscribe(client);
    this.#members.delete(nameKey(client.name));
    if (!this.#isShuttingDown) this.#announce(announcements.left(client.name));
  }

  /**
   * Handles an error of one connection. If it is broken, nothing more can be sent.
   * But what the client sent before is still read, up to the end of its input, and
   * then the receive loop disconnects it. Any other error is a bug.
   */
  #handleError(client: Client, error: unknown): void {
    if (isConnectionError(error)) return;
    this.options.warn(`Closing a connection because of a bug: ${error}`);
    this.#close(client);
  }

  /** Counts the clients that are in one of these states. */
  countClients(...states: State[]): number {
    let count = 0;
    for (const { state } of this.#clients) {
      if (states.includes(state)) count++;
    }
    return count;
  }

  /** Starts a graceful shutdown: everybody receives a last line. */
  shutDown(): void {
    this.#isShuttingDown = true;
    for (const client of this.#clients) {
      this.#disconnect(client, announcements.shutdown);
    }
  }

  /** Resolves when, after a shutdown, all connections have been closed. */
  async waitUntilClosed(): Promise<void> {
    while (this.#clients.size > 0) await this.#connectionClosed.wait();
    this.#flowControl.stop();
  }
}

// ----------------------------------------------------------------- a connection

const encoder = new TextEncoder();

type State = "new" | "member" | "leaving" | "closed";

/**
 * One connection. Its state changes in this order:
 *
 *     new ──(it has a name)──→ member
 *      │                         │
 *      └──────────┬──────────────┘
 *                 ↓ `Room.#disconnect`
 *              leaving
 *                 ↓ `Room.#close`
 *              closed
 *
 * Each send starts only after the one before has ended, so a socket has one writer
 * at a time, and lines never mix. The sends of a member are: the question for a
 * name, refusals, the welcome, the send loop until the member leaves, a last line, the
 * FIN.
 */
class Client {
  state: State = "new";
  name = ""; // A member has a name.
  undeliveredSize = 0; // characters that it has sent and that the log still holds
  checksWithoutProgress = 0; // see `FlowControl`; a successful write resets it
  #timer?: ReturnType<typeof setTimeout>; // It ends the state "new" or "leaving".
  #lastSend = Promise.resolve();

  constructor(
    readonly conn: Deno.TcpConn,
    readonly onSendError: (error: unknown) => void,
  ) {}

  /** Replaces the timer of the client's state. */
  setTimer(ms: number, onTimeout: () => void): void {
    this.clearTimer();
    this.#timer = setTimeout(onTimeout, ms);
  }

  clearTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Sends a line. Resolves when it has been sent, or cannot be. */
  sendLine(line: string): Promise<void> {
    return this.#enqueueSend(() => this.#write(encoder.encode(line + "\n")));
  }

  /** The send loop. It ends when there are no more batches. */
  sendBatches(batches: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#enqueueSend(async () => {
      for await (const bytes of batches) await this.#write(bytes);
    });
  }

  /** Half-closes the connection: sends a FIN, which says that nothing more follows. */
  sendFin(): Promise<void> {
    return this.#enqueueSend(() => this.conn.closeWrite());
  }

  /** Resolves when everything has been sent, or cannot be. */
  waitUntilSent(): Promise<void> {
    return this.#lastSend;
  }

  #enqueueSend(send: () => Promise<void>): Promise<void> {
    this.#lastSend = this.#lastSend.then(send).catch(this.onSendError);
    return this.#lastSend;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    let count = 0;
    while (count < bytes.length) {
      count += await this.conn.write(bytes.subarray(count)); // maybe not all
      this.checksWithoutProgress = 0;
    }
  }
}

// ------------------------------------------------------ waiting and scheduling

/** A condition variable: lets functions wait until something may have changed. */
class Condition {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next call of {@linkcode notifyAll}. */
  wait(): Promise<void> {
    return this.#next.promise;
  }

  /** Wakes everybody who waits. */
  notifyAll(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }
}

/** Returns a function that schedules `work`, but only once per turn of the event loop. */
function oncePerTurn(work: () => void): () => void {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      work();
    });
  };
}

// --------------------------------------------------------------------- the log

/** An entry counts as at least this many characters: even a short one takes memory. */
const MIN_ENTRY_SIZE = 128;
/** Characters that are written at once. More than this is hardly faster. */
const MAX_BATCH_LENGTH = 128 * 1024;

/** A line, for all members but its sender, or for its sender only. */
type Entry = { line: string; sender?: Client; onlyForSender?: boolean };

/**
 * The entries from `offset` up to, but not including, `nextOffset`, as bytes. Entries
 * that are not for its receivers are left out.
 */
type Batch = {
  offset: number;
  nextOffset: number;
  senders: Set<Client | undefined>;
  bytes: Uint8Array;
};

/** How far one receiver is. */
class Subscription {
  stopOffset = Infinity; // It receives the entries before this one.
  constructor(readonly client: Client, public offset: number) {}
}

/**
 * The log holds what was said, in one order for everybody. An entry has a number,
 * its offset, and each receiver has the offset of the entry that it needs next:
 *
 *                         Carol is slow     Alice and Bob have received all
 *                             ↓                   ↓
 *     offset        3    4    5    6    7    8    9
 *                 (dropped)   ■    ■    ■    ■
 *                             ↑                   ↑
 *                           start                end
 *
 * An entry is dropped when everybody has received it. So a line is held once,
 * however many receivers still need it. "Received" means that the kernel has
 * accepted the bytes: a server cannot see further than that.
 */
class Log {
  readonly subscriptions = new Map<Client, Subscription>();
  readonly entriesDropped = new Condition();
  start = 0;
  end = 0;
  size = 0; // in characters, as `sizeOf` counts them
  #entries: Entry[] = [];
  readonly #entriesAppended = new Condition();
  readonly #scheduleFlush = oncePerTurn(() =>
    this.#entriesAppended.notifyAll()
  );
  readonly #scheduleTrim = oncePerTurn(() => this.#trim());
  #lastBatch?: Batch; // the batch that was made last, for whoever can share it

  append(entry: Entry): void {
    this.#entries.push(entry);
    this.end++;
    this.#addSize(entry, sizeOf(entry));
    this.#scheduleFlush();
    this.#scheduleTrim(); // Without receivers, only this drops entries.
  }

  /** Yields everything that is appended from now on, as bytes for one receiver. */
  subscribe(client: Client): AsyncGenerator<Uint8Array> {
    const subscription = new Subscription(client, this.end);
    this.subscriptions.set(client, subscription);
    return this.#batchesFor(subscription);
  }

  async *#batchesFor(subscription: Subscription): AsyncGenerator<Uint8Array> {
    try {
      while (subscription.offset < subscription.stopOffset) {
        if (subscription.offset === this.end) {
          await this.#entriesAppended.wait();
        } else {
          const { bytes, nextOffset } = this.#nextBatch(subscription);
          yield bytes; // The send loop asks for more when it has written these.
          subscription.offset = nextOffset;
          this.#scheduleTrim();
        }
      }
    } finally {
      // This is also reached if a write fails. From now on, nobody waits for this
      // receiver.
      this.subscriptions.delete(subscription.client);
      this.#scheduleTrim();
    }
  }

  /** The client still receives the entries that exist now, but no others. */
  unsubscribe(client: Client): void {
    const subscription = this.subscriptions.get(client);
    if (!subscription) return;
    subscription.stopOffset = this.end;
    this.#scheduleFlush(); // Its send loop has to see `stopOffset`.
  }

  /** Drops the entries that everybody has received. */
  #trim(): void {
    let newStart = this.end;
    for (const { offset } of this.subscriptions.values()) {
      newStart = Math.min(newStart, offset);
    }
    const dropped = this.#entries.splice(0, newStart - this.start);
    for (const entry of dropped) this.#addSize(entry, -sizeOf(entry));
    this.start = newStart;
    this.entriesDropped.notifyAll();
  }

  #addSize({ sender }: Entry, size: number): void {
    this.size += size;
    if (sender) sender.undeliveredSize += size;
  }

  /**
   * Returns the next entries for one receiver. Most receivers need the same ones, so a
   * batch is shared: if Bob and Carol both need entry 7 next, they write the same bytes.
   * Alice cannot share them if she has sent one of these entries herself.
   */
  #nextBatch({ client, offset, stopOffset }: Subscription): Batch {
    const last = this.#lastBatch;
    const canShare = last?.offset === offset &&
      last.nextOffset <= stopOffset && !last.senders.has(client);
    if (canShare) return last;
    const end = Math.min(this.end, stopOffset);
    const batch = this.#makeBatch(offset, end, client);
    if (!batch.senders.has(client)) this.#lastBatch = batch;
    return batch;
  }

  #makeBatch(offset: number, end: number, receiver: Client): Batch {
    const senders = new Set<Client | undefined>();
    let text = "";
    let nextOffset = offset;
    while (nextOffset < end && text.length < MAX_BATCH_LENGTH) {
      const entry = this.#entries[nextOffset - this.start]!;
      if (isFor(receiver, entry)) text += entry.line + "\n";
      senders.add(entry.sender);
      nextOffset++;
    }
    return { offset, nextOffset, senders, bytes: encoder.encode(text) };
  }
}

function sizeOf({ line }: Entry): number {
  return Math.max(line.length, MIN_ENTRY_SIZE);
}

function isFor(receiver: Client, { sender, onlyForSender }: Entry): boolean {
  return onlyForSender ? sender === receiver : sender !== receiver;
}

// ---------------------------------------------------------------- flow control

/** A sender with more undelivered characters than this has to wait. */
const MAX_UNDELIVERED = 128 * 1024;
/** If the log holds more characters than this, all members share this equally. */
const SHARED_QUOTA = 4 * 1024 * 1024;
/** If the log holds more characters than this, the slowest receivers are disconnected. */
const MAX_LOG_SIZE = 16 * 1024 * 1024;
/** The time between two checks for stalled receivers. */
const STALL_CHECK_INTERVAL_MS = 100;

/**
 * Flow control bounds the memory that slow receivers and fast senders can take.
 *
 * An example. Alice sends 2,000 short lines at once, and Carol accepts no data:
 *
 *     1. Each line counts as 128 characters. After 1,025 lines, more than
 *        MAX_UNDELIVERED is undelivered, and Alice's receive loop waits.
 *     2. Alice's socket is not read. When its buffer is full, TCP stops Alice.
 *     3. If Carol accepts data again and receives these lines, the log drops them,
 *        and Alice's receive loop continues. No line is lost.
 *     4. Otherwise Carol is stalled. After 5 seconds, she is disconnected, and Alice
 *        continues, too.
 *
 * Steps 1 to 3 are called back-pressure. Members that say little do not wait.
 */
class FlowControl {
  readonly #log: Log;
  readonly #maxChecks: number;
  readonly #close: (client: Client) => void;
  readonly #awaitedOffsets = new Map<Client, number>(); // by the sender that waits
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(
    log: Log,
    stallTimeoutMs: number,
    close: (client: Client) => void,
  ) {
    this.#log = log;
    this.#maxChecks = Math.ceil(stallTimeoutMs / STALL_CHECK_INTERVAL_MS);
    this.#close = close;
    this.#timer = setInterval(
      () => this.#checkReceivers(),
      STALL_CHECK_INTERVAL_MS,
    );
  }

  /**
   * If the sender has too much undelivered, waits until all receivers have received
   * what the log holds now.
   */
  async waitForReceivers(sender: Client): Promise<void> {
    if (sender.undeliveredSize <= this.#quota()) return;
    const awaitedOffset = this.#log.end;
    this.#awaitedOffsets.set(sender, awaitedOffset);
    // If the sender leaves, it need not wait any more.
    while (this.#log.start < awaitedOffset && sender.state === "member") {
      await this.#log.entriesDropped.wait();
    }
    this.#awaitedOffsets.delete(sender);
  }

  #quota(): number {
    if (this.#log.size <= SHARED_QUOTA) return MAX_UNDELIVERED;
    const share = SHARED_QUOTA / this.#log.subscriptions.size;
    return Math.min(MAX_UNDELIVERED, share);
  }

  #checkReceivers(): void {
    this.#closeStalled();
    if (this.#log.size > MAX_LOG_SIZE) this.#closeSlowest();
  }

  /**
   * Disconnects stalled receivers. It counts checks rather than time: if the server
   * itself was suspended for a while, that is not the fault of a receiver.
   *
   * On loopback the kernel reports progress only once per megabyte or so, so a slow
   * receiver can look stalled there. And a receiver that accepts a little now and
   * then can slow its senders down for as long as it likes.
   */
  #closeStalled(): void {
    const awaitedOffset = this.#highestAwaitedOffset();
    for (const { client, offset } of this.#log.subscriptions.values()) {
      const isAwaited = offset < awaitedOffset;
      if (isAwaited) client.checksWithoutProgress++;
      else client.checksWithoutProgress = 0;
      if (client.checksWithoutProgress >= this.#maxChecks) this.#close(client);
    }
  }

  #highestAwaitedOffset(): number {
    let highest = 0;
    for (const offset of this.#awaitedOffsets.values()) {
      highest = Math.max(highest, offset);
    }
    return highest;
  }

  #closeSlowest(): void {
    for (const { client, offset } of this.#log.subscriptions.values()) {
      if (offset === this.#log.start) this.#close(client);
    }
  }

  /** Ends the checks. */
  stop(): void {
    clearInterval(this.#timer);
  }
}

// -------------------------------------------------------- accepting connections

/** Connections that the kernel holds until they are accepted. */
const BACKLOG = 4_096;
/** Connections that are accepted before other work is done. */
const MAX_ACCEPTS_PER_TURN = 16;
/** While this many connections are ending, no new one is accepted. */
const MAX_LEAVING = 1_000;
const ACCEPT_RETRY_MS = 100;
const ACCEPT_WARNING_INTERVAL_MS = 60_000;
/** Errors that concern one newcomer only: it was gone before it was accepted. */
const NEWCOMER_ERRORS = [
  "ECONNABORTED",
  "ECONNRESET",
  "EINVAL",
  "ENOTCONN",
  "EPROTO",
];

/** Accepts connections until the listener is closed. Errors do not end it. */
async function acceptConnections(
  listener: Deno.TcpListener,
  room: Room,
): Promise<void> {
  let nextWarningAt = 0;
  for (let count = 1;; count++) {
    // If connections are queued, `accept` resolves at once, and others are not served.
    if (count % MAX_ACCEPTS_PER_TURN === 0) await nextTurn();
    while (room.countClients("leaving") >= MAX_LEAVING) {
      await sleep(ACCEPT_RETRY_MS);
    }
    try {
      room.serve(await listener.accept());
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return; // It was closed.
      const { code = "", message } = error as Error & { code?: string };
      if (NEWCOMER_ERRORS.includes(code)) continue;
      if (performance.now() >= nextWarningAt) {
        nextWarningAt = performance.now() + ACCEPT_WARNING_INTERVAL_MS;
        room.options.warn(`Cannot accept connections: ${message}.`);
      }
      await sleep(ACCEPT_RETRY_MS);
    }
  }
}

/**
 * Starts a chat on a listener.
 *
 * @returns a function that shuts the chat down gracefully.
 */
export function startServer(
  listener: Deno.TcpListener,
  options: Partial<ServerOptions> = {},
): () => Promise<void> {
  const room = new Room({ ...DEFAULT_OPTIONS, ...options });
  const accepting = acceptConnections(listener, room);
  return async () => {
    listener.close();
    room.shutDown();
    await accepting;
    await room.waitUntilClosed();
  };
}

// --------------------------------------------------------- the server's own output

/** How long the last lines may take to be printed when the server stops. */
const PRINT_TIMEOUT_MS = 1_000;
/** Lines that wait to be printed. If there are more, they are dropped and counted. */
const MAX_UNPRINTED_LINES = 16 * 1024;

/**
 * Prints lines with the time. Output can be slow, for example if it goes through a
 * pipe, so the server never waits for it.
 */
class Printer {
  #text = ""; // the lines that wait to be printed
  #lineCount = 0; // in `#text`
  #dropped = 0; // lines that could not be printed
  #printing?: Promise<void>;
  #time = "";
  #timeSecond = 0; // Formatting the time is slow, so it is done once per second.

  constructor(readonly output: typeof Deno.stdout) {}

  print(line: string): void {
    if (this.#lineCount < MAX_UNPRINTED_LINES) {
      this.#text += `[${this.#currentTime()}] ${line}\n`;
      this.#lineCount++;
    } else {
      this.#dropped++;
    }
    this.#printing ??= this.#printLines();
  }

  /** Resolves when everything has been printed, or cannot be. */
  async waitUntilPrinted(): Promise<void> {
    await this.#printing;
  }

  #currentTime(): string {
    const second = Math.trunc(Date.now() / 1_000);
    if (second !== this.#timeSecond) {
      this.#timeSecond = second;
      this.#time = new Date().toTimeString().slice(0, 8);
    }
    return this.#time;
  }

  async #printLines(): Promise<void> {
    while (this.#lineCount > 0) {
      await nextTurn(); // All lines of a turn are printed with one write.
      const lineCount = this.#lineCount;
      const dropped = this.#dropped;
      const warning =
        `[${this.#currentTime()}] ⚠️ Lines not printed: ${dropped}\n`;
      const text = this.#text + (dropped > 0 ? warning : "");
      this.#text = "";
      this.#lineCount = 0;
      try {
        await this.#write(encoder.encode(text));
        this.#dropped -= dropped;
      } catch {
        // The output is full or closed. The next line tries again.
        this.#dropped += lineCount;
        break;
      }
    }
    this.#printing = undefined;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    let count = 0;
    while (count < bytes.length) {
      count += await this.output.write(bytes.subarray(count));
    }
  }
}

// ------------------------------------------------------------- the command line

const USAGE = `Usage: deno run --allow-net server.ts [port] [options]

  port              TCP port, 0 for any free one (default ${DEFAULT_PORT})
  --host ADDRESS    address to listen on (default ${DEFAULT_HOST};
                    0.0.0.0 for everybody on the network)
  --max-clients N   connections at a time (default ${DEFAULT_OPTIONS.maxClients})
  --quiet           do not print people's messages
  -h, --help        show this help`;

/** An error that `main` reports: it says what has failed and what the user can do. */
class ExitError extends Error {
  constructor(readonly exitStatus: 1 | 2, message: string) {
    super(message);
  }
}

function parseOptions(args: string[]) {
  const flags = parseArgs(args, {
    boolean: ["quiet", "help"],
    string: ["host", "max-clients", "_"],
    alias: { help: "h" },
    default: {
      host: DEFAULT_HOST,
      "max-clients": `${DEFAULT_OPTIONS.maxClients}`,
    },
    unknown: (arg) => {
      if (arg.startsWith("-")) throw wrongArgument(`Unknown option ${arg}`);
    },
  });
  const [portText = `${DEFAULT_PORT}`, extra] = flags._.map(String);
  const port = parsePort(portText);
  const maxClients = flags["max-clients"];
  if (port === undefined) throw wrongArgument(`Wrong port "${portText}"`);
  if (extra !== undefined) {
    throw wrongArgument(`Unexpected argument "${extra}"`);
  }
  if (!flags.host) throw wrongArgument("Missing address after --host");
  if (!/^[1-9]\d{0,5}$/.test(maxClients)) {
    throw wrongArgument(`Wrong --max-clients "${maxClients}"`);
  }
  return {
    help: flags.help,
    hostname: flags.host,
    port,
    maxClients: Number(maxClients),
    quiet: flags.quiet,
  };
}

function wrongArgument(what: string): ExitError {
  return new ExitError(2, `${what}: see --help.`);
}

function listen(hostname: string, port: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port, tcpBacklog: BACKLOG });
  } catch (error) {
    const { message } = error as Error;
    const isInUse = error instanceof Deno.errors.AddrInUse;
    const advice = isInUse ? " Choose another port." : "";
    const address = formatAddress(hostname, port);
    throw new ExitError(1, `Cannot listen on ${address}: ${message}.${advice}`);
  }
}

/** Resolves when the program is asked to stop, for example by Ctrl+C. */
function waitForStopSignal(): Promise<void> {
  const signals: Deno.Signal[] = ["SIGINT", "SIGHUP"];
  if (Deno.build.os !== "windows") signals.push("SIGTERM");
  return new Promise((resolve) => {
    for (const name of signals) Deno.addSignalListener(name, () => resolve());
  });
}

async function run(args: string[]): Promise<void> {
  const { help, hostname, port, maxClients, quiet } = parseOptions(args);
  if (help) return console.log(USAGE);
  const listener = listen(hostname, port);
  const output = new Printer(Deno.stdout);
  const warnings = new Printer(Deno.stderr);
  const { addr } = listener; // If the port was 0, the kernel has chosen one.
  output.print("🚀 Chat Server Started");
  output.print(`📍 Listening on ${formatAddress(addr.hostname, addr.port)}`);
  if (["0.0.0.0", "::"].includes(addr.hostname)) {
    const howTo = Deno.build.os === "windows"
      ? "ipconfig"
      : "ip addr or ifconfig";
    output.print(`🌐 Others connect to your address: find it with ${howTo}`);
  }
  output.print("⏳ Waiting for clients to connect...");
  const stopRequest = waitForStopSignal();
  const shutDown = startServer(listener, {
    maxClients,
    quiet,
    print: (line) => output.print(line),
    warn: (line) => warnings.print(line),
  });
  await stopRequest;
  await shutDown();
  output.print("🛑 Chat Server Stopped");
  const allPrinted = Promise.all([
    output.waitUntilPrinted(),
    warnings.waitUntilPrinted(),
  ]);
  await Promise.race([allPrinted, sleep(PRINT_TIMEOUT_MS)]);
}

async function main(): Promise<void> {
  try {
    await run(Deno.args);
    Deno.exit(0); // Otherwise the signal listeners keep the program running.
  } catch (error) {
    if (!(error instanceof ExitError)) throw error;
    console.error(error.message);
    Deno.exit(error.exitStatus);
  }
}

if (import.meta.main) main();
