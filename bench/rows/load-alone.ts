// The load alone: the savers of the other rows, and for their log the perfect group commit. All that arrives together shares
// one write, of as many bytes as stablelog would write for it, one fdatasync and one promise; nothing is looked at, encoded,
// checksummed or kept, and the zeros were there before. Between this row and the perfect group lies what making batches and
// waking savers costs; between stablelog and this row, what stablelog does for them.

import { closeSync, fdatasyncSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Row } from "../row.js";
import { FILE_BYTES, zeroFile } from "./floor.js";

interface Group {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  saves: number;
}

function newGroup(): Group {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve, saves: 0 };
}

/** The row for saves that take `bytes` each, of which no more than `savers` wait at a time. */
export function loadAloneRow(bytes: number, savers: number): Row {
  return {
    name: "load alone",
    syncs: "one write and one fdatasync for all that waits, over a zero-filled file; nothing is encoded or kept",
    async open(dir) {
      const fd = zeroFile(join(dir, "load-alone"), FILE_BYTES);
      const source = new Uint8Array(bytes * savers).fill(0x5a);
      let at = 0;
      let syncs = 0;
      let waiting: Group | undefined;
      /** Nobody is about to write what waits. */
      let idle = true;
      const go = (): void => {
        const group = waiting;
        idle = group === undefined;
        if (group === undefined) return;
        waiting = undefined;
        const length = Math.min(source.length, group.saves * bytes);
        if (at + length > FILE_BYTES) at = 0;
        writeSync(fd, source, 0, length, at);
        fdatasyncSync(fd);
        at += length;
        syncs++;
        group.resolve();
        // Behind those whom this wakes: when they are heard the next group is complete.
        queueMicrotask(() => process.nextTick(go));
      };
      return {
        save() {
          waiting ??= newGroup();
          waiting.saves++;
          if (idle) setImmediate(go);
          idle = false;
          return waiting.promise;
        },
        counters: () => ({ writes: syncs, syncs }),
        close: async () => closeSync(fd),
      };
    },
  };
}
