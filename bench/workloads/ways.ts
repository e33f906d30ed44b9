// Ways to make bytes durable from Node.js, with nothing of a log around them: what was tried for the engine, so that anyone can
// see what each gives on a disk of theirs. Small writes, as a lone saver makes them, and of a MiB.

import { closeSync, constants, fdatasyncSync, openSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { FileDisk } from "stablelog";
import { Latencies } from "../latencies.js";
import type { Sample } from "../result.js";
import { zeroFile } from "../rows/floor.js";
import type { Place, Run, Workload } from "../workload.js";

const FILE_BYTES = 64 * 1024 * 1024;
const PIECE_BYTES = 1024 * 1024;
/** What direct I/O wants its memory, its places and its sizes to be multiples of. */
const PAGE_BYTES = 4096;

/** Opens the file to be written; `zeros` of it are there. */
function fileOf(path: string, zeros: number, flags: number): number {
  closeSync(zeroFile(path, zeros));
  return openSync(path, constants.O_RDWR | flags);
}

/** What is used of it here; its types come with a browser's. */
declare const WebAssembly: { Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer } };

/** Page-aligned memory, which only WebAssembly gives from JavaScript. */
function aligned(bytes: number): Uint8Array {
  const pages = Math.ceil(bytes / 65_536);
  return new Uint8Array(new WebAssembly.Memory({ initial: pages }).buffer, 0, bytes);
}

/** Calls `write` with one place after the other until the time is up; perSecond counts bytes / `unit`. */
async function timed(
  { seconds, warmSeconds }: Place,
  bytes: number,
  unit: number,
  write: (at: number) => void | Promise<void>,
): Promise<Sample> {
  const latencies = new Latencies();
  let at = 0;
  const run = async (until: number): Promise<void> => {
    for (;;) {
      const started = performance.now();
      if (started >= until) return;
      const pending = write(at);
      if (pending !== undefined) await pending;
      latencies.record(performance.now() - started);
      at += bytes;
      if (at + bytes > FILE_BYTES) at = 0;
    }
  };
  await run(performance.now() + warmSeconds * 1000);
  latencies.clear();
  const begun = performance.now();
  await run(begun + seconds * 1000);
  const perSecond = (latencies.count * (bytes / unit) * 1000) / (performance.now() - begun);
  return { perSecond, latency: latencies.summary() };
}

type Way = (place: Place, bytes: number, unit: number) => Promise<Run>;

/** write() over zeros that are durable, by a file opened with `flags`. */
function blocking(syncs: string, flags: number, sync: boolean, page = 1): Way {
  return async (place, wanted, unit) => {
    const bytes = Math.ceil(wanted / page) * page;
    const fd = fileOf(join(place.dir, "file"), FILE_BYTES, flags);
    const source = aligned(bytes).fill(0x5a);
    try {
      const sample = await timed(place, bytes, unit * (bytes / wanted), (at) => {
        writeSync(fd, source, 0, bytes, at);
        if (sync) fdatasyncSync(fd);
      });
      return { syncs, sample };
    } finally {
      closeSync(fd);
    }
  };
}

/** A file that grows with each write, or by zeros a step at a time, from its beginning again when it is full. */
function growing(syncs: string, step: number): Way {
  return async (place, bytes, unit) => {
    const path = join(place.dir, "file");
    const zeros = new Uint8Array(Math.max(step, 1));
    const source = new Uint8Array(bytes).fill(0x5a);
    let fd = fileOf(path, 0, 0);
    let filled = 0;
    const sample = await timed(place, bytes, unit, (at) => {
      if (at === 0) {
        closeSync(fd);
        unlinkSync(path);
        fd = fileOf(path, 0, 0);
        filled = 0;
      }
      for (; step > 0 && filled < at + bytes; filled += step) writeSync(fd, zeros, 0, step, filled);
      writeSync(fd, source, 0, bytes, at);
      fdatasyncSync(fd);
    });
    closeSync(fd);
    return { syncs, sample };
  };
}

/** What a FileDisk does off the event loop's thread. */
function later(syncs: string, worker: boolean): Way {
  return async (place, bytes, unit) => {
    const path = join(place.dir, "file");
    closeSync(fileOf(path, FILE_BYTES, 0));
    const disk = new FileDisk();
    const file = await disk.open(path, "write");
    const source = disk.allocate(bytes).fill(0x5a);
    const sample = await timed(place, bytes, unit, (at) =>
      worker ? file.commit(source, 0, bytes, at) : file.writeLater(source, 0, bytes, at, true),
    );
    await file.close();
    await disk.dispose();
    return { syncs, sample };
  };
}

const ways: ReadonlyMap<string, Way> = new Map([
  ["write, fdatasync", blocking("over zeros, blocking", 0, true)],
  ["O_DSYNC", blocking("over zeros, one blocking call", constants.O_DSYNC, false)],
  [
    "O_DIRECT, fdatasync",
    blocking("over zeros, whole pages, past the page cache", constants.O_DIRECT, true, PAGE_BYTES),
  ],
  [
    "O_DIRECT | O_DSYNC",
    blocking("over zeros, whole pages, one blocking call", constants.O_DIRECT | constants.O_DSYNC, false, PAGE_BYTES),
  ],
  ["growing file", growing("the size and the blocks with each write", 0)],
  ["zeros by 1 MiB", growing("zeros of the same file, a MiB at a time, when they are needed", PIECE_BYTES)],
  ["worker thread", later("over zeros, handed over with Atomics", true)],
  ["thread pool", later("over zeros, fs.write() and fs.fdatasync(), two hops", false)],
]);

function waysOf(name: string, title: string, bytes: number, unit: number, unitName: string): Workload {
  return {
    name: `ways-${name}`,
    title,
    unit: unitName,
    base: "write, fdatasync",
    rows: new Map([...ways].map(([way, run]) => [way, (place: Place) => run(place, bytes, unit)])),
    goals: () => [],
  };
}

export const wayWorkloads: readonly Workload[] = [
  waysOf("small", "Ways to make 512 bytes durable, one after the other; writes a second.", 512, 512, "writes"),
  waysOf("large", "Ways to make a MiB durable, one after the other; MB a second.", PIECE_BYTES, 1e6, "MB"),
];
