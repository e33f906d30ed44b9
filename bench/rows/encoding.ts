// How the peers hold entries and HardStates as bytes: what a user of a database would write, plain and quick. Used by the
// rows of the peers, which differ in keys and in when they sync, not in what a value is.

import type { Entry, HardState } from "stablelog";

/** Term and type before the data of a value. */
const VALUE_HEAD_BYTES = 9;
/** The HardState's key in a database of keys and values; no index is as short. */
export const HARD_STATE_KEY = Buffer.from("hs");
const HARD_STATE_BYTES = 24;

/** A safe integer as 64 bits: a BigInt an entry would cost more than the rest of the encoding. */
export function writeUint64(target: Buffer, value: number, at: number): void {
  target.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  target.writeUInt32BE(value % 2 ** 32, at + 4);
}

/** The index as 8 bytes big-endian, which sort as indexes do. */
export function entryKey(index: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  writeUint64(key, index, 0);
  return key;
}

/** Term, type, data. */
export function entryValue({ term, type, data }: Entry): Buffer {
  const value = Buffer.allocUnsafe(VALUE_HEAD_BYTES + data.length);
  writeUint64(value, term, 0);
  value.writeUInt8(type, 8);
  value.set(data, VALUE_HEAD_BYTES);
  return value;
}

/** Term, vote, commit. */
export function hardStateValue({ term, vote, commit }: HardState): Buffer {
  const value = Buffer.allocUnsafe(HARD_STATE_BYTES);
  writeUint64(value, term, 0);
  value.writeBigUInt64BE(vote, 8);
  writeUint64(value, commit, 16);
  return value;
}

// ---- records of a plain file

/** Length, index, term, type. */
const RECORD_HEAD_BYTES = 21;
/** The type of the record that holds a HardState; entry types are small. */
const HARD_STATE_RECORD = 255;

export function recordBytes(entries: readonly Entry[], hardState: HardState | undefined): number {
  let bytes = hardState === undefined ? 0 : RECORD_HEAD_BYTES + HARD_STATE_BYTES;
  for (const { data } of entries) bytes += RECORD_HEAD_BYTES + data.length;
  return bytes;
}

function writeHead(target: Buffer, at: number, length: number, index: number, term: number, type: number): number {
  target.writeUInt32BE(length, at);
  writeUint64(target, index, at + 4);
  writeUint64(target, term, at + 12);
  target.writeUInt8(type, at + 20);
  return at + RECORD_HEAD_BYTES;
}

/** Writes the records at `at` and returns the place behind them. */
export function writeRecords(
  target: Buffer,
  at: number,
  entries: readonly Entry[],
  hardState: HardState | undefined,
): number {
  for (const { term, index, type, data } of entries) {
    at = writeHead(target, at, data.length, index, term, type);
    target.set(data, at);
    at += data.length;
  }
  if (hardState !== undefined) {
    at = writeHead(target, at, HARD_STATE_BYTES, 0, hardState.term, HARD_STATE_RECORD);
    target.set(hardStateValue(hardState), at);
    at += HARD_STATE_BYTES;
  }
  return at;
}
