// What every report begins with: the machine. A figure without it means nothing.

import { readFileSync, statfsSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";

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
  if (dir !== undefined) {
    const found = statfsSync(dir).type;
    lines.push(`file system ${fileSystems.get(found) ?? `of type 0x${found.toString(16)}`} (below ${dir})`);
  }
  return lines;
}
