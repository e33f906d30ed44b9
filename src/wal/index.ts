// The door of stablelog/wal: the log engine without raft.

export { Wal, type WalOptions, type WalRecord } from "./wal.js";
export type { EngineChoice, LogStats as WalStats, SyncOption } from "./log.js";
export type { RecoveryReport } from "./recovery.js";
export type { Damage, VerifyReport } from "./verify.js";
export { type ErrorCode, errorCodes, StableLogError } from "../base/errors.js";
export type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "../disk/disk.js";
export { FileDisk } from "../disk/file-disk.js";
export { MemoryDisk } from "../disk/memory-disk.js";
