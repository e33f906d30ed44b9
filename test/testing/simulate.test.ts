// simulate() on a small log that is right, and on the same log with one mistake at a time: the right one holds in every
// state, each wrong one is caught, with a line that repeats it.

import { describe, expect, it } from "vitest";
import type { SimDisk } from "../../src/testing/sim-disk.js";
import { type Simulation, SimulationError, simulate } from "../../src/testing/simulate.js";
import { type Mistakes, SmallLog } from "./small-log.js";

/** Some appends, one after the other and together, a close, and some more. */
function workloadOf(mistakes: Mistakes): Simulation<string, SmallLog> {
  return {
    workload: async (disk, { ledger, random }) => {
      for (let life = 0; life < 2; life++) {
        const log = await SmallLog.open(disk, mistakes);
        for (let i = 0; i < 4; i++) {
          const text = `${life}.${i} `.repeat(1 + random.below(200));
          await ledger.keep(text, () => log.append(text, (bytes) => bytes.fill(0x40, 8)));
        }
        await log.close();
      }
    },
    recover: (disk) => SmallLog.open(disk, mistakes),
    check: (_disk, { ledger }, log) => ledger.check(log.records),
    seeds: 6,
  };
}

async function failureOf(simulation: Simulation<string, SmallLog>): Promise<SimulationError> {
  const error: unknown = await simulate(simulation).catch((reason: unknown) => reason);
  if (error instanceof SimulationError) return error;
  throw new Error(`a mistake was not caught: ${JSON.stringify(error)}`);
}

describe("simulate()", () => {
  it("resolves with its counts when a log is right", async () => {
    const report = await simulate(workloadOf({}));
    expect(report.seeds).toBe(6);
    expect(report.distinct).toBeGreaterThan(200);
    expect(report.nestedPoints).toBeGreaterThan(50);
  });

  for (const model of ["posix", "ext4", "prefix", "kill"] as const) {
    it(`resolves for a right log with crashes of model ${model}, and with sectors of 4096 bytes`, async () => {
      await simulate({ ...workloadOf({}), model, seeds: 2 });
      await simulate({ ...workloadOf({}), model, seeds: 2, sectorBytes: 4096 });
    });
  }

  const mistakes: readonly (keyof Mistakes)[] = [
    "noDirectorySync",
    "noSync",
    "lateSync",
    "noChecksum",
    "aliased",
    "cutsFirst",
  ];
  for (const mistake of mistakes) {
    it(`rejects with a line that repeats it when the log has the mistake ${mistake}`, async () => {
      const simulation = workloadOf({ [mistake]: true });
      const error = await failureOf(simulation);
      expect(error.line).toMatch(/^SEED=\d+ POINT=[\d/]+ MASK=\S+$/);
      expect(error.message).toContain(error.line);
      expect(error.story?.failed).toBe(true);
      const again = await failureOf({ ...simulation, replay: error.line });
      expect(again.line).toBe(error.line);
      expect((again.cause as Error).message).toBe((error.cause as Error).message);
      // The state that fails for the wrong log holds for the right one, where there is such a state.
      expect(error.report.states).toBeGreaterThan(0);
    });
  }

  it("finds a tail that comes back only in the life after next", async () => {
    // A torn record, a shorter one in its place, and behind that the end of the torn one, which happens to be a record.
    const inner = String.fromCharCode(1, 0, 0, 0, 0x43, 0xbe, 0xb7, 0xe8);
    const simulation: Simulation<string, SmallLog> = {
      workload: async (disk, { ledger }) => {
        const log = await SmallLog.open(disk, { keepsTail: true });
        await ledger.keep("first", () => log.append("first"));
        const long = `${"x".repeat(20)}${inner}a${"y".repeat(600)}`;
        ledger.submit(long);
        await log.append(long);
      },
      check: async (disk, { ledger }) => {
        const log = await SmallLog.open(disk, { keepsTail: true });
        const before = [...log.records];
        ledger.check(before);
        if (before.length !== 1) return;
        await log.append("z".repeat(20));
        await log.close();
        const after = await SmallLog.open(disk, { keepsTail: true });
        expect(after.records).toEqual([...before, "z".repeat(20)]);
      },
      seeds: 4,
    };
    const error = await failureOf(simulation);
    expect(error.message).toContain("a crash loses what it must not");
  });

  it("is the same each time: counts, states and failures", async () => {
    const [first, second] = [await simulate(workloadOf({})), await simulate(workloadOf({}))];
    expect({ ...first, ms: 0 }).toEqual({ ...second, ms: 0 });
    const [one, other] = [await failureOf(workloadOf({ noSync: true })), await failureOf(workloadOf({ noSync: true }))];
    expect(one.line).toBe(other.line);
  });

  it("rejects with the seed alone when the workload itself fails, or hangs", async () => {
    const broken = await failureOf({
      ...workloadOf({}),
      workload: () => Promise.reject(new Error("does not even run")),
    });
    expect(broken.line).toBe("SEED=0");
    expect(broken.message).toContain("does not even run");
    const hanging = await failureOf({ ...workloadOf({}), workload: () => new Promise(() => {}), hangMs: 20 });
    expect(hanging.message).toContain("hangs");
  });

  it("rejects when recovery hangs, and when check() gives false", async () => {
    const hanging = await failureOf({ ...workloadOf({}), recover: () => new Promise(() => {}), hangMs: 20 });
    expect(hanging.message).toContain("hangs");
    const wrong = await failureOf({ ...workloadOf({}), check: () => false });
    expect(wrong.message).toContain("check() gave false");
  });

  it("rejects when a state fails and the failure does not repeat, and tells of the failure", async () => {
    const good = workloadOf({});
    let checks = 0;
    const once = {
      ...good,
      check: () => {
        if (++checks === 3) throw new Error("the third one");
      },
    };
    const error = await failureOf(once);
    expect(error.message).toContain("does not when run again");
    expect(error.message).toContain("the third one");
    // Another run has fewer moments: there is nothing to run again.
    let runs = 0;
    const shorter: Simulation<string, SmallLog> = {
      ...workloadOf({ noSync: true }),
      seeds: 1,
      workload: async (disk, run) => {
        const { workload } = workloadOf({ noSync: true });
        if (runs++ === 0) await workload(disk, run);
        else await SmallLog.open(disk, {});
      },
    };
    expect((await failureOf(shorter)).message).toContain("does not when run again");
  });

  it("rejects whatever check() and recover() reject with", async () => {
    for (const reason of [undefined, null, 0, "a word"]) {
      const rejects = (): Promise<never> => Promise.reject(reason);
      expect(await failureOf({ ...workloadOf({}), check: rejects })).toMatchObject({ cause: reason });
      expect(await failureOf({ ...workloadOf({}), recover: rejects })).toMatchObject({ cause: reason });
    }
  });

  it("rejects a workload that throws at once, or asks nothing of its disk", async () => {
    const throws = (): never => {
      throw new Error("at once");
    };
    expect((await failureOf({ ...workloadOf({}), workload: throws })).message).toContain("at once");
    expect((await failureOf({ ...workloadOf({}), workload: async () => {} })).message).toContain("nothing of the disk");
  });

  it("throws a RangeError for seeds, limits and lines that make no sense", async () => {
    const good = workloadOf({});
    for (const seeds of [0, -1, 1.5, "5..3", "x", [], [-1], [1.5]]) {
      await expect(simulate({ ...good, seeds }), String(seeds)).rejects.toThrow(RangeError);
    }
    await expect(simulate({ ...good, states: 0 })).rejects.toThrow(RangeError);
    await expect(simulate({ ...good, nested: -1 })).rejects.toThrow(RangeError);
    await expect(simulate({ ...good, sectorBytes: 100 as 512 })).rejects.toThrow(RangeError);
    for (const mask of ["zz", "9", "000000000"]) {
      await expect(simulate({ ...good, replay: `SEED=1 POINT=0 MASK=${mask}` }), mask).rejects.toThrow(RangeError);
    }
  });

  it("tells of both crashes when the second one, within recovery, is to blame", async () => {
    // Recovery writes everything anew from the beginning, and a crash amid that leaves neither the old nor the new.
    const path = "/log";
    const content = async (disk: SimDisk): Promise<string> => {
      if ((await disk.stat(path)) === undefined) return "";
      const file = await disk.open(path, "read");
      const bytes = new Uint8Array(file.size());
      file.read(bytes, 0, bytes.length, 0);
      await file.close();
      return new TextDecoder().decode(bytes);
    };
    const error = await failureOf({
      workload: async (disk, { ledger }) => {
        const file = await disk.open(path, "create");
        await disk.syncDir("/");
        await ledger.keep("kept", () => file.commit(new TextEncoder().encode("kept"), 0, 4, 0));
      },
      recover: async (disk) => {
        const text = await content(disk);
        if (text === "") return undefined as unknown as SmallLog;
        const file = await disk.open(path, "write");
        await file.truncate(0);
        file.sync();
        await file.commit(new TextEncoder().encode(text), 0, text.length, 0);
        await file.close();
        return undefined as unknown as SmallLog;
      },
      check: async (disk, { ledger }) => (await content(disk)) === "kept" || ledger.acknowledged.length === 0,
      seeds: 1,
    });
    expect(error.line).toMatch(/POINT=\d+\/\d+ MASK=/);
    expect(error.message).toContain("within the recovery of that");
    expect(error.message).toContain(`truncate ${path}`);
    expect(error.story?.within?.operations.some(({ operation }) => operation === "truncate")).toBe(true);
  });

  it("begins with what prepare() has made, durably", async () => {
    const seen: number[] = [];
    const prepared = async (disk: SimDisk): Promise<void> => {
      const log = await SmallLog.open(disk, { noSync: true });
      await log.append("from before");
      await log.close();
    };
    await simulate<string, SmallLog>({
      prepare: prepared,
      workload: async (disk, { ledger }) => {
        const log = await SmallLog.open(disk);
        await ledger.keep("new", () => log.append("new"));
      },
      recover: (disk) => SmallLog.open(disk),
      check: (_disk, { ledger }, log) => {
        expect(log.records[0]).toBe("from before");
        ledger.check(log.records.slice(1));
        seen.push(log.records.length);
      },
      seeds: "3..5",
    });
    expect(new Set(seen)).toEqual(new Set([1, 2]));
  });

  it("stops at its budget, and takes seeds as a count, a range or a list", async () => {
    const counted = async (seeds: number | string | number[], budgetMs?: number): Promise<number> =>
      (await simulate({ ...workloadOf({}), states: 2, nested: 0, seeds, budgetMs })).seeds;
    expect(await counted(2)).toBe(2);
    expect(await counted("5..8")).toBe(3);
    expect(await counted([7, 9])).toBe(2);
    expect(await counted(50, 0)).toBe(1);
    await expect(counted("many")).rejects.toThrow(RangeError);
    await expect(simulate({ ...workloadOf({}), replay: "POINT=1" })).rejects.toThrow(RangeError);
    await expect(simulate({ ...workloadOf({}), replay: "SEED=0 POINT=9999 MASK=-" })).rejects.toThrow(RangeError);
    await expect(simulate({ ...workloadOf({}), model: "ntfs" as "posix" })).rejects.toThrow(RangeError);
  });
});
