// Processes that end in the middle of saves without being killed: process.exit(), an error that nobody catches, a rejection
// that nobody handles, and a worker thread that is terminated. For the log each is a kill.

import { cp } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomOf } from "../recovery/test-disk.js";
import { Home } from "./home.js";
import { acknowledged, Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";

const seed = Number(process.env["STABLELOG_KILL_SEED"] ?? Date.now() % 1_000_000);
/** Processes that follow one another in a directory. */
const ROUNDS = 3;

let home: Home;
let directories = 0;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(() => home.remove());

const engines = ["inline", "worker", "auto"] as const;

function taskOf(sync: (typeof engines)[number], dir: string, round: number): Task {
  // One script a directory: a round finds the snapshots of those before.
  const script = { seed, sizes: "small", installs: 40 } as const;
  return { dir, options: { sync, segmentBytes: 8192 }, script, round, savers: 6, snapshotEvery: 15, keep: 20 };
}

describe(`a process that ends in mid-save (seed ${seed}; STABLELOG_KILL_SEED repeats its moments)`, () => {
  const ways = [
    ["process.exit()", "exit", 7, /^$/],
    ["an uncaught error", "throw", 1, /Error: nobody catches this/],
    ["an unhandled rejection", "reject", 1, /Error: nobody hears this/],
  ] as const;
  const rows = ways.flatMap((way) => engines.map((sync) => [...way, sync] as const));

  it.each(rows)("open() finds all that was acknowledged before %s (%s, code %i, %s, %s)", async (...row) => {
    const [name, how, exitCode, words, sync] = row;
    const random = randomOf(seed);
    const dir = home.file(`log-${++directories}`);
    const ledger = new Ledger();
    for (let round = 1; round <= ROUNDS; round++) {
      const task = { ...taskOf(sync, dir, round), end: { how, after: 5 + Math.floor(random() * 60) } };
      const { code, signal, lines, stderr } = await home.start("saver", task).ended;
      const what = `${name}, ${sync}, seed ${seed}, round ${round}`;
      expect([code, signal], `${what} ${stderr}`).toEqual([exitCode, null]);
      expect(stderr, what).toMatch(words);
      expect(acknowledged(lines), what).toBeGreaterThanOrEqual(task.end.after);
      const copy = `${dir}-${round}`;
      await cp(dir, copy, { recursive: true });
      await ledger.settle(copy, task, lines, what);
    }
  });

  it.each(engines)(
    "open() finds all that a terminated worker thread acknowledged, in the same process too (%s)",
    async (sync) => {
      const random = randomOf(seed + 1);
      const dir = home.file(`log-${++directories}`);
      const ledger = new Ledger();
      for (let round = 1; round <= ROUNDS; round++) {
        const task = taskOf(sync, dir, round);
        const child = home.start("host", task);
        const what = `worker.terminate(), ${sync}, seed ${seed}, round ${round}`;
        expect(await child.said("saved", 1 + Math.floor(random() * 60)), what + child.stderr).toBe(true);
        child.tell("end it");
        const { code, lines, stderr } = await child.ended;
        expect([code, stderr], what).toEqual([0, ""]);
        expect(lines.at(-2), what).toBe("terminated 1");
        const copy = `${dir}-${round}`;
        await cp(dir, copy, { recursive: true });
        const { verdict } = await ledger.settle(copy, task, lines, what);
        // The process itself has opened and closed it by now.
        expect(verdict, what).toBe("clean");
      }
    },
  );
});
