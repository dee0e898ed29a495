"""Reads back what the log counts already, for the reconciliation of a take-over.

A take-over that is foreseen (an owner falls silent, a plan gives a symbol away) is read back for beforehand: then only
the log's last records are left to be read between the markers and going live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol, TypeVar

import numpy as np

from marketfeed.domain.errors import LogTrimmed, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import LEARN_NS, OwnerRow, PartitionReader, PartitionState
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


class ReadBack:
    """The trades of some symbols that count in some partitions, from a time on; read to the end, then up to markers."""

    def __init__(
        self,
        open_reader: Callable[[], TradesReader],
        symbols: Collection[str],
        partitions: Collection[int],
        since_ts: int,
        owners: Mapping[str, int] | None = None,
    ) -> None:
        """
        since_ts  our clock (Unix ns) when the buffer began; 60 s of the log before it are read as well
        owners    symbol -> the epoch that owned it when these 60 s began; None: not known, so that 60 s more are read,
                  from which they are learned
        """
        names = tuple(sorted(symbols))
        self.symbols = frozenset(names)
        self.since_ts = since_ts
        self._open_reader = open_reader
        self._reader: TradesReader | None = None
        self._names = names
        # Ours come first in the table, so an id says by itself whether a symbol is ours.
        self._table = SymbolTable(names)
        self._owners = owners
        self._tape = {partition: PartitionReader(partition, self._table) for partition in partitions}
        self._found: list[TradeColumns] = []
        self._turn = asyncio.Lock()

    def serves(self, symbols: Collection[str], partitions: Collection[int], since_ts: int) -> bool:
        """Whether it holds all that such a take-over has to know."""
        return self.symbols >= set(symbols) and self._tape.keys() >= set(partitions) and self.since_ts <= since_ts

    async def ahead(self) -> None:
        """Read on as the log grows, until cancelled, and let go. Waits for Kafka as long as it takes."""
        try:
            while True:
                async with self._turn:
                    await self._step(await self._opened())
        finally:
            await self.close()

    async def up_to(self, markers: Mapping[int, int]) -> TradeColumns:
        """What counts of these partitions before the markers (partition -> offset of our take-over).

        May be called beside `ahead`, and again with later markers: what was counted after a marker, by whomever, is
        returned, too. Waits for Kafka as long as it takes; the caller cancels it.
        """
        while True:
            async with self._turn:
                reader = await self._opened()
                if all(reader.positions[partition] >= marker for partition, marker in markers.items()):
                    break
                await self._step(reader)
        return concat(self._found) if self._found else no_trades()

    async def close(self) -> None:
        """Let the reader go."""
        if self._reader is not None:
            await self._reader.close()

    async def _opened(self) -> TradesReader:
        if self._reader is None:
            reader = self._reader = self._open_reader()
            learn_ns = LEARN_NS if self._owners is None else 0
            begin = await _patiently(lambda: reader.offsets_for_time(self.since_ts - READ_BACK_NS - learn_ns))
            for partition in self._tape:
                self._tape[partition] = self._reading_from(partition, begin.get(partition, 0))
            await _patiently(lambda: reader.assign({partition: begin.get(partition, 0) for partition in self._tape}))
        return self._reader

    def _reading_from(self, partition: int, offset: int) -> PartitionReader:
        """A reader that knows the owners, or one that has to learn them. Seen records are known to none.

        So a repeat of a record from before counts once more here: more to match, of what the log does count.
        """
        if self._owners is None:
            return PartitionReader(partition, self._table)
        rows = {symbol: OwnerRow(symbol, epoch, offset, 0) for symbol, epoch in self._owners.items()}
        return PartitionReader(partition, self._table, PartitionState(offset, rows))

    async def _step(self, reader: TradesReader) -> None:
        """Read some records."""
        try:
            records = await reader.poll(2000, 0.2, 0.005)
        except LogTrimmed as trimmed:
            positions = {**reader.positions, trimmed.partition: trimmed.first}
            self._tape[trimmed.partition].restart(trimmed.first)
            await _patiently(lambda: reader.assign(positions))
            return
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
            return
        for partition in {record.partition for record in records}:
            mine = [record for record in records if record.partition == partition]
            for event in self._tape[partition].read(mine):
                if isinstance(event, TapeTrades):
                    self._keep(event)

    def _keep(self, event: TapeTrades) -> None:
        mask = event.symbol_id < len(self._names)
        if mask.any():
            self._found.append(
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
