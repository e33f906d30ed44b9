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
/** What a run costs beyond the bytes it keeps: the object and its slot in an array. */
const RUN_BYTES = 96;
const SLAB_BYTES = 1024 * 1024;
const EMPTY = new Uint8Array(0);

/** Records of one frame or block, contiguous from `first`. */
interface Run<T> {
  readonly slab: Uint8Array;
  readonly at: number;
  readonly end: number;
  readonly first: number;
  readonly count: number;
  /** Bytes of memory counted for it. */
  cost: number;
  records: T[] | undefined;
}

export class RecordCache<T> {
  readonly #maxBytes: number;
  readonly #materialize: Materialize<T>;
  // Invariant: runs from #head on ascend strictly by first and leave no gap; a run's records reach to just before the next
  // run's first, even where it holds more (they were overwritten).
  #runs: (Run<T> | undefined)[] = [];
  #head = 0;
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
    return this.#runs[this.#head]?.first ?? Number.POSITIVE_INFINITY;
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
    this.#runs.push({ slab: this.#slab, at, end, first, count, cost, records: undefined });
    this.#bytes += cost;
    if (this.#bytes > this.#maxBytes) this.#evict();
  }

  /** Forgets records from `first` on. */
  cut(first: number): void {
    const runs = this.#runs;
    while (runs.length > this.#head) {
      const last = runs[runs.length - 1] as Run<T>;
      if (last.first < first) return;
      runs.pop();
      this.#bytes -= last.cost;
    }
    if (runs.length === this.#head) this.clear();
  }

  /** Forgets what lies wholly at or below `index`. */
  release(index: number): void {
    while (this.#head + 1 < this.#runs.length && (this.#runs[this.#head + 1] as Run<T>).first <= index + 1) {
      this.#drop();
    }
    this.#tidy();
  }

  /** Forgets everything. */
  clear(): void {
    this.#runs.length = 0;
    this.#head = 0;
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
    let position = this.#find(lo);
    while (index < hi) {
      const run = this.#runs[position] as Run<T>;
      const next = this.#runs[position + 1];
      const end = Math.min(hi, next === undefined ? run.first + run.count : next.first);
      const records = run.records ?? this.#decode(run);
      for (; index < end; index++) {
        const record = records[index - run.first] as T;
        if (accept !== undefined && !accept(record)) return index;
        out.push(record);
      }
      position++;
    }
    return index;
  }

  #find(index: number): number {
    let low = this.#head;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#runs[middle] as Run<T>).first <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #decode(run: Run<T>): T[] {
    const { slab, first, count } = run;
    const view = viewOf(slab);
    const records: T[] = new Array(count);
    let at = run.at;
    for (let i = 0; i < count; i++) {
      const bytes = view.getUint32(at + f.R_DATA_BYTES, true);
      const dataAt = at + f.RECORD_BYTES;
      const data = bytes === 0 ? EMPTY : new Uint8Array(slab.buffer, dataAt, bytes);
      records[i] = this.#materialize(first + i, recordTag(view, at), recordKind(view, at), data);
      at = dataAt + bytes;
    }
    run.records = records;
    run.cost += count * DECODED_BYTES;
    this.#bytes += count * DECODED_BYTES;
    return records;
  }

  #evict(): void {
    while (this.#bytes > this.#maxBytes && this.#head < this.#runs.length) this.#drop();
    this.#tidy();
  }

  #drop(): void {
    this.#bytes -= (this.#runs[this.#head] as Run<T>).cost;
    this.#runs[this.#head++] = undefined;
  }

  #tidy(): void {
    if (this.#head === this.#runs.length) {
      this.clear();
    } else if (this.#head > 1024 && this.#head * 2 > this.#runs.length) {
      this.#runs = this.#runs.slice(this.#head);
      this.#head = 0;
    }
  }
}
