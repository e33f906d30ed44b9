// Messages as bytes, and bytes as messages: the round trip as a law over every kind, a table of what is refused, and hostile bytes;
// then frames: every flipped bit, every way to cut a stream, lengths that lie.

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { pack as packAny } from "msgpackr";
import { describe, expect, test } from "vitest";
import { MAX_INDEX } from "../../src/base/bytes.js";
import { StableLogError } from "../../src/base/errors.js";
import { pack, packBehind, unpack } from "../../src/base/msgpack.js";
import { dataBytes, decodeMessage, encodeMessage, sizeBound } from "../../src/node/message-codec.js";
import { type Chunk, FRAME_HEAD_BYTES, FrameQueue, FrameReader, frameOf } from "../../src/node/tcp-frames.js";
import { type Message, MessageType, newMessage } from "../../src/raftpb/message.js";
import { type ConfState, type Entry, type EntryType, emptyConfState } from "../../src/raftpb/types.js";

const count = fc.oneof(
  fc.nat(300),
  fc.maxSafeNat().map((n) => Math.min(n, MAX_INDEX)),
  fc.constant(MAX_INDEX),
);
const id = fc.oneof(fc.bigInt(0n, 9n), fc.bigInt(0n, 2n ** 64n - 1n));
const bytes = fc.uint8Array({ maxLength: 400 });
const ids = fc.array(id, { maxLength: 5 });
/** Objects as the code makes them, not those without a prototype. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}
const confState: fc.Arbitrary<ConfState> = record({
  voters: ids,
  learners: ids,
  votersOutgoing: ids,
  learnersNext: ids,
  autoLeave: fc.boolean(),
});
const entry = record({ term: count, index: count, type: fc.constantFrom<EntryType>(0, 1, 2), data: bytes });

/** Messages of every kind, as raft makes them: an append's entries follow its index, a MsgSnap and no other has a snapshot. */
const message: fc.Arbitrary<Message> = record({
  type: fc.constantFrom(...Object.values(MessageType)),
  to: id,
  from: id,
  term: count,
  logTerm: count,
  index: count.map((n) => Math.min(n, MAX_INDEX - 20)),
  commit: count,
  reject: fc.boolean(),
  rejectHint: count,
  context: bytes,
  entries: fc.array(entry, { maxLength: 8 }),
  snapshot: record({ metadata: record({ index: count, term: count, confState }), data: bytes }),
}).map(({ type, entries, snapshot, ...rest }) =>
  newMessage(type, {
    ...rest,
    entries:
      type === MessageType.MsgApp ? entries.map((e, at): Entry => ({ ...e, index: rest.index + 1 + at })) : entries,
    snapshot: type === MessageType.MsgSnap ? snapshot : undefined,
  }),
);

function append(data: Uint8Array): Message {
  return newMessage(MessageType.MsgApp, {
    to: 2n,
    from: 1n,
    term: 3,
    logTerm: 3,
    index: 6,
    commit: 6,
    entries: [{ term: 3, index: 7, type: 0, data }],
  });
}

/** toStrictEqual() takes its time over bytes: it is asked where there is a difference to tell. */
function expectSame(got: unknown, wanted: unknown): void {
  if (!isDeepStrictEqual(got, wanted)) expect(got).toStrictEqual(wanted);
}

/** What decodeMessage() makes of bytes: the message, or the code of its error. Any other error fails the test. */
function decoded(payload: Uint8Array): Message | string {
  try {
    return decodeMessage(payload);
  } catch (error) {
    if (!(error instanceof StableLogError)) throw error;
    return error.code;
  }
}

describe("decodeMessage()", () => {
  test("gives back what encodeMessage() was given, of every kind", () => {
    const seen = new Set<MessageType>();
    fc.assert(
      fc.property(message, (original) => {
        seen.add(original.type);
        const encoded = encodeMessage(original);
        expect(encoded.length).toBeGreaterThan(dataBytes(original));
        expectSame(decodeMessage(encoded), original);
      }),
      { numRuns: 1500 },
    );
    expect([...seen].sort((a, b) => a - b)).toEqual(Object.values(MessageType));
  });

  test("sizeBound() holds, node IDs of a ConfState aside", () => {
    fc.assert(
      fc.property(message, (original) => {
        const { snapshot } = original;
        const conf = snapshot?.metadata.confState ?? emptyConfState();
        const named = Object.values(conf).flat().length;
        expect(encodeMessage(original).length).toBeLessThanOrEqual(sizeBound(original) + 9 * named);
      }),
    );
  });

  test("gives plain Uint8Arrays, though it was given a Buffer", () => {
    const payload = Buffer.from(encodeMessage({ ...append(new Uint8Array(9)), context: new Uint8Array(3) }));
    const { entries, context } = decodeMessage(payload);
    expect(entries[0]?.data.constructor).toBe(Uint8Array);
    expect(context.constructor).toBe(Uint8Array);
  });

  test("leaves vote and responses behind", () => {
    const told = newMessage(MessageType.MsgApp, { vote: 5n, responses: [newMessage(MessageType.MsgAppResp)] });
    expect(decodeMessage(encodeMessage(told))).toEqual(newMessage(MessageType.MsgApp));
  });

  test("has its messages in the shape of newMessage()", () => {
    expect(Object.keys(decodeMessage(encodeMessage(append(new Uint8Array(1)))))).toEqual(
      Object.keys(newMessage(MessageType.MsgHup)),
    );
  });

  // The fields of an append, and of a MsgSnap, by place.
  const good = (): unknown[] => [
    3,
    2n,
    1n,
    3,
    3,
    6,
    6,
    false,
    0,
    new Uint8Array(0),
    [3, 7, 0, new Uint8Array(2)],
    null,
  ];
  const noOne: unknown[] = [[], [], [], [], false];
  const snap = (): unknown[] => [
    7,
    2n,
    1n,
    3,
    0,
    0,
    0,
    false,
    0,
    new Uint8Array(0),
    [],
    [5, 2, noOne, new Uint8Array(1)],
  ];
  const at = (from: unknown[], place: number, value: unknown): unknown[] => from.with(place, value);

  test("takes the two that the table spoils", () => {
    expect(decoded(pack(good()))).toEqual(append(new Uint8Array(2)));
    expect(decoded(pack(snap()))).toMatchObject({ type: MessageType.MsgSnap, snapshot: { metadata: { index: 5 } } });
  });

  const badCounts = [-1, 0.5, Number.NaN, Infinity, MAX_INDEX + 1, 2 ** 60, 1n, null, true, []];
  const badIds = [1, -1n, null, false, new Uint8Array(8)];
  const badBytes = [null, 0, [], "text"];
  test.each<[string, unknown]>([
    ["no array", 7],
    ["nil", null],
    ["a field less", good().slice(0, 11)],
    ["a field more", [...good(), 0]],
    ...[-1, 24, 255, 1.5, "MsgApp", null].map((type): [string, unknown] => [
      `type ${String(type)}`,
      at(good(), 0, type),
    ]),
    ...[3, 4, 5, 6, 8].flatMap((place) =>
      badCounts.map((value): [string, unknown] => [`field ${place} as ${String(value)}`, at(good(), place, value)]),
    ),
    ...[1, 2].flatMap((place) =>
      badIds.map((value): [string, unknown] => [`field ${place} as ${String(value)}`, at(good(), place, value)]),
    ),
    ...[0, 1, null].map((value): [string, unknown] => [`reject as ${value}`, at(good(), 7, value)]),
    ...badBytes.map((value): [string, unknown] => [`context as ${String(value)}`, at(good(), 9, value)]),
    ["entries as nil", at(good(), 10, null)],
    ["half an entry", at(good(), 10, [3, 7])],
    ["an entry in an array", at(good(), 10, [[3, 7, 0, new Uint8Array(0)]])],
    ["an entry of type 3", at(good(), 10, [3, 7, 3, new Uint8Array(0)])],
    ["an entry without a type", at(good(), 10, [3, 7, null, new Uint8Array(0)])],
    ["an entry's data as nil", at(good(), 10, [3, 7, 0, null])],
    ["an entry's term as a bigint", at(good(), 10, [3n, 7, 0, new Uint8Array(0)])],
    ["an append that leaves a gap", at(good(), 10, [3, 8, 0, new Uint8Array(0)])],
    ["an append with a snapshot", at(good(), 11, snap()[11])],
    ["a MsgSnap without one", at(snap(), 11, null)],
    ["a snapshot of three fields", at(snap(), 11, [5, 2, noOne])],
    ["a snapshot with a negative index", at(snap(), 11, [-5, 2, noOne, new Uint8Array(0)])],
    ["a ConfState of four fields", at(snap(), 11, [5, 2, [[], [], [], false], new Uint8Array(0)])],
    ["a ConfState with numbers for IDs", at(snap(), 11, [5, 2, [[1], [], [], [], false], new Uint8Array(0)])],
    ["a ConfState without autoLeave", at(snap(), 11, [5, 2, [[], [], [], [], null], new Uint8Array(0)])],
    ["a map", { type: 3 }],
    ["a Set", at(good(), 10, new Set([1]))],
    ["a Date", at(good(), 3, new Date(0))],
  ])("refuses %s", (_what, value) => {
    expect(decoded(packAny(value))).toBe("ERR_CORRUPT");
  });

  test("refuses -0, which msgpackr never writes", () => {
    // A float in the place of the term, which is the one byte behind two node IDs of nine.
    const whole = encodeMessage(append(new Uint8Array(0)));
    const place = 2 + 9 + 9;
    const withTerm = (...float: number[]): Uint8Array =>
      new Uint8Array([...whole.subarray(0, place), 0xcb, ...float, ...whole.subarray(place + 1)]);
    expect(decoded(withTerm(0, 0, 0, 0, 0, 0, 0, 0))).toMatchObject({ term: 0 });
    expect(decoded(withTerm(0x80, 0, 0, 0, 0, 0, 0, 0))).toBe("ERR_CORRUPT");
  });

  test("refuses every truncation and every extension of a message", () => {
    const whole = encodeMessage(append(new Uint8Array([1, 2, 3])));
    for (let length = 0; length < whole.length; length++) expect(decoded(whole.slice(0, length))).toBe("ERR_CORRUPT");
    expect(decoded(new Uint8Array([...whole, 0]))).toBe("ERR_CORRUPT");
  });

  test("makes a message or ERR_CORRUPT of any bytes, and any change of good ones", () => {
    const change = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), message.map(encodeMessage)), change, (start, changes) => {
        const spoilt = new Uint8Array(start);
        for (const [place, value] of changes) if (spoilt.length > 0) spoilt[place % spoilt.length] = value;
        const result = decoded(spoilt);
        if (typeof result === "string") expect(result).toBe("ERR_CORRUPT");
        else expectSame(decodeMessage(encodeMessage(result)), result);
      }),
      { numRuns: 3000 },
    );
  });
});

describe("unpack()", () => {
  test.each<[string, number[]]>([
    ["a million arrays in one another", new Array(1_000_000).fill(0x91)],
    ["a count without the elements", [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ["a byte string without the bytes", [0xc6, 0xff, 0xff, 0xff, 0xff]],
    ["a count cut off", [0xdc, 0x00]],
    ["a string", [0xa1, 0x61]],
    ["a map", [0x81, 0x01, 0x01]],
    ["a record", [0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01]],
    ["an extension", [0xc7, 0x01, 0x70, 0x00]],
    ["a negative integer", [0xff]],
    ["nothing", []],
  ])("refuses %s", (_what, values) => {
    expect(unpack(new Uint8Array(values))).toBeUndefined();
  });

  test("packBehind() leaves room in front, and keeps little beside what it gives, whatever size it was told", () => {
    for (const told of [0, 100, 50_000, 1_000_000]) {
      const value = [1, new Uint8Array(50_000).fill(7), [2n, false]];
      const packed = packBehind(8, value, told);
      expectSame(unpack(packed.subarray(8)), value);
      expect(packed.buffer.byteLength).toBeLessThanOrEqual((packed.length * 4) / 3);
    }
  });
});

/** All that a reader makes of pieces of a stream: payloads, and the code of what stopped it. */
function read(pieces: readonly Uint8Array[], maxBytes = 1 << 20): { payloads: Uint8Array[]; code: string | undefined } {
  const payloads: Uint8Array[] = [];
  const reader = new FrameReader(maxBytes, (payload) => payloads.push(payload) > 0);
  for (const piece of pieces) {
    const error = reader.push(piece);
    if (error !== undefined) return { payloads, code: error.code };
  }
  return { payloads, code: undefined };
}

describe("frames", () => {
  const frame = frameOf([3, 2n, new Uint8Array([1, 2, 3])]);

  test("a flipped bit is always noticed, before or with the next frame", () => {
    for (let bit = 0; bit < frame.length * 8; bit++) {
      const spoilt = frame.slice();
      spoilt[bit >> 3] = (spoilt[bit >> 3] as number) ^ (1 << (bit & 7));
      // More behind it than any length that a flipped bit can make of this one and the limit lets pass.
      const { payloads, code } = read([spoilt, ...new Array<Uint8Array>(400).fill(frame)], 4096);
      expect([bit, payloads.length, code]).toEqual([bit, 0, "ERR_CORRUPT"]);
    }
  });

  test("come out as they went in, however the stream is cut, in memory of their own", () => {
    const sizes = fc.array(fc.oneof(fc.nat(40), fc.nat(200_000)), { minLength: 1, maxLength: 6 });
    const cuts = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(sizes, cuts, (lengths, steps) => {
        const values = lengths.map((length, at) => new Uint8Array(length).fill(at + 1));
        const stream = Buffer.concat(values.map((value) => frameOf(value)));
        const pieces: Uint8Array[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const step = steps[i % steps.length] as number;
          pieces.push(stream.subarray(at, (at += step)));
        }
        const { payloads, code } = read(pieces);
        expect(code).toBeUndefined();
        expectSame(
          payloads.map((payload) => unpack(payload)),
          values,
        );
        for (const payload of payloads) {
          expect(payload.constructor).toBe(Uint8Array);
          expect(payload.buffer.byteLength).toBe(payload.length);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("come out byte by byte", () => {
    const { payloads, code } = read([...frame, ...frame].map((byte) => new Uint8Array([byte])));
    expect([payloads.length, code]).toEqual([2, undefined]);
  });

  test("a length of nothing, or above the limit, is refused with the head", () => {
    for (const length of [0, 101, 0x7fffffff, 0xffffffff]) {
      const head = new Uint8Array(FRAME_HEAD_BYTES);
      new DataView(head.buffer).setUint32(0, length, true);
      expect(read([head], 100).code).toBe("ERR_CORRUPT");
    }
  });

  test("a length within the limit takes no memory before its bytes come", () => {
    const head = new Uint8Array(FRAME_HEAD_BYTES);
    new DataView(head.buffer).setUint32(0, 1 << 30, true);
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 8 }, () => new FrameReader(1 << 30, () => true));
    for (const reader of readers) expect(reader.push(head)).toBeUndefined();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 << 20);
    for (const reader of readers) reader.push(new Uint8Array(1));
  });

  test("a reader stops when its owner wants no more", () => {
    let taken = 0;
    const reader = new FrameReader(100, () => ++taken < 2);
    reader.push(Buffer.concat([frame, frame, frame]));
    expect(taken).toBe(2);
  });

  test("never throw, whatever bytes come", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 10 }), (pieces) => {
        expect([undefined, "ERR_CORRUPT"]).toContain(read(pieces, 1000).code);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("FrameQueue", () => {
  const joined = (chunks: readonly Chunk[]): Uint8Array => Buffer.concat(chunks.map((chunk) => chunk.bytes));

  test("gives messages back in order, counts them, and keeps to what it was taken", () => {
    const sizes = fc.oneof(fc.nat(50), fc.nat(20_000), fc.nat(120_000));
    const step = fc.oneof(
      sizes.map((add) => ({ add })),
      fc.nat(100_000).map((take) => ({ take })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queue = new FrameQueue();
        const added: Message[] = [];
        const chunks: Chunk[] = [];
        for (const one of steps) {
          if ("add" in one) {
            const next = append(new Uint8Array(one.add).fill(added.length));
            expect(queue.add(next, 1 << 20, Infinity)).toBe("added");
            added.push(next);
          } else chunks.push(...queue.take(one.take));
        }
        const left = queue.frames;
        const rest = queue.take(Infinity);
        expect(rest.reduce((sum, chunk) => sum + chunk.frames, 0)).toBe(left);
        expect([queue.bytes, queue.frames]).toEqual([0, 0]);
        const all = [...chunks, ...rest];
        expectSame(read([joined(all)]).payloads.map(decodeMessage), added);
        expect(all.reduce((sum, chunk) => sum + chunk.frames, 0)).toBe(added.length);
      }),
      { numRuns: 60 },
    );
  });

  test("takes at most a third more memory than it has bytes, and a chunk", () => {
    const shapes = fc.array(fc.tuple(fc.nat(40_000), fc.integer({ min: 1, max: 300 })), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(shapes, (messages) => {
        const queue = new FrameQueue();
        for (const [size, parts] of messages) {
          const entries = Array.from({ length: parts }, (_, at): Entry => {
            return { term: 1, index: at + 1, type: 0, data: new Uint8Array(size / parts) };
          });
          queue.add(newMessage(MessageType.MsgApp, { entries }), 1 << 20, Infinity);
        }
        const { bytes: waiting } = queue;
        const memory = new Set(queue.take(Infinity).map((chunk) => chunk.bytes.buffer));
        const taken = [...memory].reduce((sum, buffer) => sum + buffer.byteLength, 0);
        expect(taken).toBeLessThanOrEqual((waiting * 4) / 3 + 65_536);
      }),
      { numRuns: 60 },
    );
  });

  test("adds nothing that is too large, or does not fit", () => {
    const queue = new FrameQueue();
    const small = append(new Uint8Array(100));
    const size = encodeMessage(small).length;
    expect(queue.add(small, size - 1, Infinity)).toBe("tooLarge");
    expect(queue.add(small, 99, Infinity)).toBe("tooLarge");
    expect(queue.add(small, size, size + FRAME_HEAD_BYTES - 1)).toBe("full");
    expect(queue.add(small, size, 100)).toBe("full");
    expect(queue.frames).toBe(0);
    expect(queue.add(small, size, size + FRAME_HEAD_BYTES)).toBe("added");
    expect([queue.frames, queue.bytes, queue.clear(), queue.bytes]).toEqual([1, size + FRAME_HEAD_BYTES, 1, 0]);
    expect(queue.take(Infinity)).toEqual([]);
  });
});
