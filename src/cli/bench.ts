// `stablelog bench DIR`: what a disk gives, and what stablelog makes of it. Times a write and its fdatasync with nothing of a
// log around it, then saves with each engine, in turns, on files of its own below DIR, which it removes again; and says which
// engine `sync: "auto"` would choose there, and why. Nothing that stands in DIR is touched.

import { closeSync, fdatasyncSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import fse from "fs-extra";
import { nowMs } from "../base/clock.js";
import { EntryType } from "../raftpb/types.js";
import { FileStorage, type StorageStats } from "../storage/file-storage.js";
import { type Command, EXIT, integerOption, parseCommand, requiredDirectory } from "./command.js";
import { count, duration, ProgressBar, pairs, print, table, toJson } from "./terminal.js";

export const bench: Command = {
  summary: "measure writes and syncs of a disk, and saves on it",
  usage: [
    "Usage: stablelog bench DIR [--seconds N] [--json]",
    "",
    "Measures the disk of DIR: a write and its fdatasync alone, then a log with each engine and 1, 8, 64 and 256 savers at",
    'a time. Ends with what sync: "auto" would choose there, and why. Works on files of its own below DIR and removes them.',
    "",
    "  --seconds N  how long it takes in all, about; 10 if not given",
    "  --json       one JSON object on stdout",
    "",
    "Run it with nothing else running. Exit code 0 when it was measured.",
  ].join("\n"),
  run,
};

const PAYLOAD_BYTES = 256;
const FLOOR_BYTES = 512;
const FLOOR_FILE_BYTES = 16 * 1024 * 1024;
const SAVERS = [1, 8, 64, 256] as const;
const ENGINES = ["inline", "worker"] as const;
const ROUNDS = 3;
/** A sync that is over sooner has asked no disk: even one with a battery behind its cache is some way off. */
const NO_DISK_MS = 0.015;
/** A gain below this is noise. */
const MATTERS = 1.1;

type Engine = (typeof ENGINES)[number];

interface Measured {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

interface SaveFigures extends Measured {
  readonly engine: Engine;
  readonly savers: number;
  /** Saves that shared a sync. */
  readonly group: number;
}

interface Report {
  readonly dir: string;
  /** One write of 512 bytes over a zero-filled file, and its fdatasync. */
  readonly floor: Measured;
  readonly saves: readonly SaveFigures[];
  readonly choice: { readonly engine: StorageStats["engine"] } & StorageStats["choice"];
  readonly advice: readonly string[];
}

async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseCommand(args, { seconds: { type: "string" }, json: { type: "boolean" } }, 1);
  const dir = requiredDirectory(positionals);
  const seconds = integerOption("seconds", values.seconds, 1, 3600) ?? 10;
  const home = await fse.mkdtemp(join(dir, "stablelog-bench-"));
  let report: Report;
  try {
    report = await measure(dir, home, seconds, values.json === true);
  } finally {
    await fse.remove(home);
  }
  if (values.json === true) await print(toJson(report, 2));
  else await show(report);
  return EXIT.ok;
}

async function measure(dir: string, home: string, seconds: number, json: boolean): Promise<Report> {
  const turns = ROUNDS * (1 + ENGINES.length * SAVERS.length);
  const ms = (seconds * 1000) / turns;
  const bar = new ProgressBar(turns);
  let done = 0;
  const step = (note: string): void => {
    if (!json) bar.draw(done, note);
    done++;
  };
  const floors: Measured[] = [];
  const saves = new Map<string, SaveFigures[]>();
  // In turns, so that a slow minute of the machine is nobody's fault.
  for (let round = 0; round < ROUNDS; round++) {
    step("write and fdatasync");
    floors.push(floorOf(join(home, "floor"), ms));
    for (const engine of ENGINES) {
      for (const savers of SAVERS) {
        const name = `${engine}, ${savers}`;
        step(`${name} at a time`);
        const figures = await savesOf(join(home, "log"), engine, savers, ms);
        saves.set(name, [...(saves.get(name) ?? []), figures]);
        await fse.remove(join(home, "log"));
      }
    }
  }
  bar.clear();
  const auto = await FileStorage.open(join(home, "log"));
  const { engine, choice } = auto.stats();
  await auto.close();
  const floor = middle(floors);
  const figures = [...saves.values()].map(middle);
  const report = { dir, floor, saves: figures, choice: { engine, ...choice } };
  return { ...report, advice: adviceOf(report) };
}

/** The one whose rate is the median. */
function middle<M extends Measured>(rounds: readonly M[]): M {
  const sorted = [...rounds].sort((a, b) => a.perSecond - b.perSecond);
  return sorted[Math.floor(sorted.length / 2)] as M;
}

function measured(histogram: RecordableHistogram, ms: number): Measured {
  const at = (percentile: number): number => histogram.percentile(percentile) / 1e6;
  return { perSecond: (histogram.count * 1000) / ms, p50Ms: at(50), p99Ms: at(99), p999Ms: at(99.9) };
}

/** Nanoseconds; a histogram takes integers from 1. */
function elapsed(started: number): number {
  return Math.max(1, Math.round((nowMs() - started) * 1e6));
}

function floorOf(path: string, ms: number): Measured {
  const histogram = createHistogram();
  const bytes = new Uint8Array(FLOOR_BYTES).fill(0x5a);
  const fd = openSync(path, "w+");
  try {
    writeSync(fd, new Uint8Array(FLOOR_FILE_BYTES));
    fsyncSync(fd);
    const begun = nowMs();
    for (let at = 0; nowMs() - begun < ms; at = (at + FLOOR_BYTES) % FLOOR_FILE_BYTES) {
      const started = nowMs();
      writeSync(fd, bytes, 0, FLOOR_BYTES, at);
      fdatasyncSync(fd);
      histogram.record(elapsed(started));
    }
    return measured(histogram, nowMs() - begun);
  } finally {
    closeSync(fd);
  }
}

async function savesOf(dir: string, engine: Engine, savers: number, ms: number): Promise<SaveFigures> {
  const histogram = createHistogram();
  const storage = await FileStorage.open(dir, { sync: engine });
  const data = new Uint8Array(PAYLOAD_BYTES).fill(0x5a);
  let index = 0;
  let until = 0;
  const saver = async (): Promise<void> => {
    for (let started = nowMs(); started < until; started = nowMs()) {
      const entry = { term: 1, index: ++index, type: EntryType.Normal, data };
      await storage.save({ hardState: { term: 1, vote: 1n, commit: entry.index - 1 }, entries: [entry] });
      histogram.record(elapsed(started));
    }
  };
  const all = (): Promise<unknown> => Promise.all(Array.from({ length: savers }, saver));
  // Cold code and the first small segments are no property of the disk.
  until = nowMs() + ms / 4;
  await all();
  histogram.reset();
  const before = storage.stats();
  const begun = nowMs();
  until = begun + (ms * 3) / 4;
  await all();
  const took = nowMs() - begun;
  const after = storage.stats();
  await storage.close();
  const group = (after.saves - before.saves) / Math.max(1, after.syncs - before.syncs);
  return { engine, savers, group, ...measured(histogram, took) };
}

function adviceOf({ floor, saves, choice }: Omit<Report, "advice">): string[] {
  const lines: string[] = [];
  const { engine, by, openSyncMs, slowMs } = choice;
  if (by === "disk") {
    lines.push(`sync: "auto" takes the worker: node's permission model allows no sync on the event loop's thread.`);
  } else {
    const inline = engine === "inline";
    const took = openSyncMs === undefined ? "" : `The syncs of its open() took ${duration(openSyncMs)} at the median; `;
    const why = inline
      ? `up to ${duration(slowMs)} a sync is cheaper than waking a thread for it.`
      : `above ${duration(slowMs)} a sync is too long for the event loop to wait.`;
    lines.push(`sync: "auto" takes ${inline ? "the event loop's own thread" : "the worker"} here.`);
    lines.push(took === "" ? why : `${took}${why}`);
  }
  for (const savers of SAVERS) {
    const [inline, worker] = ENGINES.map((name) => saves.find((one) => one.engine === name && one.savers === savers));
    if (inline === undefined || worker === undefined) continue;
    const ratio = inline.perSecond / worker.perSecond;
    if (ratio > MATTERS) lines.push(`${who(savers)}: inline makes ${ratio.toFixed(2)} x the saves of the worker.`);
    else if (ratio < 1 / MATTERS)
      lines.push(`${who(savers)}: the worker makes ${(1 / ratio).toFixed(2)} x the saves of inline.`);
    else lines.push(`${who(savers)}: no difference between the engines.`);
  }
  if (floor.p50Ms < NO_DISK_MS) {
    lines.push(
      `A sync of ${duration(floor.p50Ms)} has reached no disk: this is memory, or a cache that answers for one.`,
    );
  }
  return lines;
}

function who(savers: number): string {
  return savers === 1 ? "A lone saver" : `${savers} savers at a time`;
}

async function show({ dir, floor, saves, advice }: Report): Promise<void> {
  await print(`below ${dir}, one write of ${FLOOR_BYTES} bytes and its fdatasync:`);
  const times = [`p50 ${duration(floor.p50Ms)}`, `p99 ${duration(floor.p99Ms)}`, `p999 ${duration(floor.p999Ms)}`];
  for (const line of pairs([
    ["a second", count(floor.perSecond)],
    ["takes", times.join(", ")],
  ])) {
    await print(line);
  }
  await print();
  await print(`saves of one entry of ${PAYLOAD_BYTES} bytes and a HardState:`);
  const rows = saves.map(({ engine, savers, perSecond, p50Ms, p99Ms, group }) => [
    engine,
    count(savers),
    count(perSecond),
    duration(p50Ms),
    duration(p99Ms),
    group.toFixed(1),
    (perSecond / floor.perSecond).toFixed(2),
  ]);
  for (const line of table(["engine", "savers", "saves/s", "p50", "p99", "saves a sync", "x floor"], rows)) {
    await print(line);
  }
  await print();
  for (const line of advice) await print(line);
}
