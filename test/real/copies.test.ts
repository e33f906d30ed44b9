// Copies of a running log, file by file, while a real process saves, rotates, compacts and makes snapshots: no backup, and
// docs/DURABILITY.md says so. Each copy opens with what was true at some moment, or is refused with a coded error, at open or
// at a read. None serves anything else. A read-only open of the running log itself is the way to look at it.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCodes, StableLogError } from "../../src/base/errors.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { Home } from "./home.js";
import { Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";

const COPIES = 40;
const LOOKS = 20;
let home: Home;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(() => home.remove());

/**
 * A copy of what is there, file by file; a file may be gone by its turn. Another order each time, as tools have their own.
 * It is kept in memory: on this disk it would wait for the syncs of the log it is a copy of.
 */
async function copyOf(dir: string, turn: number): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir("copy");
  const names = (await readdir(dir)).filter((name) => !name.startsWith("LOCK"));
  const order = turn % 3 === 0 ? names : turn % 3 === 1 ? names.sort() : names.sort().reverse();
  for (const name of order) {
    const bytes = await readFile(join(dir, name)).catch((error: { code?: string }) => {
      if (error.code !== "ENOENT") throw error;
    });
    if (bytes === undefined) continue;
    const file = await disk.open(`copy/${name}`, "create");
    file.write(bytes, 0, bytes.length, 0);
    await file.close();
  }
  return disk;
}

const rows = [
  ["inline", 4096, 10],
  ["worker", 16384, 200],
  ["auto", 262144, 1000],
] as const;

describe("a running log", () => {
  it.each(rows)(
    "open() of a copy finds what was true, or refuses with a coded error (%s, segments of %i, %i entries kept)",
    async (sync, segmentBytes, keep) => {
      const dir = home.file(`log-${sync}`);
      const script = { seed: 21, sizes: "small", installs: 200 } as const;
      const life = { round: 1, savers: 4, snapshotEvery: 40, keep };
      const task: Task = { dir, options: { sync, segmentBytes }, script, ...life };
      const child = home.start("saver", task);
      expect(await child.said("saved", 20)).toBe(true);
      const copies: MemoryDisk[] = [];
      while (copies.length < COPIES) copies.push(await copyOf(dir, copies.length));
      // Looked at when all is heard that the child has said: what a copy holds may be ahead of that while it runs.
      const { lines } = await child.kill();
      const verdicts = new Map<string, number>();
      const ledger = new Ledger();
      let saves = 0;
      for (const [turn, disk] of copies.entries()) {
        const what = `${sync}, copy ${turn}`;
        let verdict = "true";
        try {
          const storage = await FileStorage.open("copy", { create: false, segmentBytes, disk });
          try {
            saves = Math.max(saves, ledger.resemble(storage, task, lines, what));
          } finally {
            await storage.close();
          }
        } catch (error) {
          if (!(error instanceof StableLogError)) throw error;
          expect(errorCodes, what).toContain(error.code);
          verdict = error.code;
        }
        verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
      }
      // Copies that are all refused would serve nothing wrong either.
      expect(verdicts.get("true") ?? 0, JSON.stringify([...verdicts])).toBeGreaterThan(0);
      expect(saves).toBeGreaterThan(20);
      await new Ledger().settle(dir, task, lines, `${sync}, at the end`);
      console.log(`copies.test.ts, ${sync}: ${JSON.stringify(Object.fromEntries(verdicts))} of ${COPIES} copies`);
    },
  );

  it("open() with readOnly finds what was true while another process saves", async () => {
    const dir = home.file("log-looked-at");
    const script = { seed: 22, sizes: "small", installs: 0 } as const;
    const life = { round: 1, savers: 4, snapshotEvery: 1_000_000, keep: 0 };
    const task: Task = { dir, options: { segmentBytes: 65536 }, script, ...life };
    const child = home.start("saver", task);
    expect(await child.said("saved", 20)).toBe(true);
    const looks: FileStorage[] = [];
    while (looks.length < LOOKS) looks.push(await FileStorage.open(dir, { readOnly: true }));
    const { lines } = await child.kill();
    const ledger = new Ledger();
    let before = 0;
    for (const [turn, storage] of looks.entries()) {
      const count = ledger.resemble(storage, task, lines, `look ${turn}`);
      await storage.close();
      expect(count, `look ${turn}: nothing that was shown is taken back`).toBeGreaterThanOrEqual(before);
      before = count;
    }
    expect(before).toBeGreaterThan(0);
  });
});
