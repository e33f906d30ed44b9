// Every operation of one run, on the simulated disk, fails with every error number, once and for good: the sweep of
// sweep-inline.test.ts, and of sweep-worker.long.ts, which goes the other engine's way through the same code.

import { expect, it } from "vitest";
import { faultErrors, newCampaignCounts, runFaultSweep } from "../../src/testing/storage-campaign.js";

export function sweep(sync: "inline" | "worker"): void {
  it(`every operation of a run may fail with every error, once and for good (sync ${sync})`, async () => {
    const counts = newCampaignCounts();
    const { operations, runs } = await runFaultSweep(counts, { sync });
    expect(operations).toBeGreaterThan(150);
    expect(runs).toBe(operations * faultErrors.length * 2);
    expect(counts.probes.get("poisoned")).toBeGreaterThan(100);
    expect(counts.probes.get("no space")).toBeGreaterThan(100);
  }, 240_000);
}
