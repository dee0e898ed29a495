"""Which prints of the tape fill which orders.

Rules
- A print is for an order only if it was stamped after the order was queued and before it expires, and logged after the
  order was queued. A batch says one time before which none of it was logged: a batch that may hold an older print is
  not for the order. Whoever cannot be sure that a print came later does not get it.
- A price update (size 0) is no trade and fills nothing.
- A buy is filled by prints at or below its limit, a sell by those at or above it, at the print's price.
- A print's size is shared in the order of the book and never used twice.

Nothing here loops over prints that touch no order: a vectorised filter compares each print with two numbers per symbol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marketfeed.domain.order_book import OrderBook, SymbolBook
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import NANOS_MAX, Order, TimeInForce
from marketfeed.domain.trades import NANOS, Float64Array, Int64Array

# The largest round amount whose nanos an int64 holds.
_AMOUNT_MAX = 9.2e9


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """Trades of one partition in the log's order. Columns are equally long, int64 unless said otherwise.

    symbols           dictionary that `symbol_index` (any integer) points into
    price, size       nanos
    offset, index     with `partition` the name of a print
    oldest_logged_ts  none of them was logged before it; 0: not known, then they fill nothing
    """

    partition: int
    symbols: Sequence[str]
    symbol_index: npt.NDArray[np.integer]
    event_ts: Int64Array
    price: Int64Array
    size: Int64Array
    offset: Int64Array
    index: Int64Array
    oldest_logged_ts: int

    def __len__(self) -> int:
        return len(self.event_ts)


@dataclass(frozen=True, slots=True)
class Print:
    """One print of a batch; `place` is its position in there."""

    place: int
    symbol: str
    event_ts: int
    price: int
    size: int
    logged_ts: int


def nanos(amount: Float64Array) -> Int64Array:
    """The tape's doubles as integers of 10^-9: exact for decimals of up to 15 digits; too large ones are cut."""
    return np.rint(np.clip(amount, -_AMOUNT_MAX, _AMOUNT_MAX) * NANOS).astype(np.int64)


def is_for(order: Order, found: Print) -> bool:
    """Whether the print comes late enough, and not too late, for the order."""
    in_time = order.queued_ts < found.event_ts and (not order.expires_ts or found.event_ts < order.expires_ts)
    return in_time and order.queued_ts < found.logged_ts


def shares(book: SymbolBook, found: Print) -> list[tuple[Order, int]]:
    """The orders that the print fills, in their order, each with its part of the print's size."""
    left, shared = found.size, []
    for order in book.crossed_by(found.price):
        if not left:
            break
        if order.state is not OrderState.SUSPENDED and is_for(order, found):
            part = min(left, order.remaining)
            shared.append((order, part))
            left -= part
    return shared


def touching(prints: Prints, book: OrderBook) -> Iterator[Print]:
    """The prints that may act on an order of the book as it is now, in their order; what comes of an earlier one may
    leave a later one without effect."""
    here = book.symbols.keys() & set(prints.symbols)
    if not here or not len(prints):
        return
    positions = {symbol: i for i, symbol in enumerate(prints.symbols) if symbol in here}
    buy = np.full(len(prints.symbols), -1, np.int64)
    sell = np.full(len(prints.symbols), NANOS_MAX, np.int64)
    for symbol, i in positions.items():
        buy[i], sell[i] = book.symbols[symbol].best_buy, book.symbols[symbol].best_sell
    traded = prints.size > 0
    of = prints.symbol_index
    chosen = traded & ((prints.price <= buy[of]) | (prints.price >= sell[of]))
    for symbol, i in positions.items():
        if watched := book.symbols[symbol].watched:
            _choose_watched(prints, np.flatnonzero(traded & (of == i)), list(watched.values()), chosen)
    yield from _each(prints, np.flatnonzero(chosen))


def _choose_watched(
    prints: Prints, places: npt.NDArray[np.intp], watched: list[Order], chosen: npt.NDArray[np.bool_]
) -> None:
    """Choose the first print that ends an order's suspension, and the first that decides an IOC order."""
    event_ts = prints.event_ts[places]
    thresholds = {o.suspended_until for o in watched if o.state is OrderState.SUSPENDED}
    thresholds |= {
        o.queued_ts for o in watched if o.time_in_force is TimeInForce.IOC and o.queued_ts < prints.oldest_logged_ts
    }
    for after in thresholds:
        later = event_ts > after
        if later.any():
            chosen[places[int(later.argmax())]] = True


def _each(prints: Prints, places: npt.NDArray[np.intp]) -> Iterator[Print]:
    columns = (prints.symbol_index, prints.event_ts, prints.price, prints.size)
    rows = zip(places.tolist(), *(column[places].tolist() for column in columns), strict=True)
    for place, symbol, event_ts, price, size in rows:
        yield Print(place, prints.symbols[symbol], event_ts, price, size, prints.oldest_logged_ts)
