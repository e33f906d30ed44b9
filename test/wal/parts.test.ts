// The small parts of the log engine: names, options, errors, sync times.

import { describe, expect, it } from "vitest";
import { StableLogError } from "../../src/base/errors.js";
import { systemError } from "../../src/disk/system-error.js";
import * as f from "../../src/wal/format.js";
import { openError, readError, spaceError } from "../../src/wal/io-error.js";
import { checkLogOptions, invalidArgument } from "../../src/wal/options.js";
import { indexName, parseIndexName, parseSegmentName, segmentName } from "../../src/wal/segment-name.js";
import { SLOW_SYNC_MS, SyncTimes } from "../../src/wal/sync-times.js";
import { codeOf } from "./helpers.js";

describe("segment names", () => {
  it("are read back, sort as their generations do, and are told apart", () => {
    const generations = [1, 9, 10, 255, 4096, 2 ** 32, 2 ** 53 - 1];
    for (const generation of generations) {
      expect(parseSegmentName(segmentName(generation))).toBe(generation);
      expect(parseIndexName(indexName(generation))).toBe(generation);
      expect(parseSegmentName(indexName(generation))).toBeUndefined();
      expect(parseIndexName(segmentName(generation))).toBeUndefined();
    }
    const names = generations.map(segmentName);
    expect([...names].sort()).toEqual(names);
  });

  it("are not taken for ours when they are not wholly ours", () => {
    const strangers = [
      "0000000000000000.seg",
      "0020000000000000.seg",
      "ffffffffffffffff.seg",
      "000000000000000A.seg",
      "00000000000001.seg",
      "0000000000000001.seg~",
      " 0000000000000001.seg",
      "0000000000000001.seg\n",
      "0000000000000001seg",
      "STATE",
      "",
    ];
    for (const name of strangers) expect(parseSegmentName(name), name).toBeUndefined();
  });
});

describe("checkLogOptions()", () => {
  it("fills in the defaults and takes the edges", () => {
    expect(checkLogOptions("dir", {})).toEqual({
      create: true,
      readOnly: false,
      metadata: undefined,
      segmentBytes: f.DEFAULT_SEGMENT_BYTES,
      cacheBytes: 64 * 1024 * 1024,
      maxPendingBytes: 512 * 1024 * 1024,
      sync: "auto",
      onAmbiguousTail: "refuse",
    });
    for (const segmentBytes of [f.MIN_SEGMENT_BYTES, f.MAX_SEGMENT_BYTES]) {
      expect(checkLogOptions("dir", { segmentBytes, cacheBytes: 0 })).toMatchObject({ segmentBytes, cacheBytes: 0 });
    }
    expect(checkLogOptions("dir", { metadata: new Uint8Array(f.MAX_METADATA_BYTES) }).metadata?.length).toBe(4096);
  });

  it("copies the metadata", () => {
    const metadata = Buffer.from([1, 2]);
    const checked = checkLogOptions("dir", { metadata });
    metadata[0] = 9;
    expect(checked.metadata).toEqual(Uint8Array.of(1, 2));
    expect(Buffer.isBuffer(checked.metadata)).toBe(false);
  });

  const bad: [option: string, value: unknown][] = [
    ["create", "yes"],
    ["create", null],
    ["readOnly", 1],
    ["metadata", "text"],
    ["metadata", new Uint8Array(f.MAX_METADATA_BYTES + 1)],
    ["segmentBytes", f.MIN_SEGMENT_BYTES - 1],
    ["segmentBytes", f.MAX_SEGMENT_BYTES + 1],
    ["segmentBytes", 5000.5],
    ["segmentBytes", "4096"],
    ["segmentBytes", null],
    ["cacheBytes", -1],
    ["cacheBytes", Number.NaN],
    ["maxPendingBytes", Infinity],
    ["sync", "never"],
    ["onAmbiguousTail", "keep"],
  ];
  it.each(bad)("refuses %s: %s", (option, value) => {
    expect(codeOf(() => checkLogOptions("dir", { [option]: value }))).toBe("ERR_INVALID_ARGUMENT");
    expect(() => checkLogOptions("dir", { [option]: value })).toThrow(`open: ${option} must be`);
  });

  it("refuses a dir that is no path and options that are no object", () => {
    for (const dir of ["", 7, undefined, null] as never[]) {
      expect(codeOf(() => checkLogOptions(dir, {}))).toBe("ERR_INVALID_ARGUMENT");
    }
    for (const options of [null, "fast", 5] as never[]) {
      expect(codeOf(() => checkLogOptions("dir", options))).toBe("ERR_INVALID_ARGUMENT");
    }
  });

  it("says what came without trusting what came", () => {
    const hostile = {
      toString(): string {
        throw new Error("hostile");
      },
    };
    expect(invalidArgument("x", "a number", hostile).message).toBe("x must be a number, got [object Object]");
    expect(invalidArgument("x", "a number", Symbol("s")).message).toBe("x must be a number, got Symbol(s)");
    expect(invalidArgument("x", "a number", () => {}).message).toBe("x must be a number, got [object Function]");
  });
});

describe("errors of the system", () => {
  it.each([
    ["ENOSPC", "ERR_NO_SPACE", "ERR_NO_SPACE"],
    ["EDQUOT", "ERR_NO_SPACE", "ERR_NO_SPACE"],
    ["EFBIG", "ERR_NO_SPACE", "ERR_NO_SPACE"],
    ["EIO", "ERR_IO", "ERR_IO"],
    ["EROFS", "ERR_IO", "ERR_READ_ONLY"],
    ["EACCES", "ERR_IO", "ERR_READ_ONLY"],
    ["EPERM", "ERR_IO", "ERR_READ_ONLY"],
  ])("%s is %s when making room, %s when opening, ERR_READ when reading", (errno, space, open) => {
    const cause = systemError(errno, "write");
    const detail = { file: "a.seg", offset: 8 };
    for (const [make, code] of [
      [spaceError, space],
      [openError, open],
      [readError, "ERR_READ"],
    ] as const) {
      const error = make("make a", cause, detail);
      expect(error).toMatchObject({ code, cause, file: "a.seg", offset: 8 });
      expect(error.message).toBe(`make a: ${errno}`);
    }
  });

  it("that are coded already go through, and what is no error is told", () => {
    const coded = new StableLogError("ERR_LOCKED", "held");
    expect(spaceError("x", coded)).toBe(coded);
    expect(openError("x", coded)).toBe(coded);
    expect(readError("x", coded)).toBe(coded);
    expect(spaceError("x", "text").message).toBe("x: text");
    expect(spaceError("x", new Error("plain"))).toMatchObject({ code: "ERR_IO", message: "x: plain" });
  });
});

describe("SyncTimes", () => {
  it("answers quantiles within 5 % from 1 us to hours, and 0 before the first", () => {
    const times = new SyncTimes();
    expect(times.quantile(0.5)).toBe(0);
    for (const ms of [0.0011, 0.2, 1, 33.3, 5000, 3_600_000]) {
      const one = new SyncTimes();
      one.note(ms);
      for (const q of [0, 0.5, 1]) expect(Math.abs(one.quantile(q) / ms - 1)).toBeLessThan(0.05);
    }
    for (let i = 1; i <= 1000; i++) times.note(i / 100);
    expect(times.quantile(0.5) / 5).toBeCloseTo(1, 1);
    expect(times.quantile(0.99) / 9.9).toBeCloseTo(1, 1);
    expect(times.quantile(0)).toBeLessThan(0.011);
    expect(times.quantile(1)).toBeGreaterThan(9.5);
  });

  it("takes a time of nothing and one of years", () => {
    const times = new SyncTimes();
    times.note(0);
    expect(times.quantile(1)).toBeLessThan(0.002);
    times.note(1e12);
    expect(times.quantile(1)).toBeGreaterThan(1e8);
  });

  it("is slow after eight slow syncs more than fast ones, and forgets", () => {
    const times = new SyncTimes();
    for (let i = 0; i < 50; i++) {
      times.note(SLOW_SYNC_MS + 1);
      times.note(SLOW_SYNC_MS);
    }
    expect(times.slow).toBe(false);
    for (let i = 0; i < 7; i++) times.note(SLOW_SYNC_MS + 0.001);
    expect(times.slow).toBe(false);
    times.note(3);
    expect(times.slow).toBe(true);
    times.note(0.1);
    expect(times.slow).toBe(false);
  });

  it("is steady after 256 in a row that are far from slow, and judges anew when told to", () => {
    const times = new SyncTimes();
    for (let i = 0; i < 255; i++) times.note(SLOW_SYNC_MS / 2);
    expect(times.steady).toBe(false);
    times.note(SLOW_SYNC_MS * 0.6);
    for (let i = 0; i < 255; i++) times.note(SLOW_SYNC_MS / 2);
    expect(times.steady).toBe(false);
    times.note(0.1);
    expect(times.steady).toBe(true);
    for (let i = 0; i < 8; i++) times.note(3);
    expect([times.slow, times.steady]).toEqual([true, false]);
    times.startOver();
    expect([times.slow, times.steady]).toEqual([false, false]);
  });

  it("is quick until syncs keep taking more than an eighth of a slow one", () => {
    const times = new SyncTimes();
    expect(times.quick).toBe(true);
    for (let i = 0; i < 7; i++) times.note(SLOW_SYNC_MS / 4);
    expect(times.quick).toBe(true);
    times.note(SLOW_SYNC_MS / 4);
    expect(times.quick).toBe(false);
    times.note(SLOW_SYNC_MS / 8);
    expect(times.quick).toBe(true);
  });
});
