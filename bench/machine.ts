// What every report begins with: the machine, the file system and its device, and what a sync takes there. A figure without
// them means nothing.

import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { basename, dirname, join } from "node:path";
import { Latencies } from "./latencies.js";

/** f_type of statfs(2) on Linux. */
const fileSystems: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"],
  [0x01021994, "tmpfs"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x794c7630, "overlayfs"],
  [0x6969, "nfs"],
  [0x2fc12fc1, "zfs"],
]);

/** The version in package.json; this file runs from bench/.out/. */
export function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}

/** Lines about CPU, kernel and Node.js, and about the file system of `dir` where one is measured. */
export function machineLines(dir?: string): string[] {
  const [cpu] = cpus();
  const lines = [
    `stablelog ${packageVersion()}, Node.js ${process.version}, V8 ${process.versions.v8}`,
    `CPU ${cpu?.model ?? "unknown"}, ${cpus().length} of them; ${Math.round(totalmem() / 1024 ** 3)} GiB of memory`,
    `kernel ${type()} ${release()}, ${process.platform} ${process.arch}`,
  ];
  if (dir !== undefined) lines.push(`file system ${fileSystemOf(dir)}`, ...deviceLines(dir));
  return lines;
}

function fileSystemOf(dir: string): string {
  const found = statfsSync(dir).type;
  const name = fileSystems.get(found) ?? `of type 0x${found.toString(16)}`;
  const options = mountOptions(dir);
  return options === undefined ? name : `${name}, mounted ${options}`;
}

/** Options of the mount that holds `dir`: the longest mount point that is a prefix of it. Linux only. */
function mountOptions(dir: string): string | undefined {
  const path = `${realpathSync(dir)}/`;
  let longest = "";
  let options: string | undefined;
  for (const line of readText("/proc/mounts")?.split("\n") ?? []) {
    const [, point = "", , mounted] = line.split(" ");
    const prefix = point === "/" ? point : `${point}/`;
    // The last of several mounts on one point is the one that is seen.
    if (path.startsWith(prefix) && prefix.length >= longest.length) {
      longest = prefix;
      options = mounted;
    }
  }
  return options;
}

/** The device's write cache and whether it knows FUA, from sysfs; nothing where there is no such thing. Linux only. */
function deviceLines(dir: string): string[] {
  const { dev } = statSync(dir);
  const major = Math.floor(dev / 256) & 0xfff;
  const minor = dev & 0xff;
  let device: string;
  try {
    device = realpathSync(`/sys/dev/block/${major}:${minor}`);
  } catch {
    return [];
  }
  // A partition has no queue of its own.
  const queue = [device, dirname(device)]
    .map((each) => join(each, "queue"))
    .find((each) => readText(join(each, "fua")));
  if (queue === undefined) return [];
  const cache = readText(join(queue, "write_cache")) ?? "unknown";
  const fua = readText(join(queue, "fua")) === "1" ? "FUA" : "no FUA";
  return [`device ${basename(dirname(queue))}: write cache ${cache}, ${fua}`];
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

const SYNCS = 2000;
const SYNC_BYTES = 4096;

/** What a write of 4 KiB and its fdatasync take below `dir`, over a zero-filled file. */
export function syncLines(dir: string): string[] {
  const home = mkdtempSync(join(dir, "stablelog-bench-"));
  const fd = openSync(join(home, "syncs"), "wx+");
  try {
    writeSync(fd, new Uint8Array(SYNCS * SYNC_BYTES));
    fsyncSync(fd);
    const bytes = new Uint8Array(SYNC_BYTES).fill(0x5a);
    const latencies = new Latencies();
    for (let i = 0; i < SYNCS; i++) {
      const started = performance.now();
      writeSync(fd, bytes, 0, SYNC_BYTES, i * SYNC_BYTES);
      fdatasyncSync(fd);
      latencies.record(performance.now() - started);
    }
    const [p50, p99, p999] = [0.5, 0.99, 0.999].map((q) => `${Math.round(latencies.quantile(q))} us`);
    return [`write of 4 KiB and fdatasync: p50 ${p50}, p99 ${p99}, p999 ${p999}`];
  } finally {
    closeSync(fd);
    rmSync(home, { recursive: true, force: true });
  }
}
