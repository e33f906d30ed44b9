// RecordCache against a plain map: what it says it holds it gives back, it holds no more than it may, and a view that was
// given out never changes.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { emptyPart, readPart } from "../../src/wal/frame.js";
import { RecordCache } from "../../src/wal/record-cache.js";
import { type Slab, SlabPool } from "../../src/wal/slab.js";
import { buildFrame, recordsOf } from "./helpers.js";

interface Held {
  readonly index: number;
  readonly tag: number;
  readonly kind: number;
  readonly data: Uint8Array;
}

/** A cache and who fills slabs for it, in the way of group-commit.ts and log.ts. */
class Feed {
  readonly pool: SlabPool;
  readonly cache: RecordCache<Held>;
  slab: Slab;
  top = 0;
  readonly slabs = new Set<Slab>();

  constructor(maxBytes: number) {
    this.pool = new SlabPool(maxBytes);
    this.cache = new RecordCache(maxBytes, (index, tag, kind, data) => ({ index, tag, kind, data }), this.pool);
    this.slab = this.pool.take(0);
  }

  /** Puts bytes into a slab; returns where they stand. */
  write(bytes: Uint8Array): number {
    if (this.slab.users === 1 && !this.slab.lent) this.top = 0;
    if (this.top + bytes.length > this.slab.bytes.length) {
      this.pool.release(this.slab);
      this.slab = this.pool.take(bytes.length);
      this.top = 0;
    }
    this.slabs.add(this.slab);
    const at = this.top;
    this.slab.bytes.set(bytes, at);
    this.top += bytes.length;
    return at;
  }

  /** Puts one frame of records in; as those of one block when `asBlock`. True when the cache kept it. */
  put(first: number, sizes: readonly number[], tag = 1, asBlock = false): boolean {
    const { cache } = this;
    const list = recordsOf(sizes, tag);
    const { bytes, view } = buildFrame({ records: { first, list } });
    const part = emptyPart();
    readPart(view, 0, part);
    const at = this.write(bytes);
    if (!cache.takes(bytes.length)) {
      cache.clear();
      return false;
    }
    if (asBlock) cache.block(this.slab, at + part.recordsAt, at + part.recordsEnd, first, list.length);
    else cache.frame(this.slab, at, at + bytes.length, first, list.length);
    return true;
  }
}

const anyStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      back: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(8)),
      sizes: fc.array(fc.nat(60), { minLength: 1, maxLength: 5 }),
      tag: fc.nat(9),
      asBlock: fc.boolean(),
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
          const feed = new Feed(maxBytes);
          const { cache } = feed;
          const wanted = new Map<number, { tag: number; kind: number; data: Uint8Array }>();
          const given: [Held, string][] = [];
          let last = 0;
          for (const step of steps) {
            if ("sizes" in step) {
              const first = Math.max(1, last + 1 - step.back);
              if (first <= last) cache.cut(first);
              feed.put(first, step.sizes, step.tag, step.asBlock);
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
    const feed = new Feed(10_000);
    const { cache } = feed;
    feed.put(1, [3, 4]);
    const once: Held[] = [];
    const twice: Held[] = [];
    cache.read(1, 3, once, undefined);
    cache.read(1, 3, twice, undefined);
    expect(twice[0]).toBe(once[0]);
    expect(twice[1]).toBe(once[1]);
  });

  it("counts what it keeps of small saves, headers and all, and what decoding adds", () => {
    const feed = new Feed(2 ** 20);
    const { cache } = feed;
    let frameBytes = 0;
    for (let i = 1; i <= 100; i++) {
      feed.put(i, [8]);
      frameBytes += buildFrame({ records: { first: i, list: recordsOf([8]) } }).bytes.length;
    }
    // All but the trailer of the last frame, which the next run would count.
    expect(cache.bytes).toBeGreaterThan(frameBytes - 16);
    const before = cache.bytes;
    cache.read(1, 101, [], undefined);
    expect(cache.bytes).toBeGreaterThanOrEqual(before + 100 * 100);
  });

  it("gives back what it counted when records are cut off or released, decoded ones too", () => {
    const feed = new Feed(2 ** 20);
    const { cache } = feed;
    feed.put(1, [100], 1, true);
    const first = cache.bytes;
    feed.put(2, [50, 60], 1, true);
    const both = cache.bytes;
    cache.cut(2);
    expect(cache.bytes).toBe(first);
    feed.put(2, [50, 60], 1, true);
    cache.read(2, 4, [], undefined);
    expect(cache.bytes).toBeGreaterThan(both);
    cache.cut(2);
    expect(cache.bytes).toBe(first);
    feed.put(2, [50, 60], 1, true);
    const second = cache.bytes - first;
    cache.release(1);
    expect(cache.bytes).toBe(second);
    expect(cache.first).toBe(2);
  });

  it("counts what a group leaves unused of a slab", () => {
    const feed = new Feed(16 * 2 ** 20);
    const { cache } = feed;
    const size = 600 * 1024;
    let first = 1;
    while (feed.put(first, [size]) && cache.first === 1 && first < 100) first++;
    // A slab is 1 MiB and holds one of these: 16 slabs are full with 16 of them, not with 27.
    expect(first).toBeGreaterThanOrEqual(15);
    expect(first).toBeLessThanOrEqual(19);
  });

  it("does not count slabs that only saves without records went through", () => {
    const feed = new Feed(4 * 2 ** 20);
    const { cache } = feed;
    for (let i = 0; i < 20; i++) feed.write(new Uint8Array(900 * 1024));
    feed.put(1, [8]);
    expect(cache.bytes).toBeLessThan(2 * 2 ** 20);
    expect(cache.first).toBe(1);
  });

  it("lets memory that was never read be used again, and no other", () => {
    const feed = new Feed(300_000);
    for (let i = 1; i <= 5000; i++) feed.put(i, [1000]);
    // 20 times what is held went through these.
    const before = feed.slabs.size;
    expect(before).toBeLessThan(6);
    const given: [Uint8Array, string][] = [];
    for (let i = 5001; i <= 10_000; i++) {
      feed.put(i, [1000], i % 7);
      const out: Held[] = [];
      feed.cache.read(i, i + 1, out, undefined);
      for (const { data } of out) given.push([data, Buffer.from(data).toString("hex")]);
    }
    expect(feed.slabs.size).toBeGreaterThan(before + 10);
    expect(given.every(([data, hex]) => Buffer.from(data).toString("hex") === hex)).toBe(true);
  });

  it("does not take what was cut off for what came instead, whatever stands between the two", () => {
    const feed = new Feed(2 ** 20);
    const { cache } = feed;
    feed.put(1, [5], 1);
    feed.write(buildFrame({}).bytes);
    feed.put(2, [5], 2);
    cache.cut(2);
    feed.put(2, [6], 3);
    const out: Held[] = [];
    cache.read(1, 3, out, undefined);
    expect(out.map(({ tag, data }) => [tag, data.length])).toEqual([
      [1, 5],
      [3, 6],
    ]);
  });

  it("keeps small saves in runs, and decodes no more of them than a few for one that is read", () => {
    const feed = new Feed(2 ** 24);
    const { cache } = feed;
    for (let i = 1; i <= 1000; i++) feed.put(i, [100]);
    const before = cache.bytes;
    const out: Held[] = [];
    cache.read(500, 501, out, undefined);
    expect(out.map(({ index }) => index)).toEqual([500]);
    const decoded = (cache.bytes - before) / 192;
    expect(decoded).toBeGreaterThan(10);
    expect(decoded).toBeLessThan(100);
  });

  it("refuses a group larger than itself and holds nothing with a bound of 0", () => {
    const feed = new Feed(0);
    const { cache } = feed;
    expect(feed.put(1, [0])).toBe(false);
    expect(cache.first).toBe(Infinity);
    const smaller = new Feed(1000);
    const { cache: small } = smaller;
    expect(smaller.put(1, [2000])).toBe(false);
    expect(smaller.put(2, [20])).toBe(true);
    expect(small.first).toBe(2);
  });

  it("lets go of a long history without moving it on every step", () => {
    const feed = new Feed(400_000);
    const { cache } = feed;
    for (let i = 1; i <= 8000; i++) feed.put(i, [8]);
    const { first } = cache;
    expect(first).toBeGreaterThan(4000);
    const out: Held[] = [];
    expect(cache.read(first, first + 5, out, undefined)).toBe(first + 5);
    expect(out.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4].map((i) => first + i));
    cache.release(7999);
    // A run goes when all of it may.
    expect(cache.first).toBeGreaterThan(7800);
    expect(cache.first).toBeLessThanOrEqual(8000);
  });
});
