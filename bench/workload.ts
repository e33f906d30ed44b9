// What a workload of `npm run bench` is: its rows, what it measures of a row, and the goals that its medians are held to.
// `workloads/` has them. One row of one workload runs in a process of its own (child.ts); bench.ts takes turns among them.

import type { GoalResult, RowResult, Sample } from "./result.js";
import { median, medianOf, ratios } from "./result.js";

/** What a run of one row is given. */
export interface Place {
  /** An empty directory on the disk that is measured; removed afterwards. */
  readonly dir: string;
  /** A directory that all rounds of the workload share, for what takes long to build; removed after the last. */
  readonly shared: string;
  readonly seconds: number;
  readonly warmSeconds: number;
}

/** A row's run: what it syncs and when, and what it measured. */
export interface Run {
  readonly syncs: string;
  readonly sample: Sample;
}

export interface Workload {
  readonly name: string;
  /** One sentence: what is done, and what is counted. */
  readonly title: string;
  readonly unit: string;
  readonly base: string;
  readonly x?: { readonly axis: string; readonly value: number } | undefined;
  /** Left out by `--quick`: it takes long whatever is asked of it. */
  readonly long?: boolean | undefined;
  /** Rejects when what the row needs is not installed: it is left out then, and the report says why. */
  readonly rows: ReadonlyMap<string, (place: Place) => Promise<Run>>;
  /** `others`: the rows of the workloads before this one. */
  goals(rows: Rows, others: ReadonlyMap<string, Rows>): GoalResult[];
}

/** The rows of a workload by name, for its goals. */
export type Rows = ReadonlyMap<string, RowResult>;

/** Median over rounds of a row's rate over another's in the same round; NaN when one of them did not run. */
export function rateOver(rows: Rows, row: string, base: string): number {
  const [above, below] = [rows.get(row), rows.get(base)];
  return above === undefined || below === undefined
    ? Number.NaN
    : median(ratios(above, below, ({ perSecond }) => perSecond));
}

/** The same of the 99th percentile. */
export function p99Over(rows: Rows, row: string, base: string): number {
  const [above, below] = [rows.get(row), rows.get(base)];
  return above === undefined || below === undefined
    ? Number.NaN
    : median(ratios(above, below, ({ latency }) => latency?.p99));
}

/** Median over rounds of a figure. */
export function figureOf(rows: Rows, row: string, pick: (sample: Sample) => number | undefined): number {
  return medianOf(rows.get(row) ?? { samples: [] }, pick);
}

export function atLeast(what: string, wanted: number, measured: number): GoalResult {
  return { what, wanted, measured, sense: "atLeast" };
}

export function atMost(what: string, wanted: number, measured: number): GoalResult {
  return { what, wanted, measured, sense: "atMost" };
}
