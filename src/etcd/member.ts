// readMember: what an etcd member would find in its own directory at a start, and the opening that readBatches
// (batches.ts) shares with it: which snapshot to begin from, and which segments hold the log after it.
// Called through index.ts. Knows the order of the checks; frames, messages and files are the other files' business.

import { equalBytes } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import type { Disk } from "../disk/disk.js";
import { FileDisk } from "../disk/file-disk.js";
import type { Entry, HardState, Snapshot, SnapshotMetadata } from "../raftpb/types.js";
import { emptyHardState } from "../raftpb/types.js";
import { corruptAt, type Place } from "./place.js";
import { decodeEntry, decodeHardState, decodeSnapshotMark, RecordType } from "./record.js";
import { listSnapshotFiles, loadNewestSnapshot } from "./snapshot-file.js";
import { listSegments, type Segment, WalReader } from "./wal-reader.js";

/** How readMember() and readBatches() read. */
export interface MemberOptions {
  /**
   * "snapshot" (the default) begins at the newest snapshot that can be used, or at the start of the log when there is none;
   * "start" begins at the first entry and looks at no snapshot file.
   */
  readonly from?: "snapshot" | "start" | undefined;
  /** Where the directory is; the file system when left out. */
  readonly disk?: Disk | undefined;
}

/** A member's log as it stands. */
export interface MemberContents {
  /** What etcd wrote at the head of every segment: its node and cluster ID, in protobuf. */
  metadata: Uint8Array;
  /** The last one; all zero when none was saved. */
  hardState: HardState;
  snapshot?: Snapshot | undefined;
  /** Dense, from one above the snapshot's index (or from 1); overwritten ones are gone. */
  entries: Entry[];
}

/**
 * Reads the log of an etcd member from `dir`, the directory that holds wal/ and (it may be missing) snap/: metadata, the
 * last HardState, the newest usable snapshot and the entries after it. A torn end of the last segment ends the log silently,
 * as in etcd's own read mode (server/storage/wal, OpenForRead and ReadAll).
 *
 * A snapshot is usable when its file can be read and the WAL has its mark, at or below the last commit.
 * @throws ERR_NOT_FOUND without a WAL; ERR_CORRUPT with `file` and `offset` for damage; ERR_GAP when segments or entries
 * are missing, those before the oldest segment included; ERR_READ, ERR_FOREIGN and ERR_TOO_LARGE for files that cannot be
 * read; ERR_INVALID_ARGUMENT.
 */
export async function readMember(dir: string, options: MemberOptions = {}): Promise<MemberContents> {
  const { reader, snapshot } = await openMember(dir, options);
  const base = snapshot?.metadata.index ?? 0;
  const head = new HeadCheck(snapshot?.metadata);
  const entries: Entry[] = [];
  let hardState = emptyHardState();
  try {
    while (await reader.load()) {
      for (let record = reader.next(); record !== undefined; record = reader.next()) {
        switch (record.type) {
          case RecordType.Entry: {
            const entry = decodeEntry(record.data, reader);
            if (entry.index <= base) break;
            const at = entry.index - base - 1;
            if (at > entries.length) throw entryGap(reader, entry.index, base + entries.length);
            // A later entry of the same index replaces it and all that followed: a suffix that a new leader overwrote.
            entries.length = at;
            entry.data = entry.data.slice();
            entries.push(entry);
            break;
          }
          case RecordType.State:
            hardState = decodeHardState(record.data, reader);
            break;
          case RecordType.Metadata:
            head.acceptMetadata(record.data, reader);
            break;
          default:
            head.acceptMark(decodeSnapshotMark(record.data, reader), reader);
        }
      }
    }
    return { metadata: head.finish(reader), hardState, snapshot, entries };
  } finally {
    await reader.close();
  }
}

/** An ERR_GAP: the entry in the frame at `place` does not follow the last one. */
export function entryGap(place: Place, index: number, lastIndex: number): StableLogError {
  const message = `read ${place.file} at ${place.offset}: entry ${index} follows entry ${lastIndex}`;
  return new StableLogError("ERR_GAP", message, { file: place.file, offset: place.offset });
}

/** Where to read: at the first record of the segment that holds the log after `snapshot`. */
export interface OpenedMember {
  readonly reader: WalReader;
  readonly snapshot: Snapshot | undefined;
}

/** Chooses the snapshot and the segments as etcd does at its start; the reader is the caller's to close. */
export async function openMember(dir: string, options: MemberOptions): Promise<OpenedMember> {
  const { from = "snapshot", disk = new FileDisk() } = options;
  if (typeof dir !== "string" || dir === "") {
    throw new StableLogError("ERR_INVALID_ARGUMENT", "read etcd member: dir must be a path");
  }
  if (from !== "snapshot" && from !== "start") {
    throw new StableLogError("ERR_INVALID_ARGUMENT", `read etcd member: from must be "snapshot" or "start"`);
  }
  const segments = await listSegments(disk, dir);
  const snapshot = from === "snapshot" ? await findSnapshot(disk, dir, segments) : undefined;
  const base = snapshot?.metadata.index ?? 0;
  // The log after `base` begins in the last segment that was begun when no entry above `base` had been saved.
  const first = segments.findLastIndex((segment) => segment.firstIndex <= base);
  const oldest = segments[0];
  if (first < 0 && oldest !== undefined) {
    const why = snapshot === undefined && from === "snapshot" ? ", and no snapshot can be used" : "";
    const message = `read etcd member ${dir} from entry ${base + 1}: its log starts at ${oldest.firstIndex}${why}`;
    throw new StableLogError("ERR_GAP", message, { file: `wal/${oldest.name}` });
  }
  return { reader: new WalReader(disk, dir, segments.slice(first)), snapshot };
}

/** The newest snapshot whose file is whole and whose mark stands in the log at or below the last commit. */
async function findSnapshot(disk: Disk, dir: string, segments: readonly Segment[]): Promise<Snapshot | undefined> {
  const names = await listSnapshotFiles(disk, dir);
  if (names.length === 0) return undefined;
  const marks: SnapshotMetadata[] = [];
  let commit = 0;
  const reader = new WalReader(disk, dir, segments);
  try {
    while (await reader.load()) {
      for (let record = reader.next(); record !== undefined; record = reader.next()) {
        if (record.type === RecordType.Snapshot) marks.push(decodeSnapshotMark(record.data, reader));
        else if (record.type === RecordType.State) commit = decodeHardState(record.data, reader).commit;
      }
    }
  } finally {
    await reader.close();
  }
  // A mark beyond the last commit was saved by a member that crashed before the HardState that goes with it.
  const usable = marks.filter((mark) => mark.index > 0 && mark.index <= commit);
  return loadNewestSnapshot(disk, dir, names, usable);
}

/**
 * What one pass over the log checks besides its frames: that all segments have the same owner, and that the place it begins
 * at is in the log. etcd creates a WAL with the mark (0, 0), and marks every snapshot.
 */
export class HeadCheck {
  #metadata: Uint8Array | undefined;
  #marked = false;
  readonly #index: number;
  readonly #term: number;

  /** `start` is the snapshot that the pass begins at; undefined for the start of the log. */
  constructor(start: SnapshotMetadata | undefined) {
    this.#index = start?.index ?? 0;
    this.#term = start?.term ?? 0;
  }

  acceptMetadata(data: Uint8Array, place: Place): void {
    if (this.#metadata === undefined) this.#metadata = data.slice();
    else if (!equalBytes(this.#metadata, data))
      throw corruptAt(place, "its metadata is not that of the segments before");
  }

  acceptMark(mark: SnapshotMetadata, place: Place): void {
    if (mark.index !== this.#index) return;
    if (mark.term !== this.#term) {
      throw corruptAt(place, `the snapshot at ${mark.index} has term ${mark.term} here and ${this.#term} in its file`);
    }
    this.#marked = true;
  }

  /** At the end of the log: its metadata. */
  finish(place: Place): Uint8Array {
    if (this.#metadata === undefined) throw corruptAt(place, "the log ends without a metadata record");
    if (!this.#marked) throw corruptAt(place, `the log ends without the mark of the snapshot at ${this.#index}`);
    return this.#metadata;
  }
}
