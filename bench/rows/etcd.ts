// etcd's own write-ahead log, as Debian packages its source: a Go program (etcd/main.go) that is built once and makes its own
// load, so that no call between processes is measured. Used by the workloads that compare with etcd, and by peers.ts, which
// builds it ahead of them.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Sample } from "../result.js";

export interface EtcdOptions {
  /** The log goes below it, into `wal`; made when it is not there. */
  readonly dir: string;
  readonly savers: number;
  /** Entries a save, and bytes of each. */
  readonly entries: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  /** `each`: a wal.Save a save, one after the other; `ready`: one for all that waits, as an etcd node does. */
  readonly mode: "each" | "ready";
  /** False: etcd's own `--unsafe-no-fsync`. */
  readonly sync: boolean;
  /** A file of batches that a lone saver makes again and again, instead of `savers` and `mode`: JSON lines of
   * `{ term?, vote?, commit?, entries: [{ index, term, type, bytes }] }`. */
  readonly replay?: string | undefined;
  /** Only makes a log of so many entries, which appears whole or not at all. perSecond counts entries. */
  readonly fill?: number | undefined;
  /** Only opens the log that is there and reads it all; `more` has `openMs`, `rssMiB` and `entries`. */
  readonly open?: boolean | undefined;
}

/** Debian keeps the sources of Go packages here. */
const GOPATH = "/usr/share/gocode";
const PACKAGE = join(GOPATH, "src/go.etcd.io/etcd/wal");

/** This file runs from bench/.out/rows/. */
const source = fileURLToPath(new URL("../../rows/etcd/main.go", import.meta.url));
const program = fileURLToPath(new URL("../etcd-wal-bench", import.meta.url));

/** The program, built when it is not there or older than its source. Needs Debian's packages golang-go and
 * golang-etcd-server-dev; says so otherwise. */
export async function etcdProgram(): Promise<string> {
  if (existsSync(program) && statSync(program).mtimeMs > statSync(source).mtimeMs) return program;
  if (!existsSync(PACKAGE)) {
    throw new Error(
      `etcd's WAL is not in ${PACKAGE}; Debian has it in the package golang-etcd-server-dev (and Go in golang-go)`,
    );
  }
  const cache = mkdtempSync(join(tmpdir(), "stablelog-bench-go-"));
  // Two rows that build at the same time must not run each other's half of a program.
  const unfinished = `${program}.${process.pid}`;
  try {
    await promisify(execFile)("go", ["build", "-o", unfinished, source], {
      env: { ...process.env, GO111MODULE: "off", GOPATH, GOCACHE: cache, GOFLAGS: "" },
    });
    renameSync(unfinished, program);
    return program;
  } catch (error) {
    const { code, stderr, message } = error as NodeJS.ErrnoException & { stderr?: string };
    if (code === "ENOENT") {
      throw new Error("there is no Go to build etcd's WAL with; Debian has it in the package golang-go", {
        cause: error,
      });
    }
    const said = stderr?.split("\n").find((line) => line !== "" && !line.startsWith("#"));
    throw new Error(
      `etcd's WAL could not be built, as it can with Debian 12's golang-go and golang-etcd-server-dev: ${said ?? message}`,
      { cause: error },
    );
  } finally {
    rmSync(unfinished, { force: true });
    rmSync(cache, { recursive: true, force: true });
  }
}

/** Runs etcd's WAL under a load; perSecond counts saves if `options` do not say otherwise.
 * @throws Error that names the Debian packages when it cannot be built, or says what the program said. */
export async function runEtcd(options: EtcdOptions): Promise<Sample> {
  const { dir, savers, entries, bytes, seconds, warmSeconds, mode, sync, replay, fill, open } = options;
  const values = { dir, savers, entries, bytes, seconds, warm: warmSeconds, mode, replay, fill };
  const flags = Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [`-${name}=${value}`]));
  if (!sync) flags.push("-nosync");
  if (open === true) flags.push("-open");
  const child = spawn(await etcdProgram(), flags, { stdio: ["ignore", "pipe", "pipe"] });
  const [output, complaint, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  if (code !== 0) {
    const end = signal ?? `code ${code}`;
    throw new Error(`etcd's WAL ended with ${end}: ${complaint.split("\n", 1)[0] || "it said nothing"}`);
  }
  return JSON.parse(output) as Sample;
}
