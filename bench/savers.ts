// The load of the save workloads: so many savers, each waiting for its save before it makes the next one, as long as the
// clock says. Every row meets the same load, and what the load itself costs is the same for all.

import { performance } from "node:perf_hooks";
import { type Entry, EntryType, FileStorage, MemoryDisk } from "stablelog";
import { Latencies } from "./latencies.js";
import type { Sample } from "./result.js";
import type { Batch, BenchLog } from "./row.js";

/** What is saved, and for how long. */
export interface Load {
  readonly savers: number;
  /** Entries a save, and bytes of each. */
  readonly entries: number;
  readonly bytes: number;
  readonly seconds: number;
  /** Before the clock starts: the code gets warm, the first segments are begun. */
  readonly warmSeconds: number;
  /** Entries that the log holds already; none if not given. */
  readonly behind?: number | undefined;
}

/** Makes batches with one index after the other. */
export class Batches {
  readonly #entries: number;
  readonly #data: Uint8Array;
  #index: number;

  constructor({ entries, bytes, behind = 0 }: Pick<Load, "entries" | "bytes" | "behind">) {
    this.#index = behind;
    this.#entries = entries;
    this.#data = new Uint8Array(bytes).fill(0x5a);
  }

  get lastIndex(): number {
    return this.#index;
  }

  next(): Batch {
    const entries: Entry[] = [];
    const commit = this.#index;
    for (let i = this.#entries; i > 0; i--) {
      entries.push({ term: 1, index: ++this.#index, type: EntryType.Normal, data: this.#data });
    }
    return { hardState: { term: 1, vote: 1n, commit }, entries };
  }
}

/** Runs a load against a log; perSecond counts saves. */
export async function runSavers(log: BenchLog, load: Load): Promise<Sample> {
  const batches = new Batches(load);
  const latencies = new Latencies();
  let until = performance.now() + load.warmSeconds * 1000;
  const saver = async (): Promise<void> => {
    let started = performance.now();
    while (started < until) {
      await log.save(batches.next());
      const ended = performance.now();
      latencies.record(ended - started);
      started = ended;
    }
  };
  const all = (): Promise<unknown> => Promise.all(Array.from({ length: load.savers }, saver));
  await all();
  latencies.clear();
  const before = log.counters?.();
  const cpu = process.cpuUsage();
  const begun = performance.now();
  until = begun + load.seconds * 1000;
  await all();
  const ms = performance.now() - begun;
  const { user, system } = process.cpuUsage(cpu);
  const saves = latencies.count;
  const after = log.counters?.();
  const more: Record<string, number> = { cpuUsPerSave: (user + system) / saves };
  for (const [name, value] of Object.entries(after ?? {})) {
    more[`${name}PerSave`] = (value - (before?.[name] ?? 0)) / saves;
  }
  return { perSecond: (saves / ms) * 1000, latency: latencies.summary(), more };
}

/** Bytes that stablelog writes for one such save: what the floor writes, too. */
export async function frameBytes(load: Pick<Load, "entries" | "bytes">): Promise<number> {
  const storage = await FileStorage.open("/log", { disk: new MemoryDisk(), sync: "off", segmentBytes: 64 << 20 });
  const batches = new Batches(load);
  await storage.save(batches.next());
  const before = storage.stats().bytes;
  await storage.save(batches.next());
  const bytes = storage.stats().bytes - before;
  await storage.close();
  return bytes;
}
