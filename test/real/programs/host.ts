// A child that runs saver.js on a worker thread, terminates that when it is told to, and opens the directory itself in the
// same process: the thread's lock must be gone with it.

import { writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { FileStorage } from "stablelog";
import type { Task } from "./plan.js";

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
const argument = process.argv[2] ?? "";
const { dir, options } = JSON.parse(argument) as Task;
const worker = new Worker(new URL("./saver.js", import.meta.url), { argv: [argument] });
await new Promise((resolve) => process.stdin.once("data", resolve));
process.stdin.destroy();
say(`terminated ${await worker.terminate()}`);
const storage = await FileStorage.open(dir, options);
say(`after ${storage.lastIndex()}`);
await storage.close();
