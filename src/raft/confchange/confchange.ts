// Changer: works out the configuration that follows from changes of another one, as in etcd-raft's confchange/confchange.go.
// Pure: what it is given stays as it is, and every result is checked against the invariants of a configuration.

import { type ConfChangeSingle, ConfChangeType } from "../../raftpb/conf-change.js";
import { JointConfig } from "../quorum/joint.js";
import { Inflights } from "../tracker/inflights.js";
import { Progress, ProgressMap } from "../tracker/progress.js";
import { Config, type ProgressTracker } from "../tracker/tracker.js";

export interface Changed {
  readonly config: Config;
  readonly progress: ProgressMap;
}

/** A change that cannot be made; messages are etcd's, transcripts hold them. */
export class ConfChangeError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ConfChangeError";
  }
}

export class Changer {
  readonly #tracker: ProgressTracker;
  readonly #lastIndex: number;

  /** `lastIndex` is where new followers are probed from. */
  constructor(tracker: ProgressTracker, lastIndex: number) {
    this.#tracker = tracker;
    this.#lastIndex = lastIndex;
  }

  /** Makes the voters of now the outgoing half, and applies the changes to the incoming one. @throws ConfChangeError */
  enterJoint(autoLeave: boolean, changes: readonly ConfChangeSingle[]): Changed {
    const changed = this.#copy();
    const { config } = changed;
    if (config.voters.joint) throw new ConfChangeError("config is already joint");
    if (config.voters.incoming.size === 0) throw new ConfChangeError("can't make a zero-voter config joint");
    config.voters = new JointConfig(config.voters.incoming, config.voters.incoming);
    this.#apply(changed, changes);
    config.autoLeave = autoLeave;
    return checked(changed);
  }

  /** Drops the outgoing half; who was to become a learner does. @throws ConfChangeError */
  leaveJoint(): Changed {
    const changed = this.#copy();
    const { config, progress } = changed;
    if (!config.voters.joint) throw new ConfChangeError("can't leave a non-joint config");
    for (const id of config.learnersNext) {
      config.learners.add(id);
      (progress.get(id) as Progress).isLearner = true;
    }
    config.learnersNext.clear();
    for (const id of config.voters.outgoing) {
      if (!config.voters.incoming.has(id) && !config.learners.has(id)) progress.delete(id);
    }
    config.voters = new JointConfig(config.voters.incoming);
    config.autoLeave = false;
    return checked(changed);
  }

  /** Applies changes of which at most one is to voters. @throws ConfChangeError */
  simple(changes: readonly ConfChangeSingle[]): Changed {
    const changed = this.#copy();
    if (changed.config.voters.joint) throw new ConfChangeError("can't apply simple config change in joint config");
    this.#apply(changed, changes);
    if (differences(this.#tracker.config.voters.incoming, changed.config.voters.incoming) > 1) {
      throw new ConfChangeError("more than one voter changed without entering joint config");
    }
    return checked(changed);
  }

  #apply(changed: Changed, changes: readonly ConfChangeSingle[]): void {
    for (const { type, nodeId } of changes) {
      // The application decided against it.
      if (nodeId === 0n) continue;
      if (type === ConfChangeType.AddNode) this.#makeVoter(changed, nodeId);
      else if (type === ConfChangeType.AddLearnerNode) this.#makeLearner(changed, nodeId);
      else if (type === ConfChangeType.RemoveNode) remove(changed, nodeId);
    }
    if (changed.config.voters.incoming.size === 0) throw new ConfChangeError("removed all voters");
  }

  #makeVoter(changed: Changed, id: bigint): void {
    const { config, progress } = changed;
    const known = progress.get(id);
    if (known === undefined) {
      this.#add(changed, id, false);
      return;
    }
    known.isLearner = false;
    config.learners.delete(id);
    config.learnersNext.delete(id);
    config.voters.incoming.add(id);
  }

  #makeLearner(changed: Changed, id: bigint): void {
    const { config, progress } = changed;
    const known = progress.get(id);
    if (known === undefined) {
      this.#add(changed, id, true);
      return;
    }
    if (known.isLearner) return;
    remove(changed, id);
    progress.set(id, known);
    // Still a voter of the outgoing half, it cannot be a learner before that is left.
    if (config.voters.outgoing.has(id)) {
      config.learnersNext.add(id);
    } else {
      known.isLearner = true;
      config.learners.add(id);
    }
  }

  #add({ config, progress }: Changed, id: bigint, isLearner: boolean): void {
    if (isLearner) config.learners.add(id);
    else config.voters.incoming.add(id);
    const { maxInflight, maxInflightBytes } = this.#tracker;
    // Counted as active: a check of the quorum must not depose a leader over a node that had no time to answer.
    const inflights = new Inflights(maxInflight, maxInflightBytes);
    progress.set(id, new Progress(Math.max(this.#lastIndex, 1), inflights, isLearner, 0, true));
  }

  #copy(): Changed {
    const progress = new ProgressMap();
    for (const [id, each] of this.#tracker.progress) progress.set(id, each.clone());
    return checked({ config: this.#tracker.config.clone(), progress });
  }
}

function remove({ config, progress }: Changed, id: bigint): void {
  if (!progress.has(id)) return;
  config.voters.incoming.delete(id);
  config.learners.delete(id);
  config.learnersNext.delete(id);
  // The outgoing half still needs to hear of it.
  if (!config.voters.outgoing.has(id)) progress.delete(id);
}

/** The number of IDs that are in one of the two alone. */
function differences(a: ReadonlySet<bigint>, b: ReadonlySet<bigint>): number {
  let count = 0;
  for (const id of a) if (!b.has(id)) count++;
  for (const id of b) if (!a.has(id)) count++;
  return count;
}

/** Holds a configuration to its invariants. @throws ConfChangeError */
function checked(changed: Changed): Changed {
  const { config, progress } = changed;
  const { voters, learners, learnersNext } = config;
  for (const ids of [voters.ids(), learners, learnersNext]) {
    for (const id of ids) if (!progress.has(id)) throw new ConfChangeError(`no progress for ${id}`);
  }
  for (const id of learnersNext) {
    if (!voters.outgoing.has(id)) throw new ConfChangeError(`${id} is in LearnersNext, but not Voters[1]`);
    if (progress.get(id)?.isLearner === true) {
      throw new ConfChangeError(`${id} is in LearnersNext, but is already marked as learner`);
    }
  }
  for (const id of learners) {
    if (voters.outgoing.has(id)) throw new ConfChangeError(`${id} is in Learners and Voters[1]`);
    if (voters.incoming.has(id)) throw new ConfChangeError(`${id} is in Learners and Voters[0]`);
    if (progress.get(id)?.isLearner !== true) {
      throw new ConfChangeError(`${id} is in Learners, but is not marked as learner`);
    }
  }
  if (!voters.joint) {
    if (learnersNext.size > 0) throw new ConfChangeError("cfg.LearnersNext must be nil when not joint");
    if (config.autoLeave) throw new ConfChangeError("AutoLeave must be false when not joint");
  }
  return changed;
}

/** An empty configuration, to restore one into. */
export function emptyChanged(): Changed {
  return { config: new Config(), progress: new ProgressMap() };
}
