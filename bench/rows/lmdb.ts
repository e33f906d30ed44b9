// lmdb in both of its ways to sync. It gathers by itself what is written within a turn of the event loop and while its
// writing thread is busy, so neither row has a queue. Without overlapping syncs a transaction is durable once it is
// committed; with them, which is the default, it is committed first and flushed later, and `flushed` tells when.

import { join } from "node:path";
import type { Batch, Row } from "../row.js";
import { entryValue, hardStateValue } from "./encoding.js";
import { loadPeer } from "./peer.js";

/** What is used of the package. */
interface Database {
  put(key: number | string, value: Buffer): Promise<boolean>;
  /** All writes of the callback in one transaction. */
  batch(writes: () => void): Promise<boolean>;
  /** Takes, when its then() is called, what was written until then. */
  readonly flushed: PromiseLike<unknown>;
  close(): Promise<void>;
}

interface Options {
  readonly path: string;
  readonly encoding: "binary";
  readonly overlappingSync?: boolean;
  readonly noSync?: boolean;
}

interface LmdbModule {
  open(options: Options): Database;
}

function write(db: Database, { entries, hardState }: Batch): Promise<boolean> {
  return db.batch(() => {
    for (const entry of entries) void db.put(entry.index, entryValue(entry));
    if (hardState !== undefined) void db.put("hardState", hardStateValue(hardState));
  });
}

function openDatabase(dir: string, options: Omit<Options, "path" | "encoding">): Database {
  const { open } = loadPeer("lmdb") as LmdbModule;
  return open({ path: join(dir, "lmdb"), encoding: "binary", ...options });
}

export const lmdb: Row = {
  name: "lmdb",
  syncs: "one transaction, committed and synced, for all saves that wait",
  async open(dir, { sync }) {
    const db = openDatabase(dir, { overlappingSync: false, noSync: !sync });
    return {
      async save(batch) {
        await write(db, batch);
      },
      close: () => db.close(),
    };
  },
};

export const lmdbFlushed: Row = {
  name: "lmdb flushed",
  syncs: "one transaction for all saves that wait, flushed while the next one is made",
  async open(dir, { sync }) {
    // Nothing is flushed apart where nothing is synced: lmdb turns overlapping off itself then.
    const db = openDatabase(dir, sync ? {} : { noSync: true });
    return {
      async save(batch) {
        const written = write(db, batch);
        // Asked for now it is the flush of this very transaction; after the commit it would be that of whatever came later.
        const flushed = db.flushed.then(() => {});
        await written;
        await flushed;
      },
      close: () => db.close(),
    };
  },
};
