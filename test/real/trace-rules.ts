// What a log of system calls must show of durability, whatever the program says of itself:
//   sync      an acknowledgement comes after a sync that began after the last write to a segment, and returned 0
//   name      ... and after a sync of the directory that began after the segment had got its name; the names of the
//             directory, of STATE and of a snapshot's file likewise
//   STATE     ... and after a sync of STATE that covers what it says of the newest segment; STATE says nothing of a segment
//             with unsynced bytes in it
//   failed    once a sync of a file has failed, neither a sync nor a write goes to that file again, under whatever name and
//             descriptor, until the program says that it opens the log again
// Acknowledgements are lines of the program on its standard output.

import { dirname } from "node:path";
import { type Call, pathOf, stringsOf } from "./strace.js";

/** Where STATE's unsynced watermarks begin: docs/FORMAT.md. */
const WATERMARK_AT = 16384;

/** A file, under whatever name. A number that stands for a line of the log is 0 when a sync has covered what happened. */
interface File {
  /** Line at which the last write that must be synced ended. */
  written: number;
  /** Line at which it got its name. */
  named: number;
  /** A sync of it failed. */
  failed: boolean;
}

export interface Verdict {
  /** Broken rules, in the order of the trace. */
  readonly problems: readonly string[];
  /** What was looked at: a log that shows nothing breaks no rule. */
  readonly acknowledgements: number;
  readonly segments: number;
  readonly snapshots: number;
  readonly failedSyncs: number;
}

/**
 * Holds the calls of one process on the log in `dir` against the rules. `needsSync` says of an acknowledgement, by its line,
 * whether it is one of a save that must be synced; undefined when the log shows too little to judge acknowledgements.
 */
export function judge(
  calls: readonly Call[],
  dir: string,
  needsSync: ((line: string) => boolean) | undefined,
): Verdict {
  const problems: string[] = [];
  const files = new Map<string, File>();
  const segments = new Set<File>();
  let acknowledgements = 0;
  let snapshots = 0;
  let failedSyncs = 0;
  const isSegment = (path: string): boolean => path.startsWith(`${dir}/`) && path.endsWith(".seg");
  const newFile = (path: string, named: number): File => {
    const file = { written: 0, named, failed: false };
    files.set(path, file);
    return file;
  };
  const fileAt = (path: string): File => files.get(path) ?? newFile(path, 0);

  const acknowledge = (line: string, at: number, synced: boolean): void => {
    acknowledgements++;
    const broken = (what: string): void => void problems.push(`line ${at + 1}, "${line}": ${what}`);
    const check = (path: string, contents: boolean): void => {
      const file = files.get(path);
      if (file === undefined) broken(`no ${path} was made`);
      else if (file.named > 0) broken(`the name ${path} was not synced`);
      else if (contents && file.written > 0) broken(`${path} was not synced`);
    };
    check(dir, false);
    check(`${dir}/STATE`, true);
    for (const path of files.keys()) if (isSegment(path)) check(path, synced);
    const [, index] = /^snapshot (\d+)$/.exec(line) ?? [];
    if (index === undefined) return;
    snapshots++;
    const prefix = `${dir}/${Number(index).toString(16).padStart(16, "0")}-`;
    const name = [...files.keys()].find((path) => path.startsWith(prefix) && path.endsWith(".snapshot"));
    check(name ?? prefix, true);
  };

  for (const call of calls) {
    const [first = "", second = ""] = stringsOf(call);
    const path = pathOf(call);
    switch (call.name) {
      case "mkdir":
        if (call.result === 0) newFile(first, call.ended);
        break;
      case "openat":
        if (call.result >= 0 && call.args.includes("O_EXCL")) newFile(first, call.ended);
        break;
      case "rename":
        if (call.result !== 0) break;
        files.set(second, fileAt(first));
        files.delete(first);
        fileAt(second).named = call.ended;
        break;
      case "unlink":
        if (call.result === 0) files.delete(first);
        break;
      case "pwrite64": {
        const file = fileAt(path);
        if (isSegment(path)) segments.add(file);
        if (file.failed) problems.push(`line ${call.ended + 1}: a write to ${path} after a sync of it failed`);
        const offset = Number(/, (\d+)$/.exec(call.args)?.[1]);
        if (path !== `${dir}/STATE`) file.written = call.ended;
        else if (offset < WATERMARK_AT) {
          file.written = call.ended;
          for (const [name, { written }] of files) {
            if (isSegment(name) && written > 0) problems.push(`line ${call.ended + 1}: STATE before a sync of ${name}`);
          }
        }
        break;
      }
      case "fdatasync":
      case "fsync": {
        const file = fileAt(path);
        if (file.failed) problems.push(`line ${call.ended + 1}: a second sync of ${path} after one failed`);
        if (call.result !== 0) {
          failedSyncs++;
          // A directory goes on to be synced, for other names: one whose sync failed is not used again.
          file.failed = path !== dir;
          break;
        }
        if (file.written < call.began) file.written = 0;
        for (const [name, one] of files) if (dirname(name) === path && one.named < call.began) one.named = 0;
        break;
      }
      case "write":
        if (!call.args.startsWith("1<")) break;
        for (const line of first.split("\\n")) {
          if (line === "reopening") for (const file of files.values()) file.failed = false;
          if (needsSync !== undefined && /^(saved|snapshot|compacted) /.test(line)) {
            acknowledge(line, call.began, needsSync(line));
          }
        }
        break;
    }
  }
  return { problems, acknowledgements, segments: segments.size, snapshots, failedSyncs };
}
