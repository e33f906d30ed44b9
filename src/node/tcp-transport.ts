// TcpTransport: the Transport of nodes that reach each other by TCP. This file knows the peers: who they are, what waits for them,
// who may connect, and what is counted. Bytes are tcp-frames.ts, one connection is tcp-connection.ts, a snapshot tcp-snapshot.ts.
//
// For each peer there is one dialled connection on which our messages go out, kept up and dialled again when it is lost, and one
// accepted connection on which its messages come in; a snapshot has a connection of its own. What is sent within a turn of the
// event loop is encoded at once into one buffer and written in the check phase (setImmediate), as far as the socket takes it;
// the rest waits for `drain`, up to maxQueueBytes.
//
// Promises: messages of one recipient arrive in their order, with gaps, each at most once. Nothing that comes from outside throws
// or takes memory beyond its bound: it is refused or dropped, and counted. The identity of the cluster guards against mistakes,
// not against attackers: there is no encryption and no proof of who somebody is.

import { type AddressInfo, createServer, isIPv6, type Server, type Socket } from "node:net";
import { isCount } from "../base/bytes.js";
import { StableLogError } from "../base/errors.js";
import { randomFill } from "../base/random.js";
import { isLocalMessage, isLocalThread, type Message, MessageType, NONE } from "../raftpb/message.js";
import { decodeMessage } from "./message-codec.js";
import { agree, Connection, dial, type Ending, type Endpoint, refuse } from "./tcp-connection.js";
import {
  FRAME_HEAD_BYTES,
  FrameQueue,
  type Hello,
  isAddressShort,
  isIdleMs,
  isU64,
  type Refusal,
  readHello,
  refusals,
} from "./tcp-frames.js";
import { letGo, MAX_PIECE_BYTES, MAX_SNAPSHOT_FRAME_BYTES, SnapshotReceiver, SnapshotSender } from "./tcp-snapshot.js";
import type { Transport, TransportReceiver } from "./transport.js";

const MIB = 1024 * 1024;
/** Written at once at most; what follows waits for `drain`. */
const WRITE_BYTES = MIB;
/** Peers that nobody has named; more are refused. */
const MAX_UNNAMED = 64;
/** Connections that have not said who they are; more are cut off. */
const MAX_STRANGERS = 64;

export interface TcpTransportOptions {
  /** This node. */
  readonly id: bigint;
  /** Any 64-bit number that all members share and no other cluster has; who says another is refused. */
  readonly clusterId: bigint;
  /** Where to listen: host "127.0.0.1" if not given, port 0 for any that is free. */
  readonly listen: { readonly host?: string | undefined; readonly port: number };
  /** The other members, as "host:port" or "[v6]:port". An entry for this node is passed over. */
  readonly peers?: Iterable<readonly [bigint, string]> | undefined;
  /** Where others reach this node; where it listens if not given, and nothing where that is no address (0.0.0.0, ::). */
  readonly advertise?: string | undefined;
  /**
   * Members of the cluster whom nobody has named here yet: `accept` (default) takes them for peers, at the address that they say,
   * until removePeer(); `refuse` does not. A node that joins, or was away, may know less of the group than the leader that has
   * to bring it up to date.
   */
  readonly unknownPeers?: "accept" | "refuse" | undefined;
  /**
   * Called when a peer refuses us, with the reason; at each attempt. `removed`: the peer has been told that this node is no
   * member any more, which its own log may never say, because nobody speaks to it.
   */
  readonly onRefused?: ((id: bigint, reason: string) => void) | undefined;
  /**
   * The largest message in bytes, 64 MiB if not given. The same on every node. It must hold raft's maxSizePerMsg and the
   * largest proposal: a message above it is never sent.
   */
  readonly maxFrameBytes?: number | undefined;
  /** What may wait for one peer, in bytes; maxFrameBytes and a little if not given, and no less than that. */
  readonly maxQueueBytes?: number | undefined;
  /** The pause before a lost connection is dialled again, in ms: 50 at first, doubled each time, less a random half at most. */
  readonly reconnectMs?: number | undefined;
  /** The longest such pause, in ms: 5,000 if not given. */
  readonly maxReconnectMs?: number | undefined;
  /** Pieces of a snapshot, in bytes: 256 KiB if not given, 1 MiB at most. */
  readonly snapshotPieceBytes?: number | undefined;
  /** How long connecting and the handshake may take, in ms: 5,000 if not given. */
  readonly handshakeMs?: number | undefined;
  /** A connection that has been silent for so long is cut, in ms: 10,000 if not given, from 100 up. Both sides send a pulse. */
  readonly idleMs?: number | undefined;
}

/** What is known of one peer. */
export interface TcpPeerStats {
  readonly id: bigint;
  readonly address: string;
  /** Of the connection that we dial: up, under way, or dialled again after a pause. */
  readonly state: "connected" | "connecting" | "waiting";
  /** True while the peer's own connection to us is up. */
  readonly heard: boolean;
  /** Why the last connection, or attempt, came to its end: an errno name, "refused: cluster", ...; undefined while it is up. */
  readonly failure: string | undefined;
  /** Attempts that failed since a connection was up. */
  readonly failedAttempts: number;
  /** Bytes that wait, those in the socket's buffer included. */
  readonly queuedBytes: number;
}

/** Counts since the transport was made. */
export interface TcpTransportStats {
  /** Messages written to a connection. */
  readonly sent: number;
  /** Messages handed to the receiver. */
  readonly received: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Messages dropped, by reason. */
  readonly dropped: {
    /** Did not fit into the peer's queue. */
    readonly full: number;
    /** Above maxFrameBytes, or of values that no frame holds. */
    readonly unsendable: number;
    /** Waited for a peer that could not be connected to, or was removed. */
    readonly unreachable: number;
    /** For somebody who is no peer. */
    readonly unknown: number;
    /** Of a kind that never travels, sent or received. */
    readonly local: number;
    /** Received, and not from the connection's peer or not for this node. */
    readonly misdirected: number;
  };
  /** Handshakes of others that were refused here, by reason. */
  readonly refused: Readonly<Record<Refusal, number>>;
  /** Connections cut because of bytes that are not of the protocol. */
  readonly malformed: number;
  /** Connections cut because no handshake came, or was answered, in time. */
  readonly slow: number;
  /** Connections cut because they were silent. */
  readonly silent: number;
  /** Connections cut at once because too many had not said who they are, and those the system could not accept. */
  readonly crowded: number;
  readonly snapshots: {
    readonly sent: number;
    readonly sendsFailed: number;
    readonly received: number;
    readonly receivesFailed: number;
  };
  readonly peers: readonly TcpPeerStats[];
}

class Peer {
  readonly id: bigint;
  /** False for one that has only called. */
  named = true;
  address: string;
  endpoint: Endpoint;
  readonly queue = new FrameQueue();
  /** Dialled by us; `ready` when the handshake is done. */
  connection: Connection | undefined;
  ready = false;
  retry: NodeJS.Timeout | undefined;
  failure: string | undefined;
  failedAttempts = 0;
  /** Dialled by the peer. */
  incoming: Connection | undefined;
  incomingSnapshot: Connection | undefined;
  outgoingSnapshot: SnapshotSender | undefined;

  constructor(id: bigint, address: string, endpoint: Endpoint) {
    this.id = id;
    this.address = address;
    this.endpoint = endpoint;
  }
}

export class TcpTransport implements Transport {
  readonly #options: ReturnType<typeof checkOptions>;
  readonly #listen: { host: string; port: number };
  readonly #limits: { handshakeMs: number; idleMs: number };
  readonly #peers = new Map<bigint, Peer>();
  readonly #removed = new Set<bigint>();
  readonly #sockets = new Set<Socket>();
  #state: "made" | "started" | "closing" | "closed" = "made";
  #receiver: TransportReceiver | undefined;
  #server: Server | undefined;
  /** Settles when start() knows whether it listens. */
  #listening: Promise<void> = Promise.resolve();
  #port = 0;
  #closing: Promise<void> | undefined;
  #whenSocketsGone: (() => void) | undefined;
  #strangers = 0;

  // What the next check phase has to do.
  #scheduled = false;
  readonly #toFlush = new Set<Peer>();
  readonly #unreachable = new Set<bigint>();
  #outcomes: { readonly id: bigint; readonly arrived: boolean }[] = [];

  readonly #traffic = { bytesSent: 0, bytesReceived: 0 };
  readonly #counts = { sent: 0, received: 0, malformed: 0, slow: 0, silent: 0, crowded: 0 };
  readonly #dropped = { full: 0, unsendable: 0, unreachable: 0, unknown: 0, local: 0, misdirected: 0 };
  readonly #refused = Object.fromEntries(refusals.map((why) => [why, 0])) as Record<Refusal, number>;
  readonly #snapshots = { sent: 0, sendsFailed: 0, received: 0, receivesFailed: 0 };

  /** @throws ERR_INVALID_ARGUMENT. */
  constructor(options: TcpTransportOptions) {
    const checked = checkOptions(options);
    this.#options = checked;
    this.#limits = { handshakeMs: checked.handshakeMs, idleMs: checked.idleMs };
    this.#listen = { host: options.listen.host ?? "127.0.0.1", port: options.listen.port };
    for (const [id, address] of options.peers ?? []) this.setPeer(id, address);
  }

  /** The port that is listened on; before start() the one that was asked for. */
  get port(): number {
    return this.#port === 0 ? this.#listen.port : this.#port;
  }

  /** Where this node listens, in the form that setPeer() takes. */
  get address(): string {
    const { host } = this.#listen;
    return `${isIPv6(host) ? `[${host}]` : host}:${this.port}`;
  }

  /**
   * Listens, and dials every peer.
   * @throws ERR_IO when the port cannot be had, and it may be called again; ERR_CLOSED after close(); ERR_INVALID_ARGUMENT the second time.
   */
  async start(receiver: TransportReceiver): Promise<void> {
    if (this.#closing !== undefined) throw new StableLogError("ERR_CLOSED", "start transport: it is closed");
    if (this.#state !== "made") throw new StableLogError("ERR_INVALID_ARGUMENT", "start transport: it was started");
    this.#state = "started";
    this.#receiver = receiver;
    const server = createServer((socket) => this.#accept(socket));
    this.#server = server;
    this.#listening = new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: this.#listen.host, port: this.#listen.port }, resolve);
    });
    try {
      await this.#listening;
    } catch (error) {
      if (this.#closing === undefined) this.#state = "made";
      const cause = error as Error;
      throw new StableLogError("ERR_IO", `start transport: listen on ${this.address}: ${cause.message}`, { cause });
    }
    if (this.#closing !== undefined) throw new StableLogError("ERR_CLOSED", "start transport: it was closed");
    // No descriptors left to accept one more with, say: the next may do.
    server.on("error", () => this.#counts.crowded++);
    this.#port = (server.address() as AddressInfo).port;
    for (const peer of this.#peers.values()) this.#dial(peer);
  }

  /**
   * Where a node is to be found from now on, as "host:port" or "[v6]:port". This node is passed over.
   * @throws ERR_INVALID_ARGUMENT.
   */
  setPeer(id: bigint, address: string): void {
    if (!isU64(id) || id === NONE || isLocalThread(id)) throw invalid("setPeer: id", "a node's ID", id);
    const endpoint = parseAddress(address);
    if (endpoint === undefined) throw invalid("setPeer: address", `"host:port"`, address);
    if (id === this.#options.id || this.#closing !== undefined) return;
    this.#removed.delete(id);
    const known = this.#peers.get(id);
    if (known !== undefined) known.named = true;
    if (known?.address === address) return;
    const peer = known ?? new Peer(id, address, endpoint);
    peer.address = address;
    peer.endpoint = endpoint;
    peer.failedAttempts = 0;
    this.#peers.set(id, peer);
    this.#hangUp(peer, "it has another address");
    this.#dial(peer);
  }

  /** Forgets a node: its connections are cut, what waits for it is dropped, and it is refused until setPeer() names it again. */
  removePeer(id: bigint): void {
    if (id === this.#options.id || this.#closing !== undefined) return;
    this.#removed.add(id);
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    this.#peers.delete(id);
    this.#cut(peer, { why: "dropped", detail: "the peer was removed" });
  }

  send(messages: readonly Message[]): void {
    for (const message of messages) this.#post(message);
  }

  /**
   * Sends a MsgSnap on a connection of its own. While one is on its way to a node another to it fails at once: the first one's
   * outcome counts.
   */
  sendSnapshot(message: Message, data: AsyncIterable<Uint8Array>): void {
    const peer = this.#peers.get(message.to);
    let sender: SnapshotSender | undefined;
    if (peer !== undefined && this.#state === "started" && peer.outgoingSnapshot === undefined) {
      if (message.type === MessageType.MsgSnap && message.snapshot !== undefined)
        sender = this.#snapshotTo(peer, message, data);
    }
    if (peer === undefined || sender === undefined) {
      letGo(data);
      if (peer === undefined) this.#dropped.unknown++;
      this.#snapshots.sendsFailed++;
      this.#reportSnapshot(message.to, false);
      return;
    }
    peer.outgoingSnapshot = sender;
    const { connection, socket } = dial(
      peer.endpoint,
      this.#hello(peer, "snapshot"),
      MAX_SNAPSHOT_FRAME_BYTES,
      this.#traffic,
      this.#limits,
      sender,
    );
    sender.connection = connection;
    this.#track(socket);
  }

  stats(): TcpTransportStats {
    return {
      ...this.#counts,
      ...this.#traffic,
      dropped: { ...this.#dropped },
      refused: { ...this.#refused },
      snapshots: { ...this.#snapshots },
      peers: [...this.#peers.values()].map((peer) => ({
        id: peer.id,
        address: peer.address,
        state: peer.ready ? "connected" : peer.connection === undefined ? "waiting" : "connecting",
        heard: peer.incoming !== undefined,
        failure: peer.failure,
        failedAttempts: peer.ready ? 0 : peer.failedAttempts,
        queuedBytes: queuedBytes(peer),
      })),
    };
  }

  /** Ends every connection; snapshots on their way are told to have failed before this returns. Closing twice is fine. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      let gone!: () => void;
      // First: what is told below may lead back here.
      this.#closing = new Promise((resolve) => {
        gone = resolve;
      });
      this.#shut();
      void this.#allGone().then(gone);
    }
    return this.#closing;
  }

  #shut(): void {
    if (this.#state === "started") this.#state = "closing";
    const ending: Ending = { why: "closed", detail: "the transport is closed" };
    for (const peer of this.#peers.values()) this.#cut(peer, ending);
    this.#tellOutcomes();
    this.#state = "closed";
    this.#peers.clear();
    // Those who have not said who they are, and those who were refused.
    for (const socket of this.#sockets) socket.destroy();
  }

  async #allGone(): Promise<void> {
    // A server that is closed before it listens listens all the same.
    await this.#listening.catch(() => {});
    const server = this.#server;
    if (server?.listening === true) await new Promise<void>((resolve) => server.close(() => resolve()));
    if (this.#sockets.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenSocketsGone = resolve;
    });
  }

  // ---- going out

  #post(message: Message): void {
    const { type, to } = message;
    if (isLocalMessage(type)) {
      this.#dropped.local++;
      return;
    }
    if (type === MessageType.MsgSnap && message.snapshot !== undefined) {
      // So that its outcome is known.
      this.sendSnapshot(message, once(message.snapshot.data));
      return;
    }
    if (type === MessageType.MsgSnap || message.snapshot !== undefined) {
      this.#dropped.unsendable++;
      return;
    }
    const peer = this.#peers.get(to);
    if (peer === undefined || this.#state !== "started") {
      this.#dropped.unknown++;
      this.#reportUnreachable(to);
      return;
    }
    const { maxFrameBytes, maxQueueBytes } = this.#options;
    let outcome: "added" | "tooLarge" | "full";
    try {
      outcome = peer.queue.add(message, maxFrameBytes, maxQueueBytes - queuedBytes(peer));
    } catch {
      // A number beyond 64 bits, or a value that is none of a message.
      outcome = "tooLarge";
    }
    if (outcome === "added") {
      this.#toFlush.add(peer);
      this.#schedule();
      return;
    }
    if (outcome === "full") this.#dropped.full++;
    else this.#dropped.unsendable++;
    this.#reportUnreachable(to);
  }

  #schedule(): void {
    if (this.#scheduled || this.#state !== "started") return;
    this.#scheduled = true;
    setImmediate(() => this.#turn());
  }

  /** The check phase: all that was sent in this turn goes out, and what could not is told. */
  #turn(): void {
    this.#scheduled = false;
    if (this.#state !== "started") return;
    const peers = [...this.#toFlush];
    this.#toFlush.clear();
    for (const peer of peers) this.#flush(peer);
    // The receiver may send, and so ask for the next turn.
    const unreachable = [...this.#unreachable];
    this.#unreachable.clear();
    for (const id of unreachable) this.#told()?.reportUnreachable(id);
    this.#tellOutcomes();
  }

  #tellOutcomes(): void {
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    for (const { id, arrived } of outcomes) this.#told()?.reportSnapshot(id, arrived);
  }

  /** Writes what waits for a peer, as much as its socket takes. */
  #flush(peer: Peer): void {
    const { connection, queue } = peer;
    while (connection !== undefined && peer.ready && queue.frames > 0 && !connection.blocked) {
      const chunks = queue.take(WRITE_BYTES);
      for (const chunk of chunks) this.#counts.sent += chunk.frames;
      connection.write(...chunks.map((chunk) => chunk.bytes));
      if (connection.ended) return;
    }
  }

  #reportUnreachable(id: bigint): void {
    this.#unreachable.add(id);
    this.#schedule();
  }

  #reportSnapshot(id: bigint, arrived: boolean): void {
    this.#outcomes.push({ id, arrived });
    this.#schedule();
  }

  /** Who is to be told; nobody when the transport is closed. */
  #told(): TransportReceiver | undefined {
    return this.#state === "started" || this.#state === "closing" ? this.#receiver : undefined;
  }

  #hello({ id }: Peer, purpose: Hello["purpose"]): Omit<Hello, "idleMs"> {
    const { clusterId, id: from, advertise } = this.#options;
    return {
      clusterId,
      from,
      to: id,
      purpose,
      address: advertise ?? (isWildcard(this.#listen.host) ? "" : this.address),
    };
  }

  #dial(peer: Peer): void {
    clearTimeout(peer.retry);
    peer.retry = undefined;
    // Listening comes first: a peer that we reach may dial back at once.
    if (this.#state !== "started" || this.#port === 0 || peer.connection !== undefined) return;
    const { connection, socket } = dial(
      peer.endpoint,
      this.#hello(peer, "messages"),
      this.#options.maxFrameBytes,
      this.#traffic,
      this.#limits,
      {
        ready: () => {
          peer.ready = true;
          peer.failure = undefined;
          this.#flush(peer);
        },
        frame: () => connection.end({ why: "malformed", detail: "messages come on the other connection" }),
        drained: () => this.#flush(peer),
        closed: (ending) => this.#lost(peer, connection, ending),
      },
    );
    peer.connection = connection;
    this.#track(socket);
  }

  #lost(peer: Peer, connection: Connection, ending: Ending): void {
    this.#count(ending);
    if (peer.connection !== connection) return;
    const wasReady = peer.ready;
    peer.connection = undefined;
    peer.ready = false;
    if (ending.why === "closed" || ending.why === "dropped" || this.#state !== "started") return;
    peer.failure = ending.why === "refused" ? `refused: ${ending.detail}` : ending.detail;
    if (ending.why === "refused") this.#options.onRefused?.(peer.id, ending.detail);
    // One that is accepted and cut at once counts as failed: such a peer is not dialled in a whirl.
    peer.failedAttempts = connection.lasted ? 0 : peer.failedAttempts + 1;
    if (!wasReady) {
      // Raft's words go stale, and it says them again. So nothing waits for longer than one pause and one attempt.
      const dropped = peer.queue.clear();
      this.#dropped.unreachable += dropped;
      if (dropped > 0) this.#reportUnreachable(peer.id);
    } else this.#reportUnreachable(peer.id);
    peer.retry = setTimeout(() => this.#dial(peer), this.#pauseOf(peer));
  }

  /** The pause before the next attempt, in ms. */
  #pauseOf(peer: Peer): number {
    const { reconnectMs, maxReconnectMs } = this.#options;
    const longest = Math.min(maxReconnectMs, reconnectMs * 2 ** Math.min(peer.failedAttempts, 30));
    const [chance = 0] = randomFill(new Uint8Array(1));
    return longest * (1 - chance / 512);
  }

  /** Ends the connection that we dialled to a peer. */
  #hangUp(peer: Peer, detail: string): void {
    clearTimeout(peer.retry);
    peer.retry = undefined;
    const wasReady = peer.ready;
    peer.connection?.end({ why: "dropped", detail });
    if (wasReady) this.#reportUnreachable(peer.id);
  }

  /** Ends all that is between us and a peer. */
  #cut(peer: Peer, ending: Ending): void {
    clearTimeout(peer.retry);
    peer.retry = undefined;
    this.#dropped.unreachable += peer.queue.clear();
    peer.connection?.end(ending);
    peer.incoming?.end(ending);
    peer.incomingSnapshot?.end(ending);
    peer.outgoingSnapshot?.connection.end(ending);
  }

  #snapshotTo(peer: Peer, message: Message, data: AsyncIterable<Uint8Array>): SnapshotSender | undefined {
    try {
      return new SnapshotSender(message, data, this.#options.snapshotPieceBytes, (arrived, ending) => {
        this.#count(ending);
        peer.outgoingSnapshot = undefined;
        if (arrived) this.#snapshots.sent++;
        else this.#snapshots.sendsFailed++;
        this.#reportSnapshot(peer.id, arrived);
      });
    } catch {
      return undefined;
    }
  }

  // ---- coming in

  #accept(socket: Socket): void {
    this.#track(socket);
    if (this.#strangers >= MAX_STRANGERS || this.#state !== "started") {
      this.#counts.crowded++;
      socket.on("error", () => {});
      socket.destroy();
      return;
    }
    this.#strangers++;
    let stranger = true;
    const connection: Connection = new Connection(socket, this.#traffic, this.#limits, {
      frame: (payload) => {
        this.#greeted(connection, payload);
        if (!connection.finished) known();
      },
      drained: () => {},
      closed: (ending) => {
        this.#count(ending);
        known();
      },
    });
    // One that was refused counts as a stranger until it is gone.
    const known = (): void => {
      if (stranger) this.#strangers--;
      stranger = false;
    };
  }

  #greeted(connection: Connection, payload: Uint8Array): void {
    const hello = readHello(payload);
    if (hello === undefined) {
      connection.end({ why: "malformed", detail: "the handshake is none" });
      return;
    }
    const why = this.#refusalOf(hello);
    const peer = hello === "version" || why !== undefined ? undefined : this.#peerOf(hello);
    if (hello === "version" || peer === undefined) {
      const reason = why ?? "unknown";
      this.#refused[reason]++;
      refuse(connection, reason);
      return;
    }
    agree(connection, this.#limits);
    if (hello.purpose === "messages") this.#hear(peer, connection, hello.idleMs);
    else this.#takeSnapshot(peer, connection, hello.idleMs);
    // Who calls is there: no need to wait before calling back.
    if (peer.connection === undefined) this.#dial(peer);
  }

  #refusalOf(hello: Hello | "version"): Refusal | undefined {
    if (hello === "version") return "version";
    if (hello.clusterId !== this.#options.clusterId) return "cluster";
    if (hello.to !== this.#options.id) return "recipient";
    return this.#removed.has(hello.from) ? "removed" : undefined;
  }

  /** Who is calling; one of the cluster whom nobody has named yet becomes a peer at the address that it says. */
  #peerOf({ from, address }: Hello): Peer | undefined {
    const known = this.#peers.get(from);
    const { unknownPeers, id } = this.#options;
    if (known?.named === true || from === id || unknownPeers === "refuse") return known;
    const endpoint = parseAddress(address);
    if (endpoint === undefined || from === NONE || isLocalThread(from)) return known;
    if (known !== undefined) {
      known.address = address;
      known.endpoint = endpoint;
      return known;
    }
    let unnamed = 0;
    for (const each of this.#peers.values()) if (!each.named) unnamed++;
    if (unnamed >= MAX_UNNAMED) return undefined;
    const peer = new Peer(from, address, endpoint);
    peer.named = false;
    this.#peers.set(from, peer);
    return peer;
  }

  #hear(peer: Peer, connection: Connection, idleMs: number): void {
    // The newest counts: an older one is what a peer that was cut off has left behind.
    peer.incoming?.end({ why: "dropped", detail: "the peer has connected again" });
    peer.incoming = connection;
    connection.establish(this.#options.maxFrameBytes, idleMs, {
      frame: (payload) => {
        const message = this.#read(connection, payload);
        if (message === undefined || !this.#admit(peer, message)) return;
        this.#counts.received++;
        this.#told()?.step(message);
      },
      drained: () => {},
      closed: (ending) => {
        this.#count(ending);
        if (peer.incoming === connection) peer.incoming = undefined;
      },
    });
  }

  #takeSnapshot(peer: Peer, connection: Connection, idleMs: number): void {
    peer.incomingSnapshot?.end({ why: "dropped", detail: "the peer sends another snapshot" });
    peer.incomingSnapshot = connection;
    const receiver = new SnapshotReceiver(connection, {
      head: (payload) => {
        const message = this.#read(connection, payload);
        if (message === undefined) return undefined;
        if (message.type !== MessageType.MsgSnap || (message.snapshot?.data.length ?? 0) > 0) {
          connection.end({ why: "malformed", detail: "a snapshot does not begin with a MsgSnap without data" });
          return undefined;
        }
        return this.#admit(peer, message) ? message : undefined;
      },
      take: async (message, data) => {
        const receiving = this.#told();
        if (receiving === undefined || message.snapshot === undefined) throw new Error("the transport is closed");
        await receiving.receiveSnapshot(message, message.snapshot.metadata, data);
      },
      settled: (taken) => {
        if (taken) this.#snapshots.received++;
        else this.#snapshots.receivesFailed++;
      },
      closed: (ending) => {
        this.#count(ending);
        if (peer.incomingSnapshot === connection) peer.incomingSnapshot = undefined;
      },
    });
    connection.establish(MAX_SNAPSHOT_FRAME_BYTES, idleMs, receiver);
  }

  #read(connection: Connection, payload: Uint8Array): Message | undefined {
    try {
      return decodeMessage(payload);
    } catch (error) {
      connection.end({ why: "malformed", detail: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  }

  /** Whether a message may come from this peer; counts it when it may not. */
  #admit(peer: Peer, { type, from, to }: Message): boolean {
    if (isLocalMessage(type)) {
      this.#dropped.local++;
      return false;
    }
    if (to === this.#options.id && (from === peer.id || this.#handsOn(type, from))) return true;
    this.#dropped.misdirected++;
    return false;
  }

  /**
   * A follower hands these on to the leader with `from` as it was: who proposed or asked, and who is to lead. It must be a
   * member all the same.
   */
  #handsOn(type: MessageType, from: bigint): boolean {
    const handedOn =
      type === MessageType.MsgProp || type === MessageType.MsgReadIndex || type === MessageType.MsgTransferLeader;
    return handedOn && (from === this.#options.id || this.#peers.has(from));
  }

  #count({ why }: Ending): void {
    if (why === "malformed" || why === "slow" || why === "silent") this.#counts[why]++;
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#whenSocketsGone?.();
    });
  }
}

function queuedBytes(peer: Peer): number {
  return peer.queue.bytes + (peer.ready ? (peer.connection?.backlog ?? 0) : 0);
}

async function* once(data: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield data;
}

/** A host that listens everywhere and is to be found nowhere. */
function isWildcard(host: string): boolean {
  return host === "" || host === "0.0.0.0" || host === "::";
}

/** "host:port" or "[v6]:port"; undefined for anything else. */
export function parseAddress(address: unknown): Endpoint | undefined {
  if (typeof address !== "string") return undefined;
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || !(port >= 1 && port <= 65535) ? undefined : { host, port };
}

function invalid(what: string, wanted: string, got: unknown): StableLogError {
  return new StableLogError("ERR_INVALID_ARGUMENT", `${what} must be ${wanted}, got ${String(got)}`);
}

/** Checks options and fills in their defaults. */
function checkOptions(options: TcpTransportOptions) {
  const {
    id,
    clusterId,
    listen,
    maxFrameBytes = 64 * MIB,
    maxQueueBytes = maxFrameBytes + FRAME_HEAD_BYTES,
    reconnectMs = 50,
    maxReconnectMs = Math.max(5000, reconnectMs),
    snapshotPieceBytes = MIB / 4,
    handshakeMs = 5000,
    idleMs = 10_000,
    advertise,
    unknownPeers = "accept",
    onRefused,
  } = options;
  const range = (name: string, value: unknown, from: number, to: number): void => {
    if (!isCount(value) || value < from || value > to) throw invalid(name, `an integer from ${from} to ${to}`, value);
  };
  if (!isU64(id) || id === NONE || isLocalThread(id)) throw invalid("id", "a node's ID", id);
  if (!isU64(clusterId)) throw invalid("clusterId", "a bigint of 64 bits without a sign", clusterId);
  if (typeof listen !== "object" || listen === null) throw invalid("listen", "an object", listen);
  if (listen.host !== undefined && typeof listen.host !== "string") throw invalid("listen.host", "a host", listen.host);
  range("listen.port", listen.port, 0, 65535);
  range("maxFrameBytes", maxFrameBytes, 1024, 1024 * MIB);
  range("maxQueueBytes", maxQueueBytes, maxFrameBytes + FRAME_HEAD_BYTES, Number.MAX_SAFE_INTEGER);
  range("reconnectMs", reconnectMs, 1, 0x7fffffff);
  range("maxReconnectMs", maxReconnectMs, reconnectMs, 0x7fffffff);
  range("snapshotPieceBytes", snapshotPieceBytes, 1, MAX_PIECE_BYTES);
  range("handshakeMs", handshakeMs, 1, 0x7fffffff);
  if (advertise !== undefined && (parseAddress(advertise) === undefined || !isAddressShort(advertise))) {
    throw invalid("advertise", `"host:port"`, advertise);
  }
  if (unknownPeers !== "accept" && unknownPeers !== "refuse") {
    throw invalid("unknownPeers", `"accept" or "refuse"`, unknownPeers);
  }
  if (!isIdleMs(idleMs)) throw invalid("idleMs", "an integer from 100", idleMs);
  return {
    id,
    clusterId,
    maxFrameBytes,
    maxQueueBytes,
    reconnectMs,
    maxReconnectMs,
    snapshotPieceBytes,
    handshakeMs,
    idleMs,
    advertise,
    unknownPeers,
    onRefused,
  };
}
