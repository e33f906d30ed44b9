// The checksum under every frame: the native and the portable one give the same bytes on disk, wherever crc32() changes
// from one to the other.

import * as zlib from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  crc32,
  crc32Portable,
  crc32Words,
  NATIVE_CRC_BYTES,
  NATIVE_WORDS_BYTES,
  wordsOf,
} from "../../src/base/crc32.js";

const native = (zlib as { crc32?: (data: Uint8Array, value?: number) => number }).crc32;

describe("crc32()", () => {
  it("equals crc32Portable() around the crossover, for any seed", () => {
    for (let length = 0; length <= NATIVE_CRC_BYTES + 40; length++) {
      const data = Uint8Array.from({ length }, (_, i) => (i * 73 + length) & 255);
      for (const seed of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
        expect(crc32(data, seed)).toBe(crc32Portable(data, seed));
      }
    }
  });

  it("is CRC-32 as everybody knows it", () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array(0), 77)).toBe(77);
  });

  it.runIf(native !== undefined)("equals zlib's, for any bytes and seed", () => {
    const anySeed = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), anySeed, (data, seed) => {
        expect(crc32(data, seed)).toBe(native?.(data, seed));
        expect(crc32Portable(data, seed)).toBe(native?.(data, seed));
      }),
    );
  });

  it("goes on from where it stopped: the checksum of pieces is that of the whole", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(600), (data, at) => {
        expect(crc32(data.subarray(at), crc32(data.subarray(0, at)))).toBe(crc32(data));
      }),
    );
  });
});

describe("crc32Words()", () => {
  it("equals crc32Portable() for every length, wherever it begins, up to where the native one takes over", () => {
    const bytes = Uint8Array.from({ length: NATIVE_WORDS_BYTES + 60 }, (_, i) => (i * 73 + (i >> 3)) & 255);
    const words = wordsOf(bytes);
    for (const start of [0, 4, 8, 12]) {
      for (let end = start; end <= bytes.length; end++) {
        const wanted = crc32Portable(bytes.subarray(start, end), end);
        expect(crc32Words(words, bytes, start, end, end) >>> 0).toBe(wanted);
      }
    }
  });

  it("equals crc32() for any bytes and seed, also of shared memory that does not begin at its own beginning", () => {
    const anySeed = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700 }), anySeed, fc.nat(40), (data, seed, skipped) => {
        const bytes = new Uint8Array(new SharedArrayBuffer(data.length + 8), 8, data.length);
        bytes.set(data);
        const start = Math.min(4 * skipped, 4 * Math.floor(data.length / 4));
        expect(crc32Words(wordsOf(bytes), bytes, start, data.length, seed | 0) >>> 0).toBe(
          crc32(data.subarray(start), seed),
        );
      }),
    );
  });

  it("does without words where memory is not aligned to them", () => {
    const bytes = new Uint8Array(new ArrayBuffer(103), 3, 100).map((_, i) => i);
    const odd = new Uint8Array(new ArrayBuffer(103), 3, 100);
    odd.set(bytes);
    expect(wordsOf(odd)).toBeUndefined();
    expect(crc32Words(wordsOf(odd), odd, 4, 99, 5) >>> 0).toBe(crc32Portable(bytes.subarray(4, 99), 5));
  });
});
