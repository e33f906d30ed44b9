// SimFs beside node:fs/promises: the same programs and the same random calls in a temporary directory and on a simulated
// disk, with results, errors and what stands there at the end held equal; then what the real one cannot show: faults, short
// writes, latency and crashes.

import * as nodeFs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../../src/testing/random.js";
import { SimDisk } from "../../src/testing/sim-disk.js";
import { simulate } from "../../src/testing/simulate.js";

/** What programs here use. disk.fs is handed in for it as it is: that it may be is a test of its types. */
type Fs = Pick<
  typeof nodeFs,
  | "access"
  | "appendFile"
  | "chmod"
  | "constants"
  | "copyFile"
  | "lstat"
  | "mkdir"
  | "mkdtemp"
  | "open"
  | "readFile"
  | "readdir"
  | "readlink"
  | "realpath"
  | "rename"
  | "rm"
  | "rmdir"
  | "stat"
  | "truncate"
  | "unlink"
  | "utimes"
  | "writeFile"
>;
type Handle = nodeFs.FileHandle;

/** Notes what came of a call, a failure too; gives the value, or undefined. */
type See = <T>(what: string, call: () => Promise<T> | T) => Promise<T | undefined>;

type Program = (fs: Fs, at: (name: string) => string, see: See) => Promise<void>;

const isWindows = process.platform === "win32";

/** A failure as node's users see it. Arguments that are refused: only how. What unlink() says of directories differs. */
function described(error: unknown): unknown {
  const { name, code, errno, syscall, path: at, dest, message } = error as NodeJS.ErrnoException & { dest?: string };
  if (code === "EPERM" && syscall === "unlink") return "EISDIR unlink";
  if (code === "EISDIR" && syscall === "unlink") return "EISDIR unlink";
  if (errno === undefined) return { name, code, syscall };
  return { name, code, errno, syscall, path: at, dest, message };
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array)
    return { bytes: Buffer.from(value).toString("latin1"), buffer: Buffer.isBuffer(value) };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  if ("readFile" in value) return "a handle";
  if ("isFile" in value) {
    const it = value as Awaited<ReturnType<Fs["stat"]>> & { name?: string; parentPath?: string };
    const kinds = [it.isFile(), it.isDirectory(), it.isSymbolicLink(), it.isFIFO(), it.isSocket()];
    const size = it.isFile() ? it.size : undefined;
    return { kinds, size, name: plain(it.name), parentPath: it.parentPath };
  }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

/** What stands below `dir`: contents of files, "" followed by nothing of directories; by name. */
async function treeOf(fs: Fs, dir: string): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  for (const entry of await fs.readdir(dir, { withFileTypes: true })) {
    const at = path.join(dir, entry.name);
    if (entry.isFile()) tree[entry.name] = await fs.readFile(at, "latin1");
    else {
      tree[`${entry.name}/`] = "";
      for (const [name, text] of Object.entries(await treeOf(fs, at))) tree[`${entry.name}/${name}`] = text;
    }
  }
  return tree;
}

async function storyOf(fs: Fs, dir: string, program: Program): Promise<unknown> {
  const story: unknown[] = [];
  const handles: Handle[] = [];
  const see: See = async (what, call) => {
    try {
      const value = await call();
      if (typeof value === "object" && value !== null && "readFile" in value) handles.push(value as unknown as Handle);
      story.push([what, plain(value)]);
      return value;
    } catch (error) {
      story.push([what, described(error)]);
      return undefined;
    }
  };
  await program(fs, (name) => `${dir}/${name}`, see);
  for (const handle of handles) await handle.close();
  const tree = await treeOf(fs, dir);
  return { story, tree: Object.fromEntries(Object.entries(tree).sort(([a], [b]) => (a < b ? -1 : 1))) };
}

let base: string;
let count = 0;

beforeAll(async () => {
  base = await nodeFs.mkdtemp(path.join(os.tmpdir(), "stablelog-sim-fs-"));
});
afterAll(() => nodeFs.rm(base, { recursive: true, force: true }));

/** The program on both, under the same absolute path. */
async function bothOf(program: Program): Promise<{ real: unknown; simulated: unknown; disk: SimDisk }> {
  const dir = path.join(base, String(count++));
  await nodeFs.mkdir(dir);
  const real = await storyOf(nodeFs, dir, program);
  const disk = new SimDisk();
  await disk.fs.mkdir(dir, { recursive: true });
  const simulated = await storyOf(disk.fs, dir, program);
  return { real, simulated, disk };
}

/** What every matrix begins with. */
async function furnish(fs: Fs, at: (name: string) => string): Promise<void> {
  await fs.writeFile(at("file"), "0123456789");
  await fs.writeFile(at("other"), "abc");
  await fs.mkdir(at("empty"));
  await fs.mkdir(at("full/deep"), { recursive: true });
  await fs.writeFile(at("full/x"), "x");
  await fs.writeFile(at("full/deep/y"), "yy");
}

const places = ["file", "other", "empty", "full", "none", "none/x", "file/x", "full/x", "full/new", "file/", "empty/"];

const flagWords = "r rs sr r+ rs+ sr+ w wx xw w+ wx+ xw+ a ax xa as sa a+ ax+ xa+ as+ sa+ q rr R w- + ax++".split(" ");

const programs: Readonly<Record<string, Program>> = {
  "open() takes every word for flags, for what is and what is not there": async (fs, at, see) => {
    for (const flags of flagWords) {
      for (const place of places) {
        await fs.rm(at(""), { recursive: true });
        await fs.mkdir(at(""));
        await furnish(fs, at);
        const what = `${flags} ${place}`;
        const handle = await see(what, () => fs.open(at(place), flags));
        if (handle === undefined) continue;
        await see(`${what} write`, () => handle.write("XY"));
        await see(`${what} write at 5`, () => handle.write("Z", 5));
        await see(`${what} read`, () => handle.read(Buffer.alloc(3), 0, 3, null));
        await see(`${what} read at 1`, () => handle.read(Buffer.alloc(20), 0, 20, 1));
        await see(`${what} truncate`, () => handle.truncate(9));
        await see(`${what} stat`, () => handle.stat());
        await see(`${what} sync`, () => handle.sync());
        await see(`${what} datasync`, () => handle.datasync());
        await see(`${what} close`, () => handle.close());
        if (place !== "empty/") await see(`${what} left`, () => fs.readFile(at(place), "utf8"));
      }
    }
  },

  "open() takes numbers for flags": async (fs, at, see) => {
    const { O_APPEND, O_CREAT, O_DIRECTORY, O_DSYNC, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } =
      fs.constants;
    const numbers = {
      O_RDONLY,
      creating: O_CREAT | O_RDONLY,
      writing: O_WRONLY,
      both: O_RDWR,
      fresh: O_RDWR | O_CREAT | O_EXCL,
      exclusive: O_RDWR | O_EXCL,
      cut: O_RDWR | O_TRUNC,
      synced: O_WRONLY | O_CREAT | O_DSYNC,
      allSynced: O_WRONLY | O_CREAT | O_SYNC | O_APPEND,
      directory: O_RDONLY | O_DIRECTORY,
    };
    for (const [name, flags] of Object.entries(numbers)) {
      for (const place of places.slice(0, 9)) {
        await fs.rm(at(""), { recursive: true });
        await fs.mkdir(at(""));
        await furnish(fs, at);
        const handle = await see(`${name} ${place}`, () => fs.open(at(place), flags));
        await see(`${name} ${place} write`, async () => handle?.write("new"));
        await see(`${name} ${place} readFile`, async () => handle?.readFile("utf8"));
        await handle?.close();
      }
    }
    for (const bad of [1.5, 2 ** 40, Number.NaN, {}, true]) {
      await see(`open ${String(bad)}`, () => fs.open(at("file"), bad as number));
    }
    await see("open null", () => fs.open(at("file"), null as unknown as string));
    await see("open with a mode", () => fs.open(at("moded"), "w", 0o600));
  },

  "FileHandle.read() takes its three shapes": async (fs, at, see) => {
    await furnish(fs, at);
    const handle = await fs.open(at("file"), "r");
    await see("all", () => handle.read(Buffer.alloc(4), 0, 4, null));
    await see("the next", () => handle.read(Buffer.alloc(4)));
    await see("at a place", () => handle.read(Buffer.alloc(4, 1), 1, 2, 3));
    await see("the place is kept", () => handle.read(Buffer.alloc(1)));
    await see("options after", () => handle.read(Buffer.alloc(4, 1), { offset: 1, length: 2, position: 0 }));
    await see("options alone", () => handle.read({ buffer: Buffer.alloc(3), position: 7 }));
    await see("no buffer", async () => {
      const { bytesRead, buffer } = await handle.read();
      return { bytesRead, length: buffer.byteLength };
    });
    await see("at the end", () => handle.read(Buffer.alloc(1)));
    await see("beyond", () => handle.read(Buffer.alloc(1), 0, 1, 100));
    await see("a negative place", () => handle.read(Buffer.alloc(1), 0, 1, -1));
    await see("nulls", () => handle.read(Buffer.alloc(2), null, null, 1));
    await see("nothing", () => handle.read(Buffer.alloc(2), 0, 0, 1));
    await see("an empty buffer", () => handle.read(Buffer.alloc(0), 0, 0, 1));
    await see("into words", async () => {
      const { bytesRead, buffer } = await handle.read(new Uint16Array(2), 0, 4, 0);
      return { bytesRead, words: [...buffer] };
    });
    await see("an offset beyond", () => handle.read(Buffer.alloc(2), 3, 1, 0));
    await see("a length beyond", () => handle.read(Buffer.alloc(2), 1, 2, 0));
    await see("a negative offset", () => handle.read(Buffer.alloc(2), -1, 2, 0));
    await see("a number for a buffer", () => handle.read(7 as unknown as Buffer));
    await see("a text for a buffer", () => handle.read({ buffer: "x" as unknown as Buffer }));
    await handle.close();
  },

  "FileHandle.write() takes its shapes": async (fs, at, see) => {
    const handle = await fs.open(at("w"), "w+");
    const letters = Buffer.from("abcdefgh");
    await see("all", () => handle.write(letters));
    await see("a range", () => handle.write(letters, 2, 3, 1));
    await see("the place is kept", () => handle.write(letters, 6));
    await see("options", () => handle.write(letters, { offset: 1, length: 2, position: 20 } as unknown as number));
    await see("nulls", () => handle.write(letters, null, null, null));
    await see("nothing", () => handle.write(letters, 2, 0, 9));
    await see("no bytes", () => handle.write(Buffer.alloc(0), 0, 0, 90));
    await see("text", () => handle.write("päth"));
    await see("text at a place", () => handle.write("T", 30));
    await see("text in hex", () => handle.write("6869", null, "hex"));
    await see("text in latin1", () => handle.write("ä", 33, "latin1"));
    await see("a negative place", () => handle.write("N", -1));
    await see("words", () => handle.write(new Uint16Array([0x4142, 0x4344]), 0, 4, 40));
    await see("a view", () => handle.write(new DataView(letters.buffer, letters.byteOffset, 2)));
    await see("beyond the end", () => handle.write("far", 60));
    await see("an offset beyond", () => handle.write(letters, 9, 1));
    await see("a length beyond", () => handle.write(letters, 1, 8));
    await see("a negative length", () => handle.write(letters, 1, -1));
    await see("a number", () => handle.write(5 as unknown as string));
    await see("null", () => handle.write(null as unknown as string));
    await see("read", () => handle.read(Buffer.alloc(80), 0, 80, 0));
    await handle.close();
  },

  "handles that append ignore the position": async (fs, at, see) => {
    await furnish(fs, at);
    const a = await fs.open(at("file"), "a+");
    const b = await fs.open(at("file"), "a");
    await see("read first", () => a.read(Buffer.alloc(2)));
    await see("append", () => a.write("AA", 0));
    await see("the other", () => b.write(Buffer.from("BB"), 0, 2, 3));
    await see("and again", () => a.write("CC"));
    await see("read on", () => a.read(Buffer.alloc(20)));
    await see("read from the start", () => a.read(Buffer.alloc(20), 0, 20, 0));
    await see("not for reading", () => b.read(Buffer.alloc(1)));
    await see("cut", () => b.truncate(3));
    await see("after the cut", () => b.writeFile("DD"));
    await a.close();
    await b.close();
  },

  "readv() and writev() take buffers one after the other": async (fs, at, see) => {
    const handle = await fs.open(at("v"), "w+");
    const parts = [Buffer.from("ab"), Buffer.alloc(0), new Uint16Array([0x4443]), Buffer.from("efg")];
    await see("writev", () => handle.writev(parts));
    await see("writev on", () => handle.writev(parts));
    await see("writev at", () => handle.writev([Buffer.from("--")], 3));
    await see("readv", () => handle.readv([Buffer.alloc(3), Buffer.alloc(3)], 1));
    await see("readv short", () => handle.readv([Buffer.alloc(3), Buffer.alloc(30, 1), Buffer.alloc(2, 1)], 10));
    await see("readv on", () => handle.readv([Buffer.alloc(3, 1)]));
    await see("not buffers", () => handle.writev(["x"] as unknown as Buffer[]));
    await see("not a list", () => handle.readv("x" as unknown as Buffer[]));
    await handle.close();
    const reader = await fs.open(at("v"), "r");
    await see("not for writing", () => reader.writev(parts));
    await reader.close();
  },

  "readFile(), writeFile() and appendFile() take paths, encodings, flags and what can be iterated": async (
    fs,
    at,
    see,
  ) => {
    await see("missing", () => fs.readFile(at("none")));
    await see("write", () => fs.writeFile(at("a"), "grün"));
    await see("read", () => fs.readFile(at("a")));
    for (const encoding of ["utf8", "latin1", "hex", "base64", "ascii", "utf16le", "base64url"] as const) {
      await see(`read ${encoding}`, () => fs.readFile(at("a"), encoding));
      await see(`read { ${encoding} }`, () => fs.readFile(at("a"), { encoding }));
    }
    await see("no such encoding", () => fs.readFile(at("a"), "nix" as "utf8"));
    await see("null", () => fs.readFile(at("a"), null));
    await see("bad options", () => fs.readFile(at("a"), 5 as unknown as null));
    await see("write in hex", () => fs.writeFile(at("b"), "00ff10", "hex"));
    await see("write words", () => fs.writeFile(at("c"), new Uint16Array([0x4142])));
    await see("shorter", () => fs.writeFile(at("a"), "x"));
    await see("wx", () => fs.writeFile(at("a"), "y", { flag: "wx" }));
    await see("r+", () => fs.writeFile(at("c"), "-", { flag: "r+" }));
    await see("a", () => fs.writeFile(at("c"), "end", { flag: "a" }));
    await see("read with a flag", () => fs.readFile(at("made"), { flag: "a+", encoding: "utf8" }));
    await see("for writing alone", () => fs.readFile(at("c"), { flag: "a" }));
    await see("append", () => fs.appendFile(at("a"), "yz"));
    await see("append bytes", () => fs.appendFile(at("new"), Buffer.from([1, 2])));
    await see("append in hex", () => fs.appendFile(at("new"), "0304", "hex"));
    await see("flush", () => fs.writeFile(at("f"), "flushed", { flush: true }));
    await see("append and flush", () => fs.appendFile(at("f"), "!", { flush: true }));
    await see("a list", () => fs.writeFile(at("list"), ["one", Buffer.from("two"), "three"]));
    await see("a generator", () =>
      fs.writeFile(
        at("generated"),
        (async function* () {
          yield "one";
          yield Buffer.from("two");
        })(),
      ),
    );
    await see("nothing", () => fs.writeFile(at("nothing"), ""));
    await see("read nothing", () => fs.readFile(at("nothing")));
    await see("a number", () => fs.writeFile(at("n"), 5 as unknown as string));
    await see("undefined", () => fs.writeFile(at("n"), undefined as unknown as string));
    await see("a directory", () => fs.readFile(at("")));
    await see("into a directory", () => fs.writeFile(at("/."), "x"));
    await see("below a file", () => fs.readFile(at("a/b")));
    await see("into what is missing", () => fs.writeFile(at("none/b"), "x"));
    await see("aborted", () => fs.readFile(at("a"), { signal: AbortSignal.abort() }));
    await see("aborted write", () => fs.writeFile(at("a"), "no", { signal: AbortSignal.abort() }));
    const large = Buffer.alloc(1_200_000, "large ");
    await fs.writeFile(at("large"), large);
    await see("large", async () => large.equals(await fs.readFile(at("large"))));
    await fs.truncate(at("large"), 10);
  },

  "handles take readFile(), writeFile() and appendFile(), and so do functions that are given a handle": async (
    fs,
    at,
    see,
  ) => {
    await furnish(fs, at);
    const handle = await fs.open(at("file"), "r+");
    await handle.read(Buffer.alloc(2));
    await see("the rest", () => handle.readFile("utf8"));
    await see("again", () => handle.readFile());
    await see("write on", () => handle.writeFile("more"));
    await see("append", () => handle.appendFile(Buffer.from("!")));
    await see("by function", () => fs.writeFile(handle, "by function"));
    await see("append by function", () => fs.appendFile(handle, "61", "hex"));
    await see("at the end", () => fs.readFile(handle, "utf8"));
    await handle.close();
    const dir = await fs.open(at("full"), "r");
    await see("a directory", () => dir.readFile());
    await see("read a directory", () => dir.read(Buffer.alloc(5)));
    await see("write a directory", () => dir.write("x"));
    await see("cut a directory", () => dir.truncate(0));
    await see("sync a directory", () => dir.sync());
    await see("datasync a directory", () => dir.datasync());
    await see("stat a directory", () => dir.stat());
    await dir.close();
  },

  "truncate() cuts and extends": async (fs, at, see) => {
    await furnish(fs, at);
    await see("cut", () => fs.truncate(at("file"), 4));
    await see("extend", () => fs.truncate(at("file"), 8));
    await see("read", () => fs.readFile(at("file")));
    await see("to nothing", () => fs.truncate(at("other")));
    for (const place of ["empty", "none", "file/x", "none/x"]) await see(place, () => fs.truncate(at(place), 1));
    const handle = await fs.open(at("file"), "r+");
    await see("negative", () => handle.truncate(-5));
    await see("longer", () => handle.truncate(3));
    await see("half", () => handle.truncate(1.5));
    await see("a text", () => handle.truncate("1" as unknown as number));
    await see("write after", () => handle.write("W"));
    await handle.close();
    const reader = await fs.open(at("file"));
    await see("for reading", () => reader.truncate(0));
    await reader.close();
  },

  "rename() of everything onto everything": async (fs, at, see) => {
    const plainPlaces = places.filter((place) => !place.endsWith("/"));
    for (const from of plainPlaces) {
      for (const to of [...plainPlaces, "full/deep/new", "empty/new", "full/deep", "fullness"]) {
        await fs.rm(at(""), { recursive: true });
        await fs.mkdir(at(""));
        await furnish(fs, at);
        await see(`${from} to ${to}`, () => fs.rename(at(from), at(to)));
        await see("leaves", async () => (await fs.readdir(at(""), { recursive: true })).sort());
      }
    }
  },

  "unlink(), rmdir() and rm() of everything": async (fs, at, see) => {
    for (const place of places) {
      const ways: Record<string, () => Promise<void>> = {
        unlink: () => fs.unlink(at(place)),
        rmdir: () => fs.rmdir(at(place)),
        rm: () => fs.rm(at(place)),
        "rm forced": () => fs.rm(at(place), { force: true }),
        "rm all": () => fs.rm(at(place), { recursive: true }),
        "rm all forced": () => fs.rm(at(place), { recursive: true, force: true }),
      };
      for (const [name, way] of Object.entries(ways)) {
        // Versions differ in how they fail here.
        if (name.startsWith("rm ") && (place === "file/" || place === "file/x")) continue;
        await fs.rm(at(""), { recursive: true });
        await fs.mkdir(at(""));
        await furnish(fs, at);
        await see(`${name} ${place}`, way);
        await see("leaves", async () => (await fs.readdir(at(""), { recursive: true })).sort());
      }
    }
  },

  "mkdir() and mkdtemp() make directories": async (fs, at, see) => {
    await furnish(fs, at);
    for (const place of places) {
      await see(`mkdir ${place}`, () => fs.mkdir(at(place)));
      await see(`mkdir all ${place}`, () => fs.mkdir(at(place), { recursive: true }));
    }
    await see("deep", () => fs.mkdir(at("p/q/r/s"), { recursive: true }));
    await see("deeper", () => fs.mkdir(at("p/q/r/s/t/u"), { recursive: true }));
    await see("mode", () => fs.mkdir(at("m"), 0o700));
    await see("null", () => fs.mkdir(at("m2"), null));
    await see("mkdtemp", async () => {
      const made = await fs.mkdtemp(at("t-"));
      const stat = await fs.stat(made);
      await fs.rmdir(made);
      return [/t-[A-Za-z0-9]{6}$/.test(made), stat];
    });
    // Its path is the prefix, with letters or with X for them.
    await see("mkdtemp in none", async () => {
      const error: NodeJS.ErrnoException = await fs.mkdtemp(at("nowhere/t-")).then(Object, (reason) => reason);
      return [error.code, error.syscall];
    });
  },

  "readdir() gives names, types and buffers": async (fs, at, see) => {
    await furnish(fs, at);
    const sorted = async (names: Promise<unknown[]>): Promise<unknown[]> =>
      (await names).map(plain).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
    for (const place of [...places, ""]) {
      await see(place, () => sorted(fs.readdir(at(place))));
      await see(`${place} types`, () => sorted(fs.readdir(at(place), { withFileTypes: true })));
    }
    await see("buffers", () => sorted(fs.readdir(at(""), "buffer")));
    await see("buffer option", () => sorted(fs.readdir(at(""), { encoding: "buffer" })));
    await see("hex", () => sorted(fs.readdir(at(""), "hex")));
    await see("recursive", () => sorted(fs.readdir(at(""), { recursive: true })));
    await see("recursive types", () => sorted(fs.readdir(at(""), { recursive: true, withFileTypes: true })));
  },

  "stat(), lstat(), access() and realpath() tell what is there": async (fs, at, see) => {
    await furnish(fs, at);
    const { F_OK, R_OK, W_OK, X_OK } = fs.constants;
    for (const place of places) {
      await see(`stat ${place}`, () => fs.stat(at(place)));
      await see(`lstat ${place}`, () => fs.lstat(at(place)));
      await see(`access ${place}`, () => fs.access(at(place)));
      for (const mode of [F_OK, R_OK, R_OK | W_OK, X_OK]) {
        await see(`access ${place} ${mode}`, () => fs.access(at(place), mode));
      }
      await see(`realpath ${place}`, async () => path.basename(await fs.realpath(at(place))));
      await see(`readlink ${place}`, () => fs.readlink(at(place)));
      await see(`chmod ${place}`, () => fs.chmod(at(place), 0o700).then(() => fs.chmod(at(place), 0o644)));
      // For the rest of this program.
      if (place === "empty" || place === "full") await fs.chmod(at(place), 0o755);
    }
    const { size } = (await see("bigint", async () => {
      const stat = await fs.stat(at("file"), { bigint: true });
      return { size: stat.size, nlink: stat.nlink, file: stat.isFile(), ns: typeof stat.mtimeNs };
    })) ?? { size: 0n };
    await see("size", () => size);
    await see("kinds of numbers", async () => {
      const stat = await fs.stat(at("file"));
      return Object.entries(stat)
        .map(([name, value]) => `${name} ${value instanceof Date ? "Date" : typeof value}`)
        .concat(`${stat.mtime instanceof Date} ${stat.birthtime instanceof Date}`)
        .filter((text) => !text.endsWith("Date"))
        .sort();
    });
    await see("the same inode", async () => {
      const before = (await fs.stat(at("file"))).ino;
      await fs.rename(at("file"), at("moved"));
      return before === (await fs.stat(at("moved"))).ino;
    });
  },

  "copyFile() copies": async (fs, at, see) => {
    for (const from of places) {
      for (const to of ["file", "other", "new", "empty", "none/x", "file/x"]) {
        for (const mode of [0, fs.constants.COPYFILE_EXCL]) {
          await fs.rm(at(""), { recursive: true });
          await fs.mkdir(at(""));
          await furnish(fs, at);
          // Linux finds out that it is a directory when it reads; what it has made by then depends on the kernel.
          if ((from.startsWith("empty") || from === "full") && to === "new") continue;
          await see(`${from} to ${to} ${mode}`, () => fs.copyFile(at(from), at(to), mode));
          await see("other", () => fs.readFile(at("other"), "utf8"));
        }
      }
    }
  },

  "a handle that is closed fails with EBADF, and closes again": async (fs, at, see) => {
    await furnish(fs, at);
    const handle = await fs.open(at("file"), "r+");
    await see("fd", () => handle.fd > 2);
    const events: string[] = [];
    (handle as unknown as NodeJS.EventEmitter).on("close", () => events.push("close"));
    await see("close", () => handle.close());
    await see("fd after", () => handle.fd);
    await see("events", () => events);
    await see("close again", () => handle.close());
    await see("dispose", () => handle[Symbol.asyncDispose]());
    await see("read", () => handle.read(Buffer.alloc(1)));
    await see("readv", () => handle.readv([Buffer.alloc(1)]));
    await see("write", () => handle.write("x"));
    await see("writev", () => handle.writev([Buffer.alloc(1)]));
    await see("sync", () => handle.sync());
    await see("datasync", () => handle.datasync());
    await see("truncate", () => handle.truncate());
    await see("stat", () => handle.stat());
    await see("chmod", () => handle.chmod(0o644));
    await see("utimes", () => handle.utimes(0, 0));
    await see("readFile", () => handle.readFile());
    await see("writeFile", () => handle.writeFile(""));
    await see("appendFile", () => handle.appendFile(""));
    const busy = await fs.open(at("file"), "r+");
    const writing = busy.write("busy");
    const order: string[] = [];
    await Promise.all([writing.then(() => order.push("written")), busy.close().then(() => order.push("closed"))]);
    await see("order", () => order);
  },

  "paths are texts, buffers and URLs, and nothing else": async (fs, at, see) => {
    await furnish(fs, at);
    await see("a buffer", () => fs.readFile(Buffer.from(at("file")), "utf8"));
    await see("a URL", () => fs.readFile(pathToFileURL(at("file")), "utf8"));
    await fs.writeFile(at("a b%c#d"), "odd");
    await see("an odd URL", () => fs.readFile(pathToFileURL(at("a b%c#d")), "utf8"));
    await see("a missing buffer", () => fs.readFile(Buffer.from(at("none"))));
    await see("a missing URL", () => fs.stat(pathToFileURL(at("none"))));
    await see("another URL", () => fs.readFile(new URL("http://localhost/x")));
    await see("dots", () => fs.readFile(at("full/../empty/.././file"), "utf8"));
    await see("slashes", () => fs.readFile(at("full//x"), "utf8"));
    await see("empty", () => fs.readFile(""));
    await see("empty stat", () => fs.stat(""));
    await see("empty rename", () => fs.rename("", at("file")));
    for (const bad of [5, null, undefined, {}, [], true]) {
      await see(`open ${String(bad)}`, () => fs.open(bad as unknown as string));
      await see(`stat ${String(bad)}`, () => fs.stat(bad as unknown as string));
      await see(`rename to ${String(bad)}`, () => fs.rename(at("file"), bad as unknown as string));
      await see(`writeFile ${String(bad)}`, () => fs.writeFile(bad as unknown as string, ""));
    }
    await see("a zero", () => fs.open(`${at("file")}\0x`));
    await see("the root", async () => (await fs.stat("/")).isDirectory());
    await see("mkdir /", () => fs.mkdir("/", { recursive: true }));
  },

  "streams and lines of handles": async (fs, at, see) => {
    await fs.writeFile(at("lines"), "one\ntwo\r\nthree");
    const collect = async (stream: AsyncIterable<unknown>): Promise<unknown[]> => {
      const all: unknown[] = [];
      for await (const each of stream) all.push(plain(each));
      return all;
    };
    const lines = await fs.open(at("lines"));
    await see("lines", () => collect(lines.readLines()));
    await see("closed by it", () => lines.fd);
    const range = await fs.open(at("lines"));
    await see("a range", () => collect(range.createReadStream({ start: 2, end: 5, autoClose: false })));
    await see("pieces", () =>
      collect(range.createReadStream({ encoding: "utf8", highWaterMark: 6, autoClose: false })),
    );
    await see("kept open", () => range.fd > 2);
    await range.close();
    const writer = await fs.open(at("written"), "w");
    await see("write", async () => {
      const stream = writer.createWriteStream();
      stream.write("one ");
      stream.write(Buffer.from("two"));
      await new Promise<void>((resolve, reject) => {
        stream.on("error", reject).on("close", resolve).end(" three");
      });
      return stream.bytesWritten;
    });
    await see("closed", () => writer.fd);
    const web = await fs.open(at("lines"));
    await see("web", async () => {
      const texts: string[] = [];
      for await (const each of web.readableWebStream()) texts.push(Buffer.from(each).toString());
      return texts.join("");
    });
    await web.close();
  },

  "a file without a name lives on in its handles": async (fs, at, see) => {
    await furnish(fs, at);
    const handle = await fs.open(at("file"), "r+");
    await fs.unlink(at("file"));
    await fs.writeFile(at("file"), "another");
    await see("write", () => handle.write("old"));
    await see("read", () => handle.read(Buffer.alloc(10), 0, 10, 0));
    await see("sync", () => handle.sync());
    await fs.rename(at("other"), at("file"));
    await see("stat", () => handle.stat());
    await handle.close();
    const dir = await fs.open(at("full"));
    await fs.rename(at("full"), at("renamed"));
    await see("sync a directory that has moved", () => dir.sync());
    await fs.rm(at("renamed"), { recursive: true });
    await see("sync a directory that is gone", () => dir.sync());
    await dir.close();
  },
};

describe.skipIf(isWindows)("SimFs beside node:fs/promises", () => {
  for (const [name, program] of Object.entries(programs)) {
    it(`SimFs: ${name}, with node's results and errors`, async () => {
      const { real, simulated, disk } = await bothOf(program);
      expect(simulated).toEqual(real);
      expect(disk.openHandles).toBe(0);
    });
  }

  it("SimFs does what node does when calls come by lot", async () => {
    const names = ["a", "b", "d", "d/a", "d/b", "e", "e/d", "e/d/a"] as const;
    const name = fc.constantFrom(...names);
    const which = fc.nat(2);
    const text = fc.string({ maxLength: 12, unit: fc.constantFrom("x", "y", "ä") });
    const place = fc.oneof(fc.constant(null), fc.nat(40));
    const call: fc.Arbitrary<(fs: Fs, at: (name: string) => string, handles: (Handle | undefined)[]) => unknown> =
      fc.oneof(
        fc.tuple(name, text, fc.constantFrom("w", "a", "wx", "r+")).map(
          ([to, data, flag]) =>
            (fs: Fs, at: (name: string) => string) =>
              fs.writeFile(at(to), data, { flag }),
        ),
        fc.tuple(name, name).map(
          ([from, to]) =>
            (fs: Fs, at: (name: string) => string) =>
              fs.rename(at(from), at(to)),
        ),
        fc.tuple(name, name).map(([from, to]) => async (fs: Fs, at: (name: string) => string) => {
          if ((await fs.stat(at(from))).isFile()) await fs.copyFile(at(from), at(to));
        }),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.unlink(at(of))),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.mkdir(at(of))),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.mkdir(at(of), { recursive: true })),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.rmdir(at(of))),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.rm(at(of))),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.readFile(at(of))),
        name.map((of) => (fs: Fs, at: (name: string) => string) => fs.stat(at(of))),
        name.map((of) => async (fs: Fs, at: (name: string) => string) => (await fs.readdir(at(of))).sort()),
        fc.tuple(name, fc.nat(30)).map(
          ([of, size]) =>
            (fs: Fs, at: (name: string) => string) =>
              fs.truncate(at(of), size),
        ),
        fc
          .tuple(which, name, fc.constantFrom("r", "r+", "w", "w+", "wx", "a", "a+"))
          .map(([slot, of, flags]) => async (fs: Fs, at: (name: string) => string, handles: (Handle | undefined)[]) => {
            await handles[slot]?.close();
            handles[slot] = undefined;
            handles[slot] = await fs.open(at(of), flags);
          }),
        fc.tuple(which, text, place).map(
          ([slot, data, position]) =>
            (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) =>
              handles[slot]?.write(data, position),
        ),
        fc.tuple(which, fc.nat(20), place).map(
          ([slot, length, position]) =>
            (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) =>
              handles[slot]?.read(Buffer.alloc(length), 0, length, position),
        ),
        fc.tuple(which, fc.nat(40)).map(
          ([slot, size]) =>
            (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) =>
              handles[slot]?.truncate(size),
        ),
        fc.tuple(which, text).map(
          ([slot, data]) =>
            (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) =>
              handles[slot]?.writeFile(data),
        ),
        which.map((slot) => (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) => handles[slot]?.readFile()),
        which.map((slot) => (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) => handles[slot]?.sync()),
        which.map((slot) => (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) => handles[slot]?.stat()),
        which.map((slot) => (_fs: Fs, _at: unknown, handles: (Handle | undefined)[]) => handles[slot]?.close()),
      );
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 5, maxLength: 40 }), async (calls) => {
        const { real, simulated } = await bothOf(async (fs, at, see) => {
          const handles: (Handle | undefined)[] = [undefined, undefined, undefined];
          for (const [i, each] of calls.entries()) await see(String(i), () => each(fs, at, handles));
          for (const handle of handles) await handle?.close();
        });
        expect(simulated).toEqual(real);
      }),
      { numRuns: 300 },
    );
  });
});

describe("SimFs on its own", () => {
  it("functions work when they are taken out of it", async () => {
    const { open, rename, readdir, readFile } = new SimDisk().fs as Fs;
    const handle = await open("log.tmp", "w");
    await handle.writeFile("text");
    await handle.close();
    await rename("log.tmp", "log");
    expect(await readdir("/")).toEqual(["log"]);
    expect(await readFile("log", "utf8")).toBe("text");
  });

  it("is taken where node's functions are asked for, without a cast", async () => {
    async function save(
      fs: Pick<typeof import("node:fs/promises"), "open" | "rename" | "readdir">,
      text: string,
    ): Promise<string[]> {
      const handle = await fs.open("/state.tmp", "w");
      await handle.writeFile(text);
      await handle.sync();
      await handle.close();
      await fs.rename("/state.tmp", "/state");
      return fs.readdir("/");
    }
    const disk = new SimDisk();
    expect(await save(disk.fs, "x")).toEqual(["state"]);
    expect([...disk.dump()]).toEqual([["/state", new Uint8Array([0x78])]]);
  });

  it("relative paths begin at the root, and handles have numbers of their own", async () => {
    const { fs } = new SimDisk();
    await fs.mkdir("log");
    await fs.writeFile("log/../log/a", "1");
    expect(await fs.readFile("/log/a", "utf8")).toBe("1");
    const first = await fs.open("log/a");
    const second = await fs.open("log/a");
    expect(first.fd).not.toBe(second.fd);
    await first.close();
    const third = await fs.open("log/a");
    expect([first.fd, third.fd === second.fd]).toEqual([-1, false]);
    await second[Symbol.asyncDispose]();
    await third.close();
  });

  it("link(), symlink() fail with EPERM, as on a file system without links", async () => {
    const { fs } = new SimDisk();
    await fs.writeFile("a", "");
    await expect(fs.link("a", "b")).rejects.toMatchObject({ code: "EPERM", syscall: "link", path: "a", dest: "b" });
    await expect(fs.symlink("a", "b")).rejects.toMatchObject({ code: "EPERM", syscall: "symlink" });
    await expect(fs.chown("none", 0, 0)).rejects.toMatchObject({ code: "ENOENT", syscall: "chown" });
    await expect(fs.utimes("none", 0, 0)).rejects.toMatchObject({ code: "ENOENT", syscall: "utime" });
    await fs.utimes("a", 0, 0);
    await fs.chown("a", 0, 0);
  });

  it("mkdtemp() draws its names from the disk's seed", async () => {
    const draw = async (seed: number): Promise<string[]> => {
      const { fs } = new SimDisk({ seed });
      return [await fs.mkdtemp("/t-"), await fs.mkdtemp("/t-")];
    };
    const [first, second] = await draw(3);
    expect(first).toMatch(/^\/t-[A-Za-z0-9]{6}$/);
    expect(second).not.toBe(first);
    expect(await draw(3)).toEqual([first, second]);
    expect(await draw(4)).not.toEqual([first, second]);
  });

  it("every call is an operation of the disk, under its absolute path", async () => {
    const disk = new SimDisk();
    const { fs } = disk;
    await fs.mkdir("log");
    const handle = await fs.open("log/a", "w+");
    await handle.write("text");
    await handle.read(Buffer.alloc(2), 0, 2, 0);
    await handle.datasync();
    await handle.truncate(1);
    await handle.stat();
    await handle.close();
    const dir = await fs.open("log");
    await dir.sync();
    await dir.close();
    await (await fs.open("log/a", "w")).close();
    await fs.rename("log/a", "log/b");
    await fs.readdir("log");
    await fs.stat("log/b");
    await fs.unlink("log/b");
    await fs.rmdir("log");
    expect(disk.trace.map(({ operation, path: at }) => `${operation} ${at}`)).toEqual([
      "mkdir /log",
      "create /log/a",
      "write /log/a",
      "read /log/a",
      "sync /log/a",
      "truncate /log/a",
      "stat /log/a",
      "close /log/a",
      "open /log",
      "syncDir /log",
      "close /log",
      "open /log/a",
      "truncate /log/a",
      "close /log/a",
      "rename /log/a",
      "list /log",
      "stat /log/b",
      "unlink /log/b",
      "rmdir /log",
    ]);
  });
});

describe("SimFs and faults", () => {
  it("a fault fails the call with node's error", async () => {
    const disk = new SimDisk();
    const { fs } = disk;
    const handle = await fs.open("/log", "w+");
    const failing = [
      ["write", "EIO", "write", () => handle.write("x")],
      ["read", "EIO", "read", () => handle.read(Buffer.alloc(1))],
      ["sync", "EIO", "fsync", () => handle.sync()],
      ["sync", "ENOSPC", "fdatasync", () => handle.datasync()],
      ["truncate", "EIO", "ftruncate", () => handle.truncate(3)],
      ["stat", "EIO", "fstat", () => handle.stat()],
    ] as const;
    for (const [on, error, syscall, call] of failing) {
      disk.inject({ on, error });
      const failure = (await call().catch((reason: unknown) => reason)) as NodeJS.ErrnoException;
      const errno = -(os.constants.errno[error] as number);
      expect(failure).toMatchObject({ code: error, syscall });
      if (!isWindows) expect(failure.errno).toBe(errno);
      expect(failure.message).toMatch(new RegExp(`^${error}: [a-z/ ]+, ${syscall}$`));
      expect(failure).not.toHaveProperty("path");
    }
    disk.inject({ on: "close", error: "EIO" });
    await expect(handle.close()).rejects.toMatchObject({ code: "EIO", syscall: "close" });
    expect([handle.fd, disk.openHandles]).toEqual([-1, 0]);
    const named = [
      ["open", "EACCES", "open", () => fs.open("log")],
      ["create", "ENOSPC", "open", () => fs.open("new", "w")],
      ["rename", "EIO", "rename", () => fs.rename("log", "new")],
      ["unlink", "EROFS", "unlink", () => fs.unlink("log")],
      ["mkdir", "EDQUOT", "mkdir", () => fs.mkdir("d")],
      ["list", "EIO", "scandir", () => fs.readdir(".")],
      ["stat", "EIO", "stat", () => fs.stat("log")],
      ["stat", "EIO", "lstat", () => fs.rm("log")],
    ] as const;
    for (const [on, error, syscall, call] of named) {
      disk.inject({ on, error });
      await expect(call()).rejects.toMatchObject({ code: error, syscall, path: expect.stringMatching(/^\w+$|^\.$/) });
    }
    disk.inject({ on: "truncate", error: "EIO" });
    await fs.writeFile("log", "not empty");
    await expect(fs.open("log", "w")).rejects.toMatchObject({ code: "EIO", syscall: "open" });
    expect(disk.openHandles).toBe(0);
    const dir = await fs.open("/");
    disk.inject({ on: "syncDir", error: "EIO" });
    await expect(dir.sync()).rejects.toMatchObject({ code: "EIO", syscall: "fsync" });
    await dir.close();
    disk.handles = 0;
    await expect(fs.readFile("log")).rejects.toMatchObject({ code: "EMFILE", syscall: "open" });
  });

  it("a short write gives fewer bytesWritten, and those that write all go on", async () => {
    const disk = new SimDisk();
    const { fs } = disk;
    const handle = await fs.open("/log", "w+");
    disk.inject({ on: "write", bytes: 3 });
    expect(await handle.write(Buffer.from("0123456789"), 2, 8, 0)).toMatchObject({ bytesWritten: 3 });
    expect(await handle.readFile("utf8")).toBe("234");
    disk.inject({ on: "write", bytes: 2, times: 4 });
    await handle.writeFile("all of it");
    expect(await fs.readFile("/log", "utf8")).toBe("234all of it");
    disk.inject({ on: "write", bytes: 1, times: 3 });
    await fs.writeFile("/log", "once more");
    disk.inject({ on: "write", bytes: 1, times: 3 });
    await fs.appendFile("/log", ", and more");
    expect(await fs.readFile("/log", "utf8")).toBe("once more, and more");
    disk.inject({ on: "write", bytes: 2 });
    expect(await handle.writev([Buffer.from("ab"), Buffer.from("cd")], 0)).toMatchObject({ bytesWritten: 2 });
    disk.inject({ on: "write", bytes: 0, times: Number.POSITIVE_INFINITY });
    expect(await handle.write("x")).toMatchObject({ bytesWritten: 0 });
    await expect(handle.writeFile("x")).rejects.toMatchObject({ code: "EIO" });
    disk.heal();
    disk.inject({ on: "read", bytes: 2, times: 5 });
    expect(await handle.read(Buffer.alloc(9), 0, 9, 0)).toMatchObject({ bytesRead: 2 });
    expect(await fs.readFile("/log", "utf8")).toBe("abce more, and more");
    await handle.close();
  });

  it("a full disk takes what there is room for, then fails with ENOSPC", async () => {
    const disk = new SimDisk({ capacity: 10 });
    const handle = await disk.fs.open("/log", "w");
    expect(await handle.write("01234567")).toMatchObject({ bytesWritten: 8 });
    expect(await handle.write("89ab")).toMatchObject({ bytesWritten: 2 });
    await expect(handle.write("c")).rejects.toMatchObject({ code: "ENOSPC", syscall: "write" });
    expect(await handle.write("over", 0)).toMatchObject({ bytesWritten: 4 });
    await handle.close();
    await expect(disk.fs.writeFile("/more", "x")).rejects.toMatchObject({ code: "ENOSPC", syscall: "write" });
    expect(disk.openHandles).toBe(0);
  });

  it("a write is read late, and calls by the current position keep their order", async () => {
    const disk = new SimDisk({ latency: (_operation, random: Random) => random.below(5) });
    const handle = await disk.fs.open("/log", "w+");
    const buffer = Buffer.from("before");
    const written = handle.write(buffer, 0, 6, 0);
    buffer.write("after!");
    await written;
    expect((await handle.read(Buffer.alloc(6), 0, 6, 0)).buffer.toString()).toBe("after!");
    const appender = await disk.fs.open("/log", "a");
    await handle.truncate(0);
    await Promise.all(["a", "b", "c", "d", "e"].map((letter) => handle.write(letter)));
    expect(await disk.fs.readFile("/log", "utf8")).toBe("abcde");
    const other = await disk.fs.open("/log", "a");
    await Promise.all([..."fghij"].flatMap((letter) => [appender.write(letter), other.write(letter.toUpperCase())]));
    const text = await disk.fs.readFile("/log", "utf8");
    expect([...text].sort().join("")).toBe("FGHIJabcdefghij");
    for (const each of [handle, appender, other]) await each.close();
  });

  it("a handle opened with O_SYNC or O_DSYNC has synced what write() returns for", async () => {
    const disk = new SimDisk();
    await disk.fs.writeFile("/log", "");
    disk.makeDurable();
    for (const flags of ["as", "rs+", disk.fs.constants.O_WRONLY | disk.fs.constants.O_DSYNC] as const) {
      const handle = await disk.fs.open("/log", flags);
      await handle.write("x");
      await handle.close();
      expect(disk.crashPoint().atoms).toEqual([]);
    }
    expect(disk.trace.filter(({ operation }) => operation === "sync")).toHaveLength(3);
  });
});

describe("SimFs and crashes", () => {
  /** How a careful program replaces a file, with each care left out in turn. */
  async function replace(
    fs: Fs,
    text: string,
    care: { readonly syncFile: boolean; readonly syncDirectory: boolean },
  ): Promise<void> {
    const handle = await fs.open("/db/state.tmp", "w");
    await handle.writeFile(text);
    if (care.syncFile) await handle.sync();
    await handle.close();
    await fs.rename("/db/state.tmp", "/db/state");
    if (!care.syncDirectory) return;
    const dir = await fs.open("/db", "r");
    await dir.sync();
    await dir.close();
  }

  async function statesAfter(care: {
    readonly syncFile: boolean;
    readonly syncDirectory: boolean;
  }): Promise<Set<string>> {
    const disk = SimDisk.from(new Map([["/db/state", Buffer.from("old")]]));
    await replace(disk.fs, "new", care);
    const states = new Set<string>();
    const point = disk.crashPoint();
    for (const mask of point.masks(1000, new Random(1))) {
      const { fs } = disk.imageOf(point, mask);
      states.add(await fs.readFile("/db/state", "utf8").catch((error: NodeJS.ErrnoException) => error.code ?? ""));
    }
    return states;
  }

  it("a program that syncs the file and its directory has one state", async () => {
    expect(await statesAfter({ syncFile: true, syncDirectory: true })).toEqual(new Set(["new"]));
  });

  it("a program that forgets the directory may lose what it wrote", async () => {
    expect(await statesAfter({ syncFile: true, syncDirectory: false })).toEqual(new Set(["old", "new"]));
  });

  it("a program that forgets the file may find it empty, or of zeros", async () => {
    const states = await statesAfter({ syncFile: false, syncDirectory: true });
    expect(states).toContain("");
    expect(states).toContain("\0\0\0");
    expect(states).toContain("new");
    expect(states).not.toContain("old");
  });

  it("a new file is lost when the directory is not synced, and is there when it is", async () => {
    for (const careful of [true, false]) {
      const disk = SimDisk.from(new Map([["/db/other", Buffer.from("x")]]));
      await disk.fs.writeFile("/db/log", "text", { flush: true });
      if (careful) {
        const dir = await disk.fs.open("/db");
        await dir.sync();
        await dir.close();
      }
      const point = disk.crashPoint();
      const found = new Set<string>();
      for (const mask of point.masks(100, new Random(1))) {
        found.add((await disk.imageOf(point, mask).fs.readdir("/db")).join());
      }
      expect(found).toEqual(new Set(careful ? ["other,log"] : ["other,log", "other"]));
    }
  });

  it("simulate() finds the directory sync that such a program forgot, and holds for one that did not", async () => {
    const simulation = (syncDirectory: boolean): Parameters<typeof simulate<string, string>>[0] => ({
      workload: async (disk, { ledger }) => {
        await disk.fs.mkdir("/db");
        const root = await disk.fs.open("/");
        await root.sync();
        await root.close();
        for (const text of ["one", "two"]) {
          await ledger.keep(text, () => replace(disk.fs, text, { syncFile: true, syncDirectory }));
        }
      },
      recover: async (disk) => disk.fs.readFile("/db/state", "utf8").catch(() => ""),
      check: (_disk, { ledger }, found) => {
        const texts = ["one", "two"];
        ledger.check(texts.slice(0, texts.indexOf(found) + 1));
      },
      seeds: 2,
    });
    await simulate(simulation(true));
    await expect(simulate(simulation(false))).rejects.toThrow(/SEED=/);
  });

  it("a sync that failed leaves the pages clean: the next one says yes, and the power cut loses them", async () => {
    const disk = SimDisk.from(new Map([["/log", Buffer.from("old")]]));
    const handle = await disk.fs.open("/log", "r+");
    await handle.write("new");
    disk.inject({ on: "sync", error: "EIO" });
    await expect(handle.sync()).rejects.toMatchObject({ code: "EIO", syscall: "fsync" });
    await handle.sync();
    expect(await disk.fs.readFile("/log", "utf8")).toBe("new");
    const point = disk.crashPoint();
    const left = new Set<string>();
    for (const mask of point.masks(10, new Random(1))) {
      left.add(await disk.imageOf(point, mask).fs.readFile("/log", "utf8"));
    }
    expect(left).toContain("old");
    expect(left).toContain("new");
    await handle.close();
  });
});
