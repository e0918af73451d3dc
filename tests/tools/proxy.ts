/**
 * A proxy that shows what passes between clients and a server, and that can be
 * the bad network which one's own machine never is.
 *
 *     deno task server                    in a first terminal
 *     deno task proxy                     in a second one: it listens on port 9998
 *     deno task client 127.0.0.1 9998     in a third one
 *     deno task proxy --help              says how to make the network bad
 *
 * Its output reads like a score: the client is on the left, the server is on the
 * right, and each line is one chunk or one event, at the time of passing it on:
 *
 *     14:23:45.123 #1 client ──▶ server      6 bytes  "alice\n"
 *     14:23:45.125 #1 client ◀── server     53 bytes  "[SYSTEM] Welcome, alice! …
 *
 * For each client, the proxy opens a connection of its own to the server. Each
 * direction is one loop, `#passOn`: read a chunk, change it, show it, write it.
 *
 * - The next chunk is read only after the last one was written. That is
 *   back-pressure: a client that does not read stops the loop, and then the server
 *   has to wait. It has to wait only after several MB, as the kernel has buffers.
 * - Each direction ends on its own, so a half-close stays a half-close.
 */

import { parseArgs } from "@std/cli/parse-args";
import { once } from "node:events";
import net from "node:net";

/** The options that make the network bad. Each takes a number. */
const OPTIONS = {
  tear: "N     both directions: pass on chunks of at most N bytes",
  glue: "MS    both directions: gather for MS milliseconds, pass on one chunk",
  delay: "MS   both directions: pass on everything MS milliseconds late",
  rate: "N     to the client: pass on N bytes a second, as if it reads slowly",
  stall: "N    after N lines from the server, read no more from it",
  half: "N     after N lines from the client, send a FIN to the server",
  reset: "N    after N lines from the client, send an RST to both sides",
};
type Option = keyof typeof OPTIONS;

/** Where a proxy listens, where its server is, and the values of the options. */
export interface ProxySettings extends Partial<Record<Option, number>> {
  /** The TCP port for clients; 0 for any free one. */
  listenPort: number;
  /** The server's name or IP address. */
  serverHost: string;
  /** The server's TCP port. */
  serverPort: number;
  /** Receives each line of the output. */
  print(line: string): void;
  /** Whether the number of each connection is shown in a color. */
  hasColors?: boolean;
}

/** A proxy that has been started. */
export interface StartedProxy {
  /** The TCP port on which it listens. */
  port: number;
  /** Accepts no more clients. Resolves when the last connection has ended. */
  stop(): Promise<void>;
}

/**
 * Starts a proxy.
 *
 * @throws if it cannot listen on its port.
 */
export async function startProxy(
  settings: ProxySettings,
): Promise<StartedProxy> {
  const connections: Promise<void>[] = [];
  const listen = settings.reset ? listenWithNode : listenWithDeno;
  const listener = await listen(settings.listenPort, (client) => {
    const connection = new Connection(connections.length + 1, settings);
    connections.push(connection.run(client));
  });

  async function stop(): Promise<void> {
    listener.close();
    await Promise.all(connections);
  }
  return { port: listener.port, stop };
}

// ------------------------------------------------------------ one connection

/** Who sends something, and in which direction. The proxy can send in both. */
const ARROWS = { client: "──▶", server: "◀──", proxy: "◀─▶" };
type Sender = keyof typeof ARROWS;
type Name = "client" | "server";

/** A write that takes longer than this is shown as a wait. */
const WAIT_NOTICE_MS = 500;
const NEWLINE = 0x0a;

/** An RST ends both directions, whatever they are doing. So it is an error. */
class Reset extends Error {
  constructor(readonly sender: Sender, message: string) {
    super(message);
  }
}

/** One client, and the connection to the server that is opened for it. */
class Connection {
  #wasReset = false;

  constructor(readonly number: number, readonly settings: ProxySettings) {}

  /** Connects to the server, then passes on both directions. */
  async run(client: Side): Promise<void> {
    this.#show("client", "SYN");
    const server = await this.#connect();
    if (server) await this.#passOnBoth(client, server);
    else client.close();
  }

  /** Connects to the server. If that fails, shows why. */
  async #connect(): Promise<Side | undefined> {
    const { reset, serverHost, serverPort } = this.settings;
    const connect = reset ? connectWithNode : connectWithDeno;
    try {
      const server = await connect(serverHost, serverPort);
      const { port } = server;
      this.#show("server", `SYN ACK: the server sees a client on port ${port}`);
      return server;
    } catch (error) {
      const { message } = error as Error;
      this.#show("server", `no SYN ACK: ${message}. Is the server running?`);
      return undefined;
    }
  }

  /** Passes on both directions until they have ended, each with its FIN. */
  async #passOnBoth(client: Side, server: Side): Promise<void> {
    const toServer = this.#passOn(client, server);
    const toClient = this.#passOn(server, client);
    try {
      await Promise.all([toServer, toClient]);
      client.close();
      server.close();
    } catch (error) {
      if (!(error instanceof Reset)) throw error;
      this.#show(error.sender, error.message);
      this.#wasReset = true;
      client.reset();
      server.reset();
      // Now the other direction fails, too.
      await Promise.allSettled([toServer, toClient]);
    }
  }

  /** Passes on one direction, chunk by chunk, and then its FIN. */
  async #passOn(from: Side, to: Side): Promise<void> {
    const { stall, half, reset } = this.settings;
    const maxLines = from.name === "server" ? stall : half ?? reset;
    let lines = 0;
    for await (const chunk of this.#change(from, maxLines)) {
      this.#show(from.name, describeChunk(chunk));
      await this.#write(chunk, from, to);
      if (chunk.at(-1) === NEWLINE) lines++;
      if (lines === maxLines) return await this.#endEarly(from, to);
    }
    this.#show(from.name, "FIN");
    await to.sendFin();
  }

  /** Reads chunk by chunk. Each option adds a step that takes and gives chunks. */
  #change(from: Side, maxLines?: number): Chunks {
    const { glue, delay, tear, rate } = this.settings;
    let chunks = from.read();
    if (glue) chunks = glueChunks(chunks, glue);
    if (delay) chunks = delayChunks(chunks, delay);
    if (maxLines) chunks = cutIntoLines(chunks);
    if (tear) chunks = tearChunks(chunks, tear);
    if (rate && from.name === "server") chunks = slowDownChunks(chunks, rate);
    return chunks;
  }

  /** Writes a chunk, however long the receiver takes to accept it. */
  async #write(chunk: Uint8Array, from: Side, to: Side): Promise<void> {
    const timer = setTimeout(() => {
      this.#show(from.name, `waits: the ${to.name} does not read`);
    }, WAIT_NOTICE_MS);
    await to.write(chunk).finally(() => clearTimeout(timer));
  }

  /** Does what `--stall`, `--half` or `--reset` says, after the last of its lines. */
  async #endEarly(from: Side, to: Side): Promise<void> {
    if (from.name === "server") {
      this.#show("server", "waits: the proxy does not read (--stall)");
    } else if (this.settings.reset) {
      const cause = "the proxy sends it to both sides (--reset)";
      throw new Reset("proxy", `RST: ${cause}`);
    } else {
      this.#show("client", "FIN: the proxy sends it (--half)");
      await to.sendFin();
      // Nothing can follow a FIN, so further input is read and thrown away.
      for await (const _chunk of from.read());
    }
  }

  /** Shows what happens, until an RST has ended the connection. */
  #show(sender: Sender, text: string): void {
    if (this.#wasReset) return;
    const { print, hasColors } = this.settings;
    const number = hasColors ? color(this.number) : `#${this.number}`;
    print(`${formatTime()} ${number} client ${ARROWS[sender]} server  ${text}`);
  }
}

// ----------------------------------------------------------- the bad network

/** Bytes on their way from one side to the other. */
type Chunks = AsyncIterable<Uint8Array>;

/**
 * The pause after each part of a torn chunk. It lets the receiver read each part
 * on its own; without it, the parts may arrive as one, as TCP carries bytes only.
 */
const TEAR_PAUSE_MS = 2;
/** A longer chunk is torn without pauses, as with them it would take seconds. */
const MAX_BYTES_WITH_PAUSES = 500;
/** The pause after each part of a chunk that is slowed down. */
const SLOW_PAUSE_MS = 100;
/** `--glue` and `--delay` hold at most this many chunks. Then reading pauses. */
const MAX_HELD_CHUNKS = 256;

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Cuts a chunk into parts of at most `size` bytes. */
function* cut(chunk: Uint8Array, size: number): Iterable<Uint8Array> {
  for (let start = 0; start < chunk.length; start += size) {
    yield chunk.subarray(start, start + size);
  }
}

/** `--tear`: passes on each chunk in parts. */
async function* tearChunks(chunks: Chunks, size: number): Chunks {
  for await (const chunk of chunks) {
    for (const part of cut(chunk, size)) {
      yield part;
      if (chunk.length <= MAX_BYTES_WITH_PAUSES) await sleep(TEAR_PAUSE_MS);
    }
  }
}

/** `--rate`: passes on each chunk in parts, and pauses after each part. */
async function* slowDownChunks(chunks: Chunks, bytesPerSecond: number): Chunks {
  const size = Math.ceil(bytesPerSecond * SLOW_PAUSE_MS / 1_000);
  for await (const chunk of chunks) {
    for (const part of cut(chunk, size)) {
      yield part;
      await sleep(1_000 * part.length / bytesPerSecond);
    }
  }
}

/** `--glue`: holds a chunk, and adds what else comes until the time is up. */
function glueChunks(chunks: Chunks, ms: number): Chunks {
  const held: Uint8Array[] = [];
  let passedOn = Promise.resolve();
  const stage = new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, output) {
      held.push(chunk);
      if (held.length === 1) {
        passedOn = sleep(ms)
          .then(() => output.enqueue(Buffer.concat(held.splice(0))))
          .catch(() => {}); // After an RST, nobody takes the chunk.
      }
      if (held.length >= MAX_HELD_CHUNKS) await passedOn;
    },
    flush: () => passedOn,
  });
  return ReadableStream.from(chunks).pipeThrough(stage);
}

/** `--delay`: holds each chunk for so long. Equal timers end in their order. */
function delayChunks(chunks: Chunks, ms: number): Chunks {
  let heldCount = 0;
  const stage = new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, output) {
      heldCount++;
      const passedOn = sleep(ms)
        .then(() => output.enqueue(chunk))
        .catch(() => {}) // After an RST, nobody takes the chunk.
        .finally(() => heldCount--);
      if (heldCount >= MAX_HELD_CHUNKS) await passedOn;
    },
    flush: () => sleep(ms), // The FIN is late, too.
  });
  return ReadableStream.from(chunks).pipeThrough(stage);
}

/** Cuts after each newline, so that the proxy can stop after N lines. */
async function* cutIntoLines(chunks: Chunks): Chunks {
  for await (const chunk of chunks) {
    let start = 0;
    while (start < chunk.length) {
      const newline = chunk.indexOf(NEWLINE, start);
      const end = newline === -1 ? chunk.length : newline + 1;
      yield chunk.subarray(start, end);
      start = end;
    }
  }
}

// ---------------------------------------------------------------- the sockets

/** Only programs on this machine can connect to the proxy. */
const LISTEN_HOST = "127.0.0.1";
/** After an error such as "too many open files", accepting pauses for this long. */
const ACCEPT_RETRY_MS = 100;
/** One read takes at most this many bytes. */
const BUFFER_SIZE = 64 * 1024;

/** A connection of the proxy, either to a client or to the server. */
type Side = DenoSide | NodeSide;
/** Is called for each client that connects. */
type OnClient = (client: Side) => void;

function listenWithDeno(port: number, onClient: OnClient) {
  const listener = Deno.listen({ hostname: LISTEN_HOST, port });
  async function acceptClients(): Promise<void> {
    for (;;) {
      try {
        onClient(new DenoSide("client", await listener.accept()));
      } catch (error) {
        if (error instanceof Deno.errors.BadResource) return; // by `close`
        await sleep(ACCEPT_RETRY_MS);
      }
    }
  }
  acceptClients();
  return { port: listener.addr.port, close: () => listener.close() };
}

async function connectWithDeno(hostname: string, port: number) {
  return new DenoSide("server", await Deno.connect({ hostname, port }));
}

/** A connection of Deno. */
class DenoSide {
  readonly port: number;

  constructor(
    readonly name: Name,
    readonly conn: Deno.TcpConn,
  ) {
    this.port = conn.localAddr.port;
    // Otherwise, the kernel may gather small chunks and send them as one.
    conn.setNoDelay();
  }

  /** Reads chunk by chunk, up to the FIN. */
  async *read(): Chunks {
    const buffer = new Uint8Array(BUFFER_SIZE);
    for (;;) {
      const count = await this.conn.read(buffer).catch(this.#fail);
      if (count === null) return;
      yield buffer.slice(0, count);
    }
  }

  /** Resolves when the kernel has accepted the whole chunk. */
  async write(chunk: Uint8Array): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      const count = await this.conn.write(rest).catch(this.#fail);
      rest = rest.subarray(count);
    }
  }

  /** Ends one direction. The other one stays open. */
  async sendFin(): Promise<void> {
    await this.conn.closeWrite().catch(this.#fail);
  }

  close(): void {
    this.conn.close();
  }

  /** Sends a FIN, not an RST: see {@linkcode NodeSide}. */
  reset(): void {
    this.conn.close();
  }

  /** A read or a write fails if the other end has sent an RST. */
  readonly #fail = (): never => {
    throw new Reset(this.name, "RST, passed on as a FIN");
  };
}

// -------------------------------------------------------------- sending an RST

/** Without this option, `node:net` answers each FIN with a FIN. */
const SOCKET_OPTIONS = { allowHalfOpen: true, noDelay: true };

async function listenWithNode(port: number, onClient: OnClient) {
  const listener = net.createServer(SOCKET_OPTIONS, (socket) => {
    onClient(new NodeSide("client", socket));
  });
  listener.listen(port, LISTEN_HOST);
  await once(listener, "listening");
  const address = listener.address() as net.AddressInfo;
  return { port: address.port, close: () => listener.close() };
}

async function connectWithNode(host: string, port: number) {
  const socket = net.connect({ host, port, ...SOCKET_OPTIONS });
  await once(socket, "connect");
  return new NodeSide("server", socket);
}

/**
 * A socket of `node:net` in place of Deno's, for `--reset`: Deno cannot send an RST.
 * When Deno closes a connection, it sends a FIN first, even if it has not read all of
 * the input. So the other end reads the end of the input, and no error.
 */
class NodeSide {
  readonly port: number;

  constructor(
    readonly name: Name,
    readonly socket: net.Socket,
  ) {
    this.port = socket.localPort!;
    // `read` and `write` fail, too. Without this, an error would end the program.
    socket.on("error", () => {});
  }

  async *read(): Chunks {
    try {
      // Without this option, the end of the input would close the socket.
      yield* this.socket.iterator({ destroyOnReturn: false });
    } catch {
      throw new Reset(this.name, "RST");
    }
  }

  write(chunk: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(chunk, (error) => {
        if (error) reject(new Reset(this.name, "RST"));
        else resolve();
      });
    });
  }

  sendFin(): Promise<void> {
    return new Promise((resolve) => this.socket.end(resolve));
  }

  close(): void {
    this.socket.destroy();
  }

  reset(): void {
    this.socket.resetAndDestroy();
  }
}

// ---------------------------------------------------------------- the output

/** Of a longer chunk, only the start is shown, and how many bytes follow. */
const MAX_SHOWN_CHARACTERS = 60;
const MAX_UTF8_BYTES = 4;
/** A decoder writes this character for bytes that it cannot decode. */
const REPLACEMENT = "\ufffd";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
/** Control characters, and others that cannot be seen or that reorder the text. */
const INVISIBLE = /(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u;
/** These are escaped as in the source of a program: `\\n`. */
const SPECIAL = /[\n\r\t"\\]/;

/** Each of six connections in turn has a color of its own. */
function color(number: number): string {
  return `\x1b[${31 + number % 6}m#${number}\x1b[0m`;
}

/** The time of day, for example `14:23:45.123`. */
function formatTime(): string {
  const now = new Date();
  const milliseconds = `${now.getMilliseconds()}`.padStart(3, "0");
  return `${now.toTimeString().slice(0, 8)}.${milliseconds}`;
}

/**
 * Describes a chunk for the terminal: its number of bytes, and its text.
 *
 * What cannot be seen is escaped, so the text cannot control the terminal.
 */
export function describeChunk(chunk: Uint8Array): string {
  let text = "";
  let end = 0;
  for (let n = 0; n < MAX_SHOWN_CHARACTERS && end < chunk.length; n++) {
    const character = firstCharacter(chunk.subarray(end));
    if (character === REPLACEMENT) {
      text += escapeByte(chunk[end]!);
      end++;
    } else {
      text += escapeCharacter(character);
      end += Buffer.byteLength(character);
    }
  }
  const size = `${chunk.length}`.padStart(5);
  const unit = chunk.length === 1 ? "byte " : "bytes";
  const rest = chunk.length - end;
  const more = rest > 0 ? `… and ${rest} more` : "";
  return `${size} ${unit}  "${text}"${more}`;
}

/** `REPLACEMENT` for bytes that are not UTF-8, or half a character. */
function firstCharacter(bytes: Uint8Array): string {
  const text = decoder.decode(bytes.subarray(0, MAX_UTF8_BYTES));
  return [...text][0]!;
}

function escapeCharacter(character: string): string {
  if (SPECIAL.test(character)) return JSON.stringify(character).slice(1, -1);
  if (!INVISIBLE.test(character)) return character;
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

function escapeByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

// ------------------------------------------------------------ the command line

const DEFAULT_PORT = "9998";
const DEFAULT_SERVER = "127.0.0.1:9999";
const MAX_PORT = 65_535;
const OPTION_LINES = Object.entries(OPTIONS)
  .map(([name, text]) => `  --${name} ${text}`)
  .join("\n");
const USAGE = `Usage: deno task proxy [PORT] [HOST:PORT] [options]

Shows what passes between clients and the server. Ctrl+C ends it.

  PORT         listen for clients on this port (default ${DEFAULT_PORT})
  HOST:PORT    pass on to this server (default ${DEFAULT_SERVER})
${OPTION_LINES}
  -h, --help   show this help

Without --half, too, a FIN ends one direction only.`;

function exit(status: 0 | 1 | 2, message: string): never {
  if (status === 0) console.log(message);
  else console.error(message);
  Deno.exit(status);
}

function parseCommandLine(args: string[]): ProxySettings {
  const names = Object.keys(OPTIONS) as Option[];
  const flags = parseArgs(args, {
    boolean: ["help"],
    string: [...names, "_"],
    alias: { help: "h" },
    unknown(arg) {
      if (arg.startsWith("-")) exit(2, `Unknown option ${arg}: see --help.`);
    },
  });
  if (flags.help) exit(0, USAGE);
  const [port = DEFAULT_PORT, server = DEFAULT_SERVER, more] = flags._;
  if (more !== undefined) exit(2, `Unexpected argument "${more}": see --help.`);
  const match = /^(.+):(\d+)$/.exec(`${server}`);
  if (!match) exit(2, `Wrong server "${server}": see --help.`);
  const settings: ProxySettings = {
    listenPort: parseNumber("port", `${port}`, 0, MAX_PORT),
    serverHost: match[1]!.replace(/[[\]]/g, ""), // An IPv6 address has brackets.
    serverPort: parseNumber("port", match[2]!, 1, MAX_PORT),
    print: (line) => console.log(line),
    hasColors: Deno.stdout.isTerminal() && !Deno.noColor,
  };
  for (const name of names) {
    const text = flags[name];
    if (text !== undefined) settings[name] = parseNumber(`--${name}`, text, 1);
  }
  const hasBoth = settings.half && settings.reset;
  if (hasBoth) exit(2, "Give --half or --reset, not both: see --help.");
  return settings;
}

function parseNumber(
  name: string,
  text: string,
  min: number,
  max = Infinity,
): number {
  const number = Number(text);
  const isRight = /^\d+$/.test(text) && number >= min && number <= max;
  return isRight ? number : exit(2, `Wrong ${name} "${text}": see --help.`);
}

async function main(): Promise<void> {
  const settings = parseCommandLine(Deno.args);
  const { serverHost, serverPort } = settings;
  try {
    const proxy = await startProxy(settings);
    console.log(`Listens on port ${proxy.port} of ${LISTEN_HOST}.`);
    console.log(`Passes on to port ${serverPort} of ${serverHost}.`);
  } catch (error) {
    const { message } = error as Error;
    const advice = /in use/.test(message) ? " Choose another port." : "";
    exit(1, `Cannot listen: ${message}.${advice}`);
  }
}

if (import.meta.main) await main();
