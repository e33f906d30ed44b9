// Failures of the disk while a log runs: a failed write or sync of the log poisons it, failing to make room does not, and
// whatever fails, nothing hangs, reads go on, and what was acknowledged is there at the next open.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import type { FileStorage } from "../../src/storage/file-storage.js";
import { codeOf, fill, hard, noted, open, run, type Step, stateOf, statesOf, voters } from "./helpers.js";
import { CHANGING, errno, type Operation, TestDisk } from "./test-disk.js";

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
        const before = stateOf(storage);
        failing(disk, wanted, errnoName);
        const large = storage.save({ entries: run(4, 1, 1, 4000) });
        const behind = storage.save({ entries: run(5, 1) });
        const compact = storage.compact(4);
        for (const call of [large, behind, compact]) call.catch(() => {});
        for (const call of [large, behind, compact]) {
          const error = await codeOf(call);
          expect(error.code).toBe(code);
          expect(error.cause).toMatchObject({ code: errnoName });
        }
        expect(stateOf(storage)).toBe(before);
        expect(storage.stats().state).toBe("open");
        disk.before = () => {};
        await storage.save({ entries: run(4, 1, 1, 4000), hardState: hard(1, 4) });
        expect(storage.lastIndex()).toBe(4);
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
      const outOfSpace = (operation: Operation, name: string): boolean =>
        (operation === "write" || operation === "sync") && (name === "spare" || name.endsWith(".idx"));
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
