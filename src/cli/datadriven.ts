// `stablelog datadriven FOLDER`: runs every datadriven script under a folder against this raft core, as etcd-raft's own tests
// run them, and shows where the output differs. What upstream's logger says is left out on both sides.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join, relative, sep } from "node:path";
import { runRaftScript, type ScriptKind, scriptKinds } from "../testing/raft-scripts.js";
import { type Command, EXIT, parseCommand, UsageError } from "./command.js";
import { paint, plural, print } from "./terminal.js";

export const datadriven: Command = {
  summary: "run etcd-raft's datadriven scripts against the raft core",
  usage: [
    "Usage: stablelog datadriven FOLDER [--brief]",
    "",
    "Runs every *.txt under FOLDER, a line each. The nearest folder named interaction, confchange or quorum tells the kind of",
    "a script; under none of them it is an interaction script. A checkout of etcd-io/raft will do.",
    "",
    "  --brief  no differences, only which scripts have some",
    "",
    "Exit code 0 when every script passes, 1 when one differs, 2 when there is none.",
  ].join("\n"),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseCommand(args, { brief: { type: "boolean" } }, 1);
  const [folder] = positionals;
  if (folder === undefined) throw new UsageError("which folder?");
  if (!existsSync(folder)) throw new UsageError(`there is no ${folder}`);
  const scripts = scriptsUnder(folder);
  if (scripts.length === 0) throw new UsageError(`there is no script under ${folder}`);
  let failed = 0;
  for (const path of scripts) {
    const name = relative(folder, path) || basename(path);
    const differences = await differencesOf(kindOf(path), readFileSync(path, "utf8"));
    if (differences.length === 0) {
      await print(`${paint("green", "ok")}      ${name}`);
      continue;
    }
    failed++;
    await print(`${paint("red", "differs")} ${name}: ${plural(differences.length, "directive")}`);
    if (values.brief !== true) for (const difference of differences) await print(difference);
  }
  await print(`${scripts.length - failed} passed, ${failed} failed`);
  return failed === 0 ? EXIT.ok : EXIT.failed;
}

async function differencesOf(kind: ScriptKind, text: string): Promise<string[]> {
  try {
    return await runRaftScript(kind, text);
  } catch (error) {
    // An invariant of raft's that does not hold, or a script that cannot be read: this script's failure, not the run's.
    return [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  }
}

function scriptsUnder(folder: string): string[] {
  if (statSync(folder).isFile()) return [folder];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".txt"))
    .sort()
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

function kindOf(path: string): ScriptKind {
  const folders = path.split(sep).reverse();
  return (folders.find((name) => (scriptKinds as readonly string[]).includes(name)) ?? "interaction") as ScriptKind;
}
