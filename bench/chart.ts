// Charts as SVG, drawn by hand: lines over two logarithmic axes, and ranges of latencies over one. Used by report.ts, which
// knows what to draw. Markup is only made by tag(), which escapes, so that no name of a row can end up as markup.
//
// A chart is the same in a page and as a file of its own; the file carries its style with it. Colours of rows hold for
// people who see fewer of them, and every row has a marker and a dash of its own besides.

import { figure, shortened } from "./tables.js";

// ---- markup

export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}
export type Child = Markup | string | undefined | readonly Child[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** XML has no way to write control characters, nor halves of a surrogate pair. */
function escaped(text: string): string {
  return text
    .replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]|\p{Surrogate}/gu, "\ufffd")
    .replace(/[&<>"']/g, (each) => ENTITIES[each] as string);
}

export function render(child: Child): string {
  if (child === undefined) return "";
  if (child instanceof Markup) return child.text;
  return typeof child === "string" ? escaped(child) : child.map(render).join("");
}

/** One element; numbers among its attributes are places and get one decimal. */
export function tag(
  name: string,
  attributes: Readonly<Record<string, string | number | undefined>>,
  ...inside: Child[]
): Markup {
  let text = `<${name}`;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    text += ` ${key}="${escaped(String(typeof value === "number" ? Math.round(value * 10) / 10 : value))}"`;
  }
  return new Markup(`${text}>${render(inside)}</${name}>`);
}

const line = (x1: number, y1: number, x2: number, y2: number, look: string): Markup =>
  tag("line", { x1, y1, x2, y2, class: look });
const words = (x: number, y: number, look: string, text: string, anchor?: "end" | "middle"): Markup =>
  tag("text", { x, y, class: look, "text-anchor": anchor }, text);

/** About as wide as text is drawn, rather more than less: fonts differ. */
function widthOf(text: string, size: number, bold = false): number {
  let ems = 0;
  for (const each of text) ems += each > "\u10ff" ? 1 : bold ? 0.66 : 0.59;
  return ems * size;
}

/** Lines that are at most so wide; two of them. */
function wrapped(text: string, size: number, width: number): string[] {
  const most = Math.floor(width / (0.55 * size));
  if (text.length <= most) return [text];
  const at = text.lastIndexOf(" ", most);
  const end = at > most / 2 ? at : most;
  return [text.slice(0, end), shortened(text.slice(end).trimStart(), most)];
}

// ---- how numbers are written on axes and labels

/** `6,055`, `92k`, `1.25M`. */
export function compact(value: number): string {
  const size = Math.abs(value);
  if (size < 10_000 || !(size < 1e15))
    return figure(value)
      .replace(/(\.\d*?)0+$/, "$1")
      .replace(/\.$/, "");
  const power = Math.min(4, Math.floor(Math.log10(Number(size.toPrecision(3))) / 3));
  return `${Number((value / 1000 ** power).toPrecision(3))}${["", "k", "M", "G", "T"][power]}`;
}

/** `500`, `5k`: for ticks, which have one digit that counts. */
export function inThousands(value: number): string {
  return value >= 1000 && value < 10_000 ? `${compact(value / 1000)}k` : compact(value);
}

/** `64 B`, `4 KiB`. */
export function inBytes(value: number): string {
  const power = value >= 1024 ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0;
  return `${compact(value / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** Microseconds as `128 µs`, `3.03 ms`, `2 s`. */
export function inTime(us: number): string {
  const size = Number(us.toPrecision(3));
  if (size >= 1e6) return `${compact(us / 1e6)} s`;
  return size >= 1000 ? `${compact(us / 1000)} ms` : `${compact(us)} µs`;
}

// ---- how rows look

export interface Look {
  /** Class of its colour. */
  readonly tone: string;
  /** Drawn thicker, and on top: what the report is about. */
  readonly ours: boolean;
  readonly marker: string;
  readonly hollow: boolean;
  readonly dash: string | undefined;
}

/** Around 0, of about the same area; ours come first. */
const MARKERS = [
  "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0z",
  "M-4 -4H4V4H-4z",
  "M0 -5.6L5.6 0L0 5.6L-5.6 0z",
  "M0 -5.4L5.4 4H-5.4z",
  "M0 5.4L5.4 -4H-5.4z",
  "M-1.9 -5.2H1.9V-1.9H5.2V1.9H1.9V5.2H-1.9V1.9H-5.2V-1.9H-1.9z",
  "M-5.2 -5H5.2L-5.2 5H5.2z",
  "M0 -5.4L5.2 -1.7L3.2 4.4H-3.2L-5.2 -1.7z",
] as const;
const DASHES = [undefined, "7 3", "2 3", "9 3 2 3", "14 4"] as const;
const REFERENCE_DASHES = ["2 4", "8 4", "8 4 2 4"] as const;
const TONES = 6;

/** `etcd` of `etcd, an entry a Save`. */
const familyOf = (row: string): string => /^[^\s,+(]+/.exec(row)?.[0] ?? row;

/**
 * A look for each row, the same wherever it is drawn. Rows of one family share a colour; `references`, which others are held
 * against, have that of text.
 */
export function looksOf(rows: Iterable<string>, references: ReadonlySet<string>): ReadonlyMap<string, Look> {
  const all = [...new Set(rows)];
  const isOurs = (row: string): boolean => familyOf(row) === "stablelog";
  const toneOf = new Map<string, string>();
  const used = new Map<string, number>();
  const looks = new Map<string, Look>();
  for (const row of [...all.filter(isOurs), ...all.filter((each) => !isOurs(each))]) {
    const ours = isOurs(row);
    const reference = !ours && references.has(row);
    const family = familyOf(row);
    if (!ours && !reference && !toneOf.has(family)) toneOf.set(family, `tone${toneOf.size % TONES}`);
    const tone = ours ? "ours" : reference ? "reference" : (toneOf.get(family) as string);
    const nth = used.get(tone) ?? 0;
    used.set(tone, nth + 1);
    const dashes = reference ? REFERENCE_DASHES : DASHES;
    looks.set(row, {
      tone,
      ours,
      marker: MARKERS[looks.size % MARKERS.length] as string,
      hollow: Math.floor(looks.size / MARKERS.length) % 2 === 1,
      dash: dashes[nth % dashes.length],
    });
  }
  return looks;
}

const PLAIN: Look = { tone: "reference", ours: false, marker: MARKERS[0], hollow: false, dash: undefined };

function marker({ marker: d, hollow }: Look, x: number, y: number, title?: string): Markup {
  const place = `translate(${Math.round(x * 10) / 10} ${Math.round(y * 10) / 10})`;
  const inside = title === undefined ? [] : [tag("title", {}, title)];
  return tag("path", { d, transform: place, class: hollow ? "mark hollow" : "mark" }, inside);
}

// ---- axes

interface Tick {
  readonly at: number;
  /** Empty for a line between two that have one. */
  readonly label: string;
}

interface AxisOptions {
  /** Where it begins and ends, in pixels. */
  readonly from: number;
  readonly to: number;
  /** Labels are at least so far apart. */
  readonly gap: number;
  readonly format: (value: number) => string;
  /** Has ticks at the values themselves, and ends at them. */
  readonly exact?: boolean;
}

/** 1, 2, 5 of a decade. */
const STEPS: readonly number[] = [1, 2, 5];
const NEARLY = 1e-9;
/** What is not above 0 has a place of its own, so far below the lowest other. */
const ZERO_PIXELS = 28;

/** The next power of ten, or 2 or 5 times that, as a logarithm. */
function nice(log: number, up: boolean): number {
  const decade = Math.floor(log);
  const logs = [...STEPS.map((step) => decade + Math.log10(step)), decade + 1];
  const found = up ? logs.find((each) => each >= log - NEARLY) : logs.findLast((each) => each <= log + NEARLY);
  return found ?? decade;
}

/** A logarithmic axis; it spans a decade at least, so that a few percent do not look like much. */
class LogAxis {
  readonly ticks: readonly Tick[];
  readonly #low: number;
  readonly #high: number;
  readonly #options: AxisOptions;
  readonly #start: number;

  constructor(values: readonly number[], options: AxisOptions) {
    const { from, to, exact = false } = options;
    const logs = values.filter((value) => value > 0).map((value) => Math.log10(value));
    const lowest = logs.length === 0 ? 0 : logs.reduce((a, b) => Math.min(a, b));
    const highest = logs.length === 0 ? 1 : logs.reduce((a, b) => Math.max(a, b));
    const middle = (lowest + highest) / 2;
    const narrow = highest - lowest < (exact ? NEARLY : 1);
    const [low, high] = narrow ? [middle - 0.5, middle + 0.5] : [lowest, highest];
    this.#low = exact ? low : nice(low, false);
    this.#high = exact ? high : nice(high, true);
    this.#options = options;
    const below = values.filter((value) => value <= 0);
    this.#start = below.length === 0 ? from : from + Math.sign(to - from) * ZERO_PIXELS;
    const zero = below.length === 0 ? [] : [{ at: from, label: below.some((value) => value < 0) ? "≤ 0" : "0" }];
    this.ticks = [...zero, ...(exact ? this.#exactTicks(values) : this.#niceTicks())];
  }

  /** The pixel of a value. */
  at(value: number): number {
    return value > 0 ? this.#ofLog(Math.log10(value)) : this.#options.from;
  }

  #ofLog(log: number): number {
    return this.#start + ((log - this.#low) / (this.#high - this.#low)) * (this.#options.to - this.#start);
  }

  #niceTicks(): Tick[] {
    const { to, gap, format } = this.#options;
    const decade = Math.abs(to - this.#start) / (this.#high - this.#low);
    const closest = decade * Math.log10(2);
    const stride = Math.ceil(gap / decade);
    const ticks: Tick[] = [];
    for (let power = Math.floor(this.#low); power <= Math.ceil(this.#high); power++) {
      if (power % stride !== 0) continue;
      for (const step of closest < 9 || stride > 1 ? [1] : STEPS) {
        const log = power + Math.log10(step);
        if (log < this.#low - NEARLY || log > this.#high + NEARLY) continue;
        const label = step === 1 || closest >= gap ? format(Number(`${step}e${power}`)) : "";
        ticks.push({ at: this.#ofLog(log), label });
      }
    }
    return ticks;
  }

  #exactTicks(values: readonly number[]): Tick[] {
    const { gap, format } = this.#options;
    const ticks: Tick[] = [];
    let last = Number.NEGATIVE_INFINITY;
    for (const value of [...new Set(values)].filter((each) => each > 0).sort((a, b) => a - b)) {
      const at = this.at(value);
      const fits = Math.abs(at - last) >= gap;
      ticks.push({ at, label: fits ? format(value) : "" });
      if (fits) last = at;
    }
    return ticks;
  }
}

/**
 * Places for labels that want to be at `wanted` (sorted): none nearer than `gap` to the next, all within `low` and `high` if
 * there is room, and together as near as can be to where they want to be.
 */
export function spread(wanted: readonly number[], gap: number, low: number, high: number): number[] {
  // Less the room that the ones above need, the places must not fall: neighbours that would are pooled and share their mean.
  const pools: { sum: number; count: number }[] = [];
  const mean = (pool: { sum: number; count: number }): number => pool.sum / pool.count;
  for (const [at, place] of wanted.entries()) {
    let pool = { sum: place - at * gap, count: 1 };
    for (let before = pools.at(-1); before !== undefined && mean(before) > mean(pool); before = pools.at(-1)) {
      pools.pop();
      pool = { sum: before.sum + pool.sum, count: before.count + pool.count };
    }
    pools.push(pool);
  }
  const last = Math.max(low, high - (wanted.length - 1) * gap);
  const places = pools.flatMap((pool) => Array<number>(pool.count).fill(Math.min(last, Math.max(low, mean(pool)))));
  return places.map((place, at) => place + at * gap);
}

// ---- charts

/** What a chart is, whatever it shows. */
interface About {
  /** For ids and for the file's name. */
  readonly id: string;
  readonly title: string;
  readonly subtitle: string;
}

export interface Chart extends About {
  /** All of it in words. */
  readonly description: string;
  readonly height: number;
  readonly body: readonly Markup[];
}

export interface Point {
  readonly x: number;
  readonly y: number;
  /** Of all rounds. */
  readonly low: number;
  readonly high: number;
}

export interface LineChart extends About {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly xFormat: (value: number) => string;
  readonly yFormat: (value: number) => string;
  /** Of the ticks, if they are written in another way. */
  readonly yTicks?: ((value: number) => string) | undefined;
  /** Finite numbers only. */
  readonly lines: readonly { readonly name: string; readonly points: readonly Point[] }[];
  readonly looks: ReadonlyMap<string, Look>;
}

const WIDTH = 920;
const MARGIN = 20;
const LABEL = 12.5;
const LABEL_GAP = 17;
const MOST_NAME = 34;

function heading(title: string, subtitle: string): { marks: Markup[]; bottom: number } {
  const lines = subtitle === "" ? [] : wrapped(subtitle, 12, WIDTH - 2 * MARGIN);
  const marks = [
    words(MARGIN, 30, "title", shortened(title, 80)),
    ...lines.map((text, at) => words(MARGIN, 50 + at * 16, "muted", text)),
  ];
  return { marks, bottom: 38 + lines.length * 16 };
}

/** A line of a chart with its places worked out. */
interface Placed {
  readonly name: string;
  readonly look: Look;
  readonly points: readonly Point[];
  readonly end: Point;
  readonly value: string;
  readonly labelWidth: number;
}

/** A line a row over two logarithmic axes, named where it ends. */
export function lineChart(chart: LineChart): Chart {
  const { id, title, subtitle, xTitle, yTitle, xFormat, yFormat, looks } = chart;
  const lines: Placed[] = chart.lines.flatMap(({ name, points }) => {
    const sorted = [...points].sort((a, b) => a.x - b.x);
    const end = sorted.at(-1);
    if (end === undefined) return [];
    const look = looks.get(name) ?? PLAIN;
    const value = yFormat(end.y);
    const text = `${shortened(name, MOST_NAME)} ${value}`;
    return [{ name, look, points: sorted, end, value, labelWidth: widthOf(text, LABEL, look.ours) + 20 }];
  });
  const all = lines.flatMap(({ points }) => points);
  const columns = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);

  const head = heading(title, subtitle);
  const top = head.bottom + 36;
  const bottom = top + Math.max(340, lines.length * LABEL_GAP);
  const y = new LogAxis(
    all.flatMap((point) => [point.y, point.low, point.high]),
    { from: bottom, to: top, gap: 22, format: chart.yTicks ?? yFormat },
  );
  const left = MARGIN + Math.max(24, ...y.ticks.map(({ label }) => widthOf(label, 11.5))) + 8;
  const labelsAt = WIDTH - MARGIN - Math.max(40, ...lines.map(({ labelWidth }) => labelWidth));
  const right = labelsAt - 30;
  const gap = 12 + Math.max(0, ...columns.map((value) => widthOf(xFormat(value), 11.5)));
  const x = new LogAxis(columns, { from: left + 14, to: right - 14, gap, format: xFormat, exact: true });

  const marks = [
    ...head.marks,
    words(left, top - 14, "muted", yTitle),
    ...y.ticks.map(({ at, label }) => line(left, at, right, at, label === "" ? "rule minor" : "rule")),
    ...y.ticks.flatMap(({ at, label }) => (label === "" ? [] : [words(left - 8, at + 4, "tick", label, "end")])),
    line(left, bottom, right, bottom, "axis"),
    ...x.ticks.map(({ at }) => line(at, bottom, at, bottom + 5, "axis")),
    ...x.ticks.flatMap(({ at, label }) => (label === "" ? [] : [words(at, bottom + 20, "tick", label, "middle")])),
    words((left + right) / 2, bottom + 40, "muted", xTitle, "middle"),
  ];
  // Ours last, the first of them on top of all.
  const order = [...lines].sort((a, b) => Number(a.look.ours) - Number(b.look.ours));
  const ours = order.filter(({ look }) => look.ours).reverse();
  for (const each of [...order.filter(({ look }) => !look.ours), ...ours]) {
    marks.push(drawnLine(each, columns, x, y, chart));
  }
  marks.push(...labels(lines, columns, { x, y, top, bottom, labelsAt }));
  const told = lines.map(({ name, points }) => {
    return `${name}: ${points.map((point) => `${yFormat(point.y)} at ${xFormat(point.x)}`).join(", ")}.`;
  });
  const description = `${yTitle} by ${xTitle}. ${told.join(" ")}`;
  return { id, title, subtitle, description, height: bottom + 56, body: marks };
}

function drawnLine(
  { name, look, points }: Placed,
  columns: readonly number[],
  x: LogAxis,
  y: LogAxis,
  { xFormat, yFormat, xTitle, yTitle }: LineChart,
): Markup {
  let d = "";
  let before = -2;
  for (const point of points) {
    const column = columns.indexOf(point.x);
    // Where a row was not measured its line has a gap.
    d += `${column - before > 1 ? "M" : "L"}${x.at(point.x).toFixed(1)} ${y.at(point.y).toFixed(1)}`;
    before = column;
  }
  const bars = points
    .filter(({ low, high }) => low < high)
    .map(({ x: column, low, high }) => line(x.at(column), y.at(low), x.at(column), y.at(high), "bar"));
  const dots = points.map((point) => {
    const range = point.low < point.high ? `, ${figure(point.low)} to ${figure(point.high)}` : "";
    const text = `${name}, ${xTitle} ${xFormat(point.x)}: ${yFormat(point.y)} (${yTitle}${range})`;
    return marker(look, x.at(point.x), y.at(point.y), text);
  });
  const path = tag("path", { d, class: "line", "stroke-dasharray": look.dash });
  return tag("g", { class: look.tone }, bars, path, dots);
}

interface LabelRoom {
  readonly x: LogAxis;
  readonly y: LogAxis;
  readonly top: number;
  readonly bottom: number;
  /** The column beside the chart. */
  readonly labelsAt: number;
}

/** Names at the ends of lines: beside the chart, or within it where a line ends early and there is room. */
function labels(
  lines: readonly Placed[],
  columns: readonly number[],
  { x, y, top, bottom, labelsAt }: LabelRoom,
): Markup[] {
  const groups = new Map<number, Placed[]>();
  for (const each of lines) {
    const next = columns[columns.indexOf(each.end.x) + 1];
    const at = x.at(each.end.x) + 14;
    const place = next !== undefined && at + each.labelWidth < x.at(next) - 8 ? at : labelsAt;
    groups.set(place, [...(groups.get(place) ?? []), each]);
  }
  return [...groups].flatMap(([at, group]) => {
    const sorted = [...group].sort((a, b) => y.at(a.end.y) - y.at(b.end.y));
    const places = spread(
      sorted.map(({ end }) => y.at(end.y)),
      LABEL_GAP,
      top,
      bottom,
    );
    return sorted.map(({ name, look, end, value }, nth) => {
      const place = places[nth] as number;
      const endAt = y.at(end.y);
      const text = (left: number): Markup =>
        tag(
          "text",
          { x: left, y: place + 4.5, class: look.ours ? "label strong" : "label" },
          shortened(name, MOST_NAME),
          tag("tspan", { class: "value" }, ` ${value}`),
        );
      // Right behind the last mark no second one is needed.
      if (at !== labelsAt && Math.abs(place - endAt) < 1) return text(at - 2);
      const leader = `M${(x.at(end.x) + 7).toFixed(1)} ${endAt.toFixed(1)}L${(at - 4).toFixed(1)} ${place.toFixed(1)}`;
      const pointer = tag("path", { d: leader, class: "leader" });
      return tag("g", { class: look.tone }, pointer, marker(look, at + 3, place), text(at + 12));
    });
  });
}

export interface RangeChart extends About {
  readonly xTitle: string;
  readonly format: (value: number) => string;
  /** What the values of a row are, lowest first; as many as RANGE_MARKERS has. */
  readonly names: readonly string[];
  /** Finite numbers only. */
  readonly rows: readonly { readonly name: string; readonly values: readonly number[] }[];
  readonly looks: ReadonlyMap<string, Look>;
}

const ROW = 24;
const RANGE_MARKERS: readonly string[] = [MARKERS[0], MARKERS[2], MARKERS[3], "M-1 -6H1V6H-1z"];

/** A row a line, from its lowest value to its highest, over one logarithmic axis. */
export function rangeChart({ id, title, subtitle, xTitle, format, names, rows, looks }: RangeChart): Chart {
  const head = heading(title, subtitle);
  const lookOf = (name: string): Look => looks.get(name) ?? PLAIN;
  const shape = (nth: number): Look => ({ ...PLAIN, marker: RANGE_MARKERS[nth % RANGE_MARKERS.length] as string });
  const nameWidth = ({ name }: { name: string }): number =>
    widthOf(shortened(name, MOST_NAME), LABEL, lookOf(name).ours);
  const left = MARGIN + Math.max(60, ...rows.map(nameWidth)) + 12;
  const right = WIDTH - MARGIN - 16;
  const top = head.bottom + 44;
  const bottom = top + Math.max(1, rows.length) * ROW;
  const axis = new LogAxis(
    rows.flatMap(({ values }) => values),
    { from: left, to: right, gap: 56, format },
  );
  let legendAt = left;
  const legend = names.map((name, nth) => {
    const item = tag("g", { class: "reference" }, marker(shape(nth), legendAt + 6, top - 22));
    const text = words(legendAt + 16, top - 18, "tick", name);
    legendAt += widthOf(name, 11.5) + 42;
    return [item, text];
  });
  const marks: Markup[] = [
    ...head.marks,
    ...legend.flat(),
    ...axis.ticks.map(({ at, label }) => line(at, top, at, bottom, label === "" ? "rule minor" : "rule")),
    ...axis.ticks.flatMap(({ at, label }) => (label === "" ? [] : [words(at, bottom + 20, "tick", label, "middle")])),
    line(left, bottom, right, bottom, "axis"),
    words((left + right) / 2, bottom + 40, "muted", xTitle, "middle"),
  ];
  for (const [nth, { name, values }] of rows.entries()) {
    const { ours } = lookOf(name);
    const y = top + (nth + 0.5) * ROW;
    const text = `${name}: ${values.map((value, at) => `${names[at]} ${format(value)}`).join(", ")}`;
    const stretches = values.slice(1).map((value, at) => {
      return line(axis.at(values[at] as number), y, axis.at(value), y, `stretch${at}`);
    });
    const dots = values.map((value, at) => marker(shape(at), axis.at(value), y)).reverse();
    marks.push(
      words(left - 12, y + 4.5, ours ? "label strong" : "label", shortened(name, MOST_NAME), "end"),
      tag("g", { class: ours ? "ours" : "other" }, tag("title", {}, text), stretches, dots),
    );
  }
  const told = rows.map(({ name, values }) => {
    return `${name}: ${values.map((value, at) => `${names[at]} ${format(value)}`).join(", ")}.`;
  });
  return { id, title, subtitle, description: told.join(" "), height: bottom + 56, body: marks };
}

// ---- colours

export interface Theme {
  readonly ink: string;
  readonly paper: string;
  readonly muted: string;
  readonly rule: string;
  readonly ours: string;
  readonly reference: string;
  readonly other: string;
  readonly tones: readonly string[];
}

export const LIGHT: Theme = {
  ink: "#1b1f24",
  paper: "#ffffff",
  muted: "#5c6670",
  rule: "#e1e5ea",
  ours: "#0068b0",
  reference: "#3d4650",
  other: "#7b8590",
  tones: ["#a83400", "#008a5e", "#bb5a92", "#b08a10", "#2299cc", "#5a2a10"],
};

export const DARK: Theme = {
  ink: "#e8eaed",
  paper: "#14171c",
  muted: "#9aa3ad",
  rule: "#2c323a",
  ours: "#5ab0f0",
  reference: "#c3cad2",
  other: "#87919c",
  tones: ["#f07a3c", "#2fd79f", "#e0559f", "#ffc83d", "#3fa3b5", "#b98a6a"],
};

// Written out for both, not as variables: a file on its own may be shown by something less than a browser.
const coloursOf = ({ ink, paper, muted, rule, ours, reference, other, tones }: Theme): string =>
  `.chart text{fill:${ink}}.chart .muted,.chart .tick,.chart .value{fill:${muted}}.chart .paper{fill:${paper}}
.chart .label{stroke:${paper}}.chart .mark{stroke:${paper}}.chart .hollow{fill:${paper}}
.chart .rule{stroke:${rule}}.chart .axis{stroke:${muted}}
.chart .ours{color:${ours}}.chart .reference{color:${reference}}.chart .other{color:${other}}
${tones.map((tone, at) => `.chart .tone${at}{color:${tone}}`).join("")}`;

export const CHART_STYLE = `.chart{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
.chart .title{font-size:16px;font-weight:600}.chart .tick{font-size:11.5px;font-variant-numeric:tabular-nums}
.chart .label{font-size:${LABEL}px;stroke-width:3px;stroke-linejoin:round;paint-order:stroke}.chart .strong{font-weight:600}
.chart .value{font-weight:400}
.chart .rule{stroke-width:1}.chart .minor{opacity:.5}.chart .axis{stroke-width:1}
.chart .line{fill:none;stroke:currentColor;stroke-width:1.7;stroke-linejoin:round}.chart .ours .line{stroke-width:2.2}.chart .ours .line:not([stroke-dasharray]){stroke-width:3}
.chart .mark{fill:currentColor;stroke-width:1}.chart .mark.hollow{stroke:currentColor;stroke-width:1.6}
.chart .bar{stroke:currentColor;stroke-width:7;opacity:.22}.chart .leader{fill:none;stroke:currentColor;opacity:.45}
.chart .stretch0{stroke:currentColor;stroke-width:6;opacity:.45}.chart .stretch1{stroke:currentColor;stroke-width:2.5;opacity:.6}
.chart .stretch2{stroke:currentColor;stroke-width:1;opacity:.7}
${coloursOf(LIGHT)}
@media screen and (prefers-color-scheme:dark){${coloursOf(DARK)}}`;

/** The chart as an element of a page that has CHART_STYLE, or with `standalone` as a file of its own. */
export function chartSvg({ id, title, description, height, body }: Chart, standalone: boolean): string {
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    class: "chart",
    width: WIDTH,
    height,
    viewBox: `0 0 ${WIDTH} ${Math.ceil(height)}`,
    role: "img",
    "aria-labelledby": `${id}-title ${id}-desc`,
  };
  const style = standalone ? [new Markup(`<style>${CHART_STYLE}</style>`)] : [];
  const about = [tag("title", { id: `${id}-title` }, title), tag("desc", { id: `${id}-desc` }, description)];
  const paper = tag("rect", { class: "paper", width: WIDTH, height });
  return `${render(tag("svg", attributes, about, style, paper, body))}${standalone ? "\n" : ""}`;
}
