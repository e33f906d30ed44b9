// The checker of histories against brute force over all orders, and against histories that were made by a register.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isLinearizable, type RegisterOperation } from "./linearizability.js";

function* permutations<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield [];
  for (const [i, item] of items.entries()) {
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [item, ...rest];
  }
}

function* subsets<T>(items: readonly T[]): Generator<T[]> {
  for (let mask = 0; mask < 2 ** items.length; mask++) yield items.filter((_, i) => (mask & (1 << i)) !== 0);
}

/** Tries every order of all known operations and every choice of the unknown ones. */
function bruteForce(operations: readonly RegisterOperation[]): boolean {
  const known = operations.filter(({ returned }) => returned !== undefined);
  const unknown = operations.filter(({ returned }) => returned === undefined);
  for (const chosen of subsets(unknown)) {
    for (const order of permutations([...known, ...chosen])) if (explains(order)) return true;
  }
  return false;
}

function explains(order: readonly RegisterOperation[]): boolean {
  let state: string | undefined;
  for (const [i, { kind, value, expected, result, returned }] of order.entries()) {
    // Nothing comes after what was called when it had returned already.
    if (returned !== undefined && order.slice(0, i).some(({ invoked }) => invoked > returned)) return false;
    if (kind === "get") {
      if (returned !== undefined && result !== state) return false;
    } else if (kind === "put") {
      state = value;
    } else {
      if (returned !== undefined && result !== (state === expected)) return false;
      if (state === expected) state = value;
    }
  }
  return true;
}

const value = fc.constantFrom("a", "b", "c");
const operation = fc
  .record({
    kind: fc.constantFrom("put" as const, "get" as const, "cas" as const),
    value,
    expected: fc.option(value, { nil: undefined }),
    found: fc.option(value, { nil: undefined }),
    swapped: fc.boolean(),
    invoked: fc.nat(8),
    lasting: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined, freq: 6 }),
  })
  .map(({ kind, value, expected, found, swapped, invoked, lasting }): RegisterOperation => {
    const returned = lasting === undefined ? undefined : invoked + lasting;
    const result = kind === "get" ? found : kind === "cas" ? swapped : undefined;
    return { kind, value, expected, invoked, returned, result };
  });

describe("isLinearizable()", () => {
  it("agrees with brute force", () => {
    let linearizable = 0;
    fc.assert(
      fc.property(fc.array(operation, { minLength: 2, maxLength: 6 }), (operations) => {
        const expected = bruteForce(operations);
        if (expected) linearizable++;
        expect(isLinearizable(operations)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
    // Both answers occur often enough to mean something.
    expect(linearizable).toBeGreaterThan(200);
    expect(linearizable).toBeLessThan(1800);
  });

  it("takes what a register did, whatever the overlap, and not when a read is of before", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(30), fc.nat(30)), { minLength: 5, maxLength: 150 }),
        (plan) => {
          let state: string | undefined;
          const operations = plan.map(([writes, before, after], i): RegisterOperation => {
            // It takes place at 10 * i, and was called and answered around that.
            const times = { invoked: i * 10 - before, returned: i * 10 + after };
            if (!writes) return { kind: "get", result: state, ...times };
            state = `v${i}`;
            return { kind: "put", value: state, ...times };
          });
          expect(isLinearizable(operations)).toBe(true);
          const end = plan.length * 10 + 1000;
          const stale: RegisterOperation = { kind: "get", result: "never written", invoked: end, returned: end + 1 };
          expect(isLinearizable([...operations, stale])).toBe(false);
        },
      ),
      { numRuns: 100 },
    );
  });

  it("a lost write is found, and one whose outcome is not known is no loss", () => {
    const put = { kind: "put", value: "x", invoked: 0 } as const;
    const read = { kind: "get", result: undefined, invoked: 20, returned: 30 } as const;
    expect(isLinearizable([{ ...put, returned: 10 }, read])).toBe(false);
    expect(isLinearizable([{ ...put, returned: undefined }, read])).toBe(true);
    const later = { kind: "get", result: "x", invoked: 40, returned: 50 } as const;
    expect(isLinearizable([{ ...put, returned: undefined }, read, later])).toBe(true);
    expect(isLinearizable([{ ...put, returned: undefined }, { ...later, invoked: 1, returned: 2 }, read])).toBe(false);
  });
});
