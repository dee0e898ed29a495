"""What several integration tests compare with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.processes import Bench

from marketfeed.adapters.kafka import LogConsumer, trades_topic
from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import COLUMNS, BarColumns
from marketfeed.domain.decimals import to_decimal
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.trades import SymbolTable

Rows = dict[tuple[str, int], tuple[Any, ...]]


def _in_full(bars: BarColumns, names: dict[int, str]) -> Rows:
    """Bars by symbol and second in every column; amounts as decimals, as scales may differ."""
    plain = [name for name in COLUMNS if name not in {"symbol_id", "volume", "notional", "price_scale", "size_scale"}]
    rows = zip(*(getattr(bars, name).tolist() for name in plain), strict=True)
    amounts = [
        (to_decimal(v, s).normalize() + 0, to_decimal(n, p + s).normalize() + 0)
        for v, n, p, s in zip(
            bars.volume, bars.notional, bars.price_scale.tolist(), bars.size_scale.tolist(), strict=True
        )
    ]
    ids = bars.symbol_id.tolist()
    return {(names[one], row[0]): (*row[1:], *amount) for one, row, amount in zip(ids, rows, amounts, strict=True)}


async def _bars_of_the_log(bootstrap: str, feed: str, partitions: int) -> Rows:
    symbols, window = SymbolTable(), BarWindow(keep_s=10**9)
    readers = {partition: PartitionReader(partition, symbols) for partition in range(partitions)}
    log = LogConsumer(bootstrap, trades_topic(feed))
    await log.assign(dict.fromkeys(readers, 0))
    ends = await log.end_offsets()
    while log.positions != ends:
        for record in await log.poll(500, 1.0):
            window.apply(readers[record.partition].read([record]))
    await log.close()
    return _in_full(window.held(), dict(enumerate(symbols.names())))


@pytest.fixture
def bars_of_the_log() -> Callable[[str, str, int], Awaitable[Rows]]:
    """(bootstrap, feed, partitions) -> the bars that one reader makes that is never interrupted, in every column."""
    return _bars_of_the_log


@pytest.fixture
def in_full() -> Callable[[BarColumns, dict[int, str]], Rows]:
    """(bars, names by id) -> every column by symbol and second."""
    return _in_full


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
        bench = Bench(tmp_path, http)
        try:
            yield bench
        finally:
            await bench.close()
