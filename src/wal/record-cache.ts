// The newest records in memory, bounded in bytes, so that what was just saved is read back without touching the file.
// log.ts names to it the frames of every group that becomes durable, and it keeps the slabs they stand in: no byte is copied,
// and there is no object a record. Records are decoded on first touch and then kept. Evicts from the old end; what it does
// not hold is read from the segments.

import { assert } from "../base/assert.js";
import * as f from "./format.js";
import { emptyPart, frameBytesAt, type Part, readPart, recordKind, recordTag } from "./frame.js";
import type { Slab, SlabPool } from "./slab.js";

/** Makes the caller's own object of a record. `data` is a view of memory that nobody writes any more. */
export type Materialize<T> = (index: number, tag: number, kind: number, data: Uint8Array) => T;

/**
 * What a decoded record costs beyond its bytes: the object, the view and its slot in an array. Counted against the bound,
 * because for small payloads it is most of the memory.
 */
const DECODED_BYTES = 192;
/** What a run costs beyond the bytes it keeps: its columns. */
const RUN_BYTES = 44;
/** Frames of fewer bytes than this go into one run: it is decoded whole, so it is kept small. */
const RUN_TARGET_BYTES = 16 * 1024;
/** In the column of starts: the run is frames, not the records of one block. */
const FRAMES = 0x80000000;
const FIRST_COLUMN_LENGTH = 64;
const EMPTY = new Uint8Array(0);

export class RecordCache<T> {
  readonly #maxBytes: number;
  readonly #materialize: Materialize<T>;
  // A run is the records of some frames that follow each other, or of one block, contiguous from its first. It stands in
  // columns: an object a run would be alive until it is evicted, and the garbage collector would carry it along all that time.
  // Invariant: runs [#head, #tail) ascend strictly by first and leave no gap; a run's records reach to just before the next
  // run's first, even where it holds more (they were overwritten).
  #firsts = new Float64Array(0);
  #counts = new Uint32Array(0);
  /** Where a run begins in its slab, with FRAMES. */
  #starts = new Uint32Array(0);
  /** Bytes of memory counted for it. */
  #costs = new Float64Array(0);
  #slabs: (Slab | undefined)[] = [];
  /** Decoded on first touch. */
  #records: (T[] | undefined)[] = [];
  #head = 0;
  #tail = 0;
  #bytes = 0;
  /** The slab of the newest run. */
  #slab: Slab | undefined;
  /**
   * How far into #slab its runs have been counted. A run counts for everything since the run before, headers and padding
   * included, which for small records are most of what is held; below 0 for what the slab before left unused.
   */
  #countedTo = 0;
  /** Where the newest run ends in #slab, when the frame that begins there may join it; -1 when none may. */
  #openEnd = -1;
  readonly #pool: SlabPool;
  readonly #part: Part = emptyPart();

  constructor(maxBytes: number, materialize: Materialize<T>, pool: SlabPool) {
    this.#maxBytes = maxBytes;
    this.#pool = pool;
    this.#materialize = materialize;
  }

  /**
   * Bytes held, decoded records and overhead included; at most maxBytes. Memory goes back a slab at a time, so up to
   * three more slabs (1 MiB, or one group, each) may still be alive: two of them to be written again.
   */
  get bytes(): number {
    return this.#bytes;
  }

  /** The lowest index held; Infinity when empty. */
  get first(): number {
    return this.#head === this.#tail ? Number.POSITIVE_INFINITY : (this.#firsts[this.#head] as number);
  }

  /** Whether a group of so many bytes is kept at all. */
  takes(bytes: number): boolean {
    return bytes <= this.#maxBytes;
  }

  /** Adds the records [first, first + count) of the frame without blocks that stands in [at, end) of `slab`. */
  frame(slab: Slab, at: number, end: number, first: number, count: number): void {
    const run = this.#tail - 1;
    if (
      run >= this.#head &&
      slab === this.#slab &&
      at === this.#openEnd &&
      this.#records[run] === undefined &&
      (this.#firsts[run] as number) + (this.#counts[run] as number) === first &&
      end - (this.#starts[run] as number) + FRAMES < RUN_TARGET_BYTES
    ) {
      this.#counts[run] = (this.#counts[run] as number) + count;
      this.#costs[run] = (this.#costs[run] as number) + end - at;
      this.#bytes += end - at;
      this.#countedTo = end;
      this.#openEnd = end;
      if (this.#bytes > this.#maxBytes) this.#evict();
    } else {
      this.#add(slab, at + FRAMES, end, first, count);
      this.#openEnd = end;
    }
  }

  /** Adds the records [first, first + count) that stand, a block's, in [at, end) of `slab`. */
  block(slab: Slab, at: number, end: number, first: number, count: number): void {
    this.#add(slab, at, end, first, count);
    this.#openEnd = -1;
  }

  #add(slab: Slab, start: number, end: number, first: number, count: number): void {
    const before = this.#slab;
    if (slab !== before) {
      // A slab that no run has counted from is kept alive by none.
      this.#countedTo = before !== undefined && this.#countedTo > 0 ? this.#countedTo - before.bytes.length : 0;
      this.#slab = slab;
    } else if (end <= this.#countedTo) {
      // Written over from its beginning on: none of it was kept.
      this.#countedTo = 0;
    }
    const cost = end - this.#countedTo + RUN_BYTES;
    this.#countedTo = end;
    if (this.#tail === this.#firsts.length) this.#makeRoom();
    const run = this.#tail++;
    this.#firsts[run] = first;
    this.#counts[run] = count;
    this.#starts[run] = start;
    this.#costs[run] = cost;
    this.#slabs[run] = slab;
    this.#records[run] = undefined;
    slab.users++;
    this.#bytes += cost;
    if (this.#bytes > this.#maxBytes) this.#evict();
  }

  /** Forgets records from `first` on. */
  cut(first: number): void {
    // What is in the newest run from here on is not what the frames behind it say.
    this.#openEnd = -1;
    while (this.#tail > this.#head && (this.#firsts[this.#tail - 1] as number) >= first) this.#forget(--this.#tail);
    if (this.#tail === this.#head) this.clear();
  }

  /** Forgets what lies wholly at or below `index`. */
  release(index: number): void {
    while (this.#head + 1 < this.#tail && (this.#firsts[this.#head + 1] as number) <= index + 1)
      this.#forget(this.#head++);
  }

  /** Forgets everything. */
  clear(): void {
    for (let run = this.#head; run < this.#tail; run++) this.#pool.release(this.#slabs[run] as Slab);
    this.#slabs.length = 0;
    this.#records.length = 0;
    this.#head = 0;
    this.#tail = 0;
    this.#bytes = 0;
  }

  /**
   * Appends the records from `lo` up to `hi` (exclusive) to `out`; all of them are held. Stops before a record that `accept`
   * refuses. Returns the index after the last one appended.
   */
  read(lo: number, hi: number, out: T[], accept: ((record: T) => boolean) | undefined): number {
    const reached = this.#collect(lo, hi, out, accept);
    // Only now: what is being read is not evicted under the reader.
    if (this.#bytes > this.#maxBytes) this.#evict();
    return reached;
  }

  #collect(lo: number, hi: number, out: T[], accept: ((record: T) => boolean) | undefined): number {
    let index = lo;
    for (let run = this.#find(lo); index < hi; run++) {
      const first = this.#firsts[run] as number;
      const after = run + 1 < this.#tail ? (this.#firsts[run + 1] as number) : first + (this.#counts[run] as number);
      const end = Math.min(hi, after);
      const records = this.#records[run] ?? this.#decode(run);
      for (; index < end; index++) {
        const record = records[index - first] as T;
        if (accept !== undefined && !accept(record)) return index;
        out.push(record);
      }
    }
    return index;
  }

  #find(index: number): number {
    let low = this.#head;
    let high = this.#tail;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#firsts[middle] as number) <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #decode(run: number): T[] {
    const slab = this.#slabs[run] as Slab;
    const first = this.#firsts[run] as number;
    const count = this.#counts[run] as number;
    const start = this.#starts[run] as number;
    const records: T[] = [];
    slab.lent = true;
    if (start < FRAMES) {
      this.#decodeRecords(slab, start, first, count, records);
    } else {
      const part = this.#part;
      for (let at = start - FRAMES; records.length < count; at += frameBytesAt(slab.view, at)) {
        assert(readPart(slab.view, at, part), "a frame that was written cannot be read back");
        this.#decodeRecords(slab, part.recordsAt, part.first, part.count, records);
      }
    }
    this.#records[run] = records;
    this.#costs[run] = (this.#costs[run] as number) + count * DECODED_BYTES;
    this.#bytes += count * DECODED_BYTES;
    return records;
  }

  #decodeRecords({ view, bytes }: Slab, start: number, first: number, count: number, out: T[]): void {
    let at = start;
    for (let i = 0; i < count; i++) {
      const dataBytes = view.getUint32(at + f.R_DATA_BYTES, true);
      const dataAt = at + f.RECORD_BYTES;
      const data = dataBytes === 0 ? EMPTY : new Uint8Array(bytes.buffer, dataAt, dataBytes);
      out.push(this.#materialize(first + i, recordTag(view, at), recordKind(view, at), data));
      at = dataAt + dataBytes;
    }
  }

  #evict(): void {
    while (this.#bytes > this.#maxBytes && this.#head < this.#tail) this.#forget(this.#head++);
    if (this.#head === this.#tail) this.clear();
  }

  /** Takes a run, which leaves the columns' range, out of the count and lets go of its memory. */
  #forget(run: number): void {
    this.#bytes -= this.#costs[run] as number;
    this.#pool.release(this.#slabs[run] as Slab);
    this.#slabs[run] = undefined;
    this.#records[run] = undefined;
  }

  /** Moves the runs to the front of the columns when they take less than half, else makes the columns twice as long. */
  #makeRoom(): void {
    const { length } = this.#firsts;
    const head = this.#head;
    if (head * 2 > length) {
      this.#firsts.copyWithin(0, head);
      this.#counts.copyWithin(0, head);
      this.#starts.copyWithin(0, head);
      this.#costs.copyWithin(0, head);
    } else {
      const longer = Math.max(FIRST_COLUMN_LENGTH, 2 * length);
      this.#firsts = grown(this.#firsts, new Float64Array(longer), head);
      this.#counts = grown(this.#counts, new Uint32Array(longer), head);
      this.#starts = grown(this.#starts, new Uint32Array(longer), head);
      this.#costs = grown(this.#costs, new Float64Array(longer), head);
    }
    this.#slabs = this.#slabs.slice(head, this.#tail);
    this.#records = this.#records.slice(head, this.#tail);
    this.#tail -= head;
    this.#head = 0;
  }
}

/** `target` with the values of `column` from `head` on at its front. */
function grown<C extends Float64Array | Uint32Array>(column: C, target: C, head: number): C {
  target.set(column.subarray(head));
  return target;
}
