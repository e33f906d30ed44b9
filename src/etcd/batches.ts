// readBatches: a member's log save by save, in the order it was persisted, for replaying it elsewhere. Called through
// index.ts. Streams: it holds the reader's buffer and the batch being collected, which is at most one segment.
//
// etcd does not frame its saves. What is known of them (server/storage/wal, Save, SaveSnapshot and cut):
//   - a save is its entries, then its HardState when that is not empty;
//   - the mark of a snapshot is saved by itself;
//   - a segment is begun after a save, never within one, and repeats the last HardState at its head.
// So a batch ends with a HardState, before and after a snapshot mark, at the end of a segment, and before an entry that does
// not follow the one before it. Neighbouring saves of entries under an unchanged HardState cannot be told apart.

import type { Entry, HardState, SnapshotMetadata } from "../raftpb/types.js";
import { entryGap, HeadCheck, type MemberOptions, openMember } from "./member.js";
import { decodeEntry, decodeHardState, decodeSnapshotMark, RecordType, type WalRecord } from "./record.js";
import type { WalReader } from "./wal-reader.js";

/** One save: entries that replace everything from the index of the first one on, then the HardState. */
export interface Batch {
  hardState?: HardState | undefined;
  entries: Entry[];
  /** That a snapshot was made or received: always a batch of its own. The ConfState is empty before etcd 3.5. */
  snapshot?: SnapshotMetadata | undefined;
}

/**
 * What the member in `dir` persisted, save by save. From "start" that is everything, the mark (0, 0) of a new log included;
 * from "snapshot" the first batch is the newest usable snapshot, followed by what was saved after it: entries above it,
 * from the first save on that holds one or commits the snapshot. Applied in order, the batches give what readMember()
 * returns, up to entries that a received snapshot stands for.
 *
 * Damage ends the iteration with the errors of readMember(), after the batches before it.
 */
export async function* readBatches(dir: string, options: MemberOptions = {}): AsyncGenerator<Batch, void, undefined> {
  const { reader, snapshot } = await openMember(dir, options);
  const cutter = new BatchCutter(snapshot?.metadata);
  try {
    while (await reader.load()) {
      for (let record = reader.next(); record !== undefined; record = reader.next()) {
        cutter.accept(record, reader);
        if (cutter.hasBatches) yield* cutter.takeBatches();
      }
    }
    cutter.finish(reader);
    yield* cutter.takeBatches();
  } finally {
    await reader.close();
  }
}

/** Puts the Records of a log together to batches. */
class BatchCutter {
  #batches: Batch[] = [];
  /** Entries of the batch being collected. */
  #entries: Entry[] = [];
  #lastState: HardState | undefined;
  /** The last index after the batches so far: an entry may be at most one above it. */
  #lastIndex: number;
  /** False until something lies beyond the snapshot that the pass begins at. */
  #begun: boolean;
  /** True from the head of a segment to its first HardState, mark or entry. */
  #atHead = true;
  #segment = 0;
  readonly #head: HeadCheck;
  readonly #base: number;

  constructor(start: SnapshotMetadata | undefined) {
    this.#head = new HeadCheck(start);
    this.#base = start?.index ?? 0;
    this.#lastIndex = this.#base;
    this.#begun = start === undefined;
    if (start !== undefined) this.#batches.push({ entries: [], snapshot: start });
  }

  get hasBatches(): boolean {
    return this.#batches.length > 0;
  }

  takeBatches(): Batch[] {
    const batches = this.#batches;
    this.#batches = [];
    return batches;
  }

  accept(record: WalRecord, reader: WalReader): void {
    if (this.#segment !== reader.segmentsBegun) {
      this.#segment = reader.segmentsBegun;
      this.#endBatch(undefined);
      this.#atHead = true;
    }
    if (record.type === RecordType.Metadata) {
      this.#head.acceptMetadata(record.data, reader);
      return;
    }
    if (record.type === RecordType.Entry) this.#acceptEntry(decodeEntry(record.data, reader), reader);
    else if (record.type === RecordType.State) this.#acceptState(decodeHardState(record.data, reader));
    else this.#acceptMark(decodeSnapshotMark(record.data, reader), reader);
    this.#atHead = false;
  }

  /** The end of the log ends its last batch. */
  finish(reader: WalReader): void {
    this.#endBatch(undefined);
    this.#head.finish(reader);
  }

  #acceptEntry(entry: Entry, reader: WalReader): void {
    const previous = this.#entries.at(-1);
    if (previous !== undefined && entry.index !== previous.index + 1) this.#endBatch(undefined);
    if (entry.index <= this.#base) return;
    if (entry.index > this.#lastIndex + 1) throw entryGap(reader, entry.index, this.#lastIndex);
    entry.data = entry.data.slice();
    this.#entries.push(entry);
    this.#lastIndex = entry.index;
  }

  #acceptState(state: HardState): void {
    const repeated = this.#atHead && this.#lastState !== undefined && sameState(state, this.#lastState);
    this.#lastState = state;
    if (!repeated) this.#endBatch(state);
  }

  #acceptMark(mark: SnapshotMetadata, reader: WalReader): void {
    this.#head.acceptMark(mark, reader);
    this.#endBatch(undefined);
    // Begun at a snapshot, the marks up to it are history.
    if (this.#base > 0 && mark.index <= this.#base) return;
    this.#batches.push({ entries: [], snapshot: mark });
    // A received snapshot stands for entries that this member never had.
    if (mark.index > this.#lastIndex) this.#lastIndex = mark.index;
  }

  /** Ends the batch being collected, with `hardState` when it has one. */
  #endBatch(hardState: HardState | undefined): void {
    const entries = this.#entries;
    if (entries.length === 0 && hardState === undefined) return;
    if (!this.#begun) {
      // All that is left out here was saved before the snapshot. The last HardState never is: a usable snapshot is committed.
      if (entries.length === 0 && hardState !== undefined && hardState.commit < this.#base) return;
      this.#begun = true;
    }
    this.#entries = [];
    this.#batches.push(hardState === undefined ? { entries } : { entries, hardState });
  }
}

function sameState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}
