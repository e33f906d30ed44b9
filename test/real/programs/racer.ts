// A child that opens and closes logs when it is told to, and says whether it got them.

import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { FileDisk, FileStorage, StableLogError } from "stablelog";

/** A full pipe says EAGAIN until the parent has read from it. */
const say = (line: string): void => {
  const bytes = Buffer.from(`${line}\n`);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
};
const { lockMode } = JSON.parse(process.argv[2] ?? "") as { readonly lockMode: "auto" | "file" };
const disk = new FileDisk({ lockMode });
let storage: FileStorage | undefined;

say("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [command, dir = ""] = line.split(" ");
  if (command === "open") {
    try {
      storage = await FileStorage.open(dir, { disk });
      say("got it");
    } catch (error) {
      say(`refused ${error instanceof StableLogError ? error.code : String(error)}`);
    }
  } else if (command === "save" && storage !== undefined) {
    const index = storage.lastIndex() + 1;
    await storage.save({ entries: [{ term: 1, index, type: 0, data: new Uint8Array(10) }] });
    say(`saved ${index}`);
  } else if (command === "close") {
    await storage?.close();
    storage = undefined;
    say("closed");
  }
}
