// RaftLog: the tables of etcd-raft's log_test.go, in our words, over a MemoryStorage: conflicts, appends, what may be
// committed and applied, paging by size, and what a snapshot or a compaction leaves.

import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.js";
import { entriesSize, RaftLog } from "../../src/raft/log.js";
import { silent } from "../../src/raft/logger.js";
import { type Entry, EntryType, emptyConfState } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";

const entry = (index: number, term: number, bytes = 0): Entry => ({
  term,
  index,
  type: EntryType.Normal,
  data: new Uint8Array(bytes),
});
const previous = [entry(1, 1), entry(2, 2), entry(3, 3)];
const places = (entries: readonly Entry[]): string[] => entries.map(({ term, index }) => `${term}/${index}`);

function logOf(stable: readonly Entry[], unstable: readonly Entry[] = [], maxApplyingSize?: number): RaftLog {
  const storage = new MemoryStorage();
  storage.append(stable);
  const log = new RaftLog(storage, silent, maxApplyingSize);
  log.append(unstable);
  return log;
}

describe("RaftLog finds", () => {
  it.each([
    [[], 0],
    [previous, 0],
    [previous.slice(1), 0],
    [[...previous, entry(4, 4), entry(5, 4)], 4],
    [[entry(2, 2), entry(3, 3), entry(4, 4)], 4],
    [[entry(1, 4), entry(2, 4)], 1],
    [[entry(2, 1), entry(3, 4)], 2],
    [[entry(3, 1), entry(4, 2)], 3],
  ] as const)("case %#: the first entry that is new or in conflict", (entries, conflict) => {
    expect(logOf([], previous).findConflict(entries)).toBe(conflict);
    expect(logOf(previous).findConflict(entries)).toBe(conflict);
  });

  it.each([
    [100, 2, 0, 0],
    [5, 6, 5, 5],
    [5, 5, 5, 5],
    [5, 4, 2, 2],
    [5, 2, 2, 2],
    [5, 1, 0, 0],
  ] as const)("case %#: the last index whose term is no later", (index, term, at, found) => {
    // Terms 2 2 5 5 5 from index 1 on.
    const log = logOf([entry(1, 2), entry(2, 2), entry(3, 5), entry(4, 5), entry(5, 5)]);
    if (index > log.lastIndex()) {
      expect(log.findConflictByTerm(index, term)).toEqual({ index, term: 0 });
      return;
    }
    expect(log.findConflictByTerm(index, term)).toEqual({ index: at, term: found });
  });

  it.each([
    [-1, 4, true],
    [0, 4, true],
    [1, 4, true],
    [-1, 2, false],
    [1, 2, false],
    [-1, 3, false],
    [0, 3, true],
    [1, 3, true],
  ])("a log that ends %i from ours at term %i up to date: %s", (distance, term, upToDate) => {
    expect(logOf(previous).isUpToDate({ index: 3 + distance, term })).toBe(upToDate);
  });
});

describe("RaftLog.maybeAppend()", () => {
  const cases = [
    ["another term before", { index: 3, term: 2 }, [entry(4, 4)], 3, undefined, 1, previous],
    ["beyond the end", { index: 4, term: 3 }, [entry(5, 4)], 3, undefined, 1, previous],
    ["nothing, and what is committed", { index: 3, term: 3 }, [], 3, 3, 3, previous],
    ["no commit beyond what was sent", { index: 2, term: 2 }, [], 3, 2, 2, previous],
    ["no commit going back", { index: 3, term: 3 }, [], 0, 3, 1, previous],
    ["new entries", { index: 3, term: 3 }, [entry(4, 4)], 4, 4, 4, [...previous, entry(4, 4)]],
    ["a conflict", { index: 1, term: 1 }, [entry(2, 4), entry(3, 4)], 2, 3, 2, [entry(1, 1), entry(2, 4), entry(3, 4)]],
  ] as const;
  for (const [how, before, entries, commit, last, committed, left] of cases) {
    it(how, () => {
      const log = logOf([], previous);
      log.commitTo(1);
      expect(log.maybeAppend(before, entries, commit)).toBe(last);
      expect([log.committed, places(log.entries(1))]).toEqual([committed, places(left)]);
    });
  }

  it("is asserted not to touch what is committed", () => {
    const log = logOf([], previous);
    log.commitTo(2);
    expect(() => log.maybeAppend({ index: 1, term: 1 }, [entry(2, 9)], 2)).toThrow(AssertionError);
    expect(() => log.append([entry(2, 9)])).toThrow(AssertionError);
    expect(() => log.commitTo(9)).toThrow("was it corrupted");
  });
});

describe("RaftLog commits and applies", () => {
  it("commits by counting entries of the given term alone", () => {
    const log = logOf(previous);
    expect(log.maybeCommit({ index: 3, term: 4 })).toBe(false);
    expect(log.maybeCommit({ index: 3, term: 0 })).toBe(false);
    expect(log.maybeCommit({ index: 3, term: 3 })).toBe(true);
    expect(log.maybeCommit({ index: 3, term: 3 })).toBe(false);
  });

  it("hands out what is not stable only where that is allowed", () => {
    const log = logOf(previous.slice(0, 2), previous.slice(2));
    log.commitTo(3);
    expect(places(log.nextCommittedEntries(true))).toEqual(["1/1", "2/2", "3/3"]);
    expect(places(log.nextCommittedEntries(false))).toEqual(["1/1", "2/2"]);
    log.acceptApplying(2, 0, false);
    expect(log.hasNextCommittedEntries(false)).toBe(false);
    expect(log.hasNextCommittedEntries(true)).toBe(true);
  });

  it("hands out no more than so many bytes that are not applied, and pauses", () => {
    const entries = [entry(1, 1, 100), entry(2, 1, 100), entry(3, 1, 100)];
    const log = logOf(entries, [], entriesSize(entries.slice(0, 2)));
    log.commitTo(3);
    const first = log.nextCommittedEntries(true);
    expect(places(first)).toEqual(["1/1", "1/2"]);
    log.acceptApplying(2, entriesSize(first), true);
    expect(log.nextCommittedEntries(true)).toEqual([]);
    log.appliedTo(1, entriesSize(first.slice(0, 1)));
    expect(places(log.nextCommittedEntries(true))).toEqual(["1/3"]);
    log.acceptApplying(3, 0, true);
    log.appliedTo(3, 1000);
    expect([log.applied, log.applying, log.hasNextCommittedEntries(true)]).toEqual([3, 3, false]);
  });

  it("hands out nothing while a snapshot is not durable", () => {
    const log = logOf(previous);
    log.restore({ metadata: { index: 9, term: 4, confState: emptyConfState() }, data: new Uint8Array(0) });
    expect([log.committed, log.firstIndex(), log.lastIndex(), log.term(9)]).toEqual([9, 10, 9, 4]);
    expect(log.hasNextCommittedEntries(true)).toBe(false);
    expect(log.hasNextOrInProgressSnapshot).toBe(true);
  });
});

describe("RaftLog reads", () => {
  it("pages across what is stable and what is not, by size, at least one", () => {
    const entries = Array.from({ length: 6 }, (_, i) => entry(i + 1, 1, 10));
    const log = logOf(entries.slice(0, 3), entries.slice(3));
    const one = entriesSize(entries.slice(0, 1));
    for (let lo = 1; lo <= 6; lo++) {
      for (let hi = lo; hi <= 7; hi++) {
        for (let fit = 0; fit <= 7; fit++) {
          const wanted = entries.slice(lo - 1, Math.min(hi - 1, lo - 1 + Math.max(1, fit)));
          expect(places(log.slice(lo, hi, fit * one + 1)), `[${lo}, ${hi}) of ${fit}`).toEqual(places(wanted));
        }
        expect(places(log.slice(lo, hi))).toEqual(places(entries.slice(lo - 1, hi - 1)));
      }
    }
    const pages: string[][] = [];
    log.scan(1, 7, 2 * one, (page) => pages.push(places(page)) < 2);
    expect(pages).toEqual([
      ["1/1", "1/2"],
      ["1/3", "1/4"],
    ]);
  });

  it("knows terms from the dummy to the last, and says why not of others", async () => {
    const storage = new MemoryStorage();
    storage.append(previous);
    await storage.compact(1);
    const log = new RaftLog(storage, silent);
    log.append([entry(4, 4)]);
    expect([1, 2, 3, 4].map((index) => log.term(index))).toEqual([1, 2, 3, 4]);
    expect([0, 5].map((index) => log.maybeTerm(index))).toEqual([undefined, undefined]);
    expect(() => log.term(0)).toThrow(expect.objectContaining({ code: "ERR_COMPACTED" }) as Error);
    expect(() => log.term(5)).toThrow(expect.objectContaining({ code: "ERR_UNAVAILABLE" }) as Error);
    expect(() => log.slice(1, 3)).toThrow(expect.objectContaining({ code: "ERR_COMPACTED" }) as Error);
    expect(log.entries(5)).toEqual([]);
  });
});
