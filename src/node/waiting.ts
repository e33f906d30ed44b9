// Waiting: a promise that somebody else settles, and that a signal may end. Used by node.ts and replica.ts, for whom a thousand of
// them may wait at once: without a signal one costs nothing but itself.

import { StableLogError } from "../base/errors.js";

export class Waiting<T> {
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  readonly #signal: AbortSignal | undefined;
  /** Ended by the signal: nobody listens any more, and whoever holds it may forget it. */
  cancelled = false;

  /** A signal that has aborted already cancels at once: look at `cancelled`. */
  constructor(resolve: (value: T) => void, reject: (error: unknown) => void, signal: AbortSignal | undefined) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#signal = signal;
    if (signal === undefined) return;
    if (signal.aborted) {
      this.cancelled = true;
      reject(signal.reason);
    } else {
      signal.addEventListener("abort", this, { once: true });
    }
  }

  resolve(value: T): void {
    this.#signal?.removeEventListener("abort", this);
    this.#resolve(value);
  }

  reject(error: unknown): void {
    this.#signal?.removeEventListener("abort", this);
    this.#reject(error);
  }

  /** The signal calls the listener itself, which spares each of them a closure. */
  handleEvent(): void {
    this.cancelled = true;
    this.#reject(this.#signal?.reason);
  }
}

/** What who waits hears when the node stops; `cause` is why, undefined where that was asked for. */
export function stopped(cause: unknown): StableLogError {
  return new StableLogError("ERR_CLOSED", "the raft node is stopped", cause === undefined ? {} : { cause });
}

export function invalid(message: string): StableLogError {
  return new StableLogError("ERR_INVALID_ARGUMENT", message);
}
