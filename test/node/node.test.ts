// Node, driven by its owner: Readys by iteration, raft's verdict on proposals, reads, and how it ends. And Envelope, by which a
// replica knows its own proposals again.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import { commandOf, numberOf, seal } from "../../src/node/envelope.js";
import { Node } from "../../src/node/node.js";
import { Proposals } from "../../src/node/proposals.js";
import { Reads } from "../../src/node/reads.js";
import { MessageType, newMessage } from "../../src/raftpb/message.js";
import { EntryType } from "../../src/raftpb/types.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { bytes, text, until } from "./group.js";

const coded = (code: string) => expect.objectContaining({ code });

async function made(voters: bigint[], config: Partial<ConstructorParameters<typeof Node>[0]> = {}) {
  const storage = new MemoryStorage();
  await Node.bootstrap(storage, voters);
  return { storage, node: new Node({ id: 1n, storage, tickMs: 0, ...config }) };
}

/** Saves, applies and advances until the node is stopped; keeps what was applied. */
async function drive({ node, storage }: Awaited<ReturnType<typeof made>>, applied: string[]): Promise<void> {
  for await (const ready of node) {
    await storage.save(ready);
    for (const { data } of ready.committedEntries) if (data.length > 0) applied.push(text(data));
    node.advance();
  }
}

describe("iteration", () => {
  it("gives Readys until stop(); a proposal waits for a leader and for raft's verdict, not for being applied", async () => {
    const owner = await made([1n]);
    const applied: string[] = [];
    const early = owner.node.propose(bytes("early"));
    const driven = drive(owner, applied);
    owner.node.campaign();
    await early;
    await Promise.all(["a", "b", "c"].map((each) => owner.node.propose(bytes(each))));
    await until(() => applied.length === 4);
    expect(applied).toEqual(["early", "a", "b", "c"]);
    expect(await owner.node.readIndex()).toBe(owner.storage.lastIndex());
    await owner.node.stop();
    await driven;
    await expect(owner.node.propose(bytes("late"))).rejects.toEqual(coded("ERR_CLOSED"));
    owner.node.advance();
    expect(() => owner.node.campaign()).toThrow(StableLogError);
  });

  it("gives no second Ready before advance()", async () => {
    const { node, storage } = await made([1n]);
    node.campaign();
    const readys = node[Symbol.asyncIterator]();
    const first = await readys.next();
    let second: unknown;
    const asked = readys.next().then((result) => {
      second = result;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(second).toBeUndefined();
    await storage.save(first.value);
    node.advance();
    await asked;
    expect(second).toMatchObject({ done: false });
    await node.stop();
  });

  it("has one owner at a time, and leaving the loop makes room for the next", async () => {
    const { node, storage } = await made([1n]);
    node.campaign();
    const first = node[Symbol.asyncIterator]();
    expect(() => node[Symbol.asyncIterator]()).toThrow("taken already");
    const { value } = await first.next();
    await storage.save(value);
    node.advance();
    await first.return?.();
    expect(await first.next()).toEqual({ done: true, value: undefined });
    for await (const ready of node) {
      expect(ready.softState?.raftState).toBe("StateCandidate");
      break;
    }
    await node.stop();
  });

  it("ends with the error when the storage under raft fails", async () => {
    const { node, storage } = await made([1n, 2n]);
    storage.term = () => {
      throw new StableLogError("ERR_READ", "the disk is gone");
    };
    expect(() => node.campaign()).toThrow("the disk is gone");
    await expect(node[Symbol.asyncIterator]().next()).rejects.toEqual(coded("ERR_READ"));
    await expect(node.propose(bytes("x"))).rejects.toMatchObject({ code: "ERR_CLOSED", cause: { code: "ERR_READ" } });
  });

  it("hands out several Readys before the first is answered, with asynchronous storage writes", async () => {
    const { node } = await made([1n], { asyncStorageWrites: true });
    node.campaign();
    const readys = node[Symbol.asyncIterator]();
    const answer = (messages: readonly { responses: readonly Parameters<Node["step"]>[0][] }[]): void => {
      for (const { responses } of messages) for (const response of responses) node.step(response);
    };
    // Until it leads, one step after the other.
    while (node.basicStatus().softState.raftState !== "StateLeader") answer((await readys.next()).value.messages);
    const first = (await readys.next()).value;
    await node.propose(bytes("a"));
    const second = (await readys.next()).value;
    await node.propose(bytes("b"));
    const third = (await readys.next()).value;
    expect(second.entries.map(({ data }: { data: Uint8Array }) => text(data))).toEqual(["a"]);
    expect(third.entries.map(({ data }: { data: Uint8Array }) => text(data))).toEqual(["b"]);
    expect(first.entries).toHaveLength(1);
    await node.stop();
  });
});

describe("what waits", () => {
  it("hears it when the storage under raft fails amid the step, all of it", async () => {
    const owner = await made([1n]);
    const driven = drive(owner, []).catch((error: unknown) => error);
    owner.node.campaign();
    await owner.node.propose(bytes("good"));
    owner.storage.term = owner.storage.entries = () => {
      throw new StableLogError("ERR_READ", "the disk is gone");
    };
    const proposals = Array.from({ length: 3 }, (_, i) => owner.node.propose(bytes(`${i}`)));
    for (const result of await Promise.allSettled(proposals)) {
      // Those that raft had taken when it failed were taken; nobody waits for ever.
      if (result.status === "rejected") expect(["ERR_READ", "ERR_CLOSED"]).toContain(result.reason.code);
    }
    await owner.node.stop();
    await driven;
  });

  it("fails with what raft threw when that is no verdict, and so do those behind it", () => {
    const proposals = new Proposals(1e6);
    const heard: unknown[] = [];
    const proposal = (type: EntryType) => ({
      type,
      data: new Uint8Array(4),
      cancelled: false,
      accepted: () => heard.push("accepted"),
      reject: (error: unknown) => heard.push((error as Error).message),
    });
    for (const type of [EntryType.Normal, EntryType.ConfChange, EntryType.Normal]) proposals.add(proposal(type));
    let steps = 0;
    expect(() =>
      proposals.flush(() => {
        if (++steps === 2) throw new Error("broken");
      }),
    ).toThrow("broken");
    expect(heard).toEqual(["accepted", "broken", "broken"]);
    expect(proposals.length).toBe(0);
  });

  it("is forgotten when it was cancelled: neither proposals nor reads pile up where nobody leads", () => {
    const cancelled = { cancelled: true, accepted: () => {}, resolve: () => {}, reject: () => {} };
    const reads = new Reads(5);
    const proposals = new Proposals(64 * 1024);
    let dropped = 0;
    const proposal = { type: EntryType.Normal, data: new Uint8Array(1), ...cancelled, reject: () => dropped++ };
    for (let i = 0; i < 10_000; i++) {
      reads.add(cancelled);
      proposals.add(proposal);
    }
    expect(reads.length).toBeLessThan(1000);
    expect(proposals.length).toBeLessThan(100);
    expect(dropped).toBe(0);
  });
});

describe("verdicts", () => {
  it("a proposal that the leader does not take is dropped: leadership is being handed over", async () => {
    const owner = await made([1n, 2n]);
    const driven = drive(owner, []);
    const { node } = owner;
    node.campaign();
    const vote = (type: typeof MessageType.MsgPreVoteResp | typeof MessageType.MsgVoteResp, term: number): void =>
      node.step(newMessage(type, { from: 2n, to: 1n, term }));
    await new Promise((resolve) => setImmediate(resolve));
    vote(MessageType.MsgPreVoteResp, 1);
    await new Promise((resolve) => setImmediate(resolve));
    vote(MessageType.MsgVoteResp, 1);
    expect(node.basicStatus().softState).toEqual({ lead: 1n, raftState: "StateLeader" });
    await node.propose(bytes("taken"));
    node.transferLeader(2n);
    await expect(node.propose(bytes("dropped"))).rejects.toEqual(coded("ERR_PROPOSAL_DROPPED"));
    await node.stop();
    await driven;
  });

  it("messages of strangers and of local kinds are refused with a code, and the node goes on", async () => {
    const { node } = await made([1n]);
    expect(() => node.step(newMessage(MessageType.MsgHup, { from: 2n, to: 1n }))).toThrow(
      coded("ERR_STEP_LOCAL_MSG") as never,
    );
    expect(() => node.step(newMessage(MessageType.MsgAppResp, { from: 9n, to: 1n, term: 1 }))).toThrow(
      coded("ERR_STEP_PEER_NOT_FOUND") as never,
    );
    expect(() => node.step(newMessage(MessageType.MsgApp, { from: 2n, to: 1n }))).toThrow(
      coded("ERR_INVALID_ARGUMENT") as never,
    );
    node.campaign();
    expect(node.status().softState.raftState).not.toBe("StateFollower");
    await node.stop();
  });

  it("a proposal's bytes are the caller's again once propose() has returned", async () => {
    const owner = await made([1n]);
    const applied: string[] = [];
    const driven = drive(owner, applied);
    owner.node.campaign();
    const buffer = bytes("good");
    const proposed = owner.node.propose(buffer);
    buffer.fill(0);
    await proposed;
    await until(() => applied.length > 0);
    expect(applied).toEqual(["good"]);
    await owner.node.stop();
    await driven;
  });
});

describe("Envelope", () => {
  const session = fc.uint8Array({ minLength: 8, maxLength: 8 });

  it("gives back number and command to its own session alone", () => {
    fc.assert(
      fc.property(session, session, fc.maxSafeNat(), fc.uint8Array(), (mine, other, number, command) => {
        const sealed = seal(mine, number, command);
        expect(commandOf(sealed)).toEqual(command);
        expect(numberOf(mine, sealed)).toBe(number);
        if (Buffer.compare(mine, other) !== 0) expect(numberOf(other, sealed)).toBeUndefined();
      }),
    );
  });

  it("takes what is in none as it is", () => {
    fc.assert(
      fc.property(session, fc.uint8Array(), (mine, data) => {
        fc.pre(data.length < 17 || data[0] !== 1);
        expect(commandOf(data)).toBe(data);
        expect(numberOf(mine, data)).toBeUndefined();
      }),
    );
  });
});
