// Disks that are really full: a small tmpfs, and a small ext4 on a loop device. Saves are refused as docs/DURABILITY.md
// says, all that was acknowledged is there, the log opens while the disk is full, and it goes on once there is room. Needs to
// be root, and to be allowed to mount; says so where it is not.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, open, rm, statfs, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Home } from "./home.js";
import { Ledger } from "./ledger.js";
import type { Task } from "./programs/plan.js";

const run = promisify(execFile);

/** Room that the ballast leaves: for a few segments. */
const ROOM_BYTES = 300 * 1024;

interface FileSystem {
  readonly name: string;
  /** Makes it at `path`, with `image` to keep it in. */
  readonly mount: (path: string, image: string) => Promise<unknown>;
}

const fileSystems: readonly FileSystem[] = [
  { name: "tmpfs", mount: (path) => run("mount", ["-t", "tmpfs", "-o", "size=2m", "stablelog-test", path]) },
  {
    name: "ext4",
    mount: async (path, image) => {
      await writeFile(image, "");
      await truncate(image, 8 << 20);
      await run("mkfs.ext4", ["-q", "-F", "-m", "0", image]);
      await run("mount", ["-o", "loop", image, path]);
    },
  },
];

/** What is mounted, or about to be, each in a directory of its own. */
const bases = new Set<string>();

async function remove(base: string): Promise<void> {
  const path = join(base, "disk");
  // -l: what holds it was killed, and the kernel may not be done with that.
  await run("umount", [path]).catch(() => run("umount", ["-l", path]).catch(() => {}));
  await rm(base, { recursive: true, force: true });
  bases.delete(base);
}

/** Mounts it, works there, and takes it away again whatever happens. */
async function on<T>({ mount }: FileSystem, work: (path: string) => Promise<T>): Promise<T> {
  const base = await mkdtemp(join(tmpdir(), "stablelog-disk-"));
  const path = join(base, "disk");
  bases.add(base);
  try {
    await mkdir(path);
    await mount(path, join(base, "image"));
    return await work(path);
  } finally {
    await remove(base);
  }
}

/** Why there is no such file system here; undefined when there is. */
async function missing(fileSystem: FileSystem): Promise<string | undefined> {
  if (process.platform !== "linux") return "skipped: mounting is Linux's here";
  if (process.getuid?.() !== 0) return "skipped: mounting needs root";
  try {
    return await on(fileSystem, async () => undefined);
  } catch (error) {
    return `skipped: it cannot be mounted here (${String(error).trim().split("\n").at(-1)})`;
  }
}

let home: Home;

beforeAll(async () => {
  home = await Home.make();
});

afterAll(async () => {
  await home.remove();
  // Left by a test that ran out of time.
  for (const base of bases) await remove(base);
});

function taskOn(path: string, sync: Task["options"]["sync"] & string, hold: boolean) {
  return {
    dir: join(path, "log"),
    options: { sync, segmentBytes: 65536 },
    script: { seed: 5, sizes: "small", installs: 0 },
    round: 1,
    savers: 1,
    snapshotEvery: 0,
    keep: 0,
    ballast: join(path, "ballast"),
    hold,
  } as const;
}

async function fill(path: string): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  await writeFile(join(path, "ballast"), Buffer.alloc(bavail * bsize - ROOM_BYTES, 1));
}

/** Takes what room is left, to the last block. */
async function topUp(path: string): Promise<void> {
  const file = await open(join(path, "rest"), "w");
  try {
    for (;;) await file.write(Buffer.alloc(1024, 1));
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
  } finally {
    await file.close();
  }
}

for (const fileSystem of fileSystems) {
  const why = await missing(fileSystem);
  describe.skipIf(why !== undefined)(`a full ${fileSystem.name} ${why ?? ""}`, () => {
    it.each(["inline", "worker"] as const)(
      "save() is ERR_NO_SPACE, nothing is lost, the log opens while it is full and goes on with room (%s)",
      async (sync) => {
        await on(fileSystem, async (path) => {
          await fill(path);
          const task = taskOn(path, sync, false);
          const { code, lines, stderr } = await home.start("filling", task).ended;
          expect([code, stderr, lines.at(-1)]).toEqual([0, "", "done"]);
          const failures = lines.filter((line) => line.startsWith("failed"));
          expect(failures).toEqual([
            "failed save ERR_NO_SPACE ENOSPC open",
            "failed snapshot ERR_NO_SPACE ENOSPC open",
            "failed full ERR_NO_SPACE ENOSPC open",
          ]);
          expect(lines).toContain("topped up ENOSPC");
          const read = lines.find((line) => line.startsWith("read "));
          expect(read).toMatch(/^read (\d+) of \1$/);
          expect(lines).toContain("reopened true");
          const saved = lines.filter((line) => line.startsWith("saved")).length;
          const found = await new Ledger().settle(task.dir, task, lines, `${fileSystem.name}, ${sync}`);
          expect(found).toMatchObject({ saves: saved, verdict: "clean" });
        });
      },
    );

    it.each(["inline", "worker", "off"] as const)(
      "large saves are ERR_NO_SPACE while their segment grows, nothing is lost, and the log goes on with room (%s)",
      async (sync) => {
        await on(fileSystem, async (path) => {
          await fill(path);
          const task = {
            ...taskOn(path, sync, false),
            options: { sync, segmentBytes: 1 << 20 },
            script: { seed: 6, sizes: "medium", installs: 0 },
          } as const;
          const { code, lines, stderr } = await home.start("filling", task).ended;
          expect([code, stderr, lines.at(-1)]).toEqual([0, "", "done"]);
          const failures = lines.filter((line) => line.startsWith("failed"));
          expect(failures.length).toBeGreaterThanOrEqual(3);
          for (const line of failures) expect(line).toMatch(/^failed \w+ ERR_NO_SPACE ENOSPC open$/);
          expect(lines).toContain("reopened true");
          const saved = lines.filter((line) => line.startsWith("saved")).length;
          const found = await new Ledger().settle(task.dir, task, lines, `${fileSystem.name}, ${sync}, large`);
          expect(found).toMatchObject({ saves: saved, verdict: "clean" });
        });
      },
    );

    it("save() is ERR_NO_SPACE or ERR_POISONED with sync off, and all that was acknowledged is there", async () => {
      await on(fileSystem, async (path) => {
        await fill(path);
        const task = taskOn(path, "off", false);
        const { code, lines, stderr } = await home.start("filling", task).ended;
        expect([code, stderr, lines.at(-1)]).toEqual([0, "", "done"]);
        expect(lines.find((line) => line.startsWith("failed"))).toMatch(
          /^failed save (ERR_POISONED ENOSPC poisoned|ERR_NO_SPACE ENOSPC open)$/,
        );
        await new Ledger().settle(task.dir, task, lines, `${fileSystem.name}, off`);
      });
    });

    it.each(["inline", "worker"] as const)(
      "open() finds all that was acknowledged when the process was killed on the full disk (%s)",
      async (sync) => {
        await on(fileSystem, async (path) => {
          await fill(path);
          const task = taskOn(path, sync, true);
          const child = home.start("filling", task);
          await child.said("failed");
          const { lines } = await child.kill();
          expect(lines.at(-1)).toBe("failed save ERR_NO_SPACE ENOSPC open");
          await topUp(path);
          const ledger = new Ledger();
          await ledger.settle(task.dir, task, lines, `${fileSystem.name}, ${sync}, first`);
          // And again: what the first open left is no fuller and no less true.
          const round = { ...task, round: 2 };
          expect((await ledger.settle(task.dir, round, [], `${fileSystem.name}, ${sync}, second`)).verdict).toBe(
            "clean",
          );
        });
      },
    );
  });
}
