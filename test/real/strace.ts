// Real system calls, seen and tampered with by strace: whether it can be had here, the command that runs a child under it,
// and what it wrote down. strace counts calls a thread; UV_THREADPOOL_SIZE=1 and sync inline leave two threads that do
// what they do in an order of their own that is always the same. `-P` narrows both the counting and the tampering to paths.

import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";

/** The calls by which Node reaches files here, and the write to standard output that carries an acknowledgement. */
export const FILE_CALLS = [
  "openat",
  "pwrite64",
  "pread64",
  "fdatasync",
  "fsync",
  "rename",
  "unlink",
  "ftruncate",
  "mkdir",
  "link",
  "close",
] as const;

/** One thread for the pool, and no io_uring, whose work strace does not see. */
export const PLAIN_POOL = { UV_THREADPOOL_SIZE: "1", UV_USE_IO_URING: "0" } as const;

/** Why nothing can be traced here; undefined when it can. Goes into the titles of what is skipped. */
export function noStrace(): string | undefined {
  if (process.platform !== "linux") return "skipped: strace is Linux's";
  // Tampering is part of the question: a strace may be there that can look and not touch.
  for (const inject of ["execve:error=EIO:when=99", "execve:signal=KILL:when=99"]) {
    const [command = "", ...args] = underStrace({ log: "/dev/null", calls: ["execve"], inject: [inject] });
    const { error, status, stderr } = spawnSync(command, [...args, "true"]);
    if (error !== undefined) return "skipped: strace is not installed";
    if (status !== 0) return `skipped: strace does not work here (${String(stderr).split("\n")[0]})`;
  }
  return undefined;
}

export interface Tampering {
  /** Where strace writes what it sees. */
  readonly log: string;
  readonly calls: readonly string[];
  /** As for `-e inject=`. */
  readonly inject?: readonly string[];
  /** Only calls that touch one of these. */
  readonly paths?: readonly string[];
}

/** The command that a child's own is put behind. */
export function underStrace({ log, calls, inject = [], paths = [] }: Tampering): string[] {
  return [
    "strace",
    "-f",
    // Stops at the calls asked for only, which is twice as fast; signals are not injected then (strace 6.1).
    ...(inject.some((one) => one.includes(":signal=")) ? [] : ["--seccomp-bpf"]),
    "-qq",
    // Every descriptor with the path it has at that moment: files are renamed while they are open.
    "-y",
    "-s",
    "64",
    "-o",
    log,
    "-e",
    "signal=none",
    "-e",
    `trace=${calls.join(",")}`,
    ...inject.flatMap((one) => ["-e", `inject=${one}`]),
    ...paths.flatMap((path) => ["-P", path]),
  ];
}

/** A call, with the moments at which strace saw it begin and end: numbers of lines in its log. */
export interface Call {
  readonly thread: number;
  readonly name: string;
  readonly args: string;
  readonly began: number;
  readonly ended: number;
  /** What it returned; NaN when it did not. */
  readonly result: number;
  /** EIO and the like, of a call that failed. */
  readonly errno: string | undefined;
  readonly injected: boolean;
}

/** The calls of a log, in the order in which they ended. */
export async function readTrace(log: string): Promise<Call[]> {
  const calls: Call[] = [];
  const unfinished = new Map<number, { text: string; began: number }>();
  for (const [at, line] of (await readFile(log, "latin1")).split("\n").entries()) {
    const [, id = "", said = ""] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    const thread = Number(id);
    let text = said;
    let began = at;
    if (text.endsWith("<unfinished ...>")) {
      unfinished.set(thread, { text: text.slice(0, -"<unfinished ...>".length), began });
      continue;
    }
    const [, rest] = /^<\.\.\. \w+ resumed>(.*)$/.exec(text) ?? [];
    if (rest !== undefined) {
      const begin = unfinished.get(thread);
      if (begin === undefined) throw new Error(`line ${at} of the trace resumes what did not begin: ${line}`);
      unfinished.delete(thread);
      text = begin.text + rest;
      began = begin.began;
    }
    const [, name, args = "", value = "", more = ""] = /^(\w+)\((.*)\)\s+= (-?\d+|\?)(.*)$/.exec(text) ?? [];
    if (name === undefined) continue;
    const [errno] = /\bE[A-Z]+\b/.exec(value === "-1" ? more : "") ?? [];
    const injected = more.includes("(INJECTED)");
    calls.push({ thread, name, args, began, ended: at, result: Number(value), errno, injected });
  }
  return calls;
}

/** The strings among a call's arguments: paths, or what was written. */
export function stringsOf({ args }: Call): string[] {
  return [...args.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text);
}

/** The path of the descriptor that a call is about. */
export function pathOf({ args }: Call): string {
  return /^\d+<([^>]*)>/.exec(args)?.[1] ?? "";
}
