"""The bars that a reader without a store of its own keeps: until somebody else's store has them.

mds shows bars; the recorder stores them. Between the two lies the recorder's delay, seconds as a rule, hours when
PostgreSQL is away. So that every bar is in at least one of the two places, a bar leaves this window only when the
store's checkpoint has passed its last change. What is read from the store at position P, overlaid with every bar held
here at a position not below P, is therefore whole: no hole, and as overlaying replaces, no repeat.

A late trade for a bar that has left already makes an *orphan*: this window cannot tell the bar's new value. It is
named with the offset of the change, and read back from the store once the checkpoint has passed that offset.

Beyond `rows_max` the oldest bars are dropped all the same, and `lost_offsets` tells up to where the store must be for
what is held plus what is stored to be whole again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import OPEN, BarColumns, stack
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, Int64Array

# Measured: a bar in memory with its key, its row and its two integers.
BYTES_PER_BAR = 500


@dataclass(frozen=True, slots=True)
class Orphan:
    """A bar changed at `offset` of its symbol's partition whose earlier part only the store has."""

    symbol_id: int
    start_s: int
    offset: int


@dataclass(frozen=True, slots=True)
class Touched:
    """What changed since the last look: starts by symbol id of bars held, and bars that only the store can tell."""

    bars: dict[int, set[int]]
    orphans: tuple[Orphan, ...]


def overlay(stored: BarColumns, held: BarColumns) -> BarColumns:
    """Stored bars, replaced and completed by those held; both sorted by key. What is held must not be older."""
    both = stack((stored, held))
    order = np.lexsort((both.start_s, both.symbol_id))
    symbol_id, start_s = both.symbol_id[order], both.start_s[order]
    # The sort is stable, so of two rows of one key the held one is the later: keep each key's last row.
    last = np.ones(len(order), np.bool_)
    last[:-1] = (symbol_id[1:] != symbol_id[:-1]) | (start_s[1:] != start_s[:-1])
    return both.take(order[last])


class FollowerWindow(BarWindow):
    """A `BarWindow` that is read from, never written out."""

    def __init__(self, keep_s: int = 120, rows_max: int = 1_000_000) -> None:
        super().__init__(keep_s)
        self.rows_max = rows_max
        # By symbol id: the store must have passed this offset, or bars dropped for lack of room are missing.
        self.lost_offsets: dict[int, int] = {}

    def begin_at(self, start_s: int) -> None:
        """Bars before this second are known in part only: late trades for them make orphans."""
        self._held_from_s = max(self._held_from_s, start_s)

    def touched(self) -> Touched:
        """What changed since the last call. Orphans are let go: their rows here hold only what came late."""
        rows = self._rows
        orphans = tuple(self._let_orphans_go()) if rows.needed.any() else ()
        slots = np.flatnonzero(rows.dirty)
        rows.dirty[slots] = False
        bars: dict[int, set[int]] = {}
        symbol_id, start_s = rows.column("symbol_id")[slots].tolist(), rows.column("start_s")[slots].tolist()
        for one, start in zip(symbol_id, start_s, strict=True):
            bars.setdefault(one, set()).add(start)
        return Touched(bars, orphans)

    def at(self, symbol_id: Int64Array, start_s: Int64Array) -> BarColumns:
        """The bars of these keys that are held, in their present state, sorted by key."""
        slots = self._rows.find(symbol_id, start_s)
        return self._with_final(self._rows.take(slots[slots >= 0]))

    def of_symbol(self, symbol_id: int) -> BarColumns:
        """All bars held of one symbol, sorted by start. Orphans not yet let go are left out."""
        rows = self._rows
        chosen = rows.live & (rows.column("symbol_id") == symbol_id) & ~rows.needed
        return self._with_final(rows.take(np.flatnonzero(chosen)))

    def finished(self, bars: BarColumns) -> BarColumns:
        """Stored bars with FINAL where this window's watermark says so."""
        return self._with_final(bars)

    def gaps_of(self, symbol_id: int) -> tuple[TapeGap, ...]:
        """Gaps that may touch bars of a symbol that are not FINAL yet."""
        return tuple(self._gaps.get(symbol_id, ()))

    def evict_stored(self, stored: Int64Array) -> int:
        """Let bars go that are older than `keep_s` and stored; how many.

        stored: int64 by symbol id, the store's next offset of the symbol's partition; symbols beyond its end and those
        with 0 are not stored at all. OPEN bars and those not yet seen by `touched` stay.
        """
        rows = self._rows
        self._held_from_s = max(self._held_from_s, int(self._reached_s.max()) - self.keep_s)
        symbol_id = rows.column("symbol_id")
        known = np.zeros(len(self._watermark), np.int64)
        count = min(len(known), len(stored))
        known[:count] = stored[:count]
        old = rows.live & ~rows.dirty & (rows.column("start_s") < self._held_from_s) & (rows.column("state") != OPEN)
        old &= rows.column("changed_offset") < known[symbol_id]
        slots = np.flatnonzero(old)
        rows.free(slots)
        self._forget_old_gaps()
        return len(slots) + self._drop_beyond_bound()

    def _let_orphans_go(self) -> list[Orphan]:
        rows = self._rows
        slots = np.flatnonzero(rows.needed)
        keys = zip(
            rows.column("symbol_id")[slots].tolist(),
            rows.column("start_s")[slots].tolist(),
            rows.column("changed_offset")[slots].tolist(),
            strict=True,
        )
        orphans = [Orphan(*key) for key in keys]
        rows.needed[slots] = False
        rows.dirty[slots] = False
        rows.free(slots)
        return orphans

    def _forget_old_gaps(self) -> None:
        for symbol_id, gaps in list(self._gaps.items()):
            final_before = self.final_before(symbol_id)
            recent = [gap for gap in gaps if gap.to_ts // NANOS >= final_before]
            if recent:
                self._gaps[symbol_id] = recent
            else:
                del self._gaps[symbol_id]

    def _drop_beyond_bound(self) -> int:
        """Drop the oldest bars that are too many, and remember which offsets the store has to reach."""
        rows = self._rows
        excess = len(rows) - self.rows_max
        if excess <= 0:
            return 0
        held = np.flatnonzero(rows.live & ~rows.dirty & (rows.column("state") != OPEN))
        oldest = held[np.argsort(rows.column("start_s")[held], kind="stable")[: excess + self.rows_max // 10]]
        if not len(oldest):
            return 0
        symbol_id, offset = rows.column("symbol_id")[oldest].tolist(), rows.column("changed_offset")[oldest].tolist()
        for one, at in zip(symbol_id, offset, strict=True):
            self.lost_offsets[one] = max(at, self.lost_offsets.get(one, -1))
        self._held_from_s = max(self._held_from_s, int(rows.column("start_s")[oldest].max()) + 1)
        rows.free(oldest)
        return len(oldest)
