/**
 * Lesson 12: fairness.
 *
 * A program with one thread does one thing at a time, so no connection may use the thread
 * for long.
 *
 * `await` alone is not enough. After the `await` of a resolved promise, the function
 * continues in the same turn of the event loop, before the event loop looks at timers
 * and sockets. So a client that sends without a pause can make all others wait. A
 * server has to stop by itself after a limited amount of work, and let the others
 * continue.
 *
 * Operating systems share time in the same way. They give each program a slice of time,
 * and interrupt it at the end of its slice. Programs with an event loop have to stop by
 * themselves: nginx limits what it reads from one connection at a time, and Redis limits
 * what it writes to one client.
 *
 * Connections share the memory, too. So one that sends little should have a small buffer.
 */

import { assert } from "@std/assert";
import { hasSockets, type Person, settled, TestServer } from "./helpers.ts";

// ------------------------------------------------------------- one that floods

/** How many bytes the server reads from a flood before alice's hello is received. */
async function readBeforeHello(flood: string): Promise<number> {
  await using server = new TestServer({ inMemory: true });
  const names = ["alice", "bob", "mallory"] as const;
  const [alice, bob, mallory] = await server.joinAll(...names);
  await Promise.all([mallory.sendsRaw(flood), alice.sends("hello")]);
  await bob.receives("alice: hello");
  const bytes = flood.length - mallory.bytesUnreadByServer;
  await settled(() => mallory.bytesUnreadByServer); // The flood ends before the server.
  return bytes;
}

Deno.test(
  "fairness: a client that sends blank lines without a pause does not hold up the others",
  async () => {
    const bytes = await readBeforeHello((" ".repeat(63) + "\n").repeat(16_000));
    assert(
      bytes < 500_000,
      `mallory sends 1,024,000 bytes of blank lines, and alice says hello at the ` +
        `same time. The server reads ${bytes} of them before bob receives the hello`,
    );
  },
);

Deno.test(
  "fairness: a client that sends an endless line does not hold up the others",
  async () => {
    const bytes = await readBeforeHello("x".repeat(1_000_000));
    assert(
      bytes < 500_000,
      `mallory sends a line of 1,000,000 characters, and alice says hello at the ` +
        `same time. The server reads ${bytes} of these before bob receives the hello`,
    );
  },
);

Deno.test(
  "fairness: thousands of newlines that arrive together do not hold up the others",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const names = ["alice", "bob", "mallory"] as const;
    const [alice, bob, mallory] = await server.joinAll(...names);
    await Promise.all([
      mallory.sendsRaw("\n".repeat(15_000) + "the end\n"),
      alice.sends("hello"),
    ]);
    // mallory's last line was sent first, but 15,000 blank lines come before it.
    await bob.receives("alice: hello", "mallory: the end");
  },
);

// ------------------------------------------------------------- many that flood

/** As many lines as the server handles in one go. Only the last one is a message. */
const BLOCK = "\n".repeat(1_023) + "mark\n";

async function joinFlooders(server: TestServer): Promise<Person[]> {
  const flooders: Person[] = [];
  for (let n = 0; n < 20; n++) flooders.push(await server.join(`flooder${n}`));
  return flooders;
}

Deno.test(
  "fairness: in each turn of the event loop, the server reads lines of only one of the clients that flood",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const flooders = await joinFlooders(server);
    const bob = await server.join("bob");
    const before = bob.writesReceived;
    for (const flooder of flooders) await flooder.sendsRaw(BLOCK.repeat(6));
    for (let n = 0; n < 120; n++) await bob.nextLine();
    const writes = bob.writesReceived - before;
    assert(
      writes > 40, // one write for each turn; 6 if all are served in each turn
      `bob receives the messages of 20 flooders, 120 together. The number of writes ` +
        `is ${writes}: the server serves many flooders in one turn of the event loop`,
    );
  },
);

Deno.test(
  "fairness: a client that sends little does not wait behind clients that flood",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const flooders = await joinFlooders(server);
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (const flooder of flooders) await flooder.sendsRaw(BLOCK.repeat(7));
    let marks = 0;
    for (let n = 0; n < 5; n++) {
      const line = `${n}`.padEnd(600, "-");
      await alice.sends(line);
      marks += (await bob.receivesUntil(`alice: ${line}`)).length - 1;
    }
    assert(
      marks < 80,
      `bob receives ${marks} messages of flooders among 5 lines that alice types: ` +
        `her lines wait behind the flooders`,
    );
    for (; marks < 140; marks++) await bob.nextLine(); // The flood ends.
  },
);

Deno.test(
  "fairness: each turn of the event loop serves only a few of the clients that send endless lines",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const flooders = await joinFlooders(server);
    const [alice, bob] = await server.joinAll("alice", "bob");
    const countReads = () =>
      flooders.reduce((sum, flooder) => sum + flooder.readsByServer, 0);
    for (const flooder of flooders) await flooder.sendsRaw("x".repeat(500_000));
    const before = countReads();
    for (let n = 0; n < 10; n++) {
      await alice.sends(`ping ${n}`);
      await bob.receives(`alice: ping ${n}`);
    }
    const reads = countReads() - before;
    assert(
      reads < 150, // one or a few a line; 20 a line if all are served in each turn
      `While bob receives 10 short lines from alice, the server reads ${reads} ` +
        `times from 20 clients that send endless lines`,
    );
  },
);

Deno.test({
  name:
    "fairness: while many clients flood the server, it still reads new input from others",
  ignore: !hasSockets,
  fn: async () => {
    await using server = new TestServer();
    const flooders = await joinFlooders(server);
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (const flooder of flooders) {
      await flooder.sendsRaw(BLOCK.repeat(20));
    }
    let marks = 0;
    for (let n = 0; n < 8; n++) {
      await alice.sends(`ping ${n}`);
      marks += (await bob.receivesUntil(`alice: ping ${n}`)).length - 1;
    }
    assert(
      marks < 250,
      `bob receives ${marks} messages of flooders among 8 lines from alice: her ` +
        `lines have arrived, but the server reads them late`,
    );
    for (; marks < 400; marks++) await bob.nextLine(); // The flood ends.
  },
});

// ------------------------------------------------------------------- the buffers

/** Appends to `sizes` the size of each buffer that the server reads into. */
function watchBuffers(server: TestServer, sizes: number[]): void {
  const accept = server.listener.accept.bind(server.listener);
  server.listener.accept = async () => {
    const conn = await accept();
    const read = conn.read.bind(conn);
    conn.read = (buffer) => {
      sizes.push(buffer.length);
      return read(buffer);
    };
    return conn;
  };
}

Deno.test(
  "fairness: for an idle connection, the server uses a small buffer",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const sizes: number[] = [];
    watchBuffers(server, sizes);
    await server.join("bob"); // He may take an `accept` that began before the watch.
    const alice = await server.join("alice");
    await settled(() => sizes.length);
    const before = sizes.at(-1)!;
    await alice.sends("x".repeat(100_000));
    await settled(() => sizes.length);
    await alice.sends("I am idle again");
    await settled(() => sizes.length);
    const after = sizes.at(-1)!;
    const sizeOf = (bytes: number) =>
      `${bytes} bytes: a thousand idle clients need ${bytes * 1_000} bytes`;
    assert(
      before <= 1_024,
      `alice is idle, and has a buffer of ${sizeOf(before)}`,
    );
    assert(after <= 1_024, `alice is idle again: a buffer of ${sizeOf(after)}`);
  },
);

Deno.test(
  "fairness: for a busy connection, the server makes few reads, and each is large",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const alice = await server.join("alice");
    const before = alice.readsByServer;
    await alice.sends("x".repeat(1_000_000));
    const reads = await settled(() => alice.readsByServer) - before;
    assert(
      reads <= 25,
      `The server needs ${reads} reads for a million bytes from alice`,
    );
  },
);
