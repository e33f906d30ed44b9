// CrashLedger: what a program asked its log to keep, and what the log promised to have kept; and the check of what is there
// after a crash. In a simulation the ledger lives in memory; in a test that kills real processes the child writes it to a
// pipe, line by line, and the parent reads it from there.

import { isDeepStrictEqual } from "node:util";

/** What was known when the crash came. */
export interface LedgerView<T> {
  /** In the order of submission. */
  readonly submitted: readonly T[];
  /** In the order of acknowledgement. */
  readonly acknowledged: readonly T[];
  /**
   * Holds what was recovered, in order, against the ledger: a prefix of what was submitted, with all that was acknowledged
   * in it, each value equal to what was submitted.
   * @throws LedgerError.
   */
  check(recovered: readonly T[]): void;
}

/** What was recovered is not what was promised. */
export class LedgerError extends Error {
  /** Position in the order of submission, from 0, of the first value that is wrong. */
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.name = "LedgerError";
    this.position = position;
  }
}

export class CrashLedger<T> implements LedgerView<T> {
  readonly #submitted: T[] = [];
  /** Positions, in the order in which they were acknowledged. */
  readonly #acknowledged: number[] = [];
  readonly #write: ((line: string) => void) | undefined;

  /**
   * `write`: where each line goes, whole, before it returns, such as `(line) => fs.writeSync(fd, line)` to a file (a full pipe
   * may take a part of a line, or throw EAGAIN). Without it the ledger is in memory alone. Values that are written must
   * survive JSON; byte arrays do.
   */
  constructor(write?: (line: string) => void) {
    this.#write = write;
  }

  get submitted(): readonly T[] {
    return this.#submitted;
  }

  get acknowledged(): readonly T[] {
    return this.#acknowledged.map((position) => this.#submitted[position] as T);
  }

  /** How much of it there is, for view(). */
  get marks(): { readonly submitted: number; readonly acknowledged: number } {
    return { submitted: this.#submitted.length, acknowledged: this.#acknowledged.length };
  }

  /** Notes that the log is about to be asked to keep `value`; gives its position, for acknowledge(). */
  submit(value: T): number {
    const position = this.#submitted.push(value) - 1;
    this.#write?.(`S ${position} ${JSON.stringify(toPlain(value))}\n`);
    return position;
  }

  /**
   * Notes that the log has promised to have kept the value at `position`.
   * @throws RangeError for a position that was not submitted.
   */
  acknowledge(position: number): void {
    if (!(position in this.#submitted)) throw new RangeError(`acknowledge ${position}: nothing was submitted there`);
    this.#acknowledged.push(position);
    this.#write?.(`A ${position}\n`);
  }

  /** submit(), then `action`, then acknowledge(); gives what the action gave. */
  async keep<R>(value: T, action: (value: T) => Promise<R>): Promise<R> {
    const position = this.submit(value);
    const result = await action(value);
    this.acknowledge(position);
    return result;
  }

  /** The ledger as it stood when marks were these. */
  view({ submitted, acknowledged }: { readonly submitted: number; readonly acknowledged: number }): LedgerView<T> {
    const values = this.#submitted.slice(0, submitted);
    const positions = this.#acknowledged.slice(0, acknowledged);
    return {
      submitted: values,
      get acknowledged() {
        return positions.map((position) => values[position] as T);
      },
      check: (recovered) => checkAgainst(recovered, values, positions),
    };
  }

  check(recovered: readonly T[]): void {
    checkAgainst(recovered, this.#submitted, this.#acknowledged);
  }

  /**
   * The ledger that a killed process wrote: every whole line of `text`. A line that the kill cut short does not count.
   * @throws SyntaxError for a whole line that is none of a ledger's.
   */
  static read<T>(text: string): CrashLedger<T> {
    const ledger = new CrashLedger<T>();
    const lines = text.split("\n");
    lines.pop();
    for (const line of lines) {
      const [, kind, position, value] = /^([SA]) (\d+)(?: (.*))?$/.exec(line) ?? [];
      const at = Number(position);
      if (kind === "S" && value !== undefined && at === ledger.#submitted.length) {
        ledger.submit(fromPlain(JSON.parse(value)) as T);
      } else if (kind === "A" && value === undefined && at < ledger.#submitted.length) {
        ledger.acknowledge(at);
      } else {
        throw new SyntaxError(`no line of a ledger: ${line}`);
      }
    }
    return ledger;
  }
}

function checkAgainst<T>(recovered: readonly T[], submitted: readonly T[], acknowledged: readonly number[]): void {
  for (const [position, value] of recovered.entries()) {
    if (position >= submitted.length) {
      throw new LedgerError(
        `recovered ${recovered.length} values, and only ${submitted.length} were submitted`,
        position,
      );
    }
    if (!same(value, submitted[position])) {
      throw new LedgerError(
        `value ${position} came back as ${show(value)}, and ${show(submitted[position])} was submitted`,
        position,
      );
    }
  }
  const promised = Math.max(-1, ...acknowledged);
  if (promised >= recovered.length) {
    const value = show(submitted[promised]);
    throw new LedgerError(`value ${promised} (${value}) was acknowledged, and ${recovered.length} came back`, promised);
  }
}

function same(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    return a.length === b.length && a.every((byte, i) => byte === b[i]);
  }
  return isDeepStrictEqual(a, b);
}

function show(value: unknown): string {
  const text = value instanceof Uint8Array ? `${value.length} bytes ${hexOf(value)}` : JSON.stringify(value);
  const known = typeof value === "string" ? value : (text ?? String(value));
  return known.length > 60 ? `${known.slice(0, 57)}...` : known;
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const BYTES_KEY = "$bytes";

function toPlain(value: unknown): unknown {
  return value instanceof Uint8Array ? { [BYTES_KEY]: Buffer.from(value).toString("base64") } : value;
}

function fromPlain(value: unknown): unknown {
  const text = (value as Record<string, unknown> | null)?.[BYTES_KEY];
  return typeof text === "string" ? new Uint8Array(Buffer.from(text, "base64")) : value;
}
