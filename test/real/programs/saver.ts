// A child that opens a log and saves by plan: several saves at a time, a snapshot and a compaction now and then. It says on
// its standard output what it is about to do and what was acknowledged, each in a line that is written before anything else
// happens, so that a test knows after a kill what must be there and what may be. Runs as the main program or as a worker.

import { FileStorage, StableLogError } from "stablelog";
import { confState, Plan, snapshotData, type Task } from "./plan.js";
import { say } from "./say.js";

const task = JSON.parse(process.argv[2] ?? "") as Task;
const { dir, options, script, round } = task;

function bounds(storage: FileStorage): string {
  const { term, vote, commit } = storage.initialState().hardState;
  return `${storage.firstIndex()} ${storage.lastIndex()} ${term} ${vote} ${commit}`;
}

say("ready");
const storage = await FileStorage.open(dir, options);
say(`open ${bounds(storage)}`);
const plan = new Plan(script, round, storage.firstIndex(), storage.lastIndex());
let submitted = 0;
let acknowledged = 0;
let tidying = false;

/** What a received snapshot has overtaken is no failure. */
function unlessOvertaken(error: unknown): void {
  const overtaken = ["ERR_SNAP_OUT_OF_DATE", "ERR_COMPACTED"];
  if (!(error instanceof StableLogError && overtaken.includes(error.code))) throw error;
}

async function tidy(): Promise<void> {
  const index = storage.lastIndex() - task.keep;
  if (index <= storage.firstIndex() || index <= storage.snapshot().metadata.index) return;
  const data = snapshotData(script, index, storage.term(index));
  say(`snapshotting ${index}`);
  await storage.createSnapshot(index, confState, data).then(() => say(`snapshot ${index}`), unlessOvertaken);
  // Below the snapshot, so that a follower that lags a little need not be sent it.
  if (index - 1 < storage.firstIndex()) return;
  say(`compacting ${index - 1}`);
  await storage.compact(index - 1).then(() => say(`compacted ${index - 1}`), unlessOvertaken);
}

async function saver(): Promise<void> {
  while (task.saves === undefined || submitted < task.saves) {
    submitted++;
    const { serial, ...save } = plan.next();
    await storage.save(save);
    say(`saved ${serial}`);
    acknowledged++;
    if (acknowledged === task.end?.after) end(task.end.how);
    if (acknowledged % task.snapshotEvery !== 0 || tidying) continue;
    tidying = true;
    await tidy();
    tidying = false;
  }
}

/** Ends this process while the other savers' saves are under way. */
function end(how: "exit" | "throw" | "reject"): void {
  if (how === "exit") process.exit(7);
  if (how === "reject") void Promise.reject(new Error("nobody hears this"));
  else {
    setImmediate(() => {
      throw new Error("nobody catches this");
    });
  }
}

await Promise.all(Array.from({ length: task.savers }, saver));
await tidy();
const before = bounds(storage);
await storage.close();
say("closed");
const again = await FileStorage.open(dir, options);
if (bounds(again) !== before) throw new Error(`closed as ${before}, opened as ${bounds(again)}`);
say(`reopened ${again.recovery.verdict}`);
await again.close();
