/**
 * A terminal with a program in it, and a person who types and looks. It is a
 * real one, tmux; we look again and again until the screen shows what it should.
 *
 *     await using alice = await Terminal.join(server.port, "alice");
 *     await alice.type("hello");
 *     await alice.endsWith("You: hello");
 */

import { fail } from "@std/assert";
import { testProgram } from "./helpers.ts";

/** The screen has to show what is expected by then, on a busy machine too. */
const PATIENCE_MS = 10_000;
/**
 * The time between the first two looks at the screen. Each look starts a process. So
 * the longer a test has waited, the longer it waits for the next look.
 */
const LOOK_MS = 15;
/** The longest time between two looks. */
const MAX_LOOK_MS = 250;

const ROOT = new URL("..", import.meta.url).pathname;

async function run(program: string, ...args: string[]): Promise<string> {
  const env = { LC_ALL: "C.UTF-8" };
  const command = new Deno.Command(program, { args, cwd: ROOT, env });
  const { stdout, stderr } = await command.output();
  const complaint = new TextDecoder().decode(stderr);
  if (complaint) throw new Error(`${program} ${args[0]}: ${complaint}`);
  return new TextDecoder().decode(stdout);
}

function hasTmux(): boolean {
  const { state } = Deno.permissions.querySync({ name: "run" });
  if (state !== "granted") return true; // `testProgram` says what is missing
  try {
    return new Deno.Command("tmux", { args: ["-V"] }).outputSync().success;
  } catch {
    return false;
  }
}

const isPossible = hasTmux();

/**
 * Registers a test that needs a terminal. Without permission it is only counted, as
 * by `testProgram`. Without tmux its title says what is missing.
 */
export const testTerminal: (name: string, fn: () => Promise<void>) => void =
  isPossible
    ? testProgram
    : (name, fn) =>
      Deno.test.ignore(`${name} (needs tmux: apt install tmux)`, fn);

/** The command for a client; no question for a permission may save it. */
export function client(port: number, ...options: string[]): string {
  const deno = `${Deno.execPath()} run --no-prompt --allow-net`;
  return [deno, "client.ts 127.0.0.1", port, ...options].join(" ");
}

/** What a terminal may have that is not usual. */
export interface TerminalOptions {
  /** The width of the window; 80 unless told otherwise. */
  columns?: number;
  /** As for the command `env`: `NO_COLOR=1`. */
  env?: string;
}

/** A window with a program in it. */
export class Terminal {
  readonly #socket: string;
  #looking: Promise<unknown> = Promise.resolve(); // all looks at it so far
  #isDisposed = false;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts a program; when it ends, the screen says how it left things. */
  static async open(
    program: string,
    { columns = 80, env = "-u NO_COLOR" }: TerminalOptions = {},
  ): Promise<Terminal> {
    const socket = `chat-test-${crypto.randomUUID()}`;
    const script = `sh -c 'echo pid $$; exec env ${env} ${program}'
      echo "exit $?"
      case $(stty -a) in
        *-icanon*|*"-echo "*) echo "raw mode";;
        *) echo "a sane terminal";;
      esac
      exec cat`;
    const terminal = new Terminal(socket);
    const size = ["-x", `${columns}`, "-y", "24"];
    await terminal.#tmux("new-session", "-d", ...size, "sh", "-c", script);
    return terminal;
  }

  /** The client, in the room; the next row that comes in is for the test. */
  static async join(
    port: number,
    name: string,
    options?: TerminalOptions,
  ): Promise<Terminal> {
    const program = client(port, "--name", name);
    const terminal = await Terminal.open(program, options);
    try {
      await terminal.shows("Welcome", "You:");
    } catch (error) {
      await terminal[Symbol.asyncDispose]();
      throw error;
    }
    return terminal;
  }

  /** Types characters as they are; `\r` is Enter. */
  async type(text: string): Promise<void> {
    await this.#tmux("send-keys", "-l", text);
  }

  /** Presses keys by their names: Left, C-a, Enter. */
  async press(...keys: string[]): Promise<void> {
    await this.#tmux("send-keys", ...keys);
  }

  /** Pastes a text in one go; a newline in it is Enter. */
  async paste(text: string): Promise<void> {
    await this.#tmux("set-buffer", text);
    await this.#tmux("paste-buffer");
  }

  /** Makes the window that wide, and waits for its program to be told so. */
  async resize(columns: number): Promise<void> {
    await this.#tmux("resize-window", "-x", `${columns}`);
    const tty = await this.#tmux("display-message", "-p", "#{pane_tty}");
    await this.#until(`should be ${columns} columns wide`, async () => {
      const size = await run("sh", "-c", `stty size < ${tty.trim()}`);
      return size.trim() === `24 ${columns}`;
    });
  }

  /** The rows of the screen; with `-e` the colours, with `-S -` the past. */
  async rows(...options: string[]): Promise<string[]> {
    const screen = await this.#tmux("capture-pane", "-p", ...options);
    return screen.trimEnd().split("\n").map((row) => row.trimEnd());
  }

  /** Records what the program writes, until that contains this text. */
  async recordUntil(text: string, act: () => Promise<void>): Promise<string> {
    const path = await Deno.makeTempFile();
    await this.#tmux("pipe-pane", `cat > ${path}`);
    await act();
    let output = "";
    await this.#until(`should receive ${text}`, async () => {
      output = await Deno.readTextFile(path);
      return output.includes(text);
    });
    await Deno.remove(path);
    return output;
  }

  /** Waits for these texts to be on the screen, wherever. */
  async shows(...parts: string[]): Promise<void> {
    await this.#until(
      `should show ${parts.join(" and ")}`,
      (rows) => parts.every((part) => rows.join("\n").includes(part)),
    );
  }

  /** Waits for exactly these rows, with nothing in between, to be the last. */
  async endsWith(...expected: string[]): Promise<void> {
    const text = expected.join("\n");
    await this.#until(
      `should end with these rows:\n${text}\n`,
      (rows) => rows.slice(-expected.length).join("\n") === text,
    );
  }

  /** Waits for the cursor to stand there, on the last row but `up`. */
  async hasCursorAt(column: number, up = 0): Promise<void> {
    const format = "#{cursor_x} #{cursor_y} #{cursor_flag}";
    await this.#until(
      `should have its cursor in column ${column}, ${up} rows up`,
      async (rows) => {
        const seen = await this.#tmux("display-message", "-p", format);
        return seen.trim() === `${column} ${rows.length - 1 - up} 1`;
      },
    );
  }

  /** Waits for the end of the program, and for a terminal that can be used. */
  async ends(code: number): Promise<void> {
    const last = `exit ${code}\na sane terminal`;
    await this.#until(
      `should be back at a sane terminal after exit ${code}`,
      (rows) => rows.slice(-2).join("\n") === last,
    );
    await this.hasCursorAt(0, -1);
  }

  /** Sends its program a signal. */
  async kill(signal: Deno.Signal): Promise<void> {
    const [first = ""] = await this.rows("-S", "-");
    Deno.kill(Number(/\d+/.exec(first)?.[0]), signal);
  }

  /** Out of the way of any tmux that is in use. */
  #tmux(...args: string[]): Promise<string> {
    return run("tmux", "-u", "-L", this.#socket, "-f", "/dev/null", ...args);
  }

  #until(
    claim: string,
    holds: (rows: string[]) => boolean | Promise<boolean>,
  ): Promise<void> {
    const looking = this.#lookUntil(claim, holds);
    this.#looking = Promise.allSettled([this.#looking, looking]);
    return looking;
  }

  async #lookUntil(
    claim: string,
    holds: (rows: string[]) => boolean | Promise<boolean>,
  ): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    let pause = LOOK_MS;
    for (;;) {
      if (this.#isDisposed) fail("The terminal was closed.");
      const rows = await this.rows();
      if (await holds(rows)) return;
      if (performance.now() > deadline) {
        fail(`The terminal ${claim}. It shows:\n${rows.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 1.1, MAX_LOOK_MS);
    }
  }

  /** Whatever still runs in it is hung up on. */
  async [Symbol.asyncDispose](): Promise<void> {
    // A test that has failed may not wait for a look any more. This one must not go on
    // in the next test.
    this.#isDisposed = true;
    await this.#looking;
    const path = await this.#tmux("display-message", "-p", "#{socket_path}");
    await this.#tmux("kill-server");
    await run("rm", "-f", path.trim()); // tmux would leave it behind
  }
}
