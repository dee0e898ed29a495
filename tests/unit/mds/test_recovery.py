"""Resuming: a position is reached in the ring, or by reading the log again, or not at all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.unit.mds.conftest import TOPIC, Log, Market

from marketfeed.domain.errors import LogTrimmed, MalformedRecord, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import EpochRow, OwnerRow, PartitionReader
from marketfeed.domain.position import Position
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import SymbolTable
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import Beginning, LiveState, nothing_known
from marketfeed.mds.recovery import Recovery


@dataclass
class MemoryOwners:
    """Rows as the recorder writes them: one set after every record of the log."""

    log: Log
    away: bool = False

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
        if self.away:
            raise Unavailable("PostgreSQL", "memory", "away")
        reader = PartitionReader(0, SymbolTable())
        owners: list[OwnerRow] = []
        epochs: list[EpochRow] = []
        for record in self.log.records[: start[0]]:
            reader.read([record])
            changes = reader.take_changes()
            owners += changes.owners
            epochs += [EpochRow(state, changes.next_offset) for state in changes.epochs]
        return {0: owners}, {0: epochs}


@dataclass
class MemoryReader:
    """The log again, two records at a time; what lies below `trimmed` is gone, `bad` cannot be decoded."""

    log: Log
    trimmed: int = 0
    bad: int = -1
    at: int = 0
    closed: bool = False
    malformed: deque[MalformedRecord] = field(default_factory=deque)

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        self.at = positions[0]

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        if self.at < self.trimmed:
            raise LogTrimmed("trades", 0, self.at, self.trimmed)
        found = self.log.records[self.at : self.at + 2]
        self.at += len(found)
        if any(record.offset == self.bad for record in found):
            self.malformed.append(MalformedRecord(0, self.bad, "planted"))
        return [record for record in found if record.offset != self.bad]

    async def close(self) -> None:
        self.closed = True


def fill(market: Market) -> None:
    """Twelve records: an owner, ten trades, a watermark."""
    market.log.own("AAPL")
    for number in range(10):
        market.log.trade("AAPL", number / 10, 100.0 + number)
    market.log.watermark(1.0)


def begin_at(hub: Hub, log: Log, offset: int, tape_bytes_max: int = 1 << 20) -> None:
    """A replica that knows the owners at `offset` and begins there."""
    reader = PartitionReader(0, SymbolTable())
    reader.read(log.records[:offset])
    known = nothing_known(TOPIC, {0: offset})
    beginning = Beginning(
        topic_id=TOPIC, offsets={0: offset}, partitions={0: reader.state}, symbols=known.symbols,
        seconds=known.seconds, held_from_s=0, watermarks={}, quotes=None, gaps=(),
    )  # fmt: skip
    hub.begin(LiveState(beginning, calendar("24x7"), 5, 1 << 20, 300.0, tape_bytes_max))
    hub.apply(log.records[offset:])


def recovery(market: Market, read_again: Callable[[], MemoryReader] | None = None) -> Recovery:
    owners = MemoryOwners(market.log)
    return Recovery(market.hub, owners, "demo", read_again or (lambda: MemoryReader(market.log)))


def prices(hub: Hub, offset: int) -> list[float]:
    found = hub.state.tape.read(0, offset, 1000)
    assert found is not None
    return [p for event in found.events if isinstance(event, TapeTrades) for p in event.price.tolist()]


async def test_a_position_in_the_ring_is_reached_at_once(market: Market) -> None:
    """Nothing is read for it; a position of another log is never reached."""
    fill(market)

    def never() -> MemoryReader:
        raise AssertionError("nothing has to be read again")

    assert await recovery(market, never).reach(Position(TOPIC, {0: 3}))
    assert prices(market.hub, 3) == [102.0 + n for n in range(8)]
    assert not await recovery(market, never).reach(Position("another", {0: 3}))
    assert not await recovery(market, never).reach(Position(TOPIC, {0: 3, 1: 0}))


async def test_a_replica_that_began_later_reads_the_log_again(market: Market) -> None:
    """From the owners stored at the position up to its own beginning: every trade once, in order."""
    fill(market)
    begin_at(market.hub, market.log, 8)
    assert not market.hub.state.tape.covers({0: 4})
    assert await recovery(market).reach(Position(TOPIC, {0: 4}))
    assert prices(market.hub, 4) == [103.0 + n for n in range(7)]


async def test_a_record_that_cannot_be_read_is_passed_over(market: Market) -> None:
    """The follower passes it over, too; the last one before the ring does not stop the reading."""
    fill(market)
    begin_at(market.hub, market.log, 8)
    readers: list[MemoryReader] = []

    def read_again() -> MemoryReader:
        readers.append(MemoryReader(market.log, bad=7))
        return readers[-1]

    started_s = time.monotonic()
    assert await recovery(market, read_again).reach(Position(TOPIC, {0: 4}))
    assert time.monotonic() - started_s < 5
    assert prices(market.hub, 4) == [103.0 + n for n in range(3)] + [107.0 + n for n in range(3)]
    assert readers[0].closed


async def test_what_cannot_be_had_whole_is_not_had_at_all(market: Market) -> None:
    """Trimmed log, a ring too small, PostgreSQL away: the answer is no, and the ring is what it was."""
    fill(market)
    position = Position(TOPIC, {0: 4})
    begin_at(market.hub, market.log, 8)
    assert not await recovery(market, lambda: MemoryReader(market.log, trimmed=6)).reach(position)
    away = Recovery(market.hub, MemoryOwners(market.log, away=True), "demo", lambda: MemoryReader(market.log))
    assert not await away.reach(position)
    assert market.hub.state.tape.firsts() == {0: 8}
    begin_at(market.hub, market.log, 8, tape_bytes_max=4000)
    assert not await recovery(market).reach(position)
