// The one place that draws randomness. Logs use it for their identity only; who needs a repeatable run (a simulated disk,
// a property test) injects its own source where the API takes one.

import { randomFillSync } from "node:crypto";

/** Fills `target` with random bytes from the system and returns it. */
export function randomFill(target: Uint8Array): Uint8Array {
  return randomFillSync(target);
}
