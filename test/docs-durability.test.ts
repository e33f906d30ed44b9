// docs/DURABILITY.md against the code: its recovery tables are the comment of src/wal/recovery-table.ts, row by row, and each
// test that its fault matrix names is there: the file, and where a title is quoted, that title.

import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const root = new URL("../", import.meta.url);
const page = readFileSync(new URL("docs/DURABILITY.md", root), "utf8");

describe("docs/DURABILITY.md", () => {
  test("has the recovery tables of the code", () => {
    const source = readFileSync(new URL("src/wal/recovery-table.ts", root), "utf8");
    const comment = source.slice(0, source.indexOf("\nimport "));
    const tables = [...comment.matchAll(/(?:^\/\/ {3}\S.*\n)+/gm)].map(([rows]) => rows.replace(/^\/\/ {3}/gm, ""));
    expect(tables).toHaveLength(3);
    const fences = [...page.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map(([, body]) => body);
    expect(fences).toEqual(tables);
  });

  const rows = [...page.matchAll(/^\| (\d+) \| .* \| ([^|]*) \|$/gm)].map(([, fault = "", by = ""]) => ({ fault, by }));

  test("has every fault of the matrix once", () => {
    const numbers = rows.map(({ fault }) => Number(fault)).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: 65 }, (_, i) => i + 1));
  });

  test("names tests that are there, or says that there is none yet", () => {
    const problems: string[] = [];
    for (const { fault, by } of rows) {
      if (by === "no test yet" || by === "nothing can: there is nothing to notice") continue;
      for (const one of by.split("; ")) {
        const [, file, title] = /^`(test\/[\w/.-]+\.ts)`(?: "(.+)")?$/.exec(one) ?? [];
        if (file === undefined || !existsSync(new URL(file, root))) problems.push(`${fault}: ${one}`);
        else if (title !== undefined && !readFileSync(new URL(file, root), "utf8").includes(title)) {
          problems.push(`${fault}: no test called "${title}" in ${file}`);
        }
      }
    }
    expect(problems).toEqual([]);
  });
});
