/**
 * The chat client: what you type goes to the server, what the others say comes
 * back, both at once.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 192.168.1.7:9999 --name alice
 *     printf 'alice\nhi\n' | deno run --allow-net client.ts
 *
 * Two ways lead through it, and neither waits for the other:
 *
 *     out   keys → Screen.type → lines ──┬→ Chat.say → socket
 *           in a pipe, stdin → readLines ┘
 *     in    socket → readLines → Chat.lines ┬→ decorate → Screen.print
 *                                           └→ stdout, in a pipe
 */

import { parseArgs } from "@std/cli/parse-args";
import process from "node:process";
import { createInterface } from "node:readline";
import { Readable, Writable } from "node:stream";
import {
  cleanText,
  DEFAULT_HOST,
  DEFAULT_PORT,
  formatAddress,
  GOODBYE_MS,
  isTooLong,
  isWelcome,
  nameKey,
  parsePort,
  readLines,
  refusalReason,
  texts,
} from "./protocol.ts";

// A server that takes longer is given up, exit status 1; people may take longer.
const CONNECT_MS = 10_000;
const ANSWER_MS = 5_000; // to answer a name, and to hang up when we have left
const SEND_MS = 60_000; // to take a line: in a full room it makes us wait
const HINT = "Type messages and press Enter. Type 'quit' to exit.";
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";
const QUIT = /^\s*\/?quit\s*$/;
const USAGE = `Usage: deno run --allow-net client.ts [host] [port] [options]

  host          the server's address (default ${DEFAULT_HOST}), or host:port
  port          its TCP port (default ${DEFAULT_PORT})
  --name NAME   your name; without it you are asked
  -h, --help    show this help

Type a line and press Enter to say it; 'quit', Ctrl+C or Ctrl+D to leave.
In a pipe, the first line of the input is the name.`;

/** Orders to a terminal; without their ESC they would be litter. */
// deno-lint-ignore no-control-regex
const ORDERS = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*/g;

const encode = (line: string) => new TextEncoder().encode(line + "\n");
/** One line for the person, not for a program that reads stdout. */
const status = (text: string) =>
  console.error(`[${new Date().toTimeString().slice(0, 8)}] ${text}`);

let screen: Screen | undefined; // at a terminal; it must be restored at the end

/** The one end of the program. 0 is well; 1 and 2 say what was wrong. */
function end(code: number, message?: string): never {
  screen?.close();
  if (message) console[code === 0 ? "log" : "error"](message);
  Deno.exit(code);
}

/** The conversation, without a screen. We trust no server: its text is cleaned. */
class Chat {
  #said = Promise.resolve();
  #refusals = 0;
  #onLine = () => {};
  /** Whether a name has been accepted; until then all that we say is one. */
  isMember = false;
  hasLeft = false;

  constructor(private readonly conn: Deno.TcpConn) {}

  /** Says one line after the other, and nothing while a name is not answered. */
  say(line: string): Promise<void> {
    const refusals = this.#refusals;
    return this.#said = this.#said.then(async () => {
      // it was typed for the chat; after a refusal it would be the next name
      if (refusals < this.#refusals) return screen?.print(`Not sent: ${line}`);
      const ms = this.isMember ? SEND_MS : ANSWER_MS;
      const timer = setTimeout(() => end(1, "The server does not answer."), ms);
      await ReadableStream.from([encode(cleanText(line))])
        .pipeTo(this.conn.writable, { preventClose: true }).catch(() => {});
      while (!this.isMember && refusals === this.#refusals) {
        await new Promise<void>((resolve) => this.#onLine = resolve);
      }
      clearTimeout(timer);
    });
  }

  /** Half-close: no more from us, but we hear what is on its way to us. */
  leave(): void {
    this.hasLeft = true;
    this.#said.then(() => this.conn.closeWrite()).catch(() => {});
  }

  /** What the server says. When it ends, so does the program. */
  async *lines(): AsyncGenerator<string> {
    let last = "";
    for await (const line of readLines(this.conn)) {
      yield last = cleanText(line.replace(ORDERS, ""));
      this.isMember ||= isWelcome(last);
      if (refusalReason(last)) this.#refusals++;
      this.#onLine();
    }
    if ([texts.full, texts.noName, texts.shutdown].includes(last)) end(1);
    if (this.hasLeft) end(0);
    end(1, "The server is gone: it ended. Check that it is running.");
  }
}

/** In a pipe: a filter, with the server's lines as they are. */
async function runFilter(chat: Chat, name?: string): Promise<void> {
  sayAll(chat, name);
  const output = Deno.stdout.writable.getWriter();
  for await (const line of chat.lines()) {
    await output.write(encode(line)).catch((error) => {
      // nobody reads us any more (`client.ts | head`): that is no error
      if (error instanceof Deno.errors.BrokenPipe) end(0);
      end(1, `Cannot write what was said: ${error.message}`);
    });
    const refusal = !chat.isMember && refusalReason(line);
    if (refusal) end(1, `Cannot join: ${refusal} Choose another name.`);
  }
}

/** Says all lines of the input, and then leaves. */
async function sayAll(chat: Chat, name?: string): Promise<void> {
  if (name !== undefined) await chat.say(name);
  for await (const line of readLines(Deno.stdin)) {
    if (QUIT.test(line)) break;
    if (chat.isMember && isTooLong(cleanText(line))) status(TOO_LONG);
    else await chat.say(line);
  }
  chat.leave();
  setTimeout(() => end(1, "The server does not hang up."), ANSWER_MS);
}

// A gap could fill up the row, and make what follows look like an announcement.
// (So can letters: then only the colour tells.)
const GAPS = /[\s\u115f\u1160\u200b-\u200d\u2060\u2800\u3164\uffa0]{5,}/g;

/** A line for a person: who speaks can be seen at a glance. */
function decorate(line: string): string {
  const text = line.replace(GAPS, "    ");
  const [, name = "", said] = /^([^ ]{1,40})(: .*)$/.exec(text) ?? [];
  if (Deno.noColor) return name ? `📨 ${text}` : text;
  if (!name) return `\x1b[33m${text}\x1b[0m`;
  const colors = [31, 32, 34, 35, 36, 91, 92, 94, 95, 96];
  let hash = 0;
  for (const char of nameKey(name)) hash = hash * 31 + char.codePointAt(0)! | 0;
  const color = colors[Math.abs(hash) % colors.length];
  return `📨 \x1b[${color}m${name}\x1b[0m${said}`;
}

/** A key, as a terminal sends it, or so many letters that they are pasted. */
// deno-lint-ignore no-control-regex
const KEYS = /\x1b[[O]?[0-?]{0,8}[^]?|[^\x00-\x1f\x7f]{16,}|[^]/gu;

/**
 * A terminal with a line that is being typed, and lines that come in above.
 * readline edits the line, but does not know what else is on the screen. So we
 * draw, once in a turn of the event loop: up to where the prompt begins, clear
 * all below, print what came in, and then the prompt as readline draws it.
 *
 * Not handled: terminals do not agree with readline on the width of joined emoji
 * and of the marks of some scripts (Thai, Devanagari); a line taller than the
 * window; a window resized while lines come in. They leave pieces of the prompt
 * behind. And whether a terminal is dumb (TERM) we may not ask.
 */
class Screen {
  readonly #keys = new Readable({ read() {} });
  readonly #canvas = new Writable({
    write: (chunk, _encoding, done) => done(void (this.#drawn += chunk)),
  });
  readonly #readline = createInterface(this.#keys, this.#canvas, void 0, true);
  /** What readline has drawn, and what goes to the terminal before it. */
  #drawn = "";
  #above = "";

  constructor(private readonly chat: Chat) {
    this.#readline.on("line", (line) => this.#enter(line));
    this.#readline.on("SIGINT", this.leave).on("close", this.leave);
    this.#readline.on("SIGTSTP", () => {}); // Ctrl+Z: we may send no signals
    // arrow up offers what was said, and a name is not
    this.#readline.on("history", (said) => chat.isMember || said.shift());
    process.stdout.on("resize", () => this.#lift()).on("error", this.leave);
    Deno.stdin.setRaw(true);
    this.#lift();
  }

  type(text: string): void {
    this.#lift();
    for (const key of text.replaceAll("\t", " ").match(KEYS) ?? []) {
      if (this.chat.hasLeft) return;
      // readline measures the whole line at each key, but a paste in one piece
      if (key.length < 16) this.#keys.emit("data", key);
      else this.#readline.write(key);
    }
  }

  #enter(line: string): void {
    if (this.chat.isMember && isTooLong(cleanText(line))) {
      this.print(TOO_LONG);
      return this.#readline.write(line); // back it comes, to be mended
    }
    this.print(this.#readline.getPrompt() + line);
    if (QUIT.test(line)) this.leave();
    else this.chat.say(line);
  }

  /** Shows a line above the prompt. */
  print(line: string): void {
    this.#lift();
    this.#above += line + "\n";
  }

  leave = () => {
    if (this.chat.hasLeft) return;
    this.chat.leave();
    this.close();
    status("👋 Goodbye!");
    setTimeout(() => end(0), GOODBYE_MS);
  };

  /** Restores the terminal, once; what is half typed stays to be seen. */
  close(): void {
    screen = undefined;
    const { line } = this.#readline;
    if (line) this.print(this.#readline.getPrompt() + line);
    this.#lift();
    process.stdout.write(this.#above);
    Deno.stdin.setRaw(false);
  }

  /** Takes the prompt away, as long as we know where it is. */
  #lift(): void {
    if (this.#above) return;
    Object.assign(this.#canvas, { columns: process.stdout.columns });
    const { rows } = this.#readline.getCursorPos();
    this.#above = (rows > 0 ? `\x1b[${rows}A` : "") + "\r\x1b[J";
    setImmediate(() => this.#draw());
  }

  #draw(): void {
    if (this.chat.hasLeft) return;
    Object.assign(this.#readline, { prevRows: 0 }); // we have gone up already
    this.#drawn = "";
    this.#readline.setPrompt(this.chat.isMember ? "You: " : "Name: ");
    this.#readline.prompt(true);
    process.stdout.write(this.#above + this.#drawn);
    this.#above = "";
  }
}

/** At a terminal: a prompt, and the others' lines above it. */
async function runTerminal(chat: Chat, name?: string): Promise<void> {
  const view = screen = new Screen(chat);
  if (name !== undefined) chat.say(name);
  Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeTo(new WritableStream({ write: (text) => view.type(text) }))
    .catch(() => {}).then(view.leave); // the window was closed
  for await (const line of chat.lines()) {
    // whoever has given a name already need not see the question for it
    const isQuestion = name !== undefined && line.startsWith("[SYSTEM] Enter");
    if (chat.isMember || !isQuestion) view.print(decorate(line));
    if (!chat.isMember && isWelcome(line)) view.print(HINT);
  }
}

function parseOptions(args: string[]) {
  const { _: words, name, help, h } = parseArgs(args, {
    boolean: ["help", "h"],
    string: ["name", "_"],
    unknown: (arg) => {
      if (arg.startsWith("-")) end(2, `Unknown option ${arg}: see --help.`);
    },
  });
  if (help || h) end(0, USAGE);
  if (name === "") end(2, "Missing value for --name: expected a name.");
  const address = words.join(" ") || DEFAULT_HOST;
  // localhost 9999, localhost:9999, [::1]:9999; but ::1 is all host
  const [, host = "", digits] =
    /^(\[.+\]|[^\s:]+|\S*:\S*:\S*)(?:[ :]([^\s:]*))?$/.exec(address) ?? [];
  const hostname = host.replace(/[[\]]/g, "");
  const port = parsePort(digits ?? `${DEFAULT_PORT}`);
  if (/^\d*$/.test(hostname) || !port) { // 9999 would be the host 0.0.39.15
    end(2, `Invalid "${address}": expected a host, a port from 1 to 65535.`);
  }
  return { hostname, port, name };
}

async function main(): Promise<void> {
  const { hostname, port, name } = parseOptions(Deno.args);
  const peer = formatAddress(hostname, port);
  status(`🔄 Connecting to ${peer}...`);
  const signal = AbortSignal.timeout(CONNECT_MS);
  const conn = await Deno.connect({ hostname, port, signal }).catch((error) =>
    end(1, `Cannot connect to ${peer}: ${error.message}. Check host and port.`)
  );
  const chat = new Chat(conn);
  const isTerminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  status("✅ Connected!" + (isTerminal ? "" : ` ${HINT}`));
  Deno.addSignalListener("SIGINT", () => end(0));
  if (Deno.build.os !== "windows") {
    Deno.addSignalListener("SIGHUP", () => end(129)); // 128 and its number
    Deno.addSignalListener("SIGTERM", () => end(143));
  }
  await (isTerminal ? runTerminal : runFilter)(chat, name);
}

if (import.meta.main) await main();
