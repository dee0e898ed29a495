"""Cells of seconds: a model of the cache that is only written, and the rule that decides between two closes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.bars import combine, reduce_trades
from marketfeed.domain.second_cells import Cells, SecondCells

# Batches of (symbol, second, ms within it); the place in the list is the place in the log.
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 999)), min_size=1, max_size=12),
    min_size=1,
    max_size=8,
)


def no_cells() -> Cells:
    none = np.empty(0, np.int64)
    return Cells(none, none, np.empty(0), none)


class Cache:
    """What Redis would hold: close and stamp by (symbol, second)."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[float, int]] = {}

    def write(self, cells: Cells) -> None:
        columns = (cells.symbol_id, cells.second, cells.close, cells.event_ts)
        for symbol, second, close, ts in zip(*(column.tolist() for column in columns), strict=True):
            self.cells[symbol, second] = (close, ts)

    def read(self, wanted: list[tuple[int, int]]) -> Cells:
        found = [
            (symbol, second, *self.cells[symbol, second]) for symbol, second in wanted if (symbol, second) in self.cells
        ]
        if not found:
            return no_cells()
        symbol, second, close, ts = zip(*found, strict=True)
        return Cells(np.array(symbol), np.array(second), np.array(close), np.array(ts))


@given(BATCHES, st.integers(4, 80), st.sets(st.integers(0, 7)))
@settings(max_examples=40)
def test_the_cache_ends_with_the_merged_close(
    batches: list[list[tuple[int, int, int]]], ring_s: int, restarts: set[int]
) -> None:
    """However small the ring, and wherever a writer starts anew from the cache, each cell ends as the bar's close."""
    cache, ring = Cache(), SecondCells(ring_s)
    offset = 0
    newest: dict[tuple[int, int], tuple[int, int]] = {}
    for number, batch in enumerate(batches):
        if number in restarts:
            ring = SecondCells(ring_s)
            for symbol in range(3):
                seconds = [second for held, second in cache.cells if held == symbol]
                if seconds:
                    ring.begin(np.array([symbol]), np.array([max(seconds)]))
        symbol_id, second, ms = (np.array(column, np.int64) for column in zip(*batch, strict=True))
        ts = second * 1_000_000_000 + ms * 1_000_000
        offsets = np.arange(offset, offset + len(batch))
        offset += len(batch)
        bars = combine(
            reduce_trades(symbol_id, ts, offsets.astype(float) + 1, np.ones(len(batch)), offsets, offsets * 0)
        )
        unknown = ring.unknown(bars)
        asked = list(zip(bars.symbol_id[unknown].tolist(), bars.start_s[unknown].tolist(), strict=True))
        cache.write(ring.offer(bars, cache.read(asked)))
        for symbol, at_s, stamp, place in zip(
            symbol_id.tolist(), second.tolist(), ts.tolist(), offsets.tolist(), strict=True
        ):
            newest[symbol, at_s] = max(newest.get((symbol, at_s), (0, 0)), (stamp, place))
    assert {key: close for key, (close, _) in cache.cells.items()} == {
        key: place + 1 for key, (_, place) in newest.items()
    }


def test_new_seconds_are_not_asked_for() -> None:
    """Only what may be in the cache and not in the ring costs a read."""
    ring = SecondCells(8)
    ring.begin(np.array([0]), np.array([100]))
    columns = (
        np.zeros(3, np.int64),
        np.array([99, 101, 102]) * 1_000_000_000,
        np.ones(3),
        np.ones(3),
        np.arange(3),
        np.arange(3),
    )
    bars = reduce_trades(*columns)
    assert ring.unknown(bars).tolist() == [True, False, False]
    ring.offer(bars)
    assert ring.unknown(bars).tolist() == [False, False, False]
