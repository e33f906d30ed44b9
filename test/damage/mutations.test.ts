// A slice of the mutations that `npm run mutations` makes millions of: whole small logs and every decoder, damaged by lot and
// forged under good checksums. The same data, or a coded word for what is damaged; never another error, never for long.

import { describe, expect, it } from "vitest";
import { nowMs } from "../../src/base/clock.js";
import { damageLog, mutate, replay } from "../../src/testing/mutations.js";

describe("mutate()", () => {
  it("finds nothing wrong in some tens of thousands, of every target", async () => {
    const report = await mutate({ seed: 20, mutations: 30_000, now: nowMs });
    expect(report.failures).toEqual([]);
    expect(report.done).toBe(30_000);
    for (const target of ["log", "frame", "state", "index", "mark", "snapshot", "etcd member", "etcd message"]) {
      const verdicts = Object.keys(report.counts).filter((verdict) => verdict.startsWith(`${target} `));
      expect(verdicts.length, target).toBeGreaterThan(0);
    }
  });

  it("is the same for the same seed, and replay() does one of them again", async () => {
    const now = (): number => 0;
    const [one, other] = [
      await mutate({ seed: 3, mutations: 500, now }),
      await mutate({ seed: 3, mutations: 500, now }),
    ];
    expect(one).toEqual(other);
    const [first, second] = [await replay(3, 160), await replay(3, 160)];
    expect(first).toEqual(second);
    expect(first.wrong).toBeUndefined();
  });
});

describe("damageLog()", () => {
  it("finds nothing wrong with single pieces of damage to whole logs", async () => {
    const verdicts = new Set<string>();
    for (let n = 0; n < 3000; n++) {
      const { what, verdict, wrong } = await damageLog(9, n);
      expect(wrong, what).toBeUndefined();
      verdicts.add(verdict);
    }
    expect([...verdicts].sort()).toEqual(["log lost", "log refused", "log reported", "log same"]);
  });
});
