/**
 * Programs as their users see them: arguments, stdin, stdout, stderr, signals,
 * the exit status, and nothing else. Each runs with the permissions that its
 * arguments give it, from the folder above this one.
 *
 *     await using program = new Program(["--allow-net", "client.ts"], { input: "alice\nhi\n" });
 *     const { code, stdout, stderr } = await program.ends();
 *
 *     await using server = await Server.start();
 *     const alice = await server.join("alice");
 */

import { assert, assertEquals, assertMatch, fail } from "@std/assert";
import { inTime, Person, testProgram } from "./helpers.ts";

/** All programs live here: its clock differs from that of UTC by 5 h 45 min. */
export const TIME_ZONE = "Asia/Kathmandu";

/** How a program ended, and all that it wrote, with `[time]` for the times. */
export interface Ended {
  /** The exit status. */
  code: number;
  /** Results. */
  stdout: string;
  /** Remarks. */
  stderr: string;
}

function timeless(text: string): string {
  return text.replace(/^\[\d\d:\d\d:\d\d\] /gm, "[time] ");
}

/** The reading end of a pipe. What nobody asks for is not read. */
export class Pipe {
  /** All that has been read so far. */
  text = "";
  readonly #chunks: ReadableStreamDefaultReader<string>;

  /** Of a program's stdout or stderr. */
  constructor(bytes: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#chunks = bytes.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Reads until the pattern is there. Fails if the program ends before. */
  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) return match;
      const isOpen = await inTime(this.more(), "The test", `${pattern}`);
      assert(isOpen, `No ${pattern} before the end, only: ${this.text}`);
    }
  }

  /** Reads one chunk. Resolves with whether there was one. */
  async more(): Promise<boolean> {
    const { value, done } = await this.#chunks.read();
    this.text += value ?? "";
    return !done;
  }

  /** Reads all that comes. */
  async toEnd(): Promise<string> {
    while (await this.more());
    return this.text;
  }

  /** Reads no more, as `head` does when it has enough. */
  close(): Promise<void> {
    return this.#chunks.cancel();
  }
}

/** What a program may be given. */
export interface ProgramOptions {
  /** All of its input; without it, the input stays open. */
  input?: string;
  /** How many file descriptors it may have (`ulimit -n`). */
  openFiles?: number;
  /** More for its environment. */
  env?: Record<string, string>;
}

/** A program, in pipes. */
export class Program {
  /** Its results. */
  readonly stdout: Pipe;
  /** Its remarks. */
  readonly stderr: Pipe;
  /** Its number; for `/proc/PID/status`, say. */
  readonly pid: number;
  readonly #command: string;
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;

  /** Starts it; `args` are what one types after `deno run`. */
  constructor(args: string[], { input, openFiles, env }: ProgramOptions = {}) {
    this.#command = `deno run ${args.join(" ")}`;
    const deno = [Deno.execPath(), "run", ...args];
    const limit = `ulimit -n ${openFiles}; exec "$@"`;
    const [program, ...rest] = openFiles
      ? ["sh", "-c", limit, "sh", ...deno]
      : deno;
    this.#child = new Deno.Command(program!, {
      args: rest,
      cwd: new URL("..", import.meta.url),
      env: { TZ: TIME_ZONE, ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.pid = this.#child.pid;
    this.stdout = new Pipe(this.#child.stdout);
    this.stderr = new Pipe(this.#child.stderr);
    this.#stdin = this.#child.stdin.getWriter();
    if (input !== undefined) {
      this.types(input);
      this.#stdin.close().catch(() => {});
    }
  }

  /** Writes to its stdin, if it still reads. */
  types(text: string): void {
    // a program may end without having read all of it
    this.#stdin.write(new TextEncoder().encode(text)).catch(() => {});
  }

  /** Sends it a signal. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for the end of the program. */
  async ends(): Promise<Ended> {
    const [stdout, stderr, { code }] = await inTime(
      Promise.all([
        this.stdout.toEnd(),
        this.stderr.toEnd(),
        this.#child.status,
      ]),
      "The test",
      `${this.#command} to end`,
    );
    return { code, stdout: timeless(stdout), stderr: timeless(stderr) };
  }

  /** Whatever happened, it does not outlive the test. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it has ended, as it should
    }
    await this.#child.status;
    await Promise.all([this.stdout.close(), this.stderr.close()]);
    await this.#stdin.abort().catch(() => {});
  }
}

/** The server as a program, and the people who are connected to it. */
export class Server extends Program {
  /** Where it listens. */
  port = 0;
  #people: Person[] = [];

  /** Resolves when it listens; by default on any free port. */
  static async start(
    args: string[] = ["0"],
    options?: ProgramOptions,
  ): Promise<Server> {
    const server = new Server(["--allow-net", "server.ts", ...args], options);
    try {
      await server.listens();
      if (options?.openFiles) await hasFiles(server.pid);
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Waits until it listens. Fails with what it says on stderr if it exits. */
  async listens(): Promise<void> {
    const start = this.stdout.shows(/Listening on .+:(\d+)\n/);
    const [, port] = await start.catch(async () => {
      const { stderr } = await this.ends();
      fail(`Nobody can join, since the server has exited: ${stderr}`);
    });
    this.port = Number(port);
  }

  /** Somebody who has connected, and seen nothing yet. */
  async connect(hostname = "127.0.0.1"): Promise<Person> {
    const conn = await Deno.connect({ hostname, port: this.port });
    const person = new Person(conn);
    this.#people.push(person);
    return person;
  }

  /** Somebody who has joined, and seen the question and the welcome. */
  async join(name: string): Promise<Person> {
    const person = await this.connect();
    person.name = name;
    await person.sends(name);
    await person.nextLine(); // the question
    const line = await person.nextLine();
    const isWelcome = line.startsWith(`[SYSTEM] Welcome, ${name}!`);
    assert(isWelcome, `${name} should be welcomed, but sees: ${line}`);
    return person;
  }

  /** Presses Ctrl+C. */
  async stop(): Promise<Ended> {
    this.kill("SIGINT");
    return await this.ends();
  }

  /** Everybody disconnects, and it does not outlive the test. */
  override async [Symbol.asyncDispose](): Promise<void> {
    for (const person of this.#people) person.closes();
    await super[Symbol.asyncDispose]();
  }
}

/**
 * Half a second after its start Deno 2.9 makes a pair of sockets for itself, to
 * catch SIGUSR1, and ends the program if it cannot ("Deno has panicked"). So the
 * files must not run out before. Linux only: it asks /proc.
 */
async function hasFiles(pid: number): Promise<void> {
  const SIGUSR1 = 1n << 9n; // in the set of the signals that are caught
  for (let n = 0; Deno.build.os === "linux" && n < 200; n++) { // 2 s at most
    const status = await Deno.readTextFile(`/proc/${pid}/status`);
    const caught = /SigCgt:\s*(\w+)/.exec(status)?.[1];
    if (BigInt(`0x${caught}`) & SIGUSR1) return;
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** A folder with a database, and the servers that use it. */
export class Disk {
  /** The path of the folder. */
  readonly folder: string = Deno.makeTempDirSync();
  /** The path of the database. */
  readonly file: string = `${this.folder}/chat.db`;
  readonly #servers: Server[] = [];

  /** Starts a server with an option for the file. It may use no other file. */
  async start(option: string): Promise<Server> {
    const server = new Server([
      "--no-prompt",
      "--allow-net",
      `--allow-read=${this.file}`,
      `--allow-write=${this.file}`,
      ...["server.ts", "0", option, this.file],
    ]);
    this.#servers.push(server);
    await server.listens();
    return server;
  }

  /** No server outlives the test, and no file. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Registers a test with a folder of its own. */
export function testDisk(
  name: string,
  fn: (disk: Disk) => Promise<void>,
): void {
  testProgram(name, async () => {
    await using disk = new Disk();
    await fn(disk);
  });
}

/** A server that sends what a test wants. */
export class FakeServer {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  /** Where it listens. */
  readonly port: number = (this.#listener.addr as Deno.NetAddr).port;
  readonly #clients: Person[] = [];

  /** The next client that connects. */
  async accept(): Promise<Person> {
    const conn = await inTime(this.#listener.accept(), "The test", "a client");
    const client = new Person(conn, "the fake server");
    this.#clients.push(client);
    return client;
  }

  /** Disconnects all clients. */
  [Symbol.dispose](): void {
    for (const client of this.#clients) client.closes();
    this.#listener.close();
  }
}

/** Fails unless the program ends so, with one line on stderr and no more. */
export async function failsToStart(
  code: number,
  args: string[],
  ...words: string[]
): Promise<void> {
  await using program = new Program(args, { input: "" });
  const command = `deno run ${args.join(" ")}`;
  // a server that starts all the same would not end by itself
  const hasStarted = await inTime(
    program.stdout.more(),
    "The test",
    `${command} to end`,
  );
  if (hasStarted) program.kill("SIGTERM");
  const { stderr, ...rest } = await program.ends();
  assertEquals(rest, { code, stdout: "" }, command);
  assertMatch(stderr, /^.+\n$/, `${command}: one line, please`);
  for (const word of words) {
    assert(stderr.includes(word), `${command}: no ${word} in: ${stderr}`);
  }
}
