// Frames: how values stand in a TCP stream. u32 length of the payload, u32 CRC-32 of it (both little-endian), the payload: one
// MessagePack value (base/msgpack.ts). The checksum begins with the length as its seed, so that a flipped bit of the length is
// noticed as well. Also what frames of a connection say besides messages: the handshake, the pulse, the end of a snapshot.
// Knows bytes and no sockets; tcp-connection.ts and the files on top of it are its users.

import { isCount } from "../base/bytes.js";
import { crc32 } from "../base/crc32.js";
import { StableLogError } from "../base/errors.js";
import { packBehind, packBriefly, unpack } from "../base/msgpack.js";
import type { Message } from "../raftpb/message.js";
import { dataBytes, messageValue, sizeBound } from "./message-codec.js";

/** Length and checksum. */
export const FRAME_HEAD_BYTES = 8;
/** Small frames share a chunk of so many bytes. */
const CHUNK_BYTES = 64 * 1024;
/** A larger frame has a chunk of its own: so no more than a quarter of a shared chunk is left unused. */
const MAX_SHARING_BYTES = CHUNK_BYTES / 4;
/** A frame that is on its way gets room for so many bytes at first, and then for twice what has come. */
const FIRST_BODY_BYTES = 64 * 1024;

function putHead(frame: Uint8Array, at: number, length: number, crc: number): void {
  frame[at] = length;
  frame[at + 1] = length >>> 8;
  frame[at + 2] = length >>> 16;
  frame[at + 3] = length >>> 24;
  frame[at + 4] = crc;
  frame[at + 5] = crc >>> 8;
  frame[at + 6] = crc >>> 16;
  frame[at + 7] = crc >>> 24;
}

function u32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

/** A frame of its own. */
export function frameOf(value: unknown): Uint8Array {
  const payload = packBriefly(value);
  const frame = new Uint8Array(FRAME_HEAD_BYTES + payload.length);
  frame.set(payload, FRAME_HEAD_BYTES);
  putHead(frame, 0, payload.length, crc32(payload, payload.length));
  return frame;
}

/** What stands before `bytes` so that both are the frame of a byte string: the bytes themselves are not copied. */
export function bytesFrameHead(bytes: Uint8Array): Uint8Array {
  const head = new Uint8Array(FRAME_HEAD_BYTES + 5);
  const length = 5 + bytes.length;
  // bin 32: the count is big-endian.
  head[8] = 0xc6;
  head[9] = bytes.length >>> 24;
  head[10] = bytes.length >>> 16;
  head[11] = bytes.length >>> 8;
  head[12] = bytes.length;
  putHead(head, 0, length, crc32(bytes, crc32(head.subarray(FRAME_HEAD_BYTES), length)));
  return head;
}

/** Frames that lie side by side, as they are written in one go. */
export interface Chunk {
  readonly bytes: Uint8Array;
  readonly frames: number;
}

/** What waits to be written to one peer, encoded, oldest first. Takes at most a third more memory than `bytes`, and a chunk. */
export class FrameQueue {
  /** Bytes that wait, heads included. */
  bytes = 0;
  /** Frames that wait. */
  frames = 0;
  readonly #chunks: Chunk[] = [];
  // The chunk that is filling: [#from, #to) waits, what stands before it was taken and is the socket's to read.
  #open: Buffer | undefined;
  #from = 0;
  #to = 0;
  #openFrames = 0;

  /**
   * Encodes a message to the end of the queue unless its payload has more than `maxFrameBytes` or the frame more than `room`.
   * Where its data alone are too much nothing is encoded.
   */
  add(message: Message, maxFrameBytes: number, room: number): "added" | "tooLarge" | "full" {
    const data = dataBytes(message);
    if (data > maxFrameBytes) return "tooLarge";
    if (data + FRAME_HEAD_BYTES > room) return "full";
    const value = messageValue(message);
    let own = data > MAX_SHARING_BYTES ? packBehind(FRAME_HEAD_BYTES, value, sizeBound(message)) : undefined;
    const payload = own === undefined ? packBriefly(value) : own.subarray(FRAME_HEAD_BYTES);
    const size = FRAME_HEAD_BYTES + payload.length;
    if (payload.length > maxFrameBytes) return "tooLarge";
    if (size > room) return "full";
    const crc = crc32(payload, payload.length);
    if (own === undefined && size > MAX_SHARING_BYTES) {
      own = new Uint8Array(size);
      own.set(payload, FRAME_HEAD_BYTES);
    }
    if (own !== undefined) {
      putHead(own, 0, payload.length, crc);
      this.#seal();
      this.#chunks.push({ bytes: own, frames: 1 });
    } else {
      if (this.#open === undefined || this.#to + size > CHUNK_BYTES) {
        this.#seal();
        this.#open = Buffer.allocUnsafeSlow(CHUNK_BYTES);
        this.#from = 0;
        this.#to = 0;
      }
      putHead(this.#open, this.#to, payload.length, crc);
      this.#open.set(payload, this.#to + FRAME_HEAD_BYTES);
      this.#to += size;
      this.#openFrames++;
    }
    this.bytes += size;
    this.frames++;
    return "added";
  }

  /** Takes chunks from the front until they have `bytes` or nothing is left. */
  take(bytes: number): Chunk[] {
    const taken: Chunk[] = [];
    let size = 0;
    while (size < bytes) {
      if (this.#chunks.length === 0) this.#seal();
      const chunk = this.#chunks.shift();
      if (chunk === undefined) break;
      taken.push(chunk);
      size += chunk.bytes.length;
      this.frames -= chunk.frames;
    }
    this.bytes -= size;
    return taken;
  }

  /** Drops all that waits; says how many frames that were. */
  clear(): number {
    const { frames } = this;
    this.#chunks.length = 0;
    this.#open = undefined;
    this.#from = 0;
    this.#to = 0;
    this.#openFrames = 0;
    this.bytes = 0;
    this.frames = 0;
    return frames;
  }

  #seal(): void {
    if (this.#open === undefined || this.#openFrames === 0) return;
    this.#chunks.push({ bytes: this.#open.subarray(this.#from, this.#to), frames: this.#openFrames });
    this.#from = this.#to;
    this.#openFrames = 0;
  }
}

/**
 * Cuts a stream into payloads. A payload is memory of its own, never a view of what was read from the socket: an entry that raft
 * keeps would keep those 64 KiB, of which it may be the smallest part. A length is judged before anything is allocated for it,
 * and then believed only as far as bytes have come: half a frame holds 64 KiB, or twice what was received.
 */
export class FrameReader {
  /** The largest payload that is taken. */
  maxBytes: number;
  readonly #deliver: (payload: Uint8Array) => boolean;
  readonly #head = new Uint8Array(FRAME_HEAD_BYTES);
  #headBytes = 0;
  #length = 0;
  #crc = 0;
  // Undefined between frames and within a head.
  #body: Uint8Array | undefined;
  #bodyBytes = 0;

  /** `deliver` takes a payload, and says whether more are wanted. */
  constructor(maxBytes: number, deliver: (payload: Uint8Array) => boolean) {
    this.maxBytes = maxBytes;
    this.#deliver = deliver;
  }

  /** Takes what was read. Returns ERR_CORRUPT where it is no frame; the reader is of no use after that. */
  push(read: Uint8Array): StableLogError | undefined {
    // Not a Buffer: the slice of one is a view.
    const bytes = new Uint8Array(read.buffer, read.byteOffset, read.byteLength);
    let at = 0;
    while (at < bytes.length) {
      if (this.#body === undefined) {
        const missing = FRAME_HEAD_BYTES - this.#headBytes;
        const piece = bytes.subarray(at, at + missing);
        this.#head.set(piece, this.#headBytes);
        this.#headBytes += piece.length;
        at += piece.length;
        if (this.#headBytes < FRAME_HEAD_BYTES) return undefined;
        this.#headBytes = 0;
        this.#length = u32(this.#head, 0);
        this.#crc = u32(this.#head, 4);
        if (this.#length === 0 || this.#length > this.maxBytes) {
          return corrupt(`a frame of ${this.#length} bytes; 1 to ${this.maxBytes} are taken`);
        }
        if (bytes.length - at < this.#length) {
          this.#body = new Uint8Array(Math.min(this.#length, Math.max(FIRST_BODY_BYTES, bytes.length - at)));
          this.#bodyBytes = 0;
          continue;
        }
        const payload = bytes.slice(at, at + this.#length);
        at += this.#length;
        if (crc32(payload, payload.length) !== this.#crc) return corrupt("a frame's checksum does not match");
        if (!this.#deliver(payload)) return undefined;
      } else {
        let body = this.#body;
        if (this.#bodyBytes === body.length) {
          this.#body = new Uint8Array(Math.min(this.#length, 2 * body.length));
          this.#body.set(body);
          body = this.#body;
        }
        const piece = bytes.subarray(at, at + body.length - this.#bodyBytes);
        body.set(piece, this.#bodyBytes);
        this.#bodyBytes += piece.length;
        at += piece.length;
        if (this.#bodyBytes < this.#length) continue;
        this.#body = undefined;
        if (crc32(body, body.length) !== this.#crc) return corrupt("a frame's checksum does not match");
        if (!this.#deliver(body)) return undefined;
      }
    }
    return undefined;
  }
}

function corrupt(what: string): StableLogError {
  return new StableLogError("ERR_CORRUPT", `read from a connection: ${what}`);
}

// ---- the words of a connection besides messages

const MAGIC = 0x53744c67;
const VERSION = 1;
/** No hello or answer is larger. */
export const MAX_HELLO_BYTES = 512;
const MAX_ADDRESS_BYTES = 300;
const MIN_IDLE_MS = 100;
const MAX_IDLE_MS = 0x7fffffff;
const MAX_U64 = 0xffffffffffffffffn;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a connection is for. */
export type Purpose = "messages" | "snapshot";
const purposes: readonly Purpose[] = ["messages", "snapshot"];

/** Why a handshake is refused. New ones are added at the end: their places travel. */
export const refusals = ["version", "cluster", "recipient", "unknown", "removed"] as const;
/**
 * Why a handshake is refused: another protocol version, another cluster, meant for another node, from a node that is no peer,
 * from one that was removed.
 */
export type Refusal = (typeof refusals)[number];

/** What a dialler says first. */
export interface Hello {
  readonly clusterId: bigint;
  readonly from: bigint;
  readonly to: bigint;
  readonly purpose: Purpose;
  /** How long it bears silence, in ms. */
  readonly idleMs: number;
  /** Where it may be called back; "" when it does not say. */
  readonly address: string;
}

/** True for how long a node may bear silence, in ms. */
export function isIdleMs(value: unknown): value is number {
  return isCount(value) && value >= MIN_IDLE_MS && value <= MAX_IDLE_MS;
}

/** True for a bigint of 64 bits without a sign. */
export function isU64(value: unknown): value is bigint {
  return typeof value === "bigint" && value >= 0n && value <= MAX_U64;
}

export function helloFrame({ clusterId, from, to, purpose, idleMs, address }: Hello): Uint8Array {
  return frameOf([MAGIC, VERSION, clusterId, from, to, purposes.indexOf(purpose), idleMs, encoder.encode(address)]);
}

/** True for what fits into a hello. */
export function isAddressShort(address: string): boolean {
  return encoder.encode(address).length <= MAX_ADDRESS_BYTES;
}

/** Reads a hello; "version" for that of another version of the protocol, whatever else it says; undefined for anything else. */
export function readHello(payload: Uint8Array): Hello | "version" | undefined {
  const value = unpack(payload);
  if (!Array.isArray(value) || value[0] !== MAGIC) return undefined;
  const [, version, clusterId, from, to, purposeAt, idleMs, address] = value as unknown[];
  if (!isCount(version)) return undefined;
  if (version !== VERSION) return "version";
  const purpose = typeof purposeAt === "number" ? purposes[purposeAt] : undefined;
  if (value.length !== 8 || purpose === undefined || !isIdleMs(idleMs)) return undefined;
  if (!isU64(clusterId) || !isU64(from) || !isU64(to)) return undefined;
  if (!(address instanceof Uint8Array) || address.length > MAX_ADDRESS_BYTES) return undefined;
  return { clusterId, from, to, purpose, idleMs, address: decoder.decode(address) };
}

/** How an acceptor answers: with how long it bears silence, or why not. */
export function answerFrame(answer: number | Refusal): Uint8Array {
  if (typeof answer === "number") return frameOf([MAGIC, VERSION, true, answer]);
  return frameOf([MAGIC, VERSION, false, refusals.indexOf(answer)]);
}

/** Reads an answer; undefined when it is none. */
export function readAnswer(payload: Uint8Array): number | Refusal | undefined {
  const value = unpack(payload);
  if (!Array.isArray(value) || value.length !== 4 || value[0] !== MAGIC) return undefined;
  const [, , taken, detail] = value as unknown[];
  if (taken === true) return value[1] === VERSION && isIdleMs(detail) ? detail : undefined;
  return taken === false && typeof detail === "number" ? refusals[detail] : undefined;
}

/** The pulse: an empty array, said by both sides of every connection so that silence means something. */
export const PULSE: Uint8Array = frameOf([]);

export function isPulse(payload: Uint8Array): boolean {
  return payload.length === 1 && payload[0] === 0x90;
}

/** Behind the last piece of a snapshot: bytes in all and their checksum. */
export interface SnapshotEnd {
  readonly length: number;
  readonly crc: number;
}

export function snapshotEndFrame({ length, crc }: SnapshotEnd): Uint8Array {
  return frameOf([length, crc]);
}

/** Reads a frame of a snapshot's data: a piece, or the end; undefined when it is neither. */
export function readSnapshotPart(payload: Uint8Array): Uint8Array | SnapshotEnd | undefined {
  const value = unpack(payload);
  if (value instanceof Uint8Array) return value;
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [length, crc] = value as unknown[];
  return isCount(length) && isCount(crc) ? { length, crc } : undefined;
}

/** The receiver's word on a snapshot: taken or not. */
export function outcomeFrame(taken: boolean): Uint8Array {
  return frameOf([taken]);
}

export function readOutcome(payload: Uint8Array): boolean | undefined {
  const value = unpack(payload);
  if (!Array.isArray(value) || value.length !== 1) return undefined;
  return typeof value[0] === "boolean" ? value[0] : undefined;
}
