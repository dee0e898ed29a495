"""The recorder on real servers: what it stores is the log, whoever is killed, doubled or away in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import numpy as np
import pytest
from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import TopicPartition
from redis.asyncio import Redis as RedisClient

from marketfeed.adapters.kafka import LogAdmin, LogProducer, bars_topic, trades_topic
from marketfeed.adapters.postgres import PostgresStore, StoredBars, StoreWriter
from marketfeed.adapters.postgres.bars import upsert_bars
from marketfeed.adapters.redis import RedisCache
from marketfeed.domain.bars import BarColumns, reduce_trades
from marketfeed.domain.decimals import to_decimal
from marketfeed.domain.log import Body, Gap, Takeover, TradesRecord, Watermark
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.rollup import INTERVALS, roll_up
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, TradeColumns
from marketfeed.local.children import Children
from marketfeed.local.ports import choose
from marketfeed.local.postgres import start_postgres
from marketfeed.local.stack import Addresses
from marketfeed.local.valkey import start_valkey
from marketfeed.wire.bar_updates import decode_update
from marketfeed.wire.records import KIND_HEADER, encode_body

pytestmark = pytest.mark.integration

PARTITIONS = 4
EPOCH = 7
T0_S = 1_790_000_040  # a whole minute of a recent day

# (symbol, second) -> open, high, low, close, volume, trades; or all columns
Expected = dict[tuple[str, int], tuple[Any, ...]]
BarsOfTheLog = Callable[[str, str, int], Awaitable[Expected]]


class Writer:
    """An ingest of the plainest kind: one epoch, trades cut per partition, watermarks behind them."""

    def __init__(self, bootstrap: str, feed: str, symbols: int = 20, seed: int = 1) -> None:
        self.feed = feed
        self.names = [f"S{n:03}" for n in range(symbols)]
        self.rng = np.random.default_rng(seed)
        self.seq = dict.fromkeys(range(PARTITIONS), 0)
        self.of = np.array([partition_of(name, PARTITIONS) for name in self.names])
        self.log: list[tuple[str, int, int, float, float]] = []
        self._bootstrap = bootstrap
        self._producer = LogProducer(bootstrap)

    async def begin(self) -> None:
        """Make the topics and take over every symbol."""
        await LogAdmin(self._bootstrap).ensure_topics(self.feed, PARTITIONS, 1 << 28, 3_600_000)
        for partition in range(PARTITIONS):
            owned = tuple(n for n, p in zip(self.names, self.of, strict=True) if p == partition)
            self.send(partition, Takeover(EPOCH, owned))

    def send(self, partition: int, body: Body) -> None:
        kind, value = encode_body(body)
        self._producer.send(trades_topic(self.feed), partition, value, {KIND_HEADER: kind})

    def trade(self, from_s: float, to_s: float, count: int) -> None:
        """Trades stamped at random within [from_s, to_s) after T0, in order, one record per partition."""
        ts = np.sort(self.rng.integers(int(from_s * 1000), int(to_s * 1000), count)) * 1_000_000 + T0_S * NANOS
        symbol = self.rng.integers(0, len(self.names), count)
        price = np.round(self.rng.uniform(10, 500, count), 2)
        size = np.round(self.rng.uniform(0, 50, count), 3) * (self.rng.random(count) > 0.05)
        for row in zip(symbol.tolist(), ts.tolist(), price.tolist(), size.tolist(), strict=True):
            self.log.append((self.names[row[0]], row[1] // NANOS, row[1], row[2], row[3]))
        for partition in range(PARTITIONS):
            mine = self.of[symbol] == partition
            if mine.any():
                columns = TradeColumns(
                    tuple(self.names), symbol[mine].astype(np.uint32), ts[mine], price[mine], size[mine],
                    (("1",), None), (symbol[mine] % 2).astype(np.uint32),
                )  # fmt: skip
                self.send(partition, TradesRecord(EPOCH, self.seq[partition], int(ts[mine].max()), columns))
                self.seq[partition] += int(mine.sum())

    def watermark(self, at_s: float) -> None:
        """Every partition's event time has reached `at_s` after T0."""
        for partition in range(PARTITIONS):
            self.send(partition, Watermark((EPOCH,), int((T0_S + at_s) * NANOS)))

    def gap(self, from_s: float, to_s: float) -> None:
        """Trades of every symbol stamped in this span may be missing."""
        for partition in range(PARTITIONS):
            owned = tuple(n for n, p in zip(self.names, self.of, strict=True) if p == partition)
            self.send(partition, Gap(owned, int((T0_S + from_s) * NANOS), int((T0_S + to_s) * NANOS), "restart"))

    def run(self, from_s: int, to_s: int, per_s: int = 200, late: bool = True) -> None:
        """Seconds of trading, ten records a second, some trades late by up to 30 s, watermarks half a second behind."""
        for tenth in range(from_s * 10, to_s * 10):
            now = tenth / 10
            self.trade(now, now + 0.1, per_s // 10)
            if late and tenth % 7 == 3 and now > 1:
                self.trade(max(0.0, now - 30), now, 3)
            if tenth % 5 == 4:
                self.watermark(now - 0.5)

    async def settle(self) -> None:
        """Everything sent is in the log."""
        assert await self._producer.flush(20) == 0

    async def close(self) -> None:
        await self._producer.close()

    def expected(self) -> Expected:
        """The bars of everything written, in the plainest way: in the order of event time, then of the log."""
        bars: Expected = {}
        for name, second, _, price, size in sorted(self.log, key=lambda trade: trade[2]):
            held = bars.get((name, second))
            amount, counted = Decimal(repr(size)), int(size != 0)
            if held is None:
                bars[name, second] = (price, price, price, price, amount, counted)
            else:
                o, h, low, _, volume, trades = held
                bars[name, second] = (o, max(h, price), min(low, price), price, volume + amount, trades + counted)
        return {key: (*bar[:4], bar[4].normalize() + 0, bar[5]) for key, bar in bars.items()}


def as_expected(bars: BarColumns, names: dict[int, str]) -> Expected:
    """Stored bars in the shape of `Writer.expected`."""
    return {
        (names[symbol_id], start_s): (
            float(bars.open[i]), float(bars.high[i]), float(bars.low[i]), float(bars.close[i]),
            to_decimal(bars.volume[i], int(bars.size_scale[i])).normalize() + 0, int(bars.trades[i]),
        )
        for i, (symbol_id, start_s) in enumerate(zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True))
    }  # fmt: skip


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    """Wait for a condition, or fail."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class Reader:
    """What tests ask the stores."""

    def __init__(self, stack: Addresses, feed: str) -> None:
        self.feed = feed
        self.stack = stack
        self.store = PostgresStore(stack.postgres)
        self.cache = RedisCache(stack.redis, feed)

    async def stored_all(self) -> bool:
        """Whether the store's checkpoint is at the log's end."""
        ends = await LogAdmin(self.stack.kafka).end_offsets(trades_topic(self.feed))
        position = await self.store.read_checkpoint(self.feed)
        return position is not None and dict(position.offsets) == ends

    async def cached_all(self) -> bool:
        """Whether the cache's position is at the log's end."""
        ends = await LogAdmin(self.stack.kafka).end_offsets(trades_topic(self.feed))
        position = await self.cache.position()
        return position is not None and dict(position.offsets) == ends

    async def bars(self, interval_s: int = 1) -> BarColumns:
        return (await self.store.read_all_bars(self.feed, interval_s, T0_S - 86_400, T0_S + 86_400)).bars

    async def names(self) -> dict[int, str]:
        return {row.symbol_id: row.symbol for row in await self.store.symbols(self.feed)}

    async def expected(self) -> Expected:
        return as_expected(await self.bars(), await self.names())

    async def closes(self, name: str) -> dict[int, float]:
        _, cells = await self.cache.read_seconds(name, T0_S - 3600, T0_S + 3600)
        return dict(zip(cells.second.tolist(), cells.close.tolist(), strict=True))

    async def close(self) -> None:
        await self.store.close()
        await self.cache.close()


@asynccontextmanager
async def reading(stack: Addresses, feed: str) -> AsyncIterator[Reader]:
    reader = Reader(stack, feed)
    await reader.store.migrate()
    await reader.store.open()
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def writing(stack: Addresses, feed: str) -> AsyncIterator[Writer]:
    writer = Writer(stack.kafka, feed)
    await writer.begin()
    try:
        yield writer
    finally:
        await writer.close()


@asynccontextmanager
async def recorder(stack: Addresses, feed: str, *flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A recorder as its own process; ended by SIGTERM if the test has not ended it."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MARKETFEED_")},
        "MARKETFEED_KAFKA": stack.kafka,
        "MARKETFEED_REDIS": stack.redis,
        "MARKETFEED_POSTGRES": stack.postgres,
        "MARKETFEED_FEED": feed,
    }
    quick = ("--rollup-interval-s", "0.5", "--rollup-coarse-interval-s", "1", "--log-level", "warning")
    command = (sys.executable, "-m", "marketfeed.recorder", *quick, *flags)
    process = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                await process.wait()
            assert process.returncode == 0


async def test_bars_cells_and_quotes_are_those_of_the_log(stack: Addresses, feed: str) -> None:
    """After two minutes of trades, late ones included, PostgreSQL and Redis hold exactly what was written."""
    async with writing(stack, feed) as writer, reading(stack, feed) as reader, recorder(stack, feed):
        writer.run(0, 130)
        writer.watermark(140)
        await writer.settle()
        await until(reader.stored_all)
        await until(reader.cached_all)
        expected = writer.expected()
        assert await reader.expected() == expected
        await roll_ups_are_right(reader)
        # This gap lies in a minute that has bars, and touches none of them.
        writer.gap(150, 151)
        await writer.settle()
        await until(reader.stored_all)
        gaps = await reader.store.read_gaps(feed, 0, 2**62)
        assert len(gaps) == PARTITIONS
        await roll_ups_are_right(reader, gaps)
        for name in writer.names[:5]:
            closes = {second: bar[3] for (symbol, second), bar in expected.items() if symbol == name}
            assert await reader.closes(name) == closes
        quote = await reader.cache.read_quote(writer.names[0])
        mine = [trade for trade in writer.log if trade[0] == writer.names[0]]
        assert quote is not None
        assert float(quote["price"]) == sorted(mine, key=lambda trade: trade[2])[-1][3]
        assert Decimal(quote["day_volume"]) == sum(Decimal(repr(trade[4])) for trade in mine)
        assert float(quote["day_high"]) == max(trade[3] for trade in mine)


async def roll_ups_are_right(reader: Reader, gaps: Sequence[TapeGap] = ()) -> None:
    """Minutes, hours and days are those that the domain's own roll-up makes of the stored seconds."""
    seconds = await reader.bars()
    watermarks = dict.fromkeys(np.unique(seconds.symbol_id).tolist(), (T0_S + 140) * NANOS)
    for interval in ("1m", "1h", "1d"):
        wanted = roll_up(seconds, interval, calendar("24x7"), watermarks, gaps)

        async def rolled(interval: str = interval, wanted: BarColumns = wanted) -> bool:
            found = await reader.bars(INTERVALS[interval])
            return all(np.array_equal(getattr(found, n), getattr(wanted, n)) for n in ("trades", "incomplete"))

        await until(rolled, 45)
        found = await reader.bars(INTERVALS[interval])
        for name in ("symbol_id", "start_s", "open", "high", "low", "close", "trades", "late", "state", "close_ts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=f"{interval} {name}")
        for name in ("volume", "notional", "incomplete", "first_offset", "last_offset", "changed_offset"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=f"{interval} {name}")


async def test_killed_at_any_moment_and_doubled_it_stores_the_same(
    stack: Addresses, feed: str, in_full: Callable[..., Expected], bars_of_the_log: BarsOfTheLog
) -> None:
    """Two recorders write one feed while the first is killed three times: nothing is missing, nothing counts twice."""
    async with writing(stack, feed) as writer, reading(stack, feed) as reader, recorder(stack, feed) as second:
        for part in range(3):
            async with recorder(stack, feed) as first:
                writer.run(20 * part, 20 * part + 10)
                await writer.settle()
                await asyncio.sleep(0.7 + 0.3 * part)
                first.kill()
                await first.wait()
            writer.gap(20 * part + 4, 20 * part + 11)
            writer.run(20 * part + 10, 20 * part + 20)
        writer.watermark(70)
        await writer.settle()
        await until(reader.stored_all)
        await until(reader.cached_all)
        expected = writer.expected()
        assert await reader.expected() == expected
        closes = {second: bar[3] for (symbol, second), bar in expected.items() if symbol == writer.names[3]}
        assert await reader.closes(writer.names[3]) == closes
        await until_rolled(reader, sum(bar[5] for bar in expected.values()))
        assert second.returncode is None
        assert in_full(await reader.bars(), await reader.names()) == await bars_of_the_log(
            stack.kafka, feed, PARTITIONS
        )
        assert await published(stack, feed) == expected


async def test_a_previous_close_is_written_without_waiting_for_a_trade(stack: Addresses, feed: str) -> None:
    """A symbol that traded once, after a day that only PostgreSQL knows: its hash gets the close all the same."""
    name = "S000"
    async with writing(stack, feed) as writer, reading(stack, feed) as reader:
        store = StoreWriter(stack.postgres, feed)
        await store.open()
        ids = np.array(await store.symbol_ids([name]))
        midnight_s = T0_S // 86_400 * 86_400
        day = reduce_trades(ids, np.array([(midnight_s - 9) * NANOS]), *np.array([[7.5], [1.0]]), ids * 0, ids * 0)
        before = StoredBars(day, day.start_s // 86_400, np.full(1, 2, np.int8))
        async with store.connection.transaction():
            await upsert_bars(store.connection, "bar_1d", before)
        await store.close()
        async with recorder(stack, feed, "--sinks", "cache"):
            writer.names, writer.of = [name], np.array([partition_of(name, PARTITIONS)])
            writer.trade(0, 1, 1)
            writer.watermark(1)
            await writer.settle()

            async def told() -> bool:
                writer.watermark(2)
                quote = await reader.cache.read_quote(name)
                return quote is not None and quote.get("previous_close") == "7.5"

            await until(told, 15)


async def test_what_cannot_count_is_kept_with_its_reason(stack: Addresses, feed: str) -> None:
    """Trades of final bars and unreadable records go to quarantine, raw trades are stored; a new log is told."""
    flags = ("--store-trades", "postgres")
    async with writing(stack, feed) as writer, reading(stack, feed) as reader:
        async with recorder(stack, feed, *flags):
            writer.run(0, 3, late=False)
            writer.watermark(5000)
            counted = list(writer.log)
            writer.trade(1, 2, 9)
            writer.log = counted
            writer.trade(4200, 4201, 11)
            writer._producer.send(trades_topic(feed), 0, b"\xff\xff", {KIND_HEADER: "trades"})
            writer.watermark(5001)
            await writer.settle()
            await until(reader.stored_all)
            await until(reader.cached_all)
        assert await reader.expected() == writer.expected()
        states = (await reader.bars()).state.tolist()
        assert set(states) == {2, 3}
        raw = await asyncpg.connect(stack.postgres)
        try:
            reasons = "SELECT reason, count(*) FROM quarantine WHERE feed = $1 GROUP BY 1 ORDER BY 1"
            found = [tuple(row) for row in await raw.fetch(reasons, feed)]
            assert found == [("late_after_final", 9), ("malformed", 1)]
            kept = "SELECT count(*), sum(t.size) FROM trade t JOIN log l USING (log_id) WHERE l.feed = $1"
            count, size = await raw.fetchrow(kept, feed)
            assert count == len(writer.log) + 9
            assert size >= sum(trade[4] for trade in writer.log)
        finally:
            await raw.close()
        before = await reader.store.read_checkpoint(feed)
        await LogAdmin(stack.kafka).delete_feed(feed)
        async with writing(stack, feed) as again, recorder(stack, feed, *flags):
            again.trade(5100, 5101, 50)
            again.watermark(5110)
            await again.settle()
            await until(reader.stored_all)
            await until(reader.cached_all)
            writer.log += again.log
            assert await reader.expected() == writer.expected()
            after = await reader.store.read_checkpoint(feed)
            assert before is not None
            assert after is not None
            assert before.topic_id != after.topic_id
            gaps = await reader.store.read_gaps(feed, 0, 2**62)
            assert {gap.reason for gap in gaps} == {"log_replaced"}


async def until_rolled(reader: Reader, trades: int) -> None:
    """Until every roll-up counts all trades."""
    for interval_s in (60, 3600, 86_400):

        async def whole(interval_s: int = interval_s) -> bool:
            return int((await reader.bars(interval_s)).trades.sum()) == trades

        await until(whole)


async def published(stack: Addresses, feed: str) -> Expected:
    """What <feed>.bars says in the end: of each bar the highest revision."""
    newest: dict[tuple[str, int], int] = {}
    consumer = RawConsumer({"bootstrap.servers": stack.kafka, "group.id": "t", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(bars_topic(feed), p, 0) for p in range(PARTITIONS)])
    bars: Expected = {}
    try:
        while messages := await asyncio.to_thread(consumer.consume, 5000, 2.0):
            for message in messages:
                update = decode_update(message.value() or b"")
                key = update.symbol, update.start_s
                assert message.key() == update.symbol.encode()
                assert message.partition() == partition_of(update.symbol, PARTITIONS)
                if update.revision >= newest.get(key, 0):
                    newest[key] = update.revision
                    volume = Decimal(update.volume).normalize() + 0
                    bars[key] = (update.open, update.high, update.low, update.close, volume, update.trades)
    finally:
        consumer.close()
    return bars


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another system user may enter, which pytest's own folders are closed to."""
    with TemporaryDirectory(prefix="marketfeed-") as folder:
        yield Path(folder)


async def test_each_sink_outlives_the_other_ones_server(stack: Addresses, feed: str, open_folder: Path) -> None:
    """Redis away: the store goes on. PostgreSQL killed: the cache goes on. Both catch up, and lost data is rebuilt."""
    port = choose(("postgres", "valkey"), open_folder / "ports.json")
    async with Children() as children:
        valkey = await start_valkey(children, open_folder, port, "secret")
        postgres = await start_postgres(children, open_folder, port, "secret")
        own = Addresses(
            stack.kafka,
            f"redis://:secret@127.0.0.1:{port['valkey']}/0",
            f"postgresql://postgres:secret@127.0.0.1:{port['postgres']}/postgres",
        )
        async with writing(stack, feed) as writer, recorder(own, feed):
            async with reading(own, feed) as reader:
                writer.run(0, 10)
                await writer.settle()
                await until(reader.cached_all)
                valkey.kill()
                writer.run(10, 20)
                await writer.settle()
                await until(reader.stored_all)
            postgres.kill()
            await postgres.wait()
            # Valkey comes back empty, or with what it had saved: either way the log fills it while PostgreSQL is away.
            await start_valkey(children, open_folder, port, "secret")
            cache = RedisCache(own.redis, feed)
            writer.run(20, 30)
            writer.watermark(40)
            await writer.settle()
            ends = await LogAdmin(own.kafka).end_offsets(trades_topic(feed))

            async def caught_up() -> bool:
                position = await cache.position()
                return position is not None and dict(position.offsets) == ends

            await until(caught_up)
            await cache.close()
            await start_postgres(children, open_folder, port, "secret")
            async with reading(own, feed) as reader:
                await until(reader.stored_all)
                assert await reader.expected() == writer.expected()
                await rebuilt_after_loss(reader, writer)


async def rebuilt_after_loss(reader: Reader, writer: Writer) -> None:
    """A cache whose data is lost altogether is made again from PostgreSQL, at PostgreSQL's position."""
    quote = await reader.cache.read_quote(writer.names[1])
    client = RedisClient.from_url(reader.stack.redis)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    writer.trade(30, 31, 50)
    writer.watermark(45)
    await writer.settle()
    await until(reader.cached_all)
    expected = writer.expected()
    for name in writer.names:
        closes = {second: bar[3] for (symbol, second), bar in expected.items() if symbol == name}
        assert await reader.closes(name) == closes
    again = await reader.cache.read_quote(writer.names[1])
    assert quote is not None
    assert again is not None
    assert (again["day_open"], again["trade_date"]) == (quote["day_open"], quote["trade_date"])
    mine = [trade for trade in writer.log if trade[0] == writer.names[1]]
    assert Decimal(again["day_volume"]) == sum(Decimal(repr(trade[4])) for trade in mine)
