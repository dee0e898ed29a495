"""What /status says of a sink, and the life that both sinks share: sessions, refusals, back-off."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from time import monotonic, time_ns
from typing import Any

from marketfeed.domain.errors import LogReplaced, SettingError, StalePosition, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.trades import NANOS
from marketfeed.recorder import metrics
from marketfeed.recorder.log_tail import LogTail
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.tasks import backoff_s, stopped_within

STANDSTILL_S = 3.0
LOOK_EVERY_S = 0.5
FLUSH_S_MAX = 1.0


@dataclass(slots=True)
class SinkStatus:
    """Counters since the start, and the state of now."""

    position: str = ""
    flush_ms: float = 0.0
    refusals: int = 0
    failures: int = 0
    behind_records: int = 0
    lag_s: float = 0.0
    trades: int = 0
    bars: int = 0
    standing_by: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class Sink(ABC):
    """A sink's life: sessions one after the other, each begun at the stored position.

    Any expected error ends a session:
    - StalePosition: another recorder writes. It is left to it until its position stands still for some seconds, so two
      recorders do not take the log from each other flush by flush, and one that dies is replaced.
    - Unavailable: wait, with back-off.
    - SettingError: a setting that is wrong at the start ends the recorder. Later (a password was changed, a database
      was renamed) it is waited out like a server that is away: the other sink goes on.
    - LogReplaced: the stored position belongs to another log; the next session begins the new one.
    """

    def __init__(self, name: str, tail: LogTail, health: Health) -> None:
        self.name = name
        self.status = SinkStatus()
        self._tail = tail
        self._has_begun = False
        self._health = health
        self._log = get_logger(f"recorder.{name}")

    @abstractmethod
    async def _stay(self, stopping: asyncio.Event) -> None:
        """One session; returns when `stopping` is set and everything read is written."""

    @abstractmethod
    async def _stored_position(self) -> Position | None:
        """The position as stored. Raises Unavailable."""

    @abstractmethod
    async def _close(self) -> None:
        """Let all connections go."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Record until `stopping` is set. Raises nothing that is expected but SettingError by the first session."""
        jitter = random.Random()
        attempt, sessions = 0, 0
        self._health.ready(self.name, False, "starting")
        while not stopping.is_set():
            before = self.status.trades
            sessions += 1
            try:
                await self._stay(stopping)
            except StalePosition as stale:
                self.status.refusals += 1
                metrics.REFUSALS.labels(self.name).inc()
                if stale.found:
                    self._log.warning("another recorder writes this feed, standing by", error=str(stale))
                    await self._stand_by(stopping)
                else:
                    self._log.warning("the stored position is gone, starting over", error=str(stale))
            except LogReplaced as replaced:
                self._log.warning("the log was replaced", error=str(replaced))
            except (Unavailable, SettingError) as away:
                if isinstance(away, SettingError) and sessions == 1 and not self._has_begun:
                    raise
                # A session that has written something was a success: the next wait begins short again.
                attempt = 0 if self.status.trades > before else attempt
                self.status.failures += 1
                metrics.FAILURES.labels(self.name).inc()
                self._health.ready(self.name, False, str(away))
                if attempt == 0:
                    self._log.warning("waiting", error=str(away))
                await stopped_within(stopping, backoff_s(attempt, 0.2, 5.0, jitter))
                attempt += 1
        await self._close()

    def _began(self, position: Position, **facts: object) -> None:
        """A session is under way."""
        self._has_begun = True
        self._log.info("recording", position=position.text(), **facts)
        self._health.ready(self.name, True)
        self.status.standing_by = False
        self.status.position = position.text()

    def _flushed(self, position: Position, began: float, trades: int, rows: int) -> None:
        """A commit is done; `began` is its monotonic start."""
        took = monotonic() - began
        metrics.FLUSHES.labels(self.name).inc()
        metrics.TRADES.labels(self.name).inc(trades)
        metrics.BARS.labels(self.name).inc(rows)
        metrics.FLUSH_SECONDS.labels(self.name).observe(took)
        self.status.position, self.status.flush_ms = position.text(), round(took * 1000, 1)
        self.status.trades += trades
        self.status.bars += rows

    async def _stand_by(self, stopping: asyncio.Event) -> None:
        """Return when the stored position has stood still for some seconds, or cannot be asked."""
        self.status.standing_by = True
        self._health.ready(self.name, True, "standing by")
        position, since = None, monotonic()
        while monotonic() < since + STANDSTILL_S and not await stopped_within(stopping, LOOK_EVERY_S):
            try:
                found = await self._stored_position()
            except (Unavailable, SettingError):
                return
            if found != position:
                position, since = found, monotonic()

    async def measure(self) -> None:
        """Bring lag and distance up to date. Raises Unavailable."""
        behind = await self._tail.behind() if self._tail.readers else 0
        newest = max(self._tail.append_ts.values(), default=0)
        lag_s = max(0.0, (time_ns() - newest) / NANOS) if behind and newest else 0.0
        self.status.behind_records, self.status.lag_s = behind, round(lag_s, 3)
        metrics.BEHIND_RECORDS.labels(self.name).set(behind)
        metrics.LAG_SECONDS.labels(self.name).set(lag_s)


class FlushClock:
    """When the next flush is due: every interval, less often (to a bound) when flushes take long."""

    def __init__(self, interval_s: float) -> None:
        self._shortest_s = interval_s
        self._interval_s = interval_s
        self._began = monotonic()

    @property
    def left_s(self) -> float:
        """Seconds until the next flush, at least a little."""
        return max(0.005, self._began + self._interval_s - monotonic())

    @property
    def is_due(self) -> bool:
        """Whether the time has come."""
        return monotonic() >= self._began + self._interval_s

    def restart(self) -> float:
        """A flush begins, or there is nothing to flush; its start."""
        self._began = monotonic()
        return self._began

    def done(self) -> None:
        """The flush has ended: its cost is per bar, so a slow one is made rarer."""
        self._interval_s = min(FLUSH_S_MAX, max(self._shortest_s, 3 * (monotonic() - self._began)))
