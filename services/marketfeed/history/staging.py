"""Bars on their way from a file to the store: joined in memory, handed on in large pieces.

Each block of a file gives partial bars. They are kept until there are many, joined, and handed on, except the newest
bar of each symbol, which the next block will probably add to. A bar that comes up again after it was handed on is named
(`again`), so that the writer joins it with what is stored. Files sorted by time, or by symbol and time, have next to no
such bars; any other order is right too, only slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bars import BarColumns, combine, no_bars, segment_starts, stack
from marketfeed.domain.trades import BoolArray, Int64Array

# Earlier than any bar.
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """Bars to be written, sorted by (symbol_id, start_s), and which of them may have been handed on before."""

    bars: BarColumns
    again: BoolArray


class BarStaging:
    """Partial bars of one import. `bars_max`: how many are held before a piece is due; they take 300 bytes each."""

    def __init__(self, bars_max: int = 200_000) -> None:
        self._bars_max = bars_max
        self._parts: list[BarColumns] = []
        self._held = 0
        self._handed_on: Int64Array = np.full(64, _NEVER, np.int64)

    def add(self, partial: BarColumns) -> None:
        """Take in the partial bars of a block."""
        if len(partial):
            self._parts.append(partial)
            self._held += len(partial)

    @property
    def due(self) -> bool:
        """Whether a piece should be taken now."""
        return self._held >= self._bars_max

    def take(self, *, everything: bool) -> Staged:
        """The bars to be written now: all, or all but each symbol's newest."""
        bars = combine(stack(self._parts))
        self._parts, self._held = [], 0
        if not everything and len(bars):
            newest = np.zeros(len(bars), np.bool_)
            newest[np.append(segment_starts(bars.symbol_id)[1:], len(bars)) - 1] = True
            self.add(bars.take(newest))
            bars = bars.take(~newest)
        if not len(bars):
            return Staged(no_bars(), np.zeros(0, np.bool_))
        missing = int(bars.symbol_id.max()) + 1 - len(self._handed_on)
        if missing > 0:
            self._handed_on = np.concatenate([self._handed_on, np.full(missing + len(self._handed_on), _NEVER)])
        again = bars.start_s <= self._handed_on[bars.symbol_id]
        np.maximum.at(self._handed_on, bars.symbol_id, bars.start_s)
        return Staged(bars, again)
