// What the commands have in common: their shape, the parsing of their arguments, and how an error is told. Used by main.ts
// and by every command file. Errors go to stderr, as `CODE: message` and, where it is known, the place in a file.

import { type ParseArgsConfig, parseArgs } from "node:util";
import { errnoOf, StableLogError } from "../base/errors.js";

/** One word after `stablelog`. */
export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The whole of `stablelog COMMAND --help`, without a line end after the last line. */
  readonly usage: string;
  /** Does it; gives the exit code. Rejects with UsageError for arguments that make no sense. */
  run(args: readonly string[]): Promise<number>;
}

/** What the process ends with. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** The arguments make no sense: told with the command's usage, exit code 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

type Options = NonNullable<ParseArgsConfig["options"]>;
type Parsed<T extends Options> = ReturnType<typeof parseArgs<{ options: T; allowPositionals: true; strict: true }>>;

/**
 * Parses the arguments of a command that takes at most `maxPositionals` words besides its options.
 * @throws UsageError.
 */
export function parseCommand<const T extends Options>(
  args: readonly string[],
  options: T,
  maxPositionals: number,
): Parsed<T> {
  try {
    const parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    const extra = parsed.positionals[maxPositionals];
    if (extra !== undefined) throw new UsageError(`unexpected argument '${extra}'`);
    return parsed;
  } catch (error) {
    if (errnoOf(error)?.startsWith("ERR_PARSE_ARGS_") === true) throw new UsageError((error as Error).message);
    throw error;
  }
}

/**
 * The directory that a command works on, its one positional.
 * @throws UsageError when there is none.
 */
export function requiredDirectory(positionals: readonly string[]): string {
  const [dir] = positionals;
  if (dir === undefined || dir === "") throw new UsageError("which directory? DIR is missing");
  return dir;
}

/**
 * The number that an option was given, undefined when it was not given.
 * @throws UsageError unless it is an integer of [min, max].
 */
export function integerOption(name: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new UsageError(`--${name} must be an integer from ${min} to ${max}, got '${text}'`);
  }
  return value;
}

/**
 * The word that an option was given, or `fallback`.
 * @throws UsageError unless it is one of `words`.
 */
export function wordOption<T extends string>(
  name: string,
  text: string | undefined,
  words: readonly T[],
  fallback: T,
): T {
  if (text === undefined) return fallback;
  const word = words.find((each) => each === text);
  if (word === undefined) throw new UsageError(`--${name} must be one of ${words.join(", ")}, got '${text}'`);
  return word;
}

/** An error in the form that --json gives it. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  readonly lastIndex?: number | undefined;
  readonly maybeLostThrough?: number | undefined;
  /** The system's own error, where one is behind it. */
  readonly cause?: string | undefined;
}

/** What there is to say of an error. */
export function errorReport(error: unknown): ErrorReport {
  if (!(error instanceof StableLogError)) {
    const message = error instanceof Error ? error.message : String(error);
    // A system error says its code first, and so do we.
    const code = errnoOf(error) ?? "ERROR";
    return { code, message: message.startsWith(`${code}: `) ? message.slice(code.length + 2) : message };
  }
  const { code, message, file, offset, lastIndex, maybeLostThrough, cause } = error;
  return { code, message, file, offset, lastIndex, maybeLostThrough, cause: errnoOf(cause) };
}

/** An error as lines for a person: the code and the message, then what is known of the place. */
export function errorLines(error: unknown): string[] {
  const { code, message, file, offset, lastIndex, maybeLostThrough, cause } = errorReport(error);
  const lines = [`${code}: ${message}`];
  if (file !== undefined) lines.push(`  file ${file}${offset === undefined ? "" : `, offset ${offset}`}`);
  if (lastIndex !== undefined) lines.push(`  sure through entry ${lastIndex}, maybe lost through ${maybeLostThrough}`);
  if (cause !== undefined) lines.push(`  cause ${cause}`);
  return lines;
}

/** True for what can go wrong in operation, as opposed to a bug: told in a line, without a stack. */
export function isOperational(error: unknown): boolean {
  return error instanceof StableLogError || errnoOf(error) !== undefined;
}
