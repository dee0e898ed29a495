"""What is held plus what is stored is everything: for any store that lags, any eviction and any late trade."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import COLUMNS, BarColumns, no_bars
from marketfeed.domain.follower_window import FollowerWindow, overlay
from marketfeed.domain.tape import TapeEvent, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS

T0 = 1_700_000_000
SYMBOLS = 3
ALL = np.arange(SYMBOLS, dtype=np.int64)


def record(offset: int, tape: list[tuple[int, int]]) -> TapeTrades:
    """One record of the only partition: (symbol_id, seconds since T0) each, at a price that tells them apart."""
    count = len(tape)
    return TapeTrades(
        0, offset, offset,
        np.array([symbol for symbol, _ in tape], np.int64),
        np.array([(T0 + at) * NANOS + offset for _, at in tape], np.int64),
        np.arange(count) + 10.0 + offset, np.ones(count), np.full(count, offset, np.int64),
        np.arange(count, dtype=np.int64), (None,), np.zeros(count, np.uint32), 0, 0,
    )  # fmt: skip


def tape_of(steps: list[list[tuple[int, int]] | int]) -> list[TapeEvent]:
    """Records with trades up to 60 s behind the clock, and watermarks that move it."""
    events: list[TapeEvent] = []
    clock = 0
    for offset, step in enumerate(steps):
        if isinstance(step, int):
            clock += step
            events.append(TapeWatermark(0, offset, ALL, (T0 + clock) * NANOS))
        else:
            events.append(record(offset, [(symbol, clock - behind) for symbol, behind in step]))
    return events


def rows_of(bars: BarColumns) -> dict[tuple[int, int], dict[str, Any]]:
    columns = {name: getattr(bars, name).tolist() for name in COLUMNS}
    return {
        (columns["symbol_id"][i], columns["start_s"][i]): {name: columns[name][i] for name in COLUMNS}
        for i in range(len(bars))
    }


def prefix(events: list[TapeEvent], stop: int) -> BarColumns:
    """The truth after the first `stop` events."""
    window = BarWindow(keep_s=10**9)
    window.apply(events[:stop])
    return window.held()


trade = st.tuples(st.integers(0, SYMBOLS - 1), st.one_of(st.integers(0, 4), st.integers(0, 60)))
step = st.one_of(st.lists(trade, min_size=1, max_size=4), st.integers(1, 20))


@given(st.lists(step, min_size=1, max_size=25), st.data())
@settings(max_examples=25, deadline=None)
def test_a_snapshot_is_whole_wherever_the_store_stands(steps: list[Any], data: st.DataObject) -> None:
    """At any time: stored at P, overlaid with what is held, is the truth; but for orphans, which the store tells."""
    events = tape_of(steps)
    window = FollowerWindow(keep_s=5)
    stored_at = 0
    orphans: dict[tuple[int, int], int] = {}
    for done in range(1, len(events) + 1):
        window.apply(events[done - 1 : done])
        if data.draw(st.booleans(), "look"):
            for orphan in window.touched().orphans:
                orphans[orphan.symbol_id, orphan.start_s] = orphan.offset
        if data.draw(st.booleans(), "store"):
            stored_at = data.draw(st.integers(stored_at, done), "stored_at")
            window.evict_stored(np.full(SYMBOLS, stored_at, np.int64))
        read_at = data.draw(st.integers(stored_at, done), "read_at")
        for orphan in window.touched().orphans:
            orphans[orphan.symbol_id, orphan.start_s] = orphan.offset
        stored = window.finished(prefix(events, read_at))
        pending = {key for key, offset in orphans.items() if offset >= read_at}
        truth = rows_of(prefix(events, done))
        for symbol in range(SYMBOLS):
            shown = rows_of(overlay(stored.take(stored.symbol_id == symbol), window.of_symbol(symbol)))
            expected = {key for key in truth if key[0] == symbol}
            assert set(shown) | pending >= expected
            for key in expected - pending:
                assert shown[key] == truth[key]


def test_what_changed_is_told_once_with_its_values() -> None:
    """Keys of changed bars come once and their rows can be taken; a closing is a change, too."""
    window = FollowerWindow()
    window.apply([record(0, [(0, 0), (0, 0), (1, 1)])])
    assert window.touched().bars == {0: {T0}, 1: {T0 + 1}}
    assert window.touched().bars == {}
    window.apply([TapeWatermark(0, 1, ALL, (T0 + 2) * NANOS)])
    assert window.touched().bars == {0: {T0}}
    bar = window.at(np.array([0, 2]), np.array([T0, T0]))
    assert (bar.trades.tolist(), bar.state.tolist(), bar.close.tolist()) == ([2], [1], [11.0])


def test_nothing_leaves_before_it_is_stored_and_late_trades_for_it_are_orphans() -> None:
    """The store's checkpoint decides; afterwards only the store can tell the bar."""
    window = FollowerWindow(keep_s=10)
    window.apply([record(0, [(0, 0)]), TapeWatermark(0, 1, ALL, (T0 + 100) * NANOS)])
    window.touched()
    assert window.evict_stored(np.array([1])) == 0  # the closing, offset 1, is not stored yet
    assert window.evict_stored(np.array([2])) == 1
    window.apply([record(2, [(0, 0)])])
    (orphan,) = window.touched().orphans
    assert (orphan.symbol_id, orphan.start_s, orphan.offset) == (0, T0, 2)
    assert len(window.of_symbol(0)) == 0


def test_memory_is_bounded_and_says_what_it_lost() -> None:
    """Without a store the oldest bars go once there are too many, and the offset that is missing is known."""
    window = FollowerWindow(keep_s=10, rows_max=20)
    for second in range(50):
        window.apply([record(2 * second, [(0, 0)]), TapeWatermark(0, 2 * second + 1, ALL, (T0 + second) * NANOS)])
        window.apply([record(1000 + second, [(1, second)])])
    window.touched()
    window.evict_stored(np.zeros(SYMBOLS, np.int64))
    assert len(window) <= 20
    assert set(window.lost_offsets) >= {0}


def test_a_window_that_began_in_the_middle_leaves_earlier_bars_to_the_store() -> None:
    """Before its first whole second it knows only parts."""
    window = FollowerWindow()
    window.begin_at(T0 + 10)
    window.apply([TapeWatermark(0, 0, ALL, (T0 + 12) * NANOS), record(1, [(0, -5), (1, 0)])])
    touched = window.touched()
    assert sorted((o.symbol_id, o.start_s) for o in touched.orphans) == [(0, T0 - 5), (1, T0)]
    assert touched.bars == {}


def test_overlaying_nothing_is_the_store_and_nothing_stored_is_what_is_held() -> None:
    """Both ends of a joint may be empty."""
    bars = prefix([record(0, [(0, 0), (1, 3)])], 1)
    for a, b in ((bars, no_bars()), (no_bars(), bars), (bars, bars)):
        assert rows_of(overlay(a, b)) == rows_of(bars)
