// The floor plan of src/ as data, and the functions that hold a file to it. layering.test.ts runs them over src/ and over
// made-up files that break each rule. They read the syntax tree alone: nothing is resolved by a compiler, nothing is run.
// A problem is a sentence that names the file, what is wrong and what to use in its place.

import { builtinModules } from "node:module";
import { posix } from "node:path";
import ts from "typescript";

/** For every room, the rooms it may import from. "raft/storage.ts" is that one file of the room. */
export const rooms: Readonly<Record<string, readonly string[]>> = {
  base: [],
  raftpb: ["base"],
  raft: ["raftpb", "base"],
  disk: ["base"],
  wal: ["disk", "base"],
  storage: ["raft/storage.ts", "raftpb", "wal", "disk", "base"],
  node: ["raft", "raftpb", "base"],
  etcd: ["raftpb", "disk", "base"],
  testing: ["base", "raftpb", "raft", "disk", "wal", "storage", "node", "etcd"],
  cli: ["base", "raftpb", "raft", "disk", "wal", "storage", "node", "etcd", "testing"],
};

/** What the door src/index.ts may hand out; etcd and testing have doors of their own. */
const mainDoor = ["base", "raftpb", "raft", "disk", "wal", "storage", "node"];

/** The side of disk/ that stands on node:fs. */
const fileDiskSide = new Set(["disk/file-disk.ts", "disk/directory-lock.ts", "disk/sync-worker.ts"]);

/** The names of Node's own modules, as they may stand without "node:". */
const builtins = new Set(builtinModules);

const clockFile = "base/clock.ts";
const randomFile = "base/random.ts";
const useClock = "use nowMs() of base/clock.ts";
const useRandom = "use randomFill() of base/random.ts, or the entropy() of the Disk at hand";

/** One module that a file names, by whatever syntax. `target` is the src path, or undefined for a package. */
export interface Edge {
  readonly specifier: string;
  readonly target: string | undefined;
  /** False for what is only started from here, in a thread of its own: `new URL("./x.js", import.meta.url)`. */
  readonly loads: boolean;
  readonly line: number;
}

/** A src file read once: its path below src/ ("wal/frame.ts") and its tree. */
export interface SourceUnit {
  readonly path: string;
  readonly tree: ts.SourceFile;
  readonly edges: readonly Edge[];
}

export function parseUnit(path: string, text: string): SourceUnit {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true, ts.ScriptKind.TS);
  return { path, tree, edges: edgesOf(path, tree) };
}

/** The room of a src path; "" for the door src/index.ts. */
export function roomOf(path: string): string {
  const slash = path.indexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

/** Every problem of one file; `exists` tells whether a src path is there, `dependencies` are those of package.json. */
export function checkUnit(
  unit: SourceUnit,
  exists: (path: string) => boolean,
  dependencies: ReadonlySet<string>,
): string[] {
  return [...headerProblems(unit), ...importProblems(unit, exists, dependencies), ...syntaxProblems(unit)];
}

/** The circles among the files, each as the path that closes it. Imports of types count: a circle of words is one too. */
export function cycleProblems(units: readonly SourceUnit[]): string[] {
  const byPath = new Map(units.map((unit) => [unit.path, unit]));
  const done = new Set<string>();
  const trail: string[] = [];
  const problems: string[] = [];
  const visit = (path: string): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      const circle = [...trail.slice(at), path].map((name) => `src/${name}`).join(" -> ");
      problems.push(`imports run in a circle: ${circle}; move what both need into a file that both import`);
      return;
    }
    if (done.has(path)) return;
    trail.push(path);
    for (const edge of byPath.get(path)?.edges ?? []) {
      if (edge.loads && edge.target !== undefined && edge.target !== path) visit(edge.target);
      if (edge.loads && edge.target === path) problems.push(`src/${path}:${edge.line} imports itself`);
    }
    trail.pop();
    done.add(path);
  };
  for (const unit of units) visit(unit.path);
  return problems;
}

function lineOf(tree: ts.SourceFile, node: ts.Node): number {
  return tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
}

function edgesOf(path: string, tree: ts.SourceFile): Edge[] {
  const edges: Edge[] = [];
  const add = (literal: ts.Node | undefined, loads = true): void => {
    if (literal === undefined || !ts.isStringLiteralLike(literal)) return;
    const specifier = literal.text;
    const relative = specifier.startsWith(".");
    const target = relative ? posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts") : undefined;
    edges.push({ specifier, target, loads, line: lineOf(tree, literal) });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal);
    else if (ts.isCallExpression(node) && loadsModule(node.expression)) add(node.arguments[0]);
    else if (ts.isNewExpression(node) && node.expression.getText(tree) === "URL") {
      if (node.arguments?.[1]?.getText(tree) === "import.meta.url") add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return edges;
}

/** import(...), require(...) and process.getBuiltinModule(...). */
function loadsModule(callee: ts.Expression): boolean {
  if (callee.kind === ts.SyntaxKind.ImportKeyword) return true;
  if (ts.isIdentifier(callee)) return callee.text === "require";
  return ts.isPropertyAccessExpression(callee) && callee.name.text === "getBuiltinModule";
}

function headerProblems({ path, tree }: SourceUnit): string[] {
  const text = tree.text.replace(/^#!.*\n/, "");
  if (/^\/\/ \S/.test(text)) return [];
  return [`src/${path} says nothing of itself; open it with "//" lines: what it holds, who calls it, what it promises`];
}

function importProblems(
  unit: SourceUnit,
  exists: (path: string) => boolean,
  dependencies: ReadonlySet<string>,
): string[] {
  const problems: string[] = [];
  for (const edge of unit.edges) {
    const problem =
      edge.target === undefined
        ? packageProblem(unit.path, edge.specifier, dependencies)
        : arrowProblem(unit.path, edge.specifier, edge.target, exists);
    if (problem !== undefined) problems.push(`src/${unit.path}:${edge.line} ${problem}`);
  }
  return problems;
}

function arrowProblem(
  from: string,
  specifier: string,
  target: string,
  exists: (path: string) => boolean,
): string | undefined {
  if (target.startsWith("..")) return `imports "${specifier}", which is outside src; only what is in src is shipped`;
  if (!specifier.endsWith(".js")) return `imports "${specifier}"; write the extension, as in "../base/errors.js"`;
  if (!exists(target)) return `imports "${specifier}", but there is no src/${target}`;
  const room = roomOf(from);
  const targetRoom = roomOf(target);
  if (target === "index.ts" && room !== "cli") return `imports the main door; name the file that holds what it needs`;
  if (room === targetRoom) return undefined;
  const allowed = from === "index.ts" ? mainDoor : rooms[room];
  if (allowed === undefined)
    return `stands in src/${room}, a room that is not in the floor plan of test/layering-rules.ts`;
  if (target !== "index.ts" && !allowed.includes(targetRoom) && !allowed.includes(target)) {
    const may = allowed.length === 0 ? "no other room" : allowed.join(", ");
    const who = from === "index.ts" ? "the main door" : `${room}/`;
    return `imports src/${target}; ${who} may know ${may}: move what is shared there, or have it handed in`;
  }
  const isDoor = target.endsWith("/index.ts");
  if (isDoor && from !== "index.ts" && room !== "cli") {
    return `imports the door src/${target}; inside the package name the file that holds it`;
  }
  return undefined;
}

function packageProblem(from: string, specifier: string, dependencies: ReadonlySet<string>): string | undefined {
  const room = roomOf(from);
  if (builtins.has(specifier)) return `imports "${specifier}"; write "node:${specifier}"`;
  if (room === "raft" || room === "raftpb") {
    return `imports "${specifier}"; ${room}/ is pure and takes nothing but base/: have what it needs handed in`;
  }
  if (specifier === "node:fs" || specifier.startsWith("node:fs/")) {
    if (fileDiskSide.has(from) || room === "cli") return undefined;
    return `imports ${specifier}; take a Disk (disk/disk.ts) and go through it`;
  }
  if (specifier === "node:perf_hooks" || specifier === "node:timers" || specifier === "node:timers/promises") {
    // Measuring is what it is for.
    if (from === "cli/bench.ts" && specifier === "node:perf_hooks") return undefined;
    return from === clockFile ? undefined : `imports ${specifier}; ${useClock}, and wait for events, not for time`;
  }
  if (specifier === "node:crypto") {
    return from === randomFile ? undefined : `imports node:crypto; ${useRandom}`;
  }
  if (specifier.startsWith("node:")) return undefined;
  const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
  if (name === "fs-extra" && room !== "cli") {
    return "imports fs-extra, which changes fs.close for the whole process; take a Disk (disk/disk.ts)";
  }
  if (!dependencies.has(name)) return `imports "${specifier}", which is not among the dependencies of package.json`;
  return undefined;
}

/** Global names that read a clock or draw randomness, and the object members that do. */
const clockGlobals = new Set(["Date", "performance"]);
const clockMembers = new Set(["process.hrtime", "process.uptime"]);

function syntaxProblems({ path, tree }: SourceUnit): string[] {
  const problems: string[] = [];
  const room = roomOf(path);
  const say = (node: ts.Node, what: string): void => {
    problems.push(`src/${path}:${lineOf(tree, node)} ${what}`);
  };
  const visit = (node: ts.Node, inFunction: boolean): void => {
    // What stands in a type reads no clock.
    if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return;
    const name = usedName(node);
    if (path !== clockFile && name !== undefined && (clockGlobals.has(name) || clockMembers.has(name))) {
      say(node, `reads the clock (${name}); ${useClock}`);
    }
    if (path !== randomFile && (name === "Math.random" || name === "crypto")) {
      say(node, `draws randomness (${name}); ${useRandom}`);
    }
    if (ts.isCallExpression(node) && loadsModule(node.expression)) {
      const [argument] = node.arguments;
      if (argument === undefined || !ts.isStringLiteralLike(argument)) {
        say(node, "loads a module by a name made at run time; write the name, so that the floor plan can be checked");
      }
    }
    if (awaits(node)) {
      if (!inFunction) say(node, "awaits at top level, which breaks require(); await inside a function");
      else if (room === "raft" || room === "raftpb") say(node, `awaits; ${room}/ is pure: return what is to be done`);
    }
    const inner = inFunction || ts.isFunctionLike(node) || ts.isClassStaticBlockDeclaration(node);
    ts.forEachChild(node, (child) => visit(child, inner));
  };
  visit(tree, false);
  return problems;
}

/** The global an expression uses: "Date", "Math.random", with `globalThis.` taken off. Other names give undefined. */
function usedName(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    if (node.expression.text === "globalThis") return node.name.text;
    return `${node.expression.text}.${node.name.text}`;
  }
  if (!ts.isIdentifier(node)) return undefined;
  const parent = node.parent;
  const isMember =
    (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
    (ts.isPropertyAssignment(parent) && parent.name === node) ||
    ((ts.isClassElement(parent) || ts.isTypeElement(parent)) && parent.name === node) ||
    (ts.isBindingElement(parent) && parent.propertyName === node) ||
    ts.isImportSpecifier(parent) ||
    ts.isExportSpecifier(parent);
  return isMember ? undefined : node.text;
}

function awaits(node: ts.Node): boolean {
  if (ts.isAwaitExpression(node)) return true;
  if (ts.isForOfStatement(node)) return node.awaitModifier !== undefined;
  return ts.isVariableDeclarationList(node) && (node.flags & ts.NodeFlags.BlockScoped) === ts.NodeFlags.AwaitUsing;
}
