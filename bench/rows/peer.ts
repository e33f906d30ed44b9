// What a peer is to the rows: something that commits batches, several at once when it is asked to. A row commits each save by
// itself, as a peer comes (`plain`), or what waits together, behind the queue of queue.ts. Peers from npm are loaded at run
// time from peers/, where `npm run bench:peers` installs them, so that neither types nor rows need them.

import { createRequire } from "node:module";
import type { Batch, Row, RowOptions } from "../row.js";

/** A peer that is open. It replaces an entry at an index that it holds, but not those behind it, as a raft log would have to:
 * no workload makes it, and leaving it out is in the peers' favour. */
export interface PeerLog {
  /** Makes the batches durable, in their order and as one; a promise when it does not block. */
  commit(batches: readonly Batch[]): Promise<void> | void;
  /** As BenchLog.counters(). */
  counters?(): Readonly<Record<string, number>>;
  close(): Promise<void> | void;
}

export interface Peer {
  readonly name: string;
  /** What one commit syncs: `one fdatasync`, `one transaction`. */
  readonly syncs: string;
  /** True: a commit must not be called while one is under way. */
  readonly serial: boolean;
  open(dir: string, options: RowOptions): Promise<PeerLog>;
}

/** This file runs from bench/.out/rows/. The peers have a package.json of their own, in a directory beside the sources. */
export const peersDirectory = new URL("../../rows/peers/", import.meta.url);
const require = createRequire(new URL("package.json", peersDirectory));

/** @throws Error that says what to do when the package is not installed, or why it cannot be loaded. */
export function loadPeer(name: string): unknown {
  try {
    return require(name);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const absent = code === "MODULE_NOT_FOUND" && message.includes(`'${name}'`);
    if (absent) throw new Error(`${name} is not installed; npm run bench:peers installs it`);
    throw new Error(`${name} cannot be loaded: ${message.split("\n", 1)[0]}`, { cause: error });
  }
}

/** The peer as it comes: a commit for each save. */
export function plain(peer: Peer): Row {
  return {
    name: peer.name,
    syncs: `${peer.syncs} for each save`,
    async open(dir, options) {
      const log = await peer.open(dir, options);
      // After a failure the chain rejects every later save: nobody knows where the failed one ended.
      let last: Promise<void> = Promise.resolve();
      return {
        async save(batch) {
          if (!peer.serial) return log.commit([batch]);
          const saved = last.then(() => log.commit([batch]));
          last = saved;
          return saved;
        },
        ...(log.counters && { counters: log.counters }),
        async close() {
          await last.catch(() => {});
          await log.close();
        },
      };
    },
  };
}
