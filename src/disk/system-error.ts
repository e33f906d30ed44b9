// Errors in the shape node gives its own system errors (code, syscall, path), for what a Disk finds by itself: a closed
// handle, a write that goes nowhere, a name missing from memory; and the one refusal all share, of what stands in place of a
// regular file. Called by every file of this room.

import { errnoOf, StableLogError } from "../base/errors.js";

/** A system error, with the fields that node's own carry. */
export interface SystemError extends Error {
  code: string;
  syscall: string;
  path?: string;
  /** Bytes of the failed write that went through before the error. */
  bytesWritten?: number;
}

const reasons: Readonly<Record<string, string>> = {
  EBADF: "bad file descriptor",
  EEXIST: "file already exists",
  EINVAL: "invalid argument",
  EIO: "i/o error",
  EISDIR: "illegal operation on a directory",
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  ENOTEMPTY: "directory not empty",
  ERR_ACCESS_DENIED: "node's permission model forbids this call",
};

/** Builds the error that the system would have given for `syscall`. */
export function systemError(
  code: string,
  syscall: string,
  path?: string,
  detail = reasons[code] ?? "failed",
): SystemError {
  const place = path === undefined ? "" : ` '${path}'`;
  const fields = path === undefined ? { code, syscall } : { code, syscall, path };
  return Object.assign(new Error(`${code}: ${detail}, ${syscall}${place}`), fields);
}

/** Notes on a failed write how many of its bytes went through before; returns the same error, to be thrown. */
export function withBytesWritten(error: unknown, bytesWritten: number): unknown {
  if (error instanceof Error) (error as SystemError).bytesWritten = bytesWritten;
  return error;
}

// What open() gives, told not to follow, for a symbolic link (EMLINK and EFTYPE on the BSDs), and without that for a
// directory, a socket, or a device that has no driver.
const foreignCodes: ReadonlySet<string | undefined> = new Set([
  "ELOOP",
  "EMLINK",
  "EFTYPE",
  "EISDIR",
  "ENXIO",
  "ENODEV",
]);

/** True when an open() failed with `error` because of what stands there, not because of a right or a resource. */
export function isForeign(error: unknown): boolean {
  return foreignCodes.has(errnoOf(error));
}

/** ERR_FOREIGN for `path`, naming the file by its last part. */
export function notRegular(action: string, path: string, cause?: unknown): StableLogError {
  const file = path.slice(path.lastIndexOf("/") + 1);
  const detail = cause === undefined ? { file } : { file, cause };
  return new StableLogError("ERR_FOREIGN", `${action} ${path}: not a regular file`, detail);
}
