// How long the event loop is kept from its other work while 64 savers saturate the log: on this disk, and on one whose sync
// takes 20 ms, made of this one by waiting. The delay is that of a timer of a millisecond, as monitorEventLoopDelay sees it.

import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Disk, type DiskFile, FileDisk, FileStorage, type FileStorageOptions } from "stablelog";
import { runSavers } from "../savers.js";
import { atLeast, atMost, figureOf, type Place, type Run, type Workload } from "../workload.js";

const SHAPE = { savers: 64, entries: 1, bytes: 256 };
const SLOW_MS = 20;
const RESOLUTION_MS = 1;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread, as a slow sync does. */
function block(): void {
  Atomics.wait(sleeper, 0, 0, SLOW_MS);
}

function later(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SLOW_MS));
}

function slowFile(file: DiskFile): DiskFile {
  return {
    size: () => file.size(),
    read: (target, start, end, position) => file.read(target, start, end, position),
    readLater: (target, start, end, position) => file.readLater(target, start, end, position),
    write: (source, start, end, position) => file.write(source, start, end, position),
    sync: () => {
      block();
      file.sync();
    },
    commit: async (source, start, end, position) => {
      await later();
      await file.commit(source, start, end, position);
    },
    writeLater: async (source, start, end, position, sync) => {
      if (sync) await later();
      await file.writeLater(source, start, end, position, sync);
    },
    truncate: (bytes) => file.truncate(bytes),
    close: () => file.close(),
  };
}

/** This disk, each sync 20 ms later. */
function slowDisk(disk: FileDisk): Disk {
  return {
    syncsNow: disk.syncsNow,
    open: async (path, mode) => slowFile(await disk.open(path, mode)),
    openNow: (path) => slowFile(disk.openNow(path)),
    list: (dir) => disk.list(dir),
    stat: (path) => disk.stat(path),
    mkdir: (path) => disk.mkdir(path),
    rename: (from, to) => disk.rename(from, to),
    unlink: (path) => disk.unlink(path),
    syncDir: async (dir) => {
      await later();
      await disk.syncDir(dir);
    },
    lock: (dir) => disk.lock(dir),
    allocate: (bytes) => disk.allocate(bytes),
    entropy: (target) => disk.entropy(target),
  };
}

async function run(
  { dir, seconds, warmSeconds }: Place,
  sync: FileStorageOptions["sync"],
  slow: boolean,
): Promise<Run> {
  const disk = new FileDisk();
  const storage = await FileStorage.open(join(dir, "log"), { sync, disk: slow ? slowDisk(disk) : disk });
  const log = { save: storage.save.bind(storage), close: () => storage.close() };
  // A slow disk is found out by its first syncs: they are the warm-up.
  await runSavers(log, { ...SHAPE, seconds: warmSeconds + (slow ? 1 : 0), warmSeconds: 0 });
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  const behind = storage.lastIndex();
  delay.enable();
  const { perSecond, latency } = await runSavers(log, { ...SHAPE, seconds, warmSeconds: 0, behind });
  delay.disable();
  const more = {
    delayP50Ms: delay.percentile(50) / 1e6,
    delayP99Ms: delay.percentile(99) / 1e6,
    delayMaxMs: delay.max / 1e6,
  };
  await storage.close();
  await disk.dispose();
  return { syncs: `engine ${storage.stats().engine}`, sample: { perSecond, latency, more } };
}

function delayOf(name: string, title: string, slow: boolean): Workload {
  const engines = slow ? (["auto", "worker"] as const) : (["auto", "inline", "worker"] as const);
  const nameOf = (sync: string): string => (sync === "auto" ? "stablelog" : `stablelog ${sync}`);
  return {
    name: `delay-${name}`,
    title: `64 savers ${title}: how long a timer of a millisecond waits for its turn; saves a second.`,
    unit: "saves",
    base: "stablelog",
    rows: new Map(engines.map((sync) => [nameOf(sync), (place: Place) => run(place, sync, slow)])),
    goals: (rows) =>
      slow
        ? [
            atMost(
              "ms of event-loop delay, p99",
              5,
              figureOf(rows, "stablelog", ({ more }) => more?.["delayP99Ms"]),
            ),
            atLeast(
              "saves/s all the while",
              1,
              figureOf(rows, "stablelog", ({ perSecond }) => perSecond),
            ),
          ]
        : [],
  };
}

export const delayWorkloads: readonly Workload[] = [
  delayOf("here", "on this disk", false),
  delayOf("slow", `on a disk whose sync takes ${SLOW_MS} ms`, true),
];
