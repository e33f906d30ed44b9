// The store of docs/examples/kv against a naive model: a list of whole states, one for each revision, that is copied with every
// write. Random commands, and after them every revision is read back; the store is replaced by a copy of itself, through a
// snapshot, at any point. Then what random commands do not reach: members, snapshots while writes go on, bytes that are wrong.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StatusError } from "../../docs/examples/kv/errors.js";
import { KeyIndex } from "../../docs/examples/kv/key-index.js";
import type {
  Compare,
  DeleteRangeRequest,
  KeyValue,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from "../../docs/examples/kv/messages.js";
import { encodeMember, encodeRequest, type RequestKind, type Result } from "../../docs/examples/kv/requests.js";
import { KvStore } from "../../docs/examples/kv/store.js";
import { ConfChangeType, type ConfChangeV2 } from "../../src/raftpb/conf-change.js";
import { emptyConfState } from "../../src/raftpb/types.js";
import { chunks, collect, freshStore, SELF } from "./harness.js";

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const nothing: Uint8Array = new Uint8Array(0);
const rangeOf = (key: string, rangeEnd: string, more: Partial<RangeRequest> = {}): RangeRequest => ({
  key: bytes(key),
  rangeEnd: bytes(rangeEnd),
  limit: 0,
  revision: 0,
  sortOrder: 0,
  sortTarget: 0,
  serializable: false,
  keysOnly: false,
  countOnly: false,
  minModRevision: 0,
  maxModRevision: 0,
  minCreateRevision: 0,
  maxCreateRevision: 0,
  ...more,
});
const everything = (revision = 0): RangeRequest => rangeOf("\0", "\0", { revision });
const putOf = (key: string, value: string, more: Partial<PutRequest> = {}): PutRequest => ({
  key: bytes(key),
  value: bytes(value),
  lease: 0,
  prevKv: false,
  ignoreValue: false,
  ignoreLease: false,
  ...more,
});
const opOf = (op: Partial<RequestOp>): RequestOp => ({
  requestRange: undefined,
  requestPut: undefined,
  requestDeleteRange: undefined,
  requestTxn: undefined,
  ...op,
});

let index = 1;
function applied<K extends RequestKind>(
  store: KvStore,
  kind: K,
  request: Parameters<typeof encodeRequest<K>>[1],
): Result {
  const [result] = store.apply([{ index: ++index, term: 1, data: encodeRequest(kind, request) }]);
  return result as Result;
}

async function copyOf(store: KvStore, cut = 1_000): Promise<KvStore> {
  const data = await collect(store.snapshot());
  const parts: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += cut) parts.push(data.subarray(at, at + cut));
  const copy = new KvStore();
  await copy.restore(chunks(...parts), { confState: emptyConfState() });
  return copy;
}

// ---- the model

type State = ReadonlyMap<string, KeyValue>;

class Model {
  /** The state at each revision, from 1 on; those before `compacted` are out of reach. */
  readonly states: State[] = [new Map(), new Map()];
  compacted = -1;

  get revision(): number {
    return this.states.length - 1;
  }

  inRange(state: State, key: string, end: string): KeyValue[] {
    return [...state]
      .filter(([name]) => (end === "" ? name === key : name >= key && (end === "\0" || name < end)))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, kv]) => kv);
  }

  /** Runs `change` on a copy of the newest state, which becomes a revision when it says that something was written. */
  write(change: (state: Map<string, KeyValue>, revision: number) => boolean): void {
    const state = new Map(this.states[this.revision]);
    if (change(state, this.revision + 1)) this.states.push(state);
  }

  put(state: Map<string, KeyValue>, revision: number, key: string, value: string): void {
    const before = state.get(key);
    state.set(key, {
      key: bytes(key),
      value: bytes(value),
      createRevision: before?.createRevision ?? revision,
      modRevision: revision,
      version: (before?.version ?? 0) + 1,
      lease: 0,
    });
  }

  delete(state: Map<string, KeyValue>, key: string, end: string): number {
    const gone = this.inRange(state, key, end).map((kv) => Buffer.from(kv.key).toString("latin1"));
    for (const name of gone) state.delete(name);
    return gone.length;
  }
}

const keys = fc.constantFrom("a", "a\0", "ab", "b", "\xff", "\xff\xff", "c");
const ends = fc.constantFrom("", "\0", "b", "ab", "\xff", "zz", "\x01");
const values = fc.constantFrom("", "x", "y".repeat(40));

interface Simple {
  readonly op: "put" | "delete";
  readonly key: string;
  readonly end: string;
  readonly value: string;
}
const simple: fc.Arbitrary<Simple> = fc.record({
  op: fc.constantFrom("put", "put", "delete"),
  key: keys,
  end: ends,
  value: values,
});

type Action =
  | ({ readonly kind: "write" } & Simple)
  | { readonly kind: "txn"; readonly guard: string; readonly yes: Simple[]; readonly no: Simple[] }
  | { readonly kind: "compact"; readonly back: number }
  | { readonly kind: "copy"; readonly cut: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: simple.map((each) => ({ kind: "write" as const, ...each })) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("txn" as const),
      guard: keys,
      yes: fc.array(simple, { maxLength: 4 }),
      no: fc.array(simple, { maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("compact" as const), back: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("copy" as const), cut: fc.integer({ min: 1, max: 300 }) }) },
);

/** A key is put at most once in a txn, and not where it is deleted: the gateway lets no other through. */
function distinct(ops: readonly Simple[]): Simple[] {
  const puts = new Set<string>();
  return ops.filter(({ op, key }) => op === "delete" || (!puts.has(key) && puts.add(key)));
}

function requestOf({ op, key, end, value }: Simple): RequestOp {
  return op === "put"
    ? opOf({ requestPut: putOf(key, value) })
    : opOf({ requestDeleteRange: { key: bytes(key), rangeEnd: bytes(end), prevKv: true } });
}

function checkEveryRevision(store: KvStore, model: Model): void {
  expect(store.revision).toBe(model.revision);
  for (let revision = 1; revision <= model.revision + 1; revision++) {
    if (revision < model.compacted || revision > model.revision) {
      expect(() => store.range(everything(revision))).toThrow(
        revision > model.revision ? /future revision/ : /has been compacted/,
      );
      continue;
    }
    const wanted = model.inRange(model.states[revision] as State, "\0", "\0");
    expect(store.range(everything(revision))).toMatchObject({ kvs: wanted, count: wanted.length, more: false });
  }
}

describe("KvStore", () => {
  test("holds every revision as a model of whole states does, through txns, compactions and snapshots", async () => {
    const seen = { txns: 0, compactions: 0, copies: 0, deletions: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        let store = await freshStore();
        const model = new Model();
        const change = (state: Map<string, KeyValue>, revision: number, { op, key, end, value }: Simple): boolean => {
          if (op === "put") model.put(state, revision, key, value);
          else if (model.delete(state, key, end) === 0) return false;
          else seen.deletions++;
          return true;
        };
        for (const each of actions) {
          switch (each.kind) {
            case "write": {
              model.write((state, revision) => change(state, revision, each));
              const { requestPut, requestDeleteRange } = requestOf(each);
              const result =
                requestPut === undefined
                  ? applied(store, "deleteRange", requestDeleteRange as DeleteRangeRequest)
                  : applied(store, "put", requestPut);
              expect(result).toMatchObject({ response: { header: { revision: model.revision } } });
              break;
            }
            case "txn": {
              const exists = model.states[model.revision]?.has(each.guard) === true;
              const chosen = distinct(exists ? each.yes : each.no);
              model.write((state, revision) =>
                chosen.map((op) => change(state, revision, op)).some((changed) => changed),
              );
              const guard: Compare = {
                result: 1,
                target: 0,
                key: bytes(each.guard),
                version: 0,
                createRevision: undefined,
                modRevision: undefined,
                value: undefined,
                lease: undefined,
                rangeEnd: nothing,
              };
              const request: TxnRequest = {
                compare: [guard],
                success: distinct(each.yes).map(requestOf),
                failure: distinct(each.no).map(requestOf),
              };
              const response = { header: { revision: model.revision }, succeeded: exists };
              expect(applied(store, "txn", request)).toMatchObject({ response });
              seen.txns++;
              break;
            }
            case "compact": {
              const revision = Math.max(model.revision - each.back, 0);
              const result = applied(store, "compaction", { revision, physical: false });
              expect(result.kind).toBe(revision > model.compacted ? "compaction" : "refused");
              model.compacted = Math.max(model.compacted, revision);
              seen.compactions++;
              break;
            }
            case "copy":
              store = await copyOf(store, each.cut);
              seen.copies++;
          }
        }
        checkEveryRevision(store, model);
        checkEveryRevision(await copyOf(store), model);
      }),
      { numRuns: 300 },
    );
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50);
  });

  test("range() gives what a filter over the whole state gives", async () => {
    const writes = fc.array(fc.tuple(keys, values), { minLength: 1, maxLength: 12 });
    const limits = fc.integer({ min: -1, max: 6 });
    const bounds = fc.integer({ min: 0, max: 8 });
    await fc.assert(
      fc.asyncProperty(
        writes,
        keys,
        ends,
        limits,
        fc.nat(2),
        fc.nat(4),
        fc.tuple(bounds, bounds, bounds, bounds),
        fc.boolean(),
        async (puts, key, end, limit, sortOrder, sortTarget, [minMod, maxMod, minCreate, maxCreate], keysOnly) => {
          const store = await freshStore();
          const model = new Model();
          for (const [name, value] of puts) {
            model.write((state, revision) => {
              model.put(state, revision, name, value);
              return true;
            });
            applied(store, "put", putOf(name, value));
          }
          const all = model.inRange(model.states[model.revision] as State, key, end);
          const bounded = minMod + maxMod + minCreate + maxCreate > 0;
          let kvs = all.filter(
            (kv) =>
              (minMod === 0 || kv.modRevision >= minMod) &&
              (maxMod === 0 || kv.modRevision <= maxMod) &&
              (minCreate === 0 || kv.createRevision >= minCreate) &&
              (maxCreate === 0 || kv.createRevision <= maxCreate),
          );
          // etcd fetches one more than the limit before it sorts, unless an order is named or a bound given.
          if (limit > 0 && sortOrder === 0 && !bounded) kvs = kvs.slice(0, limit + 1);
          const rank = (kv: KeyValue): string | number =>
            [Buffer.from(kv.key).toString("latin1"), kv.version, kv.createRevision, kv.modRevision][sortTarget] ??
            Buffer.from(kv.value).toString("latin1");
          const sign = sortOrder === 2 ? -1 : 1;
          kvs = [...kvs].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) < rank(b) ? -sign : sign));
          const more = limit > 0 && kvs.length > limit;
          if (more) kvs = kvs.slice(0, limit);
          const options = { limit, sortOrder, sortTarget, keysOnly };
          const within = {
            minModRevision: minMod,
            maxModRevision: maxMod,
            minCreateRevision: minCreate,
            maxCreateRevision: maxCreate,
          };
          expect(store.range(rangeOf(key, end, { ...options, ...within }))).toMatchObject({
            kvs: keysOnly ? kvs.map((kv) => ({ ...kv, value: nothing })) : kvs,
            more,
            count: all.length,
          });
          // Reading keys alone has taken nothing from what is kept.
          expect(store.range(rangeOf(key, end)).kvs).toEqual(all);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a txn that is refused changes nothing", async () => {
    const store = await freshStore();
    applied(store, "put", putOf("a", "1"));
    const refused = applied(store, "txn", {
      compare: [],
      success: [
        opOf({ requestPut: putOf("a", "2") }),
        opOf({
          requestTxn: { compare: [], success: [opOf({ requestPut: putOf("b", "", { lease: 1 }) })], failure: [] },
        }),
      ],
      failure: [],
    });
    expect(refused).toMatchObject({ kind: "refused", error: { message: "etcdserver: requested lease not found" } });
    expect(store.revision).toBe(2);
    expect(store.range(everything()).kvs.map(({ value }) => value)).toEqual([bytes("1")]);
  });

  test("snapshot() shows the state at the call, whatever is applied while it is read", async () => {
    const store = await freshStore();
    for (let i = 0; i < 3_000; i++) applied(store, "put", putOf(`key-${i % 1_000}`, `value ${i}`.repeat(8)));
    const before = store.range(everything());
    const taken = store.snapshot()[Symbol.asyncIterator]();
    const parts: Uint8Array[] = [(await taken.next()).value as Uint8Array];
    for (let i = 0; i < 500; i++) applied(store, "put", putOf(`key-${i}`, "later"));
    applied(store, "deleteRange", { key: bytes("key-5"), rangeEnd: bytes("\0"), prevKv: false });
    applied(store, "compaction", { revision: store.revision, physical: false });
    for (let next = await taken.next(); next.done !== true; next = await taken.next()) parts.push(next.value);
    expect(parts.length).toBeGreaterThan(4);
    const copy = new KvStore();
    await copy.restore(chunks(...parts), { confState: emptyConfState() });
    expect(copy.range(everything())).toEqual(before);
    expect(copy.range(everything(1_500)).kvs).toHaveLength(1_000);
  });

  test("equal commands make equal snapshots", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(simple, { maxLength: 30 }), async (ops) => {
        const [one, other] = [await freshStore(), await copyOf(await freshStore())];
        for (const op of ops) {
          const request = { compare: [], success: [requestOf(op)], failure: [] };
          expect(applied(one, "txn", request)).toEqual(applied(other, "txn", request));
        }
        expect(await collect(one.snapshot())).toEqual(await collect(other.snapshot()));
      }),
    );
  });

  test("restore() refuses every snapshot that is cut short, and keeps what it had", async () => {
    const store = await freshStore();
    for (let i = 0; i < 3; i++) applied(store, "put", putOf(`k${i}`, "v"));
    const data = await collect(store.snapshot());
    const other = await freshStore();
    applied(other, "put", putOf("mine", "1"));
    for (let length = 1; length < data.length; length++) {
      await expect(other.restore(chunks(data.subarray(0, length)), { confState: emptyConfState() })).rejects.toThrow(
        /a snapshot/,
      );
    }
    expect(other.range(everything()).kvs.map(({ key }) => key)).toEqual([bytes("mine")]);
  });

  test("apply() refuses a command that is none, and what etcd refuses", async () => {
    const store = await freshStore();
    for (const data of [
      [0x93, 1, 99, 0x80],
      [0x93, 2, 0, 0x80],
      [0x93, 1, 0, 0xc0],
      [0x93, 1, 0, 0x81, 0xa3, 0x6b, 0x65, 0x79, 5],
      [0xc1, 1, 2, 3],
      [],
    ]) {
      const [result] = store.apply([{ index: 9, term: 1, data: new Uint8Array(data) }]);
      expect(result).toMatchObject({ kind: "refused", error: { message: expect.stringContaining("no request of") } });
    }
    expect(store.revision).toBe(1);
    const refused = applied(store, "put", putOf("a", "", { ignoreValue: true }));
    expect(refused.kind === "refused" && refused.error).toBeInstanceOf(StatusError);
  });

  test("keeps no byte of a command that it was handed", async () => {
    const store = await freshStore();
    const data = encodeRequest("put", putOf("a", "value"));
    store.apply([{ index: 2, term: 1, data }]);
    data.fill(0);
    expect(store.range(everything()).kvs).toMatchObject([{ key: bytes("a"), value: bytes("value") }]);
  });

  test("counts bytes up with writes and down with compactions", async () => {
    const store = await freshStore();
    const empty = store.bytes;
    for (let i = 0; i < 10; i++) applied(store, "put", putOf("a", "x".repeat(100)));
    const full = store.bytes;
    expect(full).toBeGreaterThan(empty + 1_000);
    applied(store, "compaction", { revision: store.revision, physical: false });
    expect(store.bytes).toBeLessThan(full / 5);
    expect((await copyOf(store)).bytes).toBe(store.bytes);
    applied(store, "deleteRange", { key: bytes("a"), rangeEnd: nothing, prevKv: false });
    applied(store, "compaction", { revision: store.revision, physical: false });
    expect(store.bytes).toBe(empty);
  });
});

describe("members", () => {
  const added = {
    ID: 0xffff_ffff_ffff_fff0n,
    name: "",
    peerURLs: ["http://10.0.0.1:1"],
    clientURLs: [],
    isLearner: false,
  };
  const change = (type: ConfChangeType, nodeId: bigint, context = nothing): ConfChangeV2 => ({
    transition: 0,
    changes: [{ type, nodeId }],
    context,
  });

  test("come with changes of configuration, say their names, go, and are in snapshots", async () => {
    const told: string[][] = [];
    const store = new KvStore({ onMembers: (members) => told.push(members.map(({ ID, name }) => `${ID} ${name}`)) });
    await store.restore(chunks(), { confState: { ...emptyConfState(), voters: [SELF] } });
    const confState = { ...emptyConfState(), voters: [SELF], learners: [added.ID] };
    const context = encodeMember({ ...added, isLearner: true });
    store.applyConfChange({
      index: 2,
      term: 1,
      change: change(ConfChangeType.AddLearnerNode, added.ID, context),
      confState,
    });
    expect(store.members).toEqual([
      { ID: SELF, name: "", peerURLs: [], clientURLs: [], isLearner: false },
      { ...added, isLearner: true },
    ]);
    const named = { ...added, name: "new", clientURLs: ["http://10.0.0.1:2"] };
    expect(applied(store, "publish", named).kind).toBe("publish");
    // Whether it learns is the configuration's to say.
    expect(store.members[1]).toEqual({ ...named, isLearner: true });
    expect((await copyOf(store)).members).toEqual(store.members);

    const alone = { ...emptyConfState(), voters: [SELF] };
    store.applyConfChange({
      index: 4,
      term: 1,
      change: change(ConfChangeType.RemoveNode, added.ID),
      confState: alone,
    });
    expect(applied(store, "publish", named)).toMatchObject({ error: { message: "etcdserver: member not found" } });
    expect(store.members.map(({ ID }) => ID)).toEqual([SELF]);
    expect(told).toEqual([
      [`${SELF} `],
      [`${SELF} `, `${added.ID} `],
      [`${SELF} `, `${added.ID} new`],
      [`${SELF} `],
      [`${SELF} `],
    ]);
  });

  test("stay as they are when raft refused a change", async () => {
    const store = await freshStore();
    const before = store.members;
    const context = encodeMember(added);
    const confState = { ...emptyConfState(), voters: [SELF] };
    store.applyConfChange({ index: 2, term: 1, change: { transition: 0, changes: [], context }, confState });
    expect(store.members).toEqual(before);
  });
});

describe("KeyIndex", () => {
  test("is a sorted set, through thousands of additions and removals", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(4_000), { minLength: 1_500, maxLength: 3_000 }), fc.nat(4_000), (numbers, start) => {
        const keyIndex = new KeyIndex();
        const model = new Set<string>();
        for (const number of numbers) {
          const key = `k${number}`;
          if (number % 3 === 0 && model.delete(key)) keyIndex.delete(key);
          else if (!model.has(key)) {
            model.add(key);
            keyIndex.add(key);
          }
        }
        const from = `k${start}`;
        expect([...keyIndex.from("")]).toEqual([...model].sort());
        expect([...keyIndex.from(from)]).toEqual([...model].filter((key) => key >= from).sort());
        for (const key of model) keyIndex.delete(key);
        expect([...keyIndex.from("")]).toEqual([]);
      }),
      { numRuns: 20 },
    );
  });
});
