/**
 * How fast the chat is on this machine, in about 20 seconds:
 *
 *     deno task bench
 *     deno task bench --quick
 *
 * It measures deliveries a second to 10, 100 and 1,000 receivers, latency, and
 * memory for each connection, with a fresh server for every run, and checks
 * that every line arrives.
 *
 * Sender and receivers are in this program, on one thread, and share the machine
 * with the server. So in a flood a receiver only counts bytes, and one of them
 * keeps them, to be compared later. Beside a load generator in C, on 2 CPUs,
 * the floods are no slower (that one checks every line), but the median latency
 * is 0.8 to 1.2 ms, not 0.4 to 0.6: going round 100 receivers takes us longer.
 * The CPU time of this program is in the results.
 */

import { parseArgs } from "@std/cli/parse-args";
import process from "node:process";
import { announcements, formatMessage } from "../../protocol.ts";

/** How often everything is measured; shown are the medians. */
const RUNS = 3;
/** Fewer lines to more receivers, so that each flood takes a similar time. */
const FLOODS = [
  { receivers: 10, lines: 200_000 },
  { receivers: 100, lines: 50_000 },
  { receivers: 1_000, lines: 10_000 },
];
const LATENCY = { receivers: 100, lines: 600, linesPerSecond: 200 };
const MEMORY_READERS = 1_000;
/** A line as it is sent, with its newline; it arrives with a name in front. */
const LINE_BYTES = 64;
/** Many lines go into one write, and come with one read. */
const WRITE_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;
/** While people come in each has a buffer of its own, so it is small. */
const JOIN_READ_BYTES = 4 * 1024;
/** Connections made at a time: some systems let few wait to be accepted. */
const JOINING_AT_A_TIME = 50;
/** A run that takes longer is given up. */
const RUN_TIMEOUT_MS = 20_000;
/** Rest for the server before its memory is read. */
const REST_MS = 500;
/** The unit of CPU time in Linux's /proc/PID/stat. */
const TICK_MS = 10;
/** Characters of the server's log that have its port among them. */
const MAX_LOG_START = 200;
const MAX_CLIENTS = 2_000;
const SENDER = "sender";
const TITLE_WIDTH = 16;

const USAGE = `Usage: deno task bench [options]

  --quick   measure everything once, not ${RUNS} times
  --help    show this help`;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** All floods end here, on top of each other: nobody looks at these bytes. */
const scrap = new Uint8Array(READ_BYTES);

/** A server that runs, and all our connections to it. */
interface Server {
  pid: number;
  port: number;
  conns: Deno.TcpConn[];
}

/** One row of the output. A figure that this system does not tell is NaN. */
interface Row {
  title: string;
  meaning: string;
  measure(server: Server): Promise<number[]>;
  show(...figures: number[]): string[];
}

// ------------------------------------------------------------- the server

/** Works with a fresh server, which does not outlive the work. */
async function withServer<T>(work: (server: Server) => Promise<T>): Promise<T> {
  const child = new Deno.Command(Deno.execPath(), {
    args: `run --allow-net server.ts 0 --max-clients ${MAX_CLIENTS}`.split(" "),
    cwd: new URL("../..", import.meta.url),
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended already
    }
  };
  let isLate = false;
  // When the server ends, so does every wait for it: one time limit for all.
  const watchdog = setTimeout(() => (isLate = true, kill()), RUN_TIMEOUT_MS);
  const conns: Deno.TcpConn[] = [];
  try {
    const port = await findPort(child.stdout);
    return await work({ pid: child.pid, port, conns });
  } catch (error) {
    if (!isLate) throw error;
    const seconds = RUN_TIMEOUT_MS / 1_000;
    throw new Error(`no result in ${seconds} s: too slow, or a line was lost`);
  } finally {
    clearTimeout(watchdog);
    conns.forEach((conn) => conn.close());
    kill();
    await child.status;
  }
}

/** The port from the server's log, which is read to its end, lest it fill. */
function findPort(log: ReadableStream<Uint8Array>): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let start = "";
  const write = (chunk: Uint8Array) => {
    if (start.length < MAX_LOG_START) start += decoder.decode(chunk);
    const port = /📍 Listening on .*:(\d+)\n/.exec(start)?.[1];
    if (port) resolve(Number(port));
  };
  log.pipeTo(new WritableStream({ write }))
    .then(() => reject(new Error("the server did not start")), reject);
  return promise;
}

/** The memory of a process that is really there. */
function residentKib(pid: number): number {
  try {
    if (Deno.build.os === "linux") { // where `ps` may be missing
      const status = Deno.readTextFileSync(`/proc/${pid}/status`);
      return Number(/VmRSS:\s*(\d+)/.exec(status)?.[1]);
    }
    const ps = new Deno.Command("ps", { args: ["-o", "rss=", "-p", `${pid}`] });
    return parseInt(decoder.decode(ps.outputSync().stdout));
  } catch {
    return NaN;
  }
}

/** The CPU time that all threads of a process have used. */
function cpuMs(pid: number): number {
  if (Deno.build.os !== "linux") return NaN;
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  // the second field, a name in brackets, may hold spaces: count from its end
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

// ----------------------------------------------------- sender and receivers

/** Fills a room with receivers, and then a sender. */
async function fillRoom(server: Server, count: number) {
  const receivers: Deno.TcpConn[] = [];
  while (receivers.length < count) {
    const joining: Promise<Deno.TcpConn>[] = [];
    const missing = count - receivers.length;
    for (let n = 0; n < Math.min(missing, JOINING_AT_A_TIME); n++) {
      joining.push(join(server, `receiver${missing - n}`));
    }
    receivers.push(...await Promise.all(joining));
  }
  const sender = await join(server, SENDER);
  await write(sender, encoder.encode("ready\n"));
  // What comes before that is who else has joined; nothing comes after.
  await Promise.all(
    receivers.map((receiver) => readUntil(receiver, "ready\n")),
  );
  return { receivers, sender };
}

async function join(server: Server, name: string): Promise<Deno.TcpConn> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  server.conns.push(conn);
  conn.setNoDelay(true);
  await write(conn, encoder.encode(name + "\n"));
  await readUntil(conn, announcements.welcome(name, ""));
  return conn;
}

/** Resolves to all that has come when what is wanted is there. */
async function readUntil(conn: Deno.TcpConn, wanted: string): Promise<string> {
  const buffer = new Uint8Array(JOIN_READ_BYTES);
  let text = "";
  while (!text.includes(wanted)) {
    text += decoder.decode(buffer.subarray(0, await read(conn, buffer)));
  }
  return text;
}

async function read(conn: Deno.TcpConn, buffer: Uint8Array): Promise<number> {
  const count = await conn.read(buffer);
  if (count === null) throw new Error("the server closed a connection");
  return count;
}

/** A write waits while the server takes nothing: back-pressure sets our pace. */
async function write(conn: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await conn.write(bytes.subarray(at, at + WRITE_BYTES));
  }
}

/** Numbered lines of LINE_BYTES each: as sent, or with the name in front. */
function numberedLines(count: number, start = ""): Uint8Array {
  const line = (_: unknown, n: number) =>
    start + `${n} `.padEnd(LINE_BYTES - 1, "-") + "\n";
  return encoder.encode(Array.from({ length: count }, line).join(""));
}

// ----------------------------------------------------------- measurements

function floodRow(
  { receivers, lines }: { receivers: number; lines: number },
): Row {
  return {
    title: `${show(receivers)} receivers`,
    meaning: `One sender, ${show(lines)} lines of ${LINE_BYTES} bytes, as ` +
      "fast as they go.",
    measure: (server) => flood(server, receivers, lines),
    show: (perSecond, cpuNs, serverBusy, ownBusy) => [
      `${show(perSecond! / 1e6, 1)} million deliveries a second`,
      `CPU: server ${show(serverBusy! * 100)} % busy, ${show(cpuNs!)} ns a ` +
      `delivery; this program ${show(ownBusy! * 100)} % busy`,
    ],
  };
}

async function flood(server: Server, count: number, lines: number) {
  const { receivers, sender } = await fillRoom(server, count);
  const sent = numberedLines(lines);
  const due = numberedLines(lines, formatMessage(SENDER, ""));
  const kept = new Uint8Array(due.length).fill(1); // touched: really there
  const arrivals = receivers.map((receiver, n) =>
    receive(receiver, due.length, n === 0 ? kept : undefined)
  );

  const serverCpu = cpuMs(server.pid);
  const ownCpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all([write(sender, sent), ...arrivals]);
  const elapsedMs = performance.now() - start;
  const { user, system } = process.cpuUsage(ownCpu);
  const serverMs = cpuMs(server.pid) - serverCpu;

  if (kept.some((byte, n) => byte !== due[n])) throw new Error("lines damaged");
  await checkEnd(receivers, sender);
  const perSecond = count * lines / elapsedMs * 1_000;
  const cpuNs = serverMs * 1e6 / (count * lines);
  const ownMs = (user + system) / 1_000;
  return [perSecond, cpuNs, serverMs / elapsedMs, ownMs / elapsedMs];
}

/** Reads what is due; one receiver keeps it, to be compared after the flood. */
async function receive(conn: Deno.TcpConn, due: number, kept?: Uint8Array) {
  for (let got = 0; got < due;) {
    got += await read(conn, kept?.subarray(got) ?? scrap);
  }
}

/** Whether next, after what each receiver has counted, comes the next message. */
async function checkEnd(receivers: Deno.TcpConn[], sender: Deno.TcpConn) {
  await write(sender, encoder.encode("end\n"));
  const wanted = formatMessage(SENDER, "end\n");
  const rests = await Promise.all(
    receivers.map((it) => readUntil(it, "end\n")),
  );
  if (rests.some((rest) => rest !== wanted)) throw new Error("lines lost");
}

const latencyRow: Row = {
  title: "Latency",
  meaning: `${LATENCY.linesPerSecond} lines a second to ${LATENCY.receivers} ` +
    "receivers: before write() to after read().",
  measure: latency,
  show: (...parts) => [
    ["p50", "p90", "p99", "max"]
      .map((name, n) => `${name} ${show(parts[n]!, 2)} ms`).join(", "),
  ],
};

async function latency(server: Server) {
  const { receivers, sender } = await fillRoom(server, LATENCY.receivers);
  const sentAt: number[] = [];
  const waits: number[] = [];
  // All lines have one length, so the amount that has arrived tells which line it was.
  const length = formatMessage(SENDER, "").length + LINE_BYTES;
  const listening = receivers.map(async (receiver) => {
    let got = 0;
    for (let n = 0; n < LATENCY.lines;) {
      got += await read(receiver, scrap);
      const now = performance.now();
      for (; (n + 1) * length <= got; n++) waits.push(now - sentAt[n]!);
    }
  });
  await Promise.all([paceLines(sender, sentAt), ...listening]);
  waits.sort((a, b) => a - b);
  const at = (part: number) => waits[Math.ceil(part * waits.length) - 1]!;
  return [at(0.5), at(0.9), at(0.99), at(1)];
}

/** Sends a line whenever one is due, and notes when it really was. */
async function paceLines(sender: Deno.TcpConn, sentAt: number[]) {
  const line = numberedLines(1);
  const start = performance.now();
  while (sentAt.length < LATENCY.lines) {
    const dueAt = start + sentAt.length * 1_000 / LATENCY.linesPerSecond;
    await sleep(Math.max(0, dueAt - performance.now()));
    sentAt.push(performance.now());
    await write(sender, line);
  }
}

const memoryRow: Row = {
  title: "Memory",
  meaning: "What the server's resident memory grew by, for each of " +
    `${show(MEMORY_READERS)} who joined.`,
  async measure(server) {
    await sleep(REST_MS);
    const before = residentKib(server.pid);
    await fillRoom(server, MEMORY_READERS);
    await sleep(REST_MS);
    return [(residentKib(server.pid) - before) / MEMORY_READERS];
  },
  show: (kib) => [`${show(kib!)} KiB for each idle connection`],
};

// ----------------------------------------------------------------- output

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function show(value: number, digits = 0): string {
  if (Number.isNaN(value)) return "(not available here)";
  return value.toLocaleString("en-US", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** What is being done. It goes to stderr: stdout has the results alone. */
function progress(text: string): void {
  if (Deno.stderr.isTerminal()) {
    Deno.stderr.writeSync(encoder.encode(`\r\x1b[K${text}`));
  } else if (text !== "") console.error(text);
}

/** Measures a row and prints it, or in one line why it is left out. */
async function printRow(row: Row, runs: number): Promise<void> {
  const results: number[][] = [];
  let lines: string[];
  try {
    while (results.length < runs) {
      progress(`${row.title}: run ${results.length + 1} of ${runs} ...`);
      results.push(await withServer(row.measure));
    }
    const middle = Math.floor(runs / 2);
    const medians = results[0]!.map((_, figure) =>
      results.map((run) => run[figure]!).sort((a, b) => a - b)[middle]!
    );
    lines = [...row.show(...medians), row.meaning];
  } catch (error) {
    lines = [`left out: ${(error as Error).message}`];
  }
  progress("");
  const indented = lines.join("\n" + " ".repeat(TITLE_WIDTH));
  console.log(`\n${row.title.padEnd(TITLE_WIDTH)}${indented}`);
}

async function main(): Promise<void> {
  const flags = parseArgs(Deno.args, {
    boolean: ["help", "quick"],
    unknown: (arg) => {
      console.error(`Unknown argument ${arg}: see --help.`);
      Deno.exit(2);
    },
  });
  if (flags.help) return console.log(USAGE);
  console.log(
    `Deno ${Deno.version.deno}, ${Deno.build.target}, ` +
      `${navigator.hardwareConcurrency} CPUs.
Server and load generator share them: the one that is busiest is the limit
(100 % is one CPU). A delivery is a line that one receiver has received.`,
  );
  const runs = flags.quick ? 1 : RUNS;
  for (const cell of FLOODS) await printRow(floodRow(cell), runs);
  await printRow(latencyRow, runs);
  await printRow(memoryRow, runs);
}

if (import.meta.main) await main();
