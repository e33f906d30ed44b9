// `stablelog verify DIR`: reads every segment and snapshot of a log and checks it, without a lock and without a write.
// Shows what is damaged; exit code 1 when anything is, or when the log is refused.

import { StableLogError } from "../base/errors.js";
import { FileStorage } from "../storage/file-storage.js";
import type { VerifyReport } from "../wal/verify.js";
import { type Command, EXIT, errorReport, parseCommand, requiredDirectory } from "./command.js";
import { bytes, count, paint, plural, print, table, toJson } from "./terminal.js";

export const verify: Command = {
  summary: "check every segment and snapshot of a log",
  usage: [
    "Usage: stablelog verify DIR [--json]",
    "",
    "Reads every segment and snapshot of the log in DIR and checks every frame, block, link and end. Takes no lock and",
    "writes nothing, so the log may be in use; what is durable at that moment is checked.",
    "",
    "  --json  one JSON object on stdout",
    "",
    "Exit code 0 when all is well, 1 when something is damaged or the log is refused.",
  ].join("\n"),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseCommand(args, { json: { type: "boolean" } }, 1);
  const dir = requiredDirectory(positionals);
  let report: VerifyReport;
  try {
    const storage = await FileStorage.open(dir, { create: false, readOnly: true });
    try {
      report = await storage.verify();
    } finally {
      await storage.close();
    }
  } catch (error) {
    if (values.json === true && error instanceof StableLogError) {
      await print(toJson({ ok: false, error: errorReport(error) }, 2));
    }
    throw error;
  }
  if (values.json === true) await print(toJson(report, 2));
  else await show(report);
  return report.ok ? EXIT.ok : EXIT.failed;
}

async function show({ ok, segments, bytes: read, damage }: VerifyReport): Promise<void> {
  const checked = `${plural(segments, "segment")}, ${bytes(read)} checked`;
  if (ok) {
    await print(`${paint("green", "ok")}: ${checked}`);
    return;
  }
  await print(`${paint("red", plural(damage.length, "damaged place"))}: ${checked}`);
  const rows = damage.map(({ code, file, offset, index, proof }) => {
    return [code, file, count(offset), index === undefined ? "" : count(index), proof];
  });
  for (const line of table(["code", "file", "offset", "entry", "proof"], rows)) await print(line);
}
