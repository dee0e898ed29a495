"""The recorder: two sinks side by side, each with its own reader of the log, its own position and its own troubles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.domain.sessions import Calendar, calendar
from marketfeed.recorder.cache_sink import CacheSink
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.recorder.sink import SinkStatus
from marketfeed.recorder.store_sink import StoreSink
from marketfeed.runtime.logs import RateLimited, get_logger
from marketfeed.runtime.service import ServiceContext, default_instance
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.tasks import TaskKit, stopped_within

MEASURE_EVERY_S = 2.0
KEEP_DAYS_EVERY_S = 600.0
DAYS_AHEAD = 2

log = get_logger("recorder")


class Recorder:
    """The sinks that the settings name."""

    def __init__(self, context: ServiceContext[RecorderSettings]) -> None:
        settings = context.settings
        if not settings.sinks or set(settings.sinks) - {"store", "cache"}:
            raise SettingError("--sinks", f"is {','.join(settings.sinks)!r}; name store, cache or both")
        self._context = context
        self._settings = settings
        self._calendar: Calendar = calendar(settings.calendar)
        self._store = StoreSink(settings, self._calendar, context.health) if "store" in settings.sinks else None
        self._cache = CacheSink(settings, self._calendar, context.health) if "cache" in settings.sinks else None
        self._rates: dict[str, tuple[float, int, int]] = {}
        self._per_s: dict[str, tuple[float, float]] = {}

    def _sinks(self) -> dict[str, StoreSink | CacheSink]:
        sinks = {"store": self._store, "cache": self._cache}
        return {name: sink for name, sink in sinks.items() if sink is not None}

    async def run(self) -> None:
        """Until told to stop."""
        stopping = self._context.stopping
        self._context.health.status_source = self.status
        async with TaskKit("recorder") as tasks:
            for name, sink in self._sinks().items():
                tasks.spawn(name, sink.run(stopping))
            tasks.spawn("measure", self._measure())
            if self._store is not None:
                tasks.spawn("days", self._keep_days(self._store))

    async def _measure(self) -> None:
        while not await stopped_within(self._context.stopping, MEASURE_EVERY_S):
            for name, sink in self._sinks().items():
                self._note_rate(name, sink.status)
                with suppress(MarketfeedError):  # the sink itself says that the server is away
                    async with asyncio.timeout(MEASURE_EVERY_S):
                        await sink.measure()

    def _note_rate(self, name: str, status: SinkStatus) -> None:
        now = monotonic()
        before = self._rates.get(name, (now - MEASURE_EVERY_S, status.trades, status.bars))
        elapsed = max(now - before[0], 0.001)
        self._per_s[name] = (status.trades - before[1]) / elapsed, (status.bars - before[2]) / elapsed
        self._rates[name] = now, status.trades, status.bars

    async def _keep_days(self, store: StoreSink) -> None:
        """Partitions of the days ahead are there before midnight, those beyond the retention go."""
        stopping = self._context.stopping
        quiet = RateLimited(log, per_s=1 / 60)
        while True:
            today = datetime.now(UTC).date()
            ahead = [today + timedelta(days=n) for n in range(-1, DAYS_AHEAD + 1)]
            pause_s = KEEP_DAYS_EVERY_S
            try:
                await store.keep_days(ahead)
            except MarketfeedError as error:
                quiet.warning("daily partitions were not looked after", error=str(error))
                pause_s = MEASURE_EVERY_S
            if await stopped_within(stopping, pause_s):
                return

    def status(self) -> dict[str, Any]:
        """The body of /status."""
        sinks = {}
        for name, sink in self._sinks().items():
            rate, bars_per_s = self._per_s.get(name, (0.0, 0.0))
            sinks[name] = {**sink.status.as_dict(), "rate": round(rate), "bars_per_s": round(bars_per_s)}
        main = sinks.get("store") or sinks["cache"]
        return {
            "feed": self._settings.feed,
            "instance": self._settings.instance or default_instance(),
            "rate": main["rate"],
            "lag_s": max(sink["lag_s"] for sink in sinks.values()),
            "bars_per_s": main["bars_per_s"],
            "sinks": sinks,
        }


async def run(context: ServiceContext[RecorderSettings]) -> None:
    """The service's main."""
    await Recorder(context).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the log of a feed into PostgreSQL (bars, roll-ups) and Redis (quotes, seconds), exactly once."""
    return service_main("recorder", RecorderSettings, run, argv, main.__doc__)
