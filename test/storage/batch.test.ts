// The checks both storages share: what checkBatch() finds in a save, that it finds it without touching anything, and that
// garbage of any shape comes out as a StableLogError.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ErrorCode, StableLogError } from "../../src/base/errors.js";
import type { SaveBatch } from "../../src/raft/storage.js";
import { type Entry, EntryType, emptyConfState, type Snapshot } from "../../src/raftpb/types.js";
import {
  advanceState,
  type CheckedBatch,
  checkBatch,
  checkCompact,
  checkCreateSnapshot,
  checkRange,
  checkStageSnapshot,
  checkTerm,
  emptyLogState,
  type LogState,
  MAX_ENTRY_BYTES,
  MAX_SAVE_BYTES,
  newCheckedBatch,
  resetBatch,
  sameMetadata,
  streamError,
} from "../../src/storage/batch.js";

// Entries 11 to 20 above dummy 10, a snapshot at 8. Frozen: a check that wrote to it would throw a TypeError.
const state: LogState = Object.freeze({
  term: 4,
  vote: 2n,
  commit: 15,
  firstIndex: 11,
  lastIndex: 20,
  snapshotIndex: 8,
});

function run(begin: number, count: number, bytes = 3): Entry[] {
  return Array.from({ length: count }, (_, i) => ({
    term: 4,
    index: begin + i,
    type: EntryType.Normal,
    data: new Uint8Array(bytes),
  }));
}

function snapshotAt(index: number, voters: bigint[] = [], bytes = 0): Snapshot {
  return {
    metadata: { index, term: 4, confState: { ...emptyConfState(), voters } },
    data: new Uint8Array(bytes),
  };
}

function check(batch: SaveBatch, from: LogState = state): CheckedBatch {
  const out = newCheckedBatch();
  checkBatch(from, batch, out);
  return out;
}

function codeOf(call: () => unknown): ErrorCode | undefined {
  try {
    call();
  } catch (error) {
    if (error instanceof StableLogError) return error.code;
    throw error;
  }
  return undefined;
}

function messageOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return "";
}

describe("checkBatch()", () => {
  const empty: [what: string, batch: SaveBatch][] = [
    ["no field", {}],
    ["undefined fields", { entries: undefined, hardState: undefined, snapshot: undefined, mustSync: undefined }],
    ["no entries", { entries: [] }],
    ["an all-zero HardState", { hardState: { term: 0, vote: 0n, commit: 0 } }],
    ["a snapshot of index 0 with an empty ConfState", { snapshot: snapshotAt(0) }],
    ["entries that are all clipped", { entries: run(9, 2) }],
  ];
  for (const [what, batch] of empty) {
    it(`checkBatch() finds nothing to do when the save has ${what}`, () => {
      expect(check(batch)).toEqual({ ...newCheckedBatch(), lastIndex: 20 });
    });
  }

  it("checkBatch() hands on the caller's own objects and counts the payload", () => {
    const entries = run(21, 4, 5);
    const hardState = { term: 5, vote: 3n, commit: 24 };
    const out = check({ entries, hardState, mustSync: true });
    expect(out.entries).toBe(entries);
    expect(out.hardState).toBe(hardState);
    expect(out).toMatchObject({ from: 0, count: 4, firstIndex: 21, lastIndex: 24, payloadBytes: 20 });
    expect(out).toMatchObject({ empty: false, commitOnly: false, mustSync: true, bootstrap: false });
    expect(out.snapshot).toBeUndefined();
  });

  const clips: [begin: number, count: number, from: number, written: number, firstIndex: number, lastIndex: number][] =
    [
      [8, 5, 3, 2, 11, 12],
      [10, 2, 1, 1, 11, 11],
      [11, 2, 0, 2, 11, 12],
      [1, 30, 10, 20, 11, 30],
      [15, 1, 0, 1, 15, 15],
      [21, 1, 0, 1, 21, 21],
    ];
  for (const [begin, count, from, written, firstIndex, lastIndex] of clips) {
    it(`checkBatch() writes ${written} from ${firstIndex} on when ${count} entries begin at ${begin}`, () => {
      const out = check({ entries: run(begin, count, 2) }, { ...state, commit: 0 });
      expect(out).toMatchObject({ from, count: written, firstIndex, lastIndex, payloadBytes: 2 * written });
    });
  }

  it("checkBatch() clips at the dummy that the save's own snapshot leaves", () => {
    const out = check({ snapshot: snapshotAt(30), entries: run(29, 4) });
    expect(out).toMatchObject({ bootstrap: false, from: 2, count: 2, firstIndex: 31, lastIndex: 32 });
    expect(codeOf(() => check({ snapshot: snapshotAt(30), entries: run(32, 1) }))).toBe("ERR_GAP");
    expect(codeOf(() => check({ snapshot: snapshotAt(16), entries: run(21, 1) }))).toBe("ERR_GAP");
  });

  it("checkBatch() marks a bootstrap, which keeps the log", () => {
    const fresh = { ...state, snapshotIndex: 0 };
    const out = check({ snapshot: snapshotAt(0, [1n]), entries: run(21, 1) }, fresh);
    expect(out).toMatchObject({ bootstrap: true, empty: false, count: 1, lastIndex: 21 });
    expect(codeOf(() => check({ snapshot: snapshotAt(0, [1n]) }))).toBe("ERR_SNAP_OUT_OF_DATE");
  });

  const commitOnly: [what: string, batch: SaveBatch, expected: boolean][] = [
    ["commit alone moves on", { hardState: { term: 4, vote: 2n, commit: 16 } }, true],
    ["commit alone goes back", { hardState: { term: 4, vote: 2n, commit: 3 } }, true],
    ["mustSync is false", { hardState: { term: 4, vote: 2n, commit: 16 }, mustSync: false }, true],
    ["its entries are all clipped", { hardState: { term: 4, vote: 2n, commit: 16 }, entries: run(9, 2) }, true],
    ["mustSync is true", { hardState: { term: 4, vote: 2n, commit: 16 }, mustSync: true }, false],
    ["the term changes", { hardState: { term: 5, vote: 2n, commit: 16 }, mustSync: false }, false],
    ["the vote changes", { hardState: { term: 4, vote: 3n, commit: 16 }, mustSync: false }, false],
    ["an entry comes with it", { hardState: { term: 4, vote: 2n, commit: 16 }, entries: run(21, 1) }, false],
    ["a snapshot comes with it", { hardState: { term: 4, vote: 2n, commit: 16 }, snapshot: snapshotAt(30) }, false],
    ["there is no HardState", { mustSync: false }, false],
  ];
  for (const [what, batch, expected] of commitOnly) {
    it(`checkBatch() says commitOnly is ${expected} when ${what}`, () => {
      expect(check(batch).commitOnly).toBe(expected);
    });
  }

  it("checkBatch() does not call a bootstrap commitOnly", () => {
    const batch = { hardState: { term: 4, vote: 2n, commit: 16 }, snapshot: snapshotAt(0, [1n]) };
    expect(check(batch, { ...state, snapshotIndex: 0 }).commitOnly).toBe(false);
  });

  it("checkBatch() lets entries follow when commit is already ahead of the log", () => {
    const ahead = { ...state, commit: 30 };
    expect(check({ entries: run(21, 2) }, ahead).lastIndex).toBe(22);
    expect(check({ entries: run(20, 1) }, ahead).lastIndex).toBe(20);
    expect(codeOf(() => check({ entries: run(19, 1) }, ahead))).toBe("ERR_INVALID_ARGUMENT");
    expect(codeOf(() => check({ hardState: { term: 4, vote: 2n, commit: 30 } }, ahead))).toBe("ERR_INVALID_ARGUMENT");
  });

  it("checkBatch() judges a cut by the commit that comes with it, when one does", () => {
    expect(codeOf(() => check({ entries: run(13, 1) }))).toBe("ERR_INVALID_ARGUMENT");
    expect(check({ entries: run(13, 1), hardState: { term: 5, vote: 0n, commit: 13 } }).lastIndex).toBe(13);
    expect(check({ entries: run(13, 3) }).lastIndex).toBe(15);
  });

  it("checkBatch() takes an entry of 64 MiB and a save of 1 GiB, and not a byte more", () => {
    const most = new Uint8Array(MAX_ENTRY_BYTES);
    const entries = run(21, MAX_SAVE_BYTES / MAX_ENTRY_BYTES).map((entry) => ({ ...entry, data: most }));
    expect(check({ entries }).payloadBytes).toBe(MAX_SAVE_BYTES);
    const more = [...entries, ...run(21 + entries.length, 1, 1)];
    expect(codeOf(() => check({ entries: more }))).toBe("ERR_TOO_LARGE");
    const withSnapshot = { snapshot: snapshotAt(20, [], 1), entries };
    expect(codeOf(() => check(withSnapshot))).toBe("ERR_TOO_LARGE");
    const big = [{ term: 4, index: 21, type: EntryType.Normal, data: new Uint8Array(MAX_ENTRY_BYTES + 1) }];
    expect(codeOf(() => check({ entries: big }))).toBe("ERR_TOO_LARGE");
  });

  it("checkBatch() does not count the bytes of clipped entries", () => {
    const data = new Uint8Array(MAX_ENTRY_BYTES);
    const clipped = run(1, 10).map((entry) => ({ ...entry, data }));
    const written = run(11, 10).map((entry) => ({ ...entry, data }));
    expect(check({ entries: [...clipped, ...written] }).payloadBytes).toBe(10 * MAX_ENTRY_BYTES);
  });

  it("checkBatch() leaves nothing of the save behind when it throws", () => {
    const out = newCheckedBatch();
    checkBatch(state, { entries: run(21, 2), hardState: { term: 5, vote: 1n, commit: 21 }, mustSync: true }, out);
    const wrong = { entries: run(21, 1), hardState: { term: 3, vote: 1n, commit: 21 }, snapshot: snapshotAt(0) };
    expect(codeOf(() => checkBatch(state, wrong, out))).toBe("ERR_INVALID_ARGUMENT");
    expect(out).toEqual(newCheckedBatch());
  });

  it("checkBatch() tells the numbers", () => {
    expect(messageOf(() => check({ entries: run(23, 1) }))).toMatch(/entries from 23: the log ends at 20/);
    expect(messageOf(() => check({ entries: [...run(21, 1), ...run(25, 1)] }))).toMatch(/21 is followed by 25/);
    expect(messageOf(() => check({ hardState: { term: 3, vote: 0n, commit: 0 } }))).toMatch(/term 3.*term 4/);
    expect(messageOf(() => check({ hardState: { term: 4, vote: 0n, commit: 21 } }))).toMatch(/commit 21.*ends at 20/);
    expect(messageOf(() => check({ entries: run(12, 1) }))).toMatch(/at 12.*commit 15/);
    expect(messageOf(() => check({ snapshot: snapshotAt(7) }))).toMatch(/at 7.*at 8/);
    expect(messageOf(() => check({ hardState: { term: 4, vote: -1n, commit: 1 } }))).toMatch(/vote.*-1n/);
  });

  it("checkBatch() takes a Uint8Array of another realm", async () => {
    const { runInNewContext } = await import("node:vm");
    const data = runInNewContext("new Uint8Array(4)") as Uint8Array;
    expect(data instanceof Uint8Array).toBe(false);
    expect(check({ entries: [{ term: 4, index: 21, type: 0, data }] }).payloadBytes).toBe(4);
  });

  it("checkBatch() refuses an object that only pretends to be a Uint8Array", () => {
    const data = Object.create(Uint8Array.prototype) as Uint8Array;
    expect(codeOf(() => check({ entries: [{ term: 4, index: 21, type: 0, data }] }))).toBe("ERR_INVALID_ARGUMENT");
  });

  it("checkBatch() throws nothing but StableLogError when it is handed anything at all", () => {
    const anything = fc.anything({ withBigInt: true, withSparseArray: true, withTypedArray: true, withDate: true });
    const number = fc.oneof(fc.integer({ min: 0, max: 30 }), anything);
    const id = fc.oneof(fc.bigInt({ min: 0n, max: 3n }), anything);
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 4 }), anything);
    const entry = fc.oneof(fc.record({ term: number, index: number, type: number, data: bytes }), anything);
    const ids = fc.oneof(fc.array(id, { maxLength: 3 }), anything);
    const confState = fc.oneof(
      fc.record({ voters: ids, learners: ids, votersOutgoing: ids, learnersNext: ids, autoLeave: fc.boolean() }),
      anything,
    );
    const metadata = fc.oneof(fc.record({ index: number, term: number, confState }), anything);
    const batch = fc.oneof(
      { weight: 1, arbitrary: anything },
      {
        weight: 9,
        arbitrary: fc.record(
          {
            hardState: fc.oneof(fc.record({ term: number, vote: id, commit: number }), anything),
            entries: fc.oneof(fc.array(entry, { maxLength: 4 }), anything),
            snapshot: fc.oneof(fc.record({ metadata, data: bytes }), anything),
            mustSync: fc.oneof(fc.boolean(), anything),
          },
          { requiredKeys: [] },
        ),
      },
    );
    const out = newCheckedBatch();
    fc.assert(
      fc.property(batch, (value) => {
        codeOf(() => checkBatch(state, value as SaveBatch, out));
      }),
      { numRuns: 2000 },
    );
  });
});

describe("advanceState()", () => {
  it("advanceState() takes over what the save changes and leaves the rest", () => {
    const out = newCheckedBatch();
    const next = { ...emptyLogState() };
    checkBatch(next, { entries: run(1, 3), hardState: { term: 4, vote: 2n, commit: 2 } }, out);
    advanceState(next, out);
    expect(next).toEqual({ term: 4, vote: 2n, commit: 2, firstIndex: 1, lastIndex: 3, snapshotIndex: 0 });
    checkBatch(next, { snapshot: snapshotAt(0, [1n]) }, out);
    advanceState(next, out);
    expect(next).toEqual({ term: 4, vote: 2n, commit: 2, firstIndex: 1, lastIndex: 3, snapshotIndex: 0 });
    checkBatch(next, { snapshot: snapshotAt(9), entries: run(10, 1) }, out);
    advanceState(next, out);
    expect(next).toEqual({ term: 4, vote: 2n, commit: 2, firstIndex: 10, lastIndex: 10, snapshotIndex: 9 });
    checkBatch(next, { entries: run(7, 2) }, out);
    advanceState(next, out);
    expect(next.lastIndex).toBe(10);
  });
});

describe("resetBatch()", () => {
  it("resetBatch() lets go of all that the save held", () => {
    const out = check({ entries: run(31, 2), snapshot: snapshotAt(30), hardState: { term: 5, vote: 1n, commit: 30 } });
    resetBatch(out);
    expect(out).toEqual(newCheckedBatch());
  });
});

describe("the checks of single arguments", () => {
  it("checkRange() asks in etcd's order: lo above hi, compacted, beyond the end, empty", () => {
    expect(codeOf(() => checkRange(5, 4, undefined, 10, 20))).toBe("ERR_INVALID_ARGUMENT");
    expect(codeOf(() => checkRange(10, 99, undefined, 10, 20))).toBe("ERR_COMPACTED");
    expect(codeOf(() => checkRange(11, 22, undefined, 10, 20))).toBe("ERR_UNAVAILABLE");
    expect(codeOf(() => checkRange(11, 11, undefined, 10, 10))).toBe("ERR_UNAVAILABLE");
    expect(codeOf(() => checkRange(10, 10, undefined, 10, 10))).toBe("ERR_COMPACTED");
    expect(codeOf(() => checkRange(11, 21, 0, 10, 20))).toBeUndefined();
    expect(codeOf(() => checkRange(21, 21, Infinity, 10, 20))).toBeUndefined();
    expect(codeOf(() => checkRange(11, 21, 2 ** 64, 10, 20))).toBeUndefined();
  });

  it("checkTerm() and checkCompact() differ at the dummy alone", () => {
    expect([9, 10, 11, 20, 21].map((index) => codeOf(() => checkTerm(index, 10, 20)))).toEqual([
      "ERR_COMPACTED",
      undefined,
      undefined,
      undefined,
      "ERR_UNAVAILABLE",
    ]);
    expect([9, 10, 11, 20, 21].map((index) => codeOf(() => checkCompact(index, 10, 20)))).toEqual([
      "ERR_COMPACTED",
      "ERR_COMPACTED",
      undefined,
      undefined,
      "ERR_UNAVAILABLE",
    ]);
  });

  it("checkCreateSnapshot() compares with the snapshot first, then with the log", () => {
    const data = new Uint8Array(0);
    const at = (index: number, snapshotIndex: number): ErrorCode | undefined =>
      codeOf(() => checkCreateSnapshot(index, undefined, data, 10, 20, snapshotIndex));
    expect([7, 8, 9, 10, 20, 21].map((index) => at(index, 8))).toEqual([
      "ERR_SNAP_OUT_OF_DATE",
      "ERR_SNAP_OUT_OF_DATE",
      "ERR_COMPACTED",
      undefined,
      undefined,
      "ERR_UNAVAILABLE",
    ]);
    expect(at(15, 15)).toBe("ERR_SNAP_OUT_OF_DATE");
    expect(at(25, 30)).toBe("ERR_SNAP_OUT_OF_DATE");
  });

  it("checkStageSnapshot() refuses what a save could not take any more", () => {
    async function* none(): AsyncGenerator<Uint8Array> {}
    const at = (index: number): ErrorCode | undefined =>
      codeOf(() => checkStageSnapshot(snapshotAt(index).metadata, none(), 8));
    expect([0, 7, 8, 9].map(at)).toEqual([
      "ERR_INVALID_ARGUMENT",
      "ERR_SNAP_OUT_OF_DATE",
      "ERR_SNAP_OUT_OF_DATE",
      undefined,
    ]);
  });

  it("sameMetadata() compares every field", () => {
    const confState = { voters: [1n], learners: [2n], votersOutgoing: [3n], learnersNext: [4n], autoLeave: true };
    const metadata = { index: 5, term: 6, confState };
    expect(sameMetadata(metadata, structuredClone(metadata))).toBe(true);
    expect(sameMetadata(metadata, { ...metadata, index: 6 })).toBe(false);
    expect(sameMetadata(metadata, { ...metadata, term: 5 })).toBe(false);
    for (const field of ["voters", "learners", "votersOutgoing", "learnersNext"] as const) {
      for (const ids of [[], [9n], [...confState[field], 9n]]) {
        expect(sameMetadata(metadata, { ...metadata, confState: { ...confState, [field]: ids } }), field).toBe(false);
      }
    }
    expect(sameMetadata(metadata, { ...metadata, confState: { ...confState, autoLeave: false } })).toBe(false);
  });

  it("streamError() wraps what a stream threw and lets a StableLogError through", () => {
    const own = new StableLogError("ERR_CORRUPT", "read");
    expect(streamError("create snapshot", 5, own)).toBe(own);
    const wrapped = streamError("create snapshot", 5, "gone");
    expect(wrapped).toMatchObject({ code: "ERR_IO", cause: "gone" });
    expect(wrapped.message).toMatch(/after 5 bytes/);
  });
});
