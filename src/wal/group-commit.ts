// GroupCommit: many saves, one write and one sync. It collects the bytes of the saves that arrive together into a Group and
// hands one group after the other to a sink, one at a time. It knows nothing of segments, files or syncs: the sink does.
//
// When a group goes out: in the check phase of the event loop (setImmediate), so that every save of one turn of the loop,
// and every save that answers an I/O event of that turn, shares it; a lone saver waits for no company and no timer. What
// arrives while a group is being written forms the next one.
//
// Promises: groups reach the sink in the order of their saves, and the next one only when the sink is done with the one
// before. A group that fails takes every queued group with it. The saves of a group share one promise.

import { viewOf } from "../base/bytes.js";

/** Bytes that become durable together. */
export class Group {
  bytes: Uint8Array;
  view: DataView;
  /** Bytes filled in; frames stand in [0, used). */
  used = 0;
  /** Saves that joined. */
  saves = 0;
  /** At least one save of the group asks for a sync. */
  mustSync = false;
  /** What must have happened before the group may go out (a snapshot's file is durable). */
  gate: Promise<void> | undefined;
  readonly promise: Promise<void>;
  resolve!: () => void;
  reject!: (error: unknown) => void;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** Where groups go. */
export interface GroupSink {
  /** Memory for a group. */
  allocate(bytes: number): Uint8Array;
  /**
   * Makes the group durable and its effects readable: undefined when that has happened on return, else a promise of it.
   * Throws or rejects when the group and everything behind it must be rejected.
   */
  commit(group: Group): Promise<void> | undefined;
  /**
   * Called once after the last commit() when nothing follows it at once: what the next group would have done besides is due
   * now. Not called after a failure.
   */
  pause(): void;
  /**
   * Called once when a group failed, before any promise is rejected. Returns the error for each save of the failed group,
   * and the one for saves queued behind it.
   */
  failed(error: unknown): { group: unknown; queued: unknown };
}

const SMALLEST_BUFFER_BYTES = 64 * 1024;
/** A buffer that one huge save made is let go, so that it does not stay for ever. */
const LARGEST_KEPT_BYTES = 16 * 1024 * 1024;

export class GroupCommit {
  readonly #sink: GroupSink;
  readonly #maxGroupBytes: number;
  // Invariant: #queue[0] is the group under way when #busy, else the next to go; only the last one takes further saves.
  readonly #queue: Group[] = [];
  #busy = false;
  #scheduled = false;
  /** A group was committed, and the sink has not been told of a pause since. */
  #flowing = false;
  #pendingBytes = 0;
  readonly #free: Uint8Array[] = [];
  readonly #flush = (): void => this.#go();

  /** `maxGroupBytes`: a group that has as much takes no further save; a larger single save is a group of its own. */
  constructor(sink: GroupSink, maxGroupBytes: number) {
    this.#sink = sink;
    this.#maxGroupBytes = maxGroupBytes;
  }

  /** Bytes queued or under way. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** The groups queued or under way, oldest first. Not to be kept. */
  get queued(): readonly Group[] {
    return this.#queue;
  }

  /** The group that the next save joins, with room for `bytes` more: write them at `used`, then join(). */
  reserve(bytes: number): Group {
    const last = this.#queue[this.#queue.length - 1];
    let group: Group;
    if (
      last !== undefined &&
      !(this.#busy && this.#queue.length === 1) &&
      (last.used === 0 || last.used + bytes <= this.#maxGroupBytes)
    ) {
      group = last;
    } else {
      group = new Group(this.#buffer(bytes));
      this.#queue.push(group);
    }
    if (group.used + bytes > group.bytes.length) {
      const grown = this.#buffer(Math.max(group.used + bytes, 2 * group.bytes.length));
      grown.set(group.bytes.subarray(0, group.used));
      this.#recycle(group.bytes);
      group.bytes = grown;
      group.view = viewOf(grown);
    }
    return group;
  }

  /** Seals a save of `bytes` that was written into the group of the last reserve(); resolves with the group. */
  join(group: Group, bytes: number, mustSync: boolean): Promise<void> {
    group.used += bytes;
    group.saves++;
    this.#pendingBytes += bytes;
    if (mustSync) group.mustSync = true;
    if (!this.#scheduled && !this.#busy) this.#schedule();
    return group.promise;
  }

  /** Begins a new group that goes out only when `gate` has resolved; a rejected gate rejects it and all behind it. */
  gate(gate: Promise<void>): void {
    const group = new Group(this.#buffer(SMALLEST_BUFFER_BYTES));
    group.gate = gate;
    // The queue hands the failure on; until it gets there the rejection counts as handled.
    gate.catch(() => {});
    this.#queue.push(group);
  }

  /** Resolves when every save that joined so far is durable; rejects when one of them is rejected. */
  settled(): Promise<void> {
    const last = this.#queue[this.#queue.length - 1];
    if (last === undefined) return Promise.resolve();
    // A group that nobody has joined has not been scheduled; whoever waits for it must not wait for a save to come.
    if (!this.#scheduled && !this.#busy) this.#schedule();
    return last.promise;
  }

  #schedule(): void {
    this.#scheduled = true;
    setImmediate(this.#flush);
  }

  #go(): void {
    this.#scheduled = false;
    const group = this.#queue[0];
    if (this.#busy) return;
    if (group === undefined || group.used === 0 || group.gate !== undefined) this.#pause();
    if (group === undefined) return;
    this.#busy = true;
    if (group.gate !== undefined) {
      group.gate.then(
        () => this.#commit(group),
        (error: unknown) => this.#failed(error),
      );
      group.gate = undefined;
      return;
    }
    this.#commit(group);
  }

  #pause(): void {
    if (!this.#flowing) return;
    this.#flowing = false;
    this.#sink.pause();
  }

  #commit(group: Group): void {
    this.#flowing = true;
    let pending: Promise<void> | undefined;
    try {
      pending = this.#sink.commit(group);
    } catch (error) {
      this.#failed(error);
      return;
    }
    if (pending === undefined) {
      this.#done(group);
    } else {
      pending.then(
        () => this.#done(group),
        (error: unknown) => this.#failed(error),
      );
    }
  }

  #done(group: Group): void {
    this.#queue.shift();
    this.#busy = false;
    this.#pendingBytes -= group.used;
    this.#recycle(group.bytes);
    group.resolve();
    // In the next check phase, not now: the savers that this wakes then share the group that is already waiting. When there
    // is none by then, the flow has paused.
    if (!this.#scheduled) this.#schedule();
  }

  #failed(error: unknown): void {
    this.#flowing = false;
    const rejected = this.#queue.splice(0);
    this.#busy = false;
    this.#pendingBytes = 0;
    const errors = this.#sink.failed(error);
    for (const [i, group] of rejected.entries()) {
      // A group of which nobody holds the promise yet (reserved, not joined) must not become an unhandled rejection.
      if (group.saves === 0) group.promise.catch(() => {});
      group.reject(i === 0 ? errors.group : errors.queued);
    }
  }

  #buffer(bytes: number): Uint8Array {
    const kept = this.#free.pop();
    if (kept !== undefined && kept.length >= bytes) return kept;
    let size = SMALLEST_BUFFER_BYTES;
    while (size < bytes) size *= 2;
    return this.#sink.allocate(size);
  }

  #recycle(bytes: Uint8Array): void {
    if (bytes.length <= LARGEST_KEPT_BYTES && this.#free.length < 2) this.#free.push(bytes);
  }
}
