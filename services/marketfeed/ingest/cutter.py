"""Cuts accepted trades into records: one partition and one epoch each, numbered without a hole.

Mechanism: every symbol has a lane, a number for its (partition, epoch); one stable argsort of the lanes brings the
trades of each record together and keeps their order of arrival. Costs are numpy calls per record and per flush, nothing
per trade in Python.

Symbols without an epoch (standby, or between take-over and going live) have the lane PARKED; their trades come back
for the buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from marketfeed.domain.log import TradesRecord
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import Int64Array, SymbolTable, TradeColumns, UInt32Array

T = TypeVar("T")

PARKED = -1
# A broker takes records of 1,000,000 bytes; columns have 32 bytes a trade, the rest is the dictionaries'.
_DICTIONARY_BYTES_MAX = 500_000
# So few entries cannot reach that: a symbol or a set of conditions has less than 1,100 bytes.
_ENTRIES_UNCHECKED = 450


@dataclass(slots=True)
class _Lane:
    partition: int
    epoch: int
    next_seq: int = 0


class Cutter:
    """Who speaks for which symbol under which epoch, and the next sequence number of each (partition, epoch)."""

    def __init__(self, symbols: SymbolTable, partitions: int, record_trades_max: int = 8192) -> None:
        """`record_trades_max` bounds a record: 32 bytes a trade, well below a broker's limit of 1 MiB."""
        self._symbols = symbols
        self._partitions = partitions
        self._record_trades_max = record_trades_max
        self._lane_of: Int64Array = np.full(0, PARKED, np.int64)
        self._lanes: list[_Lane] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._owned: dict[str, int] = {}

    @property
    def owned(self) -> dict[str, int]:
        """Symbol -> epoch of all symbols that are published. Not to be changed by the caller."""
        return self._owned

    def partition(self, symbol: str) -> int:
        """The partition of a symbol."""
        return partition_of(symbol, self._partitions)

    def publish(self, symbols: Iterable[str], epoch: int) -> None:
        """From now on cut the trades of these symbols under `epoch`."""
        self._grow()
        for symbol in symbols:
            self._owned[symbol] = epoch
            self._lane_of[self._symbols.id(symbol)] = self._lane(self.partition(symbol), epoch)

    def park(self, symbols: Collection[str]) -> None:
        """From now on hand the trades of these symbols back."""
        self._grow()
        for symbol in symbols:
            self._owned.pop(symbol, None)
            self._lane_of[self._symbols.id(symbol)] = PARKED

    def epochs_by_partition(self) -> dict[int, set[int]]:
        """For each partition the epochs of the symbols that are published there."""
        found: dict[int, set[int]] = {}
        for symbol, epoch in self._owned.items():
            found.setdefault(self.partition(symbol), set()).add(epoch)
        return found

    def cut(self, trades: TradeColumns, received_ts: int) -> tuple[list[tuple[int, TradesRecord]], TradeColumns | None]:
        """([(partition, record)], the trades of parked symbols or None), each in order of arrival."""
        # By name: a batch out of which trades were taken has a dictionary of its own, in which an index is no id.
        ids = self._symbols.ids(trades.symbols)
        self._grow()
        lanes = self._lane_of[ids][trades.symbol_index]
        order = np.argsort(lanes, kind="stable")
        ordered = lanes[order]
        trades = _reordered(trades, order)
        edges = (np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()
        records: list[tuple[int, TradesRecord]] = []
        parked: TradeColumns | None = None
        starts = [0, *edges]
        for start, end in zip(starts, [*edges, len(ordered)], strict=True):
            number = int(ordered[start])
            if number == PARKED:
                parked = _slice(trades, start, end)
                continue
            for first in range(start, end, self._record_trades_max):
                part = _slice(trades, first, min(end, first + self._record_trades_max))
                records += self._records(self._lanes[number], part, received_ts)
        return records, parked

    def cut_as(self, trades: TradeColumns, epoch: int, received_ts: int) -> list[tuple[int, TradesRecord]]:
        """Records of these trades under `epoch`, whoever publishes their symbols otherwise; for reconciliation."""
        partition_of_symbol = np.array([self.partition(symbol) for symbol in trades.symbols], np.int64)
        partitions = partition_of_symbol[trades.symbol_index]
        records: list[tuple[int, TradesRecord]] = []
        for partition in np.unique(partitions).tolist():
            lane = self._lanes[self._lane(partition, epoch)]
            positions = np.flatnonzero(partitions == partition)
            for first in range(0, len(positions), self._record_trades_max):
                part = trades.take(positions[first : first + self._record_trades_max])
                records += self._records(lane, part, received_ts)
        return records

    def _records(self, lane: _Lane, part: TradeColumns, received_ts: int) -> list[tuple[int, TradesRecord]]:
        """One record, or several where dictionaries are so large that a broker would refuse it, again and again."""
        entries = len(part.symbols) + len(part.condition_sets)
        if entries > _ENTRIES_UNCHECKED and len(part) > 1 and _dictionary_bytes(part) > _DICTIONARY_BYTES_MAX:
            half = len(part) // 2
            parts = (_slice(part, 0, half), _slice(part, half, len(part)))
            return [record for one in parts for record in self._records(lane, one, received_ts)]
        return [self._record(lane, part, received_ts)]

    def _record(self, lane: _Lane, part: TradeColumns, received_ts: int) -> tuple[int, TradesRecord]:
        record = TradesRecord(lane.epoch, lane.next_seq, received_ts, part)
        lane.next_seq += len(part)
        return lane.partition, record

    def _lane(self, partition: int, epoch: int) -> int:
        number = self._numbers.get((partition, epoch))
        if number is None:
            number = self._numbers[partition, epoch] = len(self._lanes)
            self._lanes.append(_Lane(partition, epoch))
        return number

    def _grow(self) -> None:
        missing = len(self._symbols) - len(self._lane_of)
        if missing > 0:
            self._lane_of = np.concatenate([self._lane_of, np.full(missing, PARKED, np.int64)])


def _reordered(trades: TradeColumns, order: npt.NDArray[np.intp]) -> TradeColumns:
    return TradeColumns(
        trades.symbols,
        trades.symbol_index[order],
        trades.event_ts[order],
        trades.price[order],
        trades.size[order],
        trades.condition_sets,
        trades.condition_index[order],
    )


def _slice(trades: TradeColumns, start: int, end: int) -> TradeColumns:
    """A stretch of a batch with small dictionaries of its own, at a cost that hardly grows with the batch's."""
    symbols, symbol_index = _compacted(trades.symbols, trades.symbol_index[start:end])
    sets, condition_index = _compacted(trades.condition_sets, trades.condition_index[start:end])
    return TradeColumns(
        symbols,
        symbol_index,
        trades.event_ts[start:end],
        trades.price[start:end],
        trades.size[start:end],
        sets,
        condition_index,
    )


def _dictionary_bytes(trades: TradeColumns) -> int:
    """About what symbols and conditions take in a record: text, and three bytes around each."""
    codes = [code for codes in trades.condition_sets for code in codes or ()]
    texts = (*trades.symbols, *codes)
    return sum(len(text.encode()) for text in texts) + 3 * (len(texts) + len(trades.condition_sets))


def _compacted(dictionary: tuple[T, ...], index: UInt32Array) -> tuple[tuple[T, ...], UInt32Array]:
    """The entries that `index` uses and the index into them; only used entries are touched in Python."""
    used = np.flatnonzero(np.bincount(index, minlength=len(dictionary)))
    place = np.zeros(len(dictionary), np.uint32)
    place[used] = np.arange(len(used), dtype=np.uint32)
    return tuple(map(dictionary.__getitem__, used.tolist())), place[index]
