// `npm run bench`: workloads x rows x rounds. In every round each row runs once, in a fresh process, one after the other, and
// every round begins with another row; so a slow minute of the machine strikes all rows of a round alike, and a figure is
// compared with the floor of its own round. Called by main.ts.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { machineLines, syncLines } from "./machine.js";
import type { Report, RowResult, Sample, WorkloadResult } from "./result.js";
import type { Place, Rows, Run, Workload } from "./workload.js";
import { workloads } from "./workloads/index.js";

export interface BenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly dir: string | undefined;
  /** Workloads by name, or by what their names begin with; all when empty. */
  readonly only: readonly string[];
  /** Rows by name; all when empty. The base of a workload always runs. */
  readonly rows: readonly string[];
  /** Without the workloads that take long whatever is asked of them. */
  readonly quick: boolean;
  readonly command: string;
  /** Called with the lines about the machine before anything runs. */
  readonly began: (machine: readonly string[]) => void;
  /** Called with what has been done so far, of all there is to do. */
  readonly progress: (done: number, total: number, what: string) => void;
  /** Called with each workload when it is finished. */
  readonly finished: (result: WorkloadResult) => void;
}

/** The workloads that `only` asks for. */
export function chosen({ only, quick }: Pick<BenchOptions, "only" | "quick">): Workload[] {
  return workloads.filter(({ name, long }) => {
    if (only.length > 0) return only.some((each) => name === each || name.startsWith(`${each}-`));
    return !(quick && long === true);
  });
}

interface Answer extends Partial<Run> {
  readonly skipped?: string;
}

/** Runs one row in a process of its own. */
function runRow(workload: Workload, row: string, place: Place): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      ["--expose-gc", join(import.meta.dirname, "child.js"), workload.name, row, JSON.stringify(place)],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const last = output.trimEnd().split("\n").at(-1) ?? "";
      if (last.startsWith("{")) resolve(JSON.parse(last) as Answer);
      else resolve({ skipped: `ended with ${signal ?? `code ${code}`} and said nothing` });
    });
  });
}

/** @throws when a directory cannot be made; a row that fails is left out, and says why. */
export async function bench(options: BenchOptions): Promise<Report> {
  const { rounds, seconds, warmSeconds, dir = tmpdir(), command, began, progress, finished } = options;
  const list = chosen(options);
  const rowsOf = ({ rows, base }: Workload): string[] =>
    [...rows.keys()].filter((row) => options.rows.length === 0 || row === base || options.rows.includes(row));
  const total = rounds * list.reduce((sum, workload) => sum + rowsOf(workload).length, 0);
  const machine = [...machineLines(dir), ...syncLines(dir)];
  began(machine);
  const results: WorkloadResult[] = [];
  const before = new Map<string, Rows>();
  let done = 0;
  for (const workload of list) {
    const names = rowsOf(workload);
    const shared = mkdtempSync(join(dir, "stablelog-bench-"));
    const samples = new Map<string, Sample[]>(names.map((name) => [name, []]));
    const syncs = new Map<string, string>();
    const skipped = new Map<string, string>();
    try {
      for (let round = 0; round < rounds; round++) {
        for (let turn = 0; turn < names.length; turn++) {
          const row = names[(round + turn) % names.length] as string;
          progress(done++, total, `${workload.name}: ${row}`);
          if (skipped.has(row)) continue;
          const home = mkdtempSync(join(dir, "stablelog-bench-"));
          try {
            const answer = await runRow(workload, row, { dir: home, shared, seconds, warmSeconds });
            if (answer.sample === undefined) skipped.set(row, answer.skipped ?? "no answer");
            else samples.get(row)?.push(answer.sample);
            syncs.set(row, answer.syncs ?? "");
          } finally {
            rmSync(home, { recursive: true, force: true });
          }
        }
      }
    } finally {
      rmSync(shared, { recursive: true, force: true });
    }
    const rows: RowResult[] = names.map((row) => {
      const why = skipped.get(row);
      const mine = why === undefined ? (samples.get(row) ?? []) : [];
      return { row, syncs: syncs.get(row) ?? "", samples: mine, skipped: why };
    });
    const byName = new Map(rows.map((row) => [row.row, row]));
    const goals = workload.goals(byName, before).filter(({ measured }) => Number.isFinite(measured));
    before.set(workload.name, byName);
    const { name, title, unit, base, x } = workload;
    const result: WorkloadResult = { name, title, unit, base, x, rows, goals };
    results.push(result);
    finished(result);
  }
  progress(total, total, "");
  return { date: new Date().toISOString(), command, machine, rounds, workloads: results };
}
