"""Bars of one minute that somebody watches: which have to be made anew, and what they were made to be.

A minute is made of its seconds by the merge that makes those (`rollup.py`), so that it equals what history has. Here is
only the book: seconds that change touch their minute, a minute that is open is due again when the watermark closes it,
and a minute that came out as it was before is no news.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from marketfeed.domain.bar_window import CLOSE_AFTER_S
from marketfeed.domain.bars import OPEN, BarColumns, combine, no_bars, stack
from marketfeed.domain.trades import NANOS

MINUTE_S = 60
# Minutes remembered for clients that are behind.
HELD_MAX = 50_000

Key = tuple[int, int]


class MinuteBook:
    """Minutes by (symbol id, start). `watched`: symbols of which anybody wants them; of others nothing is noted."""

    def __init__(self, held_max: int = HELD_MAX) -> None:
        self.watched: frozenset[int] = frozenset()
        self._held_max = held_max
        self._touched: set[Key] = set()
        self._open: set[Key] = set()
        self._held: OrderedDict[Key, BarColumns] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def touch(self, seconds: Mapping[int, Iterable[int]]) -> None:
        """These seconds changed, by symbol id."""
        for symbol_id in self.watched & seconds.keys():
            self._touched.update((symbol_id, start // MINUTE_S * MINUTE_S) for start in seconds[symbol_id])

    def renew(self, symbol_id: int, seconds: Iterable[int]) -> None:
        """Somebody is new to the minutes of these seconds: make and tell them again, whatever was told before."""
        keys = {(symbol_id, start // MINUTE_S * MINUTE_S) for start in seconds}
        self._touched |= keys
        for key in keys:
            self._held.pop(key, None)

    def due(self, watermark: Callable[[int], int]) -> list[Key]:
        """Minutes to be made now: touched ones, and open ones that the symbol's watermark (Unix ns) has closed."""
        self._open = {key for key in self._open if key[0] in self.watched}
        self._touched = {key for key in self._touched if key[0] in self.watched}
        closed = {
            (symbol_id, start)
            for symbol_id, start in self._open
            if watermark(symbol_id) // NANOS >= start + MINUTE_S + CLOSE_AFTER_S
        }
        return sorted(self._touched | closed)

    def put(self, keys: Iterable[Key], bars: BarColumns) -> dict[int, set[int]]:
        """These minutes were made as of now and are `bars`, sorted; returns the starts of those that are news."""
        asked = set(keys)
        self._touched -= asked
        self._open -= asked
        changed: dict[int, set[int]] = {}
        rows = zip(bars.symbol_id.tolist(), bars.start_s.tolist(), bars.state.tolist(), strict=True)
        for row, (symbol_id, start, state) in enumerate(rows):
            key = (symbol_id, start)
            bar = bars.take(slice(row, row + 1))
            before = self._held.get(key)
            if state == OPEN:
                self._open.add(key)
            if before is None or _differs(before, bar):
                self._held[key] = bar
                changed.setdefault(symbol_id, set()).add(start)
            self._held.move_to_end(key)
        while len(self._held) > self._held_max:
            self._held.popitem(last=False)
        return changed

    def at(self, symbol_id: int, starts: Iterable[int]) -> BarColumns:
        """Those of these minutes that are held, sorted by start."""
        found = [bar for start in starts if (bar := self._held.get((symbol_id, start))) is not None]
        return combine(stack(found)) if found else no_bars()


def _differs(a: BarColumns, b: BarColumns) -> bool:
    """Whether anything of a bar that is told differs."""
    names = ("open", "high", "low", "close", "volume", "size_scale", "trades", "late", "incomplete", "state")
    return any(not np.array_equal(getattr(a, name), getattr(b, name)) for name in names)
