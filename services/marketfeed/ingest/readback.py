"""Reads back what the log counts already, for the reconciliation of a take-over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from marketfeed.domain.errors import LogTrimmed, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import LEARN_NS, PartitionReader
from marketfeed.domain.reconciliation import READ_BACK_NS
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import SymbolTable, TradeColumns, concat, no_trades

_RETRY_S = 0.2

T = TypeVar("T")


class TradesReader(Protocol):
    """What is used of a reader of `<feed>.trades`; see `adapters.kafka.LogConsumer`."""

    positions: dict[int, int]

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        """Read from these offsets."""

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        """Records in order."""

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        """The first offset appended at or after a time, per partition."""

    async def close(self) -> None:
        """Let go."""


async def counted_trades(
    open_reader: Callable[[], TradesReader],
    markers: Mapping[int, int],
    since_ts: int,
    symbols: Collection[str],
    stamp_from_ts: int,
) -> TradeColumns:
    """The trades of `symbols` stamped at or after `stamp_from_ts` that count between `since_ts` and the markers.

    markers   partition -> offset of our take-over, up to which is read
    since_ts  our clock (Unix ns) when the buffer began; 60 s of the log before it are read as well, and 60 s more from
              which the owners are learned

    Waits for Kafka as long as it takes; the caller cancels it.
    """
    reader = open_reader()
    try:
        begin = await _patiently(lambda: reader.offsets_for_time(since_ts - READ_BACK_NS - LEARN_NS))
        wanted = {p: begin.get(p, 0) for p, marker in markers.items() if begin.get(p, 0) < marker}
        if not wanted:
            return no_trades()
        await _patiently(lambda: reader.assign(wanted))
        back = _ReadBack(sorted(symbols), stamp_from_ts, {p: markers[p] for p in wanted})
        while not back.done(reader.positions):
            await back.step(reader)
        return concat(back.found) if back.found else no_trades()
    finally:
        await reader.close()


class _ReadBack:
    """One pass over the partitions up to their markers."""

    def __init__(self, symbols: Sequence[str], stamp_from_ts: int, markers: dict[int, int]) -> None:
        self._names = tuple(symbols)
        # Ours come first in the table, so an id says by itself whether a symbol is ours.
        self._table = SymbolTable(self._names)
        self._stamp_from_ts = stamp_from_ts
        self._markers = markers
        self._tape = {partition: PartitionReader(partition, self._table) for partition in markers}
        self.found: list[TradeColumns] = []

    def done(self, positions: Mapping[int, int]) -> bool:
        """Whether every partition has been read up to its marker."""
        return all(positions[partition] >= marker for partition, marker in self._markers.items())

    async def step(self, reader: TradesReader) -> None:
        """Read some records."""
        try:
            records = await reader.poll(2000, 1.0, 0.005)
        except LogTrimmed as trimmed:
            positions = {**reader.positions, trimmed.partition: trimmed.first}
            self._tape[trimmed.partition].restart(trimmed.first)
            await _patiently(lambda: reader.assign(positions))
            return
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
            return
        for partition in {record.partition for record in records}:
            marker = self._markers[partition]
            mine = [record for record in records if record.partition == partition and record.offset < marker]
            for event in self._tape[partition].read(mine):
                if isinstance(event, TapeTrades):
                    self._keep(event)

    def _keep(self, event: TapeTrades) -> None:
        mask = (event.symbol_id < len(self._names)) & (event.event_ts >= self._stamp_from_ts)
        if mask.any():
            self.found.append(
                TradeColumns(
                    self._names,
                    event.symbol_id[mask].astype(np.uint32),
                    event.event_ts[mask],
                    event.price[mask],
                    event.size[mask],
                    event.condition_sets,
                    event.condition_index[mask],
                ).take(np.ones(int(mask.sum()), np.bool_))
            )


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, tried again while Kafka is away."""
    while True:
        try:
            return await attempt()
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
