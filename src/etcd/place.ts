// Where bytes of a member directory come from, and the errors that say so. Called by every file of this room.

import { errnoOf, StableLogError } from "../base/errors.js";

/** Where the bytes being decoded come from: what an error about them names. */
export interface Place {
  /** File name relative to the member directory ("wal/....wal"). */
  readonly file: string;
  /** Byte in `file` where the frame at fault begins. */
  readonly offset: number;
}

/** An ERR_CORRUPT about the bytes at `place`. */
export function corruptAt(place: Place, what: string, cause?: unknown): StableLogError {
  const message = `read ${place.file} at ${place.offset}: ${what}`;
  const where = { file: place.file, offset: place.offset };
  return new StableLogError("ERR_CORRUPT", message, cause === undefined ? where : { ...where, cause });
}

/** The error for a failed call to the disk: what it was for, the file, and the system's error as `cause`. */
export function readError(error: unknown, file: string): StableLogError {
  if (error instanceof StableLogError) {
    return new StableLogError(error.code, `read ${file}: ${error.message}`, { file, cause: error });
  }
  const errno = errnoOf(error);
  const code = errno === "ENOENT" ? "ERR_NOT_FOUND" : "ERR_READ";
  return new StableLogError(code, `read ${file}: ${errno ?? String(error)}`, { file, cause: error });
}
