// CrashPoint: one moment of a simulated disk, with all that a crash at that moment may leave. It lists what was not synced
// as atoms, chooses for each what became of it, and builds the tree of files that such a choice leaves. sim-disk.ts takes
// the points and makes disks of the trees; explore.ts walks the choices.
//
// A choice of an atom is a number: 0 is what it durably was, k is the k-th thing it was made since. Sectors know three more:
// torn with the new bytes first, torn with the old bytes first, and garbage within the range that was written. A choice for
// every atom is a mask, in text one character an atom.
//
// Models choose from the same atoms:
//   posix   every atom for itself: the strictest, and what a log must stand
//   ext4    names and sizes in the order they were made, as a journal replays them; a size brings the data that it covers;
//           overwritten sectors in any order
//   prefix  everything in the order it was made, up to one moment, with one torn sector there
//   kill    nothing is lost; a write that was under way has left a prefix

import { Random, seedOf } from "./random.js";
import {
  type Cell,
  type DirectoryState,
  digestTree,
  emptyDirectory,
  emptyFile,
  type FileState,
  Inode,
  type InodeState,
  type Sector,
  type SectorCell,
  type SectorValue,
  type Stamped,
  writeFile,
  zeroSector,
} from "./sim-tree.js";

export const crashModels = ["posix", "ext4", "prefix", "kill"] as const;
export type CrashModel = (typeof crashModels)[number];

/** Beyond these choices an atom's older values are left out: a sector written 36 times between two syncs is rare. */
const MOST_VALUES = 35;
const TORN_NEW_FIRST = 100;
const TORN_OLD_FIRST = 101;
const GARBAGE = 102;
const SPECIALS = [TORN_NEW_FIRST, TORN_OLD_FIRST, GARBAGE] as const;
const SPECIAL_LETTERS: Readonly<Record<number, string>> = {
  [TORN_NEW_FIRST]: "P",
  [TORN_OLD_FIRST]: "S",
  [GARBAGE]: "G",
};

/** Something that was not synced. */
export interface Atom {
  readonly kind: "name" | "size" | "sector";
  readonly inode: Inode;
  /** The name, or the sector's number; 0 for a size. */
  readonly key: string | number;
  /** The operations that made its values, oldest first. */
  readonly stamps: readonly number[];
  /** True when every value is the same: only garbage can show there. */
  readonly silent: boolean;
}

/** A choice for every atom of a point. */
export type Mask = readonly number[];

/** A tree that a crash left: everything in it is durable. */
export interface TreeImage {
  readonly root: Inode;
  /** Stands for names, sizes and bytes: equal trees have equal digests. */
  readonly digest: number;
}

/** A write that a kill cuts short: `bytes` of it got through. */
export interface AmidWrite {
  readonly inode: Inode;
  readonly position: number;
  readonly source: Uint8Array;
}

/** The text of a mask: one character an atom, runs of more than three as `c*n.`. */
export function formatMask(mask: Mask): string {
  if (mask.length === 0) return "-";
  let text = "";
  for (let i = 0; i < mask.length; ) {
    const choice = mask[i] as number;
    let end = i + 1;
    while (end < mask.length && mask[end] === choice) end++;
    // Only the cut of a write that a kill ends goes beyond one character.
    const letter = SPECIAL_LETTERS[choice] ?? (choice < 36 ? choice.toString(36) : `<${choice}>`);
    text += end - i > 3 ? `${letter}*${end - i}.` : letter.repeat(end - i);
    i = end;
  }
  return text;
}

/** What formatMask() wrote; undefined when it is no mask. */
export function parseMask(text: string): Mask | undefined {
  if (text === "-") return [];
  const mask: number[] = [];
  const pattern = /([0-9a-zPSG]|<\d+>)(?:\*(\d+)\.)?/y;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (match === null) return undefined;
    const [, letter = "", times = "1"] = match;
    const special = SPECIALS.find((each) => SPECIAL_LETTERS[each] === letter);
    const choice = special ?? (letter.startsWith("<") ? Number(letter.slice(1, -1)) : Number.parseInt(letter, 36));
    for (let i = Number(times); i > 0; i--) mask.push(choice);
  }
  return mask;
}

export class CrashPoint {
  /** How many operations had been begun before it. */
  readonly operation: number;
  readonly sectorBytes: number;
  readonly model: CrashModel;
  readonly #root: Inode;
  readonly #states = new Map<Inode, InodeState>();
  readonly #seed: number;
  readonly #amid: AmidWrite | undefined;
  #atoms: readonly Atom[] | undefined;
  #order: readonly number[] | undefined;

  constructor(
    root: Inode,
    options: { operation: number; sectorBytes: number; model: CrashModel; seed: number; amid?: AmidWrite | undefined },
  ) {
    this.#root = root;
    this.operation = options.operation;
    this.sectorBytes = options.sectorBytes;
    this.model = options.model;
    this.#seed = options.seed;
    this.#amid = options.amid;
    this.#hold(root);
  }

  /** Keeps the state of everything that some choice can reach. */
  #hold(inode: Inode): void {
    if (this.#states.has(inode)) return;
    const { state } = inode;
    inode.shared = true;
    this.#states.set(inode, state);
    if (state.kind === "file") return;
    for (const child of state.names.values()) this.#hold(child);
    for (const cell of state.cells.values()) {
      if (cell.durable !== undefined) this.#hold(cell.durable);
      for (const { value } of cell.values) if (value !== undefined) this.#hold(value);
    }
  }

  /** What was not synced, in the order that masks are in. A kill loses none of it: its one atom is the write under way. */
  get atoms(): readonly Atom[] {
    this.#atoms ??= this.#listAtoms();
    return this.#atoms;
  }

  #listAtoms(): Atom[] {
    const atoms: Atom[] = [];
    if (this.model === "kill") {
      const amid = this.#amid;
      if (amid !== undefined) {
        atoms.push({ kind: "sector", inode: amid.inode, key: 0, stamps: [this.operation], silent: false });
      }
      return atoms;
    }
    const inodes = [...this.#states.keys()].sort((a, b) => a.id - b.id);
    for (const inode of inodes) {
      const state = this.#states.get(inode) as InodeState;
      if (state.kind === "directory") {
        for (const [name, cell] of state.cells) {
          const silent = cell.values.every(({ value }) => value === cell.durable);
          atoms.push({ kind: "name", inode, key: name, stamps: stampsOf(cell), silent });
        }
        continue;
      }
      if (state.sizes !== undefined) {
        atoms.push({ kind: "size", inode, key: 0, stamps: stampsOf(state.sizes), silent: false });
      }
      const numbers = [...state.cells.keys()].sort((a, b) => a - b);
      // Of zeros over nothing, as a log fills a file ahead, there may be thousands: the ends of each run stand for all.
      const isSilent = (number: number): boolean => {
        const cell = state.cells.get(number);
        return cell?.values.every(({ value }) => value === cell.durable) === true;
      };
      for (const number of numbers) {
        const silent = isSilent(number);
        if (silent && isSilent(number - 1) && isSilent(number + 1)) continue;
        const cell = state.cells.get(number) as SectorCell;
        atoms.push({ kind: "sector", inode, key: number, stamps: stampsOf(cell), silent });
      }
    }
    return atoms;
  }

  /** What the atom is called, for people: `000.seg[3]`, `000.seg size`, `name STATE`. */
  nameOf(atom: Atom): string {
    if (atom.kind === "name") return `name ${this.pathOf(atom.inode)}/${atom.key}`;
    if (this.model === "kill") return `${this.pathOf(atom.inode)} under way`;
    return atom.kind === "size" ? `${this.pathOf(atom.inode)} size` : `${this.pathOf(atom.inode)}[${atom.key}]`;
  }

  /** A path of an inode, by the names there were last; "" for the root and for what no name leads to any more. */
  pathOf(wanted: Inode): string {
    const visited = new Set<Inode>();
    const visit = (inode: Inode, path: string): string | undefined => {
      if (inode === wanted) return path;
      const state = this.#states.get(inode);
      if (state?.kind !== "directory" || visited.has(inode)) return undefined;
      visited.add(inode);
      for (const [name, child] of state.names) {
        const found = visit(child, `${path}/${name}`);
        if (found !== undefined) return found;
      }
      for (const [name, cell] of state.cells) {
        for (const child of [cell.durable, ...cell.values.map(({ value }) => value)]) {
          const found = child === undefined ? undefined : visit(child, `${path}/${name}`);
          if (found !== undefined) return found;
        }
      }
      return undefined;
    };
    return visit(this.#root, "") ?? "";
  }

  // ---- choosing

  /** The choices an atom has, its special ones left out. */
  #options(atom: Atom): number {
    if (this.model === "kill") return (this.#amid?.source.length ?? 0) + 1;
    return Math.min(atom.stamps.length, MOST_VALUES) + 1;
  }

  /**
   * The masks to look at, at most `limit`: all of them where they are few. Else nothing lost and everything lost, each atom
   * alone lost and alone kept, everything up to and everything from each operation on, then what `random` draws. Sectors
   * that were torn or hold garbage come on top of both.
   */
  masks(limit: number, random: Random): Generator<Mask> {
    if (this.model === "kill") return this.#killMasks(limit, random);
    if (this.model === "prefix") return this.#prefixMasks(limit, random);
    if (this.model === "ext4") return this.#journalMasks(limit, random);
    return this.#freeMasks(limit, random);
  }

  *#freeMasks(limit: number, random: Random): Generator<Mask> {
    const { atoms } = this;
    const free = this.#speaking();
    const newest = this.newest();
    let states = 1;
    for (const at of free) {
      states *= this.#options(atoms[at] as Atom);
      if (states > limit) break;
    }
    let given = 0;
    if (states <= limit) {
      const mask = newest.slice();
      for (const at of free) mask[at] = 0;
      for (; given < states; given++) {
        yield mask.slice();
        for (const at of free) {
          const next = (mask[at] as number) + 1;
          mask[at] = next < this.#options(atoms[at] as Atom) ? next : 0;
          if (mask[at] !== 0) break;
        }
      }
    } else {
      const nothing = newest.map((choice, at) => (atoms[at]?.silent === true ? choice : 0));
      yield newest;
      yield nothing;
      // Which of them come first is drawn, so that a small limit does not mean the same few each time.
      const borders: (() => Mask)[] = [];
      for (const at of free) {
        borders.push(() => newest.map((choice, i) => (i === at ? 0 : choice)));
        borders.push(() => nothing.map((choice, i) => (i === at ? (newest[i] as number) : choice)));
      }
      for (const moment of this.#moments()) {
        borders.push(() => atoms.map((atom) => upTo(atom, moment)));
        borders.push(() => newest.map((choice, i) => (upTo(atoms[i] as Atom, moment) === 0 ? choice : 0)));
      }
      shuffle(borders, random);
      for (const border of borders.slice(0, Math.floor(limit / 2))) yield border();
      given = 2 + Math.min(borders.length, Math.floor(limit / 2));
    }
    // By lot until the limit is reached; torn sectors and garbage, with the rest kept, lost or by lot, come on top of a few
    // states that were all looked at.
    const sectors = atoms.map((_, at) => at).filter((at) => atoms[at]?.kind === "sector");
    const specials = states <= limit ? Math.min(2 * sectors.length, limit) : limit - given;
    for (let i = 0; i < specials; i++) {
      const mask = this.#drawn(free, newest, random);
      if (sectors.length > 0 && (states <= limit || random.chance(0.5))) {
        const at = sectors[i < sectors.length ? i : random.below(sectors.length)] as number;
        mask[at] = random.pick(SPECIALS);
      }
      yield mask;
    }
  }

  #drawn(free: readonly number[], newest: readonly number[], random: Random): number[] {
    const bias = random.pick([0, 1, 1, 0.5, 0.8]);
    const mask = newest.slice();
    for (const at of free) {
      if (!random.chance(bias)) mask[at] = random.below(this.#options(this.atoms[at] as Atom));
    }
    return mask;
  }

  *#journalMasks(limit: number, random: Random): Generator<Mask> {
    const moments = [-1, ...this.#moments()];
    const overwritten = this.#overwritten();
    const newest = this.newest();
    for (let i = 0; i < limit; i++) {
      const moment = i < moments.length ? (moments[moments.length - 1 - i] as number) : random.pick(moments);
      const drawn = this.#drawn(overwritten, newest, random);
      yield this.atoms.map((atom, at) => (atom.kind === "sector" ? (drawn[at] as number) : upTo(atom, moment)));
      if (overwritten.length === 0 && i >= moments.length) return;
    }
  }

  *#killMasks(limit: number, random: Random): Generator<Mask> {
    const length = this.#amid?.source.length;
    if (length === undefined) {
      yield [];
      return;
    }
    // More often than chance would have it, the last bytes are what is missing.
    const cuts = new Set<number>([0, length - 1]);
    for (let i = 2; i < limit; i++)
      cuts.add(random.chance(0.3) ? Math.max(0, length - 1 - random.below(16)) : random.below(length));
    for (const cut of cuts) yield [cut];
  }

  *#prefixMasks(limit: number, random: Random): Generator<Mask> {
    const { atoms } = this;
    const moments = this.#moments();
    let given = 0;
    for (let i = -1; i < moments.length; i++) {
      if (moments.length >= limit && i >= 0 && i < moments.length - 1 && random.chance(1 - limit / moments.length)) {
        continue;
      }
      const moment = moments[i] ?? -1;
      const mask = atoms.map((atom) => upTo(atom, moment));
      yield mask;
      if (++given >= limit) return;
      // A write of several sectors ends amid them, the one at the edge torn.
      const within = atoms
        .map((_, at) => at)
        .filter((at) => atoms[at]?.kind === "sector" && atoms[at]?.stamps.includes(moment));
      if (within.length > 0) {
        const edge = random.below(within.length);
        const cut = mask.slice();
        for (const at of within.slice(edge)) cut[at] = upTo(atoms[at] as Atom, moments[i - 1] ?? -1);
        const torn = within[edge] as number;
        if (atoms[torn]?.stamps.at(-1) === moment) cut[torn] = TORN_NEW_FIRST;
        yield cut;
        if (++given >= limit) return;
      }
    }
  }

  /** The operations that made something here, in order. */
  #moments(): readonly number[] {
    this.#order ??= [...new Set(this.atoms.flatMap(({ stamps }) => stamps))].sort((a, b) => a - b);
    return this.#order;
  }

  /** The mask that loses nothing. */
  newest(): number[] {
    return this.atoms.map((atom) => this.#options(atom) - 1);
  }

  /** Is it a choice for what is unsynced here? One that was noted for another run mostly is not. */
  fits(mask: Mask): boolean {
    if (this.model === "kill") {
      const most = this.#amid?.source.length;
      return most === undefined ? mask.length === 0 : mask.length === 1 && (mask[0] as number) <= most;
    }
    if (mask.length !== this.atoms.length) return false;
    return this.atoms.every((atom, at) => {
      const choice = mask[at] as number;
      return (
        choice < this.#options(atom) || (atom.kind === "sector" && (SPECIALS as readonly number[]).includes(choice))
      );
    });
  }

  #speaking(): number[] {
    return this.atoms.map((_, at) => at).filter((at) => this.atoms[at]?.silent === false);
  }

  /** The sectors that stood on disk before they were written again: no journal orders those. */
  #overwritten(): number[] {
    return this.#speaking().filter((at) => {
      const { kind, inode, key } = this.atoms[at] as Atom;
      if (kind !== "sector") return false;
      const { sizes, size } = this.#states.get(inode) as FileState;
      return ((key as number) + 1) * this.sectorBytes <= (sizes === undefined ? size : sizes.durable);
    });
  }

  // ---- what a choice leaves

  /** The tree that this choice leaves; every byte of it is durable. */
  image(mask: Mask): TreeImage {
    const made = new Map<Inode, Inode>();
    const chosen = new Map<Inode, { size: number; sectors: Map<number, number>; names: Map<string, number> }>();
    this.atoms.forEach((atom, at) => {
      if (this.model === "kill") return;
      let of = chosen.get(atom.inode);
      if (of === undefined) {
        of = { size: -1, sectors: new Map(), names: new Map() };
        chosen.set(atom.inode, of);
      }
      const choice = mask[at] ?? 0;
      if (atom.kind === "size") of.size = choice;
      else if (atom.kind === "name") of.names.set(atom.key as string, choice);
      else of.sectors.set(atom.key as number, choice);
    });
    const above = new Set<Inode>();
    const build = (inode: Inode): Inode => {
      const found = made.get(inode);
      if (found !== undefined) return found;
      const state = this.#states.get(inode) as InodeState;
      const copy = new Inode(inode.id, state.kind === "file" ? emptyFile() : emptyDirectory());
      copy.path = inode.path;
      made.set(inode, copy);
      const of = chosen.get(inode);
      if (state.kind === "file") {
        copy.state = this.#fileOf(inode, state, of?.size ?? -1, of?.sectors, mask);
        // It may be the point's own state, or have its sectors.
        copy.shared = true;
      } else {
        const target = copy.state as DirectoryState;
        above.add(inode);
        for (const [name, child] of namesOf(state, of?.names)) {
          // Directories that went into each other by turns would hold each other: a check of the disk cuts that knot.
          if (!above.has(child)) target.names.set(name, build(child));
        }
        above.delete(inode);
      }
      return copy;
    };
    const root = build(this.#root);
    return { root, digest: digestTree(root, this.sectorBytes) };
  }

  #fileOf(
    inode: Inode,
    state: FileState,
    sizeChoice: number,
    choices: ReadonlyMap<number, number> | undefined,
    mask: Mask,
  ): FileState {
    if (this.model === "kill") {
      const kept: FileState = { ...state, cells: new Map(), sizes: undefined, digest: state.digest };
      if (this.#amid?.inode !== inode || (mask[0] ?? 0) === 0) return kept;
      kept.sectors = kept.sectors.slice();
      kept.digest = 0;
      writeFile(kept, this.sectorBytes, this.#amid.source, 0, mask[0] as number, this.#amid.position, 0);
      kept.cells = new Map();
      kept.sizes = undefined;
      return kept;
    }
    if (state.cells.size === 0 && state.sizes === undefined) return state;
    const file: FileState = {
      kind: "file",
      sectors: state.sectors.slice(),
      size: state.size,
      cells: new Map(),
      sizes: undefined,
      digest: 0,
    };
    const zero = zeroSector(this.sectorBytes);
    if (state.sizes !== undefined && sizeChoice >= 0) file.size = valueAt(state.sizes, sizeChoice);
    for (const [number, choice] of choices ?? []) {
      const cell = state.cells.get(number) as SectorCell;
      for (let i = file.sectors.length; i < number; i++) file.sectors.push(zero);
      file.sectors[number] = this.#sectorOf(inode, number, cell, choice);
    }
    // What lies beyond the size that was chosen is not there, whatever becomes of the file later.
    const count = Math.ceil(file.size / this.sectorBytes);
    if (file.sectors.length > count) file.sectors.length = count;
    const inside = file.size % this.sectorBytes;
    const edge = file.sectors[count - 1];
    if (inside !== 0 && edge !== undefined && edge.bytes.subarray(inside).some((byte) => byte !== 0)) {
      const bytes = edge.bytes.slice();
      bytes.fill(0, inside);
      file.sectors[count - 1] = { bytes, digest: 0 };
    }
    return file;
  }

  #sectorOf(inode: Inode, number: number, cell: SectorCell, choice: number): Sector {
    if (choice < TORN_NEW_FIRST) return valueAt(cell, choice);
    const last = cell.values[cell.values.length - 1] as SectorValue;
    const before = cell.values.length > 1 ? (cell.values[cell.values.length - 2] as SectorValue).value : cell.durable;
    const random = new Random(seedOf(this.#seed, seedOf(inode.id * 4096 + number, last.stamp)));
    const bytes = before.bytes.slice();
    const cut = last.from + 1 + random.below(Math.max(1, last.to - last.from - 1));
    if (choice === TORN_NEW_FIRST) bytes.set(last.value.bytes.subarray(last.from, cut), last.from);
    else if (choice === TORN_OLD_FIRST) bytes.set(last.value.bytes.subarray(cut, last.to), cut);
    else random.fill(bytes, last.from, last.to);
    return { bytes, digest: 0 };
  }
}

function shuffle<T>(list: T[], random: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
}

function stampsOf<T, V extends Stamped<T>>(cell: Cell<T, V>): number[] {
  return cell.values.map(({ stamp }) => stamp);
}

/** The choice that keeps of an atom what was made of it up to operation `moment`. */
function upTo(atom: Atom, moment: number): number {
  let choice = 0;
  while (choice < atom.stamps.length && (atom.stamps[choice] as number) <= moment) choice++;
  if (choice === atom.stamps.length) return Math.min(choice, MOST_VALUES);
  // The last choice stands for the last value: what is between is no choice, and the one before it has to do.
  return Math.min(choice, MOST_VALUES - 1);
}

function valueAt<T, V extends Stamped<T>>(cell: Cell<T, V>, choice: number): T {
  if (choice === 0) return cell.durable;
  // With more values than choices the last choice is the last value.
  const at = choice >= MOST_VALUES ? cell.values.length - 1 : choice - 1;
  return (cell.values[Math.min(at, cell.values.length - 1)] as V).value;
}

function namesOf(state: DirectoryState, choices: ReadonlyMap<string, number> | undefined): Map<string, Inode> {
  if (choices === undefined || choices.size === 0) return state.names;
  const names = new Map(state.names);
  for (const [name, choice] of choices) {
    const inode = valueAt(state.cells.get(name) as Cell<Inode | undefined>, choice);
    if (inode === undefined) names.delete(name);
    else names.set(name, inode);
  }
  return names;
}
