"""The close of each second of each symbol, as the hot cache holds it, with the stamp that decides between two closes.

A ring of the newest seconds per symbol says which close a cell holds, so that a newer trade wins and an older one does
not, without reading the cache back. A second below what the ring knows has to be asked for first (`unknown`, `learn`).

Rule: a close wins if its event_ts is not older than the cell's. Closes are offered in the order of the log, so among
equal stamps the later record wins, which is the bars' own order key (event_ts, offset, index).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bars import BarColumns
from marketfeed.domain.trades import BoolArray, Float64Array, Int64Array

RING_S = 256
NO_SECOND = -(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells as equally long arrays sorted by (symbol_id, second in Unix s): the close and its stamp (Unix ns)."""

    symbol_id: Int64Array
    second: Int64Array
    close: Float64Array
    event_ts: Int64Array

    def __len__(self) -> int:
        return len(self.second)


class SecondCells:
    """What the cache's cells hold, for the newest seconds of each symbol."""

    def __init__(self, ring_s: int = RING_S) -> None:
        self._ring_s = ring_s
        self._second: Int64Array = np.full((64, ring_s), NO_SECOND, np.int64)
        self._event_ts: Int64Array = np.full((64, ring_s), NO_SECOND, np.int64)
        # Cells of seconds below this one that are not in the ring are unknown; from it on they are empty.
        self._known_from: Int64Array = np.full(64, NO_SECOND, np.int64)

    def begin(self, symbol_id: Int64Array, newest_s: Int64Array) -> None:
        """Symbols of which the cache may hold cells up to `newest_s`, included, and none after."""
        self._know(symbol_id)
        self._known_from[symbol_id] = np.maximum(self._known_from[symbol_id], newest_s + 1)

    def unknown(self, bars: BarColumns) -> BoolArray:
        """Which of these one-second bars lie in a cell whose content has to be learned first."""
        self._know(bars.symbol_id)
        held = self._second[bars.symbol_id, bars.start_s % self._ring_s] == bars.start_s
        unknown: BoolArray = ~held & (bars.start_s < self._known_from[bars.symbol_id])
        return unknown

    def offer(self, bars: BarColumns, learned: Cells | None = None) -> Cells:
        """Let partial bars win their cells; returns the cells that changed. Bars are sorted, each key once.

        `learned` holds the cache's content of cells that are `unknown`; those not in it are empty.
        """
        self._know(bars.symbol_id)
        slot = bars.start_s % self._ring_s
        held_s = self._second[bars.symbol_id, slot]
        held_ts = np.where(held_s == bars.start_s, self._event_ts[bars.symbol_id, slot], NO_SECOND)
        if learned is not None and len(learned):
            held_ts = np.maximum(held_ts, _stamps(bars, learned))
        wins = bars.close_ts >= held_ts
        won = Cells(bars.symbol_id[wins], bars.start_s[wins], bars.close[wins], bars.close_ts[wins])
        # The ring keeps the newer of two seconds that share a slot; what leaves it is unknown from then on.
        keep = won.second >= held_s[wins]
        evicted = keep & (held_s[wins] != won.second) & (held_s[wins] != NO_SECOND)
        np.maximum.at(self._known_from, won.symbol_id[evicted], held_s[wins][evicted] + 1)
        np.maximum.at(self._known_from, won.symbol_id[~keep], won.second[~keep] + 1)
        # Assignment of several bars to one slot leaves the last one, the newest second, as bars are sorted.
        at = (won.symbol_id[keep], slot[wins][keep])
        self._second[at], self._event_ts[at] = won.second[keep], won.event_ts[keep]
        if len(won) and int(won.second.max()) - int(won.second.min()) >= self._ring_s:
            self._forget_crowded(won)
        return won

    def _forget_crowded(self, won: Cells) -> None:
        """A batch that spans more than the ring overwrites itself: only seconds near each symbol's newest are known."""
        newest = np.full(len(self._known_from), NO_SECOND, np.int64)
        np.maximum.at(newest, won.symbol_id, won.second)
        ids = np.unique(won.symbol_id)
        self._known_from[ids] = np.maximum(self._known_from[ids], newest[ids] - self._ring_s + 1)

    def _know(self, symbol_id: Int64Array) -> None:
        """Make the columns by symbol long enough."""
        missing = int(symbol_id.max(initial=0)) + 1 - len(self._known_from)
        if missing > 0:
            more = missing + len(self._known_from)
            empty = np.full((more, self._ring_s), NO_SECOND, np.int64)
            self._second = np.concatenate([self._second, empty])
            self._event_ts = np.concatenate([self._event_ts, empty])
            self._known_from = np.concatenate([self._known_from, np.full(more, NO_SECOND, np.int64)])


def _stamps(bars: BarColumns, learned: Cells) -> Int64Array:
    """For each bar the stamp of its learned cell, NO_SECOND where there is none."""
    stamps = {
        (symbol_id, second): event_ts
        for symbol_id, second, event_ts in zip(
            learned.symbol_id.tolist(), learned.second.tolist(), learned.event_ts.tolist(), strict=True
        )
    }
    keys = zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True)
    return np.array([stamps.get(key, NO_SECOND) for key in keys], np.int64)
