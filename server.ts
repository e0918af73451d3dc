/**
 * The chat server. It sends each line from a member to all other members.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080 --host 0.0.0.0 --max-clients 50
 *
 * Each member is served by two loops:
 *
 *     receive loop    socket → lines → log      (`Room.serve`)
 *     send loop       log → batches → socket    (`Log.subscribe`, `Client.runSendLoop`)
 *
 * An example. Alice, Bob and Carol are members. Alice types "Hi" and presses Enter:
 *
 *     1. The bytes 48 69 0a arrive. Alice's receive loop gets the line "Hi".
 *     2. The room appends "alice: Hi" to the log, as entry 7.
 *     3. When all input of this turn has been handled, the log flushes: the send
 *        loops continue.
 *     4. Bob's and Carol's send loops write "alice: Hi\n". Alice's skips her own entry.
 *     5. When entry 7 has been sent to everybody, the log drops it.
 *
 * If Carol's connection is slow, her send loop waits. The log remembers which entry
 * she needs next. Nobody else waits, unless Alice sends much more than Carol can
 * receive. Then Alice's receive loop waits, too: that is back-pressure.
 *
 * For a first reading: `Room` is the story, and `Client` and `Log` are how it works.
 * `FlowControl` and the parts after it protect and start the chat: leave them for later.
 *
 * There is one thread and there are no locks: a function runs until its next
 * `await`, and only then can another one continue. In one turn, the event loop runs
 * everything that can continue. Then it usually looks for new input.
 *
 * The terms:
 *
 *     client      a connection, from accept to close
 *     member      a client that has joined and has not left; a sender when it says
 *                 something, and a receiver of what others say
 *     log         the lines of the chat, in order; it is not the console output
 *     entry       a line in the log; its offset is its number
 *     batch       several entries as bytes, sent with one write
 *     sent        the server's kernel (its operating system) has accepted the bytes; a
 *                 server cannot see further than that
 *     delivered   sent to all receivers, and skipped by its sender's own send loop
 *     size        in UTF-16 code units, as `string.length` counts them; an entry has a
 *                 size of at least 128
 *     FIN         "I have nothing more to send": ends one direction of a connection
 *     RST         "this connection no longer exists": ends both directions
 */

import { parseArgs } from "@std/cli/parse-args";
// `await nextTurn()` continues in the next turn of the event loop.
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
  isLineTooLong,
  isLongerThan,
  MAX_MESSAGE_CHARS,
  nameKey,
  parsePort,
  readLines,
  sanitize,
  writeAll,
} from "./protocol.ts";

/** The options of a server. */
export interface ServerOptions {
  /** The maximum number of clients, not counting those that are leaving. */
  maxClients: number;
  /** Milliseconds that a client may take to give a name. Then it is disconnected. */
  nameTimeoutMs: number;
  /**
   * If a sender waits, and a receiver accepts no data for this many milliseconds, the
   * receiver's connection is closed.
   */
  stallTimeoutMs: number;
  /** If it is true, messages are not printed. */
  quiet: boolean;
  /** Prints a line of the console output. */
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
 * How a connection ends:
 *
 *     usually    `#disconnect` sends what is left and a FIN. Then comes `#close`, after
 *                DRAIN_TIMEOUT_MS at the latest.
 *     at once    only `#close`: a stalled receiver, a full log, a bug
 *
 * A broken connection ends in the usual way, because its input ends.
 *
 * An example. Bob's client sends a FIN: Bob leaves.
 *
 *     1. His input ends, so `serve` calls `#disconnect`. Bob is not a member any more.
 *     2. The others are sent "[SYSTEM] bob left the chat!".
 *     3. Bob's send loop sends what was said before that, and ends. A FIN follows.
 *     4. When all this has been sent, `serve` calls `#close`.
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
      (failedClient, error) => this.#handleError(failedClient, error),
    );
    this.#clients.add(client);
    try {
      conn.setNoDelay(true); // The kernel must not delay small writes to collect them.
      conn.setKeepAlive(true); // If the peer vanishes, reads fail after some hours.
      this.#greet(client);
      for await (const line of readLines(conn)) {
        if (client.state === "new") {
          await this.#register(client, line);
        } else if (client.state === "member") {
          this.#say(client, line);
          if (this.#flowControl.mustWait(client)) {
            await this.#flowControl.waitForReceivers(client);
          }
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
   * Registration is request and response: a refusal is sent before the next line is
   * read. So a client that sends wrong names and reads nothing is not read either.
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
    this.#announceToAll(announcements.joined(name));
    client.sendLine(announcements.welcome(name, this.#listUsers()));
    // It subscribes after its join was announced, so it does not receive that line.
    client.runSendLoop(this.#log.subscribe(client));
  }

  /** Broadcasts a message, unless it is too long or there is nothing to see in it. */
  #say(sender: Client, line: string): void {
    const text = sanitize(line);
    if (isLineTooLong(line) || isLongerThan(text, MAX_MESSAGE_CHARS)) {
      // As long as the send loop of a member runs, nothing else is sent to the member. So
      // this answer goes through the log.
      const answer = announcements.messageTooLong;
      this.#log.append({ line: answer, sender, onlyFor: sender });
    } else if (text !== "") {
      const message = formatMessage(sender.name, text);
      this.#log.append({ line: message, sender });
      if (!this.options.quiet) this.options.print(`📨 ${message}`);
    }
  }

  /** Broadcasts that somebody has joined or left, and prints who is here now. */
  #announceToAll(line: string): void {
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
   * Disconnects a client, for whatever reason. From now on it is no longer a member.
   * But it still receives what was said before, then `lastLine`, and then a FIN. It has
   * DRAIN_TIMEOUT_MS to receive all this, and to close its side.
   *
   * Meanwhile its input is read and ignored. If a socket with unread input is closed,
   * the kernel sends an RST, and the client may never see the last line.
   */
  #disconnect(client: Client, lastLine?: string): void {
    if (client.state === "leaving" || client.state === "closed") return;
    this.#removeMember(client);
    client.state = "leaving";
    client.setTimer(DRAIN_TIMEOUT_MS, () => this.#close(client));
    if (lastLine) client.sendLine(lastLine);
    client.sendFin();
  }

  /**
   * Closes a connection at once. What has not been sent yet is lost. Both loops end: Deno
   * makes a pending read or write fail, and the next flush ends a wait for the log.
   */
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
    this.#log.stopAtEnd(client);
    this.#members.delete(nameKey(client.name));
    if (!this.#isShuttingDown) {
      this.#announceToAll(announcements.left(client.name));
    }
  }

  /**
   * Handles an error of a connection. If the connection is broken, nothing has to be done
   * here: its input ends, too, and then `serve` closes it. Any other error is a bug.
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

  /** Starts a graceful shutdown: sends a last line to whoever is not leaving yet. */
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
 * One connection, and its state:
 *
 *     new ────→ member ────→ leaving ────→ closed
 *
 *     to member     its name was accepted (`Room.#join`)
 *     to leaving    its input has ended, or the server disconnects it
 *                   (`Room.#disconnect`), perhaps before it was a member
 *     to closed     the connection is closed (`Room.#close`), in any state
 *
 * Sends are queued: each one starts when the one before has ended. So a socket has
 * one writer at a time, and lines never mix. The sends of a member, in their order:
 *
 *     question → refusals → welcome → send loop → last line → FIN
 *
 * The whole send loop is one of these sends. It ends when the member leaves.
 */
class Client {
  state: State = "new";
  name = ""; // A member has a name.
  undeliveredSize = 0; // the total size of its entries that are still in the log
  checksWithoutProgress = 0; // see `FlowControl`; each successful write resets it
  #timer?: ReturnType<typeof setTimeout>; // It ends the state "new" or "leaving".
  #queueTail = Promise.resolve(); // It resolves when all sends so far have ended.

  constructor(
    readonly conn: Deno.TcpConn,
    readonly onSendError: (client: Client, error: unknown) => void,
  ) {}

  /** Starts the client's timer. It replaces an earlier one. */
  setTimer(ms: number, onTimeout: () => void): void {
    this.clearTimer();
    this.#timer = setTimeout(onTimeout, ms);
  }

  clearTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Sends a line. Resolves when it has been sent, or cannot be. Most callers do not wait
   * for that, because the queue keeps the order.
   */
  sendLine(line: string): Promise<void> {
    return this.#enqueueSend(() => this.#write(encoder.encode(line + "\n")));
  }

  /** The send loop. It ends when there are no more batches. */
  runSendLoop(batches: AsyncIterable<Uint8Array>): Promise<void> {
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
    return this.#queueTail;
  }

  #enqueueSend(send: () => Promise<void>): Promise<void> {
    // After an error, the next send still runs. On a broken connection, it fails, too.
    this.#queueTail = this.#queueTail.then(send)
      .catch((error) => this.onSendError(this, error));
    return this.#queueTail;
  }

  #write(bytes: Uint8Array): Promise<void> {
    return writeAll(this.conn, bytes, () => {
      this.checksWithoutProgress = 0;
    });
  }
}

// --------------------------------------------------------------------- waiting

/**
 * A condition variable: functions wait here until something may have changed. Then
 * each of them has to check again whether it can go on.
 */
class Condition {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next call of {@linkcode notifyAll}. */
  wait(): Promise<void> {
    return this.#next.promise;
  }

  /** Lets everybody who waits continue. */
  notifyAll(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }
}

// --------------------------------------------------------------------- the log

/** An entry has at least this size: even a short one takes memory. */
const MIN_ENTRY_SIZE = 128;
/** A batch of this size takes no more entries. Larger ones would hardly be faster. */
const MAX_BATCH_SIZE = 128 * 1024;

/**
 * A line for all members but its sender, if it has one. An answer is only for its sender:
 * for example, that a message was too long.
 */
type Entry = { line: string; sender?: Client; onlyFor?: Client };

/**
 * Entries as bytes: those from `offset` up to, but not including, `nextOffset`.
 * Entries that are not for the receiver are left out.
 */
type Batch = {
  offset: number;
  nextOffset: number;
  bytes: Uint8Array;
};

/** One receiver of the log. It is sent all entries from `offset` on. */
class Subscription {
  stopOffset = Infinity; // A leaving client is sent only the entries before this one.
  lastOwnOffset = -1; // the offset of its newest entry
  constructor(readonly client: Client, public offset: number) {}

  /** Whether this receiver needs exactly the bytes that most others need. */
  get canShare(): boolean {
    const hasOwnEntryAhead = this.lastOwnOffset >= this.offset; // It needs its own bytes.
    const mustStopEarly = this.stopOffset < Infinity; // The shared batch may go further.
    return !hasOwnEntryAhead && !mustStopEarly;
  }
}

/**
 * The log holds what was said, in one order for everybody. An entry has a number,
 * its offset, and each receiver has the offset of the entry that it needs next:
 *
 *                         Carol is slow     Alice and Bob are up to date
 *                             ↓                   ↓
 *     offset        3    4    5    6    7    8    9
 *                 (dropped)   ■    ■    ■    ■
 *                             ↑                   ↑
 *                           start                end
 *
 * A line is held once, however many receivers still need it. It is dropped when it has
 * been sent to everybody.
 */
class Log {
  readonly subscriptions = new Map<Client, Subscription>();
  readonly nextFlush = new Condition(); // Each flush notifies it.
  start = 0; // the offset of the oldest entry
  end = 0; // the offset of the next entry that is appended
  size = 0; // the total size of its entries: see `sizeOf`
  #entries: Entry[] = [];
  #sharedBatch?: Batch;
  #isFlushScheduled = false;

  append(entry: Entry): void {
    this.#entries.push(entry);
    this.#adjustSizes(entry, sizeOf(entry));
    const subscription = entry.sender && this.subscriptions.get(entry.sender);
    if (subscription) subscription.lastOwnOffset = this.end;
    this.end++;
    this.#scheduleFlush();
  }

  /** Yields everything that is appended from now on, as bytes for one receiver. */
  subscribe(client: Client): AsyncGenerator<Uint8Array> {
    // The offset is fixed now. The generator itself starts only when the send loop asks
    // for the first batch: after the welcome.
    const subscription = new Subscription(client, this.end);
    this.subscriptions.set(client, subscription);
    return this.#batchesFor(subscription);
  }

  /**
   * Yields batches for one receiver, whose send loop writes them. For example, Bob has
   * been sent all entries up to 6. So his offset is 7, and this generator waits:
   *
   *     1. "alice: Hi" is appended as entry 7. This schedules a flush.
   *     2. At the flush, the generator continues. It yields a batch with entry 7.
   *     3. Bob's send loop writes the batch, and then asks for the next one.
   *     4. So the generator continues after its `yield`. Now Bob's offset is 8.
   *     5. A later flush drops entry 7, if it has been sent to all other receivers, too.
   */
  async *#batchesFor(subscription: Subscription): AsyncGenerator<Uint8Array> {
    try {
      while (subscription.offset < subscription.stopOffset) {
        if (subscription.offset === this.end) {
          await this.nextFlush.wait();
        } else {
          const { bytes, nextOffset } = this.#nextBatch(subscription);
          yield bytes; // The send loop writes them. If that fails, `finally` runs.
          subscription.offset = nextOffset; // It asks for more: they have been sent.
          this.#scheduleFlush();
        }
      }
    } finally {
      // From now on, no entry is kept for this receiver.
      this.subscriptions.delete(subscription.client);
      this.#scheduleFlush();
    }
  }

  /** The client will be sent the entries that exist now, but no others. */
  stopAtEnd(client: Client): void {
    const subscription = this.subscriptions.get(client);
    if (!subscription) return;
    subscription.stopOffset = this.end;
    this.#scheduleFlush(); // Its send loop has to see `stopOffset`.
  }

  /** Schedules one flush, after all input of this turn has been handled. */
  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    nextTurn().then(() => this.#flush());
  }

  /**
   * Trims the log. Then the send loops that wait for entries continue, so everything
   * appended since the last flush leaves together. The senders that wait for
   * receivers continue, too.
   */
  #flush(): void {
    this.#isFlushScheduled = false;
    this.#trim();
    this.nextFlush.notifyAll();
  }

  /** Drops the entries that have been sent to everybody. */
  #trim(): void {
    let newStart = this.end;
    for (const { offset } of this.subscriptions.values()) {
      newStart = Math.min(newStart, offset);
    }
    const dropped = this.#entries.splice(0, newStart - this.start);
    for (const entry of dropped) this.#adjustSizes(entry, -sizeOf(entry));
    this.start = newStart;
  }

  #adjustSizes({ sender }: Entry, difference: number): void {
    this.size += difference;
    if (sender) sender.undeliveredSize += difference;
  }

  /** Returns the next entries for one receiver. */
  #nextBatch(subscription: Subscription): Batch {
    const { client, offset, stopOffset } = subscription;
    if (subscription.canShare) return this.#getSharedBatch(client, offset);
    const endOffset = Math.min(this.end, stopOffset);
    return this.#makeBatch(client, offset, endOffset);
  }

  #makeBatch(receiver: Client, offset: number, endOffset: number): Batch {
    let text = "";
    let nextOffset = offset;
    while (nextOffset < endOffset && text.length < MAX_BATCH_SIZE) {
      const entry = this.#entries[nextOffset - this.start]!;
      if (isFor(receiver, entry)) text += entry.line + "\n";
      nextOffset++;
    }
    return { offset, nextOffset, bytes: encoder.encode(text) };
  }

  /**
   * An optimization, which you can skip at first: most receivers need the same bytes,
   * so these are encoded only once. If Bob and Carol both need entry 7 next, they get
   * the same batch.
   */
  #getSharedBatch(receiver: Client, offset: number): Batch {
    // If the batch was made earlier, it may lack new entries. The receiver gets those
    // with its next batch.
    if (this.#sharedBatch?.offset !== offset) {
      this.#sharedBatch = this.#makeBatch(receiver, offset, this.end);
    }
    return this.#sharedBatch;
  }
}

function sizeOf({ line }: Entry): number {
  return Math.max(line.length, MIN_ENTRY_SIZE);
}

function isFor(receiver: Client, { sender, onlyFor }: Entry): boolean {
  return onlyFor ? onlyFor === receiver : sender !== receiver;
}

// ---------------------------------------------------------------- flow control

/** A sender whose undelivered entries have a larger total size has to wait. */
const MAX_UNDELIVERED = 128 * 1024;
/**
 * While the log is larger than this, many send at the same time. Then each member gets an
 * equal share of this size. If that is less than MAX_UNDELIVERED, it is the limit.
 */
const CROWDED_LOG_SIZE = 4 * 1024 * 1024;
/** If the log is larger than this, the slowest receivers are closed. */
const MAX_LOG_SIZE = 16 * 1024 * 1024;
/** The time between two checks for stalled receivers. */
const STALL_CHECK_INTERVAL_MS = 100;
/** The time that such an interval really takes, because timers are a little late. */
const REAL_STALL_CHECK_INTERVAL_MS = 105;

/**
 * Flow control bounds the memory that slow receivers and fast senders can take.
 *
 * An example. Carol's program reads nothing, and all buffers on the way to her are
 * full. Now Alice sends 2,000 short lines at once:
 *
 *     1. Each entry has the size 128. After 1,025 entries, more than
 *        MAX_UNDELIVERED is undelivered, and Alice's receive loop waits.
 *     2. Alice's socket is not read. When its buffer is full, TCP stops Alice.
 *     3. If Carol accepts data again and receives these lines, the log drops them,
 *        and Alice's receive loop continues. No line is lost.
 *     4. Otherwise Carol is stalled. After 5 seconds, her connection is closed. So her
 *        pending write fails, her subscription ends, and the log drops what only she
 *        needed. Alice continues, too.
 *
 * Steps 1 to 3 are called back-pressure. Members that say little usually do not wait.
 *
 * Not counted: the bytes that are being written. For each receiver, that is one batch.
 */
class FlowControl {
  readonly #log: Log;
  readonly #maxChecks: number;
  readonly #closeClient: (client: Client) => void;
  readonly #waitingSenders = new Set<Client>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(
    log: Log,
    stallTimeoutMs: number,
    closeClient: (client: Client) => void,
  ) {
    this.#log = log;
    const checks = stallTimeoutMs / REAL_STALL_CHECK_INTERVAL_MS;
    this.#maxChecks = Math.max(1, Math.ceil(checks));
    this.#closeClient = closeClient;
    this.#timer = setInterval(
      () => this.#checkReceivers(),
      STALL_CHECK_INTERVAL_MS,
    );
  }

  /** Whether a sender has too much undelivered. */
  mustWait(sender: Client): boolean {
    return sender.undeliveredSize > this.#undeliveredLimit();
  }

  /**
   * Waits until everything from a sender has been delivered. If it waited only until the
   * sender is below the limit, the sender's next line could exceed the limit again.
   *
   * The sender is a receiver, too: its own send loop must pass its entries as well. So
   * whoever sends much must also read what others send.
   *
   * Not handled: meanwhile the sender is not read. If it leaves, that is noticed only
   * afterwards.
   */
  async waitForReceivers(sender: Client): Promise<void> {
    this.#waitingSenders.add(sender);
    // It may be disconnected meanwhile, for example by a shutdown.
    while (sender.undeliveredSize > 0 && sender.state === "member") {
      await this.#log.nextFlush.wait();
    }
    this.#waitingSenders.delete(sender);
  }

  #undeliveredLimit(): number {
    if (this.#log.size <= CROWDED_LOG_SIZE) return MAX_UNDELIVERED;
    const share = CROWDED_LOG_SIZE / this.#log.subscriptions.size;
    return Math.min(MAX_UNDELIVERED, share);
  }

  #checkReceivers(): void {
    this.#closeStalled();
    if (this.#log.size > MAX_LOG_SIZE) this.#closeSlowest();
  }

  /**
   * Closes stalled receivers. It counts checks, not time: if the server itself was
   * suspended for a while, no receiver is to blame.
   *
   * Not handled:
   *
   *   - A receiver that accepts a little now and then is never stalled. Its senders
   *     wait for as long as it likes.
   *   - On the same machine, the kernel reports progress only about once per megabyte.
   *     So a slow receiver can look stalled.
   */
  #closeStalled(): void {
    const isSenderWaiting = this.#waitingSenders.size > 0;
    const { end } = this.#log;
    for (const { client, offset } of this.#log.subscriptions.values()) {
      const isBehind = offset < end;
      if (isSenderWaiting && isBehind) client.checksWithoutProgress++;
      else client.checksWithoutProgress = 0;
      if (client.checksWithoutProgress >= this.#maxChecks) {
        this.#closeClient(client);
      }
    }
  }

  /** Closes the receivers that still need the oldest entry, so that it can be dropped. */
  #closeSlowest(): void {
    const { start } = this.#log;
    for (const { client, offset } of this.#log.subscriptions.values()) {
      if (offset === start) this.#closeClient(client);
    }
  }

  /** Ends the checks. */
  stop(): void {
    clearInterval(this.#timer);
  }
}

// -------------------------------------------------------- accepting connections

/** The maximum number of connections that the kernel holds until they are accepted. */
const BACKLOG = 4_096;
/** While this many connections are ending, no new one is accepted. */
const MAX_LEAVING = 1_000;
const ACCEPT_RETRY_MS = 100;
const ACCEPT_WARNING_INTERVAL_MS = 60_000;
/** Codes of errors that concern only one newcomer: it left before it was accepted. */
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
  while (true) {
    // If connections are queued, `accept` resolves at once. This gives others a turn.
    await nextTurn();
    while (room.countClients("leaving") >= MAX_LEAVING) {
      await sleep(ACCEPT_RETRY_MS);
    }
    try {
      const conn = await listener.accept();
      room.serve(conn); // This is not awaited: it ends when the connection ends.
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

// --------------------------------------------------------- the console output

/** How long the last lines may take to be printed when the server stops. */
const PRINT_TIMEOUT_MS = 1_000;
/** The maximum number of lines that wait to be printed. Others are lost, but counted. */
const MAX_UNPRINTED_LINES = 16 * 1024;

/**
 * Prints lines with the time. Output can be slow, for example if it goes through a
 * pipe, so the server never waits for it.
 */
class Printer {
  #text = ""; // the lines that wait to be printed
  #lineCount = 0; // in `#text`
  #lostCount = 0; // lines that were lost, and are not reported yet
  #printing?: Promise<void>;
  #time = "";
  #timeSecond = 0; // Formatting the time is slow, so it is done once per second.

  constructor(readonly output: typeof Deno.stdout) {}

  print(line: string): void {
    if (this.#lineCount < MAX_UNPRINTED_LINES) {
      this.#text += `[${this.#currentTime()}] ${line}\n`;
      this.#lineCount++;
    } else {
      this.#lostCount++;
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
      const lostCount = this.#lostCount;
      if (lostCount > 0) {
        const time = this.#currentTime();
        this.#text += `[${time}] ⚠️ Lines not printed: ${lostCount}\n`;
      }
      const bytes = encoder.encode(this.#text);
      this.#text = "";
      this.#lineCount = 0;
      try {
        await writeAll(this.output, bytes);
        this.#lostCount -= lostCount; // These have been reported.
      } catch {
        this.#lostCount += lineCount; // The output is full or closed.
      }
    }
    this.#printing = undefined;
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
  const stopServer = startServer(listener, {
    maxClients,
    quiet,
    print: (line) => output.print(line),
    warn: (line) => warnings.print(line),
  });
  await stopRequest;
  await stopServer();
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
