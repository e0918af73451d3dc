/**
 * Lesson 11: back-pressure. A fast sender has to wait for slow receivers.
 *
 * Whatever is sent faster than it is received has to be kept somewhere. If there is
 * no limit, one receiver that accepts nothing and one sender that never stops fill
 * the memory. If lines are dropped at the limit, a chat loses messages. So the
 * sender has to wait. The server stops reading from its socket, the kernel's buffers
 * fill up, and TCP stops the sender at home.
 *
 * Pipes do the same: `yes | less` does not fill the disk. Node's streams and the
 * streams of the web call it back-pressure, too, Kafka has quotas, and HTTP/2 and
 * QUIC have windows of their own. Whoever makes others wait needs a limit as well:
 * Redis, for example, disconnects clients whose output buffer is too large.
 *
 * A sleeper is a member who reads nothing until the test says so. In memory its buffer
 * is small.
 */

import { assert } from "@std/assert";
import {
  announcements,
  assertLines,
  beforeIdle,
  Clocks,
  messages,
  type Person,
  saidBy,
  settled,
  TestServer,
  within,
} from "./helpers.ts";

// ------------------------------------------------------------ a sender waits

Deno.test(
  "backpressure: a sender waits while a receiver accepts none of its lines",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    await server.joinSleeper("sleeper");
    await alice.sends(...messages(2_000));
    const lines = await settled(() => Math.round(bob.unreadBytes / 1_008));
    assert(
      lines < 160,
      `bob can receive ${lines} lines from alice, and the sleeper accepts one: ` +
        `the server has to keep all the others`,
    );
  },
);

Deno.test(
  "backpressure: lines that are too long count against their sender",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const mallory = await server.joinSleeper("mallory");
    await mallory.sends(...Array(3_500).fill("x".repeat(1_001)));
    const unread = await settled(() => mallory.bytesUnreadByServer);
    const bytes = 3_507_000 - unread;
    assert(
      bytes < 2_400_000,
      `mallory sends 3,500 lines that are too long, and reads none of the ` +
        `answers. The server reads ${Math.round(bytes / 1_002)} of them, and ` +
        `keeps the answers`,
    );
  },
);

Deno.test("backpressure: a sender that had to wait loses no line", async () => {
  await using server = new TestServer({ inMemory: true });
  const [alice, bob] = await server.joinAll("alice", "bob");
  const sleeper = await server.joinSleeper("sleeper", bob);
  const lines = messages(400);
  await alice.sends(...lines);
  await settled(() => bob.unreadBytes);
  for (const person of [sleeper, bob]) { // The sleeper wakes up.
    const seen: string[] = [];
    const receiving = (async () => {
      while (seen.length < lines.length) seen.push(await person.nextLine());
    })();
    receiving.catch(() => {}); // It may be disconnected at the end of the test.
    await settled(() => seen.length);
    assertLines(seen, saidBy("alice", lines), person.name);
  }
});

Deno.test("backpressure: no other sender waits, and no newcomer", async () => {
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
  "backpressure: a sender waits only for what was said before",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    const slow = await server.joinSleeper("slow");
    await alice.sends(...messages(1_000));
    await settled(() => bob.unreadBytes);
    for (let n = 0; n < 120; n++) { // As much is said as `slow` receives.
      for (const person of [bob, carol]) {
        await person.sends("-".repeat(1_000));
        await beforeIdle(
          slow.nextLine(),
          "alice waits, and so do bob and carol",
        );
      }
    }
    const bytes = await settled(() => bob.unreadBytes);
    const lines = Math.round(bytes / 1_008) - 120; // without those of carol
    assert(
      lines > 200,
      `slow has received what alice waits for, but bob has received only ` +
        `${lines} lines from her: alice also waits for what was said since then`,
    );
  },
);

Deno.test(
  "backpressure: what everybody has received does not count any more",
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
  "backpressure: two clients that flood each other lose nothing",
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
  "backpressure: many short lines count as much as a few long ones",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const [alice, bob] = await server.joinAll("alice", "bob");
    await server.joinSleeper("sleeper");
    await alice.sends(...Array(10_000).fill("x"));
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
  "backpressure: a receiver that accepts nothing while a sender waits is disconnected",
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
  "backpressure: a receiver that accepts nothing may stay while nobody waits for it",
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
    await clock.receives(announcements.noNameInTime); // 150 ms have passed.
    await sleeper.receives(...saidBy("alice", lines));
    await alice.sends("Good morning");
    await sleeper.receives("alice: Good morning");
  },
);

Deno.test(
  "backpressure: a receiver that reads slowly may stay",
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
      // This makes bob slow, for 450 ms. Nothing is awaited.
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, 30));
    }
    assertLines(seen, saidBy("alice", lines), "bob");
  },
);

Deno.test(
  "backpressure: a server that was suspended itself disconnects no receiver",
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
      await visitor.receives(announcements.noNameInTime); // after 150 ms
      clocks.jump(3_600_000); // The machine has been asleep for an hour.
    }
    await sleeper.receives(...saidBy("alice", lines));
  },
);

// -------------------------------------------------------------- the log is full

/** Many members who read nothing. */
async function joinCrowd(server: TestServer): Promise<Person[]> {
  const crowd: Person[] = [];
  for (let n = 10; n < 74; n++) {
    crowd.push(await server.joinSleeper(`member${n}`));
  }
  return crowd;
}

/** Each sends nearly as much as one member alone may send. */
async function flood(crowd: Person[]): Promise<void> {
  for (const sender of crowd) await sender.sends(...messages(125));
}

Deno.test(
  "backpressure: a crowd of senders shares what the log may hold",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const crowd = await joinCrowd(server);
    const bob = await server.join("bob", { bufferSize: 10_000_000 });
    await flood(crowd);
    const bytes = await settled(() => bob.unreadBytes);
    const lines = Math.min(8_000, Math.round(bytes / 1_010));
    assert(
      lines < 7_000,
      `bob can receive ${lines} of 8,000 lines from a crowd of 64, who accept ` +
        `hardly any: the server has to keep all these lines`,
    );
  },
);

Deno.test(
  "backpressure: a member that says little does not wait for a crowd",
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
  "backpressure: if the log is full, the receiver that is farthest behind is disconnected, though nobody waits for it",
  async () => {
    await using server = new TestServer({ inMemory: true });
    const reader = await server.join("reader");
    reader.receivesUntil().catch(() => {}); // It reads all, up to the end.
    await server.joinSleeper("sleeper");
    let welcome = "sleeper";
    let visits = 0;
    for (; visits < 1_000 && welcome.includes("sleeper"); visits++) {
      if (visits === 50) await server.joinSleeper("dreamer");
      const visitor = await server.connect("visitor");
      await visitor.sends("visitor", ...messages(125));
      await visitor.halfCloses();
      const seen = await visitor.receivesUntil(); // up to the end
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
