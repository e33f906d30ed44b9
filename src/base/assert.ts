// Assertions for our own bugs. They stay on in production: a log that has lost track of itself must stop before it writes.
// Errors that a user or a disk can cause are StableLogErrors (errors.ts), never assertions.

/** A broken invariant of stablelog itself; nothing a caller did. */
export class AssertionError extends Error {
  constructor(message: string) {
    super(`stablelog invariant broken: ${message}`);
    this.name = "AssertionError";
  }
}

/** Throws {@link AssertionError} unless `condition` holds. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** For the branch that the types say cannot be taken. */
export function unreachable(value: never): never {
  throw new AssertionError(`unexpected ${String(value)}`);
}
