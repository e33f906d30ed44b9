// Latencies: a histogram that is cheap enough to see every save of a log that makes hundreds of thousands a second. Node's
// own recordable histogram costs more than the save that it would time. Used by every workload.

import type { Latency } from "./result.js";

/** Buckets grow by 2^(1/32), so a quantile is within 1.1 % of the true one, from 0.1 us up to a minute. */
const PER_OCTAVE = 32;
const LOWEST_US = 0.1;
const BUCKETS = 30 * PER_OCTAVE;

export class Latencies {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;
  #max = 0;

  record(ms: number): void {
    const us = ms * 1000;
    const bucket = us <= LOWEST_US ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log2(us / LOWEST_US) * PER_OCTAVE));
    this.#buckets[bucket] = (this.#buckets[bucket] as number) + 1;
    this.#count++;
    if (us > this.#max) this.#max = us;
  }

  get count(): number {
    return this.#count;
  }

  clear(): void {
    this.#buckets.fill(0);
    this.#count = 0;
    this.#max = 0;
  }

  /** Microseconds that a share `q` (0 to 1) stayed within: the middle of its bucket. */
  quantile(q: number): number {
    let left = Math.max(1, Math.ceil(this.#count * q));
    let bucket = -1;
    while (left > 0 && bucket + 1 < BUCKETS) left -= this.#buckets[++bucket] as number;
    return Math.min(this.#max, LOWEST_US * 2 ** ((bucket + 0.5) / PER_OCTAVE));
  }

  /** Undefined when nothing was recorded. */
  summary(): Latency | undefined {
    if (this.#count === 0) return undefined;
    return { p50: this.quantile(0.5), p99: this.quantile(0.99), p999: this.quantile(0.999), max: this.#max };
  }
}
