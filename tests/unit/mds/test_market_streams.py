"""The streams of gRPC over a log in memory; real servers are in tests/integration/test_market_data.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.mds.conftest import T0, TOPIC, Market, MemoryCache, MemoryStore
from tests.unit.mds.test_recovery import MemoryReader, recovery

from marketfeed.adapters.grpc_server import Caller
from marketfeed.domain.access import OPEN
from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.log import Gap
from marketfeed.domain.position import Position
from marketfeed.domain.trades import NANOS
from marketfeed.mds.history import Archive
from marketfeed.mds.market_data import MarketData, price_facts
from marketfeed.mds.market_streams import Streams
from marketfeed.mds.snapshot import Snapshots
from marketfeed.wire.market_data import decode_tape
from marketfeed.wire.v1 import market_data_pb2 as pb

CALLER = Caller(OPEN, {}, "test")


@pytest.fixture
def snapshots(market: Market, store: MemoryStore, cache: MemoryCache) -> Snapshots:
    return Snapshots(market.hub, store, cache, "demo", 2)


@pytest.fixture
def streams(market: Market, snapshots: Snapshots) -> Streams:
    resumes = recovery(market, lambda: MemoryReader(market.log))
    return Streams(market.hub, resumes, snapshots, tick_ms=10, symbols_max=3, span_s=1000)


async def prices(stream: AsyncIterator[Any], count: int) -> list[float]:
    """The prices of the next `count` trades."""
    found: list[float] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            message = await anext(stream)
            if isinstance(message, bytes):
                found += decode_tape(message).price.tolist()
    return found


async def test_a_stream_of_trades_follows_and_resumes(market: Market, streams: Streams) -> None:
    """From now on at first; with a position, everything since; of another symbol nothing."""
    market.log.own("AAPL", "MSFT")
    market.log.trade("AAPL", 0.1, 10.0)
    stream = streams.trades(pb.StreamTradesRequest(symbols=["AAPL"]), CALLER)
    first = (await anext(stream)).acknowledged
    assert (first.position, first.recovered) == (f"{TOPIC}@0=2", False)
    market.log.trade("AAPL", 0.2, 11.0)
    market.log.trade("MSFT", 0.2, 99.0)
    market.log.trade("AAPL", 0.3, 12.0)
    assert await prices(stream, 2) == [11.0, 12.0]
    again = streams.trades(pb.StreamTradesRequest(symbols=["AAPL"], position=f"{TOPIC}@0=1"), CALLER)
    assert (await anext(again)).acknowledged.recovered
    assert await prices(again, 3) == [10.0, 11.0, 12.0]


async def test_more_symbols_than_allowed_and_unknown_ones_are_told(market: Market, streams: Streams) -> None:
    """Each symbol has its own fate; while the feed knows none at all they are pending."""
    wanted = ["A", "B", "C", "D"]
    pending = (await anext(streams.trades(pb.StreamTradesRequest(symbols=wanted), CALLER))).acknowledged.symbols
    assert pending == dict.fromkeys("ABC", pb.SYMBOL_STATUS_PENDING) | {"D": pb.SYMBOL_STATUS_LIMIT}
    market.log.own("A")
    market.hub.refresh()
    told = (await anext(streams.trades(pb.StreamTradesRequest(symbols=["A", "X"]), CALLER))).acknowledged.symbols
    assert told == {"A": pb.SYMBOL_STATUS_OK, "X": pb.SYMBOL_STATUS_UNKNOWN_SYMBOL}


async def test_draining_tells_where_to_go_on(market: Market, streams: Streams) -> None:
    """Before a planned restart a stream says its position, then ends as UNAVAILABLE; newcomers are refused."""
    market.log.own("AAPL")
    stream = streams.trades(pb.StreamTradesRequest(symbols=["*"]), CALLER)
    await anext(stream)
    streams.draining = True
    message = await anext(stream)
    while not message.HasField("drain"):
        message = await anext(stream)
    assert message.drain.position == f"{TOPIC}@0=1"
    with pytest.raises(CallRefused) as ended:
        await anext(stream)
    assert (ended.value.status, ended.value.reason) == (CallStatus.UNAVAILABLE, "DRAINING")
    with pytest.raises(CallRefused, match="DRAINING"):
        await anext(streams.quotes(pb.StreamQuotesRequest(symbols=["*"]), CALLER))


async def test_another_log_ends_the_streams(market: Market, streams: Streams) -> None:
    """Positions of a log that was replaced mean nothing any more."""
    market.log.own("AAPL")
    stream = streams.trades(pb.StreamTradesRequest(symbols=["*"]), CALLER)
    await anext(stream)
    market.restart()
    message = await anext(stream)
    while not message.HasField("drain"):
        message = await anext(stream)
    assert message.drain.reason == "log_replaced"


async def test_a_gap_is_told_to_those_it_touches(market: Market, streams: Streams) -> None:
    """With the names that the stream has asked for, and no others."""
    market.log.own("AAPL", "MSFT")
    stream = streams.trades(pb.StreamTradesRequest(symbols=["AAPL"]), CALLER)
    await anext(stream)
    market.log.write(Gap(("MSFT", "AAPL"), 5, 6, "test", 2))
    message = await anext(stream)
    while not message.HasField("gap"):
        message = await anext(stream)
    assert (list(message.gap.symbols), message.gap.from_ts, message.gap.dropped) == (["AAPL"], 5, 2)


def rows(message: Any, into: dict[int, float]) -> None:
    """What a client holds of bars: start and close."""
    for bars in message.bars.bars:
        into.update(zip(bars.start, bars.close, strict=True))


async def test_bars_resumed_are_whole_though_they_have_left_the_memory(
    market: Market, streams: Streams, store: MemoryStore
) -> None:
    """What changed since the position and is only in the store by now is sent all the same."""
    market.log.own("AAPL")
    for second in range(60):
        market.log.trade("AAPL", second, 100.0 + second)
        market.log.watermark(second)
    store.upto = len(market.log.records)
    market.hub.refresh()
    assert market.hub.state.evict({0: store.upto}) > 0
    assert len(market.hub.state.window) < 50
    stream = streams.bars(pb.StreamBarsRequest(symbols=["AAPL"], position=f"{TOPIC}@0=5"), CALLER)
    assert (await anext(stream)).acknowledged.recovered
    held: dict[int, float] = {}
    rows(await anext(stream), held)
    assert held == {T0 + second: 100.0 + second for second in range(60)}


async def test_a_quote_is_not_lost_when_somebody_else_looks_between_two_turns(market: Market, streams: Streams) -> None:
    """Bars streams bring the state up to date on their own: what a quotes stream is given must be of that state."""
    market.log.own("AAPL")
    market.log.trade("AAPL", 0.1, 10.0)
    market.hub.tick()
    quotes = streams.quotes(pb.StreamQuotesRequest(symbols=["AAPL"]), CALLER)
    bars = streams.bars(pb.StreamBarsRequest(symbols=["AAPL"]), CALLER)
    await anext(bars)
    told: list[float] = []

    async def follow(stream: AsyncIterator[Any]) -> None:
        async for message in stream:
            if message.WhichOneof("message") == "quotes":
                told.extend(quote.price for quote in message.quotes.quotes)

    tasks = [asyncio.ensure_future(follow(quotes)), asyncio.ensure_future(follow(bars))]
    try:
        for step in range(30):
            market.log.trade("AAPL", 0.2 + step / 10, 11.0 + step)
            await asyncio.sleep(0.003)
            market.hub.tick()
            market.log.trade("AAPL", 0.25 + step / 10, 11.5 + step)
            await asyncio.sleep(0.012)
        market.hub.tick()
        async with asyncio.timeout(5):
            while told[-1] != 11.5 + 29:
                await asyncio.sleep(0.01)
                market.hub.tick()
    finally:
        for task in tasks:
            task.cancel()


async def test_a_heartbeat_does_not_run_ahead_of_the_tape(market: Market, streams: Streams) -> None:
    """Its watermark is one up to which all trades have been sent, also while the stream is behind."""
    market.log.own("AAPL")
    stream = streams.trades(pb.StreamTradesRequest(symbols=["AAPL"], position=f"{TOPIC}@0=1"), CALLER)
    for step in range(20):
        market.log.trade("AAPL", step, 10.0 + step)
    market.log.watermark(20.0)
    market.hub.refresh()
    seen = 0
    async with asyncio.timeout(5):
        async for message in stream:
            if isinstance(message, bytes):
                seen += len(decode_tape(message))
            elif message.HasField("heartbeat"):
                assert message.heartbeat.watermark_ts == (T0 + 20) * NANOS
                break
    assert seen == 20


async def test_calls_that_are_answered_once(market: Market, streams: Streams, snapshots: Snapshots) -> None:
    """A quote however old; the facts of a price; bars of an interval that does not exist are refused."""
    market.log.own("AAPL")
    market.log.trade("AAPL", 0.1, 10.0)
    market.log.watermark(1.0)
    calls = MarketData(
        hub=market.hub, archive=Archive(market.hub, snapshots, MemoryStore(market.log), "demo"), streams=streams
    )
    answer = await calls.get_quote(pb.GetQuoteRequest(symbol="AAPL"), CALLER)
    assert (answer.quote.price, answer.position) == (10.0, Position(TOPIC, {0: 3}).text())
    facts = price_facts(market.hub.state, market.hub.state.symbols.id("AAPL"), 0.0, 1)
    assert (facts.price, facts.watermark_ts) == (10.0, (T0 + 1) * NANOS)
    with pytest.raises(CallRefused, match="STALE"):
        await calls.get_reference_price(pb.GetReferencePriceRequest(symbol="AAPL"), CALLER)
    with pytest.raises(CallRefused, match="UNKNOWN_SYMBOL"):
        await calls.get_quote(pb.GetQuoteRequest(symbol="X" * 1000), CALLER)
    with pytest.raises(CallRefused, match="BAD_INTERVAL"):
        await calls.get_bars(pb.GetBarsRequest(symbol="AAPL"), CALLER)
    assert set(calls.calls()) == {method.name for method in pb.DESCRIPTOR.services_by_name["MarketData"].methods}
