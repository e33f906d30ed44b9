// Disk and DiskFile: everything stablelog asks of a file system, in some 18 operations. FileDisk does it over node:fs, MemoryDisk
// in plain memory; a simulated disk takes the same place in crash tests. Nothing above this room knows node:fs.
//
// Each operation says what a crash may leave of it. "Power cut" means that everything not synced may be kept, lost or
// reordered, sector by sector and name by name; a process kill keeps all that was handed over, and a prefix of a write
// that was under way.
//
// Paths are strings that the Disk itself understands, joined with "/". Failures are the system's own errors, with their
// errno name as `code` (and `bytesWritten` where part of a write went through); the rooms above give them a meaning.
// What is found in place of a regular file (a symbolic link, a FIFO, a directory) is refused with ERR_FOREIGN.

/** What stands under a name. */
export interface DiskStat {
  readonly kind: "file" | "directory" | "other";
  readonly size: number;
}

/** A directory that this process holds for itself until release(). */
export interface DiskLock {
  release(): Promise<void>;
}

/**
 * How a file is opened: `read` an existing one for reading; `write` an existing one for reading and writing; `create` a
 * new one for reading and writing, failing with EEXIST when the name is taken.
 */
export type OpenMode = "read" | "write" | "create";

export interface Disk {
  /**
   * False where a blocking sync cannot be had (node's permission model forbids fd syncs): DiskFile.sync() then throws, and
   * commit() and writeLater() are the ways to durability.
   */
  readonly syncsNow: boolean;

  /**
   * Opens a regular file, never through a symbolic link. A created file is private to its owner (mode 0600).
   * Power cut: a created name may be gone until syncDir() of its directory has returned.
   */
  open(path: string, mode: OpenMode): Promise<DiskFile>;

  /** open() for reading, at once: for reads that must answer before they return. Blocks. */
  openNow(path: string): DiskFile;

  /** The names in a directory, unsorted, without "." and "..". Fails with ENOENT when it is not there. */
  list(dir: string): Promise<string[]>;

  /** What stands at `path` (a symbolic link is "other"), or undefined when nothing does. */
  stat(path: string): Promise<DiskStat | undefined>;

  /**
   * Makes one directory, private to its owner (mode 0700); fails with EEXIST when the name is taken.
   * Power cut: may be gone until syncDir() of its parent has returned.
   */
  mkdir(path: string): Promise<void>;

  /**
   * Renames within one directory, replacing what stands at `to`. Atomic for readers.
   * Power cut before syncDir(): either name, both or neither may stand.
   */
  rename(from: string, to: string): Promise<void>;

  /** Removes a file's name. Power cut before syncDir(): it may be back, with any of the contents it had. */
  unlink(path: string): Promise<void>;

  /** Returns once the names made, changed and removed in `dir` before the call are durable. */
  syncDir(dir: string): Promise<void>;

  /**
   * Takes the directory for this holder alone, against other processes and other openers in this one.
   * Rejects with ERR_LOCKED while another holds it. A holder that was killed, or a crash, leaves nothing that needs a hand.
   */
  lock(dir: string): Promise<DiskLock>;

  /**
   * Memory to hand to write() and commit(); zeroed, at an 8-byte boundary. What it gives is what this disk's engines can
   * take without a copy (shared memory where a worker thread writes); other memory is fine, too.
   */
  allocate(bytes: number): Uint8Array;

  /** Fills `target` with bytes for identities that must not repeat. A simulated disk answers from its seed. */
  entropy(target: Uint8Array): void;
}

export interface DiskFile {
  /** The size in bytes now. Never used to find the end of a log. */
  size(): number;

  /** Reads into [start, end) of `target` from `position`, until full or at the end of the file; returns the bytes read. Blocks. */
  read(target: Uint8Array, start: number, end: number, position: number): number;

  /** read() off the event loop, for large reads where nobody waits in line. */
  readLater(target: Uint8Array, start: number, end: number, position: number): Promise<number>;

  /**
   * Writes [start, end) of `source` at `position`, all of it or an error: a short write is continued, so that the error
   * that cut it short is the one reported. Blocks.
   * Process kill: a prefix. Power cut before a sync: any subset of its sectors, old or new, and the size before, after or
   * without the data.
   */
  write(source: Uint8Array, start: number, end: number, position: number): void;

  /**
   * fdatasync: returns once everything written to this file before, and the size that reaching it needs, is durable. Blocks.
   * After a failure nothing is known of what was written since the last success, and a second call may lie: never retry.
   */
  sync(): void;

  /**
   * write() and then sync(), on the log's own thread; resolves when both have returned. At most one at a time a file.
   * `source` must stay untouched until then.
   */
  commit(source: Uint8Array, start: number, end: number, position: number): Promise<void>;

  /**
   * write() and, when `sync` is set, sync(), off the event loop and away from the commit thread: zero-filling, snapshots.
   * An empty range writes nothing.
   */
  writeLater(source: Uint8Array, start: number, end: number, position: number, sync: boolean): Promise<void>;

  /** Cuts or extends (with zeros) to `bytes`. Power cut before a sync: may be undone. */
  truncate(bytes: number): Promise<void>;

  /** Closes the handle; not a sync. Further calls fail with EBADF. */
  close(): Promise<void>;
}

/** Joins a directory and a name of it. */
export function joinPath(dir: string, name: string): string {
  return dir.endsWith("/") ? dir + name : `${dir}/${name}`;
}
