// StateMachine: what a replicated program is to the replica that drives it (replica.ts): commands go in, results come out,
// and all it holds can be made a snapshot of. Owned by its consumer.

import type { ConfChangeV2 } from "../raftpb/conf-change.js";
import type { ConfState, SnapshotMetadata } from "../raftpb/types.js";

/** A committed command, as it was proposed. */
export interface Command {
  readonly index: number;
  readonly term: number;
  /** A view of memory that holds more: copy what you keep for long. */
  readonly data: Uint8Array;
}

/** A committed change of configuration that raft has taken in. */
export interface AppliedConfChange {
  readonly index: number;
  readonly term: number;
  /** With the context that its proposer gave; the empty change where raft refused it or leaves a joint configuration. */
  readonly change: ConfChangeV2;
  readonly confState: ConfState;
}

/**
 * Deterministic: the same commands in the same order lead to the same state on every node. Calls never overlap, but
 * for a snapshot's stream. What throws or rejects stops the replica, snapshot() alone excepted: a state that has missed a command
 * is of no use.
 */
export interface StateMachine<Result> {
  /** Applies commands in the order of the log and returns a result for each, which answers its proposer on this node. */
  apply(commands: readonly Command[]): readonly Result[] | Promise<readonly Result[]>;
  /** The configuration has changed. The context may say where a new node is to be found. */
  applyConfChange?(applied: AppliedConfChange): void | Promise<void>;
  /** The state as it is at the call; a stream must not show what is applied while it runs. */
  snapshot(): Uint8Array | AsyncIterable<Uint8Array>;
  /** Takes the state of a snapshot in place of its own. No bytes at all stand for the state that a new group begins with. */
  restore(data: AsyncIterable<Uint8Array>, metadata: SnapshotMetadata): void | Promise<void>;
}
