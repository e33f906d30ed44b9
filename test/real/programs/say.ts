// How a child speaks: a line on standard output, written before the call returns, so that what was said was said before
// anything else happened. Runs in the child.

import { writeSync } from "node:fs";

export function say(line: string): void {
  const bytes = Buffer.from(`${line}\n`);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      // A full pipe says so until the parent has read from it.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
}
