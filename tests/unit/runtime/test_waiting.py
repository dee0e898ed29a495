"""A step waits for its server, says so once, and gives up in time."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.runtime import logs, waiting
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger


class Server:
    """A server that answers from try number `up_at` on."""

    def __init__(self, up_at: int) -> None:
        self.up_at = up_at
        self.tries = 0

    async def ask(self) -> str:
        self.tries += 1
        if self.tries < self.up_at:
            raise Unavailable("Kafka", "kafka:9092", f"refused, try {self.tries}")
        return "made"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What was logged, a JSON document a line; pauses are a millisecond."""
    monkeypatch.setattr(waiting, "PAUSE_S", 0.001)
    monkeypatch.setattr(waiting, "PAUSE_MAX_S", 0.001)
    logs.set_up("prepare", "json", "info")
    out = io.StringIO()
    handler = logging.getLogger().handlers[-1]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    return out


async def wait(server: Server, health: Health, timeout_s: float, stopping: asyncio.Event | None = None) -> str | None:
    stopping = stopping or asyncio.Event()
    return await waiting.until_available("kafka", server.ask, timeout_s, stopping, health, get_logger("prepare"))


async def test_it_says_once_what_it_waits_for(said: io.StringIO) -> None:
    """Many tries are one line; /readyz holds the newest reason and turns when the server is there."""
    health, server = Health("prepare"), Server(up_at=20)
    assert await wait(server, health, 60.0) == "made"
    assert health.is_ready
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["waiting for Kafka"]
    assert (lines[0]["at"], lines[0]["reason"]) == ("kafka:9092", "refused, try 1")


async def test_it_gives_up_with_the_last_word(said: io.StringIO) -> None:
    """The deadline bounds tries and pauses; the reason that is told is the newest one."""
    health, server = Health("prepare"), Server(up_at=10**9)
    with pytest.raises(Unavailable, match=r"refused, try \d+; gave up after 0.05 s \(--timeout-s\)"):
        await wait(server, health, 0.05)
    assert server.tries > 1
    assert not health.is_ready


async def test_an_attempt_that_hangs_is_bounded_too(said: io.StringIO) -> None:
    """A server that takes the connection and is mute costs the time given, no more."""

    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(Unavailable, match="no answer; gave up"):
        await waiting.until_available("kafka", hang, 0.02, asyncio.Event(), Health("p"), get_logger("prepare"))


async def test_a_wrong_setting_is_not_waited_for(said: io.StringIO) -> None:
    """Time heals no password."""

    async def refuse() -> str:
        raise SettingError("--postgres", "refuses")

    with pytest.raises(SettingError):
        await waiting.until_available("postgres", refuse, 60.0, asyncio.Event(), Health("p"), get_logger("prepare"))


async def test_being_told_to_stop_ends_the_waiting(said: io.StringIO) -> None:
    """SIGTERM ends a pause at once, whatever its length."""
    stopping, server = asyncio.Event(), Server(up_at=10**9)
    stopping.set()
    assert await wait(server, Health("prepare"), 60.0, stopping) is None
    assert server.tries == 0
