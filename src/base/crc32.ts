// CRC-32 (IEEE, reflected 0xEDB88320), the one checksum of our own format: crc-32 for short inputs and wherever
// zlib.crc32 is missing, zlib.crc32 for long ones. Both give the same value; only the time differs (crossover measured by
// `npm run bench -- micro`). CRC-32C is here for etcd's files alone.

import * as zlib from "node:zlib";
import CRC32 from "crc-32";
import CRC32C from "crc-32/crc32c.js";

/** From this many bytes on the native checksum is faster than crc-32, its call overhead included. */
export const NATIVE_CRC_BYTES = 320;

type NativeCrc = (data: Uint8Array, value?: number) => number;
const native = (zlib as { crc32?: NativeCrc }).crc32;

/** CRC-32 of `data`, continuing from `seed` (0 begins a new one). An unsigned 32-bit number. */
export function crc32(data: Uint8Array, seed = 0): number {
  if (native !== undefined && data.length >= NATIVE_CRC_BYTES) return native(data, seed);
  return CRC32.buf(data, seed | 0) >>> 0;
}

/** CRC-32 by the JavaScript library whatever the length: the reference that tests and benchmarks hold crc32() against. */
export function crc32Portable(data: Uint8Array, seed = 0): number {
  return CRC32.buf(data, seed | 0) >>> 0;
}

/** CRC-32C (Castagnoli) of `data`, continuing from `seed`: what etcd's WAL and snapshot files carry. */
export function crc32c(data: Uint8Array, seed = 0): number {
  return CRC32C.buf(data, seed | 0) >>> 0;
}
