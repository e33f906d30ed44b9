// The messages of etcd's WAL and snapshot files, decoded from protobuf: walpb Record and Snapshot, raftpb Entry, HardState,
// ConfState, SnapshotMetadata and Snapshot, snappb Snapshot. Called by wal-reader.ts, snapshot-file.ts and member.ts.
// Each decoder takes the place its bytes come from and throws ERR_CORRUPT with it. Byte fields come back as views.
//
//    frame   0                      8                8 + n
//            +----------------------+--- ... --------+---------+
//            | length word, u64 LE  | Record (n)     | padding |     padded with zeros to a multiple of 8
//            +----------------------+--- ... --------+---------+
//            length word: n in the low 56 bits; top byte 0 without padding, 0x80 + padding bytes (1..7) with it
//
//    Record  { 1: type int64, 2: crc uint32, 3: data bytes }       crc is CRC-32C, running over the data of all records
//
// Source: etcd 3.4 to 3.6, server/storage/wal (decoder.go, walpb/record.proto), raft/raftpb/raft.proto, api/snap/snappb.

import { viewOf } from "../base/bytes.js";
import type { ConfState, Entry, HardState, Snapshot, SnapshotMetadata } from "../raftpb/types.js";
import { EntryType, emptyConfState, emptyHardState } from "../raftpb/types.js";
import { corruptAt, type Place } from "./place.js";
import { WireReader } from "./wire.js";

/** What a Record carries. The numbers are etcd's; zero is none of them, so preallocated space is no record. */
export const RecordType = { Metadata: 1, Entry: 2, State: 3, Crc: 4, Snapshot: 5 } as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** One Record of a segment. */
export interface WalRecord {
  readonly type: RecordType;
  /** The running CRC-32C after `data`; in a crc record the running value itself. */
  readonly crc: number;
  readonly data: Uint8Array;
}

/** Bytes of the length word before each Record, and what frames are padded to a multiple of. */
export const LENGTH_WORD_BYTES = 8;

const noBytes: Uint8Array = new Uint8Array(0);

/** The length word at `at`, taken apart. */
export interface FrameLength {
  /** Zero is space that was preallocated and never written, when `padBytes` is zero as well. */
  recordBytes: number;
  /** Undefined for a top byte that etcd does not write. */
  padBytes: number | undefined;
}

/** Takes the length word at `at` apart; `recordBytes` is inexact above 2^53, which is beyond any file anyway. */
export function decodeFrameLength(bytes: Uint8Array, at: number): FrameLength {
  const view = viewOf(bytes);
  const high = view.getUint32(at + 4, true);
  const top = high >>> 24;
  const padBytes = top === 0 ? 0 : top > 0x80 && top <= 0x87 ? top & 7 : undefined;
  return { recordBytes: (high & 0xffffff) * 4294967296 + view.getUint32(at, true), padBytes };
}

const knownTypes: readonly (number | undefined)[] = Object.values(RecordType);

function isRecordType(type: number | undefined): type is RecordType {
  return knownTypes.includes(type);
}

/** Decodes a walpb Record; its checksum is the caller's to verify. */
export function decodeRecord(bytes: Uint8Array, place: Place): WalRecord {
  const wire = new WireReader(bytes, "Record", place);
  let type: number | undefined;
  let crc = 0;
  let data = noBytes;
  while (wire.next()) {
    if (wire.field === 1) type = wire.count();
    else if (wire.field === 2) crc = wire.u32();
    else if (wire.field === 3) data = wire.bytes();
    else wire.skip();
  }
  if (!isRecordType(type)) throw corruptAt(place, `a record of type ${type ?? "none"}`);
  return { type, crc, data };
}

function isEntryType(type: number): type is EntryType {
  return type === EntryType.Normal || type === EntryType.ConfChange || type === EntryType.ConfChangeV2;
}

/** Decodes a raftpb Entry; `data` is a view of `bytes`. */
export function decodeEntry(bytes: Uint8Array, place: Place): Entry {
  const wire = new WireReader(bytes, "Entry", place);
  let type: number = EntryType.Normal;
  let term = 0;
  let index = 0;
  let data = noBytes;
  while (wire.next()) {
    if (wire.field === 1) type = wire.count();
    else if (wire.field === 2) term = wire.count();
    else if (wire.field === 3) index = wire.count();
    else if (wire.field === 4) data = wire.bytes();
    else wire.skip();
  }
  if (!isEntryType(type)) throw corruptAt(place, `entry ${index} has type ${type}`);
  if (index === 0) throw corruptAt(place, "an entry has index 0");
  return { term, index, type, data };
}

/** Decodes a raftpb HardState. */
export function decodeHardState(bytes: Uint8Array, place: Place): HardState {
  const wire = new WireReader(bytes, "HardState", place);
  const state = emptyHardState();
  while (wire.next()) {
    if (wire.field === 1) state.term = wire.count();
    else if (wire.field === 2) state.vote = wire.id();
    else if (wire.field === 3) state.commit = wire.count();
    else wire.skip();
  }
  return state;
}

function decodeConfState(bytes: Uint8Array, place: Place): ConfState {
  const wire = new WireReader(bytes, "ConfState", place);
  const state = emptyConfState();
  while (wire.next()) {
    if (wire.field === 1) wire.ids(state.voters);
    else if (wire.field === 2) wire.ids(state.learners);
    else if (wire.field === 3) wire.ids(state.votersOutgoing);
    else if (wire.field === 4) wire.ids(state.learnersNext);
    else if (wire.field === 5) state.autoLeave = wire.flag();
    else wire.skip();
  }
  return state;
}

/** Decodes a walpb Snapshot, the mark that a snapshot was saved; etcd before 3.5 writes no ConfState into it. */
export function decodeSnapshotMark(bytes: Uint8Array, place: Place): SnapshotMetadata {
  const wire = new WireReader(bytes, "Snapshot", place);
  const mark: SnapshotMetadata = { index: 0, term: 0, confState: emptyConfState() };
  while (wire.next()) {
    if (wire.field === 1) mark.index = wire.count();
    else if (wire.field === 2) mark.term = wire.count();
    else if (wire.field === 3) mark.confState = decodeConfState(wire.bytes(), place);
    else wire.skip();
  }
  return mark;
}

function decodeSnapshotMetadata(bytes: Uint8Array, place: Place): SnapshotMetadata {
  const wire = new WireReader(bytes, "SnapshotMetadata", place);
  const metadata: SnapshotMetadata = { index: 0, term: 0, confState: emptyConfState() };
  while (wire.next()) {
    if (wire.field === 1) metadata.confState = decodeConfState(wire.bytes(), place);
    else if (wire.field === 2) metadata.index = wire.count();
    else if (wire.field === 3) metadata.term = wire.count();
    else wire.skip();
  }
  return metadata;
}

/** Decodes a raftpb Snapshot; `data` is a view of `bytes`. */
export function decodeSnapshot(bytes: Uint8Array, place: Place): Snapshot {
  const wire = new WireReader(bytes, "Snapshot", place);
  let data = noBytes;
  let metadata: SnapshotMetadata = { index: 0, term: 0, confState: emptyConfState() };
  while (wire.next()) {
    if (wire.field === 1) data = wire.bytes();
    else if (wire.field === 2) metadata = decodeSnapshotMetadata(wire.bytes(), place);
    else wire.skip();
  }
  return { metadata, data };
}

/** Decodes a snappb Snapshot, the envelope of a .snap file; its checksum is the caller's to verify. */
export function decodeSnapshotEnvelope(bytes: Uint8Array, place: Place): { crc: number; data: Uint8Array } {
  const wire = new WireReader(bytes, "snapshot file", place);
  let crc = 0;
  let data = noBytes;
  while (wire.next()) {
    if (wire.field === 1) crc = wire.u32();
    else if (wire.field === 2) data = wire.bytes();
    else wire.skip();
  }
  return { crc, data };
}
