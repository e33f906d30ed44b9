// readMember() over directories that etcd wrote and over ones built here: what it returns, and what it begins from.

import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type MemberOptions, readMember } from "../../src/etcd/index.js";
import {
  concat,
  entry,
  type Files,
  fixtureFiles,
  fixtures,
  memberLines,
  memoryMember,
  readLines,
  refusal,
  SegmentBuilder,
  segmentName,
  snapshotBytes,
  snapshotName,
} from "./helpers.js";

async function read(files: Files, from: MemberOptions["from"] = "snapshot") {
  return readMember("/m", { from, disk: await memoryMember(files) });
}

const indexes = (entries: readonly { index: number }[]): number[] => entries.map((each) => each.index);

describe("readMember() over etcd's own files", () => {
  it.each([
    ["single", "start", "single.whole-log"],
    ["single", "snapshot", "single.after-snapshot"],
    ["segments-1", "start", "segments-1.whole-log"],
    ["segments-1", "snapshot", "segments-1.whole-log"],
  ] as const)("returns of %s from the %s what etcd's reader returns", async (name, from, expected) => {
    const contents = await readMember(fixtures + name, { from });
    expect(memberLines(contents)).toEqual(readLines(`${fixtures}${expected}.jsonl.gz`));
  });

  it("begins at the snapshot when not told otherwise", async () => {
    const contents = await readMember(`${fixtures}single`);
    expect(contents.snapshot?.metadata.index).toBe(303);
    expect(contents.entries[0]?.index).toBe(304);
  });

  it("returns payloads of its own, not views of a buffer it goes on using", async () => {
    const { entries, metadata } = await readMember(`${fixtures}single`, { from: "start" });
    for (const { data } of entries) {
      expect(Object.getPrototypeOf(data)).toBe(Uint8Array.prototype);
      expect(data.buffer.byteLength).toBe(data.length);
    }
    expect(metadata.buffer.byteLength).toBe(metadata.length);
  });

  describe("in a copy of the directory", () => {
    let dir = "";
    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), "stablelog-etcd-"));
      cpSync(`${fixtures}single`, dir, { recursive: true });
    });
    afterAll(() => rmSync(dir, { recursive: true }));

    it("leaves unreadable snapshots where they are and takes the next older one", async () => {
      cpSync(`${fixtures}README.md`, join(dir, snapshotName(2, 0x12f)));
      const contents = await readMember(dir);
      expect(contents.snapshot?.metadata.index).toBe(0xca);
      expect(indexes(contents.entries)).toEqual(Array.from({ length: 318 - 0xca }, (_, i) => 0xcb + i));
      rmSync(join(dir, "snap"), { recursive: true });
      expect((await readMember(dir)).snapshot).toBeUndefined();
    });
  });
});

describe("readMember()", () => {
  const log = () =>
    new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(entry(1, 1), entry(1, 2), entry(1, 3))
      .state(1, 3)
      .mark(2, 1)
      .entries(entry(1, 4), entry(1, 5))
      .state(1, 4)
      .mark(3, 1)
      .mark(5, 1);

  it("returns the entries of the last term where a suffix was overwritten", async () => {
    const segment = new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(entry(1, 1), entry(1, 2), entry(1, 3), entry(1, 4))
      .state(1, 1)
      .entries(entry(2, 3))
      .state(2, 2, 2n ** 64n - 1n);
    const contents = await read({ [segmentName(0, 0)]: segment.bytes(512) });
    expect(contents).toEqual({
      metadata: new Uint8Array(Buffer.from("owner")),
      hardState: { term: 2, vote: 2n ** 64n - 1n, commit: 2 },
      snapshot: undefined,
      entries: [entry(1, 1), entry(1, 2), entry(2, 3)],
    });
  });

  it("returns an empty log when nothing was saved yet", async () => {
    const segment = new SegmentBuilder().head("").mark(0, 0).bytes(64);
    const contents = await read({ [segmentName(0, 0)]: segment });
    expect(contents.entries).toEqual([]);
    expect(contents.hardState).toEqual({ term: 0, vote: 0n, commit: 0 });
    expect(contents.metadata).toEqual(new Uint8Array(0));
  });

  it("reads frames that are larger than its buffer, and such that straddle its end", async () => {
    const large = new Uint8Array(3_000_001).fill(7);
    const odd = Array.from({ length: 40 }, (_, i) => entry(1, i + 2, new Uint8Array(77_777).fill(i + 1)));
    const all = [entry(1, 1, large), ...odd];
    const segment = new SegmentBuilder()
      .head()
      .mark(0, 0)
      .entries(...all)
      .state(1, 1);
    const { entries } = await read({ [segmentName(0, 0)]: segment.bytes(4096) });
    expect(entries.length).toBe(all.length);
    for (const [i, each] of entries.entries()) expect(Buffer.compare(each.data, all[i]?.data ?? large)).toBe(0);
  });

  describe("choosing a snapshot", () => {
    const wal = { [segmentName(0, 0)]: log().bytes(256) };
    const newest = async (files: Files) => (await read({ ...wal, ...files })).snapshot?.metadata.index;

    it("takes the newest whose mark is in the log", async () => {
      const files = { [snapshotName(1, 2)]: snapshotBytes(1, 2), [snapshotName(1, 3)]: snapshotBytes(1, 3) };
      const contents = await read({ ...wal, ...files });
      expect(contents.snapshot?.metadata.index).toBe(3);
      expect(contents.snapshot?.metadata.confState.voters).toEqual([1n]);
      expect(Buffer.from(contents.snapshot?.data ?? []).toString()).toBe("state");
      expect(contents.entries).toEqual([entry(1, 4), entry(1, 5)]);
    });

    it.each([
      ["without a mark", { [snapshotName(1, 4)]: snapshotBytes(1, 4) }],
      ["with a mark of another term", { [snapshotName(2, 3)]: snapshotBytes(2, 3) }],
      ["with a mark above the last commit", { [snapshotName(1, 5)]: snapshotBytes(1, 5) }],
      ["that are empty", { [snapshotName(1, 3)]: new Uint8Array(0) }],
      ["that are cut off", { [snapshotName(1, 3)]: snapshotBytes(1, 3).slice(0, -1) }],
      [
        "with a wrong checksum",
        { [snapshotName(1, 3)]: snapshotBytes(1, 3).map((byte, i) => (i === 12 ? byte ^ 1 : byte)) },
      ],
      ["of other names", { "snap/db": snapshotBytes(1, 3), [`${snapshotName(1, 3)}.broken`]: snapshotBytes(1, 3) }],
    ])("passes over files %s", async (_what, files) => {
      expect(await newest({ ...files, [snapshotName(1, 2)]: snapshotBytes(1, 2) })).toBe(2);
      expect(await newest(files)).toBeUndefined();
    });

    it("takes a file in the place of snap/ for no snapshots", async () => {
      expect(await newest({ snap: snapshotBytes(1, 3) })).toBeUndefined();
    });

    it("passes over a directory in the place of a file, and over a file that is removed when it was listed", async () => {
      const disk = await memoryMember({ ...wal, [snapshotName(1, 2)]: snapshotBytes(1, 2) });
      await disk.mkdir(`/m/${snapshotName(1, 3)}`);
      expect((await readMember("/m", { disk })).snapshot?.metadata.index).toBe(2);
      const list = disk.list.bind(disk);
      disk.list = async (dir) =>
        dir === "/m/snap" ? [...(await list(dir)), "0000000000000001-0000000000000004.snap"] : list(dir);
      expect((await readMember("/m", { disk })).snapshot?.metadata.index).toBe(2);
    });

    it("rejects with ERR_READ when the system cannot list snap/ or read a file in it, and tries no older one", async () => {
      const cause = Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
      const files = { ...wal, [snapshotName(1, 3)]: snapshotBytes(1, 3), [snapshotName(1, 2)]: snapshotBytes(1, 2) };
      const unlisted = await memoryMember(files);
      const list = unlisted.list.bind(unlisted);
      unlisted.list = (dir) => (dir === "/m/snap" ? Promise.reject(cause) : list(dir));
      expect(await refusal(readMember("/m", { disk: unlisted }), "ERR_READ")).toMatchObject({ file: "snap", cause });
      const unread = await memoryMember(files);
      const openFile = unread.open.bind(unread);
      unread.open = async (path, mode) => {
        const file = await openFile(path, mode);
        if (path === `/m/${snapshotName(1, 3)}`) file.readLater = () => Promise.reject(cause);
        return file;
      };
      const error = await refusal(readMember("/m", { disk: unread }), "ERR_READ");
      expect(error).toMatchObject({ file: snapshotName(1, 3), cause });
    });

    it("rejects with ERR_TOO_LARGE a file above 1 GiB, before it makes room for it", async () => {
      const disk = await memoryMember({ ...wal, [snapshotName(1, 3)]: snapshotBytes(1, 3) });
      const openFile = disk.open.bind(disk);
      let closed = 0;
      disk.open = async (path, mode) => {
        const file = await openFile(path, mode);
        if (path !== `/m/${snapshotName(1, 3)}`) return file;
        file.size = () => 1024 ** 3 + 1;
        file.readLater = () => Promise.reject(new Error("read"));
        const close = file.close.bind(file);
        file.close = () => {
          closed++;
          return close();
        };
        return file;
      };
      const error = await refusal(readMember("/m", { disk }), "ERR_TOO_LARGE");
      expect(error.file).toBe(snapshotName(1, 3));
      expect(closed).toBe(1);
    });

    it("looks at none when told to begin at the start", async () => {
      const contents = await read({ ...wal, [snapshotName(1, 3)]: snapshotBytes(1, 3) }, "start");
      expect(contents.snapshot).toBeUndefined();
      expect(indexes(contents.entries)).toEqual([1, 2, 3, 4, 5]);
    });
  });

  describe("of a log whose oldest segments were purged", () => {
    const first = new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1), entry(1, 2)).state(1, 2);
    const second = new SegmentBuilder(first.crc).head().state(1, 2).entries(entry(1, 3), entry(1, 4)).state(1, 4);
    second.mark(3, 1);
    const third = new SegmentBuilder(second.crc).head().state(1, 4).entries(entry(1, 5)).state(1, 5);
    const kept = { [segmentName(1, 3)]: second.bytes(), [segmentName(2, 5)]: third.bytes(128) };

    it("begins in the last segment that was begun at or below the snapshot", async () => {
      const contents = await read({ ...kept, [snapshotName(1, 3)]: snapshotBytes(1, 3) });
      expect(indexes(contents.entries)).toEqual([4, 5]);
      expect(contents.hardState.commit).toBe(5);
    });

    it("refuses the start, and a snapshot that is gone", async () => {
      const disk = await memoryMember({ ...kept, [snapshotName(1, 3)]: snapshotBytes(1, 3) });
      const error = await refusal(readMember("/m", { from: "start", disk }), "ERR_GAP");
      expect(error.message).toContain("starts at 3");
      await disk.unlink(`/m/${snapshotName(1, 3)}`);
      expect((await refusal(readMember("/m", { disk }), "ERR_GAP")).message).toContain("no snapshot can be used");
    });
  });

  it("ends where a file ends that was cut off after it was opened", async () => {
    const disk = await memoryMember({ [segmentName(0, 0)]: log().bytes() });
    const openFile = disk.open.bind(disk);
    disk.open = async (path, mode) => {
      const file = await openFile(path, mode);
      const size = file.size();
      file.size = () => size + 64_000;
      return file;
    };
    expect((await readMember("/m", { disk })).entries).toHaveLength(5);
  });

  it("rejects with ERR_READ, the file and the cause when the system cannot read", async () => {
    const disk = await memoryMember({ [segmentName(0, 0)]: log().bytes() });
    const openFile = disk.open.bind(disk);
    const cause = Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
    disk.open = async (path, mode) => {
      const file = await openFile(path, mode);
      file.readLater = () => Promise.reject(cause);
      return file;
    };
    expect(await refusal(readMember("/m", { disk }), "ERR_READ")).toMatchObject({ file: segmentName(0, 0), cause });
  });

  it("refuses entries that leave one out", async () => {
    const segment = new SegmentBuilder().head().mark(0, 0).entries(entry(1, 1), entry(1, 3));
    const error = await refusal(read({ [segmentName(0, 0)]: segment.bytes() }), "ERR_GAP");
    expect(error).toMatchObject({ file: segmentName(0, 0), offset: segment.offsets[4] });
    expect(error.message).toContain("entry 3 follows entry 1");
  });

  it("refuses a segment that is missing", async () => {
    const { [segmentName(3, 0x250)]: gone, ...files } = fixtureFiles("segments-1");
    expect(gone).toBeDefined();
    const error = await refusal(read(files), "ERR_GAP");
    expect(error.file).toBe(segmentName(4, 0x314));
  });

  it("refuses two segments of one sequence number", async () => {
    const bytes = new SegmentBuilder().head().mark(0, 0).bytes();
    await refusal(read({ [segmentName(0, 0)]: bytes, [segmentName(0, 1)]: bytes }), "ERR_GAP");
  });

  it("refuses segments of two owners", async () => {
    const first = new SegmentBuilder().head("one").mark(0, 0);
    const second = new SegmentBuilder(first.crc).head("two");
    const files = { [segmentName(0, 0)]: first.bytes(), [segmentName(1, 1)]: second.bytes() };
    const error = await refusal(read(files), "ERR_CORRUPT");
    expect(error).toMatchObject({ file: segmentName(1, 1), offset: second.offsets[1] });
  });

  it("refuses a log that does not have the place it is to begin at", async () => {
    const unmarked = new SegmentBuilder().head().entries(entry(1, 1));
    await refusal(read({ [segmentName(0, 0)]: unmarked.bytes() }), "ERR_CORRUPT");
    const otherTerm = new SegmentBuilder().head().mark(0, 3);
    await refusal(read({ [segmentName(0, 0)]: otherTerm.bytes() }), "ERR_CORRUPT");
    await refusal(read({ [segmentName(0, 0)]: new Uint8Array(0) }), "ERR_CORRUPT");
  });

  it("refuses a segment whose name holds a number beyond 2^53 - 2", async () => {
    const files = { [segmentName(0, 0)]: log().bytes(), "wal/0000000000000001-ffffffffffffffff.wal": log().bytes() };
    await refusal(read(files), "ERR_CORRUPT");
  });

  it("ignores names in wal/ that are no segments", async () => {
    const bytes = concat(new Uint8Array(100));
    const stray = { "wal/0.tmp": bytes, "wal/x.wal": bytes, [`${segmentName(1, 1)}.broken`]: bytes };
    const contents = await read({ ...stray, [segmentName(0, 0)]: log().bytes() });
    expect(contents.entries).toHaveLength(5);
  });

  it("rejects with ERR_NOT_FOUND when there is no wal/, no segment, no directory", async () => {
    const disk = await memoryMember({ "wal/readme": new Uint8Array(1) });
    await refusal(readMember("/m", { disk }), "ERR_NOT_FOUND");
    await refusal(readMember("/m/wal", { disk }), "ERR_NOT_FOUND");
    await refusal(readMember("/nowhere", { disk }), "ERR_NOT_FOUND");
    await refusal(readMember(`${fixtures}nowhere`), "ERR_NOT_FOUND");
    await refusal(readMember(`${fixtures}README.md`), "ERR_NOT_FOUND");
  });

  it("refuses a directory in place of a segment", async () => {
    const disk = await memoryMember({});
    await disk.mkdir(`/m/${segmentName(0, 0)}`);
    const error = await refusal(readMember("/m", { disk }), "ERR_FOREIGN");
    expect(error.file).toBe(segmentName(0, 0));
  });

  it("rejects bad arguments", async () => {
    await refusal(readMember(""), "ERR_INVALID_ARGUMENT");
    await refusal(readMember("/m", { from: "middle" as "start" }), "ERR_INVALID_ARGUMENT");
  });
});
