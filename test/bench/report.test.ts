// The report of a benchmark run: figures are what the samples say, by hand-computed numbers; pages and pictures are well-formed
// and self-contained whatever a row is called and whatever it measured; labels can be read. The report that is drawn here
// has the shape and about the figures of a real one.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compact, DARK, inBytes, inThousands, inTime, LIGHT, looksOf, spread } from "../../bench/chart.js";
import { pictures, reportHtml } from "../../bench/report.js";
import type { GoalResult, Latency, Report, RowResult, Sample, WorkloadResult } from "../../bench/result.js";
import { figure, goalLines, inWords, markdownTable, textTable } from "../../bench/tables.js";

// ---- a report as `npm run bench` makes it

const ROUNDS = 5;
/** What a slow or a quick minute of the machine does to a round. */
const WEATHER = [1, 0.93, 1.04, 0.88, 1.06];

interface Figures {
  readonly perSecond: number;
  readonly p50?: number;
  readonly p99?: number;
  readonly more?: Readonly<Record<string, number>>;
}

function rowOf(row: string, syncs: string, { perSecond, p50, p99, more }: Figures): RowResult {
  const samples = WEATHER.map((weather, round): Sample => {
    // A row's own luck, so that ratios within a round differ.
    const luck = weather * (1 + (((row.length * 7 + round * 3) % 5) - 2) / 50);
    const latency =
      p50 === undefined || p99 === undefined
        ? undefined
        : { p50: p50 / luck, p99: p99 / luck, p999: (p99 * 2.4) / luck, max: (p99 * 11) / luck };
    return { perSecond: perSecond * luck, latency, more };
  });
  return { row, syncs, samples };
}

const FLOOR = "one write, one fdatasync, over a zero-filled file";
const QUEUE = "one write and one fdatasync for all that waits";

function saversOf(savers: number): WorkloadResult {
  const alone = savers === 1;
  const at = (...figures: readonly [number, number, number, number]): number =>
    figures[[1, 8, 64, 256].indexOf(savers)] as number;
  const waits = (perSecond: number): Figures => ({
    perSecond,
    p50: (savers / perSecond) * 0.85e6,
    p99: (savers / perSecond) * 2.7e6,
    more: {
      cpuUsPerSave: 900_000 / perSecond,
      writesPerSave: alone ? 1 : 1.1 / savers,
      syncsPerSave: alone ? 1 : 1 / savers,
    },
  });
  const slow = (perSecond: number): Figures => {
    const { more: _, ...rest } = waits(perSecond);
    return rest;
  };
  const rows = [
    rowOf("floor", FLOOR, { perSecond: 6919, p50: 128, p99: 381 }),
    ...(alone ? [] : [rowOf("perfect group", FLOOR, slow(at(0, 51_000, 238_000, 480_000)))]),
    rowOf(
      "stablelog",
      "one write and one fdatasync for all saves of a turn",
      waits(at(6055, 41_000, 175_719, 262_000)),
    ),
    rowOf("stablelog inline", "the same, on the event loop's own thread", waits(at(6072, 40_100, 171_000, 258_000))),
    rowOf("stablelog worker", "the same, on a thread of its own", waits(at(4875, 33_000, 169_300, 261_000))),
    rowOf(
      "etcd",
      alone ? "a wal.Save and an fdatasync a save" : "one for all that waits",
      slow(at(5920, 36_500, 165_000, 231_000)),
    ),
    ...(alone
      ? []
      : [rowOf("etcd, an entry a Save", "a wal.Save and an fdatasync a save", slow(at(0, 6010, 6105, 6000)))]),
    rowOf("append", "one append, one fdatasync", slow(at(3110, 3150, 3140, 3120))),
    ...(alone ? [] : [rowOf("append + queue", QUEUE, slow(at(0, 21_000, 104_000, 127_000)))]),
    rowOf("sqlite", "a transaction a save, synchronous=FULL", slow(at(3480, 3420, 3390, 3380))),
    ...(alone
      ? []
      : [rowOf("sqlite + queue", "a transaction for all that waits", slow(at(0, 20_400, 92_000, 118_000)))]),
    rowOf("lmdb", "a transaction, committed with a sync", slow(at(2710, 15_200, 63_000, 89_000))),
    {
      row: "classic-level",
      syncs: "",
      samples: [],
      skipped: "Cannot find package 'classic-level' imported from bench/.out/rows/index.js",
    },
  ];
  const goals: Readonly<Record<number, readonly GoalResult[]>> = {
    1: [
      { what: "x the floor's saves/s", wanted: 0.95, measured: 0.8751, sense: "atLeast" },
      { what: "x the floor's p99", wanted: 1.15, measured: 1.1523, sense: "atMost" },
      { what: "x etcd's saves/s", wanted: 1, measured: 1.023, sense: "atLeast" },
    ],
    64: [
      { what: "of a perfect group commit", wanted: 0.7, measured: 0.738, sense: "atLeast" },
      { what: "x the lone floor", wanted: 45, measured: 26.2, sense: "atLeast" },
      { what: "x sqlite behind a queue", wanted: 1.8, measured: 1.91, sense: "atLeast" },
    ],
  };
  return {
    name: `savers-${savers}`,
    title: alone
      ? "A lone saver, one entry of 256 B and a HardState a save, each waiting for the one before; saves a second."
      : `${savers} savers at a time, each waiting for its save of one entry of 256 B and a HardState; saves a second.`,
    unit: "saves",
    base: "floor",
    x: { axis: "savers", value: savers },
    rows,
    goals: goals[savers] ?? [],
  };
}

function sizeOf(name: string, bytes: number, figures: readonly [number, number, number, number]): WorkloadResult {
  const row = (what: string, syncs: string, mb: number): RowResult =>
    rowOf(what, syncs, { perSecond: mb, p50: (bytes / mb) * 0.9, p99: (bytes / mb) * 2.9 });
  return {
    name: `size-${name}`,
    title: `A lone saver, ${name} a save; MB (10^6 bytes of payload) a second.`,
    unit: "MB",
    base: "floor",
    x: { axis: "bytes a save", value: bytes },
    rows: [
      row("floor", FLOOR, figures[0]),
      row("stablelog", "one write and one fdatasync for all saves of a turn", figures[1]),
      row("etcd", "a wal.Save and an fdatasync a save", figures[2]),
      row("sqlite", "a transaction a save, synchronous=FULL", figures[3]),
    ],
    goals: [],
  };
}

function openOf(millions: number): WorkloadResult {
  const open = (row: string, ms: number, rssMiB: number): RowResult =>
    rowOf(row, row === "etcd" ? "wal.Open and ReadAll" : "FileStorage.open() of a log that was closed", {
      perSecond: 1000 / ms,
      more: { openMs: ms, rssMiB },
    });
  return {
    name: `open-${millions}m`,
    title: `Opening a log of ${millions} million entries of 128 B after a clean close; opens a second.`,
    unit: "opens",
    base: "stablelog",
    x: { axis: "entries in the log", value: millions * 1e6 },
    rows: [
      open("stablelog", 21 + millions * 0.4, 68 + millions * 2),
      ...(millions < 16 ? [open("etcd", millions * 455, 400 * millions)] : []),
    ],
    goals: [],
  };
}

function memoryOf(entries: number): WorkloadResult {
  const held = (row: string, perSecond: number, rssMiB: number): RowResult =>
    rowOf(row, "nothing", { perSecond, more: { rssMiB } });
  return {
    name: `memory-${entries / 1e6}m`,
    title: `${entries / 1e6} million entries of 128 B appended; entries a second.`,
    unit: "entries",
    base: "MemoryStorage",
    x: { axis: "entries", value: entries },
    rows: [held("MemoryStorage", 3e6, 60 + entries / 3600), held("stablelog", 1.6e6, 74 + entries / 5e5)],
    goals: [],
  };
}

function sample(): Report {
  return {
    date: "2026-11-25T09:31:07.120Z",
    command: "npm run bench -- --dir /data --html report.html",
    machine: [
      "stablelog 0.1.0, Node.js v20.20.2, V8 11.3.244.8-node.33",
      "CPU Intel(R) Xeon(R) Processor @ 2.60GHz, 2 of them; 8 GiB of memory",
      "kernel Linux 6.18.5, linux x64",
      "file system ext4, mounted rw,relatime",
      "device vda: write cache write back, no FUA",
      "write of 4 KiB and fdatasync: p50 131 us, p99 402 us, p999 1210 us",
    ],
    rounds: ROUNDS,
    workloads: [
      ...[1, 8, 64, 256].map(saversOf),
      sizeOf("64 B", 64, [0.44, 0.39, 0.38, 0.22]),
      sizeOf("4 KiB", 4096, [26, 23.5, 21, 12]),
      sizeOf("64 KiB", 65_536, [243, 228, 140, 91]),
      sizeOf("1 MiB", 1_048_576, [782, 731, 290, 204]),
      ...[1, 4, 16].map(openOf),
      ...[1e6, 4e6, 8e6].map(memoryOf),
    ],
  };
}

// ---- reading what was written

interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: (Element | string)[];
}

const TOKEN = /<(\/?)([a-z][a-z\d]*)((?: [a-zA-Z][a-zA-Z\d-]*="[^"<]*")*)>|([^<]+)/gy;
const NO_TEXT = /[\0-\x08\x0b-\x1f\x7f]|\p{Surrogate}/u;
const TEXT = /^(?:[^&]|&(?:amp|lt|gt|quot|#39);)*$/;

function plain(text: string): string {
  if (!TEXT.test(text) || NO_TEXT.test(text)) throw new Error(`no text: ${text.slice(0, 80)}`);
  const characters: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };
  return text.replace(/&([^;]+);/g, (_, name: string) => characters[name] as string);
}

/** Reads markup as strictly as XML is read: all is closed in order, all attributes are quoted. Only `meta` stays open. */
function parsed(markup: string): Element {
  const root: Element = { name: "", attributes: {}, children: [] };
  const open = [root];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < markup.length; at = TOKEN.lastIndex) {
    const token = TOKEN.exec(markup);
    if (token === null) throw new Error(`no markup: ${markup.slice(at, at + 80)}`);
    const [, closing, name = "", written = "", text] = token;
    const parent = open.at(-1) as Element;
    if (text !== undefined) {
      parent.children.push(parent.name === "style" ? text : plain(text));
    } else if (closing === "/") {
      if (open.pop()?.name !== name) throw new Error(`closes ${name}: ${markup.slice(at, at + 80)}`);
    } else {
      const attributes: Record<string, string> = {};
      for (const [, key = "", value = ""] of written.matchAll(/ ([a-zA-Z\d-]+)="([^"]*)"/g)) {
        if (key in attributes) throw new Error(`twice ${key}: ${token[0]}`);
        attributes[key] = plain(value);
      }
      const element: Element = { name, attributes, children: [] };
      parent.children.push(element);
      if (name !== "meta") open.push(element);
    }
  }
  if (open.length > 1) throw new Error(`left open: ${open.map(({ name }) => name).join(" ")}`);
  return root;
}

const elements = (within: Element): Element[] =>
  within.children.flatMap((each) => (typeof each === "string" ? [] : [each, ...elements(each)]));

function all(within: Element, name: string, look?: string): Element[] {
  const hasLook = ({ attributes }: Element): boolean => attributes["class"]?.split(" ").includes(look ?? "") === true;
  return elements(within).filter((each) => each.name === name && (look === undefined || hasLook(each)));
}

const textOf = (within: Element): string =>
  within.children.map((each) => (typeof each === "string" ? each : textOf(each))).join("");

const pageOf = (report: Report): Element =>
  parsed(
    reportHtml(report)
      .replace(/^<!doctype html>\n/, "")
      .trimEnd(),
  );

function picturesOf(report: Report): Map<string, Element> {
  return new Map([...pictures(report)].map(([name, svg]) => [name, parsed(svg.trimEnd()).children[0] as Element]));
}

function pictureOf(report: Report, name: string): Element {
  const found = picturesOf(report).get(name);
  if (found === undefined) throw new Error(`there is no picture ${name}`);
  return found;
}

/** Where a mark is. */
function placeOf({ attributes }: Element): [number, number] {
  const [, x, y] = /^translate\((-?[\d.]+) (-?[\d.]+)\)$/.exec(attributes["transform"] ?? "") ?? [];
  return [Number(x), Number(y)];
}

/** The marks of a row's line, left to right, with what they say. */
function marksOf(picture: Element, row: string): { x: number; y: number; says: string }[] {
  const marks = all(picture, "path", "mark").filter((mark) => textOf(mark).startsWith(`${row}, `));
  return marks.map((mark) => ({ x: placeOf(mark)[0], y: placeOf(mark)[1], says: textOf(mark) }));
}

interface Box {
  readonly text: string;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Where labels are; how wide is an estimate. */
function boxesOf(picture: Element): Box[] {
  return all(picture, "text", "label").map((label) => {
    const text = textOf(label);
    const width = [...text].length * 7;
    const [x, y] = [Number(label.attributes["x"]), Number(label.attributes["y"])];
    const left = label.attributes["text-anchor"] === "end" ? x - width : x;
    return { text, left, right: left + width, top: y - 11, bottom: y + 3 };
  });
}

function overlaps(boxes: readonly Box[]): string[] {
  return boxes.flatMap((a, at) =>
    boxes
      .slice(at + 1)
      .filter((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
      .map((b) => `${a.text} and ${b.text}`),
  );
}

const NO_FIGURE = /\bNaN\b|\bInfinity\b|\bundefined\b|\bnull\b|\[object/;

// ---- small reports

const row = (name: string, ...samples: readonly (Sample | number)[]): RowResult => ({
  row: name,
  syncs: "",
  samples: samples.map((each) => (typeof each === "number" ? { perSecond: each } : each)),
});

function workload(rows: readonly RowResult[], more: Partial<WorkloadResult> = {}): WorkloadResult {
  return { name: "w", title: "What is done; saves a second.", unit: "saves", base: "floor", rows, goals: [], ...more };
}

function reportOf(...workloads: readonly WorkloadResult[]): Report {
  return { date: "2026-11-25T09:31:07.120Z", command: "npm run bench", machine: [], rounds: 3, workloads };
}

const timed = (perSecond: number, p50: number, p99: number, p999: number, max: number): Sample => ({
  perSecond,
  latency: { p50, p99, p999, max },
});

/** Workloads on one axis, each with these rows. */
const onAxis = (axis: string, values: readonly number[], rowsAt: (value: number) => readonly RowResult[]): Report =>
  reportOf(...values.map((value) => workload(rowsAt(value), { name: `at-${value}`, x: { axis, value } })));

describe("tables", () => {
  const three = workload([
    row("floor", timed(100, 10, 20, 30, 40), timed(200, 12, 26, 90, 95), timed(50, 11, 22, 31, 41)),
    row("stablelog", timed(150, 9, 21, 33, 60), timed(100, 8, 20, 35, 70), timed(100, 7, 22, 34, 80)),
  ]);

  it("take medians over rounds, and ratios within a round before the median", () => {
    // Ratios 1.5, 0.5, 2; the ratio of the medians would be 1.
    expect(textTable(three).split("\n")).toEqual([
      "w: What is done; saves a second.",
      "           saves/s  p50 us  p99 us  p999 us  x floor  lowest  highest",
      "floor          100    11.0    22.0     31.0     1.00    1.00     1.00",
      "stablelog      100    8.00    21.0     34.0     1.50    0.50     2.00",
    ]);
  });

  it("give one round as it is", () => {
    const table = textTable(workload([row("floor", 6919), row("stablelog", 175_719.4)]));
    expect(table.split("\n").at(-1)).toMatch(/^stablelog +175,719 +25\.4 +25\.4 +25\.4$/);
  });

  it("take the two middle ones of an even number of rounds", () => {
    const table = textTable(workload([row("floor", 100, 100), row("stablelog", 300, 500)]));
    expect(table.split("\n").at(-1)).toMatch(/^stablelog +400 +4\.00 +3\.00 +5\.00$/);
  });

  it("have all further figures, and a dash where a row has none", () => {
    const rows = [
      row("floor", timed(10, 1, 2, 3, 4)),
      row("stablelog", { perSecond: 5, more: { writesPerSave: 0.0312, rssMiB: 1234 } }),
    ];
    const [, head, floor, stablelog] = textTable(workload(rows)).split("\n");
    expect(head).toMatch(/ writes\/save {2}RSS MiB$/);
    expect(floor).toMatch(/ – +–$/);
    expect(stablelog).toMatch(/^stablelog +5\.00 +– +– +– +0\.50 +0\.50 +0\.50 +0\.031 +1,234$/);
  });

  it("leave out the latencies when no row has any", () => {
    expect(textTable(workload([row("floor", 10)]))).not.toContain("p50");
  });

  it("have no ratios when the base row is not there, or was left out", () => {
    const alone = row("stablelog", 10, 20);
    const skipped: RowResult = { row: "floor", syncs: "", samples: [], skipped: "no disk" };
    for (const rows of [[alone], [skipped, alone]]) {
      const text = textTable(workload(rows));
      expect(text).toMatch(/^stablelog +15\.0 +– +– +–$/m);
      expect(text).not.toMatch(NO_FIGURE);
    }
  });

  it("say why a row was left out", () => {
    const skipped: RowResult = { row: "lmdb", syncs: "", samples: [], skipped: "Cannot find\n package 'lmdb'" };
    const results = workload([row("floor", 10), skipped]);
    expect(textTable(results).split("\n").at(-1)).toBe("lmdb   left out: Cannot find package 'lmdb'");
    expect(markdownTable(results).split("\n").at(-1)).toBe("lmdb: left out: Cannot find package 'lmdb'");
    const [cell] = all(pageOf(reportOf(results)), "tr", "leftout").flatMap((line) => all(line, "td"));
    expect(cell?.attributes["colspan"]).toBe("4");
    expect(cell === undefined ? "" : textOf(cell)).toBe("left out: Cannot find\n package 'lmdb'");
  });

  it("keep their columns aligned, and the rows in order", () => {
    for (const each of sample().workloads) {
      const [, head = "", ...lines] = textTable(each).split("\n");
      expect(lines.map((text) => text.split(/ {2,}/)[0])).toEqual(each.rows.map((one) => one.row));
      const ends = (text: string): number[] => [...text.matchAll(/\S(?= {2}|$)/g)].map(({ index }) => index);
      const named = Math.max(...each.rows.map((one) => one.row.length));
      const figures = lines
        .filter((text) => !text.includes("left out"))
        .map((text) => ends(`${" ".repeat(named)}${text.slice(named)}`));
      expect(new Set([ends(head), ...figures].map(String)).size, each.name).toBe(1);
    }
  });

  it("are Markdown that names cannot break", () => {
    const table = markdownTable(workload([row("floor", 1200), row("a|b`c`\n<i>*", 2400)]));
    expect(table.split("\n")).toEqual([
      "|  | saves/s | x floor | lowest | highest |",
      "| --- | ---: | ---: | ---: | ---: |",
      "| floor | 1,200 | 1.00 | 1.00 | 1.00 |",
      "| a\\|b\\`c\\` \\<i\\>\\* | 2,400 | 2.00 | 2.00 | 2.00 |",
    ]);
  });

  it.each([
    [0, "0"],
    [-0, "0"],
    [0.000_01, "1.0e-5"],
    [0.000_52, "0.00052"],
    [0.0312, "0.031"],
    [0.8349, "0.83"],
    [0.999, "1.00"],
    [9.999, "10.0"],
    [26.18, "26.2"],
    [99.97, "100"],
    [6054.6, "6,055"],
    [1_234_567, "1,234,567"],
    [2e15, "2.0e+15"],
    [-12, "-12.0"],
    [Number.NaN, "–"],
    [Number.POSITIVE_INFINITY, "–"],
  ])("write %d as %s", (value, text) => {
    expect(figure(value)).toBe(text);
  });

  it("name figures in words", () => {
    const names = ["group", "openMs", "rssMiB", "cpuUsPerSave", "syncsPerSave", "p50"];
    expect(names.map(inWords)).toEqual(["group", "open ms", "RSS MiB", "CPU us/save", "syncs/save", "p50"]);
  });
});

describe("goals", () => {
  const goal = (sense: GoalResult["sense"], wanted: number, measured: number): string =>
    goalLines(workload([], { goals: [{ what: "x the floor", wanted, measured, sense }] })).join();

  it("are met at the bound and not beyond", () => {
    expect(goal("atLeast", 0.95, 0.95)).toBe("✓ x the floor: wanted at least 0.95, measured 0.95");
    expect(goal("atLeast", 45, 26.18)).toBe("✗ x the floor: wanted at least 45, measured 26.2");
    expect(goal("atMost", 1.15, 1.15)).toBe("✓ x the floor: wanted at most 1.15, measured 1.15");
    expect(goal("atMost", 1.5, 1.62)).toBe("✗ x the floor: wanted at most 1.5, measured 1.62");
    expect(goal("atLeast", 1, Number.NaN)).toBe("✗ x the floor: wanted at least 1, measured –");
  });

  it("have enough digits to show on which side they are", () => {
    expect(goal("atLeast", 0.95, 0.949_96)).toBe("✗ x the floor: wanted at least 0.95, measured 0.94996");
    expect(goal("atMost", 1.15, 1.1523)).toBe("✗ x the floor: wanted at most 1.15, measured 1.152");
    expect(goal("atLeast", 0.951, 0.9512)).toBe("✓ x the floor: wanted at least 0.951, measured 0.9512");
    expect(goal("atLeast", 100_000, 99_999.7)).toBe("✗ x the floor: wanted at least 100,000, measured 99999.7");
  });

  it("are summed up on the page, each with its workload", () => {
    const page = pageOf(sample());
    expect(all(page, "h2").map(textOf)[0]).toBe("3 of 6 goals met");
    const lines = all(page, "table", "goals")
      .flatMap((table) => all(table, "tr"))
      .slice(1);
    expect(lines.map((line) => all(line, "td").map(textOf).slice(-1)[0])).toEqual([
      "✗ missed",
      "✗ missed",
      "✓ met",
      "✓ met",
      "✗ missed",
      "✓ met",
    ]);
    const links = all(page, "a").map((link) => [textOf(link), link.attributes["href"]]);
    expect(links).toEqual([
      ["savers-1", "#workload-1"],
      ["savers-64", "#workload-3"],
    ]);
  });

  it("all met is said so", () => {
    const goals: GoalResult[] = [{ what: "x", wanted: 1, measured: 2, sense: "atLeast" }];
    expect(all(pageOf(reportOf(workload([], { goals }))), "h2").map(textOf)[0]).toBe("All 1 goals met");
  });
});

describe("axes and labels", () => {
  it.each([
    [compact, 175_719, "176k"],
    [compact, 6055, "6,055"],
    [compact, 999_999, "1M"],
    [compact, 92_040, "92k"],
    [compact, 0.5, "0.5"],
    [compact, 100, "100"],
    [compact, 1e18, "1.0e+18"],
    [inThousands, 5000, "5k"],
    [inThousands, 500, "500"],
    [inBytes, 64, "64 B"],
    [inBytes, 65_536, "64 KiB"],
    [inBytes, 1_048_576, "1 MiB"],
    [inBytes, 0, "0 B"],
    [inTime, 128, "128 µs"],
    [inTime, 3033, "3.03 ms"],
    [inTime, 999_999, "1 s"],
    [inTime, 0, "0 µs"],
  ])("%o writes %d as %s", (write, value, text) => {
    expect(write(value)).toBe(text);
  });

  it("labels are moved as little as keeps them apart", () => {
    expect(spread([10, 50, 90], 17, 0, 100)).toEqual([10, 50, 90]);
    expect(spread([50, 50], 10, 0, 100)).toEqual([45, 55]);
    expect(spread([0, 0, 0], 10, 0, 100)).toEqual([0, 10, 20]);
    expect(spread([98, 99, 100], 10, 0, 100)).toEqual([80, 90, 100]);
    expect(spread([], 10, 0, 100)).toEqual([]);
    const places = fc.array(fc.double({ min: 0, max: 340, noNaN: true }), { maxLength: 20 });
    fc.assert(
      fc.property(places, (wanted) => {
        const found = spread(
          [...wanted].sort((a, b) => a - b),
          17,
          0,
          340,
        );
        expect(found).toHaveLength(wanted.length);
        for (const [at, place] of found.entries()) {
          expect(place).toBeGreaterThanOrEqual(-1e-6);
          expect(place).toBeLessThanOrEqual(340 + 1e-6);
          if (at > 0) expect(place - (found[at - 1] as number)).toBeGreaterThanOrEqual(17 - 1e-6);
        }
      }),
    );
  });

  it("labels do not overlap, however close the lines end, and stay on the picture", () => {
    const values = fc.array(
      fc.record({ end: fc.integer({ min: 1, max: 300 }), ends: fc.integer({ min: 0, max: 2 }) }),
      {
        minLength: 1,
        maxLength: 25,
      },
    );
    const check = (report: Report): void => {
      for (const [name, picture] of picturesOf(report)) {
        const boxes = boxesOf(picture);
        expect(overlaps(boxes), name).toEqual([]);
        const height = Number(picture.attributes["height"]);
        for (const { text, left, right, top, bottom } of boxes) {
          expect(left >= 0 && right <= 920 && top >= 0 && bottom <= height, `${text} in ${name}`).toBe(true);
        }
      }
    };
    check(sample());
    fc.assert(
      fc.property(values, (ends) => {
        const columns = [1, 8, 64];
        const rowsAt = (value: number): RowResult[] =>
          ends.flatMap((each, nth) => (columns.indexOf(value) > each.ends ? [] : [row(`peer ${nth}`, each.end)]));
        check(onAxis("savers", columns, rowsAt));
      }),
      { numRuns: 60 },
    );
  });

  it("a name stands beside the chart when the next place is too near for it", () => {
    const rowsAt = (value: number): RowResult[] => [row("floor", 10), ...(value === 10 ? [] : [row("lmdb", value)])];
    const labelled = (values: readonly number[]): number => {
      const picture = pictureOf(onAxis("savers", values, rowsAt), "saves-by-savers.svg");
      const end = marksOf(picture, "floor").at(-1)?.x ?? 0;
      return (boxesOf(picture).find(({ text }) => text.startsWith("lmdb"))?.left ?? 0) - end;
    };
    expect(labelled([1, 2, 10])).toBeLessThan(0);
    expect(labelled([1, 9, 10])).toBeGreaterThan(0);
  });

  it("names that are too long are cut, and told in full by their marks", () => {
    const long = "a peer that is called by a name that no chart has any room for";
    const picture = pictureOf(
      onAxis("savers", [1, 8], (value) => [row(long, value)]),
      "saves-by-savers.svg",
    );
    expect(boxesOf(picture).map(({ text }) => text)).toEqual(["a peer that is called by a name t… 8"]);
    expect(marksOf(picture, long)).toHaveLength(2);
  });
});

describe("pictures", () => {
  it("are those that the report has data for", () => {
    expect([...pictures(sample()).keys()].sort()).toEqual([
      "latency-savers-1.svg",
      "latency-savers-256.svg",
      "latency-savers-64.svg",
      "latency-savers-8.svg",
      "latency-size-1-mib.svg",
      "latency-size-4-kib.svg",
      "latency-size-64-b.svg",
      "latency-size-64-kib.svg",
      "mb-by-bytes-a-save.svg",
      "memory-by-entries-in-the-log.svg",
      "memory-by-entries.svg",
      "open-by-entries-in-the-log.svg",
      "saves-by-savers.svg",
    ]);
    expect(pictures(reportOf()).size).toBe(0);
    expect(pictures(reportOf(workload([row("floor", 10)]))).size).toBe(0);
  });

  it("need two places on their axis", () => {
    const rowsAt = (value: number): RowResult[] => [row("floor", value)];
    expect([...pictures(onAxis("threads", [4], rowsAt)).keys()]).toEqual([]);
    expect([...pictures(onAxis("threads", [4, 4], rowsAt)).keys()]).toEqual([]);
    expect([...pictures(onAxis("threads", [4, 5], rowsAt)).keys()]).toEqual(["saves-by-threads.svg"]);
  });

  it("are one for each unit of an axis, in the order of the report", () => {
    const at = (unit: string, value: number): WorkloadResult =>
      workload([row("floor", value)], { unit, x: { axis: "threads", value } });
    const report = reportOf(at("saves", 1), at("MB", 1), at("saves", 2), at("MB", 2));
    expect([...pictures(report).keys()]).toEqual(["saves-by-threads.svg", "mb-by-threads.svg"]);
  });

  it("have names that are safe as file names, and different ones", () => {
    const names = ["../../etc/passwd", "", "日本", "A b", "a-b", "x".repeat(300)];
    const report = reportOf(...names.map((name) => workload([row("floor", timed(1, 2, 3, 4, 5))], { name })));
    const files = [...pictures(report).keys()];
    expect(files).toHaveLength(names.length);
    for (const file of files) expect(file).toMatch(/^[a-z\d]+(-[a-z\d]+)*\.svg$/);
    expect(files.slice(0, 5)).toEqual([
      "latency-etc-passwd.svg",
      "latency.svg",
      "latency-2.svg",
      "latency-a-b.svg",
      "latency-a-b-2.svg",
    ]);
  });

  it("are files of their own: a style for light and dark, a ground, nothing from elsewhere", () => {
    for (const [name, svg] of pictures(sample())) {
      expect(svg, name).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
      const picture = parsed(svg.trimEnd()).children[0] as Element;
      const [style] = all(picture, "style");
      expect(textOf(style as Element)).toContain("@media screen and (prefers-color-scheme:dark)");
      const [ground] = elements(picture).filter((each) => !["title", "desc", "style"].includes(each.name));
      expect(ground).toMatchObject({
        name: "rect",
        attributes: { class: "paper", width: picture.attributes["width"] },
      });
      const [title, desc] = picture.children as Element[];
      expect([title?.name, desc?.name]).toEqual(["title", "desc"]);
      expect(picture.attributes["aria-labelledby"]).toBe(`${title?.attributes["id"]} ${desc?.attributes["id"]}`);
      expect(svg.replace("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:|url\(|@import|<script|<image|href/);
    }
  });

  it("show medians where they belong: more is higher, and further is to the right", () => {
    const picture = pictureOf(sample(), "saves-by-savers.svg");
    const stablelog = marksOf(picture, "stablelog");
    expect(stablelog.map(({ says }) => /savers (\d+): (\S+) /.exec(says)?.slice(1))).toEqual([
      ["1", "6,162"],
      ["8", "41.7k"],
      ["64", "179k"],
      ["256", "267k"],
    ]);
    for (const [at, mark] of stablelog.entries()) {
      const before = stablelog[at - 1];
      if (before !== undefined) expect(mark.x > before.x && mark.y < before.y).toBe(true);
    }
    // Logarithmic: 1 to 8 is as far as 8 to 64.
    const [one, eight, many] = stablelog.map(({ x }) => x) as [number, number, number];
    expect(eight - one).toBeCloseTo(many - eight, 0);
    expect(marksOf(picture, "floor")).toHaveLength(4);
    expect(marksOf(picture, "perfect group")).toHaveLength(3);
    expect(textOf(all(picture, "desc")[0] as Element)).toContain(
      "stablelog: 6,162 at 1, 41.7k at 8, 179k at 64, 267k at 256.",
    );
  });

  it("draw stablelog last, over the others, and thicker", () => {
    const picture = pictureOf(sample(), "saves-by-savers.svg");
    const tones = all(picture, "g")
      .filter((group) => all(group, "path", "line").length > 0)
      .map((group) => group.attributes["class"]);
    expect(tones).toHaveLength(12);
    expect(tones.slice(-3)).toEqual(["ours", "ours", "ours"]);
    const strong = all(picture, "text", "strong").map(textOf);
    expect(strong.map((text) => text.split(" ")[0])).toEqual(["stablelog", "stablelog", "stablelog"]);
  });

  it("leave a gap where a row was not measured", () => {
    const rowsAt = (value: number): RowResult[] => [row("floor", 10), ...(value === 4 ? [] : [row("lmdb", value)])];
    const lines = all(pictureOf(onAxis("savers", [1, 2, 4, 8], rowsAt), "saves-by-savers.svg"), "path", "line");
    expect(lines.map(({ attributes }) => attributes["d"]?.replace(/[^ML]/g, ""))).toEqual(["MLLL", "MLM"]);
  });

  it("have a place for zero on logarithmic axes, below all else", () => {
    const rowsAt = (value: number): RowResult[] => [row("floor", 100), row("idle", value === 8 ? 20 : 0)];
    const picture = pictureOf(onAxis("savers", [0, 1, 8], rowsAt), "saves-by-savers.svg");
    expect(
      all(picture, "text", "tick")
        .map(textOf)
        .filter((text) => text === "0"),
    ).toHaveLength(2);
    const [none, one, eight] = marksOf(picture, "idle");
    expect(none?.y).toBe(one?.y);
    expect(eight?.y).toBeLessThan((one?.y ?? 0) - 20);
    expect(none?.x).toBeLessThan((one?.x ?? 0) - 20);
    expect(reportHtml(onAxis("savers", [0, 1, 8], rowsAt))).not.toMatch(NO_FIGURE);
  });

  it("do not make much of a few percent: an axis spans a decade", () => {
    const rowsAt = (value: number): RowResult[] => [row("floor", 100), row("stablelog", 100 + value)];
    const picture = pictureOf(onAxis("savers", [1, 2], rowsAt), "saves-by-savers.svg");
    const [floor, stablelog] = ["floor", "stablelog"].map((name) => marksOf(picture, name).at(-1)?.y as number);
    expect(Math.abs((floor as number) - (stablelog as number))).toBeLessThan(5);
  });

  it("show latencies row by row, in order, from p50 to the longest of all rounds", () => {
    const rows = [
      row("floor", timed(1, 10, 20, 30, 40), timed(1, 11, 21, 31, 1000), timed(1, 12, 22, 32, 42)),
      row("no times", 5),
      row("stablelog", timed(1, 100, 200, 300, 400)),
    ];
    const picture = pictureOf(reportOf(workload(rows)), "latency-w.svg");
    expect(boxesOf(picture).map(({ text }) => text)).toEqual(["floor", "stablelog"]);
    const groups = all(picture, "g").filter((group) => all(group, "title").length > 0);
    expect(groups.map((group) => textOf(all(group, "title")[0] as Element))).toEqual([
      "floor: p50 11 µs, p99 21 µs, p999 31 µs, longest of all rounds 1 ms",
      "stablelog: p50 100 µs, p99 200 µs, p999 300 µs, longest of all rounds 400 µs",
    ]);
    const places = groups.map((group) => all(group, "path", "mark").map((mark) => placeOf(mark)[0]));
    for (const [longest = 0, p999 = 0, p99 = 0, p50 = 0] of places)
      expect(p50 < p99 && p99 < p999 && p999 < longest).toBe(true);
  });

  it("show the time to open and memory, not the rate, where that is the point", () => {
    const open = pictureOf(sample(), "open-by-entries-in-the-log.svg");
    expect(marksOf(open, "stablelog").map(({ says }) => /: (\S+ \S+) /.exec(says)?.[1])).toEqual([
      "21.4 ms",
      "22.6 ms",
      "27.4 ms",
    ]);
    // Its line ends early, and its name stands there, not beside the chart.
    const names = boxesOf(open);
    expect(names.find(({ text }) => text.startsWith("etcd"))?.left).toBeLessThan(marksOf(open, "stablelog")[2]?.x ?? 0);
    expect(names.find(({ text }) => text.startsWith("stablelog"))?.left).toBeGreaterThan(
      marksOf(open, "stablelog")[2]?.x ?? 0,
    );
  });
});

describe("looks of rows", () => {
  const names = sample().workloads.flatMap(({ rows }) => rows.map((each) => each.row));

  it("tell every row from every other, without colour", () => {
    const looks = looksOf(names, new Set(["floor", "perfect group"]));
    const shapes = [...looks.values()].map(({ marker, hollow }) => `${marker} ${hollow}`);
    expect(looks.size).toBe(new Set(names).size);
    expect(new Set(shapes).size).toBe(looks.size);
    const dashes = (tone: string): unknown[] =>
      [...looks.values()].filter((look) => look.tone === tone).map(({ dash }) => dash);
    for (const { tone } of looks.values()) expect(new Set(dashes(tone)).size).toBe(dashes(tone).length);
  });

  it("give a family one colour, and stablelog one of its own", () => {
    const tone = (name: string): string | undefined => looksOf(names, new Set(["floor"])).get(name)?.tone;
    expect(tone("stablelog worker")).toBe(tone("stablelog"));
    expect(tone("sqlite + queue")).toBe(tone("sqlite"));
    expect(tone("etcd, an entry a Save")).toBe(tone("etcd"));
    expect(new Set(["stablelog", "floor", "etcd", "append", "sqlite", "lmdb", "classic-level"].map(tone)).size).toBe(7);
    expect(looksOf(["stablelogger"], new Set()).get("stablelogger")?.ours).toBe(false);
  });

  it.each([
    ["light", LIGHT],
    ["dark", DARK],
  ])("are told apart by the colour-blind too: %s", (_, theme) => {
    // Machado, Oliveira, Fernandes (2009), all of a kind of cones gone; colours as linear RGB.
    const sights = [
      [1, 0, 0, 0, 1, 0, 0, 0, 1],
      [0.152, 1.053, -0.205, 0.115, 0.786, 0.099, -0.004, -0.048, 1.052],
      [0.367, 0.861, -0.228, 0.28, 0.673, 0.047, -0.012, 0.043, 0.969],
    ];
    type Triple = [number, number, number];
    const linear = (colour: string): Triple =>
      [1, 3, 5].map((at) => {
        const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      }) as Triple;
    const seen = (m: readonly number[], colour: Triple): Triple =>
      [0, 3, 6].map((at) => {
        const sum = colour.reduce((all, part, nth) => all + part * (m[at + nth] as number), 0);
        return Math.min(1, Math.max(0, sum));
      }) as Triple;
    const lab = ([r, g, b]: Triple): Triple => {
      const root = (part: number): number => (part > 0.008856 ? Math.cbrt(part) : 7.787 * part + 16 / 116);
      const x = root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
      const y = root(0.2126 * r + 0.7152 * g + 0.0722 * b);
      const z = root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
      return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
    };
    const luminance = (colour: string): number => {
      const [r, g, b] = linear(colour);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const colours = [theme.ours, theme.reference, ...theme.tones];
    for (const [at, a] of colours.entries()) {
      const [low = 0, high = 0] = [luminance(a), luminance(theme.paper)].sort((x, y) => x - y);
      expect((high + 0.05) / (low + 0.05), `${a} on ${theme.paper}`).toBeGreaterThan(3);
      for (const b of colours.slice(at + 1)) {
        for (const sight of sights) {
          const [from, to] = [a, b].map((colour) => lab(seen(sight, linear(colour)))) as [Triple, Triple];
          expect(Math.hypot(...from.map((part, nth) => part - (to[nth] as number))), `${a} and ${b}`).toBeGreaterThan(
            15,
          );
        }
      }
    }
  });
});

describe("the page", () => {
  it("is one well-formed document that needs nothing else", () => {
    const html = reportHtml(sample());
    expect(html).toMatch(/^<!doctype html>\n<html lang="en">/);
    expect(html).not.toMatch(NO_FIGURE);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(
      /https?:|url\(|@import|<script|<img|<link| src=/,
    );
    expect(html).toContain("@media print");
    const page = pageOf(sample());
    const ids = elements(page).flatMap(({ attributes }) => attributes["id"] ?? []);
    expect(new Set(ids).size).toBe(ids.length);
    const referred = elements(page).flatMap(({ attributes }) => attributes["aria-labelledby"]?.split(" ") ?? []);
    const linked = all(page, "a").map(({ attributes }) => attributes["href"]?.slice(1) ?? "");
    expect(ids).toEqual(expect.arrayContaining([...referred, ...linked]));
  });

  it("tells the run, then goals, pictures and each workload, in order", () => {
    const page = pageOf(sample());
    const text = textOf(page);
    for (const each of [sample().command, ...sample().machine, "2026-11-25 09:31 UTC", "medians of 5 rounds"]) {
      expect(text).toContain(each);
    }
    const names = sample().workloads.map(({ name }) => name);
    expect(all(page, "h2").map(textOf)).toEqual(["3 of 6 goals met", "Pictures", ...names]);
    expect(all(page, "svg")).toHaveLength(pictures(sample()).size);
    expect(all(page, "style")).toHaveLength(1);
    const tables = all(page, "table").filter(({ attributes }) => attributes["class"] !== "goals");
    expect(tables.map((table) => all(table, "tr").length)).toEqual(
      sample().workloads.map(({ rows }) => rows.length + 1),
    );
    for (const [at, table] of tables.entries()) {
      const rows = all(table, "th").filter(({ attributes }) => attributes["scope"] === "row");
      expect(rows.map((each) => each.children[0])).toEqual(sample().workloads[at]?.rows.map((each) => each.row));
      const columns = all(table, "th").filter(({ attributes }) => attributes["scope"] === "col").length;
      for (const line of all(table, "tr").slice(1)) {
        const cells = all(line, "td").reduce((sum, { attributes }) => sum + Number(attributes["colspan"] ?? 1), 1);
        expect(cells).toBe(columns);
      }
    }
  });

  it("is there for an empty report, without sections that have nothing", () => {
    const page = pageOf(reportOf());
    expect(all(page, "h1").map(textOf)).toEqual(["Benchmarks of stablelog"]);
    expect(all(page, "h2")).toEqual([]);
  });

  it("lets no name become markup", () => {
    const evil = `<script>alert(1)</script>&"'<!--]]>`;
    const latency: Latency = { p50: 1, p99: 2, p999: 3, max: 4 };
    const rows = [
      { row: evil, syncs: evil, samples: [{ perSecond: 1, latency, more: { [evil]: 1 } }] },
      { row: `b${evil}`, syncs: evil, samples: [], skipped: evil },
    ];
    const goals: GoalResult[] = [{ what: evil, wanted: 1, measured: 1, sense: "atLeast" }];
    const workloads = [1, 2].map((value) => {
      return { name: evil, title: evil, unit: evil, base: evil, x: { axis: evil, value }, rows, goals };
    });
    const report: Report = { date: evil, command: evil, machine: [evil], rounds: 1, workloads };
    const page = pageOf(report);
    expect(all(page, "script")).toEqual([]);
    expect(all(page, "time").map(({ attributes }) => attributes["datetime"])).toEqual([evil]);
    expect(all(page, "pre").map(textOf)).toEqual([evil]);
    expect(all(page, "li").map(textOf)[0]).toBe(evil);
    expect(all(page, "small").map(textOf)).toEqual([evil, evil, evil, evil]);
    const files = picturesOf(report);
    expect(files.size).toBe(3);
    for (const picture of files.values()) expect(all(picture, "script")).toEqual([]);
  });

  it("is well-formed and has only figures, whatever the report holds", () => {
    const hostile = [
      "",
      "__proto__",
      "constructor",
      "\ud800x",
      "\0\x1b[31m",
      "]]>",
      "<b>",
      "a\nb",
      "stablelog",
      "floor",
      "\ufffe",
    ];
    const name = fc.oneof(fc.constantFrom(...hostile), fc.string({ unit: "binary", maxLength: 12 }));
    const extremes = [0, -0, -1, 1e308, -1e308, 5e-324, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const number = fc.oneof(fc.constantFrom(...extremes), fc.double(), fc.double({ min: 0.01, max: 1e6, noNaN: true }));
    const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
    const samples = fc.array(
      fc.record({
        perSecond: number,
        latency: optional(fc.record({ p50: number, p99: number, p999: number, max: number })),
        more: optional(fc.dictionary(fc.oneof(name, fc.constantFrom("openMs", "rssMiB")), number, { maxKeys: 3 })),
      }),
      { maxLength: 4 },
    );
    const rows = fc.array(fc.record({ row: name, syncs: name, samples, skipped: optional(name) }), { maxLength: 5 });
    const sense = fc.constantFrom("atLeast" as const, "atMost" as const);
    const axis = fc.oneof(name, fc.constantFrom("savers", "bytes a save", "entries", "entries in the log"));
    const workloads = fc.array(
      fc.record({
        name,
        title: name,
        unit: fc.oneof(name, fc.constantFrom("saves", "MB")),
        base: name,
        x: optional(fc.record({ axis, value: number })),
        rows,
        goals: fc.array(fc.record({ what: name, wanted: number, measured: number, sense }), { maxLength: 2 }),
      }),
      { maxLength: 5 },
    );
    const reports = fc.record({
      date: name,
      command: name,
      machine: fc.array(name, { maxLength: 2 }),
      rounds: fc.nat(9),
      workloads,
    });
    fc.assert(
      fc.property(reports, (report) => {
        pageOf(report);
        const files = [...pictures(report)];
        for (const [file, svg] of files) {
          expect(file).toMatch(/^[a-z\d-]+\.svg$/);
          parsed(svg.trimEnd());
        }
        const texts = report.workloads.flatMap((each) => [textTable(each), markdownTable(each), ...goalLines(each)]);
        for (const text of [reportHtml(report), ...files.map(([, svg]) => svg), ...texts])
          expect(text).not.toMatch(NO_FIGURE);
        for (const each of report.workloads) {
          expect(textTable(each).split("\n")).toHaveLength(each.rows.length + 2);
          for (const line of goalLines(each)) expect(line).not.toContain("\n");
        }
      }),
      { numRuns: 100 },
    );
  });
});
