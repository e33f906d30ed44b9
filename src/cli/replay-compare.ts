// The end of `stablelog replay`: reads the log back in full and compares it with the source: every entry byte by byte, the
// HardState, the metadata, the snapshot and its data, and what verify() finds. Called by replay.ts.

import { equalBytes } from "../base/bytes.js";
import type { MemberContents } from "../etcd/member.js";
import { FileStorage } from "../storage/file-storage.js";
import type { ReplayModel } from "./replay-model.js";
import { readMemberSnapshot } from "./replay-source.js";

export interface Comparison {
  readonly differences: readonly string[];
  /** Entries read back and compared, byte by byte. */
  readonly entries: number;
  readonly segments: number;
}

/** Opens the log in `dir` and compares it with `contents`, which is what stands in the directory `member`. */
export async function compare(
  dir: string,
  member: string,
  contents: MemberContents,
  expected: ReplayModel,
): Promise<Comparison> {
  const storage = await FileStorage.open(dir, { create: false, cacheBytes: 0 });
  try {
    const differences: string[] = [];
    const state = expected.difference(storage);
    if (state !== undefined) differences.push(state);
    if (!equalBytes(storage.metadata, contents.metadata)) differences.push("the metadata is not that of the member");
    const { hardState } = storage.initialState();
    const { term, vote, commit } = contents.hardState;
    if (hardState.term !== term || hardState.vote !== vote || hardState.commit !== commit) {
      differences.push(`the HardState is not that of the member: term ${term}, vote ${vote}, commit ${commit}`);
    }
    const entries = compareEntries(storage, contents, differences);
    await compareSnapshot(storage, member, expected, differences);
    const report = await storage.verify();
    for (const { code, file, offset, proof } of report.damage) {
      differences.push(`verify: ${code} in ${file} at ${offset}: ${proof}`);
    }
    return { differences, entries, segments: report.segments };
  } finally {
    await storage.close();
  }
}

/** Differences told one by one before the rest is only counted. */
const MAX_TOLD = 10;
const PIECE_BYTES = 1024 * 1024;

/** Compares every entry that both sides hold, and that neither ends early; gives how many. */
function compareEntries(storage: FileStorage, { entries, snapshot }: MemberContents, differences: string[]): number {
  const base = snapshot?.metadata.index ?? 0;
  const end = base + entries.length + 1;
  const first = Math.max(storage.firstIndex(), base + 1);
  if (storage.lastIndex() + 1 !== end) {
    differences.push(`the log ends at entry ${storage.lastIndex()}, the source at ${end - 1}`);
  }
  const stop = Math.min(end, storage.lastIndex() + 1);
  let wrong = 0;
  let next = first;
  while (next < stop) {
    for (const found of storage.entries(next, stop, PIECE_BYTES)) {
      next = found.index + 1;
      const wanted = entries[found.index - base - 1];
      const same =
        wanted !== undefined &&
        wanted.index === found.index &&
        wanted.term === found.term &&
        wanted.type === found.type &&
        equalBytes(wanted.data, found.data);
      if (!same && ++wrong <= MAX_TOLD) differences.push(`entry ${found.index} is not that of the source`);
    }
  }
  if (wrong > MAX_TOLD) differences.push(`${wrong - MAX_TOLD} more entries are not those of the source`);
  return next - first;
}

/** Compares the newest snapshot's data with its file in snap/, where that is still there. */
async function compareSnapshot(
  storage: FileStorage,
  member: string,
  { mark }: ReplayModel,
  differences: string[],
): Promise<void> {
  const held = storage.readSnapshot();
  // Whether there is one, and which, is the model's to compare.
  if (held === undefined || mark === undefined) return;
  const { index } = mark;
  const wanted = (await readMemberSnapshot(member, mark))?.data ?? new Uint8Array(0);
  let at = 0;
  for await (const piece of held.data) {
    if (!equalBytes(piece, wanted.subarray(at, at + piece.length))) {
      differences.push(`the data of the snapshot at ${index} differs after ${at} bytes`);
      return;
    }
    at += piece.length;
  }
  if (at !== wanted.length) differences.push(`the snapshot at ${index} has ${at} bytes, the source's ${wanted.length}`);
}
