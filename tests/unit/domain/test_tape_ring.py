"""The ring of the newest tape: readers at any place get all that follows, or are told that they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.tape import TapeGap, TapeOwner, TapeTrades
from marketfeed.domain.tape_ring import BYTES_PER_EVENT, BYTES_PER_TRADE, RingEvent, TapeRing, TapeSlice

IDS = np.array([0], np.int64)


def trades(partition: int, counts: dict[int, int]) -> TapeTrades:
    """An event of records: offset -> how many trades it has. Prices name (offset, index)."""
    offset = np.repeat(np.array(list(counts), np.int64), list(counts.values()))
    index = np.concatenate([np.arange(n, dtype=np.int64) for n in counts.values()])
    size = len(offset)
    return TapeTrades(
        partition, min(counts), max(counts), np.zeros(size, np.int64), offset * 1000, offset + index / 1000,
        np.ones(size), offset, index, (None,), np.zeros(size, np.uint32), 1, 2, 3,
    )  # fmt: skip


def gap(partition: int, offset: int) -> TapeGap:
    return TapeGap(partition, offset, IDS, 1, 2, "test", 0)


def tape_of(events: tuple[RingEvent, ...]) -> list[tuple[int, int]]:
    """(offset, index) of every trade, and (offset, -1) of every gap."""
    found: list[tuple[int, int]] = []
    for event in events:
        if isinstance(event, TapeTrades):
            found += zip(event.offset.tolist(), event.index.tolist(), strict=True)
        else:
            found.append((event.offset, -1))
    return found


def read_all(ring: TapeRing, partition: int, offset: int, trades_max: int) -> list[tuple[int, int]]:
    """Slices until the end, each at most as long as allowed unless one record alone is longer."""
    found: list[tuple[int, int]] = []
    while offset < ring.next(partition):
        part = ring.read(partition, offset, trades_max)
        assert isinstance(part, TapeSlice)
        assert part.next_offset > offset
        told = tape_of(part.events)
        assert len({o for o, i in told if i >= 0}) == 1 or sum(i >= 0 for _, i in told) <= trades_max
        found += told
        offset = part.next_offset
    return found


RECORDS = st.lists(st.integers(0, 5), min_size=1, max_size=30)  # trades of each record, 0: a gap's record


@given(RECORDS, st.data())
def test_a_reader_anywhere_gets_all_that_follows_once(records: list[int], data: st.DataObject) -> None:
    """However records are joined into events and slices, a reader gets every trade at or after its offset, in order."""
    ring = TapeRing({0: 0}, window_s=60, bytes_max=10**9)
    joined: dict[int, int] = {}
    for offset, count in enumerate(records):
        if count:
            joined[offset] = count
        if joined and (not count or data.draw(st.booleans())):
            ring.add(0, [trades(0, joined)], max(joined) + 1, 0.0)
            joined = {}
        if not count:
            ring.add(0, [gap(0, offset)], offset + 1, 0.0)
    if joined:
        ring.add(0, [trades(0, joined)], len(records), 0.0)
    begin = data.draw(st.integers(0, len(records)))
    whole = [(o, i) for o, n in enumerate(records) for i in (range(n) if n else [-1])]
    assert read_all(ring, 0, begin, data.draw(st.integers(1, 8))) == [each for each in whole if each[0] >= begin]


@given(RECORDS, st.integers(2000, 12_000))
def test_what_is_held_stays_within_the_bound_and_has_no_hole(records: list[int], bytes_max: int) -> None:
    """The oldest goes first; whoever is below `first` is refused, and everybody else misses nothing."""
    ring = TapeRing({0: 0, 1: 0}, window_s=60, bytes_max=bytes_max)
    for offset, count in enumerate(records):
        for partition in (0, 1):
            event = trades(partition, {offset: count}) if count else gap(partition, offset)
            ring.add(partition, [event], offset + 1, float(offset))
    held = sum(BYTES_PER_EVENT + (BYTES_PER_TRADE * n if n else 8) for p in (0, 1) for n in records[ring.first(p) :])
    assert ring.bytes == held <= bytes_max
    for partition in (0, 1):
        first = ring.first(partition)
        whole = [(o, i) for o, n in enumerate(records) for i in (range(n) if n else [-1])]
        assert read_all(ring, partition, first, 4) == [each for each in whole if each[0] >= first]
        assert first == 0 or ring.read(partition, first - 1, 4) is None
    assert ring.covers(ring.firsts())
    assert ring.covers(ring.nexts())
    assert not ring.covers({0: ring.next(0) + 1, 1: ring.next(1)})
    assert not ring.covers({0: ring.next(0)})


def test_time_lets_go_of_what_is_older_than_the_window() -> None:
    """At a low rate the bound in bytes would keep hours."""
    ring = TapeRing({0: 5}, window_s=60, bytes_max=10**9)
    ring.add(0, [trades(0, {5: 1})], 6, 100.0)
    ring.add(0, [trades(0, {6: 1})], 7, 150.0)
    ring.add(0, [], 8, 161.0)
    assert (ring.first(0), ring.next(0)) == (6, 8)
    assert tape_of(ring.read(0, 6, 10).events) == [(6, 0)]  # type: ignore[union-attr]


def test_what_was_read_again_goes_before_what_is_held() -> None:
    """Unless what is held begins elsewhere by then: a hole would be worse than nothing."""
    ring = TapeRing({0: 10}, window_s=60, bytes_max=10**9)
    ring.add(0, [trades(0, {10: 2})], 11, 0.0)
    assert not ring.put_before(0, [trades(0, {7: 1})], 7, 9, 1.0)
    assert ring.put_before(0, [trades(0, {7: 1, 8: 2})], 6, 10, 1.0)
    assert read_all(ring, 0, 6, 100) == [(7, 0), (8, 0), (8, 1), (10, 0), (10, 1)]
    assert ring.first(0) == 6


def test_owners_are_not_kept_and_lost_places_are_forgotten() -> None:
    """A take-over tells a reader of the tape nothing; records that were lost take everything before them along."""
    ring = TapeRing({0: 0}, window_s=60, bytes_max=10**9)
    ring.add(0, [TapeOwner(0, 0, 7, IDS), trades(0, {1: 1})], 2, 0.0)
    assert tape_of(ring.read(0, 0, 10).events) == [(1, 0)]  # type: ignore[union-attr]
    ring.forget(0, 9)
    assert ring.bytes == 0
    assert (ring.first(0), ring.next(0)) == (9, 9)
    assert ring.read(0, 1, 10) is None


@pytest.mark.parametrize("room", [1, 2])
def test_a_record_longer_than_asked_for_comes_whole(room: int) -> None:
    """A record is never cut, as a position can only name whole ones."""
    ring = TapeRing({0: 0}, window_s=60, bytes_max=10**9)
    ring.add(0, [trades(0, {0: 3, 1: 1})], 2, 0.0)
    first = ring.read(0, 0, room)
    assert first is not None
    assert (tape_of(first.events), first.next_offset) == ([(0, 0), (0, 1), (0, 2)], 1)
