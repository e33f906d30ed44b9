#!/usr/bin/env node
// The command `stablelog`: finds the command that the first argument names and runs it. Exit codes: 0 done and all is
// well, 1 damage, a difference or a refusal, 2 arguments that make no sense. A reader that goes away early (`| head`) ends
// it quietly.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bench } from "./bench.js";
import { type Command, EXIT, errorLines, isOperational, UsageError } from "./command.js";
import { crash } from "./crash.js";
import { datadriven } from "./datadriven.js";
import { dump } from "./dump.js";
import { inspect } from "./inspect.js";
import { replay } from "./replay.js";
import { complain, print } from "./terminal.js";
import { verify } from "./verify.js";

const commands: ReadonlyMap<string, Command> = new Map(
  Object.entries({ replay, inspect, verify, dump, crash, datadriven, bench }),
);

function usage(): string {
  const width = Math.max(...[...commands.keys()].map((name) => name.length));
  const list = [...commands].map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return [
    "Usage: stablelog COMMAND [ARGUMENTS]",
    "",
    "Commands:",
    ...list,
    "",
    "stablelog COMMAND --help tells more; stablelog --version prints the version.",
  ].join("\n");
}

function version(): string {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as {
    version: string;
  };
  return manifest.version;
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--version" || name === "-v") {
    await print(version());
    return EXIT.ok;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    await print(usage());
    return EXIT.ok;
  }
  const command = name === undefined ? undefined : commands.get(name);
  if (command === undefined) {
    complain(name === undefined ? "stablelog: which command?" : `stablelog: there is no command '${name}'`);
    complain("");
    complain(usage());
    return EXIT.usage;
  }
  // What stands behind `--` is a name, not an option.
  const options = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (options.includes("--help") || options.includes("-h")) {
    await print(command.usage);
    return EXIT.ok;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    if (error instanceof UsageError) {
      complain(`stablelog ${name}: ${error.message}`);
      complain("");
      complain(`${command.usage.split("\n\n", 1)[0]}\n\nstablelog ${name} --help tells more.`);
      return EXIT.usage;
    }
    if (!isOperational(error)) throw error;
    for (const line of errorLines(error)) complain(line);
    return EXIT.failed;
  }
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit();
  });
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    complain(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = EXIT.failed;
  },
);
