// What the recovery tests share: a storage's whole state as one comparable value, entries, images of every moment of a
// workload, and the check that a refusal changes nothing.

import { expect } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import type { Storage, WritableStorage } from "../../src/raft/storage.js";
import { type ConfState, type Entry, EntryType, emptyConfState, type HardState } from "../../src/raftpb/types.js";
import { FileStorage, type FileStorageOptions } from "../../src/storage/file-storage.js";
import { MemoryStorage } from "../../src/storage/memory-storage.js";
import { CHANGING, DIR, type Operation, type TestDisk } from "./test-disk.js";

export const SMALL = { segmentBytes: 4096, cacheBytes: 0, sync: "inline" } as const;

export function open(disk: TestDisk, options: FileStorageOptions = {}): Promise<FileStorage> {
  return FileStorage.open(DIR, { ...SMALL, ...options, disk });
}

export function fill(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + 1) % 251);
}

/** Entries [first, first + count) of `term`. */
export function run(first: number, count: number, term = 1, bytes = 20): Entry[] {
  return Array.from({ length: count }, (_, i) => ({
    term,
    index: first + i,
    type: EntryType.Normal,
    data: fill(bytes, first + i + term),
  }));
}

export function hard(term: number, commit: number, vote = 1n): HardState {
  return { term, vote, commit };
}

export function voters(...ids: bigint[]): ConfState {
  return { ...emptyConfState(), voters: ids };
}

/** Until a log that nobody writes to any more has noted in STATE how far it is durable. */
export function noted(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Everything a storage says, read in full. Equal strings are equal storages. */
export function stateOf(storage: Storage): string {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const entries = last < first ? [] : storage.entries(first, last + 1);
  const terms = Array.from({ length: Math.min(last - first + 2, 2000) }, (_, i) => storage.term(first - 1 + i));
  const { metadata, data } = storage.snapshot();
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  return JSON.stringify(
    {
      first,
      last,
      entries: entries.map((e) => [e.index, e.term, e.type, text(e.data)]),
      terms,
      state: storage.initialState(),
      snapshot: [metadata, text(data)],
    },
    (_, value: unknown) => (typeof value === "bigint" ? String(value) : value),
  );
}

export async function codeOf(promise: Promise<unknown>): Promise<StableLogError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof StableLogError) return error;
  throw error ?? new Error("resolved, a refusal was expected");
}

/** Expects open() to refuse with `code`, to leave every byte as it was and to let go of lock and files. */
export async function refused(disk: TestDisk, code: string, options: FileStorageOptions = {}): Promise<StableLogError> {
  const before = disk.files();
  const error = await codeOf(open(disk, options));
  expect(error.code, error.message).toBe(code);
  expectSameFiles(disk, before, error.message);
  expect(disk.locked).toBe(false);
  expect(disk.openFiles).toBe(0);
  return error;
}

/** Expects the directory to hold these files, byte for byte. */
export function expectSameFiles(disk: TestDisk, wanted: ReadonlyMap<string, Uint8Array>, what: string): void {
  const found = disk.files();
  expect([...found.keys()].sort(), what).toEqual([...wanted.keys()].sort());
  for (const [name, bytes] of wanted) {
    // expect() takes long to find that nothing differs.
    if (Buffer.compare(bytes, found.get(name) as Uint8Array) !== 0) expect.fail(`${what}: ${name} changed`);
  }
}

/** Expects `error` to name a file and a byte that is in it, or where it ends. */
export function expectPlace(disk: TestDisk, error: StableLogError): void {
  expect(error.file, error.message).toBeTypeOf("string");
  expect(error.offset, error.message).toBeTypeOf("number");
  const file = disk.files().get(error.file ?? "");
  if (file !== undefined) expect(error.offset, error.message).toBeLessThanOrEqual(file.length);
}

/** One change of a workload: made on a FileStorage and on the MemoryStorage that is its model. */
export type Step = (storage: WritableStorage) => Promise<unknown>;

export interface Moment {
  readonly disk: TestDisk;
  readonly operation: Operation;
  /** Steps whose promise had resolved, those of them that a power cut may not take, and steps that had been called. */
  readonly resolved: number;
  readonly durable: number;
  readonly called: number;
}

/** The states that the model goes through: states[k] is that after the first k steps. */
export async function statesOf(steps: readonly Step[]): Promise<string[]> {
  const model = new MemoryStorage();
  const states = [stateOf(model)];
  for (const step of steps) {
    await step(model);
    states.push(stateOf(model));
  }
  return states;
}

/**
 * Runs the bursts (the steps of one are all called before the first is awaited), closes, and takes an image of the disk
 * before every operation that changes something, and amid every write when the disk was given an amidWrite. `soft` steps may be lost to a power cut until a later one is durable.
 */
export async function moments(
  disk: TestDisk,
  bursts: readonly (readonly Step[])[],
  image: (disk: TestDisk) => TestDisk,
  options: FileStorageOptions = {},
  soft: ReadonlySet<Step> = new Set(),
): Promise<Moment[]> {
  const taken: Moment[] = [];
  let resolved = 0;
  let durable = 0;
  let called = 0;
  disk.before = (operation) => {
    if (CHANGING.includes(operation)) taken.push({ disk: image(disk), operation, resolved, durable, called });
  };
  if (disk.amidWrite !== undefined) {
    disk.amidWrite = (amid) => taken.push({ disk: amid, operation: "write", resolved, durable, called });
  }
  const storage = await open(disk, options);
  for (const burst of bursts) {
    await Promise.all(
      burst.map((step) => {
        const place = ++called;
        return step(storage).then(() => {
          resolved = Math.max(resolved, place);
          if (!soft.has(step)) durable = Math.max(durable, place);
        });
      }),
    );
  }
  await storage.close();
  disk.before = () => {};
  disk.amidWrite = undefined;
  taken.push({ disk: image(disk), operation: "close", resolved, durable: called, called });
  return taken;
}
