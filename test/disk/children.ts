// Child processes for the tests of this room: what a lock or a permission model does is only seen from another process. They
// run plain node, so the few source files they need are turned to JavaScript first, into a directory of the test's own.

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const source = new URL("../../src/", import.meta.url);

/** Puts src/disk and src/base as JavaScript below `directory`; children import from `${directory}/disk/`. */
export async function compileDisk(directory: string): Promise<void> {
  await writeFile(`${directory}/package.json`, `{ "type": "module" }`);
  for (const room of ["base", "disk"]) {
    await mkdir(`${directory}/${room}`);
    for (const name of await readdir(fileURLToPath(new URL(`${room}/`, source)))) {
      const text = await readFile(new URL(`${room}/${name}`, source), "utf8");
      const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
      const { outputText } = ts.transpileModule(text, { compilerOptions });
      await writeFile(`${directory}/${room}/${name.replace(/\.ts$/, ".js")}`, outputText);
    }
  }
}

/** A child that is told what to do and answers in lines. */
export class Child {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stderr = "";
  readonly #lines: Interface;
  readonly #answers: AsyncIterator<string>;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.process = spawn(command, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
    const { stdout, stderr } = this.process;
    if (stdout === null || stderr === null) throw new Error("a child without pipes");
    this.#lines = createInterface({ input: stdout });
    this.#answers = this.#lines[Symbol.asyncIterator]();
    stderr.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((resolve, reject) => {
      this.process.on("error", reject);
      this.process.on("exit", (code, signal) => resolve({ code, signal }));
    });
  }

  tell(line: string): void {
    this.process.stdin?.write(`${line}\n`);
  }

  async answer(): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`the child ended without an answer: ${this.stderr}`);
    return value;
  }

  /** Every line to come, once the child has ended by itself. */
  async rest(): Promise<string[]> {
    this.process.stdin?.end();
    const lines: string[] = [];
    for (let next = await this.#answers.next(); next.done !== true; next = await this.#answers.next()) {
      lines.push(next.value);
    }
    return lines;
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.ended;
  }
}
