"""The order service in this process, on a real PostgreSQL, with a tape that a test plays through the port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tests.unit.domain.order_tapes import RULES, Row, prints_of

from marketfeed.adapters.postgres.orders import OrderReader, OrderWriter
from marketfeed.domain.order_commands import Answer, Cancel, Submit
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import OrderRequest
from marketfeed.domain.sessions import calendar
from marketfeed.orders.pipeline import OrderService
from marketfeed.orders.ports import TapeBegins, TapeEvent, TapeHole, TapePasses, TapePrints
from marketfeed.orders.updates import Updates
from marketfeed.runtime.health import Health
from marketfeed.runtime.tasks import TaskKit

ME = "me"


class PlayedTape:
    """A log of events that any number of readers follow, each from the position it asks for; a position is a count.

    `lost`: readers from before it are told that it cannot be recovered, and go on from the end.
    """

    def __init__(self) -> None:
        self.events: list[TapeEvent] = []
        self.price: int | None = None
        self.lost = 0
        self.asked: list[str] = []
        self._grown = asyncio.Event()

    async def reference(self, symbol: str, max_age_ms: int) -> Reference:
        return Reference(self.price, "" if self.price else "STALE", time.time_ns())

    async def tape(self, position: str) -> AsyncIterator[TapeEvent]:
        self.asked.append(position)
        at = int(position) if position else len(self.events)
        recovered = bool(position) and at >= self.lost
        at = at if recovered else len(self.events)
        yield TapeBegins(str(at), recovered)
        while True:
            while at < len(self.events):
                yield self.events[at]
                at += 1
            self._grown.clear()
            await self._grown.wait()

    def prints(self, *rows: Row) -> None:
        self._add(TapePrints(prints_of(rows), str(len(self.events) + 1)))

    def passes(self, watermark_ts: int) -> None:
        self._add(TapePasses(watermark_ts, str(len(self.events) + 1)))

    def hole(self, symbols: Sequence[str], from_ts: int, to_ts: int) -> None:
        self._add(TapeHole(tuple(symbols), from_ts, to_ts))

    def _add(self, event: TapeEvent) -> None:
        self.events.append(event)
        self._grown.set()


class Running:
    """A service and what it runs on."""

    def __init__(self, dsn: str, feed: str, tape: PlayedTape, name: str, takeover_s: float) -> None:
        self.stopping = asyncio.Event()
        self.health = Health("orders")
        self.reader = OrderReader(dsn, feed)
        self.updates = Updates(10)
        self.service = OrderService(
            market=tape,
            reader=self.reader,
            make_writer=lambda: OrderWriter(dsn, feed, name),
            rules=RULES,
            calendar=calendar("24x7"),
            health=self.health,
            updates=self.updates,
            commands_max=100,
            commit_every_s=0.2,
            takeover_s=takeover_s,
        )

    async def submit(self, request: OrderRequest, price: int | None = None) -> Answer:
        return await self.service.ask(Submit(ME, request, Reference(price, "" if price else "STALE", time.time_ns())))

    async def cancel(self, number: int) -> Answer:
        return await self.service.ask(Cancel(ME, number, ""))


@asynccontextmanager
async def running(
    dsn: str, feed: str, tape: PlayedTape, name: str = "one", takeover_s: float = 1.0
) -> AsyncIterator[Running]:
    """A service, until the block is left."""
    started = Running(dsn, feed, tape, name, takeover_s)
    async with TaskKit(name) as tasks:
        tasks.spawn("run", started.service.run(started.stopping))
        try:
            yield started
        finally:
            started.stopping.set()
    await started.reader.close()


async def until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
    """Wait for something within a time."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, what
        await asyncio.sleep(0.01)
