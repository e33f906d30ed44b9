// FileStorage's contracts beyond the suite of WritableStorage: visibility, order, input, snapshots, limits, locks, options
// and what a log takes on disk. Crashes and failures are in test/recovery.

import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { MAX_INDEX } from "../../src/base/bytes.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { type Entry, EntryType, emptyConfState } from "../../src/raftpb/types.js";
import { FileStorage, type FileStorageOptions } from "../../src/storage/file-storage.js";
import { codeOf, fill, hard, noted, open, run, stateOf, voters } from "../recovery/helpers.js";
import { errno, type Operation, TestDisk } from "../recovery/test-disk.js";

const root = await mkdtemp(join(tmpdir(), "stablelog-contract-"));
let places = 0;

afterAll(() => rm(root, { recursive: true, force: true }));

function place(): string {
  return join(root, String(places++), "nested", "log");
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function* stream(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    await turn();
    yield chunk;
  }
}

async function collected(data: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of data) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function inMemory(options: FileStorageOptions = {}): Promise<FileStorage> {
  return FileStorage.open("/log", { disk: new MemoryDisk(), ...options });
}

describe("visibility and order", () => {
  for (const sync of ["inline", "worker"] as const) {
    it(`reads answer as before a save until it resolves, over rotations too (sync ${sync})`, async () => {
      const disk = new TestDisk();
      disk.turns = () => 2;
      const storage = await open(disk, { sync });
      let last = 0;
      let resolved = 0;
      for (let round = 0; round < 30; round++) {
        const saves: Promise<void>[] = [];
        for (let i = 0; i < 3; i++) {
          const index = ++last;
          saves.push(
            storage.save({ entries: run(index, 1, 1, 600), hardState: hard(1, index) }).then(() => {
              resolved = Math.max(resolved, index);
              expect(storage.lastIndex()).toBeGreaterThanOrEqual(index);
            }),
          );
          // Called and not begun: nothing of it shows.
          if (i === 0) expect(storage.lastIndex()).toBe(resolved);
        }
        let done = false;
        const all = Promise.all(saves).then(() => {
          done = true;
        });
        while (!done) {
          const seen = storage.lastIndex();
          expect(seen).toBeGreaterThanOrEqual(resolved);
          expect(seen).toBeLessThanOrEqual(last);
          // What shows is whole: the HardState of the save that the last entry came with.
          expect(storage.initialState().hardState.commit).toBe(seen);
          if (seen > 0) expect(storage.entries(seen, seen + 1)).toEqual(run(seen, 1, 1, 600));
          await turn();
        }
        await all;
      }
      expect(storage.stats().segments).toBeGreaterThan(5);
      await storage.close();
    });
  }

  it("save() has copied the caller's buffers and arrays when it returns", async () => {
    const storage = await inMemory();
    const entries = run(1, 3);
    const hardState = hard(1, 2);
    const saved = storage.save({ entries, hardState });
    for (const entry of entries) {
      entry.data.fill(0xff);
      entry.term = 99;
    }
    entries.length = 0;
    hardState.commit = 77;
    const metadata = { index: 2, term: 1, confState: voters(1n) };
    const data = fill(50, 1);
    const made = storage.createSnapshot(2, metadata.confState, data);
    data.fill(0);
    metadata.confState.voters.push(9n);
    await saved;
    await made;
    expect(storage.entries(1, 4)).toEqual(run(1, 3));
    expect(storage.initialState()).toEqual({ hardState: hard(1, 2), confState: voters(1n) });
    expect(storage.snapshot().data).toEqual(fill(50, 1));
    const received = fill(60, 2);
    const install = { index: 9, term: 3, confState: voters(4n) };
    const installed = storage.save({ snapshot: { metadata: install, data: received } });
    received.fill(1);
    install.confState.voters.length = 0;
    await installed;
    expect(storage.snapshot()).toEqual({ metadata: { index: 9, term: 3, confState: voters(4n) }, data: fill(60, 2) });
    await storage.close();
  });

  it("saves resolve in the order of their calls, and save({}) after all before it", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const storage = await open(disk, { sync: "worker" });
    const order: number[] = [];
    const calls: Promise<unknown>[] = [];
    for (let i = 1; i <= 20; i++) {
      const batch = i % 5 === 0 ? {} : { entries: run(i - Math.floor(i / 5), 1, 1, 900) };
      calls.push(storage.save(batch).then(() => order.push(i)));
      if (i % 3 === 0) await turn();
    }
    await Promise.all(calls);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    await storage.close();
  });

  it("a commit-only save resolves without a sync, is covered by the next one, and survives close()", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 3), hardState: hard(1, 1) });
    const { syncs } = storage.stats();
    await storage.save({ hardState: hard(1, 2), mustSync: false });
    expect(storage.stats().syncs).toBe(syncs);
    expect(storage.initialState().hardState.commit).toBe(2);
    await storage.save({ hardState: { term: 1, vote: 2n, commit: 2 }, mustSync: false });
    expect(storage.stats().syncs).toBe(syncs + 1);
    await storage.save({ hardState: { term: 1, vote: 2n, commit: 3 }, mustSync: true });
    expect(storage.stats().syncs).toBe(syncs + 2);
    await storage.save({ entries: run(4, 1), mustSync: false });
    expect(storage.stats().syncs).toBe(syncs + 3);
    await storage.save({ hardState: { term: 1, vote: 2n, commit: 4 } });
    expect(storage.stats().syncs).toBe(syncs + 3);
    await storage.close();
    const again = await open(disk.powerCut(() => 0));
    expect(again.initialState().hardState.commit).toBe(4);
    await again.close();
  });
});

describe("closing", () => {
  it("close() waits for pending saves, snapshots and compactions; afterwards everything is ERR_CLOSED", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const storage = await open(disk, { sync: "worker" });
    const done: string[] = [];
    const calls = [
      storage.save({ entries: run(1, 5, 1, 800), hardState: hard(1, 4) }).then(() => done.push("save")),
      storage.createSnapshot(3, voters(1n), stream(fill(10, 1), fill(20, 2))).then(() => done.push("snapshot")),
      storage.compact(2).then(() => done.push("compact")),
    ];
    const closed = storage.close();
    for (const late of [storage.save({}), storage.compact(3), storage.createSnapshot(4, undefined, fill(1, 1))]) {
      expect((await codeOf(late)).code).toBe("ERR_CLOSED");
    }
    await closed;
    expect(done).toEqual(["save", "snapshot", "compact"]);
    await Promise.all(calls);
    for (const read of [
      () => storage.firstIndex(),
      () => storage.lastIndex(),
      () => storage.term(3),
      () => storage.entries(3, 4),
      () => storage.snapshot(),
      () => storage.readSnapshot(),
      () => storage.initialState(),
    ]) {
      expect(read).toThrow(expect.objectContaining({ code: "ERR_CLOSED" }));
    }
    const metadata = { index: 9, term: 1, confState: voters(1n) };
    expect((await codeOf(storage.stageSnapshot(metadata, stream()))).code).toBe("ERR_CLOSED");
    expect((await codeOf(storage.verify())).code).toBe("ERR_CLOSED");
    expect(storage.stats().state).toBe("closed");
    await storage.close();
    expect(disk.openFiles).toBe(0);
    const again = await open(disk);
    expect([again.firstIndex(), again.lastIndex(), again.snapshot().metadata.index]).toEqual([3, 5, 3]);
    await again.close();
  });

  it("close() right behind a save with a snapshot lets nothing run on in the directory", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const storage = await open(disk);
    await storage.createSnapshot(0, undefined, fill(1, 1)).catch(() => {});
    const metadata = { index: 5, term: 1, confState: voters(1n) };
    const saved = storage.save({ snapshot: { metadata, data: fill(9, 1) }, hardState: hard(1, 5) });
    await storage.close();
    const operations: string[] = [];
    disk.before = (operation, name) => operations.push(`${operation} ${name}`);
    for (let i = 0; i < 20; i++) await turn();
    expect(operations).toEqual([]);
    await saved;
  });

  it("a snapshot that is staged when close() comes, or is never taken, leaves no file", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    const metadata = { index: 5, term: 1, confState: voters(1n) };
    await storage.stageSnapshot(metadata, stream(fill(9, 1)));
    await storage.stageSnapshot(metadata, stream(fill(9, 2)));
    expect([...disk.files().keys()].filter((name) => name.includes("snapshot")).length).toBe(1);
    const late = storage.stageSnapshot(metadata, stream(fill(9, 3), fill(9, 4)));
    late.catch(() => {});
    await storage.close();
    expect((await codeOf(late)).code).toBe("ERR_CLOSED");
    expect([...disk.files().keys()]).toEqual(["STATE"]);
  });

  it("await using closes", async () => {
    const disk = new MemoryDisk();
    {
      await using storage = await inMemory({ disk });
      await storage.save({ entries: run(1, 1) });
    }
    const again = await inMemory({ disk });
    expect(again.lastIndex()).toBe(1);
    await again.close();
  });
});

describe("opening", () => {
  it("a second opener is ERR_LOCKED, on both disks, until the first has closed", async () => {
    for (const [dir, options] of [
      ["/log", { disk: new MemoryDisk() }],
      [place(), {}],
    ] as [string, FileStorageOptions][]) {
      const first = await FileStorage.open(dir, options);
      expect((await codeOf(FileStorage.open(dir, options))).code).toBe("ERR_LOCKED");
      await first.save({ entries: run(1, 1) });
      await first.close();
      await (await FileStorage.open(dir, options)).close();
    }
  });

  it("readOnly looks at a running log and at a killed one, shows what is durable and changes nothing", async () => {
    const disk = new TestDisk();
    const writer = await open(disk);
    for (let i = 1; i <= 30; i++) await writer.save({ entries: run(i, 1, 1, 300), hardState: hard(1, i) });
    await writer.createSnapshot(9, voters(1n), fill(30, 1));
    await noted();
    for (const each of [disk, disk.killed()]) {
      const before = each.files();
      const reader = await open(each, { readOnly: true });
      expect(stateOf(reader)).toBe(stateOf(writer));
      for (const call of [
        reader.save({ entries: run(31, 1) }),
        reader.save({}),
        reader.compact(3),
        reader.createSnapshot(10, undefined, fill(1, 1)),
        reader.stageSnapshot({ index: 99, term: 1, confState: voters(1n) }, stream()),
      ]) {
        expect((await codeOf(call)).code).toBe("ERR_READ_ONLY");
      }
      expect((await reader.verify()).damage).toEqual([]);
      await reader.close();
      expect(each.files()).toEqual(before);
    }
    await writer.close();
  });

  it("readOnly sees a prefix at every moment of a log that is written, compacted and recycled meanwhile", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const writer = await open(disk, { sync: "worker" });
    await writer.save({ entries: run(1, 2, 1, 500), hardState: hard(1, 1) });
    let writing = true;
    const work = (async () => {
      for (let i = 3; i <= 120; i++) {
        await writer.save({ entries: run(i, 1, 1, 500), hardState: hard(1, i) });
        if (i % 20 === 0) await writer.compact(i - 10);
      }
      writing = false;
    })();
    let last = 0;
    let looks = 0;
    while (writing) {
      const floor = writer.lastIndex();
      const reader = await open(disk, { readOnly: true });
      expect(reader.lastIndex()).toBeGreaterThanOrEqual(Math.max(last, floor));
      last = reader.lastIndex();
      expect(reader.initialState().hardState.commit).toBe(last === 2 ? 1 : last);
      await reader.close();
      looks++;
    }
    await work;
    expect(looks).toBeGreaterThan(5);
    await writer.close();
  });

  it("create: false and readOnly are ERR_NOT_FOUND where no log is, and make nothing", async () => {
    for (const options of [{ create: false }, { readOnly: true }]) {
      const dir = place();
      expect((await codeOf(FileStorage.open(dir, options))).code).toBe("ERR_NOT_FOUND");
      expect(await stat(dir).catch(() => undefined)).toBeUndefined();
      const empty = new TestDisk();
      empty.put("notes.txt", fill(3, 3));
      expect((await codeOf(open(empty, options))).code).toBe("ERR_NOT_FOUND");
      expect([...empty.files().keys()]).toEqual(["notes.txt"]);
    }
    const dir = place();
    await (await FileStorage.open(dir)).close();
    await (await FileStorage.open(dir, { create: false })).close();
    await (await FileStorage.open(dir, { readOnly: true })).close();
  });

  it("a directory with an etcd member's files, or a file in place of the directory, is ERR_FOREIGN", async () => {
    for (const name of ["wal", "snap", "member", "0000000000000000-0000000000000000.wal"]) {
      const disk = new TestDisk();
      disk.put(name, fill(3, 3));
      expect((await codeOf(open(disk))).code).toBe("ERR_FOREIGN");
      expect([...disk.files().keys()]).toEqual([name]);
    }
    expect((await codeOf(FileStorage.open(import.meta.filename))).code).toBe("ERR_FOREIGN");
  });

  it("metadata is fixed at creation: another value is ERR_FOREIGN and changes nothing", async () => {
    const disk = new TestDisk();
    const metadata = fill(4096, 7);
    const storage = await open(disk, { metadata });
    expect(storage.metadata).toEqual(metadata);
    await storage.save({ entries: run(1, 1) });
    await storage.close();
    const before = disk.files();
    for (const other of [fill(4096, 8), fill(3, 7), new Uint8Array(0)]) {
      expect((await codeOf(open(disk, { metadata: other }))).code).toBe("ERR_FOREIGN");
      expect((await codeOf(open(disk, { metadata: other, readOnly: true }))).code).toBe("ERR_FOREIGN");
    }
    expect(disk.files()).toEqual(before);
    for (const options of [{ metadata }, {}]) {
      const again = await open(disk, options);
      expect(again.metadata).toEqual(metadata);
      await again.close();
    }
    expect((await codeOf(open(new TestDisk(), { metadata: fill(4097, 1) }))).code).toBe("ERR_INVALID_ARGUMENT");
  });

  it("bad options are ERR_INVALID_ARGUMENT before anything is made", async () => {
    const bad: unknown[] = [
      { segmentBytes: 4095 },
      { segmentBytes: 1024 ** 3 + 1 },
      { segmentBytes: 5000.5 },
      { cacheBytes: -1 },
      { snapshotBytes: null },
      { maxPendingBytes: "1" },
      { sync: "fast" },
      { create: 1 },
      { readOnly: "yes" },
      { metadata: "me" },
      { onAmbiguousTail: "keep" },
      { disk: null },
      null,
    ];
    const dir = place();
    for (const options of bad) {
      expect((await codeOf(FileStorage.open(dir, options as FileStorageOptions))).code).toBe("ERR_INVALID_ARGUMENT");
    }
    expect((await codeOf(FileStorage.open(""))).code).toBe("ERR_INVALID_ARGUMENT");
    expect(await stat(dir).catch(() => undefined)).toBeUndefined();
  });

  it("verdicts: created, then clean", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    expect(storage.recovery).toMatchObject({ verdict: "created", droppedBytes: 0, carriedEntries: 0 });
    await storage.close();
    const again = await open(disk);
    expect(again.recovery.verdict).toBe("clean");
    await again.close();
  });
});

describe("sizes", () => {
  it("a save larger than a segment, and one of 100,000 entries, are one save each", async () => {
    for (const options of [{ segmentBytes: 4096, cacheBytes: 0 }, {}]) {
      const disk = new MemoryDisk();
      const storage = await inMemory({ disk, ...options });
      await storage.save({ entries: run(1, 40, 1, 3000), hardState: hard(1, 5) });
      const many: Entry[] = Array.from({ length: 100_000 }, (_, i) => ({
        term: 2 + Math.floor(i / 30_000),
        index: 41 + i,
        type: EntryType.Normal,
        data: new Uint8Array(i % 3),
      }));
      await storage.save({ entries: many });
      expect(storage.stats().saves).toBe(2);
      for (const each of [storage, await inMemory({ disk: disk.clone(), ...options })]) {
        expect(each.lastIndex()).toBe(100_040);
        expect(each.entries(1, 41)).toEqual(run(1, 40, 1, 3000));
        expect(each.entries(30_000, 30_100)).toEqual(many.slice(29_959, 30_059));
        expect([each.term(41), each.term(100_040)]).toEqual([2, 5]);
        await each.close();
      }
    }
  });

  it("an entry of 64 MiB is taken, one byte more is ERR_TOO_LARGE", async () => {
    const disk = new MemoryDisk();
    const storage = await inMemory({ disk });
    const data = new Uint8Array(64 * 1024 * 1024);
    data.fill(7, 0, 100);
    data.fill(9, data.length - 100);
    const entry = { term: 1, index: 1, type: EntryType.Normal, data };
    const over = { ...entry, data: new Uint8Array(data.length + 1) };
    expect((await codeOf(storage.save({ entries: [over] }))).code).toBe("ERR_TOO_LARGE");
    await storage.save({ entries: [entry] });
    await storage.close();
    const again = await inMemory({ disk });
    const [read] = again.entries(1, 2) as [Entry];
    expect(Buffer.compare(read.data, data)).toBe(0);
    await again.close();
  });

  it("payloads of no bytes, indexes up to 2^53 - 2 and terms as large are kept", async () => {
    for (const cacheBytes of [0, 1 << 20]) {
      const disk = new MemoryDisk();
      const storage = await inMemory({ disk, cacheBytes });
      const metadata = { index: MAX_INDEX - 5, term: MAX_INDEX - 3, confState: emptyConfState() };
      await storage.save({ snapshot: { metadata, data: fill(4, 1) }, hardState: hard(MAX_INDEX - 3, MAX_INDEX - 5) });
      const entries = run(MAX_INDEX - 4, 5, MAX_INDEX - 2, 0);
      entries.push({ ...(entries[4] as Entry) });
      expect((await codeOf(storage.save({ entries: [{ ...(entries[0] as Entry), index: MAX_INDEX + 1 }] }))).code).toBe(
        "ERR_INVALID_ARGUMENT",
      );
      entries.pop();
      await storage.save({ entries, hardState: hard(MAX_INDEX, MAX_INDEX, 0xffffffffffffffffn) });
      await storage.compact(MAX_INDEX - 2);
      for (const each of [storage, await inMemory({ disk: disk.clone(), cacheBytes })]) {
        expect([each.firstIndex(), each.lastIndex()]).toEqual([MAX_INDEX - 1, MAX_INDEX]);
        expect(each.entries(MAX_INDEX - 1, MAX_INDEX + 1)).toEqual(entries.slice(3));
        expect([each.term(MAX_INDEX - 2), each.term(MAX_INDEX)]).toEqual([MAX_INDEX - 2, MAX_INDEX - 2]);
        expect(each.initialState().hardState).toEqual(hard(MAX_INDEX, MAX_INDEX, 0xffffffffffffffffn));
        await each.close();
      }
    }
  });

  it("the queue is bounded by maxPendingBytes; a lone save may be larger, and a refused one takes nothing with it", async () => {
    const disk = new TestDisk();
    const storage = await open(disk, { maxPendingBytes: 4000 });
    await storage.save({ entries: run(1, 1, 1, 9000) });
    const first = storage.save({ entries: run(2, 1, 1, 3000) });
    expect((await codeOf(storage.save({ entries: run(3, 1, 1, 3000) }))).code).toBe("ERR_TOO_LARGE");
    const metadata = { index: 9, term: 1, confState: voters(1n) };
    const large = { snapshot: { metadata, data: fill(1, 1) }, entries: run(10, 1, 1, 3000) };
    const second = storage.save({ entries: run(3, 1, 1, 100) });
    expect((await codeOf(storage.save(large))).code).toBe("ERR_TOO_LARGE");
    await storage.save({});
    await Promise.all([first, second]);
    expect(storage.lastIndex()).toBe(3);
    await storage.save(large);
    expect(storage.lastIndex()).toBe(10);
    await storage.close();
  });

  it("a fresh log takes less than 1 MiB on disk, and no more once closed", async () => {
    const dir = place();
    const storage = await FileStorage.open(dir);
    const taken = async (): Promise<number> => {
      let blocks = 0;
      for (const name of await readdir(dir)) blocks += (await stat(join(dir, name))).blocks;
      return blocks * 512;
    };
    expect(await taken()).toBeLessThan(1 << 20);
    await storage.save({ entries: run(1, 3), hardState: hard(1, 1) });
    expect(await taken()).toBeLessThan(1 << 20);
    await storage.close();
    expect(await taken()).toBeLessThan(100_000);
  });

  it("file handles stay bounded however many segments a log has", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    for (let i = 1; i <= 200; i++) await storage.save({ entries: run(i, 1, 1, 3900) });
    expect(storage.stats().segments).toBeGreaterThan(100);
    expect(disk.openFiles).toBeLessThan(80);
    for (let i = 1; i <= 200; i++) expect(storage.entries(i, i + 1)).toEqual(run(i, 1, 1, 3900));
    expect(disk.openFiles).toBeLessThan(80);
    await storage.close();
    expect(disk.openFiles).toBe(0);
  });
});

describe("snapshots and compaction", () => {
  it("a snapshot streams in and out in chunks, and snapshot() leaves data above snapshotBytes to readSnapshot()", async () => {
    const disk = new MemoryDisk();
    const storage = await inMemory({ disk, snapshotBytes: 1000 });
    await storage.save({ entries: run(1, 5), hardState: hard(1, 5) });
    const chunks = [fill(3_000_000, 1), new Uint8Array(0), fill(17, 2), fill(1024 * 1024, 3)];
    const made = await storage.createSnapshot(4, voters(1n), stream(...chunks));
    expect(made).toEqual({ index: 4, term: 1, confState: voters(1n) });
    for (const each of [storage, await inMemory({ disk: disk.clone(), snapshotBytes: 1000 })]) {
      expect(each.snapshot()).toEqual({ metadata: made, data: new Uint8Array(0) });
      const read = each.readSnapshot();
      expect(read?.metadata).toEqual(made);
      const bytes = await collected((read as NonNullable<typeof read>).data);
      expect(Buffer.compare(bytes, Buffer.concat(chunks))).toBe(0);
      await each.close();
    }
    const whole = await inMemory({ disk });
    expect(whole.snapshot().data.length).toBe(3_000_017 + 1024 * 1024);
    await whole.close();
  });

  it("a snapshot file that cannot be read, or is cut short meanwhile, ends its stream with a code and the place", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 5), hardState: hard(1, 5) });
    await storage.createSnapshot(4, voters(1n), fill(5000, 1));
    const name = [...disk.files().keys()].find((each) => each.endsWith(".snapshot")) as string;
    const size = disk.get(name).length;
    const fail = (failing: Operation) => (): void => {
      disk.before = (operation, on) => {
        if (operation === failing && on === name) throw errno("EIO");
      };
    };
    // The first chunk's length was read, and was sound, when next() returns; its data is still to be read.
    disk.turns = () => 1;
    const first = async (meanwhile: () => void) => {
      const chunks = storage.readSnapshot()?.data[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
      const next = codeOf(chunks.next());
      meanwhile();
      const error = await next;
      disk.before = () => {};
      return error;
    };
    const unread = await first(fail("read"));
    expect(unread).toMatchObject({ code: "ERR_READ", file: name, cause: { code: "EIO" } });
    const cut = await first(() => disk.truncateNow(name, size - 1000));
    expect(cut).toMatchObject({ code: "ERR_CORRUPT", file: name, offset: unread.offset });
    expect(cut.offset).toBeLessThan(size - 1000);
    fail("openNow")();
    expect(await first(() => {})).toMatchObject({ code: "ERR_READ", file: name, offset: 0, cause: { code: "EIO" } });
    await storage.close();
    expect(disk.openFiles).toBe(0);
  });

  it("a staged snapshot is taken by a save of its metadata with no data, and by no other", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    const metadata = { index: 9, term: 2, confState: voters(1n) };
    await storage.stageSnapshot(metadata, stream(fill(700, 1), fill(5, 2)));
    const other = { index: 8, term: 2, confState: voters(1n) };
    await storage.save({ snapshot: { metadata: other, data: new Uint8Array(0) } });
    expect(storage.snapshot().data.length).toBe(0);
    await storage.save({ snapshot: { metadata, data: new Uint8Array(0) }, hardState: hard(2, 9) });
    expect(storage.snapshot()).toEqual({ metadata, data: Uint8Array.from([...fill(700, 1), ...fill(5, 2)]) });
    await storage.close();
    const again = await open(disk);
    expect(again.snapshot().data.length).toBe(705);
    expect((await again.verify()).damage).toEqual([]);
    await again.close();
  });

  it("two snapshots are kept, and the older goes when a newer is safe", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 9), hardState: hard(1, 9) });
    const names = (from: TestDisk): string[] =>
      [...from.files().keys()].filter((name) => name.includes("snapshot")).map((name) => name.slice(0, 16));
    const hex = (...indexes: number[]): string[] => indexes.map((index) => index.toString(16).padStart(16, "0"));
    for (let index = 1; index <= 5; index++) {
      disk.before = (operation, name) => {
        // While the newest is not named durably, what is there already stays.
        if (operation === "sync" && name.endsWith(".seg")) {
          expect(names(disk)).toEqual(expect.arrayContaining(hex(...[index - 2, index - 1].filter((i) => i > 0))));
        }
      };
      await storage.createSnapshot(index, undefined, fill(10, index));
      disk.before = () => {};
      expect(names(disk).sort()).toEqual(hex(...[index - 1, index].filter((i) => i > 0)));
    }
    await storage.close();
  });

  it("snapshots that are saved in a burst are all there, each when its save is durable", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const storage = await open(disk);
    const images: { index: number; disk: TestDisk }[] = [];
    const saves = [];
    for (let index = 1; index <= 8; index++) {
      const metadata = { index: index * 10, term: 1, confState: voters(BigInt(index)) };
      const saved = storage.save({ snapshot: { metadata, data: fill(20, index) }, hardState: hard(1, index * 10) });
      saves.push(saved.then(() => images.push({ index, disk: disk.killed() })));
    }
    disk.before = (operation) => {
      if (operation === "unlink" || operation === "rename") images.push({ index: 0, disk: disk.killed() });
    };
    await Promise.all(saves);
    disk.before = () => {};
    await storage.close();
    for (const { index, disk: image } of images) {
      const again = await open(image);
      expect(again.snapshot().metadata.index).toBeGreaterThanOrEqual(index * 10);
      expect((await again.verify()).damage).toEqual([]);
      await again.close();
    }
  });

  it("a save with a snapshot supersedes snapshots that are still being written, which are named nowhere", async () => {
    const disk = new TestDisk();
    disk.turns = () => 1;
    const storage = await open(disk);
    await storage.save({ entries: run(1, 9), hardState: hard(1, 9) });
    const slow = storage.createSnapshot(4, voters(4n), stream(fill(9, 1), fill(9, 2), fill(9, 3), fill(9, 4)));
    const slower = storage.createSnapshot(5, voters(5n), stream(fill(9, 1), fill(9, 2)));
    const compact = storage.compact(5);
    const metadata = { index: 20, term: 2, confState: voters(2n) };
    await storage.save({ snapshot: { metadata, data: fill(20, 2) }, hardState: hard(2, 20) });
    await Promise.all([slow, slower, compact]);
    expect(storage.snapshot()).toEqual({ metadata, data: fill(20, 2) });
    expect((await storage.verify()).damage).toEqual([]);
    await storage.save({ entries: run(21, 2, 2) });
    await storage.createSnapshot(21, undefined, fill(3, 3));
    expect((await storage.verify()).damage).toEqual([]);
    const image = disk.killed();
    await storage.close();
    const again = await open(image);
    expect(again.snapshot().metadata).toEqual({ index: 21, term: 2, confState: voters(2n) });
    expect((await again.verify()).damage).toEqual([]);
    await again.close();
    expect([...disk.files().keys()].filter((name) => name.includes("snapshot")).length).toBe(2);
  });

  it("a stream that throws rejects createSnapshot() and stageSnapshot() alone, and leaves no file", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    await storage.save({ entries: run(1, 3), hardState: hard(1, 3) });
    const broken = async function* (): AsyncGenerator<Uint8Array> {
      yield fill(10, 1);
      throw new Error("the sender went away");
    };
    await expect(storage.createSnapshot(2, undefined, broken())).rejects.toMatchObject({ name: "StableLogError" });
    const metadata = { index: 9, term: 1, confState: voters(1n) };
    await expect(storage.stageSnapshot(metadata, broken())).rejects.toMatchObject({ name: "StableLogError" });
    expect([...disk.files().keys()].filter((name) => name.includes("snapshot"))).toEqual([]);
    await storage.createSnapshot(2, undefined, fill(3, 3));
    expect(storage.stats().state).toBe("open");
    await storage.close();
  });

  it("compact() gives segments back and keeps one spare at most; the log stays as small as what it holds", async () => {
    const disk = new TestDisk();
    const storage = await open(disk);
    let most = 0;
    for (let i = 1; i <= 300; i++) {
      await storage.save({ entries: run(i, 1, 1, 700), hardState: hard(1, i) });
      if (i % 10 === 0) await storage.compact(i - 5);
      most = Math.max(most, disk.files().size);
    }
    expect(storage.stats().segments).toBeLessThan(6);
    // STATE, segments and their indexes, a spare.
    expect(most).toBeLessThan(14);
    expect(storage.entries(296, 301)).toEqual(run(296, 5, 1, 700));
    const state = stateOf(storage);
    const image = disk.killed();
    await storage.close();
    expect([...disk.files().keys()]).not.toContain("spare");
    for (const each of [disk, image]) {
      const again = await open(each);
      expect(stateOf(again)).toBe(state);
      expect((await again.verify()).damage).toEqual([]);
      await again.close();
    }
  });
});

describe("a relative directory", () => {
  it("is the same one when the process changes its own", async () => {
    const before = process.cwd();
    const root = await mkdtemp(join(tmpdir(), "stablelog-cwd-"));
    try {
      await mkdir(join(root, "elsewhere", "log"), { recursive: true });
      process.chdir(root);
      const storage = await FileStorage.open("log", { segmentBytes: 4096 });
      process.chdir(join(root, "elsewhere"));
      for (let i = 1; i <= 6; i++) {
        await storage.save({ entries: [{ term: 1, index: i, type: 0, data: new Uint8Array(2000) }] });
      }
      await storage.close();
      expect(await readdir(join(root, "elsewhere", "log"))).toEqual([]);
      const again = await FileStorage.open(join(root, "log"));
      expect(again.lastIndex()).toBe(6);
      await again.close();
    } finally {
      process.chdir(before);
      await rm(root, { recursive: true, force: true });
    }
  });
});

describe("arguments that cannot be read", () => {
  it("are ERR_INVALID_ARGUMENT and leave the log as it was", async () => {
    const storage = await FileStorage.open("/log", { disk: await emptyDisk() });
    let reads = 0;
    const growing = {
      term: 1,
      index: 1,
      type: 0 as const,
      get data(): Uint8Array {
        return new Uint8Array(reads++ === 0 ? 1 : 1_000_000);
      },
    };
    await expect(storage.save({ entries: [growing] })).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
    await storage.save({ entries: [{ term: 2 ** 53 - 1, index: 1, type: 0, data: new Uint8Array(1) }] });
    expect([storage.lastIndex(), storage.term(1)]).toEqual([1, 2 ** 53 - 1]);
    await storage.close();
  });
});

async function emptyDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir("/log");
  return disk;
}
