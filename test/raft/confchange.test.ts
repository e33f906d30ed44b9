// Changes of configuration: how a simple change and one through a joint configuration relate, that nothing leads to a
// configuration that breaks the invariants, that a ConfState restores what it was taken from, and the protobuf bytes.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Changed, Changer, ConfChangeError } from "../../src/raft/confchange/confchange.js";
import { restore } from "../../src/raft/confchange/restore.js";
import { ProgressTracker } from "../../src/raft/tracker/tracker.js";
import {
  asConfChangeV2,
  type ConfChangeSingle,
  ConfChangeTransition,
  ConfChangeType,
  type ConfChangeV2,
  confChangesFromString,
  confChangesToString,
  decodeConfChange,
  encodeConfChange,
  entersJoint,
  leavesJoint,
} from "../../src/raftpb/conf-change.js";
import { type ConfState, EntryType, emptyConfState } from "../../src/raftpb/types.js";

function trackerOf(changed?: Changed): ProgressTracker {
  const tracker = new ProgressTracker(10, 0);
  if (changed !== undefined) {
    tracker.config = changed.config;
    tracker.progress = changed.progress;
  }
  return tracker;
}

/** A tracker after changes, one at a time, by the simple protocol. */
function trackerAfter(changes: readonly ConfChangeSingle[]): ProgressTracker {
  const tracker = new ProgressTracker(10, 0);
  for (const change of changes) {
    const changed = outcome(() => new Changer(tracker, 5).simple([change]));
    if (changed instanceof ConfChangeError) continue;
    tracker.config = changed.config;
    tracker.progress = changed.progress;
  }
  return tracker;
}

function outcome(run: () => Changed): Changed | ConfChangeError {
  try {
    return run();
  } catch (error) {
    if (error instanceof ConfChangeError) return error;
    throw error;
  }
}

/** Members and roles; without what depends on when a node came. */
const shape = (changed: Changed): string =>
  `${changed.config} ${[...changed.progress].map(([id, { isLearner }]) => `${id}${isLearner}`).sort()}`;

const change = fc.record({
  type: fc.constantFrom(
    ConfChangeType.AddNode,
    ConfChangeType.AddLearnerNode,
    ConfChangeType.RemoveNode,
    ConfChangeType.UpdateNode,
  ),
  nodeId: fc.bigInt(1n, 6n),
});
const setup = fc
  .array(change, { maxLength: 12 })
  .map((changes) => [{ type: ConfChangeType.AddNode, nodeId: 1n }, ...changes]);
const changes = fc.array(change, { maxLength: 6 });

describe("Changer", () => {
  it("leads by a joint configuration to where a simple change leads", () => {
    let both = 0;
    fc.assert(
      fc.property(setup, changes, fc.boolean(), (before, next, autoLeave) => {
        const tracker = trackerAfter(before);
        const simple = outcome(() => new Changer(tracker, 9).simple(next));
        const joint = outcome(() => new Changer(tracker, 9).enterJoint(autoLeave, next));
        // Whatever can be done simply can be done jointly.
        if (simple instanceof ConfChangeError) return;
        if (joint instanceof ConfChangeError) throw joint;
        both++;
        expect(joint.config.autoLeave).toBe(autoLeave);
        const left = new Changer(trackerOf(joint), 9).leaveJoint();
        expect(shape(left)).toBe(shape(simple));
      }),
    );
    expect(both).toBeGreaterThan(10);
  });

  it("changes one at a time as it changes all at once through a joint configuration", () => {
    fc.assert(
      fc.property(setup, changes, (before, next) => {
        const tracker = trackerAfter(before);
        const joint = outcome(() => new Changer(tracker, 9).enterJoint(false, next));
        if (joint instanceof ConfChangeError) {
          expect(joint.message).toBe("removed all voters");
          return;
        }
        const left = new Changer(trackerOf(joint), 9).leaveJoint();
        let steps: ProgressTracker | undefined = trackerAfter(before);
        for (const each of next) {
          const changed: Changed | ConfChangeError = outcome(() =>
            new Changer(steps as ProgressTracker, 9).simple([each]),
          );
          // On the way there may be no voter left for a moment, which nobody sees when all comes at once.
          if (changed instanceof ConfChangeError) {
            steps = undefined;
            break;
          }
          steps = trackerOf(changed);
        }
        if (steps !== undefined) expect(shape(left)).toBe(shape({ config: steps.config, progress: steps.progress }));
      }),
    );
  });

  it("leaves what it was given as it was", () => {
    fc.assert(
      fc.property(setup, changes, fc.boolean(), (before, next, joint) => {
        const tracker = trackerAfter(before);
        const was = `${tracker.config}\n${tracker.progress}`;
        outcome(() => (joint ? new Changer(tracker, 9).enterJoint(true, next) : new Changer(tracker, 9).simple(next)));
        expect(`${tracker.config}\n${tracker.progress}`).toBe(was);
      }),
    );
  });

  it("keeps everybody's progress who is or was a member, and nobody else's", () => {
    fc.assert(
      fc.property(setup, changes, (before, next) => {
        const tracker = trackerAfter(before);
        const joint = outcome(() => new Changer(tracker, 9).enterJoint(false, next));
        if (joint instanceof ConfChangeError) return;
        for (const { config, progress } of [joint, new Changer(trackerOf(joint), 9).leaveJoint()]) {
          const members = new Set([...config.voters.ids(), ...config.learners]);
          expect(new Set(progress.keys())).toEqual(members);
          for (const [id, { isLearner }] of progress) expect(isLearner).toBe(config.learners.has(id));
          for (const id of config.learnersNext) expect(config.voters.outgoing.has(id)).toBe(true);
        }
      }),
    );
  });

  it("probes who comes new from the end of the log, and counts it as active", () => {
    const tracker = trackerAfter(confChangesFromString("v1"));
    const { progress } = new Changer(tracker, 42).simple(confChangesFromString("v2 l3"));
    expect(String(progress)).toContain("2: StateProbe match=0 next=42\n3: StateProbe match=0 next=42 learner\n");
    // Who is there already keeps what is known of it.
    expect(String(progress)).toContain("1: StateProbe match=0 next=5\n");
  });

  it.each([
    ["simple", "v1", "v2 v3", "more than one voter changed without entering joint config"],
    ["simple", "v1 v2", "r1 r2", "removed all voters"],
    ["simple", "v1", "r1", "removed all voters"],
    ["joint", "v1", "r1", "removed all voters"],
    ["joint", "v1 v2", "l1 l2", "removed all voters"],
    ["joint", "", "v1", "can't make a zero-voter config joint"],
  ])("refuses, %s, from %j the change %j", (how, before, next, message) => {
    const changer = new Changer(trackerAfter(confChangesFromString(before)), 5);
    const list = confChangesFromString(next);
    expect(() => (how === "simple" ? changer.simple(list) : changer.enterJoint(true, list))).toThrow(
      new ConfChangeError(message),
    );
  });

  it("refuses what does not go with a joint configuration, and to leave one that is not there", () => {
    const tracker = trackerAfter(confChangesFromString("v1"));
    expect(() => new Changer(tracker, 5).leaveJoint()).toThrow("can't leave a non-joint config");
    const joint = new Changer(trackerOf(new Changer(tracker, 5).enterJoint(true, confChangesFromString("v2 v3"))), 5);
    expect(() => joint.simple(confChangesFromString("v4"))).toThrow("can't apply simple config change in joint config");
    expect(() => joint.enterJoint(false, [])).toThrow("config is already joint");
  });

  it("leaves changes out that were decided against, and updates, which are the application's", () => {
    const tracker = trackerAfter(confChangesFromString("v1 v2"));
    expect(String(new Changer(tracker, 5).simple(confChangesFromString("v0 r0 u1 u7")).config)).toBe("voters=(1 2)");
  });

  it("makes a voter a learner only when the outgoing half no longer counts on it", () => {
    const tracker = trackerAfter(confChangesFromString("v1 v2 v3"));
    const joint = new Changer(tracker, 5).enterJoint(false, confChangesFromString("l3 v4"));
    expect(String(joint.config)).toBe("voters=(1 2 4)&&(1 2 3) learners_next=(3)");
    expect(joint.progress.get(3n)?.isLearner).toBe(false);
    const left = new Changer(trackerOf(joint), 5).leaveJoint();
    expect(String(left.config)).toBe("voters=(1 2 4) learners=(3)");
    expect(left.progress.get(3n)?.isLearner).toBe(true);
  });
});

describe("restore()", () => {
  it("gives back the configuration that a ConfState was taken from", () => {
    let joints = 0;
    fc.assert(
      fc.property(setup, changes, fc.boolean(), fc.boolean(), (before, next, enters, autoLeave) => {
        const tracker = trackerAfter(before);
        const changed = enters ? outcome(() => new Changer(tracker, 9).enterJoint(autoLeave, next)) : undefined;
        if (changed instanceof ConfChangeError) return;
        const source = changed === undefined ? tracker : trackerOf(changed);
        if (source.config.voters.joint) joints++;
        const state = source.confState();
        const restored = trackerOf(restore(state, new ProgressTracker(10, 0), 9));
        expect(String(restored.config)).toBe(String(source.config));
        expect(restored.confState()).toEqual(state);
        expect(shape({ config: restored.config, progress: restored.progress })).toBe(
          shape({ config: source.config, progress: source.progress }),
        );
      }),
    );
    expect(joints).toBeGreaterThan(10);
  });

  const state = (fields: Partial<ConfState>): ConfState => ({ ...emptyConfState(), ...fields });

  it("makes an empty configuration of an empty ConfState", () => {
    expect(String(restore(emptyConfState(), new ProgressTracker(10, 0), 0).config)).toBe("voters=()");
  });

  it.each([
    ["a voter who is a learner as well", state({ voters: [1n, 2n], learners: [2n] })],
    ["learners of later without a joint configuration", state({ voters: [1n], learnersNext: [2n], autoLeave: true })],
    ["a configuration without a voter", state({ learners: [1n] })],
  ])("does not give back what no change leads to: %s", (_what, given) => {
    const restored = outcome(() => restore(given, new ProgressTracker(10, 0), 5));
    if (restored instanceof ConfChangeError) return;
    expect(trackerOf(restored).confState()).not.toEqual(given);
  });
});

describe("changes of configuration as bytes", () => {
  const context = fc.uint8Array({ maxLength: 5 });
  const id = fc.bigInt(0n, 0xffffffffffffffffn);
  const single = fc.record({ type: change.map(({ type }) => type), nodeId: id });

  it("come back as they went", () => {
    const v1 = fc.record({ id, context, type: change.map(({ type }) => type), nodeId: id });
    const v2 = fc.record({
      transition: fc.constantFrom(...Object.values(ConfChangeTransition)),
      changes: fc.array(single, { maxLength: 5 }),
      context,
    });
    fc.assert(
      fc.property(fc.oneof(v1, v2), (given) => {
        const { type, data } = encodeConfChange(given);
        expect(type).toBe("changes" in given ? EntryType.ConfChangeV2 : EntryType.ConfChange);
        expect(decodeConfChange(type, data)).toEqual(given);
      }),
    );
  });

  it("are etcd's", () => {
    // raftpb.ConfChange{ID: 1, Type: AddLearnerNode, NodeID: 300}: proto2, every field is written.
    const v1 = encodeConfChange({ id: 1n, type: 3, nodeId: 300n, context: new Uint8Array(0) });
    expect([...v1.data]).toEqual([0x08, 1, 0x10, 3, 0x18, 0xac, 2]);
    expect(encodeConfChange({ id: 0n, type: 0, nodeId: 0n, context: Uint8Array.of(7) }).data).toEqual(
      Uint8Array.of(0x08, 0, 0x10, 0, 0x18, 0, 0x22, 1, 7),
    );
  });

  it("never read as anything but a change or a coded error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), fc.constantFrom(1, 2), (data, type) => {
        try {
          asConfChangeV2(decodeConfChange(type as EntryType, data));
        } catch (error) {
          expect(error).toMatchObject({ code: "ERR_CORRUPT" });
        }
      }),
    );
  });

  it("are written in short as they are read", () => {
    fc.assert(
      fc.property(fc.array(single, { maxLength: 5 }), (given) => {
        expect(confChangesFromString(confChangesToString(given))).toEqual(given);
      }),
    );
    expect(() => confChangesFromString("v1 x2")).toThrow("unknown input: x2");
    expect(() => confChangesFromString("v")).toThrow("unknown token v");
  });

  const v2 = (transition: ConfChangeTransition, text: string): ConfChangeV2 => ({
    transition,
    changes: confChangesFromString(text),
    context: new Uint8Array(0),
  });

  it.each([
    [ConfChangeTransition.Auto, "", undefined, true],
    [ConfChangeTransition.Auto, "v1", undefined, false],
    [ConfChangeTransition.Auto, "v1 v2", { autoLeave: true }, false],
    [ConfChangeTransition.JointImplicit, "v1", { autoLeave: true }, false],
    [ConfChangeTransition.JointImplicit, "", { autoLeave: true }, false],
    [ConfChangeTransition.JointExplicit, "v1", { autoLeave: false }, false],
    [ConfChangeTransition.JointExplicit, "v1 v2", { autoLeave: false }, false],
  ])("transition %d of %j enters a joint configuration: %j, leaves one: %s", (transition, text, enters, leaves) => {
    expect(entersJoint(v2(transition, text))).toEqual(enters);
    expect(leavesJoint(v2(transition, text))).toBe(leaves);
  });
});
