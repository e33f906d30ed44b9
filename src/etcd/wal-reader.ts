// WalReader: the segments of one wal/ directory as a sequence of checked Records. Called by member.ts and batches.ts.
// Promises: every Record returned has passed the checksum that runs through all segments; memory is one buffer of 1 MiB, or
// of the largest frame. Reads only; takes no lock, so a member that is running should be stopped or copied first.
//
// What the first bad frame means (etcd's rules for reading, server/storage/wal/decoder.go; they differ only where etcd would
// go on after a loss that can be proved):
//
//    found                                                      in the last segment    in an earlier one
//    end of file, or a length word of zero                      end of the log         on to the next segment
//    part of a length word, a frame beyond the end of file      torn: end of the log   ERR_CORRUPT
//    undecodable or wrong checksum, a sector of it all zero     torn: end of the log   ERR_CORRUPT
//    undecodable or wrong checksum otherwise                    ERR_CORRUPT            ERR_CORRUPT
//    a length word etcd does not write, an unknown type         ERR_CORRUPT            ERR_CORRUPT
//    a crc record that differs from the running checksum        ERR_CORRUPT            ERR_CORRUPT
//
// A length word is eight bytes at a multiple of eight: a crash cannot tear it, a sector that never arrived can leave it zero.

import { hex, MAX_INDEX } from "../base/bytes.js";
import { crc32c } from "../base/crc32.js";
import { errnoOf, StableLogError } from "../base/errors.js";
import { type Disk, type DiskFile, joinPath } from "../disk/disk.js";
import { corruptAt, type Place, readError } from "./place.js";
import { decodeFrameLength, decodeRecord, LENGTH_WORD_BYTES, RecordType, type WalRecord } from "./record.js";

const BUFFER_BYTES = 1024 * 1024;
/** A disk writes a sector wholly or not at all; what etcd's test for a torn frame counts in. */
const SECTOR_BYTES = 512;
/** No frame is larger: a save is at most 1 GiB, and etcd refuses requests far below that. */
const MAX_RECORD_BYTES = 1024 * 1024 * 1024;

const SEGMENT_NAME = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/;

/** One segment of the log, by its name "%016x-%016x.wal". */
export interface Segment {
  readonly name: string;
  readonly sequence: number;
  /** One above the last index that had been saved when the segment was begun; 0 in the very first. */
  readonly firstIndex: number;
}

/**
 * The segments of the member directory `dir`, in sequence. Other names are ignored.
 * @throws ERR_NOT_FOUND without wal/ or without a segment in it; ERR_GAP when their sequence numbers leave one out.
 */
export async function listSegments(disk: Disk, dir: string): Promise<Segment[]> {
  let names: string[];
  try {
    names = await disk.list(joinPath(dir, "wal"));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== "ENOENT" && errno !== "ENOTDIR") throw readError(error, "wal");
    throw new StableLogError("ERR_NOT_FOUND", `read etcd member ${dir}: it has no wal directory`, { cause: error });
  }
  const segments: Segment[] = [];
  // Names are of fixed width, so that their order is the order of their numbers.
  for (const name of names.sort()) {
    const match = SEGMENT_NAME.exec(name);
    if (match === null) continue;
    const sequence = Number.parseInt(match[1] ?? "", 16);
    const firstIndex = Number.parseInt(match[2] ?? "", 16);
    if (sequence > MAX_INDEX || firstIndex > MAX_INDEX) {
      throw corruptAt({ file: `wal/${name}`, offset: 0 }, "its name holds a number beyond 2^53 - 2");
    }
    const previous = segments.at(-1);
    if (previous !== undefined && sequence !== previous.sequence + 1) {
      const message = `read etcd member ${dir}: wal/${name} does not follow wal/${previous.name}, a segment is missing`;
      throw new StableLogError("ERR_GAP", message, { file: `wal/${name}` });
    }
    segments.push({ name, sequence, firstIndex });
  }
  if (segments.length === 0) {
    throw new StableLogError("ERR_NOT_FOUND", `read etcd member ${dir}: its wal directory holds no segment`);
  }
  return segments;
}

/**
 * Reads segments to the end of the log. load() brings bytes in, then next() gives the Records they hold:
 * `while (await reader.load()) for (let record = reader.next(); record !== undefined; record = reader.next()) ...`
 * The reader is the {@link Place} of the Record it returned last.
 */
export class WalReader implements Place {
  /** The segment being read, relative to the member directory. */
  file = "";
  /** Where in `file` the frame of the last Record begins; once next() gave undefined, where the next one would. */
  offset = 0;
  /** How many segments have been begun: changes with each, whatever their numbers. */
  segmentsBegun = 0;

  readonly #disk: Disk;
  readonly #dir: string;
  readonly #segments: readonly Segment[];
  #source: DiskFile | undefined;
  #sourceBytes = 0;
  #segmentEnded = true;

  #buffer = new Uint8Array(0);
  // [#from, #to) of #buffer is read and not yet consumed; #from stands for #position in the file. Invariant: #from <= #to.
  #from = 0;
  #to = 0;
  #position = 0;
  /** Bytes that the frame at #position needs in the buffer; never more than the file holds. */
  #wanted = 0;

  /** The running checksum; undefined until the crc record at the head of the first segment gives its beginning. */
  #crc: number | undefined;
  /** True until the first Record of a segment, which must be its crc record. */
  #atHead = true;
  /** Where the segment before this one stopped short of the end of its file. */
  #shortEnd: Place | undefined;

  /** `segments` are the ones to read, in sequence, through the last of the log. */
  constructor(disk: Disk, dir: string, segments: readonly Segment[]) {
    this.#disk = disk;
    this.#dir = dir;
    this.#segments = segments;
  }

  /**
   * Brings in more of the log; false at its end. Data of Records returned before is gone with it.
   * @throws ERR_READ, ERR_NOT_FOUND, ERR_FOREIGN from the disk.
   */
  async load(): Promise<boolean> {
    if (this.#segmentEnded && !(await this.#openNext())) return false;
    const source = this.#source;
    if (source === undefined) return false;
    this.#buffer.copyWithin(0, this.#from, this.#to);
    this.#to -= this.#from;
    this.#from = 0;
    const capacity = Math.max(this.#wanted, Math.min(BUFFER_BYTES, this.#sourceBytes));
    if (capacity > this.#buffer.length) {
      const larger = new Uint8Array(capacity);
      larger.set(this.#buffer.subarray(0, this.#to));
      this.#buffer = larger;
    }
    const at = this.#position + this.#to;
    const end = this.#to + Math.min(this.#buffer.length - this.#to, this.#sourceBytes - at);
    let got: number;
    try {
      got = await source.readLater(this.#buffer, this.#to, end, at);
    } catch (error) {
      throw readError(error, this.file);
    }
    // A file that has become shorter since it was opened ends where it ends now.
    if (got < end - this.#to) this.#sourceBytes = at + got;
    this.#to += got;
    return true;
  }

  /**
   * The next Record in the buffer; undefined when load() is needed. Its data is a view until then.
   * @throws ERR_CORRUPT by the table above.
   */
  next(): WalRecord | undefined {
    while (!this.#segmentEnded) {
      this.offset = this.#position;
      const left = this.#sourceBytes - this.#position;
      if (left === 0) return this.#endSegment();
      if (left < LENGTH_WORD_BYTES) return this.#torn(`${left} bytes of a length word`);
      if (this.#needs(LENGTH_WORD_BYTES)) return undefined;
      const { recordBytes, padBytes } = decodeFrameLength(this.#buffer, this.#from);
      if (recordBytes === 0 && padBytes === 0) return this.#endSegment();

      const frameBytes = LENGTH_WORD_BYTES + recordBytes + (padBytes ?? 0);
      // Before anything is believed of the length: no more than this is ever read or allocated for it.
      if (frameBytes > left) return this.#torn(`a frame of ${frameBytes} bytes where the file has ${left} left`);
      if (padBytes === undefined || frameBytes % 8 !== 0 || recordBytes > MAX_RECORD_BYTES) {
        throw corruptAt(this, `no frame has a length of ${recordBytes} bytes and ${padBytes ?? "unknown"} of padding`);
      }
      if (this.#needs(frameBytes)) return undefined;
      const start = this.#from + LENGTH_WORD_BYTES;
      const record = this.#check(start, start + recordBytes, start + recordBytes + padBytes);
      if (record === undefined) return undefined;
      this.#from += frameBytes;
      this.#position += frameBytes;
      this.#atHead = false;
      if (record.type !== RecordType.Crc) return record;
    }
    return undefined;
  }

  async close(): Promise<void> {
    const source = this.#source;
    this.#source = undefined;
    this.#segmentEnded = true;
    await source?.close();
  }

  /** True, with the need noted for load(), while fewer than `bytes` of the frame are in the buffer. */
  #needs(bytes: number): boolean {
    this.#wanted = bytes;
    return this.#to - this.#from < bytes;
  }

  get #isLast(): boolean {
    return this.segmentsBegun === this.#segments.length;
  }

  async #openNext(): Promise<boolean> {
    const segment = this.#segments[this.segmentsBegun];
    await this.close();
    if (segment === undefined) return false;
    this.file = `wal/${segment.name}`;
    try {
      this.#source = await this.#disk.open(joinPath(joinPath(this.#dir, "wal"), segment.name), "read");
    } catch (error) {
      throw readError(error, this.file);
    }
    this.#sourceBytes = this.#source.size();
    this.segmentsBegun++;
    this.#segmentEnded = false;
    this.offset = 0;
    this.#position = 0;
    this.#from = 0;
    this.#to = 0;
    this.#wanted = 0;
    this.#atHead = true;
    return true;
  }

  #endSegment(): undefined {
    this.#segmentEnded = true;
    const short = this.#position < this.#sourceBytes;
    this.#shortEnd = short ? { file: this.file, offset: this.#position } : undefined;
    return undefined;
  }

  /** The log ends before a frame that only its last segment may have cut off. */
  #torn(what: string, cause?: unknown): undefined {
    if (!this.#isLast) throw corruptAt(this, `${what}, in a segment that has a successor`, cause);
    return this.#endSegment();
  }

  /** The Record of [start, end) of the buffer with its checksum verified; undefined when it is torn. */
  #check(start: number, end: number, frameEnd: number): WalRecord | undefined {
    let record: WalRecord;
    try {
      record = decodeRecord(this.#buffer.subarray(start, end), this);
    } catch (error) {
      if (this.#hasZeroSector(start, frameEnd)) return this.#torn("a torn frame", error);
      throw error;
    }
    if (record.type === RecordType.Crc) {
      this.#link(record.crc);
      return record;
    }
    if (this.#crc === undefined || this.#atHead) {
      if (this.#hasZeroSector(start, frameEnd)) return this.#torn("a torn frame");
      throw corruptAt(this, `the segment begins with a record of type ${record.type}, not with its crc record`);
    }
    const crc = crc32c(record.data, this.#crc);
    if (crc !== record.crc) {
      const what = `its checksum is ${hex(record.crc, 8)}, its bytes have ${hex(crc, 8)}`;
      if (this.#hasZeroSector(start, frameEnd)) return this.#torn(what);
      throw corruptAt(this, what);
    }
    this.#crc = crc;
    return record;
  }

  /** Holds the value in a crc record against the running checksum: the chain from one segment to the next. */
  #link(crc: number): void {
    if (this.#crc !== undefined && this.#crc !== crc) {
      // A predecessor that stops at zeros inside its file has lost its end; otherwise the two are no neighbours.
      const place = (this.#atHead ? this.#shortEnd : undefined) ?? this;
      const what = `the crc record at ${this.offset} of ${this.file} continues ${hex(crc, 8)}`;
      throw corruptAt(place, `${what}, the records before it come to ${hex(this.#crc, 8)}`);
    }
    this.#crc = crc;
  }

  /** True when some part of the frame that one sector holds is all zero, as a write that never arrived leaves it. */
  #hasZeroSector(start: number, end: number): boolean {
    let inSector = (this.#position + LENGTH_WORD_BYTES) % SECTOR_BYTES;
    let at = start;
    while (at < end) {
      const sectorEnd = Math.min(end, at + SECTOR_BYTES - inSector);
      while (at < sectorEnd && this.#buffer[at] === 0) at++;
      if (at === sectorEnd) return true;
      at = sectorEnd;
      inSector = 0;
    }
    return false;
  }
}
