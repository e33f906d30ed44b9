// Writing to the terminal: lines, tables, colour where somebody sees it, numbers for people, JSON with bigints, and a
// progress bar. Used by main.ts and the commands. Everything here goes to stdout, except complain().

import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

/** Writes one line to stdout; resolves when there is room for more, so that a slow reader holds no memory of ours. */
export function print(line = ""): Promise<void> {
  if (process.stdout.write(`${line}\n`)) return Promise.resolve();
  return new Promise((resolve) => {
    process.stdout.once("drain", resolve);
  });
}

/** Writes one line to stderr. */
export function complain(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** `text` in colour when stdout is a terminal and NO_COLOR is unset or empty. */
export function paint(style: Style, text: string): string {
  const noColor = process.env["NO_COLOR"];
  if (!process.stdout.isTTY || (noColor !== undefined && noColor !== "")) return text;
  return styleText(style, text);
}

/** JSON of our own objects: bigints as decimal strings, byte arrays as hexadecimal, absent fields left out. */
export function toJson(value: unknown, indent = 0): string {
  const plain = (_key: string, each: unknown): unknown => {
    if (typeof each === "bigint") return each.toString();
    if (each instanceof Uint8Array) return toHex(each);
    return each;
  };
  return JSON.stringify(value, plain, indent);
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** A count with separators: 19,451. */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** "1 kill", "2 kills". */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** Bytes in the unit that keeps three digits: 41.3 KiB. */
export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit++;
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds, in us or s where that reads better. */
export function duration(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} us`;
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Name and value, one pair a line, the values below one another. */
export function pairs(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`.trimEnd());
}

/** Rows under a heading, columns as wide as their widest cell; columns whose cells are all numbers stand to the right. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cell = (row: readonly string[], column: number): string => row[column] ?? "";
  const widths = heading.map((name, column) => Math.max(name.length, ...rows.map((row) => cell(row, column).length)));
  const right = heading.map((_name, column) => rows.every((row) => /^[\d,.]*( ?[KMGT]?i?B)?$/.test(cell(row, column))));
  const line = (row: readonly string[]): string => {
    const cells = widths.map((width, column) => {
      return right[column] === true ? cell(row, column).padStart(width) : cell(row, column).padEnd(width);
    });
    return `  ${cells.join("  ")}`.trimEnd();
  };
  return [paint("dim", line(heading)), ...rows.map(line)];
}

const BAR_WIDTH = 32;
/** The bar is drawn anew for every such part of the total: more often nobody sees, and a terminal is slow. */
const BAR_STEPS = 200;

/**
 * A bar that redraws its one line; where stdout is no terminal it draws nothing. Lines that are printed while it stands
 * go through above().
 */
export class ProgressBar {
  readonly #total: number;
  readonly #shown = process.stdout.isTTY;
  #line = "";
  #step = -1;

  constructor(total: number) {
    this.#total = total;
  }

  /** Draws the bar at `done` of the total, with `note` behind it. */
  draw(done: number, note: string): void {
    if (!this.#shown) return;
    const share = this.#total === 0 ? 1 : done / this.#total;
    const step = Math.floor(share * BAR_STEPS);
    if (step === this.#step) return;
    this.#step = step;
    const full = Math.round(share * BAR_WIDTH);
    const bar = paint("green", "█".repeat(full)) + paint("dim", "░".repeat(BAR_WIDTH - full));
    const line = `${bar} ${count(done)} of ${count(this.#total)}  ${note}`;
    this.#line = line;
    process.stdout.write(`\r${line}\u001b[K`);
  }

  /** Prints a line above the bar. */
  above(line: string): void {
    process.stdout.write(this.#line === "" ? `${line}\n` : `\r\u001b[K${line}\n${this.#line}`);
  }

  /** Takes the bar away. */
  clear(): void {
    if (this.#line !== "") process.stdout.write("\r\u001b[K");
    this.#line = "";
  }
}
