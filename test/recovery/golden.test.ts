// Golden directories: what every released version wrote opens forever and holds what it held. See test/fixtures/golden.

import { fileURLToPath } from "node:url";
import fs from "fs-extra";
import { describe, expect, it } from "vitest";
import { joinPath } from "../../src/disk/disk.js";
import { MemoryDisk } from "../../src/disk/memory-disk.js";
import { FileStorage } from "../../src/storage/file-storage.js";

const folder = fileURLToPath(new URL("../fixtures/golden/", import.meta.url));
const DIR = "/log";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** A copy of a golden directory in memory. */
async function load(path: string): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir(DIR);
  for (const name of await fs.readdir(path)) {
    const bytes = new Uint8Array(await fs.readFile(`${path}/${name}`));
    const file = await disk.open(joinPath(DIR, name), "create");
    file.write(bytes, 0, bytes.length, 0);
    await file.close();
  }
  return disk;
}

/** What expected.json says of a storage. */
function contents(storage: FileStorage): unknown {
  const first = storage.firstIndex();
  const last = storage.lastIndex();
  const { metadata, data } = storage.snapshot();
  const value = {
    metadata: new TextDecoder().decode(storage.metadata),
    first,
    last,
    state: storage.initialState(),
    dummyTerm: storage.term(first - 1),
    snapshot: { metadata, data: hex(data) },
    entries: storage.entries(first, last + 1).map((entry) => [entry.index, entry.term, entry.type, hex(entry.data)]),
  };
  return JSON.parse(JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? part.toString() : part)));
}

const versions = fs.readdirSync(folder).filter((name) => /^v\d+$/.test(name));

describe("golden directories", () => {
  it("has one of the version written now", () => {
    expect(versions).toContain("v1");
  });

  for (const version of versions) {
    const { contents: whole, durableCommit } = fs.readJsonSync(`${folder}/${version}/expected.json`) as {
      contents: { state: { hardState: { commit: number } } };
      /** The log ends with a save of commit alone that no sync covered: who only looks at a killed log does not see it. */
      durableCommit: number;
    };
    for (const state of ["closed", "killed"]) {
      for (const readOnly of [true, false]) {
        it(`${version}, ${state}, ${readOnly ? "is read" : "opens and goes on"}`, async () => {
          const disk = await load(`${folder}/${version}/${state}`);
          const storage = await FileStorage.open(DIR, { disk, readOnly });
          expect(storage.recovery.verdict).toBe("clean");
          const expected = structuredClone(whole);
          if (state === "killed" && readOnly) expected.state.hardState.commit = durableCommit;
          expect(contents(storage)).toEqual(expected);
          expect((await storage.verify()).damage).toEqual([]);
          if (!readOnly) {
            const next = storage.lastIndex() + 1;
            await storage.save({ entries: [{ term: 9, index: next, type: 0, data: new Uint8Array(3) }] });
            await storage.close();
            const again = await FileStorage.open(DIR, { disk });
            expect(again.term(next)).toBe(9);
            await again.close();
            return;
          }
          await storage.close();
        });
      }
    }
  }
});
