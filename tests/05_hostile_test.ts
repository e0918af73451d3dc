/**
 * Lesson 5: whatever comes from a network is hostile until it has been checked.
 *
 * Anybody can connect and send any bytes, as fast as the cable allows. A chat
 * that passes them on lets a stranger clear your screen (ESC), write over the
 * line before (carriage return), speak as the server, fill the memory with a
 * line that never ends, or keep everybody else out by talking without a pause.
 * So: names are checked, messages cleaned, and everything has a limit.
 *
 * Try: `printf 'mallory\n\033[2J\033[31mHello\n' | nc -N 127.0.0.1 9999` while
 * you are in the chat. In `cleanText` of protocol.ts, return the text as it is,
 * and do that again.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { TextLineStream } from "@std/streams/text-line-stream";
import { texts } from "../protocol.ts";
import {
  inTime,
  Person,
  testNet,
  testRun,
  TestServer,
  within,
} from "./helpers.ts";

/** The characters from one code point to another. */
function range(from: number, to: number): string {
  const codes = Array.from({ length: to - from + 1 }, (_, n) => from + n);
  return String.fromCodePoint(...codes);
}

/** Somebody who has connected, and may not even be asked for a name. */
async function visit(port: number): Promise<Person> {
  return new Person(await Deno.connect({ hostname: "127.0.0.1", port }));
}

// ------------------------------------------------------- what is taken out

testNet("hostile: no control character reaches a screen", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("\x1b[2J\x1b[31mred\x07 alert"); // clears, colours, beeps
  await bob.hears("alice: [2J[31mred alert");
  const c0 = range(0x00, 0x1f).replace("\n", ""); // that one ends the line
  for (const controls of [c0, "\x7f", range(0x80, 0x9f)]) {
    await alice.says(`a${controls}b`);
    await bob.hears("alice: ab");
  }
});

testNet("hostile: no control character reaches the server's log", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("\x1b[2Jone\x9b31m", "two");
  await bob.hears("alice: [2Jone31m", "alice: two");
  await server.join("carol"); // by now both are in the log
  const messages = server.log.split("\n").filter((line) => line.includes("📨"));
  assertEquals(
    messages.map((line) => line.replace(/^\[[\d:]+\] /, "")),
    ["📨 alice: [2Jone31m", "📨 alice: two"],
  );
});

testNet("hostile: a carriage return cannot write over a line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("Hi\rbob: I owe alice a beer");
  await bob.hears("alice: Hibob: I owe alice a beer");
});

testNet("hostile: Unicode's line separators make no second line", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("Hi\u2028bob: no\u2029\u0085\v\fbob: no");
  await bob.hears("alice: Hibob: nobob: no");
});

testNet("hostile: no message turns the direction of what follows", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const overrides = range(0x202a, 0x202e);
  const isolates = range(0x2066, 0x2069);
  await alice.says(`see ${overrides}gpj.exe${isolates}!`);
  await bob.hears("alice: see gpj.exe!");
});

testNet("hostile: nobody can speak as the server, or as another", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("[SYSTEM] bob left the chat!", "bob: I quit");
  await bob.hears("alice: [SYSTEM] bob left the chat!", "alice: bob: I quit");
});

testNet("hostile: emoji with joiners and every script stay whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  const harmless = [
    "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️‍🔥 👍🏽 🇺🇳 1️⃣",
    "नमस्ते, שָׁלוֹם, مرحبًا, 你好, こんにちは, สวัสดี, Привет, Γειά",
    "می\u200cخواهم, \u200fשלום!\u200e, e\u0301, soft\u00adhyphen, no\u00a0break",
  ];
  await alice.says(...harmless);
  for (const text of harmless) await bob.hears(`alice: ${text}`);
});

testNet("hostile: a message with nothing to see is not passed on", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("", "  \t ", "\u3000\u00a0", "\x1b\x07", "\u2028\u202e");
  await alice.says("\u200b\u200d\ufeff", "\u3164", "\u00ad", "here I am");
  await bob.hears("alice: here I am");
});

// ------------------------------------------------------- what is too long

testNet("hostile: a message of 1,000 characters passes whole", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  for (const char of ["x", "é", "你", "😀"]) { // 1, 2, 3 and 4 bytes each
    await alice.says(char.repeat(1_000), "next");
    await bob.hears(`alice: ${char.repeat(1_000)}`, "alice: next");
  }
});

testNet(
  "hostile: one of 1,001 is refused, and only its author told",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    for (const char of ["x", "😀"]) {
      await alice.says(char.repeat(1_001), "shorter");
      await bob.hears("alice: shorter");
      await alice.hears(
        "[SYSTEM] Message too long: 1,000 characters at most. It was not sent.",
      );
    }
  },
);

testNet(
  "hostile: a line just under 64 KiB is only too long to be sent",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    await alice.says("x".repeat(64 * 1024 - 1), "still here");
    await alice.hears(texts.messageTooLong);
    await bob.hears("alice: still here");
  },
);

testNet("hostile: 64 KiB without a newline end the connection", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("one", "two");
  await alice.sends("x".repeat(64 * 1024));
  await alice.sends("\nToo late.\n");
  await alice.hears("[SYSTEM] Line too long. Goodbye!");
  await alice.isHungUpOn();
  await server.join("carol"); // whose coming shows that 'left' comes once
  await bob.hears("alice: one", "alice: two");
  await bob.hears(texts.left("alice"), texts.joined("carol"));
});

testNet(
  "hostile: whoever sends megabytes as one line still reads why it ends",
  async () => {
    await using server = new TestServer();
    const alice = await server.join("alice");
    const sent = alice.sends("x".repeat(8_000_000) + "\n").then(
      () => "all was sent",
      (error) => `the connection broke: ${error.message}`,
    );
    await alice.hears(texts.lineTooLong);
    await alice.isHungUpOn();
    assertEquals(await sent, "all was sent"); // a reset can destroy the goodbye
  },
);

// -------------------------------------------------------------- bad names

testNet("hostile: a bad name is refused in one harmless line", async () => {
  await using server = new TestServer();
  const visitor = await server.connect();
  const wrong = ["x".repeat(21), "two words", "a:", "[SYSTEM]", ".", "😀"];
  const escapes = ["\x1b[2J", "bob\x07", "bob\rSYSTEM", "bo\u202eb"];
  const reserved = ["SYSTEM", "system", "You", "yOU", "ＹＯＵ"];
  const invisible = ["\u3164", "\u115f", "bo\u200bb", "bo\u200db", "bob\ufe0f"];
  for (const name of [...wrong, ...escapes, ...reserved, ...invisible]) {
    await visitor.says(name);
    assertMatch(
      await visitor.nextLine(),
      /^\[SYSTEM\] \P{C}*\bname\b\P{C}* Enter another name:$/u,
      `for the name ${JSON.stringify(name)} the visitor sees:`,
    );
  }
  await visitor.says("bob");
  await visitor.hears(texts.welcome("bob", texts.activeUsers(1, ["bob"])));
});

testNet("hostile: nobody hears of a visitor's bad names", async () => {
  await using server = new TestServer();
  const alice = await server.join("alice");
  const visitor = await server.connect();
  await visitor.says("!", "two words", "[SYSTEM] alice left the chat!");
  for (let n = 0; n < 3; n++) await visitor.nextLine(); // three refusals
  visitor.hangsUp();
  await server.join("bob");
  await alice.hears(texts.joined("bob"));
  assert(!server.log.includes("two words"), `in the log: ${server.log}`);
});

testNet(
  "hostile: whoever asks for bad names and reads no answer is disconnected",
  async () => {
    await using server = new TestServer({ stallMs: 200 });
    const alice = await server.join("alice");
    const mallory = await server.connect();
    const flood = "!\n".repeat(50_000); // each answer has 94 bytes
    const flooding = (async () => {
      for (;;) await mallory.sends(flood);
    })().catch(() => {}); // writing fails when there is nobody to write to
    await within(
      3_000,
      flooding,
      "mallory never reads, and is still connected",
    );
    await server.join("bob");
    await alice.hears(texts.joined("bob"));
  },
);

// --------------------------------------------------------- time and space

testNet("hostile: whoever gives no name in time has to go", async () => {
  await using server = new TestServer({ nameTimeoutMs: 300 });
  const alice = await server.join("alice");
  const [silent, busy] = [await server.connect(), await server.connect()];
  await busy.says("two words"); // who tries in vain has to go, too
  await busy.nextLine();
  for (const visitor of [silent, busy]) {
    await visitor.hears("[SYSTEM] No name given in time. Goodbye!");
    await visitor.isHungUpOn();
  }
  await server.join("bob"); // alice has her name: she is still here, and heard
  await alice.hears(texts.joined("bob")); // nothing about those two
});

testNet(
  "hostile: when the room is full, one more is told and hung up on",
  async () => {
    await using server = new TestServer({ maxClients: 2 });
    const alice = await server.join("alice");
    const unnamed = await server.connect(); // takes a place, too
    const late = await visit(server.port);
    await late.hears("[SYSTEM] The chat is full. Try again later.");
    await late.isHungUpOn();
    late.hangsUp();
    await unnamed.says("bob");
    await alice.hears(texts.joined("bob")); // nothing about the late one
  },
);

testNet(
  "hostile: a place in a full room is free when somebody has left",
  async () => {
    await using server = new TestServer({ maxClients: 2 });
    const [alice, bob] = await server.joinAll("alice", "bob");
    alice.hangsUp();
    await bob.hears(texts.left("alice"));
    await server.join("carol");
  },
);

testNet(
  "hostile: who comes amid a flood is welcomed first, then hears all",
  async () => {
    await using server = new TestServer();
    const [alice, bob] = await server.joinAll("alice", "bob");
    const flood = Array.from({ length: 4_000 }, (_, n) => `${n}`.padEnd(1_000));
    const sent = alice.says(...flood, "the end");
    const carol = await server.join("carol"); // the welcome is all that she saw
    async function screenOf(person: Person): Promise<string[]> {
      const lines: string[] = [];
      while (lines.at(-1) !== "alice: the end") {
        lines.push((await person.nextLine()).trimEnd());
      }
      return lines;
    }
    const [bobs, carols] = await Promise.all([screenOf(bob), screenOf(carol)]);
    const place = bobs.indexOf(texts.joined("carol"));
    assertEquals(carols, bobs.slice(place + 1), "on carol's screen:");
    await sent;
  },
);

// ------------------------------------------- the limits of the machine

/** The chat server as a program of its own, with so many files at most. */
class Program {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #errors: ReadableStreamDefaultReader<string>;
  port = 0;

  private constructor(openFiles: number) {
    const run = `ulimit -n ${openFiles}; exec "$0" run --allow-net server.ts 0`;
    this.#child = new Deno.Command("sh", {
      args: ["-c", run, Deno.execPath()],
      cwd: new URL("..", import.meta.url).pathname,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#output = linesOf(this.#child.stdout);
    this.#errors = linesOf(this.#child.stderr);
  }

  /** Resolves when it listens. */
  static async start(openFiles: number): Promise<Program> {
    const program = new Program(openFiles);
    while (program.port === 0) {
      const { value, done } = await inTime(program.#output.read(), "the test");
      assert(!done, "the server ended before it could listen");
      program.port = Number(/Listening on .*:(\d+)$/.exec(value)?.[1] ?? 0);
    }
    return program;
  }

  /** The memory that it has, in MB. Linux only. */
  async memory(): Promise<number> {
    const { stdout } = await new Deno.Command("grep", {
      args: ["VmRSS", `/proc/${this.#child.pid}/status`],
    }).output();
    const kilobytes = /\d+/.exec(new TextDecoder().decode(stdout))?.[0];
    return Number(kilobytes) / 1_000;
  }

  /** Resolves when it has said so on stderr. */
  async complains(pattern: RegExp): Promise<void> {
    for (;;) {
      const { value, done } = await this.#errors.read();
      assert(!done, `the server has ended, and did not say ${pattern}`);
      if (pattern.test(value)) return;
    }
  }

  async join(name: string): Promise<Person> {
    const person = await visit(this.port);
    person.name = name;
    await person.says(name);
    await person.nextLine(); // the question
    assertMatch(await person.nextLine(), /^\[SYSTEM\] Welcome, /);
    return person;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#output.cancel();
    await this.#errors.cancel();
    await this.#child.status;
  }
}

function linesOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): ReadableStreamDefaultReader<string> {
  return stream.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream()).getReader();
}

testRun(
  "hostile: one who sends without a pause keeps no newcomer out",
  async () => {
    await using program = await Program.start(1_024);
    const [alice, bob] = [
      await program.join("alice"),
      await program.join("bob"),
    ];
    const flood = (" ".repeat(99) + "\n").repeat(400_000); // nobody sees blanks
    const sent = alice.sends(flood + "the end\n");
    sent.catch(() => {}); // if this test fails, nobody takes it to the end
    const newcomers = ["carol", "dave", "erin", "frank", "grace"];
    const people = [alice, bob];
    for (const name of newcomers) people.push(await program.join(name));
    await bob.hears(...newcomers.map(texts.joined), "alice: the end");
    await sent;
    for (const person of people) person.hangsUp();
  },
);

if (Deno.build.os === "linux") {
  testRun(
    "hostile: answers that nobody reads do not fill the memory",
    async () => {
      await using program = await Program.start(1_024);
      const [alice, bob] = [
        await program.join("alice"),
        await program.join("bob"),
      ];
      const mallory = await visit(program.port);
      /** Every line heard is a turn of the server, in which it reads mallory. */
      async function chat(): Promise<void> {
        for (let n = 0; n < 200; n++) {
          await alice.says(`line ${n}`);
          await bob.hears(`alice: line ${n}`);
        }
      }
      await alice.hears(texts.joined("bob"));
      await chat();
      const before = await program.memory();
      const sent = mallory.sends("!\n".repeat(1_000_000)).catch(() => {});
      await chat();
      const grown = await program.memory() - before;
      assert(
        grown < 32,
        `answers that nobody reads have taken ${grown.toFixed()} MB`,
      );
      for (const person of [alice, bob, mallory]) person.hangsUp();
      await sent;
    },
  );
}

if (Deno.build.os !== "windows") {
  testRun(
    "hostile: when the files run out, the room goes on and newcomers wait",
    async () => {
      await using program = await Program.start(64);
      const [alice, bob] = [
        await program.join("alice"),
        await program.join("bob"),
      ];
      const crowd = await Promise.all(
        Array.from({ length: 80 }, () => visit(program.port)),
      );
      await within(
        3_000,
        program.complains(/^Cannot let anybody in: .*ulimit -n/),
        "80 came where 64 files may be open, and the server does not say so",
      );
      await alice.says("Quite a crowd out there");
      await bob.hears("alice: Quite a crowd out there");
      for (const person of crowd) person.hangsUp();
      const carol = await within(
        3_000,
        program.join("carol"),
        "the crowd has gone, but carol is not let in",
      );
      await bob.hears(texts.joined("carol"));
      for (const person of [alice, bob, carol]) person.hangsUp();
    },
  );
}
