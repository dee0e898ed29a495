"""From a client's position to the ring: whoever was elsewhere for a while goes on where it was, or is told it cannot.

A position is good if the ring holds everything after it. If it lies before the ring (this replica began later, or the
ring is small), the log is read again from the stored owners at that position (`ownership.state_at`) up to the ring,
once for all who come at that time, and put before what is held. What is too much for the ring, no longer in the log, of
another log, or of an unknown time, cannot be recovered; there is no part of a recovery.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from marketfeed.domain.errors import LogReplaced, LogTrimmed, MalformedRecord, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import EpochRow, OwnerRow, PartitionReader, state_at
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeEvent, TapeTrades
from marketfeed.domain.tape_ring import BYTES_PER_EVENT, BYTES_PER_TRADE
from marketfeed.mds import metrics
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState

# Positions of another replica may be ahead of this one by so much.
REACH_S = 5.0
# Reading back is over after this time, or has failed.
READ_BACK_S = 15.0
# Of the ring's bytes, what reading back may fill: the rest is for what happens meanwhile.
SHARE = 0.5
_POLL_RECORDS = 256


class OwnerRows(Protocol):
    """PostgreSQL. Raises Unavailable."""

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
        """By partition the newest rows at or below the offset that `start` names."""


class LogAgain(Protocol):
    """A reader of the log beside the one that follows it. Raises LogReplaced, LogTrimmed, Unavailable."""

    malformed: deque[MalformedRecord]

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        """Read from these offsets."""

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        """The next records."""

    async def close(self) -> None:
        """Let go."""


class Recovery:
    """Decides for every resume whether all of it is there. `read_again` makes a second reader of the log."""

    def __init__(self, hub: Hub, owners: OwnerRows, feed: str, read_again: Callable[[], LogAgain]) -> None:
        self._hub = hub
        self._owners = owners
        self._feed = feed
        self._read_again = read_again
        self._one_at_a_time = asyncio.Lock()

    async def reach(self, position: Position) -> bool:
        """Whether the ring holds everything since `position`, after waiting and reading back as needed.

        Raises Unavailable when the log is replaced meanwhile.
        """
        recovered = await self._reach(position)
        metrics.RESUMES.labels("recovered" if recovered else "lost").inc()
        return recovered

    async def _reach(self, position: Position) -> bool:
        state = self._hub.state
        if position.topic_id != state.topic_id or position.offsets.keys() != state.readers.keys():
            return False
        for partition, offset in position.offsets.items():
            if not await self._hub.reached(partition, offset, REACH_S):
                return False
        if state.tape.covers(position.offsets):
            return True
        async with self._one_at_a_time:
            if self._hub.state is state and not state.tape.covers(position.offsets):
                await self._read_back(state, position)
        return self._hub.state is state and state.tape.covers(position.offsets)

    async def _read_back(self, state: LiveState, position: Position) -> None:
        """Put before the ring what it lacks of `position`; leaves it as it is when that cannot be done."""
        until = {p: state.tape.first(p) for p, offset in position.offsets.items() if offset < state.tape.first(p)}
        started_s = time.monotonic()
        again = self._read_again()
        try:
            async with asyncio.timeout(READ_BACK_S):
                readers = await self._readers(state, {p: position.offsets[p] for p in until})
                if readers is None:
                    return
                begin = {partition: reader.next_offset for partition, reader in readers.items()}
                await again.assign(begin, state.topic_id)
                found = await self._read(again, readers, until, int(state.tape.bytes_max * SHARE))
        except (Unavailable, LogReplaced, LogTrimmed, TimeoutError):
            return
        finally:
            await again.close()
        if found is not None and self._hub.state is state:
            for partition, events in found.items():
                first, end = begin[partition], until[partition]
                state.tape.put_before(partition, events, first, end, time.monotonic())
            metrics.READ_BACK_S.observe(time.monotonic() - started_s)

    async def _readers(self, state: LiveState, offsets: Mapping[int, int]) -> dict[int, PartitionReader] | None:
        """A reader that knows the owners at or before each offset; None if nobody knows them any more."""
        owners, epochs = await self._owners.read_owners(self._feed, offsets)
        readers: dict[int, PartitionReader] = {}
        for partition, offset in offsets.items():
            known = state_at(offset, owners.get(partition, ()), epochs.get(partition, ()))
            if known is None and offset > 0:
                return None
            readers[partition] = PartitionReader(partition, state.symbols, known)
        return readers

    async def _read(
        self, again: LogAgain, readers: Mapping[int, PartitionReader], until: Mapping[int, int], bytes_max: int
    ) -> dict[int, list[TapeEvent]] | None:
        """The events of each partition up to its end; None if they are more than may be held."""
        found: dict[int, list[TapeEvent]] = {partition: [] for partition in readers}
        held = 0
        while any(readers[partition].next_offset < end for partition, end in until.items()):
            for partition, records in _by_partition(await again.poll(_POLL_RECORDS, 0.25), until).items():
                events = readers[partition].read(records)
                found[partition] += events
                held += sum(_bytes_of(event) for event in events)
            while again.malformed:
                bad = again.malformed.popleft()
                readers[bad.partition].pass_malformed(bad.offset)
            if held > bytes_max:
                return None
            await asyncio.sleep(0)  # others are served between two bites
        return found


def _by_partition(records: Sequence[Logged], until: Mapping[int, int]) -> dict[int, list[Logged]]:
    """Records below each partition's end."""
    found: dict[int, list[Logged]] = {}
    for record in records:
        if record.offset < until[record.partition]:
            found.setdefault(record.partition, []).append(record)
    return found


def _bytes_of(event: TapeEvent) -> int:
    return BYTES_PER_EVENT + (BYTES_PER_TRADE * len(event) if isinstance(event, TapeTrades) else 0)
