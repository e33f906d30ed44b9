// Raft: the consensus state machine of one node, as in etcd-raft's raft.go. It is fed messages by step() and time by tick(),
// and leaves what is to be done in `messages`, `messagesAfterAppend`, `readStates` and the log; rawnode.ts makes Readys of
// that. No I/O, no clock, no await; chance comes in by `random`.
//
// Votes and acknowledgements of appends wait in `messagesAfterAppend`: they may be sent only when what they vouch for is
// durable. A leader's and a candidate's own are there too, addressed to themselves.

import { AssertionError, assert, unreachable } from "../base/assert.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import {
  asConfChangeV2,
  type ConfChange,
  type ConfChangeV2,
  decodeConfChange,
  encodeConfChange,
  entersJoint,
  leavesJoint,
} from "../raftpb/conf-change.js";
import {
  isLocalThread,
  LOCAL_APPEND_THREAD,
  type Message,
  MessageType,
  messageTypeName,
  NONE,
  newMessage,
} from "../raftpb/message.js";
import {
  type ConfState,
  type Entry,
  EntryType,
  type HardState,
  isEmptyHardState,
  type Snapshot,
} from "../raftpb/types.js";
import { type Changed, Changer } from "./confchange/confchange.js";
import { restore } from "./confchange/restore.js";
import { entriesSize, NO_LIMIT, payloadsSize, RaftLog } from "./log.js";
import { type Logger, silent } from "./logger.js";
import { sortedIds, type VoteResult } from "./quorum/quorum.js";
import { contextOf, ReadOnly, type ReadOnlyOption, type ReadState } from "./read-only.js";
import type { Storage } from "./storage.js";
import { Inflights } from "./tracker/inflights.js";
import { Progress } from "./tracker/progress.js";
import { ProgressTracker } from "./tracker/tracker.js";

export type StateType = "StateFollower" | "StateCandidate" | "StateLeader" | "StatePreCandidate";

/** What is worth knowing of a node, and not worth keeping. */
export interface SoftState {
  /** NONE when there is no leader, or none known. */
  readonly lead: bigint;
  readonly raftState: StateType;
}

export interface RaftConfig {
  /** Of this node: neither 0n nor a local thread's. */
  readonly id: bigint;
  /** Ticks without a word of a leader after which a follower campaigns; up to twice as many, by chance. */
  readonly electionTick: number;
  /** Ticks between a leader's heartbeats; less than electionTick, a tenth is usual. */
  readonly heartbeatTick: number;
  /** What the node left when it stopped; new nodes have a snapshot with their ConfState in it. */
  readonly storage: Storage;
  /** The last index that was applied before the node stopped; what follows it is handed out again. 0: not known. */
  readonly applied?: number | undefined;
  /** Storage writes are asked for by messages to local threads, and many may be under way. */
  readonly asyncStorageWrites?: boolean | undefined;
  /** Bytes of entries in one MsgApp, at least one entry; 0 for one each. */
  readonly maxSizePerMsg: number;
  /** Bytes of committed entries that are handed out and not yet applied, at least one entry; maxSizePerMsg if not given or 0. */
  readonly maxCommittedSizePerReady?: number | undefined;
  /** Payload bytes that a leader takes without seeing them committed; no limit if not given or 0. */
  readonly maxUncommittedEntriesSize?: number | undefined;
  /** MsgApp that a follower may have to acknowledge. */
  readonly maxInflightMsgs: number;
  /** And their payload bytes; no limit if not given or 0. */
  readonly maxInflightBytes?: number | undefined;
  /** A leader that has not heard of a quorum for an election timeout steps down, and followers of a live one do not vote. */
  readonly checkQuorum?: boolean | undefined;
  /** A node asks whether it could win before it disturbs a leader with a new term. */
  readonly preVote?: boolean | undefined;
  readonly readOnlyOption?: ReadOnlyOption | undefined;
  readonly logger?: Logger | undefined;
  /** Followers drop proposals instead of handing them on. */
  readonly disableProposalForwarding?: boolean | undefined;
  /** Whoever applies changes of configuration judges them, with more than raft knows. */
  readonly disableConfChangeValidation?: boolean | undefined;
  /** A leader that was removed or became a learner steps down. */
  readonly stepDownOnRemoval?: boolean | undefined;
  /** A number from 0 to below `n`, at random: what spreads election timeouts. */
  readonly random: (n: number) => number;
}

/** Checks a RaftConfig. @throws ERR_INVALID_ARGUMENT */
export function checkRaftConfig(config: RaftConfig): void {
  const fault = faultOf(config);
  if (fault !== undefined) throw new StableLogError("ERR_INVALID_ARGUMENT", `raft config: ${fault}`);
}

function faultOf(config: RaftConfig): string | undefined {
  const { id, electionTick, heartbeatTick, maxSizePerMsg, maxInflightMsgs } = config;
  const { maxCommittedSizePerReady = 0, maxUncommittedEntriesSize = 0, maxInflightBytes = 0 } = config;
  if (typeof id !== "bigint" || id <= NONE || id > LOCAL_APPEND_THREAD) return "id must be a bigint from 1 to 2^64 - 3";
  if (isLocalThread(id)) return "id is one of the local threads'";
  if (!Number.isSafeInteger(heartbeatTick) || heartbeatTick <= 0) return "heartbeatTick must be greater than 0";
  if (!Number.isSafeInteger(electionTick) || electionTick <= heartbeatTick) {
    return "electionTick must be greater than heartbeatTick";
  }
  if (typeof config.storage !== "object" || config.storage === null) return "storage must be given";
  if (!(maxSizePerMsg >= 0)) return "maxSizePerMsg must be a number of bytes";
  if (!(maxCommittedSizePerReady >= 0)) return "maxCommittedSizePerReady must be a number of bytes";
  if (!(maxUncommittedEntriesSize >= 0)) return "maxUncommittedEntriesSize must be a number of bytes";
  if (!(maxInflightMsgs > 0)) return "maxInflightMsgs must be greater than 0";
  if (!Number.isInteger(maxInflightMsgs) && maxInflightMsgs !== NO_LIMIT)
    return "maxInflightMsgs must be a whole number";
  if (!(maxInflightBytes >= 0)) return "maxInflightBytes must be a number of bytes";
  if (maxInflightBytes > 0 && maxInflightBytes < maxSizePerMsg) {
    return "maxInflightBytes must be at least maxSizePerMsg";
  }
  if (config.readOnlyOption === "LeaseBased" && config.checkQuorum !== true) {
    return "checkQuorum must be on for readOnlyOption LeaseBased";
  }
  return undefined;
}

/** Marks a vote request of a campaign that the leader itself ordered. */
const CAMPAIGN_TRANSFER = new TextEncoder().encode("CampaignTransfer");

type Campaign = "preElection" | "election" | "transfer";

/** The change that a proposed entry carries; undefined where its bytes are none, which no member could apply. */
function changeIn(type: EntryType, data: Uint8Array): ConfChangeV2 | undefined {
  try {
    return asConfChangeV2(decodeConfChange(type, data));
  } catch (error) {
    if (errnoOf(error) === "ERR_CORRUPT") return undefined;
    throw error;
  }
}

const dropped = (): StableLogError => new StableLogError("ERR_PROPOSAL_DROPPED", "raft proposal dropped");

export class Raft {
  readonly id: bigint;
  term = 0;
  vote = NONE;
  lead = NONE;
  state: StateType = "StateFollower";
  isLearner = false;
  readonly log: RaftLog;
  tracker: ProgressTracker;
  readStates: ReadState[] = [];
  /** May be sent at once. */
  messages: Message[] = [];
  /** May be sent, or stepped when they are our own, once everything of before is durable. */
  messagesAfterAppend: Message[] = [];
  /** Leadership is being handed to this node. */
  leadTransferee = NONE;
  /** No change of configuration is appended while one at or below this index may be unapplied. */
  pendingConfIndex = 0;
  /** Payload bytes appended as a leader and not known to be committed. An estimate: what an earlier leader left is not in it. */
  #uncommittedSize = 0;
  #readOnly: ReadOnly;
  /** Read requests that came before this leader had committed an entry of its term. */
  #pendingReads: Message[] = [];
  /** Ticks since the election timeout last began: since the last word of the leader, or, of a leader, the last check. */
  electionElapsed = 0;
  heartbeatElapsed = 0;
  readonly #electionTimeout: number;
  readonly #heartbeatTimeout: number;
  /** From electionTimeout to below twice that; chosen anew with every change of state. */
  randomizedElectionTimeout = 0;
  readonly #config: RaftConfig;
  readonly #maxMsgSize: number;
  readonly #maxUncommittedSize: number;
  readonly #logger: Logger;

  /** @throws ERR_INVALID_ARGUMENT, and what Storage throws. */
  constructor(config: RaftConfig) {
    checkRaftConfig(config);
    const logger = config.logger ?? silent;
    this.id = config.id;
    this.#config = config;
    this.#logger = logger;
    this.#maxMsgSize = config.maxSizePerMsg;
    this.#maxUncommittedSize = config.maxUncommittedEntriesSize || NO_LIMIT;
    this.#electionTimeout = config.electionTick;
    this.#heartbeatTimeout = config.heartbeatTick;
    this.#readOnly = new ReadOnly(config.readOnlyOption ?? "Safe");
    // Where a message takes one entry, whatever its size, so does applying: of no bytes at all nothing could be handed out.
    const maxApplyingSize = config.maxCommittedSizePerReady || config.maxSizePerMsg || 1;
    this.log = new RaftLog(config.storage, logger, maxApplyingSize);
    this.tracker = new ProgressTracker(config.maxInflightMsgs, config.maxInflightBytes ?? 0);
    const { hardState, confState } = config.storage.initialState();
    this.#switchTo(restore(confState, this.tracker, this.log.lastIndex()));
    if (!isEmptyHardState(hardState)) this.#load(hardState);
    if (config.applied !== undefined && config.applied > 0) {
      // What was applied was committed, whether the HardState had said so by then or not: with asynchronous writes applying
      // may run ahead of it.
      this.log.commitTo(config.applied);
      this.log.appliedTo(config.applied, 0);
    }
    this.becomeFollower(this.term, NONE);
    logger.info(`node ${this.#name(this.id)} starts at term ${this.term}, ${this.log}`);
  }

  // ---- what others read

  get softState(): SoftState {
    return { lead: this.lead, raftState: this.state };
  }

  get hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed };
  }

  #load({ term, vote, commit }: HardState): void {
    const last = this.log.lastIndex();
    if (commit > last) {
      throw new StableLogError("ERR_CORRUPT", `start raft: HardState commits ${commit}, the log ends at ${last}`);
    }
    // One below where the log begins is no contradiction: with asynchronous writes entries may be applied, and compacted,
    // before the HardState that commits them is saved.
    this.log.commitTo(commit);
    this.term = term;
    this.vote = vote;
  }

  #name(id: bigint): string {
    return id.toString(16);
  }

  // ---- sending

  #send(type: MessageType, to: bigint, fields: Partial<Omit<Message, "type" | "to">> = {}): void {
    this.#forward(newMessage(type, { ...fields, to }));
  }

  #forward(message: Message): void {
    const { type } = message;
    if (message.from === NONE) message.from = this.id;
    if (
      type === MessageType.MsgVote ||
      type === MessageType.MsgVoteResp ||
      type === MessageType.MsgPreVote ||
      type === MessageType.MsgPreVoteResp
    ) {
      // Each of them is of the term that it asks for or grants, which need not be ours.
      assert(message.term !== 0, `${messageTypeName(type)} without a term`);
    } else {
      assert(message.term === 0, `${messageTypeName(type)} has a term already`);
      // Proposals and read requests are handed on to the leader, of whatever term.
      if (type !== MessageType.MsgProp && type !== MessageType.MsgReadIndex) message.term = this.term;
    }
    if (type === MessageType.MsgAppResp || type === MessageType.MsgVoteResp || type === MessageType.MsgPreVoteResp) {
      this.messagesAfterAppend.push(message);
    } else {
      assert(message.to !== this.id, `${messageTypeName(type)} to itself`);
      this.messages.push(message);
    }
  }

  #sendAppend(to: bigint): boolean {
    return this.#maybeSendAppend(to, true);
  }

  /** Sends entries to a follower, or a snapshot where the log does not reach back so far; false when nothing was sent. */
  #maybeSendAppend(to: bigint, sendIfEmpty: boolean): boolean {
    const progress = this.tracker.progress.get(to) as Progress;
    if (progress.paused) return false;
    const previous = progress.next - 1;
    const logTerm = this.log.maybeTerm(previous);
    if (logTerm === undefined) return this.#maybeSendSnapshot(to, progress);
    let entries: Entry[] = [];
    // With a full window an empty message goes: if all that is in flight was lost, its answer is what gets things going again.
    if (progress.state !== "StateReplicate" || !progress.inflights.full) {
      try {
        entries = this.log.entries(progress.next, this.#maxMsgSize);
      } catch (error) {
        if (errnoOf(error) !== "ERR_COMPACTED") throw error;
        return this.#maybeSendSnapshot(to, progress);
      }
    }
    if (entries.length === 0 && !sendIfEmpty) return false;
    const commit = this.log.committed;
    this.#send(MessageType.MsgApp, to, { index: previous, logTerm, entries, commit });
    progress.sentEntries(entries.length, payloadsSize(entries));
    progress.sentCommit(commit);
    return true;
  }

  #maybeSendSnapshot(to: bigint, progress: Progress): boolean {
    // Nobody may be there.
    if (!progress.recentActive) return false;
    let snapshot: Snapshot;
    try {
      snapshot = this.log.snapshot();
    } catch (error) {
      if (errnoOf(error) === "ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE") return false;
      throw error;
    }
    const { index } = snapshot.metadata;
    if (index === 0) throw new AssertionError("the log is compacted and Storage has no snapshot");
    this.#logger.debug(`snapshot ${index} goes to ${this.#name(to)}: ${progress}`);
    progress.becomeSnapshot(index);
    this.#send(MessageType.MsgSnap, to, { snapshot });
    return true;
  }

  #sendHeartbeat(to: bigint, context: Uint8Array | undefined): void {
    const progress = this.tracker.progress.get(to) as Progress;
    // Never beyond what the follower is known to have: it might not match there.
    const commit = Math.min(progress.match, this.log.committed);
    this.#send(MessageType.MsgHeartbeat, to, context === undefined ? { commit } : { commit, context });
    progress.sentCommit(commit);
  }

  #broadcastAppend(): void {
    this.tracker.visit((id) => {
      if (id !== this.id) this.#sendAppend(id);
    });
  }

  #broadcastHeartbeat(context = this.#readOnly.lastContext()): void {
    this.tracker.visit((id) => {
      if (id !== this.id) this.#sendHeartbeat(id, context);
    });
  }

  // ---- the log

  /** Entries up to `index` have been applied. */
  #appliedTo(index: number, size: number): void {
    const applied = Math.max(index, this.log.applied);
    this.log.appliedTo(applied, size);
    if (!this.tracker.config.autoLeave || applied < this.pendingConfIndex || this.state !== "StateLeader") return;
    // No bytes are an empty ConfChangeV2, and never too many. When it is dropped, the next applied entry tries again.
    const entry: Entry = { term: 0, index: 0, type: EntryType.ConfChangeV2, data: new Uint8Array(0) };
    try {
      this.step(newMessage(MessageType.MsgProp, { entries: [entry] }));
      this.#logger.info(`leaving the joint configuration ${this.tracker.config}`);
    } catch (error) {
      if (errnoOf(error) !== "ERR_PROPOSAL_DROPPED") throw error;
      this.#logger.debug(`not leaving the joint configuration ${this.tracker.config} yet`);
    }
  }

  #appliedSnapshot({ metadata }: Snapshot): void {
    this.log.unstable.stableSnapTo(metadata.index);
    this.#appliedTo(metadata.index, 0);
  }

  /** Commits what a quorum has; says whether that is news. */
  #maybeCommit(): boolean {
    return this.log.maybeCommit({ term: this.term, index: this.tracker.committed() });
  }

  /** Appends to a leader's own log, giving the entries their place; false when the uncommitted ones are too many bytes. */
  #appendEntries(entries: readonly Entry[]): boolean {
    let index = this.log.lastIndex();
    for (const entry of entries) {
      entry.term = this.term;
      entry.index = ++index;
    }
    if (!this.#increaseUncommittedSize(entries)) {
      this.#logger.warn("too many bytes are uncommitted: proposal dropped");
      return false;
    }
    this.log.append(entries);
    // A leader acknowledges its own entries as a follower does: once they are durable.
    this.#send(MessageType.MsgAppResp, this.id, { index });
    return true;
  }

  #increaseUncommittedSize(entries: readonly Entry[]): boolean {
    const size = payloadsSize(entries);
    // One of any size is taken when none waits; empty entries always are: a new leader's first, and those that leave a joint
    // configuration.
    if (this.#uncommittedSize > 0 && size > 0 && this.#uncommittedSize + size > this.#maxUncommittedSize) return false;
    this.#uncommittedSize += size;
    return true;
  }

  // ---- states

  #reset(term: number): void {
    if (this.term !== term) {
      this.term = term;
      this.vote = NONE;
    }
    this.lead = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.randomizedElectionTimeout = this.#electionTimeout + this.#config.random(this.#electionTimeout);
    this.leadTransferee = NONE;
    this.tracker.resetVotes();
    const { progress, maxInflight, maxInflightBytes } = this.tracker;
    const last = this.log.lastIndex();
    for (const [id, { isLearner }] of progress) {
      const inflights = new Inflights(maxInflight, maxInflightBytes);
      progress.set(id, new Progress(last + 1, inflights, isLearner, id === this.id ? last : 0));
    }
    this.pendingConfIndex = 0;
    this.#uncommittedSize = 0;
    this.#readOnly = new ReadOnly(this.#readOnly.option);
  }

  becomeFollower(term: number, lead: bigint): void {
    this.#reset(term);
    this.lead = lead;
    this.state = "StateFollower";
    this.#logger.info(`${this.#name(this.id)} is a follower at term ${this.term}`);
  }

  becomeCandidate(): void {
    assert(this.state !== "StateLeader", "a leader becomes a candidate");
    this.#reset(this.term + 1);
    this.vote = this.id;
    this.state = "StateCandidate";
    this.#logger.info(`${this.#name(this.id)} is a candidate at term ${this.term}`);
  }

  /** Neither term nor vote change before a quorum has said that it would vote. */
  becomePreCandidate(): void {
    assert(this.state !== "StateLeader", "a leader becomes a pre-candidate");
    this.tracker.resetVotes();
    this.lead = NONE;
    this.state = "StatePreCandidate";
    this.#logger.info(`${this.#name(this.id)} is a pre-candidate at term ${this.term}`);
  }

  becomeLeader(): void {
    assert(this.state !== "StateFollower", "a follower becomes a leader");
    this.#reset(this.term);
    this.lead = this.id;
    this.state = "StateLeader";
    const own = this.tracker.progress.get(this.id) as Progress;
    own.becomeReplicate();
    own.recentActive = true;
    // A change of configuration may stand in what is not committed; to look for it could take long, to wait for it does not.
    this.pendingConfIndex = this.log.lastIndex();
    const entry: Entry = { term: 0, index: 0, type: EntryType.Normal, data: new Uint8Array(0) };
    assert(this.#appendEntries([entry]), "an empty entry was refused");
    this.#logger.info(`${this.#name(this.id)} is the leader at term ${this.term}`);
  }

  /** A unit of time has passed. */
  tick(): void {
    if (this.state === "StateLeader") this.#tickHeartbeat();
    else this.#tickElection();
  }

  #tickElection(): void {
    this.electionElapsed++;
    if (!this.promotable || this.electionElapsed < this.randomizedElectionTimeout) return;
    this.electionElapsed = 0;
    this.step(newMessage(MessageType.MsgHup, { from: this.id }));
  }

  #tickHeartbeat(): void {
    this.heartbeatElapsed++;
    this.electionElapsed++;
    if (this.electionElapsed >= this.#electionTimeout) {
      this.electionElapsed = 0;
      if (this.#config.checkQuorum === true) this.step(newMessage(MessageType.MsgCheckQuorum, { from: this.id }));
      // Whom leadership was to go to has not taken it in all this time.
      if (this.state === "StateLeader") this.leadTransferee = NONE;
    }
    // The check may have deposed it; the types cannot know.
    if ((this.state as StateType) !== "StateLeader") return;
    if (this.heartbeatElapsed >= this.#heartbeatTimeout) {
      this.heartbeatElapsed = 0;
      this.step(newMessage(MessageType.MsgBeat, { from: this.id }));
    }
  }

  /** Whether it may become a leader: a voter, with nothing of a snapshot still to be written. */
  get promotable(): boolean {
    const own = this.tracker.progress.get(this.id);
    return own !== undefined && !own.isLearner && !this.log.hasNextOrInProgressSnapshot;
  }

  // ---- elections

  #hup(campaign: Campaign): void {
    if (this.state === "StateLeader") return;
    if (!this.promotable) {
      this.#logger.warn(`${this.#name(this.id)} cannot be elected: no campaign`);
      return;
    }
    if (this.#hasUnappliedConfChanges()) {
      this.#logger.warn(`${this.#name(this.id)} has changes of configuration to apply: no campaign`);
      return;
    }
    this.#campaign(campaign);
  }

  #hasUnappliedConfChanges(): boolean {
    const { applied, committed, maxApplyingSize } = this.log;
    let found = false;
    this.log.scan(applied + 1, committed + 1, maxApplyingSize, (entries) => {
      found = entries.some(({ type }) => type !== EntryType.Normal);
      return !found;
    });
    return found;
  }

  #campaign(campaign: Campaign): void {
    const pre = campaign === "preElection";
    if (pre) this.becomePreCandidate();
    else this.becomeCandidate();
    // A pre-vote asks for the next term, which it does not enter.
    const term = pre ? this.term + 1 : this.term;
    const type = pre ? MessageType.MsgPreVote : MessageType.MsgVote;
    const context = campaign === "transfer" ? { context: CAMPAIGN_TRANSFER } : {};
    for (const id of sortedIds(this.tracker.config.voters.ids())) {
      if (id === this.id) {
        // Its own vote counts as everybody's: once it is durable.
        this.#send(responseTo(type), id, { term });
      } else {
        const last = this.log.lastEntryId();
        this.#send(type, id, { term, index: last.index, logTerm: last.term, ...context });
      }
    }
  }

  #poll(id: bigint, granted: boolean): VoteResult {
    this.tracker.recordVote(id, granted);
    const tally = this.tracker.tallyVotes();
    this.#logger.info(`${this.#name(this.id)} has ${tally.granted} votes and ${tally.rejected} against it`);
    return tally.result;
  }

  // ---- stepping

  /**
   * Takes in a message of this node's own, of its local threads, or of another node.
   * @throws ERR_PROPOSAL_DROPPED when a proposal can be neither appended nor handed on.
   */
  step(message: Message): void {
    const { type, term } = message;
    if (term > this.term && !this.#enterTerm(message)) return;
    if (term !== 0 && term < this.term) {
      this.#stepOfOldTerm(message);
      return;
    }
    switch (type) {
      case MessageType.MsgHup:
        this.#hup(this.#config.preVote === true ? "preElection" : "election");
        return;
      case MessageType.MsgStorageAppendResp:
        if (message.index !== 0) this.log.unstable.stableTo({ term: message.logTerm, index: message.index });
        if (message.snapshot !== undefined) this.#appliedSnapshot(message.snapshot);
        return;
      case MessageType.MsgStorageApplyResp: {
        const last = message.entries.at(-1);
        if (last === undefined) return;
        this.#appliedTo(last.index, entriesSize(message.entries));
        this.#uncommittedSize = Math.max(0, this.#uncommittedSize - payloadsSize(message.entries));
        return;
      }
      case MessageType.MsgVote:
      case MessageType.MsgPreVote:
        this.#handleVoteRequest(message);
        return;
    }
    switch (this.state) {
      case "StateFollower":
        this.#stepFollower(message);
        return;
      case "StateCandidate":
      case "StatePreCandidate":
        this.#stepCandidate(message);
        return;
      case "StateLeader":
        this.#stepLeader(message);
        return;
      default:
        unreachable(this.state);
    }
  }

  /** A message of a later term: false when it is not heeded. */
  #enterTerm({ type, term, from, context, reject }: Message): boolean {
    if (type === MessageType.MsgVote || type === MessageType.MsgPreVote) {
      const inLease =
        this.#config.checkQuorum === true && this.lead !== NONE && this.electionElapsed < this.#electionTimeout;
      // Who hears of a live leader neither votes nor moves on, unless that leader itself wants the election (raft, 6).
      if (inLease && !isTransfer(context)) {
        this.#logger.info(`${this.#name(from)} asks for a vote while the leader's lease lasts: ignored`);
        return false;
      }
    }
    // A pre-vote is of a term that nobody has entered; a granted one is, too, and only a quorum of them counts.
    if (type === MessageType.MsgPreVote || (type === MessageType.MsgPreVoteResp && !reject)) return true;
    const isLeader = type === MessageType.MsgApp || type === MessageType.MsgHeartbeat || type === MessageType.MsgSnap;
    this.becomeFollower(term, isLeader ? from : NONE);
    return true;
  }

  #stepOfOldTerm(message: Message): void {
    const { type, from } = message;
    const { checkQuorum, preVote } = this.#config;
    const isLeader = type === MessageType.MsgHeartbeat || type === MessageType.MsgApp;
    if ((checkQuorum === true || preVote === true) && isLeader) {
      // A node that was cut off may have gone ahead in terms without a chance to win. Its answer moves the leader on, so that
      // it can take part again.
      this.#send(MessageType.MsgAppResp, from);
    } else if (type === MessageType.MsgPreVote) {
      // Told the newer term, a candidate that cannot win stops asking; dropped in silence, two could wait for each other.
      this.#send(MessageType.MsgPreVoteResp, from, { term: this.term, reject: true });
    } else if (type === MessageType.MsgStorageAppendResp) {
      // The entries may have been replaced in a later term, and the replacement of the same index and term as another still
      // to be written: see appendResponse() of rawnode.ts. A snapshot holds whatever the term.
      if (message.snapshot !== undefined) this.#appliedSnapshot(message.snapshot);
    }
  }

  #handleVoteRequest({ type, from, term, index, logTerm }: Message): void {
    const canVote =
      this.vote === from ||
      (this.vote === NONE && this.lead === NONE) ||
      (type === MessageType.MsgPreVote && term > this.term);
    // A learner votes as well: it may have become a voter and not know it yet, and its vote be the one that is missing.
    if (canVote && this.log.isUpToDate({ term: logTerm, index })) {
      // Of the request's term: a pre-vote's is not ours, and ours would be taken for an old one.
      this.#send(responseTo(type), from, { term });
      if (type === MessageType.MsgVote) {
        this.electionElapsed = 0;
        this.vote = from;
      }
    } else {
      this.#send(responseTo(type), from, { term: this.term, reject: true });
    }
  }

  #stepLeader(message: Message): void {
    const { from } = message;
    switch (message.type) {
      case MessageType.MsgBeat:
        this.#broadcastHeartbeat();
        return;
      case MessageType.MsgCheckQuorum:
        if (!this.tracker.quorumActive()) {
          this.#logger.warn(`${this.#name(this.id)} steps down: no quorum was heard of`);
          this.becomeFollower(this.term, NONE);
        }
        for (const [id, progress] of this.tracker.progress) if (id !== this.id) progress.recentActive = false;
        return;
      case MessageType.MsgProp:
        this.#propose(message);
        return;
      case MessageType.MsgReadIndex:
        this.#readIndex(message);
        return;
      case MessageType.MsgForgetLeader:
        return;
    }
    const progress = this.tracker.progress.get(from);
    if (progress === undefined) {
      this.#logger.debug(`no progress of ${this.#name(from)}`);
      return;
    }
    switch (message.type) {
      case MessageType.MsgAppResp:
        progress.recentActive = true;
        if (message.reject) this.#handleRejected(message, progress);
        else this.#handleAccepted(message, progress);
        return;
      case MessageType.MsgHeartbeatResp:
        progress.recentActive = true;
        progress.msgAppFlowPaused = false;
        // An empty message goes to a follower with a full window, or to a probed one that has everything: its answer is what
        // frees the window, or ends the probing.
        if (progress.match < this.log.lastIndex() || progress.state === "StateProbe") this.#sendAppend(from);
        this.#confirmReads(message);
        return;
      case MessageType.MsgSnapStatus:
        if (progress.state !== "StateSnapshot") return;
        // Forgotten first, or probing would begin behind a snapshot that never arrived.
        if (message.reject) progress.pendingSnapshot = 0;
        progress.becomeProbe();
        // Its answer, or the next heartbeat's, says when to go on.
        progress.msgAppFlowPaused = true;
        return;
      case MessageType.MsgUnreachable:
        // What was in flight is likely lost.
        if (progress.state === "StateReplicate") progress.becomeProbe();
        return;
      case MessageType.MsgTransferLeader:
        this.#transferLeader(from, progress);
        return;
    }
  }

  #propose(message: Message): void {
    const { entries } = message;
    assert(entries.length > 0, "a proposal of nothing");
    // Removed from the group while it leads.
    if (!this.tracker.progress.has(this.id)) throw dropped();
    if (this.leadTransferee !== NONE) throw dropped();
    for (const [i, { type, data }] of entries.entries()) {
      if (type === EntryType.Normal) continue;
      const change = changeIn(type, data);
      if (change === undefined) throw dropped();
      const refusal = this.#config.disableConfChangeValidation === true ? undefined : this.#refusalOf(change);
      if (refusal === undefined) {
        this.pendingConfIndex = this.log.lastIndex() + i + 1;
      } else {
        this.#logger.info(`change of configuration ignored: ${refusal}`);
        entries[i] = { term: 0, index: 0, type: EntryType.Normal, data: new Uint8Array(0) };
      }
    }
    if (!this.#appendEntries(entries)) throw dropped();
    this.#broadcastAppend();
  }

  #refusalOf(change: ConfChangeV2): string | undefined {
    if (this.pendingConfIndex > this.log.applied) return `one at ${this.pendingConfIndex} may not be applied yet`;
    const leaves = change.changes.length === 0;
    if (this.tracker.config.voters.joint && !leaves) return "the joint configuration must be left first";
    if (!this.tracker.config.voters.joint && leaves) return "there is no joint configuration to leave";
    return undefined;
  }

  #handleRejected({ from, index, rejectHint, logTerm }: Message, progress: Progress): void {
    // The follower's hint is the last index at which it may agree, and its term there. Where our log goes on behind that
    // term's end, it cannot agree: a probe for each term, not for each entry.
    const hint = logTerm > 0 ? this.log.findConflictByTerm(rejectHint, logTerm).index : rejectHint;
    if (!progress.maybeDecrTo(index, hint)) return;
    if (progress.state === "StateReplicate") progress.becomeProbe();
    this.#sendAppend(from);
  }

  #handleAccepted({ from, index }: Message, progress: Progress): void {
    // News, or, of a follower that was thought to have missed something, word that it has not.
    if (!progress.maybeUpdate(index) && !(progress.match === index && progress.state === "StateProbe")) return;
    if (progress.state === "StateProbe") {
      progress.becomeReplicate();
    } else if (progress.state === "StateSnapshot") {
      // Whichever snapshot it took, ours or another: it is far enough to go on from the log.
      if (progress.match + 1 >= this.log.firstIndex()) {
        progress.becomeProbe();
        progress.becomeReplicate();
      }
    } else {
      progress.inflights.freeTo(index);
    }
    if (this.#maybeCommit()) {
      this.#releasePendingReads();
      this.#broadcastAppend();
    } else if (from !== this.id && progress.canBumpCommit(this.log.committed)) {
      // The next heartbeat would tell it, too, but later.
      this.#sendAppend(from);
    }
    // The window may have room for several now.
    if (from !== this.id) while (this.#maybeSendAppend(from, false));
    if (from === this.leadTransferee && progress.match === this.log.lastIndex()) {
      this.#send(MessageType.MsgTimeoutNow, from);
    }
  }

  #transferLeader(to: bigint, progress: Progress): void {
    if (progress.isLearner || to === this.leadTransferee) return;
    this.leadTransferee = NONE;
    if (to === this.id) return;
    // It has an election timeout to get there.
    this.electionElapsed = 0;
    this.leadTransferee = to;
    if (progress.match === this.log.lastIndex()) this.#send(MessageType.MsgTimeoutNow, to);
    else this.#sendAppend(to);
  }

  #stepCandidate(message: Message): void {
    const { type, from, term } = message;
    switch (type) {
      case MessageType.MsgProp:
        throw dropped();
      case MessageType.MsgApp:
        this.becomeFollower(term, from);
        this.#handleAppendEntries(message);
        return;
      case MessageType.MsgHeartbeat:
        this.becomeFollower(term, from);
        this.#handleHeartbeat(message);
        return;
      case MessageType.MsgSnap:
        this.becomeFollower(term, from);
        this.#handleSnapshot(message);
        return;
    }
    // Answers to a pre-vote say nothing about the election that it led to.
    const pre = this.state === "StatePreCandidate";
    if (type !== (pre ? MessageType.MsgPreVoteResp : MessageType.MsgVoteResp)) return;
    const result = this.#poll(from, !message.reject);
    if (result === "VoteLost") {
      // Our own term: a pre-vote's answer is of a later one.
      this.becomeFollower(this.term, NONE);
    } else if (result === "VoteWon" && pre) {
      this.#campaign("election");
    } else if (result === "VoteWon") {
      this.becomeLeader();
      this.#broadcastAppend();
    }
  }

  #stepFollower(message: Message): void {
    const { type, from } = message;
    switch (type) {
      case MessageType.MsgProp:
        if (this.lead === NONE || this.#config.disableProposalForwarding === true) throw dropped();
        this.#handOn(message);
        return;
      case MessageType.MsgApp:
        this.#heard(from);
        this.#handleAppendEntries(message);
        return;
      case MessageType.MsgHeartbeat:
        this.#heard(from);
        this.#handleHeartbeat(message);
        return;
      case MessageType.MsgSnap:
        this.#heard(from);
        this.#handleSnapshot(message);
        return;
      case MessageType.MsgTransferLeader:
      case MessageType.MsgReadIndex:
        if (this.lead !== NONE) this.#handOn(message);
        return;
      case MessageType.MsgForgetLeader:
        if (this.#readOnly.option === "LeaseBased") {
          this.#logger.error("MsgForgetLeader ignored: reads rely on the leader's lease");
          return;
        }
        this.lead = NONE;
        return;
      case MessageType.MsgTimeoutNow:
        // Ordered by the leader: no pre-vote, there is nothing to find out.
        this.#hup("transfer");
        return;
      case MessageType.MsgReadIndexResp:
        if (message.entries.length !== 1) return;
        this.readStates.push({ index: message.index, requestContext: contextOf(message) });
        return;
    }
  }

  /** To the leader. Where another has handed it on before, its term is no word of ours. */
  #handOn(message: Message): void {
    this.#forward({ ...message, to: this.lead, term: 0 });
  }

  #heard(from: bigint): void {
    this.electionElapsed = 0;
    this.lead = from;
  }

  #handleAppendEntries({ from, index, logTerm, entries, commit }: Message): void {
    if (index < this.log.committed) {
      this.#send(MessageType.MsgAppResp, from, { index: this.log.committed });
      return;
    }
    const last = this.log.maybeAppend({ term: logTerm, index }, entries, commit);
    if (last !== undefined) {
      this.#send(MessageType.MsgAppResp, from, { index: last });
      return;
    }
    // Where the two logs may agree: not beyond our end, and not where ours is of a later term than the leader's was.
    const hint = this.log.findConflictByTerm(Math.min(index, this.log.lastIndex()), logTerm);
    this.#send(MessageType.MsgAppResp, from, { index, reject: true, rejectHint: hint.index, logTerm: hint.term });
  }

  #handleHeartbeat({ from, commit, context }: Message): void {
    this.log.commitTo(commit);
    this.#send(MessageType.MsgHeartbeatResp, from, { context });
  }

  #handleSnapshot({ from, snapshot }: Message): void {
    const restored = snapshot !== undefined && this.#restore(snapshot);
    this.#send(MessageType.MsgAppResp, from, { index: restored ? this.log.lastIndex() : this.log.committed });
  }

  /** Takes a snapshot in place of the log; false when it says nothing new. */
  #restore(snapshot: Snapshot): boolean {
    const { index, term, confState } = snapshot.metadata;
    if (index <= this.log.committed) return false;
    if (this.state !== "StateFollower") {
      // Cannot happen: whoever steps a MsgSnap has become a follower by then.
      this.becomeFollower(this.term + 1, NONE);
      return false;
    }
    const { voters, learners, votersOutgoing } = confState;
    // Who will be a learner is a voter of the outgoing half.
    if (![voters, learners, votersOutgoing].some((ids) => ids.includes(this.id))) {
      this.#logger.warn(`a snapshot of a configuration without ${this.#name(this.id)} is ignored`);
      return false;
    }
    if (this.log.matchTerm({ term, index })) {
      this.log.commitTo(index);
      return false;
    }
    this.log.restore(snapshot);
    this.tracker = new ProgressTracker(this.tracker.maxInflight, this.tracker.maxInflightBytes);
    this.#switchTo(restore(confState, this.tracker, this.log.lastIndex()));
    this.#logger.info(`snapshot ${index} of term ${term} restored`);
    return true;
  }

  // ---- configuration

  /** Applies a change of configuration that was committed. @throws ConfChangeError when it leads nowhere. */
  applyConfChange(change: ConfChange | ConfChangeV2): ConfState {
    const v2 = asConfChangeV2(change);
    const changer = new Changer(this.tracker, this.log.lastIndex());
    const joint = entersJoint(v2);
    let changed: Changed;
    if (leavesJoint(v2)) changed = changer.leaveJoint();
    else if (joint !== undefined) changed = changer.enterJoint(joint.autoLeave, v2.changes);
    else changed = changer.simple(v2.changes);
    return this.#switchTo(changed);
  }

  #switchTo({ config, progress }: Changed): ConfState {
    this.tracker.config = config;
    this.tracker.progress = progress;
    this.#logger.info(`${this.#name(this.id)} has configuration ${config}`);
    const state = this.tracker.confState();
    const own = progress.get(this.id);
    this.isLearner = own?.isLearner === true;
    if ((own === undefined || this.isLearner) && this.state === "StateLeader") {
      // It leads on until somebody else does, so that the change reaches everyone; or, when that is asked for, at once no more.
      if (this.#config.stepDownOnRemoval === true) this.becomeFollower(this.term, NONE);
      return state;
    }
    if (this.state !== "StateLeader" || state.voters.length === 0) return state;
    if (this.#maybeCommit()) {
      // With fewer voters more may be committed.
      this.#broadcastAppend();
    } else {
      // New nodes need not wait for a heartbeat.
      this.tracker.visit((id) => {
        if (id !== this.id) this.#maybeSendAppend(id, false);
      });
    }
    if (this.leadTransferee !== NONE && !config.voters.has(this.leadTransferee)) this.leadTransferee = NONE;
    return state;
  }

  // ---- reads

  #readIndex(request: Message): void {
    if (this.tracker.singleton) {
      this.#answerRead(request, this.log.committed);
    } else if (!this.#committedInCurrentTerm()) {
      // Before that a leader does not know how far the log is committed (raft, 6.4).
      this.#pendingReads.push(request);
    } else {
      this.#confirmRead(request);
    }
  }

  #committedInCurrentTerm(): boolean {
    return this.log.maybeTerm(this.log.committed) === this.term;
  }

  #releasePendingReads(): void {
    if (this.#pendingReads.length === 0 || !this.#committedInCurrentTerm()) return;
    for (const request of this.#pendingReads.splice(0)) this.#confirmRead(request);
  }

  #confirmRead(request: Message): void {
    if (this.#readOnly.option === "LeaseBased") {
      this.#answerRead(request, this.log.committed);
      return;
    }
    const context = contextOf(request);
    this.#readOnly.add(this.log.committed, request);
    this.#readOnly.acknowledge(this.id, context);
    this.#broadcastHeartbeat(context);
  }

  #confirmReads({ from, context }: Message): void {
    if (this.#readOnly.option !== "Safe" || context.length === 0) return;
    const acks = this.#readOnly.acknowledge(from, context);
    if (this.tracker.config.voters.voteResult(acks) !== "VoteWon") return;
    for (const { request, index } of this.#readOnly.advance(context)) this.#answerRead(request, index);
  }

  #answerRead(request: Message, index: number): void {
    const { from, entries } = request;
    if (from === NONE || from === this.id) this.readStates.push({ index, requestContext: contextOf(request) });
    else this.#send(MessageType.MsgReadIndexResp, from, { index, entries });
  }
}

function responseTo(type: MessageType): MessageType {
  if (type === MessageType.MsgVote) return MessageType.MsgVoteResp;
  assert(type === MessageType.MsgPreVote, `${messageTypeName(type)} asks for no vote`);
  return MessageType.MsgPreVoteResp;
}

function isTransfer(context: Uint8Array): boolean {
  return context.length === CAMPAIGN_TRANSFER.length && CAMPAIGN_TRANSFER.every((byte, i) => byte === context[i]);
}

/** The proposal of a change of configuration. */
export function confChangeProposal(change: ConfChange | ConfChangeV2): Message {
  const { type, data } = encodeConfChange(change);
  return newMessage(MessageType.MsgProp, { entries: [{ term: 0, index: 0, type, data }] });
}
