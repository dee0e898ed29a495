"""Bars of any interval over a span, for `/v1/bars`: stored roll-ups, completed by what they lack.

Roll-ups follow the seconds by half a minute at most. The buckets that can lack something are made here, by the same
merge, from the finest stored level that is exact at each distance: hours, then minutes, then the live seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.bars import BarColumns, no_bars, stack
from marketfeed.domain.decimals import ObjectArray
from marketfeed.domain.follower_window import overlay
from marketfeed.domain.rollup import INTERVALS, bucket_ends, bucket_starts, roll_up
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.trades import NANOS, BoolArray, Int64Array
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.ports import Store
from marketfeed.mds.snapshot import FOR_EVER_S, ROWS_MAX, Snapshots

# Roll-ups older than this below the watermark hold everything that was not late.
ROLL_UP_DELAY_S = 180
# Bars of one answer at most.
LIMIT_MAX = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Bars of one symbol, where they came from, and where to go on if there are more."""

    bars: BarColumns
    source: str
    incomplete: bool
    next_from_s: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """Reads spans of bars."""

    hub: Hub
    snapshots: Snapshots
    store: Store
    feed: str

    async def span(self, symbol: str, interval: str, from_s: int, to_s: int, rows_max: int) -> Span:
        """The first `rows_max` bars of `interval` that start in [from_s, to_s).

        Raises Unavailable for roll-ups without PostgreSQL.
        """
        if interval == "1s":
            bars, source, incomplete, until_s = await self._seconds(symbol, from_s, to_s, rows_max)
        else:
            bars, source, incomplete, until_s = await self._rolled(symbol, interval, from_s, to_s, rows_max)
        next_from_s = until_s if until_s < to_s else None
        if len(bars) > rows_max:
            next_from_s, bars = int(bars.start_s[rows_max]), bars.take(slice(0, rows_max))
        return Span(bars, source, incomplete, next_from_s)

    async def _seconds(self, symbol: str, from_s: int, to_s: int, rows_max: int) -> tuple[BarColumns, str, bool, int]:
        """Bars, source, incomplete, and where they end."""
        history = await self.snapshots.history(symbol, from_s, to_s, rows_max)
        self.hub.refresh()
        bars = self.snapshots.join(symbol, from_s, history)
        return bars, history.source, self.snapshots.incomplete(symbol, history), history.until_s

    async def _rolled(
        self, symbol: str, interval: str, from_s: int, to_s: int, rows_max: int
    ) -> tuple[BarColumns, str, bool, int]:
        stored, until_s, offset = await self._stored(symbol, interval, from_s, to_s, rows_max)
        self.hub.refresh()
        state = self.hub.state
        symbol_id = state.symbols.id(symbol)
        watermark = state.window.watermark(symbol_id)
        exact_s = self._exact_s(symbol_id, watermark, offset)
        if until_s <= exact_s or until_s <= (begin_s := self._bucket(exact_s, interval)):
            return stored, "store", False, until_s
        seconds, _, incomplete, _ = await self._seconds(symbol, exact_s, FOR_EVER_S, ROWS_MAX)
        parts = [seconds]
        hour_s = max(begin_s, self._bucket(exact_s, "1h"))
        if interval != "1m":
            parts.append((await self._stored(symbol, "1m", hour_s, exact_s, ROWS_MAX))[0])
        if interval == "1d":
            parts.append((await self._stored(symbol, "1h", begin_s, hour_s, ROWS_MAX))[0])
        gaps = state.window.gaps_of(symbol_id)
        newest = roll_up(stack(parts), interval, state.calendar, {symbol_id: watermark}, gaps)
        # An older gap is known to the store alone, by its mark on the bucket.
        marked = np.isin(newest.start_s, stored.start_s[stored.incomplete])
        newest = replace(newest, incomplete=newest.incomplete | marked)
        newest = newest.take((newest.start_s >= max(from_s, begin_s)) & (newest.start_s < until_s))
        return overlay(stored, newest), "store", incomplete, until_s

    async def _stored(
        self, symbol: str, interval: str, from_s: int, to_s: int, rows_max: int
    ) -> tuple[BarColumns, int, int]:
        """Stored bars with our symbol id, where they end, and the log offset up to which seconds were stored then."""
        state = self.hub.state
        if from_s >= to_s:
            return no_bars(), to_s, 0
        position, stored = await self.store.read_bars(self.feed, symbol, INTERVALS[interval], from_s, to_s, rows_max)
        bars = stored.bars
        bars = replace(bars, symbol_id=np.full(len(bars), state.symbols.id(symbol), np.int64))
        known = position is not None and position.topic_id == state.topic_id
        offset = position.offsets.get(state.partition_of(symbol), 0) if known and position is not None else 0
        return bars, to_s if len(bars) < rows_max else int(bars.start_s[-1]) + 1, offset

    def _exact_s(self, symbol_id: int, watermark: int, offset: int) -> int:
        """The minute before which roll-ups hold everything that was not late just now: not within their usual delay,
        and not where the store, at `offset`, lacks seconds: those are held here."""
        window = self.hub.state.window
        held = window.of_symbol(symbol_id)
        lacking = held.start_s[held.changed_offset >= offset]
        usual_s = watermark // NANOS - ROLL_UP_DELAY_S if watermark else FOR_EVER_S
        exact_s = min(usual_s, int(lacking.min(initial=FOR_EVER_S)))
        return exact_s if exact_s == FOR_EVER_S else exact_s // 60 * 60

    def _bucket(self, second: int, interval: str) -> int:
        return int(bucket_starts(np.array([second], np.int64), interval, self.hub.state.calendar)[0])


def filled_span(
    state: LiveState, span: Span, interval: str, to_s: int, rows_max: int
) -> tuple[BarColumns, list[int], int | None]:
    """A span with a flat bar for every period without a trade, up to the watermark: later ones may still come.

    Returns the bars, 1 for each that was filled in, and where the next span begins if these are not all.
    """
    bars, next_from_s = span.bars, span.next_from_s
    if not len(bars):
        return bars, [], next_from_s
    first_s = int(bars.start_s[0])
    reached_s = state.window.watermark(int(bars.symbol_id[0])) // NANOS
    stop_s = max(int(bars.start_s[-1]) + 1, min(to_s if next_from_s is None else next_from_s, reached_s))
    stop_s = min(stop_s, first_s + (LIMIT_MAX + 1) * INTERVALS[interval])
    bars, marks = fill_previous(bars, _starts(first_s, stop_s, interval, state.calendar))
    filled = marks.astype(np.int8).tolist()
    if len(bars) > rows_max:
        return bars.take(slice(0, rows_max)), filled[:rows_max], int(bars.start_s[rows_max])
    return bars, filled, next_from_s


def _starts(first_s: int, stop_s: int, interval: str, calendar: Calendar) -> Int64Array:
    """All periods of `interval` from the one that starts at `first_s` up to `stop_s`, exclusive."""
    if interval != "1d":
        return np.arange(first_s, stop_s, INTERVALS[interval], dtype=np.int64)
    starts = [first_s]
    while (after := int(bucket_ends(np.array(starts[-1:], np.int64), interval, calendar)[0])) < stop_s:
        starts.append(after)
    return bucket_starts(np.array(starts, np.int64), interval, calendar)


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
