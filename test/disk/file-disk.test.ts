// FileDisk: the contract of every Disk on a real file system, in each of its forms, and what only a real one has: links, modes,
// short writes, processes that end, and node's permission model.

import { execFileSync } from "node:child_process";
import nodeFs from "node:fs";
import { chmod, lstat, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { FileDisk, type FileDiskOptions } from "../../src/disk/file-disk.js";
import { Child, compileDisk } from "./children.js";
import { testDisk } from "./disk-contract.js";

const forms: readonly (readonly [string, FileDiskOptions])[] = [
  ["FileDisk", {}],
  ["FileDisk without descriptor syncs", { fdSyncs: false }],
  ["FileDisk with the lock file alone", { lockMode: "file" }],
];

for (const [name, options] of forms) {
  testDisk(name, async () => {
    const dir = await mkdtemp(join(tmpdir(), "stablelog-disk-"));
    const disk = new FileDisk(options);
    return {
      disk,
      dir,
      end: async () => {
        await disk.dispose();
        await rm(dir, { recursive: true });
      },
    };
  });
}

const posix = process.platform !== "win32";
const linux = process.platform === "linux";

let dir: string;
let disk: FileDisk;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "stablelog-file-disk-"));
  disk = new FileDisk();
});

afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await disk.dispose();
  await rm(dir, { recursive: true });
});

/** Puts `fake` in the place of a node:fs function, for everyone who imports it, until the test ends. */
function replace<K extends "writeSync" | "write" | "fdatasyncSync" | "fdatasync">(name: K, fake: unknown): void {
  vi.spyOn(nodeFs, name).mockImplementation(fake as never);
  syncBuiltinESMExports();
}

describe.runIf(posix)("FileDisk.open() of what is no regular file", () => {
  it("open() rejects with ERR_FOREIGN when a symbolic link stands there, even one to a regular file", async () => {
    await writeFile(join(dir, "real"), "x");
    await symlink("real", join(dir, "link"));
    const cause = expect.objectContaining({ code: "ELOOP" });
    for (const mode of ["read", "write"] as const) {
      await expect(disk.open(`${dir}/link`, mode)).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "link", cause });
    }
    expect(() => disk.openNow(`${dir}/link`)).toThrow(expect.objectContaining({ code: "ERR_FOREIGN", cause }));
    await expect(disk.open(`${dir}/link`, "create")).rejects.toMatchObject({ code: "EEXIST" });
  });

  it("open() creates nothing behind a dangling link", async () => {
    await symlink("target", join(dir, "link"));
    await expect(disk.open(`${dir}/link`, "create")).rejects.toMatchObject({ code: "EEXIST" });
    expect(await readdir(dir)).toEqual(["link"]);
  });

  it("open() rejects with ERR_FOREIGN at once when a FIFO without a peer stands there", async () => {
    execFileSync("mkfifo", [join(dir, "fifo")]);
    await expect(disk.open(`${dir}/fifo`, "read")).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "fifo" });
    await expect(disk.open(`${dir}/fifo`, "write")).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "fifo" });
    expect(() => disk.openNow(`${dir}/fifo`)).toThrow(expect.objectContaining({ code: "ERR_FOREIGN" }));
    expect(await disk.stat(`${dir}/fifo`)).toMatchObject({ kind: "other" });
  });

  it("open() rejects with ERR_FOREIGN when a device stands there", async () => {
    await expect(disk.open("/dev/null", "write")).rejects.toMatchObject({ code: "ERR_FOREIGN", file: "null" });
  });

  it.runIf(linux)("open() leaves no descriptor behind when it refuses", async () => {
    execFileSync("mkfifo", [join(dir, "fifo")]);
    const before = (await readdir("/proc/self/fd")).length;
    for (let i = 0; i < 5; i++) {
      await expect(disk.open(`${dir}/fifo`, "write")).rejects.toThrow();
      expect(() => disk.openNow(`${dir}/fifo`)).toThrow();
    }
    expect((await readdir("/proc/self/fd")).length).toBe(before);
  });

  it("stat() calls a symbolic link other, wherever it leads", async () => {
    await symlink(dir, join(dir, "link"));
    expect(await disk.stat(`${dir}/link`)).toMatchObject({ kind: "other" });
  });
});

describe.runIf(posix)("FileDisk modes", () => {
  it("open() and mkdir() keep others out", async () => {
    await (await disk.open(`${dir}/a`, "create")).close();
    await disk.mkdir(`${dir}/d`);
    expect((await lstat(join(dir, "a"))).mode & 0o777).toBe(0o600);
    expect((await lstat(join(dir, "d"))).mode & 0o777).toBe(0o700);
  });
});

describe("FileDisk short writes", () => {
  it("write() goes on after a short write, and writes all of the range", async () => {
    const real = nodeFs.writeSync as (fd: number, bytes: Uint8Array, at: number, length: number, to: number) => number;
    replace("writeSync", (fd: number, bytes: Uint8Array, at: number, length: number, to: number) =>
      real(fd, bytes, at, Math.min(length, 3), to),
    );
    const file = await disk.open(`${dir}/a`, "create");
    file.write(new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]), 1, 8, 2);
    await file.close();
    expect([...(await readFile(join(dir, "a")))]).toEqual([0, 0, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("write() and writeLater() fail with EIO when a write moves no byte", async () => {
    const file = await disk.open(`${dir}/a`, "create");
    replace("writeSync", () => 0);
    replace("write", (...all: unknown[]) => (all[5] as (error: null, bytes: number) => void)(null, 0));
    const stuck = expect.objectContaining({ code: "EIO", bytesWritten: 0 });
    expect(() => file.write(new Uint8Array(5), 0, 5, 0)).toThrow(stuck);
    await expect(file.writeLater(new Uint8Array(5), 0, 5, 0, true)).rejects.toEqual(stuck);
    await file.close();
  });
});

describe("FileDisk syncs", () => {
  it("sync() throws what the system reported, and does not try again", async () => {
    const failed = Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" });
    const calls = vi.fn(() => {
      throw failed;
    });
    replace("fdatasyncSync", calls);
    const file = await disk.open(`${dir}/a`, "create");
    expect(() => file.sync()).toThrow(failed);
    expect(calls).toHaveBeenCalledTimes(1);
    await file.close();
  });

  it("writeLater() syncs only when asked, and rejects with every byte counted when the sync fails", async () => {
    const failed = Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" });
    const calls = vi.fn((_fd: number, done: (error: Error) => void) => done(failed));
    replace("fdatasync", calls);
    const file = await disk.open(`${dir}/a`, "create");
    await file.writeLater(new Uint8Array(5), 0, 5, 0, false);
    expect(calls).not.toHaveBeenCalled();
    await expect(file.writeLater(new Uint8Array(5), 0, 5, 0, true)).rejects.toMatchObject({
      code: "EIO",
      bytesWritten: 5,
    });
    expect(calls).toHaveBeenCalledTimes(1);
    await file.close();
  });

  it("commit() asserts when another of the same file is under way", async () => {
    const file = await disk.open(`${dir}/a`, "create");
    const first = file.commit(disk.allocate(1), 0, 1, 0);
    await expect(file.commit(disk.allocate(1), 0, 1, 0)).rejects.toThrow("one commit at a time");
    await first;
    await file.commit(disk.allocate(1), 0, 1, 0);
    await file.close();
  });
});

describe("FileDisk without descriptor syncs", () => {
  it("sync() throws ERR_ACCESS_DENIED instead of claiming that it synced", async () => {
    const restricted = new FileDisk({ fdSyncs: false });
    expect(restricted.syncsNow).toBe(false);
    const file = await restricted.open(`${dir}/a`, "create");
    expect(() => file.sync()).toThrow(expect.objectContaining({ code: "ERR_ACCESS_DENIED" }));
    await file.close();
  });

  it("commit(), writeLater() and syncDir() sync by FileHandle, and reject when that fails", async () => {
    const probe = await open(dir);
    const handles = Object.getPrototypeOf(probe) as typeof probe;
    await probe.close();
    const datasync = vi.spyOn(handles, "datasync");
    const sync = vi.spyOn(handles, "sync");
    const restricted = new FileDisk({ fdSyncs: false });
    const file = await restricted.open(`${dir}/a`, "create");
    const source = restricted.allocate(3);
    await file.writeLater(source, 0, 3, 0, false);
    expect(datasync).toHaveBeenCalledTimes(0);
    await file.writeLater(source, 0, 3, 0, true);
    expect(datasync).toHaveBeenCalledTimes(1);
    await file.commit(source, 0, 3, 0);
    expect(datasync).toHaveBeenCalledTimes(2);
    await restricted.syncDir(dir);
    expect(sync).toHaveBeenCalledTimes(1);
    const failed = Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" });
    datasync.mockRejectedValueOnce(failed);
    await expect(file.commit(source, 0, 3, 0)).rejects.toMatchObject({ code: "EIO", bytesWritten: 3 });
    sync.mockRejectedValueOnce(failed);
    await expect(restricted.syncDir(dir)).rejects.toBe(failed);
    await file.close();
  });
});

describe("FileDisk in a process of its own", () => {
  let home: string;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "stablelog-disk-child-"));
    await chmod(home, 0o755);
    await compileDisk(home);
  });
  afterAll(() => rm(home, { recursive: true }));

  // One that hangs must not outlive its test.
  let running: Child | undefined;
  afterEach(() => running?.kill());

  /** Runs `code` as a module that has FileDisk and `dir` to work in, and gives its lines and how it ended. */
  async function run(code: string, flags: readonly string[] = [], command = process.execPath) {
    const script = join(home, `${Math.floor(performance.now() * 1000)}.mjs`);
    await writeFile(
      script,
      `import { FileDisk } from "./disk/file-disk.js";\nconst dir = ${JSON.stringify(dir)};\n${code}`,
    );
    const child = new Child(command, [...flags, script]);
    running = child;
    const lines = await child.rest();
    return { lines, stderr: child.stderr, ...(await child.ended) };
  }

  it.runIf(posix)("every write reports EFBIG and what went through when the file may not grow further", async () => {
    const code = `
      const disk = new FileDisk();
      const source = disk.allocate(65536).fill(7);
      const say = (error) => console.log(error.code, error.syscall, error.bytesWritten);
      const file = await disk.open(dir + "/a", "create");
      try { file.write(source, 0, source.length, 0); } catch (error) { say(error); }
      await file.writeLater(source, 0, source.length, 4096, true).catch(say);
      await file.commit(source, 0, source.length, 8000).catch(say);
      console.log(file.size());
    `;
    const flags = ["-c", `ulimit -f 8 && exec "$0" "$@"`, process.execPath];
    const { lines, code: exitCode } = await run(code, flags, "bash");
    expect(lines).toEqual(["EFBIG write 8192", "EFBIG write 4096", "EFBIG write 192", "8192"]);
    expect(exitCode).toBe(0);
  });

  it("the process stays for a commit nobody waits for, and ends with the commit thread idle", async () => {
    const code = `
      const disk = new FileDisk();
      const file = await disk.open(dir + "/a", "create");
      const source = disk.allocate(3).fill(5);
      await file.commit(source, 0, 3, 0);
      setImmediate(() => {
        file.commit(source, 0, 3, 3).then(() => console.log("durable", file.size()));
      });
    `;
    expect(await run(code)).toEqual({ lines: ["durable 6"], stderr: "", code: 0, signal: null });
  });

  it("the process ends by process.exit() with the commit thread idle", async () => {
    const code = `
      const disk = new FileDisk();
      const file = await disk.open(dir + "/a", "create");
      await file.commit(disk.allocate(3), 0, 3, 0);
      process.exit(7);
    `;
    expect(await run(code)).toMatchObject({ stderr: "", code: 7 });
  });

  it("dispose() and release() resolve when nothing else keeps the process", async () => {
    const code = `
      const disk = new FileDisk();
      const lock = await disk.lock(dir);
      const file = await disk.open(dir + "/a", "create");
      await file.commit(disk.allocate(3), 0, 3, 0);
      await file.close();
      await disk.dispose();
      await lock.release();
      console.log("done");
    `;
    expect(await run(code)).toEqual({ lines: ["done"], stderr: "", code: 0, signal: null });
  });

  describe("under node's permission model", () => {
    const model = process.allowedNodeEnvironmentFlags.has("--permission")
      ? "--permission"
      : "--experimental-permission";
    const flags = [model, "--no-warnings", "--allow-fs-read=*", "--allow-fs-write=*"];
    const code = `
      const disk = new FileDisk();
      console.log("syncsNow", disk.syncsNow);
      const file = await disk.open(dir + "/a", "create");
      const source = disk.allocate(4).fill(6);
      file.write(source, 0, 1, 0);
      try { file.sync(); console.log("synced"); } catch (error) { console.log(error.code); }
      await file.commit(source, 0, 2, 1);
      await file.writeLater(source, 0, 1, 3, true);
      await file.truncate(5);
      await disk.syncDir(dir);
      await file.close();
      const lock = await disk.lock(dir);
      await disk.lock(dir).catch((error) => console.log(error.code));
      await lock.release();
    `;

    it("what must be durable goes through FileHandles, with and without the right to threads", async () => {
      for (const more of [[], ["--allow-worker"]]) {
        const { lines, stderr } = await run(code, [...flags, ...more]);
        expect(stderr).toBe("");
        expect(lines).toEqual(["syncsNow false", "ERR_ACCESS_DENIED", "ERR_LOCKED"]);
        expect([...(await readFile(join(dir, "a")))]).toEqual([6, 6, 6, 6, 0]);
        await rm(join(dir, "a"));
      }
    });

    it("a commit falls back to the pool, and fails there as the model demands, when no thread can be had", async () => {
      // With fdSyncs forced, the thread is refused first and the pool's sync second: nothing may pass as durable.
      const forced = `
        const disk = new FileDisk({ fdSyncs: true });
        const file = await disk.open(dir + "/a", "create");
        await file.commit(disk.allocate(2), 0, 2, 0).catch((error) => console.log(error.code, error.bytesWritten));
      `;
      const { lines, stderr } = await run(forced, flags);
      expect(stderr).toBe("");
      expect(lines).toEqual(["ERR_ACCESS_DENIED 2"]);
    });
  });

  it.runIf(posix)("lock() rejects with the system's error when the directory cannot be written", async () => {
    await mkdir(join(dir, "sealed"));
    await chmod(join(dir, "sealed"), 0o555);
    await chmod(dir, 0o755);
    const code = `
      if (process.getuid() === 0) process.setuid(65534);
      for (const lockMode of ["auto", "file"]) {
        const disk = new FileDisk({ lockMode });
        await disk.lock(dir + "/sealed").catch((error) => console.log(error.code));
        await disk.lock(dir + "/sealed").catch((error) => console.log(error.code));
      }
    `;
    const { lines } = await run(code);
    expect(lines).toEqual(["EACCES", "EACCES", "EACCES", "EACCES"]);
  });
});
