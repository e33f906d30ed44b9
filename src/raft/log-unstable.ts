// Unstable: entries and a snapshot that are not known to be durable yet, as in etcd-raft's log_unstable.go. Held by log.ts.
//
// entries[i] has index offset + i. offset may be at or below the last index that Storage holds: what is here then replaces
// what is there. Entries below offsetInProgress have been handed out to be written, the others have not.

import { assert } from "../base/assert.js";
import type { Entry, Snapshot } from "../raftpb/types.js";
import type { Logger } from "./logger.js";

/** An entry's place in the history of terms; two logs that agree on one agree on all before it. */
export interface EntryId {
  readonly term: number;
  readonly index: number;
}

export class Unstable {
  /** A snapshot that was received and is not durable yet. */
  snapshot: Snapshot | undefined;
  entries: Entry[] = [];
  offset: number;
  /** `snapshot` has been handed out to be written. */
  snapshotInProgress = false;
  // Invariant: offset <= offsetInProgress <= offset + entries.length.
  offsetInProgress: number;
  readonly #logger: Logger;

  constructor(offset: number, logger: Logger) {
    this.offset = offset;
    this.offsetInProgress = offset;
    this.#logger = logger;
  }

  /** The first index of the log, when the snapshot decides it. */
  maybeFirstIndex(): number | undefined {
    return this.snapshot === undefined ? undefined : this.snapshot.metadata.index + 1;
  }

  /** The last index of the log, when it is decided here. */
  maybeLastIndex(): number | undefined {
    if (this.entries.length > 0) return this.offset + this.entries.length - 1;
    return this.snapshot?.metadata.index;
  }

  /** The term at `index`, when it is known here. */
  maybeTerm(index: number): number | undefined {
    if (index < this.offset) {
      return this.snapshot?.metadata.index === index ? this.snapshot.metadata.term : undefined;
    }
    return this.entries[index - this.offset]?.term;
  }

  /** What has not been handed out: an array of its own, to which nothing is added later. */
  nextEntries(): Entry[] {
    return this.entries.slice(this.offsetInProgress - this.offset);
  }

  get hasNextEntries(): boolean {
    return this.offset + this.entries.length > this.offsetInProgress;
  }

  /** The snapshot, unless it has been handed out. */
  nextSnapshot(): Snapshot | undefined {
    return this.snapshotInProgress ? undefined : this.snapshot;
  }

  /** All there is has been handed out. */
  acceptInProgress(): void {
    this.offsetInProgress = this.offset + this.entries.length;
    if (this.snapshot !== undefined) this.snapshotInProgress = true;
  }

  /**
   * Entries up to this one are durable, and Storage has them. Nothing happens when another entry stands there by now: what
   * was written has been replaced, and the replacement is not durable yet.
   */
  stableTo({ term, index }: EntryId): void {
    const known = this.maybeTerm(index);
    if (known === undefined) {
      this.#logger.info(`stable entry ${index} is no longer unstable; ignored`);
      return;
    }
    if (index < this.offset) {
      this.#logger.info(`stable entry ${index} is the unstable snapshot's; ignored`);
      return;
    }
    if (known !== term) {
      this.#logger.info(`stable entry ${index} of term ${term} was replaced by one of term ${known}; ignored`);
      return;
    }
    this.entries = this.entries.slice(index + 1 - this.offset);
    this.offset = index + 1;
    this.offsetInProgress = Math.max(this.offsetInProgress, this.offset);
  }

  /** The snapshot of that index is durable, and Storage has it. */
  stableSnapTo(index: number): void {
    if (this.snapshot?.metadata.index !== index) return;
    this.snapshot = undefined;
    this.snapshotInProgress = false;
  }

  /** A snapshot takes the place of everything. */
  restore(snapshot: Snapshot): void {
    this.offset = snapshot.metadata.index + 1;
    this.offsetInProgress = this.offset;
    this.entries = [];
    this.snapshot = snapshot;
    this.snapshotInProgress = false;
  }

  /** Adds entries behind what is here, in place of what is here from their first index on, or in place of all of it. */
  truncateAndAppend(entries: readonly Entry[]): void {
    const from = (entries[0] as Entry).index;
    if (from === this.offset + this.entries.length) {
      // One by one: a spread of very many would not fit the stack.
      for (const entry of entries) this.entries.push(entry);
    } else if (from <= this.offset) {
      this.#logger.info(`unstable entries replaced from ${from} on`);
      this.entries = [...entries];
      this.offset = from;
      this.offsetInProgress = from;
    } else {
      this.#logger.info(`unstable entries cut before ${from}`);
      this.entries = [...this.slice(this.offset, from), ...entries];
      // Only what was handed out and stays is still being written.
      this.offsetInProgress = Math.min(this.offsetInProgress, from);
    }
  }

  /** The entries of [lo, hi), all of which are here. */
  slice(lo: number, hi: number): Entry[] {
    assert(lo <= hi && lo >= this.offset && hi <= this.offset + this.entries.length, `unstable [${lo}, ${hi})`);
    return this.entries.slice(lo - this.offset, hi - this.offset);
  }
}
