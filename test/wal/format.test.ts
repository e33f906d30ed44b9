// docs/FORMAT.md owns the numbers and format.ts carries them: the boxes in both are the same, line by line, and the
// constants add up to what the boxes say.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as f from "../../src/wal/format.js";

function read(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), "utf8").replaceAll("\r\n", "\n");
}

/** The box of format.ts, without the comment signs. */
function boxLines(): string[] {
  const lines = read("src/wal/format.ts").split("\n");
  const from = lines.findIndex((line) => line.startsWith("// A segment file is a head frame"));
  const link = lines.findIndex((line, i) => i > from && line.startsWith("//   link "));
  const end = lines.findIndex((line, i) => i > link && !line.startsWith("//   "));
  const box = lines.slice(from + 1, end).map((line) => line.replace(/^\/\/ ?/, ""));
  while (box[0] === "") box.shift();
  return box;
}

/** `lines` without the indentation that all of them share. */
function dedent(lines: readonly string[]): string[] {
  const indents = lines.filter((line) => line.trim() !== "").map((line) => line.length - line.trimStart().length);
  return lines.map((line) => line.slice(Math.min(...indents)).trimEnd());
}

describe("the format's box", () => {
  it("stands in docs/FORMAT.md as it stands above the constants", () => {
    const box = dedent(boxLines());
    expect(box.length).toBeGreaterThan(25);
    const fences = [...read("docs/FORMAT.md").matchAll(/^```text\n([\s\S]*?)\n```$/gm)].map((match) =>
      dedent((match[1] ?? "").split("\n")).join("\n"),
    );
    expect(fences.filter((fence) => fence.includes(box.join("\n")))).toHaveLength(1);
  });

  it("gives the header's fields the offsets that the constants have", () => {
    const [, offsets = ""] = /header +(0 .*)$/m.exec(boxLines().join("\n")) ?? [];
    expect(offsets.trim().split(/\s+/).map(Number)).toEqual([
      f.H_CRC,
      f.H_MAGIC,
      f.H_VERSION,
      f.H_KIND,
      f.H_GENERATION,
      f.H_SEQUENCE,
      f.H_DURABLE,
      f.H_OFFSET,
      f.H_LOG_ID,
      f.H_BODY_BYTES,
      f.H_META_BYTES,
      f.H_BODY_CRC,
      f.H_CHAIN,
    ]);
  });

  it("names the sizes that the constants have", () => {
    const box = boxLines().join("\n");
    expect(box).toContain(
      `header (${f.HEADER_BYTES}) | body | zeros to a multiple of 8 | trailer (${f.TRAILER_BYTES})`,
    );
    expect(box).toContain(`link (${f.LINK_BYTES}), then one part`);
    expect(box).toMatch(new RegExp(`blocks u32 +${f.PART_BYTES} bytes`));
    expect(box).toMatch(new RegExp(`STATE: +${f.STATE_BYTES} bytes`));
  });
});

describe("the format's constants", () => {
  it("leave every trailer byte several bits from zero", () => {
    for (let shift = 0; shift < 32; shift += 8) {
      expect([...((f.TRAILER_WORD >>> shift) & 255).toString(2)].filter((bit) => bit === "1").length).toBeGreaterThan(
        2,
      );
    }
  });

  it("know each flag once, and none as zero", () => {
    const flags = [f.F_RECORDS, f.F_STATE, f.F_MARK, f.F_RESET, f.F_COMPACT, f.F_MIXED];
    expect(flags.reduce((all, flag) => all | flag, 0)).toBe(f.F_ALL);
    expect(flags.reduce((sum, flag) => sum + flag, 0)).toBe(f.F_ALL);
    expect([f.KIND_FRAME, f.KIND_HEAD, f.MAGIC, f.IDENTITY_MAGIC, f.WATERMARK_MAGIC, f.INDEX_MAGIC]).not.toContain(0);
  });

  it("keep STATE's slots apart", () => {
    expect(f.I_METADATA + f.MAX_METADATA_BYTES).toBeLessThanOrEqual(f.IDENTITY_SLOT_BYTES);
    expect(f.WATERMARK_BYTES).toBeLessThanOrEqual(f.WATERMARK_SLOT_BYTES);
    expect(f.STATE_FILE_BYTES).toBe(f.WATERMARK_AT + 2 * f.WATERMARK_SLOT_BYTES);
  });
});
