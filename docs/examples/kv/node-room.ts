// Node, Replica and TcpTransport as main.ts uses them, taken from "stablelog".

import type { Storage, Transport, WritableStorage } from "stablelog";
import * as stablelog from "stablelog";
import type { BasicStatus, ConfChange } from "stablelog/raft";
import type { Address } from "./flags.js";
import type { Result } from "./requests.js";
import type { KvStore } from "./store.js";

export interface Replica<R> {
  readonly node: { basicStatus(): BasicStatus };
  readonly applied: number;
  readonly done: Promise<void>;
  propose(data: Uint8Array, options: { signal: AbortSignal }): Promise<R>;
  proposeConfChange(change: ConfChange, options: { signal: AbortSignal }): Promise<unknown>;
  read(options: { signal: AbortSignal }): Promise<number>;
  stop(): Promise<void>;
}

interface Node {
  run(options: {
    storage: WritableStorage;
    transport: Transport;
    stateMachine: KvStore;
    snapshotEntries: number;
    keepEntries: number;
  }): Promise<Replica<Result>>;
}

interface NodeRoom {
  readonly Node: {
    new (config: { id: bigint; storage: Storage; tickMs: number }): Node;
    bootstrap(storage: WritableStorage, voters: bigint[]): Promise<void>;
  };
  readonly TcpTransport: new (options: {
    id: bigint;
    clusterId: bigint;
    listen: Address;
    peers: Iterable<[bigint, string]>;
  }) => Transport;
}

export const { Node, TcpTransport } = stablelog as unknown as NodeRoom;
export type TcpTransport = Transport;
