// Quorums: tables of what majorities and joint majorities decide, and laws over all small groups: the answers are those of
// counting, what is decided stays decided, and a joint configuration asks both of its halves.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JointConfig } from "../../src/raft/quorum/joint.js";
import { MajorityConfig } from "../../src/raft/quorum/majority.js";
import { EVERYTHING, sortedIds, type VoteResult } from "../../src/raft/quorum/quorum.js";

type Votes = ReadonlyMap<bigint, boolean>;

/** Votes of nodes 1, 2, 3 ...: "y", "n", or "_" for none. */
const votesOf = (text: string): Votes =>
  new Map([...text].flatMap((vote, i) => (vote === "_" ? [] : [[BigInt(i + 1), vote === "y"] as const])));
const idsTo = (n: number): bigint[] => Array.from({ length: n }, (_, i) => BigInt(i + 1));

const ids = fc.uniqueArray(fc.bigInt(1n, 7n), { maxLength: 7 });
const acked = fc.array(fc.option(fc.nat(9), { nil: undefined }), { minLength: 7, maxLength: 7 });
const votes = fc.string({ unit: fc.constantFrom("y", "n", "_"), minLength: 7, maxLength: 7 }).map(votesOf);
const at =
  (indexes: readonly (number | undefined)[]) =>
  (id: bigint): number | undefined =>
    indexes[Number(id) - 1];

describe("MajorityConfig.committedIndex()", () => {
  it.each([
    [[12], 12],
    [[], EVERYTHING],
    [[5, 5], 5],
    [[5, 9], 5],
    [[5, undefined], 0],
    [[undefined, undefined, 7], 0],
    [[3, undefined, 7], 3],
    [[1, 2, 3], 2],
    [[3, 2, 3], 3],
    [[1, 2, 3, 4], 2],
    [[5, 5, 5, 1], 5],
    [[1, 2, 3, 4, 5], 3],
    [[9, 9, 1, 1, undefined], 1],
  ] as const)("of %j is %d", (indexes, index) => {
    expect(new MajorityConfig(idsTo(indexes.length)).committedIndex(at(indexes))).toBe(index);
  });

  it("is the highest index that more than half have", () => {
    fc.assert(
      fc.property(ids, acked, (voters, indexes) => {
        const having = (index: number): number => voters.filter((id) => (at(indexes)(id) ?? 0) >= index).length;
        const committed = new MajorityConfig(voters).committedIndex(at(indexes));
        if (voters.length === 0) {
          expect(committed).toBe(EVERYTHING);
          return;
        }
        expect(having(committed)).toBeGreaterThan(voters.length / 2);
        expect(having(committed + 1)).toBeLessThanOrEqual(voters.length / 2);
      }),
    );
  });

  it("never goes back when somebody acknowledges more", () => {
    fc.assert(
      fc.property(ids, acked, fc.nat(6), fc.nat(9), (voters, indexes, who, more) => {
        const config = new MajorityConfig(voters);
        const later = indexes.map((index, i) => (i === who ? Math.max(index ?? 0, more) : index));
        expect(config.committedIndex(at(later))).toBeGreaterThanOrEqual(config.committedIndex(at(indexes)));
      }),
    );
  });
});

describe("MajorityConfig.voteResult()", () => {
  it.each([
    ["", "VoteWon"],
    ["y", "VoteWon"],
    ["n", "VoteLost"],
    ["_", "VotePending"],
    ["yn", "VoteLost"],
    ["y_", "VotePending"],
    ["yy", "VoteWon"],
    ["yy_", "VoteWon"],
    ["y_n", "VotePending"],
    ["ynn", "VoteLost"],
    ["__n", "VotePending"],
    ["yynn", "VoteLost"],
    ["yyn_", "VotePending"],
    ["yyyn", "VoteWon"],
    ["nn___", "VotePending"],
    ["nnn__", "VoteLost"],
  ])("of %j is %s", (text, result) => {
    expect(new MajorityConfig(idsTo(text.length)).voteResult(votesOf(text))).toBe(result);
  });

  it("counts nobody who is no voter", () => {
    expect(new MajorityConfig([1n]).voteResult(votesOf("_yyyy"))).toBe("VotePending");
    expect(new MajorityConfig([1n]).voteResult(votesOf("nyyyy"))).toBe("VoteLost");
  });

  it("is decided exactly when no vote that is missing can change it", () => {
    fc.assert(
      fc.property(ids, votes, (voters, given) => {
        const config = new MajorityConfig(voters);
        const with_ = (vote: boolean): VoteResult =>
          config.voteResult(new Map(voters.map((id) => [id, given.get(id) ?? vote] as const)));
        const result = config.voteResult(given);
        expect(result).toBe(with_(true) === with_(false) ? with_(true) : "VotePending");
      }),
    );
  });
});

describe("JointConfig", () => {
  it("commits what both halves have, and whichever half is which", () => {
    fc.assert(
      fc.property(ids, ids, acked, (incoming, outgoing, indexes) => {
        const index = new JointConfig(incoming, outgoing).committedIndex(at(indexes));
        const halves = [incoming, outgoing].map((half) => new MajorityConfig(half).committedIndex(at(indexes)));
        expect(index).toBe(Math.min(...halves));
        expect(new JointConfig(outgoing, incoming).committedIndex(at(indexes))).toBe(index);
        expect(new JointConfig(incoming).committedIndex(at(indexes))).toBe(halves[0]);
        expect(new JointConfig(incoming, incoming).committedIndex(at(indexes))).toBe(halves[0]);
      }),
    );
  });

  it("is won when both halves are, and lost when one is", () => {
    fc.assert(
      fc.property(ids, ids, votes, (incoming, outgoing, given) => {
        const result = new JointConfig(incoming, outgoing).voteResult(given);
        const halves = [incoming, outgoing].map((half) => new MajorityConfig(half).voteResult(given));
        if (halves.includes("VoteLost")) expect(result).toBe("VoteLost");
        else expect(result).toBe(halves.includes("VotePending") ? "VotePending" : "VoteWon");
      }),
    );
  });

  it("shares a voter between any two quorums of it and of its halves' successors", () => {
    // What makes a change through a joint configuration safe: whoever wins in it, and whoever wins in one half alone, have a
    // voter in common.
    fc.assert(
      fc.property(ids, ids, votes, votes, (incoming, outgoing, first, second) => {
        fc.pre(incoming.length > 0 && outgoing.length > 0);
        const joint = new JointConfig(incoming, outgoing);
        if (joint.voteResult(first) !== "VoteWon") return;
        for (const half of [incoming, outgoing]) {
          if (new MajorityConfig(half).voteResult(second) !== "VoteWon") continue;
          expect(half.some((id) => first.get(id) === true && second.get(id) === true)).toBe(true);
        }
      }),
    );
  });

  it("prints its halves, in order", () => {
    expect(String(new JointConfig([3n, 1n, 26n]))).toBe("(1 3 26)");
    expect(String(new JointConfig([2n, 1n], [3n]))).toBe("(1 2)&&(3)");
    expect(String(new JointConfig())).toBe("()");
    expect(sortedIds(new JointConfig([2n, 1n], [3n, 2n]).ids())).toEqual([1n, 2n, 3n]);
  });

  it("is no joint one without an outgoing half, and its clone is another", () => {
    const joint = new JointConfig([1n], [2n]);
    const copy = joint.clone();
    copy.outgoing.clear();
    copy.incoming.add(9n);
    expect([joint.joint, joint.has(9n), joint.has(2n), copy.joint, copy.has(9n)]).toEqual([
      true,
      false,
      true,
      false,
      true,
    ]);
  });
});

describe("MajorityConfig.describe()", () => {
  it("draws a bar for each voter, as long as the voters it has overtaken", () => {
    const config = new MajorityConfig([1n, 2n, 3n]);
    expect(config.describe(at([7, undefined, 9]))).toBe(
      ["       idx", "x>       7    (id=1)", "?        0    (id=2)", "xx>      9    (id=3)", ""].join("\n"),
    );
    expect(new MajorityConfig().describe(at([]))).toBe("<empty majority quorum>");
  });
});
