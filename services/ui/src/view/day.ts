/** The lower part of the page: the chart with its legend, switches and notices. */

import { DayChart, type Legend } from '../chart/chart';
import type { Preset } from '../chart/viewport';
import type { Style } from '../chart/painter';
import * as format from '../format';
import type { Model } from '../model';
import { element, make, setText } from './dom';
import { emptyNotice, isFresh } from './health';

const STYLE_KEY = 'marketfeed.style';

export class DayView {
  readonly chart = new DayChart(element('chart'));
  private readonly legend = element('legend');
  private readonly live = element<HTMLButtonElement>('live');
  private zone = format.zone('UTC');
  private zoneName = 'UTC';
  private model: Model | null = null;
  private legendText = '';

  constructor() {
    this.setStyle(remembered());
    element('spans').addEventListener('click', (event) => {
      const span = target(event)?.dataset['span'];
      if (span) this.chart.choose(span as Preset);
    });
    element('styles').addEventListener('click', (event) => {
      const style = target(event)?.dataset['style'];
      if (style) this.setStyle(style as Style);
    });
    this.live.addEventListener('click', () => {
      this.chart.goLive();
      element('chart').focus({ preventScroll: true });
    });
    element('chart').addEventListener('keydown', (event) => this.key(event));
    this.chart.onView = () => this.drawSwitches();
    this.chart.onHover = () => this.drawLegend();
  }

  draw(model: Model): void {
    this.model = model;
    const wanted = model.config?.calendar === 'us-equity' ? 'America/New_York' : 'UTC';
    if (wanted !== this.zoneName) {
      this.zoneName = wanted;
      this.zone = format.zone(wanted);
    }
    const { health, quote, bars } = model;
    this.chart.draw({
      bars,
      edgeS: model.edgeS,
      price: quote?.price ?? bars.last()?.close ?? null,
      direction: quote?.direction ?? 0,
      previousClose: quote?.previousClose ?? null,
      digits: model.digits,
      sessions: model.config?.sessions ?? [],
      dayFromS: model.config?.dayFromS ?? null,
      live: isFresh(health),
      zone: this.zone,
    });
    this.drawNotice(model);
    this.drawLegend();
    this.drawSwitches();
  }

  private drawNotice(model: Model): void {
    const notice = model.bars.count === 0 ? emptyNotice(model.health, model.symbol) : null;
    element('notice').hidden = notice === null;
    if (!notice) return;
    setText(element('notice-title'), notice.title);
    setText(element('notice-text'), notice.text);
  }

  private drawLegend(): void {
    const { model } = this;
    if (!model) return;
    const legend = this.chart.legend();
    const parts = this.legendParts(model, legend);
    const text = parts.map((part) => part.textContent).join('|');
    if (text === this.legendText) return;
    this.legendText = text;
    this.legend.replaceChildren(...parts);
  }

  private legendParts(model: Model, { group, stepS, hovering, atS }: Legend): HTMLElement[] {
    if (atS === null || model.bars.count === 0) return [];
    const { digits } = model;
    const when = make('span', '', 'when');
    when.append(make('b', this.zone.clock(group?.startS ?? atS)), ` ${this.zone.label(atS)} · ${format.span(stepS)}`);
    if (!group) {
      const held = hovering ? model.bars.before(atS) : null;
      return [when, make('span', held ? `no trades, last ${format.price(held.close, digits)}` : 'no trades')];
    }
    const parts = [when, ...pairs({
      O: format.price(group.open, digits),
      H: format.price(group.high, digits),
      L: format.price(group.low, digits),
      C: format.price(group.close, digits),
      Vol: format.compact(group.volume),
      Trades: format.compact(group.trades),
    })];
    const bar = stepS === 1 ? model.bars.at(group.startS) : null;
    if (bar && bar.revision > 0) parts.push(make('span', bar.revision === 1 ? 'revised' : `revised ${bar.revision}×`));
    if (group.incomplete) parts.push(make('span', 'incomplete', 'warn'));
    return parts;
  }

  private drawSwitches(): void {
    const { viewport } = this.chart;
    press('spans', 'span', viewport.preset ?? '');
    this.live.hidden = viewport.following || (this.model?.bars.count ?? 0) === 0;
  }

  private setStyle(style: Style): void {
    this.chart.style = style;
    press('styles', 'style', style);
    try {
      localStorage.setItem(STYLE_KEY, style);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    this.drawLegend();
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act: Record<string, () => void> = {
      ArrowLeft: () => this.chart.nudge(-0.15, 1),
      ArrowRight: () => this.chart.nudge(0.15, 1),
      '+': () => this.chart.nudge(0, 0.7),
      '=': () => this.chart.nudge(0, 0.7),
      '-': () => this.chart.nudge(0, 1 / 0.7),
      End: () => this.chart.goLive(),
      Home: () => this.chart.choose('1D'),
    };
    const run = act[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }
}

function pairs(values: Readonly<Record<string, string>>): HTMLElement[] {
  return Object.entries(values).map(([name, value]) => {
    const part = make('span', '', name.toLowerCase());
    part.append(make('i', name), make('b', value));
    return part;
  });
}

function target(event: Event): HTMLElement | null {
  return event.target instanceof Element ? event.target.closest('button') : null;
}

function press(group: string, key: string, value: string): void {
  for (const button of element(group).querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button.dataset[key] === value));
  }
}

function remembered(): Style {
  try {
    return localStorage.getItem(STYLE_KEY) === 'candles' ? 'candles' : 'line';
  } catch {
    return 'line';
  }
}
