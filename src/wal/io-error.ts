// How the system's errors become coded ones. One place, so that every room above disk/ says the same of the same errno.

import { AssertionError } from "../base/assert.js";
import { type ErrorCode, type ErrorDetail, errnoOf, StableLogError } from "../base/errors.js";

const NO_SPACE = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const NO_WRITING = new Set(["EROFS", "EACCES", "EPERM", "ERR_ACCESS_DENIED"]);

/** A failure to make room, which is no failure of the disk. */
export function isNoSpace(error: unknown): boolean {
  return NO_SPACE.has(errnoOf(error) ?? "");
}

/**
 * An error of making room or of housekeeping: ERR_NO_SPACE for ENOSPC, EDQUOT and EFBIG, ERR_IO for the rest. A coded
 * error goes through as it is.
 */
export function spaceError(action: string, cause: unknown, detail: ErrorDetail = {}): StableLogError {
  return coded(isNoSpace(cause) ? "ERR_NO_SPACE" : "ERR_IO", action, cause, detail);
}

/** An error of opening: ERR_READ_ONLY where writing is not allowed, else as spaceError(). */
export function openError(action: string, cause: unknown, detail: ErrorDetail = {}): StableLogError {
  if (NO_WRITING.has(errnoOf(cause) ?? "")) return coded("ERR_READ_ONLY", action, cause, detail);
  // A path that no file system takes, such as one with a zero byte in it.
  if (errnoOf(cause) === "ERR_INVALID_ARG_VALUE") return coded("ERR_INVALID_ARGUMENT", action, cause, detail);
  return spaceError(action, cause, detail);
}

/** An error of reading: ERR_READ. */
export function readError(action: string, cause: unknown, detail: ErrorDetail = {}): StableLogError {
  return coded("ERR_READ", action, cause, detail);
}

function coded(code: ErrorCode, action: string, cause: unknown, detail: ErrorDetail): StableLogError {
  if (cause instanceof StableLogError) return cause;
  // A broken invariant of ours is no fault of the system's and must not look like one.
  if (cause instanceof AssertionError) throw cause;
  const what = errnoOf(cause) ?? (cause instanceof Error ? cause.message : String(cause));
  return new StableLogError(code, `${action}: ${what}`, { ...detail, cause });
}
