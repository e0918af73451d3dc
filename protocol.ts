/**
 * The protocol: what server and client agree on. How bytes become lines, which
 * names are allowed, which characters are removed from a message, and every line
 * that the server itself says. Neither a socket nor a terminal is opened here.
 *
 * A conversation. The lines after `>` are typed by a person:
 *
 *       [SYSTEM] Enter your name, or press Enter to be User_54321:
 *     > alice
 *       [SYSTEM] Welcome, alice! Active users (2): bob, alice
 *     > Hello everyone!
 *       bob: Hi alice!
 *
 * @module
 */

import { TextLineStream } from "@std/streams/text-line-stream";
// `await nextTurn()` continues in the next turn of the event loop.
import {
  setImmediate as nextTurn,
  setTimeout as sleep,
} from "node:timers/promises";

// ------------------------------------------------------------------- addresses

/** The address that a server listens on, and a client connects to, by default. */
export const DEFAULT_HOST = "127.0.0.1";

/** The TCP port that a server listens on, and a client connects to, by default. */
export const DEFAULT_PORT = 9999;

/** Parses a port from 0 to 65535. Returns `undefined` for any other text. */
export function parsePort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

/** Formats `host:port`. IPv6 hosts contain colons, so they get brackets. */
export function formatAddress(hostname: string, port: number): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

// ---------------------------------------------------------------- registration

/** The maximum length of a name in characters (Unicode code points). */
export const MAX_NAME_CHARS = 20;
/** NFKC can make a text shorter: at most four characters become one. */
const MAX_TYPED_NAME_CHARS = 4 * MAX_NAME_CHARS;
const NAME_TOO_LONG = `A name has at most ${MAX_NAME_CHARS} characters.`;

/** Letters, digits and marks of any script, and `.` `_` `-`. */
const NAME_PATTERN = /^[\p{L}\p{Nd}][\p{L}\p{Nd}\p{M}._\-]*$/u;
const NAME_RULE =
  "A name has letters, digits and . - _ only, and a letter or digit first.";
/** Characters that are not drawn. With them, two different names could look the same. */
const IGNORABLE = /\p{Default_Ignorable_Code_Point}/u;
const RESERVED_KEYS = ["SYSTEM", "You"].map(nameKey);

/** A name that may be used, or a sentence that says why it may not. */
export type NameCheck = { name: string } | { refusal: string };

/**
 * Checks the name that a client asks for.
 *
 * Surrounding spaces are dropped. Then Unicode's normal form NFKC replaces characters
 * that are variants of others, for example the wide `ｂｏｂ` with `bob`. Characters of two
 * alphabets that look alike, such as the Latin `a` and the Cyrillic `а`, remain
 * different: to detect them would need a large table (Unicode's "confusables").
 *
 * @param typed the line that was received. If it is empty, the name is `User_PORT`.
 * @param port the client's TCP port.
 * @param isTaken whether a member has the name with this {@linkcode nameKey}.
 */
export function checkName(
  typed: string,
  port: number,
  isTaken: (key: string) => boolean,
): NameCheck {
  // NFKC can take a second for a long text, so the length is also checked before it.
  const isFarTooLong = isLineTooLong(typed) ||
    isLongerThan(typed.trim(), MAX_TYPED_NAME_CHARS);
  if (isFarTooLong) return { refusal: NAME_TOO_LONG };
  const name = typed.trim().normalize("NFKC");
  if (name === "") return { name: defaultName(port, isTaken) };
  if (isLongerThan(name, MAX_NAME_CHARS)) return { refusal: NAME_TOO_LONG };
  if (!NAME_PATTERN.test(name) || IGNORABLE.test(name)) {
    return { refusal: NAME_RULE };
  }
  const key = nameKey(name);
  if (RESERVED_KEYS.includes(key)) {
    return { refusal: `The name ${name} is reserved.` };
  }
  if (isTaken(key)) return { refusal: `The name ${name} is taken.` };
  return { name: copyString(name) };
}

/** Returns `User_PORT`, or `User_PORT_2` and so on if somebody took that name. */
function defaultName(port: number, isTaken: (key: string) => boolean): string {
  let name = `User_${port}`;
  for (let n = 2; isTaken(nameKey(name)); n++) name = `User_${port}_${n}`;
  return name;
}

/**
 * Returns the key of a name: two names are the same if their keys are equal. Case does
 * not count. To ignore it, one conversion is not enough: the Greek letters `ς` and `σ`
 * become equal only in upper case, and the German `ẞ` and `ß` only in lower case.
 * Not handled: a few Greek letters with two combining marks.
 */
export function nameKey(name: string): string {
  return name.toLowerCase().toUpperCase().toLowerCase().normalize("NFKC");
}

/**
 * Whether a line begins an HTTP request. Any web page can make the browser of its
 * visitor send one to this port. Without this check, its body would appear in the
 * room. If the line was cut, the HTTP version at its end may be missing.
 */
export function isHttpRequest(line: string): boolean {
  const pattern = isLineTooLong(line)
    ? /^[A-Z]+ \S+/
    : /^[A-Z]+ \S+ HTTP\/1\.\d$/;
  return pattern.test(line);
}

// -------------------------------------------------------------- untrusted input

/** The maximum length of a message in characters (Unicode code points). */
export const MAX_MESSAGE_CHARS = 1_000;

/** Characters that a terminal obeys, or that mislead whoever reads the text. */
const UNSAFE = new RegExp(
  "[" + [
    "\\u0000-\\u001f\\u007f-\\u009f", // control characters: ESC, carriage return
    "\\u2028\\u2029", // line and paragraph separators: some programs start a new line
    "\\u202a-\\u202e\\u2066-\\u2069", // change the direction of what follows
  ].join("") + "]",
  "g",
);

/** Something to see. U+2800 is drawn like a space: a Braille cell without dots. */
const VISIBLE = /[^\s\u2800\p{Default_Ignorable_Code_Point}]/u;

/**
 * Sanitizes a text: removes the characters that could fool whoever sees it. A tab
 * becomes a space. Joiners stay, since emoji and many scripts need them.
 *
 * @returns the safe text, which is empty if there is nothing to see in it.
 */
export function sanitize(text: string): string {
  const safe = text.replaceAll("\t", " ").replace(UNSAFE, "");
  return VISIBLE.test(safe) ? copyString(safe) : "";
}

/**
 * Makes a real copy of a string. A JavaScript engine may represent a short line as a
 * view of the chunk that it was cut out of, and so keep 64 KiB in memory.
 */
function copyString(text: string): string {
  return (" " + text).slice(1);
}

/** Whether a text has more than `max` characters (Unicode code points). */
export function isLongerThan(text: string, max: number): boolean {
  // A code point has one or two UTF-16 code units, so most texts need no counting.
  if (text.length <= max) return false;
  if (text.length > 2 * max) return true;
  return [...text].length > max;
}

/** The maximum length of a line in UTF-16 code units, before it is sanitized. */
const MAX_LINE_LENGTH = 4 * 1024;

/**
 * Whether a line from {@linkcode readLines} is too long. It may have been cut, so it
 * must be refused.
 */
export function isLineTooLong(line: string): boolean {
  return line.length > MAX_LINE_LENGTH;
}

// ------------------------------------------------------------- what is announced

/** Formats a message. No member can be called `[SYSTEM]`: see {@linkcode checkName}. */
export function formatMessage(sender: string, text: string): string {
  return `${sender}: ${text}`;
}

/** Formats a list of `count` members. `names` may hold only the first of them. */
export function formatUsers(count: number, names: string[]): string {
  const listed = `Active users (${count}): ${names.join(", ")}`;
  const unlisted = count - names.length;
  return unlisted > 0 ? `${listed} and ${unlisted} more` : listed;
}

/** Announcements: what the server itself says, to one client or to all. */
export const announcements = {
  enterName: (port: number): string =>
    `[SYSTEM] Enter your name, or press Enter to be User_${port}:`,
  nameRefused: (refusal: string): string =>
    `[SYSTEM] ${refusal} Enter another name:`,
  welcome: (name: string, users: string): string =>
    `[SYSTEM] Welcome, ${name}! ${users}`,
  joined: (name: string): string => `[SYSTEM] ${name} joined the chat!`,
  left: (name: string): string => `[SYSTEM] ${name} left the chat!`,
  messageTooLong: `[SYSTEM] Message too long: ${
    MAX_MESSAGE_CHARS.toLocaleString("en")
  } characters at most. It was not sent.`,
  chatFull: "[SYSTEM] The chat is full. Try again later.",
  noNameInTime: "[SYSTEM] No name given in time. Goodbye!",
  notAWebServer: "[SYSTEM] This is a chat, not a web server. Goodbye!",
  shutdown: "[SYSTEM] The server is shutting down. Goodbye!",
};

/** Whether a line from the server asks for a name. */
export function isNameQuestion(line: string): boolean {
  return line.startsWith("[SYSTEM] Enter your name");
}

/** Whether a line from the server says that a name was accepted. */
export function isWelcome(line: string): boolean {
  return line.startsWith("[SYSTEM] Welcome, ");
}

/** Returns the reason if a line from the server refuses a name. */
export function parseRefusal(line: string): string | undefined {
  return /^\[SYSTEM\] (.+) Enter another name:$/.exec(line)?.[1];
}

// ---------------------------------------------------------- broken connections

/**
 * Whether an error says that a connection is broken or closed, which every network
 * program must expect. Any other error is a bug, or concerns a file.
 */
export function isConnectionError(error: unknown): boolean {
  return CONNECTION_ERRORS.some((type) => error instanceof type) ||
    CONNECTION_ERROR_CODES.includes((error as { code?: string }).code ?? "");
}

const CONNECTION_ERRORS = [
  Deno.errors.BadResource, // we have closed it
  Deno.errors.BrokenPipe, // the peer has closed it, and we write
  Deno.errors.ConnectionAborted,
  Deno.errors.ConnectionReset, // the peer sent an RST
  Deno.errors.Interrupted, // we have closed it during a read or a write
  Deno.errors.NetworkUnreachable,
  Deno.errors.NotConnected,
  Deno.errors.TimedOut, // the peer's machine does not answer
];

/** Errors that have no class in Deno. */
const CONNECTION_ERROR_CODES = [
  "EHOSTDOWN", // the peer's machine is down
  "EHOSTUNREACH", // there is no route to the peer any more
  "EINVAL", // macOS: an option of a socket is set after an RST
  "ENETDOWN", // this machine's network is down
];

// --------------------------------------------------------------------- writing

/** Anything that bytes can be written to: a connection, stdout. */
export type Sink = Pick<Deno.Conn, "write">;

/**
 * Writes all bytes. One `write` may accept only some of them, as many as the kernel has
 * room for. When this resolves, the kernel has accepted all of them, but the other side
 * may not have them yet.
 *
 * @param onProgress is called each time the kernel has accepted some bytes.
 */
export async function writeAll(
  sink: Sink,
  bytes: Uint8Array,
  onProgress?: () => void,
): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    written += await sink.write(bytes.subarray(written));
    onProgress?.();
  }
}

// --------------------------------------------------------------------- framing

/** Anything that bytes can be read from: a connection, stdin, a test's array. */
export type Source = Pick<Deno.Conn, "read">;

/**
 * Framing: splits a stream of bytes into lines.
 *
 * TCP carries bytes, not messages. One read may return half a line or fifty lines,
 * and it may end in the middle of a character. The stages below turn whatever
 * arrives into whole lines.
 *
 * A stage asks for its next chunk only when the next stage has room for it. So while
 * nobody takes the lines, the socket is not read, its buffer fills up, and TCP makes
 * the sender wait. That is back-pressure.
 *
 * A line ends with `\n` or `\r\n`, and the last one with the end of the input. A
 * broken connection counts as the end of the input: what arrived before is kept.
 *
 * @throws if reading fails for another reason, for example if stdin is a directory.
 */
export function readLines(source: Source): ReadableStream<string> {
  const chunks = readChunks(source); // stage 1: decodes bytes
  const parts = shareFairly(chunks); // stage 2: shares the thread fairly
  const boundedParts = cutLongLines(parts); // stage 3: limits the length of a line
  const stream = ReadableStream.from(boundedParts);
  return stream.pipeThrough(new TextLineStream()); // stage 4: splits text into lines
}

/** Size in bytes of the buffer for a connection that sends little. */
const IDLE_BUFFER_SIZE = 512;
/** Size in bytes of the buffer for a connection that has filled the small one. */
const BUSY_BUFFER_SIZE = 64 * 1024;

/** Stage 1: reads bytes as they arrive and decodes them. Invalid bytes become U+FFFD. */
async function* readChunks(source: Source): AsyncGenerator<string> {
  // The decoder keeps the first bytes of a character until the others arrive.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let buffer = new Uint8Array(IDLE_BUFFER_SIZE);
  while (true) {
    const count = await source.read(buffer).catch(endIfBroken);
    if (count === null) break; // the end of the input
    yield decoder.decode(buffer.subarray(0, count), { stream: true });
    const isBusy = count >= IDLE_BUFFER_SIZE;
    const size = isBusy ? BUSY_BUFFER_SIZE : IDLE_BUFFER_SIZE;
    if (size !== buffer.length) buffer = new Uint8Array(size);
  }
  yield decoder.decode();
}

/** A broken connection is the end of the input. Any other error is passed on. */
function endIfBroken(error: unknown): null {
  if (isConnectionError(error)) return null;
  throw error;
}

// --------------------------------------------------------- fairness and limits

// Skip this section at first: it protects against those who send too much.

/** The maximum number of lines of one connection that are handled in one turn. */
const MAX_LINES_PER_TURN = 1_024;
/** After a chunk of this many UTF-16 code units, or more, a connection has to queue. */
const LARGE_CHUNK_LENGTH = 4 * 1024;
// A chunk is split into parts. A part is some whole lines (MAX_LINES_PER_TURN at most), or
// the text after the last newline. For example, "a\nb\nc" has the parts "a\nb\n" and "c".
const WHOLE_LINES = `(?:[^\n]*\n){1,${MAX_LINES_PER_TURN}}`;
const UNFINISHED_LINE = "[^\n]+";
const PARTS = new RegExp(`${WHOLE_LINES}|${UNFINISHED_LINE}`, "g");

/**
 * Stage 2: fairness. One thread serves all connections, and a chunk of 64 KiB may
 * hold 65,536 lines. If they were handled in one go, all others would have to wait.
 * So a chunk is passed on in parts. After each part, the connection waits until
 * the event loop has served others. Connections that send large chunks wait in one
 * queue instead, and one of them is served in each turn. People who type send
 * little, and do not queue.
 *
 * The client needs this as well: it must look at the keyboard while lines come in.
 */
async function* shareFairly(
  chunks: AsyncIterable<string>,
): AsyncGenerator<string> {
  for await (const chunk of chunks) {
    const isLarge = chunk.length >= LARGE_CHUNK_LENGTH;
    for (const part of chunk.match(PARTS) ?? []) {
      yield part;
      if (isLarge) await waitInQueue();
      else await nextTurn();
    }
  }
}

let queueEnd: Promise<void> = Promise.resolve();

/**
 * Waits in the queue. In each turn of the event loop, at most one connection leaves it.
 *
 * The wait is a timer, because a queue of `nextTurn` would keep the event loop busy. Then
 * Deno would look at its sockets only about once in 60 turns.
 */
function waitInQueue(): Promise<void> {
  queueEnd = queueEnd.then(() => sleep(0));
  return queueEnd;
}

/**
 * Stage 3: bounds the memory that a line without a newline can take. When more than
 * {@linkcode MAX_LINE_LENGTH} + 1 units of a line have been passed on, the rest of it is
 * thrown away, up to its newline. If MAX_LINE_LENGTH was 4:
 *
 *     what arrives      "abc"    "def"    "ghi"    "j\n"
 *     is passed on      "abc"    "def"             "\n"
 *
 * So {@linkcode isLineTooLong} is true for each line that was cut.
 */
async function* cutLongLines(
  parts: AsyncIterable<string>,
): AsyncGenerator<string> {
  // If the last unit of a cut line is a `\r`, TextLineStream removes it. What remains must
  // still be too long.
  const maxLength = MAX_LINE_LENGTH + 1;
  let lineLength = 0; // of the unfinished line
  for await (const part of parts) {
    const isCut = lineLength > maxLength;
    const endsLine = part.endsWith("\n");
    if (!isCut) {
      yield part;
    } else if (endsLine) {
      yield part.slice(part.indexOf("\n")); // its newline, and the lines after it
    }
    lineLength = endsLine ? 0 : lineLength + part.length;
  }
}
