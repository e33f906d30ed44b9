// Damage of every kind against open(), reads and verify(): torn tails are recovered, damage that anything vouches against is
// refused by name, what cannot be told is said to be ambiguous, and no flipped bit or cut file ever passes for other data.

import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.js";
import { crc32 } from "../../src/base/crc32.js";
import { StableLogError } from "../../src/base/errors.js";
import type { Entry } from "../../src/raftpb/types.js";
import type { FileStorage } from "../../src/storage/file-storage.js";
import * as f from "../../src/wal/format.js";
import { segmentIdentity, stampFrame } from "../../src/wal/frame.js";
import { segmentName } from "../../src/wal/segment-name.js";
import {
  codeOf,
  expectPlace,
  expectSameFiles,
  fill,
  hard,
  noted,
  open,
  refused,
  run,
  stateOf,
  voters,
} from "./helpers.js";
import { errno, randomOf, SECTOR_BYTES, TestDisk } from "./test-disk.js";

function flipBit(disk: TestDisk, name: string, bit: number): void {
  const bytes = disk.get(name);
  bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
}

/** Makes the watermark slots unreadable, as a power cut may. */
function wipeWatermark(disk: TestDisk): void {
  disk.get("STATE").fill(0, f.WATERMARK_AT);
}

function newestOf(disk: TestDisk): string {
  return [...disk.files().keys()]
    .filter((name) => name.endsWith(".seg"))
    .sort()
    .at(-1) as string;
}

/** Offsets of the frames that stand in a segment, its head first, and where the last one ends. */
function framesOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = [0];
  for (let p = 0; p + f.HEADER_BYTES <= bytes.length && view.getUint16(p + f.H_MAGIC, true) === f.MAGIC; ) {
    p += f.HEADER_BYTES + Math.ceil(view.getUint32(p + f.H_BODY_BYTES, true) / 8) * 8 + f.TRAILER_BYTES;
    at.push(p);
  }
  return at;
}

/** A log of three saves in one segment, killed. Its watermark covers all of them. */
async function killedLog(): Promise<{ disk: TestDisk; state: string; states: string[] }> {
  const disk = new TestDisk();
  const storage = await open(disk);
  const states: string[] = [];
  for (let i = 1; i <= 3; i++) {
    await storage.save({ entries: run(i, 1, 1, 50), hardState: hard(1, i - 1) });
    states.push(stateOf(storage));
  }
  await noted();
  const image = disk.killed();
  await storage.close();
  return { disk: image, state: states[2] as string, states };
}

/** A log of several tiny segments (each open begins one), index files, two snapshots; closed. */
async function closedLog(): Promise<TestDisk> {
  const disk = new TestDisk();
  const rounds: ((storage: FileStorage) => Promise<unknown>)[] = [
    (s) => s.save({ entries: run(1, 3), hardState: hard(1, 1) }),
    (s) => s.save({ entries: run(3, 2, 2), hardState: hard(2, 2) }),
    (s) => s.createSnapshot(1, voters(1n, 2n), fill(40, 1)).then(() => s.createSnapshot(2, voters(3n), fill(30, 2))),
    (s) => s.save({ entries: run(5, 1, 2), hardState: hard(2, 4) }),
  ];
  for (const round of rounds) {
    const storage = await open(disk);
    await round(storage);
    await storage.close();
  }
  return disk;
}

/**
 * Opens a damaged image and reads all of it. Gives the state, or undefined when open() or a read named the damage; then
 * a refusal by open() has left every byte as it was.
 */
async function tryAll(disk: TestDisk, what: string): Promise<string | undefined> {
  const before = disk.files();
  let storage: FileStorage | undefined;
  try {
    storage = await open(disk);
    const state = stateOf(storage);
    await storage.verify();
    return state;
  } catch (error) {
    if (error instanceof AssertionError || !(error instanceof StableLogError)) {
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
    if (storage === undefined) {
      expect(error.file, `${what}: ${error.message}`).toBeTypeOf("string");
      expectSameFiles(disk, before, what);
    }
    expectPlace(disk, error);
    return undefined;
  } finally {
    await storage?.close();
  }
}

describe("the end of the newest segment", () => {
  it("open() is clean when the log was closed, and when it was killed after a sync", async () => {
    const { disk, state } = await killedLog();
    for (let i = 0; i < 2; i++) {
      const storage = await open(disk);
      expect(storage.recovery).toMatchObject({ verdict: "clean", droppedBytes: 0, carriedEntries: 0 });
      expect(stateOf(storage)).toBe(state);
      await storage.close();
    }
  });

  /** A group of three saves written and not yet synced, behind one that is durable. */
  async function unsyncedGroup(): Promise<{ disk: TestDisk; from: number; to: number; states: string[] }> {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 2), hardState: hard(1, 1) });
    await noted();
    const states = [stateOf(storage)];
    const from = framesOf(disk.get(newestOf(disk))).at(-1) as number;
    let image: TestDisk | undefined;
    disk.before = (operation, name) => {
      if (operation === "sync" && name.endsWith(".seg")) image = disk.killed();
    };
    const saves = [run(3, 1), run(3, 2, 2), run(5, 1, 2, 300)].map((entries, i) =>
      storage.save({ entries, hardState: hard(2, 1 + i) }).then(() => states.push("")),
    );
    await Promise.all(saves);
    states.length = 1;
    const reference = await open(new TestDisk());
    await reference.save({ entries: run(1, 2), hardState: hard(1, 1) });
    for (const [i, entries] of [run(3, 1), run(3, 2, 2), run(5, 1, 2, 300)].entries()) {
      await reference.save({ entries, hardState: hard(2, 1 + i) });
      states.push(stateOf(reference));
    }
    await reference.close();
    await storage.close();
    const disk2 = image as TestDisk;
    return { disk: disk2, from, to: framesOf(disk2.get(newestOf(disk2))).at(-1) as number, states };
  }

  it("open() keeps whole saves and drops the rest when the last group is cut at any byte", async () => {
    const { disk, from, to, states } = await unsyncedGroup();
    const ends = framesOf(disk.get(newestOf(disk))).filter((end) => end >= from);
    for (let cut = from; cut <= to; cut++) {
      const image = disk.killed();
      image.get(newestOf(image)).fill(0, cut);
      const storage = await open(image);
      const whole = ends.filter((end) => end <= cut).length - 1;
      expect(stateOf(storage), `cut at ${cut}`).toBe(states[whole]);
      const torn =
        !ends.includes(cut) &&
        disk
          .get(newestOf(disk))
          .subarray(ends[whole], cut)
          .some((b) => b !== 0);
      expect(storage.recovery.verdict, `cut at ${cut}`).toBe(torn ? "tear" : "clean");
      if (torn) expect(storage.recovery).toMatchObject({ file: newestOf(disk), offset: ends[whole] });
      expect(storage.recovery.carriedEntries > 0).toBe(whole > 0);
      await storage.close();
    }
  });

  it("open() drops the tail when later sectors are there and earlier ones are missing, and when they hold junk", async () => {
    const { disk, from, to, states } = await unsyncedGroup();
    // The group begins inside a sector, whose other part was there before.
    for (let at = from, end = 0; at < to; at = end) {
      end = Math.min((Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES, to);
      for (const filler of [0, 0x5a]) {
        const image = disk.killed();
        image.get(newestOf(image)).fill(filler, at, end);
        const storage = await open(image);
        expect(states.slice(0, 4)).toContain(stateOf(storage));
        await storage.close();
      }
    }
  });

  it("open() refuses with ERR_CORRUPT when STATE's watermark vouches for the damaged frame", async () => {
    const { disk } = await killedLog();
    const name = newestOf(disk);
    for (const at of framesOf(disk.get(name)).slice(1, -1)) {
      const image = disk.killed();
      image.get(name).fill(0xee, at + 100, at + 104);
      expect(await refused(image, "ERR_CORRUPT")).toMatchObject({ file: name, offset: at });
      expect(await refused(image, "ERR_CORRUPT", { readOnly: true })).toMatchObject({ file: name, offset: at });
    }
  });

  it("open() refuses with ERR_CORRUPT when a later frame vouches for the damaged one, also without a watermark", async () => {
    const { disk } = await killedLog();
    const name = newestOf(disk);
    const [, first] = framesOf(disk.get(name)) as [number, number];
    disk.get(name).fill(0xee, first + 100, first + 104);
    wipeWatermark(disk);
    expect(await refused(disk, "ERR_CORRUPT")).toMatchObject({ file: name, offset: first });
    // Asking to drop ambiguous tails drops no damage.
    await refused(disk, "ERR_CORRUPT", { onAmbiguousTail: "drop" });
  });

  it("open() refuses with ERR_AMBIGUOUS_TAIL when one flipped bit spoils a last frame that nothing vouches for", async () => {
    const { disk, states } = await killedLog();
    wipeWatermark(disk);
    const name = newestOf(disk);
    const [from, to] = framesOf(disk.get(name)).slice(-2) as [number, number];
    for (let bit = from * 8; bit < to * 8; bit += 3) {
      const image = disk.killed();
      flipBit(image, name, bit);
      // Padding is under no checksum: what is not read cannot be damaged.
      const padding = bit >= (to - f.TRAILER_BYTES - 8) * 8 && bit < (to - f.TRAILER_BYTES) * 8;
      if (padding) continue;
      const error = await refused(image, "ERR_AMBIGUOUS_TAIL");
      expect(error).toMatchObject({ file: name, offset: from, lastIndex: 2, maybeLostThrough: 3 });
    }
    flipBit(disk, name, (from + 130) * 8);
    await refused(disk, "ERR_AMBIGUOUS_TAIL", { readOnly: true });
    const storage = await open(disk, { onAmbiguousTail: "drop" });
    expect(storage.recovery).toMatchObject({ verdict: "dropped", file: name, offset: from });
    expect(storage.recovery.droppedBytes).toBe(to - from);
    expect(stateOf(storage)).toBe(states[1]);
    await storage.save({ entries: run(3, 1, 2), hardState: hard(2, 2) });
    const after = stateOf(storage);
    await storage.close();
    // What was dropped stays where it is.
    expect(disk.get(name).length).toBeGreaterThanOrEqual(to);
    const again = await open(disk);
    expect(again.recovery.verdict).toBe("clean");
    expect(stateOf(again)).toBe(after);
    expect((await again.verify()).damage).toEqual([]);
    await again.close();
  });

  it("ERR_AMBIGUOUS_TAIL tells of a snapshot that dropping would lose", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 2), hardState: hard(1, 1) });
    const metadata = { index: 50, term: 3, confState: voters(1n) };
    await storage.save({ snapshot: { metadata, data: fill(10, 1) }, hardState: hard(3, 50) });
    const image = disk.killed();
    await storage.close();
    wipeWatermark(image);
    const name = newestOf(image);
    const from = framesOf(image.get(name)).at(-2) as number;
    flipBit(image, name, (from + f.HEADER_BYTES + 30) * 8);
    const error = await refused(image, "ERR_AMBIGUOUS_TAIL");
    expect(error).toMatchObject({ offset: from, lastIndex: 2, maybeLostThrough: 50 });
  });

  it("a segment longer than its end is no damage, a shorter one is", async () => {
    const disk = await closedLog();
    const whole = await open(disk.killed());
    const state = stateOf(whole);
    await whole.close();
    for (const [name, bytes] of disk.files()) {
      if (!name.endsWith(".seg")) continue;
      const longer = disk.killed();
      longer.put(name, Buffer.concat([bytes, fill(700, 3)]));
      const storage = await open(longer);
      expect(stateOf(storage)).toBe(state);
      expect((await storage.verify()).ok).toBe(true);
      await storage.close();
      const shorter = disk.killed();
      shorter.put(name, bytes.subarray(0, bytes.length - 1));
      const error = await refused(shorter, "ERR_CORRUPT");
      expect(error.file).toBe(name);
      expectPlace(shorter, error);
    }
  });
});

describe("the files of the directory", () => {
  it("open() refuses with ERR_GAP when a segment is missing that the log needs", async () => {
    const disk = await closedLog();
    const segments = [...disk.files().keys()].filter((name) => name.endsWith(".seg"));
    expect(segments.length).toBe(4);
    for (const name of segments) {
      const image = disk.killed();
      image.delete(name);
      expect((await refused(image, "ERR_GAP")).file).toBe(name);
      wipeWatermark(image);
      expect((await refused(image, "ERR_GAP")).file).toBe(name);
    }
  });

  /** A killed log of two segments and no watermark; `changes` are saved as one group each, all of them in the newest. */
  async function compactingLog(changes: ((storage: FileStorage) => Promise<unknown>)[][]): Promise<{
    disk: TestDisk;
    /** The same before the older segment was given back, and what it said before the last group. */
    kept: TestDisk;
    before: string;
  }> {
    const disk = new TestDisk();
    const first = await open(disk);
    await first.save({ entries: run(1, 3), hardState: hard(1, 3) });
    await first.close();
    const storage = await open(disk);
    let kept: TestDisk | undefined;
    disk.before = (operation, name) => {
      if ((operation === "unlink" || operation === "rename") && name === segmentName(1)) kept ??= disk.killed();
    };
    let before = "";
    for (const group of changes) {
      before = stateOf(storage);
      await Promise.all(group.map((change) => change(storage)));
    }
    await noted();
    const image = disk.killed();
    await storage.close();
    expect([...image.files().keys()].filter((name) => name.endsWith(".seg"))).toEqual([segmentName(2)]);
    if (kept === undefined) throw new Error("the older segment was not given back");
    wipeWatermark(image);
    wipeWatermark(kept);
    return { disk: image, kept, before };
  }

  it("open() refuses with ERR_CORRUPT the tail without which a released segment would be needed", async () => {
    const { disk, kept, before } = await compactingLog([
      [(s) => s.save({ entries: run(4, 1), hardState: hard(1, 4) })],
      [(s) => s.compact(4)],
    ]);
    const [from, to] = framesOf(disk.get(segmentName(2))).slice(-2) as [number, number];
    const wreck = (image: TestDisk): Uint8Array => image.get(segmentName(2)).fill(0xee, from + 8, to);
    wreck(disk);
    // The frame that is wrecked must have been durable: by it the segment was released. Nor is it dropped when asked for.
    for (const onAmbiguousTail of ["refuse", "drop"] as const) {
      const error = await refused(disk, "ERR_CORRUPT", { onAmbiguousTail });
      expect(error).toMatchObject({ file: segmentName(2), offset: from });
      expect(error.cause).toMatchObject({ code: "ERR_GAP", file: segmentName(1) });
    }
    // While that segment is there, the same bytes are what a crash leaves of a compaction.
    wreck(kept);
    const storage = await open(kept);
    expect(storage.recovery).toMatchObject({ verdict: "tear", file: segmentName(2), offset: from });
    expect(stateOf(storage)).toBe(before);
    await storage.close();
  });

  it("open() refuses with ERR_CORRUPT a head one bit from valid without which a released segment would be needed", async () => {
    // One group, with which the segment begins: nothing in it says that its head was durable.
    const { disk, kept, before } = await compactingLog([
      [(s) => s.save({ entries: run(4, 1), hardState: hard(1, 4) }), (s) => s.compact(4)],
    ]);
    for (const image of [disk, kept]) {
      // The slot of STATE that names the newest segment was never written.
      const view = new DataView(image.get("STATE").buffer);
      const slot = view.getUint32(f.I_SERIAL, true) > view.getUint32(f.IDENTITY_SLOT_BYTES + f.I_SERIAL, true) ? 0 : 1;
      image.get("STATE").fill(0, slot * f.IDENTITY_SLOT_BYTES, (slot + 1) * f.IDENTITY_SLOT_BYTES);
      flipBit(image, segmentName(2), 8 * (f.HEADER_BYTES + f.L_LAST_INDEX));
    }
    for (const onAmbiguousTail of ["refuse", "drop"] as const) {
      const error = await refused(disk, "ERR_CORRUPT", { onAmbiguousTail });
      expect(error).toMatchObject({ file: segmentName(2), offset: 0 });
      expect(error.cause).toMatchObject({ code: "ERR_GAP", file: segmentName(1) });
    }
    // While that segment is there, nobody can say whether the newer one was begun.
    expect(await refused(kept, "ERR_AMBIGUOUS_TAIL")).toMatchObject({ file: segmentName(2), offset: 0, lastIndex: 3 });
    const storage = await open(kept, { onAmbiguousTail: "drop" });
    expect(storage.recovery).toMatchObject({ verdict: "dropped", file: segmentName(2), offset: 0 });
    expect(stateOf(storage)).toBe(before);
    await storage.close();
  });

  it("open() refuses with ERR_GAP when STATE's watermark names a segment that is gone, and STATE's slots do not", async () => {
    const { disk } = await killedLog();
    const older = disk.killed();
    older.delete(newestOf(disk));
    // The slot that names the segment is lost as well: the one before says that none was begun.
    const view = new DataView(older.get("STATE").buffer);
    const slot = view.getUint32(f.I_SERIAL, true) > view.getUint32(f.IDENTITY_SLOT_BYTES + f.I_SERIAL, true) ? 0 : 1;
    older.get("STATE").fill(0, slot * f.IDENTITY_SLOT_BYTES, (slot + 1) * f.IDENTITY_SLOT_BYTES);
    await refused(older, "ERR_GAP");
  });

  it("open() notices a lost newest segment when only a watermark of it is left beside older ones", async () => {
    const disk = await closedLog();
    const view = new DataView(disk.get("STATE").buffer);
    const slot = view.getUint32(f.I_SERIAL, true) > view.getUint32(f.IDENTITY_SLOT_BYTES + f.I_SERIAL, true) ? 0 : 1;
    disk.get("STATE").fill(0, slot * f.IDENTITY_SLOT_BYTES, (slot + 1) * f.IDENTITY_SLOT_BYTES);
    disk.delete(newestOf(disk));
    await refused(disk, "ERR_GAP");
  });

  it("open() refuses a segment under another name, and one of another log", async () => {
    const disk = await closedLog();
    const other = new TestDisk();
    other.entropy(new Uint8Array(16));
    const stranger = await open(other);
    await stranger.save({ entries: run(1, 3), hardState: hard(1, 1) });
    await stranger.close();
    const names = [...disk.files().keys()].filter((name) => name.endsWith(".seg")).sort();
    const [first, , , last] = names as [string, string, string, string];
    for (const to of [...names, segmentName(9)]) {
      const copied = disk.killed();
      copied.put(to, disk.get(to === first ? last : first));
      expect((await refused(copied, "ERR_CORRUPT")).file).toBe(to);
      const foreign = disk.killed();
      foreign.put(to, other.get(newestOf(other)));
      expect((await refused(foreign, "ERR_FOREIGN")).file).toBe(to);
    }
    const state = disk.killed();
    state.put("STATE", other.get("STATE"));
    await refused(state, "ERR_FOREIGN");
  });

  it("open() refuses with ERR_CORRUPT when STATE is missing beside segments or snapshots, or cannot be read", async () => {
    const disk = await closedLog();
    const missing = disk.killed();
    missing.delete("STATE");
    expect(await refused(missing, "ERR_CORRUPT")).toMatchObject({ file: "STATE", offset: 0 });
    const unreadable = disk.killed();
    unreadable.put("STATE", new Uint8Array(f.STATE_FILE_BYTES));
    expect(await refused(unreadable, "ERR_CORRUPT")).toMatchObject({ file: "STATE", offset: 0 });
  });

  it("open() refuses with ERR_FORMAT_VERSION when STATE, a head or a frame is of a newer format", async () => {
    const { disk } = await killedLog();
    const name = newestOf(disk);
    const state = disk.killed();
    for (const at of [0, f.IDENTITY_SLOT_BYTES]) {
      const bytes = state.get("STATE").subarray(at, at + f.I_METADATA);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      view.setUint32(f.I_VERSION, f.FORMAT_VERSION + 1, true);
      view.setUint32(f.I_CRC, crc32(bytes.subarray(f.I_MAGIC)), true);
    }
    expect(await refused(state, "ERR_FORMAT_VERSION")).toMatchObject({ file: "STATE", offset: f.I_VERSION });

    const logId = disk.get("STATE").slice(f.I_LOG_ID, f.I_LOG_ID + 16);
    const { seed } = segmentIdentity(logId, Number.parseInt(name, 16));
    for (const at of framesOf(disk.get(name)).slice(0, -1)) {
      const image = disk.killed();
      const header = image.get(name).subarray(at, at + f.HEADER_BYTES);
      header[f.H_VERSION] = f.FORMAT_VERSION + 1;
      new DataView(header.buffer, header.byteOffset).setUint32(f.H_CRC, crc32(header.subarray(4), seed), true);
      expect(await refused(image, "ERR_FORMAT_VERSION")).toMatchObject({ file: name, offset: at });
      // No version is 0: such a frame is none, whatever its checksum says.
      header[f.H_VERSION] = 0;
      new DataView(header.buffer, header.byteOffset).setUint32(f.H_CRC, crc32(header.subarray(4), seed), true);
      expect(await refused(image, "ERR_CORRUPT")).toMatchObject({ file: name, offset: at });
    }
  });

  it("open() refuses with ERR_CORRUPT when a frame's checksums hold and its fields contradict the log", async () => {
    const { disk } = await killedLog();
    const name = newestOf(disk);
    const logId = disk.get("STATE").slice(f.I_LOG_ID, f.I_LOG_ID + 16);
    const identity = segmentIdentity(logId, Number.parseInt(name, 16));
    const bytes = disk.get(name);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const at = framesOf(bytes).at(-2) as number;
    const first = at + f.HEADER_BYTES + f.PART_BYTES + f.STATE_BYTES;
    view.setUint32(first, 99, true);
    const body = bytes.subarray(at + f.HEADER_BYTES, at + f.HEADER_BYTES + view.getUint32(at + f.H_BODY_BYTES, true));
    view.setUint32(at + f.H_BODY_CRC, crc32(body), true);
    const sequence = view.getUint32(at + f.H_SEQUENCE, true);
    const chain = view.getUint32(at + f.H_CHAIN, true);
    const own = stampFrame(bytes, view, at, f.KIND_FRAME, identity, sequence, sequence - 1, at, chain) >>> 0;
    // STATE's watermark knows the frame that stood there before.
    expect(await refused(disk, "ERR_CORRUPT")).toMatchObject({ file: name, offset: at });
    expect(own).not.toBe(0);
    wipeWatermark(disk);
    expect(await refused(disk, "ERR_CORRUPT")).toMatchObject({ file: name, offset: at });
  });

  it("open() refuses with ERR_CORRUPT when the first segment does not reach back to where the log begins", async () => {
    const { disk } = await killedLog();
    const name = newestOf(disk);
    const logId = disk.get("STATE").slice(f.I_LOG_ID, f.I_LOG_ID + 16);
    const identity = segmentIdentity(logId, Number.parseInt(name, 16));
    const bytes = disk.get(name);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const [, end] = framesOf(bytes) as [number, number];
    view.setUint32(f.HEADER_BYTES + f.L_LAST_INDEX, 5, true);
    const body = bytes.subarray(f.HEADER_BYTES, f.HEADER_BYTES + view.getUint32(f.H_BODY_BYTES, true));
    view.setUint32(f.H_BODY_CRC, crc32(body), true);
    stampFrame(bytes, view, 0, f.KIND_HEAD, identity, 1, 0, 0, 0);
    bytes.fill(0, end);
    wipeWatermark(disk);
    expect(await refused(disk, "ERR_CORRUPT")).toMatchObject({ file: name, offset: 0 });
  });

  it("open() refuses with ERR_CORRUPT when STATE and the head of the segment that it may have named are both torn", async () => {
    const { disk } = await killedLog();
    const view = new DataView(disk.get("STATE").buffer);
    const slot = view.getUint32(f.I_SERIAL, true) > view.getUint32(f.IDENTITY_SLOT_BYTES + f.I_SERIAL, true) ? 0 : 1;
    flipBit(disk, "STATE", (slot * f.IDENTITY_SLOT_BYTES + f.I_NEWEST) * 8);
    wipeWatermark(disk);
    disk.get(newestOf(disk)).fill(0x77, 8, 24);
    await refused(disk, "ERR_CORRUPT");
  });

  it("open() leaves out and removes a segment whose head is zero or torn and that STATE does not name", async () => {
    const { disk, state } = await killedLog();
    for (const junk of [new Uint8Array(4096), fill(4096, 5), fill(10, 5), new Uint8Array(0)]) {
      const image = disk.killed();
      image.put(segmentName(2), junk);
      image.put(segmentName(3), junk);
      const storage = await open(image);
      expect(stateOf(storage)).toBe(state);
      await storage.close();
      expect([...image.files().keys()]).not.toContain(segmentName(2));
    }
  });

  it("open() removes older segments and index files that the log needs no more, and leaves strange names alone", async () => {
    const { disk, state } = await killedLog();
    const storage = await open(disk);
    const metadata = { index: 9, term: 2, confState: voters(1n) };
    await storage.save({ snapshot: { metadata, data: fill(5, 1) }, hardState: hard(2, 9) });
    const after = stateOf(storage);
    expect(after).not.toBe(state);
    await storage.close();
    disk.put("0000000000000001.idx", fill(9, 1));
    disk.put("00000000000000aa.idx", fill(9, 1));
    disk.put("spare", fill(100, 1));
    disk.put("notes.txt", fill(9, 9));
    const first = (await killedLog()).disk;
    disk.put(
      segmentName(1),
      first.get(segmentName(1)).map(() => 0x33),
    );
    const again = await open(disk);
    expect(stateOf(again)).toBe(after);
    await again.close();
    const names = [...disk.files().keys()];
    expect(names).toContain("notes.txt");
    for (const gone of ["0000000000000001.idx", "00000000000000aa.idx", "spare", segmentName(1)]) {
      expect(names).not.toContain(gone);
    }
  });

  it("open() refuses a copied, foreign or newer segment also in a place that the log needs no more", async () => {
    const { disk } = await killedLog();
    const storage = await open(disk);
    const metadata = { index: 9, term: 2, confState: voters(1n) };
    await storage.save({ snapshot: { metadata, data: fill(5, 1) }, hardState: hard(2, 9) });
    await storage.close();
    expect([...disk.files().keys()]).not.toContain(segmentName(1));
    disk.put(segmentName(1), disk.get(segmentName(2)));
    expect(await refused(disk, "ERR_CORRUPT")).toMatchObject({ file: segmentName(1), offset: 0 });
  });

  it("readOnly gives up on a file that stays shorter than it said, with a code", async () => {
    const disk = await closedLog();
    disk.before = (operation, name) => {
      if (operation === "read" && name === "STATE") disk.truncateNow("STATE", 10);
    };
    expect((await codeOf(open(disk, { readOnly: true }))).file).toBeTypeOf("string");
    const strange = await closedLog();
    strange.before = (operation) => {
      if (operation === "read") throw "no error at all";
    };
    expect(await codeOf(open(strange, { readOnly: true }))).toMatchObject({
      code: "ERR_READ",
      file: "STATE",
      offset: 0,
    });
  });

  it("open() refuses with ERR_CORRUPT and changes nothing when the newest snapshot's file is missing or cut", async () => {
    const disk = await closedLog();
    const name = [...disk.files().keys()]
      .filter((each) => each.endsWith(".snapshot"))
      .sort()
      .at(-1) as string;
    const gone = disk.killed();
    gone.delete(name);
    expect((await refused(gone, "ERR_CORRUPT")).file).toBe(name);
    const cut = disk.killed();
    cut.put(name, disk.get(name).subarray(0, 60));
    expect((await refused(cut, "ERR_CORRUPT")).file).toBe(name);
    expect((await refused(cut, "ERR_CORRUPT", { readOnly: true })).file).toBe(name);
  });

  it("open() reports ERR_READ with file and offset when a file cannot be read", async () => {
    const disk = await closedLog();
    for (const name of disk.files().keys()) {
      if (name.endsWith(".idx")) continue;
      const image = disk.killed();
      image.before = (operation, on) => {
        if (operation === "read" && on === name) throw Object.assign(new Error("EIO"), { code: "EIO" });
      };
      const error = await codeOf(
        (async () => {
          const storage = await open(image);
          try {
            // An older segment or snapshot is read when it is asked for.
            stateOf(storage);
            const { damage } = await storage.verify();
            expect(damage).toMatchObject([{ code: "ERR_READ", file: name }]);
            const [{ code, proof, file, offset }] = damage as [(typeof damage)[number]];
            throw new StableLogError(code, proof, { file, offset });
          } finally {
            await storage.close();
          }
        })(),
      );
      expect(error.code, name).toBe("ERR_READ");
      expect(error.file).toBe(name);
      expect(error.offset).toBeTypeOf("number");
    }
  });
});

describe("damage inside an older segment", () => {
  it("open() works, the read that touches it throws ERR_CORRUPT, verify() reports it", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 1; i <= 30; i++) await storage.save({ entries: run(i, 1, 1, 400), hardState: hard(1, i) });
    await storage.close();
    const name = segmentName(2);
    const [, second, third] = framesOf(disk.get(name)) as [number, number, number];
    disk.get(name).fill(0xcc, second + 150, second + 155);
    const again = await open(disk);
    expect(again.lastIndex()).toBe(30);
    const bad: number[] = [];
    for (let i = 1; i <= 30; i++) {
      try {
        expect(again.entries(i, i + 1)).toEqual(run(i, 1, 1, 400));
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_CORRUPT", file: name, offset: second });
        bad.push(i);
      }
    }
    expect(bad.length).toBe(1);
    const report = await again.verify();
    expect(report.ok).toBe(false);
    expect(report.damage).toMatchObject([{ code: "ERR_CORRUPT", file: name, offset: second, index: bad[0] }]);
    expect(third).toBeGreaterThan(second);
    await again.close();
  });

  it("verify() reports segments that are gone or cannot be opened, and goes on", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 1; i <= 30; i++) await storage.save({ entries: run(i, 1, 1, 400), hardState: hard(1, i) });
    disk.delete(segmentName(1));
    disk.before = (operation, name) => {
      if (operation === "open" && name === segmentName(2)) throw errno("EACCES");
    };
    const report = await storage.verify();
    expect(report.ok).toBe(false);
    expect(report.damage).toMatchObject([
      { code: "ERR_GAP", file: segmentName(1), offset: 0, index: 1 },
      { code: "ERR_READ", file: segmentName(2), offset: 0 },
    ]);
    disk.before = () => {};
    await storage.close();
  });

  it("an index file that is damaged, cut or of another segment is made again from the segment", async () => {
    const disk = await closedLog();
    const whole = await open(disk.killed());
    const state = stateOf(whole);
    await whole.close();
    const indexes = [...disk.files().keys()].filter((name) => name.endsWith(".idx"));
    expect(indexes.length).toBeGreaterThan(1);
    for (const name of indexes) {
      for (const damaged of [disk.get(indexes.find((other) => other !== name) as string), fill(70, 1), fill(0, 1)]) {
        const image = disk.killed();
        const good = disk.get(name);
        image.put(name, damaged);
        const storage = await open(image);
        expect(stateOf(storage)).toBe(state);
        await storage.close();
        // Of a segment that no read has touched it stays as it was.
        const places = new DataView(good.buffer).getUint32(f.X_BLOCKS, true);
        if (places > 0) expect(image.get(name)).toEqual(good);
      }
    }
  });
});

describe("large saves, cut into blocks", () => {
  const large = (first: number, term: number): Entry[] => [
    ...run(first, 9, term, 5000),
    ...run(first + 9, 9, term + 1, 3001),
    ...run(first + 18, 2, term + 1, 0),
  ];

  /** A log whose newest segment is STATE's, with saves behind its durable end that nothing vouches for. */
  async function unvouched(changes: ((storage: FileStorage) => Promise<unknown>)[]): Promise<{
    disk: TestDisk;
    state: string;
  }> {
    const disk = new TestDisk();
    const storage = await open(disk, { segmentBytes: 1 << 20 });
    await storage.save({ entries: run(1, 5), hardState: hard(1, 3) });
    let image: TestDisk | undefined;
    disk.before = (operation, name) => {
      if (operation === "sync" && name.endsWith(".seg")) image = disk.killed();
    };
    await Promise.all(changes.map((change) => change(storage)));
    const state = stateOf(storage);
    await storage.close();
    return { disk: image as TestDisk, state };
  }

  it("open() carries a tail of any make, and it reads the same from the segment that carries it", async () => {
    const tails: ((storage: FileStorage) => Promise<unknown>)[][] = [
      [(s) => s.save({ entries: large(6, 2) })],
      [(s) => s.save({ entries: large(6, 2) }), (s) => s.save({ entries: large(12, 5) })],
      [(s) => s.save({ entries: large(6, 2) }), (s) => s.save({ entries: large(4, 5) })],
      [(s) => s.save({ entries: large(6, 2) }), (s) => s.compact(14), (s) => s.save({ entries: run(26, 1, 9) })],
      [(s) => s.save({ entries: run(6, 2) }), (s) => s.compact(7)],
      [(s) => s.compact(4), (s) => s.save({ hardState: hard(4, 5) })],
      [(s) => s.save({ hardState: hard(4, 5) })],
      [(s) => s.save({ entries: run(6, 2) }), (s) => s.save({ entries: run(7, 1, 2) }), (s) => s.compact(6)],
    ];
    for (const [i, tail] of tails.entries()) {
      const { disk, state } = await unvouched(tail);
      for (let round = 0; round < 3; round++) {
        const storage = await open(disk, { segmentBytes: 1 << 20 });
        expect(stateOf(storage), `tail ${i}, round ${round}`).toBe(state);
        expect((await storage.verify()).damage).toEqual([]);
        await storage.close();
        // From the segments' own bytes, too.
        for (const name of disk.files().keys()) if (name.endsWith(".idx")) disk.delete(name);
      }
      const storage = await open(disk, { segmentBytes: 1 << 20 });
      await storage.save({ entries: run(storage.lastIndex() + 1, 1, 12) });
      const after = stateOf(storage);
      await storage.close();
      // Now the carrying segment is an older one, of whose head open() reads all but the records.
      const again = await open(disk, { segmentBytes: 1 << 20 });
      expect(stateOf(again)).toBe(after);
      await again.close();
    }
  });

  it("damage in an older segment's large head is found by open() or by the read that touches it", async () => {
    const { disk } = await unvouched([(s) => s.save({ entries: large(6, 2) })]);
    const storage = await open(disk);
    await storage.save({ entries: run(26, 1, 9) });
    await storage.close();
    // Written again in a later segment, the carrying one is older and still needed.
    const later = await open(disk);
    await later.save({ entries: run(27, 1, 9) });
    const state = stateOf(later);
    await later.close();
    const name = segmentName(2);
    const end = framesOf(disk.get(name))[1] as number;
    const random = randomOf(5);
    for (let i = 0; i < 300; i++) {
      const image = TestDisk.of(disk.files());
      // The directory of blocks stands at the end of the head, links and counts at its beginning.
      const at = Math.floor([random() * 200, end - 1 - random() * 120, random() * end][i % 3] as number);
      flipBit(image, name, at * 8 + Math.floor(random() * 8));
      const found = await tryAll(image, `bit in byte ${at} of ${end}`);
      if (found !== undefined) expect(found).toBe(state);
    }
    for (const blocks of [0, 1, 1000, 0xffffffff]) {
      const image = TestDisk.of(disk.files());
      const view = new DataView(image.get(name).buffer);
      view.setUint32(f.HEADER_BYTES + f.LINK_BYTES + f.P_BLOCKS, blocks, true);
      expect(await refused(image, "ERR_CORRUPT")).toMatchObject({ file: name, offset: 0 });
    }
  });

  it("compact() and createSnapshot() know the terms of a large save that is still queued", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    const saved = storage.save({ entries: large(1, 2), hardState: hard(2, 1) });
    const made = storage.createSnapshot(18, voters(1n), fill(3, 3));
    await saved;
    expect((await made).term).toBe(3);
    await Promise.all([
      storage.save({ entries: large(21, 4), hardState: hard(4, 1) }),
      storage.compact(29),
      storage.save({ entries: large(35, 6) }),
      storage.compact(36),
    ]);
    expect([storage.term(36), storage.term(37), storage.lastIndex()]).toEqual([6, 6, 54]);
    expect(storage.entries(37, 55)).toEqual(large(35, 6).slice(2));
    await storage.close();
  });
});
