// The clients of tcp.ts: `tcp-clients.js PORT CLIENTS REQUEST_BYTES WARM_SECONDS SECONDS`. Each has one request under way and
// sends the next one when it is answered. Prints its sample as JSON: requests a second and how long an answer took.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Latencies } from "../latencies.js";

async function main([port = 0, clients = 0, bytes = 0, warm = 0, seconds = 0]: readonly number[]): Promise<void> {
  const latencies = new Latencies();
  const request = new Uint8Array(bytes).fill(0x5a);
  const sockets = await Promise.all(
    Array.from({ length: clients }, async (): Promise<Socket> => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      await once(socket, "connect");
      return socket;
    }),
  );
  for (const socket of sockets) {
    let started = performance.now();
    socket.on("data", () => {
      const now = performance.now();
      latencies.record(now - started);
      started = now;
      socket.write(request);
    });
    socket.write(request);
  }
  await new Promise((resolve) => setTimeout(resolve, warm * 1000));
  latencies.clear();
  const begun = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const perSecond = (latencies.count * 1000) / (performance.now() - begun);
  for (const socket of sockets) socket.destroy();
  console.log(JSON.stringify({ perSecond, latency: latencies.summary() }));
}

await main(process.argv.slice(2).map(Number));
