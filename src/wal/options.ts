// The options that every opener of a log has, checked and with their defaults.

import { isCount } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import type { Disk } from "../disk/disk.js";
import { FileDisk } from "../disk/file-disk.js";
import * as f from "./format.js";
import type { SyncOption } from "./log.js";

const MIB = 1024 * 1024;

/** What Wal.open() and FileStorage.open() share. */
export interface CommonOptions {
  readonly create?: boolean | undefined;
  readonly readOnly?: boolean | undefined;
  readonly metadata?: Uint8Array | undefined;
  readonly segmentBytes?: number | undefined;
  readonly cacheBytes?: number | undefined;
  readonly maxPendingBytes?: number | undefined;
  readonly sync?: SyncOption | undefined;
  readonly onAmbiguousTail?: "refuse" | "drop" | undefined;
}

/** An ERR_INVALID_ARGUMENT that says what was wanted and what came. */
export function invalidArgument(what: string, wanted: string, got: unknown): StableLogError {
  const kind = typeof got === "object" || typeof got === "function" ? Object.prototype.toString.call(got) : String(got);
  return new StableLogError("ERR_INVALID_ARGUMENT", `${what} must be ${wanted}, got ${kind}`);
}

/**
 * The disk to use, and what ends it when the log is closed: one that we made for this log has a commit thread of its own,
 * one that was given is its giver's.
 * @throws ERR_INVALID_ARGUMENT.
 */
export function diskOf(disk: Disk | undefined): { disk: Disk; onClosed: (() => Promise<void>) | undefined } {
  if (disk === undefined) {
    const own = new FileDisk();
    return { disk: own, onClosed: () => own.dispose() };
  }
  if (typeof disk !== "object" || disk === null) throw invalidArgument("open: disk", "a Disk", disk);
  return { disk, onClosed: undefined };
}

/**
 * Checks options and fills in their defaults.
 * @throws ERR_INVALID_ARGUMENT.
 */
export function checkLogOptions(dir: string, options: CommonOptions) {
  if (typeof dir !== "string" || dir === "") throw invalidArgument("open: dir", "a path", dir);
  if (typeof options !== "object" || options === null) throw invalidArgument("open: options", "an object", options);
  const {
    create = true,
    readOnly = false,
    metadata,
    segmentBytes = f.DEFAULT_SEGMENT_BYTES,
    cacheBytes = 64 * MIB,
    maxPendingBytes = 512 * MIB,
    sync = "auto",
    onAmbiguousTail = "refuse",
  } = options;
  if (typeof create !== "boolean") throw invalidArgument("open: create", "a boolean", create);
  if (typeof readOnly !== "boolean") throw invalidArgument("open: readOnly", "a boolean", readOnly);
  if (metadata !== undefined && !(metadata instanceof Uint8Array && metadata.length <= f.MAX_METADATA_BYTES)) {
    throw invalidArgument("open: metadata", `a Uint8Array of at most ${f.MAX_METADATA_BYTES} bytes`, metadata);
  }
  if (!isCount(segmentBytes) || segmentBytes < f.MIN_SEGMENT_BYTES || segmentBytes > f.MAX_SEGMENT_BYTES) {
    const range = `an integer from ${f.MIN_SEGMENT_BYTES} to ${f.MAX_SEGMENT_BYTES}`;
    throw invalidArgument("open: segmentBytes", range, segmentBytes);
  }
  if (!isCount(cacheBytes)) throw invalidArgument("open: cacheBytes", "an integer from 0", cacheBytes);
  if (!isCount(maxPendingBytes)) throw invalidArgument("open: maxPendingBytes", "an integer from 0", maxPendingBytes);
  if (sync !== "auto" && sync !== "inline" && sync !== "worker" && sync !== "off") {
    throw invalidArgument("open: sync", "auto, inline, worker or off", sync);
  }
  if (onAmbiguousTail !== "refuse" && onAmbiguousTail !== "drop") {
    throw invalidArgument("open: onAmbiguousTail", "refuse or drop", onAmbiguousTail);
  }
  return {
    create,
    readOnly,
    metadata: metadata === undefined ? undefined : new Uint8Array(metadata),
    segmentBytes,
    cacheBytes,
    maxPendingBytes,
    sync,
    onAmbiguousTail,
  };
}
