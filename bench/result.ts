// What a benchmark run is made of, as data: the shapes that rows hand to the runner, the runner to the report, and `--json`
// to whoever compares two runs. No code of the package is imported here, so that a report can be drawn from a file alone.

/** Latencies in microseconds, from a histogram that saw every one of them. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What one row measured in one round, in a process of its own. */
export interface Sample {
  /** What the workload counts, a second: saves, entries, ranges, bytes; see its `unit`. */
  readonly perSecond: number;
  readonly latency?: Latency | undefined;
  /** Further figures by name: `group` (saves a sync), `rssMiB`, `openMs`, `writesPerSave`, ... */
  readonly more?: Readonly<Record<string, number>> | undefined;
}

/** A row of one workload over all rounds. */
export interface RowResult {
  readonly row: string;
  /** What it syncs, and when; for people. */
  readonly syncs: string;
  /** One sample a round, in order; empty when `skipped` says why. */
  readonly samples: readonly Sample[];
  readonly skipped?: string | undefined;
}

/** A goal of a workload, judged on medians over rounds of ratios within a round. */
export interface GoalResult {
  /** For people: `at least 0.95 of the floor`. */
  readonly what: string;
  readonly wanted: number;
  readonly measured: number;
  /** `atLeast`: measured must not be below wanted; `atMost`: not above. */
  readonly sense: "atLeast" | "atMost";
}

export interface WorkloadResult {
  readonly name: string;
  /** One sentence: what is done, and what is counted. */
  readonly title: string;
  /** What perSecond counts: `saves`, `entries`, `MB`, `ranges`. */
  readonly unit: string;
  /** The row that ratios are to: `floor` where there is one. */
  readonly base: string;
  /** Where it stands on the axis of its picture: savers, bytes a save, entries in the log. */
  readonly x?: { readonly axis: string; readonly value: number } | undefined;
  readonly rows: readonly RowResult[];
  readonly goals: readonly GoalResult[];
}

export interface Report {
  /** ISO 8601. */
  readonly date: string;
  readonly command: string;
  /** Lines about the machine, the file system and its syncs. */
  readonly machine: readonly string[];
  readonly rounds: number;
  readonly workloads: readonly WorkloadResult[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/** The median over the rounds that have the figure; NaN when none has. */
export function medianOf(
  { samples }: Pick<RowResult, "samples">,
  pick: (sample: Sample) => number | undefined,
): number {
  return median(samples.map(pick).filter((value) => Number.isFinite(value)) as number[]);
}

/** Of each round the row's figure over the base's, lowest first. Empty when either has none. */
export function ratios(row: RowResult, base: RowResult, pick: (sample: Sample) => number | undefined): number[] {
  return row.samples
    .map(
      (sample, round) =>
        (pick(sample) ?? Number.NaN) / ((base.samples[round] && pick(base.samples[round])) ?? Number.NaN),
    )
    .filter((ratio) => Number.isFinite(ratio))
    .sort((a, b) => a - b);
}
