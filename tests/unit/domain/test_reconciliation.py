"""Multiset difference and credits, against the plain `Counter`."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.reconciliation import Credits
from marketfeed.domain.trades import Conditions, TradeColumns

Plain = tuple[str, int, float, float, Conditions]
TRADE = st.tuples(
    st.sampled_from("AB"),
    st.integers(1, 3),
    st.sampled_from([1.0, 2.5, -0.0, 0.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, ("1",), ()]),
)


def columns(rows: Sequence[Plain]) -> TradeColumns:
    symbols = tuple(dict.fromkeys(row[0] for row in rows))
    sets = tuple(dict.fromkeys(row[4] for row in rows))
    return TradeColumns(
        symbols,
        np.array([symbols.index(row[0]) for row in rows], np.uint32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.float64),
        sets,
        np.array([sets.index(row[4]) for row in rows], np.uint32),
    )


def plain(trades: TradeColumns) -> list[Plain]:
    return [
        (trades.symbols[s], ts, price, size, trades.condition_sets[c])
        for s, ts, price, size, c in zip(
            trades.symbol_index.tolist(),
            trades.event_ts.tolist(),
            trades.price.tolist(),
            trades.size.tolist(),
            trades.condition_index.tolist(),
            strict=True,
        )
    ]


def is_subsequence(part: Sequence[Plain], whole: Sequence[Plain]) -> bool:
    rest = iter(whole)
    return all(any(trade == other for other in rest) for trade in part)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TRADE, max_size=30), st.lists(TRADE, max_size=30))
def test_the_difference_is_that_of_multisets_and_keeps_order(held: list[Plain], logged: list[Plain]) -> None:
    """Both sides lose what they have in common, copy by copy."""
    credits = Credits(columns(logged), until_s=60.0)
    publish = credits.spend(columns(held), 0.0)
    assert Counter(plain(publish)) == Counter(held) - Counter(logged)
    assert Counter(plain(credits.left())) == Counter(logged) - Counter(held)
    assert is_subsequence(plain(publish), held)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TRADE, max_size=20), st.lists(st.lists(TRADE, max_size=8), max_size=5))
def test_each_credit_is_spent_once(credit: list[Plain], arriving: list[list[Plain]]) -> None:
    """Late trades are set off against credits over several batches, the others pass in their order."""
    credits = Credits(columns(credit), until_s=60.0)
    left = Counter(credit)
    for batch in arriving:
        passed = plain(credits.spend(columns(batch), 1.0))
        consumed = Counter(batch) & left
        assert Counter(passed) == Counter(batch) - consumed
        assert is_subsequence(passed, batch)
        left -= consumed
    assert len(credits) == left.total()
    assert credits.spent == len(credit) - left.total()


def test_credits_lapse() -> None:
    """After their window an equal trade is a new trade."""
    trade: Plain = ("A", 1, 1.0, 1.0, None)
    credits = Credits(columns([trade]), until_s=60.0)
    assert plain(credits.spend(columns([trade]), 60.0)) == [trade]
    assert len(credits) == 0
