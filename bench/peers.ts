// `npm run bench:peers`: installs the peers of the benchmark below rows/peers/ with the npm that runs it, builds etcd's WAL
// if Go is there, and prints a line a peer: its version, or why it will be left out. What works already is left as it is.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Row } from "./row.js";
import { etcdProgram } from "./rows/etcd.js";
import { peerRows } from "./rows/index.js";
import { peersDirectory } from "./rows/peer.js";
import { Batches } from "./savers.js";

const directory = fileURLToPath(peersDirectory);

/** Packages, and the row that shows whether one works. */
const packages: readonly { readonly name: string; readonly row: string }[] = [
  { name: "classic-level", row: "classic-level" },
  { name: "lmdb", row: "lmdb" },
  { name: "better-sqlite3", row: "sqlite" },
];

function say(name: string, what: string): void {
  console.log(`${name.padEnd(16)}${what}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n", 1)[0] as string) : String(error);
}

/** Versions by package: what package.json asks for. */
function wantedVersions(): Readonly<Record<string, string>> {
  const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  return manifest.dependencies;
}

function installedVersion(name: string): string | undefined {
  try {
    const manifest = readFileSync(join(directory, "node_modules", name, "package.json"), "utf8");
    return (JSON.parse(manifest) as { version: string }).version;
  } catch {
    return undefined;
  }
}

/** Why a save does not work; undefined when it does. In a process of its own: an addon that crashes takes that along. */
async function failureOf(row: string): Promise<string | undefined> {
  try {
    await promisify(execFile)(process.execPath, [fileURLToPath(import.meta.url), "--try", row]);
    return undefined;
  } catch (error) {
    const { stderr, signal } = error as { stderr?: string; signal?: string | null };
    return signal ? `it ended with ${signal}` : stderr?.split("\n", 1)[0] || messageOf(error);
  }
}

/** Opens the row, makes one save, closes it. */
async function attempt(load: () => Promise<Row>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "stablelog-bench-"));
  try {
    const row = await load();
    const log = await row.open(home, { sync: true });
    await log.save(new Batches({ entries: 1, bytes: 1 }).next());
    await log.close();
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** @throws Error with the first thing that npm complained about. */
async function npm(...args: string[]): Promise<void> {
  // npm tells its scripts where it is itself; it may not be the one in the PATH.
  const { npm_execpath: path } = process.env;
  const [file, first] = path === undefined ? ["npm", []] : [process.execPath, [path]];
  try {
    await promisify(execFile)(file, [...first, ...args, "--prefix", directory, "--loglevel=error"], {
      cwd: directory,
      maxBuffer: 64 << 20,
      shell: path === undefined && process.platform === "win32",
    });
  } catch (error) {
    const { stderr = "" } = error as { stderr?: string };
    // Its own account of a failed build is long; what went wrong is in the lines of the compiler or of node-gyp.
    const lines = stderr.split("\n").map((line) => line.replace(/^npm error /, ""));
    const cause = lines.find((line) => /^gyp ERR! stack |\berror: |^code E/.test(line));
    const said = cause?.replace(/^gyp ERR! stack (Error: )?|^code /, "") || lines[0] || messageOf(error);
    throw new Error(`npm ${args.join(" ")} failed: ${said}`, { cause: error });
  }
}

/** True when every package works. */
async function installAll(): Promise<boolean> {
  const wanted = wantedVersions();
  const works = async ({ name, row }: (typeof packages)[number]): Promise<boolean> =>
    installedVersion(name) === wanted[name] && (await failureOf(row)) === undefined;
  if (!(await Promise.all(packages.map(works))).every(Boolean)) {
    // Install scripts come after, one package at a time: one that does not build must not take the others away.
    await npm("ci", "--ignore-scripts");
  }
  let all = true;
  for (const each of packages) {
    const { name, row } = each;
    let complaint: string | undefined;
    if (!(await works(each))) {
      say(name, `${wanted[name]} is being built; from its sources that takes minutes`);
      complaint = await npm("rebuild", name).then(
        () => undefined,
        (error: unknown) => messageOf(error),
      );
    }
    const failure = await failureOf(row);
    all &&= failure === undefined;
    say(name, failure === undefined ? `${installedVersion(name)}` : `left out: ${complaint ?? failure}`);
  }
  return all;
}

async function main(): Promise<void> {
  say("append", `Node.js ${process.version}, nothing to install`);
  try {
    if (!(await installAll())) process.exitCode = 1;
  } catch (error) {
    for (const { name } of packages) say(name, `left out: ${messageOf(error)}`);
    process.exitCode = 1;
  }
  // Without Go the benchmark is whole but for etcd, so that is no failure.
  await etcdProgram().then(
    () => say("etcd", "its WAL, built from Debian's sources"),
    (error: unknown) => say("etcd", `left out: ${messageOf(error)}`),
  );
}

async function tryRow(name: string): Promise<void> {
  const load = peerRows.get(name);
  if (load === undefined) throw new Error(`there is no row '${name}'`);
  await attempt(load);
}

const [flag, rowName = ""] = process.argv.slice(2);
(flag === "--try" ? tryRow(rowName) : main()).catch((error: unknown) => {
  console.error(messageOf(error));
  process.exitCode = 1;
});
