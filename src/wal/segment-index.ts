// Where the records of one segment stand, and their tags: what makes a cold read one pread and a cold term() none. Filled
// as frames become durable, trimmed when the segment is finished, kept beside it as a side file that can always be made
// again by one scan. Used by log.ts, recovery.ts and verify.ts.
//
// A "place" is eight bytes a frame or block, not a record: at most 8 bytes an entry, far less when saves carry many.

import { getU64, putU64, viewOf } from "../base/bytes.js";
import { crc32 } from "../base/crc32.js";
import * as f from "./format.js";
import type { SegmentIdentity } from "./frame.js";

const IN_BLOCK = 0x80000000;

/** The end of a segment that its index was made for: an index of anything else is no index of it. */
export interface IndexBinding {
  readonly identity: SegmentIdentity;
  readonly end: number;
  readonly sequence: number;
  readonly chain: number;
}

export class SegmentIndex {
  /** What `first` columns count from. */
  #base = 0;
  // Invariant: both tables ascend strictly by first, and begin with the same record; a place's records reach to just before
  // the next place's first, even where its frame holds more (they were overwritten later in this segment).
  #places = new Uint32Array(32);
  #placeCount = 0;
  #runs: number[] = [];

  /** Number of places. */
  get placeCount(): number {
    return this.#placeCount;
  }

  /** Bytes of memory the tables take. */
  get memoryBytes(): number {
    return this.#places.byteLength + this.#runs.length * 8;
  }

  /** Notes that records from `first` on begin at `offset`: of a frame's header, or of a block when `inBlock`. */
  addPlace(first: number, offset: number, inBlock: boolean): void {
    // Nothing counts from the old base any more: runs are kept whole, and go with the places they belong to.
    if (this.#placeCount === 0) this.#base = first;
    const at = 2 * this.#placeCount;
    if (at === this.#places.length) {
      const grown = new Uint32Array(2 * at);
      grown.set(this.#places);
      this.#places = grown;
    }
    this.#places[at] = first - this.#base;
    this.#places[at + 1] = offset / 8 + (inBlock ? IN_BLOCK : 0);
    this.#placeCount++;
  }

  /** Notes that records from `first` on have `tag`. */
  addTag(first: number, tag: number): void {
    const runs = this.#runs;
    if (runs.length > 0 && runs[runs.length - 1] === tag) return;
    runs.push(first, tag);
  }

  /** Forgets the records from `first` on: they are about to be written again, or are cut off. */
  cut(first: number): void {
    while (this.#placeCount > 0 && this.firstOf(this.#placeCount - 1) >= first) this.#placeCount--;
    const runs = this.#runs;
    while (runs.length > 0 && (runs[runs.length - 2] as number) >= first) runs.length -= 2;
  }

  /** Forgets everything. */
  clear(): void {
    this.#placeCount = 0;
    this.#runs.length = 0;
  }

  /** The place that holds record `index`: the last one that begins at or before it. -1 when there is none. */
  find(index: number): number {
    const wanted = index - this.#base;
    const places = this.#places;
    let low = 0;
    let high = this.#placeCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((places[2 * middle] as number) <= wanted) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The first record of place `place`. */
  firstOf(place: number): number {
    return this.#base + (this.#places[2 * place] as number);
  }

  /** The file offset of place `place`. */
  offsetOf(place: number): number {
    return ((this.#places[2 * place + 1] as number) & ~IN_BLOCK) * 8;
  }

  /** True when the place is a block inside a frame, false when it is a frame. */
  inBlock(place: number): boolean {
    return (this.#places[2 * place + 1] as number) >= IN_BLOCK;
  }

  /** The tag of record `index`, which this segment holds. */
  tag(index: number): number {
    const runs = this.#runs;
    let low = 0;
    let high = runs.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((runs[2 * middle] as number) <= index) low = middle + 1;
      else high = middle;
    }
    // NaN before the first record: no number of ours, so whoever asks can tell that a forged link led here.
    return low === 0 ? Number.NaN : (runs[2 * low - 1] as number);
  }

  /** Gives back the memory that growth left over; the segment gets no more records. */
  trim(): void {
    this.#places = this.#places.slice(0, 2 * this.#placeCount);
    this.#runs = this.#runs.slice();
  }

  /** The side file's bytes. */
  encode(binding: IndexBinding): Uint8Array {
    const runs = this.#runs.length / 2;
    const bytes = new Uint8Array(f.INDEX_HEADER_BYTES + 8 * this.#placeCount + f.INDEX_RUN_BYTES * runs);
    const view = viewOf(bytes);
    view.setUint32(f.X_MAGIC, f.INDEX_MAGIC, true);
    view.setUint32(f.X_VERSION, f.FORMAT_VERSION, true);
    view.setUint32(f.X_BLOCKS, this.#placeCount, true);
    view.setUint32(f.X_RUNS, runs, true);
    putU64(view, f.X_BASE, this.#base);
    putBinding(view, binding);
    let at = f.INDEX_HEADER_BYTES;
    for (let i = 0; i < 2 * this.#placeCount; i++, at += 4) view.setUint32(at, this.#places[i] as number, true);
    for (let i = 0; i < this.#runs.length; i += 2, at += f.INDEX_RUN_BYTES) {
      view.setUint32(at, (this.#runs[i] as number) - this.#base, true);
      putU64(view, at + 4, this.#runs[i + 1] as number);
    }
    view.setUint32(f.X_CRC, crc32(bytes.subarray(f.X_MAGIC)), true);
    return bytes;
  }

  /** Reads a side file; undefined when it is damaged, or made for another segment or another end. */
  static decode(bytes: Uint8Array, binding: IndexBinding): SegmentIndex | undefined {
    if (bytes.length < f.INDEX_HEADER_BYTES) return undefined;
    const view = viewOf(bytes);
    const places = view.getUint32(f.X_BLOCKS, true);
    const runs = view.getUint32(f.X_RUNS, true);
    const wanted = new Uint8Array(bytes.subarray(0, f.INDEX_HEADER_BYTES));
    putBinding(viewOf(wanted), binding);
    if (
      view.getUint32(f.X_MAGIC, true) !== f.INDEX_MAGIC ||
      view.getUint32(f.X_VERSION, true) !== f.FORMAT_VERSION ||
      bytes.length !== f.INDEX_HEADER_BYTES + 8 * places + f.INDEX_RUN_BYTES * runs ||
      wanted.some((byte, i) => byte !== bytes[i]) ||
      crc32(bytes.subarray(f.X_MAGIC)) !== view.getUint32(f.X_CRC, true)
    ) {
      return undefined;
    }
    const index = new SegmentIndex();
    index.#base = getU64(view, f.X_BASE);
    index.#placeCount = places;
    index.#places = new Uint32Array(2 * places);
    let at = f.INDEX_HEADER_BYTES;
    for (let i = 0; i < 2 * places; i++, at += 4) index.#places[i] = view.getUint32(at, true);
    for (let i = 0; i < runs; i++, at += f.INDEX_RUN_BYTES) {
      index.#runs.push(index.#base + view.getUint32(at, true), getU64(view, at + 4));
    }
    return index.#isSound(binding.end) ? index : undefined;
  }

  /** Do the tables hold to their invariant? Checksums hold for whoever knows how to make them. */
  #isSound(end: number): boolean {
    if (!Number.isSafeInteger(this.#base)) return false;
    for (let i = 0; i < this.#placeCount; i++) {
      const before = i === 0 ? -1 : this.offsetOf(i - 1);
      if (this.offsetOf(i) <= before || this.offsetOf(i) >= end) return false;
      if (i > 0 && this.firstOf(i) <= this.firstOf(i - 1)) return false;
    }
    const runs = this.#runs;
    for (let i = 0; i < runs.length; i += 2) {
      if (i > 0 && (runs[i] as number) <= (runs[i - 2] as number)) return false;
      if (!Number.isSafeInteger(runs[i + 1])) return false;
    }
    return this.#placeCount === 0 || (runs.length > 0 && runs[0] === this.firstOf(0));
  }
}

function putBinding(view: DataView, { identity, end, sequence, chain }: IndexBinding): void {
  view.setUint32(f.X_CHAIN, chain, true);
  view.setUint32(f.X_LOG_ID, identity.logIdLow, true);
  view.setUint32(f.X_LOG_ID + 4, identity.logIdHigh, true);
  putU64(view, f.X_GENERATION, identity.generation);
  putU64(view, f.X_END, end);
  putU64(view, f.X_SEQUENCE, sequence);
}
