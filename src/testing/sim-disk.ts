// SimDisk: a disk in memory that knows what was synced, fails when it is told to, and can be crashed at any moment. It is a
// Disk for stablelog, and by `disk.fs` a file system for any other code. Used by the explorers of this room and by whoever
// tests a log of their own.
//
// Promises: the same seed and the same calls give the same bytes, faults, times and trace, on every platform. Reads see all
// that was written; what a crash leaves is chosen by crash-point.ts among what was synced and what was not.
//
// Asynchronous operations take effect when their time has come, in the order of their times, one a turn of the event loop;
// with no latency in the next microtask. So a caller that changes a buffer after it has handed it over finds the change on
// disk, and a sync covers what was written before it was called and not what came while it ran.

import { assert } from "../base/assert.js";
import { crc32 } from "../base/crc32.js";
import { StableLogError } from "../base/errors.js";
import type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "../disk/disk.js";
import { notRegular, type SystemError, systemError, withBytesWritten } from "../disk/system-error.js";
import { type AmidWrite, type CrashModel, CrashPoint, crashModels, type Mask, type TreeImage } from "./crash-point.js";
import { type DiskOperation, Fault, type FaultRule } from "./fault-plan.js";
import { Random, seedOf } from "./random.js";
import { SimFs, type SimFsDisk } from "./sim-fs.js";
import {
  abandonDirectory,
  abandonFile,
  type DirectoryState,
  digestText,
  digestTree,
  emptyDirectory,
  emptyFile,
  type FileState,
  Inode,
  join53,
  readFile,
  revertFile,
  type Sector,
  setName,
  syncDirectory,
  syncFile,
  truncateFile,
  writeFile,
  zeroSector,
} from "./sim-tree.js";

export interface SimDiskOptions {
  /** What everything is drawn from; default 1. */
  readonly seed?: number | undefined;
  /** What reaches the disk as one: 512 (default) or 4096 bytes. */
  readonly sectorBytes?: 512 | 4096 | undefined;
  /** Which crashes are possible; default `posix`, the strictest. See crash-point.ts. */
  readonly model?: CrashModel | undefined;
  /** Simulated milliseconds that an operation takes; default 0. */
  readonly latency?: ((operation: DiskOperation, random: Random) => number) | undefined;
  /** Bytes that all files together may have; beyond it writes fail with ENOSPC. Default: no bound. */
  readonly capacity?: number | undefined;
  /** Files that may be open at a time; beyond it open fails with EMFILE. Default: no bound. */
  readonly handles?: number | undefined;
  /** Keeps every operation in `trace`; default true. */
  readonly trace?: boolean | undefined;
}

/** One operation, as the trace has it. */
export interface SimOperation {
  /** Its number, from 1. */
  readonly number: number;
  readonly operation: DiskOperation;
  readonly path: string;
  /** The second path of a rename. */
  readonly to?: string | undefined;
  readonly offset?: number | undefined;
  readonly bytes?: number | undefined;
  /** Simulated milliseconds. */
  readonly at: number;
  /** How it failed, or which lie was told about it. */
  error?: string | undefined;
}

interface SimOpen {
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly writable: boolean;
}

interface Pending {
  readonly due: number;
  readonly order: number;
  readonly run: () => void;
}

const ROOT_ID = 1;

export class SimDisk implements Disk, SimFsDisk {
  readonly syncsNow = true;
  readonly sectorBytes: number;
  readonly model: CrashModel;
  readonly seed: number;
  /** The operations so far, when they are kept. */
  readonly trace: SimOperation[] = [];
  /** Called before each operation takes effect, in this order. Crash points are taken here. */
  readonly watchers: ((operation: DiskOperation, path: string, to: string | undefined) => void)[] = [];
  /** Called amid each write, with what takes a point of it: what a kill leaves then. Only in model `kill`. */
  onAmidWrite: ((take: () => CrashPoint) => void) | undefined;
  capacity: number;
  handles: number;

  readonly #root: Inode;
  readonly #random: Random;
  readonly #entropy: Random;
  readonly #latency: ((operation: DiskOperation, random: Random) => number) | undefined;
  readonly #keepTrace: boolean;
  readonly #faults: Fault[] = [];
  readonly #locked = new Set<Inode>();
  readonly #pending: Pending[] = [];
  #ticking = false;
  #order = 0;
  #operations = 0;
  #now = 0;
  #nextId: number;
  #open = 0;
  #traceDigest = 1;
  #fs: SimFs | undefined;

  /** @throws RangeError for options that make no sense. */
  constructor(options: SimDiskOptions = {}, image?: TreeImage) {
    checkOptions(options);
    this.seed = options.seed ?? 1;
    this.sectorBytes = options.sectorBytes ?? 512;
    this.model = options.model ?? "posix";
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY;
    this.handles = options.handles ?? Number.POSITIVE_INFINITY;
    this.#latency = options.latency;
    this.#keepTrace = options.trace ?? true;
    this.#random = new Random(seedOf(this.seed, 1));
    this.#entropy = new Random(seedOf(this.seed, 2));
    this.#root = image?.root ?? new Inode(ROOT_ID, emptyDirectory());
    this.#nextId = image === undefined ? ROOT_ID + 1 : highestId(image.root) + 1;
  }

  /** A disk that durably holds these files, by their absolute paths; directories are made as needed. */
  static from(files: ReadonlyMap<string, Uint8Array>, options: SimDiskOptions = {}): SimDisk {
    const disk = new SimDisk(options);
    for (const [path, bytes] of files) disk.put(path, bytes);
    return disk;
  }

  // ---- looking at it

  /** Operations so far. */
  get operations(): number {
    return this.#operations;
  }

  /** Simulated milliseconds since the disk was made. */
  get now(): number {
    return this.#now;
  }

  /** Files open now. */
  get openHandles(): number {
    return this.#open;
  }

  /** Directories locked now. */
  get locks(): number {
    return this.#locked.size;
  }

  /** Stands for every operation so far, its place and its bytes: equal runs have equal hashes. 14 hexadecimal digits. */
  get traceHash(): string {
    return this.#traceDigest.toString(16).padStart(14, "0");
  }

  /** Stands for what reads see now, names and bytes. */
  get contentHash(): string {
    return digestTree(this.#root, this.sectorBytes).toString(16).padStart(14, "0");
  }

  /** A copy of every file, by its absolute path, as reads see it. */
  dump(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    const visit = (inode: Inode, path: string): void => {
      const { state } = inode;
      if (state.kind === "file") {
        const bytes = new Uint8Array(state.size);
        readFile(state, this.sectorBytes, bytes, 0, bytes.length, 0);
        files.set(path, bytes);
        return;
      }
      for (const [name, child] of state.names) visit(child, `${path}/${name}`);
    };
    visit(this.#root, "");
    return files;
  }

  /** The same disk under the names of node:fs/promises, for code that knows nothing of stablelog. */
  get fs(): SimFs {
    this.#fs ??= new SimFs(this);
    return this.#fs;
  }

  // ---- behind the back of whoever uses it

  /** Puts a file there, durably, without an operation. What stood there before is replaced. */
  put(path: string, bytes: Uint8Array): void {
    const segments = segmentsOf(path).slice();
    const name = segments.pop();
    if (name === undefined) throw systemError("EISDIR", "open", path);
    let at = this.#root;
    for (const segment of segments) {
      const state = at.directoryForWrite();
      let child = state.names.get(segment);
      if (child === undefined) {
        child = new Inode(this.#nextId++, emptyDirectory());
        state.names.set(segment, child);
        state.cells.delete(segment);
      }
      if (child.isFile) throw systemError("ENOTDIR", "open", path);
      at = child;
    }
    const file = emptyFile();
    writeFile(file, this.sectorBytes, bytes, 0, bytes.length, 0, 0);
    file.cells.clear();
    file.sizes = undefined;
    const state = at.directoryForWrite();
    const found = state.names.get(name);
    state.cells.delete(name);
    if (found?.isFile === true) {
      // The same inode, so that open handles see it.
      found.state = file;
      found.shared = false;
      return;
    }
    const inode = new Inode(this.#nextId++, file);
    inode.path = path;
    state.names.set(name, inode);
  }

  /** Makes everything durable as it stands, without an operation: where a test begins. */
  makeDurable(): void {
    const seen = new Set<Inode>();
    const visit = (inode: Inode): void => {
      if (seen.has(inode)) return;
      seen.add(inode);
      if (inode.isFile) {
        const file = inode.fileForWrite();
        file.cells.clear();
        file.sizes = undefined;
        return;
      }
      const directory = inode.directoryForWrite();
      directory.cells.clear();
      for (const child of directory.names.values()) visit(child);
    };
    visit(this.#root);
  }

  /** Rot: flips one bit of a file, on the disk and in every cache. What was synced, and what was not, stays so. */
  flip(path: string, bit: number): void {
    const at = Math.floor(bit / 8);
    const { size } = this.#file(path, "open").state as FileState;
    if (at >= size) throw new RangeError(`flip bit ${bit}: ${path} has ${size * 8}`);
    this.#alter(path, at, at + 1, (byte) => byte ^ (1 << (bit % 8)));
  }

  /** Rot: overwrites [from, to) of a file, as far as it goes, with `filler`, or with what the seed draws. */
  spoil(path: string, from: number, to: number, filler?: number): void {
    const rotten = new Uint8Array(Math.max(0, to - from));
    if (filler === undefined) new Random(seedOf(this.seed, from)).fill(rotten);
    else rotten.fill(filler);
    this.#alter(path, from, to, (_byte, at) => rotten[at - from] as number);
  }

  /** Changes bytes of a file in everything that its sectors are or may be. */
  #alter(path: string, from: number, to: number, change: (byte: number, at: number) => number): void {
    const file = this.#file(path, "open").fileForWrite();
    const { sectorBytes } = this;
    const zero = zeroSector(sectorBytes);
    const end = Math.min(to, file.size);
    for (let number = Math.floor(from / sectorBytes); number * sectorBytes < end; number++) {
      const base = number * sectorBytes;
      const altered = (sector: Sector): Sector => {
        const bytes = sector.bytes.slice();
        for (let at = Math.max(from, base); at < Math.min(end, base + sectorBytes); at++) {
          bytes[at - base] = change(bytes[at - base] as number, at);
        }
        return { bytes, digest: 0 };
      };
      for (let i = file.sectors.length; i < number; i++) file.sectors.push(zero);
      file.sectors[number] = altered(file.sectors[number] ?? zero);
      const cell = file.cells.get(number);
      if (cell === undefined) continue;
      const values = cell.values.map((each) => ({ ...each, value: altered(each.value) }));
      file.cells.set(number, { ...cell, durable: altered(cell.durable), values });
    }
  }

  /** Puts a fault in force; gives it, with its counts. */
  inject(rule: FaultRule): Fault {
    const fault = new Fault(rule);
    this.#faults.push(fault);
    return fault;
  }

  /** Takes every fault away, and lets go what hangs. */
  heal(): void {
    for (const fault of this.#faults.splice(0)) fault.release();
  }

  // ---- crashing

  /** All that a crash now may leave. `model` is the disk's own unless another is given. */
  crashPoint(model: CrashModel = this.model, amid?: AmidWrite): CrashPoint {
    return new CrashPoint(this.#root, {
      operation: this.#operations,
      sectorBytes: this.sectorBytes,
      model,
      seed: this.seed,
      amid,
    });
  }

  /**
   * The power goes: another disk, with what is left. Everything on it is durable; handles, locks and faults are gone. What
   * is lost is drawn from the seed, or said by `mask`. The model is the disk's own; `posix` for one that only knows kills.
   * @throws RangeError for a mask that does not fit what is unsynced.
   */
  powerCut(mask?: Mask, model: CrashModel = this.model === "kill" ? "posix" : this.model): SimDisk {
    const point = this.crashPoint(model);
    if (mask !== undefined && !point.fits(mask))
      throw new RangeError("powerCut(): the mask does not fit what is unsynced");
    return this.imageOf(point, mask ?? this.#drawMask(point));
  }

  #drawMask(point: CrashPoint): Mask {
    const masks = [...point.masks(16, this.#random)];
    return this.#random.pick(masks);
  }

  /** The disk that a choice at a crash point leaves. Its own seed is drawn from this one's, the point and the mask. */
  imageOf(point: CrashPoint, mask: Mask, tree: TreeImage = point.image(mask), options: SimDiskOptions = {}): SimDisk {
    const seed = seedOf(seedOf(this.seed, point.operation), tree.digest);
    return new SimDisk({ sectorBytes: this.sectorBytes as 512 | 4096, model: this.model, ...options, seed }, tree);
  }

  /**
   * The process is killed and the machine stays up: another disk with the same page cache. What was synced and what was not
   * is known on; handles and locks are gone. The old disk stays as it was, for whoever still has it.
   */
  kill(options: SimDiskOptions = {}): SimDisk {
    const next = new SimDisk({
      sectorBytes: this.sectorBytes as 512 | 4096,
      model: this.model,
      capacity: this.capacity,
      handles: this.handles,
      latency: this.#latency,
      trace: this.#keepTrace,
      ...options,
      seed: options.seed ?? seedOf(this.seed, this.#operations),
    });
    const copies = new Map<Inode, Inode>();
    const copy = (inode: Inode): Inode => {
      const found = copies.get(inode);
      if (found !== undefined) return found;
      const { state } = inode;
      inode.shared = true;
      const made = new Inode(inode.id, state);
      made.path = inode.path;
      made.shared = true;
      copies.set(inode, made);
      if (state.kind === "directory") {
        const directory = emptyDirectory();
        made.state = directory;
        made.shared = false;
        for (const [name, child] of state.names) directory.names.set(name, copy(child));
        for (const [name, cell] of state.cells) {
          directory.cells.set(name, {
            durable: cell.durable === undefined ? undefined : copy(cell.durable),
            values: cell.values.map(({ value, stamp }) => ({
              value: value === undefined ? value : copy(value),
              stamp,
            })),
            dirty: cell.dirty,
          });
        }
      }
      return made;
    };
    const root = copy(this.#root);
    const state = next.#root.directoryForWrite();
    state.names = (root.state as DirectoryState).names;
    state.cells = (root.state as DirectoryState).cells;
    next.#nextId = this.#nextId;
    // Stamps go on: a sync there must cover what was written here.
    next.#operations = this.#operations;
    next.#now = this.#now;
    return next;
  }

  // ---- Disk

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    await this.#wait(mode === "create" ? "create" : "open");
    return this.openHandle(path, { create: mode === "create", exclusive: true, writable: mode !== "read" });
  }

  openNow(path: string): DiskFile {
    return this.openHandle(path, { create: false, exclusive: false, writable: false });
  }

  async list(dir: string): Promise<string[]> {
    await this.#wait("list");
    this.#begin("list", dir);
    return [...this.#directory(dir, "scandir").names.keys()];
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    await this.#wait("stat");
    this.#begin("stat", path);
    const found = this.#find(path, "lstat");
    if (found === undefined) return undefined;
    const { state } = found;
    return { kind: state.kind, size: state.kind === "file" ? state.size : 0 };
  }

  async mkdir(path: string): Promise<void> {
    await this.#wait("mkdir");
    this.#begin("mkdir", path);
    const { parent, name } = this.#parentOf(path, "mkdir");
    if (name === "" || (parent.state as DirectoryState).names.has(name)) throw this.#failed("EEXIST", "mkdir", path);
    setName(parent.directoryForWrite(), name, new Inode(this.#nextId++, emptyDirectory()), this.#operations);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#wait("rename");
    this.#begin("rename", from, to);
    const source = this.#parentOf(from, "rename");
    const target = this.#parentOf(to, "rename");
    const moved = (source.parent.state as DirectoryState).names.get(source.name);
    if (source.name === "" || target.name === "") throw this.#failed("EBUSY", "rename", from);
    if (moved === undefined) throw this.#failed("ENOENT", "rename", from);
    if (!moved.isFile && isWithin(to, from)) throw this.#failed("EINVAL", "rename", from);
    if (isWithin(from, to)) throw this.#failed("ENOTEMPTY", "rename", to);
    const replaced = (target.parent.state as DirectoryState).names.get(target.name);
    if (replaced === moved) return;
    if (replaced !== undefined && !replaced.isFile) {
      if (moved.isFile) throw this.#failed("EISDIR", "rename", to);
      if ((replaced.state as DirectoryState).names.size > 0) throw this.#failed("ENOTEMPTY", "rename", to);
    } else if (replaced !== undefined && !moved.isFile) {
      throw this.#failed("ENOTDIR", "rename", to);
    }
    // Two names change, and nothing says that they reach the disk together.
    setName(source.parent.directoryForWrite(), source.name, undefined, this.#operations);
    setName(target.parent.directoryForWrite(), target.name, moved, this.#operations);
    moved.path = to;
  }

  async unlink(path: string): Promise<void> {
    await this.#wait("unlink");
    this.#begin("unlink", path);
    const { parent, name } = this.#parentOf(path, "unlink");
    const found = name === "" ? parent : (parent.state as DirectoryState).names.get(name);
    if (found === undefined) throw this.#failed("ENOENT", "unlink", path);
    if (!found.isFile) throw this.#failed("EISDIR", "unlink", path);
    setName(parent.directoryForWrite(), name, undefined, this.#operations);
  }

  /** Removes an empty directory; for disk.fs. */
  async rmdir(path: string): Promise<void> {
    await this.#wait("rmdir");
    this.#begin("rmdir", path);
    const { parent, name } = this.#parentOf(path, "rmdir");
    const found = name === "" ? parent : (parent.state as DirectoryState).names.get(name);
    if (found === undefined) throw this.#failed("ENOENT", "rmdir", path);
    if (found.isFile) throw this.#failed("ENOTDIR", "rmdir", path);
    if (name === "" || (found.state as DirectoryState).names.size > 0) throw this.#failed("ENOTEMPTY", "rmdir", path);
    setName(parent.directoryForWrite(), name, undefined, this.#operations);
  }

  /** `opened` is the directory of a handle of disk.fs, whatever its name is by now. */
  async syncDir(dir: string, opened?: Inode): Promise<void> {
    await Promise.resolve();
    const stamp = this.#operations;
    await this.#wait("syncDir");
    const directory = opened ?? this.#seek(dir);
    const fault = this.#begin("syncDir", dir, undefined, undefined, undefined, (failed) => {
      if (directory !== undefined && !directory.isFile && reachesPages(failed.rule)) {
        abandonDirectory(directory.directoryForWrite());
      }
    });
    if (fault?.rule.lie === "hang") await fault.released();
    if (opened === undefined) this.#directory(dir, "open");
    if (fault?.rule.lie !== "lost") syncDirectory((directory as Inode).directoryForWrite(), stamp);
  }

  async lock(dir: string): Promise<DiskLock> {
    await this.#wait("lock");
    this.#begin("lock", dir);
    this.#directory(dir, "open");
    const directory = this.#find(dir, "open") as Inode;
    if (this.#locked.has(directory)) throw new StableLogError("ERR_LOCKED", `lock ${dir}: held by this process`);
    this.#locked.add(directory);
    let held = true;
    return {
      release: async () => {
        // Only once: a second release must not take the lock from whoever has it by then.
        if (!held) return;
        held = false;
        // Told, so that a trace shows who held it; giving back what is held cannot fail.
        for (const watcher of this.watchers) watcher("unlock", dir, undefined);
        this.#locked.delete(directory);
      },
    };
  }

  allocate(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  entropy(target: Uint8Array): void {
    this.#entropy.fill(target);
  }

  // ---- for handles, of this file and of disk.fs

  /** Opens a file at once. `exclusive`: a name to create must be free. */
  openHandle(path: string, options: SimOpen): SimFile {
    return new SimFile(this, this.openInode(path, options, false), options.writable);
  }

  /** Opens what stands there at once, `directories` too; closed() gives it back. For disk.fs. @internal */
  openInode(path: string, { create, exclusive, writable }: SimOpen, directories = true): Inode {
    const creates = create && (exclusive || this.#seek(path) === undefined);
    this.#begin(creates ? "create" : "open", path);
    const { parent, name } = this.#parentOf(path, "open");
    const found = name === "" ? parent : (parent.state as DirectoryState).names.get(name);
    if (creates && found !== undefined) throw this.#failed("EEXIST", "open", path);
    if (found === undefined && !create) throw this.#failed("ENOENT", "open", path);
    if (found !== undefined && !found.isFile) {
      if (!directories) throw notRegular("open", path, this.#failed("EISDIR", "open", path));
      if (writable || create) throw this.#failed("EISDIR", "open", path);
    }
    if (this.#open >= this.handles) throw this.#failed("EMFILE", "open", path, "too many open files");
    let inode = found;
    if (inode === undefined) {
      inode = new Inode(this.#nextId++, emptyFile());
      inode.path = path;
      setName(parent.directoryForWrite(), name, inode, this.#operations);
    }
    this.#open++;
    inode.path ??= path;
    return inode;
  }

  /** What stands there, without an operation. @internal */
  peek(path: string): Inode | undefined {
    return this.#seek(path);
  }

  /** stat() with the inode; `opened` is that of a handle. @internal */
  async lookup(path: string, opened?: Inode): Promise<Inode | undefined> {
    await this.#wait("stat");
    this.#begin("stat", path);
    return opened ?? this.#find(path, "lstat");
  }

  /** @internal */
  closed(inode: Inode): void {
    this.#open--;
    this.#begin("close", pathOf(inode));
  }

  /** Resolves when the time of an operation has come: in the next microtask when it takes none. @internal */
  async wait(operation: DiskOperation): Promise<void> {
    await this.#wait(operation);
  }

  #wait(operation: DiskOperation): Promise<void> {
    const latency = this.#latency?.(operation, this.#random) ?? 0;
    if (latency <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#pending.push({ due: this.#now + latency, order: this.#order++, run: resolve });
      this.#tick();
    });
  }

  /** Time goes on to the next thing that is due, one a turn, so that what it wakes can act before the one after. */
  #tick(): void {
    if (this.#ticking) return;
    this.#ticking = true;
    setImmediate(() => {
      this.#ticking = false;
      let next = 0;
      for (let i = 1; i < this.#pending.length; i++) {
        const a = this.#pending[i] as Pending;
        const b = this.#pending[next] as Pending;
        if (a.due < b.due || (a.due === b.due && a.order < b.order)) next = i;
      }
      const [due] = this.#pending.splice(next, 1);
      if (due === undefined) return;
      this.#now = Math.max(this.#now, due.due);
      due.run();
      if (this.#pending.length > 0) this.#tick();
    });
  }

  /** A blocking call: time passes while it runs. */
  #block(operation: DiskOperation): void {
    const latency = this.#latency?.(operation, this.#random) ?? 0;
    if (latency > 0) this.#now += latency;
  }

  /**
   * Counts the operation, tells of it, and lets it fail when a fault says so; `failing` is called before it does. Gives the
   * fault that lies about it, if one does.
   */
  #begin(
    operation: DiskOperation,
    path: string,
    to?: string,
    offset?: number,
    bytes?: number,
    failing?: (fault: Fault) => void,
  ): Fault | undefined {
    for (const watcher of this.watchers) watcher(operation, path, to);
    const number = ++this.#operations;
    let entry: SimOperation | undefined;
    if (this.#keepTrace) {
      entry = { number, operation, path, to, offset, bytes, at: this.#now };
      this.trace.push(entry);
      const place = `${operation} ${path} ${to ?? ""} ${offset ?? ""} ${bytes ?? ""} ${this.#now}`;
      this.#traceDigest = join53(this.#traceDigest, digestText(place));
    }
    for (const fault of this.#faults) {
      if (!fault.strikes(operation, path, to)) continue;
      const { error, lie, bytes: through } = fault.rule;
      if (entry !== undefined) {
        entry.error = error ?? lie ?? "short";
        this.#traceDigest = join53(this.#traceDigest, digestText(entry.error));
      }
      if (error === undefined) {
        if (lie !== undefined || through !== undefined) return fault;
        continue;
      }
      failing?.(fault);
      throw systemError(error, syscalls[operation], path, "injected");
    }
    return undefined;
  }

  /** @internal */
  readNow(inode: Inode, target: Uint8Array, start: number, end: number, position: number): number {
    this.#block("read");
    return this.#read(inode, target, start, end, position);
  }

  /** @internal */
  async readLater(inode: Inode, target: Uint8Array, start: number, end: number, position: number): Promise<number> {
    await this.#wait("read");
    return this.#read(inode, target, start, end, position);
  }

  #read(inode: Inode, target: Uint8Array, start: number, end: number, position: number): number {
    const fault = this.#begin("read", pathOf(inode), undefined, position, end - start);
    const bytes = readFile(inode.state as FileState, this.sectorBytes, target, start, end, position);
    if (fault?.rule.lie === "flipped" && bytes > 0) {
      const at = start + this.#random.below(bytes);
      target[at] = (target[at] as number) ^ (1 << this.#random.below(8));
    }
    if (fault?.rule.bytes !== undefined) return Math.min(bytes, fault.rule.bytes);
    return bytes;
  }

  /** @internal */
  writeNow(inode: Inode, source: Uint8Array, start: number, end: number, position: number): number {
    this.#block("write");
    return this.#write(inode, source, start, end, position);
  }

  /**
   * Gives the bytes written: fewer than asked for when a fault says so or the capacity ends. At `position` "end" it goes
   * where the file ends by then.
   * @internal
   */
  async writeLater(
    inode: Inode,
    source: Uint8Array,
    start: number,
    end: number,
    position: number | "end",
  ): Promise<number> {
    await this.#wait("write");
    // Once more: a buffer that its owner changes in the same turn is changed by now.
    await undefined;
    return this.#write(inode, source, start, end, position === "end" ? (inode.state as FileState).size : position);
  }

  #write(inode: Inode, source: Uint8Array, start: number, end: number, position: number): number {
    let through = 0;
    const put = (until: number, at = position): void => {
      if (until > start) {
        writeFile(inode.fileForWrite(), this.sectorBytes, source, start, until, at, this.#operations);
      }
    };
    let fault: Fault | undefined;
    if (this.onAmidWrite !== undefined) {
      this.onAmidWrite(() => this.crashPoint("kill", { inode, position, source: source.slice(start, end) }));
    }
    try {
      fault = this.#begin("write", pathOf(inode), undefined, position, end - start, (failed) => {
        through = Math.min(failed.rule.bytes ?? 0, end - start);
        put(start + through);
      });
    } catch (error) {
      throw withBytesWritten(error, through);
    }
    if (this.#keepTrace) this.#traceDigest = join53(this.#traceDigest, crc32(source.subarray(start, end)));
    if (fault?.rule.lie === "lost") return end - start;
    const at = fault?.rule.lie === "misdirected" ? position + (fault.rule.distance ?? this.sectorBytes) : position;
    const room = this.#room(inode, at, end - start);
    if (room === 0 && start < end) {
      throw withBytesWritten(this.#failed("ENOSPC", "write", inode.path, "no space left on device"), 0);
    }
    // As the kernel does: what there is room for is written, and only the next write fails.
    const short = fault?.rule.lie === undefined ? fault?.rule.bytes : undefined;
    const until = Math.min(end, start + room, start + (short ?? room));
    put(until, at);
    return until - start;
  }

  /** Bytes of a write at `position` that the capacity has room for. */
  #room(inode: Inode, position: number, bytes: number): number {
    if (this.capacity === Number.POSITIVE_INFINITY) return bytes;
    const { size } = inode.state as FileState;
    const grows = Math.max(0, position + bytes - size);
    const left = Math.max(0, this.capacity - this.usedBytes);
    return grows <= left ? bytes : Math.max(0, bytes - (grows - left));
  }

  /** Bytes that all files together have. */
  get usedBytes(): number {
    let used = 0;
    const seen = new Set<Inode>();
    const visit = (inode: Inode): void => {
      if (seen.has(inode)) return;
      seen.add(inode);
      if (inode.state.kind === "file") used += inode.state.size;
      else for (const child of inode.state.names.values()) visit(child);
    };
    visit(this.#root);
    return used;
  }

  /** @internal */
  syncNow(inode: Inode): void {
    this.#block("sync");
    const stamp = this.#operations;
    const fault = this.#beginSync(inode);
    assert(fault?.rule.lie !== "hang", "a blocking sync cannot hang: the process would");
    if (fault?.rule.lie !== "lost") syncFile(inode.fileForWrite(), stamp);
  }

  /** @internal */
  async syncLater(inode: Inode): Promise<void> {
    // What is written while the sync runs is not covered by it.
    const stamp = this.#operations;
    await this.#wait("sync");
    const fault = this.#beginSync(inode);
    if (fault?.rule.lie === "hang") await fault.released();
    if (fault?.rule.lie !== "lost") syncFile(inode.fileForWrite(), stamp);
  }

  #beginSync(inode: Inode): Fault | undefined {
    return this.#begin("sync", pathOf(inode), undefined, undefined, undefined, ({ rule }) => {
      if (!reachesPages(rule)) return;
      if (rule.pages === "revert") revertFile(inode.fileForWrite());
      else abandonFile(inode.fileForWrite());
    });
  }

  /** @internal */
  async truncateLater(inode: Inode, bytes: number): Promise<void> {
    await this.#wait("truncate");
    this.truncateNow(inode, bytes);
  }

  /** @internal */
  truncateNow(inode: Inode, bytes: number): void {
    this.#begin("truncate", pathOf(inode), undefined, bytes);
    truncateFile(inode.fileForWrite(), this.sectorBytes, bytes, this.#operations);
  }

  /** The error of the operation that has just begun, which its entry of the trace names. */
  #failed(code: string, syscall: string, path: string | undefined, message?: string): SystemError {
    const entry = this.#keepTrace ? this.trace.at(-1) : undefined;
    if (entry !== undefined) entry.error ??= code;
    return systemError(code, syscall, path, message);
  }

  /** What stands there; undefined also where the path leads nowhere. */
  #seek(path: string): Inode | undefined {
    let found: Inode | undefined = this.#root;
    for (const name of segmentsOf(path)) {
      found = found?.state.kind === "directory" ? found.state.names.get(name) : undefined;
    }
    return found;
  }

  #find(path: string, syscall: string): Inode | undefined {
    let found: Inode | undefined = this.#root;
    for (const name of segmentsOf(path)) {
      if (found === undefined) return undefined;
      if (found.state.kind === "file") throw this.#failed("ENOTDIR", syscall, path);
      found = found.state.names.get(name);
    }
    return found;
  }

  #file(path: string, syscall: string): Inode {
    const found = this.#find(path, syscall);
    if (found === undefined) throw this.#failed("ENOENT", syscall, path);
    if (!found.isFile) throw this.#failed("EISDIR", syscall, path);
    return found;
  }

  #directory(path: string, syscall: string): DirectoryState {
    const found = this.#find(path, syscall);
    if (found === undefined) throw this.#failed("ENOENT", syscall, path);
    if (found.state.kind === "file") throw this.#failed("ENOTDIR", syscall, path);
    return found.state;
  }

  /** The directory that holds the last name of `path`, and that name; "" with the root itself for "/". */
  #parentOf(path: string, syscall: string): { parent: Inode; name: string } {
    const segments = segmentsOf(path);
    let parent = this.#root;
    for (let i = 0; i < segments.length - 1; i++) {
      const { state } = parent;
      const next = state.kind === "directory" ? state.names.get(segments[i] as string) : undefined;
      if (next === undefined) throw this.#failed("ENOENT", syscall, path);
      if (next.isFile) throw this.#failed("ENOTDIR", syscall, path);
      parent = next;
    }
    return { parent, name: segments.at(-1) ?? "" };
  }
}

function checkOptions({ sectorBytes, model, capacity, handles }: SimDiskOptions): void {
  if (sectorBytes !== undefined && sectorBytes !== 512 && sectorBytes !== 4096) {
    throw new RangeError(`sectorBytes must be 512 or 4096, got ${String(sectorBytes)}`);
  }
  if (model !== undefined && !crashModels.includes(model)) {
    throw new RangeError(`model must be one of ${crashModels.join(", ")}, got ${String(model)}`);
  }
  for (const [name, value] of [
    ["capacity", capacity],
    ["handles", handles],
  ] as const) {
    if (value !== undefined && !(value >= 0)) throw new RangeError(`${name} must be 0 or more, got ${value}`);
  }
}

/** An open file of a SimDisk. */
export class SimFile implements DiskFile {
  readonly #disk: SimDisk;
  readonly #inode: Inode;
  readonly #writable: boolean;
  #closed = false;
  #committing: Promise<unknown> | undefined;

  constructor(disk: SimDisk, inode: Inode, writable: boolean) {
    this.#disk = disk;
    this.#inode = inode;
    this.#writable = writable;
  }

  size(): number {
    this.#expectOpen("fstat");
    return (this.#inode.state as FileState).size;
  }

  read(target: Uint8Array, start: number, end: number, position: number): number {
    this.#expectOpen("read");
    expectRange(target, start, end, position);
    return this.#disk.readNow(this.#inode, target, start, end, position);
  }

  async readLater(target: Uint8Array, start: number, end: number, position: number): Promise<number> {
    this.#expectOpen("read");
    expectRange(target, start, end, position);
    return this.#disk.readLater(this.#inode, target, start, end, position);
  }

  write(source: Uint8Array, start: number, end: number, position: number): void {
    this.#expectWritable("write", "EBADF");
    expectRange(source, start, end, position);
    let at = start;
    try {
      // A short write is continued, as every Disk does.
      while (at < end) at += this.#disk.writeNow(this.#inode, source, at, end, position + at - start) || this.#stuck();
    } catch (error) {
      throw withBytesWritten(error, at - start + bytesOf(error));
    }
  }

  sync(): void {
    this.#expectOpen("fdatasync");
    this.#disk.syncNow(this.#inode);
  }

  async commit(source: Uint8Array, start: number, end: number, position: number): Promise<void> {
    assert(this.#committing === undefined, "one commit at a time a file");
    const done = this.writeLater(source, start, end, position, true);
    this.#committing = done.catch(() => {});
    try {
      await done;
    } finally {
      this.#committing = undefined;
    }
  }

  async writeLater(source: Uint8Array, start: number, end: number, position: number, sync: boolean): Promise<void> {
    this.#expectWritable("write", "EBADF");
    expectRange(source, start, end, position);
    let at = start;
    try {
      while (at < end) {
        const written = await this.#disk.writeLater(this.#inode, source, at, end, position + at - start);
        at += written || this.#stuck();
      }
    } catch (error) {
      throw withBytesWritten(error, at - start + bytesOf(error));
    }
    if (!sync) return;
    try {
      await this.#disk.syncLater(this.#inode);
    } catch (error) {
      throw withBytesWritten(error, end - start);
    }
  }

  async truncate(bytes: number): Promise<void> {
    this.#expectWritable("ftruncate", "EINVAL");
    assert(Number.isSafeInteger(bytes) && bytes >= 0, `truncate to ${bytes} bytes`);
    await this.#disk.truncateLater(this.#inode, bytes);
  }

  async close(): Promise<void> {
    this.#expectOpen("close");
    this.#closed = true;
    await this.#committing;
    this.#disk.closed(this.#inode);
  }

  /** A write that takes nothing would be tried for ever. */
  #stuck(): never {
    throw systemError("EIO", "write", this.#inode.path);
  }

  #expectOpen(syscall: string): void {
    if (this.#closed) throw systemError("EBADF", syscall);
  }

  #expectWritable(syscall: string, code: string): void {
    this.#expectOpen(syscall);
    if (!this.#writable) throw systemError(code, syscall);
  }
}

/** Does a sync that fails so leave its pages clean? One that had no descriptor or no right has not come that far. */
function reachesPages({ error, pages }: FaultRule): boolean {
  if (pages === "dirty") return false;
  return error === "EIO" || error === "ENOSPC" || error === "EDQUOT";
}

/** A file is known by the name it was given last, whatever it was opened under. */
function pathOf(inode: Inode): string {
  return inode.path ?? "";
}

/** What went through of a write that failed. */
function bytesOf(error: unknown): number {
  return error instanceof Error ? ((error as SystemError).bytesWritten ?? 0) : 0;
}

function expectRange(bytes: Uint8Array, start: number, end: number, position: number): void {
  const inside = start >= 0 && start <= end && end <= bytes.length;
  assert(inside && position >= 0, `[${start}, ${end}) of ${bytes.length} bytes at position ${position}`);
}

/** What node calls the system call of an operation. */
const syscalls: Readonly<Record<DiskOperation, string>> = {
  open: "open",
  create: "open",
  list: "scandir",
  stat: "lstat",
  mkdir: "mkdir",
  rmdir: "rmdir",
  rename: "rename",
  unlink: "unlink",
  syncDir: "fsync",
  lock: "open",
  unlock: "close",
  read: "read",
  write: "write",
  sync: "fdatasync",
  truncate: "ftruncate",
  close: "close",
};

const splitPaths = new Map<string, readonly string[]>();

/** The names of a path, "." and ".." worked out. A relative path begins at the root. */
function segmentsOf(path: string): readonly string[] {
  const known = splitPaths.get(path);
  if (known !== undefined) return known;
  const segments: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") segments.pop();
    else if (name !== "" && name !== ".") segments.push(name);
  }
  if (splitPaths.size > 10_000) splitPaths.clear();
  splitPaths.set(path, segments);
  return segments;
}

/** Is the one path below the other? */
function isWithin(path: string, above: string): boolean {
  const segments = segmentsOf(path);
  const prefix = segmentsOf(above);
  return segments.length > prefix.length && prefix.every((name, i) => name === segments[i]);
}

function highestId(inode: Inode): number {
  let highest = inode.id;
  if (inode.state.kind === "directory") {
    for (const child of inode.state.names.values()) highest = Math.max(highest, highestId(child));
  }
  return highest;
}
