"""What is let into the log, and which symbols are silent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.intake import REASONS, Limits, Silence, refused, stamps
from marketfeed.domain.trades import NANOS

NOW_MS = 1_700_000_000_000
NOW = NOW_MS * 1_000_000


def reasons(symbol: int = 0, stamp: float = NOW_MS, price: float = 10.0, size: float = 1.0) -> str:
    codes = refused(np.array([symbol]), np.array([stamp]), np.array([price]), np.array([size]), NOW, Limits())
    return REASONS[0] if codes is None else REASONS[int(codes[0])]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("price", math.nan, "price_not_a_number"),
        ("price", -0.01, "price_not_positive"),
        ("price", 0.0, "price_not_positive"),
        ("price", math.inf, "price_absurd"),
        ("price", 2e12, "price_absurd"),
        ("price", 1e-300, "price_absurd"),
        ("price", 1e-18, "accepted"),
        ("size", 5e-324, "size_absurd"),
        ("size", 1e-18, "accepted"),
        ("size", -1.0, "size_negative"),
        ("size", math.nan, "size_not_a_number"),
        ("size", 1e16, "size_absurd"),
        ("stamp", math.nan, "stamp_not_a_number"),
        ("stamp", NOW_MS + 5001.0, "stamp_ahead"),
        ("stamp", NOW_MS - 86_400_001.0, "stamp_old"),
        ("symbol", -1, "unknown_symbol"),
        ("size", 0.0, "accepted"),
        ("stamp", NOW_MS + 5000.0, "accepted"),
        ("stamp", NOW_MS - 86_400_000.0, "accepted"),
    ],
)
def test_each_rule_has_its_reason(field: str, value: float, reason: str) -> None:
    """NaN, negative, absurd, unknown, too far ahead, too old; a size of 0 is a price update and right."""
    assert reasons(**{field: value}) == reason  # type: ignore[arg-type]


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(st.integers(-1, 3), numbers, numbers, numbers), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_columns_are_judged_trade_by_trade(trades: list[tuple[int, float, float, float]]) -> None:
    """A trade's verdict does not depend on its neighbours, and an accepted one can be stored."""
    columns = [np.array(column) for column in zip(*trades, strict=True)]
    codes = refused(columns[0], columns[1], columns[2], columns[3], NOW, Limits())
    got = [0] * len(trades) if codes is None else codes.tolist()
    assert [REASONS[code] for code in got] == [reasons(*trade) for trade in trades]


def test_stamps_keep_milliseconds_exactly() -> None:
    """Finnhub's integer milliseconds come out as exact nanoseconds, fractions to the microsecond."""
    assert stamps(np.array([1672348887195.0, 1672348887195.25])).tolist() == [
        1672348887195_000_000,
        1672348887195_250_000,
    ]


def test_silence_is_told_per_symbol() -> None:
    """One symbol stops while others flow; a symbol no longer followed is not missed."""
    silence = Silence()
    silence.follow(np.array([0, 1, 2]), NOW)
    silence.heard(np.array([0, 0, 2]), NOW + 60 * NANOS)
    assert silence.silent(NOW + 70 * NANOS, 30).tolist() == [1]
    assert silence.longest_s(NOW + 70 * NANOS) == 70
    silence.follow(np.array([0, 2, 5]), NOW + 70 * NANOS)
    assert silence.silent(NOW + 90 * NANOS, 25).tolist() == [0, 2]
    assert silence.silent(NOW + 200 * NANOS, 25).tolist() == [0, 2, 5]
