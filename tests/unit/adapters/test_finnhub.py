"""The feed's client against a server that misbehaves in every way that Finnhub has been seen to."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from marketfeed.adapters.finnhub import FinnhubSource
from marketfeed.adapters.websocket_server import Connection, HttpServer, Refuse, Request
from marketfeed.domain.errors import SettingError

TRADE = '{"type":"trade","data":[{"s":"A","p":1,"t":1,"v":1,"c":null}]}'


class Heard:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.frames: list[bytes] = []

    def on_open(self) -> None:
        self.events.append("open")

    def on_frame(self, frame: bytes, received_ts: int) -> None:
        assert abs(time.time_ns() - received_ts) < 10**10
        self.frames.append(frame)

    def on_unreadable(self, reason: str, sample: bytes) -> None:
        self.events.append(f"{reason} {len(sample)}")

    def on_lost(self, reason: str) -> None:
        self.events.append("lost")


class Feed:
    """A server whose behaviour on the n-th connection is a coroutine."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str | None] = []
        self.tries = 0
        self.refuse: Callable[[int], None] = lambda number: None
        self.serve: Callable[[Connection, int], object] = lambda connection, number: None

    async def accept(self, request: Request) -> None:
        self.tries += 1
        self.tokens.append(request.query.get("token"))
        self.refuse(self.tries)

    async def on_connect(self, connection: Connection, request: Request) -> None:
        served = self.serve(connection, self.tries)
        if asyncio.iscoroutine(served):
            await served
        async for message in connection.messages():
            self.asked.append(json.loads(message))


@asynccontextmanager
async def running(
    feed: Feed, heard: Heard, watchdog_s: float = 30.0, message_bytes_max: int = 1000, frame_bytes_max: int = 100_000
) -> AsyncIterator[FinnhubSource]:
    server = HttpServer("127.0.0.1", 0, close_timeout_s=0.2)
    server.websocket("/", feed.on_connect, accept=feed.accept)
    await server.start()
    source = FinnhubSource(
        f"ws://127.0.0.1:{server.port}/",
        "SECRET",
        heard,
        watchdog_s=watchdog_s,
        message_bytes_max=message_bytes_max,
        frame_bytes_max=frame_bytes_max,
        jitter=random.Random(1),
    )
    source.set_symbols(["B", "A"])
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(source.run(), name="source")
            try:
                yield source
            finally:
                task.cancel()
    finally:
        await server.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is awaited happens in code that tells nobody)
            await asyncio.sleep(0.005)


async def test_it_subscribes_and_delivers_frames_with_the_key_in_the_query() -> None:
    """One message a symbol, frames in order, and only the difference when the symbols change."""
    feed, heard = Feed(), Heard()
    feed.serve = lambda connection, number: connection.send_text(TRADE)
    async with running(feed, heard) as source:
        await until(lambda: heard.frames and len(feed.asked) == 2)
        source.set_symbols(["A", "C"])
        await until(lambda: len(feed.asked) == 4)
        assert feed.asked == [
            {"type": "subscribe", "symbol": "A"},
            {"type": "subscribe", "symbol": "B"},
            {"type": "unsubscribe", "symbol": "B"},
            {"type": "subscribe", "symbol": "C"},
        ]
        assert feed.tokens == ["SECRET"]
        assert "SECRET" not in source.where
        assert source.state.connected
    assert heard.frames == [TRADE.encode()]
    assert heard.events == ["open", "lost"]


async def test_a_lost_connection_comes_back_and_subscribes_anew() -> None:
    """Each loss is told, each new connection subscribes to everything."""
    feed, heard = Feed(), Heard()

    async def serve(connection: Connection, number: int) -> None:
        if number < 3:
            await connection.close(1011, "going away token=SECRET")

    feed.serve = serve
    async with running(feed, heard) as source:
        await until(lambda: source.state.connections == 3 and len(feed.asked) >= 2)
        assert heard.events == ["open", "lost", "open", "lost", "open"]
        assert source.state.reconnects == 2
        assert "SECRET" not in source.state.problem


async def test_a_silent_connection_is_cut_by_the_watchdog() -> None:
    """A socket that stays open without a frame is not alive; pings keep one alive."""
    feed, heard = Feed(), Heard()

    async def serve(connection: Connection, number: int) -> None:
        while number == 2:
            connection.send_text('{"type":"ping"}')
            await asyncio.sleep(0.05)

    feed.serve = serve
    async with running(feed, heard, watchdog_s=0.2) as source:
        await until(lambda: source.state.watchdog_cuts == 1)
        await until(lambda: len(heard.frames) > 10)
        assert source.state.watchdog_cuts == 1
        assert heard.events == ["open", "lost", "open"]


@pytest.mark.parametrize(("status", "retry_after"), [(200, None), (429, "7"), (503, "100000"), (524, None)])
async def test_a_refused_handshake_backs_off_long(status: int, retry_after: str | None) -> None:
    """HTTP in place of the handshake: the pause is seconds, follows the server's wish up to the cap, and is visible."""
    feed, heard = Feed(), Heard()

    def refuse(number: int) -> None:
        raise Refuse(status, b"no, token=SECRET", {"Retry-After": retry_after} if retry_after else {})

    feed.refuse = refuse
    async with running(feed, heard) as source:
        await until(lambda: source.state.retry_in_s)
        assert source.state.refused == 1
        assert not source.state.connected
        assert f"HTTP {status}" in source.state.problem
        assert "SECRET" not in source.state.problem
        assert source.state.retry_in_s == {None: pytest.approx(1.5, abs=0.51), "7": 7.0, "100000": 60.0}[retry_after]
    assert heard.events == []


async def test_a_refusal_after_an_outage_is_a_first_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries that met nobody do not make the pause after the first refusal a long one."""
    monkeypatch.setattr("marketfeed.adapters.finnhub._BACKOFF_BASE_S", 0.001)
    monkeypatch.setattr("marketfeed.adapters.finnhub.BACKOFF_CAP_S", 0.002)
    feed, heard = Feed(), Heard()

    def refuse(number: int) -> None:
        raise Refuse(503, b"not now")

    feed.serve = lambda connection, number: connection.close()
    async with running(feed, heard) as source:
        await until(lambda: source.state.reconnects >= 6)
        feed.refuse = refuse
        await until(lambda: source.state.refused)
        assert source.state.retry_in_s <= 2.0


async def test_large_messages_are_bounded() -> None:
    """An oversized message is reported by its start and the connection goes on; an absurd one ends the connection."""
    feed, heard = Feed(), Heard()

    async def serve(connection: Connection, number: int) -> None:
        if number == 1:
            connection.send_text("x" * 5000)
            connection.send_text(TRADE)
            connection.send_text("x" * 200_000)

    feed.serve = serve
    async with running(feed, heard) as source:
        await until(lambda: source.state.connections == 2)
        told = [event for event, _ in itertools.groupby(heard.events)]
        assert told == ["open", "oversized_frame 512", "lost", "open"]
        assert heard.frames == [TRADE.encode()]


def raw_frame(opcode: int, payload: bytes, last: bool) -> bytes:
    assert len(payload) < 126
    return bytes([opcode | (0x80 if last else 0), len(payload)]) + payload


async def test_fragments_are_joined_and_binary_is_refused() -> None:
    """A message in pieces is one frame; binary ones are not the protocol."""
    feed, heard = Feed(), Heard()

    def serve(connection: Connection, number: int) -> None:
        half = TRADE.encode()
        connection.send_frames(raw_frame(1, half[:20], False) + raw_frame(0, half[20:40], False))
        connection.send_frames(raw_frame(0, half[40:], True) + raw_frame(2, b"\x00\x01", True))
        for number in range(12):
            connection.send_frames(raw_frame(0 if number else 1, b"y" * 100, number == 11))

    feed.serve = serve
    async with running(feed, heard):
        await until(lambda: len(heard.events) == 3)
    assert heard.frames == [TRADE.encode()]
    assert heard.events == ["open", "binary_frame 2", "oversized_frame 512", "lost"]


async def test_a_bug_in_the_listener_ends_the_source() -> None:
    """It must not turn into a reconnect loop."""
    feed, heard = Feed(), Heard()
    feed.serve = lambda connection, number: connection.send_text(TRADE)

    def broken(frame: bytes, received_ts: int) -> None:
        raise ZeroDivisionError

    heard.on_frame = broken  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as raised:
        async with running(feed, heard):
            await asyncio.sleep(10)
    assert raised.value.subgroup(ZeroDivisionError)


async def test_nobody_there_is_retried() -> None:
    """A refused TCP connection is not an error of ours."""
    heard = Heard()
    source = FinnhubSource("ws://127.0.0.1:9/", "", heard)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.run(), name="source")
        await until(lambda: source.state.reconnects >= 1)
        task.cancel()
    assert heard.events == []
    assert not source.state.connected


def test_a_wrong_url_is_told_without_its_key() -> None:
    """At once, in one sentence."""
    with pytest.raises(SettingError, match="not a WebSocket URL") as raised:
        FinnhubSource("https://finnhub.io?token=SECRET", "", Heard())
    assert "SECRET" not in str(raised.value)
