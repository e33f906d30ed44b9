// docs/ARCHITECTURE.md against src/: every file it names is there, and every function it names, written `name()` or
// `Class.name()`, is declared in the file that was named before it in the same paragraph, list item or table row.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../", import.meta.url));
const page = readFileSync(`${root}docs/ARCHITECTURE.md`, "utf8");

/** The sources below `folder`, by their path there. */
function sourcesIn(folder: string): [path: string, text: string][] {
  return readdirSync(root + folder, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".ts"))
    .map((path) => [path, readFileSync(`${root}${folder}/${path}`, "utf8")]);
}

/** Names of functions, and of methods as `name` and as `Class.name`, that a source file declares. */
function declaredIn(text: string): Set<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node, owner: string | undefined): void => {
    const named =
      ts.isFunctionDeclaration(node) ||
      ts.isMethodDeclaration(node) ||
      ts.isMethodSignature(node) ||
      ts.isGetAccessorDeclaration(node);
    if (named && node.name !== undefined) {
      const name = node.name.getText();
      names.add(name);
      if (owner !== undefined) names.add(`${owner}.${name}`);
    }
    const inner = ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) ? node.name?.text : owner;
    ts.forEachChild(node, (child) => visit(child, inner));
  };
  visit(ts.createSourceFile("a.ts", text, ts.ScriptTarget.ES2022, true), undefined);
  return names;
}

/** What the page names that `files` (path to text) does not have. */
function missing(text: string, files: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  const parsed = new Map<string, Set<string>>();
  const prose = text.replace(/^```[\s\S]*?^```$/gm, "");
  for (const block of prose.split(/\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) ?)/)) {
    let path: string | undefined;
    let declared = new Set<string>();
    for (const [, file, name] of block.matchAll(/`(?:([\w/.-]+\.ts)|((?:\w+\.)?#?\w+)\(\))`/g)) {
      if (file !== undefined) {
        path = file;
        const found = files.get(path);
        if (found === undefined) problems.push(file);
        declared = parsed.get(path) ?? declaredIn(found ?? "");
        parsed.set(path, declared);
      } else if (path === undefined) {
        problems.push(`${name}() without a file`);
      } else if (!declared.has(name ?? "")) {
        problems.push(`${path}: ${name}()`);
      }
    }
  }
  return problems;
}

describe("docs/ARCHITECTURE.md", () => {
  const tests = sourcesIn("test").map(([path, text]) => [`test/${path}`, text] as const);
  const files = new Map([...sourcesIn("src"), ...tests]);

  test("names files and functions that are there", () => {
    expect(missing(page, files)).toEqual([]);
  });

  test("names every file of storage/, wal/, disk/ and node/", () => {
    const rooms = /^(?:storage|wal|disk|node)\/(?!index\.ts)/;
    const unnamed = [...files.keys()].filter((path) => rooms.test(path) && !page.includes(`\`${path}\``));
    expect(unnamed).toEqual([]);
  });
});

describe("missing()", () => {
  const files = new Map([
    ["a/b.ts", "export function f() {}\nexport class C {\n  #m() {}\n  get g() { return h(); }\n}\n"],
  ]);

  test("finds functions, methods and getters in the file named before them", () => {
    expect(missing("In `a/b.ts` `f()` calls `C.#m()`, `#m()` and `g()`.", files)).toEqual([]);
  });

  test("tells of files and functions that are not there, and of functions without a file", () => {
    expect(missing("`a/c.ts`\n\n`a/b.ts`: `h()`, `D.g()`\n\n`f()`\n", files)).toEqual([
      "a/c.ts",
      "a/b.ts: h()",
      "a/b.ts: D.g()",
      "f() without a file",
    ]);
  });
});
