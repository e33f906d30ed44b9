// KvStore: the state machine of this example. The replica hands it committed commands (requests.ts), it applies them to an Mvcc
// and to the list of members, and what comes out is what etcd's applierV3 answers. The gateway reads from it directly, once
// the replica says that it has caught up.
//
// Deterministic: it looks at nothing but the commands, in their order. A command that etcd refuses when it applies it (a lease
// that is not there, a revision that was compacted) is refused here too, before anything is changed; no command fails halfway.

import type { AppliedConfChange, Command, SnapshotMetadata, StateMachine } from "stablelog";
import { ConfChangeType } from "stablelog/raft";
import { StatusError, statusError } from "./errors.js";
import {
  type CompactionRequest,
  type CompactionResponse,
  type Compare,
  CompareResult,
  CompareTarget,
  type DeleteRangeRequest,
  type DeleteRangeResponse,
  headerAt,
  type KeyValue,
  type Member,
  type PutRequest,
  type PutResponse,
  type RangeRequest,
  type RangeResponse,
  type RequestOp,
  type ResponseOp,
  SortOrder,
  SortTarget,
  type TxnRequest,
  type TxnResponse,
} from "./messages.js";
import { bytesOf, Mvcc, stringOf, type Version } from "./mvcc.js";
import { decodeMember, decodeRequest, encodeMember, type InternalRequest, packr, type Result } from "./requests.js";

export interface StoreOptions {
  /** Called when members came, went or moved; not while commands are applied, so it may ask the store for them. */
  readonly onMembers?: (members: readonly Member[]) => void;
}

const SNAPSHOT_VERSION = 1;
/** About how many bytes of a snapshot are made at a time. */
const CHUNK = 65_536;

export class KvStore implements StateMachine<Result> {
  #mvcc = new Mvcc();
  #members = new Map<bigint, Member>();
  readonly #onMembers: (members: readonly Member[]) => void;

  constructor({ onMembers = () => {} }: StoreOptions = {}) {
    this.#onMembers = onMembers;
  }

  /** Of the last write. */
  get revision(): number {
    return this.#mvcc.revision;
  }

  /** Bytes of keys and values, about, with those of the past. */
  get bytes(): number {
    return this.#mvcc.bytes;
  }

  /** Sorted by ID. */
  get members(): readonly Member[] {
    return [...this.#members.values()].sort((a, b) => (a.ID < b.ID ? -1 : 1));
  }

  // ---- reads

  /** @throws StatusError when the revision is not there. */
  range(request: RangeRequest): RangeResponse {
    const { key, rangeEnd, revision, countOnly } = request;
    const bounded =
      request.minModRevision !== 0 ||
      request.maxModRevision !== 0 ||
      request.minCreateRevision !== 0 ||
      request.maxCreateRevision !== 0;
    // What is sorted or left out afterwards must all be there; else one more than the limit tells whether there is more.
    const whole = bounded || request.sortOrder !== SortOrder.None || request.limit <= 0;
    const limit = whole ? 0 : request.limit + 1;
    const found = this.#mvcc.read({ key, rangeEnd }, { revision, limit, countOnly });
    let kvs = bounded ? found.kvs.filter((kv) => isWithin(kv, request)) : found.kvs;
    sort(kvs, request);
    const more = request.limit > 0 && kvs.length > request.limit;
    if (more) kvs = kvs.slice(0, request.limit);
    if (request.keysOnly) for (const kv of kvs) kv.value = new Uint8Array(0);
    return { header: headerAt(found.revision), kvs, more, count: found.count };
  }

  /** A txn that only reads. @throws StatusError when one of its revisions is not there. */
  readTxn(request: TxnRequest): TxnResponse {
    return this.#txn(request);
  }

  // ---- the state machine

  apply(commands: readonly Command[]): Result[] {
    let moved = false;
    const results = commands.map(({ data }): Result => {
      try {
        const request = requestIn(data);
        moved ||= request.kind === "publish";
        return this.#applied(request);
      } catch (error) {
        if (error instanceof StatusError) return { kind: "refused", error };
        throw error;
      }
    });
    if (moved) this.#onMembers(this.members);
    return results;
  }

  applyConfChange({ change, confState }: AppliedConfChange): void {
    const told = memberIn(change.context);
    for (const { type, nodeId } of change.changes) {
      const before = this.#members.get(nodeId);
      if (type === ConfChangeType.RemoveNode) this.#members.delete(nodeId);
      else if (told?.ID === nodeId) this.#members.set(nodeId, told);
      else if (before === undefined && nodeId !== 0n) this.#members.set(nodeId, unknownMember(nodeId));
    }
    const learners = new Set([...confState.learners, ...confState.learnersNext]);
    for (const [id, each] of this.#members) this.#members.set(id, { ...each, isLearner: learners.has(id) });
    this.#onMembers(this.members);
  }

  /**
   * Frames of a length in four bytes and MessagePack: a head, then rows [key, mod, create, version, value, lease], the key left out
   * where it is that of the row before.
   */
  snapshot(): AsyncIterable<Uint8Array> {
    const { revision, compactRevision } = this.#mvcc;
    const { count, versions } = this.#mvcc.dump();
    const head = [SNAPSHOT_VERSION, revision, compactRevision, count, this.members.map(encodeMember)];
    return frames(head, versions);
  }

  async restore(data: AsyncIterable<Uint8Array>, { confState }: Pick<SnapshotMetadata, "confState">): Promise<void> {
    const packed = unframed(data);
    const first = await packed.next();
    if (first.done === true) {
      // A new group: its first members are known by ID, until each says where it is to be found.
      const ids = [...confState.voters, ...confState.learners];
      this.#mvcc = new Mvcc();
      this.#members = new Map(ids.map((id) => [id, unknownMember(id)]));
    } else {
      const [version, revision, compactRevision, count, members] = first.value as [number, number, number, number, []];
      if (version !== SNAPSHOT_VERSION) throw new Error(`a snapshot of version ${version}`);
      const rows: (readonly [string, Version])[] = [];
      let name = "";
      for await (const frame of packed) {
        for (const row of frame as [Uint8Array | null, number, number, number, Uint8Array, number][]) {
          const [key, mod, create, nth, value, lease] = row;
          if (key !== null) name = stringOf(key);
          rows.push([name, { mod, create, version: nth, value: new Uint8Array(value), lease }]);
        }
      }
      if (rows.length !== count) throw new Error(`a snapshot with ${rows.length} of ${count} versions`);
      this.#mvcc = Mvcc.load(revision, compactRevision, rows);
      this.#members = new Map(members.map(decodeMember).map((each) => [each.ID, each]));
    }
    this.#onMembers(this.members);
  }

  // ---- commands

  #applied(internal: InternalRequest): Result {
    switch (internal.kind) {
      case "put": {
        const { request } = internal;
        this.#checkPut(request);
        return { kind: "put", response: this.#mvcc.write(() => this.#put(request)) };
      }
      case "deleteRange": {
        const { request } = internal;
        return { kind: "deleteRange", response: this.#mvcc.write(() => this.#deleteRange(request)) };
      }
      case "txn":
        return { kind: "txn", response: this.#txn(internal.request) };
      case "compaction":
        return { kind: "compaction", response: this.#compact(internal.request) };
      case "publish": {
        const { ID, name, peerURLs, clientURLs } = internal.request;
        const before = this.#members.get(ID);
        // One that was removed meanwhile stays removed.
        if (before === undefined) throw statusError("memberNotFound");
        this.#members.set(ID, { ...before, name, peerURLs, clientURLs });
        return { kind: "publish", response: undefined };
      }
    }
  }

  /** There are no leases here, so none that is asked for is there. */
  #checkPut({ key, lease, ignoreValue, ignoreLease }: PutRequest): void {
    if (lease !== 0) throw statusError("leaseNotFound");
    if ((ignoreValue || ignoreLease) && this.#mvcc.get(key) === undefined) throw statusError("keyNotFound");
  }

  #put({ key, value, lease, prevKv, ignoreValue, ignoreLease }: PutRequest): PutResponse {
    const before = this.#mvcc.get(key);
    const kept = ignoreValue ? before?.value : undefined;
    this.#mvcc.put(key, kept ?? value, ignoreLease ? (before?.lease ?? 0) : lease);
    return { header: headerAt(this.#mvcc.revision), prevKv: prevKv ? before : undefined };
  }

  #deleteRange(request: DeleteRangeRequest): DeleteRangeResponse {
    const prevKvs = request.prevKv ? this.#mvcc.read(request).kvs : [];
    const deleted = this.#mvcc.deleteRange(request);
    return { header: headerAt(this.#mvcc.revision), deleted, prevKvs };
  }

  #compact({ revision }: CompactionRequest): CompactionResponse {
    this.#mvcc.compact(revision);
    return { header: headerAt(this.#mvcc.revision) };
  }

  /** Compares, of nested txns too, see the state before the txn; its operations see what those before them did. */
  #txn(request: TxnRequest): TxnResponse {
    const way = this.#choose(request);
    this.#checkOps(way);
    return this.#mvcc.write(() => {
      const done = this.#run(way);
      done.header = headerAt(this.#mvcc.revision);
      return done;
    });
  }

  #choose({ compare, success, failure }: TxnRequest): Way {
    const succeeded = compare.every((each) => this.#holds(each));
    const steps = (succeeded ? success : failure).map((op) => ({
      op,
      nested: op.requestTxn === undefined ? undefined : this.#choose(op.requestTxn),
    }));
    return { succeeded, steps };
  }

  #holds(compare: Compare): boolean {
    const { kvs } = this.#mvcc.read(compare);
    if (kvs.length > 0) return kvs.every((kv) => compares(compare, kv));
    // A key that is not there has no value, not even an empty one; all else of it is 0.
    return compare.target !== CompareTarget.Value && compares(compare, undefined);
  }

  #checkOps({ steps }: Way): void {
    for (const { op, nested } of steps) {
      if (nested !== undefined) this.#checkOps(nested);
      if (op.requestPut !== undefined) this.#checkPut(op.requestPut);
      if (op.requestRange !== undefined && op.requestRange.revision !== 0) this.#mvcc.check(op.requestRange.revision);
    }
  }

  /** etcd gives the answers within a txn a revision, and a txn within a txn an empty header. */
  #run({ succeeded, steps }: Way): TxnResponse {
    const responses = steps.map(({ op, nested }): ResponseOp => {
      if (nested !== undefined) return { responseTxn: this.#run(nested) };
      if (op.requestRange !== undefined) return { responseRange: this.range(op.requestRange) };
      if (op.requestPut !== undefined) return { responsePut: this.#put(op.requestPut) };
      if (op.requestDeleteRange !== undefined) return { responseDeleteRange: this.#deleteRange(op.requestDeleteRange) };
      throw new Error("an operation that is none: the gateway lets none through");
    });
    return { header: headerAt(0), succeeded, responses };
  }
}

/** A command that cannot be read is refused, by every member alike: one that stopped instead would stop at each start anew. */
function requestIn(data: Uint8Array): InternalRequest {
  try {
    return decodeRequest(data);
  } catch {
    throw statusError("badCommand");
  }
}

function memberIn(context: Uint8Array): Member | undefined {
  if (context.length === 0) return undefined;
  try {
    return decodeMember(context);
  } catch {
    return undefined;
  }
}

/** Which way a txn goes, and the txns within it. */
interface Way {
  readonly succeeded: boolean;
  readonly steps: readonly { readonly op: RequestOp; readonly nested: Way | undefined }[];
}

function unknownMember(id: bigint): Member {
  return { ID: id, name: "", peerURLs: [], clientURLs: [], isLearner: false };
}

// ---- ranges and compares

function isWithin({ modRevision, createRevision }: KeyValue, request: RangeRequest): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  return (
    (maxModRevision === 0 || modRevision <= maxModRevision) &&
    (minModRevision === 0 || modRevision >= minModRevision) &&
    (maxCreateRevision === 0 || createRevision <= maxCreateRevision) &&
    (minCreateRevision === 0 || createRevision >= minCreateRevision)
  );
}

const orders = new Map<number, (a: KeyValue, b: KeyValue) => number>([
  [SortTarget.Key, (a, b) => Buffer.compare(a.key, b.key)],
  [SortTarget.Version, (a, b) => a.version - b.version],
  [SortTarget.Create, (a, b) => a.createRevision - b.createRevision],
  [SortTarget.Mod, (a, b) => a.modRevision - b.modRevision],
  [SortTarget.Value, (a, b) => Buffer.compare(a.value, b.value)],
]);

/** A target other than the key asks for an order even where none is named. Equal ones stay in the order of their keys. */
function sort(kvs: KeyValue[], { sortOrder, sortTarget }: RangeRequest): void {
  const order = orders.get(sortTarget);
  if (order === undefined) return;
  if (sortOrder === SortOrder.Descend) kvs.sort((a, b) => order(b, a));
  else if (sortTarget !== SortTarget.Key) kvs.sort(order);
}

function compares(compare: Compare, kv: KeyValue | undefined): boolean {
  const sign = signOf(compare, kv);
  switch (compare.result) {
    case CompareResult.Equal:
      return sign === 0;
    case CompareResult.NotEqual:
      return sign !== 0;
    case CompareResult.Greater:
      return sign > 0;
    case CompareResult.Less:
      return sign < 0;
    default:
      return true;
  }
}

function signOf(compare: Compare, kv: KeyValue | undefined): number {
  switch (compare.target) {
    case CompareTarget.Version:
      return Math.sign((kv?.version ?? 0) - (compare.version ?? 0));
    case CompareTarget.Create:
      return Math.sign((kv?.createRevision ?? 0) - (compare.createRevision ?? 0));
    case CompareTarget.Mod:
      return Math.sign((kv?.modRevision ?? 0) - (compare.modRevision ?? 0));
    case CompareTarget.Value:
      return Buffer.compare(kv?.value ?? new Uint8Array(0), compare.value ?? new Uint8Array(0));
    case CompareTarget.Lease:
      return Math.sign((kv?.lease ?? 0) - (compare.lease ?? 0));
    default:
      return 0;
  }
}

// ---- frames of a snapshot

async function* frames(
  head: unknown,
  versions: Iterable<readonly [key: string, version: Version]>,
): AsyncGenerator<Uint8Array> {
  yield framed(head);
  let rows: unknown[] = [];
  let size = 0;
  let before: string | undefined;
  for (const [name, { mod, create, version, value, lease }] of versions) {
    rows.push([name === before ? null : bytesOf(name), mod, create, version, value, lease]);
    before = name;
    size += name.length + value.length;
    if (size + rows.length * 16 < CHUNK) continue;
    yield framed(rows);
    rows = [];
    size = 0;
  }
  if (rows.length > 0) yield framed(rows);
}

function framed(value: unknown): Uint8Array {
  const body = packr.pack(value);
  const frame = new Uint8Array(4 + body.length);
  new DataView(frame.buffer).setUint32(0, body.length, true);
  frame.set(body, 4);
  return frame;
}

/** The values of the frames, however the bytes are cut. @throws Error when they end within a frame. */
async function* unframed(data: AsyncIterable<Uint8Array>): AsyncGenerator<unknown> {
  let held: Uint8Array[] = [];
  let size = 0;
  let wanted = 4;
  let head = true;
  for await (const chunk of data) {
    held.push(chunk);
    size += chunk.length;
    while (size >= wanted) {
      const all = held.length === 1 ? (held[0] as Uint8Array) : Buffer.concat(held);
      const part = all.subarray(0, wanted);
      held = [all.subarray(wanted)];
      size -= wanted;
      if (head) wanted = new DataView(part.buffer, part.byteOffset).getUint32(0, true);
      else {
        yield packr.unpack(part);
        wanted = 4;
      }
      head = !head;
    }
  }
  if (size > 0 || !head) throw new Error("a snapshot that is cut short");
}
