"""The log on a real broker: topics, a writer that loses nothing, readers that never jump."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from marketfeed.adapters.kafka import LogAdmin, LogConsumer, bars_topic, control_topic, trades_topic
from marketfeed.adapters.kafka.admin import CONTROL_BYTES
from marketfeed.adapters.kafka.connection import CONNECTION
from marketfeed.adapters.kafka.consumer import MALFORMED_KEPT
from marketfeed.adapters.kafka.producer import LogProducer
from marketfeed.domain.errors import LogReplaced, LogTrimmed, SettingError, Unavailable
from marketfeed.domain.log import Body, Logged, Takeover, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import SymbolTable, TradeColumns
from marketfeed.local.stack import Addresses
from marketfeed.wire.records import KIND_HEADER, encode_body

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def admin(stack: Addresses, feed: str) -> AsyncIterator[LogAdmin]:
    """An admin on a feed of two partitions that exists."""
    admin = LogAdmin(stack.kafka)
    await admin.ensure_topics(feed, 2, 64 << 20, HOUR_MS)
    yield admin
    await admin.delete_feed(feed)


@asynccontextmanager
async def producing(bootstrap: str, **settings: int) -> AsyncIterator[LogProducer]:
    producer = LogProducer(bootstrap, **settings)  # type: ignore[arg-type]
    try:
        yield producer
    finally:
        await producer.close(0.0)


@asynccontextmanager
async def consuming(bootstrap: str, topic: str) -> AsyncIterator[LogConsumer]:
    consumer = LogConsumer(bootstrap, topic)
    try:
        yield consumer
    finally:
        await consumer.close()


def send(
    producer: LogProducer, topic: str, partition: int, body: Body, on_ack: Callable[[int], None] | None = None
) -> None:
    kind, value = encode_body(body)
    producer.send(topic, partition, value, {KIND_HEADER: kind, "feed": "f", "shard": "0/1"}, on_ack)


async def read(consumer: LogConsumer, records: int) -> list[Logged]:
    found: list[Logged] = []
    async with asyncio.timeout(20):
        while len(found) < records:
            found += await consumer.poll(timeout_s=0.2)
    return found


async def until_raises(consumer: LogConsumer, error: type[Exception]) -> Exception:
    async with asyncio.timeout(20):
        while True:
            try:
                await consumer.poll(timeout_s=0.2)
            except error as raised:
                return raised


async def test_topics_get_their_partitions_stamps_and_retention(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """Retention is divided by the partitions, a segment is an eighth of it, the broker stamps every record."""
    await admin.ensure_topics(feed, 2, 64 << 20, HOUR_MS)  # once more changes nothing
    assert [await admin.partitions(t) for t in (trades_topic(feed), control_topic(feed), bars_topic(feed))] == [2, 1, 2]
    client = AdminClient({"bootstrap.servers": stack.kafka})
    topics = [ConfigResource(ResourceType.TOPIC, name) for name in (trades_topic(feed), control_topic(feed))]
    trades, control = [await asyncio.wrap_future(f) for f in client.describe_configs(topics).values()]
    found = {
        name: trades[name].value for name in ("retention.bytes", "segment.bytes", "retention.ms", "compression.type")
    }
    assert found == {
        "retention.bytes": str(32 << 20),
        "segment.bytes": str(4 << 20),
        "retention.ms": str(HOUR_MS),
        "compression.type": "producer",
    }
    assert {config["message.timestamp.type"].value for config in (trades, control)} == {"LogAppendTime"}
    assert control["retention.bytes"].value == str(CONTROL_BYTES)


async def test_a_feed_keeps_its_number_of_partitions(feed: str, admin: LogAdmin) -> None:
    """Another number is a wrong setting, in one sentence that says what to do."""
    with pytest.raises(SettingError, match=f"{feed}.trades has 2 partitions and the setting says 3; a feed keeps"):
        await admin.ensure_topics(feed, 3, 64 << 20, HOUR_MS)


async def test_topics_that_writers_stamp_are_refused(stack: Addresses, feed: str) -> None:
    """A topic made by hand without LogAppendTime would break every rule about time."""
    admin = LogAdmin(stack.kafka)
    client = AdminClient({"bootstrap.servers": stack.kafka})
    await asyncio.wrap_future(client.create_topics([NewTopic(trades_topic(feed), 1)])[trades_topic(feed)])
    with pytest.raises(SettingError, match="LogAppendTime"):
        await admin.ensure_topics(feed, 1, 64 << 20, HOUR_MS)
    await admin.delete_feed(feed)


async def test_partitions_are_those_of_kafkas_murmur2(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """The client's own partitioner sends 200 symbols where `partition_of` says."""
    symbols = [f"SYM{i}" for i in range(100)] + [f"BINANCE:{i}ÜSDT" for i in range(100)]
    placed: dict[str, int | None] = {}

    def note(error: object, message: Message) -> None:
        assert error is None
        placed[(message.key() or b"").decode()] = message.partition()

    producer = Producer({**CONNECTION, "bootstrap.servers": stack.kafka, "partitioner": "murmur2"})
    for symbol in symbols:
        producer.produce(bars_topic(feed), b"x", key=symbol.encode(), on_delivery=note)
    assert await asyncio.to_thread(producer.flush, 20) == 0
    assert placed == {symbol: partition_of(symbol, 2) for symbol in symbols}


async def test_what_is_sent_is_read_in_order_with_the_brokers_stamp(
    stack: Addresses, feed: str, admin: LogAdmin
) -> None:
    """Offsets reach `on_ack`, headers and bodies the reader; the reader can start anywhere."""
    topic, acked = trades_topic(feed), []
    before = time.time_ns()
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        for ts in range(1, 9):
            send(producer, topic, ts % 2, Watermark((3,), ts), acked.append)
        assert producer.buffered_records == 8
        assert producer.buffered_bytes > 0
        assert await producer.flush(20) == 0
        assert (producer.buffered_records, producer.buffered_bytes, producer.unacknowledged()) == (0, 0, [])
        assert sorted(acked) == [0, 0, 1, 1, 2, 2, 3, 3]
        await consumer.assign({0: 0, 1: 2}, await admin.topic_id(topic))
        records = await read(consumer, 6)
        assert consumer.positions == {0: 4, 1: 4}
        assert await consumer.end_offsets() == {0: 4, 1: 4}
        assert await consumer.begin_offsets() == {0: 0, 1: 0}
        assert await consumer.offsets_for_time(before - 10**9) == {0: 0, 1: 0}
        assert await consumer.offsets_for_time(time.time_ns() + 10**12) == {0: 4, 1: 4}
    by_partition = {p: [r.body for r in records if r.partition == p] for p in (0, 1)}
    assert by_partition == {0: [Watermark((3,), ts) for ts in (2, 4, 6, 8)], 1: [Watermark((3,), ts) for ts in (5, 7)]}
    assert records[0].headers == {"kind": "watermark", "feed": "f", "shard": "0/1"}
    assert all(abs(record.append_ts - before) < 60 * 10**9 for record in records)


async def test_a_full_queue_delays_and_never_loses(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """The client's queue of 16 KiB takes 200 records of 1 KiB, in order."""
    topic = trades_topic(feed)
    async with producing(stack.kafka, queue_bytes_max=16 << 10) as producer, consuming(stack.kafka, topic) as consumer:
        for number in range(200):
            send(producer, topic, 0, Takeover(number, ("S" * 1000,)))
        assert producer.buffered_records == 200
        assert await producer.flush(30) == 0
        await consumer.assign({0: 0})
        assert [r.body.epoch for r in await read(consumer, 200) if isinstance(r.body, Takeover)] == list(range(200))


async def test_a_failed_producer_keeps_its_records_for_the_next(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """After an error nothing is taken any more; another producer re-sends all, unchanged and in order."""
    topic, acked = trades_topic(feed), []
    watermarks = [Watermark((0,), ts) for ts in (5, 6, 7)]
    async with producing(stack.kafka) as broken, producing(stack.kafka) as mended:
        for body in watermarks:
            send(broken, topic, 7, body, acked.append)  # there is no partition 7
        async with asyncio.timeout(20):
            while broken.failure is None:
                broken.poll()
                await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            send(broken, topic, 0, Watermark((0,), 8))
        for sent in broken.unacknowledged():
            mended.resend(replace(sent, partition=0))
        assert [sent.value for sent in mended.unacknowledged()] == [encode_body(body)[1] for body in watermarks]
        assert await mended.flush(20) == 0
    assert acked == [0, 1, 2]
    async with consuming(stack.kafka, topic) as consumer:
        await consumer.assign({0: 0})
        assert [record.body for record in await read(consumer, 3)] == watermarks


async def test_records_that_cannot_be_read_are_set_aside(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """Garbage in the log is counted with its place; what stands around it is read."""
    topic = trades_topic(feed)
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        send(producer, topic, 0, Watermark((1,), 1))
        producer.send(topic, 0, b"\xff\xff garbage", {KIND_HEADER: "trades"})
        producer.send(topic, 0, b"no kind")
        send(producer, topic, 0, Watermark((1,), 2))
        assert await producer.flush(20) == 0
        await consumer.assign({0: 0})
        assert [record.offset for record in await read(consumer, 2)] == [0, 3]
        assert [(m.partition, m.offset) for m in consumer.malformed] == [(0, 1), (0, 2)]
        assert consumer.malformed_total == 2 < MALFORMED_KEPT


async def test_a_trimmed_log_is_an_error_with_the_first_offset_left(
    stack: Addresses, feed: str, admin: LogAdmin
) -> None:
    """Reading on is the caller's decision; a position beyond the end is told alike."""
    topic = trades_topic(feed)
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        for ts in range(1, 11):
            send(producer, topic, 0, Watermark((1,), ts))
        assert await producer.flush(20) == 0
        client = AdminClient({"bootstrap.servers": stack.kafka})
        for future in client.delete_records([TopicPartition(topic, 0, 4)]).values():
            await asyncio.wrap_future(future)
        await consumer.assign({0: 2, 1: 0})
        error = await until_raises(consumer, LogTrimmed)
        assert isinstance(error, LogTrimmed)
        assert (error.partition, error.wanted, error.first) == (0, 2, 4)
        await consumer.assign({0: error.first, 1: 0})
        assert [record.offset for record in await read(consumer, 6)] == [4, 5, 6, 7, 8, 9]
        await consumer.assign({0: 99})
        error = await until_raises(consumer, LogTrimmed)
        assert isinstance(error, LogTrimmed)
        assert (error.wanted, error.first) == (99, 10)


async def test_a_log_made_anew_is_noticed_before_and_while_reading(
    stack: Addresses, feed: str, admin: LogAdmin
) -> None:
    """The topic's id is another one: positions and owners are void."""
    topic = trades_topic(feed)
    old_id = await admin.topic_id(topic)
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        for ts in range(1, 6):
            send(producer, topic, 0, Watermark((1,), ts))
        assert await producer.flush(20) == 0
        await consumer.assign({0: 0}, old_id)
        await read(consumer, 5)
        await admin.delete_feed(feed)
        with pytest.raises(Unavailable, match="does not exist"):
            await admin.topic_id(topic)
        await until_raises(consumer, Unavailable)
        await admin.ensure_topics(feed, 2, 64 << 20, HOUR_MS)
        error = await until_raises(consumer, LogReplaced)
        assert isinstance(error, LogReplaced)
        assert error.expected == old_id != error.found
        with pytest.raises(LogReplaced):
            await consumer.assign({0: 0}, old_id)


async def test_a_cancelled_poll_loses_nothing(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """What the worker fetched for a cancelled call is handed to the next."""
    topic = trades_topic(feed)
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        await consumer.assign({0: 0})
        waiting = asyncio.ensure_future(consumer.poll(timeout_s=5))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        send(producer, topic, 0, Watermark((1,), 1))
        assert await producer.flush(20) == 0
        assert [record.body for record in await read(consumer, 1)] == [Watermark((1,), 1)]


async def test_without_a_broker_everything_says_so_and_nothing_is_lost() -> None:
    """Admin and consumer raise Unavailable; the producer keeps what it was given."""
    with pytest.raises(Unavailable):
        await LogAdmin(NOWHERE, timeout_s=0.5).topic_id("t.trades")
    async with producing(NOWHERE) as producer, consuming(NOWHERE, "t.trades") as consumer:
        send(producer, "t.trades", 0, Watermark((1,), 1))
        assert await producer.flush(0.2) == 1
        assert producer.failure is None
        assert [sent.headers[0] for sent in producer.unacknowledged()] == [(KIND_HEADER, "watermark")]
        await until_raises(consumer, Unavailable)


async def test_a_hundred_thousand_trades_pass_from_writer_to_tape(stack: Addresses, feed: str, admin: LogAdmin) -> None:
    """Columns in, columns out, through the broker and the readers' rule."""
    topic, symbols = trades_topic(feed), tuple(f"SYM{i}" for i in range(50))
    rng = np.random.default_rng(7)
    async with producing(stack.kafka) as producer, consuming(stack.kafka, topic) as consumer:
        send(producer, topic, 0, Takeover(0, symbols))
        for number in range(200):
            index = rng.integers(0, 50, 500).astype(np.uint32)
            stamps = np.arange(1, 501) + number * 500
            columns = TradeColumns(symbols, index, stamps, stamps / 4, np.ones(500), (None,), np.zeros(500, np.uint32))
            send(producer, topic, 0, TradesRecord(0, number * 500, 1, columns))
        assert await producer.flush(20) == 0
        await consumer.assign({0: 0})
        reader = PartitionReader(0, SymbolTable())
        tape = [event for event in reader.read(await read(consumer, 201)) if isinstance(event, TapeTrades)]
    assert reader.counted == 100_000
    assert np.array_equal(np.concatenate([event.event_ts for event in tape]), np.arange(1, 100_001))
