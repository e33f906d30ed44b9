// A small log, right, and wrong in one way each: what simulate() is tried on. A record is its length, its checksum and its
// text; a record that does not hold ends the log. About as much as somebody writes in an afternoon, on a Disk.

import { crc32 } from "../../src/base/crc32.js";
import type { Disk, DiskFile } from "../../src/disk/disk.js";

/** What is wrong with the log; nothing when it is empty. */
export interface Mistakes {
  /** The directory is not synced after the file was made. */
  readonly noDirectorySync?: boolean;
  /** The append resolves without a sync. */
  readonly noSync?: boolean;
  /** The append resolves when it is written; the sync comes later. */
  readonly lateSync?: boolean;
  /** The checksum is not looked at. */
  readonly noChecksum?: boolean;
  /** The torn end of an earlier life is left where it is, and what is appended may uncover it. */
  readonly keepsTail?: boolean;
  /** The bytes of the caller are written without a copy. */
  readonly aliased?: boolean;
  /** Recovery writes before it knows what it has read. */
  readonly cutsFirst?: boolean;
}

const HEAD = 8;
const DIR = "/small";
const PATH = `${DIR}/data`;

export class SmallLog {
  readonly #file: DiskFile;
  readonly #mistakes: Mistakes;
  readonly records: string[];
  #end: number;
  #closed = false;

  private constructor(file: DiskFile, mistakes: Mistakes, records: string[], end: number) {
    this.#file = file;
    this.#mistakes = mistakes;
    this.records = records;
    this.#end = end;
  }

  static async open(disk: Disk, mistakes: Mistakes = {}): Promise<SmallLog> {
    if ((await disk.stat(DIR)) === undefined) await disk.mkdir(DIR);
    if (mistakes.noDirectorySync !== true) await disk.syncDir("/");
    const found = (await disk.stat(PATH)) !== undefined;
    const file = await disk.open(PATH, found ? "write" : "create");
    if (mistakes.noDirectorySync !== true) await disk.syncDir(DIR);
    const bytes = new Uint8Array(file.size());
    file.read(bytes, 0, bytes.length, 0);
    const view = new DataView(bytes.buffer);
    const records: string[] = [];
    let end = 0;
    while (end + HEAD <= bytes.length) {
      const length = view.getUint32(end, true);
      if (length === 0 || end + HEAD + length > bytes.length) break;
      const body = bytes.subarray(end + HEAD, end + HEAD + length);
      if (mistakes.noChecksum !== true && crc32(body) !== view.getUint32(end + 4, true)) break;
      records.push(Buffer.from(body).toString("latin1"));
      end += HEAD + length;
    }
    if (mistakes.cutsFirst === true) {
      await file.truncate(0);
      await file.writeLater(bytes, 0, end, 0, true);
    } else if (mistakes.keepsTail !== true && end < bytes.length) {
      await file.truncate(end);
      await file.writeLater(bytes, 0, 0, 0, true);
    }
    return new SmallLog(file, mistakes, records, end);
  }

  async append(text: string, scribble?: (bytes: Uint8Array) => void): Promise<void> {
    const body = Buffer.from(text, "latin1");
    const frame = new Uint8Array(HEAD + body.length);
    const view = new DataView(frame.buffer);
    view.setUint32(0, body.length, true);
    view.setUint32(4, crc32(body), true);
    frame.set(body, HEAD);
    const at = this.#end;
    this.#end += frame.length;
    const { noSync, lateSync, aliased } = this.#mistakes;
    const written = this.#file.writeLater(frame, 0, frame.length, at, noSync !== true && lateSync !== true);
    if (aliased === true) scribble?.(frame);
    await written;
    if (lateSync === true) {
      setImmediate(() => {
        if (!this.#closed) this.#file.sync();
      });
    }
    this.records.push(text);
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#file.close();
  }
}
