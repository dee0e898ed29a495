"""The sink `store`: from the log into PostgreSQL, exactly once.

Read for a flush interval, let it happen in memory, write it in one transaction, publish what it closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date

from marketfeed.adapters.postgres import PostgresStore, StoreWriter
from marketfeed.domain.position import Position
from marketfeed.domain.sessions import Calendar
from marketfeed.recorder.log_tail import LogTail
from marketfeed.recorder.publisher import BarPublisher
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.recorder.sink import FlushClock, Sink
from marketfeed.recorder.store_session import StoreSession
from marketfeed.runtime import tracing
from marketfeed.runtime.health import Health


class StoreSink(Sink):
    """See `Sink` for its life."""

    def __init__(self, settings: RecorderSettings, calendar: Calendar, health: Health) -> None:
        super().__init__("store", LogTail(settings.kafka, settings.feed, "store"), health)
        self._settings = settings
        self._calendar = calendar
        self._store = PostgresStore(settings.postgres, "marketfeed-recorder")
        self._writer = StoreWriter(settings.postgres, settings.feed)
        self._publisher = BarPublisher(settings.kafka, settings.feed, calendar)
        self._partitions = 0

    async def _stay(self, stopping: asyncio.Event) -> None:
        topic_id, self._partitions = await self._tail.identity()
        await self._store.migrate()
        await self._store.open()
        await self._writer.open()
        session = StoreSession(self._settings, self._calendar, self._store, self._writer, self._tail)
        await session.load(topic_id, self._partitions)
        if self._settings.publish_bars:
            self._publisher.send(await session.unpublished(), self._tail.symbols.names(), self._partitions)
        self._began(session.position, bars_loaded=len(session.window))
        clock = FlushClock(self._settings.flush_interval_ms / 1000)
        while not stopping.is_set():
            session.take(await self._tail.poll(clock.left_s))
            if clock.is_due or session.pending.trades >= self._settings.flush_trades_max:
                began = clock.restart()
                if session.has_news:
                    await self._flush(session, began)
                    clock.done()
        if session.has_news or session.has_due:
            await self._flush(session, clock.restart(), roll_all=True)

    async def _flush(self, session: StoreSession, began: float, roll_all: bool = False) -> None:
        await self._publisher.settled()
        trades = session.pending.trades
        with tracing.span("recorder.store", parent=self._tail.traceparent, trades=trades):
            bars = await session.flush(roll_all)
        self._flushed(session.position, began, trades, bars)
        if self._settings.publish_bars and session.closed is not None:
            self._publisher.send(session.closed, self._tail.symbols.names(), self._partitions)

    async def _stored_position(self) -> Position | None:
        return await self._store.read_checkpoint(self._settings.feed)

    async def keep_days(self, ahead: Sequence[date]) -> None:
        """Make the partitions of days ahead, drop what is beyond the retention. Raises Unavailable."""
        settings = self._settings
        await self._store.migrate()
        await self._store.keep_days(ahead, settings.retention_days, settings.trade_retention_days)
        if self._tail.readers:
            begins = await self._tail.begin_offsets()
            await self._store.forget_states(settings.feed, begins, settings.quarantine_days)

    async def _close(self) -> None:
        await self._publisher.close()
        await self._tail.close()
        await self._writer.close()
        await self._store.close()
