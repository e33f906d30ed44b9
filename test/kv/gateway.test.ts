// The gateway of docs/examples/kv: what it refuses before it proposes, what becomes of a group that does not answer, and what it
// reads as JSON. The checks that etcd can be asked about are in recorded.test.ts; here are those of etcd 3.5, and the rest.

import { describe, expect, test } from "vitest";
import { StatusError } from "../../docs/examples/kv/errors.js";
import { Gateway, type GatewayOptions, type Group, peerAddressOf } from "../../docs/examples/kv/gateway.js";
import { readJson } from "../../docs/examples/kv/json.js";
import { memberRemoveRequest, putRequest, rangeRequest } from "../../docs/examples/kv/messages.js";
import { encodeMember } from "../../docs/examples/kv/requests.js";
import { StableLogError } from "../../src/base/errors.js";
import type { ConfChange } from "../../src/raftpb/conf-change.js";
import { base64, CLUSTER, freshGateway, freshStore, GroupOfOne, SELF, troubled } from "./harness.js";

type Answer = Record<string, unknown>;

async function call(gateway: Gateway, path: string, body: unknown): Promise<Answer> {
  const route = gateway.routeOf(`/v3/${path}`);
  if (route === undefined) throw new Error(`nothing at ${path}`);
  return JSON.parse(JSON.stringify(await route(typeof body === "string" ? body : JSON.stringify(body)))) as Answer;
}

/** What a call is refused with: [HTTP status, code, text]. */
async function refusalOf(answer: Promise<unknown>): Promise<[number, number, string]> {
  const error: unknown = await answer.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof StatusError)) throw new Error("it was answered");
  expect(error.toJSON()).toEqual({ error: error.message, code: error.code, message: error.message });
  return [error.httpStatus, error.code, error.message];
}

const put = { key: base64("a"), value: base64("1") };
const drop = async (): Promise<never> => {
  throw new StableLogError("ERR_PROPOSAL_DROPPED", "no leader");
};

describe("checks", () => {
  test.each<[string, unknown, string]>([
    ["kv/range", { key: "YQ==", sort_order: 3 }, "etcdserver: invalid sort option"],
    ["kv/range", { key: "YQ==", sort_order: -1 }, "etcdserver: invalid sort option"],
    ["kv/range", { key: "YQ==", sort_target: 9 }, "etcdserver: invalid sort option"],
    ["kv/txn", { success: [{ request_range: { key: "YQ==", sort_target: 9 } }] }, "etcdserver: invalid sort option"],
    ["kv/range", { range_end: "YQ==" }, "etcdserver: key is not provided"],
    ["kv/put", { key: "YQ==", value: "x".repeat(2_100_000) }, "etcdserver: request is too large"],
    [
      "kv/txn",
      {
        success: [
          { request_put: { key: "YQ==", value: "x".repeat(2_000_000) } },
          { request_put: { key: "Yg==", value: "x".repeat(400_000) } },
        ],
      },
      "etcdserver: request is too large",
    ],
  ])("%s refuses case %#", async (path, body, text) => {
    const { gateway, store } = await freshGateway();
    expect(await refusalOf(call(gateway, path, body))).toEqual([400, 3, text]);
    expect(store.revision).toBe(1);
  });

  test("take a request as large as etcd takes", async () => {
    const { gateway } = await freshGateway();
    const value = Buffer.alloc(1.5 * 1024 * 1024 - 64).toString("base64");
    expect(await call(gateway, "kv/put", { key: "YQ==", value })).toMatchObject({ header: { revision: "2" } });
  });

  test("refuse requests within requests without end", async () => {
    const { gateway } = await freshGateway();
    const nested = (depth: number): string => `${'{"success":[{"request_txn":'.repeat(depth)}{}${"}]}".repeat(depth)}`;
    expect(await call(gateway, "kv/txn", nested(40))).toMatchObject({ succeeded: true });
    const [status, code] = await refusalOf(call(gateway, "kv/txn", nested(5_000)));
    expect([status, code]).toEqual([400, 3]);
  });
});

describe("a group that does not answer", () => {
  const gatewayWith = async (
    what: (signal: AbortSignal) => Promise<void>,
    options: Partial<GatewayOptions> = {},
  ): Promise<Gateway> => {
    const { gateway } = await freshGateway({ timeoutMs: 30, ...options }, (group) => troubled(group, what));
    return gateway;
  };
  const never = (signal: AbortSignal): Promise<void> =>
    new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  const asks: [string, unknown][] = [
    ["kv/put", put],
    ["kv/range", { key: "YQ==" }],
    ["kv/deleterange", { key: "YQ==" }],
    ["kv/txn", { success: [{ request_put: put }] }],
    ["kv/txn", { success: [{ request_range: { key: "YQ==" } }] }],
    ["kv/txn", {}],
    ["kv/compaction", {}],
    ["cluster/member/add", { peerURLs: ["http://127.0.0.1:3"] }],
    ["cluster/member/remove", { ID: "8" }],
    ["cluster/member/list", { linearizable: true }],
  ];

  test.each(asks)("is a timeout for %s %#", async (path, body) => {
    const gateway = await gatewayWith(never);
    expect(await refusalOf(call(gateway, path, body))).toEqual([503, 14, "etcdserver: request timed out"]);
  });

  test.each(asks)("is without a leader when raft drops %s %# to the end", async (path, body) => {
    const gateway = await gatewayWith(drop);
    expect(await refusalOf(call(gateway, path, body))).toEqual([503, 14, "etcdserver: no leader"]);
  });

  test("is asked again when raft drops what it is asked", async () => {
    let tries = 0;
    const gateway = await gatewayWith(async () => (++tries < 3 ? drop() : undefined), { timeoutMs: 60_000 });
    expect(await call(gateway, "kv/put", put)).toMatchObject({ header: { revision: "2" } });
    expect(tries).toBe(3);
  });

  test.each<[Error, number, number, string]>([
    [new StableLogError("ERR_CLOSED", "stopped"), 503, 14, "etcdserver: server stopped"],
    [new StableLogError("ERR_TOO_LARGE", "too large"), 400, 3, "etcdserver: request is too large"],
    [new Error("the disk is on fire"), 500, 13, "the disk is on fire"],
  ])("that fails with %s", async (error, ...refusal) => {
    const gateway = await gatewayWith(() => Promise.reject(error));
    expect(await refusalOf(call(gateway, "kv/put", put))).toEqual(refusal);
  });

  test("answers what may be old without being asked", async () => {
    const gateway = await gatewayWith(never);
    const range = { key: "YQ==", serializable: true };
    expect(await call(gateway, "kv/range", range)).toMatchObject({ header: { revision: "1" } });
    expect(await call(gateway, "kv/txn", { success: [{ request_range: range }] })).toMatchObject({ succeeded: true });
    expect(await call(gateway, "cluster/member/list", {})).toMatchObject({ members: [{ name: "default" }] });
    expect(await call(gateway, "maintenance/status", {})).toMatchObject({ leader: `${SELF}` });
  });

  test("turns requests away when it lags behind what is committed", async () => {
    const status = (group: GroupOfOne, commit: number): Group => {
      const basic = group.basicStatus();
      const basicStatus = () => ({ ...basic, hardState: { ...basic.hardState, commit } });
      return { ...troubled(group, async () => {}), basicStatus };
    };
    const lagging = await freshGateway({}, (group) => status(group, group.applied + 5_001));
    expect(await refusalOf(call(lagging.gateway, "kv/put", put))).toEqual([429, 8, "etcdserver: too many requests"]);
    const busy = await freshGateway({}, (group) => status(group, group.applied + 5_000));
    expect(await call(busy.gateway, "kv/put", put)).toMatchObject({ header: { revision: "2" } });
  });
});

describe("maintenance/status", () => {
  test("tells of the group, and of a leader that is not known", async () => {
    const { gateway, group } = await freshGateway();
    await call(gateway, "kv/put", put);
    expect(await call(gateway, "maintenance/status", {})).toEqual({
      header: { cluster_id: `${CLUSTER}`, member_id: `${SELF}`, revision: "2", raft_term: "2" },
      version: "3.5.0",
      dbSize: "66",
      leader: `${SELF}`,
      raftIndex: `${group.applied}`,
      raftTerm: "2",
      raftAppliedIndex: `${group.applied}`,
      dbSizeInUse: "66",
    });
    const leaderless = await freshGateway({}, (inner) => {
      const basic = inner.basicStatus();
      const softState = { lead: 0n, raftState: "StateFollower" as const };
      return { ...troubled(inner, drop), basicStatus: () => ({ ...basic, softState }) };
    });
    const status = await call(leaderless.gateway, "maintenance/status", {});
    expect(status).toMatchObject({ errors: ["etcdserver: no leader"] });
    expect(status).not.toHaveProperty("leader");
  });
});

describe("members", () => {
  const add = (gateway: Gateway, port: number, isLearner = false): Promise<Answer> =>
    call(gateway, "cluster/member/add", { peerURLs: [`http://127.0.0.1:${port}`], isLearner });
  const started = async (gateway: Gateway, answer: Answer): Promise<bigint> => {
    const { ID, peerURLs } = answer["member"] as { ID: string; peerURLs: string[] };
    const member = { ID: BigInt(ID), name: ID, peerURLs, clientURLs: [], isLearner: false };
    await gateway.publish(member);
    return member.ID;
  };

  test("are added one by one as they start, and removed down to the last", async () => {
    const { gateway, store } = await freshGateway();
    const second = await started(gateway, await add(gateway, 11));
    const third = await started(gateway, await add(gateway, 12));
    const fourth = await add(gateway, 13);
    // Three of four have started, which would not do for a fifth and sixth.
    expect(fourth["members"]).toHaveLength(4);
    await add(gateway, 14);
    const few = "etcdserver: re-configuration failed due to not enough started members";
    expect(await refusalOf(add(gateway, 15))).toEqual([500, 2, few]);
    expect(await refusalOf(call(gateway, "cluster/member/remove", { ID: `${third}` }))).toEqual([500, 2, few]);
    for (const { ID, name } of store.members) {
      if (name === "") await call(gateway, "cluster/member/remove", { ID: `${ID}` });
    }
    expect(store.members).toHaveLength(3);
    await call(gateway, "cluster/member/remove", { ID: `${third}` });
    const left = await call(gateway, "cluster/member/remove", { ID: `${second}` });
    expect(left["members"]).toMatchObject([{ ID: `${SELF}` }]);
    expect(await refusalOf(call(gateway, "cluster/member/remove", { ID: `${SELF}` }))).toEqual([500, 2, few]);
  });

  test("are not added twice, and not at an address that another has", async () => {
    const { gateway } = await freshGateway();
    await started(gateway, await add(gateway, 11));
    // In the same second it is the same ID, later it is the same address: etcd refuses either.
    const [status, code, text] = await refusalOf(add(gateway, 11));
    expect([status, code]).toEqual([400, 9]);
    expect(["etcdserver: member ID already exist", "etcdserver: Peer URLs already exists"]).toContain(text);
    // What a member's transport would not take must not get into the log: each would stop for it, at each start.
    for (const url of [
      "http://127.0.0.1:0",
      "http://a\tb:80",
      "http://127.0.0.1:002386",
      "http://h:70000",
      "http://h",
    ]) {
      const bad = call(gateway, "cluster/member/add", { peerURLs: [url] });
      await expect(bad).rejects.toThrow("etcdserver: given member URLs are invalid");
    }
    const twice = { peerURLs: ["http://127.0.0.1:12", "http://127.0.0.1:11"] };
    expect(await refusalOf(call(gateway, "cluster/member/add", twice))).toEqual([
      400,
      9,
      "etcdserver: Peer URLs already exists",
    ]);
  });

  test("are proposed again when raft commits a change as nothing", async () => {
    let refused = 0;
    const { gateway, store } = await freshGateway({ timeoutMs: 60_000 }, (group) => ({
      ...troubled(group, async () => {}),
      proposeConfChange: async (change: ConfChange) => (refused++ < 2 ? undefined : group.proposeConfChange(change)),
    }));
    expect(await add(gateway, 11)).toMatchObject({ member: { peerURLs: ["http://127.0.0.1:11"] } });
    expect(refused).toBe(3);
    expect(store.members).toHaveLength(2);
  });

  test("are checked again before they are proposed again", async () => {
    const { gateway, store, group } = await freshGateway();
    const context = encodeMember({
      ID: 5n,
      name: "",
      peerURLs: ["http://127.0.0.1:11"],
      clientURLs: [],
      isLearner: false,
    });
    const racing = new Gateway({
      clusterId: CLUSTER,
      memberId: SELF,
      store,
      timeoutMs: 60_000,
      group: {
        ...troubled(group, async () => {}),
        // Another's change was under way: it is the one that happens.
        proposeConfChange: () => group.proposeConfChange({ id: 5n, type: 0, nodeId: 5n, context }),
      },
    });
    expect(await refusalOf(add(racing, 11))).toEqual([400, 9, "etcdserver: Peer URLs already exists"]);
    expect(await call(gateway, "cluster/member/remove", { ID: "5" })).toMatchObject({ members: [{ ID: `${SELF}` }] });
  });

  test.each<[string[], string | undefined]>([
    [[], undefined],
    [["http://127.0.0.1:2380"], "127.0.0.1:2380"],
    [["http://host:1", "http://other:2"], "host:1"],
    [["http://[::1]:2380"], "[::1]:2380"],
    [["http://host:80"], "host:80"],
    [["https://host:443"], "host:443"],
  ])("peerAddressOf() %j", (peerURLs, address) => {
    expect(peerAddressOf({ ID: 1n, name: "", peerURLs, clientURLs: [], isLearner: false })).toBe(address);
  });
});

describe("readJson()", () => {
  const keyOf = (key: string): string => Buffer.from(readJson(putRequest, JSON.stringify({ key })).key).toString("hex");

  test.each([
    ["+/+/", "fbffbf"],
    ["-_-_", "fbffbf"],
    ["YQ==", "61"],
    ["YQ", "61"],
    ["YWI", "6162"],
    ["YQ\r\n==", "61"],
    ["", ""],
  ])("takes %j for the bytes %s", (text, hex) => {
    expect(keyOf(text)).toBe(hex);
  });

  test.each(["Y", "YQ=", "YQ===", "Y=Q=", "+_+_", "YQ==YQ==", "Y Q=", "é"])("refuses %j as bytes", (text) => {
    expect(() => keyOf(text)).toThrow(/invalid value for bytes field key/);
  });

  test("reads 64 bits as they are written, as a number or a string", () => {
    const id = (text: string): bigint => readJson(memberRemoveRequest, `{"ID":${text}}`).ID;
    expect(id("18446744073709551615")).toBe(18446744073709551615n);
    expect(id('"18446744073709551615"')).toBe(18446744073709551615n);
    expect(id("9007199254740993")).toBe(9007199254740993n);
    expect(id("12")).toBe(12n);
    const revision = (text: string): number => readJson(rangeRequest, `{"revision":${text}}`).revision;
    expect(revision("-9223372036854775808")).toBe(Number.MIN_SAFE_INTEGER);
    expect(revision('"9223372036854775807"')).toBe(Number.MAX_SAFE_INTEGER);
    for (const wrong of ["9223372036854775808", "1.5", '"1.5"', '""', '"0x1"', "true", "[]", '" 1"']) {
      expect(() => revision(wrong)).toThrow(/invalid value for int64 field revision/);
    }
  });

  test("leaves long digits alone that are no whole number", () => {
    const body = '{"unknown":[1.00000000000000001,1e-00000000000000001,"1234567890123456789"],"limit":3}';
    expect(readJson(rangeRequest, body).limit).toBe(3);
  });

  test.each([
    ['{"range_end":"YQ==","rangeEnd":"YQ=="}', /duplicate field "rangeEnd"/],
    ['{"sort_order":1.5}', /invalid value for enum/],
    ['{"sort_order":4294967296}', /invalid value for enum/],
    ['{"__proto__":{"key":"YQ=="},"limit":"x"}', /invalid value for int64 field limit/],
  ])("refuses %s", (body, message) => {
    expect(() => readJson(rangeRequest, body)).toThrow(message);
  });

  test("takes no field from a prototype", () => {
    expect(readJson(rangeRequest, '{"__proto__":{"key":"YQ=="}}').key).toHaveLength(0);
  });
});

test("the header has the revision of the write that is answered, not of what came after", async () => {
  const store = await freshStore();
  const group = new GroupOfOne(store);
  const slow: Group = {
    ...troubled(group, async () => {}),
    propose: async (data) => {
      const result = await group.propose(data);
      await group.propose(data);
      return result;
    },
  };
  const gateway = new Gateway({ clusterId: CLUSTER, memberId: SELF, store, group: slow });
  expect(await call(gateway, "kv/put", put)).toMatchObject({ header: { revision: "2" } });
  expect(store.revision).toBe(3);
});
