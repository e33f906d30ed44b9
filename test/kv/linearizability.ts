// Is a history of one key linearizable? The search of Wing and Gong with Lowe's memory of states seen: it looks for an order of the
// operations that agrees with their answers and with real time. Used by the fire test; tested against brute force.

/** One operation on a register that holds a text, or nothing. Times are of one clock. */
export interface RegisterOperation {
  readonly kind: "put" | "get" | "cas";
  /** What put and cas write. */
  readonly value?: string | undefined;
  /** What cas wants to find. */
  readonly expected?: string | undefined;
  readonly invoked: number;
  /** Undefined: nobody heard of its outcome. It may have taken place at any time since, or not at all. */
  readonly returned: number | undefined;
  /** What get found, `undefined` for nothing; whether cas found what it wanted. */
  readonly result?: string | boolean | undefined;
}

/** The register after it; undefined when it cannot have answered so on this state. */
function step(
  state: string | undefined,
  operation: RegisterOperation,
): { readonly state: string | undefined } | undefined {
  const { kind, value, expected, result, returned } = operation;
  if (kind === "put") return { state: value };
  if (kind === "get") return returned === undefined || result === state ? { state } : undefined;
  const found = state === expected;
  if (returned !== undefined && result !== found) return undefined;
  return { state: found ? value : state };
}

/** A call or a return in the order of time, in a list from which operations are lifted and put back. */
interface Node {
  readonly operation: number;
  /** The return of this call; undefined for a return. */
  readonly returns: Node | undefined;
  before: Node | undefined;
  after: Node | undefined;
}

/** True when some order of the operations explains all their answers. */
export function isLinearizable(operations: readonly RegisterOperation[]): boolean {
  const head = listOf(operations);
  // Of those whose outcome nobody heard, the rest may never have taken place.
  let left = operations.filter(({ returned }) => returned !== undefined).length;
  let state: string | undefined;
  let done = 0n;
  const seen = new Set<string>();
  const stack: { readonly call: Node; readonly state: string | undefined }[] = [];
  let at = head.after;
  while (left > 0) {
    if (at === undefined) return false;
    const operation = operations[at.operation] as RegisterOperation;
    if (at.returns !== undefined) {
      const next = step(state, operation);
      const bit = 1n << BigInt(at.operation);
      const key = next === undefined ? "" : `${(done | bit).toString(36)} ${JSON.stringify(next.state)}`;
      if (next === undefined || seen.has(key)) {
        at = at.after;
        continue;
      }
      seen.add(key);
      stack.push({ call: at, state });
      state = next.state;
      done |= bit;
      if (operation.returned !== undefined) left--;
      lift(at);
      at = head.after;
    } else {
      // This one has returned, and has no place yet: the last choice was wrong.
      const last = stack.pop();
      if (last === undefined) return false;
      state = last.state;
      done &= ~(1n << BigInt(last.call.operation));
      if (operations[last.call.operation]?.returned !== undefined) left++;
      unlift(last.call);
      at = last.call.after;
    }
  }
  return true;
}

function listOf(operations: readonly RegisterOperation[]): Node {
  const nodes: { readonly time: number; readonly call: boolean; readonly node: Node }[] = [];
  for (const [operation, { invoked, returned }] of operations.entries()) {
    const returns: Node = { operation, returns: undefined, before: undefined, after: undefined };
    const call: Node = { operation, returns, before: undefined, after: undefined };
    nodes.push({ time: invoked, call: true, node: call });
    nodes.push({ time: returned ?? Number.POSITIVE_INFINITY, call: false, node: returns });
  }
  // At the same moment calls come first: the operations overlap.
  nodes.sort((a, b) => (a.time === b.time ? Number(b.call) - Number(a.call) : a.time - b.time));
  const head: Node = { operation: -1, returns: undefined, before: undefined, after: undefined };
  let last = head;
  for (const { node } of nodes) {
    last.after = node;
    node.before = last;
    last = node;
  }
  return head;
}

function lift({ returns, before, after }: Node): void {
  if (before !== undefined) before.after = after;
  if (after !== undefined) after.before = before;
  if (returns?.before !== undefined) returns.before.after = returns.after;
  if (returns?.after !== undefined) returns.after.before = returns.before;
}

function unlift(call: Node): void {
  const { returns, before, after } = call;
  if (returns?.before !== undefined) returns.before.after = returns;
  if (returns?.after !== undefined) returns.after.before = returns;
  if (before !== undefined) before.after = call;
  if (after !== undefined) after.before = call;
}
