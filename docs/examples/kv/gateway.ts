// Gateway: etcd's API on one node. Each call is checked as etcd checks it (checks.ts), and then either read from the store once
// the replica has caught up, or wrapped (requests.ts), proposed, and answered with what the store made of it when it was
// applied here. Every answer's header says which group, which node, which revision and which term.
//
// server.ts calls it with the body of a request. What it throws is a StatusError, always.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type BasicStatus, type ConfChange, ConfChangeType, NONE } from "stablelog/raft";
import { checkDeleteRange, checkPut, checkRange, checkTxn } from "./checks.js";
import { Code, StatusError, statusError } from "./errors.js";
import { readJson, writeJson } from "./json.js";
import {
  type CompactionRequest,
  compactionRequest,
  compactionResponse,
  type DeleteRangeRequest,
  deleteRangeRequest,
  deleteRangeResponse,
  headerAt,
  type Member,
  type MemberAddRequest,
  type MemberAddResponse,
  type MemberListRequest,
  type MemberListResponse,
  type MemberRemoveRequest,
  memberAddRequest,
  memberAddResponse,
  memberListRequest,
  memberListResponse,
  memberRemoveRequest,
  memberRemoveResponse,
  type PutRequest,
  putRequest,
  putResponse,
  type RangeRequest,
  type RangeResponse,
  type ResponseHeader,
  rangeRequest,
  rangeResponse,
  type Schema,
  type StatusResponse,
  statusRequest,
  statusResponse,
  type TxnRequest,
  type TxnResponse,
  txnRequest,
  txnResponse,
} from "./messages.js";
import { encodeMember, encodeRequest, type Replicated, type RequestKind, type Result } from "./requests.js";
import type { KvStore } from "./store.js";

/** What the gateway needs of a Replica. */
export interface Group {
  propose(data: Uint8Array, options: { signal: AbortSignal }): Promise<Result>;
  proposeConfChange(change: ConfChange, options: { signal: AbortSignal }): Promise<unknown>;
  read(options: { signal: AbortSignal }): Promise<number>;
  readonly applied: number;
  basicStatus(): BasicStatus;
}

export interface GatewayOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly group: Group;
  readonly store: KvStore;
  /** How long a request may take that asks the group: 7 s, as long as etcd gives it with its defaults. */
  readonly timeoutMs?: number | undefined;
  /** Bytes of a request in the log: 1.5 MiB. */
  readonly maxRequestBytes?: number | undefined;
  /** Operations in a list of a txn: 128. */
  readonly maxTxnOps?: number | undefined;
}

/** What etcd's API says its version is; clients look at it to know what they may ask for. */
const VERSION = "3.5.0";
const MAX_REQUEST_BYTES = 1.5 * 1024 * 1024;
const MAX_TXN_OPS = 128;
const TIMEOUT_MS = 7_000;
/** Committed entries that wait to be applied, beyond which new ones are turned away. */
const MAX_BACKLOG = 5_000;
/** Between two tries of what raft dropped. */
const RETRY_MS = 20;
const MAX_LEARNERS = 1;

interface Route {
  call(body: string): Promise<Record<string, unknown>>;
}

export class Gateway {
  readonly #clusterId: bigint;
  readonly #memberId: bigint;
  readonly #group: Group;
  readonly #store: KvStore;
  readonly #timeoutMs: number;
  readonly #maxRequestBytes: number;
  readonly #maxTxnOps: number;
  readonly #routes: ReadonlyMap<string, Route>;

  constructor(options: GatewayOptions) {
    this.#clusterId = options.clusterId;
    this.#memberId = options.memberId;
    this.#group = options.group;
    this.#store = options.store;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#maxRequestBytes = options.maxRequestBytes ?? MAX_REQUEST_BYTES;
    this.#maxTxnOps = options.maxTxnOps ?? MAX_TXN_OPS;
    this.#routes = new Map([
      ["/v3/kv/range", route(rangeRequest, rangeResponse, (request) => this.#range(request))],
      ["/v3/kv/put", route(putRequest, putResponse, (request) => this.#put(request))],
      ["/v3/kv/deleterange", route(deleteRangeRequest, deleteRangeResponse, (request) => this.#deleteRange(request))],
      ["/v3/kv/txn", route(txnRequest, txnResponse, (request) => this.#txn(request))],
      ["/v3/kv/compaction", route(compactionRequest, compactionResponse, (request) => this.#compact(request))],
      ["/v3/cluster/member/list", route(memberListRequest, memberListResponse, (request) => this.#list(request))],
      ["/v3/cluster/member/add", route(memberAddRequest, memberAddResponse, (request) => this.#addMember(request))],
      [
        "/v3/cluster/member/remove",
        route(memberRemoveRequest, memberRemoveResponse, (request) => this.#removeMember(request)),
      ],
      ["/v3/maintenance/status", route(statusRequest, statusResponse, async () => this.#status())],
    ]);
  }

  /** What stands at a path: it takes the body of a request and gives the body of the answer. Undefined where nothing does. */
  routeOf(path: string): ((body: string) => Promise<Record<string, unknown>>) | undefined {
    const found = this.#routes.get(path);
    return found === undefined
      ? undefined
      : (body) =>
          found.call(body).catch((error: unknown) => {
            throw asStatus(error);
          });
  }

  /** Bytes of a body that may still become a request that is not too large: base64 takes a third more. */
  get maxBodyBytes(): number {
    return Math.ceil(((this.#maxRequestBytes + 512 * 1024) * 4) / 3);
  }

  /** Tells the group what this member is called and where it is to be found. */
  async publish(member: Member): Promise<void> {
    await this.#propose("publish", member);
  }

  // ---- keys

  async #range(request: RangeRequest): Promise<RangeResponse> {
    checkRange(request);
    if (!request.serializable) await this.#catchUp();
    return this.#headed(this.#store.range(request));
  }

  async #put(request: PutRequest): Promise<Replicated["put"]["response"]> {
    checkPut(request);
    return this.#headed(await this.#propose("put", request));
  }

  async #deleteRange(request: DeleteRangeRequest): Promise<Replicated["deleteRange"]["response"]> {
    checkDeleteRange(request);
    return this.#headed(await this.#propose("deleteRange", request));
  }

  async #txn(request: TxnRequest): Promise<TxnResponse> {
    checkTxn(request, this.#maxTxnOps);
    const ops = [...request.success, ...request.failure];
    if (ops.some(({ requestRange }) => requestRange === undefined)) {
      return this.#headed(await this.#propose("txn", request));
    }
    // One that only reads goes past the log.
    if (ops.length === 0 || ops.some(({ requestRange }) => requestRange?.serializable !== true)) await this.#catchUp();
    return this.#headed(this.#store.readTxn(request));
  }

  async #compact(request: CompactionRequest): Promise<Replicated["compaction"]["response"]> {
    return this.#headed(await this.#propose("compaction", request));
  }

  // ---- members

  async #list({ linearizable }: MemberListRequest): Promise<MemberListResponse> {
    if (linearizable) await this.#catchUp();
    return { header: this.#header(0), members: [...this.#store.members] };
  }

  async #addMember({ peerURLs, isLearner }: MemberAddRequest): Promise<MemberAddResponse> {
    if (peerURLs.length === 0 || !peerURLs.every(isPeerUrl)) throw statusError("badPeerUrls");
    await this.#catchUp();
    const id = memberIdOf(peerURLs, this.#clusterId);
    const added: Member = { ID: id, name: "", peerURLs, clientURLs: [], isLearner };
    const check = (): void => {
      const members = this.#store.members;
      if (members.some(({ ID }) => ID === id)) throw statusError("memberExists");
      if (members.some((each) => each.peerURLs.some((url) => peerURLs.includes(url))))
        throw statusError("peerUrlExists");
      if (isLearner) {
        if (members.filter((each) => each.isLearner).length >= MAX_LEARNERS) throw statusError("tooManyLearners");
        return;
      }
      const voters = members.filter((each) => !each.isLearner);
      const started = voters.filter(isStarted).length;
      // A group of one that is to become two has no quorum until the second has started, and may all the same.
      if (started === 1 && voters.length === 1) return;
      if (started < quorumOf(voters.length + 1)) throw statusError("notEnoughStarted");
    };
    const type = isLearner ? ConfChangeType.AddLearnerNode : ConfChangeType.AddNode;
    const change = { id, type, nodeId: id, context: encodeMember(added) };
    await this.#reconfigure(change, check, () => this.#store.members.some(({ ID }) => ID === id));
    return { header: this.#header(0), member: added, members: [...this.#store.members] };
  }

  async #removeMember({ ID }: MemberRemoveRequest): Promise<MemberListResponse> {
    await this.#catchUp();
    const check = (): void => {
      const removed = this.#store.members.find((each) => each.ID === ID);
      if (removed === undefined) throw statusError("memberNotFound");
      if (removed.isLearner) return;
      const left = this.#store.members.filter((each) => !each.isLearner && each.ID !== ID);
      if (left.filter(isStarted).length < quorumOf(left.length)) throw statusError("notEnoughStarted");
    };
    const change = { id: ID, type: ConfChangeType.RemoveNode, nodeId: ID, context: new Uint8Array(0) };
    await this.#reconfigure(change, check, () => !this.#store.members.some((each) => each.ID === ID));
    return { header: this.#header(0), members: [...this.#store.members] };
  }

  // ---- maintenance

  #status(): StatusResponse {
    const { hardState, softState } = this.#group.basicStatus();
    const self = this.#store.members.find(({ ID }) => ID === this.#memberId);
    return {
      header: this.#header(this.#store.revision),
      version: VERSION,
      dbSize: this.#store.bytes,
      leader: softState.lead,
      raftIndex: BigInt(hardState.commit),
      raftTerm: BigInt(hardState.term),
      raftAppliedIndex: BigInt(this.#group.applied),
      errors: softState.lead === NONE ? [statusError("noLeader").message] : [],
      dbSizeInUse: this.#store.bytes,
      isLearner: self?.isLearner ?? false,
    };
  }

  // ---- the group

  /** Resolves when all that was committed before the call is in the store. */
  async #catchUp(): Promise<void> {
    await this.#ask((signal) => this.#group.read({ signal }));
  }

  /** Wraps a request, has it committed, and gives what applying it here came to. */
  async #propose<K extends RequestKind>(
    kind: K,
    request: Replicated[K]["request"],
  ): Promise<Replicated[K]["response"]> {
    const backlog = this.#group.basicStatus().hardState.commit - this.#group.applied;
    if (backlog > MAX_BACKLOG) throw statusError("tooManyRequests");
    const data = encodeRequest(kind, request);
    if (data.length > this.#maxRequestBytes) throw statusError("requestTooLarge");
    const result = await this.#ask((signal) => this.#group.propose(data, { signal }));
    if (result.kind === "refused") throw result.error;
    return result.response as Replicated[K]["response"];
  }

  /**
   * Raft takes one change of configuration at a time: one that comes while another is under way is committed as nothing. So it
   * is checked and proposed again until it has its effect.
   */
  async #reconfigure(change: ConfChange, check: () => void, hasHappened: () => boolean): Promise<void> {
    check();
    const deadline = AbortSignal.timeout(this.#timeoutMs);
    for (;;) {
      await this.#ask((signal) => this.#group.proposeConfChange(change, { signal }), deadline);
      if (hasHappened()) return;
      check();
      await sleep(RETRY_MS, undefined, { signal: deadline });
    }
  }

  /**
   * Asks the group, and again while raft drops what it is asked (there is no leader, or it is about to hand over): what was
   * dropped was never in the log. Without a leader until the end that is the answer, and it means "surely not done"; after a
   * timeout it may yet have been.
   */
  async #ask<T>(what: (signal: AbortSignal) => Promise<T>, signal = AbortSignal.timeout(this.#timeoutMs)): Promise<T> {
    for (;;) {
      try {
        return await what(signal);
      } catch (error) {
        if (codeOf(error) !== "ERR_PROPOSAL_DROPPED") throw error;
        if (signal.aborted) throw statusError("noLeader");
        await sleep(RETRY_MS, undefined, { signal }).catch(() => {
          throw statusError("noLeader");
        });
      }
    }
  }

  #headed<T extends { header: ResponseHeader }>(response: T): T {
    return { ...response, header: this.#header(response.header.revision) };
  }

  #header(revision: number): ResponseHeader {
    const raftTerm = BigInt(this.#group.basicStatus().hardState.term);
    return { ...headerAt(revision), clusterId: this.#clusterId, memberId: this.#memberId, raftTerm };
  }
}

function route<Q, A>(request: Schema<Q>, answer: Schema<A>, handle: (request: Q) => Promise<A>): Route {
  return { call: async (body) => writeJson(answer, await handle(readJson(request, body))) };
}

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null ? (error as { code?: unknown }).code : undefined;
}

/** What went wrong below, in etcd's words. */
function asStatus(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  switch (codeOf(error)) {
    case "ERR_PROPOSAL_DROPPED":
      return statusError("noLeader");
    case "ERR_TOO_LARGE":
      return statusError("requestTooLarge");
    case "ERR_CLOSED":
      return statusError("stopped");
  }
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return name === "TimeoutError" || name === "AbortError"
    ? statusError("timeout")
    : new StatusError(Code.Internal, message);
}

// ---- members

/** host:port of a member, as a transport takes it; undefined while it is not known. */
export function peerAddressOf(member: Member): string | undefined {
  // Not by URL, which leaves out a port that is the scheme's own.
  return member.peerURLs[0]?.replace(/^https?:\/\//, "");
}

/** http or https, a host, a port, and nothing else: what every member's transport will take, for each is told of it for good. */
function isPeerUrl(text: string): boolean {
  const [, port] = /^https?:\/\/(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):([1-9]\d{0,4})$/.exec(text) ?? [];
  return port !== undefined && Number(port) <= 65_535 && URL.canParse(text);
}

/** Of one that has said its name. */
function isStarted({ name }: Member): boolean {
  return name !== "";
}

function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

/** As etcd makes them: of the URLs, the group and the time, so that one that comes back is another. */
function memberIdOf(peerURLs: readonly string[], clusterId: bigint): bigint {
  const seconds = Math.floor(Date.now() / 1000);
  const hash = createHash("sha1")
    .update([...peerURLs].sort().join(""))
    .update(`${clusterId}${seconds}`);
  return hash.digest().readBigUInt64BE();
}
