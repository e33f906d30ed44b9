// The words of raft, as in etcd's raftpb: no behaviour. Index and term are numbers checked to be safe integers wherever
// they enter; node IDs and votes are bigint, because etcd's are full 64-bit.

/** What an entry carries. The numbers are etcd's. */
export const EntryType = { Normal: 0, ConfChange: 1, ConfChangeV2: 2 } as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

/** One entry of the log. `data` of a returned entry is a view: do not change it, copy it to keep it long. */
export interface Entry {
  term: number;
  /** From 1 up. */
  index: number;
  type: EntryType;
  data: Uint8Array;
}

/** What a node must not forget besides its entries. All zero means "none yet". */
export interface HardState {
  term: number;
  /** Node ID voted for in `term`; 0n for none. */
  vote: bigint;
  /** Highest index known committed, inclusive. */
  commit: number;
}

/** Who takes part. All empty means "not known". */
export interface ConfState {
  voters: bigint[];
  learners: bigint[];
  votersOutgoing: bigint[];
  learnersNext: bigint[];
  autoLeave: boolean;
}

/** What a snapshot stands for: everything up to and including `index`. */
export interface SnapshotMetadata {
  index: number;
  term: number;
  confState: ConfState;
}

export interface Snapshot {
  metadata: SnapshotMetadata;
  data: Uint8Array;
}

/** A HardState with nothing in it. */
export function emptyHardState(): HardState {
  return { term: 0, vote: 0n, commit: 0 };
}

/** A ConfState with nobody in it. */
export function emptyConfState(): ConfState {
  return { voters: [], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false };
}

/** True when the HardState is all zero, which means the same as absent. */
export function isEmptyHardState(state: HardState): boolean {
  return state.term === 0 && state.vote === 0n && state.commit === 0;
}

/** True when the ConfState names nobody and says nothing. */
export function isEmptyConfState(state: ConfState): boolean {
  return (
    state.voters.length === 0 &&
    state.learners.length === 0 &&
    state.votersOutgoing.length === 0 &&
    state.learnersNext.length === 0 &&
    !state.autoLeave
  );
}

/** A copy that shares no array with the original. */
export function cloneConfState(state: ConfState): ConfState {
  return {
    voters: [...state.voters],
    learners: [...state.learners],
    votersOutgoing: [...state.votersOutgoing],
    learnersNext: [...state.learnersNext],
    autoLeave: state.autoLeave,
  };
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}

/**
 * The protobuf size of an entry in bytes, as the head of etcd-raft counts it: term and index always, type when it is not
 * Normal, data when it is not empty. `maxSize` limits count this.
 */
export function entrySize(entry: Entry): number {
  const data = entry.data.length;
  return (
    2 +
    varintBytes(entry.term) +
    varintBytes(entry.index) +
    (entry.type === EntryType.Normal ? 0 : 1 + varintBytes(entry.type)) +
    (data === 0 ? 0 : 1 + varintBytes(data) + data)
  );
}
