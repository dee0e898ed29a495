/** Instants: the server speaks nanoseconds as strings, the page thinks in milliseconds with a fraction. */

const DIGITS = /^-?\d{1,19}$/;

/** Milliseconds of a 64-bit count of nanoseconds written as a string; null if it is none. */
export function msFromNanos(value: unknown): number | null {
  if (typeof value !== 'string' || !DIGITS.test(value)) return null;
  return Number(BigInt(value) / 1000n) / 1000; // microseconds fit a double, nanoseconds do not
}

const MEASURED_MS = 1_000;

interface Sample {
  readonly offsetMs: number;
  readonly roundTripMs: number;
}

/**
 * What the server's clock says minus what ours says, as in NTP: a ping is answered with the server's time, which is
 * taken to be the middle of the round trip. Of the recent answers the fastest is trusted, its error is at most half its
 * round trip. Until the first answer the stamp of any message serves, as if it had taken no time.
 */
export class ServerClock {
  private samples: Sample[] = [];

  constructor(private readonly samplesMax = 12) {}

  /** A ping sent at `sentMs` came back at `receivedMs` with the server's time. */
  pong(serverMs: number, sentMs: number, receivedMs: number): void {
    this.samples.push({ offsetMs: serverMs - (sentMs + receivedMs) / 2, roundTripMs: receivedMs - sentMs });
    if (this.samples.length > this.samplesMax) this.samples.shift();
  }

  /** A message stamped by the server has arrived. */
  stamp(serverMs: number, receivedMs: number): void {
    if (this.samples.length === 0) this.samples.push({ offsetMs: serverMs - receivedMs, roundTripMs: 10_000 });
  }

  get known(): boolean {
    return this.samples.length > 0;
  }

  /** An answer was quick enough to speak of single milliseconds. */
  get measured(): boolean {
    return this.samples.some((sample) => sample.roundTripMs < MEASURED_MS);
  }

  /** Server time at our instant `localMs`. */
  at(localMs: number): number {
    if (!this.known) return localMs;
    const best = this.samples.reduce((a, b) => (b.roundTripMs < a.roundTripMs ? b : a));
    return localMs + best.offsetMs;
  }

  /** Another server, another clock. */
  reset(): void {
    this.samples = [];
  }
}
