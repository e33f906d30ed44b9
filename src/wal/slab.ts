// Slabs: the memory that saves are encoded into, written from, and read back from. A group stands in a slab from its first
// save on, and what the cache keeps of it stays where it is: no byte is copied between the encoder and a reader. group-commit.ts
// fills slabs, record-cache.ts keeps them, log.ts gives both the same pool.
//
// Plain memory, never shared with another thread: readers get views of it.

import { viewOf } from "../base/bytes.js";
import { wordsOf } from "../base/crc32.js";

/** What slabs are made of from the second on; the first is small, for a log that is opened and written little. */
const SLAB_BYTES = 1024 * 1024;
const FIRST_SLAB_BYTES = 64 * 1024;
/** A larger one goes back to the system, so that one huge save does not stay for ever. */
const LARGEST_KEPT_BYTES = 16 * 1024 * 1024;
const MAX_KEPT = 2;

export class Slab {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly words: Int32Array | undefined;
  /** Groups and cached runs that stand here, and the writer while it writes here. */
  users = 0;
  /** A reader has been given views of it: its bytes stay as they are for as long as anybody looks. */
  lent = false;

  constructor(bytes: number) {
    // Not zeroed: whoever reads has written before. Slow: node's own pool is shared with strangers.
    this.bytes = new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
    this.view = viewOf(this.bytes);
    this.words = wordsOf(this.bytes);
  }
}

export class SlabPool {
  readonly #usualBytes: number;
  #nextBytes = FIRST_SLAB_BYTES;
  readonly #free: Slab[] = [];

  /** `keptBytes`: what is kept of slabs; they are no larger than that without need. */
  constructor(keptBytes: number) {
    this.#usualBytes = Math.max(FIRST_SLAB_BYTES, Math.min(SLAB_BYTES, keptBytes));
  }

  /** A slab of at least `bytes`, with one user. */
  take(bytes: number): Slab {
    const kept = this.#free.findIndex((slab) => slab.bytes.length >= bytes);
    const [found] = kept < 0 ? [] : this.#free.splice(kept, 1);
    const slab = found ?? new Slab(this.#sizeFor(bytes));
    slab.users = 1;
    return slab;
  }

  /** One user less; memory without users, of which no reader was ever given a view, is used again. */
  release(slab: Slab): void {
    slab.users--;
    if (slab.users > 0 || slab.lent || slab.bytes.length > LARGEST_KEPT_BYTES) return;
    if (this.#free.length === MAX_KEPT) this.#free.shift();
    this.#free.push(slab);
  }

  #sizeFor(bytes: number): number {
    const usual = this.#nextBytes;
    this.#nextBytes = Math.min(4 * usual, this.#usualBytes);
    return Math.max(usual, Math.ceil(bytes / FIRST_SLAB_BYTES) * FIRST_SLAB_BYTES);
  }
}
