// Raft: what the core costs a proposal, in one process without a disk, and what a replicated group of three commits a second
// with its logs on this disk. Both count proposals of 256 B that have been applied.

import { join } from "node:path";
import { type Command, FileStorage, MemoryStorage, Node, type StateMachine } from "stablelog";
import { RawNode } from "stablelog/raft";
import { LocalNetwork } from "stablelog/testing";
import { Latencies } from "../latencies.js";
import { atLeast, figureOf, type Place, type Run, type Workload } from "../workload.js";

const BYTES = 256;
const CLIENTS = 256;
/** Proposals that are stepped together, and come in one Ready. */
const BATCH = 256;

async function core({ seconds, warmSeconds }: Place, batch: number): Promise<Run> {
  const storage = new MemoryStorage();
  await Node.bootstrap(storage, [1n]);
  const node = new RawNode({
    id: 1n,
    electionTick: 10,
    heartbeatTick: 1,
    storage,
    maxSizePerMsg: 1 << 20,
    maxInflightMsgs: 256,
    random: (n) => n >> 1,
  });
  const data = new Uint8Array(BYTES).fill(0x5a);
  const datas = Array.from({ length: batch }, () => data);
  let applied = 0;
  const work = (): void => {
    while (node.hasReady()) {
      const { hardState, entries, committedEntries } = node.ready();
      if (entries.length > 0) storage.append(entries);
      if (hardState !== undefined) storage.setHardState(hardState);
      applied += committedEntries.length;
      node.advance();
    }
    // As an owner does: what is applied does not pile up.
    if (applied >= 100_000) {
      void storage.compact(storage.lastIndex() - 1000);
      applied = 0;
    }
  };
  node.campaign();
  work();
  const rate = (lasting: number): number => {
    const begun = performance.now();
    let proposals = 0;
    for (const until = begun + lasting * 1000; performance.now() < until; proposals += batch) {
      node.proposeAll(datas);
      work();
    }
    return (proposals * 1000) / (performance.now() - begun);
  };
  rate(warmSeconds);
  return { syncs: "nothing", sample: { perSecond: rate(seconds) } };
}

/** Counts; answers each command with its place. */
class Counter implements StateMachine<number> {
  count = 0;

  apply(commands: readonly Command[]): number[] {
    return commands.map(() => ++this.count);
  }

  snapshot(): Uint8Array {
    return new TextEncoder().encode(String(this.count));
  }

  async restore(data: AsyncIterable<Uint8Array>): Promise<void> {
    let text = "";
    for await (const chunk of data) text += new TextDecoder().decode(chunk);
    this.count = Number(text);
  }
}

async function cluster({ dir, seconds, warmSeconds }: Place, asyncStorageWrites: boolean): Promise<Run> {
  const ids = [1n, 2n, 3n];
  const network = new LocalNetwork();
  const storages = await Promise.all(ids.map((id) => FileStorage.open(join(dir, `node-${id}`), { snapshotBytes: 0 })));
  const members = [];
  for (const [i, id] of ids.entries()) {
    const storage = storages[i] as FileStorage;
    await Node.bootstrap(storage, ids);
    const node = new Node({ id, storage, asyncStorageWrites });
    const transport = network.transport(id);
    const stateMachine = new Counter();
    members.push(await node.run({ storage, transport, stateMachine, snapshotEntries: 1e9, sendBeforeSave: true }));
    if (id === 1n) node.campaign();
  }
  const [leader] = members as [(typeof members)[number]];
  const data = new Uint8Array(BYTES).fill(0x5a);
  await leader.propose(data);
  const measure = async (lasting: number): Promise<{ perSecond: number; latencies: Latencies }> => {
    const latencies = new Latencies();
    const begun = performance.now();
    const until = begun + lasting * 1000;
    let proposals = 0;
    const client = async (): Promise<void> => {
      for (let now = performance.now(); now < until; ) {
        await leader.propose(data);
        const after = performance.now();
        latencies.record(after - now);
        now = after;
        proposals++;
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    return { perSecond: (proposals * 1000) / (performance.now() - begun), latencies };
  };
  await measure(warmSeconds);
  const before = storages[0]?.stats().syncs ?? 0;
  const { perSecond, latencies } = await measure(seconds);
  const syncs = (storages[0]?.stats().syncs ?? 0) - before;
  await Promise.all(members.map((member) => member.stop()));
  const engine = storages[0]?.stats().engine;
  await Promise.all(storages.map((storage) => storage.close()));
  const more = { group: (perSecond * seconds) / Math.max(1, syncs) };
  return { syncs: `three logs, engine ${engine}`, sample: { perSecond, latency: latencies.summary(), more } };
}

export const raftWorkloads: readonly Workload[] = [
  {
    name: "raft-core",
    title: `A RawNode that is its own quorum, over MemoryStorage, ${BATCH} proposals of ${BYTES} B a Ready; proposals a second.`,
    unit: "proposals",
    base: "stablelog",
    rows: new Map([
      ["stablelog", (place: Place) => core(place, BATCH)],
      ["stablelog, one a Ready", (place: Place) => core(place, 1)],
    ]),
    goals: (rows) => [
      atLeast(
        "proposals/s",
        500_000,
        figureOf(rows, "stablelog", ({ perSecond }) => perSecond),
      ),
    ],
  },
  {
    name: "raft-cluster",
    title: `Three replicas in one process, logs on this disk, ${CLIENTS} clients with proposals of ${BYTES} B; proposals applied a second.`,
    unit: "proposals",
    base: "stablelog",
    rows: new Map([
      ["stablelog", (place: Place) => cluster(place, true)],
      ["stablelog, one Ready at a time", (place: Place) => cluster(place, false)],
    ]),
    goals: (rows) => [
      atLeast(
        "proposals/s",
        20_000,
        figureOf(rows, "stablelog", ({ perSecond }) => perSecond),
      ),
    ],
  },
];
