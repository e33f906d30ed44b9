// SegmentPipeline: the file that take() gives is large enough, all zeros and synced; nothing that fails, and nothing that
// happens at the same time, leaves a second file of the spare's name or zeros under a segment's.

import { describe, expect, it } from "vitest";
import type { Disk } from "../../src/disk/disk.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { systemError } from "../../src/disk/system-error.js";
import { DirectoryNames } from "../../src/wal/directory-names.js";
import { SegmentPipeline } from "../../src/wal/segment-pipeline.js";
import { failNth, turns, watchedDisk } from "./helpers.js";

const MIB = 1024 * 1024;

async function newDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir("/log");
  return disk;
}

function namesOf(disk: MemoryDisk): string[] {
  return [...disk.dump().keys()].map((path) => path.slice("/log/".length)).sort();
}

function isZero(bytes: Uint8Array | undefined): boolean {
  return bytes !== undefined && Buffer.compare(bytes, new Uint8Array(bytes.length)) === 0;
}

async function put(disk: MemoryDisk, name: string, bytes: number, fill = 0xab): Promise<void> {
  const file = await disk.open(`/log/${name}`, "create");
  file.write(new Uint8Array(bytes).fill(fill), 0, bytes, 0);
  await file.close();
}

/** Lets the piece of work under way, if any, come to its end. */
const settle = (): Promise<void> => turns(20);

describe("take()", () => {
  it("gives an empty file, unsynced, where no zeros are asked for and none stand ready", async () => {
    const disk = await newDisk();
    const calls: string[] = [];
    const pipeline = new SegmentPipeline(
      watchedDisk(disk, (call) => {
        calls.push(call);
      }),
      "/log",
      true,
    );
    const file = await pipeline.take(0);
    expect(calls).toEqual(["stat", "open"]);
    expect(file.size()).toBe(0);
    await pipeline.rename("/log/new");
    expect(namesOf(disk)).toEqual(["new"]);
  });

  it("takes a spare as far as it has come, and writes no more zeros than are asked for", async () => {
    const disk = await newDisk();
    let pieces = 0;
    const watched = watchedDisk(disk, (call) => {
      if (call === "writeLater") pieces++;
    });
    const pipeline = new SegmentPipeline(watched, "/log", true);
    for (const zeros of [0, MIB, 3 * MIB]) {
      pipeline.advance(0.5, 8 * MIB);
      await settle();
      expect(pipeline.spareBytes).toBe(4 * MIB);
      pieces = 0;
      const file = await pipeline.take(zeros);
      expect(file.size()).toBe(4 * MIB);
      expect(pieces).toBe(0);
      await pipeline.rename(`/log/${zeros}`);
      expect(isZero(disk.dump().get(`/log/${zeros}`))).toBe(true);
    }
  });

  it("cuts a recycled file that nobody has filled yet, durably, and leaves none of its bytes", async () => {
    const disk = await newDisk();
    await put(disk, "old", 3 * MIB);
    const calls: string[] = [];
    const watched = watchedDisk(disk, (call) => {
      calls.push(call);
    });
    const pipeline = new SegmentPipeline(watched, "/log", true);
    expect(await pipeline.recycle("/log/old", new DirectoryNames(watched, "/log"))).toBe(true);
    calls.length = 0;
    expect((await pipeline.take(0)).size()).toBe(0);
    expect(calls).toEqual(["truncate", "writeLater", "size"]);
  });

  it("gives a file of so many zeros, that rename() puts in its place", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    for (const capacity of [4096, 2.5 * MIB]) {
      const file = await pipeline.take(capacity);
      expect(file.size()).toBe(capacity);
      await pipeline.rename(`/log/${capacity}`);
      expect(isZero(disk.dump().get(`/log/${capacity}`))).toBe(true);
      file.write(Uint8Array.of(1), 0, 1, 0);
      expect(disk.dump().get(`/log/${capacity}`)?.[0]).toBe(1);
    }
    expect(namesOf(disk)).toEqual(["2621440", "4096"]);
    expect(pipeline.spareBytes).toBe(0);
  });

  it("ends with a sync, whoever wrote the zeros", async () => {
    for (const ahead of [false, true]) {
      const disk = await newDisk();
      let unsynced = false;
      const watched = watchedDisk(disk, () => {});
      const open = watched.open.bind(watched);
      const spied = Object.assign(Object.create(watched) as typeof watched, {
        open: async (...args: Parameters<typeof open>) => {
          const file = await open(...args);
          return new Proxy(file, {
            get(target, name) {
              if (name !== "writeLater") return Reflect.get(target, name) as unknown;
              return async (...write: Parameters<typeof file.writeLater>) => {
                await target.writeLater(...write);
                unsynced = !write[4];
              };
            },
          });
        },
      });
      const pipeline = new SegmentPipeline(spied, "/log", true);
      if (ahead) pipeline.advance(0.95, 1000);
      await settle();
      await pipeline.take(3 * MIB);
      expect(unsynced).toBe(false);
    }
  });

  it("makes an empty file where nothing is synced anyway", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", false);
    pipeline.advance(1, 4096);
    expect(namesOf(disk)).toEqual([]);
    expect((await pipeline.take(4096)).size()).toBe(0);
    await pipeline.rename("/log/a");
    await put(disk, "old", 4096);
    expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(false);
    expect(namesOf(disk)).toEqual(["a", "old"]);
  });

  it("takes away what stands under the spare's name", async () => {
    const disk = await newDisk();
    await put(disk, "spare", 9000);
    const pipeline = new SegmentPipeline(disk, "/log", true);
    await pipeline.take(4096);
    expect(isZero(disk.dump().get("/log/spare"))).toBe(true);
    expect(disk.dump().get("/log/spare")?.length).toBe(4096);
  });

  it("leaves nothing behind when any of its calls fails, and works the next time", async () => {
    for (const recycled of [false, true]) {
      for (let n = 0; ; n++) {
        const disk = await newDisk();
        await put(disk, "old", 3 * MIB);
        let faults = failNth(Infinity, "");
        const pipeline = new SegmentPipeline(
          watchedDisk(disk, (call, path) => faults.watch(call, path)),
          "/log",
          true,
        );
        if (recycled) expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(true);
        else await disk.unlink("/log/old");
        // Closing and removing are what is done about a failure.
        faults = failNth(n, "ENOSPC", (call) => call !== "close" && call !== "unlink");
        const taken = pipeline.take(1.5 * MIB).then(() => pipeline.rename("/log/new"));
        if (
          !(await taken.then(
            () => false,
            () => true,
          ))
        ) {
          expect(faults.failed).toBe(false);
          expect(n).toBeGreaterThan(recycled ? 4 : 5);
          break;
        }
        expect(namesOf(disk)).toEqual([]);
        expect(pipeline.spareBytes).toBe(0);
        const file = await pipeline.take(8192);
        await pipeline.rename("/log/new");
        expect(file.size()).toBe(8192);
        expect(isZero(disk.dump().get("/log/new"))).toBe(true);
        expect(namesOf(disk)).toEqual(["new"]);
      }
    }
  });
});

describe("advance()", () => {
  it("does not try again what has failed before the next take()", async () => {
    const disk = await newDisk();
    let tried = 0;
    let fail = true;
    const watched = watchedDisk(disk, (call, path) => {
      if (call !== "writeLater") return;
      tried++;
      if (fail) throw systemError("ENOSPC", call, path);
    });
    const pipeline = new SegmentPipeline(watched, "/log", true);
    for (let i = 30; i < 90; i++) {
      pipeline.advance(i / 100, 4 * MIB);
      await settle();
    }
    expect(tried).toBe(1);
    expect(namesOf(disk)).toEqual([]);
    fail = false;
    await pipeline.take(4096);
    await pipeline.rename("/log/1");
    pipeline.advance(0.5, 4 * MIB);
    await settle();
    expect(pipeline.spareBytes).toBeGreaterThan(0);
    await pipeline.close();
  });

  it("catches up with its pace again when take() has cut the work before short", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    pipeline.advance(0.9, 8 * MIB);
    const file = await pipeline.take(4096);
    expect(file.size()).toBeLessThan(8 * MIB);
    await pipeline.rename("/log/1");
    pipeline.advance(0.9, 8 * MIB);
    await turns(200);
    expect(pipeline.spareBytes).toBe(8 * MIB);
    await pipeline.close();
  });

  it("fills the spare in pieces while its predecessor fills from a quarter to nine tenths", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    const sizes: number[] = [];
    const fractions = [0, 0.1, 0.24, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1];
    for (const fraction of fractions) {
      for (let call = 0; call < 3; call++) pipeline.advance(fraction, 8 * MIB);
      await settle();
      sizes.push(pipeline.spareBytes / MIB);
    }
    // Whole pieces, as many as are due: none up to a quarter, all of them from nine tenths on.
    expect(sizes).toEqual(
      fractions.map((fraction) => Math.ceil(Math.min(1, Math.max(0, (fraction - 0.25) / 0.65)) * 8)),
    );
    expect(sizes.slice(0, 3)).toEqual([0, 0, 0]);
    expect(sizes.at(-3)).toBe(8);
    const file = await pipeline.take(8 * MIB);
    expect(file.size()).toBe(8 * MIB);
    expect(isZero(disk.dump().get("/log/spare"))).toBe(true);
  });

  it("is finished by take() wherever it stands, larger or smaller than foreseen", async () => {
    for (const capacity of [4096, MIB, 3 * MIB]) {
      const disk = await newDisk();
      const pipeline = new SegmentPipeline(disk, "/log", true);
      pipeline.advance(0.5, 2 * MIB);
      const file = await pipeline.take(capacity);
      await pipeline.rename("/log/new");
      expect(file.size()).toBe(Math.max(capacity, MIB));
      expect(namesOf(disk)).toEqual(["new"]);
      expect(isZero(disk.dump().get("/log/new"))).toBe(true);
    }
  });

  it("fails in silence, leaves nothing behind, and take() tries again", async () => {
    for (let n = 0; n < 3; n++) {
      const disk = await newDisk();
      const faults = failNth(n, "ENOSPC", (call) => call !== "close" && call !== "unlink");
      const pipeline = new SegmentPipeline(watchedDisk(disk, faults.watch), "/log", true);
      pipeline.advance(0.9, 4096);
      await settle();
      expect(faults.failed).toBe(true);
      expect(namesOf(disk)).toEqual([]);
      expect(pipeline.spareBytes).toBe(0);
      await pipeline.take(4096);
      expect(namesOf(disk)).toEqual(["spare"]);
    }
  });

  it("waits for rename(): until then the name belongs to the file that was taken", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    const file = await pipeline.take(4096);
    pipeline.advance(1, 4096);
    await settle();
    await pipeline.rename("/log/new");
    file.write(Uint8Array.of(7), 0, 1, 0);
    expect(disk.dump().get("/log/new")?.[0]).toBe(7);
    expect(namesOf(disk)).toEqual(["new"]);
  });
});

describe("rename()", () => {
  it("that fails leaves no name behind and frees it for the next", async () => {
    const disk = await newDisk();
    const faults = failNth(0, "EIO", (call) => call === "rename");
    const pipeline = new SegmentPipeline(watchedDisk(disk, faults.watch), "/log", true);
    await pipeline.take(4096);
    await expect(pipeline.rename("/log/new")).rejects.toMatchObject({ code: "EIO" });
    expect(namesOf(disk)).toEqual([]);
    await pipeline.take(4096);
    await pipeline.rename("/log/new");
    expect(namesOf(disk)).toEqual(["new"]);
  });
});

describe("without zeros", () => {
  it("take() gives an empty file, and nothing is made ahead or kept", async () => {
    const disk = await newDisk();
    await put(disk, "old", 4096);
    const pipeline = new SegmentPipeline(disk, "/log", false);
    pipeline.advance(0.9, 4096);
    await settle();
    expect(namesOf(disk)).toEqual(["old"]);
    expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(false);
    const file = await pipeline.take(4096);
    await pipeline.rename("/log/new");
    expect(file.size()).toBe(0);
    expect(namesOf(disk).sort()).toEqual(["new", "old"]);
  });
});

describe("recycle()", () => {
  it("leaves nothing under the spare's name when it fails behind the rename", async () => {
    for (const failing of ["syncDir", "open"]) {
      const disk = await newDisk();
      await put(disk, "old", 3 * MIB);
      const watched = watchedDisk(disk, failNth(0, "EMFILE", (call) => call === failing).watch);
      const pipeline = new SegmentPipeline(watched, "/log", true);
      await expect(pipeline.recycle("/log/old", new DirectoryNames(watched, "/log"))).rejects.toThrow("EMFILE");
      expect([namesOf(disk), pipeline.spareBytes]).toEqual([[], 0]);
      // What is gone has been released.
      expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(true);
      await pipeline.close();
    }
  });

  it("takes no file when no spare is wanted, and knows one that is gone", async () => {
    const disk = await newDisk();
    await put(disk, "old", 4096);
    const pipeline = new SegmentPipeline(disk, "/log", true);
    const names = new DirectoryNames(disk, "/log");
    expect(await pipeline.recycle("/log/old", names, false)).toBe(false);
    expect(namesOf(disk)).toEqual(["old"]);
    expect(await pipeline.recycle("/log/gone", names, false)).toBe(true);
  });

  it.each([4096, MIB + 4096, 5 * MIB])("gives a released file of %i bytes back as zeros only", async (size) => {
    const disk = await newDisk();
    await put(disk, "old", size);
    const pipeline = new SegmentPipeline(disk, "/log", true);
    expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(true);
    expect(pipeline.spareBytes).toBe(size);
    expect(namesOf(disk)).toEqual(["spare"]);
    pipeline.advance(0.6, 2 * MIB);
    await settle();
    const file = await pipeline.take(2 * MIB);
    await pipeline.rename("/log/new");
    expect(file.size()).toBe(2 * MIB);
    expect(isZero(disk.dump().get("/log/new"))).toBe(true);
  });

  it("renames durably before a byte is overwritten", async () => {
    const disk = await newDisk();
    await put(disk, "old", 8192);
    const calls: string[] = [];
    const watched = watchedDisk(disk, (call) => void calls.push(call));
    const pipeline = new SegmentPipeline(watched, "/log", true);
    await pipeline.recycle("/log/old", new DirectoryNames(watched, "/log"));
    await pipeline.take(8192);
    const wanted = ["rename", "syncDir", "open", "writeLater"];
    expect(calls.filter((call) => wanted.includes(call)).slice(0, 4)).toEqual(wanted);
  });

  it("refuses a second spare, and any once it is closed", async () => {
    const disk = await newDisk();
    await put(disk, "a", 4096);
    await put(disk, "b", 4096);
    const pipeline = new SegmentPipeline(disk, "/log", true);
    expect(await pipeline.recycle("/log/a", new DirectoryNames(disk, "/log"))).toBe(true);
    expect(await pipeline.recycle("/log/b", new DirectoryNames(disk, "/log"))).toBe(false);
    await pipeline.close();
    expect(await pipeline.recycle("/log/b", new DirectoryNames(disk, "/log"))).toBe(false);
    expect(namesOf(disk)).toEqual(["b"]);
  });

  it("can be called again after it failed anywhere", async () => {
    const left = new Set<string>();
    for (let n = 0; ; n++) {
      const disk = await newDisk();
      await put(disk, "old", 8192);
      const faults = failNth(n, "EIO");
      const watched = watchedDisk(disk, faults.watch);
      const pipeline = new SegmentPipeline(watched, "/log", true);
      const failed = await pipeline.recycle("/log/old", new DirectoryNames(watched, "/log")).then(
        () => false,
        () => true,
      );
      if (!failed) break;
      expect(await pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"))).toBe(true);
      left.add(namesOf(disk).join());
      const file = await pipeline.take(4096);
      await pipeline.rename("/log/new");
      expect(file.size()).toBe(4096);
      expect(isZero(disk.dump().get("/log/new"))).toBe(true);
      expect(namesOf(disk)).toEqual(["new"]);
    }
    // Recycled by the second call, or removed by the first.
    expect([...left].sort()).toEqual(["", "spare"]);
  });

  /** Runs `during` while the n-th call of the first work waits; then lets it go on. */
  async function interleave(
    n: number,
    first: (pipeline: SegmentPipeline, disk: Disk) => Promise<unknown>,
    during: (pipeline: SegmentPipeline, disk: Disk) => Promise<unknown>,
  ): Promise<{ disk: MemoryDisk; pipeline: SegmentPipeline; waited: boolean }> {
    const disk = await newDisk();
    await put(disk, "old", 3 * MIB);
    let calls = 0;
    let waited = false;
    let release = (): void => {};
    const watched = watchedDisk(disk, (call) => {
      if (call === "size" || calls++ !== n) return;
      waited = true;
      return new Promise<void>((resolve) => {
        release = resolve;
      });
    });
    const pipeline = new SegmentPipeline(watched, "/log", true);
    const one = first(pipeline, watched);
    await settle();
    const other = during(pipeline, watched);
    await settle();
    release();
    await Promise.all([one, other]);
    return { disk, pipeline, waited };
  }

  const takeAndWrite = async (pipeline: SegmentPipeline): Promise<void> => {
    const file = await pipeline.take(1.5 * MIB);
    await pipeline.rename("/log/new");
    file.write(Uint8Array.of(1, 2, 3), 0, 3, 0);
  };
  const recycle = (pipeline: SegmentPipeline, disk: Disk): Promise<boolean> =>
    pipeline.recycle("/log/old", new DirectoryNames(disk, "/log"));

  it.each([
    ["recycle() beside take()", recycle, takeAndWrite],
    ["take() beside recycle()", takeAndWrite, recycle],
  ] as const)("shares the spare's name with nobody: %s, at every call", async (_name, first, during) => {
    for (let n = 0; ; n++) {
      const { disk, pipeline, waited } = await interleave(n, first, during);
      if (!waited) break;
      // The spare that may be there now is filled; none of its zeros may reach the file that was taken.
      for (let i = 0; i < 6; i++) {
        pipeline.advance(1, 4 * MIB);
        await settle();
      }
      const bytes = disk.dump().get("/log/new");
      expect([...(bytes?.subarray(0, 4) ?? [])], `call ${n}`).toEqual([1, 2, 3, 0]);
      expect(isZero(bytes?.subarray(3)), `call ${n}`).toBe(true);
      await pipeline.close();
      expect(namesOf(disk).filter((name) => name !== "old")).toEqual(["new"]);
    }
  });
});

describe("close()", () => {
  it("removes the spare, after the piece under way", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    pipeline.advance(0.8, 4096);
    await pipeline.close();
    expect(namesOf(disk)).toEqual([]);
    pipeline.advance(0.9, 4096);
    await settle();
    expect(namesOf(disk)).toEqual([]);
    await pipeline.close();
  });
});

describe("giveUp()", () => {
  it("removes the spare, and none is made or taken before the next take()", async () => {
    const disk = await newDisk();
    const pipeline = new SegmentPipeline(disk, "/log", true);
    expect(await pipeline.giveUp()).toBe(false);
    await pipeline.take(4096);
    await pipeline.rename("/log/1");
    pipeline.advance(0.5, 4 * MIB);
    await settle();
    expect(pipeline.spareBytes).toBeGreaterThan(0);
    expect(await pipeline.giveUp()).toBe(true);
    expect([namesOf(disk), pipeline.spareBytes]).toEqual([["1"], 0]);
    pipeline.advance(1, 4 * MIB);
    expect(await pipeline.recycle("/log/1", new DirectoryNames(disk, "/log", false))).toBe(false);
    await settle();
    expect(namesOf(disk)).toEqual(["1"]);
    expect(await pipeline.giveUp()).toBe(false);
    await pipeline.take(4096);
    await pipeline.rename("/log/2");
    pipeline.advance(0.5, 4 * MIB);
    await settle();
    expect(pipeline.spareBytes).toBeGreaterThan(0);
    await pipeline.close();
  });

  it("says so, too, when what is under way is the first piece, or finds no room itself and drops the spare", async () => {
    for (const pieces of [0, 1]) {
      for (const turnsBefore of [0, 1, 2, 3, 4, 5]) {
        const disk = await newDisk();
        let fail = false;
        const watched = watchedDisk(disk, (call, path) => {
          if (fail && call === "writeLater") throw systemError("ENOSPC", call, path);
        });
        const pipeline = new SegmentPipeline(watched, "/log", true);
        if (pieces > 0) {
          pipeline.advance(0.26, 4 * MIB);
          await settle();
          fail = true;
        }
        pipeline.advance(0.9, 4 * MIB);
        await turns(turnsBefore);
        const under = namesOf(disk).length > 0 || turnsBefore === 0;
        expect(await pipeline.giveUp(), `${pieces} pieces, ${turnsBefore} turns`).toBe(under);
        expect(namesOf(disk)).toEqual([]);
        await pipeline.close();
      }
    }
  });
});
