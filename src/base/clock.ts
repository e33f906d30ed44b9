// The one place that reads a clock. Monotonic milliseconds: a jump of the wall clock changes nothing in a log.

// Kept: the global is a getter that takes longer than the clock does.
const clock = performance;

/** Milliseconds since some fixed moment, with a fraction; never goes back. */
export function nowMs(): number {
  return clock.now();
}

/** The date so many milliseconds after the beginning of 1970; no clock is read for it. */
export function dateAt(ms: number): Date {
  return new Date(ms);
}
