// FileStorages for the suite and the model: on both disks, with every engine and with segments so small that rotation,
// carrying, compaction and recycling happen all the time. Each storage has a directory of its own.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import type { WritableStorage } from "../../src/raft/storage.js";
import { FileStorage, type FileStorageOptions } from "../../src/storage/file-storage.js";
import type { StorageFactory } from "../../src/testing/storage-suite.js";

/** Where a storage of these factories lives, so that it can be opened again. */
const places = new WeakMap<WritableStorage, { dir: string; options: FileStorageOptions }>();

async function openAt(dir: string, options: FileStorageOptions): Promise<FileStorage> {
  const storage = await FileStorage.open(dir, options);
  places.set(storage, { dir, options });
  return storage;
}

async function reopen(storage: WritableStorage): Promise<WritableStorage> {
  await storage.close();
  const place = places.get(storage);
  if (place === undefined) throw new Error("a storage that no factory made");
  return openAt(place.dir, place.options);
}

function inMemory(name: string, options: FileStorageOptions): StorageFactory {
  return { name, open: () => openAt("/log", { ...options, disk: new MemoryDisk() }), reopen };
}

function onFiles(name: string, options: FileStorageOptions): StorageFactory {
  let root: Promise<string> | undefined;
  let made = 0;
  afterAll(async () => {
    if (root !== undefined) await rm(await root, { recursive: true, force: true });
  });
  const open = async (): Promise<WritableStorage> => {
    root ??= mkdtemp(join(tmpdir(), "stablelog-storage-"));
    return openAt(join(await root, String(made++)), options);
  };
  return { name, open, reopen };
}

/** Every FileStorage that the suite and the model are run against. */
export function fileStorages(): StorageFactory[] {
  return [
    inMemory("FileStorage in memory", {}),
    inMemory("FileStorage in memory, small segments", { segmentBytes: 4096 }),
    inMemory("FileStorage in memory, small segments, no cache", { segmentBytes: 4096, cacheBytes: 0 }),
    inMemory("FileStorage in memory, worker", { segmentBytes: 4096, cacheBytes: 2000, sync: "worker" }),
    inMemory("FileStorage in memory, off", { segmentBytes: 4096, cacheBytes: 0, sync: "off" }),
    onFiles("FileStorage on files, inline", { segmentBytes: 4096, cacheBytes: 0, sync: "inline" }),
    onFiles("FileStorage on files, worker", { segmentBytes: 4096, sync: "worker" }),
  ];
}
