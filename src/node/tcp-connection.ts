// Connection: one TCP connection of the transport, dialled or accepted: frames in and out, the handshake's time limit, the pulse,
// and one ending, told once. What the frames mean is its owner's business, which changes when the handshake is done.
//
// The pulse: both sides send an empty frame four times in the time of silence that the more impatient one bears, and give up after
// as many beats of their own in which nothing came. Beats are counted and no clock is read, so a process that stood still for a
// while does not take its own sleep for the others' silence.

import { connect, type Socket } from "node:net";
import { errnoOf, type StableLogError } from "../base/errors.js";
import {
  answerFrame,
  FrameReader,
  type Hello,
  helloFrame,
  isPulse,
  MAX_HELLO_BYTES,
  PULSE,
  type Refusal,
  readAnswer,
} from "./tcp-frames.js";

/** How a connection ended. */
export interface Ending {
  /**
   * `ended`: the other side closed it; `failed`: the system did; `malformed`: what came was not of the protocol; `refused`: the
   * other side did not want it, `detail` says why; `slow`: no handshake in time; `silent`: nothing was heard; `dropped`: we
   * had no more use for it; `closed`: the transport is closed.
   */
  readonly why: "ended" | "failed" | "malformed" | "refused" | "slow" | "silent" | "dropped" | "closed";
  readonly detail: string;
}

/** Who a connection works for. */
export interface ConnectionOwner {
  /** A frame came, not a pulse. The payload is the owner's. */
  frame(payload: Uint8Array): void;
  /** What was written has gone to the system, after `blocked` was true. */
  drained(): void;
  /** It is over. Called once; nothing is called after it. */
  closed(ending: Ending): void;
}

/** Bytes that went over all connections of a transport. */
export interface Traffic {
  bytesSent: number;
  bytesReceived: number;
}

/** What all connections of a transport have in common. */
export interface ConnectionLimits {
  readonly handshakeMs: number;
  readonly idleMs: number;
}

export class Connection {
  readonly #socket: Socket;
  readonly #traffic: Traffic;
  readonly #limits: ConnectionLimits;
  readonly #reader: FrameReader;
  #owner: ConnectionOwner;
  #ended = false;
  /** The last word is written; what still comes is not looked at. */
  #finished = false;
  #paused = false;
  #deadline: NodeJS.Timeout | undefined;
  #beat: NodeJS.Timeout | undefined;
  /** Beats since something came. */
  #silent = 0;
  #lasted = false;

  /** Takes a socket over. A frame larger than a handshake's, or none within handshakeMs, ends it until it is established. */
  constructor(socket: Socket, traffic: Traffic, limits: ConnectionLimits, owner: ConnectionOwner) {
    this.#socket = socket;
    this.#traffic = traffic;
    this.#limits = limits;
    this.#owner = owner;
    this.#reader = new FrameReader(MAX_HELLO_BYTES, (payload) => this.#deliver(payload));
    this.#expire({ why: "slow", detail: `no handshake within ${limits.handshakeMs} ms` });
    socket.setNoDelay(true);
    socket.on("data", (read: Uint8Array) => this.#read(read));
    socket.on("drain", () => {
      if (!this.#ended) this.#owner.drained();
    });
    socket.on("end", () => this.end({ why: "ended", detail: "closed by the other side" }));
    socket.on("error", (error) => this.end({ why: "failed", detail: errnoOf(error) ?? error.message }));
    socket.on("close", () => this.end({ why: "ended", detail: "closed" }));
  }

  /** It was ended, by whomever. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Its last word is said. */
  get finished(): boolean {
    return this.#finished;
  }

  /** It has been up for a beat at least. */
  get lasted(): boolean {
    return this.#lasted;
  }

  /** Bytes that the system has not taken yet. */
  get backlog(): number {
    return this.#socket.writableLength;
  }

  /** The system takes no more for now; drained() tells when it does. */
  get blocked(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** The handshake is done: frames of up to `maxFrameBytes` go to `owner`. `idleMs`: how long the other side bears silence. */
  establish(maxFrameBytes: number, idleMs: number, owner: ConnectionOwner): void {
    if (this.#ended) return;
    clearTimeout(this.#deadline);
    this.#reader.maxBytes = maxFrameBytes;
    this.#owner = owner;
    const period = Math.min(idleMs, this.#limits.idleMs) / 4;
    const limit = Math.ceil(this.#limits.idleMs / period);
    this.#beat = setInterval(() => {
      this.#lasted = true;
      // Who does not listen hears nothing.
      if (!this.#paused && ++this.#silent > limit) {
        this.end({ why: "silent", detail: `nothing was heard for ${this.#limits.idleMs} ms` });
        return;
      }
      // What waits to be sent says as much.
      if (this.backlog === 0) this.write(PULSE);
    }, period);
  }

  /** Writes buffers in one go. They are the connection's from here on. */
  write(...buffers: readonly Uint8Array[]): void {
    this.#write(buffers, undefined);
  }

  /** Writes buffers in one go; resolves when the system has copied them, or never will: they are the caller's again. */
  writeAll(...buffers: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve) => this.#write(buffers, () => resolve()));
  }

  /** Says the last word and hangs up when the other side does, or after the time of a handshake. */
  finish(frame: Uint8Array): void {
    if (this.#ended || this.#finished) return;
    this.#finished = true;
    this.#traffic.bytesSent += frame.length;
    this.#socket.end(frame);
    // What comes is read and thrown away: unread bytes would make the system cut the connection, the last word with it.
    this.resume();
    clearInterval(this.#beat);
    this.#expire({ why: "ended", detail: "closed" });
  }

  /** Stops reading, so that the other side is held up. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#silent = 0;
    this.#socket.resume();
  }

  /** Ends it at once, what was not written with it. Ending twice is fine. */
  end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#deadline);
    clearInterval(this.#beat);
    this.#socket.destroy();
    this.#owner.closed(ending);
  }

  #write(buffers: readonly Uint8Array[], written: (() => void) | undefined): void {
    if (this.#ended || this.#finished) {
      written?.();
      return;
    }
    const socket = this.#socket;
    if (buffers.length > 1) socket.cork();
    for (const [at, buffer] of buffers.entries()) {
      this.#traffic.bytesSent += buffer.length;
      if (at === buffers.length - 1 && written !== undefined) socket.write(buffer, written);
      else socket.write(buffer);
    }
    if (buffers.length > 1) socket.uncork();
  }

  #read(read: Uint8Array): void {
    this.#traffic.bytesReceived += read.length;
    this.#silent = 0;
    if (this.#ended || this.#finished) return;
    const error: StableLogError | undefined = this.#reader.push(read);
    if (error !== undefined) this.end({ why: "malformed", detail: error.message });
  }

  #deliver(payload: Uint8Array): boolean {
    if (!isPulse(payload)) this.#owner.frame(payload);
    return !this.#ended && !this.#finished;
  }

  #expire(ending: Ending): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.end(ending), this.#limits.handshakeMs);
  }
}

/** Who dials. */
export interface Dialler extends ConnectionOwner {
  /** The other side has agreed: what is written from now on is looked at. */
  ready(): void;
}

/** Where a node listens. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Connects and says hello. Whatever goes wrong is told by closed(), never before this has returned. */
export function dial(
  endpoint: Endpoint,
  hello: Omit<Hello, "idleMs">,
  maxFrameBytes: number,
  traffic: Traffic,
  limits: ConnectionLimits,
  dialler: Dialler,
): { connection: Connection; socket: Socket } {
  const socket = connect({ host: endpoint.host, port: endpoint.port });
  const connection: Connection = new Connection(socket, traffic, limits, {
    frame(payload) {
      const answer = readAnswer(payload);
      if (answer === undefined) connection.end({ why: "malformed", detail: "the answer to the handshake is none" });
      else if (typeof answer === "string") connection.end({ why: "refused", detail: answer });
      else {
        connection.establish(maxFrameBytes, answer, dialler);
        dialler.ready();
      }
    },
    drained() {},
    closed: (ending) => dialler.closed(ending),
  });
  connection.write(helloFrame({ ...hello, idleMs: limits.idleMs }));
  return { connection, socket };
}

/** Agrees to a handshake. */
export function agree(connection: Connection, limits: ConnectionLimits): void {
  connection.write(answerFrame(limits.idleMs));
}

/** Refuses a handshake and hangs up. */
export function refuse(connection: Connection, why: Refusal): void {
  connection.finish(answerFrame(why));
}
