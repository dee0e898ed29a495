"""The comparison against real servers that hold what a small run left there, then with one thing wrong."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from marketfeed.adapters.kafka import LogAdmin, LogProducer, trades_topic
from marketfeed.adapters.postgres import Advance, PostgresStore, StoredBars, StoreWriter
from marketfeed.adapters.redis import CacheFlush, RedisCache
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Logged, Takeover, TradesRecord
from marketfeed.domain.manifest import Manifest, ManifestSeconds
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.trades import SymbolTable, TradeColumns
from marketfeed.generator.ledger import Ledger
from marketfeed.generator.market import CONDITION_SETS, Market, MarketShape, Slice
from marketfeed.local.stack import Addresses
from marketfeed.verify.app import verify
from marketfeed.verify.comparison import last_prices
from marketfeed.verify.settings import VerifySettings
from marketfeed.verify.tape import Rebuilt
from marketfeed.wire.manifest import encode_manifest
from marketfeed.wire.records import KIND_HEADER, encode_body

SYMBOLS = 8
SLICES = 300

pytestmark = pytest.mark.integration


def columns_of(market: Market, made: Slice) -> TradeColumns:
    """A slice as ingest would decode it."""
    pages, universe = market.pages, market.universe
    at = slice(made.pattern * pages.per_slice, (made.pattern + 1) * pages.per_slice)
    symbol = pages.symbol[at]
    return TradeColumns(
        universe.symbols,
        symbol.astype(np.uint32),
        made.stamp_ms * 1_000_000,
        made.price_ticks / 10.0 ** universe.price_scale[symbol],
        pages.size_units[at] / 10.0 ** universe.size_scale[symbol],
        CONDITION_SETS,
        pages.condition[at].astype(np.uint32),
    )


class Run:
    """A run of one partition: its records, its manifest, and what a recorder would store."""

    def __init__(self) -> None:
        shape = MarketShape(seed=5, start_ms=1_767_366_000_000, symbols=SYMBOLS, rate=4000.0, late_share=0.01)
        self.market = Market(shape)
        universe = self.market.universe
        ledger = Ledger(SYMBOLS, self.market.pages, 1000)
        self.bodies: list[Takeover | TradesRecord] = [Takeover(1, universe.symbols)]
        seq = 0
        for _ in range(SLICES):
            made = self.market.next()
            ledger.add(made, None)
            trades = columns_of(self.market, made)
            self.bodies.append(TradesRecord(1, seq, 0, trades))
            seq += len(trades)
        scales = tuple(universe.price_scale.tolist()), tuple(universe.size_scale.tolist())
        self.manifest = Manifest(
            5, shape.start_ms, shape.rate, True, 0, universe.symbols, *scales, (), ledger.seconds()
        )
        self.symbols = SymbolTable(universe.symbols)
        rebuilt = Rebuilt(self.symbols, {0: len(self.bodies)})
        rebuilt.read([Logged(0, offset, 0, body) for offset, body in enumerate(self.bodies)])
        self.bars = rebuilt.bars()

    async def write_log(self, kafka: str, feed: str) -> str:
        """Append the records; the topic's id."""
        admin, topic = LogAdmin(kafka), trades_topic(feed)
        await admin.ensure_topics(feed, 1, 1 << 26, 3_600_000)
        producer = LogProducer(kafka)
        for body in self.bodies:
            kind, value = encode_body(body)
            producer.send(topic, 0, value, {KIND_HEADER: kind})
        assert await producer.flush(20.0) == 0
        await producer.close()
        return await admin.topic_id(topic)

    async def write_store(self, dsn: str, feed: str, topic_id: str, bars: BarColumns) -> None:
        """What a recorder's transaction writes."""
        store = PostgresStore(dsn)
        await store.migrate()
        writer = StoreWriter(dsn, feed)
        await writer.open()
        try:
            ids = np.array(await writer.symbol_ids(self.symbols.names()), np.int64)
            stored = replace(bars, symbol_id=ids[bars.symbol_id])
            day = bars.start_s // 86_400
            await writer.ensure_days("bar_1s", set(day.tolist()))
            await writer.begin_log(topic_id, 1, 0)
            advance = Advance(partition=0, expected=0, next_offset=len(self.bodies), append_ts=0)
            async with writer.transaction(topic_id, [advance]) as transaction:
                await transaction.write_bars(StoredBars(stored, day, np.zeros(len(day), np.int8)))
        finally:
            await writer.close()

    async def write_cache(self, url: str, feed: str, topic_id: str) -> None:
        """What a recorder's flush writes."""
        cache = RedisCache(url, feed)
        bars, names = self.bars, self.symbols.names()
        quotes = {names[i]: {"price": price, "event_ts": ts} for i, (price, ts) in last_prices(bars).items()}
        cells = Cells(bars.symbol_id, bars.start_s, bars.close, bars.close_ts)
        position = Position(topic_id, {0: len(self.bodies)})
        await cache.flush(CacheFlush(None, position, {}, names, quotes, cells))
        await cache.close()


async def settings_for(run: Run, stack: Addresses, feed: str, folder: Path) -> VerifySettings:
    path = folder / "manifest"
    path.write_bytes(b"".join(encode_manifest(run.manifest)))
    return VerifySettings(
        feed=feed, kafka=stack.kafka, redis=stack.redis, postgres=stack.postgres, manifest=str(path), wait_s=1.0
    )


async def test_equal_stores_are_equal_and_a_planted_error_is_not(stack: Addresses, feed: str, tmp_path: Path) -> None:
    """Manifest, log, PostgreSQL and Redis of one run; then another feed whose store has one wrong volume."""
    run = Run()
    topic_id = await run.write_log(stack.kafka, feed)
    settings = await settings_for(run, stack, feed, tmp_path)
    with pytest.raises(Unavailable, match="reached only nothing"):
        await verify(settings)
    await run.write_store(stack.postgres, feed, topic_id, run.bars)
    await run.write_cache(stack.redis, feed, topic_id)
    text, equal = await verify(settings)
    assert equal, text
    assert f"counted {run.manifest.rows_of_symbols().sum():,}" in text

    other = feed + "x"
    volume = run.bars.volume.copy()
    volume[3] += 1
    topic_id = await run.write_log(stack.kafka, other)
    await run.write_store(stack.postgres, other, topic_id, replace(run.bars, volume=volume))
    await run.write_cache(stack.redis, other, topic_id)
    text, equal = await verify(replace(settings, feed=other))
    assert not equal
    assert text.endswith("NOT EQUAL: log = PostgreSQL, sent = PostgreSQL\n")
    assert "volume" in text


async def test_a_generator_that_was_started_anew_is_compared_from_its_start_on(
    stack: Addresses, feed: str, tmp_path: Path
) -> None:
    """A manifest that begins in the middle of the log: all before it is double, and with `from_s` nothing is."""
    run = Run()
    topic_id = await run.write_log(stack.kafka, feed)
    await run.write_store(stack.postgres, feed, topic_id, run.bars)
    await run.write_cache(stack.redis, feed, topic_id)
    seconds = run.manifest.seconds
    begun_s = int(np.median(seconds.start_s)) + 1
    kept = {column.name: getattr(seconds, column.name)[seconds.start_s >= begun_s] for column in fields(seconds)}
    assert 0 < len(kept["start_s"]) < len(seconds)
    run.manifest = replace(run.manifest, seconds=ManifestSeconds(**kept))
    settings = await settings_for(run, stack, feed, tmp_path)
    text, equal = await verify(settings)
    assert not equal, text
    text, equal = await verify(replace(settings, from_s=begun_s))
    assert equal, text
    assert f"compared from second {begun_s} on" in text
