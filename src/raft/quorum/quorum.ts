// What quorums answer, shared by majority.ts and joint.ts.

/** The outcome of a vote: still open, lost for good, won. */
export type VoteResult = "VotePending" | "VoteLost" | "VoteWon";

/** The highest index that a voter has acknowledged; undefined when it has said nothing. */
export type AckedIndex = (id: bigint) => number | undefined;

/** An empty quorum agrees to everything. */
export const EVERYTHING = Number.POSITIVE_INFINITY;

/** Node IDs in ascending order. */
export function sortedIds(ids: Iterable<bigint>): bigint[] {
  return [...ids].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
