// Where the children of this folder live: a temporary directory in which "stablelog" is the built package, with the programs
// of programs/ beside it as JavaScript; and the children themselves, seen from the test. Needs dist/ (`npm run build`).

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { childEnv } from "../child-env.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const programs = new URL("programs/", import.meta.url);

/** How a child ended, and all it said. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly lines: readonly string[];
  readonly stderr: string;
}

/** A child process that talks in lines. */
export class Child {
  readonly process: ChildProcess;
  /** Resolves when it is gone and everything it said was heard. */
  readonly ended: Promise<Ending>;
  #said = "";
  #stderr = "";
  #gone = false;
  #heard: (() => void) | undefined;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.process = spawn(command, args, { env: { ...childEnv(), ...env }, stdio: ["pipe", "pipe", "pipe"] });
    const { stdin, stdout, stderr } = this.process;
    // A child that is gone does not listen.
    stdin?.on("error", () => {});
    stdout?.setEncoding("latin1").on("data", (text: string) => {
      this.#said += text;
      this.#heard?.();
    });
    stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      this.process.on("error", reject);
      this.process.on("close", (code, signal) => {
        this.#gone = true;
        this.#heard?.();
        resolve({ code, signal, lines: this.lines(), stderr: this.#stderr });
      });
    });
  }

  get gone(): boolean {
    return this.#gone;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Whole lines said so far. */
  lines(): string[] {
    return this.#said.split("\n").slice(0, -1);
  }

  /** Resolves once it has said `count` lines that begin with `word`; false when it ended before. One caller at a time. */
  async said(word: string, count = 1): Promise<boolean> {
    let from = 0;
    let left = count;
    const enough = (): boolean => {
      for (let end = this.#said.indexOf("\n", from); end >= 0; end = this.#said.indexOf("\n", from)) {
        if (this.#said.startsWith(word, from)) left--;
        from = end + 1;
        if (left === 0) return true;
      }
      return false;
    };
    while (!enough()) {
      if (this.#gone) return false;
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
    return true;
  }

  tell(line: string): void {
    this.process.stdin?.write(`${line}\n`);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<Ending> {
    this.process.kill(signal);
    return this.ended;
  }
}

export class Home {
  readonly path: string;
  readonly #children = new Set<Child>();

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Home> {
    if (!existsSync(join(root, "dist/index.js"))) throw new Error("these tests run dist/: npm run build makes it");
    const home = new Home(await mkdtemp(join(tmpdir(), "stablelog-real-")));
    await writeFile(home.file("package.json"), `{ "type": "module" }`);
    await mkdir(home.file("node_modules"));
    await symlink(root, home.file("node_modules/stablelog"), "dir");
    for (const name of await readdir(programs)) {
      const text = await readFile(new URL(name, programs), "utf8");
      const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
      const { outputText } = ts.transpileModule(text, { compilerOptions });
      await writeFile(home.file(name.replace(/\.ts$/, ".js")), outputText);
    }
    return home;
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Starts `program`.js with `task` as JSON. `wrap`: a command in front of it, such as strace's. */
  start(program: string, task: unknown, env: NodeJS.ProcessEnv = {}, wrap: readonly string[] = []): Child {
    const line = [...wrap, process.execPath, this.file(`${program}.js`), JSON.stringify(task)];
    const child = new Child(line[0] as string, line.slice(1), env);
    this.#children.add(child);
    const forget = (): void => void this.#children.delete(child);
    child.ended.then(forget, forget);
    return child;
  }

  /** Kills what still runs and leaves nothing behind. */
  async remove(): Promise<void> {
    await Promise.allSettled([...this.#children].map((child) => child.kill()));
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}
