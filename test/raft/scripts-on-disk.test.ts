// The interaction scripts over FileStorages on simulated disks, one a node: the same transcripts, and what crashes leave is
// what was acknowledged. Ours always run, upstream's where RAFT_TESTDATA names their folder. And the check checks: storages
// that break a promise, one each, are found out.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { WritableStorage } from "../../src/raft/storage.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { DiskScriptError, runScriptOnDisks } from "../../src/testing/script-disks.js";
import type { SimDisk } from "../../src/testing/sim-disk.js";

const own = fileURLToPath(new URL("scripts", import.meta.url));
const upstream = process.env["RAFT_TESTDATA"];

for (const [whose, folder] of [
  ["our", own],
  ["upstream's", upstream],
] as const) {
  const path = join(folder ?? "", "interaction");
  const names = existsSync(path) ? readdirSync(path).filter((name) => name.endsWith(".txt")) : [];
  // Upstream's scripts stay out of this repo: skipped where nobody has said where they are.
  describe.skipIf(names.length === 0)(`on simulated disks ${whose} script`, () => {
    it.each(names)("%s prints the same, and no crash takes what was acknowledged", async (name) => {
      const report = await runScriptOnDisks(readFileSync(join(path, name), "utf8"));
      expect(report.differences).toEqual([]);
      // The check has looked at something: several states a save, some of them without it.
      expect(report.crashes).toBeGreaterThan(report.saves);
      expect(report.undone).toBeGreaterThan(0);
      expect(report.restarts).toBe(3);
    });
  });
}

describe("runScriptOnDisks()", () => {
  const script = readFileSync(join(own, "interaction", "propose_and_replicate.txt"), "utf8");

  const opened = (disk: SimDisk): Promise<FileStorage> =>
    FileStorage.open("/log", { disk, segmentBytes: 4096, onAmbiguousTail: "drop" });

  /** The storage with some of its methods replaced. */
  function spoiled(storage: FileStorage, methods: Partial<WritableStorage>): WritableStorage {
    const replaced = new Map<PropertyKey, unknown>(Object.entries(methods));
    return new Proxy(storage, {
      get: (target, name) => {
        const value: unknown = replaced.get(name) ?? Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  async function failureWith(open: (disk: SimDisk) => Promise<WritableStorage>): Promise<string> {
    try {
      await runScriptOnDisks(script, { open });
    } catch (error) {
      if (error instanceof DiskScriptError) return error.message;
      throw error;
    }
    return "nothing was found";
  }

  it("is the same run for the same seed, and another one for another", async () => {
    const first = await runScriptOnDisks(script, { seed: 5 });
    expect(await runScriptOnDisks(script, { seed: 5 })).toEqual(first);
    expect(await runScriptOnDisks(script, { seed: 6 })).not.toEqual(first);
  });

  it("tells where a transcript differs", async () => {
    const { differences } = await runScriptOnDisks("add-nodes 1 voters=(1) index=2\n----\nyes\n");
    expect(differences).toEqual(["line 1: add-nodes\n- yes\n+ ok"]);
  });

  it("finds a storage that comes back without its last entry", async () => {
    const message = await failureWith(async (disk) => {
      const storage = await opened(disk);
      if (storage.recovery.verdict === "created" || storage.lastIndex() < storage.firstIndex()) return storage;
      const last = storage.lastIndex() - 1;
      return spoiled(storage, {
        lastIndex: () => last,
        entries: (lo, hi) => storage.entries(lo, Math.min(hi, last + 1)),
      });
    });
    expect(message).toMatch(/^node 1: a kill has left\n.*\nLog 1\/5 to 1\/6\n1\/6 0 ""\nnot\n.*\n1\/7 0 "first"$/s);
  });

  it("finds a storage that writes the HardState of a Ready apart from its entries", async () => {
    const message = await failureWith(async (disk) => {
      const storage = await opened(disk);
      return spoiled(storage, {
        save: async ({ hardState, entries, snapshot }) => {
          await storage.save({ entries, snapshot });
          await storage.save({ hardState });
        },
      });
    });
    expect(message).toMatch(
      /^node 3: POINT=\d+ MASK=\S+ a crash has left\nHardState 1 2 6\n.*\n1\/7 0 "first"\nnot\n/s,
    );
  });

  it("finds a storage that does not sync", async () => {
    const message = await failureWith((disk) => FileStorage.open("/log", { disk, segmentBytes: 4096, sync: "off" }));
    expect(message).toMatch(/^node 1: POINT=\d+ MASK=/);
  });

  it("finds a storage that takes nothing any more once it has come back", async () => {
    const message = await failureWith(async (disk) => {
      const storage = await opened(disk);
      if (storage.recovery.verdict === "created") return storage;
      return spoiled(storage, { save: () => Promise.resolve() });
    });
    expect(message).toMatch(/^a start with what is left \(synced\): /);
  });
});
