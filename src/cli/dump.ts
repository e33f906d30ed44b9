// `stablelog dump DIR`: prints the entries of a log, one a line, without a lock and without a write. Reads a bounded piece
// at a time, so a log that is larger than memory can be dumped.

import { MAX_INDEX } from "../base/bytes.js";
import { type Entry, EntryType } from "../raftpb/types.js";
import { FileStorage } from "../storage/file-storage.js";
import {
  type Command,
  EXIT,
  integerOption,
  parseCommand,
  requiredDirectory,
  UsageError,
  wordOption,
} from "./command.js";
import { print, toHex, toJson } from "./terminal.js";

/** Entries are read in pieces of about this size. */
const PIECE_BYTES = 1024 * 1024;
const dataForms = ["hex", "text", "none"] as const;
type DataForm = (typeof dataForms)[number];

const typeNames = new Map<EntryType, string>(
  Object.entries(EntryType).map(([name, type]): [EntryType, string] => [type, name]),
);

export const dump: Command = {
  summary: "print the entries of a log",
  usage: [
    "Usage: stablelog dump DIR [--from I] [--to I] [--data hex|text|none] [--json]",
    "",
    "Prints the entries of the log in DIR: index, term, type, payload bytes and payload. Takes no lock and writes nothing.",
    "",
    "  --from I     the first index, inclusive; the log's first when not given",
    "  --to I       the last index, inclusive; the log's last when not given",
    "  --data FORM  how payloads are shown: hex (as when not given), text (a JSON string of the bytes as UTF-8) or none",
    "  --json       one JSON object a line",
  ].join("\n"),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const options = {
    from: { type: "string" },
    to: { type: "string" },
    data: { type: "string" },
    json: { type: "boolean" },
  } as const;
  const { values, positionals } = parseCommand(args, options, 1);
  const dir = requiredDirectory(positionals);
  const from = integerOption("from", values.from, 0, MAX_INDEX);
  const to = integerOption("to", values.to, 0, MAX_INDEX);
  if (from !== undefined && to !== undefined && from > to) throw new UsageError(`--from ${from} is above --to ${to}`);
  const form = wordOption("data", values.data, dataForms, "hex");
  const storage = await FileStorage.open(dir, { create: false, readOnly: true, cacheBytes: 0 });
  try {
    // Bounds beyond the log's ends are taken for its ends: "from 1" of a compacted log is what is left of it.
    const end = Math.min(to ?? MAX_INDEX, storage.lastIndex()) + 1;
    let next = Math.max(from ?? 0, storage.firstIndex());
    while (next < end) {
      for (const entry of readPiece(storage, next, end)) {
        await print(values.json === true ? toJson(jsonEntry(entry, form)) : entryLine(entry, form));
        next = entry.index + 1;
      }
    }
  } finally {
    await storage.close();
  }
  return EXIT.ok;
}

/** The entries of [lo, hi) that make up a piece; before damage they come one by one, so that none of them is held back. */
function readPiece(storage: FileStorage, lo: number, hi: number): Entry[] {
  try {
    return storage.entries(lo, hi, PIECE_BYTES);
  } catch {
    return storage.entries(lo, lo + 1);
  }
}

function payload(data: Uint8Array, form: DataForm): string | undefined {
  if (form === "none") return undefined;
  return form === "hex" ? toHex(data) : new TextDecoder().decode(data);
}

function typeName(type: EntryType): string {
  return typeNames.get(type) ?? String(type);
}

function jsonEntry({ index, term, type, data }: Entry, form: DataForm): Record<string, unknown> {
  return { index, term, type: typeName(type), bytes: data.length, data: payload(data, form) };
}

function entryLine({ index, term, type, data }: Entry, form: DataForm): string {
  const shown = payload(data, form);
  const head = `${index} term ${term} ${typeName(type)} ${data.length} B`;
  if (shown === undefined || shown === "") return head;
  return `${head} ${form === "text" ? JSON.stringify(shown) : shown}`;
}
