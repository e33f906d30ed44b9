// A child that saves by plan on a disk that is too small. It saves until it is refused, tries a snapshot, reads everything
// back, opens the log again while the disk is full, takes the ballast away, and goes on with the very save that was refused.

import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { FileStorage, StableLogError } from "stablelog";
import { confState, Plan, type PlannedSave, type Task } from "./plan.js";
import { say } from "./say.js";

const task = JSON.parse(process.argv[2] ?? "") as Task & { readonly ballast: string; readonly hold: boolean };
const { dir, options, script, round } = task;

function bounds(of: FileStorage): string {
  const { term, vote, commit } = of.initialState().hardState;
  return `${of.firstIndex()} ${of.lastIndex()} ${term} ${vote} ${commit}`;
}

function sayFailure(what: string, of: FileStorage, error: unknown): void {
  if (!(error instanceof StableLogError)) throw error;
  const errno = (error.cause as { code?: string } | undefined)?.code ?? "-";
  say(`failed ${what} ${error.code} ${errno} ${of.stats().state}`);
}

let storage = await FileStorage.open(dir, options);
say(`open ${bounds(storage)}`);
const plan = new Plan(script, round, storage.firstIndex(), storage.lastIndex());
let pending: PlannedSave | undefined;

/** Saves until that is refused, or `most` times. */
async function saveOn(what: string, most: number): Promise<void> {
  for (let left = most; left > 0; left--) {
    pending ??= plan.next();
    const { serial, ...planned } = pending;
    try {
      await storage.save(planned);
    } catch (error) {
      return sayFailure(what, storage, error);
    }
    say(`saved ${serial}`);
    pending = undefined;
  }
}

/** Reads all entries, as an owner that starts would. */
function readAll(): number {
  return storage.entries(storage.firstIndex(), storage.lastIndex() + 1).length;
}

/** Takes the room that a close gives back, to the last block. */
function topUp(): void {
  const fd = openSync(task.ballast, "a");
  try {
    for (;;) writeSync(fd, Buffer.alloc(1024, 1));
  } catch (error) {
    say(`topped up ${(error as { code?: string }).code}`);
  }
  closeSync(fd);
}

await saveOn("save", Number.POSITIVE_INFINITY);
// Full: the process is killed here, or goes on.
if (task.hold) await new Promise((resolve) => process.stdin.on("data", resolve));
const poisoned = storage.stats().state === "poisoned";
if (!poisoned) {
  const index = storage.lastIndex() - 1;
  await storage.createSnapshot(index, confState, new Uint8Array(4 << 20)).catch((error: unknown) => {
    sayFailure("snapshot", storage, error);
  });
}
say(`read ${readAll()} of ${storage.lastIndex() + 1 - storage.firstIndex()}`);
const before = bounds(storage);
await storage.close();
topUp();
storage = await FileStorage.open(dir, options);
say(`reopened ${bounds(storage) === before || poisoned}`);
// A poisoned log may hold the save that was refused, so the plan ends here.
if (!poisoned) {
  await saveOn("full", Number.POSITIVE_INFINITY);
  rmSync(task.ballast);
  await saveOn("freed", 20);
}
await storage.close();
say("done");
