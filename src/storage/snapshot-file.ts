// Snapshot files: a snapshot's data beside the log, written by tmp, sync, rename, directory sync, so that a name stands for
// a whole file or for none. Streamed in and out in chunks that are each checksummed. Used by file-storage.ts alone.
//
//   head    crc u32 | magic u32 | version u32 | metadata bytes u32 | logId 16 B | metadata (MessagePack) | zeros to 8
//   chunk   bytes u32 | crc u32 | data                 crc goes on from the chunk before, so chunks keep their order
//   end     0xffffffff u32 | crc u32 | total u64       crc over total, going on from the last chunk

import { align8, equalBytes, getU64, hex, putU64, viewOf } from "../base/bytes.js";
import { crc32 } from "../base/crc32.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, type DiskFile, joinPath } from "../disk/disk.js";
import type { SnapshotMetadata } from "../raftpb/types.js";
import type { DirectoryNames } from "../wal/directory-names.js";
import { readError, spaceError } from "../wal/io-error.js";
import { checkChunk, streamError } from "./batch.js";
import { decodeMetadata, encodeMetadata } from "./mark.js";

const MAGIC = 0x4e534c53;
const VERSION = 1;
const HEAD_BYTES = 32;
const CHUNK_HEAD_BYTES = 8;
const END_BYTES = 16;
const END_MARK = 0xffffffff;
/** Data goes to disk in chunks of at most this size. */
const CHUNK_BYTES = 1024 * 1024;

const OWN_NAME = /^[0-9a-f]{16}-[0-9a-f]{16}\.snapshot(\.\d+\.tmp)?$/;

/** `<index>-<term>.snapshot`, 16 hex digits each. */
export function snapshotName({ index, term }: { readonly index: number; readonly term: number }): string {
  return `${hex(index, 16)}-${hex(term, 16)}.snapshot`;
}

/** True for the names of snapshot files, unfinished ones included. */
export function isSnapshotName(name: string): boolean {
  return OWN_NAME.test(name);
}

/** A snapshot file that is whole and synced. */
export interface StagedFile {
  /** Its name now: one that recovery takes for garbage, until publishFile() gives it the snapshot's. */
  name: string;
  readonly tmp: string;
  readonly metadata: SnapshotMetadata;
}

/**
 * Writes a snapshot file and syncs it, under a temporary name that `serial` sets apart from the other unfinished files of
 * this log. A write that finds no room is tried again when `makeRoom` has made some.
 * @throws ERR_NO_SPACE, ERR_IO; ERR_INVALID_ARGUMENT for a chunk that is no Uint8Array. Nothing is left behind then.
 */
export async function stageFile(
  disk: Disk,
  dir: string,
  logId: Uint8Array,
  metadata: SnapshotMetadata,
  data: Uint8Array | AsyncIterable<Uint8Array>,
  serial: number,
  makeRoom: (cause: unknown) => Promise<boolean>,
): Promise<StagedFile> {
  const name = snapshotName(metadata);
  const tmp = `${name}.${serial}.tmp`;
  const action = `write snapshot ${name}`;
  const path = joinPath(dir, tmp);
  let file: DiskFile | undefined;
  try {
    if ((await disk.stat(path)) !== undefined) await disk.unlink(path);
    file = await disk.open(path, "create");
    await writeFile(disk, file, logId, metadata, data, action, makeRoom);
    await file.close();
    return { name: tmp, tmp, metadata };
  } catch (error) {
    await file?.close().catch(() => {});
    await disk.unlink(path).catch(() => {});
    throw spaceError(action, error, { file: name });
  }
}

async function writeFile(
  disk: Disk,
  file: DiskFile,
  logId: Uint8Array,
  metadata: SnapshotMetadata,
  data: Uint8Array | AsyncIterable<Uint8Array>,
  action: string,
  makeRoom: (cause: unknown) => Promise<boolean>,
): Promise<void> {
  const write = async (bytes: Uint8Array, end: number, at: number): Promise<void> => {
    try {
      await file.writeLater(bytes, 0, end, at, false);
    } catch (error) {
      if (!(await makeRoom(error))) throw error;
      await file.writeLater(bytes, 0, end, at, false);
    }
  };
  const head = encodeHead(logId, metadata);
  await write(head, head.length, 0);
  let position = head.length;
  let crc = crc32(head);
  let total = 0;
  let buffer = disk.allocate(END_BYTES);
  let view = viewOf(buffer);
  const put = async (chunk: Uint8Array): Promise<void> => {
    for (let from = 0; from < chunk.length; from += CHUNK_BYTES) {
      const piece = chunk.subarray(from, from + CHUNK_BYTES);
      if (buffer.length < CHUNK_HEAD_BYTES + piece.length) {
        buffer = disk.allocate(CHUNK_HEAD_BYTES + piece.length);
        view = viewOf(buffer);
      }
      crc = crc32(piece, crc);
      view.setUint32(0, piece.length, true);
      view.setUint32(4, crc, true);
      buffer.set(piece, CHUNK_HEAD_BYTES);
      await write(buffer, CHUNK_HEAD_BYTES + piece.length, position);
      position += CHUNK_HEAD_BYTES + piece.length;
      total += piece.length;
    }
  };
  if (data instanceof Uint8Array) await put(data);
  else await eachChunk(data, action, put);
  view.setUint32(0, END_MARK, true);
  putU64(view, 8, total);
  view.setUint32(4, crc32(buffer.subarray(8, 16), crc), true);
  await write(buffer, END_BYTES, position);
  // Apart from the write: a sync that fails is not tried again.
  await file.writeLater(buffer, 0, 0, 0, true);
}

/** Hands on the caller's chunks; what fails in the caller's stream is told apart from what fails on disk. */
async function eachChunk(
  data: AsyncIterable<Uint8Array>,
  action: string,
  put: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  let bytes = 0;
  const iterator = data[Symbol.asyncIterator]();
  for (;;) {
    let next: IteratorResult<Uint8Array>;
    try {
      next = await iterator.next();
    } catch (error) {
      throw streamError(action, bytes, error);
    }
    if (next.done === true) return;
    try {
      checkChunk(action, next.value);
      await put(next.value);
    } catch (error) {
      await iterator.return?.(undefined).catch(() => {});
      throw error;
    }
    bytes += next.value.length;
  }
}

function encodeHead(logId: Uint8Array, metadata: SnapshotMetadata): Uint8Array {
  const packed = encodeMetadata(metadata);
  const head = new Uint8Array(align8(HEAD_BYTES + packed.length));
  const view = viewOf(head);
  view.setUint32(4, MAGIC, true);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, packed.length, true);
  head.set(logId, 16);
  head.set(packed, HEAD_BYTES);
  view.setUint32(0, crc32(head.subarray(4)), true);
  return head;
}

/**
 * Gives a staged file its name, durably; nothing to do when it has it. After a failure it has its temporary name again
 * where that can be, because a directory that failed to sync once may say yes to a second call and lie.
 * @throws ERR_NO_SPACE, ERR_IO.
 */
export async function publishFile(disk: Disk, dir: string, names: DirectoryNames, file: StagedFile): Promise<void> {
  const name = snapshotName(file.metadata);
  if (file.name === name) return;
  try {
    await names.give(
      () => disk.rename(joinPath(dir, file.name), joinPath(dir, name)),
      () => disk.rename(joinPath(dir, name), joinPath(dir, file.name)),
    );
    file.name = name;
  } catch (error) {
    throw spaceError(`publish snapshot ${name}`, error, { file: name });
  }
}

function corrupt(name: string, offset: number, why: string, cause?: unknown): StableLogError {
  const where = { file: name, offset };
  const message = `read snapshot ${name} at ${offset}: ${why}`;
  return new StableLogError("ERR_CORRUPT", message, cause === undefined ? where : { ...where, cause });
}

/** Checks a head; gives where data begins and the running crc. */
function checkHead(
  head: Uint8Array,
  name: string,
  logId: Uint8Array,
  metadata: SnapshotMetadata,
): { at: number; crc: number } {
  const expected = encodeHead(logId, metadata);
  if (head.length >= HEAD_BYTES && viewOf(head).getUint32(4, true) === MAGIC) {
    const version = viewOf(head).getUint32(8, true);
    const end = align8(HEAD_BYTES + viewOf(head).getUint32(12, true));
    if (end <= head.length && crc32(head.subarray(4, end)) === viewOf(head).getUint32(0, true)) {
      if (version > VERSION) {
        throw new StableLogError("ERR_FORMAT_VERSION", `read snapshot ${name}: it is of format ${version}`, {
          file: name,
          offset: 8,
        });
      }
      if (!equalBytes(head.subarray(16, 32), logId)) {
        throw new StableLogError("ERR_FOREIGN", `read snapshot ${name}: it belongs to another log`, {
          file: name,
          offset: 16,
        });
      }
      const found = metadataIn(head, name);
      if (found.index !== metadata.index || found.term !== metadata.term) {
        throw corrupt(name, HEAD_BYTES, `it is the snapshot of index ${found.index}, term ${found.term}`);
      }
      return { at: end, crc: crc32(head.subarray(0, end)) };
    }
  }
  throw corrupt(name, 0, `its head is damaged (${expected.length} bytes expected)`);
}

function metadataIn(head: Uint8Array, name: string): SnapshotMetadata {
  try {
    return decodeMetadata(head.subarray(HEAD_BYTES, HEAD_BYTES + viewOf(head).getUint32(12, true)));
  } catch (cause) {
    throw corrupt(name, HEAD_BYTES, "its metadata is not of the form that was written", cause);
  }
}

/** A snapshot file, open for reading; every byte handed out was checked. */
class SnapshotReader {
  readonly #file: DiskFile;
  readonly #name: string;
  #at = 0;
  #crc = 0;
  #total = 0;

  constructor(file: DiskFile, name: string, logId: Uint8Array, metadata: SnapshotMetadata) {
    this.#file = file;
    this.#name = name;
    const head = new Uint8Array(Math.min(file.size(), align8(HEAD_BYTES + encodeMetadata(metadata).length)));
    this.#read(head, 0);
    const { at, crc } = checkHead(head, name, logId, metadata);
    this.#at = at;
    this.#crc = crc;
  }

  /** Where the end record begins. */
  endAt(): number {
    return this.#file.size() - END_BYTES;
  }

  /** Bytes of data, by the end record; the data itself is not looked at. */
  totalBytes(): number {
    const end = new Uint8Array(END_BYTES);
    const at = this.endAt();
    if (at < this.#at) throw corrupt(this.#name, Math.max(0, at), "it is cut short");
    this.#read(end, at);
    if (viewOf(end).getUint32(0, true) !== END_MARK) throw corrupt(this.#name, at, "it has no end record");
    const total = getU64(viewOf(end), 8);
    if (!(total <= at - this.#at)) throw corrupt(this.#name, at, "its end record contradicts its size");
    return total;
  }

  /** The next chunk's head; undefined after the end record, which is checked. */
  nextHead(): { bytes: number; crc: number } | undefined {
    const head = new Uint8Array(END_BYTES);
    const left = this.#file.size() - this.#at;
    this.#read(head.subarray(0, Math.min(END_BYTES, Math.max(0, left))), this.#at);
    const view = viewOf(head);
    const bytes = view.getUint32(0, true);
    const crc = view.getUint32(4, true);
    if (bytes === END_MARK) {
      const sound = getU64(view, 8) === this.#total && crc32(head.subarray(8), this.#crc) === crc;
      if (!sound || left !== END_BYTES) throw corrupt(this.#name, this.#at, "its end record is damaged");
      return undefined;
    }
    if (bytes === 0 || bytes > CHUNK_BYTES || bytes > left - CHUNK_HEAD_BYTES) {
      throw corrupt(this.#name, this.#at, "a chunk's length is damaged");
    }
    return { bytes, crc };
  }

  chunkNow(head: { bytes: number; crc: number }): Uint8Array {
    const data = new Uint8Array(head.bytes);
    this.#read(data, this.#at + CHUNK_HEAD_BYTES);
    return this.#checked(data, head.crc);
  }

  async chunkLater(head: { bytes: number; crc: number }): Promise<Uint8Array> {
    const data = new Uint8Array(head.bytes);
    const at = this.#at + CHUNK_HEAD_BYTES;
    let read: number;
    try {
      read = await this.#file.readLater(data, 0, data.length, at);
    } catch (error) {
      throw readError(`read snapshot ${this.#name} at ${at}`, error, { file: this.#name, offset: at });
    }
    if (read !== data.length) throw corrupt(this.#name, at, "it is cut short");
    return this.#checked(data, head.crc);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #checked(data: Uint8Array, crc: number): Uint8Array {
    this.#crc = crc32(data, this.#crc);
    if (this.#crc !== crc) throw corrupt(this.#name, this.#at, "a chunk is damaged");
    this.#at += CHUNK_HEAD_BYTES + data.length;
    this.#total += data.length;
    return data;
  }

  #read(target: Uint8Array, at: number): void {
    let read: number;
    try {
      read = this.#file.read(target, 0, target.length, at);
    } catch (error) {
      throw readError(`read snapshot ${this.#name} at ${at}`, error, { file: this.#name, offset: at });
    }
    if (read !== target.length) throw corrupt(this.#name, at, "it is cut short");
  }
}

function openSnapshot(disk: Disk, dir: string, logId: Uint8Array, metadata: SnapshotMetadata): SnapshotReader {
  const name = snapshotName(metadata);
  let file: DiskFile;
  try {
    file = disk.openNow(joinPath(dir, name));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      throw new StableLogError("ERR_CORRUPT", `read snapshot ${name}: the log names it and it is gone`, {
        file: name,
        offset: 0,
        cause: error,
      });
    }
    throw readError(`read snapshot ${name}`, error, { file: name, offset: 0 });
  }
  try {
    return new SnapshotReader(file, name, logId, metadata);
  } catch (error) {
    file.close().catch(() => {});
    throw error;
  }
}

/**
 * Checks that the file is there, of this log and this snapshot, and as long as its end says. Gives its data's bytes.
 * @throws ERR_CORRUPT, ERR_FOREIGN, ERR_FORMAT_VERSION, ERR_READ.
 */
export function inspectSnapshot(disk: Disk, dir: string, logId: Uint8Array, metadata: SnapshotMetadata): number {
  const reader = openSnapshot(disk, dir, logId, metadata);
  try {
    return reader.totalBytes();
  } finally {
    reader.close().catch(() => {});
  }
}

/** Reads the data at once; empty when it has more than `maxBytes`. */
export function loadSnapshot(
  disk: Disk,
  dir: string,
  logId: Uint8Array,
  metadata: SnapshotMetadata,
  maxBytes: number,
): Uint8Array {
  const reader = openSnapshot(disk, dir, logId, metadata);
  try {
    const total = reader.totalBytes();
    if (total > maxBytes) return new Uint8Array(0);
    const data = new Uint8Array(total);
    let at = 0;
    for (let head = reader.nextHead(); head !== undefined; head = reader.nextHead()) {
      if (at + head.bytes > total)
        throw corrupt(snapshotName(metadata), reader.endAt(), "it holds more than its end says");
      data.set(reader.chunkNow(head), at);
      at += head.bytes;
    }
    return data;
  } finally {
    reader.close().catch(() => {});
  }
}

/** Reads the data as a stream; the file is open while it is read. */
export async function* streamSnapshot(
  disk: Disk,
  dir: string,
  logId: Uint8Array,
  metadata: SnapshotMetadata,
): AsyncGenerator<Uint8Array> {
  const reader = openSnapshot(disk, dir, logId, metadata);
  try {
    for (let head = reader.nextHead(); head !== undefined; head = reader.nextHead())
      yield await reader.chunkLater(head);
  } finally {
    await reader.close();
  }
}
