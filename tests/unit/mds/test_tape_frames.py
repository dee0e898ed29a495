"""The tape as frames: shared where places are the same, in both protocols, bounded in a turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketfeed.mds import tape_frames
from marketfeed.mds.tape_frames import Dialect, TapeFrames, place_of

T0_NS = 1_790_000_000 * 10**9


def payloads(data: bytes) -> list[Any]:
    """The messages in some short frames."""
    found = []
    while data:
        size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4]), 4)
        found.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return found


@pytest.fixture
def frames(market: Any) -> TapeFrames:
    market.log.own("A", "B")
    for number in range(6):
        market.log.trade("AB"[number % 2], number, 10.0 + number, size=number)
    made = TapeFrames(market.hub.state)
    made.begin(77)
    return made


def test_trades_of_the_wanted_symbols_come_in_both_protocols(market: Any, frames: TapeFrames) -> None:
    """Ours has identity and stamps, Finnhub's its five letters and milliseconds."""
    symbol_id = market.hub.state.symbols.id("B")
    found = frames.after((1,), frozenset({symbol_id}), Dialect.OURS)
    assert found is not None
    [ours], place = payloads(found[0]), found[1]
    assert place == frames.end == (7,)
    assert (ours["symbol"], ours["price"], ours["offset"], ours["partition"]) == ("B", [11.0, 13.0, 15.0], [2, 4, 6], 0)
    assert ours["event_ts"] == [str(T0_NS + n * 10**9) for n in (1, 3, 5)]
    assert (ours["stamps"]["sent_ts"], ours["conditions"]) == ("77", None)
    found = frames.after((5,), frozenset({symbol_id}), Dialect.FINNHUB)
    assert found is not None
    assert payloads(found[0]) == [
        {"data": [{"c": None, "p": 15.0, "s": "B", "t": T0_NS // 10**6 + 5000, "v": 5.0}], "type": "trade"}
    ]


def test_a_place_that_is_not_held_is_told(market: Any, frames: TapeFrames) -> None:
    """None, not the rest of it."""
    market.hub.state.tape.forget(0, 7)
    frames.begin(0)
    assert frames.after((3,), frozenset({0}), Dialect.OURS) is None
    assert frames.after((7,), frozenset({0}), Dialect.OURS) == (b"", (7,))


def test_what_laggards_read_in_a_turn_is_bounded(frames: TapeFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound they wait where they are; whoever is where somebody was already gets the same."""
    monkeypatch.setattr(tape_frames, "TURN_TRADES", 5)
    both = frozenset({0, 1})
    assert frames.after((2,), both, Dialect.OURS) != (b"", (2,))
    assert frames.after((3,), both, Dialect.OURS) == (b"", (3,))
    assert frames.after((2,), both, Dialect.OURS) != (b"", (2,))
    frames.begin(0)
    assert frames.after((3,), both, Dialect.OURS) != (b"", (3,))


def test_a_long_tape_comes_in_stretches(frames: TapeFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends where a record ends, and they add up."""
    monkeypatch.setattr(tape_frames, "STRETCH_TRADES", 2)
    place, offsets = place_of({0: 0}), []
    for _ in range(4):
        found = frames.after(place, frozenset({0, 1}), Dialect.OURS)
        assert found is not None
        offsets += [offset for message in payloads(found[0]) for offset in message["offset"]]
        place = found[1]
    assert (sorted(offsets), place) == ([1, 2, 3, 4, 5, 6], frames.end)
