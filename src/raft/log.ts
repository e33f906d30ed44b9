// RaftLog: the log as raft sees it, Storage below and Unstable on top, with how far it is committed, being applied and
// applied; as in etcd-raft's log.go. Held by raft.ts.
//
// Invariant: applied <= applying <= committed <= lastIndex().

import { AssertionError, assert } from "../base/assert.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Entry, entrySize, type Snapshot } from "../raftpb/types.js";
import { type EntryId, Unstable } from "./log-unstable.js";
import type { Logger } from "./logger.js";
import type { Storage } from "./storage.js";

/** No limit of bytes. */
export const NO_LIMIT = Number.POSITIVE_INFINITY;

/** Protobuf bytes of entries, as limits count them. */
export function entriesSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const entry of entries) size += entrySize(entry);
  return size;
}

/** Bytes of the entries' data alone. */
export function payloadsSize(entries: readonly Entry[]): number {
  let size = 0;
  for (const { data } of entries) size += data.length;
  return size;
}

/** As many of the entries as fit, at least one. */
export function limitSize(entries: Entry[], maxSize: number): Entry[] {
  if (maxSize === NO_LIMIT) return entries;
  let size = 0;
  for (const [i, entry] of entries.entries()) {
    size += entrySize(entry);
    if (size > maxSize && i > 0) return entries.slice(0, i);
  }
  return entries;
}

export class RaftLog {
  readonly storage: Storage;
  readonly unstable: Unstable;
  committed: number;
  /** Handed out to be applied up to here. */
  applying: number;
  applied: number;
  /** At most about so many bytes are handed out and not yet applied. */
  readonly maxApplyingSize: number;
  #applyingSize = 0;
  /** Nothing more is handed out until some of it has been applied. */
  #applyingPaused = false;
  readonly #logger: Logger;

  constructor(storage: Storage, logger: Logger, maxApplyingSize = NO_LIMIT) {
    this.storage = storage;
    this.#logger = logger;
    this.maxApplyingSize = maxApplyingSize;
    this.unstable = new Unstable(storage.lastIndex() + 1, logger);
    this.committed = storage.firstIndex() - 1;
    this.applying = this.committed;
    this.applied = this.committed;
  }

  toString(): string {
    const { offset, offsetInProgress, entries } = this.unstable;
    return `committed=${this.committed}, applied=${this.applied}, applying=${this.applying}, unstable.offset=${offset}, unstable.offsetInProgress=${offsetInProgress}, len(unstable.Entries)=${entries.length}`;
  }

  /**
   * Appends entries that follow `prev`, and commits what the sender knows to be; undefined when `prev` is not in the log, else
   * the last index of what was sent. What conflicts is replaced.
   */
  maybeAppend(prev: EntryId, entries: readonly Entry[], committed: number): number | undefined {
    if (!this.matchTerm(prev)) return undefined;
    const last = prev.index + entries.length;
    const conflict = this.findConflict(entries);
    if (conflict > 0) {
      assert(conflict > this.committed, `entry ${conflict} conflicts with a committed one, of up to ${this.committed}`);
      this.append(entries.slice(conflict - prev.index - 1));
    }
    this.commitTo(Math.min(committed, last));
    return last;
  }

  /** Appends entries, in place of what stands from the first one's index on. Returns the last index. */
  append(entries: readonly Entry[]): number {
    const [first] = entries;
    if (first === undefined) return this.lastIndex();
    assert(first.index > this.committed, `append at ${first.index}: committed up to ${this.committed}`);
    this.unstable.truncateAndAppend(entries);
    return this.lastIndex();
  }

  /** The index of the first entry that is new or stands in conflict with one of the same index; 0 when all are there. */
  findConflict(entries: readonly Entry[]): number {
    for (const { index, term } of entries) {
      if (this.matchTerm({ index, term })) continue;
      if (index <= this.lastIndex()) this.#logger.info(`entry ${index} of another term is replaced by one of ${term}`);
      return index;
    }
    return 0;
  }

  /**
   * The largest index at or below `index` whose term is at most `term`, with that term: beyond it a log that has `term` at
   * `index` cannot agree with this one. The term is 0 where it is not known any more.
   */
  findConflictByTerm(index: number, term: number): EntryId {
    for (let at = index; at > 0; at--) {
      const ours = this.maybeTerm(at);
      if (ours === undefined) return { index: at, term: 0 };
      if (ours <= term) return { index: at, term: ours };
    }
    return { index: 0, term: 0 };
  }

  nextUnstableEntries(): Entry[] {
    return this.unstable.nextEntries();
  }

  get hasNextOrInProgressUnstableEntries(): boolean {
    return this.unstable.entries.length > 0;
  }

  /**
   * What may be applied next, within the limit of bytes. `allowUnstable`: entries count that are not known to be durable here,
   * which is fine where they become so before anything is applied.
   */
  nextCommittedEntries(allowUnstable: boolean): Entry[] {
    if (!this.hasNextCommittedEntries(allowUnstable)) return [];
    const room = this.maxApplyingSize - this.#applyingSize;
    assert(room > 0, "applying is not paused though its bytes are at their limit");
    return this.slice(this.applying + 1, this.#maxAppliable(allowUnstable) + 1, room);
  }

  hasNextCommittedEntries(allowUnstable: boolean): boolean {
    // A snapshot that is not durable yet comes before anything that follows it.
    if (this.#applyingPaused || this.unstable.snapshot !== undefined) return false;
    return this.applying < this.#maxAppliable(allowUnstable);
  }

  #maxAppliable(allowUnstable: boolean): number {
    return allowUnstable ? this.committed : Math.min(this.committed, this.unstable.offset - 1);
  }

  get hasNextOrInProgressSnapshot(): boolean {
    return this.unstable.snapshot !== undefined;
  }

  /** @throws ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE, and what Storage throws. */
  snapshot(): Snapshot {
    return this.unstable.snapshot ?? this.storage.snapshot();
  }

  firstIndex(): number {
    return this.unstable.maybeFirstIndex() ?? this.storage.firstIndex();
  }

  lastIndex(): number {
    return this.unstable.maybeLastIndex() ?? this.storage.lastIndex();
  }

  commitTo(index: number): void {
    if (index <= this.committed) return;
    const last = this.lastIndex();
    assert(index <= last, `commit ${index}: the log ends at ${last}; was it corrupted, truncated or lost?`);
    this.committed = index;
  }

  /** Commits up to an entry, when it is the one that the log holds there. Says whether that is news. */
  maybeCommit(at: EntryId): boolean {
    // Only entries of the leader's own term commit by counting (raft, 5.4.2); term 0 is none.
    if (at.term === 0 || at.index <= this.committed || !this.matchTerm(at)) return false;
    this.commitTo(at.index);
    return true;
  }

  appliedTo(index: number, size: number): void {
    assert(index <= this.committed && index >= this.applied, `applied ${index}: ${this}`);
    this.applied = index;
    this.applying = Math.max(this.applying, index);
    this.#applyingSize = Math.max(0, this.#applyingSize - size);
    this.#applyingPaused = this.#applyingSize >= this.maxApplyingSize;
  }

  /** Entries up to `index`, of `size` bytes, have been handed out to be applied. */
  acceptApplying(index: number, size: number, allowUnstable: boolean): void {
    assert(index <= this.committed, `applying ${index}: ${this}`);
    this.applying = index;
    this.#applyingSize += size;
    // Paused at the limit, and where the next entry would have gone beyond it.
    this.#applyingPaused = this.#applyingSize >= this.maxApplyingSize || index < this.#maxAppliable(allowUnstable);
  }

  lastEntryId(): EntryId {
    const index = this.lastIndex();
    return { index, term: this.term(index) };
  }

  /** @throws ERR_COMPACTED below the entry before firstIndex(), ERR_UNAVAILABLE beyond lastIndex(). */
  term(index: number): number {
    const term = this.unstable.maybeTerm(index);
    if (term !== undefined) return term;
    if (index + 1 < this.firstIndex()) {
      throw new StableLogError("ERR_COMPACTED", `term of ${index}: the log starts at ${this.firstIndex()}`);
    }
    if (index > this.lastIndex()) {
      throw new StableLogError("ERR_UNAVAILABLE", `term of ${index}: the log ends at ${this.lastIndex()}`);
    }
    return this.storage.term(index);
  }

  /** term(), undefined where it is not known. */
  maybeTerm(index: number): number | undefined {
    const term = this.unstable.maybeTerm(index);
    if (term !== undefined) return term;
    if (index + 1 < this.firstIndex() || index > this.lastIndex()) return undefined;
    try {
      return this.storage.term(index);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Everything from `index` on, as much as fits `maxSize`. @throws ERR_COMPACTED */
  entries(index: number, maxSize = NO_LIMIT): Entry[] {
    return index > this.lastIndex() ? [] : this.slice(index, this.lastIndex() + 1, maxSize);
  }

  /** Is a log that ends so at least as up to date as this one (raft, 5.4.1)? */
  isUpToDate({ term, index }: EntryId): boolean {
    const ours = this.lastEntryId();
    return term > ours.term || (term === ours.term && index >= ours.index);
  }

  matchTerm({ term, index }: EntryId): boolean {
    return this.maybeTerm(index) === term;
  }

  restore(snapshot: Snapshot): void {
    this.committed = snapshot.metadata.index;
    this.unstable.restore(snapshot);
  }

  /** Visits [lo, hi) page by page, each as large as fits `pageSize`; `visit` ends it with false. */
  scan(lo: number, hi: number, pageSize: number, visit: (entries: readonly Entry[]) => boolean): void {
    for (let at = lo; at < hi; ) {
      const page = this.slice(at, hi, pageSize);
      assert(page.length > 0, `no entries in [${at}, ${hi})`);
      if (!visit(page)) return;
      at += page.length;
    }
  }

  /** The entries of [lo, hi), as many as fit `maxSize`, at least one. @throws ERR_COMPACTED */
  slice(lo: number, hi: number, maxSize = NO_LIMIT): Entry[] {
    assert(lo <= hi && hi <= this.lastIndex() + 1, `slice [${lo}, ${hi}) of a log that ends at ${this.lastIndex()}`);
    if (lo < this.firstIndex()) {
      throw new StableLogError("ERR_COMPACTED", `entries from ${lo}: the log starts at ${this.firstIndex()}`);
    }
    if (lo === hi) return [];
    const { offset } = this.unstable;
    if (lo >= offset) return limitSize(this.unstable.slice(lo, hi), maxSize);
    const cut = Math.min(hi, offset);
    const stable = this.#stable(lo, cut, maxSize);
    if (hi <= offset || stable.length < cut - lo) return stable;
    const size = maxSize === NO_LIMIT ? 0 : entriesSize(stable);
    if (size >= maxSize) return stable;
    const more = limitSize(this.unstable.slice(offset, hi), maxSize - size);
    // The one that limitSize() always gives may be one too many.
    if (more.length === 1 && size + entriesSize(more) > maxSize) return stable;
    return [...stable, ...more];
  }

  #stable(lo: number, hi: number, maxSize: number): Entry[] {
    try {
      return this.storage.entries(lo, hi, maxSize === NO_LIMIT ? undefined : maxSize);
    } catch (error) {
      if (errnoOf(error) !== "ERR_UNAVAILABLE") throw error;
      throw new AssertionError(`Storage lacks entries of [${lo}, ${hi}) that it said were there`);
    }
  }
}

/** What Storage throws for an index that it does not have. */
function isMissing(error: unknown): boolean {
  const code = errnoOf(error);
  return code === "ERR_COMPACTED" || code === "ERR_UNAVAILABLE";
}
