// A real process, killed with SIGKILL as it enters the n-th openat, pwrite64, fdatasync, fsync, rename, unlink, ftruncate,
// mkdir, link, pread64 or close on the files of its log: once in a life that begins with nothing (create, save, rotate,
// snapshot, compact, close, open), once in one that begins with what a kill has left (recover, carry a tail over, go on).
// strace is the killer. Two of each kind of call by default, others with every seed (STABLELOG_KILL_SEED);
// STABLELOG_KILL_POINTS says how many, `all` takes them all.

import { cp } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomOf } from "../recovery/test-disk.js";
import { type Ending, Home } from "./home.js";
import { Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";
import { type Call, FILE_CALLS, noStrace, PLAIN_POOL, readTrace, stringsOf, underStrace } from "./strace.js";

const seed = Number(process.env["STABLELOG_KILL_SEED"] ?? Date.now() % 1_000_000);
const points = process.env["STABLELOG_KILL_POINTS"] ?? "2";
const EACH = points === "all" ? Number.POSITIVE_INFINITY : Number(points);
const LANES = 3;
const why = noStrace();

const LIFE: Omit<Task, "dir" | "round" | "saves"> = {
  options: { sync: "inline", segmentBytes: 4096 },
  script: { seed: 1, sizes: "small", installs: 8 },
  savers: 1,
  snapshotEvery: 4,
  keep: 3,
};

/** A life that is killed again and again, each time at another call, each time in a directory of its own. */
interface Scene {
  readonly round: number;
  readonly saves: number;
  /** What it begins with; undefined: nothing. */
  readonly from: string | undefined;
  readonly ledger: Ledger;
  /** The names that it touches, "" for the directory itself. */
  readonly names: readonly string[];
  /** How often one thread makes each call on these names. */
  readonly counts: ReadonlyMap<string, number>;
}

let home: Home;
let directories = 0;
let kills = 0;

/** A directory for one life of the scene, as it begins. */
async function stage({ round, saves, from }: Pick<Scene, "round" | "saves" | "from">): Promise<Task> {
  const dir = home.file(`log-${++directories}`);
  if (from !== undefined) await cp(from, dir, { recursive: true });
  return { ...LIFE, dir, round, saves };
}

/** The parent, where a new directory's name is synced, and the names in it. */
function pathsOf(names: readonly string[], dir: string): string[] {
  return [home.path, ...names.map((name) => (name === "" ? dir : `${dir}/${name}`))];
}

/** Runs a life to its end, and gives the calls it made. */
async function watch(task: Task, paths: readonly string[]): Promise<Call[]> {
  const log = home.file(`trace-${directories}`);
  const child = home.start("saver", task, PLAIN_POOL, underStrace({ log, calls: FILE_CALLS, paths }));
  expect(await child.ended).toMatchObject({ code: 0, stderr: "" });
  return readTrace(log);
}

/** Looks at a whole life twice: for the names it touches, and for the calls on them, counted as strace counts them. */
async function sceneOf(life: Pick<Scene, "round" | "saves" | "from" | "ledger">): Promise<Scene> {
  const seen = await stage(life);
  const names = new Set([""]);
  for (const path of (await watch(seen, [])).flatMap((call) => (call.name === "pwrite64" ? [] : stringsOf(call)))) {
    // LOCK's side files are called otherwise each time.
    if (path.startsWith(`${seen.dir}/`) && !/LOCK\.[0-9a-f]+$/.test(path)) names.add(path.slice(seen.dir.length + 1));
  }
  const counted = await stage(life);
  const threads = new Map<string, number>();
  const counts = new Map<string, number>();
  for (const { thread, name } of await watch(counted, pathsOf([...names], counted.dir))) {
    const count = (threads.get(`${thread} ${name}`) ?? 0) + 1;
    threads.set(`${thread} ${name}`, count);
    counts.set(name, Math.max(count, counts.get(name) ?? 0));
  }
  return { ...life, names: [...names], counts };
}

/** Up to `EACH` of the numbers 1 to `count`. */
function sample(count: number, random: () => number): number[] {
  const numbers = Array.from({ length: count }, (_, i) => i + 1);
  while (numbers.length > EACH) numbers.splice(Math.floor(random() * numbers.length), 1);
  return numbers;
}

function killAt(task: Task, paths: readonly string[], call: string, n: number): Promise<Ending> {
  const inject = [`${call}:signal=KILL:when=${n}`];
  return home.start("saver", task, PLAIN_POOL, underStrace({ log: "/dev/null", calls: [call], inject, paths })).ended;
}

/** Lets the scene's life be killed at its n-th call; at its last, when its threads made fewer of them this time. */
async function strike(scene: Scene, call: string, n: number): Promise<void> {
  for (let at = n; ; at--) {
    const task = await stage(scene);
    const { signal, code, lines, stderr } = await killAt(task, pathsOf(scene.names, task.dir), call, at);
    const what = `${call} ${at}, after "${lines.at(-1) ?? ""}"`;
    expect(stderr, what).toBe("");
    if (code === 0 && at > 1) continue;
    expect([signal, code], what).toEqual(["SIGKILL", null]);
    await scene.ledger.fork().settle(task.dir, task, lines, what);
    kills++;
    return;
  }
}

/** Strikes at a sample of the scene's calls of this name, a few processes at a time. */
async function strikes(scene: Scene, call: string, random: () => number): Promise<void> {
  const left = sample(scene.counts.get(call) ?? 0, random);
  expect(left.length).toBeGreaterThan(0);
  const lane = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await strike(scene, call, next);
  };
  // All of them end before a failure of one is told, so that none works on in a directory that is being removed.
  const ends = await Promise.allSettled(Array.from({ length: LANES }, lane));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

describe.skipIf(why !== undefined)(`a process killed at a system call (seed ${seed}) ${why ?? ""}`, () => {
  let fresh: Scene;
  let recovered: Scene;

  beforeAll(async () => {
    home = await Home.make();
    fresh = await sceneOf({ round: 1, saves: 14, from: undefined, ledger: new Ledger() });

    // A tail that nothing vouches for: killed at the sync of a group that was written.
    const task = await stage({ round: 1, saves: 14, from: undefined });
    const { signal, lines } = await killAt(task, pathsOf(["0000000000000001.seg"], task.dir), "fdatasync", 4);
    expect(signal).toBe("SIGKILL");
    const copy = await stage({ round: 1, saves: 14, from: task.dir });
    const ledger = new Ledger();
    const found = await ledger.settle(copy.dir, task, lines, "the log to recover");
    expect(found.carriedEntries).toBeGreaterThan(0);
    recovered = await sceneOf({ round: 2, saves: 5, from: task.dir, ledger });
  });

  afterAll(async () => {
    await home.remove();
    console.log(`kill-at-call.test.ts, seed ${seed}: ${kills} kills`);
  });

  it.each(FILE_CALLS)("open() finds all that was acknowledged when a log's first life ends at %s", (call) =>
    strikes(fresh, call, randomOf(seed)),
  );

  // Nothing is made a directory there.
  it.each(FILE_CALLS.filter((call) => call !== "mkdir"))(
    "open() finds all that was acknowledged when a life that began with recovery ends at %s",
    (call) => strikes(recovered, call, randomOf(seed + 1)),
  );
});
