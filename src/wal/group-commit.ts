// GroupCommit: many saves, one write and one sync. It collects the bytes of the saves that arrive together into a Group and
// hands one group after the other to a sink, one at a time. It knows nothing of segments, files or syncs: the sink does.
//
// When a group goes out: in the check phase of the event loop (setImmediate), so that every save of one turn of the loop,
// and every save that answers an I/O event of that turn, shares it; a lone saver waits for no company and no timer. What
// arrives while a group is being written forms the next one. Savers that a group wakes and that save again at once do not wait
// for the check phase, as all of them have been heard when the microtasks are done; after some such groups the event loop has
// its turn.
//
// Promises: groups reach the sink in the order of their saves, and the next one only when the sink is done with the one
// before. A group that fails takes every queued group with it. The saves of a group share one promise.

import type { Slab, SlabPool } from "./slab.js";

/** Bytes that become durable together. */
export class Group {
  slab: Slab;
  /** Frames stand in [start, end) of the slab. */
  start: number;
  end: number;
  /** Saves that joined. */
  saves = 0;
  /** At least one save of the group asks for a sync. */
  mustSync = false;
  /** What must have happened before the group may go out (a snapshot's file is durable). */
  gate: Promise<void> | undefined;
  readonly promise: Promise<void>;
  resolve!: () => void;
  reject!: (error: unknown) => void;

  constructor(slab: Slab, start: number) {
    this.slab = slab;
    this.start = start;
    this.end = start;
    slab.users++;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** Bytes filled in. */
  get used(): number {
    return this.end - this.start;
  }
}

/** Where groups go. */
export interface GroupSink {
  /** A group takes so little time that several may go out before the event loop comes round. */
  readonly quick: boolean;
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

/**
 * So many groups, and bytes, may follow one another within a turn of the event loop, each made of the savers that the one
 * before has woken: a turn costs as much as encoding twenty saves. Whoever waits for I/O waits no longer than that for it.
 */
const GROUPS_A_TURN = 8;
const BYTES_A_TURN = 512 * 1024;

export class GroupCommit {
  readonly #sink: GroupSink;
  readonly #slabs: SlabPool;
  readonly #maxGroupBytes: number;
  // Invariant: #queue[0] is the group under way when #busy, else the next to go; only the last one takes further saves.
  readonly #queue: Group[] = [];
  /** Where the next group begins: at #top of #slab. */
  #slab: Slab | undefined;
  #top = 0;
  #busy = false;
  /** A check phase is asked for. */
  #scheduled = false;
  /** What went out since the event loop last came round. */
  #turnGroups = 0;
  #turnBytes = 0;
  /** A group was committed, and the sink has not been told of a pause since. */
  #flowing = false;
  #pendingBytes = 0;
  readonly #turn = (): void => {
    this.#scheduled = false;
    this.#turnGroups = 0;
    this.#turnBytes = 0;
    this.#go();
  };
  /** Among the microtasks of those who were woken; the tick it asks for runs when there are none left. */
  readonly #woken = (): void => process.nextTick(this.#goOn);
  readonly #goOn = (): void => {
    const group = this.#queue[0];
    if (group !== undefined && group.used > 0) this.#go();
  };

  /** `maxGroupBytes`: a group that has as much takes no further save; a larger single save is a group of its own. */
  constructor(sink: GroupSink, slabs: SlabPool, maxGroupBytes: number) {
    this.#sink = sink;
    this.#slabs = slabs;
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

  /** The group that the next save joins, with room for `bytes` more at its end: write them there, then join(). */
  reserve(bytes: number): Group {
    const last = this.#queue[this.#queue.length - 1];
    const joins =
      last !== undefined &&
      !(this.#busy && this.#queue.length === 1) &&
      (last.used === 0 || last.used + bytes <= this.#maxGroupBytes);
    if (!joins) return this.#begin(bytes);
    if (last.end + bytes > last.slab.bytes.length) this.#move(last, bytes);
    return last;
  }

  /** Seals a save of `bytes` that was written into the group of the last reserve(); resolves with the group. */
  join(group: Group, bytes: number, mustSync: boolean): Promise<void> {
    group.end += bytes;
    this.#top = group.end;
    group.saves++;
    this.#pendingBytes += bytes;
    if (mustSync) group.mustSync = true;
    if (!this.#scheduled && !this.#busy) this.#schedule();
    return group.promise;
  }

  /** Begins a new group that goes out only when `gate` has resolved; a rejected gate rejects it and all behind it. */
  gate(gate: Promise<void>): void {
    const group = this.#begin(0);
    group.gate = gate;
    // The queue hands the failure on; until it gets there the rejection counts as handled.
    gate.catch(() => {});
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
    setImmediate(this.#turn);
  }

  #begin(bytes: number): Group {
    let slab = this.#slab;
    // What nobody reads is written over.
    if (slab?.users === 1 && !slab.lent) this.#top = 0;
    if (slab === undefined || this.#top + bytes > slab.bytes.length) slab = this.#nextSlab(bytes);
    const group = new Group(slab, this.#top);
    this.#queue.push(group);
    return group;
  }

  /** Gives the last group, which takes further saves, room for `bytes` more in another slab. */
  #move(group: Group, bytes: number): void {
    const { slab, start, end, used } = group;
    const next = this.#nextSlab(Math.max(used + bytes, Math.min(2 * used, this.#maxGroupBytes)));
    next.bytes.set(slab.bytes.subarray(start, end));
    group.slab = next;
    group.start = 0;
    group.end = used;
    next.users++;
    this.#slabs.release(slab);
  }

  #nextSlab(bytes: number): Slab {
    if (this.#slab !== undefined) this.#slabs.release(this.#slab);
    this.#slab = this.#slabs.take(bytes);
    this.#top = 0;
    return this.#slab;
  }

  #go(): void {
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
    this.#slabs.release(group.slab);
    group.resolve();
    // Not now: the savers that this wakes then share the group that is already waiting. Those who come along at once are
    // gone with before the event loop goes on, the others in the next check phase; when there are none by then, the flow
    // has paused.
    if (!this.#scheduled) this.#schedule();
    this.#turnBytes += group.used;
    if (++this.#turnGroups < GROUPS_A_TURN && this.#turnBytes < BYTES_A_TURN && this.#sink.quick) {
      queueMicrotask(this.#woken);
    }
  }

  #failed(error: unknown): void {
    this.#flowing = false;
    const rejected = this.#queue.splice(0);
    this.#busy = false;
    this.#pendingBytes = 0;
    const errors = this.#sink.failed(error);
    // Never written to again: the write that failed may still be under way.
    this.#slab = undefined;
    for (const [i, group] of rejected.entries()) {
      // A group of which nobody holds the promise yet (reserved, not joined) must not become an unhandled rejection.
      if (group.saves === 0) group.promise.catch(() => {});
      group.reject(i === 0 ? errors.group : errors.queued);
    }
  }
}
