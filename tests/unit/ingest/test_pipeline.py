"""The fast path on a log in memory: frames in, counted trades, watermarks and gaps out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marketfeed.domain.log import Gap, TradesRecord, Watermark
from marketfeed.domain.ownership import LATE_NS
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import NANOS, SymbolTable
from marketfeed.ingest.buffer import Lost, StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.pipeline import SUBSCRIBED_AFTER_NS, Pipeline, PipelineOptions
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Bounds, Sender
from marketfeed.ingest.spool import Spool

PARTITIONS = 2
SYMBOLS = ("A", "B", "C", "D")


class Line:
    """A pipeline with everything behind it."""

    def __init__(self, broker: Any, folder: Path, dedup: bool = True, spool_bytes: int = 10**6) -> None:
        self.broker = broker
        self.spool = Spool(folder, spool_bytes, fsync="never")
        self.sender = Sender(broker.producer, "f.trades", self.spool, Bounds(100, 10**6), "f", "0/1")
        table = SymbolTable()
        self.cutter = Cutter(table, PARTITIONS)
        self.buffer = StandbyBuffer(1000)
        self.quarantine = Quarantine(10)
        options = PipelineOptions(flush_interval_s=0.01, flush_bytes=100_000, dedup=dedup)
        self.pipeline = Pipeline(table, self.cutter, self.sender, self.buffer, self.quarantine, options)
        self.pipeline.follow(SYMBOLS)
        self.now_ms = time.time_ns() // 1_000_000

    def frame(self, *trades: tuple[str, float, int], size: float = 1) -> bytes:
        """Trades as (symbol, price, ms after the start)."""
        data = [{"s": s, "p": p, "t": self.now_ms + ms, "v": size, "c": ["1"]} for s, p, ms in trades]
        return json.dumps({"type": "trade", "data": data}).encode()

    def feed(self, *trades: tuple[str, float, int]) -> None:
        self.raw(self.frame(*trades))

    def raw(self, frame: bytes) -> None:
        self.pipeline.on_frame(frame, time.time_ns())
        self.pipeline.flush()
        self.sender.pump()

    def said(self, kind: type) -> list[Any]:
        return [body for partition in range(PARTITIONS) for body in self.broker.bodies(partition) if type(body) is kind]

    def prices(self) -> list[float]:
        return sorted(p for record in self.said(TradesRecord) for p in record.trades.price.tolist())


@pytest.fixture
def line(new_broker: Callable[[], Any], tmp_path: Path) -> Iterator[Line]:
    line = Line(new_broker(), tmp_path)
    line.pipeline.on_open()
    yield line
    line.spool.close()


def test_trades_of_published_symbols_are_logged_and_others_buffered(line: Line) -> None:
    """Under the epoch they are published under."""
    line.cutter.publish(["A", "B"], 3)
    line.feed(("A", 1, 0), ("B", 2, 1), ("C", 3, 2))
    assert line.prices() == [1, 2]
    assert {record.epoch for record in line.said(TradesRecord)} == {3}
    assert [part.price.tolist() for _, part in line.buffer.unseen(SYMBOLS, set())] == [[3]]


def test_bad_trades_are_quarantined_and_move_no_watermark(line: Line) -> None:
    """Each with its reason; the good ones beside them go on."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0), ("A", -1, 1), ("X", 5, 2), ("B", 2, 60_000), ("B", 4, 3))
    line.raw(b'{"type":"trade","data":[{"s":"A","p":NaN,"t":1,"v":1}]}')
    line.pipeline.on_unreadable("oversized_frame", b"xxx")
    assert line.prices() == [1, 4]
    assert line.quarantine.counts == {
        "unknown_symbol": 1,
        "price_not_positive": 1,
        "stamp_ahead": 1,
        "malformed_trade": 1,
        "oversized_frame": 1,
    }
    assert any("s=X " in one["sample"] for one in line.quarantine.page()["samples"])  # type: ignore[attr-defined]
    assert line.pipeline.clock.value == (line.now_ms + 3) * 1_000_000


@pytest.mark.parametrize(("dedup", "copies"), [(True, 1), (False, 3)])
def test_a_frame_sent_three_times_counts_once(
    new_broker: Callable[[], Any], tmp_path: Path, dedup: bool, copies: int
) -> None:
    """Unless repeats are wanted."""
    line = Line(new_broker(), tmp_path, dedup)
    line.pipeline.on_open()
    line.cutter.publish(SYMBOLS, 3)
    for _ in range(3):
        line.feed(("A", 1, 0))
    line.feed(("A", 1, 0), ("A", 1, 0))
    assert line.prices() == [1] * (copies + 2)
    line.spool.close()


def test_a_watermark_says_the_highest_stamp_in_every_partition_of_ours(line: Line) -> None:
    """With the epochs that are published there, after the trades."""
    line.cutter.publish(["A", "B", "C"], 3)
    line.cutter.publish(["D"], 8)
    line.pipeline.send_watermarks()
    assert line.said(Watermark) == []
    line.feed(("A", 1, 30), ("D", 1, 10))
    line.pipeline.send_watermarks()
    line.sender.pump()
    marks = line.said(Watermark)
    assert {mark.event_ts for mark in marks} == {(line.now_ms + 30) * 1_000_000}
    assert sorted(epoch for mark in marks for epoch in set(mark.epochs)) in ([3, 3, 8], [3, 8])
    line.raw(b'{"type":"ping"}')
    assert line.pipeline.clock.value == (line.now_ms + 30) * 1_000_000


def test_a_lost_connection_is_a_gap_that_ends_with_the_new_ones_first_stamp(line: Line) -> None:
    """From the watermark less the lateness, before anything that jumps over it, in each partition."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 100), ("B", 1, 100), ("C", 1, 40), ("D", 1, 100))
    line.pipeline.on_lost("test")
    line.pipeline.send_watermarks()
    line.pipeline.on_open()
    opened_ts = time.time_ns()
    line.pipeline.send_watermarks()
    line.sender.pump()
    assert line.said(Gap) == []
    line.feed(("A", 2, 3000))
    gaps = line.said(Gap)
    assert sorted(symbol for gap in gaps for symbol in gap.symbols) == list(SYMBOLS)
    for gap in gaps:
        assert gap.from_ts == (line.now_ms + 40) * 1_000_000
        assert gap.to_ts >= (line.now_ms + 3000) * 1_000_000
        assert gap.to_ts <= max((line.now_ms + 3000) * 1_000_000, opened_ts + SUBSCRIBED_AFTER_NS)
        assert gap.reason == "connection_lost"
    line.pipeline.send_watermarks()
    line.sender.pump()
    for partition in range(PARTITIONS):
        kinds = [type(body) for body in line.broker.bodies(partition)]
        assert kinds.index(Gap) < len(kinds) - 1 - kinds[::-1].index(Watermark)


def test_a_ping_after_a_reconnect_pays_the_gap_first(line: Line) -> None:
    """The watermark follows pings, and must not pass the gap unsaid."""
    line.cutter.publish(["A"], 3)
    line.feed(("A", 1, -60_000))
    line.pipeline.on_lost("test")
    line.pipeline.on_open()
    line.raw(b'{"type":"ping"}')
    line.pipeline.send_watermarks()
    line.sender.pump()
    kinds = [type(body) for partition in range(PARTITIONS) for body in line.broker.bodies(partition)]
    assert kinds == [TradesRecord, Gap, Watermark]
    assert line.pipeline.clock.value > line.said(Gap)[0].from_ts


def test_what_a_source_sends_again_after_a_reconnect_is_set_off(line: Line) -> None:
    """As a multiset: two copies sent and three received is one more."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0), ("A", 1, 0), ("B", 2, 1))
    line.pipeline.on_lost("test")
    line.pipeline.on_open()
    line.feed(("A", 1, 0), ("A", 1, 0), ("A", 1, 0), ("B", 2, 1), ("C", 9, 2))
    assert line.prices() == [1, 1, 1, 2, 9]
    assert line.pipeline.repeated == 3


def test_what_a_source_sends_again_twice_is_set_off_twice(line: Line) -> None:
    """A connection that is lost at once, and another one: both repeat the last trades."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0), ("B", 2, 1))
    for number in range(3):
        line.pipeline.on_lost("test")
        line.pipeline.on_open()
        line.feed(("A", 1, 0), ("B", 2, 1), ("C", 10 + number, 2 + number))
    assert line.prices() == [1, 2, 10, 11, 12]
    assert line.pipeline.repeated == 6


def test_a_challenged_owner_keeps_what_it_publishes(line: Line) -> None:
    """From then on and the last minute before, until it is told to stop."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0), ("B", 2, 1))
    line.pipeline.keep_too(["A"])
    line.feed(("A", 3, 2), ("B", 4, 3))
    line.pipeline.stop_keeping(["A"])
    line.feed(("A", 5, 4))
    assert [price for _, part in line.buffer.unseen(SYMBOLS, set()) for price in part.price.tolist()] == [1, 3]
    assert line.prices() == [1, 2, 3, 4, 5]


def test_it_knows_from_when_on_it_has_heard_everything_of_a_symbol(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which decides whether an owner may be succeeded, and whether a take-over owes a gap."""
    monkeypatch.setattr(line.pipeline._heard_whole, "_settling_ns", -1)
    monkeypatch.setattr("marketfeed.ingest.pipeline.SUBSCRIBED_AFTER_NS", -1)
    line.pipeline.on_open()
    line.feed(("A", 1, 0))
    assert line.pipeline.whole_from(SYMBOLS) == {}
    line.feed(("A", 1, 1))
    found = line.pipeline.whole_from(SYMBOLS)
    assert found.keys() == set(SYMBOLS)
    assert line.pipeline.heard_from(SYMBOLS) == {found["A"]: set(SYMBOLS)}
    line.pipeline.follow(["A"])
    line.pipeline.follow(SYMBOLS)
    assert line.pipeline.whole_from(SYMBOLS) == {"A": found["A"]}
    assert line.pipeline.heard_from(["A"]) == {found["A"]: {"A"}}
    [later] = line.pipeline.heard_from(["B", "C"])
    assert later is not None
    assert abs(later - time.time_ns()) < NANOS
    line.feed(("B", 1, 2), ("B", 1, 3))
    line.feed(("B", 1, 4))
    assert line.pipeline.whole_from(["B"]).keys() == {"B"}
    line.pipeline.on_lost("test")
    assert line.pipeline.whole_from(SYMBOLS) == {}
    assert line.pipeline.heard_from(SYMBOLS) == {None: set(SYMBOLS)}


def test_what_is_owed_of_a_symbol_is_said_before_another_process_has_it(line: Line) -> None:
    """What came before our take-over; not what our lost connection cost, which the successor has heard."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0))
    line.pipeline.on_lost("test")
    reached = line.pipeline.clock.value
    line.pipeline.owe_gap(["A", "B"], reached - NANOS, 7, "restart")
    assert line.said(Gap) == []
    line.pipeline.yielding(["A"])
    line.sender.pump()
    [told] = line.said(Gap)
    assert told == Gap(("A",), reached - NANOS - 7, reached, "restart")
    line.cutter.park(["A"])
    line.pipeline.on_open()
    line.feed(("B", 1, 5))
    assert {(gap.symbols, gap.reason) for gap in line.said(Gap)[1:]} >= {(("B",), "restart")}
    assert not any("A" in gap.symbols for gap in line.said(Gap)[1:])


def test_what_may_be_held_begins_at_the_oldest_that_is_buffered_was_pushed_out_or_may_come(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """What may come is as late as a bar waits for, below our clock or a delayed feed's watermark."""
    line = Line(new_broker(), tmp_path)
    assert 0 <= line.pipeline.held_from_ts() - (time.time_ns() - LATE_NS) + NANOS < 2 * NANOS
    line.pipeline.on_open()
    line.cutter.publish(["A"], 3)
    line.feed(("A", 1, -60_000), ("A", 1, -60_700))
    assert line.pipeline.held_from_ts() == (line.now_ms - 60_000) * 1_000_000 - LATE_NS
    line.feed(("B", 1, -2_000_000))
    assert line.pipeline.held_from_ts() == (line.now_ms - 2_000_000) * 1_000_000
    line.buffer.take("B")
    line.buffer.lost = Lost((line.now_ms - 3_000_000) * 1_000_000, 0, 1)
    assert line.pipeline.held_from_ts() == (line.now_ms - 3_000_000) * 1_000_000
    line.spool.close()


def test_no_sign_of_life_speaks_beyond_a_gap_that_is_not_logged(line: Line) -> None:
    """Who dies before has a successor that begins its gap there; what was acknowledged meanwhile was sent before it."""
    line.cutter.publish(SYMBOLS, 3)
    line.pipeline.acked.speak_for(range(PARTITIONS), 1)
    line.feed(("A", 1, 0))
    line.pipeline.send_watermarks()
    reached = line.pipeline.clock.value
    line.pipeline.owe_gap(["A"], reached - NANOS, 0, "restart")
    line.sender.pump()
    assert line.pipeline.acked.value == 1
    line.feed(("A", 2, 700))
    line.pipeline.send_watermarks()
    assert line.pipeline.acked.value == 1
    line.sender.pump()
    assert line.pipeline.acked.value == line.pipeline.clock.value
    line.pipeline.owe_gap(["A"], reached, 0, "dropped", reached)
    assert line.pipeline.acked.value == reached
    line.pipeline.send_watermarks()
    line.sender.pump()
    assert line.pipeline.acked.value == line.pipeline.clock.value


def test_a_large_flush_does_not_wait_for_its_time(line: Line) -> None:
    """Bytes bound it as well."""
    line.cutter.publish(SYMBOLS, 3)
    for number in range(40):
        line.pipeline.on_frame(line.frame(*(("A", number * 100 + i + 1.0, i) for i in range(60))), time.time_ns())
    assert line.pipeline.received >= 1200
    assert line.pipeline.received_ts


def test_what_is_left_of_a_flush_after_a_repeat_goes_to_its_own_partition(line: Line) -> None:
    """A repeat that takes the last trade of a symbol out of a flush must not shift the symbols of the others."""
    line.cutter.publish(SYMBOLS, 3)
    line.feed(("A", 1, 0), ("B", 2, 0), ("C", 3, 0))
    line.pipeline.on_lost("test")
    line.pipeline.on_open()
    line.feed(("A", 1, 0), ("B", 2, 0), ("C", 4, 1), ("D", 5, 1))
    assert line.prices() == [1, 2, 3, 4, 5]
    for partition in range(PARTITIONS):
        for body in line.broker.bodies(partition):
            if isinstance(body, TradesRecord):
                assert {partition_of(symbol, PARTITIONS) for symbol in body.trades.symbols} == {partition}


def test_a_connection_lost_before_going_live_is_a_gap_then(line: Line) -> None:
    """What is buffered while symbols are being taken over has a hole, too; nobody else knows of it."""
    line.cutter.publish(["A", "B"], 3)
    line.feed(("A", 1, 0), ("C", 1, 0))
    line.pipeline.on_lost("test")
    line.pipeline.on_open()
    line.feed(("A", 2, 2000), ("C", 2, 2000))
    assert {symbol for gap in line.said(Gap) for symbol in gap.symbols} == {"A", "B"}
    line.cutter.publish(["C"], 4)
    line.pipeline.say_holes(["C", "D"])
    line.sender.pump()
    (of_c,) = [gap for gap in line.said(Gap) if "C" in gap.symbols]
    assert (of_c.from_ts, of_c.reason) == (line.now_ms * 1_000_000, "connection_lost")
    assert of_c.to_ts >= (line.now_ms + 2000) * 1_000_000
    line.pipeline.say_holes(["C"])
    line.cutter.publish(["D"], 5)
    line.pipeline.forget_holes(["D"])
    line.pipeline.say_holes(["D"])
    line.sender.pump()
    assert [gap for gap in line.said(Gap) if set(gap.symbols) & {"C", "D"}] == [of_c]


def test_a_gap_outlives_that_its_symbols_are_being_claimed_anew(line: Line) -> None:
    """They are parked when its end becomes known, and it is said when they are published again."""
    line.cutter.publish(["A"], 3)
    line.feed(("A", 1, 0))
    line.pipeline.on_lost("test")
    line.cutter.park(["A"])
    line.pipeline.on_open()
    line.feed(("A", 2, 2000))
    assert line.said(Gap) == []
    line.cutter.publish(["A"], 9)
    line.pipeline.say_holes(["A"])
    line.sender.pump()
    assert [gap.symbols for gap in line.said(Gap)] == [("A",)]


def test_a_gap_without_room_holds_back_the_ping_that_would_jump_over_it(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """The watermark must not pass what could not be said."""
    line = Line(new_broker(), tmp_path, spool_bytes=10)
    line.pipeline.on_open()
    line.cutter.publish(["A"], 3)
    line.feed(("A", 1, -60_000))
    line.pipeline.on_lost("test")
    line.broker.answers = False
    while line.sender.send_control(0, Watermark((9,), 1)):
        pass
    line.pipeline.on_open()
    line.raw(b'{"type":"ping"}')
    line.broker.answers = True
    line.sender.pump()
    line.pipeline.send_watermarks()
    line.sender.pump()
    assert line.said(Gap) != [] or line.pipeline.clock.value == (line.now_ms - 60_000) * 1_000_000
    line.raw(b'{"type":"ping" }')
    assert len(line.said(Gap)) == 1
    line.spool.close()
