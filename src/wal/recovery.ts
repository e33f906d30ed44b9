// Recovery: what a directory holds, decided before anything is written. recover() reads STATE, the heads of the segments
// that the log needs, and the newest segment whole; recovery-table.ts says what each finding means. It returns what was
// recovered and what open() must still do (carry a tail, remove what is left over), or throws a coded error that names file
// and offset. It writes nothing: a refusal leaves every byte as it was. Called by log.ts.
//
// In the order in which things happen here:
//   1 STATE is read. Was the log closed? Then what is on disk is durable. If not, the newest segment, STATE and the
//     directory are synced first, so that nothing is served from a cache that a power cut would still take away.
//   2 Heads are read from the newest segment back along their links, as far as the log reaches.
//   3 The newest segment is checked frame by frame up to the first place P where no valid frame stands.
//   4 The tail at P is judged by what vouches for it: the close mark, STATE's watermark, a frame behind P whose watermark
//     lies beyond P.
//   5 Frames up to the vouched end are the log. Valid frames beyond it are carried: no sync that we know of covered them,
//     and a failed one may have left them clean in the page cache and nowhere else, so open() writes them again.

import { assert } from "../base/assert.js";
import { getU64, viewOf } from "../base/bytes.js";
import { crc32, wordsOf } from "../base/crc32.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, type DiskFile, joinPath } from "../disk/disk.js";
import * as f from "./format.js";
import {
  checkFrame,
  checkHeader,
  emptyPart,
  type FrameExpectation,
  type FrameVerdict,
  flip,
  frameBytesAt,
  oneBitFromValid,
  readPart,
  recordTag,
  type SegmentIdentity,
  segmentIdentity,
} from "./frame.js";
import { isOldestNeeded, type LogSegment, LogView, NO_RECORDS, newSegment } from "./log-view.js";
import {
  type DirectoryDecision,
  decideDirectory,
  decideSegment,
  decideTail,
  type SegmentDecision,
  type SegmentFacts,
} from "./recovery-table.js";
import { indexName, parseIndexName, parseSegmentName, SPARE_NAME, STATE_NAME, segmentName } from "./segment-name.js";
import { parseState, type StateContents, type Watermark } from "./state-file.js";

/** What open() found and did, for the owner of the log. */
export interface RecoveryReport {
  /** `created`: a new log. `clean`: all that was there counts. `tear`: an unfinished write was dropped. `dropped`: an ambiguous tail was dropped, as asked for. */
  readonly verdict: "created" | "clean" | "tear" | "dropped";
  /** Where a dropped tail begins. */
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  /** Bytes from there to the last one that is not zero. */
  readonly droppedBytes: number;
  /** Entries that were written again because nothing vouched for their durability. */
  readonly carriedEntries: number;
  /** Bytes read and checked. */
  readonly scannedBytes: number;
  readonly ms: number;
}

export interface RecoveryOptions {
  readonly create: boolean;
  readonly readOnly: boolean;
  readonly onAmbiguousTail: "refuse" | "drop";
  /** True for names that the storage above gives its own files: they too make a directory ours. */
  readonly isOwnName: (name: string) => boolean;
}

/** Records to write again at the head of a new segment, in the buffer that the newest segment was read into. */
export interface CarriedTail {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where each record stands, the first one's number, and the sum of their data bytes. */
  readonly recordsAt: readonly number[];
  readonly first: number;
  readonly dataBytes: number;
  /** True when the log must be cut before `first`, even when there are no records. */
  readonly cut: boolean;
  /** Last index of the log before the carried records. */
  readonly base: number;
  /** Where the tail begins in `bytes`, and the segment it stands in with the tail counted in: for when no room is left to carry it. */
  readonly from: number;
  readonly inPlace: () => LogSegment;
}

export interface Recovered {
  readonly state: StateContents;
  /** Ascending; the last one ends at its vouched end. Empty before the first save. */
  readonly segments: LogSegment[];
  /** With the carried tail applied. */
  readonly view: LogView;
  readonly carry: CarriedTail | undefined;
  /** Names to remove once the log is open. */
  readonly remove: string[];
  /** No segment of the directory has this generation or a higher one. */
  readonly nextGeneration: number;
  /** Nothing was written since the last close. */
  readonly closed: boolean;
  /** Nothing but zeros stands behind the last frame of the last of `segments`. */
  readonly zeroTail: boolean;
  readonly verdict: "clean" | "tear" | "dropped";
  readonly file: string | undefined;
  readonly offset: number | undefined;
  readonly droppedBytes: number;
  readonly scannedBytes: number;
  /** How long each sync of open took. */
  readonly syncMs: number[];
}

/** What is read at a time: large, for a file's rate, and small enough that checking one piece hides behind reading the next two. */
const READ_BYTES = 1024 * 1024;

/** Reads a whole file, in one buffer, yielding to the event loop. */
export async function readWhole(disk: Disk, dir: string, name: string): Promise<Uint8Array> {
  const file = await disk.open(joinPath(dir, name), "read");
  return new Reading(file, name).whole;
}

/** A file that is read from its beginning to its end, in one buffer, while what has arrived may be looked at. Closes it. */
class Reading {
  /** As long as the file says that it is; zeros where nothing has arrived. */
  readonly bytes: Uint8Array;
  /** All of it; shorter than `bytes` when the file is. Rejects with ERR_READ. */
  readonly whole: Promise<Uint8Array>;
  #arrived = 0;
  #ended = false;
  #next: Promise<unknown> = Promise.resolve();

  constructor(file: DiskFile, name: string) {
    this.bytes = new Uint8Array(file.size());
    this.whole = this.#read(file, name);
    // Whoever looks meanwhile asks for it at the end.
    this.whole.catch(() => {});
  }

  /** Resolves when [0, end), or all that there is, has arrived; with how far it goes by then, which is never told to be less. */
  async until(end: number): Promise<number> {
    while (!this.#ended && this.#arrived < Math.min(end, this.bytes.length)) await this.#next;
    return this.#ended ? this.bytes.length : this.#arrived;
  }

  async #read(file: DiskFile, name: string): Promise<Uint8Array> {
    const { bytes } = this;
    const { length } = bytes;
    const piece = (at: number): Promise<number> =>
      readingAt(name, at, () => file.readLater(bytes, at, Math.min(length, at + READ_BYTES), at));
    let ahead: Promise<number> | undefined;
    try {
      while (this.#arrived < length) {
        const after = this.#arrived + READ_BYTES;
        const next = ahead ?? piece(this.#arrived);
        ahead = after < length ? piece(after) : undefined;
        // It fails in its turn, or never has one.
        ahead?.catch(() => {});
        this.#next = next;
        const read = await next;
        if (read === 0) break;
        this.#arrived += read;
        if (this.#arrived < Math.min(after, length)) {
          await ahead?.catch(() => {});
          ahead = undefined;
        }
      }
      this.#ended = true;
    } finally {
      await ahead?.catch(() => {});
      await file.close();
    }
    return this.#arrived === bytes.length ? bytes : bytes.subarray(0, this.#arrived);
  }
}

/** Syncs a file that nobody holds open; rejects with the system's error. */
export async function syncFile(disk: Disk, dir: string, name: string): Promise<void> {
  const file = await disk.open(joinPath(dir, name), "write");
  try {
    await file.writeLater(new Uint8Array(0), 0, 0, 0, true);
  } finally {
    await file.close();
  }
}

/** A failed read is never the end of a file: it is ERR_READ with where it was. */
async function readingAt<T>(name: string, offset: number, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw new StableLogError("ERR_READ", `read ${name} at ${offset}: ${errnoOf(cause) ?? String(cause)}`, {
      file: name,
      offset,
      cause,
    });
  }
}

/** Names that only an etcd member directory, or one inside it, holds. */
function isEtcdName(name: string): boolean {
  return name === "wal" || name === "snap" || name === "member" || name.endsWith(".wal") || name.endsWith(".snap");
}

/**
 * Is there a log in `names`? "create" and "recover" say what to do with the directory.
 * @throws ERR_CORRUPT, ERR_FOREIGN, ERR_NOT_FOUND.
 */
export function judgeDirectory(dir: string, names: readonly string[], options: RecoveryOptions): "create" | "recover" {
  const decision = decideDirectory({
    state: names.includes(STATE_NAME) ? "readable" : "missing",
    ours: names.some((name) => parseSegmentName(name) !== undefined || options.isOwnName(name)),
    etcd: names.some(isEtcdName),
    create: options.create && !options.readOnly,
  });
  if (decision === "create" || decision === "recover") return decision;
  const place = decision === "ERR_CORRUPT" ? { file: STATE_NAME, offset: 0 } : {};
  throw new StableLogError(decision, `open log ${dir}: ${DIRECTORY_REFUSALS[decision]}`, place);
}

const DIRECTORY_REFUSALS: Readonly<Record<Exclude<DirectoryDecision, "create" | "recover">, string>> = {
  ERR_CORRUPT: "there are segments but no STATE that names them",
  ERR_FOREIGN: "the directory holds an etcd member's files",
  ERR_NOT_FOUND: "there is no log, and none is to be created",
  ERR_FORMAT_VERSION: "it is of a newer format",
};

type HeadVerdict = SegmentFacts["head"];

interface Head {
  readonly verdict: HeadVerdict;
  /** What a refusal says. */
  readonly why: string;
  readonly bytes: Uint8Array;
  readonly size: number;
}

/** What is expected behind a frame that was checked. */
type FollowingFrame = FrameExpectation & { readonly sequence: number };

/** The link of a valid head. */
interface Link {
  readonly previous: number;
  readonly previousEnd: number;
  readonly previousSequence: number;
  readonly previousFrom: number;
  readonly baseIndex: number;
  readonly baseTag: number;
  readonly last: number;
  readonly capacity: number;
  readonly chain: number;
  readonly sequence: number;
  /** The last sequence known synced when this segment was begun. */
  readonly durable: number;
}

/** @throws ERR_CORRUPT for a link of segment `name` with a number that no log has; its checksum holds, so somebody made it. */
function readLink(bytes: Uint8Array, name: string): Link {
  const view = viewOf(bytes);
  const at = f.HEADER_BYTES;
  const from = getU64(view, at + f.L_PREV_FROM);
  const link = {
    previous: getU64(view, at + f.L_PREV_GENERATION),
    previousEnd: getU64(view, at + f.L_PREV_END),
    previousSequence: getU64(view, at + f.L_PREV_SEQUENCE),
    previousFrom: from === 0 ? NO_RECORDS : from,
    baseIndex: getU64(view, at + f.L_BASE_INDEX),
    baseTag: getU64(view, at + f.L_BASE_TAG),
    last: getU64(view, at + f.L_LAST_INDEX),
    capacity: getU64(view, at + f.L_CAPACITY),
    chain: view.getUint32(f.H_CHAIN, true),
    sequence: getU64(view, f.H_SEQUENCE),
    durable: getU64(view, f.H_DURABLE),
  };
  if (!Object.values({ ...link, previousFrom: from }).every(Number.isSafeInteger)) {
    throw corrupt(name, f.HEADER_BYTES, "its link holds a number beyond 2^53");
  }
  // Whoever follows links must get to an end.
  if (link.previous >= getU64(view, f.H_GENERATION)) {
    throw corrupt(name, f.HEADER_BYTES, `its link leads to ${segmentName(link.previous)}, which is no earlier one`);
  }
  return link;
}

/** The last index that the frames from `at` on would reach if the flipped bit were put right; 0 when they hold no records. */
function lostThrough(bytes: Uint8Array, data: DataView, at: number, bit: number, expected: FrameExpectation): number {
  let last = 0;
  const part = emptyPart();
  flip(bytes, bit);
  let next = expected;
  let p = at;
  while (checkFrame(bytes, data, p, next) === "valid" && readPart(data, p, part)) {
    if ((part.flags & f.F_RESET) !== 0) last = Math.max(last, part.baseIndex);
    if (part.count > 0) last = Math.max(last, part.first + part.count - 1);
    const sequence = getU64(data, p + f.H_SEQUENCE) + 1;
    const chain = data.getUint32(p + f.H_CRC, true);
    p += frameBytesAt(data, p);
    next = { identity: expected.identity, kind: f.KIND_FRAME, offset: p, sequence, chain };
  }
  flip(bytes, bit);
  return last;
}

function ambiguous(
  file: string,
  offset: number,
  what: string,
  lastIndex: number,
  maybeLostThrough: number,
): StableLogError {
  return new StableLogError(
    "ERR_AMBIGUOUS_TAIL",
    `open log: ${file} at ${offset}: ${what} is one bit from valid; ` +
      `the log is sure up to ${lastIndex}, dropping the tail may lose up to ${maybeLostThrough}`,
    { file, offset, lastIndex, maybeLostThrough },
  );
}

function isRefusal(decision: SegmentDecision): decision is Extract<SegmentDecision, `ERR_${string}`> {
  return decision.startsWith("ERR_");
}

/** Recovery of one directory; see the head of this file. */
export class Recovery {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #options: RecoveryOptions;
  readonly #now: () => number;
  #scanned = 0;
  /** Whether what is served must be synced first. */
  #earns = false;
  readonly #syncMs: number[] = [];
  /** A segment that STATE does not name and whose head is one bit from valid: begun and rotten, or never begun. */
  #ambiguousHead: { readonly name: string; readonly lostThrough: number; readonly bytes: number } | undefined;

  constructor(disk: Disk, dir: string, options: RecoveryOptions, now: () => number) {
    this.#disk = disk;
    this.#dir = dir;
    this.#options = options;
    this.#now = now;
  }

  async run(names: readonly string[]): Promise<Recovered> {
    let recovered: Recovered;
    try {
      recovered = await this.#recover(names);
    } catch (error) {
      const head = this.#ambiguousHead;
      if (head === undefined || errnoOf(error) !== "ERR_GAP") throw error;
      // Then it was begun, whatever was asked for.
      throw corrupt(head.name, 0, `its head is one bit from valid, and without it: ${(error as Error).message}`, error);
    }
    const head = this.#ambiguousHead;
    if (head === undefined) return recovered;
    const lastIndex = recovered.view.last;
    if (this.#options.onAmbiguousTail === "refuse") {
      throw ambiguous(head.name, 0, "the head", lastIndex, Math.max(lastIndex, head.lostThrough));
    }
    return { ...recovered, verdict: "dropped", file: head.name, offset: 0, droppedBytes: head.bytes };
  }

  async #recover(names: readonly string[]): Promise<Recovered> {
    const state = parseState(await this.#read(STATE_NAME));
    const { logId } = state;
    const generations = names
      .map(parseSegmentName)
      .filter((generation) => generation !== undefined)
      .sort((a, b) => a - b);
    const mark = state.watermark;
    const highest = generations.at(-1) ?? 0;
    const closed = mark?.closed === true && mark.generation >= state.newest && mark.generation === highest;
    this.#earns = !closed && !this.#options.readOnly;
    if (this.#earns) await this.#syncBeforeReading(state, generations);

    const remove: string[] = [];
    const newest = await this.#newestBegun(state, generations, remove);
    for (const name of names) {
      const generation = parseIndexName(name);
      if (name === SPARE_NAME || (generation !== undefined && !generations.includes(generation))) remove.push(name);
    }
    const nextGeneration = Math.max(highest, state.newest) + 1;
    const view = new LogView();
    const common = { state, view, remove, nextGeneration };
    if (newest === undefined) {
      if (mark !== undefined && mark.generation > 0) throw this.#missing(mark.generation, "STATE's watermark names it");
      return {
        ...common,
        segments: [],
        carry: undefined,
        closed,
        zeroTail: true,
        verdict: "clean",
        file: undefined,
        offset: undefined,
        droppedBytes: 0,
        scannedBytes: this.#scanned,
        syncMs: this.#syncMs,
      };
    }
    if (mark !== undefined && mark.generation > newest) {
      throw this.#missing(mark.generation, "STATE's watermark names it");
    }
    const tail = await this.#scanNewest(newest, state, view);
    let segments: LogSegment[];
    try {
      segments = await this.#olderSegments(tail, view, logId);
    } catch (error) {
      // What a tail held that was dropped may be what made them needless, and then it was no tear.
      if (!tail.wreck || errnoOf(error) !== "ERR_GAP") throw error;
      const why = `no valid frame stands there, and without what follows: ${(error as Error).message}`;
      throw corrupt(segmentName(newest), tail.offset, why, error);
    }
    for (const generation of generations) {
      if (generation >= newest || segments.some((segment) => segment.generation === generation)) continue;
      const head = await this.#head(generation, logId);
      const decision = decideSegment({ place: "older", head: head.verdict, needed: false });
      if (decision !== "leftover") throw this.#refusal(decision, segmentName(generation), head);
      remove.push(segmentName(generation));
      if (names.includes(indexName(generation))) remove.push(indexName(generation));
    }
    if (tail.whole) {
      // Nothing vouches even for the head: what it holds is carried as a whole, and the file is left over then.
      remove.push(segmentName(newest));
    }
    return {
      ...common,
      segments,
      carry: tail.carry,
      closed,
      zeroTail: tail.zeros && !tail.whole,
      verdict: tail.verdict,
      file: tail.verdict === "clean" ? undefined : segmentName(newest),
      offset: tail.verdict === "clean" ? undefined : tail.offset,
      droppedBytes: tail.verdict === "clean" ? 0 : tail.droppedBytes,
      scannedBytes: this.#scanned,
      syncMs: this.#syncMs,
    };
  }

  async #read(name: string): Promise<Uint8Array> {
    const bytes = await readWhole(this.#disk, this.#dir, name);
    this.#scanned += bytes.length;
    return bytes;
  }

  /**
   * Durability that was promised by nobody is earned before it is read: a file whose last sync failed, or that was killed
   * before its sync, may stand in the page cache alone.
   */
  async #syncBeforeReading(state: StateContents, generations: readonly number[]): Promise<void> {
    const names = generations.filter((generation) => generation >= state.newest).map(segmentName);
    for (const name of [...names, STATE_NAME]) await this.#syncFile(name);
    await this.#disk.syncDir(this.#dir);
  }

  async #syncFile(name: string): Promise<void> {
    const started = this.#now();
    await syncFile(this.#disk, this.#dir, name);
    this.#syncMs.push(this.#now() - started);
  }

  /** The newest segment that was begun; undefined before the first. */
  async #newestBegun(
    state: StateContents,
    generations: readonly number[],
    remove: string[],
  ): Promise<number | undefined> {
    let begun: number | undefined;
    let torn: { readonly name: string; readonly head: Head } | undefined;
    for (const generation of generations.filter((g) => g > state.newest).reverse()) {
      const head = await this.#head(generation, state.logId, true);
      const decision = decideSegment({ place: "newer", head: head.verdict, needed: begun === undefined });
      if (decision === "begun") {
        // One begun earlier that STATE does not name either was superseded: run() finds that nothing links to it.
        begun ??= generation;
      } else if (decision === "unbegun") {
        await this.#expectUnbegun(generation, state.logId);
        torn = { name: segmentName(generation), head };
        remove.push(segmentName(generation));
      } else {
        throw this.#refusal(decision, segmentName(generation), head);
      }
    }
    // A torn slot beside heads that are torn or zero comes from no crash: the slot was being written when the head that it names was
    // synced already, and that segment stays until a slot is whole again.
    if (begun === undefined && torn !== undefined && state.otherUnreadable) {
      throw this.#refusal("ERR_CORRUPT", torn.name, torn.head);
    }
    if (begun !== undefined || state.newest === 0) return begun;
    const name = segmentName(state.newest);
    const head = generations.includes(state.newest)
      ? await this.#head(state.newest, state.logId)
      : { verdict: "absent" as const, why: "STATE names it and it is gone", bytes: new Uint8Array(0), size: 0 };
    const decision = decideSegment({ place: "named", head: head.verdict, needed: true });
    if (decision !== "begun") throw this.#refusal(decision, name, head);
    return state.newest;
  }

  /**
   * A segment that no STATE names yet holds at most the group it was begun with, and nothing in it says that any of it was
   * durable. One that says so was named, and whatever tells otherwise is damaged, as its head is.
   * A head that one bit keeps from being valid leaves that open, and is noted.
   * @throws ERR_CORRUPT.
   */
  async #expectUnbegun(generation: number, logId: Uint8Array): Promise<void> {
    const name = segmentName(generation);
    const bytes = await this.#read(name);
    const view = viewOf(bytes);
    const head = headExpectation(logId, generation);
    const { identity } = head;
    const end = lastByte(bytes, 0);
    let lowest = Number.POSITIVE_INFINITY;
    for (let at = 0; at + f.HEADER_BYTES <= end; at += 8) {
      if (view.getUint16(at + f.H_MAGIC, true) !== f.MAGIC) continue;
      const expected = { identity, kind: f.KIND_FRAME, offset: at, sequence: undefined, chain: undefined };
      if (checkHeader(bytes, view, at, expected) !== "valid") continue;
      const sequence = getU64(view, at + f.H_SEQUENCE);
      lowest = Math.min(lowest, sequence);
      // In the group that a segment begins with, the head at least stands between a frame and what was durable.
      if (getU64(view, at + f.H_DURABLE) >= Math.min(lowest, sequence - 1)) {
        throw corrupt(name, 0, `its head is damaged, and the frame at ${at} says that it was durable`);
      }
    }
    const bit = oneBitFromValid(bytes, view, 0, head);
    if (bit >= 0) this.#ambiguousHead = { name, lostThrough: lostThrough(bytes, view, 0, bit, head), bytes: end };
  }

  /**
   * Reads and judges a segment's head frame: all of it when `whole`, because a crash may have torn it anywhere; else all but
   * the records of a large carried tail, which were synced before the segment had a successor.
   */
  async #head(generation: number, logId: Uint8Array, whole = false): Promise<Head> {
    const name = segmentName(generation);
    const file = await this.#disk.open(joinPath(this.#dir, name), "read");
    try {
      const size = file.size();
      const expected = headExpectation(logId, generation);
      const first = await this.#readAt(file, name, 0, f.HEADER_BYTES);
      const verdict = checkHeader(first, viewOf(first), 0, expected);
      if (verdict === "zero") return { verdict: "zero", why: "its head is zero", bytes: first, size };
      if (verdict === "version") {
        return { verdict: "newer", why: `it is of format ${first[f.H_VERSION]}`, bytes: first, size };
      }
      if (verdict === "valid") {
        const end = frameBytesAt(viewOf(first), 0);
        if (end <= size) {
          const bytes = whole ? await this.#readAt(file, name, 0, end) : await this.#headMeta(file, name, first);
          const sound = whole ? checkFrame(bytes, viewOf(bytes), 0, expected) === "valid" : bytes.length > 0;
          if (sound) return { verdict: "valid", why: "", bytes, size };
        }
        return { verdict: "torn", why: "its head frame is damaged", bytes: first, size };
      }
      const stranger = await this.#stranger(file, name, logId, generation);
      if (stranger !== undefined) return { ...stranger, bytes: first, size };
      return { verdict: "torn", why: "its head is damaged", bytes: first, size };
    } finally {
      await file.close();
    }
  }

  /** The meta bytes of a head frame, checked together with its block directory; no bytes when they are damaged. */
  async #headMeta(file: DiskFile, name: string, header: Uint8Array): Promise<Uint8Array> {
    const headerView = viewOf(header);
    const bodyBytes = headerView.getUint32(f.H_BODY_BYTES, true);
    const metaBytes = headerView.getUint32(f.H_META_BYTES, true);
    const meta = await this.#readAt(file, name, 0, f.HEADER_BYTES + metaBytes);
    let crc = crc32(meta.subarray(f.HEADER_BYTES));
    if (metaBytes !== bodyBytes) {
      const blocks = viewOf(meta).getUint32(f.HEADER_BYTES + f.LINK_BYTES + f.P_BLOCKS, true);
      const bodyEnd = f.HEADER_BYTES + bodyBytes;
      // Nonsense for a damaged count, which the checksum then tells.
      const directoryAt = Math.max(f.HEADER_BYTES + metaBytes, bodyEnd - blocks * f.DIRECTORY_BYTES);
      crc = crc32(await this.#readAt(file, name, directoryAt, bodyEnd), crc);
    }
    return crc === headerView.getUint32(f.H_BODY_CRC, true) ? meta : new Uint8Array(0);
  }

  /** Tells a copied or foreign segment from a damaged one: its head holds under the identity that it claims itself. */
  async #stranger(
    file: DiskFile,
    name: string,
    logId: Uint8Array,
    generation: number,
  ): Promise<{ verdict: HeadVerdict; why: string } | undefined> {
    const bytes = await this.#readAt(file, name, 0, f.HEADER_BYTES + 16);
    if (bytes.length < f.HEADER_BYTES + 16) return undefined;
    const view = viewOf(bytes);
    if (view.getUint16(f.H_MAGIC, true) !== f.MAGIC || view.getUint8(f.H_KIND) !== f.KIND_HEAD) return undefined;
    const claimedId = bytes.subarray(f.HEADER_BYTES, f.HEADER_BYTES + 16);
    const claimed = getU64(view, f.H_GENERATION);
    const { seed } = segmentIdentity(claimedId, claimed);
    if (crc32(bytes.subarray(4, f.HEADER_BYTES), seed) !== view.getUint32(f.H_CRC, true)) return undefined;
    if (claimedId.some((byte, i) => byte !== logId[i])) {
      return { verdict: "foreign", why: "it belongs to another log" };
    }
    if (claimed !== generation) return { verdict: "copy", why: `it is a copy of ${segmentName(claimed)}` };
    return undefined;
  }

  async #readAt(file: DiskFile, name: string, from: number, to: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(to - from);
    const read = await readingAt(name, from, () => file.readLater(bytes, 0, bytes.length, from));
    this.#scanned += read;
    return read === bytes.length ? bytes : bytes.subarray(0, read);
  }

  #refusal(decision: SegmentDecision, name: string, head: { readonly why: string }): StableLogError {
    assert(isRefusal(decision), `segment decision ${decision}`);
    return new StableLogError(decision, `open log: segment ${name}: ${head.why}`, { file: name, offset: 0 });
  }

  #missing(generation: number, why: string): StableLogError {
    const name = segmentName(generation);
    return new StableLogError("ERR_GAP", `open log: segment ${name} is missing: ${why}`, { file: name, offset: 0 });
  }

  /** Checks the newest segment whole, judges its tail, and applies it to `view` up to the end of what is carried. */
  async #scanNewest(
    generation: number,
    state: StateContents,
    view: LogView,
  ): Promise<{
    segment: LogSegment;
    link: Link;
    verdict: "clean" | "tear" | "dropped";
    offset: number;
    droppedBytes: number;
    zeros: boolean;
    /** A frame stood where the tail that is dropped begins; else it is bytes somewhere behind zeros. */
    wreck: boolean;
    whole: boolean;
    carry: CarriedTail | undefined;
  }> {
    const name = segmentName(generation);
    const head = headExpectation(state.logId, generation);
    const mark = state.watermark?.generation === generation ? state.watermark : undefined;
    const headVouched = state.newest === generation;
    const reading = new Reading(await this.#disk.open(joinPath(this.#dir, name), "read"), name);
    let walked: FrameWalk;
    let bytes: Uint8Array;
    try {
      walked = await walkFrames(reading.bytes, head, mark, reading);
    } finally {
      bytes = await reading.whole;
      this.#scanned += bytes.length;
    }
    // Shorter than it said: walked again, because what has not arrived counted as zeros.
    if (bytes.length < reading.bytes.length)
      walked = await walkFrames(bytes, head, mark, { until: async () => bytes.length });
    if (walked.headVerdict !== "valid") throw corrupt(name, 0, `its head frame is damaged (${walked.headVerdict})`);
    const data = viewOf(bytes);
    const link = readLink(bytes, name);
    const { frames, at, sequence, chain, verdict } = walked;
    let { durable } = walked;
    const expect = (): FollowingFrame => following(head.identity, walked);
    if (verdict === "version") {
      throw new StableLogError("ERR_FORMAT_VERSION", `open log: ${name} at ${at}: a frame of a newer format`, {
        file: name,
        offset: at,
      });
    }

    const dataEnd = lastByte(bytes, at);
    const zeros = dataEnd === at;
    const reason = vouchedBeyond(bytes, data, at, sequence + 1, expect(), mark);
    const closedHere = mark?.closed === true && mark.end === at && mark.sequence === sequence && mark.chain === chain;
    const suspicious = !closedHere && reason === undefined && !zeros;
    const bit = suspicious ? oneBitFromValid(bytes, data, at, expect()) : -1;
    const decision = decideTail({
      closedHere,
      vouched: reason !== undefined,
      zeros,
      oneBit: bit >= 0,
      policy: this.#options.onAmbiguousTail,
    });
    if (decision === "ERR_CORRUPT") throw corrupt(name, at, `no valid frame stands there, but ${reason}`);

    if (mark !== undefined) {
      const marked = frames[mark.sequence - link.sequence];
      if (
        marked !== undefined &&
        (marked + frameBytesAt(data, marked) !== mark.end || data.getUint32(marked + f.H_CRC, true) !== mark.chain)
      ) {
        throw corrupt(name, marked, "STATE's watermark names another frame in this place");
      }
      durable = Math.max(durable, mark.sequence);
    }
    if (headVouched) durable = Math.max(durable, link.sequence);
    let vouchedFrames = Math.min(frames.length, Math.max(0, durable - link.sequence + 1));
    if (closedHere) vouchedFrames = frames.length;
    // A head restates what its predecessor holds, so who only looks may believe it before STATE names it.
    if (this.#options.readOnly) vouchedFrames = Math.max(1, vouchedFrames);
    // Nor is there a running log without a watermark, so nothing says that the last frames are not durable.
    if (this.#options.readOnly && state.watermark === undefined) vouchedFrames = frames.length;
    const whole = vouchedFrames === 0;

    const segment = newSegment(state.logId, generation, link.capacity, link.last, link.previous);
    Object.assign(view, { dummyIndex: link.baseIndex, dummyTag: link.baseTag, last: link.last });
    const applyTo = (to: LogView, target: LogSegment, from: number, count: number): void => {
      for (const offset of frames.slice(from, count)) {
        if (!to.apply(bytes, data, offset, offset, target))
          throw corrupt(name, offset, "its fields contradict the log");
        target.end = offset + frameBytesAt(data, offset);
        target.chain = data.getUint32(offset + f.H_CRC, true);
      }
      target.sequence = link.sequence + count - 1;
    };
    applyTo(view, segment, 0, vouchedFrames);
    const base = view.last;
    let carry: CarriedTail | undefined;
    if (vouchedFrames < frames.length && !this.#options.readOnly) {
      const carriedSegment = newSegment(state.logId, generation, link.capacity, base, link.previous);
      carriedSegment.index = undefined;
      applyTo(view, carriedSegment, vouchedFrames, frames.length);
      const carried = frames.slice(vouchedFrames);
      const inPlace = (): LogSegment => {
        const kept = newSegment(state.logId, generation, link.capacity, link.last, link.previous);
        const scratch = Object.assign(new LogView(), { dummyIndex: link.baseIndex, last: link.last });
        applyTo(scratch, kept, 0, frames.length);
        return kept;
      };
      carry = {
        ...collectCarried(bytes, data, carried, carriedSegment.from, base, view.dummyIndex, name),
        from: segment.end,
        inPlace,
      };
    }
    if (decision === "ERR_AMBIGUOUS_TAIL") {
      const lost = Math.max(view.last, lostThrough(bytes, data, at, bit, expect()));
      throw ambiguous(name, at, "the last frame", view.last, lost);
    }
    return {
      segment,
      link,
      verdict: decision,
      offset: at,
      droppedBytes: dataEnd - at,
      zeros,
      wreck: decision !== "clean" && lastByte(bytes.subarray(0, at + f.HEADER_BYTES), at) > at,
      whole,
      carry,
    };
  }

  /** The segments that the log needs before the newest one, oldest first, with the newest (when kept) at the end. */
  async #olderSegments(
    tail: {
      readonly segment: LogSegment;
      readonly whole: boolean;
      readonly link: Link;
      readonly carry: CarriedTail | undefined;
    },
    view: LogView,
    logId: Uint8Array,
  ): Promise<LogSegment[]> {
    const { carry } = tail;
    const newest = tail.whole ? undefined : tail.segment;
    const segments: LogSegment[] = newest === undefined ? [] : [newest];
    let { link } = tail;
    let oldest = tail.segment.name;
    // A carried tail stands before everything older: it will be the newest segment, or follows the one that is.
    let reached: Pick<LogSegment, "from" | "base"> = newest ?? { from: NO_RECORDS, base: link.last };
    if (carry?.cut === true && carry.first < reached.from) reached = { from: carry.first, base: reached.base };
    while (!isOldestNeeded(reached, view.dummyIndex)) {
      if (link.previous === 0) {
        throw corrupt(oldest, 0, `it is the first segment, but the log begins before ${link.last + 1}`);
      }
      const generation = link.previous;
      const name = segmentName(generation);
      let head: Head;
      try {
        head = await this.#head(generation, logId);
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") throw error;
        head = {
          verdict: "absent",
          why: "a later segment links to it and it is gone",
          bytes: new Uint8Array(0),
          size: 0,
        };
      }
      const decision = decideSegment({ place: "older", head: head.verdict, needed: true });
      if (decision !== "part") throw this.#refusal(decision, name, head);
      if (head.size < link.previousEnd) {
        throw corrupt(name, head.size, `it ends there; its successor says it holds ${link.previousEnd} bytes`);
      }
      // Begun while its predecessor was not known to be synced: a log with sync off, killed before anybody did it.
      if (this.#earns && link.durable < link.previousSequence) await this.#syncFile(name);
      const older = readLink(head.bytes, name);
      const segment = newSegment(logId, generation, older.capacity, older.last, older.previous);
      segment.from = link.previousFrom;
      segment.end = link.previousEnd;
      segment.sequence = link.previousSequence;
      segment.chain = link.chain;
      segment.index = undefined;
      segments.unshift(segment);
      oldest = name;
      link = older;
      reached = segment;
    }
    return segments;
  }
}

function headExpectation(logId: Uint8Array, generation: number): FrameExpectation {
  return {
    identity: segmentIdentity(logId, generation),
    kind: f.KIND_HEAD,
    offset: 0,
    sequence: undefined,
    chain: undefined,
  };
}

function corrupt(file: string, offset: number, why: string, cause?: unknown): StableLogError {
  return new StableLogError("ERR_CORRUPT", `open log: ${file} at ${offset}: ${why}`, { file, offset, cause });
}

/** The valid frames of a segment from its beginning on, and where they end. */
interface FrameWalk {
  headVerdict: FrameVerdict;
  // Invariant: frames[i] is the offset of the frame whose sequence is the head's and i; all of them are valid.
  readonly frames: number[];
  /** Where the last one ends, with its sequence and its header's crc. */
  at: number;
  sequence: number;
  chain: number;
  /** The highest sequence that one of them says was durable. */
  durable: number;
  /** Of what stands at `at`; "zero" when nothing is to be expected there. */
  verdict: FrameVerdict;
}

/** What must stand behind the frames walked so far. */
function following(identity: SegmentIdentity, { at, sequence, chain }: FrameWalk): FollowingFrame {
  return { identity, kind: f.KIND_FRAME, offset: at, sequence: sequence + 1, chain };
}

/** Walks the frames of a segment, waiting for `reading` where it has not brought the bytes yet. */
async function walkFrames(
  bytes: Uint8Array,
  head: FrameExpectation,
  mark: Watermark | undefined,
  reading: Pick<Reading, "until">,
): Promise<FrameWalk> {
  const size = bytes.length;
  let arrived = 0;
  const data = viewOf(bytes);
  const words = wordsOf(bytes);
  const walk: FrameWalk = {
    headVerdict: "zero",
    frames: [],
    at: 0,
    sequence: 0,
    chain: 0,
    durable: 0,
    verdict: "zero",
  };
  const stop = mark?.closed === true ? mark.end : size;
  while (walk.frames.length === 0 || walk.at < stop) {
    const { at } = walk;
    // The header first, then as much as it says: nonsense in it makes us wait for the whole file, no more.
    if (arrived < size && arrived < at + f.HEADER_BYTES) arrived = await reading.until(at + f.HEADER_BYTES);
    if (arrived < size && arrived < at + frameBytesAt(data, at))
      arrived = await reading.until(at + frameBytesAt(data, at));
    const expected = walk.frames.length === 0 ? head : following(head.identity, walk);
    const verdict = checkFrame(bytes, data, at, expected, words);
    if (walk.frames.length === 0) {
      walk.headVerdict = verdict;
      walk.sequence = verdict === "valid" ? getU64(data, at + f.H_SEQUENCE) - 1 : 0;
    } else {
      walk.verdict = verdict;
    }
    if (verdict !== "valid") break;
    walk.frames.push(at);
    walk.sequence++;
    walk.chain = data.getUint32(at + f.H_CRC, true);
    walk.durable = Math.max(walk.durable, getU64(data, at + f.H_DURABLE));
    walk.at = at + frameBytesAt(data, at);
  }
  return walk;
}

const ZERO_BLOCK = new Uint8Array(4096);

/** Offset after the last byte at or beyond `at` that is not zero; `at` when there is none. */
function lastByte(bytes: Uint8Array, at: number): number {
  let end = bytes.length;
  const block = ZERO_BLOCK.length;
  // Most of a new segment is zeros: a block at a time they cost next to nothing.
  while (end - at >= block && Buffer.compare(bytes.subarray(end - block, end), ZERO_BLOCK) === 0) end -= block;
  while (end > at && bytes[end - 1] === 0) end--;
  return end;
}

/**
 * Why the bytes at `at` must have been a frame: STATE's watermark lies beyond it, or a later frame says it was durable.
 * A later frame that only stands there proves nothing: within one group sectors reach the disk in any order.
 */
function vouchedBeyond(
  bytes: Uint8Array,
  data: DataView,
  at: number,
  sequence: number,
  expected: FrameExpectation,
  mark: { end: number; sequence: number; chain: number } | undefined,
): string | undefined {
  if (mark !== undefined && mark.sequence >= sequence) return `STATE says that the log was durable up to ${mark.end}`;
  const end = lastByte(bytes, at);
  for (let p = at + 8; p + f.HEADER_BYTES <= end; p += 8) {
    if (data.getUint16(p + f.H_MAGIC, true) !== f.MAGIC) continue;
    const verdict = checkHeader(bytes, data, p, { ...expected, offset: p, sequence: undefined, chain: undefined });
    if (verdict === "valid" && getU64(data, p + f.H_DURABLE) >= sequence)
      return `the frame at ${p} says it was durable`;
  }
  return undefined;
}

/** What the frames at `frames` leave of the log, as records to write again. */
function collectCarried(
  bytes: Uint8Array,
  view: DataView,
  frames: readonly number[],
  from: number,
  base: number,
  dummyIndex: number,
  name: string,
): Omit<CarriedTail, "from" | "inPlace"> {
  const part = emptyPart();
  let recordsAt: number[] = [];
  let first = 0;
  for (const at of frames) {
    readPart(view, at, part);
    if ((part.flags & f.F_RESET) !== 0) recordsAt = [];
    if ((part.flags & f.F_RECORDS) === 0) continue;
    if (recordsAt.length === 0 || part.first <= first) {
      recordsAt = [];
      first = part.first;
    } else {
      recordsAt.length = Math.min(recordsAt.length, part.first - first);
    }
    let p = part.recordsAt;
    let blockEnd = part.blocks === 0 ? part.recordsEnd : 0;
    let block = 0;
    for (let i = 0; i < part.count; i++) {
      if (part.blocks > 0 && p >= blockEnd) {
        const entry = part.directoryAt + block * f.DIRECTORY_BYTES;
        if (block >= part.blocks) throw corrupt(name, at, "its blocks hold fewer records than it says");
        if (block > 0) p = Math.ceil(blockEnd / 8) * 8;
        p += f.BLOCK_BYTES;
        blockEnd = p + view.getUint32(entry, true);
        block++;
      }
      const dataAt = p + f.RECORD_BYTES;
      const dataEnd = dataAt <= part.recordsEnd ? dataAt + view.getUint32(p + f.R_DATA_BYTES, true) : dataAt;
      if (dataEnd > part.recordsEnd) throw corrupt(name, at, "its records are longer than it is");
      recordsAt.push(p);
      p = dataEnd;
    }
  }
  // What the tail compacts away itself is not written again.
  if (from <= dummyIndex) {
    recordsAt = recordsAt.slice(dummyIndex + 1 - from);
    from = dummyIndex + 1;
  }
  let dataBytes = 0;
  for (const at of recordsAt) {
    dataBytes += view.getUint32(at + f.R_DATA_BYTES, true);
    if (!Number.isSafeInteger(recordTag(view, at))) throw corrupt(name, at, "a record's tag is beyond 2^53");
  }
  const cut = from !== NO_RECORDS;
  return { bytes, view, recordsAt, first: cut ? from : base + 1, dataBytes, cut, base: cut ? from - 1 : base };
}
