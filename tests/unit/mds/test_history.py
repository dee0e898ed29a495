"""Spans of bars: filling, and roll-ups completed by what they lack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.bars import BarColumns, no_bars, reduce_trades
from marketfeed.domain.log import Gap
from marketfeed.domain.trades import NANOS
from marketfeed.mds.history import Archive, fill_previous
from marketfeed.mds.snapshot import FOR_EVER_S, Snapshots


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 35))
@settings(max_examples=25)
def test_filling_repeats_the_close_before_and_marks_it(traded: set[int], stop: int) -> None:
    """Every second from the first trade on is there; filled ones are flat, empty and marked."""
    at = np.array(sorted(traded), np.int64)
    n = len(at)
    bars = reduce_trades(
        np.zeros(n, np.int64), at * 10**9, 10.0 + at, np.ones(n), np.arange(n), np.zeros(n, np.int64)
    )  # fmt: skip
    stop = max(stop, int(at[-1]) + 1)
    out, filled = fill_previous(bars, np.arange(0, stop))
    assert out.start_s.tolist() == list(range(int(at[0]), stop))
    close = 0.0
    for start, flag, o, h, low, c, volume, trades in zip(
        out.start_s.tolist(), filled.tolist(), out.open.tolist(), out.high.tolist(), out.low.tolist(),
        out.close.tolist(), out.volume.tolist(), out.trades.tolist(), strict=True,
    ):  # fmt: skip
        assert flag == (start not in traded)
        close = close if flag else 10.0 + start
        assert (o, h, low, c) == (close,) * 4
        assert (volume, trades) == ((0, 0) if flag else (1, 1))


def test_nothing_is_filled_from_nothing() -> None:
    """Without a bar there is no close to repeat."""
    out, filled = fill_previous(no_bars(), np.arange(5))
    assert len(out) == len(filled) == 0


async def test_newest_roll_ups_are_made_of_live_seconds(market: Any, store: Any, cache: Any) -> None:
    """Minutes that no store has rolled up yet are whole all the same; a limit says where to go on."""
    market.log.own("A")
    for second in range(0, 150, 2):
        market.log.trade("A", second, 10.0 + second, size=2.0)
    market.log.watermark(150)
    archive = Archive(market.hub, Snapshots(market.hub, store, cache, "feed", 2), store, "feed")
    span = await archive.span("A", "1m", 0, FOR_EVER_S, 100)
    assert sum(span.bars.trades.tolist()) == 75
    assert span.bars.close[-1] == 158.0
    assert span.next_from_s is None
    day = await archive.span("A", "1d", 0, FOR_EVER_S, 100)
    assert (len(day.bars), day.bars.open[0], day.bars.close[0]) == (1, 10.0, 158.0)
    cut = await archive.span("A", "1s", 0, FOR_EVER_S, 10)
    assert (len(cut.bars), cut.next_from_s) == (10, 1_790_000_020)


async def test_roll_ups_of_a_store_that_lags_have_no_hole(market: Any, store: Any, cache: Any) -> None:
    """What the recorder has not stored for ten minutes is held here, and taken from here; a quiet symbol costs none."""
    market.log.own("A", "B")
    for second in range(0, 600, 2):
        market.log.trade("A", second, 10.0 + second)
    market.log.watermark(600)
    market.hub.state.commit(0.0)
    market.hub.state.evict({0: 0})
    archive = Archive(market.hub, Snapshots(market.hub, store, cache, "feed", 2), store, "feed")
    for interval in ("1m", "1h", "1d"):
        span = await archive.span("A", interval, 0, FOR_EVER_S, 1000)
        assert sum(span.bars.trades.tolist()) == 300
    store.reads = 0
    assert len((await archive.span("B", "1m", 0, FOR_EVER_S, 1000)).bars) == 0


async def test_newest_roll_ups_tell_gaps_without_bars(market: Any, store: Any, cache: Any) -> None:
    """A gap makes a bucket incomplete also where it touches no second that traded; its neighbours are whole."""
    first_s = 1_790_000_000
    market.log.own("A")
    for second in (0, 50, 100, 170):
        market.log.trade("A", second, 10.0)
    market.log.write(Gap(("A",), (first_s + 60) * NANOS, (first_s + 70) * NANOS, "restart", 0))
    market.log.watermark(175)
    archive = Archive(market.hub, Snapshots(market.hub, store, cache, "feed", 2), store, "feed")
    span = await archive.span("A", "1m", 0, FOR_EVER_S, 100)
    touched = (first_s + 60) // 60 * 60
    assert {start: bool(flag) for start, flag in zip(span.bars.start_s, span.bars.incomplete, strict=True)} == {
        start: touched <= start <= (first_s + 70) // 60 * 60 for start in span.bars.start_s
    }
    assert span.bars.incomplete.any()
    for interval in ("1h", "1d"):
        assert (await archive.span("A", interval, 0, FOR_EVER_S, 100)).bars.incomplete.tolist() == [True]


async def test_a_remade_bucket_keeps_the_stores_mark(market: Any, store: Any, cache: Any) -> None:
    """The gap itself may be too old to be known here."""
    market.log.own("A")
    market.log.trade("A", 0, 10.0)
    market.log.trade("A", 130, 11.0)
    market.log.watermark(175)
    archive = Archive(market.hub, Snapshots(market.hub, store, cache, "feed", 2), store, "feed")
    made = (await archive.span("A", "1d", 0, FOR_EVER_S, 100)).bars
    assert made.incomplete.tolist() == [False]

    async def read_bars(_: str, __: str, interval_s: int, *___: int) -> tuple[None, Stored]:
        return None, Stored(replace(made, incomplete=~made.incomplete) if interval_s == 86_400 else no_bars())

    store.read_bars = read_bars
    assert (await archive.span("A", "1d", 0, FOR_EVER_S, 100)).bars.incomplete.tolist() == [True]


@dataclass
class Stored:
    bars: BarColumns
