// TestDisk: a directory in memory that knows what was synced, tells of every operation before it happens, fails when it is
// told to, and gives images of itself: what a killed process leaves (all that was written) and what a power cut may leave
// (any subset of the unsynced 512-byte sectors, and of the unsynced names).

import { StableLogError } from "../../src/base/errors.js";
import type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "../../src/disk/disk.js";

export const SECTOR_BYTES = 512;
/** The one directory that is there from the start. */
export const DIR = "/log";

export type Operation =
  | "open"
  | "openNow"
  | "list"
  | "stat"
  | "mkdir"
  | "rename"
  | "unlink"
  | "syncDir"
  | "read"
  | "write"
  | "sync"
  | "truncate"
  | "close";

/** The operations that change something, or make it durable. */
export const CHANGING: readonly Operation[] = ["mkdir", "rename", "unlink", "syncDir", "write", "sync", "truncate"];

interface Node {
  bytes: Uint8Array;
  synced: Uint8Array;
}

/** A source of numbers from 0 to below 1, the same for the same seed. */
export function randomOf(seed: number): () => number {
  let state = (seed * 2654435761) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function errno(code: string): Error {
  return Object.assign(new Error(`${code}: injected or simulated`), { code });
}

export class TestDisk implements Disk {
  readonly syncsNow = true;
  /** Called before each operation with its name and the file's; what it throws is how the operation fails. */
  before: (operation: Operation, name: string) => void = () => {};
  /** Called amid each write with what a kill leaves then: a prefix of it, as long as `amidShare()` of it says. */
  amidWrite: ((image: TestDisk) => void) | undefined;
  amidShare: () => number = () => 0.5;
  /** Bytes that a write which fails lets through. */
  partialBytes = 0;
  /** Turns of the event loop that each asynchronous operation takes; 0 is one microtask. */
  turns: () => number = () => 0;
  readonly #names = new Map<string, Node>();
  readonly #durable = new Map<string, Node>();
  readonly #random = randomOf(77);
  #exists = true;
  #locked = false;
  #open = 0;

  /** Files open now. */
  get openFiles(): number {
    return this.#open;
  }

  get locked(): boolean {
    return this.#locked;
  }

  /** Without its directory, as before the first start. */
  static missing(): TestDisk {
    const disk = new TestDisk();
    disk.#exists = false;
    return disk;
  }

  /** A disk that holds these files, durably. */
  static of(files: ReadonlyMap<string, Uint8Array>): TestDisk {
    const disk = new TestDisk();
    for (const [name, bytes] of files) disk.put(name, bytes);
    return disk;
  }

  /** What stands there now: what a killed process leaves behind. */
  files(): Map<string, Uint8Array> {
    return new Map([...this.#names].map(([name, node]) => [name, node.bytes.slice()]));
  }

  killed(): TestDisk {
    const image = TestDisk.of(this.files());
    image.#exists = this.#exists;
    return image;
  }

  /** What a power cut may leave: each unsynced sector and name as it was or as it is. */
  powerCut(random: () => number): TestDisk {
    const image = new TestDisk();
    image.#exists = this.#exists;
    const torn = new Map<Node, Uint8Array>();
    // Now and then all of it or none, which are the likeliest in the world and rare by lot.
    const bias = [0, 1, 0.5, 0.2, 0.8][Math.floor(random() * 5)] ?? 0.5;
    const keeps = (): boolean => random() < bias;
    for (const name of new Set([...this.#names.keys(), ...this.#durable.keys()])) {
      const now = this.#names.get(name);
      const before = this.#durable.get(name);
      const node = now === before || keeps() ? now : before;
      if (node === undefined) continue;
      let bytes = torn.get(node);
      if (bytes === undefined) {
        bytes = tear(node, keeps);
        torn.set(node, bytes);
      }
      image.put(name, bytes);
    }
    return image;
  }

  get(name: string): Uint8Array {
    const node = this.#names.get(name);
    if (node === undefined) throw errno("ENOENT");
    return node.bytes;
  }

  put(name: string, bytes: Uint8Array): void {
    const node = { bytes: bytes.slice(), synced: bytes.slice() };
    this.#names.set(name, node);
    this.#durable.set(name, node);
  }

  /** Cuts a file behind the back of whoever reads it. */
  truncateNow(name: string, bytes: number): void {
    const node = this.#names.get(name);
    if (node !== undefined) node.bytes = node.bytes.slice(0, bytes);
  }

  delete(name: string): void {
    this.#names.delete(name);
    this.#durable.delete(name);
  }

  async #later(operation: Operation, name: string): Promise<void> {
    for (let turns = this.turns(); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    this.before(operation, name);
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const name = nameOf(path);
    await this.#later("open", name);
    if (mode === "create") {
      if (this.#names.has(name)) throw errno("EEXIST");
      const node = { bytes: new Uint8Array(0), synced: new Uint8Array(0) };
      this.#names.set(name, node);
      return this.#handle(node);
    }
    const node = this.#names.get(name);
    if (node === undefined) throw errno("ENOENT");
    return this.#handle(node);
  }

  openNow(path: string): DiskFile {
    const name = nameOf(path);
    this.before("openNow", name);
    const node = this.#names.get(name);
    if (node === undefined) throw errno("ENOENT");
    return this.#handle(node);
  }

  async list(): Promise<string[]> {
    await this.#later("list", "");
    if (!this.#exists) throw errno("ENOENT");
    return [...this.#names.keys()];
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    const name = nameOf(path);
    await this.#later("stat", name);
    if (name === "") return path === DIR && !this.#exists ? undefined : { kind: "directory", size: 0 };
    const node = this.#names.get(name);
    return node === undefined ? undefined : { kind: "file", size: node.bytes.length };
  }

  async mkdir(path: string): Promise<void> {
    await this.#later("mkdir", nameOf(path));
    if (this.#exists) throw errno("EEXIST");
    this.#exists = true;
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#later("rename", nameOf(from));
    const node = this.#names.get(nameOf(from));
    if (node === undefined) throw errno("ENOENT");
    this.#names.delete(nameOf(from));
    this.#names.set(nameOf(to), node);
  }

  async unlink(path: string): Promise<void> {
    await this.#later("unlink", nameOf(path));
    if (!this.#names.delete(nameOf(path))) throw errno("ENOENT");
  }

  async syncDir(dir: string): Promise<void> {
    await this.#later("syncDir", "");
    if (dir !== DIR) return;
    this.#durable.clear();
    for (const [name, node] of this.#names) this.#durable.set(name, node);
  }

  async lock(): Promise<DiskLock> {
    if (this.#locked) throw new StableLogError("ERR_LOCKED", "held");
    this.#locked = true;
    return {
      release: async () => {
        this.#locked = false;
      },
    };
  }

  allocate(bytes: number): Uint8Array {
    return new Uint8Array(bytes);
  }

  entropy(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) target[i] = Math.floor(this.#random() * 256);
  }

  #handle(node: Node): DiskFile {
    let open = true;
    this.#open++;
    const check = (operation: Operation): void => {
      if (!open) throw errno("EBADF");
      // A file is known by the name it has now; it may have been opened under another.
      let name = "";
      for (const [each, other] of this.#names) if (other === node) name = each;
      this.before(operation, name);
    };
    const put = (source: Uint8Array, start: number, end: number, position: number): void => {
      if (start === end) return;
      const size = Math.max(node.bytes.length, position + end - start);
      const next = new Uint8Array(size);
      next.set(node.bytes);
      next.set(source.subarray(start, end), position);
      node.bytes = next;
    };
    const write = (source: Uint8Array, start: number, end: number, position: number): void => {
      try {
        check("write");
      } catch (error) {
        const through = Math.min(this.partialBytes, end - start);
        put(source, start, start + through, position);
        throw Object.assign(error as Error, { bytesWritten: through });
      }
      if (this.amidWrite !== undefined) {
        const whole = node.bytes;
        put(source, start, start + Math.floor((end - start) * this.amidShare()), position);
        const image = this.killed();
        node.bytes = whole;
        this.amidWrite(image);
      }
      put(source, start, end, position);
    };
    const sync = (): void => {
      check("sync");
      node.synced = node.bytes.slice();
    };
    const read = (target: Uint8Array, start: number, end: number, position: number): number => {
      check("read");
      const bytes = Math.max(0, Math.min(end - start, node.bytes.length - position));
      target.set(node.bytes.subarray(position, position + bytes), start);
      return bytes;
    };
    const pause = async (): Promise<void> => {
      for (let turns = this.turns(); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    };
    return {
      size: () => node.bytes.length,
      read,
      write,
      sync,
      readLater: async (target, start, end, position) => {
        await pause();
        return read(target, start, end, position);
      },
      commit: async (source, start, end, position) => {
        await pause();
        write(source, start, end, position);
        await pause();
        sync();
      },
      writeLater: async (source, start, end, position, synced) => {
        await pause();
        if (start < end) write(source, start, end, position);
        await pause();
        if (synced) sync();
      },
      truncate: async (bytes) => {
        await pause();
        check("truncate");
        const next = new Uint8Array(bytes);
        next.set(node.bytes.subarray(0, bytes));
        node.bytes = next;
      },
      close: async () => {
        check("close");
        open = false;
        this.#open--;
      },
    };
  }
}

function nameOf(path: string): string {
  return path.startsWith(`${DIR}/`) ? path.slice(DIR.length + 1) : "";
}

function tear(node: Node, keeps: () => boolean): Uint8Array {
  const { bytes, synced } = node;
  const size = keeps() ? bytes.length : synced.length;
  const result = new Uint8Array(size);
  for (let at = 0; at < size; at += SECTOR_BYTES) {
    const source = keeps() ? bytes : synced;
    result.set(source.subarray(at, Math.min(at + SECTOR_BYTES, size)), at);
  }
  return result;
}
