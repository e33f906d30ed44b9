// The directory lock: one holder per directory, against other processes and other openers in this one, and gone with its
// holder however that dies. FileDisk.lock() calls it.
//
// Three things can refuse an opener, asked in this order:
//   1. a registry of what this thread holds itself;
//   2. on Linux an abstract socket named after the directory's device and inode: the kernel lets one socket have a name and
//      frees it with the process, so that nothing can be left over. It speaks for one network namespace;
//   3. the file LOCK, a line of JSON that tells a person who holds the directory. Where 2 cannot be had it decides alone, and
//      a LOCK whose holder no longer runs is replaced. Where 2 is held, LOCK still refuses for a running holder that took
//      the directory without that socket.
//
// Not seen are holders on another machine, and holders in another network and pid namespace at once (a container beside
// this one): nothing in node reaches them. And any user of the machine may occupy a socket's name: that keeps an opener out,
// and never lets a second one in.

import * as fs from "node:fs";
import * as net from "node:net";
import { hex } from "../base/bytes.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { randomFill } from "../base/random.js";
import { type DiskLock, joinPath } from "./disk.js";
import { isForeign, notRegular, systemError } from "./system-error.js";

/** "auto": the socket where there is one; "file": LOCK decides alone. */
export type LockMode = "auto" | "file";

/** The file that names the holder. Short-lived ones beside it are called LOCK, a dot, and hexadecimal digits. */
export const LOCK_NAME = "LOCK";

/** What LOCK holds. A string that the platform cannot tell is empty. */
interface Holder {
  readonly pid: number;
  /** Of the run of the kernel: a pid from before the last boot means nothing. */
  readonly bootId: string;
  /** Field 22 of /proc/<pid>/stat, which tells a process from a later one with the same pid. */
  readonly startTicks: string;
  /** The network namespace whose abstract socket the holder has; empty when LOCK alone decides for it. */
  readonly socketSpace: string;
  /** Hexadecimal, of this one acquisition. */
  readonly nonce: string;
}

interface LockFile {
  readonly text: string;
  /** Undefined when the text is none of ours: what a power cut left of one, and nobody's lock. */
  readonly holder: Holder | undefined;
}

const O_NOFOLLOW = fs.constants.O_NOFOLLOW ?? 0;
const READ_FLAGS = fs.constants.O_RDONLY | O_NOFOLLOW | (fs.constants.O_NONBLOCK ?? 0);
const CREATE_FLAGS = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | O_NOFOLLOW;
const MAX_LOCK_BYTES = 4096;
// Turns upon turns: each stands for an opener that died while it replaced another. Files planted in a circle end here.
const MAX_TURNS = 32;
const SUN_PATH_BYTES = 108;
const SIDE_NAME = /^LOCK\.[0-9a-f]+$/;

const fullCodes: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT"]);
// What link() gives on file systems without hard links.
const linklessCodes: ReadonlySet<string | undefined> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/** What this thread holds, as "device:inode": a directory may be renamed while it is held. */
const heldHere = new Set<string>();

/**
 * Takes `dir` for this holder alone.
 * Rejects with ERR_LOCKED while another holds it, with ERR_FOREIGN when LOCK is no regular file (it stays untouched), and with
 * the system's error when the directory cannot be read or written.
 */
export async function lockDirectory(dir: string, mode: LockMode): Promise<DiskLock> {
  // As bigint: on some file systems an inode number has all 64 bits.
  const found = await fs.promises.stat(dir, { bigint: true });
  if (!found.isDirectory()) throw systemError("ENOTDIR", "lock", dir);
  const key = `${found.dev}:${found.ino}`;
  if (heldHere.has(key)) {
    throw new StableLogError("ERR_LOCKED", `lock ${dir}: held by this process (pid ${process.pid})`);
  }
  heldHere.add(key);
  let socket: net.Server | undefined;
  try {
    const named = mode === "auto" && process.platform === "linux";
    if (named) socket = await takeSocket(dir, `stablelog-${found.dev}-${found.ino}`);
    const claim = new Claim(dir, socket !== undefined);
    await claim.take();
    return new DirectoryLock(key, claim, socket);
  } catch (error) {
    await closeSocket(socket);
    heldHere.delete(key);
    throw error;
  }
}

class DirectoryLock implements DiskLock {
  readonly #key: string;
  readonly #claim: Claim;
  readonly #socket: net.Server | undefined;
  #released: Promise<void> | undefined;

  constructor(key: string, claim: Claim, socket: net.Server | undefined) {
    this.#key = key;
    this.#claim = claim;
    this.#socket = socket;
  }

  release(): Promise<void> {
    this.#released ??= this.#free();
    return this.#released;
  }

  /** LOCK goes first: while the socket is held, nobody else can have put theirs there. */
  async #free(): Promise<void> {
    await this.#claim.drop();
    await closeSocket(this.#socket);
    heldHere.delete(this.#key);
  }
}

/**
 * One acquisition of the LOCK file of a directory.
 *
 * LOCK appears by link() from a complete file, so nobody reads half of one. Replacing the LOCK of a dead holder is the hard
 * part, because two openers may find it dead at the same time, and what the slower one replaces could be the faster one's:
 *   1. who wants to replace the LOCK with nonce n first takes its turn, the name LOCK.n0, again by link(): one at a time has it;
 *   2. with that name in hand it reads LOCK again. Other text: somebody was faster, the name is given back, start over;
 *   3. the same text: it renames LOCK.n0 over LOCK. Between 2 and 3 nothing can change LOCK: its holder is dead, a newcomer's
 *      link() finds the name taken, and everyone else who found it dead waits at 1.
 * A turn whose owner died between 1 and 3 is replaced in the same way, under its owner's nonce.
 */
class Claim {
  readonly #dir: string;
  readonly #self: Holder;
  readonly #text: string;
  /** A complete file with our text, to link from. */
  readonly #ready: string;

  constructor(dir: string, socketHeld: boolean) {
    this.#dir = dir;
    let nonce = "";
    for (const byte of randomFill(new Uint8Array(16))) nonce += hex(byte, 2);
    this.#self = {
      pid: process.pid,
      bootId: currentBootId(),
      startTicks: processStat(process.pid)?.startTicks ?? "",
      socketSpace: socketHeld ? networkNamespace() : "",
      nonce,
    };
    this.#text = `${JSON.stringify(this.#self)}\n`;
    this.#ready = joinPath(dir, `${LOCK_NAME}.${nonce}`);
  }

  async take(): Promise<void> {
    try {
      await this.#writeReady();
      await this.#claim(LOCK_NAME);
    } catch (error) {
      // A log must open while the disk is full. The socket has decided already; only the name for people will be missing.
      const decided = this.#self.socketSpace !== "";
      if (!decided || !fullCodes.has(errnoOf(error))) throw error;
      await this.#refuseLiving(LOCK_NAME);
    } finally {
      await unlinkQuietly(this.#ready);
    }
    await this.#sweep();
  }

  /** Removes LOCK if it is still ours. What goes wrong is left to the next opener, who judges LOCK by its holder. */
  async drop(): Promise<void> {
    const path = joinPath(this.#dir, LOCK_NAME);
    const found = await readLock(path).catch(() => undefined);
    if (found?.holder?.nonce === this.#self.nonce) await unlinkQuietly(path);
  }

  async #claim(name: string, depth = 0): Promise<void> {
    const path = joinPath(this.#dir, name);
    for (;;) {
      let linked: string | undefined;
      try {
        await fs.promises.link(this.#ready, path);
        return;
      } catch (error) {
        linked = errnoOf(error);
        const linkless = linklessCodes.has(linked) && this.#self.socketSpace !== "";
        if (linked !== "EEXIST" && linked !== "ENOENT" && !linkless) throw error;
      }
      // A holder that was sweeping took our file for a dead opener's.
      if (linked === "ENOENT") {
        await this.#writeReady();
        continue;
      }
      const found = await this.#refuseLiving(name);
      if (linked !== "EEXIST") {
        // No hard links here, and the socket keeps all others away.
        await fs.promises.rename(this.#ready, path);
        return;
      }
      if (found === undefined) continue;
      if (depth === MAX_TURNS) throw locked(this.#dir, found.holder);
      const turn = turnFor(name, found);
      await this.#claim(turn, depth + 1);
      if (await this.#replace(path, found, joinPath(this.#dir, turn))) return;
    }
  }

  /** Steps 2 and 3 of the class comment, holding `turn`. False when somebody was faster. */
  async #replace(path: string, stale: LockFile, turn: string): Promise<boolean> {
    let replaced = false;
    try {
      const again = await readLock(path);
      if (again?.text === stale.text) {
        await fs.promises.rename(turn, path);
        replaced = true;
      }
    } finally {
      if (!replaced) await unlinkQuietly(turn);
    }
    return replaced;
  }

  async #refuseLiving(name: string): Promise<LockFile | undefined> {
    const found = await readLock(joinPath(this.#dir, name));
    const holder = found?.holder;
    if (holder !== undefined && this.#lives(holder)) throw locked(this.#dir, holder);
    return found;
  }

  #lives(holder: Holder): boolean {
    // We have the socket that this holder had: it is gone, even if its process is not.
    const spokenFor = this.#self.socketSpace !== "" && holder.socketSpace === this.#self.socketSpace;
    return !spokenFor && isRunning(holder);
  }

  /** Removes what openers that died on the way left behind. */
  async #sweep(): Promise<void> {
    const names = await fs.promises.readdir(this.#dir).catch(() => []);
    for (const name of names) {
      if (!SIDE_NAME.test(name)) continue;
      const path = joinPath(this.#dir, name);
      const found = await readLock(path).catch(() => undefined);
      const dead = found?.holder !== undefined ? !this.#lives(found.holder) : found?.text === "";
      if (dead) await unlinkQuietly(path);
    }
  }

  async #writeReady(): Promise<void> {
    const handle = await fs.promises.open(this.#ready, CREATE_FLAGS, 0o600);
    try {
      await handle.writeFile(this.#text);
    } finally {
      await handle.close();
    }
  }
}

/**
 * The name that gives the right to replace what stands at `name`. It differs from every LOCK.nonce that an opener links from.
 * What has no nonce lends its own name, which grows each time, so that a turn is never its own.
 */
function turnFor(name: string, found: LockFile): string {
  if (found.holder !== undefined) return `${LOCK_NAME}.${found.holder.nonce}0`;
  return name === LOCK_NAME ? `${LOCK_NAME}.0` : `${name}0`;
}

/** The text at `path` and what it says, or undefined when nothing is there. Throws ERR_FOREIGN for what is no regular file. */
async function readLock(path: string): Promise<LockFile | undefined> {
  let handle: fs.promises.FileHandle;
  try {
    handle = await fs.promises.open(path, READ_FLAGS);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw isForeign(error) ? notRegular("lock", path, error) : error;
  }
  try {
    if (!(await handle.stat()).isFile()) throw notRegular("lock", path);
    const bytes = new Uint8Array(MAX_LOCK_BYTES);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    const text = new TextDecoder().decode(bytes.subarray(0, bytesRead));
    return { text, holder: parseHolder(text) };
  } finally {
    await handle.close();
  }
}

function parseHolder(text: string): Holder | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof parsed !== "object" || parsed === null) return undefined;
  const { pid, bootId, startTicks, socketSpace, nonce } = parsed as { readonly [field in keyof Holder]?: unknown };
  // A pid of 0 or below would ask kill() about a whole group.
  if (typeof pid !== "number" || !Number.isInteger(pid) || pid < 1 || pid > 0x7fffffff) return undefined;
  if (typeof bootId !== "string" || typeof startTicks !== "string" || typeof socketSpace !== "string") return undefined;
  // The nonce becomes part of a file name.
  if (typeof nonce !== "string" || !/^[0-9a-f]{1,64}$/.test(nonce)) return undefined;
  return { pid, bootId, startTicks, socketSpace, nonce };
}

/** Whether the process that wrote `holder` still runs. In doubt it does. */
function isRunning(holder: Holder): boolean {
  const bootId = currentBootId();
  if (bootId !== "" && holder.bootId !== "" && bootId !== holder.bootId) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    // EPERM: it is there and somebody else's.
    if (errnoOf(error) === "ESRCH") return false;
  }
  const stat = processStat(holder.pid);
  if (stat === undefined) return true;
  // A zombie holds no file any more; it waits for its parent only.
  if (stat.state === "Z" || stat.state === "X") return false;
  return holder.startTicks === "" || holder.startTicks === stat.startTicks;
}

function processStat(pid: number): { readonly state: string; readonly startTicks: string } | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  // Field 2, the command in parentheses, may hold blanks and parentheses itself; field 3 follows the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startTicks = fields[22 - 3];
  return state !== undefined && startTicks !== undefined ? { state, startTicks } : undefined;
}

function currentBootId(): string {
  return readProc("/proc/sys/kernel/random/boot_id").trim();
}

/** Names the network namespace; never empty. Where it cannot be told, all of one machine count as the same. */
function networkNamespace(): string {
  try {
    return fs.readlinkSync("/proc/self/ns/net");
  } catch {
    return "unknown";
  }
}

/** Empty where there is no such file, or no right to read it. */
function readProc(path: string): string {
  if (process.platform !== "linux") return "";
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** The bound socket, or undefined where none can be had. Rejects with ERR_LOCKED when another has the name. */
async function takeSocket(dir: string, name: string): Promise<net.Server | undefined> {
  // Filled up to the size of the address: node versions differ in whether they pad a shorter name with zeros, which would
  // give two of them two different names.
  const path = `\0${name.padEnd(SUN_PATH_BYTES - 1, "-")}`;
  // Connections are none of ours, and must not hold anything.
  const server = net.createServer({ pauseOnConnect: true }, (connection) => connection.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      // exclusive: in a cluster worker the primary would listen instead, and share the name with all workers.
      server.listen({ path, exclusive: true }, resolve);
    });
  } catch (error) {
    if (errnoOf(error) !== "EADDRINUSE") return undefined;
    const found = await readLock(joinPath(dir, LOCK_NAME)).catch(() => undefined);
    // LOCK may still name the holder before; only a running process can have the socket.
    throw locked(dir, found?.holder !== undefined && isRunning(found.holder) ? found.holder : undefined);
  }
  // A failed accept() (no descriptor left) is reported here; it does not touch the name.
  server.on("error", () => {});
  server.unref();
  return server;
}

async function closeSocket(socket: net.Server | undefined): Promise<void> {
  if (socket !== undefined) await new Promise((resolve) => socket.close(resolve));
}

/** For what is of no use to anyone any more: if it stays, the next opener finds it dead. */
async function unlinkQuietly(path: string): Promise<void> {
  await fs.promises.unlink(path).catch(() => {});
}

function locked(dir: string, holder: Holder | undefined): StableLogError {
  const by = holder === undefined ? "another process" : `process ${holder.pid}`;
  return new StableLogError("ERR_LOCKED", `lock ${dir}: held by ${by}`);
}
