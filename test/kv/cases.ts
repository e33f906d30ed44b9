// What is asked of a real etcd and of the example alike: sequences of requests, each on a fresh store. recorded.test.ts plays
// them. A body may hold $member, the ID of the member that the latest member/add gave, and $self.
// Not among them: what etcd 3.4 does otherwise than 3.5 does, such as a sort_target of 9, of which it dies.

import { base64 } from "./harness.js";

export interface Step {
  readonly path: string;
  readonly body: unknown;
}

const b = base64;
const range = (body: object): Step => ({ path: "/v3/kv/range", body });
const put = (body: object): Step => ({ path: "/v3/kv/put", body });
const del = (body: object): Step => ({ path: "/v3/kv/deleterange", body });
const txn = (body: object): Step => ({ path: "/v3/kv/txn", body });
const compact = (body: object): Step => ({ path: "/v3/kv/compaction", body });
const raw = (path: string, body: string): Step => ({ path, body });
const fill = (...keys: string[]): Step[] => keys.map((key) => put({ key: b(key), value: b(`v-${key}`) }));
const all = { key: "AA==", range_end: "AA==" };

const putOp = (key: string, value = ""): object => ({ request_put: { key: b(key), value: b(value) } });
const rangeOp = (key: string): object => ({ request_range: { key: b(key) } });
const deleteOp = (key: string, end = ""): object => ({
  request_delete_range: { key: b(key), ...(end === "" ? {} : { range_end: b(end) }) },
});
const txnOp = (success: object[], failure: object[] = []): object => ({ request_txn: { success, failure } });

export const cases: Readonly<Record<string, readonly Step[]>> = {
  put: [
    put({ key: b("foo"), value: b("bar") }),
    put({ key: b("foo"), value: b("baz"), prev_kv: true }),
    put({ key: b("foo"), prevKv: true }),
    put({ key: b("foo") }),
    put({ key: b("new"), value: b("x"), prev_kv: true }),
    put({}),
    put({ value: b("x") }),
    put({ key: b("foo"), lease: "5" }),
    put({ key: b("foo"), lease: -5 }),
    put({ key: b("foo"), lease: "0" }),
    put({ key: b("none"), ignore_value: true }),
    put({ key: b("none"), ignore_lease: true }),
    put({ key: b("new"), ignore_value: true, prev_kv: true }),
    put({ key: b("new"), ignore_lease: true, value: b("y") }),
    put({ key: b("new"), ignore_value: true, value: b("y") }),
    put({ key: b("new"), ignore_lease: true, lease: 1 }),
    put({ key: b("none"), lease: 5, ignore_value: true }),
    range(all),
  ],
  range: [
    ...fill("b", "a", "ab", "c", "b"),
    put({ key: "/w==", value: b("last") }),
    range({}),
    range({ key: b("a") }),
    range({ key: b("zz") }),
    range({ key: b("a"), range_end: b("b") }),
    range({ key: b("b"), range_end: b("a") }),
    range({ key: b("b"), range_end: "AA==" }),
    range({ key: "AA==" }),
    range(all),
    range({ ...all, limit: 2 }),
    range({ ...all, limit: "5" }),
    range({ ...all, limit: "4" }),
    range({ ...all, limit: -1 }),
    range({ ...all, limit: 2, sort_order: "DESCEND" }),
    range({ ...all, sort_order: "ASCEND", sort_target: "MOD" }),
    range({ ...all, sortOrder: "DESCEND", sortTarget: "VERSION" }),
    range({ ...all, sort_target: "MOD" }),
    range({ ...all, sort_target: "MOD", limit: 2 }),
    range({ ...all, sort_order: 2, sort_target: 4 }),
    range({ ...all, sort_order: 2, sort_target: "CREATE", limit: 1 }),
    range({ ...all, keys_only: true }),
    range({ ...all, count_only: true }),
    range({ ...all, count_only: true, limit: 1 }),
    range({ ...all, count_only: true, keys_only: true, serializable: true }),
    range({ ...all, min_mod_revision: 4 }),
    range({ ...all, max_mod_revision: "3" }),
    range({ ...all, min_create_revision: 3, max_create_revision: 4 }),
    range({ ...all, min_mod_revision: 3, limit: 1 }),
    range({ ...all, max_mod_revision: -1 }),
    range({ ...all, revision: 3 }),
    range({ ...all, revision: "1" }),
    range({ ...all, revision: -1 }),
    range({ ...all, revision: 7 }),
    range({ ...all, revision: 8 }),
    range({ ...all, revision: "9223372036854775807" }),
    range({ ...all, revision: 3, limit: 1 }),
    range({ ...all, serializable: true, revision: 100 }),
  ],
  deleteRange: [
    ...fill("a", "b", "c", "d"),
    del({}),
    del({ key: b("zz") }),
    del({ key: b("a") }),
    del({ key: b("a"), prev_kv: true }),
    del({ key: b("b"), range_end: b("d"), prev_kv: true }),
    del({ key: b("d"), range_end: b("b") }),
    range({ ...all }),
    range({ ...all, revision: 5 }),
    ...fill("b"),
    put({ key: b("b"), prev_kv: true }),
    del({ ...all, prevKv: true }),
    del(all),
    range({ ...all, revision: 8 }),
    range(all),
  ],
  txn: [
    txn({}),
    ...fill("a"),
    txn({ success: [putOp("k", "1"), rangeOp("k"), putOp("l"), rangeOp("l")] }),
    txn({
      compare: [{ key: b("k"), target: "VALUE", value: b("1") }],
      success: [putOp("k", "2")],
      failure: [rangeOp("k")],
    }),
    txn({
      compare: [{ key: b("k"), target: "VALUE", value: b("1") }],
      success: [putOp("k", "2")],
      failure: [rangeOp("k")],
    }),
    txn({ compare: [{ key: b("none"), target: "VALUE" }] }),
    txn({ compare: [{ key: b("none"), target: "VALUE", result: "NOT_EQUAL", value: b("x") }] }),
    txn({ compare: [{ key: b("none"), target: "VERSION", version: 0 }] }),
    txn({ compare: [{ key: b("none"), target: "CREATE", create_revision: "0" }] }),
    txn({ compare: [{ key: b("none"), target: "MOD", result: "LESS", mod_revision: 1 }] }),
    txn({ compare: [{ key: b("k"), target: "VERSION", result: "GREATER", version: 1 }] }),
    txn({ compare: [{ key: b("k"), target: "VERSION", result: "GREATER", version: 2 }] }),
    txn({ compare: [{ key: b("k"), target: "VERSION", result: "NOT_EQUAL", version: 2 }] }),
    txn({ compare: [{ key: b("k"), target: "LEASE", lease: 0 }] }),
    txn({ compare: [{ key: b("k"), target: "MOD", version: 4 }] }),
    txn({ compare: [{ key: b("a"), range_end: b("z"), target: "VERSION", result: "GREATER", version: 0 }] }),
    txn({ compare: [{ key: b("a"), range_end: b("z"), target: "VERSION", version: 1 }] }),
    txn({ compare: [{ key: b("x"), range_end: b("z"), target: "VALUE", value: "" }] }),
    txn({ compare: [{ target: "VALUE" }] }),
    txn({ compare: [{ key: b("k"), target: 9, result: 0 }] }),
    txn({ compare: [{ key: b("k"), result: 9, version: 77 }] }),
    txn({ success: [{}] }),
    txn({ failure: [{}] }),
    txn({ success: [putOp("")] }),
    txn({ success: [rangeOp("")] }),
    txn({ success: [deleteOp("")] }),
    txn({ success: [txnOp([deleteOp("")])] }),
    txn({ success: [putOp("d"), putOp("d")] }),
    txn({ success: [putOp("d"), deleteOp("d")] }),
    txn({ success: [deleteOp("a", "e"), putOp("d")] }),
    txn({ success: [deleteOp("a", "d"), putOp("d")] }),
    txn({ success: [putOp("d")], failure: [putOp("d")] }),
    txn({ success: [txnOp([putOp("d")], [putOp("d")])] }),
    txn({ success: [txnOp([putOp("d")]), putOp("d")] }),
    txn({ success: [txnOp([deleteOp("d")]), putOp("d")] }),
    txn({ success: [txnOp([putOp("d")]), deleteOp("d")] }),
    txn({ success: [txnOp([putOp("d")]), txnOp([], [putOp("d")])] }),
    txn({ success: [txnOp([deleteOp("d")]), txnOp([putOp("d")])] }),
    txn({ success: [{ request_delete_range: { ...all, prev_kv: true } }, putOp("k", "again"), rangeOp("k")] }),
    range({ ...all, revision: 5 }),
    txn({ success: [txnOp([putOp("n", "1"), rangeOp("n"), txnOp([rangeOp("n"), deleteOp("n")])]), rangeOp("n")] }),
    txn({ success: [txnOp([]), txnOp([], [])] }),
    txn({
      compare: [{ key: b("m"), target: "VERSION", version: 0 }],
      success: [
        putOp("m", "1"),
        { request_txn: { compare: [{ key: b("m"), target: "VERSION", version: 0 }], success: [rangeOp("m")] } },
      ],
    }),
    txn({ success: [{ request_put: { key: b("m"), prev_kv: true } }, { request_put: { key: b("o"), lease: 3 } }] }),
    txn({ success: [putOp("p"), { request_put: { key: b("q"), ignore_value: true } }] }),
    txn({ failure: [{ request_put: { key: b("q"), ignore_value: true } }] }),
    txn({ success: [{ request_range: { ...all, revision: 100 } }, putOp("p")] }),
    txn({ success: [{ request_range: { ...all, revision: 100 } }] }),
    txn({ success: [{ request_range: { ...all, revision: 3 } }, putOp("p"), { request_range: all }] }),
    txn({ success: [deleteOp("zz")] }),
    txn({ success: [deleteOp("p"), deleteOp("p"), deleteOp("zz")] }),
    txn({ success: Array.from({ length: 128 }, (_, i) => putOp(`n${i}`)) }),
    txn({ success: Array.from({ length: 129 }, (_, i) => putOp(`n${i}`)) }),
    txn({ compare: Array.from({ length: 129 }, () => ({ key: b("a") })) }),
    txn({ failure: Array.from({ length: 129 }, () => rangeOp("a")) }),
    txn({ success: [...Array.from({ length: 120 }, () => rangeOp("a")), txnOp(Array(9).fill(rangeOp("a")))] }),
    txn({ success: [txnOp(Array(127).fill(rangeOp("zz")))] }),
    txn({ success: [txnOp(Array(128).fill(rangeOp("zz")))] }),
    range({ ...all, count_only: true }),
  ],
  compaction: [
    ...fill("a", "b", "a", "c"),
    del({ key: b("b") }),
    ...fill("b"),
    compact({ revision: 100 }),
    compact({}),
    compact({}),
    range({ ...all, revision: 2 }),
    compact({ revision: 4 }),
    compact({ revision: "4", physical: true }),
    compact({ revision: -3 }),
    range({ ...all, revision: 3 }),
    range({ ...all, revision: 4 }),
    range({ ...all, revision: 6 }),
    txn({ success: [{ request_range: { ...all, revision: 3 } }] }),
    txn({ success: [{ request_range: { ...all, revision: -1 } }] }),
    txn({ success: [{ request_range: { ...all, revision: 3 } }, putOp("x")] }),
    compact({ revision: 6, physical: true }),
    range({ ...all, revision: 6 }),
    compact({ revision: 7 }),
    range({ ...all, revision: 7 }),
    del(all),
    compact({ revision: 8 }),
    range(all),
    put({ key: b("a"), prev_kv: true }),
    range(all),
  ],
  json: [
    raw("/v3/kv/put", ""),
    raw("/v3/kv/put", "null"),
    raw("/v3/kv/put", "[]"),
    raw("/v3/kv/put", '"x"'),
    raw("/v3/kv/put", '{"key":"YQ=="'),
    raw("/v3/kv/put", "nonsense"),
    raw("/v3/kv/put", '{"key":"YQ==","bogus":{"a":[1]}}'),
    raw("/v3/kv/put", '{"key":"YQ==","value":null,"lease":null,"prev_kv":null}'),
    raw("/v3/kv/put", '{"key":"!!"}'),
    raw("/v3/kv/put", '{"key":5}'),
    raw("/v3/kv/put", '{"key":"YQ==","prev_kv":"yes"}'),
    raw("/v3/kv/put", '{"key":"YQ==","prev_kv":1}'),
    raw("/v3/kv/put", '{"key":"YQ==","lease":"x"}'),
    raw("/v3/kv/put", '{"key":"YQ==","lease":1.5}'),
    raw("/v3/kv/put", '{"key":"YQ==","lease":"9223372036854775808"}'),
    raw("/v3/kv/put", '{"key":"YQ==","lease":9223372036854775807}'),
    raw("/v3/kv/range", '{"key":"YQ==","revision":9223372036854775807}'),
    raw("/v3/kv/range", '{"key":"YQ==","sort_order":"UP"}'),
    raw("/v3/kv/range", '{"key":"YQ==","limit":true}'),
    raw("/v3/kv/txn", '{"success":{}}'),
    raw("/v3/kv/txn", '{"success":["x"]}'),
    raw("/v3/kv/txn", '{"success":[{"requestRange":{"key":"YQ=="}}],"compare":[]}'),
    raw("/v3/cluster/member/remove", '{"ID":18446744073709551615}'),
    raw("/v3/cluster/member/remove", '{"ID":"18446744073709551616"}'),
    raw("/v3/cluster/member/remove", '{"ID":-1}'),
  ],
  members: [
    { path: "/v3/cluster/member/list", body: {} },
    ...fill("a"),
    { path: "/v3/maintenance/status", body: {} },
    { path: "/v3/cluster/member/remove", body: { ID: "12" } },
    { path: "/v3/cluster/member/remove", body: {} },
    { path: "/v3/cluster/member/remove", body: { ID: "$self" } },
    { path: "/v3/cluster/member/add", body: {} },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["127.0.0.1:3"] } },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1"] } },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:3/x"] } },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["ftp://127.0.0.1:3"] } },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:3", "nonsense"] } },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:3"], isLearner: true } },
    { path: "/v3/cluster/member/list", body: {} },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:4"], isLearner: true } },
    put({ key: b("a") }),
    { path: "/v3/cluster/member/remove", body: { ID: "$member" } },
    { path: "/v3/cluster/member/remove", body: { ID: "$member" } },
    { path: "/v3/cluster/member/list", body: {} },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:5"] } },
    { path: "/v3/cluster/member/list", body: {} },
    { path: "/v3/cluster/member/add", body: { peerURLs: ["http://127.0.0.1:6"] } },
  ],
  "random-1": randomSteps(1, 300),
  "random-2": randomSteps(2, 300),
};

/** Requests on a few keys, with everything that they may carry; the same ones for the same seed, forever. */
function randomSteps(seed: number, count: number): Step[] {
  let state = seed;
  /** From 0 to below `n`: the high bits of a linear congruence, the low ones are poor. */
  const below = (n: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const chance = (percent: number): boolean => below(100) < percent;
  const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
  const key = (): string => b(pick(["a", "aa", "ab", "b", "ba", "c"]));
  const end = (): object => (chance(50) ? {} : { range_end: pick([b("b"), b("ab"), b("c"), b("zz"), "AA=="]) });
  let writes = 1;
  const revision = (): number => below(writes + 3);
  const rangeBody = (): object => ({
    key: chance(30) ? "AA==" : key(),
    ...end(),
    ...(chance(30) ? { limit: below(5) } : {}),
    ...(chance(40) ? { revision: revision() } : {}),
    ...(chance(40) ? { sort_order: pick(["NONE", "ASCEND", "DESCEND"]) } : {}),
    ...(chance(40) ? { sort_target: pick(["KEY", "VERSION", "CREATE", "MOD", "VALUE"]) } : {}),
    ...(chance(20) ? { keys_only: true } : {}),
    ...(chance(10) ? { count_only: true } : {}),
    ...(chance(15) ? { min_mod_revision: revision() } : {}),
    ...(chance(15) ? { max_mod_revision: revision() } : {}),
    ...(chance(15) ? { min_create_revision: revision() } : {}),
    ...(chance(15) ? { max_create_revision: revision() } : {}),
    ...(chance(20) ? { serializable: true } : {}),
  });
  const putBody = (): object => {
    writes++;
    const body = { key: key(), ...(chance(50) ? { prev_kv: true } : {}) };
    if (chance(15)) return { ...body, ignore_value: true };
    return { ...body, value: b(pick(["", "x", "y", "zz"])), ...(chance(10) ? { ignore_lease: true } : {}) };
  };
  const deleteBody = (): object => ({ key: key(), ...end(), ...(chance(50) ? { prev_kv: true } : {}) });
  const op = (depth: number): object => {
    const kind = below(depth > 0 ? 10 : 8);
    if (kind < 3) return { request_put: putBody() };
    if (kind < 6) return { request_range: rangeBody() };
    return kind < 8 ? { request_delete_range: deleteBody() } : { request_txn: txnBody(depth - 1) };
  };
  const compareBody = (): object => ({
    key: key(),
    ...(chance(20) ? end() : {}),
    result: pick(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]),
    ...pick([
      () => ({ target: "VERSION", version: below(4) }),
      () => ({ target: "CREATE", create_revision: revision() }),
      () => ({ target: "MOD", mod_revision: revision() }),
      () => ({ target: "VALUE", value: b(pick(["", "x", "y"])) }),
      () => ({ target: "LEASE", lease: below(2) }),
    ])(),
  });
  const some = (most: number, make: () => object): object[] => Array.from({ length: below(most + 1) }, make);
  const txnBody = (depth: number): object => ({
    compare: some(2, compareBody),
    success: some(3, () => op(depth)),
    failure: some(3, () => op(depth)),
  });
  return Array.from({ length: count }, () => {
    const kind = below(20);
    if (kind < 6) return put(putBody());
    if (kind < 11) return range(rangeBody());
    if (kind < 13) return del(deleteBody());
    if (kind < 19) return txn(txnBody(2));
    return compact({ revision: below(writes) });
  });
}
