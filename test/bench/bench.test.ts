// `npm run bench` from outside and its goals from inside: that what it runs is measured, left out with a reason or refused, and
// that no goal speaks of a row or a figure that there is not. The figures themselves are nobody's to assert.

import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Latencies } from "../../bench/latencies.js";
import type { Report, RowResult, Sample } from "../../bench/result.js";
import { workloads } from "../../bench/workloads/index.js";
import { childEnv } from "../child-env.js";

const ROOT = join(import.meta.dirname, "../..");
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "stablelog-bench-test-"));
  await promisify(execFile)(
    process.execPath,
    [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", "bench/tsconfig.json"],
    {
      cwd: ROOT,
    },
  );
});
afterAll(() => rm(home, { recursive: true, force: true }));

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function bench(...args: string[]): Promise<Outcome> {
  const options = { cwd: ROOT, env: childEnv() };
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["bench/.out/main.js", ...args], options);
    return { code: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as Outcome;
    return { code, stdout, stderr };
  }
}

describe("npm run bench", () => {
  test("measures the rows that are asked for, against their floor, round by round, and leaves nothing behind", async () => {
    const page = join(home, "report.html");
    const pictures = join(home, "pictures");
    const scratch = await mkdtemp(join(home, "a dir-"));
    const { code, stdout } = await bench(
      ...["savers", "--rows", "stablelog", "--rounds", "2", "--seconds", "0.05", "--warm", "0.02", "--dir", scratch],
      ...["--json", "-", "--html", page, "--pictures", pictures],
    );
    expect(code).toBe(0);
    const { rounds, workloads: done, machine, command } = JSON.parse(stdout) as Report;
    expect(rounds).toBe(2);
    expect(command).toContain("npm run bench -- savers --rows stablelog");
    expect(command).toContain(`--dir '${scratch}'`);
    for (const words of ["CPU", "kernel", "file system", "fdatasync: p50"]) expect(machine.join("\n")).toContain(words);
    expect(done.map(({ name }) => name)).toEqual(["savers-1", "savers-8", "savers-64", "savers-256"]);
    for (const { rows, base } of done) {
      expect(rows.map(({ row }) => row)).toEqual([base, "stablelog"]);
      for (const { samples, skipped, syncs } of rows) {
        expect(skipped).toBeUndefined();
        expect(syncs).not.toBe("");
        expect(samples).toHaveLength(2);
        for (const { perSecond, latency } of samples) {
          expect(perSecond).toBeGreaterThan(0);
          expect(latency?.p99).toBeGreaterThanOrEqual(latency?.p50 ?? Number.NaN);
        }
      }
    }
    expect(await readdir(scratch)).toEqual([]);
    expect(await readFile(page, "utf8")).toContain("</html>");
    expect(await readdir(pictures)).toContain("saves-by-savers.svg");
  });

  test("a report that was written is shown again without measuring", async () => {
    const file = join(home, "report.json");
    await bench("garbage", "--rounds", "1", "--json", file);
    const { code, stdout } = await bench("--from", file);
    expect(code).toBe(0);
    expect(stdout).toContain("objects/entry");
  });

  test("arguments that make no sense are exit code 2, with the usage", async () => {
    for (const args of [
      ["nothing"],
      ["--rounds", "0"],
      ["--rounds", "1.5"],
      ["--seconds", "x"],
      ["--wat"],
      ["micro", "more"],
    ]) {
      const { code, stderr } = await bench(...args);
      expect(code, args.join(" ")).toBe(2);
      expect(stderr).toContain("Usage: npm run bench");
    }
  });
});

/** A row with every figure there may be. */
function rowOf(row: string): RowResult {
  const more = new Proxy({}, { get: () => 7 });
  const sample: Sample = { perSecond: 100, latency: { p50: 1, p99: 2, p999: 3, max: 4 }, more };
  return { row, syncs: "", samples: [sample] };
}

describe("workloads", () => {
  const rows = new Map(
    workloads.map(({ name, rows: all }) => [name, new Map([...all.keys()].map((row) => [row, rowOf(row)]))] as const),
  );

  test.each(workloads.map((workload) => [workload.name, workload] as const))(
    "%s: its base is a row of it, and its goals speak of rows that there are",
    (name, { base, rows: all, goals, unit, title }) => {
      expect([...all.keys()]).toContain(base);
      expect(title.endsWith(".")).toBe(true);
      expect(unit).not.toBe("");
      for (const { what, wanted, measured } of goals(rows.get(name) ?? new Map(), rows)) {
        expect(measured, what).toBeTypeOf("number");
        expect(Number.isFinite(measured), `${name}: ${what} is ${measured}`).toBe(true);
        expect(wanted, what).toBeGreaterThan(0);
      }
    },
  );

  test("have names of their own", () => {
    expect(new Set(workloads.map(({ name }) => name)).size).toBe(workloads.length);
  });
});

describe("Latencies", () => {
  test("quantiles are within a bucket of the true ones, from a tenth of a microsecond to a minute", () => {
    const latencies = new Latencies();
    const values = Array.from({ length: 1000 }, (_, i) => 1e-4 * 1.0137 ** i);
    for (const ms of values) latencies.record(ms);
    expect(latencies.count).toBe(1000);
    for (const q of [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
      const wanted = (values[Math.ceil(1000 * q) - 1] as number) * 1000;
      expect(Math.abs(latencies.quantile(q) / wanted - 1), `${q}`).toBeLessThan(0.023);
    }
    expect(latencies.summary()?.max).toBeCloseTo((values.at(-1) as number) * 1000);
    latencies.clear();
    expect(latencies.summary()).toBeUndefined();
  });
});
