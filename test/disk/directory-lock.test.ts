// The directory lock against other processes, other threads, dead holders and planted files. Each is tried with the socket
// ("auto", where the platform has one) and with the lock file alone ("file").

import { execFileSync } from "node:child_process";
import { link, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { LOCK_NAME, lockDirectory } from "../../src/disk/directory-lock.js";
import type { DiskLock } from "../../src/disk/disk.js";
import { Child, compileDisk } from "./children.js";

const linux = process.platform === "linux";
const modes = linux ? (["auto", "file"] as const) : (["file"] as const);

let home: string;
let dir: string;
let lockPath: string;
let children: Child[];

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "stablelog-lock-child-"));
  await compileDisk(home);
  // Takes and releases the lock as it is told, and answers with what came of it.
  await writeFile(
    join(home, "holder.mjs"),
    `
    import { createInterface } from "node:readline";
    import { lockDirectory } from "./disk/directory-lock.js";
    const [dir, mode] = process.argv.slice(2);
    let held;
    console.log("ready");
    for await (const line of createInterface({ input: process.stdin })) {
      if (line === "take") {
        try {
          held = await lockDirectory(dir, mode);
          console.log("held");
        } catch (error) {
          console.log(error.code + " " + error.message);
        }
      } else {
        await held?.release();
        held = undefined;
        console.log("released");
      }
    }
    `,
  );
});
afterAll(() => rm(home, { recursive: true }));

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "stablelog-lock-"));
  lockPath = join(dir, LOCK_NAME);
  children = [];
});

afterEach(async () => {
  await Promise.all(children.map((child) => child.kill()));
  await rm(dir, { recursive: true });
});

async function startHolder(mode: string): Promise<Child> {
  const child = new Child(process.execPath, [join(home, "holder.mjs"), dir, mode]);
  children.push(child);
  expect(await child.answer()).toBe("ready");
  return child;
}

async function ask(child: Child, line: "take" | "release"): Promise<string> {
  child.tell(line);
  return child.answer();
}

/** The pid of a process that has ended. */
async function deadPid(): Promise<number> {
  const child = new Child(process.execPath, ["--version"]);
  const { pid } = child.process;
  await child.ended;
  if (pid === undefined) throw new Error("no process was started");
  return pid;
}

async function bootId(): Promise<string> {
  return linux ? (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim() : "";
}

async function startTicks(pid: number): Promise<string> {
  if (!linux) return "";
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

/** A LOCK as this test's own parent process would have written it, with `changes`. */
async function lockText(changes: Record<string, unknown> = {}): Promise<string> {
  const pid = process.ppid;
  const holder = { pid, bootId: await bootId(), startTicks: await startTicks(pid), socketSpace: "", nonce: "0a1b" };
  return `${JSON.stringify({ ...holder, ...changes })}\n`;
}

async function expectTakes(mode: "auto" | "file"): Promise<void> {
  const lock = await lockDirectory(dir, mode);
  expect(JSON.parse(await readFile(lockPath, "utf8"))).toMatchObject({ pid: process.pid });
  expect(await readdir(dir)).toEqual([LOCK_NAME]);
  await lock.release();
  expect(await readdir(dir)).toEqual([]);
}

describe.each(modes)("lockDirectory() in mode %s", (mode) => {
  it("lockDirectory() names the holder in a private file that goes with the lock", async () => {
    const lock = await lockDirectory(dir, mode);
    expect((await lstat(lockPath)).mode & 0o777).toBe(0o600);
    const holder = JSON.parse(await readFile(lockPath, "utf8"));
    expect(holder).toMatchObject({
      pid: process.pid,
      bootId: await bootId(),
      startTicks: await startTicks(process.pid),
      nonce: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(await readdir(dir)).toEqual([LOCK_NAME]);
    await lock.release();
    await lock.release();
    expect(await readdir(dir)).toEqual([]);
  });

  it("lockDirectory() refuses a second opener of this process by whatever path it comes", async () => {
    const lock = await lockDirectory(dir, mode);
    const alias = `${dir}-alias`;
    await symlink(dir, alias);
    await expect(lockDirectory(alias, mode)).rejects.toMatchObject({
      code: "ERR_LOCKED",
      message: expect.stringContaining(`pid ${process.pid}`),
    });
    await rm(alias);
    await lock.release();
  });

  it("lockDirectory() names directory and pid when another process has the lock, and takes it after its release", async () => {
    const child = await startHolder(mode);
    expect(await ask(child, "take")).toBe("held");
    await expect(lockDirectory(dir, mode)).rejects.toMatchObject({
      code: "ERR_LOCKED",
      message: `lock ${dir}: held by process ${child.process.pid}`,
    });
    expect(await ask(child, "release")).toBe("released");
    await expectTakes(mode);
  });

  it("lockDirectory() takes the lock at once when the holder was killed", async () => {
    const child = await startHolder(mode);
    expect(await ask(child, "take")).toBe("held");
    await child.kill();
    expect(await readdir(dir)).toEqual([LOCK_NAME]);
    await expectTakes(mode);
  });

  it("lockDirectory() lets exactly one of many processes win, with a fresh and with a stale LOCK", async () => {
    const contenders = await Promise.all(Array.from({ length: 6 }, () => startHolder(mode)));
    const pid = await deadPid();
    for (let round = 0; round < 12; round++) {
      if (round % 3 === 1) await writeFile(lockPath, await lockText({ pid, nonce: `abc${round}` }));
      if (round % 3 === 2) await writeFile(lockPath, "");
      for (const child of contenders) child.tell("take");
      const answers = await Promise.all(contenders.map((child) => child.answer()));
      const winners = contenders.filter((_, i) => answers[i] === "held");
      const refused = answers.filter((answer) => answer.startsWith("ERR_LOCKED "));
      expect([winners.length, refused.length], answers.join("\n")).toEqual([1, 5]);
      const holder = JSON.parse(await readFile(lockPath, "utf8"));
      expect(holder.pid).toBe(winners[0]?.process.pid);
      await Promise.all(winners.map((child) => ask(child, "release")));
      expect(await readdir(dir)).toEqual([]);
    }
  });

  it("lockDirectory() refuses another thread of this process, and takes the lock when that thread let go", async () => {
    const thread = new Worker(
      `
      const { parentPort, workerData } = require("node:worker_threads");
      import(workerData.module).then(async ({ lockDirectory }) => {
        const lock = await lockDirectory(workerData.dir, workerData.mode);
        parentPort.once("message", async () => {
          await lock.release();
          parentPort.postMessage("released");
          parentPort.close();
        });
        parentPort.postMessage("held");
      });
      `,
      { eval: true, workerData: { dir, mode, module: join(home, "disk/directory-lock.js") } },
    );
    const said = () => new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject));
    expect(await said()).toBe("held");
    await expect(lockDirectory(dir, mode)).rejects.toMatchObject({ code: "ERR_LOCKED" });
    thread.postMessage("release");
    expect(await said()).toBe("released");
    await expectTakes(mode);
    await thread.terminate();
  });

  it("lockDirectory() replaces a LOCK whose process has ended", async () => {
    await writeFile(lockPath, await lockText({ pid: await deadPid() }));
    await expectTakes(mode);
  });

  it.runIf(linux)("lockDirectory() replaces a LOCK whose pid belongs to a later process by now", async () => {
    await writeFile(lockPath, await lockText({ startTicks: "1" }));
    await expectTakes(mode);
  });

  it.runIf(linux)("lockDirectory() replaces a LOCK from before the last boot", async () => {
    await writeFile(lockPath, await lockText({ bootId: "00000000-0000-4000-8000-000000000000" }));
    await expectTakes(mode);
  });

  it.runIf(linux)("lockDirectory() replaces the LOCK of a process that only waits to be reaped", async () => {
    // The subshell ends when it is told, and by then its parent has become a program that does not reap it.
    const parent = new Child("bash", ["-c", "read line <&0 & echo $!; exec sleep 60"]);
    children.push(parent);
    const pid = Number(await parent.answer());
    const stat = (of: number | undefined) => () => readFile(`/proc/${of}/stat`, "utf8");
    await expect.poll(stat(parent.process.pid), { timeout: 20_000 }).toContain("(sleep)");
    parent.tell("");
    await expect.poll(stat(pid), { timeout: 20_000 }).toContain(") Z ");
    await writeFile(lockPath, await lockText({ pid, startTicks: await startTicks(pid) }));
    await expectTakes(mode);
  });

  it("lockDirectory() replaces what is no lock of ours: nothing, half a line, a pid that would be a group", async () => {
    for (const text of [
      "",
      `{"pid":1`,
      await lockText({ pid: 0 }),
      await lockText({ pid: -1 }),
      "null",
      "\0".repeat(90),
    ]) {
      await writeFile(lockPath, text);
      await expectTakes(mode);
    }
    await writeFile(lockPath, await lockText({ nonce: "../../x" }));
    await expectTakes(mode);
  });

  it("lockDirectory() refuses while the process in LOCK runs and took the lock without a socket", async () => {
    const text = await lockText();
    await writeFile(lockPath, text);
    await expect(lockDirectory(dir, mode)).rejects.toMatchObject({
      code: "ERR_LOCKED",
      message: `lock ${dir}: held by process ${process.ppid}`,
    });
    expect(await readFile(lockPath, "utf8")).toBe(text);
    expect(await readdir(dir)).toEqual([LOCK_NAME]);
    await rm(lockPath);
    await expectTakes(mode);
  });

  it("lockDirectory() gets past an opener that died while it replaced a dead one's LOCK", async () => {
    const pid = await deadPid();
    // Each died between taking its turn and using it, its own file still beside; the last one while making that file.
    await writeFile(lockPath, await lockText({ pid, nonce: "aa" }));
    for (const [turn, nonce] of [
      ["aa0", "bb"],
      ["bb0", "cc"],
      ["cc0", "dd"],
    ]) {
      await writeFile(`${lockPath}.${nonce}`, await lockText({ pid, nonce }));
      await link(`${lockPath}.${nonce}`, `${lockPath}.${turn}`);
    }
    await writeFile(`${lockPath}.ee`, "");
    await expectTakes(mode);
    await writeFile(lockPath, "");
    await writeFile(`${lockPath}.0`, "");
    await expectTakes(mode);
  });

  it("lockDirectory() refuses when files of dead openers were planted in a circle", async () => {
    const pid = await deadPid();
    await writeFile(lockPath, await lockText({ pid, nonce: "aa" }));
    await writeFile(`${lockPath}.aa0`, await lockText({ pid, nonce: "bb" }));
    await writeFile(`${lockPath}.bb0`, await lockText({ pid, nonce: "aa" }));
    await expect(lockDirectory(dir, mode)).rejects.toMatchObject({ code: "ERR_LOCKED" });
    expect((await readdir(dir)).sort()).toEqual([LOCK_NAME, "LOCK.aa0", "LOCK.bb0"]);
  });

  it("lockDirectory() removes the leftovers of dead openers and nothing else", async () => {
    await writeFile(`${lockPath}.123`, await lockText({ pid: await deadPid() }));
    await writeFile(`${lockPath}.456`, "");
    await writeFile(`${lockPath}.789`, await lockText());
    await writeFile(`${lockPath}.abc`, "somebody's own");
    await writeFile(`${lockPath}.old`, "");
    await symlink("nowhere", `${lockPath}.def`);
    const lock = await lockDirectory(dir, mode);
    await lock.release();
    expect((await readdir(dir)).sort()).toEqual(["LOCK.789", "LOCK.abc", "LOCK.def", "LOCK.old"]);
  });

  it("lockDirectory() refuses a LOCK that is no regular file, leaves it, and does not stay locked", async () => {
    const victim = join(dir, "victim");
    await writeFile(victim, "precious");
    const plant = [
      () => symlink(victim, lockPath),
      () => symlink("nowhere", lockPath),
      async () => void execFileSync("mkfifo", [lockPath]),
      () => mkdir(lockPath),
    ];
    for (const put of plant) {
      await put();
      const before = await lstat(lockPath);
      await expect(lockDirectory(dir, mode)).rejects.toMatchObject({ code: "ERR_FOREIGN", file: LOCK_NAME });
      const after = await lstat(lockPath);
      expect([after.ino, after.mode]).toEqual([before.ino, before.mode]);
      expect((await readdir(dir)).sort()).toEqual([LOCK_NAME, "victim"]);
      await rm(lockPath, { recursive: true });
    }
    expect(await readFile(victim, "utf8")).toBe("precious");
    await (await lockDirectory(dir, mode)).release();
  });

  it("release() leaves a LOCK that is not ours any more", async () => {
    const lock = await lockDirectory(dir, mode);
    const text = await lockText();
    await writeFile(lockPath, text);
    await lock.release();
    expect(await readFile(lockPath, "utf8")).toBe(text);
  });

  it("release() resolves when the directory is gone", async () => {
    const inner = join(dir, "inner");
    await mkdir(inner);
    const lock = await lockDirectory(inner, mode);
    await rm(inner, { recursive: true });
    await lock.release();
  });
});

describe.runIf(linux)("lockDirectory() with the socket", () => {
  async function socketName(): Promise<string> {
    const { dev, ino } = await lstat(dir, { bigint: true });
    return `\0${`stablelog-${dev}-${ino}`.padEnd(107, "-")}`;
  }

  let held: DiskLock | undefined;
  afterEach(async () => {
    await held?.release();
    held = undefined;
  });

  it("lockDirectory() holds a name that fills the whole address, so that every node version gives the same", async () => {
    held = await lockDirectory(dir, "auto");
    const shown = (await socketName()).replace("\0", "@");
    const names = (await readFile("/proc/net/unix", "utf8")).split("\n").map((line) => line.split(" ").pop());
    expect(names).toContain(shown);
    expect(shown).toHaveLength(108);
  });

  it("lockDirectory() closes whoever connects, and release() does not wait for them", async () => {
    held = await lockDirectory(dir, "auto");
    const path = await socketName();
    const connectOnce = async () => {
      const guest = connect({ path });
      guest.on("error", () => {});
      await new Promise((resolve) => guest.once("connect", resolve));
      return new Promise((resolve) => guest.once("close", resolve));
    };
    await Promise.all([connectOnce(), connectOnce(), connectOnce()]);
    const late = connect({ path });
    late.on("error", () => {});
    const gone = new Promise((resolve) => late.once("close", resolve));
    await held.release();
    await gone;
  });

  it("lockDirectory() replaces the LOCK of a running process whose socket is free again", async () => {
    const lock = await lockDirectory(dir, "auto");
    const { socketSpace } = JSON.parse(await readFile(lockPath, "utf8"));
    await lock.release();
    expect(socketSpace).toMatch(/^net:/);
    await writeFile(lockPath, await lockText({ socketSpace }));
    await expectTakes("auto");
  });

  it("lockDirectory() refuses a running process that has the socket in another network namespace", async () => {
    await writeFile(lockPath, await lockText({ socketSpace: "net:[1]" }));
    await expect(lockDirectory(dir, "auto")).rejects.toMatchObject({ code: "ERR_LOCKED" });
  });

  it("lockDirectory() keeps holders with and without the socket apart, whoever came first", async () => {
    const [withSocket, without] = await Promise.all([startHolder("auto"), startHolder("file")]);
    expect(await ask(withSocket, "take")).toBe("held");
    expect(await ask(without, "take")).toMatch(/^ERR_LOCKED /);
    await ask(withSocket, "release");
    expect(await ask(without, "take")).toBe("held");
    expect(await ask(withSocket, "take")).toMatch(/^ERR_LOCKED /);
    await ask(without, "release");
    expect(await ask(withSocket, "take")).toBe("held");
  });

  it("lockDirectory() takes the lock when a thread of this process died with it", async () => {
    const thread = new Worker(
      `
      const { parentPort, workerData } = require("node:worker_threads");
      setInterval(() => {}, 1000);
      import(workerData.module).then(async ({ lockDirectory }) => {
        await lockDirectory(workerData.dir, "auto");
        parentPort.postMessage("held");
      });
      `,
      { eval: true, workerData: { dir, module: join(home, "disk/directory-lock.js") } },
    );
    await new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject));
    await thread.terminate();
    expect(await readdir(dir)).toEqual([LOCK_NAME]);
    await expectTakes("auto");
  });
});
