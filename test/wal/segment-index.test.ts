// SegmentIndex against a plain list of what was put in, and its side file against damage.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { viewOf } from "../../src/base/bytes.js";
import { crc32 } from "../../src/base/crc32.js";
import * as f from "../../src/wal/format.js";
import { flip, segmentIdentity } from "../../src/wal/frame.js";
import { type IndexBinding, SegmentIndex } from "../../src/wal/segment-index.js";
import { LOG_ID } from "./helpers.js";

const binding: IndexBinding = { identity: segmentIdentity(LOG_ID, 5), end: 1 << 20, sequence: 77, chain: 0xfeedface };

/** One frame's worth of places, as log-view.ts adds them. */
interface Save {
  readonly back: number;
  readonly blocks: readonly { readonly tags: readonly number[] }[];
}

interface Place {
  readonly first: number;
  readonly offset: number;
  readonly inBlock: boolean;
}

/** What a SegmentIndex must answer, kept the slow way. */
class Model {
  places: Place[] = [];
  tags = new Map<number, number>();
  readonly start: number;
  last: number;

  constructor(start: number) {
    this.start = start;
    this.last = start - 1;
  }

  cut(first: number): void {
    this.places = this.places.filter((place) => place.first < first);
    for (const index of this.tags.keys()) if (index >= first) this.tags.delete(index);
    this.last = Math.min(this.last, first - 1);
  }
}

function apply(index: SegmentIndex, model: Model, save: Save, offset: number): void {
  const first = Math.max(1, model.last + 1 - save.back);
  if (first <= model.last) {
    index.cut(first);
    model.cut(first);
  }
  let next = first;
  const inBlock = save.blocks.length > 1;
  for (const [i, { tags }] of save.blocks.entries()) {
    index.addTag(next, tags[0] ?? 0);
    index.addPlace(next, offset + i * 64, inBlock);
    model.places.push({ first: next, offset: offset + i * 64, inBlock });
    for (const tag of tags) {
      index.addTag(next, tag);
      model.tags.set(next++, tag);
    }
  }
  model.last = next - 1;
}

function expectSame(index: SegmentIndex, model: Model): void {
  expect(index.placeCount).toBe(model.places.length);
  const places = model.places.map((_, i) => ({
    first: index.firstOf(i),
    offset: index.offsetOf(i),
    inBlock: index.inBlock(i),
  }));
  expect(places).toEqual(model.places);
  const low = model.places[0]?.first ?? model.start;
  for (let record = low - 2; record <= model.last + 2; record++) {
    expect(index.find(record)).toBe(model.places.findLastIndex(({ first }) => first <= record));
    const tag = model.tags.get(record);
    if (tag !== undefined) expect(index.tag(record)).toBe(tag);
  }
}

const anyTag = fc.oneof({ weight: 4, arbitrary: fc.nat(2) }, fc.constantFrom(2 ** 32, 2 ** 53 - 1));
const anySave: fc.Arbitrary<Save> = fc.record({
  back: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(12)),
  blocks: fc.array(fc.record({ tags: fc.array(anyTag, { minLength: 1, maxLength: 4 }) }), {
    minLength: 1,
    maxLength: 3,
  }),
});
const anyStep = fc.oneof(
  { weight: 8, arbitrary: anySave },
  { weight: 1, arbitrary: fc.constant("clear" as const) },
  { weight: 1, arbitrary: fc.constant("cut" as const) },
  { weight: 1, arbitrary: fc.constant("code" as const) },
);

function fill(saves: number, tagOf = (_save: number): number => 1): SegmentIndex {
  const index = new SegmentIndex();
  for (let i = 0; i < saves; i++) {
    index.addTag(100 + i, tagOf(i));
    index.addPlace(100 + i, 8 * (i + 1), false);
  }
  return index;
}

describe("SegmentIndex", () => {
  it("answers as a plain list of places and tags does", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 40, 2 ** 32 - 3, 2 ** 53 - 4000),
        fc.array(anyStep, { maxLength: 60 }),
        (start, steps) => {
          let index = new SegmentIndex();
          let model = new Model(start);
          for (const [i, step] of steps.entries()) {
            if (step === "clear") {
              index.clear();
              model = new Model(start + 50);
            } else if (step === "cut") {
              const first = Math.max(1, model.last - 3);
              index.cut(first);
              model.cut(first);
            } else if (step === "code") {
              const decoded = SegmentIndex.decode(index.encode(binding), binding);
              expect(decoded).toBeDefined();
              if (decoded !== undefined && decoded.placeCount > 0) index = decoded;
            } else {
              apply(index, model, step, 4096 + i * 1024);
            }
            expectSame(index, model);
          }
          index.trim();
          expectSame(index, model);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("keeps offsets of large segments and tells frames from blocks", () => {
    const index = new SegmentIndex();
    index.addTag(1, 1);
    index.addPlace(1, 0, false);
    index.addPlace(2, 2 ** 31, true);
    index.addPlace(3, 2 ** 33 - 8, false);
    expect([0, 1, 2].map((place) => index.offsetOf(place))).toEqual([0, 2 ** 31, 2 ** 33 - 8]);
    expect([0, 1, 2].map((place) => index.inBlock(place))).toEqual([false, true, false]);
  });

  it("takes at most 8 bytes a place once it is trimmed, and 16 a run of tags", () => {
    const index = fill(1000);
    index.trim();
    expect(index.memoryBytes).toBe(8 * 1000 + 16);
    const mixed = fill(1000, (save) => Math.floor(save / 100));
    mixed.trim();
    expect(mixed.memoryBytes).toBe(8 * 1000 + 16 * 10);
    expect(fill(1000).memoryBytes).toBeLessThanOrEqual(2 * 8 * 1024 + 16);
    expect(fill(1000).encode(binding).length).toBe(f.INDEX_HEADER_BYTES + 8 * 1000 + f.INDEX_RUN_BYTES);
  });

  it("has no tag for what it does not hold", () => {
    expect(new SegmentIndex().tag(1)).toBeNaN();
    expect(fill(3).tag(99)).toBeNaN();
    expect(new SegmentIndex().find(1)).toBe(-1);
  });
});

describe("SegmentIndex.decode()", () => {
  const bytes = fill(5, (save) => 2 ** 40 + (save % 2)).encode(binding);

  it("refuses every flipped bit", () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      flip(bytes, bit);
      expect(SegmentIndex.decode(bytes, binding), `bit ${bit}`).toBeUndefined();
      flip(bytes, bit);
    }
    expect(SegmentIndex.decode(bytes, binding)?.placeCount).toBe(5);
  });

  it("refuses every other length", () => {
    for (let length = 0; length < bytes.length; length++) {
      expect(SegmentIndex.decode(bytes.subarray(0, length), binding)).toBeUndefined();
    }
    const longer = new Uint8Array(bytes.length + 4);
    longer.set(bytes);
    expect(SegmentIndex.decode(longer, binding)).toBeUndefined();
  });

  it("refuses another segment's, another end's, another log's, another version's", () => {
    const otherLog = LOG_ID.slice();
    otherLog[7] = 0;
    const others: IndexBinding[] = [
      { ...binding, end: binding.end + 8 },
      { ...binding, sequence: binding.sequence + 1 },
      { ...binding, chain: binding.chain - 1 },
      { ...binding, identity: segmentIdentity(LOG_ID, 6) },
      { ...binding, identity: segmentIdentity(otherLog, 5) },
    ];
    for (const other of others) expect(SegmentIndex.decode(bytes, other)).toBeUndefined();
    for (const [field, value] of [
      [f.X_VERSION, f.FORMAT_VERSION + 1],
      [f.X_MAGIC, 0],
    ] as const) {
      const copy = bytes.slice();
      viewOf(copy).setUint32(field, value, true);
      viewOf(copy).setUint32(f.X_CRC, crc32(copy.subarray(f.X_MAGIC)), true);
      expect(SegmentIndex.decode(copy, binding)).toBeUndefined();
    }
  });
});
