// The protobuf messages of etcd, decoded field by field, and what is refused of them.

import { describe, expect, it } from "vitest";
import { MAX_INDEX } from "../../src/base/bytes.js";
import { StableLogError } from "../../src/base/errors.js";
import * as record from "../../src/etcd/record.js";
import { concat, encodeEntry, encodeState, entry, field, varint } from "./helpers.js";

const place = { file: "wal/x.wal", offset: 64 };
const corrupt = expect.objectContaining({ code: "ERR_CORRUPT", file: "wal/x.wal", offset: 64 });
const TOP = 2n ** 64n - 1n;

describe("decodeEntry()", () => {
  it("returns every field", () => {
    const each = entry(7, MAX_INDEX, "payload", 2);
    expect(record.decodeEntry(encodeEntry(each), place)).toEqual(each);
  });

  it("takes missing fields for their defaults and skips unknown ones of every wire type", () => {
    const unknown = concat(
      field(9, 5),
      field(100, new Uint8Array(3)),
      concat(varint(10 * 8 + 1), new Uint8Array(8)),
      concat(varint(11 * 8 + 5), new Uint8Array(4)),
    );
    const bytes = concat(unknown, field(3, 4), unknown);
    expect(record.decodeEntry(bytes, place)).toEqual({ term: 0, index: 4, type: 0, data: new Uint8Array(0) });
  });

  it.each([
    ["an index of 2^53 - 1", concat(field(2, 1), field(3, MAX_INDEX + 1))],
    ["a term of 2^64 - 1", concat(field(2, TOP), field(3, 1))],
    ["index 0", concat(field(2, 1), field(3, 0))],
    ["an unknown type", concat(field(1, 3), field(3, 1))],
    ["a negative type", concat(field(1, -1n), field(3, 1))],
    ["a number where bytes belong", concat(field(3, 1), field(4, 1))],
    ["bytes where a number belongs", field(3, new Uint8Array(1))],
    ["a varint of eleven bytes", concat(varint(3 * 8), new Uint8Array(10).fill(0x80), Uint8Array.of(0))],
    ["field number 0", concat(field(3, 1), Uint8Array.of(0, 0))],
    ["a field number above 2^29 - 1", concat(field(3, 1), varint(2n ** 35n), varint(0))],
    ["a group", concat(field(3, 1), varint(9 * 8 + 3))],
    ["bytes that end beyond the message", concat(field(3, 1), varint(4 * 8 + 2), varint(9), new Uint8Array(8))],
    ["bytes of length 2^64 - 1", concat(field(3, 1), varint(4 * 8 + 2), varint(TOP))],
    ["an unknown fixed64 cut short", concat(field(3, 1), varint(9 * 8 + 1), new Uint8Array(7))],
  ])("refuses %s", (_name, bytes) => {
    expect(() => record.decodeEntry(bytes, place)).toThrow(corrupt);
  });

  it("never runs past bytes cut off anywhere", () => {
    const bytes = encodeEntry(entry(300, 70_000, "payload"));
    const whole = concat(bytes, new Uint8Array(64).fill(0x7f));
    let refused = 0;
    for (let length = 0; length < bytes.length; length++) {
      try {
        const decoded = record.decodeEntry(whole.subarray(0, length), place);
        expect(decoded.data).toHaveLength(0);
      } catch (error) {
        expect(error).toBeInstanceOf(StableLogError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(bytes.length - 4);
  });
});

describe("decodeHardState()", () => {
  it("keeps all 64 bits of a vote", () => {
    const state = { term: 3, vote: TOP, commit: MAX_INDEX };
    expect(record.decodeHardState(encodeState(state), place)).toEqual(state);
  });

  it("refuses a vote of more than 64 bits", () => {
    const nine = new Uint8Array(9).fill(0xff);
    expect(record.decodeHardState(concat(varint(2 * 8), nine, Uint8Array.of(1)), place).vote).toBe(TOP);
    expect(() => record.decodeHardState(concat(varint(2 * 8), nine, Uint8Array.of(2)), place)).toThrow(corrupt);
    expect(() => record.decodeHardState(concat(varint(2 * 8), nine, Uint8Array.of(0x81, 0)), place)).toThrow(corrupt);
  });

  it("refuses a commit beyond 2^53 - 2", () => {
    expect(() => record.decodeHardState(field(3, 2n ** 53n), place)).toThrow(corrupt);
  });
});

describe("decodeSnapshotMark()", () => {
  it("returns the ConfState, single and packed members alike", () => {
    const packed = concat(varint(5), varint(TOP));
    const confState = concat(field(1, TOP), field(1, 2), field(2, packed), field(3, 4), field(4, packed), field(5, 1));
    const mark = record.decodeSnapshotMark(concat(field(1, 9), field(2, 8), field(3, confState)), place);
    expect(mark).toEqual({
      index: 9,
      term: 8,
      confState: {
        voters: [TOP, 2n],
        learners: [5n, TOP],
        votersOutgoing: [4n],
        learnersNext: [5n, TOP],
        autoLeave: true,
      },
    });
  });

  it("refuses a packed run that ends within a number", () => {
    const confState = concat(field(1, Uint8Array.of(0x81)), field(1, 2));
    expect(() => record.decodeSnapshotMark(field(3, confState), place)).toThrow(corrupt);
  });
});

describe("decodeRecord()", () => {
  it("refuses a type that etcd does not have, and none", () => {
    expect(() => record.decodeRecord(field(1, 6), place)).toThrow(corrupt);
    expect(() => record.decodeRecord(field(1, 0), place)).toThrow(corrupt);
    expect(() => record.decodeRecord(new Uint8Array(0), place)).toThrow(corrupt);
  });

  it("refuses a checksum of more than 32 bits", () => {
    expect(() => record.decodeRecord(concat(field(1, 2), field(2, 2n ** 32n)), place)).toThrow(corrupt);
  });
});

describe("decodeFrameLength()", () => {
  const word = (low: number, high: number): Uint8Array => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(0, low, true);
    new DataView(bytes.buffer).setUint32(4, high, true);
    return bytes;
  };

  it.each([
    [word(24, 0), { recordBytes: 24, padBytes: 0 }],
    [word(21, 0x83000000), { recordBytes: 21, padBytes: 3 }],
    [word(0, 0x00000001), { recordBytes: 2 ** 32, padBytes: 0 }],
    [word(24, 0x80000000), { recordBytes: 24, padBytes: undefined }],
    [word(24, 0x03000000), { recordBytes: 24, padBytes: undefined }],
    [word(24, 0xff000000), { recordBytes: 24, padBytes: undefined }],
  ])("takes %s apart", (bytes, expected) => {
    expect(record.decodeFrameLength(bytes, 0)).toEqual(expected);
  });
});
