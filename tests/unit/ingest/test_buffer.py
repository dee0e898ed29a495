"""The standby buffer."""

from __future__ import annotations

import numpy as np

from marketfeed.domain.trades import TradeColumns
from marketfeed.ingest.buffer import Lost, StandbyBuffer, having


def batch(stamps: list[int], symbols: list[int]) -> TradeColumns:
    count = len(stamps)
    none = np.zeros(count, np.uint32)
    index = np.array(symbols, np.uint32)
    return TradeColumns(("A", "B"), index, np.array(stamps), np.ones(count), np.ones(count), (None,), none)


def test_trades_leave_by_symbol_in_order_of_arrival() -> None:
    """What is not asked for stays."""
    buffer = StandbyBuffer(100)
    assert buffer.since_ts is None
    buffer.add(batch([1, 2, 3], [0, 1, 0]), 50)
    buffer.add(batch([4, 5], [1, 1]), 60)
    assert (len(buffer), buffer.since_ts) == (5, 50)
    assert buffer.take(["A"]).event_ts.tolist() == [1, 3]
    assert buffer.take({"B", "C"}).event_ts.tolist() == [2, 4, 5]
    assert len(buffer) == len(buffer.take(["A", "B"])) == 0


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
    assert buffer.take(["A"]).event_ts.tolist() == [1, 9, 5, 6]
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
