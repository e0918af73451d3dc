/**
 * Lesson 13: accepting.
 *
 * The kernel completes a connection before the server knows of it, and puts it into a
 * queue. `accept` takes the next connection from this queue. On some systems, it fails
 * if that client has already left. It also fails if the server has too many files open:
 * each connection needs a file descriptor, and their number is limited.
 *
 * If the server then exits, it drops all members. If it calls `accept` again at once,
 * the call fails again: this loop keeps a processor busy. So a server has to pause:
 * nginx for half a second by default, Go's `net/http` for at most one second.
 *
 * Most of these tests use the network in memory, where a test can make `accept` fail.
 */

import { assert, AssertionError, assertMatch } from "@std/assert";
import {
  announcements,
  beforeIdle,
  Clocks,
  type Person,
  settled,
  testProgram,
  TestServer,
  within,
} from "./helpers.ts";
import type { MemoryListener } from "./network.ts";
import { Server } from "./programs.ts";

/** The listener in memory, whose `accept` can be made to fail. */
function memoryListener(server: TestServer): MemoryListener {
  return server.listener as MemoryListener;
}

// ------------------------------------------------------------------ accept fails

/** An error with a code, as the kernel gives it. */
function kernelError(code: string, message = code): Error {
  return Object.assign(new Error(message), { code });
}

const TOO_MANY_FILES = kernelError(
  "EMFILE",
  "Too many open files (os error 24)",
);

/** Runs a test in which `accept` fails. If that ends the server, the test fails. */
async function testFailures(
  test: (server: TestServer) => Promise<void>,
): Promise<void> {
  const server = new TestServer({ inMemory: true });
  const crash = Promise.withResolvers<never>();
  // Nothing waits for the server's accept loop. So its error is an unhandled rejection.
  const onCrash = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    const { message } = event.reason;
    crash.reject(
      new AssertionError(
        `One accept fails, and nobody can join any more: ${message}`,
      ),
    );
  };
  addEventListener("unhandledrejection", onCrash);
  try {
    await Promise.race([test(server), crash.promise]);
  } finally {
    // If the server has ended in this way, stopping it fails with the same error.
    await server[Symbol.asyncDispose]().catch(() => {});
    removeEventListener("unhandledrejection", onCrash);
  }
}

Deno.test("accepting: after accept has failed once, a newcomer can still join", async () => {
  await testFailures(async (server) => {
    await server.join("alice");
    memoryListener(server).failAccepts(TOO_MANY_FILES);
    await within(
      2_000,
      server.join("bob"),
      "accept has failed once, and bob is not accepted any more",
    );
  });
});

Deno.test(
  "accepting: if accept fails, the server pauses before the next try, and members can still chat",
  async () => {
    await testFailures(async (server) => {
      const [alice, bob] = await server.joinAll("alice", "bob");
      const listener = memoryListener(server);
      listener.failAccepts(kernelError("ENOBUFS"), 100);
      await server.visit();
      for (let n = 0; n < 20; n++) {
        await alice.sends(`line ${n}`);
        await bob.receives(`alice: line ${n}`);
      }
      await settled(() => listener.queueLength);
      // The newcomer is still in the queue, so `accept` has not yet failed 100 times.
      assert(
        listener.queueLength === 1,
        "accept has failed 100 times in a moment: the server does not pause",
      );
    });
  },
);

testProgram(
  "accepting: if the server has no file descriptor left, members can still chat",
  async () => {
    await using server = await Server.start(["0"], { openFiles: 64 });
    const alice = await server.join("alice");
    const bob = await server.join("bob");
    await alice.receives(announcements.joined("bob"));
    for (let round = 0; round < 3; round++) {
      const crowd: Person[] = [];
      // Each connection needs a file descriptor, and the server may have 64.
      for (let n = 0; n < 80; n++) crowd.push(await connect(server));
      await alice.sends("Quite a crowd out there");
      await bob.receives("alice: Quite a crowd out there");
      for (const person of crowd) person.closes();
      const newcomer = await server.join(`newcomer${round}`);
      newcomer.closes();
      await bob.receives(
        announcements.joined(`newcomer${round}`),
        announcements.left(`newcomer${round}`),
      );
    }
  },
);

/** Connects. The kernel does that without `accept`, but only while the server runs. */
async function connect(server: Server): Promise<Person> {
  try {
    return await server.connect();
  } catch {
    throw new AssertionError(
      "80 people have connected, and the server has ended",
    );
  }
}

Deno.test(
  "accepting: the server warns that accept fails, but at most once a minute",
  async () => {
    await testFailures(async (server) => {
      const listener = memoryListener(server);
      listener.failAccepts(TOO_MANY_FILES, 3);
      await within(2_000, server.join("alice"), "alice is not accepted");
      const [warning, ...others] = server.warnings;
      assertMatch(
        warning ?? "",
        /^Cannot accept connections: Too many open files/,
        "Whoever runs the server should see why nobody can join",
      );
      assert(
        others.length === 0,
        `accept fails three times, and there are ${server.warnings.length} warnings`,
      );
      using clocks = new Clocks();
      clocks.jump(61_000);
      listener.failAccepts(TOO_MANY_FILES);
      await server.join("bob");
      assert(
        server.warnings.length === 2,
        "A minute later accept fails again, and there is no warning",
      );
    });
  },
);

Deno.test(
  "accepting: newcomers that leave before they are accepted do not delay the next newcomer",
  async () => {
    await testFailures(async (server) => {
      await server.join("alice");
      const codes = [
        "ECONNABORTED",
        "ECONNRESET",
        "ENOTCONN",
        "EPROTO",
        "EINVAL",
      ];
      for (const code of codes) {
        memoryListener(server).failAccepts(kernelError(code), 10);
      }
      // With a pause of 100 ms after each failure, bob would wait for five seconds.
      await beforeIdle(
        server.join("bob"),
        "Fifty newcomers have come and gone, and bob has to wait for that",
      );
    });
  },
);

// ------------------------------------------------------------ many at the same time

Deno.test(
  "accepting: hundreds of newcomers that come together do not keep members waiting",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    const visits = Array.from({ length: 500 }, () => server.visit());
    await alice.sends("hello");
    await bob.receives("alice: hello");
    const accepted = 500 - memoryListener(server).queueLength;
    await Promise.all(visits);
    // The server should serve members long before it has accepted all newcomers.
    assert(
      accepted < 250,
      `500 newcomers come, and alice says hello at the same time. The server ` +
        `accepts ${accepted} of them before bob receives the hello`,
    );
  },
);

// Other kernels can have a shorter queue: macOS limits it to 128 by default.
const testLinuxProgram = Deno.build.os === "linux" ? testProgram : () => {};

testLinuxProgram(
  "accepting: hundreds of newcomers can connect while the server is busy, and are served later",
  async () => {
    await using server = await Server.start();
    server.kill("SIGSTOP"); // Now it accepts nothing, as if it were busy.
    // By default, Deno asks the kernel for a queue of 511 connections.
    const visits = Array.from({ length: 600 }, () => server.connect());
    const people = await within(
      3_000,
      Promise.all(visits),
      "600 newcomers come while the server is busy, and some cannot even connect",
    );
    server.kill("SIGCONT");
    for (const person of people) {
      await person.receives(announcements.enterName(person.port));
    }
  },
);

/** Counts the connections that the server has accepted and not closed yet. */
function watchConnections(server: TestServer): { open: number; max: number } {
  const count = { open: 0, max: 0 };
  const accept = server.listener.accept.bind(server.listener);
  server.listener.accept = async () => {
    const conn = await accept();
    count.open++;
    count.max = Math.max(count.max, count.open);
    const close = conn.close.bind(conn);
    conn.close = () => {
      count.open--;
      close();
    };
    return conn;
  };
  return count;
}

Deno.test(
  "accepting: the server limits how many refused connections stay open",
  async () => {
    await using server = new TestServer({ inMemory: true, maxClients: 1 });
    const count = watchConnections(server);
    await server.join("alice");
    const visitors: Person[] = [];
    for (let n = 0; n < 1_100; n++) visitors.push(await server.visit());
    await settled(() => memoryListener(server).queueLength);
    // The server may have 1,000 connections that are ending, and a few others.
    assert(
      count.max < 1_010,
      `1,100 people come to a full chat and do not close their connections: the ` +
        `server has ${count.max} open at the same time`,
    );
    const last = visitors.pop()!;
    for (const visitor of visitors) visitor.closes();
    await within(
      5_000,
      last.receives(announcements.chatFull),
      "The others have closed their connections, and the last is not accepted",
    );
  },
);
