/**
 * A minimal chat client. It sends what you type, and shows what the server sends. To
 * leave, type "quit" or press Ctrl+D. "We hope" marks what may fail, as in the server.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 127.0.0.1 8080
 */

const encoder = new TextEncoder();

/** Shows what the server sends. We hope that no read ends in the middle of a line. */
async function receive(conn: Deno.TcpConn): Promise<void> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4_096);
  while (true) {
    const count = await conn.read(buffer);
    if (count === null) break;
    const line = decoder.decode(buffer.subarray(0, count)).trimEnd();
    console.log(line);
  }
  console.log("The connection has ended.");
  Deno.exit(1); // The user did not want to leave.
}

/**
 * Sends what you type. We hope that each read returns one line. From a terminal it does,
 * but from a pipe or a file it may return several lines, or a part of one.
 */
async function send(conn: Deno.TcpConn): Promise<void> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4_096);
  while (true) {
    const count = await Deno.stdin.read(buffer);
    if (count === null) break;
    const line = decoder.decode(buffer.subarray(0, count)).trimEnd();
    if (line === "quit") break;
    await conn.write(encoder.encode(line + "\n")); // We hope that it sends all of it.
  }
  // The program exits at once. We hope that the server has nothing more to send.
  Deno.exit(0);
}

async function main(): Promise<void> {
  const hostname = Deno.args[0] ?? "127.0.0.1";
  const port = Number(Deno.args[1] ?? 9999);
  const conn = await Deno.connect({ hostname, port });
  await Promise.all([receive(conn), send(conn)]); // Each of them exits the program.
}

if (import.meta.main) await main();
