"""Rebuilds from the log what the stores should hold: bars by the one reducer, rows per second, gaps. Pure.

`Rebuilt` is fed with records in offset order, per partition, and applies the readers' rule as every reader does. It
keeps all bars in memory (about 500 bytes each) and forgets none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeTrades
from marketfeed.domain.trades import NANOS, Int64Array, SymbolTable
from marketfeed.verify.comparison import keys_of

# Partial counts are joined when there are this many, so that memory follows the number of cells.
_PARTS_MAX = 256


class Rebuilt:
    """The log of a feed up to a position."""

    def __init__(self, symbols: SymbolTable, until: Mapping[int, int]) -> None:
        """`until`: the first offset of each partition that is not to be read."""
        self.symbols = symbols
        self.gaps: list[TapeGap] = []
        self.refused_final = 0
        self._until = dict(until)
        self._window = BarWindow()
        self._readers = {partition: PartitionReader(partition, symbols) for partition in until}
        self._keys: list[Int64Array] = []
        self._rows: list[Int64Array] = []

    @property
    def complete(self) -> bool:
        """Whether all partitions were read to the end."""
        return all(reader.next_offset >= self._until[p] for p, reader in self._readers.items())

    @property
    def learning(self) -> tuple[int, ...]:
        """Partitions of which the beginning is gone and the owners are not known yet."""
        return tuple(partition for partition, reader in self._readers.items() if reader.learning)

    def read(self, records: Sequence[Logged]) -> None:
        """Take in records; those of other partitions or beyond the end are left out."""
        by_partition: defaultdict[int, list[Logged]] = defaultdict(list)
        for record in records:
            if record.offset < self._until.get(record.partition, 0):
                by_partition[record.partition].append(record)
        events: list[TapeEvent] = []
        for partition, chosen in by_partition.items():
            events += self._readers[partition].read(chosen)
        self._count(events)
        self.refused_final += len(self._window.apply(events).late_after_final)
        self.gaps += [event for event in events if isinstance(event, TapeGap)]

    def pass_malformed(self, partition: int, offset: int) -> None:
        """A record that cannot be decoded."""
        if partition in self._readers:
            self._readers[partition].pass_malformed(offset)

    def counts(self) -> dict[str, int]:
        """What the readers' rule decided, summed over partitions."""
        names = ("counted", "ignored_foreign", "ignored_repeat", "ignored_learning", "malformed")
        return {name: sum(getattr(reader, name) for reader in self._readers.values()) for name in names}

    def bars(self) -> BarColumns:
        """All bars as of the position, sorted."""
        return self._window.held()

    def rows(self, bars: BarColumns) -> Int64Array:
        """Trades and price updates in each of these bars."""
        self._join()
        counted = np.zeros(len(bars), np.int64)
        if self._keys:
            keys, rows = self._keys[0], self._rows[0]
            places = np.searchsorted(keys, keys_of(bars.symbol_id, bars.start_s))
            counted = rows[np.minimum(places, len(rows) - 1)]
        return counted

    def _count(self, events: Sequence[TapeEvent]) -> None:
        for event in events:
            if isinstance(event, TapeTrades):
                keys, rows = np.unique(keys_of(event.symbol_id, event.event_ts // NANOS), return_counts=True)
                self._keys.append(keys)
                self._rows.append(rows)
        if len(self._keys) > _PARTS_MAX:
            self._join()

    def _join(self) -> None:
        if len(self._keys) > 1:
            keys, places = np.unique(np.concatenate(self._keys), return_inverse=True)
            rows = np.zeros(len(keys), np.int64)
            np.add.at(rows, places, np.concatenate(self._rows))
            self._keys, self._rows = [keys], [rows]
