// When `stablelog replay` kills its child: the plan, drawn from a seed before the first start, so that a run can be had
// again. The moment within a system call remains the machine's choice.

import { viewOf } from "../base/bytes.js";
import { randomFill } from "../base/random.js";

/** One kill of a child that saves. */
export interface Kill {
  /** It is due once this many batches are acknowledged. */
  readonly at: number;
  /** The child may submit batches up to this one: it never runs away from a kill that is due. */
  readonly until: number;
  /** How long after `at` it comes; 0 is at once, with saves in flight. */
  readonly delayMs: number;
  /** The start before is killed too, this share of the usual opening time after the opening began. Undefined: it is not. */
  readonly whileOpening: number | undefined;
}

/** A seed for a run that was given none. */
export function freshSeed(): number {
  return viewOf(randomFill(new Uint8Array(4))).getUint32(0);
}

/** Numbers of [0, 1) from a 32-bit seed: a counter with a strong mix, the same on every machine. */
export function seededRandom(seed: number): () => number {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x9e3779b9) >>> 0;
    let mixed = counter;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 4294967296;
  };
}

const MAX_DELAY_MS = 3;

/**
 * `kills` kills over `batches` batches, one in each of as many equal stretches. From two on, at least one of them is
 * preceded by a kill while the log is being opened.
 */
export function planKills(seed: number, kills: number, batches: number, window: number): Kill[] {
  const random = seededRandom(seed);
  const last = Math.max(0, batches - 1);
  const sure = kills < 2 ? -1 : 1 + Math.floor(random() * (kills - 1));
  return Array.from({ length: kills }, (_none, i): Kill => {
    const at = Math.min(last, Math.floor(((i + random()) * batches) / kills));
    // Some groups of saves beyond: the kill that `at` sets off finds the child at work on them.
    const until = Math.min(last, at + Math.floor((2 + 2 * random()) * window));
    const delayMs = random() < 0.6 ? 0 : random() * MAX_DELAY_MS;
    const share = random() * 1.5;
    const opening = random() < 0.25 || i === sure;
    // The first start has nothing to recover yet.
    return { at, until, delayMs, whileOpening: opening && i > 0 ? share : undefined };
  });
}
