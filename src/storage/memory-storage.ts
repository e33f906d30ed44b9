// MemoryStorage: a raft log in plain memory, for tests and for nodes that need not outlive their process. It keeps every
// contract of WritableStorage but durability, and is what FileStorage is held against. Promises: each method takes effect
// before it returns (a streamed snapshot when its stream has ended), and nothing of the caller's is kept.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import type { SaveBatch, WritableStorage } from "../raft/storage.js";
import {
  type ConfState,
  cloneConfState,
  type Entry,
  emptyConfState,
  entrySize,
  type HardState,
  type Snapshot,
  type SnapshotMetadata,
} from "../raftpb/types.js";
import {
  acceptEntries,
  acceptSnapshot,
  advanceState,
  type CheckedBatch,
  checkBatch,
  checkChunk,
  checkCompact,
  checkCreateSnapshot,
  checkHardState,
  checkRange,
  checkStageSnapshot,
  checkTerm,
  emptyLogState,
  isBytes,
  newCheckedBatch,
  resetBatch,
  sameMetadata,
  streamError,
} from "./batch.js";

const NO_DATA = new Uint8Array(0);

export class MemoryStorage implements WritableStorage {
  // state.firstIndex - 1 is the dummy: the entry that stays behind as index and term only.
  readonly #state = emptyLogState();
  #dummyTerm = 0;
  // #entries[i] has index state.firstIndex + i, and there are as many as reach to state.lastIndex.
  #entries: Entry[] = [];
  // With index 0 it is none; its ConfState may still be one that bootstrapped the log.
  #snapshot: Snapshot = { metadata: { index: 0, term: 0, confState: emptyConfState() }, data: NO_DATA };
  // Received ahead of their saves; all have an index above that of #snapshot.
  #staged: Snapshot[] = [];
  // Snapshots that have their place but not yet all their data, oldest first, their indexes ascending.
  #pending: SnapshotMetadata[] = [];
  readonly #streams = new Set<Promise<unknown>>();
  readonly #checked: CheckedBatch = newCheckedBatch();
  #closing: Promise<void> | undefined;

  /** The last HardState, and the ConfState of the snapshot or of the bootstrap. */
  initialState(): { hardState: HardState; confState: ConfState } {
    this.#checkOpen("read the initial state");
    const { term, vote, commit } = this.#state;
    return { hardState: { term, vote, commit }, confState: cloneConfState(this.#snapshot.metadata.confState) };
  }

  entries(lo: number, hi: number, maxSize?: number): Entry[] {
    this.#checkOpen("read entries");
    const { firstIndex, lastIndex } = this.#state;
    checkRange(lo, hi, maxSize, firstIndex - 1, lastIndex);
    const found = this.#entries.slice(lo - firstIndex, hi - firstIndex);
    if (maxSize !== undefined) limitEntries(found, maxSize);
    return found;
  }

  term(index: number): number {
    this.#checkOpen("read a term");
    const dummyIndex = this.#state.firstIndex - 1;
    checkTerm(index, dummyIndex, this.#state.lastIndex);
    if (index === dummyIndex) return this.#dummyTerm;
    const entry = this.#entries[index - dummyIndex - 1];
    assert(entry !== undefined && entry.index === index, `entry ${index} is not where it should be`);
    return entry.term;
  }

  firstIndex(): number {
    this.#checkOpen("read firstIndex");
    return this.#state.firstIndex;
  }

  lastIndex(): number {
    this.#checkOpen("read lastIndex");
    return this.#state.lastIndex;
  }

  snapshot(): Snapshot {
    this.#checkOpen("read the snapshot");
    return { metadata: cloneMetadata(this.#snapshot.metadata), data: this.#snapshot.data };
  }

  readSnapshot(): { metadata: SnapshotMetadata; data: AsyncIterable<Uint8Array> } | undefined {
    this.#checkOpen("read the snapshot");
    const { metadata, data } = this.#snapshot;
    if (metadata.index === 0) return undefined;
    return { metadata: cloneMetadata(metadata), data: onePiece(data) };
  }

  /**
   * Overwrites the HardState, whatever the one before: etcd's SetHardState, which judges neither term nor commit.
   * @throws ERR_INVALID_ARGUMENT, ERR_CLOSED.
   */
  setHardState(hardState: HardState): void {
    this.#checkOpen("set HardState");
    checkHardState("set HardState", hardState);
    this.#state.term = hardState.term;
    this.#state.vote = hardState.vote;
    this.#state.commit = hardState.commit;
  }

  /**
   * Appends entries; those at an index already held replace everything from there on, those at or below the dummy are
   * left out. etcd's Append, with ERR_GAP where that panics. Commit is not looked at.
   * @throws ERR_INVALID_ARGUMENT, ERR_GAP, ERR_TOO_LARGE, ERR_CLOSED.
   */
  append(entries: readonly Entry[]): void {
    this.#checkOpen("append");
    const checked = this.#checked;
    resetBatch(checked);
    checked.lastIndex = this.#state.lastIndex;
    acceptEntries("append", entries, this.#state.firstIndex - 1, checked);
    this.#apply(checked);
  }

  /**
   * Replaces the log by a snapshot: all entries go. With index 0 only its ConfState is taken. etcd's ApplySnapshot.
   * @throws ERR_INVALID_ARGUMENT, ERR_SNAP_OUT_OF_DATE, ERR_CLOSED.
   */
  applySnapshot(snapshot: Snapshot): void {
    this.#checkOpen("apply snapshot");
    const checked = this.#checked;
    resetBatch(checked);
    checked.lastIndex = this.#state.lastIndex;
    if (acceptSnapshot("apply snapshot", this.#state, snapshot, checked) && !checked.bootstrap) {
      checked.lastIndex = snapshot.metadata.index;
    }
    this.#apply(checked);
  }

  async save(batch: SaveBatch): Promise<void> {
    this.#checkOpen("save");
    checkBatch(this.#state, batch, this.#checked);
    this.#apply(this.#checked);
  }

  async createSnapshot(
    index: number,
    confState: ConfState | undefined,
    data: Uint8Array | AsyncIterable<Uint8Array>,
  ): Promise<SnapshotMetadata> {
    this.#checkOpen("create snapshot");
    const state = this.#state;
    checkCreateSnapshot(index, confState, data, state.firstIndex - 1, state.lastIndex, state.snapshotIndex);
    const metadata: SnapshotMetadata = {
      index,
      term: this.term(index),
      confState: cloneConfState(confState ?? this.#lastMetadata().confState),
    };
    if (isBytes(data)) {
      const copy = new Uint8Array(data);
      state.snapshotIndex = index;
      this.#replaceSnapshot({ metadata, data: copy });
    } else {
      state.snapshotIndex = index;
      this.#pending.push(metadata);
      await this.#track(this.#finishSnapshot(metadata, data));
    }
    return cloneMetadata(metadata);
  }

  async stageSnapshot(metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void> {
    this.#checkOpen("stage snapshot");
    checkStageSnapshot(metadata, data, this.#state.snapshotIndex);
    await this.#track(this.#finishStaging(cloneMetadata(metadata), data));
  }

  async compact(index: number): Promise<void> {
    this.#checkOpen("compact");
    const state = this.#state;
    checkCompact(index, state.firstIndex - 1, state.lastIndex);
    this.#dummyTerm = this.term(index);
    // A new array: dropping many from the front of the old one would move all that stay anyway.
    this.#entries = this.#entries.slice(index + 1 - state.firstIndex);
    state.firstIndex = index + 1;
  }

  /** Waits for the streams of snapshots that were begun; everything called from now on meets ERR_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#streams).then(() => {
      this.#entries = [];
      this.#staged = [];
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(action: string): void {
    if (this.#closing !== undefined) throw new StableLogError("ERR_CLOSED", `${action}: the storage is closed`);
  }

  // Everything that can fail is done before the first field changes: the copies.
  #apply(checked: CheckedBatch): void {
    const state = this.#state;
    const { snapshot, bootstrap, entries, from, count } = checked;
    const copies: Entry[] = new Array<Entry>(count);
    for (let i = 0; i < count; i++) {
      const entry = entries[from + i];
      assert(entry !== undefined, `entry ${checked.firstIndex + i} was there when it was checked`);
      copies[i] = { term: entry.term, index: entry.index, type: entry.type, data: new Uint8Array(entry.data) };
    }
    if (snapshot !== undefined && bootstrap) {
      const confState = cloneConfState(snapshot.metadata.confState);
      this.#snapshot = { metadata: { index: 0, term: 0, confState }, data: NO_DATA };
    } else if (snapshot !== undefined) {
      const metadata = cloneMetadata(snapshot.metadata);
      this.#replaceSnapshot({ metadata, data: this.#dataOf(snapshot) });
      this.#entries = [];
      this.#dummyTerm = metadata.term;
    }
    advanceState(state, checked);
    if (count > 0) {
      this.#entries.length = checked.firstIndex - state.firstIndex;
      for (const copy of copies) this.#entries.push(copy);
    }
    assert(this.#entries.length === state.lastIndex + 1 - state.firstIndex, "entries and indexes have come apart");
    resetBatch(checked);
  }

  #dataOf(snapshot: Snapshot): Uint8Array {
    if (snapshot.data.length > 0) return new Uint8Array(snapshot.data);
    const staged = this.#staged.find((other) => sameMetadata(other.metadata, snapshot.metadata));
    return staged === undefined ? NO_DATA : staged.data;
  }

  // What is not newer than the snapshot now held can never be saved any more.
  #replaceSnapshot(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    if (this.#staged.length === 0) return;
    this.#staged = this.#staged.filter((staged) => staged.metadata.index > snapshot.metadata.index);
  }

  async #finishSnapshot(metadata: SnapshotMetadata, stream: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      const data = await collect(`create snapshot at ${metadata.index}`, stream);
      // A later snapshot that was quicker stands for this one as well.
      if (metadata.index > this.#snapshot.metadata.index) this.#replaceSnapshot({ metadata, data });
    } finally {
      this.#pending.splice(this.#pending.indexOf(metadata), 1);
      // When the stream failed, its index is free again for another snapshot.
      this.#state.snapshotIndex = this.#lastMetadata().index;
    }
  }

  // The newest snapshot in order of place, not of completion.
  #lastMetadata(): SnapshotMetadata {
    const last = this.#pending.at(-1);
    return last !== undefined && last.index > this.#snapshot.metadata.index ? last : this.#snapshot.metadata;
  }

  async #finishStaging(metadata: SnapshotMetadata, stream: AsyncIterable<Uint8Array>): Promise<void> {
    const data = await collect(`stage snapshot at ${metadata.index}`, stream);
    checkStageSnapshot(metadata, stream, this.#snapshot.metadata.index);
    this.#staged = this.#staged.filter((staged) => !sameMetadata(staged.metadata, metadata));
    this.#staged.push({ metadata, data });
  }

  // close() waits for what is in here and looks at no outcome; the caller gets the same promise and its rejection.
  #track<T>(stream: Promise<T>): Promise<T> {
    this.#streams.add(stream);
    const forget = (): void => {
      this.#streams.delete(stream);
    };
    stream.then(forget, forget);
    return stream;
  }
}

// Keeps the longest beginning whose sizes sum up to at most `maxSize`, and the first entry whatever its size.
function limitEntries(entries: Entry[], maxSize: number): void {
  let bytes = 0;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i];
    assert(entry !== undefined, "the log has no holes");
    bytes += entrySize(entry);
    if (bytes > maxSize && i > 0) {
      entries.length = i;
      return;
    }
  }
}

function cloneMetadata(metadata: SnapshotMetadata): SnapshotMetadata {
  return { index: metadata.index, term: metadata.term, confState: cloneConfState(metadata.confState) };
}

// Pieces are copied as they come: a stream may use one buffer for all of them.
async function collect(action: string, stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of stream) {
      checkChunk(action, piece);
      pieces.push(new Uint8Array(piece));
      bytes += piece.length;
    }
    const data = new Uint8Array(bytes);
    let at = 0;
    for (const piece of pieces) {
      data.set(piece, at);
      at += piece.length;
    }
    return data;
  } catch (error) {
    throw streamError(action, bytes, error);
  }
}

// Each iteration begins anew.
function onePiece(data: Uint8Array): AsyncIterable<Uint8Array> {
  return {
    async *[Symbol.asyncIterator]() {
      if (data.length > 0) yield data;
    },
  };
}
