// Workloads on a FileStorage: operations drawn from a seed or written out by hand, run on a simulated disk beside a
// MemoryStorage that says what the log must hold after each step. storage-campaign.ts explores their crashes.
//
// A workload is a list of operations, each a word and a number that its details are drawn from: `append`, `overwrite.3`.
// What an operation does depends on the log as it stands, so any list makes sense, and a list with some of its operations
// left out too: that is what shrinking needs.

import { errnoOf, StableLogError } from "../base/errors.js";
import type { SaveBatch, Storage, WritableStorage } from "../raft/storage.js";
import { type ConfState, type Entry, EntryType, emptyConfState, type SnapshotMetadata } from "../raftpb/types.js";
import { FileStorage, type FileStorageOptions } from "../storage/file-storage.js";
import { MemoryStorage } from "../storage/memory-storage.js";
import type { StoryEvent } from "./crash-story.js";
import { Random, seedOf } from "./random.js";
import type { SimDisk } from "./sim-disk.js";
import { digestBytes, digestText, join53 } from "./sim-tree.js";

/** Everything that the short workloads are made of: every list of up to three of these is explored. */
export const shortOperations = [
  "append",
  "large",
  "concurrent",
  "overwrite",
  "hardState",
  "rotate",
  "snapshot",
  "compact",
  "close",
  "reopen",
] as const;

/**
 * What long workloads know besides: saves of commit alone with and without a sync, the empty save that waits for all before
 * it, received snapshots in three ways, and crashes amid the run.
 */
export const longOperations = [
  ...shortOperations,
  "commit",
  "commitNow",
  "flush",
  "install",
  "staged",
  "stream",
  "streamCompact",
  "compactRotate",
  "kill",
  "killAmid",
  "killAt",
  "cut",
] as const;
export type OperationName = (typeof longOperations)[number];

export interface Operation {
  readonly name: OperationName;
  /** What its details are drawn from. */
  readonly salt: number;
}

/** `append,overwrite.3` */
export function formatOperations(operations: readonly Operation[]): string {
  return operations.map(({ name, salt }) => (salt === 0 ? name : `${name}.${salt}`)).join(",");
}

/** What formatOperations() wrote; undefined when it is no list of operations. */
export function parseOperations(text: string): Operation[] | undefined {
  const operations: Operation[] = [];
  for (const word of text === "" ? [] : text.split(",")) {
    const [, name, salt] = /^(\w+)(?:\.(\d+))?$/.exec(word) ?? [];
    const known = longOperations.find((each) => each === name);
    if (known === undefined) return undefined;
    operations.push({ name: known, salt: Number(salt ?? 0) });
  }
  return operations;
}

/** Every list of one to `length` of the short operations. */
export function* shortWorkloads(length: number): Generator<Operation[]> {
  for (let count = 1; count <= length; count++) {
    const total = shortOperations.length ** count;
    for (let number = 0; number < total; number++) {
      const operations: Operation[] = [];
      for (let rest = number, i = 0; i < count; i++, rest = Math.floor(rest / shortOperations.length)) {
        operations.push({ name: shortOperations[rest % shortOperations.length] ?? "append", salt: 0 });
      }
      yield operations;
    }
  }
}

const WEIGHTS: Readonly<Record<OperationName, number>> = {
  append: 8,
  large: 2,
  concurrent: 6,
  overwrite: 4,
  hardState: 3,
  rotate: 3,
  snapshot: 3,
  compact: 3,
  close: 1,
  reopen: 1,
  commit: 3,
  commitNow: 2,
  flush: 2,
  install: 1,
  staged: 2,
  stream: 1,
  streamCompact: 1,
  compactRotate: 2,
  kill: 1,
  killAmid: 1,
  killAt: 2,
  cut: 1,
};

/** A long workload. Each seed has favourites of its own, so that rare things also happen often to somebody. */
export function drawOperations(random: Random, count: number): Operation[] {
  const names: OperationName[] = [];
  for (const name of longOperations) {
    const weight = WEIGHTS[name] * random.pick([0, 1, 1, 1, 4]);
    for (let i = 0; i < weight; i++) names.push(name);
  }
  names.push("append");
  return Array.from({ length: count }, () => ({ name: random.pick(names), salt: 1 + random.below(999) }));
}

const PERIOD = 251;
const STEP = 31;
/** STEP * STEP_INVERSE is 1 modulo PERIOD. */
const STEP_INVERSE = 81;
const BLOCK = 256;
const SEQUENCE = Uint8Array.from({ length: PERIOD + BLOCK }, (_, i) => (i * STEP) % PERIOD);

/** Bytes that differ from place to place and from seed to seed; the same for the same arguments. */
export function fill(bytes: number, seed: number): Uint8Array {
  const data = new Uint8Array(bytes);
  // Blocks of 256, each the same sequence from another place on.
  for (let at = 0; at < bytes; at += BLOCK) {
    const from = ((seed * 7 + 1 + at * 31 + (at / BLOCK) * 13) * STEP_INVERSE) % PERIOD;
    data.set(SEQUENCE.subarray(from, from + Math.min(BLOCK, bytes - at)), at);
  }
  return data;
}

/** 53 bits that stand for everything a storage says, read in full. */
export function stateDigest(storage: Storage): number {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  let digest = join53(first, last);
  const entries = last < first ? [] : storage.entries(first, last + 1);
  for (const { index, term, type, data } of entries) {
    digest = join53(digest, join53(index, join53(term, type)));
    digest = join53(digest, digestBytes(data));
    if (storage.term(index) !== term)
      throw new Error(`term(${index}) is ${storage.term(index)}, its entry says ${term}`);
  }
  const { hardState, confState } = storage.initialState();
  const { metadata, data } = storage.snapshot();
  digest = join53(digest, join53(storage.term(first - 1), hardState.term));
  digest = join53(digest, join53(Number(hardState.vote), hardState.commit));
  digest = join53(digest, digestText(confText(confState)));
  digest = join53(digest, join53(metadata.index, metadata.term));
  return join53(join53(digest, digestText(confText(metadata.confState))), digestBytes(data));
}

function confText({ voters, learners, votersOutgoing, learnersNext, autoLeave }: ConfState): string {
  return `${voters.join()} ${learners.join()} ${votersOutgoing.join()} ${learnersNext.join()} ${autoLeave}`;
}

/** What a storage says, in a line: for messages. */
export function stateText(storage: Storage): string {
  const { hardState } = storage.initialState();
  const { metadata } = storage.snapshot();
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const tail = last < first ? "no entries" : `entries ${first} to ${last}, last of term ${storage.term(last)}`;
  return `${tail}; term ${hardState.term}, vote ${hardState.vote}, commit ${hardState.commit}; snapshot ${metadata.index}`;
}

/** Where the log stands, as the next step must know it. */
interface Plan {
  readonly dummy: number;
  readonly last: number;
  readonly term: number;
  readonly commit: number;
  readonly snapshot: number;
  /** Of the HardState: a save that leaves both alone may change commit alone. */
  readonly stateTerm: number;
  readonly vote: bigint;
}

/** One change, made on a FileStorage and on its model alike. */
interface Step {
  readonly what: string;
  /** A commit-only save: a power cut may take it until a later one is durable. */
  readonly soft: boolean;
  readonly after: Plan;
  apply(storage: WritableStorage): Promise<unknown>;
}

/** What is known of a run at one moment: states[k] stands for the log after its first k steps. */
export interface RunFacts {
  readonly states: readonly number[];
  /** The fewest steps that a recovered log may hold, and the most. */
  readonly from: number;
  readonly to: number;
  /** open() has resolved: from then on there is a log. */
  readonly opened: boolean;
}

export interface StorageConfig {
  /** A directory that may be missing at first, with parents that may be, too. */
  readonly dir: string;
  readonly options: Pick<FileStorageOptions, "sync" | "segmentBytes" | "cacheBytes" | "metadata">;
}

/** A call that must have been accepted was rejected, or the other way round. */
export class WorkloadError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "WorkloadError";
  }
}

const NOBODY = emptyConfState();

/** A FileStorage under a workload, with its model and the count of what was promised. */
export class StorageRun {
  disk: SimDisk;
  storage: FileStorage | undefined;
  /** Called when the run goes on on another disk, after a kill or a power cut. */
  onDisk: (disk: SimDisk) => void = () => {};
  /** What was called and what resolved, for the story of a crash; of the disk in use now. */
  readonly events: StoryEvent[] = [];
  readonly #config: StorageConfig;
  readonly #powerLoss: boolean;
  #steps: Step[] = [];
  #plans: Plan[] = [{ dummy: 0, last: 0, term: 1, commit: 0, snapshot: 0, stateTerm: 0, vote: 0n }];
  // Replaced, not cut, when steps are given up: moments taken before keep theirs.
  #states: number[];
  #model = new MemoryStorage();
  #resolved = 0;
  #durable = 0;
  #called = 0;
  /** The first step that was rejected in a way that says it is not in the log and never will be. */
  #never = Number.POSITIVE_INFINITY;
  #opens = 0;
  /** Counts crashes: what an earlier life still has to say does not count any more. */
  #life = 0;

  /** `powerLoss`: crashes may take what was only written. */
  constructor(disk: SimDisk, config: StorageConfig, powerLoss: boolean) {
    this.disk = disk;
    this.#config = config;
    this.#powerLoss = powerLoss;
    this.#states = [stateDigest(this.#model)];
  }

  /** What a crash now must leave. */
  facts(): RunFacts {
    return this.#factsNow(this.#powerLoss);
  }

  #factsNow(powerLoss: boolean): RunFacts {
    const from = powerLoss ? this.#durable : this.#resolved;
    return { states: this.#states, from, to: Math.min(this.#called, this.#never - 1), opened: this.#opens > 0 };
  }

  /** Steps called in this life and those before, as far as they still count. */
  get steps(): readonly { readonly what: string }[] {
    return this.#steps;
  }

  async open(extra: FileStorageOptions = {}): Promise<FileStorage> {
    const { disk } = this;
    const storage = await FileStorage.open(this.#config.dir, { ...this.#config.options, ...extra, disk });
    if (disk === this.disk) this.#opens++;
    return storage;
  }

  /** Runs one operation to its end. Rejects when a call is rejected. */
  async run({ name, salt }: Operation): Promise<void> {
    const random = new Random(seedOf(salt, digestText(name)));
    if (name === "close") return this.close();
    if (name === "reopen") {
      await this.close();
      await this.#opened();
      return;
    }
    if (name === "kill" || name === "cut") {
      await this.#opened();
      return this.crash(name === "cut");
    }
    if (name === "killAt") return this.#killAt(random);
    const storage = await this.#opened();
    if (name === "killAmid") {
      void Promise.allSettled(this.#call(storage, stepsOf("concurrent", random), random));
      for (let turns = random.below(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      return this.crash(false);
    }
    const calls: Promise<unknown>[] = [];
    const pace = new Random(seedOf(salt, 1));
    if (name === "compactRotate") {
      // One segment is still being finished, the next one begins, and everything before is released.
      calls.push(...this.#call(storage, ["rotate"], random));
      const [first] = await Promise.allSettled(calls);
      if (first?.status === "fulfilled") {
        calls.push(...(await this.#spaced(storage, ["compactAll", "rotate"], random, () => random.below(12))));
      }
    } else if (name === "concurrent" && !pace.chance(0.5)) {
      // They meet those before them anywhere on their way: queued, being written, being synced.
      calls.push(...(await this.#spaced(storage, stepsOf(name, random), random, () => pace.below(6))));
    } else {
      calls.push(...this.#call(storage, stepsOf(name, random), random));
    }
    if (name === "flush") calls.push(this.#flushed(storage));
    // All of them have an end before anybody looks at what is left.
    const ends = await Promise.allSettled(calls);
    const { pendingBytes, state } = storage.stats();
    if (state === "open" && pendingBytes > 0) {
      throw new WorkloadError(`every call has ended, and ${pendingBytes} bytes count as queued`);
    }
    const rejected = ends.find((end) => end.status === "rejected");
    if (rejected === undefined) return;
    if (this.#resolved >= this.#never) {
      throw new WorkloadError(`step ${this.#never} was rejected, and step ${this.#resolved} behind it resolved`);
    }
    throw rejected.reason;
  }

  async #opened(): Promise<FileStorage> {
    this.storage ??= await this.open();
    return this.storage;
  }

  async close(): Promise<void> {
    const { storage } = this;
    if (storage === undefined) return;
    // Closed it is, whatever close() has to say.
    this.storage = undefined;
    await storage.close();
    // Whatever was acknowledged is durable now, commit-only saves too; a poisoned log is closed without a sync.
    if (storage.stats().state === "closed") this.#durable = this.#resolved;
  }

  /** The process dies at some operation on the disk, amid whatever it was doing. */
  async #killAt(random: Random): Promise<void> {
    const { disk } = this;
    const activity = random.pick([
      "concurrent",
      "rotate",
      "snapshot",
      "compact",
      "reopen",
      "stream",
      "install",
    ] as const);
    let left = 1 + random.below(40);
    let killed: { disk: SimDisk; resolved: number; durable: number; opens: number } | undefined;
    const take = (): void => {
      if (--left !== 0) return;
      killed = { disk: disk.kill(), resolved: this.#resolved, durable: this.#durable, opens: this.#opens };
    };
    disk.watchers.push(take);
    if (this.storage === undefined) this.storage = await this.open();
    else await this.run({ name: activity, salt: random.bits() });
    const at = disk.watchers.indexOf(take);
    if (at >= 0) disk.watchers.splice(at, 1);
    this.#life++;
    this.storage = undefined;
    const next = killed ?? { disk: disk.kill(), resolved: this.#resolved, durable: this.#durable, opens: this.#opens };
    this.#resolved = next.resolved;
    this.#durable = next.durable;
    this.#opens = next.opens;
    this.#moveTo(next.disk);
    const storage = await this.open();
    this.storage = storage;
    this.resume(storage, false);
  }

  /** The process dies, or the power goes; the run goes on with what is recovered, on another disk. */
  async crash(power: boolean): Promise<void> {
    this.#life++;
    this.storage = undefined;
    if (power) this.#resolved = this.#durable;
    this.#moveTo(power ? this.disk.powerCut() : this.disk.kill());
    const storage = await this.open();
    this.storage = storage;
    this.resume(storage, power);
  }

  /** The run goes on on this disk. */
  #moveTo(disk: SimDisk): void {
    this.disk = disk;
    this.events.length = 0;
    this.onDisk(disk);
  }

  /**
   * Takes what `storage` holds for the log from here on. `earned`: it was opened just now, so that all of it is durable; a log
   * that went on after a rejected call has synced no more than it had before.
   * @throws WorkloadError unless it is one of the states that a crash may leave.
   */
  resume(storage: FileStorage, power: boolean, earned = true): void {
    const durable = this.#durable;
    this.giveUp(judge(storage, this.#factsNow(power)));
    if (!earned) this.#durable = Math.min(durable, this.#durable);
  }

  /** Forgets the steps after the first `count`: they are not in the log, and never will be. */
  giveUp(count: number): void {
    this.#life++;
    if (count < this.#steps.length) {
      this.#steps = this.#steps.slice(0, count);
      this.#states = this.#states.slice(0, count + 1);
      this.#plans = this.#plans.slice(0, count + 1);
      this.#model = new MemoryStorage();
      for (const step of this.#steps) step.apply(this.#model).catch(() => {});
    }
    this.#resolved = count;
    this.#durable = count;
    this.#called = count;
    this.#never = Number.POSITIVE_INFINITY;
  }

  /** Steps that resolved so far. */
  get resolved(): number {
    return this.#resolved;
  }

  /** Those of them that a power cut may not take. */
  get durable(): number {
    return this.#durable;
  }

  #tell(kind: StoryEvent["kind"], what: string): void {
    this.events.push({ operation: this.disk.operations, what, kind });
  }

  /** Notes a rejection, when it says for certain that the step is not in the log. */
  #rejected(place: number, step: Step, error: unknown): void {
    this.#tell("rejected", step.what);
    // compact() rejects, too, when the compaction is durable and a file could not be removed.
    if (step.what.startsWith("compact")) return;
    if (error instanceof StableLogError && error.maybeDurable !== true) this.#never = Math.min(this.#never, place);
  }

  /**
   * Calls steps so many turns of the event loop apart. Who has heard of a rejection calls nothing behind it: what the log
   * holds then is not what the later steps were drawn for.
   */
  async #spaced(
    storage: FileStorage,
    kinds: readonly StepName[],
    random: Random,
    turnsBetween: () => number,
  ): Promise<Promise<unknown>[]> {
    const calls: Promise<unknown>[] = [];
    let rejected = false;
    for (const kind of kinds) {
      const [call] = this.#call(storage, [kind], random);
      calls.push(call as Promise<unknown>);
      call?.catch(() => {
        rejected = true;
      });
      for (let turns = turnsBetween(); turns > 0 && !rejected; turns--) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (rejected) break;
    }
    return calls;
  }

  #flushed(storage: FileStorage): Promise<void> {
    const life = this.#life;
    const called = this.#called;
    const flushed = storage.save({}).then(() => {
      if (this.#life === life && this.#resolved < called) {
        throw new WorkloadError(`save({}) resolved before step ${called} that was called before it`);
      }
    });
    flushed.catch(() => {});
    return flushed;
  }

  #call(storage: FileStorage, kinds: readonly StepName[], random: Random): Promise<unknown>[] {
    const before = [storage.lastIndex(), storage.firstIndex(), storage.initialState().hardState.commit];
    const life = this.#life;
    const calls: Promise<unknown>[] = [];
    for (const kind of kinds) {
      const step = stepOf(kind, this.#plans.at(-1) as Plan, random, this.#config);
      const place = this.#steps.push(step);
      this.#plans.push(step.after);
      step.apply(this.#model).catch((error: unknown) => {
        throw new WorkloadError(`${step.what}: the model refuses it: ${String(error)}`);
      });
      this.#states.push(stateDigest(this.#model));
      this.#called = place;
      this.#tell("called", step.what);
      const call = step.apply(storage).then(
        () => {
          if (this.#life !== life) return;
          this.#tell("resolved", step.what);
          this.#resolved = Math.max(this.#resolved, place);
          if (!step.soft) this.#durable = Math.max(this.#durable, place);
        },
        (error: unknown) => {
          if (this.#life === life) this.#rejected(place, step, error);
          throw error;
        },
      );
      // Whoever crashes amid this does not wait for it.
      call.catch(() => {});
      calls.push(call);
    }
    const after = [storage.lastIndex(), storage.firstIndex(), storage.initialState().hardState.commit];
    if (after.join() !== before.join()) {
      throw new WorkloadError(`reads show what no save has promised yet: ${before.join()} became ${after.join()}`);
    }
    return calls;
  }
}

/**
 * The number of steps that a storage holds.
 * @throws WorkloadError unless that is one of the states that the facts allow.
 */
export function judge(storage: Storage, facts: RunFacts): number {
  const digest = stateDigest(storage);
  const found = place(digest, facts);
  if (found >= 0) return found;
  throw new WorkloadError(`${misplaced(digest, facts)}: ${stateText(storage)}`);
}

/** The step after which the log was in this state, within what the facts allow; -1 for none. */
export function place(digest: number, { states, from, to }: RunFacts): number {
  for (let k = to; k >= from; k--) if (states[k] === digest) return k;
  return -1;
}

/** What is wrong with a state that the facts do not allow. */
export function misplaced(digest: number, { states, from, to }: RunFacts): string {
  const at = states.lastIndexOf(digest);
  if (at < 0) return `recovered what no number of whole steps gives (${from} were promised, ${to} called)`;
  if (at < from) return `recovered ${at} steps, and ${from} were promised`;
  return `recovered ${at} steps, and only ${to} were called`;
}

/** compactAll: up to the last entry. */
type StepName = OperationName | "compactAll";

/** What an operation calls together. */
function stepsOf(name: OperationName, random: Random): StepName[] {
  if (name === "flush") return Array.from({ length: 1 + random.below(3) }, () => "append");
  // Both wait in one lane, so the compaction comes behind the snapshot however long that streams.
  if (name === "streamCompact") return ["stream", "compact"];
  if (name !== "concurrent") return [name];
  const kinds = ["append", "append", "overwrite", "hardState", "commit", "compact", "compactAll", "rotate"] as const;
  return Array.from({ length: 2 + random.below(4) }, () => random.pick(kinds));
}

function stepOf(name: StepName, plan: Plan, random: Random, config: StorageConfig): Step {
  const { dummy, last, commit, snapshot } = plan;
  const segmentBytes = config.options.segmentBytes ?? 4096;
  const lowest = Math.max(dummy, snapshot);
  if (name === "overwrite" && last > Math.max(dummy, commit)) {
    const back = 1 + random.below(Math.min(3, last - Math.max(dummy, commit)));
    return appendStep(
      "overwrite",
      { ...plan, term: plan.term + 1 },
      back,
      1 + random.below(3),
      random.below(300),
      random,
    );
  }
  if (name === "hardState") {
    const term = plan.term + (random.chance(0.6) ? 1 : 0);
    const vote = BigInt(random.below(5));
    const next = { ...plan, term, stateTerm: term, vote };
    // Term and vote as they were: raft's MustSync does not ask for a sync.
    const soft = term === plan.stateTerm && vote === plan.vote;
    return saveStep(`vote ${vote} in term ${term}`, { hardState: { term, vote, commit } }, next, soft);
  }
  if ((name === "commit" || name === "commitNow") && commit < last) {
    const to = commit + 1 + random.below(last - commit);
    const hardState = { term: plan.stateTerm, vote: plan.vote, commit: to };
    const now = name === "commitNow";
    return saveStep(`commit ${to}`, { hardState, mustSync: now }, { ...plan, commit: to }, !now);
  }
  if ((name === "snapshot" || name === "stream") && last > lowest) {
    const index = lowest + 1 + random.below(last - lowest);
    const confState = { ...NOBODY, voters: [BigInt(index), 7n] };
    const data = fill(random.below(900), index);
    return {
      what: `snapshot ${index}`,
      soft: false,
      after: { ...plan, snapshot: index },
      apply: (storage) => {
        if (name === "stream" && storage instanceof FileStorage) {
          return storage.createSnapshot(index, confState, inPieces(data));
        }
        const copy = data.slice();
        return scribbled(storage.createSnapshot(index, confState, copy), [copy]);
      },
    };
  }
  if (name === "install" || name === "staged") {
    const index = Math.max(last, snapshot) + 1 + random.below(5);
    const metadata: SnapshotMetadata = {
      index,
      term: plan.term,
      confState: { ...NOBODY, voters: [9n, BigInt(index)] },
    };
    const data = fill(1 + random.below(600), index);
    const hardState = { term: plan.term, vote: 1n, commit: index };
    const after = {
      ...plan,
      dummy: index,
      last: index,
      snapshot: index,
      commit: index,
      stateTerm: plan.term,
      vote: 1n,
    };
    return {
      what: `install ${index}`,
      soft: false,
      after,
      apply: async (storage) => {
        if (name === "staged" && storage instanceof FileStorage) {
          await storage.stageSnapshot(metadata, inPieces(data));
          await saveStaged(storage, { snapshot: { metadata, data: new Uint8Array(0) }, hardState });
          return;
        }
        await storage.save({ snapshot: { metadata, data }, hardState });
      },
    };
  }
  if ((name === "compact" || name === "compactAll") && last > dummy) {
    const index = name === "compactAll" ? last : dummy + 1 + random.below(last - dummy);
    return {
      what: `compact ${index}`,
      soft: false,
      after: { ...plan, dummy: index },
      apply: (storage) => storage.compact(index),
    };
  }
  if (name === "large")
    return appendStep("large append", plan, 0, 1 + random.below(3), 700 + random.below(2600), random);
  if (name === "rotate") return appendStep("append", plan, 0, 1, segmentBytes, random);
  return appendStep("append", plan, 0, 1 + random.below(3), random.below(250), random);
}

/** A save that could not be made durable and poisons nothing may be called again, and what was staged for it is still there. */
async function saveStaged(storage: FileStorage, batch: SaveBatch): Promise<void> {
  try {
    await storage.save(batch);
  } catch (error) {
    if (storage.stats().state !== "open") throw error;
    await storage.save(batch).catch((again: unknown) => {
      const { cause } = again as { cause?: unknown };
      if (errnoOf(again) === "ENOENT" || errnoOf(cause) === "ENOENT") {
        throw new WorkloadError(`what was staged is gone after a save was rejected: ${String(again)}`, {
          cause: again,
        });
      }
      throw again;
    });
  }
}

function appendStep(what: string, plan: Plan, back: number, count: number, bytes: number, random: Random): Step {
  const first = plan.last + 1 - back;
  const entries: Entry[] = Array.from({ length: count }, (_, i) => ({
    term: plan.term,
    index: first + i,
    type: EntryType.Normal,
    data: fill(bytes, first + i + plan.term * 17),
  }));
  const last = first + count - 1;
  const state = { term: plan.term, vote: BigInt(random.below(5)), commit: plan.commit };
  const hardState = random.chance(0.5) ? state : undefined;
  const after =
    hardState === undefined ? { ...plan, last } : { ...plan, last, stateTerm: state.term, vote: state.vote };
  return saveStep(`${what} ${first} to ${last}, ${bytes} bytes each`, { entries, hardState }, after);
}

/** `soft`: the save changes neither entries nor term nor vote, and does not ask for a sync. */
function saveStep(what: string, batch: SaveBatch, after: Plan, soft = false): Step {
  return {
    what,
    soft,
    after,
    apply: (storage) => {
      const buffers: Uint8Array[] = [];
      const entries = batch.entries?.map((entry) => {
        const data = entry.data.slice();
        buffers.push(data);
        return { ...entry, data };
      });
      // The model keeps what it is given; the log must not, and gets buffers that are written over at once.
      return storage instanceof MemoryStorage
        ? storage.save(batch)
        : scribbled(storage.save({ ...batch, entries }), buffers);
    },
  };
}

/** The caller's buffers are its own again when a call has returned: it writes over them. */
function scribbled<T>(call: Promise<T>, buffers: readonly Uint8Array[]): Promise<T> {
  for (const buffer of buffers) buffer.fill(0xaa);
  return call;
}

async function* inPieces(data: Uint8Array): AsyncGenerator<Uint8Array> {
  const half = data.length >> 1;
  yield data.slice(0, half);
  await undefined;
  yield data.slice(half);
}

/** The code of a rejection; undefined when it has none, which no rejection of a log may be. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof StableLogError ? error.code : undefined;
}
