// docs/ERRORS.md against the code: every code is a heading, in the order of src/base/errors.ts, with cause, state and what to
// do; and no page speaks of a code that does not exist.

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { errorCodes } from "../src/base/errors.js";

const root = new URL("../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

describe("docs/ERRORS.md", () => {
  const sections = read("docs/ERRORS.md").split(/^## /m).slice(1);

  test("has every code as a heading", () => {
    expect(sections.map((section) => section.split("\n", 1)[0])).toEqual([...errorCodes]);
  });

  test.each(errorCodes)("says of %s its cause, the state and what to do", (code) => {
    const section = sections.find((text) => text.startsWith(`${code}\n`)) ?? "";
    expect([...section.matchAll(/^(Cause|State|What to do): \S/gm)].map(([, label]) => label)).toEqual([
      "Cause",
      "State",
      "What to do",
    ]);
  });
});

describe("error codes", () => {
  const names = readdirSync(new URL("docs/", root)).filter((name) => name.endsWith(".md"));
  const pages = ["README.md", ...names.map((name) => `docs/${name}`)];
  const codes = new Set<string>(errorCodes);

  test.each(pages)("of %s exist", (page) => {
    const named = [...read(page).matchAll(/\bERR_[A-Z_]+\b/g)].map(([code]) => code);
    expect(named.filter((code) => !codes.has(code))).toEqual([]);
  });
});
