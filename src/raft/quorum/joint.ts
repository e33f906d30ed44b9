// JointConfig: two groups of voters, both of which must agree, as in etcd-raft's quorum/joint.go. With an empty outgoing
// half it is a plain majority.

import { MajorityConfig } from "./majority.js";
import type { AckedIndex, VoteResult } from "./quorum.js";

export class JointConfig {
  readonly incoming: MajorityConfig;
  readonly outgoing: MajorityConfig;

  constructor(incoming: Iterable<bigint> = [], outgoing: Iterable<bigint> = []) {
    this.incoming = new MajorityConfig(incoming);
    this.outgoing = new MajorityConfig(outgoing);
  }

  /** True while both halves have voters. */
  get joint(): boolean {
    return this.outgoing.size > 0;
  }

  /** "(1 2)", or "(1 2)&&(3)" while joint. */
  toString(): string {
    return this.joint ? `${this.incoming}&&${this.outgoing}` : this.incoming.toString();
  }

  /** The voters of either half. */
  ids(): MajorityConfig {
    const ids = new MajorityConfig(this.incoming);
    for (const id of this.outgoing) ids.add(id);
    return ids;
  }

  has(id: bigint): boolean {
    return this.incoming.has(id) || this.outgoing.has(id);
  }

  clone(): JointConfig {
    return new JointConfig(this.incoming, this.outgoing);
  }

  committedIndex(acked: AckedIndex): number {
    const incoming = this.incoming.committedIndex(acked);
    return this.joint ? Math.min(incoming, this.outgoing.committedIndex(acked)) : incoming;
  }

  voteResult(votes: ReadonlyMap<bigint, boolean>): VoteResult {
    const a = this.incoming.voteResult(votes);
    const b = this.outgoing.voteResult(votes);
    if (a === b) return a;
    // One half has lost, so both have; else one is still open.
    return a === "VoteLost" || b === "VoteLost" ? "VoteLost" : "VotePending";
  }

  describe(acked: AckedIndex): string {
    return this.ids().describe(acked);
  }
}
