// The door "stablelog/testing": what helps others to test a log, or code that stands on one. In reading order: the simulated
// disk, the explorer of crashes, the ledger for processes that are killed for real, the suite for storages; then what a raft is
// tested with: scripts and the language they are in, clusters for them, on simulated disks too, and clusters by seeds.

export {
  type CrashModel,
  type CrashPoint,
  crashModels,
  formatMask,
  type Mask,
  parseMask,
} from "./crash-point.js";
export { type DiskOperation, Fault, type FaultRule } from "./fault-plan.js";
export { SimDisk, type SimDiskOptions, type SimOperation } from "./sim-disk.js";
export type { SimFs } from "./sim-fs.js";
export { Random } from "./random.js";
export {
  type CrashedRun,
  type SimulatedRun,
  type Simulation,
  SimulationError,
  type SimulationReport,
  simulate,
} from "./simulate.js";
export { CrashLedger, LedgerError, type LedgerView } from "./crash-ledger.js";
export type { CrashStory } from "./crash-story.js";
export { drawTimeline } from "./crash-timeline.js";
export { type StorageFactory, type SuiteApi, testStorage } from "./storage-suite.js";
export { LocalNetwork } from "./local-network.js";
export {
  type Directive,
  describeFailure,
  parseScript,
  runScript,
  type ScriptArgument,
  ScriptError,
  type ScriptFailure,
} from "./datadriven.js";
export { runRaftScript, type ScriptKind, scriptKinds } from "./raft-scripts.js";
export {
  InteractionEnv,
  type InteractionNode,
  type InteractionOptions,
  type InteractionStorage,
  withoutLogs,
} from "./interaction-env.js";
export { DiskScriptError, type DiskScriptOptions, type DiskScriptReport, runScriptOnDisks } from "./script-disks.js";
export { type ClusterCounts, ClusterFailure, newClusterCounts, RaftCluster } from "./raft-cluster.js";
