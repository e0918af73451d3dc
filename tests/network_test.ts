/**
 * Claims about the network in memory. With `--allow-net` on Linux each claim is
 * checked on real sockets, too. So the lessons may use the one for the other.
 *
 * Try: `deno test -A tests/network_test.ts`.
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { once } from "node:events";
import { createConnection } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { MemoryNetwork, reset, trafficOf } from "./network.ts";

/** What a claim needs, be the network real or in memory. */
interface Network {
  listen(): Deno.TcpListener;
  connect(port: number): Promise<Deno.TcpConn>;
  connectResettable(port: number): Promise<ResettableClient>;
}

/** A client that can end its connection with an RST. */
interface ResettableClient {
  write(bytes: Uint8Array): Promise<unknown>;
  reset(): Promise<unknown>;
}

function networkInMemory(): Network {
  const network = new MemoryNetwork();
  return {
    listen: () => network.listen(),
    connect: (port) => network.connect(port),
    connectResettable: async (port) => {
      const conn = await network.connect(port);
      return {
        write: (bytes) => conn.write(bytes),
        reset: () => Promise.resolve(reset(conn)),
      };
    },
  };
}

/** Real sockets. Deno cannot send an RST without a FIN, but `node:net` can. */
function networkOfLinux(): Network {
  const hostname = "127.0.0.1";
  return {
    listen: () => Deno.listen({ hostname, port: 0 }),
    connect: (port) => Deno.connect({ hostname, port }),
    connectResettable: async (port) => {
      const socket = createConnection(port, hostname).pause();
      await once(socket, "connect");
      return {
        write: (bytes) =>
          new Promise((resolve) => socket.write(bytes, resolve)),
        reset: () => {
          const closed = once(socket, "close");
          socket.resetAndDestroy();
          return closed;
        },
      };
    },
  };
}

const NET = Deno.permissions.querySync({ name: "net" }).state;
const HAS_SOCKETS_OF_LINUX = NET === "granted" && Deno.build.os === "linux";

/** Checks a claim in memory, and on real sockets where they can be used. */
function claim(
  title: string,
  check: (network: Network) => Promise<void>,
): void {
  Deno.test(`network in memory: ${title}`, () => check(networkInMemory()));
  if (!HAS_SOCKETS_OF_LINUX) return;
  Deno.test(`network of Linux: ${title}`, () => check(networkOfLinux()));
}

/** Both ends of a new connection. */
class Pair implements Disposable {
  constructor(readonly client: Deno.TcpConn, readonly server: Deno.TcpConn) {}

  static async connect(network: Network): Promise<Pair> {
    using listener = network.listen();
    const client = await network.connect(listener.addr.port);
    return new Pair(client, await listener.accept());
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    this.server[Symbol.dispose]();
  }
}

/** Resolves when a byte has crossed the network, on a connection of its own. */
async function crossNetwork(network: Network): Promise<void> {
  using pair = await Pair.connect(network);
  await write(pair.client, "x");
  await read(pair.server);
}

/** A sender that writes without end, until a write fails. */
class Flood {
  size = 0; // how many bytes were accepted so far
  readonly ended: Promise<string>; // resolves to the name of the error

  constructor(conn: Deno.TcpConn) {
    this.ended = this.#writeOn(conn);
  }

  async #writeOn(conn: Deno.TcpConn): Promise<string> {
    const chunk = new Uint8Array(64 * 1024);
    try {
      for (;;) this.size += await conn.write(chunk);
    } catch (error) {
      return (error as Error).name;
    }
  }

  /** Resolves when the sender has to wait, since its buffer is full. */
  async untilItWaits(network: Network): Promise<void> {
    for (let before = -1; before < this.size;) {
      before = this.size;
      await crossNetwork(network);
    }
  }
}

/** One write, of text. */
async function write(
  end: { write(bytes: Uint8Array): Promise<unknown> },
  text: string,
): Promise<void> {
  await end.write(new TextEncoder().encode(text));
}

/** One read, as text; "FIN" if it says that no more will come. */
async function read(conn: Deno.TcpConn, maxBytes = 100): Promise<string> {
  const buffer = new Uint8Array(maxBytes);
  const count = await conn.read(buffer);
  if (count === null) return "FIN";
  return new TextDecoder().decode(buffer.subarray(0, count));
}

/**
 * Reads until no more will come. Returns how many bytes came, and "FIN" or the
 * name of the error that ended them.
 */
async function readAll(
  conn: Deno.TcpConn,
): Promise<{ size: number; end: string }> {
  const buffer = new Uint8Array(64 * 1024);
  let size = 0;
  try {
    for (;;) {
      const count = await conn.read(buffer);
      if (count === null) return { size, end: "FIN" };
      size += count;
    }
  } catch (error) {
    return { size, end: (error as Error).name };
  }
}

/** Fails unless a call rejects with this error of Deno and of the kernel. */
async function assertFails(
  call: () => Promise<unknown>,
  name: keyof typeof Deno.errors,
  code?: string,
): Promise<void> {
  const error = await assertRejects(call, Deno.errors[name]);
  if (code) assertEquals((error as Error & { code?: string }).code, code);
}

/** So many writes may be accepted before the peer is closed and its RST is here. */
const MAX_WRITES_BEFORE_RST = 1_000;

/**
 * Fails unless one of the next writes fails, because the peer has sent an RST. A busy
 * kernel may accept some of them before it handles the RST.
 */
async function assertWritesFail(
  conn: Deno.TcpConn,
  name: keyof typeof Deno.errors = "BrokenPipe",
  code = "EPIPE",
): Promise<void> {
  const writeOften = async () => {
    for (let n = 0; n < MAX_WRITES_BEFORE_RST; n++) {
      await write(conn, "x");
      await turn();
    }
  };
  await assertFails(writeOften, name, code);
}

// ------------------------------------------------------------ connecting

claim("each end knows its own address and the other's", async (network) => {
  using listener = network.listen();
  using alice = await network.connect(listener.addr.port);
  using bob = await network.connect(listener.addr.port);
  using server = await listener.accept();
  assertEquals(alice.remoteAddr, listener.addr);
  assertEquals(server.localAddr, listener.addr);
  assertEquals(server.remoteAddr, alice.localAddr);
  const conns = [listener.addr, alice.localAddr, bob.localAddr];
  assertEquals(new Set(conns.map(({ port }) => port)).size, 3);
});

claim("where nobody listens, a client is refused", async (network) => {
  // Here, nobody listens. The port of a listener that was closed could be taken again, by
  // a test that runs at the same time.
  const port = 1;
  await assertFails(
    () => network.connect(port),
    "ConnectionRefused",
    "ECONNREFUSED",
  );
});

claim("a client may write before it is accepted", async (network) => {
  using listener = network.listen();
  using client = await network.connect(listener.addr.port);
  await write(client, "hello");
  await client.closeWrite();
  using server = await listener.accept();
  assertEquals(await read(server), "hello");
  assertEquals(await read(server), "FIN");
});

claim(
  "accept fails for a connection that was reset in the queue",
  async (network) => {
    using listener = network.listen();
    const rude = await network.connectResettable(listener.addr.port);
    await rude.reset();
    using polite = await network.connect(listener.addr.port);
    const accepting = listener.accept();
    const early = await accepting.catch(() => undefined);
    if (early) {
      // A busy kernel may handle the RST only after `accept`. Then a read fails.
      await assertFails(() => read(early), "ConnectionReset", "ECONNRESET");
      early.close();
    } else {
      await assertFails(() => accepting, "NotConnected", "ENOTCONN");
    }
    using server = await listener.accept();
    assertEquals(server.remoteAddr, polite.localAddr);
  },
);

claim("a closed listener accepts no more", async (network) => {
  const listener = network.listen();
  const pending = assertFails(() => listener.accept(), "BadResource");
  listener.close();
  await pending;
  await assertFails(() => listener.accept(), "BadResource");
});

claim(
  "closing a listener resets the connections in its queue",
  async (network) => {
    const listener = network.listen();
    using client = await network.connect(listener.addr.port);
    listener.close();
    await assertFails(() => read(client), "ConnectionReset", "ECONNRESET");
  },
);

claim("`for await` over a listener ends when it is closed", async (network) => {
  const listener = network.listen();
  using client = await network.connect(listener.addr.port);
  let count = 0;
  for await (const server of listener) {
    count++;
    server.close();
    listener.close();
  }
  assertEquals(count, 1);
  assertEquals(await read(client), "FIN");
});

// ------------------------------------------------------- bytes, and waiting

claim(
  "TCP keeps the order of bytes, not the bounds of writes",
  async (network) => {
    using pair = await Pair.connect(network);
    await write(pair.client, "one ");
    await write(pair.client, "two ");
    await write(pair.client, "three");
    assertEquals(await read(pair.server, 6), "one tw");
    assertEquals(await read(pair.server), "o three");
  },
);

claim("what need not wait takes no turn of the event loop", async (network) => {
  using listener = network.listen();
  using client = await network.connect(listener.addr.port);
  using other = await network.connect(listener.addr.port);
  using server = await listener.accept();
  await write(client, "two");
  await read(server, 1); // from now on Deno knows that there is something
  let hasTurned = false;
  setImmediate(() => {
    hasTurned = true;
  });
  (await listener.accept()).close();
  await read(server, 1);
  await write(server, "one");
  assert(!hasTurned, "accept, read or write let the event loop turn");
  assertEquals(await read(other), "FIN");
});

claim("a read that has to wait continues in a later turn", async (network) => {
  using pair = await Pair.connect(network);
  const reading = read(pair.server);
  let hasTurned = false;
  setImmediate(() => {
    hasTurned = true;
  });
  await write(pair.client, "hello");
  await reading;
  assert(hasTurned, "the read went on in the turn of the write");
});

claim("a sender waits while its receiver reads nothing", async (network) => {
  using pair = await Pair.connect(network);
  const flood = new Flood(pair.client);
  await flood.untilItWaits(network);
  const size = flood.size;
  assert(size < 8_000_000, `${size} bytes were accepted`);
  while (flood.size === size) await read(pair.server, 64 * 1024);
  pair.client.close();
  await flood.ended;
});

claim(
  "a stream can be piped into a connection that stays open",
  async (network) => {
    using pair = await Pair.connect(network);
    const stream = ReadableStream.from([new TextEncoder().encode("hello")]);
    await stream.pipeTo(pair.client.writable, { preventClose: true });
    assertEquals(await read(pair.server), "hello");
    await write(pair.client, "still open");
    assertEquals(await read(pair.server), "still open");
  },
);

// ---------------------------------------------------------------- the end

claim("after a half-close the other direction goes on", async (network) => {
  using pair = await Pair.connect(network);
  await write(pair.client, "bye");
  await pair.client.closeWrite();
  await assertFails(() => write(pair.client, "x"), "BrokenPipe", "EPIPE");
  assertEquals(await read(pair.server), "bye");
  assertEquals(await read(pair.server), "FIN");
  await write(pair.server, "goodbye");
  assertEquals(await read(pair.client), "goodbye");
});

claim("after a close, all that was written still arrives", async (network) => {
  using pair = await Pair.connect(network);
  const flood = new Flood(pair.client);
  await flood.untilItWaits(network);
  pair.client.close();
  await flood.ended;
  assertEquals(await readAll(pair.server), { size: flood.size, end: "FIN" });
});

claim(
  "after a close, the peer can write once, and then its writes fail",
  async (network) => {
    using pair = await Pair.connect(network);
    await write(pair.client, "bye");
    pair.client.close();
    await write(pair.server, "is accepted, and answered with an RST");
    await assertWritesFail(pair.server);
    assertEquals(await readAll(pair.server), { size: 3, end: "FIN" });
  },
);

claim("closing with unread input sends a FIN and an RST", async (network) => {
  using pair = await Pair.connect(network);
  await write(pair.server, "the client reads only a part of this");
  await read(pair.client, 10); // Now it has arrived, on a busy kernel as well.
  await write(pair.client, "bye");
  pair.client.close();
  await assertWritesFail(pair.server);
  assertEquals(await readAll(pair.server), { size: 3, end: "FIN" });
});

claim("closing with unread input can lose the final bytes", async (network) => {
  for (let attempt = 1;; attempt++) {
    using pair = await Pair.connect(network);
    await write(pair.server, "the client reads only a part of this");
    await read(pair.client, 10); // Now it has arrived, on a busy kernel as well.
    const flood = new Flood(pair.client);
    await flood.untilItWaits(network);
    pair.client.close();
    await flood.ended;
    const { size, end } = await readAll(pair.server);
    // If all bytes have arrived, the sender did not wait yet, so this shows nothing.
    if (end === "FIN" && size === flood.size && attempt < 20) continue;
    assertEquals(end, "ConnectionReset", `${size} of ${flood.size} bytes`);
    assert(size < flood.size, `all ${size} bytes have arrived`);
    return;
  }
});

claim("closing ends a read and a write that wait", async (network) => {
  using pair = await Pair.connect(network);
  const reading = assertFails(() => read(pair.client), "Interrupted", "EINTR");
  const flood = new Flood(pair.client);
  await flood.untilItWaits(network);
  pair.client.close();
  await reading;
  assertEquals(await flood.ended, "Interrupted");
  await assertFails(() => read(pair.client), "BadResource");
  await assertFails(() => write(pair.client, "x"), "BadResource");
});

claim("what arrived before an RST can still be read", async (network) => {
  using listener = network.listen();
  const client = await network.connectResettable(listener.addr.port);
  using server = await listener.accept();
  await write(client, "bye");
  await client.reset();
  assertEquals(await read(server), "bye");
  await assertFails(() => read(server), "ConnectionReset", "ECONNRESET");
  assertEquals(await read(server), "FIN"); // an RST is reported once
  await assertFails(() => write(server, "x"), "BrokenPipe", "EPIPE");
});

claim("an RST is reported once, by a read or by a write", async (network) => {
  using listener = network.listen();
  const client = await network.connectResettable(listener.addr.port);
  using server = await listener.accept();
  await write(client, "bye");
  await client.reset();
  await assertWritesFail(server, "ConnectionReset", "ECONNRESET");
  await assertFails(() => write(server, "x"), "BrokenPipe", "EPIPE");
  assertEquals(await readAll(server), { size: 3, end: "FIN" });
});

claim("an RST destroys what has not arrived", async (network) => {
  using listener = network.listen();
  const client = await network.connectResettable(listener.addr.port);
  using server = await listener.accept();
  const sentSize = 50_000_000; // more than all buffers on the way can hold
  client.write(new Uint8Array(sentSize)).catch(() => {});
  await read(server, 1);
  await client.reset();
  const { size, end } = await readAll(server);
  assertEquals(end, "ConnectionReset");
  assert(size + 1 < sentSize, `all ${sentSize} bytes have arrived`);
});

claim("an RST ends a read and a write that wait", async (network) => {
  using listener = network.listen();
  const client = await network.connectResettable(listener.addr.port);
  using server = await listener.accept();
  const reading = assertFails(() => read(server), "ConnectionReset");
  const flood = new Flood(server);
  await flood.untilItWaits(network);
  await client.reset();
  await reading;
  assertEquals(await flood.ended, "BrokenPipe"); // an RST is reported once
});

// ------------------------------------------- what only memory can do, or show

Deno.test("network in memory: two listeners cannot have the same port", () => {
  const network = new MemoryNetwork();
  const listener = network.listen({ port: 9_999 });
  assertThrows(() => network.listen({ port: 9_999 }), Deno.errors.AddrInUse);
  listener.close();
  network.listen({ port: 9_999 }).close();
});

Deno.test("network in memory: a client waits for room in the backlog", async () => {
  const network = new MemoryNetwork();
  using listener = network.listen({ backlog: 0 });
  using first = await network.connect(listener.addr.port);
  let count = 1;
  const connecting = network.connect(listener.addr.port).finally(() => count++);
  await turns(10);
  assertEquals([count, listener.queueLength], [1, 1]);
  (await listener.accept()).close();
  using second = await connecting;
  (await listener.accept()).close();
  for (const conn of [first, second]) assertEquals(await read(conn), "FIN");
});

Deno.test("network in memory: buffers are as large as a test says", async () => {
  const network = new MemoryNetwork();
  using listener = network.listen();
  using client = await network.connect(listener.addr.port, {
    bufferSize: 30,
    bufferSizeToClient: 7,
  });
  using server = await listener.accept();
  assertEquals(await client.write(new Uint8Array(100)), 30);
  assertEquals(await server.write(new Uint8Array(100)), 7);
  let count = 0;
  const writing = server.write(new Uint8Array(100)).then((n) => count = n);
  await read(client, 2);
  await turns(10);
  assertEquals(count, 0, "the server went on with less than a third free");
  await read(client, 1);
  await writing;
  assertEquals(count, 3);
});

Deno.test("network in memory: what sockets hide can be counted", async () => {
  const network = new MemoryNetwork();
  using listener = network.listen();
  const client = await network.connect(listener.addr.port);
  const server = await listener.accept();
  await write(server, "one");
  await write(server, "two");
  await write(client, "three");
  await read(server, 2);
  assertEquals(trafficOf(client), {
    peerWrites: 2,
    peerReads: 1,
    unreadBytes: 6,
    peerUnreadBytes: 3,
  });
  assertEquals(network.heldBytes, 9);
  client.close();
  server.close();
  assertEquals(network.heldBytes, 0, "bytes are held for a closed connection");
});

Deno.test("network in memory: `accept` fails as often as a test says", async () => {
  const network = new MemoryNetwork();
  using listener = network.listen();
  const noFiles = Object.assign(new Error("Too many"), { code: "EMFILE" });
  const pending = assertRejects(() => listener.accept(), Error, "Too many");
  listener.failAccepts(noFiles, 2);
  await pending;
  using client = await network.connect(listener.addr.port);
  await assertRejects(() => listener.accept(), Error, "Too many");
  using server = await listener.accept();
  assertEquals(server.remoteAddr, client.localAddr);
});

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
