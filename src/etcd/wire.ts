// The protobuf wire format, read only: what etcd's records and snapshot files are made of. Called by record.ts alone.
// Strict where bytes from a disk must be: a truncated or overlong varint, a field that runs past its message, a known
// field of the wrong wire type and a number beyond its range are ERR_CORRUPT. Unknown fields are skipped, as protobuf asks.

import { MAX_INDEX } from "../base/bytes.js";
import type { StableLogError } from "../base/errors.js";
import { corruptAt, type Place } from "./place.js";

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const TWO_32 = 4294967296;
const MAX_FIELD = 0x1fffffff;

/**
 * Walks the fields of one message: next() moves to a field, then exactly one of count(), id(), u32(), flag(), bytes(),
 * ids() or skip() takes its value.
 */
export class WireReader {
  /** Number of the field that next() moved to. */
  field = 0;
  #wireType = 0;
  #at = 0;
  /** Halves of the varint read last, each an unsigned 32-bit number. */
  #low = 0;
  #high = 0;
  readonly #bytes: Uint8Array;
  readonly #message: string;
  readonly #place: Place;

  /** `message` names what is decoded in errors ("Entry"); the reader ends where `bytes` ends. */
  constructor(bytes: Uint8Array, message: string, place: Place) {
    this.#bytes = bytes;
    this.#message = message;
    this.#place = place;
  }

  /** Moves to the next field; false at the end of the message. */
  next(): boolean {
    if (this.#at === this.#bytes.length) return false;
    this.#varint();
    const field = this.#low >>> 3;
    if (this.#high !== 0 || field === 0 || field > MAX_FIELD) throw this.#bad(`a field number of ${field}`);
    this.field = field;
    this.#wireType = this.#low & 7;
    return true;
  }

  /** An index or a term: a u64 that must not pass {@link MAX_INDEX}. */
  count(): number {
    this.#expect(VARINT);
    this.#varint();
    const value = this.#high * TWO_32 + this.#low;
    if (value > MAX_INDEX) throw this.#bad(`field ${this.field} is ${this.#bigint()}, beyond 2^53 - 2`);
    return value;
  }

  /** A full u64: node IDs and votes. */
  id(): bigint {
    this.#expect(VARINT);
    this.#varint();
    return this.#bigint();
  }

  u32(): number {
    this.#expect(VARINT);
    this.#varint();
    if (this.#high !== 0) throw this.#bad(`field ${this.field} is ${this.#bigint()}, beyond 32 bits`);
    return this.#low;
  }

  flag(): boolean {
    this.#expect(VARINT);
    this.#varint();
    return this.#low !== 0 || this.#high !== 0;
  }

  /** A view of a length-delimited field. */
  bytes(): Uint8Array {
    this.#expect(BYTES);
    const end = this.#lengthEnd();
    const view = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return view;
  }

  /** Adds one occurrence of a repeated u64 to `ids`: a single value, or a packed run of them. */
  ids(ids: bigint[]): void {
    if (this.#wireType !== BYTES) {
      ids.push(this.id());
      return;
    }
    const end = this.#lengthEnd();
    while (this.#at < end) {
      this.#varint();
      ids.push(this.#bigint());
    }
    if (this.#at !== end) throw this.#bad(`field ${this.field} ends within a number`);
  }

  /** Leaves out a field that the message does not know. */
  skip(): void {
    if (this.#wireType === VARINT) this.#varint();
    else if (this.#wireType === BYTES) this.#at = this.#lengthEnd();
    else if (this.#wireType === FIXED64) this.#pass(8);
    else if (this.#wireType === FIXED32) this.#pass(4);
    else throw this.#bad(`field ${this.field} has wire type ${this.#wireType}`);
  }

  #bigint(): bigint {
    return (BigInt(this.#high) << 32n) | BigInt(this.#low);
  }

  #expect(wireType: number): void {
    if (this.#wireType === wireType) return;
    throw this.#bad(`field ${this.field} has wire type ${this.#wireType}, not ${wireType}`);
  }

  /** Reads a length; the end it gives never lies beyond the message. */
  #lengthEnd(): number {
    this.#varint();
    const length = this.#high * TWO_32 + this.#low;
    const left = this.#bytes.length - this.#at;
    if (length > left) throw this.#bad(`field ${this.field} takes ${length} bytes of the ${left} left`);
    return this.#at + length;
  }

  #pass(length: number): void {
    const left = this.#bytes.length - this.#at;
    if (length > left) throw this.#bad(`field ${this.field} takes ${length} bytes of the ${left} left`);
    this.#at += length;
  }

  /** Ten bytes of seven bits at most, least significant first; the tenth has room for one bit. */
  #varint(): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw this.#bad("a number is cut off");
      this.#at++;
      const bits = byte & 0x7f;
      if (shift < 28) {
        low |= bits << shift;
      } else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else {
        if (shift === 63 && byte > 1) break;
        high |= bits << (shift - 32);
      }
      if (byte < 0x80) {
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    throw this.#bad("a number is longer than 64 bits");
  }

  #bad(what: string): StableLogError {
    return corruptAt(this.#place, `${this.#message} cannot be decoded: ${what}`);
  }
}
