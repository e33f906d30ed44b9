// LocalNetwork: transports between nodes of one process, whose links can be cut. For tests and benchmarks of replicas that are
// not about sockets. Messages arrive in a later turn of the event loop, in order, each as a copy.

import type { Transport, TransportReceiver } from "../node/transport.js";
import { type Message, MessageType } from "../raftpb/message.js";

export class LocalNetwork {
  readonly #receivers = new Map<bigint, TransportReceiver>();
  readonly #cut = new Set<string>();
  /** Messages that did not arrive. */
  lost = 0;

  /** The transport of node `id`. */
  transport(id: bigint): Transport {
    let closed = false;
    return {
      start: async (receiver) => {
        this.#receivers.set(id, receiver);
      },
      setPeer: () => {},
      removePeer: () => {},
      send: (messages) => {
        if (!closed && messages.length > 0) setImmediate(() => this.#deliver(id, messages));
      },
      sendSnapshot: (message, data) => {
        void this.#deliverSnapshot(id, message, data);
      },
      close: async () => {
        closed = true;
        this.#receivers.delete(id);
      },
    };
  }

  /** Nothing gets through between the two any more, either way. */
  cut(a: bigint, b: bigint): void {
    this.#cut.add(linkOf(a, b));
  }

  mend(a: bigint, b: bigint): void {
    this.#cut.delete(linkOf(a, b));
  }

  mendAll(): void {
    this.#cut.clear();
  }

  #receiverOf(from: bigint, to: bigint): TransportReceiver | undefined {
    return this.#cut.has(linkOf(from, to)) ? undefined : this.#receivers.get(to);
  }

  #deliver(from: bigint, messages: readonly Message[]): void {
    for (const message of messages) {
      const receiver = this.#receiverOf(from, message.to);
      if (receiver !== undefined) {
        receiver.step({ ...message, entries: message.entries.map((entry) => ({ ...entry })) });
      } else {
        this.lost++;
        this.#receivers.get(from)?.reportUnreachable(message.to);
      }
    }
  }

  async #deliverSnapshot(from: bigint, message: Message, data: AsyncIterable<Uint8Array>): Promise<void> {
    const receiver = this.#receiverOf(from, message.to);
    let arrived = false;
    if (receiver !== undefined && message.type === MessageType.MsgSnap && message.snapshot !== undefined) {
      const { metadata } = message.snapshot;
      arrived = await receiver.receiveSnapshot({ ...message }, metadata, data).then(
        () => true,
        () => false,
      );
    }
    if (!arrived) this.lost++;
    this.#receivers.get(from)?.reportSnapshot(message.to, arrived);
  }
}

function linkOf(a: bigint, b: bigint): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`;
}
