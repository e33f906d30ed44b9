// The recovery tables: every combination of facts has exactly one answer, no row is idle, and the comment that people read
// says the same as the data that recovery reads.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.js";
import {
  DIRECTORY_CASES,
  decideDirectory,
  decideSegment,
  decideTail,
  matching,
  SEGMENT_CASES,
  TAIL_CASES,
} from "../../src/wal/recovery-table.js";

type Value = string | boolean;
type Facts = Record<string, Value>;
type Rows = readonly (Facts & { decision: string })[];

const both = [true, false];
const tables: [
  name: string,
  rows: Rows,
  columns: Record<string, readonly Value[]>,
  decide: (facts: never) => string,
][] = [
  [
    "DIRECTORY",
    DIRECTORY_CASES,
    { state: ["missing", "unreadable", "newer", "readable"], ours: both, etcd: both, create: both },
    decideDirectory,
  ],
  [
    "SEGMENT",
    SEGMENT_CASES,
    {
      place: ["newer", "named", "older"],
      head: ["valid", "zero", "torn", "absent", "foreign", "copy", "newer"],
      needed: both,
    },
    decideSegment,
  ],
  [
    "TAIL",
    TAIL_CASES,
    { closedHere: both, vouched: both, zeros: both, oneBit: both, policy: ["refuse", "drop"] },
    decideTail,
  ],
];

function combinations(columns: Record<string, readonly Value[]>): Facts[] {
  let facts: Facts[] = [{}];
  for (const [name, values] of Object.entries(columns)) {
    facts = facts.flatMap((fact) => values.map((value) => ({ ...fact, [name]: value })));
  }
  return facts;
}

/** The rows of one table of the comment, cell by cell; "yes" and "no" as booleans. */
function commentRows(name: string, columns: readonly string[]): Facts[] {
  const source = readFileSync(new URL("../../src/wal/recovery-table.ts", import.meta.url), "utf8");
  const lines = source.split("\n");
  const from = lines.findIndex((line) => line.startsWith(`// ${name}: `));
  const header = lines.findIndex((line, i) => i > from && line.endsWith("| decision"));
  const rows: Facts[] = [];
  for (const line of lines.slice(header + 1)) {
    if (!line.startsWith("//   ")) break;
    const [left = "", right = ""] = line.slice(2).split(" | ");
    const cells = left.trim().split(/\s+/);
    expect(cells, line).toHaveLength(columns.length);
    const row: Facts = {};
    for (const [i, column] of columns.entries()) {
      const cell = cells[i] ?? "";
      row[column] = cell === "yes" ? true : cell === "no" ? false : cell;
    }
    const decision = /^(?:refuse (ERR_\w+)|(\w+))(?:: .+)?$/.exec(right);
    row["decision"] = decision?.[1] ?? decision?.[2] ?? `unreadable: ${right}`;
    rows.push(row);
  }
  return rows;
}

describe.each(tables)("%s", (name, rows, columns, decide) => {
  it("answers every combination of facts with exactly one row", () => {
    for (const facts of combinations(columns)) {
      const found = matching(rows, facts);
      expect(found, JSON.stringify(facts)).toHaveLength(1);
      expect(decide(facts as never)).toBe(found[0]?.decision);
    }
  });

  it("has no row that nothing comes to, and no value that is not a fact", () => {
    const all = combinations(columns);
    for (const row of rows) {
      expect(
        all.some((facts) => matching([row], facts).length === 1),
        JSON.stringify(row),
      ).toBe(true);
      expect(Object.keys(row)).toEqual([...Object.keys(columns), "decision"]);
    }
  });

  it("stands in the comment row by row", () => {
    expect(commentRows(name, Object.keys(columns))).toEqual(rows.map((row) => ({ ...row })));
  });
});

describe("decide", () => {
  it("breaks on facts that no row knows", () => {
    const facts = { place: "newer", head: "unheard of", needed: true } as never;
    expect(() => decideSegment(facts)).toThrow(AssertionError);
  });

  it("never takes damage that something vouches for as a tear, whatever the policy", () => {
    for (const policy of ["refuse", "drop"] as const) {
      for (const oneBit of both) {
        for (const zeros of both) {
          expect(decideTail({ closedHere: false, vouched: true, zeros, oneBit, policy })).toBe("ERR_CORRUPT");
        }
      }
    }
  });
});
