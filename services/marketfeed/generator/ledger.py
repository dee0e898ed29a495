"""Keeps the manifest while the generator runs: adds up what was handed to sockets, per symbol and second. Pure.

Mechanism: the last minute is held as dense tables of (second, symbol), one per column, laid out as a ring of seconds;
numpy's unbuffered `ufunc.at` adds a whole slice at once (about 30 ns a trade for all columns). A second that has
left the ring, and no trade is late enough to belong to it, is packed to its non-empty rows. So memory follows the
number of (symbol, second) pairs, never that of trades; beyond `seconds_max` the oldest are forgotten and the manifest
says so.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from marketfeed.domain.manifest import ManifestSeconds, join_seconds
from marketfeed.domain.trades import Int64Array
from marketfeed.generator.market import LATE_MS_MAX, Pages, Slice

# Seconds held open. Mirrored and lagging stamps (faults.py) stay far inside.
_RING = 64
assert LATE_MS_MAX / 1e3 < _RING / 2

_NONE_YET = np.iinfo(np.int64).max
# Rows waiting are added together when there are this many: a call costs some microseconds whatever it adds.
_BATCH_ROWS = 8_192
_BATCH_MS = 2_000


class Ledger:
    """The sums so far. `rows` counts every trade and update handed out."""

    def __init__(self, symbols: int, pages: Pages, seconds_max: int) -> None:
        self._symbols = symbols
        self._pages = pages
        self._seconds_max = seconds_max
        self._cells = symbols * _RING
        self._trades = np.zeros(self._cells, np.int64)
        self._updates = np.zeros(self._cells, np.int64)
        self._volume = np.zeros(self._cells, np.int64)
        self._notional = np.zeros(self._cells, np.int64)
        self._open_key = np.full(self._cells, _NONE_YET)
        self._close_key = np.full(self._cells, -1)
        self._open = np.zeros(self._cells, np.int64)
        self._close = np.zeros(self._cells, np.int64)
        self._high = np.full(self._cells, -1)
        self._low = np.full(self._cells, _NONE_YET)
        self._newest_s = -1
        self._packed: deque[ManifestSeconds] = deque()
        self._waiting: list[tuple[Int64Array, Int64Array, Int64Array, Int64Array]] = []
        self._waiting_rows = 0
        self._waiting_from_ms = 0
        self.kept_from_s = 0  # seconds before this one were forgotten
        self.rows = 0

    def add(self, made: Slice, handed: npt.NDArray[np.bool_] | None) -> int:
        """Count a slice's trades of the symbols in the mask (None: all), once each; returns how many there are."""
        at = slice(made.pattern * self._pages.per_slice, (made.pattern + 1) * self._pages.per_slice)
        symbol = self._pages.symbol[at].astype(np.int64)
        columns = (symbol, made.stamp_ms, made.price_ticks, self._pages.size_units[at])
        if handed is not None:
            mask = handed[symbol]
            columns = (symbol[mask], made.stamp_ms[mask], made.price_ticks[mask], self._pages.size_units[at][mask])
        count = len(columns[0])
        if not self._waiting:
            self._waiting_from_ms = made.start_ms
        self._waiting.append(columns)
        self._waiting_rows += count
        if self._waiting_rows >= _BATCH_ROWS or made.end_ms - self._waiting_from_ms >= _BATCH_MS:
            self._settle()
        return count

    def seconds(self) -> ManifestSeconds:
        """All rows so far, sorted by (second, symbol)."""
        self._settle()
        open_seconds = range(max(self._newest_s - _RING + 1, 0), self._newest_s + 1)
        return join_seconds([*self._packed, *(self._rows_of(second) for second in open_seconds)])

    def _settle(self) -> None:
        """Add what waits to the tables."""
        if not self._waiting_rows:
            self._waiting.clear()
            return
        symbol, stamp_ms, ticks, size = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._waiting_rows = 0
        second = stamp_ms // 1000
        self._open_until(int(second.max()))
        cell = second % _RING * self._symbols + symbol
        traded = size > 0
        np.add.at(self._trades, cell, traded.astype(np.int64))
        np.add.at(self._updates, cell, (~traded).astype(np.int64))
        np.add.at(self._volume, cell, size)
        np.add.at(self._notional, cell, size * ticks)
        np.maximum.at(self._high, cell, ticks)
        np.minimum.at(self._low, cell, ticks)
        # Within a second: milliseconds first, then the order of sending.
        key = (stamp_ms % 1000 << 50) + np.arange(self.rows, self.rows + len(cell))
        np.minimum.at(self._open_key, cell, key)
        np.maximum.at(self._close_key, cell, key)
        opens, closes = self._open_key[cell] == key, self._close_key[cell] == key
        self._open[cell[opens]] = ticks[opens]
        self._close[cell[closes]] = ticks[closes]
        self.rows += len(cell)

    def _open_until(self, newest_s: int) -> None:
        """Make the ring reach `newest_s`; seconds that fall out of it are packed."""
        if self._newest_s < 0:
            self._newest_s = newest_s
        # The place of a new second is that of the one a ring's length before it.
        for second in range(self._newest_s + 1, min(newest_s, self._newest_s + _RING) + 1):
            self._pack(second - _RING)
        self._newest_s = max(self._newest_s, newest_s)

    def _rows_of(self, second: int) -> ManifestSeconds:
        cells = second % _RING * self._symbols
        at = slice(cells, cells + self._symbols)
        symbol = np.flatnonzero(self._close_key[at] >= 0)
        columns = (
            self._trades, self._updates, self._volume, self._notional, self._open, self._high, self._low, self._close,
        )  # fmt: skip
        return ManifestSeconds(symbol, np.full(len(symbol), second), *(column[at][symbol] for column in columns))

    def _pack(self, second: int) -> None:
        rows = self._rows_of(second)
        if len(rows):
            self._packed.append(rows)
        if len(self._packed) > self._seconds_max:
            self.kept_from_s = int(self._packed.popleft().start_s[0]) + 1
        cells = second % _RING * self._symbols
        at = slice(cells, cells + self._symbols)
        for column in (self._trades, self._updates, self._volume, self._notional):
            column[at] = 0
        self._open_key[at] = self._low[at] = _NONE_YET
        self._close_key[at] = self._high[at] = -1
