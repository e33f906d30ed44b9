// The one place that reads a clock. Monotonic milliseconds: a jump of the wall clock changes nothing in a log.

/** Milliseconds since some fixed moment, with a fraction; never goes back. */
export function nowMs(): number {
  return performance.now();
}
