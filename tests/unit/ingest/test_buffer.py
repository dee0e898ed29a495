"""The standby buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marketfeed.domain.trades import TradeColumns
from marketfeed.ingest.buffer import Lost, StandbyBuffer, having
from marketfeed.ingest.spill import Spill


def batch(stamps: list[int], symbols: list[int]) -> TradeColumns:
    count = len(stamps)
    none = np.zeros(count, np.uint32)
    index = np.array(symbols, np.uint32)
    return TradeColumns(("A", "B"), index, np.array(stamps), np.ones(count), np.ones(count), (None,), none)


def held(buffer: StandbyBuffer, symbols: set[str]) -> list[int]:
    """Their stamps, in the order in which a take-over reads them."""
    return [stamp for _, part in buffer.unseen(symbols, set()) for stamp in part.event_ts.tolist()]


def test_trades_leave_by_symbol_in_order_of_arrival() -> None:
    """What is not asked for stays."""
    buffer = StandbyBuffer(100)
    assert buffer.since_ts is None
    buffer.add(batch([1, 2, 3], [0, 1, 0]), 50)
    buffer.add(batch([4, 5], [1, 1]), 60)
    assert (len(buffer), buffer.since_ts) == (5, 50)
    assert held(buffer, {"A"}) == [1, 3]
    buffer.take(["A"])
    assert (len(buffer), held(buffer, {"A", "B", "C"})) == (3, [2, 4, 5])
    buffer.take({"B", "C"})
    assert (len(buffer), held(buffer, {"A", "B"})) == (0, [])


def test_the_oldest_go_when_it_is_full_and_it_says_what() -> None:
    """For a gap: the span of their stamps and their number."""
    buffer = StandbyBuffer(4)
    for first in (10, 20, 30):
        buffer.add(batch([first, first + 1], [0, 1]), first)
    assert buffer.take_lost() == Lost(10, 11, 2)
    buffer.add(batch([5, 6], [0, 0]), 40)
    buffer.add(batch([7, 8], [0, 0]), 50)
    assert buffer.take_lost() == Lost(20, 31, 4)
    assert buffer.take_lost() is None


def test_what_the_owner_has_logged_need_not_be_kept() -> None:
    """Whole batches below its watermark."""
    buffer = StandbyBuffer(100)
    buffer.add(batch([1, 9], [0, 0]), 1)
    buffer.add(batch([5, 6], [0, 0]), 2)
    buffer.forget_before(9)
    assert held(buffer, {"A"}) == [1, 9, 5, 6]
    buffer.take(["A"])
    buffer.add(batch([5, 6], [0, 0]), 2)
    buffer.forget_before(7)
    assert len(buffer) == 0


def test_it_knows_its_oldest_arrival_and_stamp() -> None:
    """In whatever order batches are added: how far a take-over reads the log back depends on them."""
    buffer = StandbyBuffer(100)
    assert StandbyBuffer(100).since_ts is None
    assert StandbyBuffer(100).oldest_stamp is None
    buffer.add(batch([8, 9], [0, 0]), 70)
    buffer.add(batch([5, 12], [0, 0]), 60)
    assert (buffer.since_ts, buffer.oldest_stamp) == (60, 5)


def test_which_trades_are_of_some_symbols() -> None:
    """A mask over trades from names."""
    assert having(batch([1, 2, 3], [0, 1, 0]), frozenset({"B"})).tolist() == [False, True, False]


def test_what_has_no_room_in_memory_goes_to_disk(tmp_path: Path) -> None:
    """Oldest first; there it can be read again and again until it is taken, and forgotten like the rest."""
    buffer = StandbyBuffer(4, Spill(tmp_path / "standby", 10**6, segment_bytes=400))
    for first in range(10, 60, 10):
        buffer.add(batch([first, first + 1], [0, 1]), first)
    assert (len(buffer), buffer.since_ts, buffer.oldest_stamp) == (10, 10, 10)
    wanted = {"A", "B"}
    seen: set[int] = set()
    reading = buffer.unseen(wanted, seen)
    assert next(reading)[1].event_ts.tolist() == [10, 11]
    buffer.add(batch([60, 61], [0, 1]), 60)  # pushes another batch out
    wanted.discard("A")
    assert [part.event_ts.tolist() for _, part in reading] == [[21], [31], [51], [61]]
    assert [part.event_ts.tolist() for _, part in buffer.unseen(wanted, seen)] == [[41]]
    assert list(buffer.unseen(wanted, seen)) == []
    assert held(buffer, {"A"}) == [10, 20, 30, 40, 50, 60]
    buffer.take({"B"})
    assert held(buffer, {"A", "B"}) == [10, 20, 30, 40, 50, 60]
    buffer.forget_before(30)
    assert held(buffer, {"A", "B"}) == [30, 40, 50, 60]
    assert buffer.lost is None
    buffer.clear()
    assert len(buffer) == len(list((tmp_path / "standby").iterdir())) == 0


def test_beyond_memory_and_disk_the_oldest_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk goes before what is in memory; a disk that refuses costs only what it refused."""
    buffer = StandbyBuffer(2, Spill(tmp_path, 400, segment_bytes=200))
    for first in range(10, 70, 10):
        buffer.add(batch([first, first + 1], [0, 1]), first)
    assert buffer.lost is not None
    lost = buffer.take_lost()
    assert lost is not None
    assert (lost.from_ts, lost.trades + len(buffer)) == (10, 12)
    assert held(buffer, {"A"})[0] == lost.to_ts + 9
    before = len(buffer)

    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr("os.pwrite", refuse)
    buffer.forget_before(50)
    buffer.add(batch([70, 71], [0, 1]), 70)
    assert buffer.take_lost() == Lost(60, 61, 2)
    assert (buffer.refused, before) == (1, before)


def test_a_new_start_finds_nothing_on_disk(tmp_path: Path) -> None:
    """What another run spilled was for its own connection."""
    spill = Spill(tmp_path, 10**6)
    spill.append(batch([1], [0]), 1)
    assert list(tmp_path.iterdir())
    assert not Spill(tmp_path, 10**6)
    assert not list(tmp_path.iterdir())
    dropped = spill.first
    assert dropped is not None
    spill.drop_first()
    assert (len(spill.read(dropped)), spill.bytes, spill.trades) == (0, 0, 0)
