// Frames: one save on disk. PartWriter encodes a save's body straight into a group's buffer and checksums it; stampFrame()
// gives it its place when the group is written; checkFrame() and readPart() are the other direction. Used by log.ts,
// recovery.ts and verify.ts. Promises: a frame that is cut, torn, stale, moved, foreign or only zeros is never taken for
// valid. Knows nothing of segments' files and of groups.
//
// The layout is in format.ts. The rule that shapes this file: one pass over the payload. The body's checksum is taken
// when the save is encoded; the header's, which covers the body's and the frame's place, when the place is known.

import { assert } from "../base/assert.js";
import { align8, getU64, MAX_INDEX, putU64 } from "../base/bytes.js";
import { crc32, crc32Words, wordsOf } from "../base/crc32.js";
import * as f from "./format.js";

/** Who writes: identity that goes under every checksum of a segment. */
export interface SegmentIdentity {
  /** First 8 bytes of the log's ID, as two u32. */
  readonly logIdLow: number;
  readonly logIdHigh: number;
  readonly generation: number;
  /** Start value of every header checksum; differs between any two generations of a log. */
  readonly seed: number;
}

/** The identity of generation `generation` of the log `logId` (16 bytes). */
export function segmentIdentity(logId: Uint8Array, generation: number): SegmentIdentity {
  const view = new DataView(logId.buffer, logId.byteOffset, 16);
  // Generations never repeat within a log, so XOR gives each its own seed; CRC's start value can be inverted, hence two
  // different seeds can never both validate the same bytes.
  const seed = (view.getUint32(8, true) ^ generation) >>> 0;
  return { logIdLow: view.getUint32(0, true), logIdHigh: view.getUint32(4, true), generation, seed };
}

/** Bytes of a frame whose body has `bodyBytes`. */
export function frameBytes(bodyBytes: number): number {
  return f.HEADER_BYTES + align8(bodyBytes) + f.TRAILER_BYTES;
}

/** What a part holds besides its records; the lengths that size it. */
export interface PartShape {
  /** 0, or f.F_RESET or f.F_COMPACT with baseIndex and baseTag. */
  baseFlag: number;
  baseIndex: number;
  baseTag: number;
  hasState: boolean;
  mark: Uint8Array | undefined;
  /** True with count 0 for a cut before `first`. */
  hasRecords: boolean;
  first: number;
  count: number;
  /** Sum of the records' data bytes. */
  dataBytes: number;
}

/** A shape of nothing; its owner sets what applies and reuses it. */
export function emptyShape(): PartShape {
  return {
    baseFlag: 0,
    baseIndex: 0,
    baseTag: 0,
    hasState: false,
    mark: undefined,
    hasRecords: false,
    first: 0,
    count: 0,
    dataBytes: 0,
  };
}

/** An upper bound, close, of the body bytes that a part of this shape takes. */
export function partBytesMax(shape: PartShape): number {
  let bytes = f.PART_BYTES;
  if (shape.baseFlag !== 0) bytes += f.BASE_BYTES;
  if (shape.hasState) bytes += f.STATE_BYTES;
  if (shape.mark !== undefined) bytes += align8(shape.mark.length);
  if (shape.hasRecords) {
    const records = shape.count * f.RECORD_BYTES + shape.dataBytes;
    bytes += f.RECORDS_BYTES + records;
    if (records > f.BLOCK_TARGET_BYTES) {
      // Any two blocks that follow each other hold more than the target together.
      const blocks = Math.min(shape.count, 2 * Math.ceil(records / f.BLOCK_TARGET_BYTES) + 1);
      bytes += blocks * (f.BLOCK_BYTES + 8 + f.DIRECTORY_BYTES);
    }
  }
  return bytes;
}

/**
 * Encodes one part into a buffer: begin(), record() for each record in order, end(). One writer serves a log for ever;
 * nothing is allocated a record.
 */
export class PartWriter {
  #bytes: Uint8Array = new Uint8Array(0);
  #words: Int32Array | undefined;
  /** Over the buffer of begin(), for the caller to fill the state in. */
  view: DataView = new DataView(this.#bytes.buffer);
  #bodyAt = 0;
  #partAt = 0;
  #flags = 0;
  #at = 0;
  #written = 0;
  #count = 0;
  #first = 0;
  #tagAt = 0;
  #tag = 0;
  /** End of what the body's checksum covers before the directory. Meaningful in a blocked part only. */
  #metaEnd = 0;
  #blocked = false;
  #blockAt = 0;
  #blocks = 0;
  /** Record bytes and crc of each finished block, until end() writes the directory. Grows, never shrinks. */
  #directory = new Uint32Array(128);

  /** Offset in the buffer where the 24 bytes of state go; valid after begin() of a shape that has state. */
  stateAt = 0;

  /**
   * Starts a part at `partAt` of `bytes` (8-byte aligned), the body having begun at `bodyAt` (before it when a head's link
   * comes first). The caller then fills the state in at `stateAt`.
   */
  begin(bytes: Uint8Array, view: DataView, bodyAt: number, partAt: number, shape: PartShape): void {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#words = wordsOf(bytes);
    }
    this.view = view;
    this.#bodyAt = bodyAt;
    this.#partAt = partAt;
    this.#written = 0;
    this.#count = shape.hasRecords ? shape.count : 0;
    this.#first = shape.first;
    this.#tag = 0;
    this.#blocks = 0;
    this.#blocked = false;
    let flags = shape.baseFlag;
    let at = partAt + f.PART_BYTES;
    // Set now, not when stamped: it says where the part begins, and queued frames are read back too.
    view.setUint8(bodyAt - f.HEADER_BYTES + f.H_KIND, partAt === bodyAt ? f.KIND_FRAME : f.KIND_HEAD);
    putU64(view, partAt + f.P_GROUP, 0);
    view.setUint32(partAt + f.P_MARK_BYTES, shape.mark?.length ?? 0, true);
    view.setUint32(partAt + f.P_COUNT, this.#count, true);
    if (shape.baseFlag !== 0) {
      putU64(view, at, shape.baseIndex);
      putU64(view, at + 8, shape.baseTag);
      at += f.BASE_BYTES;
    }
    if (shape.hasState) {
      flags |= f.F_STATE;
      this.stateAt = at;
      at += f.STATE_BYTES;
    }
    if (shape.mark !== undefined) {
      flags |= f.F_MARK;
      bytes.set(shape.mark, at);
      const end = at + align8(shape.mark.length);
      bytes.fill(0, at + shape.mark.length, end);
      at = end;
    }
    if (shape.hasRecords) {
      flags |= f.F_RECORDS;
      putU64(view, at, shape.first);
      this.#tagAt = at + 8;
      at += f.RECORDS_BYTES;
      this.#blocked = shape.count * f.RECORD_BYTES + shape.dataBytes > f.BLOCK_TARGET_BYTES;
      if (this.#blocked) {
        this.#metaEnd = at;
        at = this.#openBlock(at);
      }
    }
    this.#flags = flags;
    this.#at = at;
  }

  /** Appends the next record. `tag` is at most 2^53 - 1, `kind` at most 255. */
  record(tag: number, kind: number, data: Uint8Array): void {
    const dataBytes = data.length;
    let at = this.#at;
    if (this.#written === 0) {
      this.#tag = tag;
    } else {
      if (tag !== this.#tag) this.#flags |= f.F_MIXED;
      if (this.#blocked && at - this.#blockAt + f.RECORD_BYTES + dataBytes > f.BLOCK_BYTES + f.BLOCK_TARGET_BYTES) {
        // An open block is never empty: the record it was opened for follows at once.
        at = this.#openBlock(this.#closeBlock(at));
      }
    }
    const view = this.view;
    view.setUint32(at + f.R_DATA_BYTES, dataBytes, true);
    view.setUint32(at + f.R_TAG_LOW, tag >>> 0, true);
    view.setUint32(at + f.R_TAG_HIGH_KIND, (((tag / 4294967296) << 8) | kind) >>> 0, true);
    at += f.RECORD_BYTES;
    this.#bytes.set(data, at);
    this.#at = at + dataBytes;
    this.#written++;
  }

  /**
   * Finishes the part, checksums the body and writes the header fields that do not depend on the frame's place, and the
   * trailer. The header stands HEADER_BYTES before the body. Returns the offset after the frame.
   */
  end(): number {
    const view = this.view;
    const bytes = this.#bytes;
    const words = this.#words;
    const bodyAt = this.#bodyAt;
    assert(this.#written === this.#count, "a part was begun for another number of records");
    let at = this.#at;
    if (this.#blocked) at = this.#closeBlock(at);
    if ((this.#flags & f.F_RECORDS) !== 0) putU64(view, this.#tagAt, this.#tag);
    view.setUint32(this.#partAt + f.P_FLAGS, this.#flags, true);
    view.setUint32(this.#partAt + f.P_BLOCKS, this.#blocks, true);
    let metaEnd = at;
    let crc: number;
    if (this.#blocked) {
      const directoryAt = at;
      for (let i = 0; i < 2 * this.#blocks; i++, at += 4) view.setUint32(at, this.#directory[i] as number, true);
      metaEnd = this.#metaEnd;
      crc = crc32Words(words, bytes, directoryAt, at, crc32Words(words, bytes, bodyAt, metaEnd));
    } else {
      crc = crc32Words(words, bytes, bodyAt, at);
    }
    const header = bodyAt - f.HEADER_BYTES;
    view.setUint32(header + f.H_BODY_BYTES, at - bodyAt, true);
    view.setUint32(header + f.H_META_BYTES, metaEnd - bodyAt, true);
    view.setUint32(header + f.H_BODY_CRC, crc, true);
    const trailer = bodyAt + align8(at - bodyAt);
    while (at < trailer) bytes[at++] = 0;
    view.setUint32(trailer, f.TRAILER_WORD, true);
    view.setUint32(trailer + 4, f.TRAILER_WORD, true);
    return trailer + f.TRAILER_BYTES;
  }

  #openBlock(at: number): number {
    this.#blockAt = at;
    putU64(this.view, at + f.B_FIRST, this.#first + this.#written);
    return at + f.BLOCK_BYTES;
  }

  /** Pads and checksums the open block; returns the offset after it. */
  #closeBlock(at: number): number {
    const blockAt = this.#blockAt;
    const recordBytes = at - blockAt - f.BLOCK_BYTES;
    this.view.setUint32(blockAt + f.B_RECORD_BYTES, recordBytes, true);
    const crc = crc32Words(this.#words, this.#bytes, blockAt + f.B_RECORD_BYTES, at);
    const slot = 2 * this.#blocks++;
    if (slot + 2 > this.#directory.length) {
      const grown = new Uint32Array(2 * this.#directory.length);
      grown.set(this.#directory);
      this.#directory = grown;
    }
    this.#directory[slot] = recordBytes;
    this.#directory[slot + 1] = crc;
    const end = blockAt + align8(at - blockAt);
    while (at < end) this.#bytes[at++] = 0;
    return end;
  }
}

/**
 * Gives the finished frame at `at` of a buffer its place: writes the header around the body fields that PartWriter left,
 * and the check of each block. Returns the header's crc, as a signed number, which the next frame carries as its chain.
 * `words` are those of `bytes`.
 */
export function stampFrame(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  kind: number,
  identity: SegmentIdentity,
  sequence: number,
  durable: number,
  offset: number,
  chain: number,
  words = wordsOf(bytes),
): number {
  const bodyBytes = view.getUint32(at + f.H_BODY_BYTES, true);
  const metaBytes = view.getUint32(at + f.H_META_BYTES, true);
  view.setUint16(at + f.H_MAGIC, f.MAGIC, true);
  view.setUint8(at + f.H_VERSION, f.FORMAT_VERSION);
  view.setUint8(at + f.H_KIND, kind);
  putU64(view, at + f.H_GENERATION, identity.generation);
  putU64(view, at + f.H_SEQUENCE, sequence);
  putU64(view, at + f.H_DURABLE, durable);
  putU64(view, at + f.H_OFFSET, offset);
  view.setUint32(at + f.H_LOG_ID, identity.logIdLow, true);
  view.setUint32(at + f.H_LOG_ID + 4, identity.logIdHigh, true);
  view.setUint32(at + f.H_CHAIN, chain, true);
  const crc = crc32Words(words, bytes, at + 4, at + f.HEADER_BYTES, identity.seed | 0);
  view.setUint32(at + f.H_CRC, crc, true);
  if (metaBytes !== bodyBytes) {
    const body = at + f.HEADER_BYTES;
    let block = body + metaBytes;
    let entry = directoryAt(view, body, bodyBytes);
    for (const end = body + bodyBytes; entry < end; entry += f.DIRECTORY_BYTES) {
      view.setUint32(block + f.B_CHECK, (view.getUint32(entry + 4, true) ^ identity.seed) >>> 0, true);
      block += f.BLOCK_BYTES + align8(view.getUint32(entry, true));
    }
  }
  return crc;
}

/** Where the block directory of a blocked body begins: its length stands in the part, and may be nonsense. */
function directoryAt(view: DataView, body: number, bodyBytes: number): number {
  return body + bodyBytes - view.getUint32(partAt(view, body) + f.P_BLOCKS, true) * f.DIRECTORY_BYTES;
}

/** Where the part of the body at `body` begins: a head's link comes before it. */
function partAt(view: DataView, body: number): number {
  return view.getUint8(body - f.HEADER_BYTES + f.H_KIND) === f.KIND_HEAD ? body + f.LINK_BYTES : body;
}

/** What stands where a frame is looked for. "version" is a frame of ours of a format newer than this code. */
export type FrameVerdict = "valid" | "zero" | "header" | "version" | "place" | "length" | "meta" | "block" | "trailer";

/** Where a frame is expected, and what must stand in its header besides. */
export interface FrameExpectation {
  readonly identity: SegmentIdentity;
  readonly kind: number;
  /** Offset in the file. */
  readonly offset: number;
  /** undefined: not known (looking ahead). */
  readonly sequence: number | undefined;
  readonly chain: number | undefined;
}

/**
 * Checks the header at `at` of `bytes` alone: magic, checksum, place. "valid" says nothing of the body, except that it has
 * room for the fixed fields of its kind. Who checks many frames of `bytes` gives its `words` along.
 */
export function checkHeader(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  expected: FrameExpectation,
  words?: Int32Array,
): FrameVerdict {
  if (at + f.HEADER_BYTES > bytes.length) return allZero(bytes, at, bytes.length) ? "zero" : "length";
  if (view.getUint16(at + f.H_MAGIC, true) !== f.MAGIC) {
    return allZero(bytes, at, at + f.HEADER_BYTES) ? "zero" : "header";
  }
  const { identity } = expected;
  const crc = crc32Words(words, bytes, at + 4, at + f.HEADER_BYTES, identity.seed | 0);
  if (crc !== view.getInt32(at + f.H_CRC, true)) return "header";
  if (view.getUint8(at + f.H_VERSION) > f.FORMAT_VERSION) return "version";
  if (
    view.getUint8(at + f.H_VERSION) !== f.FORMAT_VERSION ||
    view.getUint8(at + f.H_KIND) !== expected.kind ||
    getU64(view, at + f.H_GENERATION) !== identity.generation ||
    view.getUint32(at + f.H_LOG_ID, true) !== identity.logIdLow ||
    view.getUint32(at + f.H_LOG_ID + 4, true) !== identity.logIdHigh ||
    getU64(view, at + f.H_OFFSET) !== expected.offset ||
    (expected.sequence !== undefined && getU64(view, at + f.H_SEQUENCE) !== expected.sequence) ||
    (expected.chain !== undefined && view.getUint32(at + f.H_CHAIN, true) !== expected.chain)
  ) {
    return "place";
  }
  const metaBytes = view.getUint32(at + f.H_META_BYTES, true);
  const least = f.PART_BYTES + (expected.kind === f.KIND_HEAD ? f.LINK_BYTES : 0);
  if (metaBytes < least || metaBytes > view.getUint32(at + f.H_BODY_BYTES, true)) return "place";
  return "valid";
}

/** Checks the frame at `at` of `bytes`, header, body and trailer. Reads nothing outside `bytes`. */
export function checkFrame(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  expected: FrameExpectation,
  words?: Int32Array,
): FrameVerdict {
  const header = checkHeader(bytes, view, at, expected, words);
  if (header !== "valid") return header;
  const bodyBytes = view.getUint32(at + f.H_BODY_BYTES, true);
  const end = at + frameBytes(bodyBytes);
  if (end > bytes.length) return "length";
  const body = at + f.HEADER_BYTES;
  const metaBytes = view.getUint32(at + f.H_META_BYTES, true);
  const crc = view.getUint32(at + f.H_BODY_CRC, true);
  if (metaCrc(bytes, view, body, metaBytes, bodyBytes, words) !== crc) return "meta";
  if (
    metaBytes !== bodyBytes &&
    firstBadBlock(bytes, view, body, metaBytes, bodyBytes, expected.identity) !== undefined
  ) {
    return "block";
  }
  if (view.getUint32(end - 8, true) !== f.TRAILER_WORD || view.getUint32(end - 4, true) !== f.TRAILER_WORD) {
    return "trailer";
  }
  return "valid";
}

/** The checksum of a body's meta bytes and directory; NaN, which equals none, when the directory overlaps the meta bytes. */
function metaCrc(
  bytes: Uint8Array,
  view: DataView,
  body: number,
  metaBytes: number,
  bodyBytes: number,
  words?: Int32Array,
): number {
  const meta = crc32Words(words, bytes, body, body + metaBytes) >>> 0;
  if (metaBytes === bodyBytes) return meta;
  const directory = directoryAt(view, body, bodyBytes);
  if (directory < body + metaBytes) return Number.NaN;
  return crc32(bytes.subarray(directory, body + bodyBytes), meta);
}

interface BadBlock {
  readonly at: number;
  readonly recordBytes: number;
  readonly crc: number;
}

/** The first block that does not match the (verified) directory. */
function firstBadBlock(
  bytes: Uint8Array,
  view: DataView,
  body: number,
  metaBytes: number,
  bodyBytes: number,
  identity: SegmentIdentity,
): BadBlock | undefined {
  let block = body + metaBytes;
  const directory = directoryAt(view, body, bodyBytes);
  for (let entry = directory; entry < body + bodyBytes; entry += f.DIRECTORY_BYTES) {
    const recordBytes = view.getUint32(entry, true);
    const crc = view.getUint32(entry + 4, true);
    const end = block + f.BLOCK_BYTES + recordBytes;
    // No writer of ours leaves a block that the frame has no room for: nothing of it is to be believed.
    if (end > directory) return { at: block, recordBytes: 0, crc };
    if (
      crc32(bytes.subarray(block + f.B_RECORD_BYTES, end)) !== crc ||
      view.getUint32(block + f.B_CHECK, true) !== (crc ^ identity.seed) >>> 0
    ) {
      return { at: block, recordBytes, crc };
    }
    block += f.BLOCK_BYTES + align8(recordBytes);
  }
  return undefined;
}

/** Bytes of the valid frame whose header stands at `at`. */
export function frameBytesAt(view: DataView, at: number): number {
  return frameBytes(view.getUint32(at + f.H_BODY_BYTES, true));
}

function allZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

const POLYNOMIAL = 0xedb88320;

/**
 * The bit, counted from the first bit of a message of `length` bytes, whose flip changes the message's CRC-32 by
 * `syndrome`; -1 when there is none. CRC is linear: a flipped bit at distance d from the end changes it by the d-th state
 * of the shift register, whatever the message is, so one walk of the register tries them all.
 */
export function flippedBit(syndrome: number, length: number): number {
  let state = POLYNOMIAL | 0;
  const wanted = syndrome | 0;
  for (let distance = 0, bits = length * 8; distance < bits; distance++) {
    if (state === wanted) {
      const byte = length - 1 - Math.floor(distance / 8);
      return byte * 8 + (7 - (distance % 8));
    }
    state = (state & 1) === 0 ? state >>> 1 : (state >>> 1) ^ POLYNOMIAL;
    state |= 0;
  }
  return -1;
}

/**
 * The one bit of the bad frame at `at` whose flip makes it valid, counted from the first bit of `bytes`; -1 when there is
 * none. `bytes` is left as it was. This tells a flipped bit from a tear: a killed write never leaves a frame one bit short,
 * a power cut only where all that a lost sector held was one single bit.
 */
export function oneBitFromValid(bytes: Uint8Array, view: DataView, at: number, expected: FrameExpectation): number {
  const candidate = suspectBit(bytes, view, at, expected);
  if (candidate < 0) return -1;
  flip(bytes, candidate);
  const verdict = checkFrame(bytes, view, at, expected);
  flip(bytes, candidate);
  return verdict === "valid" ? candidate : -1;
}

/** Flips one bit, counted from the first bit of `bytes`. */
export function flip(bytes: Uint8Array, bit: number): void {
  const byte = Math.floor(bit / 8);
  bytes[byte] = (bytes[byte] as number) ^ (1 << (bit % 8));
}

function suspectBit(bytes: Uint8Array, view: DataView, at: number, expected: FrameExpectation): number {
  if (at + f.HEADER_BYTES > bytes.length) return -1;
  const stored = view.getUint32(at + f.H_CRC, true);
  const actual = crc32(bytes.subarray(at + 4, at + f.HEADER_BYTES), expected.identity.seed);
  if (stored !== actual) {
    const syndrome = (stored ^ actual) >>> 0;
    const inHeader = flippedBit(syndrome, f.HEADER_BYTES - 4);
    if (inHeader >= 0) return (at + 4) * 8 + inHeader;
    return bitOfWord(at + f.H_CRC, syndrome);
  }
  if (checkHeader(bytes, view, at, expected) !== "valid") return -1;
  const bodyBytes = view.getUint32(at + f.H_BODY_BYTES, true);
  const metaBytes = view.getUint32(at + f.H_META_BYTES, true);
  const body = at + f.HEADER_BYTES;
  const end = at + frameBytes(bodyBytes);
  if (end > bytes.length) return -1;
  const crc = view.getUint32(at + f.H_BODY_CRC, true);
  const meta = metaCrc(bytes, view, body, metaBytes, bodyBytes);
  if (meta !== crc) return suspectMetaBit(bytes, view, body, metaBytes, bodyBytes, crc, meta);
  const bad =
    metaBytes === bodyBytes ? undefined : firstBadBlock(bytes, view, body, metaBytes, bodyBytes, expected.identity);
  if (bad !== undefined) {
    const from = bad.at + f.B_RECORD_BYTES;
    const length = f.BLOCK_BYTES - f.B_RECORD_BYTES + bad.recordBytes;
    const blockCrc = crc32(bytes.subarray(from, from + length));
    if (blockCrc !== bad.crc) {
      const bit = flippedBit((blockCrc ^ bad.crc) >>> 0, length);
      return bit < 0 ? -1 : from * 8 + bit;
    }
    const check = view.getUint32(bad.at + f.B_CHECK, true) ^ bad.crc ^ expected.identity.seed;
    return bitOfWord(bad.at + f.B_CHECK, check >>> 0);
  }
  for (const word of [end - 8, end - 4]) {
    const difference = (view.getUint32(word, true) ^ f.TRAILER_WORD) >>> 0;
    if (difference !== 0) return bitOfWord(word, difference);
  }
  return -1;
}

function suspectMetaBit(
  bytes: Uint8Array,
  view: DataView,
  body: number,
  metaBytes: number,
  bodyBytes: number,
  stored: number,
  actual: number,
): number {
  if (metaBytes === bodyBytes) {
    const bit = flippedBit((stored ^ actual) >>> 0, metaBytes);
    return bit < 0 ? -1 : body * 8 + bit;
  }
  const directory = directoryAt(view, body, bodyBytes);
  if (directory >= body + metaBytes) {
    const bit = flippedBit((stored ^ actual) >>> 0, metaBytes + body + bodyBytes - directory);
    if (bit >= 0) return bit < metaBytes * 8 ? body * 8 + bit : directory * 8 + bit - metaBytes * 8;
  }
  // A flip in the directory's own length moves what is checksummed: those 32 bits are tried one by one.
  for (let bit = (partAt(view, body) + f.P_BLOCKS) * 8, last = bit + 32; bit < last; bit++) {
    flip(bytes, bit);
    const crc = metaCrc(bytes, view, body, metaBytes, bodyBytes);
    flip(bytes, bit);
    if (crc === stored) return bit;
  }
  return -1;
}

/** The bit that the u32 at `at` differs by, when `difference` (not 0) is a single one; else -1. */
function bitOfWord(at: number, difference: number): number {
  return (difference & (difference - 1)) === 0 ? at * 8 + Math.log2(difference) : -1;
}

/** A decoded part: offsets are into the buffer it was read from. One object is reused for many parts. */
export interface Part {
  flags: number;
  baseIndex: number;
  baseTag: number;
  stateAt: number;
  markAt: number;
  markBytes: number;
  first: number;
  count: number;
  tag: number;
  blocks: number;
  /** Where records (blocks = 0) or blocks begin, and where they end. */
  recordsAt: number;
  recordsEnd: number;
  directoryAt: number;
}

/** A Part to read into. */
export function emptyPart(): Part {
  return {
    flags: 0,
    baseIndex: 0,
    baseTag: 0,
    stateAt: 0,
    markAt: 0,
    markBytes: 0,
    first: 0,
    count: 0,
    tag: 0,
    blocks: 0,
    recordsAt: 0,
    recordsEnd: 0,
    directoryAt: 0,
  };
}

/**
 * Reads the part of the checked frame whose header stands at `at`, into `part`. False when its fields contradict each
 * other or its length, which no writer of ours leaves: checksums that hold do not make a stranger's bytes trustworthy.
 */
export function readPart(view: DataView, at: number, part: Part): boolean {
  const body = at + f.HEADER_BYTES;
  const bodyEnd = body + view.getUint32(at + f.H_BODY_BYTES, true);
  const metaEnd = body + view.getUint32(at + f.H_META_BYTES, true);
  let p = partAt(view, body);
  const flags = view.getUint32(p + f.P_FLAGS, true);
  if (flags > f.F_ALL || getU64(view, p + f.P_GROUP) !== 0) return false;
  part.flags = flags;
  part.markBytes = view.getUint32(p + f.P_MARK_BYTES, true);
  part.count = view.getUint32(p + f.P_COUNT, true);
  part.blocks = view.getUint32(p + f.P_BLOCKS, true);
  p += f.PART_BYTES;
  if ((flags & (f.F_RESET | f.F_COMPACT)) !== 0) {
    if (p + f.BASE_BYTES > metaEnd) return false;
    part.baseIndex = getU64(view, p);
    part.baseTag = getU64(view, p + 8);
    if (!(part.baseIndex <= MAX_INDEX && part.baseTag <= Number.MAX_SAFE_INTEGER)) return false;
    p += f.BASE_BYTES;
  }
  if ((flags & f.F_STATE) !== 0) {
    part.stateAt = p;
    p += f.STATE_BYTES;
  }
  if ((flags & f.F_MARK) !== 0) {
    part.markAt = p;
    p += align8(part.markBytes);
  } else if (part.markBytes !== 0) {
    return false;
  }
  if (p > metaEnd) return false;
  part.recordsAt = p;
  part.recordsEnd = p;
  part.directoryAt = bodyEnd;
  if ((flags & f.F_RECORDS) === 0) return part.count === 0 && part.blocks === 0 && p === bodyEnd;
  if (p + f.RECORDS_BYTES > metaEnd) return false;
  part.first = getU64(view, p);
  part.tag = getU64(view, p + 8);
  p += f.RECORDS_BYTES;
  if (!(part.first >= 1 && part.first + part.count - 1 <= MAX_INDEX && part.tag <= Number.MAX_SAFE_INTEGER)) {
    return false;
  }
  part.recordsAt = p;
  if (part.blocks === 0) {
    part.recordsEnd = bodyEnd;
    const left = bodyEnd - p;
    return metaEnd === bodyEnd && (part.count === 0 ? left === 0 : part.count * f.RECORD_BYTES <= left);
  }
  part.directoryAt = bodyEnd - part.blocks * f.DIRECTORY_BYTES;
  part.recordsEnd = part.directoryAt;
  return p === metaEnd && part.directoryAt >= p && part.blocks <= part.count;
}

/** Receives one record: its number, tag, kind, and where its data stands in the buffer. */
export type RecordVisitor = (index: number, tag: number, kind: number, dataAt: number, dataEnd: number) => void;

/**
 * Walks `count` records that stand in [at, end) of a checked buffer. False when they do not fill it exactly; those before
 * the one at fault have been visited then. Hot readers inline this loop.
 */
export function walkRecords(
  view: DataView,
  at: number,
  end: number,
  first: number,
  count: number,
  visit: RecordVisitor,
): boolean {
  let p = at;
  for (let i = 0; i < count; i++) {
    if (p + f.RECORD_BYTES > end) return false;
    const dataAt = p + f.RECORD_BYTES;
    const dataEnd = dataAt + view.getUint32(p + f.R_DATA_BYTES, true);
    if (dataEnd > end) return false;
    visit(first + i, recordTag(view, p), recordKind(view, p), dataAt, dataEnd);
    p = dataEnd;
  }
  return p === end;
}

/** The tag of the record at `at`. */
export function recordTag(view: DataView, at: number): number {
  return (view.getUint32(at + f.R_TAG_HIGH_KIND, true) >>> 8) * 4294967296 + view.getUint32(at + f.R_TAG_LOW, true);
}

/** The kind of the record at `at`. */
export function recordKind(view: DataView, at: number): number {
  return view.getUint8(at + f.R_TAG_HIGH_KIND);
}
