// The same life in real processes with one thread in libuv's pool and with 128, under each engine: save, rotate, snapshot,
// compact, close and open again. Whoever waits in the pool for something that only the pool can do would hang with one.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Home } from "./home.js";
import { Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";

let home: Home;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(() => home.remove());

describe.each(["1", "128"])("a process with UV_THREADPOOL_SIZE=%s", (threads) => {
  it.each(["inline", "worker", "auto", "off"] as const)("FileStorage lives a whole life (%s)", async (sync) => {
    const dir = home.file(`log-${threads}-${sync}`);
    const script = { seed: 9, sizes: "small", installs: 30 } as const;
    const life = { savers: 8, snapshotEvery: 20, keep: 10, saves: 200 };
    const task: Task = { dir, options: { sync, segmentBytes: 8192 }, script, round: 1, ...life };
    const child = home.start("saver", task, { UV_THREADPOOL_SIZE: threads });
    const { code, signal, lines, stderr } = await child.ended;
    expect([code, signal, stderr]).toEqual([0, null, ""]);
    expect(lines.slice(-2)).toEqual(["closed", "reopened clean"]);
    expect(lines.filter((line) => line.startsWith("snapshot ")).length).toBeGreaterThan(0);
    expect(lines.filter((line) => line.startsWith("compacted ")).length).toBeGreaterThan(0);
    const found = await new Ledger().settle(dir, task, lines, `${threads}, ${sync}`);
    expect(found).toMatchObject({ saves: 200, verdict: "clean" });
  });
});
