// The door "stablelog/testing": what helps others to test a log, or code that stands on one. In reading order: the simulated
// disk, the explorer of crashes, the ledger for processes that are killed for real, the suite for storages, and the campaign
// that this package is tested with.

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
