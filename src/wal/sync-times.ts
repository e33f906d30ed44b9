// How long syncs take: a histogram with fixed buckets for stats(), and the slow-disk test of the `auto` engine.

/** Buckets grow by 2^(1/8), from 1 us on, and answer with their middle: within 5 % of the true quantile up to days. */
const PER_OCTAVE = 8;
const BUCKETS = 40 * PER_OCTAVE;

/** From this on a blocking sync keeps the event loop from its other work for too long. */
export const SLOW_SYNC_MS = 2;
/**
 * The same of the syncs of open(): they are of files just made, whose names and sizes the file system commits with them, and take
 * several times what a sync of the log does. Going by less would send a lone saver of a fast disk to the worker.
 */
export const SLOW_OPEN_SYNC_MS = 4 * SLOW_SYNC_MS;
/** Up to this, several in a row are no longer than one slow sync is. */
const QUICK_SYNC_MS = SLOW_SYNC_MS / 8;
/** A single slow sync is noise; a disk is slow when slow syncs outnumber fast ones by this many. */
const SLOW_SYNCS = 8;
/**
 * After so many in a row that take at most half of what a slow one does, hop to the thread and back included, syncs are no
 * longer slow: many more than it takes to call them slow, so that a disk in between stays where it is.
 */
const STEADY_SYNCS = 256;

export class SyncTimes {
  /** Made with the first time that is noted: most logs that are opened to be read never sync. */
  #buckets = new Uint32Array(0);
  #count = 0;
  #slow = 0;
  #tardy = 0;
  #steady = 0;

  note(ms: number): void {
    if (this.#count === 0) this.#buckets = new Uint32Array(BUCKETS);
    const us = ms * 1000;
    const bucket = us <= 1 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log2(us) * PER_OCTAVE));
    this.#buckets[bucket] = (this.#buckets[bucket] as number) + 1;
    this.#count++;
    this.#slow = ms > SLOW_SYNC_MS ? this.#slow + 1 : Math.max(0, this.#slow - 1);
    this.#steady = ms > SLOW_SYNC_MS / 2 ? 0 : this.#steady + 1;
    this.#tardy = ms > QUICK_SYNC_MS ? Math.min(SLOW_SYNCS, this.#tardy + 1) : Math.max(0, this.#tardy - 1);
  }

  /** True once syncs have been slow for a while. */
  get slow(): boolean {
    return this.#slow >= SLOW_SYNCS;
  }

  /** True once none has been slow for long. */
  get steady(): boolean {
    return this.#steady >= STEADY_SYNCS;
  }

  /** Forgets what slow and steady are judged by: another engine syncs from here on. */
  startOver(): void {
    this.#slow = 0;
    this.#steady = 0;
  }

  /** True while most syncs take a fraction of what a slow one does. */
  get quick(): boolean {
    return this.#tardy < SLOW_SYNCS;
  }

  /** The time in ms that a share `q` (0 to 1) of the syncs stayed within; 0 before the first. */
  quantile(q: number): number {
    if (this.#count === 0) return 0;
    let left = Math.max(1, Math.ceil(this.#count * q));
    let bucket = -1;
    while (left > 0 && bucket + 1 < BUCKETS) left -= this.#buckets[++bucket] as number;
    return 2 ** ((bucket + 0.5) / PER_OCTAVE) / 1000;
  }
}
