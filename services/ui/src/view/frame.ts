/** The rim of the page: connection pill, colour scheme, footer. */

import * as format from '../format';
import type { Model } from '../model';
import { element, make, setData, setText } from './dom';
import { explain, pillText } from './health';

const THEME_KEY = 'marketfeed.theme';

export class FrameView {
  private readonly pill = element('pill');
  private latencyMs = 0;

  constructor(recolour: () => void) {
    const root = document.documentElement;
    const system = matchMedia('(prefers-color-scheme: dark)');
    const dark = (): boolean => (root.dataset['theme'] ?? (system.matches ? 'dark' : 'light')) === 'dark';
    const button = element('theme');
    const label = (): void => button.setAttribute('aria-label', dark() ? 'Use light colours' : 'Use dark colours');
    button.addEventListener('click', () => {
      root.dataset['theme'] = dark() ? 'light' : 'dark';
      try {
        localStorage.setItem(THEME_KEY, root.dataset['theme']);
      } catch {
        // Storage may be forbidden; the choice then lasts as long as the page.
      }
      label();
      recolour();
    });
    system.addEventListener('change', () => {
      label();
      recolour();
    });
    label();
  }

  draw(model: Model, nowMs: number): void {
    const { health } = model;
    setData(this.pill, 'kind', health.kind);
    setText(element('pill-text'), pillText(health, nowMs));
    const title = explain(health);
    if (this.pill.title !== title) this.pill.title = title;
    // Spoken once per state: the countdown in the pill would be read out each second.
    setText(element('pill-spoken'), title);
    if (nowMs - this.latencyMs >= 1000) {
      this.latencyMs = nowMs;
      this.drawLatency(model);
      setText(element('facts'), facts(model));
    }
    this.drawTitle(model);
  }

  /** Exchange's stamp to this page, and its parts; the middle one of the last few quotes. */
  private drawLatency(model: Model): void {
    const node = element('latency');
    const { latency } = model;
    if (!latency || model.health.kind !== 'live') {
      setText(node, '');
      return;
    }
    const hop = (name: string, ms: number): HTMLElement => make('span', `${name} ${format.delay(ms)}`);
    node.replaceChildren(
      'Latency ',
      make('b', `${format.delay(latency.totalMs)} ms`),
      hop('feed', latency.ingestMs),
      hop('log', latency.logMs),
      hop('server', latency.serverMs),
      hop('page', latency.pageMs),
    );
    node.title = 'From the stamp of the trade to this page: to ingest, into the log, out of the server, over the network. Milliseconds, the middle of the last 40 quotes.';
  }

  private drawTitle({ quote, symbol, digits, changePercent }: Model): void {
    if (!quote) document.title = symbol ? `${symbol} · marketfeed` : 'marketfeed';
    else {
      const move = changePercent === null ? '' : ` ${format.percent(changePercent)}`;
      document.title = `${format.price(quote.price, digits)}${move} ${quote.symbol}`;
    }
  }
}

function facts({ bars, source, ready, complete }: Model): string {
  if (!ready || bars.count === 0) return '';
  const count = new Intl.NumberFormat('en-US').format(bars.count);
  const parts = [`${count} ${bars.count === 1 ? 'bar' : 'bars'} of 1 s`];
  if (bars.revised > 0) parts.push(`${bars.revised} revised`);
  if (source === 'cache') parts.push('older bars show closes only');
  else if (!complete) parts.push('older bars may be missing');
  return parts.join(' · ');
}
