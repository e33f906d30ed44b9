// Every workload of up to three operations, its crash states exhaustively where they are few. Small and complete, where the
// seeds are long and drawn.

import { describe, expect, it } from "vitest";
import { newCampaignCounts, runShortWorkloads } from "../../src/testing/storage-campaign.js";
import { parseOperations, shortOperations, shortWorkloads } from "../../src/testing/storage-workload.js";

describe("short workloads", () => {
  it("shortWorkloads() gives every list once, and parseOperations() reads it", () => {
    const lists = [...shortWorkloads(3)].map((operations) => operations.map(({ name }) => name).join());
    expect(new Set(lists).size).toBe(10 + 100 + 1000);
    expect(
      lists.every(
        (list) =>
          parseOperations(list)
            ?.map(({ name }) => name)
            .join() === list,
      ),
    ).toBe(true);
    expect(new Set(lists.join().split(","))).toEqual(new Set(shortOperations));
  });

  it("every crash state of every workload of up to two operations holds, and of every recovery of them", async () => {
    for (const sync of ["inline", "worker"] as const) {
      const counts = newCampaignCounts();
      expect(await runShortWorkloads(2, counts, { sync })).toBe(110);
      expect(counts.distinct).toBeGreaterThan(7000);
      expect(counts.nestedPoints).toBeGreaterThan(4500);
    }
  }, 240_000);

  it("every crash state of every workload of up to three operations holds", async () => {
    const counts = newCampaignCounts();
    const limits = { states: 16, nestedShare: 0.02 };
    expect(await runShortWorkloads(3, counts, { limits })).toBe(1110);
    expect(counts.distinct).toBeGreaterThan(12_000);
    console.log(`1110 workloads, ${counts.states} crash states, ${counts.distinct} of them distinct`);
  }, 240_000);
});
