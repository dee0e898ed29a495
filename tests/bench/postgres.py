"""The store's transaction: 5,000 whole bars by COPY and upsert, their roll-ups, and a day's chart read back."""

from __future__ import annotations

import asyncio
import os
import secrets
import time

import numpy as np

from marketfeed.adapters.postgres import Advance, Buckets, PostgresStore, StoredBars, StoreWriter
from marketfeed.domain.bars import BarColumns, reduce_trades
from marketfeed.domain.sessions import calendar

NEEDS = ("MARKETFEED_POSTGRES",)
SYMBOLS = 5_000
CHART_S = 23_400  # a regular session
T0_S = 1_790_000_040


def _stored(bars: BarColumns) -> StoredBars:
    by = calendar("24x7")
    return StoredBars(bars, by.trade_dates(bars.start_s).astype(np.int64), by.sessions(bars.start_s))


def _bars(symbol_id: np.ndarray, second: np.ndarray) -> BarColumns:
    count = len(second)
    rng = np.random.default_rng(1)
    price, size = np.round(rng.uniform(1, 500, count), 2), np.round(rng.uniform(1, 100, count))
    return reduce_trades(symbol_id, second * 10**9, price, size, np.arange(count), np.zeros(count, np.int64))


async def _run() -> str:
    dsn, feed = os.environ["MARKETFEED_POSTGRES"], f"bench{secrets.token_hex(4)}"
    store, writer = PostgresStore(dsn), StoreWriter(dsn, feed)
    await store.migrate()
    await store.open()
    await writer.open()
    await writer.begin_log("bench", 1, 0)
    ids = np.array(await writer.symbol_ids([f"S{n:04}" for n in range(SYMBOLS)]))
    await writer.ensure_days("bar_1s", range(T0_S // 86_400, T0_S // 86_400 + 2))
    took, offset = [], 0
    cpu = time.process_time()
    for step in range(10):
        begun = time.perf_counter()
        async with writer.transaction("bench", [Advance(0, offset, offset + 1, 0)]) as transaction:
            await transaction.write_bars(_stored(_bars(ids, np.full(SYMBOLS, T0_S + step // 2))))
        took.append(time.perf_counter() - begun)
        offset += 1
    cpu = (time.process_time() - cpu) / 10
    buckets = Buckets(ids, np.full(SYMBOLS, T0_S), np.full(SYMBOLS, T0_S + 60), ids > 0, ids < 0)
    begun = time.perf_counter()
    async with writer.transaction("bench", [Advance(0, offset, offset, 0)]) as transaction:
        await transaction.roll_up(60, buckets)
    rolled = time.perf_counter() - begun
    async with writer.transaction("bench", [Advance(0, offset, offset, 0)]) as transaction:
        chart = _bars(np.full(CHART_S, ids[0]), T0_S + np.arange(CHART_S))
        await transaction.write_bars(_stored(chart))
    begun = time.perf_counter()
    _, found = await store.read_bars(feed, "S0000", 1, T0_S, T0_S + CHART_S)
    read = time.perf_counter() - begun
    assert len(found) == CHART_S
    await writer.close()
    await store.close()
    best = min(took)
    return (
        f"{SYMBOLS} bars a transaction in {best * 1000:.0f} ms = {SYMBOLS / best / 1000:.0f} k bars/s, client CPU"
        f" {cpu * 1000:.1f} ms; {SYMBOLS} minutes rolled in {rolled * 1000:.0f} ms;"
        f" chart of {CHART_S} seconds read in {read * 1000:.0f} ms"
    )


def run() -> str:
    """One line of figures."""
    return asyncio.run(_run())
