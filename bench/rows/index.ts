// The peers' rows by name, in the order of the reports. A row loads its package when it is opened, in the process that runs
// it, so that a peer that is not installed is a row left out, and no row meets another one's threads and memory.

import type { Row } from "../row.js";
import { append } from "./append.js";
import { classicLevel } from "./classic-level.js";
import { lmdb, lmdbFlushed } from "./lmdb.js";
import { plain } from "./peer.js";
import { queued } from "./queue.js";
import { sqlite } from "./sqlite.js";

const rows: readonly Row[] = [
  plain(append),
  queued(append),
  plain(classicLevel),
  queued(classicLevel),
  lmdb,
  lmdbFlushed,
  plain(sqlite),
  queued(sqlite),
];

export const peerRows: ReadonlyMap<string, () => Promise<Row>> = new Map(
  rows.map((row) => [row.name, async () => row]),
);
