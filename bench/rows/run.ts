// Runs of rows that several workloads have: a log that a row opens, and the floor beside it.

import type { Sample } from "../result.js";
import type { BenchLog, Row } from "../row.js";
import type { Place, Run } from "../workload.js";
import { runFloor } from "./floor.js";

/** Opens the row's log, has `measure` use it, and closes it. */
export function rowRun(
  load: () => Promise<Row>,
  measure: (log: BenchLog, place: Place) => Promise<Sample>,
  sync = true,
): (place: Place) => Promise<Run> {
  return async (place) => {
    const row = await load();
    const log = await row.open(place.dir, { sync });
    try {
      return { syncs: sync ? row.syncs : "nothing", sample: await measure(log, place) };
    } finally {
      await log.close();
    }
  };
}

/** The floor for writes of so many bytes, each of which stands for `saves`. */
export function floorRun(bytes: () => Promise<number>, saves = 1, sync = true): (place: Place) => Promise<Run> {
  return async ({ dir, seconds, warmSeconds }) => ({
    syncs: sync ? "one write, one fdatasync, over a zero-filled file" : "one write to a file that grows",
    sample: runFloor(dir, { bytes: await bytes(), saves, seconds, warmSeconds, sync }),
  });
}
