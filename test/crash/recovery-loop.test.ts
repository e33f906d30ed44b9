// A crash loop: recovery itself is crashed again and again, at a moment and with losses drawn from the seed. What is recovered
// stays the same, and the directory does not fill up.

import { describe, expect, it } from "vitest";
import { FileStorage } from "../../src/storage/file-storage.js";
import type { CrashModel, CrashPoint } from "../../src/testing/crash-point.js";
import { watchMoments } from "../../src/testing/explore.js";
import { Random } from "../../src/testing/random.js";
import { SimDisk } from "../../src/testing/sim-disk.js";
import { drawOperations, StorageRun, stateDigest } from "../../src/testing/storage-workload.js";

const ROUNDS = 40;

async function crashLoop(seed: number, model: CrashModel): Promise<{ carried: number }> {
  const random = new Random(seed);
  const options = { sync: random.chance(0.5) ? "inline" : "worker", segmentBytes: 4096, cacheBytes: 0 } as const;
  const config = { dir: "/log", options: { ...options, metadata: new Uint8Array(2000) } };
  const run = new StorageRun(new SimDisk({ seed, model }), config, model !== "kill");
  for (const operation of drawOperations(random, 8)) await run.run(operation);
  await run.run({ name: "append", salt: seed });
  // Amid two saves, so that there is something to carry.
  const amid: CrashPoint[] = [];
  const stop = watchMoments(
    run.disk,
    model,
    () => undefined,
    ({ point }) => amid.push(point),
  );
  await run.run({ name: "concurrent", salt: seed });
  await run.run({ name: "large", salt: seed });
  stop();
  const first = random.pick(amid);
  let disk = run.disk.imageOf(first, random.pick([...first.masks(8, random)]));
  let carried = 0;
  let wanted: number | undefined;
  const before = disk.dump().size;
  for (let round = 0; round < ROUNDS; round++) {
    const points: CrashPoint[] = [];
    const unwatch = watchMoments(
      disk,
      model,
      () => undefined,
      ({ point }) => points.push(point),
    );
    const storage = await FileStorage.open("/log", { ...config.options, disk, create: false });
    unwatch();
    const digest = stateDigest(storage);
    wanted ??= digest;
    expect(digest, `seed ${seed}, round ${round}`).toBe(wanted);
    if (storage.recovery.carriedEntries > 0) carried++;
    points.push(disk.crashPoint(model));
    const point = random.pick(points);
    const next = disk.imageOf(point, random.pick([...point.masks(8, random)]));
    // While nothing but crashes happens, each may leave a file or two; the first recovery that ends takes them away.
    expect(next.dump().size, `seed ${seed}, round ${round}`).toBeLessThanOrEqual(before + 12);
    disk = next;
  }
  const last = await FileStorage.open("/log", { ...config.options, disk, create: false });
  await last.close();
  // Indexes of older segments are made when those are first read.
  const left = [...disk.dump().keys()].filter((path) => !path.endsWith(".idx"));
  expect(left.length, `seed ${seed}, in the end`).toBeLessThanOrEqual(before + 1);
  return { carried };
}

describe("open() in a crash loop", () => {
  for (const model of ["posix", "ext4", "kill"] as const) {
    it(`gives the same each time, in a bounded number of files, when recovery is crashed ${ROUNDS} times (${model})`, async () => {
      let carried = 0;
      for (let seed = 1; seed <= 25; seed++) carried += (await crashLoop(seed, model)).carried;
      expect(carried).toBeGreaterThan(0);
    });
  }
});
