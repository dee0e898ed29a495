/**
 * The watch list: which symbols a person follows beside the one on show, and the newest quote and status of each. Pure.
 * Symbols stay in the order in which they were added; there are at most `WATCHED_MAX`.
 */

import { decimalsOf } from './format';
import type { Message, Quote, Status } from './protocol';

export const WATCHED_MAX = 30;

export interface Watched {
  readonly symbol: string;
  readonly quote: Quote | null;
  readonly status: Status | null;
  /** most decimals seen in a price of this symbol, at least two */
  readonly digits: number;
}

export class WatchList {
  private entries = new Map<string, Watched>();

  get symbols(): string[] {
    return [...this.entries.keys()];
  }

  get all(): Watched[] {
    return [...this.entries.values()];
  }

  has(symbol: string): boolean {
    return this.entries.has(symbol);
  }

  /** False where the list is full. */
  add(symbol: string): boolean {
    if (!this.has(symbol) && this.entries.size >= WATCHED_MAX) return false;
    if (!this.has(symbol)) this.entries.set(symbol, { symbol, quote: null, status: null, digits: 2 });
    return true;
  }

  remove(symbol: string): void {
    this.entries.delete(symbol);
  }

  /** Applies a message; says whether a row may have changed. */
  apply(message: Message): boolean {
    switch (message.type) {
      case 'snapshot':
        if (message.part !== 0) return false;
        return this.update(message.symbol, { ...(message.quote && { quote: message.quote }), ...(message.status && { status: message.status }) });
      case 'quote':
        return this.update(message.quote.symbol, { quote: message.quote });
      case 'status':
        return this.update(message.symbol, { status: message.status });
      default:
        return false;
    }
  }

  private update(symbol: string, news: Partial<Watched>): boolean {
    const before = this.entries.get(symbol);
    if (before === undefined) return false;
    const digits = news.quote ? Math.max(before.digits, decimalsOf(news.quote.price)) : before.digits;
    this.entries.set(symbol, { ...before, ...news, digits });
    return true;
  }
}

/** The change since the previous close in percent; null while one of them is not known. */
export function changePercent({ quote }: Watched): number | null {
  const close = quote?.previousClose ?? null;
  return quote === null || close === null || close === 0 ? null : ((quote.price - close) / close) * 100;
}

/** Reads a list that was kept earlier; null for what is none. */
export function readKept(text: string | null): string[] | null {
  if (text === null) return null;
  try {
    const kept: unknown = JSON.parse(text);
    if (!Array.isArray(kept)) return null;
    return kept.filter((symbol): symbol is string => typeof symbol === 'string' && symbol !== '').slice(0, WATCHED_MAX);
  } catch {
    return null;
  }
}
