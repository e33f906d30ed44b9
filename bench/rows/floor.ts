// The floor: what this disk gives to anyone who writes from Node.js and syncs, with nothing of a log around it. One
// positional write and one fdatasync of as many bytes as stablelog's own save takes, over a file that was filled with zeros
// and synced before, from its beginning again at its end. Without syncs the file grows, as everybody's does then.

import { closeSync, fdatasyncSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Latencies } from "../latencies.js";
import type { Sample } from "../result.js";

/** Bytes of the file; less for small writes, which do not get that far. */
export const FILE_BYTES = 256 * 1024 * 1024;
/** How far a file grows before it begins again: a short one would never be written back, which no log is spared. */
const GROWN_BYTES = 4 * 1024 * 1024 * 1024;
const PIECE_BYTES = 1024 * 1024;

export interface FloorLoad {
  /** Bytes of one write. */
  readonly bytes: number;
  /** Saves that each write stands for. */
  readonly saves: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly sync: boolean;
}

/** Makes a file of so many zeros, synced; gives its descriptor. */
export function zeroFile(path: string, bytes: number): number {
  const fd = openSync(path, "wx+");
  const zeros = new Uint8Array(PIECE_BYTES);
  for (let at = 0; at < bytes; at += PIECE_BYTES) writeSync(fd, zeros, 0, Math.min(PIECE_BYTES, bytes - at), at);
  fsyncSync(fd);
  return fd;
}

/** Runs the floor below `dir`; perSecond counts saves. */
export function runFloor(dir: string, { bytes, saves, seconds, warmSeconds, sync }: FloorLoad): Sample {
  // Small writes do not get far in the time there is.
  const most = sync ? Math.min(FILE_BYTES, 20_000 * bytes * Math.ceil(seconds + warmSeconds)) : GROWN_BYTES;
  const size = Math.max(2 * bytes, most);
  const fd = zeroFile(join(dir, "floor"), sync ? size : 0);
  try {
    const source = new Uint8Array(bytes).fill(0x5a);
    const latencies = new Latencies();
    let at = 0;
    const run = (until: number): void => {
      let started = performance.now();
      while (started < until) {
        if (at + bytes > size) {
          if (!sync) ftruncateSync(fd, 0);
          at = 0;
        }
        writeSync(fd, source, 0, bytes, at);
        if (sync) fdatasyncSync(fd);
        at += bytes;
        const ended = performance.now();
        latencies.record(ended - started);
        started = ended;
      }
    };
    run(performance.now() + warmSeconds * 1000);
    latencies.clear();
    const begun = performance.now();
    run(begun + seconds * 1000);
    const ms = performance.now() - begun;
    return { perSecond: (latencies.count * saves * 1000) / ms, latency: latencies.summary() };
  } finally {
    closeSync(fd);
  }
}
