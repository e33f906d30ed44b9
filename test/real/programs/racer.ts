// A child that opens and closes logs when it is told to, and says whether it got them.

import { createInterface } from "node:readline";
import { FileDisk, FileStorage, StableLogError } from "stablelog";
import { say } from "./say.js";

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
