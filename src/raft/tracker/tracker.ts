// ProgressTracker: the active configuration and what is known of its nodes, votes and progress, as in etcd-raft's
// tracker/tracker.go. A configuration is only ever replaced whole, by confchange/.

import type { ConfState } from "../../raftpb/types.js";
import { JointConfig } from "../quorum/joint.js";
import { MajorityConfig } from "../quorum/majority.js";
import { sortedIds, type VoteResult } from "../quorum/quorum.js";
import { type Progress, ProgressMap } from "./progress.js";

/** Who takes part, and how. */
export class Config {
  voters = new JointConfig();
  /** The joint configuration is left automatically. */
  autoLeave = false;
  /** Never a voter of either half. */
  learners = new Set<bigint>();
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  learnersNext = new Set<bigint>();

  clone(): Config {
    const copy = new Config();
    copy.voters = this.voters.clone();
    copy.autoLeave = this.autoLeave;
    copy.learners = new Set(this.learners);
    copy.learnersNext = new Set(this.learnersNext);
    return copy;
  }

  toString(): string {
    let text = `voters=${this.voters}`;
    if (this.learners.size > 0) text += ` learners=${new MajorityConfig(this.learners)}`;
    if (this.learnersNext.size > 0) text += ` learners_next=${new MajorityConfig(this.learnersNext)}`;
    if (this.autoLeave) text += " autoleave";
    return text;
  }
}

export class ProgressTracker {
  config = new Config();
  progress = new ProgressMap();
  readonly votes = new Map<bigint, boolean>();
  readonly maxInflight: number;
  readonly maxInflightBytes: number;

  constructor(maxInflight: number, maxInflightBytes: number) {
    this.maxInflight = maxInflight;
    this.maxInflightBytes = maxInflightBytes;
  }

  confState(): ConfState {
    const { voters, learners, learnersNext, autoLeave } = this.config;
    return {
      voters: sortedIds(voters.incoming),
      votersOutgoing: sortedIds(voters.outgoing),
      learners: sortedIds(learners),
      learnersNext: sortedIds(learnersNext),
      autoLeave,
    };
  }

  /** True when one voter decides alone. */
  get singleton(): boolean {
    return this.config.voters.incoming.size === 1 && !this.config.voters.joint;
  }

  /** The highest index that a quorum has. */
  committed(): number {
    return this.config.voters.committedIndex((id) => this.progress.get(id)?.match);
  }

  /** Visits all, in the order of their IDs. */
  visit(visit: (id: bigint, progress: Progress) => void): void {
    for (const id of sortedIds(this.progress.keys())) visit(id, this.progress.get(id) as Progress);
  }

  /** Whether a quorum has been heard of lately. */
  quorumActive(): boolean {
    const active = new Map<bigint, boolean>();
    for (const [id, { isLearner, recentActive }] of this.progress) if (!isLearner) active.set(id, recentActive);
    return this.config.voters.voteResult(active) === "VoteWon";
  }

  voterNodes(): bigint[] {
    return sortedIds(this.config.voters.ids());
  }

  learnerNodes(): bigint[] {
    return sortedIds(this.config.learners);
  }

  resetVotes(): void {
    this.votes.clear();
  }

  /** A node's first word counts. */
  recordVote(id: bigint, granted: boolean): void {
    if (!this.votes.has(id)) this.votes.set(id, granted);
  }

  tallyVotes(): { granted: number; rejected: number; result: VoteResult } {
    let granted = 0;
    let rejected = 0;
    for (const [id, { isLearner }] of this.progress) {
      const vote = isLearner ? undefined : this.votes.get(id);
      if (vote === true) granted++;
      else if (vote === false) rejected++;
    }
    return { granted, rejected, result: this.config.voters.voteResult(this.votes) };
  }
}
