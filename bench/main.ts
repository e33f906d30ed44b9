// `npm run bench`: measures on this machine and prints the machine first. Without a name it runs all workloads against the
// floor and the peers; `micro` has the parts that need no disk.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { bench, chosen } from "./bench.js";
import { writeDocs } from "./docs.js";
import { micro } from "./micro.js";
import { pictures, reportHtml } from "./report.js";
import type { Report, WorkloadResult } from "./result.js";
import { goalLines, textTable } from "./tables.js";
import { workloads } from "./workloads/index.js";

/** An argument as a shell takes it: the command that a report names is there to be copied. */
function shellWord(arg: string): string {
  return /^[\w./,:=-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`;
}

const usage = `Usage: npm run bench -- [WORKLOAD...] [OPTIONS]
       npm run bench -- micro

Workloads, all of them if none is named; the beginning of a name up to a dash stands for all that begin so:
${workloads.map(({ name, title }) => `  ${name.padEnd(18)} ${title}`).join("\n")}

  micro              checksums and their crossover, encoding, reading, index lookups; nothing touches a disk

Options:
  --rounds N         rounds; 5 if not given
  --seconds S        how long a row of a round is measured; 2 if not given
  --warm S           how long it runs before that; 0.5 if not given
  --rows A,B         these rows only, and the one that the others are compared with
  --quick            one round of a third of a second, without the workloads that take long: under two minutes
  --dir DIR          where to measure; the system's temporary directory if not given
  --json FILE        writes the report as JSON; - for stdout, and nothing else there
  --html FILE        writes the report as a page with pictures
  --pictures DIR     writes each picture as an SVG file
  --docs             writes the tables and the pictures into docs/
  --from FILE        measures nothing: takes the report from what --json wrote

The peers are installed by npm run bench:peers; a row that is not there is left out, and the report says why.`;

function positive(name: string, text: string | undefined, fallback: number, whole: boolean): number {
  const value = text === undefined ? fallback : Number(text);
  if (!(value > 0) || !Number.isFinite(value) || (whole && !Number.isInteger(value))) {
    throw new UsageError(`--${name} must be ${whole ? "a whole number" : "a number"} above 0, got '${text}'`);
  }
  return value;
}

class UsageError extends Error {}

function names(text: string | undefined): string[] {
  return (text ?? "").split(",").filter((name) => name !== "");
}

/** One line that is written over, on a terminal; nothing elsewhere. */
function progressBar(done: number, total: number, what: string): void {
  if (!process.stderr.isTTY) return;
  const width = 30;
  const filled = Math.round((width * done) / Math.max(1, total));
  const bar = done === total ? "" : `[${"#".repeat(filled)}${".".repeat(width - filled)}] ${done}/${total} ${what}`;
  process.stderr.write(`\r\x1b[K${bar}`);
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      warm: { type: "string" },
      rows: { type: "string" },
      quick: { type: "boolean", default: false },
      dir: { type: "string" },
      json: { type: "string" },
      html: { type: "string" },
      pictures: { type: "string" },
      docs: { type: "boolean", default: false },
      from: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(usage);
    return 0;
  }
  if (positionals[0] === "micro") {
    if (positionals.length > 1) throw new UsageError("micro goes alone");
    await micro();
    return 0;
  }
  const { quick, dir } = values;
  const say = values.json === "-" ? console.error : console.log;
  const show = (workload: WorkloadResult): void => {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    say(`\n${textTable(workload)}`);
    for (const line of goalLines(workload)) say(line);
  };
  let report: Report;
  if (values.from !== undefined) {
    report = JSON.parse(readFileSync(values.from, "utf8")) as Report;
    for (const line of report.machine) say(line);
    for (const workload of report.workloads) show(workload);
  } else {
    const unknown = positionals.find((name) => chosen({ only: [name], quick }).length === 0);
    if (unknown !== undefined) throw new UsageError(`there is no workload '${unknown}'`);
    report = await bench({
      only: positionals,
      quick,
      rounds: positive("rounds", values.rounds, quick ? 1 : 5, true),
      seconds: positive("seconds", values.seconds, quick ? 0.3 : 2, false),
      warmSeconds: positive("warm", values.warm, quick ? 0.1 : 0.5, false),
      rows: names(values.rows),
      dir,
      command: ["npm run bench", ...(args.length === 0 ? [] : ["--", ...args.map(shellWord)])].join(" "),
      began: (machine) => {
        for (const line of machine) say(line);
      },
      progress: progressBar,
      finished: show,
    });
  }
  const json = `${JSON.stringify(report, undefined, 1)}\n`;
  if (values.json === "-") process.stdout.write(json);
  else if (values.json !== undefined) writeFile(values.json, json);
  if (values.html !== undefined) writeFile(values.html, reportHtml(report));
  if (values.pictures !== undefined) {
    for (const [name, svg] of pictures(report)) writeFile(join(values.pictures, name), svg);
  }
  if (values.docs) writeDocs(report);
  return 0;
}

function writeFile(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const { code } = error as { code?: string };
    if (error instanceof UsageError || code?.startsWith("ERR_PARSE_ARGS") === true) {
      console.error(`npm run bench: ${(error as Error).message}\n\n${usage}`);
      process.exitCode = 2;
      return;
    }
    console.error(error);
    process.exitCode = 1;
  },
);
