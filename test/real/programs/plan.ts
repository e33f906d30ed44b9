// What the children of this folder save, as a pure function of a seed: the child that is killed and the test that looks at
// what it left both walk the same plan, so nothing but acknowledgements has to travel between them. Every save leaves a
// HardState of its own (term = round, vote = serial), so the state found on disk says how many saves of the plan it holds.
// Runs in the child and in the test: imports nothing at run time.

import type { ConfState, Entry, HardState, Snapshot } from "stablelog";

/** What a plan follows from. */
export interface Script {
  readonly seed: number;
  /** "medium": entries of up to 60 kB. "large": one save in five carries an entry of up to 3 MB, so that kills strike within a write. "huge": 24 MB each. */
  readonly sizes: "small" | "medium" | "large" | "huge";
  /** One save in so many installs a received snapshot, which resets the log; 0 for none. */
  readonly installs: number;
}

/** What a child is asked to do; it comes as JSON. */
export interface Task {
  readonly dir: string;
  readonly options: { readonly segmentBytes?: number; readonly sync?: "auto" | "inline" | "worker" | "off" };
  readonly script: Script;
  /** Counts the children that followed one another in the directory, from 1; the term of all that this one saves. */
  readonly round: number;
  /** Saves under way at a time. */
  readonly savers: number;
  /** A snapshot and a compaction after so many saves. */
  readonly snapshotEvery: number;
  /** Entries that a compaction leaves. */
  readonly keep: number;
  /** Saves in all; then the log is closed, opened again, and closed. Without it the child saves until it is stopped. */
  readonly saves?: number;
  /** How the child ends itself, and after how many saves. */
  readonly end?: { readonly how: "exit" | "throw" | "reject"; readonly after: number };
}

export interface PlannedSave {
  readonly serial: number;
  readonly hardState: HardState;
  readonly entries: Entry[];
  readonly snapshot?: Snapshot;
}

export const confState: ConfState = {
  voters: [1n, 2n],
  learners: [],
  votersOutgoing: [],
  learnersNext: [],
  autoLeave: false,
};

/** 32 mixed bits of four numbers. */
function mix(a: number, b: number, c: number, d: number): number {
  let h = 0x9e3779b9;
  for (const word of [a, b, c, d]) {
    h = Math.imul(h ^ word, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h ^= h >>> 16;
  }
  return h >>> 0;
}

/** Bytes that say whose they are, over and over. */
function pattern(size: number, ...words: number[]): Uint8Array {
  const [a = 0, b = 0, c = 0, d = 0] = words;
  return Buffer.alloc(size, `${mix(a, b, c, d).toString(36)}:${words.join("/")};`);
}

/** The data of the snapshot at `index`, whoever makes it. */
export function snapshotData({ seed, sizes }: Script, index: number, term: number): Uint8Array {
  const size = sizes === "large" && index % 3 === 0 ? 600_000 : 1 + ((index * 53) % 3000);
  return pattern(size, seed, 7, index, term);
}

/** Bytes that are made when somebody asks for them: a test walks over far more saves than it compares. */
class Lazy {
  readonly #make: () => Uint8Array;
  #made: Uint8Array | undefined;

  constructor(make: () => Uint8Array) {
    this.#make = make;
  }

  get data(): Uint8Array {
    this.#made ??= this.#make();
    return this.#made;
  }
}

class PlannedEntry extends Lazy implements Entry {
  readonly type = 0;
  readonly term: number;
  readonly index: number;

  constructor(term: number, index: number, make: () => Uint8Array) {
    super(make);
    this.term = term;
    this.index = index;
  }
}

class PlannedSnapshot extends Lazy implements Snapshot {
  readonly metadata: Snapshot["metadata"];

  constructor(index: number, term: number, make: () => Uint8Array) {
    super(make);
    this.metadata = { index, term, confState };
  }
}

/** The saves of one round, in the order of their calls. */
export class Plan {
  readonly #script: Script;
  readonly #round: number;
  #serial = 0;
  #last: number;
  /** Nothing is replaced below it. */
  #floor: number;
  #commit = 0;
  #vote = 0n;

  /** `first` and `last`: the bounds of the log as the round finds it. */
  constructor(script: Script, round: number, first: number, last: number) {
    this.#script = script;
    this.#round = round;
    this.#floor = first;
    this.#last = last;
  }

  next(): PlannedSave {
    const serial = ++this.#serial;
    const { seed, installs } = this.#script;
    const dice = (salt: number): number => mix(seed, this.#round, serial, salt);
    if (serial > 1 && this.#commit < this.#last && dice(1) % 6 === 0) {
      this.#commit = this.#last;
      return { serial, hardState: this.#hardState(), entries: [] };
    }
    this.#vote = BigInt(serial);
    let snapshot: Snapshot | undefined;
    if (installs > 0 && dice(2) % installs === 0) {
      const index = this.#last + 1 + (dice(3) % 5);
      snapshot = new PlannedSnapshot(index, this.#round, () => snapshotData(this.#script, index, this.#round));
      this.#last = index;
      this.#floor = index + 1;
    }
    // One in four replaces what is there; never is the log shorter afterwards.
    const back = dice(4) % 4 === 0 ? 1 + (dice(5) % 2) : 0;
    const first = Math.max(this.#floor, this.#last + 1 - back);
    const count = this.#last + 1 - first + 1 + (dice(6) % 3);
    const entries = Array.from({ length: count }, (_, i) => this.#entry(serial, first + i));
    this.#last = first + count - 1;
    this.#commit = this.#last - 1;
    return { serial, hardState: this.#hardState(), entries, ...(snapshot === undefined ? {} : { snapshot }) };
  }

  #hardState(): HardState {
    return { term: this.#round, vote: this.#vote, commit: this.#commit };
  }

  #entry(serial: number, index: number): Entry {
    const { seed, sizes } = this.#script;
    const dice = mix(seed, this.#round, serial, 1000 + index);
    let size = dice % 17 === 0 ? 0 : (dice >>> 8) % 700;
    if (sizes === "medium") size = dice % 60_000;
    if (sizes === "large" && dice % 10 === 0) size = 200_000 + (dice % 2_800_000);
    if (sizes === "huge") size = 24_000_000;
    const term = this.#round;
    return new PlannedEntry(term, index, () => pattern(size, seed, term, serial, index));
  }
}
