// A report of `npm run bench` as a page with pictures, and its pictures as files for docs/BENCHMARKS.md. Pure: the same report
// gives the same page, which needs no script and nothing from anywhere else. Called by main.ts with what was measured, or
// with what `--json` kept.
//
// Workloads that stand on one axis make a picture together: one of their rates, or of what the axis is there to show.

import {
  CHART_STYLE,
  type Chart,
  chartSvg,
  compact,
  DARK,
  inBytes,
  inThousands,
  inTime,
  LIGHT,
  type LineChart,
  type Look,
  lineChart,
  looksOf,
  Markup,
  type Point,
  rangeChart,
  render,
  type Theme,
  tag,
} from "./chart.js";
import type { Report, RowResult, Sample, WorkloadResult } from "./result.js";
import { medianOf } from "./result.js";
import { goalText, isMet, leftOut, tableOf } from "./tables.js";

// ---- what there is to draw

/** A figure of samples that has a picture over an axis. */
interface Figure {
  readonly name: string;
  readonly title: string;
  readonly yTitle: string;
  readonly format: (value: number) => string;
  readonly ticks?: (value: number) => string;
  readonly pick: (sample: Sample) => number | undefined;
}

const FURTHER: readonly Figure[] = [
  {
    name: "open",
    title: "Time to open",
    yTitle: "time to open",
    format: (ms) => inTime(ms * 1000),
    pick: ({ more }) => more?.["openMs"],
  },
  {
    name: "memory",
    title: "Resident memory",
    yTitle: "MiB resident",
    format: compact,
    pick: ({ more }) => more?.["rssMiB"],
  },
];
/** Axes of which the rate is not the point when there is a further figure. */
const NOT_ABOUT_RATES = /^entries\b/;

function rateOf(unit: string): Figure {
  const title = `${unit} a second`;
  return {
    name: unit,
    title: title.charAt(0).toUpperCase() + title.slice(1),
    yTitle: title,
    format: compact,
    ticks: inThousands,
    pick: ({ perSecond }) => perSecond,
  };
}

const isFiniteNumber = (value: number | undefined): value is number => Number.isFinite(value);

/** Of letters, digits and dashes; different for different pictures. */
class Names {
  readonly #taken = new Set<string>();

  take(...words: readonly string[]): string {
    const plain = words
      .join("-")
      .toLowerCase()
      .replace(/[^a-z\d]+/g, "-")
      .slice(0, 80)
      .replace(/^-|-$/g, "");
    const base = plain === "" ? "picture" : plain;
    let name = base;
    for (let nth = 2; this.#taken.has(name); nth++) name = `${base}-${nth}`;
    this.#taken.add(name);
    return name;
  }
}

interface Drawn {
  /** Over all workloads of an axis. */
  readonly overAxes: readonly Chart[];
  /** Latencies, of the workloads that have any. */
  readonly latencies: ReadonlyMap<WorkloadResult, Chart>;
}

function drawn({ workloads, rounds }: Report): Drawn {
  const rows = workloads.flatMap((workload) => workload.rows.map(({ row }) => row));
  const looks = looksOf(rows, new Set(["perfect group", "load alone", ...workloads.map(({ base }) => base)]));
  const names = new Names();
  const overAxes = groupsOf(workloads).flatMap(({ axis, all }) => {
    const further = FURTHER.filter(({ pick }) =>
      all.some((workload) => workload.rows.some((row) => hasAny(row, pick))),
    );
    const units = further.length > 0 && NOT_ABOUT_RATES.test(axis) ? [] : [...new Set(all.map(({ unit }) => unit))];
    const charts = [
      ...units.map((unit) =>
        overAxis(
          rateOf(unit),
          axis,
          all.filter((each) => each.unit === unit),
          rounds,
          looks,
        ),
      ),
      ...further.map((each) => overAxis(each, axis, all, rounds, looks)),
    ];
    return charts.flatMap((chart) => (chart === undefined ? [] : [lineChart({ ...chart, id: names.take(chart.id) })]));
  });
  const latencies = new Map<WorkloadResult, Chart>();
  for (const workload of workloads) {
    const chart = latenciesOf(workload, looks, names);
    if (chart !== undefined) latencies.set(workload, chart);
  }
  return { overAxes, latencies };
}

const hasAny = ({ samples }: RowResult, pick: Figure["pick"]): boolean =>
  samples.some((sample) => isFiniteNumber(pick(sample)));

/** The workloads of each axis, in the order of the report. */
function groupsOf(workloads: readonly WorkloadResult[]): { axis: string; all: WorkloadResult[] }[] {
  const groups = new Map<string, WorkloadResult[]>();
  for (const workload of workloads) {
    const { x } = workload;
    if (x === undefined || !Number.isFinite(x.value)) continue;
    groups.set(x.axis, [...(groups.get(x.axis) ?? []), workload]);
  }
  return [...groups].map(([axis, all]) => ({ axis, all }));
}

/** Nothing when there are not two places on the axis to draw a line between. */
function overAxis(
  { name, title, yTitle, format, ticks, pick }: Figure,
  axis: string,
  workloads: readonly WorkloadResult[],
  rounds: number,
  looks: ReadonlyMap<string, Look>,
): LineChart | undefined {
  const lines = new Map<string, Point[]>();
  for (const { x, rows } of workloads) {
    for (const { row, samples } of rows) {
      const values = samples.map(pick).filter(isFiniteNumber);
      const y = medianOf({ samples }, pick);
      if (x === undefined || !Number.isFinite(y)) continue;
      const point = { x: x.value, y, low: Math.min(...values), high: Math.max(...values) };
      lines.set(row, [...(lines.get(row) ?? []), point]);
    }
  }
  const places = new Set([...lines.values()].flat().map(({ x }) => x));
  if (places.size < 2) return undefined;
  const over =
    rounds === 1 ? "One round" : `Medians of ${compact(rounds)} rounds, shaded from the lowest to the highest`;
  return {
    id: `${name} by ${axis}`,
    title: `${title}, by ${axis}`,
    subtitle: `${over}. Both axes are logarithmic.`,
    xTitle: axis,
    yTitle,
    xFormat: /^bytes\b/.test(axis) ? inBytes : compact,
    yFormat: format,
    yTicks: ticks,
    lines: [...lines].map(([row, points]) => ({ name: row, points })),
    looks,
  };
}

function latenciesOf(workload: WorkloadResult, looks: ReadonlyMap<string, Look>, names: Names): Chart | undefined {
  const rows = workload.rows.flatMap((row) => {
    const medians = (["p50", "p99", "p999"] as const).map((name) => medianOf(row, ({ latency }) => latency?.[name]));
    const highest = row.samples.map(({ latency }) => latency?.max).filter(isFiniteNumber);
    const values = [...medians, Math.max(...highest)];
    return values.every(isFiniteNumber) ? [{ name: row.row, values }] : [];
  });
  if (rows.length === 0) return undefined;
  return rangeChart({
    id: names.take("latency", workload.name),
    title: `Latency, ${workload.name}`,
    // Titles end with what is counted, and that is no latency.
    subtitle: workload.title.replace(/; [^;]* a second\.$/, "."),
    xTitle: "latency, logarithmic",
    format: inTime,
    names: ["p50", "p99", "p999", "longest of all rounds"],
    rows,
    looks,
  });
}

/** The pictures of a report as files: a name that ends in .svg, and the text. */
export function pictures(report: Report): ReadonlyMap<string, string> {
  const { overAxes, latencies } = drawn(report);
  return new Map([...overAxes, ...latencies.values()].map((chart) => [`${chart.id}.svg`, chartSvg(chart, true)]));
}

// ---- the page

/** The page: one HTML document, self-contained. */
export function reportHtml(report: Report): string {
  const { date, command, machine, rounds, workloads } = report;
  const { overAxes, latencies } = drawn(report);
  const body = [
    tag(
      "header",
      {},
      tag("h1", {}, "Benchmarks of stablelog"),
      tag("p", { class: "facts" }, tag("time", { datetime: date }, readable(date)), ` · ${roundsOf(rounds)}`),
      tag("pre", {}, command),
      machine.length === 0
        ? undefined
        : tag(
            "ul",
            { class: "machine" },
            machine.map((each) => tag("li", {}, each)),
          ),
    ),
    tag(
      "main",
      {},
      summary(workloads),
      overAxes.length === 0 ? undefined : tag("section", {}, tag("h2", {}, "Pictures"), overAxes.map(figureOf)),
      workloads.map((workload, at) => section(workload, at, latencies.get(workload))),
    ),
  ];
  const meta =
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">';
  const title = render(tag("title", {}, `Benchmarks of stablelog, ${readable(date)}`));
  const head = `${meta}${title}<style>${STYLE}${CHART_STYLE}</style>`;
  return `<!doctype html>\n<html lang="en"><head>${head}</head><body>${render(body)}</body></html>\n`;
}

const roundsOf = (rounds: number): string => (rounds === 1 ? "one round" : `medians of ${compact(rounds)} rounds`);

/** `2026-11-25 09:30 UTC`; other dates as they are. */
const readable = (date: string): string =>
  date.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+Z$/, (_, day: string, time: string) => `${day} ${time} UTC`);

const idOf = (at: number): string => `workload-${at + 1}`;

const figureOf = (chart: Chart): Markup => {
  const label = `Picture: ${chart.title}`;
  return tag("figure", { tabindex: 0, role: "group", "aria-label": label }, new Markup(chartSvg(chart, false)));
};

function mark(met: boolean): Markup {
  return tag("span", { class: met ? "met" : "missed" }, met ? "✓ met" : "✗ missed");
}

/** All goals of the report; nothing when it has none. */
function summary(workloads: readonly WorkloadResult[]): Markup | undefined {
  const goals = workloads.flatMap((workload) => workload.goals);
  if (goals.length === 0) return undefined;
  const met = goals.filter(isMet).length;
  const verdict = met === goals.length ? `All ${goals.length} goals met` : `${met} of ${goals.length} goals met`;
  const groups = workloads.map((workload, at) => {
    const link = tag("a", { href: `#${idOf(at)}` }, workload.name);
    const name = tag("th", { scope: "rowgroup", rowspan: workload.goals.length }, link);
    const lines = workload.goals.map((goal, nth) => {
      const text = goalText(goal);
      const figures = [text.wanted, text.measured].map((each) => tag("td", { class: "number" }, each));
      return tag(
        "tr",
        {},
        nth === 0 ? name : undefined,
        tag("td", {}, text.what),
        figures,
        tag("td", {}, mark(text.met)),
      );
    });
    return lines.length === 0 ? undefined : tag("tbody", {}, lines);
  });
  return tag(
    "section",
    {},
    tag("h2", { id: "goals" }, verdict),
    scrolled(
      "All goals",
      tag(
        "table",
        { class: "goals" },
        tag("caption", {}, "Ratios are medians over rounds of ratios within a round"),
        tag("thead", {}, headings(["workload", "goal"], ["wanted", "measured"], ["outcome"])),
        groups,
      ),
    ),
  );
}

function headings(before: readonly string[], numbers: readonly string[], after: readonly string[] = []): Markup {
  const words = (all: readonly string[], look?: string): Markup[] =>
    all.map((each) => tag("th", { scope: "col", class: look }, each));
  return tag("tr", {}, words(before), words(numbers, "number"), words(after));
}

/** Wide tables scroll by themselves, by keyboard too. */
function scrolled(label: string, inside: Markup): Markup {
  return tag("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inside);
}

function section(workload: WorkloadResult, at: number, latency: Chart | undefined): Markup {
  const { name, title, goals } = workload;
  const goalItems = goals.map((goal) => {
    const text = goalText(goal);
    return tag(
      "li",
      {},
      mark(text.met),
      ` ${text.what}: wanted ${text.wanted}, measured `,
      tag("b", {}, text.measured),
    );
  });
  return tag(
    "section",
    { id: idOf(at), "aria-labelledby": `${idOf(at)}-name` },
    tag("h2", { id: `${idOf(at)}-name` }, name),
    tag("p", {}, title),
    scrolled(`Figures of ${name}`, tableHtml(workload)),
    goalItems.length === 0 ? undefined : tag("ul", { class: "goallist" }, goalItems),
    latency === undefined ? undefined : figureOf(latency),
  );
}

function tableHtml(workload: WorkloadResult): Markup {
  const { headings: names, lines } = tableOf(workload);
  const rows = lines.map(({ row, cells }) => {
    const syncs = row.syncs === "" ? undefined : tag("small", {}, row.syncs);
    const name = tag("th", { scope: "row" }, row.row, syncs);
    if (cells.length === 0) {
      return tag("tr", { class: "leftout" }, name, tag("td", { colspan: names.length }, leftOut(row)));
    }
    const look = /^stablelog\b/.test(row.row) ? "ours" : undefined;
    return tag(
      "tr",
      { class: look },
      name,
      cells.map((cell) => tag("td", { class: "number" }, cell)),
    );
  });
  return tag(
    "table",
    {},
    tag("caption", {}, `Medians over rounds; lowest and highest are ratios to ${workload.base} within a round`),
    tag(
      "thead",
      {},
      headings(
        ["row, and what it syncs"],
        names.map((each) => each.replace(/\bus\b/, "µs")),
      ),
    ),
    tag("tbody", {}, rows),
  );
}

const variables = ({ ink, paper, muted, rule, ours }: Theme): string =>
  `--ink:${ink};--paper:${paper};--muted:${muted};--rule:${rule};--ours:${ours}`;

const STYLE = `:root{color-scheme:light dark;${variables(LIGHT)};--good:#00704f;--bad:#b33a00;--tint:#0068b00d;--quiet:#f5f7f9}
@media screen and (prefers-color-scheme:dark){:root{${variables(DARK)};--good:#2fc795;--bad:#ff8a4c;--tint:#5ab0f014;--quiet:#1b1f26}}
body{margin:0 auto;padding:28px 24px 60px;max-width:1000px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;print-color-adjust:exact;-webkit-print-color-adjust:exact}
h1{font-size:26px;line-height:1.2;margin:0}h2{font-size:20px;line-height:1.3;margin:44px 0 8px}p{margin:6px 0 12px;max-width:85ch;text-wrap:pretty}
.facts{color:var(--muted);margin:4px 0 14px}
pre{margin:0 0 14px;padding:10px 14px;border-radius:6px;background:var(--quiet);font:13px/1.4 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.machine{margin:0;padding:0;list-style:none;color:var(--muted);font-size:13.5px}.machine li{overflow-wrap:anywhere}
a{color:var(--ours)}
.scroll,figure{overflow-x:auto}.scroll:focus-visible,figure:focus-visible{outline:2px solid var(--ours);outline-offset:3px}
figure{margin:18px 0 26px;border:1px solid var(--rule);border-radius:8px}
figure svg{display:block;width:100%;min-width:640px;height:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;line-height:1.35}
caption{caption-side:bottom;text-align:left;color:var(--muted);font-size:12.5px;padding-top:8px}
th,td{padding:5px 0 5px 16px;text-align:left;vertical-align:top;border-top:1px solid var(--rule)}
th:first-child,td:first-child{padding-left:8px}th:last-child,td:last-child{padding-right:8px}
thead th,thead td{border-top:0;color:var(--muted);font-weight:500;vertical-align:bottom}
tbody th{font-weight:500;min-width:11em}.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
small{display:block;color:var(--muted);font-size:12px;font-weight:400}
.ours{background:var(--tint)}.ours th{color:var(--ours);font-weight:600}.ours td{font-weight:500}.leftout td{color:var(--muted);font-style:italic}
.goals tr:not(:first-child)>td{border-top-color:transparent}.goals tbody td:first-child{padding-left:16px}.goals tbody th{font-weight:500;min-width:0;white-space:nowrap}
.met,.missed{white-space:nowrap;font-weight:600}.met{color:var(--good)}.missed{color:var(--bad)}
.goallist{margin:12px 0;padding:0;list-style:none;font-size:14px}
@page{margin:12mm}
@media print{body{padding:0;max-width:none;font-size:11pt}.scroll,figure{overflow:visible}figure,tr,.goallist li{break-inside:avoid}
h2,thead{break-after:avoid}figure svg{min-width:0}table{font-size:8.5pt}small,caption{font-size:7.5pt}th,td,.goals tbody td:first-child{padding-left:8px}a{color:inherit;text-decoration:none}}
`;
