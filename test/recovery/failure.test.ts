// Failures of the disk while a log runs: a failed write or sync of the log poisons it, failing to make room does not, and
// whatever fails, nothing hangs, reads go on, and what was acknowledged is there at the next open.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { SimDisk } from "../../src/testing/sim-disk.js";
import { codeOf, fill, hard, noted, open, run, type Step, stateOf, statesOf, voters } from "./helpers.js";
import { CHANGING, errno, type Operation, randomOf, TestDisk } from "./test-disk.js";

const unhandled: unknown[] = [];
const note = (reason: unknown): void => {
  unhandled.push(reason);
};

beforeAll(() => {
  process.on("unhandledRejection", note);
});

afterAll(async () => {
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});

/** Fails the operations that `wanted` picks, for ever or `times` times. */
function failing(
  disk: TestDisk,
  wanted: (operation: Operation, name: string) => boolean,
  code = "EIO",
  times = Number.POSITIVE_INFINITY,
): { count: number } {
  const failed = { count: 0 };
  disk.before = (operation, name) => {
    if (failed.count >= times || !wanted(operation, name)) return;
    failed.count++;
    throw errno(code);
  };
  return failed;
}

const isSegment = (name: string): boolean => name.endsWith(".seg");

async function started(disk: TestDisk, sync: "inline" | "worker" = "inline"): Promise<FileStorage> {
  const storage = await open(disk, { sync });
  await storage.save({ entries: run(1, 3), hardState: hard(1, 1) });
  return storage;
}

describe("a failed write or sync of the log", () => {
  for (const sync of ["inline", "worker"] as const) {
    for (const operation of ["write", "sync"] as const) {
      it(`poisons it when a ${operation} fails (sync ${sync})`, async () => {
        const disk = new TestDisk();
        const storage = await started(disk, sync);
        const before = stateOf(storage);
        const failed = failing(disk, (op, name) => op === operation && isSegment(name), "EIO");
        const first = storage.save({ entries: run(4, 1), hardState: hard(1, 2) });
        const second = storage.save({ entries: run(5, 1) });
        // Looked at further down.
        for (const save of [first, second]) save.catch(() => {});
        // Once the group is under way, a save forms the next one.
        await new Promise((resolve) => setImmediate(resolve));
        const later = storage.save({ entries: run(6, 1) });
        later.catch(() => {});
        for (const save of [first, second]) {
          const error = await codeOf(save);
          expect(error).toMatchObject({
            code: "ERR_POISONED",
            maybeDurable: operation === "sync" || sync === "worker",
          });
          expect(error.cause).toMatchObject({ code: "EIO" });
        }
        expect((await codeOf(later)).maybeDurable).toBe(false);
        expect(stateOf(storage)).toBe(before);
        for (const call of [
          storage.save({ entries: run(4, 1) }),
          storage.save({ hardState: hard(1, 2), mustSync: false }),
          storage.compact(2),
          storage.createSnapshot(2, voters(1n), fill(3, 3)),
          storage.stageSnapshot({ index: 9, term: 1, confState: voters(1n) }, (async function* () {})()),
        ]) {
          expect((await codeOf(call)).code).toBe("ERR_POISONED");
        }
        expect(failed.count).toBe(1);
        expect(storage.stats().state).toBe("poisoned");
        let syncs = 0;
        disk.before = (op) => {
          if (op === "sync") syncs++;
        };
        expect((await storage.verify()).damage).toEqual([]);
        await storage.close();
        await storage.close();
        expect(syncs).toBe(0);
        expect(disk.openFiles).toBe(0);
        expect((await codeOf(storage.save({}))).code).toBe("ERR_CLOSED");
        const again = await open(disk);
        expect(stateOf(again)).not.toBe("");
        expect(again.lastIndex()).toBeGreaterThanOrEqual(3);
        await again.save({ entries: run(again.lastIndex() + 1, 1) });
        await again.close();
      });
    }
  }

  it("keeps a part of a frame from being taken for one when a write went through in part", async () => {
    for (const partialBytes of [1, 8, 63, 64, 100, 150]) {
      const disk = new TestDisk();
      const storage = await started(disk);
      const before = stateOf(storage);
      disk.partialBytes = partialBytes;
      failing(disk, (operation, name) => operation === "write" && isSegment(name), "ENOSPC");
      const error = await codeOf(storage.save({ entries: run(4, 1, 1, 60) }));
      expect(error).toMatchObject({ code: "ERR_POISONED", maybeDurable: true });
      disk.before = () => {};
      await storage.close();
      const again = await open(disk);
      expect(stateOf(again)).toBe(before);
      expect(again.recovery.verdict).toBe("tear");
      await again.close();
    }
  });

  it("poisons it, with nothing of the save written, when the sync of a full segment or the head of the next one fails", async () => {
    const disk = new TestDisk();
    const storage = await started(disk);
    await storage.save({ hardState: hard(1, 2), mustSync: false });
    failing(disk, (operation, name) => operation === "sync" && isSegment(name));
    expect(await codeOf(storage.save({ entries: run(4, 1, 1, 4000) }))).toMatchObject({
      code: "ERR_POISONED",
      maybeDurable: false,
    });
    disk.before = () => {};
    await storage.close();

    const other = new TestDisk();
    const second = await started(other);
    failing(other, (operation, name) => operation === "write" && name === "0000000000000002.seg");
    expect(await codeOf(second.save({ entries: run(4, 1, 1, 4000) }))).toMatchObject({
      code: "ERR_POISONED",
      maybeDurable: false,
    });
    other.before = () => {};
    await second.close();
    expect(other.openFiles).toBe(0);
    const again = await open(other);
    expect(again.lastIndex()).toBe(3);
    await again.close();
  });

  it("close() waits for a snapshot's file that is being written: nothing happens to the directory once the lock is given back", async () => {
    for (const data of [0, 3000, 300_000]) {
      const disk = new SimDisk({ latency: () => 1 });
      const storage = await FileStorage.open("/log", { disk, sync: "inline", segmentBytes: 4096 });
      await storage.save({ entries: run(1, 2) });
      disk.inject({ on: "sync", path: /seg$/, error: "EIO" });
      const save = storage.save({ entries: run(3, 1) });
      const snapshot = storage.createSnapshot(1, undefined, new Uint8Array(data));
      expect((await codeOf(save)).code).toBe("ERR_POISONED");
      const refused = codeOf(snapshot);
      await storage.close();
      const { operations } = disk;
      expect([disk.locks, disk.openHandles]).toEqual([0, 0]);
      expect((await refused).code).toBe("ERR_POISONED");
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
      expect(disk.operations).toBe(operations);
    }
  });

  it("poisons it when STATE cannot name a new segment; a lost watermark is nobody's failure", async () => {
    const disk = new TestDisk();
    const storage = await started(disk);
    const failed = failing(disk, (operation, name) => operation === "write" && name === "STATE");
    await storage.save({ entries: run(4, 1) });
    await noted();
    expect(failed.count).toBe(1);
    expect(await codeOf(storage.save({ entries: run(5, 1, 1, 4000) }))).toMatchObject({
      code: "ERR_POISONED",
      maybeDurable: true,
    });
    expect(storage.lastIndex()).toBe(4);
    disk.before = () => {};
    await storage.close();
    const again = await open(disk);
    expect(again.lastIndex()).toBe(5);
    expect(again.recovery.carriedEntries).toBe(1);
    await again.close();
  });

  it("close() rejects and lets go of everything when its own sync fails", async () => {
    const disk = new TestDisk();
    const storage = await started(disk);
    await storage.save({ hardState: hard(1, 3), mustSync: false });
    failing(disk, (operation) => operation === "sync");
    expect((await codeOf(storage.close())).code).toBe("ERR_POISONED");
    expect(disk.openFiles).toBe(0);
    expect(disk.locked).toBe(false);
    const off = new TestDisk();
    const unsynced = await open(off, { sync: "off" });
    for (let i = 1; i < 30; i++) await unsynced.save({ entries: run(i, 1, 1, 500) });
    failing(off, (operation, name) => operation === "sync" && isSegment(name));
    await unsynced.save({ entries: run(30, 1, 1, 4000) });
    expect((await codeOf(unsynced.close())).code).toBe("ERR_POISONED");
  });
});

describe("failing to make room", () => {
  const cases: { what: string; wanted: (operation: Operation, name: string) => boolean }[] = [
    { what: "open", wanted: (operation, name) => operation === "open" && name === "spare" },
    { what: "write", wanted: (operation, name) => operation === "write" && name === "spare" },
    { what: "sync", wanted: (operation, name) => operation === "sync" && name === "spare" },
    { what: "rename", wanted: (operation, name) => operation === "rename" && name === "spare" },
    { what: "syncDir", wanted: (operation) => operation === "syncDir" },
  ];
  for (const { what, wanted } of cases) {
    for (const [errnoName, code] of [
      ["ENOSPC", "ERR_NO_SPACE"],
      ["EDQUOT", "ERR_NO_SPACE"],
      ["EIO", "ERR_IO"],
    ] as const) {
      it(`a ${what} of the next segment that fails with ${errnoName} rejects the queue, and the next call succeeds`, async () => {
        const disk = new TestDisk();
        const storage = await started(disk);
        // What is left of the segment is less than the next save takes, which is small: it wants zeros.
        await storage.save({ entries: run(4, 1, 1, 3200) });
        const before = stateOf(storage);
        failing(disk, wanted, errnoName);
        disk.turns = () => 1;
        const next = storage.save({ entries: run(5, 1, 1, 380) });
        next.catch(() => {});
        // Once it is under way, the others form the next group.
        await new Promise((resolve) => setImmediate(resolve));
        const behind = storage.save({ entries: run(6, 1, 1, 380) });
        const compact = storage.compact(5);
        for (const call of [behind, compact]) call.catch(() => {});
        for (const call of [next, behind, compact]) {
          const error = await codeOf(call);
          expect(error.code).toBe(code);
          expect(error.cause).toMatchObject({ code: errnoName });
        }
        expect(stateOf(storage)).toBe(before);
        expect(storage.stats().state).toBe("open");
        disk.before = () => {};
        await storage.save({ entries: run(5, 1, 1, 380), hardState: hard(1, 5) });
        expect(storage.lastIndex()).toBe(5);
        const after = stateOf(storage);
        const image = disk.killed();
        await storage.close();
        for (const each of [disk, image]) {
          const again = await open(each);
          expect(stateOf(again)).toBe(after);
          await again.close();
          expect(each.openFiles).toBe(0);
        }
      });
    }
  }

  it("a disk with no room for a segment of the usual size gets a smaller one", async () => {
    const disk = new TestDisk();
    const usual = await open(disk, { segmentBytes: 1 << 20 });
    await usual.save({ entries: run(1, 3), hardState: hard(1, 1) });
    const usualBytes = Math.max(
      ...[...disk.files()].filter(([name]) => isSegment(name)).map(([, bytes]) => bytes.length),
    );
    expect(usualBytes).toBeGreaterThanOrEqual(256 * 1024);
    await usual.close();
    // Room for 64 KiB more: a spare that is larger cannot be filled.
    disk.before = (operation, name) => {
      if (operation === "write" && name === "spare") tried++;
      if (operation === "sync" && name === "spare" && disk.get("spare").length > 64 * 1024) throw errno("ENOSPC");
    };
    let tried = 0;
    const storage = await open(disk, { segmentBytes: 1 << 20 });
    await storage.save({ entries: run(4, 2), hardState: hard(1, 4) });
    expect(tried).toBeGreaterThan(1);
    const names = [...disk.files().keys()].filter(isSegment).sort();
    expect(disk.get(names.at(-1) ?? "").length).toBeLessThanOrEqual(64 * 1024);
    await storage.compact(4);
    const wanted = stateOf(storage);
    await storage.close();
    const again = await open(disk.killed());
    expect(stateOf(again)).toBe(wanted);
    await again.close();
  });

  it("the log opens, serves and carries an unvouched tail while the disk is full", async () => {
    for (const begun of [false, true]) {
      const disk = new TestDisk();
      const storage = await started(disk);
      let image: TestDisk | undefined;
      disk.before = (operation, name) => {
        if (operation === "sync" && isSegment(name)) image = disk.killed();
      };
      // The tail stands behind durable frames, or is a segment that STATE does not name yet.
      await storage.save({ entries: run(4, 3, 2, begun ? 2000 : 100), hardState: hard(2, 5) });
      const wanted = stateOf(storage);
      await storage.close();
      const full = image as TestDisk;
      expect((await open(full.killed()).then(close)).recovery.carriedEntries).toBe(3);
      const there = new Set(full.files().keys());
      const outOfSpace = (operation: Operation, name: string): boolean =>
        ((operation === "write" || operation === "sync") && (name === "spare" || name.endsWith(".idx"))) ||
        (operation === "write" && isSegment(name) && !there.has(name));
      for (let round = 0; round < 3; round++) {
        failing(full, outOfSpace, "ENOSPC");
        const again = await open(full);
        expect(stateOf(again)).toBe(wanted);
        expect((await codeOf(again.save({ entries: run(7, 1, 2) }))).code).toBe("ERR_NO_SPACE");
        expect(stateOf(again)).toBe(wanted);
        if (round === 1) {
          full.before = () => {};
          await again.save({ entries: run(7, 1, 2) });
          expect(again.lastIndex()).toBe(7);
          expect((await again.verify()).damage).toEqual([]);
          await again.save({ entries: run(7, 1, 3) });
          await again.save({ entries: run(6, 1, 3), hardState: hard(3, 5) });
          const rewritten = stateOf(again);
          const killed = full.killed();
          await again.close();
          const third = await open(killed);
          expect(stateOf(third)).toBe(rewritten);
          await third.close();
          break;
        }
        full.before = () => {};
        if (round === 0) {
          // Killed or closed, it opens again.
          const killed = full.killed();
          const third = await open(killed);
          expect(stateOf(third)).toBe(wanted);
          await third.close();
        }
        await again.close();
      }
    }
  });

  async function close(storage: FileStorage): Promise<FileStorage> {
    await storage.close();
    return storage;
  }
});

describe("a group that makes its segment's file longer", () => {
  /** A log whose segment has no zeros: a large save began it, and the next one grows the file. */
  async function growing(sync: "inline" | "worker" | "off"): Promise<{ disk: TestDisk; storage: FileStorage }> {
    const disk = new TestDisk();
    const storage = await open(disk, { sync });
    await storage.save({ entries: run(1, 2, 1, 300), hardState: hard(1, 1) });
    return { disk, storage };
  }

  const sizeOf = (disk: TestDisk, name = "0000000000000001.seg"): number => disk.get(name).length;
  /** Whole saves of the group are among what goes through of it. */
  const calls = (storage: FileStorage): Promise<void>[] => {
    const saves = [3, 4, 5, 6].map((index) => storage.save({ entries: run(index, 1, 1, 200) }));
    for (const save of saves) save.catch(() => {});
    return saves;
  };

  async function opensTo(state: string, ...disks: readonly TestDisk[]): Promise<void> {
    for (const disk of disks) {
      const again = await open(disk);
      expect(stateOf(again)).toBe(state);
      await again.close();
    }
  }

  const holdsAfterPowerCuts = (disk: TestDisk, state: string): Promise<void> =>
    opensTo(state, ...Array.from({ length: 30 }, (_, seed) => disk.powerCut(randomOf(seed))));

  for (const sync of ["inline", "worker", "off"] as const) {
    for (const code of ["ENOSPC", "EDQUOT"]) {
      it(`is ERR_NO_SPACE when that fails with ${code}, leaves nothing, and the next call succeeds (sync ${sync})`, async () => {
        for (const partialBytes of [0, 1, 300, 700]) {
          const { disk, storage } = await growing(sync);
          const before = stateOf(storage);
          const end = sizeOf(disk);
          disk.partialBytes = partialBytes;
          const failed = failing(disk, (operation, name) => operation === "write" && isSegment(name), code, 1);
          for (const save of calls(storage)) {
            const error = await codeOf(save);
            expect([error.code, error.maybeDurable ?? false]).toEqual(["ERR_NO_SPACE", false]);
            expect(error.cause).toMatchObject({ code });
          }
          expect(failed.count).toBe(1);
          expect(storage.stats().state).toBe("open");
          expect(stateOf(storage)).toBe(before);
          expect(sizeOf(disk)).toBe(end);
          const images = sync === "off" ? [] : Array.from({ length: 5 }, (_, i) => disk.powerCut(randomOf(i)));
          for (const image of [disk.killed(), ...images]) {
            const again = await open(image);
            expect(stateOf(again)).toBe(before);
            expect(again.recovery.verdict).toBe("clean");
            await again.close();
          }
          await Promise.all(calls(storage));
          expect(storage.lastIndex()).toBe(6);
          const after = stateOf(storage);
          const killed = disk.killed();
          await storage.close();
          expect(disk.openFiles).toBe(0);
          await opensTo(after, disk, killed);
        }
      });
    }
  }

  for (const sync of ["inline", "worker", "off"] as const) {
    it(`goes into the next segment when the file may not become longer (EFBIG), and leaves nothing in the one before (sync ${sync})`, async () => {
      for (const partialBytes of [0, 1, 300, 700]) {
        const { disk, storage } = await growing(sync);
        const end = sizeOf(disk);
        const wanted = stateOf(storage);
        disk.partialBytes = partialBytes;
        const first = "0000000000000001.seg";
        const failed = failing(disk, (operation, name) => operation === "write" && name === first, "EFBIG");
        const saves = calls(storage);
        // Not readable before it is durable somewhere.
        expect(stateOf(storage)).toBe(wanted);
        await Promise.all(saves);
        await storage.save({ entries: run(7, 1) });
        // The limit stays, and nobody comes upon it again.
        expect(failed.count).toBe(1);
        expect(sizeOf(disk)).toBe(end);
        expect(storage.stats()).toMatchObject({ state: "open", segments: 2 });
        disk.before = () => {};
        const after = stateOf(storage);
        if (sync !== "off") await holdsAfterPowerCuts(disk, after);
        const killed = disk.killed();
        await storage.close();
        expect(disk.openFiles).toBe(0);
        await opensTo(after, disk, killed);
      }
    });

    it(`is ERR_NO_SPACE when no file may be as long as it needs, and the next call that fits goes on (sync ${sync})`, async () => {
      const { disk, storage } = await growing(sync);
      const before = stateOf(storage);
      failing(disk, (operation, name) => operation === "write" && (isSegment(name) || name === "spare"), "EFBIG");
      for (const save of calls(storage)) {
        const error = await codeOf(save);
        expect([error.code, error.maybeDurable ?? false]).toEqual(["ERR_NO_SPACE", false]);
      }
      expect(storage.stats().state).toBe("open");
      expect(stateOf(storage)).toBe(before);
      if (sync !== "off") await holdsAfterPowerCuts(disk, before);
      await opensTo(before, disk.killed());
      disk.before = () => {};
      await Promise.all(calls(storage));
      expect(storage.lastIndex()).toBe(6);
      const after = stateOf(storage);
      await storage.close();
      await opensTo(after, disk);
    });
  }

  for (const sync of ["inline", "worker"] as const) {
    it(`gets the room of the spare on a disk that has no other (sync ${sync})`, async () => {
      const MIB = 1024 * 1024;
      let given = 0;
      for (let step = 0; step < 3; step++) {
        const disk = new SimDisk({ capacity: 4 * MIB + step * 300_000 });
        const storage = await FileStorage.open("/log", { disk, sync, segmentBytes: 8 * MIB, cacheBytes: 0 });
        let error: unknown;
        while (error === undefined) {
          const before = storage.stats();
          error = await storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, 20_000) }).catch((e) => e);
          const { segments, spareBytes } = storage.stats();
          if (error === undefined && segments === before.segments && spareBytes < before.spareBytes) given++;
        }
        expect(error).toMatchObject({ code: "ERR_NO_SPACE" });
        const { bytes } = storage.stats();
        // What is left of the disk has no room for another save, STATE and the rest counted in.
        expect(disk.capacity - bytes).toBeLessThan(20_000 + 128 * 1024);
        expect(storage.stats().spareBytes).toBe(0);
        const wanted = stateOf(storage);
        await storage.close();
        const again = await FileStorage.open("/log", { disk, sync });
        expect(stateOf(again)).toBe(wanted);
        await again.close();
      }
      // It was filled ahead, and in the way.
      expect(given).toBeGreaterThan(0);
    });
  }

  it("has no more zeros filled ahead than the segment is made for itself, though the next one is made for four times that", async () => {
    const disk = new SimDisk();
    const storage = await FileStorage.open("/log", { disk, sync: "inline", segmentBytes: 64 << 20, cacheBytes: 0 });
    let most = 0;
    while (storage.stats().segments < 2) {
      await storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, 4000) });
      most = Math.max(most, storage.stats().spareBytes);
    }
    // 256 groups like the first one are what the first segment is made for.
    expect(most).toBeGreaterThan(500_000);
    expect(most).toBeLessThan(256 * 5000);
    await storage.close();
  });

  it("a snapshot gets the room of the spare, too", async () => {
    const disk = new SimDisk();
    const storage = await FileStorage.open("/log", { disk, sync: "inline", segmentBytes: 8 << 20, cacheBytes: 0 });
    while (storage.stats().spareBytes < 1 << 20)
      await storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, 20_000) });
    disk.capacity = disk.usedBytes + 10_000;
    await storage.createSnapshot(1, voters(1n), new Uint8Array(500_000).fill(7));
    expect(storage.stats().spareBytes).toBe(0);
    expect(storage.snapshot().data).toEqual(new Uint8Array(500_000).fill(7));
    // What has room for neither is refused, and leaves nothing.
    disk.capacity = disk.usedBytes + 10_000;
    const before = disk.usedBytes;
    const refused = storage.createSnapshot(2, voters(1n), new Uint8Array(500_000));
    await expect(refused).rejects.toMatchObject({ code: "ERR_NO_SPACE" });
    expect(disk.usedBytes).toBe(before);
    await storage.close();
  });

  it("has no zeros filled ahead for the next segment where most are large, and a small one there waits for 256 KiB only", async () => {
    const MIB = 1024 * 1024;
    for (const large of [true, false]) {
      const disk = new TestDisk();
      const storage = await open(disk, { segmentBytes: 4 * MIB });
      const save = (bytes: number): Promise<void> =>
        storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, bytes) });
      await save(340_000);
      // Nobody has made room for it.
      expect(sizeOf(disk)).toBe(storage.stats().bytes);
      for (let left = 0; ; ) {
        left = 4 * MIB - storage.stats().bytes;
        if (left < 2000) break;
        await save(left > 400_000 ? (large ? 340_000 : 100_000) : left - 1000);
      }
      expect(storage.stats().segments).toBe(1);
      const { spareBytes } = storage.stats();
      await save(2000);
      expect(storage.stats().segments).toBe(2);
      const size = sizeOf(disk, "0000000000000002.seg");
      if (large) expect([spareBytes, size]).toEqual([0, MIB / 4]);
      else expect(size).toBeGreaterThanOrEqual(MIB);
      await storage.close();
    }
  });

  for (const sync of ["inline", "worker"] as const) {
    it(`is there save by save when the power goes before its sync, and whole when it goes behind it (sync ${sync})`, async () => {
      const disk = new TestDisk();
      const storage = await open(disk, { sync, segmentBytes: 16384 });
      await storage.save({ entries: run(1, 1, 1, 2100), hardState: hard(1, 1) });
      const end = sizeOf(disk);
      // They have holes, and end where the group begins or anywhere behind it.
      const images: TestDisk[] = [];
      disk.before = (operation, name) => {
        if (operation !== "sync" || !isSegment(name)) return;
        for (let seed = 0; seed < 200; seed++) images.push(disk.powerCut(randomOf(seed)));
      };
      await Promise.all([2, 3, 4, 5].map((index) => storage.save({ entries: run(index, 1, 1, 700) })));
      disk.before = () => {};
      // One group, large, in the segment that has no zeros.
      expect(images).toHaveLength(200);
      expect(sizeOf(disk) - end).toBeGreaterThan(2800);
      const found = new Map<number, Set<string>>();
      for (const image of images) {
        const again = await open(image, { segmentBytes: 16384 });
        const { verdict } = again.recovery;
        const last = again.lastIndex();
        found.set(last, (found.get(last) ?? new Set()).add(verdict));
        expect(again.entries(1, last + 1)).toEqual(storage.entries(1, last + 1));
        await again.close();
      }
      expect([...found.keys()].sort()).toEqual([1, 2, 3, 4, 5]);
      expect([...(found.get(1) ?? [])].sort()).toEqual(["clean", "tear"]);
      for (let seed = 0; seed < 50; seed++) {
        const again = await open(disk.powerCut(randomOf(seed)), { segmentBytes: 16384 });
        expect(stateOf(again)).toBe(stateOf(storage));
        await again.close();
      }
      await storage.close();
    });
  }

  for (const sync of ["inline", "worker"] as const) {
    it(`poisons it when its sync fails with ENOSPC, or its write with EIO (sync ${sync})`, async () => {
      for (const [operation, code] of [
        ["sync", "ENOSPC"],
        ["write", "EIO"],
      ] as const) {
        const { disk, storage } = await growing(sync);
        failing(disk, (op, name) => op === operation && isSegment(name), code, 1);
        const error = await codeOf(storage.save({ entries: run(3, 2, 1, 400) }));
        expect(error).toMatchObject({ code: "ERR_POISONED", maybeDurable: operation === "sync" || sync === "worker" });
        expect(error.cause).toMatchObject({ code });
        await storage.close();
      }
    });

    it(`poisons it when what went through cannot be cut off, or that cannot be made durable (sync ${sync})`, async () => {
      for (const last of ["truncate", "sync"] as const) {
        const { disk, storage } = await growing(sync);
        const before = stateOf(storage);
        disk.partialBytes = 400;
        disk.before = (operation, name) => {
          if (operation === "write" && isSegment(name)) throw errno("ENOSPC");
          if (operation === last && isSegment(name)) throw errno("EIO");
        };
        const error = await codeOf(calls(storage)[0] as Promise<void>);
        expect(error).toMatchObject({ code: "ERR_POISONED", maybeDurable: true });
        expect(error.cause).toMatchObject({ code: "EIO" });
        expect(stateOf(storage)).toBe(before);
        disk.before = () => {};
        await storage.close();
      }
    });

    it(`leaves no segment when the first group of it finds no room, and goes on in the one before (sync ${sync})`, async () => {
      // The head fits and the group does not, or neither does. What fails lets some of it through, or all.
      for (const [heads, partialBytes] of [
        [0, 100],
        [0, 1 << 20],
        [1, 100],
        [1, 1 << 20],
      ] as const) {
        const { disk, storage } = await growing(sync);
        const before = stateOf(storage);
        const names = [...disk.files().keys()].sort();
        disk.partialBytes = partialBytes;
        let writes = 0;
        disk.before = (operation, name) => {
          if (operation === "write" && isSegment(name) && name !== names[1] && writes++ >= heads) throw errno("ENOSPC");
        };
        const error = await codeOf(storage.save({ entries: run(3, 1, 1, 4000) }));
        expect(error).toMatchObject({ code: "ERR_NO_SPACE" });
        expect(storage.stats()).toMatchObject({ state: "open", segments: 1 });
        expect(stateOf(storage)).toBe(before);
        expect([...disk.files().keys()].sort()).toEqual(names);
        await holdsAfterPowerCuts(disk, before);
        // On the full disk, where the segment before has room. The name of the other one may come back yet.
        disk.before = (operation, name) => {
          if (operation === "open" && name === "spare") throw errno("ENOSPC");
        };
        await storage.save({ entries: run(3, 1) });
        expect(storage.stats().segments).toBe(1);
        await holdsAfterPowerCuts(disk, stateOf(storage));
        disk.before = () => {};
        await storage.save({ entries: run(4, 1, 1, 4000) });
        expect(storage.stats().segments).toBe(2);
        const after = stateOf(storage);
        await holdsAfterPowerCuts(disk, after);
        await storage.close();
        await holdsAfterPowerCuts(disk, after);
      }
    });

    it(`ends the segment before when the new one cannot be taken back for good (sync ${sync})`, async () => {
      for (const last of ["truncate", "sync"] as const) {
        const { disk, storage } = await growing(sync);
        const before = stateOf(storage);
        // All of the head is there.
        disk.partialBytes = 1 << 20;
        disk.before = (operation, name) => {
          if (!isSegment(name) || name === "0000000000000001.seg") return;
          if (operation === "write") throw errno("ENOSPC");
          if (operation === last) throw errno("EIO");
        };
        expect((await codeOf(storage.save({ entries: run(3, 1, 1, 4000) }))).code).toBe("ERR_NO_SPACE");
        expect(storage.stats().state).toBe("open");
        disk.before = () => {};
        await holdsAfterPowerCuts(disk, before);
        await storage.save({ entries: run(3, 1) });
        expect(storage.stats().segments).toBe(2);
        const after = stateOf(storage);
        expect(storage.entries(1, 4)).toHaveLength(3);
        await holdsAfterPowerCuts(disk, after);
        await storage.close();
        expect(disk.openFiles).toBe(0);
        await holdsAfterPowerCuts(disk, after);
      }
    });

    it(`writes zeros behind a small group only, more each time that small ones come to their end (sync ${sync})`, async () => {
      const disk = new TestDisk();
      const storage = await open(disk, { sync, segmentBytes: 64 * 1024 });
      const spared = failing(disk, (operation, name) => operation === "write" && name === "spare");
      const large = async (): Promise<void> => {
        await storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, 9000) });
      };
      const small = async (): Promise<void> => {
        await storage.save({ entries: run(storage.lastIndex() + 1, 1, 1, 200) });
      };
      await large();
      const sizes: number[] = [];
      const note = async (save: () => Promise<void>, times = 1): Promise<void> => {
        const before = sizeOf(disk);
        for (let i = 0; i < times; i++) await save();
        sizes.push(sizeOf(disk) - before);
      };
      const frame = storage.stats().bytes;
      await note(small);
      const smallBytes = storage.stats().bytes - frame;
      // The first zeros are a sixteenth of the segment; what fits into them makes no file longer.
      await note(small, Math.floor(4096 / smallBytes));
      await note(small, 1);
      await note(small, Math.floor(8192 / smallBytes));
      expect(sizes).toEqual([smallBytes + 4096, 0, expect.any(Number), 0]);
      expect(sizes[2]).toBeGreaterThan(8192);
      // A large group takes what zeros there are, and behind it there are few again.
      await large();
      await large();
      const end = sizeOf(disk);
      await note(small);
      expect(sizeOf(disk) - end).toBe(smallBytes + 4096);
      expect(spared.count).toBe(0);
      expect(storage.stats()).toMatchObject({ segments: 1, spareBytes: 0 });
      const wanted = stateOf(storage);
      const killed = disk.killed();
      await storage.close();
      for (const each of [disk, killed]) {
        const again = await open(each);
        expect(stateOf(again)).toBe(wanted);
        expect(again.recovery.verdict).toBe("clean");
        await again.close();
      }
    });
  }
});

describe("snapshot files that fail", () => {
  for (const operation of ["open", "write", "sync", "rename", "syncDir"] as const) {
    it(`a ${operation} that fails rejects the call and those behind it, and the next call succeeds`, async () => {
      const disk = new TestDisk();
      const storage = await started(disk);
      await storage.createSnapshot(1, voters(1n), fill(10, 1));
      const before = stateOf(storage);
      failing(disk, (op, name) => op === operation && (op === "syncDir" || name.includes(".snapshot")), "ENOSPC");
      const metadata = { index: 9, term: 2, confState: voters(2n) };
      const calls = [
        storage.createSnapshot(2, undefined, fill(20, 2)),
        storage.compact(2),
        storage.save({ snapshot: { metadata, data: fill(20, 2) }, hardState: hard(2, 9) }),
        storage.save({ entries: run(10, 1, 2) }),
      ];
      for (const call of calls) call.catch(() => {});
      for (const call of calls) expect((await codeOf(call)).code).toBe("ERR_NO_SPACE");
      expect(stateOf(storage)).toBe(before);
      disk.before = () => {};
      await storage.createSnapshot(2, undefined, fill(20, 2));
      await storage.save({ snapshot: { metadata, data: fill(20, 2) }, hardState: hard(2, 9) });
      const after = stateOf(storage);
      expect(storage.firstIndex()).toBe(10);
      const image = disk.killed();
      await storage.close();
      const names = [...disk.files().keys()].filter((name) => name.includes(".snapshot"));
      expect(names.length).toBe(2);
      const again = await open(image);
      expect(stateOf(again)).toBe(after);
      await again.close();
    });
  }

  it("a staged snapshot is still there when the save that was to take it is rejected", async () => {
    for (const wanted of [
      (operation: Operation, name: string): boolean => operation === "rename" && name.includes(".snapshot"),
      (operation: Operation): boolean => operation === "syncDir",
      (operation: Operation, name: string): boolean => operation === "open" && name === "spare",
    ]) {
      const disk = new TestDisk();
      const storage = await started(disk);
      const metadata = { index: 9, term: 2, confState: voters(2n) };
      const data = fill(5000, 3);
      await storage.stageSnapshot(
        metadata,
        (async function* () {
          yield data;
        })(),
      );
      failing(disk, wanted, "ENOSPC");
      const save = { snapshot: { metadata, data: new Uint8Array(0) }, entries: run(10, 1, 2, 4000) };
      expect((await codeOf(storage.save(save))).code).toBe("ERR_NO_SPACE");
      disk.before = () => {};
      await storage.createSnapshot(2, voters(1n), fill(3, 3));
      await storage.save(save);
      expect(storage.snapshot()).toEqual({ metadata, data });
      await storage.close();
      const again = await open(disk);
      expect(again.snapshot()).toEqual({ metadata, data });
      await again.close();
      expect([...disk.files().keys()].filter((name) => name.endsWith(".tmp"))).toEqual([]);
    }
  });

  it("an unlink that fails rejects compact() alone; a save with a snapshot is as durable as it says", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 1; i <= 40; i++) await storage.save({ entries: run(i, 1, 1, 400), hardState: hard(1, i) });
    failing(disk, (operation) => operation === "unlink", "EIO");
    expect((await codeOf(storage.compact(30))).code).toBe("ERR_IO");
    expect(storage.firstIndex()).toBe(31);
    expect(storage.stats().state).toBe("open");
    const metadata = { index: 50, term: 2, confState: voters(2n) };
    await storage.save({ snapshot: { metadata, data: fill(9, 1) }, hardState: hard(2, 50) });
    expect(storage.firstIndex()).toBe(51);
    disk.before = () => {};
    await storage.save({ entries: run(51, 2, 2) });
    await storage.compact(52);
    expect(storage.stats().segments).toBe(1);
    await storage.close();
    expect([...disk.files().keys()].filter((name) => name.endsWith(".idx") || isSegment(name)).length).toBe(1);
  });
});

describe("any one operation that fails", () => {
  // A term that only entries have becomes the HardState's, so that every step says all it changes.
  const steps: Step[] = [
    (s) => s.save({ entries: run(1, 4, 1, 600), hardState: hard(1, 2) }),
    (s) => s.save({ entries: run(5, 4, 1, 600), hardState: hard(1, 6) }),
    (s) => s.save({ hardState: hard(1, 7), mustSync: false }),
    (s) => s.createSnapshot(6, voters(1n, 2n), fill(700, 6)),
    (s) => s.compact(5),
    (s) => s.save({ entries: run(8, 4, 2, 900), hardState: hard(2, 9) }),
    (s) => s.compact(8),
    (s) => s.save({ snapshot: { metadata: { index: 20, term: 3, confState: voters(3n) }, data: fill(90, 1) } }),
    (s) => s.save({ entries: run(21, 5, 3, 800), hardState: hard(3, 22) }),
    (s) => s.compact(24),
    (s) => s.save({ entries: run(25, 2, 4, 100), hardState: hard(4, 25) }),
  ];

  for (const sync of ["inline", "worker"] as const) {
    for (const code of ["EIO", "ENOSPC"]) {
      it(`leaves a whole number of steps, and all that resolved, at the next open (${code}, sync ${sync})`, async () => {
        const states = await statesOf(steps);
        for (let n = 0; ; n++) {
          const disk = TestDisk.missing();
          let operations = 0;
          disk.before = (operation) => {
            if (![...CHANGING, "open"].includes(operation)) return;
            if (operations++ === n) throw errno(code);
          };
          let resolved = 0;
          let called = 0;
          const what = `operation ${n} fails`;
          try {
            const storage = await open(disk, { sync });
            for (const step of steps) {
              called++;
              const before = stateOf(storage);
              let error: unknown;
              await step(storage).catch((reason: unknown) => {
                error = reason;
              });
              if (error === undefined) {
                resolved = called;
                expect(stateOf(storage), what).toBe(states[called]);
                continue;
              }
              if (!(error instanceof StableLogError)) throw error;
              if (stateOf(storage) === states[called]) resolved = called;
              else expect(stateOf(storage), what).toBe(before);
              break;
            }
            await storage.close().catch((error: unknown) => {
              expect(error, what).toMatchObject({ code: "ERR_POISONED" });
            });
          } catch (error) {
            if (!(error instanceof StableLogError)) throw error;
            expect(["ERR_IO", "ERR_NO_SPACE"], what).toContain(error.code);
          }
          expect(disk.locked, what).toBe(false);
          expect(disk.openFiles, what).toBe(0);
          const done = operations <= n;
          disk.before = () => {};
          const again = await open(disk);
          const found = states.indexOf(stateOf(again));
          expect(found, what).toBeGreaterThanOrEqual(resolved);
          expect(found, what).toBeLessThanOrEqual(called);
          expect((await again.verify()).damage, what).toEqual([]);
          await again.close();
          if (done) break;
        }
      });
    }
  }
});
