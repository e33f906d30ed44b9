// Forged bytes under checksums that hold: whoever can write the directory can make them, and rot may once in four billion.
// They get an error with a code and a place, or are taken with good manners; never an error of another kind, a changed
// prototype, memory beyond the size of the files, or a loop without an end. mutate() does the same by lot; here stands each
// lie by name, with the answer that it must get.

import { beforeAll, describe, expect, it } from "vitest";
import { putU64, viewOf } from "../../src/base/bytes.js";
import { encodeMark, encodeMetadata } from "../../src/storage/mark.js";
import { type Damage, type Extent, judge, newestSegmentOf, type Specimen } from "../../src/testing/damage.js";
import {
  type ForgedFrame,
  forge,
  framesFor,
  growSpecimens,
  sealIndex,
  sealSnapshot,
  sealState,
} from "../../src/testing/mutations.js";
import * as f from "../../src/wal/format.js";

let specimens: Map<string, Specimen>;
let prototype: string;

beforeAll(async () => {
  specimens = new Map((await growSpecimens()).map((specimen) => [specimen.name, specimen]));
  prototype = Object.getOwnPropertyNames(Object.prototype).join();
});

function specimen(name: string): Specimen {
  const found = specimens.get(name);
  if (found === undefined) throw new Error(`no specimen "${name}"`);
  return found;
}

/** Far more than a small log takes, far less than any of the lies asks for. */
const MOST_RSS_KB = 160 * 1024;
const MOST_MS = 5000;

/** What became of a forgery: its verdict, and the code of the first error. Holds that it took neither long nor much. */
async function answer(on: Specimen, damages: readonly Damage[]): Promise<string> {
  const before = process.resourceUsage().maxRSS;
  const started = performance.now();
  const { kind, why, error } = await judge(on, damages);
  expect(performance.now() - started).toBeLessThan(MOST_MS);
  expect(process.resourceUsage().maxRSS - before).toBeLessThan(MOST_RSS_KB);
  expect(Object.getOwnPropertyNames(Object.prototype).join()).toBe(prototype);
  expect(kind === "wrong" ? why : "").toBe("");
  return error === undefined ? kind : `${kind} ${error.code}`;
}

/** Changes the frame `number` of the newest segment (0 is its head) and forges all that depends on it. */
function forged(on: Specimen, number: number, change: (frame: ForgedFrame) => ForgedFrame, file?: string): Damage[] {
  const segment = file ?? newestSegmentOf(on.layout);
  const frames = framesFor(on.files, on.layout, segment);
  const at = number < 0 ? frames.length + number : number;
  frames[at] = change(frames[at] as ForgedFrame);
  return forge(on, segment, frames, "by hand");
}

/** As forged(), with a change of the body in place. */
function lied(on: Specimen, number: number, change: (body: DataView) => void, file?: string): Damage[] {
  return forged(
    on,
    number,
    (frame) => {
      const body = frame.body.slice();
      change(viewOf(body));
      return { ...frame, body };
    },
    file,
  );
}

/** Bytes of a part with these fields, whether they fit together or not. */
function part(fields: {
  readonly flags: number;
  readonly markBytes?: number;
  readonly count?: number;
  readonly blocks?: number;
  readonly rest?: readonly (Uint8Array | bigint)[];
}): Uint8Array {
  const rest = (fields.rest ?? []).map((each) => {
    if (typeof each !== "bigint") return each;
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, each, true);
    return bytes;
  });
  const body = new Uint8Array(f.PART_BYTES + rest.reduce((sum, { length }) => sum + length, 0));
  const view = viewOf(body);
  view.setUint32(f.P_FLAGS, fields.flags, true);
  view.setUint32(f.P_MARK_BYTES, fields.markBytes ?? 0, true);
  view.setUint32(f.P_COUNT, fields.count ?? 0, true);
  view.setUint32(f.P_BLOCKS, fields.blocks ?? 0, true);
  let at = f.PART_BYTES;
  for (const bytes of rest) {
    body.set(bytes, at);
    at += bytes.length;
  }
  return body;
}

const record = (dataBytes: number, tag: number, kind: number, data: number): Uint8Array => {
  const bytes = new Uint8Array(f.RECORD_BYTES + data);
  const view = viewOf(bytes);
  view.setUint32(f.R_DATA_BYTES, dataBytes, true);
  view.setUint32(f.R_TAG_LOW, tag >>> 0, true);
  view.setUint32(f.R_TAG_HIGH_KIND, ((Math.floor(tag / 2 ** 32) << 8) | kind) >>> 0, true);
  return bytes;
};

const voters = { voters: [1n], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false };
const goodMark = encodeMark({ confState: voters, snapshots: [] });
const text = (letters: string): number[] => [...letters].map((letter) => letter.charCodeAt(0));

/** A mark of one snapshot whose index is a double that begins with these two bytes; the rest of them are zeros. */
function markWithIndex(high: number, low: number): Uint8Array {
  const confState = [0x95, 0x90, 0x90, 0x90, 0x90, 0xc2];
  return Uint8Array.of(0x93, 1, ...confState, 0x91, 0x93, 0xcb, high, low, 0, 0, 0, 0, 0, 0, 1, ...confState);
}

/** MessagePack that no mark is made of. */
const hostileMarks: readonly (readonly [string, Uint8Array])[] = [
  ["100,000 arrays, one in the other", new Uint8Array(100_000).fill(0x91)],
  ["100,000 maps, one in the other", new Uint8Array(100_000).fill(0x81)],
  ["an array of 2^32 - 1", Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff)],
  ["voters that are 2^32 - 1", Uint8Array.of(0x93, 1, 0x95, 0xdd, 0xff, 0xff, 0xff, 0xff)],
  ["2^16 - 1 snapshots", Uint8Array.of(0x93, 1, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0xdc, 0xff, 0xff)],
  ["a map of 2^32 - 1", Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff)],
  ["4 GiB of bytes", Uint8Array.of(0xc6, 0xff, 0xff, 0xff, 0xff)],
  ["4 GiB of text", Uint8Array.of(0xdb, 0xff, 0xff, 0xff, 0xff)],
  ["4 GiB of an extension", Uint8Array.of(0xc9, 0xff, 0xff, 0xff, 0xff, 1)],
  ["a prototype", Uint8Array.of(0x81, 0xa9, ...text("__proto__"), 0x81, 0xa8, ...text("polluted"), 0xc3)],
  ["a constructor", Uint8Array.of(0x81, 0xab, ...text("constructor"), 0x81, 0xa9, ...text("prototype"), 0xc3)],
  ["a record definition of msgpackr", Uint8Array.of(0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01)],
  ["an error object of msgpackr", Uint8Array.of(0xc7, 1, 0x65, 0x90)],
  ["nil", Uint8Array.of(0xc0)],
  ["text for a version", Uint8Array.of(0x93, 0xa1, 0x31, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x90)],
  [
    "NaN for a version",
    Uint8Array.of(0x93, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x90),
  ],
  ["a version below 1", Uint8Array.of(0x93, 0, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x90)],
  ["a number for a ConfState", Uint8Array.of(0x93, 1, 5, 0x90)],
  ["small numbers for node IDs", Uint8Array.of(0x93, 1, 0x95, 0x91, 1, 0x90, 0x90, 0x90, 0xc2, 0x90)],
  [
    "a negative node ID",
    Uint8Array.of(0x93, 1, 0x95, 0x91, 0xd3, ...Array<number>(8).fill(0xff), 0x90, 0x90, 0x90, 0xc2, 0x90),
  ],
  ["a number for autoLeave", Uint8Array.of(0x93, 1, 0x95, 0x90, 0x90, 0x90, 0x90, 0, 0x90)],
  ["three snapshots", Uint8Array.of(0x93, 1, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x93, 0x90, 0x90, 0x90)],
  ["an index of 2^53", markWithIndex(0x43, 0x40)],
  ["a fraction for an index", markWithIndex(0x3f, 0xf8)],
  ["a mark cut short", goodMark.slice(0, -1)],
  ["a mark and a byte more", Uint8Array.of(...goodMark, 0)],
];

describe("a forged mark", () => {
  it.each(hostileMarks)("open() refuses %s", async (_what, mark) => {
    const padded = new Uint8Array(Math.ceil(mark.length / 8) * 8);
    padded.set(mark);
    const body = part({ flags: f.F_MARK, markBytes: mark.length, rest: [padded] });
    for (const name of ["one closed", "one powerless", "many killed"]) {
      expect(
        await answer(
          specimen(name),
          forged(specimen(name), -1, () => ({ body })),
        ),
      ).toBe("refused ERR_CORRUPT");
    }
  });

  it("open() refuses one of a newer version as ERR_FORMAT_VERSION, and names the newest segment", async () => {
    const mark = Uint8Array.of(0x93, 2, 0x95, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x90);
    const body = part({ flags: f.F_MARK, markBytes: mark.length, rest: [mark, new Uint8Array(7)] });
    for (const name of ["one closed", "one killed", "one powerless", "many killed"]) {
      const on = specimen(name);
      const damages = forged(on, -1, () => ({ body }));
      const { kind, error } = await judge(on, damages);
      expect([kind, error?.code], name).toEqual(["refused", "ERR_FORMAT_VERSION"]);
      expect(error).toMatchObject({ file: newestSegmentOf(on.layout), offset: 0 });
      expect(error?.cause).toMatchObject({ code: "ERR_FORMAT_VERSION" });
    }
  });
});

describe("a forged part", () => {
  const big = 0xffffffff;
  const state = [1n, 1n, 0n];
  const cases: readonly (readonly [string, string, () => ForgedFrame])[] = [
    [
      "2^32 - 1 records in no bytes",
      "refused",
      () => ({ body: part({ flags: f.F_RECORDS, count: big, rest: [1n, 1n] }) }),
    ],
    [
      "2^32 - 1 blocks",
      "refused",
      () => ({ body: part({ flags: f.F_RECORDS, count: 1, blocks: big, rest: [1n, 1n] }) }),
    ],
    [
      "2^32 - 1 of both",
      "refused",
      () => ({ body: part({ flags: f.F_RECORDS, count: big, blocks: big, rest: [1n, 1n] }) }),
    ],
    ["a mark of 4 GiB", "refused", () => ({ body: part({ flags: f.F_MARK, markBytes: big }) })],
    ["a mark's length without a mark", "refused", () => ({ body: part({ flags: 0, markBytes: 8 }) })],
    ["records without the flag", "refused", () => ({ body: part({ flags: 0, count: 1 }) })],
    ["a flag that there is not", "refused", () => ({ body: part({ flags: 64 }) })],
    ["all flags and no bytes", "refused", () => ({ body: part({ flags: f.F_ALL }) })],
    ["another group", "refused", () => ({ body: part({ flags: 0 }).fill(1, 0, 1) })],
    ["a state that the body has no room for", "refused", () => ({ body: part({ flags: f.F_STATE, rest: [1n] }) })],
    ["a base that the body has no room for", "refused", () => ({ body: part({ flags: f.F_COMPACT, rest: [1n] }) })],
    [
      "a compaction beyond the last index",
      "refused",
      () => ({ body: part({ flags: f.F_COMPACT, rest: [2n ** 40n, 1n] }) }),
    ],
    ["a compaction to 2^53", "refused", () => ({ body: part({ flags: f.F_COMPACT, rest: [2n ** 53n, 1n] }) })],
    [
      "a reset with a tag of 2^64 - 1",
      "refused",
      () => ({ body: part({ flags: f.F_RESET, rest: [9n, 2n ** 64n - 1n] }) }),
    ],
    ["records from 0 on", "refused", () => ({ body: part({ flags: f.F_RECORDS, rest: [0n, 1n] }) })],
    ["records from 2^53 on", "refused", () => ({ body: part({ flags: f.F_RECORDS, rest: [2n ** 53n, 1n] }) })],
    ["records behind a gap", "refused", () => ({ body: part({ flags: f.F_RECORDS, rest: [2n ** 40n, 1n] }) })],
    ["bytes behind no records", "refused", () => ({ body: part({ flags: f.F_RECORDS, rest: [1n, 1n, 7n] }) })],
    ["a term of 2^53", "refused", () => ({ body: part({ flags: f.F_STATE, rest: [2n ** 53n, 1n, 0n] }) })],
    ["a commit of 2^64 - 1", "refused", () => ({ body: part({ flags: f.F_STATE, rest: [1n, 1n, 2n ** 64n - 1n] }) })],
    [
      "a commit beyond the last index",
      "refused",
      () => ({ body: part({ flags: f.F_STATE, rest: [9n, 1n, 2n ** 50n] }) }),
    ],
    [
      "a vote of 64 bits, which may be",
      "forged",
      () => ({ body: part({ flags: f.F_STATE, rest: [9n, 2n ** 64n - 1n, 1n] }) }),
    ],
    [
      "a meta length beyond the body",
      "refused",
      () => ({ body: part({ flags: f.F_STATE, rest: state }), metaBytes: big }),
    ],
    [
      "a meta length below a part's",
      "refused",
      () => ({ body: part({ flags: f.F_STATE, rest: state }), metaBytes: 8 }),
    ],
    [
      "a directory that overlaps the part",
      "refused",
      () => ({
        body: part({ flags: f.F_RECORDS, count: 9, blocks: 9, rest: [1n, 1n, 0n] }),
        metaBytes: f.PART_BYTES + 16,
      }),
    ],
    [
      "a block that overlaps the directory",
      "refused",
      () => ({
        body: part({ flags: f.F_RECORDS, count: 1, blocks: 1, rest: [1n, 1n, 0xffff_00000000n, 1n, 0xfff0n] }),
        metaBytes: f.PART_BYTES + 16,
      }),
    ],
    [
      "a body of 4 GiB",
      "refused",
      () => ({
        body: part({ flags: f.F_STATE, rest: state }),
        header: (header) => header.setUint32(f.H_BODY_BYTES, big, true),
      }),
    ],
    [
      "a body whose padded length wraps",
      "refused",
      () => ({
        body: part({ flags: f.F_STATE, rest: state }),
        header: (header) => header.setUint32(f.H_BODY_BYTES, 0xfffffff9, true),
      }),
    ],
    [
      "a watermark of 2^64 - 1",
      "forged",
      () => ({
        body: part({ flags: f.F_STATE, rest: [9n, 1n, 1n] }),
        header: (header) => header.setBigUint64(f.H_DURABLE, 2n ** 64n - 1n, true),
      }),
    ],
  ];

  it.each(cases)("open() answers %s: %s", async (_what, expected, frame) => {
    for (const name of ["one closed", "one powerless", "group behind", "many killed"]) {
      const on = specimen(name);
      const found = await answer(on, forged(on, -1, frame));
      // A frame that no length reaches the end of is no frame: where nothing vouches for it, it may pass for a tear.
      expect(found, name).toMatch(expected === "forged" ? /^forged$/ : /^refused ERR_CORRUPT$|^forged$/);
      if (expected === "refused" && name === "one closed") expect(found).toBe("refused ERR_CORRUPT");
    }
  });
});

describe("forged records", () => {
  const at = (on: Specimen): bigint => BigInt((on.history.at(-1) as Specimen["history"][number]).contents.last + 1);
  const cases: readonly (readonly [string, (first: bigint) => Uint8Array])[] = [
    [
      "data of 4 GiB",
      (first) => part({ flags: f.F_RECORDS, count: 1, rest: [first, 9n, record(0xffffffff, 9, 0, 4)] }),
    ],
    [
      "data a byte longer than there is",
      (first) => part({ flags: f.F_RECORDS, count: 1, rest: [first, 9n, record(5, 9, 0, 4)] }),
    ],
    [
      "more of them than there are",
      (first) => part({ flags: f.F_RECORDS, count: 2, rest: [first, 9n, record(16, 9, 0, 16)] }),
    ],
    [
      "tags beyond 2^53",
      (first) => part({ flags: f.F_RECORDS, count: 1, rest: [first, 9n, record(4, 2 ** 55, 0, 4)] }),
    ],
    [
      "mixed tags beyond 2^53",
      (first) => part({ flags: f.F_RECORDS | f.F_MIXED, count: 1, rest: [first, 9n, record(4, 2 ** 55, 0, 4)] }),
    ],
    [
      "mixed tags that do not fill the part",
      (first) => part({ flags: f.F_RECORDS | f.F_MIXED, count: 1, rest: [first, 9n, record(2, 9, 0, 4)] }),
    ],
  ];

  it.each(cases)("open(), a read or verify() names %s", async (_what, body) => {
    for (const name of ["one closed", "one killed", "one powerless", "group behind"]) {
      const on = specimen(name);
      // Reads check what they read: a lie about records is found by open() or met by the read, which judge() sees to.
      const found = await answer(
        on,
        forged(on, -1, () => ({ body: body(at(on) - 1n) })),
      );
      expect(found, name).toMatch(/^refused ERR_CORRUPT$|^forged( ERR_CORRUPT)?$/);
    }
  });

  it("a blocked part's directory, counts and firsts may say anything", async () => {
    for (const name of ["large closed", "large powerless", "large behind"]) {
      const on = specimen(name);
      const file = newestSegmentOf(on.layout);
      const frames = framesFor(on.files, on.layout, file);
      const blockedOnes = [...frames.keys()].filter((i) => {
        const { body, metaBytes = body.length } = frames[i] as ForgedFrame;
        return metaBytes < body.length;
      });
      expect(blockedOnes.length).toBeGreaterThan(1);
      for (const blocked of blockedOnes) {
        const { body: whole, metaBytes: first = 0 } = frames[blocked] as ForgedFrame;
        const blocks = viewOf(whole).getUint32(f.P_BLOCKS, true);
        const count = viewOf(whole).getUint32(f.P_COUNT, true);
        for (const value of [0, 1, blocks - 1, blocks + 1, count + 1, 1000, 0xffff, 0x7fffffff, 0xffffffff]) {
          for (const field of [f.P_COUNT, f.P_BLOCKS]) {
            await answer(
              on,
              lied(on, blocked, (body) => body.setUint32(field, value, true)),
            );
          }
          for (let i = 1; i <= blocks; i++) {
            const entry = (body: DataView): number => body.byteLength - i * f.DIRECTORY_BYTES;
            await answer(
              on,
              lied(on, blocked, (body) => body.setUint32(entry(body), value, true)),
            );
          }
          await answer(
            on,
            lied(on, blocked, (body) => body.setUint32(first + f.B_RECORD_BYTES, value, true)),
          );
          await answer(
            on,
            lied(on, blocked, (body) => putU64(body, first + f.B_FIRST, value)),
          );
        }
      }
    }
  });
});

const HUGE: readonly bigint[] = [
  0n,
  1n,
  2n,
  4096n,
  2n ** 32n,
  2n ** 53n - 2n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

describe("a forged head", () => {
  const links = {
    L_PREV_GENERATION: f.L_PREV_GENERATION,
    L_PREV_END: f.L_PREV_END,
    L_PREV_SEQUENCE: f.L_PREV_SEQUENCE,
    L_PREV_FROM: f.L_PREV_FROM,
    L_BASE_INDEX: f.L_BASE_INDEX,
    L_BASE_TAG: f.L_BASE_TAG,
    L_LAST_INDEX: f.L_LAST_INDEX,
    L_CAPACITY: f.L_CAPACITY,
    L_LOG_ID: f.L_LOG_ID,
  };

  it.each(Object.entries(links))("whatever stands in %s of the link, the answer has a code", async (_name, field) => {
    for (const name of ["one closed", "one powerless", "many closed", "many powerless"]) {
      const on = specimen(name);
      for (const head of on.layout.filter(({ kind }) => kind === "head")) {
        for (const value of HUGE) {
          // A segment that follows itself or a later one is a circle: below.
          if (field === f.L_PREV_GENERATION && value >= head.generation && value <= 4n) continue;
          await answer(
            on,
            lied(on, 0, (body) => body.setBigUint64(field, value, true), head.file),
          );
        }
      }
    }
  });

  it("open() refuses a link that leads forward or to the segment itself, and goes round in no circle", async () => {
    for (const name of ["many closed", "many powerless"]) {
      const on = specimen(name);
      const heads = on.layout.filter(({ kind }) => kind === "head");
      for (const head of heads.slice(1)) {
        for (const { generation } of heads.filter((each) => each.generation >= head.generation)) {
          const set = (body: DataView): void => putU64(body, f.L_PREV_GENERATION, generation);
          expect(await answer(on, lied(on, 0, set, head.file))).toBe("refused ERR_CORRUPT");
        }
      }
    }
  });

  const headers = {
    H_GENERATION: f.H_GENERATION,
    H_SEQUENCE: f.H_SEQUENCE,
    H_DURABLE: f.H_DURABLE,
    H_OFFSET: f.H_OFFSET,
    H_LOG_ID: f.H_LOG_ID,
  };

  it.each(Object.entries(headers))("whatever stands in %s of a header, the answer has a code", async (_name, field) => {
    for (const name of ["one powerless", "many closed"]) {
      const on = specimen(name);
      for (const number of [0, 1, -1]) {
        for (const value of HUGE) {
          const change = (frame: ForgedFrame): ForgedFrame => ({
            ...frame,
            header: (header) => header.setBigUint64(field, value, true),
          });
          await answer(on, forged(on, number, change));
        }
      }
    }
  });
});

/** Changes a file in place, under renewed checksums. */
function rewritten(
  on: Specimen,
  file: string,
  seal: (bytes: Uint8Array) => void,
  change: (view: DataView) => void,
): Damage[] {
  const bytes = (on.files.get(file) as Uint8Array).slice();
  change(viewOf(bytes));
  seal(bytes);
  return [{ kind: "forged", file, bytes, what: "by hand" }];
}

describe("a forged STATE", () => {
  const identity = [f.I_VERSION, f.I_SERIAL, f.I_NEWEST, f.I_LOG_ID];
  const watermark = [f.W_SERIAL, f.W_GENERATION, f.W_END, f.W_SEQUENCE];

  it("whatever its slots say, the answer has a code", async () => {
    for (const name of ["one closed", "one killed", "many killed"]) {
      const on = specimen(name);
      for (const value of HUGE) {
        for (const slot of [0, f.IDENTITY_SLOT_BYTES]) {
          for (const field of identity) {
            const set = (view: DataView): void => view.setBigUint64(slot + field, value, true);
            await answer(on, rewritten(on, "STATE", sealState, set));
          }
        }
        for (const slot of [f.WATERMARK_AT, f.WATERMARK_AT + f.WATERMARK_SLOT_BYTES]) {
          for (const field of watermark) {
            const set = (view: DataView): void => view.setBigUint64(slot + field, value, true);
            await answer(on, rewritten(on, "STATE", sealState, set));
          }
        }
      }
    }
  });

  it("metadata of 4 GiB, or more than may be, makes a slot that says nothing", async () => {
    const on = specimen("one closed");
    for (const bytes of [4097, 8192, 24_576, 0x7fffffff, 0xffffffff]) {
      const both = (view: DataView): void => {
        for (const slot of [0, f.IDENTITY_SLOT_BYTES]) view.setUint32(slot + f.I_METADATA_BYTES, bytes, true);
      };
      expect(await answer(on, rewritten(on, "STATE", sealState, both))).toBe("refused ERR_CORRUPT");
    }
  });

  it("a newest segment that is nowhere is ERR_GAP, a newer version ERR_FORMAT_VERSION", async () => {
    const on = specimen("one closed");
    for (const [field, value, code] of [
      [f.I_NEWEST, 2n ** 40n, "ERR_GAP"],
      [f.I_VERSION, 2n, "ERR_FORMAT_VERSION"],
    ] as const) {
      const set = (view: DataView): void => {
        for (const slot of [0, f.IDENTITY_SLOT_BYTES]) {
          if (field === f.I_VERSION) view.setUint32(slot + field, Number(value), true);
          else view.setBigUint64(slot + field, value, true);
        }
      };
      expect(await answer(on, rewritten(on, "STATE", sealState, set))).toBe(`refused ${code}`);
    }
  });
});

describe("a forged snapshot", () => {
  const snapshotsOf = (on: Specimen): Extent[] => on.layout.filter(({ kind }) => kind === "snapshot");

  it("whatever its lengths say, the answer has a code", async () => {
    const on = specimen("many closed");
    for (const { file, from, to } of snapshotsOf(on)) {
      for (const value of [0, 1, 7, 8, 9, 100, 4096, 0x100000, 0x7fffffff, 0xfffffff0, 0xfffffffe, 0xffffffff]) {
        const field = from === 0 ? 12 : from;
        const set = (view: DataView): void => view.setUint32(field, value, true);
        await answer(on, rewritten(on, file, sealSnapshot, set));
        const total = (view: DataView): void => view.setBigUint64(view.byteLength - 8, BigInt(value) << 32n, true);
        await answer(on, rewritten(on, file, sealSnapshot, total));
      }
      expect(to).toBeGreaterThan(from);
    }
  });

  it.each(hostileMarks)("open() or verify() refuses metadata that is %s", async (_what, metadata) => {
    const on = specimen("many closed");
    const [older, newer] = [...new Set(snapshotsOf(on).map(({ file }) => file))] as [string, string];
    for (const file of [older, newer]) {
      const whole = on.files.get(file) as Uint8Array;
      const head = Math.ceil((32 + metadata.length) / 8) * 8;
      const data = Math.ceil((32 + viewOf(whole).getUint32(12, true)) / 8) * 8;
      const bytes = new Uint8Array(head + whole.length - data);
      bytes.set(whole.subarray(0, 32));
      bytes.set(metadata, 32);
      bytes.set(whole.subarray(data), head);
      viewOf(bytes).setUint32(12, metadata.length, true);
      sealSnapshot(bytes);
      const found = await answer(on, [{ kind: "forged", file, bytes, what: "metadata" }]);
      expect(found).toBe(file === newer ? "refused ERR_CORRUPT" : "forged ERR_CORRUPT");
    }
  });

  it("open() refuses another snapshot's metadata under this one's name", async () => {
    const on = specimen("many closed");
    const file = (snapshotsOf(on).at(-1) as Extent).file;
    const bytes = (on.files.get(file) as Uint8Array).slice();
    const other = encodeMetadata({
      index: 3,
      term: 9,
      confState: { ...voters, voters: [3n], learners: [9n], autoLeave: true },
    });
    expect(viewOf(bytes).getUint32(12, true)).toBe(other.length);
    bytes.set(other, 32);
    sealSnapshot(bytes);
    expect(await answer(on, [{ kind: "forged", file, bytes, what: "metadata" }])).toBe("refused ERR_CORRUPT");
  });
});

describe("a forged index", () => {
  it("is made again or read with good manners, whatever its counts and places say", async () => {
    for (const name of ["many closed", "many powerless"]) {
      const on = specimen(name);
      for (const [file, { length }] of on.files) {
        if (!file.endsWith(".idx")) continue;
        for (let at = f.X_BLOCKS; at < length; at += 4) {
          for (const value of [0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff]) {
            await answer(
              on,
              rewritten(on, file, sealIndex, (view) => view.setUint32(at, value, true)),
            );
          }
        }
      }
    }
  });
});
