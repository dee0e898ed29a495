"""Quotes: the newest trade and its day, whatever the cutting, and the day before."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.bars import COLUMNS, REVISED, reduce_trades, stack
from marketfeed.domain.decimals import to_decimal
from marketfeed.domain.quotes import DAY_S, NO_DAY, PreviousDay, QuoteBook, QuoteColumns, quotes_of_days
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import NANOS, Int64Array

# (symbol id, event_ts in ms within four days, price in cents, size)
TRADES = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 4 * 86_400_000 - 1), st.integers(1, 10_000), st.integers(0, 500)
    ),
    min_size=1,
    max_size=40,
)  # fmt: skip
ARGUMENTS = ("symbol_id", "event_ts", "price", "size", "offset", "index")
Rows = list[tuple[int, int, int, int]]


def day_of(start_s: Int64Array) -> Int64Array:
    return start_s // DAY_S


def tape(rows: Rows, offset: int) -> TapeTrades:
    """One record of trades."""
    symbol_id, ts, cents, size = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    count = len(rows)
    return TapeTrades(
        2, offset, offset, symbol_id, ts * 1_000_000, cents / 100, size.astype(float), np.full(count, offset),
        np.arange(count), ((),), np.zeros(count, np.uint32), 7 + offset, 9 + offset,
    )  # fmt: skip


def pieces(rows: Rows, cuts: list[int]) -> list[TapeTrades]:
    """The rows as consecutive records, cut at `cuts`."""
    edges = sorted({0, len(rows), *(cut % len(rows) for cut in cuts)})
    return [tape(rows[a:b], number) for number, (a, b) in enumerate(pairwise(edges))]


def one(quotes: QuoteColumns, place: int, name: str) -> float:
    return float(getattr(quotes, name)[place])


@given(TRADES, st.lists(st.integers(0, 100), max_size=4))
@settings(max_examples=30)
def test_a_quote_is_the_newest_trade_and_its_day(rows: Rows, cuts: list[int]) -> None:
    """Price and size are of the trade latest by (event_ts, log order); the day adds up; cutting is no matter."""
    book = QuoteBook(day_of)
    for piece in pieces(rows, cuts):
        book.apply(piece)
    quotes = book.take(book.ids())
    assert quotes.symbol_id.tolist() == sorted({row[0] for row in rows})
    for place, symbol_id in enumerate(quotes.symbol_id.tolist()):
        mine = [row for row in rows if row[0] == symbol_id]
        last = sorted(mine, key=lambda row: row[1])[-1]
        day = last[1] // 86_400_000
        today = [row for row in mine if row[1] // 86_400_000 == day]
        assert one(quotes, place, "trade_date") == day
        assert quotes.day.close[place] == last[2] / 100
        assert one(quotes, place, "size") == last[3]
        assert quotes.day.high[place] == max(row[2] for row in today) / 100
        assert quotes.day.open[place] == sorted(today, key=lambda row: row[1])[0][2] / 100
        assert to_decimal(quotes.day.volume[place], int(quotes.day.size_scale[place])) == sum(row[3] for row in today)


@given(TRADES, st.lists(st.integers(0, 100), max_size=4), st.lists(st.integers(0, 100), max_size=4))
@settings(max_examples=30)
def test_quotes_of_partial_bars_are_those_of_the_trades(rows: Rows, cuts: list[int], stretches: list[int]) -> None:
    """Whoever has made bars of the trades already, in stretches and marked as late ones, gets the same quotes."""
    whole, book = QuoteBook(day_of), QuoteBook(day_of)
    for piece in pieces(rows, cuts):
        whole.apply(piece)
        edges = sorted({0, len(piece), *(cut % len(piece) for cut in stretches)})
        made = [reduce_trades(*(getattr(piece, name)[a:b] for name in ARGUMENTS)) for a, b in pairwise(edges)]
        late = [replace(bars, late=np.ones(len(bars), np.int64), state=np.full(len(bars), REVISED)) for bars in made]
        book.apply(piece, stack(late))
    ids = whole.ids()
    expected, found = whole.take(ids), book.take(ids)
    for name in COLUMNS:
        assert getattr(found.day, name).tolist() == getattr(expected.day, name).tolist(), name
    assert found.size.tolist() == expected.size.tolist()
    assert book.last_prices(ids[::-1]).tolist() == expected.day.close[::-1].tolist()


def test_a_late_trade_of_yesterday_corrects_the_previous_close() -> None:
    """Yesterday's close follows its order key until the day before is over for good; today's price does not move."""
    book = QuoteBook(day_of)
    book.apply(tape([(0, 1000, 100, 1), (0, 86_400_000, 300, 1)], 0))
    assert book.take(book.ids()).previous_close.tolist() == [1.0]
    book.apply(tape([(0, 86_399_000, 200, 1)], 1))
    book.apply(tape([(0, 86_398_000, 999, 1)], 2))
    quotes = book.take(book.ids())
    assert quotes.previous_close.tolist() == [2.0]
    assert quotes.day.close.tolist() == [3.0]


def test_a_late_trade_of_yesterday_corrects_a_stored_previous_close_only_if_it_is_later() -> None:
    """After a start from stored days as without one: the order key of yesterday's last trade decides."""
    whole, started = QuoteBook(day_of), QuoteBook(day_of)
    whole.apply(tape([(0, 80_000_000, 100, 1), (0, 86_400_000, 300, 1)], 0))
    before = PreviousDay(0, 1.0, 80_000_000 * 1_000_000, 0, 0)
    started.load(quotes_of_days(whole.take(whole.ids()).day, {0: before}, np.array([2])))
    for offset, late, close in ((1, 70_000_000, 1.0), (2, 86_399_000, 5.0)):
        for book in (whole, started):
            book.apply(tape([(0, late, 500, 1)], offset))
            assert book.take(book.ids()).previous_close.tolist() == [close]


@given(TRADES, TRADES)
@settings(max_examples=25)
def test_a_book_goes_on_from_what_it_gave(before: Rows, after: Rows) -> None:
    """load(take) and the same trades give the same quotes as one book that saw all."""
    whole, first, second = QuoteBook(day_of), QuoteBook(day_of), QuoteBook(day_of)
    whole.apply(tape(before, 0))
    first.apply(tape(before, 0))
    second.load(first.take(first.ids()))
    for book in (whole, second):
        book.apply(tape(after, 1))
    one_, other = whole.take(whole.ids()), second.take(second.ids())
    for name in ("size", "previous_close", "previous_date", "partition", "received_ts", "append_ts", "trade_date"):
        np.testing.assert_array_equal(getattr(one_, name), getattr(other, name), err_msg=name)
    for name in ("open", "high", "low", "close", "volume", "trades", "close_ts"):
        np.testing.assert_array_equal(getattr(one_.day, name), getattr(other.day, name), err_msg=name)


def test_a_previous_close_from_elsewhere_fills_a_hole_only() -> None:
    """What the tape has shown stays; what it has not is taken."""
    book = QuoteBook(day_of)
    book.apply(tape([(0, 0, 100, 1), (0, 86_400_000, 300, 1), (1, 5, 50, 1)], 0))
    assert book.lacking_previous().tolist() == [1]
    book.set_previous(0, 77.0)
    book.set_previous(1, 42.5)
    quotes = book.take(book.ids())
    assert quotes.previous_close.tolist() == [1.0, 42.5]
    assert quotes.previous_date.tolist() == [0, NO_DAY]
    assert book.lacking_previous().tolist() == []


def test_many_symbols_have_room() -> None:
    """Ids far beyond the first columns are taken."""
    book = QuoteBook(day_of)
    assert book.apply(tape([(5000, 1, 100, 2)], 0)).tolist() == [5000]
    assert Decimal(int(book.take(book.ids()).day.volume[0])) == 2
    assert NANOS == 1_000_000_000
