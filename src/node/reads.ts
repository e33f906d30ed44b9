// Reads: who waits to know from which index on a read is linearizable, as in etcd's linearizableReadLoop. Held by node.ts. One
// request to raft carries all who asked before it was made; who asks while it is under way rides on the next.

import { equalBytes, putU64, viewOf } from "../base/bytes.js";
import { randomFill } from "../base/random.js";
import type { ReadState } from "../raft/read-only.js";
import type { Waiting } from "./waiting.js";

/** Who asks; resolved with the index. */
type Reader = Pick<Waiting<number>, "cancelled" | "resolve" | "reject">;

const LEAST_PRUNED = 256;

export class Reads {
  #waiting: Reader[] = [];
  #asking: Reader[] = [];
  /** Of the request under way; what answers another is late. 8 random bytes of this node's, and a number. */
  readonly #context = randomFill(new Uint8Array(16));
  #number = 0;
  #ticks = 0;
  #pruneAt = LEAST_PRUNED;
  readonly #retryTicks: number;

  /** A request that has had no answer for so many ticks is made anew: raft drops it where no leader is known. */
  constructor(retryTicks: number) {
    this.#retryTicks = Math.max(1, retryTicks);
  }

  /** Who waits for a request to be made, those who gave up lately included. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether a request is to be made. */
  get due(): boolean {
    return this.#asking.length === 0 && this.#waiting.length > 0;
  }

  add(reader: Reader): void {
    this.#waiting.push(reader);
    // Those who gave up go when they are half of what waits, at most: a node without a leader does not fill up with them.
    if (this.#waiting.length < this.#pruneAt) return;
    this.#waiting = this.#waiting.filter(({ cancelled }) => !cancelled);
    this.#pruneAt = Math.max(LEAST_PRUNED, 2 * this.#waiting.length);
  }

  /** Begins a request; returns its context. */
  begin(): Uint8Array {
    this.#asking = this.#waiting;
    this.#waiting = [];
    this.#ticks = 0;
    putU64(viewOf(this.#context), 8, ++this.#number);
    return this.#context.slice();
  }

  tick(): void {
    if (this.#asking.length === 0 || ++this.#ticks < this.#retryTicks) return;
    // The answer to the old request, should it come, is not heeded: its index holds for those who asked before it alone, and
    // they get a later one.
    this.#waiting = [...this.#asking, ...this.#waiting].filter(({ cancelled }) => !cancelled);
    this.#asking = [];
  }

  /** Takes the answers that are ours out of a Ready's. */
  answer(states: readonly ReadState[]): void {
    for (const { index, requestContext } of states) {
      if (this.#asking.length === 0 || !equalBytes(requestContext, this.#context)) continue;
      const readers = this.#asking;
      this.#asking = [];
      for (const reader of readers) if (!reader.cancelled) reader.resolve(index);
    }
  }

  fail(error: unknown): void {
    const readers = [...this.#asking, ...this.#waiting];
    this.#asking = [];
    this.#waiting = [];
    for (const reader of readers) if (!reader.cancelled) reader.reject(error);
  }
}
