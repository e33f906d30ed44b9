// Wal: the engine for people without raft. Records are bytes, numbered from 1 without a gap (LSNs); append() resolves once
// they are durable, a batch is an atom, reads go from an LSN on. The same segments, group commit and recovery as under
// FileStorage, and the same promises.

import { isCount, MAX_INDEX } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import type { Disk } from "../disk/disk.js";
import * as f from "./format.js";
import { emptyShape } from "./frame.js";
import { Log, type LogStats, type SyncOption } from "./log.js";
import { checkLogOptions, diskOf, invalidArgument } from "./options.js";
import type { RecoveryReport } from "./recovery.js";
import { type VerifyReport, verifyLog } from "./verify.js";

export interface WalOptions {
  /** True (the default): a missing directory, or one that holds no log, becomes a new one. */
  readonly create?: boolean | undefined;
  /** No lock, no write; may look at a running log and shows the durable prefix of one moment. Default false. */
  readonly readOnly?: boolean | undefined;
  /** Who owns this log: at most 4 KiB, fixed at creation. Another value later is ERR_FOREIGN. */
  readonly metadata?: Uint8Array | undefined;
  /** Size at which a segment is full, 4 KiB to 1 GiB; default 64 MiB. */
  readonly segmentBytes?: number | undefined;
  /** Bound of the cache of recent records; default 64 MiB. */
  readonly cacheBytes?: number | undefined;
  /** Bound of the queue of appends that are not durable yet; default 512 MiB. */
  readonly maxPendingBytes?: number | undefined;
  /** Who syncs; see FileStorageOptions.sync. `off` loses what was appended in a power cut. */
  readonly sync?: SyncOption | undefined;
  readonly onAmbiguousTail?: "refuse" | "drop" | undefined;
  readonly disk?: Disk | undefined;
}

/** A record as read() yields it. `data` is a view: do not change it, copy it to keep it long. */
export interface WalRecord {
  readonly lsn: number;
  readonly data: Uint8Array;
}

/** Records of one turn of read(): few enough that a slow reader holds little memory. */
const READ_BATCH = 256;

export class Wal {
  readonly #log: Log<WalRecord>;
  readonly #disk: Disk;
  readonly #shape = emptyShape();
  /** The last LSN, and the last one compacted away, with everything queued counted in. */
  #last: number;
  #compacted: number;

  private constructor(log: Log<WalRecord>, disk: Disk) {
    this.#log = log;
    this.#disk = disk;
    this.#last = log.view.last;
    this.#compacted = log.view.dummyIndex;
  }

  /**
   * Opens the log in `dir`, or makes a new one there; what was acknowledged is there, or it refuses and changes nothing.
   * @throws (rejects) as FileStorage.open() does.
   */
  static async open(dir: string, options: WalOptions = {}): Promise<Wal> {
    const { disk, onClosed } = diskOf(options?.disk);
    let wal: Wal | undefined;
    const log = await Log.open<WalRecord>(dir, {
      ...checkLogOptions(dir, options),
      disk,
      onClosed,
      isOwnName: () => false,
      materialize: (lsn, _tag, _kind, data) => ({ lsn, data }),
      onRejected: () => {
        if (wal !== undefined) wal.#rejected();
      },
    });
    wal = new Wal(log, disk);
    return wal;
  }

  /** The lowest LSN that can be read; lastLsn + 1 when there is none. */
  get firstLsn(): number {
    this.#log.assertReadable("read the first LSN");
    return this.#log.view.dummyIndex + 1;
  }

  /** The last durable LSN; 0 before the first. */
  get lastLsn(): number {
    this.#log.assertReadable("read the last LSN");
    return this.#log.view.last;
  }

  /** What open() found and did. */
  get recovery(): RecoveryReport {
    return this.#log.recovery;
  }

  /** The owner's bytes, as given when the log was created. */
  get metadata(): Uint8Array {
    return this.#log.metadata;
  }

  /**
   * Appends one record, or several as one atom, and resolves with the LSN of the last once all are durable. The bytes are
   * copied before this returns. No records: resolves with the last LSN when all earlier appends are durable.
   * @throws (rejects) ERR_INVALID_ARGUMENT, ERR_TOO_LARGE, ERR_NO_SPACE, ERR_IO, ERR_POISONED, ERR_READ_ONLY, ERR_CLOSED.
   */
  append(records: Uint8Array | readonly Uint8Array[]): Promise<number> {
    try {
      this.#assertWritable("append");
      const batch = Array.isArray(records) ? (records as readonly Uint8Array[]) : [records as Uint8Array];
      let dataBytes = 0;
      for (const record of batch) {
        if (!(record instanceof Uint8Array)) throw invalidArgument("append: a record", "a Uint8Array", record);
        if (record.length > f.MAX_RECORD_BYTES) {
          throw new StableLogError(
            "ERR_TOO_LARGE",
            `append a record of ${record.length} bytes: a record is at most ${f.MAX_RECORD_BYTES}`,
          );
        }
        dataBytes += record.length;
      }
      const last = this.#last + batch.length;
      if (batch.length === 0) return this.#log.settled().then(() => last);
      if (last > MAX_INDEX) throw invalidArgument("append: the LSN", "at most 2^53 - 2", last);
      const shape = this.#shape;
      shape.baseFlag = 0;
      shape.hasRecords = true;
      shape.first = this.#last + 1;
      shape.count = batch.length;
      shape.dataBytes = dataBytes;
      const writer = this.#log.begin(shape);
      for (const record of batch) writer.record(0, 0, record);
      this.#last = last;
      return this.#log.submit(true, batch.length).then(() => last);
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  /**
   * The durable records from LSN `from` (default the first) up to and including `to` (default the last one when the first
   * record is asked for), in order. Ends early when truncate() takes the rest away meanwhile.
   * @throws (rejects) ERR_COMPACTED when the next record is compacted away; ERR_UNAVAILABLE when `to` is beyond the last;
   * ERR_INVALID_ARGUMENT, ERR_CLOSED, ERR_CORRUPT, ERR_READ.
   */
  async *read(
    range: { readonly from?: number | undefined; readonly to?: number | undefined } = {},
  ): AsyncGenerator<WalRecord> {
    const log = this.#log;
    log.assertReadable("read");
    if (typeof range !== "object" || range === null) throw invalidArgument("read: the range", "an object", range);
    const { from = log.view.dummyIndex + 1, to = log.view.last } = range;
    if (!isCount(from)) throw invalidArgument("read: from", "an LSN", from);
    if (!isCount(to)) throw invalidArgument("read: to", "an LSN", to);
    if (to > log.view.last) {
      throw new StableLogError("ERR_UNAVAILABLE", `read up to ${to}: the log ends at ${log.view.last}`);
    }
    let next = from;
    while (next <= to) {
      log.assertReadable("read");
      if (next <= log.view.dummyIndex) {
        throw new StableLogError("ERR_COMPACTED", `read from ${next}: the log starts at ${log.view.dummyIndex + 1}`);
      }
      // truncate() may have shortened the log since the last turn.
      const last = Math.min(to, log.view.last);
      if (next > last) return;
      const batch: WalRecord[] = [];
      log.read(next, Math.min(last, next + READ_BATCH - 1) + 1, batch);
      yield* batch;
      next += batch.length;
    }
  }

  /**
   * Drops the records after `lsn`, durably; the next append is lsn + 1.
   * @throws (rejects) ERR_COMPACTED below what is compacted away; ERR_UNAVAILABLE beyond the last.
   */
  truncate(lsn: number): Promise<void> {
    try {
      this.#assertWritable("truncate");
      if (!isCount(lsn)) throw invalidArgument("truncate: lsn", "an LSN", lsn);
      if (lsn < this.#compacted) {
        throw new StableLogError("ERR_COMPACTED", `truncate after ${lsn}: the log is compacted to ${this.#compacted}`);
      }
      if (lsn > this.#last) {
        throw new StableLogError("ERR_UNAVAILABLE", `truncate after ${lsn}: the log ends at ${this.#last}`);
      }
      if (lsn === this.#last) return this.#log.settled();
      const shape = emptyShape();
      shape.hasRecords = true;
      shape.first = lsn + 1;
      this.#log.begin(shape);
      this.#last = lsn;
      return this.#log.submit(true, 0);
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  /**
   * Drops the records up to and including `lsn`, durably, and gives their segments back.
   * @throws (rejects) ERR_COMPACTED when they are dropped already; ERR_UNAVAILABLE beyond the last.
   */
  compact(lsn: number): Promise<void> {
    try {
      this.#assertWritable("compact");
      if (!isCount(lsn)) throw invalidArgument("compact: lsn", "an LSN", lsn);
      if (lsn <= this.#compacted) {
        throw new StableLogError("ERR_COMPACTED", `compact to ${lsn}: the log is compacted to ${this.#compacted}`);
      }
      if (lsn > this.#last) {
        throw new StableLogError("ERR_UNAVAILABLE", `compact to ${lsn}: the log ends at ${this.#last}`);
      }
      const shape = emptyShape();
      shape.baseFlag = f.F_COMPACT;
      shape.baseIndex = lsn;
      this.#log.begin(shape);
      this.#compacted = lsn;
      return this.#log.submit(true, 0).then(() => this.#log.release());
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  /** Reads every segment and checks it; reports damage, does not throw it. */
  async verify(): Promise<VerifyReport> {
    this.#log.assertReadable("verify");
    return verifyLog(this.#log, this.#disk);
  }

  /** Counters since open(), and what the `auto` engine chose. */
  stats(): LogStats {
    return this.#log.stats();
  }

  /** Waits for pending appends, then syncs. Closing twice is fine. */
  close(): Promise<void> {
    return this.#log.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #assertWritable(action: string): void {
    const refusal = this.#log.refusal(action);
    if (refusal !== undefined) throw refusal;
  }

  #rejected(): void {
    this.#last = this.#log.view.last;
    this.#compacted = this.#log.view.dummyIndex;
  }
}
