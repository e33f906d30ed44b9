// Transport: what carries messages from node to node, owned by its consumer (replica.ts). tcp-transport.ts is one; another
// takes a page. Messages may be lost, doubled and reordered, never changed: raft copes with the first three.
// MsgProp alone must not be doubled: raft would take the commands in it twice.

import type { Message } from "../raftpb/message.js";
import type { SnapshotMetadata } from "../raftpb/types.js";

export interface Transport {
  /** Begins to deliver. Called once, before anything else but setPeer(). */
  start(receiver: TransportReceiver): Promise<void>;
  /** Where a node is to be found from now on; what an address is, is the transport's own. */
  setPeer(id: bigint, address: string): void;
  /** Forgets a node: what waits for it is dropped, and it is not listened to any more. */
  removePeer(id: bigint): void;
  /**
   * Sends what it can, in order for each recipient, and returns at once. It never throws: what cannot be sent is dropped and
   * counted, and reported as unreachable. The messages are the transport's from here on; their entries' data is shared.
   */
  send(messages: readonly Message[]): void;
  /**
   * Sends a MsgSnap whose data comes as a stream, beside other messages; `message.snapshot` has the metadata, its data is
   * left out. Reports the outcome to the receiver: arrived means that the other side's receiveSnapshot() has resolved. While one
   * is on its way to a node, another to it may fail at once. The stream is let go of in any case.
   */
  sendSnapshot(message: Message, data: AsyncIterable<Uint8Array>): void;
  /** Ends every connection. Nothing is delivered once it has resolved. Closing twice is fine. */
  close(): Promise<void>;
}

/** The node's side: what a transport tells it. No call throws; a promise that rejects means "not taken". */
export interface TransportReceiver {
  /** A message of another node, checked for its shape and for its sender. */
  step(message: Message): void;
  /**
   * Takes a snapshot that comes as a stream. Resolves when it is written and stepped; rejects when the stream does or
   * it is not wanted. `message` is a MsgSnap with empty data.
   */
  receiveSnapshot(message: Message, metadata: SnapshotMetadata, data: AsyncIterable<Uint8Array>): Promise<void>;
  /** A message could not be delivered. */
  reportUnreachable(id: bigint): void;
  /** A snapshot that was sent has arrived whole, or has not. */
  reportSnapshot(id: bigint, arrived: boolean): void;
}
