// SimDisk: the contract of every Disk, then the laws of what a crash leaves, held against a model that is too simple to be
// wrong, and every fault that can be ordered. That the disk under the tests of this package tells the truth is shown here.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DiskFile } from "../../src/disk/disk.js";
import {
  type Atom,
  type CrashModel,
  type CrashPoint,
  crashModels,
  formatMask,
  type Mask,
  parseMask,
} from "../../src/testing/crash-point.js";
import type { DiskOperation, FaultRule } from "../../src/testing/fault-plan.js";
import { Random } from "../../src/testing/random.js";
import { SimDisk, type SimDiskOptions } from "../../src/testing/sim-disk.js";
import { testDisk } from "../disk/disk-contract.js";

const kinds: Readonly<Record<string, SimDiskOptions>> = {
  SimDisk: {},
  "SimDisk with latency": { latency: (_operation, random) => random.below(4) },
  "SimDisk with sectors of 4096 bytes": { sectorBytes: 4096, model: "ext4" },
};
for (const [name, options] of Object.entries(kinds)) {
  testDisk(name, async () => {
    const disk = new SimDisk(options);
    await disk.mkdir("/log");
    return { disk, dir: "/log", end: async () => {} };
  });
}

// ---- helpers

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const bytes = (letters: string): Uint8Array => Uint8Array.from(Buffer.from(letters, "latin1"));

/** A disk that durably has these files. */
function diskOf(files: Readonly<Record<string, string>>, options?: SimDiskOptions): SimDisk {
  return SimDisk.from(new Map(Object.entries(files).map(([path, letters]) => [path, bytes(letters)])), options);
}

async function write(disk: SimDisk, path: string, position: number, letters: string, sync = false): Promise<void> {
  const file = await disk.open(path, "write");
  await file.writeLater(bytes(letters), 0, letters.length, position, sync);
  await file.close();
}

async function create(disk: SimDisk, path: string): Promise<void> {
  await (await disk.open(path, "create")).close();
}

async function sync(disk: SimDisk, path: string): Promise<void> {
  const file = await disk.open(path, "read");
  file.sync();
  await file.close();
}

async function truncate(disk: SimDisk, path: string, size: number): Promise<void> {
  const file = await disk.open(path, "write");
  await file.truncate(size);
  await file.close();
}

/** What reads see, as one text: files by their paths, in order. */
function seen(disk: SimDisk): string {
  const files = [...disk.dump()].map(([path, each]) => `${path}=${text(each)}`);
  return files.sort().join("\n");
}

function masksOf(point: CrashPoint, limit = 20_000): Mask[] {
  return [...point.masks(limit, new Random(1))];
}

/** Neither torn nor garbage. */
function isWhole(mask: Mask): boolean {
  return mask.every((choice) => choice < 100);
}

/** Every state without tears and garbage that a crash now may leave. */
function statesOf(disk: SimDisk, model?: CrashModel): Set<string> {
  const point = disk.crashPoint(model);
  return new Set(
    masksOf(point)
      .filter(isWhole)
      .map((mask) => seen(disk.imageOf(point, mask))),
  );
}

function stateOf(disk: SimDisk, mask: Mask, point = disk.crashPoint()): string {
  return seen(disk.imageOf(point, mask));
}

function atomsOf(disk: SimDisk): string[] {
  const point = disk.crashPoint();
  return point.atoms.map((atom) => point.nameOf(atom));
}

const A = "a".repeat(512);
const B = "b".repeat(512);
const C = "c".repeat(512);
const ZERO = "\0".repeat(512);

// ---- what a power cut leaves

describe("what a power cut leaves of contents", () => {
  it("a synced file survives every mask", async () => {
    const disk = diskOf({ "/log/a": "" });
    await write(disk, "/log/a", 0, `${A}${B}tail`, true);
    expect(disk.crashPoint().atoms).toEqual([]);
    await write(disk, "/log/a", 100, "more", true);
    for (const model of crashModels) {
      for (const mask of masksOf(disk.crashPoint(model))) {
        expect(stateOf(disk, mask, disk.crashPoint(model))).toBe(seen(disk));
      }
    }
  });

  it("each sector that was not synced may be old or new, and all of them in every combination", async () => {
    const disk = diskOf({ "/log/a": A + A + A });
    await write(disk, "/log/a", 0, B + B + B);
    expect(atomsOf(disk)).toEqual(["/log/a[0]", "/log/a[1]", "/log/a[2]"]);
    const wanted = new Set<string>();
    for (const x of [A, B]) for (const y of [A, B]) for (const z of [A, B]) wanted.add(`/log/a=${x}${y}${z}`);
    expect(statesOf(disk)).toEqual(wanted);
  });

  it("a sector that was written twice may hold any of three", async () => {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 0, B);
    await write(disk, "/log/a", 0, C);
    expect(statesOf(disk)).toEqual(new Set([A, B, C].map((each) => `/log/a=${each}`)));
    await sync(disk, "/log/a");
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${C}`]));
  });

  it("a write of part of a sector leaves the rest of it as it was", async () => {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 10, "xyz");
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${A}`, `/log/a=${A.slice(0, 10)}xyz${A.slice(13)}`]));
  });

  it("sectors have the size they were given", async () => {
    const disk = diskOf({ "/log/a": "a".repeat(8192) }, { sectorBytes: 4096 });
    await write(disk, "/log/a", 4000, "b".repeat(200));
    expect(atomsOf(disk)).toEqual(["/log/a[0]", "/log/a[1]"]);
    expect(statesOf(disk).size).toBe(4);
  });

  it("tears and garbage stay within the range that was written last", async () => {
    const disk = diskOf({ "/log/a": A + A });
    await write(disk, "/log/a", 500, "b".repeat(24));
    const point = disk.crashPoint();
    const before = A + A;
    const after = seen(disk).slice("/log/a=".length);
    const torn = masksOf(point).filter((mask) => !isWhole(mask));
    const specials = [100, 101, 102].flatMap((special) => [
      [special, 0],
      [special, 1],
      [0, special],
      [1, special],
    ]);
    let mixed = 0;
    let garbage = 0;
    for (const mask of [...torn, ...specials]) {
      const found = stateOf(disk, mask, point).slice("/log/a=".length);
      expect(found).toHaveLength(1024);
      for (const [from, to, choice] of [
        [500, 512, mask[0]],
        [512, 524, mask[1]],
      ] as const) {
        const part = found.slice(from, to);
        const [old, fresh] = [before.slice(from, to), after.slice(from, to)];
        if (choice === 0) expect(part).toBe(old);
        if (choice === 1) expect(part).toBe(fresh);
        if (choice === 100) expect(part).toMatch(/^b+a*$/);
        if (choice === 101) expect(part).toMatch(/^a*b*$/);
        if (choice === 100 || choice === 101) mixed += part !== old && part !== fresh ? 1 : 0;
        if (choice === 102) garbage += /^[ab]*$/.test(part) ? 0 : 1;
      }
      expect(found.slice(0, 500)).toBe(before.slice(0, 500));
      expect(found.slice(524)).toBe(before.slice(524));
    }
    expect(mixed).toBeGreaterThan(4);
    expect(garbage).toBeGreaterThan(2);
  });

  it("the size comes before, after or without the data", async () => {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 512, B);
    expect(atomsOf(disk)).toEqual(["/log/a size", "/log/a[1]"]);
    expect(statesOf(disk)).toEqual(new Set([A, A + ZERO, A + B].map((each) => `/log/a=${each}`)));
  });

  it("a cut may come undone, wholly, in its size alone or in its data alone", async () => {
    const disk = diskOf({ "/log/a": A + B });
    await truncate(disk, "/log/a", 512);
    expect(seen(disk)).toBe(`/log/a=${A}`);
    expect(statesOf(disk)).toEqual(new Set([A, A + B, A + ZERO].map((each) => `/log/a=${each}`)));
    await sync(disk, "/log/a");
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${A}`]));
    await truncate(disk, "/log/a", 1024);
    expect(statesOf(disk)).toEqual(new Set([A, A + ZERO].map((each) => `/log/a=${each}`)));
  });

  it("a sync covers what was written before it was called, and not what came while it ran", async () => {
    const disk = diskOf({ "/log/a": A + A }, { latency: (operation) => (operation === "sync" ? 10 : 1) });
    const file = await disk.open("/log/a", "write");
    await file.writeLater(bytes(B), 0, 512, 0, false);
    const synced = file.writeLater(bytes(B), 0, 0, 0, true);
    await file.writeLater(bytes(C), 0, 512, 512, false);
    await synced;
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${B}${A}`, `/log/a=${B}${C}`]));
    await file.close();
  });

  it("a sync of one file leaves another as it is", async () => {
    const disk = diskOf({ "/log/a": A, "/log/b": A });
    await write(disk, "/log/a", 0, B);
    await write(disk, "/log/b", 0, B, true);
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${A}\n/log/b=${B}`, `/log/a=${B}\n/log/b=${B}`]));
  });
});

describe("what a power cut leaves of names", () => {
  it("a new name may be gone until its directory is synced, whatever was synced of the file", async () => {
    const disk = diskOf({ "/log/old": "x" });
    await create(disk, "/log/a");
    await write(disk, "/log/a", 0, "text", true);
    expect(atomsOf(disk)).toEqual(["name /log/a"]);
    expect(statesOf(disk)).toEqual(new Set(["/log/old=x", "/log/a=text\n/log/old=x"]));
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set(["/log/a=text\n/log/old=x"]));
  });

  it("a new directory may be gone with all that is in it", async () => {
    const disk = new SimDisk();
    await disk.mkdir("/log");
    await create(disk, "/log/a");
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set(["", "/log/a="]));
    await disk.syncDir("/");
    expect(statesOf(disk)).toEqual(new Set(["/log/a="]));
  });

  it("a rename may leave both names, either or none", async () => {
    const disk = diskOf({ "/log/a": "x" });
    await disk.rename("/log/a", "/log/b");
    expect(statesOf(disk)).toEqual(new Set(["", "/log/a=x", "/log/b=x", "/log/a=x\n/log/b=x"]));
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set(["/log/b=x"]));
  });

  it("a rename over a file leaves the one or the other under that name, and never none", async () => {
    const disk = diskOf({ "/log/a": "new", "/log/b": "old" });
    await disk.rename("/log/a", "/log/b");
    const wanted = ["/log/b=old", "/log/b=new", "/log/a=new\n/log/b=old", "/log/a=new\n/log/b=new"];
    expect(statesOf(disk)).toEqual(new Set(wanted));
  });

  it("a file that was removed may be back, with any of the contents it had", async () => {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 0, B);
    await disk.unlink("/log/a");
    expect(statesOf(disk)).toEqual(new Set(["", `/log/a=${A}`, `/log/a=${B}`]));
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set([""]));
  });

  it("a directory that was removed may be back", async () => {
    const disk = diskOf({ "/log/a": "x" });
    await disk.mkdir("/d");
    await disk.syncDir("/");
    await disk.rmdir("/d");
    const point = disk.crashPoint();
    const lists = await Promise.all(masksOf(point).map((mask) => disk.imageOf(point, mask).list("/")));
    expect(lists.map((names) => names.join()).sort()).toEqual(["log", "log,d"]);
  });

  it("rename() moves directories with what they hold, and refuses what would tie a knot", async () => {
    const disk = diskOf({ "/d/e/a": "x" });
    await expect(disk.rename("/d", "/d/e/f")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(disk.rename("/d", "/d/new")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(disk.rename("/d/e", "/d")).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await expect(disk.rename("/", "/e")).rejects.toMatchObject({ code: "EBUSY" });
    await expect(disk.rename("/d", "/")).rejects.toMatchObject({ code: "EBUSY" });
    await disk.rename("/d/e", "/f");
    expect(seen(disk)).toBe("/f/a=x");
    expect(statesOf(disk)).toEqual(new Set(["", "/d/e/a=x", "/f/a=x", "/d/e/a=x\n/f/a=x"]));
  });
});

describe("directories that went into each other by turns", () => {
  it("are never left holding each other", async () => {
    const disk = diskOf({ "/x/a": "1", "/y/b": "2" });
    await disk.rename("/x", "/y/x");
    await disk.rename("/y/x", "/x");
    await disk.rename("/y", "/x/y");
    expect(statesOf(disk)).toContain("/x/a=1\n/x/y/b=2");
    expect(statesOf(disk)).toContain("/x/a=1\n/y/b=2");
    expect(atomsOf(disk)).toEqual(["name /x", "name /y", "name /x/y", "name /x/y/x"]);
  });
});

describe("a sync that failed", () => {
  async function failed(pages: "clean" | "revert" | "dirty" | undefined): Promise<SimDisk> {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 0, B + B);
    disk.inject({ on: "sync", error: "EIO", pages });
    await expect(sync(disk, "/log/a")).rejects.toMatchObject({ code: "EIO", syscall: "fdatasync" });
    return disk;
  }
  const everything = new Set([A, B, A + ZERO, B + ZERO, A + B, B + B].map((each) => `/log/a=${each}`));

  it("leaves its pages clean: reads see them, the next sync says yes, and a power cut loses them", async () => {
    for (const pages of ["clean", undefined] as const) {
      const disk = await failed(pages);
      expect(seen(disk)).toBe(`/log/a=${B}${B}`);
      await sync(disk, "/log/a");
      expect(statesOf(disk)).toEqual(everything);
      // Only what is written again is synced again.
      await write(disk, "/log/a", 0, C, true);
      expect(statesOf(disk)).toEqual(new Set([C, C + ZERO, C + B].map((each) => `/log/a=${each}`)));
      await write(disk, "/log/a", 512, C, true);
      expect(statesOf(disk)).toEqual(new Set([C, C + C].map((each) => `/log/a=${each}`)));
    }
  });

  it("throws its pages away when told to revert: reads see what was durable, and a crash may still leave the new", async () => {
    const disk = await failed("revert");
    expect(seen(disk)).toBe(`/log/a=${A}`);
    await sync(disk, "/log/a");
    expect(statesOf(disk)).toEqual(everything);
  });

  it("leaves its pages dirty when told to: the next sync writes them", async () => {
    const disk = await failed("dirty");
    expect(statesOf(disk)).toEqual(everything);
    await sync(disk, "/log/a");
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${B}${B}`]));
  });

  it("has not come as far as the pages when it fails for another reason", async () => {
    const disk = diskOf({ "/log/a": A });
    await write(disk, "/log/a", 0, B);
    disk.inject({ on: "sync", error: "EBADF" });
    await expect(sync(disk, "/log/a")).rejects.toMatchObject({ code: "EBADF" });
    await sync(disk, "/log/a");
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${B}`]));
  });

  it("of a directory leaves its names clean: the next one says yes, and a power cut loses them", async () => {
    const disk = diskOf({ "/log/a": "x" });
    await create(disk, "/log/b");
    disk.inject({ on: "syncDir", error: "EIO" });
    await expect(disk.syncDir("/log")).rejects.toMatchObject({ code: "EIO" });
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set(["/log/a=x", "/log/a=x\n/log/b="]));
    // A name that is given anew is synced anew.
    await disk.unlink("/log/b");
    await create(disk, "/log/b");
    await disk.syncDir("/log");
    expect(statesOf(disk)).toEqual(new Set(["/log/a=x\n/log/b="]));
  });
});

// ---- a model that is too simple to be wrong

/** One thing that reaches the disk as a whole: what it may be after a crash, oldest first, and whether a sync writes it. */
class Choice<T> {
  possible: T[];
  now: T;
  dirty = false;

  constructor(durable: T) {
    this.possible = [durable];
    this.now = durable;
  }

  set(value: T): void {
    this.possible.push(value);
    this.now = value;
    this.dirty = true;
  }

  sync(): void {
    if (this.dirty) this.possible = [this.now];
  }

  fail(revert: boolean): void {
    this.dirty = false;
    if (revert) this.now = this.possible[0] as T;
  }
}

const SECTOR = 512;
const SECTORS = 4;

class ModelFile {
  readonly sectors = Array.from({ length: SECTORS }, () => new Choice(ZERO));
  readonly size = new Choice(0);

  write(position: number, letters: string): void {
    for (const [i, sector] of this.sectors.entries()) {
      const from = Math.max(position, i * SECTOR);
      const to = Math.min(position + letters.length, (i + 1) * SECTOR);
      if (from >= to) continue;
      const base = i * SECTOR;
      const part = letters.slice(from - position, to - position);
      sector.set(sector.now.slice(0, from - base) + part + sector.now.slice(to - base));
    }
    if (position + letters.length > this.size.now) this.size.set(position + letters.length);
  }

  truncate(size: number): void {
    if (size === this.size.now) return;
    for (const [i, sector] of this.sectors.entries()) {
      const kept = Math.min(SECTOR, Math.max(0, size - i * SECTOR));
      const next = sector.now.slice(0, kept) + ZERO.slice(kept);
      if (size < this.size.now && next !== sector.now) sector.set(next);
    }
    this.size.set(size);
  }

  get choices(): Choice<unknown>[] {
    return [...this.sectors, this.size];
  }

  contents(size: number, sectors: readonly string[]): string {
    return sectors.join("").slice(0, size);
  }
}

class ModelDirectory {
  readonly names = new Map<string, Choice<ModelFile | undefined>>();

  at(name: string): Choice<ModelFile | undefined> {
    let choice = this.names.get(name);
    if (choice === undefined) {
      choice = new Choice<ModelFile | undefined>(undefined);
      this.names.set(name, choice);
    }
    return choice;
  }
}

const paths = ["/d/a", "/d/b", "/e/a"] as const;
type Path = (typeof paths)[number];

class ModelDisk {
  readonly directories = { "/d": new ModelDirectory(), "/e": new ModelDirectory() };

  name(path: Path): Choice<ModelFile | undefined> {
    return this.directories[path.slice(0, 2) as "/d" | "/e"].at(path.slice(3));
  }

  seen(): string {
    const files = paths.map((path) => {
      const file = this.name(path).now;
      return file === undefined
        ? undefined
        : `${path}=${file.contents(
            file.size.now,
            file.sectors.map((sector) => sector.now),
          )}`;
    });
    return files.filter((each) => each !== undefined).join("\n");
  }

  /** Every state there may be, or undefined when there are more than `limit` ways to choose. */
  states(limit: number): Set<string> | undefined {
    const names = paths.map((path) => this.name(path));
    const files = new Set(names.flatMap((name) => name.possible).filter((file) => file !== undefined));
    const variants = new Map<ModelFile, string[]>();
    let ways = 1;
    for (const file of files) {
      const all = new Set<string>();
      let count = 1;
      for (const each of file.choices) count *= new Set(each.possible).size;
      if (count > limit) return undefined;
      for (const size of file.size.possible) {
        for (const sectors of product(file.sectors.map((sector) => sector.possible))) {
          all.add(file.contents(size, sectors));
        }
      }
      variants.set(file, [...all]);
      ways *= all.size;
    }
    for (const name of names) ways *= name.possible.length;
    if (ways > limit) return undefined;
    const order = [...variants.keys()];
    const states = new Set<string>();
    for (const contents of product([...variants.values()])) {
      for (const chosen of product(names.map((name) => [...new Set(name.possible)]))) {
        const lines = chosen.map((file, i) =>
          file === undefined ? undefined : `${paths[i]}=${contents[order.indexOf(file)]}`,
        );
        states.add(lines.filter((line) => line !== undefined).join("\n"));
      }
    }
    return states;
  }
}

function product<T>(lists: readonly (readonly T[])[]): T[][] {
  let all: T[][] = [[]];
  for (const list of lists) all = all.flatMap((before) => [...new Set(list)].map((each) => [...before, each]));
  return all;
}

type Step = (disk: SimDisk, model: ModelDisk) => Promise<void>;

const pathOf = fc.constantFrom(...paths);
const letterOf = fc.constantFrom(..."pqrs");
const positionOf = fc.constantFrom(0, 1, 300, 511, 512, 513, 900, 1024);
const lengthOf = fc.constantFrom(1, 2, 212, 512, 600);

/** Opens a name that is there; does nothing when none is. */
async function withFile(
  disk: SimDisk,
  model: ModelDisk,
  path: Path,
  use: (file: DiskFile, model: ModelFile) => Promise<void> | void,
): Promise<void> {
  const file = model.name(path).now;
  if (file === undefined) {
    await expect(disk.open(path, "write")).rejects.toMatchObject({ code: "ENOENT" });
    return;
  }
  const opened = await disk.open(path, "write");
  await use(opened, file);
  await opened.close();
}

const changes: fc.Arbitrary<Step>[] = [
  fc.tuple(pathOf, positionOf, lengthOf, letterOf, fc.boolean()).map(
    ([path, position, length, letter, now]): Step =>
      (disk, model) =>
        withFile(disk, model, path, async (file, expected) => {
          const letters = letter.repeat(length);
          if (now) file.write(bytes(letters), 0, length, position);
          else await file.writeLater(bytes(letters), 0, length, position, false);
          expected.write(position, letters);
        }),
  ),
  fc.tuple(pathOf, positionOf).map(
    ([path, size]): Step =>
      (disk, model) =>
        withFile(disk, model, path, async (file, expected) => {
          await file.truncate(size);
          expected.truncate(size);
        }),
  ),
  pathOf.map(
    (path): Step =>
      async (disk, model) => {
        const name = model.name(path);
        if (name.now !== undefined) {
          await expect(disk.open(path, "create")).rejects.toMatchObject({ code: "EEXIST" });
          return;
        }
        await create(disk, path);
        name.set(new ModelFile());
      },
  ),
  fc.tuple(pathOf, pathOf).map(
    ([from, to]): Step =>
      async (disk, model) => {
        const file = model.name(from).now;
        if (file === undefined) {
          await expect(disk.rename(from, to)).rejects.toMatchObject({ code: "ENOENT" });
          return;
        }
        await disk.rename(from, to);
        if (model.name(to).now === file) return;
        model.name(from).set(undefined);
        model.name(to).set(file);
      },
  ),
  pathOf.map(
    (path): Step =>
      async (disk, model) => {
        if (model.name(path).now === undefined) {
          await expect(disk.unlink(path)).rejects.toMatchObject({ code: "ENOENT" });
          return;
        }
        await disk.unlink(path);
        model.name(path).set(undefined);
      },
  ),
];

const syncs: fc.Arbitrary<Step>[] = [
  fc.tuple(pathOf, fc.constantFrom("now", "later", "commit")).map(
    ([path, how]): Step =>
      (disk, model) =>
        withFile(disk, model, path, async (file, expected) => {
          if (how === "now") file.sync();
          else if (how === "later") await file.writeLater(new Uint8Array(0), 0, 0, 0, true);
          else await file.commit(new Uint8Array(0), 0, 0, 0);
          for (const each of expected.choices) each.sync();
        }),
  ),
  fc.constantFrom("/d" as const, "/e" as const).map(
    (dir): Step =>
      async (disk, model) => {
        await disk.syncDir(dir);
        for (const name of model.directories[dir].names.values()) name.sync();
      },
  ),
];

const failures: fc.Arbitrary<Step>[] = [
  fc.tuple(pathOf, fc.constantFrom("clean" as const, "revert" as const, "dirty" as const)).map(
    ([path, pages]): Step =>
      (disk, model) =>
        withFile(disk, model, path, async (file, expected) => {
          disk.inject({ on: "sync", error: "EIO", pages });
          expect(() => file.sync()).toThrow(expect.objectContaining({ code: "EIO" }));
          if (pages !== "dirty") for (const each of expected.choices) each.fail(pages === "revert");
        }),
  ),
  fc.constantFrom("/d" as const, "/e" as const).map(
    (dir): Step =>
      async (disk, model) => {
        disk.inject({ on: "syncDir", error: "EIO" });
        await expect(disk.syncDir(dir)).rejects.toMatchObject({ code: "EIO" });
        for (const name of model.directories[dir].names.values()) name.fail(false);
      },
  ),
];

async function bothAfter(
  steps: readonly Step[],
  options?: SimDiskOptions,
): Promise<{ disk: SimDisk; model: ModelDisk }> {
  const disk = new SimDisk(options);
  await disk.mkdir("/d");
  await disk.mkdir("/e");
  await create(disk, "/d/a");
  disk.makeDurable();
  const model = new ModelDisk();
  model.name("/d/a").possible = [(model.name("/d/a").now = new ModelFile())];
  for (const step of steps) {
    await step(disk, model);
    expect(seen(disk)).toBe(model.seen());
  }
  return { disk, model };
}

const MOST_WAYS = 3000;

/** Runs of steps whose states are few enough to be listed, each time with what the model says they are. */
async function forRuns(
  steps: fc.Arbitrary<Step[]>,
  numRuns: number,
  check: (disk: SimDisk, wanted: Set<string>) => void,
): Promise<void> {
  let judged = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (each) => {
      const { disk, model } = await bothAfter(each);
      const wanted = model.states(MOST_WAYS);
      if (wanted === undefined) return;
      judged++;
      check(disk, wanted);
    }),
    { numRuns },
  );
  expect(judged).toBeGreaterThan(numRuns / 4);
}

describe("SimDisk beside a model that keeps lists of what may be", () => {
  const any = fc.array(fc.oneof(...changes, ...changes, ...syncs, ...failures), { maxLength: 9 });

  it("posix leaves exactly what the model says, in every run", async () => {
    await forRuns(any, 300, (disk, wanted) => {
      expect(statesOf(disk)).toEqual(wanted);
    });
  });

  it("ext4 and prefix leave nothing that posix does not", async () => {
    await forRuns(any, 200, (disk, wanted) => {
      for (const model of ["ext4", "prefix"] as const) {
        for (const state of statesOf(disk, model)) expect(wanted).toContain(state);
      }
    });
  });

  it("kill() keeps what reads see and what is known of syncs", async () => {
    await forRuns(any, 100, (disk, wanted) => {
      const killed = disk.kill();
      expect(seen(killed)).toBe(seen(disk));
      expect(statesOf(killed)).toEqual(wanted);
      expect(new Set(statesOf(disk, "kill"))).toEqual(new Set([seen(disk)]));
    });
  });

  it("powerCut() leaves one of the states, and what it leaves is durable", async () => {
    await forRuns(any, 100, (disk, wanted) => {
      const whole = disk.crashPoint();
      const cut = disk.powerCut(masksOf(whole, 10).find(isWhole));
      expect(wanted).toContain(seen(cut));
      expect(cut.crashPoint().atoms).toEqual([]);
      expect(statesOf(cut)).toEqual(new Set([seen(cut)]));
    });
  });

  it("prefix leaves what reads saw at some moment, and each of those, when nothing was synced", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...changes), { maxLength: 9 }), async (steps) => {
        const moments = new Set<string>();
        const { disk } = await bothAfter(steps.flatMap((step) => [step, async (at) => void moments.add(seen(at))]));
        moments.add("/d/a=");
        const found = statesOf(disk, "prefix");
        for (const moment of moments) expect(found).toContain(moment);
        // Between two of them: a write of several sectors of which some are there, a rename of which half is.
        const point = disk.crashPoint("prefix");
        const stamps = new Set(point.atoms.flatMap((atom) => atom.stamps));
        const pure = masksOf(point).filter((mask) => isWhole(mask) && isMoment(point.atoms, mask, stamps));
        for (const mask of pure) expect(moments).toContain(stateOf(disk, mask, point));
      }),
      { numRuns: 200 },
    );
  });

  it("a crash point stays as it is while the disk goes on", async () => {
    await fc.assert(
      fc.asyncProperty(any, any, async (before, after) => {
        const { disk, model } = await bothAfter(before);
        const wanted = model.states(MOST_WAYS);
        const point = disk.crashPoint();
        const masks = masksOf(point).filter(isWhole);
        const digests = masks.map((mask) => point.image(mask).digest);
        const image = disk.imageOf(point, point.newest());
        for (const step of after) await step(disk, model);
        // Neither does what happens on an image come back to the point.
        for (const path of image.dump().keys()) await write(image, path, 0, "zzz");
        expect(masks.map((mask) => point.image(mask).digest)).toEqual(digests);
        if (wanted !== undefined) {
          expect(new Set(masks.map((mask) => stateOf(disk, mask, point)))).toEqual(wanted);
        }
      }),
      { numRuns: 100 },
    );
  });

  it("equal states have equal digests, and others have others", async () => {
    await forRuns(any, 100, (disk, wanted) => {
      const point = disk.crashPoint();
      const byDigest = new Map<number, string>();
      for (const mask of masksOf(point).filter(isWhole)) {
        const { digest } = point.image(mask);
        const state = stateOf(disk, mask, point);
        expect(byDigest.get(digest) ?? state).toBe(state);
        byDigest.set(digest, state);
        expect(disk.imageOf(point, mask).contentHash).toBe(digest.toString(16).padStart(14, "0"));
      }
      expect(byDigest.size).toBe(wanted.size);
    });
  });
});

/** Does the mask keep all that was made up to some operation, and nothing of what came later? */
function isMoment(atoms: readonly Atom[], mask: Mask, stamps: ReadonlySet<number>): boolean {
  return [-1, ...stamps].some((moment) =>
    atoms.every((atom, at) => mask[at] === atom.stamps.filter((stamp) => stamp <= moment).length),
  );
}

describe("weaker models", () => {
  it("ext4 and prefix leave an appended file at a length it had, with its bytes, however often it grew", async () => {
    const disk = diskOf({ "/log/a": "" });
    const moments = new Set<string>(["/log/a="]);
    for (let i = 0; i < 60; i++) {
      await write(disk, "/log/a", i * 20, String.fromCharCode(65 + (i % 26)).repeat(20));
      moments.add(seen(disk));
    }
    for (const state of statesOf(disk, "ext4")) expect(moments).toContain(state);
    // Apart from the write at the edge, whose size may be there without its data.
    const point = disk.crashPoint("prefix");
    const whole = masksOf(point).map((mask) => stateOf(disk, mask, point).replace(/\0+$/, ""));
    const texts = [...moments];
    for (const state of whole) expect(texts.some((moment) => moment.startsWith(state))).toBe(true);
    expect(statesOf(disk, "ext4")).toContain(seen(disk));
    expect(statesOf(disk, "ext4")).toContain("/log/a=");
  });

  it("ext4 keeps names in the order they were given, and sectors that were written over in none", async () => {
    const disk = diskOf({ "/log/a": A + A });
    await create(disk, "/log/b");
    await disk.rename("/log/b", "/log/c");
    const names = new Set([...statesOf(disk, "ext4")].map((state) => state.replace(/=\w*/g, "")));
    expect(names).toEqual(new Set(["/log/a", "/log/a\n/log/b", "/log/a\n/log/c"]));
    await write(disk, "/log/a", 0, B);
    await write(disk, "/log/a", 512, B);
    expect(statesOf(disk, "ext4")).toContain(`/log/a=${A}${B}`);
    expect(statesOf(disk, "prefix")).not.toContain(`/log/a=${A}${B}`);
  });

  it("kill leaves a prefix of the write that was under way, and all else as reads see it", async () => {
    const disk = diskOf({ "/log/a": A, "/log/b": "x" }, { model: "kill" });
    await write(disk, "/log/b", 0, "y");
    const points: CrashPoint[] = [];
    disk.onAmidWrite = (take) => points.push(take());
    await write(disk, "/log/a", 500, "b".repeat(600));
    expect(points).toHaveLength(1);
    const [point] = points as [CrashPoint];
    expect(point.atoms).toHaveLength(1);
    const lengths = new Set<number>();
    for (const mask of masksOf(point, 50)) {
      const [cut] = mask as [number];
      lengths.add(cut);
      const wanted = cut === 0 ? A : A.slice(0, 500) + "b".repeat(cut) + A.slice(500 + cut);
      expect(stateOf(disk, mask, point)).toBe(`/log/a=${wanted}\n/log/b=y`);
      expect(parseMask(formatMask(mask))).toEqual(mask);
    }
    expect(lengths.size).toBeGreaterThan(20);
    expect([...lengths]).toEqual(expect.arrayContaining([0, 599]));
  });
});

describe("masks", () => {
  it("parseMask() reads what formatMask() wrote, and nothing else", () => {
    const choice = fc.oneof(fc.nat(35), fc.constantFrom(100, 101, 102), fc.nat(5000));
    fc.assert(
      fc.property(fc.array(fc.tuple(choice, fc.integer({ min: 1, max: 9 }))), (runs) => {
        const mask = runs.flatMap(([each, times]) => Array<number>(times).fill(each));
        const written = formatMask(mask);
        expect(written).toMatch(/^\S+$/);
        expect(parseMask(written)).toEqual(mask);
      }),
    );
    expect(formatMask([])).toBe("-");
    expect(formatMask([0, 1, 1, 1, 1, 35, 100, 101, 102])).toBe("01*4.zPSG");
    for (const broken of ["!", "0*3", "A", "01*.", "<5", " "]) expect(parseMask(broken)).toBeUndefined();
  });

  it("masks() gives all there are when they are few, and no more than the limit, each of use, when they are many", async () => {
    const disk = diskOf({ "/log/a": A.repeat(40) });
    await write(disk, "/log/a", 0, B.repeat(3));
    expect(masksOf(disk.crashPoint()).filter(isWhole)).toHaveLength(8);
    await write(disk, "/log/a", 0, B.repeat(40));
    const point = disk.crashPoint();
    const masks = [...point.masks(64, new Random(7))];
    expect(masks.length).toBeLessThanOrEqual(64);
    const written = masks.map(formatMask);
    expect(new Set(written).size).toBeGreaterThan(50);
    expect(written).toContain(formatMask(point.newest()));
    expect(written).toContain(formatMask(point.newest().map(() => 0)));
    expect([...point.masks(64, new Random(7))]).toEqual(masks);
  });
});

// ---- faults

describe("faults", () => {
  /** Has one operation of each kind done that can fail: letting go of a lock cannot. */
  const each: Readonly<Record<Exclude<DiskOperation, "unlock">, (disk: SimDisk) => Promise<unknown> | unknown>> = {
    open: (disk) => disk.open("/log/a", "read"),
    create: (disk) => disk.open("/log/new", "create"),
    list: (disk) => disk.list("/log"),
    stat: (disk) => disk.stat("/log/a"),
    mkdir: (disk) => disk.mkdir("/log/d"),
    rmdir: (disk) => disk.rmdir("/log/empty"),
    rename: (disk) => disk.rename("/log/a", "/log/b"),
    unlink: (disk) => disk.unlink("/log/a"),
    syncDir: (disk) => disk.syncDir("/log"),
    lock: (disk) => disk.lock("/log"),
    read: (disk) => disk.openNow("/log/a").read(new Uint8Array(1), 0, 1, 0),
    write: (disk) => write(disk, "/log/a", 0, "new"),
    sync: (disk) => sync(disk, "/log/a"),
    truncate: (disk) => truncate(disk, "/log/a", 1),
    close: (disk) => disk.openNow("/log/a").close(),
  };

  async function furnished(): Promise<SimDisk> {
    const disk = diskOf({ "/log/a": "old" });
    await disk.mkdir("/log/empty");
    return disk;
  }

  async function errorOf(work: () => unknown): Promise<string | undefined> {
    try {
      await work();
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  }

  it("an error strikes the operation it is meant for, once, and changes nothing", async () => {
    for (const on of Object.keys(each) as (keyof typeof each)[]) {
      const disk = await furnished();
      const before = seen(disk);
      const fault = disk.inject({ on, error: "EIO" });
      for (const [other, work] of Object.entries(each)) {
        // These open and close on the way.
        const passes = other !== on && ["list", "stat", "syncDir"].includes(other);
        if (passes) expect(await errorOf(() => work(disk))).toBeUndefined();
      }
      expect(fault.struck).toBe(0);
      expect(await errorOf(() => each[on](disk))).toBe("EIO");
      expect(seen(disk)).toBe(before);
      expect([fault.seen, fault.struck]).toEqual([1, 1]);
      expect(disk.trace.filter(({ error }) => error !== undefined)).toMatchObject([{ operation: on, error: "EIO" }]);
      expect(await errorOf(() => each[on](disk))).toBeUndefined();
    }
  });

  it("`on` takes several operations, and any when it is left out", async () => {
    const disk = await furnished();
    disk.inject({ on: ["rename", "unlink"], error: "EIO", times: 2 });
    expect(await errorOf(() => disk.list("/log"))).toBeUndefined();
    expect(await errorOf(() => disk.rename("/log/a", "/log/b"))).toBe("EIO");
    expect(await errorOf(() => disk.unlink("/log/a"))).toBe("EIO");
    disk.inject({ error: "EACCES", times: 3 });
    expect(await errorOf(() => disk.list("/log"))).toBe("EACCES");
    expect(await errorOf(() => disk.stat("/log/a"))).toBe("EACCES");
    expect(await errorOf(() => disk.openNow("/log/a"))).toBe("EACCES");
    expect(await errorOf(() => disk.openNow("/log/a"))).toBeUndefined();
  });

  it("`path` is a pattern or the end of a path, and for a rename either of the two", async () => {
    const disk = diskOf({ "/log/a": "x", "/log/ba": "x", "/log/c": "x" });
    const named = disk.inject({ on: "open", path: "a", error: "EIO", times: Number.POSITIVE_INFINITY });
    expect(await errorOf(() => disk.openNow("/log/ba"))).toBeUndefined();
    expect(await errorOf(() => disk.openNow("/log/a"))).toBe("EIO");
    expect(named.struck).toBe(1);
    disk.inject({ on: "stat", path: /c$/, error: "EIO" });
    expect(await errorOf(() => disk.stat("/log/a"))).toBeUndefined();
    expect(await errorOf(() => disk.stat("/log/c"))).toBe("EIO");
    disk.inject({ on: "rename", path: "new", error: "EIO", times: 2 });
    expect(await errorOf(() => disk.rename("/log/c", "/log/d"))).toBeUndefined();
    expect(await errorOf(() => disk.rename("/log/d", "/log/new"))).toBe("EIO");
    expect(seen(disk)).toContain("/log/d=x");
  });

  it("`nth` and `times` say which of those that match it strikes", async () => {
    const disk = await furnished();
    const fault = disk.inject({ on: "list", nth: 3, times: 2, error: "EIO" });
    const outcomes: (string | undefined)[] = [];
    for (let i = 0; i < 6; i++) outcomes.push(await errorOf(() => disk.list("/log")));
    expect(outcomes).toEqual([undefined, undefined, "EIO", "EIO", undefined, undefined]);
    expect([fault.seen, fault.struck]).toEqual([6, 2]);
  });

  it("`bytes` with an error are what got through of the write before it", async () => {
    for (const how of ["write", "writeLater", "commit"] as const) {
      const disk = diskOf({ "/log/a": "......" });
      const file = await disk.open("/log/a", "write");
      disk.inject({ on: "write", error: "EIO", bytes: 2 });
      const source = bytes("abcdef");
      await expect(
        (async () => {
          if (how === "write") file.write(source, 0, 6, 0);
          else if (how === "commit") await file.commit(source, 0, 6, 0);
          else await file.writeLater(source, 0, 6, 0, false);
        })(),
      ).rejects.toMatchObject({ code: "EIO", bytesWritten: 2 });
      expect(seen(disk)).toBe("/log/a=ab....");
    }
  });

  it("`bytes` alone make a write short, which a Disk goes on with, and count in the error that ends it", async () => {
    for (const how of ["write", "writeLater", "commit"] as const) {
      const disk = diskOf({ "/log/a": "" });
      const file = await disk.open("/log/a", "write");
      const put = async (letters: string, position: number): Promise<void> => {
        const source = bytes(letters);
        if (how === "write") file.write(source, 0, source.length, position);
        else if (how === "commit") await file.commit(source, 0, source.length, position);
        else await file.writeLater(source, 0, source.length, position, false);
      };
      disk.inject({ on: "write", bytes: 2, times: 2 });
      await put("abcdef", 0);
      expect(seen(disk)).toBe("/log/a=abcdef");
      disk.inject({ on: "write", bytes: 3 });
      disk.inject({ on: "write", nth: 2, error: "EIO", bytes: 1 });
      // The first one ends the look at the second: it counts from the next write on.
      disk.inject({ on: "write", error: "EIO", bytes: 1 });
      await expect(put("ABCDEF", 0)).rejects.toMatchObject({ code: "EIO", bytesWritten: 4 });
      expect(seen(disk)).toBe("/log/a=ABCDef");
      disk.heal();
      disk.inject({ on: "write", bytes: 0 });
      await expect(put("xyz", 0)).rejects.toMatchObject({ code: "EIO" });
    }
  });

  it("`bytes` make a read short", async () => {
    const disk = diskOf({ "/log/a": "abcdef" });
    disk.inject({ on: "read", bytes: 2 });
    expect(disk.openNow("/log/a").read(new Uint8Array(6), 0, 6, 0)).toBe(2);
    expect(disk.openNow("/log/a").read(new Uint8Array(6), 0, 6, 0)).toBe(6);
  });

  it("a write that is `lost` reports success and has done nothing", async () => {
    const disk = diskOf({ "/log/a": "old" });
    disk.inject({ on: "write", lie: "lost" });
    await write(disk, "/log/a", 0, "new");
    expect(seen(disk)).toBe("/log/a=old");
    expect(disk.trace.find(({ operation }) => operation === "write")?.error).toBe("lost");
  });

  it("a sync that is `lost` reports success and has done nothing", async () => {
    const disk = diskOf({ "/log/a": "old" });
    await write(disk, "/log/a", 0, "new");
    disk.inject({ on: "sync", lie: "lost", times: 2 });
    await sync(disk, "/log/a");
    await write(disk, "/log/a", 0, "new", true);
    expect(statesOf(disk)).toEqual(new Set(["/log/a=old", "/log/a=new"]));
    await create(disk, "/log/b");
    disk.inject({ on: "syncDir", lie: "lost" });
    await disk.syncDir("/log");
    expect(disk.crashPoint().atoms.map(({ kind }) => kind)).toContain("name");
  });

  it("a write that is `misdirected` goes elsewhere", async () => {
    const disk = diskOf({ "/log/a": A });
    disk.inject({ on: "write", lie: "misdirected", distance: 5 });
    await write(disk, "/log/a", 0, "new");
    expect(seen(disk)).toBe(`/log/a=${A.slice(0, 5)}new${A.slice(8)}`);
    disk.inject({ on: "write", lie: "misdirected" });
    await write(disk, "/log/a", 1, "far");
    expect(seen(disk)).toBe(`/log/a=${A.slice(0, 5)}new${A.slice(8)}\0far`);
  });

  it("a read that is `flipped` gives one bit wrong, and the next one is right", async () => {
    const disk = diskOf({ "/log/a": A });
    disk.inject({ on: "read", lie: "flipped" });
    const file = disk.openNow("/log/a");
    const target = new Uint8Array(512);
    expect(file.read(target, 0, 512, 0)).toBe(512);
    const wrong = [...target].map((byte) => byte ^ 0x61).filter((byte) => byte !== 0);
    expect(wrong).toHaveLength(1);
    expect(Math.log2(wrong[0] as number) % 1).toBe(0);
    file.read(target, 0, 512, 0);
    expect(text(target)).toBe(A);
  });

  it("a sync that `hang`s returns when it is released, and heal() releases it", async () => {
    for (const release of ["release", "heal"] as const) {
      const disk = diskOf({ "/log/a": "old" });
      const file = await disk.open("/log/a", "write");
      const fault = disk.inject({ on: ["sync", "syncDir"], lie: "hang", times: 2 });
      const done: string[] = [];
      const synced = file.writeLater(bytes("new"), 0, 3, 0, true).then(() => done.push("file"));
      const named = disk.syncDir("/log").then(() => done.push("directory"));
      for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
      expect([done, fault.struck]).toEqual([[], 2]);
      expect(statesOf(disk)).toEqual(new Set(["/log/a=old", "/log/a=new"]));
      if (release === "heal") disk.heal();
      else fault.release();
      await Promise.all([synced, named]);
      expect(done.sort()).toEqual(["directory", "file"]);
      expect(statesOf(disk)).toEqual(new Set(["/log/a=new"]));
    }
  });

  it("a rule that could strike nothing, or do nothing, is a RangeError", () => {
    const rules: unknown[] = [
      {},
      { on: "sync" },
      { on: "snyc", error: "EIO" },
      { on: ["sync", "fsync"], error: "EIO" },
      { error: "oops" },
      { error: "EIO", nth: 0 },
      { error: "EIO", times: 0 },
      { error: "EIO", pages: "x" },
      { lie: "cheat" },
      { on: "read", lie: "lost" },
      { on: "open", lie: "hang" },
    ];
    for (const rule of rules) {
      expect(() => new SimDisk().inject(rule as FaultRule), JSON.stringify(rule)).toThrow(RangeError);
    }
  });

  it("options that make no sense are a RangeError", () => {
    const options: unknown[] = [{ sectorBytes: 100 }, { model: "ntfs" }, { capacity: -1 }, { handles: Number.NaN }];
    for (const each of options) {
      expect(() => new SimDisk(each as SimDiskOptions), JSON.stringify(each)).toThrow(RangeError);
    }
  });

  it("heal() takes every fault away", async () => {
    const disk = await furnished();
    disk.inject({ error: "EIO", times: Number.POSITIVE_INFINITY });
    expect(await errorOf(() => disk.list("/log"))).toBe("EIO");
    disk.heal();
    expect(await errorOf(() => disk.list("/log"))).toBeUndefined();
  });

  it("capacity bounds all files together: what there is room for is written, then ENOSPC", async () => {
    const disk = new SimDisk({ capacity: 10 });
    await create(disk, "/a");
    await create(disk, "/b");
    await write(disk, "/a", 0, "012345");
    expect(disk.usedBytes).toBe(6);
    await expect(write(disk, "/b", 0, "012345")).rejects.toMatchObject({ code: "ENOSPC", bytesWritten: 4 });
    const file = await disk.open("/b", "write");
    expect(() => file.write(bytes("xyz"), 0, 3, 3)).toThrow(
      expect.objectContaining({ code: "ENOSPC", bytesWritten: 1 }),
    );
    file.write(bytes("over"), 0, 4, 0);
    await file.close();
    expect(seen(disk)).toBe("/a=012345\n/b=over");
    await disk.unlink("/a");
    await write(disk, "/b", 4, "456789");
    disk.capacity = 20;
    await write(disk, "/b", 10, "0123456789");
    expect(disk.usedBytes).toBe(20);
  });

  it("handles bound the files that are open, with EMFILE", async () => {
    const disk = diskOf({ "/a": "x" }, { handles: 2 });
    const first = await disk.open("/a", "read");
    disk.openNow("/a");
    expect(disk.openHandles).toBe(2);
    await expect(disk.open("/a", "read")).rejects.toMatchObject({ code: "EMFILE" });
    await expect(disk.open("/b", "create")).rejects.toMatchObject({ code: "EMFILE" });
    await first.close();
    await (await disk.open("/b", "create")).close();
    expect(disk.kill().openHandles).toBe(0);
  });
});

// ---- time, and the same again

describe("time", () => {
  it("latency orders what completes, one a turn, and what took effect is what was due", async () => {
    const times: Partial<Record<DiskOperation, number>> = { list: 9, stat: 3, write: 6, mkdir: 3 };
    const disk = new SimDisk({ latency: (operation) => times[operation] ?? 0 });
    await create(disk, "/a");
    const file = await disk.open("/a", "write");
    const order: string[] = [];
    await Promise.all([
      disk.list("/").then((names) => order.push(`list ${names.join()} ${disk.now}`)),
      disk.stat("/a").then((stat) => order.push(`stat ${stat?.size} ${disk.now}`)),
      file.writeLater(bytes("x"), 0, 1, 0, false).then(() => order.push(`write ${disk.now}`)),
      disk.mkdir("/d").then(() => order.push(`mkdir ${disk.now}`)),
    ]);
    expect(order).toEqual(["stat 0 3", "mkdir 3", "write 6", "list a,d 9"]);
  });

  it("a blocking call takes its time", () => {
    const disk = diskOf({ "/a": "x" }, { latency: () => 4 });
    const file = disk.openNow("/a");
    file.read(new Uint8Array(1), 0, 1, 0);
    file.sync();
    expect(disk.now).toBe(8);
  });

  it("the buffer of a write is read when it takes effect", async () => {
    for (const latency of [undefined, () => 2]) {
      const disk = diskOf({ "/a": "" }, { latency });
      const file = await disk.open("/a", "write");
      const source = bytes("before");
      const written = file.writeLater(source, 0, 6, 0, false);
      source.set(bytes("after!"));
      await written;
      expect(seen(disk)).toBe("/a=after!");
      source.set(bytes("later!"));
      expect(seen(disk)).toBe("/a=after!");
    }
  });
});

describe("the same again", () => {
  /** A bit of everything, drawn from the seed. */
  async function run(seed: number, options: SimDiskOptions = {}): Promise<SimDisk> {
    const random = new Random(seed);
    const disk = new SimDisk({ seed, latency: (_operation, drawn) => drawn.below(7), ...options });
    await disk.mkdir("/log");
    disk.inject({ on: "write", nth: 9, bytes: 3 });
    disk.inject({ on: "sync", nth: 4, error: "EIO" });
    disk.inject({ on: "read", nth: 2, lie: "flipped" });
    const work = async (name: string): Promise<void> => {
      const file = await disk.open(`/log/${name}`, "create");
      for (let i = 0; i < 8; i++) {
        const source = new Uint8Array(1 + random.below(900));
        random.fill(source);
        await file.writeLater(source, 0, source.length, random.below(2000), random.chance(0.3)).catch(() => {});
        const target = new Uint8Array(100);
        await file.readLater(target, 0, 100, random.below(500));
        if (random.chance(0.2)) await file.truncate(random.below(1500));
      }
      await file.close();
      await disk.rename(`/log/${name}`, `/log/${name}.done`);
      await disk.syncDir("/log");
    };
    await Promise.all(["a", "b", "c"].map(work));
    disk.entropy(new Uint8Array(8));
    return disk;
  }

  it("the same seed gives the same trace, bytes and crashes, on every platform and version of Node.js", async () => {
    const disk = await run(42);
    const again = await run(42);
    expect(again.trace).toEqual(disk.trace);
    const cut = disk.powerCut();
    expect(again.powerCut().contentHash).toBe(cut.contentHash);
    // Written down once. Where these differ, seeds of one machine mean nothing on another.
    expect([disk.operations, disk.now, disk.traceHash, disk.contentHash, cut.contentHash]).toEqual([
      75,
      84,
      "14549a92aed99c",
      "1a4cb411e0fb74",
      "1b02793d44f143",
    ]);
  });

  it("another seed gives another trace", async () => {
    expect((await run(43)).traceHash).not.toBe((await run(42)).traceHash);
  });

  it("the trace has every operation with its place, its time and how it failed", async () => {
    const disk = diskOf({ "/log/a": "old" }, { latency: () => 2 });
    disk.inject({ on: "rename", error: "EIO" });
    await write(disk, "/log/a", 1, "new");
    await disk.rename("/log/a", "/log/b").catch(() => {});
    expect(disk.trace).toEqual([
      { number: 1, operation: "open", path: "/log/a", at: 2 },
      { number: 2, operation: "write", path: "/log/a", offset: 1, bytes: 3, at: 4 },
      { number: 3, operation: "close", path: "/log/a", at: 4 },
      { number: 4, operation: "rename", path: "/log/a", to: "/log/b", at: 6, error: "EIO" },
    ]);
    expect(disk.operations).toBe(4);
    const quiet = diskOf({ "/log/a": "old" }, { trace: false });
    await write(quiet, "/log/a", 1, "new");
    expect([quiet.trace, quiet.operations]).toEqual([[], 3]);
  });

  it("watchers are told of an operation before it takes effect", async () => {
    const disk = diskOf({ "/log/a": "old" });
    const told: string[] = [];
    disk.watchers.push((operation, path, to) => told.push(`${operation} ${path} ${to ?? ""} ${seen(disk)}`));
    await disk.rename("/log/a", "/log/b");
    await disk.unlink("/log/b");
    expect(told).toEqual(["rename /log/a /log/b /log/a=old", "unlink /log/b  /log/b=old"]);
  });
});

// ---- behind its back

describe("behind the back of whoever uses it", () => {
  it("put() and from() place files durably, and open handles see it", async () => {
    const disk = diskOf({ "/log/a": "old", "/log/deep/b": "x" });
    expect(disk.operations).toBe(0);
    expect(disk.crashPoint().atoms).toEqual([]);
    const file = disk.openNow("/log/a");
    disk.put("/log/a", bytes("newer"));
    expect(file.size()).toBe(5);
    await create(disk, "/log/c");
    disk.put("/log/c", bytes("c"));
    expect(statesOf(disk)).toEqual(new Set(["/log/a=newer\n/log/c=c\n/log/deep/b=x"]));
    expect(() => disk.put("/log/a/b", bytes("x"))).toThrow(expect.objectContaining({ code: "ENOTDIR" }));
    expect(() => disk.put("/", bytes("x"))).toThrow(expect.objectContaining({ code: "EISDIR" }));
  });

  it("makeDurable() leaves nothing to lose", async () => {
    const disk = diskOf({ "/log/a": "old" });
    await write(disk, "/log/a", 0, "new");
    await create(disk, "/log/b");
    await disk.mkdir("/log/d");
    disk.makeDurable();
    expect(disk.crashPoint().atoms).toEqual([]);
    expect(statesOf(disk)).toEqual(new Set(["/log/a=new\n/log/b="]));
  });

  it("flip() and spoil() rot a file, on the disk and in every cache, and make nothing else durable", async () => {
    const disk = diskOf({ "/log/a": A + A });
    await write(disk, "/log/a", 512, B);
    disk.flip("/log/a", 8 * 3 + 1);
    const rotten = `${A.slice(0, 3)}c${A.slice(4)}`;
    expect(statesOf(disk)).toEqual(new Set([`/log/a=${rotten}${A}`, `/log/a=${rotten}${B}`]));
    expect(() => disk.flip("/log/a", 8 * 1024)).toThrow(RangeError);
    disk.spoil("/log/a", 0, 10, 0x2e);
    expect(seen(disk)).toBe(`/log/a=${".".repeat(10)}${A.slice(10)}${B}`);
    disk.spoil("/log/a", 0, 10);
    expect(seen(disk)).not.toContain("....");
  });

  it("powerCut() and kill() take handles, locks and faults away, and leave the old disk alone", async () => {
    const disk = diskOf({ "/log/a": "old" }, { capacity: 100, handles: 5 });
    await disk.lock("/log");
    const file = await disk.open("/log/a", "write");
    file.write(bytes("new"), 0, 3, 0);
    disk.inject({ on: "list", error: "EIO", times: Number.POSITIVE_INFINITY });
    for (const next of [disk.powerCut(), disk.kill()]) {
      expect([next.openHandles, next.locks]).toEqual([0, 0]);
      expect(await next.list("/log")).toEqual(["a"]);
      await (await next.lock("/log")).release();
      await write(next, "/log/a", 0, "NEXT", true);
      expect(seen(next)).toBe("/log/a=NEXT");
    }
    expect(seen(disk)).toBe("/log/a=new");
    expect(statesOf(disk)).toEqual(new Set(["/log/a=old", "/log/a=new"]));
    file.sync();
    expect(statesOf(disk)).toEqual(new Set(["/log/a=new"]));
    await file.close();
  });

  it("a sync after kill() covers what was written before it", async () => {
    const disk = diskOf({ "/log/a": "old" });
    await write(disk, "/log/a", 0, "new");
    await create(disk, "/log/b");
    const next = disk.kill();
    await sync(next, "/log/a");
    await next.syncDir("/log");
    expect(statesOf(next)).toEqual(new Set(["/log/a=new\n/log/b="]));
    expect(statesOf(disk).size).toBe(4);
  });

  it("entropy() repeats for a seed and differs between seeds", () => {
    const draw = (disk: SimDisk): string => {
      const target = new Uint8Array(16);
      disk.entropy(target);
      return target.join();
    };
    const disk = new SimDisk({ seed: 5 });
    const first = draw(disk);
    expect(draw(disk)).not.toBe(first);
    expect(draw(new SimDisk({ seed: 5 }))).toBe(first);
    expect(draw(new SimDisk({ seed: 6 }))).not.toBe(first);
    expect(draw(disk.kill())).not.toBe(first);
  });
});
