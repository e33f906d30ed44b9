// The examples of README.md and docs/ are programs: every ```ts block with the comment `// runs` is checked by the
// TypeScript compiler against src/, under the same options as src/, and then run against dist/ in a directory of its own.
// What a block prints must equal its `// => ` comments, line by line, when it has any. Needs dist/ (`npm run build`).

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { childEnv } from "./child-env.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));

/** A block of one page; `line` is where its first line stands there. */
interface Example {
  readonly page: string;
  readonly line: number;
  readonly code: string;
}

/** The ```ts blocks of a page that carry the comment `// runs`. */
function examplesOf(page: string, text: string): Example[] {
  const examples: Example[] = [];
  for (const match of text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)) {
    const code = match[1] ?? "";
    if (!/^\/\/ runs\b/m.test(code)) continue;
    examples.push({ page, line: text.slice(0, match.index).split("\n").length + 1, code });
  }
  return examples;
}

/** What the compiler says to the examples, each message with its page and line there. */
/** Type errors of the examples, as a reader gets them whose tsconfig has these libraries besides ours. */
function typeErrors(examples: readonly Example[], libraries: readonly string[] = []): string[] {
  const { config } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent({ ...config, files: [], include: [] }, ts.sys, root);
  const names = examples.map((_example, at) => join(root, "test", `.example-${at}.mts`));
  const virtual = new Map(examples.map((example, at) => [names[at] ?? "", example]));
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => virtual.has(name) || fileExists(name);
  host.readFile = (name) => virtual.get(name)?.code ?? readFile(name);
  host.getSourceFile = (name, ...rest) => {
    const example = virtual.get(name);
    return example === undefined
      ? getSourceFile(name, ...rest)
      : ts.createSourceFile(name, example.code, rest[0], true);
  };
  const lib = [...(options.lib ?? []), ...libraries.map((name) => `lib.${name}.d.ts`)];
  const program = ts.createProgram(names, { ...options, lib, noUnusedLocals: false, noUnusedParameters: false }, host);
  const messages: string[] = [];
  for (const name of names) {
    const example = virtual.get(name);
    const file = program.getSourceFile(name);
    if (example === undefined || file === undefined) throw new Error(`no program for ${name}`);
    for (const fault of [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]) {
      const line = example.line + file.getLineAndCharacterOfPosition(fault.start ?? 0).line;
      messages.push(`${example.page}:${line} ${ts.flattenDiagnosticMessageText(fault.messageText, " ")}`);
    }
  }
  return messages;
}

const pages = [
  "README.md",
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];
const examples = pages.flatMap((page) => examplesOf(page, readFileSync(join(root, page), "utf8")));

describe("examples", () => {
  let home = "";
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), "stablelog-docs-"));
    mkdirSync(join(home, "node_modules"));
    symlinkSync(root, join(home, "node_modules", "stablelog"), "junction");
  });
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  async function runExample(name: string, code: string): Promise<{ stdout: string; stderr: string }> {
    const { outputText } = ts.transpileModule(code, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
    });
    const dir = join(home, name);
    mkdirSync(dir);
    writeFileSync(join(dir, "example.mjs"), outputText);
    return run(process.execPath, ["example.mjs"], { cwd: dir, env: childEnv(), timeout: 30_000 });
  }

  test("README.md has some that run", () => {
    expect(examples.filter((example) => example.page === "README.md").length).toBeGreaterThanOrEqual(2);
  });

  test.each([[[]], [["dom", "dom.iterable"]]])(
    "have the types they claim, with further libraries %j",
    (libraries) => {
      expect(typeErrors(examples, libraries)).toEqual([]);
    },
    60_000,
  );

  test.each(examples.map((example) => [`${example.page}:${example.line}`, example] as const))(
    "%s runs",
    async (name, { code }) => {
      const { stdout, stderr } = await runExample(name.replace(/\W+/g, "-"), code);
      expect(stderr).toBe("");
      const claimed = [...code.matchAll(/\/\/ => (.*)$/gm)].map(([, line]) => line);
      if (claimed.length > 0) expect(stdout.trimEnd().split("\n")).toEqual(claimed);
    },
    60_000,
  );
});

describe("links", () => {
  test.each(pages)("%s points only at pages that are there", (page) => {
    const text = readFileSync(join(root, page), "utf8").replace(/^```[\s\S]*?^```$/gm, "");
    const targets = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, target]) => target ?? "");
    const there = (target: string): boolean => {
      const path = fileURLToPath(new URL(target, new URL(page, new URL("../", import.meta.url))));
      return ts.sys.fileExists(path) || ts.sys.directoryExists(path);
    };
    expect(targets.filter((target) => !/^[a-z]+:/.test(target) && !there(target))).toEqual([]);
  });
});

describe("examplesOf()", () => {
  test("takes the ts blocks that say they run, with their line", () => {
    const page = [
      "# Page",
      "",
      "```ts",
      "// runs",
      "f();",
      "```",
      "",
      "```ts",
      "g();",
      "```",
      "```sh",
      "// runs",
      "```",
    ];
    expect(examplesOf("page.md", page.join("\n"))).toEqual([{ page: "page.md", line: 4, code: "// runs\nf();\n" }]);
  });
});

describe("typeErrors()", () => {
  test("gives page and line of a wrong type", () => {
    const faults = typeErrors([{ page: "page.md", line: 10, code: "// runs\nconst x: number = 'one';\n" }]);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/^page\.md:11 Type 'string' is not assignable to type 'number'/);
  }, 60_000);
});
