// A child under a limit of the system: of the size of a file, or of open files. It does what is within the limit, then what
// is not, then what is within it again, and says what became of each.

import { closeSync, openSync } from "node:fs";
import { FileStorage, StableLogError } from "stablelog";
import { confState, Plan, type PlannedSave, snapshotData, type Task } from "./plan.js";
import { say } from "./say.js";

const task = JSON.parse(process.argv[2] ?? "") as Task & { readonly limit: "file size" | "open files" };
const { dir, options, script, round } = task;

const storage = await FileStorage.open(dir, options);
const { term, vote, commit } = storage.initialState().hardState;
say(`open ${storage.firstIndex()} ${storage.lastIndex()} ${term} ${vote} ${commit}`);
const plan = new Plan(script, round, storage.firstIndex(), storage.lastIndex());
let pending: PlannedSave | undefined;

async function attempt(what: string, call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    if (!(error instanceof StableLogError)) throw error;
    const { code, maybeDurable = "-" } = error;
    const errno = (error.cause as { code?: string } | undefined)?.code ?? "-";
    say(`failed ${what} ${code} ${errno} ${maybeDurable} ${storage.stats().state}`);
    return false;
  }
}

/** Saves until one is refused, or `most` times; a save that was refused comes first. */
async function save(what: string, most: number): Promise<void> {
  for (let left = most; left > 0; left--) {
    pending ??= plan.next();
    const { serial, ...planned } = pending;
    if (!(await attempt(what, () => storage.save(planned)))) return;
    say(`saved ${serial}`);
    pending = undefined;
  }
}

async function snapshot(what: string, data?: Uint8Array): Promise<void> {
  const index = storage.lastIndex() - 1;
  say(`snapshotting ${index}`);
  const bytes = data ?? snapshotData(script, index, storage.term(index));
  if (await attempt(what, () => storage.createSnapshot(index, confState, bytes))) say(`snapshot ${index}`);
}

if (task.limit === "file size") {
  await save("save", 100);
  await snapshot("large snapshot", new Uint8Array(100_000));
  await snapshot("snapshot");
  // Nothing of it may stay, neither on disk nor in what later saves are judged by.
  const last = storage.lastIndex();
  const large = { term: round, index: last + 1, type: 0 as const, data: new Uint8Array(100_000) };
  await attempt("large save", () => storage.save({ entries: [large] }));
  await save("save", 30);
} else {
  await save("save", 5);
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync("/dev/null", "r"));
  } catch (error) {
    say(`taken ${(error as { code?: string }).code}`);
  }
  await snapshot("snapshot");
  await save("save", 1000);
  for (const fd of taken) closeSync(fd);
  await snapshot("snapshot");
  await save("save", 30);
}
await attempt("close", () => storage.close());
say("done");
