"""A client's life on /v1/stream, with a socket in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from marketfeed.adapters.tokens import TokenGate
from marketfeed.domain.access import Gate, Seats
from marketfeed.domain.client_session import Limits
from marketfeed.mds.hub import Hub
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.stream import Greeting, StreamServer
from marketfeed.wire import websocket as w

T0 = 1_790_000_000
OPEN_GATE = TokenGate(open=True)
GREETING = Greeting(version="1", feed="feed", instance="i", calendar="24x7", heartbeat_ms=1000)


class Talk:
    """A connected client: says, and waits for answers of a kind."""

    def __init__(self, hub: Hub, socket: Any) -> None:
        self.hub = hub
        self.socket = socket
        self.heard: list[Any] = []

    def say(self, **message: Any) -> None:
        self.socket.said.put_nowait(json.dumps(message))

    async def hear(self, kind: type[Any], when: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next message of a kind, others kept in `heard`."""
        async with asyncio.timeout(5):
            while True:
                self.heard += self.socket.take()
                for place, message in enumerate(self.heard):
                    if isinstance(message, kind) and when(message):
                        del self.heard[: place + 1]
                        return message
                await asyncio.sleep(0.001)
                self.hub.tick()


@pytest.fixture
def connect(market: Any, store: Any, cache: Any, new_socket: Any) -> Any:
    @asynccontextmanager
    async def talking(gate: Gate = OPEN_GATE, **limits: Any) -> AsyncIterator[Talk]:
        snapshots = Snapshots(market.hub, store, cache, "feed", 2)
        server = StreamServer(market.hub, snapshots, Limits(**limits), GREETING, 4, 1000, gate, Seats(2))
        socket = new_socket()
        market.hub.tick()
        serving = asyncio.ensure_future(server.serve(socket))
        try:
            yield Talk(market.hub, socket)
        finally:
            await socket.close()
            await serving
            assert market.hub.fanout.clients == 0

    return talking


async def test_snapshot_then_live_without_a_repeat(market: Any, store: Any, connect: Any) -> None:
    """Hello, ack per symbol, a snapshot in parts with the newest first, then only what is new."""
    market.log.own("A")
    for second in range(10):
        market.log.trade("A", second, 10.0 + second)
    market.log.watermark(9)
    store.upto = 8
    async with connect() as talk:
        hello = await talk.hear(w.Hello)
        assert (hello.feed, hello.interval_ms.default, hello.protocol) == ("feed", 50, 1)
        talk.say(type="subscribe", id=1, symbols=["A", "XX"])
        ack = await talk.hear(w.SubscribedOut)
        assert {name: of.status for name, of in ack.symbols.items()} == {"A": "ok", "XX": "unknown_symbol"}
        parts = [await talk.hear(w.Snapshot) for _ in range(3)]
        assert [(p.part, p.parts, p.source, p.incomplete) for p in parts] == [(n, 3, "store", False) for n in range(3)]
        assert [p.bars.start for p in parts] == [
            [T0 + 6, T0 + 7, T0 + 8, T0 + 9], [T0 + 2, T0 + 3, T0 + 4, T0 + 5], [T0, T0 + 1],
        ]  # fmt: skip
        assert parts[0].quote.price == 19.0
        assert parts[1].quote is None
        assert parts[0].position == "topic@0=12"
        market.log.trade("A", 10, 20.0)
        bar = await talk.hear(w.BarOut)
        assert bar.bars.start == [T0 + 10]
        assert (await talk.hear(w.QuoteOut)).price == 20.0
        assert not [m for m in talk.heard if isinstance(m, w.BarOut | w.QuoteOut)]


async def test_only_the_channels_and_seconds_that_were_asked_for(market: Any, store: Any, connect: Any) -> None:
    """Quotes alone read no history; `from` cuts it; a second wish replaces the first."""
    market.log.own("A")
    for second in range(4):
        market.log.trade("A", second, 10.0 + second)
    store.upto = 5
    async with connect() as talk:
        talk.say(type="subscribe", symbols=["A"], channels=["quotes"])
        snapshot = await talk.hear(w.Snapshot)
        assert (snapshot.bars, snapshot.quote.price, store.reads) == (None, 13.0, 0)
        talk.say(type="subscribe", symbols=["A"], channels=["bars_1s"], **{"from": T0 + 2})
        snapshot = await talk.hear(w.Snapshot)
        assert (snapshot.bars.start, snapshot.quote) == ([T0 + 2, T0 + 3], None)
        market.log.trade("A", 3.5, 9.0)
        assert (await talk.hear(w.BarOut)).bars.low == [9.0]
        assert not [m for m in talk.heard if isinstance(m, w.QuoteOut)]


async def test_a_pending_symbol_gets_its_snapshot_when_it_appears(market: Any, connect: Any) -> None:
    """Before the feed has started every name is pending; afterwards only with `wait`."""
    async with connect() as talk:
        talk.say(type="subscribe", symbols=["A"])
        assert (await talk.hear(w.SubscribedOut)).symbols["A"].status == "pending"
        market.log.own("A")
        snapshot = await talk.hear(w.Snapshot)
        assert (snapshot.symbol, snapshot.quote) == ("A", None)
        market.log.trade("A", 1, 5.0)
        assert (await talk.hear(w.QuoteOut)).price == 5.0
        talk.say(type="subscribe", symbols=["NEW"], wait=True)
        assert (await talk.hear(w.SubscribedOut)).symbols["NEW"].status == "pending"
        market.log.own("NEW")
        assert (await talk.hear(w.Snapshot)).symbol == "NEW"


async def test_unsubscribing_is_the_end_of_it(market: Any, connect: Any) -> None:
    """No message of the symbol afterwards, however much it trades."""
    market.log.own("A", "B")
    async with connect() as talk:
        talk.say(type="subscribe", symbols=["A", "B"])
        await talk.hear(w.Snapshot, lambda m: m.symbol == "B")
        talk.say(type="unsubscribe", id="x", symbols=["A"])
        assert (await talk.hear(w.UnsubscribedOut)).symbols["A"].status == "ok"
        market.log.trade("A", 1, 5.0)
        market.log.trade("B", 1, 6.0)
        assert (await talk.hear(w.QuoteOut)).symbol == "B"
        assert "A" not in [m.symbol for m in talk.heard if isinstance(m, w.QuoteOut | w.BarOut)]


async def test_bad_messages_have_answers_and_abuse_an_end(market: Any, connect: Any) -> None:
    """Errors carry code and id; the connection goes on until the hundredth."""
    market.log.own("A")
    async with connect(messages_per_s=1000) as talk:
        talk.socket.said.put_nowait("nonsense")
        assert (await talk.hear(w.ErrorOut)).code == "bad_json"
        talk.say(type="subscribe", id=7, symbols="A")
        error = await talk.hear(w.ErrorOut)
        assert (error.code, error.id) == ("bad_message", 7)
        talk.say(type="ping", id=8)
        assert (await talk.hear(w.PongOut)).id == 8
        for _ in range(98):
            talk.socket.said.put_nowait("nonsense")
        await talk.hear(w.ErrorOut)
        async with asyncio.timeout(5):
            await talk.socket.ended.wait()
        assert talk.socket.goodbye[0] == 4000


async def test_a_snapshot_waits_for_room_and_is_whole_afterwards(market: Any, store: Any, connect: Any) -> None:
    """A client that takes nothing gets one part at a time; what happened meanwhile follows the last one."""
    market.log.own("A")
    for second in range(10):
        market.log.trade("A", second, 10.0)
    async with connect(buffer_bytes_max=1000) as talk:
        await talk.hear(w.Hello)
        talk.say(type="subscribe", symbols=["A"])
        await talk.hear(w.SubscribedOut)
        talk.socket.buffered_bytes = 5000
        await asyncio.sleep(0.03)
        assert talk.socket.frames == []
        talk.socket.buffered_bytes = 0
        assert (await talk.hear(w.Snapshot)).part == 0
        talk.socket.buffered_bytes = 5000
        market.log.trade("A", 3, 99.0)
        await asyncio.sleep(0.03)
        talk.socket.buffered_bytes = 0
        await talk.hear(w.Snapshot, lambda m: m.part == 2)
        bar = await talk.hear(w.BarOut)
        assert (bar.bars.start, bar.bars.high) == ([T0 + 3], [99.0])


async def test_clients_of_a_replaced_log_are_told_to_come_back(market: Any, connect: Any) -> None:
    """1012 for everybody: ids and positions mean nothing any more."""
    market.log.own("A")
    async with connect() as talk:
        await talk.hear(w.Hello)
        market.restart()
        assert [int(goodbye.code) for _, goodbye in market.goodbyes] == [1012]
