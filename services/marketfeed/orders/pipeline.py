"""The service's life: stays as the writer one after the other, and standing by while another process is the writer.

A process that starts claims the place; the one that had it is overtaken with its next commit. It then stands by, and
claims again only when the other has stored nothing for `takeover_s`: a live one stores at least every second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from marketfeed.domain.errors import (
    CallRefused,
    CallStatus,
    MarketfeedError,
    SettingError,
    StalePosition,
    Unavailable,
)
from marketfeed.domain.order_commands import Answer, Command
from marketfeed.domain.order_desk import Desk
from marketfeed.domain.order_validation import OrderRules
from marketfeed.domain.sessions import Calendar
from marketfeed.orders import metrics
from marketfeed.orders.inbox import Asked, Inbox
from marketfeed.orders.ports import Market, Reader, Writer
from marketfeed.orders.session import Session, TapeStatus
from marketfeed.orders.updates import Updates
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.tasks import TaskKit, backoff_s, stopped_within

# The longest turn without anything to do: IOC orders end by the clock.
TICK_S = 0.25
LOOK_EVERY_S = 0.5
MEASURE_EVERY_S = 1.0
COMMAND_S = 10.0

log = get_logger("orders")


class OrderService:
    """Carries out commands while it is the writer. Times in seconds."""

    def __init__(
        self,
        *,
        market: Market,
        reader: Reader,
        make_writer: Callable[[], Writer],
        rules: OrderRules,
        calendar: Calendar,
        health: Health,
        updates: Updates,
        commands_max: int,
        commit_every_s: float,
        takeover_s: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._market = market
        self._reader = reader
        self._make_writer = make_writer
        self._rules = rules
        self._calendar = calendar
        self._health = health
        self._updates = updates
        self._commands_max = commands_max
        self._commit_every_s = commit_every_s
        self._takeover_s = takeover_s
        self._clock = clock
        self._inbox = Inbox(commands_max)
        self._session: Session | None = None
        self._has_begun = False
        self._measured_s = 0.0
        self.tape = TapeStatus()

    async def ask(self, command: Command) -> Answer:
        """Carry out a command; answered once it is stored. Raises CallRefused, Unavailable."""
        self.check_writer()
        asked = self._inbox.ask(command)
        try:
            async with asyncio.timeout(COMMAND_S):
                return await asked.answer
        except TimeoutError as error:
            raise Unavailable("PostgreSQL", "orders", f"no commit within {COMMAND_S:g} s") from error

    def check_writer(self) -> None:
        """Raise CallRefused unless this process is the writer."""
        if self._session is None:
            message = "this process does not serve orders now; try again, or another"
            raise CallRefused(CallStatus.UNAVAILABLE, "NOT_WRITER", message)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop. Raises SettingError if the first stay does."""
        jitter = random.Random()
        attempt = 0
        self._health.ready("writer", False, "starting")
        self._health.ready("tape", False, "not begun")
        while not stopping.is_set():
            began_s = time.monotonic()
            try:
                await self._stay(stopping)
            except StalePosition as stale:
                metrics.OVERTAKEN.inc()
                log.warning("another process is the writer now; standing by", found=str(stale.found))
                self._health.ready("writer", False, "another process is the writer")
                await self._stand_by(stopping)
            except (Unavailable, CallRefused, SettingError) as error:
                if isinstance(error, SettingError) and not self._has_begun:
                    raise
                log.warning("waiting", error=str(error))
                self._health.ready("writer", False, str(error))
                attempt = 0 if time.monotonic() - began_s > 10 else attempt + 1
                if await stopped_within(stopping, backoff_s(attempt, 0.2, 5.0, jitter)):
                    return

    async def _stay(self, stopping: asyncio.Event) -> None:
        """One session, from the claim to its error, or to the end when `stopping` is set."""
        if not await self._reader.is_migrated():
            raise Unavailable("PostgreSQL", "orders", "its tables are not there; run `marketfeed migrate`")
        writer = self._make_writer()
        try:
            position, state = await writer.claim()
            desk = Desk(state, self._rules, self._calendar)
            self._inbox = Inbox(self._commands_max)
            self.tape = TapeStatus()
            session = Session(writer, desk, position, self.tape, self._updates.publish, self._clock)
            await self._serve(session, stopping)
        finally:
            self._session = None
            metrics.WRITER.set(0)
            error = CallRefused(CallStatus.UNAVAILABLE, "RELOADING", "ask again, with the same client order id")
            self._inbox.refuse_all(error)
            self._updates.end_all(error)
            await writer.close()

    async def _serve(self, session: Session, stopping: asyncio.Event) -> None:
        metrics.SESSIONS.inc()
        metrics.WRITER.set(1)
        self._session, self._has_begun = session, True
        self._health.ready("writer", True)
        log.info("is the writer", position=session.position, working=len(session.desk.book))
        try:
            async with TaskKit("session") as tasks:
                reading = tasks.spawn("tape", self._read_tape(session.position))
                while not stopping.is_set():
                    await self._turn(session, await self._inbox.take(TICK_S))
                reading.cancel()
        except BaseExceptionGroup as errors:
            raise _first_expected(errors) from None

    async def _turn(self, session: Session, items: list[Any]) -> None:
        try:
            await session.turn(items, self._commit_every_s)
        except BaseException:
            # Whoever waits is told so whatever the reason, our own cancellation included.
            error = CallRefused(CallStatus.UNAVAILABLE, "NOT_STORED", "ask again, with the same client order id")
            for item in items:
                if isinstance(item, Asked):
                    item.refuse(error)
            raise
        if self.tape.began:
            self._health.ready("tape", True)
        if time.monotonic() - self._measured_s >= MEASURE_EVERY_S:
            self._measured_s = time.monotonic()
            session.measure()
            metrics.TAPE_AGE_S.set(self.tape.age_s(self._clock()))

    async def _read_tape(self, position: str) -> None:
        async for event in self._market.tape(position):
            await self._inbox.put(event)

    async def _stand_by(self, stopping: asyncio.Event) -> None:
        """Until the other process has stored nothing for a while, by our own clock."""
        version, since_s = -1, time.monotonic()
        while not await stopped_within(stopping, LOOK_EVERY_S):
            try:
                found = await self._reader.version()
            except Unavailable:
                found = -1  # nobody can store anything: that the other does not is no sign
            if found != version or found == -1:
                version, since_s = found, time.monotonic()
            elif time.monotonic() - since_s >= self._takeover_s:
                log.warning("the writer has stored nothing; taking over", for_s=self._takeover_s)
                return

    def status(self) -> dict[str, Any]:
        """For /status."""
        session = self._session
        now_ns = self._clock()
        return {
            "writer": session is not None,
            "position": session.position if session else None,
            "tape_age_s": round(self.tape.age_s(now_ns), 3),
            **(session.measure() if session else {}),
        }


def _first_expected(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The expected error of a session's tasks; the whole group if one of them is a bug."""
    expected, bugs = errors.split(MarketfeedError)
    if bugs is not None or expected is None:
        return errors
    first: BaseException = expected
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
