// Replica: what a driven group promises to who proposes and reads, over both ways of writing, with members that come, go, fall
// behind and fail.

import { describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { Node } from "../../src/node/node.js";
import type { WritableStorage } from "../../src/raft/storage.js";
import { ConfChangeTransition, ConfChangeType, type ConfChangeV2 } from "../../src/raftpb/conf-change.js";
import { MessageType, newMessage } from "../../src/raftpb/message.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { LocalNetwork } from "../../src/testing/local-network.js";
import { bytes, Group, type GroupOptions, History, until } from "./group.js";

const code = (code: string) => expect.objectContaining({ code });

function change(type: ConfChangeType, nodeId: bigint, context = ""): ConfChangeV2 {
  return { transition: ConfChangeTransition.Auto, changes: [{ type, nodeId }], context: bytes(context) };
}

async function withGroup(voters: bigint[], options: GroupOptions, run: (group: Group) => Promise<void>): Promise<void> {
  const group = await Group.of(voters, options);
  try {
    await run(group);
  } finally {
    await group.close();
  }
}

const fileStorage = (): ((id: bigint) => Promise<WritableStorage>) => {
  const disk = new MemoryDisk();
  return (id) => FileStorage.open(`/node-${id}`, { disk, snapshotBytes: 0 });
};

const kinds: readonly [string, GroupOptions][] = [
  ["one Ready at a time", {}],
  ["one Ready at a time, MsgApp sent before the save", { run: { sendBeforeSave: true } }],
  ["asynchronous storage writes", { config: { asyncStorageWrites: true } }],
  ["asynchronous storage writes to files", { config: { asyncStorageWrites: true }, storage: fileStorage() }],
  ["one Ready at a time to files", { storage: fileStorage() }],
];

describe.each(kinds)("%s", (_name, options) => {
  // Each test has files of its own.
  const fresh = (): GroupOptions => (options.storage === undefined ? options : { ...options, storage: fileStorage() });

  it("a group of one answers proposals with the state machine's results, in order", async () => {
    await withGroup([1n], fresh(), async (group) => {
      const { replica, machine } = group.member(1n);
      const results = await Promise.all(Array.from({ length: 100 }, (_, i) => replica.propose(bytes(`c${i}`))));
      expect(results).toEqual(Array.from({ length: 100 }, (_, i) => `${i + 1}:c${i}`));
      expect(machine.commands).toHaveLength(100);
      expect(replica.stats()).toMatchObject({ waiting: 0, refusedMessages: 0 });
    });
  });

  it("three members take proposals at any of them and end up equal", async () => {
    await withGroup([1n, 2n, 3n], fresh(), async (group) => {
      await group.leader();
      const calls: Promise<string>[] = [];
      for (let i = 0; i < 300; i++) calls.push(group.member(BigInt((i % 3) + 1)).replica.propose(bytes(`c${i}`)));
      const results = await Promise.all(calls);
      expect(new Set(results.map((result) => Number(result.split(":")[0]))).size).toBe(300);
      const all = [1n, 2n, 3n].map((id) => group.member(id));
      await until(() => all.every(({ machine }) => machine.commands.length === 300));
      const [first, ...others] = all.map(({ machine }) => machine.commands);
      for (const other of others) expect(other).toEqual(first);
      expect([...(first ?? [])].sort()).toEqual(Array.from({ length: 300 }, (_, i) => `c${i}`).sort());
    });
  });

  it("a read at any member sees every write that was answered before it", async () => {
    await withGroup([1n, 2n, 3n], fresh(), async (group) => {
      await group.leader();
      for (let i = 0; i < 20; i++) {
        await group.member(BigInt((i % 3) + 1)).replica.propose(bytes(`c${i}`));
        const reader = group.member(BigInt(((i + 1) % 3) + 1));
        await reader.replica.read();
        expect(reader.machine.commands).toContain(`c${i}`);
      }
    });
  });

  it("goes on with another leader when the first one goes, and brings it up to date when it is back", async () => {
    await withGroup([1n, 2n, 3n], fresh(), async (group) => {
      const first = await group.leader();
      await first.replica.propose(bytes("before"));
      await group.stop(first.id);
      const second = await group.leader();
      expect(second.id).not.toBe(first.id);
      await second.replica.propose(bytes("without"));
      const back = await group.start(first.id);
      await until(() => back.machine.commands.length === 2);
      expect(back.machine.commands).toEqual(["before", "without"]);
    });
  });

  it("a member that joins is sent a snapshot, and one that is removed hears of nothing more", async () => {
    await withGroup([1n, 2n, 3n], fresh(), async (group) => {
      const leader = await group.leader();
      for (let i = 0; i < 10; i++) await leader.replica.propose(bytes(`c${i}`));
      const joining = await group.start(4n);
      const added = await leader.replica.proposeConfChange(change(ConfChangeType.AddNode, 4n, "at home"));
      expect(added.voters).toEqual([1n, 2n, 3n, 4n]);
      await until(() => joining.machine.commands.length === 10);
      expect(joining.replica.stats().snapshotsReceived).toBe(1);
      expect(joining.replica.confState.voters).toEqual([1n, 2n, 3n, 4n]);
      expect(leader.machine.contexts.at(-1)).toBe("at home");
      const removed = await leader.replica.proposeConfChange(change(ConfChangeType.RemoveNode, 4n));
      expect(removed.voters).toEqual([1n, 2n, 3n]);
      await leader.replica.propose(bytes("after"));
      await until(() => group.member(2n).machine.commands.length === 11);
      expect(joining.machine.commands).toHaveLength(10);
    });
  });

  it("makes snapshots, compacts behind them, and sends one to a member that fell behind", async () => {
    const run = { ...options.run, snapshotEntries: 20, keepEntries: 5 };
    await withGroup([1n, 2n, 3n], { ...fresh(), run }, async (group) => {
      const leader = await group.leader();
      const behind = [1n, 2n, 3n].find((id) => id !== leader.id) as bigint;
      await group.stop(behind);
      for (let i = 0; i < 100; i++) await leader.replica.propose(bytes(`c${i}`));
      await until(() => leader.storage.firstIndex() > 50);
      expect(leader.replica.stats().snapshotsMade).toBeGreaterThanOrEqual(3);
      const back = await group.start(behind);
      await until(() => back.machine.commands.length === 100);
      expect(back.replica.stats().snapshotsReceived).toBe(1);
      expect(back.machine.commands).toEqual(leader.machine.commands);
      await leader.replica.propose(bytes("more"));
      await until(() => back.machine.commands.length === 101);
    });
  });

  it("a restart applies from the snapshot on what was committed, each command once", async () => {
    const run = { ...options.run, snapshotEntries: 7, keepEntries: 3 };
    await withGroup([1n], { ...fresh(), run }, async (group) => {
      const expected: string[] = [];
      for (let round = 0; round < 5; round++) {
        const { replica, machine } = group.member(1n);
        for (let i = 0; i < 10; i++) {
          expected.push(`${round}.${i}`);
          await replica.propose(bytes(`${round}.${i}`));
        }
        expect(machine.commands).toEqual(expected);
        await group.stop(1n);
        await group.start(1n);
      }
      await group.member(1n).replica.read();
      expect(group.member(1n).machine.commands).toEqual(expected);
    });
  });

  it("stop() answers everybody who waits, and takes nothing more", async () => {
    await withGroup([1n, 2n, 3n], fresh(), async (group) => {
      const leader = await group.leader();
      let open = (): void => {};
      leader.machine.gate = new Promise((resolve) => {
        open = resolve;
      });
      const proposal = leader.replica.propose(bytes("never"));
      const read = leader.replica.read();
      const heard = Promise.allSettled([proposal, read]);
      const stopping = leader.replica.stop();
      open();
      await stopping;
      await leader.replica.done;
      for (const result of await heard) {
        expect(result).toMatchObject({ status: "rejected", reason: code("ERR_CLOSED") });
      }
      await expect(leader.replica.propose(bytes("late"))).rejects.toEqual(code("ERR_CLOSED"));
      await expect(leader.replica.read()).rejects.toEqual(code("ERR_CLOSED"));
      await expect(leader.node.propose(bytes("late"))).rejects.toEqual(code("ERR_CLOSED"));
      expect(() => leader.node.campaign()).toThrow(StableLogError);
    });
  });
});

describe("a state machine that takes its time", () => {
  it("keeps no heartbeat from leaving, and a leader stays one", async () => {
    await withGroup([1n, 2n, 3n], {}, async (group) => {
      const leader = await group.leader();
      const { term } = leader.node.basicStatus().hardState;
      let open = (): void => {};
      leader.machine.gate = new Promise((resolve) => {
        open = resolve;
      });
      const answer = leader.replica.propose(bytes("slow"));
      // Several election timeouts of its followers, told by their own ticks.
      let ticks = 0;
      const follower = group.member([1n, 2n, 3n].find((id) => id !== leader.id) as bigint);
      const { tick } = follower.node;
      follower.node.tick = () => {
        ticks++;
        tick.call(follower.node);
      };
      await until(() => ticks > 60);
      open();
      await answer;
      expect(leader.node.basicStatus()).toMatchObject({ hardState: { term }, softState: { lead: leader.id } });
    });
  });

  it("lets nobody read while it takes a snapshot in", async () => {
    const run = { snapshotEntries: 10, keepEntries: 0 };
    await withGroup([1n, 2n, 3n], { run }, async (group) => {
      const leader = await group.leader();
      const behind = [1n, 2n, 3n].find((id) => id !== leader.id) as bigint;
      await group.stop(behind);
      for (let i = 0; i < 50; i++) await leader.replica.propose(bytes(`${i}`));
      await until(() => leader.storage.firstIndex() > 20);
      const machine = new History();
      const { restore } = machine;
      let open = (): void => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      let restoring = false;
      machine.restore = async (data) => {
        // The first one is its own, at its start.
        restoring = machine.restores > 0;
        if (restoring) {
          machine.commands = [];
          await gate;
        }
        await restore.call(machine, data);
      };
      const started = group.start(behind, machine);
      await until(() => restoring);
      const back = await started;
      let seen = -1;
      // The late answer to a request of before: what it asks for was applied, and is gone for the moment.
      back.node.readIndex = () => Promise.resolve(back.replica.applied);
      const read = back.replica.read().then(() => {
        seen = machine.commands.length;
      });
      await new Promise((resolve) => setImmediate(resolve));
      const amid = seen;
      open();
      await read;
      expect(amid).toBe(-1);
      expect(seen).toBeGreaterThan(20);
    });
  });
});

describe("a run that fails to start", () => {
  it("stops node and transport, and nobody waits", async () => {
    const storage = new MemoryStorage();
    await Node.bootstrap(storage, [1n]);
    const node = new Node({ id: 1n, storage });
    const transport = new LocalNetwork().transport(1n);
    transport.start = () => Promise.reject(new Error("no port"));
    const early = node.propose(bytes("early"));
    const heard = early.catch((error: unknown) => error);
    await expect(node.run({ storage, transport, stateMachine: new History() })).rejects.toThrow("no port");
    expect(await heard).toEqual(code("ERR_CLOSED"));
    await expect(node.propose(bytes("late"))).rejects.toEqual(code("ERR_CLOSED"));
  });
});

describe("what is refused", () => {
  it("a proposal that is too long", async () => {
    await withGroup([1n], { config: { maxProposalBytes: 100 } }, async (group) => {
      const { replica, node } = group.member(1n);
      await expect(replica.propose(new Uint8Array(200))).rejects.toEqual(code("ERR_TOO_LARGE"));
      await expect(node.propose(new Uint8Array(200))).rejects.toEqual(code("ERR_TOO_LARGE"));
      expect(replica.stats().waiting).toBe(0);
      await replica.propose(new Uint8Array(50));
    });
  });

  it("a second change of configuration while one is under way", async () => {
    await withGroup([1n, 2n, 3n], {}, async (group) => {
      const leader = await group.leader();
      // Reads wait until the leader has committed in its term; a change before that is refused, too.
      await leader.replica.read();
      const first = leader.replica.proposeConfChange(change(ConfChangeType.AddLearnerNode, 4n));
      const second = leader.replica.proposeConfChange(change(ConfChangeType.AddLearnerNode, 5n));
      await expect(second).rejects.toEqual(code("ERR_PROPOSAL_DROPPED"));
      expect((await first).learners).toEqual([4n]);
    });
  });

  it("proposals beyond maxWaitingBytes where nobody leads; the others wait until their signal ends it", async () => {
    const group = new Group({ config: { maxWaitingBytes: 1000, tickMs: 0 } });
    try {
      await Node.bootstrap(await group.storage(1n), [1n, 2n]);
      const { replica, node } = await group.start(1n);
      const controller = new AbortController();
      const waiting = replica.propose(new Uint8Array(900), { signal: controller.signal });
      const reading = node.readIndex({ signal: controller.signal });
      await expect(replica.propose(new Uint8Array(900))).rejects.toEqual(code("ERR_PROPOSAL_DROPPED"));
      controller.abort(new Error("enough"));
      await expect(waiting).rejects.toThrow("enough");
      await expect(reading).rejects.toThrow("enough");
      expect(replica.stats().waiting).toBe(0);
      await expect(replica.propose(bytes("x"), { signal: controller.signal })).rejects.toThrow("enough");
    } finally {
      await group.close();
    }
  });

  it("messages that nobody should have sent are counted, and nothing else happens", async () => {
    await withGroup([1n], {}, async (group) => {
      const { replica, node } = group.member(1n);
      await replica.propose(bytes("a"));
      const { term } = node.basicStatus().hardState;
      const stranger = group.network.transport(9n);
      stranger.send([
        newMessage(MessageType.MsgAppResp, { from: 9n, to: 1n, term: term + 5 }),
        newMessage(MessageType.MsgHup, { from: 9n, to: 1n }),
        newMessage(MessageType.MsgStorageAppendResp, { from: 9n, to: 1n, index: 100 }),
      ]);
      await until(() => replica.stats().refusedMessages === 3);
      expect(node.basicStatus().hardState.term).toBe(term);
      await replica.propose(bytes("b"));
    });
  });

  it("options that make no sense, another storage, a second owner", async () => {
    const storage = new MemoryStorage();
    await Node.bootstrap(storage, [1n]);
    await expect(Node.bootstrap(storage, [1n])).rejects.toEqual(code("ERR_INVALID_ARGUMENT"));
    expect(() => new Node({ id: 1n, storage, tickMs: -1 })).toThrow("tickMs");
    expect(() => new Node({ id: 0n, storage })).toThrow("id must be");
    const node = new Node({ id: 1n, storage, tickMs: 0 });
    const transport = new LocalNetwork().transport(1n);
    const stateMachine = new History();
    const wrong = { storage: new MemoryStorage(), transport, stateMachine };
    await expect(node.run(wrong)).rejects.toEqual(code("ERR_INVALID_ARGUMENT"));
    const negative = { storage, transport, stateMachine, snapshotEntries: 0 };
    await expect(node.run(negative)).rejects.toEqual(code("ERR_INVALID_ARGUMENT"));
    await node.stop();
    await expect(node.run({ storage, transport, stateMachine })).rejects.toEqual(code("ERR_CLOSED"));
  });
});

describe("what stops a replica", () => {
  it("a state machine that throws: everybody hears its error as the cause", async () => {
    await withGroup([1n], {}, async (group) => {
      const { replica, machine } = group.member(1n);
      await replica.propose(bytes("good"));
      machine.apply = () => Promise.reject(new Error("no such command"));
      const error = await replica.propose(bytes("bad")).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: "ERR_CLOSED", cause: { message: "no such command" } });
      await expect(replica.done).rejects.toThrow("no such command");
      await expect(replica.propose(bytes("late"))).rejects.toEqual(code("ERR_CLOSED"));
    });
  });

  it("a state machine that does not answer every command", async () => {
    await withGroup([1n], {}, async (group) => {
      const { replica, machine } = group.member(1n);
      machine.apply = async () => [];
      await expect(replica.propose(bytes("c"))).rejects.toEqual(code("ERR_CLOSED"));
      await expect(replica.done).rejects.toThrow("0 results for 1 commands");
    });
  });

  it.each([true, false])("a storage that fails, asynchronous storage writes: %s", async (asyncStorageWrites) => {
    await withGroup([1n], { config: { asyncStorageWrites } }, async (group) => {
      const { replica, storage } = group.member(1n);
      await replica.propose(bytes("good"));
      storage.save = () => Promise.reject(new StableLogError("ERR_IO", "the disk is gone"));
      await expect(replica.propose(bytes("bad"))).rejects.toMatchObject({
        code: "ERR_CLOSED",
        cause: { code: "ERR_IO" },
      });
      await expect(replica.done).rejects.toEqual(code("ERR_IO"));
    });
  });

  it("a snapshot for which there is no room stops nothing, and is tried again", async () => {
    await withGroup([1n], { run: { snapshotEntries: 8, keepEntries: 0 } }, async (group) => {
      const { replica, storage } = group.member(1n);
      const { createSnapshot } = storage;
      storage.createSnapshot = () => Promise.reject(new StableLogError("ERR_NO_SPACE", "full"));
      for (let i = 0; i < 12; i++) await replica.propose(bytes(`${i}`));
      expect(replica.stats()).toMatchObject({ snapshotsMade: 0, snapshotError: code("ERR_NO_SPACE") });
      storage.createSnapshot = createSnapshot.bind(storage);
      for (let i = 0; i < 12; i++) await replica.propose(bytes(`${i}`));
      await until(() => replica.stats().snapshotsMade > 0);
      expect(replica.stats().snapshotError).toBeUndefined();
    });
  });
});
