import { describe, expect, it } from 'vitest';

import { BarStore } from '../src/bars';
import { eachGroup, stepFor } from '../src/chart/grouping';
import { linePieces, spansOfDoubt } from '../src/chart/painter';
import { bar } from './fixtures';

const T0 = 1_763_900_000;

function filled(...bars: ReturnType<typeof bar>[]): BarStore {
  const store = new BarStore();
  bars.forEach((b) => store.apply(b));
  return store;
}

describe('BarStore', () => {
  it('keeps a second without a trade empty', () => {
    const store = filled(bar(T0, 10), bar(T0 + 2, 12));
    expect(store.at(T0 + 1)).toBeNull();
    expect([store.count, store.firstS, store.lastS]).toEqual([2, T0, T0 + 2]);
    expect(store.before(T0 + 1)?.close).toBe(10);
  });

  it('puts a revision in its place, however old the bar is', () => {
    const store = filled(bar(T0, 10), bar(T0 + 5_000, 12));
    expect(store.apply(bar(T0, 11, { revision: 1, state: 'REVISED', trades: 2 }))).toBe('changed');
    expect(store.at(T0)).toMatchObject({ close: 11, revision: 1, state: 'REVISED' });
    expect([store.count, store.revised]).toEqual([2, 1]);
  });

  it('takes a late first trade of a second that was empty without touching its neighbours', () => {
    const store = filled(bar(T0, 10), bar(T0 + 2, 12));
    store.apply(bar(T0 + 1, 11));
    expect([T0, T0 + 1, T0 + 2].map((s) => store.at(s)?.close)).toEqual([10, 11, 12]);
  });

  it('refuses older knowledge: a lower revision, an earlier state, fewer trades', () => {
    const held = bar(T0, 10, { revision: 2, state: 'REVISED', trades: 5 });
    for (const older of [{ revision: 1 }, { state: 'OPEN' as const }, { trades: 4 }]) {
      const store = filled(held);
      expect(store.apply({ ...held, close: 9, ...older })).toBe('refused');
      expect(store.at(T0)?.close).toBe(10);
    }
  });

  it('says when nothing changed, and keeps its version then', () => {
    const store = filled(bar(T0, 10));
    const before = store.version;
    expect(store.apply(bar(T0, 10))).toBe('same');
    expect(store.version).toBe(before);
  });

  it('grows to both sides without losing a bar', () => {
    const store = new BarStore();
    const seconds = [0, 7_000, -3_000, 40_000, 86_399, -20_000].map((s) => T0 + s);
    seconds.forEach((s, i) => store.apply(bar(s, i + 1)));
    expect(seconds.map((s) => store.at(s)?.close)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('lets the oldest go after two days', () => {
    const store = filled(bar(T0, 1), bar(T0 + 100_000, 2));
    store.apply(bar(T0 + 260_000, 3));
    expect(store.at(T0)).toBeNull();
    expect([store.count, store.firstS]).toEqual([2, T0 + 100_000]);
    expect(store.apply(bar(T0, 1))).toBe('refused');
  });

  it('joins gaps that touch', () => {
    const store = new BarStore();
    store.addGap({ fromS: 10, toS: 12 });
    store.addGap({ fromS: 30, toS: 31 });
    store.addGap({ fromS: 13, toS: 20 });
    store.addGap({ fromS: 11, toS: 15 });
    expect(store.gaps).toEqual([{ fromS: 10, toS: 20 }, { fromS: 30, toS: 31 }]);
  });

  it('knows the extent of what is in view, holes left out', () => {
    const store = filled(bar(T0, 10, { high: 20 }), bar(T0 + 9, 12, { low: 5 }));
    expect(store.extent(T0, T0 + 9)).toEqual({ min: 5, max: 20 });
    expect(store.extent(T0 + 1, T0 + 8)).toBeNull();
  });
});

describe('grouping', () => {
  it('groups to round lengths on the clock, sums volume and keeps open, high, low and close', () => {
    const t = T0 - (T0 % 60);
    const store = filled(bar(t + 1, 10), bar(t + 14, 8, { incomplete: true }), bar(t + 15, 9), bar(t + 44, 7));
    const seen: unknown[] = [];
    eachGroup(store, t, t + 60, 15, (g) => seen.push([g.startS - t, g.open, g.high, g.low, g.close, g.volume, g.incomplete]));
    expect(seen).toEqual([
      [0, 10, 10, 8, 8, 200, true],
      [15, 9, 9, 9, 9, 100, false],
      [30, 7, 7, 7, 7, 100, false],
    ]);
  });

  it('chooses the shortest step that can be told apart', () => {
    expect([6, 1.5, 0.1, 0.00001].map((spacing) => stepFor(spacing, 3))).toEqual([1, 2, 30, 3600]);
  });
});

describe('spansOfDoubt', () => {
  it('joins a gap with the incomplete bars at its ends, and ends at a whole bar', () => {
    const store = filled(bar(T0, 1), bar(T0 + 1, 1, { incomplete: true }), bar(T0 + 9, 1, { incomplete: true }), bar(T0 + 10, 1));
    store.addGap({ fromS: T0 + 1, toS: T0 + 8 });
    store.apply(bar(T0 + 20, 1, { incomplete: true }));
    const view = { fromS: T0 - 5, toS: T0 + 100 };
    expect(spansOfDoubt(store, view)).toEqual([{ fromS: T0 + 1, toS: T0 + 9 }, { fromS: T0 + 20, toS: T0 + 20 }]);
    expect(spansOfDoubt(new BarStore(), view)).toEqual([]);
  });
});

describe('linePieces', () => {
  const frame = (spacing: number) => ({ fromS: T0, toS: T0 + 1000, x: (s: number) => (s - T0) * spacing, y: (p: number) => -p });

  it('holds the price until the next trade and then steps', () => {
    const [piece] = linePieces(filled(bar(T0, 10), bar(T0 + 3, 11)), frame(10));
    expect(piece!.slice(-4)).toEqual([30, -10, 30, -11]);
  });

  it('breaks at a known gap and nowhere else', () => {
    const store = filled(bar(T0, 10), bar(T0 + 50, 11), bar(T0 + 100, 12));
    expect(linePieces(store, frame(1))).toHaveLength(1);
    store.addGap({ fromS: T0 + 60, toS: T0 + 70 });
    expect(linePieces(store, frame(1))).toHaveLength(2);
  });

  it('keeps the spike of a second that shares its pixel with others', () => {
    const store = filled(bar(T0, 10), bar(T0 + 1, 99), bar(T0 + 2, 10), bar(T0 + 3, 10));
    expect(linePieces(store, frame(0.01)).flat()).toContain(-99);
  });

  it('takes a whole day of 86,400 seconds in a few hundred corners', () => {
    const store = new BarStore();
    for (let s = 0; s < 86_400; s += 1) store.apply(bar(T0 + s, 100 + Math.sin(s / 500)));
    const corners = linePieces(store, { ...frame(1200 / 86_400), toS: T0 + 86_400 }).flat().length / 2;
    expect(corners).toBeLessThan(6 * 1200);
  });
});
