// Every flipped bit, every length, every zeroed sector, every file in the place of every other, every frame in the place of
// every other, for small logs of every ending: closed, killed, after a power cut that took the watermark; and one of several
// segments with snapshots, a compaction and indexes. judge() says of each whether what became of it was right; here stands
// how often which answer must come, counted from the layout of the files.

import { beforeAll, describe, expect, it } from "vitest";
import {
  applyDamage,
  type Damage,
  describeDamage,
  type Extent,
  type Files,
  growLog,
  isDerived,
  judge,
  newestSegmentOf,
  type Specimen,
  type Step,
  specimenOf,
  touchedBy,
  withoutWatermark,
} from "../../src/testing/damage.js";
import { growSpecimens } from "../../src/testing/mutations.js";
import * as f from "../../src/wal/format.js";
import { segmentName } from "../../src/wal/segment-name.js";
import { parseState } from "../../src/wal/state-file.js";

let specimens: Map<string, Specimen>;

beforeAll(async () => {
  specimens = new Map((await growSpecimens()).map((specimen) => [specimen.name, specimen]));
});

function specimen(name: string): Specimen {
  const found = specimens.get(name);
  if (found === undefined) throw new Error(`no specimen "${name}"`);
  return found;
}

/** Judges each of the damages and counts the verdicts, as "refused ERR_CORRUPT"; fails with those that are wrong. */
async function tally(on: Specimen, damages: Iterable<Damage | readonly Damage[]>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const wrong: string[] = [];
  for (const each of damages) {
    const all = Array.isArray(each) ? (each as readonly Damage[]) : [each as Damage];
    const { kind, why, error } = await judge(on, all);
    const key = error === undefined ? kind : `${kind} ${error.code}`;
    if (kind === "wrong" && wrong.length < 5) {
      wrong.push(`${on.name}: ${all.map(describeDamage).join(", ")}: ${why}`);
    }
    counts[key] = (counts[key] ?? 0) + 1;
  }
  expect(wrong).toEqual([]);
  return counts;
}

const sizeOf = (on: Specimen, file: string): number => (on.files.get(file) as Uint8Array).length;

function* flips(file: string, from: number, to: number): Generator<Damage> {
  for (let bit = from * 8; bit < to * 8; bit++) yield { kind: "flip", file, bits: [bit] };
}

function* cuts(file: string, from: number, to: number): Generator<Damage> {
  for (let length = from; length < to; length++) yield { kind: "cut", file, length };
}

/** Bytes of the extents that stand for something. */
function readBytes(extents: readonly Extent[]): number {
  let bytes = 0;
  for (const { from, to, unread } of extents) {
    bytes += to - from - unread.reduce((sum, range) => sum + range.to - range.from, 0);
  }
  return bytes;
}

/** Does the byte stand for something? */
function isRead(extents: readonly Extent[], at: number): boolean {
  const extent = extents.find(({ from, to }) => at >= from && at < to);
  return extent !== undefined && !extent.unread.some(({ from, to }) => at >= from && at < to);
}

const framesOf = (on: Specimen, file?: string): Extent[] =>
  on.layout.filter((each) => (each.kind === "head" || each.kind === "frame") && (file ?? each.file) === each.file);

/** Of logs of several files one bit of so many; all of them with STABLELOG_EXHAUSTIVE=all. A segment of 4 KiB has all of its. */
const EACH = process.env["STABLELOG_EXHAUSTIVE"] === "all" ? 1 : 5;

describe("every flipped bit", () => {
  it.each(["one closed", "one killed"])("judge() sees ERR_CORRUPT for each bit of the segment: %s", async (name) => {
    const on = specimen(name);
    const file = newestSegmentOf(on.layout);
    const read = 8 * readBytes(framesOf(on, file));
    const size = 8 * sizeOf(on, file);
    expect(size).toBeGreaterThan(32_000);
    expect(await tally(on, flips(file, 0, size / 8))).toEqual({ "refused ERR_CORRUPT": read, same: size - read });
  });

  it("judge() sees each bit of a log without watermark: the last frame's is ERR_AMBIGUOUS_TAIL, never silent", async () => {
    const on = specimen("one powerless");
    const file = newestSegmentOf(on.layout);
    const frames = framesOf(on, file);
    const last = 8 * readBytes(frames.slice(-1));
    const before = 8 * readBytes(frames.slice(0, -1));
    const size = 8 * sizeOf(on, file);
    expect(await tally(on, flips(file, 0, size / 8))).toEqual({
      "refused ERR_CORRUPT": before,
      "refused ERR_AMBIGUOUS_TAIL": last,
      same: size - before - last,
    });
  });

  it("judge() sees each bit of a group of four that no watermark covers yet", async () => {
    for (const name of ["group behind", "group powerless"]) {
      const on = specimen(name);
      const file = newestSegmentOf(on.layout);
      const group = framesOf(on, file).slice(-4);
      const [{ from }, , , { to }] = group as [Extent, Extent, Extent, Extent];
      const read = 8 * readBytes(group);
      expect(await tally(on, flips(file, from, to))).toEqual({
        "refused ERR_AMBIGUOUS_TAIL": read,
        same: 8 * (to - from) - read,
      });
    }
  });

  it("judge() sees each bit of several segments and snapshots, and none of an index matters", async () => {
    const on = specimen("many closed");
    for (const file of on.files.keys()) {
      if (file === "STATE") continue;
      const extents = on.layout.filter((each) => each.file === file && each.kind !== "other");
      const damages = [...flips(file, 0, sizeOf(on, file))].filter((_, i) => i % EACH === 0);
      const stands = damages.filter((damage) => isRead(extents, touchedBy(on.files, damage)[0]?.from ?? 0)).length;
      const counts = await tally(on, damages);
      const said = Object.entries(counts).reduce((sum, [key, n]) => (key === "same" ? sum : sum + n), 0);
      expect(said, file).toBe(stands);
      expect(counts["same"] ?? 0, file).toBe(damages.length - stands);
    }
    const snapshots = [...on.files.keys()].filter((file) => file.endsWith(".snapshot"));
    expect(snapshots.length).toBe(2);
  });

  it("judge() sees bits of blocks in an older segment, which only a read or verify() looks at", async () => {
    const on = specimen("aged closed");
    const [file] = [...on.files.keys()].filter((name) => name.endsWith(".seg")) as [string];
    const frames = framesOf(on, file);
    const large = frames.filter(({ from, to }) => to - from > 10_000);
    expect(large.length).toBe(2);
    const damages = large.flatMap(({ from, to }) => [...flips(file, from, to)].filter((_, i) => i % 211 === 0));
    const counts = await tally(on, damages);
    const said = counts["reported ERR_CORRUPT"] ?? 0;
    expect(said + (counts["same"] ?? 0)).toBe(damages.length);
    // The padding of blocks stands for nothing.
    expect(said).toBeGreaterThan(0.99 * damages.length);
    const reads = await Promise.all(damages.slice(0, 300).map((damage) => judge(on, [damage])));
    // Where data stands it is the read that says so, before verify() does.
    expect(reads.filter(({ error }) => error?.message.startsWith("read ")).length).toBeGreaterThan(200);
  });

  // STATE is read through parseState() and nothing else: where it finds the same, open() does the same.
  it("judge() sees the same data whatever bit of STATE is flipped", async () => {
    const on = specimen("one killed");
    const bytes = (on.files.get("STATE") as Uint8Array).slice();
    const whole = parseState(bytes);
    let unlike = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const at = bit >> 3;
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
      const now = parseState(bytes);
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
      if (now.slot === whole.slot && now.watermarkSerial === whole.watermarkSerial && !now.otherUnreadable) continue;
      unlike++;
    }
    const fields = on.layout.filter(({ file }) => file === "STATE");
    const read = 8 * readBytes(fields);
    expect(fields.map(({ kind }) => kind)).toEqual(["identity", "identity", "watermark", "watermark"]);
    // The older watermark slot says nothing that the newer does not.
    expect(unlike).toBe(read - 8 * f.WATERMARK_BYTES);
    for (const name of ["one closed", "one powerless", "many killed", "group behind"]) {
      const other = specimen(name);
      for (const { from, to } of other.layout.filter(({ file }) => file === "STATE")) {
        const fields = [...flips("STATE", from, from + f.WATERMARK_BYTES)].filter((_, i) => i % EACH === 0);
        expect(await tally(other, fields)).toEqual({ same: fields.length });
        const rest = [...flips("STATE", from + f.WATERMARK_BYTES, to)].filter((_, i) => i % 997 === 0);
        expect(await tally(other, rest)).toEqual({ same: rest.length });
      }
    }
  });
});

describe("every length", () => {
  it.each(["one closed", "one killed"])("judge() sees ERR_CORRUPT for each cut of the segment: %s", async (name) => {
    const on = specimen(name);
    const file = newestSegmentOf(on.layout);
    const end = (framesOf(on, file).at(-1) as Extent).to;
    expect(await tally(on, cuts(file, 0, end))).toEqual({ "refused ERR_CORRUPT": end });
    const rest = sizeOf(on, file) - end;
    expect(await tally(on, cuts(file, end, end + rest))).toEqual(rest === 0 ? {} : { same: rest });
  });

  it("judge() sees a log without watermark thrown back to whole saves by a cut, and its head missed", async () => {
    const on = specimen("one powerless");
    const file = newestSegmentOf(on.layout);
    const [head, ...frames] = framesOf(on, file) as [Extent, ...Extent[]];
    const end = (frames.at(-1) as Extent).to;
    expect(await tally(on, cuts(file, 0, head.to))).toEqual({ "refused ERR_CORRUPT": head.to });
    const counts = await tally(on, cuts(file, head.to, end));
    // A trailer that lacks its last byte is no bit from whole, and so on: all of them are tears.
    expect(counts).toEqual({ lost: end - head.to });
  });

  it("judge() sees each cut of several segments and snapshots, and none of an index matters", async () => {
    for (const name of ["many closed", "many killed"]) {
      const on = specimen(name);
      for (const file of on.files.keys()) {
        if (file === "STATE") continue;
        const frames = framesOf(on, file);
        const end = frames.at(-1)?.to ?? sizeOf(on, file);
        const counts = await tally(on, cuts(file, 0, end));
        // The older of two snapshots is read when somebody asks for it.
        const older = file === on.layout.find(({ kind }) => kind === "snapshot")?.file;
        const said = older ? "reported ERR_CORRUPT" : "refused ERR_CORRUPT";
        expect(counts, file).toEqual({ [isDerived(file) ? "same" : said]: end });
      }
    }
  });

  it("judge() sees the same data of a cut STATE, or ERR_CORRUPT when neither identity is left", async () => {
    for (const name of ["one closed", "one killed", "one powerless", "many killed"]) {
      const on = specimen(name);
      const slots = on.layout.filter(({ file }) => file === "STATE");
      const lengths = new Set<number>();
      for (const { from, to, unread } of slots) {
        for (const at of [from, to, unread[0]?.from ?? to]) for (let d = -50; d <= 50; d++) lengths.add(at + d);
        for (let at = from; at < to; at += 97) lengths.add(at);
      }
      const size = sizeOf(on, "STATE");
      const damages = [...lengths]
        .filter((n) => n >= 0 && n < size)
        .map((length): Damage => ({ kind: "cut", file: "STATE", length }));
      const counts = await tally(on, damages);
      const short = damages.filter((damage) => damage.kind === "cut" && damage.length < f.I_METADATA).length;
      expect(counts).toEqual({ "refused ERR_CORRUPT": short, same: damages.length - short });
    }
  });

  it("judge() sees the same data of longer files, but for a snapshot's", async () => {
    for (const name of ["one killed", "one powerless", "many closed", "many killed", "group behind"]) {
      const on = specimen(name);
      for (const file of on.files.keys()) {
        for (const bytes of [1, 7, 8, 64, 511, 512, 4096, 70_000]) {
          for (const seed of [undefined, 5]) {
            const { kind } = await judge(on, [{ kind: "extend", file, bytes, seed }], { again: true });
            const expected = file.endsWith(".snapshot") ? /refused|reported/ : /same/;
            expect(kind, `${name}: ${file} and ${bytes} bytes`).toMatch(expected);
          }
        }
      }
    }
  });
});

/** What must never happen to a log whose end a mark or watermark vouches for. */
function expectNothingLost(counts: Record<string, number>): void {
  expect(counts["lost"] ?? 0).toBe(0);
  expect(Object.values(counts).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(0);
}

const vouched = [
  "one closed",
  "one killed",
  "group closed",
  "group killed",
  "many closed",
  "many killed",
  "large closed",
  "large killed",
  "aged closed",
];
const unvouched = [
  "one powerless",
  "group behind",
  "group powerless",
  "many behind",
  "many powerless",
  "large behind",
  "large powerless",
];

describe("every sector", () => {
  it.each([...vouched, ...unvouched])("judge() sees each that was zeroed or filled with garbage: %s", async (name) => {
    const on = specimen(name);
    const damages: Damage[] = [];
    for (const [file, { length }] of on.files) {
      for (const sector of [512, 4096]) {
        // Of a large log's many sectors every third.
        const step = length > 30_000 ? 3 * sector : sector;
        for (let from = 0; from < length; from += step) {
          const to = Math.min(length, from + sector);
          damages.push({ kind: "zero", file, from, to }, { kind: "garbage", file, from, to, seed: from });
        }
      }
    }
    const counts = await tally(on, damages);
    if (vouched.includes(name)) expectNothingLost(counts);
    else expect(counts["lost"] ?? 0).toBeGreaterThan(0);
    expect(counts["refused ERR_CORRUPT"] ?? 0).toBeGreaterThan(0);
  });
});

describe("every file", () => {
  const names = ["one closed", "one killed", "many closed", "many killed", "many powerless"];

  it.each(names)("judge() sees each that is missing, alone and together with another: %s", async (name) => {
    const on = specimen(name);
    const files = [...on.files.keys()];
    const needed = files.filter((file) => !isDerived(file));
    for (const file of files) {
      const counts = await tally(on, [{ kind: "remove", file }]);
      if (file.endsWith(".seg")) expect(counts).toEqual({ "refused ERR_GAP": 1 });
      else if (isDerived(file)) expect(counts).toEqual({ same: 1 });
      else expect(counts["same"] ?? 0).toBe(0);
    }
    const pairs = needed.flatMap((file, i) =>
      files.slice(i + 1).map((other): Damage[] => [
        { kind: "remove", file },
        { kind: "remove", file: other },
      ]),
    );
    const counts = await tally(on, pairs);
    expect(counts["same"] ?? 0).toBe(0);
    expectNothingLost(counts);
  });

  it.each(names)("judge() sees each that stands in the place of another, or has another's name: %s", async (name) => {
    const on = specimen(name);
    const files = [...on.files.keys()];
    const strange = [
      segmentName(9),
      "0000000000000009.idx",
      "spare",
      "STATE.tmp",
      "notes.txt",
      "0000000000000001-0000000000000001.snapshot",
    ];
    const copies = files.flatMap((file) =>
      [...files, ...strange].filter((as) => as !== file).map((as): Damage => ({ kind: "copy", file, as })),
    );
    expectNothingLost(await tally(on, copies));
    const swaps = files.flatMap((file, i) =>
      files.slice(i + 1).map((other): Damage => ({ kind: "swap", file, other })),
    );
    expectNothingLost(await tally(on, swaps));
    const segments = files.filter((file) => file.endsWith(".seg"));
    for (const file of segments) {
      expect(await tally(on, [{ kind: "copy", file, as: segmentName(9) }])).toEqual({ "refused ERR_CORRUPT": 1 });
      for (const other of segments) {
        if (file === other) continue;
        expect(await tally(on, [{ kind: "copy", file, as: other }])).toEqual({ "refused ERR_CORRUPT": 1 });
        expect(await tally(on, [{ kind: "swap", file, other }])).toEqual({ "refused ERR_CORRUPT": 1 });
      }
    }
  });

  it.each(names)("judge() sees each that is of another log: %s", async (name) => {
    const on = specimen(name);
    // The same saves, another identity: the same names and lengths throughout.
    const stranger = await strangerOf(on);
    expect([...stranger.keys()].sort()).toEqual([...on.files.keys()].sort());
    for (const [file, bytes] of stranger) {
      const counts = await tally(on, [{ kind: "foreign", file, bytes }]);
      if (isDerived(file)) expect(counts, file).toEqual({ same: 1 });
      else if (file.endsWith(".snapshot")) expect(counts["same"] ?? 0, file).toBe(0);
      else expect(counts, file).toEqual({ "refused ERR_FOREIGN": 1 });
    }
    const [first] = [...stranger].filter(([file]) => file.endsWith(".seg")) as [[string, Uint8Array]];
    for (const file of [segmentName(9), ...on.files.keys()].filter((each) => each.endsWith(".seg"))) {
      expect(await tally(on, [{ kind: "foreign", file, bytes: first[1] }])).toEqual({ "refused ERR_FOREIGN": 1 });
    }
  });

  /** The files of `on` as they would be in a log of another identity: what growSpecimens() makes, told by its name. */
  async function strangerOf(on: Specimen): Promise<Files> {
    const others = await growSpecimens(77);
    return (others.find(({ name }) => name === on.name) as Specimen).files;
  }

  it.each([...vouched, ...unvouched])(
    "judge() sees each that is of an earlier moment, and each lost write: %s",
    async (name) => {
      const on = specimen(name);
      const damages: Damage[] = [];
      for (const [i, moment] of on.moments.entries()) {
        for (const [file, bytes] of moment) {
          damages.push({ kind: "stale", file, bytes });
          const after = (on.moments[i + 1] ?? on.files).get(file);
          if (after === undefined) continue;
          const from = after.findIndex((byte, at) => byte !== bytes[at]);
          if (from < 0) continue;
          let to = after.length;
          while (to > from && after[to - 1] === bytes[to - 1]) to--;
          const old = new Uint8Array(to - from);
          old.set(bytes.subarray(from, to));
          damages.push({ kind: "lost", file, from, bytes: old });
        }
      }
      expect(damages.length).toBeGreaterThan(10);
      const counts = await tally(on, damages);
      if (vouched.includes(name)) expectNothingLost(counts);
      else expect(counts["lost"] ?? 0).toBeGreaterThan(0);
    },
  );
});

describe("every frame", () => {
  it.each(["one closed", "one killed", "many closed", "many powerless", "group behind", "large killed"])(
    "judge() sees each that stands in the place of another: %s",
    async (name) => {
      const on = specimen(name);
      const frames = framesOf(on);
      const damages: Damage[] = [];
      for (const from of frames) {
        const bytes = (on.files.get(from.file) as Uint8Array).slice(from.from, from.to);
        for (const to of [...frames, ...on.layout.filter(({ kind }) => kind === "rest")]) {
          if (to === from) continue;
          damages.push({
            kind: "misdirect",
            from: from.file,
            fromOffset: from.from,
            bytes,
            file: to.file,
            offset: to.from,
          });
        }
      }
      const counts = await tally(on, damages);
      if (vouched.includes(name)) expectNothingLost(counts);
      expect((counts["refused ERR_CORRUPT"] ?? 0) + (counts["reported ERR_CORRUPT"] ?? 0)).toBeGreaterThan(
        frames.length,
      );
      // What stands behind the end is not the log, whatever it is.
      const rests = on.layout.filter(({ kind }) => kind === "rest");
      const behind = damages.filter(
        (damage) =>
          damage.kind === "misdirect" && rests.some(({ file, from }) => file === damage.file && from === damage.offset),
      );
      if (rests.length > 0) expect(await tally(on, behind)).toEqual({ same: behind.length });
    },
  );

  it("judge() sees one of a log that went another way from there, but for a last one that nothing vouches for", async () => {
    const step = (index: number, byte: number): Step => {
      const entries = [{ term: 1, index, type: 0 as const, data: new Uint8Array(40).fill(byte) }];
      return (storage) => storage.save({ entries, hardState: { term: 1, vote: 3n, commit: index - 1 } });
    };
    const saves = 12;
    const bursts = (parting: number): Step[][] =>
      Array.from({ length: saves }, (_, i) => [step(i + 1, i < parting ? i : 100 + i)]);
    const { closed, moments, history } = await growLog(bursts(saves));
    for (let parting = 0; parting < saves; parting++) {
      const sibling = await growLog(bursts(parting));
      for (const files of [closed, moments.at(-1) as Files]) {
        const on = await specimenOf("sibling", files, history);
        const frame = framesOf(on)[parting + 1] as Extent;
        const file = newestSegmentOf(on.layout);
        const bytes = (sibling.closed.get(file) as Uint8Array).slice(frame.from, frame.to);
        const damage: Damage = {
          kind: "misdirect",
          from: "sibling",
          fromOffset: frame.from,
          bytes,
          file,
          offset: frame.from,
        };
        const { kind, error } = await judge(on, [damage]);
        expect([kind, error?.code, error?.file, error?.offset]).toEqual([
          "refused",
          "ERR_CORRUPT",
          file,
          // It holds in itself, and what follows does not follow it: that is where the log breaks.
          parting === saves - 1 ? frame.from : frame.to,
        ]);
        if (parting === saves - 1) continue;
        const powerless = await specimenOf("sibling", withoutWatermark(files), history);
        expect((await judge(powerless, [damage])).kind).toBe(parting === saves - 2 ? "wrong" : "refused");
      }
    }
  });

  it("judge() sees one in the place of another that begins with the same entry, also where only a read gets there", async () => {
    const save = (term: number): Step => {
      const entries = [1, 2].map((index) => ({ term, index, type: 0 as const, data: new Uint8Array(30).fill(term) }));
      return (storage) => storage.save({ entries, hardState: { term, vote: 1n, commit: 0 } });
    };
    const rewrites = [[save(1)], [save(2)], [save(3)]];
    const more: Step = (storage) =>
      storage.save({ entries: [{ term: 3, index: 3, type: 0, data: new Uint8Array(5) }] });
    const { closed, history } = await growLog([...rewrites, "reopen", [more]]);
    const on = await specimenOf("rewritten", closed, history);
    const [first, ...others] = framesOf(on, segmentName(1)).filter(({ kind }) => kind === "frame") as [
      Extent,
      ...Extent[],
    ];
    const last = others.at(-1) as Extent;
    expect(others.length).toBe(2);
    for (const from of [first, others[0] as Extent]) {
      const bytes = (on.files.get(from.file) as Uint8Array).slice(from.from, from.to);
      expect(bytes.length).toBe(last.to - last.from);
      const damage: Damage = {
        kind: "misdirect",
        from: from.file,
        fromOffset: from.from,
        bytes,
        file: last.file,
        offset: last.from,
      };
      const { kind, error } = await judge(on, [damage]);
      // The first error is that of the read, which knows neither the sequence nor the chain of what it looks for.
      expect([kind, error?.code, error?.offset]).toEqual(["reported", "ERR_CORRUPT", last.from]);
      expect(error?.message).toMatch(/^read /);
    }
  });
});

describe("judge()", () => {
  it("sees the same data without damage, with a second open, and read-only", async () => {
    for (const on of specimens.values()) {
      expect(await judge(on, [])).toMatchObject({ kind: "same" });
      expect(await judge(on, [], { again: true })).toMatchObject({ kind: "same" });
      expect(await judge(on, [], { readOnly: true })).toMatchObject({ kind: "same" });
    }
  });

  it("is not content with other data, with less of it, or with an error about another place", async () => {
    const on = specimen("one killed");
    const earlier: Specimen = { ...on, history: on.history.slice(0, -1) };
    expect(await judge(earlier, [])).toMatchObject({ kind: "wrong" });
    const last = on.history.at(-1) as Specimen["history"][number];
    const entries = last.contents.entries.map((entry, i) => (i === 7 ? { ...entry, data: new Uint8Array(3) } : entry));
    const other: Specimen = { ...on, history: [{ ...last, contents: { ...last.contents, entries } }] };
    expect((await judge(other, [])).why).toBe("entry 8 is other data");
    const terms = last.contents.terms.map((term, i) => (i === 3 ? term + 1 : term));
    expect((await judge({ ...on, history: [{ ...last, contents: { ...last.contents, terms } }] }, [])).why).toMatch(
      /term\(3\)/,
    );
    // Damage that the specimen itself has, and nobody told of.
    const file = newestSegmentOf(on.layout);
    const files = applyDamage(on.files, { kind: "flip", file, bits: [5000] });
    expect((await judge({ ...on, files }, [])).why).toMatch(/which nothing touched/);
    expect((await judge({ ...on, files }, [{ kind: "flip", file: "STATE", bits: [5] }])).why).toMatch(
      /which nothing touched/,
    );
    // A loss that something vouches against: as if the last frame had never been.
    const cut: Damage = { kind: "zero", file, from: (framesOf(on).at(-1) as Extent).from, to: 4096 };
    const fewer = applyDamage(specimen("one powerless").files, cut);
    expect((await judge({ ...on, files: fewer }, [])).kind).toBe("wrong");
  });
});
