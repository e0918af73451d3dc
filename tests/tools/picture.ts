/**
 * Makes the pictures in this folder from real runs in tmux:
 *
 *     deno run -A tests/tools/picture.ts session     for README.md
 *     deno run -A tests/tools/picture.ts proxy       for tests/README.md
 *
 * It needs tmux. The second one also needs nc, and the ports 9998 and 9999.
 */

const ROOT = new URL("../..", import.meta.url).pathname;
const SOCKET = `chat-picture-${Deno.pid}`;
/** What the programs say must be on the screen by then. */
const PATIENCE_MS = 10_000;

// Sizes in pixels
const CELL = { width: 8, height: 19 };
const PADDING = 12;
const TITLE_HEIGHT = 28;
const GAP = 16;

const COLORS: Record<string, string> = {
  31: "#ff7b72",
  32: "#7ee787",
  33: "#e3b341",
  34: "#79c0ff",
  35: "#d2a8ff",
  36: "#56d4dd",
  91: "#ffa198",
  92: "#56d364",
  94: "#a5d6ff",
  95: "#f0a8ff",
  96: "#b3f0ff",
};

/** A character that takes two columns; split keeps it, because of the brackets. */
const WIDE = /(\p{Emoji_Presentation})/u;

function tmux(...args: string[]): Promise<string> {
  return run("tmux", "-u", "-L", SOCKET, "-f", "/dev/null", ...args);
}

async function run(program: string, ...args: string[]): Promise<string> {
  const env = { LC_ALL: "C.UTF-8" };
  const command = new Deno.Command(program, { args, cwd: ROOT, env });
  const { success, stdout, stderr } = await command.output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** A terminal on the picture. */
class Card {
  readonly title: string;
  readonly columns: number;
  readonly rows: number;

  constructor(title: string, columns: number, rows: number) {
    this.title = title;
    this.columns = columns;
    this.rows = rows;
  }

  get width(): number {
    return this.columns * CELL.width + 2 * PADDING;
  }

  get height(): number {
    return TITLE_HEIGHT + this.rows * CELL.height + 2 * PADDING;
  }

  /** Opens a shell and starts a program in it. */
  async open(command: string): Promise<void> {
    const size = ["-x", `${this.columns}`, "-y", `${this.rows}`];
    const shell = "env -u NO_COLOR PS1='$ ' sh";
    await tmux("new-session", "-d", "-s", this.title, ...size, shell);
    await this.shows("$");
    await this.type(command + "\r");
  }

  async type(text: string): Promise<void> {
    await tmux("send-keys", "-t", this.title, "-l", text);
  }

  async screen(): Promise<string> {
    return await tmux("capture-pane", "-ept", this.title);
  }

  async shows(text: string): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const screen = await this.screen();
      if (screen.includes(text)) return;
      if (performance.now() > deadline) {
        throw new Error(`${this.title} does not show ${text}:\n${screen}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Draws it with its upper left corner there. */
  async draw(x: number, y: number): Promise<string> {
    const format = "#{cursor_x} #{cursor_y}";
    const cursor = await tmux("display-message", "-pt", this.title, format);
    const [column = 0, row = 0] = cursor.split(" ").map(Number);
    return `<g transform="translate(${x} ${y})">
<rect width="${this.width}" height="${this.height}" rx="8" fill="#0d1117" stroke="#3d444d"/>
<path d="M0 ${TITLE_HEIGHT}h${this.width}" stroke="#3d444d"/>
<text x="${PADDING}" y="19" fill="#9198a1">${this.title}</text>
<g transform="translate(${PADDING} ${TITLE_HEIGHT + PADDING})">
<rect x="${column * CELL.width}" y="${
      row * CELL.height
    }" width="${CELL.width}" height="${CELL.height}" fill="#9198a1"/>
${drawText(await this.screen())}</g>
</g>`;
  }
}

/** The characters of a screen, with their colors, each at its exact column. */
function drawText(screen: string): string {
  let [row, column, fill, drawn] = [0, 0, "", ""];
  // deno-lint-ignore no-control-regex
  for (const [part] of screen.matchAll(/\x1b\[[\d;]*m|\n|[^\x1b\n]+/g)) {
    if (part === "\n") {
      [row, column] = [row + 1, 0];
    } else if (part.startsWith("\x1b")) {
      const color = COLORS[part.slice(2, -1)];
      fill = color ? ` fill="${color}"` : "";
    } else {
      for (const run of part.split(WIDE)) {
        drawn += drawRun(run, row, column, fill);
        column += columnsOf(run);
      }
    }
  }
  return drawn;
}

function columnsOf(run: string): number {
  return run.search(WIDE) === 0 ? 2 : run.length;
}

/** Characters are not equally wide in all monospace fonts, so their width is given. */
function drawRun(run: string, row: number, column: number, fill: string) {
  if (run.trim() === "") return "";
  const x = column * CELL.width;
  const y = row * CELL.height + 14;
  const length = columnsOf(run) * CELL.width;
  return `<text x="${x}" y="${y}"${fill} textLength="${length}">` +
    `${escape(run)}</text>\n`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** Draws cards, each with its upper left corner at its place. */
async function drawPicture(
  label: string,
  places: { card: Card; x: number; y: number }[],
): Promise<string> {
  const width = Math.max(...places.map(({ card, x }) => x + card.width)) + 2;
  const height = Math.max(...places.map(({ card, y }) => y + card.height)) + 2;
  let cards = "";
  for (const { card, x, y } of places) cards += await card.draw(x, y) + "\n";
  return `<svg xmlns="http://www.w3.org/2000/svg" ` +
    `viewBox="-1 -1 ${width} ${height}" width="${width}" height="${height}" ` +
    `role="img" aria-label="${label}" ` +
    `font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" ` +
    `font-size="13" fill="#e6edf3" xml:space="preserve">\n${cards}</svg>\n`;
}

/** A server and two clients, and a third person with a bare TCP connection. */
async function drawSession(): Promise<string> {
  const alice = new Card("alice", 52, 14);
  const bob = new Card("bob", 52, 14);
  const width = alice.width + GAP + bob.width;
  const server = new Card("server", width / CELL.width - 3, 18);

  await server.open("deno run --allow-net server.ts 0");
  await server.shows("⏳");
  const port = Number(/📍.*:(\d+)/.exec(await server.screen())?.[1]);
  for (const client of [alice, bob]) {
    await client.open(`deno run --allow-net client.ts 127.0.0.1 ${port}`);
    await client.shows("press Enter to be");
    await client.type(client.title + "\r");
    await client.shows("You:");
  }
  const carol = await Deno.connect({ hostname: "127.0.0.1", port });
  const encoder = new TextEncoder();
  await carol.write(encoder.encode("carol\n"));
  await bob.shows("carol");
  await alice.type("Hi everyone!\r");
  await bob.shows("Hi everyone!");
  await bob.type("Hi alice! 👋\r");
  await alice.shows("Hi alice!");
  await carol.write(encoder.encode("And hello from netcat.\n"));
  await alice.shows("netcat");
  await alice.type("Nothing tears what I am typi");
  await bob.type("We can all write at once\r");
  await alice.shows("at once");
  await bob.shows("You: We can all write at once");

  const below = server.height + GAP;
  return drawPicture("A chat server and two clients in terminals", [
    { card: server, x: 0, y: 0 },
    { card: alice, x: 0, y: below },
    { card: bob, x: alice.width + GAP, y: below },
  ]);
}

/** Step 0 of the course behind a proxy that tears: Bob sees two messages. */
async function drawProxy(): Promise<string> {
  const server = new Card("server", 80, 10); // It is not drawn.
  const alice = new Card("alice", 60, 13);
  const bob = new Card("bob", 60, 13);
  const width = alice.width + GAP + bob.width;
  const proxy = new Card("proxy", width / CELL.width - 3, 27);

  await server.open("deno run --allow-net tests/steps/00_naive/server.ts");
  await server.shows("⏳");
  await proxy.open("deno task proxy --tear 8");
  await proxy.shows("Passes on");
  await bob.open("nc 127.0.0.1 9999");
  await bob.shows("press Enter to be");
  await bob.type("bob\r");
  await bob.shows("Welcome");
  await alice.open("deno task client 127.0.0.1 9998");
  await alice.shows("press Enter to be");
  await alice.type("alice\r");
  await alice.shows("Welcome");
  await alice.type("Hello everyone!\r");
  await bob.shows("alice: eryone!");
  await alice.type("quit\r");
  await bob.shows("left");
  await proxy.shows("FIN");

  const below = proxy.height + GAP;
  return drawPicture("A proxy tears a message. Bob sees two messages", [
    { card: proxy, x: 0, y: 0 },
    { card: alice, x: 0, y: below },
    { card: bob, x: alice.width + GAP, y: below },
  ]);
}

const PICTURES: Record<string, () => Promise<string>> = {
  session: drawSession,
  proxy: drawProxy,
};

async function main(): Promise<void> {
  const name = Deno.args[0] ?? "";
  const draw = PICTURES[name];
  if (draw === undefined) {
    console.error("Usage: deno run -A tests/tools/picture.ts session | proxy");
    Deno.exit(2);
  }
  const file = new URL(`${name}.svg`, import.meta.url).pathname;
  try {
    await Deno.writeTextFile(file, await draw());
    await run(Deno.execPath(), "fmt", "-q", file);
    console.log(`${file}: ${Deno.statSync(file).size} bytes`);
  } finally {
    const path = await tmux("display-message", "-p", "#{socket_path}");
    await tmux("kill-server"); // ours only: see SOCKET
    await run("rm", "-f", path.trim());
  }
}

await main();
Deno.exit();
