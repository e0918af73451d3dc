/**
 * Exercise 29: the room in a browser.
 *
 * Not everybody has `nc` or our client, but everybody has a browser. A page cannot open
 * a TCP connection. It can open a WebSocket, which begins as an HTTP request:
 *
 *     GET /chat HTTP/1.1               HTTP/1.1 101 Switching Protocols
 *     Upgrade: websocket               Upgrade: websocket
 *     Connection: Upgrade              Connection: Upgrade
 *     Sec-WebSocket-Key: …             Sec-WebSocket-Accept: …
 *
 * After the answer, the same TCP connection carries messages in both directions, framed
 * by length. Deno does that for you. With `--web`, the server listens on a second port,
 * for browsers. People with a browser and people with `nc` are in one room:
 *
 *     deno run --allow-net server.ts 9999 --web 8080
 *     [14:23:45] 📍 Listening on 127.0.0.1:9999
 *     [14:23:45] 🌐 In a browser: http://127.0.0.1:8080
 *
 * There are four rungs, and each has its part of the tests below.
 *
 * First rung: a WebSocket that looks like a connection, and no server yet. Then the
 * room can serve it, and does not know the difference. Write websocket.ts with the
 * class `WebSocketConn`. Its constructor takes a `WebSocket` and the address of the
 * browser. It has what `Room` and `Client` use of a `Deno.TcpConn`: `remoteAddr`,
 * `read`, `write`, `closeWrite`, `close`, and `setNoDelay` and `setKeepAlive`, which do
 * nothing here. The problems:
 *
 *   - Each message is a line. So `read` adds a newline, if there is none at its end. A
 *     binary message is UTF-8. What arrived before the end is read before the end.
 *   - `send` never waits. So `write` has to wait until the kernel has accepted the
 *     bytes: otherwise the log cannot notice a slow receiver. There is no event for
 *     that, but `bufferedAmount` is 0 then. It is also 0 when the WebSocket is closed.
 *   - Nothing makes a browser wait. If the room does not read, up to a million
 *     characters may wait here. A browser that sends many more is disconnected.
 *   - To close a WebSocket is to ask the browser to close it, too, and the browser need
 *     not answer. All the same, `close` ends a `read` and a `write` that wait.
 *
 * Second rung: the web server. `Deno.serve` and `Deno.upgradeWebSocket` are enough. It
 * answers `/` with a page, which can be one word for now, and `/chat` with a WebSocket.
 * What it sends is the same text as ever: each line with its newline, and perhaps many
 * lines in a message. When the server stops, all browsers receive the last line, and
 * then everything ends, whatever a browser does. In server.ts, begin with the new
 * option in `parseOptions` and `run`. `Room` and `Client` need another type for a
 * connection, and no other change.
 *
 * Third rung: strangers. Whoever runs a server for browsers meets them. The problems:
 *
 *   - Any page on the web may try to open a WebSocket to your server. Its script would
 *     speak with the voice of your browser, from inside your network. But browsers send
 *     a header `Origin`, which says where the page came from, and which no page can
 *     change. `Host` is the address that the browser has used. If both name the same
 *     host and port, it is your page. All others get 403. Without `Origin`, it is no
 *     browser.
 *   - A proxy may put another address into `Host`. Then `X-Forwarded-Host` has the one
 *     that the browser used. No page can set that header for a WebSocket.
 *   - Should text ever become markup, the browser must not run it. The header
 *     `Content-Security-Policy` forbids all that the page does not need, such as being
 *     shown inside another page. Your own script has a nonce: a word that the policy
 *     names, and that is new in each response.
 *   - All other paths are answered with 404, and nothing that a stranger sends causes a
 *     500. If no file descriptor is left, `Deno.serve` ends, and its promise `finished`
 *     rejects. If nobody handles that, your program ends, and with it the chat.
 *
 * Fourth rung: the page, in one file, page.html. A module can import it as text,
 * without a permission: `import page from "./page.html" with { type: "text" }`. It has
 * a log with an element for each line, a form with a text field and a button, and a
 * status. The roles `log` and `status` tell screen readers to read what is new there.
 * The rules:
 *
 *   - What you send is shown as `You: …`. Whatever arrives is shown as text.
 *   - The log keeps the last 1,000 lines. Whoever scrolls back keeps the place, also
 *     when lines arrive and others are dropped. Everybody else sees the last line.
 *   - If the connection is lost, the status says `Connection lost`. The page connects
 *     again, after some time that grows with each attempt, and asks for the same name.
 *     What you type meanwhile stays in its field.
 *   - The page fits on a phone, and can be zoomed.
 *
 * Only `location` knows how the browser has reached the page. In a GitHub Codespace,
 * that is the link in the panel Ports, with https and a name. GitHub's proxy passes on
 * HTTP and WebSockets, but no plain TCP. In `Origin`, it replaces its own name by
 * `localhost` and your port. If you make the port public, everybody who has the link
 * can join, from anywhere, and without a program:
 *
 *     deno run --allow-net server.ts --web 8080
 *
 * Hints: a string can be the queue of what has arrived, and `encodeInto` takes as much
 * of it as the buffer can hold. The signal of `Deno.serve` ends its WebSockets, too, so
 * the last line has to be sent before. `URL.parse` does not throw.
 *
 *     deno task learn 29
 *     deno test tests/exercises/29_web.ts         the first rung
 *     deno test -A tests/exercises/29_web.ts      all: the fourth rung starts chromium
 */

import { assert, assertEquals, fail } from "@std/assert";
import { TextLineStream } from "@std/streams/text-line-stream";
import {
  announcements,
  assertLine,
  assertLines,
  inTime,
  messages,
  quote,
  testProgram,
  turn,
  within,
} from "../helpers.ts";
import { Program, Server } from "../programs.ts";

const encoder = new TextEncoder();

// -------------------------------------- first rung: a WebSocket as a connection

/** What the first rung builds, in websocket.ts. */
type Connection = Pick<
  Deno.TcpConn,
  "close" | "closeWrite" | "read" | "remoteAddr" | "write"
>;

/** The server's end of a WebSocket. The tests play the browser. */
class FakeSocket extends EventTarget {
  readyState: number = WebSocket.OPEN;
  bufferedAmount = 0; // It grows with each `send`, and the tests set it to 0.
  sent = "";

  send(data: string | Uint8Array): void {
    const isText = typeof data === "string";
    const text = isText ? data : new TextDecoder().decode(data);
    this.sent += text;
    this.bufferedAmount += text.length;
  }

  /** Asks the browser to close. The browser need not answer. */
  close(): void {
    this.readyState = WebSocket.CLOSING;
    this.bufferedAmount = 0; // as in Deno
  }

  /** The browser sends a message. */
  receives(data: string | ArrayBuffer): void {
    this.#dispatch(new MessageEvent("message", { data }));
  }

  /** The browser has closed its side. */
  isClosed(): void {
    this.readyState = WebSocket.CLOSED;
    this.#dispatch(new CloseEvent("close"));
  }

  #dispatch(event: Event): void {
    this.dispatchEvent(event);
    const handlers = this as unknown as Record<string, unknown>;
    const handler = handlers[`on${event.type}`];
    if (typeof handler === "function") handler.call(this, event);
  }
}

async function makeConn(socket: FakeSocket): Promise<Connection> {
  const { WebSocketConn } = await import("../../websocket.ts").catch((error) =>
    fail(`There should be websocket.ts beside server.ts: ${error.message}`)
  );
  const hostname = "127.0.0.1";
  const browser = { transport: "tcp" as const, hostname, port: 54_321 };
  return new WebSocketConn(socket as unknown as WebSocket, browser);
}

/** Reads once. Resolves with the text, or with `undefined` at the end. */
async function readText(conn: Connection): Promise<string | undefined> {
  const buffer = new Uint8Array(64 * 1024);
  // After `close`, a read may fail. That is an end, too.
  const reading = conn.read(buffer).catch(() => null);
  const count = await inTime(reading, "The room", "something to read");
  if (count === null) return undefined;
  return new TextDecoder().decode(buffer.subarray(0, count));
}

/** Lets everything happen that can happen without the browser. */
async function turns(): Promise<void> {
  for (let n = 0; n < 20; n++) await turn();
}

Deno.test("web: each message of a browser is read as one line", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  const first = readText(conn); // It waits for the first message.
  await turns();
  socket.receives("alice");
  assertLine(await first, "alice\n", "The room");
  socket.receives("");
  socket.receives("one\n");
  socket.receives("two\nthree");
  socket.receives(Uint8Array.of(0xff, 0x41).buffer);
  let text = "";
  while (!text.includes("A\n")) text += await readText(conn);
  assertLine(text, "\none\ntwo\nthree\n\ufffdA\n", "The room");
  assertEquals(conn.remoteAddr.port, 54_321, "The port of the browser");
});

Deno.test("web: a message that is larger than the buffer is read in parts", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  socket.receives("👋 Hello 👋");
  socket.receives("x".repeat(1_000_000));
  const expected = "👋 Hello 👋\n" + "x".repeat(1_000_000) + "\n";
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(5_001);
  let text = "";
  while (text.length < expected.length) {
    const count = await inTime(conn.read(buffer), "The room", "the rest");
    if (count === null) fail(`The room reads ${text.length} characters only`);
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
  assertLine(text, expected, "The room");
});

Deno.test("web: what a browser has sent is read before the end", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  socket.receives("bye");
  await conn.closeWrite();
  const { readyState } = socket;
  assertEquals(readyState, WebSocket.CLOSING, "The state after closeWrite");
  socket.isClosed();
  assertLine(await readText(conn), "bye\n", "The room");
  assertLine(await readText(conn), undefined, "The room");
});

Deno.test("web: a write waits until the kernel has accepted it", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  let isWritten = false;
  const bytes = encoder.encode("bob: 👋\nbob: Hi!\n");
  const writing = conn.write(bytes).finally(() => isWritten = true);
  await turns();
  assertLine(socket.sent, "bob: 👋\nbob: Hi!\n", "The browser");
  assert(
    !isWritten,
    "The kernel accepts nothing, but the log drops these lines and sends more",
  );
  socket.bufferedAmount = 0;
  const count = await inTime(writing, "The room", "the end of a write");
  assertEquals(count, bytes.length, "The number of bytes that were written");
});

Deno.test("web: close ends a read and a write, whatever the browser does", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  const reading = readText(conn);
  const outcomeOf = (writing: Promise<number>) =>
    inTime(writing, "The room", "the end").then(() => "works", () => "fails");
  const outcome = outcomeOf(conn.write(encoder.encode("Are you there?\n")));
  await turns();
  conn.close();
  assertLine(await reading, undefined, "The room");
  assertEquals(await outcome, "fails", "A write to a browser that has left");
  const late = outcomeOf(conn.write(encoder.encode("Hello?\n")));
  assertEquals(await late, "fails", "A write after that");
});

Deno.test("web: a browser that sends more than the room reads is disconnected", async () => {
  const socket = new FakeSocket();
  const conn = await makeConn(socket);
  const message = "x".repeat(1_000);
  let count = 0;
  while (socket.readyState === WebSocket.OPEN && count < 4_000) {
    socket.receives(message);
    count++;
  }
  const what = `${count} messages of 1,000 characters`;
  assert(count < 4_000, `The server keeps ${what} that nobody reads`);
  assert(count > 1_000, `A browser is disconnected after ${what}`);
  let kept = 0;
  for (let text = await readText(conn); text; text = await readText(conn)) {
    kept += text.length;
  }
  assert(kept < 2_000_000, `The server keeps ${kept} characters`);
});

// ------------------------------------------------- second rung: the web server

/** Somebody who is connected by a WebSocket, and sees lines. */
class WebPerson {
  readonly #socket: WebSocket;
  readonly #lines: AsyncIterator<string>;

  constructor(port: number, readonly name: string) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
    const received = new ReadableStream<string>({
      start(controller) {
        socket.onmessage = ({ data }) => controller.enqueue(data);
        socket.onclose = () => controller.close();
      },
    });
    this.#socket = socket;
    this.#lines = received.pipeThrough(new TextLineStream()).values();
  }

  /** Somebody who has opened a WebSocket, and has seen the question for a name. */
  static async visit(port: number, name: string): Promise<WebPerson> {
    const person = new WebPerson(port, name);
    const opened = new Promise((resolve, reject) => {
      person.#socket.onopen = resolve;
      person.#socket.onerror = (event) =>
        reject(new Error((event as ErrorEvent).message));
    });
    await within(10_000, opened, `${name} cannot open a WebSocket`);
    await person.#receivesStart("[SYSTEM] Enter your name");
    return person;
  }

  /** Somebody who has joined, and has seen the welcome. */
  static async join(port: number, name: string): Promise<WebPerson> {
    const person = await this.visit(port, name);
    person.sends(name);
    await person.#receivesStart(`[SYSTEM] Welcome, ${name}!`);
    return person;
  }

  async #receivesStart(start: string): Promise<void> {
    const line = await this.nextLine() ?? "the end";
    const isRight = line.startsWith(start);
    assert(isRight, `${this.name} should see: ${start}\nbut sees: ${line}`);
  }

  /** Sends each of these as a message. */
  sends(...data: (string | Uint8Array<ArrayBuffer>)[]): void {
    for (const message of data) this.#socket.send(message);
  }

  /** The next line, or `undefined` at the end. */
  async nextLine(awaited = "a line"): Promise<string | undefined> {
    return (await inTime(this.#lines.next(), this.name, awaited)).value;
  }

  /** Fails unless exactly these lines are received next; `undefined` is the end. */
  async receives(...lines: (string | undefined)[]): Promise<void> {
    for (const line of lines) {
      const awaited = line === undefined ? "the end" : quote(line);
      assertLine(await this.nextLine(awaited), line, this.name);
    }
  }

  /** Leaves, as somebody who closes the tab. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** A server that has a port for browsers, too. */
class PageServer extends Server {
  /** Where browsers find it. */
  webPort = 0;
  readonly #conns: Deno.Conn[] = [];

  /** Starts a server. Resolves when it listens on both ports. */
  static async serve(webPort = 0, ...args: string[]): Promise<PageServer> {
    const options = ["0", "--web", `${webPort}`, ...args];
    const server = new PageServer(["--allow-net", "server.ts", ...options]);
    try {
      const [, port] = await server.stdout.shows(/Listening on .+:(\d+)\n/);
      const [, web] = await server.stdout.shows(/browser: http:.+:(\d+)\n/);
      server.port = Number(port);
      server.webPort = Number(web);
      return server;
    } catch {
      const output = await server.#kill();
      fail(`Nobody can open a page, since the server says:\n${output}`);
    }
  }

  /** Ends it at once. Resolves with all that it has said. */
  async #kill(): Promise<string> {
    try {
      this.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    const { stdout, stderr } = await this.ends();
    return stdout + stderr;
  }

  /** What a browser has in the header Host. */
  get host(): string {
    return `127.0.0.1:${this.webPort}`;
  }

  /** Sends something to the port for browsers, as it is. */
  async sendsRaw(text: string): Promise<Deno.TcpConn> {
    const conn = await Deno.connect({ port: this.webPort });
    this.#conns.push(conn);
    await conn.write(encoder.encode(text));
    return conn;
  }

  /** The status of the answer to a request, for example 404. */
  async statusOf(...headers: string[]): Promise<number> {
    return await readStatus(await this.sendsRaw(encodeRequest(...headers)));
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    for (const conn of this.#conns) conn.close();
    await super[Symbol.asyncDispose]();
  }
}

function encodeRequest(...headers: string[]): string {
  return headers.join("\r\n") + "\r\n\r\n";
}

async function readStatus(conn: Deno.Conn): Promise<number> {
  const buffer = new Uint8Array(1_024);
  const count = await inTime(conn.read(buffer), "A browser", "an answer");
  const text = new TextDecoder().decode(buffer.subarray(0, count ?? 0));
  return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
}

/** The headers of a request for a WebSocket. */
function handshake(host: string, ...headers: string[]): string[] {
  return [
    "GET /chat HTTP/1.1",
    `Host: ${host}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ...headers,
  ];
}

/** A member that has a WebSocket, and reads nothing from now on. */
async function joinSleeper(server: PageServer, name: string): Promise<void> {
  const request = encodeRequest(...handshake(server.host));
  const sleeper = await server.sendsRaw(request);
  assertEquals(await readStatus(sleeper), 101, `${name} opens a WebSocket`);
  // A short text message: browsers have to mask its bytes, and the mask is 0 here.
  const bytes = encoder.encode(name);
  await sleeper.write(
    Uint8Array.of(0x81, 0x80 | bytes.length, 0, 0, 0, 0, ...bytes),
  );
}

testProgram("web: a person in a browser and one with nc talk", async () => {
  await using server = await PageServer.serve();
  const bob = await server.join("bob");
  const alice = await WebPerson.visit(server.webPort, "alice");
  alice.sends("BOB");
  await alice.receives("[SYSTEM] The name BOB is taken. Enter another name:");
  alice.sends("alice");
  await alice.receives(announcements.welcome("alice", "bob", "alice"));
  await bob.receives(announcements.joined("alice"));
  alice.sends("Hello 👋", "Can you read this?");
  await bob.receives("alice: Hello 👋", "alice: Can you read this?");
  await bob.sends("Yes!", "<b>You</b> too?");
  await alice.receives("bob: Yes!", "bob: <b>You</b> too?");
  using carol = await WebPerson.join(server.webPort, "carol");
  await alice.receives(announcements.joined("carol"));
  await bob.receives(announcements.joined("carol"));
  alice[Symbol.dispose]();
  await bob.receives(announcements.left("alice"));
  await carol.receives(announcements.left("alice"));
  await bob.halfCloses();
  await carol.receives(announcements.left("bob"));
});

testProgram("web: a browser loses no message, large or small", async () => {
  await using server = await PageServer.serve();
  const bob = await server.join("bob");
  using alice = await WebPerson.join(server.webPort, "alice");
  await bob.receives(announcements.joined("alice"));
  const lines = messages(10_000, 20);
  alice.sends(...lines);
  await bob.receives(...lines.map((line) => `alice: ${line}`));
  await bob.sends(...lines);
  await alice.receives(...lines.map((line) => `bob: ${line}`));

  alice.sends("x".repeat(1_000_000));
  await alice.receives(announcements.messageTooLong);
  alice.sends(Uint8Array.of(0xff, 0x41), "I am still here");
  await bob.receives("alice: \ufffdA", "alice: I am still here");
});

testProgram("web: a WebSocket that never reads is disconnected", async () => {
  await using server = await PageServer.serve();
  const bob = await server.join("bob");
  await joinSleeper(server, "sleeper");
  await bob.receives(announcements.joined("sleeper"));
  const alice = await server.join("alice");
  await bob.receives(announcements.joined("alice"));
  const lines = messages(8_000);
  const left = announcements.left("sleeper");
  const [seen] = await Promise.all([
    bob.receivesUntil(left),
    alice.sends(...lines, "the end"),
  ]);
  seen.push(...await bob.receivesUntil("alice: the end"));
  const said = [...lines, "the end"].map((line) => `alice: ${line}`);
  assertLines(seen.filter((line) => line !== left), said, "bob");
  await server.join("Sleeper"); // The name is free again.
});

testProgram("web: a browser counts as a client", async () => {
  await using server = await PageServer.serve(0, "--max-clients", "2");
  using alice = await WebPerson.join(server.webPort, "alice");
  await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  using carol = new WebPerson(server.webPort, "carol");
  await carol.receives(announcements.chatFull, undefined);
  const dan = await server.connect();
  await dan.receives(announcements.chatFull);
});

testProgram("web: when the server stops, everything ends", async () => {
  await using server = await PageServer.serve();
  const bob = await server.join("bob");
  using alice = await WebPerson.join(server.webPort, "alice");
  await bob.receives(announcements.joined("alice"));
  using visitor = await WebPerson.visit(server.webPort, "a visitor");
  await joinSleeper(server, "sleeper");
  await alice.receives(announcements.joined("sleeper"));
  await server.sendsRaw("GET / HTTP/1.1\r\nHost: ");
  await server.statusOf("GET / HTTP/1.1", `Host: ${server.host}`);
  await bob.sends(...messages(6_000));
  const ending = server.stop();
  const seen: string[] = [];
  for (let line = await alice.nextLine(); line; line = await alice.nextLine()) {
    seen.push(line);
  }
  assertLine(seen.at(-1), announcements.shutdown, "At the end, alice");
  await visitor.receives(announcements.shutdown, undefined);
  const { code, stdout, stderr } = await ending;
  assertEquals(stderr, "", "What the server complains about");
  assertEquals(code, 0, "The exit status of the server");
  assert(stdout.endsWith("Stopped\n"), `The end of its output: ${stdout}`);
});

testProgram("web: a port that cannot be used is one clear line", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const cases: [web: string, code: number, words: string][] = [
    [`${port}`, 1, `Cannot listen on 127.0.0.1:${port}`],
    ["browser", 2, "Wrong --web"],
    ["99999", 2, "Wrong --web"],
    ["", 2, "Wrong --web"],
  ];
  for (const [web, code, words] of cases) {
    const args = ["--allow-net", "server.ts", "0", `--web=${web}`];
    await using program = new Program(args, { input: "" });
    const ended = await program.ends();
    const isLine = /^.+\n$/.test(ended.stderr) && ended.stderr.includes(words);
    if (ended.code !== code || !isLine) {
      fail(`--web=${web} exits with ${ended.code}: ${ended.stderr}`);
    }
  }
});

// ------------------------------------------------------ third rung: strangers

testProgram("web: no other page opens a WebSocket", async () => {
  await using server = await PageServer.serve();
  const { host, webPort } = server;
  const others = [
    "http://evil.example",
    `http://evil.example:${webPort}`,
    `http://${host}.evil.example`,
    `http://${host}@evil.example`,
    `http://127.0.0.1:${webPort + 1}`,
    "http://127.0.0.1",
    "null",
    "file://",
    "",
  ];
  for (const origin of others) {
    const request = handshake(host, `Origin: ${origin}`);
    const complaint = `The script of a page from "${origin}" speaks here`;
    assertEquals(await server.statusOf(...request), 403, complaint);
  }
  const own = [
    handshake(host), // a program
    handshake(host, `Origin: http://${host}`),
    handshake("192.168.1.7:81", "Origin: http://192.168.1.7:81"),
    handshake("chat.example", "Origin: https://chat.example"),
    // Behind a proxy:
    handshake(host, "Origin: https://a.example", "X-Forwarded-Host: a.example"),
    // In a GitHub Codespace, whatever its proxy does to Host:
    handshake(`localhost:${webPort}`, `Origin: http://localhost:${webPort}`),
    handshake("name.github.dev", `Origin: http://localhost:${webPort}`),
  ];
  for (const request of own) {
    const complaint = `Our own page is refused:\n${request.join("\n")}`;
    assertEquals(await server.statusOf(...request), 101, complaint);
  }
});

testProgram("web: the page has a policy against scripts", async () => {
  await using server = await PageServer.serve();
  const policies: string[] = [];
  for (let n = 0; n < 2; n++) {
    const response = await fetch(`http://${server.host}/`);
    await response.body?.cancel();
    policies.push(response.headers.get("content-security-policy") ?? "none");
  }
  const [policy = "", other = ""] = policies;
  const isStrict = policy.includes("default-src 'none'") &&
    !policy.includes("unsafe");
  assert(isStrict, `A script in a message could be run. The policy: ${policy}`);
  const isAlone = policy.includes("frame-ancestors 'none'");
  assert(isAlone, `Another page can show this one inside itself: ${policy}`);
  assert(policy !== other, `Two responses have the same nonce: ${policy}`);
});

testProgram("web: there is nothing but the page", async () => {
  await using server = await PageServer.serve();
  const host = `Host: ${server.host}`;
  const page = await fetch(`http://${server.host}/`);
  const type = page.headers.get("content-type") ?? "none";
  await page.body?.cancel();
  assertEquals(page.status, 200, "The status of the page");
  assert(/text\/html.*utf-8/i.test(type), `The type of the page: ${type}`);
  for (const path of ["/server.ts", "/page.html", "/chat/", "//chat"]) {
    const status = await server.statusOf(`GET ${path} HTTP/1.1`, host);
    assertEquals(status, 404, `The status of ${path}`);
  }
  const strange = [
    ["GET /chat HTTP/1.1", host], // and no WebSocket
    handshake(server.host).filter((header) => !header.includes("Key")),
    ["GET / HTTP/1.1", "Host: a b"],
    handshake(":::"),
  ];
  for (const request of strange) {
    const status = await server.statusOf(...request);
    assert(status < 500, `The status is ${status} for:\n${request.join("\n")}`);
  }
  const { stderr } = await server.stop();
  assertEquals(stderr, "", "What the server complains about");
});

testProgram("web: half a request harms nobody", async () => {
  await using server = await PageServer.serve(0, "--max-clients", "2");
  const request = encodeRequest(...handshake(server.host));
  for (let n = 0; n < 50; n++) {
    await server.sendsRaw("");
    await server.sendsRaw(request.slice(0, 40 + n));
    await server.sendsRaw("alice\nHello everyone!\n");
  }
  const bob = await server.join("bob");
  using _alice = await WebPerson.join(server.webPort, "alice");
  await bob.receives(announcements.joined("alice"));
});

testProgram("web: without file descriptors, nobody is lost", async () => {
  const webPort = findFreePort();
  const args = ["0", "--web", `${webPort}`];
  await using server = await Server.start(args, { openFiles: 64 })
    .catch(() => fail("Nobody can open a page: the server does not start"));
  using alice = await WebPerson.join(webPort, "alice");
  const bob = await server.join("bob");
  await alice.receives(announcements.joined("bob"));
  const strangers: Deno.Conn[] = [];
  for (let n = 0; n < 100; n++) {
    // Some are refused, because nobody listens.
    const conn = await Deno.connect({ port: webPort }).catch(() => {});
    if (conn) strangers.push(conn);
  }
  alice.sends("Is it crowded here?");
  await bob.receives("alice: Is it crowded here?");
  for (const conn of strangers) conn.close();
  await server.join("carol");
  await bob.receives(announcements.joined("carol"));
  const isServed = await isServedInTime(webPort);
  assert(isServed, "All strangers have left, but dan does not get the page");
  using _dan = await WebPerson.join(webPort, "dan");
  await bob.receives(announcements.joined("dan"));
});

function findFreePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Asks for the page again and again. Resolves with whether it has come in time. */
async function isServedInTime(port: number): Promise<boolean> {
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => {});
    await response?.body?.cancel();
    if (response?.ok) return true;
  }
  return false;
}

// ------------------------------------- fourth rung: the page, in a real browser

/** Chromium is large: it may start slowly. */
const START_TIMEOUT_MS = 30_000;
/** A page that does not show something within this time will not show it. */
const PAGE_TIMEOUT_MS = 10_000;

/** The names of Chromium. Without it, these tests are ignored. */
const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"];

/** The first of these programs that can be started here. */
function findProgram(): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "run" });
  if (state !== "granted") return PROGRAMS[0]; // `testProgram` skips the test anyway.
  return PROGRAMS.find((program) => {
    try {
      const args = ["--version"];
      return new Deno.Command(program, { args }).outputSync().success;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  });
}

/** What Chromium sends: the reply to a command, or an event. */
interface Reply {
  id?: number;
  result?: unknown;
  error?: { message: string };
  sessionId?: string;
  method?: string;
}

/**
 * Chromium without a window. Its DevTools protocol controls it: commands, replies and
 * events in JSON, over a WebSocket.
 */
class Browser {
  readonly #folder = Deno.makeTempDirSync();
  readonly #process: Deno.ChildProcess;
  readonly #waiting = new Map<string | number, (reply: Reply) => void>();
  #socket?: WebSocket;
  #lastId = 0;

  constructor(program: string) {
    const args = [
      "--headless",
      "--no-sandbox", // It cannot have one as root, and visits only our own pages.
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--remote-debugging-port=0",
      `--user-data-dir=${this.#folder}`,
    ];
    const io = { stdin: "null", stdout: "null", stderr: "piped" } as const;
    this.#process = new Deno.Command(program, { args, ...io }).spawn();
  }

  /** Resolves when it can be controlled. */
  async start(): Promise<void> {
    const connected = this.#connect();
    await within(START_TIMEOUT_MS, connected, "Chromium does not start");
  }

  async #connect(): Promise<void> {
    const output = this.#process.stderr.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const chunk of output) {
      text += chunk;
      const url = /^DevTools listening on (ws:\S+)\s/m.exec(text)?.[1];
      if (url === undefined) continue;
      const socket = new WebSocket(url);
      this.#socket = socket;
      socket.onmessage = ({ data }) => this.#handle(JSON.parse(data));
      return await new Promise((resolve) => socket.onopen = () => resolve());
    }
    fail(text);
  }

  #handle(reply: Reply): void {
    const key = reply.id ?? `${reply.sessionId} ${reply.method}`;
    this.#waiting.get(key)?.(reply);
    this.#waiting.delete(key);
  }

  /** Resolves with the reply to a command, or with the next event of a session. */
  wait(key: string | number): Promise<Reply> {
    const reply = new Promise<Reply>((resolve) => {
      this.#waiting.set(key, resolve);
    });
    return within(START_TIMEOUT_MS, reply, "Chromium does not answer");
  }

  /** Sends a command. Resolves with its result. */
  async ask<Result>(
    method: string,
    params: object = {},
    sessionId?: string,
  ): Promise<Result> {
    this.#lastId++;
    const id = this.#lastId;
    this.#socket?.send(JSON.stringify({ id, method, params, sessionId }));
    const { result, error } = await this.wait(id);
    if (error) fail(`Chromium refuses ${method}: ${error.message}`);
    return result as Result;
  }

  /** Opens a page in a window of its own. Resolves when it has been loaded. */
  async open(url: string, who: string): Promise<Tab> {
    const empty = { url: "about:blank", newWindow: true };
    const target = await this.ask<object>("Target.createTarget", empty);
    const { sessionId } = await this.ask<{ sessionId: string }>(
      "Target.attachToTarget",
      { ...target, flatten: true },
    );
    const tab = new Tab(this, sessionId, who);
    await tab.ask("Page.enable");
    const loaded = this.wait(`${sessionId} Page.loadEventFired`);
    await tab.ask("Page.navigate", { url });
    await loaded;
    await tab.evaluate(BY_ROLE);
    return tab;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => {
      if (this.#socket) this.#socket.onclose = resolve;
      else resolve(undefined);
    });
    await this.ask("Browser.close").catch(() => {}); // It may be gone already.
    await inTime(closed, "The test", "Chromium to close").catch(() => {});
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#process.status;
    // Its other processes may still write for a moment.
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }
}

/** For the expressions below: finds an element, or says which one is missing. */
const BY_ROLE = `globalThis.byRole = (role) => {
  const element = document.querySelector("[role=" + role + "]");
  if (element) return element;
  throw "nothing has the role " + role;
}`;
const FIELD = `document.querySelector("form input")`;

/** A tab of the browser, and the person who looks at it. */
class Tab {
  constructor(
    readonly browser: Browser,
    readonly sessionId: string,
    readonly who: string,
  ) {}

  /** Sends a command for this tab. */
  ask<Result>(method: string, params?: object): Promise<Result> {
    return this.browser.ask<Result>(method, params, this.sessionId);
  }

  /** The value of an expression in the page, or of the promise that it returns. */
  async evaluate<Value>(expression: string): Promise<Value> {
    const { result, exceptionDetails } = await this.ask<{
      result: { value: Value };
      exceptionDetails?: {
        exception: { value?: string; description?: string };
      };
    }>("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    const error = exceptionDetails?.exception;
    if (!error) return result.value;
    fail(`In the page of ${this.who}, ${error.value ?? error.description}`);
  }

  /** Types into the text field, and presses Enter. */
  async types(text: string): Promise<void> {
    await this.evaluate(`${FIELD}.focus()`);
    await this.ask("Input.insertText", { text });
    await this.pressesEnter();
  }

  async pressesEnter(): Promise<void> {
    const key = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 };
    const down = { type: "keyDown", text: "\r", ...key };
    await this.ask("Input.dispatchKeyEvent", down);
    await this.ask("Input.dispatchKeyEvent", { type: "keyUp", ...key });
  }

  /** The lines in the log. */
  lines(): Promise<string[]> {
    return this.evaluate(
      `[...byRole("log").children].map((line) => line.textContent)`,
    );
  }

  /** Fails unless these lines are in the log, soon. It says what is there instead. */
  async shows(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const isShown = await this.#becomesTrue(
        `[...byRole("log").children]
          .some((it) => it.textContent === ${JSON.stringify(line)})`,
      );
      if (isShown) continue;
      const seen = (await this.lines()).slice(-5).map(quote).join("\n  ");
      fail(`${this.who} should see:\n  ${quote(line)}\nbut sees:\n  ${seen}`);
    }
  }

  /** Fails unless the status shows some words, soon. */
  async showsStatus(words: string): Promise<void> {
    const status = `byRole("status").textContent`;
    const isShown = await this.#becomesTrue(`${status}.includes("${words}")`);
    if (isShown) return;
    const seen = await this.evaluate<string>(status);
    fail(`${this.who} should see the status "${words}", but sees "${seen}"`);
  }

  /** Resolves with whether a condition becomes true when the page changes. */
  #becomesTrue(condition: string): Promise<boolean> {
    return this.evaluate(`new Promise((resolve) => {
      const check = () => ${condition} && resolve(true);
      const all = { attributes: true, characterData: true, childList: true };
      new MutationObserver(check).observe(document, { ...all, subtree: true });
      setTimeout(() => resolve(false), ${PAGE_TIMEOUT_MS});
      check();
    })`);
  }

  /** Joins with a name, and sees the welcome. The others are here already. */
  async joins(name: string, ...others: string[]): Promise<void> {
    const isAsked = await this.#becomesTrue(
      `byRole("log").textContent.includes("Enter your name")`,
    );
    assert(isAsked, `${this.who} should be asked for a name`);
    await this.types(name);
    await this.shows(announcements.welcome(name, ...others, name));
  }
}

/** Alice sees the page in a browser, and has joined. */
interface Visit {
  server: PageServer;
  browser: Browser;
  alice: Tab;
}

const program = findProgram();

function testBrowser(name: string, fn: (visit: Visit) => Promise<void>): void {
  async function test(): Promise<void> {
    await using server = await PageServer.serve();
    await using browser = new Browser(program!);
    await browser.start();
    const alice = await browser.open(`http://${server.host}/`, "alice");
    await alice.joins("alice");
    await fn({ server, browser, alice });
  }
  if (program) testProgram(`web: ${name}`, test);
  else Deno.test.ignore(`web: ${name} (needs chromium)`, test);
}

testBrowser("two tabs and one nc chat", async (visit) => {
  const { server, browser, alice } = visit;
  const bob = await browser.open(`http://${server.host}/`, "bob");
  await bob.joins("bob", "alice");
  const carol = await server.join("carol");
  for (const tab of [alice, bob]) {
    await tab.shows(announcements.joined("carol"));
  }
  await alice.types("Hello 👋");
  await alice.shows("You: Hello 👋");
  await bob.shows("alice: Hello 👋");
  await carol.receives("alice: Hello 👋");
  await carol.sends("Hi!");
  for (const tab of [alice, bob]) await tab.shows("carol: Hi!");
  await bob.ask("Page.navigate", { url: "about:blank" });
  await alice.shows(announcements.left("bob"));
  await carol.receives(announcements.left("bob"));
});

testBrowser("what looks like HTML stays text", async ({ server, alice }) => {
  const mallory = await server.join("mallory");
  const texts = [
    `<img src="x" onerror="document.title = 'Mallory was here'">`,
    `<script>document.title = "Mallory was here"</script>`,
    `</p></div><b>[SYSTEM]</b> &lt;i&gt; &amp;`,
  ];
  for (const text of texts) {
    await mallory.sends(text);
    await alice.shows(`mallory: ${text}`);
    await alice.types(text);
    await alice.shows(`You: ${text}`);
    await mallory.receives(`alice: ${text}`);
  }
  const count = await alice.evaluate<number>(
    `byRole("log").querySelectorAll("b, i, img, script").length`,
  );
  assertEquals(count, 0, "Elements that mallory has put into alice's page");
  const title = await alice.evaluate<string>("document.title");
  assert(!title.includes("Mallory"), `The title of alice's page: ${title}`);
});

testBrowser("other pages in the browser cannot connect", async (visit) => {
  const { server, browser } = visit;
  const headers = { "content-type": "text/html" };
  await using other = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("Cats!", { headers }),
  );
  const url = `http://127.0.0.1:${other.addr.port}/`;
  const tab = await browser.open(url, "somebody who likes cats");
  const answer = await tab.evaluate<string>(`new Promise((resolve) => {
    const socket = new WebSocket("ws://${server.host}/chat");
    socket.onopen = () => resolve("a WebSocket");
    socket.onerror = () => resolve("nothing");
  })`);
  assertEquals(answer, "nothing", "What a page with cats gets from the server");
});

/** How far the last line is below the lower edge of the log, in pixels. */
const HIDDEN = `Math.round(byRole("log").lastElementChild
  .getBoundingClientRect().bottom - byRole("log").getBoundingClientRect().bottom)`;
/** The first line that is not above the upper edge of the log. */
const FIRST_LINE = `[...byRole("log").children].find((line) =>
  line.getBoundingClientRect().top >= byRole("log").getBoundingClientRect().top
).textContent`;

/** Scrolls the log to a part of its height. Resolves when the page has noticed it. */
function scrollTo(part: number): string {
  return `new Promise((resolve) => {
    byRole("log").scrollTop = byRole("log").scrollHeight * ${part};
    requestAnimationFrame(() => requestAnimationFrame(resolve));
  })`;
}

testBrowser("who scrolls back keeps the place", async ({ server, alice }) => {
  const bob = await server.join("bob");
  const lines = messages(1_600, 20);
  await bob.sends(...lines.slice(0, 1_500));
  await alice.shows(`bob: ${lines[1_499]}`);
  const count = (await alice.lines()).length;
  assertEquals(count, 1_000, "The lines that alice's page keeps");
  let hidden = await alice.evaluate<number>(HIDDEN);
  assert(hidden <= 0, `The last line is ${hidden} pixels below alice's log`);

  await alice.evaluate(scrollTo(0.5));
  const before = await alice.evaluate<string>(FIRST_LINE);
  await bob.sends(...lines.slice(1_500));
  await alice.shows(`bob: ${lines[1_599]}`);
  const after = await alice.evaluate<string>(FIRST_LINE);
  assertLine(after, before, "alice, who reads at the top of the log,");

  await alice.evaluate(scrollTo(1));
  await bob.sends("Are you back?");
  await alice.shows("bob: Are you back?");
  hidden = await alice.evaluate<number>(HIDDEN);
  assert(hidden <= 0, `The last line is ${hidden} pixels below alice's log`);
});

testBrowser("the page comes back when the server does", async (visit) => {
  const { server, alice } = visit;
  await server.stop();
  await alice.shows(announcements.shutdown);
  await alice.showsStatus("Connection lost");
  await alice.types("Is anybody there?");
  const typed = await alice.evaluate<string>(`${FIELD}.value`);
  assertEquals(typed, "Is anybody there?", "What alice has typed meanwhile");
  await using again = await PageServer.serve(server.webPort);
  await again.stdout.shows(/alice joined the chat/)
    .catch(() => fail("The server is back, but alice is not"));
  const bob = await again.join("bob");
  await alice.shows(announcements.joined("bob"));
  await alice.pressesEnter();
  await bob.receives("alice: Is anybody there?");
});

testBrowser("the page fits on a phone", async ({ server, alice }) => {
  const size = { width: 320, height: 568, deviceScaleFactor: 2, mobile: true };
  await alice.ask("Emulation.setDeviceMetricsOverride", size);
  const bob = await server.join("bob");
  const word = "x".repeat(1_000);
  await bob.sends(word);
  await alice.shows(`bob: ${word}`);
  const pixels = await alice.evaluate<Record<string, number>>(`({
    pageWidth: document.documentElement.scrollWidth,
    logExcess: byRole("log").scrollWidth - byRole("log").clientWidth,
    fieldBottom: ${FIELD}.getBoundingClientRect().bottom,
    fontSize: parseFloat(getComputedStyle(${FIELD}).fontSize),
  })`);
  const { pageWidth, logExcess, fieldBottom, fontSize } = pixels;
  assertEquals(pageWidth, 320, "The width of the page on a narrow phone");
  assertEquals(logExcess, 0, "The pixels of a long word that cannot be seen");
  assert(fieldBottom! <= 568, "The text field is below the end of the screen");
  assert(
    fontSize! >= 16,
    `A phone zooms in, since characters have ${fontSize} px`,
  );
  const viewport = await alice.evaluate<string>(
    `document.querySelector("meta[name=viewport]")?.content ?? "none"`,
  );
  const isZoomable = !/user-scalable|maximum-scale/.test(viewport);
  assert(isZoomable, `The page cannot be zoomed: its viewport is ${viewport}`);
});

testBrowser("a screen reader can read the page", async ({ alice }) => {
  type Node = { role?: { value: string }; name?: { value: string } };
  const tree = "Accessibility.getFullAXTree";
  const { nodes } = await alice.ask<{ nodes: Node[] }>(tree);
  for (const role of ["log", "status", "textbox", "button"]) {
    const node = nodes.find((node) => node.role?.value === role);
    assert(node, `A screen reader finds no ${role}`);
    const isClear = role === "status" || node.name?.value;
    assert(isClear, `A screen reader cannot say what the ${role} is for`);
  }
});
