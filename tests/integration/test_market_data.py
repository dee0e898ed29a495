"""gRPC market data on real servers: every trade once through a kill, prices that fail closed, the reducer's bars."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.test_mds import (  # common and tape are fixtures
    EPOCH,
    NAMES,
    PARTITIONS,
    T0_S,
    Process,
    Table,
    Tape,
    common,
    free_port,
    mds_settings,
    service,
    tape,
    until,
)

from marketfeed.client.market_data import MarketDataClient, Resumed, TapeBatch, TapeBeat, TapeGap
from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.log import Gap, Logged, Status, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import NANOS, SymbolTable, TradeColumns
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.v1 import market_data_pb2 as pb

pytestmark = pytest.mark.integration
__all__ = ["common", "tape"]

SYMBOL = NAMES[1]
Trade = tuple[int, int, int, str, float]


def logged_trades(tape: Tape) -> list[Trade]:
    """(partition, offset, index, symbol, price) of every trade that counts, by the readers' rule."""
    found: list[Trade] = []
    for partition, bodies in enumerate(tape.records):
        symbols = SymbolTable()
        logged = [Logged(partition, offset, 1, body) for offset, body in enumerate(bodies)]
        for event in PartitionReader(partition, symbols).read(logged):
            if isinstance(event, TapeTrades):
                names = [symbols.name(i) for i in event.symbol_id.tolist()]
                rows = zip(event.offset.tolist(), event.index.tolist(), names, event.price.tolist(), strict=True)
                found += [(partition, *row) for row in rows]
    return found


def trades_of(batch: TapeBatch) -> list[Trade]:
    names = [batch.symbols[i] for i in batch.symbol_index.tolist()]
    rows = zip(batch.offset.tolist(), batch.index.tolist(), names, batch.price.tolist(), strict=True)
    return [(batch.partition, *row) for row in rows]


class Reader:
    """Follows StreamTrades and keeps all it says."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.resumed: list[Resumed] = []
        self.gaps: list[TapeGap] = []
        self.beats: list[TapeBeat] = []

    async def follow(self, client: MarketDataClient, symbols: list[str], position: str = "") -> None:
        async for message in client.trades(symbols, position):
            match message:
                case TapeBatch():
                    self.trades += trades_of(message)
                case Resumed():
                    self.resumed.append(message)
                case TapeGap():
                    self.gaps.append(message)
                case TapeBeat():
                    self.beats.append(message)


@asynccontextmanager
async def serving(
    common: dict[str, object], folder: Path, **more: object
) -> AsyncIterator[tuple[Process, MarketDataClient]]:
    port = free_port()
    settings = mds_settings(common, grpc_host="127.0.0.1", grpc_port=port, **more)
    async with service("mds", settings, folder) as mds, MarketDataClient(f"127.0.0.1:{port}") as client:
        await mds.ready()
        yield mds, client


async def test_every_trade_comes_once_and_in_order_through_a_kill(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """kill -9 in the middle of the tape: the new process, which begins later, reads the log again for its clients."""
    async with service("recorder", common, tmp_path) as recorder, serving(common, tmp_path) as (mds, client):
        await recorder.ready()
        everything, one = Reader(), Reader()
        async with TaskKit("readers") as tasks:
            readers = [
                tasks.spawn("all", everything.follow(client, ["*"])),
                tasks.spawn("one", one.follow(client, [SYMBOL])),
            ]
            await until(lambda: bool(everything.resumed and one.resumed), lambda: "no stream", 10)
            await tape.play(0, 10, wall_s=2)
            await mds.stop(signal.SIGKILL)
            await tape.play(10, 20, wall_s=3)
            await mds.start()
            await tape.play(20, 30, wall_s=2)
            expected = logged_trades(tape)
            mine = [trade for trade in expected if trade[3] == SYMBOL]
            await until(
                lambda: len(everything.trades) >= len(expected) and len(one.trades) >= len(mine),
                lambda: (len(everything.trades), len(expected), everything.resumed),
                20,
            )
            for reader in readers:
                reader.cancel()
        for partition in range(PARTITIONS):
            told = [trade for trade in everything.trades if trade[0] == partition]
            assert told == [trade for trade in expected if trade[0] == partition]
        assert one.trades == mine
        for reader in (everything, one):
            assert [resumed.recovered for resumed in reader.resumed] == [False, True]
            assert reader.resumed[1].away_s > 0
            assert not reader.gaps


async def test_a_position_out_of_reach_is_not_recovered_in_part(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """Of another log, or before what can be held: recovered is false and the stream begins now."""
    async with serving(common, tmp_path, tape_bytes_max=20_000) as (_, client):
        first = Reader()
        async with TaskKit("reader") as tasks:
            task = tasks.spawn("first", first.follow(client, ["*"]))
            await until(lambda: bool(first.resumed), lambda: "no stream", 10)
            task.cancel()
        begin = first.resumed[0].position
        await tape.play(0, 30, wall_s=2)
        for position in (begin, begin.replace(begin.split("@")[0], "another-log")):
            again = Reader()
            async with TaskKit("reader") as tasks:
                task = tasks.spawn("again", again.follow(client, ["*"], position))
                await until(lambda again=again: bool(again.beats), lambda: "no heartbeat", 30)
                task.cancel()
            assert not again.resumed[0].recovered
            assert not again.trades


async def test_a_reader_that_stops_is_ended_and_harms_nobody(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """The tape is never thinned: who falls out of the ring is told RESOURCE_EXHAUSTED with its position."""
    async with serving(common, tmp_path, tape_bytes_max=8_000_000) as (mds, client):
        other = Reader()
        async with TaskKit("readers") as tasks:
            task = tasks.spawn("other", other.follow(client, ["*"]))
            await until(lambda: bool(other.resumed), lambda: "no stream", 10)
            method = client._channel.unary_stream("/marketfeed.v1.MarketData/StreamTrades", _serialize, None)
            call = method(pb.StreamTradesRequest(symbols=["*"]))
            assert (await call.read())[:1] == b"\x0a"
            await flood(tape, 4_000)
            await tape.play(0, 5, wall_s=1)
            expected = len(logged_trades(tape))
            await until(lambda: len(other.trades) == expected, lambda: (len(other.trades), expected), 20)
            error = await _end_of(call)
            task.cancel()
        assert error.code().name == "RESOURCE_EXHAUSTED"
        assert len(other.resumed) == 1
        status = await mds.get("/status")
        assert status is not None
        assert status["ready"]


async def flood(tape: Tape, records: int) -> None:
    """More than a socket holds, and more than the ring: 250 trades in each record of one symbol."""
    partition = partition_of(SYMBOL, PARTITIONS)
    count = 250
    zeros = np.zeros(count, np.uint32)
    for number in range(records):
        ts = np.full(count, T0_S * NANOS + number * 1_000_000)
        columns = TradeColumns((SYMBOL,), zeros, ts, np.full(count, 50.0), np.ones(count), (None,), zeros)
        tape.send(partition, TradesRecord(EPOCH, tape._seq[partition], int(ts[0]), columns))
        tape._seq[partition] += count
        tape._producer.poll()
        if number % 40 == 0:
            await asyncio.sleep(0.05)  # 200,000 a second


def _serialize(request: pb.StreamTradesRequest) -> bytes:
    return request.SerializeToString()


async def _end_of(call: Any) -> Any:
    """The status with which a stream ends, once all that was sent is read."""
    import grpc

    async with asyncio.timeout(30):
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error
    raise AssertionError("the stream was not ended")


async def test_a_reference_price_is_fresh_or_refused(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """STALE, HALTED and FEED_GAP each refuse; a trade with a fresh watermark gives the price and its ages."""
    partition = partition_of(SYMBOL, PARTITIONS)

    def trade(price: float) -> None:
        now = time.time_ns()
        one = np.zeros(1, np.uint32)
        columns = TradeColumns((SYMBOL,), one, np.array([now]), np.array([price]), np.ones(1), (None,), one)
        tape.send(partition, TradesRecord(EPOCH, tape._seq[partition], now, columns))
        tape._seq[partition] += 1
        tape.send(partition, Watermark((EPOCH,), now))

    async def asked(max_age_ms: int = 20_000) -> str:
        try:
            return str((await client.reference_price(SYMBOL, max_age_ms)).price_nanos)
        except CallRefused as refused:
            return f"{refused.status.value} {refused.reason}"

    async def becomes(expected: str, max_age_ms: int = 20_000) -> None:
        async def met() -> bool:
            return await asked(max_age_ms) == expected

        await until(met, lambda: expected, 10)

    async with serving(common, tmp_path) as (_, client):
        with pytest.raises(CallRefused) as unknown:
            await client.reference_price("NOPE")
        assert (unknown.value.status, unknown.value.reason) == (CallStatus.NOT_FOUND, "UNKNOWN_SYMBOL")
        await becomes("FAILED_PRECONDITION NO_TRADE")
        trade(41.07)
        await becomes("41070000000")
        price = await client.reference_price(SYMBOL, 20_000)
        assert 0 <= price.last_trade_age_ms <= 10_000
        assert price.watermark_age_ms <= 10_000
        await asyncio.sleep(0.05)
        assert await asked(max_age_ms=1) == "FAILED_PRECONDITION STALE"
        now = time.time_ns()
        tape.send(partition, Gap((SYMBOL,), now - NANOS, now, "test", 0))
        await becomes("FAILED_PRECONDITION FEED_GAP")
        trade(41.5)
        await becomes("41500000000")
        tape.send(partition, Status((SYMBOL,), "halted", time.time_ns(), "news"))
        await becomes("FAILED_PRECONDITION HALTED")
        tape.send(partition, Status((SYMBOL,), "trading", time.time_ns(), ""))
        await becomes("41500000000")


def rows_of(bars: pb.Bars) -> Table:
    """What a client holds of bars, without their state: start -> (open, high, low, close, volume, trades, revision)."""
    columns = (bars.start, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.trades, bars.revision)
    return {row[0]: row[1:] for row in zip(*columns, strict=True)}


async def test_streamed_bars_end_as_the_reducer_s(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """Fast, settled, from a snapshot, and resumed in the middle: every client ends with the same bars."""
    async with service("recorder", common, tmp_path) as recorder, serving(common, tmp_path) as (_, client):
        await recorder.ready()
        held: dict[str, dict[str, Table]] = {"fast": {}, "settled": {}, "late": {}, "resumed": {}}
        open_seen: dict[str, int] = dict.fromkeys(held, 0)
        positions: list[str] = []

        async def follow(who: str, request: pb.StreamBarsRequest) -> None:
            async for message in client.live_bars(request):
                for bars in message.bars.bars:
                    held[who].setdefault(bars.symbol, {}).update(rows_of(bars))
                    open_seen[who] += list(bars.state).count(pb.Bars.STATE_OPEN)
                if who == "fast" and message.WhichOneof("message") == "heartbeat":
                    positions.append(message.heartbeat.position)
                if who == "resumed" and message.WhichOneof("message") == "acknowledged":
                    assert message.acknowledged.recovered

        async with TaskKit("clients") as tasks:
            clients = [
                tasks.spawn("fast", follow("fast", pb.StreamBarsRequest(symbols=["*"]))),
                tasks.spawn(
                    "settled",
                    follow("settled", pb.StreamBarsRequest(symbols=NAMES, emission=pb.BAR_EMISSION_SETTLED)),
                ),
            ]
            await asyncio.sleep(0.5)
            await tape.play(0, 20, wall_s=3)
            await until(lambda: len(positions) > 1, lambda: positions, 5)
            held["resumed"] = {name: dict(table) for name, table in held["fast"].items()}
            late = pb.StreamBarsRequest(symbols=NAMES, interval_ms=300, **{"from": T0_S})
            clients += [
                tasks.spawn("late", follow("late", late)),
                tasks.spawn("resumed", follow("resumed", pb.StreamBarsRequest(symbols=NAMES, position=positions[0]))),
            ]
            await tape.play(20, 40, wall_s=3)
            await tape.play(40, 44, wall_s=0.5)
            expected = {
                name: {start: (*row[:6], row[7]) for start, row in table.items()}
                for name, table in tape.tables().items()
            }
            settled = {
                name: {start: row for start, row in table.items() if start + 1 <= T0_S + 42}
                for name, table in expected.items()
            }

            def right(who: str) -> bool:
                if who != "settled":
                    return held[who] == expected
                got = {n: {s: r for s, r in t.items() if s + 1 <= T0_S + 42} for n, t in held[who].items()}
                return got == settled

            await until(lambda: all(right(who) for who in held), lambda: {who: right(who) for who in held}, 20)
            for one in clients:
                one.cancel()
        assert open_seen["settled"] == 0
        assert open_seen["fast"] > 0
        answer = await client.bars(pb.GetBarsRequest(symbol=SYMBOL, interval=pb.BAR_INTERVAL_1S, **{"from": T0_S}))
        assert rows_of(answer.bars) == expected[SYMBOL]


async def test_quotes_are_conflated_and_requests_checked(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """A snapshot first, then at most one quote a symbol and interval; senseless requests are refused by name."""
    async with serving(common, tmp_path) as (_, client):
        await tape.play(0, 2, wall_s=0.5)

        async def is_known() -> bool:
            try:
                return (await client.quote(SYMBOL)).HasField("quote")
            except CallRefused:
                return False

        await until(is_known, lambda: "no quote", 10)
        quotes: dict[str, float] = {}
        batches: list[float] = []
        statuses: dict[str, int] = {}

        async def follow() -> None:
            async for message in client.quotes([*NAMES, "NOPE"], interval_ms=240):
                match message.WhichOneof("message"):
                    case "acknowledged":
                        statuses.update(message.acknowledged.symbols)
                        assert message.acknowledged.interval_ms == 250
                    case "quotes":
                        batches.append(time.monotonic())
                        quotes.update({quote.symbol: quote.price for quote in message.quotes.quotes})

        async with TaskKit("client") as tasks:
            task = tasks.spawn("quotes", follow())
            await tape.play(2, 12, wall_s=3)
            last = {name: table[max(table)][3] for name, table in tape.tables().items()}
            await until(lambda: quotes == last, lambda: (quotes, last), 10)
            task.cancel()
        assert statuses["NOPE"] == pb.SYMBOL_STATUS_UNKNOWN_SYMBOL
        gaps = np.diff(batches[1:])
        assert len(gaps) > 3
        assert float(np.median(gaps)) >= 0.2
        answer = await client.quote(SYMBOL)
        assert answer.quote.price == last[SYMBOL]
        for symbols, position, reason in (
            ([], "", "NO_SYMBOLS"),
            (["*", "A"], "", "BAD_SYMBOLS"),
            (["*"], "x", "BAD_POSITION"),
        ):
            with pytest.raises(CallRefused) as refused:
                await anext(client.trades(symbols, position))
            assert (refused.value.status, refused.value.reason) == (CallStatus.INVALID_ARGUMENT, reason)
