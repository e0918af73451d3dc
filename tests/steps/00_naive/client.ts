/**
 * The chat client: what you type goes to the server, and what it says to your
 * screen.
 *
 *     deno run --allow-net client.ts
 *     deno run --allow-net client.ts 192.168.1.5 8080
 */

const [hostname = "127.0.0.1", port = "9999"] = Deno.args;

const encoder = new TextEncoder();

async function receive(conn: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(4_096);
  const decoder = new TextDecoder();
  for (;;) {
    const count = await conn.read(buffer);
    if (count === null) break;
    const text = decoder.decode(buffer.subarray(0, count));
    console.log(text.trimEnd());
  }
  console.log("The server is gone.");
  Deno.exit(1);
}

async function send(conn: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(4_096);
  const decoder = new TextDecoder();
  for (;;) {
    const count = await Deno.stdin.read(buffer);
    if (count === null) break;
    const text = decoder.decode(buffer.subarray(0, count));
    if (text.trim() === "quit") break;
    await conn.write(encoder.encode(text));
  }
  Deno.exit(0);
}

async function main(): Promise<void> {
  const conn = await Deno.connect({ hostname, port: Number(port) });
  await Promise.all([receive(conn), send(conn)]);
}

if (import.meta.main) await main();
