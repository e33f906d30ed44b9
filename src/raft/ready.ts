// Ready: what a raft node asks its owner to do, as in etcd-raft's node.go. Assignable to WritableStorage.save().
//
// The order: snapshot, entries and HardState become durable; then messages go out (a leader's MsgApp may go before: see
// docs/RAFT.md); then committed entries are applied; then advance().

import type { Message } from "../raftpb/message.js";
import type { Entry, HardState, Snapshot } from "../raftpb/types.js";
import type { SoftState } from "./raft.js";
import type { ReadState } from "./read-only.js";

export interface Ready {
  /** Undefined when it has not changed. */
  readonly softState: SoftState | undefined;
  /** To be saved; undefined when it has not changed. */
  readonly hardState: HardState | undefined;
  /** Reads that may be answered once their index is applied. */
  readonly readStates: readonly ReadState[];
  /** To be saved, in place of what stands from the first one's index on. */
  readonly entries: Entry[];
  /** To be saved; it takes the place of the log. */
  readonly snapshot: Snapshot | undefined;
  /** To be applied; they are saved already, or by this very Ready. */
  readonly committedEntries: Entry[];
  /** To be sent when the above is saved. */
  readonly messages: Message[];
  /** False when nothing but the commit index changed, whose loss is made good by the next leader. */
  readonly mustSync: boolean;
}

/** Whether a Ready must be durable before it is acted on: term, vote and entries are promises to other nodes. */
export function mustSync(state: HardState, previous: HardState, entries: number): boolean {
  return entries !== 0 || state.vote !== previous.vote || state.term !== previous.term;
}
