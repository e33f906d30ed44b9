// `stablelog replay`, the main job: replays what an etcd member persisted through a FileStorage in a child process
// (replay-worker.ts), kills the child with SIGKILL at moments drawn from a seed, starts it again each time, and at the end
// compares every entry, the HardState and the snapshot with the source. Exit code 1 on any difference.
//
// What counts as acknowledged is what arrived here before the kill. Each child says after which batch its storage stood
// when it was opened; replay-worker.ts proves that this is no batch before the acknowledged ones.

import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative, resolve } from "node:path";
import fse from "fs-extra";
import { readBatches } from "../etcd/batches.js";
import { MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES } from "../wal/format.js";
import type { SyncOption } from "../wal/log.js";
import { type Command, EXIT, integerOption, parseCommand, UsageError, wordOption } from "./command.js";
import { Child, type Fate } from "./replay-child.js";
import { compare } from "./replay-compare.js";
import { freshSeed, planKills } from "./replay-kills.js";
import { ReplayModel } from "./replay-model.js";
import { readSource, type Source } from "./replay-source.js";
import type { Task } from "./replay-worker.js";
import { bytes, complain, count, duration, ProgressBar, paint, pairs, plural, print, toJson } from "./terminal.js";

const DEFAULT_KILLS = 5;
const MAX_KILLS = 1000;
/** Saves that the child keeps in flight: what a raft with asynchronous storage writes would. */
const WINDOW = 16;
const engines = ["auto", "inline", "worker", "off"] as const;
/** The member directory that comes with the source; the npm package has none. */
const fixture = join(import.meta.dirname, "../../test/fixtures/etcd/single");

export const replay: Command = {
  summary: "replay an etcd member's log through FileStorage, killing it on the way, and compare",
  usage: [
    "Usage: stablelog replay [MEMBER_DIR] [--dir OUT] [--kills N] [--seed S] [--sync ENGINE] [--segment-bytes N] [--json]",
    "",
    "Replays the saves that the etcd member in MEMBER_DIR (the folder that holds wal/ and snap/) persisted through a",
    "FileStorage in a child process, kills that process with SIGKILL on the way, and compares every entry, the HardState",
    "and the snapshot with the source. Without MEMBER_DIR it takes the fixture of the source tree.",
    "",
    "  --dir OUT          where the log goes, a new or empty directory; one below the system's temporary one if not given",
    `  --kills N          kills while saving, 0 to ${MAX_KILLS}; ${DEFAULT_KILLS} if not given`,
    "  --seed S           the seed of the kills, 0 to 4294967295; a new one if not given",
    "  --sync ENGINE      auto (if not given), inline, worker or off",
    "  --segment-bytes N  size of a segment; small ones make for many",
    "  --json             one JSON object on stdout, and nothing else there",
    "",
    "Exit code 0 when nothing is lost and nothing differs, 1 when something does, 2 for arguments that make no sense.",
  ].join("\n"),
  run,
};

interface Plan {
  readonly member: string;
  readonly dir: string;
  readonly seed: number;
  readonly kills: number;
  readonly sync: SyncOption;
  readonly segmentBytes: number | undefined;
  readonly json: boolean;
}

async function run(args: readonly string[]): Promise<number> {
  const asked = await planOf(args);
  const source = await readSource(asked.member);
  const plan: Plan = { ...asked, dir: asked.dir ?? (await fse.mkdtemp(join(tmpdir(), "stablelog-replay-"))) };
  const replaying = new Replay(plan, source);
  await replaying.measureSource();
  if (!plan.json) await announce(plan, source, replaying.expected);
  const problem = await replaying.run();
  const check =
    problem === undefined ? await compare(plan.dir, plan.member, source.contents, replaying.expected) : undefined;
  const differences = problem === undefined ? (check?.differences ?? []) : [problem];
  const result = { ...replaying.figures(), checkedEntries: check?.entries ?? 0, segments: check?.segments ?? 0 };
  const ok = differences.length === 0;
  if (plan.json) {
    const { member, dir, seed } = plan;
    await print(toJson({ ok, source: member, from: source.from, dir, seed, ...result, differences }, 2));
  } else {
    await show(plan, result, differences);
  }
  return ok ? EXIT.ok : EXIT.failed;
}

/** `dir` is undefined when none was given: a temporary one is made once the source is known to be readable. */
async function planOf(args: readonly string[]): Promise<Omit<Plan, "dir"> & { readonly dir: string | undefined }> {
  const options = {
    dir: { type: "string" },
    kills: { type: "string" },
    seed: { type: "string" },
    sync: { type: "string" },
    "segment-bytes": { type: "string" },
    json: { type: "boolean" },
  } as const;
  const { values, positionals } = parseCommand(args, options, 1);
  const kills = integerOption("kills", values.kills, 0, MAX_KILLS) ?? DEFAULT_KILLS;
  const seed = integerOption("seed", values.seed, 0, 0xffffffff) ?? freshSeed();
  const sync = wordOption("sync", values.sync, engines, "auto");
  const segmentBytes = integerOption("segment-bytes", values["segment-bytes"], MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
  const [member = fixture] = positionals;
  if (member === fixture && !existsSync(fixture)) {
    throw new UsageError("the npm package has no etcd member directory with it; give the path of one");
  }
  if (values.dir !== undefined) await checkOutput(values.dir);
  return { member, dir: values.dir, seed, kills, sync, segmentBytes, json: values.json === true };
}

async function checkOutput(dir: string): Promise<void> {
  if (dir === "") throw new UsageError("--dir must be a path");
  if (!(await fse.pathExists(dir))) return;
  if (!(await fse.stat(dir)).isDirectory()) throw new UsageError(`--dir ${dir} is not a directory`);
  if ((await fse.readdir(dir)).length > 0) throw new UsageError(`--dir ${dir} is not empty`);
}

/** The replay: what is acknowledged, and what was measured on the way. */
class Replay {
  readonly #plan: Plan;
  readonly #source: Source;
  /** The state after the last batch. */
  readonly expected = new ReplayModel();
  /** Entries in the batches up to each position. */
  readonly #entriesAt: number[] = [0];
  #bar = new ProgressBar(0);
  #acked = 0;
  /** Acknowledged batches that a reopened storage did not have. */
  #lost = 0;
  #submitted = 0;
  #killsSaving = 0;
  #killsOpening = 0;
  readonly #openMs: number[] = [];
  readonly #reopenMs: number[] = [];
  readonly #syncMs: number[] = [];
  #saveMs = 0;
  #saves = 0;
  #savedEntries = 0;
  #bytes = 0;
  #syncs = 0;
  #engine = "";

  constructor(plan: Plan, source: Source) {
    this.#plan = plan;
    this.#source = source;
  }

  /** Goes through the source once: how long it is, and what must come out. */
  async measureSource(): Promise<void> {
    for await (const batch of readBatches(this.#plan.member, { from: this.#source.from })) {
      this.expected.apply(batch);
      this.#entriesAt.push(this.expected.entries);
    }
    this.#bar = new ProgressBar(this.expected.position);
  }

  /** Starts and kills children until one comes to the end. Gives what went wrong, undefined when nothing did. */
  async run(): Promise<string | undefined> {
    try {
      for (const kill of planKills(this.#plan.seed, this.#plan.kills, this.expected.position, WINDOW)) {
        const problem =
          (kill.whileOpening === undefined ? undefined : await this.#start({ opening: kill.whileOpening })) ??
          (await this.#start({ saving: kill }));
        if (problem !== undefined) return problem;
      }
      return await this.#start({});
    } finally {
      this.#bar.clear();
    }
  }

  figures() {
    const seconds = this.#saveMs / 1000;
    const rate = (value: number): number => (seconds > 0 ? Math.round(value / seconds) : 0);
    return {
      batches: this.expected.position,
      acknowledged: this.#acked,
      lost: this.#lost,
      kills: this.#killsSaving + this.#killsOpening,
      killsWhileSaving: this.#killsSaving,
      killsWhileOpening: this.#killsOpening,
      saves: this.#saves,
      entries: this.#savedEntries,
      seconds,
      savesPerSecond: rate(this.#saves),
      entriesPerSecond: rate(this.#savedEntries),
      bytes: this.#bytes,
      syncs: this.#syncs,
      engine: this.#engine,
      syncMs: { p50: quantile(this.#syncMs, 0.5), p99: quantile(this.#syncMs, 0.99) },
      reopenMs: { p50: quantile(this.#reopenMs, 0.5), max: quantile(this.#reopenMs, 1) },
    };
  }

  async #start(fate: Fate): Promise<string | undefined> {
    const run = await new Child(this.#task(), fate, {
      opened: (position, ms, recovered) => this.#opened(position, ms, recovered),
      granted: (until) => {
        this.#submitted = Math.max(this.#submitted, Math.min(until, this.expected.position));
      },
      acked: (position, elapsedMs, syncMs) => this.#advanced(position, elapsedMs, syncMs),
      usualOpenMs: () => quantile(this.#openMs, 0.5),
    }).ended;
    this.#bytes += run.stats?.bytes ?? 0;
    this.#syncs += run.stats?.syncs ?? 0;
    this.#engine = run.stats?.engine ?? this.#engine;
    if (run.problem !== undefined) {
      this.#lost = run.lost;
      return run.problem;
    }
    if (run.killed === "opening") this.#killsOpening++;
    if (run.killed === "saving") this.#killsSaving++;
    if (run.killed === undefined && this.#acked !== this.expected.position) {
      return `the child ended after ${this.#acked} of ${this.expected.position} batches`;
    }
    if (run.killed !== undefined) {
      const what = run.killed === "opening" ? "while it was opening the log" : `with ${this.#acked} acknowledged`;
      this.#say(`kill ${this.#killsOpening + this.#killsSaving}: ${what}`);
    }
    return undefined;
  }

  #task(): Task {
    const { member, dir, sync, segmentBytes } = this.#plan;
    return {
      source: member,
      from: this.#source.from,
      dir,
      metadata: this.#source.contents.metadata,
      sync,
      segmentBytes,
      acked: this.#acked,
      submitted: this.#submitted,
      window: WINDOW,
    };
  }

  #opened(position: number, ms: number, recovered: string): void {
    const kills = this.#killsOpening + this.#killsSaving;
    this.#openMs.push(ms);
    if (kills > 0) {
      this.#reopenMs.push(ms);
      this.#say(
        `  reopened in ${duration(ms)}, ${recovered}: ${count(position)} batches, ${count(this.#acked)} acknowledged`,
      );
    }
    // What the storage serves after an open it has made durable: from here on it is as good as acknowledged.
    this.#acked = position;
  }

  #advanced(position: number, elapsedMs: number, syncMs: readonly number[]): void {
    this.#saveMs += elapsedMs;
    this.#saves += position - this.#acked;
    this.#savedEntries += (this.#entriesAt[position] ?? 0) - (this.#entriesAt[this.#acked] ?? 0);
    this.#acked = position;
    for (const ms of syncMs) this.#syncMs.push(ms);
    this.#bar.draw(position, plural(this.#killsOpening + this.#killsSaving, "kill"));
  }

  #say(line: string): void {
    if (!this.#plan.json) this.#bar.above(line);
  }
}

/** The value that a share `q` of the samples stays within; 0 without samples. */
function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * q) - 1)] ?? 0;
}

async function announce(plan: Plan, { from, contents }: Source, expected: ReplayModel): Promise<void> {
  const begin = from === "start" ? "" : `, from its snapshot at ${contents.snapshot?.metadata.index ?? 0} on`;
  const what = `${count(expected.position)} batches, ${count(expected.entries)} entries${begin}`;
  const member = plan.member === fixture ? relative(process.cwd(), fixture) : plan.member;
  const rows: [string, string][] = [
    ["source", `${member} (${what})`],
    ["log", plan.dir],
    ["seed", `${plan.seed} (${plural(plan.kills, "kill")} while saving)`],
  ];
  for (const line of pairs(rows)) await print(line);
  await print();
}

type Figures = ReturnType<Replay["figures"]> & { readonly checkedEntries: number; readonly segments: number };

async function show(plan: Plan, figures: Figures, differences: readonly string[]): Promise<void> {
  const { syncMs, reopenMs } = figures;
  const ok = differences.length === 0;
  const rows: [string, string][] = [
    ["saves", `${count(figures.saves)} in ${duration(figures.seconds * 1000)}, ${count(figures.savesPerSecond)}/s`],
    ["entries", `${count(figures.entries)}, ${count(figures.entriesPerSecond)}/s`],
    [
      "sync",
      `p50 ${duration(syncMs.p50)}, p99 ${duration(syncMs.p99)} (${plural(figures.syncs, "sync")}, ${figures.engine})`,
    ],
    ["written", `${bytes(figures.bytes)} in ${plural(figures.segments, "segment")}`],
    ["kills", `${figures.kills}: ${figures.killsWhileSaving} while saving, ${figures.killsWhileOpening} while opening`],
    ["time to reopen", `p50 ${duration(reopenMs.p50)}, longest ${duration(reopenMs.max)}`],
    ["entries checked", count(figures.checkedEntries)],
    ["lost", paint(figures.lost === 0 ? "green" : "red", count(figures.lost))],
    ["differences", paint(ok ? "green" : "red", count(differences.length))],
  ];
  await print();
  for (const line of pairs(rows)) await print(line);
  await print();
  if (ok) await print(`${paint("green", "ok")}: every entry, the HardState and the snapshot are those of the source`);
  else for (const difference of differences) complain(`difference: ${difference}`);
  await print(`The log is still there: ${commandLine()} inspect ${plan.dir}`);
}

/** How the user may call us again. */
function commandLine(): string {
  const [, script = ""] = process.argv;
  return basename(script) === "main.js" ? `node ${relative(process.cwd(), resolve(script))}` : "stablelog";
}
