// CRC-32 (IEEE, reflected 0xEDB88320), the one checksum of our own format: crc-32 for short inputs and wherever
// zlib.crc32 is missing, zlib.crc32 for long ones, and for the frames of a save a walk over words on crc-32's table, which
// needs neither a view nor a call out of JavaScript. All give the same value; only the time differs (crossovers measured by
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

/** From this many bytes on the native checksum, the view that it needs included, is faster than the walk over words. */
export const NATIVE_WORDS_BYTES = 512;

// Slicing by 16: table k tells what a byte does to the checksum from k bytes further on. Table 0 is crc-32's own.
const TABLES = 16;
const table = new Int32Array(TABLES * 256);
table.set((CRC32 as unknown as { readonly table: Int32Array }).table);
for (let at = 256; at < table.length; at++) {
  const before = table[at - 256] as number;
  table[at] = (before >>> 8) ^ (table[before & 255] as number);
}

const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** `bytes` as words, for crc32Words(); undefined where they cannot be read so. Bytes beyond the last whole word are left out. */
export function wordsOf(bytes: Uint8Array): Int32Array | undefined {
  if (!LITTLE_ENDIAN || bytes.byteOffset % 4 !== 0) return undefined;
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
}

/**
 * CRC-32 of [start, end) of `bytes`, of which `words` are the words; `start` is a multiple of 4. A signed 32-bit number, and a
 * seed may be one: V8 makes an object of every unsigned one from 2^31 on. Allocates nothing for fewer bytes than
 * NATIVE_WORDS_BYTES.
 */
export function crc32Words(
  words: Int32Array | undefined,
  bytes: Uint8Array,
  start: number,
  end: number,
  seed = 0,
): number {
  if (words === undefined || (native !== undefined && end - start >= NATIVE_WORDS_BYTES)) {
    return crc32(bytes.subarray(start, end), seed >>> 0) | 0;
  }
  let crc = ~seed;
  let at = start >> 2;
  const last = end >> 2;
  for (; at + 4 <= last; at += 4) {
    const a = (words[at] as number) ^ crc;
    const b = words[at + 1] as number;
    const c = words[at + 2] as number;
    const d = words[at + 3] as number;
    crc =
      (table[3840 + (a & 255)] as number) ^
      (table[3584 + ((a >>> 8) & 255)] as number) ^
      (table[3328 + ((a >>> 16) & 255)] as number) ^
      (table[3072 + (a >>> 24)] as number) ^
      (table[2816 + (b & 255)] as number) ^
      (table[2560 + ((b >>> 8) & 255)] as number) ^
      (table[2304 + ((b >>> 16) & 255)] as number) ^
      (table[2048 + (b >>> 24)] as number) ^
      (table[1792 + (c & 255)] as number) ^
      (table[1536 + ((c >>> 8) & 255)] as number) ^
      (table[1280 + ((c >>> 16) & 255)] as number) ^
      (table[1024 + (c >>> 24)] as number) ^
      (table[768 + (d & 255)] as number) ^
      (table[512 + ((d >>> 8) & 255)] as number) ^
      (table[256 + ((d >>> 16) & 255)] as number) ^
      (table[d >>> 24] as number);
  }
  for (; at < last; at++) {
    const a = (words[at] as number) ^ crc;
    crc =
      (table[768 + (a & 255)] as number) ^
      (table[512 + ((a >>> 8) & 255)] as number) ^
      (table[256 + ((a >>> 16) & 255)] as number) ^
      (table[a >>> 24] as number);
  }
  for (let i = at * 4; i < end; i++) crc = (table[(crc ^ (bytes[i] as number)) & 255] as number) ^ (crc >>> 8);
  return ~crc;
}

/** CRC-32 by the JavaScript library whatever the length: the reference that tests and benchmarks hold crc32() against. */
export function crc32Portable(data: Uint8Array, seed = 0): number {
  return CRC32.buf(data, seed | 0) >>> 0;
}

/** CRC-32C (Castagnoli) of `data`, continuing from `seed`: what etcd's WAL and snapshot files carry. */
export function crc32c(data: Uint8Array, seed = 0): number {
  return CRC32C.buf(data, seed | 0) >>> 0;
}
