// The explorer: takes the moments of a run at which a crash can tell something new, walks the states that a crash there may
// leave, recovers each and has it checked, and crashes again within the recovery. Knows nothing of logs: simulate.ts (any
// code) and storage-campaign.ts (ours) say what to run, what must hold, and what a recovered state means.
//
// Where points are taken. What a power cut may leave only grows from one sync to the next: a state that is possible before
// some operation is possible, with all later ones lost, just before the next sync takes effect, when more has been promised
// and less may be missing. So the points are the moments before each sync, of a file or a directory, and the end. A kill
// loses nothing but the rest of a write under way, so its points are before every change and amid every write.

import { AssertionError } from "../base/assert.js";
import { nowMs } from "../base/clock.js";
import type { CrashModel, CrashPoint, Mask } from "./crash-point.js";
import { formatMask } from "./crash-point.js";
import type { DiskOperation } from "./fault-plan.js";
import { Random, seedOf } from "./random.js";
import type { SimDisk } from "./sim-disk.js";
import { join53 } from "./sim-tree.js";

/** A moment of a run: what a crash may leave of the disk, and what was known to whoever used it. */
export interface Moment<F> {
  readonly point: CrashPoint;
  readonly facts: F;
}

/** Where a crash state is: the number of the moment and the mask, level by level. */
export interface CrashPlace {
  readonly points: readonly number[];
  readonly masks: readonly Mask[];
}

/** `POINT=12/3 MASK=0110/1` */
export function formatPlace({ points, masks }: CrashPlace): string {
  return `POINT=${points.join("/")} MASK=${masks.map(formatMask).join("/")}`;
}

/** What must hold after a crash. */
export interface Recovery<F, R> {
  /** Opens what the crash left, as the real program would. Crash points are taken while it runs. */
  recover(disk: SimDisk, facts: F): Promise<R>;
  /** Throws when what was recovered is not what it must be. `contents` stands for what the crash left. */
  check(disk: SimDisk, facts: F, recovered: R, contents: number): Promise<void> | void;
  /** What is known once `recovered` was served: for crashes within this recovery. Default: the same as before. */
  narrow?: ((facts: F, recovered: R) => F) | undefined;
  /** 53 bits that stand for facts: the same state with the same facts is looked at once. */
  digest(facts: F): number;
  /** Has a state with these contents been judged before, so that there is nothing to open? May throw like check(). */
  recall?: ((contents: number, facts: F) => boolean) | undefined;
}

export interface ExploreLimits {
  /** Most states looked at for one moment. */
  readonly states: number;
  /** How many levels deep crashes within recovery go; 0 for none. */
  readonly nested: number;
  /** The share of states within whose recovery it crashes again; drawn. */
  readonly nestedShare: number;
  /** Most states looked at for one moment within a recovery. */
  readonly nestedStates: number;
  /** Real milliseconds without any progress after which something hangs. */
  readonly hangMs: number;
}

export const defaultLimits: ExploreLimits = { states: 64, nested: 2, nestedShare: 1, nestedStates: 6, hangMs: 5000 };

/** Counts of one exploration; added up over many. */
export interface ExploreCounts {
  /** Crash states that were built. */
  states: number;
  /** Those whose contents differed from all before: names, sizes or bytes. */
  distinct: number;
  /** Moments of runs, and of recoveries. */
  points: number;
  nestedPoints: number;
}

export function newCounts(): ExploreCounts {
  return { states: 0, distinct: 0, points: 0, nestedPoints: 0 };
}

/** A state for which recovery or its check failed. */
export class CrashStateError extends Error {
  readonly place: CrashPlace;

  constructor(place: CrashPlace, cause: unknown) {
    super(`${formatPlace(place)}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "CrashStateError";
    this.place = place;
  }
}

/** Something neither resolved nor rejected, and nothing moved any more. */
export class HangError extends Error {
  constructor(what: string) {
    super(`${what} hangs: nothing moves, and it has neither resolved nor rejected`);
    this.name = "HangError";
  }
}

const IDLE_TURNS = 2000;

/**
 * Waits for `work`; @throws HangError once neither it nor the disks have moved for `hangMs`. Real time counts only after
 * many idle turns, so that nothing of a run that moves depends on a clock.
 */
export function settled<T>(work: Promise<T>, progress: () => number, what: string, hangMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    let done = false;
    let turns = 0;
    let since = 0;
    let seen = progress();
    const turn = (): void => {
      if (done) return;
      const now = progress();
      if (now !== seen) {
        seen = now;
        turns = 0;
      } else if (++turns === IDLE_TURNS) {
        since = nowMs();
      } else if (turns > IDLE_TURNS && nowMs() - since > hangMs) {
        reject(new HangError(what));
        return;
      }
      if (turns > IDLE_TURNS) setTimeout(turn, 5);
      else setImmediate(turn);
    };
    setImmediate(turn);
    work.then(
      (value) => {
        done = true;
        resolve(value);
      },
      (error: unknown) => {
        done = true;
        reject(error);
      },
    );
  });
}

const SYNCS: ReadonlySet<DiskOperation> = new Set(["sync", "syncDir"]);
const CHANGES: ReadonlySet<DiskOperation> = new Set([
  "create",
  "mkdir",
  "rmdir",
  "rename",
  "unlink",
  "syncDir",
  "write",
  "sync",
  "truncate",
]);

/**
 * Has `taken` called with each moment of the disk at which a crash can tell something new, except those that `wanted`, asked
 * at each, has no use for: a point costs the disk a copy of what is changed after it. Gives what ends that.
 */
export function watchMoments<F>(
  disk: SimDisk,
  model: CrashModel,
  facts: () => F,
  taken: (moment: Moment<F>) => void,
  wanted: () => boolean = () => true,
): () => void {
  const telling = model === "kill" ? CHANGES : SYNCS;
  const watcher = (operation: DiskOperation): void => {
    if (telling.has(operation) && wanted()) taken({ point: disk.crashPoint(model), facts: facts() });
  };
  disk.watchers.push(watcher);
  if (model === "kill") {
    disk.onAmidWrite = (take) => {
      if (wanted()) taken({ point: take(), facts: facts() });
    };
  }
  return () => {
    const at = disk.watchers.indexOf(watcher);
    if (at >= 0) disk.watchers.splice(at, 1);
    disk.onAmidWrite = undefined;
  };
}

/** Walks the crash states of moments. One explorer remembers the states it has seen. */
export class Explorer<F, R> {
  readonly counts: ExploreCounts;
  readonly #recovery: Recovery<F, R>;
  readonly #limits: ExploreLimits;
  /** Contents with what was known, and contents alone. */
  readonly #seen = new Set<number>();
  readonly #contents = new Set<number>();
  readonly #seed: number;

  constructor(recovery: Recovery<F, R>, seed: number, limits: ExploreLimits, counts: ExploreCounts = newCounts()) {
    this.#recovery = recovery;
    this.#seed = seed;
    this.#limits = limits;
    this.counts = counts;
  }

  /**
   * Looks at the states of one moment, number `number` of the run on `disk`.
   * @throws CrashStateError for the first state that does not hold.
   */
  async moment(disk: SimDisk, { point, facts }: Moment<F>, number: number): Promise<void> {
    this.counts.points++;
    const random = new Random(seedOf(this.#seed, number));
    await this.#walk(disk, point, facts, { points: [number], masks: [] }, this.#limits.states, random);
  }

  async #walk(
    disk: SimDisk,
    point: CrashPoint,
    facts: F,
    above: CrashPlace,
    limit: number,
    random: Random,
  ): Promise<void> {
    const factsDigest = this.#recovery.digest(facts);
    for (const mask of point.masks(limit, random)) {
      const tree = point.image(mask);
      this.counts.states++;
      const key = join53(tree.digest, factsDigest);
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      if (!this.#contents.has(tree.digest)) {
        this.#contents.add(tree.digest);
        this.counts.distinct++;
      }
      const place = { points: above.points, masks: [...above.masks, mask] };
      try {
        if (this.#recovery.recall?.(tree.digest, facts) === true) continue;
      } catch (error) {
        throw new CrashStateError(place, error);
      }
      const image = disk.imageOf(point, mask, tree, { trace: false });
      await this.state(image, facts, place, tree.digest, random);
    }
  }

  /** Recovers one crash state and checks it, then crashes within that recovery. */
  async state(image: SimDisk, facts: F, place: CrashPlace, contents: number, random: Random): Promise<void> {
    const recovery = this.#recovery;
    const level = place.masks.length;
    const within: CrashPoint[] = [];
    const unwatch =
      level > this.#limits.nested || !random.chance(this.#limits.nestedShare)
        ? () => {}
        : watchMoments(
            image,
            image.model,
            () => undefined,
            ({ point }) => within.push(point),
          );
    let recovered: R;
    try {
      recovered = await this.#settled(recovery.recover(image, facts), image, "recovery");
      unwatch();
      await this.#settled(Promise.resolve(recovery.check(image, facts, recovered, contents)), image, "the check");
    } catch (error) {
      if (error instanceof CrashStateError) throw error;
      throw new CrashStateError(place, error);
    }
    const narrowed = recovery.narrow?.(facts, recovered) ?? facts;
    const seen = new Set<number>([contents]);
    for (const [number, point] of within.entries()) {
      this.counts.nestedPoints++;
      // What recovery has changed so far may be nothing: then there is no further state here.
      const first = point.image(point.atoms.map(() => 0)).digest;
      if (point.atoms.length === 0 && seen.has(first)) continue;
      seen.add(first);
      const next = { points: [...place.points, number], masks: place.masks };
      await this.#walk(image, point, narrowed, next, this.#limits.nestedStates, random);
    }
  }

  #settled<T>(work: Promise<T>, disk: SimDisk, what: string): Promise<T> {
    return settled(work, () => disk.operations, what, this.#limits.hangMs);
  }
}

/** True for failures that say the code under test is broken in itself, whatever the disk did. */
export function isBroken(error: unknown): boolean {
  return (
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof ReferenceError ||
    error instanceof AssertionError
  );
}
