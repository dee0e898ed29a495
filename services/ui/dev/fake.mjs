// A stand-in for mds while the page is developed: the protocol of docs/websocket.md with made-up prices, no dependency.
//
//   node dev/fake.mjs [--port 8321] [--hours 3] [--calendar 24x7|us-equity] [--quiet 0.3]
//
// then `npm run dev` (it passes /v1 on to port 8321), or open the built page that this server serves itself.
// POST /dev?source=down|stale|live  POST /dev?silent=1|0  POST /dev?drop=1 (close all)  POST /dev?gap=8 (s without data)
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { parseArgs } from 'node:util';

const { values: args } = parseArgs({
  options: {
    port: { type: 'string', default: '8321' },
    hours: { type: 'string', default: '3' },
    calendar: { type: 'string', default: '24x7' },
    quiet: { type: 'string', default: '0.25' },
    close: { type: 'string', default: '1' },
  },
});
const DIST = new URL('../dist/', import.meta.url).pathname;
const SYMBOLS = { AAPL: 231.4, MSFT: 512.2, NVDA: 188.6, AMZN: 224.1, GOOGL: 201.9, META: 701.5, TSLA: 341.2, BTCUSDT: 64210.5, SYM0051: 12.34, QUIET: null };
const nowS = () => Math.floor(Date.now() / 1000);
const ns = (ms) => `${Math.round(ms * 1000)}000`;
const state = { source: 'live', reason: '', silent: false, gapUntil: 0, gapFrom: 0 };

let seed = 7;
const random = () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const gauss = () => random() + random() + random() + random() - 2;

const daySpan = () => {
  const start = nowS() - (nowS() % 86400);
  if (args.calendar === '24x7') return { from: start, to: start + 86400, sessions: [{ session: 'regular', from: start, to: start + 86400 }] };
  // As if the market were in the middle of its day now, whatever the hour.
  const open = nowS() - 3600 * Number(args.hours);
  return {
    from: open, to: open + 16 * 3600,
    sessions: [
      { session: 'pre', from: open, to: open + 5.5 * 3600 },
      { session: 'regular', from: open + 5.5 * 3600, to: open + 12 * 3600 },
      { session: 'post', from: open + 12 * 3600, to: open + 16 * 3600 },
    ],
  };
};
const day = daySpan();

class Stock {
  constructor(symbol, price) {
    Object.assign(this, { symbol, price, bars: new Map(), trades: 0, volume: 0, direction: 0, previous: price, rate: 0 });
    this.previousClose = price === null || args.close === '0' ? null : Math.round(price * 98.7) / 100;
    if (price === null) return;
    const from = nowS() - Math.round(3600 * Number(args.hours));
    for (let s = from; s < nowS(); s += 1) {
      if (random() < Number(args.quiet)) continue;
      if (s > from + 900 && s < from + 960) continue;
      this.trade(s, s < from + 965 && s > from + 895);
      for (let n = Math.floor(random() * 16); n > 0; n -= 1) this.trade(s, false);
    }
    for (const bar of this.bars.values()) bar.state = 1;
  }

  trade(s, incomplete) {
    this.previous = this.price;
    const u = Math.min(1, Math.abs(((s % 86400) / 86400) * 2 - 1) + 0.35);
    this.price = Math.max(0.01, Math.round(this.price * (1 + gauss() * 0.00004 * (1 + u)) * 100) / 100);
    this.direction = Math.sign(this.price - this.previous) || this.direction;
    const size = Math.ceil(100 * Math.exp(gauss() * 1.5) * u);
    const bar = this.bars.get(s) ?? { start: s, open: this.price, high: this.price, low: this.price, volume: 0, trades: 0, state: 0, revision: 0, incomplete: 0 };
    bar.close = this.price;
    bar.high = Math.max(bar.high, this.price);
    bar.low = Math.min(bar.low, this.price);
    bar.volume += size;
    bar.trades += 1;
    if (incomplete) bar.incomplete = 1;
    this.bars.set(s, bar);
    this.volume += size;
    this.trades += 1;
    this.size = size;
    this.eventMs = s * 1000 + (Date.now() % 1000);
    this.open ??= this.price;
    this.high = Math.max(this.high ?? 0, this.price);
    this.low = Math.min(this.low ?? Infinity, this.price);
    return bar;
  }

  quote() {
    if (this.price === null) return null;
    const t = this.eventMs;
    const now = Date.now();
    return {
      symbol: this.symbol, price: this.price, size: this.size, event_ts: ns(t), previous_price: this.previous, direction: this.direction,
      day: { date: new Date(day.from * 1000).toISOString().slice(0, 10), open: this.open, high: this.high, low: this.low, volume: this.volume, trades: this.trades },
      previous_close: this.previousClose, trades_per_s: this.rate, session: args.calendar === '24x7' ? 'regular' : sessionNow(),
      stamps: { event_ts: ns(Math.min(t, now - 14)), received_ts: ns(now - 13), logged_ts: ns(now - 7), sent_ts: ns(now) },
    };
  }
}

const sessionNow = () => day.sessions.find((s) => s.from <= nowS() && nowS() < s.to)?.session ?? 'closed';
const columns = (bars) => {
  const names = ['start', 'open', 'high', 'low', 'close', 'volume', 'trades', 'state', 'revision', 'incomplete'];
  return Object.fromEntries(names.map((name) => [name, bars.map((bar) => bar[name])]));
};
const stocks = new Map(Object.entries(SYMBOLS).map(([symbol, price]) => [symbol, new Stock(symbol, price)]));

// --- the server ---
const clients = new Set();
function frame(text) {
  const body = Buffer.from(text);
  const head = body.length < 126 ? Buffer.from([0x81, body.length])
    : body.length < 65536 ? Buffer.from([0x81, 126, body.length >> 8, body.length & 255])
    : Buffer.concat([Buffer.from([0x81, 127]), Buffer.from(BigInt(body.length).toString(16).padStart(16, '0'), 'hex')]);
  return Buffer.concat([head, body]);
}
function unframe(buffer) {
  if (buffer.length < 6) return null;
  let [length, at] = [buffer[1] & 127, 2];
  if (length === 126) [length, at] = [buffer.readUInt16BE(2), 4];
  if (buffer.length < at + 4 + length) return null;
  const mask = buffer.subarray(at, at + 4);
  const body = Buffer.from(buffer.subarray(at + 4, at + 4 + length)).map((byte, i) => byte ^ mask[i % 4]);
  return { opcode: buffer[0] & 15, text: body.toString(), rest: buffer.subarray(at + 4 + length) };
}
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'";

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://page');
  const answer = (body, status = 200) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (request.method === 'POST' && url.pathname === '/dev') {
    for (const [name, value] of url.searchParams) control(name, value);
    return answer(state);
  }
  if (url.pathname === '/v1/symbols') return answer({ feed: 'demo', symbols: [...stocks.values()].map((s) => ({ symbol: s.symbol, price: s.price, event_ts: s.price && ns(s.eventMs), source: state.source })) });
  if (url.pathname === '/v1/config') return answer({ feed: 'demo', version: '0.1.0', protocol: 1, calendar: args.calendar, trade_date: '2026-11-23', day: { from: day.from, to: day.to }, sessions: day.sessions, server_ts: ns(Date.now()) });
  const path = normalize(url.pathname === '/' ? '/index.html' : url.pathname);
  try {
    const body = await readFile(join(DIST, path));
    response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': POLICY }).end(body);
  } catch {
    answer({ error: { code: 'not_found', message: path } }, 404);
  }
});

function control(name, value) {
  if (name === 'source') {
    Object.assign(state, { source: value, reason: value === 'live' ? '' : value === 'down' ? 'nothing in the log for 5 s' : 'no trade and no watermark for 12 s' });
    for (const client of clients) for (const symbol of client.symbols) client.say({ type: 'status', symbol, ...status() });
  }
  if (name === 'silent') state.silent = value === '1';
  if (name === 'gap') Object.assign(state, { gapFrom: Date.now(), gapUntil: Date.now() + Number(value) * 1000 });
  if (name === 'drop') for (const client of clients) client.socket.destroy();
}
const status = () => ({ source: state.source, trading: 'trading', since_ts: ns(Date.now()), reason: state.reason });

server.on('upgrade', (request, socket) => {
  if (state.silent) return socket.destroy();
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  const client = { socket, symbols: new Set(), say: (message) => state.silent || socket.write(frame(JSON.stringify(message))) };
  clients.add(client);
  client.say({ type: 'hello', protocol: 1, version: '0.1.0', feed: 'demo', instance: 'fake', calendar: args.calendar, server_ts: ns(Date.now()), heartbeat_ms: 1000, interval_ms: { default: 50, min: 50, max: 60000 }, limits: { symbols: 500, messages_per_s: 20, message_bytes: 16384 } });
  let held = Buffer.alloc(0);
  socket.on('data', (data) => {
    held = Buffer.concat([held, data]);
    for (let got = unframe(held); got; got = unframe(held)) {
      held = got.rest;
      if (got.opcode === 8) socket.end();
      else if (got.opcode === 1) obey(client, JSON.parse(got.text));
    }
  });
  socket.on('close', () => clients.delete(client));
  socket.on('error', () => clients.delete(client));
});

function obey(client, message) {
  if (message.type === 'ping') return client.say({ type: 'pong', id: message.id, server_ts: ns(Date.now()) });
  if (message.type === 'unsubscribe') return message.symbols.forEach((symbol) => client.symbols.delete(symbol));
  if (message.type !== 'subscribe') return client.say({ type: 'error', id: message.id, code: 'unknown_type', message: 'unknown type' });
  const answer = Object.fromEntries(message.symbols.map((symbol) => [symbol, { status: stocks.has(symbol) ? 'ok' : 'unknown_symbol' }]));
  client.say({ type: 'subscribed', id: message.id, symbols: answer, channels: message.channels, interval_ms: 50 });
  for (const symbol of message.symbols.filter((s) => stocks.has(s))) {
    client.symbols.add(symbol);
    const from = message.from ?? day.from;
    const bars = [...stocks.get(symbol).bars.values()].filter((bar) => bar.start >= from).sort((a, b) => a.start - b.start);
    const parts = Math.max(1, Math.ceil(bars.length / 20000));
    for (let part = 0; part < parts; part += 1) {
      client.say({ type: 'snapshot', symbol, part, parts, position: 'x', source: 'store', incomplete: false, from, status: status(),
        quote: part === 0 ? stocks.get(symbol).quote() : null, bars: columns(bars.slice(part * 20000, (part + 1) * 20000)) });
    }
  }
}

let last = Date.now();
setInterval(() => {
  const now = Date.now();
  const away = state.source !== 'live' || now < state.gapUntil;
  if (state.gapUntil && now >= state.gapUntil) {
    for (const client of clients) for (const symbol of client.symbols) client.say({ type: 'gap', symbol, from_ts: ns(state.gapFrom), to_ts: ns(now), reason: 'connection_lost', dropped: 0 });
    state.gapUntil = 0;
  }
  for (const stock of stocks.values()) {
    if (stock.price === null || away) continue;
    const changed = new Map();
    const busy = Math.sin(now / 700) + Math.sin(now / 2300) > -0.6;
    const count = busy ? Math.floor(random() * 2.4) : 0;
    for (let i = 0; i < count; i += 1) changed.set(nowS(), stock.trade(nowS(), false));
    if (random() < 0.02) {
      const bar = stock.bars.get(nowS() - 5 - Math.floor(random() * 20));
      if (bar) changed.set(bar.start, Object.assign(bar, { state: 2, revision: bar.revision + 1, volume: bar.volume + 100, trades: bar.trades + 1 }));
    }
    stock.rate = stock.rate * 0.98 + count * 0.02 * 20;
    stock.eventMs = count ? now - 2 : stock.eventMs;
    for (const client of clients) {
      if (!client.symbols.has(stock.symbol) || changed.size === 0) continue;
      client.say({ type: 'quote', ...stock.quote() });
      client.say({ type: 'bar', symbol: stock.symbol, interval: '1s', bars: columns([...changed.values()].sort((a, b) => a.start - b.start)) });
    }
  }
  if (Math.floor(now / 1000) !== Math.floor(last / 1000)) {
    for (const client of clients) client.say({ type: 'heartbeat', server_ts: ns(now), watermark_ts: away ? null : ns(now - 300), lag_ms: 12, stamps: null });
  }
  last = now;
}, 50);
server.listen(Number(args.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${args.port}/`));
