// What every Disk owes its callers, run against each implementation by its own test file. A directory of its own is made for
// each test by the factory; nothing here knows what kind of disk it is on.

import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Disk, type DiskFile, joinPath } from "../../src/disk/disk.js";

export interface DiskUnderTest {
  readonly disk: Disk;
  /** An empty directory of this disk. */
  readonly dir: string;
  end(): Promise<void>;
}

export function testDisk(name: string, make: () => Promise<DiskUnderTest>): void {
  describe(name, () => {
    let disk: Disk;
    let dir: string;
    let end: () => Promise<void>;

    beforeEach(async () => {
      const made = await make();
      ({ disk, dir } = made);
      end = () => made.end();
    });
    afterEach(() => end());

    const at = (file: string): string => joinPath(dir, file);

    function bytes(...values: number[]): Uint8Array {
      const made = disk.allocate(values.length);
      made.set(values);
      return made;
    }

    async function makeFile(file: string, ...values: number[]): Promise<DiskFile> {
      const made = await disk.open(at(file), "create");
      made.write(bytes(...values), 0, values.length, 0);
      return made;
    }

    function contents(file: DiskFile): number[] {
      const all = new Uint8Array(file.size());
      expect(file.read(all, 0, all.length, 0)).toBe(all.length);
      return [...all];
    }

    describe("open()", () => {
      it("creates a file of no bytes when the name is free", async () => {
        const file = await disk.open(at("a"), "create");
        expect(file.size()).toBe(0);
        await file.close();
        expect(await disk.stat(at("a"))).toEqual({ kind: "file", size: 0 });
      });

      it("rejects with EEXIST when a name to create is taken, by a file or a directory", async () => {
        await (await disk.open(at("a"), "create")).close();
        await disk.mkdir(at("d"));
        await expect(disk.open(at("a"), "create")).rejects.toMatchObject({ code: "EEXIST" });
        await expect(disk.open(at("d"), "create")).rejects.toMatchObject({ code: "EEXIST" });
      });

      it("rejects with ENOENT when the file or its directory is missing", async () => {
        await expect(disk.open(at("a"), "read")).rejects.toMatchObject({ code: "ENOENT" });
        await expect(disk.open(at("a"), "write")).rejects.toMatchObject({ code: "ENOENT" });
        await expect(disk.open(at("d/a"), "create")).rejects.toMatchObject({ code: "ENOENT" });
        expect(await disk.list(dir)).toEqual([]);
      });

      it("rejects with ENOTDIR when a file stands where a directory should", async () => {
        await (await disk.open(at("a"), "create")).close();
        await expect(disk.open(at("a/b"), "create")).rejects.toMatchObject({ code: "ENOTDIR" });
      });

      it("rejects with ERR_FOREIGN and the file's name when a directory stands there", async () => {
        await disk.mkdir(at("d"));
        await expect(disk.open(at("d"), "read")).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "d" });
        await expect(disk.open(at("d"), "write")).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "d" });
      });

      it("gives handles that see each other's writes when a file is opened twice", async () => {
        const writer = await makeFile("a", 1, 2, 3);
        const reader = await disk.open(at("a"), "read");
        writer.write(bytes(9, 8), 0, 2, 2);
        expect(contents(reader)).toEqual([1, 2, 9, 8]);
        await writer.close();
        expect(contents(reader)).toEqual([1, 2, 9, 8]);
        await reader.close();
      });

      it("keeps what is there when an existing file is opened for writing", async () => {
        await (await makeFile("a", 1, 2, 3)).close();
        const again = await disk.open(at("a"), "write");
        again.write(bytes(7), 0, 1, 1);
        expect(contents(again)).toEqual([1, 7, 3]);
        await again.close();
      });
    });

    describe("openNow()", () => {
      it("gives a file for reading at once", async () => {
        const writer = await makeFile("a", 1, 2, 3);
        const file = disk.openNow(at("a"));
        expect(contents(file)).toEqual([1, 2, 3]);
        writer.write(bytes(4), 0, 1, 3);
        expect(await file.readLater(new Uint8Array(4), 0, 4, 0)).toBe(4);
        expect(() => file.write(bytes(9), 0, 1, 0)).toThrow(expect.objectContaining({ code: "EBADF" }));
        await file.close();
        expect(() => file.size()).toThrow(expect.objectContaining({ code: "EBADF" }));
        expect(contents(writer)).toEqual([1, 2, 3, 4]);
        await writer.close();
      });

      it("throws as open() rejects, when the file is missing or a directory stands there", async () => {
        await disk.mkdir(at("d"));
        expect(() => disk.openNow(at("a"))).toThrow(expect.objectContaining({ code: "ENOENT" }));
        expect(() => disk.openNow(at("none/a"))).toThrow(expect.objectContaining({ code: "ENOENT" }));
        expect(() => disk.openNow(at("d"))).toThrow(expect.objectContaining({ code: "ERR_FOREIGN", file: "d" }));
      });
    });

    describe("read()", () => {
      it("fills only the range it was given and stops at the end of the file", async () => {
        const file = await makeFile("a", 1, 2, 3, 4, 5);
        const target = new Uint8Array(6).fill(255);
        expect(file.read(target, 2, 4, 1)).toBe(2);
        expect([...target]).toEqual([255, 255, 2, 3, 255, 255]);
        expect(file.read(target, 0, 6, 3)).toBe(2);
        expect([...target]).toEqual([4, 5, 2, 3, 255, 255]);
        expect(file.read(target, 0, 6, 5)).toBe(0);
        expect(file.read(target, 0, 6, 500)).toBe(0);
        expect(file.read(target, 3, 3, 0)).toBe(0);
        await file.close();
      });

      it("gives the same by readLater()", async () => {
        const file = await makeFile("a", 1, 2, 3, 4, 5);
        const target = new Uint8Array(6).fill(255);
        expect(await file.readLater(target, 2, 6, 3)).toBe(2);
        expect([...target]).toEqual([255, 255, 4, 5, 255, 255]);
        expect(await file.readLater(target, 0, 6, 9)).toBe(0);
        await file.close();
      });

      it("reads into memory of allocate()", async () => {
        const file = await makeFile("a", 1, 2, 3);
        const target = disk.allocate(4);
        expect(file.read(target, 0, 4, 0)).toBe(3);
        expect(await file.readLater(target, 1, 4, 0)).toBe(3);
        expect([...target]).toEqual([1, 1, 2, 3]);
        await file.close();
      });
    });

    describe("write()", () => {
      it("takes the range it was given and leaves zeros before it when it begins beyond the end", async () => {
        const file = await disk.open(at("a"), "create");
        file.write(bytes(1, 2, 3, 4), 1, 3, 4);
        expect(contents(file)).toEqual([0, 0, 0, 0, 2, 3]);
        await file.close();
      });

      it("writes nothing when the range is empty", async () => {
        const file = await makeFile("a", 1);
        file.write(bytes(9), 1, 1, 50);
        await file.writeLater(bytes(9), 1, 1, 50, true);
        await file.commit(bytes(9), 1, 1, 50);
        expect(contents(file)).toEqual([1]);
        await file.close();
      });

      it("throws EBADF when the file was opened for reading", async () => {
        await (await makeFile("a", 1)).close();
        const file = await disk.open(at("a"), "read");
        expect(() => file.write(bytes(9), 0, 1, 0)).toThrow(expect.objectContaining({ code: "EBADF" }));
        await expect(file.commit(bytes(9), 0, 1, 0)).rejects.toMatchObject({ code: "EBADF" });
        await expect(file.writeLater(bytes(9), 0, 1, 0, false)).rejects.toMatchObject({ code: "EBADF" });
        expect(contents(file)).toEqual([1]);
        await file.close();
      });

      it("holds to a plain array when writes, cuts and reads are mixed", async () => {
        const step = fc.oneof(
          fc.record({
            kind: fc.constantFrom("write" as const, "writeLater" as const, "commit" as const),
            position: fc.nat(9000),
            data: fc.uint8Array({ minLength: 1, maxLength: 300 }),
          }),
          fc.record({ kind: fc.constant("truncate" as const), position: fc.nat(9000) }),
        );
        let run = 0;
        await fc.assert(
          fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
            const file = await disk.open(at(`model-${run++}`), "create");
            let model = new Uint8Array(0);
            const resize = (size: number): void => {
              const next = new Uint8Array(size);
              next.set(model.subarray(0, size));
              model = next;
            };
            for (const one of steps) {
              if (one.kind === "truncate") {
                await file.truncate(one.position);
                resize(one.position);
                continue;
              }
              const source = disk.allocate(one.data.length);
              source.set(one.data);
              if (one.kind === "write") file.write(source, 0, source.length, one.position);
              else if (one.kind === "commit") await file.commit(source, 0, source.length, one.position);
              else await file.writeLater(source, 0, source.length, one.position, false);
              if (model.length < one.position + source.length) resize(one.position + source.length);
              model.set(one.data, one.position);
            }
            const found = contents(file);
            await file.close();
            expect(found).toEqual([...model]);
          }),
          { numRuns: 25 },
        );
      });
    });

    describe("commit()", () => {
      it("has written its range when it resolves, one after the other", async () => {
        const file = await disk.open(at("a"), "create");
        const source = disk.allocate(8);
        for (let i = 0; i < 20; i++) {
          source.fill(i + 1);
          await file.commit(source, 2, 4, 2 * i);
          expect(file.size()).toBe(2 * i + 2);
        }
        expect(contents(file)).toEqual(Array.from({ length: 40 }, (_, i) => (i >> 1) + 1));
        await file.close();
      });

      it("serves several files at a time", async () => {
        const files = await Promise.all(["a", "b", "c"].map((file) => disk.open(at(file), "create")));
        await Promise.all(files.map((file, i) => file.commit(bytes(i, i), 0, 2, 0)));
        expect(files.map(contents)).toEqual([
          [0, 0],
          [1, 1],
          [2, 2],
        ]);
        await Promise.all(files.map((file) => file.close()));
      });
    });

    describe("writeLater() and sync()", () => {
      it("write with and without a sync", async () => {
        const file = await disk.open(at("a"), "create");
        await file.writeLater(bytes(1, 2), 0, 2, 0, true);
        await file.writeLater(bytes(3, 4), 1, 2, 2, false);
        if (disk.syncsNow) file.sync();
        expect(contents(file)).toEqual([1, 2, 4]);
        await file.close();
      });
    });

    describe("truncate()", () => {
      it("cuts, and extends with zeros where there were bytes before", async () => {
        const file = await makeFile("a", 1, 2, 3, 4);
        await file.truncate(1);
        expect(contents(file)).toEqual([1]);
        await file.truncate(3);
        expect(contents(file)).toEqual([1, 0, 0]);
        file.write(bytes(9), 0, 1, 4);
        expect(contents(file)).toEqual([1, 0, 0, 0, 9]);
        await file.close();
      });

      it("rejects when the file was opened for reading", async () => {
        await (await makeFile("a", 1, 2)).close();
        const file = await disk.open(at("a"), "read");
        await expect(file.truncate(0)).rejects.toMatchObject({ code: "EINVAL" });
        await file.close();
      });
    });

    describe("close()", () => {
      it("lets every further call fail with EBADF", async () => {
        const file = await makeFile("a", 1);
        await file.close();
        const closed = expect.objectContaining({ code: "EBADF" });
        const target = disk.allocate(1);
        expect(() => file.size()).toThrow(closed);
        expect(() => file.read(target, 0, 1, 0)).toThrow(closed);
        expect(() => file.write(target, 0, 1, 0)).toThrow(closed);
        expect(() => file.sync()).toThrow(closed);
        await expect(file.readLater(target, 0, 1, 0)).rejects.toEqual(closed);
        await expect(file.commit(target, 0, 1, 0)).rejects.toEqual(closed);
        await expect(file.writeLater(target, 0, 1, 0, true)).rejects.toEqual(closed);
        await expect(file.truncate(0)).rejects.toEqual(closed);
        await expect(file.close()).rejects.toEqual(closed);
      });

      it("waits for a commit that is under way", async () => {
        const file = await disk.open(at("a"), "create");
        const order: string[] = [];
        const committed = file.commit(bytes(1, 2), 0, 2, 0).then(() => order.push("committed"));
        const closed = file.close().then(() => order.push("closed"));
        await Promise.all([committed, closed]);
        expect(order).toEqual(["committed", "closed"]);
        const again = await disk.open(at("a"), "read");
        expect(contents(again)).toEqual([1, 2]);
        await again.close();
      });
    });

    describe("names", () => {
      it("list() gives every name once, and rejects with ENOENT when the directory is missing", async () => {
        expect(await disk.list(dir)).toEqual([]);
        await (await disk.open(at("b"), "create")).close();
        await (await disk.open(at("a"), "create")).close();
        await disk.mkdir(at("d"));
        expect((await disk.list(dir)).sort()).toEqual(["a", "b", "d"]);
        await expect(disk.list(at("none"))).rejects.toMatchObject({ code: "ENOENT" });
        await expect(disk.list(at("a"))).rejects.toMatchObject({ code: "ENOTDIR" });
      });

      it("stat() tells files from directories, and undefined when nothing is there", async () => {
        await (await makeFile("a", 1, 2)).close();
        await disk.mkdir(at("d"));
        expect(await disk.stat(at("a"))).toEqual({ kind: "file", size: 2 });
        expect(await disk.stat(at("d"))).toMatchObject({ kind: "directory" });
        expect(await disk.stat(at("none"))).toBeUndefined();
        expect(await disk.stat(at("none/none"))).toBeUndefined();
      });

      it("mkdir() makes one directory, and rejects when the name is taken or the parent missing", async () => {
        await disk.mkdir(at("d"));
        await disk.mkdir(at("d/e"));
        expect(await disk.list(at("d"))).toEqual(["e"]);
        await expect(disk.mkdir(at("d"))).rejects.toMatchObject({ code: "EEXIST" });
        await expect(disk.mkdir(at("none/e"))).rejects.toMatchObject({ code: "ENOENT" });
      });

      it("rename() replaces what stands at the new name, and open handles follow their file", async () => {
        const moved = await makeFile("a", 1, 2);
        const replaced = await makeFile("b", 3);
        await disk.rename(at("a"), at("b"));
        expect(await disk.list(dir)).toEqual(["b"]);
        moved.write(bytes(9), 0, 1, 0);
        const found = await disk.open(at("b"), "read");
        expect(contents(found)).toEqual([9, 2]);
        expect(contents(replaced)).toEqual([3]);
        for (const file of [moved, replaced, found]) await file.close();
      });

      it("rename() rejects when there is nothing to rename, or a directory in the way", async () => {
        await expect(disk.rename(at("a"), at("b"))).rejects.toMatchObject({ code: "ENOENT" });
        await (await disk.open(at("a"), "create")).close();
        await disk.mkdir(at("d"));
        await disk.mkdir(at("e"));
        await (await disk.open(at("e/x"), "create")).close();
        await expect(disk.rename(at("a"), at("d"))).rejects.toMatchObject({ code: "EISDIR" });
        await expect(disk.rename(at("d"), at("a"))).rejects.toMatchObject({ code: "ENOTDIR" });
        await expect(disk.rename(at("d"), at("e"))).rejects.toMatchObject({ code: "ENOTEMPTY" });
        await disk.rename(at("e"), at("d"));
        expect(await disk.list(at("d"))).toEqual(["x"]);
      });

      it("rename() to the same name keeps the file", async () => {
        await (await makeFile("a", 1)).close();
        await disk.rename(at("a"), at("a"));
        expect(await disk.stat(at("a"))).toEqual({ kind: "file", size: 1 });
      });

      it("unlink() removes the name and leaves open handles working", async () => {
        const file = await makeFile("a", 1, 2);
        await disk.unlink(at("a"));
        expect(await disk.list(dir)).toEqual([]);
        const next = await makeFile("a", 7);
        file.write(bytes(5), 0, 1, 2);
        expect(contents(file)).toEqual([1, 2, 5]);
        expect(contents(next)).toEqual([7]);
        await file.close();
        await next.close();
      });

      it("unlink() rejects when the name is missing or a directory", async () => {
        await expect(disk.unlink(at("a"))).rejects.toMatchObject({ code: "ENOENT" });
        await disk.mkdir(at("d"));
        await expect(disk.unlink(at("d"))).rejects.toMatchObject({ code: expect.stringMatching(/^(EISDIR|EPERM)$/) });
        expect(await disk.list(dir)).toEqual(["d"]);
      });

      it("syncDir() resolves for a directory and rejects with ENOENT when it is missing", async () => {
        await disk.syncDir(dir);
        await expect(disk.syncDir(at("none"))).rejects.toMatchObject({ code: "ENOENT" });
      });
    });

    describe("lock()", () => {
      it("rejects with ERR_LOCKED and the directory's name until the holder releases it", async () => {
        const first = await disk.lock(dir);
        await expect(disk.lock(dir)).rejects.toMatchObject({
          code: "ERR_LOCKED",
          message: expect.stringContaining(dir),
        });
        await first.release();
        await (await disk.lock(dir)).release();
      });

      it("lets one of two openers win when they come at once", async () => {
        const settled = await Promise.allSettled([disk.lock(dir), disk.lock(dir), disk.lock(dir)]);
        const won = settled.filter((one) => one.status === "fulfilled");
        expect(won).toHaveLength(1);
        for (const one of won) await one.value.release();
      });

      it("does not free the next holder when the one before releases again", async () => {
        const first = await disk.lock(dir);
        await first.release();
        const second = await disk.lock(dir);
        await first.release();
        await expect(disk.lock(dir)).rejects.toMatchObject({ code: "ERR_LOCKED" });
        await second.release();
      });

      it("holds directories apart", async () => {
        await disk.mkdir(at("d"));
        const outer = await disk.lock(dir);
        const inner = await disk.lock(at("d"));
        await outer.release();
        await inner.release();
      });

      it("rejects with ENOENT when the directory is missing, and with ENOTDIR when it is a file", async () => {
        await expect(disk.lock(at("none"))).rejects.toMatchObject({ code: "ENOENT" });
        await (await disk.open(at("a"), "create")).close();
        await expect(disk.lock(at("a"))).rejects.toMatchObject({ code: "ENOTDIR" });
      });
    });

    describe("allocate() and entropy()", () => {
      it("give zeroed memory at an 8-byte boundary, and fill all of a range", () => {
        const memory = disk.allocate(1000);
        expect(memory).toHaveLength(1000);
        expect(memory.byteOffset % 8).toBe(0);
        expect(memory.every((byte) => byte === 0)).toBe(true);
        expect(disk.allocate(0)).toHaveLength(0);
        const first = new Uint8Array(64);
        const second = new Uint8Array(64);
        disk.entropy(first);
        disk.entropy(second);
        expect(first).not.toEqual(second);
        expect(new Set(first).size).toBeGreaterThan(16);
      });
    });
  });
}
