// What stands on a simulated disk: inodes with their sectors, sizes and names, each as a cell that keeps what is durable
// apart from what was written since. sim-disk.ts changes it, crash-point.ts chooses what a crash leaves of it. Knows nothing
// of handles, faults and time.
//
// A cell is one thing that reaches the disk as a whole or not at all: a sector of a file, a file's size, one name of a
// directory. Nothing orders cells among each other: that is the strict reading of POSIX, and other models choose fewer of
// the same states.

/** Bytes of one sector. Never changed once made: writing makes another, so that crash states share what they have in common. */
export interface Sector {
  readonly bytes: Uint8Array;
  /** digest of the bytes; 0 until somebody asks. */
  digest: number;
}

/** What a write put into a sector. */
export interface SectorValue {
  readonly value: Sector;
  /** The operation that wrote it. */
  readonly stamp: number;
  /** The range of the sector that it wrote; what is outside was there before. */
  readonly from: number;
  readonly to: number;
}

export interface Stamped<T> {
  readonly value: T;
  readonly stamp: number;
}

/**
 * One thing with what it durably is and what it was made since, oldest first. A crash may leave any of them.
 * `dirty` false: a sync failed on it. Its pages are clean, no later sync writes them, and only a further write makes it
 * dirty again.
 */
export interface Cell<T, V extends Stamped<T> = Stamped<T>> {
  readonly durable: T;
  readonly values: readonly V[];
  readonly dirty: boolean;
}

export type SectorCell = Cell<Sector, SectorValue>;

/** A file's contents. `sectors` may be shorter than the size: what is missing is zero. */
export interface FileState {
  readonly kind: "file";
  sectors: Sector[];
  size: number;
  /** The sectors that differ, or may, from what is durable; by their number. */
  cells: Map<number, SectorCell>;
  sizes: Cell<number> | undefined;
  /** digest of the contents as they are now; 0 until somebody asks. */
  digest: number;
}

export interface DirectoryState {
  readonly kind: "directory";
  names: Map<string, Inode>;
  cells: Map<string, Cell<Inode | undefined>>;
}

export type InodeState = FileState | DirectoryState;

/** A file or directory. Its state is replaced, not changed, once a crash point holds it. */
export class Inode {
  readonly id: number;
  state: InodeState;
  /** The path it was given last; kept when the name is removed. For the trace and for faults. */
  path: string | undefined;
  /** A crash point refers to the state. */
  shared = false;

  constructor(id: number, state: InodeState) {
    this.id = id;
    this.state = state;
  }

  get isFile(): boolean {
    return this.state.kind === "file";
  }

  /** The state, for changing it. */
  fileForWrite(): FileState {
    let state = this.state as FileState;
    if (this.shared) {
      state = { ...state, sectors: state.sectors.slice(), cells: new Map(state.cells) };
      this.state = state;
      this.shared = false;
    }
    state.digest = 0;
    return state;
  }

  /** The state, for changing it. */
  directoryForWrite(): DirectoryState {
    let state = this.state as DirectoryState;
    if (this.shared) {
      state = { kind: "directory", names: new Map(state.names), cells: new Map(state.cells) };
      this.state = state;
      this.shared = false;
    }
    return state;
  }
}

export function emptyFile(): FileState {
  return { kind: "file", sectors: [], size: 0, cells: new Map(), sizes: undefined, digest: 0 };
}

export function emptyDirectory(): DirectoryState {
  return { kind: "directory", names: new Map(), cells: new Map() };
}

const zeros = new Map<number, Sector>();

/** The sector of that many zeros; the same object each time. */
export function zeroSector(bytes: number): Sector {
  let sector = zeros.get(bytes);
  if (sector === undefined) {
    sector = { bytes: new Uint8Array(bytes), digest: 0 };
    zeros.set(bytes, sector);
  }
  return sector;
}

function isZero(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  if ((bytes.byteOffset + start) % 4 === 0) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + start, (end - start) >> 2);
    for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
    at += words.length * 4;
  }
  for (; at < end; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** Writes [start, end) of `source` at `position`; the file grows to hold it. */
export function writeFile(
  state: FileState,
  sectorBytes: number,
  source: Uint8Array,
  start: number,
  end: number,
  position: number,
  stamp: number,
): void {
  if (start === end) return;
  const zero = zeroSector(sectorBytes);
  const after = position + end - start;
  let from = position;
  let at = start;
  for (let number = Math.floor(position / sectorBytes); from < after; number++) {
    const base = number * sectorBytes;
    const to = Math.min(after, base + sectorBytes);
    const bytes = to - from;
    const old = state.sectors[number] ?? zero;
    let value: Sector;
    if (bytes === sectorBytes) {
      // Its first byte tells most sectors from zeros.
      value =
        source[at] === 0 && isZero(source, at, at + bytes) ? zero : { bytes: source.slice(at, at + bytes), digest: 0 };
    } else {
      const next = old.bytes.slice();
      next.set(source.subarray(at, at + bytes), from - base);
      value = { bytes: next, digest: 0 };
    }
    putSector(state, zero, number, { value, stamp, from: from - base, to: to - base });
    at += bytes;
    from = to;
  }
  if (after > state.size) putSize(state, after, stamp);
}

function putSector(state: FileState, zero: Sector, number: number, next: SectorValue): void {
  const old = state.sectors[number] ?? zero;
  const cell = state.cells.get(number);
  state.cells.set(number, {
    durable: cell === undefined ? old : cell.durable,
    values: cell === undefined ? [next] : [...cell.values, next],
    dirty: true,
  });
  for (let i = state.sectors.length; i < number; i++) state.sectors.push(zero);
  state.sectors[number] = next.value;
}

function putSize(state: FileState, size: number, stamp: number): void {
  const cell = state.sizes;
  state.sizes = {
    durable: cell === undefined ? state.size : cell.durable,
    values: [...(cell?.values ?? []), { value: size, stamp }],
    dirty: true,
  };
  state.size = size;
}

/** Cuts or extends to `size`; what comes into being by that is zero. */
export function truncateFile(state: FileState, sectorBytes: number, size: number, stamp: number): void {
  if (size === state.size) return;
  const zero = zeroSector(sectorBytes);
  if (size < state.size) {
    const first = Math.ceil(size / sectorBytes);
    for (let number = first; number < state.sectors.length; number++) {
      if (state.sectors[number] !== zero) {
        putSector(state, zero, number, { value: zero, stamp, from: 0, to: sectorBytes });
      }
    }
    const inside = size % sectorBytes;
    const edge = Math.floor(size / sectorBytes);
    const old = state.sectors[edge];
    if (inside !== 0 && old !== undefined && !isZero(old.bytes, inside, sectorBytes)) {
      const bytes = old.bytes.slice();
      bytes.fill(0, inside);
      putSector(state, zero, edge, { value: { bytes, digest: 0 }, stamp, from: inside, to: sectorBytes });
    }
  }
  putSize(state, size, stamp);
}

/** Reads into [start, end) of `target` from `position`; gives the bytes read. */
export function readFile(
  state: FileState,
  sectorBytes: number,
  target: Uint8Array,
  start: number,
  end: number,
  position: number,
): number {
  const bytes = Math.max(0, Math.min(end - start, state.size - position));
  const after = position + bytes;
  let at = start;
  let from = position;
  for (let number = Math.floor(position / sectorBytes); from < after; number++) {
    const base = number * sectorBytes;
    const to = Math.min(after, base + sectorBytes);
    const sector = state.sectors[number];
    if (sector === undefined) target.fill(0, at, at + to - from);
    else if (to - from === sectorBytes) target.set(sector.bytes, at);
    else target.set(sector.bytes.subarray(from - base, to - base), at);
    at += to - from;
    from = to;
  }
  return bytes;
}

/** What is left to choose of a cell once everything up to `stamp` is durable; undefined when nothing is. */
function settle<T, V extends Stamped<T>>(cell: Cell<T, V>, stamp: number): Cell<T, V> | undefined {
  if (!cell.dirty) return cell;
  let kept = cell.values.length;
  while (kept > 0 && (cell.values[kept - 1] as V).stamp > stamp) kept--;
  if (kept === 0) return cell;
  if (kept === cell.values.length) return undefined;
  return { durable: (cell.values[kept - 1] as V).value, values: cell.values.slice(kept), dirty: true };
}

function settleAll<K, T, V extends Stamped<T>>(cells: Map<K, Cell<T, V>>, stamp: number): void {
  for (const [key, cell] of cells) {
    const left = settle(cell, stamp);
    if (left === undefined) cells.delete(key);
    else if (left !== cell) cells.set(key, left);
  }
}

/** A sync that was asked for at `stamp` has returned. */
export function syncFile(state: FileState, stamp: number): void {
  settleAll(state.cells, stamp);
  if (state.sizes !== undefined) state.sizes = settle(state.sizes, stamp);
}

export function syncDirectory(state: DirectoryState, stamp: number): void {
  settleAll(state.cells, stamp);
}

function clean<K, T, V extends Stamped<T>>(cells: Map<K, Cell<T, V>>): void {
  for (const [key, cell] of cells) cells.set(key, { ...cell, dirty: false });
}

/** A sync has failed and left its pages clean: what it was to write may have been written, and no later sync will. */
export function abandonFile(state: FileState): void {
  clean(state.cells);
  if (state.sizes !== undefined) state.sizes = { ...state.sizes, dirty: false };
}

export function abandonDirectory(state: DirectoryState): void {
  clean(state.cells);
}

/** A sync has failed and thrown away what was not written: the file is as it durably was. */
export function revertFile(state: FileState): void {
  for (const [number, cell] of state.cells) state.sectors[number] = cell.durable;
  if (state.sizes !== undefined) state.size = state.sizes.durable;
  abandonFile(state);
}

/** Gives a name of the directory to `inode`, or takes it away. */
export function setName(state: DirectoryState, name: string, inode: Inode | undefined, stamp: number): void {
  const cell = state.cells.get(name);
  state.cells.set(name, {
    durable: cell === undefined ? state.names.get(name) : cell.durable,
    values: [...(cell?.values ?? []), { value: inode, stamp }],
    dirty: true,
  });
  if (inode === undefined) state.names.delete(name);
  else state.names.set(name, inode);
}

// ---- digests: two lanes of 32 bits, mixed and joined to 53, so that a million states are told apart

/** The next state of a lane after it has taken in `word`: no two words are the same to it, whatever came before. */
function mix(lane: number, word: number): number {
  let h = Math.imul(lane ^ word, 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x85ebca6b);
  return h ^ (h >>> 13);
}

/** Joins two numbers of up to 53 bits, in this order. */
export function join53(a: number, b: number): number {
  const aHigh = Math.floor(a / 4294967296) | 0;
  const bHigh = Math.floor(b / 4294967296) | 0;
  const low = mix(mix(mix(mix(0x243f6a88, a | 0), aHigh), b | 0), bHigh);
  const high = mix(mix(mix(mix(0x13198a2e, bHigh), a | 0), b | 0), aHigh);
  return (low >>> 0) + (high & 0x1fffff) * 4294967296;
}

/** Words are read as they stand in memory where that is the little-endian way, and put together byte by byte elsewhere. */
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** 53 bits that stand for these bytes. */
export function digestBytes(bytes: Uint8Array): number {
  let low = 0x811c9dc5 ^ bytes.length;
  let high = 0x41c6ce57;
  const words = bytes.length >> 2;
  if (LITTLE_ENDIAN && bytes.byteOffset % 4 === 0) {
    const view = new Uint32Array(bytes.buffer, bytes.byteOffset, words);
    for (let i = 0; i < words; i++) {
      const word = view[i] as number;
      low = Math.imul(low ^ word, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ word, 0x85ebca6b) + low;
    }
    for (let i = words * 4; i < bytes.length; i++) low = Math.imul(low ^ (bytes[i] as number), 0x01000193);
  } else {
    for (let i = 0; i + 4 <= bytes.length; i += 4) {
      const b = bytes as Record<number, number>;
      const word =
        (b[i] as number) | ((b[i + 1] as number) << 8) | ((b[i + 2] as number) << 16) | ((b[i + 3] as number) << 24);
      low = Math.imul(low ^ word, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ word, 0x85ebca6b) + low;
    }
    for (let i = words * 4; i < bytes.length; i++) low = Math.imul(low ^ (bytes[i] as number), 0x01000193);
  }
  return join53(low, high);
}

/** 53 bits that stand for this text. */
export function digestText(text: string): number {
  let low = 0x811c9dc5;
  let high = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x9e3779b1);
    high = Math.imul(high ^ low, 0x85ebca6b);
  }
  return join53(low, high);
}

export function digestSector(sector: Sector): number {
  if (sector.digest === 0) sector.digest = digestBytes(sector.bytes) || 1;
  return sector.digest;
}

/** 53 bits that stand for the contents of a file, as they are now. */
export function digestFile(state: FileState, sectorBytes: number): number {
  if (state.digest !== 0) return state.digest;
  const zero = zeroSector(sectorBytes);
  let digest = state.size + 1;
  const count = Math.ceil(state.size / sectorBytes);
  for (let i = 0; i < count; i++) digest = join53(digest, digestSector(state.sectors[i] ?? zero));
  state.digest = digest || 1;
  return state.digest;
}

/** 53 bits that stand for a whole tree; the order of names does not count. */
export function digestTree(inode: Inode, sectorBytes: number): number {
  const { state } = inode;
  if (state.kind === "file") return digestFile(state, sectorBytes);
  let low = state.names.size;
  let high = 0;
  for (const [name, child] of state.names) {
    const digest = join53(digestText(name), digestTree(child, sectorBytes));
    low = (low + digest) | 0;
    high = (high + Math.floor(digest / 4294967296)) | 0;
  }
  return join53(low >>> 0, high >>> 0);
}
