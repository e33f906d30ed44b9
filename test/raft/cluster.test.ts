// A cluster by seeds: nothing that raft promises breaks while messages are lost and doubled, nodes crash, the configuration
// changes and logs are compacted. And the checker checks: spoiled raft cores are found out.

import { describe, expect, it } from "vitest";
import { RaftLog } from "../../src/raft/log.js";
import { Raft } from "../../src/raft/raft.js";
import { ClusterFailure, newClusterCounts, RaftCluster } from "../../src/testing/raft-cluster.js";

const SEEDS = 1000;

describe("RaftCluster", () => {
  it(`${SEEDS} seeds of 1,500 steps hold, and all that may happen does`, { timeout: 120_000 }, () => {
    const counts = newClusterCounts();
    for (let seed = 1; seed <= SEEDS; seed++) new RaftCluster(seed, counts).run(1500);
    expect(counts.leaders).toBeGreaterThan(SEEDS);
    expect(counts.acknowledged).toBeGreaterThan(5 * SEEDS);
    expect(counts.snapshots).toBeGreaterThan(SEEDS / 5);
    expect(counts.confChanges).toBeGreaterThan(SEEDS);
    expect(counts.crashes).toBeGreaterThan(SEEDS);
    expect(counts.reads).toBeGreaterThan(SEEDS);
  });

  it("is the same run for the same seed", () => {
    const [a, b] = [newClusterCounts(), newClusterCounts()];
    for (let seed = 1; seed < 20; seed++) {
      new RaftCluster(seed, a).run(800);
      new RaftCluster(seed, b).run(800);
    }
    expect(a).toEqual(b);
  });

  /** Runs seeds with a method replaced; the first failure's message. */
  function failureWith<T extends object, K extends keyof T>(target: T, method: K, spoiled: T[K]): string | undefined {
    const whole = target[method];
    target[method] = spoiled;
    try {
      for (let seed = 1; seed <= 400; seed++) new RaftCluster(seed).run(1500);
      return undefined;
    } catch (error) {
      if (error instanceof ClusterFailure) return error.message;
      throw error;
    } finally {
      target[method] = whole;
    }
  }

  it("finds voters that do not ask how far a candidate's log goes", () => {
    expect(failureWith(RaftLog.prototype, "isUpToDate", () => true)).toMatch(/^SEED=/);
  });

  it("finds followers that take entries whatever stands before them", () => {
    expect(failureWith(RaftLog.prototype, "matchTerm", ({ index }) => index > 0)).toMatch(/^SEED=/);
  });

  it("finds a node that forgets its vote within the term", () => {
    const whole = Raft.prototype.becomeFollower;
    const message = failureWith(Raft.prototype, "becomeFollower", function (this: Raft, term, lead) {
      const { vote } = this;
      whole.call(this, term, lead);
      // A vote that is forgotten within its term is given twice.
      if (vote !== 0n && term === this.term) this.vote = 0n;
    });
    expect(message).toMatch(/^SEED=/);
  });
});
