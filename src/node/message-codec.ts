// Messages as bytes: one flat MessagePack array a message (base/msgpack.ts), made and read by the TCP transport. What comes from
// another machine is not believed: every field is checked, and bytes that are anything but a message are ERR_CORRUPT. A message
// that decodes has the shape that raft counts on; whether it is true is raft's to judge.
//
//   [type, to, from, term, logTerm, index, commit, reject, rejectHint, context, entries, snapshot]
//   entries   [term, index, type, data, term, index, type, data, ...]
//   snapshot  nil, or [index, term, confState, data]; of MsgSnap alone
//   confState [voters, learners, votersOutgoing, learnersNext, autoLeave]
//
// `vote` and `responses` are of local messages alone, and never travel.

import { isCount, MAX_INDEX } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import { pack, unpack } from "../base/msgpack.js";
import { type Message, MessageType, messageTypeName, NONE } from "../raftpb/message.js";
import { type ConfState, type Entry, EntryType, type Snapshot } from "../raftpb/types.js";

const FIELDS = 12;
const ENTRY_FIELDS = 4;
const MESSAGE_TYPES = Object.keys(MessageType).length;
const MAX_NODE_ID = 0xffffffffffffffffn;
const NO_RESPONSES: readonly Message[] = [];

/** A message as the value that is packed. */
export function messageValue(message: Message): unknown {
  const { type, to, from, term, logTerm, index, commit, reject, rejectHint, context, entries, snapshot } = message;
  const flat: unknown[] = [];
  for (const entry of entries) flat.push(entry.term, entry.index, entry.type, entry.data);
  const packed = snapshot === undefined ? null : snapshotValue(snapshot);
  return [type, to, from, term, logTerm, index, commit, reject, rejectHint, context, flat, packed];
}

function snapshotValue({ metadata, data }: Snapshot): unknown {
  const { voters, learners, votersOutgoing, learnersNext, autoLeave } = metadata.confState;
  const confState = [voters, learners, votersOutgoing, learnersNext, autoLeave];
  return [metadata.index, metadata.term, confState, data];
}

/** The bytes that a message carries: when it is encoded it takes more than these. */
export function dataBytes(message: Message): number {
  let bytes = message.context.length;
  for (const entry of message.entries) bytes += entry.data.length;
  if (message.snapshot !== undefined) bytes += message.snapshot.data.length;
  return bytes;
}

/** What a message takes at most when it is encoded; a ConfState's node IDs come on top. */
export function sizeBound(message: Message): number {
  return dataBytes(message) + 128 + 24 * message.entries.length;
}

/** The bytes of a message. */
export function encodeMessage(message: Message): Uint8Array {
  return pack(messageValue(message));
}

/**
 * Reads a message. Its data are views of `bytes`: an entry that is kept keeps the whole message, as the log's entries are kept
 * and dropped together.
 * @throws ERR_CORRUPT when the bytes are anything but a message.
 */
export function decodeMessage(bytes: Uint8Array): Message {
  const value = unpack(bytes);
  if (!Array.isArray(value) || value.length !== FIELDS) throw malformed("not a message");
  const fields = value as unknown[];
  const type = typeOf(fields[0]);
  const index = count(fields[5], "index");
  // In the order of newMessage(), so that raft sees one kind of object whether a message came by wire or not.
  return {
    type,
    to: nodeId(fields[1]),
    from: nodeId(fields[2]),
    term: count(fields[3], "term"),
    logTerm: count(fields[4], "logTerm"),
    index,
    entries: entriesOf(fields[10], type, index),
    commit: count(fields[6], "commit"),
    vote: NONE,
    snapshot: snapshotOf(fields[11], type),
    reject: flag(fields[7]),
    rejectHint: count(fields[8], "rejectHint"),
    context: data(fields[9]),
    responses: NO_RESPONSES,
  };
}

function typeOf(value: unknown): MessageType {
  if (!isCount(value) || Object.is(value, -0) || value >= MESSAGE_TYPES) throw malformed("unknown type");
  return value as MessageType;
}

function entriesOf(value: unknown, type: MessageType, index: number): Entry[] {
  if (!Array.isArray(value) || value.length % ENTRY_FIELDS !== 0) throw malformed("entries");
  const fields = value as unknown[];
  const entries: Entry[] = [];
  for (let at = 0; at < fields.length; at += ENTRY_FIELDS) {
    const entry = {
      term: count(fields[at], "entry's term"),
      index: count(fields[at + 1], "entry's index"),
      type: entryType(fields[at + 2]),
      data: data(fields[at + 3]),
    };
    // The log takes an append as a run behind `index`.
    if (type === MessageType.MsgApp && entry.index !== index + 1 + at / ENTRY_FIELDS) {
      throw malformed("entries do not follow each other");
    }
    entries.push(entry);
  }
  return entries;
}

function entryType(value: unknown): EntryType {
  if (value !== EntryType.Normal && value !== EntryType.ConfChange && value !== EntryType.ConfChangeV2) {
    throw malformed("entry's type");
  }
  // Equal to 0 is -0, too.
  return value === EntryType.Normal ? EntryType.Normal : value;
}

function snapshotOf(value: unknown, type: MessageType): Snapshot | undefined {
  if ((value !== null) !== (type === MessageType.MsgSnap)) throw malformed(`snapshot of ${messageTypeName(type)}`);
  if (value === null) return undefined;
  if (!Array.isArray(value) || value.length !== 4) throw malformed("snapshot");
  const [index, term, confState, bytes] = value as unknown[];
  return {
    metadata: {
      index: count(index, "snapshot's index"),
      term: count(term, "snapshot's term"),
      confState: confStateOf(confState),
    },
    data: data(bytes),
  };
}

function confStateOf(value: unknown): ConfState {
  if (!Array.isArray(value) || value.length !== 5) throw malformed("ConfState");
  const [voters, learners, votersOutgoing, learnersNext, autoLeave] = value as unknown[];
  return {
    voters: nodeIds(voters),
    learners: nodeIds(learners),
    votersOutgoing: nodeIds(votersOutgoing),
    learnersNext: nodeIds(learnersNext),
    autoLeave: flag(autoLeave),
  };
}

function nodeIds(value: unknown): bigint[] {
  if (!Array.isArray(value)) throw malformed("node IDs");
  return value.map(nodeId);
}

function nodeId(value: unknown): bigint {
  if (typeof value !== "bigint" || value < 0n || value > MAX_NODE_ID) throw malformed("node ID");
  return value;
}

function count(value: unknown, what: string): number {
  if (!isCount(value) || value > MAX_INDEX || Object.is(value, -0)) throw malformed(what);
  return value;
}

function flag(value: unknown): boolean {
  if (typeof value !== "boolean") throw malformed("flag");
  return value;
}

function data(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed("bytes");
  return value;
}

function malformed(what: string): StableLogError {
  return new StableLogError("ERR_CORRUPT", `decode message: ${what}`);
}
