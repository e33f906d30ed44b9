// The one place that reads a clock. Monotonic milliseconds: a jump of the wall clock changes nothing in a log.

/** Milliseconds since some fixed moment, with a fraction; never goes back. */
export function nowMs(): number {
  return performance.now();
}

/** The date so many milliseconds after the beginning of 1970; no clock is read for it. */
export function dateAt(ms: number): Date {
  return new Date(ms);
}
