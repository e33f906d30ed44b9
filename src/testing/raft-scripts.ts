// Runs etcd-raft's datadriven scripts of each kind: interaction (a cluster), confchange (a Changer), quorum (majorities).
// Used by `npm run datadriven`, which reads files, and by tests with scripts of our own.

import { type Changed, Changer, ConfChangeError } from "../raft/confchange/confchange.js";
import { JointConfig } from "../raft/quorum/joint.js";
import { MajorityConfig } from "../raft/quorum/majority.js";
import { type AckedIndex, sortedIds } from "../raft/quorum/quorum.js";
import { ProgressTracker } from "../raft/tracker/tracker.js";
import { confChangesFromString } from "../raftpb/conf-change.js";
import { type Directive, describeFailure, runScript } from "./datadriven.js";
import { InteractionEnv, type InteractionOptions, withoutLogs } from "./interaction-env.js";

/** What a script drives: a cluster, a configuration that changes, or majorities. */
export type ScriptKind = "interaction" | "confchange" | "quorum";

/** The kinds of scripts; a folder of that name holds such. */
export const scriptKinds: readonly ScriptKind[] = ["interaction", "confchange", "quorum"];

/**
 * Runs a script of etcd-raft's against this package's raft core, the lines of raft's logger left out; returns its differences as
 * text, none when it passes. `options` are for interaction scripts: which storages the nodes stand on.
 * @throws (rejects) ScriptError for what is no script, and whatever goes wrong that is no answer to a directive.
 */
export async function runRaftScript(
  kind: ScriptKind,
  text: string,
  options: InteractionOptions = {},
): Promise<string[]> {
  if (kind === "interaction") {
    const env = new InteractionEnv(options);
    const failures = await runScript(text, (directive) => env.handle(directive), withoutLogs);
    return failures.map((failure) => describeFailure(failure, withoutLogs));
  }
  const failures = await runScript(text, kind === "quorum" ? handleQuorum : confChangeHandler());
  return failures.map((failure) => describeFailure(failure));
}

/** The handler of one confchange script: it carries the configuration from directive to directive. */
function confChangeHandler(): (directive: Directive) => string {
  const tracker = new ProgressTracker(10, 0);
  let lastIndex = 0;
  return ({ command, args, input }) => {
    // It grows with every directive, so that Progress tells when a node came.
    const changer = new Changer(tracker, lastIndex++);
    let changed: Changed;
    try {
      const changes = confChangesFromString(input);
      if (command === "simple") {
        changed = changer.simple(changes);
      } else if (command === "enter-joint") {
        const autoLeave = args.find(({ key }) => key === "autoleave")?.values[0] === "true";
        changed = changer.enterJoint(autoLeave, changes);
      } else if (command === "leave-joint") {
        if (changes.length > 0) throw new ConfChangeError("this command takes no input");
        changed = changer.leaveJoint();
      } else {
        return "unknown command";
      }
    } catch (error) {
      // What the input says wrong is answered without a line's end.
      return error instanceof ConfChangeError ? `${error.message}\n` : (error as Error).message;
    }
    tracker.config = changed.config;
    tracker.progress = changed.progress;
    return `${tracker.config}\n${tracker.progress}`;
  };
}

function handleQuorum({ command, args }: Directive): string {
  const values = (key: string): string[] => args.filter((arg) => arg.key === key).flatMap((arg) => [...arg.values]);
  const numbers = (key: string): bigint[] =>
    values(key)
      .filter((id) => id !== "" && id !== "zero")
      .map(BigInt);
  const ids = numbers("cfg");
  const outgoing = numbers("cfgj");
  const isJoint = args.some(({ key }) => key === "cfgj");
  const input = values(command === "vote" ? "votes" : "idx").filter((each) => each !== "");
  const majority = new MajorityConfig(ids);
  const joint = new JointConfig(ids, outgoing);
  const voters = joint.ids();
  if (voters.size !== input.length) {
    const shown = sortedIds(voters).map((id) => `${id}:{}`);
    const given = input.map((each) => (command === "vote" ? String("_ny".indexOf(each)) : each === "_" ? "0" : each));
    return `error: mismatched input (explicit or _) for voters map[${shown.join(" ")}]: [${given.join(" ")}]`;
  }
  // Values go to IDs in the order in which these are named, each once.
  const given = new Map<bigint, string>();
  let next = 0;
  for (const id of [...ids, ...outgoing]) if (!given.has(id)) given.set(id, input[next++] as string);
  for (const [id, value] of given) if (value === "_") given.delete(id);
  if (command === "vote") {
    const votes = new Map([...given].map(([id, value]) => [id, value === "y"]));
    if (!isJoint) return `${majority.voteResult(votes)}\n`;
    const result = joint.voteResult(votes);
    const turned = new JointConfig(outgoing, ids).voteResult(votes);
    return `${turned === result ? "" : `${turned} <-- via symmetry\n`}${result}\n`;
  }
  if (command !== "committed") return "unknown command";
  const indexes = new Map([...given].map(([id, value]) => [id, Number(value)]));
  return isJoint ? jointCommitted(joint, indexes) : majorityCommitted(majority, indexes);
}

const shown = (index: number): string => (index === Number.POSITIVE_INFINITY ? "∞" : String(index));

function jointCommitted(joint: JointConfig, indexes: ReadonlyMap<bigint, number>): string {
  const acked: AckedIndex = (id) => indexes.get(id);
  const index = joint.committedIndex(acked);
  // Nothing may depend on which half is which.
  const turned = new JointConfig(joint.outgoing, joint.incoming);
  const other = Math.min(turned.incoming.committedIndex(acked), turned.outgoing.committedIndex(acked));
  const note = other === index ? "" : `${shown(other)} <-- via symmetry\n`;
  return `${joint.describe(acked)}${note}${shown(index)}\n`;
}

function majorityCommitted(majority: MajorityConfig, indexes: ReadonlyMap<bigint, number>): string {
  const acked: AckedIndex = (id) => indexes.get(id);
  const index = majority.committedIndex(acked);
  let text = majority.describe(acked);
  const compare = (other: number, how: string): void => {
    if (other !== index) text += `${shown(other)} <-- ${how}\n`;
  };
  compare(countedIndex(majority, indexes), "via alternative computation");
  compare(new JointConfig(majority).committedIndex(acked), "via zero-joint quorum");
  compare(new JointConfig(majority, majority).committedIndex(acked), "via self-joint quorum");
  for (const id of majority) {
    const own = indexes.get(id) ?? 0;
    if (!(index > own && own > 0)) continue;
    // Who is below what is committed decides nothing.
    for (const lower of [own - 1, 0]) {
      compare(
        majority.committedIndex((each) => (each === id ? lower : indexes.get(each))),
        `overlaying ${id}->${lower}`,
      );
    }
  }
  return `${text}${shown(index)}\n`;
}

/** The committed index by counting, for each acknowledged index, who has it. */
function countedIndex(majority: MajorityConfig, indexes: ReadonlyMap<bigint, number>): number {
  if (majority.size === 0) return Number.POSITIVE_INFINITY;
  let committed = 0;
  for (const candidate of indexes.values()) {
    const having = [...majority].filter((id) => (indexes.get(id) ?? 0) >= candidate).length;
    if (having > majority.size / 2) committed = Math.max(committed, candidate);
  }
  return committed;
}
