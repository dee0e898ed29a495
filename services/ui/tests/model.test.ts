import { beforeEach, describe, expect, it } from 'vitest';

import { Model } from '../src/model';
import type { Quote, Snapshot } from '../src/protocol';
import { ServerClock } from '../src/time';
import { bar } from './fixtures';

const T0 = 1_763_900_000;
const NOW = (T0 + 100) * 1000;

const quote = (more: Partial<Quote> = {}): Quote => ({
  symbol: 'AAPL',
  price: 101,
  eventMs: (T0 + 99) * 1000,
  previousPrice: 100,
  direction: 1,
  day: { date: '2025-11-23', open: 99, high: 102, low: 98, volume: 10, trades: 2 },
  previousClose: 100,
  tradesPerS: 1,
  session: 'regular',
  stamps: null,
  ...more,
});
const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  type: 'snapshot',
  symbol: 'AAPL',
  part: 0,
  parts: 1,
  source: 'store',
  incomplete: false,
  fromS: T0,
  status: { source: 'live', trading: 'trading', sinceMs: null, reason: '' },
  quote: quote(),
  bars: [bar(T0, 100), bar(T0 + 1, 101)],
  ...more,
});

let model: Model;
beforeEach(() => {
  model = new Model(new ServerClock());
  model.choose('AAPL');
  model.link = { state: 'open' };
});

describe('Model', () => {
  it('is live after the snapshot', () => {
    expect(model.health.kind).toBe('connecting');
    model.apply(snapshot(), NOW);
    expect(model.health.kind).toBe('live');
    expect([model.bars.count, model.change, model.changePercent]).toEqual([2, 1, 1]);
  });

  it('keeps the old bars on show until the last part of a new snapshot is there', () => {
    model.apply(snapshot(), NOW);
    const shown = model.bars;
    model.apply(snapshot({ parts: 2, bars: [bar(T0, 50)] }), NOW);
    expect(model.bars).toBe(shown);
    model.apply(snapshot({ part: 1, parts: 2, quote: null, bars: [bar(T0 + 5, 55)] }), NOW);
    expect([model.bars.at(T0)?.close, model.bars.at(T0 + 1), model.bars.at(T0 + 5)?.close]).toEqual([50, null, 55]);
  });

  it('drops a snapshot that lacks a part and asks for everything the next time', () => {
    model.apply(snapshot(), NOW);
    model.apply(snapshot({ part: 1, parts: 2, bars: [bar(T0, 1)] }), NOW);
    expect(model.bars.at(T0)?.close).toBe(100);
    expect(model.resumeFrom(NOW)).toBeNull();
  });

  it('asks after a loss only for bars that may have changed, and keeps the final ones', () => {
    model.apply(snapshot({ bars: [bar(T0, 100), bar(T0 + 5_000, 101)] }), NOW);
    const from = model.resumeFrom(NOW)!;
    expect(from).toBe(T0 + 5_000 - 960);
    model.apply(snapshot({ fromS: from, bars: [bar(T0 + 5_001, 102)] }), NOW);
    expect([T0, T0 + 5_000, T0 + 5_001].map((s) => model.bars.at(s)?.close)).toEqual([100, undefined, 102]);
  });

  it('trusts nothing that it held when the last snapshot was not whole', () => {
    model.apply(snapshot({ source: 'cache' }), NOW);
    expect(model.resumeFrom(NOW)).toBeNull();
    model.apply(snapshot({ incomplete: true }), NOW);
    expect(model.resumeFrom(NOW)).toBeNull();
  });

  it('shows 24 hours of a feed that never closes', () => {
    model.config = { feed: '', version: '', calendar: '24x7', tradeDate: '', dayFromS: 0, dayToS: 0, sessions: [], ordersUrl: null };
    expect(model.resumeFrom(NOW)).toBe(T0 + 100 - 86_400);
  });

  it('ignores what belongs to a symbol that was left', () => {
    model.apply(snapshot(), NOW);
    model.choose('MSFT');
    expect(model.apply(snapshot(), NOW)).toBe(false);
    expect(model.apply({ type: 'quote', quote: quote() }, NOW)).toBe(false);
    expect([model.quote, model.bars.count]).toEqual([null, 0]);
  });

  it('tells connection, source and market apart, the worst first', () => {
    model.apply(snapshot({ status: { source: 'stale', trading: 'trading', sinceMs: null, reason: 'x' } }), NOW);
    expect(model.health).toEqual({ kind: 'stale', reason: 'x' });
    model.apply({ type: 'status', symbol: 'AAPL', status: { source: 'down', trading: 'halted', sinceMs: null, reason: '' } }, NOW);
    expect(model.health.kind).toBe('down');
    model.link = { state: 'waiting', untilMs: 5, attempt: 1 };
    expect(model.health.kind).toBe('waiting');
    model.link = { state: 'open' };
    model.apply({ type: 'status', symbol: 'AAPL', status: { source: 'live', trading: 'closed', sinceMs: null, reason: '' } }, NOW);
    expect(model.health.kind).toBe('closed');
    model.apply({ type: 'subscribed', symbols: new Map([['AAPL', 'unknown_symbol']]) }, NOW);
    expect(model.health.kind).toBe('unknown-symbol');
  });

  it('is behind when the server is', () => {
    model.apply(snapshot(), NOW);
    model.apply({ type: 'heartbeat', serverMs: NOW, watermarkMs: null, lagMs: 9_000 }, NOW);
    expect(model.health.kind).toBe('behind');
  });

  it('knows the chart up to the watermark: no news is no trades', () => {
    model.apply(snapshot({ quote: quote({ eventMs: (T0 + 1) * 1000 }) }), NOW);
    expect(model.edgeS).toBe(T0 + 1);
    model.apply({ type: 'heartbeat', serverMs: NOW, watermarkMs: (T0 + 60) * 1000 + 700, lagMs: 1 }, NOW);
    expect(model.edgeS).toBe(T0 + 59);
  });

  it('does without a previous close', () => {
    model.apply(snapshot({ quote: quote({ previousClose: null }) }), NOW);
    expect([model.change, model.changePercent]).toEqual([null, null]);
  });

  it('shows as many decimals as the feed needs', () => {
    model.apply(snapshot({ quote: quote({ price: 0.00012345 }) }), NOW);
    expect(model.digits).toBe(8);
  });
});
