// The checks of every argument that both storages share, and what a checked save does to the submitted state. Called by
// memory-storage.ts and file-storage.ts before anything is changed or written. Promises: whatever is passed, the outcome
// is a StableLogError or a plain answer, the state stays as it was, and a save that passes costs no allocation.

import { types } from "node:util";
import { isCount, MAX_INDEX } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import type { SaveBatch } from "../raft/storage.js";
import {
  type ConfState,
  type Entry,
  EntryType,
  type HardState,
  isEmptyConfState,
  isEmptyHardState,
  type Snapshot,
  type SnapshotMetadata,
} from "../raftpb/types.js";
import { MAX_RECORD_BYTES as MAX_ENTRY_BYTES, MAX_SAVE_BYTES } from "../wal/format.js";

/** The largest payload of one entry, and the most payload that one save carries, entries and snapshot data together. */
export { MAX_ENTRY_BYTES, MAX_SAVE_BYTES };

const MAX_NODE_ID = 0xffffffffffffffffn;

/** What is submitted: the state after every save, snapshot and compaction accepted so far, durable or still queued. */
export interface LogState {
  term: number;
  vote: bigint;
  commit: number;
  /** One above the dummy entry. */
  firstIndex: number;
  /** firstIndex - 1 when the log is empty. */
  lastIndex: number;
  /** Index of the newest snapshot; 0 when there is none. */
  snapshotIndex: number;
}

/** What checkBatch() found. One object serves all saves of a storage: it holds until the next check, releaseBatch() or resetBatch(). */
export interface CheckedBatch {
  /** The snapshot to apply, or the one whose ConfState bootstraps; undefined when the save has none. */
  snapshot: Snapshot | undefined;
  /** True when `snapshot` has index 0: only its ConfState counts, its data is dropped and the entries stay. */
  bootstrap: boolean;
  /** The caller's own array. What to write are the `count` entries that begin at position `from`. */
  entries: readonly Entry[];
  /** Position of the first entry to write, after those at or below the dummy are clipped. */
  from: number;
  /** Entries to write; 0 leaves the log as it is, whatever `entries` holds. */
  count: number;
  /** Index of the first entry to write; everything held from here on is replaced. 0 when `count` is. */
  firstIndex: number;
  /** Last index of the log after the save. */
  lastIndex: number;
  /** Sum of the data bytes of the entries to write. */
  payloadBytes: number;
  /** Undefined when absent or all zero. */
  hardState: HardState | undefined;
  /** The caller's word; also on a save that is otherwise empty. */
  mustSync: boolean;
  /** True when nothing but commit may change and mustSync is not set: the save may resolve before it is synced. */
  commitOnly: boolean;
  /** True when there is no snapshot, no entry to write and no HardState. */
  empty: boolean;
}

const NO_ENTRIES: readonly Entry[] = [];

/** The state of a log that nothing was ever saved to. */
export function emptyLogState(): LogState {
  return { term: 0, vote: 0n, commit: 0, firstIndex: 1, lastIndex: 0, snapshotIndex: 0 };
}

/** An object for checkBatch() to fill. */
export function newCheckedBatch(): CheckedBatch {
  return {
    snapshot: undefined,
    bootstrap: false,
    entries: NO_ENTRIES,
    from: 0,
    count: 0,
    firstIndex: 0,
    lastIndex: 0,
    payloadBytes: 0,
    hardState: undefined,
    mustSync: false,
    commitOnly: false,
    empty: true,
  };
}

/** Lets go of the caller's objects, so that an idle storage does not keep the last save's payload alive; the rest stays. */
export function releaseBatch(out: CheckedBatch): void {
  out.snapshot = undefined;
  out.entries = NO_ENTRIES;
  out.hardState = undefined;
}

/** Puts everything back to what a save of nothing is; the caller's objects are let go. */
export function resetBatch(out: CheckedBatch): void {
  out.snapshot = undefined;
  out.bootstrap = false;
  out.entries = NO_ENTRIES;
  out.from = 0;
  out.count = 0;
  out.firstIndex = 0;
  out.lastIndex = 0;
  out.payloadBytes = 0;
  out.hardState = undefined;
  out.mustSync = false;
  out.commitOnly = false;
  out.empty = true;
}

/**
 * Checks a save against the submitted state and fills `out`; changes nothing else. After a throw `out` is reset.
 * @throws ERR_INVALID_ARGUMENT for wrong types, a term that goes back, a commit beyond the last index after the save;
 * ERR_SNAP_OUT_OF_DATE; ERR_GAP; ERR_TOO_LARGE.
 */
export function checkBatch(state: LogState, batch: SaveBatch, out: CheckedBatch): void {
  resetBatch(out);
  try {
    fillBatch(state, batch, out);
  } catch (error) {
    resetBatch(out);
    throw error;
  }
}

function fillBatch(state: LogState, batch: SaveBatch, out: CheckedBatch): void {
  if (typeof batch !== "object" || batch === null || Array.isArray(batch)) {
    throw invalid("save", "the batch", "an object", batch);
  }
  const { hardState, entries, snapshot, mustSync } = batch;
  if (mustSync !== undefined && typeof mustSync !== "boolean") {
    throw invalid("save", "mustSync", "a boolean", mustSync);
  }
  out.mustSync = mustSync === true;
  if (hardState !== undefined) {
    checkHardState("save", hardState);
    if (!isEmptyHardState(hardState)) out.hardState = hardState;
  }
  out.lastIndex = state.lastIndex;
  let dummyIndex = state.firstIndex - 1;
  if (snapshot !== undefined && acceptSnapshot("save", state, snapshot, out) && !out.bootstrap) {
    dummyIndex = snapshot.metadata.index;
    out.lastIndex = dummyIndex;
  }
  if (entries !== undefined) acceptEntries("save", entries, dummyIndex, out);
  checkSaveBytes(out);
  if (out.hardState !== undefined && out.hardState.term < state.term) {
    throw new StableLogError(
      "ERR_INVALID_ARGUMENT",
      `save HardState of term ${out.hardState.term}: the log is at term ${state.term}, a term never goes back`,
    );
  }
  checkCommit(state, out);
  out.empty = out.snapshot === undefined && out.count === 0 && out.hardState === undefined;
  out.commitOnly =
    !out.mustSync &&
    out.hardState !== undefined &&
    out.snapshot === undefined &&
    out.count === 0 &&
    out.hardState.term === state.term &&
    out.hardState.vote === state.vote;
}

/**
 * Checks a snapshot on its own, as etcd's synchronous ApplySnapshot takes it. False when it means the same as absent;
 * else `out.snapshot` and `out.bootstrap` are set.
 * @throws ERR_INVALID_ARGUMENT, ERR_SNAP_OUT_OF_DATE.
 */
export function acceptSnapshot(action: string, state: LogState, snapshot: Snapshot, out: CheckedBatch): boolean {
  if (typeof snapshot !== "object" || snapshot === null) throw invalid(action, "the snapshot", "an object", snapshot);
  const { metadata, data } = snapshot;
  checkMetadata(action, metadata, 0);
  if (!isBytes(data)) throw invalid(action, "the snapshot's data", "a Uint8Array", data);
  if (metadata.index === 0 && isEmptyConfState(metadata.confState)) return false;
  if (state.snapshotIndex > 0 && state.snapshotIndex >= metadata.index) {
    throw outOfDate(action, metadata.index, state.snapshotIndex);
  }
  out.snapshot = snapshot;
  out.bootstrap = metadata.index === 0;
  return true;
}

/**
 * Checks entries that are to follow a log which ends at `out.lastIndex` and begins after `dummyIndex`, and clips those
 * at or below the dummy as etcd's Append does. Terms are not compared: that is raft's to judge.
 * @throws ERR_INVALID_ARGUMENT, ERR_GAP, ERR_TOO_LARGE for one entry.
 */
export function acceptEntries(action: string, entries: readonly Entry[], dummyIndex: number, out: CheckedBatch): void {
  if (!Array.isArray(entries)) throw invalid(action, "entries", "an array", entries);
  const length = entries.length;
  if (length === 0) return;
  const begin = indexOf(action, entries, 0);
  // How many stand at or below the dummy. They are checked like the others and then left out.
  const clipped = begin > dummyIndex ? 0 : Math.min(length, dummyIndex - begin + 1);
  let payloadBytes = 0;
  for (let i = 0; i < length; i++) {
    const entry = entries[i];
    if (typeof entry !== "object" || entry === null) throw invalid(action, `entries[${i}]`, "an entry", entry);
    if (entry.index !== begin + i) throw notNext(action, entries, i, begin + i);
    const { term, type, data } = entry;
    if (!isCount(term)) throw invalid(action, `the term of entry ${begin + i}`, TERM_RANGE, term);
    if (type !== EntryType.Normal && type !== EntryType.ConfChange && type !== EntryType.ConfChangeV2) {
      throw invalid(action, `the type of entry ${begin + i}`, "0, 1 or 2", type);
    }
    if (!isBytes(data)) throw invalid(action, `the data of entry ${begin + i}`, "a Uint8Array", data);
    if (data.length > MAX_ENTRY_BYTES) {
      throw tooLarge(`${action} entry ${begin + i}: its data has ${data.length} bytes`, MAX_ENTRY_BYTES);
    }
    if (i >= clipped) payloadBytes += data.length;
  }
  const lastIndex = begin + length - 1;
  if (lastIndex > MAX_INDEX) throw invalid(action, "the last entry's index", INDEX_RANGE, lastIndex);
  if (begin > out.lastIndex + 1) {
    throw new StableLogError("ERR_GAP", `${action} entries from ${begin}: the log ends at ${out.lastIndex}`);
  }
  if (clipped === length) return;
  out.entries = entries;
  out.from = clipped;
  out.count = length - clipped;
  out.firstIndex = begin + clipped;
  out.lastIndex = lastIndex;
  out.payloadBytes = payloadBytes;
}

function checkSaveBytes(out: CheckedBatch): void {
  const bytes = out.payloadBytes + (out.snapshot === undefined ? 0 : out.snapshot.data.length);
  if (bytes > MAX_SAVE_BYTES)
    throw tooLarge(`save ${out.count} entries: their data has ${bytes} bytes`, MAX_SAVE_BYTES);
}

// A recovered commit never exceeds the recovered lastIndex, because no accepted save leaves it so. A save without a
// HardState is judged by the commit it leaves standing, and only when it shortens the log: MemoryStorage.setHardState()
// may have put commit ahead, and appending towards it must stay possible.
function checkCommit(state: LogState, out: CheckedBatch): void {
  const commit = out.hardState === undefined ? state.commit : out.hardState.commit;
  if (commit <= out.lastIndex) return;
  if (out.hardState !== undefined) {
    throw new StableLogError(
      "ERR_INVALID_ARGUMENT",
      `save HardState with commit ${commit}: the log ends at ${out.lastIndex} after this save`,
    );
  }
  if (out.lastIndex < state.lastIndex) {
    throw new StableLogError(
      "ERR_INVALID_ARGUMENT",
      `save cuts the log at ${out.lastIndex}: commit ${commit} would lie beyond its end`,
    );
  }
}

/** Turns the state before an accepted save into the state after it. */
export function advanceState(state: LogState, checked: CheckedBatch): void {
  if (checked.snapshot !== undefined && !checked.bootstrap) {
    state.snapshotIndex = checked.snapshot.metadata.index;
    state.firstIndex = state.snapshotIndex + 1;
  }
  state.lastIndex = checked.lastIndex;
  if (checked.hardState !== undefined) {
    state.term = checked.hardState.term;
    state.vote = checked.hardState.vote;
    state.commit = checked.hardState.commit;
  }
}

/**
 * Checks the arguments of Storage.entries(), in the order in which etcd's MemoryStorage does.
 * @throws ERR_INVALID_ARGUMENT, ERR_COMPACTED, ERR_UNAVAILABLE.
 */
export function checkRange(
  lo: number,
  hi: number,
  maxSize: number | undefined,
  dummyIndex: number,
  lastIndex: number,
): void {
  if (!isCount(lo)) throw invalid("read entries", "lo", "an index", lo);
  if (!isCount(hi)) throw invalid("read entries", "hi", "an index", hi);
  // Whatever is not at least 0 goes, NaN with it; Infinity and etcd's noLimit of 2^64 - 1 are fine.
  if (maxSize !== undefined && !(typeof maxSize === "number" && maxSize >= 0)) {
    throw invalid("read entries", "maxSize", "a number of bytes", maxSize);
  }
  if (lo > hi) throw new StableLogError("ERR_INVALID_ARGUMENT", `read entries [${lo}, ${hi}): lo is above hi`);
  if (lo <= dummyIndex) {
    throw new StableLogError("ERR_COMPACTED", `read entries [${lo}, ${hi}): the log starts at ${dummyIndex + 1}`);
  }
  if (hi > lastIndex + 1) {
    throw new StableLogError("ERR_UNAVAILABLE", `read entries [${lo}, ${hi}): the log ends at ${lastIndex}`);
  }
  if (lastIndex === dummyIndex) {
    throw new StableLogError("ERR_UNAVAILABLE", `read entries [${lo}, ${hi}): the log is empty after ${dummyIndex}`);
  }
}

/**
 * Checks the argument of Storage.term(); the dummy has a term too.
 * @throws ERR_INVALID_ARGUMENT, ERR_COMPACTED, ERR_UNAVAILABLE.
 */
export function checkTerm(index: number, dummyIndex: number, lastIndex: number): void {
  if (!isCount(index)) throw invalid("read a term", "index", "an index", index);
  if (index < dummyIndex) {
    throw new StableLogError("ERR_COMPACTED", `read term of ${index}: the log knows terms from ${dummyIndex} on`);
  }
  if (index > lastIndex) {
    throw new StableLogError("ERR_UNAVAILABLE", `read term of ${index}: the log ends at ${lastIndex}`);
  }
}

/**
 * Checks the argument of WritableStorage.compact().
 * @throws ERR_INVALID_ARGUMENT, ERR_COMPACTED, ERR_UNAVAILABLE.
 */
export function checkCompact(index: number, dummyIndex: number, lastIndex: number): void {
  if (!isCount(index)) throw invalid("compact", "index", "an index", index);
  if (index <= dummyIndex) {
    throw new StableLogError("ERR_COMPACTED", `compact to ${index}: the log is already compacted to ${dummyIndex}`);
  }
  if (index > lastIndex) {
    throw new StableLogError("ERR_UNAVAILABLE", `compact to ${index}: the log ends at ${lastIndex}`);
  }
}

/**
 * Checks the arguments of WritableStorage.createSnapshot(). The dummy itself may be snapshotted: its term is known.
 * @throws ERR_INVALID_ARGUMENT, ERR_SNAP_OUT_OF_DATE, ERR_COMPACTED, ERR_UNAVAILABLE.
 */
export function checkCreateSnapshot(
  index: number,
  confState: ConfState | undefined,
  data: Uint8Array | AsyncIterable<Uint8Array>,
  dummyIndex: number,
  lastIndex: number,
  snapshotIndex: number,
): void {
  if (!isCount(index)) throw invalid("create snapshot", "index", "an index", index);
  if (confState !== undefined) checkConfState("create snapshot", confState);
  if (!isBytes(data) && !isAsyncIterable(data)) {
    throw invalid("create snapshot", "data", "a Uint8Array or an AsyncIterable of them", data);
  }
  if (index <= snapshotIndex) throw outOfDate("create snapshot", index, snapshotIndex);
  if (index < dummyIndex) {
    throw new StableLogError("ERR_COMPACTED", `create snapshot at ${index}: the log is compacted to ${dummyIndex}`);
  }
  if (index > lastIndex) {
    throw new StableLogError("ERR_UNAVAILABLE", `create snapshot at ${index}: the log ends at ${lastIndex}`);
  }
}

/**
 * Checks the arguments of WritableStorage.stageSnapshot().
 * @throws ERR_INVALID_ARGUMENT; ERR_SNAP_OUT_OF_DATE when a save of it could not be accepted any more.
 */
export function checkStageSnapshot(
  metadata: SnapshotMetadata,
  data: AsyncIterable<Uint8Array>,
  snapshotIndex: number,
): void {
  checkMetadata("stage snapshot", metadata, 1);
  if (!isAsyncIterable(data)) throw invalid("stage snapshot", "data", "an AsyncIterable of Uint8Array", data);
  if (metadata.index <= snapshotIndex) throw outOfDate("stage snapshot", metadata.index, snapshotIndex);
}

/** @throws ERR_INVALID_ARGUMENT unless it is a HardState with every field in its range. */
export function checkHardState(action: string, hardState: HardState): void {
  if (typeof hardState !== "object" || hardState === null) throw invalid(action, "hardState", "an object", hardState);
  const { term, vote, commit } = hardState;
  if (!isCount(term)) throw invalid(action, "hardState.term", TERM_RANGE, term);
  if (!isNodeId(vote)) throw invalid(action, "hardState.vote", ID_RANGE, vote);
  if (!isCount(commit) || commit > MAX_INDEX) throw invalid(action, "hardState.commit", COUNT_RANGE, commit);
}

/** @throws ERR_INVALID_ARGUMENT unless it is a ConfState with every field in its range. */
export function checkConfState(action: string, confState: ConfState): void {
  if (typeof confState !== "object" || confState === null) throw invalid(action, "confState", "an object", confState);
  checkNodeIds(action, "voters", confState.voters);
  checkNodeIds(action, "learners", confState.learners);
  checkNodeIds(action, "votersOutgoing", confState.votersOutgoing);
  checkNodeIds(action, "learnersNext", confState.learnersNext);
  const { autoLeave } = confState;
  if (typeof autoLeave !== "boolean") throw invalid(action, "confState.autoLeave", "a boolean", autoLeave);
}

/**
 * Checks one piece of a snapshot's data as it comes out of the caller's stream.
 * @throws ERR_INVALID_ARGUMENT unless it is a Uint8Array.
 */
export function checkChunk(action: string, chunk: unknown): asserts chunk is Uint8Array {
  if (!isBytes(chunk)) throw invalid(action, "a piece of the data", "a Uint8Array", chunk);
}

/** True for a Uint8Array of any realm, a Buffer included, and for no other view. */
export function isBytes(value: unknown): value is Uint8Array {
  return types.isUint8Array(value);
}

/** What a storage rejects with when the caller's stream failed after `bytes`; a StableLogError of its own goes through. */
export function streamError(action: string, bytes: number, cause: unknown): StableLogError {
  if (cause instanceof StableLogError) return cause;
  return new StableLogError("ERR_IO", `${action}: the stream of its data failed after ${bytes} bytes`, { cause });
}

/** True when both stand for the same snapshot, ConfState included: what ties a save to what was staged for it. */
export function sameMetadata(a: SnapshotMetadata, b: SnapshotMetadata): boolean {
  return (
    a.index === b.index &&
    a.term === b.term &&
    sameNodeIds(a.confState.voters, b.confState.voters) &&
    sameNodeIds(a.confState.learners, b.confState.learners) &&
    sameNodeIds(a.confState.votersOutgoing, b.confState.votersOutgoing) &&
    sameNodeIds(a.confState.learnersNext, b.confState.learnersNext) &&
    a.confState.autoLeave === b.confState.autoLeave
  );
}

function sameNodeIds(a: readonly bigint[], b: readonly bigint[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}

const INDEX_RANGE = "an integer from 1 to 2^53 - 2";
const COUNT_RANGE = "an integer from 0 to 2^53 - 2";
const TERM_RANGE = "an integer from 0 to 2^53 - 1";
const ID_RANGE = "a bigint from 0 to 2^64 - 1";

function checkMetadata(action: string, metadata: SnapshotMetadata, leastIndex: number): void {
  if (typeof metadata !== "object" || metadata === null) throw invalid(action, "its metadata", "an object", metadata);
  const { index, term, confState } = metadata;
  if (!isCount(index) || index < leastIndex || index > MAX_INDEX) {
    throw invalid(action, "metadata.index", `an integer from ${leastIndex} to 2^53 - 2`, index);
  }
  if (!isCount(term)) throw invalid(action, "metadata.term", TERM_RANGE, term);
  checkConfState(action, confState);
}

function checkNodeIds(action: string, name: string, ids: readonly bigint[]): void {
  if (!Array.isArray(ids)) throw invalid(action, `confState.${name}`, "an array", ids);
  for (let i = 0; i < ids.length; i++) {
    if (!isNodeId(ids[i])) throw invalid(action, `confState.${name}[${i}]`, ID_RANGE, ids[i]);
  }
}

function isNodeId(value: unknown): boolean {
  return typeof value === "bigint" && value >= 0n && value <= MAX_NODE_ID;
}

function isAsyncIterable(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { [Symbol.asyncIterator]?: unknown })[Symbol.asyncIterator] === "function"
  );
}

function indexOf(action: string, entries: readonly Entry[], position: number): number {
  const entry = entries[position];
  if (typeof entry !== "object" || entry === null) throw invalid(action, `entries[${position}]`, "an entry", entry);
  const { index } = entry;
  if (!isCount(index) || index === 0 || index > MAX_INDEX) {
    throw invalid(action, `entries[${position}].index`, INDEX_RANGE, index);
  }
  return index;
}

function notNext(action: string, entries: readonly Entry[], position: number, expected: number): StableLogError {
  const index = indexOf(action, entries, position);
  return new StableLogError("ERR_GAP", `${action} entries: entry ${expected - 1} is followed by ${index}`);
}

function outOfDate(action: string, index: number, snapshotIndex: number): StableLogError {
  return new StableLogError(
    "ERR_SNAP_OUT_OF_DATE",
    snapshotIndex === 0
      ? `${action} at ${index}: a snapshot stands for at least entry 1`
      : `${action}: a snapshot at ${index} is no newer than the one held, at ${snapshotIndex}`,
  );
}

function tooLarge(what: string, limit: number): StableLogError {
  return new StableLogError("ERR_TOO_LARGE", `${what}, the limit is ${limit}`);
}

function invalid(action: string, what: string, expected: string, got: unknown): StableLogError {
  return new StableLogError("ERR_INVALID_ARGUMENT", `${action}: ${what} must be ${expected}, got ${show(got)}`);
}

// Runs no code of the caller: String() on a foreign object could throw, and a message is not worth that.
function show(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.slice(0, 40));
    case "symbol":
      return "a symbol";
    case "function":
      return "a function";
    case "object":
      return value === null ? "null" : "an object";
    case "bigint":
      return `${value}n`;
    default:
      return String(value);
  }
}
