/**
 * Makes sure that the `@std` packages are in `vendor/`. Every task of
 * `deno.json` runs this first.
 *
 * Deno itself fetches them from JSR and keeps them in `vendor/`: that is the
 * normal case, and here it only happens a moment earlier. Some networks,
 * classrooms above all, let npm through but not JSR. There this script fills
 * `vendor/` with
 *
 * - std's own `TextLineStream`, out of an npm package that carries a copy, and
 * - small stand-ins, `.ci/stand-ins/`, for the few other functions we use.
 *
 * Deno reads `vendor/` before it asks JSR, so the program's imports stay as they
 * are and a plain `deno run --allow-net server.ts` works too. Once `vendor/` is
 * there, this script does nothing.
 *
 * It must not import `@std`: it runs before there is any.
 */
import config from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
const VENDOR = new URL("vendor/", ROOT);

/** Filled first and renamed last: a run cut short leaves no half a `vendor/`. */
const STAGING = new URL(`vendor.${Deno.pid}/`, ROOT);

/** Lies in a `vendor/` of ours, and only there. */
const NOTE = new URL("STAND-INS.md", VENDOR);
const NOTE_TEXT = "JSR could not be reached, so this folder holds std's " +
  "TextLineStream by way of npm, and stand-ins (.ci/stand-ins/) for the rest " +
  "of @std. To go back to JSR's own packages, delete vendor/.";

/** How long a registry may take. A firewall that swallows packets never answers. */
const PATIENCE_MS = 15_000;

/** The npm package that carries std's TextLineStream, of std 0.221: the same interface. */
const CARRIER = "npm:fetch-event-stream@0.1.6";

/**
 * What the program may import where JSR is out of reach: package, path, module.
 * The last path of each is what it does import.
 */
const EXPORTS: Record<string, Record<string, string>> = {
  assert: { ".": "./assert.ts" },
  cli: { ".": "./parse_args.ts", "./parse-args": "./parse_args.ts" },
  streams: {
    ".": "./text_line_stream.js",
    "./text-line-stream": "./text_line_stream.js",
  },
};

interface Package {
  name: string;
  version: string;
}

/** The pinned versions: said once, in `deno.json`. */
const PACKAGES: Package[] = Object.values(config.imports).flatMap((pin) => {
  const [, name, version] = pin.match(/^jsr:@std\/([\w-]+)@([\d.]+)$/) ?? [];
  return name && version ? [{ name, version }] : [];
});

/** Whether some host's folder in `vendor/` holds every package as pinned. */
function isFilled(): boolean {
  if (!exists(VENDOR)) return false;
  const hosts = [...Deno.readDirSync(VENDOR)].map((entry) => entry.name);
  return hosts.some((host) =>
    PACKAGES.every(({ name, version }) =>
      exists(new URL(`${host}/@std/${name}/${version}_meta.json`, VENDOR))
    )
  );
}

async function fill(): Promise<void> {
  await remove(VENDOR); // Packages of other versions must not mix with ours.

  const jsr = await fetchWithDeno(...PACKAGES.map(toSpecifier));
  if (jsr.success) return; // Deno has filled vendor/ itself.

  // In vendor/ the packages lie in a folder named for JSR's host. Which host
  // that is (JSR_URL may name another) only Deno knows: it said where it tried.
  const url = jsr.output.match(/(https?:\/\/[^\s'"]+)\/@std\//)?.[1];
  if (!url || jsr.output.includes("Could not find")) {
    throw new Error(jsr.output.match(/^error: .*/m)?.[0] ?? jsr.output);
  }
  const missing = PACKAGES.find(({ name }) => !EXPORTS[name]);
  if (missing) {
    throw new Error(
      `Cannot fetch @std/${missing.name}: JSR does not answer, and .ci/vendor.ts has no stand-in.`,
    );
  }

  const modules = await collectModules();
  const folder = new URL(`${folderFor(new URL(url))}/`, STAGING);
  for (const pkg of PACKAGES) await writePackage(folder, pkg, modules);
  await Deno.writeTextFile(new URL("STAND-INS.md", STAGING), NOTE_TEXT + "\n");
  await putInPlace();
  console.error(NOTE_TEXT.replace("this folder", "vendor/ now"));
}

/** The module of a package that the program imports, as Deno may be asked for it. */
function toSpecifier({ name, version }: Package): string {
  const path = Object.keys(EXPORTS[name] ?? {}).at(-1) ?? ".";
  return `jsr:@std/${name}@${version}${path.slice(1)}`;
}

/** Lets a second Deno fetch modules to where Deno keeps them, within {@linkcode PATIENCE_MS}. */
async function fetchWithDeno(...specifiers: string[]) {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", ...specifiers],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    signal: AbortSignal.timeout(PATIENCE_MS),
    stdin: "null", // The terminal belongs to the program that runs next.
    stdout: "null",
    stderr: "piped",
  }).output();
  return { success, output: new TextDecoder().decode(stderr) };
}

/** The folder of a host in `vendor/`, by Deno's rule. */
function folderFor({ protocol, host }: URL): string {
  return (protocol === "http:" ? "http_" : "") + host.replace(":", "_");
}

/** The text of every module that the stand-in packages consist of, by file name. */
async function collectModules(): Promise<Map<string, string>> {
  const modules = new Map<string, string>();
  for (const name of ["assert.ts", "parse_args.ts"]) {
    const source = new URL(`stand-ins/${name}`, import.meta.url);
    modules.set(name, await Deno.readTextFile(source));
  }

  const npm = await fetchWithDeno(CARRIER);
  if (!npm.success) {
    throw new Error(
      "Cannot fetch the @std packages: neither JSR nor npm answers. " +
        "Connect to a network that reaches one of them, then try again.",
    );
  }
  // Only now, and not as a literal, or Deno would fetch it at every start.
  const carrier: string = CARRIER;
  await import(carrier);
  const entry = import.meta.resolve(carrier); // file:///.../esm/mod.js
  const js = await findTextLineStream(new URL("deps/", entry), "js");
  const types = await findTextLineStream(
    new URL("../types/deps/", entry),
    "d.ts",
  );
  modules.set("text_line_stream.d.ts", types);
  modules.set(
    "text_line_stream.js",
    `// @ts-self-types="./text_line_stream.d.ts"\n${js}`,
  );
  return modules;
}

/** Reads TextLineStream from below `deps/HOST/`, whatever the host is called. */
async function findTextLineStream(deps: URL, suffix: string): Promise<string> {
  const path = `@std/streams/0.221.0/text_line_stream.${suffix}`;
  for await (const host of Deno.readDir(deps)) {
    const file = new URL(`${host.name}/${path}`, deps);
    if (exists(file)) return await Deno.readTextFile(file);
  }
  throw new Error(`${CARRIER} does not contain ${path}`);
}

/** Writes one package the way JSR lays it out: two files that describe it, and its modules. */
async function writePackage(
  folder: URL,
  { name, version }: Package,
  modules: Map<string, string>,
): Promise<void> {
  const exports = EXPORTS[name]!;
  const stems = Object.values(exports).map((path) =>
    path.slice(2).split(".")[0]
  );
  const home = new URL(`@std/${name}/`, folder);
  await Deno.mkdir(new URL(`${version}/`, home), { recursive: true });

  // Deno compares each module with the size and checksum of the manifest.
  const manifest: Record<string, { size: number; checksum: string }> = {};
  for (const [file, text] of modules) {
    if (!stems.includes(file.split(".")[0])) continue;
    const bytes = new TextEncoder().encode(text);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    manifest[`/${file}`] = {
      size: bytes.length,
      checksum: `sha256-${hash.toHex()}`,
    };
    await Deno.writeFile(new URL(`${version}/${file}`, home), bytes);
  }
  await writeJson(new URL(`${version}_meta.json`, home), { manifest, exports });
  await writeJson(new URL("meta.json", home), {
    scope: "std",
    name,
    latest: version,
    versions: { [version]: {} },
  });
}

async function writeJson(file: URL, value: unknown): Promise<void> {
  await Deno.writeTextFile(file, JSON.stringify(value, null, 2) + "\n");
}

/** Renames the staging folder, unless a task in another terminal was faster. */
async function putInPlace(): Promise<void> {
  if (exists(NOTE)) return;
  await remove(VENDOR); // What Deno may have got before JSR fell silent.
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

try {
  if (!isFilled()) await fill();
} catch (error) {
  // One line for people, no stack trace: what went wrong is outside the program.
  console.error(error instanceof Error ? error.message : error);
  Deno.exitCode = 1;
} finally {
  await remove(STAGING);
}
