// Status: what a node is and what it knows, for people and for whoever decides by it, as in etcd-raft's status.go.

import type { HardState } from "../raftpb/types.js";
import type { Raft, SoftState } from "./raft.js";
import type { Progress } from "./tracker/progress.js";
import { ProgressMap } from "./tracker/progress.js";
import type { Config } from "./tracker/tracker.js";

export interface BasicStatus {
  readonly id: bigint;
  readonly hardState: HardState;
  readonly softState: SoftState;
  readonly applied: number;
  /** To whom leadership is being handed, NONE else. */
  readonly leadTransferee: bigint;
}

export interface Status extends BasicStatus {
  readonly config: Config;
  /** Of a leader: copies; empty else. */
  readonly progress: ProgressMap;
}

export function basicStatusOf(raft: Raft): BasicStatus {
  const { id, hardState, softState, leadTransferee } = raft;
  return { id, hardState, softState, applied: raft.log.applied, leadTransferee };
}

export function statusOf(raft: Raft): Status {
  const progress = new ProgressMap();
  if (raft.state === "StateLeader") {
    raft.tracker.visit((id: bigint, each: Progress) => progress.set(id, each.clone()));
  }
  return { ...basicStatusOf(raft), config: raft.tracker.config.clone(), progress };
}
