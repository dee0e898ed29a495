"""Event time of an owner: watermark, lateness and gaps."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.log import Gap
from marketfeed.domain.trades import NANOS
from marketfeed.domain.watermarks import DELAY_MAX_NS, AckedWatermark, WatermarkClock, WholeSince, gap

T0 = 1_700_000_000 * NANOS
STAMPS = st.lists(st.integers(T0, T0 + 1000), max_size=10)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STAMPS, max_size=8))
def test_the_watermark_is_the_highest_stamp_however_batches_are_cut(batches: list[list[int]]) -> None:
    """Value and lateness depend on the order of trades alone."""
    clock = WatermarkClock()
    for batch in batches:
        clock.accept(np.array(batch, np.int64), T0)
    arrived = [stamp for batch in batches for stamp in batch]
    highest = late = 0
    for stamp in arrived:
        highest = max(highest, stamp)
        late = max(late, highest - stamp)
    assert clock.value == highest
    assert clock.lateness_ns(T0) == late


def test_a_ping_moves_the_watermark_less_five_seconds() -> None:
    """Silence with a ping is information; it never pulls the watermark back."""
    clock = WatermarkClock()
    clock.ping(T0)
    assert clock.value == T0 - 5 * NANOS
    clock.accept(np.array([T0], np.int64), T0)
    clock.ping(T0 + 2 * NANOS)
    assert clock.value == T0


def test_a_successor_goes_on_from_watermark_and_lateness() -> None:
    """Neither falls: a gap that opens soon after a take-over begins as far below as its predecessor's would have."""
    clock = WatermarkClock()
    clock.succeed(T0 + 1, 700, T0)
    clock.succeed(5, 600, T0)
    assert clock.value == T0 + 1
    clock.accept(np.array([T0 + 2], np.int64), T0)
    assert clock.lateness_ns(T0) == 700
    assert clock.lateness_ns(T0 + 1000 * NANOS) == 0


def test_lateness_is_forgotten_after_fifteen_minutes() -> None:
    """The greatest lateness is that of the last 15 minutes, to the minute."""
    clock = WatermarkClock()
    clock.accept(np.array([T0, T0 - 700], np.int64), T0)
    clock.accept(np.array([T0 - 300], np.int64), T0 + 600 * NANOS)
    assert clock.lateness_ns(T0 + 899 * NANOS) == 700
    assert clock.lateness_ns(T0 + 1000 * NANOS) == 300
    assert clock.lateness_ns(T0 + 1700 * NANOS) == 0


def test_the_acknowledged_watermark_is_the_slowest_partitions() -> None:
    """Only what every partition has acknowledged may be told in `Alive`."""
    acked = AckedWatermark([0, 1])
    acked.acked(0, T0)
    assert acked.value == 0
    acked.acked(1, T0 - 1)
    acked.acked(1, T0 - 2)
    assert acked.value == T0 - 1
    acked.acked(7, 5)
    assert acked.value == T0 - 1


def test_a_lowered_watermark_is_raised_by_later_acknowledgements_only() -> None:
    """What is on its way tells the old one; partitions that are new begin at what is known without an answer."""
    acked = AckedWatermark([0, 1], T0)
    acked.speak_for([1, 2], T0 - 5)
    acked.acked(0, T0 + 9)
    assert acked.value == T0 - 5
    acked.acked(2, T0 + 3)
    assert acked.value == T0
    lowered = acked.lowered(T0 - 7)
    acked.acked(1, T0 + 9)
    assert (acked.value, lowered.value) == (T0 + 3, T0 - 7)
    assert lowered.lowered(T0).value == T0 - 7
    lowered.acked(1, T0 + 10)
    lowered.acked(2, T0 + 11)
    assert lowered.value == T0 + 10


def test_a_gap_reaches_from_below_the_watermark_to_the_first_stamp() -> None:
    """It never ends before it begins, and there is none where nothing was known."""
    assert gap(("A",), T0, 10, T0 + 50, "restart", 2) == Gap(("A",), T0 - 10, T0 + 50, "restart", 2)
    assert gap(("A",), T0, 10, T0 - 50, "restart") == Gap(("A",), T0 - 10, T0 - 10, "restart")
    assert gap(("A",), 0, 10, T0, "restart") is None
    assert gap((), T0, 10, T0, "restart") is None


def test_a_symbol_is_whole_from_when_its_subscription_was_in_force() -> None:
    """Each subscription by itself, and not before the first progress after that; none when the connection is gone."""
    whole = WholeSince(10)
    whole.subscribed(["A", "B"], T0)
    whole.reached(T0 - 5, T0 + 5)
    whole.reached(T0 - 4, T0 + 10)
    assert whole.since(["A", "B"]) == {}
    whole.subscribed(["C"], T0 + 11)
    whole.unsubscribed(["B"])
    whole.reached(T0 - 2, T0 + 12)
    assert whole.since(["A", "B", "C"]) == {"A": T0 + 10}
    assert whole.due(["A", "B", "C"]) == {"C": T0 + 21}
    whole.reached(T0 + 30, T0 + 25)
    whole.reached(T0 + 30, T0 + 26)
    whole.reached(T0 + 31, T0 + 27)  # a clock that is ahead of ours
    assert whole.since(["A", "C"]) == {"A": T0 + 10, "C": T0 + 31}
    whole.unsubscribed(["A"])
    assert whole.since(["A", "C"]) == {"C": T0 + 31}
    whole.lost()
    assert whole.since(["C"]) == {}


def test_a_delayed_feeds_symbol_is_whole_by_its_stamps() -> None:
    """Else an owner's watermark would reach it only after the whole delay."""
    whole, delay = WholeSince(10), 900 * NANOS
    whole.subscribed(["A"], T0)
    whole.reached(T0 - delay, T0 + 10)
    whole.reached(T0 - delay + 20, T0 + 30)
    assert whole.since(["A"]) == {"A": T0 - delay + 20 + DELAY_MAX_NS}
