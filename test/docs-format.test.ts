// docs/FORMAT.md against the code. Its worked examples are dumps cut at the borders of fields, in fences that name a file and
// an offset (```hex NAME OFFSET); here the same log is written again, and every byte of them must be what stands there. Every
// line of the boxes above the encoders must stand on the page as well.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { MemoryDisk } from "../src/disk/memory-disk.js";
import { EntryType } from "../src/raftpb/types.js";
import { FileStorage } from "../src/storage/file-storage.js";

const root = new URL("../", import.meta.url);
const page = readFileSync(new URL("docs/FORMAT.md", root), "utf8");

/** A run of bytes that the page says stand at `offset` of `file`. */
interface Dump {
  readonly file: string;
  readonly offset: number;
  /** Offset in the fence and bytes of each line. */
  readonly lines: readonly { readonly at: number; readonly hex: string }[];
}

const LINE = /^ *(\d+) {2}((?:[0-9a-f]{2} ?)+)(?: {2,}\S.*)?$/;

function dumpsOf(text: string): Dump[] {
  return [...text.matchAll(/^```hex (\S+) (\d+)\n([\s\S]*?)^```$/gm)].map(([, file = "", offset, body = ""]) => {
    const lines = body.trimEnd().split("\n");
    return {
      file,
      offset: Number(offset),
      lines: lines.map((line) => {
        const [, at, hex = ""] = LINE.exec(line) ?? [];
        if (at === undefined) throw new Error(`no line of a dump: ${line}`);
        return { at: Number(at), hex: hex.trim() };
      }),
    };
  });
}

/** The log of the page: one save, then a snapshot, then a save that needs the next segment. */
async function writeExample(): Promise<Map<string, Uint8Array>> {
  const disk = new MemoryDisk({ seed: 1 });
  const storage = await FileStorage.open("/log", { disk, segmentBytes: 4096, sync: "inline" });
  const data = new TextEncoder().encode("x = 1");
  await storage.save({
    hardState: { term: 1, vote: 1n, commit: 0 },
    entries: [{ term: 1, index: 1, type: EntryType.Normal, data }],
  });
  // With nothing more to save, STATE says how far the log is durable.
  await new Promise((resolve) => setImmediate(resolve));
  const files = disk.dump();
  await storage.createSnapshot(1, undefined, new TextEncoder().encode("state"));
  await storage.save({ entries: [{ term: 1, index: 2, type: EntryType.Normal, data: new Uint8Array(4000) }] });
  await storage.close();
  for (const [path, bytes] of disk.dump()) if (!files.has(path)) files.set(path, bytes);
  return files;
}

function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

describe("docs/FORMAT.md", () => {
  const dumps = dumpsOf(page);

  test("has a worked example of each kind of file", () => {
    const kinds = new Set(dumps.map(({ file }) => file.replace(/^[0-9a-f-]+\./, "")));
    expect([...kinds].sort()).toEqual(["STATE", "idx", "seg", "snapshot"]);
  });

  test.each(dumps.map((dump) => [`${dump.file} from ${dump.offset}`, dump] as const))(
    "dump of %s is what the code writes",
    async (_name, { file, offset, lines }) => {
      const bytes = (await writeExample()).get(`/log/${file}`);
      expect(bytes, `${file} is written`).toBeDefined();
      let at = 0;
      for (const line of lines) {
        expect(line.at, `the line with ${line.hex}`).toBe(at);
        const length = line.hex.split(" ").length;
        expect(line.hex, `${file} at ${offset + at}`).toBe(
          hexOf((bytes as Uint8Array).subarray(offset + at, offset + at + length)),
        );
        at += length;
      }
    },
  );

  test.each(["wal/format.ts", "storage/snapshot-file.ts"])("has every line of the boxes of %s", (name) => {
    const source = readFileSync(new URL(`src/${name}`, root), "utf8");
    const boxes = [...source.matchAll(/^\/\/ ( {2}\S?.*)$/gm)].map(([, line = ""]) => line);
    expect(boxes.length).toBeGreaterThan(2);
    const lines = new Set(page.split("\n").map((line) => line.trim()));
    expect(boxes.filter((line) => !lines.has(line.trim()))).toEqual([]);
  });
});

describe("dumpsOf()", () => {
  test("takes offset, bytes and what follows two blanks as a remark", () => {
    const text = "```hex a.seg 8\n 0  0a 0b  crc: ab cd\n 2  00\n```\n";
    const lines = [
      { at: 0, hex: "0a 0b" },
      { at: 2, hex: "00" },
    ];
    expect(dumpsOf(text)).toEqual([{ file: "a.seg", offset: 8, lines }]);
  });

  test("throws when a line of a dump cannot be read", () => {
    expect(() => dumpsOf("```hex a.seg 8\n0a 0b\n```\n")).toThrow("no line of a dump: 0a 0b");
  });
});
