/**
 * Lesson 11: back-pressure. A fast sender has to wait for slow receivers.
 *
 * If a sender is faster than a receiver, the lines between them must be kept somewhere.
 * Without a limit, one receiver that accepts nothing and one sender that never stops
 * fill the server's memory. If the server dropped lines, the chat would lose messages.
 * So the sender has to wait: the server stops reading from the sender's socket, the
 * kernels' buffers fill up, and then the sender's writes wait. This is back-pressure.
 *
 * Pipes do the same: in `yes | less`, the pipe is soon full, and `yes` waits. Node's
 * streams have back-pressure, too. In TCP, HTTP/2 and QUIC, a receiver says how much it
 * can accept: this is flow control. But a receiver must not make senders wait forever.
 * So the server disconnects a stalled receiver: one that accepts nothing for too long
 * while a sender waits. Redis, for example, can disconnect clients whose output buffer
 * is too large.
 *
 * A sleeper is a member that reads nothing until the test makes it read. In memory, its
 * buffer is small.
 */

import { assert } from "@std/assert";
import {
  announcements,
  assertLines,
  beforeIdle,
  Clocks,
  IDLE_TURNS,
  messages,
  type Person,
  saidBy,
  settled,
  TestServer,
  within,
} from "./helpers.ts";

// ------------------------------------------------------------ a sender waits

Deno.test(
  "backpressure: the server makes a sender wait while a receiver accepts no more lines",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    await server.joinSleeper("sleeper");
    await alice.sends(...messages(2_000));
    // A line has 1,008 bytes, with `alice: ` and a newline. The limit of our server is
    // 128 × 1,024 characters: more than that is undelivered after 131 lines.
    const lines = await settled(() => Math.round(bob.unreadBytes / 1_008));
    assert(
      lines < 160,
      `bob can receive ${lines} lines from alice, and the sleeper accepts one: ` +
        `the server has to keep all the others`,
    );
  },
);

Deno.test(
  "backpressure: a sender of lines that are too long has to wait if it does not read the answers",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const mallory = await server.joinSleeper("mallory");
    await mallory.sends(...Array(3_500).fill("x".repeat(1_001)));
    const unread = await settled(() => mallory.bytesUnreadByServer);
    // 3,500 lines with 1,002 bytes each. An answer has 69 characters, so the limit of
    // our server is exceeded after at most 1,900 answers: after 1.9 MB.
    const bytes = 3_507_000 - unread;
    assert(
      bytes < 2_400_000,
      `mallory sends 3,500 lines that are too long, and reads none of the ` +
        `answers. The server reads ${Math.round(bytes / 1_002)} of them, and ` +
        `keeps the answers`,
    );
  },
);

Deno.test("backpressure: each receiver receives all lines of a sender that had to wait", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  const lines = messages(400);
  await alice.sends(...lines);
  await settled(() => bob.unreadBytes);
  for (const person of [sleeper, bob]) { // The sleeper begins to read now.
    const seen: string[] = [];
    const receiving = (async () => {
      while (seen.length < lines.length) seen.push(await person.nextLine());
    })();
    receiving.catch(() => {}); // If the test fails, `receiving` may reject later.
    await settled(() => seen.length);
    assertLines(seen, saidBy("alice", lines), person.name);
  }
});

Deno.test("backpressure: while one sender waits, newcomers can join and other members can send", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await server.joinSleeper("sleeper");
  await alice.sends(...messages(1_000));
  await settled(() => bob.unreadBytes);
  await beforeIdle(
    server.join("dave"),
    "alice waits for the sleeper, and dave cannot join",
  );
  for (let n = 0; n < 5; n++) {
    await bob.sends(`ping ${n}`);
    await beforeIdle(
      carol.receivesUntil(`bob: ping ${n}`),
      `alice waits for the sleeper, and carol does not receive bob's ping ${n}`,
    );
  }
});

Deno.test(
  "backpressure: a sender does not wait for lines that others sent after its own",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    const slow = await server.joinSleeper("slow");
    await alice.sends(...messages(1_000));
    await settled(() => bob.unreadBytes);
    // For each line that bob and carol send, `slow` receives one. So `slow` receives the
    // lines that alice waits for, but some later lines are always undelivered.
    for (let n = 0; n < 120; n++) {
      for (const person of [bob, carol]) {
        await person.sends("-".repeat(1_000));
        await beforeIdle(
          slow.nextLine(),
          "alice waits, and so do bob and carol",
        );
      }
    }
    const bytes = await settled(() => bob.unreadBytes);
    // Bob has also received 120 lines from carol, with as many bytes. Alice waits after
    // 131 lines. When she continues, she can send as many again.
    const lines = Math.round(bytes / 1_008) - 120;
    assert(
      lines > 200,
      `slow has received what alice waits for, but bob has received only ` +
        `${lines} lines from her: alice also waits for what was said since then`,
    );
  },
);

Deno.test(
  "backpressure: lines that all members have received do not count towards a sender's limit",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (let n = 0; n < 3; n++) {
      await alice.sends(...messages(100));
      await bob.receives(...saidBy("alice", messages(100)));
    }
    await server.joinSleeper("sleeper", bob);
    await alice.sends(...messages(100));
    for (const line of saidBy("alice", messages(100))) {
      await beforeIdle(
        bob.receives(line),
        "alice waits for the sleeper, as if nobody had received what she said first",
      );
    }
  },
);

Deno.test(
  "backpressure: two members that flood each other both receive all lines",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const lines = messages(600, 1_000, "😀");
    await Promise.all([
      alice.sends(...lines),
      bob.sends(...lines),
      alice.receives(...saidBy("bob", lines)),
      bob.receives(...saidBy("alice", lines)),
    ]);
  },
);

Deno.test(
  "backpressure: a sender of very short lines has to wait when too many are undelivered",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    await server.joinSleeper("sleeper");
    await alice.sends(...Array(10_000).fill("x"));
    // A line has 9 bytes, with `alice: ` and a newline. Our server counts it as 128
    // characters, so that alice waits when 1,025 lines are undelivered.
    const lines = await settled(() => Math.round(bob.unreadBytes / 9));
    assert(
      lines < 2_000,
      `bob can receive ${lines} short lines from alice, and the sleeper accepts ` +
        `222: the server has to keep all the others`,
    );
  },
);

// ------------------------------------------------------- a receiver is stalled

Deno.test(
  "backpressure: a receiver that accepts nothing for too long while a sender waits is disconnected",
  async () => {
    await using server = new TestServer({
      inMemory: true,
      stallTimeoutMs: 300,
    });
    const [alice, bob] = await server.joinAll("alice", "bob");
    await server.joinSleeper("sleeper", bob);
    const lines = [...messages(300), "the end"];
    await alice.sends(...lines);
    const seen = await within(
      3_000,
      bob.receivesUntil("alice: the end"),
      "The sleeper accepts nothing, and bob receives nothing more from alice",
    );
    const left = announcements.left("sleeper");
    const others = seen.filter((line) => line !== left);
    assertLines(others, saidBy("alice", lines), "bob");
    assert(seen.includes(left), "bob should receive that the sleeper has left");
  },
);

Deno.test(
  "backpressure: a receiver that accepts nothing is not disconnected while no sender waits",
  async () => {
    await using server = new TestServer({
      inMemory: true,
      stallTimeoutMs: 100,
      nameTimeoutMs: 150,
    });
    const [alice, bob] = await server.joinAll("alice", "bob");
    const sleeper = await server.joinSleeper("sleeper", bob);
    const lines = messages(100);
    await alice.sends(...lines);
    await bob.receives(...saidBy("alice", lines));
    const clock = await server.connect("a visitor");
    await clock.receives(announcements.noNameInTime); // So 150 ms have passed.
    await sleeper.receives(...saidBy("alice", lines));
    await alice.sends("Good morning");
    await sleeper.receives("alice: Good morning");
  },
);

Deno.test(
  "backpressure: the server does not disconnect a receiver that reads slowly",
  async () => {
    await using server = new TestServer({
      inMemory: true,
      stallTimeoutMs: 400,
    });
    const alice = await server.join("alice");
    const bob = await server.join("bob", { bufferSize: 8 * 1024 });
    const lines = messages(300);
    await alice.sends(...lines);
    const seen: string[] = [];
    while (seen.length < lines.length) {
      const line = bob.nextLine();
      seen.push(await beforeIdle(line, "bob receives nothing more"));
      const isSlow = seen.length < 128 && seen.length % 8 === 0;
      // 15 pauses make bob slow for 450 ms, which is more than `stallTimeoutMs`. But no
      // single pause is that long.
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, 30));
    }
    assertLines(seen, saidBy("alice", lines), "bob");
  },
);

Deno.test(
  "backpressure: a server that was suspended does not disconnect its receivers afterwards",
  async () => {
    await using server = new TestServer({
      inMemory: true,
      stallTimeoutMs: 60_000,
      nameTimeoutMs: 150,
    });
    const alice = await server.join("alice");
    const sleeper = await server.joinSleeper("sleeper");
    const lines = messages(300);
    await alice.sends(...lines);
    using clocks = new Clocks();
    for (let n = 0; n < 2; n++) {
      const visitor = await server.connect("a visitor");
      // This line comes after 150 ms. So the server has checked its receivers.
      await visitor.receives(announcements.noNameInTime);
      clocks.jump(3_600_000); // as if the machine had been suspended for an hour
    }
    await sleeper.receives(...saidBy("alice", lines));
  },
);

// -------------------------------------------------------------- the log is full

/** Lets 64 members join. They read nothing. */
async function joinCrowd(server: TestServer): Promise<Person[]> {
  const crowd: Person[] = [];
  for (let n = 10; n < 74; n++) {
    crowd.push(await server.joinSleeper(`member${n}`));
  }
  return crowd;
}

/** Each member sends a little less than the limit for a single sender. */
async function flood(crowd: Person[]): Promise<void> {
  for (const sender of crowd) await sender.sends(...messages(125));
}

Deno.test(
  "backpressure: a crowd of senders shares one limit for the size of the log",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const crowd = await joinCrowd(server);
    // The buffer of bob holds all 8,000 lines, so it never makes senders wait.
    const bob = await server.join("bob", { bufferSize: 10_000_000 });
    await flood(crowd);
    // In the fair queue, all members can be served once before bob receives more.
    const bytes = await settled(() => bob.unreadBytes, 10 * IDLE_TURNS);
    const lines = Math.min(8_000, Math.round(bytes / 1_010));
    assert(
      lines < 7_000,
      `bob can receive ${lines} of 8,000 lines from a crowd of 64, who accept ` +
        `hardly any: the server has to keep all these lines`,
    );
  },
);

Deno.test(
  "backpressure: a member that sends little does not wait while a crowd of senders waits",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const crowd = await joinCrowd(server);
    const [alice, bob] = await server.joinAll("alice", "bob");
    await flood(crowd);
    for (let n = 0; n < 5; n++) {
      await alice.sends(`line ${n}`);
      await beforeIdle(
        bob.receivesUntil(`alice: line ${n}`),
        `A crowd has to wait, and bob does not receive alice's line ${n}`,
      );
    }
  },
);

Deno.test(
  "backpressure: if the log is full, the server disconnects the receiver that is farthest behind",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const reader = await server.join("reader");
    reader.receivesUntil().catch(() => {}); // This member reads until it is disconnected.
    await server.joinSleeper("sleeper");
    // The welcome of a visitor lists the members. The visitors come one after the other,
    // until the sleeper is no longer in this list.
    let welcome = "sleeper";
    let visits = 0;
    for (; visits < 1_000 && welcome.includes("sleeper"); visits++) {
      if (visits === 50) await server.joinSleeper("dreamer");
      const visitor = await server.connect("visitor");
      await visitor.sends("visitor", ...messages(125));
      await visitor.halfCloses();
      const seen = await visitor.receivesUntil(); // until it is disconnected
      welcome = seen[0]!;
    }
    assert(
      !welcome.includes("sleeper"),
      `${visits} visitors have come, said 125 lines each, and left: the server ` +
        `keeps ${visits * 125} lines for a sleeper`,
    );
    assert(
      welcome.includes("dreamer"),
      "The dreamer has come later than the sleeper, and is disconnected, too",
    );
    assert(
      welcome.includes("reader"),
      "The reader has received everything, and is disconnected",
    );
  },
);
