// The .snap files of a member's snap/ directory: finding the newest one that the WAL vouches for. Called by member.ts.
// A file that cannot be decoded is passed over, as etcd does (etcdserver/api/snap/snapshotter.go, LoadNewestAvailable); it
// is neither renamed nor removed.
//
//    snap/%016x-%016x.snap (term, index)     protobuf { 1: crc uint32, 2: data bytes }: crc is CRC-32C of data alone,
//                                            data a raftpb Snapshot { 1: data, 2: metadata }

import { hex } from "../base/bytes.js";
import { crc32c } from "../base/crc32.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, joinPath } from "../disk/disk.js";
import type { Snapshot, SnapshotMetadata } from "../raftpb/types.js";
import { corruptAt, type Place, readError } from "./place.js";
import { decodeSnapshot, decodeSnapshotEnvelope } from "./record.js";

const SNAPSHOT_NAME = /^[0-9a-f]{16}-[0-9a-f]{16}\.snap$/;
const MAX_SNAPSHOT_BYTES = 1024 * 1024 * 1024;

/** The names of the snapshot files of the member directory `dir`, newest first; none when snap/ is missing. */
export async function listSnapshotFiles(disk: Disk, dir: string): Promise<string[]> {
  try {
    const names = await disk.list(joinPath(dir, "snap"));
    // Term and index are of fixed width, so that the order of the names is the order of the snapshots.
    return names
      .filter((name) => SNAPSHOT_NAME.test(name))
      .sort()
      .reverse();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return [];
    throw readError(error, "snap");
  }
}

/**
 * The newest snapshot among the files `names` (newest first) whose index and term are those of one of `marks`.
 * @throws ERR_READ when a file is there and the system cannot read it; ERR_TOO_LARGE above 1 GiB.
 */
export async function loadNewestSnapshot(
  disk: Disk,
  dir: string,
  names: readonly string[],
  marks: readonly SnapshotMetadata[],
): Promise<Snapshot | undefined> {
  for (const name of names) {
    let snapshot: Snapshot;
    try {
      snapshot = await readSnapshotFile(disk, dir, name);
    } catch (error) {
      if (error instanceof StableLogError && passedOver.includes(error.code)) continue;
      throw error;
    }
    const { index, term } = snapshot.metadata;
    if (marks.some((mark) => mark.index === index && mark.term === term)) return snapshot;
  }
  return undefined;
}

/** Damaged, no regular file, or removed since it was listed. */
const passedOver: readonly string[] = ["ERR_CORRUPT", "ERR_FOREIGN", "ERR_NOT_FOUND"];

async function readSnapshotFile(disk: Disk, dir: string, name: string): Promise<Snapshot> {
  const place: Place = { file: `snap/${name}`, offset: 0 };
  const bytes = await readWhole(disk, joinPath(joinPath(dir, "snap"), name), place.file);
  const { crc, data } = decodeSnapshotEnvelope(bytes, place);
  if (data.length === 0) throw corruptAt(place, "the snapshot file is empty");
  const actual = crc32c(data);
  if (actual !== crc) throw corruptAt(place, `its checksum is ${hex(crc, 8)}, its bytes have ${hex(actual, 8)}`);
  return decodeSnapshot(data, place);
}

async function readWhole(disk: Disk, path: string, file: string): Promise<Uint8Array> {
  try {
    const source = await disk.open(path, "read");
    try {
      const size = source.size();
      if (size > MAX_SNAPSHOT_BYTES) {
        throw new StableLogError("ERR_TOO_LARGE", `${size} bytes are more than the 1 GiB a snapshot may have`);
      }
      const bytes = new Uint8Array(size);
      const got = await source.readLater(bytes, 0, size, 0);
      return bytes.subarray(0, got);
    } finally {
      await source.close();
    }
  } catch (error) {
    throw readError(error, file);
  }
}
