// The language of datadriven test scripts (cockroachdb/datadriven), as far as etcd-raft's scripts use it: directives with
// arguments and input, and the output that is expected of each. Text in, text out: who runs scripts reads the files.

/** One "key", "key=value" or "key=(a, b)" of a directive. */
export interface ScriptArgument {
  readonly key: string;
  /** Empty without "="; one empty value for "key=" and "key=()". */
  readonly values: readonly string[];
}

/** A directive of a script and what it is to print: `command argument key=value key=(a, b)`, input, `----`, output. */
export interface Directive {
  /** Line of the file, from 1 on. */
  readonly line: number;
  readonly command: string;
  /** In the order in which they stand; a key may come more than once. */
  readonly args: readonly ScriptArgument[];
  /** The lines between the directive and `----`, without blank space around them; often empty. */
  readonly input: string;
  /** The lines behind `----`, each with its end; empty when nothing is to be printed. */
  readonly expected: string;
}

/** A script that cannot be read; the message begins with the line. */
export class ScriptError extends Error {
  constructor(line: number, message: string) {
    super(`line ${line}: ${message}`);
    this.name = "ScriptError";
  }
}

/** Reads a script; comments and `subtest` lines are left out. @throws ScriptError */
export function parseScript(text: string): Directive[] {
  const lines = text.split("\n");
  const directives: Directive[] = [];
  let at = 0;
  while (at < lines.length) {
    const begin = at + 1;
    let head = (lines[at++] as string).trim();
    if (head === "" || head.startsWith("#")) continue;
    while (head.endsWith("\\") && at < lines.length)
      head = `${head.slice(0, -1).trim()} ${(lines[at++] as string).trim()}`;
    const [command, ...rest] = head.split(" ");
    if (command === "subtest") continue;
    const args = parseArguments(rest.join(" "), begin);
    const input: string[] = [];
    while (at < lines.length && lines[at] !== "----") input.push(lines[at++] as string);
    const expected: string[] = [];
    if (at < lines.length) {
      at++;
      if (lines[at] === "----") {
        // Expected output with blank lines in it ends at two separators.
        at++;
        while (at < lines.length && !(lines[at] === "----" && lines[at + 1] === "----"))
          expected.push(lines[at++] as string);
        if (at >= lines.length) throw new ScriptError(begin, "the expected output does not end");
        at += 2;
      } else {
        while (at < lines.length && (lines[at] as string).trim() !== "") expected.push(lines[at++] as string);
      }
    }
    directives.push({
      line: begin,
      command: command as string,
      args,
      input: input.join("\n").trim(),
      expected: expected.map((line) => `${line}\n`).join(""),
    });
  }
  return directives;
}

function parseArguments(text: string, line: number): ScriptArgument[] {
  const args: ScriptArgument[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const key = /^[^ =]*/.exec(rest)?.[0] ?? "";
    if (key === "") throw new ScriptError(line, `an argument without a name: ${rest}`);
    rest = rest.slice(key.length);
    if (!rest.startsWith("=")) {
      args.push({ key, values: [] });
    } else if (rest.startsWith("=(")) {
      const end = closing(rest);
      if (end < 0) throw new ScriptError(line, `${key}=( is not closed`);
      args.push({ key, values: splitList(rest.slice(2, end)) });
      rest = rest.slice(end + 1);
    } else {
      const value = /^=[^ ]*/.exec(rest)?.[0] ?? "=";
      args.push({ key, values: [value.slice(1)] });
      rest = rest.slice(value.length);
    }
    rest = rest.trimStart();
  }
  return args;
}

/** Where the parenthesis that opens first closes; -1 when it does not. */
function closing(text: string): number {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")" && --depth === 0) return i;
  }
  return -1;
}

function splitList(text: string): string[] {
  const values: string[] = [];
  let depth = 0;
  let value = "";
  for (const char of text) {
    if (char === "," && depth === 0) {
      values.push(value);
      value = "";
      continue;
    }
    if (char === "(") depth++;
    if (char === ")") depth--;
    if (char === " " && value === "") continue;
    value += char;
  }
  return [...values, value];
}

/** Where a script's output is not the expected one. */
export interface ScriptFailure {
  readonly directive: Directive;
  /** What the handler gave, with a line's end at its end. */
  readonly actual: string;
}

/**
 * Runs a script, directive by directive, with one handler that gives each one's output; all are run, whatever differs before.
 * `comparable` takes out of both sides what is not to be compared.
 * @throws (rejects) ScriptError, and what the handler throws: that ends the run.
 */
export async function runScript(
  text: string,
  handle: (directive: Directive) => string | Promise<string>,
  comparable: (output: string) => string = (output) => output,
): Promise<ScriptFailure[]> {
  const failures: ScriptFailure[] = [];
  for (const directive of parseScript(text)) {
    const output = await handle(directive);
    const actual = output === "" || output.endsWith("\n") ? output : `${output}\n`;
    if (comparable(actual) !== comparable(directive.expected)) failures.push({ directive, actual });
  }
  return failures;
}

/** The text of a failure: directive, and both outputs line by line, "-" expected and "+" actual. */
export function describeFailure(
  { directive, actual }: ScriptFailure,
  comparable = (output: string): string => output,
): string {
  const wanted = comparable(directive.expected).trimEnd().split("\n");
  const got = comparable(actual).trimEnd().split("\n");
  let same = 0;
  while (same < wanted.length && same < got.length && wanted[same] === got[same]) same++;
  let end = 0;
  while (end < wanted.length - same && end < got.length - same && wanted.at(-1 - end) === got.at(-1 - end)) end++;
  const lines = [
    ...wanted.slice(Math.max(0, same - 3), same).map((line) => `  ${line}`),
    ...wanted.slice(same, wanted.length - end).map((line) => `- ${line}`),
    ...got.slice(same, got.length - end).map((line) => `+ ${line}`),
  ];
  return `line ${directive.line}: ${directive.command}\n${lines.join("\n")}`;
}
