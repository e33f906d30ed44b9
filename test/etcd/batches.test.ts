// readBatches(): where one save ends and the next begins, and that replaying all of them gives the log itself.

import { describe, expect, it } from "vitest";
import { type Batch, readBatches, readMember } from "../../src/etcd/index.js";
import type { Entry } from "../../src/raftpb/types.js";
import {
  collectBatches,
  entry,
  fixtures,
  memoryMember,
  refusal,
  replay,
  SegmentBuilder,
  segmentName,
  snapshotBytes,
  snapshotName,
} from "./helpers.js";

/** Batches in one word each: entries as index.term, then S for a HardState with its commit, or M for a mark. */
function words(batches: readonly Batch[]): string[] {
  return batches.map(({ entries, hardState, snapshot }) => {
    const parts = entries.map((each: Entry) => `${each.index}.${each.term}`);
    if (hardState !== undefined) parts.push(`S${hardState.commit}`);
    if (snapshot !== undefined) parts.push(`M${snapshot.index}`);
    return parts.join(" ");
  });
}

async function wordsOf(files: Readonly<Record<string, Uint8Array>>, from: "start" | "snapshot" = "start") {
  return words(await collectBatches("/m", { from, disk: await memoryMember(files) }));
}

const oneSegment = (build: (segment: SegmentBuilder) => SegmentBuilder) =>
  wordsOf({ [segmentName(0, 0)]: build(new SegmentBuilder().head().mark(0, 0)).bytes(64) });

describe("readBatches() over etcd's own files", () => {
  it.each(["single", "segments-1"])("replays %s to what readMember() returns from its start", async (name) => {
    const batches = await collectBatches(fixtures + name, { from: "start" });
    const { hardState, entries } = await readMember(fixtures + name, { from: "start" });
    expect(replay(batches)).toEqual({ hardState, entries });
  });

  it("replays single from its snapshot to what readMember() returns after it", async () => {
    const batches = await collectBatches(`${fixtures}single`, {});
    const { hardState, entries, snapshot } = await readMember(`${fixtures}single`);
    expect(batches[0]).toEqual({ entries: [], snapshot: snapshot?.metadata });
    expect(replay(batches)).toEqual({ hardState, entries });
  });

  it("yields the saves of single as they were made", async () => {
    const batches = await collectBatches(`${fixtures}single`, { from: "start" });
    expect(batches).toHaveLength(167);
    expect(batches.filter((batch) => batch.hardState !== undefined)).toHaveLength(163);
    expect(batches.flatMap((batch) => batch.snapshot?.index ?? [])).toEqual([0, 0x65, 0xca, 0x12f]);
    expect(batches.every((batch) => batch.snapshot === undefined || batch.entries.length === 0)).toBe(true);
  });
});

describe("readBatches()", () => {
  it("ends a batch with its HardState", async () => {
    const saved = await oneSegment((log) =>
      log.entries(entry(1, 1), entry(1, 2)).state(1, 1).state(1, 2).entries(entry(1, 3)).state(1, 2),
    );
    expect(saved).toEqual(["M0", "1.1 2.1 S1", "S2", "3.1 S2"]);
  });

  it("ends a batch at the end of the log, whole or torn", async () => {
    expect(await oneSegment((log) => log.entries(entry(1, 1)))).toEqual(["M0", "1.1"]);
    expect(await oneSegment((log) => log.entries(entry(1, 1)).raw(Uint8Array.of(255, 255)))).toEqual(["M0", "1.1"]);
  });

  it("makes a snapshot mark a batch of its own", async () => {
    const saved = await oneSegment((log) => log.entries(entry(1, 1)).mark(1, 1).entries(entry(1, 2)).state(1, 1));
    expect(saved).toEqual(["M0", "1.1", "M1", "2.1 S1"]);
  });

  it("begins a batch where an entry does not follow the one before", async () => {
    const saved = await oneSegment((log) =>
      log.entries(entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 2), entry(2, 3), entry(3, 3)).state(3, 1),
    );
    expect(saved).toEqual(["M0", "1.1 2.1 3.1", "2.2 3.2", "3.3 S1"]);
  });

  it("goes on after a received snapshot, where readMember() sees a gap", async () => {
    const saved = await oneSegment((log) =>
      log.entries(entry(1, 1)).state(1, 1).mark(10, 2).entries(entry(2, 11)).state(2, 11),
    );
    expect(saved).toEqual(["M0", "1.1 S1", "M10", "11.2 S11"]);
  });

  describe("at the boundary of segments", () => {
    const first = new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1)).state(1, 1).entries(entry(1, 2));

    it("leaves out the HardState that etcd repeats, and ends the save before it", async () => {
      const second = new SegmentBuilder(first.crc).head().state(1, 1).entries(entry(1, 3)).state(1, 2).state(1, 2);
      const files = { [segmentName(0, 0)]: first.bytes(), [segmentName(1, 3)]: second.bytes(64) };
      expect(await wordsOf(files)).toEqual(["M0", "1.1 S1", "2.1", "3.1 S2", "S2"]);
    });

    it("yields a HardState at the head that is a new one, and a later equal one", async () => {
      const second = new SegmentBuilder(first.crc).head().state(1, 2).entries(entry(1, 3)).state(1, 2);
      const files = { [segmentName(0, 0)]: first.bytes(), [segmentName(1, 3)]: second.bytes(64) };
      expect(await wordsOf(files)).toEqual(["M0", "1.1 S1", "2.1", "S2", "3.1 S2"]);
    });
  });

  it("begins with the snapshot and what was saved beyond it", async () => {
    const log = new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(entry(1, 1), entry(1, 2))
      .state(1, 0)
      .state(1, 1)
      .entries(entry(1, 3), entry(1, 4), entry(1, 5))
      .state(1, 2)
      .entries(entry(2, 5))
      .state(2, 4)
      .mark(4, 1)
      .state(2, 5)
      .mark(9, 2);
    const files = { [segmentName(0, 0)]: log.bytes(64), [snapshotName(1, 4)]: snapshotBytes(1, 4) };
    expect(await wordsOf(files, "snapshot")).toEqual(["M4", "5.1 S2", "5.2 S4", "S5", "M9"]);
  });

  it("begins, after the snapshot, with the first HardState that commits it", async () => {
    const log = new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(entry(1, 1), entry(1, 2))
      .state(1, 1)
      .state(1, 2)
      .mark(2, 1);
    const files = { [segmentName(0, 0)]: log.bytes(64), [snapshotName(1, 2)]: snapshotBytes(1, 2) };
    expect(await wordsOf(files, "snapshot")).toEqual(["M2", "S2"]);
  });

  it("yields the batches before damage, then the error", async () => {
    const log = new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1)).state(1, 1).entries(entry(1, 3));
    const disk = await memoryMember({ [segmentName(0, 0)]: log.bytes() });
    const saves = readBatches("/m", { disk });
    expect(words([(await saves.next()).value as Batch, (await saves.next()).value as Batch])).toEqual(["M0", "1.1 S1"]);
    const error = await refusal(saves.next(), "ERR_GAP");
    expect(error).toMatchObject({ file: segmentName(0, 0), offset: log.offsets[5] });
  });

  it("rejects at the first batch when there is nothing to read", async () => {
    await refusal(readBatches(`${fixtures}nowhere`).next(), "ERR_NOT_FOUND");
  });

  it("closes its file when the consumer stops early", async () => {
    let open = 0;
    const disk = await memoryMember({
      [segmentName(0, 0)]: new SegmentBuilder().head().mark(0, 0).state(1, 0).bytes(),
    });
    const openFile = disk.open.bind(disk);
    disk.open = async (path, mode) => {
      const file = await openFile(path, mode);
      const close = file.close.bind(file);
      open++;
      file.close = async () => {
        open--;
        await close();
      };
      return file;
    };
    for await (const batch of readBatches("/m", { disk })) {
      expect(batch.snapshot?.index).toBe(0);
      expect(open).toBe(1);
      break;
    }
    expect(open).toBe(0);
  });
});
