// `stablelog inspect DIR`: what a log directory holds, for a person or as JSON. Looks without a lock and without a write,
// so it works beside a running log. A log that would be refused is listed all the same: its error first, then every name
// with what can be said of it. Exit code 1 then.

import { readFile } from "node:fs/promises";
import fse from "fs-extra";
import { viewOf } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import { LOCK_NAME } from "../disk/directory-lock.js";
import { joinPath } from "../disk/disk.js";
import { FileDisk } from "../disk/file-disk.js";
import { type ConfState, type HardState, isEmptyConfState } from "../raftpb/types.js";
import { decodeMark, getHardState } from "../storage/mark.js";
import { inspectSnapshot, isSnapshotName, snapshotName } from "../storage/snapshot-file.js";
import { Log } from "../wal/log.js";
import { NO_RECORDS } from "../wal/log-view.js";
import { checkLogOptions } from "../wal/options.js";
import type { RecoveryReport } from "../wal/recovery.js";
import {
  indexName,
  parseIndexName,
  parseSegmentName,
  SPARE_NAME,
  STATE_NAME,
  STATE_TMP_NAME,
} from "../wal/segment-name.js";
import { parseState } from "../wal/state-file.js";
import {
  type Command,
  type ErrorReport,
  EXIT,
  errorLines,
  errorReport,
  parseCommand,
  requiredDirectory,
} from "./command.js";
import { bytes, complain, count, duration, paint, pairs, print, table, toHex, toJson } from "./terminal.js";

export const inspect: Command = {
  summary: "show what a log directory holds",
  usage: [
    "Usage: stablelog inspect DIR [--json]",
    "",
    "Shows the log in DIR: identity, state, segments, snapshots, and every other name. Takes no lock and writes nothing,",
    "so the log may be in use. A log that would be refused is listed too, with the error.",
    "",
    "  --json  one JSON object on stdout",
    "",
    "Exit code 0 for a log that opens, 1 for one that is refused.",
  ].join("\n"),
  run,
};

type Kind = "state" | "segment" | "index" | "snapshot" | "unfinished" | "spare" | "lock" | "stray";

/** One name of the directory. */
interface Name {
  readonly name: string;
  readonly kind: Kind;
  /** The file's length, and what the file system gave it. */
  readonly bytes: number;
  readonly diskBytes: number;
}

/** What STATE says, where it can be read. */
interface Identity {
  readonly logId: string;
  readonly metadata: Uint8Array;
  /** Generation of the segment begun last. */
  readonly newest: number;
  readonly watermark: { readonly generation: number; readonly end: number; readonly closed: boolean } | undefined;
}

interface SegmentInfo {
  readonly name: string;
  readonly generation: number;
  /** Up to the end of the last frame that counts. */
  readonly usedBytes: number;
  readonly fileBytes: number | undefined;
  readonly diskBytes: number | undefined;
  /** The entries of the log that stand here; undefined when none does. */
  readonly first: number | undefined;
  readonly last: number | undefined;
  /** The side file's bytes; undefined when there is none. */
  readonly indexBytes: number | undefined;
}

interface SnapshotInfo {
  readonly name: string;
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
  /** Bytes of data; undefined when the file is refused. */
  readonly bytes: number | undefined;
  readonly error: ErrorReport | undefined;
}

/** A log that opens. */
interface LogInfo {
  readonly recovery: RecoveryReport;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly hardState: HardState;
  readonly confState: ConfState;
  /** Newest first. */
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
}

async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseCommand(args, { json: { type: "boolean" } }, 1);
  const dir = requiredDirectory(positionals);
  const names = await listNames(dir);
  const identity = await readIdentity(dir, names);
  let info: LogInfo | undefined;
  let refusal: unknown;
  try {
    const looked = await look(dir, names);
    info = looked.log;
    refusal = looked.refusal;
  } catch (error) {
    if (!(error instanceof StableLogError)) throw error;
    refusal = error;
  }
  const holder = await readHolder(dir, names);
  if (values.json === true) {
    const error = refusal === undefined ? undefined : errorReport(refusal);
    await print(toJson({ ok: error === undefined, dir, error, identity, holder, log: info, names }, 2));
  } else {
    await show(dir, names, identity, holder, info);
  }
  if (refusal === undefined) return EXIT.ok;
  for (const line of errorLines(refusal)) complain(line);
  return EXIT.failed;
}

function kindOf(name: string): Kind {
  if (name === STATE_NAME) return "state";
  if (name === SPARE_NAME) return "spare";
  if (name === STATE_TMP_NAME || (isSnapshotName(name) && name.endsWith(".tmp"))) return "unfinished";
  if (parseSegmentName(name) !== undefined) return "segment";
  if (parseIndexName(name) !== undefined) return "index";
  if (isSnapshotName(name)) return "snapshot";
  return name === LOCK_NAME || name.startsWith(`${LOCK_NAME}.`) ? "lock" : "stray";
}

async function listNames(dir: string): Promise<Name[]> {
  if (!(await fse.pathExists(dir)))
    throw new StableLogError("ERR_NOT_FOUND", `inspect ${dir}: there is no such directory`);
  const names: Name[] = [];
  for (const name of (await fse.readdir(dir)).sort()) {
    // In a log that is in use, a name may be gone by now.
    const stat = await fse.lstat(joinPath(dir, name)).catch(() => undefined);
    if (stat !== undefined) names.push({ name, kind: kindOf(name), bytes: stat.size, diskBytes: stat.blocks * 512 });
  }
  return names;
}

/** STATE's own word, also where the log is refused; undefined when it says nothing. */
async function readIdentity(dir: string, names: readonly Name[]): Promise<Identity | undefined> {
  if (!names.some(({ kind }) => kind === "state")) return undefined;
  try {
    const { logId, metadata, newest, watermark } = parseState(
      new Uint8Array(await readFile(joinPath(dir, STATE_NAME))),
    );
    const { generation, end, closed } = watermark ?? {};
    return {
      logId: toHex(logId),
      metadata,
      newest,
      watermark:
        generation === undefined || end === undefined ? undefined : { generation, end, closed: closed === true },
    };
  } catch {
    // Why it cannot be read is what opening the log reports.
    return undefined;
  }
}

/** The process that LOCK names; it holds the log if it still runs. */
async function readHolder(dir: string, names: readonly Name[]): Promise<number | undefined> {
  if (!names.some(({ name }) => name === LOCK_NAME)) return undefined;
  try {
    const { pid } = JSON.parse(await readFile(joinPath(dir, LOCK_NAME), "utf8")) as { pid?: unknown };
    return typeof pid === "number" ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** `refusal` is what open() would say to a log whose segments are sound: that of its newest snapshot. */
async function look(dir: string, names: readonly Name[]): Promise<{ log: LogInfo; refusal: unknown }> {
  const disk = new FileDisk();
  const log = await Log.open<undefined>(dir, {
    ...checkLogOptions(dir, { create: false, readOnly: true, cacheBytes: 0 }),
    disk,
    isOwnName: isSnapshotName,
    materialize: () => undefined,
    onRejected: () => {},
  });
  try {
    let refusal: unknown;
    const { confState, snapshots } = decodeMark(log.view.mark);
    const shown = snapshots.map((metadata): SnapshotInfo => {
      const known = { name: snapshotName(metadata), ...metadata };
      try {
        return { ...known, bytes: inspectSnapshot(disk, dir, log.logId, metadata), error: undefined };
      } catch (error) {
        if (metadata === snapshots[0]) refusal = error;
        return { ...known, bytes: undefined, error: errorReport(error) };
      }
    });
    const info: LogInfo = {
      recovery: log.recovery,
      firstIndex: log.view.dummyIndex + 1,
      lastIndex: log.view.last,
      hardState: getHardState(viewOf(log.view.state), 0),
      confState,
      snapshots: shown,
      segments: segmentsOf(log, names),
    };
    return { log: info, refusal };
  } finally {
    await log.close();
  }
}

/** Every segment with the entries it answers for: from its first one up to where the next segment that has any begins. */
function segmentsOf(log: Log<undefined>, names: readonly Name[]): SegmentInfo[] {
  const byName = new Map(names.map((each) => [each.name, each]));
  let last = log.view.last;
  return [...log.segments]
    .reverse()
    .map((segment): SegmentInfo => {
      const { name, generation, end, from } = segment;
      const file = byName.get(name);
      const first = Math.max(from, log.view.dummyIndex + 1);
      const holds = from !== NO_RECORDS && first <= last;
      const info = {
        name,
        generation,
        usedBytes: end,
        fileBytes: file?.bytes,
        diskBytes: file?.diskBytes,
        first: holds ? first : undefined,
        last: holds ? last : undefined,
        indexBytes: byName.get(indexName(generation))?.bytes,
      };
      last = Math.min(last, from - 1);
      return info;
    })
    .reverse();
}

async function show(
  dir: string,
  names: readonly Name[],
  identity: Identity | undefined,
  holder: number | undefined,
  log: LogInfo | undefined,
): Promise<void> {
  const rows: [string, string][] = [["directory", dir]];
  if (identity !== undefined) {
    rows.push(["log ID", identity.logId]);
    const { metadata, watermark } = identity;
    rows.push(["metadata", metadata.length === 0 ? "none" : `${toHex(metadata)} (${bytes(metadata.length)})`]);
    if (watermark === undefined) rows.push(["watermark", "none"]);
    else {
      const how = watermark.closed ? "closed" : "not closed";
      rows.push(["watermark", `segment ${watermark.generation} up to ${count(watermark.end)}, ${how}`]);
    }
  }
  if (holder !== undefined) rows.push(["LOCK names", `process ${holder}`]);
  if (log !== undefined) rows.push(...logRows(log));
  for (const line of pairs(rows)) await print(line);
  if (log !== undefined) await showLog(log);
  const rest = log === undefined ? names : names.filter(({ kind }) => kind !== "segment" && kind !== "index");
  await print();
  await print(paint("bold", log === undefined ? "Names" : "Other names"));
  const cells = rest.map((each) => [each.name, each.kind, bytes(each.bytes), bytes(each.diskBytes)]);
  for (const line of table(["name", "kind", "size", "on disk"], cells)) await print(line);
}

function logRows({ recovery, firstIndex, lastIndex, hardState, confState }: LogInfo): [string, string][] {
  const { verdict, file, offset, droppedBytes, carriedEntries, scannedBytes, ms } = recovery;
  let found: string = verdict;
  if (file !== undefined) found += `: ${count(droppedBytes)} B dropped at ${file}, offset ${offset}`;
  if (carriedEntries > 0) found += `, ${count(carriedEntries)} entries at the end that nothing vouches for`;
  const held = lastIndex < firstIndex ? `none, the next is ${firstIndex}` : `${firstIndex} to ${lastIndex}`;
  return [
    ["recovery", `${found} (${bytes(scannedBytes)} read in ${duration(ms)})`],
    ["entries", held],
    ["HardState", `term ${hardState.term}, vote ${hardState.vote}, commit ${hardState.commit}`],
    ["ConfState", confStateText(confState)],
  ];
}

async function showLog({ segments, snapshots }: LogInfo): Promise<void> {
  await print();
  await print(paint("bold", "Segments"));
  const size = (value: number | undefined): string => (value === undefined ? "gone" : bytes(value));
  const rows = segments.map((each) => {
    const range = each.first === undefined ? "none" : `${each.first} to ${each.last}`;
    const index = each.indexBytes === undefined ? "none" : bytes(each.indexBytes);
    return [
      each.name,
      String(each.generation),
      bytes(each.usedBytes),
      size(each.fileBytes),
      size(each.diskBytes),
      range,
      index,
    ];
  });
  for (const line of table(["name", "generation", "used", "size", "on disk", "entries", "index file"], rows)) {
    await print(line);
  }
  if (snapshots.length === 0) return;
  await print();
  await print(paint("bold", "Snapshots"));
  const cells = snapshots.map((each) => {
    const data = each.bytes === undefined ? `${each.error?.code}: ${each.error?.message}` : bytes(each.bytes);
    return [String(each.index), String(each.term), confStateText(each.confState), data];
  });
  for (const line of table(["index", "term", "ConfState", "data"], cells)) await print(line);
}

function confStateText(state: ConfState): string {
  if (isEmptyConfState(state)) return "not known";
  const groups: [string, readonly bigint[]][] = [
    ["voters", state.voters],
    ["learners", state.learners],
    ["outgoing voters", state.votersOutgoing],
    ["next learners", state.learnersNext],
  ];
  const named = groups.filter(([, ids]) => ids.length > 0).map(([name, ids]) => `${name} ${ids.join(" ")}`);
  return [...named, ...(state.autoLeave ? ["auto leave"] : [])].join(", ");
}
