// MajorityConfig: a set of voters that decides by majority, as in etcd-raft's quorum/majority.go.

import { type AckedIndex, EVERYTHING, sortedIds, type VoteResult } from "./quorum.js";

export class MajorityConfig extends Set<bigint> {
  /** "(1 2 3)". */
  override toString(): string {
    return `(${sortedIds(this).join(" ")})`;
  }

  /** The highest index that a majority has acknowledged; EVERYTHING when there are no voters. */
  committedIndex(acked: AckedIndex): number {
    const n = this.size;
    if (n === 0) return EVERYTHING;
    const indexes: number[] = [];
    for (const id of this) indexes.push(acked(id) ?? 0);
    indexes.sort((a, b) => a - b);
    return indexes[n - (Math.floor(n / 2) + 1)] as number;
  }

  /** Counts the votes; who is no voter does not count. Without voters everything is won. */
  voteResult(votes: ReadonlyMap<bigint, boolean>): VoteResult {
    if (this.size === 0) return "VoteWon";
    let granted = 0;
    let missing = 0;
    for (const id of this) {
      const vote = votes.get(id);
      if (vote === undefined) missing++;
      else if (vote) granted++;
    }
    const quorum = Math.floor(this.size / 2) + 1;
    if (granted >= quorum) return "VoteWon";
    return granted + missing >= quorum ? "VotePending" : "VoteLost";
  }

  /** A table of who has acknowledged what, as bars; for transcripts and for people. */
  describe(acked: AckedIndex): string {
    const n = this.size;
    if (n === 0) return "<empty majority quorum>";
    const rows = sortedIds(this).map((id) => ({ id, index: acked(id), bar: 0 }));
    const byIndex = [...rows].sort((a, b) => (a.index ?? 0) - (b.index ?? 0) || (a.id < b.id ? -1 : 1));
    for (const [i, row] of byIndex.entries()) {
      const before = byIndex[i - 1];
      if (before !== undefined) row.bar = (before.index ?? 0) < (row.index ?? 0) ? i : before.bar;
    }
    let text = `${" ".repeat(n)}    idx\n`;
    for (const { id, index, bar } of rows) {
      text += index === undefined ? `?${" ".repeat(n)}` : `${"x".repeat(bar)}>${" ".repeat(n - bar)}`;
      text += ` ${String(index ?? 0).padStart(5)}    (id=${id.toString(16)})\n`;
    }
    return text;
  }
}
