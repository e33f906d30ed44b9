// The door "stablelog/raft": the raft core, pure and driven by its owner, and the interfaces between it and its log. In reading
// order: the node and its Ready loop, the log below it, messages and changes of configuration, and the words of transcripts.

export { RawNode } from "./rawnode.js";
export { mustSync, type Ready } from "./ready.js";
export type { RaftConfig, SoftState, StateType } from "./raft.js";
export type { ReadOnlyOption, ReadState } from "./read-only.js";
export type { BasicStatus, Status } from "./status.js";
export type { Logger } from "./logger.js";
export type { SaveBatch, Storage, WritableStorage } from "./storage.js";
export {
  isLocalMessage,
  isLocalThread,
  isResponseMessage,
  LOCAL_APPEND_THREAD,
  LOCAL_APPLY_THREAD,
  type Message,
  MessageType,
  messageTypeName,
  NONE,
  newMessage,
} from "../raftpb/message.js";
export {
  type ConfChange,
  type ConfChangeSingle,
  ConfChangeTransition,
  ConfChangeType,
  type ConfChangeV2,
  decodeConfChange,
  encodeConfChange,
} from "../raftpb/conf-change.js";
export {
  describeEntries,
  describeEntry,
  describeHardState,
  describeMessage,
  describeReady,
  describeSnapshot,
} from "./describe.js";
