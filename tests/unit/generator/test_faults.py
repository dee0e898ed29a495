"""Faults: how they are written, when they are on, what they do to frames."""

import json
import math

import numpy as np
import pytest

from marketfeed.generator import faults
from marketfeed.generator.faults import BAD_FRAMES, BAD_TRADES, Fault, FaultPlan, fault_of, parse_fault
from marketfeed.generator.frames import payload_of
from marketfeed.generator.market import Slice
from marketfeed.wire.finnhub import FrameDecoder
from marketfeed.wire.websocket_frames import encode_text_frame

GOOD = b'{"data":[{"c":["1"],"p":10.5,"s":"A","t":1700000000000,"v":3}],"type":"trade"}'


def test_a_fault_is_written_in_one_word() -> None:
    """Kind, parameters, when and how long."""
    assert parse_fault("disconnect") == Fault(kind="disconnect", at_s=0.0, for_s=math.inf)
    assert parse_fault("refuse:status=429@60+10") == Fault(kind="refuse", status=429, at_s=60, for_s=10)
    assert parse_fault("mute:symbols=A;B@1").symbols == ("A", "B")
    assert fault_of({"kind": "mute", "symbols": ["A"]}).symbols == ("A",)


@pytest.mark.parametrize(
    "text", ["fire", "bad:what=smell", "refuse:status=101", "hang@x", "hang@1+0", "lag:lag_s", "hang:colour=red"]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    """With a ValueError, never later."""
    with pytest.raises(ValueError, match=r"."):
        parse_fault(text)


def test_a_fault_begins_once_and_ends() -> None:
    """On from its instant for its time; a repeated disconnect begins again and again."""
    plan = FaultPlan((parse_fault("hang@5+2"), parse_fault("disconnect:every_s=10@3")))
    begun = [(second, fault.kind) for second in range(30) for fault in plan.begun(float(second))]
    assert begun == [(3, "disconnect"), (5, "hang"), (13, "disconnect"), (23, "disconnect")]
    assert [s for s in range(10) if plan.active("hang", float(s))] == [5, 6]
    plan.forget_ended(30.0)
    assert [fault.kind for fault in plan.faults()] == ["disconnect"]


def test_a_short_fault_between_two_looks_still_begins() -> None:
    """The loop's pace must not swallow a disconnect."""
    assert [f.kind for f in FaultPlan((parse_fault("disconnect@1+0.001"),)).begun(1.05)] == ["disconnect"]


def test_every_bad_kind_has_its_turn() -> None:
    """`bad` alone sends all of them, as often as asked."""
    plan = FaultPlan((parse_fault("bad:per_s=10"),))
    due = [plan.bad_due(tick * 0.05) for tick in range(40)]
    sent = [what for _, what in filter(None, due)]
    assert set(sent) == set(BAD_TRADES + BAD_FRAMES)
    assert 15 <= len(sent) <= 21


def test_mirrored_stamps_fall_and_are_not_in_the_future() -> None:
    """Time runs backwards inside each window."""
    stamps = np.arange(1_700_000_000_100, 1_700_000_000_200)
    mirrored = faults.mirrored(Slice(0, 0, 0, 0, stamps, stamps), 500).stamp_ms
    assert (np.diff(mirrored) < 0).all()
    assert (mirrored < stamps).all()


def test_tripled_frames_are_identical_neighbours() -> None:
    """As Finnhub did in 2020."""
    a, b = encode_text_frame(b"a"), encode_text_frame(b"bb")
    assert faults.tripled(a + b, [0, len(a), len(a + b)]) == a * 3 + b * 3


@pytest.mark.parametrize("what", BAD_TRADES)
def test_a_bad_trade_leaves_the_others_of_its_frame_readable(what: str) -> None:
    """The frame stays JSON; the good trade and the following frame are as they were."""
    frame = encode_text_frame(GOOD)
    trade = faults.bad_trade(what, "A", 1_700_000_000_001, 7)
    spoilt = faults.with_bad_trade(frame * 2, [0, len(frame), 2 * len(frame)], trade)
    assert spoilt.endswith(frame)
    first = json.loads(payload_of(spoilt[: -len(frame)]))
    assert first["data"][1:] == json.loads(GOOD)["data"]


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_bad_frames_hold_no_good_trade(what: str) -> None:
    """A reader that decodes them all finds nothing it may keep."""
    decoder = FrameDecoder({"A": 0})
    decoder.feed(payload_of(faults.bad_frame(what, "A", 1_700_000_000_000, 1, 1000)))
    assert len(decoder.drain()) == 0
