/**
 * Lesson 15: the command line.
 *
 * A person or a script that starts a program sees its arguments, what it writes to
 * stdout and stderr, and its exit status: a number that says how it ended. 0 means
 * success. Many programs use 2 if their arguments are wrong, and 1 if something else
 * failed. One line on stderr should say what failed, why, and what to do. A stack trace
 * helps only programmers.
 *
 * The output may go through a pipe to another program. If that program stops reading,
 * the pipe fills up, and writes block. If it ends, as `head` does after ten lines,
 * writes fail. Neither may stop the chat.
 *
 * `failsToStart` and `clientFails` check the exit status and the line on stderr.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  announcements,
  canRunPrograms,
  inTime,
  testProgram,
  within,
} from "./helpers.ts";
import { failsToStart, Program, Server, TIME_ZONE } from "./programs.ts";

const SERVER = ["--no-prompt", "--allow-net", "server.ts"];
const CLIENT = ["--no-prompt", "--allow-net", "client.ts"];

// ------------------------------------------------------- the output of the server

testProgram(
  "command line: the server prints a line with the time for each event",
  async () => {
    await using server = await Server.start();
    const alice = await server.join("alice");
    await alice.sends("Hello everyone!");
    await alice.halfCloses();
    await alice.isDisconnected();
    assertEquals(await server.stop(), {
      code: 0,
      stdout: `[time] 🚀 Chat Server Started
[time] 📍 Listening on 127.0.0.1:${server.port}
[time] ⏳ Waiting for clients to connect...
[time] ✅ alice connected from 127.0.0.1:${alice.port}
[time] [SYSTEM] alice joined the chat!
[time] 📊 Active users (1): alice
[time] 📨 alice: Hello everyone!
[time] [SYSTEM] alice left the chat!
[time] 📊 Active users (0): 
[time] 🛑 Chat Server Stopped
`,
      stderr: "",
    });
  },
);

testProgram("command line: the server prints the local time", async () => {
  const clock = () =>
    new Date().toLocaleTimeString("en-GB", { timeZone: TIME_ZONE }).slice(0, 5);
  const before = clock();
  await using server = await Server.start();
  const printed = server.stdout.text.slice(1, 6);
  // A new minute may have begun between the two calls of `clock`.
  const isRight = printed === before || printed === clock();
  assert(isRight, `the server prints ${printed}, but here it is ${clock()}`);
});

testProgram(
  "command line: if its stdout is closed, the server still serves its members",
  async () => {
    await using server = await Server.start();
    const [alice, bob] = [await server.join("alice"), await server.join("bob")];
    await server.stdout.close();
    for (const text of ["one", "two", "three"]) {
      await alice.sends(text);
      await bob.receives(`alice: ${text}`);
    }
    const { code, stderr } = await server.stop();
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
  },
);

testProgram(
  "command line: if its stdout is not read, the server drops lines, counts them, and still serves",
  async () => {
    await using server = await Server.start();
    const [alice, bob] = [await server.join("alice"), await server.join("bob")];
    // At most 16,384 lines wait to be printed. The server drops the lines after these.
    const count = 30_000;
    const lines = Array.from({ length: count }, (_, n) => `line ${n}`);
    alice.sends(...lines).catch(() => {});
    await within(
      9_000,
      bob.receives(...lines.map((line) => `alice: ${line}`)),
      "Nobody reads what the server prints, and bob does not receive alice's lines",
    );
    const { code, stdout, stderr } = await server.stop();
    assertEquals({ code, stderr }, { code: 0, stderr: "" });

    const printed = stdout.trimEnd().split("\n");
    const notes = printed.filter((line) => /not printed: \d+$/.test(line));
    const dropped = notes.map((note) => Number(/\d+$/.exec(note)![0]));
    const kept = printed.length - notes.length;
    assert(dropped.length > 0, `${kept} lines were printed, and none dropped`);
    // Lines for the start, for two members that join, for the messages, for the stop.
    const events = 3 + 2 * 3 + count + 1;
    const sum = dropped.reduce((sum, one) => sum + one, kept);
    assertEquals(sum, events, `printed: ${kept}, dropped: ${dropped}`);
  },
);

// ---------------------------------------------- what can fail, and what is wrong

testProgram(
  "command line: if the port is in use, the server says so with one line and exits with status 1",
  async () => {
    await using other = await Server.start();
    const port = `${other.port}`;
    await failsToStart(1, [...SERVER, port], `127.0.0.1:${port}`, "in use");
  },
);

testProgram(
  "command line: a server without --allow-net names the missing permission",
  async () => {
    await failsToStart(1, ["--no-prompt", "server.ts", "0"], "--allow-net");
  },
);

testProgram(
  "command line: the server names a wrong argument and exits with status 2",
  async () => {
    const wrong = [
      ...["abc", "65536", "-1", "80x", "1e3"].map((port) => [port]),
      ["0", "extra"],
      ["0", "--colour"],
      ["0", "--host"],
      ["0", "--host="],
      ["0", "--max-clients"],
      ...["0", "-3", "abc"].map((limit) => ["0", "--max-clients", limit]),
    ];
    for (const args of wrong) {
      // The last argument is wrong, or lacks its value. `--host=` is named as `--host`.
      const named = args.at(-1)!.replace(/=$/, "");
      await failsToStart(2, [...SERVER, ...args], named);
    }
    await failsToStart(2, [...SERVER, ""], "port");
  },
);

testProgram(
  "command line: the server's --help and -h need no permission",
  async () => {
    for (const help of ["--help", "-h"]) {
      await using server = new Program(["--no-prompt", "server.ts", help]);
      const { stdout, ...rest } = await endsByItself(
        server,
        `server.ts ${help}`,
      );
      assertEquals(rest, { code: 0, stderr: "" });
      assertMatch(stdout, /^Usage: .*9999.*--host.*--max-clients/s);
    }
  },
);

testProgram(
  "command line: a server that cannot listen on its --host address exits with status 1",
  async () => {
    // This address is reserved for documentation, so no machine should have it.
    const args = [...SERVER, "0", "--host", "192.0.2.1"];
    await failsToStart(1, args, "Cannot listen on 192.0.2.1:0");
  },
);

testProgram(
  "command line: with --max-clients 1 the server refuses a second client",
  async () => {
    await using server = await Server.start(["0", "--max-clients", "1"]);
    await server.join("alice");
    const next = await server.connect();
    await next.receives(announcements.chatFull);
    await next.isDisconnected();
  },
);

/** Whether this system has IPv6: without it, no server can listen on `::1`. */
function hasIPv6(): boolean {
  if (!canRunPrograms) return true; // The test does not run, and is only counted.
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

if (hasIPv6()) {
  testProgram(
    "command line: the server prints an IPv6 address in brackets",
    async () => {
      await using server = await Server.start(["0", "--host", "::1"]);
      assertMatch(server.stdout.text, /📍 Listening on \[::1\]:\d+\n/);
      const alice = await server.connect("::1");
      await alice.sends("alice");
      await server.stdout.shows(/✅ alice connected from \[::1\]:\d+\n/);
    },
  );
} else {
  Deno.test.ignore("command line: IPv6 (this system has none)", () => {});
}

testProgram(
  "command line: with --quiet the server prints all events except messages",
  async () => {
    await using server = await Server.start(["0", "--quiet"]);
    const alice = await server.join("alice");
    await alice.sends("a secret");
    await alice.halfCloses();
    await alice.isDisconnected();
    const { stdout } = await server.stop();
    // The second word of each line tells the kind of event. The first is the time.
    const marks = stdout.trimEnd().split("\n").map((line) =>
      line.split(" ")[1]
    );
    assertEquals(marks.join(" "), "🚀 📍 ⏳ ✅ [SYSTEM] 📊 [SYSTEM] 📊 🛑");
  },
);

testProgram(
  "command line: a server that listens on all addresses prints how to find your address",
  async () => {
    await using server = await Server.start(["0", "--host", "0.0.0.0"]);
    await server.stdout.shows(/Waiting for clients/);
    assertMatch(server.stdout.text, /your address: find it with (ip|ipconfig)/);
  },
);

// ------------------------------------------------------------------- the client

/** Waits for a program that must exit by itself. */
async function endsByItself(program: Program, command: string) {
  const hasOutput = await inTime(
    program.stdout.more(),
    "The test",
    `output of ${command}`,
  );
  // If the server starts in spite of `--help`, it does not exit: so the test stops it.
  if (hasOutput && /🚀/.test(program.stdout.text)) program.kill("SIGTERM");
  return await program.ends();
}

/**
 * Fails unless the client exits with this status and one line on stderr. Lines about
 * its progress, such as "🔄 Connecting …", do not count, on stdout or stderr.
 */
async function clientFails(
  code: number,
  args: string[],
  ...words: string[]
): Promise<void> {
  await using client = new Program([...CLIENT, ...args], { input: "" });
  const command = `client.ts ${args.join(" ")}`;
  const ended = await client.ends();
  const withoutProgress = (text: string) =>
    text.replace(/^(\[time\] )?(🔄|✅).*\n/gm, "");
  const stderr = withoutProgress(ended.stderr);
  assertEquals(withoutProgress(ended.stdout), "", `stdout of ${command}`);
  assertMatch(stderr, /^.+\n$/, `stderr of ${command}: one line, please`);
  for (const word of words) {
    assert(stderr.includes(word), `${command}: no ${word} in: ${stderr}`);
  }
  assertEquals(ended.code, code, `exit status of ${command}`);
}

testProgram(
  "command line: a client that finds no server says so with one line and exits with status 1",
  async () => {
    const address = "Cannot connect to 127.0.0.1:1";
    await clientFails(1, ["127.0.0.1", "1"], address);
  },
);

testProgram(
  "command line: the client names a wrong option and exits with status 2",
  async () => {
    await clientFails(2, ["127.0.0.1", "1", "--quiet"], "--quiet");
    await clientFails(2, ["127.0.0.1", "1", "--name"], "--name");
    await clientFails(2, ["127.0.0.1", "1", "--name="], "--name");
  },
);

testProgram(
  "command line: the client's --help and -h need no permission",
  async () => {
    for (const help of ["--help", "-h"]) {
      await using client = new Program(["--no-prompt", "client.ts", help], {
        input: "",
      });
      const { stdout, ...rest } = await client.ends();
      assertEquals(rest, { code: 0, stderr: "" });
      assertMatch(stdout, /^Usage: .*9999.*--name/s);
    }
  },
);

testProgram(
  "command line: with --name, the client sends that name when it is asked for one",
  async () => {
    await using server = await Server.start();
    const bob = await server.join("bob");
    const args = ["127.0.0.1", `${server.port}`, "--name", "alice"];
    await using _client = new Program([...CLIENT, ...args], { input: "hi\n" });
    await bob.receives(announcements.joined("alice"));
  },
);

testProgram(
  "command line: the client names a wrong host, port or extra argument and exits with status 2",
  async () => {
    for (const port of ["abc", "0", "65536", "-0x1"]) {
      await clientFails(2, ["127.0.0.1", port], port);
    }
    await clientFails(2, [":9999"], "host", ":9999");
    await clientFails(2, [""], "host");
    await clientFails(2, ["localhost", "1", "extra"], "extra");
  },
);

testProgram(
  "command line: a client that is given only a port tells the user to type host:port",
  async () => {
    await clientFails(2, ["10123"], "10123", "127.0.0.1:10123");
    await clientFails(2, ["[10123]"], "10123", "127.0.0.1:10123");
  },
);

testProgram(
  "command line: the client accepts host and port as one argument",
  async () => {
    for (const address of ["127.0.0.1:1", "localhost:1"]) {
      await clientFails(1, [address], `Cannot connect to ${address}`);
    }
  },
);
