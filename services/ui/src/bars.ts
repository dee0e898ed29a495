/**
 * The day's 1-second bars in columns: index = start − origin, so a second without a trade is a hole and the time axis is
 * true. A revision replaces its cell in place; nothing is ever filled in.
 *
 * A bar that is older knowledge than the one held (an answer over HTTP that was overtaken by the stream) is refused:
 * `revision`, then `state`, then `trades` say which of two is the newer one.
 */

export type BarState = 'OPEN' | 'CLOSED' | 'REVISED' | 'FINAL';

export interface Bar {
  /** label = start, Unix seconds; the bar covers [start, start + 1) in event time */
  readonly startS: number;
  readonly open: number;
  readonly high: number;
  readonly low: number;
  readonly close: number;
  readonly volume: number;
  readonly trades: number;
  readonly revision: number;
  readonly state: BarState;
  /** a known gap of the feed touches it */
  readonly incomplete: boolean;
}

/** A span in which the feed is known to have been away, in Unix seconds, both ends included. */
export interface GapSpan {
  readonly fromS: number;
  readonly toS: number;
}

export type Applied = 'new' | 'changed' | 'same' | 'refused';

export const STATES: readonly BarState[] = ['OPEN', 'CLOSED', 'REVISED', 'FINAL'];
const INCOMPLETE = 1;
const STATE_SHIFT = 1;
const CAPACITY_FIRST = 7_200;
const CAPACITY_MAX = 2 * 86_400;

export class BarStore {
  originS = 0;
  open = new Float64Array(0);
  high = new Float64Array(0);
  low = new Float64Array(0);
  close = new Float64Array(0);
  volume = new Float64Array(0);
  trades = new Float64Array(0);
  revision = new Uint32Array(0);
  flags = new Uint8Array(0);
  /** start of the first and last bar held; null while there is none */
  firstS: number | null = null;
  lastS: number | null = null;
  count = 0;
  revised = 0;
  gaps: GapSpan[] = [];
  /** rises with each change, so that a painter knows whether to paint */
  version = 0;

  get capacity(): number {
    return this.close.length;
  }

  clear(): void {
    Object.assign(this, new BarStore(), { version: this.version + 1 });
  }

  has(startS: number): boolean {
    const i = startS - this.originS;
    return i >= 0 && i < this.capacity && !Number.isNaN(this.close[i]);
  }

  at(startS: number): Bar | null {
    if (!this.has(startS)) return null;
    const i = startS - this.originS;
    const flags = this.flags[i]!;
    return {
      startS,
      open: this.open[i]!,
      high: this.high[i]!,
      low: this.low[i]!,
      close: this.close[i]!,
      volume: this.volume[i]!,
      trades: this.trades[i]!,
      revision: this.revision[i]!,
      state: STATES[(flags >> STATE_SHIFT) & 3]!,
      incomplete: (flags & INCOMPLETE) !== 0,
    };
  }

  isIncomplete(startS: number): boolean {
    return this.has(startS) && (this.flags[startS - this.originS]! & INCOMPLETE) !== 0;
  }

  /** The last bar that starts at or before `startS`. */
  before(startS: number): Bar | null {
    if (this.firstS === null || this.lastS === null) return null;
    for (let s = Math.min(startS, this.lastS); s >= this.firstS; s -= 1) if (this.has(s)) return this.at(s);
    return null;
  }

  last(): Bar | null {
    return this.lastS === null ? null : this.at(this.lastS);
  }

  apply(bar: Bar): Applied {
    const held = this.at(bar.startS);
    if (held && isOlder(bar, held)) return 'refused';
    if (held && isSame(bar, held)) return 'same';
    if (!this.reserve(bar.startS)) return 'refused';
    this.put(bar);
    if (!held) this.count += 1;
    if (bar.revision > (held?.revision ?? 0)) this.revised += 1;
    this.firstS = this.firstS === null ? bar.startS : Math.min(this.firstS, bar.startS);
    this.lastS = this.lastS === null ? bar.startS : Math.max(this.lastS, bar.startS);
    this.version += 1;
    return held ? 'changed' : 'new';
  }

  /** Takes over what `older` holds before `untilS`: bars and gaps. */
  prepend(older: BarStore, untilS: number): void {
    for (const bar of older.all()) if (bar.startS < untilS) this.apply(bar);
    for (const gap of older.gaps) this.addGap(gap);
  }

  /** All bars in order. */
  *all(): Generator<Bar> {
    if (this.firstS === null || this.lastS === null) return;
    for (let s = this.firstS; s <= this.lastS; s += 1) {
      const bar = this.at(s);
      if (bar) yield bar;
    }
  }

  addGap(gap: GapSpan): void {
    const held = this.gaps.find((g) => g.fromS <= gap.toS + 1 && gap.fromS <= g.toS + 1);
    if (held) {
      if (held.fromS <= gap.fromS && held.toS >= gap.toS) return;
      this.gaps = this.gaps.filter((g) => g !== held);
      this.addGap({ fromS: Math.min(held.fromS, gap.fromS), toS: Math.max(held.toS, gap.toS) });
      return;
    }
    this.gaps = [...this.gaps, gap].sort((a, b) => a.fromS - b.fromS);
    this.version += 1;
  }

  /** Lowest low and highest high of the bars that start in [fromS, toS], the first included price carried in. */
  extent(fromS: number, toS: number): { min: number; max: number } | null {
    const from = Math.max(0, Math.ceil(fromS) - this.originS);
    const to = Math.min(this.capacity - 1, Math.floor(toS) - this.originS);
    let min = Infinity;
    let max = -Infinity;
    for (let i = from; i <= to; i += 1) {
      // A comparison with NaN is false: holes fall through by themselves.
      if (this.low[i]! < min) min = this.low[i]!;
      if (this.high[i]! > max) max = this.high[i]!;
    }
    return min <= max ? { min, max } : null;
  }

  private put(bar: Bar): void {
    const i = bar.startS - this.originS;
    this.open[i] = bar.open;
    this.high[i] = bar.high;
    this.low[i] = bar.low;
    this.close[i] = bar.close;
    this.volume[i] = bar.volume;
    this.trades[i] = bar.trades;
    this.revision[i] = bar.revision;
    this.flags[i] = (bar.incomplete ? INCOMPLETE : 0) | (STATES.indexOf(bar.state) << STATE_SHIFT);
  }

  /** Makes room for a second: grows both ways by doubling up to two days, then lets the oldest go. */
  private reserve(startS: number): boolean {
    if (this.capacity === 0) {
      this.reallocate(startS - CAPACITY_FIRST / 4, CAPACITY_FIRST);
      return true;
    }
    if (startS >= this.originS && startS < this.originS + this.capacity) return true;
    const first = Math.min(startS, this.firstS ?? startS);
    const last = Math.max(startS, this.lastS ?? startS);
    const needed = last - first + 1;
    if (needed > CAPACITY_MAX && startS === first) return false;
    const capacity = Math.min(CAPACITY_MAX, Math.max(CAPACITY_FIRST, 2 * needed));
    const spare = Math.max(0, capacity - needed);
    this.reallocate(needed > capacity ? last - capacity + 1 : first - Math.floor(spare / 8), capacity);
    return true;
  }

  private reallocate(originS: number, capacity: number): void {
    const shift = originS - this.originS;
    const move = (old: Float64Array<ArrayBuffer>, fill: number): Float64Array<ArrayBuffer> => {
      const next = new Float64Array(capacity).fill(fill);
      const from = Math.max(0, shift);
      const to = Math.min(old.length, shift + capacity);
      if (to > from) next.set(old.subarray(from, to), from - shift);
      return next;
    };
    this.open = move(this.open, Number.NaN);
    this.high = move(this.high, Number.NaN);
    this.low = move(this.low, Number.NaN);
    this.close = move(this.close, Number.NaN);
    this.volume = move(this.volume, 0);
    this.trades = move(this.trades, 0);
    this.revision = Uint32Array.from(move(Float64Array.from(this.revision), 0));
    this.flags = Uint8Array.from(move(Float64Array.from(this.flags), 0));
    this.originS = originS;
    if (this.firstS !== null && this.firstS < originS) this.refind(originS);
  }

  private refind(originS: number): void {
    this.count = 0;
    this.firstS = null;
    for (let i = 0; i < this.capacity; i += 1) {
      if (Number.isNaN(this.close[i])) continue;
      this.firstS ??= originS + i;
      this.count += 1;
    }
  }
}

function isOlder(bar: Bar, held: Bar): boolean {
  if (bar.revision !== held.revision) return bar.revision < held.revision;
  const rank = STATES.indexOf(bar.state) - STATES.indexOf(held.state);
  if (rank !== 0) return rank < 0;
  return bar.trades < held.trades;
}

function isSame(bar: Bar, held: Bar): boolean {
  return (
    bar.close === held.close &&
    bar.high === held.high &&
    bar.low === held.low &&
    bar.open === held.open &&
    bar.volume === held.volume &&
    bar.trades === held.trades &&
    bar.revision === held.revision &&
    bar.state === held.state &&
    bar.incomplete === held.incomplete
  );
}
