/**
 * The chat client: what you type goes to the server, what it says comes back.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 192.168.1.7:9999 --name alice
 *     printf 'alice\nhi\n' | deno run --allow-net client.ts
 *
 * Two ways lead through it, and neither waits for the other:
 *
 *     out   keys → Screen.type → readline ─┬→ Chat.say → socket
 *           in a pipe, stdin → readLines ──┘
 *     in    socket → readLines → Chat.lines ┬→ decorate → Screen.print
 *                                           └→ stdout, in a pipe
 */

// deno-lint-ignore-file no-control-regex
import { parseArgs } from "@std/cli/parse-args";
import { stdout } from "node:process";
import { Interface } from "node:readline";
import { PassThrough } from "node:stream";
import { cleanText, formatAddress, isTooLong, parsePort } from "./protocol.ts";
import { isWelcome, nameKey, readLines, refusalReason } from "./protocol.ts";
import { DEFAULT_HOST, DEFAULT_PORT, GOODBYE_MS, texts } from "./protocol.ts";

const CONNECT_MS = 10_000; // to connect; a slower server is given up, status 1
const ANSWER_MS = 5_000; // to answer a name, or to hang up when we have left
const SEND_MS = 60_000; // to take a line: in a full room it makes us wait
const COLORS = [31, 32, 34, 35, 36, 91, 92, 94, 95, 96]; // yellow is [SYSTEM]'s
const HINT = "Type messages and press Enter. Type 'quit' to exit.";
const TOO_LONG = "A message has at most 1,000 characters: it was not sent.";
const QUIT = /^\s*\/?quit\s*$/;
/** Orders to a terminal; without their ESC they would be litter. */
const ORDERS = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*/g;

const encode = (line: string) => new TextEncoder().encode(line + "\n");
/** One line for the person, not for a program that reads stdout. */
const status = (text: string) =>
  console.error(`[${new Date().toTimeString().slice(0, 8)}] ${text}`);
let screen: Screen | undefined; // at a terminal; it must be restored at the end

/** The one end of the program. 0 is well; 1 and 2 say what was wrong. */
function end(code: number, message?: string): never {
  screen?.restore();
  if (message) console[code === 0 ? "log" : "error"](message);
  Deno.exit(code);
}

/** The conversation. We trust no server: its text is cleaned. */
class Chat {
  isMember = false; // a name was accepted; until then all that we say is one
  hasLeft = false;
  #said = Promise.resolve();
  #asked = Promise.withResolvers<void>(); // for a name, until it is answered
  constructor(readonly conn: Deno.TcpConn) {}

  /** Says one line after the other, nothing while a name is not answered. */
  say(line: string): Promise<void> | void {
    if (this.hasLeft) return;
    if (QUIT.test(line)) return (screen ?? this).leave();
    const asked = this.#asked;
    return this.#said = this.#said.then(async () => {
      // it was typed for the chat; after a refusal it would be the next name
      if (asked !== this.#asked) return screen?.print(`Not sent: ${line}`);
      const text = cleanText(line);
      if (this.isMember && isTooLong(text)) return status(TOO_LONG);
      const ms = this.isMember ? SEND_MS : ANSWER_MS;
      const timer = setTimeout(() => end(1, "The server does not answer."), ms);
      await ReadableStream.from([encode(text)])
        .pipeTo(this.conn.writable, { preventClose: true }).catch(() => {});
      await asked.promise;
      clearTimeout(timer);
    });
  }

  /** Half-close: no more from us, but we hear what is on its way to us. */
  leave(): void {
    this.hasLeft = true;
    this.#said.then(() => this.conn.closeWrite()).catch(() => {});
    setTimeout(() => end(1, "The server does not hang up."), ANSWER_MS);
  }

  /** What the server says. When it ends, so does the program. */
  async *lines(): AsyncGenerator<string> {
    let last = "";
    for await (const line of readLines(this.conn)) {
      yield last = cleanText(line.replace(ORDERS, ""));
      const isRefused = !this.isMember && refusalReason(last);
      this.isMember ||= isWelcome(last);
      if (this.isMember || isRefused) this.#asked.resolve();
      if (isRefused) this.#asked = Promise.withResolvers();
    }
    if ([texts.full, texts.noName, texts.shutdown].includes(last)) end(1);
    if (this.hasLeft) end(0);
    end(1, "The server is gone: it ended. Check that it is running.");
  }
}

/** In a pipe: a filter, with the server's lines as they are. */
async function runFilter(chat: Chat): Promise<void> {
  readLines(Deno.stdin)
    .pipeTo(new WritableStream({ write: (line) => chat.say(line) }))
    .then(() => chat.leave());
  const output = Deno.stdout.writable.getWriter();
  for await (const line of chat.lines()) {
    await output.write(encode(line)).catch((error) => {
      if (error instanceof Deno.errors.BrokenPipe) end(0); // fine: | head
      end(1, `Cannot write what was said: ${error.message}`);
    });
    const refusal = !chat.isMember && refusalReason(line);
    if (refusal) end(1, `Cannot join: ${refusal} Choose another name.`);
  }
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
  const sum = encode(nameKey(name)).reduce((sum, byte) => sum + byte);
  return `📨 \x1b[${COLORS[sum % COLORS.length]}m${name}\x1b[0m${said}`;
}

/** A key, as a terminal sends it, or so many letters that they are pasted. */
const KEYS = /\x1b[[O]?[0-?]{0,8}[^]?|[^\x00-\x1f\x7f]{16,}|[^]/gu;

/**
 * A line that is being typed, and lines that come in above it. readline edits
 * and draws it, but knows not what else is written, nor always in which row it
 * is: so once in a turn what came in goes over it, and it is drawn anew below.
 *
 * Not handled: joined emoji and the marks of some scripts (Thai, Devanagari):
 * readline and terminals differ on their width; a line taller than the window;
 * a window resized while lines come in. They leave pieces of the prompt behind,
 * a full row an empty one. Whether a terminal is dumb (TERM) we may not ask.
 */
class Screen extends Interface {
  #above = ""; // what came in and is not written yet
  constructor(readonly chat: Chat, readonly keys = new PassThrough()) {
    super(keys, stdout, void 0, true);
    this.on("SIGINT", this.leave).on("close", this.leave);
    this.on("SIGTSTP", () => {}); // Ctrl+Z: we may send no signals
    this.on("history", (said) => chat.isMember || said.shift()); // no names
    this.on("line", (line) => chat.say(line)).on("line", this.#draw);
    stdout.prependListener("resize", this.#draw).on("error", this.leave);
    Deno.stdin.setRaw(true);
    screen = this;
    this.#draw();
  }

  type(text: string): void {
    for (const key of text.replaceAll("\t", " ").match(KEYS) ?? []) {
      if (this.chat.hasLeft) return;
      Object.assign(this, { prevRows: this.getCursorPos().rows }); // see above
      const isOver = this.chat.isMember && isTooLong(this.line);
      if (isOver && /[\r\n]/.test(key)) this.print(TOO_LONG); // it stays
      // readline measures the whole line at each key, but a paste in one piece
      else if (key.length < 16) this.keys.emit("data", key);
      else this.write(key);
    }
  }

  print(line: string): void {
    if (this.#above === "") setImmediate(this.#draw);
    this.#above += line + "\n";
  }

  /** Writes what came in over the prompt; readline draws that anew below. */
  #draw = (): void => {
    if (this.chat.hasLeft) return;
    const { rows } = this.getCursorPos();
    stdout.write("\x1b[A".repeat(rows) + "\r\x1b[J" + this.#above);
    this.#above = "";
    if (!screen) return; // it was the last time
    this.setPrompt(this.chat.isMember ? "You: " : "Name: ");
    Object.assign(this, { prevRows: 0 }).prompt(true); // we are up already
  };

  leave = (): void => {
    if (this.chat.hasLeft) return;
    this.restore();
    this.chat.leave();
    status("👋 Goodbye!");
    setTimeout(() => end(0), GOODBYE_MS);
  };

  /** Restores the terminal, once; what is half typed stays to be seen. */
  restore(): void {
    screen = undefined;
    if (this.line) this.#above += this.getPrompt() + this.line + "\n";
    this.#draw();
    Deno.stdin.setRaw(false);
  }
}

/** At a terminal: a prompt, and the others' lines above it. */
async function runTerminal(chat: Chat, name?: string): Promise<void> {
  const view = new Screen(chat);
  Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeTo(new WritableStream({ write: (text) => view.type(text) }))
    .catch(() => {}).then(view.leave); // the window was closed
  for await (const line of chat.lines()) {
    if (name && line.startsWith("[SYSTEM] Enter your")) continue; // answered
    view.print(decorate(line));
    if (!chat.isMember && isWelcome(line)) view.print(HINT);
  }
}

const USAGE = `Usage: deno run --allow-net client.ts [host] [port] [options]

  host port     default ${DEFAULT_HOST} ${DEFAULT_PORT}; also host:port
  --name NAME   your name; without it you are asked
  -h, --help    show this help

Type a line and press Enter to say it; 'quit', Ctrl+C or Ctrl+D to leave.
In a pipe, the first line of the input is the name.`;

function parseOptions(args: string[]) {
  const { _: words, name, help } = parseArgs(args, {
    boolean: ["help"],
    string: ["name", "_"],
    alias: { help: "h" },
    unknown: (arg) =>
      !arg.startsWith("-") || end(2, `Unknown option ${arg}: see --help.`),
  });
  if (help) end(0, USAGE);
  if (name === "") end(2, "Missing name after --name: see --help.");
  const address = words.join(" ") || DEFAULT_HOST;
  // localhost 9999, localhost:9999, [::1]:9999; but ::1 is all host
  const [, host = "", digits] =
    /^(\[.+\]|[^\s:]+|\S*:\S*:\S*)(?:[ :]([^\s:]*))?$/.exec(address) ?? [];
  const hostname = host.replace(/[[\]]/g, "");
  const port = parsePort(digits ?? `${DEFAULT_PORT}`);
  const isHost = !/^\d*$/.test(hostname); // 9999 would be the host 0.0.39.15
  if (!isHost || !port) end(2, `Wrong host or port "${address}": see --help.`);
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
  Deno.addSignalListener("SIGHUP", () => end(129)); // 128 and its number
  const isWindows = Deno.build.os === "windows";
  if (!isWindows) Deno.addSignalListener("SIGTERM", () => end(143));
  if (name !== undefined) chat.say(name);
  await (isTerminal ? runTerminal(chat, name) : runFilter(chat));
}

if (import.meta.main) await main();
