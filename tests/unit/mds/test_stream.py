"""A client's life on /v1/stream, with a socket in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from marketfeed.adapters.tokens import TokenGate
from marketfeed.domain.access import Gate, Seats
from marketfeed.domain.client_session import Limits
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Gap
from marketfeed.domain.trades import NANOS
from marketfeed.mds import recovery as recovery_module
from marketfeed.mds.history import Archive
from marketfeed.mds.hub import Hub
from marketfeed.mds.joins import Joins
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.stream import Greeting, StreamServer
from marketfeed.wire import websocket as w

T0 = 1_790_000_000
OPEN_GATE = TokenGate(open=True)
GREETING = Greeting(version="1", feed="feed", instance="i", calendar="24x7", heartbeat_ms=1000)


class NoOwners:
    """A store that knows no owners, as the ring holds all of these small logs."""

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[Any]], dict[int, list[Any]]]:
        raise Unavailable("PostgreSQL", feed, "away")


def no_log() -> Any:
    raise AssertionError("the log is not read again in these tests")


class Talk:
    """A connected client: says, and waits for answers of a kind."""

    def __init__(self, hub: Hub, server: StreamServer, socket: Any) -> None:
        self.hub = hub
        self.server = server
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
        bounds = Limits(**limits)
        archive = Archive(market.hub, snapshots, store, "feed")
        joins = Joins(market.hub, snapshots, archive, 4, 1000, bounds.buffer_bytes_max)
        recovery = Recovery(market.hub, NoOwners(), "feed", no_log)
        server = StreamServer(market.hub, joins, recovery, bounds, GREETING, gate, Seats(2))
        market.hub.on_appeared = server.on_appeared
        socket = new_socket()
        market.hub.tick()
        serving = asyncio.ensure_future(server.serve(socket))
        try:
            yield Talk(market.hub, server, socket)
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


async def test_trades_begin_with_the_answer_and_outlive_a_renewal(market: Any, store: Any, connect: Any) -> None:
    """They wait for no snapshot; subscribing again costs none of them, and unsubscribing ends them."""
    market.log.own("A", "B")
    async with connect() as talk:
        talk.say(type="subscribe", id=1, symbols=["A"], channels=["trades"])
        ack = await talk.hear(w.SubscribedOut)
        assert (ack.position, ack.channels, ack.emission) == ("topic@0=1", ["trades"], "fast")
        market.log.trade("A", 1, 5.0)
        assert (await talk.hear(w.TradesOut)).price == [5.0]
        talk.say(type="subscribe", symbols=["A"], channels=["trades", "bars_1s"])
        market.log.trade("A", 2, 6.0)
        market.log.trade("A", 3, 7.0)
        prices: list[float] = []
        while len(prices) < 2:
            prices += (await talk.hear(w.TradesOut)).price
        assert prices == [6.0, 7.0]
        await talk.hear(w.Heartbeat, lambda m: m.position is not None)
        talk.say(type="unsubscribe", symbols=["A"])
        await talk.hear(w.UnsubscribedOut)
        market.log.trade("A", 4, 8.0)
        await talk.hear(w.Heartbeat)
        assert not [m for m in talk.heard if isinstance(m, w.TradesOut | w.BarOut)]


async def test_a_wildcard_brings_symbols_that_come_later_and_a_name_goes_before_it(
    market: Any, store: Any, connect: Any
) -> None:
    """`*` is one subscription; what was said of a symbol itself counts for it until that is taken back."""
    market.log.own("A", "B")
    async with connect(symbols_max=2) as talk:
        talk.say(type="subscribe", symbols=["B"], channels=["trades"])
        talk.say(type="subscribe", id=2, symbols=["*", "C"], channels=["quotes"])
        ack = await talk.hear(w.SubscribedOut, lambda m: m.id == 2)
        assert {name: of.status for name, of in ack.symbols.items()} == {"*": "ok", "C": "unknown_symbol"}
        await talk.hear(w.Snapshot, lambda m: m.symbol == "A")
        market.log.own("C")
        await talk.hear(w.Snapshot, lambda m: m.symbol == "C")
        market.log.trade("B", 1, 5.0)
        market.log.trade("C", 1, 6.0)
        assert (await talk.hear(w.QuoteOut)).symbol == "C"
        assert (await talk.hear(w.TradesOut)).symbol == "B"
        talk.say(type="unsubscribe", symbols=["B"])
        await talk.hear(w.Snapshot, lambda m: m.symbol == "B")
        market.log.trade("B", 2, 7.0)
        assert (await talk.hear(w.QuoteOut)).price == 7.0
        talk.say(type="unsubscribe", symbols=["*"])
        await talk.hear(w.UnsubscribedOut)
        market.log.trade("B", 3, 8.0)
        await talk.hear(w.Heartbeat)
        assert not [m for m in talk.heard if isinstance(m, w.QuoteOut | w.TradesOut)]


async def test_settled_bars_come_once_they_are_closed(market: Any, store: Any, connect: Any) -> None:
    """An open second is not told of, in the snapshot neither."""
    market.log.own("A")
    market.log.trade("A", 0, 1.0)
    market.log.trade("A", 5, 2.0)
    market.log.watermark(4)
    async with connect() as talk:
        talk.say(type="subscribe", symbols=["A"], channels=["bars_1s"], emission="settled")
        snapshot = await talk.hear(w.Snapshot)
        assert snapshot.bars.start == [T0]
        market.log.trade("A", 6, 3.0)
        await talk.hear(w.Heartbeat)
        market.log.watermark(8)
        bar = await talk.hear(w.BarOut)
        assert (bar.bars.start, bar.bars.state) == ([T0 + 5, T0 + 6], [1, 1])
        market.log.trade("A", 5.5, 9.0)
        bar = await talk.hear(w.BarOut)
        assert (bar.bars.start, bar.bars.state, bar.bars.high) == ([T0 + 5], [2], [9.0])


async def test_a_resume_gives_what_was_missed_and_says_when_that_is_all(market: Any, store: Any, connect: Any) -> None:
    """Every trade, each changed bar as it is now, the newest quote, where the symbol stands; no snapshot."""
    market.log.own("A", "B")
    for second in range(4):
        market.log.trade("A", second, 10.0 + second)
    store.upto = 5
    async with connect() as talk:
        channels = ["quotes", "bars_1s", "trades"]
        talk.say(type="resume", id="r", symbols=["A", "B"], channels=channels, position="topic@0=3", interval_ms=100)
        resumed = await talk.hear(w.ResumedOut)
        assert (resumed.id, resumed.recovered, resumed.interval_ms) == ("r", True, 100)
        assert resumed.position == "topic@0=3"
        assert (await talk.hear(w.CaughtUp)).position == "topic@0=5"
        market.log.trade("A", 4, 20.0)
        assert (await talk.hear(w.QuoteOut)).price == 20.0


async def test_what_a_resume_brings_is_exact(market: Any, store: Any, connect: Any) -> None:
    """In its order: the answer, the standing, bars and quotes, trades; then `caught_up`."""
    market.log.own("A")
    for second in range(4):
        market.log.trade("A", second, 10.0 + second)
    market.log.write(Gap(("A",), T0 * NANOS, T0 * NANOS, "restart", 0))
    store.upto = 5
    async with connect() as talk:
        await talk.hear(w.Hello)
        talk.say(type="resume", symbols=["A"], channels=["quotes", "bars_1s", "trades"], position="topic@0=3")
        async with asyncio.timeout(5):
            while not any(isinstance(m, w.CaughtUp) for m in talk.heard):
                talk.heard += talk.socket.take()
                await asyncio.sleep(0.001)
                talk.hub.tick()
        heard = [m for m in talk.heard if not isinstance(m, w.Heartbeat)]
        kinds = [type(m) for m in heard]
        assert kinds[:3] == [w.ResumedOut, w.StatusOut, w.GapOut]
        assert w.Snapshot not in kinds
        trades = [offset for m in heard if isinstance(m, w.TradesOut) for offset in m.offset]
        assert trades == [3, 4]
        bars = {
            start: close
            for m in heard
            if isinstance(m, w.BarOut)
            for start, close in zip(m.bars.start, m.bars.close, strict=True)
        }
        assert bars == {T0 + second: 10.0 + second for second in range(4)}
        assert [m.price for m in heard if isinstance(m, w.QuoteOut)] == [13.0]
        assert heard[-1].position == "topic@0=6"


@pytest.mark.parametrize("position", ["other@0=3", "topic@0=99", "topic@0=0,1=0"])
async def test_what_cannot_be_had_whole_begins_anew(
    market: Any, store: Any, connect: Any, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another log, the future, other partitions: a snapshot, and trades from now on."""
    monkeypatch.setattr(recovery_module, "REACH_S", 0.05)
    market.log.own("A")
    market.log.trade("A", 1, 10.0)
    store.upto = 2
    async with connect() as talk:
        talk.say(type="resume", symbols=["A"], channels=["bars_1s", "trades"], position=position)
        resumed = await talk.hear(w.ResumedOut)
        assert (resumed.recovered, resumed.position) == (False, "topic@0=2")
        assert (await talk.hear(w.Snapshot)).bars.start == [T0 + 1]
        market.log.trade("A", 2, 11.0)
        assert (await talk.hear(w.TradesOut)).offset == [2]


async def test_bars_that_the_store_cannot_give_come_as_a_snapshot(market: Any, store: Any, connect: Any) -> None:
    """PostgreSQL away during a resume: a snapshot tells what it is made of, in place of half of the bars."""
    market.log.own("A")
    for second in range(30):
        market.log.trade("A", second, 10.0 + second)
    market.log.watermark(29)
    market.hub.tick()
    market.hub.state.evict({0: 40})
    store.away = True
    async with connect() as talk:
        talk.say(type="resume", symbols=["A"], channels=["bars_1s"], position="topic@0=3")
        assert (await talk.hear(w.ResumedOut)).recovered
        assert (await talk.hear(w.Snapshot)).source == "memory"


async def test_a_drain_tells_each_client_its_own_place(market: Any, store: Any, connect: Any) -> None:
    """All that is known is sent before; a client whose snapshot is on its way has no place."""
    market.log.own("A")
    async with connect() as talk:
        talk.say(type="subscribe", symbols=["A"], channels=["trades"], interval_ms=60_000)
        await talk.hear(w.Heartbeat, lambda m: m.position is not None)
        market.log.trade("A", 1, 10.0)
        talk.server.drain()
        talk.heard += talk.socket.take()
        trades, drain = talk.heard[-2:]
        assert (trades.offset, drain.position) == ([1], "topic@0=2")
        next(iter(market.hub.fanout.everyone())).settled = False
        talk.server.drain()
        assert talk.socket.take()[-1].position is None


async def test_a_client_that_takes_nothing_is_not_read_from(market: Any, connect: Any) -> None:
    """So its answers cannot pile up."""
    market.log.own("A")
    async with connect(buffer_bytes_max=1000) as talk:
        await talk.hear(w.Hello)
        talk.socket.buffered_bytes = 1100
        for number in range(50):
            talk.say(type="ping", id=number)
        await asyncio.sleep(0.03)
        assert not talk.socket.take()
        talk.socket.buffered_bytes = 0
        assert (await talk.hear(w.PongOut)).id == 0


async def test_a_join_ends_with_a_client_that_has_to_go(market: Any, store: Any, connect: Any) -> None:
    """One that lost its place in the tape while a snapshot is on its way hinders nobody."""
    market.log.own("A", "B")
    market.log.trade("A", 1, 10.0)
    async with connect(buffer_bytes_max=1000) as talk:
        talk.say(type="subscribe", symbols=["A"], channels=["trades"])
        await talk.hear(w.Heartbeat, lambda m: m.position is not None)
        talk.socket.buffered_bytes = 700
        talk.say(type="subscribe", symbols=["B"], channels=["quotes"])
        market.log.trade("A", 2, 10.0)
        market.hub.state.tape.forget(0, 3)
        talk.socket.buffered_bytes = 0
        for _ in range(1000):
            if market.goodbyes:
                break
            await asyncio.sleep(0.001)
        assert [int(goodbye.code) for _, goodbye in market.goodbyes] == [4006]
        await asyncio.sleep(0.01)


async def test_a_symbol_that_becomes_known_during_a_resume_is_not_forgotten(
    market: Any, store: Any, connect: Any
) -> None:
    """A server that has just started knows no symbols yet; it waits for the position, and knows them then."""
    async with connect() as talk:
        channels = ["bars_1s", "trades"]
        talk.say(type="resume", symbols=["A"], channels=channels, position="topic@0=2")
        await asyncio.sleep(0.02)
        market.log.own("A")
        for second in range(3):
            market.log.trade("A", second, 10.0 + second)
        assert (await talk.hear(w.ResumedOut)).recovered
        async with asyncio.timeout(5):
            while not any(isinstance(m, w.CaughtUp) for m in talk.heard):
                talk.heard += talk.socket.take()
                await asyncio.sleep(0.001)
                talk.hub.tick()
        trades = [offset for m in talk.heard if isinstance(m, w.TradesOut) for offset in m.offset]
        assert trades == [2, 3]
        starts = {s for m in talk.heard if isinstance(m, w.BarOut | w.Snapshot) and m.bars for s in (m.bars.start)}
        assert {T0 + 1, T0 + 2} <= starts
