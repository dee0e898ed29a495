"""The life of a sink: refusals, servers that are away, the end; and when a flush is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from marketfeed.adapters.postgres import connection, days
from marketfeed.domain.errors import LogReplaced, SettingError, StalePosition, Unavailable
from marketfeed.domain.position import Position
from marketfeed.recorder import sink as sink_module
from marketfeed.recorder.log_tail import LogTail
from marketfeed.recorder.sink import FlushClock, Sink
from marketfeed.runtime.health import Health


class Scripted(Sink):
    """A sink whose sessions end as told, one after the other."""

    def __init__(self, *ends: Callable[[], None]) -> None:
        super().__init__("store", LogTail("127.0.0.1:1", "none", "store"), Health("recorder"))
        self.ends = list(ends)
        self.sessions = 0
        self.closed = False
        self.positions = [Position("log", {0: n}) for n in range(100)]

    async def _stay(self, stopping: asyncio.Event) -> None:
        self.sessions += 1
        if not self.ends:
            stopping.set()
            return
        self.ends.pop(0)()

    async def _stored_position(self) -> Position | None:
        return self.positions.pop(0) if len(self.positions) > 97 else self.positions[0]

    async def _close(self) -> None:
        self.closed = True
        await self._tail.close()


def raising(error: Exception) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


async def test_every_expected_error_ends_a_session_and_begins_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is waited out until the other writer stands still; the rest is tried again; the counters tell."""
    monkeypatch.setattr(sink_module, "STANDSTILL_S", 0.05)
    monkeypatch.setattr(sink_module, "LOOK_EVERY_S", 0.01)
    tried = Scripted(
        raising(Unavailable("PostgreSQL", "there", "no")),
        raising(StalePosition("store", "a@0=1", "a@0=2")),
        raising(StalePosition("store", "a@0=1", "")),
        raising(LogReplaced("t", "a", "b")),
    )
    async with asyncio.timeout(5):
        await tried.run(asyncio.Event())
    assert (tried.sessions, tried.closed) == (5, True)
    assert (tried.status.refusals, tried.status.failures) == (2, 1)
    assert tried.status.standing_by
    assert tried.status.as_dict()["position"] == ""


async def test_a_setting_that_turns_wrong_is_waited_out() -> None:
    """At the start it is explained and ends the recorder; later the other sink must go on."""
    wrong = SettingError("--postgres", "refuses the password")
    tried = Scripted(raising(wrong))
    with pytest.raises(SettingError):
        await tried.run(asyncio.Event())
    await tried._close()
    tried = Scripted(raising(Unavailable("PostgreSQL", "there", "starting")), raising(wrong))
    async with asyncio.timeout(5):
        await tried.run(asyncio.Event())
    assert (tried.sessions, tried.status.failures) == (3, 2)


@pytest.mark.parametrize("code", ["25006", "57P01", "57P02", "57P03", "53100", "53300", "58030", "40P01"])
async def test_a_server_that_cannot_write_now_is_away(code: str) -> None:
    """Read-only after a failover, stopping, crashed, starting, disk full, too many connections: all of it passes."""
    error = asyncpg.PostgresError.new({"S": "ERROR", "C": code, "M": "not now"})
    with pytest.raises(Unavailable, match="not now"):
        async with connection.translated("postgresql://me:secret@db:5433/market"):
            raise error


async def test_a_bug_is_not_hidden() -> None:
    """Anything unexpected ends the sink."""
    tried = Scripted(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        await tried.run(asyncio.Event())
    await tried._close()


def test_a_slow_flush_comes_less_often() -> None:
    """The interval is three times the last flush, at least the setting, at most a second."""
    clock = FlushClock(0.0)
    assert clock.is_due
    clock.restart()
    clock.done()
    assert clock.left_s == pytest.approx(0.005)
    clock._began -= 10
    clock.done()
    assert 0.9 < clock._interval_s <= 1.0


def test_migrations_are_numbered_and_places_hold_no_secret() -> None:
    """Files come in order; a connection string is shown without user and password; partitions are named by day."""
    names = [name for name, sql in connection.migrations() if sql]
    assert names == sorted(names)
    assert names[0] == "0001_market_data"
    assert connection.place_of("postgresql://me:secret@db:5433/market") == "db:5433/market"
    assert days.partition_name("bar_1s", days.day_of(20_000)) == "bar_1s_20241004"
