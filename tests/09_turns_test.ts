/**
 * Lesson 9: everybody gets a turn. A program without threads does one thing at
 * a time, so nothing in it may take long, and nobody may come first for ever.
 *
 * `await` alone gives nobody a turn: bytes that are here already, or a newcomer
 * who waits already, are taken without one. So one who never stops sending keeps
 * all others out, and so do connections that come without a pause. And what may
 * fail will: `accept` fails when somebody is gone before it is let in, and when
 * the file descriptors run out. Neither may end the server.
 *
 * Try: `(echo mallory; yes '') | nc 127.0.0.1 9999` while two others talk. Then
 * start the server with `ulimit -n 40` and connect forty times. Without nc, put
 * `deno run --allow-net client.ts` in its place (it sends no blank lines: try
 * `yes x`).
 */

import { assert, assertEquals, fail } from "@std/assert";
import { createConnection } from "node:net";
import { startServer } from "../server.ts";
import { fakeListener, type Person, testNet, testRun } from "./helpers.ts";
import { TestServer, texts, turn, within } from "./helpers.ts";
import { Server } from "./programs.ts";

const UNIX = ["linux", "darwin"]; // they have `ulimit` and SIGSTOP

// ------------------------------------------------------- those who are in

testRun("turns: who sends without a pause keeps no newcomer out", async () => {
  await using server = await Server.start();
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  const flood = (" ".repeat(99) + "\n").repeat(400_000); // nobody sees blanks
  alice.sends(flood + "the end\n").catch(() => {});
  const newcomers = ["carol", "dave", "erin", "frank", "grace"];
  for (const name of newcomers) await server.join(name);
  await bob.hears(...newcomers.map(texts.joined), "alice: the end");
});

testRun("turns: twenty who send nothing but newlines stop nobody", async () => {
  await using server = await Server.start();
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  const flooders: Person[] = [];
  for (let n = 0; n < 20; n++) flooders.push(await server.join(`flooder${n}`));
  await bob.hears(...flooders.map(({ name }) => texts.joined(name)));
  for (const it of flooders) it.sends("\n".repeat(1_000_000)).catch(() => {});
  for (let n = 0; n < 5; n++) {
    await alice.says(`line ${n}`);
    await within(
      1_500,
      bob.hears(`alice: line ${n}`),
      "bob waits for alice's line, and all that the others say is nothing",
    );
  }
});

// ------------------------------------------------------------ newcomers

/** A connection of somebody who has said all at once, and left. */
function visit(): Deno.TcpConn {
  return {
    remoteAddr: { hostname: "127.0.0.1", port: 1, transport: "tcp" },
    read: () => Promise.resolve(null),
    write: (bytes: Uint8Array) => Promise.resolve(bytes.length),
    closeWrite: () => Promise.resolve(),
    close() {},
    setNoDelay() {},
    setKeepAlive() {},
  } as unknown as Deno.TcpConn;
}

Deno.test("turns: newcomers take turns with those who are in", async () => {
  let accepted = 0; // they are all here already
  const listener = fakeListener(() => {
    return accepted < 1_000 ? (accepted++, visit()) : undefined;
  });
  const stop = startServer(listener);
  await turn();
  const first = accepted;
  await stop();
  assert(first < 100, `${first} newcomers before anybody else gets a turn`);
});

testRun("turns: who is gone before being let in stops nobody", async () => {
  await using server = await Server.start();
  server.kill("SIGSTOP");
  for (let n = 0; n < 50; n++) await connectAndReset(server.port);
  server.kill("SIGCONT");
  await within(
    1_500,
    server.join("alice"),
    "fifty have come and gone, and alice is not let in",
  );
}, UNIX);

/** Connects, and is gone with a reset (RST). */
async function connectAndReset(port: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = createConnection(port, "127.0.0.1");
  socket.on("close", () => resolve());
  socket.on("connect", () => socket.resetAndDestroy());
  await promise;
}

testNet(
  "turns: those who are about to be closed are bounded, too",
  async () => {
    await using server = new TestServer({ maxClients: 1 });
    await server.join("alice");
    const start = performance.now();
    for (let n = 0; n < 20; n++) { // none of them hangs up
      const some = Array.from({ length: 55 }, () => server.visit());
      await Promise.all(some);
    }
    const last = await server.visit("The last of 1,101");
    await last.hears(texts.full);
    const ms = performance.now() - start; // each of them may take 1 s to leave
    assert(ms > 950, `1,101 were told after ${ms.toFixed()} ms: all are open`);
  },
);

// ------------------------------------------- the limits of the machine

testRun("turns: when the files run out the room goes on", async () => {
  await using server = await Server.start(["0"], { openFiles: 64 });
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  for (let round = 0; round < 3; round++) {
    const crowd = [];
    for (let n = 0; n < 80; n++) {
      const gone = () => fail("80 came, and the server has ended");
      crowd.push(await server.connect().catch(gone));
    }
    await alice.says("Quite a crowd out there");
    await within(
      3_000,
      bob.hears("alice: Quite a crowd out there"),
      "80 came where 64 files may be open, and bob does not hear alice",
    );
    if (round === 0) await server.stderr.shows(/Cannot let anybody in/);
    for (const person of crowd) person.hangsUp();
    const newcomer = `carol${round}`;
    const carol = await within(
      3_000,
      server.join(newcomer),
      "The crowd has gone, but carol is not let in",
    );
    carol.hangsUp();
    await bob.hears(texts.joined(newcomer), texts.left(newcomer));
  }
  const { stderr } = await server.stop();
  const warning = /^.*Cannot let anybody in: .*ulimit -n.*\n/gm;
  assertEquals(stderr.match(warning)?.length, 1, `on stderr: ${stderr}`);
}, UNIX);
