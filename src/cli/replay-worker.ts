// The child process of `stablelog replay`: opens the storage, finds out after which batch the source's replay was cut off,
// and goes on from there with several saves in flight, reporting what is acknowledged. It is made to be killed at any
// moment. Started by replay.ts, which talks to it in the messages below.
//
// Where it goes on is decided by what it recovered alone. Every batch that was acknowledged must be in there, and nothing
// that was not submitted: the recovered state must be that after some batch of [acked, until]. The first of them that
// matches is taken; where several do, what lies between changed nothing that a second save of it would change.

import { assert } from "../base/assert.js";
import { nowMs } from "../base/clock.js";
import type { DiskFile, OpenMode } from "../disk/disk.js";
import { FileDisk } from "../disk/file-disk.js";
import { type Batch, readBatches } from "../etcd/batches.js";
import { isEmptyConfState, type Snapshot, type SnapshotMetadata } from "../raftpb/types.js";
import { FileStorage } from "../storage/file-storage.js";
import type { SyncOption } from "../wal/log.js";
import type { RecoveryReport } from "../wal/recovery.js";
import { type ErrorReport, errorReport } from "./command.js";
import { ReplayModel } from "./replay-model.js";
import { readMemberSnapshot } from "./replay-source.js";

/** The first message to the worker: what to do. */
export interface Task {
  readonly source: string;
  readonly from: "start" | "snapshot";
  readonly dir: string;
  readonly metadata: Uint8Array;
  readonly sync: SyncOption;
  readonly segmentBytes: number | undefined;
  /** Batches acknowledged in earlier runs: they must be there. */
  readonly acked: number;
  /** Batches that earlier runs may have submitted: nothing beyond may be there. */
  readonly submitted: number;
  /** Saves in flight at most. */
  readonly window: number;
}

/** Every further message to the worker: batches up to this one may be submitted. */
export interface Grant {
  readonly until: number;
}

/** What the worker has counted since it was started. */
export interface WorkerStats {
  readonly syncs: number;
  readonly writes: number;
  /** Bytes written to segments. */
  readonly bytes: number;
  readonly engine: string;
}

/** What the worker says, in this order; "acked" as often as there is something new. */
export type Report =
  | { readonly kind: "opening" }
  | { readonly kind: "opened"; readonly position: number; readonly ms: number; readonly recovery: RecoveryReport }
  | {
      readonly kind: "acked";
      readonly position: number;
      readonly syncMs: readonly number[];
      readonly stats: WorkerStats;
    }
  | { readonly kind: "done" }
  /** Something acknowledged is missing, or something is there that nobody saved. */
  | { readonly kind: "lost"; readonly message: string; readonly lost: number }
  | { readonly kind: "failed"; readonly error: ErrorReport };

/** A FileDisk that notes how long each sync of the log took; a commit is a write and its sync. */
class TimedDisk extends FileDisk {
  readonly #syncMs: number[] = [];

  /** The times since the last call. */
  take(): number[] {
    return this.#syncMs.splice(0);
  }

  override async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await super.open(path, mode);
    const sync = file.sync.bind(file);
    const commit = file.commit.bind(file);
    file.sync = () => {
      const started = nowMs();
      sync();
      this.#syncMs.push(nowMs() - started);
    };
    file.commit = async (source, start, end, position) => {
      const started = nowMs();
      await commit(source, start, end, position);
      this.#syncMs.push(nowMs() - started);
    };
    return file;
  }
}

function tell(report: Report): Promise<void> {
  return new Promise((resolve, reject) => {
    assert(process.send !== undefined, "the replay worker was started without a channel");
    process.send(report, (error: Error | null) => (error === null ? resolve() : reject(error)));
  });
}

/** The grants as they come in; granted() waits for one beyond what has been granted. */
class Grants {
  until = -1;
  #wake: (() => void) | undefined;

  constructor() {
    process.on("message", ({ until }: Grant) => {
      this.until = until;
      this.#wake?.();
    });
  }

  async beyond(position: number): Promise<void> {
    while (this.until <= position) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

class Worker {
  readonly #task: Task;
  readonly #grants: Grants;
  readonly #disk: TimedDisk;
  readonly #storage: FileStorage;
  readonly #batches: AsyncIterator<Batch>;
  readonly #model: ReplayModel;
  #inFlight = 0;
  #acked: number;
  #telling = false;
  #failure: unknown;
  /** Called when a save in flight comes back. */
  #landed: (() => void) | undefined;

  constructor(
    task: Task,
    grants: Grants,
    disk: TimedDisk,
    storage: FileStorage,
    batches: AsyncIterator<Batch>,
    model: ReplayModel,
  ) {
    this.#task = task;
    this.#grants = grants;
    this.#disk = disk;
    this.#storage = storage;
    this.#batches = batches;
    this.#model = model;
    this.#acked = model.position;
  }

  /** Replays what the grants allow, to the end of the source. */
  async run(): Promise<void> {
    for (;;) {
      await this.#grants.beyond(this.#model.position);
      const next = await this.#batches.next();
      if (next.done === true) break;
      await this.#replay(next.value);
    }
    await this.#room(1);
    await this.#tellAcked();
  }

  async #replay(batch: Batch): Promise<void> {
    const action = this.#model.judge(batch);
    const { snapshot } = batch;
    await this.#room(action === "save" ? this.#task.window : 1);
    this.#model.apply(batch);
    if (action === "nothing" || snapshot === undefined) {
      // A save of nothing resolves when all saves before it have, so positions are acknowledged in their order.
      const { hardState, entries } = batch;
      this.#launch(this.#storage.save(action === "save" ? { hardState, entries } : {}));
      return;
    }
    // Snapshots go alone: createSnapshot() lets later saves overtake it, and a kill must leave a prefix of the batches.
    const full = await this.#load(snapshot);
    if (action === "create") {
      const { confState } = full.metadata;
      const known = isEmptyConfState(confState) ? undefined : confState;
      this.#launch(this.#storage.createSnapshot(snapshot.index, known, full.data).then(() => {}));
    } else {
      this.#launch(this.#storage.save({ snapshot: full }));
    }
    await this.#room(1);
  }

  /** The snapshot with its data from snap/; where its file is gone, the mark with empty data. */
  async #load(mark: SnapshotMetadata): Promise<Snapshot> {
    const found = await readMemberSnapshot(this.#task.source, mark);
    return found ?? { metadata: mark, data: new Uint8Array(0) };
  }

  #launch(save: Promise<void>): void {
    const { position } = this.#model;
    this.#inFlight++;
    save.then(
      () => {
        this.#inFlight--;
        this.#acked = position;
        this.#landed?.();
        if (this.#telling) return;
        // Saves of one group come back one microtask after the other: this one runs behind them all.
        this.#telling = true;
        queueMicrotask(() => {
          this.#telling = false;
          this.#tellAcked().catch((error: unknown) => this.#fail(error));
        });
      },
      (error: unknown) => {
        this.#inFlight--;
        this.#fail(error);
      },
    );
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#landed?.();
  }

  /** Resolves when fewer than `limit` saves are in flight. */
  async #room(limit: number): Promise<void> {
    while (this.#inFlight >= limit && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#landed = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  #tellAcked(): Promise<void> {
    const { syncs, writes, bytes, engine } = this.#storage.stats();
    const stats = { syncs, writes, bytes, engine };
    return tell({ kind: "acked", position: this.#acked, syncMs: this.#disk.take(), stats });
  }
}

/**
 * Moves `model` along the source to the batch that `storage` is the state after.
 * Gives what is wrong when there is none, undefined when it was found.
 */
async function locate(
  task: Task,
  storage: FileStorage,
  batches: AsyncIterator<Batch>,
  model: ReplayModel,
): Promise<string | undefined> {
  const { acked, submitted } = task;
  let first: string | undefined;
  for (;;) {
    if (model.position >= acked) {
      const difference = model.difference(storage);
      if (difference === undefined) return undefined;
      first ??= difference;
      if (model.position >= submitted) break;
    }
    const next = await batches.next();
    if (next.done === true) break;
    model.apply(next.value);
  }
  return (
    `${acked} batches were acknowledged and up to ${submitted} submitted, but the recovered state is that after none of ` +
    `them; against batch ${acked}, ${first ?? "the source is shorter than it was"}`
  );
}

/** The last batch before the acknowledged ones that `storage` is the state after; 0 when it is no such state at all. */
async function lastHeld({ source, from, acked }: Task, storage: FileStorage): Promise<number> {
  const model = new ReplayModel();
  let held = 0;
  for await (const batch of readBatches(source, { from })) {
    if (model.position >= acked) break;
    if (model.difference(storage) === undefined) held = model.position;
    model.apply(batch);
  }
  return held;
}

async function work(task: Task): Promise<void> {
  const grants = new Grants();
  const disk = new TimedDisk();
  await tell({ kind: "opening" });
  const started = nowMs();
  const storage = await FileStorage.open(task.dir, {
    metadata: task.metadata,
    sync: task.sync,
    segmentBytes: task.segmentBytes,
    // What the snapshot's file holds is of no interest here: reading it back is the parent's last check.
    snapshotBytes: 0,
    disk,
  });
  const ms = nowMs() - started;
  const batches = readBatches(task.source, { from: task.from });
  const model = new ReplayModel();
  const wrong = await locate(task, storage, batches, model);
  if (wrong !== undefined) {
    await tell({ kind: "lost", message: wrong, lost: task.acked - (await lastHeld(task, storage)) });
    return;
  }
  await tell({ kind: "opened", position: model.position, ms, recovery: storage.recovery });
  await new Worker(task, grants, disk, storage, batches, model).run();
  await storage.close();
  await tell({ kind: "done" });
}

// Without its parent it has nobody to report to.
process.once("disconnect", () => process.exit(1));
process.once("message", (task: Task) => {
  work(task)
    .catch((error: unknown) => tell({ kind: "failed", error: errorReport(error) }))
    .finally(() => process.exit())
    .catch(() => {});
});
