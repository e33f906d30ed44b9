// The newest records in memory, bounded in bytes, so that what was just saved is read back without touching the file.
// log.ts puts every group in as it becomes durable: one copy of the group's bytes, no object a record. Records are decoded
// on first touch and then kept. Evicts from the old end; what it does not hold is read from the segments.

import { viewOf } from "../base/bytes.js";
import * as f from "./format.js";
import { recordKind, recordTag } from "./frame.js";

/** Makes the caller's own object of a record. `data` is a view of memory that nobody writes any more. */
export type Materialize<T> = (index: number, tag: number, kind: number, data: Uint8Array) => T;

/**
 * What a decoded record costs beyond its bytes: the object, the view and its slot in an array. Counted against the bound,
 * because for small payloads it is most of the memory.
 */
const DECODED_BYTES = 192;
/** What a run costs beyond the bytes it keeps: its columns. */
const RUN_BYTES = 44;
const SLAB_BYTES = 1024 * 1024;
const FIRST_COLUMN_LENGTH = 64;
const EMPTY = new Uint8Array(0);

export class RecordCache<T> {
  readonly #maxBytes: number;
  readonly #materialize: Materialize<T>;
  // A run is the records of one frame or block, contiguous from its first, and stands in columns: an object a run would be
  // one a save, alive until it is evicted, and the garbage collector would carry it along all that time.
  // Invariant: runs [#head, #tail) ascend strictly by first and leave no gap; a run's records reach to just before the next
  // run's first, even where it holds more (they were overwritten).
  #firsts = new Float64Array(0);
  #counts = new Uint32Array(0);
  /** Where a run's records begin in its slab. */
  #starts = new Uint32Array(0);
  /** Bytes of memory counted for it. */
  #costs = new Float64Array(0);
  #slabs: (Uint8Array | undefined)[] = [];
  /** Decoded on first touch. */
  #records: (T[] | undefined)[] = [];
  #head = 0;
  #tail = 0;
  #bytes = 0;
  #slab: Uint8Array = EMPTY;
  #slabUsed = 0;
  /**
   * How far into #slab its runs have been counted. A run counts for everything since the run before, headers and padding
   * included, which for small records are most of what is held; below 0 for what the slab before left unused.
   */
  #countedTo = 0;

  constructor(maxBytes: number, materialize: Materialize<T>) {
    this.#maxBytes = maxBytes;
    this.#materialize = materialize;
  }

  /**
   * Bytes held, decoded records and overhead included; at most maxBytes. Memory goes back a slab at a time, so up to one
   * more slab (1 MiB, or one group) may still be alive.
   */
  get bytes(): number {
    return this.#bytes;
  }

  /** The lowest index held; Infinity when empty. */
  get first(): number {
    return this.#head === this.#tail ? Number.POSITIVE_INFINITY : (this.#firsts[this.#head] as number);
  }

  /**
   * Copies the first `length` bytes, those of a durable group; run() then names the records in them. Returns where the copy
   * begins, or -1 when it is not kept.
   */
  hold(bytes: Uint8Array, length: number): number {
    if (length > this.#maxBytes) return -1;
    if (this.#slabUsed + length > this.#slab.length) {
      const slab = Buffer.allocUnsafeSlow(Math.max(length, Math.min(SLAB_BYTES, this.#maxBytes)));
      // A slab that no run has counted from is kept alive by none.
      this.#countedTo = this.#countedTo > 0 ? this.#countedTo - this.#slab.length : 0;
      this.#slab = new Uint8Array(slab.buffer);
      this.#slabUsed = 0;
    }
    const at = this.#slabUsed;
    this.#slab.set(length === bytes.length ? bytes : bytes.subarray(0, length), at);
    this.#slabUsed += length;
    return at;
  }

  /** Adds the records [first, first + count) that stand in [at, end) of what hold() copied last. */
  run(at: number, end: number, first: number, count: number): void {
    const cost = end - this.#countedTo + RUN_BYTES;
    this.#countedTo = end;
    if (this.#tail === this.#firsts.length) this.#makeRoom();
    const run = this.#tail++;
    this.#firsts[run] = first;
    this.#counts[run] = count;
    this.#starts[run] = at;
    this.#costs[run] = cost;
    this.#slabs[run] = this.#slab;
    this.#records[run] = undefined;
    this.#bytes += cost;
    if (this.#bytes > this.#maxBytes) this.#evict();
  }

  /** Forgets records from `first` on. */
  cut(first: number): void {
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
    const slab = this.#slabs[run] as Uint8Array;
    const first = this.#firsts[run] as number;
    const count = this.#counts[run] as number;
    const view = viewOf(slab);
    const records: T[] = new Array(count);
    let at = this.#starts[run] as number;
    for (let i = 0; i < count; i++) {
      const bytes = view.getUint32(at + f.R_DATA_BYTES, true);
      const dataAt = at + f.RECORD_BYTES;
      const data = bytes === 0 ? EMPTY : new Uint8Array(slab.buffer, dataAt, bytes);
      records[i] = this.#materialize(first + i, recordTag(view, at), recordKind(view, at), data);
      at = dataAt + bytes;
    }
    this.#records[run] = records;
    this.#costs[run] = (this.#costs[run] as number) + count * DECODED_BYTES;
    this.#bytes += count * DECODED_BYTES;
    return records;
  }

  #evict(): void {
    while (this.#bytes > this.#maxBytes && this.#head < this.#tail) this.#forget(this.#head++);
    if (this.#head === this.#tail) this.clear();
  }

  /** Takes a run, which leaves the columns' range, out of the count and lets go of its memory. */
  #forget(run: number): void {
    this.#bytes -= this.#costs[run] as number;
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
