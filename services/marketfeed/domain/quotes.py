"""The quote of each symbol: its last price and its trading day so far, kept up to date from the tape.

A quote is made of the same partial bars as everything else: its price is the close of the bar of the newest trading
day, so it is the trade with the highest (event_ts, offset, index), not the one that happened to arrive last. Of the
day before, the close and its order key are kept: a late trade of yesterday still corrects the previous close.

It knows no clock; which trades count is decided before (`ownership`, rule 3 of `bar_window`). Costs are a few numpy
calls per batch and one dictionary look-up per symbol in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marketfeed.domain.bar_rows import BarRows
from marketfeed.domain.bars import BarColumns, combine, reduce_trades, segment_starts
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import Float64Array, Int64Array

DAY_S = 86_400
NO_DAY = -(2**31)
# A trade's place in the log as one number: a record holds fewer than 2^24 trades.
_INDEX_BITS = 24

# The trading day (days since 1970-01-01) of one-second bars, from their starts in Unix seconds.
DayOf = Callable[[Int64Array], Int64Array]


@dataclass(frozen=True, slots=True, eq=False)
class QuoteColumns:
    """Quotes as equally long arrays, one per symbol.

    day             the trading day so far, a bar: its close is the last price; `start_s` is trade_date * 86400
    size            float64, size of the last trade (0: a price update), NaN when unknown
    previous_close  float64, close of the trading day before, NaN when unknown
    previous_date   int64, that day, NO_DAY when unknown; previous_ts, previous_offset, previous_index its order key
    partition       int64, where the symbol's log is
    received_ts, append_ts   int64, the newest arrival at ingest and in the log (Unix ns) that was applied, 0: unknown
    """

    day: BarColumns
    size: Float64Array
    previous_close: Float64Array
    previous_date: Int64Array
    previous_ts: Int64Array
    previous_offset: Int64Array
    previous_index: Int64Array
    partition: Int64Array
    received_ts: Int64Array
    append_ts: Int64Array

    @property
    def symbol_id(self) -> Int64Array:
        """Ids of the symbols, rising."""
        return self.day.symbol_id

    @property
    def trade_date(self) -> Int64Array:
        """Trading days, days since 1970-01-01."""
        return self.day.start_s // DAY_S

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class PreviousDay:
    """The close of the trading day before: the day (days since 1970-01-01) and the order key of its last trade."""

    date: int
    close: float
    event_ts: int
    offset: int
    index: int


_NO_PREVIOUS = PreviousDay(NO_DAY, np.nan, 0, 0, 0)


def quotes_of_days(day: BarColumns, previous: Mapping[int, PreviousDay], partition: Int64Array) -> QuoteColumns:
    """Quotes as far as stored bars tell them: days as in `QuoteColumns.day`, and the days before by symbol id."""
    before = [previous.get(symbol_id, _NO_PREVIOUS) for symbol_id in day.symbol_id.tolist()]
    count = len(day)
    return QuoteColumns(
        day=day,
        size=np.full(count, np.nan),
        previous_close=np.array([b.close for b in before], np.float64),
        previous_date=np.array([b.date for b in before], np.int64),
        previous_ts=np.array([b.event_ts for b in before], np.int64),
        previous_offset=np.array([b.offset for b in before], np.int64),
        previous_index=np.array([b.index for b in before], np.int64),
        partition=partition,
        received_ts=np.zeros(count, np.int64),
        append_ts=np.zeros(count, np.int64),
    )


_STAMPS = ("previous_date", "previous_ts", "previous_offset", "previous_index", "partition", "received_ts", "append_ts")
_FLOATS = ("size", "previous_close")


class QuoteBook:
    """The quotes of all symbols of a process. `day_of` is the calendar's trading day of a second."""

    def __init__(self, day_of: DayOf) -> None:
        self._day_of = day_of
        self._days = BarRows()
        self._trade_date: Int64Array = np.full(0, NO_DAY, np.int64)
        self._floats: dict[str, Float64Array] = {name: np.full(0, np.nan) for name in _FLOATS}
        self._stamps: dict[str, Int64Array] = {name: np.zeros(0, np.int64) for name in _STAMPS}
        self._know(63)

    def apply(self, trades: TapeTrades, bars: BarColumns | None = None) -> Int64Array:
        """Take in trades of one partition; the ids of the symbols in them, rising.

        `bars` are these trades as partial one-second bars, if the caller has made them: in any order, keys may repeat.
        """
        if not len(trades):
            return np.empty(0, np.int64)
        if bars is None:
            bars = reduce_trades(
                trades.symbol_id, trades.event_ts, trades.price, trades.size, trades.offset, trades.index
            )
        nothing = np.zeros(len(bars), np.int64)
        start_s = self._day_of(bars.start_s) * DAY_S
        days = combine(replace(bars, start_s=start_s, late=nothing, state=nothing.astype(np.int8)))
        self._know(int(days.symbol_id[-1]))
        slots = self._days.find(days.symbol_id, days.start_s)
        known = slots >= 0
        self._days.merge(slots[known], days.take(known))
        if not known.all():
            self._add(days.take(~known))
        self._take_last(trades, days)
        ids = days.symbol_id[segment_starts(days.symbol_id)]
        self._stamps["partition"][ids] = trades.partition
        self._stamps["received_ts"][ids] = np.maximum(self._stamps["received_ts"][ids], trades.received_ts)
        self._stamps["append_ts"][ids] = np.maximum(self._stamps["append_ts"][ids], trades.append_ts)
        return ids

    def ids(self) -> Int64Array:
        """The symbols that have a quote, rising."""
        return np.flatnonzero(self._trade_date != NO_DAY)

    def take(self, symbol_id: Int64Array) -> QuoteColumns:
        """The quotes of symbols that have one; ids rising, each once."""
        slots = self._days.find(symbol_id, self._trade_date[symbol_id] * DAY_S)
        columns: dict[str, Any] = {name: column[symbol_id] for name, column in (self._floats | self._stamps).items()}
        return QuoteColumns(day=self._days.take(slots), **columns)

    def last_prices(self, symbol_id: Int64Array) -> Float64Array:
        """The prices that `take` gives as `day.close`, in the order of `symbol_id`."""
        slots = self._days.find(symbol_id, self._trade_date[symbol_id] * DAY_S)
        closes: Float64Array = self._days.column("close")[slots].view(np.float64)
        return closes

    def load(self, quotes: QuoteColumns) -> None:
        """Take in quotes as `take` gave them, of symbols that have none yet."""
        if not len(quotes):
            return
        ids = quotes.symbol_id
        self._know(int(ids.max()))
        self._days.add(quotes.day)
        self._trade_date[ids] = quotes.trade_date
        for name in _FLOATS:
            self._floats[name][ids] = getattr(quotes, name)
        for name in _STAMPS:
            self._stamps[name][ids] = getattr(quotes, name)

    def lacking_previous(self) -> Int64Array:
        """Symbols with a quote and no previous close."""
        ids = self.ids()
        lacking: Int64Array = ids[np.isnan(self._floats["previous_close"][ids])]
        return lacking

    def set_previous(self, symbol_id: int, close: float) -> None:
        """The previous close of a symbol from elsewhere; one that is known stays."""
        if np.isnan(self._floats["previous_close"][symbol_id]):
            self._floats["previous_close"][symbol_id] = close

    def _add(self, days: BarColumns) -> None:
        """Day bars whose day is not held: a new day pushes the present one down, an older one may correct it."""
        # The first day of many symbols at once, as after a start, needs no look at each.
        fresh = self._trade_date[days.symbol_id] == NO_DAY
        if len(days) == len(segment_starts(days.symbol_id)) and fresh.any():
            begun = days.take(fresh)
            self._days.add(begun)
            self._trade_date[begun.symbol_id] = begun.start_s // DAY_S
            days = days.take(~fresh)
        date = days.start_s // DAY_S
        for row, (symbol_id, day) in enumerate(zip(days.symbol_id.tolist(), date.tolist(), strict=True)):
            present = int(self._trade_date[symbol_id])
            if day > present:
                self._days.add(days.take(slice(row, row + 1)))
                if present != NO_DAY:
                    slot = self._days.find(np.array([symbol_id]), np.array([present * DAY_S])).astype(np.intp)
                    self._set_previous(symbol_id, self._days.take(slot), 0)
                    self._days.free(slot)
                self._trade_date[symbol_id] = day
            elif day == self._stamps["previous_date"][symbol_id]:
                stamps = self._stamps
                held = tuple(int(stamps[f"previous_{key}"][symbol_id]) for key in ("ts", "offset", "index"))
                if (int(days.close_ts[row]), int(days.close_offset[row]), int(days.close_index[row])) > held:
                    self._set_previous(symbol_id, days, row)

    def _set_previous(self, symbol_id: int, days: BarColumns, row: int) -> None:
        self._floats["previous_close"][symbol_id] = days.close[row]
        self._stamps["previous_date"][symbol_id] = days.start_s[row] // DAY_S
        self._stamps["previous_ts"][symbol_id] = days.close_ts[row]
        self._stamps["previous_offset"][symbol_id] = days.close_offset[row]
        self._stamps["previous_index"][symbol_id] = days.close_index[row]

    def _take_last(self, trades: TapeTrades, days: BarColumns) -> None:
        """The size of the last trade, where it is one of these trades."""
        present = days.start_s == self._trade_date[days.symbol_id] * DAY_S
        ids, offset, index = days.symbol_id[present], days.close_offset[present], days.close_index[present]
        slots = self._days.find(ids, self._trade_date[ids] * DAY_S)
        newest = (self._days.column("close_offset")[slots] == offset) & (
            self._days.column("close_index")[slots] == index
        )
        places = np.searchsorted(
            trades.offset << _INDEX_BITS | trades.index, offset[newest] << _INDEX_BITS | index[newest]
        )
        self._floats["size"][ids[newest]] = trades.size[places]

    def _know(self, symbol_id: int) -> None:
        """Make the columns by symbol long enough."""
        held = len(self._trade_date)
        if symbol_id < held:
            return
        more = max(symbol_id + 1, 2 * held) - held
        self._trade_date = _longer(self._trade_date, more, NO_DAY)
        self._floats = {name: np.concatenate([column, np.full(more, np.nan)]) for name, column in self._floats.items()}
        self._stamps = {
            name: _longer(column, more, NO_DAY if name == "previous_date" else 0)
            for name, column in self._stamps.items()
        }


def _longer(column: Int64Array, more: int, filler: int) -> Int64Array:
    return np.concatenate([column, np.full(more, filler, np.int64)])
