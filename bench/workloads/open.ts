// Opening: after a clean close, with one, four and sixteen million entries in the log; and after a SIGKILL amid saves. A log
// is filled once for all rounds; each round opens it in a fresh process, its pages in the page cache.

import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
} from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";
import { type Entry, EntryType, FileStorage } from "stablelog";
import type { Sample } from "../result.js";
import { runEtcd } from "../rows/etcd.js";
import { atLeast, atMost, figureOf, type Place, type Run, type Workload } from "../workload.js";

const ENTRY_BYTES = 128;
const A_SAVE = 50;
const MILLION = 1_000_000;

/** Fills a log at `dir` with so many entries and closes it, unless that was done before. */
export async function filled(dir: string, entries: number, bytes: number): Promise<void> {
  if (existsSync(dir)) return;
  const unfinished = `${dir}.tmp`;
  const storage = await FileStorage.open(unfinished, { sync: "off", cacheBytes: 0 });
  const data = new Uint8Array(bytes).fill(0x5a);
  for (let index = 1; index <= entries; ) {
    const batch: Entry[] = [];
    for (let i = 0; i < A_SAVE && index <= entries; i++, index++) {
      batch.push({ term: 1 + Math.floor(index / 100_000), index, type: EntryType.Normal, data });
    }
    await storage.save({ entries: batch });
  }
  await storage.close();
  renameSync(unfinished, dir);
}

function opened(ms: number, more: Readonly<Record<string, number>> = {}): Sample {
  return { perSecond: 1000 / ms, more: { openMs: ms, ...more } };
}

async function openRun({ shared }: Place, entries: number): Promise<Run> {
  const dir = join(shared, "log");
  await filled(dir, entries, ENTRY_BYTES);
  const started = performance.now();
  const storage = await FileStorage.open(dir);
  const ms = performance.now() - started;
  const rssMiB = process.memoryUsage.rss() / 1024 ** 2;
  if (storage.lastIndex() !== entries) throw new Error(`it holds ${storage.lastIndex()} entries, not ${entries}`);
  await storage.close();
  return { syncs: "FileStorage.open() of a log that was closed", sample: opened(ms, { rssMiB }) };
}

async function etcdRun({ shared }: Place, entries: number): Promise<Run> {
  const dir = join(shared, "etcd");
  const shape = {
    dir,
    savers: 1,
    entries: A_SAVE,
    bytes: ENTRY_BYTES,
    seconds: 0,
    warmSeconds: 0,
    sync: false,
  } as const;
  if (!existsSync(dir)) await runEtcd({ ...shape, mode: "each", fill: entries });
  return { syncs: "wal.Open and ReadAll", sample: await runEtcd({ ...shape, mode: "each", open: true }) };
}

function openOf(millions: number): Workload {
  const entries = millions * MILLION;
  const rows = new Map([["stablelog", (place: Place) => openRun(place, entries)]]);
  // Its time and memory go with the log: 1.6 GB for four million.
  if (millions < 16) rows.set("etcd", (place: Place) => etcdRun(place, entries));
  return {
    name: `open-${millions}m`,
    title: `Opening a log of ${millions} million entries of 128 B after a clean close; opens a second.`,
    unit: "opens",
    base: "stablelog",
    x: { axis: "entries in the log", value: entries },
    long: true,
    rows,
    goals: (found, others) => {
      const openMs = ({ more }: Sample) => more?.["openMs"];
      const ms = figureOf(found, "stablelog", openMs);
      if (millions === 1) return [atLeast("x faster than etcd", 20, figureOf(found, "etcd", openMs) / ms)];
      const first = others.get("open-1m");
      if (first === undefined || millions !== 16) return [];
      return [atMost("x the time of one million", 1.5, ms / figureOf(first, "stablelog", openMs))];
    },
  };
}

// ---- after a kill

async function killed(shared: string, dir: string): Promise<void> {
  const victim = join(shared, "killed");
  if (!existsSync(victim)) {
    const child = spawn(process.execPath, [join(import.meta.dirname, "open-victim.js"), victim], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    await once(child, "close");
  }
  // Recovery changes what it opens, so every round has a copy; what was synced when the process was killed is synced here.
  mkdirSync(dir);
  for (const name of readdirSync(victim)) {
    copyFileSync(join(victim, name), join(dir, name));
    const fd = openSync(join(dir, name), "r+");
    fsyncSync(fd);
    closeSync(fd);
  }
}

const recover: Workload = {
  name: "recover",
  title:
    "Opening a log whose process was killed amid saves of 64 savers, its newest segment half full; opens a second.",
  unit: "opens",
  base: "read and checksum a segment",
  long: true,
  rows: new Map([
    [
      "read and checksum a segment",
      async ({ shared, dir }: Place): Promise<Run> => {
        const log = join(dir, "log");
        await killed(shared, log);
        const newest = readdirSync(log)
          .filter((name) => name.endsWith(".seg"))
          .sort()
          .at(-1) as string;
        const started = performance.now();
        zlib.crc32(readFileSync(join(log, newest)));
        return { syncs: "nothing", sample: opened(performance.now() - started) };
      },
    ],
    [
      "stablelog",
      async ({ shared, dir }: Place): Promise<Run> => {
        const log = join(dir, "log");
        await killed(shared, log);
        const started = performance.now();
        const storage = await FileStorage.open(log);
        const ms = performance.now() - started;
        if (storage.recovery.verdict === "clean" && storage.recovery.scannedBytes === 0) {
          throw new Error("the log was closed, not killed");
        }
        await storage.close();
        return { syncs: "the newest segment and what it carries", sample: opened(ms) };
      },
    ],
  ]),
  goals: (found) => {
    const openMs = ({ more }: Sample) => more?.["openMs"];
    const floor = figureOf(found, "read and checksum a segment", openMs);
    return [atMost("x the time to read and checksum one segment", 1, figureOf(found, "stablelog", openMs) / floor)];
  },
};

export const openWorkloads: readonly Workload[] = [...[1, 4, 16].map(openOf), recover];
