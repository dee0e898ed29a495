"""Books of due roll-ups: nothing that changed is forgotten, across restarts too, and states settle once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.rollups_due import COARSER, NOTHING_DUE_S, RollupsDue
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import Int64Array

T0_S = 1_790_000_040


def books() -> RollupsDue:
    """Two partitions: even and odd symbols."""
    return RollupsDue(calendar("24x7"), lambda ids: ids % 2)


def reached(second: int, symbols: int = 4) -> Int64Array:
    return np.full(symbols, second)


def test_a_changed_second_makes_its_minute_hour_and_day_due() -> None:
    """Level by level: the hour is due when its minute is made, the day when its hour is."""
    due = books()
    due.mark(np.array([1, 1, 2]), np.array([T0_S, T0_S + 59, T0_S + 60]), {0: 10, 1: 20})
    assert due.waiting(5.0, {"1m": 5.0, "1h": 0.0, "1d": 0.0})
    assert not due.waiting(4.9, {"1m": 5.0, "1h": 0.0, "1d": 0.0})
    assert due.frontier({0: 15, 1: 25}) == {0: (10, T0_S + 60), 1: (20, T0_S)}
    minutes = due.take("1m", reached(T0_S + 61), 10)
    assert list(zip(minutes.symbol_id.tolist(), minutes.start_s.tolist(), strict=True)) == [(1, T0_S), (2, T0_S + 60)]
    assert minutes.closed.tolist() == [True, False]
    hours = due.take("1h", reached(T0_S), 10)
    assert hours.start_s.tolist() == [T0_S // 3600 * 3600] * 2
    assert due.frontier({0: 15, 1: 25}) == {0: (10, T0_S + 60), 1: (20, T0_S)}
    days = due.take("1d", reached(T0_S), 10)
    assert days.end_s.tolist() == [T0_S // 86_400 * 86_400 + 86_400] * 2
    assert len(due) == 0
    assert due.frontier({0: 15, 1: 25}) == {0: (15, NOTHING_DUE_S), 1: (25, NOTHING_DUE_S)}


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), min_size=1, max_size=6),
        st.sampled_from([*COARSER, "crash"]),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=40)
def test_what_changed_is_made_again_even_after_a_crash(steps: list[list[tuple[int, int]] | str]) -> None:
    """Marks, portions of work and crashes in any order: in the end every level was made after its last change."""
    due = books()
    offset = 1
    changed: dict[tuple[int, int], int] = {}  # (symbol, second) -> offset of its last change
    made: dict[tuple[str, int, int], int] = {}  # bucket -> offset as of which it was made
    frontier = {0: (0, NOTHING_DUE_S), 1: (0, NOTHING_DUE_S)}
    rounds: list[list[tuple[int, int]] | str] = [*steps, *("1m", "1h", "1d") * 30]
    for step in rounds:
        if step == "crash":
            due = books()
            lost = [k for k, at in changed.items() if at >= frontier[k[0] % 2][0] and k[1] >= frontier[k[0] % 2][1]]
            pairs = np.array(lost, np.int64).reshape(-1, 2)
            due.mark(pairs[:, 0], pairs[:, 1], {p: frontier[p][0] for p in (0, 1)})
        elif isinstance(step, str):
            buckets = due.take(step, reached(0), 3)
            for symbol, start_s in zip(buckets.symbol_id.tolist(), buckets.start_s.tolist(), strict=True):
                made[step, symbol, start_s] = offset
        else:
            pairs = np.array([(symbol, T0_S + second) for symbol, second in step], np.int64)
            changed.update(dict.fromkeys(map(tuple, pairs.tolist()), offset))
            due.mark(pairs[:, 0], pairs[:, 1], {0: offset, 1: offset})
            offset += 1
        frontier = due.frontier({0: offset, 1: offset})
    assert len(due) == 0
    for (symbol, second), at in changed.items():
        for interval, length_s in zip(COARSER, (60, 3600, 86_400), strict=True):
            assert made[interval, symbol, second // length_s * length_s] > at


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=30), st.integers(0, 59))
@settings(max_examples=25)
def test_states_settle_up_to_the_watermark_without_a_hole(steps: list[int], phase: int) -> None:
    """The ranges of one symbol join: no bar is passed by, and none is settled before its time."""
    due = books()
    due.load_watermarks(np.array([T0_S]))
    watermark_s = T0_S
    settled_to = {"1s": None, "1m": None, "1h": None, "1d": None}
    for step in steps:
        watermark_s += step
        for settled in due.crossed(np.array([watermark_s]), np.array([phase])):
            before = settled_to[settled.interval]
            assert before is None or int(settled.from_s[0]) <= before
            settled_to[settled.interval] = int(settled.final_s[0])
            length_s = {"1s": 1, "1m": 60, "1h": 3600, "1d": 86_400}[settled.interval]
            assert settled.final_s[0] + 900 <= watermark_s + length_s - 1
            assert settled.interval == "1s" or settled.closed_s[0] + 1 <= watermark_s


def test_states_settle_after_days_without_a_watermark() -> None:
    """A feed that was away for a week makes the bars before it FINAL when it comes back, as one that stayed does."""
    due = books()
    due.load_watermarks(np.array([T0_S]))
    back_s = T0_S + 7 * 86_400
    ranges = {settled.interval: settled for settled in due.crossed(np.array([back_s]), np.array([0]))}
    assert all(int(settled.from_s[0]) <= T0_S - 900 for settled in ranges.values())
    assert all(int(settled.final_s[0]) > T0_S for settled in ranges.values())
