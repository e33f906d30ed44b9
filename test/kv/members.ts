// Members: the processes of a replicated store (docs/examples/kv), each with a directory, ports, and links to the others; and what
// asks them over HTTP. Used by the tests that kill them.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, HOST, Links } from "./links.js";

const program = fileURLToPath(new URL("../../docs/examples/kv/.out/main.js", import.meta.url));

export interface Process {
  readonly id: bigint;
  readonly clientPort: number;
  readonly peerPort: number;
  readonly dir: string;
  /** Undefined while it is down. */
  child: ChildProcess | undefined;
  paused: boolean;
  /** It was started before. */
  started: boolean;
  /** The end of what it said, for a failure's story. */
  said: string;
}

export class Members {
  readonly all = new Map<bigint, Process>();
  readonly links = new Links();
  readonly #home: string;
  /** How the members of the beginning name one another, whoever of them is there by now. */
  #founders = new Map<bigint, string>();

  /** Flags that every member gets. */
  readonly #flags: readonly string[];

  private constructor(home: string, flags: readonly string[]) {
    this.#home = home;
    this.#flags = flags;
  }

  static async of(founders: readonly bigint[], flags: readonly string[] = []): Promise<Members> {
    const members = new Members(await mkdtemp(join(tmpdir(), "stablelog-kv-")), flags);
    for (const id of founders) await members.add(id);
    members.#founders = new Map([...members.all].map(([id, { peerPort }]) => [id, `${HOST}:${peerPort}`]));
    return members;
  }

  /** Gives a member a place; start() starts it. */
  async add(id: bigint, peerPort?: number): Promise<Process> {
    const clientPort = await freePort();
    const member: Process = {
      id,
      clientPort,
      peerPort: peerPort ?? (await freePort()),
      dir: join(this.#home, String(id)),
      child: undefined,
      paused: false,
      started: false,
      said: "",
    };
    this.all.set(id, member);
    return member;
  }

  /** Starts a member's process on what its directory holds. */
  async start(id: bigint): Promise<void> {
    const member = this.#member(id);
    if (member.child !== undefined) return;
    const others = [...this.all.values()].filter((other) => other.id !== id);
    const founder = this.#founders.has(id);
    const known = founder
      ? this.#founders
      : new Map([...this.all.values()].map((each) => [each.id, `${HOST}:${each.peerPort}`]));
    const initial = [...known].map(([each, address]) => `${each}=${address}`).join(",");
    const args = ["--id", String(id), "--data", member.dir];
    args.push("--listen-client", `${HOST}:${member.clientPort}`, "--listen-peer", `${HOST}:${member.peerPort}`);
    args.push("--initial-cluster", initial, ...this.#flags);
    if (!founder) args.push("--join");
    else if (!member.started) args.push("--bootstrap");
    member.started = true;
    for (const other of others) {
      args.push("--dial", `${other.id}=${HOST}:${await this.links.port(id, other.id, other.peerPort)}`);
    }
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        member.said = (member.said + text).slice(-4000);
      });
    }
    member.child = child;
    member.paused = false;
    child.once("exit", (code, signal) => {
      member.said += `\n[${id} ended: ${code ?? signal}]\n`;
      if (member.child === child) member.child = undefined;
    });
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(id: bigint): Promise<void> {
    const member = this.#member(id);
    const { child } = member;
    if (child === undefined) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  pause(id: bigint): void {
    const member = this.#member(id);
    member.paused = member.child?.kill("SIGSTOP") ?? false;
  }

  resume(id: bigint): void {
    const member = this.all.get(id);
    if (member === undefined) return;
    member.child?.kill("SIGCONT");
    member.paused = false;
  }

  /** Kills a member for good and forgets its directory. */
  async forget(id: bigint): Promise<void> {
    await this.kill(id);
    const { dir } = this.#member(id);
    this.all.delete(id);
    await rm(dir, { recursive: true, force: true });
  }

  running(): Process[] {
    return [...this.all.values()].filter(({ child }) => child !== undefined);
  }

  /** What the processes said last, for a failure's story. */
  story(): string {
    return [...this.all.values()].map(({ id, said }) => `--- member ${id}\n${said}`).join("\n");
  }

  async close(): Promise<void> {
    for (const id of [...this.all.keys()]) await this.kill(id);
    await this.links.close();
    await rm(this.#home, { recursive: true, force: true });
  }

  #member(id: bigint): Process {
    const member = this.all.get(id);
    if (member === undefined) throw new Error(`there is no member ${id}`);
    return member;
  }
}

/** What a member answered; `status` 0: the request certainly never reached it. */
export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, whose fields the tests look at one by one.
  readonly body: any;
}

/** Posts to a member. Resolves with undefined when nobody can say whether the request took effect. */
export async function ask(
  { clientPort }: Pick<Process, "clientPort">,
  path: string,
  body: unknown,
  timeoutMs: number,
): Promise<Answer | undefined> {
  try {
    const response = await fetch(`http://${HOST}:${clientPort}${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    return { status: response.status, body: await response.json() };
  } catch (error) {
    const { cause } = error as { cause?: { code?: string } };
    return cause?.code === "ECONNREFUSED" ? { status: 0, body: undefined } : undefined;
  }
}

export const base64 = (text: string): string => Buffer.from(text).toString("base64");
export const fromBase64 = (text: string): string => Buffer.from(text, "base64").toString();
