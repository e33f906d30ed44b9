// MemoryDisk: the contract of every Disk, and what it has for tests beyond that.

import { describe, expect, it } from "vitest";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { testDisk } from "./disk-contract.js";

testDisk("MemoryDisk", async () => {
  const disk = new MemoryDisk();
  await disk.mkdir("/log");
  return { disk, dir: "/log", end: async () => {} };
});

async function withFile(): Promise<MemoryDisk> {
  const disk = new MemoryDisk({ seed: 7 });
  await disk.mkdir("/log");
  await disk.mkdir("/log/snap");
  const file = await disk.open("/log/snap/a", "create");
  file.write(new Uint8Array([1, 2, 3]), 0, 3, 0);
  await file.close();
  return disk;
}

describe("MemoryDisk paths", () => {
  it("MemoryDisk has a root that exists and takes every spelling of a path", async () => {
    const disk = await withFile();
    expect(await disk.list("/")).toEqual(["log"]);
    expect(await disk.stat("/")).toMatchObject({ kind: "directory" });
    expect(await disk.stat("log//./snap/../snap/a")).toEqual({ kind: "file", size: 3 });
    await expect(disk.mkdir("/")).rejects.toMatchObject({ code: "EEXIST" });
    await expect(disk.open("/", "read")).rejects.toMatchObject({ code: "ERR_FOREIGN" });
    await expect(disk.unlink("/")).rejects.toMatchObject({ code: "EISDIR" });
  });
});

describe("MemoryDisk.dump()", () => {
  it("dump() gives a copy of each file by its absolute path", async () => {
    const disk = await withFile();
    const dumped = disk.dump();
    expect([...dumped]).toEqual([["/log/snap/a", new Uint8Array([1, 2, 3])]]);
    dumped.get("/log/snap/a")?.fill(9);
    expect(disk.dump().get("/log/snap/a")).toEqual(new Uint8Array([1, 2, 3]));
  });
});

describe("MemoryDisk.clone()", () => {
  it("clone() shares neither bytes, names nor locks with the disk it came from", async () => {
    const disk = await withFile();
    await disk.lock("/log");
    const open = await disk.open("/log/snap/a", "write");
    const copy = disk.clone();
    open.write(new Uint8Array([9]), 0, 1, 0);
    await copy.mkdir("/other");
    expect([...copy.dump()]).toEqual([["/log/snap/a", new Uint8Array([1, 2, 3])]]);
    expect(await disk.list("/")).toEqual(["log"]);
    await (await copy.lock("/log")).release();
    await expect(disk.lock("/log")).rejects.toMatchObject({ code: "ERR_LOCKED" });
  });
});

describe("MemoryDisk.entropy()", () => {
  it("entropy() repeats for a seed, differs between seeds, and goes on in a clone", () => {
    const draw = (disk: MemoryDisk): string => {
      const target = new Uint8Array(16);
      disk.entropy(target);
      return target.join();
    };
    const disk = new MemoryDisk({ seed: 5 });
    const first = draw(disk);
    expect(draw(new MemoryDisk({ seed: 5 }))).toBe(first);
    expect(draw(new MemoryDisk({ seed: 6 }))).not.toBe(first);
    expect(draw(new MemoryDisk())).toBe(draw(new MemoryDisk()));
    const copy = disk.clone();
    const second = draw(disk);
    expect(second).not.toBe(first);
    expect(draw(copy)).toBe(second);
  });
});
