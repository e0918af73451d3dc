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
 * direction is a loop that reads a chunk, shows it and writes it: `#passOn`. The
 * next chunk is read only after the last one was written. That is back-pressure:
 * a client that does not read stops the loop, and then the server has to wait.
 * It has to wait only after several MB, because the kernel has buffers, too.
 * Each direction ends on its own, so a half-close stays a half-close.
 *
 * The sockets are those of `node:net`, because Deno's own cannot send an RST.
 */

import { parseArgs } from "@std/cli/parse-args";
import { once } from "node:events";
import {
  type AddressInfo,
  connect,
  createServer,
  type Server,
  type Socket,
} from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Where a proxy listens, where its server is, and what it does. */
export interface ProxySettings {
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

  /** Both directions: passes on chunks of at most this many bytes. */
  tear?: number;
  /** Both directions: gathers for this many milliseconds, passes on one chunk. */
  glue?: number;
  /** Both directions: passes on everything this many milliseconds late. */
  delay?: number;
  /** To the client: passes on this many bytes a second. */
  rate?: number;
  /** Reads no more from the server after this many of its lines. */
  stall?: number;
  /** Sends a FIN to the server after this many lines from the client. */
  half?: number;
  /** Sends an RST to both sides after this many lines from the client. */
  reset?: number;
}

/** Only programs on this machine can connect to the proxy. */
const LISTEN_HOST = "127.0.0.1";
/**
 * Without `allowHalfOpen`, `node:net` answers each FIN with a FIN. Without
 * `noDelay`, the kernel may gather small chunks and send them as one.
 */
const SOCKET_OPTIONS = { allowHalfOpen: true, noDelay: true };

/**
 * Starts a proxy.
 *
 * @returns its listener. After a `close()`, that emits "close" as soon as all
 * connections have ended.
 * @throws if it cannot listen on its port.
 */
export async function startProxy(settings: ProxySettings): Promise<Server> {
  let count = 0;
  const listener = createServer(SOCKET_OPTIONS, (client) => {
    count++;
    new Connection(client, count, settings).run();
  });
  listener.listen(settings.listenPort, LISTEN_HOST);
  await once(listener, "listening");
  return listener;
}

// ------------------------------------------------------------ one connection

const TO_SERVER = "──▶";
const TO_CLIENT = "◀──";
const TO_BOTH = "◀─▶";
type Direction = typeof TO_SERVER | typeof TO_CLIENT | typeof TO_BOTH;

/** A write that takes longer than this is shown as a wait. */
const WAIT_NOTICE_MS = 500;
const NEWLINE = 0x0a;

/** One client, and the connection to the server that is opened for it. */
class Connection {
  readonly #server: Socket;

  constructor(
    readonly client: Socket,
    readonly number: number,
    readonly settings: ProxySettings,
  ) {
    this.#server = connect({
      host: settings.serverHost,
      port: settings.serverPort,
      ...SOCKET_OPTIONS,
    });
  }

  /** Waits for the server, then passes on both directions until they end. */
  async run(): Promise<void> {
    this.#show(TO_SERVER, "SYN");
    // An error of a connected socket means that its other end is gone.
    this.client.on("error", () => {
      this.#show(TO_SERVER, "RST");
      this.#server.resetAndDestroy();
    });
    try {
      await once(this.#server, "connect");
    } catch (error) {
      const { message } = error as Error;
      this.#show(TO_CLIENT, `RST: ${message}. Is the server running?`);
      this.client.resetAndDestroy();
      return;
    }
    this.#server.on("error", () => {
      this.#show(TO_CLIENT, "RST");
      this.client.resetAndDestroy();
    });
    const port = this.#server.localPort;
    this.#show(TO_CLIENT, `SYN ACK: the server sees a client on port ${port}`);
    // A direction that fails was reset; the `error` event has passed that on.
    await Promise.allSettled([this.#passToServer(), this.#passToClient()]);
    // With --half or --stall, one direction of a socket is still open.
    this.client.destroySoon();
    this.#server.destroySoon();
  }

  /** Passes on what the client sends: to its FIN, or for the first lines. */
  async #passToServer(): Promise<void> {
    const { half, reset } = this.settings;
    const hasEnded = await this.#passOn(TO_SERVER, half ?? reset);
    if (!hasEnded && reset) {
      this.#show(TO_BOTH, "RST: the proxy sends it to both sides (--reset)");
      this.client.resetAndDestroy();
      this.#server.resetAndDestroy();
      return;
    }
    this.#show(
      TO_SERVER,
      hasEnded ? "FIN" : "FIN: the proxy sends it (--half)",
    );
    this.#server.end();
    // Nothing can follow a FIN, so further input is read and thrown away.
    this.client.resume();
  }

  /** Passes on what the server sends: to its FIN, or for the first lines. */
  async #passToClient(): Promise<void> {
    const hasEnded = await this.#passOn(TO_CLIENT, this.settings.stall);
    if (!hasEnded) {
      this.#show(TO_CLIENT, "waits: the proxy does not read (--stall)");
      return;
    }
    this.#show(TO_CLIENT, "FIN");
    this.client.end();
  }

  /**
   * Passes on one direction, chunk by chunk. Each option adds a generator, which
   * takes chunks and gives chunks, between reading and writing.
   *
   * @param maxLines it stops after this many lines; `undefined` for no limit.
   * @returns whether the sender has ended this direction with a FIN.
   */
  async #passOn(direction: Direction, maxLines?: number): Promise<boolean> {
    const isToServer = direction === TO_SERVER;
    const from = isToServer ? this.client : this.#server;
    const to = isToServer ? this.#server : this.client;
    const { glue, delay, tear, rate } = this.settings;

    // Without this option, the loop would close the socket when it returns.
    let chunks: Chunks = from.iterator({ destroyOnReturn: false });
    if (glue) chunks = glueChunks(chunks, from, glue);
    if (delay) chunks = delayChunks(chunks, delay);
    if (maxLines) chunks = cutIntoLines(chunks);
    if (tear) chunks = tearChunks(chunks, tear);
    if (rate && !isToServer) chunks = slowDownChunks(chunks, rate);

    let lines = 0;
    for await (const chunk of chunks) {
      if (to.destroyed) throw new Error("The receiver was reset");
      this.#show(direction, describeChunk(chunk));
      await this.#write(to, chunk, direction);
      if (chunk.at(-1) === NEWLINE) lines++;
      if (lines === maxLines) return false;
    }
    return true;
  }

  /** Resolves when the kernel has accepted the chunk, however long that takes. */
  async #write(to: Socket, chunk: Uint8Array, direction: Direction) {
    const receiver = direction === TO_SERVER ? "server" : "client";
    let isSlow = false;
    const timer = setTimeout(() => {
      isSlow = true;
      this.#show(direction, `waits: the ${receiver} does not read`);
    }, WAIT_NOTICE_MS);
    try {
      await new Promise<void>((resolve, reject) => {
        to.write(chunk, (error) => error ? reject(error) : resolve());
      });
    } finally {
      clearTimeout(timer);
    }
    if (isSlow) this.#show(direction, `goes on: the ${receiver} reads again`);
  }

  #show(direction: Direction, text: string): void {
    const { print, hasColors } = this.settings;
    const number = hasColors ? color(this.number) : `#${this.number}`;
    print(`${formatTime()} ${number} client ${direction} server  ${text}`);
  }
}

// ----------------------------------------------------------- the bad network

/** Bytes on their way from one socket to the other. */
type Chunks = AsyncIterable<Uint8Array>;

/**
 * The pause after each part of a torn chunk. It lets the receiver read each part
 * on its own; without it, the parts may arrive as one, as TCP carries bytes only.
 */
const TEAR_PAUSE_MS = 2;
/** A longer chunk is torn without pauses, as with them it would take seconds. */
const MAX_BYTES_WITH_PAUSES = 500;
/** The queue of `--delay`. When it is full, the proxy stops reading. */
const MAX_DELAYED_CHUNKS = 256;
/** The pause after each part of a chunk that is slowed down. */
const SLOW_PAUSE_MS = 100;

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

/** `--glue`: sleeps after a chunk, then adds what has arrived in the meantime. */
async function* glueChunks(chunks: Chunks, from: Socket, ms: number): Chunks {
  for await (const chunk of chunks) {
    await sleep(ms);
    const arrived: Uint8Array | null = from.read();
    yield arrived ? Buffer.concat([chunk, arrived]) : chunk;
  }
}

/** `--delay`: a queue of timers, one for each chunk. */
async function* delayChunks(chunks: Chunks, ms: number): Chunks {
  const queue = new TransformStream<Uint8Array, Promise<Uint8Array>>(
    {
      transform: (chunk, timers) => timers.enqueue(sleep(ms, chunk)),
      flush: () => sleep(ms), // The FIN is late, too.
    },
    undefined,
    { highWaterMark: MAX_DELAYED_CHUNKS },
  );
  const timers = ReadableStream.from(chunks).pipeThrough(queue);
  for await (const timer of timers) yield await timer;
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

// ---------------------------------------------------------------- the output

/** Of a longer chunk, only the start is shown, and how many bytes follow. */
const MAX_SHOWN_CHARACTERS = 60;
const MAX_UTF8_BYTES = 4;
/** A decoder writes this character for bytes that it cannot decode. */
const REPLACEMENT = "\ufffd";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
/** Control characters, and others that cannot be seen or that reorder the text. */
const INVISIBLE = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u;
const ESCAPES: Record<string, string> = {
  " ": " ",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  '"': '\\"',
  "\\": "\\\\",
};

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
  const known = ESCAPES[character];
  if (known) return known;
  const code = character.codePointAt(0)!.toString(16);
  return INVISIBLE.test(character) ? `\\u{${code}}` : character;
}

function escapeByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

// ---------------------------------------------------------- the command line

const DEFAULT_PORT = "9998";
const DEFAULT_SERVER = "127.0.0.1:9999";
const USAGE = `Usage: deno task proxy [PORT] [HOST:PORT] [options]

Shows what passes between clients and the server. Ctrl+C ends it.

  PORT         listen for clients on this port (default ${DEFAULT_PORT})
  HOST:PORT    pass on to this server (default ${DEFAULT_SERVER})
  --tear N     both directions: pass on chunks of at most N bytes
  --glue MS    both directions: gather for MS milliseconds, pass on one chunk
  --delay MS   both directions: pass on everything MS milliseconds late
  --rate N     to the client: pass on N bytes a second, as if it reads slowly
  --stall N    after N lines from the server, read no more from it
  --half N     after N lines from the client, send a FIN to the server; what the
               server sends after that is still passed on
  --reset N    after N lines from the client, send an RST to both sides
  -h, --help   show this help

Without --half, too, a FIN ends one direction only.`;

/** The options that take a number. */
const OPTIONS = [
  "tear",
  "glue",
  "delay",
  "rate",
  "stall",
  "half",
  "reset",
] as const;

function exit(status: 0 | 1 | 2, message: string): never {
  if (status === 0) console.log(message);
  else console.error(message);
  Deno.exit(status);
}

function parseCommandLine(args: string[]): ProxySettings {
  const flags = parseArgs(args, {
    boolean: ["help"],
    string: [...OPTIONS, "_"],
    alias: { help: "h" },
    unknown(arg) {
      if (arg.startsWith("-")) exit(2, `Unknown option ${arg}: see --help.`);
    },
  });
  if (flags.help) exit(0, USAGE);
  const words = flags._.map(String);
  const port = words[0] ?? DEFAULT_PORT;
  const server = words[1] ?? DEFAULT_SERVER;
  if (words.length > 2) {
    exit(2, `Unexpected argument "${words[2]}": see --help.`);
  }
  const match = /^(.+):(\d+)$/.exec(server);
  if (!match) exit(2, `Wrong server "${server}": see --help.`);
  const settings: ProxySettings = {
    listenPort: parsePort(port),
    serverHost: match[1]!.replace(/[[\]]/g, ""), // An IPv6 address has brackets.
    serverPort: parsePort(match[2]!),
    print: (line) => console.log(line),
    hasColors: Deno.stdout.isTerminal() && !Deno.noColor,
  };
  for (const name of OPTIONS) settings[name] = parseNumber(name, flags[name]);
  const hasBoth = settings.half && settings.reset;
  if (hasBoth) exit(2, "Give --half or --reset, not both: see --help.");
  return settings;
}

function parseNumber(name: string, text?: string): number | undefined {
  if (text === undefined) return undefined;
  const isNumber = /^[1-9]\d{0,8}$/.test(text);
  if (!isNumber) exit(2, `Wrong --${name} "${text}": see --help.`);
  return Number(text);
}

function parsePort(text: string): number {
  const port = Number(text);
  const isPort = /^\d{1,5}$/.test(text) && port <= 65_535;
  if (!isPort) exit(2, `Wrong port "${text}": see --help.`);
  return port;
}

async function main(): Promise<void> {
  const settings = parseCommandLine(Deno.args);
  const { state } = await Deno.permissions.request({ name: "net" });
  if (state !== "granted") exit(1, "Cannot start: add --allow-net.");
  try {
    const listener = await startProxy(settings);
    const { port } = listener.address() as AddressInfo;
    const { serverHost, serverPort } = settings;
    console.log(`Listens on port ${port} of ${LISTEN_HOST}.`);
    console.log(`Passes on to port ${serverPort} of ${serverHost}.`);
  } catch (error) {
    const { message } = error as Error;
    exit(1, `Cannot start: ${message}. Choose another port.`);
  }
}

if (import.meta.main) await main();
