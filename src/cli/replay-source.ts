// The etcd member that `stablelog replay` takes its batches from: its contents, and the data of its snapshots. Used by
// replay.ts and replay-worker.ts.

import { hex } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import { FileDisk } from "../disk/file-disk.js";
import { type MemberContents, readMember } from "../etcd/member.js";
import { loadNewestSnapshot } from "../etcd/snapshot-file.js";
import type { Snapshot, SnapshotMetadata } from "../raftpb/types.js";

export interface Source {
  readonly contents: MemberContents;
  /** Where the replay begins: at the newest snapshot when the log before it is gone. */
  readonly from: "start" | "snapshot";
}

/** Reads the member in `dir`, from its first entry if that is still there. */
export async function readSource(dir: string): Promise<Source> {
  try {
    return { contents: await readMember(dir, { from: "start" }), from: "start" };
  } catch (error) {
    // etcd removes old segments, and a member that was sent a snapshot never had the entries that it stands for.
    if (!(error instanceof StableLogError && error.code === "ERR_GAP")) throw error;
    return { contents: await readMember(dir, { from: "snapshot" }), from: "snapshot" };
  }
}

/** The snapshot of `mark` from the member's snap/; undefined when its file is gone or damaged. */
export function readMemberSnapshot(dir: string, mark: SnapshotMetadata): Promise<Snapshot | undefined> {
  return loadNewestSnapshot(new FileDisk(), dir, [`${hex(mark.term, 16)}-${hex(mark.index, 16)}.snap`], [mark]);
}
