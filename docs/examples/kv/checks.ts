// What etcd looks at before it proposes a request: that keys are given, that options do not contradict each other, that a txn
// is not too long and writes no key twice. gateway.ts calls these; they throw StatusErrors in etcd's words and change nothing.

import { statusError } from "./errors.js";
import {
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  rangeRequest,
  type TxnRequest,
} from "./messages.js";
import { stringOf } from "./mvcc.js";

const sortOrders = rangeRequest.fields["sortOrder"]?.values?.length ?? 0;
const sortTargets = rangeRequest.fields["sortTarget"]?.values?.length ?? 0;

export function checkRange({ key, sortOrder, sortTarget }: RangeRequest): void {
  if (key.length === 0) throw statusError("emptyKey");
  // As etcd does from 3.5 on. Older ones die of such a target.
  if (sortOrder < 0 || sortOrder >= sortOrders) throw statusError("invalidSortOption");
  if (sortTarget < 0 || sortTarget >= sortTargets) throw statusError("invalidSortOption");
}

export function checkPut({ key, value, lease, ignoreValue, ignoreLease }: PutRequest): void {
  if (key.length === 0) throw statusError("emptyKey");
  if (ignoreValue && value.length > 0) throw statusError("valueProvided");
  if (ignoreLease && lease !== 0) throw statusError("leaseProvided");
}

export function checkDeleteRange({ key }: DeleteRangeRequest): void {
  if (key.length === 0) throw statusError("emptyKey");
}

/** `maxOps` is what may stand in each list of a txn; the txns within it may use what it leaves. */
export function checkTxn(request: TxnRequest, maxOps: number): void {
  checkOps(request, maxOps);
  writesOf(request.success);
  writesOf(request.failure);
}

function checkOps({ compare, success, failure }: TxnRequest, maxOps: number): void {
  const ops = Math.max(compare.length, success.length, failure.length);
  if (ops > maxOps) throw statusError("tooManyOps");
  if (compare.some(({ key }) => key.length === 0)) throw statusError("emptyKey");
  for (const op of [...success, ...failure]) checkOp(op, maxOps - ops);
}

function checkOp({ requestRange, requestPut, requestDeleteRange, requestTxn }: RequestOp, maxOps: number): void {
  if (requestRange !== undefined) checkRange(requestRange);
  else if (requestPut !== undefined) checkPut(requestPut);
  else if (requestDeleteRange !== undefined) checkDeleteRange(requestDeleteRange);
  else if (requestTxn !== undefined) checkOps(requestTxn, maxOps);
  // etcd's word for an operation that is none.
  else throw statusError("keyNotFound");
}

/** Of a deletion: keys in [start, end). */
interface Deleted {
  readonly start: string;
  readonly end: string;
}

interface Writes {
  readonly puts: Set<string>;
  readonly deletes: Deleted[];
}

/**
 * What the operations may write, those of both ways of a txn among them.
 * @throws StatusError when one key may be put twice, or put and deleted. The two ways of a txn may put the same key.
 */
function writesOf(ops: readonly RequestOp[]): Writes {
  const deletes = ops.flatMap(({ requestDeleteRange }) =>
    requestDeleteRange === undefined ? [] : [deletedBy(requestDeleteRange)],
  );
  const puts = new Set<string>();
  const add = (key: string, allowed?: ReadonlySet<string>): void => {
    const twice = puts.has(key) && allowed?.has(key) !== true;
    if (twice || deletes.some(({ start, end }) => key >= start && key < end)) {
      throw statusError("duplicateKey");
    }
    puts.add(key);
  };
  for (const { requestTxn } of ops) {
    if (requestTxn === undefined) continue;
    const success = writesOf(requestTxn.success);
    const failure = writesOf(requestTxn.failure);
    for (const key of success.puts) add(key);
    for (const key of failure.puts) add(key, success.puts);
    deletes.push(...success.deletes, ...failure.deletes);
  }
  for (const { requestPut } of ops) if (requestPut !== undefined) add(stringOf(requestPut.key));
  return { puts, deletes };
}

/** An end of one zero byte is read as written, which makes it an empty interval: so does etcd. */
function deletedBy({ key, rangeEnd }: DeleteRangeRequest): Deleted {
  const start = stringOf(key);
  return { start, end: rangeEnd.length === 0 ? `${start}\0` : stringOf(rangeEnd) };
}
