import { describe, expect, it } from 'vitest';

import type { Quote } from '../src/protocol';
import { changePercent, readKept, WATCHED_MAX, WatchList } from '../src/watchlist';

const DAY = { date: '2025-11-24', open: 1, high: 1, low: 1, volume: 0, trades: 0 };

function quote(symbol: string, price: number, previousClose: number | null = null): Quote {
  return { symbol, price, previousClose, eventMs: 1, previousPrice: null, direction: 0, day: DAY, tradesPerS: null, session: null, stamps: null };
}

describe('WatchList', () => {
  it('holds the newest quote of its own symbols, in the order in which they were added', () => {
    const watch = new WatchList();
    watch.add('MSFT');
    watch.add('AAPL');
    expect(watch.apply({ type: 'quote', quote: quote('AAPL', 227.125, 227) })).toBe(true);
    expect(watch.apply({ type: 'quote', quote: quote('AAPL', 227.5, 227) })).toBe(true);
    expect(watch.apply({ type: 'quote', quote: quote('TSLA', 1) })).toBe(false);
    expect(watch.all.map(({ symbol, quote: q, digits }) => [symbol, q?.price, digits])).toEqual([
      ['MSFT', undefined, 2],
      ['AAPL', 227.5, 3],
    ]);
  });

  it('takes quote and status of a snapshot, and keeps a quote that a snapshot lacks', () => {
    const watch = new WatchList();
    watch.add('AAPL');
    const status = { source: 'stale', trading: 'trading', sinceMs: 1, reason: 'silence' } as const;
    const rest = { type: 'snapshot', symbol: 'AAPL', parts: 1, source: 'memory', incomplete: false, fromS: null, bars: [] } as const;
    watch.apply({ ...rest, part: 0, status, quote: quote('AAPL', 5) });
    watch.apply({ ...rest, part: 0, status: null, quote: null });
    expect(watch.all).toMatchObject([{ quote: { price: 5 }, status: { source: 'stale' } }]);
    expect(watch.apply({ ...rest, part: 1, status: null, quote: null })).toBe(false);
  });

  it('is bounded, and has room again for what is taken off', () => {
    const watch = new WatchList();
    for (let i = 0; i < WATCHED_MAX; i += 1) expect(watch.add(`S${i}`)).toBe(true);
    expect([watch.add('MORE'), watch.add('S0'), watch.symbols.length]).toEqual([false, true, WATCHED_MAX]);
    watch.remove('S0');
    expect(watch.add('MORE')).toBe(true);
  });

  it('tells the change since the previous close only where both are known', () => {
    const of = (q: Quote | null) => changePercent({ symbol: 'A', quote: q, status: null, digits: 2 });
    expect([of(quote('A', 110, 100)), of(quote('A', 110)), of(quote('A', 1, 0)), of(null)]).toEqual([10, null, null, null]);
  });

  it.each([[null, null], ['nonsense', null], ['{"a":1}', null], ['[]', []], ['["A",1,"","B"]', ['A', 'B']]])('reads %s kept earlier as %j', (text, list) => {
    expect(readKept(text)).toEqual(list);
  });
});
