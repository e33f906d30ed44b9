// Garbage: what is allocated on the path from save() to the disk, counted by V8's heap profiler with every single allocation
// sampled. Only frames of the package's own code count, with all that they call; what the load allocates for itself (batches,
// promises of its savers) does not. Prints, with the figures, the functions that allocate most.

import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { FileStorage } from "stablelog";
import { Batches } from "../savers.js";
import { atMost, figureOf, type Place, type Run, type Workload } from "../workload.js";

const SAVERS = 64;
const ENTRIES_A_SAVE = 10;
const SAVES = 20_000;

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children: readonly ProfileNode[];
}

interface Allocated {
  objects: number;
  bytes: number;
}

const DIST = /\/dist\/(?!testing\/)/;

/** Adds up what was allocated below frames of the package, by the innermost of them. */
function count(
  node: ProfileNode,
  sizes: ReadonlyMap<number, Allocated>,
  owner: string | undefined,
  found: Map<string, Allocated>,
): void {
  const { functionName, url, lineNumber } = node.callFrame;
  const own = DIST.test(url)
    ? `${functionName || "(anonymous)"} ${url.replace(/.*\/dist\//, "")}:${lineNumber + 1}`
    : owner;
  const mine = sizes.get(node.id);
  if (own !== undefined && mine !== undefined) {
    const sum = found.get(own) ?? { objects: 0, bytes: 0 };
    found.set(own, { objects: sum.objects + mine.objects, bytes: sum.bytes + mine.bytes });
  }
  for (const child of node.children) count(child, sizes, own, found);
}

async function run({ dir }: Place, entries: number): Promise<Run> {
  const storage = await FileStorage.open(join(dir, "log"), { sync: "off" });
  const batches = new Batches({ entries, bytes: 256 });
  const save = async (saves: number): Promise<void> => {
    for (let i = 0; i < saves; i++) await storage.save(batches.next());
  };
  const all = (saves: number) => Promise.all(Array.from({ length: SAVERS }, () => save(Math.ceil(saves / SAVERS))));
  // Long enough that the code is compiled for good, and segments are as long as they get.
  await all(2 * SAVES);
  const session = new Session();
  session.connect();
  await session.post("HeapProfiler.startSampling", {
    samplingInterval: 1,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  } as { samplingInterval: number });
  const before = storage.stats().saves;
  await all(SAVES);
  const saves = storage.stats().saves - before;
  const { profile } = await session.post("HeapProfiler.stopSampling");
  session.disconnect();
  await storage.close();
  const sizes = new Map<number, Allocated>();
  for (const { nodeId, size } of (profile as unknown as { samples: { nodeId: number; size: number }[] }).samples) {
    const sum = sizes.get(nodeId) ?? { objects: 0, bytes: 0 };
    sizes.set(nodeId, { objects: sum.objects + 1, bytes: sum.bytes + size });
  }
  const found = new Map<string, Allocated>();
  count(profile.head as unknown as ProfileNode, sizes, undefined, found);
  const total = [...found.values()].reduce((sum, { objects }) => sum + objects, 0);
  const bytes = [...found.values()].reduce((sum, each) => sum + each.bytes, 0);
  const most = [...found].sort(([, a], [, b]) => b.objects - a.objects).slice(0, 8);
  for (const [name, each] of most) {
    console.error(`${(each.objects / saves).toFixed(3).padStart(10)} objects a save  ${name}`);
  }
  const more = {
    objectsPerSave: total / saves,
    objectsPerEntry: total / saves / entries,
    bytesPerEntry: bytes / saves / entries,
  };
  return { syncs: "nothing", sample: { perSecond: 0, more } };
}

export const garbage: Workload = {
  name: "garbage",
  title: `Objects allocated on the way from save() to the disk, ${SAVERS} savers, entries of 256 B; every allocation seen.`,
  unit: "nothing",
  base: "1 entry a save",
  rows: new Map([
    ["1 entry a save", (place: Place) => run(place, 1)],
    [`${ENTRIES_A_SAVE} entries a save`, (place: Place) => run(place, ENTRIES_A_SAVE)],
  ]),
  goals: (rows) => [
    atMost(
      "objects a saved entry, promise included",
      1,
      figureOf(rows, "1 entry a save", ({ more }) => more?.["objectsPerEntry"]),
    ),
  ],
};
