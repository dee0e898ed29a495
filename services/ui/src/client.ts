/**
 * The connection: keeps one WebSocket open to `/v1/stream` for as long as the page lives, and on it one symbol whole and
 * the quotes of those that are watched.
 *
 * Loss is noticed by a close, by silence (three heartbeats without a message is `silent`, six end the connection) or
 * by a handshake that does not come; the next attempt follows after a jittered back-off, at once when the network or the
 * page comes back. The back-off starts over only after a connection has lasted, so that a server that accepts and
 * drops is not hammered. Clock, timers, randomness and the socket come from outside.
 */

import { backoffMs } from './backoff';
import { parseMessage, type Message } from './protocol';
import type { ServerClock } from './time';

export type Link =
  | { readonly state: 'connecting' }
  | { readonly state: 'open' }
  | { readonly state: 'silent'; readonly sinceMs: number }
  | { readonly state: 'waiting'; readonly untilMs: number; readonly attempt: number }
  | { readonly state: 'refused'; readonly reason: string };

export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

export interface Surroundings {
  readonly open: () => Socket;
  /** What the server is shown first, if anything. */
  readonly token: () => string | null;
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly after: (ms: number, run: () => void) => () => void;
}

export interface Listener {
  link(link: Link): void;
  message(message: Message): void;
  /** Where the snapshot of `symbol` shall begin, Unix seconds; null for the server's choice. */
  resumeFrom(symbol: string): number | null;
}

const HANDSHAKE_TIMEOUT_MS = 6_000;
const STEADY_MS = 5_000;
const WATCH_MS = 500;
const PING_MS = 2_000;
const SILENT_HEARTBEATS = 3;
const DEAD_HEARTBEATS = 6;
/** Close codes after which the same client would only be refused again. */
const FINAL_CODES: ReadonlyMap<number, string> = new Map([
  [1009, 'The server found a message too big'],
  [4000, 'The server did not understand this page'],
  [4001, 'The server asks for another token: open this page with #token=…'],
]);
const RATE_LIMITED = 4004;

export class StreamClient {
  /** messages that could not be read */
  unread = 0;
  private socket: Socket | null = null;
  private symbol: string | null = null;
  private attempt = 0;
  private openedMs = 0;
  private heardMs = 0;
  private heartbeatMs = 1000;
  private afterDrainMs: number | null = null;
  private pings = new Map<number, number>();
  private pingId = 0;
  private requestId = 0;
  private stopTimers: (() => void)[] = [];
  private silent = false;
  private subscribedTo: string | null = null;
  private watched: readonly string[] = [];
  /** of those, what this connection has been asked for */
  private watching = new Set<string>();

  constructor(
    private readonly around: Surroundings,
    private readonly listener: Listener,
    private readonly clock: ServerClock,
  ) {}

  start(): void {
    this.connect();
  }

  /** Shows another symbol from now on. */
  select(symbol: string): void {
    if (symbol === this.symbol) return;
    this.symbol = symbol;
    this.subscribe();
  }

  /** Brings the quotes of these symbols, too, from now on. */
  follow(symbols: readonly string[]): void {
    this.watched = symbols;
    this.subscribeWatched();
  }

  /** Asks for a fresh snapshot of the symbol. */
  refresh(): void {
    this.subscribedTo = null;
    this.subscribe();
  }

  /** The network or the page is back: do not sit out the wait. */
  hurry(): void {
    if (this.socket === null) this.connect();
  }

  private connect(): void {
    this.clearTimers();
    this.listener.link({ state: 'connecting' });
    let socket: Socket;
    try {
      socket = this.around.open();
    } catch {
      this.lost(1006);
      return;
    }
    this.socket = socket;
    this.subscribedTo = null;
    this.watching = new Set();
    this.silent = false;
    this.pings.clear();
    socket.onopen = () => this.opened();
    socket.onmessage = (event) => this.received(event.data);
    socket.onclose = (event) => this.closed(socket, event.code);
    this.timer(HANDSHAKE_TIMEOUT_MS, () => this.drop());
  }

  private opened(): void {
    this.clearTimers();
    this.openedMs = this.heardMs = this.around.nowMs();
    this.clock.reset();
    this.listener.link({ state: 'open' });
    const token = this.around.token();
    if (token !== null) this.send({ type: 'auth', id: 0, token });
    this.subscribe();
    this.subscribeWatched();
    this.every(WATCH_MS, () => this.watch());
    this.every(PING_MS, () => this.ping());
  }

  private received(data: unknown): void {
    this.heardMs = this.around.nowMs();
    if (this.silent) {
      this.silent = false;
      this.listener.link({ state: 'open' });
    }
    const message = typeof data === 'string' ? parseMessage(data) : null;
    if (message === null) {
      this.unread += 1;
      return;
    }
    if (message.type === 'hello') {
      this.heartbeatMs = message.heartbeatMs;
      if (message.serverMs !== null) this.clock.stamp(message.serverMs, this.heardMs);
    } else if (message.type === 'pong' && message.id !== null) {
      const sentMs = this.pings.get(message.id);
      this.pings.delete(message.id);
      if (sentMs !== undefined) this.clock.pong(message.serverMs, sentMs, this.heardMs);
    } else if (message.type === 'drain') {
      this.afterDrainMs = message.reconnectAfterMs;
    }
    this.listener.message(message);
  }

  private subscribe(): void {
    if (this.socket === null || this.symbol === null || this.heardMs === 0 || this.subscribedTo === this.symbol) return;
    if (this.subscribedTo !== null) this.unsubscribe([this.subscribedTo]);
    // A symbol that was watched is subscribed anew, with its bars.
    if (this.watching.delete(this.symbol)) this.unsubscribe([this.symbol]);
    const from = this.listener.resumeFrom(this.symbol);
    this.send({
      type: 'subscribe',
      id: (this.requestId += 1),
      symbols: [this.symbol],
      channels: ['quotes', 'bars_1s'],
      ...(from === null ? {} : { from }),
    });
    this.subscribedTo = this.symbol;
    this.subscribeWatched();
  }

  private subscribeWatched(): void {
    if (this.socket === null || this.heardMs === 0) return;
    const wanted = new Set(this.watched.filter((symbol) => symbol !== this.symbol));
    const over = [...this.watching].filter((symbol) => !wanted.has(symbol));
    const lacking = [...wanted].filter((symbol) => !this.watching.has(symbol));
    this.watching = wanted;
    if (over.length > 0) this.unsubscribe(over);
    if (lacking.length > 0) this.send({ type: 'subscribe', id: (this.requestId += 1), symbols: lacking, channels: ['quotes'] });
  }

  private unsubscribe(symbols: readonly string[]): void {
    this.send({ type: 'unsubscribe', id: (this.requestId += 1), symbols });
  }

  private ping(): void {
    this.pingId += 1;
    this.pings.clear(); // an answer that is late by a whole period tells nothing about the clock
    this.pings.set(this.pingId, this.around.nowMs());
    this.send({ type: 'ping', id: this.pingId });
  }

  private send(message: object): void {
    try {
      this.socket?.send(JSON.stringify(message));
    } catch {
      // Not open any more: its close event follows and decides.
    }
  }

  private watch(): void {
    const quietMs = this.around.nowMs() - this.heardMs;
    if (quietMs > DEAD_HEARTBEATS * this.heartbeatMs) this.drop();
    else if (quietMs > SILENT_HEARTBEATS * this.heartbeatMs && !this.silent) {
      this.silent = true;
      this.listener.link({ state: 'silent', sinceMs: this.heardMs });
    }
  }

  /** Gives the connection up without waiting for the peer, which may be gone. */
  private drop(): void {
    const socket = this.socket;
    if (socket === null) return;
    socket.close();
    this.closed(socket, 1006);
  }

  private closed(socket: Socket, code: number): void {
    if (socket !== this.socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    this.socket = null;
    this.lost(code);
  }

  private lost(code: number): void {
    this.clearTimers();
    const now = this.around.nowMs();
    if (this.openedMs > 0 && now - this.openedMs >= STEADY_MS) this.attempt = 0;
    this.openedMs = this.heardMs = 0;
    const final = FINAL_CODES.get(code);
    if (final !== undefined) {
      this.listener.link({ state: 'refused', reason: final });
      return;
    }
    const wait = this.afterDrainMs ?? backoffMs(this.attempt, this.around.random) + (code === RATE_LIMITED ? 10_000 : 0);
    this.afterDrainMs = null;
    this.attempt += 1;
    this.listener.link({ state: 'waiting', untilMs: now + wait, attempt: this.attempt });
    this.timer(wait, () => this.connect());
  }

  private timer(ms: number, run: () => void): void {
    this.stopTimers.push(this.around.after(ms, run));
  }

  private every(ms: number, run: () => void): void {
    let cancel = (): void => undefined;
    const again = (): void => {
      cancel = this.around.after(ms, () => {
        again();
        run();
      });
    };
    again();
    this.stopTimers.push(() => cancel());
  }

  private clearTimers(): void {
    for (const stop of this.stopTimers) stop();
    this.stopTimers = [];
  }
}
