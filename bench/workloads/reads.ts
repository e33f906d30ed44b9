// Reads: hot from the cache, cold from the segments (with the pages in the page cache), in order and at random; against plain
// reads of as many bytes. The log of a million entries of 128 B is filled once for all rounds.

import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { FileStorage } from "stablelog";
import type { Sample } from "../result.js";
import { atLeast, figureOf, type Place, type Run, type Workload } from "../workload.js";
import { filled } from "./open.js";

const ENTRIES = 1_000_000;
const ENTRY_BYTES = 128;
const RANGE = 16;
/** Entries of one read in order: what a follower that lags is sent at a time. */
const PAGE = 1024;
const CACHE_BYTES = 512 * 1024 * 1024;

/** Calls `read` until the time is up; gives how often a second. */
function rate(seconds: number, warmSeconds: number, read: () => void): number {
  for (const until = performance.now() + warmSeconds * 1000; performance.now() < until; ) read();
  const begun = performance.now();
  let count = 0;
  for (const until = begun + seconds * 1000; performance.now() < until; count++) read();
  return (count * 1000) / (performance.now() - begun);
}

/** A walk in no order that a cache or a read-ahead would like. */
function* walk(step: number, count: number): Generator<number, never> {
  for (let at = 0; ; at = (at + step) % count) yield at;
}

async function storageOf({ shared }: Place, cacheBytes: number): Promise<FileStorage> {
  const dir = join(shared, "log");
  await filled(dir, ENTRIES, ENTRY_BYTES);
  return FileStorage.open(dir, { cacheBytes });
}

function of(syncs: string, perSecond: number): Run {
  const sample: Sample = { perSecond };
  return { syncs, sample };
}

async function hot(place: Place): Promise<Run> {
  // What is hot was saved since the log was opened.
  const fresh = await FileStorage.open(join(place.dir, "hot"), { sync: "off", cacheBytes: CACHE_BYTES });
  const data = new Uint8Array(ENTRY_BYTES).fill(0x5a);
  const total = 200_000;
  for (let first = 1; first <= total; first += 50) {
    const entries = Array.from({ length: 50 }, (_, i) => ({ term: 1, index: first + i, type: 0 as const, data }));
    await fresh.save({ entries });
  }
  const at = walk(39_119, total - RANGE);
  const ranges = rate(place.seconds, place.warmSeconds, () => {
    const lo = 1 + at.next().value;
    fresh.entries(lo, lo + RANGE);
  });
  await fresh.close();
  return of(`ranges of ${RANGE} from the cache`, ranges * RANGE);
}

async function inOrder(place: Place): Promise<Run> {
  const storage = await storageOf(place, 0);
  let lo = 1;
  const pages = rate(place.seconds, place.warmSeconds, () => {
    if (lo + PAGE > ENTRIES) lo = 1;
    storage.entries(lo, lo + PAGE);
    lo += PAGE;
  });
  await storage.close();
  return of(`ranges of ${PAGE}, checksums verified`, (pages * PAGE * ENTRY_BYTES) / 1e6);
}

async function atRandom(place: Place): Promise<Run> {
  const storage = await storageOf(place, 0);
  const at = walk(391_193, ENTRIES - RANGE);
  const ranges = rate(place.seconds, place.warmSeconds, () => {
    const lo = 1 + at.next().value;
    storage.entries(lo, lo + RANGE);
  });
  await storage.close();
  return of(`ranges of ${RANGE}, checksums verified`, ranges);
}

/** Plain reads of the segments' bytes, so many at a time, in order or not. */
async function plain(place: Place, bytes: number, ordered: boolean): Promise<number> {
  const storage = await storageOf(place, 0);
  await storage.close();
  const dir = join(place.shared, "log");
  const [largest] = readdirSync(dir)
    .map((name) => ({ path: join(dir, name), size: statSync(join(dir, name)).size }))
    .sort((a, b) => b.size - a.size);
  const { path, size } = largest as { path: string; size: number };
  const fd = openSync(path, "r");
  const target = new Uint8Array(bytes);
  const count = Math.floor(size / bytes);
  const at = walk(ordered ? 1 : 39_119 % count, count);
  const reads = rate(place.seconds, place.warmSeconds, () => readSync(fd, target, 0, bytes, at.next().value * bytes));
  closeSync(fd);
  return reads;
}

function reading(
  name: string,
  title: string,
  unit: string,
  base: Workload["base"],
  rows: Workload["rows"],
  wanted: number,
): Workload {
  return {
    name: `reads-${name}`,
    title,
    unit,
    base,
    long: true,
    rows,
    goals: (found) => [
      atLeast(
        `${unit}/s`,
        wanted,
        figureOf(found, "stablelog", ({ perSecond }) => perSecond),
      ),
    ],
  };
}

export const readWorkloads: readonly Workload[] = [
  reading(
    "hot",
    "Ranges of 16 entries of 128 B that were just saved, at random; entries a second.",
    "entries",
    "stablelog",
    new Map([["stablelog", hot]]),
    5e6,
  ),
  reading(
    "in-order",
    "A million entries of 128 B read from the segments in order, a page of 1,024 at a time; MB of payload a second.",
    "MB",
    "plain reads",
    new Map([
      [
        "plain reads",
        async (place: Place) =>
          of("nothing checked", ((await plain(place, PAGE * 144, true)) * PAGE * ENTRY_BYTES) / 1e6),
      ],
      ["stablelog", inOrder],
    ]),
    500,
  ),
  reading(
    "at-random",
    "Ranges of 16 entries of 128 B read from the segments at random; ranges a second.",
    "ranges",
    "plain reads",
    new Map([
      ["plain reads", async (place: Place) => of("nothing checked", await plain(place, RANGE * 144, false))],
      ["stablelog", atRandom],
    ]),
    50_000,
  ),
];
