// The checksum under every frame: the native and the portable one give the same bytes on disk, wherever crc32() changes
// from one to the other.

import * as zlib from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { crc32, crc32Portable, NATIVE_CRC_BYTES } from "../../src/base/crc32.js";

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
