/**
 * The server's messages (docs/websocket.md) as types, and the one place where JSON from outside becomes one of them.
 * What is not understood comes back as null and is counted by the caller; it never throws. Unknown fields are ignored.
 */

import { STATES, type Bar, type GapSpan } from './bars';
import { msFromNanos } from './time';

export type Session = 'pre' | 'regular' | 'post' | 'closed';
export type SourceState = 'live' | 'stale' | 'down';
export type TradingState = 'trading' | 'halted' | 'closed';
export type SymbolStatus = 'ok' | 'pending' | 'unknown_symbol' | 'limit';

/** One trade's way, in Unix milliseconds of the hop's own clock. */
export interface Stamps {
  readonly eventMs: number;
  readonly receivedMs: number;
  readonly loggedMs: number;
  readonly sentMs: number;
}

export interface Day {
  readonly date: string;
  readonly open: number | null;
  readonly high: number | null;
  readonly low: number | null;
  readonly volume: number;
  readonly trades: number;
}

export interface Quote {
  readonly symbol: string;
  readonly price: number;
  readonly eventMs: number;
  readonly previousPrice: number | null;
  readonly direction: -1 | 0 | 1;
  readonly day: Day;
  readonly previousClose: number | null;
  readonly tradesPerS: number | null;
  readonly session: Session | null;
  readonly stamps: Stamps | null;
}

export interface Status {
  readonly source: SourceState;
  readonly trading: TradingState;
  readonly sinceMs: number | null;
  readonly reason: string;
}

export interface Hello {
  readonly type: 'hello';
  readonly feed: string;
  readonly instance: string;
  readonly calendar: string;
  readonly serverMs: number | null;
  readonly heartbeatMs: number;
}

export interface Snapshot {
  readonly type: 'snapshot';
  readonly symbol: string;
  readonly part: number;
  readonly parts: number;
  readonly source: string;
  readonly incomplete: boolean;
  readonly fromS: number | null;
  readonly status: Status | null;
  readonly quote: Quote | null;
  readonly bars: readonly Bar[];
}

export type Message =
  | Hello
  | Snapshot
  | { readonly type: 'subscribed'; readonly symbols: ReadonlyMap<string, SymbolStatus> }
  | { readonly type: 'quote'; readonly quote: Quote }
  | { readonly type: 'bar'; readonly symbol: string; readonly bars: readonly Bar[] }
  | { readonly type: 'gap'; readonly symbol: string; readonly gap: GapSpan; readonly reason: string }
  | { readonly type: 'status'; readonly symbol: string; readonly status: Status }
  | {
      readonly type: 'heartbeat';
      readonly serverMs: number;
      readonly watermarkMs: number | null;
      readonly lagMs: number | null;
    }
  | { readonly type: 'conflated'; readonly count: number; readonly maxAgeMs: number }
  | { readonly type: 'pong'; readonly id: number | null; readonly serverMs: number }
  | { readonly type: 'drain'; readonly reconnectAfterMs: number }
  | { readonly type: 'error'; readonly code: string; readonly message: string }
  | { readonly type: 'other' };

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function oneOf<T extends string>(value: unknown, known: readonly T[]): T | null {
  return known.find((k) => k === value) ?? null;
}

const SESSIONS: readonly Session[] = ['pre', 'regular', 'post', 'closed'];

/** One message, `{type: 'other'}` for a type from a later version, null for what cannot be read. */
export function parseMessage(data: string): Message | null {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  const json = object(value);
  const type = json && text(json['type']);
  if (!json || type === null) return null;
  return Object.hasOwn(READERS, type) ? READERS[type]!(json) : { type: 'other' };
}

const READERS: Readonly<Record<string, (json: Json) => Message | null>> = {
  hello: (json) => ({
    type: 'hello',
    feed: text(json['feed']) ?? '',
    instance: text(json['instance']) ?? '',
    calendar: text(json['calendar']) ?? '24x7',
    serverMs: msFromNanos(json['server_ts']),
    heartbeatMs: number(json['heartbeat_ms']) ?? 1000,
  }),
  subscribed: (json) => {
    const symbols = object(json['symbols']);
    if (!symbols) return null;
    const known: readonly SymbolStatus[] = ['ok', 'pending', 'unknown_symbol', 'limit'];
    const read = (entry: unknown) => oneOf(object(entry)?.['status'], known) ?? 'ok';
    return { type: 'subscribed', symbols: new Map(Object.entries(symbols).map(([s, entry]) => [s, read(entry)])) };
  },
  snapshot: (json) => {
    const symbol = text(json['symbol']);
    const bars = json['bars'] === null ? [] : readBars(json['bars']);
    if (symbol === null || bars === null) return null;
    return {
      type: 'snapshot',
      symbol,
      part: number(json['part']) ?? 0,
      parts: number(json['parts']) ?? 1,
      source: text(json['source']) ?? 'memory',
      incomplete: json['incomplete'] === true,
      fromS: number(json['from']),
      status: readStatus(json['status']),
      quote: readQuote(json['quote']),
      bars,
    };
  },
  quote: (json) => {
    const quote = readQuote(json);
    return quote && { type: 'quote', quote };
  },
  bar: (json) => {
    const symbol = text(json['symbol']);
    const bars = readBars(json['bars']);
    return symbol === null || bars === null ? null : { type: 'bar', symbol, bars };
  },
  gap: (json) => {
    const symbol = text(json['symbol']);
    const from = msFromNanos(json['from_ts']);
    const to = msFromNanos(json['to_ts']);
    if (symbol === null || from === null || to === null || to < from) return null;
    const gap = { fromS: Math.floor(from / 1000), toS: Math.floor(to / 1000) };
    return { type: 'gap', symbol, gap, reason: text(json['reason']) ?? '' };
  },
  status: (json) => {
    const symbol = text(json['symbol']);
    const status = readStatus(json);
    return symbol === null || !status ? null : { type: 'status', symbol, status };
  },
  heartbeat: (json) => {
    const serverMs = msFromNanos(json['server_ts']);
    if (serverMs === null) return null;
    return { type: 'heartbeat', serverMs, watermarkMs: msFromNanos(json['watermark_ts']), lagMs: number(json['lag_ms']) };
  },
  conflated: (json) => ({
    type: 'conflated',
    count: number(json['count']) ?? 0,
    maxAgeMs: number(json['max_age_ms']) ?? 0,
  }),
  pong: (json) => {
    const serverMs = msFromNanos(json['server_ts']);
    return serverMs === null ? null : { type: 'pong', id: number(json['id']), serverMs };
  },
  drain: (json) => ({ type: 'drain', reconnectAfterMs: Math.max(0, number(json['reconnect_after_ms']) ?? 0) }),
  error: (json) => ({ type: 'error', code: text(json['code']) ?? '', message: text(json['message']) ?? '' }),
};

function readStatus(value: unknown): Status | null {
  const json = object(value);
  const source = oneOf<SourceState>(json?.['source'], ['live', 'stale', 'down']);
  if (!json || !source) return null;
  return {
    source,
    trading: oneOf<TradingState>(json['trading'], ['trading', 'halted', 'closed']) ?? 'trading',
    sinceMs: msFromNanos(json['since_ts']),
    reason: text(json['reason']) ?? '',
  };
}

function readStamps(value: unknown): Stamps | null {
  const json = object(value);
  if (!json) return null;
  const eventMs = msFromNanos(json['event_ts']);
  const receivedMs = msFromNanos(json['received_ts']);
  const loggedMs = msFromNanos(json['logged_ts']);
  const sentMs = msFromNanos(json['sent_ts']);
  if (eventMs === null || receivedMs === null || loggedMs === null || sentMs === null) return null;
  return { eventMs, receivedMs, loggedMs, sentMs };
}

/** A quote object as in `quote`, in a snapshot or from GET /v1/quote. */
export function readQuote(value: unknown): Quote | null {
  const json = object(value);
  const symbol = json && text(json['symbol']);
  const price = json && number(json['price']);
  const eventMs = json && msFromNanos(json['event_ts']);
  if (!json || symbol === null || price === null || eventMs === null) return null;
  const day = object(json['day']);
  const direction = Math.sign(number(json['direction']) ?? 0);
  return {
    symbol,
    price,
    eventMs,
    previousPrice: number(json['previous_price']),
    direction: direction > 0 ? 1 : direction < 0 ? -1 : 0,
    day: {
      date: text(day?.['date']) ?? '',
      open: number(day?.['open']),
      high: number(day?.['high']),
      low: number(day?.['low']),
      volume: number(day?.['volume']) ?? 0,
      trades: number(day?.['trades']) ?? 0,
    },
    previousClose: number(json['previous_close']),
    tradesPerS: number(json['trades_per_s']),
    session: oneOf(json['session'], SESSIONS),
    stamps: readStamps(json['stamps']),
  };
}

const BAR_COLUMNS = ['start', 'open', 'high', 'low', 'close', 'volume', 'trades', 'state', 'revision', 'incomplete'] as const;
type BarColumns = Record<(typeof BAR_COLUMNS)[number], readonly number[]>;

function isBarColumns(json: Json): json is Json & BarColumns {
  const rows = Array.isArray(json['start']) ? json['start'].length : -1;
  return BAR_COLUMNS.every((name) => {
    const column = json[name];
    return Array.isArray(column) && column.length === rows && column.every((cell) => typeof cell === 'number');
  });
}

/** Bars in columns to bars; null unless all columns are there, numeric and equally long. */
export function readBars(value: unknown): Bar[] | null {
  const json = object(value);
  if (!json || !isBarColumns(json)) return null;
  return json.start.map((startS, i) => ({
    startS,
    open: json.open[i]!,
    high: json.high[i]!,
    low: json.low[i]!,
    close: json.close[i]!,
    volume: json.volume[i]!,
    trades: json.trades[i]!,
    state: STATES[json.state[i]!] ?? 'OPEN',
    revision: json.revision[i]!,
    incomplete: json.incomplete[i] !== 0,
  }));
}

export interface SymbolEntry {
  readonly symbol: string;
  readonly price: number | null;
}

export function readSymbols(value: unknown): SymbolEntry[] | null {
  const list = object(value)?.['symbols'];
  if (!Array.isArray(list)) return null;
  return list.flatMap((entry) => {
    const symbol = text(object(entry)?.['symbol']);
    return symbol === null ? [] : [{ symbol, price: number(object(entry)?.['price']) }];
  });
}

export interface SessionSpan {
  readonly session: Session;
  readonly fromS: number;
  readonly toS: number;
}

export interface Config {
  readonly feed: string;
  readonly version: string;
  readonly calendar: string;
  readonly tradeDate: string;
  readonly dayFromS: number;
  readonly dayToS: number;
  readonly sessions: readonly SessionSpan[];
  /** where paper orders are placed; null where they cannot be */
  readonly ordersUrl: string | null;
}

export function readConfig(value: unknown): Config | null {
  const json = object(value);
  const day = object(json?.['day']);
  const dayFromS = number(day?.['from']);
  const dayToS = number(day?.['to']);
  if (!json || dayFromS === null || dayToS === null) return null;
  const list = Array.isArray(json['sessions']) ? json['sessions'] : [];
  const sessions = list.flatMap((entry: unknown) => {
    const session = oneOf(object(entry)?.['session'], SESSIONS);
    const fromS = number(object(entry)?.['from']);
    const toS = number(object(entry)?.['to']);
    return session && fromS !== null && toS !== null ? [{ session, fromS, toS }] : [];
  });
  return {
    feed: text(json['feed']) ?? '',
    version: text(json['version']) ?? '',
    calendar: text(json['calendar']) ?? '24x7',
    tradeDate: text(json['trade_date']) ?? '',
    dayFromS,
    dayToS,
    sessions,
    ordersUrl: text(json['orders_url']),
  };
}
