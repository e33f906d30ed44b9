// Snapshots over TCP: a connection of its own for each, so that megabytes never stand before a heartbeat. The sender writes the
// MsgSnap without its data, then the data in pieces, then their length and checksum; the receiver answers with one word when its
// owner has taken the snapshot, or has not. Either side holds one piece at a time and what the system buffers: a slow reader
// holds up the socket, the socket the sender, and the sender its source.
//
// Promises: each outcome is told once; the sender's source is let go of whatever happens; the receiver's stream ends only when
// every byte was there.

import { crc32 } from "../base/crc32.js";
import { StableLogError } from "../base/errors.js";
import type { Message } from "../raftpb/message.js";
import { messageValue } from "./message-codec.js";
import type { Connection, ConnectionOwner, Dialler, Ending } from "./tcp-connection.js";
import {
  bytesFrameHead,
  frameOf,
  outcomeFrame,
  readOutcome,
  readSnapshotPart,
  type SnapshotEnd,
  snapshotEndFrame,
} from "./tcp-frames.js";

/** The largest piece of a snapshot that is sent or taken. */
export const MAX_PIECE_BYTES = 1024 * 1024;
/** The largest frame of a snapshot's connection: a piece and its head, or a MsgSnap with its ConfState. */
export const MAX_SNAPSHOT_FRAME_BYTES = MAX_PIECE_BYTES + 1024;
/** A receiver that has so many bytes waiting for its reader reads no more. */
const MAX_WAITING_BYTES = 256 * 1024;
/** What a piece that waits takes beside its bytes, so that a crowd of tiny ones is bounded as well. */
const PIECE_BYTES = 256;
const NOTHING = new Uint8Array(0);

/** A MsgSnap as it travels: its data left out. */
function withoutData(message: Message): Message {
  const { snapshot } = message;
  return snapshot === undefined ? message : { ...message, snapshot: { metadata: snapshot.metadata, data: NOTHING } };
}

/** A source that can be let go of at any time, read or not. */
class Source {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #started = false;
  #over = false;

  constructor(data: AsyncIterable<Uint8Array>) {
    this.#iterator = data[Symbol.asyncIterator]();
  }

  async next(): Promise<Uint8Array | undefined> {
    this.#started = true;
    try {
      const { done, value } = await this.#iterator.next();
      if (done === true) {
        this.#over = true;
        return undefined;
      }
      if (value instanceof Uint8Array) return value;
    } catch (error) {
      this.#over = true;
      throw error;
    }
    throw new StableLogError("ERR_INVALID_ARGUMENT", "send snapshot: the source gives something else than bytes");
  }

  letGo(): void {
    if (this.#over) return;
    this.#over = true;
    void this.#close().catch(() => {});
  }

  async #close(): Promise<void> {
    // A generator that never ran, a Readable's among them, has no `finally` to run on return().
    const first = this.#started ? undefined : this.#iterator.next();
    first?.catch(() => {});
    await this.#iterator.return?.();
  }
}

/** Lets go of a stream that is not sent. It never throws. */
export function letGo(data: AsyncIterable<Uint8Array>): void {
  try {
    new Source(data).letGo();
  } catch {
    // What cannot be begun holds nothing.
  }
}

/** Sends one snapshot: the dialler of its connection. */
export class SnapshotSender implements Dialler {
  readonly #message: Message;
  readonly #source: Source;
  readonly #pieceBytes: number;
  readonly #done: (arrived: boolean, ending: Ending) => void;
  /** Of dial(), which tells nothing before it has returned. */
  connection!: Connection;
  #over = false;

  /** `done` is called once, with what came of it and how the connection ended. Throws what the iterable throws when it is asked for its iterator. */
  constructor(
    message: Message,
    data: AsyncIterable<Uint8Array>,
    pieceBytes: number,
    done: (arrived: boolean, ending: Ending) => void,
  ) {
    this.#message = withoutData(message);
    this.#source = new Source(data);
    this.#pieceBytes = pieceBytes;
    this.#done = done;
  }

  ready(): void {
    this.#pump().catch((error: unknown) => {
      this.#finish(false, { why: "dropped", detail: `the source failed: ${String(error)}` });
    });
  }

  frame(payload: Uint8Array): void {
    const taken = readOutcome(payload);
    if (taken === undefined) this.connection.end({ why: "malformed", detail: "not a word on a snapshot" });
    else
      this.#finish(taken, {
        why: "dropped",
        detail: taken ? "the snapshot has arrived" : "the snapshot was not taken",
      });
  }

  drained(): void {}

  closed(ending: Ending): void {
    this.#finish(false, ending);
  }

  async #pump(): Promise<void> {
    const { connection } = this;
    let length = 0;
    let crc = 0;
    await connection.writeAll(frameOf(messageValue(this.#message)));
    while (!this.#over) {
      const bytes = await this.#source.next();
      if (this.#over) return;
      if (bytes === undefined) {
        connection.write(snapshotEndFrame({ length, crc }));
        return;
      }
      for (let at = 0; at < bytes.length; at += this.#pieceBytes) {
        const piece = bytes.subarray(at, at + this.#pieceBytes);
        crc = crc32(piece, crc);
        length += piece.length;
        // Until the system has it: the memory is the source's, and there is never more than one piece.
        await connection.writeAll(bytesFrameHead(piece), piece);
        if (this.#over) return;
      }
    }
  }

  #finish(arrived: boolean, ending: Ending): void {
    if (this.#over) return;
    this.#over = true;
    this.#source.letGo();
    this.connection.end(ending);
    this.#done(arrived, ending);
  }
}

/** What a receiver needs of the transport. */
export interface SnapshotTaker {
  /** Reads and checks the MsgSnap; undefined when it is not for us, or none, which was counted. */
  head(payload: Uint8Array): Message | undefined;
  /** Hands the snapshot to the node. */
  take(message: Message, data: AsyncIterable<Uint8Array>): Promise<void>;
  /** The node has taken it, or has not. */
  settled(taken: boolean): void;
  /** The connection is over. */
  closed(ending: Ending): void;
}

/** Receives one snapshot: the owner of an accepted connection. */
export class SnapshotReceiver implements ConnectionOwner {
  readonly #connection: Connection;
  readonly #taker: SnapshotTaker;
  readonly #stream: SnapshotStream;
  #begun = false;
  #length = 0;
  #crc = 0;

  constructor(connection: Connection, taker: SnapshotTaker) {
    this.#connection = connection;
    this.#taker = taker;
    this.#stream = new SnapshotStream(connection);
  }

  frame(payload: Uint8Array): void {
    if (!this.#begun) {
      this.#begin(payload);
      return;
    }
    const part = readSnapshotPart(payload);
    if (part === undefined)
      this.#connection.end({ why: "malformed", detail: "neither a piece of a snapshot nor its end" });
    else if (part instanceof Uint8Array) {
      this.#length += part.length;
      this.#crc = crc32(part, this.#crc);
      this.#stream.push(part);
    } else this.#complete(part);
  }

  drained(): void {}

  closed(ending: Ending): void {
    const code = ending.why === "closed" ? "ERR_CLOSED" : ending.why === "malformed" ? "ERR_CORRUPT" : "ERR_IO";
    this.#stream.fail(
      new StableLogError(code, `receive snapshot: cut off after ${this.#length} bytes: ${ending.detail}`),
    );
    this.#taker.closed(ending);
  }

  #begin(payload: Uint8Array): void {
    const message = this.#taker.head(payload);
    if (message === undefined) {
      this.#connection.finish(outcomeFrame(false));
      return;
    }
    this.#begun = true;
    this.#taker.take(message, this.#stream).then(
      () => this.#settle(!this.#stream.failed),
      () => this.#settle(false),
    );
  }

  #complete({ length, crc }: SnapshotEnd): void {
    if (length === this.#length && crc === this.#crc) this.#stream.end();
    else {
      const came = `${this.#length} bytes with checksum ${this.#crc} came, ${length} with ${crc} were sent`;
      this.#stream.fail(new StableLogError("ERR_CORRUPT", `receive snapshot: ${came}`));
    }
  }

  #settle(taken: boolean): void {
    this.#stream.close();
    this.#connection.finish(outcomeFrame(taken));
    this.#taker.settled(taken);
  }
}

/** The data of a snapshot, as the node reads them. */
class SnapshotStream implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly #connection: Connection;
  readonly #pieces: Uint8Array[] = [];
  #waiting = 0;
  #readers: { resolve: (result: IteratorResult<Uint8Array, undefined>) => void; reject: (error: unknown) => void }[] =
    [];
  // Open, then once: ended by the sender, failed, or closed by the reader.
  #state: "open" | "ended" | "failed" | "closed" = "open";
  #error: unknown;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get failed(): boolean {
    return this.#state === "failed";
  }

  push(piece: Uint8Array): void {
    if (this.#state !== "open" || piece.length === 0) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader.resolve({ done: false, value: piece });
      return;
    }
    this.#pieces.push(piece);
    this.#waiting += piece.length + PIECE_BYTES;
    if (this.#waiting >= MAX_WAITING_BYTES) this.#connection.pause();
  }

  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#answer();
  }

  /** What was not read yet is dropped. */
  fail(error: unknown): void {
    if (this.#state !== "open") return;
    this.#state = "failed";
    this.#error = error;
    this.#drop();
    for (const reader of this.#readers.splice(0)) reader.reject(error);
  }

  /** The reader wants no more. */
  close(): void {
    if (this.#state === "failed") return;
    this.#state = "closed";
    this.#drop();
    this.#answer();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const piece = this.#pieces.shift();
    if (piece !== undefined) {
      this.#waiting -= piece.length + PIECE_BYTES;
      if (this.#pieces.length === 0 && this.#state === "open") this.#connection.resume();
      return Promise.resolve({ done: false, value: piece });
    }
    if (this.#state === "failed") return Promise.reject(this.#error);
    if (this.#state !== "open") return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    // The verdict is still to come: until then the sender is held up.
    if (this.#state === "open") this.#connection.pause();
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  #drop(): void {
    this.#pieces.length = 0;
    this.#waiting = 0;
  }

  #answer(): void {
    for (const reader of this.#readers.splice(0)) reader.resolve({ done: true, value: undefined });
  }
}
