// Runs the built command as its users do, in a process of its own. Needs dist/ (`npm run build`, which `npm test` does first).

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { childEnv } from "../child-env.js";

export const cliPath = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/etcd/${name}`, import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command at `path` with these arguments; any exit code is an outcome, a signal is null. */
export function run(path: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { env: childEnv(), maxBuffer: 64 * 1024 * 1024 };
    const child = execFile(process.execPath, [path, ...args], options, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
  });
}

/** `stablelog` with these arguments. */
export function stablelog(...args: readonly string[]): Promise<Outcome> {
  return run(cliPath, args);
}

/** The one JSON object that a command printed. */
export function json<T>({ stdout }: Outcome): T {
  return JSON.parse(stdout) as T;
}
