"""Repeats of a frame, and the memory of what was sent last."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.repeats import RecentTrades, RepeatFilter
from marketfeed.domain.trades import NANOS, TradeColumns, concat

START = 1_700_000_000 * NANOS


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from([b"a", b"b", b"c"])), max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_repeat_is_an_equal_frame_within_two_seconds_of_the_one_taken(steps: list[tuple[int, bytes]]) -> None:
    """Held against a plain model, for any frames at any distances in ms."""
    repeats = RepeatFilter()
    taken: dict[bytes, int] = {}
    now = START
    for pause_ms, frame in steps:
        now += pause_ms * 1_000_000
        expected = frame in taken and now - taken[frame] <= 2 * NANOS
        assert repeats.is_repeat(frame, now) == expected
        if not expected:
            taken[frame] = now


def test_each_message_three_times_is_taken_once() -> None:
    """The fault that Finnhub has shown."""
    repeats = RepeatFilter()
    frames = [b"frame %d" % number for number in range(100) for _ in range(3)]
    taken = [f for i, f in enumerate(frames) if not repeats.is_repeat(f, START + i * 1000)]
    assert taken == [b"frame %d" % number for number in range(100)]


def test_the_memory_is_bounded() -> None:
    """A flood within one window forgets early rather than growing."""
    repeats = RepeatFilter(frames_max=100)
    for number in range(10_000):
        repeats.is_repeat(b"%d" % number, START)
    assert len(repeats) <= 200


def batch(*stamps: int) -> TradeColumns:
    count = len(stamps)
    index = np.zeros(count, np.uint32)
    return TradeColumns(("A",), index, np.array(stamps, np.int64), np.ones(count), np.ones(count), (None,), index)


def test_recent_trades_keep_a_window_and_a_number() -> None:
    """Old batches go, too many go; what is asked for stays, as a source may repeat it more than once."""
    recent = RecentTrades(keep_s=3, trades_max=5)
    assert recent.last(3) == []
    recent.add(START, batch(1, 2))
    recent.add(START + NANOS, batch(3, 4))
    recent.add(START + 4 * NANOS, batch(5))
    assert concat(recent.last(2)).event_ts.tolist() == [5]
    assert concat(recent.last(3)).event_ts.tolist() == [3, 4, 5]
    assert len(recent) == 3
    for number in range(10):
        recent.add(START + 4 * NANOS, batch(number, number))
    assert len(recent) <= 5
