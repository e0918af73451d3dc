/**
 * The chat client: what you type goes to the server, what the others say comes
 * back, both at once.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 192.168.1.7 9999 --name alice
 *     printf 'alice\nhi\n' | deno run --allow-net client.ts
 *
 * Two ways lead through it, and neither waits for the other. Out: a key press,
 * a line (`node:readline`, or TextLineStream in a pipe), `Session.say`, the
 * socket. In: the socket, `readLines`, `Session.run`, the screen.
 */

import { parseArgs } from "@std/cli/parse-args";
import { TextLineStream } from "@std/streams/text-line-stream";
import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import { Writable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import {
  cleanText,
  DEFAULT_HOST,
  DEFAULT_PORT,
  formatAddress,
  GOODBYE_MS,
  isGoodbye,
  isTooLong,
  isWelcome,
  LineTooLongError,
  MAX_MESSAGE_CHARS,
  nameKey,
  parsePort,
  readLines,
  refusalReason,
} from "./protocol.ts";

/** A server that has not answered by then is given up. */
const CONNECT_TIMEOUT_MS = 10_000;

const TOO_LONG = `A message has at most ${
  MAX_MESSAGE_CHARS.toLocaleString("en-US")
} characters: it was not sent.`;

const USAGE = `Usage: deno run --allow-net client.ts [host] [port] [options]

  host          the server's address (default ${DEFAULT_HOST})
  port          its TCP port (default ${DEFAULT_PORT})
  --name NAME   your name; without it you are asked
  --help        show this help

Type a line and press Enter to say it; 'quit', Ctrl+C or Ctrl+D to leave.
In a pipe, the first line of the input is the name.`;

/** One line with the time for the person, not for a program that reads stdout. */
function status(text: string): void {
  console.error(`[${new Date().toTimeString().slice(0, 8)}] ${text}`);
}

/** Ends the program with one line that says what is wrong and what to do. */
function fail(code: 1 | 2, message: string): never {
  console.error(message);
  Deno.exit(code);
}

/**
 * The conversation with the server, without a screen. We trust no server: what
 * it says is cleaned before anybody sees it.
 */
class Session {
  readonly #conn: Deno.TcpConn;
  readonly #output: WritableStreamDefaultWriter<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #answer?: PromiseWithResolvers<string | undefined>;
  /** Whether the server has accepted a name. */
  isMember = false;
  /** Whether we have said that nothing more will come from us. */
  hasLeft = false;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.#output = conn.writable.getWriter(); // writes one after the other
  }

  /** Sends a line. Resolves when the kernel has taken it, or never can. */
  async say(line: string): Promise<void> {
    const bytes = this.#encoder.encode(cleanText(line) + "\n");
    await this.#output.write(bytes).catch(() => {}); // `lines` says why
  }

  /** Offers a name. Resolves to why it was refused, if it was. */
  introduce(name: string): Promise<string | undefined> {
    this.#answer = Promise.withResolvers();
    this.say(name);
    return this.#answer.promise;
  }

  /** Half-close: we send no more, and still hear what is on its way to us. */
  async leave(): Promise<void> {
    this.hasLeft = true;
    await this.#conn.closeWrite().catch(() => {}); // `lines` says why
  }

  /**
   * What the server says, until it ends.
   * @throws {Error} saying why, if it ended before we left, or in the middle.
   */
  async *lines(): AsyncGenerator<string> {
    let last = "";
    try {
      for await (const raw of readLines(this.#conn)) {
        last = cleanText(stripVTControlCharacters(raw));
        yield last; // shown first: a refusal may end the program
        this.#settle(last);
      }
    } catch (error) {
      if (error instanceof LineTooLongError) {
        throw new Error("it sent a line without end. Is it a chat server?");
      }
      throw new Error("the connection broke. Check the network.");
    }
    if (isGoodbye(last)) throw new Error(`it said: ${last}`);
    if (!this.hasLeft) throw new Error("it ended. Check that it is running.");
  }

  /** If this line answers the name that we offered, passes on the answer. */
  #settle(line: string): void {
    if (this.isMember) return;
    const refusal = refusalReason(line);
    this.isMember = isWelcome(line);
    if (this.isMember || refusal) this.#answer?.resolve(refusal);
  }
}

/** In a pipe: a filter, with the server's lines as they are. */
async function runFilter(session: Session, name?: string): Promise<void> {
  const input = Deno.stdin.readable
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream())
    .values();
  speakAll(session, input, name).catch((error) =>
    fail(1, `Cannot read what to say: ${error.message}`)
  );
  const output = Deno.stdout.writable.getWriter();
  const encoder = new TextEncoder();
  for await (const line of session.lines()) {
    const bytes = encoder.encode(line + "\n");
    await output.write(bytes).catch((error) => {
      // nobody reads us any more (`client.ts | head`): that is no error
      if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
      fail(1, `Cannot write what was said: ${error.message}`);
    });
  }
}

/** Says all lines of the input, after the name, and then leaves. */
async function speakAll(
  session: Session,
  input: AsyncIterableIterator<string>,
  name?: string,
): Promise<void> {
  name ??= (await input.next()).value;
  if (name !== undefined && name.trim() !== "quit") {
    const refusal = await session.introduce(name);
    if (refusal) fail(1, `Cannot join: ${refusal} Choose another name.`);
    for await (const line of input) {
      if (line.trim() === "quit") break;
      if (isTooLong(cleanText(line))) status(TOO_LONG);
      else await session.say(line);
    }
  }
  await session.leave();
}

/** Names are told apart by these colours; that of announcements is not here. */
const NAME_COLORS = [31, 32, 34, 35, 36, 91, 92, 94, 95, 96];
const ANNOUNCEMENT_COLOR = 33;

function paint(text: string, color: number): string {
  return Deno.noColor ? text : `\x1b[${color}m${text}\x1b[0m`;
}

/** A line for a person: who speaks can be seen at a glance. */
function decorate(line: string): string {
  const colon = line.indexOf(": ");
  if (line.startsWith("[SYSTEM] ") || colon < 0) {
    return paint(line, ANNOUNCEMENT_COLOR);
  }
  const name = line.slice(0, colon);
  let hash = 0;
  for (const char of nameKey(name)) hash = hash * 31 + char.codePointAt(0)! | 0;
  const color = NAME_COLORS[Math.abs(hash) % NAME_COLORS.length]!;
  return `📨 ${paint(name, color)}${line.slice(colon)}`;
}

/** What readline draws on: the terminal, or nothing while it is hidden. */
class Canvas extends Writable {
  isHidden = false;

  /** Hidden, it is endlessly wide: readline thinks that it draws on one row. */
  get columns(): number {
    return this.isHidden ? Infinity : process.stdout.columns;
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void) {
    if (!this.isHidden) process.stdout.write(chunk);
    done();
  }
}

const NAME_PROMPT = "Name: ";
const MESSAGE_PROMPT = "You: ";

/**
 * A terminal with a line that is being typed, and lines that come in above.
 * Between any two keys it is all the same: go up to where the prompt begins,
 * clear to the end of the screen, print, and let readline draw the prompt.
 */
class Screen {
  readonly #canvas = new Canvas();
  readonly #readline: Interface;
  #waiting = "";
  /** The row of the prompt that the cursor is on. */
  #row = 0;
  #isClosed = false;

  /**
   * @param onLine called with each line typed.
   * @param onLeave called at Ctrl+C and Ctrl+D, and when the window is closed.
   */
  constructor(onLine: (line: string) => void, onLeave: () => void) {
    // The window was closed. We must hear of it before readline does, which
    // would send the half-typed line, though nobody pressed Enter.
    process.stdin.on("end", onLeave);
    process.stdout.on("error", onLeave);
    this.#readline = createInterface({
      input: process.stdin,
      output: this.#canvas,
      terminal: true,
    });
    this.#readline.on("line", (line) => this.#isClosed || onLine(line));
    this.#readline.on("error", onLeave);
    this.#readline.on("SIGINT", onLeave);
    this.#readline.on("close", () => this.#isClosed || onLeave());
    // Ctrl+Z would send a signal, for which we have no permission
    this.#readline.on("SIGTSTP", () => {});
    // arrow up offers what was said, and a name is not
    this.#readline.on("history", (history) => {
      if (this.#readline.getPrompt() === NAME_PROMPT) history.shift();
    });
    // Deno's readline does not notice when a wide letter (漢) that no longer
    // fits on a row begins the next one, so we draw at every change of the row
    process.stdin.on("keypress", () => {
      if (this.#readline.getCursorPos().rows !== this.#row) this.#redraw();
    });
    // by now the terminal has wrapped the line anew, to its new width
    process.stdout.on("resize", () => this.#redraw());
  }

  prompt(text: string): void {
    const { rows } = this.#readline.getCursorPos();
    this.#readline.setPrompt(text);
    this.#redraw("", rows);
  }

  /** Shows a line above the prompt; lines that come together, together. */
  print(line: string): void {
    if (this.#waiting === "") setImmediate(() => this.#redraw());
    this.#waiting += line + "\n";
  }

  /** Puts back a line that was just entered, to be mended. */
  giveBack(line: string, why: string): void {
    this.#canvas.isHidden = true;
    this.#readline.write(line);
    this.#canvas.isHidden = false;
    const { rows } = this.#readline.getCursorPos();
    this.#redraw(why + "\n", rows + 1); // over the line as it was entered
  }

  /** Restores the terminal; what is half typed stays to be seen. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { line } = this.#readline;
    const typed = line === "" ? "" : `${this.#readline.getPrompt()}${line}\n`;
    this.#replace(this.#readline.getCursorPos().rows, this.#waiting + typed);
    this.#readline.close();
  }

  /** Clears from `rows` above the cursor, prints, and shows the prompt again. */
  #redraw(text = "", rows = this.#readline.getCursorPos().rows): void {
    if (this.#isClosed) return;
    // readline would itself go up to where it thinks that the prompt begins;
    // drawing on one row makes it forget that
    this.#canvas.isHidden = true;
    this.#readline.prompt(true);
    this.#canvas.isHidden = false;
    this.#replace(rows, this.#waiting + text);
    this.#waiting = "";
    this.#readline.prompt(true);
    this.#row = this.#readline.getCursorPos().rows;
  }

  // A line that is taller than the window cannot be redrawn cleanly: its top
  // has scrolled away.
  #replace(rows: number, text: string): void {
    const up = rows > 0 ? `\x1b[${rows}A` : "";
    process.stdout.write(`${up}\r\x1b[J${text}`);
  }
}

/** How shells name the end by a signal: 128 and its number. */
const EXIT_CODES = { SIGHUP: 129, SIGTERM: 143 } as const;

/** At a terminal: a prompt, and the others' lines above it. */
async function runTerminal(session: Session, name?: string): Promise<void> {
  let isLeaving = false; // `session.hasLeft` follows when all is sent
  const screen = new Screen(onLine, leave);
  onSignals(screen, leave);
  // what was typed goes out in order, and after the answer to the name
  let sent = name === undefined ? Promise.resolve() : introduce(name);
  screen.prompt(NAME_PROMPT);

  function onLine(line: string): void {
    if (line.trim() === "quit") return leave();
    if (session.isMember && isTooLong(cleanText(line))) {
      return screen.giveBack(line, paint(TOO_LONG, ANNOUNCEMENT_COLOR));
    }
    screen.prompt(session.isMember ? MESSAGE_PROMPT : NAME_PROMPT);
    sent = sent.then(() =>
      session.isMember ? session.say(line) : introduce(line)
    );
  }

  async function introduce(name: string): Promise<void> {
    const refusal = await session.introduce(name);
    if (refusal === undefined) screen.prompt(MESSAGE_PROMPT);
  }

  function leave(): void {
    if (isLeaving) return;
    isLeaving = true;
    sent.then(() => session.leave());
    screen.close();
    status("👋 Goodbye!");
    setTimeout(() => Deno.exit(0), GOODBYE_MS);
  }

  try {
    for await (const line of session.lines()) {
      if (!isLeaving) screen.print(decorate(line));
    }
  } catch (error) {
    if (!isLeaving) throw error;
  } finally {
    screen.close();
  }
}

/** However we end, the terminal must not stay in raw mode. */
function onSignals(screen: Screen, leave: () => void): void {
  Deno.addSignalListener("SIGINT", leave);
  if (Deno.build.os === "windows") return;
  for (const signal of ["SIGHUP", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      screen.close();
      Deno.exit(EXIT_CODES[signal]);
    });
  }
}

interface Options {
  hostname: string;
  port: number;
  name?: string;
}

function parseOptions(args: string[]): Options {
  const flags = parseArgs(args, {
    boolean: ["help"],
    string: ["name", "_"],
    unknown: (arg) => {
      if (arg.startsWith("-")) fail(2, `Unknown option ${arg}: see --help.`);
    },
  });
  if (flags.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const [hostname = DEFAULT_HOST, portText = `${DEFAULT_PORT}`, extra] = flags
    ._.map(String);
  if (extra !== undefined) {
    fail(2, `Unexpected argument "${extra}": expected host and port at most.`);
  }
  if (/^\d*$/.test(hostname)) { // 9999 would be the address 0.0.39.15
    fail(2, `Invalid host "${hostname}": expected a host before the port.`);
  }
  const port = parsePort(portText);
  if (!port) fail(2, `Invalid port "${portText}": expected 1 to 65535.`);
  if (flags.name === "") fail(2, "Missing value for --name: expected a name.");
  return { hostname, port, name: flags.name };
}

async function connect(hostname: string, port: number): Promise<Deno.TcpConn> {
  const address = formatAddress(hostname, port);
  const net = { name: "net", host: address } as const;
  if (Deno.permissions.querySync(net).state !== "granted") {
    fail(1, "No permission for the network: deno run --allow-net client.ts");
  }
  status(`🔄 Connecting to ${address}...`);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), CONNECT_TIMEOUT_MS);
  try {
    return await Deno.connect({ hostname, port, signal: patience.signal });
  } catch (error) {
    const why = error instanceof Deno.errors.ConnectionRefused
      ? "nobody listens there"
      : patience.signal.aborted
      ? "no answer"
      : "no such host, or no way to it";
    fail(
      1,
      `Cannot connect to ${address}: ${why}. ` +
        "Check the host and the port, and that the server is running.",
    );
  } finally {
    clearTimeout(timer);
  }
}

async function main(): Promise<void> {
  const { hostname, port, name } = parseOptions(Deno.args);
  const conn = await connect(hostname, port);
  status(
    "✅ Connected! Type messages and press Enter. Type 'quit' to exit.",
  );
  const session = new Session(conn);
  const isTerminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  try {
    if (isTerminal) {
      await runTerminal(session, name);
    } else {
      Deno.addSignalListener("SIGINT", () => Deno.exit(0));
      await runFilter(session, name);
    }
  } catch (error) {
    fail(1, `The server is gone: ${(error as Error).message}`);
  }
  Deno.exit(0); // a read of stdin may still be waiting
}

if (import.meta.main) await main();
