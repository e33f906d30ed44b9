// Real processes that want one directory at the same moment: one gets it, the others are told ERR_LOCKED, round after round;
// a holder that was killed is no holder, one that was stopped is; and what they save between them is one log.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { FileStorage } from "../../src/storage/file-storage.js";
import { type Child, Home } from "./home.js";

const ROUNDS = 100;
let home: Home;
let racers: Child[] = [];

beforeAll(async () => {
  home = await Home.make();
});

afterAll(() => home.remove());

afterEach(async () => {
  await Promise.all(racers.map((racer) => racer.kill()));
  racers = [];
});

/** Starts `count` children and waits until they listen. */
async function start(lockMode: "auto" | "file", count: number): Promise<Child[]> {
  const started = Array.from({ length: count }, () => home.start("racer", { lockMode }));
  racers.push(...started);
  for (const racer of started) expect(await racer.said("ready")).toBe(true);
  return started;
}

/** Tells it, and waits for its answer. */
async function ask(racer: Child, command: string): Promise<string> {
  const before = racer.lines().length;
  racer.tell(command);
  expect(await racer.said("", before + 1), racer.stderr).toBe(true);
  return racer.lines()[before] ?? "";
}

const modes = process.platform === "linux" ? (["auto", "file"] as const) : (["file"] as const);

describe.each(modes)("processes that race for a directory (lock: %s)", (mode) => {
  it(`open() gives it to one of three and ERR_LOCKED to the others, ${ROUNDS} times`, async () => {
    const runners = await start(mode, 3);
    const wins = new Map<Child, number>();
    const dirs = ["a", "b"].map((name) => home.file(`race-${mode}-${name}`));
    const saved = new Map(dirs.map((dir) => [dir, 0]));
    for (let round = 0; round < ROUNDS; round++) {
      // Two directories, of which the other one's holder has just let go; at first neither is there.
      const dir = dirs[round % 2] as string;
      // Another one is told first each time.
      runners.push(runners.shift() as Child);
      const answers = await Promise.all(runners.map((runner) => ask(runner, `open ${dir}`)));
      expect([...answers].sort(), `round ${round}`).toEqual(["got it", "refused ERR_LOCKED", "refused ERR_LOCKED"]);
      const winner = runners[answers.indexOf("got it")] as Child;
      wins.set(winner, (wins.get(winner) ?? 0) + 1);
      const next = (saved.get(dir) ?? 0) + 1;
      expect(await ask(winner, "save"), `round ${round}`).toBe(`saved ${next}`);
      saved.set(dir, next);
      expect(await ask(winner, "close")).toBe("closed");
    }
    for (const dir of dirs) {
      const storage = await FileStorage.open(dir);
      expect([storage.lastIndex(), (await storage.verify()).damage]).toEqual([ROUNDS / 2, []]);
      await storage.close();
    }
    // No race where the same one always comes first.
    expect(wins.size).toBeGreaterThan(1);
  });

  it(`open() gives it to one when three find the LOCK of a killed holder, ${ROUNDS} times`, async () => {
    const dir = home.file(`left-${mode}`);
    const [holder, ...runners] = (await start(mode, 4)) as [Child, ...Child[]];
    expect(await ask(holder, `open ${dir}`)).toBe("got it");
    expect(await ask(holder, "save")).toBe("saved 1");
    expect(await ask(runners[0] as Child, `open ${dir}`)).toBe("refused ERR_LOCKED");
    await holder.kill();
    const left = await readFile(join(dir, "LOCK"));
    for (let round = 0; round < ROUNDS; round++) {
      // From the second round on the file is put back: for who finds it that is another killed holder.
      if (round > 0) await writeFile(join(dir, "LOCK"), left);
      const answers = await Promise.all(runners.map((runner) => ask(runner, `open ${dir}`)));
      expect([...answers].sort(), `round ${round}`).toEqual(["got it", "refused ERR_LOCKED", "refused ERR_LOCKED"]);
      await Promise.all(runners.map((runner) => ask(runner, "close")));
    }
  });

  it("open() is ERR_LOCKED while the holder is stopped, and opens once that is killed", async () => {
    const dir = home.file(`stopped-${mode}`);
    const [holder, other] = (await start(mode, 2)) as [Child, Child];
    expect(await ask(holder, `open ${dir}`)).toBe("got it");
    expect(await ask(holder, "save")).toBe("saved 1");
    holder.process.kill("SIGSTOP");
    expect(await ask(other, `open ${dir}`)).toBe("refused ERR_LOCKED");
    holder.process.kill("SIGCONT");
    // It was only asleep: it is still the holder, and can still save.
    expect(await ask(holder, "save")).toBe("saved 2");
    expect(await ask(other, `open ${dir}`)).toBe("refused ERR_LOCKED");
    holder.process.kill("SIGSTOP");
    await holder.kill();
    expect(await ask(other, `open ${dir}`)).toBe("got it");
    expect(await ask(other, "save")).toBe("saved 3");
  });

  it("open() takes a directory whose LOCK is what a power cut has left of one", async () => {
    const dir = home.file(`stale-${mode}`);
    const [first, second] = (await start(mode, 2)) as [Child, Child];
    expect(await ask(first, `open ${dir}`)).toBe("got it");
    expect(await ask(first, "save")).toBe("saved 1");
    await first.kill();
    // The name was on disk, the bytes were not.
    await writeFile(join(dir, "LOCK"), "");
    expect(await ask(second, `open ${dir}`)).toBe("got it");
  });
});
