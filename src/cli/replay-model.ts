// What a member's batches make of a storage, without one: the worker of `stablelog replay` asks it what to do with the next
// batch and whether a recovered storage is the state after some batch; the parent asks it what the end must look like.
//
// A batch is one of:
//   - entries and HardState as they were persisted: save();
//   - the mark of a snapshot at or below the last index, which the member made itself: createSnapshot();
//   - the mark of a snapshot beyond the last index, which it received: save() of that snapshot, which empties the log;
//   - nothing: the mark (0, 0) of a new log, and marks no newer than the snapshot that is held.
//
// A snapshot that a storage makes itself has the term of the entry it was made at, whatever the mark says.

import type { Batch } from "../etcd/batches.js";
import type { Storage } from "../raft/storage.js";
import { emptyHardState, type HardState, isEmptyHardState, type SnapshotMetadata } from "../raftpb/types.js";

/** What is to be done with a batch. */
export type Action = "nothing" | "save" | "create" | "install";

export class ReplayModel {
  /** Batches applied. */
  position = 0;
  /** Entries in those batches, overwritten ones included. */
  entries = 0;
  hardState: HardState = emptyHardState();
  /** The mark of the newest snapshot; undefined before the first. */
  mark: SnapshotMetadata | undefined;
  #snapshotTerm = 0;
  /** The dummy entry's index. */
  #base = 0;
  /** Terms of the entries from #base + 1 on. */
  readonly #terms: number[] = [];

  get firstIndex(): number {
    return this.#base + 1;
  }

  get lastIndex(): number {
    return this.#base + this.#terms.length;
  }

  /** What to do with a batch that comes next. */
  judge({ snapshot }: Batch): Action {
    if (snapshot === undefined) return "save";
    if (snapshot.index <= this.#snapshotIndex) return "nothing";
    return snapshot.index <= this.lastIndex ? "create" : "install";
  }

  /** Applies the next batch. */
  apply(batch: Batch): void {
    const action = this.judge(batch);
    this.position++;
    this.entries += batch.entries.length;
    const { snapshot } = batch;
    if (snapshot !== undefined && action !== "nothing") this.#snapshot(snapshot, action === "install");
    for (const { index, term } of batch.entries) {
      if (index <= this.#base) continue;
      this.#terms.length = index - this.#base - 1;
      this.#terms.push(term);
    }
    if (batch.hardState !== undefined && !isEmptyHardState(batch.hardState)) this.hardState = batch.hardState;
  }

  get #snapshotIndex(): number {
    return this.mark?.index ?? 0;
  }

  #snapshot(mark: SnapshotMetadata, install: boolean): void {
    const { index, term } = mark;
    this.mark = mark;
    this.#snapshotTerm = install ? term : (this.#terms[index - this.#base - 1] ?? term);
    if (!install) return;
    this.#base = index;
    this.#terms.length = 0;
  }

  /**
   * The first thing in which `storage` is not the state after the batches applied, undefined when it is: range, HardState,
   * snapshot and the term of every entry. Payloads are not looked at.
   */
  difference(storage: Storage): string | undefined {
    const { hardState } = storage.initialState();
    const { index, term } = storage.snapshot().metadata;
    const numbers: [string, number | bigint, number | bigint][] = [
      ["the first index", storage.firstIndex(), this.firstIndex],
      ["the last index", storage.lastIndex(), this.lastIndex],
      ["the HardState's term", hardState.term, this.hardState.term],
      ["the HardState's vote", hardState.vote, this.hardState.vote],
      ["the HardState's commit", hardState.commit, this.hardState.commit],
      ["the snapshot's index", index, this.#snapshotIndex],
      ["the snapshot's term", term, this.#snapshotTerm],
    ];
    for (const [what, found, wanted] of numbers) {
      if (found !== wanted) return `${what} is ${found} and should be ${wanted}`;
    }
    for (const [i, wanted] of this.#terms.entries()) {
      const at = this.#base + 1 + i;
      const found = storage.term(at);
      if (found !== wanted) return `the term of entry ${at} is ${found} and should be ${wanted}`;
    }
    return undefined;
  }
}
