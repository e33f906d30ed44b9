// Coded errors: what may go wrong in operation and what a caller may want to tell apart.
// Every code is a heading in docs/ERRORS.md (cause, the state you are in, what to do). Broken invariants of our own are
// not in here: they are AssertionErrors, see assert.ts.

import { constants } from "node:os";

export const errorCodes = [
  "ERR_COMPACTED",
  "ERR_UNAVAILABLE",
  "ERR_SNAP_OUT_OF_DATE",
  "ERR_SNAPSHOT_TEMPORARILY_UNAVAILABLE",
  "ERR_CORRUPT",
  "ERR_GAP",
  "ERR_AMBIGUOUS_TAIL",
  "ERR_FORMAT_VERSION",
  "ERR_FOREIGN",
  "ERR_LOCKED",
  "ERR_POISONED",
  "ERR_NO_SPACE",
  "ERR_IO",
  "ERR_READ_ONLY",
  "ERR_READ",
  "ERR_NOT_FOUND",
  "ERR_CLOSED",
  "ERR_TOO_LARGE",
  "ERR_INVALID_ARGUMENT",
  "ERR_PROPOSAL_DROPPED",
  "ERR_STEP_LOCAL_MSG",
  "ERR_STEP_PEER_NOT_FOUND",
] as const;

/** The stable codes of {@link StableLogError}. */
export type ErrorCode = (typeof errorCodes)[number];

/** Where and how far an error reaches; every field is optional. */
export interface ErrorDetail {
  /** File name, relative to the log's directory. */
  readonly file?: string | undefined;
  /** Byte in `file` where the frame or field at fault begins. */
  readonly offset?: number | undefined;
  /** What the system (or a lower layer) reported; an Error with a `code`. */
  readonly cause?: unknown;
  /** ERR_POISONED: true once a byte of the rejected save may have reached the disk. */
  readonly maybeDurable?: boolean | undefined;
  /** ERR_AMBIGUOUS_TAIL: the last index that is surely intact. */
  readonly lastIndex?: number | undefined;
  /** ERR_AMBIGUOUS_TAIL: the last index that dropping the tail may lose. */
  readonly maybeLostThrough?: number | undefined;
}

const brand = Symbol.for("stablelog.error");

/**
 * The one error class of the package. Tell errors apart by `code`, never by message.
 * `instanceof` holds across duplicate copies of the package in one process.
 */
export class StableLogError extends Error {
  readonly code: ErrorCode;
  // Declared, and set where there is something to say: a printed error is not padded with what is undefined.
  declare readonly file: string | undefined;
  declare readonly offset: number | undefined;
  declare readonly maybeDurable: boolean | undefined;
  declare readonly lastIndex: number | undefined;
  declare readonly maybeLostThrough: number | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, "cause" in detail ? { cause: detail.cause } : undefined);
    this.name = "StableLogError";
    this.code = code;
    if (detail.file !== undefined) this.file = detail.file;
    if (detail.offset !== undefined) this.offset = detail.offset;
    if (detail.maybeDurable !== undefined) this.maybeDurable = detail.maybeDurable;
    if (detail.lastIndex !== undefined) this.lastIndex = detail.lastIndex;
    if (detail.maybeLostThrough !== undefined) this.maybeLostThrough = detail.maybeLostThrough;
  }

  get [brand](): true {
    return true;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    if (Object.prototype.hasOwnProperty.call(this, "prototype") && this !== StableLogError) {
      return Function.prototype[Symbol.hasInstance].call(this, value);
    }
    return typeof value === "object" && value !== null && brand in value;
  }
}

/** The errno name of a system error ("EIO", "ENOSPC", ...), or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (typeof code !== "string") return undefined;
  // libuv has no name for some that a write can meet (EDQUOT among them): "Unknown system error -122". The system has.
  return code.startsWith("Unknown system error") ? (nameOf(errno) ?? code) : code;
}

function nameOf(errno: unknown): string | undefined {
  return Object.entries(constants.errno).find(([, number]) => number === -Number(errno))?.[0];
}
