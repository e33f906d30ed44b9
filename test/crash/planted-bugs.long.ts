// Testing the tester: every planted bug is put into a copy of the built package, and `stablelog crash` of that copy must find
// it within 1,000 seeds. A bug that survives is a hole in the explorer; a patch that no longer fits is a bug that has moved.
// Needs dist/ (`npm run build`). STABLELOG_PLANTED of K/N takes every Nth bug only, from the Kth on, counted from 0: CI looks for
// half of them, and for the other half the next day. That every patch still fits is looked at for all.

import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { childEnv } from "../child-env.js";
import { type PlantedBug, plantedBugs } from "./planted-bugs.js";

const SEEDS = 1000;
const [first = 0, each = 1] = (process.env["STABLELOG_PLANTED"] ?? "0/1").split("/").map(Number);
const planted = plantedBugs.filter((_, i) => i % each === first);
const root = fileURLToPath(new URL("../../", import.meta.url));
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "stablelog-planted-"));
  await symlink(join(root, "node_modules"), join(home, "node_modules"), "dir");
  await cp(join(root, "package.json"), join(home, "package.json"));
});

afterAll(() => rm(home, { recursive: true, force: true }));

interface Result {
  readonly code: number;
  readonly stderr: string;
  readonly ok?: boolean;
  readonly seeds?: number;
  readonly failure?: { readonly line: string; readonly message: string };
}

/** The files of dist/ that have the bug in them, by their paths there. */
async function patched({ name, patches }: PlantedBug): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const { file, text, replacement } of patches) {
    const source = files.get(file) ?? (await readFile(join(root, "dist", file), "utf8"));
    expect(source.split(text).length - 1, `${name}: ${file} must hold this once: ${text}`).toBe(1);
    files.set(
      file,
      source.replace(text, () => replacement),
    );
  }
  return files;
}

/** A copy of dist/ with the bug in it. */
async function plant(bug: PlantedBug): Promise<string> {
  const dist = join(home, bug.name);
  await cp(join(root, "dist"), dist, { recursive: true });
  for (const [file, source] of await patched(bug)) await writeFile(join(dist, file), source);
  return dist;
}

function crash(dist: string, args: readonly string[]): Promise<Result> {
  return new Promise((resolve) => {
    const command = [join(dist, "cli", "main.js"), "crash", ...args];
    execFile(process.execPath, command, { env: childEnv(), maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = typeof error?.code === "number" ? error.code : error === null ? 0 : -1;
      const json = args.includes("--json") && stdout.startsWith("{") ? (JSON.parse(stdout) as object) : {};
      resolve({ code, stderr, ...json });
    });
  });
}

describe("planted bugs", () => {
  it("there are at least 20, each with a name of its own", () => {
    expect(new Set(plantedBugs.map(({ name }) => name)).size).toBe(plantedBugs.length);
    expect(plantedBugs.length).toBeGreaterThanOrEqual(20);
  });

  it("every patch fits", async () => {
    for (const bug of plantedBugs) expect((await patched(bug)).size).toBeGreaterThan(0);
  });

  it("STABLELOG_PLANTED leaves some to look for", () => {
    expect(planted.length).toBeGreaterThan(0);
  });

  for (const bug of planted) {
    it.concurrent(`stablelog crash finds ${bug.name} within ${SEEDS} seeds`, async () => {
      const dist = await plant(bug);
      const { code, stderr, failure } = await crash(dist, ["--seeds", String(SEEDS), "--json"]);
      expect(stderr).toBe("");
      expect(failure?.line, `${bug.name} survived ${SEEDS} seeds: ${bug.why}`).toBeTypeOf("string");
      expect(code).toBe(1);
      // What it prints is true: the line fails there, and holds for the sound package.
      const again = await crash(dist, ["--replay", failure?.line ?? ""]);
      expect(again.code, failure?.line).toBe(1);
      await rm(dist, { recursive: true, force: true });
    });
  }
});
