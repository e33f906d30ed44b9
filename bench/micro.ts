// The parts of the path that need no disk, by benchmark.js: checksums and where the native one overtakes the other, the
// encoding of a save, the way of a save through the whole storage on a MemoryDisk, reading hot and cold, term().

import * as zlib from "node:zlib";
import Benchmark from "benchmark";
import CRC32 from "crc-32";
import { type Entry, EntryType, FileStorage, MemoryDisk } from "stablelog";
import { machineLines } from "./machine.js";

/** What is measured of the rooms inside; they are no doors of the package, so they are loaded by their place in dist/. */
interface FrameRoom {
  PartWriter: new () => {
    readonly view: DataView;
    readonly stateAt: number;
    begin(bytes: Uint8Array, view: DataView, bodyAt: number, partAt: number, shape: Shape): void;
    record(tag: number, kind: number, data: Uint8Array): void;
    end(): number;
  };
  emptyShape(): Shape;
}
interface Shape {
  hasState: boolean;
  hasRecords: boolean;
  first: number;
  count: number;
  dataBytes: number;
}

async function load<T>(path: string): Promise<T> {
  return (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as T;
}

const SECONDS = 0.5;

/** Runs one function for a while; gives the nanoseconds that a call takes. */
function time(name: string, fn: () => void, seconds = SECONDS): number {
  const bench = new Benchmark(name, fn, { maxTime: seconds, minSamples: 5 });
  bench.run();
  return checkedNs(bench);
}

/** time() of a function that promises. */
function timeAsync(name: string, fn: () => Promise<unknown>): Promise<number> {
  return new Promise((resolve, reject) => {
    const bench = new Benchmark(name, {
      defer: true,
      maxTime: SECONDS,
      minSamples: 5,
      fn: (deferred: { resolve(): void }) => {
        fn().then(() => deferred.resolve(), reject);
      },
      onComplete: () => resolve(checkedNs(bench)),
    });
    bench.run({ async: true });
  });
}

function checkedNs(bench: Benchmark & { error?: Error }): number {
  if (bench.error !== undefined) throw bench.error;
  return bench.stats.mean * 1e9;
}

function line(name: string, ns: number, unit: string, units = 1): void {
  const each = ns / units;
  const rate = Math.round(1e9 / each).toLocaleString("en-US");
  console.log(`${name.padEnd(44)} ${each.toFixed(each < 100 ? 1 : 0).padStart(10)} ns/${unit} ${rate.padStart(14)}/s`);
}

const crcSizes = [16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 384, 512, 1024, 4096, 16_384, 65_536];

interface ChecksumRoom {
  readonly NATIVE_CRC_BYTES: number;
  readonly NATIVE_WORDS_BYTES: number;
  wordsOf(bytes: Uint8Array): Int32Array | undefined;
  crc32Words(words: Int32Array | undefined, bytes: Uint8Array, start: number, end: number): number;
}

/** The size from which on `fast` stays ahead of `slow`. */
function crossoverOf(sizes: readonly number[], slow: readonly number[], fast: readonly number[]): string {
  let from: number | undefined;
  for (const [i, size] of sizes.entries()) {
    if ((fast[i] as number) >= (slow[i] as number)) from = undefined;
    else from ??= size;
  }
  return from === undefined ? "none of these" : `${from} B`;
}

async function checksums(): Promise<void> {
  const room = await load<ChecksumRoom>("base/crc32.js");
  const native = (zlib as { crc32?: (data: Uint8Array, value?: number) => number }).crc32;
  console.log("\nCRC-32, ns a call      crc-32   over words   zlib.crc32   zlib.crc32 of a view");
  if (native === undefined) {
    console.log("this Node.js has no zlib.crc32: the other two do all of it");
    return;
  }
  const columns: number[][] = [[], [], [], []];
  for (const size of crcSizes) {
    const data = new Uint8Array(size).map((_zero, i) => i * 31);
    // As a frame stands in a slab: in the midst of more.
    const slab = new Uint8Array(size + 128);
    slab.set(data, 64);
    const words = room.wordsOf(slab);
    const row = [
      time(`crc-32 ${size}`, () => void CRC32.buf(data, 0), 0.15),
      // Above NATIVE_WORDS_BYTES this is the last column: it hands over.
      time(`words ${size}`, () => void room.crc32Words(words, slab, 64, 64 + size), 0.15),
      time(`zlib.crc32 ${size}`, () => void native(data, 0), 0.15),
      time(`view ${size}`, () => void native(slab.subarray(64, 64 + size), 0), 0.15),
    ];
    for (const [i, ns] of row.entries()) columns[i]?.push(ns);
    console.log(`${`${size} B`.padStart(14)} ${row.map((ns) => ns.toFixed(0).padStart(12)).join(" ")}`);
  }
  const [portable, , fast] = columns as [number[], number[], number[], number[]];
  console.log(
    `zlib.crc32 ahead of crc-32 from ${crossoverOf(crcSizes, portable, fast)}; NATIVE_CRC_BYTES is ${room.NATIVE_CRC_BYTES}`,
  );
  console.log(`over words up to NATIVE_WORDS_BYTES, ${room.NATIVE_WORDS_BYTES} B`);
}

async function encoding(): Promise<void> {
  console.log("\nEncoding, body checksum included");
  const { PartWriter, emptyShape } = await load<FrameRoom>("wal/frame.js");
  const writer = new PartWriter();
  const bytes = new Uint8Array(1024 * 1024);
  const view = new DataView(bytes.buffer);
  const bodyAt = 64;
  for (const [count, dataBytes] of [
    [1, 256],
    [50, 128],
    [64, 4096],
  ] as const) {
    const data = new Uint8Array(dataBytes).fill(0x5a);
    const shape = { ...emptyShape(), hasState: true, hasRecords: true, first: 1, count, dataBytes: count * dataBytes };
    const ns = time("encode", () => {
      writer.begin(bytes, view, bodyAt, bodyAt, shape);
      for (let i = 0; i < count; i++) writer.record(1, 0, data);
      writer.end();
    });
    line(`PartWriter, ${count} x ${dataBytes} B`, ns, "save");
  }
}

async function saving(): Promise<void> {
  console.log("\nFileStorage.save() on a MemoryDisk, nothing synced");
  for (const [savers, count, dataBytes] of [
    [1, 1, 256],
    [64, 1, 256],
    [64, 50, 128],
  ] as const) {
    const storage = await FileStorage.open("/log", {
      disk: new MemoryDisk(),
      sync: "off",
      segmentBytes: 8 * 1024 * 1024,
      cacheBytes: 1024 * 1024,
    });
    const data = new Uint8Array(dataBytes).fill(0x5a);
    let last = 0;
    let compacted = 0;
    const save = (): Promise<void> => {
      const entries: Entry[] = [];
      for (let i = 0; i < count; i++) entries.push({ term: 1, index: ++last, type: EntryType.Normal, data });
      return storage.save({ hardState: { term: 1, vote: 1n, commit: last - 1 }, entries });
    };
    const ns = await timeAsync("save", async () => {
      const saves: Promise<void>[] = [];
      for (let i = 0; i < savers; i++) saves.push(save());
      await Promise.all(saves);
      // The disk is memory: what was written some segments ago must go.
      if (last - compacted < 100_000) return;
      compacted = last;
      await storage.compact(compacted);
    });
    await storage.close();
    line(`${savers} at a time, ${count} x ${dataBytes} B`, ns, "save", savers);
  }
}

async function reading(): Promise<void> {
  console.log("\nReading 100,000 entries of 128 B, in ranges of 16");
  const disk = new MemoryDisk();
  const total = 100_000;
  const perSave = 50;
  const options = { disk, sync: "off", segmentBytes: 4 * 1024 * 1024 } as const;
  const hot = await FileStorage.open("/log", options);
  const data = new Uint8Array(128).fill(0x5a);
  for (let first = 1; first <= total; first += perSave) {
    const entries: Entry[] = [];
    for (let i = 0; i < perSave; i++) entries.push({ term: 1 + (first >> 12), index: first + i, type: 0, data });
    await hot.save({ entries });
  }
  // A walk that visits the whole log in no order a cache would like.
  let at = 1;
  const next = (): number => (at = ((at + 39_119) % (total - 16)) + 1);
  const range = (storage: FileStorage) => (): void => {
    const lo = next();
    storage.entries(lo, lo + 16);
  };
  line("entries(), hot", time("hot", range(hot)), "range");
  line(
    "term(), hot",
    time("term", () => void hot.term(next())),
    "call",
  );
  await hot.close();
  const cold = await FileStorage.open("/log", { ...options, cacheBytes: 0 });
  line("entries(), cold", time("cold", range(cold)), "range");
  line(
    "term(), index from its side file",
    time("term", () => void cold.term(next())),
    "call",
  );
  await cold.close();
}

/** Measures and prints. */
export async function micro(): Promise<void> {
  for (const each of machineLines()) console.log(each);
  await checksums();
  await encoding();
  await saving();
  await reading();
}
