// RawNode: what its Readys say and when, what an owner finds again after a restart, pages of committed entries, changes of
// configuration from proposal to application, and storage writes that are asked for by messages.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.js";
import type { RawNode } from "../../src/raft/rawnode.js";
import { mustSync } from "../../src/raft/ready.js";
import {
  type ConfChange,
  ConfChangeTransition,
  type ConfChangeV2,
  confChangesFromString,
} from "../../src/raftpb/conf-change.js";
import { LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, type Message, newMessage } from "../../src/raftpb/message.js";
import { type ConfState, EntryType, emptyConfState } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { bytes, entriesOf, entry, Group, MessageType, type NodeOptions, TestNode, textOf } from "./helpers.js";

const NOTHING = new Uint8Array(0);

function alone(options: NodeOptions = {}): TestNode {
  const node = new TestNode(1n, { voters: [1n], ...options });
  node.lead();
  return node;
}

describe("ready()", () => {
  it("says what has changed, once", () => {
    const node = new TestNode(1n, { voters: [1n] });
    expect(node.raw.hasReady()).toBe(false);
    node.raw.campaign();
    const first = node.raw.ready();
    expect(first).toMatchObject({
      softState: { lead: 0n, raftState: "StateCandidate" },
      hardState: { term: 1, vote: 1n, commit: 0 },
      entries: [],
      committedEntries: [],
      snapshot: undefined,
      mustSync: true,
    });
    void node.storage.save(first);
    node.raw.advance();
    // Its own vote is durable: that makes it the leader.
    const second = node.raw.ready();
    expect(second).toMatchObject({
      softState: { lead: 1n, raftState: "StateLeader" },
      hardState: undefined,
      entries: [{ term: 1, index: 1 }],
      committedEntries: [],
      mustSync: true,
    });
    void node.storage.save(second);
    node.raw.advance();
    const third = node.raw.ready();
    expect(third).toMatchObject({
      softState: undefined,
      hardState: { term: 1, vote: 1n, commit: 1 },
      entries: [],
      committedEntries: [{ index: 1 }],
      mustSync: false,
    });
    void node.storage.save(third);
    node.raw.advance();
    expect(node.raw.hasReady()).toBe(false);
    expect(node.raw.ready()).toMatchObject({ softState: undefined, hardState: undefined, messages: [] });
  });

  it("is not called twice without advance() between", () => {
    const node = new TestNode(1n, { voters: [1n] });
    node.raw.campaign();
    node.raw.ready();
    expect(() => node.raw.ready()).toThrow(AssertionError);
  });

  it("holds back votes and acknowledgements until what they vouch for is in it", () => {
    const node = new TestNode(1n);
    node.raw.step(newMessage(MessageType.MsgApp, { from: 2n, to: 1n, term: 1, entries: entriesOf(1) }));
    const ready = node.raw.ready();
    expect([ready.hardState?.term, ready.entries.length, ready.messages.length, ready.mustSync]).toEqual([
      1,
      1,
      1,
      true,
    ]);
  });

  it.each([
    ["nothing", {}, 0, false],
    ["the commit index alone", { commit: 2 }, 0, false],
    ["the term", { term: 2 }, 0, true],
    ["the vote", { vote: 2n }, 0, true],
    ["entries", {}, 1, true],
  ])("with %s that is new must be synced or not", (_what, fields, entries, sync) => {
    const before = { term: 1, vote: 1n, commit: 1 };
    expect(mustSync({ ...before, ...fields }, before, entries)).toBe(sync);
  });

  it("is assignable to save(), and a restart goes on from what was saved", () => {
    const before = alone();
    for (const text of ["a", "b"]) before.propose(text);
    const { hardState } = before.storage.initialState();
    expect(hardState).toEqual({ term: 1, vote: 1n, commit: 3 });
    const after = new TestNode(1n, { storage: before.storage });
    // No HardState, for it has not changed; everything committed is handed out again, for nobody has said what was applied.
    const ready = after.raw.ready();
    expect([ready.hardState, ready.softState, ready.mustSync]).toEqual([undefined, undefined, false]);
    expect(ready.committedEntries.map(({ data }) => textOf(data))).toEqual(["", "a", "b"]);
    after.raw.advance();
    expect(after.raw.hasReady()).toBe(false);
    const applied = new TestNode(1n, { storage: before.storage, applied: 2 });
    expect(applied.raw.ready().committedEntries.map(({ index }) => index)).toEqual([3]);
  });

  it("begins behind the snapshot that a node starts with", async () => {
    const before = alone();
    for (const text of ["a", "b", "c"]) before.propose(text);
    await before.storage.createSnapshot(3, undefined, bytes("state"));
    await before.storage.compact(3);
    const after = new TestNode(1n, { storage: before.storage, applied: 3 });
    expect(after.raw.ready().committedEntries.map(({ data }) => textOf(data))).toEqual(["c"]);
    expect(after.raw.raft.tracker.voterNodes()).toEqual([1n]);
  });

  it("refuses to start on a HardState that commits what is not there", () => {
    const hardState = { term: 1, vote: 0n, commit: 9 };
    const storage = new MemoryStorage();
    storage.append(entriesOf(1));
    storage.initialState = () => ({ hardState, confState: emptyConfState() });
    expect(() => new TestNode(1n, { storage })).toThrow(expect.objectContaining({ code: "ERR_CORRUPT" }) as Error);
  });
});

describe("committed entries", () => {
  it("come in pages of the size that is asked for, at least one each, and none twice", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 20 }), fc.integer({ min: 1, max: 100 }), (sizes, limit) => {
        const voters = [1n, 2n];
        const entries = sizes.map((size, i) => entry(i + 1, 1, "x".repeat(size)));
        const hardState = { term: 1, vote: 0n, commit: entries.length };
        const node = new TestNode(1n, { voters, entries, hardState, maxCommittedSizePerReady: limit });
        const indexes: number[] = [];
        while (node.raw.hasReady()) {
          const page = node.raw.ready().committedEntries;
          expect(page.length).toBeGreaterThan(0);
          if (page.length > 1) expect(page.reduce((sum, { data }) => sum + data.length, 0)).toBeLessThanOrEqual(limit);
          indexes.push(...page.map(({ index }) => index));
          node.raw.advance();
        }
        expect(indexes).toEqual(entries.map(({ index }) => index));
      }),
    );
  });

  it("come even where a message takes one entry and nothing is said of pages", () => {
    const node = alone({ maxSizePerMsg: 0 });
    node.raw.proposeAll(["a", "b", "c"].map(bytes));
    node.work();
    expect(node.applied.map(({ data }) => textOf(data))).toEqual(["", "a", "b", "c"]);
  });

  it("may be applied later than they are handed out without being handed out again", () => {
    const node = alone();
    node.raw.propose(bytes("a"));
    void node.storage.save(node.raw.ready());
    node.raw.advance();
    const ready = node.raw.ready();
    expect(ready.committedEntries).toHaveLength(1);
    node.raw.propose(bytes("b"));
    void node.storage.save(ready);
    node.raw.advance();
    expect(node.work()).toEqual([]);
    expect(node.applied.map(({ data }) => textOf(data))).toEqual(["", "b"]);
  });
});

describe("changes of configuration", () => {
  const v2 = (text: string, transition: ConfChangeTransition = ConfChangeTransition.Auto): ConfChangeV2 => ({
    transition,
    changes: confChangesFromString(text),
    context: NOTHING,
  });
  const v1 = (text: string): ConfChange =>
    ({ id: 0n, context: NOTHING, ...confChangesFromString(text)[0] }) as ConfChange;
  const state = (fields: Partial<ConfState>): ConfState => ({ ...emptyConfState(), ...fields });

  /** A group of one, led, that has applied a change; the new nodes are named and not there. */
  function changedBy(change: ConfChange | ConfChangeV2): TestNode {
    const node = alone();
    node.raw.proposeConfChange(change);
    node.work();
    return node;
  }
  const confStateOf = (node: TestNode): ConfState => node.raw.raft.tracker.confState();

  it.each([
    ["v1", v1("v2"), state({ voters: [1n, 2n] })],
    ["v1, a learner", v1("l2"), state({ voters: [1n], learners: [2n] })],
    ["v2", v2("v2"), state({ voters: [1n, 2n] })],
    [
      "v2, a learner, though it says two things",
      v2("l2 l3"),
      state({ voters: [1n], votersOutgoing: [1n], learners: [2n, 3n], autoLeave: true }),
    ],
    ["v2, two voters", v2("v2 v3"), state({ voters: [1n, 2n, 3n], votersOutgoing: [1n], autoLeave: true })],
    ["v2, explicit", v2("v2", ConfChangeTransition.JointExplicit), state({ voters: [1n, 2n], votersOutgoing: [1n] })],
    [
      "v2, implicit",
      v2("v2 l3", ConfChangeTransition.JointImplicit),
      state({ voters: [1n, 2n], votersOutgoing: [1n], learners: [3n], autoLeave: true }),
    ],
  ])("%s: is applied when it is committed", (_how, change, expected) => {
    const node = alone();
    node.raw.proposeConfChange(change);
    const states: ConfState[] = [];
    // One application at a time, as the first one may call for leaving what it has entered.
    while (node.raw.hasReady() && states.length === 0) {
      const ready = node.raw.ready();
      void node.storage.save(ready);
      for (const { type } of ready.committedEntries) if (type !== 0) states.push(node.raw.applyConfChange(change));
      node.raw.advance();
    }
    expect(states).toEqual([expected]);
  });

  it("through a joint configuration is left by itself where the learners need not be asked", () => {
    const node = changedBy(v2("l2 l3"));
    expect(confStateOf(node)).toEqual(state({ voters: [1n], learners: [2n, 3n] }));
    // The leader proposed an empty change, which everybody applies.
    expect(node.applied.map(({ type, data }) => [type, data.length > 0])).toEqual([
      [EntryType.Normal, false],
      [EntryType.ConfChangeV2, true],
      [EntryType.ConfChangeV2, false],
    ]);
  });

  it("through a joint configuration stays there until it is told to leave, where that is asked for", () => {
    const node = changedBy(v2("l2 l3", ConfChangeTransition.JointExplicit));
    expect(confStateOf(node)).toEqual(state({ voters: [1n], votersOutgoing: [1n], learners: [2n, 3n] }));
    // Nothing else is taken meanwhile.
    node.raw.proposeConfChange(v2("r2"));
    node.work();
    expect(confStateOf(node).votersOutgoing).toEqual([1n]);
    node.raw.proposeConfChange(v2(""));
    node.work();
    expect(confStateOf(node)).toEqual(state({ voters: [1n], learners: [2n, 3n] }));
  });

  it("made twice is made once", () => {
    const node = changedBy(v1("l2"));
    node.raw.proposeConfChange(v1("l2"));
    node.work();
    expect(confStateOf(node)).toEqual(state({ voters: [1n], learners: [2n] }));
  });

  it("brings nodes in that begin as the group did", () => {
    const first = alone();
    // The log goes back to the beginning, and says nothing of whom it began with.
    const joining = [2n, 3n].map((id) => new TestNode(id, { voters: [1n] }));
    const group = new Group(first, ...joining);
    first.raw.proposeConfChange(v2("v2 v3"));
    group.settle();
    group.tick(1n, 2);
    group.propose(1n, "together");
    for (const node of group.nodes.values()) {
      expect(node.applied.map(({ data }) => textOf(data)).at(-1)).toBe("together");
      expect(confStateOf(node)).toEqual(state({ voters: [1n, 2n, 3n] }));
    }
  });
});

describe("status()", () => {
  it("tells what a leader knows, in copies", () => {
    const node = new TestNode(1n, { voters: [1n, 2n] });
    expect(node.raw.status()).toMatchObject({ id: 1n, applied: 0, hardState: { term: 0 }, softState: { lead: 0n } });
    expect(node.raw.status().progress.size).toBe(0);
    node.lead(2n);
    node.acknowledge(2n);
    const status = node.raw.status();
    expect(status).toMatchObject({
      hardState: { term: 1, vote: 1n, commit: 1 },
      softState: { lead: 1n, raftState: "StateLeader" },
      applied: 1,
      leadTransferee: 0n,
    });
    expect(String(status.progress)).toBe("1: StateReplicate match=1 next=2\n2: StateReplicate match=1 next=2\n");
    status.progress.get(2n)?.becomeSnapshot(99);
    status.config.voters.incoming.clear();
    expect(String(node.raw.status().progress.get(2n))).toBe("StateReplicate match=1 next=2");
    expect(node.raw.basicStatus()).not.toHaveProperty("progress");
  });
});

describe("asynchronous storage writes", () => {
  function leading(): { raw: RawNode; storage: MemoryStorage; sent: Message[] } {
    const { raw, storage } = new TestNode(1n, { voters: [1n, 2n, 3n], asyncStorageWrites: true });
    const sent: Message[] = [];
    raw.campaign();
    for (let left = 10; raw.hasReady() && left > 0; left--) {
      for (const message of raw.ready().messages) perform(raw, storage, message, sent);
    }
    raw.step(newMessage(MessageType.MsgVoteResp, { from: 2n, to: 1n, term: 1 }));
    return { raw, storage, sent };
  }

  /** Does what a message to a local thread asks for, at once; notes one to another node. */
  function perform(raw: RawNode, storage: MemoryStorage, message: Message, sent: Message[]): void {
    if (message.to === LOCAL_APPEND_THREAD) {
      const { term, vote, commit, entries, snapshot } = message;
      void storage.save({ hardState: { term, vote, commit }, entries, snapshot });
    } else if (message.to !== LOCAL_APPLY_THREAD) {
      sent.push(message);
      return;
    }
    for (const response of message.responses) {
      if (response.to === 1n) raw.step(response);
      else sent.push(response);
    }
  }

  it("are asked for by messages, and advance() is not called", () => {
    const { raw } = leading();
    const ready = raw.ready();
    const append = ready.messages.find(({ to }) => to === LOCAL_APPEND_THREAD);
    expect(append).toMatchObject({ type: MessageType.MsgStorageAppend, from: 1n, entries: [{ term: 1, index: 1 }] });
    expect(append?.responses).toMatchObject([
      { type: MessageType.MsgAppResp, to: 1n, index: 1 },
      { type: MessageType.MsgStorageAppendResp, to: 1n, from: LOCAL_APPEND_THREAD, index: 1, logTerm: 1 },
    ]);
    expect(() => raw.advance()).toThrow(AssertionError);
  });

  it("may be several under way, of which none is asked for twice", () => {
    const { raw } = leading();
    const asked: number[][] = [];
    for (const text of ["", "a", "b"]) {
      if (text !== "") raw.propose(bytes(text));
      for (const { to, entries } of raw.ready().messages) {
        if (to === LOCAL_APPEND_THREAD) asked.push(entries.map(({ index }) => index));
      }
    }
    expect([asked, raw.hasReady()]).toEqual([[[1], [2], [3]], false]);
  });

  it("count when they are done: a leader's own entry is committed by others before, and applied after", () => {
    const { raw, storage, sent } = leading();
    const [append] = raw.ready().messages.filter(({ to }) => to === LOCAL_APPEND_THREAD);
    for (const from of [2n, 3n]) raw.step(newMessage(MessageType.MsgAppResp, { from, to: 1n, term: 1, index: 1 }));
    const committed = raw.ready();
    expect([committed.hardState?.commit, committed.committedEntries]).toEqual([1, []]);
    perform(raw, storage, append as Message, sent);
    const ready = raw.ready();
    expect(ready.committedEntries.map(({ index }) => index)).toEqual([1]);
    const apply = ready.messages.find(({ to }) => to === LOCAL_APPLY_THREAD);
    expect(apply).toMatchObject({ type: MessageType.MsgStorageApply, entries: [{ index: 1 }] });
    expect(raw.basicStatus().applied).toBe(0);
    perform(raw, storage, apply as Message, sent);
    expect(raw.basicStatus().applied).toBe(1);
  });

  it("of an earlier term say nothing of what stands there now: entries may have been replaced and put back", () => {
    const voters = [1n, 2n, 3n];
    const { raw } = new TestNode(1n, { voters, asyncStorageWrites: true });
    const appends: Message[] = [];
    const take = (from: bigint, term: number, ...entryTerms: number[]): void => {
      const entries = entryTerms.map((each, i) => entry(i + 1, each));
      raw.step(newMessage(MessageType.MsgApp, { from, to: 1n, term, entries }));
      appends.push(...raw.ready().messages.filter(({ to }) => to === LOCAL_APPEND_THREAD));
    };
    // A, B, A: the entry of term 1 is replaced by one of term 2 and comes back with the leader of term 3.
    take(2n, 1, 1);
    take(3n, 2, 2);
    take(2n, 3, 1, 3);
    const { unstable } = raw.raft.log;
    const done = (at: number): void => {
      for (const response of appends[at]?.responses ?? []) if (response.to === 1n) raw.step(response);
    };
    done(0);
    expect(unstable.offset).toBe(1);
    done(1);
    expect(unstable.offset).toBe(1);
    done(2);
    expect(unstable.offset).toBe(3);
  });
});
