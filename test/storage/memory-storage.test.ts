// What MemoryStorage has beyond the suite of conformance.test.ts: etcd's synchronous methods, effects before a method
// returns, and snapshots whose data is still on its way while other calls pass by.

import { describe, expect, it } from "vitest";
import { type ErrorCode, StableLogError } from "../../src/base/errors.js";
import { type ConfState, type Entry, EntryType, emptyConfState, type Snapshot } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";

function run(begin: number, ...terms: number[]): Entry[] {
  return terms.map((term, i) => ({ term, index: begin + i, type: EntryType.Normal, data: Uint8Array.of(term) }));
}

function votedBy(...voters: bigint[]): ConfState {
  return { ...emptyConfState(), voters };
}

function snapshotAt(index: number, term: number, confState = emptyConfState(), ...data: number[]): Snapshot {
  return { metadata: { index, term, confState }, data: Uint8Array.from(data) };
}

function termsOf(storage: MemoryStorage): number[] {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  return last < first ? [] : storage.entries(first, last + 1).map((entry) => entry.term);
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

/** A stream that gives its pieces when it is told to. */
function gate(): { stream: AsyncIterable<Uint8Array>; end(...data: number[]): void; fail(error: Error): void } {
  let open: (data: Uint8Array) => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const ready = new Promise<Uint8Array>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  async function* stream(): AsyncGenerator<Uint8Array> {
    yield await ready;
  }
  return { stream: stream(), end: (...data) => open(Uint8Array.from(data)), fail };
}

describe("MemoryStorage: etcd's synchronous methods", () => {
  it("setHardState() overwrites, and judges neither term nor commit", () => {
    const storage = new MemoryStorage();
    for (const hardState of [
      { term: 5, vote: 0xffffffffffffffffn, commit: 9 },
      { term: 2, vote: 1n, commit: 3 },
      { term: 0, vote: 0n, commit: 0 },
    ]) {
      storage.setHardState(hardState);
      expect(storage.initialState().hardState).toEqual(hardState);
    }
  });

  it("setHardState() copies and throws ERR_INVALID_ARGUMENT when a field is out of range", () => {
    const storage = new MemoryStorage();
    const hardState = { term: 1, vote: 1n, commit: 1 };
    storage.setHardState(hardState);
    hardState.term = 9;
    for (const bad of [null, undefined, {}, { ...hardState, term: -1 }, { ...hardState, vote: 1 }]) {
      expect(codeOf(() => storage.setHardState(bad as typeof hardState))).toBe("ERR_INVALID_ARGUMENT");
    }
    expect(storage.initialState().hardState).toEqual({ term: 1, vote: 1n, commit: 1 });
  });

  // A log of dummy 7 (term 2) and 8 to 10 (terms 2, 3, 3).
  const appends: [begin: number, terms: number[], after: number[]][] = [
    [11, [4, 4], [2, 3, 3, 4, 4]],
    [10, [4], [2, 3, 4]],
    [8, [5], [5]],
    [6, [1, 2, 6, 6], [6, 6]],
    [5, [1, 1, 1], [2, 3, 3]],
    [1, [1], [2, 3, 3]],
    [8, [2, 3, 3], [2, 3, 3]],
    [9, [], [2, 3, 3]],
  ];
  for (const [begin, terms, after] of appends) {
    it(`append() leaves terms ${after.join(" ")} when terms ${terms.join(" ") || "(none)"} come at ${begin}`, () => {
      const storage = new MemoryStorage();
      storage.applySnapshot(snapshotAt(7, 2));
      storage.append(run(8, 2, 3, 3));
      storage.append(run(begin, ...terms));
      expect(storage.firstIndex()).toBe(8);
      expect(termsOf(storage)).toEqual(after);
      expect(storage.term(7)).toBe(2);
    });
  }

  it("append() throws ERR_GAP when entries are missing, and changes nothing", () => {
    const storage = new MemoryStorage();
    storage.append(run(1, 1, 1));
    expect(codeOf(() => storage.append(run(4, 1)))).toBe("ERR_GAP");
    expect(codeOf(() => storage.append([...run(2, 5), ...run(4, 5)]))).toBe("ERR_GAP");
    expect(codeOf(() => storage.append(null as unknown as Entry[]))).toBe("ERR_INVALID_ARGUMENT");
    expect(termsOf(storage)).toEqual([1, 1]);
  });

  it("append() and save() go on when setHardState() has put commit ahead", async () => {
    const storage = new MemoryStorage();
    storage.setHardState({ term: 1, vote: 0n, commit: 3 });
    storage.append(run(1, 1));
    await storage.save({ entries: run(2, 1) });
    storage.append(run(1, 2));
    expect(termsOf(storage)).toEqual([2]);
  });

  it("append() copies the payload", () => {
    const storage = new MemoryStorage();
    const entries = run(1, 3);
    storage.append(entries);
    entries[0]?.data.fill(9);
    expect(storage.entries(1, 2)[0]?.data).toEqual(Uint8Array.of(3));
  });

  it("applySnapshot() drops all entries, throws ERR_SNAP_OUT_OF_DATE, and leaves HardState alone", () => {
    const storage = new MemoryStorage();
    storage.append(run(1, 1, 1, 1, 1, 1));
    storage.setHardState({ term: 1, vote: 2n, commit: 5 });
    storage.applySnapshot(snapshotAt(4, 1, votedBy(1n), 42));
    expect([storage.firstIndex(), storage.lastIndex(), storage.term(4)]).toEqual([5, 4, 1]);
    expect(storage.snapshot()).toEqual(snapshotAt(4, 1, votedBy(1n), 42));
    expect(storage.initialState()).toEqual({ hardState: { term: 1, vote: 2n, commit: 5 }, confState: votedBy(1n) });
    expect(codeOf(() => storage.applySnapshot(snapshotAt(4, 1)))).toBe("ERR_SNAP_OUT_OF_DATE");
    expect(codeOf(() => storage.applySnapshot(snapshotAt(3, 1)))).toBe("ERR_SNAP_OUT_OF_DATE");
    expect(codeOf(() => storage.applySnapshot(snapshotAt(0, 0, votedBy(2n))))).toBe("ERR_SNAP_OUT_OF_DATE");
    expect(storage.snapshot().metadata.index).toBe(4);
  });

  it("applySnapshot() takes only the ConfState when the index is 0", () => {
    const storage = new MemoryStorage();
    storage.append(run(1, 1));
    storage.applySnapshot(snapshotAt(0, 0, votedBy(1n, 2n), 7));
    expect(storage.initialState().confState).toEqual(votedBy(1n, 2n));
    expect(storage.snapshot()).toEqual(snapshotAt(0, 0, votedBy(1n, 2n)));
    expect(termsOf(storage)).toEqual([1]);
  });

  it("applySnapshot() may go below the dummy, as etcd's does", () => {
    const storage = new MemoryStorage();
    storage.append(run(1, 1, 1, 1, 1));
    void storage.compact(3);
    storage.applySnapshot(snapshotAt(2, 1));
    expect([storage.firstIndex(), storage.lastIndex()]).toEqual([3, 2]);
  });
});

describe("MemoryStorage: when effects are there", () => {
  it("save(), createSnapshot() and compact() take effect before they return", async () => {
    const storage = new MemoryStorage();
    const promises: Promise<unknown>[] = [];
    promises.push(storage.save({ entries: run(1, 1, 1, 2), hardState: { term: 2, vote: 1n, commit: 2 } }));
    expect(termsOf(storage)).toEqual([1, 1, 2]);
    expect(storage.initialState().hardState).toEqual({ term: 2, vote: 1n, commit: 2 });
    promises.push(storage.createSnapshot(2, votedBy(1n), Uint8Array.of(5)));
    expect(storage.snapshot()).toEqual(snapshotAt(2, 1, votedBy(1n), 5));
    promises.push(storage.compact(2));
    expect(storage.firstIndex()).toBe(3);
    promises.push(storage.close());
    expect(codeOf(() => storage.lastIndex())).toBe("ERR_CLOSED");
    await Promise.all(promises);
  });

  it("save() rejects with what a getter of the caller throws, and changes nothing", async () => {
    const storage = new MemoryStorage();
    await storage.save({ entries: run(1, 1) });
    const batch = {
      entries: run(2, 1),
      get hardState(): never {
        throw new RangeError("not today");
      },
    };
    await expect(storage.save(batch)).rejects.toThrow("not today");
    expect(storage.lastIndex()).toBe(1);
  });
});

describe("MemoryStorage: snapshots from streams", () => {
  async function filled(): Promise<MemoryStorage> {
    const storage = new MemoryStorage();
    await storage.save({ entries: run(1, 1, 1, 2, 2, 3, 3) });
    return storage;
  }

  it("createSnapshot() shows the old snapshot until its stream has ended", async () => {
    const storage = await filled();
    const { stream, end } = gate();
    const created = storage.createSnapshot(4, votedBy(1n), stream);
    expect(storage.snapshot().metadata.index).toBe(0);
    end(1, 2);
    expect(await created).toEqual({ index: 4, term: 2, confState: votedBy(1n) });
    expect(storage.snapshot()).toEqual(snapshotAt(4, 2, votedBy(1n), 1, 2));
  });

  it("createSnapshot() has its place from the call on", async () => {
    const storage = await filled();
    const { stream, end } = gate();
    const created = storage.createSnapshot(4, votedBy(1n), stream);
    await expect(storage.createSnapshot(4, votedBy(2n), Uint8Array.of())).rejects.toMatchObject({
      code: "ERR_SNAP_OUT_OF_DATE",
    });
    await expect(storage.save({ snapshot: snapshotAt(3, 2) })).rejects.toMatchObject({ code: "ERR_SNAP_OUT_OF_DATE" });
    // The term is that of the entry it was called for, and compaction does not take it away.
    await storage.save({ entries: run(4, 9, 9, 9) });
    await storage.compact(6);
    end(1);
    expect((await created).term).toBe(2);
    expect(storage.snapshot().metadata).toEqual({ index: 4, term: 2, confState: votedBy(1n) });
  });

  it("createSnapshot() does not replace a later snapshot that was quicker", async () => {
    const storage = await filled();
    const slow = gate();
    const created = storage.createSnapshot(3, votedBy(3n), slow.stream);
    // The ConfState it keeps on is that of the one before it, though that is still on its way.
    expect(await storage.createSnapshot(5, undefined, Uint8Array.of(5))).toEqual({
      index: 5,
      term: 3,
      confState: votedBy(3n),
    });
    slow.end(3);
    expect((await created).index).toBe(3);
    expect(storage.snapshot()).toEqual(snapshotAt(5, 3, votedBy(3n), 5));
    await expect(storage.createSnapshot(5, undefined, Uint8Array.of())).rejects.toMatchObject({
      code: "ERR_SNAP_OUT_OF_DATE",
    });
  });

  it("createSnapshot() gives its place back when its stream fails", async () => {
    const storage = await filled();
    const { stream, fail } = gate();
    const created = storage.createSnapshot(4, votedBy(1n), stream);
    const cause = new Error("gone");
    fail(cause);
    await expect(created).rejects.toMatchObject({ code: "ERR_IO", cause });
    expect(storage.snapshot().metadata.index).toBe(0);
    await storage.createSnapshot(2, votedBy(2n), Uint8Array.of(2));
    expect(storage.snapshot()).toEqual(snapshotAt(2, 1, votedBy(2n), 2));
  });

  it("stageSnapshot() rejects with ERR_SNAP_OUT_OF_DATE when a newer snapshot overtakes its stream", async () => {
    const storage = await filled();
    const { stream, end } = gate();
    const staged = storage.stageSnapshot(snapshotAt(9, 3).metadata, stream);
    await storage.save({ snapshot: snapshotAt(10, 3) });
    end(1);
    await expect(staged).rejects.toMatchObject({ code: "ERR_SNAP_OUT_OF_DATE" });
  });

  it("stageSnapshot() keeps what is staged for one snapshot from another", async () => {
    const storage = await filled();
    async function* nine(): AsyncGenerator<Uint8Array> {
      yield Uint8Array.of(9);
    }
    await storage.stageSnapshot(snapshotAt(9, 3, votedBy(1n)).metadata, nine());
    await storage.save({ snapshot: snapshotAt(8, 3, votedBy(1n)) });
    expect(storage.snapshot().data.length).toBe(0);
    await storage.save({ snapshot: snapshotAt(9, 3, votedBy(1n)) });
    expect(storage.snapshot().data).toEqual(Uint8Array.of(9));
  });

  it("close() waits for the streams of snapshots, those that fail too", async () => {
    const storage = await filled();
    const good = gate();
    const bad = gate();
    const order: string[] = [];
    const created = storage.createSnapshot(3, undefined, good.stream).then(() => order.push("created"));
    const failed = storage.createSnapshot(4, undefined, bad.stream).catch(() => order.push("failed"));
    const closed = storage.close().then(() => order.push("closed"));
    await Promise.resolve();
    expect(order).toEqual([]);
    good.end(1);
    bad.fail(new Error("gone"));
    await Promise.all([created, failed, closed]);
    expect([...order].sort()).toEqual(["closed", "created", "failed"]);
    expect(order.at(-1)).toBe("closed");
  });

  it("[Symbol.asyncDispose]() closes", async () => {
    const storage = await filled();
    await storage[Symbol.asyncDispose]();
    expect(codeOf(() => storage.firstIndex())).toBe("ERR_CLOSED");
    expect(codeOf(() => storage.append([]))).toBe("ERR_CLOSED");
    expect(codeOf(() => storage.setHardState({ term: 1, vote: 1n, commit: 0 }))).toBe("ERR_CLOSED");
    expect(codeOf(() => storage.applySnapshot(snapshotAt(9, 9)))).toBe("ERR_CLOSED");
  });
});
