// Holds src/ to its floor plan: which room may know which, no circles, node:fs and the clock and randomness in their
// places, no top-level await, a header on every file. The rules are in layering-rules.ts; the second half of this file
// proves that each of them can fail, on files that exist only here.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { checkUnit, cycleProblems, parseUnit, roomOf, rooms, type SourceUnit } from "./layering-rules.js";

const root = new URL("../", import.meta.url);
const src = fileURLToPath(new URL("src/", root));
const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
  dependencies: Record<string, string>;
};
const dependencies = new Set(Object.keys(manifest.dependencies));

function readUnits(): SourceUnit[] {
  return readdirSync(src, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .map((path) => parseUnit(path, readFileSync(src + path, "utf8")));
}

describe("src", () => {
  const units = readUnits();
  const paths = new Set(units.map((unit) => unit.path));

  test("every file keeps to the floor plan", () => {
    expect(paths.has("base/errors.ts")).toBe(true);
    expect(units.flatMap((unit) => checkUnit(unit, (path) => paths.has(path), dependencies))).toEqual([]);
  });

  test("no imports run in a circle", () => {
    expect(cycleProblems(units)).toEqual([]);
  });

  test("every folder is a room of the floor plan", () => {
    const folders = new Set(units.map((unit) => roomOf(unit.path)).filter((room) => room !== ""));
    expect([...folders].filter((room) => !(room in rooms))).toEqual([]);
  });

  test("the floor plan itself has no circle", () => {
    const seen: string[] = [];
    const visit = (room: string, trail: readonly string[]): void => {
      expect(trail).not.toContain(room);
      if (seen.includes(room)) return;
      for (const next of rooms[room] ?? []) visit(next.includes("/") ? roomOf(next) : next, [...trail, room]);
      seen.push(room);
    };
    for (const room of Object.keys(rooms)) visit(room, []);
  });
});

describe("checkUnit()", () => {
  const check = (path: string, body: string): string[] =>
    checkUnit(parseUnit(path, `// Holds a thing.\n${body}\n`), () => true, dependencies);

  test.each([
    ["base/a.ts", `import { x } from "../raftpb/types.js";`, "base/ may know no other room"],
    ["raft/a.ts", `import { x } from "../storage/memory-storage.js";`, "raft/ may know raftpb, base"],
    ["wal/a.ts", `import type { Entry } from "../raftpb/types.js";`, "wal/ may know disk, base"],
    ["wal/a.ts", `export * from "../raftpb/types.js";`, "wal/ may know disk, base"],
    ["wal/a.ts", `type X = import("../raftpb/types.js").Entry;`, "wal/ may know disk, base"],
    ["wal/a.ts", `export const x = () => import("../raftpb/types.js");`, "wal/ may know disk, base"],
    ["wal/a.ts", `new Worker(new URL("../etcd/worker.js", import.meta.url));`, "wal/ may know disk, base"],
    [
      "storage/a.ts",
      `import { RaftLog } from "../raft/log.js";`,
      "imports src/raft/log.ts; storage/ may know raft/storage.ts",
    ],
    ["testing/a.ts", `import { main } from "../cli/main.js";`, "imports src/cli/main.ts"],
    ["index.ts", `export { readMember } from "./etcd/index.js";`, "the main door may know"],
    ["wal/a.ts", `import { Wal } from "../index.js";`, "imports the main door"],
    ["storage/a.ts", `import { Wal } from "../wal/index.js";`, "name the file that holds it"],
    ["attic/a.ts", `import { assert } from "../base/assert.js";`, "not in the floor plan"],
    ["wal/a.ts", `import { version } from "../../package.json";`, "outside src"],
    ["wal/a.ts", `import { assert } from "../base/assert";`, "write the extension"],
    ["storage/a.ts", `import { open } from "node:fs";`, "imports node:fs; take a Disk"],
    ["wal/a.ts", `import { open } from "node:fs/promises";`, "imports node:fs/promises; take a Disk"],
    ["disk/memory-disk.ts", `import { open } from "node:fs";`, "take a Disk"],
    ["wal/a.ts", `const fs = process.getBuiltinModule("node:fs");`, "take a Disk"],
    ["disk/file-disk.ts", `import { open } from "fs";`, `write "node:fs"`],
    ["wal/a.ts", `import fse from "fs-extra";`, "changes fs.close for the whole process"],
    ["wal/a.ts", `import { test } from "vitest";`, "not among the dependencies"],
    ["raft/a.ts", `import { pack } from "msgpackr";`, "raft/ is pure"],
    ["wal/a.ts", "const t = Date.now();", "reads the clock (Date); use nowMs() of base/clock.ts"],
    ["wal/a.ts", "const t = new Date();", "reads the clock (Date)"],
    ["wal/a.ts", "const t = performance.now();", "reads the clock (performance)"],
    ["cli/a.ts", "const t = globalThis.performance.now();", "reads the clock (performance)"],
    ["base/a.ts", "const t = process.hrtime.bigint();", "reads the clock (process.hrtime)"],
    ["wal/a.ts", `import { performance as p } from "node:perf_hooks";`, "use nowMs() of base/clock.ts"],
    ["wal/a.ts", "const r = Math.random();", "draws randomness (Math.random); use randomFill()"],
    ["wal/a.ts", "crypto.getRandomValues(new Uint8Array(8));", "draws randomness (crypto)"],
    ["wal/a.ts", `import { randomBytes } from "node:crypto";`, "imports node:crypto; use randomFill()"],
    ["wal/a.ts", "await Promise.resolve();", "awaits at top level"],
    ["wal/a.ts", "for await (const x of xs) x();", "awaits at top level"],
    ["wal/a.ts", "export class A { static x = await open(); }", "awaits at top level"],
    ["raft/a.ts", "export async function f() { await g(); }", "raft/ is pure"],
    ["cli/a.ts", "export const f = (name: string) => import(name);", "a name made at run time"],
  ])("refuses in src/%s: %s", (path, body, message) => {
    const problems = check(path, body);
    expect(problems.join("\n")).toContain(message);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^src/${path}:2 `));
  });

  test.each([
    ["storage/a.ts", `import type { Storage } from "../raft/storage.js";`],
    [
      "cli/main.ts",
      `import fse from "fs-extra"; import { open } from "node:fs"; import { Wal } from "../wal/index.js";`,
    ],
    ["disk/file-disk.ts", `import { open } from "node:fs"; new Worker(new URL("./sync-worker.js", import.meta.url));`],
    ["base/clock.ts", "export const nowMs = () => performance.now();"],
    ["base/random.ts", `import { randomFillSync } from "node:crypto";`],
    ["base/crc32.ts", `import crc from "crc-32/crc32c.js";`],
    ["index.ts", `export { FileStorage } from "./storage/file-storage.js"; export * from "./wal/index.js";`],
    ["wal/a.ts", "interface X { Date: string; at: Date } const x = { performance: 1, crypto: 2 }.crypto;"],
    ["wal/a.ts", "export async function f() { await g(); for await (const x of h()) x(); }"],
    ["testing/a.ts", `import { readMember } from "../etcd/member.js";`],
  ])("lets pass in src/%s: %s", (path, body) => {
    expect(check(path, body)).toEqual([]);
  });

  test("refuses a file without a header, and takes one below a shebang", () => {
    const problems = (text: string): string[] => checkUnit(parseUnit("cli/main.ts", text), () => true, dependencies);
    expect(problems("export const x = 1;\n").join()).toContain("says nothing of itself");
    expect(problems("/** Doc. */\nexport const x = 1;\n").join()).toContain("says nothing of itself");
    expect(problems("#!/usr/bin/env node\n// The command table.\nexport const x = 1;\n")).toEqual([]);
  });

  test("refuses an import of a file that is not there", () => {
    const unit = parseUnit("wal/a.ts", `// Holds a thing.\nimport "./b.js";\n`);
    expect(checkUnit(unit, () => false, dependencies).join()).toContain("there is no src/wal/b.ts");
  });
});

describe("cycleProblems()", () => {
  const units = (files: Record<string, string>): SourceUnit[] =>
    Object.entries(files).map(([path, text]) => parseUnit(path, text));

  test("names the circle, though it is closed by a type alone", () => {
    const problems = cycleProblems(
      units({
        "wal/a.ts": `import { b } from "./b.js";`,
        "wal/b.ts": `import { c } from "./c.js";`,
        "wal/c.ts": `import type { A } from "./a.js";`,
      }),
    );
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain("src/wal/a.ts -> src/wal/b.ts -> src/wal/c.ts -> src/wal/a.ts");
  });

  test("lets two paths to one file pass, and a worker that is started by a file it imports", () => {
    expect(
      cycleProblems(
        units({
          "wal/a.ts": `import "./b.js"; import "./c.js";`,
          "wal/b.ts": `import "./c.js";`,
          "wal/c.ts": `new Worker(new URL("./a.js", import.meta.url));`,
        }),
      ),
    ).toEqual([]);
  });
});
