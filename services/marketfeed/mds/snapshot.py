"""The joint between history and live: what a store has, overlaid with what this process holds.

1. Read the bars and the position P that they belong to, in one transaction.
2. Wait until this process has applied the log up to P.
3. At one instant, replace and complete the stored bars by those held. What is held is at P or later, and what is not
   held is stored at or before P (`domain/follower_window.py`), so there is no hole, and replacing makes no repeat.
4. Whatever is applied after that instant goes out as live messages.

PostgreSQL away: the cache's closes take the place of 1, with their own position. Both away: memory alone. A read may be
shared by clients that ask for the same at the same time, for `SHARE_S` at most: bars leave the memory only when the
store has had them for the setting `evict_after_s`, which is longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.bar_window import CLOSE_AFTER_S
from marketfeed.domain.bars import CLOSED, DTYPES, OPEN, BarColumns, no_bars
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.follower_window import overlay
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.trades import NANOS
from marketfeed.mds import metrics
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.ports import Cache, Store

SHARE_S = 2.0
# How long a read may wait for this process to get to its position.
REACH_S = 5.0
FOR_EVER_S = 2**40
# A day and a half of seconds, more than a snapshot reaches back: what one read brings at most.
ROWS_MAX = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Bars of one symbol from outside, symbol_id of the state, and the log offset (exclusive) up to which they go.

    source store | cache | memory; `whole` is False when nobody could tell what was before this process' memory;
    `until_s` is where it ends, exclusive: earlier than asked for if there were more bars than wanted.
    """

    bars: BarColumns
    offset: int
    source: str
    whole: bool
    until_s: int = FOR_EVER_S


class Snapshots:
    """Reads history and joins it to the live state. `at_once` bounds the reads that run at a time."""

    def __init__(self, hub: Hub, store: Store, cache: Cache, feed: str, at_once: int) -> None:
        self._hub = hub
        self._store = store
        self._cache = cache
        self._feed = feed
        self._slots = asyncio.Semaphore(at_once)
        self._reading: dict[tuple[str, int, int, int], tuple[float, asyncio.Future[History]]] = {}

    async def history(self, symbol: str, from_s: int, to_s: int = FOR_EVER_S, rows_max: int = ROWS_MAX) -> History:
        """The first `rows_max` bars that start in [from_s, to_s), at a position that this process has reached.

        Raises Unavailable when the log is replaced meanwhile.
        """
        key = (symbol, from_s, to_s, rows_max)
        self._forget_old()
        shared = self._reading.get(key)
        if shared is not None:
            return await asyncio.shield(shared[1])
        future: asyncio.Future[History] = asyncio.get_running_loop().create_future()
        entry = self._reading[key] = (time.monotonic(), future)
        try:
            found = await self._read(*key)
        except BaseException as error:
            if self._reading.get(key) is entry:
                del self._reading[key]
            # Whoever shares this read tries again as if the store were away; the error itself goes to our caller.
            future.set_exception(Unavailable("history", symbol, repr(error)))
            future.exception()
            raise
        future.set_result(found)
        return found

    def _forget_old(self) -> None:
        """Reads begun too long ago to be shared; a dictionary keeps the order in which they began."""
        horizon_s = time.monotonic() - SHARE_S
        while self._reading and self._reading[oldest := next(iter(self._reading))][0] <= horizon_s:
            del self._reading[oldest]

    def join(self, symbol: str, from_s: int, history: History) -> BarColumns:
        """History overlaid with what is held now: the symbol's bars from `from_s` on as of this instant."""
        state = self._hub.state
        symbol_id = state.symbols.id(symbol)
        held = overlay(state.older_bars(symbol_id), state.window.of_symbol(symbol_id))
        held = held.take((held.start_s >= from_s) & (held.start_s < history.until_s))
        partial_until_s = state.partial_until_s.get(state.partition_of(symbol))
        if partial_until_s is None or history.source != "store":
            return state.window.finished(overlay(history.bars, held))
        partial = held.start_s < partial_until_s
        stored = overlay(held.take(partial), history.bars)
        return state.window.finished(overlay(stored, held.take(~partial)))

    def incomplete(self, symbol: str, history: History) -> bool:
        """Whether bars may be missing from a join of this history."""
        state = self._hub.state
        lost = state.window.lost_offsets.get(state.symbols.id(symbol), -1)
        return not history.whole or lost >= history.offset

    async def _read(self, symbol: str, from_s: int, to_s: int, rows_max: int) -> History:
        state = self._hub.state
        started_s = time.monotonic()
        async with self._slots:
            history = await self._from_store(state, symbol, from_s, to_s, rows_max)
        partition = state.partition_of(symbol)
        if not await self._hub.reached(partition, history.offset, REACH_S):
            metrics.SNAPSHOTS_FAILED.labels("behind").inc()
            history = replace(history, whole=False)
        if self._hub.state is not state:
            raise Unavailable("log", state.topic_id, "it was replaced")
        metrics.SNAPSHOT_S.labels(history.source).observe(time.monotonic() - started_s)
        return history

    async def _from_store(self, state: LiveState, symbol: str, from_s: int, to_s: int, rows_max: int) -> History:
        try:
            position, stored = await self._store.read_bars(self._feed, symbol, 1, from_s, to_s, rows_max)
        except Unavailable:
            return await self._from_cache(state, symbol, from_s, to_s)
        if position is None:
            return self._nothing(state, "store", to_s)
        if position.topic_id != state.topic_id:
            # The recorder has not seen the new log yet: what it stored is another log's.
            return self._nothing(state, "memory", to_s)
        bars = replace(stored.bars, symbol_id=np.full(len(stored.bars), state.symbols.id(symbol), np.int64))
        until_s = to_s if len(bars) < rows_max else int(bars.start_s[-1]) + 1
        return History(bars, _offset(state, symbol, position), "store", True, until_s)

    async def _from_cache(self, state: LiveState, symbol: str, from_s: int, to_s: int) -> History:
        try:
            newest_s = max(state.window.watermark(state.symbols.id(symbol)) // NANOS, int(time.time()))
            position, cells = await self._cache.read_seconds(symbol, from_s, max(from_s, min(to_s, newest_s + 60)))
        except Unavailable:
            metrics.SNAPSHOTS_FAILED.labels("unavailable").inc()
            return self._nothing(state, "memory", to_s)
        if position is None or position.topic_id != state.topic_id:
            return self._nothing(state, "memory", to_s)
        bars = closes_only(cells, state.symbols.id(symbol), state.window.watermark(state.symbols.id(symbol)))
        return History(bars, _offset(state, symbol, position), "cache", True, to_s)

    def _nothing(self, state: LiveState, source: str, until_s: int) -> History:
        return History(no_bars(), 0, source, state.began_whole, until_s)


def closes_only(cells: Cells, symbol_id: int, watermark_ts: int) -> BarColumns:
    """Bars of which only the close is known: a flat line without volume."""
    count = len(cells)
    zeros: Mapping[str, object] = {name: np.zeros(count, dtype) for name, dtype in DTYPES.items()}
    price = dict.fromkeys(("open", "high", "low", "close"), cells.close)
    stamps = {"open_ts": cells.event_ts, "close_ts": cells.event_ts}
    state = np.where(cells.second < watermark_ts // NANOS - CLOSE_AFTER_S, CLOSED, OPEN).astype(np.int8)
    columns = {**zeros, **price, **stamps, "start_s": cells.second, "state": state}
    columns["symbol_id"] = np.full(count, symbol_id, np.int64)
    return BarColumns(**columns)  # type: ignore[arg-type]  # every column is there with its dtype


def _offset(state: LiveState, symbol: str, position: Position) -> int:
    return position.offsets.get(state.partition_of(symbol), 0)
