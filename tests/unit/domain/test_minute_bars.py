"""The book of minutes: what is due, and what is news."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.bars import CLOSED, BarColumns, reduce_trades
from marketfeed.domain.minute_bars import MinuteBook
from marketfeed.domain.rollup import roll_up
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS

T0 = 60 * 1000


def minute(prices: list[float], watermark_s: int = 0, symbol_id: int = 1, start: int = T0) -> BarColumns:
    """A minute with a trade in each of its first seconds."""
    count = len(prices)
    seconds = reduce_trades(
        np.full(count, symbol_id), (start + np.arange(count)) * NANOS, np.array(prices), np.ones(count),
        np.arange(count), np.zeros(count, np.int64),
    )  # fmt: skip
    return roll_up(seconds, "1m", calendar("24x7"), {symbol_id: watermark_s * NANOS})


def book(watched: set[int] | None = None, **bounds: int) -> MinuteBook:
    made = MinuteBook(**bounds)
    made.watched = frozenset({1} if watched is None else watched)
    return made


def test_only_watched_symbols_are_due() -> None:
    """A second touches its minute; symbols that nobody watches touch nothing, and are let go when nobody does."""
    minutes = book()
    minutes.touch({1: {T0 + 3, T0 + 59, T0 + 60}, 2: {T0}})
    assert minutes.due(lambda _: 0) == [(1, T0), (1, T0 + 60)]
    minutes.watched = frozenset()
    assert minutes.due(lambda _: 0) == []


def test_an_open_minute_is_due_again_when_the_watermark_closes_it() -> None:
    """At its end and one second, without a trade; once."""
    minutes = book()
    minutes.touch({1: {T0}})
    assert minutes.put(minutes.due(lambda _: 0), minute([5.0])) == {1: {T0}}
    assert minutes.due(lambda _: (T0 + 60) * NANOS) == []
    due = minutes.due(lambda _: (T0 + 61) * NANOS)
    assert due == [(1, T0)]
    closed = minute([5.0], T0 + 61)
    assert closed.state.tolist() == [CLOSED]
    assert minutes.put(due, closed) == {1: {T0}}
    assert minutes.due(lambda _: (T0 + 99) * NANOS) == []


def test_what_came_out_as_before_is_no_news_unless_somebody_is_new_to_it() -> None:
    """`renew` makes it told again."""
    minutes = book()
    minutes.put([(1, T0)], minute([5.0]))
    minutes.touch({1: {T0}})
    assert minutes.put(minutes.due(lambda _: 0), minute([5.0])) == {}
    minutes.renew(1, [T0 + 5])
    assert minutes.put(minutes.due(lambda _: 0), minute([5.0])) == {1: {T0}}


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=4)), max_size=30
    )
)
def test_whoever_applies_the_news_holds_what_was_made_last(made: list[tuple[int, list[float]]]) -> None:
    """Whatever is made in whatever order, in bounded memory."""
    minutes, held, truth = book(held_max=4), {}, {}
    for place, prices in made:
        start = T0 + 60 * place
        bars = minute(prices, start=start)
        minutes.touch({1: {start}})
        news = minutes.put(minutes.due(lambda _: 0), bars)
        for changed in news.get(1, ()):
            held[changed] = minutes.at(1, [changed]).trades.tolist(), minutes.at(1, [changed]).close.tolist()
        truth[start] = bars.trades.tolist(), bars.close.tolist()
        assert len(minutes) <= 4
    assert held == truth
