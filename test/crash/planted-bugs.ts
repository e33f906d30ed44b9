// Planted bugs: mistakes that a good engineer makes, each as patches to a copy of the built package (dist/). They are what
// our crash exploration is tested with: it must find every one of them. Used by planted-bugs.long.ts, which applies them.
// None shows in a life without faults; each loses or invents data, or breaks a stated contract, under the fault that `why`
// names. Patches are text, so that src/ holds no switch: when a patch no longer fits, the code it spoils has changed.

/** One believable mistake. */
export interface PlantedBug {
  readonly name: string;
  /** What the mistake is, and under which fault it shows. */
  readonly why: string;
  /** In order; `file` is relative to dist/, and `text` occurs in it exactly once when its turn comes. */
  readonly patches: readonly { readonly file: string; readonly text: string; readonly replacement: string }[];
}

// ---- when a save is acknowledged

const acknowledging: readonly PlantedBug[] = [
  {
    name: "ack-before-sync",
    why: "A group is acknowledged when it is written and synced behind the savers' backs: a power cut takes acknowledged saves.",
    patches: [
      {
        file: "wal/log.js",
        text: "const written = this.#write(active, group, sync);",
        replacement: `const written = this.#write(active, group, false);
        if (sync)
            setImmediate(() => void active.file.writeLater(EMPTY, 0, 0, 0, true).catch(() => { }));`,
      },
    ],
  },
  {
    name: "last-save-decides-sync",
    why: "A group is synced when its last save asks for it, not when any does: a power cut takes saves that shared a group with a later commit-only one.",
    patches: [
      {
        file: "wal/group-commit.js",
        text: `if (mustSync)
            group.mustSync = true;`,
        replacement: "group.mustSync = mustSync;",
      },
    ],
  },
  {
    name: "vote-not-synced",
    why: "A save that changes the vote within a term counts as commit-only and is not synced: a power cut takes the vote, and the node votes twice.",
    patches: [
      {
        file: "storage/batch.js",
        text: `out.hardState.term === state.term &&
            out.hardState.vote === state.vote;`,
        replacement: "out.hardState.term === state.term;",
      },
    ],
  },
  {
    name: "must-sync-ignored",
    why: "A commit-only save is left unsynced even when the caller asks with mustSync: a power cut takes a commit that resolved as durable.",
    patches: [{ file: "storage/batch.js", text: "!out.mustSync &&", replacement: "" }],
  },
  {
    name: "empty-save-at-once",
    why: "save({}) resolves at once and not when the saves before it have: a barrier that a power cut shows to be none.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `if (checked.empty && !checked.mustSync)
                return log.settled();`,
        replacement: `if (checked.empty && !checked.mustSync)
                return Promise.resolve();`,
      },
    ],
  },
  {
    name: "first-group-unsynced",
    why: "A new segment's first group is synced only when it asks for it, so a commit-only save begins a segment whose head is not durable and STATE names it: after a power cut open() refuses.",
    patches: [
      {
        file: "wal/log.js",
        text: 'const sync = this.#engine !== "off";',
        replacement: 'const sync = group.mustSync && this.#engine !== "off";',
      },
    ],
  },
  {
    name: "growth-unsynced",
    why: "A group that makes its file longer is written and not synced, as if the zeros behind it had been: a power cut takes acknowledged saves, or the size that reaches them.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (!sync)
            return 0;`,
        replacement: `if (!sync || grows)
            return 0;`,
      },
      { file: "wal/log.js", text: "if (sync && grows) {", replacement: "if (sync && !grows) {" },
    ],
  },
  {
    name: "unsynced-predecessor",
    why: "What a full segment has unsynced is not synced before its successor begins: a power cut leaves a hole in an older segment that its successor links to as whole.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (previous?.unsynced === true && this.#engine !== "off")
            await this.#syncNow(previous, nowMs());`,
        replacement: "",
      },
    ],
  },
  {
    name: "state-named-before-sync",
    why: "STATE names a new segment before its first frame is synced: a power cut between the two leaves a named segment without a head, and open() refuses.",
    patches: [
      {
        file: "wal/log.js",
        text: "ms = await this.#write(active, group, sync);",
        replacement: `this.#install(active);
            await this.#name(active);
            ms = await this.#write(active, group, sync);`,
      },
      {
        file: "wal/log.js",
        text: `this.#install(active);
        await this.#name(active);`,
        replacement: "",
      },
    ],
  },
  {
    name: "state-never-named",
    why: "The newest segment is remembered but not written to STATE: when its file is lost and the watermark with it (power cut, then a missing file), the log opens without it and says nothing.",
    patches: [
      {
        file: "wal/state-file.js",
        text: "await this.#file.writeLater(bytes, 0, bytes.length, slot * f.IDENTITY_SLOT_BYTES, sync);",
        replacement: "",
      },
    ],
  },
  {
    name: "hardstate-read-early",
    why: "initialState() answers from the submitted HardState: a vote that a failed sync rejects has been shown, and so is one whose save is still queued.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: "hardState: { ...this.#durableHardState() }",
        replacement:
          "hardState: { term: this.#submitted.term, vote: this.#submitted.vote, commit: this.#submitted.commit }",
      },
    ],
  },
  {
    name: "worker-publishes-early",
    why: "With the worker engine a group becomes readable, and counts as durable, when it is handed over: a sync that fails leaves rejected saves readable, and a watermark ahead of the disk.",
    patches: [
      {
        file: "wal/log.js",
        text: "return written.then((ms) => this.#written(active, group, sync, ms), (error) => {",
        replacement: `this.#written(active, group, sync, 0);
        return written.then(() => { }, (error) => {`,
      },
    ],
  },
  {
    name: "buffer-aliased",
    why: "Payloads are checksummed at the call and gathered from the caller's memory at the write: a caller that reuses its buffer meanwhile gets an acknowledged frame that a reopen drops or refuses.",
    patches: [
      {
        file: "wal/frame.js",
        text: "this.#written = 0;",
        replacement: `this.#written = 0;
        this.late = [];`,
      },
      {
        file: "wal/frame.js",
        text: "this.#bytes.set(data, at);",
        replacement: `this.#bytes.set(data, at);
        this.late.push([at, data]);`,
      },
      {
        file: "wal/log.js",
        text: "const end = this.#writer.end();",
        replacement: `const end = this.#writer.end();
        (group.late ??= []).push(...this.#writer.late);`,
      },
      {
        file: "wal/log.js",
        text: "this.#stamp(group, segment);",
        replacement: `for (const [at, data] of group.late ?? [])
            group.slab.bytes.set(data, at);
        this.#stamp(group, segment);`,
      },
    ],
  },
];

// ---- names and directories

const naming: readonly PlantedBug[] = [
  {
    name: "no-segment-dir-sync",
    why: "The directory is not synced after a new segment got its name: a power cut takes the file with all that was acknowledged in it.",
    patches: [
      {
        file: "wal/log.js",
        text: "await this.names.give(() => this.#pipeline.rename(path), () => this.#disk.unlink(path).catch(() => { }));",
        replacement: "await this.#pipeline.rename(path);",
      },
    ],
  },
  {
    name: "no-state-dir-sync",
    why: "The directory is not synced after STATE was renamed into place, nor by an open that finds no segment: a power cut may keep the first segment's name and lose STATE's, and open() refuses.",
    patches: [
      { file: "wal/state-file.js", text: "await disk.syncDir(dir);", replacement: "" },
      {
        file: "wal/recovery.js",
        text: `if (this.#earns)
            await this.#syncBeforeReading(state, generations);`,
        replacement: `if (this.#earns && generations.length > 0)
            await this.#syncBeforeReading(state, generations);`,
      },
    ],
  },
  {
    name: "no-parent-sync",
    why: "The parent of the log's own new directory is never synced: a power cut takes the whole log.",
    patches: [
      { file: "wal/log.js", text: "await disk.syncDir(parentOf(path));", replacement: "" },
      { file: "wal/log.js", text: "await syncName(disk, dir);", replacement: "" },
    ],
  },
  {
    name: "nested-parent-unsynced",
    why: "Of several directories that open() makes, only the last one's name is synced: a power cut takes a parent and the whole log with it.",
    patches: [{ file: "wal/log.js", text: "await disk.syncDir(parentOf(path));", replacement: "" }],
  },
  {
    name: "found-directory-unsynced",
    why: "An empty directory that is found is taken for durable, though an open() that was killed may just have made it: a kill, a new start and a power cut take the whole log.",
    patches: [{ file: "wal/log.js", text: "await syncName(disk, dir);", replacement: "" }],
  },
  {
    name: "state-made-in-place",
    why: "STATE is made under its own name, not under another one and renamed: a kill or a power cut while it is written leaves half a STATE, and open() refuses for ever.",
    patches: [
      {
        file: "wal/state-file.js",
        text: "const tmp = joinPath(dir, STATE_TMP_NAME);",
        replacement: "const tmp = joinPath(dir, STATE_NAME);",
      },
      {
        file: "wal/state-file.js",
        text: "await disk.rename(tmp, path);",
        replacement: "",
      },
    ],
  },
  {
    name: "state-same-slot",
    why: "STATE's identity is written over its only slot, not into the other one: a torn write (a kill amid it, a sector of garbage) leaves no identity, and open() refuses.",
    patches: [
      {
        file: "wal/state-file.js",
        text: "const slot = this.#slot === 0 ? 1 : 0;",
        replacement: "const slot = this.#slot;",
      },
    ],
  },
  {
    name: "lost-state-made-anew",
    why: "A directory with segments and no STATE gets a new one: where STATE was lost (a missing file), open() refuses and has changed the directory, for a stranger's identity.",
    patches: [
      {
        file: "wal/recovery-table.js",
        text: '{ state: "missing", ours: true, etcd: ANY, create: ANY, decision: "ERR_CORRUPT" },',
        replacement: `{ state: "missing", ours: true, etcd: ANY, create: false, decision: "ERR_CORRUPT" },
    { state: "missing", ours: true, etcd: ANY, create: true, decision: "create" },`,
      },
    ],
  },
];

// ---- calls that fail

const failing: readonly PlantedBug[] = [
  {
    name: "sync-retried",
    why: "A sync that failed is tried again and believed: the kernel has dropped the pages by then, so a save resolves after a failed sync (EIO once) and a power cut takes it.",
    patches: [
      {
        file: "wal/log.js",
        text: "file.sync();",
        replacement: `try {
                file.sync();
            }
            catch {
                file.sync();
            }`,
      },
      {
        file: "wal/log.js",
        text: "await file.commit(slab.bytes, start, end, segment.end);",
        replacement: `await file.commit(slab.bytes, start, end, segment.end)
                    .catch(() => file.writeLater(EMPTY, 0, 0, 0, true));`,
      },
    ],
  },
  {
    name: "not-poisoned",
    why: "A failed write or sync of the log rejects its saves and the log goes on: the next save resolves on top of pages that a failed sync has dropped.",
    patches: [
      {
        file: "wal/log.js",
        text: `this.#status = "poisoned";
        this.#poison = cause;`,
        replacement: "this.#poison = cause;",
      },
    ],
  },
  {
    name: "enospc-sync-is-space",
    why: "A sync that fails with ENOSPC or EDQUOT counts as a failure to make room, which poisons nothing: the log goes on behind a failed sync.",
    patches: [
      {
        file: "wal/log.js",
        text: `throw new Poison(error, true);
        }
        return nowMs() - started;`,
        replacement: `if (errnoOf(error) === "ENOSPC" || errnoOf(error) === "EDQUOT")
                throw spaceError("save", error, { file: segment.name });
            throw new Poison(error, true);
        }
        return nowMs() - started;`,
      },
      {
        file: "wal/log.js",
        text: `if (grows && isNoSpace(error))
                return this.#noRoom(active, group, sync, error);
            throw new Poison(error, true);`,
        replacement: `if (isNoSpace(error))
                return this.#cutBack(active, error);
            throw new Poison(error, true);`,
      },
    ],
  },
  {
    name: "partial-write-not-told",
    why: "A write that fails after some of its bytes went through is rejected with maybeDurable false: the save may be found whole by the next open().",
    patches: [
      {
        file: "wal/log.js",
        text: "throw new Poison(error, bytesWritten(error) > 0);",
        replacement: "throw new Poison(error, false);",
      },
    ],
  },
  {
    name: "state-name-failure-ignored",
    why: "A new segment that STATE could not name (EIO of its write or sync) is acknowledged all the same: the log is not poisoned, and a lost newest segment would not be noticed.",
    patches: [
      {
        file: "wal/log.js",
        text: `catch (error) {
            throw new Poison(error, true);
        }
        if (before !== undefined)`,
        replacement: `catch { }
        if (before !== undefined)`,
      },
    ],
  },
  {
    name: "queued-saves-survive",
    why: "Only the group that failed is rejected and the ones queued behind it go on: they are written and resolve after a failed write or sync (EIO), or behind a gap (ENOSPC).",
    patches: [
      {
        file: "wal/group-commit.js",
        text: `const rejected = this.#queue.splice(0);
        this.#busy = false;
        this.#pendingBytes = 0;`,
        replacement: `const rejected = this.#queue.splice(0, 1);
        this.#busy = false;
        this.#pendingBytes -= rejected[0].used;
        if (this.#queue.length > 0 && !this.#scheduled)
            this.#schedule();`,
      },
    ],
  },
  {
    name: "rejected-state-kept",
    why: "What was rejected for want of room (ENOSPC at rotation) stays in the state that saves are judged by: the vote that is saved again counts as unchanged, is not synced, and a power cut takes it.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `this.#rejection = error;
        this.#submitted = this.#durableState();`,
        replacement: "this.#rejection = error;",
      },
    ],
  },
  {
    name: "rejected-group-not-cut-off",
    why: "A group that a growing file has no room for (ENOSPC amid the write) is rejected and what went through of it stays: whole frames of rejected saves are there after a crash, and their places are taken for a tear.",
    patches: [
      {
        file: "wal/log.js",
        text: `active.full = errnoOf(cause) === "EFBIG";
        try {
            await file.truncate(segment.end);`,
        replacement: `active.full = errnoOf(cause) === "EFBIG";
        try {`,
      },
    ],
  },
  {
    name: "cut-back-unsynced",
    why: "What went through of a group that found no room is cut off, and the cut is not synced: a power cut undoes it, and saves that were rejected for good are there.",
    patches: [
      {
        file: "wal/log.js",
        text: `await file.truncate(segment.end);
            if (this.#engine !== "off")
                await file.writeLater(EMPTY, 0, 0, 0, true);`,
        replacement: "await file.truncate(segment.end);",
      },
    ],
  },
  {
    name: "taken-back-segment-keeps-its-head",
    why: "A segment whose head or first group found no room (ENOSPC) is removed as it is, and the one before it is written on: a power cut brings the name back, and its head says that the log ends where it did then.",
    patches: [
      {
        file: "wal/log.js",
        text: `await file.truncate(0);
            if (this.#engine !== "off")
                await file.writeLater(EMPTY, 0, 0, 0, true);`,
        replacement: "",
      },
    ],
  },
  {
    name: "full-disk-refuses-open",
    why: "A tail that must be carried over needs a new segment and nothing else will do: a log that was killed amid a save does not open while the disk is full (ENOSPC).",
    patches: [
      {
        file: "wal/log.js",
        text: `if (error instanceof StableLogError && error.code === "ERR_NO_SPACE")
                return this.#carryInPlace(carry);`,
        replacement: "",
      },
    ],
  },
  {
    name: "short-write-ignored",
    why: "A write counts as whole however many bytes it took: on a real file that meets its limit (EFBIG, ENOSPC) a save resolves with half of it on disk.",
    patches: [
      {
        file: "disk/file-disk.js",
        text: `const bytes = fs.writeSync(fd, source, done, length, position + done - start);
                if (bytes === 0)
                    throw stuck(length);
                done += bytes;`,
        replacement: `fs.writeSync(fd, source, done, length, position + done - start);
                done += length;`,
      },
      {
        file: "disk/file-disk.js",
        text: `const bytes = await writeSome(fd, source, done, length, position + done - start);
            if (bytes === 0)
                throw stuck(length);
            done += bytes;`,
        replacement: `await writeSome(fd, source, done, length, position + done - start);
            done += length;`,
      },
      {
        file: "disk/sync-worker.js",
        text: `done += bytes;
      }
      fs.fdatasyncSync(fd);`,
        replacement: `done += length;
      }
      fs.fdatasyncSync(fd);`,
      },
    ],
  },
  {
    name: "read-error-is-the-end",
    why: "Files are read sector by sector and a read that fails (EIO) ends them: what stands behind an unreadable sector of the newest segment is dropped, or refused under another name than ERR_READ.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const piece = (at) => readingAt(name, at, () => file.readLater(bytes, at, Math.min(length, at + READ_BYTES), at));",
        replacement: "const piece = (at) => file.readLater(bytes, at, Math.min(length, at + 512), at).catch(() => 0);",
      },
    ],
  },
  {
    name: "close-syncs-poisoned",
    why: "close() of a poisoned log syncs and marks it closed like any other: a second sync after a failed one, and a mark that vouches for pages that the first one dropped.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (this.#status === "poisoned") {
            await stateFile.abandon();
            return;
        }`,
        replacement: "",
      },
    ],
  },
];

// ---- what a frame's checks are for

const checking: readonly PlantedBug[] = [
  {
    name: "salt-left-out",
    why: "The header's checksum is taken without the segment's seed, and the generation, being under it, is not compared: a copy under a newer segment's name, or a frame written to another segment's place, is served.",
    patches: [
      {
        file: "wal/frame.js",
        text: `at + f.HEADER_BYTES, identity.seed | 0);
    view.setUint32(at + f.H_CRC`,
        replacement: `at + f.HEADER_BYTES);
    view.setUint32(at + f.H_CRC`,
      },
      {
        file: "wal/frame.js",
        text: "const crc = crc32Words(words, bytes, at + 4, at + f.HEADER_BYTES, identity.seed | 0);",
        replacement: "const crc = crc32Words(words, bytes, at + 4, at + f.HEADER_BYTES);",
      },
      {
        file: "wal/frame.js",
        text: "crc32(bytes.subarray(at + 4, at + f.HEADER_BYTES), expected.identity.seed)",
        replacement: "crc32(bytes.subarray(at + 4, at + f.HEADER_BYTES))",
      },
      { file: "wal/frame.js", text: "getU64(view, at + f.H_GENERATION) !== identity.generation ||", replacement: "" },
      {
        file: "wal/recovery.js",
        text: "crc32(bytes.subarray(4, f.HEADER_BYTES), seed)",
        replacement: "crc32(bytes.subarray(4, f.HEADER_BYTES))",
      },
    ],
  },
  {
    name: "block-salt-left-out",
    why: "The check of a block is its plain checksum: a block that was written to the same place of another segment (a misdirected write) passes a cold read with what was overwritten long ago.",
    patches: [
      {
        file: "wal/frame.js",
        text: "(view.getUint32(entry + 4, true) ^ identity.seed) >>> 0",
        replacement: "view.getUint32(entry + 4, true)",
      },
      { file: "wal/frame.js", text: "(crc ^ identity.seed) >>> 0", replacement: "crc" },
      { file: "wal/frame.js", text: "^ bad.crc ^ expected.identity.seed", replacement: "^ bad.crc" },
      { file: "wal/log.js", text: "(crc ^ segment.identity.seed) >>> 0 !== check", replacement: "crc !== check" },
    ],
  },
  {
    name: "chain-unchecked",
    why: "A frame's chain is not compared with the frame before: one that another history of the log has in the same place (a mirror that diverged) passes, though its successor was chained to the right one.",
    patches: [
      {
        file: "wal/frame.js",
        text: `(expected.sequence !== undefined && getU64(view, at + f.H_SEQUENCE) !== expected.sequence) ||
        (expected.chain !== undefined && view.getUint32(at + f.H_CHAIN, true) !== expected.chain)) {`,
        replacement: "(expected.sequence !== undefined && getU64(view, at + f.H_SEQUENCE) !== expected.sequence)) {",
      },
    ],
  },
  {
    name: "offset-unchecked",
    why: "A frame's offset is not compared with where it stands: a frame that was written over a later one of the same first entry (a misdirected write) passes a cold read with the entries that were overwritten.",
    patches: [{ file: "wal/frame.js", text: "getU64(view, at + f.H_OFFSET) !== expected.offset ||", replacement: "" }],
  },
  {
    name: "body-crc-unchecked",
    why: "A body counts when the lengths in it add up, and its checksum is not compared: a flipped bit in a small frame's payload, and a sector that a power cut took out of a write, are served as data.",
    patches: [
      {
        file: "wal/frame.js",
        text: `if (metaCrc(bytes, view, body, metaBytes, bodyBytes, words) !== crc)
        return "meta";`,
        replacement: `const part = emptyPart();
    const whole = metaBytes === bodyBytes;
    if (whole ? !readPart(view, at, part) : metaCrc(bytes, view, body, metaBytes, bodyBytes) !== crc)
        return "meta";
    if (whole && !walkRecords(view, part.recordsAt, part.recordsEnd, part.first, part.count, () => { }))
        return "meta";`,
      },
    ],
  },
  {
    name: "cold-block-unchecked",
    why: "A block was checked when it was written, so a cold read trusts it: a damaged byte in an older segment is served.",
    patches: [
      {
        file: "wal/log.js",
        text: `if ((crc ^ segment.identity.seed) >>> 0 !== check)
                throw damaged(segment, offset, "block");`,
        replacement: "",
      },
    ],
  },
  {
    name: "blocks-unchecked-at-open",
    why: "Recovery sees that the lengths in a block add up and leaves its checksum to the reads: a power cut that takes a sector out of a large unacknowledged save leaves one that counts and cannot be read, or is carried over with the hole in it.",
    patches: [
      {
        file: "wal/frame.js",
        text: "if (crc32(bytes.subarray(block + f.B_RECORD_BYTES, end)) !== crc ||",
        replacement: `let p = block + f.BLOCK_BYTES;
        while (p + f.RECORD_BYTES <= end)
            p += f.RECORD_BYTES + view.getUint32(p + f.R_DATA_BYTES, true);
        if (p !== end ||`,
      },
    ],
  },
  {
    name: "length-trusted",
    why: "The search for a frame that vouches for a bad one begins behind the bad one's own length, before any checksum held: a wrecked header with a large length (a few bytes of garbage in it, no watermark) hides all that follows, and it is dropped as a tear.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "for (let p = at + 8; p + f.HEADER_BYTES <= end; p += 8) {",
        replacement: `const own = at + f.HEADER_BYTES <= end ? frameBytesAt(data, at) : 8;
    for (let p = at + own; p + f.HEADER_BYTES <= end; p += 8) {`,
      },
    ],
  },
  {
    name: "zero-is-the-end",
    why: "A zero header is the end of the log, whatever stands behind it or in STATE: an acknowledged write that never came, or a sector that became zero, takes the rest of the log in silence.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const zeros = dataEnd === at;",
        replacement: 'const zeros = verdict === "zero";',
      },
      {
        file: "wal/recovery.js",
        text: "const reason = vouchedBeyond(bytes, data, at, sequence + 1, expect(), mark);",
        replacement: "const reason = zeros ? undefined : vouchedBeyond(bytes, data, at, sequence + 1, expect(), mark);",
      },
    ],
  },
  {
    name: "vouching-stops-at-zeros",
    why: "The search for a frame that vouches for a bad one ends at the first stretch of zeros: a sector that became zero hides the frames behind it (no watermark), and they are dropped in silence.",
    patches: [
      {
        file: "wal/recovery.js",
        text: `if (data.getUint16(p + f.H_MAGIC, true) !== f.MAGIC)
            continue;`,
        replacement: `if (data.getUint16(p + f.H_MAGIC, true) !== f.MAGIC) {
            if (lastByte(bytes.subarray(0, p + f.HEADER_BYTES), p) === p)
                break;
            continue;
        }`,
      },
    ],
  },
  {
    name: "first-bad-frame-is-the-end",
    why: "The log ends at its first bad frame and nothing is asked to vouch for it: damage amid acknowledged saves is dropped as a tear.",
    patches: [{ file: "wal/recovery.js", text: "vouched: reason !== undefined,", replacement: "vouched: false," }],
  },
  {
    name: "one-bit-is-a-tear",
    why: "A last frame that is one bit from valid is a tear like any other: one flipped bit in the last acknowledged save, without a watermark, drops it in silence.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const bit = suspicious ? oneBitFromValid(bytes, data, at, expect()) : -1;",
        replacement: "const bit = -1;",
      },
    ],
  },
  {
    name: "segment-length-unchecked",
    why: "An older segment's length is not held against what its successor says: one that was cut opens, and is found when its last entries are read.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "if (head.size < link.previousEnd) {",
        replacement: "if (head.size < 0) {",
      },
    ],
  },
  {
    name: "index-unbound",
    why: "An index file is believed when its own checksum holds, whatever end of whatever segment it was made for: one that stands under another's name gives wrong terms and hides good entries.",
    patches: [
      { file: "wal/segment-index.js", text: "wanted.some((byte, i) => byte !== bytes[i]) ||", replacement: "" },
    ],
  },
];

// ---- what a log says of how far it is durable

const vouching: readonly PlantedBug[] = [
  {
    name: "watermark-before-sync",
    why: "STATE's watermark is written before the sync that it tells of: a power cut that keeps it and loses the group makes open() refuse, and a failed sync leaves a word that vouches for dropped pages.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (!sync)
            return 0;`,
        replacement: `if (!sync)
            return 0;
        let last = 0;
        let { sequence } = segment;
        for (let at = group.start; at < group.end; at += frameBytesAt(group.slab.view, at)) {
            last = at;
            sequence++;
        }
        this.#note({
            generation: segment.generation,
            end: segment.end + group.used,
            sequence,
            chain: group.slab.view.getUint32(last + f.H_CRC, true),
        });`,
      },
    ],
  },
  {
    name: "watermark-of-what-is-written",
    why: "The watermark, which waits until no group follows, is taken of the segment as it is by then: it covers commit-only saves that were written behind the last sync, and a power cut that loses them makes open() refuse.",
    patches: [
      {
        file: "wal/log.js",
        text: "this.#note(this.#synced);",
        replacement: "this.#note(this.#active?.segment ?? this.#synced);",
      },
    ],
  },
  {
    name: "frame-vouches-for-its-group",
    why: "A frame says that the one before it is durable, though both are of the same unsynced group: a power cut that keeps the later one makes open() refuse.",
    patches: [
      {
        file: "wal/log.js",
        text: "identity, ++sequence, this.#durable, offset, chain, words);",
        replacement: "identity, ++sequence, sequence - 1, offset, chain, words);",
      },
    ],
  },
  {
    name: "commit-only-counts-as-durable",
    why: "A commit-only save moves the durable sequence on though nothing was synced: the next frame vouches for it, and a power cut that keeps only the later one makes open() refuse.",
    patches: [
      {
        file: "wal/log.js",
        text: "active.unsynced = true;",
        replacement: `active.unsynced = true;
            this.#durable = segment.sequence;`,
      },
    ],
  },
  {
    name: "close-mark-unsynced",
    why: "close() writes its mark and does not sync it: after a power cut a closed log is one that was killed, and damage at its end passes for a tear.",
    patches: [
      {
        file: "wal/state-file.js",
        text: "await this.#file.writeLater(this.#bytes, 0, f.WATERMARK_BYTES, this.#watermarkPosition(), true);",
        replacement:
          "await this.#file.writeLater(this.#bytes, 0, f.WATERMARK_BYTES, this.#watermarkPosition(), false);",
      },
    ],
  },
  {
    name: "close-without-sync",
    why: "close() marks the log closed without syncing what commit-only saves left: after a power cut the mark vouches for bytes that are gone, and open() refuses.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (active?.unsynced === true)
                await active.file.writeLater(EMPTY, 0, 0, 0, true);`,
        replacement: "",
      },
    ],
  },
];

// ---- recovery

const recovering: readonly PlantedBug[] = [
  {
    name: "tail-not-carried",
    why: "A valid tail is synced where it stands and believed: after a failed sync and a reopen without a reboot it is in the page cache alone, and the next power cut takes what was served.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "let vouchedFrames = Math.min(frames.length, Math.max(0, durable - link.sequence + 1));",
        replacement: "let vouchedFrames = frames.length;",
      },
    ],
  },
  {
    name: "carried-tail-unsynced",
    why: "A carried tail is written and named in STATE, and left for the first save to sync: a power cut after open() leaves a named segment without a head, and open() refuses.",
    patches: [{ file: "wal/log.js", text: "await this.#syncNow(active, started);", replacement: "" }],
  },
  {
    name: "carried-suffix-kept",
    why: "A carried tail in which a later save replaces entries keeps the old ones behind them: after a kill amid such a group, the second open() shows entries that were overwritten.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "recordsAt.length = Math.min(recordsAt.length, part.first - first);",
        replacement: "behind = recordsAt.splice(part.first - first).slice(part.count);",
      },
      {
        file: "wal/recovery.js",
        text: "let p = part.recordsAt;",
        replacement: `const suffix = behind;
        behind = [];
        let p = part.recordsAt;`,
      },
      {
        file: "wal/recovery.js",
        text: "let recordsAt = [];",
        replacement: `let recordsAt = [];
    let behind = [];`,
      },
      {
        file: "wal/recovery.js",
        text: `recordsAt.push(p);
            p = dataEnd;
        }`,
        replacement: `recordsAt.push(p);
            p = dataEnd;
        }
        recordsAt.push(...suffix);`,
      },
    ],
  },
  {
    name: "hardstate-not-carried",
    why: "The head of a carried tail restates no HardState: after a kill or a power cut with an unvouched tail the first open() still knows the vote, the second one does not.",
    patches: [
      { file: "wal/log.js", text: "shape.hasState = true;", replacement: "shape.hasState = carry === undefined;" },
      {
        file: "wal/log.js",
        text: "bytes.set(this.view.state, this.#writer.stateAt);",
        replacement: `if (shape.hasState)
            bytes.set(this.view.state, this.#writer.stateAt);`,
      },
    ],
  },
  {
    name: "state-left-to-first-group",
    why: "A head does not restate HardState when the group that begins the segment brings one: a kill or a power cut that leaves the head and tears the group loses the vote that was acknowledged before.",
    patches: [
      {
        file: "wal/log.js",
        text: "shape.hasState = true;",
        replacement: "shape.hasState = carry !== undefined || this.groupHasState !== true;",
      },
      {
        file: "wal/log.js",
        text: "bytes.set(this.view.state, this.#writer.stateAt);",
        replacement: `if (shape.hasState)
            bytes.set(this.view.state, this.#writer.stateAt);`,
      },
      {
        file: "wal/log.js",
        text: "const active = await this.#beginSegment(group.used, undefined);",
        replacement: `const part = emptyPart();
        this.groupHasState = readPart(group.slab.view, group.start, part) && (part.flags & f.F_STATE) !== 0;
        const active = await this.#beginSegment(group.used, undefined);`,
      },
    ],
  },
  {
    name: "mark-not-carried",
    why: "The head of a carried tail restates no mark: after a kill or a power cut with an unvouched tail the second open() knows neither snapshots nor ConfState, and removes their files.",
    patches: [
      {
        file: "wal/log.js",
        text: "shape.mark = this.view.mark;",
        replacement: "shape.mark = carry === undefined ? this.view.mark : undefined;",
      },
    ],
  },
  {
    name: "dummy-term-not-carried",
    why: "The head of a carried tail restates where the log begins and not the term there: after a kill or a power cut in a compacted log the second open() says term 0 for the dummy.",
    patches: [
      {
        file: "wal/log.js",
        text: "putU64(view, link + f.L_BASE_TAG, this.view.dummyTag);",
        replacement: "putU64(view, link + f.L_BASE_TAG, carry === undefined ? this.view.dummyTag : 0);",
      },
    ],
  },
  {
    name: "dummy-from-before-the-tail",
    why: "The head of a carried tail restates the dummy as it was before the tail: after a kill amid a group that saves and compacts, the second open() begins the log where entries are missing.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const base = view.last;",
        replacement: `const base = view.last;
        const dummy = view.dummyIndex;`,
      },
      {
        file: "wal/recovery.js",
        text: `from: segment.end,
                inPlace,`,
        replacement: `from: segment.end,
                dummy,
                inPlace,`,
      },
      {
        file: "wal/log.js",
        text: "putU64(view, link + f.L_BASE_INDEX, this.view.dummyIndex);",
        replacement: "putU64(view, link + f.L_BASE_INDEX, carry?.dummy ?? this.view.dummyIndex);",
      },
    ],
  },
  {
    name: "earlier-segment-appended-to",
    why: "The first save after an open goes into the newest segment when it has room: beyond a close mark that is still the newest word (a kill or a power cut before the next watermark is durable) acknowledged saves are dropped in silence.",
    patches: [
      {
        file: "wal/log.js",
        text: "await log.#remove(recovered.remove, recovered.state.newest);",
        replacement: `await log.#remove(recovered.remove, recovered.state.newest);
            const last = log.#segments.at(-1);
            if (log.#active === undefined && last !== undefined && log.#foundZeroTail && last.end < last.capacity) {
                const file = await disk.open(joinPath(dir, last.name), "write");
                log.#active = { segment: last, file, unsynced: false, zeroedTo: file.size(), aheadBytes: 0, largeBytes: 0, full: false };
            }`,
      },
    ],
  },
  {
    name: "unbegun-removal-unsynced",
    why: "A segment that was never begun is removed and that is not synced: behind a sync that failed (EIO) the disk may hold it whole, and a power cut brings back what open() has answered without.",
    patches: [
      {
        file: "wal/log.js",
        text: `if (unbegun && this.#engine !== "off")
            await this.#disk.syncDir(this.#dir);`,
        replacement: "",
      },
    ],
  },
  {
    name: "open-without-sync",
    why: "What open() reads is not synced first: STATE's name from a creation that was killed before its directory sync is served, and a later power cut that keeps a segment's name and not STATE's makes open() refuse.",
    patches: [
      {
        file: "wal/recovery.js",
        text: `if (this.#earns)
            await this.#syncBeforeReading(state, generations);`,
        replacement: "",
      },
    ],
  },
  {
    name: "off-predecessor-unsynced",
    why: "Of a log that ran with sync off and was killed, open() syncs the newest segment only: a power cut takes from older ones what a syncing open served.",
    patches: [
      {
        file: "wal/recovery.js",
        text: `if (this.#earns && link.durable < link.previousSequence)
                await this.#syncFile(name);`,
        replacement: "",
      },
    ],
  },
  {
    name: "previous-generation-assumed",
    why: "The segment before is the one of the generation before: a generation that was begun and lost (a kill or a failed call at rotation) leaves a gap in the numbers, and open() refuses.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const generation = link.previous;",
        replacement: "const generation = (segments[0] ?? tail.segment).generation - 1;",
      },
    ],
  },
  {
    name: "recovery-removes-first",
    why: "What is left over is removed as it is found, before the rest is judged: a killed log that is refused for damage has lost files by then.",
    patches: [
      {
        file: "wal/recovery.js",
        text: "const nextGeneration = Math.max(highest, state.newest) + 1;",
        replacement: `if (!this.#options.readOnly) {
            for (const name of remove.splice(0))
                await this.#disk.unlink(joinPath(this.#dir, name)).catch(() => { });
        }
        const nextGeneration = Math.max(highest, state.newest) + 1;`,
      },
    ],
  },
  {
    name: "dropped-tail-cut",
    why: "A finished segment is cut at its end whatever stands behind it: what a tear left (a kill amid a write) is gone after the next save, where it was to stay as evidence.",
    patches: [
      {
        file: "wal/log.js",
        text: "const truncate = segment !== this.#found || this.#foundZeroTail;",
        replacement: "const truncate = true;",
      },
    ],
  },
];

// ---- a save is an atom

const splitting: readonly PlantedBug[] = [
  {
    name: "hardstate-in-its-own-frame",
    why: "A save with entries and a HardState becomes two frames of one group: a kill amid the write, or a power cut, leaves the entries without their HardState.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `this.#shapeOf(checked, shape);
            this.#encode(checked, shape);
            advanceState(this.#submitted, checked);`,
        replacement: `if (checked.count > 0 && checked.hardState !== undefined) {
                const entries = { ...checked, hardState: undefined };
                this.#shapeOf(entries, shape);
                this.#encode(entries, shape);
                log.submit(true, checked.count).catch(() => { });
                checked.count = 0;
            }
            this.#shapeOf(checked, shape);
            this.#encode(checked, shape);
            advanceState(this.#submitted, checked);`,
      },
    ],
  },
  {
    name: "entries-in-pieces",
    why: "A save of more than two entries becomes several frames of one group: a kill amid the write, or a power cut, leaves part of it.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `this.#shapeOf(checked, shape);
            this.#encode(checked, shape);
            advanceState(this.#submitted, checked);`,
        replacement: `while (checked.count > 2) {
                const [a, b] = checked.entries.slice(checked.from, checked.from + 2);
                const bytes = a.data.length + b.data.length;
                const piece = { ...checked, hardState: undefined, count: 2, payloadBytes: bytes };
                this.#shapeOf(piece, shape);
                this.#encode(piece, shape);
                log.submit(true, 2).catch(() => { });
                checked.from += 2;
                checked.count -= 2;
                checked.firstIndex += 2;
                checked.payloadBytes -= bytes;
            }
            this.#shapeOf(checked, shape);
            this.#encode(checked, shape);
            advanceState(this.#submitted, checked);`,
      },
    ],
  },
];

// ---- compaction, recycling and snapshots

const compacting: readonly PlantedBug[] = [
  {
    name: "compaction-unsynced",
    why: "A compaction loses nothing that raft needs, so its frame is not synced: segments are removed before it is durable, and after a power cut the log asks for them and open() refuses.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `this.#submitted.dummyTerm = term;
        return this.#log.submit(true, 0);`,
        replacement: `this.#submitted.dummyTerm = term;
        return this.#log.submit(false, 0);`,
      },
    ],
  },
  {
    name: "released-before-successor-is-named",
    why: "A segment that is still being begun counts when others are released: a compaction up to the last entry whose removals meet the next rotation (worker engine, a slow sync) removes the segment that STATE names; a power cut before the new one is synced makes open() refuse.",
    patches: [
      {
        file: "wal/log.js",
        text: `while (oldest > 0 && segments[oldest].generation > named)
            oldest--;`,
        replacement: "",
      },
    ],
  },
  {
    name: "recycled-not-zeroed",
    why: "A released segment becomes the next one as it is, for its old frames do not validate: a kill before the new head is written leaves the old one under the new name and open() refuses, a later one leaves old bytes behind the end and reports a tear of what was never written.",
    patches: [
      {
        file: "wal/segment-pipeline.js",
        text: "this.#spare = { file, filled: 0, found: file.size(), dirty: true };",
        replacement: "this.#spare = { file, filled: file.size(), found: file.size(), dirty: true };",
      },
    ],
  },
  {
    name: "compact-overtakes-snapshot",
    why: "compact() does not wait for a snapshot that is still streaming: when that fails (ENOSPC of its file) or a kill comes first, the entries are gone and there is no snapshot.",
    patches: [
      { file: "storage/file-storage.js", text: "if (this.#inLane === 0) {", replacement: "if (this.#inLane >= 0) {" },
    ],
  },
  {
    name: "snapshot-unsynced",
    why: "A snapshot's file is not synced before the frame that names it: a power cut leaves a durable mark and half a file.",
    patches: [
      {
        file: "storage/snapshot-file.js",
        text: "await file.writeLater(buffer, 0, 0, 0, true);",
        replacement: "",
      },
    ],
  },
  {
    name: "snapshot-dir-unsynced",
    why: "A snapshot's file gets its name and the directory is not synced: a power cut leaves a durable mark and no file of that name.",
    patches: [
      {
        file: "storage/snapshot-file.js",
        text: "await names.give(() => disk.rename(joinPath(dir, file.name), joinPath(dir, name)), () => disk.rename(joinPath(dir, name), joinPath(dir, file.name)));",
        replacement: "await disk.rename(joinPath(dir, file.name), joinPath(dir, name));",
      },
    ],
  },
  {
    name: "snapshot-file-beside-frame",
    why: "A received snapshot's file is written beside the frame that names it, and the save waits for both: a kill or a power cut in between leaves a durable mark without a file, and open() refuses.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `if (!checked.bootstrap)
            this.#gate(this.#installFile(metadata, snapshot.data));`,
        replacement: `const installed = checked.bootstrap ? Promise.resolve() : this.#installFile(metadata, snapshot.data);
        installed.catch(() => { });`,
      },
      {
        file: "storage/file-storage.js",
        text: "const saved = this.#log.submit(true, checked.count);",
        replacement:
          "const saved = Promise.all([this.#log.submit(true, checked.count), installed]).then(() => undefined);",
      },
    ],
  },
  {
    name: "old-snapshot-removed-early",
    why: "Older snapshots make room as soon as the new file has its name, by what the queue will lead to: a kill or a power cut before the new frame is durable leaves a mark that names a removed file.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: "const marked = [...this.#durableMark().snapshots, ...this.#submitted.mark.snapshots].map(snapshotName);",
        replacement: "const marked = this.#submitted.mark.snapshots.map(snapshotName);",
      },
      {
        file: "storage/file-storage.js",
        text: `await this.#discard(file);
            throw error;
        }`,
        replacement: `await this.#discard(file);
            throw error;
        }
        await this.#prune();`,
      },
    ],
  },
  {
    name: "snapshot-buffer-aliased",
    why: "createSnapshot() writes the caller's bytes as they are when the file is written: a caller that reuses its buffer meanwhile gets a snapshot of something else, under good checksums.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: "const bytes = isBytes(data) ? data.slice() : data;",
        replacement: "const bytes = data;",
      },
    ],
  },
  {
    name: "snapshot-chunk-unchecked",
    why: "A snapshot's chunks are taken by their stored checksum without taking it again: a damaged byte is served.",
    patches: [
      {
        file: "storage/snapshot-file.js",
        text: `if (this.#crc !== crc)
            throw corrupt(this.#name, this.#at, "a chunk is damaged");`,
        replacement: "this.#crc = crc;",
      },
    ],
  },
  {
    name: "snapshot-not-inspected",
    why: "open() leaves the newest snapshot to whoever reads it: one that is missing or cut is not refused, and the log opens without the state that it begins with.",
    patches: [
      {
        file: "storage/file-storage.js",
        text: `if (newest !== undefined)
                    inspectSnapshot(checked.disk, dir, logId, newest);`,
        replacement: "void newest;",
      },
    ],
  },
];

// ---- two openers

const sharing: readonly PlantedBug[] = [
  {
    name: "lock-skipped",
    why: "The directory is not locked: a second opener gets in and both write.",
    patches: [
      {
        file: "wal/log.js",
        text: "lock = await disk.lock(dir);",
        replacement: "lock = { release: async () => { } };",
      },
    ],
  },
  {
    name: "lock-released-early",
    why: "close() gives the lock back before it has synced, cut and marked the log closed: a second opener gets in meanwhile, and has STATE written and its spare removed under it.",
    patches: [
      { file: "wal/log.js", text: "await this.#lock?.release();", replacement: "" },
      {
        file: "wal/log.js",
        text: "await this.#housekeeping;",
        replacement: `await this.#housekeeping;
        await this.#lock?.release();`,
      },
    ],
  },
  {
    name: "names-listed-before-lock",
    why: "The names that open() goes by are listed before it has the lock: when the holder rotates and closes in between, the next opener misses the newest segment and refuses.",
    patches: [
      {
        file: "wal/log.js",
        text: "return await Log.#openLocked(dir, options, recoveryOptions, lock, started);",
        replacement: "return await Log.#openLocked(dir, options, recoveryOptions, lock, started, names);",
      },
      {
        file: "wal/log.js",
        text: "static async #openLocked(dir, options, recoveryOptions, lock, started) {",
        replacement: "static async #openLocked(dir, options, recoveryOptions, lock, started, names) {",
      },
      { file: "wal/log.js", text: "let names = await disk.list(dir);", replacement: "" },
    ],
  },
];

// ---- saves that meet others on their way

const overlapping: readonly PlantedBug[] = [
  {
    name: "failed-sync-of-another-ignored",
    why: "A sync of the directory that fails for a segment being recycled has taken the new segment's name with it, and the sync behind it says yes: what is acknowledged in that segment goes with its name at the next power cut.",
    patches: [
      {
        file: "wal/directory-names.js",
        text: `if (this.#failures !== failures)
                throw this.#cause;`,
        replacement: "",
      },
    ],
  },
  {
    name: "joins-what-is-being-written",
    why: "A save joins the group that a write or sync is under way for: it is acknowledged with it, and its bytes were never written.",
    patches: [{ file: "wal/group-commit.js", text: "!(this.#busy && this.#queue.length === 1) &&", replacement: "" }],
  },
  {
    name: "written-over-under-a-reader",
    why: "A slab is written over from its beginning though the cache still reads from it: what was saved reads as what was saved later.",
    patches: [
      {
        file: "wal/group-commit.js",
        text: "slab?.users === 1 && !slab.lent",
        replacement: "slab !== undefined && this.#queue.length === 0",
      },
    ],
  },
  {
    name: "state-put-off-for-ever",
    why: "The HardState of a frame that is followed by a frame of another kind in the same group is passed over: initialState() goes back to an older vote and commit until the log is opened again.",
    patches: [
      {
        file: "wal/log-view.js",
        text: `if (stateAt >= 0)
                    this.#setState(bytes, stateAt);
                stateAt = -1;`,
        replacement: "stateAt = -1;",
      },
    ],
  },
  {
    name: "failed-bytes-stay-pending",
    why: "Saves that were rejected count as queued for ever: a log that was short of room a few times takes nothing any more.",
    patches: [
      {
        file: "wal/group-commit.js",
        text: `this.#busy = false;
        this.#pendingBytes = 0;`,
        replacement: "this.#busy = false;",
      },
    ],
  },
  {
    name: "identity-serial-stands-still",
    why: "The serial of STATE's identity is counted on once a life: from the third segment on the slot that is written does not win over the other, and STATE names a segment before the newest.",
    patches: [{ file: "wal/state-file.js", text: "this.#identity.serial = next.serial;", replacement: "" }],
  },
  {
    name: "staged-keeps-the-failed-name",
    why: "A staged snapshot that was given its name keeps it when the directory cannot be synced, and is looked for under the old one: the save can never be called again.",
    patches: [
      {
        file: "storage/snapshot-file.js",
        text: ", () => disk.rename(joinPath(dir, name), joinPath(dir, file.name)));",
        replacement: ");",
      },
    ],
  },
];

const all: readonly PlantedBug[] = [
  ...acknowledging,
  ...naming,
  ...failing,
  ...checking,
  ...vouching,
  ...recovering,
  ...splitting,
  ...compacting,
  ...sharing,
  ...overlapping,
];

/**
 * Those that other tests find and `stablelog crash` does not: a short write is FileDisk's own affair (test/real/limits.test.ts);
 * an older segment that was cut is told of by whoever reads it, only later than promised (test/damage/exhaustive.test.ts);
 * the last one needs a removal that meets a rotation under a worker's slow sync (test/crash/regression.test.ts).
 */
const foundElsewhere: ReadonlySet<string> = new Set([
  "short-write-ignored",
  "segment-length-unchecked",
  "released-before-successor-is-named",
]);

/** The bugs that `stablelog crash` must find. */
export const plantedBugs: readonly PlantedBug[] = all.filter(({ name }) => !foundElsewhere.has(name));
