// Replica: a driven node. It saves Readys before their messages leave, applies what is committed, answers who proposed it, makes
// snapshots and compacts behind them. Made by Node.run(); the walk of an entry through it is in docs/ARCHITECTURE.md.
//
// The state machine is only touched by jobs of one queue, in the order of the log: commands, changes of configuration, snapshots
// in and out. What fails for good (storage, state machine, raft) stops everything: `done` tells.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import { randomFill } from "../base/random.js";
import type { Ready } from "../raft/ready.js";
import type { BasicStatus } from "../raft/status.js";
import type { WritableStorage } from "../raft/storage.js";
import {
  asConfChangeV2,
  type ConfChange,
  type ConfChangeV2,
  decodeConfChange,
  encodeConfChange,
} from "../raftpb/conf-change.js";
import { isLocalThread, type Message, MessageType } from "../raftpb/message.js";
import {
  type ConfState,
  type Entry,
  EntryType,
  type HardState,
  isEmptyHardState,
  type SnapshotMetadata,
} from "../raftpb/types.js";
import { commandOf, numberOf, SESSION_BYTES, seal } from "./envelope.js";
import type { Proposal } from "./proposals.js";
import type { Command, StateMachine } from "./state-machine.js";
import type { Transport, TransportReceiver } from "./transport.js";
import { invalid, stopped, Waiting } from "./waiting.js";

/** What a replica asks of the node that it drives; node.ts has it. */
export interface DrivenNode {
  readonly id: bigint;
  readonly asyncStorageWrites: boolean;
  submit(proposal: Proposal): void;
  readIndex(options?: { readonly signal?: AbortSignal | undefined }): Promise<number>;
  step(message: Message): void;
  /** The next Ready, undefined when there is none to take now. */
  ready(): Ready | undefined;
  advance(): void;
  applyConfChange(change: ConfChangeV2): ConfState;
  reportUnreachable(id: bigint): void;
  reportSnapshot(id: bigint, arrived: boolean): void;
  committed(): number;
  /** The index of a snapshot that raft has taken in and that is not durable yet; 0 when there is none. */
  snapshotInHand(): number;
  leads(): boolean;
  basicStatus(): BasicStatus;
  stop(cause: unknown): void;
}

export interface RunOptions<Result> {
  /** The one that the node was made with. It stays its owner's to close, after stop(). */
  readonly storage: WritableStorage;
  readonly transport: Transport;
  readonly stateMachine: StateMachine<Result>;
  /** A snapshot is made when so many entries have been applied since the last one. Default 10,000, as etcd's. */
  readonly snapshotEntries?: number | undefined;
  /** Entries kept behind a snapshot, for followers that are not far behind. Default 5,000, as etcd's. */
  readonly keepEntries?: number | undefined;
  /**
   * A leader's MsgApp leave while its own write is under way, as etcd's server does: a follower's write and ours then take
   * place at once. Safe, because a leader counts its own copy of an entry only when that is durable. Default false; with
   * asynchronous storage writes raft does so in any case.
   */
  readonly sendBeforeSave?: boolean | undefined;
}

export interface ReplicaStats {
  /** The last index that the state machine has. */
  readonly applied: number;
  /** Proposals made here and not yet answered. */
  readonly waiting: number;
  /** Messages that raft would not take: strangers', and proposals where nobody leads. */
  readonly refusedMessages: number;
  readonly snapshotsMade: number;
  readonly snapshotsSent: number;
  readonly snapshotsReceived: number;
  /** Why the last snapshot could not be made, until one can; it is tried again later. */
  readonly snapshotError: unknown;
}

const NO_DATA = new Uint8Array(0);
/** Readys whose committed entries may wait for the state machine, without asynchronous storage writes. */
const MAX_JOBS_AHEAD = 32;

/** Something to do with the state machine in its turn. */
interface Job {
  run(): void | Promise<void>;
  /** Called in place of run() when the replica ends before its turn. */
  cancel(): void;
}

export class Replica<Result> {
  readonly #node: DrivenNode;
  readonly #storage: WritableStorage;
  readonly #transport: Transport;
  readonly #machine: StateMachine<Result>;
  readonly #snapshotEntries: number;
  readonly #keepEntries: number;
  readonly #sendBeforeSave: boolean;
  /** Resolves after stop(); rejects with what made the replica give up. */
  readonly done: Promise<void>;
  #settleDone: { resolve: () => void; reject: (error: unknown) => void };

  readonly #session = randomFill(new Uint8Array(SESSION_BYTES));
  #number = 0;
  /** Proposals of this session that are not applied yet, by their number. */
  readonly #waiting = new Map<number, Pending<Result>>();
  /** Reads that wait for an index to be applied. */
  #readers: { readonly index: number; readonly waiting: Waiting<void> }[] = [];

  /** The state machine has everything up to here, and nothing beyond. */
  #applied = 0;
  #confState: ConfState;
  /** While a received snapshot goes into the state machine: its index. Nobody reads meanwhile: half a state may be there. */
  #restoringTo = 0;
  /** Jobs for the state machine. One runs at a time. */
  readonly #jobs: Job[] = [];
  #working = false;
  /** Resolves when nothing is under way: for stop(). */
  #onIdle: (() => void) | undefined;
  /** Without asynchronous storage writes: a Ready is being handled. */
  #handling = false;
  /** Saves under way. */
  #saves = 0;
  /** While a received snapshot goes into the state machine: responses of later saves, which must not overtake its own. */
  #held: Message[] | undefined;

  /** At this many applied entries the next snapshot is due. */
  #snapshotDue: number;
  #snapshotting: Promise<void> | undefined;
  #receiving = false;
  #closing: Promise<void> | undefined;
  #ended = false;

  #refusedMessages = 0;
  #snapshotsMade = 0;
  #snapshotsSent = 0;
  #snapshotsReceived = 0;
  #snapshotError: unknown;

  /** For Node.run(). @throws ERR_INVALID_ARGUMENT */
  constructor(node: DrivenNode, options: RunOptions<Result>) {
    const { snapshotEntries = 10_000, keepEntries = 5_000 } = options;
    if (!(snapshotEntries >= 1)) throw invalid("snapshotEntries must be 1 or more");
    if (!(keepEntries >= 0)) throw invalid("keepEntries must be 0 or more");
    this.#node = node;
    this.#storage = options.storage;
    this.#transport = options.transport;
    this.#machine = options.stateMachine;
    this.#snapshotEntries = snapshotEntries;
    this.#keepEntries = keepEntries;
    this.#sendBeforeSave = options.sendBeforeSave === true;
    this.#snapshotDue = snapshotEntries;
    this.#confState = options.storage.initialState().confState;
    this.#settleDone = { resolve: () => {}, reject: () => {} };
    this.done = new Promise<void>((resolve, reject) => {
      this.#settleDone = { resolve, reject };
    });
    // Who proposes hears of a failure as well; nobody has to watch `done`.
    this.done.catch(() => {});
  }

  /** For Node.run(): gives the state machine the newest snapshot, and starts the transport. */
  async start(): Promise<void> {
    const snapshot = this.#storage.readSnapshot();
    const nothing: SnapshotMetadata = { index: 0, term: 0, confState: this.#confState };
    await this.#machine.restore(snapshot?.data ?? noBytes(), snapshot?.metadata ?? nothing);
    this.#restored(snapshot?.metadata ?? nothing);
    const receiver: TransportReceiver = {
      step: (message) => this.#receive(message),
      receiveSnapshot: (message, metadata, data) => this.#receiveSnapshot(message, metadata, data),
      reportUnreachable: (id) => this.#node.reportUnreachable(id),
      reportSnapshot: (id, arrived) => this.#node.reportSnapshot(id, arrived),
    };
    await this.#transport.start(receiver);
  }

  // ---- what clients want

  /**
   * Proposes a command and resolves with the state machine's result once it is applied here. What is lost on its way (with a
   * leader, with a message, under a snapshot) never answers by itself: pass AbortSignal.timeout(). A command whose waiting
   * ended may still be applied, once.
   * @throws (rejects) ERR_PROPOSAL_DROPPED: not taken, try again; ERR_TOO_LARGE; ERR_CLOSED after stop() or a failure, which
   * then is its cause; the signal's reason.
   */
  propose(data: Uint8Array, options?: { readonly signal?: AbortSignal | undefined }): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const number = ++this.#number;
      const sealed = seal(this.#session, number, data);
      const waiting = this.#waiting;
      const pending = new Pending<Result>(EntryType.Normal, sealed, number, waiting, resolve, reject, options?.signal);
      this.#node.submit(pending);
    });
  }

  /** Proposes a change of configuration and resolves with the configuration once it is applied here. As propose(). */
  proposeConfChange(
    change: ConfChange | ConfChangeV2,
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<ConfState> {
    return new Promise<ConfState>((resolve, reject) => {
      const number = ++this.#number;
      const { type, data } = encodeConfChange({ ...change, context: seal(this.#session, number, change.context) });
      // It is answered with the configuration, not with a result of the state machine.
      const answer = (confState: unknown): void => resolve(confState as ConfState);
      this.#node.submit(new Pending<Result>(type, data, number, this.#waiting, answer, reject, options?.signal));
    });
  }

  /**
   * Resolves with the applied index once all that was committed before the call is applied here: what the state machine says
   * then is linearizable.
   * @throws (rejects) ERR_CLOSED, the signal's reason.
   */
  async read(options?: { readonly signal?: AbortSignal | undefined }): Promise<number> {
    const index = Math.max(await this.#node.readIndex(options), this.#restoringTo);
    if (index > this.#applied) await this.#reached(index, options?.signal);
    return this.#applied;
  }

  #reached(index: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = new Waiting<void>(resolve, reject, signal);
      if (this.#ended) waiting.reject(stopped(undefined));
      else this.#readers.push({ index, waiting });
    });
  }

  get applied(): number {
    return this.#applied;
  }

  /** The configuration as of the last applied entry. */
  get confState(): ConfState {
    return this.#confState;
  }

  /** Of the node: who leads, in which term, what is committed. */
  basicStatus(): BasicStatus {
    return this.#node.basicStatus();
  }

  stats(): ReplicaStats {
    return {
      applied: this.#applied,
      waiting: this.#waiting.size,
      refusedMessages: this.#refusedMessages,
      snapshotsMade: this.#snapshotsMade,
      snapshotsSent: this.#snapshotsSent,
      snapshotsReceived: this.#snapshotsReceived,
      snapshotError: this.#snapshotError,
    };
  }

  /** Stops the node and the transport and waits for saves and applies under way. The storage is its owner's to close. */
  stop(): Promise<void> {
    this.#closing ??= this.#close(undefined);
    return this.#closing;
  }

  /** For Node: something failed that nobody is asked about. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#closing ??= this.#close({ error });
  }

  async #close(failure: { readonly error: unknown } | undefined): Promise<void> {
    this.#ended = true;
    const cause = failure?.error;
    this.#node.stop(cause);
    const error = stopped(cause);
    for (const pending of this.#waiting.values()) pending.reject(error);
    this.#waiting.clear();
    for (const { waiting } of this.#readers) waiting.reject(error);
    this.#readers = [];
    for (const job of this.#jobs.splice(0)) job.cancel();
    await this.#transport.close().catch(() => {});
    while (this.#working || this.#saves > 0 || this.#snapshotting !== undefined) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    if (failure === undefined) this.#settleDone.resolve();
    else this.#settleDone.reject(failure.error);
  }

  #idle(): void {
    const onIdle = this.#onIdle;
    this.#onIdle = undefined;
    onIdle?.();
  }

  // ---- the Ready loop

  /** For Node: there may be a Ready to take. */
  handleReady(): void {
    if (this.#ended || this.#handling) return;
    try {
      if (this.#node.asyncStorageWrites) {
        for (let ready = this.#node.ready(); ready !== undefined; ready = this.#node.ready()) this.#hand(ready);
      } else {
        const ready = this.#node.ready();
        if (ready !== undefined) this.#handleOne(ready);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  /** One Ready after the other: what the next one holds may rest on this one's being durable. */
  #handleOne(ready: Ready): void {
    this.#handling = true;
    this.#saves++;
    this.#saveAndApply(ready)
      .then(
        () => {
          this.#handling = false;
          if (!this.#ended) this.#node.advance();
        },
        (error: unknown) => {
          this.#handling = false;
          this.fail(error);
        },
      )
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.#saves--;
        this.#idle();
      });
  }

  async #saveAndApply(ready: Ready): Promise<void> {
    let { messages } = ready;
    if (this.#sendBeforeSave && this.#node.leads()) {
      this.#send(messages.filter(({ type }) => type === MessageType.MsgApp));
      messages = messages.filter(({ type }) => type !== MessageType.MsgApp);
    }
    if (hasWork(ready)) await this.#storage.save(ready);
    if (this.#ended) return;
    if (ready.snapshot !== undefined) await this.#inTurn(() => this.#restore());
    this.#send(messages);
    const { committedEntries } = ready;
    if (committedEntries.length === 0) return;
    const applying = this.#inTurn(() => this.#apply(committedEntries));
    // A state machine that takes its time must not keep heartbeats from leaving. A change of configuration is raft's business
    // before anything else is, and what waits to be applied has a bound.
    if (this.#jobs.length > MAX_JOBS_AHEAD || committedEntries.some(({ type }) => type !== EntryType.Normal))
      await applying;
    else applying.catch((error: unknown) => this.fail(error));
  }

  /** With asynchronous storage writes: hands out what a Ready asks for; responses come back as they are done. */
  #hand({ messages }: Ready): void {
    const outgoing: Message[] = [];
    for (const message of messages) {
      if (!isLocalThread(message.to)) outgoing.push(message);
      else if (message.type === MessageType.MsgStorageAppend) this.#append(message);
      else {
        this.#job(async () => {
          await this.#apply(message.entries);
          this.#respond(message.responses);
        });
      }
    }
    this.#send(outgoing);
  }

  #append({ term, vote, commit, entries, snapshot, responses }: Message): void {
    const state: HardState = { term, vote, commit };
    const hardState = isEmptyHardState(state) ? undefined : state;
    this.#saves++;
    this.#storage.save({ hardState, entries, snapshot }).then(
      () => {
        this.#saves--;
        this.#idle();
        if (this.#ended) return;
        if (snapshot !== undefined) this.#restoreAndRespond(responses);
        else if (this.#held !== undefined) this.#held.push(...responses);
        else this.#respond(responses);
      },
      (error: unknown) => {
        this.#saves--;
        this.#idle();
        this.fail(error);
      },
    );
  }

  #restoreAndRespond(responses: readonly Message[]): void {
    const held = this.#held ?? [];
    this.#held = held;
    held.push(...responses);
    this.#job(async () => {
      await this.#restore();
      if (this.#held === held) this.#held = undefined;
      this.#respond(held.splice(0));
    });
  }

  /** Responses to the node itself are stepped, the others sent. */
  #respond(responses: readonly Message[]): void {
    if (this.#ended) return;
    const outgoing: Message[] = [];
    for (const response of responses) {
      if (response.to !== this.#node.id) outgoing.push(response);
      else this.#receive(response);
    }
    this.#send(outgoing);
  }

  #send(messages: readonly Message[]): void {
    if (messages.length === 0 || this.#ended) return;
    if (messages.some(({ type }) => type === MessageType.MsgSnap)) {
      for (const message of messages) if (message.type === MessageType.MsgSnap) this.#sendSnapshot(message);
      this.#transport.send(messages.filter(({ type }) => type !== MessageType.MsgSnap));
    } else {
      this.#transport.send(messages);
    }
  }

  #receive(message: Message): void {
    if (this.#ended) return;
    try {
      this.#node.step(message);
    } catch (error) {
      // What is more than raft's word on the message has stopped the node already.
      if (!(error instanceof StableLogError)) this.fail(error);
      else this.#refusedMessages++;
    }
  }

  // ---- the state machine

  #job(run: () => void | Promise<void>, cancel: () => void = () => {}): void {
    if (this.#ended) {
      cancel();
      return;
    }
    this.#jobs.push({ run, cancel });
    if (!this.#working) void this.#work();
  }

  /** Runs a job in its turn and waits for it; rejects with ERR_CLOSED where the replica ends before. */
  #inTurn(job: () => void | Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#job(
        async () => {
          try {
            await job();
            resolve();
          } catch (error) {
            reject(error);
          }
        },
        () => reject(stopped(undefined)),
      );
    });
  }

  async #work(): Promise<void> {
    this.#working = true;
    try {
      // Jobs that are left when the replica ends have been cancelled.
      for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) await job.run();
    } catch (error) {
      this.fail(error);
    } finally {
      this.#working = false;
      this.#idle();
    }
  }

  /** The walk's last steps: StateMachine.apply() and the answers to who proposed. */
  async #apply(entries: readonly Entry[]): Promise<void> {
    let commands: Command[] = [];
    let numbers: (number | undefined)[] = [];
    const flush = async (): Promise<void> => {
      if (commands.length === 0) return;
      const [applied, ours] = [commands, numbers];
      commands = [];
      numbers = [];
      const applying = this.#machine.apply(applied);
      this.#answer(ours, applying instanceof Promise ? await applying : applying);
    };
    let expected = this.#applied + 1;
    for (const entry of entries) {
      const { index, term, type, data } = entry;
      // A snapshot that raft has taken in may overtake what is still to be applied here: its configuration holds already.
      if (index < expected || index <= this.#node.snapshotInHand()) continue;
      assert(index === expected, "an entry is applied out of order");
      expected++;
      if (type === EntryType.Normal) {
        if (data.length > 0) {
          commands.push({ index, term, data: commandOf(data) });
          numbers.push(numberOf(this.#session, data));
        }
      } else {
        await flush();
        if (index > this.#node.snapshotInHand()) await this.#applyConfChange(entry);
      }
    }
    await flush();
    const last = entries.at(-1);
    if (last !== undefined && last.index > this.#node.snapshotInHand()) this.#advanceTo(last.index);
    this.#considerSnapshot();
  }

  #answer(numbers: readonly (number | undefined)[], results: readonly Result[]): void {
    if (results.length !== numbers.length) {
      throw invalid(`the state machine's apply() returned ${results.length} results for ${numbers.length} commands`);
    }
    for (const [i, number] of numbers.entries()) {
      if (number !== undefined) this.#waiting.get(number)?.resolve(results[i] as Result);
    }
  }

  async #applyConfChange({ index, term, type, data }: Entry): Promise<void> {
    const sealed = asConfChangeV2(decodeConfChange(type, data));
    const change: ConfChangeV2 = { ...sealed, context: commandOf(sealed.context) };
    this.#confState = this.#node.applyConfChange(change);
    await this.#machine.applyConfChange?.({ index, term, change, confState: this.#confState });
    const number = numberOf(this.#session, sealed.context);
    if (number !== undefined) this.#waiting.get(number)?.resolve(this.#confState as Result);
  }

  #advanceTo(index: number): void {
    if (index <= this.#applied) return;
    this.#applied = index;
    if (this.#readers.length === 0) return;
    const readers = this.#readers;
    this.#readers = readers.filter((reader) => reader.index > index && !reader.waiting.cancelled);
    for (const reader of readers) if (reader.index <= index) reader.waiting.resolve();
  }

  // ---- snapshots

  /** The state machine takes the storage's newest snapshot, which was received. */
  async #restore(): Promise<void> {
    const snapshot = this.#storage.readSnapshot();
    assert(snapshot !== undefined, "a snapshot was saved and is not there");
    if (snapshot.metadata.index <= this.#applied) return;
    this.#restoringTo = snapshot.metadata.index;
    await this.#machine.restore(snapshot.data, snapshot.metadata);
    this.#restoringTo = 0;
    this.#snapshotsReceived++;
    this.#restored(snapshot.metadata);
  }

  #restored({ index, confState }: SnapshotMetadata): void {
    this.#confState = confState;
    this.#snapshotDue = index + this.#snapshotEntries;
    this.#advanceTo(index);
  }

  #considerSnapshot(): void {
    if (this.#applied < this.#snapshotDue || this.#snapshotting !== undefined || this.#ended) return;
    // What was applied on the way to a snapshot that overtakes it is of no index that we could name.
    if (this.#node.snapshotInHand() > 0) return;
    void this.#makeSnapshot();
  }

  /** Of the state as it is now; called from a job. Resolves when it is durable or has failed, which the stats tell. */
  #makeSnapshot(): Promise<void> {
    const index = this.#applied;
    this.#snapshotDue = index + this.#snapshotEntries;
    this.#snapshotting = this.#storeSnapshot(index, this.#confState).finally(() => {
      this.#snapshotting = undefined;
      this.#idle();
    });
    return this.#snapshotting;
  }

  async #storeSnapshot(index: number, confState: ConfState): Promise<void> {
    try {
      await this.#storage.createSnapshot(index, confState, this.#machine.snapshot());
      this.#snapshotsMade++;
      this.#snapshotError = undefined;
      const behind = index - this.#keepEntries;
      if (behind >= this.#storage.firstIndex()) await this.#storage.compact(behind);
    } catch (error) {
      // A newer one has been received meanwhile; or there is no room, and nothing is lost by trying later.
      if (error instanceof StableLogError && (error.code === "ERR_SNAP_OUT_OF_DATE" || error.code === "ERR_COMPACTED"))
        return;
      this.#snapshotError = error;
      this.#snapshotDue = this.#applied + Math.ceil(this.#snapshotEntries / 8);
    }
  }

  #sendSnapshot(message: Message): void {
    this.#job(() => {
      // Off the queue from here on: what is applied meanwhile does not change what was taken.
      this.#snapshotFor(message.to)
        .then(
          (snapshot) => {
            if (this.#ended) return;
            this.#snapshotsSent++;
            const { metadata, data } = snapshot;
            this.#transport.sendSnapshot({ ...message, snapshot: { metadata, data: NO_DATA } }, data);
          },
          () => this.#node.reportSnapshot(message.to, false),
        )
        .catch((error: unknown) => this.fail(error));
    });
  }

  /** The newest snapshot. One that does not name its recipient would not be taken: there is a newer configuration then. */
  async #snapshotFor(to: bigint): Promise<{ metadata: SnapshotMetadata; data: AsyncIterable<Uint8Array> }> {
    const newest = this.#storage.readSnapshot();
    if (newest !== undefined && names(newest.metadata.confState, to)) return newest;
    if (this.#snapshotting === undefined) await this.#makeSnapshot();
    // In its turn again: the state must not change amid the call.
    else await this.#snapshotting.then(() => this.#inTurn(() => this.#snapshotting ?? this.#makeSnapshot()));
    const made = this.#storage.readSnapshot();
    if (made !== undefined && names(made.metadata.confState, to)) return made;
    throw new StableLogError("ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE", `no snapshot names node ${to}`);
  }

  async #receiveSnapshot(message: Message, metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#ended) throw stopped(undefined);
    if (this.#receiving) {
      throw new StableLogError("ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE", "another snapshot is being received");
    }
    // One that is behind us is not written: raft answers with what we have.
    if (metadata.index > this.#node.committed()) {
      this.#receiving = true;
      try {
        await this.#storage.stageSnapshot(metadata, data);
      } finally {
        this.#receiving = false;
      }
    }
    this.#receive({ ...message, snapshot: { metadata, data: NO_DATA } });
  }
}

/** Who waits for a proposal to be applied; it is known by its number until then. */
class Pending<Result> extends Waiting<Result> implements Proposal {
  readonly type: EntryType;
  readonly data: Uint8Array;
  readonly #number: number;
  readonly #pending: Map<number, Pending<Result>>;

  constructor(
    type: EntryType,
    data: Uint8Array,
    number: number,
    pending: Map<number, Pending<Result>>,
    ...waiting: ConstructorParameters<typeof Waiting<Result>>
  ) {
    super(...waiting);
    this.type = type;
    this.data = data;
    this.#number = number;
    this.#pending = pending;
    if (!this.cancelled) pending.set(number, this);
  }

  /** Raft's verdict is not what it waits for. */
  accepted(): void {}

  override resolve(result: Result): void {
    this.#pending.delete(this.#number);
    super.resolve(result);
  }

  override reject(error: unknown): void {
    this.#pending.delete(this.#number);
    super.reject(error);
  }

  override handleEvent(): void {
    this.#pending.delete(this.#number);
    super.handleEvent();
  }
}

/** Whether there is anything to save. */
function hasWork({ hardState, entries, snapshot }: Ready): boolean {
  return hardState !== undefined || entries.length > 0 || snapshot !== undefined;
}

function names({ voters, learners, votersOutgoing, learnersNext }: ConfState, id: bigint): boolean {
  return [voters, learners, votersOutgoing, learnersNext].some((ids) => ids.includes(id));
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}
