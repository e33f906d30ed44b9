// What recovery decides, as data. recovery.ts gathers the facts and reads nothing but these tables to choose; a test walks
// every combination of facts and holds that exactly one row answers it. docs/DURABILITY.md carries the same rows.
//
// DIRECTORY: may this directory be opened at all?
//
//   STATE       our files  etcd's  may create | decision
//   missing     yes        *       *          | refuse ERR_CORRUPT: segments without the STATE that names them
//   missing     no         yes     *          | refuse ERR_FOREIGN: somebody else's log
//   missing     no         no      yes        | create
//   missing     no         no      no         | refuse ERR_NOT_FOUND
//   unreadable  *          *       *          | refuse ERR_CORRUPT
//   newer       *          *       *          | refuse ERR_FORMAT_VERSION
//   readable    *          *       *          | recover
//
// SEGMENT: what is a file with a segment's name? `place` is against the generation that STATE names as begun last;
// "needed" is reached by walking links back from the newest begun segment while the log still holds older entries.
//
//   place   head     needed | decision
//   newer   valid    *      | begun: its first frame was written, and perhaps synced, before STATE could name it
//   newer   zero     *      | unbegun: leave out, remove
//   newer   torn     *      | unbegun: leave out, remove
//   newer   absent   *      | nothing
//   named   valid    *      | begun
//   named   zero     *      | refuse ERR_CORRUPT: its first frame was synced before STATE named it
//   named   torn     *      | refuse ERR_CORRUPT: its first frame was synced before STATE named it
//   named   absent   *      | refuse ERR_GAP: the newest segment is lost
//   older   valid    yes    | part: of the log
//   older   zero     yes    | refuse ERR_CORRUPT
//   older   torn     yes    | refuse ERR_CORRUPT
//   older   absent   yes    | refuse ERR_GAP
//   older   valid    no     | leftover: released, or superseded; remove
//   older   zero     no     | leftover: remove
//   older   torn     no     | leftover: remove
//   older   absent   no     | nothing
//   *       foreign  *      | refuse ERR_FOREIGN: another log's segment
//   *       copy     *      | refuse ERR_CORRUPT: a segment of this log under another's name
//   *       newer    *      | refuse ERR_FORMAT_VERSION
//
// TAIL: at the first place in the newest segment where no valid frame stands.
//
//   closed here  vouched for  zeros to the end  one bit from valid  policy | decision
//   yes          *            *                 *                   *      | clean
//   no           yes          *                 *                   *      | refuse ERR_CORRUPT: damage, not a tear
//   no           no           yes               *                   *      | clean
//   no           no           no                no                  *      | tear: drop, report
//   no           no           no                yes                 refuse | refuse ERR_AMBIGUOUS_TAIL
//   no           no           no                yes                 drop   | dropped: drop, report

import { AssertionError } from "../base/assert.js";

/** Matches any value of its column. */
const ANY = "*";

export interface DirectoryFacts {
  readonly state: "missing" | "unreadable" | "newer" | "readable";
  readonly ours: boolean;
  readonly etcd: boolean;
  readonly create: boolean;
}
export type DirectoryDecision =
  | "create"
  | "recover"
  | "ERR_CORRUPT"
  | "ERR_FOREIGN"
  | "ERR_NOT_FOUND"
  | "ERR_FORMAT_VERSION";

export interface SegmentFacts {
  readonly place: "newer" | "named" | "older";
  readonly head: "valid" | "zero" | "torn" | "absent" | "foreign" | "copy" | "newer";
  readonly needed: boolean;
}
export type SegmentDecision =
  | "begun"
  | "part"
  | "unbegun"
  | "leftover"
  | "nothing"
  | "ERR_CORRUPT"
  | "ERR_GAP"
  | "ERR_FOREIGN"
  | "ERR_FORMAT_VERSION";

export interface TailFacts {
  readonly closedHere: boolean;
  readonly vouched: boolean;
  readonly zeros: boolean;
  readonly oneBit: boolean;
  readonly policy: "refuse" | "drop";
}
export type TailDecision = "clean" | "tear" | "dropped" | "ERR_CORRUPT" | "ERR_AMBIGUOUS_TAIL";

type Row<Facts, Decision> = { readonly [K in keyof Facts]: Facts[K] | typeof ANY } & { readonly decision: Decision };

export const DIRECTORY_CASES: readonly Row<DirectoryFacts, DirectoryDecision>[] = [
  { state: "missing", ours: true, etcd: ANY, create: ANY, decision: "ERR_CORRUPT" },
  { state: "missing", ours: false, etcd: true, create: ANY, decision: "ERR_FOREIGN" },
  { state: "missing", ours: false, etcd: false, create: true, decision: "create" },
  { state: "missing", ours: false, etcd: false, create: false, decision: "ERR_NOT_FOUND" },
  { state: "unreadable", ours: ANY, etcd: ANY, create: ANY, decision: "ERR_CORRUPT" },
  { state: "newer", ours: ANY, etcd: ANY, create: ANY, decision: "ERR_FORMAT_VERSION" },
  { state: "readable", ours: ANY, etcd: ANY, create: ANY, decision: "recover" },
];

export const SEGMENT_CASES: readonly Row<SegmentFacts, SegmentDecision>[] = [
  { place: "newer", head: "valid", needed: ANY, decision: "begun" },
  { place: "newer", head: "zero", needed: ANY, decision: "unbegun" },
  { place: "newer", head: "torn", needed: ANY, decision: "unbegun" },
  { place: "newer", head: "absent", needed: ANY, decision: "nothing" },
  { place: "named", head: "valid", needed: ANY, decision: "begun" },
  { place: "named", head: "zero", needed: ANY, decision: "ERR_CORRUPT" },
  { place: "named", head: "torn", needed: ANY, decision: "ERR_CORRUPT" },
  { place: "named", head: "absent", needed: ANY, decision: "ERR_GAP" },
  { place: "older", head: "valid", needed: true, decision: "part" },
  { place: "older", head: "zero", needed: true, decision: "ERR_CORRUPT" },
  { place: "older", head: "torn", needed: true, decision: "ERR_CORRUPT" },
  { place: "older", head: "absent", needed: true, decision: "ERR_GAP" },
  { place: "older", head: "valid", needed: false, decision: "leftover" },
  { place: "older", head: "zero", needed: false, decision: "leftover" },
  { place: "older", head: "torn", needed: false, decision: "leftover" },
  { place: "older", head: "absent", needed: false, decision: "nothing" },
  { place: ANY, head: "foreign", needed: ANY, decision: "ERR_FOREIGN" },
  { place: ANY, head: "copy", needed: ANY, decision: "ERR_CORRUPT" },
  { place: ANY, head: "newer", needed: ANY, decision: "ERR_FORMAT_VERSION" },
];

export const TAIL_CASES: readonly Row<TailFacts, TailDecision>[] = [
  { closedHere: true, vouched: ANY, zeros: ANY, oneBit: ANY, policy: ANY, decision: "clean" },
  { closedHere: false, vouched: true, zeros: ANY, oneBit: ANY, policy: ANY, decision: "ERR_CORRUPT" },
  { closedHere: false, vouched: false, zeros: true, oneBit: ANY, policy: ANY, decision: "clean" },
  { closedHere: false, vouched: false, zeros: false, oneBit: false, policy: ANY, decision: "tear" },
  { closedHere: false, vouched: false, zeros: false, oneBit: true, policy: "refuse", decision: "ERR_AMBIGUOUS_TAIL" },
  { closedHere: false, vouched: false, zeros: false, oneBit: true, policy: "drop", decision: "dropped" },
];

/** The rows of a table that answer `facts`. A sound table gives exactly one. */
export function matching<Facts extends object, Decision>(
  table: readonly Row<Facts, Decision>[],
  facts: Facts,
): Row<Facts, Decision>[] {
  const columns = Object.keys(facts) as (keyof Facts)[];
  return table.filter((row) => columns.every((column) => row[column] === ANY || row[column] === facts[column]));
}

function decide<Facts extends object, Decision>(table: readonly Row<Facts, Decision>[], facts: Facts): Decision {
  const [row] = matching(table, facts);
  if (row === undefined) throw new AssertionError(`no recovery case for ${JSON.stringify(facts)}`);
  return row.decision;
}

/** May this directory be opened? */
export function decideDirectory(facts: DirectoryFacts): DirectoryDecision {
  return decide(DIRECTORY_CASES, facts);
}

/** What is this segment file to the log? */
export function decideSegment(facts: SegmentFacts): SegmentDecision {
  return decide(SEGMENT_CASES, facts);
}

/** What is the end of the newest segment? */
export function decideTail(facts: TailFacts): TailDecision {
  return decide(TAIL_CASES, facts);
}
