"""What the client of `/v1/stream` remembers: where to go on, whose snapshot it lacks, and which trades it has had."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marketfeed.client.stream import _Memory
from marketfeed.wire import websocket as w

STAMPS = w.Stamps("1", None, None, "2")
STANDS = w.SymbolState("live", "trading", "1")


def trades(symbol: str, places: list[tuple[int, int]]) -> w.TradesOut:
    """Trades whose price is their place in the tape."""
    offsets, indexes = [place[0] for place in places], [place[1] for place in places]
    prices = [place[0] * 10.0 + place[1] for place in places]
    conditions: Any = [(str(price),) for price in prices]
    return w.TradesOut(symbol, ["1"] * len(places), prices, prices, conditions, 0, offsets, indexes, STAMPS)


def snapshot(symbol: str, part: int, parts: int) -> w.Snapshot:
    return w.Snapshot(symbol, part, parts, "p", "store", False, 0, STANDS, None, None)


def beat(position: str | None) -> w.Heartbeat:
    return w.Heartbeat("1", None, 0, None, position)


def subscribed(position: str) -> w.SubscribedOut:
    return w.SubscribedOut(1, {}, [], 50, "fast", position)


def resumed(position: str, *, recovered: bool) -> w.ResumedOut:
    return w.ResumedOut(2, recovered, {}, [], 50, "fast", position)


PLACES = [(offset, index) for offset in range(1, 9) for index in range(3)]


@given(st.lists(st.tuples(st.integers(0, len(PLACES)), st.integers(1, 6)), max_size=20))
def test_each_trade_comes_once_however_often_a_server_begins_again(begins: list[tuple[int, int]]) -> None:
    """A resume may begin anywhere at or before where the client is; columns stay together."""
    memory, had = _Memory(resumes=True), list[tuple[int, int]]()
    for back, count in begins:
        first = max(0, len(had) - back)
        message = trades("A", PLACES[first : first + count])
        if not message.price or (kept := memory.take(message, ["A"])) is None:
            continue
        assert isinstance(kept, w.TradesOut)
        assert kept.price == kept.size == [offset * 10.0 + i for offset, i in zip(kept.offset, kept.index, strict=True)]
        assert kept.conditions == [(str(price),) for price in kept.price]
        had += zip(kept.offset, kept.index, strict=True)
    assert had == PLACES[: len(had)]
    other = trades("B", PLACES[:1])
    assert memory.take(other, ["A", "B"]) is other


def test_a_position_is_the_last_that_was_told() -> None:
    """Null ones change nothing; those of answers count until there is another."""
    memory = _Memory(resumes=True)
    for message, position in (
        (subscribed("a"), "a"), (beat(None), "a"), (beat("b"), "b"), (subscribed("c"), "b"),
        (w.CaughtUp(2, "d"), "d"), (w.Drain("restart", 5, None), "d"), (w.Drain("restart", 5, "e"), "e"),
        (resumed("f", recovered=True), "e"), (resumed("g", recovered=False), "g"),
    ):  # fmt: skip
        assert memory.take(message, ["A"]) is message
        assert memory.position == position


def test_snapshots_that_were_not_whole_are_asked_for_again() -> None:
    """All before the first position that says otherwise; then those that began and did not end, by their names."""
    memory = _Memory(resumes=True)
    memory.take(subscribed("a"), ["A", "B"])
    memory.take(snapshot("A", 0, 1), ["A", "B"])
    assert memory.unfinished(["A", "B"]) == ["B"]
    memory.take(beat("b"), ["A", "B"])
    assert memory.unfinished(["A", "B"]) == []
    memory.take(snapshot("C", 0, 2), ["*"])
    assert memory.unfinished(["*"]) == ["C"]
    memory.take(snapshot("C", 1, 2), ["*"])
    assert memory.unfinished(["*"]) == []
    memory.take(resumed("d", recovered=False), ["*"])
    assert memory.unfinished(["*"]) == ["*"]


def test_another_log_s_trades_are_new_whatever_their_offsets() -> None:
    """After a resume that did not recover, offsets may begin again."""
    memory = _Memory(resumes=True)
    memory.take(trades("A", PLACES[5:8]), ["A"])
    memory.take(resumed("a", recovered=False), ["A"])
    again = trades("A", PLACES[:3])
    assert memory.take(again, ["A"]) is again


def test_without_resuming_there_is_no_position() -> None:
    """Everything is subscribed anew then."""
    memory = _Memory(resumes=False)
    memory.take(beat("a"), ["A"])
    assert memory.position is None
