"""Bars handed on piece by piece are the bars of the whole file, whatever its order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import bars
from marketfeed.domain.trades import NANOS
from marketfeed.history.staging import BarStaging

Trade = tuple[int, int, int]
TRADES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=40)


def reduced(tape: list[Trade], first: int) -> bars.BarColumns:
    """Bars of (symbol, second, price) on lines that begin with `first`."""
    symbol_id, second, price = (np.array(column, np.int64) for column in zip(*tape, strict=True))
    line = np.arange(first, first + len(tape))
    return bars.reduce_trades(
        symbol_id, second * NANOS, price / 2, np.ones(len(tape)), line, np.zeros(len(tape), np.int64)
    )


def as_lists(columns: bars.BarColumns) -> list[list[object]]:
    return [getattr(columns, name).tolist() for name in bars.COLUMNS]


@settings(max_examples=30, deadline=None)
@given(TRADES, st.integers(1, 10), st.integers(1, 8))
def test_pieces_joined_by_their_marks_are_the_whole(tape: list[Trade], block: int, bars_max: int) -> None:
    """Only bars that are named `again` were handed on before; joining those gives every bar once."""
    staging = BarStaging(bars_max)
    stored = bars.no_bars()
    for first in [*range(0, len(tape), block), None]:
        if first is not None:
            staging.add(reduced(tape[first : first + block], first))
        if first is not None and not staging.due:
            continue
        staged = staging.take(everything=first is None)
        known = set(zip(stored.symbol_id.tolist(), stored.start_s.tolist(), strict=True))
        fresh = staged.bars.take(~staged.again)
        assert not known & set(zip(fresh.symbol_id.tolist(), fresh.start_s.tolist(), strict=True))
        stored = bars.merge(stored, staged.bars)
    assert as_lists(stored) == as_lists(reduced(tape, 0))


def test_the_newest_bar_of_each_symbol_waits() -> None:
    """A file sorted by time never meets a bar again, however it is cut."""
    staging = BarStaging(1)
    staging.add(reduced([(0, 0, 1), (0, 1, 1), (1, 1, 1)], 0))
    assert staging.due
    first = staging.take(everything=False)
    assert (first.bars.start_s.tolist(), first.again.tolist()) == ([0], [False])
    staging.add(reduced([(0, 1, 2), (0, 2, 2), (1, 2, 2)], 3))
    rest = staging.take(everything=True)
    assert not rest.again.any()
    assert rest.bars.trades.tolist() == [2, 1, 1, 1]
    assert len(staging.take(everything=True).bars) == 0
