// STATE: what is written is read back, slots are written in turn, and nothing that may happen to its bytes makes a log
// take itself for another.

import { describe, expect, it } from "vitest";
import { viewOf } from "../../src/base/bytes.js";
import { crc32 } from "../../src/base/crc32.js";
import { StableLogError } from "../../src/base/errors.js";
import type { DiskFile } from "../../src/disk/disk.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import * as f from "../../src/wal/format.js";
import { flip } from "../../src/wal/frame.js";
import { createState, parseState, StateFile } from "../../src/wal/state-file.js";
import { codeOf, failNth, LOG_ID, plain, turns, watchedDisk } from "./helpers.js";

const metadata = new TextEncoder().encode("node 7 of the cluster");

async function created(disk = new MemoryDisk(), owner = metadata): Promise<MemoryDisk> {
  await disk.mkdir("/log").catch(() => {});
  await createState(disk, "/log", LOG_ID, owner);
  return disk;
}

function bytesOf(disk: MemoryDisk): Uint8Array {
  return disk.dump().get("/log/STATE") ?? new Uint8Array(0);
}

async function opened(disk: MemoryDisk): Promise<StateFile> {
  return new StateFile(disk, await disk.open("/log/STATE", "write"), parseState(bytesOf(disk)));
}

describe("createState()", () => {
  it("makes a STATE that names no segment and has no watermark", async () => {
    const disk = await created();
    expect(bytesOf(disk).length).toBe(f.STATE_FILE_BYTES);
    expect(parseState(bytesOf(disk))).toEqual({
      logId: LOG_ID,
      metadata,
      newest: 0,
      serial: 1,
      slot: 0,
      otherUnreadable: false,
      watermark: undefined,
      watermarkSerial: 0,
    });
    expect([...disk.dump().keys()]).toEqual(["/log/STATE"]);
  });

  it("holds metadata of none and of the most there may be", async () => {
    for (const owner of [new Uint8Array(0), new Uint8Array(f.MAX_METADATA_BYTES).fill(7)]) {
      const disk = await created(new MemoryDisk(), owner);
      const state = await opened(disk);
      await state.name(1);
      await state.name(2);
      expect(parseState(bytesOf(disk)).metadata).toEqual(owner);
    }
  });

  it("takes the place of what a crashed attempt left, and leaves all or nothing when it fails", async () => {
    for (let n = 0; ; n++) {
      const disk = new MemoryDisk();
      await disk.mkdir("/log");
      const faults = failNth(n, "EIO");
      await createState(watchedDisk(disk, faults.watch), "/log", LOG_ID, metadata).catch(() => {});
      if (!faults.failed) break;
      const before = disk.dump().get("/log/STATE");
      if (before !== undefined) expect(parseState(before).logId).toEqual(LOG_ID);
      await createState(disk, "/log", LOG_ID, metadata);
      expect(parseState(bytesOf(disk)).metadata).toEqual(metadata);
      expect([...disk.dump().keys()]).toEqual(["/log/STATE"]);
    }
  });

  it("syncs the file before the rename and the directory after it", async () => {
    const calls: string[] = [];
    const disk = new MemoryDisk();
    await disk.mkdir("/log");
    await createState(
      watchedDisk(disk, (call) => void calls.push(call)),
      "/log",
      LOG_ID,
      metadata,
    );
    expect(calls.filter((call) => /writeLater|rename|syncDir/.test(call))).toEqual(["writeLater", "rename", "syncDir"]);
  });
});

describe("StateFile.name()", () => {
  it("writes the slots in turn, so that the one before stays readable", async () => {
    const disk = await created();
    const state = await opened(disk);
    for (let generation = 1; generation <= 5; generation++) {
      const before = bytesOf(disk);
      await state.name(generation);
      const after = bytesOf(disk);
      const parsed = parseState(after);
      expect(parsed).toMatchObject({ newest: generation, serial: generation + 1, slot: generation % 2 });
      const kept = generation % 2 === 0 ? f.IDENTITY_SLOT_BYTES : 0;
      expect(after.subarray(kept, kept + f.IDENTITY_SLOT_BYTES)).toEqual(
        before.subarray(kept, kept + f.IDENTITY_SLOT_BYTES),
      );
    }
  });

  it("goes on in turn after a reopen", async () => {
    const disk = await created();
    for (let generation = 1; generation <= 4; generation++) {
      const state = await opened(disk);
      await state.name(generation);
      await state.abandon();
      expect(parseState(bytesOf(disk))).toMatchObject({ newest: generation, slot: generation % 2 });
    }
  });

  it("leaves the older slot readable when it is torn at any byte, in either order", async () => {
    const disk = await created();
    const state = await opened(disk);
    await state.name(1);
    for (const generation of [2, 3]) {
      const before = bytesOf(disk);
      const was = parseState(before);
      await state.name(generation);
      const after = bytesOf(disk);
      const at = parseState(after).slot * f.IDENTITY_SLOT_BYTES;
      const length = f.I_METADATA + metadata.length;
      for (let cut = 0; cut <= length; cut++) {
        for (const [first, second] of [
          [after, before],
          [before, after],
        ] as const) {
          const torn = before.slice();
          torn.set(first.subarray(at, at + cut), at);
          torn.set(second.subarray(at + cut, at + length), at + cut);
          const parsed = parseState(torn);
          const whole = Buffer.compare(torn, after) === 0;
          const untouched = Buffer.compare(torn, before) === 0;
          expect(parsed.newest, `cut at ${cut}`).toBe(whole ? generation : was.newest);
          expect(parsed.otherUnreadable, `cut at ${cut}`).toBe(!whole && !untouched);
          expect(parsed.slot).toBe(whole ? (was.slot === 0 ? 1 : 0) : was.slot);
        }
      }
    }
  });

  it("shows a torn first write of the second slot, wherever its bytes stand", async () => {
    const owner = new Uint8Array(1000).fill(9);
    const disk = await created(new MemoryDisk(), owner);
    const before = bytesOf(disk);
    await (await opened(disk)).name(1);
    const after = bytesOf(disk);
    const torn = before.slice();
    // The second sector reached the disk, the first did not.
    torn.set(after.subarray(f.IDENTITY_SLOT_BYTES + 512, f.IDENTITY_SLOT_BYTES + 1048), f.IDENTITY_SLOT_BYTES + 512);
    expect(parseState(torn)).toMatchObject({ newest: 0, otherUnreadable: true });
    expect(parseState(before).otherUnreadable).toBe(false);
  });

  it("writes over the slot that could not be read", async () => {
    const disk = await created();
    const state = await opened(disk);
    await state.name(1);
    await state.abandon();
    const file = await disk.open("/log/STATE", "write");
    file.write(Uint8Array.of(99), 0, 1, f.IDENTITY_SLOT_BYTES);
    await file.close();
    expect(parseState(bytesOf(disk))).toMatchObject({ newest: 0, slot: 0, otherUnreadable: true });
    await (await opened(disk)).name(2);
    expect(parseState(bytesOf(disk))).toMatchObject({ newest: 2, slot: 1, otherUnreadable: false });
  });

  it("forgets a name that could not be written", async () => {
    const disk = await created();
    const faults = failNth(0, "EIO", (call) => call === "writeLater");
    const watched = watchedDisk(disk, faults.watch);
    const state = new StateFile(watched, await watched.open("/log/STATE", "write"), parseState(bytesOf(disk)));
    await expect(state.name(1)).rejects.toMatchObject({ code: "EIO" });
    await state.name(2);
    expect(parseState(bytesOf(disk))).toMatchObject({ newest: 2, serial: 2, slot: 1 });
  });
});

describe("watermarks", () => {
  it("are written in turn and the newest one counts", async () => {
    const disk = await created();
    const state = await opened(disk);
    for (let i = 1; i <= 6; i++) {
      if (i % 2 === 0) state.note(3, i * 4096, i, 0xffffff00 + i);
      else state.noteLater(3, i * 4096, i, 0xffffff00 + i);
      await turns();
      const { watermark, watermarkSerial } = parseState(bytesOf(disk));
      expect(watermark).toEqual({ generation: 3, end: i * 4096, sequence: i, chain: 0xffffff00 + i, closed: false });
      expect(watermarkSerial).toBe(i);
    }
    // A torn newest one leaves the one before; with both gone nothing is proven.
    const bytes = bytesOf(disk);
    const newest = f.WATERMARK_AT;
    expect(bytes[newest + f.W_SEQUENCE]).toBe(6);
    bytes[newest + 20] = (bytes[newest + 20] ?? 0) ^ 1;
    expect(parseState(bytes).watermark?.sequence).toBe(5);
    bytes[newest + f.WATERMARK_SLOT_BYTES] = (bytes[newest + f.WATERMARK_SLOT_BYTES] ?? 0) ^ 1;
    expect(parseState(bytes)).toMatchObject({ watermark: undefined, watermarkSerial: 0 });
  });

  it("go on counting after a reopen", async () => {
    const disk = await created();
    const first = await opened(disk);
    for (let i = 1; i <= 3; i++) first.note(1, 8 * i, i, i);
    await first.abandon();
    const second = await opened(disk);
    second.note(1, 32, 4, 4);
    expect(parseState(bytesOf(disk))).toMatchObject({ watermarkSerial: 4, watermark: { sequence: 4 } });
  });

  it("that cannot be written are nobody's failure", async () => {
    const disk = await created();
    const watched = watchedDisk(disk, (call) => {
      if (call === "write" || call === "writeLater") throw new Error("no");
    });
    const state = new StateFile(watched, await watched.open("/log/STATE", "write"), parseState(bytesOf(disk)));
    state.note(1, 8, 1, 1);
    state.noteLater(1, 8, 1, 1);
    await turns();
    state.noteLater(1, 16, 2, 2);
    await state.abandon();
    expect(parseState(bytesOf(disk)).watermark).toBeUndefined();
  });

  it("under way are neither joined by another nor overtaken by close()", async () => {
    const disk = await created();
    let release = (): void => {};
    const seen: number[] = [];
    let waiting = false;
    const watched = watchedDisk(disk, (call) => {
      if (call === "close") seen.push(-1);
      if (call !== "writeLater") return;
      seen.push(parseState(bytesOf(disk)).watermarkSerial);
      if (waiting) return;
      waiting = true;
      return new Promise<void>((resolve) => {
        release = resolve;
      });
    });
    const file: DiskFile = await watched.open("/log/STATE", "write");
    const state = new StateFile(watched, file, parseState(bytesOf(disk)));
    state.noteLater(1, 800, 5, 55);
    state.noteLater(1, 900, 6, 66);
    const closed = state.close(1, 1000, 7, 77);
    await turns(3);
    expect(seen).toEqual([0]);
    release();
    await closed;
    // The note came first, whole, in a slot of its own; then the mark; then the file was closed.
    expect(seen).toEqual([0, 1, -1]);
    const bytes = bytesOf(disk);
    expect(parseState(bytes)).toMatchObject({ watermarkSerial: 2, watermark: { sequence: 7, closed: true } });
    bytes.fill(0, f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_BYTES);
    expect(parseState(bytes)).toMatchObject({ watermarkSerial: 1, watermark: { sequence: 5, closed: false } });
  });
});

describe("StateFile.close()", () => {
  it("leaves the mark of a closed log, synced, and closes the file", async () => {
    const disk = await created();
    const calls: string[] = [];
    const watched = watchedDisk(disk, (call) => void calls.push(call));
    const file = await watched.open("/log/STATE", "write");
    const state = new StateFile(watched, file, parseState(bytesOf(disk)));
    await state.close(4, 123 * 8, 99, 0xabcdef01);
    expect(parseState(bytesOf(disk)).watermark).toEqual({
      generation: 4,
      end: 984,
      sequence: 99,
      chain: 0xabcdef01,
      closed: true,
    });
    expect(calls.slice(-2)).toEqual(["writeLater", "close"]);
    await expect(file.truncate(0)).rejects.toMatchObject({ code: "EBADF" });
  });

  it("leaves no mark before the first segment", async () => {
    const disk = await created();
    await (await opened(disk)).close(0, 0, 0, 0);
    expect(parseState(bytesOf(disk)).watermark).toBeUndefined();
  });

  it("closes the file even when the mark cannot be written", async () => {
    const disk = await created();
    const faults = failNth(0, "ENOSPC", (call) => call === "writeLater");
    const watched = watchedDisk(disk, faults.watch);
    const file = await watched.open("/log/STATE", "write");
    const state = new StateFile(watched, file, parseState(bytesOf(disk)));
    await expect(state.close(1, 8, 1, 1)).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(file.close()).rejects.toMatchObject({ code: "EBADF" });
  });
});

describe("parseState()", () => {
  async function full(): Promise<Uint8Array> {
    const disk = await created();
    const state = await opened(disk);
    await state.name(1);
    await state.name(2);
    state.note(2, 8192, 40, 0x12345678);
    state.note(2, 8200, 41, 0x87654321);
    return bytesOf(disk);
  }

  it("answers every flipped bit with the same, the older, or a coded error; never with something new", async () => {
    const bytes = await full();
    const {
      slot: _slot,
      otherUnreadable: _other,
      watermark: _mark,
      watermarkSerial: _serial,
      ...same
    } = parseState(bytes);
    const text = JSON.stringify(plain(same));
    let changed = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      // Bytes that nothing stands in are all alike.
      if (bytes[Math.floor(bit / 8)] === 0 && bit % 331 !== 0 && bit % (8 * 4096) > 8 * 128) continue;
      flip(bytes, bit);
      try {
        const { slot, otherUnreadable, watermark, watermarkSerial, ...found } = parseState(bytes);
        if (JSON.stringify(plain(found)) !== text) {
          expect(found).toEqual({ ...same, newest: 1, serial: 2 });
          expect(slot).toBe(1);
          expect(otherUnreadable).toBe(true);
          changed++;
        } else if (bit < f.IDENTITY_SLOT_BYTES * 8) {
          expect(Math.floor(bit / 8)).toBeGreaterThanOrEqual(f.I_METADATA + metadata.length);
        }
        if (watermarkSerial !== 2) {
          expect(watermark).toEqual({ generation: 2, end: 8192, sequence: 40, chain: 0x12345678, closed: false });
          changed++;
        }
      } catch (error) {
        expect(error).toBeInstanceOf(StableLogError);
      }
      flip(bytes, bit);
    }
    // Slot 0 and watermark slot 0 are the newest ones: every bit that stands for something in them counts.
    expect(changed).toBe((f.I_METADATA + metadata.length + f.WATERMARK_BYTES) * 8);
  });

  it("refuses when neither slot can be read, and a file cut short", async () => {
    const bytes = await full();
    bytes[f.I_SERIAL] = (bytes[f.I_SERIAL] ?? 0) ^ 1;
    bytes[f.IDENTITY_SLOT_BYTES] = (bytes[f.IDENTITY_SLOT_BYTES] ?? 0) ^ 1;
    expect(codeOf(() => parseState(bytes))).toBe("ERR_CORRUPT");
    expect(codeOf(() => parseState(new Uint8Array(0)))).toBe("ERR_CORRUPT");
    expect(codeOf(() => parseState(new Uint8Array(f.STATE_FILE_BYTES)))).toBe("ERR_CORRUPT");
    const whole = await full();
    for (let length = 0; length < whole.length; length += 7) {
      const cut = whole.slice(0, length);
      const code = codeOf(() => parseState(cut));
      expect(code).toBe(length < f.I_METADATA + metadata.length ? "ERR_CORRUPT" : undefined);
    }
  });

  /** Changes a slot and puts its checksum right again. */
  function forge(bytes: Uint8Array, at: number, end: number, change: (view: DataView) => void): void {
    const slot = bytes.subarray(at, end);
    change(viewOf(slot));
    viewOf(slot).setUint32(0, crc32(slot.subarray(4)), true);
  }
  const identityEnd = f.I_METADATA + metadata.length;

  it("refuses a newer format in either slot, and says so", async () => {
    for (const at of [0, f.IDENTITY_SLOT_BYTES]) {
      const bytes = await full();
      forge(bytes, at, at + identityEnd, (view) => view.setUint32(f.I_VERSION, f.FORMAT_VERSION + 1, true));
      expect(codeOf(() => parseState(bytes))).toBe("ERR_FORMAT_VERSION");
      try {
        parseState(bytes);
      } catch (error) {
        expect(error).toMatchObject({ file: "STATE", offset: at + f.I_VERSION });
      }
    }
  });

  it("reads no slot of version 0, of numbers that are none, or with more metadata than there may be", async () => {
    const changes: ((view: DataView) => void)[] = [
      (view) => view.setUint32(f.I_VERSION, 0, true),
      (view) => view.setBigUint64(f.I_SERIAL, 2n ** 53n, true),
      (view) => view.setBigUint64(f.I_NEWEST, 2n ** 63n, true),
      (view) => view.setUint32(f.I_METADATA_BYTES, f.MAX_METADATA_BYTES + 1, true),
      (view) => view.setUint32(f.I_MAGIC, 0, true),
    ];
    for (const change of changes) {
      const bytes = await full();
      forge(bytes, 0, identityEnd, change);
      expect(parseState(bytes)).toMatchObject({ newest: 1, otherUnreadable: true });
    }
  });

  it("reads no watermark of numbers that are none", async () => {
    for (const field of [f.W_SERIAL, f.W_GENERATION, f.W_END, f.W_SEQUENCE]) {
      const bytes = await full();
      forge(bytes, f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_BYTES, (view) =>
        view.setBigUint64(field, 2n ** 53n, true),
      );
      expect(parseState(bytes)).toMatchObject({ watermarkSerial: 1 });
    }
  });
});
