// Real system calls that fail with EIO and ENOSPC in a real process: strace injects the error, and strace's log is the
// witness of what the process did next. Each failure is what docs/DURABILITY.md says it is, all that was acknowledged is
// there at the next open, and by the log itself no file is synced again after a sync of it has failed, and nothing is
// acknowledged before its bytes and names are synced.

import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Home } from "./home.js";
import { Ledger } from "./ledger.js";
import { Plan, type Task } from "./programs/plan.js";
import { type Call, FILE_CALLS, noStrace, PLAIN_POOL, pathOf, readTrace, stringsOf, underStrace } from "./strace.js";
import { judge } from "./trace-rules.js";

const why = noStrace();
const SEGMENT = "0000000000000001.seg";
const STATE = "STATE";
const SPARE = "spare";
const DIRECTORY = "";
/** The first snapshot of this life, under the name it is written by. */
const SNAPSHOT = "0000000000000006-0000000000000001.snapshot.1.tmp";

let home: Home;
let runs = 0;

interface Life {
  readonly task: Task;
  readonly calls: readonly Call[];
  readonly lines: readonly string[];
}

/** Segments in which all saves are small. In those of 4096 bytes many are large, and make their file longer. */
const ROOMY = { options: { sync: "inline", segmentBytes: 65536 } } as const;

/** Lets a child live under strace. `path`: count and fail only calls on this name of its directory, and see no others. */
async function live(change: Partial<Task>, inject: readonly string[] = [], path?: string): Promise<Life> {
  const number = ++runs;
  const dir = home.file(`log-${number}`);
  const task: Task = {
    dir,
    options: { sync: "inline", segmentBytes: 4096 },
    script: { seed: 3, sizes: "small", installs: 0 },
    round: 1,
    savers: 1,
    snapshotEvery: 5,
    keep: 3,
    saves: 12,
    ...change,
  };
  // What it says goes to a file, because strace can be told to look at a path and not at a pipe.
  const said = home.file(`said-${number}`);
  const log = home.file(`trace-${number}`);
  const paths = path === undefined ? [] : [said, path === DIRECTORY ? dir : `${dir}/${path}`];
  const strace = underStrace({ log, calls: [...FILE_CALLS, "write"], inject, paths });
  const child = home.start("failing", task, PLAIN_POOL, ["sh", "-c", 'exec "$@" >"$0"', said, ...strace]);
  const { code, stderr } = await child.ended;
  const lines = (await readFile(said, "utf8")).split("\n").slice(0, -1);
  expect([code, stderr, lines.at(-1)], lines.join("\n")).toEqual([0, "", "done"]);
  return { task, calls: await readTrace(log), lines };
}

/** Whether a line acknowledges what must be synced: all but saves that change commit alone. */
function needsSync({ script, round, saves = 0 }: Task): (line: string) => boolean {
  const plan = new Plan(script, round, 1, 0);
  const commits = new Set<string>();
  for (let i = 0; i < saves; i++) {
    const { serial, entries } = plan.next();
    if (entries.length === 0) commits.add(`saved ${serial}`);
  }
  return (line) => !commits.has(line);
}

describe.skipIf(why !== undefined)(`the system calls of a log ${why ?? ""}`, () => {
  beforeAll(async () => {
    home = await Home.make();
  });

  afterAll(() => home.remove());

  it.each(["inline", "worker", "auto"] as const)(
    "save() resolves after the syncs of bytes, names and STATE have returned (%s)",
    async (sync) => {
      const { task, calls } = await live({ options: { sync, segmentBytes: 4096 } });
      const { problems, segments, ...seen } = judge(calls, task.dir, needsSync(task));
      expect(problems).toEqual([]);
      expect(seen).toEqual({ acknowledgements: 16, snapshots: 2, failedSyncs: 0 });
      expect(segments).toBeGreaterThan(2);
    },
  );

  it("judge() finds each rule broken when the calls that keep it are taken out of the log", async () => {
    const { task, calls } = await live({});
    const { dir } = task;
    const without = (out: (call: Call) => boolean): string =>
      judge(
        calls.filter((call) => !out(call)),
        dir,
        needsSync(task),
      ).problems.join("\n");
    const isSync = ({ name }: Call): boolean => name === "fdatasync" || name === "fsync";
    expect(without(() => false)).toBe("");
    expect(without((call) => isSync(call) && pathOf(call).endsWith(".seg"))).toContain(`${SEGMENT} was not synced`);
    expect(without((call) => isSync(call) && pathOf(call) === dir)).toContain(`the name ${dir}/${SEGMENT} was not`);
    expect(without((call) => isSync(call) && pathOf(call) === home.path)).toContain(`the name ${dir} was not synced`);
    expect(without((call) => isSync(call) && pathOf(call) === `${dir}/STATE`)).toContain("/STATE was not synced");
    expect(without((call) => isSync(call) && pathOf(call).endsWith(".tmp"))).toContain(".snapshot was not synced");
    const first = calls.findIndex((call) => isSync(call) && pathOf(call).endsWith(".seg"));
    const failed = calls.with(first, { ...(calls[first] as Call), result: -1, errno: "EIO" });
    const { problems } = judge(failed, dir, undefined);
    expect(problems.join("\n")).toContain(`a second sync of ${dir}/${SEGMENT} after one failed`);
    expect(problems.join("\n")).toContain(`a write to ${dir}/${SEGMENT} after a sync of it failed`);
  });

  // What is said of a failure: what was called, the code, the system's, maybeDurable, the log's state afterwards.
  const poisons: readonly [string, string, string, "inline" | "worker", RegExp][] = [
    ["a group's sync", "fdatasync:error=EIO:when=2", SEGMENT, "inline", /^failed save ERR_POISONED EIO true poisoned$/],
    ["a group's sync", "fdatasync:error=EIO:when=2", SEGMENT, "worker", /^failed save ERR_POISONED EIO true poisoned$/],
    ["a group's sync", "fdatasync:error=ENOSPC:when=3", SEGMENT, "inline", /^failed save ERR_POISONED ENOSPC true poi/],
    [
      "a group's write",
      "pwrite64:error=EIO:when=3",
      SEGMENT,
      "inline",
      /^failed save ERR_POISONED EIO false poisoned$/,
    ],
    [
      "a group's write over zeros",
      "pwrite64:error=ENOSPC:when=2",
      SEGMENT,
      "worker",
      /^failed save ERR_POISONED ENOSPC \w+ pois/,
    ],
    ["naming a segment in STATE", "fdatasync:error=EIO:when=2", STATE, "inline", /^failed save ERR_POISONED EIO true/],
  ];

  it.each(poisons)(
    "%s that fails is ERR_POISONED, and that file is left alone until open() (%s, %s, %s)",
    async (...row) => {
      const [what, inject, path, sync, failure] = row;
      const segmentBytes = what.endsWith("zeros") ? ROOMY.options.segmentBytes : 4096;
      const { task, calls, lines } = await live({ options: { sync, segmentBytes } }, [inject], path);
      const injected = calls.filter((call) => call.injected);
      expect(injected).toHaveLength(1);
      expect(pathOf(injected[0] as Call)).toBe(`${task.dir}/${path}`);
      expect(lines.filter((line) => line.startsWith("failed"))).toEqual([
        expect.stringMatching(failure),
        expect.stringMatching(/^failed again ERR_POISONED E\w+ false poisoned$/),
      ]);
      expect(lines).toContain("reads 0");

      const { problems, failedSyncs } = judge(calls, task.dir, undefined);
      expect(problems).toEqual([]);
      expect(failedSyncs).toBe(inject.startsWith("fdatasync") ? 1 : 0);
      // The log did come back to that file, in a new open: the rule had something to forbid.
      const reopening = calls.findIndex((call) => call.name === "write" && stringsOf(call)[0] === "reopening\\n");
      expect(calls.slice(reopening).some((call) => call.name === "openat")).toBe(true);

      const found = await new Ledger().settle(task.dir, task, lines, inject);
      const acknowledged = lines.filter((line) => line.startsWith("saved")).length;
      expect(found.saves).toBeGreaterThanOrEqual(acknowledged);
    },
  );

  it("open() that fails to sync what a poisoned log has left is ERR_IO, and the next one finds all", async () => {
    // The count is each thread's: the first sync of a group fails on one, the first of an open on the other.
    const { task, calls, lines } = await live({}, ["fdatasync:error=EIO:when=1"], SEGMENT);
    expect(calls.filter((call) => call.injected)).toHaveLength(2);
    expect(lines.filter((line) => line.startsWith("failed"))).toEqual([
      "failed save ERR_POISONED EIO true poisoned",
      "failed again ERR_POISONED EIO false poisoned",
      "failed reopen ERR_IO EIO - -",
    ]);
    const { problems, failedSyncs } = judge(calls, task.dir, undefined);
    expect([problems, failedSyncs]).toEqual([[], 2]);
    await new Ledger().settle(task.dir, task, lines, "after two failed syncs");
  });

  const spares: readonly [string, string, string, RegExp][] = [
    ["filling a segment with zeros", "pwrite64:error=EIO:when=1", SPARE, /^failed save ERR_IO EIO - open$/],
    ["syncing the zeros of a segment", "fdatasync:error=EIO:when=1", SPARE, /^failed save ERR_IO EIO - open$/],
    ["making a segment", "openat:error=EMFILE:when=1", SPARE, /^failed save ERR_IO EMFILE - open$/],
    ["giving a segment its name", "rename:error=EIO:when=1", SPARE, /^failed save ERR_IO EIO - open$/],
    ["syncing the name of a segment", "fsync:error=EIO:when=3", DIRECTORY, /^failed save ERR_IO EIO - open$/],
    ["writing a snapshot", "pwrite64:error=ENOSPC:when=2", SNAPSHOT, /^failed snapshot ERR_NO_SPACE ENOSPC - open$/],
    ["syncing a snapshot", "fdatasync:error=EIO:when=1", SNAPSHOT, /^failed snapshot ERR_IO EIO - open$/],
    ["naming a snapshot", "rename:error=EIO:when=1", SNAPSHOT, /^failed snapshot ERR_IO EIO - open$/],
    ["reading STATE", "pread64:error=EIO:when=1", STATE, /^failed open ERR_READ EIO - -$/],
  ];

  it.each(spares)(
    "%s that fails poisons nothing, and the next call succeeds (%s, %s)",
    async (_, inject, path, failure) => {
      const { task, calls, lines } = await live(path === SPARE ? ROOMY : {}, [inject], path);
      expect(calls.filter((call) => call.injected)).toHaveLength(1);
      expect(lines.filter((line) => line.startsWith("failed"))).toEqual([expect.stringMatching(failure)]);
      expect(judge(calls, task.dir, undefined).problems).toEqual([]);
      const found = await new Ledger().settle(task.dir, task, lines, inject);
      expect([found.saves, found.verdict]).toEqual([task.saves, "clean"]);
    },
  );

  it.each([
    ["inline", "pwrite64:error=ENOSPC:when=3", "ENOSPC"],
    // Node has no name for this one.
    ["worker", "pwrite64:error=EDQUOT:when=3", "(EDQUOT|Unknown system error -\\d+)"],
    ["off", "pwrite64:error=ENOSPC:when=3", "ENOSPC"],
  ] as const)(
    "a group's write that finds no room for a longer file is cut off, and the next call succeeds (%s, %s)",
    async (sync, inject, cause) => {
      const { task, calls, lines } = await live({ options: { sync, segmentBytes: 4096 } }, [inject], SEGMENT);
      const at = calls.findIndex((call) => call.injected);
      expect(calls.filter((call) => call.injected)).toHaveLength(1);
      expect(lines.filter((line) => line.startsWith("failed"))).toEqual([
        expect.stringMatching(new RegExp(`^failed save ERR_NO_SPACE ${cause} - open$`)),
      ]);
      // Before anybody is told, and in this order: what went through is cut off, and the cut is made durable.
      const told = calls.findIndex(
        (call) => call.name === "write" && stringsOf(call)[0]?.startsWith("failed") === true,
      );
      const meanwhile = calls.slice(at + 1, told).filter(({ name }) => name !== "close");
      expect(meanwhile.map(({ name, result }) => [name, result])).toEqual(
        sync === "off"
          ? [["ftruncate", 0]]
          : [
              ["ftruncate", 0],
              ["fdatasync", 0],
            ],
      );
      expect(judge(calls, task.dir, undefined).problems).toEqual([]);
      const found = await new Ledger().settle(task.dir, task, lines, inject);
      expect([found.saves, found.verdict]).toEqual([task.saves, "clean"]);
    },
  );

  it("a group whose file may not become longer goes into the next segment, and what went through of it is cut off first", async () => {
    const inject = "pwrite64:error=EFBIG:when=3";
    const { task, calls, lines } = await live({ options: { sync: "inline", segmentBytes: 4096 } }, [inject], SEGMENT);
    expect(calls.filter((call) => call.injected)).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith("failed"))).toEqual([]);
    const at = calls.findIndex((call) => call.injected);
    const meanwhile = calls.slice(at + 1, at + 3).map(({ name, result }) => [name, result]);
    expect(meanwhile).toEqual([
      ["ftruncate", 0],
      ["fdatasync", 0],
    ]);
    expect(judge(calls, task.dir, undefined).problems).toEqual([]);
    const found = await new Ledger().settle(task.dir, task, lines, inject);
    expect([found.saves, found.verdict]).toEqual([task.saves, "clean"]);
  });

  const shrugs: readonly [string, readonly string[], string][] = [
    // There is room for fewer.
    ["writing the first zeros of a segment", ["pwrite64:error=ENOSPC:when=1"], SPARE],
    // Of the other thread's, which name a segment and mark the log closed, there are two.
    ["writing a watermark", ["pwrite64:error=EIO:when=3..9"], STATE],
    ["closing a segment", ["close:error=EIO:when=1+"], SEGMENT],
  ];

  it.each(shrugs)("%s that fails is no failure of a save (%s, %s)", async (_, inject, path) => {
    // One segment, so that STATE's other writes are not met.
    const { task, calls, lines } = await live(ROOMY, inject, path);
    expect(calls.filter((call) => call.injected).length).toBeGreaterThan(0);
    expect(lines.filter((line) => line.startsWith("failed"))).toEqual([]);
    const found = await new Ledger().settle(task.dir, task, lines, String(inject));
    expect(found.saves).toBe(task.saves);
  });

  it("close() rejects with ERR_POISONED when the mark that closes the log cannot be synced", async () => {
    const { task, calls, lines } = await live(ROOMY, ["fdatasync:error=EIO:when=3"], STATE);
    expect(calls.filter((call) => call.injected)).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith("failed"))).toEqual(["failed close ERR_POISONED EIO true poisoned"]);
    expect(judge(calls, task.dir, undefined).problems).toEqual([]);
    expect((await new Ledger().settle(task.dir, task, lines, "close")).saves).toBe(task.saves);
  });
});
