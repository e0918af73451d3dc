/**
 * Lesson 9: a terminal is a stream of bytes, too.
 *
 * What you see is the sum of all bytes written so far: letters, and orders such
 * as "up one row" and "clear to the end". A plain terminal edits and shows what
 * you type by itself, and whatever arrives meanwhile is written into the middle
 * of it. In raw mode it hands over each key and shows nothing; so we must draw
 * the line ourselves, anew after each line that comes in, and end raw mode
 * whatever happens, or the shell that follows cannot be used.
 *
 * These tests look at the screen of a real terminal, tmux.
 *
 * Try: in `#redraw` of client.ts replace `rows` by 0, and see who notices; then
 * watch it in a window that is 30 columns wide.
 */

import { assert, assertEquals } from "@std/assert";
import { MAX_MESSAGE_CHARS, texts } from "../protocol.ts";
import { testRun, TestServer } from "./helpers.ts";

/** The screen has to show what is expected by then, on a busy machine too. */
const PATIENCE_MS = 10_000;
/** The time between two looks at the screen. */
const LOOK_MS = 15;

const ROOT = new URL("..", import.meta.url).pathname;
const UP = ["--no-prompt", "--allow-net"]; // so that no question may save us

async function run(program: string, ...args: string[]): Promise<string> {
  const env = { LC_ALL: "C.UTF-8" };
  const command = new Deno.Command(program, { args, cwd: ROOT, env });
  const { stdout, stderr } = await command.output();
  const complaint = new TextDecoder().decode(stderr);
  if (complaint) throw new Error(`${program} ${args.join(" ")}: ${complaint}`);
  return new TextDecoder().decode(stdout);
}

/** Each terminal is a tmux of its own, out of the way of any other. */
function tmux(socket: string, ...args: string[]): Promise<string> {
  return run("tmux", "-u", "-L", socket, "-f", "/dev/null", ...args);
}

/** Why there can be no tests here, if there cannot. */
function whatIsMissing(): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "run" });
  if (state !== "granted") return "--allow-run";
  try {
    new Deno.Command("tmux", { args: ["-V"] }).outputSync();
    return undefined;
  } catch {
    return "tmux (try: apt install tmux)";
  }
}

const missing = whatIsMissing();
if (missing) {
  console.log(`Ignored: tests/09_terminal_test.ts, as there is no ${missing}.`);
}

function testTerminal(name: string, fn: () => Promise<void>): void {
  if (missing) Deno.test({ name, fn, ignore: true });
  else testRun(name, fn);
}

/** A terminal with a program in it. */
class Terminal {
  readonly #socket: string;
  static #count = 0;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts a program; when it ends, the screen says how it left things. */
  static async open(program: string, columns = 80): Promise<Terminal> {
    const socket = `chat-test-${Deno.pid}-${++Terminal.#count}`;
    const script = `sh -c 'echo pid $$; exec ${program}'; echo "exit $?"
      case $(stty -a) in
        *-icanon*|*"-echo "*) echo "raw mode";;
        *) echo "a sane terminal";;
      esac
      exec cat`;
    const size = ["-x", `${columns}`, "-y", "24"];
    await tmux(socket, "new-session", "-d", ...size, "sh", "-c", script);
    return new Terminal(socket);
  }

  /** The client, in the room, and nothing else on the screen yet. */
  static async join(
    port: number,
    name: string,
    columns?: number,
    env = "-u NO_COLOR",
  ): Promise<Terminal> {
    const program = `env ${env} ${client(port)} --name ${name}`;
    const terminal = await Terminal.open(program, columns);
    await terminal.shows("Welcome", "You:");
    return terminal;
  }

  /** Types letters as they are. */
  async type(text: string): Promise<void> {
    await this.#tmux("send-keys", "-l", text);
  }

  /** Presses keys by their names: Left, C-a, Enter. */
  async press(...keys: string[]): Promise<void> {
    await this.#tmux("send-keys", ...keys);
  }

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
    let seen = "";
    await this.#until(
      `should have its cursor in column ${column}, ${up} rows up`,
      async (rows) => {
        seen = await this.#tmux("display-message", "-p", format);
        return seen.trim() === `${column} ${rows.length - 1 - up} 1`;
      },
    );
  }

  /** Waits for the end of the program, and what it leaves behind. */
  async ends(code: number): Promise<void> {
    await this.#until(
      `should be back at a sane terminal after exit ${code}`,
      (rows) => {
        const [exit, mode] = rows.slice(-2);
        return exit === `exit ${code}` && mode === "a sane terminal";
      },
    );
    await this.hasCursorAt(0, -1);
  }

  async kill(signal: Deno.Signal): Promise<void> {
    const [first = ""] = await this.rows("-S", "-");
    Deno.kill(Number(/\d+/.exec(first)?.[0]), signal);
  }

  #tmux(...args: string[]): Promise<string> {
    return tmux(this.#socket, ...args);
  }

  async #until(
    claim: string,
    holds: (rows: string[]) => boolean | Promise<boolean>,
  ): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const rows = await this.rows();
      if (await holds(rows)) return;
      if (performance.now() > deadline) {
        assert(false, `The terminal ${claim}. It shows:\n${rows.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Whatever still runs in it is hung up on. */
  async [Symbol.asyncDispose](): Promise<void> {
    const path = await this.#tmux("display-message", "-p", "#{socket_path}");
    await this.#tmux("kill-server");
    await run("rm", "-f", path.trim()); // tmux would leave it behind
  }
}

function client(port: number): string {
  return `${Deno.execPath()} run ${UP.join(" ")} client.ts 127.0.0.1 ${port}`;
}

testTerminal(
  "terminal: a line that comes in while I type does not tear mine",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.type("hello world");
    await alice.press("Left", "Left", "Left");
    await alice.hasCursorAt("You: hello wo".length);
    await bob.says("Hi there!");
    await alice.endsWith(
      texts.joined("bob"),
      "📨 bob: Hi there!",
      "You: hello world",
    );
    await alice.hasCursorAt("You: hello wo".length);
    await alice.type("o");
    await alice.press("Enter");
    await alice.endsWith("📨 bob: Hi there!", "You: hello woorld", "You:");
    await bob.hears("alice: hello woorld");
  },
);

testTerminal(
  "terminal: mine stays whole when it is longer than the window is wide",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", 30);
    const bob = await server.join("bob");
    await alice.type("x".repeat(60));
    await alice.press("Left", "Left");
    await alice.hasCursorAt(3);
    await bob.says("Hi!");
    const mine = ["You: " + "x".repeat(25), "x".repeat(30), "xxxxx"];
    await alice.endsWith(texts.joined("bob"), "📨 bob: Hi!", ...mine);
    await alice.hasCursorAt(3);
    await alice.press("Home");
    await alice.hasCursorAt(5, 2);
    await bob.says("Ho!");
    await alice.endsWith("📨 bob: Hi!", "📨 bob: Ho!", ...mine);
    await alice.hasCursorAt(5, 2);
  },
);

testTerminal(
  "terminal: mine stays whole when it is exactly as wide as the window",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", 30);
    const bob = await server.join("bob");
    await alice.type("x".repeat(25));
    await alice.endsWith("You: " + "x".repeat(25));
    await bob.says("Hi!");
    await alice.endsWith("📨 bob: Hi!", "You: " + "x".repeat(25));
    await alice.hasCursorAt(0, -1);
    await alice.type("y");
    await alice.endsWith("📨 bob: Hi!", "You: " + "x".repeat(25), "y");
  },
);

testTerminal(
  "terminal: mine stays whole with letters that are two columns wide",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", 30);
    const bob = await server.join("bob");
    // a wide letter does not fit into the last column, nor into half of it
    await alice.type("x".repeat(24) + "漢字🎉".repeat(7));
    const mine = [
      "You: " + "x".repeat(24),
      "漢字🎉漢字🎉漢字🎉漢字🎉漢字🎉",
      "漢字🎉漢字🎉",
    ];
    await alice.endsWith(texts.joined("bob"), ...mine);
    await bob.says("Hi!");
    await alice.endsWith(texts.joined("bob"), "📨 bob: Hi!", ...mine);
    await alice.press("Left");
    await alice.hasCursorAt(10);
    await bob.says("Ho!");
    await alice.endsWith("📨 bob: Hi!", "📨 bob: Ho!", ...mine);
    await alice.hasCursorAt(10);
  },
);

testTerminal(
  "terminal: a thousand lines at once leave mine as it was",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.type("half typed");
    await alice.endsWith("You: half typed");
    const lines = Array.from({ length: 1_000 }, (_, index) => `line ${index}`);
    await bob.says(...lines);
    await alice.endsWith("📨 bob: line 999", "You: half typed");
    await alice.hasCursorAt("You: half typed".length);
    const all = await alice.rows("-S", "-");
    assertEquals(
      all.slice(all.indexOf(texts.joined("bob")) + 1),
      [...lines.map((line) => `📨 bob: ${line}`), "You: half typed"],
      "all that alice's terminal has shown since bob came:",
    );
  },
);

testTerminal(
  "terminal: a window made narrower or wider leaves no ghost of mine",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice", 80);
    const bob = await server.join("bob");
    let mine = "You: " + "0123456789".repeat(11);
    await alice.type("0123456789".repeat(11));
    await alice.hasCursorAt(mine.length % 80);
    for (const columns of [50, 100, 60]) {
      await alice.resize(columns);
      await alice.type("+");
      mine += "+";
      await alice.hasCursorAt(mine.length % columns);
      await bob.says(`${columns} columns`);
      const rows = mine.match(new RegExp(`.{1,${columns}}`, "g"))!;
      await alice.endsWith(`📨 bob: ${columns} columns`, ...rows);
      await alice.hasCursorAt(mine.length % columns);
    }
    await alice.press("C-u");
    await alice.endsWith(
      texts.joined("bob"),
      "📨 bob: 50 columns",
      "📨 bob: 100 columns",
      "📨 bob: 60 columns",
      "You:",
    );
  },
);

testTerminal(
  "terminal: the keys edit the line as in any shell",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const steps: [keys: string[], line: string, column: number][] = [
      [["b", "c", "d"], "bcd", 3],
      [["Home", "a"], "abcd", 1],
      [["End", "e"], "abcde", 5],
      [["C-a", "Right", "BSpace"], "bcde", 0],
      [["C-e", "Left", "C-k"], "bcd", 3],
      [["Space", "e", "f", "C-w"], "bcd", 4],
      [["C-u"], "", 0],
    ];
    for (const [keys, line, column] of steps) {
      await alice.press(...keys);
      await alice.endsWith(`You: ${line}`.trimEnd());
      await alice.hasCursorAt("You: ".length + column);
    }
  },
);

testTerminal(
  "terminal: arrow up offers what I said before, but not my name",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    await alice.shows("Name:");
    await alice.type("alice\r");
    await alice.endsWith("You:");
    await alice.type("one\rtwo\r");
    await alice.endsWith("You: one", "You: two", "You:");
    await alice.press("Up");
    await alice.endsWith("You: two", "You: two");
    await alice.press("Up");
    await alice.endsWith("You: two", "You: one");
    await alice.press("Up", "Up");
    await alice.endsWith("You: two", "You:");
    await alice.press("Down");
    await alice.endsWith("You: two", "You: one");
  },
);

testTerminal(
  "terminal: three lines that I paste are three messages, and `quit` comes last",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.shows(texts.joined("bob"));
    await alice.paste("one\ntwo\nthree\nquit\n");
    await bob.hears("alice: one", "alice: two", "alice: three");
    await bob.hears(texts.left("alice"));
    await alice.ends(0);
    await alice.shows("You: one\nYou: two\nYou: three\nYou: quit\n");
  },
);

testTerminal(
  "terminal: a name that is refused comes with the reason, and I am asked again",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.open(client(server.port));
    await alice.endsWith("Name:");
    await alice.type("x".repeat(21) + "\r");
    await alice.shows("Enter another name:");
    await alice.press("Enter"); // the name that the server suggests
    await alice.shows("Welcome, User_");
    await alice.endsWith("You:");
    const rows = await alice.rows();
    assertEquals(rows.slice(-5).map((row) => row.replace(/\].*/, "]")), [
      `Name: ${"x".repeat(21)}`,
      "[SYSTEM]", // why it is refused
      "Name:",
      "[SYSTEM]", // the welcome
      "You:",
    ], rows.join("\n"));
  },
);

testTerminal(
  "terminal: a message over the limit is given back to be mended",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    const bob = await server.join("bob");
    await alice.endsWith(texts.joined("bob"), "You:");
    await alice.paste("y".repeat(MAX_MESSAGE_CHARS + 1));
    await alice.hasCursorAt((5 + MAX_MESSAGE_CHARS + 1) % 80);
    await alice.press("Enter");
    await alice.shows(
      texts.joined("bob") +
        "\nA message has at most 1,000 characters: it was not sent.\nYou: yyyy",
    );
    await alice.press("BSpace", "Enter");
    await bob.hears("alice: " + "y".repeat(MAX_MESSAGE_CHARS));
  },
);

for (const key of ["C-c", "C-d"]) {
  testTerminal(
    `terminal: ${
      key.replace("C-", "Ctrl+").toUpperCase()
    } says goodbye, and restores the terminal`,
    async () => {
      await using server = new TestServer();
      await using alice = await Terminal.join(server.port, "alice");
      await alice.press("C-z"); // does nothing: we may send no signal
      await alice.press(key);
      await alice.ends(0);
      await alice.shows("👋 Goodbye!\n");
    },
  );
}

testTerminal(
  "terminal: when the server is killed I am told, and keep what I have typed",
  async () => {
    const program = `${Deno.execPath()} run ${UP.join(" ")} server.ts 0`;
    await using server = await Terminal.open(program);
    await server.shows("⏳");
    const port = /📍.*:(\d+)/.exec((await server.rows()).join("\n"))?.[1];
    await using alice = await Terminal.join(Number(port), "alice");
    await alice.type("half typed");
    await alice.press("Left");
    await alice.hasCursorAt("You: half type".length);
    await server.kill("SIGKILL");
    await alice.ends(1);
    await alice.endsWith(
      "You: half typed",
      "The server is gone: it ended. Check that it is running.",
      "exit 1",
      "a sane terminal",
    );
  },
);

for (const [signal, code] of [["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  testTerminal(
    `terminal: a client ended by ${signal} restores the terminal`,
    async () => {
      await using server = new TestServer();
      await using alice = await Terminal.join(server.port, "alice");
      await alice.type("half typed");
      await alice.endsWith("You: half typed");
      await alice.kill(signal);
      await alice.ends(code);
      await alice.shows("You: half typed\nexit");
    },
  );
}

testTerminal(
  "terminal: closing the window does not send what I have half typed",
  async () => {
    await using server = new TestServer();
    const bob = await server.join("bob");
    {
      await using alice = await Terminal.join(server.port, "alice");
      await alice.type("half typed");
      await alice.endsWith("You: half typed");
    }
    await bob.hears(texts.joined("alice"), texts.left("alice"));
  },
);

testTerminal(
  "terminal: each name has a colour of its own, unless NO_COLOR is set",
  async () => {
    await using server = new TestServer();
    await using alice = await Terminal.join(server.port, "alice");
    await using carol = await Terminal.join(
      server.port,
      "carol",
      80,
      "NO_COLOR=1",
    );
    const [bob, dave] = await server.joinAll("bob", "dave");
    await bob.says("1");
    await dave.hears("bob: 1");
    await dave.says("2");
    await bob.hears("dave: 2");
    await bob.says("3");
    await alice.endsWith("📨 bob: 1", "📨 dave: 2", "📨 bob: 3", "You:");
    await carol.endsWith("📨 bob: 1", "📨 dave: 2", "📨 bob: 3", "You:");

    const colors = (await alice.rows("-e")).slice(-4, -1)
      // deno-lint-ignore no-control-regex
      .map((row) => /\x1b\[(\d+)m(bob|dave)/.exec(row)?.[1]);
    assert(colors.every(Boolean), `no colour in ${colors}`);
    assertEquals(colors[0], colors[2], "bob's colour, first and later:");
    assert(colors[0] !== colors[1], "bob and dave have the same colour");
    const plain = (await carol.rows("-e")).join("\n");
    assert(!plain.includes("\x1b"), `colours in spite of NO_COLOR:\n${plain}`);
  },
);

testTerminal(
  "terminal: a hostile server cannot give orders to my terminal",
  async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const accepted = listener.accept();
    await using alice = await Terminal.open(client(port));
    using conn = await accepted;
    const evil = "evil: \x1b[2J\x1b[H\x1b]0;title\x07a\rb\x9b31mc\x1b[8md\n";
    await conn.write(new TextEncoder().encode(evil + "evil: done\n"));
    await alice.endsWith("📨 evil: done", "Name:");
    const rows = await alice.rows();
    assertEquals(rows.at(-3), "📨 evil: abcd", rows.join("\n"));
    assert(rows.join().includes("Connected!"), "the screen was not cleared");
  },
);
