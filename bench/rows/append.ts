// A plain file that grows, written and synced with the callback API: what is written when a log is needed and a database
// seems too much. Every commit is one write and one fdatasync, which has a new size of the file to store, too.

import { close, closeSync, fdatasync, fsyncSync, openSync, write } from "node:fs";
import { join } from "node:path";
import type { Batch } from "../row.js";
import { recordBytes, writeRecords } from "./encoding.js";
import type { Peer, PeerLog } from "./peer.js";

class AppendLog implements PeerLog {
  readonly #fd: number;
  readonly #sync: boolean;
  #writes = 0;
  #syncs = 0;

  constructor(fd: number, sync: boolean) {
    this.#fd = fd;
    this.#sync = sync;
  }

  commit(batches: readonly Batch[]): Promise<void> {
    let bytes = 0;
    for (const { entries, hardState } of batches) bytes += recordBytes(entries, hardState);
    const buffer = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const { entries, hardState } of batches) at = writeRecords(buffer, at, entries, hardState);
    return new Promise((resolve, reject) => {
      const synced = (error: Error | null): void => {
        if (error !== null) reject(error);
        else resolve();
      };
      const writeFrom = (offset: number): void => {
        this.#writes++;
        write(this.#fd, buffer, offset, bytes - offset, null, (error, written) => {
          if (error !== null) {
            reject(error);
          } else if (offset + written < bytes) {
            writeFrom(offset + written);
          } else if (this.#sync) {
            this.#syncs++;
            fdatasync(this.#fd, synced);
          } else {
            resolve();
          }
        });
      };
      writeFrom(0);
    });
  }

  readonly counters = (): Readonly<Record<string, number>> => ({ writes: this.#writes, syncs: this.#syncs });

  close(): Promise<void> {
    return new Promise((resolve, reject) => {
      close(this.#fd, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }
}

/** Makes the file's name durable, without which its bytes are not. */
function syncDirectory(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

export const append: Peer = {
  name: "append",
  syncs: "one write and one fdatasync of a growing file",
  serial: true,
  async open(dir, { sync }) {
    const fd = openSync(join(dir, "log"), "a");
    if (sync) syncDirectory(dir);
    return new AppendLog(fd, sync);
  },
};
