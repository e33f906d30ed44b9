// FileStorage: raft's Storage on disk, the bridge between raft's words and the log engine (wal/log.ts). It turns a save into
// one part (snapshot mark, entries, HardState), keeps what is submitted apart from what is durable, and looks after snapshot
// files. Reads answer from the durable state; writes are judged by the submitted one.
//
// Two lines of work. Saves, compactions and snapshots whose data is at hand go into the log's queue the moment they are
// called. A snapshot that streams, and the snapshots and compactions called behind it, wait their turn in the lane; their
// frames join the queue then. A save never waits for the lane: a snapshot that streams for minutes holds up nobody.

import { AssertionError } from "../base/assert.js";
import { isCount, viewOf } from "../base/bytes.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, joinPath } from "../disk/disk.js";
import type { SaveBatch, WritableStorage } from "../raft/storage.js";
import {
  type ConfState,
  cloneConfState,
  type Entry,
  type EntryType,
  entrySize,
  type HardState,
  type Snapshot,
  type SnapshotMetadata,
} from "../raftpb/types.js";
import { F_COMPACT, F_RESET } from "../wal/format.js";
import { emptyShape, type PartShape } from "../wal/frame.js";
import { Log, type LogStats, type SyncOption } from "../wal/log.js";
import { checkLogOptions, diskOf, invalidArgument } from "../wal/options.js";
import type { RecoveryReport } from "../wal/recovery.js";
import { type VerifyReport, verifyLog } from "../wal/verify.js";
import {
  advanceState,
  type CheckedBatch,
  checkBatch,
  checkCompact,
  checkCreateSnapshot,
  checkRange,
  checkStageSnapshot,
  checkTerm,
  isBytes,
  type LogState,
  newCheckedBatch,
  releaseBatch,
  sameMetadata,
} from "./batch.js";
import { decodeMark, emptyMark, encodeMark, getHardState, putHardState, type StorageMark } from "./mark.js";
import {
  inspectSnapshot,
  isSnapshotName,
  loadSnapshot,
  publishFile,
  type StagedFile,
  snapshotName,
  stageFile,
  streamSnapshot,
} from "./snapshot-file.js";

export interface FileStorageOptions {
  /**
   * True (the default): a missing directory, or one that holds no name of ours or etcd's, becomes a new log. Set it to false
   * after the first start: a node that lost its log must not vote as if it had never been.
   */
  readonly create?: boolean | undefined;
  /** No lock, no write; may look at a running log and shows the durable prefix of one moment. Default false. */
  readonly readOnly?: boolean | undefined;
  /** Who owns this log: at most 4 KiB, fixed at creation. Another value later is ERR_FOREIGN. */
  readonly metadata?: Uint8Array | undefined;
  /** Size at which a segment is full, 4 KiB to 1 GiB; default 64 MiB. Smaller ones give space back sooner after compact(). */
  readonly segmentBytes?: number | undefined;
  /**
   * Bound of the cache of recent entries; default 64 MiB. Raise it where followers or the state machine lag by more than
   * fits, lower it where memory is short; 0 reads everything back from the segments.
   */
  readonly cacheBytes?: number | undefined;
  /** Up to this size snapshot() loads the data; above, readSnapshot() has it. Default 64 MiB. Lower it where memory is short. */
  readonly snapshotBytes?: number | undefined;
  /**
   * Bound of the queue of saves that are not durable yet; default 512 MiB. A save that would exceed it is ERR_TOO_LARGE: lower
   * it to hear sooner of a disk that does not keep up.
   */
  readonly maxPendingBytes?: number | undefined;
  /**
   * Who syncs. `auto` (default) begins on the event loop's own thread, which costs a lone saver nothing but the sync, and
   * moves to a worker thread once syncs take over 2 ms; stats().choice tells what it went by, and `stablelog bench DIR` what
   * it would do on a disk. `inline` and `worker` fix it: touch it where other work of the event loop must never wait for a
   * sync of 0.2 ms (`worker`). `off` never syncs before close(): a power cut then loses what was saved.
   */
  readonly sync?: SyncOption | undefined;
  /** What to do with a tail of which nobody can say whether it was acknowledged; default `refuse`. See ERR_AMBIGUOUS_TAIL. */
  readonly onAmbiguousTail?: "refuse" | "drop" | undefined;
  /** Where to store; default the file system. */
  readonly disk?: Disk | undefined;
}

export type StorageStats = LogStats;

const MIB = 1024 * 1024;
const MAX_KEPT_SNAPSHOTS = 2;

/** What snapshots and compactions that wait in the lane will make of the log. */
interface LaneState {
  readonly dummyIndex: number;
  readonly dummyTerm: number;
  readonly snapshotIndex: number;
  readonly confState: ConfState;
}

/** What the log's queue leads to, durable or not yet: what saves are judged by. Only frames in the queue count. */
interface Submitted extends LogState {
  dummyTerm: number;
  mark: StorageMark;
}

export class FileStorage implements WritableStorage {
  readonly #log: Log<Entry>;
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #snapshotBytes: number;
  readonly #shape: PartShape = emptyShape();
  readonly #checked: CheckedBatch = newCheckedBatch();
  #submitted: Submitted;

  /** The lane: one piece of work after the other. */
  #lane: Promise<void> = Promise.resolve();
  #inLane = 0;
  /** Counts rejections of the queue and of the lane: work in the lane that was called before one must not go on. */
  #epoch = 0;
  #rejection: unknown;
  /** Counts saves with a snapshot: they supersede what still waits in the lane. */
  #installs = 0;
  /** The file of the last stageSnapshot(), until a save has taken it. `busy` while one is about to. */
  #staged: { readonly file: StagedFile; busy: boolean } | undefined;
  /** What the lane adds to `#submitted` once its turn comes; undefined when nothing waits in it that still counts. */
  #inLaneState: LaneState | undefined;
  /** Snapshot files begun since open(): what tells their temporary names apart. */
  #stagedFiles = 0;
  /** Names of snapshot files that are published and that no durable mark names yet. */
  readonly #held: string[] = [];
  /** What tidies up after saves that are durable; close() waits for it. */
  #tidying: Promise<unknown> = Promise.resolve();
  /** Snapshot files whose data is at hand and that are being written. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Publishing and removing snapshot files: one after the other. */
  #fileWork: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  /** Resolves when the log is poisoned. */
  #onPoisoned: () => void = () => {};
  readonly #poisoned = new Promise<void>((resolve) => {
    this.#onPoisoned = resolve;
  });
  /** False until open() has removed unfinished snapshot files; from then on one is somebody's work in hand. */
  #opened = false;

  #hardState: HardState;
  #hardStateVersion = 0;
  #mark: StorageMark;
  #markVersion = 0;

  private constructor(log: Log<Entry>, disk: Disk, snapshotBytes: number, mark: StorageMark) {
    this.#log = log;
    this.#disk = disk;
    this.#dir = log.dir;
    this.#snapshotBytes = snapshotBytes;
    this.#mark = mark;
    this.#markVersion = log.view.markVersion;
    this.#hardState = getHardState(viewOf(log.view.state), 0);
    this.#hardStateVersion = log.view.stateVersion;
    this.#submitted = this.#durableState();
  }

  /**
   * Opens the storage in `dir`, or makes a new one there: recovers all that was acknowledged, or refuses and leaves every
   * byte as it was.
   * @throws (rejects) ERR_CORRUPT, ERR_GAP, ERR_AMBIGUOUS_TAIL, ERR_FORMAT_VERSION, ERR_FOREIGN, ERR_LOCKED, ERR_NOT_FOUND,
   * ERR_READ_ONLY, ERR_READ, ERR_NO_SPACE, ERR_IO, ERR_INVALID_ARGUMENT.
   */
  static async open(dir: string, options: FileStorageOptions = {}): Promise<FileStorage> {
    const checked = checkOptions(dir, options);
    let storage: FileStorage | undefined;
    let mark = emptyMark();
    const log = await Log.open<Entry>(dir, {
      ...checked,
      isOwnName: isSnapshotName,
      // Before the log writes: a refusal leaves every byte as it was.
      inspect: (view, logId) => {
        mark = decodeMark(view.mark);
        const { term, commit } = getHardState(viewOf(view.state), 0);
        if (!isCount(term) || !isCount(commit) || commit > view.last) {
          throw new StableLogError(
            "ERR_CORRUPT",
            `read HardState: term ${term}, commit ${commit}, last index ${view.last}`,
          );
        }
        const [newest] = mark.snapshots;
        if (newest !== undefined) inspectSnapshot(checked.disk, dir, logId, newest);
      },
      materialize: (index, term, type, data) => ({ term, index, type: type as EntryType, data }),
      onRejected: (error) => {
        if (storage !== undefined) storage.#rejected(error);
      },
    });
    storage = new FileStorage(log, checked.disk, checked.snapshotBytes, mark);
    if (!checked.readOnly) await storage.#prune();
    return storage;
  }

  /** What open() found and did. */
  get recovery(): RecoveryReport {
    return this.#log.recovery;
  }

  /** The owner's bytes, as given when the log was created. */
  get metadata(): Uint8Array {
    return this.#log.metadata;
  }

  // ---- Storage

  initialState(): { hardState: HardState; confState: ConfState } {
    this.#log.assertReadable("read the initial state");
    return { hardState: { ...this.#durableHardState() }, confState: cloneConfState(this.#durableMark().confState) };
  }

  entries(lo: number, hi: number, maxSize?: number): Entry[] {
    const log = this.#log;
    log.assertReadable("read entries");
    checkRange(lo, hi, maxSize, log.view.dummyIndex, log.view.last);
    const out: Entry[] = [];
    if (maxSize === undefined) {
      log.read(lo, hi, out);
    } else {
      let size = 0;
      log.read(lo, hi, out, (entry) => {
        size += entrySize(entry);
        return size <= maxSize || entry.index === lo;
      });
    }
    return out;
  }

  term(index: number): number {
    const log = this.#log;
    log.assertReadable("read a term");
    checkTerm(index, log.view.dummyIndex, log.view.last);
    return log.tag(index);
  }

  firstIndex(): number {
    this.#log.assertReadable("read the first index");
    return this.#log.view.dummyIndex + 1;
  }

  lastIndex(): number {
    this.#log.assertReadable("read the last index");
    return this.#log.view.last;
  }

  /** The newest snapshot; its data is empty above snapshotBytes, readSnapshot() has it then. */
  snapshot(): Snapshot {
    this.#log.assertReadable("read the snapshot");
    const { confState, snapshots } = this.#durableMark();
    const [newest] = snapshots;
    if (newest === undefined) {
      return { metadata: { index: 0, term: 0, confState: cloneConfState(confState) }, data: new Uint8Array(0) };
    }
    const data = loadSnapshot(this.#disk, this.#dir, this.#log.logId, newest, this.#snapshotBytes);
    return { metadata: cloneMetadata(newest), data };
  }

  // ---- WritableStorage

  // Not async, and one return of a shared promise: this is the hot path.
  save(batch: SaveBatch): Promise<void> {
    const log = this.#log;
    const refusal = this.#refusal("save");
    if (refusal !== undefined) return Promise.reject(refusal);
    const checked = this.#checked;
    try {
      checkBatch(this.#submitted, batch, checked);
      if (checked.empty && !checked.mustSync) return log.settled();
      if (checked.snapshot !== undefined) return this.#saveSnapshot(checked, checked.snapshot);
      const shape = this.#shape;
      shape.baseFlag = 0;
      shape.mark = undefined;
      this.#shapeOf(checked, shape);
      this.#encode(checked, shape);
      advanceState(this.#submitted, checked);
      return log.submit(!checked.commitOnly, checked.count);
    } catch (error) {
      return Promise.reject(unreadableArgument("save", error));
    } finally {
      releaseBatch(checked);
    }
  }

  createSnapshot(
    index: number,
    confState: ConfState | undefined,
    data: Uint8Array | AsyncIterable<Uint8Array>,
  ): Promise<SnapshotMetadata> {
    const refusal = this.#refusal("create snapshot");
    if (refusal !== undefined) return Promise.reject(refusal);
    const { dummyIndex, dummyTerm, snapshotIndex, confState: lastConfState } = this.#called();
    let metadata: SnapshotMetadata;
    try {
      checkCreateSnapshot(index, confState, data, dummyIndex, this.#submitted.lastIndex, snapshotIndex);
      const term = index === dummyIndex ? dummyTerm : this.#submittedTerm(index);
      metadata = { index, term, confState: cloneConfState(confState ?? lastConfState) };
    } catch (error) {
      return Promise.reject(error as Error);
    }
    const bytes = isBytes(data) ? data.slice() : data;
    // Data at hand takes its place in the queue; a stream must not hold up the saves behind it, and takes its place when
    // it has ended.
    if (isBytes(bytes) && this.#inLane === 0) return this.#queueSnapshot(metadata, bytes);
    const name = snapshotName(metadata);
    const run = this.#inTurn(async (superseded) => {
      const file = await this.#stage(metadata, bytes);
      this.#held.push(name);
      try {
        if (!superseded()) await this.#alone(() => publishFile(this.#disk, this.#dir, this.#log.names, file));
        // Asked again: the entries that it stands for may have been rejected while it got its name.
        if (superseded()) await this.#log.settled();
        else await this.#submitMark(metadata);
      } finally {
        this.#letGo(name);
        if (file.name === file.tmp) await this.#disk.unlink(joinPath(this.#dir, file.tmp)).catch(() => {});
      }
      await this.#prune();
      return cloneMetadata(metadata);
    });
    this.#inLaneState = { dummyIndex, dummyTerm, snapshotIndex: index, confState: metadata.confState };
    // Older snapshots are refused from here on, wherever they come from.
    this.#submitted.snapshotIndex = index;
    return run;
  }

  async stageSnapshot(metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void> {
    const refusal = this.#refusal("stage snapshot");
    if (refusal !== undefined) throw refusal;
    checkStageSnapshot(metadata, data, this.#submitted.snapshotIndex);
    const file = await this.#stage(cloneMetadata(metadata), data);
    const late = this.#refusal("stage snapshot");
    if (late !== undefined) {
      await this.#disk.unlink(joinPath(this.#dir, file.tmp)).catch(() => {});
      throw late;
    }
    const before = this.#staged;
    this.#staged = { file, busy: false };
    if (before?.busy === false) await this.#discard(before.file);
  }

  readSnapshot(): { metadata: SnapshotMetadata; data: AsyncIterable<Uint8Array> } | undefined {
    this.#log.assertReadable("read the snapshot");
    const [newest] = this.#durableMark().snapshots;
    if (newest === undefined) return undefined;
    return { metadata: cloneMetadata(newest), data: this.#stream(newest) };
  }

  /** A snapshot's data; opened when it is first read, and by then newer ones may have taken its place. */
  async *#stream(metadata: SnapshotMetadata): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of streamSnapshot(this.#disk, this.#dir, this.#log.logId, metadata)) {
        this.#log.assertReadable("read the snapshot");
        yield chunk;
      }
    } catch (error) {
      if (this.#durableMark().snapshots.some(({ index }) => index === metadata.index)) throw error;
      if (!(error instanceof StableLogError) || errnoOf(error.cause) !== "ENOENT") throw error;
      throw new StableLogError(
        "ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE",
        `read snapshot ${metadata.index}: newer ones have taken its place; ask for the newest`,
        { cause: error },
      );
    }
  }

  compact(index: number): Promise<void> {
    const refusal = this.#refusal("compact");
    if (refusal !== undefined) return Promise.reject(refusal);
    try {
      const called = this.#called();
      checkCompact(index, called.dummyIndex, this.#submitted.lastIndex);
      let compacted: Promise<void>;
      if (this.#inLane === 0) {
        compacted = this.#submitCompaction(index);
      } else {
        // Behind a snapshot that is still being written it must wait: were that to fail, the entries would be all there is.
        const term = this.#submittedTerm(index);
        compacted = this.#inTurn((superseded) => {
          if (superseded()) return this.#log.settled();
          // Judged again by what the queue leads to now: saves do not wait for the lane.
          checkCompact(index, this.#submitted.firstIndex - 1, this.#submitted.lastIndex);
          return this.#submitCompaction(index);
        });
        this.#inLaneState = { ...called, dummyIndex: index, dummyTerm: term };
      }
      // Outside the turn: a file that cannot be removed makes compact() fail, not the compaction.
      return this.#afterwards(compacted, () => this.#log.release());
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // What is in the lane was called before: it keeps its turn, as queued saves do, unless the log refuses it by now.
    // Once the log is poisoned nobody waits for a caller's stream any more.
    while (this.#inLane > 0 && this.#log.status === "open") await Promise.race([this.#lane, this.#poisoned]);
    // While the directory is ours: what tidies up removes files.
    await this.#log.settled().catch(() => {});
    await Promise.race([this.#tidying, this.#poisoned]);
    await this.#writing;
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged !== undefined && !this.#log.readOnly) await this.#discard(staged.file);
    await this.#log.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ---- beyond Storage

  /** Reads every segment and snapshot and checks it; reports damage, does not throw it. */
  async verify(): Promise<VerifyReport> {
    this.#log.assertReadable("verify");
    const report = await verifyLog(this.#log, this.#disk);
    const damage = [...report.damage];
    for (const metadata of this.#durableMark().snapshots) {
      const name = snapshotName(metadata);
      try {
        for await (const chunk of streamSnapshot(this.#disk, this.#dir, this.#log.logId, metadata)) void chunk;
      } catch (error) {
        if (!(error instanceof StableLogError)) throw error;
        // Newer ones may have taken its place meanwhile, in this process or in the one that writes the log.
        const kept = this.#durableMark().snapshots.some(({ index }) => index === metadata.index);
        const gone = (await this.#disk.stat(joinPath(this.#dir, name))) === undefined;
        if (!kept || (gone && this.#log.readOnly)) continue;
        damage.push({
          code: error.code,
          file: name,
          offset: error.offset ?? 0,
          index: metadata.index,
          proof: error.message,
        });
      }
    }
    return { ...report, ok: damage.length === 0, damage };
  }

  /** Counters since open(), and what the `auto` engine chose. */
  stats(): StorageStats {
    return this.#log.stats();
  }

  // ---- inside

  /** Encodes the records and HardState of a checked save into the log's queue; submit() follows in the same turn. */
  #encode(checked: CheckedBatch, shape: PartShape): void {
    const { hardState, entries, from, count } = checked;
    const writer = this.#log.begin(shape);
    if (hardState !== undefined) putHardState(writer.view, writer.stateAt, hardState);
    for (let i = from, end = from + count; i < end; i++) {
      const entry = entries[i] as Entry;
      writer.record(entry.term, entry.type, entry.data);
    }
  }

  /** Sets what `shape` says of the records and HardState of a checked save. */
  #shapeOf(checked: CheckedBatch, shape: PartShape): void {
    shape.hasState = checked.hardState !== undefined;
    shape.hasRecords = checked.count > 0;
    shape.first = checked.firstIndex;
    shape.count = checked.count;
    shape.dataBytes = checked.payloadBytes;
  }

  #saveSnapshot(checked: CheckedBatch, snapshot: Snapshot): Promise<void> {
    const metadata = cloneMetadata(snapshot.metadata);
    const shape = emptyShape();
    let next: StorageMark;
    if (checked.bootstrap) {
      next = { ...this.#submitted.mark, confState: metadata.confState };
    } else {
      next = withSnapshot(this.#submitted.mark, metadata);
      shape.baseFlag = F_RESET;
      shape.baseIndex = metadata.index;
      shape.baseTag = metadata.term;
    }
    shape.mark = encodeMark(next);
    this.#shapeOf(checked, shape);
    // Asked before the gate: behind one there must be a save.
    this.#log.checkRoom(shape);
    if (!checked.bootstrap) this.#gate(this.#installFile(metadata, snapshot.data));
    this.#encode(checked, shape);
    advanceState(this.#submitted, checked);
    this.#submitted.mark = next;
    const saved = this.#log.submit(true, checked.count);
    if (checked.bootstrap) return saved;
    this.#submitted.dummyTerm = metadata.term;
    this.#installs++;
    // What waits in the lane is superseded: nothing is judged by it any more.
    this.#inLaneState = undefined;
    const staged = this.#staged?.busy === true ? this.#staged : undefined;
    const name = snapshotName(metadata);
    const done = saved.finally(() => {
      this.#letGo(name);
      if (staged !== undefined) staged.busy = false;
    });
    return this.#afterwards(done, async () => {
      if (this.#staged === staged) this.#staged = undefined;
      await this.#prune();
      // The save is durable whatever becomes of the room it frees: the next compact() or save tries again.
      await this.#log.release().catch(() => {});
    });
  }

  /** A snapshot of our own state whose data is at hand: the saves behind it wait for its file. */
  #queueSnapshot(metadata: SnapshotMetadata, data: Uint8Array): Promise<SnapshotMetadata> {
    const shape = emptyShape();
    const next = withSnapshot(this.#submitted.mark, metadata);
    shape.mark = encodeMark(next);
    try {
      this.#log.checkRoom(shape);
    } catch (error) {
      return Promise.reject(error as Error);
    }
    this.#gate(this.#writeFile(metadata, data));
    this.#log.begin(shape);
    this.#submitted.mark = next;
    this.#submitted.snapshotIndex = metadata.index;
    const saved = this.#log.submit(true, 0).finally(() => this.#letGo(snapshotName(metadata)));
    return this.#afterwards(saved, () => this.#prune()).then(() => cloneMetadata(metadata));
  }

  /** Has the saves from here on wait for a file, and close() as well: a poisoned log does no longer. */
  #gate(file: Promise<void>): void {
    this.#log.gate(file);
    this.#writing = Promise.allSettled([this.#writing, file]).then(() => undefined);
  }

  /**
   * Makes the snapshot's file durable: the staged one when it is this snapshot's and the save brings no data of its own.
   * Should the save be rejected later, a staged file waits for the next one: it cannot be had again.
   */
  async #installFile(metadata: SnapshotMetadata, data: Uint8Array): Promise<void> {
    const staged = this.#staged;
    if (staged !== undefined && data.length === 0 && sameMetadata(staged.file.metadata, metadata)) {
      this.#held.push(snapshotName(metadata));
      staged.busy = true;
      await this.#alone(() => publishFile(this.#disk, this.#dir, this.#log.names, staged.file));
      return;
    }
    await this.#writeFile(metadata, data.slice());
  }

  async #writeFile(metadata: SnapshotMetadata, data: Uint8Array): Promise<void> {
    this.#held.push(snapshotName(metadata));
    const file = await this.#stage(metadata, data);
    try {
      await this.#alone(() => publishFile(this.#disk, this.#dir, this.#log.names, file));
    } catch (error) {
      await this.#discard(file);
      throw error;
    }
  }

  #stage(metadata: SnapshotMetadata, data: Uint8Array | AsyncIterable<Uint8Array>): Promise<StagedFile> {
    const makeRoom = (cause: unknown): Promise<boolean> => this.#log.makeRoom(cause);
    return stageFile(this.#disk, this.#dir, this.#log.logId, metadata, data, ++this.#stagedFiles, makeRoom);
  }

  #letGo(name: string): void {
    const at = this.#held.indexOf(name);
    if (at >= 0) this.#held.splice(at, 1);
  }

  /** Removes a snapshot file that no save took. */
  async #discard(file: StagedFile): Promise<void> {
    await this.#alone(() => this.#removeUnlessKept(file.name));
  }

  /** Runs `work` on published files alone: a name is given, taken back and removed by one piece of work at a time. */
  #alone<R>(work: () => Promise<R>): Promise<R> {
    const run = this.#fileWork.then(work);
    this.#fileWork = run.then(
      () => {},
      () => {},
    );
    return run;
  }

  async #removeUnlessKept(name: string): Promise<void> {
    // A poisoned log may hold a save that nobody knows to be durable: only the next open can tell which files it names.
    if (this.#log.status === "poisoned" && !name.endsWith(".tmp")) return;
    if (this.#kept().has(name)) return;
    // Space that could not be given back now is given back by the next prune.
    await this.#disk.unlink(joinPath(this.#dir, name)).catch(() => {});
  }

  /** `work` once `saved` has resolved; close() waits for both. */
  #afterwards(saved: Promise<void>, work: () => Promise<void>): Promise<void> {
    const done = saved.then(work);
    // A fresh promise each time: one that kept its predecessors' results would hold them all, back to the first.
    this.#tidying = Promise.allSettled([this.#tidying, done]).then(() => undefined);
    return done;
  }

  #submitMark(metadata: SnapshotMetadata): Promise<void> {
    const shape = emptyShape();
    const mark = withSnapshot(this.#submitted.mark, metadata);
    shape.mark = encodeMark(mark);
    this.#log.begin(shape);
    this.#submitted.mark = mark;
    this.#submitted.snapshotIndex = metadata.index;
    return this.#log.submit(true, 0);
  }

  #submitCompaction(index: number): Promise<void> {
    const term = this.#submittedTerm(index);
    const shape = emptyShape();
    shape.baseFlag = F_COMPACT;
    shape.baseIndex = index;
    shape.baseTag = term;
    this.#log.begin(shape);
    this.#submitted.firstIndex = index + 1;
    this.#submitted.dummyTerm = term;
    return this.#log.submit(true, 0);
  }

  /** What new snapshots and compactions are judged by: what is submitted, and on top of it what waits in the lane. */
  #called(): LaneState {
    if (this.#inLaneState !== undefined) return this.#inLaneState;
    const { firstIndex, dummyTerm, snapshotIndex, mark } = this.#submitted;
    return { dummyIndex: firstIndex - 1, dummyTerm, snapshotIndex, confState: mark.confState };
  }

  /** The term of `index` in the submitted log, the dummy's included. */
  #submittedTerm(index: number): number {
    if (index === this.#submitted.firstIndex - 1) return this.#submitted.dummyTerm;
    const queued = this.#log.queuedTag(index);
    return typeof queued === "number" ? queued : this.#log.tag(index);
  }

  /**
   * Runs `work` when what is in the lane is done. `superseded()` tells it whether a save with a snapshot came in between.
   * When it fails, what waits behind it fails with it, and calls from then on are judged as if neither had been made.
   */
  #inTurn<R>(work: (superseded: () => boolean) => Promise<R>): Promise<R> {
    const epoch = this.#epoch;
    const installs = this.#installs;
    const superseded = (): boolean => {
      if (this.#epoch !== epoch) throw this.#rejection;
      return this.#installs !== installs;
    };
    this.#inLane++;
    const run = this.#lane
      .then(() => {
        superseded();
        return work(superseded);
      })
      .catch((error: unknown) => {
        if (this.#epoch === epoch) {
          this.#epoch++;
          this.#rejection = error;
          this.#forgetLane();
        }
        throw error;
      })
      .finally(() => {
        if (--this.#inLane === 0) this.#forgetLane();
      });
    this.#lane = run.then(
      () => {},
      () => {},
    );
    return run;
  }

  /** What is in the lane, if anything, will not be: new calls are judged by what is in the queue alone. */
  #forgetLane(): void {
    this.#inLaneState = undefined;
    this.#submitted.snapshotIndex = this.#submitted.mark.snapshots[0]?.index ?? 0;
  }

  /** The log rejected its queue: nothing but the durable state will ever be. */
  #rejected(error: unknown): void {
    this.#epoch++;
    this.#rejection = error;
    this.#submitted = this.#durableState();
    this.#inLaneState = undefined;
    if (this.#log.status === "poisoned") this.#onPoisoned();
  }

  #refusal(action: string): StableLogError | undefined {
    if (this.#closing === undefined) return this.#log.refusal(action);
    return new StableLogError("ERR_CLOSED", `${action}: the log is closed`);
  }

  #durableHardState(): HardState {
    const { view } = this.#log;
    if (this.#hardStateVersion !== view.stateVersion) {
      this.#hardState = getHardState(viewOf(view.state), 0);
      this.#hardStateVersion = view.stateVersion;
    }
    return this.#hardState;
  }

  #durableMark(): StorageMark {
    const { view } = this.#log;
    if (this.#markVersion !== view.markVersion) {
      this.#mark = decodeMark(view.mark);
      this.#markVersion = view.markVersion;
    }
    return this.#mark;
  }

  #durableState(): Submitted {
    const { view } = this.#log;
    const mark = this.#durableMark();
    return {
      ...this.#durableHardState(),
      firstIndex: view.dummyIndex + 1,
      lastIndex: view.last,
      snapshotIndex: mark.snapshots[0]?.index ?? 0,
      dummyTerm: view.dummyTag,
      mark,
    };
  }

  /** The snapshot files that the durable mark names, the queued one will, or work under way is about to. */
  #kept(): Set<string> {
    const marked = [...this.#durableMark().snapshots, ...this.#submitted.mark.snapshots].map(snapshotName);
    return new Set([...marked, ...this.#held, this.#staged?.file.name ?? ""]);
  }

  /**
   * Removes snapshot files that nothing needs: older ones, and what a crash left unfinished. Called only when the mark is
   * durable, so the newer is safe by then.
   */
  async #prune(): Promise<void> {
    const names = await this.#disk.list(this.#dir).catch((): string[] => []);
    for (const name of names) {
      // Files under a temporary name are somebody's work in hand, but for those that were here before we were.
      if (!isSnapshotName(name) || (name.endsWith(".tmp") && this.#opened)) continue;
      // Asked for each: while one file goes, another may be published.
      await this.#alone(() => this.#removeUnlessKept(name));
    }
    this.#opened = true;
  }
}

/** What reading a caller's object threw (a detached buffer, a getter), as a coded error; ours go through. */
function unreadableArgument(action: string, cause: unknown): Error {
  if (cause instanceof StableLogError || cause instanceof AssertionError) return cause;
  return new StableLogError("ERR_INVALID_ARGUMENT", `${action}: an argument cannot be read: ${String(cause)}`, {
    cause,
  });
}

function cloneMetadata({ index, term, confState }: SnapshotMetadata): SnapshotMetadata {
  return { index, term, confState: cloneConfState(confState) };
}

function withSnapshot(mark: StorageMark, metadata: SnapshotMetadata): StorageMark {
  return { confState: metadata.confState, snapshots: [metadata, ...mark.snapshots].slice(0, MAX_KEPT_SNAPSHOTS) };
}

function checkOptions(dir: string, options: FileStorageOptions) {
  const common = checkLogOptions(dir, options);
  const { snapshotBytes = 64 * MIB } = options;
  if (!isCount(snapshotBytes)) throw invalidArgument("open: snapshotBytes", "an integer from 0", snapshotBytes);
  return { ...common, snapshotBytes, ...diskOf(options.disk) };
}
