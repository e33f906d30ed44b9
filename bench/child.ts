// The process that runs one row of one workload once: `child.js WORKLOAD ROW PLACE`, PLACE being JSON. Its last line on
// stdout is JSON too: the run, or why there is none. Started by bench.ts.

import type { Place } from "./workload.js";
import { workloads } from "./workloads/index.js";

async function main([workloadName, rowName, place]: readonly string[]): Promise<void> {
  const workload = workloads.find(({ name }) => name === workloadName);
  const row = workload?.rows.get(rowName ?? "");
  if (row === undefined || place === undefined) throw new Error(`there is no row '${rowName}' of '${workloadName}'`);
  const run = await row(JSON.parse(place) as Place);
  console.log(JSON.stringify(run));
}

main(process.argv.slice(2)).catch((error: unknown) => {
  // A row that cannot run is left out with its reason; the other rows still tell something.
  console.log(JSON.stringify({ skipped: error instanceof Error ? error.message.split("\n", 1)[0] : String(error) }));
});
