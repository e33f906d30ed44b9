// What the seeds-*.test.ts files share: a run of the campaign over some seeds, with its floors. The seeds stand in several
// files because each file has a core of its own; together they are what docs/TESTING.md says of `npm test`.

import { describe, expect, it } from "vitest";
import { newCampaignCounts, probes, runSeed } from "../../src/testing/storage-campaign.js";

/** Explores seeds [from, to); a failure carries the line that `stablelog crash --replay` takes. */
export function exploreSeeds(from: number, to: number): void {
  describe(`seeds ${from} to ${to - 1}`, () => {
    const counts = newCampaignCounts();

    it("every crash state has all that was acknowledged and whole saves only, and no failing call loses any", async () => {
      for (let seed = from; seed < to; seed++) await runSeed(seed, counts, { damage: 0 });
      expect(counts.seeds).toBe(to - from);
      console.log(`${counts.seeds} seeds, ${counts.states} crash states, ${counts.distinct} of them distinct`);
    }, 240_000);

    it("there were at least 33 distinct states a seed, crashes within recovery, failing calls", () => {
      // With those of the short workloads 3,000 seeds make more than 100,000 then.
      expect(counts.distinct).toBeGreaterThanOrEqual(33 * (to - from));
      expect(counts.nestedPoints).toBeGreaterThan(to - from);
      expect(counts.faults).toBeGreaterThan((to - from) / 2);
    });

    it("every rare path was taken", () => {
      // A power cut that leaves a frame one bit from whole comes once in some ten thousand states; test/recovery/damage.test.ts
      // makes one.
      expect(probes.filter((probe) => probe !== "ambiguous tail" && !counts.probes.has(probe))).toEqual([]);
    });
  });
}
