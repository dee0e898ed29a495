"""Where mds begins, for every state the log and the store can be in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.ownership import EpochState, OwnerRow, PartitionState
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import PreviousDay
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS
from marketfeed.mds.start import LogOrigins, beginning_of
from marketfeed.runtime.logs import get_logger

T0 = 1_790_000_000


@dataclass
class Ends:
    begins: dict[int, int]

    async def topic_id(self) -> str:
        return "topic"

    async def partitions(self) -> int:
        return len(self.begins)

    async def begin_offsets(self) -> dict[int, int]:
        return self.begins

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        return {partition: offset + 100 for partition, offset in self.begins.items()}


@dataclass
class State:
    position: Position
    partitions: dict[int, PartitionState] = field(default_factory=dict)


def bars(ids: list[int], starts: list[int]) -> Any:
    n = len(ids)
    return reduce_trades(
        np.array(ids), np.array(starts) * NANOS, np.full(n, 5.0), np.ones(n), np.arange(n), np.zeros(n, np.int64)
    )


@dataclass
class Start:
    """Two symbols whose ids in the store are not their ids here."""

    state: State
    symbols: tuple[tuple[int, str], ...] = ((7, "Z"), (3, "A"))
    held_from_s: int = T0
    previous: dict[int, PreviousDay] = field(default_factory=lambda: {3: PreviousDay(20_000, 4.5, 3, 2, 1)})

    @property
    def seconds(self) -> Any:
        return bars([3, 7], [T0, T0 + 1])

    @property
    def days(self) -> Any:
        return bars([3], [20_717 * 86_400])

    @property
    def gaps(self) -> tuple[TapeGap, ...]:
        return (TapeGap(0, 1, np.array([7]), 5, 6, "restart", 0),)


@dataclass
class Reader:
    start: Start | None
    away: bool = False

    async def read_start(self, keep_s: int) -> Start | None:
        if self.away:
            raise Unavailable("PostgreSQL", "here", "away")
        return self.start


def stored(topic: str = "topic", offset: int = 50) -> Start:
    state = PartitionState(
        offset, {"Z": OwnerRow("Z", 9, 4, 11), "A": OwnerRow("A", 8, 2, 33)}, {9: EpochState(9, 5, 22)}
    )
    return Start(State(Position(topic, {0: offset}), {0: state}))


def origins(reader: Reader, begins: int = 0) -> LogOrigins:
    return LogOrigins(Ends({0: begins}), reader, 120, get_logger("test"))


async def test_the_store_s_checkpoint_comes_first() -> None:
    """With everything in this process' own ids."""
    found = await origins(Reader(stored())).beginning()
    assert (found.offsets, found.held_from_s) == ({0: 50}, T0)
    assert found.symbols.names() == ("Z", "A")
    assert found.seconds.symbol_id.tolist() == [0, 1]
    assert found.seconds.start_s.tolist() == [T0 + 1, T0]
    assert found.watermarks == {"Z": 22, "A": 33}
    assert found.gaps[0].symbol_id.tolist() == [0]
    assert found.quotes is not None
    assert (found.quotes.symbol_id.tolist(), found.quotes.previous_close.tolist()) == ([1], [4.5])


@pytest.mark.parametrize(
    ("reader", "begins", "offset"),
    [
        (Reader(None), 0, 0),
        (Reader(stored(topic="older")), 0, 0),
        (Reader(Start(State(Position("", {})))), 0, 0),
        (Reader(None, away=True), 0, 0),
        (Reader(None, away=True), 30, 130),
        (Reader(stored(offset=20)), 30, 130),
    ],
)
async def test_otherwise_the_first_record_or_the_last_minute(reader: Reader, begins: int, offset: int) -> None:
    """A whole log from its beginning, a trimmed one from a minute below its end."""
    found = await origins(reader, begins).beginning()
    assert (found.topic_id, found.offsets, found.held_from_s) == ("topic", {0: offset}, None)


def test_a_feed_without_bars_can_begin() -> None:
    """Empty tables are no special case."""

    class Empty(Start):
        symbols = ()

        @property
        def seconds(self) -> Any:
            return bars([3], [T0]).take(slice(0, 0))

        days = seconds
        gaps = ()

    found = beginning_of(Empty(State(Position("topic", {0: 3}), {})), 1)
    assert (len(found.seconds), found.offsets) == (0, {0: 3})
