// inspect, verify and dump: on a sound log, on one in use, on damaged ones and on what is no log at all.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Entry, emptyConfState } from "../../src/raftpb/types.js";
import { FileStorage } from "../../src/storage/file-storage.js";
import { fixture, json, stablelog } from "./run-cli.js";

const voters = { ...emptyConfState(), voters: [1n, 0xffffffffffffffffn] };
let home = "";
let sound = "";

function entryAt(index: number): Entry {
  return { term: 2, index, type: index === 3 ? 1 : 0, data: new TextEncoder().encode(`value ${index}`) };
}

/** 120 entries of about 1 KiB over several segments, compacted to 2, with a snapshot at 10. */
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "stablelog-cli-"));
  sound = join(home, "sound");
  const storage = await FileStorage.open(sound, { segmentBytes: 16_384, metadata: Uint8Array.of(0xab, 0xcd) });
  for (let index = 1; index <= 120; index++) {
    const entry = index < 5 ? entryAt(index) : { ...entryAt(index), data: new Uint8Array(1000).fill(index) };
    await storage.save({ hardState: { term: 2, vote: 0xffffffffffffffffn, commit: index - 1 }, entries: [entry] });
  }
  await storage.createSnapshot(10, voters, new Uint8Array(5));
  await storage.compact(2);
  await storage.close();
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** A copy of the sound log with one byte of `name` changed. */
function damaged(name: string, offset: number): string {
  const dir = join(home, `damaged-${name}-${offset}`);
  cpSync(sound, dir, { recursive: true });
  const bytes = readFileSync(join(dir, name));
  bytes.writeUInt8(bytes.readUInt8(offset) ^ 0xff, offset);
  writeFileSync(join(dir, name), bytes);
  return dir;
}

interface Inspected {
  ok: boolean;
  error?: { code: string; file: string; offset: number };
  identity?: { logId: string; metadata: string };
  log?: {
    recovery: { verdict: string };
    firstIndex: number;
    lastIndex: number;
    hardState: { term: number; vote: string; commit: number };
    confState: { voters: string[] };
    snapshots: { index: number; bytes?: number; error?: { code: string } }[];
    segments: { name: string; usedBytes: number; fileBytes: number; first?: number; last?: number }[];
  };
  names: { name: string; kind: string; bytes: number }[];
}

describe("stablelog inspect", () => {
  test("shows identity, state, segments and snapshots as JSON", async () => {
    const outcome = await stablelog("inspect", sound, "--json");
    const { ok, identity, log, names } = json<Inspected>(outcome);
    expect([outcome.code, outcome.stderr, ok]).toEqual([0, "", true]);
    expect(identity?.metadata).toBe("abcd");
    expect(identity?.logId).toMatch(/^[0-9a-f]{32}$/);
    expect(log).toMatchObject({
      recovery: { verdict: "clean" },
      firstIndex: 3,
      lastIndex: 120,
      hardState: { term: 2, vote: "18446744073709551615", commit: 119 },
      confState: { voters: ["1", "18446744073709551615"] },
      snapshots: [{ index: 10, bytes: 5 }],
    });
    expect(names.filter(({ kind }) => kind === "stray")).toEqual([]);
    expect(names.find(({ name }) => name === "STATE")?.kind).toBe("state");
  });

  test("gives each entry to exactly one segment", async () => {
    const segments = json<Inspected>(await stablelog("inspect", sound, "--json")).log?.segments ?? [];
    const holding = segments.filter(({ first }) => first !== undefined);
    expect(holding.length).toBeGreaterThan(3);
    let next = 3;
    for (const { first, last, usedBytes, fileBytes } of holding) {
      expect(first).toBe(next);
      expect(usedBytes).toBeLessThanOrEqual(fileBytes);
      next = (last ?? 0) + 1;
    }
    expect(next).toBe(121);
  });

  test("prints it for people", async () => {
    const { code, stdout } = await stablelog("inspect", sound);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ {2}entries +3 to 120$/m);
    expect(stdout).toMatch(/^ {2}HardState +term 2, vote 18446744073709551615, commit 119$/m);
    expect(stdout).toMatch(/^ {2}[0-9a-f]{16}\.seg +\d+ .* 120 /m);
    expect(stdout).not.toContain("\u001b");
  });

  test("looks at a log in use, names who has it, and changes nothing", async () => {
    const dir = join(home, "in-use");
    const storage = await FileStorage.open(dir);
    await storage.save({ entries: [entryAt(1)] });
    const outcome = await stablelog("inspect", dir);
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toMatch(new RegExp(`^ {2}LOCK names +process ${process.pid}$`, "m"));
    expect(outcome.stdout).toMatch(/^ {2}entries +1 to 1$/m);
    await storage.save({ entries: [entryAt(2)] });
    await storage.close();
  });

  test("lists a refused log with its error, file and offset", async () => {
    const dir = damaged("STATE", 20);
    const bytes = readFileSync(join(dir, "STATE")).fill(0xff, 0, 16_384);
    writeFileSync(join(dir, "STATE"), bytes);
    writeFileSync(join(dir, "notes.txt"), "mine");
    const outcome = await stablelog("inspect", dir, "--json");
    const { ok, error, log, names } = json<Inspected>(outcome);
    expect([outcome.code, ok, log]).toEqual([1, false, undefined]);
    expect(error).toMatchObject({ code: "ERR_CORRUPT", file: "STATE", offset: 0 });
    expect(names).toContainEqual(expect.objectContaining({ name: "notes.txt", kind: "stray", bytes: 4 }));
    const plain = await stablelog("inspect", dir);
    expect(plain.code).toBe(1);
    expect(plain.stderr).toMatch(/^ERR_CORRUPT: .*\n {2}file STATE, offset 0$/m);
    expect(plain.stdout).toMatch(/^ {2}notes\.txt +stray/m);
  });

  test("tells a snapshot whose file is gone, and shows the rest", async () => {
    const dir = join(home, "no-snapshot");
    cpSync(sound, dir, { recursive: true });
    rmSync(join(dir, "000000000000000a-0000000000000002.snapshot"));
    const outcome = await stablelog("inspect", dir, "--json");
    expect(outcome.code).toBe(1);
    const { error, log } = json<Inspected>(outcome);
    expect(error?.code).toBe("ERR_CORRUPT");
    expect(log).toMatchObject({ lastIndex: 120, snapshots: [{ index: 10, error: { code: "ERR_CORRUPT" } }] });
  });

  test("says that an etcd member is not ours", async () => {
    const { code, stderr } = await stablelog("inspect", fixture("single"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^ERR_FOREIGN: /);
  });
});

describe("stablelog verify", () => {
  interface Verified {
    ok: boolean;
    segments: number;
    damage: { code: string; file: string; offset: number; index?: number }[];
    error?: { code: string };
  }

  test("finds a sound log sound", async () => {
    expect(await stablelog("verify", sound)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^ok: \d+ segments, /),
    });
    const outcome = await stablelog("verify", sound, "--json");
    expect(json<Verified>(outcome)).toMatchObject({ ok: true, damage: [] });
  });

  test("shows damage in an old segment with file, offset and entry, and exit code 1", async () => {
    const segments = json<Inspected>(await stablelog("inspect", sound, "--json")).log?.segments ?? [];
    const old = segments.find(({ first }) => first !== undefined);
    const name = old?.name ?? "";
    const dir = damaged(name, Math.floor((old?.usedBytes ?? 0) / 2));
    const outcome = await stablelog("verify", dir, "--json");
    const { ok, damage } = json<Verified>(outcome);
    expect([outcome.code, ok, damage.length]).toEqual([1, false, 1]);
    expect(damage[0]).toMatchObject({ code: "ERR_CORRUPT", file: name });
    const plain = await stablelog("verify", dir);
    expect(plain.code).toBe(1);
    expect(plain.stdout).toContain("1 damaged place");
    expect(plain.stdout).toMatch(new RegExp(`^ {2}ERR_CORRUPT +${name} +[\\d,]+ +${damage[0]?.index} `, "m"));
  });

  test("gives the error of a refused log, as JSON too", async () => {
    const dir = join(home, "no-state");
    cpSync(sound, dir, { recursive: true });
    rmSync(join(dir, "STATE"));
    const outcome = await stablelog("verify", dir, "--json");
    expect(json<Verified>(outcome)).toMatchObject({ ok: false, error: { code: "ERR_CORRUPT" } });
    expect([outcome.code, outcome.stderr.startsWith("ERR_CORRUPT: ")]).toEqual([1, true]);
  });
});

describe("stablelog dump", () => {
  const lines = (stdout: string): string[] => stdout.trimEnd().split("\n");

  test("prints all entries that are left, a line each", async () => {
    const { code, stdout } = await stablelog("dump", sound, "--data", "none");
    expect(code).toBe(0);
    expect(lines(stdout)).toHaveLength(118);
    expect(lines(stdout)[0]).toBe("3 term 2 ConfChange 7 B");
    expect(lines(stdout).at(-1)).toBe("120 term 2 Normal 1000 B");
  });

  test("prints a range, as hex, text or JSON", async () => {
    const args = ["dump", sound, "--from", "4", "--to", "4"];
    expect((await stablelog(...args)).stdout).toBe("4 term 2 Normal 7 B 76616c75652034\n");
    expect((await stablelog(...args, "--data", "text")).stdout).toBe('4 term 2 Normal 7 B "value 4"\n');
    const expected = { index: 4, term: 2, type: "Normal", bytes: 7, data: "value 4" };
    expect(json(await stablelog(...args, "--data", "text", "--json"))).toEqual(expected);
  });

  test("takes bounds beyond the log for its ends", async () => {
    const { stdout } = await stablelog("dump", sound, "--from", "1", "--to", "1000000", "--data", "none");
    expect(lines(stdout)).toHaveLength(118);
    expect((await stablelog("dump", sound, "--from", "121")).stdout).toBe("");
  });

  test("prints what stands before damage, then the error", async () => {
    const segments = json<Inspected>(await stablelog("inspect", sound, "--json")).log?.segments ?? [];
    const second = segments.filter(({ first }) => first !== undefined)[1];
    const dir = damaged(second?.name ?? "", Math.floor((second?.usedBytes ?? 0) / 2));
    const { code, stdout, stderr } = await stablelog("dump", dir, "--data", "none");
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`^ERR_CORRUPT: .*\\n {2}file ${second?.name}, offset \\d+$`, "m"));
    expect(lines(stdout)[0]).toBe("3 term 2 ConfChange 7 B");
    expect(lines(stdout).length).toBeLessThan(118);
  });
});
