// What the tests of the log engine share: frames made and taken apart field by field, errors by their code, and disks that
// fail or wait at a chosen call.

import { putU64, viewOf } from "../../src/base/bytes.js";
import { StableLogError } from "../../src/base/errors.js";
import type { Disk, DiskFile } from "../../src/disk/disk.js";
import { systemError } from "../../src/disk/system-error.js";
import * as f from "../../src/wal/format.js";
import {
  emptyPart,
  emptyShape,
  type FrameExpectation,
  frameBytes,
  PartWriter,
  partBytesMax,
  readPart,
  type SegmentIdentity,
  segmentIdentity,
  stampFrame,
  walkRecords,
} from "../../src/wal/frame.js";

export interface TestRecord {
  readonly tag: number;
  readonly kind: number;
  readonly data: Uint8Array;
}

/** What a frame holds, as a test says it and as decodeFrame() finds it. */
export interface Content {
  readonly base?: { readonly flag: number; readonly index: number; readonly tag: number } | undefined;
  readonly state?: Uint8Array | undefined;
  readonly mark?: Uint8Array | undefined;
  readonly records?: { readonly first: number; readonly list: readonly TestRecord[] } | undefined;
  /** Makes the frame a head. */
  readonly link?: Uint8Array | undefined;
}

export interface Place {
  readonly identity: SegmentIdentity;
  readonly offset: number;
  readonly sequence: number;
  readonly durable: number;
  readonly chain: number;
}

export interface BuiltFrame {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly crc: number;
  readonly expected: FrameExpectation;
}

export const LOG_ID = Uint8Array.from({ length: 16 }, (_, i) => 17 * i + 3);

export const PLACE: Place = {
  identity: segmentIdentity(LOG_ID, 7),
  offset: 4096,
  sequence: 41,
  durable: 40,
  chain: 0xdeadbeef,
};

export function recordsOf(sizes: readonly number[], tag = 5): TestRecord[] {
  return sizes.map((size, i) => ({
    tag,
    kind: i % 3,
    data: Uint8Array.from({ length: size }, (_, at) => (at * 31 + i * 7 + 1) & 255),
  }));
}

/** One whole frame, encoded over a buffer full of old bytes, as buffers are when they are used again. */
export function buildFrame(content: Content, place: Place = PLACE, writer = new PartWriter()): BuiltFrame {
  const shape = emptyShape();
  shape.mark = content.mark;
  shape.hasState = content.state !== undefined;
  if (content.base !== undefined) {
    shape.baseFlag = content.base.flag;
    shape.baseIndex = content.base.index;
    shape.baseTag = content.base.tag;
  }
  if (content.records !== undefined) {
    shape.hasRecords = true;
    shape.first = content.records.first;
    shape.count = content.records.list.length;
    shape.dataBytes = content.records.list.reduce((sum, { data }) => sum + data.length, 0);
  }
  const linkBytes = content.link === undefined ? 0 : f.LINK_BYTES;
  const most = frameBytes(linkBytes + partBytesMax(shape));
  const bytes = new Uint8Array(most + 64).fill(0xa5);
  const view = viewOf(bytes);
  const body = f.HEADER_BYTES;
  if (content.link !== undefined) bytes.set(content.link, body);
  writer.begin(bytes, view, body, body + linkBytes, shape);
  if (content.state !== undefined) bytes.set(content.state, writer.stateAt);
  for (const { tag, kind, data } of content.records?.list ?? []) writer.record(tag, kind, data);
  const end = writer.end();
  if (end > most) throw new Error(`partBytesMax() promised ${most} bytes, the frame took ${end}`);
  const kind = content.link === undefined ? f.KIND_FRAME : f.KIND_HEAD;
  const { identity, offset, sequence, durable, chain } = place;
  const crc = stampFrame(bytes, view, 0, kind, identity, sequence, durable, offset, chain) >>> 0;
  const frame = bytes.slice(0, end);
  return { bytes: frame, view: viewOf(frame), crc, expected: { identity, kind, offset, sequence, chain } };
}

/** What the checked frame at `at` holds; undefined when readPart() or the walk over its records refuses it. */
export function decodeFrame(bytes: Uint8Array, view: DataView, at = 0): Content | undefined {
  const part = emptyPart();
  if (!readPart(view, at, part)) return undefined;
  const flag = part.flags & (f.F_RESET | f.F_COMPACT);
  const head = view.getUint8(at + f.H_KIND) === f.KIND_HEAD;
  const list: TestRecord[] = [];
  const walk = (from: number, to: number, first: number, count: number): boolean =>
    walkRecords(view, from, to, first, count, (_index, tag, kind, dataAt, dataEnd) => {
      list.push({ tag, kind, data: bytes.slice(dataAt, dataEnd) });
    });
  if ((part.flags & f.F_RECORDS) !== 0) {
    if (part.blocks === 0) {
      if (!walk(part.recordsAt, part.recordsEnd, part.first, part.count)) return undefined;
    } else {
      let block = part.recordsAt;
      for (let i = 0; i < part.blocks; i++) {
        const recordBytes = view.getUint32(part.directoryAt + i * f.DIRECTORY_BYTES, true);
        const first = part.first + list.length;
        if (view.getUint32(block + f.B_RECORD_BYTES, true) !== recordBytes) return undefined;
        if (view.getUint32(block + f.B_FIRST, true) !== first % 2 ** 32) return undefined;
        let p = block + f.BLOCK_BYTES;
        const end = p + recordBytes;
        while (p < end) {
          const next = p + f.RECORD_BYTES + view.getUint32(p + f.R_DATA_BYTES, true);
          if (!walk(p, next, part.first + list.length, 1)) return undefined;
          p = next;
        }
        block = Math.ceil(end / 8) * 8;
      }
      if (block !== part.recordsEnd || list.length !== part.count) return undefined;
    }
  }
  const mixed = list.some(({ tag }) => tag !== list[0]?.tag);
  if (mixed !== ((part.flags & f.F_MIXED) !== 0)) return undefined;
  return {
    base: flag === 0 ? undefined : { flag, index: part.baseIndex, tag: part.baseTag },
    state: (part.flags & f.F_STATE) === 0 ? undefined : bytes.slice(part.stateAt, part.stateAt + f.STATE_BYTES),
    mark: (part.flags & f.F_MARK) === 0 ? undefined : bytes.slice(part.markAt, part.markAt + part.markBytes),
    records: (part.flags & f.F_RECORDS) === 0 ? undefined : { first: part.first, list },
    link: head ? bytes.slice(at + f.HEADER_BYTES, at + f.HEADER_BYTES + f.LINK_BYTES) : undefined,
  };
}

/** `value` with its bytes as hexadecimal strings: what expect() compares in no time and prints in one line. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

/** A link of the given numbers, for frames whose link nobody reads. */
export function linkOf(...numbers: number[]): Uint8Array {
  const link = new Uint8Array(f.LINK_BYTES);
  link.set(LOG_ID);
  const view = viewOf(link);
  for (const [i, number] of numbers.entries()) putU64(view, 16 + 8 * i, number);
  return link;
}

/** The code of the StableLogError that `call` throws, undefined when it throws nothing. */
export function codeOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    if (error instanceof StableLogError) return error.code;
    throw error;
  }
  return undefined;
}

/** The code of the StableLogError that `promise` rejects with, undefined when it resolves. */
export async function rejection(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof StableLogError) return error.code;
    throw error;
  }
  return undefined;
}

/** Waits for `turns` turns of the event loop. */
export async function turns(count = 1): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Called before every call of a watched disk or one of its files; may throw, or make the asynchronous ones wait. */
export type Watcher = (call: string, path: string) => void | Promise<void>;

/** `disk`, with `watch` told of each call before it is made. */
export function watchedDisk<D extends Disk>(disk: D, watch: Watcher): D {
  const watched = <T extends object>(target: T, path: string): T =>
    new Proxy(target, {
      get(_target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function" || typeof name !== "string") return value;
        return (...args: unknown[]) => {
          const at = typeof args[0] === "string" ? args[0] : path;
          const call = (): unknown => Reflect.apply(value, target, args);
          const wrap = (result: unknown): unknown => (isFile(result) ? watched(result, at) : result);
          if (["size", "read", "write", "sync", "openNow", "allocate", "entropy"].includes(name)) {
            void watch(name, at);
            return wrap(call());
          }
          return (async () => {
            await watch(name, at);
            return wrap(await call());
          })();
        };
      },
    });
  return watched(disk, "");
}

function isFile(value: unknown): value is DiskFile {
  return typeof value === "object" && value !== null && "writeLater" in value;
}

/** A watcher that fails the n-th of the calls that `counts`, and says whether it did. */
export function failNth(n: number, code: string, counts: (call: string) => boolean = () => true) {
  let calls = 0;
  const watcher = {
    failed: false,
    watch: (call: string, path: string): void => {
      if (!counts(call) || calls++ !== n) return;
      watcher.failed = true;
      throw systemError(code, call, path);
    },
  };
  return watcher;
}
