// FileDisk: Disk over node:fs. The calls a log waits for are blocking ones on the caller's thread (write, sync) or run on the
// commit thread (sync-worker.ts); the rest goes through libuv's pool. Every read and write names its position, so that no
// handle has a place of its own to lose. The directory lock is in directory-lock.ts.
//
// Where node's permission model is on, it refuses syncs by descriptor and grants them by FileHandle. Files then carry a
// FileHandle, sync() throws, and everything that must be durable goes through FileHandle.datasync(): no call of this file
// returns as synced without a sync that returned.

import * as fs from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { assert } from "../base/assert.js";
import { errnoOf } from "../base/errors.js";
import { randomFill } from "../base/random.js";
import { type LockMode, lockDirectory } from "./directory-lock.js";
import type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "./disk.js";
import { MAX_TRANSFER_BYTES, SyncWorker } from "./sync-worker.js";
import { isForeign, notRegular, systemError, withBytesWritten } from "./system-error.js";

/** What a test or an unusual host may force; the defaults find out by themselves. */
export interface FileDiskOptions {
  /** False: never sync by descriptor, as under node's permission model. Default: whether that model is off. */
  readonly fdSyncs?: boolean | undefined;
  /** "file": the lock file alone decides, as where abstract sockets are missing. Default "auto". */
  readonly lockMode?: LockMode | undefined;
}

// Windows has neither flag: fs.constants leaves them out.
const O_NOFOLLOW = fs.constants.O_NOFOLLOW ?? 0;
const O_DIRECTORY = fs.constants.O_DIRECTORY ?? 0;
// O_NONBLOCK: opening a FIFO that nobody writes to must fail the check for a regular file, not wait for a writer.
const SAFELY = O_NOFOLLOW | (fs.constants.O_NONBLOCK ?? 0);

const openFlags: Readonly<Record<OpenMode, number>> = {
  read: fs.constants.O_RDONLY | SAFELY,
  write: fs.constants.O_RDWR | SAFELY,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL | SAFELY,
};

// Windows cannot sync a directory and says so with one of these; anywhere else they are failures.
const undirSyncable: ReadonlySet<string | undefined> = new Set(["EPERM", "EISDIR", "EINVAL"]);

const CLOSED = -1;

export class FileDisk implements Disk {
  readonly syncsNow: boolean;
  readonly #lockMode: LockMode;
  readonly #worker: SyncWorker;

  constructor(options: FileDiskOptions = {}) {
    this.syncsNow = options.fdSyncs ?? process.permission === undefined;
    this.#lockMode = options.lockMode ?? "auto";
    this.#worker = new SyncWorker(async (fd, source, start, end, position) => {
      await writeAll(fd, source, start, end, position);
      await syncInPool(fd, end - start);
    });
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    refuseLink(path);
    let fd: number;
    let handle: FileHandle | undefined;
    try {
      if (this.syncsNow) {
        fd = await openDescriptor(path, openFlags[mode]);
      } else {
        handle = await fs.promises.open(path, openFlags[mode], 0o600);
        fd = handle.fd;
      }
    } catch (error) {
      throw isForeign(error) ? notRegular("open", path, error) : error;
    }
    try {
      if (!fs.fstatSync(fd).isFile()) throw notRegular("open", path);
    } catch (error) {
      await closeFile(fd, handle);
      throw error;
    }
    return new FileDiskFile(fd, handle, this.#worker);
  }

  openNow(path: string): DiskFile {
    refuseLink(path);
    let fd: number;
    try {
      fd = fs.openSync(path, openFlags.read);
    } catch (error) {
      throw isForeign(error) ? notRegular("open", path, error) : error;
    }
    try {
      if (!fs.fstatSync(fd).isFile()) throw notRegular("open", path);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    // Even where syncs go by FileHandle it needs none: a file open for reading has nothing to sync.
    return new FileDiskFile(fd, undefined, this.#worker);
  }

  list(dir: string): Promise<string[]> {
    return fs.promises.readdir(dir);
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    try {
      const found = await fs.promises.lstat(path);
      return { kind: found.isFile() ? "file" : found.isDirectory() ? "directory" : "other", size: found.size };
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  mkdir(path: string): Promise<void> {
    return fs.promises.mkdir(path, 0o700);
  }

  rename(from: string, to: string): Promise<void> {
    return fs.promises.rename(from, to);
  }

  unlink(path: string): Promise<void> {
    return fs.promises.unlink(path);
  }

  async syncDir(dir: string): Promise<void> {
    try {
      const handle = await fs.promises.open(dir, fs.constants.O_RDONLY | O_DIRECTORY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (process.platform !== "win32" || !undirSyncable.has(errnoOf(error))) throw error;
    }
  }

  lock(dir: string): Promise<DiskLock> {
    return lockDirectory(dir, this.#lockMode);
  }

  /** Shared memory throughout: node's fs calls and checksums take it as they take any other, and the commit thread needs no copy. */
  allocate(bytes: number): Uint8Array {
    return new Uint8Array(new SharedArrayBuffer(bytes));
  }

  entropy(target: Uint8Array): void {
    randomFill(target);
  }

  /** Ends the commit thread once its commits are done; a later commit starts another. Not needed for the process to exit. */
  dispose(): Promise<void> {
    return this.#worker.dispose();
  }
}

class FileDiskFile implements DiskFile {
  /** CLOSED from the call of close() on. */
  #fd: number;
  /** Present where syncs by descriptor are forbidden; owns #fd then. */
  readonly #handle: FileHandle | undefined;
  readonly #worker: SyncWorker;
  /** Calls under way in the pool or on the commit thread that name the descriptor. */
  #inFlight = 0;
  #committing = false;
  #whenIdle: (() => void) | undefined;

  constructor(fd: number, handle: FileHandle | undefined, worker: SyncWorker) {
    this.#fd = fd;
    this.#handle = handle;
    this.#worker = worker;
  }

  size(): number {
    return fs.fstatSync(this.#descriptor("fstat")).size;
  }

  read(target: Uint8Array, start: number, end: number, position: number): number {
    const fd = this.#descriptor("read");
    let done = start;
    while (done < end) {
      const length = Math.min(end - done, MAX_TRANSFER_BYTES);
      const bytes = fs.readSync(fd, target, done, length, position + done - start);
      if (bytes === 0) break;
      done += bytes;
    }
    return done - start;
  }

  async readLater(target: Uint8Array, start: number, end: number, position: number): Promise<number> {
    const fd = this.#enter("read");
    try {
      let done = start;
      while (done < end) {
        const length = Math.min(end - done, MAX_TRANSFER_BYTES);
        const bytes = await readSome(fd, target, done, length, position + done - start);
        if (bytes === 0) break;
        done += bytes;
      }
      return done - start;
    } finally {
      this.#leave();
    }
  }

  write(source: Uint8Array, start: number, end: number, position: number): void {
    const fd = this.#descriptor("write");
    let done = start;
    try {
      // libuv goes on after a short write by itself and drops the errno of the part that failed: fewer bytes than asked
      // for mean that an error has just happened, and writing the rest brings it up.
      while (done < end) {
        const length = Math.min(end - done, MAX_TRANSFER_BYTES);
        const bytes = fs.writeSync(fd, source, done, length, position + done - start);
        if (bytes === 0) throw stuck(length);
        done += bytes;
      }
    } catch (error) {
      throw withBytesWritten(error, done - start);
    }
  }

  sync(): void {
    const fd = this.#descriptor("fdatasync");
    if (this.#handle !== undefined) throw systemError("ERR_ACCESS_DENIED", "fdatasync");
    fs.fdatasyncSync(fd);
  }

  async commit(source: Uint8Array, start: number, end: number, position: number): Promise<void> {
    assert(!this.#committing, "one commit at a time a file");
    const fd = this.#enter("write");
    this.#committing = true;
    try {
      if (this.#handle === undefined) await this.#worker.commit(fd, source, start, end, position);
      else await this.#writeAndSync(fd, source, start, end, position, true);
    } finally {
      this.#committing = false;
      this.#leave();
    }
  }

  async writeLater(source: Uint8Array, start: number, end: number, position: number, sync: boolean): Promise<void> {
    const fd = this.#enter("write");
    try {
      await this.#writeAndSync(fd, source, start, end, position, sync);
    } finally {
      this.#leave();
    }
  }

  async truncate(bytes: number): Promise<void> {
    const fd = this.#enter("ftruncate");
    try {
      await new Promise<void>((resolve, reject) => fs.ftruncate(fd, bytes, settle(resolve, reject)));
    } finally {
      this.#leave();
    }
  }

  async close(): Promise<void> {
    const fd = this.#descriptor("close");
    this.#fd = CLOSED;
    // Once closed, the number may be given to another file at any moment; a call still under way would write into that one.
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    }
    await closeFile(fd, this.#handle);
  }

  async #writeAndSync(
    fd: number,
    source: Uint8Array,
    start: number,
    end: number,
    position: number,
    sync: boolean,
  ): Promise<void> {
    await writeAll(fd, source, start, end, position);
    if (sync) await syncInPool(fd, end - start, this.#handle);
  }

  #descriptor(syscall: string): number {
    if (this.#fd === CLOSED) throw systemError("EBADF", syscall);
    return this.#fd;
  }

  #enter(syscall: string): number {
    const fd = this.#descriptor(syscall);
    this.#inFlight++;
    return fd;
  }

  #leave(): void {
    if (--this.#inFlight === 0) this.#whenIdle?.();
  }
}

/** The asynchronous twin of FileDiskFile.write(); the note on short writes there holds here. */
async function writeAll(fd: number, source: Uint8Array, start: number, end: number, position: number): Promise<void> {
  let done = start;
  try {
    while (done < end) {
      const length = Math.min(end - done, MAX_TRANSFER_BYTES);
      const bytes = await writeSome(fd, source, done, length, position + done - start);
      if (bytes === 0) throw stuck(length);
      done += bytes;
    }
  } catch (error) {
    throw withBytesWritten(error, done - start);
  }
}

/** fdatasync off the event loop; a failure says that the write before it, of `bytesWritten`, went through. */
async function syncInPool(fd: number, bytesWritten: number, handle?: FileHandle): Promise<void> {
  try {
    if (handle !== undefined) await handle.datasync();
    else await new Promise<void>((resolve, reject) => fs.fdatasync(fd, settle(resolve, reject)));
  } catch (error) {
    throw withBytesWritten(error, bytesWritten);
  }
}

function writeSome(fd: number, source: Uint8Array, start: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => fs.write(fd, source, start, length, position, settle(resolve, reject)));
}

function readSome(fd: number, target: Uint8Array, start: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => fs.read(fd, target, start, length, position, settle(resolve, reject)));
}

function openDescriptor(path: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => fs.open(path, flags, 0o600, settle(resolve, reject)));
}

function closeFile(fd: number, handle: FileHandle | undefined): Promise<void> {
  if (handle !== undefined) return handle.close();
  return new Promise((resolve, reject) => fs.close(fd, settle(resolve, reject)));
}

/** A node callback that settles a promise. */
function settle<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null | undefined, value: T) => void {
  return (error, value) => {
    if (error) reject(error);
    else resolve(value);
  };
}

/** Where open() cannot be told to stay off symbolic links (Windows). A link put there after this look is followed. */
function refuseLink(path: string): void {
  if (O_NOFOLLOW !== 0) return;
  if (fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) throw notRegular("open", path);
}

function stuck(length: number): Error {
  return systemError("EIO", "write", undefined, `no byte of ${length} was written`);
}
