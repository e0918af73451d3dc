/**
 * Lesson 12: a program has a contract, and a filter is one for other programs.
 *
 * Who starts it, a person or a script, sees its arguments, what it writes to
 * stdout and to stderr, its exit status, and how it takes signals; nothing else.
 * stdout is for results, stderr for remarks; 0 means done, 2 'you called me
 * wrongly', 1 'it did not work'. In a pipe it reads, writes, and ends when its
 * input ends; whatever it waits for has a limit.
 *
 * Without that, `client.ts | grep bob` finds remarks among the messages, `| head
 * -1` ends in a stack trace, and where the server says nothing a script hangs.
 *
 * Try: `printf 'alice\nhi\n' | deno run --allow-net client.ts; echo $?` with a
 * server, and without one. Then with `2>/dev/null`, then with `>/dev/null`.
 */

import { assert, assertEquals, assertMatch, fail } from "@std/assert";
import { testRun, TestServer, texts, within } from "./helpers.ts";
import { failsToStart, FakeServer, Program, Server } from "./programs.ts";

const CLIENT = ["--no-prompt", "--allow-net", "client.ts"];
const WELCOME = texts.welcome("alice", "alice");

/** A client in a pipe; without an input, that stays open. */
const startClient = (port: number, input?: string, ...options: string[]) =>
  new Program([...CLIENT, "127.0.0.1", `${port}`, ...options], { input });

/** Fails unless it ends so, having connected and then said that on stderr. */
async function endsWith(
  client: Program,
  code: number,
  complaint = /^$/,
): Promise<string> {
  const { code: seen, stdout, stderr } = await client.ends();
  const [connecting, connected, ...rest] = stderr.split("\n");
  assertMatch(connecting!, /^\[time\] 🔄 Connecting to 127.0.0.1:\d+\.\.\.$/);
  const hint = "Type messages and press Enter. Type 'quit' to exit.";
  assertEquals(connected, `[time] ✅ Connected! ${hint}`);
  assertMatch(rest.join("\n"), complaint);
  assertEquals(seen, code, `its exit status; on stderr:\n${stderr}`);
  return stdout;
}

testRun("pipe: the first line is the name, the others are said", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  await using client = startClient(server.port, "alice\nhi\nbye");
  await bob.hears(texts.joined("alice"), "alice: hi", "alice: bye");
  await bob.hears(texts.left("alice"));
  await endsWith(client, 0);
});

testRun("pipe: 10,000 lines arrive, all of them, in order", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const lines = Array.from({ length: 10_000 }, (_, n) => `line ${n}`);
  await using client = startClient(server.port, ["alice", ...lines].join("\n"));
  await bob.hears(texts.joined("alice"));
  for (const line of lines) await bob.hears(`alice: ${line}`);
  await bob.hears(texts.left("alice"));
  await endsWith(client, 0);
});

testRun("pipe: nothing is said before the name is accepted", async () => {
  using server = new FakeServer();
  await using client = startClient(server.port, "alice\nhi\n");
  const connection = await server.accept();
  await connection.hears("alice");
  await connection.says("[SYSTEM] One moment, please.");
  await client.stdout.shows(/One moment/); // a hasty one has said it by now
  await connection.says("[SYSTEM] Not this name. Enter another name:");
  await connection.isHungUpOn();
  await endsWith(client, 1, /^Cannot join: Not this name\. .*\n$/);
});

testRun("pipe: stdout is what the server says, as it is", async () => {
  using server = new FakeServer();
  await using client = startClient(server.port, "alice\n");
  const connection = await server.accept();
  await connection.hears("alice");
  const lines = `${texts.enterName(1)}
${WELCOME}
bob:       blanks      stay
bob: grüß 😀 👨‍👩‍👧 שלום

${texts.left("bob")}
`;
  await connection.sends(lines);
  const end = await connection.nextLineOrEnd();
  assertEquals(end, undefined, "a half-close: the server may still speak");
  await connection.says("bob: late")
    .catch(() => fail("the client is gone, and does not hear bob"));
  connection.hangsUp();
  assertEquals(await endsWith(client, 0), lines + "bob: late\n");
});

for (const quit of ["quit", "/quit"]) {
  testRun(`pipe: ${quit} leaves, though the input goes on`, async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    await using client = startClient(server.port);
    client.types(`alice\n/me\twaves\n${quit}\nnot this\n`);
    await bob.hears(texts.joined("alice"), "alice: /me waves");
    await bob.hears(texts.left("alice"));
    await endsWith(client, 0);
  });
}

testRun(
  "pipe: with --name all is said, but for a message too long",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    const longest = "😀".repeat(1_000);
    const input = ["hi", longest, longest + "!", "after it"].join("\n");
    await using client = startClient(server.port, input, "--name", "alice");
    await bob.hears(texts.joined("alice"), "alice: hi", `alice: ${longest}`);
    await bob.hears("alice: after it", texts.left("alice"));
    const complaint = /^\[time\] A message has at most 1,000 .*not sent\.\n$/;
    const stdout = await endsWith(client, 0, complaint);
    assert(!stdout.includes("too long"), "the server had to refuse it");
  },
);

testRun("pipe: a welcome that comes before the name is one, too", async () => {
  using server = new FakeServer();
  await using client = startClient(server.port);
  const connection = await server.accept();
  await connection.says(WELCOME);
  await client.stdout.shows(/Welcome/);
  client.types("alice\nhi\nquit\n");
  await connection.hears("alice", "hi");
  await connection.isHungUpOn();
  connection.hangsUp();
  await endsWith(client, 0);
});

testRun("pipe: a server that says nothing is given up", async () => {
  using server = new FakeServer();
  await using nameless = startClient(server.port, "");
  await using hasty = startClient(server.port, "alice\nhi\n");
  await using member = startClient(server.port, "alice\nhi\n");
  for (let n = 0; n < 3; n++) await (await server.accept()).nextLineOrEnd();
  await Promise.all(
    [nameless, hasty, member].map((client) =>
      endsWith(client, 1, /^The server does not .*\n$/)
    ),
  );
});

testRun("pipe: a hostile server gives no orders, takes no time", async () => {
  using server = new FakeServer();
  await using client = startClient(server.port, "alice\n");
  const connection = await server.accept();
  await connection.hears("alice");
  await connection.says(
    ...Array<string>(3).fill("\x1b" + ";#".repeat(30_000)),
    "\x1b[2J\x1b]0;new title\x07cleared",
    "mallory: \x1b[31mred\x1b[0m \u009b5mblinking\u009b0m",
    "mallory: before\rafter\b\b\x00\x7f",
    "[SYSTEM] No\x1b[1m such\x9b1m name. Enter another name:",
  );
  const { stdout, stderr } = await client.ends(); // or the patience is over
  // deno-lint-ignore no-control-regex
  const control = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;
  assert(!control.test(stdout + stderr), "control characters on the screen");
  const rest = stdout.slice(stdout.indexOf("cleared"));
  assertMatch(rest, /^cleared\nmallory: red blinking\nmallory: before/);
});

for (const signal of ["SIGKILL", "SIGINT"] as const) {
  const manner = signal === "SIGINT" ? "says goodbye" : "is killed";
  testRun(`pipe: a server that ${manner} ends it, said once`, async () => {
    await using server = await Server.start();
    await using client = startClient(server.port);
    client.types("alice\n");
    await client.stdout.shows(/Welcome, alice!/);
    server.kill(signal);
    const isTold = signal === "SIGINT";
    const complaint = isTold ? /^$/ : /^The server is gone: .*Check .*\n$/;
    const stdout = await endsWith(client, 1, complaint);
    assertEquals(stdout.endsWith(`${texts.shutdown}\n`), isTold, stdout);
  });
}

testRun("pipe: Ctrl+C leaves, with nothing to complain about", async () => {
  await using server = new TestServer();
  await using client = startClient(server.port);
  client.types("alice\n");
  await client.stdout.shows(/Welcome, alice!/);
  client.kill("SIGINT");
  await endsWith(client, 0);
});

testRun("pipe: when nobody reads on (| head -1) that is no error", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  await using client = startClient(server.port);
  client.types("alice\n");
  await client.stdout.shows(/Welcome, alice!/);
  await client.stdout.close();
  // more than the pipe holds, should it not be closed at once
  await bob.says(...Array<string>(100).fill("x".repeat(1_000)));
  await within(5_000, endsWith(client, 0), "no prompt comes back after head");
});

testRun("client: host:port is a word; what fails is one line", async () => {
  const net = "--allow-net=127.0.0.1:1";
  for (
    const [args, peer] of [
      [["client.ts", "127.0.0.1", "1"], "127.0.0.1:1"], // no permission
      [[net, "client.ts", "localhost:1"], "localhost:1"], // not for this
      [[net, "client.ts", "127.0.0.1:1"], "127.0.0.1:1"], // no server
      [["client.ts", "[::1]:1"], "[::1]:1"],
      [["client.ts", "::1"], "[::1]:9999"],
      [["--allow-net", "client.ts", "nosuch.invalid"], "nosuch.invalid:9999"],
      [["--allow-net", "client.ts", "ü_ü:1"], "ü_ü:1"], // not a host at all
    ] as const
  ) {
    const line = ["--no-prompt", ...args];
    await using client = new Program(line, { input: "alice\nhi\n" });
    const { code, stdout, stderr } = await client.ends();
    assertEquals({ code, stdout }, { code: 1, stdout: "" }, stderr);
    const [connecting, complaint, end] = stderr.split("\n");
    assertEquals(connecting, `[time] 🔄 Connecting to ${peer}...`);
    const start = `Cannot connect to ${peer}: `;
    assertEquals(complaint?.slice(0, start.length), start);
    assertEquals(end, "", `more than one line:\n${stderr}`);
  }
});

testRun("client: a wrong argument is named, exit 2; --help is 0", async () => {
  for (const port of ["abc", "0", "65536", "-1", "80x"]) {
    await failsToStart(2, [...CLIENT, "127.0.0.1", port], port);
  }
  for (const word of ["localhost:70000", "localhost:", "9999"]) {
    await failsToStart(2, [...CLIENT, word], word, "port");
  }
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "extra"], "extra");
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "--quiet"], "--quiet");
  await failsToStart(2, [...CLIENT, "127.0.0.1", "1", "--name"], "--name");
  for (const help of ["--help", "-h"]) {
    await using client = new Program(["client.ts", help]);
    const { code, stdout } = await client.ends();
    assertMatch(stdout, /^Usage: .*127\.0\.0\.1.*9999.*--name/s, help);
    assertEquals(code, 0);
  }
});
