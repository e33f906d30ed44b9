// A child that runs saver.js on a worker thread, terminates that when it is told to, and opens the directory itself in the
// same process: the thread's lock must be gone with it.

import { Worker } from "node:worker_threads";
import { FileStorage } from "stablelog";
import type { Task } from "./plan.js";
import { say } from "./say.js";

const argument = process.argv[2] ?? "";
const { dir, options } = JSON.parse(argument) as Task;
const worker = new Worker(new URL("./saver.js", import.meta.url), { argv: [argument] });
await new Promise((resolve) => process.stdin.once("data", resolve));
process.stdin.destroy();
say(`terminated ${await worker.terminate()}`);
const storage = await FileStorage.open(dir, options);
say(`after ${storage.lastIndex()}`);
await storage.close();
