// classic-level, the binding of LevelDB: a commit is one batch(), which LevelDB appends to its log and syncs on a thread of
// the pool. As it comes, each save is a batch() of its own that waits for no other: LevelDB itself joins those that its
// threads, four unless told otherwise, hold at the same time. That is faster than a chain, and leaves to chance which of them
// comes first, so that a raft log would need the chain or the queue.

import { join } from "node:path";
import type { Batch } from "../row.js";
import { entryKey, entryValue, HARD_STATE_KEY, hardStateValue } from "./encoding.js";
import { loadPeer, type Peer } from "./peer.js";

/** What is used of the package. */
interface Put {
  readonly type: "put";
  readonly key: Buffer;
  readonly value: Buffer;
}

interface Level {
  open(): Promise<void>;
  batch(operations: readonly Put[], options: { readonly sync: boolean }): Promise<void>;
  close(): Promise<void>;
}

interface ClassicLevelModule {
  readonly ClassicLevel: new (
    location: string,
    options: { readonly keyEncoding: "buffer"; readonly valueEncoding: "buffer" },
  ) => Level;
}

function putsOf(batches: readonly Batch[]): Put[] {
  const puts: Put[] = [];
  let last: Batch["hardState"];
  for (const { entries, hardState } of batches) {
    for (const entry of entries) puts.push({ type: "put", key: entryKey(entry.index), value: entryValue(entry) });
    last = hardState ?? last;
  }
  if (last !== undefined) puts.push({ type: "put", key: HARD_STATE_KEY, value: hardStateValue(last) });
  return puts;
}

export const classicLevel: Peer = {
  name: "classic-level",
  syncs: "one batch() with sync: an append to LevelDB's log and its fdatasync",
  serial: false,
  async open(dir, { sync }) {
    const { ClassicLevel } = loadPeer("classic-level") as ClassicLevelModule;
    const db = new ClassicLevel(join(dir, "level"), { keyEncoding: "buffer", valueEncoding: "buffer" });
    await db.open();
    let commits = 0;
    return {
      commit(batches) {
        commits++;
        return db.batch(putsOf(batches), { sync });
      },
      counters: () => ({ commits }),
      close: () => db.close(),
    };
  },
};
