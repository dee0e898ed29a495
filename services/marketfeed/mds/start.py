"""Where mds begins to follow the log, in the order of preference.

1. PostgreSQL knows the feed: its checkpoint, owners, newest bars and days, all at one position.
2. It does not, and the log is whole: offset 0.
3. Neither: a minute below the end of the log. Owners are learned from that minute and nothing of it counts; what was
   before comes with each snapshot, from whichever store answers then.

PostgreSQL may be away at the start and be back later: nothing here is asked again, snapshots are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from marketfeed.domain.bars import BarColumns, combine
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.ownership import LEARN_NS, PartitionState
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import PreviousDay, quotes_of_days
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, Int64Array, SymbolTable
from marketfeed.mds.live import Beginning, nothing_known
from marketfeed.runtime.logs import Logger

# More than what owners are learned from, so that learning is over when the end of the log is reached.
LOOK_BACK_NS = LEARN_NS + 2 * NANOS


class LogEnds(Protocol):
    """The log as far as this module asks it. Raises Unavailable."""

    async def topic_id(self) -> str:
        """Which log it is."""

    async def partitions(self) -> int:
        """How many it has."""

    async def begin_offsets(self) -> dict[int, int]:
        """The first offset still there, by partition."""

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        """The first record at or after an append time, by partition."""


class StoredState(Protocol):
    """The readers' rule at the checkpoint."""

    @property
    def position(self) -> Position:
        """The checkpoint; no offsets for a feed that was never recorded."""

    @property
    def partitions(self) -> Mapping[int, PartitionState]:
        """What a reader needs to go on there."""


class StoredStart(Protocol):
    """Everything stored at one position; symbol ids are the store's."""

    @property
    def state(self) -> StoredState:
        """Checkpoint, owners, epochs."""

    @property
    def symbols(self) -> tuple[tuple[int, str], ...]:
        """(store id, name) of every symbol."""

    @property
    def seconds(self) -> BarColumns:
        """Bars from `held_from_s` on and all OPEN ones."""

    @property
    def held_from_s(self) -> int:
        """Where the window begins."""

    @property
    def days(self) -> BarColumns:
        """The newest trading day of each symbol; start_s is trade_date * 86400."""

    @property
    def previous(self) -> Mapping[int, PreviousDay]:
        """The day before, by store id."""

    @property
    def gaps(self) -> tuple[TapeGap, ...]:
        """Gaps that may touch bars that still change."""


class StartReader(Protocol):
    """Reads it. Raises Unavailable."""

    async def read_start(self, keep_s: int) -> StoredStart | None:
        """The stored start, None if PostgreSQL does not know the feed."""


@dataclass(frozen=True, slots=True)
class LogOrigins:
    """Finds a beginning; see the module's text."""

    log_ends: LogEnds
    reader: StartReader
    window_s: int
    log: Logger

    async def beginning(self) -> Beginning:
        """The state to begin with. Raises Unavailable while the log is away."""
        topic_id, partitions = await self.log_ends.topic_id(), await self.log_ends.partitions()
        begins = await self.log_ends.begin_offsets()
        stored = await self._stored(topic_id, begins)
        if stored is not None:
            self.log.info("beginning at the store's checkpoint", position=stored.state.position.text())
            return beginning_of(stored, partitions)
        offsets = {partition: begins.get(partition, 0) for partition in range(partitions)}
        if any(offsets.values()):
            offsets |= await self.log_ends.offsets_for_time(time.time_ns() - LOOK_BACK_NS)
            self.log.warning("no stored position: learning owners from the last minute of the log")
        else:
            self.log.info("no stored position: beginning at the log's first record")
        return nothing_known(topic_id, offsets)

    async def _stored(self, topic_id: str, begins: Mapping[int, int]) -> StoredStart | None:
        try:
            stored = await self.reader.read_start(self.window_s)
        except Unavailable as error:
            self.log.warning("beginning without PostgreSQL", reason=error.reason)
            return None
        if stored is None or not stored.state.position.offsets:
            return None
        position = stored.state.position
        if position.topic_id != topic_id:
            self.log.warning("the store knows another log", stored=position.topic_id, found=topic_id)
            return None
        if any(position.offsets.get(partition, 0) < first for partition, first in begins.items()):
            self.log.warning("the log was trimmed beyond the store's checkpoint")
            return None
        return stored


def beginning_of(stored: StoredStart, partitions: int) -> Beginning:
    """The stored start in terms of this process' own symbol ids."""
    names = [name for _, name in stored.symbols]
    symbols = SymbolTable(names)
    places = np.full(max((store_id for store_id, _ in stored.symbols), default=0) + 1, -1, np.int64)
    for here, (store_id, _) in enumerate(stored.symbols):
        places[store_id] = here
    position = stored.state.position
    days = _renamed(stored.days, places)
    marks = {
        symbol: max(row.watermark_ts, epoch.watermark_ts if (epoch := state.epochs.get(row.epoch)) else 0)
        for state in stored.state.partitions.values()
        for symbol, row in state.owners.items()
    }
    previous = {int(places[store_id]): day for store_id, day in stored.previous.items()}
    partition = [partition_of(names[i], partitions) for i in days.symbol_id.tolist()]
    return Beginning(
        topic_id=position.topic_id,
        offsets={p: position.offsets.get(p, 0) for p in range(partitions)},
        partitions=stored.state.partitions,
        symbols=symbols,
        seconds=_renamed(stored.seconds, places),
        held_from_s=stored.held_from_s,
        watermarks=marks,
        quotes=quotes_of_days(days, previous, np.array(partition, np.int64)),
        gaps=tuple(replace(gap, symbol_id=places[gap.symbol_id]) for gap in stored.gaps),
    )


def _renamed(bars: BarColumns, places: Int64Array) -> BarColumns:
    """Bars with our symbol ids, sorted by them."""
    return combine(replace(bars, symbol_id=places[bars.symbol_id]))
