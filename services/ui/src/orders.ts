/**
 * Paper orders: what an order is to the page, the newest state of each, and the calls of `marketfeed.v1.Orders` by the
 * Connect protocol (docs/orders.md). Pure but for the ports it is given. Amounts are integers of 10^-9, as on the wire.
 */

import { backoffMs } from './backoff';

export type Side = 'buy' | 'sell';
export type OrderType = 'market' | 'limit';
export type TimeInForce = 'day' | 'gtc' | 'ioc';

export interface Order {
  readonly id: string;
  readonly clientOrderId: string;
  readonly symbol: string;
  readonly side: Side;
  readonly type: OrderType;
  readonly quantity: bigint;
  readonly limit: bigint;
  /** WORKING, FILLED, …: the state's name on the wire without its prefix */
  readonly state: string;
  readonly filled: bigint;
  readonly average: bigint;
  readonly reason: string;
  readonly update: bigint;
}

export interface Wish {
  readonly symbol: string;
  readonly side: Side;
  readonly type: OrderType;
  readonly timeInForce: TimeInForce;
  readonly quantity: bigint;
  readonly limit: bigint;
}

/** Orders shown; the oldest that are done go first. */
export const SHOWN_MAX = 50;
const WORKING = new Set(['WORKING', 'PARTIALLY_FILLED', 'SUSPENDED']);
const PLACES = 9;
const SERVICE = 'marketfeed.v1.Orders';
const TIMEOUT_MS = 8_000;
/** Heartbeats come each second; a stream that is silent for so long is dead. */
const SILENCE_MS = 15_000;
const MESSAGE_BYTES_MAX = 4 << 20;
/** So many tries of a call take half a minute: longer than another process needs to take over. */
const TRIES = 8;

export function isWorking(order: Order): boolean {
  return WORKING.has(order.state);
}

/** "12.5" as an integer of 10^-9; null for what is no amount above 0, or has more places than there are. */
export function nanos(text: string): bigint | null {
  const match = /^(\d{1,10})(?:\.(\d{1,9}))?$/.exec(text.trim().replaceAll(',', ''));
  if (match === null) return null;
  const value = BigInt((match[1] ?? '') + (match[2] ?? '').padEnd(PLACES, '0'));
  return value > 0n ? value : null;
}

/** An integer of 10^-9 as a decimal without needless zeros, at least `least` places. */
export function decimal(value: bigint, least = 0): string {
  const digits = value.toString().padStart(PLACES + 1, '0');
  const fraction = digits.slice(-PLACES).replace(/0+$/, '').padEnd(least, '0');
  return digits.slice(0, -PLACES) + (fraction === '' ? '' : `.${fraction}`);
}

function integer(value: unknown): bigint {
  return typeof value === 'string' && /^-?\d+$/.test(value) ? BigInt(value) : 0n;
}

function string(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function record(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
}

/** The wire's order; null for what is none. */
export function readOrder(value: unknown): Order | null {
  const json = record(value);
  if (json === null || string(json['orderId']) === '') return null;
  return {
    id: string(json['orderId']),
    clientOrderId: string(json['clientOrderId']),
    symbol: string(json['symbol']),
    side: json['side'] === 'SIDE_SELL' ? 'sell' : 'buy',
    type: json['type'] === 'ORDER_TYPE_MARKET' ? 'market' : 'limit',
    quantity: integer(json['quantityNanos']),
    limit: integer(json['limitPriceNanos']),
    state: string(json['state']).replace('ORDER_STATE_', ''),
    filled: integer(json['filledQuantityNanos']),
    average: integer(json['averagePriceNanos']),
    reason: string(json['reason']),
    update: integer(json['update']),
  };
}

/** The newest state of each order. */
export class OrderList {
  private readonly orders = new Map<string, Order>();
  /** the newest update that is known; a stream goes on after it */
  update = 0n;

  /** Working orders and those that ended lately, the newest first. */
  get all(): Order[] {
    return [...this.orders.values()].reverse();
  }

  /** Takes in an order's state, unless a newer one is known; says whether it changed anything. */
  apply(order: Order): boolean {
    const known = this.orders.get(order.id);
    if (known !== undefined && known.update >= order.update) return false;
    this.orders.set(order.id, order);
    if (this.orders.size > SHOWN_MAX) {
      const done = [...this.orders.values()].find((one) => !isWorking(one));
      if (done) this.orders.delete(done.id);
    }
    return true;
  }
}

/** Takes enveloped messages out of pieces of a stream, however it is cut. */
export class Envelopes {
  private held = new Uint8Array(0);

  /** The whole messages so far, each with its flags. Throws for one that is too long. */
  push(piece: Uint8Array): { flags: number; message: unknown }[] {
    const data = new Uint8Array(this.held.length + piece.length);
    data.set(this.held);
    data.set(piece, this.held.length);
    const found = [];
    let at = 0;
    while (data.length - at >= 5) {
      const size = new DataView(data.buffer).getUint32(at + 1);
      if (size > MESSAGE_BYTES_MAX) throw new Error(`a message of ${size} bytes`);
      if (data.length - at - 5 < size) break;
      const text = new TextDecoder().decode(data.subarray(at + 5, at + 5 + size));
      found.push({ flags: data[at] ?? 0, message: JSON.parse(text) as unknown });
      at += 5 + size;
    }
    this.held = data.slice(at);
    return found;
  }
}

export function envelope(message: unknown): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(message));
  const data = new Uint8Array(5 + text.length);
  new DataView(data.buffer).setUint32(1, text.length);
  data.set(text, 5);
  return data;
}

/** A call that was refused; `again` where the same request may be tried again. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly reason: string,
    readonly again: boolean,
  ) {
    super(message);
  }
}

/** The error of an answer's JSON, as `{"code", "message", "details"}`. */
export function readRefusal(value: unknown, status: number): Refused {
  const json = record(value);
  const details: unknown = json?.['details'];
  const debug = Array.isArray(details) ? record(record(details[0])?.['debug']) : null;
  const code = string(json?.['code']);
  const again = ['unavailable', 'deadline_exceeded', 'resource_exhausted', 'aborted'].includes(code) || (code === '' && status >= 500);
  return new Refused(string(json?.['message']) || `HTTP ${status}`, string(debug?.['reason']), again);
}

export interface OrderPorts {
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  readonly token: () => string | null;
  readonly random: () => number;
  readonly pause: (ms: number) => Promise<void>;
  readonly newId: () => string;
}

export interface OrderEvents {
  readonly order: (order: Order) => void;
  /** Whether the stream of updates stands, and whether the tape is fresh, without which nothing fills. */
  readonly link: (open: boolean, fresh: boolean) => void;
}

export class OrdersClient {
  private pending: { key: string; id: string } | null = null;
  private seen = 0n;

  constructor(
    private readonly base: string,
    private readonly ports: OrderPorts,
    private readonly events: OrderEvents,
  ) {}

  /**
   * Places an order. The id of a wish that was not answered is kept: the same wish again can make no second order.
   * Throws Refused.
   */
  async submit(wish: Wish): Promise<Order> {
    const key = JSON.stringify(wish, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
    if (this.pending?.key !== key) this.pending = { key, id: this.ports.newId() };
    const request = {
      clientOrderId: this.pending.id,
      symbol: wish.symbol,
      side: wish.side === 'buy' ? 'SIDE_BUY' : 'SIDE_SELL',
      type: wish.type === 'market' ? 'ORDER_TYPE_MARKET' : 'ORDER_TYPE_LIMIT',
      quantityNanos: wish.quantity.toString(),
      ...(wish.type === 'limit' && { limitPriceNanos: wish.limit.toString(), timeInForce: `TIME_IN_FORCE_${wish.timeInForce.toUpperCase()}` }),
    };
    try {
      const order = await this.ordered('SubmitOrder', request);
      this.pending = null;
      return order;
    } catch (error) {
      if (!(error instanceof Refused && error.again)) this.pending = null;
      throw error;
    }
  }

  /** Ends an order. Throws Refused. */
  async cancel(order: Order): Promise<Order> {
    return this.ordered('CancelOrder', { orderId: order.id });
  }

  /** Follows all changes for ever: after a loss from the newest that is known, at growing intervals. */
  async follow(list: OrderList): Promise<never> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        if (await this.stream(list)) attempt = 0;
      } catch {
        // Whatever ended it, the next try tells.
      }
      this.events.link(false, false);
      await this.ports.pause(backoffMs(attempt, this.ports.random));
    }
  }

  private async ordered(method: string, request: object): Promise<Order> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const order = readOrder(record(await this.call(method, request))?.['order']);
        if (order === null) throw new Refused('the answer holds no order', '', false);
        return order;
      } catch (error) {
        const refused = error instanceof Refused ? error : new Refused('the order service does not answer', '', true);
        if (!refused.again || attempt + 1 >= TRIES) throw refused;
        await this.ports.pause(backoffMs(attempt, this.ports.random));
      }
    }
  }

  private async call(method: string, request: object): Promise<unknown> {
    const answer = await this.ports.fetch(`${this.base}/${SERVICE}/${method}`, {
      method: 'POST',
      headers: this.headers('application/json'),
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const json: unknown = await answer.json().catch(() => null);
    if (!answer.ok) throw readRefusal(json, answer.status);
    return json;
  }

  /** One stream until it ends; whether anything came of it. */
  private async stream(list: OrderList): Promise<boolean> {
    this.seen = list.update;
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    let heard = false;
    try {
      const answer = await this.ports.fetch(`${this.base}/${SERVICE}/StreamOrders`, {
        method: 'POST',
        headers: this.headers('application/connect+json'),
        body: envelope({ afterUpdate: list.update.toString() }),
        signal: silence.signal,
      });
      const reader = answer.ok ? answer.body?.getReader() : undefined;
      if (reader === undefined) return false;
      const envelopes = new Envelopes();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return heard;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        for (const { flags, message } of envelopes.push(value)) {
          if (flags === 0) this.take(list, record(message));
          heard ||= flags === 0;
        }
      }
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  private take(list: OrderList, message: Record<string, unknown> | null): void {
    const update = record(message?.['update']);
    const order = readOrder(update?.['order']);
    if (order !== null) {
      if (order.update > this.seen) this.seen = order.update;
      this.events.order(order);
    }
    const beat = record(message?.['heartbeat']);
    // What stands at the beginning comes in no order: only with its end is everything up to the newest of it known.
    if (beat !== null || (order !== null && update?.['snapshot'] !== true)) list.update = this.seen;
    if (beat !== null) this.events.link(true, beat['tapeFresh'] === true);
  }

  private headers(contentType: string): Record<string, string> {
    const token = this.ports.token();
    return { 'content-type': contentType, 'connect-protocol-version': '1', ...(token !== null && { authorization: `Bearer ${token}` }) };
  }
}
