// Changes of a group's configuration, as in etcd's raftpb: what an entry of type ConfChange or ConfChangeV2 carries, its
// protobuf bytes, and the short notation ("v1 l2 r3 u4") that transcripts use. The bytes are those that etcd writes.

import { StableLogError } from "../base/errors.js";
import { EntryType } from "./types.js";

export const ConfChangeType = { AddNode: 0, RemoveNode: 1, UpdateNode: 2, AddLearnerNode: 3 } as const;
export type ConfChangeType = (typeof ConfChangeType)[keyof typeof ConfChangeType];

/**
 * How a ConfChangeV2 gets from one configuration to the next. Auto: by the simple protocol where one change suffices, else
 * through a joint configuration that is left automatically. JointImplicit: joint, left automatically. JointExplicit: joint,
 * left by a further, empty ConfChangeV2.
 */
export const ConfChangeTransition = { Auto: 0, JointImplicit: 1, JointExplicit: 2 } as const;
export type ConfChangeTransition = (typeof ConfChangeTransition)[keyof typeof ConfChangeTransition];

export interface ConfChangeSingle {
  readonly type: ConfChangeType;
  /** 0n: a change that the application decided not to make. */
  readonly nodeId: bigint;
}

/** One change, of a node at a time: all that the first version can say. */
export interface ConfChange extends ConfChangeSingle {
  /** The proposer's own number for it; raft does not read it. */
  readonly id: bigint;
  readonly context: Uint8Array;
}

/** Any number of changes at once. Without any, and of transition Auto, it leaves a joint configuration. */
export interface ConfChangeV2 {
  readonly transition: ConfChangeTransition;
  readonly changes: readonly ConfChangeSingle[];
  readonly context: Uint8Array;
}

export function isConfChangeV2(change: ConfChange | ConfChangeV2): change is ConfChangeV2 {
  return "changes" in change;
}

export function asConfChangeV2(change: ConfChange | ConfChangeV2): ConfChangeV2 {
  if (isConfChangeV2(change)) return change;
  const { type, nodeId, context } = change;
  return { transition: ConfChangeTransition.Auto, changes: [{ type, nodeId }], context };
}

/** Whether it enters a joint configuration, and whether that is then left automatically; undefined when it does not. */
export function entersJoint({ transition, changes }: ConfChangeV2): { readonly autoLeave: boolean } | undefined {
  if (transition === ConfChangeTransition.Auto && changes.length <= 1) return undefined;
  return { autoLeave: transition !== ConfChangeTransition.JointExplicit };
}

/** Whether it leaves a joint configuration. */
export function leavesJoint({ transition, changes }: ConfChangeV2): boolean {
  return transition === ConfChangeTransition.Auto && changes.length === 0;
}

/** The type and the bytes of the entry that carries the change. */
export function encodeConfChange(change: ConfChange | ConfChangeV2): { type: EntryType; data: Uint8Array } {
  const out: number[] = [];
  if (isConfChangeV2(change)) {
    putVarint(out, 1, BigInt(change.transition));
    for (const { type, nodeId } of change.changes) {
      const single: number[] = [];
      putVarint(single, 1, BigInt(type));
      putVarint(single, 2, nodeId);
      putBytes(out, 2, single);
    }
    if (change.context.length > 0) putBytes(out, 3, change.context);
    return { type: EntryType.ConfChangeV2, data: Uint8Array.from(out) };
  }
  putVarint(out, 1, change.id);
  putVarint(out, 2, BigInt(change.type));
  putVarint(out, 3, change.nodeId);
  if (change.context.length > 0) putBytes(out, 4, change.context);
  return { type: EntryType.ConfChange, data: Uint8Array.from(out) };
}

/**
 * Reads an entry's bytes. No bytes are an empty change.
 * @throws ERR_CORRUPT when they are no such change.
 */
export function decodeConfChange(type: EntryType, data: Uint8Array): ConfChange | ConfChangeV2 {
  const v2 = type === EntryType.ConfChangeV2;
  const numbers = new Map<number, bigint>();
  const changes: ConfChangeSingle[] = [];
  let context = new Uint8Array(0);
  for (const { field, value } of fieldsOf(data)) {
    if (typeof value === "bigint") {
      numbers.set(field, value);
    } else if (v2 && field === 2) {
      const single = new Map<number, bigint>();
      for (const each of fieldsOf(value)) if (typeof each.value === "bigint") single.set(each.field, each.value);
      changes.push({ type: typeOf(single.get(1)), nodeId: single.get(2) ?? 0n });
    } else if (field === (v2 ? 3 : 4)) {
      context = value.slice();
    }
  }
  if (!v2) {
    return { id: numbers.get(1) ?? 0n, type: typeOf(numbers.get(2)), nodeId: numbers.get(3) ?? 0n, context };
  }
  const transition = Number(numbers.get(1) ?? 0n);
  if (transition > 2) throw malformed(`a transition of ${transition}`);
  return { transition: transition as ConfChangeTransition, changes, context };
}

function typeOf(value: bigint | undefined): ConfChangeType {
  const type = Number(value ?? 0n);
  if (type > 3) throw malformed(`a change of type ${type}`);
  return type as ConfChangeType;
}

const letters: Readonly<Record<string, ConfChangeType>> = {
  v: ConfChangeType.AddNode,
  l: ConfChangeType.AddLearnerNode,
  r: ConfChangeType.RemoveNode,
  u: ConfChangeType.UpdateNode,
};

/**
 * Reads "v1 l2 r3 u4": voter, learner, removal, update.
 * @throws Error with etcd's words, which transcripts hold.
 */
export function confChangesFromString(text: string): ConfChangeSingle[] {
  const tokens = text.trim().split(" ");
  if (tokens[0] === "") return [];
  return tokens.map((token) => {
    if (token.length < 2) throw new Error(`unknown token ${token}`);
    const type = letters[token[0] as string];
    if (type === undefined) throw new Error(`unknown input: ${token}`);
    const id = token.slice(1);
    if (!/^[0-9]+$/.test(id)) throw new Error(`strconv.ParseUint: parsing ${JSON.stringify(id)}: invalid syntax`);
    return { type, nodeId: BigInt(id) };
  });
}

/** Writes what confChangesFromString() reads. */
export function confChangesToString(changes: readonly ConfChangeSingle[]): string {
  const letterOf = (type: ConfChangeType): string => "vrul"[type] as string;
  return changes.map(({ type, nodeId }) => `${letterOf(type)}${nodeId}`).join(" ");
}

// ---- protobuf

function putVarint(out: number[], field: number, value: bigint): void {
  out.push(field << 3);
  putRaw(out, value);
}

function putBytes(out: number[], field: number, bytes: ArrayLike<number>): void {
  out.push((field << 3) | 2);
  putRaw(out, BigInt(bytes.length));
  for (let i = 0; i < bytes.length; i++) out.push(bytes[i] as number);
}

function putRaw(out: number[], value: bigint): void {
  let rest = value;
  for (; rest >= 128n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  out.push(Number(rest));
}

function* fieldsOf(bytes: Uint8Array): Generator<{ field: number; value: bigint | Uint8Array }> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw malformed("it is cut short");
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) {
        if (value > 0xffffffffffffffffn) break;
        return value;
      }
    }
    throw malformed("a number beyond 64 bits");
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Number(tag >> 3n);
    const wire = Number(tag & 7n);
    if (wire === 0) {
      yield { field, value: varint() };
    } else if (wire === 2) {
      const length = Number(varint());
      if (at + length > bytes.length) throw malformed("it is cut short");
      yield { field, value: bytes.subarray(at, at + length) };
      at += length;
    } else {
      throw malformed(`a field of wire type ${wire}`);
    }
  }
}

function malformed(what: string): StableLogError {
  return new StableLogError("ERR_CORRUPT", `read a configuration change: ${what}`);
}
