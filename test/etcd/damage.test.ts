// Damage to segments: what is refused with its place, what is taken for the torn end of the log, and that nothing else
// ever happens: no other error, no endless loop, no allocation for a length that the file does not have.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { equalBytes } from "../../src/base/bytes.js";
import { StableLogError } from "../../src/base/errors.js";
import { type MemberContents, readMember } from "../../src/etcd/index.js";
import type { Entry } from "../../src/raftpb/types.js";
import {
  collectBatches,
  entry,
  type Files,
  fixtureFiles,
  memoryMember,
  refusal,
  SegmentBuilder,
  segmentName,
} from "./helpers.js";

const read = async (files: Files): Promise<MemberContents> => readMember("/m", { disk: await memoryMember(files) });

function changed(bytes: Uint8Array, at: number, value: number | ((byte: number) => number)): Uint8Array {
  const copy = bytes.slice();
  copy[at] = typeof value === "number" ? value : value(copy[at] ?? 0);
  return copy;
}

const zeroed = (bytes: Uint8Array, from: number, to: number): Uint8Array => bytes.slice().fill(0, from, to);

const FIRST = segmentName(0, 0);
const SECOND = segmentName(1, 4);

/** Two segments: entries 1 to 3, then 4 to 6 of 1200 bytes each. `offsets[3]` on are the entries in both. */
function twoSegments() {
  const first = new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1), entry(1, 2), entry(1, 3)).state(1, 3);
  const second = new SegmentBuilder(first.crc).head().state(1, 3);
  second.entries(...[4, 5, 6].map((index) => entry(1, index, new Uint8Array(1200).fill(index))));
  return { first, second, files: { [FIRST]: first.bytes(), [SECOND]: second.bytes(2048) } };
}

/** The first of `entries` that is not the one in its place in `log`. */
function differing(entries: readonly Entry[], log: readonly Entry[]): Entry | undefined {
  return entries.find(({ term, index, data }, i) => {
    const other = log[i];
    return other?.term !== term || other.index !== index || !equalBytes(other.data, data);
  });
}

const indexes = (contents: MemberContents): number[] => contents.entries.map((each) => each.index);

describe("a segment that has a successor", () => {
  const { first, files } = twoSegments();
  const bytes = first.bytes();

  it("is refused with the frame at fault for every flipped bit of its entries' checksums and payloads", async () => {
    for (let frame = 3; frame < 6; frame++) {
      const start = first.offsets[frame] ?? 0;
      const end = first.offsets[frame + 1] ?? 0;
      // Past the length word and the record's type, and short of the padding, which no checksum covers.
      const pad = (bytes[start + 7] ?? 0) & 7;
      for (let at = start + 10; at < end - pad; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const error = await refusal(
            read({ ...files, [FIRST]: changed(bytes, at, (b) => b ^ (1 << bit)) }),
            "ERR_CORRUPT",
          );
          expect(error).toMatchObject({ file: FIRST, offset: start });
        }
      }
    }
  });

  it("is refused when a zeroed sector would be a torn end elsewhere", async () => {
    const large = new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(entry(1, 1, new Uint8Array(2000).fill(1)));
    const after = new SegmentBuilder(large.crc).head();
    const damaged = zeroed(large.bytes(), 512, 1024);
    const error = await refusal(read({ [FIRST]: damaged, [segmentName(1, 2)]: after.bytes() }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: FIRST, offset: large.offsets[3] });
  });

  it("is refused when it is cut off within a frame", async () => {
    for (let length = (first.offsets[3] ?? 0) + 1; length < bytes.length; length++) {
      const boundary = first.offsets.includes(length);
      const error = await refusal(read({ ...files, [FIRST]: bytes.slice(0, length) }), "ERR_CORRUPT");
      // Cut between two frames, it is the successor that does not continue it.
      expect(error.file).toBe(boundary ? SECOND : FIRST);
      expect(error.message.includes("has a successor")).toBe(!boundary);
    }
  });

  it("is refused where it stops when its end is zeros", async () => {
    const stop = first.offsets[4] ?? 0;
    const error = await refusal(read({ ...files, [FIRST]: zeroed(bytes, stop, bytes.length) }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: FIRST, offset: stop });
  });

  it("is read when preallocated zeros were left behind its last record", async () => {
    expect(indexes(await read({ ...files, [FIRST]: first.bytes(4096) }))).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("is refused in etcd's own files, with the place", async () => {
    const real = fixtureFiles("segments-1");
    const name = segmentName(2, 0x182);
    const damaged = changed(real[name] ?? new Uint8Array(0), 30_000, (byte) => byte ^ 4);
    const error = await refusal(read({ ...real, [name]: damaged }), "ERR_CORRUPT");
    expect(error.file).toBe(name);
    expect(error.offset).toBeGreaterThan(20_000);
    expect(error.offset).toBeLessThanOrEqual(30_000);
  });
});

describe("the last segment", () => {
  const { second, files } = twoSegments();
  const bytes = second.bytes(2048);

  it("ends silently at a sector of zeros within a frame", async () => {
    const start = second.offsets[4] ?? 0;
    const sector = Math.ceil((start + 8) / 512) * 512;
    expect(sector + 512).toBeLessThanOrEqual(second.offsets[5] ?? 0);
    expect(indexes(await read({ ...files, [SECOND]: zeroed(bytes, sector, sector + 512) }))).toEqual([1, 2, 3, 4]);
  });

  it("ends silently at a length word of zero, whatever follows", async () => {
    const start = second.offsets[4] ?? 0;
    expect(indexes(await read({ ...files, [SECOND]: zeroed(bytes, start, start + 8) }))).toEqual([1, 2, 3, 4]);
  });

  it("is refused for a flipped bit where no sector is zero", async () => {
    const start = second.offsets[4] ?? 0;
    const error = await refusal(read({ ...files, [SECOND]: changed(bytes, start + 100, (b) => b ^ 1) }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: SECOND, offset: start });
  });

  it("gives the frames before the cut wherever it is cut off", async () => {
    const end = second.bytes().length;
    for (let length = 0; length <= end; length++) {
      const whole = second.offsets.filter(
        (offset, frame) => (second.offsets[frame + 1] ?? end) <= length && offset < length,
      );
      const contents = await read({ ...files, [SECOND]: bytes.slice(0, length) });
      expect(contents.entries.length).toBe(3 + Math.max(0, whole.length - 3));
    }
  });

  it.each([
    ["of 2^55 bytes", [0, 0, 0, 0, 0, 0, 0x80, 0]],
    ["of the top byte's bits alone", [0, 0, 0, 0, 0xff, 0xff, 0xff, 0]],
    ["of 4 GiB", [0, 0, 0, 0, 1, 0, 0, 0]],
    ["just beyond the file", [0, 0x10, 0, 0, 0, 0, 0, 0]],
  ])("ends silently at a bogus length %s", async (_name, word) => {
    const start = second.offsets[4] ?? 0;
    const damaged = bytes.slice();
    damaged.set(word, start);
    expect(indexes(await read({ ...files, [SECOND]: damaged }))).toEqual([1, 2, 3, 4]);
  });

  it.each([
    ["with the sign bit lost", 7, 0x04],
    ["with its top byte 0x80", 7, 0x80],
    ["with other padding than a multiple of eight takes", 7, (byte: number) => 0x80 | (((byte & 7) % 7) + 1)],
  ] as const)("is refused for a length word %s", async (_name, at, value) => {
    const start = second.offsets[4] ?? 0;
    const error = await refusal(read({ ...files, [SECOND]: changed(bytes, start + at, value) }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: SECOND, offset: start });
  });
});

describe("the chain of checksums", () => {
  const { first, second, files } = twoSegments();

  it("refuses a segment that does not continue the one before", async () => {
    const other = new SegmentBuilder(first.crc ^ 1).head().state(1, 3).entries(entry(1, 4));
    const error = await refusal(read({ ...files, [SECOND]: other.bytes() }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: SECOND, offset: 0 });
  });

  it("refuses swapped segments", async () => {
    const third = new SegmentBuilder(second.crc).head().state(1, 3).entries(entry(1, 7));
    const swapped = { [FIRST]: first.bytes(), [SECOND]: third.bytes(), [segmentName(2, 7)]: second.bytes() };
    await refusal(read(swapped), "ERR_CORRUPT");
  });

  it("refuses a crc record within a segment that differs, and takes one that agrees", async () => {
    const log = () => new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1));
    const agreeing = log();
    agreeing.crcRecord(agreeing.crc).entries(entry(1, 2));
    expect(indexes(await read({ [FIRST]: agreeing.bytes() }))).toEqual([1, 2]);
    const differing = log();
    differing.crcRecord(differing.crc ^ 1).entries(entry(1, 2));
    const error = await refusal(read({ [FIRST]: differing.bytes() }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: FIRST, offset: differing.offsets[4] });
  });

  it("refuses a segment without a crc record at its head", async () => {
    const headless = new SegmentBuilder(first.crc).entries(entry(1, 4));
    const error = await refusal(read({ ...files, [SECOND]: headless.bytes() }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: SECOND, offset: 0 });
    await refusal(read({ [FIRST]: new SegmentBuilder().mark(0, 0).bytes() }), "ERR_CORRUPT");
  });

  it("refuses a record of unknown type, even with a good checksum", async () => {
    const log = new SegmentBuilder().head().mark(0, 0).record(6, new Uint8Array(9));
    const error = await refusal(read({ [FIRST]: log.bytes() }), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: FIRST, offset: log.offsets[3] });
  });

  it("refuses a record whose message cannot be decoded, even with a good checksum", async () => {
    for (const type of [2, 3, 5]) {
      const log = new SegmentBuilder().head().mark(0, 0).record(type, Uint8Array.of(0xff, 0xff));
      const error = await refusal(read({ [FIRST]: log.bytes() }), "ERR_CORRUPT");
      expect(error).toMatchObject({ file: FIRST, offset: log.offsets[3] });
    }
  });
});

describe("a real log", () => {
  const files = fixtureFiles("single");
  const wal = files[FIRST] ?? new Uint8Array(0);

  it("gives a prefix or a StableLogError wherever it is cut off", async () => {
    const whole = await readMember("/m", { from: "start", disk: await memoryMember(files) });
    const small = wal.subarray(0, 6000);
    const disk = await memoryMember({ [FIRST]: small });
    const file = await disk.open(`/m/${FIRST}`, "write");
    let refused = 0;
    for (let length = small.length; length >= 0; length--) {
      await file.truncate(length);
      const contents = await readMember("/m", { disk }).catch((error: unknown) => {
        expect(error).toBeInstanceOf(StableLogError);
        return undefined;
      });
      if (contents === undefined) refused++;
      else expect(differing(contents.entries, whole.entries)).toBeUndefined();
    }
    // Only what lacks its owner and the mark (0, 0), the first 80 bytes, cannot have been a log.
    expect(refused).toBe(80);
  });

  it("gives a result or a StableLogError after any change, batches and contents alike", async () => {
    const change = fc.oneof(
      fc.record({ at: fc.nat(wal.length - 1), length: fc.integer({ min: 1, max: 16 }), value: fc.nat(255) }),
      fc.record({ at: fc.nat(wal.length - 1), length: fc.constant(512), value: fc.constantFrom(0, 255) }),
      fc.record({ at: fc.nat(600), length: fc.integer({ min: 1, max: 8 }), value: fc.nat(255) }),
    );
    const names = Object.keys(files);
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(...names),
        fc.constantFrom("start", "snapshot"),
        async (changes, name, from) => {
          const bytes = (files[name] ?? wal).slice();
          for (const { at, length, value } of changes)
            bytes.fill(value, at % bytes.length, (at % bytes.length) + length);
          const disk = await memoryMember({ ...files, [name]: bytes });
          for (const work of [readMember("/m", { from, disk }), collectBatches("/m", { from, disk })]) {
            const error = await work.then(
              () => undefined,
              (reason: unknown) => reason,
            );
            if (error !== undefined) expect(error).toBeInstanceOf(StableLogError);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
