// The next segment's file, ready before it is needed: zero-filled in paced pieces and synced off the hot path, so that
// small groups seldom make their file longer. One spare file at most, under a name of its own, given up where the log finds no
// room beside it; a segment that compaction released is renamed to it and filled with zeros again. Used by log.ts.
//
// Zeros go to a file of their own because zero-filling the file being written makes its own syncs flush the zeros.

import { type Disk, type DiskFile, joinPath } from "../disk/disk.js";
import type { DirectoryNames } from "./directory-names.js";
import { SPARE_NAME } from "./segment-name.js";

/**
 * Zeros written at a time, each piece synced before the next: the log's own syncs wait for whatever of it is under way, so
 * four times as much shows in their p99; smaller pieces take more of the event loop than they give.
 */
const PIECE_BYTES = 1024 * 1024;
/** The spare grows while its predecessor fills from the first to the second of these fractions. */
const PACE_FROM = 0.25;
const PACE_TO = 0.9;

let zeros: Uint8Array | undefined;

/** PIECE_BYTES zeros, the same for all logs of the process: nobody writes to it. */
export function zeroPiece(): Uint8Array {
  zeros ??= new Uint8Array(PIECE_BYTES);
  return zeros;
}

interface Spare {
  readonly file: DiskFile;
  /** Bytes from the start that are zero, written as such in this run. */
  filled: number;
  /** Size of the file found, when it was recycled; its old bytes stand from `filled` up to here. */
  readonly found: number;
  /** Some of the zeros are not synced yet. */
  dirty: boolean;
}

export class SegmentPipeline {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #zeroFill: boolean;
  // Invariant: there is one file of the spare's name, so whoever makes, fills, adopts or removes it does so as #work, alone;
  // and from take() to rename() the name belongs to the file that was taken.
  #spare: Spare | undefined;
  /** The piece of work under way; never rejects. */
  #work: Promise<void> | undefined;
  /** Zeros that are due by the pace; the piece of work under way goes on until it has caught up. */
  #due = 0;
  /** Somebody waits in take() or giveUp(). */
  #hurry = false;
  /** No spare is filled ahead for the segment being written: that has failed, or the disk had no room for the log beside it. */
  #givenUp = false;
  #taken = false;
  #closed = false;

  /** `zeroFill` false: files are made empty and grow as they are written (nothing is synced anyway). */
  constructor(disk: Disk, dir: string, zeroFill: boolean) {
    this.#disk = disk;
    this.#path = joinPath(dir, SPARE_NAME);
    this.#zeroFill = zeroFill;
  }

  /** Bytes that the spare takes on disk. */
  get spareBytes(): number {
    return this.#spare === undefined ? 0 : Math.max(this.#spare.filled, this.#spare.found);
  }

  /**
   * A file under the spare's name, zero for `zeros` bytes or more, all of them synced, and nothing but zeros beyond. Its size()
   * says how far it goes: a spare is taken as far as it is filled, because who waits for the rest holds up every save.
   * rename() then gives it its own name. Rejects with the system's error when it cannot be made; nothing is left behind then.
   */
  async take(zeros: number): Promise<DiskFile> {
    while (this.#work !== undefined) await this.#interrupt();
    this.#givenUp = false;
    return this.#alone(async () => {
      const spare = (this.#spare ??= await this.#create());
      if (this.#zeroFill) {
        const enough = Math.max(spare.filled, zeros);
        if (spare.found > enough) {
          await spare.file.truncate(enough);
          spare.dirty = true;
        }
        while (spare.filled < enough) await this.#fill(spare, enough, false);
        if (spare.dirty) await spare.file.writeLater(zeroPiece(), 0, 0, 0, true);
      }
      this.#spare = undefined;
      this.#taken = true;
      return spare.file;
    });
  }

  /** Gives the file that take() returned last its name. What fails leaves no name behind; the file is the caller's to close. */
  async rename(path: string): Promise<void> {
    try {
      await this.#disk.rename(this.#path, path);
    } catch (error) {
      await this.#disk.unlink(this.#path).catch(() => {});
      throw error;
    } finally {
      this.#taken = false;
    }
  }

  /**
   * Tells how full the segment being written is (0 to 1), and how large its successor will be; starts filling in what
   * is due by then. Returns at once.
   */
  advance(fraction: number, capacity: number): void {
    if (!this.#zeroFill || fraction < PACE_FROM || this.#taken || this.#givenUp || this.#closed) return;
    this.#due = Math.min(1, (fraction - PACE_FROM) / (PACE_TO - PACE_FROM)) * capacity;
    if (this.#work !== undefined || (this.#spare !== undefined && this.#spare.filled >= this.#due)) return;
    this.#alone(async () => {
      try {
        this.#spare ??= await this.#create();
        const spare = this.#spare;
        do {
          await this.#fill(spare, capacity, true);
        } while (!this.#closed && !this.#hurry && spare.filled < Math.min(this.#due, capacity));
      } catch (error) {
        this.#givenUp = true;
        throw error;
      }
    }).catch(() => {
      // Room ahead is no promise: what failed is dropped, and take() tries again and reports. Until then what room there is, is
      // the log's.
    });
  }

  /**
   * Offers a released segment's file, which is not taken unless a spare is `wanted`. True when nothing stands at `path` any
   * more: it is the spare now, or was taken away by an earlier call that failed after that. The rename is durable before a
   * byte of it is overwritten, so a crash never leaves zeros under a segment's name.
   */
  async recycle(path: string, names: DirectoryNames, wanted = true): Promise<boolean> {
    if ((await this.#disk.stat(path)) === undefined) return true;
    while (this.#work !== undefined) await this.#work;
    if (!wanted || !this.#zeroFill || this.#closed || this.#taken || this.#givenUp) return false;
    if (this.#spare !== undefined) return false;
    await this.#alone(async () => {
      // Released, it may as well go: what stood under the spare's name without being the spare would be in everybody's way.
      const remove = (): Promise<void> => this.#disk.unlink(this.#path);
      await names.give(() => this.#disk.rename(path, this.#path), remove);
      try {
        const file = await this.#disk.open(this.#path, "write");
        this.#spare = { file, filled: 0, found: file.size(), dirty: true };
      } catch (error) {
        await remove();
        throw error;
      }
    });
    return true;
  }

  /** Gives the room of the spare back to the disk, on which somebody has found none; false when there was nothing to give. */
  async giveUp(): Promise<boolean> {
    this.#givenUp = true;
    // What is under way may be making the spare, or dropping it because it found no room either.
    let given = this.#spare !== undefined || this.#work !== undefined;
    while (this.#work !== undefined) await this.#interrupt();
    given ||= this.#spare !== undefined;
    await this.#alone(() => this.#drop());
    return given;
  }

  /** Stops and removes the spare: a closed log takes no more room than it needs. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#work !== undefined) await this.#work;
    await this.#drop();
  }

  /** Ends the piece of work under way: what is due by the pace is due no more. */
  async #interrupt(): Promise<void> {
    this.#hurry = true;
    await this.#work;
    this.#hurry = false;
  }

  /** Runs `work` as #work, which nobody else has then; when it fails, no spare is left. */
  async #alone<R>(work: () => Promise<R>): Promise<R> {
    let done = (): void => {};
    this.#work = new Promise((resolve) => {
      done = resolve;
    });
    try {
      return await work();
    } catch (error) {
      await this.#drop();
      throw error;
    } finally {
      this.#work = undefined;
      done();
    }
  }

  async #create(): Promise<Spare> {
    if ((await this.#disk.stat(this.#path)) !== undefined) await this.#disk.unlink(this.#path);
    return { file: await this.#disk.open(this.#path, "create"), filled: 0, found: 0, dirty: false };
  }

  async #fill(spare: Spare, capacity: number, sync: boolean): Promise<void> {
    const bytes = Math.min(PIECE_BYTES, capacity - spare.filled);
    await spare.file.writeLater(zeroPiece(), 0, bytes, spare.filled, sync);
    spare.filled += bytes;
    spare.dirty = !sync;
  }

  async #drop(): Promise<void> {
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare === undefined) return;
    await spare.file.close().catch(() => {});
    await this.#disk.unlink(this.#path).catch(() => {});
  }
}
