// The first figures: what a save costs beside the floor, which is one positional write and one fdatasync of as many bytes
// as a save's frame, over a file that was filled with zeros and synced before. Floor, lone saver and 64 savers take turns
// in every round, so that a ratio compares neighbours in time; the figures are medians over the rounds.

import { closeSync, fdatasyncSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { EntryType, FileStorage, MemoryDisk } from "stablelog";
import { machineLines } from "./machine.js";

export interface FirstOptions {
  readonly rounds: number;
  readonly saves: number;
  readonly dir: string | undefined;
}

/** What one contender did in one round. */
interface Measured {
  readonly perSecond: number;
  /** Latencies, us. */
  readonly p50: number;
  readonly p99: number;
}

interface Contender {
  readonly name: string;
  run(dir: string): Promise<Measured>;
}

const PAYLOAD_BYTES = 256;
const SAVERS = 64;
/** Saves before the clock starts: the first ones begin a segment and warm up the code. */
const WARM_UP = 64;
const payload = new Uint8Array(PAYLOAD_BYTES).fill(0x5a);

function saveNext(storage: FileStorage, index: number): Promise<void> {
  return storage.save({
    hardState: { term: 1, vote: 1n, commit: index - 1 },
    entries: [{ term: 1, index, type: EntryType.Normal, data: payload }],
  });
}

/** Bytes of the frame of one such save, as the storage itself counts them. */
async function frameBytes(): Promise<number> {
  const storage = await FileStorage.open("/log", { disk: new MemoryDisk(), sync: "off" });
  await saveNext(storage, 1);
  const before = storage.stats().bytes;
  await saveNext(storage, 2);
  const bytes = storage.stats().bytes - before;
  await storage.close();
  return bytes;
}

function measured(histogram: RecordableHistogram, ms: number): Measured {
  return {
    perSecond: (histogram.count / ms) * 1000,
    p50: histogram.percentile(50) / 1000,
    p99: histogram.percentile(99) / 1000,
  };
}

/** Nanoseconds since `started`; a histogram takes integers from 1. */
function elapsedNs(started: number): number {
  return Math.max(1, Math.round((performance.now() - started) * 1e6));
}

function floor(saves: number, bytes: number): Contender {
  return {
    name: "floor",
    async run(dir) {
      const histogram = createHistogram();
      const source = new Uint8Array(bytes).fill(0x5a);
      const fd = openSync(join(dir, "floor"), "wx+");
      try {
        writeSync(fd, new Uint8Array((saves + WARM_UP) * bytes), 0, (saves + WARM_UP) * bytes, 0);
        fsyncSync(fd);
        let begun = 0;
        for (let i = 0; i < WARM_UP + saves; i++) {
          if (i === WARM_UP) begun = performance.now();
          const started = performance.now();
          writeSync(fd, source, 0, bytes, i * bytes);
          fdatasyncSync(fd);
          if (i >= WARM_UP) histogram.record(elapsedNs(started));
        }
        return measured(histogram, performance.now() - begun);
      } finally {
        closeSync(fd);
      }
    },
  };
}

function savers(name: string, count: number, savesEach: number): Contender {
  return {
    name,
    async run(dir) {
      const histogram = createHistogram();
      const storage = await FileStorage.open(join(dir, "log"));
      let index = 0;
      const saver = async (saves: number, recorded: boolean): Promise<void> => {
        for (let i = 0; i < saves; i++) {
          const started = performance.now();
          await saveNext(storage, ++index);
          if (recorded) histogram.record(elapsedNs(started));
        }
      };
      const all = (saves: number, recorded: boolean) =>
        Promise.all(Array.from({ length: count }, () => saver(saves, recorded)));
      await all(Math.ceil(WARM_UP / count), false);
      const begun = performance.now();
      await all(savesEach, true);
      const result = measured(histogram, performance.now() - begun);
      await storage.close();
      return result;
    },
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/** Measures and prints. */
export async function first({ rounds, saves, dir = tmpdir() }: FirstOptions): Promise<void> {
  const bytes = await frameBytes();
  for (const line of machineLines(dir)) console.log(line);
  console.log(`1 entry of ${PAYLOAD_BYTES} B and a HardState a save: a frame of ${bytes} B; ${rounds} rounds\n`);
  const contenders = [floor(saves, bytes), savers("1 saver", 1, saves), savers(`${SAVERS} savers`, SAVERS, saves)];
  const results = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    // Another one begins each round: what the one before left the disk to do must not always hit the same one.
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(round + turn) % contenders.length];
      if (contender === undefined) continue;
      const home = mkdtempSync(join(dir, "stablelog-bench-"));
      try {
        results.get(contender.name)?.push(await contender.run(home));
      } finally {
        rmSync(home, { recursive: true, force: true });
      }
    }
  }
  const floors = results.get("floor") ?? [];
  const cells = [["", "saves/s", "p50 us", "p99 us", "x floor", "lowest", "highest"]];
  for (const [name, measurements] of results) {
    const ratios = measurements.map(({ perSecond }, round) => perSecond / (floors[round]?.perSecond ?? Number.NaN));
    const whole = (pick: (one: Measured) => number): string => Math.round(median(measurements.map(pick))).toString();
    cells.push([
      name,
      whole((one) => one.perSecond),
      whole((one) => one.p50),
      whole((one) => one.p99),
      ...[median(ratios), Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2)),
    ]);
  }
  for (const [name = "", ...figures] of cells) {
    console.log(name.padEnd(12) + figures.map((figure) => figure.padStart(10)).join(""));
  }
}
