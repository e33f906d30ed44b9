// The words of transcripts that no script brings about: Go's %q of bytes of any kind, and what a Ready and a message print
// when they hold everything.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeEntry, describeMessage, describeReady, describeTarget, quoted } from "../../src/raft/describe.js";
import { encodeConfChange } from "../../src/raftpb/conf-change.js";
import { LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MessageType, newMessage } from "../../src/raftpb/message.js";
import { type Entry, EntryType, emptyConfState } from "../../src/raftpb/types.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const entry = (index: number, text: string): Entry => ({ term: 2, index, type: EntryType.Normal, data: bytes(text) });

/** The bytes that a Go string literal stands for. */
function unquoted(literal: string): number[] {
  const named: Record<string, number> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13, '"': 34, "\\": 92 };
  const out: number[] = [];
  for (const [, numbered, name, text] of literal
    .slice(1, -1)
    .matchAll(/\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})|\\(.)|([^\\])/gsu)) {
    const number = Number.parseInt(numbered?.slice(1) ?? "", 16);
    if (numbered?.startsWith("x") === true) out.push(number);
    else if (numbered !== undefined) out.push(...bytes(String.fromCodePoint(number)));
    else if (name !== undefined) out.push(named[name] as number);
    else out.push(...bytes(text ?? ""));
  }
  return out;
}

describe("quoted()", () => {
  it.each([
    ["", '""'],
    ["plain text", '"plain text"'],
    ['a "word" \\ and more', '"a \\"word\\" \\\\ and more"'],
    ["\0\x07\b\t\n\v\f\r\x1b\x7f", '"\\x00\\a\\b\\t\\n\\v\\f\\r\\x1b\\x7f"'],
    ["größe 日本語 ½ €", '"größe 日本語 ½ €"'],
    ["🙂", '"🙂"'],
    ["e\u0301", '"e\u0301"'],
    ["a\u00a0b\u0085\u2028", '"a\\u00a0b\\u0085\\u2028"'],
    ["\ufeff\ufffd", '"\\ufeff\ufffd"'],
    ["\u{e0001}", '"\\U000e0001"'],
  ])("prints %j as Go does", (text, literal) => {
    expect(quoted(bytes(text))).toBe(literal);
  });

  it.each([
    ["a byte that begins nothing", [0x61, 0x80, 0xff], '"a\\x80\\xff"'],
    ["a code point that is cut short", [0xe6, 0x97], '"\\xe6\\x97"'],
    ["one that is broken off by a letter", [0xe6, 0x97, 0x62], '"\\xe6\\x97b"'],
    ["one longer than it need be", [0xc0, 0x80, 0xe0, 0x80, 0x80], '"\\xc0\\x80\\xe0\\x80\\x80"'],
    ["half a surrogate pair", [0xed, 0xa0, 0x80], '"\\xed\\xa0\\x80"'],
    ["one beyond the last", [0xf4, 0x90, 0x80, 0x80], '"\\xf4\\x90\\x80\\x80"'],
  ])("prints %s in hexadecimal", (_what, data, literal) => {
    expect(quoted(Uint8Array.from(data))).toBe(literal);
  });

  it("loses nothing: the literal stands for the same bytes", () => {
    const texts = fc.string({ unit: "binary", maxLength: 20 }).map(bytes);
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 20 }), texts), (data) => {
        expect(unquoted(quoted(data))).toEqual([...data]);
      }),
    );
  });
});

describe("describeEntry()", () => {
  it("prints data by the formatter, and changes of configuration in short", () => {
    expect(describeEntry(entry(3, "x"))).toBe('2/3 EntryNormal "x"');
    expect(describeEntry(entry(3, "x"), (data) => `${data.length} bytes`)).toBe("2/3 EntryNormal 1 bytes");
    const change = encodeConfChange({
      transition: 0,
      changes: [
        { type: 0, nodeId: 4n },
        { type: 1, nodeId: 1n },
      ],
      context: bytes("why"),
    });
    expect(describeEntry({ term: 1, index: 9, ...change })).toBe("1/9 EntryConfChangeV2 v4 r1");
    // The one that leaves a joint configuration.
    expect(describeEntry({ ...entry(9, ""), type: EntryType.ConfChangeV2 })).toBe("2/9 EntryConfChangeV2");
    expect(describeEntry({ ...entry(9, "\x0f"), type: EntryType.ConfChange })).toMatch(
      /^2\/9 EntryConfChange read a configuration change: /,
    );
  });
});

describe("describeMessage() and describeReady()", () => {
  it("name IDs in hexadecimal, and those that are no nodes", () => {
    expect([0n, 26n, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD].map(describeTarget)).toEqual([
      "None",
      "1a",
      "AppendThread",
      "ApplyThread",
    ]);
  });

  it("print everything that is there, and nothing that is not", () => {
    const confState = { ...emptyConfState(), voters: [1n, 2n], autoLeave: true };
    const snapshot = { metadata: { index: 5, term: 2, confState }, data: new Uint8Array(0) };
    const answer = newMessage(MessageType.MsgAppResp, {
      from: 2n,
      to: 1n,
      term: 3,
      index: 7,
      reject: true,
      rejectHint: 6,
    });
    const message = newMessage(MessageType.MsgStorageAppend, {
      from: 2n,
      to: LOCAL_APPEND_THREAD,
      term: 3,
      vote: 1n,
      commit: 5,
      entries: [entry(6, "a"), entry(7, "b")],
      snapshot,
      responses: [answer],
    });
    const snapshotText =
      "Index:5 Term:2 ConfState:Voters:[1 2] VotersOutgoing:[] Learners:[] LearnersNext:[] AutoLeave:true";
    const answerText = "2->1 MsgAppResp Term:3 Log:0/7 Rejected (Hint: 6)";
    expect(describeMessage(message).split("\n")).toEqual([
      "2->AppendThread MsgStorageAppend Term:3 Log:0/0 Commit:5 Vote:1 Entries:[",
      '  2/6 EntryNormal "a"',
      '  2/7 EntryNormal "b"',
      "]",
      `  Snapshot: ${snapshotText} Responses:[`,
      `  ${answerText}`,
      "]",
    ]);
    const ready = {
      softState: { lead: 2n, raftState: "StateFollower" as const },
      hardState: { term: 3, vote: 0n, commit: 5 },
      readStates: [{ index: 5, requestContext: bytes("r1") }],
      entries: [entry(6, "a")],
      snapshot,
      committedEntries: [entry(5, "z")],
      messages: [answer],
      mustSync: true,
    };
    expect(describeReady(ready).split("\n")).toEqual([
      "Ready MustSync=true:",
      "Lead:2 State:StateFollower",
      "HardState Term:3 Commit:5",
      "ReadStates [{5 [114 49]}]",
      "Entries:",
      '2/6 EntryNormal "a"',
      `Snapshot ${snapshotText}`,
      "CommittedEntries:",
      '2/5 EntryNormal "z"',
      "Messages:",
      answerText,
      "",
    ]);
  });
});
