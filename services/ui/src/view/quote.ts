/** The upper part of the page: price, change, age, the day's facts. */

import * as format from '../format';
import type { Model } from '../model';
import type { Session } from '../protocol';
import { element, make, setData, setText } from './dom';
import { isFresh } from './health';

const SESSION_NAMES: Readonly<Record<Session, string>> = {
  pre: 'Pre-market',
  regular: 'Regular hours',
  post: 'After hours',
  closed: 'Closed',
};
const FLASH_MS = 800;
const FLASH_PAUSE_MS = 450;
const SPEAK_EVERY_MS = 15_000;

/** Splits a new price where it differs from the old one, so that only the part that moved takes the colour. */
export function movedPart(before: string, now: string): [same: string, moved: string] {
  if (before.length !== now.length) return ['', now];
  let at = 0;
  while (at < now.length && before[at] === now[at]) at += 1;
  return [now.slice(0, at), now.slice(at)];
}

export class QuoteView {
  private readonly box = element('quote');
  private readonly price = element('price');
  private readonly flashBox = element('flash');
  private readonly spoken = element('spoken');
  private readonly calm = matchMedia('(prefers-reduced-motion: reduce)');
  private shown = '';
  private symbol: string | null = null;
  private flash: Animation | null = null;
  private flashedMs = 0;
  private spokenMs = 0;

  draw(model: Model, nowMs: number): void {
    const { quote, digits } = model;
    const fresh = isFresh(model.health);
    if (model.symbol !== this.symbol) {
      this.symbol = model.symbol;
      this.shown = '';
      this.spokenMs = 0;
    }
    setData(this.box, 'fresh', String(fresh || quote === null));
    setText(element('symbol'), model.symbol ?? 'marketfeed');
    setText(element('session'), this.sessionText(model));
    this.drawPrice(format.price(quote?.price ?? null, digits), quote?.direction ?? 0, fresh, nowMs);
    this.drawChange(model);
    this.drawRange(model);
    setText(element('volume'), format.compact(quote?.day.volume ?? null));
    this.drawRate(quote?.tradesPerS ?? null);
    setText(element('open'), format.price(quote?.day.open ?? null, digits));
    setText(element('previous'), format.price(quote?.previousClose ?? null, digits));
    this.drawAge(model, nowMs);
    this.speak(model, nowMs);
  }

  /** The part that ticks without a message. */
  drawAge(model: Model, nowMs: number): void {
    const ageMs = model.ageMs(nowMs);
    setText(element('age'), ageMs === null ? '' : `${format.age(ageMs)} ago`);
  }

  private sessionText(model: Model): string {
    const session = model.quote?.session ?? null;
    const round = model.config === null || model.config.calendar === '24x7';
    return session === null ? '' : round ? 'Trading round the clock' : SESSION_NAMES[session];
  }

  private drawPrice(text: string, direction: number, fresh: boolean, nowMs: number): void {
    if (text === this.shown) return;
    const first = this.shown === '' || this.shown === format.DASH;
    const [same, moved] = first ? [text, ''] : movedPart(this.shown, text);
    this.shown = text;
    this.price.replaceChildren(same, make('span', moved, 'tail'));
    setData(this.price, 'direction', String(direction));
    if (first || !fresh || this.calm.matches || nowMs - this.flashedMs < FLASH_PAUSE_MS || direction === 0) return;
    this.flashedMs = nowMs;
    setData(this.flashBox, 'direction', String(direction));
    this.flash?.cancel();
    // Opacity alone: the compositor fades it without painting the page again.
    this.flash = this.flashBox.animate({ opacity: [1, 0] }, { duration: FLASH_MS, easing: 'ease-out' });
  }

  private drawChange(model: Model): void {
    const node = element('change');
    const { change, changePercent, digits } = model;
    const sign = Math.sign(Number((change ?? 0).toFixed(digits)));
    setData(node, 'sign', change === null ? 'none' : String(sign));
    if (change === null) {
      setText(node, model.quote ? `${format.DASH} no previous close` : format.DASH);
      return;
    }
    const text = `${format.signed(change, digits)} (${format.percent(changePercent)})`;
    const arrow = sign > 0 ? '▲' : sign < 0 ? '▼' : '';
    if (node.textContent === arrow + text) return;
    node.replaceChildren(make('small', arrow), text);
  }

  private drawRange({ quote, digits }: Model): void {
    const { low = null, high = null, open = null } = quote?.day ?? {};
    setText(element('day-low'), format.price(low, digits));
    setText(element('day-high'), format.price(high, digits));
    const place = (id: string, value: number | null): void => {
      const known = value !== null && low !== null && high !== null;
      const share = known && high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5;
      element(id).hidden = !known;
      element(id).style.left = `${(share * 100).toFixed(1)}%`;
    };
    place('track-now', quote?.price ?? null);
    place('track-open', open);
  }

  private drawRate(perSecond: number | null): void {
    const node = element('rate');
    const text = format.rate(perSecond);
    if (node.dataset['value'] === text) return;
    node.dataset['value'] = text;
    node.replaceChildren(text, ...(perSecond === null ? [] : [make('small', '/s')]));
  }

  /** A screen reader hears the price now and then, not each tick. */
  private speak(model: Model, nowMs: number): void {
    const { quote, symbol, changePercent } = model;
    if (!quote || nowMs - this.spokenMs < SPEAK_EVERY_MS || document.hidden) return;
    this.spokenMs = nowMs;
    const move = changePercent === null ? '' : `, ${changePercent < 0 ? 'down' : 'up'} ${Math.abs(changePercent).toFixed(2)} percent`;
    this.spoken.textContent = `${symbol} ${format.price(quote.price, model.digits)}${move}`;
  }
}
