// The process that open.ts kills: `open-victim.js DIR` saves until it dies, and says so when there is enough to recover.

import { EntryType, FileStorage } from "stablelog";

const SAVERS = 64;
/** Half a segment of the usual size, behind those that a log grows up with. */
const ENOUGH = 25_000;

const storage = await FileStorage.open(process.argv[2] ?? "");
const data = new Uint8Array(4096).fill(0x5a);
let index = 0;

async function saver(): Promise<never> {
  for (;;) {
    await storage.save({ entries: [{ term: 1, index: ++index, type: EntryType.Normal, data }] });
    if (index === ENOUGH) console.log("enough");
  }
}

await Promise.all(Array.from({ length: SAVERS }, saver));
