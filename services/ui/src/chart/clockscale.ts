/**
 * The horizontal scale in whole seconds of the market's own clock: ticks stand at round times of day (the library's own
 * puts them anywhere within a minute, and rounds in UTC only).
 */

import type {
  ChartOptionsImpl,
  IHorzScaleBehavior,
  InternalHorzScaleItem,
  InternalHorzScaleItemKey,
  LocalizationOptions,
  Mutable,
  TickMark,
  TickMarkWeightValue,
  TimeMark,
  TimeScalePoint,
} from 'lightweight-charts';

import type { Zone } from '../format';

/** Each divides the next, so that ticks of any density are evenly spaced. */
export const TICKS_S: readonly number[] = [1, 5, 10, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400];

/** Rank of a local second: the position of the longest tick that it falls on. */
export function tickRank(localS: number): number {
  let rank = 0;
  while (rank + 1 < TICKS_S.length && localS % TICKS_S[rank + 1]! === 0) rank += 1;
  return rank;
}

export function tickLabel(s: number, rank: number, zone: Zone): string {
  const step = TICKS_S[rank]!;
  if (step >= 86_400) return zone.day(s);
  return step >= 60 ? zone.minutes(s) : zone.clock(s);
}

type Options = ChartOptionsImpl<number>;
const second = (item: InternalHorzScaleItem): number => item as unknown as number;

export class ClockScale implements IHorzScaleBehavior<number> {
  private chosen: Options | null = null;

  constructor(private readonly zone: () => Zone) {}

  options(): Options {
    return this.chosen!;
  }

  setOptions(options: Options): void {
    this.chosen = options;
  }

  preprocessData(): void {
    // Times are numbers already.
  }

  updateFormatter(_options: LocalizationOptions<number>): void {
    // The zone is asked for each label.
  }

  createConverterToInternalObj(): (time: number) => InternalHorzScaleItem {
    return (time) => this.convertHorzItemToInternal(time);
  }

  convertHorzItemToInternal(item: number): InternalHorzScaleItem {
    return item as unknown as InternalHorzScaleItem;
  }

  key(item: InternalHorzScaleItem | number): InternalHorzScaleItemKey {
    return item as unknown as InternalHorzScaleItemKey;
  }

  cacheKey(item: InternalHorzScaleItem): number {
    return second(item);
  }

  formatHorzItem(item: InternalHorzScaleItem): string {
    return this.zone().clock(second(item));
  }

  formatTickmark(mark: TickMark): string {
    return tickLabel(second(mark.time), mark.weight, this.zone());
  }

  maxTickMarkWeight(marks: TimeMark[]): TickMarkWeightValue {
    return marks.reduce((most, mark) => (mark.weight > most ? mark.weight : most), 0 as TickMarkWeightValue);
  }

  fillWeightsForPoints(points: readonly Mutable<TimeScalePoint>[], start: number): void {
    const first = points[start];
    if (!first) return;
    // A span is a day or two, and clocks change outside trading days: one offset serves all of it.
    const offsetS = this.zone().offsetS(second(first.time));
    for (let i = start; i < points.length; i += 1) {
      const point = points[i]!;
      point.timeWeight = tickRank(second(point.time) + offsetS) as TickMarkWeightValue;
    }
  }
}
