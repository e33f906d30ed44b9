// The campaign against FileStorage: seed by seed it draws a configuration and a workload, walks the crash states of the run,
// lets calls of it fail, and looks at what is left. What it finds it shrinks and says in one line that replays it. Used by
// `stablelog crash`, by this package's own tests, and by whoever changes the engine.
//
// What must hold is docs/DURABILITY.md, as an oracle: acknowledged saves are all there, byte for byte and in order; beyond
// them is a prefix of whole submitted saves, with the HardState of the last; opening twice is the same; appending afterwards
// works; a refusal is coded, names its place and leaves the directory unchanged; crashes within recovery change nothing.

import { errnoOf, StableLogError } from "../base/errors.js";
import { FileStorage, type FileStorageOptions } from "../storage/file-storage.js";
import { type CrashModel, type CrashPoint, crashModels, type Mask, parseMask } from "./crash-point.js";
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
import { type DiskOperation, diskOperations, type FaultRule } from "./fault-plan.js";
import { damageLog } from "./mutations.js";
import { Random, seedOf } from "./random.js";
import { SimDisk } from "./sim-disk.js";
import { join53 } from "./sim-tree.js";
import {
  drawOperations,
  fill,
  formatOperations,
  judge,
  misplaced,
  type Operation,
  parseOperations,
  place,
  type RunFacts,
  type StorageConfig,
  StorageRun,
  shortWorkloads,
  stateDigest,
  stateText,
  WorkloadError,
} from "./storage-workload.js";

/** Rare paths of recovery and of the running log: a campaign that never met one has proved nothing about it. */
export const probes = [
  "tear",
  "ambiguous tail",
  "carry-over",
  "carry in place",
  "recycle",
  "index rebuilt",
  "segment begun on a full disk",
  "leftover segment",
  "leftover snapshot",
  "poisoned",
  "no space",
] as const;
export type Probe = (typeof probes)[number];

/** Everything that a seed decides besides its operations. */
export interface SeedPlan {
  readonly seed: number;
  readonly model: CrashModel;
  readonly sectorBytes: 512 | 4096;
  readonly latency: boolean;
  readonly config: StorageConfig;
  readonly operations: readonly Operation[];
}

/** Draws what seed `seed` is about. `model` fixes what is otherwise drawn. */
export function planOf(seed: number, model?: CrashModel): SeedPlan {
  const random = new Random(seedOf(seed, 11));
  const drawn = random.pick([
    "posix",
    "posix",
    "posix",
    "posix",
    "posix",
    "posix",
    "kill",
    "kill",
    "ext4",
    "prefix",
  ] as const);
  const metadata = random.chance(0.3) ? fill(random.pick([5, 2000]), 1) : undefined;
  const engine = random.chance(0.65) ? "inline" : "worker";
  // Without syncs a killed process still loses nothing; of a power cut nothing is promised.
  const off = (model ?? drawn) === "kill" && random.chance(0.4);
  const operations = drawOperations(random, 3 + random.below(12));
  return {
    seed,
    model: model ?? drawn,
    sectorBytes: random.chance(0.8) ? 512 : 4096,
    latency: random.chance(0.4),
    config: {
      dir: random.chance(0.3) ? "/data/node/log" : "/log",
      options: {
        sync: off ? "off" : engine,
        segmentBytes: random.pick([4096, 4096, 4096, 8192, 16384]),
        cacheBytes: random.pick([0, 0, 4096, 1 << 20]),
        metadata,
      },
    },
    operations: off ? operations.filter(({ name }) => name !== "cut") : operations,
  };
}

export interface CampaignCounts extends ExploreCounts {
  seeds: number;
  /** Runs with a failing call, or with a disk that filled up. */
  faults: number;
  /** Damaged logs. */
  damages: number;
  /** What recovery said, and how often: clean, tear, created, ambiguous. */
  readonly verdicts: Map<string, number>;
  readonly probes: Map<Probe, number>;
}

export function newCampaignCounts(): CampaignCounts {
  return { ...newCounts(), seeds: 0, faults: 0, damages: 0, verdicts: new Map(), probes: new Map() };
}

/** Something that must hold did not. */
export class CampaignFailure extends Error {
  /** `SEED=17 OPS=append,large POINT=5 MASK=01`: `stablelog crash --replay` takes it. */
  readonly line: string;

  constructor(line: string, cause: unknown) {
    super(`${cause instanceof Error ? cause.message : String(cause)}\n  ${line}`, { cause });
    this.name = "CampaignFailure";
    this.line = line;
  }
}

interface Recovered {
  readonly storage: FileStorage;
  readonly digest: number;
  /** Steps that it holds; -1 when that is none of those allowed. */
  readonly steps: number;
}

const HANG_MS = defaultLimits.hangMs;

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function open(disk: SimDisk, { dir, options }: StorageConfig, extra: FileStorageOptions = {}): Promise<FileStorage> {
  return FileStorage.open(dir, { ...options, ...extra, disk });
}

/**
 * Opens what a crash left. A power cut may leave a frame one bit from whole, which open() rather refuses than guesses about;
 * dropping that tail must then give what was promised.
 */
async function openAfterCrash(
  disk: SimDisk,
  config: StorageConfig,
  counts: CampaignCounts,
  create = false,
): Promise<FileStorage> {
  watchProbes(disk, counts);
  let storage: FileStorage;
  try {
    storage = await open(disk, config, { create });
  } catch (error) {
    if (errnoOf(error) !== "ERR_AMBIGUOUS_TAIL" || disk.model === "kill") throw error;
    count(counts.probes, "ambiguous tail");
    count(counts.verdicts, "ambiguous");
    const { lastIndex = 0, maybeLostThrough = 0 } = error as StableLogError;
    storage = await open(disk, config, { create, onAmbiguousTail: "drop" });
    if (storage.lastIndex() !== lastIndex || maybeLostThrough < lastIndex) {
      throw new WorkloadError(`ambiguous beyond ${lastIndex}, and dropping the tail left ${storage.lastIndex()}`);
    }
  }
  const { verdict, carriedEntries } = storage.recovery;
  count(counts.verdicts, verdict);
  if (verdict === "tear") count(counts.probes, "tear");
  if (carriedEntries > 0) count(counts.probes, storage.stats().writes > 0 ? "carry-over" : "carry in place");
  return storage;
}

/** Counts the rare paths that show in what is asked of the disk. */
function watchProbes(disk: SimDisk, counts: CampaignCounts): void {
  let index = "";
  disk.watchers.push((operation, path, to) => {
    if (operation === "rename" && path.endsWith(".seg") && to !== undefined) count(counts.probes, "recycle");
    if (operation === "unlink" && path.endsWith(".seg")) count(counts.probes, "leftover segment");
    if (operation === "unlink" && path.includes(".snapshot")) count(counts.probes, "leftover snapshot");
    // Whoever makes an index just after it looked for one had found none that was any good.
    if (operation === "open" && path.endsWith(".idx")) index = path;
    if (operation === "create" && path === index) count(counts.probes, "index rebuilt");
  });
}

const WRITES: ReadonlySet<DiskOperation> = new Set(["create", "rename", "unlink", "write", "sync", "truncate"]);

/** Holds that nothing is written to a log's directory but by who has its lock. Gives the first that was. */
function watchLock(disk: SimDisk, dir: string): () => string | undefined {
  let locked = disk.locks > 0;
  let found: string | undefined;
  disk.watchers.push((operation, path) => {
    if (operation === "lock") locked = true;
    else if (operation === "unlock") locked = false;
    else if (!locked && WRITES.has(operation) && path.startsWith(`${dir}/`))
      found ??= `${operation} ${path} without the lock`;
  });
  return () => found;
}

/** What must hold of a FileStorage after a crash. */
class StorageRecovery implements Recovery<RunFacts, Recovered> {
  readonly #config: StorageConfig;
  readonly #counts: CampaignCounts;
  /** What was recovered from these contents. It does not depend on what was promised. */
  readonly #known = new Map<number, { readonly digest: number; readonly created: boolean }>();

  constructor(config: StorageConfig, counts: CampaignCounts) {
    this.#config = config;
    this.#counts = counts;
  }

  digest({ states, from, to, opened }: RunFacts): number {
    return join53(join53(from, 2 * to + (opened ? 1 : 0)), join53(states[from] ?? 0, states[to] ?? 0));
  }

  recall(contents: number, facts: RunFacts): boolean {
    const known = this.#known.get(contents);
    if (known === undefined) return false;
    if (known.created && facts.opened)
      throw new WorkloadError("open() has resolved once, and there is no log any more");
    if (place(known.digest, facts) < 0) throw new WorkloadError(misplaced(known.digest, facts));
    return true;
  }

  narrow(facts: RunFacts, { steps }: Recovered): RunFacts {
    return { states: facts.states, from: steps, to: steps, opened: facts.opened };
  }

  async recover(disk: SimDisk, facts: RunFacts): Promise<Recovered> {
    // Once open() has resolved there is a log, whatever the power does: nobody may have to make it again.
    const storage = await openAfterCrash(disk, this.#config, this.#counts, !facts.opened);
    const digest = stateDigest(storage);
    return { storage, digest, steps: place(digest, facts) };
  }

  async check(disk: SimDisk, facts: RunFacts, { storage, digest, steps }: Recovered, contents: number): Promise<void> {
    if (steps < 0) throw new WorkloadError(`${misplaced(digest, facts)}: ${stateText(storage)}`);
    const created = storage.recovery.verdict === "created";
    const random = new Random(contents);
    if (random.chance(DEEP)) await checkDeeply(disk, this.#config, storage, digest, random, this.#counts);
    this.#known.set(contents, { digest, created });
  }
}

/** The share of crash states that checkDeeply() looks at: a deep look takes as long as several that are not. */
const DEEP = 0.12;

/** Everything else that must hold of a recovered log. */
async function checkDeeply(
  disk: SimDisk,
  config: StorageConfig,
  storage: FileStorage,
  digest: number,
  random: Random,
  counts: CampaignCounts,
): Promise<void> {
  const { damage } = await storage.verify();
  if (damage.length > 0) throw new WorkloadError(`verify() reports damage: ${JSON.stringify(damage[0])}`);
  const second = await open(disk, config).then(
    () => "opened",
    (error: unknown) => errnoOf(error) ?? String(error),
  );
  if (second !== "ERR_LOCKED") throw new WorkloadError(`a second opener was not locked out: ${second}`);
  const looking = await open(disk, config, {
    readOnly: true,
    create: false,
    onAmbiguousTail: disk.model === "kill" ? "refuse" : "drop",
  });
  const seen = looking.lastIndex();
  await looking.close();
  if (seen > storage.lastIndex()) throw new WorkloadError(`readOnly shows ${seen}, beyond ${storage.lastIndex()}`);
  const evidence = droppedTail(disk, config, storage);
  const unlocked = watchLock(disk, config.dir);
  // It can be written on, and what was written is there again: after a close, after a kill, after a power cut.
  const index = storage.lastIndex() + 1;
  const term = Math.max(storage.initialState().hardState.term, storage.term(index - 1)) + 1;
  const data = fill(random.below(400), index);
  await storage.save({ entries: [{ term, index, type: 0, data }], hardState: { term, vote: 3n, commit: 0 } });
  const after = stateDigest(storage);
  if (after === digest) throw new WorkloadError("a save after recovery changed nothing");
  let next = disk;
  const end = random.below(config.options.sync === "off" ? 3 : 4);
  if (end <= 1) {
    // It takes many turns of the event loop, as long as ten other states.
    if (end === 0 && random.chance(0.4)) await raceWithClose(disk, config, after, random);
    await storage.close();
    const unsynced = disk.crashPoint("posix").atoms.filter(({ kind, inode }) => {
      return kind === "sector" && inode.path === `${config.dir}/STATE`;
    });
    if (unsynced.length > 0) throw new WorkloadError("close() has resolved, and its mark is not synced");
    if (disk.openHandles !== 0 || disk.locks !== 0) {
      throw new WorkloadError(`close() left ${disk.openHandles} files open and ${disk.locks} locks`);
    }
  } else {
    next = end === 2 ? disk.kill() : disk.powerCut();
  }
  const breach = unlocked();
  if (breach !== undefined) throw new WorkloadError(breach);
  if (evidence !== undefined && !evidence()) throw new WorkloadError("what a tear left was not left where it was");
  const again = await openAfterCrash(next, config, counts);
  if (stateDigest(again) !== after)
    throw new WorkloadError(`opened again, it holds something else: ${stateText(again)}`);
  await again.close();
}

/**
 * On a copy of the disk, a slow one: somebody opens while the holder begins another segment and closes. Whoever comes too
 * early is locked out; whoever gets in finds all of it.
 */
async function raceWithClose(disk: SimDisk, config: StorageConfig, digest: number, random: Random): Promise<void> {
  // Between looking at the names and having the lock there may be much time.
  const latency = (operation: DiskOperation, own: Random): number => own.below(operation === "lock" ? 200 : 4);
  const slow = disk.kill({ latency, trace: false });
  const holder = await open(slow, config, { create: false });
  if (stateDigest(holder) !== digest) throw new WorkloadError(`killed after a save: ${stateText(holder)}`);
  const index = holder.lastIndex() + 1;
  const term = holder.term(index - 1);
  const save = holder.save({ entries: [{ term, index, type: 0, data: new Uint8Array(4096) }] });
  for (let turns = random.below(40); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  const racing = open(slow, config, { create: false }).catch((error: unknown) => {
    if (errnoOf(error) !== "ERR_LOCKED") throw error;
    return undefined;
  });
  // Until somebody looks at it.
  racing.catch(() => {});
  await save;
  const after = stateDigest(holder);
  await holder.close();
  const winner = await racing;
  if (winner === undefined) return;
  if (stateDigest(winner) !== after) throw new WorkloadError(`opened amid a close: ${stateText(winner)}`);
  await winner.close();
}

/** What recovery has dropped stays where it is, as evidence. Gives what asks whether it does; undefined when there is none. */
function droppedTail(disk: SimDisk, config: StorageConfig, { recovery }: FileStorage): (() => boolean) | undefined {
  const { file, offset = 0, droppedBytes } = recovery;
  if (file === undefined || droppedBytes === 0) return undefined;
  const path = `${config.dir}/${file}`;
  const tail = (): Uint8Array | undefined =>
    disk
      .dump()
      .get(path)
      ?.subarray(offset, offset + droppedBytes);
  const before = tail();
  // Where nothing vouched even for its head the segment was carried as a whole, and is gone.
  if (before === undefined || before.length === 0) return undefined;
  return () => {
    const now = tail();
    return now === undefined || (now.length === before.length && now.every((byte, i) => byte === before[i]));
  };
}

// ---- crashes

interface Run {
  readonly run: StorageRun;
  /** Undefined where nobody wanted one. */
  readonly moments: (Moment<RunFacts> | undefined)[];
  /** The disk that each moment was taken on: a workload may go on on another one. */
  readonly disks: SimDisk[];
  /** How many of each operation there were. */
  readonly tally: ReadonlyMap<DiskOperation, number>;
  /** What the workload itself failed with. */
  readonly failure: unknown;
}

function newDisk(plan: SeedPlan, trace: boolean): SimDisk {
  return new SimDisk({
    seed: plan.seed,
    sectorBytes: plan.sectorBytes,
    model: plan.model,
    trace,
    latency: plan.latency ? drawLatency : undefined,
  });
}

/** Mostly about the same; now and then one operation takes as long as ten others, and everything overtakes it. */
function drawLatency(_operation: DiskOperation, random: Random): number {
  return random.chance(0.08) ? random.below(40) : random.below(3);
}

/** Runs a workload to its end and takes its moments: the last one, and of the others those that are `wanted`. */
async function runWorkload(
  plan: SeedPlan,
  counts: CampaignCounts,
  { trace = false, wanted = () => true }: { trace?: boolean; wanted?: () => boolean } = {},
): Promise<Run> {
  const disk = newDisk(plan, trace);
  const run = new StorageRun(disk, plan.config, plan.model !== "kill");
  const moments: Run["moments"] = [];
  const disks: SimDisk[] = [];
  const tally = new Map<DiskOperation, number>();
  let unwatch = (): void => {};
  const watch = (next: SimDisk): void => {
    // Who was killed may still do something on the old disk; it does not count.
    unwatch();
    watchProbes(next, counts);
    next.watchers.push((operation) => count(tally, operation));
    unwatch = watchMoments(
      next,
      plan.model,
      () => run.facts(),
      (moment) => {
        moments[moments.length - 1] = moment;
      },
      () => {
        moments.push(undefined);
        disks.push(next);
        return wanted();
      },
    );
  };
  watch(disk);
  run.onDisk = watch;
  let failure: unknown;
  try {
    for (const operation of plan.operations) {
      await settled(run.run(operation), () => run.disk.operations, operation.name, HANG_MS);
    }
  } catch (error) {
    failure = error;
  }
  moments.push({ point: run.disk.crashPoint(plan.model), facts: run.facts() });
  disks.push(run.disk);
  return { run, moments, disks, tally, failure };
}

const NO_MOMENTS = { wanted: () => false };

/**
 * Walks the crash states of one workload, at a share of its moments.
 * @throws CampaignFailure.
 */
async function exploreRun(
  plan: SeedPlan,
  limits: ExploreLimits,
  counts: CampaignCounts,
  share = 1,
  shared?: Explorer<RunFacts, Recovered>,
): Promise<Run> {
  const random = new Random(seedOf(plan.seed, 13));
  const done = await runWorkload(plan, counts, { wanted: () => random.chance(share) });
  const { moments, disks, failure } = done;
  if (failure !== undefined) throw new CampaignFailure(lineOf(plan), failure);
  const explorer = shared ?? newExplorer(plan, limits, counts);
  for (const [number, moment] of moments.entries()) {
    if (moment === undefined) continue;
    try {
      await explorer.moment(disks[number] as SimDisk, moment, number);
    } catch (error) {
      if (!(error instanceof CrashStateError)) throw error;
      throw new CampaignFailure(lineOf(plan, error.place), error.cause);
    }
  }
  return done;
}

function newExplorer(plan: SeedPlan, limits: ExploreLimits, counts: CampaignCounts): Explorer<RunFacts, Recovered> {
  return new Explorer(new StorageRecovery(plan.config, counts), plan.seed, limits, counts);
}

/** `SEED=17 OPS=append,large POINT=5 MASK=01` */
function lineOf(plan: SeedPlan, where?: CrashPlace, more = ""): string {
  const parts = [`SEED=${plan.seed}`, `MODEL=${plan.model}`, `OPS=${formatOperations(plan.operations)}`];
  if (where !== undefined) parts.push(formatPlace(where));
  if (more !== "") parts.push(more);
  return parts.join(" ");
}

// ---- failing calls

/** The errors that every operation is made to fail with. */
export const faultErrors = [
  "EIO",
  "ENOSPC",
  "EDQUOT",
  "EMFILE",
  "ENFILE",
  "EROFS",
  "EACCES",
  "EPERM",
  "EFBIG",
] as const;

/** A failing call: `write#12:EIO:once:clean:700`. */
export interface FaultSpec {
  /** Which operations are counted; `any` for all of them. */
  readonly on: DiskOperation | "any";
  /** The first that fails, from 1. */
  readonly nth: number;
  readonly error: (typeof faultErrors)[number];
  readonly times: "once" | "forGood";
  readonly pages: "clean" | "revert";
  /** Bytes of a write that get through before it fails. */
  readonly bytes: number;
}

function formatFault({ on, nth, error, times, pages, bytes }: FaultSpec): string {
  return `${on}#${nth}:${error}:${times}:${pages}:${bytes}`;
}

function parseFault(text: string): FaultSpec | undefined {
  const [, on, nth, code, times, pages, bytes] =
    /^(\w+)#(\d+):(\w+):(once|forGood):(clean|revert):(\d+)$/.exec(text) ?? [];
  const operation = on === "any" ? on : diskOperations.find((each) => each === on);
  const error = faultErrors.find((each) => each === code);
  if (operation === undefined || error === undefined) return undefined;
  return {
    on: operation,
    nth: Number(nth),
    error,
    times: times === "once" ? "once" : "forGood",
    pages: pages === "clean" ? "clean" : "revert",
    bytes: Number(bytes),
  };
}

function ruleOf({ on, nth, error, times, pages, bytes }: FaultSpec): FaultRule {
  return {
    on: on === "any" ? undefined : on,
    nth,
    times: times === "once" ? 1 : Number.POSITIVE_INFINITY,
    error,
    pages,
    bytes,
  };
}

/** Files whose sync has failed, and a second sync of one of them before anybody opened the log again. */
function secondSync(disk: SimDisk): string | undefined {
  const failed = new Set<string>();
  for (const { operation, path, to, error, number } of disk.trace) {
    if (operation === "lock") failed.clear();
    else if (operation === "create" || operation === "rename") {
      failed.delete(path);
      if (to !== undefined) failed.delete(to);
    } else if (operation === "sync") {
      if (failed.has(path)) return `operation ${number} syncs ${path} again after its sync failed`;
      if (error !== undefined) failed.add(path);
    }
  }
  return undefined;
}

/**
 * Runs a workload with a failing call, and looks at what rejects, what goes on, and what is there afterwards.
 * @throws CampaignFailure.
 */
async function faultRun(plan: SeedPlan, spec: FaultSpec, counts: CampaignCounts): Promise<void> {
  try {
    await settled(
      failAndGoOn(plan, spec, counts),
      () => trialDisk?.operations ?? 0,
      "a run with a failing call",
      HANG_MS,
    );
  } catch (error) {
    throw new CampaignFailure(lineOf(plan, undefined, `FAULT=${formatFault(spec)}`), error);
  }
  counts.faults++;
}

let trialDisk: SimDisk | undefined;

async function failAndGoOn(plan: SeedPlan, spec: FaultSpec, counts: CampaignCounts): Promise<void> {
  const disk = newDisk(plan, true);
  trialDisk = disk;
  const run = new StorageRun(disk, plan.config, false);
  run.onDisk = (next) => {
    trialDisk = next;
  };
  const fault = disk.inject(ruleOf(spec));
  for (const operation of plan.operations) {
    try {
      await run.run(operation);
    } catch (error) {
      await afterRejection(run, plan.config, error, spec, counts);
      // From here on the disk is sound; a fault for good has been met by the operation above and by what came after it.
      if (spec.times === "forGood" && run.disk === disk && fault.struck > 3) disk.heal();
    }
    const again = secondSync(run.disk);
    if (again !== undefined) throw new WorkloadError(again);
  }
  run.disk.heal();
  await run.close().catch((error: unknown) => mustBeCoded("close()", error));
  run.storage = undefined;
  const storage = await run.open();
  run.resume(storage, spec.pages === "revert");
  // What is served now has been earned: the power may go at once.
  await powerAfter(run, plan.config, run.facts().to, spec.nth, counts);
  await storage.close();
}

/**
 * The power goes now, in some ways (a rejected save comes back in few of them): the log then holds `from` steps or more, and
 * no more than the run does.
 */
async function powerAfter(
  run: StorageRun,
  config: StorageConfig,
  from: number,
  seed: number,
  counts: CampaignCounts,
): Promise<void> {
  const { to, states } = run.facts();
  const point = run.disk.crashPoint("posix");
  const random = new Random(seed);
  for (const mask of point.masks(from === to ? 3 : 16, random)) {
    // Where the run's own crashes are kills, this one is none: its tail may be one bit from valid.
    const image = run.disk.imageOf(point, mask, undefined, { model: "posix", trace: false });
    const after = await openAfterCrash(image, config, counts);
    judge(after, { states, from, to, opened: true });
  }
}

/**
 * A failing call within open(): the log of a whole run, killed, is opened with a disk that fails at one operation. It is
 * refused with a code, or all there; and once the disk is sound again it is all there.
 */
async function openRun(plan: SeedPlan, run: StorageRun, spec: FaultSpec, counts: CampaignCounts): Promise<void> {
  const disk = run.disk.kill({ latency: undefined, trace: false });
  disk.inject(ruleOf(spec));
  // A page cache that forgot takes what was never synced with it.
  const facts = { ...run.facts(), from: spec.pages === "revert" ? run.durable : run.resolved };
  const work = async (): Promise<void> => {
    let storage: FileStorage | undefined;
    try {
      storage = await open(disk, plan.config, { create: false });
      readableOn(disk, () => judge(storage as FileStorage, facts));
      return;
    } catch (error) {
      const { code } = mustBeCoded("open()", error);
      if (code === "ERR_CORRUPT" || code === "ERR_GAP" || code === "ERR_NOT_FOUND" || code === "ERR_FOREIGN") {
        throw new WorkloadError(`a failing call was taken for damage: ${code}`, { cause: error });
      }
    }
    disk.heal();
    if (disk.locks !== 0 || disk.openHandles !== 0) {
      throw new WorkloadError(`an open() that failed left ${disk.locks} locks and ${disk.openHandles} files open`);
    }
    judge(await open(disk, plan.config, { create: false }), facts);
  };
  try {
    await settled(work(), () => disk.operations, "an open with a failing call", HANG_MS);
  } catch (error) {
    throw new CampaignFailure(lineOf(plan, undefined, `OPENFAULT=${formatFault(spec)}`), error);
  }
  counts.faults++;
}

/**
 * The disk fills up amid a run, with `spare` bytes left. What is rejected must say so, nothing is lost, the log opens while
 * the disk is full, and goes on when there is room again.
 */
async function fullRun(plan: SeedPlan, at: number, spare: number, counts: CampaignCounts): Promise<void> {
  const run = new StorageRun(newDisk(plan, false), plan.config, false);
  trialDisk = run.disk;
  run.onDisk = (next) => {
    trialDisk = next;
  };
  let full = false;
  const work = async (): Promise<void> => {
    for (const [number, operation] of plan.operations.entries()) {
      // A log that is not there yet has no room to be made in.
      if (!full && number >= at && run.facts().opened) {
        full = true;
        run.disk.capacity = run.disk.usedBytes + spare;
      }
      const sizes = run.storage?.stats().segments ?? 0;
      try {
        await run.run(operation);
        if (full && (run.storage?.stats().segments ?? 0) > sizes) count(counts.probes, "segment begun on a full disk");
      } catch (error) {
        const { code } = mustBeCoded("a call on a full disk", error);
        if (code === "ERR_NO_SPACE") count(counts.probes, "no space");
        else if (code !== "ERR_POISONED" && code !== "ERR_IO") {
          throw new WorkloadError(`a full disk is no ${code}`, { cause: error });
        }
        if (run.storage?.stats().state === "open") {
          run.resume(run.storage, false, false);
          if (code === "ERR_NO_SPACE" && plan.config.options.sync !== "off")
            await powerAfter(run, plan.config, run.durable, number, counts);
        } else {
          await run.crash(false);
        }
      }
    }
    if (!full) return;
    // Opened while it is full: what was acknowledged is there, and only that takes no room.
    run.disk.capacity = run.disk.usedBytes;
    await run.crash(false);
    const { recovery } = run.storage as FileStorage;
    if (recovery.carriedEntries > 0 && (run.storage as FileStorage).stats().writes === 0) {
      count(counts.probes, "carry in place");
    }
    run.disk.capacity = Number.POSITIVE_INFINITY;
    await run.run({ name: "rotate", salt: 0 });
    await run.crash(true);
    await run.close();
  };
  try {
    await settled(work(), () => trialDisk?.operations ?? 0, "a run on a full disk", HANG_MS);
  } catch (error) {
    throw new CampaignFailure(lineOf(plan, undefined, `FULL=${at}:${spare}`), error);
  }
  counts.faults++;
}

/**
 * A log that ran without syncs is killed and opened with them: what that open serves is earned, and the power may go.
 * @throws CampaignFailure.
 */
async function turnedOn(plan: SeedPlan, run: StorageRun, counts: CampaignCounts): Promise<void> {
  const random = new Random(seedOf(plan.seed, 14));
  const config = { ...plan.config, options: { ...plan.config.options, sync: "inline" as const } };
  try {
    // Killed while it changes files: what is finished is synced behind the saves, and that takes a while.
    let left = random.below(40);
    let killed: { disk: SimDisk; facts: RunFacts } | undefined;
    const take = (): void => {
      if (left-- === 0) killed = { disk: run.disk.kill({ model: "posix", trace: false }), facts: run.facts() };
    };
    run.disk.watchers.push(take);
    await run.run({ name: "rotate", salt: 1 });
    await run.run({ name: "rotate", salt: 2 });
    run.disk.watchers.splice(run.disk.watchers.indexOf(take), 1);
    killed ??= { disk: run.disk.kill({ model: "posix", trace: false }), facts: run.facts() };
    const { disk, facts } = killed;
    const storage = await open(disk, config, { create: false });
    const steps = judge(storage, facts);
    const { states } = facts;
    const point = disk.crashPoint();
    for (const mask of point.masks(6, random)) {
      const after = await openAfterCrash(disk.imageOf(point, mask, undefined, { trace: false }), config, counts);
      judge(after, { states, from: steps, to: steps, opened: true });
    }
  } catch (error) {
    throw new CampaignFailure(lineOf(plan, undefined, "ON=1"), error);
  }
}

function mustBeCoded(what: string, error: unknown): StableLogError {
  if (error instanceof StableLogError) return error;
  throw new WorkloadError(`${what} failed with no code of ours: ${String(error)}`, { cause: error });
}

/** A call was rejected: what that says must be so, and the log must be good for the next one. */
async function afterRejection(
  run: StorageRun,
  config: StorageConfig,
  error: unknown,
  spec: FaultSpec,
  counts: CampaignCounts,
): Promise<void> {
  const coded = mustBeCoded("a call", error);
  const { storage } = run;
  if (coded.code === "ERR_NO_SPACE") count(counts.probes, "no space");
  // A page cache that forgot takes what was never synced with it.
  const reverted = spec.pages === "revert";
  if (storage !== undefined && storage.stats().state === "open") {
    if (coded.code === "ERR_POISONED") throw new WorkloadError("a call was rejected as poisoned, and the log goes on");
    readable(run, () => run.resume(storage, reverted, false));
    // What was rejected for want of room is gone for good, and what was acknowledged is not: the power may go at once.
    if (coded.code === "ERR_NO_SPACE" && !reverted && config.options.sync !== "off")
      await powerAfter(run, config, run.durable, spec.nth, counts);
    return;
  }
  if (storage !== undefined) {
    count(counts.probes, "poisoned");
    readable(run, () => judge(storage, run.facts()));
    await run.close().catch((each: unknown) => mustBeCoded("close() of a poisoned log", each));
    run.storage = undefined;
    const again = secondSync(run.disk);
    if (again !== undefined) throw new WorkloadError(again);
  }
  let reopened: FileStorage;
  try {
    reopened = await run.open();
  } catch (refusal) {
    const { code } = mustBeCoded("open()", refusal);
    // What fails for good must be mended before anybody can go on; what failed once has passed.
    if (code === "ERR_CORRUPT" || code === "ERR_GAP" || code === "ERR_FOREIGN") {
      throw new WorkloadError(`a failing call was taken for damage: ${code}`, { cause: refusal });
    }
    run.disk.heal();
    // Where nothing can be done any more, not even the name of a new directory can be given once more: see DURABILITY.md,
    // Limits. Such a disk comes back after a power cycle.
    if (run.resolved === 0) return run.crash(true);
    reopened = await run.open();
  }
  run.storage = reopened;
  readable(run, () => run.resume(reopened, reverted));
}

function readable(run: StorageRun, read: () => void): void {
  readableOn(run.disk, read);
}

/** Reads once more when the disk cannot be read now: that says nothing of what is on it. */
function readableOn(disk: SimDisk, read: () => void): void {
  try {
    read();
  } catch (error) {
    if (errnoOf(error) !== "ERR_READ") throw error;
    disk.heal();
    read();
  }
}

// ---- seeds

export interface SeedOptions {
  readonly limits?: Partial<ExploreLimits> | undefined;
  readonly model?: CrashModel | undefined;
  /** Rounds of failing calls, a seed; default 4 for one seed of five, 0 for the others. */
  readonly faults?: number | undefined;
  /** The share of seeds that damage bytes, too; default 0.1. */
  readonly damage?: number | undefined;
}

/** The share of seeds that are looked at closely; the others cover ground. */
const CLOSE_SHARE = 0.06;
const closeLimits: ExploreLimits = { ...defaultLimits, states: 6, nestedShare: 0.1, nestedStates: 3 };
const wideLimits: ExploreLimits = { ...defaultLimits, states: 3, nestedShare: 0.02, nestedStates: 2 };
/** The share of moments that a wide look takes in. */
const WIDE_SHARE = 0.168;

/**
 * Everything about one seed: its crashes, then failing calls amid the run and within open(), then a full disk.
 * @throws CampaignFailure, not shrunk.
 */
export async function runSeed(seed: number, counts: CampaignCounts, options: SeedOptions = {}): Promise<void> {
  const plan = planOf(seed, options.model);
  const random = new Random(seedOf(seed, 12));
  const close = random.chance(CLOSE_SHARE);
  const limits = { ...(close ? closeLimits : wideLimits), ...options.limits };
  const run = await exploreRun(plan, limits, counts, close ? 1 : WIDE_SHARE);
  // All at once for some seeds rather than a little for each: whoever has patience for a hundred seeds has met everything.
  const { faults = seed % 5 === 0 ? 4 : 0 } = options;
  if (plan.config.options.sync === "off") await turnedOn(plan, run.run, counts);
  for (let i = 0; i < faults && plan.config.options.sync !== "off"; i++) {
    await faultRun(plan, drawFault(run.tally, random), counts);
    for (let opens = 3; opens > 0; opens--) {
      await openRun(plan, run.run, { ...drawFault(openTally, random), times: "once" }, counts);
    }
    if (i === 0)
      await fullRun(plan, random.below(plan.operations.length), random.pick([0, 200, 400, 800, 3000, 9000]), counts);
  }
  if (faults > 0 && plan.latency && plan.config.options.sync !== "off") {
    await faultsInMeetings(plan, random, 4, counts);
    await faultsInMeetings(plan, new Random(seedOf(seed, 15)), 8, counts);
  }
  if (faults > 0 && plan.config.options.sync !== "off") {
    await groupsWithoutRoom(plan, new Random(seedOf(seed, 16)), 3, counts);
  }
  if (random.chance(options.damage ?? 0.1)) await damageSome(plan, counts);
  counts.seeds++;
}

/** Syncs of the directory fail while one task gives a segment its name and another takes one away. @throws CampaignFailure. */
async function faultsInMeetings(plan: SeedPlan, random: Random, runs: number, counts: CampaignCounts): Promise<void> {
  const operation = (name: Operation["name"]): Operation => ({ name, salt: 1 + random.below(999) });
  for (let run = 0; run < runs; run++) {
    const operations = [operation("append"), operation("compactRotate"), operation("compactRotate")];
    const nth = 8 + random.below(8);
    const fault: FaultSpec = { on: "syncDir", nth, error: "EIO", times: "once", pages: "clean", bytes: 0 };
    await faultRun({ ...plan, operations }, fault, counts);
  }
}

/** The disk has no room for the rest of a write amid groups of several saves, and the power goes at once. @throws CampaignFailure. */
async function groupsWithoutRoom(plan: SeedPlan, random: Random, runs: number, counts: CampaignCounts): Promise<void> {
  for (let run = 0; run < runs; run++) {
    const operations = Array.from(
      { length: 3 },
      (): Operation => ({ name: "concurrent", salt: 1 + random.below(999) }),
    );
    const nth = 4 + random.below(12);
    const error = random.pick(["ENOSPC", "EDQUOT", "EFBIG"] as const);
    const bytes = 200 + random.below(2000);
    await faultRun({ ...plan, operations }, { on: "write", nth, error, times: "once", pages: "clean", bytes }, counts);
  }
}

/** Pieces of damage for one seed of ten. */
const DAMAGES = 60;

/**
 * Damages small logs, and holds what they say to what they held.
 * @throws CampaignFailure.
 */
async function damageSome(plan: SeedPlan, counts: CampaignCounts, first = 0, last = DAMAGES): Promise<void> {
  for (let n = first; n < last; n++) {
    try {
      const { what, verdict, wrong } = await damageLog(plan.seed, n);
      counts.damages++;
      count(counts.verdicts, verdict);
      if (wrong !== undefined) throw new Error(`${what}: ${wrong}`);
    } catch (error) {
      // Growing a log to damage may have failed, too.
      throw new CampaignFailure(lineOf({ ...plan, operations: [] }, undefined, `DAMAGE=${n}`), error);
    }
  }
}

/** About what an open() asks of the disk. */
const openTally: ReadonlyMap<DiskOperation, number> = new Map([
  ["list", 3],
  ["lock", 1],
  ["open", 8],
  ["read", 12],
  ["sync", 5],
  ["syncDir", 2],
  ["write", 3],
  ["create", 1],
  ["rename", 1],
  ["unlink", 2],
  ["stat", 3],
  ["close", 6],
]);

/** What a log must not survive lightly fails more often. */
const FAULT_WEIGHTS: Readonly<Partial<Record<DiskOperation, number>>> = { sync: 5, write: 3, syncDir: 4, rename: 3 };

/** One of the operations that such a run has, each kind as likely as the other: there are few renames among many reads. */
function drawFault(tally: ReadonlyMap<DiskOperation, number>, random: Random): FaultSpec {
  const kinds = [...tally.keys()].flatMap((kind) => Array.from({ length: FAULT_WEIGHTS[kind] ?? 1 }, () => kind));
  const on = random.pick(kinds);
  return {
    on,
    nth: 1 + random.below(tally.get(on) ?? 1),
    // A write for which there is no room must leave nothing, and that takes a group of several saves to see.
    error: on === "write" && random.chance(0.5) ? "ENOSPC" : random.pick(faultErrors),
    times: random.chance(0.7) ? "once" : "forGood",
    pages: random.chance(0.8) ? "clean" : "revert",
    bytes: random.pick([0, 1, random.below(600), 1 << 20]),
  };
}

/** The plan of short workloads: small segments, everything on the event loop's own thread, and no chance in it. */
function shortPlan(operations: readonly Operation[], sync: "inline" | "worker", model: CrashModel): SeedPlan {
  const options = { sync, segmentBytes: 4096, cacheBytes: 0, metadata: undefined };
  // The seed says which of the plans it is, so that a line of its own replays it.
  const seed = SHORT_SEEDS + (sync === "inline" ? 0 : 1);
  return { seed, model, sectorBytes: 512, latency: false, config: { dir: "/log", options }, operations };
}

/** Seeds from here on are not drawn from: they are those of the short workloads and of the sweep. */
const SHORT_SEEDS = 2 ** 40;

const shortLimits: ExploreLimits = { ...defaultLimits, states: 48, nestedShare: 0.25, nestedStates: 6 };

/**
 * Every list of up to `length` operations, its crash states exhaustively where they are few.
 * @throws CampaignFailure.
 */
export async function runShortWorkloads(
  length: number,
  counts: CampaignCounts,
  options: {
    readonly sync?: "inline" | "worker" | undefined;
    readonly model?: CrashModel | undefined;
    readonly limits?: Partial<ExploreLimits> | undefined;
    /** Called after each workload; false ends it. */
    readonly onWorkload?: (() => boolean) | undefined;
  } = {},
): Promise<number> {
  const { sync = "inline", model = "posix" } = options;
  const limits = { ...shortLimits, ...options.limits };
  let workloads = 0;
  // One explorer: lists that begin alike have their first states in common.
  const shared = newExplorer(shortPlan([], sync, model), limits, counts);
  for (const operations of shortWorkloads(length)) {
    await exploreRun(shortPlan(operations, sync, model), limits, counts, 1, shared);
    workloads++;
    if (options.onWorkload?.() === false) break;
  }
  return workloads;
}

const SWEEP =
  "append,large,hardState,overwrite,snapshot,rotate,compact,reopen,concurrent,staged,commit,rotate,close,append";

/**
 * Lets every operation of one run fail, one after the other, with every error, once and for good.
 * @throws CampaignFailure.
 */
export async function runFaultSweep(
  counts: CampaignCounts,
  options: { readonly sync?: "inline" | "worker"; readonly onRun?: () => boolean } = {},
): Promise<{ operations: number; runs: number }> {
  const operations = parseOperations(SWEEP) ?? [];
  const plan = shortPlan(operations, options.sync ?? "inline", "posix");
  const { run } = await runWorkload(plan, counts, NO_MOMENTS);
  const total = run.disk.operations;
  let runs = 0;
  for (let nth = 1; nth <= total; nth++) {
    for (const error of faultErrors) {
      for (const times of ["once", "forGood"] as const) {
        await faultRun(plan, { on: "any", nth, error, times, pages: "clean", bytes: nth % 700 }, counts);
        runs++;
        if (options.onRun?.() === false) return { operations: nth, runs };
      }
    }
  }
  return { operations: total, runs };
}

// ---- replaying and shrinking

/** A line taken apart. */
interface Replay {
  readonly plan: SeedPlan;
  readonly place: CrashPlace | undefined;
  readonly fault: FaultSpec | undefined;
  readonly openFault: FaultSpec | undefined;
  /** Where a full disk begins, and the bytes it has left. */
  readonly full: readonly [number, number] | undefined;
  /** A log without syncs is opened with them. */
  readonly on: boolean;
  /** The number of a piece of damage. */
  readonly damage: number | undefined;
}

const LINE_WORDS = ["SEED", "MODEL", "OPS", "FAULT", "OPENFAULT", "FULL", "ON", "DAMAGE", "POINT", "MASK"];

/** Reads a line of a CampaignFailure; undefined when it is none. */
export function parseLine(line: string): Replay | undefined {
  const fields = new Map<string, string>();
  for (const word of line.trim().split(/\s+/)) {
    const at = word.indexOf("=");
    if (at <= 0) return undefined;
    const name = word.slice(0, at);
    // A line with a word left out is another line, and what holds of that says nothing of this.
    if (!LINE_WORDS.includes(name)) return undefined;
    fields.set(name, word.slice(at + 1));
  }
  const seed = Number(fields.get("SEED"));
  if (!Number.isSafeInteger(seed) || seed < 0) return undefined;
  const model = fields.get("MODEL");
  const known = crashModels.find((each) => each === model);
  if (model !== undefined && known === undefined) return undefined;
  const ops = fields.get("OPS");
  const operations = ops === undefined ? undefined : parseOperations(ops);
  if (ops !== undefined && operations === undefined) return undefined;
  const drawn =
    seed >= SHORT_SEEDS
      ? shortPlan([], seed === SHORT_SEEDS ? "inline" : "worker", known ?? "posix")
      : planOf(seed, known);
  const plan = { ...drawn, operations: operations ?? drawn.operations };
  const [fault, openFault] = ["FAULT", "OPENFAULT"].map((name) => {
    const text = fields.get(name);
    return text === undefined ? undefined : parseFault(text);
  });
  if ((fields.has("FAULT") && fault === undefined) || (fields.has("OPENFAULT") && openFault === undefined))
    return undefined;
  const [, at, spare] = /^(\d+):(\d+)$/.exec(fields.get("FULL") ?? "") ?? [];
  if (fields.has("FULL") && spare === undefined) return undefined;
  const full = spare === undefined ? undefined : ([Number(at), Number(spare)] as const);
  const more = { fault, openFault, full, on: fields.has("ON"), damage: damageOf(fields.get("DAMAGE")) };
  if (!fields.has("POINT") && !fields.has("MASK")) return { plan, place: undefined, ...more };
  if (!fields.has("POINT") || !fields.has("MASK")) return undefined;
  const points = (fields.get("POINT") ?? "").split("/").map(Number);
  const masks = (fields.get("MASK") ?? "").split("/").map(parseMask);
  if (points.some((point) => !Number.isSafeInteger(point)) || masks.length !== points.length) return undefined;
  if (!masks.every((mask) => mask !== undefined)) return undefined;
  return { plan, place: { points, masks }, ...more };
}

function damageOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** One crash state again. Gives what it fails with, undefined when it holds, and its story. */
async function crashAgain(
  plan: SeedPlan,
  where: CrashPlace,
  counts: CampaignCounts,
): Promise<{ failure: unknown; story: CrashStory }> {
  const { run, moments, disks, failure: broken } = await runWorkload(plan, counts, { trace: true });
  let moment = moments[where.points[0] ?? 0];
  let disk = disks[where.points[0] ?? 0];
  if (moment === undefined || disk === undefined) {
    throw new RangeError(`POINT=${where.points[0]}: this run has ${moments.length} moments`);
  }
  const recovery = new StorageRecovery(plan.config, counts);
  const { operation: crashed } = moment.point;
  const events = run.events.filter(({ operation }) => operation <= crashed);
  const levels: StoryLevel[] = [];
  const tell = ({ point }: Moment<RunFacts>, on: SimDisk, mask: Mask): void => {
    if (!point.fits(mask)) throw new RangeError(`${lineOf(plan, where)}: the mask does not fit what is unsynced there`);
    const operations = on.trace.filter(({ number }) => number <= point.operation);
    levels.push({ operations, atoms: storyAtoms(point, mask) });
  };
  const story = (verdict: string, failed: boolean): CrashStory => {
    const { model, sectorBytes } = plan;
    return chained(levels, { line: lineOf(plan, where), model, sectorBytes, events, verdict, failed });
  };
  if (broken !== undefined) {
    tell(moment, disk, where.masks[0] ?? []);
    return { failure: broken, story: story(String(broken), true) };
  }
  for (const [level, mask] of where.masks.entries()) {
    tell(moment, disk, mask);
    const last = level === where.masks.length - 1;
    const tree = moment.point.image(mask);
    const image: SimDisk = disk.imageOf(moment.point, mask, tree);
    const within: CrashPoint[] = [];
    const unwatch = last
      ? () => {}
      : watchMoments(
          image,
          image.model,
          () => undefined,
          ({ point }) => within.push(point),
        );
    let recovered: Recovered;
    try {
      const progress = (): number => image.operations;
      recovered = await settled(recovery.recover(image, moment.facts), progress, "recovery", HANG_MS);
      unwatch();
      if (last) {
        await settled(recovery.check(image, moment.facts, recovered, tree.digest), progress, "the check", HANG_MS);
        const { verdict } = recovered.storage.recovery;
        return {
          failure: undefined,
          story: story(`${verdict}: ${recovered.steps} of ${moment.facts.to} steps`, false),
        };
      }
    } catch (error) {
      return { failure: error, story: story(error instanceof Error ? error.message : String(error), true) };
    }
    const point = within[where.points[level + 1] ?? 0];
    if (point === undefined) throw new RangeError(`POINT=${where.points.join("/")}: no such moment in this recovery`);
    moment = { point, facts: recovery.narrow(moment.facts, recovered) };
    disk = image;
  }
  throw new RangeError("MASK is missing");
}

/** What became of a line that was run again. */
export interface ReplayResult {
  /** What must hold and did not; undefined when all is well. */
  readonly failure: unknown;
  /** Of the first crash; undefined for a line without one. */
  readonly story: CrashStory | undefined;
}

/**
 * Runs a line again.
 * @throws RangeError for a line that names no state.
 */
export async function replayLine(line: string, counts: CampaignCounts = newCampaignCounts()): Promise<ReplayResult> {
  const replay = parseLine(line);
  if (replay === undefined) throw new RangeError(`no line of a crash: ${line}`);
  const { plan, place: where } = replay;
  if (where !== undefined) return crashAgain(plan, where, counts);
  try {
    await runAgain(replay, plan, counts);
    return { failure: undefined, story: undefined };
  } catch (error) {
    return { failure: error, story: undefined };
  }
}

/** What a line without a crash state is about. */
async function runAgain(
  { fault, openFault, full, on, damage }: Replay,
  plan: SeedPlan,
  counts: CampaignCounts,
): Promise<void> {
  if (damage !== undefined) await damageSome(plan, counts, damage, damage + 1);
  else if (fault !== undefined) await faultRun(plan, fault, counts);
  else if (openFault !== undefined)
    await openRun(plan, (await runWorkload(plan, counts, NO_MOMENTS)).run, openFault, counts);
  else if (full !== undefined) await fullRun(plan, full[0], full[1], counts);
  else if (on) await turnedOn(plan, (await runWorkload(plan, counts, NO_MOMENTS)).run, counts);
  else await exploreRun(plan, { ...closeLimits, states: 16 }, counts);
}

/** Most runs that are spent on making a failure smaller. */
const SHRINK_RUNS = 200;

/**
 * The same failure, or another, with fewer operations and with less lost. Operations are left out as long as something
 * still fails; then as much of what was lost is kept as can be.
 */
export async function shrink(failure: CampaignFailure): Promise<CampaignFailure> {
  const replay = parseLine(failure.line);
  // A piece of damage is as small as it gets.
  if (replay === undefined || replay.damage !== undefined) return failure;
  const counts = newCampaignCounts();
  let { plan } = replay;
  let found = failure;
  let runs = 0;
  const tryPlan = async (next: SeedPlan): Promise<CampaignFailure | undefined> => {
    runs++;
    try {
      await anywhere(replay, next, counts);
    } catch (error) {
      if (error instanceof CampaignFailure) return error;
      throw error;
    }
    return undefined;
  };
  for (let changed = true; changed && runs < SHRINK_RUNS; ) {
    changed = false;
    for (let at = plan.operations.length - 1; at >= 0 && runs < SHRINK_RUNS; at--) {
      const next = { ...plan, operations: plan.operations.filter((_, i) => i !== at) };
      const smaller = await tryPlan(next);
      if (smaller === undefined) continue;
      plan = next;
      found = smaller;
      changed = true;
    }
  }
  return keepMore(found, counts);
}

/** The same with fewer operations: a fault, or a full disk, wherever it still shows. */
async function anywhere(replay: Replay, plan: SeedPlan, counts: CampaignCounts): Promise<void> {
  const { fault, full } = replay;
  if (fault !== undefined) {
    const { tally } = await runWorkload(plan, counts, NO_MOMENTS);
    const total = fault.on === "any" ? [...tally.values()].reduce((a, b) => a + b, 0) : (tally.get(fault.on) ?? 0);
    for (let nth = 1; nth <= total; nth++) await faultRun(plan, { ...fault, nth }, counts);
  } else if (full !== undefined) {
    for (let at = 0; at < plan.operations.length; at++) await fullRun(plan, at, full[1], counts);
  } else {
    await runAgain(replay, plan, counts);
  }
}

/** Keeps everything that need not be lost for it to fail. */
async function keepMore(failure: CampaignFailure, counts: CampaignCounts): Promise<CampaignFailure> {
  const replay = parseLine(failure.line);
  if (replay?.place === undefined) return failure;
  const { plan } = replay;
  let { place: where } = replay;
  const { moments } = await runWorkload(plan, counts);
  const point = moments[where.points[0] ?? 0]?.point;
  if (point === undefined || where.masks.length !== 1) return failure;
  let cause = failure.cause;
  const newest = point.newest();
  for (let at = 0; at < newest.length && at < 400; at++) {
    const [mask = []] = where.masks;
    if (mask[at] === newest[at]) continue;
    const kept = {
      points: where.points,
      masks: [mask.map((choice, i) => (i === at ? (newest[at] as number) : choice))],
    };
    const again = await crashAgain(plan, kept, counts);
    if (again.failure === undefined) continue;
    where = kept;
    cause = again.failure;
  }
  return new CampaignFailure(lineOf(plan, where), cause);
}
