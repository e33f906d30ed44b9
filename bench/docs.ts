// `npm run bench -- --docs`: writes a report's tables into docs/BENCHMARKS.md, between the two marks there, and its pictures
// beside it, so that no figure of that page is typed by hand and each stands under the command that printed it.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pictures } from "./report.js";
import type { Report } from "./result.js";
import { goalLines, markdownTable } from "./tables.js";

/** This file runs from bench/.out/. */
const DOCS = join(import.meta.dirname, "../../docs");
const BEGIN = "<!-- figures: npm run bench -- --docs writes from here -->";
const END = "<!-- figures: to here -->";

/** What stands between the marks: when, how and where, then each workload's table and goals, and the pictures. */
export function figuresOf(report: Report, names: Iterable<string>): string {
  const { date, command, machine, rounds, workloads } = report;
  const lines = [
    `${date.slice(0, 10)}, \`${command}\`, medians over ${rounds} rounds:`,
    "",
    ...machine.map((line) => `- ${line}`),
    "",
  ];
  for (const name of names) lines.push(`![${name.replace(/\.svg$/, "").replaceAll("-", " ")}](bench/${name})`, "");
  for (const workload of workloads) {
    lines.push(`### ${workload.name}`, "", workload.title, "", markdownTable(workload), "");
    const goals = goalLines(workload).map((line) => `- ${line}`);
    if (goals.length > 0) lines.push(...goals, "");
  }
  return lines.join("\n");
}

/** @throws when docs/BENCHMARKS.md has no marks. */
export function writeDocs(report: Report): void {
  const path = join(DOCS, "BENCHMARKS.md");
  const page = readFileSync(path, "utf8");
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END);
  if (from < 0 || to < from) throw new Error(`${path} has no marks to write the figures between`);
  const all = pictures(report);
  const folder = join(DOCS, "bench");
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) if (name.endsWith(".svg")) rmSync(join(folder, name));
  for (const [name, svg] of all) writeFileSync(join(folder, name), svg);
  writeFileSync(path, `${page.slice(0, from)}${BEGIN}\n\n${figuresOf(report, all.keys())}\n${page.slice(to)}`);
}
