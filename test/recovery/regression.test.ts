// Interleavings that once lost data, bricked a log or told of damage that was none. Each stays here as it was found.

import { describe, expect, it } from "vitest";
import { codeOf, hard, open, run, stateOf, voters } from "./helpers.js";
import { DIR, errno, randomOf, TestDisk } from "./test-disk.js";

const isSegment = (name: string): boolean => name.endsWith(".seg");

const snapshotAt = (index: number) => ({
  metadata: { index, term: 1, confState: voters(1n, 2n) },
  data: Uint8Array.of(1, 2, 3),
});

async function* stream(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("release()", () => {
  for (const sync of ["worker", "inline"] as const) {
    it(`keeps the segment that STATE names until its successor is named (sync ${sync})`, async () => {
      const disk = new TestDisk();
      const random = randomOf(3);
      const plainOpen = disk.open.bind(disk);
      disk.open = async (path, mode) => {
        const file = await plainOpen(path, mode);
        return {
          ...file,
          commit: async (source, start, end, position) => {
            await file.writeLater(source, start, end, position, false);
            for (let i = 0; i < 40; i++) await turn();
            await file.writeLater(source, 0, 0, 0, true);
          },
        };
      };
      const storage = await open(disk, { sync });
      await storage.save({ hardState: hard(3, 0), entries: run(1, 10) });
      await storage.save({ entries: run(11, 40) });
      await storage.save({ snapshot: snapshotAt(100), hardState: hard(3, 100) });
      await storage.save({ snapshot: snapshotAt(150), hardState: hard(3, 150) });
      disk.turns = () => 3;
      const cuts: TestDisk[] = [];
      const newest = [...disk.files().keys()].filter(isSegment).sort().at(-1) ?? "";
      let begun = false;
      disk.before = (operation, name) => {
        if (operation === "write" && isSegment(name) && name > newest) begun = true;
        if (!["unlink", "rename", "syncDir", "write", "sync"].includes(operation)) return;
        for (let i = 0; i < 20; i++) cuts.push(disk.powerCut(random));
      };
      // Removing the oldest snapshot takes as long as it takes the next segment to be begun.
      const unlink = disk.unlink.bind(disk);
      disk.unlink = async (path) => {
        if (path.endsWith(".snapshot")) for (let i = 0; i < 1000 && !begun; i++) await turn();
        return unlink(path);
      };
      await Promise.all([
        storage.save({ snapshot: snapshotAt(200), hardState: hard(3, 200) }),
        storage.save({ entries: run(201, 20, 3, 300) }),
      ]);
      expect(begun).toBe(true);
      disk.before = () => {};
      await storage.close();
      for (const cut of cuts) {
        const again = await open(cut);
        expect(again.initialState().hardState.term).toBe(3);
        await again.close();
      }
    });
  }

  it("failing to remove a file behind a snapshot in the lane does not take the compaction back", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 0; i < 10; i++) await storage.save({ hardState: hard(1, 0), entries: run(1 + i * 20, 20, 1, 60) });
    const created = storage.createSnapshot(150, voters(1n), stream(new Uint8Array(5)));
    const compacted = storage.compact(150);
    disk.before = (operation, name) => {
      if ((operation === "unlink" || operation === "rename") && isSegment(name)) throw errno("EBUSY");
    };
    const [first, second] = await Promise.allSettled([created, compacted]);
    expect([first.status, second.status]).toEqual(["fulfilled", "rejected"]);
    disk.before = () => {};
    expect(storage.firstIndex()).toBe(151);
    expect((await codeOf(storage.compact(120))).code).toBe("ERR_COMPACTED");
    await storage.save({ entries: run(140, 80, 2) });
    await storage.compact(160);
    const wanted = stateOf(storage);
    expect(storage.term(161)).toBe(2);
    await storage.close();
    const again = await open(disk);
    expect(stateOf(again)).toBe(wanted);
    await again.close();
  });
});

describe("snapshot files", () => {
  it("that a poisoned, perhaps durable save names are kept for the next open", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ hardState: hard(3, 0), entries: run(1, 10) });
    const { metadata } = snapshotAt(200);
    await storage.stageSnapshot(metadata, stream(Uint8Array.of(1, 2, 3)));
    disk.before = (operation, name) => {
      if (operation === "sync" && isSegment(name)) throw errno("EIO");
    };
    const failed = await codeOf(
      storage.save({ snapshot: { metadata, data: new Uint8Array(0) }, hardState: hard(3, 200) }),
    );
    expect([failed.code, failed.maybeDurable]).toEqual(["ERR_POISONED", true]);
    disk.before = () => {};
    await storage.close();
    const again = await open(disk);
    expect([again.lastIndex(), again.snapshot().data.length]).toEqual([200, 3]);
    await again.close();
  });

  it("of a save that was poisoned while the one before it tidied up are kept too", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ hardState: hard(3, 0), entries: run(1, 10) });
    disk.turns = () => 6;
    const saves = [storage.save({ snapshot: snapshotAt(200) }), storage.save({ snapshot: snapshotAt(300) })];
    let syncs = 0;
    disk.before = (operation, name) => {
      if (operation === "sync" && isSegment(name) && ++syncs === 2) throw errno("EIO");
    };
    const settled = await Promise.allSettled(saves);
    expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    disk.before = () => {};
    await storage.close();
    disk.turns = () => 0;
    const again = await open(disk);
    expect(again.lastIndex()).toBe(300);
    await again.close();
  });

  it("a stream first read when newer snapshots have taken its place says so", async () => {
    const storage = await open(new TestDisk());
    await storage.save({ entries: run(1, 10) });
    await storage.createSnapshot(2, voters(1n), Uint8Array.of(1));
    const old = storage.readSnapshot();
    await storage.createSnapshot(3, undefined, Uint8Array.of(2));
    await storage.createSnapshot(4, undefined, Uint8Array.of(3));
    const read = async (): Promise<void> => {
      for await (const chunk of old?.data ?? []) void chunk;
    };
    expect((await codeOf(read())).code).toBe("ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE");
    await storage.close();
  });
});

describe("the lane", () => {
  it("that fails with a received snapshot in between leaves nothing behind to judge by", async () => {
    const storage = await open(new TestDisk());
    await storage.save({ entries: run(1, 100) });
    let fail: (error: Error) => void = () => {};
    const broken = new Promise<never>((_, reject) => {
      fail = reject;
    });
    const created = storage.createSnapshot(
      50,
      voters(1n),
      (async function* () {
        yield new Uint8Array(1);
        await broken;
      })(),
    );
    await storage.save({ snapshot: snapshotAt(200) });
    await storage.save({ entries: run(201, 100) });
    const compacted = storage.compact(250);
    fail(new Error("the stream broke"));
    const settled = await Promise.allSettled([created, compacted]);
    expect(settled.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    await storage.save({ entries: run(210, 5, 7) });
    expect([storage.firstIndex(), storage.lastIndex(), storage.term(210)]).toEqual([201, 214, 7]);
    await storage.compact(205);
    await storage.close();
  });

  it("does not keep close() of a poisoned log waiting for a stream that never ends", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 10) });
    storage.createSnapshot(5, voters(1n), stalled()).catch(() => {});
    disk.before = (operation, name) => {
      if (operation === "sync" && isSegment(name)) throw errno("EIO");
    };
    expect((await codeOf(storage.save({ entries: run(11, 1) }))).code).toBe("ERR_POISONED");
    await storage.close();
  });
});

async function* stalled(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(1);
  await new Promise(() => {});
}

describe("verify()", () => {
  it("tells of no damage while compaction takes segments away", async () => {
    for (let seed = 1; seed < 60; seed++) {
      const disk = new TestDisk();
      const random = randomOf(seed);
      const storage = await open(disk);
      for (let i = 0; i < 10; i++) await storage.save({ entries: run(1 + i * 20, 20, 1, 60) });
      disk.turns = () => Math.floor(random() * 5);
      const [report] = await Promise.all([storage.verify(), storage.compact(190)]);
      expect(report.damage).toEqual([]);
      await storage.close();
    }
  });
});

describe("open()", () => {
  it("syncs the name of a directory that a killed open may have made", async () => {
    const disk = TestDisk.missing();
    await disk.mkdir(DIR);
    const synced: string[] = [];
    const syncDir = disk.syncDir.bind(disk);
    disk.syncDir = (dir) => {
      synced.push(dir);
      return syncDir(dir);
    };
    const storage = await open(disk);
    expect(synced).toContain("/");
    await storage.close();
  });

  it("syncs the older segments of a killed log that had sync off", async () => {
    const disk = new TestDisk();
    const storage = await open(disk, { sync: "off" });
    const early: string[] = [];
    disk.before = (operation, name) => {
      if (operation === "sync") early.push(name);
    };
    for (let i = 0; i < 6; i++) await storage.save({ entries: run(1 + i * 20, 20, 1, 60), hardState: hard(1, 0) });
    expect(early).toEqual([]);
    const image = disk.killed();
    const synced = new Set<string>();
    image.before = (operation, name) => {
      if (operation === "sync") synced.add(name);
    };
    const again = await open(image);
    const older = [...image.files().keys()].filter(isSegment).sort();
    expect(older.length).toBeGreaterThan(1);
    for (const name of older) expect(synced).toContain(name);
    await again.close();
  });

  it("close() of a log that had sync off syncs every segment that it began, the names and STATE, and tells when it cannot", async () => {
    for (const failing of [false, true]) {
      const disk = new TestDisk();
      const storage = await open(disk, { sync: "off" });
      for (let i = 0; i < 6; i++) await storage.save({ entries: run(1 + i * 20, 20, 1, 60), hardState: hard(1, 0) });
      const synced: string[] = [];
      disk.before = (operation, name) => {
        if (operation !== "sync" && operation !== "syncDir") return;
        if (failing && operation === "sync" && isSegment(name)) throw errno("EIO");
        synced.push(operation === "sync" ? name : "names");
      };
      if (failing) {
        expect(await codeOf(storage.close())).toMatchObject({ code: "ERR_POISONED" });
        continue;
      }
      await storage.close();
      const segments = [...disk.files().keys()].filter(isSegment);
      expect(segments.length).toBeGreaterThan(1);
      expect(synced).toEqual(expect.arrayContaining([...segments, "names", "STATE"]));
      expect(synced.at(-1)).toBe("STATE");
    }
  });

  it("carries the tail of a killed log that had sync off in place when the disk is full", async () => {
    const disk = new TestDisk();
    const storage = await open(disk, { sync: "off" });
    for (let i = 1; i <= 10; i++) await storage.save({ entries: run(i, 1, 1, 100), hardState: hard(1, 0) });
    const wanted = stateOf(storage);
    const image = disk.killed();
    const old = new Set(image.files().keys());
    image.before = (operation, name) => {
      if (operation === "write" && !old.has(name)) throw errno("ENOSPC");
    };
    const again = await open(image, { sync: "off" });
    expect(stateOf(again)).toBe(wanted);
    await again.close();
  });
});

describe("the queue", () => {
  it("createSnapshot() of data at hand and compact() take their places in it", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 10), hardState: hard(1, 0) });
    disk.turns = () => 4;
    const order: string[] = [];
    const done = (what: string) => (): number => order.push(what);
    await Promise.all([
      storage.createSnapshot(5, voters(1n), new Uint8Array(3_000_000)).then(done("snapshot")),
      storage.save({ entries: run(11, 1) }).then(done("save 11")),
      storage.compact(5).then(done("compact")),
      storage.save({ entries: run(12, 1) }).then(done("save 12")),
    ]);
    expect(order.indexOf("snapshot")).toBeLessThan(4);
    expect(order.indexOf("save 11")).toBeLessThan(order.indexOf("compact"));
    await storage.close();
    // Cut anywhere, what is there is what the first so many calls make.
    const model = new TestDisk();
    const again = await open(model);
    await again.save({ entries: run(1, 10), hardState: hard(1, 0) });
    const images: TestDisk[] = [];
    model.before = (operation) => {
      if (["write", "sync", "rename"].includes(operation)) images.push(model.killed());
    };
    await Promise.all([
      again.createSnapshot(5, voters(1n), new Uint8Array(100)),
      again.save({ entries: run(11, 1) }),
      again.compact(5),
    ]);
    model.before = () => {};
    await again.close();
    for (const image of images) {
      const found = await open(image);
      const made = [found.snapshot().metadata.index === 5, found.lastIndex() === 11, found.firstIndex() === 6];
      expect(made.join()).toMatch(/^(true,)*(false,)*(true|false)$/);
      expect(made.indexOf(false) < 0 || !made.slice(made.indexOf(false)).includes(true)).toBe(true);
      await found.close();
    }
  });

  it("a failed snapshot of data at hand rejects what is queued behind it, and poisons nothing", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 10), hardState: hard(1, 0) });
    disk.before = (operation, name) => {
      if (operation === "open" && name.includes(".snapshot")) throw errno("ENOSPC");
    };
    const calls = [
      storage.createSnapshot(5, voters(1n), Uint8Array.of(1)),
      storage.compact(5),
      storage.save({ entries: run(11, 1) }),
    ];
    for (const call of calls) expect((await codeOf(call)).code).toBe("ERR_NO_SPACE");
    disk.before = () => {};
    expect([storage.firstIndex(), storage.lastIndex()]).toEqual([1, 10]);
    await storage.save({ entries: run(11, 1) });
    await storage.close();
  });
});
