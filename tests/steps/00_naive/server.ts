/**
 * The chat server: everybody's lines go to everybody else.
 *
 *     deno run --allow-net server.ts
 *     deno run --allow-net server.ts 8080
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Starts the chat on a listener. Returns what lets nobody in any more. */
export function startServer(
  listener: Deno.TcpListener,
  { print = (_line: string): unknown => undefined } = {},
): () => Promise<void> {
  const names = new Map<Deno.TcpConn, string>(); // of all who are in the chat

  async function open(): Promise<void> {
    const served = [];
    for await (const conn of listener) served.push(serve(conn).catch(() => {}));
    await Promise.all(served);
  }

  /** Reads one connection from its first byte to its last. */
  async function serve(conn: Deno.TcpConn): Promise<void> {
    const suggested = `User_${conn.remoteAddr.port}`;
    const question = `Enter your name, or press Enter to be ${suggested}:`;
    await write(conn, `[SYSTEM] ${question}`);
    const buffer = new Uint8Array(4_096);
    try {
      for (;;) {
        const count = await conn.read(buffer);
        if (count === null) break;
        const line = decoder.decode(buffer.subarray(0, count)).trimEnd();
        if (!names.has(conn)) await join(conn, line || suggested);
        else await say(conn, line);
      }
    } finally {
      conn.close();
      await leave(conn);
    }
  }

  async function join(conn: Deno.TcpConn, name: string): Promise<void> {
    const { hostname, port } = conn.remoteAddr;
    names.set(conn, name);
    const users = `Active users (${names.size}): ` +
      [...names.values()].sort().join(", ");
    print(`✅ ${name} connected from ${hostname}:${port}`);
    await append(conn, `[SYSTEM] ${name} joined the chat!`);
    await write(conn, `[SYSTEM] Welcome, ${name}! ${users}`);
    print(`📊 ${users}`);
  }

  async function say(author: Deno.TcpConn, line: string): Promise<void> {
    const message = `${names.get(author)}: ${line}`;
    await append(author, message, `📨 ${message}`);
  }

  /** Prints a line, and has it written to all but its author. */
  async function append(author: Deno.TcpConn, line: string, printed = line) {
    print(printed);
    for (const conn of names.keys()) {
      if (conn !== author) await write(conn, line);
    }
  }

  async function leave(conn: Deno.TcpConn): Promise<void> {
    const name = names.get(conn);
    if (names.delete(conn)) {
      await append(conn, `[SYSTEM] ${name} left the chat!`);
    }
  }

  async function write(conn: Deno.TcpConn, line: string): Promise<void> {
    await conn.write(encoder.encode(line + "\n"));
  }

  const closed = open();
  return () => {
    listener.close();
    return closed;
  };
}

function main(): void {
  const port = Number(Deno.args[0] ?? 9999);
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const { addr } = listener; // port 0 has become a real one
  console.log("🚀 Chat Server Started");
  console.log(`📍 Listening on ${addr.hostname}:${addr.port}`);
  console.log("⏳ Waiting for clients to connect...");
  startServer(listener, { print: console.log });
}

if (import.meta.main) main();
