/** The ticket that places a paper order for the stock on show, and the orders with what became of them. */

import type { Model } from '../model';
import * as format from '../format';
import { decimal, isWorking, nanos, type Order, type OrderList, type Side, type TimeInForce, type Wish } from '../orders';
import { element, make, setData, setText } from './dom';

interface Row {
  readonly item: HTMLElement;
  readonly what: HTMLElement;
  readonly state: HTMLElement;
  readonly detail: HTMLElement;
  readonly cancel: HTMLButtonElement;
}

const STATES: Record<string, string> = {
  WORKING: 'Working', PARTIALLY_FILLED: 'Part filled', FILLED: 'Filled', CANCELLED: 'Cancelled', REPLACED: 'Replaced',
  EXPIRED: 'Expired', REJECTED: 'Rejected', SUSPENDED: 'Suspended',
};
/** Reasons that stand in an order, as sentences. */
const REASONS: Record<string, string> = {
  OUTSIDE_COLLAR: 'too far from the price', STALE: 'the price is too old', FEED_GAP: 'the feed has a gap', HALTED: 'trading is halted',
  SESSION_CLOSED: 'no session is open', NO_TRADE: 'it has not traded yet', IOC_NO_TAPE: 'no trade came in time',
};

export class TicketView {
  private readonly form = element<HTMLFormElement>('ticket-form');
  private readonly quantity = element<HTMLInputElement>('ticket-quantity');
  private readonly limit = element<HTMLInputElement>('ticket-limit');
  private readonly force = element<HTMLSelectElement>('ticket-force');
  private readonly button = element<HTMLButtonElement>('ticket-place');
  private readonly said = element('ticket-said');
  private readonly list = element<HTMLUListElement>('orders-list');
  private readonly rows = new Map<string, Row>();
  private symbol = '';
  private price: string | null = null;
  private sending = false;

  constructor(
    private readonly place: (wish: Wish) => Promise<void>,
    private readonly cancel: (order: Order) => void,
  ) {
    this.form.addEventListener('input', () => this.refresh());
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.send();
    });
    element('ticket').hidden = false;
  }

  draw(model: Model, orders: OrderList, link: { open: boolean; fresh: boolean }): void {
    const symbol = model.symbol ?? '';
    this.price = model.quote === null ? null : format.price(model.quote.price, model.digits).replaceAll(',', '');
    if (symbol !== this.symbol) {
      this.symbol = symbol;
      this.limit.value = '';
      this.say('', 'none');
    }
    if (this.limit.value === '' && this.price !== null && document.activeElement !== this.limit) this.limit.value = this.price;
    setText(element('ticket-link'), link.open ? (link.fresh ? '' : 'The tape is stale: nothing fills') : 'Connecting to the order service');
    this.refresh();
    this.drawOrders(orders);
  }

  /** What came of the last attempt; `kind` is good, bad or none. */
  say(text: string, kind: 'good' | 'bad' | 'none'): void {
    setText(this.said, text);
    setData(this.said, 'kind', kind);
  }

  private chosen(name: string): string {
    return new FormData(this.form).get(name)?.toString() ?? '';
  }

  private wish(): Wish | null {
    const type = this.chosen('type') === 'limit' ? 'limit' : 'market';
    const quantity = nanos(this.quantity.value);
    const limit = type === 'limit' ? nanos(this.limit.value) : 0n;
    if (quantity === null || limit === null || this.symbol === '') return null;
    return { symbol: this.symbol, side: this.side(), type, quantity, limit, timeInForce: this.force.value as TimeInForce };
  }

  private side(): Side {
    return this.chosen('side') === 'sell' ? 'sell' : 'buy';
  }

  private refresh(): void {
    const limited = this.chosen('type') === 'limit';
    element('ticket-limited').hidden = !limited;
    setData(this.form, 'side', this.side());
    const bad = (input: HTMLInputElement): void => {
      const wrong = String(input.value !== '' && nanos(input.value) === null);
      if (input.ariaInvalid !== wrong) input.ariaInvalid = wrong;
    };
    bad(this.quantity);
    bad(this.limit);
    const verb = this.side() === 'buy' ? 'Buy' : 'Sell';
    setText(this.button, this.sending ? 'Placing…' : `${verb} ${this.quantity.value.trim()} ${this.symbol}`.replace(/ +/g, ' '));
    this.button.disabled = this.sending || this.wish() === null;
  }

  private async send(): Promise<void> {
    const wish = this.wish();
    if (wish === null || this.sending) return;
    this.sending = true;
    this.say('', 'none');
    this.refresh();
    try {
      await this.place(wish);
    } finally {
      this.sending = false;
      this.refresh();
    }
  }

  private drawOrders(orders: OrderList): void {
    const all = orders.all;
    const known = new Set(all.map((order) => order.id));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.item.remove();
      this.rows.delete(id);
    }
    element('orders-none').hidden = all.length > 0;
    for (const order of [...all].reverse()) this.drawRow(this.row(order), order);
  }

  private drawRow(row: Row, order: Order): void {
    const price = order.type === 'limit' ? `at ${decimal(order.limit, 2)}` : 'at market';
    setText(row.what, `${order.side === 'buy' ? 'Buy' : 'Sell'} ${decimal(order.quantity)} ${order.symbol} ${price}`);
    setText(row.state, STATES[order.state] ?? order.state);
    setData(row.item, 'state', order.state);
    setData(row.item, 'side', order.side);
    const filled = order.filled > 0n ? `${decimal(order.filled)} filled at ${rounded(order.average)}` : '';
    const reason = order.reason === '' ? '' : (REASONS[order.reason] ?? order.reason);
    setText(row.detail, [filled, reason].filter((text) => text !== '').join(', '));
    row.cancel.hidden = !isWorking(order);
  }

  private row(order: Order): Row {
    const known = this.rows.get(order.id);
    if (known) return known;
    const cancel = make('button', '×', 'drop') as HTMLButtonElement;
    cancel.type = 'button';
    cancel.ariaLabel = 'Cancel this order';
    cancel.title = 'Cancel';
    cancel.addEventListener('click', () => this.cancel(order));
    const row: Row = { item: make('li', ''), what: make('b', ''), state: make('span', '', 'state'), detail: make('small', ''), cancel };
    row.item.dataset['order'] = order.id;
    row.item.append(row.what, row.state, row.detail, cancel);
    this.list.prepend(row.item);
    this.rows.set(order.id, row);
    return row;
  }
}

/** A mean price in at most four places. */
function rounded(value: bigint): string {
  return decimal(((value + 50_000n) / 100_000n) * 100_000n, 2);
}
