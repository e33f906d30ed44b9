// What goes through the log: a request of the API in an envelope that says which one, as etcd's InternalRaftRequest does, in
// MessagePack. A field with its default is left out, so an entry is little more than its key and its value.
//
// gateway.ts wraps, store.ts unwraps. The bytes were checked by whoever proposed them and are guarded by the log's own
// checksums; they are checked for their shape all the same, because a command that is misread on one node only would split
// the group. What does not fit is thrown, and stops the replica before it is applied.

import { Packr } from "msgpackr";
import type { StatusError } from "./errors.js";
import { defaultOf, isDefault } from "./json.js";
import {
  type CompactionRequest,
  type CompactionResponse,
  compactionRequest,
  type DeleteRangeRequest,
  type DeleteRangeResponse,
  deleteRangeRequest,
  type Field,
  type Member,
  member,
  type PutRequest,
  type PutResponse,
  putRequest,
  type Schema,
  type TxnRequest,
  type TxnResponse,
  txnRequest,
} from "./messages.js";

/** The requests that are replicated, and what answers each. */
export interface Replicated {
  put: { request: PutRequest; response: PutResponse };
  deleteRange: { request: DeleteRangeRequest; response: DeleteRangeResponse };
  txn: { request: TxnRequest; response: TxnResponse };
  compaction: { request: CompactionRequest; response: CompactionResponse };
  /** A member says its name and where it is to be found, when it has started. */
  publish: { request: Member; response: undefined };
}
export type RequestKind = keyof Replicated;

export type InternalRequest = {
  [K in RequestKind]: { readonly kind: K; readonly request: Replicated[K]["request"] };
}[RequestKind];

/** What applying a command came to, on every node alike. */
export type Result =
  | { [K in RequestKind]: { readonly kind: K; readonly response: Replicated[K]["response"] } }[RequestKind]
  | { readonly kind: "refused"; readonly error: StatusError };

const VERSION = 1;
const kinds: readonly RequestKind[] = ["put", "deleteRange", "txn", "compaction", "publish"];
const schemas: { readonly [K in RequestKind]: Schema<Replicated[K]["request"]> } = {
  put: putRequest,
  deleteRange: deleteRangeRequest,
  txn: txnRequest,
  compaction: compactionRequest,
  publish: member,
};

/** Also of snapshots. No records: every message is written out, so equal requests are equal bytes. */
export const packr = new Packr({ useRecords: false, int64AsType: "bigint", variableMapSize: true });

export function encodeRequest<K extends RequestKind>(kind: K, request: Replicated[K]["request"]): Uint8Array {
  return packr.pack([VERSION, kinds.indexOf(kind), sparse(schemas[kind], request)]);
}

/** @throws Error when the bytes are no request. */
export function decodeRequest(bytes: Uint8Array): InternalRequest {
  const envelope: unknown = packr.unpack(bytes);
  const [version, at, request] = Array.isArray(envelope) ? (envelope as unknown[]) : [];
  const kind = kinds[at as number];
  if (version !== VERSION || kind === undefined) throw new Error("a command that is no request of this version");
  const schema: Schema = schemas[kind];
  return { kind, request: expand(schema, request) } as unknown as InternalRequest;
}

/** What the context of a change of configuration says of the node that it is about. */
export function encodeMember(of: Member): Uint8Array {
  return packr.pack(sparse(member, of));
}

/** @throws Error when the bytes are no member. */
export function decodeMember(bytes: Uint8Array): Member {
  return expand<Member>(member, packr.unpack(bytes));
}

function sparse(schema: Schema, message: unknown): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(schema.fields)) {
    const value = (message as Record<string, unknown>)[key];
    if (value === undefined || (field.oneof === undefined && isDefault(value))) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    const nested = field.message?.();
    if (nested === undefined) out[key] = value;
    else out[key] = Array.isArray(value) ? value.map((item) => sparse(nested, item)) : sparse(nested, value);
  }
  return out;
}

function expand<T>(schema: Schema<T>, value: unknown): T {
  if (typeof value !== "object" || value === null) throw new Error(`a command without its ${schema.name}`);
  const given = value as Record<string, unknown>;
  const out: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(schema.fields)) {
    const found = given[key];
    if (found === undefined) out[key] = defaultOf(field);
    else if (field.repeated !== true) out[key] = checked(schema, key, field, found);
    else if (Array.isArray(found)) out[key] = found.map((item) => checked(schema, key, field, item));
    else throw new Error(`a command whose ${schema.name}.${key} is no list`);
  }
  return out as T;
}

function checked(schema: Schema, key: string, field: Field, value: unknown): unknown {
  const is = (fits: boolean, out = value): unknown => {
    if (!fits) throw new Error(`a command whose ${schema.name}.${key} is no ${field.kind}`);
    return out;
  };
  switch (field.kind) {
    case "message":
      return expand(field.message?.() as Schema, value);
    case "bytes":
      // A copy: the bytes of a command belong to whoever hands it over.
      return is(value instanceof Uint8Array) && new Uint8Array(value as Uint8Array);
    case "string":
      return is(typeof value === "string");
    case "bool":
      return is(typeof value === "boolean");
    case "uint64":
      return is(typeof value === "bigint" || Number.isSafeInteger(value)) && BigInt(value as number);
    default:
      return is(Number.isSafeInteger(Number(value)), Number(value));
  }
}
