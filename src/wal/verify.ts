// verifyLog(): the scrub. Reads every segment whole and checks every frame, block, link and end; where open() reads the
// newest segment only, this finds rot in old ones before somebody needs them. It reports, it does not throw: damage is an
// answer here. Damage of index side files is none, because they are derived.

import { getU64, viewOf } from "../base/bytes.js";
import { type ErrorCode, errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, joinPath } from "../disk/disk.js";
import * as f from "./format.js";
import { checkFrame, checkHeader, frameBytesAt } from "./frame.js";
import type { Log } from "./log.js";
import { type LogSegment, LogView, newSegment } from "./log-view.js";
import { readWhole } from "./recovery.js";

/** One damaged place. */
export interface Damage {
  readonly code: ErrorCode;
  readonly file: string;
  /** Where the damaged frame, block or field begins. */
  readonly offset: number;
  /** The first entry that may be affected, where that is known. */
  readonly index?: number | undefined;
  /** What shows that it is damage. */
  readonly proof: string;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly segments: number;
  /** Bytes read and checked. */
  readonly bytes: number;
  readonly damage: readonly Damage[];
}

/** Reads and checks every segment of an open log, as far as it is durable at the moment of the call. */
export async function verifyLog(log: Log<unknown>, disk: Disk): Promise<VerifyReport> {
  const damage: Damage[] = [];
  let bytes = 0;
  // A copy of the ends: the log goes on while this reads.
  const segments = log.segments.map((segment) => ({ ...segment }));
  for (const [i, segment] of segments.entries()) {
    const found: Damage[] = [];
    try {
      const data = await readWhole(disk, log.dir, segment.name);
      bytes += data.length;
      verifySegment(log, segment, segments[i - 1], data, found);
    } catch (error) {
      found.push(unreadable(segment, error));
    }
    if (found.length === 0) continue;
    // Compaction may have taken it meanwhile, and written over what was read; in the process that writes the log, when this
    // one only looks.
    const listed = log.segments.some(({ generation }) => generation === segment.generation);
    const gone = log.readOnly && (await disk.stat(joinPath(log.dir, segment.name))) === undefined;
    if (listed && !gone) damage.push(...found);
  }
  return { ok: damage.length === 0, segments: segments.length, bytes, damage };
}

function unreadable(segment: LogSegment, error: unknown): Damage {
  if (error instanceof StableLogError) {
    return {
      code: error.code,
      file: segment.name,
      offset: error.offset ?? 0,
      index: lowest(segment),
      proof: error.message,
    };
  }
  const code = errnoOf(error) === "ENOENT" ? "ERR_GAP" : "ERR_READ";
  return { code, file: segment.name, offset: 0, index: lowest(segment), proof: String(error) };
}

function lowest(segment: LogSegment): number | undefined {
  return Number.isFinite(segment.from) ? segment.from : undefined;
}

function verifySegment(
  log: Log<unknown>,
  segment: LogSegment,
  previous: LogSegment | undefined,
  bytes: Uint8Array,
  damage: Damage[],
): void {
  const data = viewOf(bytes);
  const { identity, name, end } = segment;
  const scratch = newSegment(log.logId, segment.generation, segment.capacity, segment.base, segment.previous);
  const view = new LogView();
  view.last = segment.base;
  let at = 0;
  let chain: number | undefined = previous?.generation === segment.previous ? previous.chain : undefined;
  let sequence: number | undefined;
  let sound = true;
  const found = (offset: number, proof: string): void => {
    const index = sound ? view.last + 1 : lowest(segment);
    sound = false;
    damage.push({ code: "ERR_CORRUPT", file: name, offset, index, proof });
  };
  while (at < end) {
    const kind = at === 0 ? f.KIND_HEAD : f.KIND_FRAME;
    const verdict = checkFrame(bytes, data, at, { identity, kind, offset: at, sequence, chain });
    if (verdict === "valid") {
      if (sound && !view.apply(bytes, data, at, at, scratch)) found(at, "the frame's fields contradict the log");
      chain = data.getUint32(at + f.H_CRC, true);
      sequence = getU64(data, at + f.H_SEQUENCE) + 1;
      at += frameBytesAt(data, at);
      continue;
    }
    found(at, `no valid frame stands there (${verdict}), and the log ends at ${end}`);
    // Goes on at the next frame, so that one report names every damaged place.
    const known = verdict === "meta" || verdict === "block" || verdict === "trailer";
    let next = known ? at + frameBytesAt(data, at) : at + 8;
    const limit = Math.min(end, bytes.length);
    for (; next < limit; next += 8) {
      const expected = { identity, kind: f.KIND_FRAME, offset: next, sequence: undefined, chain: undefined };
      if (checkHeader(bytes, data, next, expected) === "valid") break;
    }
    if (next >= limit) return;
    at = next;
    sequence = undefined;
    chain = undefined;
  }
  if (sequence !== undefined && (sequence - 1 !== segment.sequence || chain !== segment.chain) && at === end) {
    found(end, "its last frame is not the one that the log ends with there");
  }
}
