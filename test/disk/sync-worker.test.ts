// SyncWorker: the thread writes and syncs, and every way it can be missing or die still ends in durability or an error.

import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Commit, SyncWorker } from "../../src/disk/sync-worker.js";

let dir: string;
let path: string;
let fd: number;
let fallbacks: number;

const fallback: Commit = async () => {
  fallbacks++;
};
const noFallback: Commit = () => Promise.reject(new Error("the fallback was used"));

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "stablelog-sync-worker-"));
  path = join(dir, "file");
  fd = openSync(path, "w+");
  fallbacks = 0;
});

afterEach(() => {
  closeSync(fd);
  rmSync(dir, { recursive: true });
});

function shared(...values: number[]): Uint8Array {
  const made = new Uint8Array(new SharedArrayBuffer(values.length));
  made.set(values);
  return made;
}

/** A thread's program that waits for its first job as `next`, and then does `then`. */
function program(then: string): string {
  return `
    const { parentPort, receiveMessageOnPort, workerData } = require("node:worker_threads");
    const control = new Int32Array(workerData);
    let received;
    while ((received = receiveMessageOnPort(parentPort)) === undefined) Atomics.wait(control, 0, 0, 5);
    const next = received.message;
    ${then}
  `;
}

describe("SyncWorker.commit()", () => {
  it("commit() writes the range on the thread, and queued ones in order", async () => {
    const worker = new SyncWorker(noFallback);
    await worker.commit(fd, shared(1, 2, 3, 4), 1, 3, 1);
    expect([...readFileSync(path)]).toEqual([0, 2, 3]);
    const answered: number[] = [];
    await Promise.all(
      [5, 6, 7].map(async (value) => {
        await worker.commit(fd, shared(value), 0, 1, 0);
        answered.push(value);
      }),
    );
    expect(answered).toEqual([5, 6, 7]);
    expect([...readFileSync(path)]).toEqual([7, 2, 3]);
    await worker.dispose();
  });

  it("commit() rejects with the system's error and goes on with the next when a write fails", async () => {
    const worker = new SyncWorker(noFallback);
    const readable = openSync(path, "r");
    await expect(worker.commit(readable, shared(1), 0, 1, 0)).rejects.toMatchObject({
      code: "EBADF",
      syscall: "write",
      bytesWritten: 0,
    });
    await worker.commit(fd, shared(8), 0, 1, 0);
    expect([...readFileSync(path)]).toEqual([8]);
    closeSync(readable);
    await worker.dispose();
  });

  it("commit() rejects with the sync's error and all bytes counted when only the sync fails", async () => {
    const worker = new SyncWorker(noFallback);
    const full = openSync("/dev/null", "w");
    await expect(worker.commit(full, shared(1, 2), 0, 2, 0)).rejects.toMatchObject({
      code: "EINVAL",
      syscall: "fdatasync",
      bytesWritten: 2,
    });
    closeSync(full);
    await worker.dispose();
  });

  it("commit() writes memory that is not shared, of any size and place, one after the other and several at a time", async () => {
    const worker = new SyncWorker(fallback);
    const source = Uint8Array.from({ length: 300_000 }, (_, i) => i * 7 + (i >> 8));
    const ranges = [
      [3, 4],
      [0, 65_536],
      [17, 200_001],
      [299_999, 300_000],
    ] as const;
    for (const [start, end] of ranges) await worker.commit(fd, source, start, end, start);
    await Promise.all(ranges.map(([start, end]) => worker.commit(fd, source, start, end, 300_000 + start)));
    const size = 600_000;
    const written = new Uint8Array(size);
    readSync(fd, written, 0, size, 0);
    for (const [start, end] of ranges) {
      for (const base of [0, 300_000]) {
        expect(Buffer.compare(written.subarray(base + start, base + end), source.subarray(start, end))).toBe(0);
      }
    }
    expect(fallbacks).toBe(0);
    await worker.dispose();
  });

  it("commit() rejects with EIO when the thread dies with it begun, and later ones take the fallback", async () => {
    const dying = program(`Atomics.store(control, 1, next.id); process.exit(1);`);
    const worker = new SyncWorker(fallback, dying);
    const begun = worker.commit(fd, shared(1), 0, 1, 0);
    const queued = worker.commit(fd, shared(2), 0, 1, 1);
    await expect(begun).rejects.toMatchObject({ code: "EIO", message: expect.stringContaining("commit thread died") });
    await queued;
    expect(fallbacks).toBe(1);
    await worker.commit(fd, shared(3), 0, 1, 2);
    expect(fallbacks).toBe(2);
    await worker.dispose();
  });

  it("commit() carries what the thread threw as the cause when it dies of an error", async () => {
    const worker = new SyncWorker(fallback, program(`Atomics.store(control, 1, next.id); throw new Error("broken");`));
    await expect(worker.commit(fd, shared(1), 0, 1, 0)).rejects.toMatchObject({
      code: "EIO",
      cause: expect.objectContaining({ message: "broken" }),
    });
  });

  it("commit() takes the fallback when the thread dies before it began, and rejects as the fallback does", async () => {
    const worker = new SyncWorker(fallback, "process.exit(1);");
    await Promise.all([worker.commit(fd, shared(1), 0, 1, 0), worker.commit(fd, shared(2), 0, 1, 1)]);
    expect(fallbacks).toBe(2);
    const failing = new SyncWorker(noFallback, "process.exit(1);");
    await expect(failing.commit(fd, shared(1), 0, 1, 0)).rejects.toThrow("the fallback was used");
  });

  it("commit() keeps an answer that came before the thread died", async () => {
    const dying = program(
      `Atomics.store(control, 1, next.id); parentPort.postMessage({ id: next.id }); process.exit(1);`,
    );
    const worker = new SyncWorker(fallback, dying);
    await worker.commit(fd, shared(1), 0, 1, 0);
    await worker.commit(fd, shared(2), 0, 1, 1);
    expect(fallbacks).toBe(1);
  });
});

describe("SyncWorker.dispose()", () => {
  it("dispose() lets pending commits finish, and a later one starts another thread", async () => {
    const worker = new SyncWorker(noFallback);
    const pending = [worker.commit(fd, shared(1), 0, 1, 0), worker.commit(fd, shared(2), 0, 1, 1)];
    await worker.dispose();
    await Promise.all(pending);
    expect([...readFileSync(path)]).toEqual([1, 2]);
    await worker.commit(fd, shared(9), 0, 1, 2);
    expect([...readFileSync(path)]).toEqual([1, 2, 9]);
    await worker.dispose();
    await worker.dispose();
  });
});
