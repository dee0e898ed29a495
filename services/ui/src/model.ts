/**
 * What the page knows, and how a message changes it. Pure: instants are arguments, nothing is drawn here.
 *
 * A snapshot is put together aside and changes places with the bars on show when its last part is there, so the chart
 * never empties while the page resubscribes. A page that held a complete day asks only for what may have changed
 * meanwhile (bars are final 15 minutes behind the watermark) and keeps the rest.
 */

import { BarStore } from './bars';
import type { Link } from './client';
import { decimalsOf } from './format';
import type { Config, Message, Quote, Snapshot, Stamps, Status, SymbolStatus } from './protocol';
import type { ServerClock } from './time';

const FINAL_AFTER_S = 16 * 60; // the allowed lateness is 15 min
const ROLLING_DAY_S = 86_400;
const LATENCY_SAMPLES = 40;

/** What the pill says, worst first. */
export type Health =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'waiting'; readonly untilMs: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'silent'; readonly sinceMs: number }
  | { readonly kind: 'unknown-symbol' }
  | { readonly kind: 'pending' }
  | { readonly kind: 'down'; readonly reason: string }
  | { readonly kind: 'stale'; readonly reason: string }
  | { readonly kind: 'behind'; readonly lagMs: number }
  | { readonly kind: 'halted' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'live' };

export interface Latency {
  readonly ingestMs: number;
  readonly logMs: number;
  readonly serverMs: number;
  readonly pageMs: number;
  readonly totalMs: number;
}

const BEHIND_MS = 2_000;

export class Model {
  symbol: string | null = null;
  config: Config | null = null;
  link: Link = { state: 'connecting' };
  quote: Quote | null = null;
  bars = new BarStore();
  status: Status | null = null;
  ack: SymbolStatus | null = null;
  /** event time that the server's stream has reached: up to there no news is no trades */
  watermarkMs: number | null = null;
  lagMs: number | null = null;
  /** most decimals seen in a price of this symbol, at least two */
  digits = 2;
  /** the bars on show came whole from the store */
  complete = false;
  /** the last snapshot's source: store, cache or memory */
  source: string | null = null;
  ready = false;
  /** rises when the bars were replaced as a whole */
  generation = 0;
  latencies: Latency[] = [];
  private staged: { store: BarStore; keepBeforeS: number | null; next: number } | null = null;
  private askedFromS: number | null = null;

  constructor(private readonly clock: ServerClock) {}

  choose(symbol: string): void {
    this.symbol = symbol;
    this.quote = null;
    this.bars = new BarStore();
    this.status = null;
    this.ack = null;
    this.watermarkMs = null;
    this.digits = 2;
    this.complete = false;
    this.ready = false;
    this.source = null;
    this.staged = null;
    this.askedFromS = null;
    this.latencies = [];
    this.generation += 1;
  }

  /** First second that the next snapshot must have; null leaves it to the server, which sends the trade date. */
  resumeFrom(serverNowMs: number): number | null {
    const rolling = this.config?.calendar === '24x7' ? Math.floor(serverNowMs / 1000) - ROLLING_DAY_S : null;
    const { lastS } = this.bars;
    this.askedFromS = this.complete && lastS !== null ? lastS - FINAL_AFTER_S : null;
    if (this.askedFromS === null) return rolling;
    return rolling === null ? this.askedFromS : Math.max(rolling, this.askedFromS);
  }

  /** Applies a message that arrived at `localMs`; says whether anything on show may have changed. */
  apply(message: Message, localMs: number): boolean {
    switch (message.type) {
      case 'subscribed':
        this.ack = (this.symbol === null ? null : message.symbols.get(this.symbol)) ?? this.ack;
        return true;
      case 'snapshot':
        return message.symbol === this.symbol && this.snapshot(message);
      case 'quote':
        return message.quote.symbol === this.symbol && this.price(message.quote, localMs);
      case 'bar':
        if (message.symbol !== this.symbol) return false;
        for (const bar of message.bars) {
          this.bars.apply(bar);
          this.digits = Math.max(this.digits, decimalsOf(bar.close));
        }
        return true;
      case 'gap':
        if (message.symbol !== this.symbol) return false;
        (this.staged?.store ?? this.bars).addGap(message.gap);
        // A new log may tell another story of the day: what is held is no ground to build on.
        if (message.reason === 'log_replaced') this.complete = false;
        return true;
      case 'status':
        if (message.symbol !== this.symbol) return false;
        this.status = message.status;
        return true;
      case 'heartbeat':
        this.watermarkMs = message.watermarkMs ?? this.watermarkMs;
        this.lagMs = message.lagMs;
        return true;
      default:
        return false;
    }
  }

  /** The second up to which the chart is known: the newest of the last bar, the last trade and the watermark. */
  get edgeS(): number | null {
    const known = [this.bars.lastS, this.quote && Math.floor(this.quote.eventMs / 1000)];
    if (this.watermarkMs !== null && this.bars.lastS !== null) known.push(Math.floor(this.watermarkMs / 1000) - 1);
    const edge = Math.max(...known.map((s) => s ?? -Infinity));
    return Number.isFinite(edge) ? edge : null;
  }

  get change(): number | null {
    const close = this.quote?.previousClose ?? null;
    return this.quote === null || close === null ? null : this.quote.price - close;
  }

  get changePercent(): number | null {
    const close = this.quote?.previousClose ?? null;
    return this.change === null || close === null || close === 0 ? null : (this.change / close) * 100;
  }

  ageMs(localMs: number): number | null {
    return this.quote === null ? null : Math.max(0, this.clock.at(localMs) - this.quote.eventMs);
  }

  get health(): Health {
    const { link } = this;
    if (link.state === 'connecting') return { kind: 'connecting' };
    if (link.state === 'waiting') return { kind: 'waiting', untilMs: link.untilMs };
    if (link.state === 'refused') return { kind: 'refused', reason: link.reason };
    if (link.state === 'silent') return { kind: 'silent', sinceMs: link.sinceMs };
    if (this.ack === 'unknown_symbol' || this.ack === 'limit') return { kind: 'unknown-symbol' };
    if (this.status?.source === 'down') return { kind: 'down', reason: this.status.reason };
    if (this.ack === 'pending' && !this.ready) return { kind: 'pending' };
    if (!this.ready) return { kind: 'connecting' };
    if (this.status?.trading === 'closed') return { kind: 'closed' };
    if (this.status?.source === 'stale') return { kind: 'stale', reason: this.status.reason };
    if (this.status?.trading === 'halted') return { kind: 'halted' };
    if (this.lagMs !== null && this.lagMs > BEHIND_MS) return { kind: 'behind', lagMs: this.lagMs };
    return { kind: 'live' };
  }

  /** The middle one of the recent latencies, so that the figure is calm. */
  get latency(): Latency | null {
    const sorted = [...this.latencies].sort((a, b) => a.totalMs - b.totalMs);
    return sorted[sorted.length >> 1] ?? null;
  }

  private price(quote: Quote, localMs: number | null): boolean {
    this.quote = quote;
    this.digits = Math.max(this.digits, decimalsOf(quote.price));
    if (quote.stamps && localMs !== null && this.clock.measured) this.measure(quote.stamps, this.clock.at(localMs));
    return true;
  }

  private measure(stamps: Stamps, arrivedMs: number): void {
    this.latencies.push({
      ingestMs: stamps.receivedMs - stamps.eventMs,
      logMs: stamps.loggedMs - stamps.receivedMs,
      serverMs: stamps.sentMs - stamps.loggedMs,
      pageMs: Math.max(0, arrivedMs - stamps.sentMs),
      totalMs: Math.max(0, arrivedMs - stamps.eventMs),
    });
    if (this.latencies.length > LATENCY_SAMPLES) this.latencies.shift();
  }

  private snapshot(part: Snapshot): boolean {
    if (part.part === 0) {
      const keep = this.askedFromS !== null && part.fromS !== null && part.source === 'store' ? part.fromS : null;
      this.staged = { store: new BarStore(), keepBeforeS: keep, next: 0 };
      if (part.quote) this.price(part.quote, null);
      this.status = part.status ?? this.status;
      this.source = part.source;
      this.complete = part.source === 'store' && !part.incomplete;
    }
    const staged = this.staged;
    if (staged === null || part.part !== staged.next) {
      this.staged = null; // a part is missing: what is on show stays, and the next reconnect asks for everything
      this.complete = false;
      return false;
    }
    staged.next += 1;
    for (const bar of part.bars) staged.store.apply(bar);
    if (part.part === part.parts - 1) this.swap(staged.store, staged.keepBeforeS);
    return true;
  }

  private swap(fresh: BarStore, keepBeforeS: number | null): void {
    if (keepBeforeS !== null) fresh.prepend(this.bars, keepBeforeS);
    fresh.version = this.bars.version + 1;
    this.bars = fresh;
    this.staged = null;
    this.askedFromS = null;
    this.ready = true;
    this.generation += 1;
    const last = fresh.last();
    if (last) for (const price of [last.open, last.high, last.low, last.close]) this.digits = Math.max(this.digits, decimalsOf(price));
  }
}
