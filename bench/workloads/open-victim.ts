// The process that open.ts kills: `open-victim.js DIR` saves until it dies, and says so when there is enough to recover.

import { EntryType, FileStorage } from "stablelog";

const SAVERS = 64;
const SEGMENT_BYTES = 64 * 1024 * 1024;

const storage = await FileStorage.open(process.argv[2] ?? "", { segmentBytes: SEGMENT_BYTES });
const data = new Uint8Array(1024).fill(0x5a);
let index = 0;
/** Segments so far, and the bytes written before the newest one. */
let segments = 0;
let before = 0;
let told = false;

async function saver(): Promise<never> {
  for (;;) {
    await storage.save({ entries: [{ term: 1, index: ++index, type: EntryType.Normal, data }] });
    const stats = storage.stats();
    if (stats.segments > segments) {
      segments = stats.segments;
      before = stats.bytes;
    }
    // A log grows up with smaller ones: the first that gets this far has the usual size.
    if (!told && stats.bytes - before > SEGMENT_BYTES / 2) {
      told = true;
      console.log("enough");
    }
  }
}

await Promise.all(Array.from({ length: SAVERS }, saver));
