// RawNode: raft for an owner who has a loop of his own, as in etcd-raft's rawnode.go. Not safe for calls from within calls.
//
// The loop: tick() as time passes, step() what comes from other nodes, propose(). While hasReady(): ready(), write what it
// holds, send its messages, apply its committed entries, advance(). With asynchronous storage writes there is no advance():
// messages to the local threads say what to write and to apply, and carry the responses to deliver when that is done.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import type { ConfChange, ConfChangeV2 } from "../raftpb/conf-change.js";
import {
  isLocalMessage,
  isLocalThread,
  isResponseMessage,
  LOCAL_APPEND_THREAD,
  LOCAL_APPLY_THREAD,
  type Message,
  MessageType,
  messageTypeName,
  newMessage,
} from "../raftpb/message.js";
import { type ConfState, type Entry, EntryType, type HardState, isEmptyHardState } from "../raftpb/types.js";
import { entriesSize } from "./log.js";
import { confChangeProposal, Raft, type RaftConfig, type SoftState } from "./raft.js";
import { mustSync, type Ready } from "./ready.js";
import { type BasicStatus, basicStatusOf, type Status, statusOf } from "./status.js";

export class RawNode {
  /** The state machine, for who looks inside; it is stepped through the RawNode. */
  readonly raft: Raft;
  readonly #asyncStorageWrites: boolean;
  #previousSoftState: SoftState;
  #previousHardState: HardState;
  /** Our own messages of the accepted Ready, to step when it has been written and applied. */
  #stepsOnAdvance: Message[] = [];

  /** @throws ERR_INVALID_ARGUMENT, and what Storage throws. */
  constructor(config: RaftConfig) {
    this.raft = new Raft(config);
    this.#asyncStorageWrites = config.asyncStorageWrites === true;
    this.#previousSoftState = this.raft.softState;
    this.#previousHardState = this.raft.hardState;
  }

  /** A unit of time has passed. */
  tick(): void {
    this.raft.tick();
  }

  /** Becomes a candidate. */
  campaign(): void {
    this.raft.step(newMessage(MessageType.MsgHup));
  }

  /** Proposes data for the log. It may be lost on its way; whoever proposed it tries again. @throws ERR_PROPOSAL_DROPPED */
  propose(data: Uint8Array): void {
    this.proposeAll([data]);
  }

  /** Proposes several, which are appended together. @throws ERR_PROPOSAL_DROPPED */
  proposeAll(datas: readonly Uint8Array[]): void {
    const entries = datas.map((data): Entry => ({ term: 0, index: 0, type: EntryType.Normal, data }));
    this.raft.step(newMessage(MessageType.MsgProp, { from: this.raft.id, entries }));
  }

  /** Proposes a change of configuration. @throws ERR_PROPOSAL_DROPPED */
  proposeConfChange(change: ConfChange | ConfChangeV2): void {
    this.raft.step(confChangeProposal(change));
  }

  /** Applies a committed change of configuration; to be called for each, with the empty one where it was decided against. */
  applyConfChange(change: ConfChange | ConfChangeV2): ConfState {
    return this.raft.applyConfChange(change);
  }

  /**
   * Takes in a message of another node or of a local thread.
   * @throws ERR_STEP_LOCAL_MSG, ERR_STEP_PEER_NOT_FOUND, ERR_PROPOSAL_DROPPED; ERR_INVALID_ARGUMENT for a proposal or a
   * read request of nothing, and for a message of no term that must be of one: it could take this node's back.
   */
  step(message: Message): void {
    const { type, from, term } = message;
    if (!isLocalThread(from)) {
      if (isLocalMessage(type)) {
        throw new StableLogError("ERR_STEP_LOCAL_MSG", "raft: cannot step raft local message");
      }
      if (isResponseMessage(type) && !this.raft.tracker.progress.has(from)) {
        throw new StableLogError("ERR_STEP_PEER_NOT_FOUND", "raft: cannot step as peer not found");
      }
      if (term === 0 && !isRequest(type)) {
        throw new StableLogError("ERR_INVALID_ARGUMENT", `raft: cannot step ${messageTypeName(type)} without a term`);
      }
      const asks = type === MessageType.MsgProp || type === MessageType.MsgReadIndex;
      if (asks && message.entries.length === 0) {
        throw new StableLogError("ERR_INVALID_ARGUMENT", `raft: cannot step ${messageTypeName(type)} without an entry`);
      }
    }
    this.raft.step(message);
  }

  /** What is to be done now; with it goes the duty to do it. */
  ready(): Ready {
    const ready = this.#peek();
    this.#accept(ready);
    return ready;
  }

  #peek(): Ready {
    const { raft } = this;
    const softState = this.#changedSoftState();
    const hardState = raft.hardState;
    const changed = !sameHardState(hardState, this.#previousHardState);
    const entries = raft.log.nextUnstableEntries();
    const snapshot = raft.log.unstable.nextSnapshot();
    const committedEntries = raft.log.nextCommittedEntries(!this.#asyncStorageWrites);
    const ready: Ready = {
      softState,
      hardState: changed ? hardState : undefined,
      readStates: raft.readStates,
      entries,
      snapshot,
      committedEntries,
      messages: raft.messages,
      mustSync: mustSync(hardState, this.#previousHardState, entries.length),
    };
    if (this.#asyncStorageWrites) {
      if (entries.length > 0 || changed || snapshot !== undefined || raft.messagesAfterAppend.length > 0) {
        ready.messages.push(this.#appendMessage(ready));
      }
      if (committedEntries.length > 0) ready.messages.push(this.#applyMessage(committedEntries));
    } else {
      // Nothing of a Ready may be sent before what it holds is durable, so these need no place of their own.
      for (const message of raft.messagesAfterAppend) if (message.to !== raft.id) ready.messages.push(message);
    }
    return ready;
  }

  #accept(ready: Ready): void {
    const { raft } = this;
    if (ready.softState !== undefined) this.#previousSoftState = ready.softState;
    if (ready.hardState !== undefined && !isEmptyHardState(ready.hardState)) this.#previousHardState = ready.hardState;
    if (ready.readStates.length > 0) raft.readStates = [];
    if (!this.#asyncStorageWrites) {
      assert(this.#stepsOnAdvance.length === 0, "ready() was called twice without advance()");
      for (const message of raft.messagesAfterAppend) if (message.to === raft.id) this.#stepsOnAdvance.push(message);
      if (this.#wantsAppendResponse(ready)) this.#stepsOnAdvance.push(this.#appendResponse(ready));
      if (ready.committedEntries.length > 0) this.#stepsOnAdvance.push(this.#applyResponse(ready.committedEntries));
    }
    raft.messages = [];
    raft.messagesAfterAppend = [];
    raft.log.unstable.acceptInProgress();
    const last = ready.committedEntries.at(-1);
    if (last !== undefined) {
      raft.log.acceptApplying(last.index, entriesSize(ready.committedEntries), !this.#asyncStorageWrites);
    }
  }

  /** Whether ready() has anything to say. */
  hasReady(): boolean {
    const { raft } = this;
    const { hardState } = raft;
    return (
      this.#changedSoftState() !== undefined ||
      (!isEmptyHardState(hardState) && !sameHardState(hardState, this.#previousHardState)) ||
      raft.log.unstable.nextSnapshot() !== undefined ||
      raft.messages.length > 0 ||
      raft.messagesAfterAppend.length > 0 ||
      raft.log.unstable.hasNextEntries ||
      raft.log.hasNextCommittedEntries(!this.#asyncStorageWrites) ||
      raft.readStates.length > 0
    );
  }

  /** The last Ready has been written, sent and applied. Not with asynchronous storage writes. */
  advance(): void {
    assert(!this.#asyncStorageWrites, "advance() was called with asynchronous storage writes");
    const steps = this.#stepsOnAdvance;
    this.#stepsOnAdvance = [];
    for (const message of steps) this.raft.step(message);
  }

  status(): Status {
    return statusOf(this.raft);
  }

  /** status() without what is known of followers: cheap. */
  basicStatus(): BasicStatus {
    return basicStatusOf(this.raft);
  }

  /** A message could not be delivered. */
  reportUnreachable(id: bigint): void {
    this.raft.step(newMessage(MessageType.MsgUnreachable, { from: id }));
  }

  /** A snapshot that was sent has arrived, or has not. */
  reportSnapshot(id: bigint, arrived: boolean): void {
    this.raft.step(newMessage(MessageType.MsgSnapStatus, { from: id, reject: !arrived }));
  }

  /** Hands leadership to another node, when it can be brought up to date within an election timeout. */
  transferLeader(to: bigint): void {
    this.raft.step(newMessage(MessageType.MsgTransferLeader, { from: to }));
  }

  /** A follower no longer counts on its leader: it grants pre-votes as if its election timeout had passed. */
  forgetLeader(): void {
    this.raft.step(newMessage(MessageType.MsgForgetLeader));
  }

  /** Asks from which index on a read is linearizable; a ReadState of the same context answers. */
  readIndex(context: Uint8Array): void {
    const entry: Entry = { term: 0, index: 0, type: EntryType.Normal, data: context };
    this.raft.step(newMessage(MessageType.MsgReadIndex, { entries: [entry] }));
  }

  #changedSoftState(): SoftState | undefined {
    const { softState } = this.raft;
    const { lead, raftState } = this.#previousSoftState;
    return softState.lead === lead && softState.raftState === raftState ? undefined : softState;
  }

  // ---- asynchronous storage writes

  #appendMessage(ready: Ready): Message {
    const { raft } = this;
    // The HardState's fields when it changed, zeros when it did not.
    const { term = 0, vote = 0n, commit = 0 } = ready.hardState ?? {};
    // Our own acknowledgement of entries comes before the word that they are durable: it needs their term, which is at hand
    // as long as they count as unstable.
    const responses = [...raft.messagesAfterAppend];
    if (this.#wantsAppendResponse(ready)) responses.push(this.#appendResponse(ready));
    return newMessage(MessageType.MsgStorageAppend, {
      to: LOCAL_APPEND_THREAD,
      from: raft.id,
      term,
      vote,
      commit,
      entries: ready.entries,
      snapshot: ready.snapshot,
      responses,
    });
  }

  /**
   * Entries that are under way count as well as those of this Ready: the one that is answered last must say that all of them
   * are durable.
   */
  #wantsAppendResponse(ready: Ready): boolean {
    return this.raft.log.hasNextOrInProgressUnstableEntries || ready.snapshot !== undefined;
  }

  /**
   * The word that what has been written is durable. It names the log's last entry, whose index and term tell whether it is
   * still what stands there. That is not enough: entries that were written may be replaced by another leader's, and those
   * again by the same as at first (A, B, A), of which the last are not written yet. So it is of the term in which it was
   * made, and one of an earlier term is not heeded: within a term no entry is replaced.
   */
  #appendResponse(ready: Ready): Message {
    const { raft } = this;
    const last = raft.log.hasNextOrInProgressUnstableEntries ? raft.log.lastEntryId() : { index: 0, term: 0 };
    return newMessage(MessageType.MsgStorageAppendResp, {
      to: raft.id,
      from: LOCAL_APPEND_THREAD,
      term: raft.term,
      index: last.index,
      logTerm: last.term,
      snapshot: ready.snapshot,
    });
  }

  #applyMessage(entries: Entry[]): Message {
    return newMessage(MessageType.MsgStorageApply, {
      to: LOCAL_APPLY_THREAD,
      from: this.raft.id,
      entries,
      responses: [this.#applyResponse(entries)],
    });
  }

  #applyResponse(entries: Entry[]): Message {
    return newMessage(MessageType.MsgStorageApplyResp, { to: this.raft.id, from: LOCAL_APPLY_THREAD, entries });
  }
}

/** What is handed on to a leader, whichever term that leads, or asked of a node by its owner. */
function isRequest(type: MessageType): boolean {
  return (
    type === MessageType.MsgProp ||
    type === MessageType.MsgReadIndex ||
    type === MessageType.MsgTransferLeader ||
    type === MessageType.MsgForgetLeader
  );
}

function sameHardState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}
