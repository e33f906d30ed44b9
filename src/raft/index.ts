// The door "stablelog/raft": the interfaces between a raft node and its log.

export type { SaveBatch, Storage, WritableStorage } from "./storage.js";
