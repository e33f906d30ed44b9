// The raft core step by step, as tables and small stories: elections, pre-votes and leases, how a follower's log is found and
// mended, how fast a leader sends, reads, the handing over of leadership, limits, and figure 8 of the raft paper. Whole
// transcripts are in scripts/; bad weather is in cluster.test.ts.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import type { RaftConfig } from "../../src/raft/raft.js";
import { RawNode } from "../../src/raft/rawnode.js";
import { ReadOnly } from "../../src/raft/read-only.js";
import { encodeConfChange } from "../../src/raftpb/conf-change.js";
import { isLocalMessage, isResponseMessage, type Message, newMessage } from "../../src/raftpb/message.js";
import { EntryType, emptyConfState, type Snapshot } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { bytes, ELECTION_TICK, entriesOf, entry, Group, kinds, MessageType, TestNode, textOf } from "./helpers.js";

const idsTo = (n: number): bigint[] => Array.from({ length: n }, (_, i) => BigInt(i + 1));
const code = (expected: string): Error => expect.objectContaining({ code: expected }) as Error;
const snapshotAt = (index: number, term: number, voters: readonly bigint[]): Snapshot => ({
  metadata: { index, term, confState: { ...emptyConfState(), voters: [...voters] } },
  data: bytes("state"),
});

describe("an election", () => {
  it.each([
    [1, "", "StateLeader"],
    [3, "", "StateCandidate"],
    [3, "y", "StateLeader"],
    [3, "n", "StateCandidate"],
    [3, "nn", "StateFollower"],
    [3, "ny", "StateLeader"],
    [4, "y", "StateCandidate"],
    [4, "yy", "StateLeader"],
    [4, "nn", "StateFollower"],
    [5, "y", "StateCandidate"],
    [5, "yy", "StateLeader"],
    [5, "nyny", "StateLeader"],
    [5, "nnn", "StateFollower"],
  ])("of %d with the votes %j makes a %s", (size, votes, state) => {
    const node = new TestNode(1n, { voters: idsTo(size) });
    node.raw.campaign();
    const asked = node.work();
    expect(asked.filter(({ type }) => type === MessageType.MsgVote).map(({ to }) => to)).toEqual(idsTo(size).slice(1));
    for (const [i, vote] of [...votes].entries()) {
      node.receive(MessageType.MsgVoteResp, BigInt(i + 2), { reject: vote === "n" });
    }
    expect([node.state, node.term, node.raw.raft.vote]).toEqual([state, 1, 1n]);
  });

  it("is not won by one voter's vote given twice, nor by a vote of another term", () => {
    const node = new TestNode(1n, { voters: idsTo(5), hardState: { term: 4, vote: 0n, commit: 0 } });
    node.raw.campaign();
    node.work();
    node.receive(MessageType.MsgVoteResp, 2n);
    node.receive(MessageType.MsgVoteResp, 2n);
    node.receive(MessageType.MsgVoteResp, 3n, { term: 4 });
    expect(node.state).toBe("StateCandidate");
    node.receive(MessageType.MsgVoteResp, 3n);
    expect(node.state).toBe("StateLeader");
  });

  it.each([
    // The voter's log ends with 2/2, at term 2.
    ["as long a log", 3, 2, 2, 0n, true],
    ["a longer log", 3, 2, 9, 0n, true],
    ["a shorter log of a later term", 3, 3, 1, 0n, true],
    ["a shorter log", 3, 2, 1, 0n, false],
    ["a longer log of an earlier term", 3, 1, 9, 0n, false],
    ["an empty log", 3, 0, 0, 0n, false],
    ["an earlier vote for the same in this term", 2, 2, 2, 2n, true],
    ["an earlier vote for another in this term", 2, 2, 2, 3n, false],
    ["an earlier vote for another in an earlier term", 3, 2, 2, 3n, true],
  ] as const)("asks a voter, with %s", (_how, term, logTerm, index, vote, granted) => {
    const entries = entriesOf(1, 2);
    const voter = new TestNode(1n, { entries, hardState: { term: 2, vote, commit: 0 } });
    const answers = voter.receive(MessageType.MsgVote, 2n, { term, logTerm, index });
    expect(answers).toMatchObject([{ type: MessageType.MsgVoteResp, to: 2n, term, reject: !granted }]);
    // What is promised is durable by the time it is said.
    expect(voter.storage.initialState().hardState).toMatchObject({ term, vote: granted ? 2n : term > 2 ? 0n : vote });
  });

  it("is not voted in by a follower that knows a leader of the term", () => {
    const voter = new TestNode(1n);
    voter.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    expect(voter.receive(MessageType.MsgVote, 3n, { term: 1 })).toMatchObject([{ reject: true, term: 1 }]);
  });

  it.each([0, 1, 5, 9])(
    "begins after the election timeout and %d ticks drawn by lot, without a word of the leader",
    (drawn) => {
      const node = new TestNode(1n, { random: () => drawn });
      expect(node.tick(ELECTION_TICK + drawn - 1)).toEqual([]);
      expect(node.state).toBe("StateFollower");
      // A heartbeat begins it anew.
      node.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
      expect(node.tick(ELECTION_TICK + drawn - 1)).toEqual([]);
      expect(kinds(node.tick())).toEqual(["2 MsgVote", "3 MsgVote"]);
      expect(node.term).toBe(2);
      // And so does a candidate that nobody answers.
      expect(node.tick(ELECTION_TICK + drawn - 1)).toEqual([]);
      expect(kinds(node.tick())).toEqual(["2 MsgVote", "3 MsgVote"]);
      expect(node.term).toBe(3);
    },
  );

  it("draws its timeout from [0, electionTick) anew for every term", () => {
    const asked: number[] = [];
    const node = new TestNode(1n, {
      random: (n) => {
        asked.push(n);
        return asked.length % n;
      },
    });
    node.tick(200);
    expect(node.term).toBeGreaterThan(5);
    expect(new Set(asked)).toEqual(new Set([ELECTION_TICK]));
    expect(asked.length).toBeGreaterThanOrEqual(node.term);
  });

  it.each([
    [MessageType.MsgApp, 0],
    [MessageType.MsgHeartbeat, 0],
    [MessageType.MsgApp, 1],
    [MessageType.MsgHeartbeat, 1],
    [MessageType.MsgSnap, 1],
  ])("is over for a candidate that hears of a leader by message %d, %d terms later", (type, later) => {
    const node = new TestNode(1n);
    node.raw.campaign();
    node.work();
    node.receive(type, 2n, { term: 1 + later });
    expect([node.state, node.term, node.raw.raft.lead]).toEqual(["StateFollower", 1 + later, 2n]);
  });

  it("deposes a leader that hears of a later term", () => {
    const node = new TestNode(1n);
    node.lead(2n);
    node.receive(MessageType.MsgVote, 3n, { term: 2 });
    expect([node.state, node.term, node.raw.raft.lead]).toEqual(["StateFollower", 2, 0n]);
  });

  it("is for voters: learners and strangers wait, and a learner that is asked votes", () => {
    const learner = new TestNode(3n, { voters: [1n, 2n], confState: { learners: [3n] } });
    const stranger = new TestNode(9n);
    for (const node of [learner, stranger]) {
      expect(node.tick(5 * ELECTION_TICK)).toEqual([]);
      node.raw.campaign();
      expect([node.work(), node.state]).toEqual([[], "StateFollower"]);
    }
    // It may have become a voter and not know it yet.
    expect(learner.receive(MessageType.MsgVote, 1n, { term: 1 })).toMatchObject([{ reject: false, term: 1 }]);
  });

  it("waits until committed changes of configuration are applied", () => {
    const change = encodeConfChange({ id: 0n, type: 1, nodeId: 1n, context: new Uint8Array(0) });
    const node = new TestNode(1n, {
      entries: [{ term: 1, index: 1, ...change }],
      hardState: { term: 1, vote: 0n, commit: 1 },
    });
    node.raw.campaign();
    expect(node.state).toBe("StateFollower");
    // Applied, it turns out that it is no voter any more.
    node.work();
    node.raw.campaign();
    expect(node.state).toBe("StateFollower");
  });

  it("leads to a leader that commits what was left to it with an entry of its own term", () => {
    const node = new TestNode(1n, { entries: entriesOf(1, 1), hardState: { term: 1, vote: 1n, commit: 0 } });
    const sent = node.lead(2n);
    expect(sent).toMatchObject([
      { to: 2n, index: 2, logTerm: 1, entries: [{ term: 2, index: 3 }], commit: 0 },
      { to: 3n, index: 2, logTerm: 1, entries: [{ term: 2, index: 3 }], commit: 0 },
    ]);
    node.acknowledge(2n, 2);
    expect(node.committed).toBe(0);
    node.acknowledge(2n, 3);
    expect([node.committed, node.applied.map(({ index }) => index)]).toEqual([3, [1, 2, 3]]);
  });

  it("between two who ask at the same time goes to nobody, and then to who asks first", () => {
    const group = Group.of(3);
    const [first, second] = [group.node(1n), group.node(2n)];
    first.raw.campaign();
    second.raw.campaign();
    group.cut.add(3n);
    group.settle();
    expect([first.state, second.state]).toEqual(["StateCandidate", "StateCandidate"]);
    group.cut.clear();
    group.tick(2n, ELECTION_TICK);
    expect([first.state, second.state, first.raw.raft.lead]).toEqual(["StateFollower", "StateLeader", 2n]);
  });
});

describe("figure 8 of the raft paper", () => {
  // An entry in a message, so that the old one travels alone. Node 1 led term 2 and left its entry with 2; 5 led term 3.
  function atMomentC(): { group: Group; first: TestNode } {
    const voters = idsTo(5);
    const logs = [entriesOf(1, 2), entriesOf(1, 2), entriesOf(1), entriesOf(1), entriesOf(1, 3)];
    const group = new Group(
      ...logs.map(
        (entries, i) =>
          new TestNode(BigInt(i + 1), {
            voters,
            entries,
            hardState: { term: 3, vote: i < 2 ? 0n : 5n, commit: 1 },
            maxSizePerMsg: 0,
          }),
      ),
    );
    group.cut.add(5n);
    return { group, first: group.node(1n) };
  }

  it("(d): an entry of an older term is not committed by counting replicas, and another may take its place", () => {
    const { group, first } = atMomentC();
    // The new entry reaches nobody; who has not got the old one refuses it, and is sent that.
    group.lost = ({ type, to, entries }) =>
      type === MessageType.MsgApp &&
      entries.some(({ index }) => index === 3) &&
      group.node(to).raw.raft.log.maybeTerm(2) !== undefined;
    group.campaign(1n);
    expect([first.state, first.term]).toEqual(["StateLeader", 4]);
    // Four of five have the entry of term 2.
    expect(idsTo(4).map((id) => group.node(id).raw.raft.log.maybeTerm(2))).toEqual([2, 2, 2, 2]);
    expect([first.raw.raft.tracker.committed(), first.committed]).toEqual([2, 1]);
    group.cut.clear();
    group.cut.add(1n);
    group.lost = () => false;
    // Told of the later term by the first who does not vote, node 5 asks again.
    for (let i = 0; i < 2; i++) group.campaign(5n);
    expect(group.node(5n).state).toBe("StateLeader");
    for (const id of idsTo(5).slice(1)) {
      expect(group.node(id).applied.map(({ term }) => term)).toEqual([1, 3, group.node(5n).term]);
    }
    group.cut.clear();
    group.tick(5n);
    expect(first.applied.map(({ term }) => term)).toEqual([1, 3, group.node(5n).term]);
  });

  it("(e): with an entry of its own term on a majority it is committed, and node 5 cannot win", () => {
    const { group, first } = atMomentC();
    group.campaign(1n);
    expect([first.committed, first.applied.map(({ term }) => term)]).toEqual([3, [1, 2, 4]]);
    group.cut.clear();
    group.cut.add(1n);
    for (let i = 0; i < 3; i++) group.campaign(5n);
    expect(group.node(5n).state).not.toBe("StateLeader");
    group.campaign(2n);
    expect(group.node(5n).applied.map(({ term }) => term)).toEqual([1, 2, 4, group.node(2n).term]);
  });
});

describe("a pre-vote", () => {
  const options = { preVote: true, hardState: { term: 4, vote: 2n, commit: 0 } };

  it("asks for the next term, and changes neither term nor vote", () => {
    const node = new TestNode(1n, options);
    node.raw.campaign();
    expect(node.work()).toMatchObject([
      { type: MessageType.MsgPreVote, to: 2n, term: 5 },
      { type: MessageType.MsgPreVote, to: 3n, term: 5 },
    ]);
    expect([node.state, node.storage.initialState().hardState]).toEqual(["StatePreCandidate", options.hardState]);
    expect(kinds(node.receive(MessageType.MsgPreVoteResp, 2n, { term: 5 }))).toEqual(["2 MsgVote", "3 MsgVote"]);
    expect([node.state, node.storage.initialState().hardState]).toEqual([
      "StateCandidate",
      { term: 5, vote: 1n, commit: 0 },
    ]);
    // Late answers to the pre-vote are no votes.
    node.receive(MessageType.MsgPreVoteResp, 3n, { term: 5 });
    expect(node.state).toBe("StateCandidate");
  });

  it("that is lost leaves a follower of the same term, or of the later one it is told of", () => {
    const node = new TestNode(1n, options);
    node.raw.campaign();
    node.work();
    for (const from of [2n, 3n]) node.receive(MessageType.MsgPreVoteResp, from, { term: 4, reject: true });
    expect([node.state, node.term]).toEqual(["StateFollower", 4]);
    node.raw.campaign();
    node.work();
    node.receive(MessageType.MsgPreVoteResp, 2n, { term: 9, reject: true });
    expect([node.state, node.term, node.raw.raft.vote]).toEqual(["StateFollower", 9, 0n]);
  });

  it("is given to as many as ask, and keeps the vote", () => {
    const voter = new TestNode(1n, options);
    for (const from of [2n, 3n]) {
      expect(voter.receive(MessageType.MsgPreVote, from, { term: 5 })).toMatchObject([{ term: 5, reject: false }]);
    }
    expect(voter.storage.initialState().hardState).toEqual(options.hardState);
    // Of a term that has passed: told so, and not left to ask for ever.
    expect(voter.receive(MessageType.MsgPreVote, 3n, { term: 3 })).toMatchObject([
      { type: MessageType.MsgPreVoteResp, term: 4, reject: true },
    ]);
  });

  it("is refused to a log that is behind", () => {
    const voter = new TestNode(1n, {
      preVote: true,
      entries: entriesOf(1, 2),
      hardState: { term: 2, vote: 0n, commit: 0 },
    });
    expect(voter.receive(MessageType.MsgPreVote, 2n, { term: 3, logTerm: 2, index: 1 })).toMatchObject([
      { reject: true },
    ]);
  });

  it.each([true, false])(
    "%s: a node that was cut off does not depose the leader when it comes back, or does",
    (preVote) => {
      const group = Group.of(3, { preVote });
      const leader = group.campaign(1n);
      group.cut.add(3n);
      group.tick(3n, 5 * ELECTION_TICK);
      group.propose(1n, "meanwhile");
      group.cut.clear();
      expect(group.node(3n).term === 1).toBe(preVote);
      group.tick(3n, ELECTION_TICK);
      expect([leader.state, leader.term === 1]).toEqual(preVote ? ["StateLeader", true] : ["StateFollower", false]);
      if (!preVote) return;
      group.tick(1n);
      expect([group.node(3n).state, group.node(3n).applied.map(({ data }) => textOf(data))]).toEqual([
        "StateFollower",
        ["", "meanwhile"],
      ]);
    },
  );
});

describe("a check of the quorum", () => {
  it("deposes a leader that has not heard of a quorum for an election timeout", () => {
    const node = new TestNode(1n, { voters: idsTo(5), checkQuorum: true });
    node.lead(2n, 3n);
    node.tick(ELECTION_TICK - 1);
    node.receive(MessageType.MsgHeartbeatResp, 2n);
    node.receive(MessageType.MsgHeartbeatResp, 4n);
    node.tick();
    expect(node.state).toBe("StateLeader");
    node.receive(MessageType.MsgHeartbeatResp, 2n);
    node.tick(ELECTION_TICK);
    expect([node.state, node.term, node.raw.raft.lead]).toEqual(["StateFollower", 1, 0n]);
  });

  it("is not made unless it is asked for", () => {
    const node = new TestNode(1n);
    node.lead(2n);
    node.tick(5 * ELECTION_TICK);
    expect(node.state).toBe("StateLeader");
  });

  it("gives the leader a lease: who hears of it neither votes nor moves on, unless the leader wants it", () => {
    // Ten ticks from the last word on the lease is over, though nobody campaigns before fifteen.
    const voter = new TestNode(1n, { checkQuorum: true, random: () => 5 });
    const request = { term: 2, logTerm: 0, index: 0 };
    voter.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    voter.tick(ELECTION_TICK - 1);
    expect(voter.receive(MessageType.MsgVote, 3n, request)).toEqual([]);
    expect(voter.receive(MessageType.MsgPreVote, 3n, request)).toEqual([]);
    expect([voter.term, voter.raw.raft.lead]).toEqual([1, 2n]);
    voter.tick();
    expect(voter.receive(MessageType.MsgPreVote, 3n, request)).toMatchObject([{ reject: false }]);
    expect(voter.receive(MessageType.MsgVote, 3n, request)).toMatchObject([{ reject: false }]);
    const ordered = new TestNode(1n, { checkQuorum: true });
    ordered.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    const context = bytes("CampaignTransfer");
    expect(ordered.receive(MessageType.MsgVote, 3n, { ...request, context })).toMatchObject([{ reject: false }]);
  });

  it.each([
    [false, false, []],
    [true, false, ["2 MsgAppResp"]],
    [false, true, ["2 MsgAppResp"]],
  ])("%s, or pre-votes %s: a leader of an older term is told %j", (checkQuorum, preVote, told) => {
    const node = new TestNode(1n, { checkQuorum, preVote, hardState: { term: 5, vote: 0n, commit: 0 } });
    for (const type of [MessageType.MsgApp, MessageType.MsgHeartbeat]) {
      const answers = node.receive(type, 2n, { term: 3 });
      expect(kinds(answers)).toEqual(told);
      // Its term is what moves the other on.
      for (const { term } of answers) expect(term).toBe(5);
    }
    expect(node.raw.raft.lead).toBe(0n);
  });

  it("lets a follower forget its leader, and vote; not where reads rely on the lease", () => {
    const voter = new TestNode(1n, { checkQuorum: true });
    voter.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    voter.raw.forgetLeader();
    expect([voter.raw.raft.lead, voter.receive(MessageType.MsgVote, 3n, { term: 2 }).length]).toEqual([0n, 1]);
    const leased = new TestNode(1n, { checkQuorum: true, readOnlyOption: "LeaseBased" });
    leased.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    leased.raw.forgetLeader();
    expect([leased.raw.raft.lead, leased.receive(MessageType.MsgVote, 3n, { term: 2 })]).toEqual([2n, []]);
  });
});

describe("a follower's log", () => {
  it.each([
    // Terms of the leader's log and of the follower's; where the follower says they may agree; where the leader tries next.
    ["ends earlier", [1, 1, 1, 5], [1, 1], "1/2", "1/2"],
    ["is empty", [1, 1, 1, 1], [], "0/0", "0/0"],
    ["has entries of an earlier term", [1, 2, 2, 4, 4, 4, 4], [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], "3/7", "2/3"],
    ["has more of a term that both have", [1, 2, 2, 3, 4, 4, 4, 5], [1, 2, 2, 3, 3, 3, 3, 3, 3, 3], "3/8", "3/4"],
    ["has entries of a term between", [2, 5, 5], [2, 4, 4, 4, 4, 4], "4/3", "2/1"],
    ["has entries of a later term", [2, 2, 2, 2, 2, 2], [2, 4, 4, 4, 4, 4], "2/1", "2/1"],
    ["has nothing in common", [3, 3], [1, 1, 2], "1/2", "0/0"],
  ] as const)("that %s is found by a hint", (_how, leading, following, hint, next) => {
    const hardState = { term: 9, vote: 0n, commit: 0 };
    const leader = new TestNode(1n, { voters: [1n, 2n], entries: entriesOf(...leading), hardState });
    const follower = new TestNode(2n, { voters: [1n, 2n], entries: entriesOf(...following), hardState });
    const [probe] = leader.lead(2n);
    expect(probe).toMatchObject({ index: leading.length, logTerm: leading.at(-1) });
    follower.raw.step(probe as Message);
    const [refusal] = follower.work();
    expect([refusal?.reject, refusal?.index, `${refusal?.logTerm}/${refusal?.rejectHint}`]).toEqual([
      true,
      leading.length,
      hint,
    ]);
    leader.raw.step(refusal as Message);
    const [again] = leader.work();
    expect(`${again?.logTerm}/${again?.index}`).toBe(next);
    follower.raw.step(again as Message);
    expect(follower.work()).toMatchObject([{ reject: false, index: leading.length + 1 }]);
    expect(follower.terms).toEqual([...leading, 10]);
  });

  it("becomes the leader's, with a refusal for each term in which they differ and no more", () => {
    const growth = fc.array(fc.nat(2), { maxLength: 20 });
    fc.assert(
      fc.property(fc.array(fc.nat(1), { maxLength: 5 }), growth, growth, (common, leading, following) => {
        // Terms of one side are odd and of the other even where they differ: an entry is known by its index and term.
        const grown = (from: number, steps: readonly number[]): number[] => {
          let term = from;
          return steps.map((step) => (term += 2 * step));
        };
        let shared = 1;
        const both = common.map((step) => (shared += step));
        const odd = grown(2 * shared + 1, leading);
        const even = grown(2 * shared + 2, following);
        const hardState = { term: 200, vote: 0n, commit: 0 };
        const voters = [1n, 2n];
        const group = new Group(
          new TestNode(1n, { voters, entries: entriesOf(...both, ...odd), hardState }),
          new TestNode(2n, { voters, entries: entriesOf(...both, ...even), hardState }),
        );
        let refusals = 0;
        group.lost = ({ type, reject }) => {
          if (type === MessageType.MsgAppResp && reject) refusals++;
          return false;
        };
        const leader = group.node(1n);
        leader.raw.campaign();
        leader.work();
        // Who votes does not matter here.
        group.settle(leader.receive(MessageType.MsgVoteResp, 2n));
        expect(group.node(2n).terms).toEqual(leader.terms);
        expect(group.node(2n).terms).toEqual([...both, ...odd, 201]);
        expect([leader.committed, refusals <= 1 + Math.min(new Set(odd).size, new Set(even).size)]).toEqual([
          both.length + odd.length + 1,
          true,
        ]);
      }),
    );
  });

  it("takes no commit beyond what it was shown to share", () => {
    const node = new TestNode(1n, { entries: entriesOf(1, 1, 1), hardState: { term: 1, vote: 0n, commit: 0 } });
    // The rest may be in conflict with what the leader has.
    node.receive(MessageType.MsgApp, 2n, { term: 2, index: 1, logTerm: 1, commit: 3 });
    expect(node.committed).toBe(1);
    node.receive(MessageType.MsgApp, 2n, { term: 2, index: 1, logTerm: 1, entries: [entry(2, 2)], commit: 9 });
    expect([node.committed, node.terms]).toEqual([2, [1, 2]]);
  });

  it("answers a message from before what is committed with how far that is, and does not go back", () => {
    const node = new TestNode(1n, { entries: entriesOf(1, 1, 1), hardState: { term: 1, vote: 0n, commit: 3 } });
    const old = { term: 1, index: 1, logTerm: 1, entries: [entry(2, 1)], commit: 1 };
    expect(node.receive(MessageType.MsgApp, 2n, old)).toMatchObject([{ index: 3, reject: false }]);
    expect([node.committed, node.terms]).toEqual([3, [1, 1, 1]]);
  });

  it("keeps what it has when a message comes late, and takes one twice", () => {
    const node = new TestNode(1n);
    const message = { term: 1, index: 0, logTerm: 0, entries: entriesOf(1, 1, 1) };
    expect(node.receive(MessageType.MsgApp, 2n, message)).toMatchObject([{ index: 3 }]);
    expect(node.receive(MessageType.MsgApp, 2n, message)).toMatchObject([{ index: 3 }]);
    expect(node.receive(MessageType.MsgApp, 2n, { ...message, entries: entriesOf(1) })).toMatchObject([{ index: 1 }]);
    expect(node.terms).toEqual([1, 1, 1]);
  });

  it("does not heed an older term, whatever it sends", () => {
    const node = new TestNode(1n, { hardState: { term: 5, vote: 0n, commit: 0 } });
    const types = [MessageType.MsgApp, MessageType.MsgSnap, MessageType.MsgHeartbeat, MessageType.MsgTimeoutNow];
    for (const type of types) expect(node.receive(type, 2n, { term: 4, entries: entriesOf(4) })).toEqual([]);
    expect([node.terms, node.state, node.raw.raft.lead]).toEqual([[], "StateFollower", 0n]);
  });
});

describe("a leader", () => {
  function leading(options = {}): TestNode {
    const node = new TestNode(1n, { voters: [1n, 2n], ...options });
    node.lead(2n);
    node.acknowledge(2n);
    return node;
  }

  it("probes with one message until the follower answers, then sends what has come since", () => {
    const node = new TestNode(1n, { voters: [1n, 2n] });
    expect(node.lead(2n)).toHaveLength(1);
    expect([node.propose("a"), node.propose("b")]).toEqual([[], []]);
    const sent = node.acknowledge(2n, 1);
    expect(sent.map(({ index, entries }) => [index, entries.map(({ data }) => textOf(data))])).toEqual([
      [1, ["a", "b"]],
    ]);
    expect(node.committed).toBe(1);
  });

  it("sends each proposal at once where the log is known to agree, until the window is full", () => {
    const node = leading({ maxInflightMsgs: 3 });
    const counts = ["a", "b", "c", "d", "e"].map((text) => node.propose(text).length);
    expect(counts).toEqual([1, 1, 1, 0, 0]);
    // Each heartbeat that is answered lets one empty message through: its answer would free a window whose messages were lost.
    expect(node.receive(MessageType.MsgHeartbeatResp, 2n)).toMatchObject([{ type: MessageType.MsgApp, entries: [] }]);
    expect(node.propose("f")).toEqual([]);
    // The first is acknowledged: room for one message, with all that has waited.
    const [message, ...others] = node.acknowledge(2n, 2).filter(({ entries }) => entries.length > 0);
    expect([message?.entries.map(({ data }) => textOf(data)), others]).toEqual([["d", "e", "f"], []]);
    expect(node.propose("g")).toEqual([]);
    // One that comes again frees nothing.
    expect(node.acknowledge(2n, 2)).toEqual([]);
  });

  it("keeps to the bytes of the window, past which it goes by one message", () => {
    const node = leading({ maxInflightBytes: 10, maxSizePerMsg: 10 });
    expect(["123456", "123456", "1"].map((text) => node.propose(text).length)).toEqual([1, 1, 0]);
    expect(node.acknowledge(2n, 2).filter(({ entries }) => entries.length > 0)).toHaveLength(1);
  });

  it("cuts messages to the size that is asked for, at least an entry each", () => {
    const node = leading({ maxSizePerMsg: 30 });
    node.raw.reportUnreachable(2n);
    for (let i = 0; i < 9; i++) node.propose("x".repeat(4));
    node.propose("x".repeat(99));
    const sent: number[] = [];
    for (let left = 20; left > 0 && (sent.at(-1) ?? 0) < node.raw.raft.log.lastIndex(); left--) {
      for (const { entries } of node.acknowledge(2n, sent.at(-1) ?? 1)) {
        expect(entries.length).toBeLessThanOrEqual(3);
        const last = entries.at(-1);
        if (last !== undefined) sent.push(last.index);
      }
    }
    expect(sent.at(-1)).toBe(11);
  });

  it("goes back to probing when a message could not be delivered", () => {
    const node = leading();
    node.propose("a");
    node.raw.reportUnreachable(2n);
    const progress = node.raw.raft.tracker.progress.get(2n);
    expect([progress?.state, progress?.next]).toEqual(["StateProbe", 2]);
    expect(node.receive(MessageType.MsgHeartbeatResp, 2n)).toMatchObject([{ index: 1, entries: [{ index: 2 }] }]);
  });

  it("tells followers in heartbeats of what they surely have alone", () => {
    const node = new TestNode(1n);
    node.lead(2n);
    node.acknowledge(2n);
    expect(node.committed).toBe(1);
    expect(node.tick().map(({ to, type, commit }) => [to, type, commit])).toEqual([
      [2n, MessageType.MsgHeartbeat, 1],
      [3n, MessageType.MsgHeartbeat, 0],
    ]);
  });

  it("drops proposals beyond the bytes that may be uncommitted, except the first and empty ones", () => {
    const node = leading({ maxUncommittedEntriesSize: 10 });
    expect(node.propose("x".repeat(50))).toHaveLength(1);
    expect(() => node.propose("y")).toThrow(code("ERR_PROPOSAL_DROPPED"));
    expect(node.propose("")).toHaveLength(1);
    node.acknowledge(2n);
    expect(["12345", "12345"].map((text) => node.propose(text).length)).toEqual([1, 1]);
    expect(() => node.propose("y")).toThrow(code("ERR_PROPOSAL_DROPPED"));
    // A new term begins with a clean slate: what is left of the old one is not counted.
    node.receive(MessageType.MsgHeartbeat, 2n, { term: 2 });
    node.lead(2n);
    expect(node.propose("123456789")).toHaveLength(0);
    expect(node.terms).toEqual([1, 1, 1, 1, 1, 3, 3]);
  });

  it("appends several proposals together or not at all", () => {
    const node = leading({ maxUncommittedEntriesSize: 10 });
    node.raw.proposeAll([bytes("1234"), bytes("1234")]);
    expect(node.work()).toMatchObject([{ entries: [{ index: 2 }, { index: 3 }] }]);
    expect(() => node.raw.proposeAll([bytes("1"), bytes("12345")])).toThrow(code("ERR_PROPOSAL_DROPPED"));
    expect(node.terms).toHaveLength(3);
  });

  it("drops a change of configuration whose bytes are none, and goes on", () => {
    const node = leading();
    const last = node.raw.raft.log.lastIndex();
    for (const type of [EntryType.ConfChange, EntryType.ConfChangeV2]) {
      const entries = [{ term: 0, index: 0, type, data: new Uint8Array([0xff, 0xff]) }];
      const message = newMessage(MessageType.MsgProp, { from: 2n, to: 1n, entries });
      expect(() => node.raw.step(message)).toThrow(code("ERR_PROPOSAL_DROPPED"));
    }
    expect(node.raw.raft.log.lastIndex()).toBe(last);
    node.raw.propose(bytes("next"));
    expect(node.raw.raft.log.lastIndex()).toBe(last + 1);
  });

  it("has one change of configuration at a time under way: another becomes an empty entry", () => {
    const node = leading();
    node.raw.proposeConfChange({ id: 0n, type: 3, nodeId: 3n, context: new Uint8Array(0) });
    node.raw.proposeConfChange({ id: 0n, type: 3, nodeId: 4n, context: new Uint8Array(0) });
    node.work();
    expect(node.raw.raft.log.entries(2).map(({ type, data }) => [type, data.length > 0])).toEqual([
      [1, true],
      [0, false],
    ]);
    node.acknowledge(2n);
    node.raw.proposeConfChange({ id: 0n, type: 3, nodeId: 4n, context: new Uint8Array(0) });
    expect(node.raw.raft.log.entries(4)).toMatchObject([{ type: 1 }]);
  });

  it("takes no change before it has applied what was left to it", () => {
    const node = new TestNode(1n, {
      voters: [1n, 2n],
      entries: entriesOf(1),
      hardState: { term: 1, vote: 0n, commit: 0 },
    });
    node.lead(2n);
    node.raw.proposeConfChange({ id: 0n, type: 3, nodeId: 3n, context: new Uint8Array(0) });
    expect(node.raw.raft.log.entries(3)).toMatchObject([{ type: 0 }]);
  });

  it.each([true, false])(
    "that is removed steps down at once: %s, or leads on so that the others hear of it",
    (stepDown) => {
      const node = leading({ stepDownOnRemoval: stepDown });
      node.raw.proposeConfChange({ id: 0n, type: 1, nodeId: 1n, context: new Uint8Array(0) });
      node.work();
      const told = node.acknowledge(2n);
      expect(node.state).toBe(stepDown ? "StateFollower" : "StateLeader");
      expect(told).toMatchObject([{ to: 2n, commit: 2 }]);
      expect(() => node.raw.propose(bytes("x"))).toThrow(code("ERR_PROPOSAL_DROPPED"));
    },
  );

  it("commits at once what the smaller group has when a voter is removed", () => {
    const node = leading();
    node.raw.proposeConfChange({ id: 0n, type: 1, nodeId: 2n, context: new Uint8Array(0) });
    node.propose("after");
    // The other voter has the removal and not what follows, which from then on is for this node alone to commit.
    node.acknowledge(2n, 2);
    expect([node.committed, node.applied.map(({ data }) => textOf(data)).at(-1)]).toEqual([3, "after"]);
  });
});

describe("proposals", () => {
  it("are handed on to the leader, dropped where there is none, or where that is asked for", () => {
    const follower = new TestNode(1n);
    expect(() => follower.propose("early")).toThrow(code("ERR_PROPOSAL_DROPPED"));
    follower.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    expect(follower.propose("x")).toMatchObject([{ type: MessageType.MsgProp, to: 2n, from: 1n, term: 0 }]);
    const keeping = new TestNode(1n, { disableProposalForwarding: true });
    keeping.receive(MessageType.MsgHeartbeat, 2n, { term: 1 });
    expect(() => keeping.propose("x")).toThrow(code("ERR_PROPOSAL_DROPPED"));
    const candidate = new TestNode(1n);
    candidate.raw.campaign();
    expect(() => candidate.propose("x")).toThrow(code("ERR_PROPOSAL_DROPPED"));
  });

  it("reach everybody, and in one order", () => {
    const group = Group.of(3);
    group.campaign(2n);
    for (const [i, id] of [1n, 2n, 3n, 1n].entries()) group.propose(id, `p${i}`);
    for (const node of group.nodes.values()) {
      expect(node.applied.map(({ data }) => textOf(data))).toEqual(["", "p0", "p1", "p2", "p3"]);
    }
  });
});

describe("step()", () => {
  const numbered = Object.entries(MessageType);

  it.each(numbered.filter(([, type]) => isLocalMessage(type)))("refuses %s from elsewhere", (_name, type) => {
    const node = new TestNode(1n);
    expect(() => node.receive(type, 2n)).toThrow(code("ERR_STEP_LOCAL_MSG"));
  });

  it.each(numbered.filter(([, type]) => isResponseMessage(type) && !isLocalMessage(type)))(
    "refuses a stranger's %s",
    (_name, type) => {
      const node = new TestNode(1n);
      node.lead(2n);
      expect(() => node.receive(type, 9n)).toThrow(code("ERR_STEP_PEER_NOT_FOUND"));
      expect(node.state).toBe("StateLeader");
    },
  );

  it("takes any other message of a stranger: whoever has been added may not have heard of it yet", () => {
    const node = new TestNode(1n);
    expect(kinds(node.receive(MessageType.MsgHeartbeat, 9n, { term: 1 }))).toEqual(["9 MsgHeartbeatResp"]);
    expect(kinds(node.receive(MessageType.MsgVote, 8n, { term: 2 }))).toEqual(["8 MsgVoteResp"]);
  });

  const asks = (type: number): boolean =>
    type === MessageType.MsgProp || type === MessageType.MsgReadIndex || type === MessageType.MsgReadIndexResp;
  const wire = numbered.filter(([, type]) => !isLocalMessage(type));
  const requests: readonly number[] = [
    MessageType.MsgProp,
    MessageType.MsgReadIndex,
    MessageType.MsgTransferLeader,
    MessageType.MsgForgetLeader,
  ];

  it.each(wire.filter(([, type]) => !requests.includes(type)))("refuses %s without a term", (_name, type) => {
    const node = new TestNode(1n, { hardState: { term: 4, vote: 0n, commit: 0 } });
    node.raw.campaign();
    node.work();
    // As the word of a leader it would take a candidate back to term 0.
    expect(() => node.receive(type, 2n, { term: 0 })).toThrow(code("ERR_INVALID_ARGUMENT"));
    expect([node.state, node.term]).toEqual(["StateCandidate", 5]);
  });

  it.each(["MsgProp", "MsgReadIndex"] as const)("refuses %s of nothing", (name) => {
    const node = new TestNode(1n, { voters: [1n] });
    node.lead();
    expect(() => node.receive(MessageType[name], 2n)).toThrow(code("ERR_INVALID_ARGUMENT"));
  });

  it("never fails but with a code, whatever comes from other nodes", () => {
    const message = fc.record({
      type: fc.constantFrom(...wire.map(([, type]) => type)),
      from: fc.bigInt(2n, 4n),
      term: fc.nat(4),
      // Nothing that contradicts what is committed: no node of the group sends that.
      index: fc.nat(3),
      logTerm: fc.nat(3),
      reject: fc.boolean(),
      rejectHint: fc.nat(5),
      context: fc.uint8Array({ maxLength: 2 }),
    });
    const act = fc.oneof(message, fc.constant("tick"), fc.constant("propose"));
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), fc.boolean(), fc.boolean(), (acts, preVote, checkQuorum) => {
        const node = new TestNode(1n, { voters: [1n, 2n, 3n], preVote, checkQuorum });
        let term = 0;
        for (const each of acts) {
          try {
            if (each === "tick") node.tick();
            else if (each === "propose") node.propose("x");
            else {
              const entries = each.context.length > 0 ? [entry(0, 0, "r")] : [];
              // An acknowledgement of what was never sent would be a lie, and no message that comes late.
              const index = Math.min(each.index, node.raw.raft.log.lastIndex());
              node.raw.step(newMessage(each.type, { ...each, index, entries: asks(each.type) ? entries : [], to: 1n }));
            }
          } catch (error) {
            if (!(error instanceof StableLogError)) throw error;
          }
          node.work();
          expect(node.term).toBeGreaterThanOrEqual(term);
          term = node.term;
          expect(node.storage.initialState().hardState.term).toBe(term);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("a snapshot", () => {
  it("takes the place of the log, and of the configuration", () => {
    const node = new TestNode(1n, { entries: entriesOf(1, 1), hardState: { term: 1, vote: 0n, commit: 1 } });
    node.work();
    const snapshot = snapshotAt(11, 2, [1n, 4n]);
    expect(node.receive(MessageType.MsgSnap, 2n, { term: 2, snapshot })).toMatchObject([{ index: 11, reject: false }]);
    expect([node.committed, node.terms, node.raw.raft.log.lastIndex()]).toEqual([11, [], 11]);
    expect(node.raw.raft.tracker.voterNodes()).toEqual([1n, 4n]);
    expect(node.storage.snapshot()).toEqual(snapshot);
  });

  it("is ignored when it says nothing new, or does not name the node", () => {
    const node = new TestNode(1n, { entries: entriesOf(1, 1, 1), hardState: { term: 1, vote: 0n, commit: 2 } });
    node.work();
    for (const snapshot of [snapshotAt(2, 1, [1n, 2n]), snapshotAt(9, 1, [2n, 3n])]) {
      expect(node.receive(MessageType.MsgSnap, 2n, { snapshot })).toMatchObject([{ index: 2 }]);
    }
    // One that the log has reached already commits up to there, and keeps the log.
    expect(node.receive(MessageType.MsgSnap, 2n, { snapshot: snapshotAt(3, 1, [1n, 2n]) })).toMatchObject([
      { index: 3 },
    ]);
    expect([node.committed, node.terms]).toEqual([3, [1, 1, 1]]);
  });

  /** A leader whose log begins at 4, and what it knows of follower 2. */
  function behindCompaction(storage = new MemoryStorage()): TestNode {
    storage.applySnapshot(snapshotAt(3, 1, [1n, 2n]));
    const node = new TestNode(1n, { storage });
    node.lead(2n);
    return node;
  }

  it("goes to a follower that needs what was compacted, and nothing else until it has arrived", () => {
    const node = behindCompaction();
    const refusal = { index: 3, reject: true, rejectHint: 0 };
    expect(node.receive(MessageType.MsgAppResp, 2n, refusal)).toMatchObject([
      { type: MessageType.MsgSnap, snapshot: { metadata: { index: 3 } } },
    ]);
    expect(node.propose("x")).toEqual([]);
    expect(node.receive(MessageType.MsgHeartbeatResp, 2n)).toEqual([]);
    // Its acknowledgement says so by itself, with or without a report.
    const sent = node.acknowledge(2n, 3);
    expect(sent.map(({ index, entries }) => [index, entries.length])).toEqual([[3, 2]]);
    expect(node.raw.raft.tracker.progress.get(2n)?.state).toBe("StateReplicate");
  });

  it.each([
    [false, 1],
    [true, 4],
  ])("that has arrived: %s, is followed by a probe from %d on, when the follower is heard of", (arrived, next) => {
    const node = behindCompaction();
    node.receive(MessageType.MsgAppResp, 2n, { index: 3, reject: true, rejectHint: 0 });
    node.raw.reportSnapshot(2n, arrived);
    expect(node.work()).toEqual([]);
    const progress = node.raw.raft.tracker.progress.get(2n);
    expect([progress?.state, progress?.next, progress?.paused]).toEqual(["StateProbe", next, true]);
    expect(kinds(node.receive(MessageType.MsgHeartbeatResp, 2n))).toEqual([arrived ? "2 MsgApp" : "2 MsgSnap"]);
  });

  it("that is not ready is asked for again later", () => {
    let ready = false;
    class Slow extends MemoryStorage {
      override snapshot(): Snapshot {
        if (!ready) throw new StableLogError("ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE", "not yet");
        return super.snapshot();
      }
    }
    const node = behindCompaction(new Slow());
    expect(node.receive(MessageType.MsgAppResp, 2n, { index: 3, reject: true, rejectHint: 0 })).toEqual([]);
    ready = true;
    expect(kinds(node.receive(MessageType.MsgHeartbeatResp, 2n))).toEqual(["2 MsgSnap"]);
  });

  it("goes to nobody who has not been heard of", () => {
    const storage = new MemoryStorage();
    storage.applySnapshot(snapshotAt(3, 1, [1n, 2n, 3n]));
    const node = new TestNode(1n, { storage });
    node.lead(2n);
    const progress = node.raw.raft.tracker.progress.get(3n);
    progress?.becomeProbe();
    if (progress !== undefined) progress.next = 1;
    node.propose("x");
    expect(progress?.state).toBe("StateProbe");
    expect(kinds(node.receive(MessageType.MsgHeartbeatResp, 3n))).toEqual(["3 MsgSnap"]);
  });
});

describe("a read index", () => {
  const ask = (node: TestNode, context: string): Message[] => {
    node.raw.readIndex(bytes(context));
    return node.work();
  };
  const readsOf = (node: TestNode): unknown[] =>
    node.reads.map(({ index, requestContext }) => [index, textOf(requestContext)]);

  function leading(options = {}): TestNode {
    const node = new TestNode(1n, { voters: idsTo(3), ...options });
    node.lead(2n);
    node.acknowledge(2n);
    return node;
  }

  it("is what was committed when it was asked for, once a quorum confirms that the leader leads", () => {
    const node = new TestNode(1n, { voters: idsTo(5) });
    node.lead(2n, 3n);
    for (const id of [2n, 3n]) node.acknowledge(id);
    expect(ask(node, "r").map(({ to, context }) => [to, textOf(context)])).toEqual(
      [2, 3, 4, 5].map((to) => [BigInt(to), "r"]),
    );
    node.propose("later");
    for (const id of [2n, 3n]) node.acknowledge(id);
    expect(node.committed).toBe(2);
    node.receive(MessageType.MsgHeartbeatResp, 2n, { context: bytes("r") });
    node.receive(MessageType.MsgHeartbeatResp, 2n, { context: bytes("r") });
    node.receive(MessageType.MsgHeartbeatResp, 3n);
    expect(node.reads).toEqual([]);
    node.receive(MessageType.MsgHeartbeatResp, 4n, { context: bytes("r") });
    expect(readsOf(node)).toEqual([[1, "r"]]);
    // Whoever answers late answers nobody.
    node.receive(MessageType.MsgHeartbeatResp, 5n, { context: bytes("r") });
    expect(node.reads).toHaveLength(1);
  });

  it("is confirmed with all that were asked for before it", () => {
    const node = leading();
    for (const context of ["a", "b", "c"]) ask(node, context);
    node.receive(MessageType.MsgHeartbeatResp, 2n, { context: bytes("b") });
    expect(readsOf(node)).toEqual([
      [1, "a"],
      [1, "b"],
    ]);
    node.receive(MessageType.MsgHeartbeatResp, 3n, { context: bytes("c") });
    expect(readsOf(node)).toEqual([
      [1, "a"],
      [1, "b"],
      [1, "c"],
    ]);
  });

  it("rides on every heartbeat until it is confirmed: the newest, which stands for all", () => {
    const node = leading();
    const context = (): string[] => node.tick().map((heartbeat) => textOf(heartbeat.context));
    expect(context()).toEqual(["", ""]);
    ask(node, "a");
    ask(node, "b");
    expect(context()).toEqual(["b", "b"]);
    node.receive(MessageType.MsgHeartbeatResp, 2n, { context: bytes("a") });
    expect(context()).toEqual(["b", "b"]);
    node.receive(MessageType.MsgHeartbeatResp, 2n, { context: bytes("b") });
    expect(context()).toEqual(["", ""]);
  });

  it("waits until the leader has committed an entry of its term", () => {
    const node = new TestNode(1n);
    node.lead(2n);
    expect(ask(node, "early")).toEqual([]);
    const sent = node.acknowledge(2n);
    expect(sent.filter(({ type }) => type === MessageType.MsgHeartbeat).map(({ context }) => textOf(context))).toEqual([
      "early",
      "early",
    ]);
    node.receive(MessageType.MsgHeartbeatResp, 3n, { context: bytes("early") });
    expect(readsOf(node)).toEqual([[1, "early"]]);
  });

  it("is asked of the leader by followers, and answered to them", () => {
    for (const readOnlyOption of ["Safe", "LeaseBased"] as const) {
      const group = Group.of(3, { readOnlyOption, checkQuorum: true });
      group.campaign(2n);
      group.propose(2n, "x");
      group.node(1n).raw.readIndex(bytes("mine"));
      group.settle();
      expect([readsOf(group.node(1n)), group.node(2n).reads]).toEqual([[[2, "mine"]], []]);
    }
  });

  it("is asked in vain where there is no leader, or one that is one no more", () => {
    expect(ask(new TestNode(1n), "r")).toEqual([]);
    const group = Group.of(3);
    const old = group.campaign(1n);
    group.cut.add(1n);
    group.campaign(2n);
    group.propose(2n, "news");
    ask(old, "stale");
    expect([old.state, old.reads]).toEqual(["StateLeader", []]);
    group.cut.clear();
    group.tick(1n);
    group.tick(2n);
    expect([old.state, old.reads]).toEqual(["StateFollower", []]);
  });

  it("is given at once where the leader trusts its lease, or is alone", () => {
    const leased = leading({ readOnlyOption: "LeaseBased", checkQuorum: true });
    expect([ask(leased, "r"), readsOf(leased)]).toEqual([[], [[1, "r"]]]);
    const alone = new TestNode(1n, { voters: [1n], confState: { learners: [2n] } });
    alone.lead();
    expect([ask(alone, "r"), readsOf(alone)]).toEqual([[], [[1, "r"]]]);
  });

  it("is not confirmed by learners", () => {
    const node = new TestNode(1n, { voters: [1n, 2n, 3n], confState: { learners: [4n] } });
    node.lead(2n);
    node.acknowledge(2n);
    ask(node, "r");
    node.receive(MessageType.MsgHeartbeatResp, 4n, { context: bytes("r") });
    expect(node.reads).toEqual([]);
  });

  it("ReadOnly holds requests in the order in which they came, each once", () => {
    const request = (context: string): Message =>
      newMessage(MessageType.MsgReadIndex, { entries: [entry(0, 0, context)] });
    const context = fc.constantFrom("a", "b", "c", "d");
    fc.assert(
      fc.property(fc.array(fc.record({ context, add: fc.boolean() }), { maxLength: 30 }), (steps) => {
        const reads = new ReadOnly("Safe");
        let model: string[] = [];
        for (const { context: each, add } of steps) {
          if (add) {
            reads.add(1, request(each));
            if (!model.includes(each)) model.push(each);
          } else {
            const at = model.indexOf(each) + 1;
            const confirmed = reads
              .advance(bytes(each))
              .map((read) => textOf(read.request.entries[0]?.data ?? bytes("?")));
            expect(confirmed).toEqual(model.slice(0, at));
            model = model.slice(at);
          }
          const last = reads.lastContext();
          expect(last === undefined ? undefined : textOf(last)).toBe(model.at(-1));
        }
      }),
    );
  });
});

describe("leadership", () => {
  function leading(options = {}): TestNode {
    const node = new TestNode(1n, options);
    node.lead(2n);
    node.acknowledge(2n);
    return node;
  }

  it("goes at once to a follower that has everything", () => {
    const group = Group.of(3, { checkQuorum: true, preVote: true });
    group.campaign(1n);
    group.node(1n).raw.transferLeader(3n);
    group.settle();
    expect([...group.nodes.values()].map(({ state, term }) => [state, term])).toEqual([
      ["StateFollower", 2],
      ["StateFollower", 2],
      ["StateLeader", 2],
    ]);
  });

  it("goes to another one when that has caught up, and proposals wait elsewhere until then", () => {
    const node = leading();
    node.raw.transferLeader(3n);
    expect(kinds(node.work())).toEqual([]);
    expect(() => node.raw.propose(bytes("x"))).toThrow(code("ERR_PROPOSAL_DROPPED"));
    expect(kinds(node.acknowledge(3n))).toContain("3 MsgTimeoutNow");
  });

  it("stays when the other has not taken it within an election timeout", () => {
    const node = leading();
    node.raw.transferLeader(3n);
    node.tick(ELECTION_TICK - 1);
    expect(node.raw.basicStatus().leadTransferee).toBe(3n);
    node.tick();
    expect([node.raw.basicStatus().leadTransferee, node.state, node.propose("x").length > 0]).toEqual([
      0n,
      "StateLeader",
      true,
    ]);
  });

  it("may be meant for another one meanwhile; to itself it calls that off", () => {
    const node = leading();
    node.raw.transferLeader(3n);
    node.raw.transferLeader(3n);
    expect(node.work()).toEqual([]);
    node.raw.transferLeader(2n);
    expect(kinds(node.work())).toEqual(["2 MsgTimeoutNow"]);
    node.raw.transferLeader(1n);
    expect(node.raw.basicStatus().leadTransferee).toBe(0n);
  });

  it("goes to no learner and no stranger", () => {
    const node = leading({ voters: [1n, 2n], confState: { learners: [4n] } });
    for (const id of [4n, 9n]) node.raw.transferLeader(id);
    expect([node.raw.basicStatus().leadTransferee, node.work()]).toEqual([0n, []]);
    // Told to campaign all the same, a learner does not.
    const learner = new TestNode(4n, { voters: [1n, 2n], confState: { learners: [4n] } });
    expect([learner.receive(MessageType.MsgTimeoutNow, 1n, { term: 1 }), learner.state]).toEqual([[], "StateFollower"]);
  });

  it("is handed over by a follower's word as well", () => {
    const group = Group.of(3);
    group.campaign(1n);
    group.node(2n).raw.transferLeader(2n);
    group.settle();
    expect(group.node(2n).state).toBe("StateLeader");
  });

  it("is not handed to who is removed meanwhile", () => {
    const node = leading();
    node.raw.proposeConfChange({ id: 0n, type: 1, nodeId: 3n, context: new Uint8Array(0) });
    node.work();
    node.raw.transferLeader(3n);
    node.acknowledge(2n);
    expect(node.raw.basicStatus().leadTransferee).toBe(0n);
  });
});

describe("RaftConfig", () => {
  const whole: RaftConfig = {
    id: 1n,
    electionTick: 10,
    heartbeatTick: 1,
    storage: new MemoryStorage(),
    maxSizePerMsg: 1024,
    maxInflightMsgs: 256,
    random: () => 0,
  };

  it.each([
    ["no ID", { id: 0n }],
    ["the ID of a local thread", { id: 0xffffffffffffffffn }],
    ["the ID of the other one", { id: 0xfffffffffffffffen }],
    ["an ID that is a number", { id: 1 as never }],
    ["no heartbeats", { heartbeatTick: 0 }],
    ["elections as often as heartbeats", { electionTick: 1 }],
    ["half a tick", { electionTick: 10.5 }],
    ["no storage", { storage: undefined as never }],
    ["a size below nothing", { maxSizePerMsg: -1 }],
    ["a size that is no number", { maxSizePerMsg: Number.NaN }],
    ["a size of what is applied below nothing", { maxCommittedSizePerReady: -1 }],
    ["a size of what is uncommitted below nothing", { maxUncommittedEntriesSize: -1 }],
    ["bytes in flight below nothing", { maxInflightBytes: -1 }],
    ["no message in flight", { maxInflightMsgs: 0 }],
    ["half a message in flight", { maxInflightMsgs: 1.5 }],
    ["fewer bytes in flight than in a message", { maxInflightBytes: 1023 }],
    ["a lease that nobody checks", { readOnlyOption: "LeaseBased" as const }],
  ])("with %s is refused", (_what, fault) => {
    expect(() => new RawNode({ ...whole, ...fault })).toThrow(code("ERR_INVALID_ARGUMENT"));
  });

  it("is taken as it is documented", () => {
    expect(new RawNode(whole).basicStatus()).toMatchObject({ id: 1n, applied: 0 });
    expect(
      new RawNode({ ...whole, readOnlyOption: "LeaseBased", checkQuorum: true, maxInflightBytes: 1024 }),
    ).toBeDefined();
  });
});
