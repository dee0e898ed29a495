"""The hot cache on a real server: one call writes all or nothing, and what is read back is what was written."""

from __future__ import annotations

import asyncio

import hiredis
import numpy as np
import pytest
from redis.asyncio import Redis

from marketfeed.adapters.redis import KEEP_S, CacheFlush, RedisCache
from marketfeed.domain.errors import SettingError, StalePosition, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.local.stack import Addresses
from marketfeed.wire.redis_cells import HOUR_S, closes_key, stamps_key

pytestmark = pytest.mark.integration

NAMES = ("AAPL", "BINANCE:BTCUSDT")
T0_S = 1_790_000_000 // HOUR_S * HOUR_S


def cells(*rows: tuple[int, int, float]) -> Cells:
    """(symbol id, second, close) as cells stamped at their second."""
    symbol_id, second, close = (np.array(column) for column in zip(*rows, strict=True))
    return Cells(symbol_id, second, close.astype(float), second * 10**9 + 1)


def flush(expected: Position | None, offset: int, of: Cells, **quotes: float) -> CacheFlush:
    return CacheFlush(
        expected, Position("log", {0: offset}), {"owners:0": "[]", "append_ts": offset}, NAMES,
        {NAMES[0]: quotes} if quotes else {}, of,
    )  # fmt: skip


async def test_a_flush_is_all_or_nothing(stack: Addresses, feed: str) -> None:
    """The expected position decides; a refused flush leaves quotes, cells and position as they were."""
    cache = RedisCache(stack.redis, feed)
    assert await cache.position() is None
    assert await cache.read_state() == {}
    first = Position("log", {0: 5})
    await cache.flush(flush(None, 5, cells((0, T0_S, 1.5), (0, T0_S + 1, 1.25)), price=1.25))
    with pytest.raises(StalePosition) as refused:
        await cache.flush(flush(Position("log", {0: 4}), 6, cells((0, T0_S, 9.0)), price=9.0))
    assert (refused.value.expected, refused.value.found) == ("log@0=4", "log@0=5")
    with pytest.raises(StalePosition):
        await cache.flush(flush(None, 6, cells((0, T0_S, 9.0)), price=9.0))
    assert await cache.position() == first
    assert await cache.read_state() == {"position": "log@0=5", "owners:0": "[]", "append_ts": "5"}
    assert await cache.read_quote("AAPL") == {"price": "1.25"}
    assert await cache.read_quote("MSFT") is None
    assert await cache.symbols() == ["AAPL"]
    position, found = await cache.read_seconds("AAPL", T0_S, T0_S + 60)
    assert position == first
    assert (found.second.tolist(), found.close.tolist()) == ([T0_S, T0_S + 1], [1.5, 1.25])
    await cache.flush(flush(first, 7, cells((0, T0_S, 2.0))))
    assert (await cache.read_seconds("AAPL", T0_S, T0_S + 1))[1].close.tolist() == [2.0]
    await cache.forget()
    assert await cache.position() is None
    await cache.close()


async def test_cells_cross_hours_and_expire(stack: Addresses, feed: str) -> None:
    """A run over the hour's end lands in two keys, each with its stamps beside it, and all of them expire."""
    cache = RedisCache(stack.redis, feed)
    end_s = T0_S + HOUR_S
    await cache.flush(flush(None, 1, cells((1, end_s - 1, 5.0), (1, end_s, 6.0), (1, end_s + 7, 7.0))))
    _, found = await cache.read_seconds(NAMES[1], end_s - 10, end_s + 10)
    assert found.second.tolist() == [end_s - 1, end_s, end_s + 7]
    assert found.close.tolist() == [5.0, 6.0, 7.0]
    assert found.event_ts.tolist() == [second * 10**9 + 1 for second in found.second.tolist()]
    assert (await cache.read_seconds(NAMES[1], end_s, end_s + 7))[1].second.tolist() == [end_s]
    single = await cache.read_cells([(1, NAMES[1], end_s + 7), (1, NAMES[1], end_s + 8), (0, "AAPL", end_s)])
    assert (single.second.tolist(), single.close.tolist()) == ([end_s + 7], [7.0])
    raw = Redis.from_url(stack.redis)
    for hour in (end_s // HOUR_S - 1, end_s // HOUR_S):
        for key in (closes_key, stamps_key):
            assert KEEP_S - 60 < await raw.ttl(key(feed, NAMES[1], hour)) <= KEEP_S
    await raw.aclose()
    await cache.write_cells(NAMES, cells((0, T0_S + 3, 8.0)))
    assert (await cache.read_seconds("AAPL", T0_S, T0_S + 9))[1].close.tolist() == [8.0]
    await cache.close()


async def test_cells_expire_after_a_flush_that_failed(stack: Addresses, feed: str) -> None:
    """Whether a server that went away obeyed is not known: the next flush sees to the expiry again."""
    cache, of = RedisCache(stack.redis, feed), cells((0, T0_S, 5.0))
    for fail in (cache.write_cells(NAMES, of), cache.flush(flush(None, 1, of))):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await fail
    await cache.flush(flush(None, 1, of))
    raw = Redis.from_url(stack.redis)
    assert await raw.ttl(closes_key(feed, NAMES[0], T0_S // HOUR_S)) > 0
    await raw.aclose()
    await cache.close()


@pytest.mark.parametrize("answer", ["MISCONF cannot save", "BUSY running a script", "NOREPLICAS too few", "READONLY"])
async def test_a_server_that_cannot_write_now_is_away(answer: str) -> None:
    """A full disk, a busy script or missing replicas pass: the cache waits, and nothing else ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = hiredis.Reader()
        while data := await reader.read(4096):
            requests.feed(data)
            while requests.gets() is not False:
                writer.write(f"-{answer}\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    cache = RedisCache(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", "f")
    try:
        with pytest.raises(Unavailable):
            await cache.ping()
    finally:
        await cache.close()
        server.close()


async def test_errors_say_what_to_do(stack: Addresses, feed: str) -> None:
    """A server that is away is Unavailable; a wrong password is a wrong setting; neither shows a secret."""
    away = RedisCache("redis://:secret@127.0.0.1:1/0", feed)
    with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:1") as told:
        await away.ping()
    assert "secret" not in str(told.value)
    await away.close()
    if "@" in stack.redis:
        wrong = RedisCache("redis://:wrong@" + stack.redis.split("@")[1], feed)
        with pytest.raises(SettingError, match="--redis"):
            await wrong.ping()
        await wrong.close()
