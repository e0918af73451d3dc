/**
 * Tests of `tools/proxy.ts`, which shows what passes between client and server.
 *
 * The proxy runs in this process, between real sockets. The test is both the
 * client and the server, so it needs neither `server.ts` nor `client.ts`. Only
 * the last tests start the proxy as a program.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { testProgram, testSockets } from "./helpers.ts";
import { connect } from "node:net";
import {
  describeChunk,
  type ProxySettings,
  type StartedProxy,
  startProxy,
} from "./tools/proxy.ts";

const HOST = "127.0.0.1";
/** A test that waits for longer than this fails. */
const TEST_TIMEOUT_MS = 10_000;

const encoder = new TextEncoder();

/** Fails if the promise takes too long. */
async function inTime<T>(promise: Promise<T>, awaited: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new Error(`The test waited in vain for ${awaited}`));
  }, TEST_TIMEOUT_MS);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** One end of a connection. */
class Peer {
  constructor(readonly conn: Deno.TcpConn) {}

  async sends(text: string): Promise<void> {
    let rest = encoder.encode(text);
    while (rest.length > 0) {
      rest = rest.subarray(await this.conn.write(rest));
    }
  }

  /** Reads exactly as many bytes as the text has, and compares. */
  async receives(text: string): Promise<void> {
    const buffer = new Uint8Array(encoder.encode(text).length);
    const start = JSON.stringify(text.slice(0, 50));
    let count = 0;
    while (count < buffer.length) {
      const rest = buffer.subarray(count);
      const added = await inTime(this.conn.read(rest), start);
      assert(added !== null, `A FIN came in place of ${start}`);
      count += added;
    }
    assertEquals(new TextDecoder().decode(buffer), text);
  }

  /** Fails if there is anything else than a FIN. */
  async receivesFin(): Promise<void> {
    const count = await inTime(this.conn.read(new Uint8Array(1)), "a FIN");
    assertEquals(count, null);
  }

  /** Fails if a FIN comes in place of the RST. Bytes may come before. */
  async receivesReset(): Promise<void> {
    await assertRejects(
      () => inTime(this.countBytes(), "an RST"),
      Deno.errors.ConnectionReset,
    );
  }

  /** Reads to the FIN; returns the number of bytes before it. */
  async countBytes(): Promise<number> {
    const buffer = new Uint8Array(64 * 1024);
    let sum = 0;
    for (;;) {
      const count = await this.conn.read(buffer);
      if (count === null) return sum;
      sum += count;
    }
  }
}

/** A server that accepts connections, and a proxy in front of it. */
class Wire {
  /** The output of the proxy, without the times. */
  readonly lines: string[] = [];
  readonly #server = Deno.listen({ hostname: HOST, port: 0 });
  readonly #conns: Deno.TcpConn[] = [];
  #proxy?: StartedProxy;
  #printed = Promise.withResolvers<void>();

  static async start(options: Partial<ProxySettings> = {}): Promise<Wire> {
    const wire = new Wire();
    wire.#proxy = await startProxy({
      listenPort: 0,
      serverHost: HOST,
      serverPort: wire.#server.addr.port,
      print: (line) => wire.#print(line),
      ...options,
    });
    return wire;
  }

  get port(): number {
    return this.#proxy!.port;
  }

  #print(line: string): void {
    assertMatch(line, /^\d\d:\d\d:\d\d\.\d{3} /);
    this.lines.push(line.replace(/^\S+ /, ""));
    this.#printed.resolve();
    this.#printed = Promise.withResolvers();
  }

  /** Waits until the proxy has printed a line with this text. */
  async shows(text: string): Promise<void> {
    while (!this.lines.some((line) => line.includes(text))) {
      await inTime(this.#printed.promise, `"${text}" in ${this.lines}`);
    }
  }

  /** The lines after SYN and SYN ACK that have this direction. */
  shownIn(arrow: string): string[] {
    return this.lines
      .filter((line) => line.includes(arrow) && !line.includes("SYN"))
      .map((line) => line.replace(/^.* server +/, ""));
  }

  /** A client, without a connection to the server. */
  async connectClient(): Promise<Peer> {
    const conn = await Deno.connect({ hostname: HOST, port: this.port });
    this.#conns.push(conn);
    return new Peer(conn);
  }

  async accept(): Promise<Peer> {
    const conn = await inTime(this.#server.accept(), "the proxy to connect");
    this.#conns.push(conn);
    return new Peer(conn);
  }

  /** A client and what the server sees of it. */
  async connect(): Promise<{ client: Peer; server: Peer }> {
    const client = await this.connectClient();
    const server = await this.accept();
    return { client, server };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const conn of this.#conns) conn.close();
    this.#server.close();
    await inTime(this.#proxy!.stop(), "the proxy to stop");
  }
}

// ------------------------------------------------------- what it passes on

testSockets("proxy: it shows each chunk and each event in order", async () => {
  await using wire = await Wire.start();
  const { client, server } = await wire.connect();
  await client.sends("alice\n");
  await server.receives("alice\n");
  await server.sends("[SYSTEM] Welcome, alice!\n");
  await client.receives("[SYSTEM] Welcome, alice!\n");
  await client.conn.closeWrite();
  await server.receivesFin();
  await server.conn.closeWrite();
  await client.receivesFin();
  const { port } = server.conn.remoteAddr;
  assertEquals(wire.lines, [
    "#1 client ──▶ server  SYN",
    `#1 client ◀── server  SYN ACK: the server sees a client on port ${port}`,
    '#1 client ──▶ server      6 bytes  "alice\\n"',
    '#1 client ◀── server     25 bytes  "[SYSTEM] Welcome, alice!\\n"',
    "#1 client ──▶ server  FIN",
    "#1 client ◀── server  FIN",
  ]);
});

testSockets(
  "proxy: each connection has a number, in color on demand",
  async () => {
    await using wire = await Wire.start({ hasColors: true });
    await wire.connect();
    await wire.connect();
    await wire.shows("\x1b[32m#1\x1b[0m client ──▶ server  SYN");
    await wire.shows("\x1b[33m#2\x1b[0m client ──▶ server  SYN");
  },
);

testSockets(
  "proxy: after the client's FIN the server can still send",
  async () => {
    await using wire = await Wire.start();
    const { client, server } = await wire.connect();
    await client.conn.closeWrite();
    await server.receivesFin();
    await server.sends("late\n");
    await client.receives("late\n");
  },
);

testSockets(
  "proxy: after the server's FIN the client can still send",
  async () => {
    await using wire = await Wire.start();
    const { client, server } = await wire.connect();
    await server.conn.closeWrite();
    await client.receivesFin();
    await client.sends("late\n");
    await server.receives("late\n");
  },
);

testSockets(
  "proxy: an RST from the client ends the server's connection",
  async () => {
    await using wire = await Wire.start();
    const client = connect({ host: HOST, port: wire.port });
    const server = await wire.accept();
    client.resetAndDestroy();
    await server.receivesFin();
    assertEquals(wire.shownIn("──▶"), ["RST, passed on as a FIN"]);
  },
);

testSockets(
  "proxy: with --reset, an RST from the client reaches the server",
  async () => {
    await using wire = await Wire.start({ reset: 100 });
    const client = connect({ host: HOST, port: wire.port });
    const server = await wire.accept();
    client.resetAndDestroy();
    await server.receivesReset();
    assertEquals(wire.shownIn("──▶"), ["RST"]);
  },
);

testSockets("proxy: if there is no server it says so and goes on", async () => {
  // Nobody listens on port 1. A port that was just closed could get another server.
  await using wire = await Wire.start({ serverPort: 1 });
  for (const number of [1, 2]) {
    const client = await wire.connectClient();
    await client.receivesFin();
    await wire.shows(
      `#${number} client ◀── server  no SYN ACK: Connection refused`,
    );
  }
  assertEquals(wire.lines.length, 4);
});

testSockets(
  "proxy: while the client does not read, the server waits",
  async () => {
    await using wire = await Wire.start();
    const { client, server } = await wire.connect();
    const total = 64 * 1024 * 1024; // more than all kernel buffers can hold
    let sent = 0;
    const chunk = new Uint8Array(64 * 1024);
    async function sendAll(): Promise<void> {
      while (sent < total) sent += await server.conn.write(chunk);
      await server.conn.closeWrite();
    }
    const sending = sendAll();
    await wire.shows("◀── server  waits: the client does not read");
    assert(sent < total / 2, `The proxy took ${sent} bytes from the server`);

    const received = await inTime(client.countBytes(), "a FIN");
    await sending;
    assertEquals(received, sent);
  },
);

// -------------------------------------------------------- the bad network

testSockets("proxy: --tear cuts chunks and loses no byte", async () => {
  await using wire = await Wire.start({ tear: 3 });
  const { client, server } = await wire.connect();
  await client.sends("alice\nGrüße\n");
  await server.receives("alice\nGrüße\n");
  await server.sends("seven..");
  await client.receives("seven..");
  assertEquals(wire.shownIn("──▶"), [
    '3 bytes  "ali"',
    '3 bytes  "ce\\n"',
    '3 bytes  "Gr\\xc3"',
    '3 bytes  "\\xbcß"',
    '2 bytes  "e\\n"',
  ]);
  assertEquals(wire.shownIn("◀──"), [
    '3 bytes  "sev"',
    '3 bytes  "en."',
    '1 byte   "."',
  ]);
});

testSockets("proxy: --tear keeps the order in a long stream", async () => {
  await using wire = await Wire.start({ tear: 100 });
  const { client, server } = await wire.connect();
  const lines = Array.from({ length: 10_000 }, (_, n) => `line ${n}\n`);
  const text = lines.join("");
  const sent = Promise.all([client.sends(text), server.sends(text)]);
  await Promise.all([client.receives(text), server.receives(text)]);
  await sent;
});

testSockets("proxy: --glue makes one chunk of two", async () => {
  await using wire = await Wire.start({ glue: 200 });
  const { client, server } = await wire.connect();
  await client.sends("one\n");
  await client.sends("two\n");
  await server.receives("one\ntwo\n");
  assertEquals(wire.shownIn("──▶"), ['8 bytes  "one\\ntwo\\n"']);
});

testSockets("proxy: --delay makes bytes and the FIN late", async () => {
  const delay = 100;
  await using wire = await Wire.start({ delay });
  const { client, server } = await wire.connect();
  const startTime = performance.now();
  await client.sends("one\n");
  await server.receives("one\n");
  assert(performance.now() - startTime >= delay - 1, "the line was not late");
  const finTime = performance.now();
  await client.conn.closeWrite();
  await server.receivesFin();
  assert(performance.now() - finTime >= delay - 1, "the FIN was not late");
});

testSockets("proxy: --rate makes the client receive slowly", async () => {
  await using wire = await Wire.start({ rate: 1_000 });
  const { client, server } = await wire.connect();
  const startTime = performance.now();
  const text = "x".repeat(300);
  await server.sends(text);
  await client.receives(text);
  const ms = performance.now() - startTime;
  assert(ms >= 198, `300 bytes at 1,000 bytes a second took only ${ms} ms`);
});

testSockets(
  "proxy: --stall stops one direction and not the other",
  async () => {
    await using wire = await Wire.start({ stall: 2 });
    const { client, server } = await wire.connect();
    await server.sends("one\ntwo\nthree\n");
    await client.receives("one\ntwo\n");
    await wire.shows("◀── server  waits: the proxy does not read (--stall)");
    await client.sends("still here\n");
    await server.receives("still here\n");
    await client.conn.closeWrite();
    await client.receivesFin(); // and no "three" before it
  },
);

testSockets(
  "proxy: --half sends a FIN and passes on what comes back",
  async () => {
    await using wire = await Wire.start({ half: 1 });
    const { client, server } = await wire.connect();
    await client.sends("alice\nthrown away\n");
    await server.receives("alice\n");
    await server.receivesFin();
    await server.sends("late\n");
    await client.receives("late\n");
    await wire.shows("──▶ server  FIN: the proxy sends it (--half)");
  },
);

testSockets("proxy: --reset sends an RST to both sides", async () => {
  await using wire = await Wire.start({ reset: 2 });
  const { client, server } = await wire.connect();
  await client.sends("one\ntwo\nthree\n");
  await Promise.all([client.receivesReset(), server.receivesReset()]);
  await wire.shows("◀─▶ server  RST: the proxy sends it to both sides");
  assertEquals(wire.shownIn("──▶"), [
    '4 bytes  "one\\n"',
    '4 bytes  "two\\n"',
  ]);
});

testSockets("proxy: options that delay and tear can be combined", async () => {
  await using wire = await Wire.start({ delay: 20, glue: 20, tear: 2 });
  const { client, server } = await wire.connect();
  await client.sends("alice\nHello everyone!\n");
  await client.conn.closeWrite();
  await server.receives("alice\nHello everyone!\n");
  await server.receivesFin();
});

// ------------------------------------------------------------- its output

Deno.test("proxy: what cannot be seen is shown as an escape", () => {
  const cases: [string | number[], string][] = [
    ["Grüße, 你好 😀", "Grüße, 你好 😀"],
    ["a\r\n\tb", "a\\r\\n\\tb"],
    ['"\\', '\\"\\\\'],
    ["\x1b[2J\x07\x7f\x9b", "\\u{1b}[2J\\u{7}\\u{7f}\\u{9b}"],
    ["\u202ea\u2066\u200b", "\\u{202e}a\\u{2066}\\u{200b}"],
    ["\u3164❤\ufe0f", "\\u{3164}❤\\u{fe0f}"],
    ["\ufeff\u2028\u00a0", "\\u{feff}\\u{2028}\\u{a0}"],
    ["\u{e0041}\u{1f9d1}\u200d\u{1f680}", "\\u{e0041}🧑\\u{200d}🚀"],
    [[0xff, 0xf4, 0xff, 0xfd, 0x06], "\\xff\\xf4\\xff\\xfd\\u{6}"],
    [[0xf0, 0x9f], "\\xf0\\x9f"],
    [[0x98, 0x80, 0x0a], "\\x98\\x80\\n"],
    [[0xc0, 0x80, 0xed, 0xa0, 0x80], "\\xc0\\x80\\xed\\xa0\\x80"],
  ];
  for (const [input, expected] of cases) {
    const bytes = typeof input === "string"
      ? encoder.encode(input)
      : new Uint8Array(input);
    const shown = describeChunk(bytes).replace(/^ *\d+ bytes?  ?/, "");
    assertEquals(shown.trim(), `"${expected}"`);
  }
});

Deno.test("proxy: no byte reaches the terminal as a control character", () => {
  for (let byte = 0; byte < 256; byte++) {
    const shown = describeChunk(new Uint8Array([byte]));
    assertMatch(shown, /^[\x20-\x7e]*$/);
  }
});

Deno.test("proxy: a long chunk is shortened with a count", () => {
  const shown = describeChunk(encoder.encode("ü".repeat(100)));
  assertEquals(shown, `  200 bytes  "${"ü".repeat(60)}"… and 80 more`);
});

// ---------------------------------------------------------- as a program

/** Starts the proxy as its users do. */
function startProgram(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-net",
      "tests/tools/proxy.ts",
      ...args,
    ],
    cwd: new URL("..", import.meta.url),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Fails unless the program ends with this status and one line on stderr. */
async function endsWith(code: number, line: RegExp, ...args: string[]) {
  const ended = await inTime(startProgram(...args).output(), `${args} to end`);
  const decoder = new TextDecoder();
  assertMatch(decoder.decode(ended.stderr), line);
  assertEquals(decoder.decode(ended.stdout), "");
  assertEquals(ended.code, code);
}

testProgram(
  "proxy: as a program it listens, shows, and ends at Ctrl+C",
  async () => {
    using server = Deno.listen({ hostname: HOST, port: 0 });
    const address = `${HOST}:${server.addr.port}`;
    await using program = startProgram("0", address, "--tear", "3");
    const output = program.stdout.pipeThrough(new TextDecoderStream());
    let text = "";
    /** Reads the output until the pattern is there. */
    async function shows(pattern: RegExp): Promise<RegExpExecArray> {
      for await (const part of output.values({ preventCancel: true })) {
        text += part;
        const match = pattern.exec(text);
        if (match) return match;
      }
      throw new Error(`No ${pattern} in ${text}`);
    }
    const started = await inTime(
      shows(/Listens on port (\d+) .*\n.*\n/),
      "a port",
    );
    using client = await Deno.connect({
      hostname: HOST,
      port: Number(started[1]),
    });
    using _accepted = await server.accept();
    await client.write(encoder.encode("alice\n"));
    await inTime(
      shows(/#1 client ──▶ server +3 bytes +"ce\\n"\n/),
      "a chunk",
    );
    program.kill("SIGINT");
    assertEquals((await program.status).code, 130);
    await output.cancel();
    assertEquals(await new Response(program.stderr).text(), "");
  },
);

testProgram("proxy: what the user did wrong is said in one line", async () => {
  using taken = Deno.listen({ hostname: HOST, port: 0 });
  await Promise.all([
    endsWith(2, /^Unknown option --colour: see --help\.\n$/, "--colour"),
    endsWith(2, /^Wrong --tear "0": see --help\.\n$/, "--tear", "0"),
    endsWith(2, /^Wrong server "localhost": see --help\.\n$/, "1", "localhost"),
    endsWith(
      1,
      /^Cannot listen: Address already in use.*\. Choose another port\.\n$/,
      `${taken.addr.port}`,
    ),
  ]);
});
