// Proposals: what waits at a node for raft's verdict, in order, as etcd's node.stepWait has it. Held by node.ts; nothing goes to
// raft while no leader is known, because it would be dropped there.

import { StableLogError } from "../base/errors.js";
import { type Message, MessageType, newMessage } from "../raftpb/message.js";
import { type Entry, EntryType } from "../raftpb/types.js";

/** One proposal and who waits for it. One of the two is called, once. */
export interface Proposal {
  readonly type: EntryType;
  readonly data: Uint8Array;
  /** Cancelled by its proposer while it waited; it is passed over. */
  readonly cancelled: boolean;
  /** Raft has taken it: it is in this node's log, or on its way to the leader. It may still be lost. */
  accepted(): void;
  reject(error: unknown): void;
}

/** Bytes of proposals that are appended in one step. */
const BATCH_BYTES = 1 << 20;
/** What a waiting proposal takes besides its data, about. */
const PROPOSAL_BYTES = 1024;

export class Proposals {
  #waiting: Proposal[] = [];
  #bytes = 0;
  readonly #maxBytes: number;

  /** `maxBytes`: of what may wait for a leader. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#waiting.length;
  }

  add(proposal: Proposal): void {
    const bytes = proposal.data.length + PROPOSAL_BYTES;
    if (this.#bytes + bytes > this.#maxBytes && this.#bytes > 0) this.#forgetCancelled();
    if (this.#bytes + bytes > this.#maxBytes && this.#bytes > 0) {
      proposal.reject(
        new StableLogError("ERR_PROPOSAL_DROPPED", "raft proposal dropped: too many wait for a leader already"),
      );
      return;
    }
    this.#bytes += bytes;
    this.#waiting.push(proposal);
  }

  #forgetCancelled(): void {
    this.#waiting = this.#waiting.filter(({ cancelled }) => !cancelled);
    this.#bytes = this.#waiting.reduce((sum, { data }) => sum + data.length + PROPOSAL_BYTES, 0);
  }

  /** Steps everything that waits; `step` throws what raft has against it. What is no verdict of raft's fails all that is left. */
  flush(step: (message: Message) => void): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    for (let from = 0; from < waiting.length; ) {
      const to = batchEnd(waiting, from);
      try {
        stepBatch(waiting.slice(from, to), step);
      } catch (error) {
        for (const each of waiting.slice(from)) if (!each.cancelled) each.reject(error);
        throw error;
      }
      from = to;
    }
  }

  /** Nobody will step them any more. */
  fail(error: unknown): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    for (const proposal of waiting) if (!proposal.cancelled) proposal.reject(error);
  }
}

/** Commands go together; a change of configuration goes alone, to have a verdict of its own. */
function batchEnd(waiting: readonly Proposal[], from: number): number {
  let bytes = 0;
  let to = from;
  for (; to < waiting.length; to++) {
    const { type, data } = waiting[to] as Proposal;
    bytes += data.length;
    if (to > from && (type !== EntryType.Normal || bytes > BATCH_BYTES)) break;
    if (type !== EntryType.Normal) return to + 1;
  }
  return to;
}

function stepBatch(batch: readonly Proposal[], step: (message: Message) => void): void {
  const live = batch.filter(({ cancelled }) => !cancelled);
  if (live.length === 0) return;
  const entries = live.map(({ type, data }): Entry => ({ term: 0, index: 0, type, data }));
  try {
    step(newMessage(MessageType.MsgProp, { entries }));
  } catch (error) {
    if (!(error instanceof StableLogError) || error.code !== "ERR_PROPOSAL_DROPPED") throw error;
    // Together they may be more than raft takes before something commits, where one by one the first would fit.
    if (live.length > 1) for (const each of live) stepBatch([each], step);
    else live[0]?.reject(error);
    return;
  }
  for (const [i, proposal] of live.entries()) {
    // Raft puts an empty entry in the place of a change that may not be made now.
    if (proposal.type !== EntryType.Normal && entries[i]?.type === EntryType.Normal) {
      proposal.reject(
        new StableLogError(
          "ERR_PROPOSAL_DROPPED",
          "raft proposal dropped: another change of configuration is under way",
        ),
      );
    } else {
      proposal.accepted();
    }
  }
}
