"""The newest tape of a log, held in memory so that readers at different places can go on from where they are.

Per partition it holds the events of a whole range of offsets, [first, next), in their order; readers bring the offset
they want and get what follows, so a slow reader costs nothing but its offset. What does not fit is let go from the old
end. A reader whose offset is below `first` has lost its place: it must be told so, never given the rest.

Rules
- The range of a partition has no hole: `add` continues at `next`, `put_before` ends at `first`.
- The bound in bytes holds for all partitions together; the oldest events go first. Time bounds it, too: what is older
  than the window goes, so that memory follows the feed's rate.
- Marks of owners are not kept: they tell a reader of the tape nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from marketfeed.domain.tape import TapeEvent, TapeGap, TapeOwner, TapeStatus, TapeTrades, TapeWatermark

RingEvent = TapeTrades | TapeWatermark | TapeGap | TapeStatus

# int64 and float64 columns of a trade, its condition's place, and Python's objects around a mark.
BYTES_PER_TRADE = 6 * 8 + 4
BYTES_PER_EVENT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class TapeSlice:
    """Everything that happened in a partition from an offset up to `next_offset`, where the next slice begins."""

    partition: int
    events: tuple[RingEvent, ...]
    next_offset: int


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    event: RingEvent
    end: int  # the offset after its last record
    size: int
    at_s: float


@dataclass(slots=True)
class _Partition:
    """`ends` are those of `entries`, for a look-up by offset; `head` entries at the front are let go of already."""

    first: int
    next: int
    entries: list[_Entry] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    head: int = 0

    def compact(self) -> None:
        """Really drop what was let go of, once it is half of the list: a constant cost per entry."""
        if self.head * 2 > len(self.entries):
            del self.entries[: self.head], self.ends[: self.head]
            self.head = 0


class TapeRing:
    """Events of the log from `offsets` (by partition) on. `window_s` and `bytes_max` bound what is held."""

    def __init__(self, offsets: Mapping[int, int], window_s: float, bytes_max: int) -> None:
        self._window_s = window_s
        self._bytes_max = bytes_max
        self._partitions = {partition: _Partition(offset, offset) for partition, offset in offsets.items()}
        self.bytes = 0

    @property
    def bytes_max(self) -> int:
        """The bound."""
        return self._bytes_max

    def first(self, partition: int) -> int:
        """The first offset from which everything is held."""
        return self._partitions[partition].first

    def next(self, partition: int) -> int:
        """The offset after the last one held."""
        return self._partitions[partition].next

    def firsts(self) -> dict[int, int]:
        """`first` of every partition."""
        return {partition: held.first for partition, held in self._partitions.items()}

    def nexts(self) -> dict[int, int]:
        """`next` of every partition."""
        return {partition: held.next for partition, held in self._partitions.items()}

    def covers(self, offsets: Mapping[int, int]) -> bool:
        """Whether a reader at these offsets, of every partition, misses nothing; one from the future does not count."""
        return offsets.keys() == self._partitions.keys() and all(
            held.first <= offsets[partition] <= held.next for partition, held in self._partitions.items()
        )

    def add(self, partition: int, events: Sequence[TapeEvent], next_offset: int, now_s: float) -> None:
        """The events of the records from `next` up to `next_offset`."""
        held = self._partitions[partition]
        for event in events:
            if not isinstance(event, TapeOwner):
                self._append(held, event, now_s)
        held.next = next_offset
        self._bound(now_s)

    def forget(self, partition: int, next_offset: int) -> None:
        """Nothing before `next_offset` can be held: records were lost, or are not to be trusted."""
        held = self._partitions[partition]
        self.bytes -= sum(entry.size for entry in held.entries[held.head :])
        self._partitions[partition] = _Partition(next_offset, next_offset)

    def put_before(
        self, partition: int, events: Sequence[TapeEvent], first_offset: int, until_offset: int, now_s: float
    ) -> bool:
        """The events of the records from `first_offset` up to `until_offset`, as they were read again later.

        Refused, with False, if what is held begins elsewhere by now. They count as new, or the window would let them
        go before anybody had them.
        """
        held = self._partitions[partition]
        if held.first != until_offset:
            return False
        older = _Partition(first_offset, until_offset)
        for event in events:
            if not isinstance(event, TapeOwner):
                self._append(older, event, now_s)
        held.entries[: held.head] = older.entries
        held.ends[: held.head] = older.ends
        held.head, held.first = 0, first_offset
        self._bound(now_s)
        return True

    def read(self, partition: int, offset: int, trades_max: int) -> TapeSlice | None:
        """What follows `offset`, about `trades_max` trades of it; None if that is no longer held whole.

        A slice ends where a record ends, so its `next_offset` is a place to come back to.
        """
        held = self._partitions[partition]
        if not held.first <= offset <= held.next:
            return None
        events: list[RingEvent] = []
        room = trades_max
        for place in range(bisect_right(held.ends, offset, lo=held.head), len(held.entries)):
            event = _after(held.entries[place].event, offset)
            if isinstance(event, TapeTrades):
                count = _whole_records(event, room, at_least_one=room == trades_max)
                if count < len(event):
                    events += [event.take(slice(0, count))] if count else []
                    return TapeSlice(partition, tuple(events), int(event.offset[count]))
                room -= count
            events.append(event)
        return TapeSlice(partition, tuple(events), held.next)

    def _append(self, held: _Partition, event: RingEvent, now_s: float) -> None:
        if isinstance(event, TapeTrades):
            end, size = event.last_offset + 1, BYTES_PER_EVENT + BYTES_PER_TRADE * len(event)
        else:
            end, size = event.offset + 1, BYTES_PER_EVENT + 8 * len(event.symbol_id)
        held.entries.append(_Entry(event, end, size, now_s))
        held.ends.append(end)
        self.bytes += size

    def _bound(self, now_s: float) -> None:
        for held in self._partitions.values():
            while held.head < len(held.entries) and held.entries[held.head].at_s < now_s - self._window_s:
                self._let_go(held)
            held.compact()
        while self.bytes > self._bytes_max:
            waiting = [held for held in self._partitions.values() if held.head < len(held.entries)]
            self._let_go(min(waiting, key=lambda held: held.entries[held.head].at_s))

    def _let_go(self, held: _Partition) -> None:
        entry = held.entries[held.head]
        held.first = max(held.first, entry.end)
        self.bytes -= entry.size
        held.head += 1


def _after(event: RingEvent, offset: int) -> RingEvent:
    """What of an event lies at `offset` or later."""
    if not isinstance(event, TapeTrades) or event.first_offset >= offset:
        return event
    return event.take(slice(int(np.searchsorted(event.offset, offset)), None))


def _whole_records(event: TapeTrades, room: int, *, at_least_one: bool) -> int:
    """How many of an event's trades fit, without a record being cut."""
    if len(event) <= room:
        return len(event)
    edges = np.flatnonzero(np.diff(event.offset)) + 1
    fitting = edges[edges <= room]
    if len(fitting):
        return int(fitting[-1])
    if not at_least_one:
        return 0
    return int(edges[0]) if len(edges) else len(event)
