"""Coarser bars are the merge of finer ones: nothing is lost between the intervals."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import bars
from marketfeed.domain.bars import CLOSED, FINAL, OPEN, REVISED
from marketfeed.domain.decimals import to_decimal
from marketfeed.domain.rollup import bucket_ends, bucket_starts, roll_up
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS

US, ALWAYS = calendar("us-equity"), calendar("24x7")
T0 = 1_741_500_000  # 2025-03-09 06:00 UTC: the day on which New York's summer time begins
FAR = {0: 2**62, 1: 2**62}

TRADES = st.tuples(st.integers(0, 1), st.integers(0, 400_000), st.integers(1, 10_000), st.integers(0, 5000))
TAPES = st.lists(TRADES, min_size=1, max_size=30)


def seconds_of(tape: list[tuple[int, int, int, int]]) -> bars.BarColumns:
    """1 s bars of (symbol, seconds after T0, price in hundredths, size in thousandths)."""
    symbol_id, at, price, size = (np.array(column, np.int64) for column in zip(*tape, strict=True))
    offset = np.arange(len(tape))
    return bars.reduce_trades(
        symbol_id, (T0 + at) * NANOS, price / 100, size / 1000, offset, np.zeros(len(tape), np.int64)
    )


@settings(max_examples=30, deadline=None)
@given(TAPES, st.sampled_from([US, ALWAYS]))
def test_sums_of_seconds_minutes_hours_and_days_are_equal(tape: list[tuple[int, int, int, int]], by: object) -> None:
    """Volume, notional and trades of each trade date are the same whichever interval they are summed from."""
    seconds = seconds_of(tape)
    minutes = roll_up(seconds, "1m", by, FAR)  # type: ignore[arg-type]
    hours = roll_up(minutes, "1h", by, FAR)  # type: ignore[arg-type]
    days = roll_up(hours, "1d", by, FAR)  # type: ignore[arg-type]
    direct = roll_up(seconds, "1d", by, FAR)  # type: ignore[arg-type]
    for name in bars.COLUMNS:
        assert getattr(days, name).tolist() == getattr(direct, name).tolist(), name
    assert _by_day(seconds, by) == _by_day(minutes, by) == _by_day(hours, by) == _by_day(days, by)


def _by_day(columns: bars.BarColumns, by: object) -> dict[tuple[int, int], list[object]]:
    totals: dict[tuple[int, int], list[object]] = defaultdict(lambda: [0, 0, 0])
    day = by.day_starts(columns.start_s).tolist()  # type: ignore[attr-defined]
    for i, key in enumerate(zip(columns.symbol_id.tolist(), day, strict=True)):
        scale, notional_scale = columns.size_scale[i], columns.size_scale[i] + columns.price_scale[i]
        amounts = (
            to_decimal(columns.volume[i], scale),
            to_decimal(columns.notional[i], notional_scale),
            int(columns.trades[i]),
        )
        totals[key] = [a + b for a, b in zip(totals[key], amounts, strict=True)]  # type: ignore[operator]
    return totals


def test_buckets_follow_utc_and_the_trade_date() -> None:
    """Minutes and hours are UTC's; the day on which summer time begins has 23 hours."""
    start_s = np.array([T0 + 61], np.int64)
    assert bucket_starts(start_s, "1m", US).tolist() == [T0 + 60]
    assert bucket_starts(start_s, "1h", US).tolist() == [T0]
    day = bucket_starts(start_s, "1d", US)
    assert day.tolist() == [T0 - 3600]
    assert (bucket_ends(day, "1d", US) - day).tolist() == [23 * 3600]
    assert (bucket_ends(bucket_starts(start_s, "1d", ALWAYS), "1d", ALWAYS) - T0).tolist() == [18 * 3600]
    with pytest.raises(KeyError):
        bucket_starts(start_s, "2m", US)


def test_state_follows_the_watermark() -> None:
    """OPEN until end + 1 s, then CLOSED or, with late records, REVISED; FINAL at end + 15 min."""
    seconds = seconds_of([(0, 0, 100, 1), (1, 0, 100, 1)])
    seconds.late[1] = 2
    for after_end_s, states in (
        (0, [OPEN, OPEN]),
        (1, [CLOSED, REVISED]),
        (899, [CLOSED, REVISED]),
        (900, [FINAL] * 2),
    ):
        reached = (T0 + 60 + after_end_s) * NANOS
        rolled = roll_up(seconds, "1m", ALWAYS, {0: reached, 1: reached})
        assert rolled.state.tolist() == states
        assert rolled.late.tolist() == [0, 2]
    assert roll_up(seconds, "1m", ALWAYS, {}).state.tolist() == [OPEN, OPEN]


def test_a_gap_in_a_silent_second_makes_the_minute_incomplete() -> None:
    """The minute knows of the gap though no second's bar does; other symbols and minutes do not."""
    seconds = seconds_of([(0, 0, 100, 1), (0, 60, 100, 1), (1, 0, 100, 1)])
    hole = TapeGap(0, 9, np.array([0]), (T0 + 30) * NANOS, (T0 + 31) * NANOS, "test", 0)
    assert roll_up(seconds, "1m", ALWAYS, FAR, [hole]).incomplete.tolist() == [True, False, False]
