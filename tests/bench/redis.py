"""The cache's flush: 5,000 quotes and 10,000 cells in one Lua call, and a chart read back.

Prices move within a range that the day has seen, as they mostly do; the first flush, which sends every field, is left
out of the figures.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time

import numpy as np

from marketfeed.adapters.redis import CacheFlush, RedisCache
from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import DAY_S, QuoteBook
from marketfeed.domain.second_cells import SecondCells
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeTrades
from marketfeed.wire.redis_quotes import QuoteEncoder

NEEDS = ("MARKETFEED_REDIS",)
SYMBOLS = 5_000
T0_S = 1_790_000_040


def _trades(step: int) -> TapeTrades:
    """Every symbol trades in two neighbouring seconds."""
    count = 2 * SYMBOLS
    symbol_id = np.tile(np.arange(SYMBOLS), 2)
    second = T0_S + step + np.repeat(np.arange(2), SYMBOLS)
    span = 2.0 if step == 0 else 1.0
    price = np.round(100 + np.random.default_rng(step).uniform(-span, span, count), 2)
    price[:SYMBOLS] += 2 * (step == 0)
    price[SYMBOLS:] -= 2 * (step == 0)
    none = np.zeros(count, np.uint32)
    return TapeTrades(
        0, step, step, symbol_id, second * 10**9, price, np.full(count, 100.0), np.full(count, step), np.arange(count),
        ((),), none, 0, 0,
    )  # fmt: skip


async def _run() -> str:
    cache = RedisCache(os.environ["MARKETFEED_REDIS"], f"bench{secrets.token_hex(4)}")
    book, cells, names = QuoteBook(lambda s: s // DAY_S), SecondCells(), [f"S{n:04}" for n in range(SYMBOLS)]
    encoder = QuoteEncoder(calendar("24x7"))
    expected, took = None, []
    cpu = 0.0
    for step in range(8):
        cpu = time.process_time() if step == 1 else cpu
        trades = _trades(step)
        begun = time.perf_counter()
        columns = (trades.symbol_id, trades.event_ts, trades.price, trades.size, trades.offset, trades.index)
        bars = reduce_trades(*columns)
        quotes = encoder.encode(book.take(book.apply(trades, bars)), names)
        position = Position("bench", {0: step})
        await cache.flush(CacheFlush(expected, position, {}, names, quotes, cells.offer(bars)))
        took.append(time.perf_counter() - begun)
        expected = position
    cpu = (time.process_time() - cpu) / 7
    begun = time.perf_counter()
    await cache.read_seconds(names[0], T0_S - 23_400, T0_S + 10)
    read = time.perf_counter() - begun
    await cache.close()
    best = min(took[1:])
    return (
        f"{SYMBOLS} quotes and {2 * SYMBOLS} cells a flush in {best * 1000:.0f} ms"
        f" = {3 * SYMBOLS / best / 1000:.0f} k items/s, client CPU {cpu * 1000:.0f} ms;"
        f" chart of 6.5 h read in {read * 1000:.1f} ms"
    )


def run() -> str:
    """One line of figures."""
    return asyncio.run(_run())
