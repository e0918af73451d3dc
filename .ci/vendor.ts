/**
 * Fills `vendor/` with the `@std` packages that `deno.json` pins. Every task of
 * `deno.json` runs this program first; if `vendor/` is filled, it does nothing.
 *
 * Deno itself downloads the packages from JSR, their registry, and keeps them in
 * `vendor/`. This program only makes that happen a moment earlier. Some networks
 * block JSR, above all in classrooms. There the program fills `vendor/` with
 * stand-ins: small modules of our own, in `.ci/stand-ins/`, that have the same
 * names and behave like the real ones.
 *
 * Deno reads `vendor/` before it asks JSR. So the imports of the chat stay as
 * they are, and a plain `deno run --allow-net server.ts` works, too.
 *
 * This program must not import `@std`, because it runs before there is any.
 */
import config from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
const VENDOR = new URL("vendor/", ROOT);

/** Filled first and renamed last: an interrupted run leaves no half a `vendor/`. */
const STAGING = new URL(`vendor.${Deno.pid}/`, ROOT);

/** A file that lies in a `vendor/` full of stand-ins, and in no other. */
const NOTE = new URL("STAND-INS.md", VENDOR);

/** How long JSR may take. A firewall that drops packets never answers. */
const JSR_TIMEOUT_MS = 15_000;

interface StandIn {
  /** A file in `.ci/stand-ins/`. */
  file: string;
  /** The paths in the package that give this file. Our imports use the last. */
  exports: string[];
}

/** The stand-in of each package, by the name of the package after `@std/`. */
const STAND_INS: Record<string, StandIn> = {
  assert: { file: "assert.ts", exports: ["."] },
  cli: { file: "parse_args.ts", exports: [".", "./parse-args"] },
  streams: {
    file: "text_line_stream.ts",
    exports: [".", "./text-line-stream"],
  },
};

interface Package {
  /** The name after `@std/`. */
  name: string;
  version: string;
}

/** The packages as `deno.json` pins them. The versions stand nowhere else. */
const PACKAGES = readPins();

function readPins(): Package[] {
  const packages: Package[] = [];
  for (const specifier of Object.values(config.imports)) {
    const pin = specifier.match(/^jsr:@std\/([\w-]+)@([\d.]+)$/);
    if (pin) packages.push({ name: pin[1]!, version: pin[2]! });
  }
  return packages;
}

// ---- Is there anything to do?

/** Whether `vendor/` holds every package as it is pinned now. */
async function isFilled(): Promise<boolean> {
  if (!exists(VENDOR)) return false;
  if (exists(NOTE)) return await areStandInsCurrent();
  return [...Deno.readDirSync(VENDOR)].some((host) => hasPackages(host.name));
}

/** Whether `vendor/` holds the stand-ins as they are in `.ci/stand-ins/` now. */
async function areStandInsCurrent(): Promise<boolean> {
  const hasAll = PACKAGES.every(({ name }) => name in STAND_INS);
  return hasAll && await Deno.readTextFile(NOTE) === await composeNote();
}

/** Whether this folder of `vendor/` holds every package as it is pinned. */
function hasPackages(host: string): boolean {
  return PACKAGES.every(({ name, version }) =>
    exists(new URL(`${host}/@std/${name}/${version}_meta.json`, VENDOR))
  );
}

// ---- Filling

async function fill(): Promise<void> {
  // Packages of other versions must not stay beside the pinned ones.
  await remove(VENDOR);

  const download = await downloadFromJsr();
  if (download.success) return; // Deno has filled vendor/ itself.

  const jsr = findUnreachableRegistry(download.output);
  if (jsr === undefined) {
    // JSR did answer: a pinned version does not exist, for example.
    const reason = download.output.match(/^error: .*/m)?.[0];
    throw new Error(reason ?? download.output);
  }
  await writeStandIns(new URL(`${folderFor(jsr)}/`, STAGING));
  await putInPlace();
  console.error(
    "JSR could not be reached, so vendor/ now holds stand-ins for the @std " +
      "packages. To go back to JSR's own packages, delete vendor/.",
  );
}

/** Lets a second Deno download the packages to where Deno keeps them. */
async function downloadFromJsr() {
  const specifiers = PACKAGES.map(({ name, version }) => {
    const path = STAND_INS[name]?.exports.at(-1) ?? ".";
    return `jsr:@std/${name}@${version}${path.slice(1)}`;
  });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", ...specifiers],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    signal: AbortSignal.timeout(JSR_TIMEOUT_MS),
    stdin: "null", // The terminal belongs to the program that runs next.
    stdout: "null",
    stderr: "piped",
  }).output();
  return { success, output: new TextDecoder().decode(stderr) };
}

/**
 * Finds the address of the registry that Deno could not reach. Only Deno knows
 * it, because the environment variable `JSR_URL` may name another registry, and
 * `vendor/` has one folder for each. Returns `undefined` if the registry
 * answered.
 */
function findUnreachableRegistry(output: string): URL | undefined {
  if (output.includes("Could not find")) return undefined;
  const address = output.match(/(https?:\/\/[^\s'"]+)\/@std\//)?.[1];
  return address === undefined ? undefined : new URL(address);
}

/** The folder of a registry in `vendor/`, by Deno's rule. */
function folderFor({ protocol, host }: URL): string {
  const prefix = protocol === "http:" ? "http_" : "";
  return prefix + host.replace(":", "_");
}

// ---- Stand-ins

async function writeStandIns(folder: URL): Promise<void> {
  for (const pkg of PACKAGES) await writePackage(folder, pkg);
  const note = new URL("STAND-INS.md", STAGING);
  await Deno.writeTextFile(note, await composeNote());
}

/** Writes a package as JSR lays it out: two files that describe it, and a module. */
async function writePackage(folder: URL, pkg: Package): Promise<void> {
  const { file, exports } = findStandIn(pkg);
  const module = await readStandIn(pkg);
  const home = new URL(`@std/${pkg.name}/`, folder);

  await Deno.mkdir(new URL(`${pkg.version}/`, home), { recursive: true });
  await Deno.writeFile(new URL(`${pkg.version}/${file}`, home), module);

  // Deno compares each module with the size and the checksum in the manifest.
  const checksum = await checksumOf(module);
  await writeJson(new URL(`${pkg.version}_meta.json`, home), {
    manifest: { [`/${file}`]: { size: module.length, checksum } },
    exports: Object.fromEntries(exports.map((path) => [path, `./${file}`])),
  });
  await writeJson(new URL("meta.json", home), {
    scope: "std",
    name: pkg.name,
    latest: pkg.version,
    versions: { [pkg.version]: {} },
  });
}

/** The text of the note: what `vendor/` holds, with versions and checksums. */
async function composeNote(): Promise<string> {
  const lines = [
    "JSR could not be reached, so this folder holds stand-ins from",
    "`.ci/stand-ins/`. To go back to JSR's own packages, delete `vendor/`.",
    "",
  ];
  for (const pkg of PACKAGES) {
    const checksum = await checksumOf(await readStandIn(pkg));
    lines.push(`- @std/${pkg.name}@${pkg.version}: ${checksum}`);
  }
  return lines.join("\n") + "\n";
}

function findStandIn({ name }: Package): StandIn {
  const standIn = STAND_INS[name];
  if (standIn) return standIn;
  throw new Error(
    `Cannot fetch @std/${name}: JSR does not answer, and there is no stand-in ` +
      "for it. Connect to a network that reaches JSR, then try again.",
  );
}

async function readStandIn(pkg: Package) {
  const file = `stand-ins/${findStandIn(pkg).file}`;
  return await Deno.readFile(new URL(file, import.meta.url));
}

async function checksumOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return `sha256-${new Uint8Array(hash).toHex()}`;
}

// ---- Files

async function writeJson(file: URL, value: unknown): Promise<void> {
  await Deno.writeTextFile(file, JSON.stringify(value, null, 2) + "\n");
}

/** Renames the staging folder, unless a task in another terminal was faster. */
async function putInPlace(): Promise<void> {
  if (await isFilled()) return;
  await remove(VENDOR); // Deno may have downloaded a part before JSR failed.
  await Deno.rename(STAGING, VENDOR);
}

function exists(path: URL): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

async function remove(folder: URL): Promise<void> {
  if (exists(folder)) await Deno.remove(folder, { recursive: true });
}

// ---- Main

async function main(): Promise<void> {
  try {
    if (!await isFilled()) await fill();
  } catch (error) {
    // One line without a stack trace, because the cause is outside the program.
    console.error(error instanceof Error ? error.message : error);
    Deno.exitCode = 1;
  } finally {
    await remove(STAGING);
  }
}

if (import.meta.main) await main();
