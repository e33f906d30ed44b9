// One member of a replicated key-value store: reads the flags, puts log, transport, node, store, gateway and HTTP server
// together, and takes them apart again at SIGTERM or SIGINT. README.md beside this file says how to run three of them.
//
// In this order the files make sense: main.ts, flags.ts, server.ts, gateway.ts, checks.ts, errors.ts, messages.ts, json.ts,
// requests.ts, store.ts, mvcc.ts, key-index.ts.

import { setTimeout as sleep } from "node:timers/promises";
import { FileStorage, Node, type Replica, TcpTransport } from "stablelog";
import { type Flags, parseFlags, usage } from "./flags.js";
import { Gateway, peerAddressOf } from "./gateway.js";
import type { Member } from "./messages.js";
import type { Result } from "./requests.js";
import { type HttpServer, serve } from "./server.js";
import { KvStore } from "./store.js";

/** A member that was removed goes on for so long, and one that removes another listens to it: the last words have to get there. */
const REMOVAL_MS = 1000;
/** Between two tries to tell the group where this member is. */
const PUBLISH_MS = 500;

async function main(args: readonly string[]): Promise<void> {
  let flags: Flags;
  try {
    flags = parseFlags(args);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exitCode = 2;
    return;
  }
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stop.abort());
  try {
    await run(flags, stop);
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  }
}

/** Runs until `stop` is aborted, this member is removed from the group, or its log or store fails. */
async function run(flags: Flags, stop: AbortController): Promise<void> {
  const { id, clusterId, cluster, dial, clientUrl, peerUrl } = flags;
  // Snapshots are read and sent as streams: none is to be loaded whole.
  await using storage = await FileStorage.open(flags.data, { snapshotBytes: 0 });
  const isNew = storage.lastIndex() === 0 && storage.initialState().hardState.term === 0;
  if (isNew && flags.bootstrap) await Node.bootstrap(storage, [...cluster.keys()]);
  // A member whose log went missing must not begin anew by itself: it has voted, and holds what others count on.
  if (isNew && !flags.bootstrap && !flags.join) {
    throw new Error(`${flags.data} holds no log: --bootstrap begins a new group, --join joins one that runs`);
  }

  const removed = (why: string): void => {
    if (stop.signal.aborted) return;
    console.log(`member ${id} was removed from the group: ${why}`);
    // Not at once: the others may still be to hear from it that it was.
    setTimeout(() => stop.abort(), REMOVAL_MS);
  };
  const refusals = new Set<string>();
  const peers = [...cluster].map(([peer, address]): [bigint, string] => [peer, dial.get(peer) ?? address]);
  const transport = new TcpTransport({
    id,
    clusterId,
    listen: flags.listenPeer,
    advertise: peerUrl.replace("http://", ""),
    onRefused: (peer, reason) => {
      const line = `member ${peer} refuses member ${id}: ${reason}`;
      if (refusals.has(line)) return;
      refusals.add(line);
      console.error(line);
      if (reason === "removed") removed(`member ${peer} says so`);
    },
    peers: peers.filter(([peer]) => peer !== id),
  });
  const store = new KvStore({ onMembers: followMembers(flags, transport, () => removed("its log says so")) });
  const node = new Node({ id, storage, tickMs: flags.tickMs, asyncStorageWrites: flags.asyncWrites });
  let server: HttpServer | undefined;
  let published: Promise<void> | undefined;
  try {
    const replica: Replica<Result> = await node.run({
      storage,
      transport,
      stateMachine: store,
      snapshotEntries: flags.snapshotEntries,
      keepEntries: flags.keepEntries,
    });
    const gateway = new Gateway({
      clusterId,
      memberId: id,
      group: replica,
      store,
      timeoutMs: flags.requestTimeoutMs,
    });
    server = await serve(gateway, flags.listenClient.host, flags.listenClient.port);
    console.log(`member ${id} serves http://${server.host}:${server.port}`);
    const own = { ID: id, name: String(id), peerURLs: [peerUrl], clientURLs: [clientUrl], isLearner: false };
    published = publish(gateway, own, stop.signal);
    await Promise.race([replica.done, aborted(stop.signal)]);
  } finally {
    stop.abort();
    // Before the server: what is under way is then refused, and need not be waited for.
    await node.stop();
    await server?.close();
    await published;
  }
}

/** Keeps the transport at what the group says of its members, and says when this one is no longer among them. */
function followMembers(
  { id: self, dial }: Flags,
  transport: TcpTransport,
  onRemoved: () => void,
): (members: readonly Member[]) => void {
  // Of the log alone: who is named by a flag and not in the log, as far as that has been applied, may be yet to come.
  let known = new Set<bigint>();
  return (members) => {
    for (const member of members) {
      const address = dial.get(member.ID) ?? peerAddressOf(member);
      if (member.ID === self || address === undefined) continue;
      try {
        transport.setPeer(member.ID, address);
      } catch (error) {
        // It stands in the log for good: whoever stopped for it would stop at each start.
        console.error(`member ${member.ID} is nowhere to be found:`, error);
      }
    }
    const now = new Set(members.map(({ ID }) => ID));
    for (const id of known) {
      if (now.has(id) || id === self) continue;
      setTimeout(() => {
        if (!known.has(id)) transport.removePeer(id);
      }, REMOVAL_MS).unref();
    }
    if (known.has(self) && !now.has(self)) onRemoved();
    known = now;
  };
}

/** Says it again until the group has heard it. */
async function publish(gateway: Gateway, member: Member, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await gateway.publish(member);
      return;
    } catch {
      await sleep(PUBLISH_MS, undefined, { signal }).catch(() => {});
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

await main(process.argv.slice(2));
