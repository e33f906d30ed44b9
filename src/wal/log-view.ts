// LogView: what a log holds, as frames say it. log.ts applies each frame to it when the frame is durable, recovery.ts when
// it has decided that the frame counts; both through apply(), so that a log means the same before and after a crash.
//
// LogSegment: one segment file and what its records are to the log.

import { align8, equalBytes, getU64, MAX_INDEX } from "../base/bytes.js";
import * as f from "./format.js";
import {
  emptyPart,
  frameBytesAt,
  type Part,
  readPart,
  type SegmentIdentity,
  segmentIdentity,
  walkRecords,
} from "./frame.js";
import type { RecordCache } from "./record-cache.js";
import { SegmentIndex } from "./segment-index.js";
import { segmentName } from "./segment-name.js";
import type { Slab } from "./slab.js";

/** `from` of a segment that holds no record of the log. */
export const NO_RECORDS = Number.POSITIVE_INFINITY;

/** A segment of the log, and where its records stand. */
export interface LogSegment {
  readonly generation: number;
  readonly name: string;
  readonly identity: SegmentIdentity;
  /** Zero-filled bytes it was begun with. */
  readonly capacity: number;
  /** Last index of the log when this segment began. */
  readonly base: number;
  /**
   * The lowest index of the log that stands here; NO_RECORDS when none does. Invariant: at this segment's end, every index
   * from `from` up to the log's last stands here, because a log is only ever cut at its end and appended to.
   */
  from: number;
  /** Offset after the last frame that counts. */
  end: number;
  /** Sequence and header crc of that frame. */
  sequence: number;
  chain: number;
  /** Undefined until it is first needed. */
  index: SegmentIndex | undefined;
  /** Generation of the segment before, 0 for none. */
  readonly previous: number;
}

/** A segment that is about to be written or read. */
export function newSegment(
  logId: Uint8Array,
  generation: number,
  capacity: number,
  base: number,
  previous: number,
): LogSegment {
  return {
    generation,
    name: segmentName(generation),
    identity: segmentIdentity(logId, generation),
    capacity,
    base,
    from: NO_RECORDS,
    end: 0,
    sequence: 0,
    chain: 0,
    index: new SegmentIndex(),
    previous,
  };
}

/**
 * True when the log needs no segment before this one: everything above the dummy stands here or later. Recovery walks
 * links back by the same rule that compaction releases segments by.
 */
export function isOldestNeeded(segment: Pick<LogSegment, "from" | "base">, dummyIndex: number): boolean {
  return segment.from <= dummyIndex + 1 || segment.base <= dummyIndex;
}

// What #append() answers besides an offset.
const NO_STATE = -1;
const OTHERWISE = -2;

export class LogView {
  /** Everything up to here is compacted away; its tag is still known. 0 before the first compaction. */
  dummyIndex = 0;
  dummyTag = 0;
  /** Last index held; dummyIndex when there are no records. */
  last = 0;
  /** The newest state and mark, opaque; all zero and empty before the first. */
  readonly state: Uint8Array = new Uint8Array(f.STATE_BYTES);
  mark: Uint8Array = new Uint8Array(0);
  /** Counts the changes of `state` and of `mark`, so that who decodes them knows when to. */
  stateVersion = 0;
  markVersion = 0;
  readonly #part: Part = emptyPart();

  /**
   * Applies the frames that stand in [start, end) of `slab` and from `offset` on in `segment`, just written: their records go
   * into the segment's index and, when `keep` says so, into the cache. False as apply() says it.
   */
  applyGroup(
    slab: Slab,
    start: number,
    end: number,
    offset: number,
    segment: LogSegment,
    cache: RecordCache<unknown>,
    keep: boolean,
  ): boolean {
    const { bytes, view } = slab;
    const kept = keep ? slab : undefined;
    let { sequence } = segment;
    let at = start;
    let lastAt = start;
    // The newest state that was passed and not taken over: the next one may make that needless.
    let stateAt = -1;
    while (at < end) {
      const frameOffset = offset + at - start;
      const state = this.#append(view, at, frameOffset, segment, cache, kept);
      if (state === OTHERWISE) {
        if (stateAt >= 0) this.#setState(bytes, stateAt);
        stateAt = -1;
        if (!this.#applyOther(bytes, view, at, frameOffset, segment, cache, kept)) return false;
      } else if (state !== NO_STATE) {
        stateAt = state;
      }
      sequence++;
      lastAt = at;
      at += frameBytesAt(view, at);
    }
    if (stateAt >= 0) this.#setState(bytes, stateAt);
    segment.sequence = sequence;
    segment.chain = view.getUint32(lastAt + f.H_CRC, true);
    return true;
  }

  /**
   * The short way for what most frames are: records of one tag that follow the last one, with a state or without. Returns
   * where in the buffer the state stands, for the caller to take over, or NO_STATE; OTHERWISE, with nothing done, for any
   * other frame, those whose fields make no sense among them.
   */
  #append(
    view: DataView,
    at: number,
    offset: number,
    segment: LogSegment,
    cache: RecordCache<unknown> | undefined,
    slab: Slab | undefined,
  ): number {
    const body = at + f.HEADER_BYTES;
    const flags = view.getUint32(body + f.P_FLAGS, true);
    const state = body + f.PART_BYTES;
    const head = (flags & f.F_STATE) === 0 ? state : state + f.STATE_BYTES;
    const recordsAt = head + f.RECORDS_BYTES;
    const count = view.getUint32(body + f.P_COUNT, true);
    const bodyBytes = view.getUint32(at + f.H_BODY_BYTES, true);
    const first = this.last + 1;
    const { index } = segment;
    if (
      (flags & ~f.F_STATE) !== f.F_RECORDS ||
      index === undefined ||
      segment.from > first ||
      view.getUint8(at + f.H_KIND) !== f.KIND_FRAME ||
      view.getUint32(at + f.H_META_BYTES, true) !== bodyBytes ||
      getU64(view, body + f.P_GROUP) !== 0 ||
      view.getUint32(body + f.P_MARK_BYTES, true) !== 0 ||
      view.getUint32(body + f.P_BLOCKS, true) !== 0 ||
      count === 0 ||
      count * f.RECORD_BYTES > body + bodyBytes - recordsAt ||
      getU64(view, head) !== first ||
      first + count - 1 > MAX_INDEX
    ) {
      return OTHERWISE;
    }
    const tag = getU64(view, head + 8);
    if (!(tag <= Number.MAX_SAFE_INTEGER)) return OTHERWISE;
    this.last = first + count - 1;
    index.addTag(first, tag);
    index.addPlace(first, offset, false);
    if (slab !== undefined) cache?.frame(slab, at, at + frameBytesAt(view, at), first, count);
    else cache?.clear();
    return head === state ? NO_STATE : state;
  }

  #setState(bytes: Uint8Array, at: number): void {
    for (let i = 0; i < f.STATE_BYTES; i++) this.state[i] = bytes[at + i] as number;
    this.stateVersion++;
  }

  /**
   * Applies the checked frame at `at` of `bytes`, which stands at `offset` of `segment`. Its records go into the segment's
   * index and, when `bytes` are those of `slab`, into the cache. False when the frame's fields contradict each other or the
   * log; the view is then half changed and of no further use.
   */
  apply(
    bytes: Uint8Array,
    view: DataView,
    at: number,
    offset: number,
    segment: LogSegment,
    cache?: RecordCache<unknown>,
    slab?: Slab,
  ): boolean {
    const state = this.#append(view, at, offset, segment, cache, slab);
    if (state !== OTHERWISE) {
      if (state !== NO_STATE) this.#setState(bytes, state);
      return true;
    }
    return this.#applyOther(bytes, view, at, offset, segment, cache, slab);
  }

  /** apply() of what #append() leaves. */
  #applyOther(
    bytes: Uint8Array,
    view: DataView,
    at: number,
    offset: number,
    segment: LogSegment,
    cache: RecordCache<unknown> | undefined,
    slab: Slab | undefined,
  ): boolean {
    const part = this.#part;
    if (!readPart(view, at, part)) return false;
    const { flags } = part;
    if ((flags & f.F_RESET) !== 0) {
      this.dummyIndex = part.baseIndex;
      this.dummyTag = part.baseTag;
      this.last = part.baseIndex;
      segment.from = part.baseIndex + 1;
      segment.index?.clear();
      cache?.clear();
    }
    if ((flags & f.F_RECORDS) !== 0) {
      const { first, count } = part;
      if (first > this.last + 1 || first <= this.dummyIndex) return false;
      if (first < segment.from) segment.from = first;
      if (first <= this.last) {
        segment.index?.cut(first);
        cache?.cut(first);
      }
      this.last = first + count - 1;
      const index = segment.index;
      if (count > 0 && index !== undefined) {
        index.addTag(first, part.tag);
        if (part.blocks === 0) {
          index.addPlace(first, offset, false);
          const { recordsAt, recordsEnd } = part;
          if ((flags & f.F_MIXED) !== 0 && !addTags(view, recordsAt, recordsEnd, first, count, index)) return false;
          if (slab !== undefined) cache?.frame(slab, at, at + frameBytesAt(view, at), first, count);
        } else if (!this.#applyBlocks(view, at, offset, index, cache, slab)) {
          return false;
        }
      }
      if (slab === undefined) cache?.clear();
    }
    if ((flags & f.F_COMPACT) !== 0) {
      if (part.baseIndex < this.dummyIndex || part.baseIndex > this.last) return false;
      this.dummyIndex = part.baseIndex;
      this.dummyTag = part.baseTag;
      cache?.release(part.baseIndex);
    }
    if ((flags & f.F_STATE) !== 0) this.#setState(bytes, part.stateAt);
    if ((flags & f.F_MARK) !== 0) {
      const mark = bytes.slice(part.markAt, part.markAt + part.markBytes);
      if (!equalBytes(mark, this.mark)) {
        this.mark = mark;
        this.markVersion++;
      }
    }
    return true;
  }

  #applyBlocks(
    view: DataView,
    at: number,
    offset: number,
    index: SegmentIndex,
    cache: RecordCache<unknown> | undefined,
    slab: Slab | undefined,
  ): boolean {
    const part = this.#part;
    let block = part.recordsAt;
    let first = part.first;
    const last = part.first + part.count;
    for (let i = 0; i < part.blocks; i++) {
      const recordBytes = view.getUint32(part.directoryAt + i * f.DIRECTORY_BYTES, true);
      const records = block + f.BLOCK_BYTES;
      const end = records + recordBytes;
      const nextBlock = records + align8(recordBytes);
      if (nextBlock > part.recordsEnd) return false;
      // What is not the last block stands before the directory, so there are bytes to read a first from.
      const next = i + 1 === part.blocks ? last : getU64(view, nextBlock + f.B_FIRST);
      if (getU64(view, block + f.B_FIRST) !== first || !(next > first && next <= last)) return false;
      index.addPlace(first, offset + block - at, true);
      if ((part.flags & f.F_MIXED) !== 0 && !addTags(view, records, end, first, next - first, index)) return false;
      if (slab !== undefined) cache?.block(slab, records, end, first, next - first);
      first = next;
      block = nextBlock;
    }
    return block === part.recordsEnd;
  }
}

/** Notes the tags of the `count` records in [at, end); false when they do not fill it, or a tag is no number of ours. */
function addTags(view: DataView, at: number, end: number, first: number, count: number, index: SegmentIndex): boolean {
  let sound = true;
  const filled = walkRecords(view, at, end, first, count, (record, tag) => {
    if (Number.isSafeInteger(tag)) index.addTag(record, tag);
    else sound = false;
  });
  return filled && sound;
}
