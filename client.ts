/**
 * The chat client. It sends what a user types, and shows what the server sends.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 192.168.1.7:9999 --name alice
 *     printf 'alice\nhi\n' | deno run --allow-net client.ts
 *
 * A `Conversation` has two pipelines, one for each direction of the connection:
 *
 *     send       input → socket
 *     receive    socket → lines → safe lines → output
 *
 * In a pipe, as in the third command, the input is stdin and the output is stdout.
 * At a terminal, a `Terminal` provides both: it makes lines out of the keys that a person
 * presses, and shows each line that comes in above the line that is being typed.
 *
 * For a first reading: `Conversation` is the part that uses the network. The sections
 * about a silent server, escape sequences and the terminal can wait.
 *
 * Only `main` exits. It calls `run`, which returns an `Ending`, or throws an error.
 */

import { parseArgs } from "@std/cli/parse-args";
import { stdout } from "node:process";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import {
  announcements,
  DEFAULT_HOST,
  DEFAULT_PORT,
  formatAddress,
  isConnectionError,
  isLineTooLong,
  isLongerThan,
  isNameQuestion,
  isWelcome,
  MAX_MESSAGE_CHARS,
  nameKey,
  parsePort,
  parseRefusal,
  readLines,
  sanitize,
  type Sink,
  writeAll,
} from "./protocol.ts";

// ------------------------------------------------------------- the conversation

/** How a conversation, or the whole program, has ended. */
export interface Ending {
  /**
   * The exit status: 0 if the user has left, 1 if something failed, 2 if an argument was
   * wrong, and 128 + N if signal N ended the program.
   */
  status: number;
  /** A sentence for the user, if there is something to explain. */
  message?: string;
}

/** Where a conversation is shown. */
export interface Output {
  /** Shows a line from the server. If it returns a promise, the next line waits for it. */
  show(line: string): void | Promise<void>;
  /** Shows a sentence from the client itself. */
  showNotice(sentence: string): void;
  /** The server has accepted a name: now the user is a member. */
  onJoin?(): void;
  /** The server has refused a name, for this reason. The next input is another name. */
  onRefusal?(reason: string): void;
}

/** The options of a conversation. */
export interface ChatOptions {
  /**
   * The lines that the user types: names until one is accepted, and then messages. The
   * next line is taken when the one before has been sent, and answered if it is a name.
   * The end of the input means that the user leaves.
   */
  input: AsyncIterable<string>;
  /** Where the lines from the server are shown. */
  output: Output;
  /** Milliseconds that the server may be silent when something is expected of it. */
  silenceTimeoutMs?: number;
  /** The same, but after the user has become a member. */
  memberTimeoutMs?: number;
}

const SILENCE_TIMEOUT_MS = 5_000;
/** This timeout is long, because a server makes a member wait for slow receivers. */
const MEMBER_TIMEOUT_MS = 60_000;

const MESSAGE_TOO_LONG = `A message has at most ${
  MAX_MESSAGE_CHARS.toLocaleString("en")
} characters: it was not sent.`;
const CONNECTION_ENDED =
  "The connection to the server has ended. Check that the server is running.";

/** With one of these lines, the server says why it ends the connection. */
const EXPLANATIONS = [
  announcements.chatFull,
  announcements.noNameInTime,
  announcements.notAWebServer,
  announcements.shutdown,
];

const encoder = new TextEncoder();

/**
 * Holds a conversation over a connection. At the end, it closes the connection.
 *
 * Not handled: if an error of the input looks like a broken connection (see
 * {@linkcode isConnectionError}), it is not reported.
 *
 * @throws if the server is silent for too long, or if the input or the output fails.
 */
export function chat(
  conn: Deno.TcpConn,
  options: ChatOptions,
): Promise<Ending> {
  const conversation = new Conversation(conn, {
    ...options,
    silenceTimeoutMs: options.silenceTimeoutMs ?? SILENCE_TIMEOUT_MS,
    memberTimeoutMs: options.memberTimeoutMs ?? MEMBER_TIMEOUT_MS,
  });
  return conversation.runPipelines();
}

/**
 * A conversation, step by step:
 *
 *     naming     Each line that the user types is a name, and the server answers it.
 *        ↓       (a name was accepted)
 *     member     Each line is a message. The server answers only if one is refused.
 *        ↓       (the input ends)
 *     leaving    The client sends a FIN. Then the server ends the connection.
 *
 * If the input ends before a name was accepted, "leaving" follows "naming". A FIN tells
 * the other side that nothing more will be sent. When only one side has sent a FIN, the
 * connection is half-closed: the other side can still send. An RST breaks the connection.
 *
 * An example. The two pipelines run side by side:
 *
 *     `#send`                          `#receive`
 *     sends the name "alice", waits    shows "Welcome, alice!", ends the wait
 *     sends the message "Hi"           shows "bob: Hi alice!"
 *     sends a FIN                      shows the last lines, up to the server's FIN
 */
class Conversation {
  #state: "naming" | "member" | "leaving" = "naming";
  /** It resolves when the last name has been answered. Each name gets a new one. */
  #nameAnswer?: PromiseWithResolvers<void>;
  readonly #silence: SilenceDetector;

  constructor(
    readonly conn: Deno.TcpConn,
    readonly options: Required<ChatOptions>,
  ) {
    this.#silence = new SilenceDetector(options.silenceTimeoutMs);
  }

  /** Runs both pipelines until the conversation has ended. */
  async runPipelines(): Promise<Ending> {
    const receiving = this.#receive();
    try {
      // The server may end the connection before everything has been sent.
      await Promise.race([receiving, this.#send()]);
      // Now the server has to end the connection, if it has not done so yet.
      return await this.#silence.waitUnlessSilent(receiving);
    } finally {
      this.#silence.stop();
      this.conn.close();
    }
  }

  /** The receive pipeline. It ends when the server ends the connection. */
  async #receive(): Promise<Ending> {
    const lines = readLines(this.conn);
    const safeLines = sanitizeLines(lines);
    let lastLine = "";
    for await (const line of safeLines) {
      this.#silence.pause(); // If our own output is slow, the server is not to blame.
      await this.options.output.show(line);
      this.#silence.resume();
      if (this.#state === "naming") this.#handleAnswer(line);
      lastLine = line;
    }
    // Not handled: after the user has left, an RST may destroy lines. The status is still 0.
    if (this.#state === "leaving") return { status: 0 };
    if (EXPLANATIONS.includes(lastLine)) return { status: 1 };
    return { status: 1, message: CONNECTION_ENDED };
  }

  /** If a line from the server is the answer to a name, acts on it. */
  #handleAnswer(line: string): void {
    const { output } = this.options;
    const refusal = parseRefusal(line);
    if (isWelcome(line)) {
      this.#state = "member";
      // Slow receivers can hold back a member.
      this.#silence.timeoutMs = this.options.memberTimeoutMs;
      output.onJoin?.();
      this.#nameAnswer?.resolve(); // Now `#send` takes the next line.
    } else if (refusal) {
      output.onRefusal?.(refusal);
      this.#nameAnswer?.resolve();
    }
  }

  /** The send pipeline. Each line is sent before the next one is taken. */
  async #send(): Promise<void> {
    try {
      for await (const line of this.options.input) {
        if (this.#state === "member") await this.#sendMessage(line);
        else await this.#sendName(line);
      }
      this.#state = "leaving";
      await this.conn.closeWrite(); // It sends a FIN: nothing more will be sent.
    } catch (error) {
      // If the connection is broken, `#receive` sees it, too, and reports the end.
      if (!isConnectionError(error)) throw error;
    }
  }

  /**
   * Registration is request and response: a name is sent, then answered. What the user
   * types as a name is not sanitized, so that the server can refuse it.
   */
  async #sendName(line: string): Promise<void> {
    const nameAnswer = Promise.withResolvers<void>();
    this.#nameAnswer = nameAnswer;
    await this.#silence.waitUnlessSilent(writeLine(this.conn, line));
    await this.#silence.waitUnlessSilent(nameAnswer.promise);
  }

  async #sendMessage(line: string): Promise<void> {
    if (isMessageTooLong(line)) {
      this.options.output.showNotice(MESSAGE_TOO_LONG);
    } else {
      const sending = writeLine(this.conn, sanitizeLine(line));
      await this.#silence.waitUnlessSilent(sending);
    }
  }
}

function writeLine(sink: Sink, line: string): Promise<void> {
  return writeAll(sink, encoder.encode(line + "\n"));
}

function isMessageTooLong(message: string): boolean {
  return isLineTooLong(message) ||
    isLongerThan(sanitizeLine(message), MAX_MESSAGE_CHARS);
}

// ------------------------------------------------------------- a silent server

const SERVER_SILENT = "The server does not answer.";
const SILENCE_CHECK_INTERVAL_MS = 100;

/**
 * Detects that the server is silent for too long, while the client waits for it.
 *
 * Silence is measured in checks, and not by the clock. Two delays do not count, because the
 * server is not to blame for them: while our own output is slow, and while this program is
 * suspended.
 *
 * Not handled: the kernel accepts some messages even if the server has vanished. So a
 * member may notice that only after many messages, or when leaving.
 */
class SilenceDetector {
  #silenceMs = 0;
  #isPaused = false;
  #failure?: PromiseWithResolvers<never>; // It ends a wait. Each wait gets a new one.
  readonly #timer = setInterval(() => this.#check(), SILENCE_CHECK_INTERVAL_MS);

  /** @param timeoutMs how long the server may be silent, while somebody waits for it. */
  constructor(public timeoutMs: number) {}

  /**
   * Waits for something that the server has to do. Fails if the server is silent for too
   * long meanwhile. Only the last wait can fail: nobody needs the result of an earlier one.
   */
  waitUnlessSilent<T>(work: Promise<T>): Promise<T> {
    const failure = Promise.withResolvers<never>();
    this.#failure = failure;
    this.#silenceMs = 0;
    return Promise.race([work, failure.promise]);
  }

  /** Stops measuring, for example while our own output is busy. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Measures from zero again, because the server has said something. */
  resume(): void {
    this.#isPaused = false;
    this.#silenceMs = 0;
  }

  /** Ends the checks. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    if (this.#isPaused) return;
    this.#silenceMs += SILENCE_CHECK_INTERVAL_MS;
    if (this.#silenceMs >= this.timeoutMs) {
      this.#failure?.reject(new ExitError(1, SERVER_SILENT));
    }
  }
}

// ------------------------------------------------------------ escape sequences

// A terminal obeys an escape sequence, and does not show it. There are three kinds:
//
//     control sequence    ESC [ 3 1 m                a color, a move of the cursor, ...
//     control string      ESC ] 0 ; t i t l e BEL    the title of the window, ...
//     short sequence      ESC c                      all others
//
// A control string may also end with ESC \, which is matched as a short sequence.
const ESC = "\\x1b"; // the character ESC, in a regular expression
const CONTROL_SEQUENCE = `(?:${ESC}\\[|\\x9b)[0-?]*[ -/]*[@-~]`;
const STRING_START = `(?:${ESC}[P\\]X^_]|[\\x90\\x98\\x9d-\\x9f])`;
const STRING_TEXT = `[^\\x07\\x9c${ESC}]*`;
const STRING_END = "[\\x07\\x9c]?";
const CONTROL_STRING = STRING_START + STRING_TEXT + STRING_END;
const SHORT_SEQUENCE = `${ESC}[ -/]*[0-~]`;
const ESCAPE_SEQUENCES = new RegExp(
  [CONTROL_SEQUENCE, CONTROL_STRING, SHORT_SEQUENCE].join("|"),
  "g",
);

/**
 * Sanitizes a line. Each escape sequence is removed as a whole. If only its ESC were
 * removed, the rest would be left as text.
 */
function sanitizeLine(line: string): string {
  return sanitize(line.replace(ESCAPE_SEQUENCES, ""));
}

/** Sanitizes lines from the server, because the client trusts no server. */
async function* sanitizeLines(
  lines: AsyncIterable<string>,
): AsyncGenerator<string> {
  for await (const line of lines) {
    yield sanitizeLine(line);
  }
}

// -------------------------------------------------------------------- failures

/** An error that `main` reports: it says what has failed and what the user can do. */
class ExitError extends Error {
  constructor(readonly status: 1 | 2, message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** Waits for some work. If it fails, the user learns what has failed, and why. */
async function explainFailure<T>(
  what: string,
  work: Promise<T>,
  advice = "",
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const { message } = error as Error;
    throw new ExitError(1, `${what}: ${message}.${advice}`, error);
  }
}

// ------------------------------------------------------------------- the filter

/**
 * In a pipe, the client is a filter. Its stdout is what the server sends, and
 * nothing else. What the client itself has to say goes to stderr.
 */
async function runInPipe(conn: Deno.TcpConn, name?: string): Promise<Ending> {
  const output: Output = {
    show: writeOutput,
    showNotice: logToStderr,
    onRefusal(reason) {
      // A script cannot choose another name, and its messages must not become names.
      throw new ExitError(1, `Cannot join: ${reason} Choose another name.`);
    },
  };
  try {
    return await Promise.race([
      chat(conn, { input: readInput(name), output }),
      waitForStopSignal(),
    ]);
  } catch (error) {
    // If the next program in the pipe ends, as `head` does, this is a normal end. The
    // original error is the cause of the one that `explainFailure` has thrown.
    const { cause } = error as Error;
    if (cause instanceof Deno.errors.BrokenPipe) return { status: 0 };
    throw error;
  }
}

/** A user types this to leave. */
const QUIT = /^\s*\/?quit\s*$/;

/** Yields the name, and then the lines of stdin, up to "quit". */
async function* readInput(name?: string): AsyncGenerator<string> {
  let hasName = name !== undefined;
  if (name !== undefined) yield name;
  for await (const line of readLines({ read: readStdin })) {
    if (hasName && QUIT.test(line)) return;
    yield line;
    hasName = true; // The first line is the name, even if it is "quit".
  }
}

function readStdin(buffer: Uint8Array): Promise<number | null> {
  return explainFailure("Cannot read the input", Deno.stdin.read(buffer));
}

function writeOutput(line: string): Promise<void> {
  const writing = writeLine(Deno.stdout, line);
  return explainFailure("Cannot write the output", writing);
}

/** Writes a sentence to stderr, with the time. */
function logToStderr(sentence: string): void {
  console.error(`[${new Date().toTimeString().slice(0, 8)}] ${sentence}`);
}

// ----------------------------------------------------------------- the terminal

const NAME_PROMPT = "Name: ";
const MESSAGE_PROMPT = "You: ";
const HINT = "Type messages and press Enter. Type 'quit' to exit.";
/** How long the last messages may take to be sent when the user leaves. */
const LEAVE_TIMEOUT_MS = 1_000;

/** At a terminal, a person types while lines come in. */
async function runAtTerminal(
  conn: Deno.TcpConn,
  name?: string,
): Promise<Ending> {
  const terminal = new Terminal(name);
  try {
    return await Promise.race([
      chat(conn, { input: terminal.queue, output: terminal }),
      terminal.handleKeysUntilLeave(),
      waitForStopSignal(),
    ]);
  } finally {
    terminal.close();
  }
}

/**
 * A person at a terminal: the input and the output of a conversation.
 *
 *     send       keys → TypedLine → (Enter) → LineQueue → Conversation
 *     receive    Conversation → Screen
 *
 * The terminal is in raw mode: it passes on each key, and shows nothing. readline edits and
 * draws the line that is being typed (`TypedLine`), but cannot see what else is written to
 * the screen. So `Screen` prints all other lines above the typed line.
 */
class Terminal implements Output {
  #isMember = false;
  readonly queue = new LineQueue();
  readonly #typedLine = new TypedLine(
    NAME_PROMPT,
    (line) => this.#handleLine(line),
    () => this.#endInput(),
  );
  readonly #screen = new Screen(this.#typedLine);

  constructor(readonly name?: string) {
    if (name !== undefined) this.queue.add(name);
    stdout.on("error", () => this.#endInput()); // The window was closed.
  }

  /** Handles keys until the user leaves. Then the last messages get some time. */
  async handleKeysUntilLeave(): Promise<Ending> {
    for await (const key of readKeys()) {
      this.#typedLine.handleKey(key);
      if (this.queue.hasEnded) break;
    }
    this.#endInput(); // If there are no more keys, the window was closed.
    await sleep(LEAVE_TIMEOUT_MS);
    return { status: 0 };
  }

  #handleLine(line: string): void {
    this.#screen.refresh(); // It draws a new prompt below the line that was entered.
    // Arrow up brings back messages, but no names.
    if (!this.#isMember) this.#typedLine.clearHistory();
    if (QUIT.test(line)) {
      this.#endInput();
    } else if (this.#isMember && isMessageTooLong(line)) {
      this.showNotice(MESSAGE_TOO_LONG);
      // The user can shorten it. Not handled: in a paste, the next line is added to it.
      this.#typedLine.insert(line);
    } else {
      this.queue.add(line);
    }
  }

  #endInput(): void {
    this.queue.end();
    this.#screen.removeTypedLine();
  }

  show(line: string): void {
    // The option `--name` has already answered this question.
    if (isNameQuestion(line) && this.name !== undefined) return;
    this.#screen.print(decorate(line));
  }

  showNotice(sentence: string): void {
    this.#screen.print(sentence);
  }

  onJoin(): void {
    this.#isMember = true;
    this.#typedLine.changePrompt(MESSAGE_PROMPT);
    this.#screen.print(HINT);
  }

  /** The lines after the name were typed as messages. They must not become names. */
  onRefusal(): void {
    this.#reportUnsent(this.queue.removeWaiting());
  }

  /** Says what was not sent, and restores the terminal. */
  close(): void {
    const { beingSent } = this.queue;
    // Perhaps only a part of this message was sent. A name needs no report.
    if (this.#isMember && beingSent) this.#reportUnsent([beingSent]);
    this.#reportUnsent(this.queue.removeWaiting());
    this.#screen.close();
    if (this.queue.hasEnded) logToStderr("👋 Goodbye!");
  }

  #reportUnsent(lines: string[]): void {
    for (const line of lines) this.showNotice(`Not sent: ${line}`);
  }
}

/**
 * A queue of lines that have not been sent. When a line has been sent, the conversation
 * asks for the next one.
 */
class LineQueue {
  /** The line that is being sent, if there is one. */
  beingSent?: string;
  readonly #waiting: string[] = [];
  /** Whether the user wants to leave. Then no line is added any more. */
  hasEnded = false;
  #changed = Promise.withResolvers<void>(); // a new line, or the end

  add(line: string): void {
    if (this.hasEnded) return; // The user has left.
    this.#waiting.push(line);
    this.#changed.resolve();
  }

  /** No more lines come. Those that wait are still taken. */
  end(): void {
    this.hasEnded = true;
    this.#changed.resolve();
  }

  removeWaiting(): string[] {
    return this.#waiting.splice(0);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    while (true) {
      this.beingSent = this.#waiting.shift();
      if (this.beingSent !== undefined) {
        yield this.beingSent;
      } else if (!this.hasEnded) {
        await this.#changed.promise;
        this.#changed = Promise.withResolvers();
      } else {
        return;
      }
    }
  }
}

// ----------------------------------------------------------------- the keyboard

/** At least this many printable characters that arrive together are a paste. */
const MIN_PASTE_LENGTH = 16;
const PASTE = `[^\\x00-\\x1f\\x7f]{${MIN_PASTE_LENGTH},}`;
/** ESC, perhaps [ or O, parameters, and a last character. Example: ESC [ A (Arrow up) */
const KEY_SEQUENCE = `${ESC}[\\[O]?[0-?]{0,8}[^]?`;
/** Example: "hi", then Arrow up, gives three keys: h, i and ESC [ A */
const KEY_PATTERN = new RegExp(`${KEY_SEQUENCE}|${PASTE}|[^]`, "gu");
/** The maximum number of bytes in one read from the keyboard. */
const KEY_BUFFER_SIZE = 64 * 1024;

/** Yields the keys that the user presses. A long run of pasted characters is one key. */
async function* readKeys(): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(KEY_BUFFER_SIZE);
  while (true) {
    const count = await Deno.stdin.read(buffer).catch(() => null);
    if (count === null) return; // The window was closed.
    const text = decoder.decode(buffer.subarray(0, count), { stream: true });
    // readline would complete a word at a tab. Some terminals obey U+0080 to U+009F.
    const safe = text.replaceAll("\t", " ").replace(/[\u0080-\u009f]/g, "");
    yield* safe.match(KEY_PATTERN) ?? [];
  }
}

// --------------------------------------------------------------- the typed line

/** The line that is being typed. readline edits and draws it. */
class TypedLine {
  #isRemoved = false; // If it is true, the line is not drawn any more.
  readonly #history: string[] = []; // Arrow up brings back these lines.
  // readline listens to this stream, and not to stdin. `handleKey` puts the keys into it.
  readonly #keyStream = new PassThrough();
  readonly #readline = createInterface({
    input: this.#keyStream,
    output: stdout,
    terminal: true,
    history: this.#history,
  });

  constructor(
    prompt: string,
    onEnter: (line: string) => void,
    onClose: () => void,
  ) {
    this.#readline.setPrompt(prompt);
    this.#readline.on("line", onEnter);
    // On Ctrl+C, and on Ctrl+D if the line is empty, readline closes itself.
    this.#readline.on("close", onClose);
    // Ctrl+Z does nothing. readline would suspend only this program, but not `deno task`,
    // which may have started it. Then no key would work any more.
    this.#readline.on("SIGTSTP", () => {});
  }

  handleKey(key: string): void {
    this.#setPrevRows(this.#cursorRow); // readline may have a wrong number.
    // readline measures the whole line after each key. So a paste is inserted as a whole.
    if (key.length >= MIN_PASTE_LENGTH) this.insert(key);
    else this.#keyStream.emit("data", key);
  }

  insert(text: string): void {
    this.#readline.write(text);
  }

  clearHistory(): void {
    this.#history.length = 0;
  }

  changePrompt(prompt: string): void {
    this.erase();
    this.#readline.setPrompt(prompt);
    this.draw();
  }

  /** Draws the line. The cursor has to be at the start of a row. */
  draw(): void {
    if (this.#isRemoved) return;
    this.#setPrevRows(0);
    this.#readline.prompt(true);
  }

  /** Erases the line. The cursor stays where the line began. */
  erase(): void {
    if (this.#isRemoved) return;
    const toStart = "\x1b[A".repeat(this.#cursorRow) + "\r"; // up, and to the left
    const clear = "\x1b[J"; // all that is below
    stdout.write(toStart + clear);
  }

  /** Erases the line for ever. Returns it with its prompt, if something was typed. */
  remove(): string {
    if (this.#isRemoved) return "";
    this.erase();
    this.#isRemoved = true;
    const { line } = this.#readline;
    return line === "" ? "" : this.#readline.getPrompt() + line;
  }

  /** A long line takes up several rows. This is the cursor's row, counted from 0. */
  get #cursorRow(): number {
    return this.#readline.getCursorPos().rows;
  }

  /**
   * Tells readline in which row of the typed line the cursor is. Before it draws that line
   * again, readline goes up by its private field `prevRows`. That number is wrong after a
   * paste, a resize, or other output, and there is no public way to correct it.
   */
  #setPrevRows(row: number): void {
    Object.assign(this.#readline, { prevRows: row });
  }
}

// ------------------------------------------------------------------- the screen

/**
 * The screen: the typed line, and above it what was printed.
 *
 * After something was printed, the screen is drawn again, at most once per turn of the
 * event loop:
 *
 *     1. The typed line is erased.
 *     2. The new lines are written in its place.
 *     3. The typed line is drawn below that.
 *
 * Not handled: parts of an old prompt may remain after a resize while lines come in, if
 * the typed line is taller than the window, and with joined emoji or some combining marks
 * (for example Thai), because terminals disagree with readline on their width.
 */
class Screen {
  #toPrint = ""; // lines that are not on the screen yet

  constructor(readonly typedLine: TypedLine) {
    // readline has a listener, too. It would draw the line where it was before.
    stdout.prependListener("resize", () => this.refresh());
    if (Deno.build.os !== "windows") {
      // Another program can suspend this one (`kill -TSTP`). Then the shell ends raw
      // mode. SIGCONT says that this program continues.
      Deno.addSignalListener("SIGCONT", () => this.#enterRawMode());
    }
    this.#enterRawMode();
  }

  #enterRawMode(): void {
    setRawMode(true);
    this.typedLine.draw();
  }

  /** Prints a line above the typed line, at the end of this turn of the event loop. */
  print(line: string): void {
    if (this.#toPrint === "") setImmediate(() => this.refresh());
    this.#toPrint += line + "\n";
  }

  refresh(): void {
    this.typedLine.erase();
    stdout.write(this.#toPrint);
    this.#toPrint = "";
    this.typedLine.draw();
  }

  /** Removes the typed line for good. If it is not empty, it is printed. */
  removeTypedLine(): void {
    const halfTyped = this.typedLine.remove();
    if (halfTyped) this.print(halfTyped);
  }

  /** Prints what is not on the screen yet, and ends raw mode. */
  close(): void {
    this.removeTypedLine();
    this.refresh();
    setRawMode(false);
  }
}

function setRawMode(isRaw: boolean): void {
  try {
    Deno.stdin.setRaw(isRaw);
  } catch {
    // The window was closed, so there is no terminal any more.
  }
}

// ------------------------------------------------------------- colors and gaps

/** The sender of a message. Its 20 characters have at most 40 UTF-16 code units. */
const SENDER = /^[^ :]{1,40}(?=: )/;
/** Colors, as terminals number them. */
const NAME_COLORS = [31, 32, 34, 35, 36, 91, 92, 94, 95, 96];
const YELLOW = 33;

/** Decorates a line, so that a person sees at a glance who sent it. */
export function decorate(line: string): string {
  const text = collapseWideGaps(line);
  const name = SENDER.exec(text)?.[0];
  if (!name) return paint(text, YELLOW);
  return `📨 ${paint(name, colorOf(name))}${text.slice(name.length)}`;
}

function colorOf(name: string): number {
  let sum = 0;
  for (const byte of encoder.encode(nameKey(name))) sum += byte;
  return NAME_COLORS[sum % NAME_COLORS.length]!;
}

function paint(text: string, color: number): string {
  return Deno.noColor ? text : `\x1b[${color}m${text}\x1b[0m`;
}

/** Characters that look like a space, for example the empty Braille pattern. */
const SPACE = "[\\s\\u00ad\\u115f\\u1160\\u2800\\u3164\\uffa0]";
/** Characters without a width, such as joiners and combining marks, but no SPACE. */
const WIDTHLESS =
  `[[\\p{Default_Ignorable_Code_Point}\\p{Cf}\\p{Mn}\\p{Me}]--${SPACE}]`;
/** At least five spaces, with widthless characters between and joiners after them. */
const WIDE_GAPS = new RegExp(
  `${SPACE}(?:${WIDTHLESS}*${SPACE}){4,}\\p{Default_Ignorable_Code_Point}*`,
  "gv",
);

/**
 * Replaces gaps of five or more spaces with four. A wide gap could fill up a row of the
 * screen, and the text after it would look like another line, perhaps like an
 * announcement. Not handled: visible characters can fill up a row as well. Then only
 * the color of the text shows that it is not an announcement.
 */
function collapseWideGaps(line: string): string {
  return line.replace(WIDE_GAPS, "    ");
}

// -------------------------------------------------------------- the command line

const CONNECT_TIMEOUT_MS = 10_000;

const USAGE = `Usage: deno run --allow-net client.ts [host] [port] [options]

  host port     default ${DEFAULT_HOST} ${DEFAULT_PORT}; also host:port
  --name NAME   your name; without it you are asked
  -h, --help    show this help

Type a line and press Enter to send it. To leave, type 'quit', or press Ctrl+C or
Ctrl+D. In a pipe without --name, the first line is the name, even 'quit'.`;

function wrongArgument(what: string): ExitError {
  return new ExitError(2, `${what}: see --help.`);
}

function parseOptions(args: string[]) {
  const flags = parseArgs(args, {
    boolean: ["help"],
    string: ["name", "_"],
    alias: { help: "h" },
    unknown: (arg) => {
      if (arg.startsWith("-")) throw wrongArgument(`Unknown option ${arg}`);
    },
  });
  const name = flags.name && sanitize(flags.name); // It stays one line.
  if (name === "") throw wrongArgument("Missing name after --name");
  return { help: flags.help, name, words: flags._.map(String) };
}

const IN_BRACKETS = "\\[[^\\s[\\]]+\\]"; // for example [::1]
const NAME_OR_IPV4 = "[^\\s:[\\]]+"; // for example localhost or 127.0.0.1
const IPV6 = "(?!\\[)\\S*:\\S*:\\S*"; // for example ::1, with two colons or more
const HOST = `(?<host>${IN_BRACKETS}|${NAME_OR_IPV4}|${IPV6})`;
const ADDRESS = new RegExp(`^${HOST}(?:[ :](?<port>[^\\s:]*))?$`);

/** Parses for example `localhost`, `::1 9999`, `localhost:9999` or `[::1]:9999`. */
function parseAddress(words: string[]): { hostname: string; port: number } {
  if (words.length === 0) return { hostname: DEFAULT_HOST, port: DEFAULT_PORT };
  if (words.length > 2) {
    throw wrongArgument(`Unexpected argument "${words[2]}"`);
  }
  const address = words.join(" ");
  const parts = ADDRESS.exec(address)?.groups;
  const host = (parts?.host ?? "").replace(/[[\]]/g, ""); // without the brackets
  const port = parsePort(parts?.port ?? `${DEFAULT_PORT}`);
  // The system would take the host 9999 for the IPv4 address 0.0.39.15.
  if (/^\d+$/.test(host)) {
    const advice = `for a port, type ${DEFAULT_HOST}:${host}`;
    throw new ExitError(2, `Wrong host "${host}": ${advice}.`);
  }
  if (host === "") throw wrongArgument(`Wrong host in "${address}"`);
  // Port 0 is only for listening.
  if (!port) throw wrongArgument(`Wrong port in "${address}"`);
  return { hostname: host, port };
}

function connect(hostname: string, port: number): Promise<Deno.TcpConn> {
  const address = formatAddress(hostname, port);
  logToStderr(`🔄 Connecting to ${address}...`);
  const signal = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
  const connecting = Deno.connect({ hostname, port, signal });
  const advice = " Check host and port.";
  return explainFailure(`Cannot connect to ${address}`, connecting, advice);
}

/** Resolves when a signal asks the program to end. The status is 128 plus its number. */
function waitForStopSignal(): Promise<Ending> {
  const { promise, resolve } = Promise.withResolvers<Ending>();
  // In a pipe, Ctrl+C sends SIGINT. In raw mode, it is only a key: see `TypedLine`.
  Deno.addSignalListener("SIGINT", () => resolve({ status: 130 }));
  Deno.addSignalListener("SIGHUP", () => resolve({ status: 129 }));
  if (Deno.build.os !== "windows") {
    Deno.addSignalListener("SIGTERM", () => resolve({ status: 143 }));
  }
  return promise;
}

async function run(args: string[]): Promise<Ending> {
  const { help, name, words } = parseOptions(args);
  if (help) {
    console.log(USAGE);
    return { status: 0 };
  }
  const { hostname, port } = parseAddress(words);
  const conn = await connect(hostname, port);
  const isTerminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  logToStderr(isTerminal ? "✅ Connected!" : `✅ Connected! ${HINT}`);
  if (isTerminal) return await runAtTerminal(conn, name);
  return await runInPipe(conn, name);
}

async function main(): Promise<void> {
  const ending = await run(Deno.args).catch((error): Ending => {
    if (!(error instanceof ExitError)) throw error; // a bug
    return { status: error.status, message: error.message };
  });
  if (ending.message) console.error(ending.message);
  Deno.exit(ending.status);
}

if (import.meta.main) main();
