// What etcd answers when it does not do what was asked: a gRPC code and a text, as in its rpctypes package, and the HTTP
// status that grpc-gateway makes of the code. Thrown by the checks of gateway.ts; returned, never thrown, by store.ts,
// because a command that etcd refuses when it applies it is a result like any other.

/** A refusal in etcd's words. */
export class StatusError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = "StatusError";
    this.code = code;
  }

  get httpStatus(): number {
    return httpStatuses.get(this.code) ?? 500;
  }

  /** The body of the answer, as grpc-gateway v1 writes it: etcd 3.5 and those before it. */
  toJSON(): { error: string; code: number; message: string } {
    return { error: this.message, code: this.code, message: this.message };
  }
}

export const Code = {
  Unknown: 2,
  InvalidArgument: 3,
  NotFound: 5,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
} as const;

/** Of the codes above; any other is a 500. */
const httpStatuses = new Map<number, number>([
  [Code.InvalidArgument, 400],
  [Code.NotFound, 404],
  [Code.ResourceExhausted, 429],
  [Code.FailedPrecondition, 400],
  [Code.OutOfRange, 400],
  [Code.Unimplemented, 501],
  [Code.Unavailable, 503],
]);

/** Code and text of each, without "etcdserver: ". An error is made where it is thrown: its stack then says where. */
const table = {
  emptyKey: [Code.InvalidArgument, "key is not provided"],
  keyNotFound: [Code.InvalidArgument, "key not found"],
  valueProvided: [Code.InvalidArgument, "value is provided"],
  leaseProvided: [Code.InvalidArgument, "lease is provided"],
  tooManyOps: [Code.InvalidArgument, "too many operations in txn request"],
  duplicateKey: [Code.InvalidArgument, "duplicate key given in txn request"],
  invalidSortOption: [Code.InvalidArgument, "invalid sort option"],
  requestTooLarge: [Code.InvalidArgument, "request is too large"],
  compacted: [Code.OutOfRange, "mvcc: required revision has been compacted"],
  futureRevision: [Code.OutOfRange, "mvcc: required revision is a future revision"],
  leaseNotFound: [Code.NotFound, "requested lease not found"],
  memberNotFound: [Code.NotFound, "member not found"],
  badCommand: [Code.InvalidArgument, "a command that is no request of this version"],
  memberExists: [Code.FailedPrecondition, "member ID already exist"],
  peerUrlExists: [Code.FailedPrecondition, "Peer URLs already exists"],
  tooManyLearners: [Code.FailedPrecondition, "too many learner members in cluster"],
  badPeerUrls: [Code.InvalidArgument, "given member URLs are invalid"],
  // etcd forgets to give this one a code on its way out, so its clients know it as Unknown.
  notEnoughStarted: [Code.Unknown, "re-configuration failed due to not enough started members"],
  noLeader: [Code.Unavailable, "no leader"],
  timeout: [Code.Unavailable, "request timed out"],
  stopped: [Code.Unavailable, "server stopped"],
  tooManyRequests: [Code.ResourceExhausted, "too many requests"],
} as const;

export type StatusName = keyof typeof table;

export function statusError(name: StatusName): StatusError {
  const [code, text] = table[name];
  return new StatusError(code, `etcdserver: ${text}`);
}
