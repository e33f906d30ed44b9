// Node: a raft node for owners who would rather await than poll, as etcd's node.go: proposals with a verdict, ticks, reads, and
// its Readys either as an async iterator or driven by run() (replica.ts).
//
// Everything runs on the caller's thread. A call changes raft's state at once, or (proposals, reads) at the end of the microtask
// queue; what has gathered by then makes one Ready.

import { viewOf } from "../base/bytes.js";
import { type ErrorCode, StableLogError } from "../base/errors.js";
import { randomFill } from "../base/random.js";
import type { RaftConfig } from "../raft/raft.js";
import { RawNode } from "../raft/rawnode.js";
import type { Ready } from "../raft/ready.js";
import type { BasicStatus, Status } from "../raft/status.js";
import type { WritableStorage } from "../raft/storage.js";
import { type ConfChange, type ConfChangeV2, encodeConfChange } from "../raftpb/conf-change.js";
import { type Message, NONE } from "../raftpb/message.js";
import { type ConfState, EntryType, emptyConfState } from "../raftpb/types.js";
import { type Proposal, Proposals } from "./proposals.js";
import { Reads } from "./reads.js";
import { type DrivenNode, Replica, type RunOptions } from "./replica.js";
import { invalid, stopped, Waiting } from "./waiting.js";

type Defaulted = "random" | "electionTick" | "heartbeatTick" | "maxSizePerMsg" | "maxInflightMsgs";

/**
 * RaftConfig, where what most want is the default: pre-vote and check-quorum on, an election timeout of 10 ticks, a heartbeat
 * each tick, 1 MiB of entries a message, 256 messages in flight to a follower, 256 MiB of proposals that are not committed.
 */
export interface NodeConfig extends Omit<RaftConfig, Defaulted>, Partial<Pick<RaftConfig, Defaulted>> {
  /** Milliseconds of a tick, 100 by default; 0 where the owner calls tick(). */
  readonly tickMs?: number | undefined;
  /** A longer proposal is ERR_TOO_LARGE; 1.5 MiB by default, as etcd's. */
  readonly maxProposalBytes?: number | undefined;
  /** Bytes of proposals that may wait for a leader to be known; what comes on top is dropped. 64 MiB by default. */
  readonly maxWaitingBytes?: number | undefined;
}

export interface CallOptions {
  /** Ends the waiting: the promise rejects with its reason. What raft has taken by then may still be committed. */
  readonly signal?: AbortSignal | undefined;
}

const MIB = 1024 * 1024;

/** What raft says to a message, and stays as it was. */
const verdicts: ReadonlySet<ErrorCode> = new Set([
  "ERR_PROPOSAL_DROPPED",
  "ERR_STEP_LOCAL_MSG",
  "ERR_STEP_PEER_NOT_FOUND",
  "ERR_INVALID_ARGUMENT",
]);

export class Node {
  readonly #raw: RawNode;
  readonly #storage: NodeConfig["storage"];
  readonly #async: boolean;
  readonly #maxProposalBytes: number;
  readonly #proposals: Proposals;
  readonly #reads: Reads;
  readonly #ticker: ReturnType<typeof setInterval> | undefined;
  /** Set once somebody takes the Readys: an iterator or run(). There is one. */
  #taken = false;
  /** Called when there is a Ready to take. */
  #onReady: (() => void) | undefined;
  /** True from a Ready until advance(), without asynchronous storage writes: there is one at a time. */
  #inHand = false;
  #pumping = false;
  #stopped: StableLogError | undefined;
  /** What raft or its storage threw that is nobody's verdict: the node cannot go on. */
  #fault: { readonly error: unknown } | undefined;
  #onStop: (() => void) | undefined;
  #replica: Pick<Replica<unknown>, "stop" | "fail"> | undefined;

  /**
   * Raft continues from what the storage holds; `applied` is the index of its snapshot if not given, which is right for who
   * rebuilds a state machine from it.
   * @throws ERR_INVALID_ARGUMENT, and what Storage throws.
   */
  constructor(config: NodeConfig) {
    const { tickMs = 100, maxProposalBytes = 1.5 * MIB, maxWaitingBytes = 64 * MIB, ...rest } = config;
    if (!(tickMs >= 0 && tickMs < 2 ** 31)) throw invalid("tickMs must be a number of milliseconds from 0 up");
    if (!(maxProposalBytes > 0)) throw invalid("maxProposalBytes must be greater than 0");
    if (!(maxWaitingBytes > 0)) throw invalid("maxWaitingBytes must be greater than 0");
    const electionTick = rest.electionTick ?? 10;
    this.#raw = new RawNode({
      preVote: true,
      checkQuorum: true,
      maxUncommittedEntriesSize: 256 * MIB,
      ...rest,
      electionTick,
      heartbeatTick: rest.heartbeatTick ?? 1,
      maxSizePerMsg: rest.maxSizePerMsg ?? MIB,
      maxInflightMsgs: rest.maxInflightMsgs ?? 256,
      applied: rest.applied ?? appliedOf(rest.storage),
      random: rest.random ?? randomBelow,
    });
    this.#storage = rest.storage;
    this.#async = rest.asyncStorageWrites === true;
    this.#maxProposalBytes = maxProposalBytes;
    this.#proposals = new Proposals(maxWaitingBytes);
    this.#reads = new Reads(electionTick / 2);
    if (tickMs > 0) this.#ticker = setInterval(() => this.#tickTimer(), tickMs);
  }

  /**
   * Makes an empty storage that of a first member of a new group: a snapshot of index 1, the same for all of them. A node that
   * joins later begins with an empty storage instead and is told everything by the leader.
   * @throws (rejects) ERR_INVALID_ARGUMENT when the storage holds anything, or there are no voters; what save() rejects with.
   */
  static async bootstrap(storage: WritableStorage, voters: readonly bigint[]): Promise<void> {
    if (voters.length === 0) throw invalid("a group needs a voter");
    if (storage.lastIndex() !== 0 || storage.initialState().hardState.term !== 0) {
      throw invalid("the storage is not empty: it belongs to a group already");
    }
    const confState: ConfState = { ...emptyConfState(), voters: [...voters] };
    await storage.save({ snapshot: { metadata: { index: 1, term: 1, confState }, data: new Uint8Array(0) } });
  }

  // ---- what clients and operators want

  /**
   * Proposes a command and waits for raft's verdict: taken into this node's log, or sent to the leader. It waits while no
   * leader is known. What is taken may be lost with its leader; who must know watches what is applied (Replica.propose()).
   * @throws (rejects) ERR_PROPOSAL_DROPPED, ERR_TOO_LARGE, ERR_CLOSED after stop(), the signal's reason.
   */
  propose(data: Uint8Array, options?: CallOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      // Raft keeps the bytes until they are stable, and they are the caller's.
      const copy = Uint8Array.prototype.slice.call(data);
      this.#submit(new Waiter(EntryType.Normal, copy, resolve, reject, options?.signal));
    });
  }

  /** Proposes a change of configuration: as propose(). One that may not be made now, as another is under way, is dropped. */
  proposeConfChange(change: ConfChange | ConfChangeV2, options?: CallOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      const { type, data } = encodeConfChange(change);
      this.#submit(new Waiter(type, data, resolve, reject, options?.signal));
    });
  }

  /**
   * The index from which on a read is linearizable: one that is made when everything up to it is applied. It waits for a
   * leader, and for its quorum.
   * @throws (rejects) ERR_CLOSED after stop(), the signal's reason.
   */
  readIndex(options?: CallOptions): Promise<number> {
    return new Promise((resolve, reject) => {
      const reader = new Waiting<number>(resolve, reject, options?.signal);
      if (this.#stopped !== undefined) return reader.reject(this.#stopped);
      if (reader.cancelled) return;
      this.#reads.add(reader);
      this.#changed();
    });
  }

  /**
   * Takes in a message of another node.
   * @throws ERR_STEP_LOCAL_MSG, ERR_STEP_PEER_NOT_FOUND, ERR_PROPOSAL_DROPPED, ERR_INVALID_ARGUMENT for a message that lacks
   * what its kind must have, ERR_CLOSED after stop().
   */
  step(message: Message): void {
    this.#assertRunning();
    this.#guarded(() => this.#raw.step(message));
    this.#changed();
  }

  /** A unit of time has passed. For owners who set `tickMs` to 0. */
  tick(): void {
    if (this.#stopped !== undefined) return;
    this.#guarded(() => this.#raw.tick());
    this.#reads.tick();
    this.#changed();
  }

  /** Becomes a candidate now. @throws ERR_CLOSED after stop(). */
  campaign(): void {
    this.#assertRunning();
    this.#guarded(() => this.#raw.campaign());
    this.#changed();
  }

  /** Hands leadership to another node, if that can be brought up to date within an election timeout. @throws ERR_CLOSED */
  transferLeader(to: bigint): void {
    this.#assertRunning();
    this.#guarded(() => this.#raw.transferLeader(to));
    this.#changed();
  }

  /** See RawNode.forgetLeader(). @throws ERR_CLOSED */
  forgetLeader(): void {
    this.#assertRunning();
    this.#guarded(() => this.#raw.forgetLeader());
    this.#changed();
  }

  /** A message could not be delivered. */
  reportUnreachable(id: bigint): void {
    if (this.#stopped !== undefined) return;
    this.#guarded(() => this.#raw.reportUnreachable(id));
    this.#changed();
  }

  /** A snapshot that was sent has arrived, or has not. */
  reportSnapshot(id: bigint, arrived: boolean): void {
    if (this.#stopped !== undefined) return;
    this.#guarded(() => this.#raw.reportSnapshot(id, arrived));
    this.#changed();
  }

  status(): Status {
    return this.#raw.status();
  }

  /** status() without what is known of followers: cheap. */
  basicStatus(): BasicStatus {
    return this.#raw.basicStatus();
  }

  // ---- Readys: for owners who drive the node themselves

  /**
   * The Readys, for one owner: each is to be saved, sent and applied, and then advance()d, unless storage writes are
   * asynchronous. It ends with stop(). @throws ERR_INVALID_ARGUMENT when somebody takes them already.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Ready> {
    this.#take();
    let sleeping: (() => void)[] = [];
    const wake = (): void => {
      const woken = sleeping;
      sleeping = [];
      for (const each of woken) each();
    };
    const end = (): IteratorResult<Ready> => ({ done: true, value: undefined });
    this.#onReady = wake;
    this.#onStop = wake;
    let ended = false;
    const iterator: AsyncIterableIterator<Ready> = {
      [Symbol.asyncIterator]: () => iterator,
      next: async () => {
        for (;;) {
          if (this.#fault !== undefined) throw this.#fault.error;
          if (ended || this.#stopped !== undefined) return end();
          if (this.#mayTake()) return { done: false, value: this.#ready() };
          await new Promise<void>((resolve) => sleeping.push(resolve));
        }
      },
      return: async () => {
        ended = true;
        this.#taken = false;
        this.#onReady = undefined;
        this.#onStop = undefined;
        wake();
        return end();
      },
    };
    return iterator;
  }

  /**
   * The Ready in hand is saved, sent and applied. Not with asynchronous storage writes. After stop() it does nothing: a loop that
   * is handling its last Ready then ends by itself.
   */
  advance(): void {
    if (this.#stopped !== undefined) return;
    this.#inHand = false;
    this.#guarded(() => this.#raw.advance());
    this.#changed();
  }

  /** Applies a committed change of configuration; with the empty change where it was decided against. */
  applyConfChange(change: ConfChange | ConfChangeV2): ConfState {
    const confState = this.#raw.applyConfChange(change);
    this.#changed();
    return confState;
  }

  // ---- driven

  /**
   * Drives the node from here on: Readys are saved, sent and applied, logs are compacted behind snapshots. Resolves when the
   * state machine has the newest snapshot and the transport has started; what was committed before is applied from then on.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_CLOSED; what the state machine, the storage or the transport reject with: the node
   * is stopped then.
   */
  async run<Result>(options: RunOptions<Result>): Promise<Replica<Result>> {
    this.#assertRunning();
    if (options.storage !== this.#storage) throw invalid("storage must be the one that the node was made with");
    this.#take();
    const raw = this.#raw;
    const driven: DrivenNode = {
      id: raw.raft.id,
      asyncStorageWrites: this.#async,
      submit: (proposal) => this.#submit(proposal),
      readIndex: (callOptions) => this.readIndex(callOptions),
      step: (message) => this.step(message),
      ready: () => (this.#mayTake() ? this.#ready() : undefined),
      advance: () => this.advance(),
      applyConfChange: (change) => this.applyConfChange(change),
      reportUnreachable: (id) => this.reportUnreachable(id),
      reportSnapshot: (id, arrived) => this.reportSnapshot(id, arrived),
      committed: () => raw.raft.log.committed,
      snapshotInHand: () => raw.raft.log.unstable.snapshot?.metadata.index ?? 0,
      leads: () => raw.raft.state === "StateLeader",
      basicStatus: () => this.basicStatus(),
      stop: (cause) => this.#stop(cause),
    };
    const replica = new Replica(driven, options);
    this.#replica = replica;
    try {
      await replica.start();
    } catch (error) {
      await replica.stop();
      throw error;
    }
    this.#onReady = () => replica.handleReady();
    this.#changed();
    return replica;
  }

  /** Ends everything: who waits hears ERR_CLOSED, iteration ends, a replica's transport is closed. The storage is its owner's. */
  async stop(): Promise<void> {
    if (this.#replica !== undefined) return this.#replica.stop();
    this.#stop(undefined);
  }

  #stop(cause: unknown): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = stopped(cause);
    if (this.#ticker !== undefined) clearInterval(this.#ticker);
    this.#proposals.fail(this.#stopped);
    this.#reads.fail(this.#stopped);
    this.#onReady = undefined;
    this.#onStop?.();
  }

  #assertRunning(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
  }

  #take(): void {
    if (this.#taken) throw invalid("the node's Readys are taken already");
    this.#taken = true;
  }

  #mayTake(): boolean {
    return !this.#inHand && this.#raw.hasReady();
  }

  #ready(): Ready {
    const ready = this.#raw.ready();
    this.#inHand = !this.#async;
    if (ready.readStates.length > 0) this.#reads.answer(ready.readStates);
    // A new leader may be what proposals wait for.
    if (ready.softState !== undefined && this.#proposals.length > 0) this.#changed();
    return ready;
  }

  #submit(proposal: Proposal): void {
    if (this.#stopped !== undefined) {
      proposal.reject(this.#stopped);
    } else if (proposal.data.length > this.#maxProposalBytes) {
      const what = `a proposal of ${proposal.data.length} bytes; maxProposalBytes is ${this.#maxProposalBytes}`;
      proposal.reject(new StableLogError("ERR_TOO_LARGE", what));
    } else if (!proposal.cancelled) {
      this.#proposals.add(proposal);
      this.#changed();
    }
  }

  /** Something may be to be done, at the end of this microtask queue. */
  #changed(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(this.#pump);
  }

  /** What fails here has no caller; iteration or the replica hears of it. */
  #tickTimer(): void {
    try {
      this.tick();
    } catch (error) {
      if (this.#fault === undefined) throw error;
    }
  }

  readonly #pump = (): void => {
    this.#pumping = false;
    if (this.#stopped !== undefined) return;
    try {
      this.#stepWaiting();
    } catch (error) {
      // Heard already, by iteration or by the replica: #guarded().
      if (this.#fault === undefined) throw error;
    }
    if (this.#mayTake()) this.#onReady?.();
  };

  #stepWaiting(): void {
    const { raft } = this.#raw;
    if (raft.lead === NONE) return;
    if (this.#proposals.length > 0) {
      this.#proposals.flush((message) => {
        message.from = raft.id;
        this.#guarded(() => raft.step(message));
      });
    }
    if (this.#reads.due) this.#guarded(() => this.#raw.readIndex(this.#reads.begin()));
  }

  /** Lets through what raft answers; anything else ends the node, for raft may have stopped half way. */
  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!isVerdict(error)) this.#fail(error);
      throw error;
    }
  }

  #fail(error: unknown): void {
    this.#fault ??= { error };
    if (this.#replica !== undefined) this.#replica.fail(error);
    else this.#stop(error);
  }
}

/** A propose() that waits. */
class Waiter extends Waiting<void> implements Proposal {
  readonly type: EntryType;
  readonly data: Uint8Array;

  constructor(type: EntryType, data: Uint8Array, ...waiting: ConstructorParameters<typeof Waiting<void>>) {
    super(...waiting);
    this.type = type;
    this.data = data;
  }

  accepted(): void {
    this.resolve();
  }
}

function isVerdict(error: unknown): boolean {
  return error instanceof StableLogError && verdicts.has(error.code);
}

/** Of the newest snapshot, whose data is not read for it where the storage can tell the one without the other. */
function appliedOf(storage: NodeConfig["storage"] & Partial<WritableStorage>): number | undefined {
  // RawNode says what is wrong with a storage that is none.
  if (typeof storage !== "object" || storage === null) return undefined;
  const snapshot = storage.readSnapshot === undefined ? storage.snapshot() : storage.readSnapshot();
  return snapshot?.metadata.index || undefined;
}

/** Spreads election timeouts. The bias of the remainder is below one in a hundred million. */
function randomBelow(n: number): number {
  return viewOf(randomFill(new Uint8Array(4))).getUint32(0) % n;
}
