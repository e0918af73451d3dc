/**
 * Lesson 14: graceful shutdown.
 *
 * If a server is killed, the kernel closes its connections. The members cannot know
 * whether the server was stopped or has crashed, and data on the way to them may be
 * lost. So before it ends, a server stops accepting connections. Then it sends its
 * queued lines, a last line and a FIN, and waits until the clients have closed their
 * connections, too. It does not wait for long: a laptop that is asleep never answers.
 *
 * The request to stop comes as a signal: SIGINT from Ctrl+C, SIGHUP from a terminal
 * that was closed, SIGTERM from systemd, Docker or Kubernetes. If the program has not
 * exited in time, they send SIGKILL, by default after 90, 10 and 30 seconds. No program
 * can catch that signal.
 *
 * The tests of signals use `Server`, which runs the server as a separate process. The
 * others use `TestServer`, which runs it in the process of the test.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  messages,
  type Person,
  saidBy,
  testProgram,
  TestServer,
  untilIdle,
} from "./helpers.ts";
import { Server } from "./programs.ts";

// -------------------------------------------------------------------- the last line

Deno.test(
  "graceful shutdown: everybody receives a last line, and then the server disconnects them",
  async () => {
    await using server = new TestServer();
    const people = await server.joinAll("alice", "bob", "carol");
    const stopped = server.stop();
    for (const person of people) {
      await person.receives(announcements.shutdown); // not: alice left the chat!
      await person.isDisconnected();
    }
    await stopped;
  },
);

Deno.test(
  "graceful shutdown: a client that has no name yet receives the last line",
  async () => {
    await using server = new TestServer();
    const visitor = await server.connect("a visitor");
    const stopped = server.stop();
    visitor.sends("bob").catch(() => {}); // This name comes too late.
    await visitor.receives(announcements.shutdown);
    await visitor.isDisconnected();
    await stopped;
  },
);

Deno.test(
  "graceful shutdown: the server first sends the lines that it still has, and then the last line",
  async () => {
    await using server = new TestServer();
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    alice.sends(...messages(3_000)).catch(() => {}); // The shutdown interrupts it.
    const seen: string[] = [];
    while (seen.length < 500) seen.push(await carol.nextLine());
    const stopped = server.stop();
    seen.push(...await carol.receivesUntil());
    const seenByBob = await bob.receivesUntil();
    for (const person of [alice, bob, carol]) person.closes();
    assertLine(seenByBob.pop(), announcements.shutdown, "At the end, bob");
    assertLine(seen.pop(), announcements.shutdown, "At the end, carol");
    const said = saidBy("alice", messages(seen.length));
    assertLines(seen, said, "carol");
    assertLines(seenByBob, said, "bob");
    await stopped;
  },
);

Deno.test(
  "graceful shutdown: a client that never stops sending receives the last line",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const flooding = (async () => {
      for (;;) await alice.sends(...messages(100));
    })().catch(() => {}); // Sending fails when the connection is closed.
    for (let n = 0; n < 500; n++) await bob.nextLine();
    const stopped = server.stop();
    // If the server closed the connection while alice sends, its kernel would send an
    // RST. Then alice's kernel could discard the last line before it is read.
    await alice.receives(announcements.shutdown);
    await alice.isDisconnected();
    bob.closes();
    await Promise.all([stopped, flooding]);
  },
);

/** Counts the connections that the server has closed. */
function watchCloses(server: TestServer): { closes: number } {
  const count = { closes: 0 };
  const accept = server.listener.accept.bind(server.listener);
  server.listener.accept = async () => {
    const conn = await accept();
    const close = conn.close.bind(conn);
    conn.close = () => {
      count.closes++;
      close();
    };
    return conn;
  };
  return count;
}

Deno.test(
  "graceful shutdown: all members receive the last line before the server closes any connection",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const count = watchCloses(server);
    const crowd: Person[] = [];
    for (let n = 0; n < 20; n++) crowd.push(await server.join(`member${n}`));
    const stopped = server.stop();
    for (const person of crowd) {
      await person.receivesUntil(announcements.shutdown);
      assert(
        count.closes === 0,
        `${person.name} receives the last line when ${count.closes} others have ` +
          `been disconnected`,
      );
    }
    for (const person of crowd) person.closes();
    await stopped;
  },
);

Deno.test(
  "graceful shutdown: during the shutdown, no sender waits for a stalled receiver",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const count = watchCloses(server);
    await server.joinSleeper("sleeper");
    const alice = await server.join("alice");
    await alice.sends(...messages(200)); // The server stops reading from alice.
    await untilIdle();
    const stopped = server.stop();
    await alice.receives(announcements.shutdown);
    await alice.isDisconnected(); // It also closes alice's connection.
    await untilIdle();
    assert(
      count.closes > 0,
      "alice has closed her connection, but the server still waits for a sleeper " +
        "before it looks at that",
    );
    await server[Symbol.asyncDispose](); // This closes the sleeper's connection.
    await stopped;
  },
);

Deno.test(
  "graceful shutdown: the server waits for a client to close its connection before it stops",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const alice = await server.join("alice");
    let hasStopped = false;
    const stopped = server.stop().then(() => hasStopped = true);
    await alice.receives(announcements.shutdown);
    await untilIdle();
    assert(
      !hasStopped,
      "alice has not closed her connection yet, and the server has stopped: the " +
        "program would exit, and the last line could be lost",
    );
    alice.closes();
    await stopped;
  },
);

Deno.test("graceful shutdown: a server that is stopping refuses new connections", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const stopped = server.stop();
  await alice.receives(announcements.shutdown);
  await assertRejects(() => server.visit(), Deno.errors.ConnectionRefused);
  await alice.isDisconnected();
  await stopped;
});

Deno.test(
  "graceful shutdown: a newcomer that has just been accepted receives the last line",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const alice = await server.join("alice"); // Now the server waits in `accept`.
    const accept = server.listener.accept.bind(server.listener);
    let stopped: Promise<void> | undefined;
    server.listener.accept = async () => {
      const conn = await accept();
      stopped = server.stop(); // The server does not have `conn` yet.
      return conn;
    };
    // The server was already waiting in the original `accept`, which returns bob.
    const bob = await server.join("bob");
    const newcomer = await server.visit("the newcomer");
    await newcomer.receives(announcements.shutdown);
    await newcomer.isDisconnected();
    alice.closes();
    bob.closes();
    await stopped;
  },
);

// --------------------------------------------------------------------- the signals

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  testProgram(
    `graceful shutdown: ${signal} stops the program gracefully`,
    async () => {
      await using server = await Server.start();
      const alice = await server.join("alice");
      server.kill(signal);
      await alice.receives(announcements.shutdown);
      await alice.isDisconnected();
      const { code, stdout, stderr } = await server.ends();
      assertEquals({ code, stderr }, { code: 0, stderr: "" });
      assertMatch(stdout, /🛑 Chat Server Stopped\n$/);
    },
  );
}

testProgram(
  "graceful shutdown: a second signal does not interrupt the shutdown",
  async () => {
    await using server = await Server.start();
    const alice = await server.join("alice");
    await server.join("sleeper"); // The server waits a second for its side to close.
    await alice.receives(announcements.joined("sleeper"));
    server.kill("SIGINT");
    await alice.receives(announcements.shutdown); // The first signal was handled.
    server.kill("SIGINT"); // After Ctrl+C, `deno task` sends a second one.
    server.kill("SIGTERM");
    await alice.isDisconnected();
    const { code, stdout } = await server.ends();
    assertEquals(code, 0);
    assertMatch(stdout, /🛑 Chat Server Stopped\n$/);
  },
);

testProgram(
  "graceful shutdown: a client that never closes its connection cannot keep the program running",
  async () => {
    await using server = await Server.start();
    const alice = await server.join("alice");
    await server.join("sleeper"); // The sleeper never reads or closes.
    await alice.receives(announcements.joined("sleeper"));
    server.kill("SIGINT");
    await alice.receives(announcements.shutdown);
    await alice.isDisconnected();
    const { code } = await server.ends();
    assertEquals(code, 0);
  },
);

testProgram(
  "graceful shutdown: a new server can listen on the same port at once",
  async () => {
    await using server = await Server.start();
    const alice = await server.join("alice");
    server.kill("SIGINT");
    await alice.receives(announcements.shutdown);
    await alice.isDisconnected();
    assertEquals((await server.ends()).code, 0);
    // The kernel may still keep the old connections of this port (TIME_WAIT).
    await using next = await Server.start([`${server.port}`]);
    await next.join("alice");
  },
);
