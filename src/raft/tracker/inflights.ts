// Inflights: the MsgApp messages that a follower has not acknowledged yet, bounded in number and in bytes, as in etcd-raft's
// tracker/inflights.go. Held by progress.ts, for followers in StateReplicate. Its memory grows with what is in flight.

import { assert } from "../../base/assert.js";

export class Inflights {
  readonly #size: number;
  readonly #maxBytes: number;
  /** Last index of each message, and its bytes; a ring from #start on. */
  #indexes: number[] = [];
  #sizes: number[] = [];
  #start = 0;
  #count = 0;
  #bytes = 0;

  /** `maxBytes` 0 is no limit; the message that takes the bytes over it is let through. */
  constructor(size: number, maxBytes: number) {
    this.#size = size;
    this.#maxBytes = maxBytes;
  }

  clone(): Inflights {
    const copy = new Inflights(this.#size, this.#maxBytes);
    copy.#indexes = [...this.#indexes];
    copy.#sizes = [...this.#sizes];
    copy.#start = this.#start;
    copy.#count = this.#count;
    copy.#bytes = this.#bytes;
    return copy;
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count === this.#size || (this.#maxBytes !== 0 && this.#bytes >= this.#maxBytes);
  }

  /** Notes a message whose last entry has `index`; indexes ascend. It must not be full. */
  add(index: number, bytes: number): void {
    assert(!this.full, "a message was sent though those in flight are at their limit");
    if (this.#count === this.#indexes.length) this.#grow();
    const at = (this.#start + this.#count) % this.#indexes.length;
    this.#indexes[at] = index;
    this.#sizes[at] = bytes;
    this.#count++;
    this.#bytes += bytes;
  }

  /** Frees what is acknowledged: every message whose last index is at or below `to`. */
  freeTo(to: number): void {
    while (this.#count > 0 && (this.#indexes[this.#start] as number) <= to) {
      this.#bytes -= this.#sizes[this.#start] as number;
      this.#start = (this.#start + 1) % this.#indexes.length;
      this.#count--;
    }
    if (this.#count === 0) this.#start = 0;
  }

  reset(): void {
    this.#start = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  #grow(): void {
    const length = Math.min(Math.max(8, 2 * this.#indexes.length), this.#size);
    const rotate = (ring: readonly number[]): number[] => {
      const moved = [...ring.slice(this.#start), ...ring.slice(0, this.#start)];
      while (moved.length < length) moved.push(0);
      return moved;
    };
    this.#indexes = rotate(this.#indexes);
    this.#sizes = rotate(this.#sizes);
    this.#start = 0;
  }
}
