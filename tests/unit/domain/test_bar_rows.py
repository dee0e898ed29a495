"""Rows of bars are found, merged and freed by key."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import bars
from marketfeed.domain.bar_rows import BarRows
from marketfeed.domain.trades import NANOS

TRADES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 400), st.integers(0, 40)), min_size=1, max_size=25
)


def reduced(tape: list[tuple[int, int, int, int]], first_offset: int) -> bars.BarColumns:
    """Bars of (symbol, tenths of a second, price and size in hundredths)."""
    symbol_id, tenths, price, size = (np.array(column, np.int64) for column in zip(*tape, strict=True))
    offset = np.arange(first_offset, first_offset + len(tape))
    event_ts = tenths * (NANOS // 10)
    return bars.reduce_trades(symbol_id, event_ts, price / 100, size / 100, offset, np.zeros_like(offset))


def as_lists(columns: bars.BarColumns) -> dict[str, list[object]]:
    return {name: getattr(columns, name).tolist() for name in bars.COLUMNS}


@settings(max_examples=25, deadline=None)
@given(TRADES, TRADES, st.booleans())
def test_merging_in_place_is_merge(
    one: list[tuple[int, int, int, int]], two: list[tuple[int, int, int, int]], later_first: bool
) -> None:
    """Adding one side and merging the other into it gives what `bars.merge` gives, in both orders."""
    a, b = reduced(one, 0), reduced(two, 100)
    first, second = (b, a) if later_first else (a, b)
    rows = BarRows(capacity=2)
    rows.add(first)
    slots = rows.find(second.symbol_id, second.start_s)
    rows.merge(slots[slots >= 0], second.take(slots >= 0))
    rows.add(second.take(slots < 0))
    assert as_lists(rows.take(np.flatnonzero(rows.live))) == as_lists(bars.merge(a, b))
    assert len(rows) == len(bars.merge(a, b))


def test_freed_rows_are_used_again() -> None:
    """A freed key is gone, its marks are cleared and its row takes the next bar."""
    rows = BarRows(capacity=4)
    slots = rows.add(reduced([(s, 0, 100, 1) for s in range(4)], 0))
    rows.dirty[slots] = True
    rows.free(slots[1:3])
    assert rows.find(np.arange(4), np.zeros(4, np.int64)).tolist() == [slots[0], -1, -1, slots[3]]
    again = rows.add(reduced([(7, 0, 100, 1), (8, 0, 100, 1)], 0))
    assert sorted(again.tolist()) == sorted(slots[1:3].tolist())
    assert rows.capacity == 4
    assert not rows.dirty[again].any()


def test_keys_before_1970_are_keys_too() -> None:
    """A negative second is no other symbol's."""
    rows = BarRows()
    slots = rows.add(reduced([(1, -10, 100, 1), (1, 10, 100, 1), (0, -10, 100, 1)], 0))
    assert rows.find(np.array([0, 1, 1, 0]), np.array([-1, -1, 1, 1])).tolist() == [*slots.tolist(), -1]
