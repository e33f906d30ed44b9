// Frames: what goes in comes out, and nothing that is not wholly as it was written is taken for valid. The small frames are
// tried bit by bit and byte by byte; the blocked ones bit by bit where checksums and lengths stand.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { viewOf } from "../../src/base/bytes.js";
import { crc32 } from "../../src/base/crc32.js";
import * as f from "../../src/wal/format.js";
import {
  checkFrame,
  checkHeader,
  emptyPart,
  emptyShape,
  flip,
  flippedBit,
  frameBytesAt,
  oneBitFromValid,
  PartWriter,
  readPart,
  segmentIdentity,
  walkRecords,
} from "../../src/wal/frame.js";
import { LogView, newSegment } from "../../src/wal/log-view.js";
import {
  type BuiltFrame,
  buildFrame,
  type Content,
  decodeFrame,
  LOG_ID,
  linkOf,
  PLACE,
  plain,
  recordsOf,
} from "./helpers.js";

const state = Uint8Array.from({ length: f.STATE_BYTES }, (_, i) => i + 100);
const mark = new TextEncoder().encode("a mark of 19 bytes.");
const link = linkOf(6, 8192, 40, 1, 3, 2, 9, 65536);

const packed = buildFrame({ state, mark, records: { first: 10, list: recordsOf([0, 1, 5, 30]) } });
const reset = buildFrame({ base: { flag: f.F_RESET, index: 90, tag: 4 }, state });
const blocked = buildFrame({ state, records: { first: 2 ** 33, list: recordsOf([9001, 9003, 17, 2]) } });
const head = buildFrame({ link, state, mark, records: { first: 10, list: recordsOf([3]) } });
const blockedHead = buildFrame({ link, state, mark, records: { first: 10, list: recordsOf([16001, 401]) } });
const small: [string, BuiltFrame][] = [
  ["packed", packed],
  ["reset", reset],
  ["head", head],
];
const all: [string, BuiltFrame][] = [...small, ["blocked", blocked], ["blocked head", blockedHead]];

function verdict({ bytes, view, expected }: BuiltFrame, changes: Partial<BuiltFrame["expected"]> = {}): string {
  return checkFrame(bytes, view, 0, { ...expected, ...changes });
}

/** The bits of a frame that no checksum covers: padding of a body, and of the blocks in it. */
function paddingBits(frame: BuiltFrame): Set<number> {
  const { view } = frame;
  const bits = new Set<number>();
  const add = (from: number, to: number): void => {
    for (let bit = from * 8; bit < to * 8; bit++) bits.add(bit);
  };
  const part = emptyPart();
  expect(readPart(view, 0, part)).toBe(true);
  let block = part.recordsAt;
  for (let i = 0; i < part.blocks; i++) {
    const end = block + f.BLOCK_BYTES + view.getUint32(part.directoryAt + i * f.DIRECTORY_BYTES, true);
    block = Math.ceil(end / 8) * 8;
    add(end, block);
  }
  const bodyEnd = f.HEADER_BYTES + view.getUint32(f.H_BODY_BYTES, true);
  add(bodyEnd, Math.ceil(bodyEnd / 8) * 8);
  return bits;
}

const anyU53 = fc.oneof(
  fc.nat(3),
  fc.nat(2 ** 31 - 1),
  fc.constantFrom(2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1),
  fc.maxSafeNat(),
);
const anyData = fc.oneof(
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 20 }) },
  {
    weight: 2,
    arbitrary: fc
      .record({ size: fc.integer({ min: 4000, max: 20_000 }), byte: fc.nat(255) })
      .map(({ size, byte }) => new Uint8Array(size).fill(byte)),
  },
);
const anyRecord = fc.record({
  tag: fc.oneof({ weight: 3, arbitrary: fc.constant(7) }, anyU53),
  kind: fc.nat(255),
  data: anyData,
});
const anyContent: fc.Arbitrary<Content> = fc.record({
  base: fc.option(
    fc.record({
      flag: fc.constantFrom(f.F_RESET, f.F_COMPACT),
      index: anyU53.map((index) => Math.min(index, 2 ** 53 - 2)),
      tag: anyU53,
    }),
    { nil: undefined },
  ),
  state: fc.option(fc.uint8Array({ minLength: f.STATE_BYTES, maxLength: f.STATE_BYTES }), { nil: undefined }),
  mark: fc.option(fc.uint8Array({ maxLength: 70 }), { nil: undefined }),
  records: fc.option(
    fc.record({
      first: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constantFrom(2 ** 32, 2 ** 53 - 100)),
      list: fc.array(anyRecord, { maxLength: 12 }),
    }),
    { nil: undefined },
  ),
  link: fc.option(fc.constant(link), { nil: undefined }),
});

describe("PartWriter and readPart()", () => {
  it("give back what was encoded, whatever its shape, with one writer for all", () => {
    const writer = new PartWriter();
    fc.assert(
      fc.property(anyContent, (content) => {
        const frame = buildFrame(content, PLACE, writer);
        expect(verdict(frame)).toBe("valid");
        expect(frame.bytes.length).toBe(frameBytesAt(frame.view, 0));
        expect(frame.bytes.length % 8).toBe(0);
        expect(plain(decodeFrame(frame.bytes, frame.view))).toEqual(plain({ link: undefined, ...content }));
        for (const bit of paddingBits(frame)) expect(frame.bytes[Math.floor(bit / 8)]).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it("keep bodies up to 16 KiB of records whole and cut larger ones between records", () => {
    const blocksOf = (sizes: readonly number[]): number => {
      const part = emptyPart();
      readPart(buildFrame({ records: { first: 1, list: recordsOf(sizes) } }).view, 0, part);
      return part.blocks;
    };
    const whole = f.BLOCK_TARGET_BYTES - f.RECORD_BYTES;
    expect(blocksOf([])).toBe(0);
    expect(blocksOf([whole])).toBe(0);
    expect(blocksOf([whole + 1])).toBe(1);
    expect(blocksOf([whole, 0])).toBe(2);
    expect(blocksOf([1, whole])).toBe(2);
    expect(blocksOf([50_000, 1, 1, 50_000])).toBe(3);
  });

  it("grow the block directory beyond its first size", () => {
    const list = recordsOf(Array.from({ length: 300 }, (_, i) => 16_400 + (i % 5)));
    const frame = buildFrame({ records: { first: 1, list } });
    expect(verdict(frame)).toBe("valid");
    expect(plain(decodeFrame(frame.bytes, frame.view)?.records?.list)).toEqual(plain(list));
  });

  it("refuse to end with another number of records than was begun", () => {
    const shape = { ...emptyShape(), hasRecords: true, first: 1, count: 2 };
    const bytes = new Uint8Array(512);
    const writer = new PartWriter();
    writer.begin(bytes, viewOf(bytes), f.HEADER_BYTES, f.HEADER_BYTES, shape);
    writer.record(1, 0, new Uint8Array(0));
    expect(() => writer.end()).toThrow("another number of records");
  });

  it("carry the owner's bytes of a state that was filled in after begin()", () => {
    expect(decodeFrame(packed.bytes, packed.view)?.state).toEqual(state);
    expect(decodeFrame(reset.bytes, reset.view)?.base).toEqual({ flag: f.F_RESET, index: 90, tag: 4 });
  });
});

describe("checkFrame()", () => {
  it.each(all)("finds every flipped bit of a %s frame that stands for something", (_name, frame) => {
    const { bytes, view } = frame;
    const padding = paddingBits(frame);
    const before = plain(decodeFrame(bytes, view));
    const wrong: number[] = [];
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      flip(bytes, bit);
      if ((verdict(frame) === "valid") !== padding.has(bit)) wrong.push(bit);
      flip(bytes, bit);
    }
    for (const bit of padding) flip(bytes, bit);
    expect(plain(decodeFrame(bytes, view))).toEqual(before);
    for (const bit of padding) flip(bytes, bit);
    expect(wrong).toEqual([]);
    expect(verdict(frame)).toBe("valid");
  });

  it.each(all)("takes no %s frame that ends early, by cut or by zeros", (_name, { bytes, expected }) => {
    const zeroed = bytes.slice();
    const zeroedView = viewOf(zeroed);
    for (let length = bytes.length - 1; length >= 0; length--) {
      const cut = bytes.subarray(0, length);
      expect(checkFrame(cut, viewOf(cut), 0, expected)).toMatch(/^(length|zero)$/);
      zeroed[length] = 0;
      const got = checkFrame(zeroed, zeroedView, 0, expected);
      if (got === "valid" || (got === "zero") !== (length === 0)) throw new Error(`zeros from ${length}: ${got}`);
    }
  });

  it.each(all)("takes a %s frame in its own place only", (_name, frame) => {
    const { expected } = frame;
    const { generation, seed } = expected.identity;
    const otherLog = LOG_ID.slice();
    otherLog[0] = 99;
    const otherHalf = LOG_ID.slice();
    otherHalf[11] = 99;
    expect(verdict(frame, { identity: segmentIdentity(LOG_ID, generation + 1) })).toBe("header");
    expect(verdict(frame, { identity: { ...segmentIdentity(LOG_ID, generation + 1), seed } })).toBe("place");
    expect(verdict(frame, { identity: segmentIdentity(otherLog, generation) })).toBe("place");
    expect(verdict(frame, { identity: { ...expected.identity, logIdHigh: 1 } })).toBe("place");
    expect(verdict(frame, { identity: segmentIdentity(otherHalf, generation) })).toBe("header");
    expect(verdict(frame, { offset: expected.offset + 8 })).toBe("place");
    expect(verdict(frame, { sequence: PLACE.sequence + 1 })).toBe("place");
    expect(verdict(frame, { chain: PLACE.chain + 1 })).toBe("place");
    expect(verdict(frame, { kind: f.KIND_FRAME + f.KIND_HEAD - expected.kind })).toBe("place");
    expect(verdict(frame, { sequence: undefined, chain: undefined })).toBe("valid");
  });

  it("gives no two generations of a log the same seed", () => {
    const seeds = Array.from({ length: 1000 }, (_, i) => segmentIdentity(LOG_ID, i + 1).seed);
    expect(new Set(seeds).size).toBe(1000);
  });

  it("says what stands there instead", () => {
    const { bytes, expected } = packed;
    const at = (change: (copy: Uint8Array, view: DataView) => void): string => {
      const copy = bytes.slice();
      change(copy, viewOf(copy));
      return checkFrame(copy, viewOf(copy), 0, expected);
    };
    const reseal = (copy: Uint8Array, view: DataView): void =>
      view.setUint32(f.H_CRC, crc32(copy.subarray(4, f.HEADER_BYTES), expected.identity.seed), true);
    const put = (field: number, value: number): string =>
      at((copy, view) => {
        view.setUint32(field, value, true);
        reseal(copy, view);
      });
    const putByte = (field: number, value: number): string =>
      at((copy, view) => {
        view.setUint8(field, value);
        reseal(copy, view);
      });
    expect(at((copy) => copy.fill(0))).toBe("zero");
    expect(at((copy) => copy.fill(0, 0, f.HEADER_BYTES))).toBe("zero");
    expect(at((copy) => copy.fill(0, 0, f.HEADER_BYTES - 1))).toBe("header");
    expect(putByte(f.H_VERSION, f.FORMAT_VERSION + 1)).toBe("version");
    expect(putByte(f.H_VERSION, 0)).toBe("place");
    expect(put(f.H_META_BYTES, f.PART_BYTES - 1)).toBe("place");
    expect(put(f.H_BODY_BYTES, f.PART_BYTES)).toBe("place");
    expect(put(f.H_BODY_BYTES, 0xffffffff)).toBe("length");
    expect(at((copy) => flip(copy, 8 * f.HEADER_BYTES))).toBe("meta");
    expect(at((copy) => flip(copy, 8 * copy.length - 1))).toBe("trailer");
    expect(at((copy) => flip(copy, 8 * copy.length - 33))).toBe("trailer");
    const block = blocked.bytes.slice();
    flip(block, 8 * (block.length - 200));
    expect(checkFrame(block, viewOf(block), 0, blocked.expected)).toBe("block");
  });

  it("reads the frame at an offset of a larger buffer, and nothing behind it", () => {
    const bytes = new Uint8Array(packed.bytes.length + 48).fill(0xff);
    bytes.set(packed.bytes, 24);
    expect(checkFrame(bytes, viewOf(bytes), 24, packed.expected)).toBe("valid");
    expect(checkHeader(bytes, viewOf(bytes), 24, packed.expected)).toBe("valid");
    expect(checkHeader(bytes, viewOf(bytes), bytes.length - 8, packed.expected)).toBe("length");
    expect(checkHeader(new Uint8Array(70), viewOf(new Uint8Array(70)), 8, packed.expected)).toBe("zero");
  });

  it("carries the watermark and chains frames to each other", () => {
    const next = buildFrame({ state }, { ...PLACE, chain: packed.crc, sequence: 42, durable: 2 ** 40 });
    expect(next.view.getUint32(f.H_CHAIN, true)).toBe(packed.view.getUint32(f.H_CRC, true));
    expect(next.view.getBigUint64(f.H_DURABLE, true)).toBe(2n ** 40n);
    expect(verdict(next)).toBe("valid");
  });
});

describe("oneBitFromValid()", () => {
  function expectFound(frame: BuiltFrame, bits: Iterable<number>): void {
    const { bytes, view, expected } = frame;
    const padding = paddingBits(frame);
    for (const bit of bits) {
      if (padding.has(bit)) continue;
      flip(bytes, bit);
      const found = oneBitFromValid(bytes, view, 0, expected);
      flip(bytes, bit);
      if (found !== bit) throw new Error(`bit ${bit} flipped, ${found} found`);
    }
    expect(verdict(frame)).toBe("valid");
  }

  function* range(from: number, to: number, step = 1): Generator<number> {
    for (let bit = from; bit < to; bit += step) yield bit;
  }

  it.each(small)("finds the flipped bit of a %s frame, whichever it is", (_name, frame) => {
    expectFound(frame, range(0, frame.bytes.length * 8));
  });

  it.each([
    ["frame", blocked],
    ["head", blockedHead],
  ])("finds the flipped bit of a blocked %s", (_name, frame) => {
    const part = emptyPart();
    readPart(frame.view, 0, part);
    const bits = frame.bytes.length * 8;
    expectFound(frame, range(0, (part.recordsAt + f.BLOCK_BYTES + f.RECORD_BYTES) * 8));
    expectFound(frame, range(part.directoryAt * 8, bits));
    expectFound(frame, range(part.recordsAt * 8, part.directoryAt * 8, 61));
    const second = part.recordsAt + f.BLOCK_BYTES + Math.ceil(frame.view.getUint32(part.directoryAt, true) / 8) * 8;
    expectFound(frame, range(second * 8, (second + f.BLOCK_BYTES) * 8));
  });

  it("finds it at an offset of a larger buffer", () => {
    const bytes = new Uint8Array(packed.bytes.length + 24);
    bytes.set(packed.bytes, 16);
    for (const bit of [16 * 8, 16 * 8 + 300, 16 * 8 + 700, bytes.length * 8 - 70]) {
      flip(bytes, bit);
      expect(oneBitFromValid(bytes, viewOf(bytes), 16, packed.expected)).toBe(bit);
      flip(bytes, bit);
    }
  });

  const bare = (fill: (data: Uint8Array) => void, size = 100): BuiltFrame => {
    const data = new Uint8Array(size);
    fill(data);
    return buildFrame({ records: { first: 1, list: [{ tag: 1, kind: 0, data }] } }, { ...PLACE, chain: 0x01000000 });
  };
  it.each([
    ...all,
    ["zero payload", bare(() => {})],
    ["payload of one bit", bare((data) => (data[50] = 4))],
    ["payload of one last bit", bare((data) => (data[99] = 0x80))],
    ["blocked payload of one bit", bare((data) => (data[data.length - 1] = 1), 16_500)],
  ] as [string, BuiltFrame][])("takes no tear for a flipped bit: %s", (_name, { bytes, expected }) => {
    const torn = bytes.slice();
    const view = viewOf(torn);
    // Long runs of payload are all alike; their ends and everything else are cut at every byte.
    for (let length = torn.length - 1; length >= 0; length--) {
      torn[length] = 0;
      const dull = length > 1000 && length < torn.length - 1000 && length % 97 !== 0;
      if (dull) continue;
      const found = oneBitFromValid(torn, view, 0, expected);
      if (found !== -1) throw new Error(`cut at ${length}: bit ${found}`);
    }
    for (let length = bytes.length - 1; length >= 0; length -= length > 1000 ? 97 : 1) {
      const cut = bytes.slice(0, length);
      if (oneBitFromValid(cut, viewOf(cut), 0, expected) !== -1) throw new Error(`ends at ${length}`);
    }
  });

  it.each(all)("answers -1 for two flipped bits of a %s frame, and leaves the bytes alone", (_name, frame) => {
    const { bytes, view, expected } = frame;
    const padding = paddingBits(frame);
    const covered = fc.nat(bytes.length * 8 - 1).filter((bit) => !padding.has(bit));
    fc.assert(
      fc.property(covered, covered, (a, b) => {
        fc.pre(a !== b);
        flip(bytes, a);
        flip(bytes, b);
        const before = bytes.slice();
        const found = oneBitFromValid(bytes, view, 0, expected);
        const same = Buffer.compare(before, bytes) === 0;
        flip(bytes, a);
        flip(bytes, b);
        // Any three flips of up to 91,607 bits change a CRC-32; in longer ones, as a full block is, one pair in some
        // 30,000 is one flip from another valid message.
        if (found !== -1) expect(Math.max(a, b, found) - Math.min(a, b, found)).toBeGreaterThan(91_607 - 32);
        expect(same).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("answers -1 for a valid frame, for zeros and for a frame of another place", () => {
    const { bytes, view, expected } = packed;
    expect(oneBitFromValid(bytes, view, 0, expected)).toBe(-1);
    expect(oneBitFromValid(new Uint8Array(400), viewOf(new Uint8Array(400)), 0, expected)).toBe(-1);
    expect(oneBitFromValid(bytes, view, 0, { ...expected, offset: 8 })).toBe(-1);
  });

  it("answers -1 for two flipped bits of one block's check, of one trailer word, of the header's checksum", () => {
    const { bytes, view, expected } = blocked;
    const part = emptyPart();
    readPart(view, 0, part);
    for (const at of [part.recordsAt + f.B_CHECK, bytes.length - 8, bytes.length - 4, f.H_CRC]) {
      for (let bit = 1; bit < 32; bit++) {
        flip(bytes, at * 8);
        flip(bytes, at * 8 + bit);
        expect(verdict(blocked)).not.toBe("valid");
        expect(oneBitFromValid(bytes, view, 0, expected)).toBe(-1);
        flip(bytes, at * 8);
        flip(bytes, at * 8 + bit);
      }
    }
  });

  it("answers -1 for a directory that leaves the frame", () => {
    const bytes = blocked.bytes.slice();
    const view = viewOf(bytes);
    view.setUint32(f.HEADER_BYTES + f.P_BLOCKS, 0xffffffff, true);
    expect(oneBitFromValid(bytes, view, 0, blocked.expected)).toBe(-1);
  });
});

describe("flippedBit()", () => {
  it("is the inverse of a flip, for every bit of messages of any length", () => {
    for (const length of [1, 2, 7, 60, 200]) {
      const bytes = Uint8Array.from({ length }, (_, i) => i * 37);
      const before = crc32(bytes, 5);
      for (let bit = 0; bit < length * 8; bit++) {
        flip(bytes, bit);
        expect(flippedBit((before ^ crc32(bytes, 5)) >>> 0, length)).toBe(bit);
        flip(bytes, bit);
      }
    }
    expect(flippedBit(0, 1000)).toBe(-1);
  });
});

describe("a frame with valid checksums that no writer of ours made", () => {
  // Field values near the edges: what a length, a count or an index must not be believed at.
  const anyU32 = fc.oneof(
    { weight: 6, arbitrary: fc.constant(0) },
    { weight: 6, arbitrary: fc.nat(40) },
    { weight: 1, arbitrary: fc.constantFrom(0x7fffffff, 0x80000000, 0xffffffff) },
    { weight: 1, arbitrary: fc.nat(2 ** 31 - 1) },
  );
  const anyDoubtful: fc.Arbitrary<Content> = fc.record({
    base: fc.option(fc.record({ flag: fc.constantFrom(f.F_RESET, f.F_COMPACT), index: fc.nat(9), tag: fc.nat(9) }), {
      nil: undefined,
    }),
    state: fc.option(fc.constant(state), { nil: undefined }),
    mark: fc.option(fc.constant(mark), { nil: undefined }),
    records: fc.option(
      fc.record({
        first: fc.integer({ min: 10, max: 14 }),
        list: fc.oneof(
          fc.array(fc.record({ tag: fc.nat(2), kind: fc.nat(1), data: fc.uint8Array({ maxLength: 9 }) })),
          fc.constant(recordsOf([8200, 8200, 8, 8200])),
        ),
      }),
      { nil: undefined },
    ),
    link: fc.option(fc.constant(link), { nil: undefined }),
  });
  // Counted in words from the end of the link, or from the end of the body, where fields stand close together.
  const anyChanges = fc.array(
    fc.record({ word: fc.oneof(fc.nat(18), fc.integer({ min: -6, max: -1 })), value: anyU32 }),
    { minLength: 1, maxLength: 3 },
  );

  /** Puts every checksum of a changed frame right again, as far as its lengths can be followed. */
  function reseal({ bytes, view, expected }: BuiltFrame): void {
    const { seed } = expected.identity;
    const part = f.HEADER_BYTES + (expected.kind === f.KIND_HEAD ? f.LINK_BYTES : 0);
    const metaEnd = f.HEADER_BYTES + view.getUint32(f.H_META_BYTES, true);
    const bodyEnd = f.HEADER_BYTES + view.getUint32(f.H_BODY_BYTES, true);
    const directory = bodyEnd - view.getUint32(part + f.P_BLOCKS, true) * f.DIRECTORY_BYTES;
    let crc = crc32(bytes.subarray(f.HEADER_BYTES, metaEnd));
    if (metaEnd < bodyEnd && directory >= metaEnd) {
      let block = metaEnd;
      for (let entry = directory; entry < bodyEnd; entry += f.DIRECTORY_BYTES) {
        const end = block + f.BLOCK_BYTES + view.getUint32(entry, true);
        if (end > directory) break;
        const blockCrc = crc32(bytes.subarray(block + f.B_RECORD_BYTES, end));
        view.setUint32(entry + 4, blockCrc, true);
        view.setUint32(block + f.B_CHECK, (blockCrc ^ seed) >>> 0, true);
        block = Math.ceil(end / 8) * 8;
      }
      crc = crc32(bytes.subarray(directory, bodyEnd), crc);
    }
    view.setUint32(f.H_BODY_CRC, crc, true);
    view.setUint32(f.H_CRC, crc32(bytes.subarray(4, f.HEADER_BYTES), seed), true);
  }

  it("is answered, never thrown at: checkFrame(), readPart(), walkRecords(), LogView.apply()", () => {
    const seen = { invalid: 0, refused: 0, read: 0, walked: 0, applied: 0, contradicts: 0 };
    fc.assert(
      fc.property(anyDoubtful, anyChanges, (content, changes) => {
        const frame = buildFrame(content);
        const { bytes, view, expected } = frame;
        const partAt = f.HEADER_BYTES + (content.link === undefined ? 0 : f.LINK_BYTES);
        const bodyEnd = f.HEADER_BYTES + view.getUint32(f.H_BODY_BYTES, true);
        for (const { word, value } of changes) {
          const at = word < 0 ? bodyEnd + 4 * word : partAt + 4 * word;
          if (at >= partAt && at + 4 <= bodyEnd) view.setUint32(at, value, true);
        }
        reseal(frame);
        const got = checkFrame(bytes, view, 0, expected);
        expect(got).toMatch(/^(valid|meta|block)$/);
        oneBitFromValid(bytes, view, 0, expected);
        if (got !== "valid") {
          seen.invalid++;
          return;
        }
        const part = emptyPart();
        if (!readPart(view, 0, part)) {
          seen.refused++;
          return;
        }
        seen.read++;
        expect(part.recordsAt).toBeLessThanOrEqual(part.recordsEnd);
        expect(part.recordsEnd).toBeLessThanOrEqual(part.directoryAt);
        expect(part.directoryAt).toBeLessThanOrEqual(bodyEnd);
        const { recordsAt, recordsEnd, first, count } = part;
        let end = recordsAt;
        const whole = walkRecords(view, recordsAt, recordsEnd, first, count, (_index, _tag, _kind, from, to) => {
          expect(from).toBe(end + f.RECORD_BYTES);
          expect(to).toBeLessThanOrEqual(recordsEnd);
          end = to;
        });
        if (whole) seen.walked++;
        const log = new LogView();
        log.last = 12;
        if (log.apply(bytes, view, 0, 0, newSegment(LOG_ID, 7, 4096, 0, 0))) seen.applied++;
        else seen.contradicts++;
      }),
      { numRuns: 4000 },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(20);
  });

  const part = (change: (view: DataView, at: number) => void, content: Content): boolean => {
    const { view, expected } = buildFrame(content);
    change(view, f.HEADER_BYTES + (expected.kind === f.KIND_HEAD ? f.LINK_BYTES : 0));
    return readPart(view, 0, emptyPart());
  };
  const records = { first: 5, list: recordsOf([4, 4]) };
  const recordsAt = f.PART_BYTES;
  const u32 = (field: number, value: number) => (view: DataView, at: number) => view.setUint32(at + field, value, true);
  const u64 = (field: number, value: bigint) => (view: DataView, at: number) =>
    view.setBigUint64(at + field, value, true);
  const big = { first: 5, list: recordsOf([9000, 9000]) };
  it.each<[string, (view: DataView, at: number) => void, Content]>([
    ["an unknown flag", u32(f.P_FLAGS, f.F_ALL + 1), {}],
    ["another group", u64(f.P_GROUP, 1n), {}],
    ["no room for the base", u32(f.P_FLAGS, f.F_RESET), {}],
    ["a base index beyond the largest", u64(f.PART_BYTES, 2n ** 53n - 1n), { base: { flag: 8, index: 1, tag: 1 } }],
    ["a base tag beyond 2^53", u64(f.PART_BYTES + 8, 2n ** 53n), { base: { flag: 8, index: 1, tag: 1 } }],
    ["no room for the state", u32(f.P_FLAGS, f.F_STATE), {}],
    ["no room for the mark", u32(f.P_MARK_BYTES, 25), { mark }],
    ["mark bytes without a mark", u32(f.P_MARK_BYTES, 1), {}],
    ["records without the flag", u32(f.P_COUNT, 1), {}],
    ["blocks without records", u32(f.P_BLOCKS, 1), {}],
    ["bytes behind the last field", u32(f.P_FLAGS, 0), { state }],
    ["no room for the first index", u32(f.P_FLAGS, f.F_RECORDS), {}],
    ["first index 0", u64(recordsAt, 0n), { records }],
    ["a first index beyond 2^53", u64(recordsAt, 2n ** 60n), { records }],
    ["a last index beyond the largest", u64(recordsAt, 2n ** 53n - 2n), { records }],
    ["a tag beyond 2^53", u64(recordsAt + 8, 2n ** 53n), { records }],
    ["more records than bytes", u32(f.P_COUNT, 3), { records }],
    ["bytes without records", u32(f.P_COUNT, 0), { records }],
    ["blocks in a whole body", u32(f.P_BLOCKS, 1), { records }],
    ["no blocks in a blocked body", u32(f.P_BLOCKS, 0), { records: big }],
    ["more blocks than records", u32(f.P_COUNT, 1), { records: big }],
    ["a directory larger than the body", u32(f.P_BLOCKS, 0xfffffff), { records: { ...big, first: 1 } }],
  ])("readPart() refuses %s", (_name, change, content) => {
    expect(part(() => {}, content)).toBe(true);
    expect(part(change, content)).toBe(false);
  });

  it("checkHeader() refuses a head too short for its link", () => {
    const { bytes, view, expected } = buildFrame({ state });
    view.setUint8(f.H_KIND, f.KIND_HEAD);
    view.setUint32(f.H_CRC, crc32(bytes.subarray(4, f.HEADER_BYTES), expected.identity.seed), true);
    expect(checkHeader(bytes, view, 0, { ...expected, kind: f.KIND_HEAD })).toBe("place");
  });
});

describe("walkRecords()", () => {
  it("is false when records do not fill their room exactly, and never reads outside it", () => {
    const { view } = packed;
    const p = emptyPart();
    readPart(view, 0, p);
    const walk = (at: number, end: number, count: number): boolean => walkRecords(view, at, end, 1, count, () => {});
    expect(walk(p.recordsAt, p.recordsEnd, 4)).toBe(true);
    expect(walk(p.recordsAt, p.recordsEnd, 3)).toBe(false);
    expect(walk(p.recordsAt, p.recordsEnd, 5)).toBe(false);
    for (let end = p.recordsAt; end < p.recordsEnd; end++) expect(walk(p.recordsAt, end, 4)).toBe(false);
    expect(walk(view.byteLength, view.byteLength, 1)).toBe(false);
    expect(walk(view.byteLength, view.byteLength, 0)).toBe(true);
  });
});
