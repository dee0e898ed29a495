"""What mds needs of the outside, as it sees it; `app.py` plugs the adapters in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from marketfeed.domain.bars import BarColumns
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.mds.live import Beginning


class StoredBars(Protocol):
    """Bars with the store's own columns, which mds does not look at."""

    @property
    def bars(self) -> BarColumns:
        """Sorted; symbol_id is the store's."""


class DayClose(Protocol):
    """A stored trading day."""

    @property
    def close(self) -> float:
        """Its last price."""


class Store(Protocol):
    """PostgreSQL. Every call raises Unavailable while it is away."""

    async def read_bars(
        self, feed: str, symbol: str, interval_s: int, from_s: int, to_s: int, rows_max: int
    ) -> tuple[Position | None, StoredBars]:
        """The first `rows_max` bars of a symbol in a span, and their position, None if nothing was ever stored."""

    async def read_checkpoint(self, feed: str) -> Position | None:
        """How far the log is stored."""

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> Mapping[str, DayClose]:
        """Closes of the newest trading day before a date, of those that have one."""


class Cache(Protocol):
    """Redis. Every call raises Unavailable while it is away."""

    async def read_seconds(self, symbol: str, from_s: int, to_s: int) -> tuple[Position | None, Cells]:
        """Closes by second, and the position they belong to."""


class Origins(Protocol):
    """Where a live state can begin; see `start.py`. Raises Unavailable when there is no way at present."""

    async def beginning(self) -> Beginning:
        """The state to begin with."""


class PreviousCloses(Protocol):
    """Somebody else who knows yesterday's closes."""

    async def previous_close(self, symbol: str) -> float | None:
        """The close, None if it is not known there either. Raises Unavailable."""
