/**
 * What server and client must agree on: the limits, how bytes become lines,
 * which names are allowed, what is taken out of a message, and every sentence
 * that the server says. No socket and no terminal in here, so all of it can be
 * tested, and read, without either.
 *
 * A conversation, as `nc 127.0.0.1 9999` shows it (< what the server says):
 *
 *     < [SYSTEM] Enter your name, or press Enter to be User_54321:
 *     > alice
 *     < [SYSTEM] Welcome, alice! Active users (2): alice, bob
 *     < bob: Hi there!
 *     > Hello everyone!
 */

import { TextLineStream } from "@std/streams/text-line-stream";

export const DEFAULT_HOST = "127.0.0.1";
export const DEFAULT_PORT = 9999;
/** Connections, named or not; one more is told that the chat is full. */
export const DEFAULT_MAX_CLIENTS = 1_000;

/** Unicode code points; a longer name is refused. */
export const MAX_NAME_CHARS = 20;
/** Unicode code points; a longer message is refused, and its author told so. */
export const MAX_MESSAGE_CHARS = 1_000;
/** Bytes without a newline; whoever sends more is disconnected. */
export const MAX_LINE_BYTES = 64 * 1024;
/** Bytes that may wait for one reader; beyond that, whoever speaks waits. */
export const MAX_OUTBOX_BYTES = 1024 * 1024;
/** A reader over that limit that takes nothing for so long is disconnected. */
export const STALL_MS = 5_000;
/** Time to give a name; then the connection ends. */
export const NAME_TIMEOUT_MS = 60_000;
/** How long what is on its way to a leaver may take; then it is lost. */
export const GOODBYE_MS = 1_000;
/** Names in a list of users; the others are only counted. */
export const MAX_LISTED_NAMES = 20;

/** A port from 0 to 65535, or `undefined` for any other text. */
export function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  return port <= 65_535 ? port : undefined;
}

/** `host:port`, and `[host]:port` for IPv6, which has colons of its own. */
export function formatAddress(hostname: string, port: number): string {
  return hostname.includes(":")
    ? `[${hostname}]:${port}`
    : `${hostname}:${port}`;
}

// ---------------------------------------------------------------- framing

/** Anything to read bytes from: a `Deno.Conn`, or a test's array. */
export interface Source {
  /** Fills the start of `buffer`; resolves to how much, `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
}

/** {@linkcode MAX_LINE_BYTES} came without a newline. */
export class LineTooLongError extends Error {
  override name = "LineTooLongError";
}

const NEWLINE = 0x0a;
// Every connection that waits for bytes holds a buffer for them, so it is
// small; while it comes back full there is more to fetch, so it grows.
const MIN_READ_BYTES = 512;
const MAX_READ_BYTES = 64 * 1024;

/**
 * A source as a stream of text. It reads only when it is asked to: as long as
 * nobody asks, the kernel's buffer fills, and TCP makes the sender wait. That
 * is back-pressure.
 *
 * `conn.readable.pipeThrough(new TextDecoderStream())` says the same, but takes
 * 64 KiB for every idle connection, and at the end of the input it closes the
 * output, too, so that nobody could be told anything any more.
 */
export function textStream(source: Source): ReadableStream<string> {
  const decoder = new TextDecoder(); // keeps half a letter for the next chunk
  let buffer = new Uint8Array(MIN_READ_BYTES);
  return new ReadableStream({
    async pull(controller) {
      // Bytes that are here already come without a turn of the event loop.
      // Take one, lest somebody who never stops sending keep all others out.
      await nextTurn();
      const count = await source.read(buffer);
      if (count === null) {
        controller.enqueue(decoder.decode());
        return controller.close();
      }
      const chunk = buffer.subarray(0, count);
      controller.enqueue(decoder.decode(chunk, { stream: true }));
      const size = nextSize(buffer.length, count);
      if (size !== buffer.length) buffer = new Uint8Array(size);
    },
  }, { highWaterMark: 0 });
}

/** The next turn of the event loop: after all that can be done by now. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function nextSize(size: number, count: number): number {
  if (count === size) return Math.min(size * 4, MAX_READ_BYTES);
  return count < size / 8 ? MIN_READ_BYTES : size;
}

/**
 * A source that ends where a line gets too long, lest somebody who never sends
 * a newline fill our memory; and that ends, rather than fails, when the other
 * one fails: a stream that fails forgets the lines that nobody has taken yet.
 */
class CappedSource implements Source {
  tooLong = false;
  failure?: unknown;
  #source: Source;
  #unfinished = 0; // bytes since the last newline

  constructor(source: Source) {
    this.#source = source;
  }

  /** Whether it has ended in the middle of a line. */
  get isCutOff(): boolean {
    const isBroken = this.tooLong || this.failure !== undefined;
    return isBroken && this.#unfinished > 0;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.tooLong) return null;
    try {
      const count = await this.#source.read(buffer);
      return count === null ? null : this.#check(buffer.subarray(0, count));
    } catch (error) {
      this.failure = error;
      return null;
    }
  }

  /** How many bytes of a chunk may go on. */
  #check(chunk: Uint8Array): number {
    const newline = chunk.indexOf(NEWLINE);
    this.#unfinished += newline < 0 ? chunk.length : newline;
    this.tooLong = this.#unfinished >= MAX_LINE_BYTES;
    if (newline < 0) return chunk.length;
    if (this.tooLong) return newline;
    this.#unfinished = chunk.length - 1 - chunk.lastIndexOf(NEWLINE);
    return chunk.length;
  }
}

/**
 * Framing: TCP carries bytes, not messages. One read may bring half a line or
 * fifty, and may end in the middle of a letter. So bytes become text, and text
 * becomes lines, here and nowhere else. Invalid UTF-8 becomes U+FFFD; `\n` and
 * `\r\n` end a line, and so does the end of the input.
 *
 * @throws {LineTooLongError} after all lines before the one that is too long.
 * @throws whatever `source.read` does, a reset for example: after all lines
 * that came before it.
 */
export async function* readLines(source: Source): AsyncGenerator<string> {
  const capped = new CappedSource(source);
  const lines = textStream(capped).pipeThrough(new TextLineStream());
  let held: string | undefined; // the last one may be what was cut off
  for await (const line of lines) {
    if (!capped.isCutOff) {
      yield line;
    } else {
      if (held !== undefined) yield held;
      held = line;
    }
  }
  if (capped.tooLong) throw new LineTooLongError();
  if (capped.failure !== undefined) throw capped.failure;
}

// ------------------------------------------------------------------ names

/** What a name is made of; all invisible letters and marks are left out. */
const NAME = /^[\p{L}\p{Nd}][\p{L}\p{Nd}\p{M}._\-]*$/u;
const INVISIBLE = /\p{Default_Ignorable_Code_Point}/u;
const RESERVED_NAMES = ["SYSTEM", "You"];

/** A name that may be used, or the sentence that says why it may not. */
export type NameCheck = { name: string } | { refusal: string };

/**
 * Checks a name that somebody typed. Surrounding blanks do not count, and
 * Unicode NFKC makes one of letters that only look different (ｂｏｂ, bob).
 */
export function checkName(typed: string): NameCheck {
  const name = typed.trim().normalize("NFKC");
  if (countChars(name) > MAX_NAME_CHARS) {
    return { refusal: `A name has at most ${MAX_NAME_CHARS} characters.` };
  }
  if (!NAME.test(name) || INVISIBLE.test(name)) {
    return {
      refusal:
        "A name has letters, digits, dots, dashes and underscores only, " +
        "and begins with a letter or digit.",
    };
  }
  if (RESERVED_NAMES.some((reserved) => nameKey(reserved) === nameKey(name))) {
    return { refusal: `The name ${name} is reserved.` };
  }
  return { name };
}

/**
 * Two names with the same key are one name: alice and Alice. Upper case first:
 * σ and ς share one capital, and ß becomes SS.
 */
export function nameKey(name: string): string {
  return name.toUpperCase().toLowerCase().normalize("NFKC");
}

/** The name for somebody who gives none, from the port of the connection. */
export function suggestedName(port: number): string {
  return `User_${port}`;
}

// --------------------------------------------------------------- messages

/**
 * Taken out of every message: control characters, which make a terminal do
 * things (ESC, carriage return, C1); separators that some programs show as a
 * new line; and overrides that turn the direction of all that follows. Joiners
 * and direction marks stay: emoji and many scripts need them.
 */
const UNSAFE =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const VISIBLE = /[^\s\p{Default_Ignorable_Code_Point}]/u;

/** The text without anything that could fool a terminal or its reader. */
export function cleanText(text: string): string {
  return text.replace(UNSAFE, "");
}

/** Whether there is nothing to see in a text; such a message is ignored. */
export function isBlank(text: string): boolean {
  return !VISIBLE.test(text);
}

/** Whether a message is over {@linkcode MAX_MESSAGE_CHARS}. */
export function isTooLong(text: string): boolean {
  // `length` counts an emoji twice; only what it finds too long needs a count
  return text.length > MAX_MESSAGE_CHARS &&
    countChars(text) > MAX_MESSAGE_CHARS;
}

function countChars(text: string): number {
  return [...text].length;
}

// ----------------------------------------------- what the server says

/**
 * Every sentence of the server, without the newline. A message begins with the
 * name of its author, and no author can be called `[SYSTEM]`.
 */
export const texts = {
  enterName: (port: number) =>
    `[SYSTEM] Enter your name, or press Enter to be ${suggestedName(port)}:`,
  nameTaken: (name: string) => `The name ${name} is taken.`,
  nameRefused: (reason: string) => `[SYSTEM] ${reason} Enter another name:`,
  welcome: (name: string, users: string) =>
    `[SYSTEM] Welcome, ${name}! ${users}`,
  activeUsers: (count: number, names: string[]) =>
    `Active users (${count}): ${names.join(", ")}` +
    (count > names.length ? ` and ${count - names.length} more` : ""),
  joined: (name: string) => `[SYSTEM] ${name} joined the chat!`,
  left: (name: string) => `[SYSTEM] ${name} left the chat!`,
  message: (name: string, text: string) => `${name}: ${text}`,
  messageTooLong: `[SYSTEM] Message too long: ${
    MAX_MESSAGE_CHARS.toLocaleString("en-US")
  } characters at most. It was not sent.`,
  lineTooLong: "[SYSTEM] Line too long. Goodbye!",
  full: "[SYSTEM] The chat is full. Try again later.",
  noName: "[SYSTEM] No name given in time. Goodbye!",
  shutdown: "[SYSTEM] The server is shutting down. Goodbye!",
};

/** Whether the server ends the connection with this line. */
export function isGoodbye(line: string): boolean {
  const { lineTooLong, full, noName, shutdown } = texts;
  return [lineTooLong, full, noName, shutdown].includes(line);
}

/** Whether a name has been accepted with this line. */
export function isWelcome(line: string): boolean {
  return line.startsWith("[SYSTEM] Welcome, ");
}

/** The reason in a refused name, or `undefined` for any other line. */
export function refusalReason(line: string): string | undefined {
  return /^\[SYSTEM\] (.+) Enter another name:$/.exec(line)?.[1];
}
