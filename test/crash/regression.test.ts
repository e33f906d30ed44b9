// What the campaign has found in the engine, each as the line that it printed and as the least that shows it. The lines must
// hold for ever.

import { describe, expect, it } from "vitest";
import { FileStorage } from "../../src/storage/file-storage.js";
import { SimDisk } from "../../src/testing/sim-disk.js";
import { replayLine } from "../../src/testing/storage-campaign.js";
import { DirectoryNames } from "../../src/wal/directory-names.js";

const entry = { term: 1, index: 1, type: 0, data: new Uint8Array(10) } as const;

/** As a power cut leaves it that takes everything it may. */
function nothingButSynced(disk: SimDisk): SimDisk {
  return disk.powerCut(disk.crashPoint().atoms.map(() => 0));
}

describe("found by the campaign", () => {
  for (const [line, why] of [
    [
      "SEED=5 MODEL=posix OPS=concurrent.905 FAULT=any#8:ENOSPC:once:clean:0",
      "the parent's sync failed after mkdir, and the next open took the name for durable",
    ],
    [
      "SEED=11 MODEL=posix OPS=large.170,commit.422,append.526 FAULT=any#17:EIO:once:clean:0",
      "the directory's sync failed after STATE got its name, and the next open took it for durable",
    ],
    [
      "SEED=79 MODEL=kill OPS=append.424,rotate.508,append.352 FAULT=any#44:EROFS:forGood:clean:0",
      "close() of a poisoned log rejected with the system's own error when STATE could not be closed",
    ],
    [
      "SEED=8365 MODEL=posix OPS=concurrent.224,large.291,flush.546,staged.436,rotate.826,concurrent.138,staged.413,commit.367,staged.976,rotate.330,compact.788,append.410,compactRotate.339 FAULT=syncDir#21:ENOSPC:once:clean:0",
      "a recycled segment's sync of the directory failed and took the new segment's name with it; the sync behind it said yes",
    ],
    [
      "SEED=760 MODEL=kill OPS=concurrent.832 POINT=24 MASK=<4224>",
      "a state was forgotten when a frame without one followed it in its group, and the next head restated the one before",
    ],
    [
      "SEED=1600 MODEL=posix OPS=commit.827,concurrent.516,concurrent.299,install.508 FULL=2:0",
      "the cache joined a frame to a run that it did not follow, and served what had been overwritten between the two",
    ],
    [
      "SEED=570 MODEL=posix OPS=hardState.787,concurrent.329,hardState.320,concurrent.999,concurrent.569,hardState.180,close.669,hardState.677,append.86,hardState.737,concurrent.721 FAULT=sync#34:EDQUOT:once:revert:0",
      "a segment whose sync had failed was removed as never begun, the removal was not synced, and a power cut brought it back whole",
    ],
    [
      "SEED=2710 MODEL=posix OPS=concurrent.713,concurrent.249,concurrent.535 FAULT=write#8:EDQUOT:once:clean:1823",
      "a segment whose head had failed to find room, and was there whole, came back behind a power cut and hid what its predecessor had taken since",
    ],
  ] as const) {
    it(`${line}: ${why}`, async () => {
      const { failure } = await replayLine(line);
      expect(failure).toBeUndefined();
    });
  }

  it("open() gives a directory its name once more when the sync of its parent failed", async () => {
    for (const nth of [1, 2, 3]) {
      const disk = new SimDisk();
      disk.inject({ on: "syncDir", nth, error: "EIO" });
      await expect(FileStorage.open("/a/log", { disk })).rejects.toMatchObject({ code: "ERR_IO" });
      const storage = await FileStorage.open("/a/log", { disk });
      await storage.save({ entries: [entry] });
      const after = await FileStorage.open("/a/log", { disk: nothingButSynced(disk), create: false });
      expect(after.lastIndex()).toBe(1);
    }
  });

  it("open() makes STATE anew when the sync of its name failed", async () => {
    const disk = new SimDisk();
    disk.inject({ on: "syncDir", path: /^\/log$/, error: "EIO" });
    await expect(FileStorage.open("/log", { disk })).rejects.toMatchObject({ code: "ERR_IO" });
    expect([...disk.dump().keys()]).toEqual(["/log/STATE.tmp"]);
    const storage = await FileStorage.open("/log", { disk });
    await storage.save({ entries: [entry] });
    const after = await FileStorage.open("/log", { disk: nothingButSynced(disk), create: false });
    expect(after.lastIndex()).toBe(1);
  });

  it("a failed sync of the directory takes the names of all, so each gives its own once more", async () => {
    const disk = new SimDisk();
    await disk.mkdir("/log");
    disk.makeDurable();
    const names = new DirectoryNames(disk, "/log");
    const make = (name: string) => async (): Promise<void> => (await disk.open(`/log/${name}`, "create")).close();
    const fault = disk.inject({ on: "syncDir", error: "EIO" });
    const undone: string[] = [];
    const ends = await Promise.allSettled(
      ["a", "b", "c"].map((name) =>
        names.give(make(name), async () => {
          undone.push(name);
          await disk.unlink(`/log/${name}`);
        }),
      ),
    );
    expect(fault.struck).toBe(1);
    expect(ends.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(undone.sort()).toEqual(["a", "b", "c"]);
    await Promise.all(["a", "b", "c"].map((name) => names.give(make(name))));
    expect([...nothingButSynced(disk).dump().keys()].sort()).toEqual(["/log/a", "/log/b", "/log/c"]);
  });

  it("close() resolves when a file cannot be closed, poisoned or not", async () => {
    for (const poisoned of [false, true]) {
      const disk = new SimDisk();
      const storage = await FileStorage.open("/log", { disk, sync: "inline" });
      await storage.save({ entries: [entry] });
      if (poisoned) {
        disk.inject({ on: "sync", path: /\.seg$/, error: "EIO" });
        await expect(storage.save({ entries: [{ ...entry, index: 2 }] })).rejects.toMatchObject({
          code: "ERR_POISONED",
        });
      }
      const fault = disk.inject({ on: "close", times: Number.POSITIVE_INFINITY, error: "EIO" });
      await storage.close();
      expect(fault.struck).toBeGreaterThan(1);
      expect([disk.openHandles, disk.locks]).toEqual([0, 0]);
    }
  });
});
