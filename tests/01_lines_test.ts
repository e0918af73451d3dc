/**
 * Lesson 1: TCP carries bytes, not messages.
 *
 * What one side writes in one piece may arrive in three, and three pieces in
 * one. Framing is the agreement on where a message ends; ours is the newline.
 * Without it, a chat works on your own machine, where pieces mostly stay whole,
 * and mangles lines as soon as the network is slow or people are many.
 *
 * Try: `printf 'al' | nc 127.0.0.1 9999`, or in `readLines` of protocol.ts
 * leave out TextLineStream and see which tests notice.
 */

import { assertEquals, assertRejects } from "@std/assert";
import {
  LineTooLongError,
  MAX_LINE_BYTES,
  nextTurn,
  readLines,
  type Source,
} from "../protocol.ts";
import { sayHowToRunAll, testNet, TestServer } from "./helpers.ts";

sayHowToRunAll();

/** A connection that delivers exactly these pieces, one for each read. */
function pieces(...chunks: (string | number[])[]): Source {
  const encoder = new TextEncoder();
  const queue = chunks.map((chunk) =>
    typeof chunk === "string" ? encoder.encode(chunk) : new Uint8Array(chunk)
  );
  return {
    read(buffer) {
      const next = queue.shift();
      if (!next) return Promise.resolve(null);
      const count = Math.min(next.length, buffer.length);
      buffer.set(next.subarray(0, count));
      if (count < next.length) queue.unshift(next.subarray(count));
      return Promise.resolve(count);
    },
  };
}

async function linesOf(source: Source): Promise<string[]> {
  return await Array.fromAsync(readLines(source));
}

Deno.test("lines: three in one piece are three lines", async () => {
  assertEquals(await linesOf(pieces("a\nb\nc\n")), ["a", "b", "c"]);
});

Deno.test("lines: one in three pieces is one line", async () => {
  assertEquals(await linesOf(pieces("he", "ll", "o\n")), ["hello"]);
});

Deno.test("lines: CR LF, as telnet sends it, ends a line like LF", async () => {
  assertEquals(await linesOf(pieces("a\r", "\nb\r\n")), ["a", "b"]);
});

Deno.test("lines: an emoji cut in the middle of its bytes stays whole", async () => {
  // 😀 is F0 9F 98 80
  const source = pieces([0xf0, 0x9f], [0x98], [0x80, 0x0a]);
  assertEquals(await linesOf(source), ["😀"]);
});

Deno.test("lines: bytes that are no UTF-8 become U+FFFD, not an error", async () => {
  const source = pieces([0xff, 0x61, 0xc3, 0x0a]);
  assertEquals(await linesOf(source), ["\uFFFDa\uFFFD"]);
});

Deno.test("lines: what has no newline at the end of the input is a line", async () => {
  assertEquals(await linesOf(pieces("a\nb")), ["a", "b"]);
});

Deno.test("lines: one of almost 64 KiB passes whole", async () => {
  const long = "x".repeat(MAX_LINE_BYTES - 1);
  assertEquals((await linesOf(pieces(long + "\n")))[0]?.length, long.length);
});

Deno.test("lines: 64 KiB without a newline is an error, after the lines before it", async () => {
  const seen: string[] = [];
  await assertRejects(async () => {
    const endless = "x".repeat(MAX_LINE_BYTES);
    for await (const line of readLines(pieces("a\nb\n", endless, "c\n"))) {
      seen.push(line);
    }
  }, LineTooLongError);
  assertEquals(seen, ["a", "b"]);
});

testNet(
  "lines: half a line waits for its other half, and then arrives whole",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.sends("Hello ");
    await bob.says("between"); // alice hears this: the server has had her half
    await alice.hears("bob: between");
    await alice.sends("everyone!\nsecond\nthi");
    await alice.sends("rd\n");
    await bob.hears("alice: Hello everyone!", "alice: second", "alice: third");
  },
);

testNet(
  "lines: every byte in a packet of its own is still one line",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    alice.conn.setNoDelay(true);
    for (const byte of new TextEncoder().encode("grüß 😀\n")) {
      await alice.sends(new Uint8Array([byte]));
    }
    await bob.hears("alice: grüß 😀");
  },
);

Deno.test("lines: what came before a reset is not lost, but half a line is", async () => {
  const whole = pieces("a\nb\nc\nhal");
  const broken: Source = {
    async read(buffer) {
      const count = await whole.read(buffer);
      if (count === null) throw new Deno.errors.ConnectionReset();
      return count;
    },
  };
  const seen: string[] = [];
  await assertRejects(async () => {
    for await (const line of readLines(broken)) {
      await nextTurn(); // slow, as in a full room: the reset comes meanwhile
      seen.push(line);
    }
  }, Deno.errors.ConnectionReset);
  assertEquals(seen, ["a", "b", "c"]);
});
