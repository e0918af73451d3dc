/**
 * What server and client must agree on: how bytes become lines, which names are
 * allowed, what is taken out of a message, and every sentence of the server. No
 * socket and no terminal in here. A conversation, with `>` before what is typed:
 *
 *       [SYSTEM] Enter your name, or press Enter to be User_54321:
 *     > alice
 *       [SYSTEM] Welcome, alice! Active users (2): alice, bob
 *     > Hello everyone!
 *       bob: Hi alice!
 */

import { TextLineStream } from "@std/streams/text-line-stream";
import { setImmediate as nextTurn } from "node:timers/promises";

/** Where a server listens, and a client connects, unless told otherwise. */
export const DEFAULT_HOST = "127.0.0.1";
/** The TCP port of both, unless told otherwise. */
export const DEFAULT_PORT = 9999;
/** Characters (Unicode code points) in a name; a longer one is refused. */
export const MAX_NAME_CHARS = 20;
/** Characters in a message; a longer one is refused, and its author is told. */
export const MAX_MESSAGE_CHARS = 1_000;
/** UTF-16 units in a line; the rest is thrown away, what is left is refused. */
export const MAX_LINE_LENGTH = 64 * 1024;
/** Lines that all who send much get into one turn of the event loop. */
export const MAX_LINES_A_TURN = 1_024;
/** How long what is on its way to a leaver may take; then it is lost. */
export const GOODBYE_MS = 1_000;

/** A port from 0 to 65535, or `undefined` for any other text. */
export function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  return port <= 65_535 ? port : undefined;
}

/** `host:port`, and `[host]:port` for IPv6, which has colons of its own. */
export function formatAddress(hostname: string, port: number): string {
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** Anything to read bytes from: a connection, or a test's array. */
export type Source = Pick<Deno.Conn, "read">;

/**
 * Framing: TCP carries bytes, not messages. One read may bring half a line or
 * fifty, and may end in the middle of a letter. So bytes become text, and text
 * becomes lines, here and nowhere else. `\n` and `\r\n` end a line; so does the
 * end of the input. A reset is an end, too: no line that came before it is lost.
 */
export function readLines(source: Source): ReadableStream<string> {
  return ReadableStream.from(readText(source))
    .pipeThrough(new TextLineStream());
}

// Who waits for bytes holds a small buffer, until more come at a time.
const MIN_READ_BYTES = 512;
const MAX_READ_BYTES = 64 * 1024;
// All who send so much stand in one queue: each turn lets one of them go on.
let queue: Promise<unknown> = Promise.resolve();
/** At most {@linkcode MAX_LINES_A_TURN} lines, or what has no newline yet. */
const PIECE = new RegExp(`(?:[^\n]*\n){1,${MAX_LINES_A_TURN}}|[^\n]+`, "g");

/**
 * Reads only when it is asked to: as long as nobody asks, the kernel's buffer
 * fills, and TCP makes the sender wait. That is back-pressure.
 */
async function* readText(source: Source): AsyncGenerator<string> {
  const decoder = new TextDecoder(); // keeps half a letter for the next read
  let buffer = new Uint8Array(MIN_READ_BYTES);
  let unfinished = 0; // length of the text since the last newline
  for (;;) {
    const count = await source.read(buffer).catch(() => null);
    const chunk = buffer.subarray(0, count ?? 0);
    let text = decoder.decode(chunk, { stream: count !== null });
    const end = text.indexOf("\n");
    if (unfinished >= MAX_LINE_LENGTH) text = end < 0 ? "" : text.slice(end);
    if (end < 0) unfinished += text.length;
    else unfinished = text.length - 1 - text.lastIndexOf("\n");
    const isMuch = count !== null && count >= MIN_READ_BYTES;
    for (const piece of text.match(PIECE) ?? [""]) {
      yield piece;
      await (isMuch ? queue = queue.then(() => nextTurn()) : nextTurn());
    }
    if (count === null) return;
    const size = isMuch ? MAX_READ_BYTES : MIN_READ_BYTES;
    if (size !== buffer.length) buffer = new Uint8Array(size);
  }
}

/** What a name is made of; letters and marks that cannot be seen are left out. */
const NAME =
  /^(?!.*\p{Default_Ignorable_Code_Point})[\p{L}\p{Nd}][\p{L}\p{Nd}\p{M}._\-]*$/u;
const NAME_RULE = "letters, digits and . - _ only, and a letter or digit first";
const RESERVED_KEYS = ["SYSTEM", "You"].map(nameKey);

/**
 * Makes a name of what somebody typed, or the sentence that says why it may not
 * be one. Surrounding blanks do not count, and Unicode NFKC makes one of letters
 * that only look different (ｂｏｂ, bob). But letters of two alphabets that look
 * the same (Latin a, Cyrillic а) stay two.
 *
 * @param port the client's TCP port; Enter alone takes the name made of it.
 * @param isTaken whether somebody has the name with this {@linkcode nameKey}.
 */
export function register(
  typed: string,
  port: number,
  isTaken: (key: string) => boolean,
): { name: string } | { refusal: string } {
  const long = { refusal: `A name has at most ${MAX_NAME_CHARS} characters.` };
  // Cheap checks before costly ones: NFKC is slow for a long row of marks, and
  // makes one character of four at most.
  if (typed.length >= MAX_LINE_LENGTH) return long;
  if (isTooLong(typed.trim(), 4 * MAX_NAME_CHARS)) return long;
  let name = typed.trim().normalize("NFKC");
  if (isTooLong(name, MAX_NAME_CHARS)) return long;
  if (name === "") {
    name = `User_${port}`;
    for (let n = 2; isTaken(nameKey(name)); n++) name = `User_${port}_${n}`;
  }
  if (!NAME.test(name)) return { refusal: `A name has ${NAME_RULE}.` };
  const key = nameKey(name);
  const isReserved = RESERVED_KEYS.includes(key);
  if (isReserved) return { refusal: `The name ${name} is reserved.` };
  return isTaken(key) ? { refusal: `The name ${name} is taken.` } : { name };
}

/** Names with the same key are one: alice and Alice; σ and ς share a capital. */
export function nameKey(name: string): string {
  return name.toUpperCase().toLowerCase().normalize("NFKC");
}

/**
 * Taken out of every message: what makes a terminal do things (ESC, carriage
 * return, C1), what some programs show as a new line, and what turns the
 * direction of all that follows. Joiners stay: emoji and many scripts need them.
 */
const UNSAFE =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const VISIBLE = /[^\s\p{Default_Ignorable_Code_Point}]/u;

/** The text without what could fool its reader; empty if nothing can be seen. */
export function cleanText(text: string): string {
  const clean = text.replaceAll("\t", " ").replace(UNSAFE, "");
  return VISIBLE.test(clean) ? clean : "";
}

/** Whether a text has more characters than that. */
export function isTooLong(text: string, most = MAX_MESSAGE_CHARS): boolean {
  // `length` counts an emoji twice, so only what lies in between needs a count
  return text.length > 2 * most ||
    text.length > most && [...text].length > most;
}

/**
 * Every sentence of the server, but for why a name is refused: {@linkcode
 * register}. A message begins with its author, and nobody is called `[SYSTEM]`.
 */
export const texts = {
  enterName: (port: number): string =>
    `[SYSTEM] Enter your name, or press Enter to be User_${port}:`,
  nameRefused: (why: string): string => `[SYSTEM] ${why} Enter another name:`,
  welcome: (name: string, users: string): string =>
    `[SYSTEM] Welcome, ${name}! ${users}`,
  activeUsers: (count: number, names: string[]): string =>
    `Active users (${count}): ${names.join(", ")}` +
    (count > names.length ? ` and ${count - names.length} more` : ""),
  joined: (name: string): string => `[SYSTEM] ${name} joined the chat!`,
  left: (name: string): string => `[SYSTEM] ${name} left the chat!`,
  message: (name: string, text: string): string => `${name}: ${text}`,
  messageTooLong:
    "[SYSTEM] Message too long: 1,000 characters at most. It was not sent.",
  full: "[SYSTEM] The chat is full. Try again later.",
  noName: "[SYSTEM] No name given in time. Goodbye!",
  shutdown: "[SYSTEM] The server is shutting down. Goodbye!",
};

/** Whether a name has been accepted with this line. */
export function isWelcome(line: string): boolean {
  return line.startsWith("[SYSTEM] Welcome, ");
}

/** Why a name has been refused with this line; `undefined` for any other line. */
export function refusalReason(line: string): string | undefined {
  return /^\[SYSTEM\] (.+) Enter another name:$/.exec(line)?.[1];
}
