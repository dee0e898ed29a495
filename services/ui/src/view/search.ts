/** The symbol search: an ARIA combobox with a list below it. "/" puts the cursor there from anywhere. */

import * as format from '../format';
import type { SymbolEntry } from '../protocol';
import { element, make } from './dom';

const SHOWN_MAX = 50;

/** Entries that contain `typed`, those that begin with it first; in their own order when nothing is typed. */
export function rank(entries: readonly SymbolEntry[], typed: string): SymbolEntry[] {
  const wanted = typed.trim().toUpperCase();
  if (wanted === '') return entries.slice(0, SHOWN_MAX);
  const place = (symbol: string): number => {
    if (symbol === wanted) return 0;
    const at = symbol.toUpperCase().indexOf(wanted);
    if (at < 0) return -1;
    return at === 0 ? 1 : /[^A-Z0-9]/i.test(symbol[at - 1]!) ? 2 : 3; // BINANCE:BTCUSDT is found by BTC before XBTC is
  };
  return entries
    .map((entry) => ({ entry, place: place(entry.symbol) }))
    .filter(({ place: p }) => p >= 0)
    .sort((a, b) => a.place - b.place || a.entry.symbol.length - b.entry.symbol.length || (a.entry.symbol < b.entry.symbol ? -1 : 1))
    .slice(0, SHOWN_MAX)
    .map(({ entry }) => entry);
}

export class Search {
  private readonly input = element<HTMLInputElement>('search-input');
  private readonly list = element<HTMLUListElement>('search-list');
  private entries: readonly SymbolEntry[] = [];
  private found: SymbolEntry[] = [];
  private active = 0;

  /** `choose` is called with the symbol picked, `refresh` when the list is about to be needed. */
  constructor(
    private readonly choose: (symbol: string) => void,
    private readonly refresh: () => void,
  ) {
    this.input.addEventListener('focus', () => {
      this.refresh();
      this.input.select();
      this.open();
    });
    this.input.addEventListener('input', () => this.open());
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.input.addEventListener('blur', () => this.close());
    // Not click: the input would lose the focus, and the list would close, before it came.
    this.list.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      const item = (event.target as Element).closest('[role=option]');
      if (item instanceof HTMLElement) this.pick(Number(item.dataset['index']));
    });
    document.addEventListener('keydown', (event) => {
      const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
      if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.input.focus();
    });
  }

  setEntries(entries: readonly SymbolEntry[]): void {
    this.entries = entries;
    if (!this.list.hidden) this.open(this.active);
  }

  private open(active = 0): void {
    this.found = rank(this.entries, this.input.value);
    this.active = Math.min(active, Math.max(0, this.found.length - 1));
    this.list.replaceChildren(...(this.found.length > 0 ? this.found.map((entry, i) => this.item(entry, i)) : [this.none()]));
    this.list.hidden = false;
    this.input.setAttribute('aria-expanded', 'true');
    this.mark();
  }

  private item(entry: SymbolEntry, index: number): HTMLElement {
    const item = make('li', '');
    item.id = `search-option-${index}`;
    item.role = 'option';
    item.dataset['index'] = String(index);
    const name = make('b', '');
    const typed = this.input.value.trim().toUpperCase();
    const at = typed === '' ? -1 : entry.symbol.toUpperCase().indexOf(typed);
    if (at < 0) name.textContent = entry.symbol;
    else {
      name.append(entry.symbol.slice(0, at), make('mark', entry.symbol.slice(at, at + typed.length)), entry.symbol.slice(at + typed.length));
    }
    const price = entry.price === null ? format.DASH : format.price(entry.price, Math.max(2, format.decimalsOf(entry.price)));
    item.append(name, make('span', price));
    return item;
  }

  private none(): HTMLElement {
    const item = make('li', this.entries.length === 0 ? 'No symbols yet' : 'No symbol matches', 'none');
    item.role = 'presentation';
    return item;
  }

  private mark(): void {
    const items = [...this.list.children];
    items.forEach((item, i) => item.setAttribute('aria-selected', String(i === this.active && this.found.length > 0)));
    const current = this.found.length > 0 ? items[this.active] : undefined;
    if (current) this.input.setAttribute('aria-activedescendant', current.id);
    else this.input.removeAttribute('aria-activedescendant');
    current?.scrollIntoView({ block: 'nearest' });
  }

  private key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      if (this.list.hidden) this.open();
      else if (this.found.length > 0) this.active = (this.active + step + this.found.length) % this.found.length;
      this.mark();
    } else if (event.key === 'Enter') {
      this.pick(this.active);
    } else if (event.key === 'Escape') {
      this.input.value = '';
      this.input.blur();
    } else return;
    event.preventDefault();
  }

  private pick(index: number): void {
    const typed = this.input.value.trim();
    // A symbol that the list does not have may still be one: the server decides.
    const symbol = this.found[index]?.symbol ?? (typed === '' ? undefined : typed.toUpperCase());
    if (symbol === undefined) return;
    this.input.value = '';
    this.input.blur();
    this.choose(symbol);
  }

  private close(): void {
    this.list.hidden = true;
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }
}
