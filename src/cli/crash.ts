// `stablelog crash`: explores crashes, failing calls and damage of a FileStorage on simulated disks, seed by seed, until the
// seeds or the budget are at their end. A failure is made smaller and told in one line; `--replay` takes that line, and
// `--timeline` draws the crash. Exit code 1 when anything fails.

import fse from "fs-extra";
import { nowMs } from "../base/clock.js";
import { type CrashModel, crashModels } from "../testing/crash-point.js";
import { drawTimeline } from "../testing/crash-timeline.js";
import { mutate, replay } from "../testing/mutations.js";
import {
  type CampaignCounts,
  CampaignFailure,
  newCampaignCounts,
  probes,
  type ReplayResult,
  replayLine,
  runFaultSweep,
  runSeed,
  runShortWorkloads,
  shrink,
} from "../testing/storage-campaign.js";
import { type Command, EXIT, integerOption, parseCommand, UsageError, wordOption } from "./command.js";
import { count, duration, ProgressBar, paint, pairs, print, toJson } from "./terminal.js";

const MAX_SEEDS = 1e12;
const DEFAULT_BUDGET_MS = 60_000;

export const crash: Command = {
  summary: "explore crashes, failing calls and damage of a log on simulated disks",
  usage: [
    "Usage: stablelog crash [--seeds N | --seeds FROM..TO] [--budget TIME] [--model MODEL] [--json]",
    "       stablelog crash --short LENGTH [--budget TIME] [--json]",
    "       stablelog crash --sweep [--json]",
    "       stablelog crash --mutations N [--seeds FIRST] [--budget TIME] [--json]",
    "       stablelog crash --replay LINE [--timeline FILE]",
    "",
    "Runs workloads on a simulated disk that knows what was synced, builds what a crash may leave at every moment, opens",
    "that and holds it against what was acknowledged; crashes again within the recovery; lets calls fail; damages bytes.",
    "Each seed draws its own workload, segment size, engine, latencies and kind of crash.",
    "",
    "  --seeds N        seeds 0 to N-1, or FROM to TO-1; without it, all workloads of up to two operations, the sweep of",
    "                   failing calls, and then seeds until the budget is spent",
    "  --budget TIME    stop after 90s, 5m, 2h; 60s if not given, none if --seeds, --short or --sweep is given alone",
    `  --model MODEL    ${crashModels.join(", ")}; drawn by each seed if not given`,
    "  --short LENGTH   every workload of up to LENGTH (1 to 4) operations, exhaustively",
    "  --sweep          every operation of a run fails, with every error, once and for good",
    "  --mutations N    N pieces of random damage, to whole logs and to every decoder",
    "  --replay LINE    runs the line again that a failure has printed",
    "  --timeline FILE  with --replay: draws the crash, operation by operation, into this HTML file",
    "  --json           one JSON object on stdout, and nothing else there",
    "",
    "Exit code 0 when everything held, 1 when something did not, 2 for arguments that make no sense, 130 when it was",
    "interrupted before anything failed; what was done until then is told.",
  ].join("\n"),
  run,
};

/** As a shell says it of a process that SIGINT ended. */
const INTERRUPTED = 130;

interface Plan {
  readonly seeds: { readonly from: number; readonly to: number } | undefined;
  readonly short: number | undefined;
  readonly sweep: boolean;
  readonly budgetMs: number;
  readonly model: CrashModel | undefined;
  readonly json: boolean;
}

async function run(args: readonly string[]): Promise<number> {
  const options = {
    seeds: { type: "string" },
    budget: { type: "string" },
    model: { type: "string" },
    short: { type: "string" },
    sweep: { type: "boolean" },
    mutations: { type: "string" },
    replay: { type: "string" },
    timeline: { type: "string" },
    json: { type: "boolean" },
  } as const;
  const { values } = parseCommand(args, options, 0);
  if (values.replay !== undefined) {
    expectAlone(values, "replay", ["timeline", "json"]);
    return replayOne(values.replay, values.timeline, values.json === true);
  }
  if (values.timeline !== undefined) throw new UsageError("--timeline goes with --replay");
  const short = integerOption("short", values.short, 1, 4);
  const sweep = values.sweep === true;
  const mutations = integerOption("mutations", values.mutations, 1, MAX_SEEDS);
  if (mutations !== undefined) {
    expectAlone(values, "mutations", ["seeds", "budget", "json"]);
    return damageAll(
      integerOption("seeds", values.seeds, 0, MAX_SEEDS) ?? 1,
      mutations,
      budgetOf(values.budget) ?? Number.POSITIVE_INFINITY,
      values.json === true,
    );
  }
  const seeds = seedsOf(values.seeds);
  const bounded = seeds !== undefined || short !== undefined || sweep;
  const plan: Plan = {
    seeds,
    short,
    sweep,
    budgetMs: budgetOf(values.budget) ?? (bounded ? Number.POSITIVE_INFINITY : DEFAULT_BUDGET_MS),
    model: values.model === undefined ? undefined : wordOption("model", values.model, crashModels, "posix"),
    json: values.json === true,
  };
  return explore(plan);
}

/** @throws UsageError for an option that says nothing beside `option`. */
function expectAlone(values: object, option: string, besides: readonly string[]): void {
  const other = Object.keys(values).find((name) => name !== option && !besides.includes(name));
  if (other !== undefined) throw new UsageError(`--${other} does not go with --${option}`);
}

/** @throws UsageError. */
function seedsOf(text: string | undefined): Plan["seeds"] {
  if (text === undefined) return undefined;
  const [, from, to] = /^(?:(\d+)\.\.)?(\d+)$/.exec(text) ?? [];
  const range = { from: Number(from ?? 0), to: Number(to) };
  if (to === undefined || range.to > MAX_SEEDS || range.from >= range.to) {
    throw new UsageError(`--seeds must be a count or FROM..TO, got '${text}'`);
  }
  return range;
}

/** @throws UsageError. */
function budgetOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit = "s"] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const factor = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit] ?? 0;
  const ms = Number(number) * factor;
  if (!(ms > 0)) throw new UsageError(`--budget must be a time such as 60s, 5m or 2h, got '${text}'`);
  return ms;
}

async function explore(plan: Plan): Promise<number> {
  const counts = newCampaignCounts();
  const started = nowMs();
  // The first interrupt ends it like a spent budget: what an eight-hour run has counted is still told. The second kills.
  let interrupted = false;
  const interrupt = (): void => {
    interrupted = true;
  };
  process.once("SIGINT", interrupt);
  const spent = (): boolean => interrupted || nowMs() - started >= plan.budgetMs;
  const endless = plan.budgetMs !== Number.POSITIVE_INFINITY;
  const total = endless ? plan.budgetMs : plan.seeds === undefined ? 0 : plan.seeds.to - plan.seeds.from;
  const bar = new ProgressBar(plan.json ? 0 : Math.round(endless ? total / 1000 : total));
  const tick = (what: string): boolean => {
    const elapsed = nowMs() - started;
    const done = endless ? Math.min(total, elapsed) / 1000 : counts.seeds;
    const rate = counts.states / Math.max(0.001, elapsed / 1000);
    if (!plan.json) bar.draw(Math.round(done), `${what}, ${count(counts.states)} states, ${count(rate)}/s`);
    return !spent();
  };
  let failure: CampaignFailure | undefined;
  try {
    await phases(plan, counts, tick);
  } catch (error) {
    if (!(error instanceof CampaignFailure)) throw error;
    bar.clear();
    if (!plan.json) await print(`${paint("red", "failed")}: ${error.message}\n  making it smaller ...`);
    failure = await shrink(error);
  }
  bar.clear();
  process.removeListener("SIGINT", interrupt);
  const ms = nowMs() - started;
  if (plan.json) await print(toJson({ ...summary(counts, ms, failure), interrupted }, 2));
  else await show(counts, ms, failure, interrupted);
  if (failure !== undefined) return EXIT.failed;
  return interrupted ? INTERRUPTED : EXIT.ok;
}

/** Mutations alone, in millions. */
async function damageAll(seed: number, mutations: number, budgetMs: number, json: boolean): Promise<number> {
  const bar = new ProgressBar(json ? 0 : mutations);
  const report = await mutate({
    seed,
    mutations,
    budgetMs,
    now: nowMs,
    onProgress: ({ done, ms }) => {
      if (!json) bar.draw(done, `${count(done / Math.max(0.001, ms / 1000))}/s`);
    },
  });
  bar.clear();
  const { done, ms, counts, failures, slowest } = report;
  if (json) {
    await print(toJson({ ok: failures.length === 0, seed, ...report }, 2));
    return failures.length === 0 ? EXIT.ok : EXIT.failed;
  }
  const verdicts = Object.entries(counts).map(([name, times]) => `${name} ${count(times)}`);
  const rows: [string, string][] = [
    ["mutations", `${count(done)}, ${count(done / Math.max(0.001, ms / 1000))} a second`],
    ["verdicts", verdicts.join(", ")],
    ["slowest", `${duration(slowest.ms)}, number ${count(slowest.mutation)}`],
    ["time", duration(ms)],
  ];
  for (const line of pairs(rows)) await print(line);
  for (const line of failures) await print(`${paint("red", "failed")}: ${line}`);
  if (failures.length === 0) await print(`${paint("green", "ok")}: the same data, or a word for what is damaged`);
  return failures.length === 0 ? EXIT.ok : EXIT.failed;
}

async function phases(plan: Plan, counts: CampaignCounts, tick: (what: string) => boolean): Promise<void> {
  const all = plan.seeds === undefined && plan.short === undefined && !plan.sweep;
  const length = plan.short ?? (all ? 2 : 0);
  if (length > 0) {
    const options = plan.model === undefined ? {} : { model: plan.model };
    await runShortWorkloads(length, counts, { ...options, onWorkload: () => tick("short workloads") });
  }
  if (plan.sweep || all) {
    for (const sync of ["inline", "worker"] as const) {
      if (tick("failing calls")) await runFaultSweep(counts, { sync, onRun: () => tick("failing calls") });
    }
  }
  const range = plan.seeds ?? (all ? { from: 0, to: MAX_SEEDS } : { from: 0, to: 0 });
  for (let seed = range.from; seed < range.to && tick(`seed ${count(seed)}`); seed++) {
    await runSeed(seed, counts, { model: plan.model });
  }
}

function summary(counts: CampaignCounts, ms: number, failure: CampaignFailure | undefined): object {
  return {
    ok: failure === undefined,
    failure: failure === undefined ? undefined : { line: failure.line, message: failure.message },
    seeds: counts.seeds,
    states: counts.states,
    distinct: counts.distinct,
    statesPerSecond: Math.round(counts.states / (ms / 1000)),
    distinctPerSecond: Math.round(counts.distinct / (ms / 1000)),
    points: counts.points,
    nestedPoints: counts.nestedPoints,
    faults: counts.faults,
    damages: counts.damages,
    verdicts: Object.fromEntries(counts.verdicts),
    probes: Object.fromEntries(probes.map((probe) => [probe, counts.probes.get(probe) ?? 0])),
    ms: Math.round(ms),
  };
}

async function show(
  counts: CampaignCounts,
  ms: number,
  failure: CampaignFailure | undefined,
  interrupted: boolean,
): Promise<void> {
  const seconds = Math.max(0.001, ms / 1000);
  const list = (entries: Iterable<readonly [string, number]>): string =>
    [...entries].map(([name, times]) => `${name} ${count(times)}`).join(", ");
  const never = probes.filter((probe) => !counts.probes.has(probe));
  const rows: [string, string][] = [
    ["seeds", count(counts.seeds)],
    ["crash states", `${count(counts.states)}, ${count(counts.states / seconds)} a second`],
    ["distinct", `${count(counts.distinct)}, ${count(counts.distinct / seconds)} a second`],
    ["moments", `${count(counts.points)} of runs, ${count(counts.nestedPoints)} within recoveries`],
    ["failing calls", `${count(counts.faults)} runs`],
    ["damage", `${count(counts.damages)} logs`],
    ["verdicts", list(counts.verdicts)],
    ["rare paths", list(counts.probes)],
    ["never taken", never.length === 0 ? "none" : never.join(", ")],
    ["time", duration(ms)],
  ];
  for (const line of pairs(rows)) await print(line);
  if (failure === undefined) {
    const until = interrupted ? ", until it was interrupted" : "";
    await print(`${paint("green", "ok")}: everything acknowledged was there in every state${until}`);
    return;
  }
  await print(`${paint("red", "failed")}: ${failure.message}`);
  await print(`  again:  stablelog crash --replay "${failure.line}"`);
}

/** How --mutations begins a failure's line; what was done and what is wrong may stand behind it. */
const MUTATION_LINE = /^\s*SEED=(\d{1,15}) MUTATION=(\d{1,15})(?:\s|$)/;

async function replayOne(line: string, timeline: string | undefined, json: boolean): Promise<number> {
  let result: ReplayResult;
  let verdict: string | undefined;
  try {
    const [, seed, mutation] = MUTATION_LINE.exec(line) ?? [];
    if (mutation === undefined) {
      result = await replayLine(line);
      verdict = result.story?.verdict;
    } else {
      const again = await replay(Number(seed), Number(mutation));
      result = { failure: again.wrong === undefined ? undefined : `${again.what}: ${again.wrong}`, story: undefined };
      verdict = again.verdict;
    }
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(`--replay: ${error.message}`);
    throw error;
  }
  const { failure, story } = result;
  if (timeline !== undefined) {
    if (story === undefined)
      throw new UsageError("--timeline: this line has no POINT and no MASK, so there is no crash to draw");
    await fse.outputFile(timeline, drawTimeline(story));
    if (!json) await print(`drawn: ${timeline}`);
  }
  const message = failure instanceof Error ? failure.message : String(failure);
  if (json) {
    await print(
      toJson(
        {
          ok: failure === undefined,
          line,
          verdict,
          failure: failure === undefined ? undefined : message,
        },
        2,
      ),
    );
    return failure === undefined ? EXIT.ok : EXIT.failed;
  }
  if (failure === undefined) {
    await print(`${paint("green", "ok")}: ${verdict ?? "everything held"}`);
    return EXIT.ok;
  }
  await print(`${paint("red", "failed")}: ${message}`);
  await print(`  ${line}`);
  return EXIT.failed;
}
