// Real processes on real files, killed with SIGKILL at random moments: while they open, save concurrently, rotate, compact,
// make and receive snapshots, under each engine. What they acknowledged over their pipe is there at the next open, whole
// saves only, and a kill never leads to a refusal. Processes follow one another in a directory, each on what the kill
// before has left. STABLELOG_KILLS says how many kills (5000 for a long night), STABLELOG_KILL_SEED repeats a run's moments.

import { cp, mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomOf } from "../recovery/test-disk.js";
import { Home } from "./home.js";
import { acknowledged, Ledger } from "./ledger.js";
import type { Script, Task } from "./programs/plan.js";

const KILLS = Number(process.env["STABLELOG_KILLS"] ?? 100);
const seed = Number(process.env["STABLELOG_KILL_SEED"] ?? Date.now() % 1_000_000);
/** Kills in one directory; then another begins, under the next arrangement. */
const KILLS_A_DIRECTORY = 10;
/** Directories in hand at a time: more than processors, because a child that waits for its moment or a disk needs none. */
const LANES = 8;

const small = { sizes: "small", installs: 60 } as const;
const large = { sizes: "large", installs: 25 } as const;

/** What a directory is used with. Small segments for rotation after rotation, large saves for kills within a write. */
const arrangements: readonly (Pick<Task, "options" | "savers" | "keep"> & { readonly script: Omit<Script, "seed"> })[] =
  [
    { options: { sync: "inline", segmentBytes: 4096 }, savers: 5, keep: 20, script: small },
    { options: { sync: "worker", segmentBytes: 16384 }, savers: 5, keep: 20, script: small },
    { options: {}, savers: 8, keep: 300, script: small },
    { options: { sync: "auto", segmentBytes: 1 << 20 }, savers: 3, keep: 10, script: large },
    { options: { sync: "worker" }, savers: 16, keep: 300, script: small },
    { options: { sync: "inline", segmentBytes: 32768 }, savers: 2, keep: 50, script: small },
    { options: { segmentBytes: 65536 }, savers: 1, keep: 50, script: small },
    // Without syncs most of the time goes to writes, so most torn tails are made here. A kill loses nothing here either.
    { options: { sync: "off", segmentBytes: 4 << 20 }, savers: 3, keep: 10, script: large },
  ];

/** What the run did, for the line at its end. */
const sums = { kills: 0, inOpen: 0, saves: 0, tears: 0, inPlace: 0 };
let home: Home;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(async () => {
  await home.remove();
  const { kills, inOpen, saves, tears } = sums;
  console.log(
    `kill.test.ts, seed ${seed}: ${kills} kills (${inOpen} of them in open), ${saves} saves acknowledged and found, ${tears} torn tails`,
  );
});

/** Kills process after process in one directory. */
async function directory(number: number, kills: number): Promise<void> {
  const random = randomOf(seed + number);
  const { script, ...arrangement } = arrangements[number % arrangements.length] as (typeof arrangements)[number];
  const dir = home.file(`log-${number}`);
  const copy = home.file(`copy-${number}`);
  const ledger = new Ledger();
  for (let round = 1; round <= kills; round++) {
    const task: Task = { ...arrangement, dir, round, script: { ...script, seed: seed + number }, snapshotEvery: 25 };
    const dice = random();
    const delayMs = random() * (dice < 0.3 ? 10 : 80);
    const child = home.start("saver", task);
    if (dice < 0.3) await child.said("ready");
    else if (dice < 0.65) await child.said("open");
    else await child.said("saved", 1 + Math.floor(random() * 100));
    if (dice < 0.65) await new Promise((resolve) => setTimeout(resolve, delayMs));
    const { signal, lines, stderr } = await child.kill();
    const what = `seed ${seed}, directory ${number}, round ${round}, after "${lines.at(-1) ?? ""}"`;
    expect([signal, stderr], what).toEqual(["SIGKILL", ""]);

    // Most looks are at a copy, so that the next process opens what the kill has left and not what this look made of it.
    const inPlace = random() < 0.2;
    if (!inPlace) {
      await rm(copy, { recursive: true, force: true });
      if ((await stat(dir).catch(() => undefined)) === undefined) await mkdir(copy);
      else await cp(dir, copy, { recursive: true });
    }
    const { verdict } = await ledger.settle(inPlace ? dir : copy, task, lines, what);
    sums.kills++;
    sums.saves += acknowledged(lines);
    if (verdict === "tear") sums.tears++;
    if (!lines.some((line) => line.startsWith("open "))) sums.inOpen++;
  }
  await rm(dir, { recursive: true, force: true });
  await rm(copy, { recursive: true, force: true });
}

describe(`a killed process (seed ${seed}; STABLELOG_KILL_SEED repeats its moments)`, () => {
  it(
    `open() finds all that was acknowledged, after ${KILLS} kills at random moments`,
    async () => {
      let next = 0;
      const lane = async (): Promise<void> => {
        for (let first = next++ * KILLS_A_DIRECTORY; first < KILLS; first = next++ * KILLS_A_DIRECTORY) {
          await directory(first / KILLS_A_DIRECTORY, Math.min(KILLS_A_DIRECTORY, KILLS - first));
        }
      };
      // All of them end before a failure of one is told, so that none works on in a directory that is being removed.
      const ends = await Promise.allSettled(Array.from({ length: LANES }, lane));
      for (const end of ends) if (end.status === "rejected") throw end.reason;
      expect(sums.kills).toBe(KILLS);
      // Each engine was met in the middle of its work: a run in which nothing was acknowledged would show nothing.
      expect(sums.saves).toBeGreaterThan(KILLS);
    },
    60_000 + KILLS * 500,
  );

  // Without syncs the file grows with the write, with them the write goes over zeros.
  it.each(["off", "inline", "worker"] as const)(
    "open() drops the save that a kill has cut in two within its write (%s)",
    async (sync) => {
      const script = { seed, sizes: "huge", installs: 0 } as const;
      const life = { script, round: 1, savers: 1, snapshotEvery: 1_000_000, keep: 0 };
      let verdict = "";
      // The kill comes when bytes are seen to arrive; should the write end before that, another one gets its turn.
      for (let attempt = 1; attempt <= 30 && verdict !== "tear"; attempt++) {
        const dir = home.file(`huge-${sync}-${attempt}`);
        const task: Task = { ...life, dir, options: { sync } };
        const child = home.start("saver", task);
        expect(await child.said("open")).toBe(true);
        while (!(await arrived(join(dir, "0000000000000001.seg"), 2_000_000))) expect(child.gone).toBe(false);
        const { lines } = await child.kill();
        ({ verdict } = await new Ledger().settle(dir, task, lines, `attempt ${attempt}`));
        await rm(dir, { recursive: true });
      }
      expect(verdict).toBe("tear");
    },
  );
});

/** Whether a byte that is not zero stands at `position` of a file. */
async function arrived(path: string, position: number): Promise<boolean> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, position);
    return bytesRead === 1 && buffer[0] !== 0;
  } finally {
    await file.close();
  }
}
