"""Matching: which prints are looked at, whom they fill, and that sizes are conserved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.order_tapes import T0, Row, prints_of, resting

from marketfeed.domain.order_book import OrderBook, SymbolBook
from marketfeed.domain.order_matching import Print, is_for, nanos, shares, touching
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import Order, Side, TimeInForce
from marketfeed.domain.trades import NANOS

ROWS = st.lists(
    st.builds(
        Row,
        record=st.integers(0, 5),
        symbol=st.sampled_from("ABC"),
        event_ts=st.integers(T0 - 3, T0 + 9),
        price=st.integers(1, 9),
        size=st.integers(0, 5),
        logged=st.just(T0 + 9),
    ),
    max_size=30,
)


@st.composite
def books(draw: st.DrawFn) -> OrderBook:
    """A book of orders of two symbols, some suspended, some IOC."""
    book = OrderBook()
    for number in range(1, draw(st.integers(0, 8)) + 1):
        side, price = draw(st.sampled_from(Side)), draw(st.integers(1, 9))
        order = resting(number, side, price, 5, draw(st.sampled_from("AB")), T0 + draw(st.integers(-2, 5)))
        if draw(st.booleans()):
            order = replace(order, time_in_force=TimeInForce.IOC)
        elif draw(st.booleans()):
            until = T0 + draw(st.integers(0, 6))
            order = order.stepped(OrderState.SUSPENDED, 2, T0, suspended_until=until)
        book.put(order)
    return book


def acts_on(order: Order, row: Row) -> bool:
    """Whether a print does something to an order, looked at alone."""
    if order.symbol != row.symbol or row.size == 0:
        return False
    if order.state is OrderState.SUSPENDED:
        return row.event_ts > order.suspended_until
    late_enough = order.queued_ts < row.event_ts and order.queued_ts < row.logged
    crossed = row.price <= order.limit_price if order.side is Side.BUY else row.price >= order.limit_price
    return late_enough and (crossed or order.time_in_force is TimeInForce.IOC)


@given(books(), ROWS)
def test_the_filter_misses_no_print_that_acts(book: OrderBook, rows: list[Row]) -> None:
    """For each order the first print that acts on it is among those chosen, in the tape's order."""
    rows.sort(key=lambda row: row.record)
    chosen = [found.place for found in touching(prints_of(rows), book)]
    assert chosen == sorted(set(chosen))
    for order in book:
        first = next((i for i, row in enumerate(rows) if acts_on(order, row)), None)
        assert first is None or first in chosen


def test_prints_of_other_symbols_prices_and_updates_are_not_looked_at() -> None:
    """A thousand trades that touch no order cost no step each."""
    book = OrderBook()
    book.put(resting(1, Side.BUY, 5, 5))
    rows = [Row(0, "A", T0 + 1, 6, 1, T0 + 1)] * 500 + [Row(0, "B", T0 + 1, 1, 1, T0 + 1)] * 500
    rows += [Row(1, "A", T0 + 1, 4, 0, T0 + 1), Row(1, "A", T0 + 1, 4, 1, T0 + 1)]
    assert [found.place for found in touching(prints_of(rows), book)] == [1001]


@given(books(), st.integers(1, 9), st.integers(1, 30), st.integers(T0 - 3, T0 + 9))
def test_a_prints_size_is_shared_once_by_price_and_time(book: OrderBook, price: int, size: int, event_ts: int) -> None:
    """Sums stay within the print and each order; nobody is passed over for one who ranks lower."""
    for of_symbol in book.symbols.values():
        found = Print(0, "A", event_ts, price, size, T0 + 9)
        shared = shares(of_symbol, found)
        assert sum(part for _, part in shared) <= size
        assert all(0 < part <= order.remaining for order, part in shared)
        served = {order.number: part for order, part in shared}
        row = Row(0, "", event_ts, price, size, T0 + 9)
        waiting = [
            order
            for order in of_symbol.crossed_by(price)
            if order.state is not OrderState.SUSPENDED and acts_on(order, replace(row, symbol=order.symbol))
        ]
        parts = [served.get(order.number, 0) for order in waiting]
        assert sum(parts) == sum(served.values())
        assert sum(parts) == min(size, sum(order.remaining for order in waiting))
        unfilled = [i for i, order in enumerate(waiting) if parts[i] < order.remaining]
        assert not any(parts[unfilled[0] + 1 :] if unfilled else [])


def test_a_print_from_before_the_order_is_not_for_it() -> None:
    """Neither its stamp nor the log's may be up to the order's acceptance, and the day's end is not for it."""
    order = replace(resting(1, Side.BUY, 5, 5), expires_ts=T0 + 10)
    late = Print(0, "A", T0 + 1, 5, 1, T0 + 1)
    assert is_for(order, late)
    assert not is_for(order, replace(late, event_ts=T0))
    assert not is_for(order, replace(late, logged_ts=T0))
    assert not is_for(order, replace(late, logged_ts=0))
    assert is_for(order, replace(late, event_ts=T0 + 9))
    assert not is_for(order, replace(late, event_ts=T0 + 10))


def test_both_sides_share_one_print() -> None:
    """What a buy takes of a print is gone for a sell: each share of it was traded once."""
    book = SymbolBook()
    book.put(resting(1, Side.BUY, 9, 3))
    book.put(resting(2, Side.SELL, 4, 5))
    shared = shares(book, Print(0, "A", T0 + 1, 5, 4, T0 + 1))
    assert [(order.number, part) for order, part in shared] == [(1, 3), (2, 1)]


def test_doubles_become_whole_nanos() -> None:
    """0.1 + 0.2 is not 0.3, but its nanos are; what is too large is cut instead of wrapping around."""
    found = nanos(np.array([0.1 + 0.2, 123456.789012345, 1e300, 0.0]))
    assert found.tolist() == [300_000_000, 123456789012345, 9_200_000_000 * NANOS, 0]
