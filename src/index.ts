// The door of stablelog: the public names in reading order. Further doors: stablelog/wal (the engine without raft),
// stablelog/raft (the raft core and the Storage interface), stablelog/etcd (reading etcd's own directories), stablelog/testing.

export {
  type ConfState,
  type Entry,
  EntryType,
  entrySize,
  type HardState,
  type Snapshot,
  type SnapshotMetadata,
} from "./raftpb/types.js";
export type { SaveBatch, Storage, WritableStorage } from "./raft/storage.js";
export { FileStorage, type FileStorageOptions, type StorageStats } from "./storage/file-storage.js";
export type { EngineChoice, SyncOption } from "./wal/log.js";
export { MemoryStorage } from "./storage/memory-storage.js";
export type { AppliedConfChange, Command, StateMachine } from "./node/state-machine.js";
export type { Transport, TransportReceiver } from "./node/transport.js";
export {
  type TcpPeerStats,
  TcpTransport,
  type TcpTransportOptions,
  type TcpTransportStats,
} from "./node/tcp-transport.js";
export type { RecoveryReport } from "./wal/recovery.js";
export type { Damage, VerifyReport } from "./wal/verify.js";
export { type ErrorCode, errorCodes, StableLogError } from "./base/errors.js";
export type { Disk, DiskFile, DiskLock, DiskStat, OpenMode } from "./disk/disk.js";
export { FileDisk } from "./disk/file-disk.js";
export { MemoryDisk } from "./disk/memory-disk.js";
