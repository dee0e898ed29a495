"""Reads what is compared: the manifest, the log, the store and the cache, all up to one position of the log.

The position is the store's checkpoint once both sinks have passed the log's end as it was at the start. What is
stored after it is only the closing of bars by watermarks, for trades have stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from marketfeed.adapters.kafka import LogConsumer
from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.redis import RedisCache
from marketfeed.client.http import HttpClient
from marketfeed.domain.bars import BarColumns, stack
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.manifest import Manifest
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.trades import BoolArray, SymbolTable
from marketfeed.verify.tape import Rebuilt
from marketfeed.wire.manifest import decode_manifest

_LOOK_S = 0.1
_RECORDS_A_POLL = 2_000
_MANIFEST_TIMEOUT_S = 120.0
_SYMBOLS_A_TIME = 500
_HOUR_S = 3600


async def read_manifest(place: str) -> Manifest:
    """The manifest at a URL or in a file. Raises SettingError or Unavailable."""
    if place.startswith(("http://", "https://")):
        async with HttpClient(_MANIFEST_TIMEOUT_S) as http:
            text = await http.request("GET", place)
    else:
        try:
            text = await asyncio.to_thread(Path(place).read_bytes)
        except OSError as error:
            raise SettingError("--manifest", f"{place} cannot be read ({error.strerror})") from error
    try:
        return await asyncio.to_thread(decode_manifest, text)
    except ValueError as error:
        raise SettingError("--manifest", f"{place}: {error}") from error


async def wait_for(
    what: str, end: Position, position: Callable[[], Awaitable[Position | None]], wait_s: float
) -> Position:
    """The position of a sink when it has passed `end`. Raises Unavailable if it has not after `wait_s`."""
    deadline_s = time.monotonic() + wait_s
    while True:
        found = await position()
        if found is not None and found.covers(end):
            return found
        if time.monotonic() > deadline_s:
            reached = "nothing" if found is None else found.text()
            raise Unavailable(what, end.text(), f"it has reached only {reached} after {wait_s:g} s")
        await asyncio.sleep(_LOOK_S)


async def read_log(
    consumer: LogConsumer, rebuilt: Rebuilt, end: Position, begin: dict[int, int], wait_s: float
) -> None:
    """Feed the log from its beginning up to `end`. Raises Unavailable if it stops coming."""
    await consumer.assign({partition: begin.get(partition, 0) for partition in end.offsets}, end.topic_id)
    progress_s = time.monotonic()
    while not rebuilt.complete:
        records = await consumer.poll(_RECORDS_A_POLL, 0.5, 0.02)
        malformed = [consumer.malformed.popleft() for _ in range(len(consumer.malformed))]
        for record in malformed:
            rebuilt.pass_malformed(record.partition, record.offset)
        rebuilt.read(records)
        if records or malformed:
            progress_s = time.monotonic()
        elif time.monotonic() - progress_s > wait_s:
            raise Unavailable("the log", end.text(), f"no record for {wait_s:g} s, and the end is not reached")


async def read_bars(store: PostgresStore, feed: str, symbols: SymbolTable, from_s: int, to_s: int) -> BarColumns:
    """The store's 1 s bars, symbol ids those of `symbols`, sorted."""
    names = {row.symbol_id: row.symbol for row in await store.symbols(feed)}
    stored = (await store.read_all_bars(feed, 1, from_s, to_s)).bars
    ids = np.zeros(max(names, default=0) + 1, np.int64)
    for stored_id, name in names.items():
        ids[stored_id] = symbols.id(name)
    columns = {name: getattr(stored, name) for name in BarColumns.__slots__}
    columns["symbol_id"] = ids[stored.symbol_id]
    bars = BarColumns(**columns)
    return bars.take(np.lexsort((bars.start_s, bars.symbol_id)))


def unchanged_since(bars: BarColumns, position: Position, partition_of: Callable[[int], int]) -> BoolArray:
    """Which bars last changed before a position."""
    limits = {int(one): position.offsets.get(partition_of(int(one)), 0) for one in np.unique(bars.symbol_id)}
    return bars.changed_offset < np.array([limits[one] for one in bars.symbol_id.tolist()], np.int64)


async def read_cells(cache: RedisCache, names: Sequence[str], symbols: SymbolTable, from_s: int, to_s: int) -> Cells:
    """The cache's closes of [from_s, to_s), symbol ids those of `symbols`, sorted."""
    parts = []
    for name in sorted(names, key=symbols.id):
        _, cells = await cache.read_seconds(name, from_s, to_s)
        parts.append((np.full(len(cells), symbols.id(name), np.int64), cells.second, cells.close, cells.event_ts))
    if not parts:
        none = np.empty(0, np.int64)
        return Cells(none, none, np.empty(0), none)
    return Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))


async def read_quotes(cache: RedisCache, symbols: SymbolTable) -> dict[int, tuple[float, int]]:
    """Symbol id -> last price and its stamp, of all symbols with a quote in the cache."""
    names = await cache.symbols()
    found: dict[int, tuple[float, int]] = {}
    for begin in range(0, len(names), _SYMBOLS_A_TIME):
        for name, quote in (await cache.read_quotes(names[begin : begin + _SYMBOLS_A_TIME])).items():
            # A quote that lacks a field equals nothing, and so is reported.
            found[symbols.id(name)] = float(quote.get("price", "nan")), int(quote.get("event_ts", "0"))
    return found


def span_of(bars: BarColumns, others: BarColumns) -> tuple[int, int]:
    """The whole hours [from_s, to_s) around all these bars."""
    starts = stack((bars, others)).start_s
    if not len(starts):
        return 0, 0
    return int(starts.min()) // _HOUR_S * _HOUR_S, (int(starts.max()) // _HOUR_S + 1) * _HOUR_S
