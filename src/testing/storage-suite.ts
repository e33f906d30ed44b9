// testStorage(): the contract of WritableStorage as a suite that proves any implementation in two lines. It runs under
// every runner that has describe and it, and asserts with node:assert. A storage that can be reopened is asked everything
// twice: as it stands, and again after it was closed and opened. Promises to close each storage it opened.

import assert from "node:assert/strict";
import { type ErrorCode, StableLogError } from "../base/errors.js";
import type { SaveBatch, WritableStorage } from "../raft/storage.js";
import {
  type ConfState,
  type Entry,
  EntryType,
  emptyConfState,
  emptyHardState,
  entrySize,
  type HardState,
  type Snapshot,
  type SnapshotMetadata,
} from "../raftpb/types.js";

/** Where the suite gets its storages. */
export interface StorageFactory {
  /** Stands in the name of every test. */
  name: string;
  /** A new, empty storage, in a place of its own. */
  open(): Promise<WritableStorage>;
  /** Closes this storage, which may be closed already, and opens its place again. Absent when nothing outlives a close. */
  reopen?: ((storage: WritableStorage) => Promise<WritableStorage>) | undefined;
}

/** The two words of a test runner. */
export interface SuiteApi {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: () => Promise<void>): unknown;
}

/**
 * Declares the suite for the storages of `factory`. Without `api` the runner's global describe and it are used.
 * @throws Error when there are none.
 */
export function testStorage(factory: StorageFactory, api: SuiteApi = globalApi()): void {
  const { describe, it } = api;

  function test(name: string, body: (log: Log) => Promise<void>): void {
    it(name, async () => {
      const log = new Log(factory, await factory.open());
      try {
        await body(log);
      } finally {
        await log.storage.close();
      }
    });
  }

  describe(`${factory.name}: an empty log`, () => {
    test("firstIndex() and lastIndex() are 1 and 0 when nothing was saved", async (log) => {
      await log.holds((storage) => {
        assert.equal(storage.firstIndex(), 1);
        assert.equal(storage.lastIndex(), 0);
      });
    });

    test("initialState() and snapshot() are empty, readSnapshot() is undefined when nothing was saved", async (log) => {
      await log.holds((storage) => {
        assert.deepEqual(stateOf(storage), { hardState: emptyHardState(), confState: emptyConfState() });
        assert.deepEqual(metadataOf(storage), { index: 0, term: 0, confState: emptyConfState() });
        assert.equal(storage.snapshot().data.length, 0);
        assert.equal(storage.readSnapshot(), undefined);
      });
    });

    test("term() knows the dummy and nothing else when nothing was saved", async (log) => {
      await log.holds((storage) => {
        assert.equal(storage.term(0), 0);
        throws("ERR_UNAVAILABLE", () => storage.term(1));
      });
    });

    test("entries() throws ERR_UNAVAILABLE when only the dummy is there", async (log) => {
      await log.holds((storage) => {
        throws("ERR_UNAVAILABLE", () => storage.entries(1, 1));
        throws("ERR_UNAVAILABLE", () => storage.entries(1, 2));
        throws("ERR_COMPACTED", () => storage.entries(0, 0));
        throws("ERR_COMPACTED", () => storage.entries(0, 1));
      });
    });
  });

  describe(`${factory.name}: the six reads`, () => {
    // Dummy 20 of term 2, then 21 to 26.
    async function fill(log: Log): Promise<void> {
      await log.storage.save({ snapshot: snapshotAt(20, 2), entries: run(21, 2, 3, 3, 3, 5, 8) });
    }

    test("entries() returns [lo, hi) for every range of a held log", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        const all = listing(run(21, 2, 3, 3, 3, 5, 8));
        for (let lo = 21; lo <= 27; lo++) {
          for (let hi = lo; hi <= 27; hi++) {
            assert.deepEqual(listing(storage.entries(lo, hi)), all.slice(lo - 21, hi - 21), `[${lo}, ${hi})`);
          }
        }
      });
    });

    test("entries() throws ERR_COMPACTED when lo is at or below the dummy", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        for (const lo of [0, 1, 19, 20]) {
          for (const hi of [20, 21, 27, 99]) throws("ERR_COMPACTED", () => storage.entries(lo, hi));
        }
      });
    });

    test("entries() throws ERR_UNAVAILABLE when hi is beyond lastIndex + 1", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        throws("ERR_UNAVAILABLE", () => storage.entries(21, 28));
        throws("ERR_UNAVAILABLE", () => storage.entries(28, 28));
        throws("ERR_UNAVAILABLE", () => storage.entries(26, Number.MAX_SAFE_INTEGER));
      });
    });

    test("entries() throws ERR_INVALID_ARGUMENT when lo is above hi, wherever they lie", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        throws("ERR_INVALID_ARGUMENT", () => storage.entries(24, 23));
        throws("ERR_INVALID_ARGUMENT", () => storage.entries(3, 2));
        throws("ERR_INVALID_ARGUMENT", () => storage.entries(99, 98));
      });
    });

    test("entries() throws ERR_INVALID_ARGUMENT when an argument is no number it can use", async (log) => {
      await fill(log);
      for (const bad of NOT_INDEXES) {
        throws("ERR_INVALID_ARGUMENT", () => log.storage.entries(garbage(bad), 24));
        throws("ERR_INVALID_ARGUMENT", () => log.storage.entries(21, garbage(bad)));
      }
      for (const bad of [-1, Number.NaN, null, "9", 9n, {}]) {
        throws("ERR_INVALID_ARGUMENT", () => log.storage.entries(21, 24, garbage(bad)));
      }
    });

    test("entries() returns the most that fits maxSize, and never less than one", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        const all = storage.entries(21, 27);
        assert.equal(storage.entries(21, 27, 0).length, 1);
        let bytes = 0;
        all.forEach((entry, i) => {
          bytes += entrySize(entry);
          assert.equal(storage.entries(21, 27, bytes).length, i + 1, `${bytes} bytes`);
          assert.equal(storage.entries(21, 27, bytes - 1).length, Math.max(1, i), `${bytes - 1} bytes`);
        });
        assert.equal(storage.entries(21, 27, Number.MAX_SAFE_INTEGER).length, 6);
        assert.equal(storage.entries(21, 27, undefined).length, 6);
        assert.deepEqual(storage.entries(22, 22, 0), []);
      });
    });

    test("entries() counts a type and empty data as entrySize() does", async (log) => {
      const entries: Entry[] = [
        { term: 1, index: 1, type: EntryType.Normal, data: new Uint8Array(0) },
        { term: 1, index: 2, type: EntryType.ConfChangeV2, data: new Uint8Array(0) },
        { term: 300, index: 3, type: EntryType.ConfChange, data: new Uint8Array(130) },
      ];
      await log.storage.save({ entries });
      await log.holds((storage) => {
        // Tags and varints: 4 for index and term, 2 more for the type; 5 + 2 + 3 + 130 for the last.
        assert.equal(storage.entries(1, 4, 10).length, 2);
        assert.equal(storage.entries(1, 4, 9).length, 1);
        assert.equal(storage.entries(1, 4, 149).length, 2);
        assert.equal(storage.entries(1, 4, 150).length, 3);
      });
    });

    test("entries() returns a new array each time", async (log) => {
      await fill(log);
      const first = log.storage.entries(21, 27);
      first.length = 1;
      first.push(entry(99, 99));
      assert.equal(log.storage.entries(21, 27).length, 6);
      assert.equal(log.storage.lastIndex(), 26);
    });

    test("entries() returns plain Uint8Arrays when Buffers were saved", async (log) => {
      await log.storage.save({ entries: [{ ...entry(1, 1), data: Buffer.from("buffer") }] });
      await log.holds((storage) => {
        const data = storage.entries(1, 2)[0]?.data;
        assert.ok(data instanceof Uint8Array && !Buffer.isBuffer(data));
        assert.equal(Buffer.from(data).toString(), "buffer");
      });
    });

    test("term() answers from the dummy to lastIndex and throws beyond both", async (log) => {
      await fill(log);
      await log.holds((storage) => {
        assert.deepEqual(
          [20, 21, 22, 23, 24, 25, 26].map((index) => storage.term(index)),
          [2, 2, 3, 3, 3, 5, 8],
        );
        throws("ERR_COMPACTED", () => storage.term(19));
        throws("ERR_COMPACTED", () => storage.term(0));
        throws("ERR_UNAVAILABLE", () => storage.term(27));
        throws("ERR_UNAVAILABLE", () => storage.term(Number.MAX_SAFE_INTEGER));
      });
      for (const bad of NOT_INDEXES) throws("ERR_INVALID_ARGUMENT", () => log.storage.term(garbage(bad)));
    });

    test("initialState() and snapshot() return copies", async (log) => {
      await log.storage.save({ snapshot: snapshotAt(20, 2, CONF_A), hardState: { term: 2, vote: 1n, commit: 20 } });
      const state = log.storage.initialState();
      state.hardState.commit = 1;
      state.confState.voters.push(99n);
      log.storage.snapshot().metadata.confState.voters.push(99n);
      assert.deepEqual(stateOf(log.storage), { hardState: { term: 2, vote: 1n, commit: 20 }, confState: CONF_A });
      assert.deepEqual(metadataOf(log.storage).confState, CONF_A);
    });
  });

  describe(`${factory.name}: save() of entries`, () => {
    test("save() appends entries of every type and size", async (log) => {
      const sizes = [0, 1, 7, 8, 9, 63, 64, 65, 255, 256, 4095, 4096, 4097, 65535, 65536, 200_000];
      const types = [EntryType.Normal, EntryType.ConfChange, EntryType.ConfChangeV2];
      const entries = sizes.map((bytes, i): Entry => {
        const data = Uint8Array.from({ length: bytes }, (_, at) => (at * 7 + i) % 256);
        return { term: 1 + i, index: 1 + i, type: types[i % 3] ?? EntryType.Normal, data };
      });
      await log.storage.save({ entries });
      await log.holds((storage) => {
        assert.deepEqual(listing(storage.entries(1, entries.length + 1)), listing(entries));
        assert.equal(storage.lastIndex(), entries.length);
      });
    });

    test("save() appends when the entries follow the last one", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1) });
      await log.storage.save({ entries: run(3, 2) });
      await log.storage.save({ entries: run(4, 2, 3) });
      await log.holdsTerms(1, [1, 1, 2, 2, 3]);
    });

    // What a log of dummy 20 (term 2) and 21 to 24 (terms 3, 3, 4, 4) becomes.
    const overlaps: [what: string, begin: number, terms: number[], after: number[]][] = [
      ["the same entries come again", 21, [3, 3, 4, 4], [3, 3, 4, 4]],
      ["the first ones come again, and takes the rest away", 21, [3, 3], [3, 3]],
      ["the last one is replaced", 24, [9], [3, 3, 4, 9]],
      ["one in the middle is replaced, and takes the rest away", 22, [9], [3, 9]],
      ["a suffix is replaced by a longer one", 23, [9, 9, 9], [3, 3, 9, 9, 9]],
      ["everything is replaced by more", 21, [7, 7, 7, 7, 7, 7], [7, 7, 7, 7, 7, 7]],
      ["they begin below the dummy, and leaves out what is at or below it", 18, [1, 1, 2, 9, 9], [9, 9]],
      ["they begin at the dummy, and leaves that one out", 20, [2, 3, 3, 4, 4, 4], [3, 3, 4, 4, 4]],
      ["they end right above the dummy, and takes the rest away", 19, [1, 2, 9], [9]],
      ["all are at or below the dummy, and changes nothing", 17, [1, 1, 1, 1], [3, 3, 4, 4]],
      ["all are far below the dummy, and changes nothing", 3, [1], [3, 3, 4, 4]],
    ];
    for (const [what, begin, terms, after] of overlaps) {
      test(`save() replaces from the first entry on when ${what}`, async (log) => {
        await log.storage.save({ snapshot: snapshotAt(20, 2), entries: run(21, 3, 3, 4, 4) });
        await log.storage.save({ entries: run(begin, ...terms) });
        await log.holdsTerms(21, after);
        await log.holds((storage) => {
          assert.equal(storage.firstIndex(), 21);
          assert.equal(storage.term(20), 2);
        });
      });
    }

    test("save() takes the HardState when all its entries are at or below the dummy", async (log) => {
      await log.storage.save({ snapshot: snapshotAt(20, 2) });
      await log.storage.save({ entries: run(19, 1, 2), hardState: { term: 6, vote: 3n, commit: 20 } });
      await log.holdsTerms(21, []);
      await log.holds((storage) => {
        assert.deepEqual(storage.initialState().hardState, { term: 6, vote: 3n, commit: 20 });
      });
    });

    test("save() rejects with ERR_GAP when the entries begin beyond lastIndex + 1", async (log) => {
      await log.refuses("ERR_GAP", { entries: run(2, 1) });
      await log.storage.save({ entries: run(1, 1, 1) });
      await log.refuses("ERR_GAP", { entries: run(4, 1) });
      await log.refuses("ERR_GAP", { entries: run(4, 1), hardState: { term: 1, vote: 0n, commit: 1 } });
    });

    test("save() rejects with ERR_GAP when an index is skipped, repeated or goes back", async (log) => {
      await log.storage.save({ snapshot: snapshotAt(20, 2), entries: run(21, 3, 3) });
      await log.refuses("ERR_GAP", { entries: [entry(23, 3), entry(25, 3)] });
      await log.refuses("ERR_GAP", { entries: [entry(23, 3), entry(23, 3)] });
      await log.refuses("ERR_GAP", { entries: [entry(23, 3), entry(22, 3)] });
      await log.refuses("ERR_GAP", { entries: [entry(17, 1), entry(19, 1)] });
    });

    test("save() keeps the largest index and term", async (log) => {
      const last = Number.MAX_SAFE_INTEGER - 1;
      await log.storage.save({ snapshot: snapshotAt(last - 2, 7) });
      await log.storage.save({ entries: [entry(last - 1, 7), entry(last, last)] });
      await log.storage.save({ hardState: { term: last, vote: 1n, commit: last } });
      await log.holds((storage) => {
        assert.equal(storage.lastIndex(), last);
        assert.equal(storage.term(last), last);
        assert.deepEqual(listing(storage.entries(last, last + 1)), listing([entry(last, last)]));
        assert.deepEqual(storage.initialState().hardState, { term: last, vote: 1n, commit: last });
      });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: [entry(last + 1, 7)] });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: [entry(last, 7), entry(last + 1, 7)] });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when an entry is no entry", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1) });
      const bad: unknown[] = [undefined, null, 4, "4", {}];
      for (const index of [0, ...NOT_INDEXES]) bad.push({ ...entry(4, 1), index });
      for (const term of NOT_INDEXES) bad.push({ ...entry(4, 1), term });
      for (const type of [3, -1, 0.5, "0", null, undefined]) bad.push({ ...entry(4, 1), type });
      const views = [new Uint16Array(1), new DataView(new ArrayBuffer(8)), new Uint8ClampedArray(1)];
      for (const data of [undefined, null, "text", [1, 2], new ArrayBuffer(8), ...views]) {
        bad.push({ ...entry(4, 1), data });
      }
      for (const value of bad) await log.refuses("ERR_INVALID_ARGUMENT", { entries: [garbage(value)] });
      // Not only in the first place, and not only in a place that is written.
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: [entry(4, 1), garbage(null)] });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: [entry(4, 1), garbage({ ...entry(5, 1), data: "text" })] });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: new Array<Entry>(1) });
    });

    test("save() rejects with ERR_TOO_LARGE when an entry exceeds 64 MiB or all together 1 GiB", async (log) => {
      const most = 64 * 1024 * 1024;
      await log.refuses("ERR_TOO_LARGE", { entries: [{ ...entry(1, 1), data: new Uint8Array(most + 1) }] });
      const data = new Uint8Array(most);
      const entries = Array.from({ length: 17 }, (_, i) => ({ ...entry(1 + i, 1), data }));
      await log.refuses("ERR_TOO_LARGE", { entries });
    });
  });

  describe(`${factory.name}: save() of a HardState`, () => {
    test("save() keeps the last HardState, a vote of 64 bits included", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1), hardState: { term: 3, vote: 0xffffffffffffffffn, commit: 1 } });
      await log.holdsHardState({ term: 3, vote: 0xffffffffffffffffn, commit: 1 });
      await log.storage.save({ hardState: { term: 4, vote: 0x8000000000000001n, commit: 2 } });
      await log.holdsHardState({ term: 4, vote: 0x8000000000000001n, commit: 2 });
      await log.holdsTerms(1, [1, 1]);
    });

    test("save() takes a commit that goes back and a vote that changes within a term", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1), hardState: { term: 3, vote: 5n, commit: 2 } });
      await log.storage.save({ hardState: { term: 3, vote: 5n, commit: 1 } });
      await log.holdsHardState({ term: 3, vote: 5n, commit: 1 });
      await log.storage.save({ hardState: { term: 3, vote: 6n, commit: 1 } });
      await log.holdsHardState({ term: 3, vote: 6n, commit: 1 });
      await log.storage.save({ hardState: { term: 3, vote: 0n, commit: 0 } });
      await log.holdsHardState({ term: 3, vote: 0n, commit: 0 });
    });

    test("save() takes an all-zero HardState for none", async (log) => {
      await log.storage.save({ entries: run(1, 1), hardState: { term: 3, vote: 5n, commit: 1 } });
      await log.storage.save({ hardState: emptyHardState() });
      await log.storage.save({ hardState: emptyHardState(), entries: run(2, 3) });
      await log.holdsHardState({ term: 3, vote: 5n, commit: 1 });
      await log.holdsTerms(1, [1, 3]);
    });

    test("save() keeps a commit-only save across a close", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1), hardState: { term: 1, vote: 2n, commit: 1 } });
      await log.storage.save({ hardState: { term: 1, vote: 2n, commit: 2 } });
      await log.holdsHardState({ term: 1, vote: 2n, commit: 2 });
      await log.storage.save({ hardState: { term: 1, vote: 2n, commit: 3 }, mustSync: false });
      await log.holdsHardState({ term: 1, vote: 2n, commit: 3 });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when its term goes back", async (log) => {
      await log.storage.save({ entries: run(1, 1), hardState: { term: 3, vote: 5n, commit: 1 } });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 2, vote: 5n, commit: 1 } });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 0, vote: 5n, commit: 0 } });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 2, vote: 0n, commit: 1 }, entries: run(2, 3) });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when its commit exceeds the last index after it", async (log) => {
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: 0n, commit: 1 } });
      await log.storage.save({ entries: run(1, 1, 1, 1) });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: 0n, commit: 4 } });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: 0n, commit: 5 }, entries: run(4, 1) });
      await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: 0n, commit: 3 }, entries: run(2, 2) });
      await log.storage.save({ hardState: { term: 1, vote: 0n, commit: 4 }, entries: run(4, 1) });
      await log.holdsHardState({ term: 1, vote: 0n, commit: 4 });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when its entries cut the log below commit", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1, 1), hardState: { term: 1, vote: 0n, commit: 3 } });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: run(2, 2) });
      await log.refuses("ERR_INVALID_ARGUMENT", { snapshot: snapshotAt(2, 1) });
      await log.storage.save({ entries: run(2, 2, 2) });
      await log.holdsTerms(1, [1, 2, 2]);
      await log.storage.save({ entries: run(1, 3), hardState: { term: 3, vote: 0n, commit: 1 } });
      await log.holdsTerms(1, [3]);
      await log.holdsHardState({ term: 3, vote: 0n, commit: 1 });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when a field of the HardState is out of range", async (log) => {
      await log.storage.save({ entries: run(1, 1) });
      for (const bad of NOT_INDEXES) {
        await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: garbage(bad), vote: 1n, commit: 1 } });
        await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: 1n, commit: garbage(bad) } });
      }
      for (const bad of NOT_IDS) {
        await log.refuses("ERR_INVALID_ARGUMENT", { hardState: { term: 1, vote: garbage(bad), commit: 1 } });
      }
    });
  });

  describe(`${factory.name}: save() of anything`, () => {
    test("save() resolves and changes nothing when there is nothing in it", async (log) => {
      await log.storage.save({ entries: run(1, 1), hardState: { term: 1, vote: 1n, commit: 1 } });
      const before = await imageOf(log.storage);
      const absent = { hardState: undefined, entries: undefined, snapshot: undefined, mustSync: undefined };
      const empty: Snapshot = { metadata: metadataAt(0, 0), data: new Uint8Array(0) };
      for (const batch of [{}, absent, { entries: [] }, { snapshot: empty }, { mustSync: true }, { mustSync: false }]) {
        assert.equal(await log.storage.save(batch), undefined);
      }
      await log.holds(async (storage) => assert.deepEqual(await imageOf(storage), before));
    });

    test("save() takes a Ready, with all else that stands in one", async (log) => {
      const ready = {
        softState: { lead: 1n, raftState: 2 },
        hardState: { term: 1, vote: 1n, commit: 1 },
        readStates: [],
        entries: run(1, 1),
        snapshot: { metadata: metadataAt(0, 0), data: new Uint8Array(0) },
        committedEntries: run(1, 1),
        messages: [{}],
        mustSync: true,
      };
      await log.storage.save(ready);
      await log.holdsTerms(1, [1]);
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when a field is null or of a wrong type", async (log) => {
      await log.storage.save({ entries: run(1, 1) });
      for (const bad of [undefined, null, 7, "batch", 7n, true, [], [entry(2, 1)]]) {
        await log.refuses("ERR_INVALID_ARGUMENT", garbage(bad));
      }
      for (const bad of [null, 7, "x", true]) {
        for (const field of ["hardState", "entries", "snapshot"]) {
          await log.refuses("ERR_INVALID_ARGUMENT", garbage({ [field]: bad }));
        }
      }
      for (const bad of [null, 1, 0, "true"]) {
        await log.refuses("ERR_INVALID_ARGUMENT", { entries: run(2, 1), mustSync: garbage(bad) });
      }
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: garbage({ length: 0 }) });
      await log.refuses("ERR_INVALID_ARGUMENT", { entries: garbage(new Set(run(2, 1))) });
    });

    test("save() copies what it is given before it returns", async (log) => {
      const data = Uint8Array.of(1, 2, 3);
      const given = { term: 1, index: 1, type: EntryType.Normal, data };
      const entries: Entry[] = [given, entry(2, 1)];
      const hardState = { term: 1, vote: 1n, commit: 2 };
      const saved = log.storage.save({ entries, hardState });
      data.fill(9);
      given.term = 9;
      entries.length = 0;
      hardState.commit = 9;
      await saved;
      await log.holds((storage) => {
        assert.deepEqual([...(storage.entries(1, 2)[0]?.data ?? [])], [1, 2, 3]);
        assert.equal(storage.term(1), 1);
        assert.equal(storage.lastIndex(), 2);
        assert.equal(storage.initialState().hardState.commit, 2);
      });
    });

    test("save() resolves in the order of the calls, an empty one after all before it", async (log) => {
      const order: number[] = [];
      const batches: SaveBatch[] = [
        { entries: run(1, 1, 1) },
        { hardState: { term: 1, vote: 1n, commit: 1 } },
        { hardState: { term: 1, vote: 1n, commit: 2 } },
        {},
        { entries: run(2, 2) },
        {},
      ];
      await Promise.all(batches.map((batch, i) => log.storage.save(batch).then(() => order.push(i))));
      assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
      await log.holdsTerms(1, [1, 2]);
    });

    test("save() is checked against the saves still queued before it", async (log) => {
      const { storage } = log;
      const first = storage.save({ entries: run(1, 1, 1), hardState: { term: 2, vote: 1n, commit: 2 } });
      const gap = storage.save({ entries: run(4, 1) });
      const back = storage.save({ hardState: { term: 1, vote: 1n, commit: 2 } });
      const beyond = storage.save({ hardState: { term: 2, vote: 1n, commit: 3 } });
      const next = storage.save({ entries: run(3, 2) });
      const outcomes = await Promise.allSettled([first, gap, back, beyond, next]);
      assert.deepEqual(
        outcomes.map((outcome) => (outcome.status === "fulfilled" ? "saved" : codeOf(outcome.reason))),
        ["saved", "ERR_GAP", "ERR_INVALID_ARGUMENT", "ERR_INVALID_ARGUMENT", "saved"],
      );
      await log.holdsTerms(1, [1, 1, 2]);
      await log.holdsHardState({ term: 2, vote: 1n, commit: 2 });
    });

    test("save() holds many saves in flight, overwrites among them", async (log) => {
      const saves: Promise<void>[] = [];
      for (let i = 0; i < 200; i++) {
        // Each one takes back what the one before wrote last, and adds two.
        saves.push(
          log.storage.save({ entries: run(i + 1, i + 1, i + 1), hardState: { term: i + 1, vote: 1n, commit: i } }),
        );
      }
      await Promise.all(saves);
      await log.holdsTerms(1, [...Array.from({ length: 200 }, (_, i) => i + 1), 200]);
      await log.holdsHardState({ term: 200, vote: 1n, commit: 199 });
    });
  });

  describe(`${factory.name}: save() of a snapshot`, () => {
    test("save() replaces the whole log when the snapshot is beyond it", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1) });
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A, "forty") });
      await log.holdsTerms(41, []);
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "forty");
      await log.holds((storage) => {
        assert.equal(storage.firstIndex(), 41);
        assert.equal(storage.term(40), 6);
        throws("ERR_COMPACTED", () => storage.term(3));
        throws("ERR_COMPACTED", () => storage.entries(3, 4));
        throws("ERR_UNAVAILABLE", () => storage.entries(41, 41));
        assert.deepEqual(storage.initialState().confState, CONF_A);
      });
    });

    test("save() drops the entries behind the snapshot too", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1, 1, 1) });
      await log.storage.save({ snapshot: snapshotAt(3, 1, CONF_A, "three") });
      await log.holdsTerms(4, []);
      await log.storage.save({ entries: run(4, 2) });
      await log.holdsTerms(4, [2]);
    });

    test("save() applies snapshot, entries and HardState in this order", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1) });
      await log.storage.save({
        snapshot: snapshotAt(40, 6, CONF_A, "forty"),
        entries: run(39, 5, 6, 6, 7),
        hardState: { term: 7, vote: 2n, commit: 42 },
      });
      await log.holdsTerms(41, [6, 7]);
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "forty");
      await log.holdsHardState({ term: 7, vote: 2n, commit: 42 });
    });

    test("save() rejects all of it when the entries leave a gap after its snapshot", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1, 1) });
      await log.refuses("ERR_GAP", { snapshot: snapshotAt(40, 6), entries: run(42, 6) });
      await log.refuses("ERR_INVALID_ARGUMENT", {
        snapshot: snapshotAt(40, 6),
        hardState: { term: 6, vote: 0n, commit: 41 },
      });
    });

    test("save() rejects with ERR_SNAP_OUT_OF_DATE when the snapshot is no newer than the one held", async (log) => {
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A, "forty"), entries: run(41, 6) });
      await log.refuses("ERR_SNAP_OUT_OF_DATE", { snapshot: snapshotAt(40, 6) });
      await log.refuses("ERR_SNAP_OUT_OF_DATE", { snapshot: snapshotAt(39, 6), entries: run(42, 6) });
      await log.storage.save({ snapshot: snapshotAt(41, 6, CONF_B, "next") });
      await log.holdsSnapshot(metadataAt(41, 6, CONF_B), "next");
    });

    test("save() takes only the ConfState when the snapshot has index 0", async (log) => {
      await log.storage.save({ entries: run(1, 1, 1) });
      await log.storage.save({ snapshot: { metadata: metadataAt(0, 0, CONF_A), data: new Uint8Array(0) } });
      await log.holdsTerms(1, [1, 1]);
      await log.holds((storage) => {
        assert.deepEqual(storage.initialState().confState, CONF_A);
        assert.deepEqual(metadataOf(storage), { index: 0, term: 0, confState: CONF_A });
        assert.equal(storage.readSnapshot(), undefined);
      });
      const snapshot = { metadata: metadataAt(0, 0, CONF_B), data: new Uint8Array(0) };
      await log.storage.save({ snapshot, entries: run(3, 1) });
      await log.holdsTerms(1, [1, 1, 1]);
      await log.storage.createSnapshot(2, undefined, bytesOf("two"));
      await log.holdsSnapshot(metadataAt(2, 1, CONF_B), "two");
      await log.refuses("ERR_SNAP_OUT_OF_DATE", { snapshot });
    });

    test("save() rejects with ERR_INVALID_ARGUMENT when the snapshot is no snapshot", async (log) => {
      await log.storage.save({ entries: run(1, 1) });
      const good = snapshotAt(5, 1, CONF_A);
      const bad: unknown[] = [{}, { metadata: good.metadata }, { data: good.data }, { ...good, metadata: null }];
      for (const data of [null, undefined, "text", [1]]) bad.push({ ...good, data });
      for (const index of NOT_INDEXES) bad.push({ ...good, metadata: { ...good.metadata, index } });
      for (const term of NOT_INDEXES) bad.push({ ...good, metadata: { ...good.metadata, term } });
      for (const confState of badConfStates()) bad.push({ ...good, metadata: { ...good.metadata, confState } });
      bad.push({ ...good, metadata: { ...good.metadata, confState: undefined } });
      for (const value of bad) await log.refuses("ERR_INVALID_ARGUMENT", { snapshot: garbage(value) });
    });

    test("save() keeps its own copy of the snapshot", async (log) => {
      const snapshot = snapshotAt(40, 6, { ...CONF_A, voters: [...CONF_A.voters] }, "forty");
      const saved = log.storage.save({ snapshot });
      snapshot.data.fill(0);
      snapshot.metadata.confState.voters.push(99n);
      snapshot.metadata.term = 99;
      await saved;
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "forty");
    });
  });

  describe(`${factory.name}: createSnapshot()`, () => {
    // 1 to 5, terms 1 1 2 2 3, compacted to 2.
    async function fill(log: Log): Promise<void> {
      await log.storage.save({ entries: run(1, 1, 1, 2, 2, 3), hardState: { term: 3, vote: 1n, commit: 3 } });
      await log.storage.compact(2);
    }

    test("createSnapshot() resolves with the metadata and leaves the log as it is", async (log) => {
      await fill(log);
      assert.deepEqual(await log.storage.createSnapshot(4, CONF_A, bytesOf("four")), metadataAt(4, 2, CONF_A));
      await log.holdsSnapshot(metadataAt(4, 2, CONF_A), "four");
      await log.holdsTerms(3, [2, 2, 3]);
      await log.holdsHardState({ term: 3, vote: 1n, commit: 3 });
    });

    test("createSnapshot() takes the dummy, the last index and all between, past commit as well", async (log) => {
      await fill(log);
      const terms = [1, 2, 2, 3];
      for (let index = 2; index <= 5; index++) {
        const term = terms[index - 2] ?? 0;
        assert.deepEqual(
          await log.storage.createSnapshot(index, CONF_A, bytesOf(`at ${index}`)),
          metadataAt(index, term, CONF_A),
        );
        await log.holdsSnapshot(metadataAt(index, term, CONF_A), `at ${index}`);
      }
      await log.holdsTerms(3, [2, 2, 3]);
    });

    test("createSnapshot() keeps the last ConfState when it is given none", async (log) => {
      await fill(log);
      await log.storage.createSnapshot(3, undefined, bytesOf("three"));
      await log.holdsSnapshot(metadataAt(3, 2), "three");
      await log.storage.createSnapshot(4, CONF_B, bytesOf("four"));
      const metadata = await log.storage.createSnapshot(5, undefined, bytesOf("five"));
      metadata.confState.voters.push(99n);
      await log.holdsSnapshot(metadataAt(5, 3, CONF_B), "five");
    });

    test("createSnapshot() takes its data from a stream, however it is cut", async (log) => {
      await fill(log);
      const buffer = Buffer.alloc(3);
      async function* pieces(): AsyncGenerator<Uint8Array> {
        for (const text of ["abc", "def", "ghi"]) {
          // One buffer for all: what is not copied is overwritten.
          buffer.write(text);
          yield buffer;
        }
        yield new Uint8Array(0);
        yield bytesOf("j");
      }
      assert.deepEqual(await log.storage.createSnapshot(3, CONF_A, pieces()), metadataAt(3, 2, CONF_A));
      await log.holdsSnapshot(metadataAt(3, 2, CONF_A), "abcdefghij");
      await log.storage.createSnapshot(4, CONF_B, streamOf());
      await log.holdsSnapshot(metadataAt(4, 2, CONF_B), "");
    });

    test("createSnapshot() copies its arguments before it returns", async (log) => {
      await fill(log);
      const data = bytesOf("three");
      const confState = { ...CONF_A, voters: [...CONF_A.voters] };
      const created = log.storage.createSnapshot(3, confState, data);
      data.fill(0);
      confState.voters.length = 0;
      await created;
      await log.holdsSnapshot(metadataAt(3, 2, CONF_A), "three");
    });

    test("createSnapshot() rejects with ERR_SNAP_OUT_OF_DATE when it is no newer than the one held", async (log) => {
      await fill(log);
      await log.storage.createSnapshot(4, CONF_A, bytesOf("four"));
      for (const index of [0, 1, 2, 3, 4]) {
        await log.rejects("ERR_SNAP_OUT_OF_DATE", (storage) => storage.createSnapshot(index, CONF_B, bytesOf("late")));
      }
    });

    test("createSnapshot() rejects with ERR_SNAP_OUT_OF_DATE at index 0 when there is no snapshot", async (log) => {
      await log.rejects("ERR_SNAP_OUT_OF_DATE", (storage) => storage.createSnapshot(0, CONF_B, bytesOf("zero")));
    });

    test("createSnapshot() rejects with ERR_COMPACTED below the dummy and ERR_UNAVAILABLE above lastIndex", async (log) => {
      await fill(log);
      await log.rejects("ERR_COMPACTED", (storage) => storage.createSnapshot(1, CONF_A, bytesOf("one")));
      await log.rejects("ERR_UNAVAILABLE", (storage) => storage.createSnapshot(6, CONF_A, bytesOf("six")));
      await log.rejects("ERR_UNAVAILABLE", (storage) => storage.createSnapshot(6, undefined, streamOf("six")));
    });

    test("createSnapshot() rejects with ERR_INVALID_ARGUMENT when an argument is of a wrong type", async (log) => {
      await fill(log);
      for (const bad of NOT_INDEXES) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) =>
          storage.createSnapshot(garbage(bad), CONF_A, bytesOf("")),
        );
      }
      for (const bad of badConfStates()) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.createSnapshot(4, garbage(bad), bytesOf("")));
      }
      for (const bad of [undefined, null, "text", 4, {}, [bytesOf("")], new ArrayBuffer(4)]) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.createSnapshot(4, CONF_A, garbage(bad)));
      }
    });

    test("createSnapshot() rejects and keeps the old snapshot when its stream fails", async (log) => {
      await fill(log);
      await log.storage.createSnapshot(3, CONF_A, bytesOf("three"));
      async function* failing(): AsyncGenerator<Uint8Array> {
        yield bytesOf("some");
        throw new Error("the source is gone");
      }
      await log.rejects("ERR_IO", (storage) => storage.createSnapshot(4, CONF_B, failing()));
      async function* wrong(): AsyncGenerator<Uint8Array> {
        yield bytesOf("some");
        yield garbage("text");
      }
      await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.createSnapshot(4, CONF_B, wrong()));
      await log.storage.createSnapshot(4, CONF_B, streamOf("fo", "ur"));
      await log.holdsSnapshot(metadataAt(4, 2, CONF_B), "four");
    });

    test("createSnapshot() takes its place behind the saves still queued", async (log) => {
      const saved = log.storage.save({ entries: run(1, 4, 4) });
      const created = log.storage.createSnapshot(2, CONF_A, bytesOf("two"));
      const late = log.storage.createSnapshot(1, CONF_A, bytesOf("one"));
      const compacted = log.storage.compact(1);
      const outcomes = await Promise.allSettled([saved, created, late, compacted]);
      assert.deepEqual(
        outcomes.map((outcome) => (outcome.status === "fulfilled" ? "done" : codeOf(outcome.reason))),
        ["done", "done", "ERR_SNAP_OUT_OF_DATE", "done"],
      );
      await log.holdsSnapshot(metadataAt(2, 4, CONF_A), "two");
      await log.holdsTerms(2, [4]);
    });
  });

  describe(`${factory.name}: stageSnapshot() and readSnapshot()`, () => {
    test("stageSnapshot() shows nothing until a save of the same metadata takes it", async (log) => {
      await log.storage.save({ entries: run(1, 1) });
      const before = await imageOf(log.storage);
      await log.storage.stageSnapshot(metadataAt(40, 6, CONF_A), streamOf("for", "ty"));
      assert.deepEqual(await imageOf(log.storage), before);
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A), entries: run(41, 6) });
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "forty");
      await log.holdsTerms(41, [6]);
    });

    test("stageSnapshot() is left aside when the save brings data of its own", async (log) => {
      await log.storage.stageSnapshot(metadataAt(40, 6, CONF_A), streamOf("staged"));
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A, "own") });
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "own");
    });

    test("stageSnapshot() takes the last of two for the same metadata", async (log) => {
      await log.storage.stageSnapshot(metadataAt(40, 6, CONF_A), streamOf("first"));
      await log.storage.stageSnapshot(metadataAt(40, 6, CONF_A), streamOf("second"));
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A) });
      await log.holdsSnapshot(metadataAt(40, 6, CONF_A), "second");
    });

    test("stageSnapshot() rejects with ERR_SNAP_OUT_OF_DATE when it is no newer than the snapshot held", async (log) => {
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A, "forty") });
      for (const index of [1, 39, 40]) {
        await log.rejects("ERR_SNAP_OUT_OF_DATE", (storage) =>
          storage.stageSnapshot(metadataAt(index, 6, CONF_A), streamOf("late")),
        );
      }
    });

    test("stageSnapshot() rejects with ERR_INVALID_ARGUMENT when an argument is of a wrong type", async (log) => {
      const good = metadataAt(40, 6, CONF_A);
      const bad: unknown[] = [undefined, null, 40, {}];
      for (const index of [0, ...NOT_INDEXES]) bad.push({ ...good, index });
      for (const term of NOT_INDEXES) bad.push({ ...good, term });
      for (const confState of [undefined, ...badConfStates()]) bad.push({ ...good, confState });
      for (const value of bad) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.stageSnapshot(garbage(value), streamOf("x")));
      }
      for (const value of [undefined, null, "text", 4, {}]) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.stageSnapshot(good, garbage(value)));
      }
    });

    test("stageSnapshot() rejects when its stream fails, and can be called again", async (log) => {
      async function* failing(): AsyncGenerator<Uint8Array> {
        yield bytesOf("some");
        throw new Error("the peer is gone");
      }
      const metadata = metadataAt(40, 6, CONF_A);
      await log.rejects("ERR_IO", (storage) => storage.stageSnapshot(metadata, failing()));
      await log.storage.stageSnapshot(metadata, streamOf("forty"));
      await log.storage.save({ snapshot: snapshotAt(40, 6, CONF_A) });
      await log.holdsSnapshot(metadata, "forty");
    });

    test("readSnapshot() yields all bytes of a large snapshot, each time it is read", async (log) => {
      const data = Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 31) % 251);
      await log.storage.save({ snapshot: { metadata: metadataAt(40, 6, CONF_A), data } });
      await log.holds(async (storage) => {
        for (let i = 0; i < 2; i++) {
          const pieces: Uint8Array[] = [];
          for await (const piece of storage.readSnapshot()?.data ?? []) pieces.push(piece);
          assert.ok(pieces.every((piece) => piece instanceof Uint8Array && !Buffer.isBuffer(piece)));
          assert.equal(Buffer.compare(Buffer.concat(pieces), data), 0);
        }
        assert.equal(Buffer.compare(storage.snapshot().data, data), 0);
      });
    });
  });

  describe(`${factory.name}: compact()`, () => {
    test("compact() keeps index and term of the entry it compacts to as the dummy", async (log) => {
      await log.storage.save({ entries: run(1, 1, 2, 3, 4, 5) });
      await log.storage.compact(1);
      await log.holdsTerms(2, [2, 3, 4, 5]);
      await log.storage.compact(3);
      await log.holdsTerms(4, [4, 5]);
      await log.holds((storage) => {
        assert.equal(storage.firstIndex(), 4);
        assert.equal(storage.term(3), 3);
        throws("ERR_COMPACTED", () => storage.term(2));
        throws("ERR_COMPACTED", () => storage.entries(3, 5));
      });
    });

    test("compact() leaves an empty log that goes on when it takes the last entry", async (log) => {
      await log.storage.save({ entries: run(1, 1, 2, 3), hardState: { term: 3, vote: 1n, commit: 2 } });
      await log.storage.compact(3);
      await log.holdsTerms(4, []);
      await log.holds((storage) => {
        assert.equal(storage.term(3), 3);
        throws("ERR_UNAVAILABLE", () => storage.entries(4, 4));
      });
      await log.holdsHardState({ term: 3, vote: 1n, commit: 2 });
      await log.storage.save({ entries: run(4, 4) });
      await log.holdsTerms(4, [4]);
    });

    test("compact() rejects with ERR_COMPACTED at or below the dummy and ERR_UNAVAILABLE above lastIndex", async (log) => {
      await log.rejects("ERR_COMPACTED", (storage) => storage.compact(0));
      await log.rejects("ERR_UNAVAILABLE", (storage) => storage.compact(1));
      await log.storage.save({ entries: run(1, 1, 2, 3) });
      await log.storage.compact(2);
      for (const index of [0, 1, 2]) await log.rejects("ERR_COMPACTED", (storage) => storage.compact(index));
      await log.rejects("ERR_UNAVAILABLE", (storage) => storage.compact(4));
      for (const bad of NOT_INDEXES) {
        await log.rejects("ERR_INVALID_ARGUMENT", (storage) => storage.compact(garbage(bad)));
      }
    });

    test("compact() leaves arrays that were read before it alone", async (log) => {
      await log.storage.save({ entries: run(1, 1, 2, 3) });
      const before = log.storage.entries(1, 4);
      await log.storage.compact(2);
      await log.storage.save({ entries: run(3, 9, 9) });
      assert.deepEqual(listing(before), listing(run(1, 1, 2, 3)));
    });

    test("compact() takes its place behind the saves still queued", async (log) => {
      const done = [log.storage.save({ entries: run(1, 1, 1, 1) }), log.storage.compact(2)];
      done.push(log.storage.save({ entries: run(2, 5, 5) }));
      await Promise.all(done);
      await log.holdsTerms(3, [5]);
      await log.holds((storage) => assert.equal(storage.term(2), 1));
    });
  });

  describe(`${factory.name}: close()`, () => {
    test("close() waits for the saves still pending", async (log) => {
      const order: string[] = [];
      const saves = [
        log.storage.save({ entries: run(1, 1, 1), hardState: { term: 1, vote: 1n, commit: 1 } }),
        log.storage.save({ entries: run(3, 1) }),
        log.storage.save({ hardState: { term: 1, vote: 1n, commit: 3 } }),
      ];
      const settled = saves.map((save) => save.then(() => order.push("saved")));
      await log.storage.close();
      order.push("closed");
      await Promise.all(settled);
      assert.deepEqual(order, ["saved", "saved", "saved", "closed"]);
      if (factory.reopen === undefined) return;
      log.storage = await factory.reopen(log.storage);
      await log.holdsTerms(1, [1, 1, 1]);
      await log.holdsHardState({ term: 1, vote: 1n, commit: 3 });
    });

    test("close() makes everything after it meet ERR_CLOSED, but another close()", async (log) => {
      const { storage } = log;
      await storage.save({ snapshot: snapshotAt(40, 6, CONF_A, "forty"), entries: run(41, 6) });
      await storage.close();
      for (const read of [
        () => storage.initialState(),
        () => storage.entries(41, 42),
        () => storage.term(41),
        () => storage.firstIndex(),
        () => storage.lastIndex(),
        () => storage.snapshot(),
        () => storage.readSnapshot(),
      ]) {
        throws("ERR_CLOSED", read);
      }
      await rejects("ERR_CLOSED", () => storage.save({}));
      await rejects("ERR_CLOSED", () => storage.save({ entries: run(42, 6) }));
      await rejects("ERR_CLOSED", () => storage.createSnapshot(41, CONF_A, bytesOf("")));
      await rejects("ERR_CLOSED", () => storage.stageSnapshot(metadataAt(50, 6, CONF_A), streamOf("")));
      await rejects("ERR_CLOSED", () => storage.compact(41));
      await storage.close();
      await Promise.all([storage.close(), storage.close()]);
    });
  });
}

/** A storage under test, with the questions that are asked again after reopening. */
class Log {
  readonly #factory: StorageFactory;
  storage: WritableStorage;

  constructor(from: StorageFactory, storage: WritableStorage) {
    this.#factory = from;
    this.storage = storage;
  }

  /** Checks now, and once more after reopening when the storage can. */
  async holds(check: (storage: WritableStorage) => void | Promise<void>): Promise<void> {
    await check(this.storage);
    if (this.#factory.reopen === undefined) return;
    this.storage = await this.#factory.reopen(this.storage);
    await check(this.storage);
  }

  /** The log holds run(firstIndex, ...terms) and nothing else. */
  async holdsTerms(firstIndex: number, terms: number[]): Promise<void> {
    await this.holds((storage) => {
      assert.equal(storage.firstIndex(), firstIndex);
      assert.equal(storage.lastIndex(), firstIndex + terms.length - 1);
      const held = terms.length === 0 ? [] : storage.entries(firstIndex, firstIndex + terms.length);
      assert.deepEqual(listing(held), listing(run(firstIndex, ...terms)));
      assert.deepEqual(
        terms.map((_, i) => storage.term(firstIndex + i)),
        terms,
      );
    });
  }

  async holdsHardState(hardState: HardState): Promise<void> {
    await this.holds((storage) => assert.deepEqual(stateOf(storage).hardState, hardState));
  }

  async holdsSnapshot(metadata: SnapshotMetadata, text: string): Promise<void> {
    await this.holds(async (storage) => {
      assert.deepEqual(metadataOf(storage), metadata);
      const { data } = storage.snapshot();
      assert.ok(!Buffer.isBuffer(data));
      assert.equal(textOf(data), text);
      assert.deepEqual(await readText(storage), { metadata, text });
      assert.deepEqual(stateOf(storage).confState, metadata.confState);
    });
  }

  /** The call is rejected, and nothing has changed. */
  async rejects(code: ErrorCode, call: (storage: WritableStorage) => Promise<unknown>): Promise<void> {
    const before = await imageOf(this.storage);
    await rejects(code, () => call(this.storage));
    assert.deepEqual(await imageOf(this.storage), before);
  }

  async refuses(code: ErrorCode, batch: SaveBatch): Promise<void> {
    await this.rejects(code, (storage) => storage.save(batch));
  }
}

// No index, no term and no commit, wherever one is asked for.
const NOT_INDEXES: readonly unknown[] = [-1, 1.5, Number.NaN, Infinity, 2 ** 53, "3", 3n, null, undefined, {}];
const NOT_IDS: readonly unknown[] = [-1n, 1n << 64n, 1, "1", null, undefined];

const CONF_A: ConfState = {
  voters: [1n, 2n, 0xfedcba9876543210n],
  learners: [4n],
  votersOutgoing: [1n, 5n],
  learnersNext: [5n],
  autoLeave: true,
};
const CONF_B: ConfState = { ...emptyConfState(), voters: [7n] };

function badConfStates(): unknown[] {
  const bad: unknown[] = [null, 7, "voters", [], {}];
  for (const field of ["voters", "learners", "votersOutgoing", "learnersNext"]) {
    for (const value of [null, undefined, "1", { length: 0 }]) bad.push({ ...CONF_A, [field]: value });
    for (const value of NOT_IDS) bad.push({ ...CONF_A, [field]: [1n, value] });
  }
  for (const autoLeave of [null, undefined, 0, "false"]) bad.push({ ...CONF_A, autoLeave });
  return bad;
}

// The one place where the suite hands over what the types forbid.
function garbage<T>(value: unknown): T {
  return value as T;
}

function entry(index: number, term: number): Entry {
  return { term, index, type: EntryType.Normal, data: bytesOf(`entry ${index} of term ${term}`) };
}

function run(firstIndex: number, ...terms: number[]): Entry[] {
  return terms.map((term, i) => entry(firstIndex + i, term));
}

function metadataAt(index: number, term: number, confState = emptyConfState()): SnapshotMetadata {
  return { index, term, confState };
}

function snapshotAt(index: number, term: number, confState = emptyConfState(), text = ""): Snapshot {
  return { metadata: metadataAt(index, term, confState), data: bytesOf(text) };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

async function* streamOf(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield bytesOf(text);
}

// Plain values, so that a storage may return objects of classes of its own.
function listing(entries: readonly Entry[]): string[] {
  return entries.map(({ index, term, type, data }) => `${index} of term ${term}, type ${type}: ${hexOf(data)}`);
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}

function plainConfState(confState: ConfState): ConfState {
  const { voters, learners, votersOutgoing, learnersNext, autoLeave } = confState;
  return { voters, learners, votersOutgoing, learnersNext, autoLeave };
}

function stateOf(storage: WritableStorage): { hardState: HardState; confState: ConfState } {
  const { hardState, confState } = storage.initialState();
  const { term, vote, commit } = hardState;
  return { hardState: { term, vote, commit }, confState: plainConfState(confState) };
}

function metadataOf(storage: WritableStorage): SnapshotMetadata {
  const { index, term, confState } = storage.snapshot().metadata;
  return { index, term, confState: plainConfState(confState) };
}

async function readText(storage: WritableStorage): Promise<{ metadata: SnapshotMetadata; text: string } | undefined> {
  const read = storage.readSnapshot();
  if (read === undefined) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of read.data) pieces.push(piece);
  const { index, term, confState } = read.metadata;
  return { metadata: { index, term, confState: plainConfState(confState) }, text: Buffer.concat(pieces).toString() };
}

// All that can be read, for "nothing has changed".
async function imageOf(storage: WritableStorage): Promise<unknown> {
  const firstIndex = storage.firstIndex();
  const lastIndex = storage.lastIndex();
  return {
    ...stateOf(storage),
    firstIndex,
    lastIndex,
    dummyTerm: storage.term(firstIndex - 1),
    entries: lastIndex < firstIndex ? [] : listing(storage.entries(firstIndex, lastIndex + 1)),
    snapshot: { metadata: metadataOf(storage), data: hexOf(storage.snapshot().data) },
    read: await readText(storage),
  };
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof StableLogError) return error.code;
  throw error;
}

function throws(code: ErrorCode, call: () => unknown): void {
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    assert.equal(codeOf(error), code);
    return;
  }
  assert.fail(`expected ${code}, got ${typeof result === "object" ? "an object" : String(result)}`);
}

async function rejects(code: ErrorCode, call: () => Promise<unknown>): Promise<void> {
  let promise: Promise<unknown>;
  try {
    promise = call();
  } catch (error) {
    assert.fail(`a promise method threw instead of rejecting: ${String(error)}`);
  }
  let outcome: ErrorCode | "it resolved";
  try {
    await promise;
    outcome = "it resolved";
  } catch (error) {
    outcome = codeOf(error);
  }
  assert.equal(outcome, code);
}

function globalApi(): SuiteApi {
  const { describe, it } = globalThis as { describe?: SuiteApi["describe"]; it?: SuiteApi["it"] };
  if (describe === undefined || it === undefined) {
    throw new Error("testStorage(): there is no global describe and it; pass { describe, it } of your runner");
  }
  return { describe, it };
}
