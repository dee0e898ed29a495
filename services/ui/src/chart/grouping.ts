/**
 * What is drawn where many seconds share a pixel: bars are grouped to a round length, aligned to the clock, as wide as
 * the eye can tell apart. Pure; reads the columns, copies nothing.
 */

import type { BarStore } from '../bars';

export const STEPS_S: readonly number[] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/** The shortest round length whose bars are at least `least` pixels apart when one second takes `spacing` pixels. */
export function stepFor(spacing: number, least: number): number {
  return STEPS_S.find((step) => step * spacing >= least) ?? STEPS_S.at(-1)!;
}

export interface Group {
  /** start, Unix seconds, a multiple of the step */
  startS: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
  trades: number;
  incomplete: boolean;
}

/** Calls `visit` for each group of `stepS` seconds that has a bar in [fromS, toS], in order; the object is reused. */
export function eachGroup(bars: BarStore, fromS: number, toS: number, stepS: number, visit: (group: Group) => void): void {
  if (bars.firstS === null || bars.lastS === null) return;
  const from = Math.max(bars.firstS, Math.floor(fromS / stepS) * stepS);
  const to = Math.min(bars.lastS, Math.floor(toS));
  const group: Group = { startS: NaN, open: 0, high: 0, low: 0, close: 0, volume: 0, trades: 0, incomplete: false };
  const { open, high, low, close, volume, trades, flags, originS } = bars;
  for (let s = from; s <= to; s += 1) {
    const i = s - originS;
    const c = close[i]!;
    if (c !== c) continue; // NaN: no bar
    const start = s - (s % stepS);
    if (start !== group.startS) {
      if (group.startS === group.startS) visit(group);
      group.startS = start;
      group.open = open[i]!;
      group.high = high[i]!;
      group.low = low[i]!;
      group.volume = 0;
      group.trades = 0;
      group.incomplete = false;
    }
    if (high[i]! > group.high) group.high = high[i]!;
    if (low[i]! < group.low) group.low = low[i]!;
    group.close = c;
    group.volume += volume[i]!;
    group.trades += trades[i]!;
    if (flags[i]! & 1) group.incomplete = true;
  }
  if (group.startS === group.startS) visit(group);
}
