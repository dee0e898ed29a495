import { describe, expect, it } from 'vitest';

import { tickLabel, tickRank, TICKS_S } from '../src/chart/clockscale';
import { Viewport } from '../src/chart/viewport';
import * as format from '../src/format';
import { emptyNotice, explain, isFresh, pillText } from '../src/view/health';
import { movedPart } from '../src/view/quote';
import { rank } from '../src/view/search';

const T0 = 1_763_900_000;

describe('format', () => {
  it('writes prices with the decimals of the feed and a true minus sign', () => {
    expect([format.price(1234.5, 2), format.price(null, 2), format.signed(-2.5, 2), format.signed(2.5, 2), format.signed(-0.001, 2)]).toEqual([
      '1,234.50',
      '–',
      '−2.50',
      '+2.50',
      '0.00',
    ]);
    expect([format.percent(-1.234), format.percent(null)]).toEqual(['−1.23%', '–']);
  });

  it.each([[0, '0'], [981, '981'], [0.0118, '0.0118'], [12_400, '12.4K'], [999_960, '1.00M'], [3_070_000, '3.07M'], [2.5e9, '2.50B']])('compacts %s to %s', (value, text) => {
    expect(format.compact(value)).toBe(text);
  });

  it.each([[400, '0.4 s'], [12_400, '12 s'], [180_000, '3 min'], [7_200_000, '2 h'], [400_000_000, '5 d'], [-5, '0.0 s']])('says the age of %s ms as %s', (ms, text) => {
    expect(format.age(ms)).toBe(text);
  });

  it.each([[189.92, 2], [12, 0], [0.0001, 4], [64_210.5, 1], [0.1 + 0.2, 1]])('finds the decimals of %s', (value, digits) => {
    expect(format.decimalsOf(value)).toBe(digits);
  });

  it('tells the time of New York in summer and winter', () => {
    const ny = format.zone('America/New_York');
    const winter = Date.UTC(2025, 10, 24, 14, 30) / 1000;
    const summer = Date.UTC(2025, 6, 1, 13, 30) / 1000;
    expect([ny.clock(winter), ny.label(winter), ny.offsetS(winter)]).toEqual(['09:30:00', 'EST', -18_000]);
    expect([ny.minutes(summer), ny.label(summer), ny.offsetS(summer)]).toEqual(['09:30', 'EDT', -14_400]);
    expect(format.zone('UTC').offsetS(winter)).toBe(0);
  });
});

describe('ticks', () => {
  it('are evenly spaced: each step divides the next', () => {
    TICKS_S.slice(1).forEach((step, i) => expect(step % TICKS_S[i]!).toBe(0));
  });

  it('rank round times higher', () => {
    const utc = format.zone('UTC');
    const at = (h: number, m: number, s: number): string => {
      const t = Date.UTC(2025, 10, 24, h, m, s) / 1000;
      return tickLabel(t, tickRank(t), utc);
    };
    expect([at(0, 0, 0), at(9, 30, 0), at(9, 31, 0), at(9, 31, 10)]).toEqual(['Mon 24 Nov', '09:30', '09:31', '09:31:10']);
  });
});

describe('Viewport', () => {
  it('lets a young day grow from the left, then shows all of it', () => {
    const view = new Viewport();
    const young = view.range(T0, T0 + 10);
    expect(young.toS - young.fromS).toBeGreaterThan(100);
    expect(view.range(T0, T0 + 20).fromS).toBe(young.fromS);
    const old = view.range(T0, T0 + 7_200);
    expect(old.fromS).toBeLessThanOrEqual(T0);
    expect(old.toS).toBeGreaterThan(T0 + 7_200);
  });

  it('moves with the edge until the reader moves away, and follows again when the reader comes back', () => {
    const view = new Viewport();
    view.choose('5m');
    const before = view.range(T0, T0 + 3_600);
    expect(view.range(T0, T0 + 3_610).toS - before.toS).toBeCloseTo(10);
    view.moved({ fromS: T0 + 1_000, toS: T0 + 1_300 }, T0 + 3_610);
    expect([view.following, view.preset]).toEqual([false, null]);
    expect(view.range(T0, T0 + 3_700)).toEqual({ fromS: T0 + 1_000, toS: T0 + 1_300 });
    view.moved({ fromS: T0 + 3_400, toS: T0 + 3_720 }, T0 + 3_700);
    expect(view.following).toBe(true);
    expect(view.range(T0, T0 + 3_710).toS).toBeGreaterThan(T0 + 3_710);
  });

  it('jumps to live with the zoom it has', () => {
    const view = new Viewport();
    view.moved({ fromS: T0, toS: T0 + 106 }, T0 + 3_600);
    view.live();
    const range = view.range(T0, T0 + 3_600);
    expect(range.toS - range.fromS).toBeCloseTo(106, 0);
  });
});

describe('words', () => {
  it('count down to the next attempt', () => {
    expect([3_200, 900, -5].map((left) => pillText({ kind: 'waiting', untilMs: 10_000 + left }, 10_000))).toEqual([
      'Reconnecting in 4 s',
      'Reconnecting in 1 s',
      'Reconnecting',
    ]);
  });

  it('exist for each state, and only a current price is called fresh', () => {
    const states = ['connecting', 'unknown-symbol', 'pending', 'halted', 'closed', 'live'] as const;
    for (const kind of states) expect(pillText({ kind }, 0) + explain({ kind }) + (emptyNotice({ kind }, 'A')?.title ?? '')).not.toBe('');
    expect(states.filter((kind) => isFresh({ kind }))).toEqual(['halted', 'closed', 'live']);
  });

  it('colour only the digits that moved', () => {
    expect(movedPart('231.42', '231.57')).toEqual(['231.', '57']);
    expect(movedPart('99.99', '100.00')).toEqual(['', '100.00']);
  });
});

describe('search', () => {
  const entries = ['AAPL', 'MSFT', 'XBTC', 'BINANCE:BTCUSDT', 'META', 'M'].map((symbol) => ({ symbol, price: null }));
  const found = (typed: string): string[] => rank(entries, typed).map((entry) => entry.symbol);

  it('puts the exact symbol first, then beginnings, then parts after a separator', () => {
    expect(found('m')).toEqual(['M', 'META', 'MSFT']);
    expect(found('btc')).toEqual(['BINANCE:BTCUSDT', 'XBTC']);
    expect(found('')).toHaveLength(6);
    expect(found('zz')).toEqual([]);
  });
});
