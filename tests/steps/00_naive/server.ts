/**
 * A minimal chat server: what one person types, all others receive.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080
 *
 * It works while people type slowly, read promptly, choose different names, and close
 * their connections normally. Comments with "We hope" mark the main places that depend
 * on this. There are others.
 */

/** The options of a server. */
export interface ServerOptions {
  /** Prints a line of the console output. */
  print: (line: string) => void;
}

const DEFAULT_OPTIONS: ServerOptions = {
  print: () => {},
};

// -------------------------------------------------------------------- the room

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One connection. The name is empty until the client's first line has arrived. */
type Client = { conn: Deno.TcpConn; name: string };

/** The room: it knows all clients, and passes on what people say. */
class Room {
  readonly #clients = new Set<Client>();

  constructor(readonly options: ServerOptions) {}

  /** Serves one connection, from accept to close. */
  async serve(conn: Deno.TcpConn): Promise<void> {
    const client = { conn, name: "" };
    // The client receives messages before it has a name, and the list of users shows an
    // empty name. We hope that people give a name soon.
    this.#clients.add(client);
    await this.#greet(client);
    const buffer = new Uint8Array(4_096);
    while (true) {
      const count = await conn.read(buffer);
      if (count === null) break;
      // We hope that each read returns exactly one line. TCP does not promise that: it
      // carries bytes, and a read may return a part of a line, or several lines.
      const line = decoder.decode(buffer.subarray(0, count)).trimEnd();
      if (client.name === "") {
        await this.#join(client, line);
      } else {
        await this.#say(client, line);
      }
    }
    // The client sends no more. We hope that it does not want to receive more either.
    conn.close();
    this.#clients.delete(client);
    await this.#announceToAll(`[SYSTEM] ${client.name} left the chat!`, client);
  }

  /** Asks for a name. */
  async #greet(client: Client): Promise<void> {
    const { port } = client.conn.remoteAddr;
    const question = `Enter your name, or press Enter to be User_${port}:`;
    await this.#sendLine(client, `[SYSTEM] ${question}`);
  }

  /** Gives a client its name, and tells everybody. We hope that the name is not taken. */
  async #join(client: Client, line: string): Promise<void> {
    const { hostname, port } = client.conn.remoteAddr;
    const name = line || `User_${port}`;
    client.name = name;
    this.options.print(`✅ ${name} connected from ${hostname}:${port}`);
    await this.#announceToAll(`[SYSTEM] ${name} joined the chat!`, client);
    const users = this.#listUsers();
    await this.#sendLine(client, `[SYSTEM] Welcome, ${name}! ${users}`);
  }

  /** Broadcasts a message, unless it is empty. */
  async #say(sender: Client, line: string): Promise<void> {
    if (line.trim() === "") return;
    const message = `${sender.name}: ${line}`;
    this.options.print(`📨 ${message}`);
    await this.#broadcast(message, sender);
  }

  /** Broadcasts that somebody has joined or left, and prints who is here now. */
  async #announceToAll(line: string, client: Client): Promise<void> {
    await this.#broadcast(line, client);
    this.options.print(line);
    this.options.print(`📊 ${this.#listUsers()}`);
  }

  /**
   * Sends a line to everybody but one client, one after the other. We hope that nobody
   * reads slowly: a write that waits makes the next receivers wait.
   */
  async #broadcast(line: string, sender: Client): Promise<void> {
    for (const client of this.#clients) {
      if (client !== sender) await this.#sendLine(client, line);
    }
  }

  #listUsers(): string {
    const names = [...this.#clients].map((client) => client.name);
    return `Active users (${names.length}): ${names.join(", ")}`;
  }

  /** Sends a line. We hope that `write` sends all of it. It may send only a part. */
  async #sendLine(client: Client, line: string): Promise<void> {
    await client.conn.write(encoder.encode(line + "\n"));
  }
}

// -------------------------------------------------------- accepting connections

/** Accepts connections until the listener is closed. Then waits for each `serve`. */
async function acceptConnections(
  listener: Deno.TcpListener,
  room: Room,
): Promise<void> {
  const served: Promise<void>[] = [];
  for await (const conn of listener) {
    // We hope that no connection breaks. If one does, its client stays in the room. The
    // next write to it fails, and the error ends `serve` for the sender.
    served.push(room.serve(conn).catch(() => {}));
  }
  await Promise.all(served);
}

/**
 * Starts a chat on a listener.
 *
 * @returns a function that closes the listener. It returns a promise, which resolves
 * when all clients have left.
 */
export function startServer(
  listener: Deno.TcpListener,
  options: Partial<ServerOptions> = {},
): () => Promise<void> {
  const room = new Room({ ...DEFAULT_OPTIONS, ...options });
  const stopped = acceptConnections(listener, room);
  return () => {
    listener.close();
    return stopped;
  };
}

// ------------------------------------------------------------------ the program

function main(): void {
  const port = Number(Deno.args[0] ?? 9999);
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const { addr } = listener; // If the port was 0, the kernel has chosen one.
  console.log("🚀 Chat Server Started");
  console.log(`📍 Listening on ${addr.hostname}:${addr.port}`);
  console.log("⏳ Waiting for clients to connect...");
  startServer(listener, { print: console.log });
}

if (import.meta.main) main();
