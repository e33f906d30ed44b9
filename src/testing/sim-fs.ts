// SimFs: a simulated disk under the names and manners of node:fs/promises, so that code written against node runs on it
// unchanged: it is handed `disk.fs` where it would import node:fs/promises. Used by whoever tests code of their own, and
// by simulate.ts on their behalf. Every call is made of the disk's own operations, so that faults, latency, the trace and
// crash points meet it as they meet a Disk.
//
// Promises: results and errors are node's (code, errno, syscall, path, message), and so is what a crash may leave: nothing is
// durable but by handle.sync() or datasync() on the file, and on its directory for the name. A relative path begins at the
// root, and ".." is worked out in the text of a path. There are no links, owners, rights and times: link() and symlink()
// fail with EPERM as on a file system without them, chmod(), chown() and utimes() change nothing, times are 0.

import constants from "node:constants";
import { EventEmitter } from "node:events";
import os from "node:os";
import { posix } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { Readable, type Stream, Writable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { getSystemErrorMap } from "node:util";
import { dateAt } from "../base/clock.js";
import type { DiskOperation } from "./fault-plan.js";
import type { Inode } from "./sim-tree.js";

/** What SimFs asks of its disk. Paths are absolute; SimDisk tells of each method. */
export interface SimFsDisk {
  entropy(target: Uint8Array): void;
  wait(operation: DiskOperation): Promise<void>;
  /** What stands there, without an operation; throws when a file stands on the way. */
  peek(path: string): Inode | undefined;
  lookup(path: string, opened?: Inode): Promise<Inode | undefined>;
  list(dir: string): Promise<string[]>;
  mkdir(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  syncDir(dir: string, opened?: Inode): Promise<void>;
  openInode(
    path: string,
    options: { readonly create: boolean; readonly exclusive: boolean; readonly writable: boolean },
  ): Inode;
  closed(inode: Inode): void;
  readLater(inode: Inode, target: Uint8Array, start: number, end: number, position: number): Promise<number>;
  writeLater(inode: Inode, source: Uint8Array, start: number, end: number, position: number | "end"): Promise<number>;
  syncLater(inode: Inode): Promise<void>;
  truncateLater(inode: Inode, bytes: number): Promise<void>;
  truncateNow(inode: Inode, bytes: number): void;
}

// ---- node's words, written down here because src/testing may not know node:fs

type PathLike = string | Buffer | URL;
type Mode = number | string;
type OpenFlags = number | string;
type TimeLike = string | number | Date;
type Bytes = Buffer<ArrayBuffer>;
type View = NodeJS.ArrayBufferView;
type Chunks = Iterable<string | View> | AsyncIterable<string | View>;

/** A FileHandle where a path may stand too; only one of the same disk works. */
interface AnyHandle {
  readonly fd: number;
}

interface Abortable {
  signal?: AbortSignal | undefined;
}

interface Encoded {
  encoding?: BufferEncoding | null | undefined;
}

interface Flagged {
  mode?: Mode | undefined;
  flag?: OpenFlags | undefined;
}

interface Flushed {
  flush?: boolean | undefined;
}

interface AsBuffers {
  encoding: "buffer";
}

interface ReadOptions {
  offset?: number | null | undefined;
  length?: number | null | undefined;
  position?: number | bigint | null | undefined;
}

interface StreamOptions extends Encoded, Abortable {
  autoClose?: boolean | undefined;
  start?: number | undefined;
  end?: number | undefined;
  highWaterMark?: number | undefined;
}

// Windows leaves these out.
const O_SYNC = constants.O_SYNC ?? 0;
const O_DSYNC = constants.O_DSYNC ?? 0;
const O_DIRECTORY = constants.O_DIRECTORY ?? 0;
const O_ACCMODE = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR;

/** node's words for flags; each may stand in another order too. */
const flagWords: Readonly<Record<string, number>> = {
  r: constants.O_RDONLY,
  rs: constants.O_RDONLY | O_SYNC,
  sr: constants.O_RDONLY | O_SYNC,
  "r+": constants.O_RDWR,
  "rs+": constants.O_RDWR | O_SYNC,
  "sr+": constants.O_RDWR | O_SYNC,
  w: constants.O_TRUNC | constants.O_CREAT | constants.O_WRONLY,
  wx: constants.O_TRUNC | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  xw: constants.O_TRUNC | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  "w+": constants.O_TRUNC | constants.O_CREAT | constants.O_RDWR,
  "wx+": constants.O_TRUNC | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
  "xw+": constants.O_TRUNC | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
  a: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY,
  ax: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  xa: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | constants.O_EXCL,
  as: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | O_SYNC,
  sa: constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | O_SYNC,
  "a+": constants.O_APPEND | constants.O_CREAT | constants.O_RDWR,
  "ax+": constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
  "xa+": constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | constants.O_EXCL,
  "as+": constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | O_SYNC,
  "sa+": constants.O_APPEND | constants.O_CREAT | constants.O_RDWR | O_SYNC,
};

/** Bytes that readFile() and writeFile() hand over at a time; node's own figure, so that a tear can fall in the same places. */
const CHUNK_BYTES = 512 * 1024;
/** The first descriptor: 0, 1 and 2 are spoken for. */
const FIRST_FD = 3;
const MKDTEMP_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

// ---- errors

interface NodeError extends Error {
  errno: number;
  code: string;
  syscall: string;
  path?: string;
  dest?: string;
}

let byCode: Map<string, readonly [errno: number, text: string]> | undefined;

/** The error that node gives when the system answers with `code`. */
function nodeError(code: string, syscall: string, path?: string, dest?: string): NodeError {
  if (byCode === undefined) {
    byCode = new Map();
    for (const [errno, [name, text]] of getSystemErrorMap()) byCode.set(name, [errno, text]);
  }
  const errnos: Readonly<Record<string, number>> = os.constants.errno;
  const [errno, text] = byCode.get(code) ?? [-(errnos[code] ?? 0), "unknown error"];
  const place = path === undefined ? "" : dest === undefined ? ` '${path}'` : ` '${path}' -> '${dest}'`;
  const error = new Error(`${code}: ${text}, ${syscall}${place}`) as NodeError;
  error.errno = errno;
  error.code = code;
  error.syscall = syscall;
  if (path !== undefined) error.path = path;
  if (dest !== undefined) error.dest = dest;
  return error;
}

/** The disk's error as node would give it; what is none of the system's passes as it is. */
function asNode(error: unknown, syscall: string, path?: string, dest?: string): unknown {
  if (!(error instanceof Error)) return error;
  const { code, syscall: failed, errno } = error as Partial<NodeError>;
  if (typeof code !== "string" || typeof failed !== "string" || errno !== undefined) return error;
  return nodeError(code, syscall, path, dest);
}

/** An argument that node would not take. */
function argumentError(
  kind: typeof TypeError | typeof RangeError,
  code: "ERR_INVALID_ARG_TYPE" | "ERR_INVALID_ARG_VALUE" | "ERR_OUT_OF_RANGE" | "ERR_INVALID_URL_SCHEME",
  message: string,
): Error {
  return Object.assign(new kind(message), { code });
}

function expectInteger(value: unknown, name: string, from: number, to = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== "number") {
    throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "${name}" argument must be of type number`);
  }
  if (!Number.isInteger(value) || value < from || value > to) {
    const range = `It must be an integer >= ${from} && <= ${to}. Received ${value}`;
    throw argumentError(RangeError, "ERR_OUT_OF_RANGE", `The value of "${name}" is out of range. ${range}`);
  }
  return value;
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const error = new Error("The operation was aborted", { cause: signal.reason });
  error.name = "AbortError";
  throw Object.assign(error, { code: "ABORT_ERR" });
}

// ---- arguments

/** A path as its caller wrote it, for errors. */
function textOf(path: unknown, name = "path"): string {
  let text: string;
  if (typeof path === "string") text = path;
  else if (path instanceof Uint8Array) text = Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString();
  else if (path instanceof URL) {
    if (path.protocol !== "file:") {
      throw argumentError(TypeError, "ERR_INVALID_URL_SCHEME", "The URL must be of scheme file");
    }
    text = decodeURIComponent(path.pathname);
  } else {
    const types = "of type string or an instance of Buffer or URL";
    throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "${name}" argument must be ${types}`);
  }
  if (text.includes("\0")) {
    const detail = "must be a string, Uint8Array, or URL without null bytes";
    throw argumentError(TypeError, "ERR_INVALID_ARG_VALUE", `The argument '${name}' ${detail}`);
  }
  return text;
}

/** "name/" says that it is a directory. */
function saysDirectory(text: string): boolean {
  return /\/\.?$/.test(text);
}

/** The absolute path on the disk. What path.join() and path.resolve() make on Windows is understood there. */
function placeOf(text: string): string {
  const slashed = process.platform === "win32" ? text.replace(/^[a-z]:/i, "").replaceAll("\\", "/") : text;
  return posix.resolve("/", slashed);
}

function flagsOf(flags: unknown, name = "flags"): number {
  if (typeof flags === "number") return expectInteger(flags, name, -2147483648, 2147483647);
  if (flags === undefined || flags === null) return constants.O_RDONLY;
  const found = typeof flags === "string" && Object.hasOwn(flagWords, flags) ? flagWords[flags] : undefined;
  if (found === undefined) {
    throw argumentError(TypeError, "ERR_INVALID_ARG_VALUE", `The argument '${name}' is invalid. Received ${flags}`);
  }
  return found;
}

/** Options that may be given as the name of an encoding alone. */
function optionsOf<T extends object>(options: unknown): T & { encoding?: string | null | undefined } {
  if (options === undefined || options === null || typeof options === "function") return {} as T;
  const given = typeof options === "string" ? { encoding: options } : options;
  if (typeof given !== "object") {
    const types = "of type string or an instance of Object";
    throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "options" argument must be ${types}`);
  }
  const { encoding } = given as { encoding?: unknown };
  if (encoding !== undefined && encoding !== null && encoding !== "buffer" && !Buffer.isEncoding(String(encoding))) {
    const received = `Received '${String(encoding)}'`;
    throw argumentError(TypeError, "ERR_INVALID_ARG_VALUE", `The argument 'encoding' is invalid encoding. ${received}`);
  }
  return given as T;
}

function bytesOfView(view: View): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function asEncoded(name: string, encoding: string | null | undefined): string | Buffer {
  if (encoding === "buffer") return Buffer.from(name);
  if (encoding === undefined || encoding === null || encoding === "utf8" || encoding === "utf-8") return name;
  return Buffer.from(name).toString(encoding as BufferEncoding);
}

function isChunks(data: unknown): data is Chunks {
  if (typeof data !== "object" || data === null || ArrayBuffer.isView(data)) return false;
  return Symbol.iterator in data || Symbol.asyncIterator in data;
}

function bytesOf(data: unknown, encoding: string | null | undefined): Uint8Array {
  if (ArrayBuffer.isView(data)) return bytesOfView(data as View);
  if (typeof data === "string") return Buffer.from(data, (encoding ?? "utf8") as BufferEncoding);
  const types = "of type string or an instance of Buffer, TypedArray, or DataView";
  throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "data" argument must be ${types}`);
}

/** Holds a range of a buffer to its length, as node does. */
function expectInside(offset: number, length: number, byteLength: number): void {
  if (offset > byteLength) expectInteger(offset, "offset", 0, byteLength);
  expectInteger(length, "length", 0, byteLength - offset);
}

// ---- what is told of a file

type Whole = number | bigint;

/** What node calls Stats and BigIntStats. */
export class SimStats<T extends Whole = number> {
  readonly dev: T;
  readonly ino: T;
  readonly mode: T;
  readonly nlink: T;
  readonly uid: T;
  readonly gid: T;
  readonly rdev: T;
  readonly size: T;
  readonly blksize: T;
  readonly blocks: T;
  readonly atimeMs: T;
  readonly mtimeMs: T;
  readonly ctimeMs: T;
  readonly birthtimeMs: T;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;
  readonly #file: boolean;

  constructor(inode: Inode, whole: (value: number) => T) {
    const { state } = inode;
    const size = state.kind === "file" ? state.size : 4096;
    const zero = whole(0);
    this.#file = inode.isFile;
    this.dev = whole(1);
    this.ino = whole(inode.id);
    this.mode = whole(this.#file ? constants.S_IFREG | 0o644 : constants.S_IFDIR | 0o755);
    this.nlink = whole(this.#file ? 1 : 2);
    this.uid = zero;
    this.gid = zero;
    this.rdev = zero;
    this.size = whole(size);
    this.blksize = whole(4096);
    this.blocks = whole(Math.ceil(size / 512));
    this.atimeMs = zero;
    this.mtimeMs = zero;
    this.ctimeMs = zero;
    this.birthtimeMs = zero;
    this.atime = dateAt(0);
    this.mtime = dateAt(0);
    this.ctime = dateAt(0);
    this.birthtime = dateAt(0);
  }

  isFile(): boolean {
    return this.#file;
  }

  isDirectory(): boolean {
    return !this.#file;
  }

  isBlockDevice(): boolean {
    return false;
  }

  isCharacterDevice(): boolean {
    return false;
  }

  isSymbolicLink(): boolean {
    return false;
  }

  isFIFO(): boolean {
    return false;
  }

  isSocket(): boolean {
    return false;
  }
}

/** SimStats with times in nanoseconds. */
export class SimBigIntStats extends SimStats<bigint> {
  readonly atimeNs = 0n;
  readonly mtimeNs = 0n;
  readonly ctimeNs = 0n;
  readonly birthtimeNs = 0n;

  constructor(inode: Inode) {
    super(inode, BigInt);
  }
}

function statsOf(inode: Inode, options: { bigint?: boolean | undefined } | undefined): SimStats | SimBigIntStats {
  return options?.bigint === true ? new SimBigIntStats(inode) : new SimStats(inode, (value) => value);
}

/** What node calls Dirent: a name of a directory, and what stands under it. */
export class SimDirent<Name extends string | Buffer = string> {
  readonly name: Name;
  /** The directory it is in. */
  readonly parentPath: string;
  /** The same, under the name it had before. */
  readonly path: string;
  readonly #file: boolean;

  constructor(name: Name, parentPath: string, file: boolean) {
    this.name = name;
    this.parentPath = parentPath;
    this.path = parentPath;
    this.#file = file;
  }

  isFile(): boolean {
    return this.#file;
  }

  isDirectory(): boolean {
    return !this.#file;
  }

  isBlockDevice(): boolean {
    return false;
  }

  isCharacterDevice(): boolean {
    return false;
  }

  isSymbolicLink(): boolean {
    return false;
  }

  isFIFO(): boolean {
    return false;
  }

  isSocket(): boolean {
    return false;
  }
}

// ---- handles

/** What node calls ReadStream, of a handle. */
export class SimReadStream extends Readable {
  readonly path = "";
  /** Bytes so far. */
  bytesRead = 0;
  readonly pending = false;
  readonly #handle: SimFileHandle;
  readonly #autoClose: boolean;
  #position: number | null;
  #left: number;

  constructor(handle: SimFileHandle, options: StreamOptions = {}) {
    const { start, end = Number.POSITIVE_INFINITY, encoding, highWaterMark = 64 * 1024, signal } = options;
    super({
      highWaterMark,
      ...(encoding === undefined || encoding === null ? {} : { encoding }),
      ...(signal === undefined ? {} : { signal }),
    });
    this.#handle = handle;
    this.#autoClose = options.autoClose ?? true;
    this.#position = start ?? null;
    this.#left = end - (start ?? 0) + 1;
  }

  close(callback?: (error?: NodeJS.ErrnoException | null) => void): void {
    if (callback !== undefined) this.once("close", callback);
    this.destroy();
  }

  override _read(size: number): void {
    const target = Buffer.alloc(Math.min(size, this.#left));
    this.#handle.read(target, 0, target.length, this.#position).then(
      ({ bytesRead }) => {
        this.bytesRead += bytesRead;
        this.#left -= bytesRead;
        if (this.#position !== null) this.#position += bytesRead;
        this.push(bytesRead === 0 ? null : target.subarray(0, bytesRead));
      },
      (error: Error) => this.destroy(error),
    );
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    settleStream(this.#handle, this.#autoClose, error, callback);
  }
}

/** What node calls WriteStream, of a handle. */
export class SimWriteStream extends Writable {
  readonly path = "";
  /** Bytes so far. */
  bytesWritten = 0;
  readonly pending = false;
  readonly #handle: SimFileHandle;
  readonly #autoClose: boolean;
  readonly #flush: boolean;
  #position: number | null;

  constructor(handle: SimFileHandle, options: StreamOptions & Flushed = {}) {
    const { encoding, highWaterMark, start } = options;
    super({
      decodeStrings: true,
      ...(encoding === undefined || encoding === null ? {} : { defaultEncoding: encoding }),
      ...(highWaterMark === undefined ? {} : { highWaterMark }),
    });
    this.#handle = handle;
    this.#autoClose = options.autoClose ?? true;
    this.#flush = options.flush ?? false;
    this.#position = start ?? null;
  }

  close(callback?: (error?: NodeJS.ErrnoException | null) => void): void {
    if (callback !== undefined) this.once("close", callback);
    this.end();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#writeAll(chunk).then(() => callback(), callback);
  }

  async #writeAll(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await this.#handle.write(chunk, at, chunk.length - at, this.#position);
      if (bytesWritten === 0) throw nodeError("EIO", "write");
      at += bytesWritten;
      this.bytesWritten += bytesWritten;
      if (this.#position !== null) this.#position += bytesWritten;
    }
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (!this.#flush) callback();
    else this.#handle.sync().then(() => callback(), callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    settleStream(this.#handle, this.#autoClose, error, callback);
  }
}

function settleStream(
  handle: SimFileHandle,
  autoClose: boolean,
  error: Error | null,
  callback: (error?: Error | null) => void,
): void {
  if (autoClose) handle.close().then(() => callback(error), callback);
  else callback(error);
}

/** What an open file may be used for. */
interface Access {
  readonly readable: boolean;
  readonly writable: boolean;
  /** Writes go to the end, whatever they say. */
  readonly append: boolean;
  /** Every write is synced before it returns. */
  readonly synced: boolean;
}

/** What node calls FileHandle. Given out by SimFs.open(). */
export class SimFileHandle extends EventEmitter {
  readonly #disk: SimFsDisk;
  readonly #inode: Inode;
  readonly #path: string;
  readonly #access: Access;
  #fd: number;
  #position = 0;
  /** What uses it now, the one who opened it included: the last one closes it. */
  #users = 1;
  #closing: { readonly done: Promise<void>; readonly last: () => void } | undefined;
  /** What goes by the current position goes one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(disk: SimFsDisk, inode: Inode, path: string, access: Access, fd: number) {
    super();
    this.#disk = disk;
    this.#inode = inode;
    this.#path = path;
    this.#access = access;
    this.#fd = fd;
  }

  /** A number of its own on this disk, -1 once closed. No descriptor of the process. */
  get fd(): number {
    return this.#fd;
  }

  /** The disk it is of. @internal */
  isOf(disk: SimFsDisk): boolean {
    return this.#disk === disk;
  }

  async #use<T>(name: string, work: () => Promise<T>, syscall = name): Promise<T> {
    if (this.#fd === -1) throw Object.assign(new Error("file closed"), { code: "EBADF", syscall: name });
    this.#users++;
    try {
      return await work();
    } catch (error) {
      throw asNode(error, syscall);
    } finally {
      if (--this.#users === 0) this.#closing?.last();
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  // ---- reading

  read<T extends View>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends View>(buffer: T, options?: ReadOptions): Promise<{ bytesRead: number; buffer: T }>;
  read<T extends View = Bytes>(options?: ReadOptions & { buffer?: T }): Promise<{ bytesRead: number; buffer: T }>;
  /** Reads once, into all of the buffer or a range of it; at the current position when `position` is null or left out. */
  read(
    first?: View | (ReadOptions & { buffer?: View }) | null,
    second?: number | ReadOptions | null,
    third?: number | null,
    fourth?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: View }> {
    return this.#use("read", async () => {
      let buffer: View;
      let options: ReadOptions;
      if (ArrayBuffer.isView(first)) {
        buffer = first;
        options =
          typeof second === "object" && second !== null ? second : { offset: second, length: third, position: fourth };
      } else {
        if (first !== undefined && first !== null && typeof first !== "object") {
          throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", 'The "options" argument must be of type object');
        }
        options = first ?? {};
        buffer = first?.buffer ?? Buffer.alloc(16384);
        if (!ArrayBuffer.isView(buffer)) {
          const types = "an instance of Buffer, TypedArray, or DataView";
          throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "buffer" argument must be ${types}`);
        }
      }
      const offset = options.offset == null ? 0 : expectInteger(options.offset, "offset", 0);
      const length = options.length ?? buffer.byteLength - offset;
      if (length === 0) return { bytesRead: 0, buffer };
      if (buffer.byteLength === 0) {
        const detail = "is empty and cannot be written";
        throw argumentError(TypeError, "ERR_INVALID_ARG_VALUE", `The argument 'buffer' ${detail}`);
      }
      expectInside(offset, length, buffer.byteLength);
      const bytesRead = await this.#read(
        bytesOfView(buffer),
        offset,
        offset + length,
        placed(options.position, length),
      );
      return { bytesRead, buffer };
    });
  }

  /** Reads at `position`, or at the current one when that is undefined. */
  async #read(target: Uint8Array, start: number, end: number, position: number | undefined): Promise<number> {
    if (!this.#access.readable) throw nodeError("EBADF", "read");
    if (!this.#inode.isFile) throw nodeError("EISDIR", "read");
    if (position !== undefined) return this.#disk.readLater(this.#inode, target, start, end, position);
    return this.#inTurn(async () => {
      const bytes = await this.#disk.readLater(this.#inode, target, start, end, this.#position);
      this.#position += bytes;
      return bytes;
    });
  }

  /** Reads once, into these buffers one after the other. */
  readv<T extends readonly View[]>(buffers: T, position?: number | null): Promise<{ bytesRead: number; buffers: T }> {
    return this.#use(
      "readv",
      async () => {
        expectViews(buffers);
        const total = buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
        if (total === 0) return { bytesRead: 0, buffers };
        const joined = new Uint8Array(total);
        const bytesRead = await this.#read(joined, 0, total, placed(position, total));
        let from = 0;
        for (const buffer of buffers) {
          const part = bytesOfView(buffer);
          part.set(joined.subarray(from, Math.min(from + part.length, bytesRead)));
          from = Math.min(from + part.length, bytesRead);
        }
        return { bytesRead, buffers };
      },
      "read",
    );
  }

  readFile(options?: ({ encoding?: null | undefined } & Abortable) | null): Promise<Bytes>;
  readFile(options: ({ encoding: BufferEncoding } & Abortable) | BufferEncoding): Promise<string>;
  readFile(options?: (Encoded & Abortable) | BufferEncoding | null): Promise<string | Bytes>;
  /** Reads on from the current position to the end. */
  readFile(options?: (Encoded & Abortable) | BufferEncoding | null): Promise<string | Bytes> {
    return this.#use(
      "readFile",
      async () => {
        const { encoding, signal } = optionsOf<Abortable>(options);
        const all = await this.#rest(signal);
        return encoding === undefined || encoding === null ? all : all.toString(encoding as BufferEncoding);
      },
      "read",
    );
  }

  async #rest(signal: AbortSignal | undefined): Promise<Bytes> {
    throwIfAborted(signal);
    const { state } = this.#inode;
    const parts: Buffer[] = [];
    let bytes = 0;
    const wanted = state.kind === "file" ? state.size - this.#position : 0;
    do {
      // Of a file that has grown since, as much as there is.
      const part = Buffer.alloc(Math.min(CHUNK_BYTES, Math.max(wanted - bytes, 4096)));
      const read = await this.#read(part, 0, part.length, undefined);
      throwIfAborted(signal);
      if (read === 0) break;
      parts.push(part.subarray(0, read));
      bytes += read;
    } while (bytes !== wanted);
    return Buffer.concat(parts, bytes) as Bytes;
  }

  /** A stream of the file; without `start`, from the current position on. It closes the handle unless `autoClose` is false. */
  createReadStream(options?: StreamOptions): SimReadStream {
    return new SimReadStream(this, options);
  }

  readableWebStream(_options?: { type?: "bytes" | undefined }): ReadableStream {
    return Readable.toWeb(this.createReadStream({ autoClose: false })) as ReadableStream;
  }

  /** The lines of the file. */
  readLines(options?: StreamOptions): Interface {
    return createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  // ---- writing

  write<T extends View>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }>;
  write<T extends View>(buffer: T, options?: ReadOptions): Promise<{ bytesWritten: number; buffer: T }>;
  write(
    text: string,
    position?: number | null,
    encoding?: BufferEncoding | null,
  ): Promise<{ bytesWritten: number; buffer: string }>;
  /**
   * Writes once; fewer bytes than asked for when a fault or the capacity says so. At the current position when `position` is
   * no number. A view is read when the operation takes effect, not when it is called.
   */
  write(
    data: View | string,
    second?: number | ReadOptions | null,
    third?: number | BufferEncoding | null,
    fourth?: number | null,
  ): Promise<{ bytesWritten: number; buffer: View | string }> {
    return this.#use<{ bytesWritten: number; buffer: View | string }>("write", async () => {
      if (ArrayBuffer.isView(data)) {
        if (data.byteLength === 0) return { bytesWritten: 0, buffer: data };
        const options =
          typeof second === "object" && second !== null
            ? second
            : { offset: second, length: third as number, position: fourth };
        const offset = options.offset == null ? 0 : expectInteger(options.offset, "offset", 0);
        const length = typeof options.length === "number" ? options.length : data.byteLength - offset;
        expectInside(offset, length, data.byteLength);
        const place = typeof options.position === "number" ? options.position : null;
        const bytesWritten = await this.#write(bytesOfView(data), offset, offset + length, placed(place, length));
        return { bytesWritten, buffer: data };
      }
      if (typeof data !== "string") {
        const types = "of type string or an instance of Buffer, TypedArray, or DataView";
        throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", `The "buffer" argument must be ${types}`);
      }
      const bytes = bytesOf(data, typeof third === "string" ? third : undefined);
      const place = typeof second === "number" ? second : null;
      const bytesWritten = await this.#write(bytes, 0, bytes.length, placed(place, bytes.length));
      return { bytesWritten, buffer: data };
    });
  }

  /** Writes at `position`, or at the current one when that is undefined. */
  async #write(source: Uint8Array, start: number, end: number, position: number | undefined): Promise<number> {
    const { writable, append, synced } = this.#access;
    if (!writable) throw nodeError("EBADF", "write");
    if (start === end) return 0;
    const disk = this.#disk;
    const inode = this.#inode;
    let bytes: number;
    if (position !== undefined) {
      bytes = await disk.writeLater(inode, source, start, end, append ? "end" : position);
    } else {
      bytes = await this.#inTurn(async () => {
        const written = await disk.writeLater(inode, source, start, end, append ? "end" : this.#position);
        this.#position = append ? this.#size() : this.#position + written;
        return written;
      });
    }
    if (synced && bytes > 0) await disk.syncLater(inode);
    return bytes;
  }

  #size(): number {
    const { state } = this.#inode;
    return state.kind === "file" ? state.size : 0;
  }

  /** Writes once, these buffers one after the other. */
  writev<T extends readonly View[]>(
    buffers: T,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: T }> {
    return this.#use(
      "writev",
      async () => {
        expectViews(buffers);
        const joined = Buffer.concat(buffers.map(bytesOfView));
        const place = typeof position === "number" ? position : null;
        const bytesWritten = await this.#write(joined, 0, joined.length, placed(place, joined.length));
        return { bytesWritten, buffers };
      },
      "write",
    );
  }

  /** Writes all of it on from the current position; cuts nothing off. */
  writeFile(
    data: string | View | Chunks | Stream,
    options?: (Encoded & Abortable) | BufferEncoding | null,
  ): Promise<void> {
    return this.#use("writeFile", () => this.#writeAll(data, options), "write");
  }

  /** The same as writeFile(): whether it appends is a matter of how the file was opened. */
  appendFile(
    data: string | View | Chunks | Stream,
    options?: (Encoded & Abortable) | BufferEncoding | null,
  ): Promise<void> {
    return this.#use("writeFile", () => this.#writeAll(data, options), "write");
  }

  async #writeAll(data: unknown, options: unknown): Promise<void> {
    const { encoding, signal } = optionsOf<Abortable>(options);
    const chunks = isChunks(data) ? data : [bytesOf(data, encoding)];
    throwIfAborted(signal);
    for await (const chunk of chunks) {
      const bytes = bytesOf(chunk, encoding);
      for (let at = 0; at < bytes.length; ) {
        const written = await this.#write(bytes, at, Math.min(bytes.length, at + CHUNK_BYTES), undefined);
        // node would try for ever.
        if (written === 0) throw nodeError("EIO", "write");
        at += written;
        throwIfAborted(signal);
      }
    }
  }

  /** A stream into the file; without `start`, from the current position on. It closes the handle unless `autoClose` is false. */
  createWriteStream(options?: StreamOptions & Flushed): SimWriteStream {
    return new SimWriteStream(this, options);
  }

  /** Cuts or extends, with zeros, to `length` bytes. */
  truncate(length: number | null = 0): Promise<void> {
    return this.#use("ftruncate", async () => {
      const bytes = Math.max(0, expectInteger(length ?? 0, "len", Number.MIN_SAFE_INTEGER));
      if (!this.#access.writable) throw nodeError("EINVAL", "ftruncate");
      await this.#disk.truncateLater(this.#inode, bytes);
    });
  }

  // ---- durability

  /** Returns once what was written before is durable; of a directory, its names. */
  sync(): Promise<void> {
    return this.#use("fsync", () => this.#sync());
  }

  /** The same as sync(): a size that is needed to reach the data counts as data. */
  datasync(): Promise<void> {
    return this.#use("fdatasync", () => this.#sync());
  }

  #sync(): Promise<void> {
    if (this.#inode.isFile) return this.#disk.syncLater(this.#inode);
    return this.#disk.syncDir(this.#path, this.#inode);
  }

  // ---- the rest

  stat(options?: { bigint?: false | undefined }): Promise<SimStats>;
  stat(options: { bigint: true }): Promise<SimBigIntStats>;
  stat(options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats>;
  stat(options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats> {
    return this.#use("fstat", async () => {
      await this.#disk.lookup(this.#path, this.#inode);
      return statsOf(this.#inode, options);
    });
  }

  /** Changes nothing: there are no rights here. */
  chmod(_mode: Mode): Promise<void> {
    return this.#use("fchmod", async () => {});
  }

  /** Changes nothing: there are no owners here. */
  chown(_uid: number, _gid: number): Promise<void> {
    return this.#use("fchown", async () => {});
  }

  /** Changes nothing: there are no times here. */
  utimes(_atime: TimeLike, _mtime: TimeLike): Promise<void> {
    return this.#use("futimes", async () => {});
  }

  /** Waits for what is under way, then closes. Not a sync. Again: nothing. */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing.done;
    let last = (): void => {};
    const done = new Promise<void>((resolve) => {
      last = resolve;
    }).then(async () => {
      this.#fd = -1;
      try {
        await this.#disk.wait("close");
        this.#disk.closed(this.#inode);
      } catch (error) {
        throw asNode(error, "close");
      }
    });
    this.#closing = { done, last };
    if (--this.#users === 0) {
      this.#fd = -1;
      last();
    }
    this.emit("close");
    return done;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function expectViews(buffers: unknown): asserts buffers is readonly View[] {
  if (Array.isArray(buffers) && buffers.every((buffer) => ArrayBuffer.isView(buffer))) return;
  throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", 'The "buffers" argument must be an ArrayBufferView[]');
}

/** A position, or undefined for the current one. */
function placed(position: number | bigint | null | undefined, length: number): number | undefined {
  if (position === null || position === undefined) return undefined;
  const given = typeof position === "bigint" ? Number(position) : position;
  const at = expectInteger(given, "position", Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - length);
  return at < 0 ? undefined : at;
}

// ---- the file system

export class SimFs {
  /** node's own, as this platform has them. */
  readonly constants: typeof constants = constants;
  readonly #disk: SimFsDisk;
  #nextFd = FIRST_FD;

  constructor(disk: SimFsDisk) {
    this.#disk = disk;
    // What is taken out of it works alone, as the functions of a module do.
    for (const name of Object.getOwnPropertyNames(SimFs.prototype)) {
      if (name === "constructor") continue;
      const method: unknown = Reflect.get(this, name);
      if (typeof method === "function") Object.defineProperty(this, name, { value: method.bind(this) });
    }
  }

  /** Has the disk do it for the path that the caller wrote; failures are node's. */
  async #at<T>(syscall: string, path: unknown, work: (place: string, text: string) => Promise<T> | T): Promise<T> {
    const text = textOf(path);
    try {
      return await work(this.#placeOf(text, syscall), text);
    } catch (error) {
      throw asNode(error, syscall, text);
    }
  }

  #placeOf(text: string, syscall: string): string {
    if (text === "") throw nodeError("ENOENT", syscall, text);
    const place = placeOf(text);
    // To make it, it need not be there.
    if (syscall !== "mkdir" && saysDirectory(text) && this.#disk.peek(place)?.isFile === true) {
      throw nodeError("ENOTDIR", syscall, text);
    }
    return place;
  }

  #handleOf(path: unknown): SimFileHandle | undefined {
    return path instanceof SimFileHandle && path.isOf(this.#disk) ? path : undefined;
  }

  /**
   * Opens a file, or a directory for reading: what handle.sync() of a directory makes durable are its names. All of node's
   * words for flags, or O_ numbers. `mode` is not kept.
   */
  async open(path: PathLike, flags: OpenFlags = "r", _mode?: Mode): Promise<SimFileHandle> {
    const text = textOf(path);
    const bits = flagsOf(flags);
    const access = bits & O_ACCMODE;
    const writable = access === constants.O_WRONLY || access === constants.O_RDWR;
    const create = (bits & constants.O_CREAT) !== 0;
    const exclusive = create && (bits & constants.O_EXCL) !== 0;
    const disk = this.#disk;
    // open() makes no directories.
    if (create && saysDirectory(text)) throw nodeError("EISDIR", "open", text);
    return this.#at("open", text, async (place) => {
      await disk.wait(create && (exclusive || disk.peek(place) === undefined) ? "create" : "open");
      const inode = disk.openInode(place, { create, exclusive, writable });
      try {
        if (inode.isFile && (bits & O_DIRECTORY) !== 0) throw nodeError("ENOTDIR", "open", text);
        const { state } = inode;
        if ((bits & constants.O_TRUNC) !== 0) {
          if (state.kind === "directory") throw nodeError("EISDIR", "open", text);
          if (state.size > 0) disk.truncateNow(inode, 0);
        }
      } catch (error) {
        disk.closed(inode);
        throw error;
      }
      const can = {
        readable: access !== constants.O_WRONLY,
        writable,
        append: (bits & constants.O_APPEND) !== 0,
        synced: (bits & (O_SYNC | O_DSYNC)) !== 0,
      };
      return new SimFileHandle(disk, inode, place, can, this.#nextFd++);
    });
  }

  /** Opens, has it used, closes; the first failure counts. */
  async #with<T>(path: unknown, flags: OpenFlags, use: (handle: SimFileHandle) => Promise<T>): Promise<T> {
    const handle = await this.open(path as PathLike, flags);
    let result: T;
    try {
      result = await use(handle);
    } catch (error) {
      await handle.close().catch(() => {});
      throw error;
    }
    await handle.close();
    return result;
  }

  // ---- contents

  readFile(
    path: PathLike | AnyHandle,
    options?: ({ encoding?: null | undefined; flag?: OpenFlags | undefined } & Abortable) | null,
  ): Promise<Bytes>;
  readFile(
    path: PathLike | AnyHandle,
    options: ({ encoding: BufferEncoding; flag?: OpenFlags | undefined } & Abortable) | BufferEncoding,
  ): Promise<string>;
  readFile(
    path: PathLike | AnyHandle,
    options?: (Encoded & Abortable & { flag?: OpenFlags | undefined }) | BufferEncoding | null,
  ): Promise<string | Bytes>;
  async readFile(
    path: PathLike | AnyHandle,
    options?: (Encoded & Abortable & { flag?: OpenFlags | undefined }) | BufferEncoding | null,
  ): Promise<string | Bytes> {
    const { flag, signal } = optionsOf<Flagged & Abortable>(options);
    const handle = this.#handleOf(path);
    if (handle !== undefined) return handle.readFile(options);
    throwIfAborted(signal);
    return this.#with(path, flag ?? "r", (opened) => opened.readFile(options));
  }

  /** Writes all of it, in pieces of 512 KiB; with `flush`, and synced after. Not a sync of the name. */
  async writeFile(
    path: PathLike | AnyHandle,
    data: string | View | Chunks | Stream,
    options?: (Encoded & Flagged & Flushed & Abortable) | BufferEncoding | null,
  ): Promise<void> {
    const { encoding, flag, flush, signal } = optionsOf<Flagged & Flushed & Abortable>(options);
    if (flush !== undefined && typeof flush !== "boolean") {
      throw argumentError(TypeError, "ERR_INVALID_ARG_TYPE", 'The "options.flush" property must be of type boolean');
    }
    const given = isChunks(data) ? data : bytesOf(data, encoding);
    const rest = { encoding: encoding as BufferEncoding, signal };
    const handle = this.#handleOf(path);
    if (handle !== undefined) return handle.writeFile(given, rest);
    throwIfAborted(signal);
    return this.#with(path, flag ?? "w", async (opened) => {
      await opened.writeFile(given, rest);
      if (flush === true) await opened.sync();
    });
  }

  async appendFile(
    path: PathLike | AnyHandle,
    data: string | View,
    options?: (Encoded & Flagged & Flushed) | BufferEncoding | null,
  ): Promise<void> {
    const given = optionsOf<Flagged & Flushed>(options) as Encoded & Flagged & Flushed;
    return this.writeFile(path, data, { ...given, flag: given.flag ?? "a" });
  }

  /** Cuts or extends, with zeros, to `length` bytes. */
  truncate(path: PathLike, length: number | null = 0): Promise<void> {
    return this.#with(path, "r+", (handle) => handle.truncate(length));
  }

  /**
   * Copies the contents. Fails with EEXIST when COPYFILE_EXCL is set and something stands at `to`. When it fails amid the
   * copy, what stands at `to` is removed, as node does.
   */
  async copyFile(from: PathLike, to: PathLike, mode = 0): Promise<void> {
    const source = textOf(from, "src");
    const target = textOf(to, "dest");
    const exclusive = (mode & constants.COPYFILE_EXCL) !== 0;
    const disk = this.#disk;
    try {
      await this.#with(source, "r", async (reader) => {
        const standing = disk.peek(placeOf(target));
        // Opening it for writing would cut it.
        if (!exclusive && standing?.isFile === true && standing === disk.peek(placeOf(source))) return;
        let begun = false;
        try {
          await this.#with(target, exclusive ? "wx" : "w", async (writer) => {
            begun = true;
            await writer.writeFile(await reader.readFile());
          });
        } catch (error) {
          if (begun) await this.unlink(target).catch(() => {});
          throw error;
        }
      });
    } catch (error) {
      throw isNodeError(error)
        ? nodeError(error.code, "copyfile", source, target)
        : asNode(error, "copyfile", source, target);
    }
  }

  // ---- names

  /** Renames, over what stands at `to`. Fails with ENOTEMPTY, EISDIR, ENOTDIR and EINVAL where POSIX says so. */
  async rename(from: PathLike, to: PathLike): Promise<void> {
    const source = textOf(from, "oldPath");
    const target = textOf(to, "newPath");
    try {
      await this.#disk.rename(this.#placeOf(source, "rename"), this.#placeOf(target, "rename"));
    } catch (error) {
      throw isNodeError(error)
        ? nodeError(error.code, "rename", source, target)
        : asNode(error, "rename", source, target);
    }
  }

  async unlink(path: PathLike): Promise<void> {
    return this.#at("unlink", path, (place) => this.#disk.unlink(place));
  }

  async rmdir(path: PathLike, _options?: object): Promise<void> {
    return this.#at("rmdir", path, (place) => this.#disk.rmdir(place));
  }

  /** Removes a file, and with `recursive` a directory with all that is in it: one operation a name, files first. */
  async rm(
    path: PathLike,
    options: { force?: boolean | undefined; recursive?: boolean | undefined } = {},
  ): Promise<void> {
    const text = textOf(path);
    const { force = false, recursive = false } = options;
    let found: Inode;
    try {
      found = await this.#lookup("lstat", text);
    } catch (error) {
      if (force && isNodeError(error) && error.code === "ENOENT") return;
      throw error;
    }
    if (!found.isFile && !recursive) {
      const message = `Path is a directory: rm returned EISDIR (is a directory) ${text}`;
      throw Object.assign(new Error(message), {
        name: "SystemError",
        code: "ERR_FS_EISDIR",
        errno: os.constants.errno.EISDIR,
        syscall: "rm",
        path: text,
      });
    }
    await this.#remove(text, found);
  }

  async #remove(text: string, found: Inode): Promise<void> {
    if (found.isFile) return this.unlink(text);
    for (const name of await this.readdir(text)) {
      const child = `${text}/${name}`;
      const inode = this.#disk.peek(placeOf(child));
      if (inode !== undefined) await this.#remove(child, inode);
    }
    return this.rmdir(text);
  }

  mkdir(path: PathLike, options: { recursive: true; mode?: Mode | undefined }): Promise<string | undefined>;
  mkdir(
    path: PathLike,
    options?: Mode | { recursive?: false | undefined; mode?: Mode | undefined } | null,
  ): Promise<void>;
  mkdir(
    path: PathLike,
    options?: Mode | { recursive?: boolean | undefined; mode?: Mode | undefined } | null,
  ): Promise<string | undefined>;
  /** Makes a directory; with `recursive` its parents too, and gives the first one that it made. `mode` is not kept. */
  async mkdir(
    path: PathLike,
    options?: Mode | { recursive?: boolean | undefined; mode?: Mode | undefined } | null,
  ): Promise<unknown> {
    const recursive = typeof options === "object" && options?.recursive === true;
    return this.#at("mkdir", path, async (place, text) => {
      if (!recursive) {
        await this.#disk.mkdir(place);
        return undefined;
      }
      const missing: string[] = [];
      let at = place;
      while (this.#disk.peek(at) === undefined) {
        missing.push(at);
        at = posix.dirname(at);
      }
      if (this.#disk.peek(at)?.isFile === true) {
        throw nodeError(missing.length > 0 || saysDirectory(text) ? "ENOTDIR" : "EEXIST", "mkdir", text);
      }
      const first = missing.at(-1);
      for (const each of missing.reverse()) {
        try {
          await this.#disk.mkdir(each);
        } catch (error) {
          // Somebody else was as quick.
          if ((error as NodeError).code !== "EEXIST" || this.#disk.peek(each)?.isFile !== false) throw error;
        }
      }
      return first;
    });
  }

  mkdtemp(prefix: string, options?: Encoded | BufferEncoding | null): Promise<string>;
  mkdtemp(prefix: string, options: AsBuffers | "buffer"): Promise<Bytes>;
  mkdtemp(prefix: string, options?: Encoded | BufferEncoding | null): Promise<string | Bytes>;
  /** Makes a directory of a name that was not there: `prefix` and six letters out of the disk's seed. */
  async mkdtemp(prefix: string, options?: unknown): Promise<string | Buffer> {
    const text = textOf(prefix, "prefix");
    const { encoding } = optionsOf(options);
    const letters = new Uint8Array(6);
    for (;;) {
      this.#disk.entropy(letters);
      const name = text + [...letters].map((byte) => MKDTEMP_LETTERS[byte % MKDTEMP_LETTERS.length]).join("");
      try {
        await this.#disk.mkdir(placeOf(name));
        return asEncoded(name, encoding);
      } catch (error) {
        if ((error as NodeError).code !== "EEXIST") throw asNode(error, "mkdtemp", `${text}XXXXXX`);
      }
    }
  }

  readdir(
    path: PathLike,
    options?:
      | (Encoded & { withFileTypes?: false | undefined; recursive?: boolean | undefined })
      | BufferEncoding
      | null,
  ): Promise<string[]>;
  readdir(
    path: PathLike,
    options: (AsBuffers & { withFileTypes?: false | undefined; recursive?: boolean | undefined }) | "buffer",
  ): Promise<Bytes[]>;
  readdir(
    path: PathLike,
    options?:
      | (Encoded & { withFileTypes?: false | undefined; recursive?: boolean | undefined })
      | BufferEncoding
      | null,
  ): Promise<string[] | Bytes[]>;
  readdir(
    path: PathLike,
    options: Encoded & { withFileTypes: true; recursive?: boolean | undefined },
  ): Promise<SimDirent[]>;
  readdir(
    path: PathLike,
    options: AsBuffers & { withFileTypes: true; recursive?: boolean | undefined },
  ): Promise<SimDirent<Bytes>[]>;
  /** The names of a directory, in the order they were made; with `recursive` those below them too. */
  async readdir(path: PathLike, options?: unknown): Promise<unknown> {
    const { encoding, withFileTypes, recursive } = optionsOf<{ withFileTypes?: boolean; recursive?: boolean }>(options);
    return this.#at("scandir", path, async (place, text) => {
      const found: (string | Buffer | SimDirent<string | Buffer>)[] = [];
      const waiting = [{ place, text, below: "" }];
      for (const at of waiting) {
        for (const name of await this.#disk.list(at.place)) {
          const inode = this.#disk.peek(posix.join(at.place, name));
          // Gone in the meantime.
          if (inode === undefined) continue;
          const below = posix.join(at.below, name);
          if (withFileTypes === true) found.push(new SimDirent(asEncoded(name, encoding), at.text, inode.isFile));
          else found.push(asEncoded(below, encoding));
          if (recursive === true && !inode.isFile) {
            waiting.push({ place: posix.join(at.place, name), text: posix.join(at.text, name), below });
          }
        }
      }
      return found;
    });
  }

  // ---- what stands there

  async #lookup(syscall: string, path: unknown): Promise<Inode> {
    return this.#at(syscall, path, async (place, text) => {
      const found = await this.#disk.lookup(place);
      if (found === undefined) throw nodeError("ENOENT", syscall, text);
      return found;
    });
  }

  stat(path: PathLike, options?: { bigint?: false | undefined }): Promise<SimStats>;
  stat(path: PathLike, options: { bigint: true }): Promise<SimBigIntStats>;
  stat(path: PathLike, options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats>;
  async stat(path: PathLike, options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats> {
    return statsOf(await this.#lookup("stat", path), options);
  }

  lstat(path: PathLike, options?: { bigint?: false | undefined }): Promise<SimStats>;
  lstat(path: PathLike, options: { bigint: true }): Promise<SimBigIntStats>;
  lstat(path: PathLike, options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats>;
  async lstat(path: PathLike, options?: { bigint?: boolean | undefined }): Promise<SimStats | SimBigIntStats> {
    return statsOf(await this.#lookup("lstat", path), options);
  }

  /** Fails with ENOENT when nothing is there, with EACCES when a file is asked to be executable. */
  async access(path: PathLike, mode: number = constants.F_OK): Promise<void> {
    const found = await this.#lookup("access", path);
    if (found.isFile && (mode & constants.X_OK) !== 0) throw nodeError("EACCES", "access", textOf(path));
  }

  realpath(path: PathLike, options?: Encoded | BufferEncoding | null): Promise<string>;
  realpath(path: PathLike, options: AsBuffers | "buffer"): Promise<Bytes>;
  realpath(path: PathLike, options?: Encoded | BufferEncoding | null): Promise<string | Bytes>;
  /** The absolute path, when something is there. */
  async realpath(path: PathLike, options?: unknown): Promise<string | Buffer> {
    const { encoding } = optionsOf(options);
    await this.#lookup("realpath", path);
    return asEncoded(placeOf(textOf(path)), encoding);
  }

  // ---- what this file system does not have

  /** Changes nothing: there are no rights here. */
  async chmod(path: PathLike, _mode: Mode): Promise<void> {
    await this.#lookup("chmod", path);
  }

  /** Changes nothing: there are no owners here. */
  async chown(path: PathLike, _uid: number, _gid: number): Promise<void> {
    await this.#lookup("chown", path);
  }

  /** Changes nothing: there are no times here. */
  async utimes(path: PathLike, _atime: TimeLike, _mtime: TimeLike): Promise<void> {
    await this.#lookup("utime", path);
  }

  /** @throws EPERM always */
  async link(from: PathLike, to: PathLike): Promise<void> {
    throw nodeError("EPERM", "link", textOf(from, "existingPath"), textOf(to, "newPath"));
  }

  /** @throws EPERM always */
  async symlink(target: PathLike, path: PathLike, _type?: string | null): Promise<void> {
    throw nodeError("EPERM", "symlink", textOf(target, "target"), textOf(path));
  }

  /** @throws EINVAL when something is there: it is no link */
  async readlink(path: PathLike, _options?: unknown): Promise<never> {
    await this.#lookup("readlink", path);
    throw nodeError("EINVAL", "readlink", textOf(path));
  }
}

function isNodeError(error: unknown): error is NodeError {
  return error instanceof Error && typeof (error as NodeError).errno === "number";
}
