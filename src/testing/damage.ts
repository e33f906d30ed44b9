// Damage as data, and the judge of what a log makes of it. A Damage says what happened to the files of a log's directory (a
// flipped bit, a lost write, a segment of another log); applyDamage() makes it happen to a copy of them; judge() opens a
// FileStorage over the result, reads all of it and says whether that was right. Used by mutations.ts, by test/damage, and
// by whoever wants to know what becomes of his own log.
//
// What is right: an error with a code that names the damaged place, open() having changed nothing when it refused; or the
// same data as before. Never other data, never an error of another kind. One loss is allowed: saves that nothing vouches
// for any more (docs/DURABILITY.md, "The undecidable case"), which judge() works out from the undamaged bytes: never when
// a watermark, a later frame or STATE's name of the segment is left that covers them, never to one flipped bit.

import { AssertionError, assert } from "../base/assert.js";
import { equalBytes, getU64, viewOf } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import type { DiskFile } from "../disk/disk.js";
import { MemoryDisk } from "../disk/memory-disk.js";
import { systemError } from "../disk/system-error.js";
import type { Storage, WritableStorage } from "../raft/storage.js";
import type { ConfState, Entry, HardState, Snapshot } from "../raftpb/types.js";
import { FileStorage, type FileStorageOptions } from "../storage/file-storage.js";
import { MemoryStorage } from "../storage/memory-storage.js";
import { isSnapshotName, snapshotName } from "../storage/snapshot-file.js";
import * as f from "../wal/format.js";
import { checkFrame, emptyPart, frameBytesAt, readPart, segmentIdentity } from "../wal/frame.js";
import { parseIndexName, parseSegmentName, STATE_NAME, segmentName } from "../wal/segment-name.js";
import { parseState } from "../wal/state-file.js";
import { Random } from "./random.js";

/** The files of a log's directory: name to bytes. */
export type Files = ReadonlyMap<string, Uint8Array>;

/** What happened to the files of a directory. Offsets and lengths are bytes; a bit is counted from the file's first one. */
export type Damage =
  | { readonly kind: "flip"; readonly file: string; readonly bits: readonly number[] }
  | { readonly kind: "cut"; readonly file: string; readonly length: number }
  /** `seed` undefined: with zeros, else with what Random makes of it. */
  | { readonly kind: "extend"; readonly file: string; readonly bytes: number; readonly seed: number | undefined }
  | { readonly kind: "zero"; readonly file: string; readonly from: number; readonly to: number }
  | {
      readonly kind: "garbage";
      readonly file: string;
      readonly from: number;
      readonly to: number;
      readonly seed: number;
    }
  /** Two files have each other's names. */
  | { readonly kind: "swap"; readonly file: string; readonly other: string }
  /** A file stands under a second name; what stood there is gone. */
  | { readonly kind: "copy"; readonly file: string; readonly as: string }
  | { readonly kind: "remove"; readonly file: string }
  /** Bytes of a file turn up in another place, of this file or another: misdirected, stale or moved frames. */
  | {
      readonly kind: "misdirect";
      readonly from: string;
      readonly fromOffset: number;
      readonly bytes: Uint8Array;
      readonly file: string;
      readonly offset: number;
    }
  /** A write that never reached the disk: the range holds what it held before (zeros beyond `bytes`). */
  | { readonly kind: "lost"; readonly file: string; readonly from: number; readonly bytes: Uint8Array }
  /** The whole file is of an earlier moment of this log, or of another log. */
  | { readonly kind: "stale" | "foreign"; readonly file: string; readonly bytes: Uint8Array }
  /** Somebody wrote these bytes on purpose, under checksums that hold: no data is promised then, only manners. */
  | { readonly kind: "forged"; readonly file: string; readonly bytes: Uint8Array; readonly what: string };

/** A range [from, to) of a file. */
export interface Range {
  readonly file: string;
  readonly from: number;
  readonly to: number;
}

/** One line that says what happened. */
export function describeDamage(damage: Damage): string {
  const { kind, file } = damage;
  switch (kind) {
    case "flip":
      return damage.bits.length === 1
        ? `flip ${file} bit ${damage.bits[0]}`
        : `flip ${file} bits ${damage.bits.join(" ")}`;
    case "cut":
      return `cut ${file} to ${damage.length}`;
    case "extend":
      return `extend ${file} by ${damage.bytes} ${damage.seed === undefined ? "zeros" : `of garbage ${damage.seed}`}`;
    case "zero":
      return `zero ${file} [${damage.from}, ${damage.to})`;
    case "garbage":
      return `fill ${file} [${damage.from}, ${damage.to}) with garbage ${damage.seed}`;
    case "swap":
      return `swap ${file} with ${damage.other}`;
    case "copy":
      return `copy ${file} as ${damage.as}`;
    case "remove":
      return `remove ${file}`;
    case "misdirect":
      return `put ${damage.bytes.length} bytes of ${damage.from} at ${damage.fromOffset} to ${file} at ${damage.offset}`;
    case "lost":
      return `lose the write of ${file} [${damage.from}, ${damage.from + damage.bytes.length})`;
    case "stale":
      return `put an old ${file} of ${damage.bytes.length} bytes back`;
    case "foreign":
      return `put another log's file of ${damage.bytes.length} bytes as ${file}`;
    case "forged":
      return `forge ${file}: ${damage.what}`;
  }
}

/** The ranges that the damage may have changed in `files`, the files before it. A file that goes or comes is touched whole. */
export function touchedBy(files: Files, damage: Damage): Range[] {
  const { file } = damage;
  const size = files.get(file)?.length ?? 0;
  const whole = (name: string, bytes = 0): Range => ({
    file: name,
    from: 0,
    to: Math.max(1, bytes, files.get(name)?.length ?? 0),
  });
  switch (damage.kind) {
    case "flip":
      return damage.bits.map((bit) => ({ file, from: Math.floor(bit / 8), to: Math.floor(bit / 8) + 1 }));
    case "cut":
      return [{ file, from: Math.min(size, damage.length), to: Math.max(size, damage.length) }];
    case "extend":
      return [{ file, from: size, to: size + damage.bytes }];
    case "zero":
    case "garbage":
      return [{ file, from: damage.from, to: damage.to }];
    case "misdirect":
      return [{ file, from: damage.offset, to: damage.offset + damage.bytes.length }];
    case "lost":
      return [{ file, from: damage.from, to: damage.from + damage.bytes.length }];
    case "swap":
      return [whole(file, files.get(damage.other)?.length), whole(damage.other, size)];
    case "copy":
      return [whole(damage.as, size)];
    case "remove":
      return [whole(file)];
    case "stale":
    case "foreign":
    case "forged":
      return [whole(file, damage.bytes.length)];
  }
}

/** A copy of `files` with the damage done, one after the other; files that no damage touches are shared. */
export function applyDamage(files: Files, ...damages: readonly Damage[]): Map<string, Uint8Array> {
  const after = new Map(files);
  for (const damage of damages) applyOne(after, damage);
  return after;
}

function applyOne(files: Map<string, Uint8Array>, damage: Damage): void {
  const { file } = damage;
  const bytes = files.get(file) ?? new Uint8Array(0);
  /** The file's bytes, to change: at least `least` of them. */
  const changed = (least = 0): Uint8Array => {
    const copy = new Uint8Array(Math.max(bytes.length, least));
    copy.set(bytes);
    files.set(file, copy);
    return copy;
  };
  switch (damage.kind) {
    case "flip": {
      const target = changed();
      for (const bit of damage.bits) {
        const at = Math.floor(bit / 8);
        if (at < target.length) target[at] = (target[at] as number) ^ (1 << (bit % 8));
      }
      return;
    }
    case "cut":
      files.set(file, bytes.slice(0, damage.length));
      return;
    case "extend": {
      const target = changed(bytes.length + damage.bytes);
      if (damage.seed !== undefined) new Random(damage.seed).fill(target, bytes.length);
      return;
    }
    case "zero":
      changed().fill(0, damage.from, damage.to);
      return;
    case "garbage": {
      const target = changed();
      new Random(damage.seed).fill(target, damage.from, Math.min(target.length, damage.to));
      return;
    }
    case "misdirect":
      changed(damage.offset + damage.bytes.length).set(damage.bytes, damage.offset);
      return;
    case "lost":
      changed(damage.from + damage.bytes.length).set(damage.bytes, damage.from);
      return;
    case "swap": {
      const other = files.get(damage.other);
      if (other === undefined) files.delete(file);
      else files.set(file, other);
      files.set(damage.other, bytes);
      return;
    }
    case "copy":
      files.set(damage.as, bytes);
      return;
    case "remove":
      files.delete(file);
      return;
    case "stale":
    case "foreign":
    case "forged":
      files.set(file, damage.bytes);
      return;
  }
}

// ---- what stands where

/** A piece of an undamaged file that stands or falls as one: what an error about it may name. */
export interface Extent extends Range {
  /** `rest`: zeros or dead bytes behind a segment's end. `other`: an index, a spare, a name that is not ours. */
  readonly kind: "head" | "frame" | "rest" | "identity" | "watermark" | "snapshot" | "other";
  /** Bytes in it that stand for nothing: padding, and what is behind a slot's fields. */
  readonly unread: readonly { readonly from: number; readonly to: number }[];
  /** Of a head or frame: its segment, its own sequence, and the one that it says was durable. Of a slot: what it names. */
  readonly generation: number;
  readonly sequence: number;
  readonly durable: number;
}

/** The extents of the files of an undamaged directory, in the order of their places; segments in that of their generations. */
export function layoutOf(files: Files): Extent[] {
  const extents: Extent[] = [];
  const segments: [number, string][] = [];
  const none = { unread: [], generation: 0, sequence: 0, durable: 0 };
  for (const [file, bytes] of files) {
    const generation = parseSegmentName(file);
    if (generation !== undefined) segments.push([generation, file]);
    else if (file === STATE_NAME) extents.push(...slotsOf(bytes));
    else if (isSnapshotName(file) && !file.endsWith(".tmp")) extents.push(...chunksOf(file, bytes));
    else extents.push({ file, kind: "other", from: 0, to: bytes.length, ...none });
  }
  segments.sort(([a], [b]) => a - b);
  const ends = new Map<number, number>();
  for (const [, file] of segments) {
    const view = viewOf(files.get(file) as Uint8Array);
    if (view.byteLength < f.HEADER_BYTES + f.LINK_BYTES) continue;
    const link = f.HEADER_BYTES;
    ends.set(getU64(view, link + f.L_PREV_GENERATION), getU64(view, link + f.L_PREV_END));
  }
  for (const [generation, file] of segments) {
    extents.push(...framesOf(file, generation, files.get(file) as Uint8Array, ends.get(generation)));
  }
  return extents;
}

function slotsOf(bytes: Uint8Array): Extent[] {
  const view = viewOf(bytes);
  const slots: Extent[] = [];
  for (let from = 0; from < bytes.length; ) {
    const identity = from < f.WATERMARK_AT;
    const to = Math.min(bytes.length, from + (identity ? f.IDENTITY_SLOT_BYTES : f.WATERMARK_SLOT_BYTES));
    const fields = identity ? f.I_METADATA + view.getUint32(from + f.I_METADATA_BYTES, true) : f.WATERMARK_BYTES;
    slots.push({
      file: STATE_NAME,
      kind: identity ? "identity" : "watermark",
      from,
      to,
      unread: [{ from: from + fields, to }],
      generation: getU64(view, from + (identity ? f.I_NEWEST : f.W_GENERATION)),
      sequence: identity ? 0 : getU64(view, from + f.W_SEQUENCE),
      durable: 0,
    });
    from = to;
  }
  return slots;
}

/** Head, chunks and end of a snapshot file (src/storage/snapshot-file.ts). */
function chunksOf(file: string, bytes: Uint8Array): Extent[] {
  const view = viewOf(bytes);
  const pieces: Extent[] = [];
  let from = 0;
  let to = Math.ceil((32 + view.getUint32(12, true)) / 8) * 8;
  while (from < to && to <= bytes.length) {
    pieces.push({ file, kind: "snapshot", from, to, unread: [], generation: 0, sequence: 0, durable: 0 });
    from = to;
    if (from + 8 > bytes.length) break;
    const length = view.getUint32(from, true);
    to = from + (length === 0xffffffff ? 16 : 8 + length);
  }
  return pieces;
}

function framesOf(file: string, generation: number, bytes: Uint8Array, recordedEnd: number | undefined): Extent[] {
  const view = viewOf(bytes);
  const frames: Extent[] = [];
  const end = recordedEnd ?? bytes.length;
  const logId = bytes.subarray(f.HEADER_BYTES, f.HEADER_BYTES + 16);
  let at = 0;
  while (at < end && logId.length === 16) {
    const kind = at === 0 ? f.KIND_HEAD : f.KIND_FRAME;
    const identity = segmentIdentity(logId, generation);
    const expected = { identity, kind, offset: at, sequence: undefined, chain: undefined };
    if (checkFrame(bytes, view, at, expected) !== "valid") break;
    const to = at + frameBytesAt(view, at);
    frames.push({
      file,
      kind: at === 0 ? "head" : "frame",
      from: at,
      to,
      unread: paddingOf(view, at, to),
      generation,
      sequence: getU64(view, at + f.H_SEQUENCE),
      durable: getU64(view, at + f.H_DURABLE),
    });
    at = to;
  }
  if (at < bytes.length) {
    const unread = [{ from: at, to: bytes.length }];
    frames.push({ file, kind: "rest", from: at, to: bytes.length, unread, generation, sequence: 0, durable: 0 });
  }
  return frames;
}

/** The padding of the valid frame in [at, to): of its blocks, and of its body. */
function paddingOf(view: DataView, at: number, to: number): { from: number; to: number }[] {
  const part = emptyPart();
  assert(readPart(view, at, part), `the frame at ${at} contradicts itself`);
  const padding: { from: number; to: number }[] = [];
  let block = part.recordsAt;
  for (let i = 0; i < part.blocks; i++) {
    const end = block + f.BLOCK_BYTES + view.getUint32(part.directoryAt + i * f.DIRECTORY_BYTES, true);
    block = Math.ceil(end / 8) * 8;
    if (end < block) padding.push({ from: end, to: block });
  }
  const bodyEnd = at + f.HEADER_BYTES + view.getUint32(at + f.H_BODY_BYTES, true);
  if (bodyEnd < to - f.TRAILER_BYTES) padding.push({ from: bodyEnd, to: to - f.TRAILER_BYTES });
  return padding;
}

// ---- specimens

/** Everything that a storage says. */
export interface Contents {
  readonly first: number;
  readonly last: number;
  readonly hardState: HardState;
  readonly confState: ConfState;
  readonly entries: readonly Entry[];
  /** Of the indexes from first - 1 to last. */
  readonly terms: readonly number[];
  readonly snapshot: Snapshot;
}

/** A state that the log went through: after the save whose frame has this sequence. */
export interface PastState {
  readonly sequence: number;
  readonly contents: Contents;
}

/** An undamaged log, with what is known of it: what judge() holds a damaged copy against. */
export interface Specimen {
  readonly name: string;
  readonly files: Files;
  readonly layout: readonly Extent[];
  /** Oldest first; the last one is what the log holds. */
  readonly history: readonly PastState[];
  /** What the files were at earlier moments, oldest first: for stale files and lost writes. */
  readonly moments: readonly Files[];
}

/** The directory that every log of this file stands in, on a disk of its own. */
const DIR = "/log";
/** As judge() opens: the smallest segments, nothing cached, so that every read is one of the damaged bytes. */
const OPTIONS = { segmentBytes: f.MIN_SEGMENT_BYTES, cacheBytes: 0, sync: "inline" } as const;

/** One change of a log: made on a FileStorage and on the MemoryStorage that is its model. */
export type Step = (storage: WritableStorage) => Promise<unknown>;

/** What growLog() leaves. */
export interface GrownLog {
  /** As a killed process leaves it after each burst; the last one is that of the whole log. */
  readonly moments: readonly Files[];
  /** After close(). */
  readonly closed: Files;
  readonly history: readonly PastState[];
}

/**
 * Grows a log on a MemoryDisk of `seed` (another seed, another log): the steps of a burst are called together, each makes
 * one frame; "reopen" closes and opens. What the log holds after each step is taken from a MemoryStorage.
 * @throws AssertionError when the log holds anything else in the end.
 */
export async function growLog(
  bursts: readonly (readonly Step[] | "reopen")[],
  options: FileStorageOptions & { readonly seed?: number | undefined } = {},
): Promise<GrownLog> {
  const { seed, ...own } = options;
  const disk = new MemoryDisk({ seed });
  const open = (): Promise<FileStorage> => FileStorage.open(DIR, { ...OPTIONS, ...own, disk });
  let storage = await open();
  const model = new MemoryStorage();
  const states: Contents[] = [contentsOf(model)];
  const moments: Files[] = [];
  for (const burst of bursts) {
    if (burst === "reopen") {
      await storage.close();
      storage = await open();
      continue;
    }
    await Promise.all(burst.map((step) => step(storage)));
    for (const step of burst) {
      await step(model);
      states.push(contentsOf(model));
    }
    // With nothing to save the log notes in STATE how far it is durable; indexes are written and segments are finished behind
    // the saves, in a few turns of their own.
    await new Promise((resolve) => setImmediate(resolve));
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const files = filesOf(disk);
    expectNamed(files);
    moments.push(files);
  }
  const difference = differenceOf(contentsOf(storage), states.at(-1) as Contents);
  assert(difference === undefined, `a grown log is not its model: ${difference}`);
  await storage.close();
  const frames = layoutOf(moments.at(-1) ?? filesOf(disk)).filter(({ kind }) => kind === "frame");
  // The last frame is the last step's; of steps whose segments are released nobody asks.
  const history: PastState[] = [];
  for (let i = states.length - 1, at = frames.length - 1; i >= 0 && at >= -1; i--, at--) {
    // Before the first step there is a log, with nothing in it.
    const sequence = i === 0 ? 0 : frames[at]?.sequence;
    if (sequence !== undefined) history.unshift({ sequence, contents: states[i] as Contents });
  }
  return { moments, closed: filesOf(disk), history };
}

/** What is acknowledged stands in segments that STATE names: else nobody would miss one that is lost. */
function expectNamed(files: Files): void {
  const layout = layoutOf(files);
  const { newest: named } = parseState(files.get(STATE_NAME) as Uint8Array);
  const used = Math.max(0, ...layout.map(({ kind, generation }) => (kind === "frame" ? generation : 0)));
  assert(used <= named, `segment ${used} has acknowledged saves, and STATE names none after ${named}`);
}

/** A specimen of `files`. Without a history it is opened once, and holds what it says then. */
export async function specimenOf(
  name: string,
  files: Files,
  history?: readonly PastState[],
  moments: readonly Files[] = [],
): Promise<Specimen> {
  const layout = layoutOf(files);
  if (history !== undefined) return { name, files, layout, history, moments };
  const disk = await diskOf(files);
  const storage = await FileStorage.open(DIR, { ...OPTIONS, disk });
  const contents = contentsOf(storage);
  await storage.close();
  const last = layout.filter(({ kind }) => kind === "frame" || kind === "head").at(-1);
  return { name, files, layout, history: [{ sequence: last?.sequence ?? 0, contents }], moments };
}

/** As a power cut without luck leaves the files: the watermark slots, which nobody synced, say nothing. */
export function withoutWatermark(files: Files): Map<string, Uint8Array> {
  const after = new Map(files);
  const state = files.get(STATE_NAME)?.slice();
  if (state !== undefined) after.set(STATE_NAME, state.fill(0, f.WATERMARK_AT));
  return after;
}

/** Reads a storage whole. */
export function contentsOf(storage: Storage): Contents {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const { hardState, confState } = storage.initialState();
  return {
    first,
    last,
    hardState,
    confState,
    entries: first > last ? [] : storage.entries(first, last + 1),
    terms: Array.from({ length: last - first + 2 }, (_, i) => storage.term(first - 1 + i)),
    snapshot: storage.snapshot(),
  };
}

/** A disk that holds the log's directory with these files. */
interface Bench {
  readonly disk: MemoryDisk;
  files: Files;
  /** How many files are open. */
  handles: number;
  /** The largest file or buffer that was asked for, and how many times a file was opened. */
  asked: number;
  opens: number;
}

/** The disk is full from here on: no small log needs a file or a buffer of this size, whatever its damage says. */
const MOST_BYTES = 8 * 1024 * 1024;
/** Nor does anybody open its few files so often: who does goes round in a circle. */
const MOST_OPENS = 10_000;

// Benches of a specimen's files: most of a damaged directory is a copy of the whole one, and open() changes nothing when it
// refuses, so that the same disk serves one damage after the other. `whole` is only ever cloned.
const benches = new WeakMap<Files, { readonly whole: MemoryDisk; free: Bench | undefined }>();

/** A bench with `files`, most of which are also in `like`. */
async function benchOf(files: Files, like: Files): Promise<Bench> {
  let known = benches.get(like);
  if (known === undefined) {
    known = { whole: await diskOf(like), free: undefined };
    benches.set(like, known);
  }
  const bench = known.free ?? watch(known.whole.clone(), like);
  known.free = undefined;
  const { disk, files: before } = bench;
  for (const name of before.keys()) if (!files.has(name)) await disk.unlink(`${DIR}/${name}`);
  for (const [name, bytes] of files) {
    if (before.get(name) !== bytes) await put(disk, name, bytes, before.has(name) ? "write" : "create");
  }
  Object.assign(bench, { files, asked: 0, opens: 0 });
  return bench;
}

function watch(disk: MemoryDisk, files: Files): Bench {
  const bench: Bench = { disk, files, handles: 0, asked: 0, opens: 0 };
  const expectRoom = (bytes: number): void => {
    bench.asked = Math.max(bench.asked, bytes);
    if (bytes > MOST_BYTES) throw systemError("ENOSPC", "write");
  };
  const counted = (file: DiskFile, writable: boolean): DiskFile => {
    bench.handles++;
    if (++bench.opens > MOST_OPENS) throw systemError("EMFILE", "open");
    const close = file.close.bind(file);
    file.close = () => {
      bench.handles--;
      return close();
    };
    if (!writable) return file;
    const write = file.write.bind(file);
    // Every other call that writes leads here.
    file.write = (source, start, end, position) => {
      expectRoom(position + end - start);
      write(source, start, end, position);
    };
    return file;
  };
  const open = disk.open.bind(disk);
  const openNow = disk.openNow.bind(disk);
  const allocate = disk.allocate.bind(disk);
  disk.open = async (path, mode) => counted(await open(path, mode), mode !== "read");
  disk.openNow = (path) => counted(openNow(path), false);
  disk.allocate = (bytes) => {
    expectRoom(bytes);
    return allocate(bytes);
  };
  return bench;
}

async function diskOf(files: Files): Promise<MemoryDisk> {
  // Of another seed than any log is grown with: one that was made anew here has another identity.
  const disk = new MemoryDisk({ seed: 0x5eed });
  await disk.mkdir(DIR);
  for (const [name, bytes] of files) await put(disk, name, bytes, "create");
  return disk;
}

async function put(disk: MemoryDisk, name: string, bytes: Uint8Array, mode: "create" | "write"): Promise<void> {
  const file = await disk.open(`${DIR}/${name}`, mode);
  file.write(bytes, 0, bytes.length, 0);
  if (file.size() > bytes.length) await file.truncate(bytes.length);
  await file.close();
}

function filesOf(disk: MemoryDisk): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [path, bytes] of disk.dump()) files.set(path.slice(DIR.length + 1), bytes);
  return files;
}

// ---- the judge

/** What judge() found. */
export interface Verdict {
  /**
   * `same`: nothing was lost, nothing was said. `refused`: open() named the damage and changed nothing. `reported`: reads or
   * verify() named it, and all that was read besides is the same. `lost`: saves are gone that nothing vouched for any more.
   * `forged`: it took forged bytes with good manners. `wrong`: none of these; `why` says what is the matter.
   */
  readonly kind: "same" | "refused" | "reported" | "lost" | "forged" | "wrong";
  readonly why: string;
  /** The first error that named the damage. */
  readonly error: StableLogError | undefined;
}

export interface JudgeOptions {
  /** Opens to look only, and holds that nothing is written. */
  readonly readOnly?: boolean | undefined;
  /** Lets open() make a log where it finds none, as by default; it must not find none where there was one. */
  readonly create?: boolean | undefined;
  /** Opens a second time what was opened, and holds that it holds the same. */
  readonly again?: boolean | undefined;
}

/** Does the damage to a copy of the specimen, opens it and reads all of it. Never throws for what the log does. */
export async function judge(
  specimen: Specimen,
  damages: readonly Damage[],
  options: JudgeOptions = {},
): Promise<Verdict> {
  const damaged = new Map(specimen.files);
  const touched: Range[] = [];
  for (const damage of damages) {
    touched.push(...touchedBy(damaged, damage));
    applyOne(damaged, damage);
  }
  const scene = new Scene(specimen, damages, damaged, touched);
  try {
    return await scene.judge(options);
  } catch (error) {
    if (error instanceof Wrong) return { kind: "wrong", why: error.message, error: undefined };
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: "wrong", why: `an error without a code: ${text}`, error: undefined };
  }
}

/** What is not right, in words. */
class Wrong extends Error {}

/** Entries that are read of forged logs, all together and one by one: their numbers may be anything. */
const MOST_READS = 4096;
const FORGED_READS = 64;

class Scene {
  readonly #specimen: Specimen;
  readonly #damaged: Files;
  readonly #touched: readonly Range[];
  readonly #forged: boolean;
  /** Whole files with good checksums of another time or place: what they say of other files is no longer true. */
  readonly #misled: boolean;
  /** The extents that the damage changed a byte of, those counted in that no longer stand where they stood. */
  readonly #hurt: Extent[];
  #first: StableLogError | undefined;

  constructor(specimen: Specimen, damages: readonly Damage[], damaged: Files, touched: readonly Range[]) {
    this.#specimen = specimen;
    this.#damaged = damaged;
    this.#touched = touched;
    this.#forged = damages.some(({ kind }) => kind === "forged");
    this.#misled = damages.some(({ kind, file }) => file === STATE_NAME && (kind === "stale" || kind === "foreign"));
    this.#hurt = specimen.layout.filter((extent) => this.#overlaps(extent) && this.#differs(extent, true));
  }

  async judge(options: JudgeOptions): Promise<Verdict> {
    const bench = await benchOf(this.#damaged, this.#specimen.files);
    const { disk } = bench;
    const readOnly = options.readOnly === true;
    const open = async (): Promise<FileStorage> => {
      const opened = FileStorage.open(DIR, { ...OPTIONS, disk, readOnly, create: options.create === true });
      await opened.catch(() => {});
      if (bench.asked > MOST_BYTES) {
        await opened.then((each) => each.close()).catch(() => {});
        throw new Wrong(`open() asked for ${bench.asked} bytes`);
      }
      if (bench.opens > MOST_OPENS) throw new Wrong("open() goes round in a circle");
      return opened;
    };
    let storage: FileStorage;
    try {
      storage = await open();
    } catch (error) {
      if (error instanceof Wrong) throw error;
      this.#expectNamed(error, "open()");
      await expectUntouched(disk, this.#damaged);
      if (bench.handles !== 0) throw new Wrong(`open() refused and left ${bench.handles} files open`);
      await this.#expectUnlocked(disk);
      if (!this.#matters()) throw new Wrong(`refused for bytes that stand for nothing: ${String(error)}`);
      (benches.get(this.#specimen.files) as { free: Bench | undefined }).free = bench;
      return this.#verdict("refused");
    }
    const kind = await this.#read(storage, readOnly);
    await storage.close();
    if (bench.handles !== 0) throw new Wrong(`close() left ${bench.handles} files open`);
    await this.#expectUnlocked(disk);
    if (readOnly) await expectUntouched(disk, this.#damaged);
    if (options.again === true && !readOnly) {
      const reopened = await open();
      const second = await this.#read(reopened, false);
      await reopened.close();
      if (second !== kind) throw new Wrong(`the first open was "${kind}", the second is "${second}"`);
    }
    return this.#verdict(kind);
  }

  #verdict(kind: Verdict["kind"]): Verdict {
    return { kind, why: this.#first?.message ?? "", error: this.#first };
  }

  /** Reads all of an open storage and holds it against the specimen. */
  async #read(storage: FileStorage, readOnly: boolean): Promise<Verdict["kind"]> {
    const errors: StableLogError[] = [];
    const attempt = <T>(what: string, read: () => T): T | undefined => {
      try {
        return read();
      } catch (error) {
        errors.push(this.#expectNamed(error, what));
        return undefined;
      }
    };
    const first = storage.firstIndex();
    const last = storage.lastIndex();
    const expected = this.#forged ? undefined : this.#expected(storage, first, last, readOnly);
    if (!readOnly && expected !== undefined) this.#expectSnapshot(expected.contents.snapshot);
    const { hardState, confState } = storage.initialState();
    const few = last - first < MOST_READS;
    const all = (): Entry[] => (first > last ? [] : storage.entries(first, last + 1));
    const bulk = few ? attempt("entries()", all) : undefined;
    const entries = expected?.contents.entries ?? [];
    const stop = this.#forged ? Math.min(last, first + FORGED_READS) : last;
    for (let index = first; index <= stop; index++) {
      // One by one when all together cannot be had: what is not damaged must be there.
      const [entry] = bulk === undefined ? (attempt("entries()", () => storage.entries(index, index + 1)) ?? []) : [];
      const found = bulk === undefined ? entry : bulk[index - first];
      if (this.#forged) expectEntry(found, index);
      else if (found === undefined ? bulk !== undefined : !sameEntry(found, entries[index - first] as Entry)) {
        throw new Wrong(`entry ${index} is other data`);
      }
    }
    for (let index = first - 1; index <= stop; index++) {
      const term = attempt(`term(${index})`, () => storage.term(index));
      if (this.#forged) expectCount(term, `term of ${index}`);
      else if (term !== undefined && term !== expected?.contents.terms[index - first + 1]) {
        throw new Wrong(`term(${index}) is ${term}`);
      }
    }
    const snapshot = attempt("snapshot()", () => storage.snapshot());
    const streamed = await this.#stream(storage, errors);
    if (expected !== undefined) {
      const { contents } = expected;
      if (!sameHardState(hardState, contents.hardState)) throw new Wrong(`HardState is ${textOf(hardState)}`);
      if (!sameConfState(confState, contents.confState)) throw new Wrong(`ConfState is ${textOf(confState)}`);
      if (snapshot !== undefined && !sameSnapshot(snapshot, contents.snapshot))
        throw new Wrong("the snapshot is other data");
      if (streamed !== undefined && !equalBytes(streamed, contents.snapshot.data)) {
        throw new Wrong("the snapshot's stream is other data");
      }
    } else {
      expectCount(hardState.term, "HardState's term");
      expectCount(hardState.commit, "HardState's commit");
      expectCount(snapshot?.metadata.index, "the snapshot's index");
      expectCount(snapshot?.metadata.term, "the snapshot's term");
    }
    const report = await storage.verify();
    for (const { code, file, offset, proof } of report.damage) {
      this.#expectNamed(new StableLogError(code, proof, { file, offset }), "verify()");
    }
    if (report.ok !== (report.damage.length === 0)) throw new Wrong("verify() contradicts itself");
    if (this.#forged) return "forged";
    if (errors.length > 0 && report.ok) throw new Wrong(`verify() misses what a read found: ${String(errors[0])}`);
    if (!report.ok) {
      if (!this.#matters())
        throw new Wrong(`verify() reports bytes that stand for nothing: ${report.damage[0]?.proof}`);
      return "reported";
    }
    // Who only looks is shown less of a whole log, too.
    if (expected?.lost === true) return this.#hurt.length === 0 ? "same" : "lost";
    const missed = this.#hurt.find(
      (extent) => ["head", "frame", "snapshot"].includes(extent.kind) && this.#differs(extent, false),
    );
    if (missed !== undefined) {
      throw new Wrong(`neither open(), a read nor verify() says that ${missed.file} at ${missed.from} is damaged`);
    }
    return "same";
  }

  /** open() looks at head and length of the snapshot that the log begins with; its data waits for who reads it. */
  #expectSnapshot({ metadata }: Snapshot): void {
    if (metadata.index === 0) return;
    const name = snapshotName(metadata);
    const head = this.#specimen.layout.find(({ file }) => file === name) as Extent;
    const whole = this.#damaged.get(name)?.length === this.#specimen.files.get(name)?.length;
    if (whole && !this.#differs(head, false)) return;
    throw new Wrong(`open() takes a log whose snapshot ${name} is gone, cut or damaged at its head`);
  }

  async #stream(storage: FileStorage, errors: StableLogError[]): Promise<Uint8Array | undefined> {
    const chunks: Uint8Array[] = [];
    try {
      const found = storage.readSnapshot();
      if (found !== undefined) for await (const chunk of found.data) chunks.push(chunk);
    } catch (error) {
      errors.push(this.#expectNamed(error, "readSnapshot()"));
      return undefined;
    }
    const whole = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return whole;
  }

  /** The state that the log may hold: the last one, or the one before the first frame that is hurt and vouched for by nothing. */
  #expected(
    storage: FileStorage,
    first: number,
    last: number,
    readOnly: boolean,
  ): { contents: Contents; lost: boolean } {
    const { history } = this.#specimen;
    const { contents } = history.at(-1) as PastState;
    const { hardState, confState } = storage.initialState();
    const isState = (state: Contents): boolean =>
      state.first === first &&
      state.last === last &&
      sameHardState(hardState, state.hardState) &&
      sameConfState(confState, state.confState);
    if (isState(contents)) {
      // A lost save may have changed no number: what was read may be the state before it as well.
      const earlier = this.#lostTo();
      if (earlier === undefined || !isState(earlier)) return { contents, lost: false };
      const entries = attemptAll(storage, first, last);
      const same = entries?.every((entry, i) => sameEntry(entry, contents.entries[i] as Entry)) ?? true;
      return same ? { contents, lost: false } : { contents: earlier, lost: true };
    }
    // Who only looks is shown what is known to be durable.
    const [newest = 0] = this.#generations();
    const whole = this.#frames(newest);
    const broken = whole.findIndex((frame) => this.#hurt.includes(frame));
    // It takes no word from what stands behind the first damage.
    const sure = readOnly ? this.#sure(newest, broken < 0 ? whole : whole.slice(0, broken)) : 0;
    const shown = readOnly
      ? history.findLast((past, i) => isState(past.contents) && (history[i + 1]?.sequence ?? Number.MAX_VALUE) > sure)
      : undefined;
    if (shown !== undefined) return { contents: shown.contents, lost: shown.contents !== contents };
    const earlier = this.#lostTo();
    const found = `entries ${first} to ${last} and ${textOf(hardState)}`;
    if (earlier === undefined) throw new Wrong(`other data: ${found}; nothing may be lost here`);
    if (!isState(earlier)) throw new Wrong(`other data: ${found}; neither all nor what stood before the damage`);
    return { contents: earlier, lost: true };
  }

  /** The generations of the segments, newest first. */
  #generations(): number[] {
    const heads = this.#specimen.layout.filter(({ kind }) => kind === "head");
    return heads.map(({ generation }) => generation).reverse();
  }

  /** The frames of a segment, its head first. */
  #frames(of: number): Extent[] {
    return this.#specimen.layout.filter(
      ({ generation, kind }) => generation === of && (kind === "head" || kind === "frame"),
    );
  }

  /** The state that this damage may throw the log back to; undefined when it may not. */
  #lostTo(): Contents | undefined {
    const { history, layout } = this.#specimen;
    let lost: Contents | undefined;
    for (const generation of this.#generations()) {
      const frames = this.#frames(generation);
      const broken = frames.find((frame) => this.#hurt.includes(frame) && this.#differs(frame, false));
      if (broken === undefined) return lost;
      if (broken.sequence <= this.#sure(generation, frames)) return undefined;
      // Nothing in a segment that STATE does not name yet was ever acknowledged: a crash may have left its head as it likes.
      const named = !this.#misled && layout.some((each) => each.kind === "identity" && each.generation >= generation);
      if ((named || broken.kind !== "head") && this.#flippedBits(broken) < 2) return undefined;
      lost = history.findLast(({ sequence }) => sequence < broken.sequence)?.contents;
      // With its head a segment is gone, and the one before it is the newest.
      if (broken.kind !== "head") return lost;
    }
    return lost;
  }

  /**
   * The sequence up to which something vouches that the log was durable, if `generation` is the newest segment: a slot of
   * STATE or the header of one of its frames, byte for byte as it was.
   */
  #sure(generation: number, frames: readonly Extent[]): number {
    let sure = 0;
    for (const extent of this.#specimen.layout) {
      const { kind, sequence, durable } = extent;
      if (kind === "watermark" && this.#intact(extent, f.WATERMARK_BYTES)) sure = Math.max(sure, sequence);
      if (kind === "identity" && extent.generation >= generation && this.#intact(extent, f.I_METADATA)) {
        sure = Math.max(sure, extent.generation > generation ? Number.MAX_VALUE : (frames[0]?.sequence ?? 0));
      }
      if (frames.includes(extent) && this.#intact(extent, f.HEADER_BYTES)) sure = Math.max(sure, durable);
    }
    return sure;
  }

  /** True when the first bytes of an extent are as they were. */
  #intact({ file, from }: Extent, bytes: number): boolean {
    const now = this.#damaged.get(file)?.subarray(from, from + bytes);
    const before = this.#specimen.files.get(file)?.subarray(from, from + bytes);
    return now !== undefined && before !== undefined && equalBytes(now, before);
  }

  #overlaps({ file, from, to }: Range): boolean {
    return this.#touched.some((range) => range.file === file && range.from < to && range.to > from);
  }

  /** True when bytes of the extent are not as they were; those that stand for nothing count only with `all`. */
  #differs(extent: Extent, all: boolean): boolean {
    return this.#count(extent, all, 1) > 0;
  }

  /** Bits of the extent that are not as they were, those that stand for nothing left out. */
  #flippedBits(extent: Extent): number {
    return this.#count(extent, false, Number.POSITIVE_INFINITY);
  }

  #count({ file, from, to, unread }: Extent, all: boolean, enough: number): number {
    const before = this.#specimen.files.get(file) as Uint8Array;
    const now = this.#damaged.get(file);
    if (now === before) return 0;
    if (now === undefined) return 8 * (to - from);
    let bits = 0;
    for (let at = from; at < to && bits < enough; at++) {
      if (before[at] === now[at]) continue;
      if (!all && unread.some((range) => at >= range.from && at < range.to)) continue;
      if (at >= now.length) bits += 8;
      else for (let x = (before[at] as number) ^ (now[at] as number); x !== 0; x &= x - 1) bits++;
    }
    return bits;
  }

  /** True when the damage changed anything that stands for something. */
  #matters(): boolean {
    if (this.#touched.some(({ file }) => !this.#specimen.files.has(file) && isOurs(file))) return true;
    // A snapshot's end is found from its size.
    const longer = this.#touched.some(
      ({ file, to }) => isSnapshotName(file) && to > (this.#specimen.files.get(file)?.length ?? 0),
    );
    return longer || this.#hurt.some((extent) => extent.kind !== "other" && this.#differs(extent, false));
  }

  /** Holds that `error` has a code and names a place that the damage touched. */
  #expectNamed(error: unknown, what: string): StableLogError {
    if (error instanceof AssertionError || !(error instanceof StableLogError)) throw error;
    this.#first ??= error;
    const { code, file, offset } = error;
    if (code === "ERR_NOT_FOUND" && ![...this.#damaged.keys()].some(isOurs)) return error;
    if (this.#forged && (code === "ERR_CORRUPT" || code === "ERR_FORMAT_VERSION") && file === undefined) {
      throw new Wrong(`${what}: ${code} without a file: ${error.message}`);
    }
    if (file === undefined || offset === undefined)
      throw new Wrong(`${what}: ${code} names no place: ${error.message}`);
    if (this.#forged) return error;
    const misled = this.#misled && (parseSegmentName(file) !== undefined || isSnapshotName(file));
    if (!misled && !this.#isTouched(file, offset)) {
      throw new Wrong(`${what}: ${code} names ${file} at ${offset}, which nothing touched: ${error.message}`);
    }
    return error;
  }

  #isTouched(file: string, offset: number): boolean {
    if (this.#touched.some((range) => range.file === file && offset >= range.from && offset <= range.to)) return true;
    // A snapshot's end record is looked for where the file ends now.
    const size = this.#damaged.get(file)?.length ?? 0;
    const resized = isSnapshotName(file) && size !== this.#specimen.files.get(file)?.length;
    if (resized && offset === Math.max(0, size - 16)) return true;
    // Either identity slot stands for STATE as a whole.
    if (file === STATE_NAME && offset === 0) return this.#hurt.some(({ kind }) => kind === "identity");
    return this.#specimen.layout.some((extent) => {
      if (extent.file !== file || offset < extent.from || offset > extent.to) return false;
      // A snapshot's end record says that the file ends there: it is at odds with whatever comes behind it.
      const behind = extent.kind === "snapshot" ? 1 : 0;
      return this.#overlaps({ file, from: extent.from, to: extent.to + behind });
    });
  }

  async #expectUnlocked(disk: MemoryDisk): Promise<void> {
    await (await disk.lock(DIR)).release();
  }
}

let scratch = new Uint8Array(64 * 1024);

/** Holds that the directory has these files, byte for byte. */
async function expectUntouched(disk: MemoryDisk, files: Files): Promise<void> {
  for (const [name, bytes] of files) {
    if (bytes.length > scratch.length) scratch = new Uint8Array(2 * bytes.length);
    let file: DiskFile;
    try {
      file = disk.openNow(`${DIR}/${name}`);
    } catch {
      throw new Wrong(`${name} is gone`);
    }
    const found = scratch.subarray(0, file.read(scratch, 0, scratch.length, 0));
    await file.close();
    if (!sameBytes(found, bytes)) throw new Wrong(`${name} was changed`);
  }
  if ((await disk.list(DIR)).length !== files.size) throw new Wrong("files were made");
}

function attemptAll(storage: FileStorage, first: number, last: number): Entry[] | undefined {
  try {
    return first > last ? [] : storage.entries(first, last + 1);
  } catch {
    // Judged where it is read for good.
    return undefined;
  }
}

/** True for the names that make a directory a log's. */
function isOurs(name: string): boolean {
  return name === STATE_NAME || parseSegmentName(name) !== undefined || isSnapshotName(name);
}

/** True for names of files that the log can make again. */
export function isDerived(name: string): boolean {
  return parseIndexName(name) !== undefined || !isOurs(name);
}

function expectCount(value: number | undefined, what: string): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) return;
  throw new Wrong(`${what} is ${value}, which is no number of ours`);
}

function expectEntry(entry: Entry | undefined, index: number): void {
  if (entry === undefined) return;
  if (entry.index !== index || !(entry.data instanceof Uint8Array))
    throw new Wrong(`entry ${index} is ${textOf(entry)}`);
  expectCount(entry.term, `term of entry ${index}`);
}

/** memcmp() where there is one: equalBytes() is for short ranges. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

function sameEntry(a: Entry, b: Entry): boolean {
  return a.index === b.index && a.term === b.term && a.type === b.type && sameBytes(a.data, b.data);
}

function sameHardState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}

function sameConfState(a: ConfState, b: ConfState): boolean {
  const sameIds = (x: readonly bigint[], y: readonly bigint[]): boolean =>
    x.length === y.length && x.every((id, i) => id === y[i]);
  return (
    sameIds(a.voters, b.voters) &&
    sameIds(a.learners, b.learners) &&
    sameIds(a.votersOutgoing, b.votersOutgoing) &&
    sameIds(a.learnersNext, b.learnersNext) &&
    a.autoLeave === b.autoLeave
  );
}

function sameSnapshot(a: Snapshot, b: Snapshot): boolean {
  return (
    a.metadata.index === b.metadata.index &&
    a.metadata.term === b.metadata.term &&
    sameConfState(a.metadata.confState, b.metadata.confState) &&
    sameBytes(a.data, b.data)
  );
}

/** The first thing that two contents differ in, in words; undefined when they are the same. */
export function differenceOf(a: Contents, b: Contents): string | undefined {
  if (a.first !== b.first || a.last !== b.last) return `entries ${a.first} to ${a.last}, ${b.first} to ${b.last}`;
  const entry = a.entries.findIndex((each, i) => !sameEntry(each, b.entries[i] as Entry));
  if (entry >= 0) return `entry ${a.first + entry}`;
  const term = a.terms.findIndex((each, i) => each !== b.terms[i]);
  if (term >= 0) return `the term of ${a.first - 1 + term}`;
  if (!sameHardState(a.hardState, b.hardState)) return `HardState ${textOf(a.hardState)}, ${textOf(b.hardState)}`;
  if (!sameConfState(a.confState, b.confState)) return `ConfState ${textOf(a.confState)}, ${textOf(b.confState)}`;
  return sameSnapshot(a.snapshot, b.snapshot) ? undefined : "the snapshot";
}

function textOf(value: object): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? String(each) : each));
}

/** The name of the specimen's newest segment; "" before the first. */
export function newestSegmentOf(layout: readonly Extent[]): string {
  const newest = layout.filter(({ kind }) => kind === "head").at(-1);
  return newest === undefined ? "" : segmentName(newest.generation);
}
