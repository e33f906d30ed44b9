// The ledger: what a directory must hold after children that saved by plan were stopped in it. Every acknowledged save is
// there; what is there is the state after a whole number of saves in the order of their calls, byte for byte; snapshots and
// compactions that were acknowledged have happened, and none that nobody asked for.

import { expect } from "vitest";
import type { Entry } from "../../src/raftpb/types.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { confState, Plan, type PlannedSave, snapshotData, type Task } from "./programs/plan.js";

/** The state after some number of saves. */
class State {
  hard = { term: 0, vote: 0n, commit: 0 };
  dummy = 0;
  last = 0;
  snapshot = 0;
  entries = new Map<number, Entry>();

  copy(): State {
    return Object.assign(new State(), this, { hard: { ...this.hard }, entries: new Map(this.entries) });
  }

  apply({ snapshot, entries, hardState }: PlannedSave): void {
    if (snapshot !== undefined) {
      const { index } = snapshot.metadata;
      this.entries.clear();
      this.dummy = index;
      this.last = index;
      this.snapshot = index;
    }
    for (const entry of entries) this.entries.set(entry.index, entry);
    this.last = entries.at(-1)?.index ?? this.last;
    this.hard = { ...hardState };
  }

  compact(index: number): void {
    for (const kept of [...this.entries.keys()]) if (kept <= index) this.entries.delete(kept);
    this.dummy = index;
  }
}

/** Numbers after `word` at the start of lines. */
function told(lines: readonly string[], word: string): number[] {
  return lines.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.slice(word.length + 1)));
}

/** Promises that a child's lines make. */
export function acknowledged(lines: readonly string[]): number {
  return told(lines, "saved").length;
}

export interface Found {
  /** Saves of the round that are there. */
  readonly saves: number;
  /** What open() made of the directory. */
  readonly verdict: string;
  readonly carriedEntries: number;
}

/** How far somebody has gone along a plan. */
interface Walk {
  /** Undefined: the child was stopped before it had one. */
  readonly plan: Plan | undefined;
  readonly state: State;
  count: number;
}

/** Goes on to the state of the HardState found, which must be that after `least` to `most` saves. */
function reach(walk: Walk, storage: FileStorage, least: number, most: number, what: string): void {
  const { term, vote, commit } = storage.initialState().hardState;
  const { plan, state } = walk;
  for (;;) {
    const { hard } = state;
    if (walk.count >= least && hard.term === term && hard.vote === vote && hard.commit === commit) return;
    if (walk.count === most || plan === undefined) break;
    state.apply(plan.next());
    walk.count++;
  }
  const found = `term ${term}, vote ${vote}, commit ${commit}`;
  throw new Error(`${what}: ${found} is the state after no number of saves from ${least} to ${most}`);
}

export class Ledger {
  #state = new State();
  #walk: Walk | undefined;
  /** Every index at which a snapshot was begun. */
  readonly #snapshots = new Set<number>([0]);

  /** Another ledger of the same past. */
  fork(): Ledger {
    const ledger = new Ledger();
    ledger.#state = this.#state.copy();
    for (const index of this.#snapshots) ledger.#snapshots.add(index);
    return ledger;
  }

  /**
   * Opens `dir`, which the child of `task` left or which is a copy of what it left, and holds it against the plan and the
   * child's `lines`. What it finds is where the next round begins. `what` stands in every failure.
   */
  async settle(dir: string, task: Task, lines: readonly string[], what: string): Promise<Found> {
    const begun = this.#begun(task, lines, what);
    const storage = await FileStorage.open(dir, { segmentBytes: 4096, sync: "inline" }).catch((error: unknown) => {
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    });
    try {
      const saves = begun === undefined ? 0 : told(lines, "saved").reduce((a, b) => Math.max(a, b), 0);
      const walk = { plan: begun, state: this.#state.copy(), count: 0 };
      reach(walk, storage, saves, saves + task.savers, what);
      const { state, count } = walk;
      this.#compare(storage, state, task, lines, what);
      const compacted = told(lines, "compacted").reduce((a, b) => Math.max(a, b), 0);
      expect(storage.firstIndex() - 1, `${what}: acknowledged compactions`).toBeGreaterThanOrEqual(compacted);
      const snapshot = told(lines, "snapshot").reduce((a, b) => Math.max(a, b), 0);
      expect(storage.snapshot().metadata.index, `${what}: snapshots`).toBeGreaterThanOrEqual(snapshot);
      expect(await storage.verify(), `${what}: verify()`).toMatchObject({ ok: true, damage: [] });
      state.snapshot = storage.snapshot().metadata.index;
      this.#state = state;
      const { verdict, carriedEntries } = storage.recovery;
      return { saves: count, verdict, carriedEntries };
    } finally {
      await storage.close();
    }
  }

  /**
   * Holds an open storage against the plan as far as the child may have come: any whole number of saves will do. For copies
   * of a running log, of which nobody promises that they hold the latest.
   */
  resemble(storage: FileStorage, task: Task, lines: readonly string[], what: string): number {
    // Copies come in the order in which they were made, nearly: the walk goes on from the one before where it can.
    const { vote } = storage.initialState().hardState;
    if (this.#walk === undefined || this.#walk.count > vote) {
      this.#walk = { plan: this.#begun(task, lines, what), state: this.#state.copy(), count: 0 };
    }
    const saves = told(lines, "saved").reduce((a, b) => Math.max(a, b), 0);
    reach(this.#walk, storage, 0, saves + task.savers, what);
    this.#compare(storage, this.#walk.state.copy(), task, lines, what);
    return this.#walk.count;
  }

  /** The plan that a child began, undefined when it was stopped before; what it opened is what was found here before. */
  #begun(task: Task, lines: readonly string[], what: string): Plan | undefined {
    const open = lines.find((line) => line.startsWith("open "));
    if (open === undefined) return undefined;
    const { dummy, last, hard } = this.#state;
    const expected = `open ${dummy + 1} ${last} ${hard.term} ${hard.vote} ${hard.commit}`;
    expect(open, `${what}: the child opened what was there`).toBe(expected);
    return new Plan(task.script, task.round, dummy + 1, last);
  }

  #compare(storage: FileStorage, state: State, task: Task, lines: readonly string[], what: string): void {
    for (const index of told(lines, "snapshotting")) this.#snapshots.add(index);
    const dummy = storage.firstIndex() - 1;
    if (dummy !== state.dummy) {
      expect(told(lines, "compacting"), `${what}: compacted up to ${dummy}`).toContain(dummy);
      expect(dummy, `${what}: nothing uncompacts`).toBeGreaterThan(state.dummy);
      state.compact(dummy);
    }
    expect(storage.lastIndex(), `${what}: the last index`).toBe(state.last);
    const entries = dummy === state.last ? [] : storage.entries(dummy + 1, state.last + 1);
    expect(entries.length, `${what}: entries`).toBe(state.last - dummy);
    for (const [i, { index, term, data }] of entries.entries()) {
      const kept = state.entries.get(dummy + 1 + i);
      const same = index === kept?.index && term === kept.term && Buffer.compare(data, kept.data) === 0;
      if (!same) expect({ index, term, data }, `${what}: entry ${index}`).toEqual(kept);
      expect(same, `${what}: entry ${index}`).toBe(true);
    }
    const { metadata, data } = storage.snapshot();
    if (metadata.index !== state.snapshot) {
      expect([...this.#snapshots], `${what}: the snapshot at ${metadata.index}`).toContain(metadata.index);
      expect(metadata.index, `${what}: snapshots only advance`).toBeGreaterThan(state.snapshot);
    }
    if (metadata.index > 0) {
      const wanted = snapshotData(task.script, metadata.index, metadata.term);
      expect(Buffer.compare(data, wanted), `${what}: data of the snapshot at ${metadata.index}`).toBe(0);
      expect(metadata.confState, what).toEqual(confState);
      expect(metadata.term, what).toBe(state.entries.get(metadata.index)?.term ?? metadata.term);
    }
  }
}
