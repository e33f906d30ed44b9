// RaftCluster: a group of raft nodes in one process, driven by a seed: messages are lost, delayed, reordered and sent twice,
// links are cut, nodes crash without what was not durable and come back, the configuration changes, logs are compacted and
// snapshots sent. After every step raft's safety properties are checked (raft, figure 3):
//
//   election safety        no term has two leaders
//   log matching           an entry of one index and term is the same everywhere, and follows the same entry
//   leader completeness    a new leader has everything that is committed
//   state machine safety   no two nodes apply different entries at an index; none is applied twice by a node, or left out
//
// and that a read is never allowed from before what was committed when it was asked for. At the end everything heals, and
// what was acknowledged must be applied by every member. Run by test/raft/cluster.test.ts.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import { RawNode } from "../raft/rawnode.js";
import {
  asConfChangeV2,
  type ConfChangeSingle,
  ConfChangeTransition,
  ConfChangeType,
  decodeConfChange,
} from "../raftpb/conf-change.js";
import { isLocalThread, type Message, MessageType } from "../raftpb/message.js";
import { type ConfState, type Entry, EntryType, emptyConfState, isEmptyHardState } from "../raftpb/types.js";
import { MemoryStorage } from "../storage/memory-storage.js";
import { Random } from "./random.js";

/** A safety property that did not hold, or an invariant that broke: the message has seed and step, which bring it back. */
export class ClusterFailure extends Error {
  constructor(seed: number, step: number, message: string) {
    super(`SEED=${seed} STEP=${step}: ${message}`);
    this.name = "ClusterFailure";
  }
}

/** What happened in runs: proof that they were no idle ones. */
export interface ClusterCounts {
  steps: number;
  /** Elections won. */
  leaders: number;
  /** Indexes committed. */
  committed: number;
  /** Commands whose proposer was told where they stand; none of them may be lost. */
  acknowledged: number;
  crashes: number;
  /** Snapshots that were taken in place of a log. */
  snapshots: number;
  /** Changes of configuration applied, by each node. */
  confChanges: number;
  /** Reads that were answered. */
  reads: number;
}

/** Counts at zero, for one run or many. */
export function newClusterCounts(): ClusterCounts {
  return { steps: 0, leaders: 0, committed: 0, acknowledged: 0, crashes: 0, snapshots: 0, confChanges: 0, reads: 0 };
}

/** What a node has applied, and can be had again from a snapshot. */
interface Applied {
  index: number;
  /** The index at which each command was applied. */
  commands: Map<number, number>;
  confState: ConfState;
}

interface Node {
  readonly id: bigint;
  readonly storage: MemoryStorage;
  /** What is sure to be there after a crash: a commit index that was not synced is not. */
  syncedCommit: number;
  /** Undefined while it is down. */
  raw: RawNode | undefined;
  applied: Applied;
  appendWork: Message[];
  applyWork: Message[];
  /** Commands proposed here that nobody has had an answer to; they are forgotten in a crash. */
  waiting: Set<number>;
  reads: Map<number, number>;
}

const MAX_NODES = 6;

/**
 * A cluster of three or five nodes of this package's raft core, and its run: all that happens is drawn from the seed, so the
 * same seed is the same run. Adds to `counts` what happened.
 *
 *     for (let seed = 1; seed <= 1000; seed++) new RaftCluster(seed).run(1500);
 */
export class RaftCluster {
  readonly #seed: number;
  readonly #random: Random;
  readonly #counts: ClusterCounts;
  readonly #nodes: Node[] = [];
  #network: Message[] = [];
  /** Pairs of nodes between which nothing gets through. */
  readonly #cut = new Set<string>();
  #step = 0;
  #nextCommand = 1;
  #nextRead = 1;
  // What the properties are checked by.
  readonly #leaders = new Map<number, bigint>();
  /** Term and index of every entry ever appended, with what it is and the term before it. */
  readonly #entries = new Map<string, string>();
  /** What was applied first at each index. */
  readonly #history = new Map<number, string>();
  readonly #committedTerms = new Map<number, number>();
  #committed = 0;
  readonly #acknowledged = new Map<number, number>();
  readonly #config: {
    readonly size: number;
    readonly async: boolean;
    readonly preVote: boolean;
    readonly checkQuorum: boolean;
    readonly inflight: number;
    readonly maxSize: number;
    readonly stepDownOnRemoval: boolean;
  };

  constructor(seed: number, counts: ClusterCounts = newClusterCounts()) {
    this.#seed = seed;
    this.#counts = counts;
    const random = new Random(seed);
    this.#random = random;
    this.#config = {
      size: random.pick([3, 5]),
      async: random.chance(0.5),
      preVote: random.chance(0.5),
      checkQuorum: random.chance(0.5),
      inflight: random.pick([1, 3, 256]),
      maxSize: random.pick([1, 60, 1 << 20]),
      stepDownOnRemoval: random.chance(0.5),
    };
    const voters = Array.from({ length: this.#config.size }, (_, i) => BigInt(i + 1));
    for (const id of voters) this.#add(id, voters);
  }

  /** Runs so many steps, heals everything, and checks that the cluster works and has lost nothing. @throws ClusterFailure */
  run(steps: number): void {
    for (; this.#step < steps; this.#step++) this.#guarded(() => this.#act());
    this.#guarded(() => this.#heal());
    this.#counts.steps += this.#step;
    this.#counts.committed += this.#committed;
    this.#counts.acknowledged += this.#acknowledged.size;
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (error instanceof ClusterFailure) throw error;
      throw new ClusterFailure(
        this.#seed,
        this.#step,
        error instanceof Error ? (error.stack ?? error.message) : String(error),
      );
    }
  }

  #fail(message: string): never {
    throw new ClusterFailure(this.#seed, this.#step, message);
  }

  // ---- nodes

  #add(id: bigint, voters: readonly bigint[]): void {
    const storage = new MemoryStorage();
    const confState = { ...emptyConfState(), voters: [...voters] };
    // All begin with the same snapshot; who joins later begins with nothing.
    if (voters.length > 0)
      storage.applySnapshot({ metadata: { index: 2, term: 1, confState }, data: encode(new Map()) });
    const node: Node = {
      id,
      storage,
      syncedCommit: 0,
      raw: undefined,
      applied: { index: 0, commands: new Map(), confState: emptyConfState() },
      appendWork: [],
      applyWork: [],
      waiting: new Set(),
      reads: new Map(),
    };
    this.#nodes.push(node);
    this.#start(node);
  }

  #start(node: Node): void {
    const { metadata, data } = node.storage.snapshot();
    const { index, confState } = metadata;
    node.applied = { index, commands: index === 0 ? new Map() : decode(data), confState };
    const { async, preVote, checkQuorum, inflight, maxSize, stepDownOnRemoval } = this.#config;
    node.raw = new RawNode({
      id: node.id,
      electionTick: 10,
      heartbeatTick: 1,
      storage: node.storage,
      applied: index,
      asyncStorageWrites: async,
      maxSizePerMsg: maxSize,
      maxInflightMsgs: inflight,
      preVote,
      checkQuorum,
      stepDownOnRemoval,
      random: (n) => this.#random.below(n),
    });
  }

  /** Takes a node down, with everything that was not durable. */
  #crash(node: Node): void {
    this.#counts.crashes++;
    node.raw = undefined;
    node.appendWork = [];
    node.applyWork = [];
    node.waiting.clear();
    node.reads.clear();
    const { hardState } = node.storage.initialState();
    if (!isEmptyHardState(hardState)) {
      const commit = Math.max(node.syncedCommit, node.storage.firstIndex() - 1);
      node.storage.setHardState({ ...hardState, commit: Math.min(commit, hardState.commit) });
    }
  }

  #running(): Node[] {
    return this.#nodes.filter(({ raw }) => raw !== undefined);
  }

  // ---- one step

  #act(): void {
    const random = this.#random;
    const running = this.#running();
    const node = running.length === 0 ? undefined : random.pick(running);
    const choice = random.below(1000);
    if (choice < 400) {
      this.#deliverOne();
    } else if (node === undefined) {
      this.#start(random.pick(this.#nodes));
    } else if (choice < 780) {
      this.#work(node);
    } else if (choice < 860) {
      node.raw?.tick();
    } else if (choice < 920) {
      this.#propose(node);
    } else if (choice < 935) {
      this.#readIndex(node);
    } else if (choice < 950) {
      this.#compact(node);
    } else if (choice < 955) {
      this.#crash(node);
    } else if (choice < 985) {
      const down = this.#nodes.filter(({ raw }) => raw === undefined);
      if (down.length > 0) this.#start(random.pick(down));
    } else if (choice < 990) {
      this.#changeLinks();
    } else if (choice < 996) {
      this.#proposeConfChange(node);
    } else if (choice < 998) {
      node.raw?.transferLeader(random.pick(this.#nodes).id);
    } else {
      node.raw?.reportUnreachable(random.pick(this.#nodes).id);
    }
    for (const each of running) this.#check(each);
  }

  #deliverOne(): void {
    if (this.#network.length === 0) return;
    const random = this.#random;
    // Mostly in order, or nothing would ever get far.
    const at = random.chance(0.8) ? 0 : random.below(this.#network.length);
    const message = this.#network[at] as Message;
    // Proposals are not sent twice: whoever hands one on does so once, and nobody could tell the copy from another.
    const again = message.type !== MessageType.MsgProp && random.chance(0.03);
    if (!again) this.#network.splice(at, 1);
    if (random.chance(0.03)) {
      if (!again) this.#lost(message);
      return;
    }
    this.#deliver(message);
  }

  #deliver(message: Message): void {
    const node = this.#nodes.find(({ id }) => id === message.to);
    if (node?.raw === undefined || this.#cut.has(linkOf(message.from, message.to))) {
      this.#lost(message);
      return;
    }
    // As from a wire: nobody shares an entry with anybody.
    const entries = message.entries.map((entry) => ({ ...entry, data: entry.data.slice() }));
    tolerant(() => node.raw?.step({ ...message, entries }));
    this.#reportSnapshot(message, true);
  }

  #lost(message: Message): void {
    this.#reportSnapshot(message, false);
  }

  /** Whoever carries snapshots tells the sender what became of them: it sends nothing else until it knows. */
  #reportSnapshot({ type, from, to }: Message, arrived: boolean): void {
    if (type !== MessageType.MsgSnap) return;
    this.#nodes.find(({ id }) => id === from)?.raw?.reportSnapshot(to, arrived);
  }

  /** Does one of the things that a node has to do. */
  #work(node: Node): void {
    const { raw } = node;
    if (raw === undefined) return;
    const choices: (() => void)[] = [];
    if (raw.hasReady()) choices.push(() => this.#handleReady(node, raw));
    if (node.appendWork.length > 0) choices.push(() => this.#processAppend(node));
    if (node.applyWork.length > 0) choices.push(() => this.#processApply(node));
    if (choices.length > 0) this.#random.pick(choices)();
  }

  #handleReady(node: Node, raw: RawNode): void {
    const ready = raw.ready();
    for (const { index, requestContext } of ready.readStates) this.#answerRead(node, index, requestContext);
    if (this.#config.async) {
      for (const message of ready.messages) {
        if (!isLocalThread(message.to)) this.#network.push(message);
        else if (message.type === MessageType.MsgStorageAppend) node.appendWork.push(message);
        else node.applyWork.push(message);
      }
      return;
    }
    this.#save(node, ready, ready.mustSync);
    this.#network.push(...ready.messages);
    this.#apply(node, raw, ready.committedEntries);
    raw.advance();
  }

  #processAppend(node: Node): void {
    const message = node.appendWork.shift() as Message;
    const { term, vote, commit, entries, snapshot, responses } = message;
    const hardState = term === 0 && vote === 0n && commit === 0 ? undefined : { term, vote, commit };
    const before = node.storage.initialState().hardState;
    const sync = entries.length > 0 || (hardState !== undefined && (term !== before.term || vote !== before.vote));
    this.#save(node, { hardState, entries, snapshot }, sync || responses.length > 0);
    this.#respond(node, responses);
  }

  #processApply(node: Node): void {
    const { entries, responses } = node.applyWork.shift() as Message;
    if (node.raw !== undefined) this.#apply(node, node.raw, entries);
    this.#respond(node, responses);
  }

  /** Responses to the node itself are stepped at once: a local thread's word is not lost. */
  #respond(node: Node, responses: readonly Message[]): void {
    for (const response of responses) {
      if (response.to !== node.id) this.#network.push(response);
      else tolerant(() => node.raw?.step(response));
    }
  }

  #save(
    node: Node,
    { hardState, entries, snapshot }: Pick<Parameters<MemoryStorage["save"]>[0], "hardState" | "entries" | "snapshot">,
    sync: boolean,
  ): void {
    const { storage } = node;
    if (snapshot !== undefined) {
      storage.applySnapshot(snapshot);
      this.#counts.snapshots++;
      const { index, confState } = snapshot.metadata;
      node.applied = { index, commands: decode(snapshot.data), confState };
    }
    if (entries !== undefined && entries.length > 0) {
      this.#checkMatching(node, entries);
      storage.append(entries);
    }
    if (hardState !== undefined) storage.setHardState(hardState);
    if (sync || snapshot !== undefined) node.syncedCommit = storage.initialState().hardState.commit;
  }

  #apply(node: Node, raw: RawNode, entries: readonly Entry[]): void {
    const { applied } = node;
    // A snapshot that was received may overtake what the apply thread has still to do. Raft has its configuration already: a
    // change of before, applied now, would spoil that.
    const overtaken = Math.max(raw.raft.log.unstable.snapshot?.metadata.index ?? 0, applied.index);
    for (const entry of entries) {
      const { index, term, type, data } = entry;
      if (this.#config.async && index <= overtaken) continue;
      if (index !== applied.index + 1) this.#fail(`node ${node.id} applies ${index} after ${applied.index}`);
      const what = `${term} ${type} ${Buffer.from(data).toString("latin1")}`;
      const first = this.#history.get(index);
      if (first === undefined) this.#history.set(index, what);
      else if (first !== what) this.#fail(`node ${node.id} applies "${what}" at ${index}, another "${first}"`);
      applied.index = index;
      if (type !== EntryType.Normal) {
        this.#counts.confChanges++;
        applied.confState = raw.applyConfChange(asConfChangeV2(decodeConfChange(type, data)));
        // A snapshot of before would not name who has just been added, and who is not named does not take it.
        this.#snapshot(node);
      } else if (data.length > 0) {
        const command = Number(Buffer.from(data).toString("latin1"));
        if (applied.commands.has(command)) this.#fail(`node ${node.id} applies command ${command} twice`);
        applied.commands.set(command, index);
        if (node.waiting.delete(command)) this.#acknowledged.set(command, index);
      }
    }
  }

  // ---- what clients and operators do

  #propose(node: Node): number {
    const command = this.#nextCommand++;
    tolerant(() => {
      node.raw?.propose(new TextEncoder().encode(String(command)));
      node.waiting.add(command);
    });
    return command;
  }

  #readIndex(node: Node): void {
    const read = this.#nextRead++;
    node.reads.set(read, this.#committed);
    tolerant(() => node.raw?.readIndex(new TextEncoder().encode(`${node.id}-${read}`)));
  }

  #answerRead(node: Node, index: number, context: Uint8Array): void {
    const [id, read] = Buffer.from(context).toString("latin1").split("-").map(Number);
    if (BigInt(id ?? 0) !== node.id) this.#fail(`node ${node.id} gets the answer to a read of node ${id}`);
    const least = node.reads.get(read ?? 0);
    if (least === undefined) return;
    node.reads.delete(read ?? 0);
    this.#counts.reads++;
    if (index < least) this.#fail(`node ${node.id} may read from ${index}; ${least} was committed when it asked`);
  }

  #compact(node: Node): void {
    const { storage, applied } = node;
    if (applied.index < storage.firstIndex() + 5 || applied.index > storage.lastIndex()) return;
    this.#snapshot(node);
    void storage.compact(applied.index - this.#random.below(4));
  }

  #snapshot(node: Node): void {
    const { storage, applied } = node;
    if (applied.index <= storage.snapshot().metadata.index || applied.index > storage.lastIndex()) return;
    void storage.createSnapshot(applied.index, applied.confState, encode(applied.commands));
    // Everything saved before is durable with it.
    node.syncedCommit = storage.initialState().hardState.commit;
  }

  #changeLinks(): void {
    const random = this.#random;
    if (random.chance(0.5)) {
      this.#cut.clear();
    } else {
      const alone = random.pick(this.#nodes).id;
      for (const { id } of this.#nodes) if (id !== alone && random.chance(0.8)) this.#cut.add(linkOf(id, alone));
      // What is under way there arrives no more.
      const lost = this.#network.filter(({ from, to }) => this.#cut.has(linkOf(from, to)));
      this.#network = this.#network.filter((message) => !lost.includes(message));
      for (const message of lost) this.#lost(message);
    }
  }

  #proposeConfChange(node: Node): void {
    const random = this.#random;
    const changes: ConfChangeSingle[] = [];
    for (let count = 1 + random.below(3); count > 0; count--) {
      const id = BigInt(1 + random.below(MAX_NODES));
      const type = random.pick([
        ConfChangeType.AddNode,
        ConfChangeType.AddNode,
        ConfChangeType.AddLearnerNode,
        ConfChangeType.RemoveNode,
      ]);
      if (!changes.some(({ nodeId }) => nodeId === id)) changes.push({ type, nodeId: id });
    }
    // Never fewer than two voters for sure: who removes them all asks for a failure of another kind.
    const left = new Set(node.applied.confState.voters);
    for (const { type, nodeId } of changes) {
      if (type === ConfChangeType.AddNode) left.add(nodeId);
      else left.delete(nodeId);
    }
    if (left.size < 2) return;
    for (const { type, nodeId } of changes) {
      const known = this.#nodes.some(({ id }) => id === nodeId);
      if (type !== ConfChangeType.RemoveNode && !known) this.#add(nodeId, []);
    }
    const transition = random.pick([ConfChangeTransition.Auto, ConfChangeTransition.JointImplicit]);
    tolerant(() => node.raw?.proposeConfChange({ transition, changes, context: new Uint8Array(0) }));
  }

  // ---- the properties

  #check(node: Node): void {
    const { raw } = node;
    if (raw === undefined) return;
    const { raft } = raw;
    if (raft.state === "StateLeader") this.#checkLeader(node, raw);
    const { committed } = raft.log;
    for (let index = Math.max(this.#committed + 1, raft.log.firstIndex()); index <= committed; index++) {
      this.#committedTerms.set(index, raft.log.term(index));
    }
    this.#committed = Math.max(this.#committed, committed);
    const term = committed >= raft.log.firstIndex() ? raft.log.term(committed) : undefined;
    const known = this.#committedTerms.get(committed);
    if (term !== undefined && known !== undefined && term !== known) {
      this.#fail(`node ${node.id} has committed ${committed} of term ${term}, another of term ${known}`);
    }
  }

  #checkLeader({ id }: Node, { raft }: RawNode): void {
    const leader = this.#leaders.get(raft.term);
    if (leader === id) return;
    if (leader !== undefined) this.#fail(`term ${raft.term} has two leaders, ${leader} and ${id}`);
    this.#leaders.set(raft.term, id);
    this.#counts.leaders++;
    for (const [index, term] of this.#committedTerms) {
      if (index < raft.log.firstIndex()) continue;
      if (raft.log.maybeTerm(index) !== term) {
        this.#fail(`node ${id} leads term ${raft.term} without entry ${index} of term ${term}, which is committed`);
      }
    }
  }

  /** Every entry is the same wherever it stands, and follows the same: by induction logs that share one share all before. */
  #checkMatching({ id, storage }: Node, entries: readonly Entry[]): void {
    const [first] = entries;
    assert(first !== undefined, "there are entries");
    const before = first.index - 1;
    let previous =
      before >= storage.firstIndex() - 1 && before <= storage.lastIndex() ? storage.term(before) : undefined;
    for (const { index, term, type, data } of entries) {
      const key = `${term}/${index}`;
      const what = `${type} ${Buffer.from(data).toString("latin1")}`;
      const known = this.#entries.get(key);
      const [knownBefore, ...rest] = known?.split(" ") ?? [];
      if (known === undefined) this.#entries.set(key, `${previous ?? "?"} ${what}`);
      else if (rest.join(" ") !== what) this.#fail(`node ${id} has "${what}" as ${key}, another "${rest.join(" ")}"`);
      else if (previous !== undefined && knownBefore !== "?" && knownBefore !== String(previous)) {
        this.#fail(`node ${id} has ${key} behind an entry of term ${previous}, another behind ${knownBefore}`);
      }
      previous = term;
    }
  }

  // ---- the end

  #heal(): void {
    this.#cut.clear();
    for (const node of this.#nodes) if (node.raw === undefined) this.#start(node);
    let last = 0;
    for (let round = 0; round < 400; round++) {
      for (const { raw } of this.#nodes) raw?.tick();
      this.#settle();
      const leader = this.#running().find(({ raw }) => raw?.raft.state === "StateLeader");
      if (leader === undefined) continue;
      const members = this.#membersOf(leader);
      if (!members.includes(leader)) {
        // Removed, it goes on leading so that the others hear of it, and takes no proposals: its owner stops it.
        leader.raw = undefined;
        continue;
      }
      for (const member of members) if (member.raw === undefined) this.#start(member);
      if (members.every(({ applied }) => applied.commands.has(last))) {
        this.#checkEnd(members);
        return;
      }
      // One that was proposed to a leader of before may be lost; another is another command.
      if (!leader.waiting.has(last)) last = this.#propose(leader);
    }
    const states = this.#nodes.map(({ id, raw }) => `${id} ${raw?.raft.state} ${raw?.raft.term} ${raw?.raft.log}`);
    this.#fail(`a healed cluster does not come to rest: ${states.join("; ")}`);
  }

  /** Those that the leader's configuration names and that exist. */
  #membersOf(leader: Node): Node[] {
    const { voters, learners } = leader.applied.confState;
    return this.#nodes.filter(({ id }) => voters.includes(id) || learners.includes(id));
  }

  #settle(): void {
    for (let moves = 0; moves < 100_000; moves++) {
      const [message] = this.#network;
      if (message !== undefined) {
        this.#network.shift();
        this.#deliver(message);
      }
      let worked = message !== undefined;
      for (const node of this.#running()) {
        if (node.raw?.hasReady() === true || node.appendWork.length > 0 || node.applyWork.length > 0) {
          this.#work(node);
          this.#check(node);
          worked = true;
        }
      }
      if (!worked) return;
    }
    this.#fail("a healed cluster goes on talking for ever");
  }

  #checkEnd(members: readonly Node[]): void {
    for (const [command, index] of this.#acknowledged) {
      for (const { id, applied } of members) {
        if (applied.commands.get(command) !== index) {
          this.#fail(
            `command ${command}, acknowledged at ${index}, is at ${applied.commands.get(command)} of node ${id}`,
          );
        }
      }
    }
  }
}

const linkOf = (a: bigint, b: bigint): string => (a < b ? `${a}-${b}` : `${b}-${a}`);

/** Runs what a node may refuse. */
function tolerant(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof StableLogError)) throw error;
  }
}

function encode(commands: ReadonlyMap<number, number>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify([...commands]));
}

function decode(data: Uint8Array): Map<number, number> {
  return new Map(JSON.parse(new TextDecoder().decode(data)) as [number, number][]);
}
