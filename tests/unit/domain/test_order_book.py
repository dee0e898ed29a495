"""The book: who is served first, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.order_tapes import T0, resting

from marketfeed.domain.order_book import OrderBook, SymbolBook
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import NANOS_MAX, Side

ORDERS = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 9)), max_size=12)


@given(ORDERS, st.integers(0, 10))
def test_a_print_serves_the_best_limit_first_and_equals_by_age(wanted: list[tuple[Side, int]], price: int) -> None:
    """Exactly the crossed orders come, the further beyond the price the earlier, then by priority."""
    book = SymbolBook()
    orders = [resting(n, side, at, 1) for n, (side, at) in enumerate(wanted, start=1)]
    for order in orders:
        book.put(order)
    crossed = [o for o in orders if (o.limit_price >= price if o.side is Side.BUY else o.limit_price <= price)]
    expected = sorted(crossed, key=lambda o: (-abs(o.limit_price - price), o.priority))
    assert list(book.crossed_by(price)) == expected


@given(ORDERS, st.randoms(use_true_random=False))
def test_what_has_ended_is_forgotten_whole(wanted: list[tuple[Side, int]], random: object) -> None:
    """However orders end, the best limits are those of the rest, and at last nothing is held."""
    book = OrderBook()
    orders = [resting(n, side, at, 1) for n, (side, at) in enumerate(wanted, start=1)]
    for order in orders:
        book.put(order)
    random.shuffle(orders)  # type: ignore[attr-defined]
    while orders:
        of_a = book.symbols["A"]
        buys = [o.limit_price for o in orders if o.side is Side.BUY]
        sells = [o.limit_price for o in orders if o.side is Side.SELL]
        assert (of_a.best_buy, of_a.best_sell) == (max(buys, default=-1), min(sells, default=NANOS_MAX))
        assert book.count_of("me") == len(book) == len(orders)
        book.put(orders.pop().stepped(OrderState.CANCELLED, 2, T0))
    assert not book.symbols
    assert book.count_of("me") == 0


def test_a_suspended_order_keeps_its_place() -> None:
    """It is watched meanwhile, and afterwards is where it was."""
    book = OrderBook()
    first, second = resting(1, Side.BUY, 10, 5), resting(2, Side.BUY, 10, 5)
    book.put(first)
    book.put(second)
    book.put(held := first.stepped(OrderState.SUSPENDED, 2, T0, suspended_until=T0 + 9))
    assert list(book.symbols["A"].watched) == [1]
    book.put(held.stepped(OrderState.WORKING, 3, T0))
    assert not book.symbols["A"].watched
    assert [o.number for o in book.symbols["A"].crossed_by(10)] == [1, 2]


def test_an_order_that_took_over_a_place_comes_before_younger_ones() -> None:
    """Priority, not the number, ranks equal limits."""
    book = SymbolBook()
    book.put(resting(2, Side.SELL, 10, 5))
    book.put(replace(resting(3, Side.SELL, 10, 5), priority=1))
    assert [o.number for o in book.crossed_by(10)] == [3, 2]
