// A real etcd member's log, save by save: batches of one to many entries, as raft has made them. It is replayed again and
// again, each time further up in the index, because a member's log is short.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileStorage, MemoryDisk } from "stablelog";
import { readBatches } from "stablelog/etcd";
import { Latencies } from "../latencies.js";
import type { Sample } from "../result.js";
import type { Batch, BenchLog } from "../row.js";
import { runEtcd } from "../rows/etcd.js";
import { peerRows } from "../rows/index.js";
import { floorRun, rowRun } from "../rows/run.js";
import { stablelogRows } from "../rows/stablelog.js";
import { atLeast, type Place, type Run, rateOver, type Workload } from "../workload.js";

const MEMBER = join(import.meta.dirname, "../../../test/fixtures/etcd/segments-1");

/** The batches that have entries, their indexes counted from 1. */
async function memberBatches(): Promise<Batch[]> {
  const batches: Batch[] = [];
  let before: number | undefined;
  let last = 0;
  for await (const { entries, hardState } of readBatches(MEMBER)) {
    const [first] = entries;
    if (first === undefined) continue;
    before ??= first.index - 1;
    const down = before;
    last = (entries.at(-1)?.index ?? 0) - down;
    batches.push({
      entries: entries.map((entry) => ({ ...entry, index: entry.index - down })),
      hardState: hardState && { ...hardState, commit: Math.max(0, Math.min(hardState.commit - down, last)) },
    });
  }
  return batches;
}

/** The same batch, `by` further up. A later pass may not go back in its terms, so all are of one. */
function moved({ entries, hardState }: Batch, by: number): Batch {
  return {
    entries: entries.map((entry) => ({ ...entry, term: 1, index: entry.index + by })),
    hardState: hardState && { term: 1, vote: hardState.vote, commit: hardState.commit + by },
  };
}

async function replay(log: BenchLog, { seconds, warmSeconds }: Place): Promise<Sample> {
  const batches = await memberBatches();
  const latencies = new Latencies();
  const span = batches.at(-1)?.entries.at(-1)?.index ?? 0;
  let pass = 0;
  const run = async (until: number): Promise<void> => {
    for (;;) {
      const by = span * pass++;
      for (const batch of batches) {
        const next = moved(batch, by);
        const started = performance.now();
        await log.save(next);
        latencies.record(performance.now() - started);
      }
      if (performance.now() >= until) return;
    }
  };
  await run(performance.now() + warmSeconds * 1000);
  latencies.clear();
  const begun = performance.now();
  await run(begun + seconds * 1000);
  return { perSecond: (latencies.count * 1000) / (performance.now() - begun), latency: latencies.summary() };
}

/** Bytes that stablelog writes for a batch, on the average. */
async function bytesEach(batches: readonly Batch[]): Promise<number> {
  const storage = await FileStorage.open("/log", { disk: new MemoryDisk(), sync: "off" });
  for (const batch of batches) await storage.save(moved(batch, 0));
  const { bytes } = storage.stats();
  await storage.close();
  return Math.round(bytes / batches.length);
}

async function etcdRun({ dir, seconds, warmSeconds }: Place): Promise<Run> {
  const batches = await memberBatches();
  const file = join(dir, "batches.jsonl");
  const lines = batches.map(({ entries, hardState }) => {
    const sizes = entries.map(({ index, data }) => ({ index, term: 1, type: 0, bytes: data.length }));
    const state = hardState && { term: 1, vote: Number(hardState.vote & 0xffffn), commit: hardState.commit };
    return JSON.stringify({ ...state, entries: sizes });
  });
  writeFileSync(file, `${lines.join("\n")}\n`);
  const shape = { savers: 1, entries: 1, bytes: 256 };
  const sample = await runEtcd({
    dir: join(dir, "etcd"),
    ...shape,
    seconds,
    warmSeconds,
    mode: "each",
    sync: true,
    replay: file,
  });
  return { syncs: "a wal.Save and an fdatasync a batch", sample };
}

function rows(): Workload["rows"] {
  const all = new Map<string, (place: Place) => Promise<Run>>();
  all.set(
    "floor",
    floorRun(async () => bytesEach(await memberBatches())),
  );

  for (const row of stablelogRows)
    all.set(
      row.name,
      rowRun(async () => row, replay),
    );
  all.set("etcd", etcdRun);
  for (const name of ["sqlite", "classic-level", "lmdb"]) {
    const load = peerRows.get(name);
    if (load !== undefined) all.set(name, rowRun(load, replay));
  }
  return all;
}

export const member: Workload = {
  name: "member",
  title: "The batches of a real etcd member, one after the other, again and again; saves a second.",
  unit: "saves",
  base: "floor",
  rows: rows(),
  goals: (found) => [atLeast("x etcd's saves/s", 1, rateOver(found, "stablelog", "etcd"))],
};
