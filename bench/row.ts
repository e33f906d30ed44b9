// What a row of the save workloads is: something that makes batches of entries durable. `rows/` has them: the floor,
// stablelog with each of its engines, and the peers. A row is loaded only in the process that runs it, so that a peer which
// is not installed is a row left out, not a benchmark that fails.

import type { Entry, HardState } from "stablelog";

export interface Batch {
  readonly hardState?: HardState | undefined;
  readonly entries: readonly Entry[];
}

/** A log that a row has opened. */
export interface BenchLog {
  /** Resolves when the batch is durable in the row's own sense; the caller may call again before. */
  save(batch: Batch): Promise<void>;
  /** Figures that only the row knows: `syncs`, `writes`, since it was opened. */
  counters?(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

export interface RowOptions {
  /** False: nothing is synced, what is written may be anywhere. */
  readonly sync: boolean;
}

export interface Row {
  readonly name: string;
  /** What it syncs, and when, in half a sentence: `one write and one fdatasync for all that waits`. */
  readonly syncs: string;
  /** @throws when what it needs is not installed. */
  open(dir: string, options: RowOptions): Promise<BenchLog>;
}
