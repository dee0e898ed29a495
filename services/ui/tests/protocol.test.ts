import { describe, expect, it } from 'vitest';

import { parseMessage, readConfig, readSymbols } from '../src/protocol';
import { msFromNanos } from '../src/time';

const BARS = { start: [1763900000], open: [189.91], high: [189.92], low: [189.91], close: [189.92], volume: [150], trades: [4], state: [2], revision: [3], incomplete: [1] };
const parse = (message: object) => parseMessage(JSON.stringify(message));

describe('instants', () => {
  it('reads 64-bit nanoseconds from strings to the microsecond', () => {
    expect(msFromNanos('1763900000123456789')).toBe(1763900000123.456);
    expect(msFromNanos('-1000000')).toBe(-1);
  });

  it.each([1763900000123456789, 'x', '', '1e18', '99999999999999999999', null])('refuses %s', (value) => {
    expect(msFromNanos(value)).toBeNull();
  });
});

describe('parseMessage', () => {
  it('reads bars in columns', () => {
    const message = parse({ type: 'bar', symbol: 'AAPL', interval: '1s', bars: BARS, added_later: 1 });
    expect(message).toMatchObject({
      type: 'bar',
      bars: [{ startS: 1763900000, close: 189.92, state: 'REVISED', revision: 3, incomplete: true }],
    });
  });

  it('refuses columns of unequal length, missing ones and cells that are no numbers', () => {
    for (const broken of [{ close: [] }, { close: undefined }, { close: ['189.92'] }, { start: 7 }]) {
      expect(parse({ type: 'bar', symbol: 'AAPL', bars: { ...BARS, ...broken } })).toBeNull();
    }
  });

  it('reads a quote with what is unknown as null', () => {
    const message = parse({ type: 'quote', symbol: 'AAPL', price: 1.5, event_ts: '1000000', direction: -1, previous_close: null, session: 'overnight' });
    expect(message).toMatchObject({
      type: 'quote',
      quote: { price: 1.5, eventMs: 1, direction: -1, previousClose: null, session: null, stamps: null, day: { open: null, volume: 0 } },
    });
  });

  it('reads gaps as whole seconds that are touched', () => {
    const message = parse({ type: 'gap', symbol: 'AAPL', from_ts: '1763900001900000000', to_ts: '1763900006100000000', reason: 'restart' });
    expect(message).toMatchObject({ gap: { fromS: 1763900001, toS: 1763900006 } });
  });

  it('passes over types of a later version and counts garbage as unread', () => {
    expect(parse({ type: 'weather' })).toEqual({ type: 'other' });
    for (const garbage of ['', '{', '[]', '7', '{"type":5}', '{"type":"quote"}', '{"type":"heartbeat"}', '{"type":"constructor"}'] as const) {
      const message = parseMessage(garbage);
      expect(message === null || message.type === 'other').toBe(true);
    }
  });

  it('reads a snapshot without quote or bars', () => {
    expect(parse({ type: 'snapshot', symbol: 'NEWCO', part: 0, parts: 1, source: 'store', quote: null, bars: null })).toMatchObject({
      quote: null,
      bars: [],
    });
  });
});

describe('answers over HTTP', () => {
  it('reads symbols and leaves broken entries out', () => {
    expect(readSymbols({ symbols: [{ symbol: 'A', price: 1 }, { price: 2 }, { symbol: 'B', price: null }] })).toEqual([
      { symbol: 'A', price: 1 },
      { symbol: 'B', price: null },
    ]);
    expect(readSymbols({})).toBeNull();
  });

  it('reads the calendar of the day', () => {
    const config = readConfig({ calendar: 'us-equity', day: { from: 1, to: 9 }, sessions: [{ session: 'pre', from: 1, to: 3 }, { session: '?' }] });
    expect(config).toMatchObject({ dayFromS: 1, dayToS: 9, sessions: [{ session: 'pre', fromS: 1, toS: 3 }] });
    expect(readConfig({ day: {} })).toBeNull();
  });
});
