// The command line itself: what it answers to words it knows and to words it does not.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FileStorage } from "../../src/storage/file-storage.js";
import { childEnv } from "../child-env.js";
import { cliPath, stablelog } from "./run-cli.js";

const commands = ["replay", "inspect", "verify", "dump", "crash"];

describe("stablelog", () => {
  test("prints the version of package.json", async () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(await stablelog("--version")).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("lists every command when asked for help", async () => {
    const { code, stdout } = await stablelog("--help");
    expect(code).toBe(0);
    for (const name of commands) expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
  });

  test.concurrent.each(commands)("%s --help prints its usage", async (name) => {
    const { code, stdout, stderr } = await stablelog(name, "--help");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.startsWith(`Usage: stablelog ${name} `)).toBe(true);
  });

  test.concurrent.each([
    [[], "which command?"],
    [["no-such"], "there is no command 'no-such'"],
    [["constructor"], "there is no command 'constructor'"],
    [["inspect"], "DIR is missing"],
    [["verify", "a", "b"], "unexpected argument 'b'"],
    [["dump", "a", "--no-such"], "--no-such"],
    [["dump", "a", "--from", "x"], "--from must be an integer"],
    [["dump", "a", "--from", "3", "--to", "2"], "--from 3 is above --to 2"],
    [["dump", "a", "--data", "base64"], "--data must be one of hex, text, none"],
    [["replay", "--kills", "-1"], "--kills"],
    [["replay", "--seed", "4294967296"], "--seed must be an integer from 0 to 4294967295"],
    [["replay", "--sync", "maybe"], "--sync must be one of auto, inline, worker, off"],
    [["replay", "--segment-bytes", "4095"], "--segment-bytes must be an integer from 4096"],
  ])("%j ends with exit code 2 and says why, with the usage", async (args, why) => {
    const { code, stdout, stderr } = await stablelog(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(why);
    expect(stderr).toContain("Usage: stablelog ");
  });

  test.concurrent.each(["inspect", "verify", "dump"])("%s tells a missing directory by its code", async (name) => {
    const { code, stdout, stderr } = await stablelog(name, join(tmpdir(), "stablelog-is-not-here"));
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^ERR_NOT_FOUND: /);
  });
});

describe("a reader that goes away", () => {
  let home = "";
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), "stablelog-cli-"));
    const storage = await FileStorage.open(join(home, "log"), { sync: "off" });
    const data = new Uint8Array(4096);
    await storage.save({
      entries: Array.from({ length: 500 }, (_none, i) => ({ term: 1, index: i + 1, type: 0, data })),
    });
    await storage.close();
  });
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  test("ends a dump quietly", async () => {
    const child = spawn(process.execPath, [cliPath, "dump", join(home, "log")], {
      env: childEnv(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.stdout.once("data", () => child.stdout.destroy());
    const code = await new Promise((resolve) => child.once("exit", resolve));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });
});
