// ReadOnly: read requests that wait for a quorum to confirm that the leader still leads, as in etcd-raft's read_only.go.
// Held by raft.ts. Requests are told apart by their context, which is the requester's to make unique.

import { assert } from "../base/assert.js";
import type { Message } from "../raftpb/message.js";

/**
 * Safe: a quorum confirms by answering a heartbeat. LeaseBased: the leader trusts its lease, which clocks that drift can
 * break; it needs checkQuorum.
 */
export type ReadOnlyOption = "Safe" | "LeaseBased";

/** A read may be answered once the state machine has applied up to `index`. */
export interface ReadState {
  readonly index: number;
  readonly requestContext: Uint8Array;
}

export interface PendingRead {
  readonly request: Message;
  /** The commit index when the request came. */
  readonly index: number;
  readonly acks: Map<bigint, boolean>;
}

export class ReadOnly {
  readonly option: ReadOnlyOption;
  /** In the order in which they came, by their context. */
  readonly #pending = new Map<string, PendingRead>();
  /** The newest of them; undefined exactly when none waits. Every heartbeat asks for it. */
  #newest: Message | undefined;

  constructor(option: ReadOnlyOption) {
    this.option = option;
  }

  /** Adds a request, unless one of its context waits already. */
  add(index: number, request: Message): void {
    const key = keyOf(contextOf(request));
    if (this.#pending.has(key)) return;
    this.#pending.set(key, { request, index, acks: new Map() });
    this.#newest = request;
  }

  /** Notes that a node has heard of the request; returns who has so far. */
  acknowledge(id: bigint, context: Uint8Array): ReadonlyMap<bigint, boolean> {
    const read = this.#pending.get(keyOf(context));
    if (read === undefined) return new Map();
    return read.acks.set(id, true);
  }

  /** The request of that context is confirmed, and with it all before it: takes them out. */
  advance(context: Uint8Array): PendingRead[] {
    const key = keyOf(context);
    if (!this.#pending.has(key)) return [];
    const confirmed: PendingRead[] = [];
    for (const [each, read] of this.#pending) {
      confirmed.push(read);
      this.#pending.delete(each);
      if (each === key) break;
    }
    if (this.#pending.size === 0) this.#newest = undefined;
    return confirmed;
  }

  /** The context of the newest request; undefined when none waits. */
  lastContext(): Uint8Array | undefined {
    return this.#newest === undefined ? undefined : contextOf(this.#newest);
  }
}

/** What identifies a read request. */
export function contextOf({ entries }: Message): Uint8Array {
  const [entry] = entries;
  assert(entry !== undefined, "a read request without a context");
  return entry.data;
}

function keyOf(context: Uint8Array): string {
  return Buffer.from(context.buffer, context.byteOffset, context.length).toString("latin1");
}
