// The words of transcripts: Readys, messages, entries, snapshots and states as text, to the letter as etcd-raft prints them
// (util.go, raftpb/confchange.go). Used by the datadriven tests and by whoever wants to look at a node.

import { asConfChangeV2, type ConfChangeSingle, confChangesToString, decodeConfChange } from "../raftpb/conf-change.js";
import { LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, type Message, messageTypeName, NONE } from "../raftpb/message.js";
import { type ConfState, type Entry, EntryType, type HardState, type Snapshot } from "../raftpb/types.js";
import type { SoftState } from "./raft.js";
import type { Ready } from "./ready.js";

export function describeSoftState({ lead, raftState }: SoftState): string {
  return `Lead:${lead} State:${raftState}`;
}

export function describeHardState({ term, vote, commit }: HardState): string {
  return `Term:${term}${vote === NONE ? "" : ` Vote:${vote}`} Commit:${commit}`;
}

export function describeConfState(state: ConfState): string {
  const list = (ids: readonly bigint[]): string => `[${ids.join(" ")}]`;
  return `Voters:${list(state.voters)} VotersOutgoing:${list(state.votersOutgoing)} Learners:${list(state.learners)} LearnersNext:${list(state.learnersNext)} AutoLeave:${state.autoLeave}`;
}

export function describeSnapshot({ metadata }: Snapshot): string {
  return `Index:${metadata.index} Term:${metadata.term} ConfState:${describeConfState(metadata.confState)}`;
}

/** Go's %q: what can be printed as it is, by name or number what cannot, and bytes that are no UTF-8 in hexadecimal. */
export function quoted(data: Uint8Array): string {
  let out = '"';
  for (let at = 0; at < data.length; ) {
    const byte = data[at] as number;
    const bytes = runeBytes(data, at);
    const text = bytes === 0 ? "" : utf8.decode(data.subarray(at, at + bytes));
    const code = text.codePointAt(0) ?? byte;
    if (bytes === 0 || code === 127) out += `\\x${hex(byte, 2)}`;
    else if (escapes[code] !== undefined) out += escapes[code];
    else if (PRINTABLE.test(text)) out += text;
    else if (code < 32) out += `\\x${hex(code, 2)}`;
    else out += code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
    at += Math.max(bytes, 1);
  }
  return `${out}"`;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

/** Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols, and no space but ASCII's. */
const PRINTABLE = /^[ \p{L}\p{M}\p{N}\p{P}\p{S}]$/u;

/** The bytes of the code point that begins at `at`; 0 when none does, in UTF-8's strict form. */
function runeBytes(data: Uint8Array, at: number): number {
  const first = data[at] as number;
  if (first < 0x80) return 1;
  const bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + bytes > data.length) return 0;
  for (let i = 1; i < bytes; i++) if (((data[at + i] as number) & 0xc0) !== 0x80) return 0;
  const second = data[at + 1] as number;
  // Longer than need be, half of a surrogate pair, beyond the last code point.
  if ((first === 0xe0 && second < 0xa0) || (first === 0xf0 && second < 0x90)) return 0;
  if ((first === 0xed && second > 0x9f) || (first === 0xf4 && second > 0x8f)) return 0;
  return bytes;
}

const escapes: Readonly<Record<number, string>> = {
  7: "\\a",
  8: "\\b",
  9: "\\t",
  10: "\\n",
  11: "\\v",
  12: "\\f",
  13: "\\r",
  34: '\\"',
  92: "\\\\",
};

const entryTypeNames = ["EntryNormal", "EntryConfChange", "EntryConfChangeV2"] as const;

/** How an entry's data is printed; quoted() if not given. */
export type EntryFormatter = (data: Uint8Array) => string;

export function describeEntry({ term, index, type, data }: Entry, format: EntryFormatter = quoted): string {
  const text = type === EntryType.Normal ? format(data) : describeChanges(type, data);
  return `${term}/${index} ${entryTypeNames[type]}${text === "" ? "" : ` ${text}`}`;
}

function describeChanges(type: EntryType, data: Uint8Array): string {
  let changes: readonly ConfChangeSingle[];
  try {
    changes = asConfChangeV2(decodeConfChange(type, data)).changes;
  } catch (error) {
    return (error as Error).message;
  }
  return confChangesToString(changes);
}

/** A line an entry. */
export function describeEntries(entries: readonly Entry[], format?: EntryFormatter): string {
  return entries.map((entry) => `${describeEntry(entry, format)}\n`).join("");
}

/** "None", a local thread's name, or the ID in hexadecimal. */
export function describeTarget(id: bigint): string {
  if (id === NONE) return "None";
  if (id === LOCAL_APPEND_THREAD) return "AppendThread";
  if (id === LOCAL_APPLY_THREAD) return "ApplyThread";
  return id.toString(16);
}

export function describeMessage(message: Message, format?: EntryFormatter, indent = ""): string {
  const { from, to, type, term, logTerm, index, entries, snapshot, responses } = message;
  let text = `${indent}${describeTarget(from)}->${describeTarget(to)} ${messageTypeName(type)} Term:${term} Log:${logTerm}/${index}`;
  if (message.reject) text += ` Rejected (Hint: ${message.rejectHint})`;
  if (message.commit !== 0) text += ` Commit:${message.commit}`;
  if (message.vote !== NONE) text += ` Vote:${message.vote}`;
  if (entries.length === 1) {
    text += ` Entries:[${describeEntry(entries[0] as Entry, format)}]`;
  } else if (entries.length > 1) {
    text += " Entries:[";
    for (const entry of entries) text += `\n${indent}  ${describeEntry(entry, format)}`;
    text += `\n${indent}]`;
  }
  if (snapshot !== undefined) text += `\n${indent}  Snapshot: ${describeSnapshot(snapshot)}`;
  if (responses.length > 0) {
    text += " Responses:[";
    for (const response of responses) text += `\n${describeMessage(response, format, `${indent}  `)}`;
    text += `\n${indent}]`;
  }
  return text;
}

export function describeReady(ready: Ready, format?: EntryFormatter): string {
  let text = "";
  if (ready.softState !== undefined) text += `${describeSoftState(ready.softState)}\n`;
  if (ready.hardState !== undefined) text += `HardState ${describeHardState(ready.hardState)}\n`;
  if (ready.readStates.length > 0) {
    const reads = ready.readStates.map(({ index, requestContext }) => `{${index} [${requestContext.join(" ")}]}`);
    text += `ReadStates [${reads.join(" ")}]\n`;
  }
  if (ready.entries.length > 0) text += `Entries:\n${describeEntries(ready.entries, format)}`;
  if (ready.snapshot !== undefined) text += `Snapshot ${describeSnapshot(ready.snapshot)}\n`;
  if (ready.committedEntries.length > 0) {
    text += `CommittedEntries:\n${describeEntries(ready.committedEntries, format)}`;
  }
  if (ready.messages.length > 0) {
    text += "Messages:\n";
    for (const message of ready.messages) text += `${describeMessage(message, format)}\n`;
  }
  return text === "" ? "<empty Ready>" : `Ready MustSync=${ready.mustSync}:\n${text}`;
}
