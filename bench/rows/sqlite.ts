// SQLite through better-sqlite3: a commit is one transaction in WAL mode, on the event loop's own thread. synchronous=FULL
// syncs the WAL with every commit; NORMAL, which is often taken with WAL mode, would sync at checkpoints only, and that is
// not durable.

import { join } from "node:path";
import type { Batch } from "../row.js";
import { entryValue, hardStateValue } from "./encoding.js";
import { loadPeer, type Peer } from "./peer.js";

/** What is used of the package. */
interface Statement {
  run(...values: readonly (number | Buffer)[]): unknown;
}

interface Database {
  pragma(source: string, options: { readonly simple: true }): unknown;
  exec(sql: string): unknown;
  prepare(sql: string): Statement;
  transaction<Arguments extends unknown[]>(run: (...values: Arguments) => void): (...values: Arguments) => void;
  close(): unknown;
}

type BetterSqlite3 = new (path: string) => Database;

const TABLES = `
  CREATE TABLE IF NOT EXISTS entries (idx INTEGER PRIMARY KEY, value BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS hard_state (id INTEGER PRIMARY KEY CHECK (id = 0), value BLOB NOT NULL);
`;

export const sqlite: Peer = {
  name: "sqlite",
  syncs: "one transaction, WAL, synchronous=FULL",
  serial: false,
  async open(dir, { sync }) {
    const Sqlite = loadPeer("better-sqlite3") as BetterSqlite3;
    const db = new Sqlite(join(dir, "sqlite.db"));
    // Asking for a journal mode answers with the one that it is now; a file system without shared memory has no WAL.
    const mode = db.pragma("journal_mode = WAL", { simple: true });
    if (mode !== "wal") throw new Error(`SQLite has no WAL here, its journal mode is '${mode}'`);
    db.pragma(`synchronous = ${sync ? "FULL" : "OFF"}`, { simple: true });
    db.exec(TABLES);
    const putEntry = db.prepare("INSERT OR REPLACE INTO entries (idx, value) VALUES (?, ?)");
    const putHardState = db.prepare("INSERT OR REPLACE INTO hard_state (id, value) VALUES (0, ?)");
    let commits = 0;
    const commit = db.transaction((batches: readonly Batch[]) => {
      let last: Batch["hardState"];
      for (const { entries, hardState } of batches) {
        for (const entry of entries) putEntry.run(entry.index, entryValue(entry));
        last = hardState ?? last;
      }
      if (last !== undefined) putHardState.run(hardStateValue(last));
    });
    return {
      commit(batches) {
        commits++;
        commit(batches);
      },
      counters: () => ({ commits }),
      close() {
        db.close();
      },
    };
  },
};
