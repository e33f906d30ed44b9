// Differential test of every storage against a naive model: arrays, copied whole for each change, no queue and no bytes.
// A run is a list of bursts; the calls of a burst are all made before the first is awaited, then outcomes and every read
// are compared. A storage that can be reopened is, between bursts.

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ErrorCode, StableLogError } from "../../src/base/errors.js";
import type { SaveBatch, Storage, WritableStorage } from "../../src/raft/storage.js";
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
} from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import type { StorageFactory } from "../../src/testing/storage-suite.js";
import { fileStorages } from "./factories.js";

const storages: StorageFactory[] = [
  { name: "MemoryStorage", open: async () => new MemoryStorage() },
  ...fileStorages(),
];

class Model implements Storage {
  hardState = emptyHardState();
  dummy = { index: 0, term: 0 };
  log: Entry[] = [];
  newest: Snapshot = { metadata: { index: 0, term: 0, confState: emptyConfState() }, data: new Uint8Array(0) };

  initialState(): { hardState: HardState; confState: ConfState } {
    return structuredClone({ hardState: this.hardState, confState: this.newest.metadata.confState });
  }

  firstIndex(): number {
    return this.dummy.index + 1;
  }

  lastIndex(): number {
    return this.log.at(-1)?.index ?? this.dummy.index;
  }

  snapshot(): Snapshot {
    return structuredClone(this.newest);
  }

  term(index: number): number {
    if (index < this.dummy.index) fail("ERR_COMPACTED");
    if (index === this.dummy.index) return this.dummy.term;
    return this.log.find((entry) => entry.index === index)?.term ?? fail("ERR_UNAVAILABLE");
  }

  entries(lo: number, hi: number, maxSize = Infinity): Entry[] {
    if (lo > hi) fail("ERR_INVALID_ARGUMENT");
    if (lo <= this.dummy.index) fail("ERR_COMPACTED");
    if (hi > this.lastIndex() + 1 || this.log.length === 0) fail("ERR_UNAVAILABLE");
    const all = this.log.filter((entry) => entry.index >= lo && entry.index < hi);
    return all.filter((_, i) => i === 0 || all.slice(0, i + 1).reduce((sum, e) => sum + entrySize(e), 0) <= maxSize);
  }

  /** The codes that may be given for refusing the batch; with none of them it is taken. */
  save({ snapshot, entries = [], hardState = emptyHardState() }: SaveBatch): ErrorCode[] {
    const codes: ErrorCode[] = [];
    const next = Object.assign(new Model(), structuredClone({ ...this }));
    if (snapshot !== undefined && (snapshot.metadata.index > 0 || snapshot.metadata.confState.voters.length > 0)) {
      const { index, term, confState } = structuredClone(snapshot.metadata);
      const held = next.newest.metadata.index;
      if (held > 0 && held >= index) codes.push("ERR_SNAP_OUT_OF_DATE");
      if (index === 0) next.newest.metadata.confState = confState;
      else {
        next.newest = structuredClone(snapshot);
        next.dummy = { index, term };
        next.log = [];
      }
    }
    if (entries.some((entry, i) => i > 0 && entry.index !== (entries[i - 1]?.index ?? 0) + 1)) codes.push("ERR_GAP");
    if ((entries[0]?.index ?? 0) > next.lastIndex() + 1) codes.push("ERR_GAP");
    for (const entry of entries) {
      if (entry.index <= next.dummy.index) continue;
      next.log = next.log.filter((other) => other.index < entry.index);
      next.log.push(structuredClone(entry));
    }
    if (hardState.term > 0 || hardState.vote > 0n || hardState.commit > 0) {
      if (hardState.term < this.hardState.term) codes.push("ERR_INVALID_ARGUMENT");
      next.hardState = { ...hardState };
    }
    if (next.hardState.commit > next.lastIndex()) codes.push("ERR_INVALID_ARGUMENT");
    if (codes.length === 0) Object.assign(this, next);
    return codes;
  }

  createSnapshot(index: number, confState: ConfState | undefined, data: Uint8Array): ErrorCode[] {
    if (index <= this.newest.metadata.index) return ["ERR_SNAP_OUT_OF_DATE"];
    if (index < this.dummy.index) return ["ERR_COMPACTED"];
    if (index > this.lastIndex()) return ["ERR_UNAVAILABLE"];
    const kept = confState ?? this.newest.metadata.confState;
    this.newest = structuredClone({ metadata: { index, term: this.term(index), confState: kept }, data });
    return [];
  }

  stageSnapshot(index: number): ErrorCode[] {
    return index <= this.newest.metadata.index ? ["ERR_SNAP_OUT_OF_DATE"] : [];
  }

  compact(index: number): ErrorCode[] {
    if (index <= this.dummy.index) return ["ERR_COMPACTED"];
    if (index > this.lastIndex()) return ["ERR_UNAVAILABLE"];
    this.dummy = { index, term: this.term(index) };
    this.log = this.log.filter((entry) => entry.index > index);
    return [];
  }
}

function fail(code: ErrorCode): never {
  throw new StableLogError(code, "the model says so");
}

// A call as drawn: its numbers are offsets, which are given a meaning against the model when its turn comes, so that most
// calls hit something and a shrunk run stays meaningful.
type Call =
  | {
      kind: "save";
      begin: number;
      fromDummy: boolean;
      count: number;
      hole: boolean;
      term: number;
      bytes: number;
      hardState: { term: number; vote: bigint; commit: number } | undefined;
      snapshot: { index: number; voter: bigint } | undefined;
      mustSync: boolean | undefined;
    }
  | { kind: "commit"; commit: number; mustSync: boolean | undefined }
  | { kind: "nothing"; zero: boolean }
  | { kind: "bootstrap"; voter: bigint }
  | { kind: "create"; index: number; voter: bigint | undefined; bytes: number; stream: boolean }
  | { kind: "stage"; index: number; voter: bigint; bytes: number }
  | { kind: "compact"; index: number };

const mustSync = fc.constantFrom(undefined, true, false);
const voter = fc.constantFrom(1n, 2n, 0xffffffffffffffffn);
const bytes = fc.oneof({ weight: 9, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: fc.nat(9000) });

function oftenAbsent<T>(arbitrary: fc.Arbitrary<T>, absent: number): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: absent, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
}

const call: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant("save" as const),
      begin: fc.oneof(
        { weight: 5, arbitrary: fc.constant(0) },
        { weight: 4, arbitrary: fc.integer({ min: -5, max: 1 }) },
      ),
      fromDummy: fc.oneof({ weight: 6, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      count: fc.integer({ min: 0, max: 5 }),
      hole: fc.oneof({ weight: 12, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      term: fc.nat(2),
      bytes,
      hardState: oftenAbsent(
        fc.record({ term: fc.integer({ min: -1, max: 2 }), vote: voter, commit: fc.integer({ min: -4, max: 1 }) }),
        1,
      ),
      snapshot: oftenAbsent(fc.record({ index: fc.integer({ min: -3, max: 4 }), voter }), 8),
      mustSync,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("commit" as const),
      commit: fc.integer({ min: -4, max: 1 }),
      mustSync,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("nothing" as const), zero: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("bootstrap" as const), voter }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("create" as const),
      index: fc.integer({ min: -5, max: 1 }),
      voter: oftenAbsent(voter, 1),
      bytes,
      stream: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("stage" as const),
      index: fc.integer({ min: -3, max: 4 }),
      voter,
      bytes,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("compact" as const), index: fc.integer({ min: -6, max: 1 }) }),
  },
);

const run = fc.array(fc.record({ calls: fc.array(call, { minLength: 1, maxLength: 6 }), reopen: fc.boolean() }), {
  minLength: 1,
  maxLength: 12,
});

function fill(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 13 + seed) % 256);
}

async function* cut(data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += 11) yield data.subarray(at, at + 11);
}

function votedBy(...voters: bigint[]): ConfState {
  return { ...emptyConfState(), voters };
}

/** Makes the calls of a burst on both sides; each is held against its model's answer once all have been made. */
async function burst(calls: readonly Call[], model: Model, storage: WritableStorage): Promise<void> {
  const made: { call: Call; expected: ErrorCode[]; outcome: Promise<unknown> }[] = [];
  const make = (from: Call, expected: ErrorCode[], outcome: Promise<unknown>): void => {
    // Marked as handled: it is looked at only after the whole burst.
    outcome.catch(() => undefined);
    made.push({ call: from, expected, outcome });
  };
  // A compaction behind a snapshot that streams waits for it. What a save makes of entries that such a compaction is about
  // to drop is nobody's business: raft has them committed. So the calls before are waited for then.
  let streams = false;
  let waiting = 0;
  for (const one of calls) {
    const last = model.lastIndex();
    switch (one.kind) {
      case "save": {
        const batch = batchOf(one, model);
        if ((batch.entries?.[0]?.index ?? Number.POSITIVE_INFINITY) <= waiting) {
          await Promise.allSettled(made.map(({ outcome }) => outcome));
        }
        make(one, model.save(batch), storage.save(batch));
        break;
      }
      case "commit": {
        const hardState = { ...model.hardState, commit: Math.max(0, last + one.commit) };
        const batch = { hardState, mustSync: one.mustSync };
        make(one, model.save(batch), storage.save(batch));
        break;
      }
      case "nothing": {
        const empty = { metadata: { index: 0, term: 0, confState: emptyConfState() }, data: new Uint8Array(0) };
        const batch = one.zero ? { hardState: emptyHardState(), entries: [], snapshot: empty } : {};
        make(one, model.save(batch), storage.save(batch));
        break;
      }
      case "bootstrap": {
        const metadata = { index: 0, term: 0, confState: votedBy(one.voter) };
        const batch = { snapshot: { metadata, data: new Uint8Array(0) } };
        make(one, model.save(batch), storage.save(batch));
        break;
      }
      case "create": {
        const index = Math.max(0, last + one.index);
        const confState = one.voter === undefined ? undefined : votedBy(one.voter);
        const data = fill(one.bytes, index);
        const expected = model.createSnapshot(index, confState, data);
        make(one, expected, storage.createSnapshot(index, confState, one.stream ? cut(data) : data));
        streams ||= one.stream;
        break;
      }
      case "stage": {
        // What a save takes must have been staged in full, so a burst pauses here.
        await Promise.allSettled(made.map(({ outcome }) => outcome));
        const index = Math.max(1, last + one.index);
        const metadata = { index, term: model.hardState.term, confState: votedBy(one.voter) };
        const data = fill(one.bytes, index + 1);
        const staged = storage.stageSnapshot(metadata, cut(data));
        make(one, model.stageSnapshot(index), staged);
        await Promise.allSettled([staged]);
        make(
          one,
          model.save({ snapshot: { metadata, data } }),
          storage.save({ snapshot: { metadata, data: new Uint8Array(0) } }),
        );
        break;
      }
      case "compact": {
        const index = Math.max(0, last + one.index);
        if (streams) waiting = Math.max(waiting, index);
        make(one, model.compact(index), storage.compact(index));
      }
    }
  }
  for (const { call: from, expected, outcome } of made) {
    const got = await outcome.then(() => undefined, codeOf);
    if (expected.length === 0) expect(got, describeCall(from)).toBeUndefined();
    else expect(expected, describeCall(from)).toContain(got);
  }
}

function batchOf(one: Call & { kind: "save" }, model: Model): SaveBatch {
  let snapshot: Snapshot | undefined;
  let end = model.lastIndex();
  if (one.snapshot !== undefined) {
    const index = Math.max(1, end + one.snapshot.index);
    const metadata: SnapshotMetadata = { index, term: model.hardState.term, confState: votedBy(one.snapshot.voter) };
    // Never empty: that would ask for a staged one.
    snapshot = { metadata, data: fill(1 + one.bytes, index) };
    end = index;
  }
  const begin = Math.max(1, (one.fromDummy ? model.dummy.index : end + 1) + one.begin);
  const entries = Array.from({ length: one.count }, (_, i): Entry => {
    const index = begin + i + (one.hole && i === one.count - 1 ? 1 : 0);
    const type = [EntryType.Normal, EntryType.ConfChange, EntryType.ConfChangeV2][(index + one.bytes) % 3] ?? 0;
    return { term: model.hardState.term + one.term, index, type, data: fill(one.bytes + (i % 3), index) };
  });
  const after = entries.at(-1)?.index ?? end;
  const hardState = one.hardState && {
    term: Math.max(0, model.hardState.term + one.hardState.term),
    vote: one.hardState.vote,
    commit: Math.max(0, after + one.hardState.commit),
  };
  return { snapshot, entries, hardState, mustSync: one.mustSync };
}

function describeCall(one: Call): string {
  return JSON.stringify(one, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof StableLogError) return error.code;
  throw error;
}

function answer<T>(read: () => T): T | ErrorCode {
  try {
    return read();
  } catch (error) {
    return codeOf(error);
  }
}

/** Every read that can be asked around the two ends of the log, as plain values. */
function imageOf(storage: Storage): unknown {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const points = new Set<number>();
  for (let d = -2; d <= 3; d++) {
    points.add(Math.max(0, first + d));
    points.add(Math.max(0, last + 1 - d));
  }
  const list = (lo: number, hi: number, maxSize?: number): unknown =>
    answer(() => storage.entries(lo, hi, maxSize).map((e) => `${e.index}/${e.term}/${e.type}/${e.data.length}`));
  const entries: Record<string, unknown> = {};
  for (const lo of points) {
    for (const hi of points) entries[`[${lo}, ${hi})`] = list(lo, hi);
    for (const maxSize of [0, 9, 60, 200]) entries[`[${lo}, end) in ${maxSize}`] = list(lo, last + 1, maxSize);
  }
  const { metadata, data } = storage.snapshot();
  return {
    first,
    last,
    entries,
    bytes: answer(() => storage.entries(first, last + 1).map((entry) => Buffer.from(entry.data).toString("latin1"))),
    terms: [...points].map((index) => answer(() => storage.term(index))),
    state: storage.initialState(),
    snapshot: { metadata, data: Buffer.from(data).toString("latin1") },
  };
}

async function readBack(storage: WritableStorage): Promise<unknown> {
  const read = storage.readSnapshot();
  if (read === undefined) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of read.data) pieces.push(piece);
  return { metadata: read.metadata, data: Buffer.concat(pieces).toString("latin1") };
}

async function compare(model: Model, storage: WritableStorage): Promise<void> {
  const held = imageOf(storage);
  const wanted = imageOf(model);
  // expect() is the one to tell a difference, but takes long to find that there is none.
  if (!isDeepStrictEqual(held, wanted)) expect(held).toEqual(wanted);
  const { metadata, data } = model.newest;
  const expected = metadata.index === 0 ? undefined : { metadata, data: Buffer.from(data).toString("latin1") };
  expect(await readBack(storage)).toEqual(expected);
}

for (const factory of storages) {
  describe(`model: ${factory.name}`, () => {
    it("save(), createSnapshot(), stageSnapshot() and compact() do what the naive model does", async () => {
      await fc.assert(
        fc.asyncProperty(run, async (bursts) => {
          const model = new Model();
          let storage = await factory.open();
          try {
            for (const { calls, reopen } of bursts) {
              await burst(calls, model, storage);
              await compare(model, storage);
              if (!reopen || factory.reopen === undefined) continue;
              storage = await factory.reopen(storage);
              await compare(model, storage);
            }
          } finally {
            await storage.close();
          }
        }),
        // A file system's syncs take time: there the engines count, and memory has shown the rest.
        { numRuns: factory.name.includes("on files") ? 10 : 60 },
      );
    });
  });
}
