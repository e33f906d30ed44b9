// The flags of main.ts, read and checked: each says what is wrong with it in a sentence.

import { createHash } from "node:crypto";
import { parseArgs } from "node:util";

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Flags {
  readonly id: bigint;
  /** The directory of this node's log. */
  readonly data: string;
  readonly listenClient: Address;
  readonly listenPeer: Address;
  /** http://host:port, where clients and the other members find this one. */
  readonly clientUrl: string;
  readonly peerUrl: string;
  /** By ID, host:port of each member; this one among them. */
  readonly cluster: ReadonlyMap<bigint, string>;
  /** By ID, host:port where this member reaches another: behind a proxy, or an address translation. Else it is as they say. */
  readonly dial: ReadonlyMap<bigint, string>;
  /** A log that holds nothing begins a group of the members of `cluster`. */
  readonly bootstrap: boolean;
  /** The group is there already and has been told of this member. */
  readonly join: boolean;
  readonly clusterId: bigint;
  readonly tickMs: number;
  /** Whether the next Ready is prepared while the last one is written. */
  readonly asyncWrites: boolean;
  readonly requestTimeoutMs: number;
  readonly snapshotEntries: number;
  readonly keepEntries: number;
}

export const usage = `usage: main.js --id N --data DIR --initial-cluster 1=HOST:PORT,2=HOST:PORT,... [flags]

  --listen-client HOST:PORT     where requests come in: 127.0.0.1:2379
  --listen-peer HOST:PORT       where the other members come in: what --initial-cluster says of N
  --advertise-client HOST:PORT  what to tell others of --listen-client
  --dial M=HOST:PORT            where this member reaches member M, whatever M says; may be given again
  --bootstrap                   begins a new group of the members of --initial-cluster: at the first start of each, never after
  --join                        the group runs already, and member/add has given this member its N
  --cluster-token TEXT          a name for the group, the same on each member
  --tick-ms MS                  a tick of raft: 100
  --async-writes                raft prepares its next step while the last one is written
  --request-timeout-ms MS       7000
  --snapshot-entries N          a snapshot after so many entries: 10000
  --keep-entries N              kept behind it for members that lag: 5000
`;

/** @throws Error with a sentence for whoever typed them. */
export function parseFlags(args: readonly string[]): Flags {
  const { values } = parseArgs({
    args: [...args],
    options: {
      id: { type: "string" },
      data: { type: "string" },
      "listen-client": { type: "string", default: "127.0.0.1:2379" },
      "listen-peer": { type: "string" },
      "advertise-client": { type: "string" },
      "initial-cluster": { type: "string" },
      dial: { type: "string", multiple: true, default: [] },
      bootstrap: { type: "boolean", default: false },
      join: { type: "boolean", default: false },
      "cluster-token": { type: "string", default: "stablelog-kv" },
      "tick-ms": { type: "string", default: "100" },
      "async-writes": { type: "boolean", default: false },
      "request-timeout-ms": { type: "string", default: "7000" },
      "snapshot-entries": { type: "string", default: "10000" },
      "keep-entries": { type: "string", default: "5000" },
    },
  });
  const id = idOf("--id", values.id);
  if (values.data === undefined || values.data === "") throw new Error("--data is missing: a directory");
  const cluster = clusterOf("--initial-cluster", values["initial-cluster"]);
  if (cluster.size === 0) throw new Error("--initial-cluster is missing: 1=HOST:PORT,2=HOST:PORT,...");
  const own = cluster.get(id);
  if (own === undefined) throw new Error(`--initial-cluster does not name --id ${id}`);
  const listenClient = addressOf("--listen-client", values["listen-client"]);
  const listenPeer = addressOf("--listen-peer", values["listen-peer"] ?? own);
  const advertised = values["advertise-client"] ?? values["listen-client"];
  addressOf("--advertise-client", advertised);
  return {
    id,
    data: values.data,
    listenClient,
    listenPeer,
    clientUrl: `http://${advertised}`,
    peerUrl: `http://${own}`,
    cluster,
    dial: clusterOf("--dial", values.dial.join(",")),
    bootstrap: values.bootstrap,
    join: values.join,
    clusterId: createHash("sha1").update(values["cluster-token"]).digest().readBigUInt64BE(),
    tickMs: countOf("--tick-ms", values["tick-ms"]),
    asyncWrites: values["async-writes"],
    requestTimeoutMs: countOf("--request-timeout-ms", values["request-timeout-ms"]),
    snapshotEntries: countOf("--snapshot-entries", values["snapshot-entries"]),
    keepEntries: countOf("--keep-entries", values["keep-entries"]),
  };
}

function idOf(flag: string, text: string | undefined): bigint {
  if (text === undefined) throw new Error(`${flag} is missing: a number from 1 up`);
  if (!/^[1-9]\d{0,19}$/.test(text)) throw new Error(`${flag} ${text}: want a number from 1 up`);
  return BigInt(text);
}

function countOf(flag: string, text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`${flag} ${text}: want a number from 1 up`);
  return Number(text);
}

function addressOf(flag: string, text: string): Address {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535) throw new Error(`${flag} ${text}: want HOST:PORT`);
  return { host, port: Number(port) };
}

function clusterOf(flag: string, text = ""): Map<bigint, string> {
  const cluster = new Map<bigint, string>();
  for (const part of text.split(",").filter((each) => each !== "")) {
    const at = part.indexOf("=");
    const id = idOf(flag, part.slice(0, Math.max(at, 0)));
    addressOf(flag, part.slice(at + 1));
    if (cluster.has(id)) throw new Error(`${flag} names ${id} twice`);
    cluster.set(id, part.slice(at + 1));
  }
  return cluster;
}
