/**
 * Lesson 11: a program has a contract.
 *
 * Who starts it, a person or a script, sees its arguments, what it writes to
 * stdout and to stderr, its exit status, and nothing else. 0 means done, 2 'you
 * called me wrongly', 1 'it did not work', with one line that says what, and no
 * stack trace. What it prints is for a reader who may be slow, or gone (`| head`),
 * and a chat must not wait for that one either.
 *
 * Try: `deno run --allow-net server.ts 99999; echo $?`, the same with a port that
 * another program has, and with `--help`. Then
 * `deno run --allow-net server.ts | head -4`, and chat on.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { testRun, texts, within } from "./helpers.ts";
import { failsToStart, Program, Server, TIME_ZONE } from "./programs.ts";

const SERVER = ["--allow-net", "server.ts"];

testRun("server: its log has a line for all that happens", async () => {
  await using server = await Server.start();
  const alice = await server.join("alice");
  await alice.says("Hello everyone!");
  await alice.endsInput();
  await alice.isHungUpOn();
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
[time] 🛑 Chat Server Stopped
`,
    stderr: "",
  });
});

testRun("server: --quiet leaves out what people say, only that", async () => {
  await using server = await Server.start(["0", "--quiet"]);
  const alice = await server.join("alice");
  await alice.says("a secret");
  await alice.endsInput();
  await alice.isHungUpOn();
  const { stdout } = await server.stop();
  const marks = stdout.trimEnd().split("\n").map((line) => line.split(" ")[1]);
  assertEquals(marks.join(" "), "🚀 📍 ⏳ ✅ [SYSTEM] 📊 [SYSTEM] 🛑");
});

testRun("server: the times in the log are local ones", async () => {
  const clock = () =>
    new Date().toLocaleTimeString("en-GB", { timeZone: TIME_ZONE }).slice(0, 5);
  const before = clock();
  await using server = await Server.start();
  const shown = server.stdout.text.slice(1, 6);
  if (shown !== before) assertEquals(shown, clock());
});

testRun("server: port 0 is any free one, so two can start", async () => {
  await using one = await Server.start();
  await using other = await Server.start();
  await one.join("alice");
  await other.join("alice"); // in another chat
});

testRun("server: --host ::1 is shown in brackets", async () => {
  await using server = await Server.start(["0", "--host", "::1"]);
  assertMatch(server.stdout.text, /📍 Listening on \[::1\]:\d+\n/);
  await server.connect("::1").then((person) => person.says("alice"));
  await server.stdout.shows(/✅ alice connected from \[::1\]:\d+\n/);
}, hasIPv6() ? undefined : ["a system with IPv6"]);

function hasIPv6(): boolean {
  if (Deno.permissions.querySync({ name: "net" }).state !== "granted") {
    return true; // whatever it is, `testRun` leaves the test out
  }
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

testRun("server: --max-clients 1 lets one in, and tells the next", async () => {
  await using server = await Server.start(["0", "--max-clients", "1"]);
  await server.join("alice");
  const next = await server.connect();
  await next.hears(texts.full);
  await next.isHungUpOn();
});

// ------------------------------------------- what it prints, and nobody reads

testRun(
  "server: with its stdout closed (| head) the chat goes on",
  async () => {
    await using server = await Server.start();
    const [alice, bob] = [await server.join("alice"), await server.join("bob")];
    await server.stdout.close();
    for (const text of ["one", "two", "three"]) {
      await alice.says(text);
      await bob.hears(`alice: ${text}`);
    }
    const { code, stderr } = await server.stop();
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
  },
);

testRun("server: with its stdout not read the chat goes on", async () => {
  await using server = await Server.start();
  const [alice, bob] = [await server.join("alice"), await server.join("bob")];
  const [text, count] = ["x".repeat(1_000), 2_500]; // more than any buffer has
  alice.says(...Array<string>(count).fill(text)).catch(() => {});
  await within(
    4_000,
    bob.hears(...Array<string>(count).fill(`alice: ${text}`)),
    "Nobody reads what the server prints, and bob does not hear alice",
  );
  const { code, stdout, stderr } = await server.stop();
  assertEquals({ code, stderr }, { code: 0, stderr: "" });

  // what had to be dropped has been counted
  const lines = stdout.trimEnd().split("\n");
  const notes = lines.filter((line) => / lost here: \d+$/.test(line));
  const lost = notes.map((note) => Number(/\d+$/.exec(note)![0]));
  const logged = lines.length - notes.length;
  assert(lost.length > 0, `The log has ${logged} lines, no word of lost ones`);
  const all = 3 + 2 * 3 + count + 1; // start, joins, messages, stop
  const sum = lost.reduce((sum, one) => sum + one, logged);
  assertEquals(sum, all, `logged: ${logged}, said to be lost: ${lost}`);
});

// ----------------------------------------------------- what does not work

testRun("server: a wrong argument is named, exit status 2", async () => {
  const wrong = [
    ...["abc", "65536", "-1", "80x", "1e3"].map((port) => [port]),
    ["0", "extra"],
    ["0", "--colour"],
    ["0", "--host"],
    ["0", "--max-clients"],
    ...["0", "-3", "abc"].map((limit) => ["0", "--max-clients", limit]),
  ];
  for (const args of wrong) {
    await failsToStart(2, [...SERVER, ...args], args.at(-1)!);
  }
  await failsToStart(2, [...SERVER, ""], "port");
});

testRun("server: a port in use is an error, exit status 1", async () => {
  await using other = await Server.start();
  const port = `${other.port}`;
  await failsToStart(1, [...SERVER, port], `127.0.0.1:${port}`, "in use");
});

testRun("server: somebody else's address is one, too", async () => {
  const args = [...SERVER, "0", "--host", "192.0.2.1"];
  await failsToStart(1, args, "Cannot listen on 192.0.2.1:0");
});

testRun(
  "server: without --allow-net one line says what is missing",
  async () => {
    await failsToStart(1, ["--no-prompt", "server.ts", "0"], "--allow-net");
  },
);

testRun("server: --help, or -h, needs no permission", async () => {
  for (const help of ["--help", "-h"]) {
    await using server = new Program(["server.ts", help]);
    const { stdout, ...rest } = await server.ends();
    assertEquals(rest, { code: 0, stderr: "" });
    assertMatch(stdout, /^Usage: .*9999.*--host.*--max-clients.*--quiet/s);
  }
});
