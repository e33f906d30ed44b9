// What raft nodes tell each other, and a node itself: Message and its kinds, as in etcd's raftpb. Words, no behaviour beyond
// what a kind is. Made and read by raft/, carried by node/, printed by raft/describe.ts.

import type { Entry, Snapshot } from "./types.js";

/** The kinds of messages. The numbers are etcd's. */
export const MessageType = {
  MsgHup: 0,
  MsgBeat: 1,
  MsgProp: 2,
  MsgApp: 3,
  MsgAppResp: 4,
  MsgVote: 5,
  MsgVoteResp: 6,
  MsgSnap: 7,
  MsgHeartbeat: 8,
  MsgHeartbeatResp: 9,
  MsgUnreachable: 10,
  MsgSnapStatus: 11,
  MsgCheckQuorum: 12,
  MsgTransferLeader: 13,
  MsgTimeoutNow: 14,
  MsgReadIndex: 15,
  MsgReadIndexResp: 16,
  MsgPreVote: 17,
  MsgPreVoteResp: 18,
  MsgStorageAppend: 19,
  MsgStorageAppendResp: 20,
  MsgStorageApply: 21,
  MsgStorageApplyResp: 22,
  MsgForgetLeader: 23,
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

const typeNames: readonly string[] = Object.keys(MessageType);

/** "MsgApp" and so on. */
export function messageTypeName(type: MessageType): string {
  return typeNames[type] ?? String(type);
}

/** The type of that name, undefined when there is none. */
export function messageTypeOf(name: string): MessageType | undefined {
  const type = typeNames.indexOf(name);
  return type < 0 ? undefined : (type as MessageType);
}

/** "Nobody": no leader, no vote, no recipient. */
export const NONE = 0n;
/** The local append thread, to which a node with asynchronous storage writes sends what is to be saved. */
export const LOCAL_APPEND_THREAD = 0xffffffffffffffffn;
/** The local apply thread, to which such a node sends what is to be applied. */
export const LOCAL_APPLY_THREAD = 0xfffffffffffffffen;

/** True for the two threads, which are no nodes. */
export function isLocalThread(id: bigint): boolean {
  return id === LOCAL_APPEND_THREAD || id === LOCAL_APPLY_THREAD;
}

export interface Message {
  readonly type: MessageType;
  to: bigint;
  from: bigint;
  /** 0 for local messages, and for proposals and read requests, which are no word of a term. */
  term: number;
  /** Term of the entry at `index`, or of the sender's last entry in a request for a vote. */
  readonly logTerm: number;
  readonly index: number;
  entries: Entry[];
  readonly commit: number;
  /** Of MsgStorageAppend alone: the vote to save. */
  readonly vote: bigint;
  /** Undefined where etcd's is empty. */
  readonly snapshot: Snapshot | undefined;
  readonly reject: boolean;
  readonly rejectHint: number;
  /** Opaque to raft: identifies a read request, or marks a campaign that was ordered by a leader. */
  readonly context: Uint8Array;
  /** What may be delivered once a local thread has done what the message asks for. */
  readonly responses: readonly Message[];
}

const NO_ENTRIES: Entry[] = [];
const NO_CONTEXT = new Uint8Array(0);
const NO_RESPONSES: readonly Message[] = [];

/** A message of that kind; what is left out is zero or empty. */
export function newMessage(type: MessageType, fields: Partial<Omit<Message, "type">> = {}): Message {
  return {
    type,
    to: fields.to ?? NONE,
    from: fields.from ?? NONE,
    term: fields.term ?? 0,
    logTerm: fields.logTerm ?? 0,
    index: fields.index ?? 0,
    entries: fields.entries ?? NO_ENTRIES,
    commit: fields.commit ?? 0,
    vote: fields.vote ?? NONE,
    snapshot: fields.snapshot,
    reject: fields.reject ?? false,
    rejectHint: fields.rejectHint ?? 0,
    context: fields.context ?? NO_CONTEXT,
    responses: fields.responses ?? NO_RESPONSES,
  };
}

const local: readonly boolean[] = flags(
  "MsgHup",
  "MsgBeat",
  "MsgUnreachable",
  "MsgSnapStatus",
  "MsgCheckQuorum",
  "MsgStorageAppend",
  "MsgStorageAppendResp",
  "MsgStorageApply",
  "MsgStorageApplyResp",
);

const response: readonly boolean[] = flags(
  "MsgAppResp",
  "MsgVoteResp",
  "MsgHeartbeatResp",
  "MsgUnreachable",
  "MsgReadIndexResp",
  "MsgPreVoteResp",
  "MsgStorageAppendResp",
  "MsgStorageApplyResp",
);

function flags(...names: readonly (keyof typeof MessageType)[]): readonly boolean[] {
  return typeNames.map((name) => (names as readonly string[]).includes(name));
}

/** True for kinds that never come from the network. */
export function isLocalMessage(type: MessageType): boolean {
  return local[type] === true;
}

/** True for kinds that answer another; a stranger's are not stepped. */
export function isResponseMessage(type: MessageType): boolean {
  return response[type] === true;
}
