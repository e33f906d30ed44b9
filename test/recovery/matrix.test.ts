// Rows of the fault matrix in docs/DURABILITY.md that no other file of this folder is about.

import { describe, expect, it } from "vitest";
import { viewOf } from "../../src/base/bytes.js";
import { decodeMark } from "../../src/storage/mark.js";
import { HEADER_BYTES, WATERMARK_AT } from "../../src/wal/format.js";
import { frameBytesAt } from "../../src/wal/frame.js";
import { codeOf, expectPlace, hard, noted, open, refused, run, stateOf } from "./helpers.js";
import { errno, TestDisk } from "./test-disk.js";

const isSegment = (name: string): boolean => name.endsWith(".seg");

function newestSegment(disk: TestDisk): string {
  return [...disk.files().keys()].filter(isSegment).sort().at(-1) ?? "";
}

/** Offsets of the frames of a segment, the head first. */
function framesOf(bytes: Uint8Array): number[] {
  const view = viewOf(bytes);
  const frames: number[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length && bytes[at + 4] !== 0; at += frameBytesAt(view, at))
    frames.push(at);
  return frames;
}

/** A log of saves one after the other, as a kill leaves it. */
async function killedLog(saves: number, bytes = 20): Promise<TestDisk> {
  const disk = new TestDisk();
  const storage = await open(disk, { segmentBytes: 1 << 20 });
  for (let i = 1; i <= saves; i++) await storage.save({ entries: run(i, 1, 1, bytes), hardState: hard(1, i - 1) });
  await noted();
  return disk.killed();
}

/** As a power cut without luck leaves it: the watermark slots, which are never synced, say nothing. */
function withoutWatermark(disk: TestDisk): TestDisk {
  const state = disk.get("STATE").slice();
  state.fill(0, WATERMARK_AT);
  disk.put("STATE", state);
  return disk;
}

describe("damage", () => {
  it("a zeroed sector with valid frames behind it is refused, at every place", async () => {
    const disk = await killedLog(12);
    const name = newestSegment(disk);
    const whole = disk.get(name).slice();
    const frames = framesOf(whole);
    expect(frames.length).toBeGreaterThan(10);
    // All but the last two frames: those are vouched for by the watermark of a later one.
    const end = frames.at(-3) ?? 0;
    for (let sector = 0; sector + 512 <= end; sector += 512) {
      const bytes = whole.slice();
      bytes.fill(0, sector, sector + 512);
      const damaged = withoutWatermark(disk.killed());
      damaged.put(name, bytes);
      expectPlace(damaged, await refused(damaged, "ERR_CORRUPT"));
    }
  });

  it("an acknowledged write that never came is refused, whoever vouches for it", async () => {
    const disk = await killedLog(6);
    const name = newestSegment(disk);
    const whole = disk.get(name);
    const frames = framesOf(whole);
    for (const [lost, watermark] of [
      [frames.length - 1, true],
      [frames.length - 3, false],
    ] as const) {
      const bytes = whole.slice();
      const from = frames[lost] ?? 0;
      bytes.fill(0, from, frames[lost + 1] ?? bytes.length);
      const damaged = watermark ? disk.killed() : withoutWatermark(disk.killed());
      damaged.put(name, bytes);
      const error = await refused(damaged, "ERR_CORRUPT");
      expect([error.file, error.offset]).toEqual([name, from]);
    }
  });

  it("a read that returns other bytes once is ERR_CORRUPT, and the next one looks again", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 30), hardState: hard(1, 1) });
    const wanted = stateOf(storage);
    const name = newestSegment(disk);
    const whole = disk.get(name).slice();
    disk.before = (operation, file) => {
      if (operation !== "read" || file !== name) return;
      const bytes = disk.get(name);
      bytes[300] = (bytes[300] ?? 0) ^ 4;
      disk.before = () => {};
    };
    expect(() => storage.entries(1, 31)).toThrowError(
      expect.objectContaining({ code: "ERR_CORRUPT", file: name }) as Error,
    );
    disk.get(name).set(whole);
    expect(stateOf(storage)).toBe(wanted);
    await storage.close();
  });

  it("hostile MessagePack under a good checksum is ERR_CORRUPT, and changes no prototype", () => {
    const deep = new Uint8Array(100_000).fill(0x91);
    const hostile: Uint8Array[] = [
      deep,
      // array32 of 2^32 - 1, map32 of as many, bin32 and str32 of 4 GiB
      Uint8Array.of(0x93, 1, 0xdd, 0xff, 0xff, 0xff, 0xff),
      Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff),
      Uint8Array.of(0xc6, 0xff, 0xff, 0xff, 0xff),
      Uint8Array.of(0xdb, 0xff, 0xff, 0xff, 0xff),
      // {"__proto__": {"polluted": true}}
      Uint8Array.from([0x81, 0xa9, ...Buffer.from("__proto__"), 0x81, 0xa8, ...Buffer.from("polluted"), 0xc3]),
      // extension, nil, negative and float where counts belong
      Uint8Array.of(0xd4, 1, 2),
      Uint8Array.of(0xc0),
      Uint8Array.of(0x93, 1, 0x95, 0xc0, 0x90, 0x90, 0x90, 0xc2, 0x90),
      Uint8Array.of(0x93, 1, 0x95, 0x91, 1, 0x90, 0x90, 0x90, 0xc2, 0x90),
      Uint8Array.of(0x93, 1, 0x95, 0x90, 0x90, 0x90, 0x90, 0, 0x90),
      Uint8Array.of(0x92, 1, 0x90),
    ];
    for (const bytes of hostile) {
      expect(() => decodeMark(bytes), Buffer.from(bytes.subarray(0, 16)).toString("hex")).toThrowError(
        expect.objectContaining({ code: "ERR_CORRUPT" }) as Error,
      );
    }
    expect("polluted" in {}).toBe(false);
  });
});

describe("crashes", () => {
  it("an old suffix never comes back after a shorter one was written over it, and a second crash", async () => {
    const disk = new TestDisk();
    const first = await open(disk);
    await first.save({ entries: run(1, 3, 1), hardState: hard(1, 0) });
    let torn: TestDisk | undefined;
    disk.before = (operation, name) => {
      if (operation === "sync" && isSegment(name)) torn ??= disk.killed();
    };
    await first.save({ entries: run(4, 20, 1, 50) });
    // The crash takes the last frame's end; the rest of it stays where it is.
    const cut = torn as TestDisk;
    const name = newestSegment(cut);
    const bytes = cut.get(name).slice();
    const last = framesOf(bytes).at(-1) ?? 0;
    bytes.fill(0, last + 900, last + 1400);
    cut.put(name, bytes);
    const second = await open(cut);
    expect(second.recovery.verdict).toBe("tear");
    expect(second.lastIndex()).toBe(3);
    await second.save({ entries: run(4, 1, 2), hardState: hard(2, 0) });
    const wanted = stateOf(second);
    for (const image of [cut.killed(), cut.killed()]) {
      const third = await open(image);
      expect(stateOf(third)).toBe(wanted);
      await third.save({ entries: run(5, 1, 2) });
      const again = await open(image.killed());
      expect([again.lastIndex(), again.term(4), again.term(5)]).toEqual([5, 2, 2]);
    }
  });

  it("pages that a failed sync left clean are written again before they are served", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 2), hardState: hard(1, 1) });
    disk.before = (operation, name) => {
      if (operation === "sync" && isSegment(name)) throw errno("EIO");
    };
    const failed = await codeOf(storage.save({ entries: run(3, 2), hardState: hard(1, 3) }));
    expect([failed.code, failed.maybeDurable]).toEqual(["ERR_POISONED", true]);
    await storage.close();
    // The same boot: the cache has the bytes, the disk does not, and a further sync says yes without writing them.
    disk.before = () => {};
    const name = newestSegment(disk);
    const lost = framesOf(disk.get(name)).at(-1) ?? 0;
    const again = await open(disk);
    expect(again.lastIndex()).toBe(4);
    expect(again.recovery.carriedEntries).toBe(2);
    const wanted = stateOf(again);
    // Now the power goes: of the old segment, all that came after the last good sync is lost.
    const powerless = disk.killed();
    const bytes = powerless.get(name).slice();
    bytes.fill(0, Math.min(lost, bytes.length));
    powerless.put(name, bytes);
    const last = await open(powerless);
    expect(stateOf(last)).toBe(wanted);
  });
});

describe("calls", () => {
  it("a sync that hangs keeps saves and close() waiting, in order", async () => {
    const disk = new TestDisk();
    const storage = await open(disk, { sync: "worker" });
    await storage.save({ entries: run(1, 1), hardState: hard(1, 0) });
    let turns = 500;
    disk.turns = () => turns;
    const order: string[] = [];
    const first = storage.save({ entries: run(2, 1) }).then(() => order.push("first"));
    const second = storage.save({ entries: run(3, 1) }).then(() => order.push("second"));
    const closed = storage.close().then(() => order.push("closed"));
    for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    turns = 0;
    await Promise.all([first, second, closed]);
    expect(order).toEqual(["first", "second", "closed"]);
  });

  it("failing to close a file changes nothing: its sync had returned", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 1; i <= 60; i++) await storage.save({ entries: run(i, 1, 1, 300), hardState: hard(1, 0) });
    const wanted = stateOf(storage);
    disk.before = (operation) => {
      if (operation === "close") throw errno("EIO");
    };
    await storage.close().catch(() => {});
    const again = await open(disk.killed());
    expect(stateOf(again)).toBe(wanted);
  });

  it("no descriptors left is ERR_IO for what needed one, poisons nothing, and passes", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 3), hardState: hard(1, 1) });
    disk.before = (operation) => {
      if (operation === "open") throw errno("EMFILE");
    };
    const failed = await codeOf(storage.save({ entries: run(4, 1, 1, 9000) }));
    expect([failed.code, storage.stats().state]).toEqual(["ERR_IO", "open"]);
    expect((await codeOf(storage.createSnapshot(2, undefined, new Uint8Array(1)))).code).toBe("ERR_IO");
    disk.before = () => {};
    await storage.save({ entries: run(4, 1, 1, 9000) });
    await storage.createSnapshot(2, undefined, new Uint8Array(1));
    expect(storage.lastIndex()).toBe(4);
    await storage.close();
  });

  it("a file system that takes no writes is ERR_READ_ONLY at open", async () => {
    for (const code of ["EROFS", "EACCES", "EPERM"]) {
      const disk = await killedLog(3);
      disk.before = (operation) => {
        if (["write", "sync", "rename", "unlink", "syncDir", "truncate"].includes(operation)) throw errno(code);
      };
      await refused(disk, "ERR_READ_ONLY");
      disk.before = () => {};
    }
  });

  it("a saver that gives up waiting takes nothing with it", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    const saves = [1, 2, 3].map((i) => storage.save({ entries: run(i, 1), hardState: hard(1, 0) }));
    const gaveUp = await Promise.race([saves[1], Promise.reject(new Error("gave up"))]).catch(
      (error: Error) => error.message,
    );
    expect(gaveUp).toBe("gave up");
    await Promise.all([saves[0], saves[2]]);
    expect(storage.lastIndex()).toBe(3);
    await storage.close();
  });

  it("a saver may save, throw and close in its continuation", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    const order: string[] = [];
    const thrown = storage.save({ entries: run(1, 1), hardState: hard(1, 0) }).then(() => {
      order.push("one");
      throw new Error("of the caller");
    });
    const chained = storage.save({ entries: run(2, 1) }).then(() => {
      order.push("two");
      return storage.save({ entries: run(3, 1) });
    });
    await expect(thrown).rejects.toThrow("of the caller");
    await chained.then(() => {
      order.push("three");
      return storage.close();
    });
    expect(order).toEqual(["one", "two", "three"]);
    const again = await open(disk);
    expect(again.lastIndex()).toBe(3);
    await again.close();
  });
});
