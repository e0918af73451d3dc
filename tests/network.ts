/**
 * A TCP network in memory, so that the tests need no permission.
 *
 * A `MemoryNetwork` takes the place of the kernel. Its listeners and connections
 * have the methods of Deno's, and the server cannot tell the difference. All
 * rules were copied from real sockets, as Deno 2.9 shows them on Linux's
 * loopback interface; network_test.ts checks the same claims on both. Tests can
 * also count here what real sockets hide, and cause errors that are rare there.
 *
 * A `MemoryListener` is a queue of new connections. A `MemoryConn` is one end of
 * a connection. Two `Stream`s carry the bytes, one in each direction:
 *
 *     client               stream to the server               server
 *     write() ──▶ [ send buffer ] ──▶ [ receive buffer ] ──▶ read()
 *     read() ◀── [ receive buffer ] ◀── [ send buffer ] ◀── write()
 *                          stream to the client
 *
 * What can be done now is done at once: a read of bytes that are already here
 * resolves before the event loop turns. A read, write or accept that has to wait
 * continues in a later turn of the event loop. Both are as with real sockets.
 *
 * Left out: packets that are lost or late, addresses other than 127.0.0.1,
 * `conn.readable`, and the error for two calls of `accept` at the same time.
 */

/**
 * A direction of a connection that holds this many bytes is full. Linux accepts
 * 3,919,872 bytes on loopback for a receiver that does not read.
 */
const BUFFER_BYTES = 3_920_000;
/**
 * The first bytes of a stream, up to this many, lie in the receive buffer of the
 * receiver's kernel. The others still lie in the send buffer of the sender's.
 */
const RECEIVE_BUFFER_BYTES = 128_000;
/** This many clients, and one more, may wait to be accepted, as in Deno. */
const DEFAULT_BACKLOG = 511;
/** Clients get the ports from this one on, and so do listeners on port 0. */
const FIRST_FREE_PORT = 32_768;

/** The size of a connection's buffers. */
export interface ConnectOptions {
  /** How many bytes each direction holds before a write waits. */
  bufferSize?: number;
  /** The same, but for the direction from the server to the client only. */
  bufferSizeToClient?: number;
}

/** What real sockets hide: numbers for one end of a connection. */
export interface Traffic {
  /** How often the peer has written bytes. A write that waits does not count. */
  peerWrites: number;
  /** How often the peer has read bytes. A read that waits does not count. */
  peerReads: number;
  /** How many bytes the peer has written that this end has not read. */
  unreadBytes: number;
  /** How many bytes this end has written that the peer has not read. */
  peerUnreadBytes: number;
}

/** Finds listeners by their port, and connects clients to them. */
export class MemoryNetwork {
  readonly #listeners = new Map<number, MemoryListener>();
  readonly #streams: Stream[] = [];
  #lastPort = FIRST_FREE_PORT - 1;

  /** The bytes that were written and not read yet, over all connections. */
  get heldBytes(): number {
    let sum = 0;
    for (const stream of this.#streams) sum += stream.size;
    return sum;
  }

  /**
   * Starts to listen.
   *
   * @param options.port the port; 0, the default, means any free port.
   * @param options.backlog this many clients, and one more, may wait for `accept`.
   * @throws {Deno.errors.AddrInUse} if there is a listener on that port.
   */
  listen(options: { port?: number; backlog?: number } = {}): MemoryListener {
    const port = options.port || this.#findFreePort();
    if (this.#findListener(port)) throw kernelError("AddrInUse");
    const backlog = options.backlog ?? DEFAULT_BACKLOG;
    const listener = new MemoryListener(addressOf(port), backlog);
    this.#listeners.set(port, listener);
    return listener;
  }

  /**
   * Connects to a listener. The kernel does this alone: the connection exists,
   * and the client may write to it, before the server has accepted it.
   *
   * @throws {Deno.errors.ConnectionRefused} if nobody listens on that port.
   */
  async connect(
    port: number,
    options: ConnectOptions = {},
  ): Promise<Deno.TcpConn> {
    const listener = this.#findListener(port);
    if (!listener) throw kernelError("ConnectionRefused");
    const bufferSize = options.bufferSize ?? BUFFER_BYTES;
    const toServer = new Stream(bufferSize);
    const toClient = new Stream(options.bufferSizeToClient ?? bufferSize);
    this.#streams.push(toServer, toClient);

    const address = addressOf(this.#findFreePort());
    const client = new MemoryConn(address, listener.addr, toClient, toServer);
    const server = new MemoryConn(listener.addr, address, toServer, toClient);
    client.peer = server;
    server.peer = client;
    await listener.enqueue(server);
    await nextTurn(); // as on a real network, nobody connects in no time
    return client;
  }

  #findListener(port: number): MemoryListener | undefined {
    const listener = this.#listeners.get(port);
    return listener?.isClosed ? undefined : listener;
  }

  /** No port is used twice: tests make far fewer than 30,000 connections. */
  #findFreePort(): number {
    do {
      this.#lastPort++;
    } while (this.#listeners.has(this.#lastPort));
    return this.#lastPort;
  }
}

/** A queue of connections that the server has not accepted yet. */
export class MemoryListener implements Deno.TcpListener {
  readonly #queue: MemoryConn[] = [];
  readonly #faults: Error[] = [];
  readonly #arrival = new Condition();
  readonly #room = new Condition();
  /** Whether the server has closed it. */
  isClosed = false;

  /** {@linkcode MemoryNetwork.listen} makes the listeners. */
  constructor(readonly addr: Deno.NetAddr, readonly backlog: number) {}

  /** How many connections wait to be accepted. */
  get queueLength(): number {
    return this.#queue.length;
  }

  /**
   * Makes the next calls of `accept` fail; a call that is pending counts. The
   * queue stays as it is, as when the server has no file descriptor left.
   */
  failAccepts(error: Error, times = 1): void {
    for (let n = 0; n < times; n++) this.#faults.push(error);
    this.#arrival.notify();
  }

  /**
   * Adds a connection, and waits for that while the queue is full. Linux ignores
   * the SYN of a client then, until the client's kernel sends the SYN again.
   */
  async enqueue(conn: MemoryConn): Promise<void> {
    while (this.#queue.length > this.backlog) await this.#room.wait();
    if (this.isClosed) throw kernelError("ConnectionRefused");
    this.#queue.push(conn);
    this.#arrival.notify();
  }

  /**
   * Resolves to the connection that has waited longest.
   *
   * @throws {Deno.errors.NotConnected} if the client has reset that connection.
   * @throws {Deno.errors.BadResource} if the listener is closed.
   */
  async accept(): Promise<Deno.TcpConn> {
    for (;;) {
      assertOpen(this);
      const fault = this.#faults.shift();
      if (fault) throw fault;
      const conn = this.#queue.shift();
      if (conn) {
        this.#room.notify();
        if (conn.isReset) throw kernelError("NotConnected");
        return conn;
      }
      await this.#arrival.wait();
    }
  }

  /** Accepts until the listener is closed, or until `accept` fails. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Deno.TcpConn> {
    try {
      for (;;) yield await this.accept();
    } catch (error) {
      if (!this.isClosed) throw error;
    }
  }

  /** Stops listening. What is in the queue is reset: nobody will accept it. */
  close(): void {
    assertOpen(this);
    this.isClosed = true;
    for (const conn of this.#queue.splice(0)) conn.reset();
    this.#arrival.notify();
    this.#room.notify();
  }

  [Symbol.dispose](): void {
    if (!this.isClosed) this.close();
  }

  ref(): void {}
  unref(): void {}
}

/** One end of a connection. */
class MemoryConn implements Deno.TcpConn {
  peer!: MemoryConn; // the other end, set when both ends have been made
  isClosed = false; // the program at this end has closed it
  isReset = false; // an RST has arrived from the peer
  #resetError?: Error; // what the next read or write says about that RST
  #writable?: WritableStream<Uint8Array<ArrayBufferLike>>;

  constructor(
    readonly localAddr: Deno.NetAddr,
    readonly remoteAddr: Deno.NetAddr,
    readonly incoming: Stream,
    readonly outgoing: Stream,
  ) {}

  /**
   * Reads what is here, as far as the buffer is large enough for it. If nothing
   * is here, it waits. After the peer's FIN it resolves to null.
   */
  async read(buffer: Uint8Array): Promise<number | null> {
    assertOpen(this);
    for (;;) {
      if (this.incoming.size > 0) return this.incoming.take(buffer);
      this.#reportReset();
      if (this.incoming.hasEnded || this.isReset) return null;
      await this.incoming.arrival.wait();
      if (this.isClosed) throw kernelError("Interrupted");
    }
  }

  /**
   * Writes as much as there is room for, perhaps only a part. If there is no
   * room at all, it waits. The number of bytes that it resolves to are on their
   * way. Whether the peer will ever read them, TCP does not say.
   */
  async write(bytes: Uint8Array): Promise<number> {
    assertOpen(this);
    for (;;) {
      this.#reportReset();
      if (this.outgoing.hasEnded || this.isReset) {
        throw kernelError("BrokenPipe");
      }
      if (this.peer.isClosed) {
        // The peer's FIN says only that the peer will send no more. So the first
        // write is accepted. The answer is an RST, which makes later ones fail.
        this.#receiveReset();
        return bytes.length;
      }
      if (this.outgoing.hasRoom) return this.outgoing.put(bytes);
      await this.outgoing.room.wait();
      if (this.isClosed) throw kernelError("Interrupted");
    }
  }

  /** Half-close: sends a FIN after the last byte. Reading goes on. */
  // deno-lint-ignore require-await -- `Deno.TcpConn` wants a promise
  async closeWrite(): Promise<void> {
    assertOpen(this);
    this.outgoing.end();
  }

  /**
   * Closes both directions: Deno sends a FIN. If that throws unread input away,
   * the kernel sends an RST as well, and the peer's next write fails. While the
   * peer's receive buffer is full, the FIN has to wait in the send buffer. Then
   * the RST overtakes it and destroys the send buffer: the final bytes are lost.
   */
  close(): void {
    assertOpen(this);
    this.outgoing.end();
    if (this.incoming.size > 0) this.peer.#receiveReset();
    this.#release();
  }

  /** Closes both directions with an RST alone. */
  reset(): void {
    assertOpen(this);
    this.peer.#receiveReset();
    this.#release();
  }

  #release(): void {
    this.isClosed = true;
    this.incoming.truncate(0);
    this.#wakeAll();
  }

  /**
   * What an RST does was tried on Linux, with `resetAndDestroy` of `node:net`:
   * - Bytes in the receive buffer can still be read. Bytes that were still in
   *   the peer's send buffer are lost.
   * - After these bytes one call, be it a read or a write, rejects with
   *   `ConnectionReset`. A write does not wait until the bytes are read.
   * - From then on a read resolves to null, as after a FIN, and a write rejects
   *   with `BrokenPipe`.
   * - If a FIN has arrived before the RST, no call rejects with
   *   `ConnectionReset`.
   */
  #receiveReset(): void {
    this.isReset = true;
    const hasFinArrived = this.incoming.hasEnded &&
      this.incoming.size <= RECEIVE_BUFFER_BYTES;
    if (!hasFinArrived) this.#resetError = kernelError("ConnectionReset");
    this.incoming.truncate(RECEIVE_BUFFER_BYTES);
    this.outgoing.truncate(0);
    this.#wakeAll();
  }

  #reportReset(): void {
    const error = this.#resetError;
    this.#resetError = undefined;
    if (error) throw error;
  }

  #wakeAll(): void {
    this.incoming.arrival.notify();
    this.outgoing.room.notify();
  }

  /** Closing or aborting this stream closes the connection, as in Deno. */
  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    this.#writable ??= new WritableStream({
      write: async (bytes) => {
        for (let start = 0; start < bytes.length;) {
          start += await this.write(bytes.subarray(start));
        }
      },
      close: () => this[Symbol.dispose](),
      abort: () => this[Symbol.dispose](),
    });
    return this.#writable;
  }

  /** In Deno the end of `readable` closes both directions: the chat needs one. */
  get readable(): never {
    throw new Error("A connection in memory has no `readable`: use `read`.");
  }

  [Symbol.dispose](): void {
    if (!this.isClosed) this.close();
  }

  setNoDelay(): void {}
  setKeepAlive(): void {}
  ref(): void {}
  unref(): void {}
}

/** The bytes that are on their way in one direction, and the FIN after them. */
class Stream {
  /** Notified when bytes, a FIN or an RST have arrived. */
  readonly arrival = new Condition();
  /** Notified when there is room again, or never will be. */
  readonly room = new Condition();
  readonly #chunks: Uint8Array[] = [];
  size = 0; // of all chunks together, in bytes
  hasEnded = false; // the sender has sent a FIN
  writes = 0;
  reads = 0;

  constructor(readonly capacity: number) {}

  get hasRoom(): boolean {
    return this.size < this.capacity;
  }

  /** Adds bytes as far as there is room for them, and returns their number. */
  put(bytes: Uint8Array): number {
    const part = bytes.slice(0, this.capacity - this.size);
    this.#chunks.push(part);
    this.size += part.length;
    this.writes++;
    this.arrival.notify();
    return part.length;
  }

  /**
   * Moves bytes into the buffer, and returns their number. Linux notifies a sender
   * that waits when a third of its buffer is free, not at each byte.
   */
  take(buffer: Uint8Array): number {
    let count = 0;
    let used = 0; // how many chunks were moved as a whole
    while (used < this.#chunks.length && count < buffer.length) {
      const chunk = this.#chunks[used]!;
      const part = chunk.subarray(0, buffer.length - count);
      buffer.set(part, count);
      count += part.length;
      if (part.length === chunk.length) used++;
      else this.#chunks[used] = chunk.subarray(part.length);
    }
    this.#chunks.splice(0, used);
    this.size -= count;
    this.reads++;
    const freeBytes = this.capacity - this.size;
    if (freeBytes >= this.capacity / 3) this.room.notify();
    return count;
  }

  /** Sends a FIN. */
  end(): void {
    this.hasEnded = true;
    this.arrival.notify();
  }

  /** Drops the bytes at the end, so that at most so many are left. */
  truncate(maxBytes: number): void {
    while (this.size > maxBytes) {
      const last = this.#chunks.pop()!;
      const kept = Math.max(0, maxBytes - (this.size - last.length));
      if (kept > 0) this.#chunks.push(last.subarray(0, kept));
      this.size -= last.length - kept;
    }
  }
}

/**
 * A condition variable. A function that has waited continues in a later turn of
 * the event loop, and has to look again whether it can go on: another function
 * may have been faster.
 */
class Condition {
  #notification?: PromiseWithResolvers<void>; // if a function waits

  wait(): Promise<void> {
    this.#notification ??= Promise.withResolvers();
    return this.#notification.promise;
  }

  notify(): void {
    if (this.#notification) setImmediate(this.#notification.resolve);
    this.#notification = undefined;
  }
}

/** Counts what a connection in memory carries, as seen from one of its ends. */
export function trafficOf(conn: Deno.TcpConn): Traffic {
  const { incoming, outgoing } = inMemory(conn);
  return {
    peerWrites: incoming.writes,
    peerReads: outgoing.reads,
    unreadBytes: incoming.size,
    peerUnreadBytes: outgoing.size,
  };
}

/** Closes a connection in memory with an RST and no FIN. */
export function reset(conn: Deno.TcpConn): void {
  inMemory(conn).reset();
}

function inMemory(conn: Deno.TcpConn): MemoryConn {
  if (conn instanceof MemoryConn) return conn;
  throw new TypeError("This connection is not one of a MemoryNetwork.");
}

function assertOpen(resource: { isClosed: boolean }): void {
  if (resource.isClosed) throw new Deno.errors.BadResource("It is closed.");
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function addressOf(port: number): Deno.NetAddr {
  return { transport: "tcp", hostname: "127.0.0.1", port };
}

/** Deno's names of errors, and the kernel's. */
const CODES = {
  AddrInUse: "EADDRINUSE",
  BrokenPipe: "EPIPE",
  ConnectionRefused: "ECONNREFUSED",
  ConnectionReset: "ECONNRESET",
  Interrupted: "EINTR",
  NotConnected: "ENOTCONN",
};

function kernelError(name: keyof typeof CODES): Error {
  const code = CODES[name];
  return Object.assign(new Deno.errors[name](code), { code });
}
