/** The watch list beside the stock: a row per symbol, and the star that puts the one on show on it. */

import * as format from '../format';
import type { Model } from '../model';
import { changePercent, type Watched, type WatchList } from '../watchlist';
import { element, make, setData, setText } from './dom';

interface Row {
  readonly item: HTMLElement;
  readonly pick: HTMLElement;
  readonly price: HTMLElement;
  readonly change: HTMLElement;
}

export class WatchView {
  private readonly list = element<HTMLUListElement>('watch-list');
  private readonly star = element<HTMLButtonElement>('star');
  private readonly rows = new Map<string, Row>();

  /** `choose` shows a symbol, `toggle` puts it on the list or takes it off. */
  constructor(
    private readonly choose: (symbol: string) => void,
    private readonly toggle: (symbol: string) => void,
  ) {
    this.star.addEventListener('click', () => {
      const { symbol } = this.star.dataset;
      if (symbol) this.toggle(symbol);
    });
  }

  draw(watch: WatchList, model: Model): void {
    this.drawStar(watch, model.symbol);
    for (const [symbol, row] of this.rows) {
      if (watch.has(symbol)) continue;
      row.item.remove();
      this.rows.delete(symbol);
    }
    element('watch-none').hidden = watch.symbols.length > 0;
    for (const watched of watch.all) this.drawRow(this.row(watched.symbol), watched, model);
  }

  private drawStar(watch: WatchList, symbol: string | null): void {
    const on = symbol !== null && watch.has(symbol);
    this.star.hidden = symbol === null;
    setData(this.star, 'symbol', symbol ?? '');
    if (this.star.ariaPressed !== String(on)) this.star.ariaPressed = String(on);
  }

  private drawRow(row: Row, watched: Watched, model: Model): void {
    const { quote, status, digits } = watched;
    const fresh = model.link.state === 'open' && (status === null || status.source === 'live');
    setData(row.item, 'fresh', String(fresh));
    const chosen = String(watched.symbol === model.symbol);
    if (row.pick.ariaCurrent !== chosen) row.pick.ariaCurrent = chosen;
    setText(row.price, format.price(quote?.price ?? null, digits));
    const percent = changePercent(watched);
    setText(row.change, percent === null ? '' : format.percent(percent));
    setData(row.change, 'sign', percent === null ? 'none' : String(Math.sign(Number(percent.toFixed(2)))));
  }

  private row(symbol: string): Row {
    const known = this.rows.get(symbol);
    if (known) return known;
    const item = make('li', '');
    item.dataset['symbol'] = symbol;
    const pick = make('button', '', 'pick') as HTMLButtonElement;
    pick.type = 'button';
    const row: Row = { item, pick, price: make('span', format.DASH, 'last'), change: make('small', '', 'change') };
    pick.append(make('b', symbol), row.price, row.change);
    pick.addEventListener('click', () => this.choose(symbol));
    const drop = make('button', '×', 'drop') as HTMLButtonElement;
    drop.type = 'button';
    drop.ariaLabel = `Take ${symbol} off the watch list`;
    drop.addEventListener('click', () => this.toggle(symbol));
    item.append(pick, drop);
    this.list.append(item);
    this.rows.set(symbol, row);
    return row;
  }
}
