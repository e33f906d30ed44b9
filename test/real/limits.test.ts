// Limits of a real process: `ulimit -f`, under which the kernel writes what still fits and then says EFBIG, and `ulimit -n`,
// under which a segment or a snapshot finds no descriptor. Neither poisons a log; what was acknowledged stays, and the log
// goes on where the limit allows it.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Home } from "./home.js";
import { Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";

let home: Home;
let directories = 0;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(() => home.remove());

async function limited(limit: "file size" | "open files", sync: string, ulimit: string, segmentBytes: number) {
  const dir = home.file(`log-${++directories}`);
  const script = { seed: 11, sizes: "small", installs: 0 };
  const life = { dir, options: { sync, segmentBytes }, script, round: 1, savers: 1, snapshotEvery: 0, keep: 0, limit };
  const child = home.start("limited", life, {}, ["sh", "-c", `ulimit ${ulimit} && exec "$@"`, "limited"]);
  const { code, lines, stderr } = await child.ended;
  expect([code, stderr, lines.at(-1)]).toEqual([0, "", "done"]);
  const task = life as unknown as Task;
  const found = await new Ledger().settle(dir, task, lines, `${limit}, ${sync}`);
  return { found, lines, failures: lines.filter((line) => line.startsWith("failed")) };
}

// A shell is asked for the limit, and Windows has none of either.
describe.skipIf(process.platform === "win32")(
  "a process under a limit (skipped on Windows, which has no ulimit)",
  () => {
    it.each(["inline", "worker"])(
      "save() and createSnapshot() are ERR_NO_SPACE when they need a larger file than ulimit -f allows, and what fits goes on (%s)",
      async (sync) => {
        // 64 blocks of 512 bytes: STATE fits, a segment of the usual size does not, as much of it as may be does.
        const { found, failures } = await limited("file size", sync, "-f 64", 1 << 20);
        expect(failures).toEqual([
          "failed large snapshot ERR_NO_SPACE EFBIG - open",
          "failed large save ERR_NO_SPACE EFBIG - open",
        ]);
        expect(found).toMatchObject({ saves: 130, verdict: "clean" });
      },
    );

    it("a save whose write is cut short by ulimit -f goes into the next segment, and nothing of it stays in the one before", async () => {
      // Without syncs a segment has no zeros, so the limit strikes within a group.
      const { found, lines, failures } = await limited("file size", "off", "-f 64", 1 << 20);
      expect(failures).toEqual([
        "failed large snapshot ERR_NO_SPACE EFBIG - open",
        "failed large save ERR_NO_SPACE EFBIG - open",
      ]);
      const saved = lines.filter((line) => line.startsWith("saved")).length;
      expect(found).toMatchObject({ saves: saved, verdict: "clean" });
      // The thirty at the end are behind both.
      expect(lines.slice(lines.indexOf(failures[1] as string)).filter((line) => line.startsWith("saved"))).toHaveLength(
        30,
      );
    });

    it.each(["inline", "worker"])(
      "save() and createSnapshot() are ERR_IO when ulimit -n leaves no descriptor, poison nothing, and work again (%s)",
      async (sync) => {
        const { found, lines, failures } = await limited("open files", sync, "-n 64", 65536);
        expect(lines).toContain("taken EMFILE");
        expect(failures).toEqual(["failed snapshot ERR_IO EMFILE - open", "failed save ERR_IO EMFILE - open"]);
        const saved = lines.filter((line) => line.startsWith("saved")).length;
        expect(found).toMatchObject({ saves: saved, verdict: "clean" });
        expect(saved).toBeGreaterThan(35);
        expect(lines.filter((line) => line.startsWith("snapshot "))).toHaveLength(1);
      },
    );
  },
);
