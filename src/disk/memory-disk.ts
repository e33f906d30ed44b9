// MemoryDisk: Disk in plain memory, for tests and for logs that need not outlive their process. It keeps POSIX's manners (a
// renamed or removed file lives on for those who have it open, names must be free to be created) and has no faults: what is
// written is durable at once. Time and chance play no part in it: the same calls give the same bytes.

import { assert } from "../base/assert.js";
import { StableLogError } from "../base/errors.js";
import type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "./disk.js";
import { notRegular, systemError } from "./system-error.js";

/** How a MemoryDisk is made. */
export interface MemoryDiskOptions {
  /** What entropy() answers from; the default is the same for every disk. */
  readonly seed?: number | undefined;
}

interface FileNode {
  readonly kind: "file";
  /** Capacity; every byte from `size` on is zero, so that growing into it needs no clearing. */
  bytes: Uint8Array;
  size: number;
}

interface DirectoryNode {
  readonly kind: "directory";
  readonly entries: Map<string, FileNode | DirectoryNode>;
}

type Node = FileNode | DirectoryNode;

const MIN_CAPACITY_BYTES = 4096;

export class MemoryDisk implements Disk {
  readonly syncsNow = true;
  readonly #root: DirectoryNode = { kind: "directory", entries: new Map() };
  readonly #locked = new Set<DirectoryNode>();
  #randomState: number;

  constructor(options: MemoryDiskOptions = {}) {
    this.#randomState = (options.seed ?? 1) | 0;
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const { parent, name } = this.#parentOf(path, "open");
    const found = name === "" ? parent : parent.entries.get(name);
    if (mode === "create") {
      if (found !== undefined) throw systemError("EEXIST", "open", path);
      const made: FileNode = { kind: "file", bytes: new Uint8Array(0), size: 0 };
      parent.entries.set(name, made);
      return new MemoryDiskFile(made, true);
    }
    return new MemoryDiskFile(existingFile(found, path), mode === "write");
  }

  openNow(path: string): DiskFile {
    return new MemoryDiskFile(existingFile(this.#find(path, "open"), path), false);
  }

  async list(dir: string): Promise<string[]> {
    return [...this.#directory(dir, "scandir").entries.keys()];
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    const found = this.#find(path, "lstat");
    if (found === undefined) return undefined;
    return { kind: found.kind, size: found.kind === "file" ? found.size : 0 };
  }

  async mkdir(path: string): Promise<void> {
    const { parent, name } = this.#parentOf(path, "mkdir");
    if (name === "" || parent.entries.has(name)) throw systemError("EEXIST", "mkdir", path);
    parent.entries.set(name, { kind: "directory", entries: new Map() });
  }

  async rename(from: string, to: string): Promise<void> {
    const source = this.#parentOf(from, "rename");
    const target = this.#parentOf(to, "rename");
    const moved = source.parent.entries.get(source.name);
    if (moved === undefined) throw systemError("ENOENT", "rename", from);
    const replaced = target.parent.entries.get(target.name);
    if (replaced === moved) return;
    if (replaced?.kind === "directory") {
      if (moved.kind === "file") throw systemError("EISDIR", "rename", to);
      if (replaced.entries.size > 0) throw systemError("ENOTEMPTY", "rename", to);
    } else if (replaced !== undefined && moved.kind === "directory") {
      throw systemError("ENOTDIR", "rename", to);
    }
    source.parent.entries.delete(source.name);
    target.parent.entries.set(target.name, moved);
  }

  async unlink(path: string): Promise<void> {
    const { parent, name } = this.#parentOf(path, "unlink");
    const found = name === "" ? parent : parent.entries.get(name);
    if (found === undefined) throw systemError("ENOENT", "unlink", path);
    if (found.kind === "directory") throw systemError("EISDIR", "unlink", path);
    parent.entries.delete(name);
  }

  async syncDir(dir: string): Promise<void> {
    this.#directory(dir, "open");
  }

  async lock(dir: string): Promise<DiskLock> {
    const directory = this.#directory(dir, "open");
    if (this.#locked.has(directory)) throw new StableLogError("ERR_LOCKED", `lock ${dir}: held by this process`);
    this.#locked.add(directory);
    let held = true;
    return {
      release: async () => {
        // Only once: a second release must not take the lock from whoever has it by then.
        if (held) this.#locked.delete(directory);
        held = false;
      },
    };
  }

  allocate(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  /** mulberry32 over the seed: well mixed, and the same on every run. */
  entropy(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) {
      this.#randomState = (this.#randomState + 0x6d2b79f5) | 0;
      let mixed = Math.imul(this.#randomState ^ (this.#randomState >>> 15), this.#randomState | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      target[i] = (mixed ^ (mixed >>> 14)) >>> 24;
    }
  }

  /** A disk of its own with the same directories, bytes and entropy to come. Locks and open files stay with this one. */
  clone(): MemoryDisk {
    const copy = new MemoryDisk({ seed: this.#randomState });
    copyEntries(this.#root, copy.#root);
    return copy;
  }

  /** A copy of every file, by its absolute path. */
  dump(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    collect(this.#root, "", files);
    return files;
  }

  #find(path: string, syscall: string): Node | undefined {
    let found: Node | undefined = this.#root;
    for (const name of segmentsOf(path)) {
      if (found === undefined) return undefined;
      if (found.kind !== "directory") throw systemError("ENOTDIR", syscall, path);
      found = found.entries.get(name);
    }
    return found;
  }

  #directory(path: string, syscall: string): DirectoryNode {
    const found = this.#find(path, syscall);
    if (found === undefined) throw systemError("ENOENT", syscall, path);
    if (found.kind !== "directory") throw systemError("ENOTDIR", syscall, path);
    return found;
  }

  /** The directory that holds the last name of `path`, and that name; "" with the root itself for "/". */
  #parentOf(path: string, syscall: string): { parent: DirectoryNode; name: string } {
    const segments = segmentsOf(path);
    const name = segments.pop() ?? "";
    return { parent: this.#directory(segments.join("/"), syscall), name };
  }
}

class MemoryDiskFile implements DiskFile {
  readonly #node: FileNode;
  readonly #writable: boolean;
  #closed = false;

  constructor(node: FileNode, writable: boolean) {
    this.#node = node;
    this.#writable = writable;
  }

  size(): number {
    this.#expectOpen("fstat");
    return this.#node.size;
  }

  read(target: Uint8Array, start: number, end: number, position: number): number {
    this.#expectOpen("read");
    expectRange(target, start, end, position);
    const bytes = Math.max(0, Math.min(end - start, this.#node.size - position));
    target.set(this.#node.bytes.subarray(position, position + bytes), start);
    return bytes;
  }

  async readLater(target: Uint8Array, start: number, end: number, position: number): Promise<number> {
    return this.read(target, start, end, position);
  }

  write(source: Uint8Array, start: number, end: number, position: number): void {
    this.#expectWritable("write", "EBADF");
    expectRange(source, start, end, position);
    if (start === end) return;
    const after = position + end - start;
    this.#reserve(after);
    this.#node.bytes.set(source.subarray(start, end), position);
    if (after > this.#node.size) this.#node.size = after;
  }

  sync(): void {
    this.#expectOpen("fdatasync");
  }

  async commit(source: Uint8Array, start: number, end: number, position: number): Promise<void> {
    this.write(source, start, end, position);
  }

  async writeLater(source: Uint8Array, start: number, end: number, position: number): Promise<void> {
    this.write(source, start, end, position);
  }

  async truncate(bytes: number): Promise<void> {
    this.#expectWritable("ftruncate", "EINVAL");
    assert(Number.isSafeInteger(bytes) && bytes >= 0, `truncate to ${bytes} bytes`);
    if (bytes < this.#node.size) this.#node.bytes.fill(0, bytes, this.#node.size);
    else this.#reserve(bytes);
    this.#node.size = bytes;
  }

  async close(): Promise<void> {
    this.#expectOpen("close");
    this.#closed = true;
  }

  #expectOpen(syscall: string): void {
    if (this.#closed) throw systemError("EBADF", syscall);
  }

  #expectWritable(syscall: string, code: string): void {
    this.#expectOpen(syscall);
    if (!this.#writable) throw systemError(code, syscall);
  }

  /** Doubling keeps a log that grows in pieces at a constant number of copies a byte. */
  #reserve(bytes: number): void {
    const { bytes: old } = this.#node;
    if (bytes <= old.length) return;
    const grown = new Uint8Array(Math.max(bytes, 2 * old.length, MIN_CAPACITY_BYTES));
    grown.set(old.subarray(0, this.#node.size));
    this.#node.bytes = grown;
  }
}

function existingFile(found: Node | undefined, path: string): FileNode {
  if (found === undefined) throw systemError("ENOENT", "open", path);
  if (found.kind !== "file") throw notRegular("open", path);
  return found;
}

function expectRange(bytes: Uint8Array, start: number, end: number, position: number): void {
  const inside = start >= 0 && start <= end && end <= bytes.length;
  assert(inside && position >= 0, `[${start}, ${end}) of ${bytes.length} bytes at position ${position}`);
}

function segmentsOf(path: string): string[] {
  const segments: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") segments.pop();
    else if (name !== "" && name !== ".") segments.push(name);
  }
  return segments;
}

function copyEntries(from: DirectoryNode, to: DirectoryNode): void {
  for (const [name, node] of from.entries) {
    if (node.kind === "file") {
      to.entries.set(name, { kind: "file", bytes: node.bytes.slice(0, node.size), size: node.size });
    } else {
      const made: DirectoryNode = { kind: "directory", entries: new Map() };
      copyEntries(node, made);
      to.entries.set(name, made);
    }
  }
}

function collect(from: DirectoryNode, prefix: string, files: Map<string, Uint8Array>): void {
  for (const [name, node] of from.entries) {
    if (node.kind === "file") files.set(`${prefix}/${name}`, node.bytes.slice(0, node.size));
    else collect(node, `${prefix}/${name}`, files);
  }
}
