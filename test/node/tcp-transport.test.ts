// Transports that talk to each other over localhost, and transports that are talked to by hand: order, reconnecting, bounds,
// everything that is refused or dropped and counted, snapshots with each way to fail, and closing. Needs dist/.

import { execFile } from "node:child_process";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import fc from "fast-check";
import { pack } from "msgpackr";
import { describe, expect, test } from "vitest";
import { crc32 } from "../../src/base/crc32.js";
import { StableLogError } from "../../src/base/errors.js";
import { decodeMessage, encodeMessage } from "../../src/node/message-codec.js";
import { answerFrame, frameOf, helloFrame, isPulse, readAnswer, readOutcome } from "../../src/node/tcp-frames.js";
import { parseAddress, TcpTransport, type TcpTransportOptions } from "../../src/node/tcp-transport.js";
import { type Message, MessageType, newMessage } from "../../src/raftpb/message.js";
import { childEnv } from "../child-env.js";
import { deferred } from "../deferred.js";
import { until } from "./group.js";
import {
  append,
  CLUSTER,
  connected,
  framed,
  group,
  indexOf,
  make,
  messageFrame,
  type Node,
  onlyPeer,
  pair,
  Raw,
  rawServer,
  snapshotMessage,
} from "./tcp-helpers.js";

const run = promisify(execFile);

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, at) => from + at);

/** A started node 1 whose peer 2 is nowhere: the test plays it. */
async function lone(options: Partial<TcpTransportOptions> = {}) {
  // Port 9 is "discard", where nobody listens.
  const node = make(1n, { peers: [[2n, "127.0.0.1:9"]], reconnectMs: 60_000, maxReconnectMs: 60_000, ...options });
  await node.transport.start(node.recorder);
  return node;
}

describe("messages", () => {
  test("arrive in order, both ways, as they were sent", async () => {
    const [a, b] = await pair();
    for (const at of range(0, 100)) {
      a.transport.send(range(at * 50 + 1, at * 50 + 51).map((index) => append(1n, 2n, index, index % 700)));
      b.transport.send([append(2n, 1n, at + 1)]);
      if (at % 10 === 0) await new Promise(setImmediate);
    }
    await until(() => b.recorder.messages.length === 5000 && a.recorder.messages.length === 100);
    expect(b.recorder.messages.map(indexOf)).toEqual(range(1, 5001));
    expect(a.recorder.messages.map(indexOf)).toEqual(range(1, 101));
    expect(b.recorder.messages[699]).toEqual(append(1n, 2n, 700, 0));
    expect(b.recorder.messages[698]).toEqual(append(1n, 2n, 699, 699));
    expect(a.transport.stats()).toMatchObject({ sent: 5000, received: 100, malformed: 0 });
    expect(b.transport.stats().bytesReceived).toBeGreaterThan(a.transport.stats().bytesReceived);
  });

  test("of one call reach each recipient in order", async () => {
    const nodes = await group(3);
    const [a, b, c] = nodes;
    a?.transport.send(range(1, 301).map((index) => append(1n, index % 3 === 0 ? 3n : 2n, index)));
    c?.transport.send([append(3n, 2n, 1000)]);
    await until(() => b?.recorder.messages.length === 201 && c?.recorder.messages.length === 100);
    expect(c?.recorder.messages.map(indexOf)).toEqual(range(1, 301).filter((index) => index % 3 === 0));
    const fromA = b?.recorder.messages.filter(({ from }) => from === 1n) ?? [];
    expect(fromA.map(indexOf)).toEqual(range(1, 301).filter((index) => index % 3 !== 0));
  });

  test("of many MiB go through a socket that fills up, and keep their order", async () => {
    const [a, b] = await pair({ maxFrameBytes: 4 << 20, maxQueueBytes: 64 << 20 });
    a.transport.send(range(1, 41).map((index) => append(1n, 2n, index, index % 2 === 0 ? 1 << 20 : 20)));
    expect(onlyPeer(a).queuedBytes).toBeGreaterThan(20 << 20);
    await until(() => b.recorder.messages.length === 40);
    expect(b.recorder.messages.map(indexOf)).toEqual(range(1, 41));
    expect(b.recorder.messages[39]?.entries[0]?.data.length).toBe(1 << 20);
    await until(() => onlyPeer(a).queuedBytes === 0);
  });

  test("have data of their own: no Buffers, no views of what was read", async () => {
    const [a, b] = await pair();
    a.transport.send(range(1, 101).map((index) => append(1n, 2n, index, 100)));
    await until(() => b.recorder.messages.length === 100);
    for (const { entries } of b.recorder.messages) {
      expect(entries[0]?.data.constructor).toBe(Uint8Array);
      expect(entries[0]?.data.buffer.byteLength).toBeLessThan(200);
    }
  });

  test("that cannot be sent are dropped, counted and told", async () => {
    const { transport, recorder } = await lone({ maxFrameBytes: 1024 });
    transport.send([
      append(1n, 7n, 1),
      append(1n, 2n, 1, 1025),
      append(1n, 2n, 1, 1020),
      newMessage(MessageType.MsgHup, { from: 1n, to: 2n }),
      newMessage(MessageType.MsgSnap, { from: 1n, to: 2n }),
      newMessage(MessageType.MsgHeartbeat, { from: 1n, to: 2n, context: 1n << 70n } as unknown as Message),
    ]);
    expect(transport.stats().dropped).toMatchObject({ unknown: 1, local: 1, unsendable: 4 });
    expect(recorder.unreachable).toEqual([]);
    await until(() => recorder.unreachable.length >= 2);
    expect(recorder.unreachable.slice().sort()).toEqual([2n, 7n]);
  });

  test("sent before start() or after close() are dropped", async () => {
    const { transport, recorder } = make(1n, { peers: [[2n, "127.0.0.1:9"]] });
    transport.send([append(1n, 2n, 1)]);
    await transport.start(recorder);
    await transport.close();
    transport.send([append(1n, 2n, 1)]);
    expect(transport.stats().dropped.unknown).toBe(2);
  });

  test("sent by a receiver while it is called go out", async () => {
    const [a, b] = await pair();
    b.recorder.step = (message) => {
      b.recorder.messages.push(message);
      b.transport.send([append(2n, 1n, indexOf(message))]);
    };
    a.transport.send(range(1, 11).map((index) => append(1n, 2n, index)));
    await until(() => a.recorder.messages.length === 10);
    expect(a.recorder.messages.map(indexOf)).toEqual(range(1, 11));
  });
});

describe("peers", () => {
  test("are dialled again after the other side has started anew on its port", async () => {
    const [a, b] = await pair();
    const { port } = b.transport;
    await b.transport.close();
    await until(() => onlyPeer(a).state !== "connected" && onlyPeer(a).failedAttempts >= 2);
    expect(onlyPeer(a).failure).toBe("ECONNREFUSED");
    expect(a.recorder.unreachable).toContain(2n);
    const again = make(2n, { listen: { port }, peers: [[1n, a.transport.address]] });
    await again.transport.start(again.recorder);
    await connected(a.transport);
    expect(onlyPeer(a)).toMatchObject({ failure: undefined, failedAttempts: 0 });
    a.transport.send([append(1n, 2n, 5)]);
    again.transport.send([append(2n, 1n, 6)]);
    await until(() => again.recorder.messages.length === 1 && a.recorder.messages.length === 1);
  });

  test("are called back at once when they call, whatever the pause", async () => {
    const a = make(1n, { reconnectMs: 1e8, maxReconnectMs: 1e8 });
    const { server, port } = await rawServer();
    await new Promise((resolve) => server.close(resolve));
    a.transport.setPeer(2n, `127.0.0.1:${port}`);
    await a.transport.start(a.recorder);
    await until(() => onlyPeer(a).state === "waiting");
    const b = make(2n, { listen: { port }, peers: [[1n, a.transport.address]] });
    await b.transport.start(b.recorder);
    await connected(a.transport);
  });

  test("can move, and are told apart from those who were removed", async () => {
    const [a, b] = await pair();
    const moved = make(2n, { peers: [[1n, a.transport.address]] });
    await b.transport.close();
    await moved.transport.start(moved.recorder);
    a.transport.setPeer(2n, moved.transport.address);
    await connected(a.transport);
    a.transport.send([append(1n, 2n, 1)]);
    await until(() => moved.recorder.messages.length === 1);

    a.transport.removePeer(2n);
    a.transport.send([append(1n, 2n, 2)]);
    expect(a.transport.stats().peers).toEqual([]);
    await until(() => onlyPeer(moved).failure === "refused: removed");
    expect(a.transport.stats().refused.removed).toBeGreaterThan(0);
    moved.transport.send([append(2n, 1n, 3)]);
    await until(() => moved.transport.stats().dropped.unreachable === 1);

    a.transport.setPeer(2n, moved.transport.address);
    await connected(a.transport);
    moved.transport.send([append(2n, 1n, 4)]);
    await until(() => a.recorder.messages.length === 1);
    expect([a.recorder.messages.map(indexOf), moved.recorder.messages.map(indexOf)]).toEqual([[4], [1]]);
  });

  test("may be a node itself, which is passed over", async () => {
    const node = make(1n, { peers: [[1n, "127.0.0.1:9"]] });
    node.transport.removePeer(1n);
    expect(node.transport.stats().peers).toEqual([]);
  });

  test("that do not answer have a bounded queue, which is dropped with the attempt", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { maxFrameBytes: 1024, maxQueueBytes: 4096, peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => accepted.length === 1);
    a.transport.send(range(1, 101).map((index) => append(1n, 2n, index, 500)));
    const frame = messageFrame(append(1n, 2n, 1, 500)).length;
    const fit = Math.floor(4096 / frame);
    expect(onlyPeer(a).queuedBytes).toBe(fit * frame);
    expect(a.transport.stats().dropped.full).toBe(100 - fit);
    await until(() => a.recorder.unreachable.length === 1);
    accepted[0]?.socket.destroy();
    await until(() => onlyPeer(a).queuedBytes === 0);
    expect(a.transport.stats().dropped.unreachable).toBe(fit);
    expect(a.transport.stats().sent).toBe(0);
    await until(() => a.recorder.unreachable.length === 2);
  });

  test("that read slowly hold up what is for them, within the bound, and get it in order", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { maxFrameBytes: 1 << 20, maxQueueBytes: 4 << 20, peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => (accepted[0]?.payloads.length ?? 0) === 1);
    const raw = accepted[0] as Raw;
    await raw.write(answerFrame(10_000));
    await until(() => onlyPeer(a).state === "connected");
    raw.socket.pause();
    let index = 1;
    // Until the system's buffers are full, and ours.
    while (a.transport.stats().dropped.full === 0) {
      a.transport.send([append(1n, 2n, index++, 100_000)]);
      expect(onlyPeer(a).queuedBytes).toBeLessThanOrEqual(4 << 20);
      await new Promise(setImmediate);
    }
    raw.payloads.length = 0;
    raw.socket.resume();
    await until(() => onlyPeer(a).queuedBytes === 0);
    a.transport.send([append(1n, 2n, index, 100)]);
    const taken = raw.payloads;
    await until(() => a.transport.stats().sent === index - 1 && taken.filter((p) => !isPulse(p)).length === index - 1);
  });

  test("that are cut off get on the next connection what the last one's socket had not taken", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { maxQueueBytes: 80 << 20, peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => (accepted[0]?.payloads.length ?? 0) === 1);
    await accepted[0]?.write(answerFrame(10_000));
    await until(() => onlyPeer(a).state === "connected");
    accepted[0]?.socket.pause();
    // More than the system's buffers hold.
    a.transport.send(range(1, 71).map((index) => append(1n, 2n, index, 1_000_000)));
    await until(() => a.transport.stats().sent > 0);
    accepted[0]?.socket.destroy();
    await until(() => (accepted[1]?.payloads.length ?? 0) === 1);
    const { sent } = a.transport.stats();
    expect(sent).toBeLessThan(70);
    const payloads = accepted[1]?.payloads ?? [];
    await accepted[1]?.write(answerFrame(10_000));
    await until(() => a.transport.stats().sent === 70 && onlyPeer(a).queuedBytes === 0);
    const arrived = (): number[] => payloads.filter((p) => p.length > 1000).map((p) => indexOf(decodeMessage(p)));
    await until(() => arrived().length === 70 - sent);
    expect(arrived()).toEqual(range(sent + 1, 71));
  });

  test("whose answer is none are dialled again, and counted", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => accepted.length === 1);
    await accepted[0]?.write(frameOf([1, 2, 3]));
    await until(() => accepted.length === 2);
    await accepted[1]?.write(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await until(() => accepted.length === 3);
    expect(a.transport.stats().malformed).toBe(2);
    // Agreed, but then messages on the wrong connection.
    await accepted[2]?.write(Buffer.concat([answerFrame(10_000), messageFrame(append(2n, 1n, 1))]));
    await until(() => accepted.length === 4);
    expect(a.transport.stats().malformed).toBe(3);
    expect(a.recorder.messages).toEqual([]);
  });

  test("that never answer are given up", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { handshakeMs: 20, peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => accepted.length >= 3);
    expect(a.transport.stats().slow).toBeGreaterThanOrEqual(2);
    expect(onlyPeer(a).failure).toContain("handshake");
  });

  test("stay connected without a message, whoever is the more impatient", async () => {
    const a = make(1n, { idleMs: 100 });
    const b = make(2n, { idleMs: 100_000, peers: [[1n, "127.0.0.1:9"]] });
    await a.transport.start(a.recorder);
    await b.transport.start(b.recorder);
    a.transport.setPeer(2n, b.transport.address);
    b.transport.setPeer(1n, a.transport.address);
    await connected(a.transport);
    const { bytesReceived } = a.transport.stats();
    // Forty pulses on two connections: five times the silence that the one bears.
    await until(() => a.transport.stats().bytesReceived > bytesReceived + 40 * 9);
    expect(a.transport.stats().silent + b.transport.stats().silent).toBe(0);
    expect([a.recorder.unreachable, b.recorder.unreachable]).toEqual([[], []]);
  });

  test("that fall silent are cut", async () => {
    const a = await lone({ idleMs: 100 });
    const raw = await Raw.greet(a.transport.port);
    await raw.gone;
    expect(a.transport.stats().silent).toBe(1);
  });

  test("that connect again take the place of their older connection", async () => {
    const a = await lone();
    const first = await Raw.greet(a.transport.port);
    await first.write(messageFrame(append(2n, 1n, 1)));
    await until(() => a.recorder.messages.length === 1);
    const second = await Raw.greet(a.transport.port);
    await first.gone;
    await second.write(messageFrame(append(2n, 1n, 2)));
    await until(() => a.recorder.messages.length === 2);
    expect(onlyPeer(a).heard).toBe(true);
  });
});

describe("strangers", () => {
  test.each([
    ["another cluster", { clusterId: CLUSTER + 1n }, "cluster"],
    ["a call for another node", { to: 3n }, "recipient"],
    ["a node that is no peer", { from: 9n }, "unknown"],
    ["a node with our own ID", { from: 1n }, "unknown"],
    ["a node that was removed", { from: 4n }, "removed"],
    ["another cluster's snapshot", { clusterId: 0n, purpose: "snapshot" }, "cluster"],
  ] as const)("%s is refused, counted and hung up on", async (_what, hello, reason) => {
    const a = await lone({
      peers: [
        [2n, "127.0.0.1:9"],
        [4n, "127.0.0.1:9"],
      ],
    });
    a.transport.removePeer(4n);
    const raw = await Raw.greet(a.transport.port, hello);
    // The refused may say what they like.
    await raw.write(messageFrame(append(2n, 1n, 1)));
    await raw.gone;
    expect(raw.payloads.map(readAnswer)).toEqual([reason]);
    const { refused } = a.transport.stats();
    expect(refused[reason]).toBe(1);
    expect(Object.values(refused).reduce((sum, count) => sum + count)).toBe(1);
    expect(a.recorder.messages).toEqual([]);
  });

  test("members whom nobody has named here are peers at the address that they say, until they are removed", async () => {
    const refusals: string[] = [];
    const a = make(1n);
    const b = make(2n, { onRefused: (id, reason) => refusals.push(`${id} ${reason}`) });
    await a.transport.start(a.recorder);
    await b.transport.start(b.recorder);
    // Only b knows a: a leader that is to bring a up to date.
    b.transport.setPeer(1n, a.transport.address);
    b.transport.send([append(2n, 1n, 1)]);
    await until(() => a.recorder.messages.length === 1);
    a.transport.send([append(1n, 2n, 2)]);
    await until(() => b.recorder.messages.length === 1);
    expect(onlyPeer(a)).toMatchObject({ id: 2n, address: b.transport.address });
    a.transport.removePeer(2n);
    await until(() => onlyPeer(b).failure === "refused: removed");
    expect(refusals).toContain("1 removed");
    expect(a.transport.stats().peers).toEqual([]);
  });

  test("members whom nobody has named are refused where that is asked for, and bounded in number where not", async () => {
    const strict = await lone({ unknownPeers: "refuse" });
    const raw = await Raw.greet(strict.transport.port, { from: 9n, address: "127.0.0.1:9" });
    await raw.gone;
    expect(raw.payloads.map(readAnswer)).toEqual(["unknown"]);
    const open = await lone();
    for (const i of range(0, 64)) {
      const each = await Raw.greet(open.transport.port, { from: BigInt(100 + i), address: "127.0.0.1:9" });
      await each.heard(1);
    }
    const late = await Raw.greet(open.transport.port, { from: 99n, address: "127.0.0.1:9" });
    await late.gone;
    expect(open.transport.stats()).toMatchObject({ refused: { unknown: 1 } });
  });

  test("of another version are refused, whatever else they say", async () => {
    const a = await lone();
    const raw = await Raw.connect(a.transport.port);
    await raw.write(frameOf([0x53744c67, 2, new Uint8Array(7)]));
    await raw.gone;
    expect(raw.payloads.map(readAnswer)).toEqual(["version"]);
    expect(a.transport.stats().refused.version).toBe(1);
  });

  test("of another cluster dial in vain, and see why", async () => {
    const a = make(1n);
    const b = make(2n, { clusterId: CLUSTER + 1n });
    await a.transport.start(a.recorder);
    await b.transport.start(b.recorder);
    a.transport.setPeer(2n, b.transport.address);
    b.transport.setPeer(1n, a.transport.address);
    a.transport.send([append(1n, 2n, 1)]);
    await until(() => [a, b].every((node) => onlyPeer(node).failure === "refused: cluster"));
    await until(() => a.transport.stats().dropped.unreachable === 1);
    expect(b.recorder.messages).toEqual([]);
    expect(b.transport.stats().refused.cluster).toBeGreaterThan(0);
  });

  test("who were refused and do not hang up are bounded in number as well", async () => {
    const a = await lone({ handshakeMs: 60_000 });
    const hello = helloFrame({ clusterId: 0n, from: 2n, to: 1n, purpose: "messages", idleMs: 10_000, address: "" });
    for (const _ of range(0, 64)) {
      const raw = await Raw.connect(a.transport.port, true);
      await raw.write(hello);
      await raw.heard(1);
    }
    await (await Raw.connect(a.transport.port)).gone;
    expect(a.transport.stats()).toMatchObject({ crowded: 1, refused: { cluster: 64 } });
  });

  test("who say nothing are hung up on, and bounded in number", async () => {
    const a = await lone({ handshakeMs: 60_000 });
    const silent = await Promise.all(range(0, 70).map(() => Raw.connect(a.transport.port)));
    await until(() => a.transport.stats().crowded === 6 && silent.filter((raw) => raw.isGone).length === 6);
    for (const raw of silent) raw.socket.destroy();
    // There is room again.
    let raw: Raw | undefined;
    while (raw === undefined) {
      const next = await Raw.connect(a.transport.port);
      next.socket.write(
        helloFrame({ clusterId: CLUSTER, from: 2n, to: 1n, purpose: "messages", idleMs: 10_000, address: "" }),
      );
      await until(() => next.isGone || next.payloads.length > 0);
      if (next.payloads.length > 0) raw = next;
    }
    await raw.write(messageFrame(append(2n, 1n, 1)));
    await until(() => a.recorder.messages.length === 1);

    const impatient = await lone({ handshakeMs: 30 });
    await (await Raw.connect(impatient.transport.port)).gone;
    expect(impatient.transport.stats().slow).toBe(1);
  });
});

describe("hostile bytes", () => {
  test.each<[string, Uint8Array]>([
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["zeros", new Uint8Array(100)],
    ["a huge length", new Uint8Array([0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0])],
    ["a frame larger than a handshake", framed(new Uint8Array(1000))],
    ["a frame that is no handshake", frameOf([1, 2])],
    ["a message for a handshake", messageFrame(append(2n, 1n, 1))],
    ["a handshake with a flipped bit", flipped(framed(pack([0x53744c67, 1, CLUSTER, 2n, 1n, 0, 10_000])), 100)],
    ["a handshake for no purpose", framed(pack([0x53744c67, 1, CLUSTER, 2n, 1n, 2, 10_000]))],
    ["a handshake with a pulse of no time", framed(pack([0x53744c67, 1, CLUSTER, 2n, 1n, 0, 0]))],
    ["a handshake with a negative ID", framed(pack([0x53744c67, 1, CLUSTER, -2n, 1n, 0, 10_000]))],
    ["a handshake with a field more", framed(pack([0x53744c67, 1, CLUSTER, 2n, 1n, 0, 10_000, 1]))],
  ])("%s: cut and counted", async (_what, bytes) => {
    const a = await lone();
    const raw = await Raw.connect(a.transport.port);
    await raw.write(bytes);
    await raw.gone;
    expect(a.transport.stats()).toMatchObject({ malformed: 1, received: 0 });
    expect(raw.payloads).toEqual([]);
  });

  test.each<[string, Uint8Array]>([
    ["text", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["a length above the limit", new Uint8Array([1, 4, 0, 0, 0, 0, 0, 0])],
    ["a message with a flipped bit", flipped(messageFrame(append(2n, 1n, 1)), 200)],
    ["a frame that is no message", frameOf([3, 2n, 1n])],
    [
      "a second handshake",
      helloFrame({ clusterId: CLUSTER, from: 2n, to: 1n, purpose: "messages", idleMs: 1000, address: "" }),
    ],
  ])("%s behind a handshake: cut and counted, and what came before is kept", async (_what, bytes) => {
    const a = await lone({ maxFrameBytes: 1024 });
    const raw = await Raw.greet(a.transport.port);
    await raw.write(Buffer.concat([messageFrame(append(2n, 1n, 1)), bytes, messageFrame(append(2n, 1n, 2))]));
    await raw.gone;
    expect(a.transport.stats()).toMatchObject({ malformed: 1, received: 1 });
    expect(a.recorder.messages.map(indexOf)).toEqual([1]);
  });

  test("any bytes, before and behind the handshake, harm nobody", async () => {
    const a = await lone();
    const hello = helloFrame({
      clusterId: CLUSTER,
      from: 2n,
      to: 1n,
      purpose: "messages",
      idleMs: 10_000,
      address: "",
    });
    const snapshotHello = helloFrame({
      clusterId: CLUSTER,
      from: 2n,
      to: 1n,
      purpose: "snapshot",
      idleMs: 10_000,
      address: "",
    });
    const good = Buffer.concat([hello, messageFrame(append(2n, 1n, 1))]);
    const stream = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([hello, bytes])),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([snapshotHello, bytes])),
      fc.uint8Array({ maxLength: 300, minLength: 1 }).map((bytes) => Buffer.concat([hello, framed(bytes)])),
      fc.uint8Array({ maxLength: 300, minLength: 1 }).map((bytes) => Buffer.concat([snapshotHello, framed(bytes)])),
      fc.nat(good.length * 8 - 1).map((bit) => flipped(good, bit)),
      fc.nat(good.length).map((length) => good.subarray(0, length)),
    );
    await fc.assert(
      fc.asyncProperty(stream, async (bytes) => {
        const raw = await Raw.connect(a.transport.port);
        raw.socket.end(bytes);
        await raw.gone;
      }),
      { numRuns: 300 },
    );
    expect(a.transport.stats().malformed).toBeGreaterThan(20);
    for (const message of a.recorder.messages) expect(message).toEqual(append(2n, 1n, 1));
    const before = a.recorder.messages.length;
    const raw = await Raw.greet(a.transport.port);
    await raw.write(messageFrame(append(2n, 1n, 9)));
    await until(() => a.recorder.messages.length === before + 1);
    expect(a.recorder.messages.map(indexOf).at(-1)).toBe(9);
  });

  test("a handshake and a message that come byte by byte are taken", async () => {
    const a = await lone();
    const raw = await Raw.connect(a.transport.port);
    const hello = helloFrame({
      clusterId: CLUSTER,
      from: 2n,
      to: 1n,
      purpose: "messages",
      idleMs: 10_000,
      address: "",
    });
    for (const byte of hello) await raw.write(new Uint8Array([byte]));
    await raw.heard(1);
    for (const byte of messageFrame(append(2n, 1n, 1))) await raw.write(new Uint8Array([byte]));
    await until(() => a.recorder.messages.length === 1);
    expect(a.recorder.messages).toEqual([append(2n, 1n, 1)]);
  });

  test("messages of others, for others, or of local kinds are dropped and counted one by one", async () => {
    const a = await lone({
      peers: [
        [2n, "127.0.0.1:9"],
        [3n, "127.0.0.1:9"],
      ],
    });
    const raw = await Raw.greet(a.transport.port);
    const misdirected = [append(3n, 1n, 1), append(2n, 3n, 2), append(0n, 1n, 3), append(2n, 0n, 4)];
    const handedOn = [MessageType.MsgProp, MessageType.MsgReadIndex, MessageType.MsgTransferLeader];
    const ofMembers = handedOn.flatMap((type) => [1n, 2n, 3n].map((from) => newMessage(type, { from, to: 1n })));
    const ofStrangers = handedOn.map((type) => newMessage(type, { from: 9n, to: 1n }));
    const local = [MessageType.MsgHup, MessageType.MsgUnreachable, MessageType.MsgStorageAppend].map((type) =>
      newMessage(type, { from: 2n, to: 1n }),
    );
    const last = append(2n, 1n, 5);
    await raw.write(Buffer.concat([...misdirected, ...ofMembers, ...ofStrangers, ...local, last].map(messageFrame)));
    await until(() => a.recorder.messages.some((message) => message.index === 4));
    expect(a.recorder.messages).toEqual([...ofMembers, last]);
    expect(a.transport.stats().dropped).toMatchObject({ misdirected: 7, local: 3 });
    expect(raw.isGone).toBe(false);
  });
});

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
  return copy;
}

/** A snapshot's data: `pieces` of `size` bytes, all in one buffer that is filled anew each time. Counts, and tells its end. */
class Source implements AsyncIterable<Uint8Array> {
  readonly pieces: number;
  readonly size: number;
  given = 0;
  letGo = false;
  crc = 0;
  /** Called before each piece. */
  before: (at: number) => unknown = () => {};

  constructor(pieces: number, size: number) {
    this.pieces = pieces;
    this.size = size;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    const buffer = new Uint8Array(this.size);
    try {
      for (let at = 0; at < this.pieces; at++) {
        await this.before(at);
        for (let i = 0; i < buffer.length; i += 97) buffer[i] = (at * 31 + i) & 255;
        this.crc = crc32(buffer, this.crc);
        this.given += buffer.length;
        yield buffer;
      }
    } finally {
      this.letGo = true;
    }
  }
}

/** Reads a stream to its end, and says how long it was and its checksum. */
async function digest(data: AsyncIterable<Uint8Array>): Promise<[length: number, crc: number]> {
  let length = 0;
  let crc = 0;
  for await (const piece of data) {
    expect(piece.constructor).toBe(Uint8Array);
    length += piece.length;
    crc = crc32(piece, crc);
  }
  return [length, crc];
}

describe("snapshots", () => {
  test("of many MiB come beside messages, and a slow reader holds up the source alone", async () => {
    const [a, b] = await pair({ snapshotPieceBytes: 100_000 });
    const reading = deferred();
    const verdict = deferred();
    let digested: [number, number] | undefined;
    let first: Message | undefined;
    b.recorder.take = async (message, metadata, data) => {
      first = message;
      expect(metadata).toBe(message.snapshot?.metadata);
      await reading.promise;
      digested = await digest(data);
      await verdict.promise;
    };
    const source = new Source(256, 250_000);
    const total = 256 * 250_000;
    a.transport.sendSnapshot(snapshotMessage(1n, 2n, new Uint8Array(5)), source);
    b.recorder.step = (message) => b.transport.send([append(2n, 1n, indexOf(message))]);
    // Messages go to and fro until the source has given nothing for a hundred times: held up, or at its end.
    let still = 0;
    for (let index = 1, given = -1; still < 100; index++) {
      a.transport.send([append(1n, 2n, index)]);
      await until(() => a.recorder.messages.length === index);
      still = source.given === given && first !== undefined ? still + 1 : 0;
      ({ given } = source);
    }
    expect(source.given).toBeLessThan(total);
    expect(first).toEqual(snapshotMessage(1n, 2n));
    reading.resolve();
    await until(() => digested !== undefined);
    expect(digested).toEqual([total, source.crc]);
    // Everything was read, and nothing has been promised yet.
    const { length } = a.recorder.messages;
    a.transport.send([append(1n, 2n, length + 1)]);
    await until(() => a.recorder.messages.length === length + 1);
    expect(a.recorder.outcomes).toEqual([]);
    verdict.resolve();
    await until(() => a.recorder.outcomes.length === 1);
    expect(a.recorder.outcomes).toEqual([[2n, true]]);
    expect(source.letGo).toBe(true);
    expect(a.transport.stats().snapshots).toMatchObject({ sent: 1, sendsFailed: 0 });
    expect(b.transport.stats().snapshots).toMatchObject({ received: 1, receivesFailed: 0 });
  });

  test("of no bytes, of empty pieces and of single bytes arrive", async () => {
    const [a, b] = await pair({ snapshotPieceBytes: 3 });
    const got: string[] = [];
    b.recorder.take = async (_message, _metadata, data) => {
      const pieces: Uint8Array[] = [];
      for await (const piece of data) pieces.push(piece);
      got.push(Buffer.concat(pieces).toString());
    };
    for (const [at, pieces] of [[], ["", ""], ["a", "", "b"], ["abcdefgh"]].entries()) {
      a.transport.sendSnapshot(snapshotMessage(1n, 2n), Readable.from(pieces.map((text) => Buffer.from(text))));
      await until(() => a.recorder.outcomes.length === at + 1);
    }
    expect(got).toEqual(["", "", "ab", "abcdefgh"]);
    expect(a.recorder.outcomes.every(([, arrived]) => arrived)).toBe(true);
  });

  test("that are sent as a message come as a stream all the same", async () => {
    const [a, b] = await pair();
    const got = deferred<[number, number]>();
    b.recorder.take = async (_message, _metadata, data) => got.resolve(await digest(data));
    const data = new Uint8Array(3_000_000).fill(9);
    a.transport.send([append(1n, 2n, 1), snapshotMessage(1n, 2n, data)]);
    expect(await got.promise).toEqual([data.length, crc32(data)]);
    await until(() => a.recorder.outcomes.length === 1);
    expect(a.recorder.outcomes).toEqual([[2n, true]]);
  });

  test("whose source throws end in an error for the reader", async () => {
    const [a, b] = await pair();
    const got = deferred<unknown>();
    b.recorder.take = async (_message, _metadata, data) => {
      await digest(data).catch((error: unknown) => {
        got.resolve(error);
        throw error;
      });
    };
    const source = new Source(10, 1000);
    source.before = (at) => {
      if (at === 5) throw new Error("the disk is gone");
    };
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), source);
    expect(await got.promise).toMatchObject({ code: "ERR_IO" });
    await until(() => a.recorder.outcomes.length === 1);
    expect(a.recorder.outcomes).toEqual([[2n, false]]);
    await until(() => b.transport.stats().snapshots.receivesFailed === 1);
    // One that gives no bytes, and one that cannot even be begun.
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), Readable.from(["text"]));
    await until(() => a.recorder.outcomes.length === 2);
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), {
      [Symbol.asyncIterator](): never {
        throw new Error("no");
      },
    });
    await until(() => a.recorder.outcomes.length === 3);
    expect(a.recorder.outcomes.some(([, arrived]) => arrived)).toBe(false);
  });

  test("that the receiver rejects, or throws at, are reported and the source is let go of", async () => {
    const [a, b] = await pair();
    const refusals: ((data: AsyncIterable<Uint8Array>) => Promise<void>)[] = [
      () => Promise.reject(new Error("not wanted")),
      () => {
        throw new Error("not wanted either");
      },
      async (data) => {
        for await (const _piece of data) throw new Error("not after the first piece");
      },
    ];
    for (const [at, refuse] of refusals.entries()) {
      b.recorder.take = (_message, _metadata, data) => refuse(data);
      const source = new Source(Infinity, 100_000);
      a.transport.sendSnapshot(snapshotMessage(1n, 2n), source);
      await until(() => a.recorder.outcomes.length === at + 1 && source.letGo);
    }
    expect(a.recorder.outcomes).toEqual([
      [2n, false],
      [2n, false],
      [2n, false],
    ]);
    expect(b.transport.stats().snapshots).toMatchObject({ received: 0, receivesFailed: 3 });
  });

  test("that are taken without being read to the end have arrived", async () => {
    const [a, b] = await pair();
    b.recorder.take = async (_message, _metadata, data) => {
      for await (const _piece of data) break;
    };
    const source = new Source(Infinity, 100_000);
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), source);
    await until(() => a.recorder.outcomes.length === 1 && source.letGo);
    expect(a.recorder.outcomes).toEqual([[2n, true]]);
  });

  test("to nobody fail, and their source is let go of though it was never read", async () => {
    const a = await lone();
    const streams = [Readable.from([Buffer.from("a")]), Readable.from([Buffer.from("b")])];
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), streams[0] as Readable);
    a.transport.sendSnapshot(snapshotMessage(1n, 7n), streams[1] as Readable);
    expect(a.recorder.outcomes).toEqual([]);
    await until(() => a.recorder.outcomes.length === 2 && streams.every((stream) => stream.destroyed));
    expect(a.recorder.outcomes).toEqual([
      [7n, false],
      [2n, false],
    ]);
    expect(a.transport.stats()).toMatchObject({ dropped: { unknown: 1 }, snapshots: { sendsFailed: 2 } });
  });

  test("are sent to a node one at a time", async () => {
    const [a, b] = await pair();
    const go = deferred();
    b.recorder.take = async (_message, _metadata, data) => {
      await go.promise;
      await digest(data);
    };
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), new Source(3, 1000));
    const second = new Source(3, 1000);
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), second);
    await until(() => a.recorder.outcomes.length === 1 && second.letGo);
    go.resolve();
    await until(() => a.recorder.outcomes.length === 2);
    expect(a.recorder.outcomes).toEqual([
      [2n, false],
      [2n, true],
    ]);
  });

  test("are refused by a foreign cluster", async () => {
    const { port, accepted } = await rawServer();
    const a = make(1n, { peers: [[2n, `127.0.0.1:${port}`]] });
    await a.transport.start(a.recorder);
    await until(() => accepted.length === 1);
    const source = new Source(3, 1000);
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), source);
    await until(() => (accepted[1]?.payloads.length ?? 0) === 1);
    await accepted[1]?.write(answerFrame("cluster"));
    await until(() => a.recorder.outcomes.length === 1 && source.letGo);
    expect(a.recorder.outcomes).toEqual([[2n, false]]);
  });

  test.each<[string, (a: Node, b: Node) => unknown, string]>([
    ["whose sender is closed", (a) => a.transport.close(), "ERR_IO"],
    ["whose receiver is closed", (_a, b) => b.transport.close(), "ERR_CLOSED"],
    ["of a peer that is removed", (_a, b) => b.transport.removePeer(1n), "ERR_IO"],
  ])("%s midway fail on both sides", async (_what, end, code) => {
    const [a, b] = await pair();
    const got = deferred<unknown>();
    const begun = deferred();
    b.recorder.take = async (_message, _metadata, data) => {
      begun.resolve();
      await digest(data).catch((error: unknown) => got.resolve(error));
    };
    const source = new Source(Infinity, 1000);
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), source);
    await begun.promise;
    await end(a, b);
    expect(await got.promise).toMatchObject({ code });
    await until(() => a.recorder.outcomes.length === 1 && source.letGo);
    expect(a.recorder.outcomes).toEqual([[2n, false]]);
  });

  test.each<[string, Uint8Array[], string]>([
    ["a checksum that differs", [frameOf(new Uint8Array(9)), frameOf([9, 1])], "ERR_CORRUPT"],
    ["a length that differs", [frameOf(new Uint8Array(9)), frameOf([8, crc32(new Uint8Array(9))])], "ERR_CORRUPT"],
    ["no end", [frameOf(new Uint8Array(9))], "ERR_IO"],
    ["half a piece", [frameOf(new Uint8Array(9)), frameOf(new Uint8Array(9)).subarray(0, 12)], "ERR_IO"],
    ["neither pieces nor an end", [frameOf(new Uint8Array(9)), frameOf([true])], "ERR_CORRUPT"],
    ["a flipped bit", [flipped(frameOf(new Uint8Array(9)), 130)], "ERR_CORRUPT"],
    ["a piece above the limit", [frameOf(new Uint8Array(1 << 21))], "ERR_CORRUPT"],
  ])("with %s do not end well for the reader", async (_what, frames, code) => {
    const a = await lone();
    const got = deferred<unknown>();
    a.recorder.take = async (_message, _metadata, data) => {
      // Resolves all the same: a stream that failed is not taken, whatever the receiver says.
      await digest(data).then(got.resolve, got.resolve);
    };
    const raw = await Raw.greet(a.transport.port, { purpose: "snapshot" });
    raw.socket.end(Buffer.concat([messageFrame(snapshotMessage(2n, 1n)), ...frames]));
    expect(await got.promise).toMatchObject({ code });
    await raw.gone;
    await until(() => a.transport.stats().snapshots.receivesFailed === 1);
    expect(raw.payloads.slice(1).filter((payload) => readOutcome(payload) === true)).toEqual([]);
    expect(a.transport.stats().snapshots.received).toBe(0);
  });

  test.each<[string, Uint8Array, object]>([
    ["another message", encodeMessage(append(2n, 1n, 1)), { malformed: 1 }],
    ["a MsgSnap with data", encodeMessage(snapshotMessage(2n, 1n, new Uint8Array(1))), { malformed: 1 }],
    ["no message", pack([1, 2, 3]), { malformed: 1 }],
    ["a MsgSnap of another", encodeMessage(snapshotMessage(3n, 1n)), { malformed: 0, dropped: { misdirected: 1 } }],
    ["a MsgSnap for another", encodeMessage(snapshotMessage(2n, 3n)), { malformed: 0, dropped: { misdirected: 1 } }],
  ])("that begin with %s are not taken", async (_what, payload, counted) => {
    const a = await lone();
    const raw = await Raw.greet(a.transport.port, { purpose: "snapshot" });
    await raw.write(framed(payload));
    await raw.gone;
    expect(a.transport.stats()).toMatchObject(counted);
    expect(a.transport.stats().snapshots).toMatchObject({ received: 0, receivesFailed: 0 });
  });
});

describe("start() and close()", () => {
  test("close() leaves nothing that keeps a process alive, whatever is under way", async () => {
    const dist = new URL("../../dist/index.js", import.meta.url).href;
    const code = `
      import { createServer } from "node:net";
      import { TcpTransport } from ${JSON.stringify(dist)};
      const receiver = { step() {}, reportUnreachable() {}, reportSnapshot() {},
        receiveSnapshot: async (m, s, data) => { for await (const piece of data) held(); } };
      let held; const holding = new Promise((resolve) => { held = resolve; });
      const silent = createServer((socket) => socket.on("error", () => {}));
      await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));
      const make = (id) =>
        new TcpTransport({ id, clusterId: 1n, listen: { port: 0 }, reconnectMs: 1e9, maxReconnectMs: 1e9 });
      const [a, b] = [make(1n), make(2n)];
      await a.start(receiver); await b.start(receiver);
      a.setPeer(2n, b.address); b.setPeer(1n, a.address);
      a.setPeer(3n, "127.0.0.1:" + silent.address().port); // under way
      a.setPeer(4n, "127.0.0.1:9"); // refused, and dialled again
      const confState = { voters: [1n], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false };
      const message = { type: 7, to: 2n, from: 1n, term: 1, logTerm: 0, index: 0, entries: [], commit: 0, vote: 0n,
        snapshot: { metadata: { index: 1, term: 1, confState }, data: new Uint8Array(0) }, reject: false, rejectHint: 0,
        context: new Uint8Array(0), responses: [] };
      a.sendSnapshot(message, (async function* () { for (;;) yield new Uint8Array(10); })());
      await holding;
      while (a.stats().peers.every((peer) => peer.state !== "waiting")) await new Promise(setImmediate);
      await Promise.all([a.close(), b.close(), a.close()]);
      silent.close();
      console.log("closed");
    `;
    const { stdout, stderr } = await run(process.execPath, ["--input-type=module", "-e", code], {
      env: childEnv(),
      timeout: 30_000,
    });
    expect([stdout, stderr]).toEqual(["closed\n", ""]);
  });

  test("nothing is delivered once close() was called", async () => {
    const [a, b] = await pair();
    const stop = setInterval(() => a.transport.send([append(1n, 2n, 1)]), 0);
    await until(() => b.recorder.messages.length > 3);
    const closed = b.transport.close();
    const { length } = b.recorder.messages;
    await closed;
    await until(() => a.recorder.unreachable.length > 0);
    clearInterval(stop);
    expect(b.recorder.messages.length).toBe(length);
  });

  test("close() twice, before start() and during it", async () => {
    const { transport, recorder } = make(1n);
    await transport.close();
    await transport.close();
    await expect(transport.start(recorder)).rejects.toMatchObject({ code: "ERR_CLOSED" });
    const other = make(2n);
    const started = other.transport.start(other.recorder);
    await Promise.all([expect(started).rejects.toMatchObject({ code: "ERR_CLOSED" }), other.transport.close()]);
    const named = make(2n, { listen: { host: "localhost", port: 0 } });
    const looking = named.transport.start(named.recorder);
    await Promise.all([expect(looking).rejects.toMatchObject({ code: "ERR_CLOSED" }), named.transport.close()]);
  });

  test("close() from within a report", async () => {
    const [a] = await pair();
    const closed = deferred<Promise<void>>();
    a.recorder.reportSnapshot = () => closed.resolve(a.transport.close());
    a.transport.sendSnapshot(snapshotMessage(1n, 2n), new Source(Infinity, 10));
    await a.transport.close();
    await closed.promise;
  });

  test("start() on a port that is taken fails, and may be tried again", async () => {
    const { server, port } = await rawServer();
    const { transport, recorder } = make(1n, { listen: { port } });
    await expect(transport.start(recorder)).rejects.toMatchObject({ code: "ERR_IO", cause: { code: "EADDRINUSE" } });
    await new Promise((resolve) => server.close(resolve));
    await transport.start(recorder);
    expect(transport.address).toBe(`127.0.0.1:${port}`);
    await expect(transport.start(recorder)).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });
});

describe("options", () => {
  test.each<[string, unknown]>([
    ["id", 0n],
    ["id", 1],
    ["id", 2n ** 64n - 1n],
    ["id", 2n ** 64n],
    ["clusterId", -1n],
    ["clusterId", "cluster"],
    ["listen", undefined],
    ["listen", { port: -1 }],
    ["listen", { port: 65_536 }],
    ["listen", { port: 0, host: 7 }],
    ["maxFrameBytes", 1023],
    ["maxFrameBytes", 2 ** 31],
    ["maxQueueBytes", 64 * 1024 * 1024],
    ["reconnectMs", 0],
    ["maxReconnectMs", 1],
    ["snapshotPieceBytes", 0],
    ["snapshotPieceBytes", 1024 * 1024 + 1],
    ["handshakeMs", 0.5],
    ["idleMs", 99],
    ["peers", [[1n]]],
    ["peers", [[0n, "a:1"]]],
    ["peers", [[2n, "nowhere"]]],
  ])("%s as %s is refused", (name, value) => {
    const options = { id: 1n, clusterId: 1n, listen: { port: 0 }, [name]: value };
    let error: unknown;
    try {
      new TcpTransport(options as TcpTransportOptions);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(StableLogError);
    expect(error).toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });

  test.each([
    ["host:1", { host: "host", port: 1 }],
    ["10.0.0.1:65535", { host: "10.0.0.1", port: 65_535 }],
    ["[::1]:80", { host: "::1", port: 80 }],
    ["[fe80::1%eth0]:80", { host: "fe80::1%eth0", port: 80 }],
    ["::1:80", undefined],
    ["host", undefined],
    ["host:", undefined],
    [":80", undefined],
    ["host:0", undefined],
    ["host:65536", undefined],
    ["http://host:80", undefined],
    ["host:80/", undefined],
    ["ho st:80", undefined],
    [80, undefined],
    [undefined, undefined],
  ])("parseAddress() of %s", (address, endpoint) => {
    expect(parseAddress(address)).toEqual(endpoint);
  });
});
