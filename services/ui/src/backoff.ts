/** How long to wait before the next attempt to connect: doubling, capped, with jitter, so that pages do not come back in step. */

export interface BackoffOptions {
  readonly baseMs: number;
  readonly capMs: number;
}

export const RECONNECT: BackoffOptions = { baseMs: 250, capMs: 5_000 };

/**
 * Wait before attempt number `attempt` (0 is the first one after a loss).
 * "Equal jitter": half of the doubled, capped step is certain, the other half drawn by `random` in [0, 1).
 */
export function backoffMs(attempt: number, random: () => number, options: BackoffOptions = RECONNECT): number {
  const step = Math.min(options.capMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(step / 2 + (step / 2) * random());
}
