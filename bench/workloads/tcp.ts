// 64 clients over TCP, each answered after its save: what a server sees, where saves come with the sockets that are ready and
// not all in one turn of the event loop. The clients run in a process of their own (tcp-clients.ts).

import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Sample } from "../result.js";
import type { BenchLog } from "../row.js";
import { peerRows } from "../rows/index.js";
import { floorRun, rowRun } from "../rows/run.js";
import { stablelogRows } from "../rows/stablelog.js";
import { Batches, frameBytes } from "../savers.js";
import { atLeast, figureOf, type Place, type Run, rateOver, type Workload } from "../workload.js";

const CLIENTS = 64;
const REQUEST_BYTES = 256;
const SHAPE = { entries: 1, bytes: REQUEST_BYTES };

async function serve(log: BenchLog, { seconds, warmSeconds }: Place): Promise<Sample> {
  const batches = new Batches(SHAPE);
  let saves = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    let waiting = 0;
    socket.on("data", (bytes) => {
      for (waiting += bytes.length; waiting >= REQUEST_BYTES; waiting -= REQUEST_BYTES) {
        log.save(batches.next()).then(
          () => {
            saves++;
            socket.write("k");
          },
          (error: unknown) => socket.destroy(error as Error),
        );
      }
    });
    // A client that has seen enough goes away with answers under way.
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = spawn(
    process.execPath,
    [join(import.meta.dirname, "tcp-clients.js"), ...[port, CLIENTS, REQUEST_BYTES, warmSeconds, seconds].map(String)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  // Says when the measured time begins, so that the counters cover that and no more.
  const before = new Promise<Readonly<Record<string, number>> & { saves: number }>((resolve) => {
    setTimeout(() => resolve({ ...log.counters?.(), saves }), (warmSeconds + 0.3) * 1000);
  });
  const sample = JSON.parse(await text(client.stdout)) as Sample;
  const first = await before;
  const synced = (log.counters?.()["syncs"] ?? Number.NaN) - (first["syncs"] ?? Number.NaN);
  server.close();
  const group = (saves - first.saves) / synced;
  return Number.isFinite(group) ? { ...sample, more: { group } } : sample;
}

function rows(): Workload["rows"] {
  const all = new Map<string, (place: Place) => Promise<Run>>();
  all.set(
    "floor",
    floorRun(() => frameBytes(SHAPE)),
  );

  for (const row of stablelogRows)
    all.set(
      row.name,
      rowRun(async () => row, serve),
    );
  for (const name of ["append + queue", "sqlite + queue", "lmdb"]) {
    const load = peerRows.get(name);
    if (load !== undefined) all.set(name, rowRun(load, serve));
  }
  return all;
}

export const tcp: Workload = {
  name: "tcp-64",
  title: `${CLIENTS} clients over TCP, each with one request of 256 B under way that is answered after its save; saves a second.`,
  unit: "saves",
  base: "floor",
  rows: rows(),
  goals: (found) => [
    atLeast(
      "saves a sync",
      30,
      figureOf(found, "stablelog", ({ more }) => more?.["group"]),
    ),
    atLeast("x the lone floor", 8, rateOver(found, "stablelog", "floor")),
  ],
};
