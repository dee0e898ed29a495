"""The sink `cache`: from the log into Redis, for readers that want the last price now.

Read for a flush interval, then one Lua call writes quotes, cells and the position. PostgreSQL is needed for a rebuild
and for previous closes, and waited for in neither.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.redis import RedisCache
from marketfeed.domain.errors import MarketfeedError
from marketfeed.domain.position import Position
from marketfeed.domain.sessions import Calendar
from marketfeed.recorder.cache_session import CacheSession
from marketfeed.recorder.log_tail import LogTail
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.recorder.sink import FlushClock, Sink
from marketfeed.runtime import tracing
from marketfeed.runtime.health import Health

PREVIOUS_EVERY_S = 30.0
PREVIOUS_TIMEOUT_S = 2.0


class CacheSink(Sink):
    """See `Sink` for its life."""

    def __init__(self, settings: RecorderSettings, calendar: Calendar, health: Health) -> None:
        super().__init__("cache", LogTail(settings.kafka, settings.feed, "cache"), health)
        self._settings = settings
        self._calendar = calendar
        self._cache = RedisCache(settings.redis, settings.feed)
        self._store = PostgresStore(settings.postgres, "marketfeed-cache", connections_max=1)
        self._next_previous = 0.0

    async def _stay(self, stopping: asyncio.Event) -> None:
        await self._cache.ping()
        topic_id, partitions = await self._tail.identity()
        session = CacheSession(self._settings.feed, self._calendar, self._cache, self._tail, self._store)
        await session.load(topic_id, partitions, stopping)
        self._began(session.position, quotes=len(session.book.ids()))
        clock = FlushClock(self._settings.flush_interval_ms / 1000)
        while not stopping.is_set():
            session.take(await self._tail.poll(clock.left_s))
            if clock.is_due or session.trades >= self._settings.flush_trades_max:
                began = clock.restart()
                if session.has_news:
                    await self._flush(session, began)
                    clock.done()
                await self._seek_previous(session)
        if session.has_news:
            await self._flush(session, clock.restart())

    async def _flush(self, session: CacheSession, began: float) -> None:
        trades = session.trades
        with tracing.span("recorder.cache", parent=self._tail.traceparent, trades=trades):
            cells = await session.flush()
        self._flushed(session.position, began, trades, cells)

    async def _seek_previous(self, session: CacheSession) -> None:
        if monotonic() < self._next_previous or not session.lacks_previous:
            return
        self._next_previous = monotonic() + PREVIOUS_EVERY_S
        with suppress(MarketfeedError, TimeoutError):  # a dash in place of the change is all that is missing
            async with asyncio.timeout(PREVIOUS_TIMEOUT_S):
                await session.seek_previous_closes()

    async def _stored_position(self) -> Position | None:
        return await self._cache.position()

    async def _close(self) -> None:
        await self._tail.close()
        await self._cache.close()
        await self._store.close()
