// The names in a log's directory, made durable. Segments, the spare and snapshots get theirs at the same time, each by a task
// of its own, and one sync covers the names of all. Used by log.ts, segment-pipeline.ts and the storage above; one a log.

import type { Disk } from "../disk/disk.js";

export class DirectoryNames {
  readonly #disk: Disk;
  readonly #dir: string;
  // Invariant: a name counts as durable only when no sync of the directory has failed since before it was given. A failed one
  // leaves what it did not write clean, whoever gave it, and the next one says yes to that (fsync(2), fsyncgate).
  #failures = 0;
  #cause: unknown;
  readonly #lazy: boolean;
  /** Names were given that nobody has made durable. */
  #due = false;

  /** `lazy`: names become durable with settle(), as everything else of a log that syncs nothing before it is closed. */
  constructor(disk: Disk, dir: string, lazy = false) {
    this.#disk = disk;
    this.#dir = dir;
    this.#lazy = lazy;
  }

  /**
   * Has `change` give or move names, and makes them durable. When the directory cannot be synced, now or by anybody since,
   * `undo` takes them back, so that the next try has something to write; it may reject.
   * Rejects with the system's error.
   */
  async give(change: () => Promise<void>, undo?: () => Promise<void>): Promise<void> {
    const failures = this.#failures;
    await change();
    if (this.#lazy) {
      this.#due = true;
      return;
    }
    try {
      await this.#sync();
      if (this.#failures !== failures) throw this.#cause;
    } catch (error) {
      await undo?.();
      throw error;
    }
  }

  /** Makes durable what give() has left. Rejects with the system's error. */
  async settle(): Promise<void> {
    if (this.#due) await this.#sync();
    this.#due = false;
  }

  async #sync(): Promise<void> {
    try {
      await this.#disk.syncDir(this.#dir);
    } catch (error) {
      this.#failures++;
      this.#cause = error;
      throw error;
    }
  }
}
