// The figures of a workload as tables: for the terminal, for docs/BENCHMARKS.md, and as cells for the page of report.ts. How a
// number is written is decided here, for all of them; so is whether a goal was met.

import { type GoalResult, median, medianOf, type RowResult, ratios, type WorkloadResult } from "./result.js";

/** Stands where there is no figure. */
const NONE = "–";
const LATENCIES = ["p50", "p99", "p999"] as const;

/** A figure with about three digits, or all of those before the point; thousands are separated. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e15 || size < 1e-4) return value.toExponential(1);
  const decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : Math.max(2, 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Names of all further figures of some rows, in the order in which they come. */
export function moreNames(rows: readonly RowResult[]): string[] {
  const names = new Set<string>();
  for (const { samples } of rows) {
    for (const { more } of samples) {
      for (const [name, value] of Object.entries(more ?? {})) if (Number.isFinite(value)) names.add(name);
    }
  }
  return [...names];
}

/** `writesPerSave` as `writes/save`, `rssMiB` as `RSS MiB`. */
export function inWords(name: string): string {
  const words = name.split(/(?<=[a-z\d])(?=[A-Z][a-z])/);
  const lower = words.map((word) => {
    if (/^(cpu|rss)$/i.test(word)) return word.toUpperCase();
    return /.[A-Z]/.test(word) ? word : word.toLowerCase();
  });
  return lower.join(" ").replace(/(?<=\S) per (?=\S)/g, "/");
}

/** At most `most` characters. */
export function shortened(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1).trimEnd()}…`;
}

/** A workload's figures as text. Every line has as many cells as there are headings, or none when the row was left out. */
export interface Table {
  readonly headings: readonly string[];
  readonly lines: readonly { readonly row: RowResult; readonly cells: readonly string[] }[];
}

export function tableOf({ rows, base, unit }: WorkloadResult): Table {
  const baseRow = rows.find(({ row }) => row === base);
  const more = moreNames(rows);
  const timed = rows.some(({ samples }) => samples.some(({ latency }) => latency !== undefined));
  const latencies = timed ? LATENCIES : [];
  const headings = [
    `${unit}/s`,
    ...latencies.map((name) => `${name} us`),
    `x ${shortened(base, 14)}`,
    "lowest",
    "highest",
    ...more.map(inWords),
  ];
  const lines = rows.map((row) => {
    if (row.samples.length === 0 && row.skipped !== undefined) return { row, cells: [] };
    const over = baseRow === undefined ? [] : ratios(row, baseRow, ({ perSecond }) => perSecond);
    const figures = [
      medianOf(row, ({ perSecond }) => perSecond),
      ...latencies.map((name) => medianOf(row, ({ latency }) => latency?.[name])),
      ...[median(over), over[0], over.at(-1)].map((ratio) => ratio ?? Number.NaN),
      ...more.map((name) => medianOf(row, (sample) => sample.more?.[name])),
    ];
    return { row, cells: figures.map(figure) };
  });
  return { headings, lines };
}

/** Names and reasons come from rows and from errors: whatever they hold, each stays on its line. */
function onOneLine(text: string): string {
  return text.replace(/ *[\0-\x1f\x7f-\x9f\u2028\u2029]+ */g, " ").trim();
}

/** For the terminal: what the workload is, then a line a row, columns aligned. */
export function textTable(workload: WorkloadResult): string {
  const { headings, lines } = tableOf(workload);
  const head = headings.map(onOneLine);
  const names = lines.map(({ row }) => onOneLine(row.row));
  const nameWidth = Math.max(...names.map(({ length }) => length), 0);
  const widths = head.map(({ length }, at) => Math.max(length, ...lines.map(({ cells }) => cells[at]?.length ?? 0)));
  const lineOf = (name: string, cells: readonly string[]): string =>
    name.padEnd(nameWidth) + cells.map((cell, at) => `  ${cell.padStart(widths[at] ?? 0)}`).join("");
  const text = lines.map(({ row, cells }, at) => {
    const name = names[at] ?? "";
    return cells.length > 0 ? lineOf(name, cells) : `${name.padEnd(nameWidth)}  ${onOneLine(leftOut(row))}`;
  });
  return [`${onOneLine(workload.name)}: ${onOneLine(workload.title)}`, lineOf("", head), ...text].join("\n");
}

/** For a Markdown document. Rows that were left out stand below, with the reason: a cell has no room for it. */
export function markdownTable(workload: WorkloadResult): string {
  const { headings, lines } = tableOf(workload);
  const cell = (text: string): string => onOneLine(text).replace(/[\\|<>&*_`[\]~]/g, "\\$&");
  const lineOf = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const shown = lines.filter(({ cells }) => cells.length > 0);
  const rest = lines.filter(({ cells }) => cells.length === 0);
  const table = [
    lineOf(["", ...headings.map(cell)]),
    lineOf(["---", ...headings.map(() => "---:")]),
    ...shown.map(({ row, cells }) => lineOf([cell(row.row), ...cells])),
  ];
  return [...table, ...rest.flatMap(({ row }) => ["", `${cell(row.row)}: ${cell(leftOut(row))}`])].join("\n");
}

/** Why a row has no figures. */
export function leftOut({ skipped }: RowResult): string {
  return `left out: ${skipped === undefined || skipped === "" ? "no reason given" : skipped}`;
}

// ---- goals

export function isMet({ wanted, measured, sense }: GoalResult): boolean {
  return sense === "atLeast" ? measured >= wanted : measured <= wanted;
}

export interface GoalText {
  readonly met: boolean;
  readonly what: string;
  readonly wanted: string;
  readonly measured: string;
}

/** A goal for people. What was measured has as many digits as show on which side of what was wanted it is. */
export function goalText(goal: GoalResult): GoalText {
  const { what, wanted, measured, sense } = goal;
  const met = isMet(goal);
  let text = figure(measured);
  for (let digits = 4; digits <= 17 && Number.isFinite(measured); digits++) {
    if (isMet({ ...goal, measured: Number(text.replaceAll(",", "")) }) === met) break;
    text = measured.toPrecision(digits);
  }
  const bound =
    Math.abs(wanted) < 1e15 ? wanted.toLocaleString("en-US", { maximumSignificantDigits: 6 }) : figure(wanted);
  return { met, what, wanted: `${sense === "atLeast" ? "at least" : "at most"} ${bound}`, measured: text };
}

/** A line a goal. */
export function goalLines({ goals }: WorkloadResult): string[] {
  return goals.map((goal) => {
    const { met, what, wanted, measured } = goalText(goal);
    return `${met ? "✓" : "✗"} ${onOneLine(what)}: wanted ${wanted}, measured ${measured}`;
  });
}
