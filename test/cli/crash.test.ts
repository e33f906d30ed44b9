// `stablelog crash` from outside: what it counts, what it answers to lines and times that make no sense, what it draws. That it
// finds bugs is shown by test/crash/planted-bugs.long.ts.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { childEnv } from "../child-env.js";
import { cliPath, json, stablelog } from "./run-cli.js";

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "stablelog-crash-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

interface Summary {
  readonly ok: boolean;
  readonly seeds: number;
  readonly states: number;
  readonly distinct: number;
  readonly faults: number;
  readonly ms: number;
}

describe.concurrent("stablelog crash", () => {
  test("--seeds counts what it explored, the same each time", async () => {
    const [first, second] = await Promise.all([
      stablelog("crash", "--seeds", "20..26", "--json"),
      stablelog("crash", "--seeds", "20..26", "--json"),
    ]);
    expect([first.code, first.stderr]).toEqual([0, ""]);
    const { ms: _a, ...one } = json<Summary & Record<string, unknown>>(first);
    const { ms: _b, ...other } = json<Summary & Record<string, unknown>>(second);
    for (const rate of ["statesPerSecond", "distinctPerSecond"]) one[rate] = other[rate];
    expect(one).toEqual(other);
    expect(one).toMatchObject({ ok: true, seeds: 6 });
    expect(one.distinct).toBeGreaterThan(50);
  });

  test("prints a summary for people, without --json", async () => {
    const { code, stdout } = await stablelog("crash", "--short", "1");
    expect(code).toBe(0);
    for (const word of ["crash states", "distinct", "verdicts", "rare paths", "ok: everything"]) {
      expect(stdout).toContain(word);
    }
  });

  test("--budget ends it", async () => {
    const { code, stdout } = await stablelog("crash", "--budget", "300ms", "--json");
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as Summary).states).toBeGreaterThan(0);
  });

  test("--model fixes the kind of crash", async () => {
    const outcome = await stablelog("crash", "--seeds", "4", "--model", "kill", "--json");
    expect(json<Summary>(outcome)).toMatchObject({ ok: true, seeds: 4 });
  });

  test("--replay runs a line again, --timeline draws it", async () => {
    const file = join(home, "crash.html");
    const line = "SEED=3 MODEL=posix OPS=append,large,append POINT=8 MASK=10";
    const { code, stdout, stderr } = await stablelog("crash", "--replay", line, "--timeline", file);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("ok: ");
    const page = await readFile(file, "utf8");
    expect(page).toContain("<svg");
    expect(page).toContain(line.replaceAll(">", "&gt;"));
  });

  test("--replay --json prints one object", async () => {
    const line = "SEED=3 MODEL=posix OPS=append,large,append POINT=8 MASK=10";
    const outcome = await stablelog("crash", "--replay", line, "--json");
    expect(outcome.code).toBe(0);
    expect(json<{ ok: boolean; line: string; verdict: string }>(outcome)).toMatchObject({ ok: true, line });
  });

  test("--mutations begin with the seed that --seeds names, 1 if none does", async () => {
    for (const [args, seed] of [
      [[], 1],
      [["--seeds", "7"], 7],
    ] as const) {
      const { code, stdout } = await stablelog("crash", "--mutations", "20", "--json", ...args);
      expect([code, (JSON.parse(stdout) as { seed: number }).seed]).toEqual([0, seed]);
    }
    expect((await stablelog("crash", "--mutations", "20", "--seeds", "1..7")).code).toBe(2);
  });

  test("--replay does a mutation again, by its numbers or by the whole line that --mutations printed", async () => {
    const numbers = "SEED=1 MUTATION=483104";
    const told = `${numbers} twin behind: remove 0000000000000002.seg: what was wrong`;
    for (const line of [numbers, told]) {
      const outcome = await stablelog("crash", "--replay", line);
      expect(outcome).toEqual({ code: 0, stdout: "ok: log refused\n", stderr: "" });
    }
    const outcome = await stablelog("crash", "--replay", numbers, "--json");
    expect(json<object>(outcome)).toEqual({ ok: true, line: numbers, verdict: "log refused" });
  });

  test("an interrupt ends a run with what it has counted", async () => {
    // It interrupts itself as soon as it listens.
    const hook = `const asking = setInterval(() => {
      if (process.listenerCount("SIGINT") === 0) return;
      clearInterval(asking);
      process.kill(process.pid, "SIGINT");
    }, 5);`;
    const args = [
      "--import",
      `data:text/javascript,${encodeURIComponent(hook)}`,
      cliPath,
      "crash",
      "--seeds",
      "100000",
    ];
    const child = spawn(process.execPath, args, { env: childEnv(), stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const [code] = (await once(child, "close")) as [number];
    expect(code).toBe(130);
    expect(text).toContain("until it was interrupted");
    expect(text).toMatch(/seeds +\d/);
  });

  test.each([
    [["--seeds", "0"], "--seeds must be"],
    [["--seeds", "9..3"], "--seeds must be"],
    [["--budget", "soon"], "--budget must be a time"],
    [["--model", "ntfs"], "--model must be one of posix, ext4, prefix, kill"],
    [["--short", "9"], "--short must be an integer from 1 to 4"],
    [["--replay", "nonsense"], "no line of a crash"],
    [["--replay", "SEED=1 POINT=99999 MASK=-"], "moments"],
    [["--replay", "SEED=1 POINT=0 MASK=zz"], "does not fit"],
    [["--replay", "SEED=1 POINT=0"], "no line of a crash"],
    [["--replay", "SEED=1 MUTATIONS=5"], "no line of a crash"],
    [["--replay", "SEED=1 MUTATION=5", "--timeline", "x.html"], "no crash to draw"],
    [["--replay", "SEED=1", "--timeline", "x.html"], "no crash to draw"],
    [["--replay", "SEED=1", "--seeds", "5"], "--seeds does not go with --replay"],
    [["--mutations", "5", "--model", "kill"], "--model does not go with --mutations"],
    [["--timeline", "x.html"], "--timeline goes with --replay"],
    [["extra"], "unexpected argument"],
  ])("%j ends with exit code 2 and says why", async (args, why) => {
    const { code, stdout, stderr } = await stablelog("crash", ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(why);
  });
});
