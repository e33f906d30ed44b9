// MessagePack by msgpackr, for what is made of arrays, unsigned integers, 64-bit integers, floats, booleans, nil and bytes, and of
// nothing else: the marks of storage/ and the frames of node/. unpack() walks over the bytes before msgpackr sees them, so that
// neither depth nor counts nor strange types of forged ones reach it. What the values mean is checked by whoever asked.

import { Packr, RESERVE_START_SPACE, RESET_BUFFER_MODE } from "msgpackr";

const MAX_DEPTH = 5;
/** Of the buffer that msgpackr keeps, for the whole process. */
const SCRATCH_BYTES = 8192;
/** msgpackr takes another buffer where less than 2 KiB are left. */
const MIN_ROOM_BYTES = 2100;
/** No value needs more to be packed briefly; a larger buffer is given back. */
const MAX_SCRATCH_BYTES = 256 * 1024;

const packr = new Packr({ useRecords: false, int64AsType: "bigint" });

/** The bytes of a value. */
export function pack(value: unknown): Uint8Array {
  return packr.pack(value);
}

/** The bytes of a value, which the next call of any function here writes over. */
export function packBriefly(value: unknown): Uint8Array {
  const bytes = packr.pack(value, RESET_BUFFER_MODE);
  if (bytes.length > MAX_SCRATCH_BYTES) packr.useBuffer(Buffer.allocUnsafeSlow(SCRATCH_BYTES));
  return bytes;
}

/**
 * The bytes of a value in memory of their own, behind `head` bytes (at most 255) that are the caller's to fill. `sizeBytes`: about
 * what the value takes, better more than less; where it was right, byte strings are copied once. No more than a third of what is
 * returned is kept beside it.
 */
export function packBehind(head: number, value: unknown, sizeBytes: number): Uint8Array {
  packr.useBuffer(Buffer.allocUnsafeSlow(head + sizeBytes + MIN_ROOM_BYTES));
  try {
    const bytes = packr.pack(value, RESERVE_START_SPACE | head);
    return bytes.length * 4 < bytes.buffer.byteLength * 3 ? new Uint8Array(bytes) : bytes;
  } finally {
    packr.useBuffer(Buffer.allocUnsafeSlow(SCRATCH_BYTES));
  }
}

/**
 * The value of the bytes; undefined, which no bytes stand for, where they are not one value of the kinds above. 64-bit integers
 * are bigints. Byte strings are views, never Buffers.
 */
export function unpack(bytes: Uint8Array): unknown {
  if (skip(bytes, 0, 0) !== bytes.length) return undefined;
  const plain =
    bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return packr.unpack(plain);
  } catch {
    return undefined;
  }
}

/** The offset after the value at `at`, -1 when it is none of the kinds above or does not fit into the bytes. */
function skip(bytes: Uint8Array, at: number, depth: number): number {
  const type = bytes[at];
  if (type === undefined || depth > MAX_DEPTH) return -1;
  let next: number;
  let count = 0;
  if (type < 0x80 || type === 0xc0 || type === 0xc2 || type === 0xc3) next = at + 1;
  else if (type === 0xcc) next = at + 2;
  else if (type === 0xcd) next = at + 3;
  else if (type === 0xce) next = at + 5;
  else if (type === 0xcb || type === 0xcf || type === 0xd3) next = at + 9;
  else if (type === 0xc4) next = at + 2 + big(bytes, at + 1, 1);
  else if (type === 0xc5) next = at + 3 + big(bytes, at + 1, 2);
  else if (type === 0xc6) next = at + 5 + big(bytes, at + 1, 4);
  else if (type >= 0x90 && type < 0xa0) {
    next = at + 1;
    count = type - 0x90;
  } else if (type === 0xdc) {
    next = at + 3;
    count = big(bytes, at + 1, 2);
  } else if (type === 0xdd) {
    next = at + 5;
    count = big(bytes, at + 1, 4);
  } else return -1;
  // Every element takes a byte at least: a count is believed no further than there are bytes.
  if (count > bytes.length - next) return -1;
  for (; count > 0 && next >= 0; count--) next = skip(bytes, next, depth + 1);
  return next > bytes.length ? -1 : next;
}

/** A big-endian number of `width` bytes; bytes that are not there count as 0, and what lies behind them is missed later. */
function big(bytes: Uint8Array, at: number, width: number): number {
  let value = 0;
  for (let i = 0; i < width; i++) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}
