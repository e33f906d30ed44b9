// A child that saves by plan, one save after the other, while its system calls fail here and there, and says what became of
// each. What poisons nothing is called again. What poisons the log is followed to its end: another save, the reads, the
// close; then the log is opened again and takes a save.

import { FileStorage, StableLogError } from "stablelog";
import { confState, Plan, snapshotData, type Task } from "./plan.js";
import { say } from "./say.js";

const task = JSON.parse(process.argv[2] ?? "") as Task;
const { dir, options, script, round } = task;
let storage: FileStorage | undefined;

function bounds(of: FileStorage): string {
  const { term, vote, commit } = of.initialState().hardState;
  return `${of.firstIndex()} ${of.lastIndex()} ${term} ${vote} ${commit}`;
}

/** "failed", what was called, its code, the system's, whether it may be durable, and the state of the log after it. */
function sayFailure(what: string, error: unknown): void {
  if (!(error instanceof StableLogError)) throw error;
  const { code, maybeDurable = "-" } = error;
  const errno = (error.cause as { code?: string } | undefined)?.code ?? "-";
  say(`failed ${what} ${code} ${errno} ${maybeDurable} ${storage?.stats().state ?? "-"}`);
}

/** Calls once more what failed and poisoned nothing. False: the log is poisoned. */
async function attempt(what: string, call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
  } catch (error) {
    sayFailure(what, error);
    if (storage?.stats().state === "poisoned") return false;
    await call();
  }
  return true;
}

async function save(open: FileStorage): Promise<boolean> {
  const plan = new Plan(script, round, open.firstIndex(), open.lastIndex());
  for (let left = task.saves ?? 0; left > 0; left--) {
    const { serial, ...planned } = plan.next();
    if (!(await attempt("save", () => open.save(planned)))) return false;
    say(`saved ${serial}`);
    const index = open.lastIndex() - task.keep;
    if (serial % task.snapshotEvery !== 0 || index <= open.firstIndex()) continue;
    const data = snapshotData(script, index, open.term(index));
    say(`snapshotting ${index}`);
    if (!(await attempt("snapshot", () => open.createSnapshot(index, confState, data)))) return false;
    say(`snapshot ${index}`);
    say(`compacting ${index}`);
    if (!(await attempt("compact", () => open.compact(index)))) return false;
    say(`compacted ${index}`);
  }
  try {
    await open.close();
  } catch (error) {
    sayFailure("close", error);
    closeFailed = true;
  }
  return !closeFailed;
}

/** What a poisoned log still does. */
async function lookAround(of: FileStorage): Promise<void> {
  const first = of.firstIndex();
  const last = of.lastIndex();
  try {
    await of.save({ hardState: of.initialState().hardState, mustSync: true });
    say("took a save");
  } catch (error) {
    sayFailure("again", error);
  }
  say(`reads ${first > last ? 0 : of.entries(first, last + 1).length - (last + 1 - first)}`);
  await of.close();
}

let closeFailed = false;
await attempt("open", async () => {
  storage = await FileStorage.open(dir, options);
});
if (storage === undefined) throw new Error("not open");
say(`open ${bounds(storage)}`);
if (!(await save(storage))) {
  if (!closeFailed) await lookAround(storage);
  storage = undefined;
  await attempt("reopen", async () => {
    say("reopening");
    storage = await FileStorage.open(dir, options);
    say(`reopened ${bounds(storage)}`);
    await storage.save({ hardState: storage.initialState().hardState, mustSync: true });
    await storage.close();
  });
}
say("done");
