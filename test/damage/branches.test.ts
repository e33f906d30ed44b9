// The branches of recovery that nothing but a forger or a very unlucky log gets to, each by the shortest way there.

import { describe, expect, it } from "vitest";
import { putU64, viewOf } from "../../src/base/bytes.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import {
  type Damage,
  growLog,
  judge,
  newestSegmentOf,
  type Specimen,
  type Step,
  specimenOf,
  withoutWatermark,
} from "../../src/testing/damage.js";
import { type ForgedFrame, forge, framesFor, sealIndex } from "../../src/testing/mutations.js";
import * as f from "../../src/wal/format.js";
import { segmentIdentity } from "../../src/wal/frame.js";
import { SegmentIndex } from "../../src/wal/segment-index.js";

const save = (first: number, terms: readonly number[], bytes = 9): Step => {
  const entries = terms.map((term, i) => ({
    term,
    index: first + i,
    type: 0 as const,
    data: new Uint8Array(bytes).fill(term),
  }));
  return (storage) => storage.save({ entries, hardState: { term: terms.at(-1) ?? 1, vote: 1n, commit: first - 1 } });
};

const compact =
  (index: number): Step =>
  (storage) =>
    storage.compact(index);

/** A log as a power cut without luck leaves it: nothing but frames and STATE's names vouch for anything. */
async function powerless(...bursts: (Step[] | "reopen")[]): Promise<Specimen> {
  const { moments, history } = await growLog(bursts);
  const killed = new Map(moments.at(-1));
  killed.delete("spare");
  return specimenOf("powerless", withoutWatermark(killed), history);
}

/** The slot of STATE that names the newest segment. */
function namingSlot(on: Specimen): number {
  const [slot] = on.layout.filter(({ kind }) => kind === "identity").sort((a, b) => b.generation - a.generation);
  return slot?.from ?? 0;
}

/** The slot of STATE that names the newest segment was never written. */
function unwrittenSlot(on: Specimen): Damage {
  const from = namingSlot(on);
  return { kind: "zero", file: "STATE", from, to: from + f.IDENTITY_SLOT_BYTES };
}

/** Forges the newest segment with another frame in place of its last. */
function withLast(on: Specimen, frame: ForgedFrame): Damage[] {
  const file = newestSegmentOf(on.layout);
  return forge(on, file, [...framesFor(on.files, on.layout, file).slice(0, -1), frame], "by hand");
}

describe("open()", () => {
  it("refuses a torn head beside a slot of STATE that cannot be read and may have named it", async () => {
    const on = await powerless([save(1, [1])]);
    const file = newestSegmentOf(on.layout);
    const head: Damage = { kind: "garbage", file, from: 0, to: 100, seed: 4 };
    const slot: Damage = { kind: "flip", file: "STATE", bits: [8 * (namingSlot(on) + f.I_NEWEST)] };
    const { kind, error } = await judge(on, [head, slot]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, 0]);
    // A slot that was never written may not have named it: then the head is one that a crash tore.
    const lost = unwrittenSlot(on);
    expect((await judge(on, [head, lost])).kind).toBe("lost");
  });

  it("refuses a segment with a torn head whose frames say that it was durable, whatever STATE names", async () => {
    const on = await powerless([save(1, [1])], [save(2, [1])], [save(3, [1])]);
    const file = newestSegmentOf(on.layout);
    const head: Damage = { kind: "garbage", file, from: 0, to: 100, seed: 4 };
    const lost = unwrittenSlot(on);
    const { kind, error } = await judge(on, [head, lost]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, 0]);
  });

  it("refuses a segment with a torn head whose one frame left says that the one before it was durable", async () => {
    const on = await powerless([save(1, [1])], [save(2, [1])], [save(3, [1])]);
    const file = newestSegmentOf(on.layout);
    const last = on.layout.filter(({ kind }) => kind === "frame").at(-1);
    const head: Damage = { kind: "garbage", file, from: 0, to: last?.from ?? 0, seed: 4 };
    const lost = unwrittenSlot(on);
    const { kind, error } = await judge(on, [head, lost]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, 0]);
  });

  it("refuses a segment that STATE does not name when its head is one bit from valid", async () => {
    const on = await powerless([save(1, [1])]);
    const file = newestSegmentOf(on.layout);
    const head: Damage = { kind: "flip", file, bits: [393] };
    const lost = unwrittenSlot(on);
    const { kind, error } = await judge(on, [head, lost]);
    expect([kind, error?.file, error?.offset]).toEqual(["refused", file, 0]);
  });

  /** A log of which only the newest segment is left: its last frame compacts away all that stood before it. */
  async function compacted(): Promise<Specimen> {
    const on = await powerless([save(1, [1])], "reopen", [save(2, [1])], "reopen", [save(3, [1])], [compact(3)]);
    expect(on.layout.filter(({ kind }) => kind === "head")).toHaveLength(1);
    return on;
  }

  it("names the tail that it would drop when without it older segments are missing", async () => {
    const on = await compacted();
    const file = newestSegmentOf(on.layout);
    const last = on.layout.filter(({ kind, file: name }) => kind === "frame" && name === file).at(-1);
    const from = last?.from ?? 0;
    const wreck: Damage = { kind: "garbage", file, from, to: last?.to ?? 0, seed: 7 };
    const { kind, error } = await judge(on, [wreck]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, from]);
    expect(error?.message).toContain("without what follows");
  });

  it("names the head that is one bit from valid when without its segment others are missing", async () => {
    const on = await powerless([save(1, [1])], "reopen", [save(2, [1]), compact(2)]);
    expect(on.layout.filter(({ kind }) => kind === "head")).toHaveLength(1);
    const file = newestSegmentOf(on.layout);
    const { kind, error } = await judge(on, [{ kind: "flip", file, bits: [393] }, unwrittenSlot(on)]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, 0]);
    expect(error?.message).toContain("one bit from valid, and without it");
  });

  it("names the segment whose mark is of another version", async () => {
    const snapshot: Step = (storage) => storage.createSnapshot(1, undefined, Uint8Array.of(7));
    const on = await powerless([save(1, [1])], [snapshot]);
    const file = newestSegmentOf(on.layout);
    const [frame] = framesFor(on.files, on.layout, file).slice(-1) as [ForgedFrame];
    // The mark is all that the frame holds: an array that begins with its version.
    const body = Uint8Array.from(frame.body);
    expect(body[f.PART_BYTES + 1]).toBe(1);
    body[f.PART_BYTES + 1] = 3;
    const { kind, error } = await judge(on, withLast(on, { ...frame, body }));
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_FORMAT_VERSION", file, 0]);
  });

  it("refuses a zero head beside a slot of STATE that cannot be read and may have named it", async () => {
    const on = await powerless([save(1, [1])]);
    const file = newestSegmentOf(on.layout);
    const head: Damage = { kind: "zero", file, from: 0, to: 4096 };
    const slot: Damage = { kind: "flip", file: "STATE", bits: [8 * (namingSlot(on) + f.I_NEWEST)] };
    const { kind, error } = await judge(on, [head, slot]);
    expect([kind, error?.code, error?.file, error?.offset]).toEqual(["refused", "ERR_CORRUPT", file, 0]);
  });

  it("refuses a carried tail whose blocks hold fewer records than it says", async () => {
    const on = await powerless([save(1, [1])], [save(2, [1, 1, 1], 9000)]);
    const [frame] = framesFor(on.files, on.layout, newestSegmentOf(on.layout)).slice(-1) as [ForgedFrame];
    const body = frame.body.slice();
    expect(viewOf(body).getUint32(f.P_BLOCKS, true)).toBeGreaterThan(1);
    viewOf(body).setUint32(f.P_COUNT, 4, true);
    const { kind, error } = await judge(on, withLast(on, { ...frame, body }));
    expect([kind, error?.code]).toEqual(["refused", "ERR_CORRUPT"]);
    expect(error?.message).toContain("fewer records");
  });

  it("refuses a block whose padding overlaps the directory", async () => {
    const { closed, history } = await growLog([[save(1, [1])], [save(2, [1])]]);
    const on = await specimenOf("closed", closed, history);
    const meta = f.PART_BYTES + f.RECORDS_BYTES;
    const recordBytes = f.RECORD_BYTES + 1;
    const body = new Uint8Array(meta + f.BLOCK_BYTES + recordBytes + f.DIRECTORY_BYTES);
    const view = viewOf(body);
    view.setUint32(f.P_FLAGS, f.F_RECORDS, true);
    view.setUint32(f.P_COUNT, 1, true);
    view.setUint32(f.P_BLOCKS, 1, true);
    putU64(view, f.PART_BYTES, 2);
    putU64(view, f.PART_BYTES + 8, 1);
    view.setUint32(meta + f.B_RECORD_BYTES, recordBytes, true);
    putU64(view, meta + f.B_FIRST, 2);
    view.setUint32(meta + f.BLOCK_BYTES, 1, true);
    view.setUint32(meta + f.BLOCK_BYTES + 4, 1, true);
    view.setUint32(meta + f.BLOCK_BYTES + recordBytes, recordBytes, true);
    const { kind, error } = await judge(on, withLast(on, { body, metaBytes: meta }));
    expect([kind, error?.code]).toEqual(["refused", "ERR_CORRUPT"]);
    expect(error?.message).toContain("contradict");
  });

  it("refuses a directory in the place of STATE's temporary file as ERR_FOREIGN, and makes no log beside it", async () => {
    const disk = new MemoryDisk();
    await disk.mkdir("/log");
    await disk.mkdir("/log/STATE.tmp");
    await expect(FileStorage.open("/log", { disk })).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "STATE.tmp" });
    expect(await disk.list("/log")).toEqual(["STATE.tmp"]);
    await (await disk.lock("/log")).release();
  });
});

describe("SegmentIndex.decode()", () => {
  it("refuses tables that do not hold to their order, whatever their checksum says", () => {
    const binding = { identity: segmentIdentity(new Uint8Array(16).fill(7), 3), end: 9000, sequence: 9, chain: 5 };
    const index = new SegmentIndex();
    for (let i = 0; i < 4; i++) {
      index.addPlace(10 + 5 * i, 800 + 200 * i, i % 2 === 1);
      index.addTag(10 + 5 * i, 1 + i);
    }
    const whole = index.encode(binding);
    expect(SegmentIndex.decode(whole, binding)?.placeCount).toBe(4);
    const runs = f.INDEX_HEADER_BYTES + 4 * 8;
    const lies: readonly (readonly [number, number])[] = [
      // The first record of a place or run as in the one before it, or before all; an offset as before, or beyond the end.
      [f.INDEX_HEADER_BYTES + 8, 0],
      [f.INDEX_HEADER_BYTES + 16, 1],
      [f.INDEX_HEADER_BYTES + 12, 800 / 8],
      [f.INDEX_HEADER_BYTES + 28, 9000 / 8],
      [runs, 1],
      [runs + f.INDEX_RUN_BYTES, 0],
      [runs + 2 * f.INDEX_RUN_BYTES, 4],
      // A tag beyond 2^53.
      [runs + 8, 0xffffffff],
      [f.X_BASE + 4, 0xffffffff],
    ];
    for (const [at, value] of lies) {
      const bytes = whole.slice();
      viewOf(bytes).setUint32(at, value, true);
      expect(SegmentIndex.decode(bytes, binding), `${value} at ${at}`).toBeUndefined();
      sealIndex(bytes);
      expect(SegmentIndex.decode(bytes, binding), `${value} at ${at}, sealed`).toBeUndefined();
    }
  });
});
