// restore(): the configuration that a ConfState describes, made of the changes that lead to it, as in etcd-raft's
// confchange/restore.go. Called when a node starts and when it takes a snapshot.

import { type ConfChangeSingle, ConfChangeType } from "../../raftpb/conf-change.js";
import type { ConfState } from "../../raftpb/types.js";
import { ProgressTracker } from "../tracker/tracker.js";
import { type Changed, Changer, emptyChanged } from "./confchange.js";

/**
 * `like` gives the limits of new followers; its own configuration is left alone. They are probed from `lastIndex` on.
 * @throws ConfChangeError when the ConfState is none that changes lead to.
 */
export function restore(state: ConfState, like: ProgressTracker, lastIndex: number): Changed {
  const tracker = new ProgressTracker(like.maxInflight, like.maxInflightBytes);
  let changed = emptyChanged();
  const step = (change: (changer: Changer) => Changed): void => {
    changed = change(new Changer(tracker, lastIndex));
    tracker.config = changed.config;
    tracker.progress = changed.progress;
  };
  const add = (ids: readonly bigint[], type: ConfChangeType): ConfChangeSingle[] =>
    ids.map((nodeId) => ({ type, nodeId }));
  const incoming = [
    ...add(state.votersOutgoing, ConfChangeType.RemoveNode),
    ...add(state.voters, ConfChangeType.AddNode),
    ...add(state.learners, ConfChangeType.AddLearnerNode),
    // Voters of the outgoing half: adding them as learners puts that off until it is left.
    ...add(state.learnersNext, ConfChangeType.AddLearnerNode),
  ];
  if (state.votersOutgoing.length === 0) {
    for (const change of incoming) step((changer) => changer.simple([change]));
  } else {
    // First what was there becomes the incoming half, which entering the joint configuration then turns out.
    for (const change of add(state.votersOutgoing, ConfChangeType.AddNode)) step((changer) => changer.simple([change]));
    step((changer) => changer.enterJoint(state.autoLeave, incoming));
  }
  return changed;
}
