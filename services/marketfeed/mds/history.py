"""Bars of any interval over a span, for `/v1/bars`: stored roll-ups, completed by what they lack.

Roll-ups follow the seconds by half a minute at most. The buckets that can lack something are made here, by the same
merge, from the finest stored level that is exact at each distance: hours, then minutes, then the live seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.bars import BarColumns, stack
from marketfeed.domain.decimals import ObjectArray
from marketfeed.domain.follower_window import overlay
from marketfeed.domain.rollup import INTERVALS, bucket_starts, roll_up
from marketfeed.domain.trades import NANOS, BoolArray, Int64Array
from marketfeed.mds.hub import Hub
from marketfeed.mds.ports import Store
from marketfeed.mds.snapshot import FOR_EVER_S, Snapshots

# Roll-ups older than this below the watermark hold everything that was not late.
ROLL_UP_DELAY_S = 180


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Bars of one symbol, and where they came from."""

    bars: BarColumns
    source: str
    incomplete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """Reads spans of bars."""

    hub: Hub
    snapshots: Snapshots
    store: Store
    feed: str

    async def span(self, symbol: str, interval: str, from_s: int, to_s: int) -> Span:
        """Bars of `interval` that start in [from_s, to_s). Raises Unavailable for roll-ups without PostgreSQL."""
        if interval == "1s":
            return await self._seconds(symbol, from_s, to_s)
        stored = await self._stored(symbol, interval, from_s, to_s)
        state = self.hub.state
        watermark_s = state.window.watermark(state.symbols.id(symbol)) // NANOS
        exact_s = (watermark_s - ROLL_UP_DELAY_S) // 60 * 60
        begin_s = self._bucket(exact_s, interval)
        if to_s <= begin_s:
            return Span(stored, "store", incomplete=False)
        seconds = await self._seconds(symbol, exact_s, FOR_EVER_S)
        parts = [seconds.bars]
        hour_s = max(begin_s, self._bucket(exact_s, "1h"))
        if interval != "1m":
            parts.append(await self._stored(symbol, "1m", hour_s, exact_s))
        if interval == "1d":
            parts.append(await self._stored(symbol, "1h", begin_s, hour_s))
        marks = {state.symbols.id(symbol): state.window.watermark(state.symbols.id(symbol))}
        newest = roll_up(stack(parts), interval, state.calendar, marks)
        newest = newest.take((newest.start_s >= max(from_s, begin_s)) & (newest.start_s < to_s))
        return Span(overlay(stored, newest), "store", seconds.incomplete)

    async def _seconds(self, symbol: str, from_s: int, to_s: int) -> Span:
        history = await self.snapshots.history(symbol, from_s, to_s)
        self.hub.refresh()
        bars = self.snapshots.join(symbol, from_s, history, to_s)
        return Span(bars, history.source, self.snapshots.incomplete(symbol, history))

    async def _stored(self, symbol: str, interval: str, from_s: int, to_s: int) -> BarColumns:
        _, stored = await self.store.read_bars(self.feed, symbol, INTERVALS[interval], from_s, to_s)
        symbol_id = self.hub.state.symbols.id(symbol)
        return replace(stored.bars, symbol_id=np.full(len(stored.bars), symbol_id, np.int64))

    def _bucket(self, second: int, interval: str) -> int:
        return int(bucket_starts(np.array([second], np.int64), interval, self.hub.state.calendar)[0])


def fill_previous(bars: BarColumns, starts: Int64Array) -> tuple[BarColumns, BoolArray]:
    """Bars at all of `starts`, each missing one a flat bar at the close before it; and which ones are filled.

    Starts before the first bar are left out: there is nothing to repeat. `bars` are of one symbol, their starts among
    `starts`; both rise.
    """
    if not len(bars):
        return bars, np.zeros(0, np.bool_)
    starts = starts[starts >= bars.start_s[0]]
    source = np.searchsorted(bars.start_s, starts, "right") - 1
    filled: BoolArray = bars.start_s[source] != starts
    out = bars.take(source)
    close = bars.close[source]
    nothing: ObjectArray = np.zeros(len(starts), object)
    return (
        replace(
            out,
            start_s=starts,
            **{name: np.where(filled, close, getattr(out, name)) for name in ("open", "high", "low")},
            **{name: np.where(filled, nothing, getattr(out, name)) for name in ("volume", "notional")},
            **{name: np.where(filled, 0, getattr(out, name)) for name in ("trades", "late")},
            incomplete=out.incomplete & ~filled,
        ),
        filled,
    )
