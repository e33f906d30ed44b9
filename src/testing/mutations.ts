// Mutations: random damage in great numbers, of whole small logs (opened, read, verified and judged by damage.ts) and of every
// decoder alone, at a much higher rate. Each mutation follows from (seed, number) and nothing else, so one line names it and
// replay() does it again. Used by `stablelog` commands and test/damage. What must hold: damage is found by name or changes
// nothing; forged bytes under good checksums are refused or taken with good manners; nothing throws an error without a code,
// runs on for ever, or touches a prototype.
//
// forge() makes such bytes: it writes frames of anybody's making into a segment and renews every checksum, chain, link and
// watermark that would tell.

import { AssertionError, assert } from "../base/assert.js";
import { align8, getU64, isCount, putU64, viewOf } from "../base/bytes.js";
import { crc32, crc32c } from "../base/crc32.js";
import { StableLogError } from "../base/errors.js";
import type { Disk, DiskFile } from "../disk/disk.js";
import { MemoryDisk } from "../disk/memory-disk.js";
import { readMember } from "../etcd/member.js";
import type { Place } from "../etcd/place.js";
import * as etcd from "../etcd/record.js";
import { type ConfState, type Entry, EntryType, emptyConfState, type HardState } from "../raftpb/types.js";
import { decodeMark, decodeMetadata, encodeMark, encodeMetadata } from "../storage/mark.js";
import { isSnapshotName, loadSnapshot } from "../storage/snapshot-file.js";
import * as f from "../wal/format.js";
import {
  checkFrame,
  emptyPart,
  type FrameExpectation,
  flip,
  frameBytes,
  frameBytesAt,
  oneBitFromValid,
  readPart,
  segmentIdentity,
  walkRecords,
} from "../wal/frame.js";
import { LogView, newSegment } from "../wal/log-view.js";
import { SegmentIndex } from "../wal/segment-index.js";
import { parseIndexName, STATE_NAME, segmentName } from "../wal/segment-name.js";
import { parseState } from "../wal/state-file.js";
import {
  type Damage,
  describeDamage,
  type Extent,
  type Files,
  growLog,
  judge,
  newestSegmentOf,
  type Specimen,
  type Step,
  specimenOf,
  withoutWatermark,
} from "./damage.js";
import { Random, seedOf } from "./random.js";

// ---- specimens

function payload(bytes: number, salt: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + salt * 7 + 1) % 251);
}

/** Entries of one term; `salt` gives other bytes of the same lengths. */
type Run = (first: number, count: number, term: number, bytes: number) => Entry[];

const runOf =
  (salt: number): Run =>
  (first, count, term, bytes) =>
    Array.from({ length: count }, (_, i) => ({
      term,
      index: first + i,
      type: i % 3 === 2 ? EntryType.ConfChangeV2 : EntryType.Normal,
      data: payload(bytes, first + i + term + salt),
    }));

const hard = (term: number, commit: number, vote = 2n ** 63n + 5n): HardState => ({ term, vote, commit });
const voters = (...ids: bigint[]): ConfState => ({ ...emptyConfState(), voters: ids });
const save = (entries: Entry[], hardState?: HardState): Step => {
  return (storage) => storage.save(hardState === undefined ? { entries } : { entries, hardState });
};

/** Steps called together, or a close and an open. */
type Burst = readonly Step[] | "reopen";

/** Saves of one segment, one group each; the last `grouped` of them are one group. */
function oneSegment(run: Run, saves: number, grouped: number): Step[][] {
  const bursts: Step[][] = [];
  const last: Step[] = [];
  for (let i = 1; i <= saves; i++) {
    const step = save(
      run(i, 1 + (i % 2), 1 + Math.floor(i / 9), 9 + ((i * 13) % 60)),
      hard(1 + Math.floor(i / 9), i - 1),
    );
    if (i <= saves - grouped) bursts.push([step]);
    else last.push(step);
  }
  if (last.length > 0) bursts.push(last);
  return bursts;
}

/** Several tiny segments (each open begins one), overwritten entries, two snapshots, a compaction. */
const manySegments = (run: Run): Burst[] => [
  [save(run(1, 4, 1, 30), hard(1, 1))],
  [save(run(5, 2, 1, 20))],
  "reopen",
  [save(run(5, 3, 2, 25), hard(2, 3))],
  [(s) => s.createSnapshot(2, voters(1n, 2n ** 64n - 1n), payload(60, 1))],
  "reopen",
  [(s) => s.createSnapshot(3, { ...voters(3n), learners: [9n], autoLeave: true }, payload(45, 2))],
  [save(run(8, 1, 2, 0)), (s) => s.compact(2)],
  "reopen",
  [save(run(7, 3, 3, 15), hard(3, 4))],
  [save([], hard(4, 6))],
];

/** Saves that are cut into blocks. */
const largeSaves = (run: Run): Burst[] => [
  [save(run(1, 3, 1, 100), hard(1, 1))],
  [save([...run(4, 5, 1, 3501), ...run(9, 4, 2, 1203)], hard(2, 3))],
  [save(run(7, 2, 3, 9), hard(3, 4))],
  [save([...run(9, 2, 3, 8999), ...run(11, 2, 4, 17)], hard(4, 8))],
];

/**
 * Those in an older segment, where nothing but a read or verify() looks at them; behind them two frames of one length that
 * begin with the same entry.
 */
const agedSaves = (run: Run): Burst[] => [
  ...largeSaves(run),
  [save(run(11, 2, 5, 40), hard(5, 8))],
  [save(run(11, 2, 6, 40), hard(6, 8))],
  "reopen",
  [save(run(13, 2, 7, 40), hard(7, 9))],
];

/** Segment after segment in one life: STATE's slots change places with each. */
const turningSegments = (run: Run): Burst[] =>
  Array.from({ length: 9 }, (_, i) => [save(run(1 + i, 1, 1 + (i >> 2), 1400), hard(1 + (i >> 2), i))]);

/** The same twice, in the same places of two segments: the second leaves nothing of the first. */
const twinSegments = (run: Run): Burst[] => [
  [save(run(1, 3, 1, 100), hard(1, 0))],
  [save(run(4, 6, 1, 3501))],
  "reopen",
  [save(run(1, 3, 2, 100), hard(2, 0))],
  [save(run(4, 6, 2, 3501))],
  "reopen",
  [save(run(10, 2, 3, 40), hard(3, 4))],
];

/**
 * The logs that mutations are made of, and those that test/damage goes through exhaustively. By how they ended: closed;
 * killed; "behind", killed between a group's sync and the watermark that tells of it; "powerless", after a power cut that
 * took the watermark. `seed` gives a log its identity; `salt` gives it other bytes of the same lengths.
 */
export async function growSpecimens(seed = 1, salt = 0): Promise<Specimen[]> {
  const made: Specimen[] = [];
  const run = runOf(salt);
  for (const [shape, bursts, segmentBytes] of [
    ["one", oneSegment(run, 18, 0), 4096],
    ["group", oneSegment(run, 17, 4), 4096],
    ["many", manySegments(run), 4096],
    ["large", largeSaves(run), 45056],
    ["aged", agedSaves(run), 45056],
    ["twin", twinSegments(run), 45056],
    ["turning", turningSegments(run), 4096],
  ] as const) {
    const { closed, moments, history } = await growLog(bursts, { seed, segmentBytes });
    const killed = new Map(moments.at(-1));
    // Zeros that open() removes unread.
    killed.delete("spare");
    const earlier = moments.slice(0, -1);
    const behind = new Map(killed).set("STATE", earlier.at(-1)?.get("STATE") as Uint8Array);
    const add = async (name: string, files: Map<string, Uint8Array>): Promise<void> => {
      made.push(await specimenOf(`${shape} ${name}`, files, history, earlier));
    };
    await add("closed", new Map(closed));
    await add("killed", killed);
    await add("behind", behind);
    await add("powerless", withoutWatermark(killed));
  }
  return made;
}

// ---- forging

/** A frame that forge() writes. */
export interface ForgedFrame {
  readonly body: Uint8Array;
  /** Bytes of the body under its checksum from the start; the rest is blocks. All of it when left out. */
  readonly metaBytes?: number | undefined;
  /** Changes header fields when all but the header's checksum is set: what it leaves is what stands there, under a good one. */
  readonly header?: ((header: DataView) => void) | undefined;
}

/** The frames of segment `file`, as forge() takes them. */
export function framesFor(files: Files, layout: readonly Extent[], file: string): ForgedFrame[] {
  const bytes = files.get(file) as Uint8Array;
  const view = viewOf(bytes);
  const frames = layout.filter((each) => each.file === file && (each.kind === "head" || each.kind === "frame"));
  return frames.map(({ from, durable }) => {
    const body = from + f.HEADER_BYTES;
    return {
      body: bytes.slice(body, body + view.getUint32(from + f.H_BODY_BYTES, true)),
      metaBytes: view.getUint32(from + f.H_META_BYTES, true),
      header: (header) => putU64(header, f.H_DURABLE, durable),
    };
  });
}

/**
 * Writes `frames` (a head first) into segment `file` in place of all that stood there, and renews what depends on it: the
 * places, sequences and chain of the frames, the links and chains of later segments, and watermarks that name one of them.
 * Gives the files that changed, as damage.
 */
export function forge(specimen: Specimen, file: string, frames: readonly ForgedFrame[], what: string): Damage[] {
  const { files, layout } = specimen;
  const { logId } = parseState(files.get(STATE_NAME) as Uint8Array);
  const heads = layout.filter(({ kind }) => kind === "head");
  const from = heads.findIndex((head) => head.file === file);
  const damages: Damage[] = [];
  const state = (files.get(STATE_NAME) as Uint8Array).slice();
  let chain = viewOf(files.get(file) as Uint8Array).getUint32(f.H_CHAIN, true);
  let sequence = (heads[from] as Extent).sequence;
  let link: { end: number; sequence: number } | undefined;
  for (const head of heads.slice(from)) {
    const own = head.file === file ? frames : framesFor(files, layout, head.file);
    const size = (files.get(head.file) as Uint8Array).length;
    const sealed = seal(own, size, logId, head.generation, sequence, chain, link);
    damages.push({ kind: "forged", file: head.file, bytes: sealed.bytes, what });
    for (const slot of [f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_SLOT_BYTES]) {
      const view = viewOf(state);
      const frame = sealed.frames[getU64(view, slot + f.W_SEQUENCE) - sequence];
      if (getU64(view, slot + f.W_GENERATION) !== head.generation || frame === undefined) continue;
      putU64(view, slot + f.W_END, frame.end);
      view.setUint32(slot + f.W_CHAIN, frame.crc, true);
      sealWatermark(state, slot);
    }
    sequence += own.length;
    const last = sealed.frames.at(-1);
    chain = last?.crc ?? chain;
    link = { end: last?.end ?? 0, sequence: sequence - 1 };
  }
  damages.push({ kind: "forged", file: STATE_NAME, bytes: state, what });
  return damages;
}

/** The bytes of a segment of these frames, at least `size` of them; and where each ends, with its header's crc. */
function seal(
  frames: readonly ForgedFrame[],
  size: number,
  logId: Uint8Array,
  generation: number,
  firstSequence: number,
  firstChain: number,
  link: { end: number; sequence: number } | undefined,
): { bytes: Uint8Array; frames: { end: number; crc: number }[] } {
  const { seed, logIdLow, logIdHigh } = segmentIdentity(logId, generation);
  const total = frames.reduce((sum, { body }) => sum + frameBytes(body.length), 0);
  const bytes = new Uint8Array(Math.max(size, total));
  const view = viewOf(bytes);
  const ends: { end: number; crc: number }[] = [];
  let at = 0;
  let chain = firstChain;
  for (const [i, { body, metaBytes = body.length, header }] of frames.entries()) {
    const bodyAt = at + f.HEADER_BYTES;
    bytes.set(body, bodyAt);
    if (i === 0 && link !== undefined && body.length >= f.LINK_BYTES) {
      putU64(view, bodyAt + f.L_PREV_END, link.end);
      putU64(view, bodyAt + f.L_PREV_SEQUENCE, link.sequence);
    }
    view.setUint16(at + f.H_MAGIC, f.MAGIC, true);
    view.setUint8(at + f.H_VERSION, f.FORMAT_VERSION);
    view.setUint8(at + f.H_KIND, i === 0 ? f.KIND_HEAD : f.KIND_FRAME);
    putU64(view, at + f.H_GENERATION, generation);
    putU64(view, at + f.H_SEQUENCE, firstSequence + i);
    putU64(view, at + f.H_DURABLE, firstSequence + i - 1);
    putU64(view, at + f.H_OFFSET, at);
    view.setUint32(at + f.H_LOG_ID, logIdLow, true);
    view.setUint32(at + f.H_LOG_ID + 4, logIdHigh, true);
    view.setUint32(at + f.H_BODY_BYTES, body.length, true);
    view.setUint32(at + f.H_META_BYTES, metaBytes, true);
    view.setUint32(at + f.H_CHAIN, chain, true);
    const end = bodyAt + align8(body.length);
    view.setUint32(end, f.TRAILER_WORD, true);
    view.setUint32(end + 4, f.TRAILER_WORD, true);
    header?.(new DataView(bytes.buffer, at, f.HEADER_BYTES));
    sealBody(bytes, view, at, body.length, seed);
    chain = crc32(bytes.subarray(at + 4, bodyAt), seed);
    view.setUint32(at + f.H_CRC, chain, true);
    at = end + f.TRAILER_BYTES;
    ends.push({ end: at, crc: chain });
  }
  return { bytes, frames: ends };
}

/** Renews the body's crc and, as far as its directory makes sense, those of its blocks. */
function sealBody(bytes: Uint8Array, view: DataView, at: number, bodyBytes: number, seed: number): void {
  const body = at + f.HEADER_BYTES;
  const bodyEnd = body + bodyBytes;
  const metaBytes = view.getUint32(at + f.H_META_BYTES, true);
  if (metaBytes >= bodyBytes) {
    view.setUint32(at + f.H_BODY_CRC, crc32(bytes.subarray(body, bodyEnd)), true);
    return;
  }
  const part = view.getUint8(at + f.H_KIND) === f.KIND_HEAD ? body + f.LINK_BYTES : body;
  const blocks = part + f.PART_BYTES <= bodyEnd ? view.getUint32(part + f.P_BLOCKS, true) : 0;
  const directory = Math.max(body + metaBytes, bodyEnd - blocks * f.DIRECTORY_BYTES);
  let block = body + metaBytes;
  for (let entry = directory; entry + f.DIRECTORY_BYTES <= bodyEnd; entry += f.DIRECTORY_BYTES) {
    const end = block + f.BLOCK_BYTES + view.getUint32(entry, true);
    if (end > directory) break;
    const crc = crc32(bytes.subarray(block + f.B_RECORD_BYTES, end));
    view.setUint32(entry + 4, crc, true);
    view.setUint32(block + f.B_CHECK, (crc ^ seed) >>> 0, true);
    block += f.BLOCK_BYTES + align8(view.getUint32(entry, true));
  }
  const meta = crc32(bytes.subarray(body, body + metaBytes));
  view.setUint32(at + f.H_BODY_CRC, crc32(bytes.subarray(directory, bodyEnd), meta), true);
}

function sealWatermark(state: Uint8Array, at: number): void {
  if (at + f.WATERMARK_BYTES > state.length) return;
  viewOf(state).setUint32(at + f.W_CRC, crc32(state.subarray(at + f.W_MAGIC, at + f.WATERMARK_BYTES)), true);
}

function sealIdentity(state: Uint8Array, at: number): void {
  if (at + f.I_METADATA > state.length) return;
  const end = at + f.I_METADATA + viewOf(state).getUint32(at + f.I_METADATA_BYTES, true);
  viewOf(state).setUint32(at + f.I_CRC, crc32(state.subarray(at + f.I_MAGIC, Math.min(end, state.length))), true);
}

/** Renews the checksums of STATE's four slots. */
export function sealState(state: Uint8Array): void {
  for (const at of [0, f.IDENTITY_SLOT_BYTES]) sealIdentity(state, at);
  for (const at of [f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_SLOT_BYTES]) sealWatermark(state, at);
}

/** Renews the checksums of a snapshot file: of its head, its chunks and its end, as far as their lengths make sense. */
export function sealSnapshot(bytes: Uint8Array): void {
  const view = viewOf(bytes);
  if (bytes.length < 32) return;
  const head = Math.min(bytes.length, align8(32 + view.getUint32(12, true)));
  view.setUint32(0, crc32(bytes.subarray(4, head)), true);
  let crc = crc32(bytes.subarray(0, head));
  for (let at = head; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at, true);
    const end = length === 0xffffffff ? at + 16 : at + 8 + length;
    if (end > bytes.length) return;
    crc = crc32(bytes.subarray(at + 8, end), crc);
    view.setUint32(at + 4, crc, true);
    if (length === 0xffffffff) return;
    at = end;
  }
}

/** Renews the checksum of an index file. */
export function sealIndex(bytes: Uint8Array): void {
  if (bytes.length >= f.INDEX_HEADER_BYTES) viewOf(bytes).setUint32(f.X_CRC, crc32(bytes.subarray(f.X_MAGIC)), true);
}

// ---- fields

/** Where the fields of an extent begin, counted from its start, with their widths in bytes: where lies do most harm. */
type Field = readonly [at: number, bytes: 1 | 2 | 4 | 8];

const HEADER_FIELDS: readonly Field[] = [
  [f.H_CRC, 4],
  [f.H_MAGIC, 2],
  [f.H_VERSION, 1],
  [f.H_KIND, 1],
  [f.H_GENERATION, 8],
  [f.H_SEQUENCE, 8],
  [f.H_DURABLE, 8],
  [f.H_OFFSET, 8],
  [f.H_LOG_ID, 8],
  [f.H_BODY_BYTES, 4],
  [f.H_META_BYTES, 4],
  [f.H_BODY_CRC, 4],
  [f.H_CHAIN, 4],
];
const LINK_FIELDS: readonly Field[] = [
  [f.L_LOG_ID, 8],
  [f.L_PREV_GENERATION, 8],
  [f.L_PREV_END, 8],
  [f.L_PREV_SEQUENCE, 8],
  [f.L_PREV_FROM, 8],
  [f.L_BASE_INDEX, 8],
  [f.L_BASE_TAG, 8],
  [f.L_LAST_INDEX, 8],
  [f.L_CAPACITY, 8],
];
const PART_FIELDS: readonly Field[] = [
  [f.P_GROUP, 8],
  [f.P_FLAGS, 4],
  [f.P_MARK_BYTES, 4],
  [f.P_COUNT, 4],
  [f.P_BLOCKS, 4],
];
const IDENTITY_FIELDS: readonly Field[] = [
  [f.I_CRC, 4],
  [f.I_MAGIC, 4],
  [f.I_VERSION, 4],
  [f.I_METADATA_BYTES, 4],
  [f.I_LOG_ID, 8],
  [f.I_SERIAL, 8],
  [f.I_NEWEST, 8],
];
const WATERMARK_FIELDS: readonly Field[] = [
  [f.W_CRC, 4],
  [f.W_MAGIC, 4],
  [f.W_SERIAL, 8],
  [f.W_GENERATION, 8],
  [f.W_END, 8],
  [f.W_SEQUENCE, 8],
  [f.W_CHAIN, 4],
  [f.W_CLOSED, 4],
];
const INDEX_FIELDS: readonly Field[] = [
  [f.X_CRC, 4],
  [f.X_MAGIC, 4],
  [f.X_VERSION, 4],
  [f.X_BLOCKS, 4],
  [f.X_RUNS, 4],
  [f.X_CHAIN, 4],
  [f.X_LOG_ID, 8],
  [f.X_GENERATION, 8],
  [f.X_END, 8],
  [f.X_BASE, 8],
  [f.X_SEQUENCE, 8],
];
/** Of a snapshot's head: crc, magic, version, metadata bytes, logId. Of a chunk: bytes, crc. */
const SNAPSHOT_FIELDS: readonly Field[] = [
  [0, 4],
  [4, 4],
  [8, 4],
  [12, 4],
  [16, 8],
];

/** The fields of the frame at `at`: header, link, part, what the part's flags say, the heads of records and blocks, trailer. */
function frameFields(view: DataView, at: number): Field[] {
  const fields = [...HEADER_FIELDS];
  const to = frameBytesAt(view, at);
  let p = f.HEADER_BYTES;
  if (view.getUint8(at + f.H_KIND) === f.KIND_HEAD) {
    for (const [field, bytes] of LINK_FIELDS) fields.push([p + field, bytes]);
    p += f.LINK_BYTES;
  }
  for (const [field, bytes] of PART_FIELDS) fields.push([p + field, bytes]);
  for (p += f.PART_BYTES; p + 8 <= Math.min(to - f.TRAILER_BYTES, f.HEADER_BYTES + 260); p += 8) fields.push([p, 8]);
  const part = emptyPart();
  if (readPart(view, at, part)) {
    if (part.blocks === 0) {
      for (let i = 0, q = part.recordsAt; i < part.count && q + f.RECORD_BYTES <= part.recordsEnd; i++) {
        fields.push([q - at, 4], [q - at + 4, 4], [q - at + 8, 4]);
        q += f.RECORD_BYTES + view.getUint32(q, true);
      }
    }
    for (let i = 0, block = part.recordsAt; i < part.blocks; i++) {
      const entry = part.directoryAt + i * f.DIRECTORY_BYTES;
      fields.push([block - at, 4], [block - at + 4, 4], [block - at + 8, 8], [entry - at, 4], [entry - at + 4, 4]);
      block += f.BLOCK_BYTES + align8(view.getUint32(entry, true));
    }
  }
  fields.push([to - 8, 8]);
  return fields;
}

function fieldsOf(specimen: Specimen, { file, kind, from, to }: Extent): readonly Field[] {
  const bytes = specimen.files.get(file) as Uint8Array;
  if (kind === "head" || kind === "frame") return frameFields(viewOf(bytes), from);
  if (kind === "identity") return IDENTITY_FIELDS;
  if (kind === "watermark") return WATERMARK_FIELDS;
  if (kind === "snapshot") return SNAPSHOT_FIELDS.filter(([at, width]) => at + width <= to - from);
  if (kind === "other" && parseIndexName(file) !== undefined) {
    const fields = [...INDEX_FIELDS];
    for (let at = f.INDEX_HEADER_BYTES; at + 4 <= bytes.length; at += 4) fields.push([at, 4]);
    return fields;
  }
  return [];
}

const EDGES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  16n,
  24n,
  63n,
  64n,
  80n,
  104n,
  255n,
  256n,
  4095n,
  4096n,
  0xffffn,
  0x10000n,
  0xffffffn,
  0x7fffffffn,
  0x80000000n,
  0xfffffff8n,
  0xffffffffn,
  0x100000000n,
  2n ** 53n - 2n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 56n - 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 8n,
  2n ** 64n - 1n,
];

/** Puts a lie into a field: an edge, something near what stands there, a bit of it, or anything. */
function lie(random: Random, view: DataView, at: number, bytes: 1 | 2 | 4 | 8): void {
  let value: bigint;
  const now = bytes === 8 ? view.getBigUint64(at, true) : BigInt(getUint(view, at, bytes));
  switch (random.below(4)) {
    case 0:
      value = now + BigInt(random.below(17) - 8);
      break;
    case 1:
      value = now ^ (1n << BigInt(random.below(8 * bytes)));
      break;
    case 2:
      value = (BigInt(random.bits()) << 32n) | BigInt(random.bits());
      break;
    default:
      value = random.pick(EDGES);
  }
  value = BigInt.asUintN(8 * bytes, value);
  if (bytes === 8) view.setBigUint64(at, value, true);
  else if (bytes === 4) view.setUint32(at, Number(value), true);
  else if (bytes === 2) view.setUint16(at, Number(value), true);
  else view.setUint8(at, Number(value));
}

function getUint(view: DataView, at: number, bytes: 1 | 2 | 4): number {
  if (bytes === 4) return view.getUint32(at, true);
  return bytes === 2 ? view.getUint16(at, true) : view.getUint8(at);
}

// ---- MessagePack of nobody's making

/** Bytes that no mark has, or that one has with something changed. */
export function hostileMark(random: Random): Uint8Array {
  if (random.chance(0.4)) {
    const confState = { ...voters(1n, 2n ** 63n), learners: [2n ** 32n - 1n] };
    const snapshot = { index: 2, term: 1, confState };
    const good = random.chance(0.5)
      ? encodeMark({ confState, snapshots: random.chance(0.5) ? [snapshot] : [snapshot, snapshot] })
      : encodeMetadata(snapshot);
    const bytes = Uint8Array.from(good);
    for (let i = random.below(4); i >= 0; i--) bytes[random.below(bytes.length)] = random.bits() >>> 24;
    return random.chance(0.2) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
  }
  const out: number[] = [];
  pack(random, out, 0);
  return Uint8Array.from(out);
}

const PROTO = [..."__proto__"].map((letter) => letter.charCodeAt(0));

/** Appends a MessagePack value of any kind, its counts and lengths mostly true. */
function pack(random: Random, out: number[], depth: number): void {
  const kind = random.below(depth > 8 || out.length > 300 ? 8 : 14);
  const bytes = (count: number): void => {
    for (let i = 0; i < count; i++) out.push(random.bits() >>> 24);
  };
  const children = random.below(5);
  if (kind < 3) out.push(random.below(0x80));
  else if (kind === 3) out.push(0xc0 + random.below(4));
  else if (kind === 4) {
    const width = random.below(4);
    out.push(0xcc + width);
    bytes(2 ** width);
  } else if (kind === 5) {
    out.push(random.pick([0xca, 0xcb]));
    bytes(out.at(-1) === 0xca ? 4 : 8);
  } else if (kind === 6) {
    const width = random.below(4);
    out.push(0xd0 + width);
    bytes(2 ** width);
  } else if (kind === 7) {
    out.push(0xa0 + PROTO.length, ...PROTO);
  } else if (kind < 12) {
    const form = random.below(16);
    if (form < 12) out.push(0x90 + children);
    else if (form === 12) out.push(0xdc, 0, children);
    else if (form === 13) out.push(0xdd, 0, 0, 0, children);
    else out.push(0xdd, ...[0, 0, 0, 0].map(() => random.bits() >>> 24));
    for (let i = 0; i < children; i++) pack(random, out, depth + 1);
  } else if (kind === 12) {
    out.push(0x80 + children);
    for (let i = 0; i < children; i++) {
      out.push(0xa0 + PROTO.length, ...PROTO);
      pack(random, out, depth + 1);
    }
  } else {
    // Raw and extension types, of lengths that may be lies.
    out.push(
      random.pick([0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xde, 0xdf]),
    );
    bytes(random.below(12));
  }
}

// ---- damage of whole logs

/** A place in a file: mostly at or beside a field, sometimes anywhere. */
function placeIn(random: Random, specimen: Specimen, extent: Extent): number {
  if (random.chance(0.25)) return extent.from + random.below(extent.to - extent.from);
  const fields = fieldsOf(specimen, extent);
  if (fields.length === 0) return extent.from + random.below(Math.max(1, extent.to - extent.from));
  const [at, bytes] = random.pick(fields);
  return extent.from + at + random.below(bytes);
}

/** An extent of the specimen: mostly of a segment's frames or STATE's slots. */
function extentIn(random: Random, specimen: Specimen): Extent {
  for (;;) {
    const extent = random.pick(specimen.layout);
    if (extent.to > extent.from && (extent.kind !== "rest" || random.chance(0.2))) return extent;
  }
}

function drawDamage(random: Random, specimen: Specimen, strangers: Specimen, sibling: Specimen): Damage {
  const names = [...specimen.files.keys()];
  // Else a segment of many frames would have it all, and an index nothing.
  if (random.chance(0.2)) return fileDamage(random, specimen, strangers);
  if (random.chance(0.15)) return frameDamage(random, specimen, sibling);
  const extent = extentIn(random, specimen);
  const { file } = extent;
  const size = (specimen.files.get(file) as Uint8Array).length;
  const at = placeIn(random, specimen, extent);
  switch (random.below(16)) {
    case 0:
    case 1:
    case 2:
      return { kind: "flip", file, bits: [8 * at + random.below(8)] };
    case 3:
    case 4: {
      const bits = new Set<number>();
      const near = random.chance(0.5);
      for (let i = 1 + random.below(8); i >= 0; i--) {
        const place = near ? at + random.below(16) : placeIn(random, specimen, extent);
        bits.add(8 * Math.min(size - 1, place) + random.below(8));
      }
      return { kind: "flip", file, bits: [...bits] };
    }
    case 5:
      return { kind: "cut", file, length: random.chance(0.5) ? at : extent.from };
    case 6: {
      const bytes = random.chance(0.5) ? 1 + random.below(600) : 4096 * (1 + random.below(3));
      return { kind: "extend", file, bytes, seed: random.chance(0.5) ? undefined : random.bits() };
    }
    case 7: {
      const sector = random.pick([512, 4096]);
      const from = Math.floor(at / sector) * sector;
      return { kind: "zero", file, from, to: Math.min(size, from + sector) };
    }
    case 8: {
      const to = Math.min(size, at + 1 + random.below(random.pick([4, 64, 512])));
      return { kind: "garbage", file, from: Math.min(at, to - 1), to, seed: random.bits() };
    }
    case 9:
      return { kind: "swap", file, other: random.pick(names) };
    case 10:
      return { kind: "copy", file, as: random.chance(0.7) ? random.pick(names) : segmentName(1 + random.below(9)) };
    case 11:
      return { kind: "remove", file };
    case 12:
    case 13: {
      const source = extentIn(random, random.chance(0.8) ? specimen : strangers);
      const bytes = (specimen.files.get(source.file) ?? strangers.files.get(source.file) ?? new Uint8Array(8)).slice(
        source.from,
        Math.min(source.to, source.from + 4096),
      );
      return { kind: "misdirect", from: source.file, fromOffset: source.from, bytes, file, offset: extent.from };
    }
    case 14: {
      const bytes = strangers.files.get(file);
      if (bytes !== undefined) return { kind: "foreign", file, bytes };
      return { kind: "remove", file };
    }
    default: {
      const moment = random.pick(specimen.moments);
      const [name, bytes] = random.pick([...moment]);
      if (random.chance(0.5)) return { kind: "stale", file: name, bytes };
      const from = Math.min(bytes.length, at);
      return { kind: "lost", file: name, from, bytes: bytes.slice(from, from + 1 + random.below(600)) };
    }
  }
}

/** Something happened to a whole file, each as likely as the other. */
function fileDamage(random: Random, { files, moments }: Specimen, strangers: Specimen): Damage {
  const names = [...files.keys()];
  const file = random.pick(names);
  const like = names.filter((name) => name !== file && name.slice(-4) === file.slice(-4));
  const other = like.length > 0 ? random.pick(like) : random.pick(names);
  const { length } = files.get(file) as Uint8Array;
  const foreign = strangers.files.get(file);
  const stale = random.pick(moments).get(file);
  switch (random.below(6)) {
    case 0:
      return { kind: "swap", file, other };
    case 1:
      return { kind: "copy", file, as: other };
    case 2:
      return { kind: "cut", file, length: random.below(Math.max(1, length)) };
    case 3:
      if (foreign !== undefined) return { kind: "foreign", file, bytes: foreign };
      return { kind: "remove", file };
    case 4:
      if (stale !== undefined) return { kind: "stale", file, bytes: stale };
      return { kind: "remove", file };
    default:
      return { kind: "remove", file };
  }
}

/** A frame that is whole in itself stands where another belongs: one that holds by its place, its segment or its chain alone. */
function frameDamage(random: Random, { files, layout, moments }: Specimen, sibling: Specimen): Damage {
  const frames = layout.filter(({ kind }) => kind === "frame");
  const { file, from, to } = random.pick(frames);
  const put = (source: string, fromOffset: number, bytes: Uint8Array): Damage => {
    return { kind: "misdirect", from: source, fromOffset, bytes, file, offset: from };
  };
  const newest = newestSegmentOf(layout);
  switch (random.below(3)) {
    case 0: {
      // Of the same length, where there is one: what comes behind it still follows.
      const twins = frames.filter(
        (each) => each.file === file && each.from !== from && each.to - each.from === to - from,
      );
      const { from: at, to: end } = random.pick(twins.length > 0 ? twins : frames.filter((each) => each.file === file));
      return put(file, at, (files.get(file) as Uint8Array).slice(at, end));
    }
    case 1: {
      // The same place of another segment, of now or of earlier.
      const sources = [...random.pick([...moments, files])].filter(
        ([name, bytes]) => name !== file && name.endsWith(".seg") && bytes.length >= to,
      );
      if (sources.length > 0) {
        const [name, bytes] = random.pick(sources);
        return put(name, from, bytes.slice(from, to));
      }
      return { kind: "zero", file, from, to };
    }
    default: {
      // Of a log that went another way. Its first frame follows the same head, and where only a read gets nobody asks what follows what.
      const here = frames.filter((each) => each.file === newest && each !== frames[0]);
      const theirs = sibling.files.get(newest);
      if (here.length === 0 || theirs === undefined) return { kind: "zero", file, from, to };
      const one = random.pick(here);
      const bytes = theirs.slice(one.from, one.to);
      return { kind: "misdirect", from: "sibling", fromOffset: one.from, bytes, file: newest, offset: one.from };
    }
  }
}

/** Lies in one to three fields of one file, under checksums that hold. */
function drawForgery(random: Random, specimen: Specimen): Damage[] {
  const extent = extentIn(random, specimen);
  const { file, kind } = extent;
  const lies = 1 + random.below(3);
  const told: string[] = [];
  const choose = (fields: readonly Field[]): Field[] => {
    const chosen = Array.from({ length: lies }, () => random.pick(fields));
    told.push(...chosen.map(([at, bytes]) => `${at}/${bytes}`));
    return chosen;
  };
  const tell = (view: DataView, chosen: readonly Field[], base = 0): void => {
    for (const [at, bytes] of chosen) if (base + at + bytes <= view.byteLength) lie(random, view, base + at, bytes);
  };
  if (kind === "head" || kind === "frame") {
    const frames = framesFor(specimen.files, specimen.layout, file);
    const number = specimen.layout.filter((each) => each.file === file && each.from < extent.from).length;
    const frame = frames[number] as ForgedFrame;
    const all = frameFields(viewOf(specimen.files.get(file) as Uint8Array), extent.from);
    const body = frame.body.slice();
    if (random.chance(0.15)) {
      frames[number] = {
        ...frame,
        body: withMark(body, frame.metaBytes ?? body.length, kind === "head", hostileMark(random)),
      };
      told.push("mark");
    } else if (random.chance(0.7)) {
      const inside = all
        .filter(([at, bytes]) => at >= f.HEADER_BYTES && at + bytes <= f.HEADER_BYTES + body.length)
        .map(([at, bytes]): Field => [at - f.HEADER_BYTES, bytes]);
      tell(viewOf(body), choose(inside));
      frames[number] = { ...frame, body };
    } else {
      const header = frame.header as (header: DataView) => void;
      const chosen = choose(HEADER_FIELDS.slice(2));
      frames[number] = {
        ...frame,
        header: (view) => {
          header(view);
          tell(view, chosen);
        },
      };
    }
    return forge(specimen, file, frames, `frame ${number}: ${told.join(" ")}`);
  }
  const bytes = (specimen.files.get(file) as Uint8Array).slice();
  const fields = fieldsOf(specimen, extent);
  if (fields.length > 0) tell(viewOf(bytes), choose(fields), extent.from);
  if (kind === "snapshot" && random.chance(0.3)) bytes.set(hostileMark(random).subarray(0, 30), 32);
  if (file === STATE_NAME) sealState(bytes);
  else if (isSnapshotName(file)) sealSnapshot(bytes);
  else if (parseIndexName(file) !== undefined) sealIndex(bytes);
  return [{ kind: "forged", file, bytes, what: `${extent.from}: ${told.join(" ")}` }];
}

/** A body whose part has another mark, and its length put right. */
function withMark(body: Uint8Array, metaBytes: number, head: boolean, mark: Uint8Array): Uint8Array {
  const part = head ? f.LINK_BYTES : 0;
  const view = viewOf(body);
  const flags = view.getUint32(part + f.P_FLAGS, true);
  // Blocks keep their places: such a part is left as it is.
  if (metaBytes !== body.length) return body;
  let at = part + f.PART_BYTES;
  if ((flags & (f.F_RESET | f.F_COMPACT)) !== 0) at += f.BASE_BYTES;
  if ((flags & f.F_STATE) !== 0) at += f.STATE_BYTES;
  const old = (flags & f.F_MARK) === 0 ? 0 : align8(view.getUint32(part + f.P_MARK_BYTES, true));
  const made = new Uint8Array(body.length - old + align8(mark.length));
  made.set(body.subarray(0, at));
  made.set(mark, at);
  made.set(body.subarray(at + old), at + align8(mark.length));
  viewOf(made).setUint32(part + f.P_FLAGS, flags | f.F_MARK, true);
  viewOf(made).setUint32(part + f.P_MARK_BYTES, mark.length, true);
  return made;
}

// ---- the targets

/** What became of one mutation: a verdict of damage.ts or of a decoder, and what was done. */
interface Outcome {
  readonly verdict: string;
  /** Set when it is a failure. */
  readonly wrong: string | undefined;
  readonly what: string;
}

/** One mutation every so many is of a whole log, one of an etcd member; the others are of decoders. */
const WHOLE_EVERY = 16;

class Workshop {
  readonly #specimens: readonly Specimen[];
  readonly #strangers: readonly Specimen[];
  /** Of the same identity, with other bytes in all their frames. */
  readonly #siblings: readonly Specimen[];
  readonly #frames: readonly FrameSubject[];
  readonly #small: readonly FrameSubject[];
  readonly #state: StateSubject;
  readonly #indexes: readonly IndexSubject[];
  readonly #snapshots: readonly SnapshotSubject[];
  readonly #member: Member;

  private constructor(
    specimens: readonly Specimen[],
    strangers: readonly Specimen[],
    siblings: readonly Specimen[],
    member: Member,
  ) {
    this.#specimens = specimens;
    this.#strangers = strangers;
    this.#siblings = siblings;
    this.#frames = specimens.flatMap(frameSubjects);
    this.#small = this.#frames.filter(({ bytes }) => bytes.length < 1024);
    const many = specimens.find(({ name }) => name === "many closed") as Specimen;
    this.#state = new StateSubject(many.files.get(STATE_NAME) as Uint8Array);
    this.#indexes = specimens.flatMap(indexSubjects);
    this.#snapshots = specimens.flatMap(snapshotSubjects);
    this.#member = member;
  }

  static async open(): Promise<Workshop> {
    return new Workshop(await growSpecimens(), await growSpecimens(77), await growSpecimens(1, 5), await Member.make());
  }

  /** Does mutation `n` of `seed`. */
  run(seed: number, n: number): Outcome | Promise<Outcome> {
    const random = new Random(seedOf(seed, n));
    if (n % WHOLE_EVERY === 0) return this.#whole(random);
    if (n % WHOLE_EVERY === WHOLE_EVERY / 2) return this.#member.mutate(random);
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2:
        return frameOutcome(random, random.chance(0.02) ? random.pick(this.#frames) : random.pick(this.#small));
      case 3:
        return this.#state.mutate(random);
      case 4:
        return indexOutcome(random, random.pick(this.#indexes));
      case 5:
        return markOutcome(random);
      case 6:
        return snapshotOutcome(random, random.pick(this.#snapshots));
      default:
        return etcdOutcome(random);
    }
  }

  /** One piece of damage to one log. */
  async damage(random: Random): Promise<Outcome> {
    const which = random.below(this.#specimens.length);
    const specimen = this.#specimens[which] as Specimen;
    const strangers = this.#strangers[which] as Specimen;
    const damage = drawDamage(random, specimen, strangers, this.#siblings[which] as Specimen);
    const { kind, why } = await judge(specimen, [damage], { again: random.chance(0.2), create: true });
    const what = `${specimen.name}: ${describeDamage(damage)}`;
    return { verdict: `log ${kind}`, wrong: kind === "wrong" ? why : undefined, what };
  }

  async #whole(random: Random): Promise<Outcome> {
    const which = random.below(this.#specimens.length);
    const specimen = this.#specimens[which] as Specimen;
    const strangers = this.#strangers[which] as Specimen;
    const siblings = this.#siblings[which] as Specimen;
    let damages: Damage[];
    const forged = random.chance(0.3);
    if (forged) {
      damages = drawForgery(random, specimen);
    } else {
      const count = random.chance(0.6) ? 1 : random.chance(0.8) ? 2 + random.below(2) : 4 + random.below(6);
      damages = Array.from({ length: count }, () => drawDamage(random, specimen, strangers, siblings));
      // Several whole files of another time or log may agree with each other: that is another log, and no damage.
      const [first] = damages;
      if (damages.filter(isWholeFile).length > 1 && first !== undefined) damages = [first];
    }
    // Who only looks takes a snapshot that is gone for one that the writer has removed.
    const readOnly = random.chance(0.1) && !damages.some(({ kind }) => kind === "remove");
    // What was forged may be taken once, and refused when a later open finds something that contradicts it.
    const again = !forged && random.chance(0.1);
    const { kind, why } = await judge(specimen, damages, { readOnly, again });
    const what = `${specimen.name}${readOnly ? ", read-only" : ""}: ${damages.map(describeDamage).join("; ")}`;
    return { verdict: `log ${kind}`, wrong: kind === "wrong" ? why : undefined, what };
  }
}

function isWholeFile({ kind, file }: Damage): boolean {
  return (
    kind === "stale" ||
    kind === "foreign" ||
    kind === "copy" ||
    kind === "swap" ||
    kind === "remove" ||
    file === STATE_NAME
  );
}

/** Runs a decoder: gives what it returned, or undefined for an error with a code; other errors go through. */
function coded<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof StableLogError && !(error instanceof AssertionError)) return undefined;
    throw error;
  }
}

/** An outcome of `check`, which says what it found; what it throws is the failure. */
function outcome(target: string, what: string, check: () => string): Outcome {
  try {
    const found = check();
    const wrong = found.startsWith("wrong") ? found : undefined;
    return { verdict: `${target} ${wrong === undefined ? found : "wrong"}`, wrong, what };
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { verdict: `${target} wrong`, wrong: `an error without a code: ${text}`, what };
  }
}

interface FrameSubject {
  readonly bytes: Uint8Array;
  readonly fields: readonly Field[];
  readonly expected: FrameExpectation;
  readonly unread: readonly { readonly from: number; readonly to: number }[];
  readonly seed: number;
}

function frameSubjects({ files, layout, name }: Specimen): FrameSubject[] {
  if (!name.endsWith("closed")) return [];
  const { logId } = parseState(files.get(STATE_NAME) as Uint8Array);
  return layout
    .filter(({ kind }) => kind === "head" || kind === "frame")
    .map(({ file, from, to, unread, generation, sequence, kind }) => {
      const bytes = (files.get(file) as Uint8Array).slice(from, to);
      const view = viewOf(bytes);
      const identity = segmentIdentity(logId, generation);
      return {
        bytes,
        fields: frameFields(view, 0),
        expected: {
          identity,
          kind: kind === "head" ? f.KIND_HEAD : f.KIND_FRAME,
          offset: from,
          sequence,
          chain: view.getUint32(f.H_CHAIN, true),
        },
        unread: unread.map((range) => ({ from: range.from - from, to: range.to - from })),
        seed: identity.seed,
      };
    });
}

/** checkFrame(), readPart(), oneBitFromValid() and LogView.apply() on one frame, with its checksums broken or renewed. */
function frameOutcome(random: Random, subject: FrameSubject): Outcome {
  const bytes = subject.bytes.slice();
  const view = viewOf(bytes);
  const forged = random.chance(0.5);
  const changes = random.chance(0.5) ? 1 : 1 + random.below(4);
  const told: string[] = [];
  for (let i = 0; i < changes; i++) {
    const [at, width] = random.pick(subject.fields);
    if (forged) {
      if (at < f.H_VERSION || at + width > bytes.length) continue;
      lie(random, view, at, width);
      told.push(`lie at ${at}/${width}`);
    } else {
      const bit = random.chance(0.7)
        ? 8 * (at + random.below(width)) + random.below(8)
        : random.below(8 * bytes.length);
      flip(bytes, bit);
      told.push(`bit ${bit}`);
    }
  }
  const what = `frame of ${bytes.length} bytes at ${subject.expected.offset}: ${told.join(", ")}`;
  return outcome("frame", what, () => {
    if (!forged) return brokenFrame(subject, bytes, view);
    const bodyBytes = Math.min(view.getUint32(f.H_BODY_BYTES, true), bytes.length - f.HEADER_BYTES - f.TRAILER_BYTES);
    sealBody(bytes, view, 0, bodyBytes, subject.seed);
    view.setUint32(f.H_CRC, crc32(bytes.subarray(4, f.HEADER_BYTES), subject.seed), true);
    return forgedFrame(subject, bytes, view);
  });
}

function brokenFrame(subject: FrameSubject, bytes: Uint8Array, view: DataView): string {
  let bits = 0;
  for (let at = 0; at < bytes.length; at++) {
    let difference = (bytes[at] as number) ^ (subject.bytes[at] as number);
    if (difference === 0 || subject.unread.some(({ from, to }) => at >= from && at < to)) continue;
    for (; difference !== 0; difference &= difference - 1) bits++;
  }
  const verdict = checkFrame(bytes, view, 0, subject.expected);
  if ((verdict === "valid") !== (bits === 0)) return `wrong: ${bits} bits flipped, and the frame is ${verdict}`;
  if (bits === 0) return "same";
  const before = crc32(bytes);
  const bit = oneBitFromValid(bytes, view, 0, subject.expected);
  if (crc32(bytes) !== before) return "wrong: oneBitFromValid() changed the frame";
  if (bits === 1 ? bit < 0 : bit >= 0) return `wrong: ${bits} bits flipped, and oneBitFromValid() says ${bit}`;
  return `refused ${verdict}`;
}

function forgedFrame(subject: FrameSubject, bytes: Uint8Array, view: DataView): string {
  const verdict = checkFrame(bytes, view, 0, subject.expected);
  if (verdict !== "valid") {
    oneBitFromValid(bytes, view, 0, subject.expected);
    return `refused ${verdict}`;
  }
  const part = emptyPart();
  if (!readPart(view, 0, part)) return "refused part";
  if (part.recordsEnd > bytes.length || part.recordsAt > part.recordsEnd) return "wrong: records outside of the frame";
  const held = part.blocks === 0 ? part.count * f.RECORD_BYTES : part.blocks * f.BLOCK_BYTES;
  if (held > bytes.length) return `wrong: ${part.count} records and ${part.blocks} blocks in ${bytes.length} bytes`;
  if (part.blocks === 0) {
    let visited = 0;
    walkRecords(view, part.recordsAt, part.recordsEnd, part.first, part.count, (_index, _tag, _kind, from, to) => {
      if (from > to || to > bytes.length) throw new RangeError(`record data [${from}, ${to})`);
      visited++;
    });
    if (visited > part.count) return "wrong: more records than there are";
  }
  const logView = new LogView();
  const before = random53(part.first);
  logView.last = before;
  const segment = newSegment(new Uint8Array(16), 1, 4096, before, 0);
  return logView.apply(bytes, view, 0, 0, segment) ? "taken" : "refused fields";
}

/** The last index of a log that a part from `first` on fits behind. */
function random53(first: number): number {
  return isCount(first - 1) ? first - 1 : 0;
}

class StateSubject {
  readonly #bytes: Uint8Array;
  readonly #whole: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#whole = bytes;
    this.#bytes = bytes.slice();
  }

  mutate(random: Random): Outcome {
    const bytes = this.#bytes;
    const view = viewOf(bytes);
    const forged = random.chance(0.5);
    const told: string[] = [];
    const touched: number[] = [];
    for (let i = 1 + random.below(6); i > 0; i--) {
      const identity = random.chance(0.5);
      const slot =
        (identity ? 0 : f.WATERMARK_AT) + random.below(2) * (identity ? f.IDENTITY_SLOT_BYTES : f.WATERMARK_SLOT_BYTES);
      const [field, width] = random.pick(identity ? IDENTITY_FIELDS : WATERMARK_FIELDS);
      const at = slot + field;
      lie(random, view, at, width);
      touched.push(slot);
      told.push(`${at}/${width}`);
    }
    if (forged) sealState(bytes);
    const cut = random.chance(0.05) ? random.below(bytes.length) : bytes.length;
    const what = `STATE ${forged ? "forged" : "changed"} at ${told.join(" ")}, ${cut} bytes`;
    const result = outcome("state", what, () => this.#check(bytes.subarray(0, cut), forged));
    for (const slot of touched) bytes.set(this.#whole.subarray(slot, slot + 64), slot);
    if (forged) bytes.set(this.#whole);
    return result;
  }

  #check(bytes: Uint8Array, forged: boolean): string {
    const found = coded(() => parseState(bytes));
    const intact = (at: number, length: number): boolean => {
      if (at + length > bytes.length) return false;
      for (let i = at; i < at + length; i++) if (bytes[i] !== this.#whole[i]) return false;
      return true;
    };
    const whole = viewOf(this.#whole);
    if (forged) {
      if (found === undefined) return "refused";
      const { newest, serial, watermark, watermarkSerial, metadata } = found;
      const counts = [
        newest,
        serial,
        watermarkSerial,
        watermark?.end ?? 0,
        watermark?.sequence ?? 0,
        watermark?.generation ?? 0,
      ];
      if (counts.some((count) => !isCount(count))) return `wrong: numbers ${counts.join(" ")}`;
      return metadata.length > f.MAX_METADATA_BYTES ? "wrong: more metadata than may be" : "taken";
    }
    const newer = (slots: number[], serialAt: number, length: number): number | undefined =>
      slots
        .filter((at) => intact(at, length))
        .sort((a, b) => getU64(whole, b + serialAt) - getU64(whole, a + serialAt))[0];
    const slot = newer([0, f.IDENTITY_SLOT_BYTES], f.I_SERIAL, f.I_METADATA);
    if (slot === undefined) return found === undefined ? "refused" : "wrong: an identity out of nothing";
    if (found?.slot !== slot / f.IDENTITY_SLOT_BYTES) return `wrong: identity slot ${found?.slot}`;
    if (found.newest !== getU64(whole, slot + f.I_NEWEST)) return `wrong: newest ${found.newest}`;
    const mark = newer([f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_SLOT_BYTES], f.W_SERIAL, f.WATERMARK_BYTES);
    const serial = mark === undefined ? 0 : getU64(whole, mark + f.W_SERIAL);
    if (found.watermarkSerial !== serial) return `wrong: watermark serial ${found.watermarkSerial}`;
    return mark === undefined ? "without watermark" : "same";
  }
}

interface IndexSubject {
  readonly bytes: Uint8Array;
  readonly binding: Parameters<typeof SegmentIndex.decode>[1];
}

function indexSubjects({ files }: Specimen): IndexSubject[] {
  const { logId } = parseState(files.get(STATE_NAME) as Uint8Array);
  const subjects: IndexSubject[] = [];
  for (const [name, bytes] of files) {
    const generation = parseIndexName(name);
    if (generation === undefined) continue;
    const view = viewOf(bytes);
    const identity = segmentIdentity(logId, generation);
    const chain = view.getUint32(f.X_CHAIN, true);
    const binding = { identity, end: getU64(view, f.X_END), sequence: getU64(view, f.X_SEQUENCE), chain };
    subjects.push({ bytes, binding });
  }
  return subjects;
}

function indexOutcome(random: Random, { bytes: whole, binding }: IndexSubject): Outcome {
  const bytes = whole.slice();
  const forged = random.chance(0.5);
  const told: string[] = [];
  for (let i = 1 + random.below(3); i > 0; i--) {
    const inTable = random.chance(0.5) && bytes.length > f.INDEX_HEADER_BYTES;
    const [at, width]: Field = inTable
      ? [f.INDEX_HEADER_BYTES + 4 * random.below((bytes.length - f.INDEX_HEADER_BYTES) / 4), 4]
      : random.pick(INDEX_FIELDS);
    lie(random, viewOf(bytes), at, width);
    told.push(`${at}/${width}`);
  }
  if (forged) sealIndex(bytes);
  const cut = random.chance(0.1) ? random.below(bytes.length) : bytes.length;
  const read = bytes.subarray(0, cut);
  return outcome("index", `index ${forged ? "forged" : "changed"} at ${told.join(" ")}, ${cut} bytes`, () => {
    const found = SegmentIndex.decode(read, binding);
    const same = cut === whole.length && read.every((byte, at) => byte === whole[at]);
    if (found === undefined) return same ? "wrong: a good index is refused" : "refused";
    if (!forged && !same) return "wrong: a damaged index is taken";
    if (found.memoryBytes > 4 * whole.length + 1024) return `wrong: ${found.memoryBytes} bytes of tables`;
    return same ? "same" : "taken";
  });
}

function isConfState(value: ConfState): boolean {
  const ids = [value.voters, value.learners, value.votersOutgoing, value.learnersNext];
  return (
    typeof value.autoLeave === "boolean" &&
    ids.every((list) => Array.isArray(list) && list.every((id) => typeof id === "bigint" && id >= 0n && id < 2n ** 64n))
  );
}

function markOutcome(random: Random): Outcome {
  const bytes = hostileMark(random);
  const what = `mark ${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  return outcome("mark", what, () => {
    const prototype = Object.getOwnPropertyNames(Object.prototype).length;
    const mark = coded(() => decodeMark(bytes));
    const metadata = coded(() => decodeMetadata(bytes));
    if (Object.getOwnPropertyNames(Object.prototype).length !== prototype) return "wrong: Object.prototype was changed";
    const snapshots = [...(mark?.snapshots ?? []), ...(metadata === undefined ? [] : [metadata])];
    const confStates = [
      ...snapshots.map(({ confState }) => confState),
      ...(mark === undefined ? [] : [mark.confState]),
    ];
    if (!snapshots.every(({ index, term }) => isCount(index) && isCount(term))) return "wrong: an index or a term";
    if (!confStates.every(isConfState)) return "wrong: a ConfState";
    return mark === undefined && metadata === undefined ? "refused" : "taken";
  });
}

interface SnapshotSubject {
  readonly bytes: Uint8Array;
  readonly logId: Uint8Array;
  readonly metadata: { readonly index: number; readonly term: number; readonly confState: ConfState };
  readonly data: Uint8Array;
}

function snapshotSubjects(specimen: Specimen): SnapshotSubject[] {
  const { files, history, name } = specimen;
  if (!name.endsWith("closed")) return [];
  const { logId } = parseState(files.get(STATE_NAME) as Uint8Array);
  const { metadata, data } = (history.at(-1) as Specimen["history"][number]).contents.snapshot;
  for (const [file, bytes] of [...files].reverse()) {
    if (isSnapshotName(file)) return [{ bytes, logId, metadata, data }];
  }
  return [];
}

/** A disk of one file, for what is read at once. */
function diskWith(bytes: Uint8Array): Disk {
  const file = {
    size: () => bytes.length,
    read: (target: Uint8Array, start: number, end: number, position: number): number => {
      const piece = bytes.subarray(position, position + end - start);
      target.set(piece, start);
      return piece.length;
    },
    close: () => Promise.resolve(),
  } as Partial<DiskFile> as DiskFile;
  return { openNow: () => file } as Partial<Disk> as Disk;
}

function snapshotOutcome(random: Random, { bytes: whole, logId, metadata, data }: SnapshotSubject): Outcome {
  let bytes = whole.slice();
  const forged = random.chance(0.5);
  const told: string[] = [];
  for (let i = 1 + random.below(3); i > 0; i--) {
    const at = random.chance(0.5) ? random.pick(SNAPSHOT_FIELDS)[0] : random.below(bytes.length - 8);
    const width = random.pick([1, 4, 8] as const);
    lie(random, viewOf(bytes), at, width);
    told.push(`${at}/${width}`);
  }
  if (forged) sealSnapshot(bytes);
  if (random.chance(0.1)) bytes = bytes.subarray(0, random.below(bytes.length));
  return outcome(
    "snapshot",
    `snapshot ${forged ? "forged" : "changed"} at ${told.join(" ")}, ${bytes.length} bytes`,
    () => {
      const same = bytes.length === whole.length && bytes.every((byte, at) => byte === whole[at]);
      const found = coded(() => loadSnapshot(diskWith(bytes), "/", logId, metadata, 1 << 20));
      if (found === undefined) return same ? "wrong: a good snapshot is refused" : "refused";
      if (found.length > bytes.length) return `wrong: ${found.length} bytes of a file of ${bytes.length}`;
      const equal = found.length === data.length && found.every((byte, at) => byte === data[at]);
      if (!forged && !same) return "wrong: a damaged snapshot is taken";
      return equal ? "same" : "taken";
    },
  );
}

// ---- etcd

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** One protobuf field: a varint for numbers, a length-delimited one for bytes. */
function field(number: number, value: number | bigint | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return concat(varint(number * 8 + 2), varint(value.length), value);
  return concat(varint(number * 8), varint(value));
}

const etcdEntry = (index: number, term: number, bytes: number): Uint8Array =>
  concat(field(1, index % 2), field(2, term), field(3, index), field(4, payload(bytes, index)));
const etcdConfState = concat(
  field(1, 1n),
  field(1, 2n ** 64n - 1n),
  field(2, concat(varint(5), varint(6))),
  field(5, 1),
);
const etcdMetadata = concat(field(1, etcdConfState), field(2, 4), field(3, 1));

const ETCD_MESSAGES: readonly (readonly [Uint8Array, (bytes: Uint8Array, place: Place) => unknown])[] = [
  [concat(field(1, 2), field(2, 0xffffffff), field(3, etcdEntry(3, 1, 20))), etcd.decodeRecord],
  [etcdEntry(2 ** 40, 7, 30), etcd.decodeEntry],
  [concat(field(1, 3), field(2, 2n ** 64n - 1n), field(3, 9)), etcd.decodeHardState],
  [concat(field(1, 4), field(2, 1), field(3, etcdConfState)), etcd.decodeSnapshotMark],
  [concat(field(1, payload(40, 1)), field(2, etcdMetadata)), etcd.decodeSnapshot],
  [
    concat(field(1, 77), field(2, concat(field(1, payload(9, 1)), field(2, etcdMetadata)))),
    etcd.decodeSnapshotEnvelope,
  ],
];
const ETCD_PLACE: Place = { file: "wal/0000000000000000-0000000000000000.wal", offset: 0 };

/** etcd's messages have no checksum of their own: whatever stands there must be decoded, or refused with a code. */
function etcdOutcome(random: Random): Outcome {
  const [whole, decode] = random.pick(ETCD_MESSAGES);
  const bytes = mutated(random, whole);
  const what = `etcd message ${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  return outcome("etcd message", what, () => {
    const found = coded(() => decode(bytes, ETCD_PLACE));
    if (bytes.length >= 8) etcd.decodeFrameLength(bytes, 0);
    if (found === undefined) return "refused";
    return sane(found) ? "taken" : "wrong: a number or a byte field of no good kind";
  });
}

/** A copy with bytes changed, put in, taken out or cut off. */
function mutated(random: Random, whole: Uint8Array): Uint8Array {
  let bytes: Uint8Array = whole.slice();
  for (let i = 1 + random.below(4); i > 0 && bytes.length > 0; i--) {
    const at = random.below(bytes.length);
    const kind = random.below(5);
    if (kind === 0) bytes[at] = random.bits() >>> 24;
    else if (kind === 1) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    else if (kind === 2) bytes = concat(bytes.subarray(0, at), varint(random.pick(EDGES)), bytes.subarray(at));
    else if (kind === 3) bytes = concat(bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(4)));
    else bytes = bytes.slice(0, at);
  }
  return bytes;
}

/** True when every number in a decoded message is a safe integer from 0 up, or a bigint of 64 bits. */
function sane(value: unknown): boolean {
  if (typeof value === "number") return isCount(value);
  if (typeof value === "bigint") return value >= 0n && value < 2n ** 64n;
  if (value instanceof Uint8Array || typeof value === "boolean") return true;
  return typeof value === "object" && value !== null && Object.values(value).every(sane);
}

const MEMBER_DIR = "/member";
const MEMBER_WAL = `${MEMBER_DIR}/wal/0000000000000000-0000000000000000.wal`;

/** A small etcd member in memory, whose one segment is mutated in place. */
class Member {
  readonly #disk: MemoryDisk;
  readonly #whole: Uint8Array;
  readonly #frames: readonly number[];
  readonly #entries: readonly Entry[];

  private constructor(disk: MemoryDisk, whole: Uint8Array, frames: readonly number[], entries: readonly Entry[]) {
    this.#disk = disk;
    this.#whole = whole;
    this.#frames = frames;
    this.#entries = entries;
  }

  static async make(): Promise<Member> {
    const records: [number, Uint8Array][] = [
      [etcd.RecordType.Metadata, payload(12, 1)],
      [etcd.RecordType.Snapshot, field(1, 0)],
    ];
    for (let index = 1; index <= 12; index++) {
      records.push([etcd.RecordType.Entry, etcdEntry(index, 1 + Math.floor(index / 5), 20 + index)]);
      records.push([etcd.RecordType.State, concat(field(1, 3), field(2, 2n), field(3, index - 1))]);
    }
    let crc = 0;
    const frames: number[] = [];
    let bytes: Uint8Array = new Uint8Array(0);
    const add = (record: Uint8Array): void => {
      frames.push(bytes.length);
      const word = new Uint8Array(8);
      const padBytes = (8 - (record.length % 8)) % 8;
      viewOf(word).setUint32(0, record.length, true);
      if (padBytes > 0) word[7] = 0x80 | padBytes;
      bytes = concat(bytes, word, record, new Uint8Array(padBytes));
    };
    add(concat(field(1, etcd.RecordType.Crc), field(2, 0)));
    for (const [type, data] of records) {
      crc = crc32c(data, crc);
      add(concat(field(1, type), field(2, crc), field(3, data)));
    }
    const whole = concat(bytes, new Uint8Array(256));
    const disk = new MemoryDisk();
    await disk.mkdir(MEMBER_DIR);
    await disk.mkdir(`${MEMBER_DIR}/wal`);
    const file = await disk.open(MEMBER_WAL, "create");
    file.write(whole, 0, whole.length, 0);
    await file.close();
    const { entries } = await readMember(MEMBER_DIR, { disk });
    assert(entries.length === 12, "the etcd member that mutations are made of cannot be read");
    return new Member(disk, whole, frames, entries);
  }

  async mutate(random: Random): Promise<Outcome> {
    const bytes = this.#whole.slice();
    const told: string[] = [];
    for (let i = random.chance(0.5) ? 1 : 1 + random.below(5); i > 0; i--) {
      const at = Math.min(bytes.length - 8, random.pick(this.#frames) + random.below(random.chance(0.5) ? 12 : 80));
      if (random.chance(0.5)) flip(bytes, 8 * at + random.below(8));
      else if (random.chance(0.8)) lie(random, viewOf(bytes), at, random.pick([1, 4, 8] as const));
      else bytes.fill(0, at, at + 512);
      told.push(String(at));
    }
    const cut = random.chance(0.1) ? random.below(bytes.length) : bytes.length;
    const what = `etcd member changed at ${told.join(" ")}, ${cut} bytes`;
    const file = await this.#disk.open(MEMBER_WAL, "write");
    await file.truncate(0);
    file.write(bytes, 0, cut, 0);
    await file.close();
    try {
      const { entries, hardState } = await readMember(MEMBER_DIR, { disk: this.#disk });
      const wrong = this.#judge(entries, hardState);
      return { verdict: `etcd member ${wrong === undefined ? "taken" : "wrong"}`, wrong, what };
    } catch (error) {
      if (error instanceof StableLogError && !(error instanceof AssertionError)) {
        return { verdict: `etcd member refused ${error.code}`, wrong: undefined, what };
      }
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { verdict: "etcd member wrong", wrong: `an error without a code: ${text}`, what };
    }
  }

  /** etcd's checksum covers a record's data and not its type: entries may be taken for something else, never changed. */
  #judge(entries: readonly Entry[], hardState: HardState): string | undefined {
    for (const [i, entry] of entries.entries()) {
      const whole = this.#entries[entry.index - 1];
      if (entry.index !== i + 1 || whole === undefined) return `entry ${entry.index} stands at ${i + 1}`;
      const equal = entry.data.length === whole.data.length && entry.data.every((byte, at) => byte === whole.data[at]);
      if (!equal || entry.term !== whole.term || entry.type !== whole.type) return `entry ${entry.index} is other data`;
    }
    return sane(hardState) ? undefined : "a HardState of no good numbers";
  }
}

// ---- the run

/** How mutate() runs. */
export interface MutateOptions {
  readonly seed: number;
  /** How many mutations, and the number of the first one (default 0). */
  readonly mutations: number;
  readonly first?: number | undefined;
  /** Stops when this many milliseconds by `now` are over; default never. */
  readonly budgetMs?: number | undefined;
  /** Milliseconds since any moment, never going back. */
  readonly now: () => number;
  /** Called about once a second, and at the end. */
  readonly onProgress?: ((report: MutateReport) => void) | undefined;
  /** Stops after this many failures; default 1. */
  readonly maxFailures?: number | undefined;
}

export interface MutateReport {
  /** Mutations done. */
  readonly done: number;
  readonly ms: number;
  /** How often which target had which verdict: "log refused", "frame same", ... */
  readonly counts: Readonly<Record<string, number>>;
  /** One line each: `SEED=1 MUTATION=42 <what was done>: <what is wrong>`. replay() does one of them again. */
  readonly failures: readonly string[];
  /** The mutation that took longest. */
  readonly slowest: { readonly mutation: number; readonly ms: number };
}

/** Does `mutations` mutations, and says what became of them. */
export async function mutate(options: MutateOptions): Promise<MutateReport> {
  const { seed, mutations, first = 0, budgetMs = Number.POSITIVE_INFINITY, now, onProgress, maxFailures = 1 } = options;
  const started = now();
  const workshop = await Workshop.open();
  const counts: Record<string, number> = {};
  const failures: string[] = [];
  let slowest = { mutation: first, ms: 0 };
  let done = 0;
  const report = (): MutateReport => ({
    done,
    ms: now() - started,
    counts: { ...counts },
    failures: [...failures],
    slowest,
  });
  let told = started;
  let before = now();
  while (done < mutations && failures.length < maxFailures) {
    const n = first + done;
    const found = workshop.run(seed, n);
    const { verdict, wrong, what } = found instanceof Promise ? await found : found;
    counts[verdict] = (counts[verdict] ?? 0) + 1;
    if (wrong !== undefined) failures.push(failureLine(seed, n, what, wrong));
    done++;
    const after = now();
    if (after - before > slowest.ms) slowest = { mutation: n, ms: after - before };
    before = after;
    if (after - started > budgetMs) break;
    if (after - told > 1000) {
      told = after;
      onProgress?.(report());
    }
  }
  onProgress?.(report());
  return report();
}

function failureLine(seed: number, mutation: number, what: string, wrong: string): string {
  return `SEED=${seed} MUTATION=${mutation} ${what}: ${wrong.replaceAll("\n", " | ")}`;
}

/** Does one mutation again: what was done, what became of it, and what is wrong with that, if anything. */
export async function replay(
  seed: number,
  mutation: number,
): Promise<{ readonly what: string; readonly verdict: string; readonly wrong: string | undefined }> {
  const workshop = await Workshop.open();
  return workshop.run(seed, mutation);
}

let shared: Promise<Workshop> | undefined;

/** Damage `n` of `seed` to a whole small log; n counts these alone. For who does a few at a time among other things. */
export async function damageLog(
  seed: number,
  n: number,
): Promise<{ readonly what: string; readonly verdict: string; readonly wrong: string | undefined }> {
  shared ??= Workshop.open();
  return (await shared).damage(new Random(seedOf(seed, n)));
}
