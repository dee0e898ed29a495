/** The words for the state of the connection and the feed. Pure. */

import { age } from '../format';
import type { Health } from '../model';

/** Short, for the pill. */
export function pillText(health: Health, nowMs: number): string {
  switch (health.kind) {
    case 'connecting':
      return 'Connecting';
    case 'waiting': {
      const s = Math.ceil((health.untilMs - nowMs) / 1000);
      return s > 0 ? `Reconnecting in ${s} s` : 'Reconnecting';
    }
    case 'refused':
      return 'Refused';
    case 'silent':
      return 'No signal';
    case 'unknown-symbol':
      return 'Unknown symbol';
    case 'pending':
      return 'Waiting';
    case 'down':
      return 'Source down';
    case 'stale':
      return 'Stale';
    case 'behind':
      return `Behind ${age(health.lagMs)}`;
    case 'halted':
      return 'Halted';
    case 'closed':
      return 'Market closed';
    case 'live':
      return 'Live';
  }
}

/** One sentence, for the pill's title and screen readers. */
export function explain(health: Health): string {
  switch (health.kind) {
    case 'connecting':
      return 'Opening the connection to the server.';
    case 'waiting':
      return 'The connection was lost; the page tries again by itself and keeps what it has.';
    case 'refused':
      return `${health.reason}.`;
    case 'silent':
      return 'Connected, but the server has not been heard for over 3 seconds.';
    case 'unknown-symbol':
      return 'The feed does not carry this symbol.';
    case 'pending':
      return 'Subscribed; the first trade has not come yet.';
    case 'down':
      return sentence('The feed does not reach the server', health.reason);
    case 'stale':
      return sentence('The feed says nothing about this symbol', health.reason);
    case 'behind':
      return 'The server is working through a backlog; prices are older than they look.';
    case 'halted':
      return 'Trading in this symbol is halted.';
    case 'closed':
      return 'The market is closed; this is the last price.';
    case 'live':
      return 'Connected; prices are current.';
  }
}

function sentence(what: string, reason: string): string {
  return reason ? `${what}: ${reason}.` : `${what}.`;
}

/** Whether the price on show may be taken for the present one. */
export function isFresh(health: Health): boolean {
  return health.kind === 'live' || health.kind === 'closed' || health.kind === 'halted';
}

/** What stands in the middle of an empty chart; null when there is nothing to say. */
export function emptyNotice(health: Health, symbol: string | null): { title: string; text: string } | null {
  switch (health.kind) {
    case 'unknown-symbol':
      return { title: `No ${symbol ?? 'such symbol'} here`, text: 'The feed does not carry it. Press / to find another one.' };
    case 'pending':
      return { title: 'Waiting for the first trade', text: `${symbol ?? 'The symbol'} is subscribed and appears as soon as it trades.` };
    case 'waiting':
    case 'connecting':
    case 'silent':
      return { title: 'Connecting', text: 'The page goes on by itself as soon as the server answers.' };
    case 'refused':
      return { title: 'Not connected', text: `${health.reason}.` };
    case 'down':
      return { title: 'The source is down', text: 'Nothing reaches the server at present. The chart fills when it is back.' };
    default:
      return { title: 'No trades yet today', text: 'Each second with a trade becomes a bar.' };
  }
}
