// Unstable: the tables of etcd-raft's log_unstable_test.go, in our words: where the log begins and ends, what is handed out,
// what becomes stable, and the three ways in which entries meet what is there.

import { describe, expect, it } from "vitest";
import { Unstable } from "../../src/raft/log-unstable.js";
import { silent } from "../../src/raft/logger.js";
import { type Entry, EntryType, emptyConfState, type Snapshot } from "../../src/raftpb/types.js";

const entry = (index: number, term = 1): Entry => ({ term, index, type: EntryType.Normal, data: new Uint8Array(0) });
const snapshotAt = (index: number, term = 1): Snapshot => ({
  metadata: { index, term, confState: emptyConfState() },
  data: new Uint8Array(0),
});

/** An Unstable with entries from `offset` on, of which those before `inProgress` are handed out. */
function unstable(offset: number, entries: Entry[], inProgress = offset, snapshot?: Snapshot): Unstable {
  const made = new Unstable(offset, silent);
  made.entries = entries;
  made.offsetInProgress = inProgress;
  made.snapshot = snapshot;
  return made;
}

const places = (entries: readonly Entry[]): string[] => entries.map(({ term, index }) => `${term}/${index}`);

describe("Unstable", () => {
  it.each([
    [[entry(5)], undefined, undefined, 5],
    [[], undefined, undefined, undefined],
    [[entry(5)], snapshotAt(4), 5, 5],
    [[], snapshotAt(4), 5, 4],
  ] as const)(
    "case %#: knows the first index by its snapshot and the last by either",
    (entries, snapshot, first, last) => {
      const made = unstable(5, [...entries], 5, snapshot);
      expect([made.maybeFirstIndex(), made.maybeLastIndex()]).toEqual([first, last]);
    },
  );

  it.each([
    [[entry(5)], undefined, 5, 1],
    [[entry(5)], undefined, 6, undefined],
    [[entry(5)], undefined, 4, undefined],
    [[entry(5)], snapshotAt(4, 3), 4, 3],
    [[entry(5)], snapshotAt(4, 3), 3, undefined],
    [[], snapshotAt(4, 3), 5, undefined],
    [[], snapshotAt(4, 3), 4, 3],
    [[], undefined, 5, undefined],
  ] as const)("case %#: knows terms of its entries and of its snapshot alone", (entries, snapshot, index, term) => {
    expect(unstable(5, [...entries], 5, snapshot).maybeTerm(index)).toBe(term);
  });

  it("restore() puts a snapshot in place of everything", () => {
    const made = unstable(5, [entry(5)], 6, snapshotAt(4));
    made.snapshotInProgress = true;
    made.restore(snapshotAt(6, 2));
    expect(made).toMatchObject({ offset: 7, offsetInProgress: 7, entries: [], snapshotInProgress: false });
    expect(made.snapshot?.metadata.index).toBe(6);
  });

  it("nextEntries() and nextSnapshot() give what was not handed out, in an array of its own", () => {
    const made = unstable(5, [entry(5), entry(6)], 6, snapshotAt(4));
    const next = made.nextEntries();
    expect(places(next)).toEqual(["1/6"]);
    made.truncateAndAppend([entry(7)]);
    expect(next).toHaveLength(1);
    expect(made.nextSnapshot()?.metadata.index).toBe(4);
    made.acceptInProgress();
    expect([made.offsetInProgress, made.hasNextEntries, made.nextSnapshot()]).toEqual([8, false, undefined]);
  });

  it.each([
    [[], undefined, 5, 1, 0, 0, 0],
    [[entry(5)], undefined, 5, 1, 6, 6, 0],
    [[entry(5), entry(6)], undefined, 5, 1, 6, 6, 1],
    [[entry(6, 2)], undefined, 6, 1, 6, 6, 1],
    [[entry(5)], undefined, 4, 1, 5, 5, 1],
    [[entry(5)], snapshotAt(4), 4, 1, 5, 5, 1],
    [[entry(5, 2)], snapshotAt(4), 4, 1, 5, 5, 1],
  ] as const)(
    "case %#: stableTo() drops what is durable and nothing that replaced it",
    (entries, snapshot, index, term, offset, inProgress, left) => {
      const begin = entries[0]?.index ?? 0;
      const made = unstable(begin, [...entries], begin, snapshot);
      made.stableTo({ index, term });
      expect([made.offset, made.offsetInProgress, made.entries.length]).toEqual([offset, inProgress, left]);
    },
  );

  it("stableTo() of entries that were handed out together leaves the others in progress", () => {
    const made = unstable(5, [entry(5), entry(6), entry(7)], 8);
    made.stableTo({ index: 5, term: 1 });
    expect([made.offset, made.offsetInProgress, places(made.entries)]).toEqual([6, 8, ["1/6", "1/7"]]);
  });

  it("stableSnapTo() forgets the snapshot of that index alone", () => {
    const made = unstable(5, [], 5, snapshotAt(4));
    made.stableSnapTo(3);
    expect(made.snapshot).toBeDefined();
    made.stableSnapTo(4);
    expect(made.snapshot).toBeUndefined();
  });

  it.each([
    ["behind the last", 5, [entry(5)], 5, [entry(6), entry(7)], 5, 5, ["1/5", "1/6", "1/7"]],
    ["behind the last, in progress", 5, [entry(5)], 6, [entry(6)], 5, 6, ["1/5", "1/6"]],
    ["in place of all", 5, [entry(5)], 5, [entry(5, 2), entry(6, 2)], 5, 5, ["2/5", "2/6"]],
    ["in place of all and of what is stable", 5, [entry(5)], 6, [entry(4, 2), entry(5, 2)], 4, 4, ["2/4", "2/5"]],
    ["in place of the tail", 5, [entry(5), entry(6), entry(7)], 5, [entry(6, 2)], 5, 5, ["1/5", "2/6"]],
    ["in place of a tail in progress", 5, [entry(5), entry(6), entry(7)], 7, [entry(6, 2)], 5, 6, ["1/5", "2/6"]],
    ["behind what is in progress", 5, [entry(5), entry(6), entry(7)], 6, [entry(7, 2)], 5, 6, ["1/5", "1/6", "2/7"]],
  ] as const)("truncateAndAppend() %s", (_how, from, entries, inProgress, more, offset, after, left) => {
    const made = unstable(from, [...entries], inProgress);
    made.truncateAndAppend(more);
    expect([made.offset, made.offsetInProgress, places(made.entries)]).toEqual([offset, after, [...left]]);
  });
});
