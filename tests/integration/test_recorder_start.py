"""How the recorder begins: wrong settings, servers that are away, bounds of what one flush keeps."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest

from marketfeed.adapters.kafka import LogAdmin
from marketfeed.adapters.postgres import PostgresStore, StoreWriter
from marketfeed.adapters.redis import RedisCache
from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.errors import MalformedRecord
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS
from marketfeed.local.stack import Addresses
from marketfeed.recorder import app, metrics
from marketfeed.recorder.cache_session import CacheSession
from marketfeed.recorder.cache_sink import CacheSink
from marketfeed.recorder.log_tail import LogTail
from marketfeed.recorder.publisher import BarPublisher
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.recorder.store_session import QUARANTINE_PER_FLUSH, StoreSession
from marketfeed.recorder.store_sink import StoreSink
from marketfeed.runtime.health import Health

pytestmark = pytest.mark.integration

NOWHERE = RecorderSettings(
    kafka="127.0.0.1:1", redis="redis://127.0.0.1:1/0", postgres="postgresql://u@127.0.0.1:1/x", instance="test"
)


async def test_settings_are_explained() -> None:
    """A sink that does not exist is one sentence and exit code 2."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketfeed.recorder", "--sinks", "store,nowhere", stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert "--sinks" in said.decode()
    assert (app.main.__doc__ or "").splitlines()[0] in await _help()


async def _help() -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketfeed.recorder", "--help", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        said, _ = await process.communicate()
    return " ".join(said.decode().split())


@pytest.mark.parametrize("kind", [StoreSink, CacheSink])
async def test_a_sink_waits_for_servers_that_are_away(kind: type[StoreSink | CacheSink]) -> None:
    """It is not ready, says so, and ends when it is told to."""
    health, stopping = Health("recorder"), asyncio.Event()
    sink = kind(NOWHERE, calendar("24x7"), health)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(sink.run(stopping))
        while sink.status.failures < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not health.is_ready
        stopping.set()


async def test_one_flush_keeps_a_bounded_number_of_refused_records() -> None:
    """A log full of garbage does not fill the database with it; a cache without quotes lacks no close."""
    by, tail = calendar("24x7"), LogTail(NOWHERE.kafka, "none", "store")
    store, writer = PostgresStore(NOWHERE.postgres), StoreWriter(NOWHERE.postgres, "none")
    session = StoreSession(NOWHERE, by, store, writer, tail)
    session.pending.malformed += [MalformedRecord(0, n, "garbage") for n in range(QUARANTINE_PER_FLUSH + 10)]
    kept = session._quarantine(session.pending)
    assert len(kept) == QUARANTINE_PER_FLUSH
    cache = RedisCache(NOWHERE.redis, "none")
    assert not CacheSession("none", by, cache, tail, None).lacks_previous
    await tail.close()
    await cache.close()


async def test_published_bars_are_counted_when_kafka_has_them(stack: Addresses, feed: str) -> None:
    """A bar handed to a client that reaches nobody is not published."""
    at = np.arange(3)
    price = np.array([1.0, 2.0, 3.0])
    bars = reduce_trades(np.zeros(3, np.int64), at * NANOS, price, np.ones(3), at, np.zeros(3, np.int64))
    before = metrics.PUBLISHED._value.get()
    lost = BarPublisher(NOWHERE.kafka, feed, calendar("24x7"))
    lost.send(bars, ["A"], 2)
    await lost.close()
    assert metrics.PUBLISHED._value.get() == before
    await LogAdmin(stack.kafka).ensure_topics(feed, 2, 1 << 28, 3_600_000)
    publisher = BarPublisher(stack.kafka, feed, calendar("24x7"))
    publisher.send(bars, ["A"], 2)
    await publisher.settled()
    assert metrics.PUBLISHED._value.get() == before + 3
    await publisher.close()
