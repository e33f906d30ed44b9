// The mark: what a FileStorage restates in its log besides entries and HardState, namely the ConfState and the snapshots it
// keeps. MessagePack (base/msgpack.ts), arrays only, by a closed schema. HardState has 24 fixed bytes of its own.

import { getU64, isCount, MAX_INDEX, putU64 } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import { pack, unpack } from "../base/msgpack.js";
import { type ConfState, emptyConfState, type HardState, type SnapshotMetadata } from "../raftpb/types.js";

/** What the mark says. */
export interface StorageMark {
  /** The ConfState of the newest snapshot, or the one that bootstrapped the storage. */
  readonly confState: ConfState;
  /** The snapshots kept, newest first, at most two. */
  readonly snapshots: readonly SnapshotMetadata[];
}

const MARK_VERSION = 1;
const MAX_NODE_ID = 0xffffffffffffffffn;

/** The mark of a storage that has neither. */
export function emptyMark(): StorageMark {
  return { confState: emptyConfState(), snapshots: [] };
}

function packConfState(state: ConfState): unknown[] {
  return [state.voters, state.learners, state.votersOutgoing, state.learnersNext, state.autoLeave];
}

/** The bytes of a mark. */
export function encodeMark(mark: StorageMark): Uint8Array {
  const snapshots = mark.snapshots.map(({ index, term, confState }) => [index, term, packConfState(confState)]);
  return pack([MARK_VERSION, packConfState(mark.confState), snapshots]);
}

/** The bytes of a snapshot's metadata, for the head of its file. */
export function encodeMetadata({ index, term, confState }: SnapshotMetadata): Uint8Array {
  return pack([index, term, packConfState(confState)]);
}

/**
 * Reads a mark; no bytes are an empty mark.
 * @throws ERR_CORRUPT when they are anything but a mark; ERR_FORMAT_VERSION for a newer one.
 */
export function decodeMark(bytes: Uint8Array): StorageMark {
  if (bytes.length === 0) return emptyMark();
  const value = unpack(bytes);
  if (!Array.isArray(value)) throw malformed();
  if (typeof value[0] === "number" && value[0] > MARK_VERSION) {
    throw new StableLogError(
      "ERR_FORMAT_VERSION",
      `read storage mark: version ${value[0]}, this code reads ${MARK_VERSION}`,
    );
  }
  const [version, confState, snapshots] = value as unknown[];
  if (version !== MARK_VERSION || value.length !== 3) throw malformed();
  if (!Array.isArray(snapshots) || snapshots.length > 2) throw malformed();
  return { confState: confStateOf(confState), snapshots: snapshots.map(metadataOf) };
}

/**
 * Reads a snapshot's metadata.
 * @throws ERR_CORRUPT.
 */
export function decodeMetadata(bytes: Uint8Array): SnapshotMetadata {
  return metadataOf(unpack(bytes));
}

function metadataOf(value: unknown): SnapshotMetadata {
  if (!Array.isArray(value) || value.length !== 3) throw malformed();
  const [index, term, confState] = value as unknown[];
  if (!isCount(index) || index > MAX_INDEX || !isCount(term)) throw malformed();
  return { index, term, confState: confStateOf(confState) };
}

function confStateOf(value: unknown): ConfState {
  if (!Array.isArray(value) || value.length !== 5) throw malformed();
  const [voters, learners, votersOutgoing, learnersNext, autoLeave] = value as unknown[];
  if (typeof autoLeave !== "boolean") throw malformed();
  return {
    voters: nodeIds(voters),
    learners: nodeIds(learners),
    votersOutgoing: nodeIds(votersOutgoing),
    learnersNext: nodeIds(learnersNext),
    autoLeave,
  };
}

function nodeIds(value: unknown): bigint[] {
  if (!Array.isArray(value)) throw malformed();
  return value.map((id: unknown) => {
    if (typeof id !== "bigint" || id < 0n || id > MAX_NODE_ID) throw malformed();
    return id;
  });
}

function malformed(): StableLogError {
  return new StableLogError("ERR_CORRUPT", "read storage mark: not of the form that was written");
}

/** Writes a HardState as term u64, vote u64, commit u64. */
export function putHardState(view: DataView, at: number, state: HardState): void {
  const { vote } = state;
  // A node votes once a term: its halves are worked out that often.
  if (vote !== lastVote) {
    lastVote = vote;
    lastVoteLow = Number(BigInt.asIntN(32, vote));
    lastVoteHigh = Number(BigInt.asIntN(32, vote >> 32n));
  }
  putU64(view, at, state.term);
  view.setInt32(at + 8, lastVoteLow, true);
  view.setInt32(at + 12, lastVoteHigh, true);
  putU64(view, at + 16, state.commit);
}

let lastVote = 0n;
let lastVoteLow = 0;
let lastVoteHigh = 0;

/** Reads what putHardState() wrote. */
export function getHardState(view: DataView, at: number): HardState {
  return { term: getU64(view, at), vote: view.getBigUint64(at + 8, true), commit: getU64(view, at + 16) };
}
