// runScriptOnDisks(): an interaction script over storages on simulated disks, one a node, and what crashes of these disks
// leave. Called by test/raft/scripts-on-disk.test.ts, and by whoever has a storage of their own under a raft group.
//
// The script runs first; its transcript must be the same as over memory. Then every moment before a sync is crashed, and the
// end: what is opened from it must be, whole, a state that was acknowledged and not superseded by a synced one, or that of
// the save under way. So a save is an atom, with a whole Ready in it. At last all disks lose power at once, and raft nodes
// start on what is left: nothing that was committed is missing from a new leader's log, and it commits one entry more.

import { assert } from "../base/assert.js";
import { quoted } from "../raft/describe.js";
import { RawNode } from "../raft/rawnode.js";
import type { SaveBatch, WritableStorage } from "../raft/storage.js";
import { asConfChangeV2, decodeConfChange } from "../raftpb/conf-change.js";
import { isResponseMessage, type Message, MessageType } from "../raftpb/message.js";
import { type ConfState, type Entry, EntryType, type Snapshot, type SnapshotMetadata } from "../raftpb/types.js";
import { FileStorage } from "../storage/file-storage.js";
import { MemoryStorage } from "../storage/memory-storage.js";
import { describeFailure, runScript } from "./datadriven.js";
import { defaultLimits, type ExploreCounts, Explorer, type Moment, newCounts, watchMoments } from "./explore.js";
import { InteractionEnv, type InteractionNode, type InteractionStorage, withoutLogs } from "./interaction-env.js";
import { Random, seedOf } from "./random.js";
import { SimDisk } from "./sim-disk.js";
import { digestText } from "./sim-tree.js";

export interface DiskScriptOptions {
  /**
   * Opens the storage on its disk: empty at first, then on what each crash left. A FileStorage with small segments if not
   * given.
   */
  readonly open?: ((disk: SimDisk) => Promise<WritableStorage>) | undefined;
  /** What crashes are drawn from; default 1. */
  readonly seed?: number | undefined;
  /** Most crash states looked at for one moment; default 8. At the end it is four times as many. */
  readonly states?: number | undefined;
}

export interface DiskScriptReport {
  /** Where the transcript differs from the script's, as text; none when it is equal. */
  readonly differences: string[];
  /** Calls of save() that changed something. */
  readonly saves: number;
  /** Crash states that were opened and held against what was acknowledged. */
  readonly crashes: number;
  /** Those of them that had lost the save under way, or a commit index that was not synced. */
  readonly undone: number;
  /** How often a group went on after all of its disks had lost power: none, or once for each of the RESTARTS ways. */
  readonly restarts: number;
}

/** What a crash took, or what came back that never was, or a group that does not go on; the message has node and states. */
export class DiskScriptError extends Error {
  constructor(where: string, cause: unknown) {
    super(`${where}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "DiskScriptError";
  }
}

const STATES = 8;

/** What the power cuts leave after which a group is started again: what was synced, everything, and by lot. */
const RESTARTS = ["synced", "all", "drawn"] as const;

/**
 * Runs an interaction script on storages on simulated disks, then crashes them.
 * @throws (rejects) DiskScriptError for what a crash must not leave, ScriptError for what is no script.
 */
export async function runScriptOnDisks(text: string, options: DiskScriptOptions = {}): Promise<DiskScriptReport> {
  const { open = openFileStorage, seed = 1, states = STATES } = options;
  const disks: NodeDisk[] = [];
  const env = new InteractionEnv({
    storage: async (id) => {
      const disk = await NodeDisk.open(id, open, seedOf(seed, Number(id)));
      disks.push(disk);
      return disk;
    },
  });
  try {
    const failures = await runScript(text, (directive) => env.handle(directive), withoutLogs);
    const counts = newCounts();
    for (const disk of disks) await disk.crash(states, counts);
    let restarts = 0;
    for (const left of RESTARTS) if (await restart(env.nodes, disks, open, left, seed)) restarts++;
    return {
      differences: failures.map((failure) => describeFailure(failure, withoutLogs)),
      saves: disks.reduce((sum, { saves }) => sum + saves, 0),
      crashes: counts.distinct,
      undone: disks.reduce((sum, { undone }) => sum + undone, 0),
      restarts,
    };
  } finally {
    await Promise.all(disks.map((disk) => disk.close()));
  }
}

// Segments of the smallest size: scripts write little, and longer ones shall begin several. A torn sector may look like a bit
// that flipped in what was acknowledged; here it is known what was, so dropping such a tail is held to that like any opening.
function openFileStorage(disk: SimDisk): Promise<WritableStorage> {
  return FileStorage.open("/log", { disk, segmentBytes: 4096, onAmbiguousTail: "drop" });
}

/** A storage on a disk of its own, with account of what a crash may leave of it. */
class NodeDisk implements InteractionStorage {
  readonly id: bigint;
  readonly disk: SimDisk;
  saves = 0;
  undone = 0;
  readonly #open: (disk: SimDisk) => Promise<WritableStorage>;
  readonly #inner: WritableStorage;
  /** Takes the same calls, and has their effect at once: what the disk is to hold when they are acknowledged. */
  readonly #twin = new MemoryStorage();
  /** What an opening may find, the newest last: the last synced state, those since, and that of the call under way. */
  #possible: readonly string[];
  readonly #moments: Moment<readonly string[]>[] = [];
  readonly #unwatch: () => void;

  static async open(id: bigint, open: (disk: SimDisk) => Promise<WritableStorage>, seed: number): Promise<NodeDisk> {
    const disk = new SimDisk({ seed, trace: false });
    return new NodeDisk(id, disk, open, await open(disk));
  }

  private constructor(
    id: bigint,
    disk: SimDisk,
    open: (disk: SimDisk) => Promise<WritableStorage>,
    inner: WritableStorage,
  ) {
    this.id = id;
    this.disk = disk;
    this.#open = open;
    this.#inner = inner;
    this.#possible = [describeStorage(this.#twin)];
    this.#unwatch = watchMoments(
      disk,
      disk.model,
      () => this.#possible,
      (moment) => this.#moments.push(moment),
    );
  }

  // ---- what raft and the script call

  initialState(): ReturnType<WritableStorage["initialState"]> {
    return this.#inner.initialState();
  }

  entries(lo: number, hi: number, maxSize?: number): Entry[] {
    return this.#inner.entries(lo, hi, maxSize);
  }

  term(index: number): number {
    return this.#inner.term(index);
  }

  firstIndex(): number {
    return this.#inner.firstIndex();
  }

  lastIndex(): number {
    return this.#inner.lastIndex();
  }

  snapshot(): Snapshot {
    return this.#inner.snapshot();
  }

  async save(batch: SaveBatch): Promise<void> {
    const { term, vote } = this.#twin.initialState().hardState;
    const { hardState, entries = [], snapshot, mustSync } = batch;
    // All zero, a HardState says nothing.
    const empty = hardState === undefined || (hardState.term === 0 && hardState.vote === 0n && hardState.commit === 0);
    const promises = !empty && (hardState.term !== term || hardState.vote !== vote);
    const synced = mustSync === true || entries.length > 0 || snapshot !== undefined || promises;
    await this.#keep((storage) => storage.save(batch), synced);
  }

  async createSnapshot(index: number, confState: ConfState | undefined, data: Uint8Array): Promise<SnapshotMetadata> {
    return await this.#keep((storage) => storage.createSnapshot(index, confState, data), true);
  }

  async compact(index: number): Promise<void> {
    await this.#keep((storage) => storage.compact(index), true);
  }

  /** Calls both storages. A `synced` call outlives every crash once it is acknowledged; another one may be lost. */
  async #keep<T>(call: (storage: WritableStorage) => Promise<T>, synced: boolean): Promise<T> {
    try {
      await call(this.#twin);
    } catch (error) {
      // What memory refuses the disk refuses as well, in the same words.
      await call(this.#inner);
      throw error;
    }
    const after = describeStorage(this.#twin);
    if (this.#possible.at(-1) !== after) {
      this.#possible = [...this.#possible, after];
      this.saves++;
    }
    const result = await call(this.#inner);
    if (synced) this.#possible = [after];
    return result;
  }

  // ---- crashing

  /** Crashes at every moment there was, and now; opens what may be left. */
  async crash(states: number, counts: ExploreCounts): Promise<void> {
    this.#unwatch();
    try {
      await this.#crash(states, counts);
    } catch (error) {
      throw new DiskScriptError(`node ${this.id}`, error);
    }
  }

  async #crash(states: number, counts: ExploreCounts): Promise<void> {
    const { disk } = this;
    // A process that dies takes nothing along: what comes back is the last that was acknowledged, synced or not.
    const newest = this.#possible.slice(-1);
    hold("the running storage has", describeStorage(this.#inner), newest);
    await this.#reopen(disk.kill(), (found) => hold("a kill has left", found, newest));
    const explorer = (each: number): Explorer<readonly string[], void> =>
      new Explorer<readonly string[], void>(
        {
          recover: (left, possible) =>
            this.#reopen(left, (found) => {
              hold("a crash has left", found, possible);
              if (found !== possible.at(-1)) this.undone++;
            }),
          check: () => {},
          digest: (possible) => digestText(possible.join("\n\n")),
        },
        disk.seed,
        { ...defaultLimits, states: each, nested: 0 },
        counts,
      );
    const early = explorer(states);
    for (const [number, moment] of this.#moments.entries()) await early.moment(disk, moment, number);
    const end = { point: disk.crashPoint(), facts: this.#possible };
    await explorer(4 * states).moment(disk, end, this.#moments.length);
  }

  async #reopen(left: SimDisk, look: (found: string) => void): Promise<void> {
    const storage = await this.#open(left);
    try {
      look(describeStorage(storage));
    } finally {
      await storage.close();
    }
  }

  close(): Promise<void> {
    this.#unwatch();
    return this.#inner.close();
  }
}

function hold(what: string, found: string, possible: readonly string[]): void {
  if (!possible.includes(found)) throw new Error(`${what}\n${found}\nnot\n${possible.join("\nnor\n")}`);
}

/** All that a storage says of itself, a line each. */
function describeStorage(storage: WritableStorage): string {
  const { hardState, confState } = storage.initialState();
  const { metadata, data } = storage.snapshot();
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const lines = [
    `HardState ${hardState.term} ${hardState.vote} ${hardState.commit}`,
    `ConfState ${describeConf(confState)}`,
    `Snapshot ${metadata.term}/${metadata.index} ${describeConf(metadata.confState)} ${quoted(data)}`,
    `Log ${storage.term(first - 1)}/${first - 1} to ${storage.term(last)}/${last}`,
  ];
  if (last >= first) {
    for (const { term, index, type, data: bytes } of storage.entries(first, last + 1)) {
      lines.push(`${term}/${index} ${type} ${quoted(bytes)}`);
    }
  }
  return lines.join("\n");
}

function describeConf({ voters, learners, votersOutgoing, learnersNext, autoLeave }: ConfState): string {
  return `${[voters, learners, votersOutgoing, learnersNext].map((ids) => ids.join(",")).join("|")} ${autoLeave}`;
}

// ---- starting again

const ROUNDS = 400;
const MOST_MOVES = 10_000;

interface Restarted {
  readonly raw: RawNode;
  readonly storage: WritableStorage;
  /** What the state machine is: all the data that was applied, one behind the other, as InteractionEnv has it. */
  applied: Snapshot;
}

/**
 * Cuts the power of all disks and starts a raft node on each. True when the group went on, false when it cannot because a
 * voter was never there.
 */
async function restart(
  before: readonly InteractionNode[],
  disks: readonly NodeDisk[],
  open: (disk: SimDisk) => Promise<WritableStorage>,
  left: (typeof RESTARTS)[number],
  seed: number,
): Promise<boolean> {
  const random = new Random(seedOf(seed, RESTARTS.indexOf(left)));
  const storages: WritableStorage[] = [];
  try {
    for (const { disk } of disks) {
      const point = disk.crashPoint();
      const masks = { synced: point.newest().map(() => 0), all: point.newest(), drawn: undefined };
      storages.push(await open(disk.powerCut(masks[left])));
    }
    return await new RestartedGroup(before, storages, random).run();
  } catch (error) {
    throw new DiskScriptError(`a start with what is left (${left})`, error);
  } finally {
    await Promise.all(storages.map((storage) => storage.close()));
  }
}

/** The nodes of a script after all of them lost power, until one leads and has committed an entry. */
class RestartedGroup {
  readonly #nodes = new Map<bigint, Restarted>();
  readonly #before: readonly InteractionNode[];
  #messages: Message[] = [];

  constructor(before: readonly InteractionNode[], storages: readonly WritableStorage[], random: Random) {
    this.#before = before;
    for (const [i, storage] of storages.entries()) {
      const applied = storage.snapshot();
      const raw = new RawNode({
        id: BigInt(i + 1),
        electionTick: 10,
        heartbeatTick: 1,
        storage,
        applied: applied.metadata.index,
        maxSizePerMsg: 1 << 20,
        maxInflightMsgs: 256,
        // Who was removed and does not know it must neither disturb the others nor lead on.
        preVote: true,
        stepDownOnRemoval: true,
        random: (n) => random.below(n),
      });
      this.#nodes.set(BigInt(i + 1), { raw, storage, applied });
    }
  }

  async run(): Promise<boolean> {
    const word = new TextEncoder().encode("after the crash");
    let proposed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (const { raw } of this.#nodes.values()) raw.tick();
      await this.#settle();
      const leader = [...this.#nodes.values()].find(({ raw }) => raw.raft.state === "StateLeader");
      if (leader === undefined) continue;
      const { raft } = leader.raw;
      if (proposed !== raft.term) {
        this.#checkComplete(leader);
        if (raft.leadTransferee === 0n) leader.raw.propose(word);
        proposed = raft.term;
        continue;
      }
      const voters = raft.tracker.voterNodes().map((id) => this.#nodes.get(id));
      const end = raft.log.lastIndex();
      if (voters.every((voter) => voter?.applied.metadata.index === end && endsWith(voter.applied.data, word))) {
        this.#checkSame();
        return true;
      }
    }
    // Where a voter is not there, or nobody votes, nothing can be asked for.
    const named = [...this.#nodes.values()].flatMap(({ raw }) => raw.raft.tracker.voterNodes());
    if (named.length === 0 || named.some((id) => !this.#nodes.has(id))) return false;
    const states = [...this.#nodes.values()].map(({ raw: { raft } }) => `${raft.id} ${raft.state} ${raft.log}`);
    throw new Error(`the group does not go on: ${states.join("; ")}`);
  }

  /** What any node knew as committed before the power went stands in a leader's log. */
  #checkComplete({ raw: { raft } }: Restarted): void {
    for (const { raw } of this.#before) {
      const { log } = raw.raft;
      for (let index = Math.max(log.firstIndex(), raft.log.firstIndex()); index <= log.committed; index++) {
        const term = log.term(index);
        if (raft.log.maybeTerm(index) === term) continue;
        throw new Error(`node ${raft.id} leads term ${raft.term} without ${term}/${index}, which was committed`);
      }
    }
  }

  /** Who has applied as much has applied the same. */
  #checkSame(): void {
    const seen = new Map<number, string>();
    for (const { raw, applied } of this.#nodes.values()) {
      const { index } = applied.metadata;
      const data = quoted(applied.data);
      const other = seen.get(index);
      if (index > 0 && other !== undefined && other !== data) {
        throw new Error(`node ${raw.raft.id} has applied ${data} up to ${index}, another ${other}`);
      }
      seen.set(index, data);
    }
  }

  async #settle(): Promise<void> {
    for (let moves = 0; moves < MOST_MOVES; moves++) {
      let worked = false;
      for (const node of this.#nodes.values()) {
        if (!node.raw.hasReady()) continue;
        await this.#handleReady(node);
        worked = true;
      }
      const messages = this.#messages;
      this.#messages = [];
      for (const message of messages) this.#deliver(message);
      if (!worked && messages.length === 0) return;
    }
    throw new Error("the group goes on talking for ever");
  }

  #deliver(message: Message): void {
    const node = this.#nodes.get(message.to);
    const sender = this.#nodes.get(message.from) as Restarted;
    // Answers of nodes that have been removed meanwhile are no longer wanted.
    const wanted =
      node !== undefined && (node.raw.raft.tracker.progress.has(message.from) || !isResponseMessage(message.type));
    if (wanted) node.raw.step({ ...message, entries: message.entries.map((entry) => ({ ...entry })) });
    if (message.type === MessageType.MsgSnap) sender.raw.reportSnapshot(message.to, wanted);
  }

  async #handleReady(node: Restarted): Promise<void> {
    const { raw, storage } = node;
    const ready = raw.ready();
    await storage.save(ready);
    if (ready.snapshot !== undefined) node.applied = ready.snapshot;
    this.#messages.push(...ready.messages);
    for (const entry of ready.committedEntries) await this.#apply(node, entry);
    raw.advance();
  }

  async #apply(node: Restarted, { index, term, type, data }: Entry): Promise<void> {
    const { applied, raw, storage } = node;
    assert(index === applied.metadata.index + 1, `${index} is applied behind ${applied.metadata.index}`);
    if (type === EntryType.Normal) {
      const metadata = { index, term, confState: applied.metadata.confState };
      node.applied = { metadata, data: joined(applied.data, data) };
      return;
    }
    const change = asConfChangeV2(decodeConfChange(type, data));
    const confState = raw.applyConfChange(change);
    node.applied = { metadata: { index, term, confState }, data: joined(applied.data, change.context) };
    // Whoever was added takes no snapshot that does not name it.
    await storage.createSnapshot(index, confState, node.applied.data);
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function endsWith(data: Uint8Array, end: Uint8Array): boolean {
  const from = data.length - end.length;
  return from >= 0 && end.every((byte, i) => data[from + i] === byte);
}
