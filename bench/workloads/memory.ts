// Memory: ten million entries of 256 B, 2.6 GB of them, through a cache of 64 MiB; what the process holds, and what the index
// takes an entry.

import { join } from "node:path";
import { type Entry, EntryType, FileStorage } from "stablelog";
import { atMost, figureOf, type Place, type Run, type Workload } from "../workload.js";

const ENTRY_BYTES = 256;
const A_SAVE = 50;
const CACHE_BYTES = 64 * 1024 * 1024;
const MILLION = 1_000_000;

async function run({ dir }: Place, total: number): Promise<Run> {
  const storage = await FileStorage.open(join(dir, "log"), { sync: "off", cacheBytes: CACHE_BYTES });
  const data = new Uint8Array(ENTRY_BYTES).fill(0x5a);
  let highest = 0;
  const begun = performance.now();
  for (let index = 1; index <= total; ) {
    const entries: Entry[] = [];
    for (let i = 0; i < A_SAVE; i++) entries.push({ term: 1, index: index++, type: EntryType.Normal, data });
    await storage.save({ entries });
    if (index % MILLION < A_SAVE) highest = Math.max(highest, process.memoryUsage.rss());
  }
  const perSecond = (total * 1000) / (performance.now() - begun);
  // Every term is asked for once more, so that every index is in memory.
  for (let index = 1; index <= total; index += 997) storage.term(index);
  const rss = Math.max(highest, process.memoryUsage.rss());
  const { indexBytes, cacheBytes, segments } = storage.stats();
  await storage.close();
  const more = {
    rssMiB: rss / 1024 ** 2,
    indexBytesPerEntry: indexBytes / total,
    cacheMiB: cacheBytes / 1024 ** 2,
    segments,
  };
  return { syncs: "nothing", sample: { perSecond, more } };
}

function memoryOf(millions: number): Workload {
  return {
    name: `memory-${millions}m`,
    title: `${millions} million entries of 256 B saved with cacheBytes 64 MiB, then term() all over the log; entries a second.`,
    unit: "entries",
    base: "stablelog",
    x: { axis: "entries", value: millions * MILLION },
    long: true,
    rows: new Map([["stablelog", (place: Place) => run(place, millions * MILLION)]]),
    goals: (rows) =>
      millions < 10
        ? []
        : [
            atMost(
              "MiB resident",
              250,
              figureOf(rows, "stablelog", ({ more }) => more?.["rssMiB"]),
            ),
            atMost(
              "bytes of index an entry",
              8,
              figureOf(rows, "stablelog", ({ more }) => more?.["indexBytesPerEntry"]),
            ),
          ],
  };
}

export const memoryWorkloads: readonly Workload[] = [1, 4, 10].map(memoryOf);
