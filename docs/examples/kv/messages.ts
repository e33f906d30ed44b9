// The messages of etcd's API that this example speaks, each twice: as a type, and as a schema (its fields with their names and
// kinds in etcd's rpc.proto) by which json.ts and requests.ts read and write it. Nothing here does anything.
//
// In memory a field has the name that proto3 JSON gives it ("rangeEnd"). Every field of a message that was read is there,
// with its default where it was left out; messages and the members of a oneof are undefined then.
// int64 is a number. One beyond the safe integers becomes the outermost safe one: it is compared with revisions, versions
// and counts, none of which gets that far, so it compares as it would have. uint64 is a bigint: IDs use all their bits.

export type Kind = "bytes" | "string" | "int64" | "uint64" | "bool" | "enum" | "message";

export interface Field {
  /** In rpc.proto, and so in answers; what is read may use this one or the key of the field. */
  readonly name: string;
  readonly kind: Kind;
  readonly repeated?: true;
  /** At most one of the fields with the same word here is set; that it is set says something even where it is its default. */
  readonly oneof?: string;
  /** Of an enum: its names, the first is 0. */
  readonly values?: readonly string[];
  readonly message?: () => Schema;
}

export interface Schema<T = unknown> {
  readonly name: string;
  readonly fields: Readonly<Record<string, Field>>;
  /** Never there: it ties the schema to its type. */
  readonly type?: T;
}

function schema<T>(name: string, fields: { readonly [K in keyof Required<T>]: Field }): Schema<T> {
  return { name, fields };
}

type Extras = Pick<Field, "repeated" | "oneof">;
const field = (kind: Kind, name: string, extras: Extras = {}): Field => ({ kind, name, ...extras });
const bytes = (name: string, extras?: Extras): Field => field("bytes", name, extras);
const int64 = (name: string, extras?: Extras): Field => field("int64", name, extras);
const uint64 = (name: string): Field => field("uint64", name);
const bool = (name: string): Field => field("bool", name);
const text = (name: string, extras?: Extras): Field => field("string", name, extras);
const choice = (name: string, values: readonly string[]): Field => ({ ...field("enum", name), values });
const nested = (name: string, message: () => Schema, extras?: Extras): Field => ({
  ...field("message", name, extras),
  message,
});
const repeated = { repeated: true } as const;

// ---- what every answer begins with, and a key with its value

export interface ResponseHeader {
  clusterId: bigint;
  memberId: bigint;
  revision: number;
  raftTerm: bigint;
}
export const responseHeader = schema<ResponseHeader>("ResponseHeader", {
  clusterId: uint64("cluster_id"),
  memberId: uint64("member_id"),
  revision: int64("revision"),
  raftTerm: uint64("raft_term"),
});
const header = nested("header", () => responseHeader);

/** A header with nothing but a revision: what the state machine knows. The gateway fills in the rest. */
export function headerAt(revision: number): ResponseHeader {
  return { clusterId: 0n, memberId: 0n, revision, raftTerm: 0n };
}

export interface KeyValue {
  key: Uint8Array;
  createRevision: number;
  modRevision: number;
  version: number;
  value: Uint8Array;
  lease: number;
}
export const keyValue = schema<KeyValue>("KeyValue", {
  key: bytes("key"),
  createRevision: int64("create_revision"),
  modRevision: int64("mod_revision"),
  version: int64("version"),
  value: bytes("value"),
  lease: int64("lease"),
});

// ---- range

export const SortOrder = { None: 0, Ascend: 1, Descend: 2 } as const;
export const SortTarget = { Key: 0, Version: 1, Create: 2, Mod: 3, Value: 4 } as const;

export interface RangeRequest {
  key: Uint8Array;
  rangeEnd: Uint8Array;
  limit: number;
  revision: number;
  /** Of SortOrder; like every enum of proto3 it may be any number. */
  sortOrder: number;
  sortTarget: number;
  serializable: boolean;
  keysOnly: boolean;
  countOnly: boolean;
  minModRevision: number;
  maxModRevision: number;
  minCreateRevision: number;
  maxCreateRevision: number;
}
export const rangeRequest = schema<RangeRequest>("RangeRequest", {
  key: bytes("key"),
  rangeEnd: bytes("range_end"),
  limit: int64("limit"),
  revision: int64("revision"),
  sortOrder: choice("sort_order", ["NONE", "ASCEND", "DESCEND"]),
  sortTarget: choice("sort_target", ["KEY", "VERSION", "CREATE", "MOD", "VALUE"]),
  serializable: bool("serializable"),
  keysOnly: bool("keys_only"),
  countOnly: bool("count_only"),
  minModRevision: int64("min_mod_revision"),
  maxModRevision: int64("max_mod_revision"),
  minCreateRevision: int64("min_create_revision"),
  maxCreateRevision: int64("max_create_revision"),
});

export interface RangeResponse {
  header: ResponseHeader;
  kvs: KeyValue[];
  more: boolean;
  count: number;
}
export const rangeResponse = schema<RangeResponse>("RangeResponse", {
  header,
  kvs: nested("kvs", () => keyValue, repeated),
  more: bool("more"),
  count: int64("count"),
});

// ---- put

export interface PutRequest {
  key: Uint8Array;
  value: Uint8Array;
  lease: number;
  prevKv: boolean;
  ignoreValue: boolean;
  ignoreLease: boolean;
}
export const putRequest = schema<PutRequest>("PutRequest", {
  key: bytes("key"),
  value: bytes("value"),
  lease: int64("lease"),
  prevKv: bool("prev_kv"),
  ignoreValue: bool("ignore_value"),
  ignoreLease: bool("ignore_lease"),
});

export interface PutResponse {
  header: ResponseHeader;
  prevKv: KeyValue | undefined;
}
export const putResponse = schema<PutResponse>("PutResponse", { header, prevKv: nested("prev_kv", () => keyValue) });

// ---- delete range

export interface DeleteRangeRequest {
  key: Uint8Array;
  rangeEnd: Uint8Array;
  prevKv: boolean;
}
export const deleteRangeRequest = schema<DeleteRangeRequest>("DeleteRangeRequest", {
  key: bytes("key"),
  rangeEnd: bytes("range_end"),
  prevKv: bool("prev_kv"),
});

export interface DeleteRangeResponse {
  header: ResponseHeader;
  deleted: number;
  prevKvs: KeyValue[];
}
export const deleteRangeResponse = schema<DeleteRangeResponse>("DeleteRangeResponse", {
  header,
  deleted: int64("deleted"),
  prevKvs: nested("prev_kvs", () => keyValue, repeated),
});

// ---- txn

export const CompareResult = { Equal: 0, Greater: 1, Less: 2, NotEqual: 3 } as const;
export const CompareTarget = { Version: 0, Create: 1, Mod: 2, Value: 3, Lease: 4 } as const;

export interface Compare {
  result: number;
  target: number;
  key: Uint8Array;
  version: number | undefined;
  createRevision: number | undefined;
  modRevision: number | undefined;
  value: Uint8Array | undefined;
  lease: number | undefined;
  rangeEnd: Uint8Array;
}
const targetUnion = { oneof: "target_union" };
export const compare = schema<Compare>("Compare", {
  result: choice("result", ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]),
  target: choice("target", ["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]),
  key: bytes("key"),
  version: int64("version", targetUnion),
  createRevision: int64("create_revision", targetUnion),
  modRevision: int64("mod_revision", targetUnion),
  value: bytes("value", targetUnion),
  lease: int64("lease", targetUnion),
  rangeEnd: bytes("range_end"),
});

/** One of the four, or none: etcd refuses that one by name. */
export interface RequestOp {
  requestRange: RangeRequest | undefined;
  requestPut: PutRequest | undefined;
  requestDeleteRange: DeleteRangeRequest | undefined;
  requestTxn: TxnRequest | undefined;
}
const request = { oneof: "request" };
export const requestOp = schema<RequestOp>("RequestOp", {
  requestRange: nested("request_range", () => rangeRequest, request),
  requestPut: nested("request_put", () => putRequest, request),
  requestDeleteRange: nested("request_delete_range", () => deleteRangeRequest, request),
  requestTxn: nested("request_txn", () => txnRequest, request),
});

export interface TxnRequest {
  compare: Compare[];
  success: RequestOp[];
  failure: RequestOp[];
}
export const txnRequest: Schema<TxnRequest> = schema<TxnRequest>("TxnRequest", {
  compare: nested("compare", () => compare, repeated),
  success: nested("success", () => requestOp, repeated),
  failure: nested("failure", () => requestOp, repeated),
});

export interface ResponseOp {
  responseRange?: RangeResponse;
  responsePut?: PutResponse;
  responseDeleteRange?: DeleteRangeResponse;
  responseTxn?: TxnResponse;
}
const response = { oneof: "response" };
export const responseOp = schema<ResponseOp>("ResponseOp", {
  responseRange: nested("response_range", () => rangeResponse, response),
  responsePut: nested("response_put", () => putResponse, response),
  responseDeleteRange: nested("response_delete_range", () => deleteRangeResponse, response),
  responseTxn: nested("response_txn", () => txnResponse, response),
});

export interface TxnResponse {
  header: ResponseHeader;
  succeeded: boolean;
  responses: ResponseOp[];
}
export const txnResponse: Schema<TxnResponse> = schema<TxnResponse>("TxnResponse", {
  header,
  succeeded: bool("succeeded"),
  responses: nested("responses", () => responseOp, repeated),
});

// ---- compaction

export interface CompactionRequest {
  revision: number;
  physical: boolean;
}
export const compactionRequest = schema<CompactionRequest>("CompactionRequest", {
  revision: int64("revision"),
  physical: bool("physical"),
});

export interface CompactionResponse {
  header: ResponseHeader;
}
export const compactionResponse = schema<CompactionResponse>("CompactionResponse", { header });

// ---- members

export interface Member {
  ID: bigint;
  /** Empty until the member has run and said so. */
  name: string;
  /** http://host:port, where the others find it. */
  peerURLs: string[];
  clientURLs: string[];
  isLearner: boolean;
}
export const member = schema<Member>("Member", {
  ID: uint64("ID"),
  name: text("name"),
  peerURLs: text("peerURLs", repeated),
  clientURLs: text("clientURLs", repeated),
  isLearner: bool("isLearner"),
});
const members = nested("members", () => member, repeated);

export interface MemberListRequest {
  linearizable: boolean;
}
export const memberListRequest = schema<MemberListRequest>("MemberListRequest", { linearizable: bool("linearizable") });

export interface MemberListResponse {
  header: ResponseHeader;
  members: Member[];
}
export const memberListResponse = schema<MemberListResponse>("MemberListResponse", { header, members });

export interface MemberAddRequest {
  peerURLs: string[];
  isLearner: boolean;
}
export const memberAddRequest = schema<MemberAddRequest>("MemberAddRequest", {
  peerURLs: text("peerURLs", repeated),
  isLearner: bool("isLearner"),
});

export interface MemberAddResponse {
  header: ResponseHeader;
  member: Member;
  members: Member[];
}
export const memberAddResponse = schema<MemberAddResponse>("MemberAddResponse", {
  header,
  member: nested("member", () => member),
  members,
});

export interface MemberRemoveRequest {
  ID: bigint;
}
export const memberRemoveRequest = schema<MemberRemoveRequest>("MemberRemoveRequest", { ID: uint64("ID") });
export const memberRemoveResponse = schema<MemberListResponse>("MemberRemoveResponse", { header, members });

// ---- maintenance

export const statusRequest = schema<Record<never, never>>("StatusRequest", {});

export interface StatusResponse {
  header: ResponseHeader;
  version: string;
  /** Bytes of keys and values, those of the past included. */
  dbSize: number;
  /** 0n: none is known. */
  leader: bigint;
  raftIndex: bigint;
  raftTerm: bigint;
  raftAppliedIndex: bigint;
  errors: string[];
  dbSizeInUse: number;
  isLearner: boolean;
}
export const statusResponse = schema<StatusResponse>("StatusResponse", {
  header,
  version: text("version"),
  dbSize: int64("dbSize"),
  leader: uint64("leader"),
  raftIndex: uint64("raftIndex"),
  raftTerm: uint64("raftTerm"),
  raftAppliedIndex: uint64("raftAppliedIndex"),
  errors: text("errors", repeated),
  dbSizeInUse: int64("dbSizeInUse"),
  isLearner: bool("isLearner"),
});
