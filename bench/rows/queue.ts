// The same peers behind a small queue, which is what a careful user would write before taking to a log of its own: while a
// commit is under way, saves wait; then all that wait go as one. lmdb needs none, for it batches by itself.

import type { Batch, BenchLog, Row } from "../row.js";
import type { Peer, PeerLog } from "./peer.js";

/** What goes in one commit. Its saves share a promise. */
interface Group {
  readonly batches: Batch[];
  readonly saved: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

function newGroup(first: Batch): Group {
  let resolve = (): void => {};
  let reject = (_error: unknown): void => {};
  const saved = new Promise<void>((onSaved, onError) => {
    resolve = onSaved;
    reject = onError;
  });
  return { batches: [first], saved, resolve, reject };
}

class Queue implements BenchLog {
  readonly #peer: PeerLog;
  #waiting: Group | undefined;
  #committing = false;
  /** Settled when nothing waits and nothing is under way. */
  #idle: Promise<void> = Promise.resolve();
  /** Where a failed commit ended, nobody knows; nothing goes behind it. */
  #failure: { readonly error: unknown } | undefined;
  readonly counters?: NonNullable<BenchLog["counters"]>;

  constructor(peer: PeerLog) {
    this.#peer = peer;
    if (peer.counters !== undefined) this.counters = peer.counters;
  }

  save(batch: Batch): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#waiting !== undefined) {
      this.#waiting.batches.push(batch);
      return this.#waiting.saved;
    }
    this.#waiting = newGroup(batch);
    const { saved } = this.#waiting;
    if (!this.#committing) {
      this.#committing = true;
      this.#idle = this.#commitAll();
    }
    return saved;
  }

  async #commitAll(): Promise<void> {
    while (this.#waiting !== undefined) {
      // Savers that the last commit has woken save again within this turn of the event loop, and so do the sockets that are
      // ready: without waiting for its end, groups of one and of all the others would alternate.
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      const group = this.#waiting;
      this.#waiting = undefined;
      try {
        if (this.#failure !== undefined) throw this.#failure.error;
        const pending = this.#peer.commit(group.batches);
        if (pending !== undefined) await pending;
        group.resolve();
      } catch (error) {
        this.#failure = { error };
        group.reject(error);
      }
    }
    this.#committing = false;
  }

  async close(): Promise<void> {
    await this.#idle;
    await this.#peer.close();
  }
}

/** The peer behind the queue: a commit for all that waits. */
export function queued(peer: Peer): Row {
  return {
    name: `${peer.name} + queue`,
    syncs: `${peer.syncs} for all saves that wait`,
    open: async (dir, options) => new Queue(await peer.open(dir, options)),
  };
}
