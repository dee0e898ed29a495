"""PostgreSQL as mds uses it: opened when it is first reachable, and not asked again at once after it was not.

A snapshot must not wait for a server that is away: after a failure every call fails at once for `REST_S`, and a call
that takes longer than `CALL_S` is a failure, too. The adapter's own time limits are made for a writer and longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Protocol

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.ownership import EpochRow, OwnerRow
from marketfeed.domain.position import Position
from marketfeed.mds.ports import DayClose, StoredBars
from marketfeed.mds.start import StoredStart

REST_S = 2.0
CALL_S = 10.0


class Database(Protocol):
    """The adapter."""

    @property
    def place(self) -> str:
        """Host, port and database."""

    async def open(self) -> None:
        """Connect. Raises Unavailable, SettingError."""

    async def close(self) -> None:
        """Let go."""

    async def is_migrated(self) -> bool:
        """Whether the tables are there."""

    async def read_checkpoint(self, feed: str) -> Position | None:
        """See Store."""

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> Mapping[str, DayClose]:
        """See Store."""

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
        """See recovery.OwnerRows."""


ReadStart = Callable[[str, int], Awaitable[StoredStart]]
ReadSpan = Callable[[str, str, int, int, int, int], Awaitable[tuple[Position | None, StoredBars]]]


class PatientStore:
    """A `Store` and a `StartReader` over a database that comes and goes.

    read_start(feed, keep_s) and read_span (arguments of `Store.read_bars`) read from that database.
    """

    def __init__(self, database: Database, feed: str, read_start: ReadStart, read_span: ReadSpan) -> None:
        self._database = database
        self._feed = feed
        self._read_start = read_start
        self._read_span = read_span
        self._opening = asyncio.Lock()
        self._open = False
        self._resting_until_s = 0.0
        self._reason = ""

    async def read_bars(
        self, feed: str, symbol: str, interval_s: int, from_s: int, to_s: int, rows_max: int
    ) -> tuple[Position | None, StoredBars]:
        """See Store."""
        async with self._reachable():
            return await self._read_span(feed, symbol, interval_s, from_s, to_s, rows_max)

    async def read_checkpoint(self, feed: str) -> Position | None:
        """See Store."""
        async with self._reachable():
            return await self._database.read_checkpoint(feed)

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> Mapping[str, DayClose]:
        """See Store."""
        async with self._reachable():
            return await self._database.previous_close(feed, symbols, before)

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
        """See recovery.OwnerRows."""
        async with self._reachable():
            return await self._database.read_owners(feed, start)

    async def read_start(self, keep_s: int) -> StoredStart | None:
        """See start.StartReader; reading a whole window may take longer than other calls."""
        async with self._reachable(3 * CALL_S):
            return await self._read_start(self._feed, keep_s)

    async def close(self) -> None:
        """Let the connections go."""
        await self._database.close()

    @asynccontextmanager
    async def _reachable(self, call_s: float = CALL_S) -> AsyncIterator[None]:
        if time.monotonic() < self._resting_until_s:
            raise Unavailable("PostgreSQL", self._database.place, self._reason)
        try:
            async with asyncio.timeout(call_s):
                await self._opened()
                yield
        except (Unavailable, TimeoutError, SettingError) as error:
            self._reason = error.reason if isinstance(error, Unavailable) else str(error) or "it takes too long"
            self._resting_until_s = time.monotonic() + REST_S
            raise Unavailable("PostgreSQL", self._database.place, self._reason) from error

    async def _opened(self) -> None:
        if self._open:
            return
        async with self._opening:
            if not self._open:
                await self._database.open()
                if not await self._database.is_migrated():
                    raise Unavailable("PostgreSQL", self._database.place, "its tables are missing: marketfeed migrate")
                self._open = True
