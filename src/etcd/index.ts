// The door of stablelog/etcd: etcd's WAL and snap directories.

export { readBatches } from "./batches.js";
export type { Batch } from "./batches.js";
export { readMember } from "./member.js";
export type { MemberContents, MemberOptions } from "./member.js";
