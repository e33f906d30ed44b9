// `stablelog bench` from outside: what it measures and says, that it leaves nothing behind, what it answers to arguments that
// make no sense. The figures themselves are nobody's to assert.

import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { json, stablelog } from "./run-cli.js";

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "stablelog-bench-test-"));
  await writeFile(join(home, "mine"), "untouched");
});
afterAll(() => rm(home, { recursive: true, force: true }));

interface Figures {
  readonly engine: string;
  readonly savers: number;
  readonly group: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

interface Report {
  readonly dir: string;
  readonly floor: Figures;
  readonly saves: readonly Figures[];
  readonly choice: {
    readonly engine: string;
    readonly by: string;
    readonly openSyncMs: number;
    readonly slowMs: number;
  };
  readonly advice: readonly string[];
}

describe("stablelog bench", () => {
  test("--json has the floor, every engine at every number of savers, and the choice of auto", async () => {
    const outcome = await stablelog("bench", home, "--seconds", "1", "--json");
    expect([outcome.code, outcome.stderr]).toEqual([0, ""]);
    const { dir, floor, saves, choice, advice } = json<Report>(outcome);
    expect(dir).toBe(home);
    expect(saves.map(({ engine, savers }) => `${engine} ${savers}`)).toEqual(
      ["inline", "worker"].flatMap((engine) => [1, 8, 64, 256].map((savers) => `${engine} ${savers}`)),
    );
    for (const { perSecond, p50Ms, p99Ms, p999Ms } of [floor, ...saves]) {
      expect(perSecond).toBeGreaterThan(0);
      expect(p50Ms).toBeGreaterThan(0);
      expect(p99Ms).toBeGreaterThanOrEqual(p50Ms);
      expect(p999Ms).toBeGreaterThanOrEqual(p99Ms);
    }
    // Savers share syncs, and nobody shares one who is alone.
    for (const { savers, group } of saves) {
      expect(group).toBeLessThanOrEqual(savers);
      if (savers === 1) expect(group).toBe(1);
      else expect(group).toBeGreaterThan(1);
    }
    expect(choice.by).toBe("open");
    expect(choice.engine).toBe(choice.openSyncMs > choice.slowMs ? "worker" : "inline");
    expect(advice[0]).toContain('sync: "auto"');
    expect(await readdir(home)).toEqual(["mine"]);
  });

  test("tells people the same in a table, and why", async () => {
    const { code, stdout } = await stablelog("bench", home, "--seconds", "1");
    expect(code).toBe(0);
    for (const words of ["fdatasync", "saves a sync", "x floor", 'sync: "auto" takes', "A lone saver", "64 savers"]) {
      expect(stdout).toContain(words);
    }
    expect(stdout).not.toMatch(/NaN|undefined/);
  });

  test("arguments that make no sense are exit code 2, a directory that is not there is 1", async () => {
    for (const args of [[], [home, "more"], [home, "--seconds", "0"], [home, "--seconds", "x"]]) {
      expect((await stablelog("bench", ...args)).code, args.join(" ")).toBe(2);
    }
    const { code, stderr } = await stablelog("bench", join(home, "missing"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^ENOENT: /);
  });
});
