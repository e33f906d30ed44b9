// STATE: what a log knows of itself besides its segments. Two identity slots say who it is, whose it is and which segment
// was begun last; they are synced before anything in that segment is acknowledged, so a lost newest segment is noticed.
// Two watermark slots say how far the log was durable; they are written after a sync that no further group follows at once
// (its frames would say the same), and not synced, so they survive a killed process, and a power cut only by luck. Slots are
// written in turn: a torn write leaves the other. Used by log.ts and recovery.ts.

import { getU64, putU64, viewOf } from "../base/bytes.js";
import { crc32 } from "../base/crc32.js";
import { StableLogError } from "../base/errors.js";
import { type Disk, type DiskFile, joinPath } from "../disk/disk.js";
import * as f from "./format.js";
import { STATE_NAME, STATE_TMP_NAME } from "./segment-name.js";

/** A point up to which the log is durable. */
export interface Watermark {
  readonly generation: number;
  /** Offset after the last durable frame of that segment. */
  readonly end: number;
  /** That frame's sequence, and its header's crc. */
  readonly sequence: number;
  readonly chain: number;
  /** Written and synced by close(): the log ends here, whatever stands beyond. */
  readonly closed: boolean;
}

export interface StateContents {
  readonly logId: Uint8Array;
  /** The owner's own bytes, fixed at creation. */
  readonly metadata: Uint8Array;
  /** Generation of the segment begun last; 0 before the first. */
  readonly newest: number;
  readonly serial: number;
  /** Which identity slot `newest` was read from; the other is written next. */
  readonly slot: 0 | 1;
  /** The other identity slot holds bytes that cannot be read: a torn write, or rot over a newer word. */
  readonly otherUnreadable: boolean;
  /** Undefined when neither slot can be read, which proves nothing. */
  readonly watermark: Watermark | undefined;
  readonly watermarkSerial: number;
}

interface Identity {
  logId: Uint8Array;
  metadata: Uint8Array;
  newest: number;
  serial: number;
}

/**
 * Reads STATE's bytes.
 * @throws ERR_FORMAT_VERSION when a slot is of a newer format; ERR_CORRUPT when neither identity slot can be read.
 */
export function parseState(bytes: Uint8Array): StateContents {
  const view = viewOf(bytes);
  const slots = [identityAt(bytes, view, 0), identityAt(bytes, view, f.IDENTITY_SLOT_BYTES)] as const;
  const [a, b] = slots;
  let slot: 0 | 1 = 0;
  let identity = a;
  if (b !== undefined && (a === undefined || b.serial > a.serial)) {
    slot = 1;
    identity = b;
  }
  if (identity === undefined) {
    throw new StableLogError("ERR_CORRUPT", "open log: neither identity slot of STATE can be read", {
      file: STATE_NAME,
      offset: 0,
    });
  }
  const other = slots[slot === 0 ? 1 : 0];
  const otherAt = slot === 0 ? f.IDENTITY_SLOT_BYTES : 0;
  const w0 = watermarkAt(bytes, view, f.WATERMARK_AT);
  const w1 = watermarkAt(bytes, view, f.WATERMARK_AT + f.WATERMARK_SLOT_BYTES);
  const newer = w1 !== undefined && (w0 === undefined || w1.serial > w0.serial) ? w1 : w0;
  return {
    ...identity,
    slot,
    otherUnreadable:
      other === undefined && bytes.subarray(otherAt, otherAt + f.IDENTITY_SLOT_BYTES).some((byte) => byte !== 0),
    watermark: newer?.watermark,
    watermarkSerial: newer?.serial ?? 0,
  };
}

function identityAt(bytes: Uint8Array, view: DataView, at: number): Identity | undefined {
  if (at + f.I_METADATA > bytes.length) return undefined;
  if (view.getUint32(at + f.I_MAGIC, true) !== f.IDENTITY_MAGIC) return undefined;
  const metadataBytes = view.getUint32(at + f.I_METADATA_BYTES, true);
  const end = at + f.I_METADATA + metadataBytes;
  if (metadataBytes > f.MAX_METADATA_BYTES || end > bytes.length) return undefined;
  if (crc32(bytes.subarray(at + f.I_MAGIC, end)) !== view.getUint32(at + f.I_CRC, true)) return undefined;
  const version = view.getUint32(at + f.I_VERSION, true);
  if (version > f.FORMAT_VERSION) {
    throw new StableLogError(
      "ERR_FORMAT_VERSION",
      `open log: STATE is of format ${version}, this code reads up to ${f.FORMAT_VERSION}`,
      { file: STATE_NAME, offset: at + f.I_VERSION },
    );
  }
  const serial = getU64(view, at + f.I_SERIAL);
  const newest = getU64(view, at + f.I_NEWEST);
  if (!Number.isSafeInteger(serial) || !Number.isSafeInteger(newest) || version === 0) return undefined;
  return {
    logId: bytes.slice(at + f.I_LOG_ID, at + f.I_LOG_ID + 16),
    metadata: bytes.slice(at + f.I_METADATA, end),
    newest,
    serial,
  };
}

function watermarkAt(
  bytes: Uint8Array,
  view: DataView,
  at: number,
): { watermark: Watermark; serial: number } | undefined {
  if (at + f.WATERMARK_BYTES > bytes.length) return undefined;
  if (view.getUint32(at + f.W_MAGIC, true) !== f.WATERMARK_MAGIC) return undefined;
  const crc = crc32(bytes.subarray(at + f.W_MAGIC, at + f.WATERMARK_BYTES));
  if (crc !== view.getUint32(at + f.W_CRC, true)) return undefined;
  const watermark = {
    generation: getU64(view, at + f.W_GENERATION),
    end: getU64(view, at + f.W_END),
    sequence: getU64(view, at + f.W_SEQUENCE),
    chain: view.getUint32(at + f.W_CHAIN, true),
    closed: view.getUint32(at + f.W_CLOSED, true) === 1,
  };
  const serial = getU64(view, at + f.W_SERIAL);
  const readable = [watermark.generation, watermark.end, watermark.sequence, serial].every(Number.isSafeInteger);
  return readable ? { watermark, serial } : undefined;
}

function putIdentity(target: Uint8Array, at: number, identity: Identity): number {
  const view = viewOf(target);
  const end = at + f.I_METADATA + identity.metadata.length;
  view.setUint32(at + f.I_MAGIC, f.IDENTITY_MAGIC, true);
  view.setUint32(at + f.I_VERSION, f.FORMAT_VERSION, true);
  view.setUint32(at + f.I_METADATA_BYTES, identity.metadata.length, true);
  target.set(identity.logId, at + f.I_LOG_ID);
  putU64(view, at + f.I_SERIAL, identity.serial);
  putU64(view, at + f.I_NEWEST, identity.newest);
  target.set(identity.metadata, at + f.I_METADATA);
  view.setUint32(at + f.I_CRC, crc32(target.subarray(at + f.I_MAGIC, end)), true);
  return end;
}

/**
 * Makes STATE for a new log in `dir`: written and synced under another name, renamed, the directory synced. A crash leaves
 * all of it or none.
 */
export async function createState(disk: Disk, dir: string, logId: Uint8Array, metadata: Uint8Array): Promise<void> {
  const bytes = disk.allocate(f.STATE_FILE_BYTES);
  putIdentity(bytes, 0, { logId, metadata, newest: 0, serial: 1 });
  const tmp = joinPath(dir, STATE_TMP_NAME);
  const found = await disk.stat(tmp);
  if (found !== undefined) {
    if (found.kind !== "file") {
      throw new StableLogError("ERR_FOREIGN", `create log ${dir}: ${STATE_TMP_NAME} is no file of ours`, {
        file: STATE_TMP_NAME,
      });
    }
    await disk.unlink(tmp);
  }
  const file = await disk.open(tmp, "create");
  try {
    await file.writeLater(bytes, 0, bytes.length, 0, true);
  } finally {
    await file.close();
  }
  const path = joinPath(dir, STATE_NAME);
  await disk.rename(tmp, path);
  try {
    await disk.syncDir(dir);
  } catch (error) {
    // A name whose sync failed may be lost though a later sync says yes: the next open makes STATE anew.
    await disk.rename(path, tmp).catch(() => {});
    throw error;
  }
}

/** STATE of an open log, for writing. One call at a time. */
export class StateFile {
  readonly #file: DiskFile;
  readonly #identity: Identity;
  #slot: number;
  #watermarkSerial: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** A noteLater() under way, which owns #bytes. */
  #noting: Promise<void> | undefined;
  /** Begins the one after it. */
  #next: (() => void) | undefined;

  constructor(disk: Disk, file: DiskFile, contents: StateContents) {
    this.#file = file;
    this.#identity = {
      logId: contents.logId,
      metadata: contents.metadata,
      newest: contents.newest,
      serial: contents.serial,
    };
    this.#slot = contents.slot;
    this.#watermarkSerial = contents.watermarkSerial;
    this.#bytes = disk.allocate(f.WATERMARK_BYTES);
    this.#view = viewOf(this.#bytes);
  }

  /** The generation named last. */
  get newest(): number {
    return this.#identity.newest;
  }

  /** Names `generation` as the newest begun segment; returns once that is durable, or with `sync` false, written. */
  async name(generation: number, sync = true): Promise<void> {
    const slot = this.#slot === 0 ? 1 : 0;
    const next = { ...this.#identity, newest: generation, serial: this.#identity.serial + 1 };
    const bytes = new Uint8Array(f.I_METADATA + next.metadata.length);
    putIdentity(bytes, 0, next);
    await this.#file.writeLater(bytes, 0, bytes.length, slot * f.IDENTITY_SLOT_BYTES, sync);
    this.#slot = slot;
    this.#identity.newest = generation;
    this.#identity.serial = next.serial;
  }

  /**
   * Notes how far the log is durable, without a sync. It is a word of comfort for the next open, not a promise, so a
   * failure is nobody's: the slot then says less or cannot be read.
   */
  note(generation: number, end: number, sequence: number, chain: number): void {
    this.#encode(generation, end, sequence, chain, false);
    try {
      this.#file.write(this.#bytes, 0, f.WATERMARK_BYTES, this.#watermarkPosition());
    } catch {
      // Said above.
    }
  }

  /** note() off the event loop; while one is under way, the newest waits for it and the others are dropped. */
  noteLater(generation: number, end: number, sequence: number, chain: number): void {
    if (this.#noting !== undefined) {
      this.#next = () => this.noteLater(generation, end, sequence, chain);
      return;
    }
    this.#encode(generation, end, sequence, chain, false);
    const done = (): void => {
      this.#noting = undefined;
      const next = this.#next;
      this.#next = undefined;
      next?.();
    };
    const written = this.#file.writeLater(this.#bytes, 0, f.WATERMARK_BYTES, this.#watermarkPosition(), false);
    this.#noting = written.then(done, done);
  }

  /** Marks the log closed at `end`, durably, and closes STATE. */
  async close(generation: number, end: number, sequence: number, chain: number): Promise<void> {
    this.#next = undefined;
    await this.#noting;
    try {
      if (generation > 0) {
        this.#encode(generation, end, sequence, chain, true);
        await this.#file.writeLater(this.#bytes, 0, f.WATERMARK_BYTES, this.#watermarkPosition(), true);
      }
    } finally {
      await this.#release();
    }
  }

  /** Closes STATE without a word. */
  async abandon(): Promise<void> {
    this.#next = undefined;
    await this.#noting;
    await this.#release();
  }

  /** What had to be durable was synced before: a handle that cannot be closed takes nothing back. */
  async #release(): Promise<void> {
    await this.#file.close().catch(() => {});
  }

  #encode(generation: number, end: number, sequence: number, chain: number, closed: boolean): void {
    const view = this.#view;
    view.setUint32(f.W_MAGIC, f.WATERMARK_MAGIC, true);
    putU64(view, f.W_SERIAL, ++this.#watermarkSerial);
    putU64(view, f.W_GENERATION, generation);
    putU64(view, f.W_END, end);
    putU64(view, f.W_SEQUENCE, sequence);
    view.setUint32(f.W_CHAIN, chain, true);
    view.setUint32(f.W_CLOSED, closed ? 1 : 0, true);
    view.setUint32(f.W_CRC, crc32(this.#bytes.subarray(f.W_MAGIC, f.WATERMARK_BYTES)), true);
  }

  #watermarkPosition(): number {
    return f.WATERMARK_AT + (this.#watermarkSerial % 2) * f.WATERMARK_SLOT_BYTES;
  }
}
