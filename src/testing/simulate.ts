// simulate(): the explorer for any code that keeps something on a disk. The caller says what the program does and what must
// hold after a crash; simulate() runs it on a SimDisk, crashes it everywhere, and tells of the first state that does not hold,
// as small as it can make it, in a line that repeats it.

import { nowMs } from "../base/clock.js";
import { CrashLedger, type LedgerView } from "./crash-ledger.js";
import { type CrashModel, type CrashPoint, crashModels, parseMask } from "./crash-point.js";
import { type CrashStory, chained, type StoryLevel, storyAtoms } from "./crash-story.js";
import {
  type CrashPlace,
  CrashStateError,
  defaultLimits,
  type ExploreCounts,
  type ExploreLimits,
  Explorer,
  formatPlace,
  type Moment,
  newCounts,
  type Recovery,
  settled,
  watchMoments,
} from "./explore.js";
import type { DiskOperation } from "./fault-plan.js";
import { Random, seedOf } from "./random.js";
import { SimDisk } from "./sim-disk.js";
import { join53 } from "./sim-tree.js";

/** What a workload is given besides its disk. */
export interface SimulatedRun<T> {
  readonly seed: number;
  /** For everything that the workload draws: the same for the same seed. */
  readonly random: Random;
  /** Where the workload notes what it asks the log to keep, and what the log has promised. */
  readonly ledger: CrashLedger<T>;
}

/** What a check is given besides its disk. */
export interface CrashedRun<T> {
  readonly seed: number;
  /** What was submitted and acknowledged when the crash came. */
  readonly ledger: LedgerView<T>;
}

export interface Simulation<T, R> {
  /** Makes what is there before the first moment; all of it is durable then. */
  readonly prepare?: ((disk: SimDisk) => Promise<void> | void) | undefined;
  /** What the program does. It runs once a seed, to its end; what crashes are copies of its disk. */
  readonly workload: (disk: SimDisk, run: SimulatedRun<T>) => Promise<void>;
  /**
   * Opens what a crash left, and gives what check() needs of it. Crashes within it are explored too, so it must do all that
   * the program does to recover, and nothing else. Without it check() recovers, and crashes within that are not explored.
   */
  readonly recover?: ((disk: SimDisk, run: CrashedRun<T>) => Promise<R>) | undefined;
  /** Throws, or gives false, when what is there after a crash is not what it must be. */
  readonly check: (disk: SimDisk, run: CrashedRun<T>, recovered: R) => Promise<unknown> | unknown;
  /** How many seeds, from 0; or "FROM..TO", TO not included; or the seeds. Default 20. */
  readonly seeds?: number | string | Iterable<number> | undefined;
  /** The kind of crash; default `posix`, the strictest. */
  readonly model?: CrashModel | undefined;
  readonly sectorBytes?: 512 | 4096 | undefined;
  /** Simulated milliseconds an operation takes; default: nothing with even seeds, 0 to 3 drawn with odd ones. */
  readonly latency?: ((operation: DiskOperation, random: Random) => number) | undefined;
  /** Most states looked at for one moment of a run; default 32. */
  readonly states?: number | undefined;
  /** Levels of crashes within recover(); default 2. */
  readonly nested?: number | undefined;
  /** Real milliseconds after which no further seed is begun; default: no bound. */
  readonly budgetMs?: number | undefined;
  /** Real milliseconds without progress after which something hangs; default 5000. */
  readonly hangMs?: number | undefined;
  /** Looks at this one state alone: the line of a SimulationError. */
  readonly replay?: string | undefined;
  readonly onProgress?: ((counts: SimulationReport) => void) | undefined;
}

export interface SimulationReport extends ExploreCounts {
  seeds: number;
  /** Real milliseconds. */
  ms: number;
}

/** Something does not hold. */
export class SimulationError extends Error {
  readonly seed: number;
  /** `SEED=3 POINT=7 MASK=01`; simulate({ ..., replay: line }) looks at this state again. `SEED=3` alone: the workload failed. */
  readonly line: string;
  /** The crash, operation by operation; drawTimeline() makes a page of it. Undefined when the workload itself failed. */
  readonly story: CrashStory | undefined;
  readonly report: SimulationReport;

  constructor(what: string, seed: number, line: string, report: SimulationReport, cause: unknown, story?: CrashStory) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`${what}: ${reason}\n  ${line}${story === undefined ? "" : `\n${tellStory(story)}`}`, { cause });
    this.name = "SimulationError";
    this.seed = seed;
    this.line = line;
    this.story = story;
    this.report = report;
  }
}

/** Recovering is most of the work, so crashes within it are drawn from among the states. */
const limitsOfSimulations: ExploreLimits = { ...defaultLimits, states: 32, nestedShare: 0.2, nestedStates: 4 };

type Marks = CrashLedger<unknown>["marks"];

/**
 * Runs the workload with every seed, crashes it at every moment that can tell something new, and has every state checked.
 * Resolves with what was done.
 * @throws SimulationError for the first state that does not hold, or when the workload itself fails; RangeError for seeds or
 * a line that make no sense.
 */
export async function simulate<T = string, R = undefined>(simulation: Simulation<T, R>): Promise<SimulationReport> {
  checkOptions(simulation);
  const report: SimulationReport = { ...newCounts(), seeds: 0, ms: 0 };
  const started = nowMs();
  const { budgetMs = Number.POSITIVE_INFINITY, replay } = simulation;
  if (replay !== undefined) {
    const { seed, place } = parseReplay(replay);
    const one = new OneSeed(simulation, seed, report);
    const failure = place === undefined ? await one.explore() : await one.again(place);
    report.ms = nowMs() - started;
    if (failure !== undefined) throw failure;
    return report;
  }
  for (const seed of seedsOf(simulation.seeds ?? 20)) {
    const failure = await new OneSeed(simulation, seed, report).explore();
    report.ms = nowMs() - started;
    if (failure !== undefined) throw failure;
    report.seeds++;
    simulation.onProgress?.(report);
    if (report.ms >= budgetMs) break;
  }
  if (report.seeds === 0) throw new RangeError("seeds: none were given, so nothing was simulated");
  return report;
}

/** @throws RangeError. */
function checkOptions<T, R>({ model, states, nested }: Simulation<T, R>): void {
  if (model !== undefined && !crashModels.includes(model)) {
    throw new RangeError(`model must be one of ${crashModels.join(", ")}, got ${String(model)}`);
  }
  for (const [name, value, least] of [
    ["states", states, 1],
    ["nested", nested, 0],
  ] as const) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= least)) {
      throw new RangeError(`${name} must be an integer from ${least} on, got ${value}`);
    }
  }
}

/** @throws RangeError. */
function* seedsOf(seeds: number | string | Iterable<number>): Generator<number> {
  if (typeof seeds !== "number" && typeof seeds !== "string") {
    for (const seed of seeds) {
      if (!Number.isSafeInteger(seed) || seed < 0)
        throw new RangeError(`a seed must be an integer from 0 on, got ${seed}`);
      yield seed;
    }
    return;
  }
  const [, from = "0", to] = /^(?:(\d+)\.\.)?(\d+)$/.exec(String(seeds)) ?? [];
  if (to === undefined || Number(from) >= Number(to))
    throw new RangeError(`seeds must be a count or "FROM..TO", got ${JSON.stringify(seeds)}`);
  for (let seed = Number(from); seed < Number(to); seed++) yield seed;
}

/** @throws RangeError. */
function parseReplay(line: string): { seed: number; place: CrashPlace | undefined } {
  const [, seed, points, masks] = /^SEED=(\d+)(?: POINT=([\d/]+) MASK=(\S+))?$/.exec(line.trim()) ?? [];
  if (seed === undefined) throw new RangeError(`no line of a simulation: ${line}`);
  if (points === undefined || masks === undefined) return { seed: Number(seed), place: undefined };
  const parsed = masks.split("/").map(parseMask);
  const place = { points: points.split("/").map(Number), masks: parsed.filter((mask) => mask !== undefined) };
  if (place.masks.length !== place.points.length) throw new RangeError(`no line of a simulation: ${line}`);
  return { seed: Number(seed), place };
}

/** One seed: its run, its moments, and the walk over them. */
class OneSeed<T, R> implements Recovery<Marks, R> {
  readonly #simulation: Simulation<T, R>;
  readonly #seed: number;
  readonly #report: SimulationReport;
  #ledger = new CrashLedger<T>();

  constructor(simulation: Simulation<T, R>, seed: number, report: SimulationReport) {
    this.#simulation = simulation;
    this.#seed = seed;
    this.#report = report;
  }

  get #hangMs(): number {
    return this.#simulation.hangMs ?? defaultLimits.hangMs;
  }

  // ---- Recovery

  digest({ submitted, acknowledged }: Marks): number {
    return join53(submitted, acknowledged);
  }

  async recover(disk: SimDisk, marks: Marks): Promise<R> {
    const { recover } = this.#simulation;
    return recover === undefined ? (undefined as R) : recover(disk, this.#crashed(marks));
  }

  async check(disk: SimDisk, marks: Marks, recovered: R): Promise<void> {
    const verdict = await this.#simulation.check(disk, this.#crashed(marks), recovered);
    if (verdict === false) throw new Error("check() gave false");
  }

  #crashed(marks: Marks): CrashedRun<T> {
    return { seed: this.#seed, ledger: this.#ledger.view(marks) };
  }

  // ---- the run

  async #run(): Promise<{ disk: SimDisk; moments: Moment<Marks>[]; failure: unknown }> {
    const { prepare, workload, model, sectorBytes, latency } = this.#simulation;
    const drawn = (_operation: DiskOperation, random: Random): number => random.below(4);
    const disk = new SimDisk({
      seed: this.#seed,
      model,
      sectorBytes,
      latency: latency ?? (this.#seed % 2 === 1 ? drawn : undefined),
    });
    const ledger = new CrashLedger<T>();
    this.#ledger = ledger;
    const moments: Moment<Marks>[] = [];
    const failure = await this.#settled(async () => prepare?.(disk), disk, "prepare()");
    if (failure !== undefined) return { disk, moments, failure };
    disk.makeDurable();
    const unwatch = watchMoments(
      disk,
      disk.model,
      () => ledger.marks,
      (moment) => moments.push(moment),
    );
    const random = new Random(seedOf(this.#seed, 3));
    const before = disk.operations;
    const run = async (): Promise<void> => workload(disk, { seed: this.#seed, random, ledger });
    let broken = await this.#settled(run, disk, "the workload");
    unwatch();
    if (broken === undefined && disk.operations === before) {
      broken = new Error("it asked nothing of the disk that it was given, so no crash can tell anything");
    }
    moments.push({ point: disk.crashPoint(), facts: ledger.marks });
    return { disk, moments, failure: broken };
  }

  /** What it failed with, undefined when it did not. */
  async #settled(work: () => Promise<unknown>, disk: SimDisk, what: string): Promise<unknown> {
    try {
      await settled(work(), () => disk.operations, what, this.#hangMs);
      return undefined;
    } catch (error) {
      return error ?? new Error(`${what} failed with ${String(error)}`);
    }
  }

  /** The first failure, made small; undefined when everything holds. */
  async explore(): Promise<SimulationError | undefined> {
    const { disk, moments, failure } = await this.#run();
    if (failure !== undefined) {
      return new SimulationError("the workload failed", this.#seed, `SEED=${this.#seed}`, this.#report, failure);
    }
    const { states = limitsOfSimulations.states, recover, nested = limitsOfSimulations.nested } = this.#simulation;
    const limits = { ...limitsOfSimulations, states, nested: recover === undefined ? 0 : nested, hangMs: this.#hangMs };
    const explorer = new Explorer<Marks, R>(this, this.#seed, limits, this.#report);
    for (const [number, moment] of moments.entries()) {
      try {
        await explorer.moment(disk, moment, number);
      } catch (error) {
        if (!(error instanceof CrashStateError)) throw error;
        return (await this.#smaller(error.place, moment.point)) ?? this.#unrepeated(error);
      }
    }
    return undefined;
  }

  /** What failed once and held when it was run again: a failure all the same. */
  #unrepeated({ place, cause }: CrashStateError): SimulationError {
    const line = `SEED=${this.#seed} ${formatPlace(place)}`;
    const what =
      "a crash loses what it must not, and does not when run again (does anything draw from elsewhere than `random`, or " +
      "remember what was before?)";
    return new SimulationError(what, this.#seed, line, this.#report, cause);
  }

  /** Keeps everything that need not be lost for the state to fail. Undefined when the failure does not repeat. */
  async #smaller(place: CrashPlace, point: CrashPoint): Promise<SimulationError | undefined> {
    let smallest = await this.#tried(place);
    if (place.masks.length > 1 || smallest === undefined) return smallest;
    let [mask = []] = place.masks;
    for (const [at, newest] of point.newest().entries()) {
      if (mask[at] === newest) continue;
      const kept = mask.map((choice, i) => (i === at ? newest : choice));
      const again = await this.#tried({ points: place.points, masks: [kept] });
      if (again === undefined) continue;
      smallest = again;
      mask = kept;
    }
    return smallest;
  }

  /** again(), of a run that may be another than before and have no such state: then it holds. */
  async #tried(place: CrashPlace): Promise<SimulationError | undefined> {
    try {
      return await this.again(place);
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  /** One state again; undefined when it holds. @throws RangeError when there is no such state. */
  async again(place: CrashPlace): Promise<SimulationError | undefined> {
    const { disk, moments, failure } = await this.#run();
    const line = `SEED=${this.#seed} ${formatPlace(place)}`;
    if (failure !== undefined) {
      return new SimulationError("the workload failed", this.#seed, `SEED=${this.#seed}`, this.#report, failure);
    }
    let moment = moments[place.points[0] ?? 0];
    let from = disk;
    if (moment === undefined) throw new RangeError(`${line}: this run has ${moments.length} moments`);
    const levels: StoryLevel[] = [];
    for (const [level, mask] of place.masks.entries()) {
      if (!moment.point.fits(mask)) throw new RangeError(`${line}: the mask does not fit what is unsynced there`);
      const { operation } = moment.point;
      const operations = from.trace.filter(({ number }) => number <= operation);
      levels.push({ operations, atoms: storyAtoms(moment.point, mask) });
      const tree = moment.point.image(mask);
      const image: SimDisk = from.imageOf(moment.point, mask, tree);
      const within: CrashPoint[] = [];
      const unwatch = watchMoments(
        image,
        image.model,
        () => undefined,
        (each) => within.push(each.point),
      );
      let broken: { readonly cause: unknown } | undefined;
      try {
        const progress = (): number => image.operations;
        const recovered: R = await settled(this.recover(image, moment.facts), progress, "recover()", this.#hangMs);
        unwatch();
        if (level === place.masks.length - 1) {
          await settled(this.check(image, moment.facts, recovered), progress, "check()", this.#hangMs);
        }
      } catch (error) {
        broken = { cause: error };
      }
      if (broken !== undefined) {
        const { cause } = broken;
        const { model, sectorBytes } = disk;
        const verdict = cause instanceof Error ? cause.message : String(cause);
        const story = chained(levels, { line, model, sectorBytes, events: [], verdict, failed: true });
        return new SimulationError("a crash loses what it must not", this.#seed, line, this.#report, cause, story);
      }
      const next = within[place.points[level + 1] ?? 0];
      if (level === place.masks.length - 1) return undefined;
      if (next === undefined) throw new RangeError(`${line}: this recovery has ${within.length} moments`);
      moment = { point: next, facts: moment.facts };
      from = image;
    }
    return undefined;
  }
}

const TOLD_OPERATIONS = 12;

/** The end of a story, for a message: the last operations, and what was lost. */
function tellStory({ operations, atoms, within }: CrashStory): string {
  const last = operations.slice(-TOLD_OPERATIONS).map(({ number, operation, path, to, offset, bytes, error }) => {
    const range = bytes === undefined ? "" : ` [${offset}, ${(offset ?? 0) + bytes})`;
    const failed = error === undefined ? "" : `: ${error}`;
    return `    ${number} ${operation} ${path}${to === undefined ? "" : ` to ${to}`}${range}${failed}`;
  });
  const lost = atoms.filter(({ left, stamps }) => left !== stamps.length);
  const fates = lost.slice(0, TOLD_OPERATIONS).map(({ kind, path, key, stamps, left }) => {
    const what =
      kind === "name" ? `name ${key} in ${path || "/"}` : kind === "size" ? `size of ${path}` : `${path} sector ${key}`;
    const when = `operation ${stamps.join(", ")}`;
    return `    ${what} (${when}): ${left === 0 ? "lost" : typeof left === "number" ? `kept up to operation ${stamps[left - 1]}` : left}`;
  });
  const parts = ["  the last operations before the crash:", ...last];
  parts.push(fates.length === 0 ? "  nothing was lost that was written" : "  what the crash took:", ...fates);
  if (within !== undefined) parts.push("  and then, within the recovery of that:", tellStory(within));
  return parts.join("\n");
}
