// What the etcd tests share: building segments and snapshot files byte by byte, putting them on a MemoryDisk, and printing
// a member in the lines of the fixtures' *.jsonl files.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect } from "vitest";
import { crc32c } from "../../src/base/crc32.js";
import { type ErrorCode, StableLogError } from "../../src/base/errors.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { type Batch, type MemberContents, type MemberOptions, readBatches } from "../../src/etcd/index.js";
import type { Entry, HardState } from "../../src/raftpb/types.js";

export const fixtures = fileURLToPath(new URL("../fixtures/etcd/", import.meta.url));

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** One protobuf field: a varint for numbers, a length-delimited one for bytes. */
export function field(number: number, value: number | bigint | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return concat(varint(number * 8 + 2), varint(value.length), value);
  return concat(varint(number * 8), varint(value));
}

export function entry(term: number, index: number, data: string | Uint8Array = `e${index}.${term}`, type = 0): Entry {
  const bytes = typeof data === "string" ? new Uint8Array(Buffer.from(data)) : data;
  return { term, index, type: type as Entry["type"], data: bytes };
}

export function encodeEntry({ term, index, type, data }: Entry): Uint8Array {
  return concat(field(1, type), field(2, term), field(3, index), data.length > 0 ? field(4, data) : data);
}

export function encodeState({ term, vote, commit }: HardState): Uint8Array {
  return concat(field(1, term), field(2, vote), field(3, commit));
}

/** A segment as etcd writes it; `offsets` has where each frame begins. */
export class SegmentBuilder {
  readonly offsets: number[] = [];
  crc: number;
  #bytes: Uint8Array = new Uint8Array(0);

  /** `crc` is the running checksum at the end of the segment before. */
  constructor(crc = 0) {
    this.crc = crc;
  }

  /** crc and metadata, as every segment begins. */
  head(metadata = "owner"): this {
    return this.crcRecord(this.crc).record(1, new Uint8Array(Buffer.from(metadata)));
  }

  crcRecord(crc: number): this {
    return this.frame(concat(field(1, 4), field(2, crc)));
  }

  entries(...entries: readonly Entry[]): this {
    for (const each of entries) this.record(2, encodeEntry(each));
    return this;
  }

  state(term: number, commit: number, vote = 1n): this {
    return this.record(3, encodeState({ term, vote, commit }));
  }

  mark(index: number, term: number): this {
    return this.record(5, concat(field(1, index), field(2, term)));
  }

  /** A record with its checksum in the chain. */
  record(type: number, data: Uint8Array): this {
    this.crc = crc32c(data, this.crc);
    return this.frame(concat(field(1, type), field(2, this.crc), data.length > 0 ? field(3, data) : data));
  }

  frame(record: Uint8Array): this {
    const padBytes = (8 - (record.length % 8)) % 8;
    const word = new Uint8Array(8);
    new DataView(word.buffer).setUint32(0, record.length, true);
    if (padBytes > 0) word[7] = 0x80 | padBytes;
    return this.raw(concat(word, record, new Uint8Array(padBytes)));
  }

  raw(bytes: Uint8Array): this {
    this.offsets.push(this.#bytes.length);
    this.#bytes = concat(this.#bytes, bytes);
    return this;
  }

  /** The segment with `zeros` bytes of preallocated space behind it. */
  bytes(zeros = 0): Uint8Array {
    return concat(this.#bytes, new Uint8Array(zeros));
  }
}

export function segmentName(sequence: number, firstIndex: number): string {
  return `wal/${sequence.toString(16).padStart(16, "0")}-${firstIndex.toString(16).padStart(16, "0")}.wal`;
}

export function snapshotName(term: number, index: number): string {
  return `snap/${term.toString(16).padStart(16, "0")}-${index.toString(16).padStart(16, "0")}.snap`;
}

export function snapshotBytes(
  term: number,
  index: number,
  data = "state",
  voters: readonly bigint[] = [1n],
): Uint8Array {
  const confState = concat(...voters.map((voter) => field(1, voter)));
  const metadata = concat(field(1, confState), field(2, index), field(3, term));
  const snapshot = concat(field(1, new Uint8Array(Buffer.from(data))), field(2, metadata));
  return concat(field(1, crc32c(snapshot)), field(2, snapshot));
}

export type Files = Readonly<Record<string, Uint8Array>>;

/** The directory "/m" on a new MemoryDisk with `files` by their name relative to it; wal/ is always there. */
export async function memoryMember(files: Files): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir("/m");
  await disk.mkdir("/m/wal");
  if (Object.keys(files).some((name) => name.startsWith("snap/"))) await disk.mkdir("/m/snap");
  for (const [name, bytes] of Object.entries(files)) {
    const file = await disk.open(`/m/${name}`, "create");
    file.write(bytes, 0, bytes.length, 0);
    await file.close();
  }
  return disk;
}

/** The files of a fixture directory, by their name relative to it. */
export function fixtureFiles(name: string): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  for (const each of readdirSync(`${fixtures}${name}`, { recursive: true, withFileTypes: true })) {
    if (!each.isFile()) continue;
    const room = each.parentPath.split(/[\\/]/).at(-1) ?? "";
    files[`${room}/${each.name}`] = new Uint8Array(readFileSync(`${each.parentPath}/${each.name}`));
  }
  return files;
}

/** The lines of a .jsonl.gz file. */
export function readLines(path: string): string[] {
  return gunzipSync(readFileSync(path)).toString("utf8").trimEnd().split("\n");
}

const typeNames = ["EntryNormal", "EntryConfChange", "EntryConfChangeV2"];

function sha(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex").slice(0, 16);
}

/** A member in the lines that etcd's reader printed; text, because JSON.parse would round a 64-bit ID. */
export function memberLines({ metadata, hardState, snapshot, entries }: MemberContents): string[] {
  const lines: string[] = [];
  if (snapshot !== undefined) {
    const { index, term, confState } = snapshot.metadata;
    const data = `"dataBytes":${snapshot.data.length},"dataSha":"${sha(snapshot.data)}"`;
    lines.push(`{"snapshot":{${data},"index":${index},"term":${term},"voters":[${confState.voters.join(",")}]}}`);
  }
  lines.push(`{"metadata":"${Buffer.from(metadata).toString("hex")}"}`);
  lines.push(`{"hardState":{"commit":${hardState.commit},"term":${hardState.term},"vote":${hardState.vote}}}`);
  for (const { term, index, type, data } of entries) {
    const about = `"index":${index},"sha":"${sha(data)}","term":${term},"type":"${typeNames[type]}"`;
    lines.push(`{"bytes":${data.length},${about}}`);
  }
  return lines;
}

export async function collectBatches(dir: string, options: MemberOptions): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of readBatches(dir, options)) batches.push(batch);
  return batches;
}

/** The simplest log there is: what applying the batches in order leaves of them. */
export function replay(batches: readonly Batch[]): Pick<MemberContents, "hardState" | "entries"> {
  let base = 0;
  const entries: Entry[] = [];
  let hardState: HardState = { term: 0, vote: 0n, commit: 0 };
  for (const batch of batches) {
    if (batch.snapshot !== undefined && batch.snapshot.index > base + entries.length) {
      base = batch.snapshot.index;
      entries.length = 0;
    }
    const first = batch.entries[0]?.index ?? 0;
    batch.entries.forEach((each, i) => {
      const at = each.index - base - 1;
      if (each.index !== first + i || at < 0 || at > entries.length) {
        throw new Error(
          `entry ${each.index} is ${i} of a batch from ${first}, the log ends at ${base + entries.length}`,
        );
      }
      entries.length = at;
      entries.push(each);
    });
    if (batch.hardState !== undefined) hardState = batch.hardState;
  }
  return { hardState, entries };
}

/** The StableLogError that `work` rejects with; anything else fails the test. */
export async function refusal(work: Promise<unknown>, code: ErrorCode): Promise<StableLogError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StableLogError);
  expect(error).toMatchObject({ code });
  return error as StableLogError;
}
