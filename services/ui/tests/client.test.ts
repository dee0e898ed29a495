import { beforeEach, describe, expect, it } from 'vitest';

import { backoffMs } from '../src/backoff';
import { StreamClient, type Link } from '../src/client';
import type { Message } from '../src/protocol';
import { ServerClock } from '../src/time';
import { VirtualTime } from './fixtures';

let time: VirtualTime;
let links: Link[];
let messages: Message[];
let client: StreamClient;
let clock: ServerClock;
let from: number | null;

beforeEach(() => {
  time = new VirtualTime();
  links = [];
  messages = [];
  from = null;
  clock = new ServerClock();
  client = new StreamClient(
    time.around,
    { link: (link) => links.push(link), message: (message) => messages.push(message), resumeFrom: () => from },
    clock,
  );
  client.start();
});

const open = (): void => time.socket.onopen?.(undefined as never);
const state = (): string => links.at(-1)!.state;

describe('StreamClient', () => {
  it('subscribes when the connection opens, and to another symbol on the same connection', () => {
    client.select('AAPL');
    expect(time.socket.sent).toEqual([]);
    open();
    expect(time.socket.ofType('subscribe')).toMatchObject([{ symbols: ['AAPL'], channels: ['quotes', 'bars_1s'] }]);
    client.select('MSFT');
    expect(time.socket.ofType('unsubscribe')).toMatchObject([{ symbols: ['AAPL'] }]);
    expect(time.socket.ofType('subscribe').at(-1)).toMatchObject({ symbols: ['MSFT'] });
  });

  it('brings the quotes of watched symbols, never twice those of the one on show, and again after a loss', () => {
    client.follow(['AAPL', 'MSFT', 'TSLA']);
    client.select('AAPL');
    open();
    const watched = (): unknown[] => time.socket.ofType('subscribe').filter((m) => String(m['channels']) === 'quotes').map((m) => m['symbols']);
    const left = (): unknown[] => time.socket.ofType('unsubscribe').map((m) => m['symbols']);
    expect(watched()).toEqual([['MSFT', 'TSLA']]);
    client.select('MSFT');
    expect(left()).toEqual([['AAPL'], ['MSFT']]);
    expect(watched().at(-1)).toEqual(['AAPL']);
    expect(time.socket.ofType('subscribe').at(-2)).toMatchObject({ symbols: ['MSFT'], channels: ['quotes', 'bars_1s'] });
    client.follow(['AAPL', 'NVDA']);
    expect([left().at(-1), watched().at(-1)]).toEqual([['TSLA'], ['NVDA']]);
    time.socket.onclose?.({ code: 1006 });
    time.pass(1_000);
    open();
    expect(watched()).toEqual([['AAPL', 'NVDA']]);
  });

  it('comes back by itself, subscribes again and asks only for what it lacks', () => {
    client.select('AAPL');
    open();
    from = 1234;
    time.socket.onclose?.({ code: 1006 });
    expect(links.at(-1)).toMatchObject({ state: 'waiting', attempt: 1 });
    time.pass(1_000);
    expect(time.sockets).toHaveLength(2);
    open();
    expect(time.socket.ofType('subscribe')).toMatchObject([{ symbols: ['AAPL'], from: 1234 }]);
    expect(state()).toBe('open');
  });

  it('shows its token before anything else, on every connection', () => {
    time.token = 'eyJ';
    client.select('AAPL');
    open();
    const sent = (): unknown[] => time.socket.sent.map((message) => message['type']);
    expect(sent().slice(0, 2)).toEqual(['auth', 'subscribe']);
    expect(time.socket.ofType('auth')).toMatchObject([{ token: 'eyJ' }]);
    time.socket.onclose?.({ code: 1006 });
    time.pass(1_000);
    open();
    expect(sent().slice(0, 2)).toEqual(['auth', 'subscribe']);
  });

  it('waits longer each time until a connection has lasted', () => {
    const waits: number[] = [];
    const lose = (): void => {
      const at = time.nowMs;
      time.socket.onclose?.({ code: 1006 });
      waits.push((links.at(-1) as { untilMs: number }).untilMs - at);
      time.pass(waits.at(-1)!);
    };
    for (let i = 0; i < 4; i += 1) {
      open();
      lose();
    }
    expect(waits).toEqual([...waits].sort((a, b) => a - b));
    expect(waits[3]).toBeGreaterThan(4 * waits[0]!);
    open();
    for (let s = 0; s < 8; s += 1) {
      time.pass(1000);
      time.socket.says({ type: 'heartbeat', server_ts: '1' });
    }
    lose();
    expect(waits.at(-1)).toBe(waits[0]);
  });

  it('notices silence, says so, recovers from it, and gives up a connection that stays silent', () => {
    open();
    time.pass(3_500);
    expect(state()).toBe('silent');
    time.socket.says({ type: 'heartbeat', server_ts: '1' });
    expect(state()).toBe('open');
    const silent = time.socket;
    time.pass(6_600);
    expect(silent.closed).toBe(true);
    expect(state()).toBe('waiting');
  });

  it('gives up a handshake that does not come', () => {
    time.pass(6_100);
    expect(time.sockets[0]!.closed).toBe(true);
    time.pass(1_000);
    expect(time.sockets).toHaveLength(2);
  });

  it('obeys a drain and does not come back where it would be refused', () => {
    open();
    time.socket.says({ type: 'drain', reason: 'restart', reconnect_after_ms: 420 });
    time.socket.onclose?.({ code: 1012 });
    expect(links.at(-1)).toMatchObject({ state: 'waiting', untilMs: time.nowMs + 420 });
    time.pass(420);
    open();
    time.socket.onclose?.({ code: 4001 });
    expect(state()).toBe('refused');
    time.pass(60_000);
    expect(time.sockets).toHaveLength(2);
  });

  it('hurries when the network is back', () => {
    open();
    time.socket.onclose?.({ code: 1006 });
    client.hurry();
    expect(time.sockets).toHaveLength(2);
    client.hurry();
    expect(time.sockets).toHaveLength(2);
  });

  it('measures the server clock by pings, and trusts the fastest answer', () => {
    open();
    time.pass(2_000);
    const ping = time.socket.ofType('ping').at(-1)!;
    time.pass(40);
    time.socket.says({ type: 'pong', id: ping['id'], server_ts: `${(time.nowMs - 20 + 5_000) * 1e6}` });
    expect(clock.measured).toBe(true);
    expect(clock.at(time.nowMs)).toBeCloseTo(time.nowMs + 5_000, 0);
  });

  it('counts what it cannot read and goes on', () => {
    open();
    time.socket.onmessage?.({ data: '{' });
    time.socket.onmessage?.({ data: new ArrayBuffer(3) });
    time.socket.says({ type: 'heartbeat', server_ts: '1' });
    expect(client.unread).toBe(2);
    expect(messages).toHaveLength(1);
  });
});

describe('backoffMs', () => {
  it('doubles to its cap, half of it by chance', () => {
    const options = { baseMs: 100, capMs: 1_000 };
    expect([0, 1, 2, 3, 4, 99].map((n) => backoffMs(n, () => 0, options))).toEqual([50, 100, 200, 400, 500, 500]);
    expect(backoffMs(4, () => 0.999, options)).toBe(1_000);
  });
});
