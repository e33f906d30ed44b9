// The example docs/examples/kv without a cluster: its store, gateway and HTTP server on top of a group of one that commits at
// once. The group stands in for a Replica and keeps to its promises: commands are applied one batch at a time, in order, and
// their proposer gets what the store made of them.

import { Gateway, type GatewayOptions, type Group } from "../../docs/examples/kv/gateway.js";
import type { Result } from "../../docs/examples/kv/requests.js";
import { KvStore } from "../../docs/examples/kv/store.js";
import type { BasicStatus } from "../../src/raft/status.js";
import { asConfChangeV2, type ConfChange } from "../../src/raftpb/conf-change.js";
import { emptyConfState } from "../../src/raftpb/types.js";

export const SELF = 7n;
export const CLUSTER = 99n;
export const PEER_URL = "http://127.0.0.1:1";
export const CLIENT_URL = "http://127.0.0.1:2";

export class GroupOfOne implements Group {
  readonly store: KvStore;
  #index = 1;
  #confState = { ...emptyConfState(), voters: [SELF] };

  constructor(store: KvStore) {
    this.store = store;
  }

  get applied(): number {
    return this.#index;
  }

  basicStatus(): BasicStatus {
    return {
      id: SELF,
      hardState: { term: 2, vote: SELF, commit: this.#index },
      softState: { lead: SELF, raftState: "StateLeader" },
      applied: this.#index,
      leadTransferee: 0n,
    };
  }

  async propose(data: Uint8Array): Promise<Result> {
    const [result] = this.store.apply([{ index: ++this.#index, term: 2, data }]);
    return result as Result;
  }

  async proposeConfChange(change: ConfChange): Promise<unknown> {
    const { voters, learners } = this.#confState;
    const others = (ids: bigint[]): bigint[] => ids.filter((id) => id !== change.nodeId);
    const added = [[...others(voters), change.nodeId], others(learners)] as const;
    const learning = [others(voters), [...others(learners), change.nodeId]] as const;
    const [v, l] = change.type === 0 ? added : change.type === 3 ? learning : [others(voters), others(learners)];
    this.#confState = { ...emptyConfState(), voters: [...v], learners: [...l] };
    const index = ++this.#index;
    this.store.applyConfChange({ index, term: 2, change: asConfChangeV2(change), confState: this.#confState });
    return this.#confState;
  }

  async read(): Promise<number> {
    return this.#index;
  }
}

/** A group that does with proposals, changes of configuration and reads what `what` does, until it lets one through. */
export function troubled(inner: GroupOfOne, what: (signal: AbortSignal) => Promise<void>): Group {
  return {
    basicStatus: () => inner.basicStatus(),
    get applied() {
      return inner.applied;
    },
    propose: async (data, { signal }) => what(signal).then(() => inner.propose(data)),
    proposeConfChange: async (change, { signal }) => what(signal).then(() => inner.proposeConfChange(change)),
    read: async ({ signal }) => what(signal).then(() => inner.read()),
  };
}

/** The state of no bytes, for a store that begins with SELF. */
export async function freshStore(): Promise<KvStore> {
  const store = new KvStore();
  await store.restore(chunks(), { confState: { ...emptyConfState(), voters: [SELF] } });
  return store;
}

/** A gateway on a group of one that has said its name. `spoil` may put another group in its place. */
export async function freshGateway(
  options: Partial<GatewayOptions> = {},
  spoil: (group: GroupOfOne) => Group = (group) => group,
): Promise<{ gateway: Gateway; store: KvStore; group: GroupOfOne }> {
  const store = await freshStore();
  const group = new GroupOfOne(store);
  const common = { clusterId: CLUSTER, memberId: SELF, store };
  const own = { ID: SELF, name: "default", peerURLs: [PEER_URL], clientURLs: [CLIENT_URL], isLearner: false };
  await new Gateway({ ...common, group }).publish(own);
  return { gateway: new Gateway({ ...common, group: spoil(group), ...options }), store, group };
}

export async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

export async function collect(data: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of data) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

export function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
