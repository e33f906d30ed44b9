// Compaction and recycling under load: 64 savers while the log is compacted behind them, as a raft node does after each
// snapshot. Released segments are recycled, so the log stays small and its pages in memory; beside it, a log that grows.

import { join } from "node:path";
import { FileStorage } from "stablelog";
import type { BenchLog } from "../row.js";
import { floorRun } from "../rows/run.js";
import { frameBytes, runSavers } from "../savers.js";
import { atLeast, type Place, type Run, rateOver, type Workload } from "../workload.js";

const SHAPE = { savers: 64, entries: 1, bytes: 256 };
/** Entries between two compactions, and entries that stay behind each. */
const EVERY = 100_000;
const KEPT = 10_000;

async function run({ dir, seconds, warmSeconds }: Place, compacting: boolean): Promise<Run> {
  const storage = await FileStorage.open(join(dir, "log"));
  let next = EVERY;
  let compaction: Promise<void> = Promise.resolve();
  let highest = 0;
  const log: BenchLog = {
    save: async (batch) => {
      await storage.save(batch);
      const last = storage.lastIndex();
      if (!compacting || last < next) return;
      next = last + EVERY;
      highest = Math.max(highest, storage.stats().segments);
      compaction = compaction.then(() => storage.compact(last - KEPT));
    },
    counters: () => ({ syncs: storage.stats().syncs }),
    close: () => storage.close(),
  };
  const sample = await runSavers(log, { ...SHAPE, seconds, warmSeconds });
  await compaction;
  const segments = Math.max(highest, storage.stats().segments);
  await storage.close();
  const syncs = compacting ? `compacted every ${EVERY} entries` : "never compacted";
  return { syncs, sample: { ...sample, more: { ...sample.more, segments } } };
}

export const compaction: Workload = {
  name: "compaction",
  title: `64 savers, one entry of 256 B and a HardState a save, the log compacted every ${EVERY.toLocaleString("en")} entries; saves a second.`,
  unit: "saves",
  base: "floor",
  rows: new Map([
    ["floor", floorRun(() => frameBytes(SHAPE))],
    ["stablelog, compacting", (place: Place) => run(place, true)],
    ["stablelog, growing", (place: Place) => run(place, false)],
  ]),
  goals: (rows) => [
    atLeast("of a log that is never compacted", 0.9, rateOver(rows, "stablelog, compacting", "stablelog, growing")),
  ],
};
