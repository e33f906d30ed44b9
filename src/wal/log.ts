// Log: the engine. It puts frames into segments, groups of them with one write and one sync; keeps the indexes and the
// cache that reads answer from; begins, finishes and releases segments; and poisons itself when a write or sync of the log
// fails. Wal (records, LSNs) and FileStorage (raft's entries) are both thin over it. It knows bytes and tags, no terms and
// no votes.
//
// The path of a save:  begin(shape) -> PartWriter.record()... -> submit()           encoded and checksummed, in a Group
//                      GroupCommit  -> commit() -> #append() or #beginSegment()     stamped, written, synced
//                      #published() -> LogView.apply()                              readable; then the promise resolves
//
// Visibility: `view` and reads show what is durable (with sync off: what is written), never what is queued.

import { resolve } from "node:path";
import { AssertionError, assert } from "../base/assert.js";
import { equalBytes, putU64, viewOf } from "../base/bytes.js";
import { nowMs } from "../base/clock.js";
import { crc32 } from "../base/crc32.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, type DiskFile, type DiskLock, joinPath } from "../disk/disk.js";
import { FileDisk } from "../disk/file-disk.js";
import { DirectoryNames } from "./directory-names.js";
import * as f from "./format.js";
import {
  checkFrame,
  emptyPart,
  emptyShape,
  type FrameVerdict,
  frameBytes,
  frameBytesAt,
  type PartShape,
  PartWriter,
  partBytesMax,
  readPart,
  recordKind,
  recordTag,
  stampFrame,
} from "./frame.js";
import { type Group, GroupCommit, type GroupSink } from "./group-commit.js";
import { isNoSpace, openError, readError, spaceError } from "./io-error.js";
import { isOldestNeeded, type LogSegment, LogView, NO_RECORDS, newSegment } from "./log-view.js";
import { type Materialize, RecordCache } from "./record-cache.js";
import {
  type CarriedTail,
  judgeDirectory,
  type Recovered,
  Recovery,
  type RecoveryOptions,
  type RecoveryReport,
  syncFile,
} from "./recovery.js";
import { SegmentIndex } from "./segment-index.js";
import { indexName, parseSegmentName, STATE_NAME, segmentName } from "./segment-name.js";
import { SegmentPipeline, zeroPiece } from "./segment-pipeline.js";
import { SlabPool } from "./slab.js";
import { createState, StateFile } from "./state-file.js";
import { SLOW_OPEN_SYNC_MS, SLOW_SYNC_MS, SyncTimes } from "./sync-times.js";

export type SyncOption = "auto" | "inline" | "worker" | "off";
type Engine = Exclude<SyncOption, "auto">;

export interface LogOptions<T> {
  readonly disk: Disk;
  /** Called when the log is closed and needs its disk no more. */
  readonly onClosed?: (() => Promise<void>) | undefined;
  readonly create: boolean;
  readonly readOnly: boolean;
  readonly metadata: Uint8Array | undefined;
  readonly segmentBytes: number;
  readonly cacheBytes: number;
  readonly maxPendingBytes: number;
  readonly sync: SyncOption;
  readonly onAmbiguousTail: "refuse" | "drop";
  /** Names that the storage above gives its own files. */
  readonly isOwnName: (name: string) => boolean;
  /**
   * Called with what was recovered, before open() writes a byte: what it throws refuses the directory, which then stays as
   * it was.
   */
  readonly inspect?: ((view: LogView, logId: Uint8Array) => void) | undefined;
  /** Makes the owner's object of a record. */
  readonly materialize: Materialize<T>;
  /** Called when queued saves were rejected, and with what: what was submitted and is not in `view` will never be. */
  readonly onRejected: (error: unknown) => void;
}

/** Why a log syncs as it does. */
export interface EngineChoice {
  /**
   * `option`: the opener said so. `open`: `auto`, by the syncs that open() made. `load`: `auto`, by the syncs of saves, which
   * were slow for a while, or no longer are. `disk`: the disk cannot sync on this thread.
   */
  readonly by: "option" | "open" | "load" | "disk";
  /** Median of the syncs that open() made, in ms; undefined where it made none. */
  readonly openSyncMs: number | undefined;
  /** From this many ms a sync takes on, `auto` leaves the event loop: of those of open() 8, for they commit names; else 2. */
  readonly slowMs: number;
}

/** Counters and settings of an open log. */
export interface LogStats {
  /** Saves that resolved. */
  readonly saves: number;
  /** Records saved. */
  readonly entries: number;
  /** Bytes written to segments, heads included, zeros not. */
  readonly bytes: number;
  /** write calls to segments. */
  readonly writes: number;
  /** syncs of segments. */
  readonly syncs: number;
  /** Which engine syncs now; `off` means that nothing is synced and a power cut loses what was saved. */
  readonly engine: Engine;
  /** Who chose the engine, and what `auto` went by. */
  readonly choice: EngineChoice;
  /** Of the syncs of saves, in ms; both 0 before the first. */
  readonly syncMs: { readonly p50: number; readonly p99: number };
  readonly segments: number;
  readonly spareBytes: number;
  readonly cacheBytes: number;
  readonly indexBytes: number;
  /** Bytes of saves that are queued or on their way to the disk; what maxPendingBytes bounds. */
  readonly pendingBytes: number;
  readonly state: "open" | "poisoned" | "closed";
}

/** Writes larger than this leave the event loop to others under `auto`: they take milliseconds. */
const LARGE_GROUP_BYTES = 4 * 1024 * 1024;
/**
 * Groups of at least this many bytes need no zeros: the file grows with them. A growing file costs such a write a third of
 * its speed, zeros ahead of it would cost half; a small one loses a third of its time that way, and zeros nothing.
 */
const BARE_GROUP_BYTES = 256 * 1024;
/** Zeros behind a small group that made its file longer: the first time, and at most; twice as many each time between. */
const FIRST_AHEAD_BYTES = 32 * 1024;
const MAX_AHEAD_BYTES = 512 * 1024;
/** A segment is made for this many times what its predecessor holds: a growing log soon changes files rarely. */
const GROWTH = 4;
/** A segment has room for as many groups of the size that it begins with, within the bound. */
const GROUPS_A_SEGMENT = 256;
const MAX_BURST_BYTES = 16 * 1024 * 1024;
const MAX_GROUP_BYTES = 8 * 1024 * 1024;
const READ_CHUNK_BYTES = 256 * 1024;
/** File handles kept open for cold reads. */
const MAX_READERS = 64;
const EMPTY = new Uint8Array(0);

/** The segment being written. */
interface Active {
  readonly segment: LogSegment;
  readonly file: DiskFile;
  /** Written bytes that no sync has covered. */
  unsynced: boolean;
  /** Zeros stand from the segment's end up to here, when that is further: a group that ends later makes the file longer. */
  zeroedTo: number;
  /** Zeros for the next small group that makes the file longer. */
  aheadBytes: number;
  /** Bytes of large groups, which want no spare that is zero-filled ahead. */
  largeBytes: number;
  /** The file may not become longer (EFBIG), so that what comes next goes into another one. */
  full: boolean;
}

/** A failed write or sync of the log itself. */
class Poison {
  readonly cause: unknown;
  readonly maybeDurable: boolean;

  constructor(cause: unknown, maybeDurable: boolean) {
    this.cause = cause;
    this.maybeDurable = maybeDurable;
  }
}

export class Log<T> implements GroupSink {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #options: LogOptions<T>;
  readonly #lock: DiskLock | undefined;
  readonly #logId: Uint8Array;
  /** The owner's bytes, as they were given when the log was created. */
  readonly metadata: Uint8Array;
  readonly recovery: RecoveryReport;
  /** What is durable. */
  readonly view: LogView;
  readonly #stateFile: StateFile | undefined;
  /** How far the last sync that returned has reached; `due` while STATE does not say so. */
  readonly #synced = { generation: 0, end: 0, sequence: 0, chain: 0, due: false };
  /** Whoever gives a file in the log's directory its name does so here. */
  readonly names: DirectoryNames;
  readonly #pipeline: SegmentPipeline;
  readonly #commit: GroupCommit;
  readonly #cache: RecordCache<T>;
  readonly #writer = new PartWriter();
  #group: Group | undefined;

  /** Ascending; the last one is the newest. Older ones the log no longer needs stay until they are removed. */
  readonly #segments: LogSegment[];
  /** The segments that hold records, each up to where the next one begins; undefined when it must be worked out again. */
  #live: LogSegment[] | undefined;
  #active: Active | undefined;
  #nextGeneration: number;
  /** The newest segment of an earlier run, and whether it has only zeros behind its end. */
  #found: LogSegment | undefined;
  readonly #foundZeroTail: boolean;
  /** Sequence of the last frame known synced. */
  #durable: number;

  /** BARE_GROUP_BYTES and FIRST_AHEAD_BYTES of this log: segments that are small have room for groups of both kinds, too. */
  readonly #bareBytes: number;
  readonly #firstAheadBytes: number;
  #engine: Engine;
  #choice: EngineChoice;
  #status: "open" | "closing" | "poisoned" | "closed" = "open";
  #poison: unknown;
  #closing: Promise<void> | undefined;
  /** Finishing and releasing segments: after one another, awaited by close(). */
  #housekeeping: Promise<void> = Promise.resolve();
  readonly #readers = new Map<number, DiskFile>();
  readonly #syncTimes = new SyncTimes();
  #saves = 0;
  #entries = 0;
  #bytes = 0;
  #writes = 0;
  #syncs = 0;

  private constructor(
    dir: string,
    options: LogOptions<T>,
    lock: DiskLock | undefined,
    recovered: Recovered,
    stateFile: StateFile | undefined,
    recovery: RecoveryReport,
  ) {
    this.#disk = options.disk;
    this.#dir = dir;
    this.#options = options;
    this.#lock = lock;
    this.#logId = recovered.state.logId;
    this.metadata = recovered.state.metadata;
    this.recovery = recovery;
    this.view = recovered.view;
    this.#stateFile = stateFile;
    this.#segments = recovered.segments;
    this.#nextGeneration = recovered.nextGeneration;
    this.#found = recovered.segments.at(-1);
    this.#foundZeroTail = recovered.zeroTail;
    this.#durable = recovered.segments.at(-1)?.sequence ?? 0;
    const sorted = [...recovered.syncMs].sort((a, b) => a - b);
    const openSyncMs = sorted[Math.floor(sorted.length / 2)];
    const { engine, by } = chooseEngine(options, openSyncMs ?? 0);
    this.#bareBytes = Math.min(BARE_GROUP_BYTES, Math.floor(options.segmentBytes / 8));
    this.#firstAheadBytes = Math.min(FIRST_AHEAD_BYTES, Math.floor(options.segmentBytes / 16));
    this.#engine = engine;
    this.#choice = { by, openSyncMs, slowMs: by === "open" ? SLOW_OPEN_SYNC_MS : SLOW_SYNC_MS };
    const slabs = new SlabPool(options.cacheBytes);
    this.#cache = new RecordCache(options.cacheBytes, options.materialize, slabs);
    this.names = new DirectoryNames(options.disk, dir, engine === "off");
    this.#pipeline = new SegmentPipeline(options.disk, dir, options.sync !== "off");
    this.#commit = new GroupCommit(this, slabs, Math.min(MAX_GROUP_BYTES, Math.ceil(options.segmentBytes / 4)));
  }

  /** Opens the log in `dir`, or makes one; see FileStorage.open() for what it throws. */
  static async open<T>(path: string, options: LogOptions<T>): Promise<Log<T>> {
    // Once and for all: the process may change its directory while the log is open.
    const dir = options.disk instanceof FileDisk ? resolve(path) : path;
    const started = nowMs();
    const { disk, readOnly } = options;
    const recoveryOptions: RecoveryOptions = {
      create: options.create,
      readOnly,
      onAmbiguousTail: options.onAmbiguousTail,
      isOwnName: options.isOwnName,
    };
    let names: string[];
    try {
      names = await listOrMake(disk, dir, recoveryOptions);
    } catch (error) {
      throw openError(`open log ${dir}`, error);
    }
    judgeDirectory(dir, names, recoveryOptions);
    if (readOnly) return Log.#look(dir, options, recoveryOptions, started);
    let lock: DiskLock;
    try {
      lock = await disk.lock(dir);
    } catch (error) {
      throw openError(`lock log ${dir}`, error);
    }
    try {
      return await Log.#openLocked(dir, options, recoveryOptions, lock, started);
    } catch (error) {
      await lock.release().catch(() => {});
      throw openError(`open log ${dir}`, error);
    }
  }

  static async #openLocked<T>(
    dir: string,
    options: LogOptions<T>,
    recoveryOptions: RecoveryOptions,
    lock: DiskLock,
    started: number,
  ): Promise<Log<T>> {
    const { disk, metadata } = options;
    let names = await disk.list(dir);
    let created = false;
    const createMs: number[] = [];
    if (judgeDirectory(dir, names, recoveryOptions) === "create") {
      await syncName(disk, dir);
      const before = nowMs();
      await createState(disk, dir, newLogId(disk), metadata ?? EMPTY);
      // Two syncs, the file's and the directory's; the smaller half is the better guess of what one of them costs.
      createMs.push((nowMs() - before) / 2);
      created = true;
      names = await disk.list(dir);
    }
    const recovered = await new Recovery(disk, dir, recoveryOptions, nowMs).run(names);
    checkOwner(dir, metadata, recovered.state.metadata);
    inspect(options, recovered);
    recovered.syncMs.push(...createMs);
    const stateFile = new StateFile(disk, await disk.open(joinPath(dir, STATE_NAME), "write"), recovered.state);
    const log = new Log(dir, options, lock, recovered, stateFile, report(recovered, created, nowMs() - started));
    try {
      if (recovered.carry !== undefined) await log.#carryOver(recovered.carry);
      await log.#remove(recovered.remove, recovered.state.newest);
    } catch (error) {
      await log.#active?.file.close().catch(() => {});
      await stateFile.abandon().catch(() => {});
      throw error;
    }
    return log;
  }

  /** Opens for looking only. A running log changes under the eye, so what contradicts itself is looked at again. */
  static async #look<T>(
    dir: string,
    options: LogOptions<T>,
    recoveryOptions: RecoveryOptions,
    started: number,
  ): Promise<Log<T>> {
    for (let attempt = 1; ; attempt++) {
      try {
        const recovered = await new Recovery(options.disk, dir, recoveryOptions, nowMs).run(
          await options.disk.list(dir),
        );
        checkOwner(dir, options.metadata, recovered.state.metadata);
        inspect(options, recovered);
        return new Log(dir, options, undefined, recovered, undefined, report(recovered, false, nowMs() - started));
      } catch (error) {
        const code = errnoOf(error);
        const moved = code === "ENOENT" || code === "ERR_CORRUPT" || code === "ERR_GAP";
        if (!moved || attempt === 5) throw readError(`open log ${dir} to read`, error);
      }
    }
  }

  /** "open" until a failed write or sync ("poisoned") or close(). */
  get status(): "open" | "closing" | "poisoned" | "closed" {
    return this.#status;
  }

  get dir(): string {
    return this.#dir;
  }

  get readOnly(): boolean {
    return this.#options.readOnly;
  }

  /**
   * The error that a write would be rejected with now, undefined when the log takes writes.
   * `action` is what the caller was about to do.
   */
  refusal(action: string): StableLogError | undefined {
    if (this.#closing !== undefined) return new StableLogError("ERR_CLOSED", `${action}: the log is closed`);
    if (this.#status === "poisoned") return poisonError(action, this.#poison, false);
    if (!this.#options.readOnly) return undefined;
    return new StableLogError("ERR_READ_ONLY", `${action}: the log was opened read-only`);
  }

  /** @throws ERR_CLOSED once close() was called. */
  assertReadable(action: string): void {
    if (this.#closing !== undefined) throw new StableLogError("ERR_CLOSED", `${action}: the log is closed`);
  }

  // ---- writing

  /**
   * Starts a save of this shape. The caller fills in state and records with the writer that this returns, and then calls
   * submit(), in the same turn.
   * @throws ERR_TOO_LARGE when the save is above 1 GiB, or would take the queue above maxPendingBytes.
   */
  begin(shape: PartShape): PartWriter {
    const group = this.#commit.reserve(this.checkRoom(shape));
    this.#group = group;
    const bodyAt = group.end + f.HEADER_BYTES;
    this.#writer.begin(group.slab.bytes, group.slab.view, bodyAt, bodyAt, shape);
    return this.#writer;
  }

  /**
   * Bytes to reserve for a save of this shape. For who must know before begin() that it will not throw.
   * @throws ERR_TOO_LARGE as begin() does.
   */
  checkRoom(shape: PartShape): number {
    const bytes = frameBytes(partBytesMax(shape));
    if (bytes > f.MAX_SAVE_BYTES) {
      throw new StableLogError("ERR_TOO_LARGE", `save ${bytes} bytes: a save is at most ${f.MAX_SAVE_BYTES}`);
    }
    const pending = this.#commit.pendingBytes;
    if (pending > 0 && pending + bytes > this.#options.maxPendingBytes) {
      throw new StableLogError(
        "ERR_TOO_LARGE",
        `save ${bytes} bytes: ${pending} are queued and maxPendingBytes is ${this.#options.maxPendingBytes}`,
      );
    }
    return bytes;
  }

  /** Queues the save that begin() started. `mustSync` false lets it resolve when it is written. */
  submit(mustSync: boolean, records: number): Promise<void> {
    const group = this.#group as Group;
    const end = this.#writer.end();
    this.#entries += records;
    return this.#commit.join(group, end - group.end, mustSync);
  }

  /** Makes the saves from here on wait for `gate`; when it rejects they are rejected with its error. */
  gate(gate: Promise<void>): void {
    this.#commit.gate(gate);
  }

  /** Where `cause` is a disk without room, gives back to it what is filled ahead; false when that is nothing. */
  async makeRoom(cause: unknown): Promise<boolean> {
    return isNoSpace(cause) && errnoOf(cause) !== "EFBIG" && (await this.#pipeline.giveUp());
  }

  /** Resolves when all saves so far have, rejects when one of them is rejected. */
  settled(): Promise<void> {
    return this.#commit.settled();
  }

  /**
   * Looks the queue through, newest save first, for what becomes of record `index`: its tag, "cut" when it is cut off,
   * undefined when the queue leaves it as it is in `view`.
   */
  queuedTag(index: number): number | "cut" | undefined {
    const part = emptyPart();
    const groups = this.#commit.queued;
    for (let g = groups.length - 1; g >= 0; g--) {
      const { slab, start, end } = groups[g] as Group;
      const { view } = slab;
      const frames: number[] = [];
      for (let at = start; at < end; at += frameBytesAt(view, at)) frames.push(at);
      for (const at of frames.reverse()) {
        if (!readPart(view, at, part)) continue;
        if ((part.flags & f.F_COMPACT) !== 0 && part.baseIndex === index) return part.baseTag;
        if ((part.flags & f.F_RECORDS) !== 0 && index >= part.first) {
          return index < part.first + part.count ? tagInPart(view, part, index) : "cut";
        }
        if ((part.flags & f.F_RESET) !== 0) return part.baseIndex === index ? part.baseTag : "cut";
      }
    }
    return undefined;
  }

  // ---- GroupSink

  get quick(): boolean {
    return this.#engine !== "inline" || this.#syncTimes.quick;
  }

  commit(group: Group): Promise<void> | undefined {
    if (group.used === 0) return undefined;
    const active = this.#active;
    if (active === undefined || active.full || active.segment.end + group.used > active.segment.capacity) {
      return this.#commitInNewSegment(group);
    }
    const sync = group.mustSync && this.#engine !== "off";
    const written = this.#write(active, group, sync);
    if (typeof written === "number") {
      this.#written(active, group, sync, written);
      return undefined;
    }
    return written.then(
      (ms) => this.#written(active, group, sync, ms),
      (error: unknown) => {
        if (!active.full || error instanceof Poison) throw error;
        return this.#commitInNewSegment(group);
      },
    );
  }

  failed(error: unknown): { group: unknown; queued: unknown } {
    if (error instanceof StableLogError) {
      this.#options.onRejected(error);
      return { group: error, queued: error };
    }
    // What is neither a failure to make room nor one of the disk is a bug of ours: bytes may stand that the view lacks.
    const { cause, maybeDurable } = error instanceof Poison ? error : { cause: error, maybeDurable: true };
    this.#status = "poisoned";
    this.#poison = cause;
    const queued = poisonError("save", cause, false);
    this.#options.onRejected(queued);
    return { group: poisonError("save", cause, maybeDurable), queued };
  }

  /** Writes the group at the end of the segment, and syncs it; gives the ms that took, or a promise of it. */
  #write(active: Active, group: Group, sync: boolean): number | Promise<number> {
    const { segment, file } = active;
    const { slab, start, end } = group;
    this.#stamp(group, segment);
    const after = segment.end + group.used;
    const grows = after > active.zeroedTo;
    if (this.#engine === "worker" || this.#large(group)) return this.#writeLater(active, group, sync);
    try {
      file.write(slab.bytes, start, end, segment.end);
    } catch (error) {
      if (grows && isNoSpace(error)) return this.#noRoom(active, group, sync, error);
      throw new Poison(error, bytesWritten(error) > 0);
    }
    const zeros = grows ? this.#zerosBehind(active, group) : 0;
    if (zeros > 0) {
      try {
        file.write(zeroPiece(), 0, zeros, after);
        active.zeroedTo = after + zeros;
      } catch {
        // Room ahead is no promise. A disk that is full, or broken, says so to who needs it.
      }
    }
    if (!sync) return 0;
    const started = nowMs();
    try {
      file.sync();
    } catch (error) {
      throw new Poison(error, true);
    }
    return nowMs() - started;
  }

  /** #write() off the event loop. */
  async #writeLater(active: Active, group: Group, sync: boolean): Promise<number> {
    const { segment, file } = active;
    const { slab, start, end } = group;
    const after = segment.end + group.used;
    const grows = after > active.zeroedTo;
    const started = nowMs();
    try {
      // A write that finds no room costs the group alone, a sync that fails costs the log: they are called apart where both may.
      if (sync && !grows) await file.commit(slab.bytes, start, end, segment.end);
      else await file.writeLater(slab.bytes, start, end, segment.end, false);
    } catch (error) {
      if (grows && isNoSpace(error)) return this.#noRoom(active, group, sync, error);
      throw new Poison(error, true);
    }
    const zeros = grows ? this.#zerosBehind(active, group) : 0;
    if (zeros > 0) {
      await file.writeLater(zeroPiece(), 0, zeros, after, false).then(
        () => {
          active.zeroedTo = after + zeros;
        },
        () => {
          // As in #write().
        },
      );
    }
    if (sync && grows) {
      try {
        await file.writeLater(EMPTY, 0, 0, 0, true);
      } catch (error) {
        throw new Poison(error, true);
      }
    }
    return nowMs() - started;
  }

  /**
   * Zeros to write behind a group that makes the file longer, so that the next small ones do not. More each time that small
   * groups come to the end of them, few again behind a large group, which would only write them once more.
   */
  #zerosBehind(active: Active, group: Group): number {
    const { segment, aheadBytes } = active;
    if (this.#engine === "off") return 0;
    if (group.used >= this.#bareBytes) {
      active.aheadBytes = this.#firstAheadBytes;
      return 0;
    }
    active.aheadBytes = Math.min(2 * aheadBytes, MAX_AHEAD_BYTES);
    return Math.min(aheadBytes, segment.capacity - segment.end - group.used);
  }

  /** The disk has no room for a group; what was filled ahead is given up for it. */
  async #noRoom(active: Active, group: Group, sync: boolean, cause: unknown): Promise<number> {
    if (await this.makeRoom(cause)) return this.#writeLater(active, group, sync);
    return this.#cutBack(active, cause);
  }

  /**
   * The disk has no room for a group. What went through of it is cut off, and that is made durable: whole frames may be among
   * it, and a save that was rejected for want of room must not be there after a crash. Rejects with what the group's savers get.
   */
  async #cutBack(active: Active, cause: unknown): Promise<never> {
    const { segment, file } = active;
    active.zeroedTo = segment.end;
    active.full = errnoOf(cause) === "EFBIG";
    try {
      await file.truncate(segment.end);
      if (this.#engine !== "off") await file.writeLater(EMPTY, 0, 0, 0, true);
    } catch (error) {
      throw new Poison(error, true);
    }
    throw spaceError(`make room in ${segment.name}`, cause, { file: segment.name });
  }

  #large(group: Group): boolean {
    return this.#options.sync === "auto" && group.used > LARGE_GROUP_BYTES;
  }

  /** Gives every frame of the group its place at the end of `segment`. */
  #stamp(group: Group, segment: LogSegment): void {
    const { slab, start, end } = group;
    const { bytes, view, words } = slab;
    const { identity } = segment;
    let { sequence, chain } = segment;
    for (let at = start; at < end; at += frameBytesAt(view, at)) {
      const offset = segment.end + at - start;
      chain = stampFrame(bytes, view, at, f.KIND_FRAME, identity, ++sequence, this.#durable, offset, chain, words);
    }
  }

  /** The group is on disk: its effects become readable. */
  #written(active: Active, group: Group, synced: boolean, syncMs: number): void {
    const { segment } = active;
    const { slab, start, end, used } = group;
    const { from } = segment;
    const kept = this.#cache.takes(used);
    if (!this.view.applyGroup(slab, start, end, segment.end, segment, this.#cache, kept)) {
      throw new AssertionError(`a frame of ${segment.name} from ${segment.end} on contradicts the log`);
    }
    if (segment.from !== from) this.#live = undefined;
    segment.end += used;
    if (used >= this.#bareBytes) active.largeBytes += used;
    this.#saves += group.saves;
    this.#bytes += used;
    this.#writes++;
    if (synced) {
      this.#noteSync(active, syncMs);
      // As it is now: what is written behind it without a sync of its own is no part of it.
      const reached = this.#synced;
      reached.generation = segment.generation;
      reached.end = segment.end;
      reached.sequence = segment.sequence;
      reached.chain = segment.chain;
      reached.due = true;
    } else {
      active.unsynced = true;
    }
    // No more zeros than the segment is made for itself: its successor may be made for four times as much, and grows from there.
    const ahead = Math.min(segment.capacity, this.#nextCapacity());
    this.#pipeline.advance((segment.end - active.largeBytes) / segment.capacity, ahead);
  }

  #noteSync(active: Active, ms: number): void {
    const { segment } = active;
    active.unsynced = false;
    this.#durable = segment.sequence;
    this.#syncs++;
    this.#syncTimes.note(ms);
    if (this.#options.sync === "auto" && this.#disk.syncsNow) this.#chooseAgain();
  }

  /** Leaves the event loop to others while syncs are slow; what made them slow may pass. */
  #chooseAgain(): void {
    const wanted = this.#engine === "inline" ? this.#syncTimes.slow : this.#syncTimes.steady;
    if (!wanted) return;
    this.#engine = this.#engine === "inline" ? "worker" : "inline";
    this.#choice = { ...this.#choice, by: "load", slowMs: SLOW_SYNC_MS };
    this.#syncTimes.startOver();
  }

  /**
   * Where no group follows at once, STATE says how far the log is durable; where one does, its frames say so, and a write is
   * saved. Between the two nothing vouches for the last group, and who opens the log then writes it again.
   */
  pause(): void {
    if (this.#synced.due && this.#status === "open") this.#note(this.#synced);
  }

  #note({ generation, end, sequence, chain }: Pick<LogSegment, "generation" | "end" | "sequence" | "chain">): void {
    this.#synced.due = false;
    if (this.#engine === "worker") this.#stateFile?.noteLater(generation, end, sequence, chain);
    else this.#stateFile?.note(generation, end, sequence, chain);
  }

  // ---- segments

  #nextCapacity(): number {
    const newest = this.#segments.at(-1);
    // Grows with what was really written, so that a log which is opened often and written little stays small.
    const wanted = newest === undefined ? 0 : GROWTH * newest.end;
    let capacity = f.FIRST_SEGMENT_BYTES;
    while (capacity < wanted) capacity *= 2;
    return Math.min(capacity, this.#options.segmentBytes);
  }

  async #commitInNewSegment(group: Group): Promise<void> {
    // It takes a while until a frame stands there that says the same.
    this.pause();
    const active = await this.#beginSegment(group.used, undefined);
    // The head is synced with the first group whatever that asks for: STATE may name it only then.
    const sync = this.#engine !== "off";
    let ms: number;
    try {
      ms = await this.#write(active, group, sync);
    } catch (error) {
      if (error instanceof Poison) this.#install(active);
      else await this.#takeBack(active.segment.name, active.file);
      throw error;
    }
    this.#install(active);
    await this.#name(active);
    this.#written(active, group, sync, ms);
  }

  /**
   * Takes back a segment whose head or first group found no room; what was written before it goes on. A crash may bring its
   * name back, and its head would say that the predecessor ends where it did then: so it is made empty first, durably. Where
   * that fails its predecessor must end there, and is not written to again.
   */
  async #takeBack(name: string, file: DiskFile): Promise<void> {
    try {
      await file.truncate(0);
      if (this.#engine !== "off") await file.writeLater(EMPTY, 0, 0, 0, true);
    } catch {
      const previous = this.#active;
      this.#active = undefined;
      if (previous !== undefined) this.#keepReader(previous.segment.generation, previous.file);
    }
    await file.close().catch(() => {});
    await this.#disk.unlink(joinPath(this.#dir, name)).catch(() => {});
  }

  /** A segment that was begun is the newest one from here on. */
  #install(active: Active): void {
    const previous = this.#active;
    this.#segments.push(active.segment);
    this.#live = undefined;
    this.#active = active;
    if (previous !== undefined) this.#keepReader(previous.segment.generation, previous.file);
  }

  /** A sync off the event loop, of everything written to the segment so far. */
  async #syncNow(active: Active, started: number): Promise<void> {
    try {
      await active.file.writeLater(EMPTY, 0, 0, 0, true);
    } catch (error) {
      // What waits behind this sync has not written a byte of its own.
      throw new Poison(error, false);
    }
    this.#noteSync(active, nowMs() - started);
  }

  /** Names a begun segment in STATE; from here on what is in it may be acknowledged. */
  async #name(active: Active): Promise<void> {
    const before = this.#segments.at(-2);
    try {
      await this.#stateFile?.name(active.segment.generation, this.#engine !== "off");
    } catch (error) {
      throw new Poison(error, true);
    }
    if (before !== undefined) this.#finishLater(before);
  }

  /**
   * Begins a segment with room for `bytes` after its head: takes a file, gives it its name, makes that durable,
   * and writes the head (which carries a recovered tail when there is one). Not synced, not installed and not named in STATE yet.
   */
  async #beginSegment(bytes: number, carry: CarriedTail | undefined): Promise<Active> {
    const previous = this.#active;
    if (previous?.unsynced === true && this.#engine !== "off") await this.#syncNow(previous, nowMs());
    const generation = this.#nextGeneration;
    const newest = this.#segments.at(-1);
    const base = carry?.base ?? this.view.last;
    const shape = this.#headShape(carry);
    const headBytes = frameBytes(f.LINK_BYTES + partBytesMax(shape));
    const made = await this.#makeSegmentFile(generation, headBytes, bytes, carry !== undefined);
    const { file, zeroedTo, capacity } = made;
    this.#nextGeneration = generation + 1;
    const segment = newSegment(this.#logId, generation, capacity, base, newest?.generation ?? 0);
    const head = this.#encodeHead(segment, newest, shape, headBytes, carry);
    const { sequence, chain } = newest ?? { sequence: 0, chain: 0 };
    segment.sequence = sequence + 1;
    const own = stampFrame(
      head.bytes,
      viewOf(head.bytes),
      0,
      f.KIND_HEAD,
      segment.identity,
      segment.sequence,
      this.#durable,
      0,
      chain,
    );
    segment.chain = own >>> 0;
    try {
      await file.writeLater(head.bytes, 0, head.used, 0, false);
    } catch (error) {
      if (this.#engine !== "off" && !isNoSpace(error)) {
        await file.close().catch(() => {});
        throw new Poison(error, false);
      }
      // Where the file has no zeros yet this is where room is made. All of the head may be there, whatever the call says.
      await this.#takeBack(segment.name, file);
      throw spaceError(`make segment ${segment.name}`, error, { file: segment.name });
    }
    this.#bytes += head.used;
    this.#writes++;
    // A head says what the log is already; only its records have places to note, and the view has them by now.
    const scratch = new LogView();
    scratch.dummyIndex = this.view.dummyIndex;
    scratch.last = base;
    assert(
      scratch.apply(head.bytes, viewOf(head.bytes), 0, 0, segment),
      `the head of ${segment.name} contradicts the log`,
    );
    segment.end = head.used;
    const aheadBytes = this.#firstAheadBytes;
    return { segment, file, unsynced: true, zeroedTo, aheadBytes, largeBytes: 0, full: false };
  }

  /**
   * A file with the name of the new segment, durable as such, how far it is zero, and what the segment may hold: its head and
   * `bytes`, or more. What was filled ahead is taken as it is, and the file grows behind that; where a large group comes first
   * no zeros are made for it. Failing here is no failure of the log.
   */
  async #makeSegmentFile(
    generation: number,
    headBytes: number,
    bytes: number,
    opening: boolean,
  ): Promise<{ file: DiskFile; zeroedTo: number; capacity: number }> {
    const name = segmentName(generation);
    const action = `make segment ${name}`;
    const least = headBytes + bytes;
    // A new log under load is told by its first group: it would soon be changing files all the time.
    const burst = Math.min(GROUPS_A_SEGMENT * least, MAX_BURST_BYTES, this.#options.segmentBytes);
    // Whoever opens a log waits for no more than what is carried; it then grows up again.
    const first = Math.max(least, Math.min(f.FIRST_SEGMENT_BYTES, this.#options.segmentBytes));
    const capacity = opening ? first : Math.max(this.#nextCapacity(), burst, least);
    // A large group makes its own room. A carried tail has it made first: no room then is found out before its head is written.
    const bare = !opening && bytes >= this.#bareBytes;
    // Where few are filled ahead a save waits for the first of them, and the file grows from there.
    let zeros = bare ? 0 : Math.max(least, Math.min(capacity, f.FIRST_SEGMENT_BYTES));
    let file: DiskFile | undefined;
    while (file === undefined) {
      try {
        file = await this.#pipeline.take(zeros);
      } catch (cause) {
        const error = spaceError(action, cause, { file: name });
        if (error.code !== "ERR_NO_SPACE" || zeros <= least) throw error;
        zeros = least;
      }
    }
    const path = joinPath(this.#dir, name);
    try {
      // A name whose directory failed to sync is never used again: a second sync could lie about it.
      await this.names.give(
        () => this.#pipeline.rename(path),
        () => this.#disk.unlink(path).catch(() => {}),
      );
      return { file, zeroedTo: file.size(), capacity };
    } catch (error) {
      this.#nextGeneration = generation + 1;
      await file.close().catch(() => {});
      throw spaceError(action, error, { file: name });
    }
  }

  /** What a head restates: state and mark as they are, and the records of a carried tail. */
  #headShape(carry: CarriedTail | undefined): PartShape {
    const shape = emptyShape();
    shape.hasState = true;
    shape.mark = this.view.mark;
    if (carry?.cut === true) {
      shape.hasRecords = true;
      shape.first = carry.first;
      shape.count = carry.recordsAt.length;
      shape.dataBytes = carry.dataBytes;
    }
    return shape;
  }

  #encodeHead(
    segment: LogSegment,
    newest: LogSegment | undefined,
    shape: PartShape,
    headBytes: number,
    carry: CarriedTail | undefined,
  ): { bytes: Uint8Array; used: number } {
    const bytes = this.#disk.allocate(headBytes);
    const view = viewOf(bytes);
    const link = f.HEADER_BYTES;
    bytes.set(this.#logId, link + f.L_LOG_ID);
    putU64(view, link + f.L_PREV_GENERATION, newest?.generation ?? 0);
    putU64(view, link + f.L_PREV_END, newest?.end ?? 0);
    putU64(view, link + f.L_PREV_SEQUENCE, newest?.sequence ?? 0);
    putU64(view, link + f.L_PREV_FROM, newest === undefined || newest.from === NO_RECORDS ? 0 : newest.from);
    putU64(view, link + f.L_BASE_INDEX, this.view.dummyIndex);
    putU64(view, link + f.L_BASE_TAG, this.view.dummyTag);
    putU64(view, link + f.L_LAST_INDEX, segment.base);
    putU64(view, link + f.L_CAPACITY, segment.capacity);
    this.#writer.begin(bytes, view, link, link + f.LINK_BYTES, shape);
    bytes.set(this.view.state, this.#writer.stateAt);
    if (carry !== undefined) {
      for (const at of carry.recordsAt) {
        const dataAt = at + f.RECORD_BYTES;
        const data = carry.bytes.subarray(dataAt, dataAt + carry.view.getUint32(at + f.R_DATA_BYTES, true));
        this.#writer.record(recordTag(carry.view, at), recordKind(carry.view, at), data);
      }
    }
    return { bytes, used: this.#writer.end() };
  }

  /** Writes again, durably, what recovery found beyond the vouched end. */
  async #carryOver(carry: CarriedTail): Promise<void> {
    const started = nowMs();
    try {
      const active = await this.#beginSegment(0, carry);
      this.#install(active);
      await this.#syncNow(active, started);
      await this.#name(active);
      this.#note(active.segment);
    } catch (error) {
      if (error instanceof StableLogError && error.code === "ERR_NO_SPACE") return this.#carryInPlace(carry);
      throw error instanceof Poison ? spaceError(`carry the tail of ${this.#dir} over`, error.cause) : error;
    }
  }

  /**
   * A log opens while the disk is full: the tail is written again where it stands, which takes no room, and synced. A crash
   * amid this leaves the same bytes, so the next open finds the same tail.
   */
  async #carryInPlace(carry: CarriedTail): Promise<void> {
    const segment = carry.inPlace();
    const { name, generation, end } = segment;
    const named = this.#found?.generation === generation;
    try {
      const file = await this.#disk.open(joinPath(this.#dir, name), "write");
      try {
        await file.writeLater(carry.bytes, carry.from, end, carry.from, true);
      } finally {
        await file.close();
      }
      if (!named) await this.#stateFile?.name(generation);
    } catch (error) {
      throw spaceError(`write the tail of ${name} again`, error, { file: name });
    }
    if (named) this.#segments.pop();
    this.#segments.push(segment);
    this.#found = segment;
    this.#durable = segment.sequence;
    this.#note(segment);
  }

  /** Gives back the room behind a finished segment's end and writes its index beside it: off the path of any save. */
  #finishLater(segment: LogSegment): void {
    // A segment of this run has only zeros behind its end; of an earlier one recovery says so.
    const truncate = segment !== this.#found || this.#foundZeroTail;
    this.#background(async () => {
      const path = joinPath(this.#dir, segment.name);
      if (truncate) {
        const file = await this.#disk.open(path, "write");
        try {
          // What was dropped in recovery stays where it is: only zeros are given back.
          if (file.size() > segment.end) await file.truncate(segment.end);
        } finally {
          await file.close();
        }
      }
      if (segment.index === undefined) return;
      segment.index.trim();
      await this.#writeIndex(segment, segment.index);
    });
  }

  /** An index is derived: written without a sync, and whoever finds it damaged makes it again. */
  async #writeIndex(segment: LogSegment, index: SegmentIndex): Promise<void> {
    const bytes = index.encode(segment);
    const path = joinPath(this.#dir, indexName(segment.generation));
    if ((await this.#disk.stat(path)) !== undefined) await this.#disk.unlink(path);
    const file = await this.#disk.open(path, "create");
    try {
      await file.writeLater(bytes, 0, bytes.length, 0, false);
    } finally {
      await file.close();
    }
  }

  /** Runs after earlier housekeeping. What fails here is tried again at the next open, and costs only room or time. */
  #background(work: () => Promise<void>): void {
    this.#housekeeping = this.#housekeeping.then(work).catch(() => {});
  }

  /** Removes segments that hold nothing above the dummy, oldest first; one becomes the spare. */
  release(): Promise<void> {
    const released = this.#housekeeping.then(() => this.#release());
    this.#housekeeping = released.catch(() => {});
    return released;
  }

  async #release(): Promise<void> {
    const segments = this.#segments;
    const named = this.#stateFile?.newest ?? 0;
    let oldest = segments.length - 1;
    // A segment that STATE does not name yet stands for nothing: what it follows must stay until it does.
    while (oldest > 0 && (segments[oldest] as LogSegment).generation > named) oldest--;
    while (oldest > 0 && !isOldestNeeded(segments[oldest] as LogSegment, this.view.dummyIndex)) oldest--;
    for (; oldest > 0 && this.#status !== "poisoned"; oldest--) {
      // Out of the list before its file is touched: nobody may take what happens to the file for damage of the log.
      const segment = segments.shift() as LogSegment;
      this.#live = undefined;
      const path = joinPath(this.#dir, segment.name);
      try {
        await this.#readers.get(segment.generation)?.close();
        this.#readers.delete(segment.generation);
        if ((await this.#disk.stat(joinPath(this.#dir, indexName(segment.generation)))) !== undefined) {
          await this.#disk.unlink(joinPath(this.#dir, indexName(segment.generation)));
        }
        if (!(await this.#pipeline.recycle(path, this.names, this.#wantsSpare()))) await this.#disk.unlink(path);
      } catch (error) {
        segments.unshift(segment);
        this.#live = undefined;
        throw spaceError(`remove segment ${segment.name}`, error, { file: segment.name });
      }
    }
  }

  /** Where large groups are most of what is written, a file full of old bytes would only be cut to nothing while a save waits. */
  #wantsSpare(): boolean {
    return this.#active === undefined || 2 * this.#active.largeBytes <= this.#active.segment.end;
  }

  /**
   * Removes what recovery found left over; what cannot be removed now is found left over again by the next open. Segments
   * behind `newest`, which STATE names, go for good: behind a sync that failed, the disk may hold of them what the page cache
   * has lost, and what open() has answered without must not come back.
   */
  async #remove(names: readonly string[], newest: number): Promise<void> {
    let unbegun = false;
    for (const name of names) {
      // A tail for which there was no room elsewhere keeps its segment.
      if (this.#segments.some((segment) => segment.name === name)) continue;
      if ((parseSegmentName(name) ?? 0) > newest) unbegun = true;
      await this.#disk.unlink(joinPath(this.#dir, name)).catch(() => {});
    }
    if (unbegun && this.#engine !== "off") await this.#disk.syncDir(this.#dir);
  }

  // ---- reading

  /** The tag of record `index`, the dummy's included; dummyIndex <= index <= last. */
  tag(index: number): number {
    if (index === this.view.dummyIndex) return this.view.dummyTag;
    const segment = this.#segmentOf(index);
    const tag = this.#indexOf(segment).tag(index);
    if (Number.isNaN(tag)) throw damaged(segment, 0, "place");
    return tag;
  }

  /**
   * Appends the records of [lo, hi) to `out`, stopping before one that `accept` refuses; dummyIndex < lo, hi <= last + 1.
   * @throws ERR_CORRUPT, ERR_READ.
   */
  read(lo: number, hi: number, out: T[], accept?: (record: T) => boolean): void {
    let index = lo;
    while (index < hi) {
      const cached = this.#cache.first;
      if (index >= cached) {
        this.#cache.read(index, hi, out, accept);
        return;
      }
      const end = Math.min(hi, cached);
      const next = this.#options.readOnly
        ? this.#readMoving(index, end, out, accept)
        : this.#readCold(index, end, out, accept);
      if (next === index) return;
      index = next;
    }
  }

  /** #readCold() of a log that another process may be compacting: its segments go, or become spares, under the eye. */
  #readMoving(lo: number, hi: number, out: T[], accept: ((record: T) => boolean) | undefined): number {
    try {
      return this.#readCold(lo, hi, out, accept);
    } catch (error) {
      const { name } = this.#segmentOf(lo);
      try {
        this.#disk
          .openNow(joinPath(this.#dir, name))
          .close()
          .catch(() => {});
      } catch (now) {
        if (errnoOf(now) !== "ENOENT") throw error;
        throw new StableLogError("ERR_COMPACTED", `read ${lo}: ${name} was compacted away since this log was opened`, {
          file: name,
          cause: error,
        });
      }
      throw error;
    }
  }

  #liveSegments(): LogSegment[] {
    if (this.#live !== undefined) return this.#live;
    const live: LogSegment[] = [];
    for (const segment of this.#segments) {
      if (segment.from === NO_RECORDS) continue;
      while (live.length > 0 && (live[live.length - 1] as LogSegment).from >= segment.from) live.pop();
      live.push(segment);
    }
    this.#live = live;
    return live;
  }

  #livePosition(index: number): number {
    const live = this.#liveSegments();
    let low = 0;
    let high = live.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((live[middle] as LogSegment).from <= index) low = middle + 1;
      else high = middle;
    }
    // Links and indexes are checked when they are read; one that was forged with a good checksum shows here.
    if (low === 0) throw damaged(this.#segments[0] as LogSegment, 0, "place");
    return low - 1;
  }

  #segmentOf(index: number): LogSegment {
    return this.#liveSegments()[this.#livePosition(index)] as LogSegment;
  }

  /** The file to read a segment from, opened on first use; the least recently used of many is closed again. */
  #reader(segment: LogSegment): DiskFile {
    if (this.#active?.segment === segment) return this.#active.file;
    const readers = this.#readers;
    const { generation } = segment;
    let file = readers.get(generation);
    if (file === undefined) {
      try {
        file = this.#disk.openNow(joinPath(this.#dir, segment.name));
      } catch (error) {
        throw readError(`read segment ${segment.name}`, error, { file: segment.name, offset: 0 });
      }
    } else {
      readers.delete(generation);
    }
    this.#keepReader(generation, file);
    return file;
  }

  #keepReader(generation: number, file: DiskFile): void {
    const readers = this.#readers;
    readers.set(generation, file);
    if (readers.size <= MAX_READERS) return;
    const [oldest] = readers;
    if (oldest === undefined) return;
    readers.delete(oldest[0]);
    oldest[1].close().catch(() => {});
  }

  /** Reads [from, to) of a segment; less at the end of its file. */
  #readSegment(segment: LogSegment, from: number, to: number): Uint8Array {
    // Not from allocate(): views of it go to the caller, and its memory may be shared with another thread.
    const slab = Buffer.allocUnsafeSlow(to - from);
    const bytes = new Uint8Array(slab.buffer);
    try {
      const read = this.#reader(segment).read(bytes, 0, bytes.length, from);
      return read === bytes.length ? bytes : bytes.subarray(0, read);
    } catch (error) {
      throw readError(`read segment ${segment.name} at ${from}`, error, { file: segment.name, offset: from });
    }
  }

  /** The segment's index: loaded from its side file on first touch, made again by one scan where that is no use. */
  #indexOf(segment: LogSegment): SegmentIndex {
    segment.index ??= this.#loadIndex(segment) ?? this.#rebuildIndex(segment);
    return segment.index;
  }

  #loadIndex(segment: LogSegment): SegmentIndex | undefined {
    try {
      const file = this.#disk.openNow(joinPath(this.#dir, indexName(segment.generation)));
      try {
        const bytes = new Uint8Array(file.size());
        const read = file.read(bytes, 0, bytes.length, 0);
        const index = SegmentIndex.decode(bytes.subarray(0, read), segment);
        // One that does not reach back to the segment's first record is no index of it, whatever its checksum says.
        return index !== undefined && index.placeCount > 0 && index.firstOf(0) <= segment.from ? index : undefined;
      } finally {
        file.close().catch(() => {});
      }
    } catch {
      // Whatever is wrong with a derived file, the segment itself has the word.
      return undefined;
    }
  }

  #rebuildIndex(segment: LogSegment): SegmentIndex {
    const bytes = this.#readSegment(segment, 0, segment.end);
    const data = viewOf(bytes);
    const scanned = newSegment(this.#logId, segment.generation, segment.capacity, segment.base, segment.previous);
    const view = new LogView();
    view.last = segment.base;
    view.dummyIndex = 0;
    let at = 0;
    while (at < segment.end) {
      const kind = at === 0 ? f.KIND_HEAD : f.KIND_FRAME;
      const verdict = checkFrame(bytes, data, at, {
        identity: segment.identity,
        kind,
        offset: at,
        sequence: undefined,
        chain: at === 0 ? undefined : scanned.chain,
      });
      if (verdict !== "valid" || !view.apply(bytes, data, at, at, scanned)) throw damaged(segment, at, verdict);
      scanned.chain = data.getUint32(at + f.H_CRC, true);
      at += frameBytesAt(data, at);
    }
    const index = scanned.index as SegmentIndex;
    index.trim();
    if (!this.#options.readOnly) {
      // Released meanwhile, it needs no index, and would leave one that belongs to nothing.
      this.#background(async () => {
        if (this.#segments.includes(segment)) await this.#writeIndex(segment, index);
      });
    }
    return index;
  }

  /** Reads records from one segment. Returns the index after the last one appended; `lo` when `accept` stopped it. */
  #readCold(lo: number, hi: number, out: T[], accept: ((record: T) => boolean) | undefined): number {
    const live = this.#liveSegments();
    const position = this.#livePosition(lo);
    const segment = live[position] as LogSegment;
    const end = Math.min(hi, live[position + 1]?.from ?? hi);
    const table = this.#indexOf(segment);
    let place = table.find(lo);
    if (place < 0) throw damaged(segment, 0, "place");
    const start = table.offsetOf(place);
    let after = place + 1;
    const limit = start + READ_CHUNK_BYTES;
    while (after < table.placeCount && table.firstOf(after) < end && table.offsetOf(after) < limit) after++;
    const until = after < table.placeCount ? table.offsetOf(after) : segment.end;
    let from = start;
    let bytes = this.#readSegment(segment, start, Math.min(until, limit));
    let index = lo;
    for (; place < after && index < end; place++) {
      const offset = table.offsetOf(place);
      const inBlock = table.inBlock(place);
      const need = extentAt(bytes, offset - from, inBlock);
      if (offset - from + need > bytes.length) {
        from = offset;
        bytes = this.#readSegment(segment, from, Math.min(segment.end, offset + Math.max(need, f.HEADER_BYTES)));
        const whole = extentAt(bytes, 0, inBlock);
        if (whole > bytes.length && offset + whole <= segment.end)
          bytes = this.#readSegment(segment, from, offset + whole);
      }
      const next = place + 1 < table.placeCount ? table.firstOf(place + 1) : end;
      const stop = Math.min(end, next);
      const reached = this.#emit(
        segment,
        bytes,
        offset - from,
        offset,
        inBlock,
        table.firstOf(place),
        index,
        stop,
        out,
        accept,
      );
      if (reached < stop) return lo;
      index = reached;
    }
    return index;
  }

  /** Checks the frame or block at `at` of `bytes` and appends its records [lo, hi). */
  #emit(
    segment: LogSegment,
    bytes: Uint8Array,
    at: number,
    offset: number,
    inBlock: boolean,
    first: number,
    lo: number,
    hi: number,
    out: T[],
    accept: ((record: T) => boolean) | undefined,
  ): number {
    const view = viewOf(bytes);
    let p: number;
    let end: number;
    if (inBlock) {
      end = at + extentAt(bytes, at, true);
      if (end > bytes.length) throw damaged(segment, offset, "length");
      const crc = crc32(bytes.subarray(at + f.B_RECORD_BYTES, end));
      const check = view.getUint32(at + f.B_CHECK, true);
      if ((crc ^ segment.identity.seed) >>> 0 !== check) throw damaged(segment, offset, "block");
      const low = view.getUint32(at + f.B_FIRST, true);
      const high = view.getUint32(at + f.B_FIRST + 4, true);
      if (high * 4294967296 + low !== first) throw damaged(segment, offset, "place");
      p = at + f.BLOCK_BYTES;
    } else {
      const kind = offset === 0 ? f.KIND_HEAD : f.KIND_FRAME;
      const { identity } = segment;
      const verdict = checkFrame(bytes, view, at, { identity, kind, offset, sequence: undefined, chain: undefined });
      const part = emptyPart();
      if (verdict !== "valid" || !readPart(view, at, part)) throw damaged(segment, offset, verdict);
      if (part.first !== first || part.blocks !== 0) throw damaged(segment, offset, "place");
      p = part.recordsAt;
      end = part.recordsEnd;
    }
    const materialize = this.#options.materialize;
    const { buffer, byteOffset } = bytes;
    for (let index = first; index < hi; index++) {
      if (p + f.RECORD_BYTES > end) throw damaged(segment, offset, "length");
      const dataAt = p + f.RECORD_BYTES;
      const dataBytes = view.getUint32(p + f.R_DATA_BYTES, true);
      if (dataAt + dataBytes > end) throw damaged(segment, offset, "length");
      if (index >= lo) {
        const data = dataBytes === 0 ? EMPTY : new Uint8Array(buffer, byteOffset + dataAt, dataBytes);
        const tag = recordTag(view, p);
        if (!Number.isSafeInteger(tag)) throw damaged(segment, offset, "place");
        const record = materialize(index, tag, recordKind(view, p), data);
        if (accept !== undefined && !accept(record)) return index;
        out.push(record);
      }
      p = dataAt + dataBytes;
    }
    return hi;
  }

  // ---- looking and closing

  /** The segments, oldest first, for inspect and verify(). */
  get segments(): readonly LogSegment[] {
    return this.#segments;
  }

  /** The log's 16-byte identity. */
  get logId(): Uint8Array {
    return this.#logId;
  }

  stats(): LogStats {
    let indexBytes = 0;
    for (const { index } of this.#segments) indexBytes += index?.memoryBytes ?? 0;
    return {
      saves: this.#saves,
      entries: this.#entries,
      bytes: this.#bytes,
      writes: this.#writes,
      syncs: this.#syncs,
      engine: this.#engine,
      choice: this.#choice,
      syncMs: { p50: this.#syncTimes.quantile(0.5), p99: this.#syncTimes.quantile(0.99) },
      segments: this.#segments.length,
      spareBytes: this.#pipeline.spareBytes,
      cacheBytes: this.#cache.bytes,
      indexBytes,
      pendingBytes: this.#commit.pendingBytes,
      state: this.#status === "closing" ? "closed" : this.#status,
    };
  }

  /** Waits for pending saves, then syncs and marks the log closed. A poisoned log is closed without a sync. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // New saves are refused from here on; the queue still goes out.
    if (this.#status === "open") this.#status = "closing";
    await this.#commit.settled().catch(() => {});
    await this.#housekeeping;
    let failure: unknown;
    try {
      if (!this.#options.readOnly) await this.#seal();
    } catch (error) {
      failure = error;
    }
    await this.#pipeline.close();
    await this.#active?.file.close().catch(() => {});
    for (const file of this.#readers.values()) await file.close().catch(() => {});
    this.#readers.clear();
    await this.#lock?.release();
    await this.#options.onClosed?.();
    if (this.#status !== "poisoned") this.#status = "closed";
    if (failure !== undefined) throw failure;
  }

  async #seal(): Promise<void> {
    const stateFile = this.#stateFile as StateFile;
    if (this.#status === "poisoned") {
      await stateFile.abandon();
      return;
    }
    try {
      const active = this.#active;
      // Nobody else does with sync off, and a log that was closed is durable. What was found at open is by that.
      const found = this.#found?.generation ?? 0;
      for (const { generation, name } of this.#engine === "off" ? this.#segments : []) {
        if (generation > found && generation !== active?.segment.generation)
          await syncFile(this.#disk, this.#dir, name);
      }
      if (active?.unsynced === true) await active.file.writeLater(EMPTY, 0, 0, 0, true);
      // The zeros behind the end are room that a closed log does not need; should a crash undo this, they are zeros again.
      if (active !== undefined && active.file.size() > active.segment.end) {
        await active.file.truncate(active.segment.end).catch(() => {});
      }
      const { generation, end, sequence, chain } = this.#segments.at(-1) ?? {
        generation: 0,
        end: 0,
        sequence: 0,
        chain: 0,
      };
      await this.names.settle();
      await stateFile.close(generation, end, sequence, chain);
    } catch (error) {
      this.#status = "poisoned";
      this.#poison = error;
      await stateFile.abandon().catch(() => {});
      throw poisonError("close", error, true);
    }
  }
}

function chooseEngine<T>(
  { sync, disk }: LogOptions<T>,
  openSyncMs: number,
): { engine: Engine; by: EngineChoice["by"] } {
  if (sync === "off" || sync === "worker") return { engine: sync, by: "option" };
  if (!disk.syncsNow) return { engine: "worker", by: "disk" };
  if (sync === "inline") return { engine: sync, by: "option" };
  return { engine: openSyncMs > SLOW_OPEN_SYNC_MS ? "worker" : "inline", by: "open" };
}

/** The names in `dir`; makes it, parents included and all of them durable, when it is missing and may be made. */
async function listOrMake(disk: Disk, dir: string, options: RecoveryOptions): Promise<string[]> {
  try {
    return await disk.list(dir);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOTDIR") {
      throw new StableLogError("ERR_FOREIGN", `open log ${dir}: it is not a directory`, { cause: error });
    }
    if (code !== "ENOENT") throw error;
    if (!options.create || options.readOnly) {
      throw new StableLogError("ERR_NOT_FOUND", `open log ${dir}: there is no such directory`, { cause: error });
    }
  }
  const missing: string[] = [];
  let found = dir;
  for (; (await disk.stat(found)) === undefined; found = parentOf(found)) missing.unshift(found);
  // An open that was killed may have made this one and not synced its name.
  await syncName(disk, found);
  for (const path of missing) {
    try {
      await disk.mkdir(path);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    try {
      await disk.syncDir(parentOf(path));
    } catch (error) {
      await renewName(disk, path);
      throw error;
    }
  }
  return disk.list(dir);
}

/**
 * Gives a directory that open() made its name once more, as far as that can be done: the sync that failed may have left the
 * first one clean and lost, and the next open's sync must have something to write.
 */
async function renewName(disk: Disk, path: string): Promise<void> {
  try {
    let aside = `${path}.new`;
    // Nobody else's directory may be taken for ours.
    for (let tries = 0; (await disk.stat(aside)) !== undefined; tries++) {
      if (tries === 8) return;
      aside += ".new";
    }
    await disk.rename(path, aside);
    await disk.rename(aside, path);
  } catch {
    // Then the next open reports what keeps failing, or makes another directory.
  }
}

/** Makes the name of a directory durable that somebody else may have made. One whose parent we may not read is not ours. */
async function syncName(disk: Disk, dir: string): Promise<void> {
  try {
    await disk.syncDir(parentOf(dir));
  } catch (error) {
    const code = errnoOf(error);
    if (code !== "EACCES" && code !== "EPERM") throw error;
  }
}

function parentOf(path: string): string {
  const trimmed = path.replace(/[/\\]+$/, "");
  const at = Math.max(trimmed.lastIndexOf("/"), trimmed.lastIndexOf("\\"));
  if (at < 0) return ".";
  return at === 0 ? "/" : trimmed.slice(0, at);
}

function newLogId(disk: Disk): Uint8Array {
  const logId = new Uint8Array(16);
  disk.entropy(logId);
  return logId;
}

/** Has the owner look at what was recovered; what it says of the log's own bytes gets the place where they stand. */
function inspect<T>({ inspect: look }: LogOptions<T>, { view, state, segments }: Recovered): void {
  try {
    look?.(view, state.logId);
  } catch (error) {
    if (!(error instanceof StableLogError) || error.file !== undefined) throw error;
    if (error.code !== "ERR_CORRUPT" && error.code !== "ERR_FORMAT_VERSION") throw error;
    const file = segments.at(-1)?.name ?? STATE_NAME;
    throw new StableLogError(error.code, `open log: ${file}: ${error.message}`, { file, offset: 0, cause: error });
  }
}

function checkOwner(dir: string, wanted: Uint8Array | undefined, found: Uint8Array): void {
  if (wanted === undefined || equalBytes(wanted, found)) return;
  throw new StableLogError(
    "ERR_FOREIGN",
    `open log ${dir}: its metadata is not the one given, it belongs to another owner`,
  );
}

function report(recovered: Recovered, created: boolean, ms: number): RecoveryReport {
  return {
    verdict: created ? "created" : recovered.verdict,
    file: recovered.file,
    offset: recovered.offset,
    droppedBytes: recovered.droppedBytes,
    carriedEntries: recovered.carry?.recordsAt.length ?? 0,
    scannedBytes: recovered.scannedBytes,
    ms,
  };
}

function bytesWritten(error: unknown): number {
  const written = (error as { bytesWritten?: unknown } | null)?.bytesWritten;
  return typeof written === "number" ? written : 0;
}

function poisonError(action: string, cause: unknown, maybeDurable: boolean): StableLogError {
  const what = errnoOf(cause) ?? String(cause);
  return new StableLogError("ERR_POISONED", `${action}: a write or sync of the log failed (${what}); reopen it`, {
    cause,
    maybeDurable,
  });
}

function damaged(segment: LogSegment, offset: number, verdict: FrameVerdict): StableLogError {
  return new StableLogError("ERR_CORRUPT", `read ${segment.name} at ${offset}: damaged (${verdict})`, {
    file: segment.name,
    offset,
  });
}

/** Bytes that the frame or block at `at` says it takes; what can be said without having read it whole. */
function extentAt(bytes: Uint8Array, at: number, inBlock: boolean): number {
  const view = viewOf(bytes);
  if (inBlock) {
    if (at + f.BLOCK_BYTES > bytes.length) return f.BLOCK_BYTES;
    return f.BLOCK_BYTES + view.getUint32(at + f.B_RECORD_BYTES, true);
  }
  return at + f.HEADER_BYTES > bytes.length ? f.HEADER_BYTES : frameBytesAt(view, at);
}

/** The tag of record `index` of a part that holds it. */
function tagInPart(view: DataView, part: ReturnType<typeof emptyPart>, index: number): number {
  if ((part.flags & f.F_MIXED) === 0) return part.tag;
  let record = part.first;
  let p = part.recordsAt;
  let end = part.blocks === 0 ? part.recordsEnd : p;
  let block = 0;
  for (;;) {
    if (part.blocks > 0 && p >= end) {
      p = Math.ceil(end / 8) * 8 + f.BLOCK_BYTES;
      end = p + view.getUint32(part.directoryAt + block++ * f.DIRECTORY_BYTES, true);
    }
    if (record === index) return recordTag(view, p);
    record++;
    p += f.RECORD_BYTES + view.getUint32(p + f.R_DATA_BYTES, true);
  }
}
