// The main job from outside: `stablelog replay` with real kills, and what its other commands say of the log it leaves. Then
// its parts, made to find what is missing.

import { fork } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare } from "../../src/cli/replay-compare.js";
import { ReplayModel } from "../../src/cli/replay-model.js";
import { readSource } from "../../src/cli/replay-source.js";
import type { Report, Task } from "../../src/cli/replay-worker.js";
import { readBatches } from "../../src/etcd/batches.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { childEnv } from "../child-env.js";
import { entry, type Files, SegmentBuilder, segmentName, snapshotBytes, snapshotName } from "../etcd/helpers.js";
import { fixture, json, run, stablelog } from "./run-cli.js";

let home = "";
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "stablelog-replay-test-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

let made = 0;
function freshDir(): string {
  return join(home, `log-${++made}`);
}

/** A member directory of these files. */
function memberOf(files: Files): string {
  const dir = join(home, `member-${++made}`);
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), bytes);
  }
  return dir;
}

async function modelOf(member: string, from: "start" | "snapshot"): Promise<ReplayModel> {
  const model = new ReplayModel();
  for await (const batch of readBatches(member, { from })) model.apply(batch);
  return model;
}

interface Result {
  ok: boolean;
  from: string;
  batches: number;
  acknowledged: number;
  lost: number;
  kills: number;
  killsWhileSaving: number;
  killsWhileOpening: number;
  checkedEntries: number;
  segments: number;
  differences: string[];
}

describe("stablelog replay", () => {
  test("loses nothing of the default member over kills while saving and while opening, and says so", async () => {
    const dir = freshDir();
    const { code, stdout, stderr } = await stablelog("replay", "--dir", dir, "--seed", "20");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^ {2}seed +20 /m);
    expect(stdout).toMatch(/^kill 1: with \d+ acknowledged$/m);
    expect(stdout).toMatch(/^ {2}reopened in .* batches, \d+ acknowledged$/m);
    expect(stdout).toMatch(/^ {2}kills +\d+: 5 while saving, [1-9]\d* while opening$/m);
    expect(stdout).toMatch(/^ {2}entries checked +318$/m);
    expect(stdout).toMatch(/^ {2}lost +0$/m);
    expect(stdout).toContain(`inspect ${dir}`);
    const storage = await FileStorage.open(dir, { readOnly: true });
    expect([storage.lastIndex(), storage.snapshot().metadata.index]).toEqual([318, 303]);
    await storage.close();
  });

  test.each(["inline", "worker"])("survives many kills over small segments with the %s engine", async (engine) => {
    const dir = freshDir();
    const args = ["--dir", dir, "--kills", "5", "--seed", "5", "--segment-bytes", "8192", "--sync", engine, "--json"];
    const outcome = await stablelog("replay", fixture("segments-1"), ...args);
    expect(outcome.stderr).toBe("");
    const result = json<Result>(outcome);
    expect(result).toMatchObject({ ok: true, batches: 405, acknowledged: 405, lost: 0, differences: [] });
    expect(result).toMatchObject({ killsWhileSaving: 5, checkedEntries: 1539 });
    expect(result.killsWhileOpening).toBeGreaterThan(0);
    expect(result.segments).toBeGreaterThan(10);
    expect(outcome.code).toBe(0);
  });

  test("begins at the newest snapshot where the log before it is gone, with its data", async () => {
    const wal = new SegmentBuilder().head().entries(entry(1, 5), entry(1, 6), entry(1, 7)).state(1, 7).mark(6, 1);
    const member = memberOf({
      [segmentName(1, 5)]: wal.entries(entry(1, 8)).state(1, 8).bytes(),
      [snapshotName(1, 6)]: snapshotBytes(1, 6, "six", [7n]),
    });
    const dir = freshDir();
    const outcome = await stablelog("replay", member, "--dir", dir, "--kills", "2", "--seed", "1", "--json");
    expect(json<Result>(outcome)).toMatchObject({ ok: true, from: "snapshot", checkedEntries: 2, differences: [] });
    const storage = await FileStorage.open(dir, { readOnly: true });
    const { metadata, data } = storage.snapshot();
    expect([storage.firstIndex(), storage.lastIndex(), metadata.index]).toEqual([7, 8, 6]);
    expect([Buffer.from(data).toString(), metadata.confState.voters]).toEqual(["six", [7n]]);
    await storage.close();
  });

  test("runs without a kill when asked for none", async () => {
    const outcome = await stablelog("replay", "--dir", freshDir(), "--kills", "0", "--json");
    expect(json<Result>(outcome)).toMatchObject({ ok: true, kills: 0, acknowledged: 167 });
  });

  test("refuses a directory that is not empty with exit code 2 and leaves it alone", async () => {
    const dir = freshDir();
    mkdirSync(dir);
    writeFileSync(join(dir, "mine"), "");
    const { code, stderr } = await stablelog("replay", "--dir", dir);
    expect(code).toBe(2);
    expect(stderr).toContain("is not empty");
    expect(readdirSync(dir)).toEqual(["mine"]);
  });

  test("asks for a member directory where the package has none with it", async () => {
    const installed = join(home, "installed");
    const root = fileURLToPath(new URL("../..", import.meta.url));
    for (const name of ["dist", "package.json"]) cpSync(join(root, name), join(installed, name), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(installed, "node_modules"), "junction");
    const { code, stdout, stderr } = await run(join(installed, "dist/cli/main.js"), ["replay"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("has no etcd member directory with it; give the path of one");
  });

  test("tells a member directory that is none by its code", async () => {
    const { code, stderr } = await stablelog("replay", home, "--dir", freshDir());
    expect(code).toBe(1);
    expect(stderr).toMatch(/^ERR_NOT_FOUND: /);
  });
});

describe("replay worker", () => {
  const workerPath = fileURLToPath(new URL("../../dist/cli/replay-worker.js", import.meta.url));

  /** Lets a worker open the log and go up to batch `until`; gives its reports, to its end or to that batch. */
  async function reports(dir: string, acked: number, submitted: number, until: number): Promise<Report[]> {
    const heard: Report[] = [];
    const child = fork(workerPath, [], { serialization: "advanced", env: childEnv() });
    const gone = new Promise((resolve) => child.once("disconnect", resolve));
    child.on("message", (report: Report) => {
      heard.push(report);
      if (report.kind === "opened") child.send({ until });
      if ((report.kind === "opened" || report.kind === "acked") && report.position >= until) child.kill("SIGKILL");
    });
    const task: Task = {
      source: fixture("single"),
      from: "start",
      dir,
      metadata: new Uint8Array(0),
      sync: "auto",
      segmentBytes: undefined,
      acked,
      submitted,
      window: 16,
    };
    child.send(task);
    await gone;
    return heard;
  }

  test("goes on after the batch that it recovered, and reports what is lost or was never submitted", async () => {
    const dir = freshDir();
    const first = await reports(dir, 0, 0, 40);
    expect(first.map(({ kind }) => kind).slice(0, 2)).toEqual(["opening", "opened"]);
    expect(first.at(-1)).toMatchObject({ kind: "acked", position: 40 });

    const again = await reports(dir, 30, 60, 40);
    expect(again[1]).toMatchObject({ kind: "opened", position: 40 });

    const lost = await reports(dir, 50, 60, 60);
    expect(lost.at(-1)).toMatchObject({ kind: "lost", lost: 10 });
    expect(lost.at(-1)).toHaveProperty("message", expect.stringContaining("50 batches were acknowledged"));

    const never = await reports(dir, 10, 20, 60);
    expect(never.at(-1)).toMatchObject({ kind: "lost" });
  });

  test("reports a log that does not open", async () => {
    const dir = freshDir();
    await reports(dir, 0, 0, 5);
    rmSync(join(dir, "STATE"));
    expect((await reports(dir, 5, 5, 10)).at(-1)).toMatchObject({ kind: "failed", error: { code: "ERR_CORRUPT" } });
  });
});

describe("compare()", () => {
  test("finds every kind of difference", async () => {
    const member = fixture("single");
    const dir = freshDir();
    await stablelog("replay", "--dir", dir, "--kills", "0");
    const { contents } = await readSource(member);
    const model = await modelOf(member, "start");
    const differences = async (changed: Partial<typeof contents>): Promise<readonly string[]> =>
      (await compare(dir, member, { ...contents, ...changed }, model)).differences;

    expect(await differences({})).toEqual([]);
    expect(await differences({ metadata: new Uint8Array(1) })).toEqual(["the metadata is not that of the member"]);
    expect(await differences({ hardState: { ...contents.hardState, vote: 1n } })).toEqual([
      expect.stringContaining("the HardState is not that of the member"),
    ]);
    const change = (index: number, what: object) =>
      contents.entries.map((each) => (each.index === index ? { ...each, ...what } : each));
    for (const what of [{ term: 9 }, { type: 2 as const }, { data: new Uint8Array(3) }]) {
      expect(await differences({ entries: change(200, what) })).toEqual(["entry 200 is not that of the source"]);
    }
    expect(await differences({ entries: contents.entries.slice(0, 300) })).toEqual([
      "the log ends at entry 318, the source at 300",
    ]);
    const other = memberOf({ [snapshotName(2, 303)]: snapshotBytes(2, 303, "another state") });
    expect((await compare(dir, other, contents, model)).differences).toEqual([
      "the data of the snapshot at 303 differs after 0 bytes",
    ]);
    const shorter = new ReplayModel();
    expect((await compare(dir, member, contents, shorter)).differences).toEqual([
      "the last index is 318 and should be 0",
    ]);
  });
});
