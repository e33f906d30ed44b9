// The plan of the kills: the same for the same seed, spread over the run, never beyond the last batch.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planKills, seededRandom } from "../../src/cli/replay-kills.js";

const seeds = fc.integer({ min: 0, max: 0xffffffff });

describe("planKills()", () => {
  test("gives the same plan for the same seed and another for another", () => {
    expect(planKills(7, 5, 1000, 16)).toEqual(planKills(7, 5, 1000, 16));
    expect(planKills(7, 5, 1000, 16)).not.toEqual(planKills(8, 5, 1000, 16));
  });

  test("puts one kill into each of as many equal stretches, with work left to do behind it", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5000 }), (seed, kills, batches) => {
        const plan = planKills(seed, kills, batches, 16);
        expect(plan).toHaveLength(kills);
        for (const [i, { at, until, delayMs }] of plan.entries()) {
          expect(at).toBeGreaterThanOrEqual(Math.min(batches - 1, Math.floor((i * batches) / kills)));
          expect(at).toBeLessThanOrEqual(((i + 1) * batches) / kills);
          // The child must not come to its end before a kill that is planned.
          expect(until).toBeGreaterThanOrEqual(at);
          expect(until).toBeLessThan(batches);
          expect(delayMs).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });

  test("kills while opening at least once from two kills on, and never the first start", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 2, max: 10 }), (seed, kills) => {
        const opening = planKills(seed, kills, 100, 16).map(({ whileOpening }) => whileOpening !== undefined);
        expect(opening[0]).toBe(false);
        expect(opening).toContain(true);
      }),
    );
  });

  test("kills a source of no batches at its start", () => {
    expect(planKills(1, 2, 0, 16)).toMatchObject([
      { at: 0, until: 0 },
      { at: 0, until: 0 },
    ]);
  });
});

describe("seededRandom()", () => {
  test("stays in [0, 1) and is spread evenly", () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const random = seededRandom(seed);
        let sum = 0;
        for (let i = 0; i < 500; i++) {
          const value = random();
          if (!(value >= 0 && value < 1)) throw new Error(`${value} is out of range`);
          sum += value;
        }
        expect(sum / 500).toBeGreaterThan(0.4);
        expect(sum / 500).toBeLessThan(0.6);
      }),
    );
  });
});
