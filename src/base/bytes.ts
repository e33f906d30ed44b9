// Fixed-width little-endian numbers on a DataView, and the one border between a u64 on disk and a JavaScript number.
// Everything that crosses the border is checked to be a safe integer on the way in and on the way out.

const TWO_32 = 4294967296;

/** The largest index, term or LSN: one below Number.MAX_SAFE_INTEGER, so that an exclusive upper bound fits as well. */
export const MAX_INDEX = Number.MAX_SAFE_INTEGER - 1;

/** Writes a non-negative safe integer as a little-endian u64. */
export function putU64(view: DataView, at: number, value: number): void {
  // Most numbers are small, and a small integer is stored without a division.
  if (value <= 0x7fffffff) {
    view.setInt32(at, value, true);
    view.setInt32(at + 4, 0, true);
  } else {
    view.setUint32(at, value >>> 0, true);
    view.setUint32(at + 4, (value / TWO_32) >>> 0, true);
  }
}

/** Reads a little-endian u64; a value above 2^53 - 1 gives NaN, which no check for a safe integer lets pass. */
export function getU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high === 0) return view.getUint32(at, true);
  if (high > 0x1fffff) return Number.NaN;
  return high * TWO_32 + view.getUint32(at, true);
}

/** The next multiple of 8 at or above `bytes`. Exact up to 2^53. */
export function align8(bytes: number): number {
  const rest = bytes % 8;
  return rest === 0 ? bytes : bytes + 8 - rest;
}

/** A DataView over exactly the bytes of `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** True for a safe integer from 0 up. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** True when both hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Lower-case hexadecimal, padded to `digits`. */
export function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
