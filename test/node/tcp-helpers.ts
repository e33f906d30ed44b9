// What the tests of the TCP transport stand on: a receiver that remembers, transports that are closed whatever happens, and the
// other side of a connection played by hand, byte by byte.

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach } from "vitest";
import { crc32 } from "../../src/base/crc32.js";
import { encodeMessage } from "../../src/node/message-codec.js";
import { FRAME_HEAD_BYTES, FrameReader, helloFrame } from "../../src/node/tcp-frames.js";
import { TcpTransport, type TcpTransportOptions } from "../../src/node/tcp-transport.js";
import type { TransportReceiver } from "../../src/node/transport.js";
import { type Message, MessageType, newMessage } from "../../src/raftpb/message.js";
import type { SnapshotMetadata } from "../../src/raftpb/types.js";
import { until } from "./group.js";

export const CLUSTER = 0xc0ffeen;

type Taking = (message: Message, metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>) => Promise<void>;

/** A node that does nothing but remember. */
export class Recorder implements TransportReceiver {
  readonly messages: Message[] = [];
  readonly unreachable: bigint[] = [];
  readonly outcomes: [id: bigint, arrived: boolean][] = [];
  /** What receiveSnapshot() does. */
  take: Taking = async (_message, _metadata, data) => {
    for await (const _piece of data);
  };
  step(message: Message): void {
    this.messages.push(message);
  }
  receiveSnapshot(message: Message, metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void> {
    return this.take(message, metadata, data);
  }
  reportUnreachable(id: bigint): void {
    this.unreachable.push(id);
  }
  reportSnapshot(id: bigint, arrived: boolean): void {
    this.outcomes.push([id, arrived]);
  }
}

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
});

/** Has something closed at the end of the test. */
export function closing(close: () => unknown): void {
  toClose.push(close);
}

export interface Node {
  readonly transport: TcpTransport;
  readonly recorder: Recorder;
}

/** A transport that is closed when the test is over. */
export function make(id: bigint, options: Partial<TcpTransportOptions> = {}): Node {
  const transport = new TcpTransport({
    id,
    clusterId: CLUSTER,
    listen: { port: 0 },
    reconnectMs: 5,
    maxReconnectMs: 50,
    ...options,
  });
  closing(() => transport.close());
  return { transport, recorder: new Recorder() };
}

/** So many transports from 1 up, started, that know each other and are connected. */
export async function group(size: number, options: Partial<TcpTransportOptions> = {}): Promise<Node[]> {
  const nodes = Array.from({ length: size }, (_, at) => make(BigInt(at + 1), options));
  for (const { transport, recorder } of nodes) await transport.start(recorder);
  for (const { transport } of nodes) {
    for (const [at, other] of nodes.entries()) transport.setPeer(BigInt(at + 1), other.transport.address);
  }
  for (const { transport } of nodes) await connected(transport);
  return nodes;
}

/** Two of them. */
export async function pair(options: Partial<TcpTransportOptions> = {}): Promise<[Node, Node]> {
  const [a, b] = await group(2, options);
  if (a === undefined || b === undefined) throw new Error("a pair is two");
  return [a, b];
}

/** Waits until every peer is connected, both ways. */
export async function connected(transport: TcpTransport): Promise<void> {
  await until(() => transport.stats().peers.every((peer) => peer.state === "connected" && peer.heard));
}

/** The one peer of a transport, as its stats have it. */
export function onlyPeer({ transport }: Node) {
  const [peer] = transport.stats().peers;
  if (peer === undefined) throw new Error("no peer");
  return peer;
}

/** An append of one entry, told apart by its index. */
export function append(from: bigint, to: bigint, index: number, bytes = 16): Message {
  return newMessage(MessageType.MsgApp, {
    from,
    to,
    term: 1,
    index: index - 1,
    entries: [{ term: 1, index, type: 0, data: new Uint8Array(bytes).fill(index) }],
  });
}

export const indexOf = (message: Message): number => message.index + 1;

export function snapshotMessage(from: bigint, to: bigint, data = new Uint8Array(0)): Message {
  const confState = { voters: [1n, 2n], learners: [3n], votersOutgoing: [], learnersNext: [], autoLeave: false };
  return newMessage(MessageType.MsgSnap, {
    from,
    to,
    term: 4,
    snapshot: { metadata: { index: 100, term: 3, confState }, data },
  });
}

/** A payload as a frame, written from the description of the format and not by the code. */
export function framed(payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_HEAD_BYTES + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt32LE(crc32(payload, payload.length), 4);
  frame.set(payload, FRAME_HEAD_BYTES);
  return frame;
}

export const messageFrame = (message: Message): Buffer => framed(encodeMessage(message));

/** One side of a connection, by hand. */
export class Raw {
  readonly socket: Socket;
  readonly payloads: Uint8Array[] = [];
  /** Resolves when the connection is gone. */
  readonly gone: Promise<void>;
  isGone = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    const reader = new FrameReader(1 << 20, (payload) => this.payloads.push(payload) > 0);
    socket.on("data", (read: Uint8Array) => reader.push(read));
    // Cut off by the other side, as it may.
    socket.on("error", () => {});
    this.gone = new Promise((resolve) => {
      socket.on("close", () => {
        this.isGone = true;
        resolve();
      });
    });
    closing(() => socket.destroy());
  }

  /** `allowHalfOpen`: stays though the other side hangs up. */
  static async connect(port: number, allowHalfOpen = false): Promise<Raw> {
    const raw = new Raw(connect({ port, host: "127.0.0.1", allowHalfOpen }));
    await new Promise<void>((resolve) => raw.socket.once("connect", resolve));
    return raw;
  }

  /** Connects as a node of the cluster; resolves when the handshake has been answered. */
  static async greet(port: number, hello: Partial<Parameters<typeof helloFrame>[0]> = {}): Promise<Raw> {
    const raw = await Raw.connect(port);
    raw.socket.write(
      helloFrame({ clusterId: CLUSTER, from: 2n, to: 1n, purpose: "messages", idleMs: 10_000, address: "", ...hello }),
    );
    await raw.heard(1);
    return raw;
  }

  /** Writes, and resolves when the system has it. */
  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()));
  }

  /** Waits for so many frames, pulses included. */
  async heard(frames: number): Promise<void> {
    await until(() => this.payloads.length >= frames);
  }
}

/** A server by hand: what connects to it is in `accepted`. */
export async function rawServer(port = 0): Promise<{ server: Server; port: number; accepted: Raw[] }> {
  const accepted: Raw[] = [];
  const server = createServer((socket) => accepted.push(new Raw(socket)));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  closing(() => new Promise((resolve) => server.close(resolve)));
  return { server, port: (server.address() as AddressInfo).port, accepted };
}
