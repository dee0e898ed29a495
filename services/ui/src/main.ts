/**
 * Puts the page together. Messages change the model at once; the page is drawn from the model in animation frames, at most
 * ten times a second, so that a fast feed costs no more than a slow one.
 */

import * as api from './api';
import { backoffMs } from './backoff';
import type { Bar } from './bars';
import { StreamClient, type Socket } from './client';
import { Model, type Health } from './model';
import { decimal, OrderList, OrdersClient, Refused, type Wish } from './orders';
import type { SymbolEntry } from './protocol';
import { ServerClock } from './time';
import { DayView } from './view/day';
import { element, setText } from './view/dom';
import { FrameView } from './view/frame';
import { QuoteView } from './view/quote';
import { Search } from './view/search';
import { TicketView } from './view/ticket';
import { WatchView } from './view/watch';
import { readKept, WatchList } from './watchlist';

const DRAW_EVERY_MS = 100;
/** When a pixel is several seconds wide, nobody sees ten pictures of them a second. */
const DRAW_WIDE_EVERY_MS = 400;
const TICK_MS = 100;
const SYMBOLS_RETRY_MS = 2_000;
const WATCH_KEY = 'marketfeed.watch';
/** So many of the feed's first symbols are watched by whoever has not chosen any. */
const WATCHED_AT_FIRST = 6;
/** A day that could not be had whole is asked for again, at growing intervals: each time costs the server. */
const REFRESH = { baseMs: 30_000, capMs: 300_000 };

const clock = new ServerClock();
const model = new Model(clock);
const day = new DayView();
const quote = new QuoteView();
const frame = new FrameView(() => day.chart.recolour());
const watch = new WatchList();
const watchView = new WatchView(select, toggleWatched);
const orders = new OrderList();
const ordersLink = { open: false, fresh: true };
let ticket: TicketView | null = null;
const search = new Search(select, () => void loadSymbols());

let dirty = true;
let drawnMs = 0;
let chartDirty = true;
let chartDrawnMs = 0;
let generation = -1;
let dateSeen = '';

const client = new StreamClient(
  {
    open: () => new WebSocket(api.streamAddress()) as Socket,
    token: api.token,
    nowMs: () => Date.now(),
    random: Math.random,
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
  },
  {
    link: (link) => {
      model.link = link;
      dirty = true;
      if (link.state === 'open') void loadConfig();
    },
    message: (message) => {
      if (model.apply(message, Date.now())) dirty = true;
      if (watch.apply(message)) dirty = true;
      followTheDate();
    },
    resumeFrom: () => model.resumeFrom(clock.at(Date.now())),
  },
  clock,
);

function select(symbol: string): void {
  const url = new URL(location.href);
  if (url.searchParams.get('symbol') !== symbol) {
    url.searchParams.set('symbol', symbol);
    history.pushState(null, '', url);
  }
  show(symbol);
}

function show(symbol: string): void {
  if (symbol === model.symbol) return;
  model.choose(symbol);
  dateSeen = '';
  day.chart.choose('1D');
  client.select(symbol);
  dirty = true;
}

function toggleWatched(symbol: string): void {
  if (watch.has(symbol)) watch.remove(symbol);
  else if (watch.add(symbol) && symbol === model.symbol && model.quote) watch.apply({ type: 'quote', quote: model.quote });
  try {
    localStorage.setItem(WATCH_KEY, JSON.stringify(watch.symbols));
  } catch {
    // Storage may be forbidden; the list lasts as long as the page then.
  }
  client.follow(watch.symbols);
  dirty = true;
}

function keptSymbols(): string[] | null {
  try {
    return readKept(localStorage.getItem(WATCH_KEY));
  } catch {
    return null;
  }
}

/** What was watched last time, else the feed's first symbols; waits for the feed if it has none yet. */
async function fillWatchList(): Promise<void> {
  const symbols = keptSymbols() ?? (await loadSymbols()).slice(0, WATCHED_AT_FIRST).map((entry) => entry.symbol);
  if (symbols.length === 0 && keptSymbols() === null) {
    setTimeout(() => void fillWatchList(), SYMBOLS_RETRY_MS);
    return;
  }
  for (const symbol of symbols) watch.add(symbol);
  client.follow(watch.symbols);
  dirty = true;
}

/** A new trade date brings new session bounds, and where the day is the chart a new chart. */
function followTheDate(): void {
  const date = model.quote?.day.date ?? '';
  if (date === '' || date === dateSeen) return;
  const rolled = dateSeen !== '';
  dateSeen = date;
  if (!rolled) return;
  void loadConfig();
  if (model.config?.calendar !== '24x7') {
    model.complete = false;
    client.refresh();
  }
}

async function loadConfig(): Promise<void> {
  const config = await api.config();
  if (config === null) return;
  const first = model.config === null;
  model.config = config;
  if (ticket === null && config.ordersUrl !== null) ticket = openTicket(config.ordersUrl);
  // The first subscription may have gone out before the calendar was known.
  if (first && config.calendar === '24x7' && model.ready) client.refresh();
  dirty = true;
}

/** The ticket, and the stream that tells what becomes of orders. */
function openTicket(url: string): TicketView {
  const trading = new OrdersClient(
    url.replace(/\/+$/, ''),
    {
      fetch: (address, init) => fetch(address, init),
      token: api.token,
      random: Math.random,
      pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      // Not randomUUID, which pages have only over HTTPS or from this machine.
      newId: () => `page-${[...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16).padStart(8, '0')).join('')}`,
    },
    {
      order: (order) => {
        if (orders.apply(order)) dirty = true;
      },
      link: (open, fresh) => {
        ordersLink.open = open;
        ordersLink.fresh = fresh;
        dirty = true;
      },
    },
  );
  const told = (error: unknown): void => view.say(error instanceof Refused ? error.message : String(error), 'bad');
  const view = new TicketView(
    async (wish: Wish) => {
      try {
        const order = await trading.submit(wish);
        orders.apply(order);
        const filled = order.filled > 0n ? `, ${decimal(order.filled)} filled` : '';
        if (order.state === 'REJECTED') view.say('Rejected, see below', 'bad');
        else view.say(`Order ${order.id} accepted${filled}`, 'good');
      } catch (error) {
        told(error);
      }
      dirty = true;
    },
    (order) => {
      trading.cancel(order).then((ended) => {
        orders.apply(ended);
        dirty = true;
      }, told);
    },
  );
  void trading.follow(orders);
  return view;
}

async function loadSymbols(): Promise<SymbolEntry[]> {
  const entries = (await api.symbols()) ?? [];
  search.setEntries(entries);
  return entries;
}

/** The symbol of the address, else the first one that has a price; waits for the feed if there is none yet. */
async function chooseFirst(): Promise<void> {
  const wanted = new URL(location.href).searchParams.get('symbol');
  if (wanted) {
    show(wanted);
    return;
  }
  const entries = await loadSymbols();
  const first = entries.find((entry) => entry.price !== null) ?? entries[0];
  if (model.symbol !== null) return;
  if (!first) {
    setTimeout(() => void chooseFirst(), SYMBOLS_RETRY_MS);
    return;
  }
  const url = new URL(location.href);
  url.searchParams.set('symbol', first.symbol);
  history.replaceState(null, '', url);
  show(first.symbol);
}

function refreshLater(attempt: number): void {
  setTimeout(() => {
    const lacking = model.ready && !model.complete && model.link.state === 'open';
    if (lacking) client.refresh();
    refreshLater(lacking ? attempt + 1 : 0);
  }, backoffMs(attempt, Math.random, REFRESH));
}

function draw(): void {
  requestAnimationFrame(draw);
  const nowMs = Date.now();
  if (dirty && nowMs - drawnMs >= DRAW_EVERY_MS) {
    dirty = false;
    chartDirty = true;
    drawnMs = nowMs;
    quote.draw(model, nowMs);
    frame.draw(model, nowMs);
    watchView.draw(watch, model);
    ticket?.draw(model, orders, ordersLink);
  }
  const pauseMs = day.chart.isWide() ? DRAW_WIDE_EVERY_MS : DRAW_EVERY_MS;
  if (chartDirty && (nowMs - chartDrawnMs >= pauseMs || model.generation !== generation)) {
    chartDirty = false;
    chartDrawnMs = nowMs;
    generation = model.generation;
    day.draw(model);
  }
}

function tick(): void {
  const nowMs = Date.now();
  quote.drawAge(model, nowMs);
  frame.draw(model, nowMs);
}

async function start(): Promise<void> {
  api.takeToken();
  setText(element('symbol'), '');
  window.addEventListener('popstate', () => void chooseFirst());
  window.addEventListener('online', () => client.hurry());
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) client.hurry();
  });
  setInterval(tick, TICK_MS);
  refreshLater(0);
  requestAnimationFrame(draw);
  await loadConfig();
  client.start();
  await Promise.all([chooseFirst(), fillWatchList()]);
}

declare global {
  interface Window {
    /** What the page holds, for the console and for tests: read only. */
    marketfeed: { bars: () => Bar[]; health: () => Health; unread: () => number };
  }
}
window.marketfeed = { bars: () => [...model.bars.all()], health: () => model.health, unread: () => client.unread };

void start();
