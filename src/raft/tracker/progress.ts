// Progress: what a leader knows of one follower, and how fast it may send to it, as in etcd-raft's tracker/progress.go.
//
// StateProbe: the follower's last index is not known; one message at a time. StateReplicate: it is, and entries flow, bounded
// by Inflights. StateSnapshot: it needs a snapshot, and nothing is sent until that has arrived.

import { assert } from "../../base/assert.js";
import { sortedIds } from "../quorum/quorum.js";
import type { Inflights } from "./inflights.js";

export type ProgressState = "StateProbe" | "StateReplicate" | "StateSnapshot";

export class Progress {
  /** Highest index known to be on the follower. Invariant: match < next. */
  match: number;
  /** Index of the next entry to send; all before it have been sent, or are in the snapshot that was. */
  next: number;
  /** Highest commit index that was sent. */
  #sentCommit = 0;
  state: ProgressState = "StateProbe";
  /** In StateSnapshot: the snapshot's index. */
  pendingSnapshot = 0;
  /** It was heard of since the last check of the quorum; always true for the leader itself. */
  recentActive: boolean;
  /** Set when a message was sent behind which nothing may follow until the follower answers, or is thought to have missed it. */
  msgAppFlowPaused = false;
  readonly inflights: Inflights;
  isLearner: boolean;

  constructor(next: number, inflights: Inflights, isLearner: boolean, match = 0, recentActive = false) {
    this.match = match;
    this.next = next;
    this.inflights = inflights;
    this.isLearner = isLearner;
    this.recentActive = recentActive;
  }

  clone(): Progress {
    const copy = new Progress(this.next, this.inflights.clone(), this.isLearner, this.match, this.recentActive);
    copy.#sentCommit = this.#sentCommit;
    copy.state = this.state;
    copy.pendingSnapshot = this.pendingSnapshot;
    copy.msgAppFlowPaused = this.msgAppFlowPaused;
    return copy;
  }

  #reset(state: ProgressState): void {
    this.msgAppFlowPaused = false;
    this.pendingSnapshot = 0;
    this.state = state;
    this.inflights.reset();
  }

  becomeProbe(): void {
    // A snapshot that was sent is taken to have arrived: probing goes on behind it.
    const behind = this.state === "StateSnapshot" ? this.pendingSnapshot : 0;
    this.#reset("StateProbe");
    this.next = Math.max(this.match, behind) + 1;
    this.#regressSentCommit();
  }

  becomeReplicate(): void {
    this.#reset("StateReplicate");
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#reset("StateSnapshot");
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.#sentCommit = index;
  }

  /** Notes a MsgApp of so many entries, which together have `bytes`. */
  sentEntries(entries: number, bytes: number): void {
    if (this.state === "StateReplicate") {
      if (entries > 0) {
        this.next += entries;
        this.inflights.add(this.next - 1, bytes);
      }
      // A message that fills the window, and an empty one sent while it is full, is a probe.
      this.msgAppFlowPaused = this.inflights.full;
    } else {
      assert(this.state === "StateProbe", "entries were sent to a follower that waits for a snapshot");
      if (entries > 0) this.msgAppFlowPaused = true;
    }
  }

  /** Whether a message with `commit` tells the follower anything it may act on. */
  canBumpCommit(commit: number): boolean {
    // What is committed beyond what was sent does not help a follower yet.
    return commit > this.#sentCommit && this.#sentCommit < this.next - 1;
  }

  sentCommit(commit: number): void {
    this.#sentCommit = commit;
  }

  /** The follower has acknowledged up to `index`; false when that is nothing new. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.msgAppFlowPaused = false;
    return true;
  }

  /**
   * The follower has refused a MsgApp that follows `rejected`; `matchHint` is where it may agree. Goes back, and says whether:
   * a refusal that came late or out of order is not heeded.
   */
  maybeDecrTo(rejected: number, matchHint: number): boolean {
    if (this.state === "StateReplicate") {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.#regressSentCommit();
      return true;
    }
    // Probes go one at a time, so only the last one's answer counts.
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, matchHint + 1), this.match + 1);
    this.#regressSentCommit();
    this.msgAppFlowPaused = false;
    return true;
  }

  #regressSentCommit(): void {
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1);
  }

  /** Nothing may be sent but heartbeats. */
  get paused(): boolean {
    return this.state === "StateSnapshot" || this.msgAppFlowPaused;
  }

  toString(): string {
    let text = `${this.state} match=${this.match} next=${this.next}`;
    if (this.isLearner) text += " learner";
    if (this.paused) text += " paused";
    if (this.pendingSnapshot > 0) text += ` pendingSnap=${this.pendingSnapshot}`;
    if (!this.recentActive) text += " inactive";
    const { count, full } = this.inflights;
    if (count > 0) text += ` inflight=${count}${full ? "[full]" : ""}`;
    return text;
  }
}

/** Progress by node; printed in the order of IDs. */
export class ProgressMap extends Map<bigint, Progress> {
  override toString(): string {
    return sortedIds(this.keys())
      .map((id) => `${id}: ${this.get(id)}\n`)
      .join("");
  }
}
