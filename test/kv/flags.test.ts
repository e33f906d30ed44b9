// The flags of docs/examples/kv/main.ts: what they default to, and each way of getting them wrong.

import { describe, expect, test } from "vitest";
import { parseFlags } from "../../docs/examples/kv/flags.js";

const cluster = "1=127.0.0.1:2380,2=[::1]:2382,18446744073709551613=host:1";
const least = ["--id", "2", "--data", "dir", "--initial-cluster", cluster];

describe("parseFlags()", () => {
  test("fills in what is not said", () => {
    expect(parseFlags(least)).toEqual({
      id: 2n,
      data: "dir",
      dial: new Map(),
      listenClient: { host: "127.0.0.1", port: 2379 },
      listenPeer: { host: "::1", port: 2382 },
      clientUrl: "http://127.0.0.1:2379",
      peerUrl: "http://[::1]:2382",
      cluster: new Map([
        [1n, "127.0.0.1:2380"],
        [2n, "[::1]:2382"],
        [18446744073709551613n, "host:1"],
      ]),
      bootstrap: false,
      join: false,
      clusterId: parseFlags([...least, "--cluster-token", "stablelog-kv"]).clusterId,
      tickMs: 100,
      asyncWrites: false,
      requestTimeoutMs: 7_000,
      snapshotEntries: 10_000,
      keepEntries: 5_000,
    });
  });

  test("takes what is said", () => {
    const more = ["--listen-client", "0.0.0.0:1", "--listen-peer", "0.0.0.0:2", "--advertise-client", "me:3", "--join"];
    const ways = ["--dial", "2=proxy:4", "--dial", "3=[::1]:5", "--async-writes", "--bootstrap"];
    const counts = ["--tick-ms", "5", "--request-timeout-ms", "6", "--snapshot-entries", "7", "--keep-entries", "8"];
    expect(parseFlags([...least, ...more, ...ways, ...counts])).toMatchObject({
      listenClient: { host: "0.0.0.0", port: 1 },
      listenPeer: { host: "0.0.0.0", port: 2 },
      clientUrl: "http://me:3",
      bootstrap: true,
      join: true,
      dial: new Map([
        [2n, "proxy:4"],
        [3n, "[::1]:5"],
      ]),
      asyncWrites: true,
      tickMs: 5,
      requestTimeoutMs: 6,
      snapshotEntries: 7,
      keepEntries: 8,
    });
    const other = parseFlags([...least, "--cluster-token", "other"]);
    expect(other.clusterId).not.toBe(parseFlags(least).clusterId);
  });

  test.each<[string, string[], RegExp]>([
    ["no id", ["--data", "d", "--initial-cluster", cluster], /--id is missing/],
    ["an id that is none", ["--id", "0", "--data", "d", "--initial-cluster", cluster], /--id 0/],
    ["no directory", ["--id", "1", "--initial-cluster", cluster], /--data is missing/],
    ["no group", ["--id", "1", "--data", "d"], /--initial-cluster is missing/],
    ["a group without it", ["--id", "9", "--data", "d", "--initial-cluster", cluster], /does not name --id 9/],
    ["a group with one twice", ["--id", "1", "--data", "d", "--initial-cluster", "1=a:1,1=b:2"], /names 1 twice/],
    ["a group without IDs", ["--id", "1", "--data", "d", "--initial-cluster", "a:1"], /--initial-cluster/],
    ["an address without a port", [...least, "--listen-client", "host"], /--listen-client host: want HOST:PORT/],
    ["a port that is none", [...least, "--listen-peer", "host:65536"], /--listen-peer host:65536/],
    ["no ticks", [...least, "--tick-ms", "0"], /--tick-ms 0/],
    ["a flag that is none", [...least, "--bogus"], /--bogus/],
  ])("says what is wrong: %s", (_name, args, message) => {
    expect(() => parseFlags(args)).toThrow(message);
  });
});
