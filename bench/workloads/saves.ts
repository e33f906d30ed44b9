// Saves: so many savers at a time, each save so large; against the floor, which writes and syncs the same bytes, against the
// perfect group commit, which is the floor with the bytes of all savers in one write, and against the load alone, which is
// the perfect group with the savers waiting for it.

import type { GoalResult, Sample } from "../result.js";
import type { BenchLog } from "../row.js";
import { type EtcdOptions, runEtcd } from "../rows/etcd.js";
import { peerRows } from "../rows/index.js";
import { loadAloneRow } from "../rows/load-alone.js";
import { floorRun, rowRun } from "../rows/run.js";
import { stablelogRows } from "../rows/stablelog.js";
import { frameBytes, type Load, runSavers } from "../savers.js";
import { atLeast, atMost, type Place, p99Over, type Rows, type Run, rateOver, type Workload } from "../workload.js";

/** What one save is. */
type Shape = Pick<Load, "savers" | "entries" | "bytes">;

/** perSecond of a save workload counts saves, or what a save consists of. */
function counted({ syncs, sample }: Run, each: number): Run {
  return { syncs, sample: { ...sample, perSecond: sample.perSecond * each } };
}

function etcdRun(shape: Shape, mode: EtcdOptions["mode"], sync: boolean): (place: Place) => Promise<Run> {
  return async ({ dir, seconds, warmSeconds }) => {
    const sample: Sample = await runEtcd({ dir, ...shape, seconds, warmSeconds, mode, sync });
    const syncs =
      mode === "each" ? "a wal.Save and an fdatasync a save" : "a wal.Save and an fdatasync for all that waits";
    return { syncs: sync ? syncs : "nothing", sample };
  };
}

/** Every row there is, counting `each` a save. */
function rowsOf(shape: Shape, each: number, { sync = true, peers = true } = {}): Workload["rows"] {
  const rows = new Map<string, (place: Place) => Promise<Run>>();
  const add = (name: string, run: (place: Place) => Promise<Run>): void => {
    rows.set(name, async (place) => counted(await run(place), each));
  };
  const save = (log: BenchLog, { seconds, warmSeconds }: Place): Promise<Sample> =>
    runSavers(log, { ...shape, seconds, warmSeconds });
  add(
    "floor",
    floorRun(() => frameBytes(shape), 1, sync),
  );
  if (shape.savers > 1)
    add(
      "perfect group",
      floorRun(async () => shape.savers * (await frameBytes(shape)), shape.savers, sync),
    );
  if (sync)
    add(
      "load alone",
      rowRun(async () => loadAloneRow(await frameBytes(shape), shape.savers), save),
    );
  for (const row of sync ? stablelogRows : stablelogRows.slice(0, 1))
    add(
      row.name,
      rowRun(async () => row, save, sync),
    );
  add("etcd", etcdRun(shape, shape.savers > 1 ? "ready" : "each", sync));
  if (shape.savers > 1) add("etcd, an entry a Save", etcdRun(shape, "each", sync));
  if (!peers) return rows;
  for (const [name, load] of peerRows) {
    // A queue has nothing to gather for a lone saver.
    if (shape.savers === 1 && name.endsWith("+ queue")) continue;
    add(name, rowRun(load, save, sync));
  }
  return rows;
}

const SAVE = { entries: 1, bytes: 256 };

const goalsOf: Readonly<Record<number, (rows: Rows) => GoalResult[]>> = {
  1: (rows) => [
    atLeast("x the floor's saves/s", 0.95, rateOver(rows, "stablelog", "floor")),
    atMost("x the floor's p99", 1.15, p99Over(rows, "stablelog", "floor")),
    atLeast("x etcd's saves/s", 1, rateOver(rows, "stablelog", "etcd")),
    atMost("x etcd's p99", 1, p99Over(rows, "stablelog", "etcd")),
    atLeast("x sqlite's saves/s", 1, rateOver(rows, "stablelog", "sqlite")),
  ],
  64: (rows) => [
    atLeast("of a perfect group commit", 0.7, rateOver(rows, "stablelog", "perfect group")),
    atLeast("x the lone floor", 45, rateOver(rows, "stablelog", "floor")),
    atLeast("x etcd fed with whole Readys", 1.3, rateOver(rows, "stablelog", "etcd")),
    atLeast("x sqlite behind a queue", 2.3, rateOver(rows, "stablelog", "sqlite + queue")),
    atLeast("x lmdb", 3.4, rateOver(rows, "stablelog", "lmdb")),
  ],
  256: (rows) => [
    atLeast("of a perfect group commit", 0.5, rateOver(rows, "stablelog", "perfect group")),
    atLeast("x the lone floor", 105, rateOver(rows, "stablelog", "floor")),
    atLeast("x etcd fed with whole Readys", 1, rateOver(rows, "stablelog", "etcd")),
    atLeast("x a queue over plain append", 2, rateOver(rows, "stablelog", "append + queue")),
  ],
};

function saversOf(savers: number): Workload {
  return {
    name: `savers-${savers}`,
    title:
      savers === 1
        ? "A lone saver, one entry of 256 B and a HardState a save, each waiting for the one before; saves a second."
        : `${savers} savers at a time, each waiting for its save of one entry of 256 B and a HardState; saves a second.`,
    unit: "saves",
    base: "floor",
    x: { axis: "savers", value: savers },
    rows: rowsOf({ savers, ...SAVE }, 1),
    goals: goalsOf[savers] ?? (() => []),
  };
}

function sizeOf(name: string, entries: number, bytes: number): Workload {
  const size = entries * bytes;
  return {
    name: `size-${name}`,
    title: `A lone saver, ${entries === 1 ? `one entry of ${name}` : `${entries} entries, ${name} together,`} a save; MB (10^6 bytes of payload) a second.`,
    unit: "MB",
    base: "floor",
    x: { axis: "bytes a save", value: size },
    rows: rowsOf({ savers: 1, entries, bytes }, size / 1e6),
    goals: (rows) =>
      size < 1 << 20
        ? []
        : [
            atLeast("of the floor's MB/s", 0.9, rateOver(rows, "stablelog", "floor")),
            atLeast("x etcd's MB/s", 2.4, rateOver(rows, "stablelog", "etcd")),
          ],
  };
}

const syncOff: Workload = {
  name: "sync-off",
  title: "Nothing is synced: a lone saver, 50 entries of 128 B a save; entries a second.",
  unit: "entries",
  base: "floor",
  rows: rowsOf({ savers: 1, entries: 50, bytes: 128 }, 50, { sync: false }),
  goals: (rows) => [
    atLeast("of the floor's entries/s", 0.6, rateOver(rows, "stablelog", "floor")),
    atLeast("x etcd's entries/s", 1.9, rateOver(rows, "stablelog", "etcd")),
  ],
};

export const saveWorkloads: readonly Workload[] = [
  ...[1, 8, 64, 256].map(saversOf),
  sizeOf("64 B", 1, 64),
  sizeOf("4 KiB", 1, 4096),
  sizeOf("64 KiB", 16, 4096),
  sizeOf("1 MiB", 256, 4096),
  syncOff,
];
