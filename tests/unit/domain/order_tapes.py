"""Tapes, orders and a desk for the tests of orders, in small whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.order_desk import Desk, DeskState
from marketfeed.domain.order_matching import Prints
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.order_validation import OrderRules, Reference, Ticks
from marketfeed.domain.orders import Order, OrderChange, OrderRequest, OrderType, Side, TimeInForce
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS

RULES = OrderRules(
    ticks=Ticks((0,), (1,)),
    lot=1,
    quantity_max=10**12,
    collar_bps=1_000,
    max_age_ms=5_000,
    working_max=50,
    account_working_max=40,
)
# An instant within a UTC day; orders are accepted around it, in nanoseconds.
T0 = 1_790_000_000 * NANOS
NO_PRICE = Reference(None, "STALE", T0)


@dataclass(frozen=True)
class Row:
    """A print: one trade of a record. `record` is the offset, `logged` belongs to the record."""

    record: int
    symbol: str
    event_ts: int
    price: int
    size: int
    logged: int


def desk(orders: Sequence[Order] = (), rules: OrderRules = RULES, calendar_name: str = "24x7") -> Desk:
    """A desk that has these orders."""
    highest = max((order.number for order in orders), default=0)
    updates = {order.account: 1_000 for order in orders}
    return Desk(DeskState(highest + 1, 1, 1, updates, orders), rules, calendar(calendar_name))


def limit(
    side: Side, price: int, quantity: int, symbol: str = "A", tif: TimeInForce = TimeInForce.GTC, key: str = "c"
) -> OrderRequest:
    """A limit order."""
    return OrderRequest(key, symbol, side, OrderType.LIMIT, tif, quantity, price)


def resting(number: int, side: Side, price: int, quantity: int, symbol: str = "A", queued_ts: int = T0) -> Order:
    """A working order of the account `me`."""
    found = desk().submit("me", limit(side, price, quantity, symbol), NO_PRICE, queued_ts)
    return replace(found, number=number, priority=number, client_order_id=f"c{number}")


def prints_of(rows: Sequence[Row], partition: int = 0) -> Prints:
    """A batch of neighbouring prints."""
    symbols = tuple(dict.fromkeys(row.symbol for row in rows))
    index = [sum(other.record == row.record for other in rows[:i]) for i, row in enumerate(rows)]

    def column(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    return Prints(
        partition, symbols, column([symbols.index(r.symbol) for r in rows]), column([r.event_ts for r in rows]),
        column([r.price for r in rows]), column([r.size for r in rows]), column([r.record for r in rows]),
        column(index), min((r.logged for r in rows), default=0),
    )  # fmt: skip


def fills_of(changes: Sequence[OrderChange]) -> list[tuple[int, int, int, int, int]]:
    """(order, record, index, quantity, price) of every fill by a print."""
    fills = [change.fill for change in changes if change.fill is not None]
    return [(f.order, f.print.offset, f.print.index, f.quantity, f.price) for f in fills if f.print is not None]


def states_of(changes: Sequence[OrderChange]) -> list[tuple[int, OrderState, str]]:
    """(order, state, reason) of every step."""
    return [(change.order.number, change.order.state, change.order.reason) for change in changes]
