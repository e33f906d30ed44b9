// What a leader knows of its followers: Inflights against a model, the states of a Progress as tables, and who counts in a
// ProgressTracker.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.js";
import { JointConfig } from "../../src/raft/quorum/joint.js";
import { Inflights } from "../../src/raft/tracker/inflights.js";
import { Progress, ProgressMap } from "../../src/raft/tracker/progress.js";
import { ProgressTracker } from "../../src/raft/tracker/tracker.js";

describe("Inflights", () => {
  it("is a queue of messages with a limit to their number and their bytes", () => {
    const step = fc.oneof(
      fc.record({ add: fc.nat(3), bytes: fc.nat(40) }),
      fc.record({ freeTo: fc.nat(60) }),
      fc.constant({ reset: true }),
      fc.constant({ clone: true }),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.constantFrom(0, 50),
        fc.array(step, { maxLength: 80 }),
        (size, max, steps) => {
          let inflights = new Inflights(size, max);
          let model: { index: number; bytes: number }[] = [];
          let last = 0;
          for (const each of steps) {
            if ("add" in each) {
              last += each.add;
              if (inflights.full) {
                expect(() => inflights.add(last, each.bytes)).toThrow(AssertionError);
              } else {
                inflights.add(last, each.bytes);
                model.push({ index: last, bytes: each.bytes });
              }
            } else if ("freeTo" in each) {
              inflights.freeTo(each.freeTo);
              model = model.filter(({ index }) => index > each.freeTo);
            } else if ("clone" in each) {
              const before = inflights;
              inflights = before.clone();
              before.reset();
            } else {
              inflights.reset();
              model = [];
            }
            const bytes = model.reduce((sum, message) => sum + message.bytes, 0);
            expect(inflights.count).toBe(model.length);
            expect(inflights.full).toBe(model.length === size || (max > 0 && bytes >= max));
          }
        },
      ),
    );
  });

  it("lets the message through that takes the bytes over their limit", () => {
    const inflights = new Inflights(10, 100);
    inflights.add(1, 99);
    expect(inflights.full).toBe(false);
    inflights.add(2, 1000);
    expect(inflights.full).toBe(true);
    inflights.freeTo(1);
    expect(inflights.full).toBe(true);
    inflights.freeTo(2);
    expect([inflights.full, inflights.count]).toEqual([false, 0]);
  });
});

const progressOf = (match: number, next: number, inflight = 256): Progress =>
  new Progress(next, new Inflights(inflight, 0), false, match, true);

describe("Progress", () => {
  it("probes behind what matches, or behind a snapshot that was sent", () => {
    const replicating = progressOf(1, 5);
    replicating.becomeReplicate();
    replicating.becomeProbe();
    expect([replicating.state, replicating.match, replicating.next]).toEqual(["StateProbe", 1, 2]);
    const snapshot = progressOf(1, 5);
    snapshot.becomeSnapshot(10);
    expect([snapshot.state, snapshot.next, snapshot.pendingSnapshot, snapshot.paused]).toEqual([
      "StateSnapshot",
      11,
      10,
      true,
    ]);
    snapshot.becomeProbe();
    expect([snapshot.state, snapshot.next, snapshot.pendingSnapshot, snapshot.paused]).toEqual([
      "StateProbe",
      11,
      0,
      false,
    ]);
    const failed = progressOf(1, 5);
    failed.becomeSnapshot(10);
    failed.pendingSnapshot = 0;
    failed.becomeProbe();
    expect(failed.next).toBe(2);
  });

  it("replicates from what matches on", () => {
    const progress = progressOf(3, 9);
    progress.becomeReplicate();
    expect([progress.state, progress.match, progress.next, progress.paused]).toEqual(["StateReplicate", 3, 4, false]);
  });

  it.each([
    [2, 3, 5, false],
    [3, 3, 5, false],
    [4, 4, 5, true],
    [5, 5, 6, true],
    [7, 7, 8, true],
  ])("maybeUpdate(%d) of match 3, next 5 leads to match %d, next %d: %s", (index, match, next, news) => {
    const progress = progressOf(3, 5);
    progress.msgAppFlowPaused = true;
    expect(progress.maybeUpdate(index)).toBe(news);
    expect([progress.match, progress.next, progress.msgAppFlowPaused]).toEqual([match, next, !news]);
  });

  it.each([
    // What matches is never given up, however late a refusal comes.
    ["StateReplicate", 5, 10, 5, 5, false, 10],
    ["StateReplicate", 5, 10, 4, 4, false, 10],
    ["StateReplicate", 5, 10, 9, 9, true, 6],
    // Probing, only the answer to the last probe counts.
    ["StateProbe", 0, 0, 0, 0, false, 0],
    ["StateProbe", 0, 10, 5, 5, false, 10],
    ["StateProbe", 0, 10, 9, 9, true, 9],
    ["StateProbe", 0, 2, 1, 1, true, 1],
    ["StateProbe", 0, 1, 0, 0, true, 1],
    ["StateProbe", 0, 10, 9, 2, true, 3],
    ["StateProbe", 0, 10, 9, 0, true, 1],
    ["StateProbe", 4, 10, 9, 0, true, 5],
  ] as const)(
    "%s, match %d, next %d: maybeDecrTo(%d, %d) is %s, next %d",
    (state, match, next, rejected, hint, heeded, then) => {
      const progress = progressOf(match, next);
      progress.state = state;
      expect(progress.maybeDecrTo(rejected, hint)).toBe(heeded);
      expect([progress.match, progress.next]).toEqual([match, then]);
    },
  );

  it.each([
    ["StateProbe", false, false],
    ["StateProbe", true, true],
    ["StateReplicate", false, false],
    ["StateReplicate", true, true],
    ["StateSnapshot", false, true],
    ["StateSnapshot", true, true],
  ] as const)("%s with its flow paused %s is paused: %s", (state, flow, paused) => {
    const progress = progressOf(0, 1);
    progress.state = state;
    progress.msgAppFlowPaused = flow;
    expect(progress.paused).toBe(paused);
  });

  it("sends one message while it probes, and as many as the window holds while it replicates", () => {
    const probing = progressOf(0, 1);
    probing.sentEntries(0, 0);
    expect([probing.paused, probing.next]).toEqual([false, 1]);
    probing.sentEntries(3, 30);
    // What is sent may not arrive: the next probe begins at the same place.
    expect([probing.paused, probing.next]).toEqual([true, 1]);
    const replicating = progressOf(0, 1, 2);
    replicating.becomeReplicate();
    replicating.sentEntries(3, 30);
    expect([replicating.paused, replicating.next, replicating.inflights.count]).toEqual([false, 4, 1]);
    replicating.sentEntries(1, 10);
    expect([replicating.paused, replicating.next, replicating.inflights.count]).toEqual([true, 5, 2]);
    const waiting = progressOf(0, 1);
    waiting.becomeSnapshot(5);
    expect(() => waiting.sentEntries(1, 1)).toThrow(AssertionError);
  });

  it("has news of a commit only for a follower that has been sent so far", () => {
    const progress = progressOf(5, 6);
    progress.becomeReplicate();
    progress.sentCommit(3);
    expect([3, 4, 9].map((commit) => progress.canBumpCommit(commit))).toEqual([false, true, true]);
    // All up to 5 is sent, and told to be committed: more helps nobody yet.
    progress.sentCommit(5);
    expect(progress.canBumpCommit(9)).toBe(false);
    progress.sentEntries(2, 2);
    expect([5, 6].map((commit) => progress.canBumpCommit(commit))).toEqual([false, true]);
    // Gone back, it is not known any more what it was told.
    progress.sentCommit(7);
    progress.becomeProbe();
    progress.becomeReplicate();
    progress.sentEntries(1, 1);
    expect(progress.canBumpCommit(6)).toBe(true);
  });

  it("keeps match below next, whatever happens", () => {
    const step = fc.oneof(
      fc.record({ update: fc.nat(30) }),
      fc.record({ rejected: fc.nat(30), hint: fc.nat(30) }),
      fc.record({ sent: fc.nat(3) }),
      fc.record({ snapshot: fc.nat(5) }),
      fc.constantFrom({ become: "probe" as const }, { become: "replicate" as const }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const progress = progressOf(0, 1, 3);
        for (const each of steps) {
          const { match } = progress;
          if ("update" in each) progress.maybeUpdate(each.update);
          else if ("rejected" in each) progress.maybeDecrTo(each.rejected, each.hint);
          else if ("snapshot" in each) progress.becomeSnapshot(progress.next + each.snapshot);
          else if ("become" in each) each.become === "probe" ? progress.becomeProbe() : progress.becomeReplicate();
          else if (!progress.paused) progress.sentEntries(each.sent, each.sent);
          expect(progress.next).toBeGreaterThan(progress.match);
          expect(progress.match).toBeGreaterThanOrEqual(match);
          expect(progress.pendingSnapshot > 0).toBe(progress.state === "StateSnapshot");
        }
      }),
    );
  });

  it("prints what is worth knowing, a map of them in the order of IDs", () => {
    const progress = new Progress(2, new Inflights(1, 0), true, 1);
    progress.becomeReplicate();
    progress.sentEntries(1, 1);
    expect(String(progress)).toBe("StateReplicate match=1 next=3 learner paused inactive inflight=1[full]");
    const waiting = progressOf(1, 2);
    waiting.becomeSnapshot(7);
    expect(String(waiting)).toBe("StateSnapshot match=1 next=8 paused pendingSnap=7");
    expect(
      String(
        new ProgressMap([
          [12n, waiting],
          [2n, progressOf(0, 1)],
        ]),
      ),
    ).toBe("2: StateProbe match=0 next=1\n12: StateSnapshot match=1 next=8 paused pendingSnap=7\n");
  });

  it("clone() is another one, alike in everything", () => {
    const progress = progressOf(3, 9, 4);
    progress.becomeReplicate();
    progress.sentEntries(2, 2);
    progress.sentCommit(4);
    const copy = progress.clone();
    expect(String(copy)).toBe(String(progress));
    expect(copy.canBumpCommit(5)).toBe(progress.canBumpCommit(5));
    copy.inflights.reset();
    copy.becomeSnapshot(20);
    expect(String(progress)).toBe("StateReplicate match=3 next=6 inflight=1");
  });
});

describe("ProgressTracker", () => {
  function trackerOf(voters: JointConfig, learners: readonly bigint[] = []): ProgressTracker {
    const tracker = new ProgressTracker(256, 0);
    tracker.config.voters = voters;
    for (const id of learners) tracker.config.learners.add(id);
    for (const id of [...voters.ids(), ...learners]) {
      tracker.progress.set(id, new Progress(1, new Inflights(256, 0), learners.includes(id)));
    }
    return tracker;
  }

  it("counts a voter's first vote, and no learner's", () => {
    const tracker = trackerOf(new JointConfig([1n, 2n, 3n]), [4n]);
    tracker.recordVote(1n, true);
    tracker.recordVote(1n, false);
    tracker.recordVote(4n, true);
    expect(tracker.tallyVotes()).toEqual({ granted: 1, rejected: 0, result: "VotePending" });
    tracker.recordVote(3n, false);
    expect(tracker.tallyVotes()).toEqual({ granted: 1, rejected: 1, result: "VotePending" });
    tracker.recordVote(2n, true);
    expect(tracker.tallyVotes()).toEqual({ granted: 2, rejected: 1, result: "VoteWon" });
    tracker.resetVotes();
    expect(tracker.tallyVotes()).toEqual({ granted: 0, rejected: 0, result: "VotePending" });
  });

  it("is active when a quorum of voters is, whatever learners do", () => {
    const tracker = trackerOf(new JointConfig([1n, 2n, 3n], [1n, 4n, 5n]), [6n]);
    const hear = (...ids: bigint[]): boolean => {
      for (const [id, progress] of tracker.progress) progress.recentActive = ids.includes(id);
      return tracker.quorumActive();
    };
    expect(hear(1n, 2n, 6n)).toBe(false);
    expect(hear(1n, 2n, 4n)).toBe(true);
    expect(hear(2n, 3n, 4n, 5n)).toBe(true);
    expect(hear(1n, 6n)).toBe(false);
  });

  it("commits by the acknowledgements of voters, and knows when one decides alone", () => {
    const tracker = trackerOf(new JointConfig([1n, 2n, 3n]), [4n]);
    for (const [id, match] of [
      [1n, 5],
      [2n, 3],
      [4n, 9],
    ] as const)
      tracker.progress.get(id)?.maybeUpdate(match);
    expect(tracker.committed()).toBe(3);
    expect([tracker.singleton, trackerOf(new JointConfig([1n]), [2n]).singleton]).toEqual([false, true]);
    expect(trackerOf(new JointConfig([1n], [1n, 2n])).singleton).toBe(false);
    expect([tracker.voterNodes(), tracker.learnerNodes()]).toEqual([[1n, 2n, 3n], [4n]]);
  });
});
