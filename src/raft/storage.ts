// The Storage interface, owned by its consumer (the raft core) as in etcd-io/raft storage.go, and what both of our
// storages add to it. Implementations live in src/storage/; testStorage() of stablelog/testing proves any of them.

import type { ConfState, Entry, HardState, Snapshot, SnapshotMetadata } from "../raftpb/types.js";

/** etcd-raft's six methods: synchronous, they throw. They answer from the durable state only. */
export interface Storage {
  /** The last HardState, and the ConfState of the snapshot (empty when there is none). */
  initialState(): { hardState: HardState; confState: ConfState };
  /**
   * The entries of [lo, hi), as many as fit `maxSize` bytes (entrySize() each; at least one; undefined is no limit).
   * @throws ERR_COMPACTED when lo is at or below the dummy entry; ERR_UNAVAILABLE when hi is beyond lastIndex + 1 or the
   * log is empty; ERR_INVALID_ARGUMENT when lo is above hi or either is no safe integer.
   */
  entries(lo: number, hi: number, maxSize?: number): Entry[];
  /**
   * The term of the entry at `index`, the dummy entry (firstIndex - 1) included.
   * @throws ERR_COMPACTED below the dummy; ERR_UNAVAILABLE above lastIndex.
   */
  term(index: number): number;
  /** The first index that entries() can return: one above the dummy. */
  firstIndex(): number;
  /** The last index held; firstIndex() - 1 when the log is empty. */
  lastIndex(): number;
  /** The newest snapshot; index 0, term 0 and an empty ConfState when there is none. */
  snapshot(): Snapshot;
}

/** One Ready's worth of changes. A Ready of the raft core is assignable to it. */
export interface SaveBatch {
  readonly hardState?: HardState | undefined;
  readonly entries?: readonly Entry[] | undefined;
  readonly snapshot?: Snapshot | undefined;
  /** False lets a save whose single change is `commit` resolve before it is synced; on any other save it is ignored. */
  readonly mustSync?: boolean | undefined;
}

/** A Storage that can be written. Its promise methods reject, they never throw. */
export interface WritableStorage extends Storage {
  /**
   * Makes the batch durable, all of it or none: the snapshot first, then entries, then the HardState. Resolves once it is.
   * Entries at an index already held replace everything from there on. Caller buffers are copied before it returns.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_GAP, ERR_SNAP_OUT_OF_DATE, ERR_TOO_LARGE, ERR_NO_SPACE, ERR_IO,
   * ERR_POISONED, ERR_READ_ONLY, ERR_CLOSED.
   */
  save(batch: SaveBatch): Promise<void>;
  /**
   * Makes a snapshot of everything up to `index` durable; the log stays as it is until compact(). An undefined ConfState
   * keeps the last one. Bytes take their place in the queue of saves; a stream takes it when it has ended.
   * @throws (rejects) ERR_SNAP_OUT_OF_DATE at or below the current snapshot; ERR_UNAVAILABLE above lastIndex;
   * ERR_COMPACTED below the dummy entry.
   */
  createSnapshot(
    index: number,
    confState: ConfState | undefined,
    data: Uint8Array | AsyncIterable<Uint8Array>,
  ): Promise<SnapshotMetadata>;
  /** Writes a received snapshot's data ahead of its save; a save of the same metadata with empty data then takes it. */
  stageSnapshot(metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void>;
  /** The newest snapshot with its data as a stream; undefined when there is none. */
  readSnapshot(): { metadata: SnapshotMetadata; data: AsyncIterable<Uint8Array> } | undefined;
  /**
   * Drops the entries up to and including `index`, which stays as the dummy: the new firstIndex is index + 1.
   * @throws (rejects) ERR_COMPACTED at or below the dummy; ERR_UNAVAILABLE above lastIndex.
   */
  compact(index: number): Promise<void>;
  /** Waits for pending saves, then syncs. Closing twice is fine. */
  close(): Promise<void>;
}
