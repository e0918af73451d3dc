/**
 * What the lessons share: a server in this process, people who talk to it over
 * real sockets, and the two programs as processes of their own.
 *
 * No test sleeps to wait. To show that something did not arrive, a test has
 * something said after it, and sees that arrive first: TCP keeps the order.
 */

import { assertEquals, AssertionError, fail } from "@std/assert";
import { nextTurn, readLines, texts } from "../protocol.ts";
import { Journal, Room, type RoomOptions, serve } from "../server.ts";

/** Somebody who waits longer than this for a line fails the test. */
const PATIENCE_MS = 10_000;

const encoder = new TextEncoder();

type Permission = "net" | "run";

function isGranted(name: Permission): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}

/** A test that needs sockets: without `--allow-net` it is shown as ignored. */
export function testNet(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, ignore: !isGranted("net") });
}

/** A test that starts programs: without `--allow-run` it is shown as ignored. */
export function testRun(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, ignore: !isGranted("net") || !isGranted("run") });
}

/** The first lesson says this once for all of them. */
export function sayHowToRunAll(): void {
  if (!isGranted("net") || !isGranted("run")) {
    console.log(
      "Some tests need sockets or programs: `deno task test` runs all.",
    );
  }
}

/** A chat server in this process, on a port of its own. */
export class TestServer {
  readonly port: number;
  readonly room: Room;
  /** What it has logged so far. */
  log = "";
  #listener: Deno.TcpListener;
  #serving: Promise<void>;
  #people: Person[] = [];

  constructor(options: RoomOptions = {}) {
    const decoder = new TextDecoder();
    const journal = new Journal(false, {
      write: (bytes) => {
        this.log += decoder.decode(bytes, { stream: true });
        return Promise.resolve(bytes.length);
      },
    });
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.room = new Room(journal, options);
    this.#serving = this.#serve();
  }

  /** Somebody who has connected and seen the question for the name. */
  async connect(): Promise<Person> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    const person = new Person(conn);
    this.#people.push(person);
    await person.hears(texts.enterName(person.port));
    return person;
  }

  /** Somebody who has joined, and seen the welcome. */
  async join(name: string): Promise<Person> {
    const person = await this.connect();
    person.name = name;
    await person.says(name);
    const welcome = await person.nextLine();
    const start = `[SYSTEM] Welcome, ${name}! Active users (`;
    assertEquals(welcome.slice(0, start.length), start, `${name}'s welcome`);
    return person;
  }

  /** Several people in a room where everybody has seen everybody come. */
  async joinAll<Names extends string[]>(
    ...names: Names
  ): Promise<{ [Index in keyof Names]: Person }> {
    const people: Person[] = [];
    for (const name of names) {
      const newcomer = await this.join(name);
      for (const person of people) await person.hears(texts.joined(name));
      people.push(newcomer);
    }
    return people as { [Index in keyof Names]: Person };
  }

  /** Everybody hangs up, the server stops, and nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const person of this.#people) person.hangsUp();
    await this.room.shutDown();
    await this.#serving;
    await nextTurn();
  }

  /** The accept loop of the program, but one that knows when all is over. */
  async #serve(): Promise<void> {
    const served: Promise<void>[] = [];
    try {
      for (;;) served.push(serve(await this.#listener.accept(), this.room));
    } catch {
      await Promise.all(served); // the listener was closed
    }
  }
}

/** A person at the other end of a connection, as with `nc`. */
export class Person {
  /** For messages of failed tests. */
  name = "the newcomer";
  readonly conn: Deno.TcpConn;
  #lines: AsyncGenerator<string>;
  #isGone = false;

  constructor(conn: Deno.TcpConn) {
    this.conn = conn;
    this.#lines = readLines(conn);
  }

  /** The TCP port of this end: the number in `User_54321`. */
  get port(): number {
    return this.conn.localAddr.port;
  }

  /** Sends lines. */
  says(...lines: string[]): Promise<void> {
    return this.sends(lines.map((line) => line + "\n").join(""));
  }

  /** Sends text or bytes as they are, without a newline. */
  async sends(data: string | Uint8Array): Promise<void> {
    let bytes = typeof data === "string" ? encoder.encode(data) : data;
    while (bytes.length > 0) {
      bytes = bytes.subarray(await this.conn.write(bytes));
    }
  }

  /** The next line on the screen. Fails when there is none to come. */
  async nextLine(): Promise<string> {
    const { value, done } = await inTime(this.#lines.next(), this.name);
    if (done) fail(`${this.name} was hung up on`);
    return value;
  }

  /** Fails unless exactly these lines are the next on the screen. */
  async hears(...lines: string[]): Promise<void> {
    for (const line of lines) {
      assertEquals(await this.nextLine(), line, `on ${this.name}'s screen:`);
    }
  }

  /** Fails unless the server ends the connection now, with nothing more said. */
  async isHungUpOn(): Promise<void> {
    const { value } = await inTime(this.#lines.next(), this.name);
    assertEquals(
      value,
      undefined,
      `${this.name} should be hung up on, but got:`,
    );
  }

  /** Says 'no more from me' and can still hear: half-close, a FIN. */
  async endsInput(): Promise<void> {
    await this.conn.closeWrite();
  }

  /** Is gone, as if the program had been closed. */
  hangsUp(): void {
    if (!this.#isGone) this.conn.close();
    this.#isGone = true;
  }
}

/** Fails with the complaint if the promise takes longer than that. */
export async function within<T>(
  ms: number,
  promise: Promise<T>,
  complaint: string,
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new AssertionError(complaint));
  }, ms);
  return await Promise.race([promise, late.promise])
    .finally(() => clearTimeout(timer));
}

/** Fails, saying who waited in vain, when PATIENCE_MS are over. */
export function inTime<T>(promise: Promise<T>, who: string): Promise<T> {
  const complaint = `${who} waited ${PATIENCE_MS} ms in vain`;
  return within(PATIENCE_MS, promise, complaint);
}
