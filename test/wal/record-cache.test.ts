// RecordCache against a plain map: what it says it holds it gives back, it holds no more than it may, and a view that was
// given out never changes.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { emptyPart, readPart } from "../../src/wal/frame.js";
import { RecordCache } from "../../src/wal/record-cache.js";
import { buildFrame, recordsOf } from "./helpers.js";

interface Held {
  readonly index: number;
  readonly tag: number;
  readonly kind: number;
  readonly data: Uint8Array;
}

const newCache = (maxBytes: number): RecordCache<Held> =>
  new RecordCache(maxBytes, (index, tag, kind, data) => ({ index, tag, kind, data }));

/** Puts one frame of records in, as log.ts does with a group. True when the cache kept it. */
function put(cache: RecordCache<Held>, first: number, sizes: readonly number[], tag = 1): boolean {
  const list = recordsOf(sizes, tag);
  const { bytes, view } = buildFrame({ records: { first, list } });
  const part = emptyPart();
  readPart(view, 0, part);
  const larger = new Uint8Array(bytes.length + 100);
  larger.set(bytes);
  const at = cache.hold(larger, bytes.length);
  // The group's buffer is used again at once.
  larger.fill(0xee);
  if (at < 0) {
    cache.clear();
    return false;
  }
  cache.run(at + part.recordsAt, at + part.recordsEnd, first, list.length);
  return true;
}

const anyStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      back: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(8)),
      sizes: fc.array(fc.nat(60), { minLength: 1, maxLength: 5 }),
      tag: fc.nat(9),
    }),
  },
  { weight: 4, arbitrary: fc.record({ from: fc.nat(30), length: fc.nat(12), most: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ cutBack: fc.nat(10) }) },
  { weight: 1, arbitrary: fc.record({ releaseBack: fc.nat(10) }) },
  { weight: 1, arbitrary: fc.constant({ clear: true as const }) },
);

describe("RecordCache", () => {
  it("gives back what was put in, within its bound, and never changes what it gave", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 300, 900, 4000, 2 ** 20),
        fc.array(anyStep, { maxLength: 80 }),
        (maxBytes, steps) => {
          const cache = newCache(maxBytes);
          const wanted = new Map<number, { tag: number; kind: number; data: Uint8Array }>();
          const given: [Held, string][] = [];
          let last = 0;
          for (const step of steps) {
            if ("sizes" in step) {
              const first = Math.max(1, last + 1 - step.back);
              if (first <= last) cache.cut(first);
              put(cache, first, step.sizes, step.tag);
              for (const [i, record] of recordsOf(step.sizes, step.tag).entries()) wanted.set(first + i, record);
              last = first + step.sizes.length - 1;
            } else if ("most" in step) {
              const lo = Math.max(cache.first, last + 1 - step.from);
              if (lo <= last) {
                const out: Held[] = [];
                const hi = Math.min(last + 1, lo + step.length);
                let left = step.most;
                const end = cache.read(lo, hi, out, step.most > 12 ? undefined : () => left-- > 0);
                const count = step.most > 12 ? hi - lo : Math.min(hi - lo, step.most);
                expect(end).toBe(lo + count);
                expect(out.map(({ index }) => index)).toEqual(Array.from({ length: count }, (_, i) => lo + i));
                for (const { index, ...record } of out) expect(record).toEqual(wanted.get(index));
                for (const record of out) given.push([record, Buffer.from(record.data).toString("hex")]);
              }
            } else if ("cutBack" in step) {
              last = Math.max(0, last - step.cutBack);
              cache.cut(last + 1);
            } else if ("releaseBack" in step) {
              const before = cache.first;
              cache.release(last - step.releaseBack);
              expect(cache.first).toBeGreaterThanOrEqual(before);
              expect(cache.first <= Math.max(before, last - step.releaseBack + 1) || cache.first === Infinity).toBe(
                true,
              );
            } else {
              cache.clear();
            }
            expect(cache.bytes).toBeLessThanOrEqual(maxBytes);
            expect(cache.bytes).toBeGreaterThanOrEqual(0);
            expect(cache.bytes === 0).toBe(cache.first === Infinity);
          }
          for (const [{ data }, before] of given) expect(Buffer.from(data).toString("hex")).toBe(before);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("gives the same object for a record read twice", () => {
    const cache = newCache(10_000);
    put(cache, 1, [3, 4]);
    const once: Held[] = [];
    const twice: Held[] = [];
    cache.read(1, 3, once, undefined);
    cache.read(1, 3, twice, undefined);
    expect(twice[0]).toBe(once[0]);
    expect(twice[1]).toBe(once[1]);
  });

  it("counts what it keeps of small saves, headers and all, and what decoding adds", () => {
    const cache = newCache(2 ** 20);
    let frameBytes = 0;
    for (let i = 1; i <= 100; i++) {
      put(cache, i, [8]);
      frameBytes += buildFrame({ records: { first: i, list: recordsOf([8]) } }).bytes.length;
    }
    // All but the trailer of the last frame, which the next run would count.
    expect(cache.bytes).toBeGreaterThan(frameBytes - 16);
    const before = cache.bytes;
    cache.read(1, 101, [], undefined);
    expect(cache.bytes).toBeGreaterThanOrEqual(before + 100 * 100);
  });

  it("gives back what it counted when records are cut off or released, decoded ones too", () => {
    const cache = newCache(2 ** 20);
    put(cache, 1, [100]);
    const first = cache.bytes;
    put(cache, 2, [50, 60]);
    const both = cache.bytes;
    cache.cut(2);
    expect(cache.bytes).toBe(first);
    put(cache, 2, [50, 60]);
    cache.read(2, 4, [], undefined);
    expect(cache.bytes).toBeGreaterThan(both);
    cache.cut(2);
    expect(cache.bytes).toBe(first);
    put(cache, 2, [50, 60]);
    const second = cache.bytes - first;
    cache.release(1);
    expect(cache.bytes).toBe(second);
    expect(cache.first).toBe(2);
  });

  it("counts what a group leaves unused of a slab", () => {
    const cache = newCache(16 * 2 ** 20);
    const size = 600 * 1024;
    let first = 1;
    while (put(cache, first, [size]) && cache.first === 1 && first < 100) first++;
    // A slab is 1 MiB and holds one of these: 16 slabs are full with 16 of them, not with 27.
    expect(first).toBeGreaterThanOrEqual(15);
    expect(first).toBeLessThanOrEqual(18);
  });

  it("does not count slabs that only saves without records went through", () => {
    const cache = newCache(4 * 2 ** 20);
    const stateOnly = new Uint8Array(900 * 1024);
    for (let i = 0; i < 20; i++) expect(cache.hold(stateOnly, stateOnly.length)).toBeGreaterThanOrEqual(0);
    put(cache, 1, [8]);
    expect(cache.bytes).toBeLessThan(2 * 2 ** 20);
    expect(cache.first).toBe(1);
  });

  it("refuses a group larger than itself and holds nothing with a bound of 0", () => {
    const cache = newCache(0);
    expect(put(cache, 1, [0])).toBe(false);
    expect(cache.first).toBe(Infinity);
    const small = newCache(1000);
    expect(put(small, 1, [2000])).toBe(false);
    expect(put(small, 2, [20])).toBe(true);
    expect(small.first).toBe(2);
  });

  it("lets go of a long history without moving it on every step", () => {
    const cache = newCache(400_000);
    for (let i = 1; i <= 8000; i++) put(cache, i, [8]);
    const { first } = cache;
    expect(first).toBeGreaterThan(4000);
    const out: Held[] = [];
    expect(cache.read(first, first + 5, out, undefined)).toBe(first + 5);
    expect(out.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4].map((i) => first + i));
    cache.release(7999);
    expect(cache.first).toBe(8000);
  });
});
