// Crashes at every operation: of a running log (saves, rotation, compaction, snapshots, close) and of open() itself, killed
// or with the power cut. What is recovered is the state after a whole number of saves, none of the acknowledged ones missing.

import { describe, expect, it } from "vitest";
import type { FileStorageOptions } from "../../src/storage/file-storage.js";
import { fill, hard, type Moment, moments, open, run, type Step, stateOf, statesOf, voters } from "./helpers.js";
import { CHANGING, randomOf, TestDisk } from "./test-disk.js";

interface Workload {
  bursts: Step[][];
  steps: Step[];
  /** Commit-only saves. */
  soft: Set<Step>;
}

/** Saves of all kinds, overwrites, compactions and snapshots, drawn from a seed. */
function workload(seed: number, bursts: number, largest = 2500): Workload {
  const random = randomOf(seed);
  const upTo = (limit: number): number => Math.floor(random() * (limit + 1));
  const made: Workload = { bursts: [], steps: [], soft: new Set() };
  let last = 0;
  let dummy = 0;
  let snapshot = 0;
  let term = 1;
  let commit = 0;
  for (let b = 0; b < bursts; b++) {
    const burst: Step[] = [];
    const alone = random();
    if (alone < 0.12 && last > Math.max(snapshot, dummy)) {
      const index = Math.max(snapshot, dummy) + 1 + upTo(last - Math.max(snapshot, dummy) - 1);
      snapshot = index;
      const size = upTo(900);
      burst.push((s) => s.createSnapshot(index, voters(BigInt(index)), fill(size, index)));
    } else {
      for (let i = 1 + upTo(3); i > 0; i--) {
        const kind = random();
        if (kind < 0.15 && last > dummy) {
          const index = dummy + 1 + upTo(Math.min(last, Math.max(commit, dummy + 1)) - dummy - 1);
          dummy = index;
          burst.push((s) => s.compact(index));
        } else if (kind < 0.22) {
          const index = Math.max(last, snapshot) + 1 + upTo(5);
          snapshot = index;
          dummy = index;
          last = index;
          commit = index;
          const metadata = { index, term, confState: voters(7n, BigInt(index)) };
          const state = hard(term, index);
          const data = fill(1 + upTo(600), index);
          burst.push((s) => s.save({ snapshot: { metadata, data }, hardState: state }));
        } else if (kind < 0.4 && commit < last) {
          commit += 1 + upTo(last - commit - 1);
          const state = hard(term, commit);
          const step: Step = (s) => s.save({ hardState: state, mustSync: false });
          burst.push(step);
          made.soft.add(step);
        } else {
          if (random() < 0.3) term++;
          const back = random() < 0.3 ? upTo(Math.min(3, last - Math.max(dummy, commit))) : 0;
          const count = 1 + upTo(3);
          const size = random() < 0.1 ? largest : upTo(400);
          const entries = run(last + 1 - back, count, term, size);
          last = last - back + count;
          const state = random() < 0.5 ? hard(term, commit, BigInt(upTo(5))) : undefined;
          // A term that only the entries have is the HardState's at the next change of it.
          burst.push((s) => s.save({ entries, hardState: state }));
        }
      }
    }
    made.bursts.push(burst);
    made.steps.push(...burst);
  }
  return made;
}

async function expectRecovered(
  disk: TestDisk,
  states: readonly string[],
  from: number,
  to: number,
  label: string,
  options: FileStorageOptions = {},
): Promise<void> {
  const storage = await open(disk, options).catch((error: unknown) => {
    throw new Error(`${label}: ${String(error)}`, { cause: error });
  });
  const found = stateOf(storage);
  const allowed = states.slice(from, to + 1);
  if (!allowed.includes(found)) {
    const at = states.indexOf(found);
    expect.fail(
      `${label}: recovered the state after ${at} steps (-1: of none), allowed are ${from} to ${to}\n${found}`,
    );
  }
  const report = await storage.verify();
  expect(report.damage, label).toEqual([]);
  // It can be written on, and what was written is there again.
  const next = storage.lastIndex() + 1;
  const { term } = storage.initialState().hardState;
  await storage.save({ entries: run(next, 1, term + 1), hardState: hard(term + 1, 0) });
  const after = stateOf(storage);
  await storage.close();
  expect(disk.openFiles, label).toBe(0);
  const again = await open(disk, options);
  expect(stateOf(again), label).toBe(after);
  await again.close();
}

/** Prefixes of every length, and more often than chance would have it those that lack a frame's last bytes. */
function killAmidWrites(disk: TestDisk, random: () => number): void {
  disk.amidWrite = () => {};
  disk.amidShare = () => (random() < 0.3 ? 1 - 1e-9 : random());
}

/** Metadata so large that an identity slot of STATE takes several sectors and can be torn. */
const metadata = fill(2000, 1);

function label(seed: number, position: number, { operation, resolved, called }: Moment): string {
  return `seed ${seed}, before operation ${position} (${operation}), ${resolved} of ${called} steps resolved`;
}

describe("crash at every operation of a running log", () => {
  for (const sync of ["inline", "worker", "off"] as const) {
    it(`open() finds all acknowledged saves and whole saves only when the process was killed (sync ${sync})`, async () => {
      for (let seed = 1; seed <= 6; seed++) {
        const { bursts, steps } = workload(seed, 14);
        const states = await statesOf(steps);
        const random = randomOf(seed + 1000);
        const disk = seed % 2 === 0 ? TestDisk.missing() : new TestDisk();
        if (seed > 2) disk.turns = () => Math.floor(random() * 3);
        killAmidWrites(disk, random);
        const taken = await moments(disk, bursts, (now) => now.killed(), { sync });
        for (const [i, moment] of taken.entries()) {
          await expectRecovered(moment.disk, states, moment.resolved, moment.called, label(seed, i, moment), { sync });
        }
      }
    });
  }

  for (const sync of ["inline", "worker"] as const) {
    it(`open() finds all acknowledged saves and whole saves only when the power was cut (sync ${sync})`, async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const { bursts, steps, soft } = workload(seed, 14, 9000);
        const states = await statesOf(steps);
        const random = randomOf(seed + 2000);
        const disk = seed % 2 === 0 ? TestDisk.missing() : new TestDisk();
        if (seed > 4) disk.turns = () => Math.floor(random() * 3);
        const options = { sync, metadata, segmentBytes: seed % 3 === 0 ? 65536 : 4096 };
        const taken = await moments(disk, bursts, (now) => now.powerCut(random), options, soft);
        for (const [i, moment] of taken.entries()) {
          await expectRecovered(moment.disk, states, moment.durable, moment.called, label(seed, i, moment), options);
        }
      }
    });
  }
});

describe("crash at every operation of open()", () => {
  for (const kind of ["killed", "powerCut"] as const) {
    it(`recovering again gives the same state, in a bounded number of files (${kind})`, async () => {
      let carried = 0;
      for (let seed = 21; seed <= 25; seed++) {
        const { bursts } = workload(seed, 8, 9000);
        const random = randomOf(seed);
        const disk = new TestDisk();
        const image = (now: TestDisk): TestDisk => (kind === "killed" ? now.killed() : now.powerCut(random));
        if (kind === "killed") killAmidWrites(disk, random);
        const taken = await moments(disk, bursts, image, { metadata });
        for (let i = seed % 7; i < taken.length; i += 7) {
          let next = (taken[i] as Moment).disk;
          const first = await open(next.killed());
          const wanted = stateOf(first);
          if (first.recovery.carriedEntries > 0) carried++;
          await first.close();
          const before = next.files().size;
          // Each round crashes at an operation of open() and goes on from what that left.
          for (let round = 0; round < 5; round++) {
            const images: TestDisk[] = [];
            const opened = next;
            opened.before = (operation) => {
              if (CHANGING.includes(operation)) images.push(image(opened));
            };
            if (kind === "killed") killAmidWrites(opened, random);
            if (kind === "killed") opened.amidWrite = (amid) => images.push(amid);
            const storage = await open(opened);
            opened.before = () => {};
            opened.amidWrite = undefined;
            expect(stateOf(storage)).toBe(wanted);
            images.push(image(opened));
            await storage.close();
            for (const each of images) {
              const again = await open(each.killed());
              expect(stateOf(again)).toBe(wanted);
              await again.close();
            }
            next = images[Math.floor(random() * images.length)] as TestDisk;
            expect(next.files().size).toBeLessThanOrEqual(before + 4);
          }
        }
      }
      expect(carried).toBeGreaterThan(0);
    });
  }
});
