// The package as others meet it: every door is there and opens by import and by require(), what is packed is what is
// needed and no more, and the repository's top level holds what it is meant to hold. Needs dist/ (`npm run build`, which
// `npm test` does first).

import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { childEnv } from "./child-env.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));

interface Manifest {
  name: string;
  version: string;
  type: string;
  main: string;
  types: string;
  engines: { node: string };
  bin: Record<string, string>;
  exports: Record<string, string | { types: string; default: string }>;
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;

/** The doors and the names that outside code may count on finding there. */
const doors: Record<string, readonly string[]> = {
  stablelog: ["EntryType", "FileStorage", "MemoryStorage", "StableLogError", "TcpTransport", "entrySize"],
  "stablelog/wal": ["Wal"],
  "stablelog/raft": [],
  "stablelog/etcd": ["readBatches", "readMember"],
  "stablelog/testing": [
    "InteractionEnv",
    "RaftCluster",
    "runRaftScript",
    "runScript",
    "runScriptOnDisks",
    "testStorage",
  ],
};

/** The paths npm would pack, relative to the root. */
async function packedPaths(): Promise<string[]> {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    shell: process.platform === "win32",
  });
  const [pack] = Object.values(JSON.parse(stdout) as { files: { path: string }[] }[]);
  return (pack?.files ?? []).map((file) => file.path).sort();
}

function filesBelow(dir: string, suffix: string): string[] {
  return readdirSync(join(root, dir), { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(suffix))
    .sort();
}

describe("package.json", () => {
  test("has the five doors, and nothing else but itself", () => {
    const expected = Object.keys(doors).map((door) => door.replace("stablelog", "."));
    expect(Object.keys(manifest.exports).sort()).toEqual([...expected, "./package.json"].sort());
  });

  test.each(Object.entries(manifest.exports))("exports %s as files that the build makes", (_door, target) => {
    const paths = typeof target === "string" ? [target] : [target.types, target.default];
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  test("main and types point where the door points", () => {
    expect(manifest.exports["."]).toEqual({ types: manifest.types, default: manifest.main });
  });

  test("is ESM for Node.js from 20.19, and this is one", () => {
    expect(manifest.type).toBe("module");
    expect(manifest.engines.node).toBe(">=20.19.0");
    const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
    expect(major * 1000 + minor).toBeGreaterThanOrEqual(20_019);
  });

  test("the command is built and says what runs it", () => {
    expect(Object.keys(manifest.bin)).toEqual(["stablelog"]);
    const command = readFileSync(join(root, manifest.bin["stablelog"] ?? ""), "utf8");
    expect(command.startsWith("#!/usr/bin/env node\n")).toBe(true);
  });

  test("has the scripts that the README names", () => {
    expect(Object.keys(manifest.scripts)).toEqual(expect.arrayContaining(["build", "start", "test", "check", "bench"]));
    const named = readFileSync(join(root, "README.md"), "utf8").matchAll(/`npm run ([a-z:]+)/g);
    expect([...named].map(([, name]) => name ?? "").filter((name) => !(name in manifest.scripts))).toEqual([]);
  });

  test("needs no native build: no dependency is installed by a script of ours", () => {
    const own = Object.keys(manifest.scripts);
    expect(own.filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
    expect(Object.keys(manifest.dependencies).sort()).toEqual(["crc-32", "fs-extra", "msgpackr"]);
  });
});

describe("package-lock.json", () => {
  interface Lock {
    version: string;
    packages: Record<string, { resolved?: string; version?: string } & Partial<Manifest>>;
  }
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lock;

  test("agrees with package.json", () => {
    const own = lock.packages[""];
    expect(lock.version).toBe(manifest.version);
    expect(own?.version).toBe(manifest.version);
    expect(own?.dependencies).toEqual(manifest.dependencies);
    expect(own?.devDependencies).toEqual(manifest.devDependencies);
  });

  test("names no host but the public registry", () => {
    const urls = Object.values(lock.packages).flatMap((entry) =>
      entry.resolved === undefined ? [] : [entry.resolved],
    );
    expect(urls.filter((url) => !url.startsWith("https://registry.npmjs.org/"))).toEqual([]);
  });
});

describe("npm pack", () => {
  let packed: string[] = [];
  beforeAll(async () => {
    packed = await packedPaths();
  }, 60_000);

  test("takes dist, docs, README.md, LICENSE and package.json, and nothing else", () => {
    expect(packed).toEqual(expect.arrayContaining(["LICENSE", "README.md", "docs/CHANGELOG.md", "package.json"]));
    const allowed = /^(dist\/.+\.(js|d\.ts|js\.map)|docs\/.+|LICENSE|README\.md|package\.json)$/;
    expect(packed.filter((path) => !allowed.test(path))).toEqual([]);
  });

  test("takes every built file", () => {
    const built = filesBelow("src", ".ts").map((path) => `dist/${path.replace(/\.ts$/, ".js")}`);
    expect(built.filter((path) => !packed.includes(path))).toEqual([]);
  });

  test("takes nothing whose source is gone (npm run clean && npm run build)", () => {
    const sources = new Set(filesBelow("src", ".ts").map((path) => `dist/${path.replace(/\.ts$/, "")}`));
    const stale = packed.filter(
      (path) => path.startsWith("dist/") && !sources.has(path.replace(/\.(js|d\.ts|js\.map)$/, "")),
    );
    expect(stale).toEqual([]);
  });
});

describe("an installed package", () => {
  let home = "";
  // What npm would install: the packed files and the dependencies of package.json, no development dependency in sight.
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), "stablelog-package-"));
    const installed = join(home, "node_modules", manifest.name);
    for (const path of await packedPaths()) {
      mkdirSync(dirname(join(installed, path)), { recursive: true });
      cpSync(join(root, path), join(installed, path));
    }
    for (const name of Object.keys(manifest.dependencies)) {
      symlinkSync(join(root, "node_modules", name), join(home, "node_modules", name), "junction");
    }
  }, 60_000);
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  /** Runs `script` in the consumer's directory; what it prints is JSON. Anything on stderr fails the test. */
  async function consume(kind: "module" | "commonjs", script: string): Promise<unknown> {
    const { stdout, stderr } = await run(process.execPath, [`--input-type=${kind}`, "-e", script], {
      cwd: home,
      env: childEnv(),
      timeout: 30_000,
    });
    expect(stderr).toBe("");
    return JSON.parse(stdout);
  }

  test.each(Object.keys(doors))(
    "%s opens by import and by require() alike",
    async (door) => {
      const imported = await consume(
        "module",
        `const door = await import("${door}"); console.log(JSON.stringify(Object.keys(door).sort()));`,
      );
      const required = await consume(
        "commonjs",
        `const door = require("${door}"); console.log(JSON.stringify(Object.keys(door).sort()));`,
      );
      expect(imported).toEqual(expect.arrayContaining([...(doors[door] ?? [])]));
      expect(required).toEqual(imported);
    },
    60_000,
  );

  test("opening every door leaves node:fs as it was, and nothing running", async () => {
    const script = `
      const fs = require("node:fs");
      const before = Object.entries(fs);
      for (const door of ${JSON.stringify(Object.keys(doors))}) require(door);
      const changed = before.filter(([name, value]) => fs[name] !== value).map(([name]) => name);
      // Kinds that hold the process: a thread, a socket, a timer. What loading modules leaves for a moment is none of them.
      const held = /Worker|Server|Socket|TCP|Timeout|MessagePort|Watcher/;
      console.log(JSON.stringify({ changed, held: process.getActiveResourcesInfo().filter((kind) => held.test(kind)) }));`;
    // That the child ends by itself, within its time limit, is the other half of "nothing running".
    expect(await consume("commonjs", script)).toEqual({ changed: [], held: [] });
  }, 60_000);

  test("keeps its inner files to itself", async () => {
    const script = `
      import("stablelog/dist/base/crc32.js").then(
        () => console.log(JSON.stringify("open")),
        (error) => console.log(JSON.stringify(error.code)),
      );`;
    expect(await consume("module", script)).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED");
  }, 60_000);
});

describe("the repository", () => {
  test("holds at its top level what it is meant to hold, and files whose names begin with a dot", () => {
    const meant = [
      "package.json",
      "package-lock.json",
      "tsconfig.json",
      "src",
      "bench",
      "test",
      "docs",
      "README.md",
      "LICENSE",
    ];
    const made = ["node_modules", "dist", "coverage"];
    const names = readdirSync(root).filter((name) => !name.startsWith("."));
    expect(names.filter((name) => !meant.includes(name) && !made.includes(name))).toEqual([]);
    expect(meant.filter((name) => !names.includes(name))).toEqual([]);
  });

  test("its changelog has the form of Keep a Changelog and knows this version or what is unreleased", () => {
    const text = readFileSync(join(root, "docs", "CHANGELOG.md"), "utf8");
    const sections = [...text.matchAll(/^## (.+)$/gm)].map(([, title]) => title ?? "");
    expect(sections.length).toBeGreaterThan(0);
    expect(sections.filter((title) => !/^\[(Unreleased\]|\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2})$/.test(title))).toEqual(
      [],
    );
    expect(sections.some((title) => title === "[Unreleased]" || title.startsWith(`[${manifest.version}]`))).toBe(true);
    const kinds = [...text.matchAll(/^### (.+)$/gm)].map(([, title]) => title ?? "");
    expect(kinds.filter((kind) => !/^(Added|Changed|Deprecated|Removed|Fixed|Security)$/.test(kind))).toEqual([]);
  });
});
