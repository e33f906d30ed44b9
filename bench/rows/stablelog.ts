// stablelog itself, with each of its sync engines. The counters show group commit at work: writes and syncs a save.

import { join } from "node:path";
import { FileStorage, type FileStorageOptions } from "stablelog";
import type { Row } from "../row.js";

function rowOf(name: string, sync: NonNullable<FileStorageOptions["sync"]>, syncs: string): Row {
  return {
    name,
    syncs,
    async open(dir, options) {
      const storage = await FileStorage.open(join(dir, "log"), { sync: options.sync ? sync : "off" });
      return {
        save: (batch) => storage.save(batch),
        counters: () => {
          const { writes, syncs: synced } = storage.stats();
          return { writes, syncs: synced };
        },
        close: () => storage.close(),
      };
    },
  };
}

export const stablelogRows: readonly Row[] = [
  rowOf(
    "stablelog",
    "auto",
    "one write and one fdatasync for all saves of a turn of the event loop; the engine it chooses",
  ),
  rowOf("stablelog inline", "inline", "the same, on the event loop's own thread"),
  rowOf("stablelog worker", "worker", "the same, on a thread of its own"),
];
