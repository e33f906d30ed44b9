// The whole collection of etcd directories, when it is at hand: in the folder that STABLELOG_ETCD_DATA names, or in
// shared/data/etcd beside the repository. Every archive there is unpacked and read, and held against what etcd's own reader
// printed of it, line by line.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readMember } from "../../src/etcd/index.js";
import { collectBatches, memberLines, readLines, replay } from "./helpers.js";

const folder =
  process.env["STABLELOG_ETCD_DATA"] ?? fileURLToPath(new URL("../../../shared/data/etcd", import.meta.url));
const archives = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".tar.gz")) : [];

if (archives.length === 0) {
  // Skipped where they are not at hand: the archives are etcd's own data, 5 MB of it, and stay out of this repo. What is made
  // of them in test/fixtures is read on every machine (test/etcd/member.test.ts and batches.test.ts).
  it.skip("etcd data folder: not found, set STABLELOG_ETCD_DATA to the folder of its archives", () => undefined);
}

describe.each(archives)("etcd data folder: %s", (archive) => {
  const name = archive.slice(0, -".tar.gz".length);
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "stablelog-etcd-data-"));
    execFileSync("tar", ["-xzf", join(folder, archive), "-C", dir]);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const afterSnapshot = join(folder, `${name}.after-snapshot.jsonl.gz`);

  it("reads as etcd reads it from the start of the log", async () => {
    const lines = memberLines(await readMember(dir, { from: "start" }));
    const expected = readLines(join(folder, `${name}.whole-log.jsonl.gz`));
    expect(lines.length).toBe(expected.length);
    expect(lines).toEqual(expected);
  });

  if (existsSync(afterSnapshot)) {
    it("reads as etcd reads it after the newest snapshot", async () => {
      expect(memberLines(await readMember(dir))).toEqual(readLines(afterSnapshot));
    });
  }

  it("replays, save by save, to the same log", async () => {
    for (const from of ["start", "snapshot"] as const) {
      const contents = await readMember(dir, { from });
      const batches = await collectBatches(dir, { from });
      const replayed = replay(batches);
      expect(replayed.hardState).toEqual(contents.hardState);
      expect(memberLines({ ...contents, ...replayed })).toEqual(memberLines(contents));
      expect(batches.every(({ entries, hardState, snapshot }) => entries.length > 0 || hardState || snapshot)).toBe(
        true,
      );
    }
  });
});
