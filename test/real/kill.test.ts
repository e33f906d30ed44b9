// Real processes on real files, killed with SIGKILL at random moments while they open, save concurrently, rotate, compact
// and snapshot. What they acknowledged over their pipe is there at the next open, and a kill never leads to a refusal.

import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FileStorage, type FileStorageOptions } from "../../src/storage/file-storage.js";
import { Child } from "../disk/children.js";
import { randomOf } from "./test-disk.js";

const KILLS_EACH = 10;
const seed = Number(process.env["STABLELOG_KILL_SEED"] ?? Date.now() % 1_000_000);
const source = fileURLToPath(new URL("../../src/", import.meta.url));
let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "stablelog-kill-"));
  await writeFile(join(root, "package.json"), `{ "type": "module" }`);
  await symlink(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(root, "node_modules"), "dir");
  for (const room of ["base", "disk", "raft", "raftpb", "wal", "storage"]) {
    await mkdir(join(root, room));
    for (const name of await readdir(join(source, room))) {
      if (!name.endsWith(".ts")) continue;
      const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
      const text = await readFile(join(source, room, name), "utf8");
      const { outputText } = ts.transpileModule(text, { compilerOptions });
      await writeFile(join(root, room, name.replace(/\.ts$/, ".js")), outputText);
    }
  }
  await writeFile(join(root, "saver.js"), SAVER);
});

afterAll(() => rm(root, { recursive: true, force: true }));

// Every save of round r replaces or appends entries of term r and commits the last of them, so a whole save is one whose
// commit is the last index. A line on the pipe follows each promise that resolved.
const SAVER = `
import { writeSync } from "node:fs";
import { FileStorage } from "./storage/file-storage.js";
const [dir, round, options] = [process.argv[2], Number(process.argv[3]), JSON.parse(process.argv[4])];
const say = (line) => writeSync(1, line + "\\n");
const storage = await FileStorage.open(dir, options);
let next = Math.min(storage.lastIndex() + 1, Math.max(storage.firstIndex() + 1, storage.lastIndex() - 1));
say("open " + next);
const body = (index) => new Uint8Array((index * 37 + round * 11) % 700).fill(index % 256);
const save = async () => {
  const count = 1 + (next % 3);
  const entries = Array.from({ length: count }, (_, i) => ({ term: round, index: next + i, type: 0, data: body(next + i) }));
  next += count;
  const last = next - 1;
  await storage.save({ entries, hardState: { term: round, vote: 1n, commit: last } });
  say("saved " + last);
};
const saver = async () => { for (;;) await save(); };
for (let i = 0; i < 5; i++) saver();
for (;;) {
  await new Promise((resolve) => setTimeout(resolve, 7));
  const index = storage.lastIndex() - 20;
  if (index <= storage.firstIndex()) continue;
  await storage.createSnapshot(index, { voters: [1n], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false }, body(index));
  say("snapshot " + index);
  await storage.compact(index - 5 > storage.firstIndex() ? index - 5 : index);
}
`;

function bodyOf(index: number, round: number): Uint8Array {
  return new Uint8Array((index * 37 + round * 11) % 700).fill(index % 256);
}

/** Kills round after round in one directory, and looks at a copy in between. */
async function rounds(name: string, options: FileStorageOptions, random: () => number): Promise<void> {
  const dir = join(root, name);
  const { segmentBytes } = options;
  /** Term of each index, as found after the round before. */
  let terms = new Map<number, number>();
  let acknowledged = 0;
  for (let round = 1; round <= KILLS_EACH; round++) {
    const child = new Child(process.execPath, [join(root, "saver.js"), dir, String(round), JSON.stringify(options)]);
    // One in four is killed about when it opens; the others some time after they have.
    const early = random() < 0.25;
    const delayMs = early ? 60 + random() * 120 : random() * 150;
    const opened = early ? undefined : await child.answer();
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await child.kill();
    const lines = [...(opened === undefined ? [] : [opened]), ...(await child.rest())];
    const told = (word: string): number[] =>
      lines.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.slice(word.length + 1)));
    const what = `${name}, seed ${seed}, round ${round}, after "${lines.at(-1) ?? ""}"${child.stderr}`;
    expect(child.stderr, what).toBe("");
    const [begin = Number.POSITIVE_INFINITY] = told("open");
    const saved = Math.max(0, ...told("saved"));
    acknowledged += told("saved").length;

    const copy = join(root, `${name}-copy`);
    await rm(copy, { recursive: true, force: true });
    await cp(dir, copy, { recursive: true }).catch(() => mkdir(copy));
    const storage = await FileStorage.open(copy, { segmentBytes }).catch((error: unknown) => {
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    });
    const first = storage.firstIndex();
    const last = storage.lastIndex();
    const found = new Map<number, number>();
    for (const entry of last < first ? [] : storage.entries(first, last + 1)) {
      expect(Buffer.compare(entry.data, bodyOf(entry.index, entry.term)), `${what}: entry ${entry.index}`).toBe(0);
      found.set(entry.index, entry.term);
      const before = terms.get(entry.index);
      if (entry.index <= saved && entry.index >= begin) expect(entry.term, what).toBe(round);
      else if (entry.index < begin) expect(entry.term, what).toBe(before);
      else expect([before, round], what).toContain(entry.term);
    }
    expect(last, what).toBeGreaterThanOrEqual(saved > 0 ? saved : terms.size > 0 ? Math.min(...terms.keys()) : 0);
    // Nothing of an earlier round is lost but what this one replaces.
    for (const index of terms.keys()) if (index >= first && index < begin) expect(found.has(index), what).toBe(true);
    expect(storage.initialState().hardState.commit, what).toBe(last);
    expect(storage.snapshot().metadata.index, what).toBeGreaterThanOrEqual(Math.max(0, ...told("snapshot")));
    expect((await storage.verify()).damage, what).toEqual([]);
    await storage.close();
    terms = found;
  }
  expect(acknowledged).toBeGreaterThan(20);
}

describe(`a killed process (seed ${seed}; STABLELOG_KILL_SEED repeats its moments)`, () => {
  it(`open() finds all that was acknowledged, after ${2 * KILLS_EACH} kills of small segments`, async () => {
    await Promise.all([
      rounds("inline", { segmentBytes: 4096, sync: "inline" }, randomOf(seed)),
      rounds("worker", { segmentBytes: 16384, sync: "worker" }, randomOf(seed + 1)),
    ]);
  });

  it(`open() finds all that was acknowledged, after ${KILLS_EACH} kills with the defaults`, async () => {
    await rounds("auto", {}, randomOf(seed + 2));
  });
});
