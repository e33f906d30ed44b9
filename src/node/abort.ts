// Waiting that a signal may end. Used by node.ts and replica.ts.

const nothing = (): void => {};

/**
 * Calls `cancel` once with the signal's reason when it aborts, at once if it has. Returns what lets go of the signal; without a
 * signal that costs nothing.
 */
export function onAbort(signal: AbortSignal | undefined, cancel: (reason: unknown) => void): () => void {
  if (signal === undefined) return nothing;
  if (signal.aborted) {
    cancel(signal.reason);
    return nothing;
  }
  const listener = (): void => cancel(signal.reason);
  signal.addEventListener("abort", listener, { once: true });
  return () => signal.removeEventListener("abort", listener);
}
