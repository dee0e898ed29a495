"""The sender: order, bounds, failing producers, and honesty about what it dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Gap, TradesRecord, Watermark
from marketfeed.domain.trades import TradeColumns
from marketfeed.ingest import sender as sender_module
from marketfeed.ingest.sender import Bounds, Sender
from marketfeed.ingest.spool import Spool
from marketfeed.wire.records import KIND_HEADER, decode_body


def trades(first_seq: int, count: int = 3) -> TradesRecord:
    index = np.zeros(count, np.uint32)
    stamps = np.arange(1000 + first_seq, 1000 + first_seq + count)
    return TradesRecord(
        7, first_seq, 1, TradeColumns(("A",), index, stamps, np.ones(count), np.ones(count), (None,), index)
    )


def make(broker: Any, folder: Path, records: int = 4, spool_bytes: int = 10**6) -> tuple[Sender, Spool]:
    spool = Spool(folder, spool_bytes, segment_bytes=600, fsync="never")
    return Sender(broker.producer, "f.trades", spool, Bounds(records, 10**6), "f", "0/1"), spool


def seqs(broker: Any, partition: int) -> list[int]:
    """What a reader counts: sequence numbers above the highest seen."""
    found: list[int] = []
    for body in broker.bodies(partition):
        if isinstance(body, TradesRecord) and (not found or body.first_seq > found[-1]):
            found.append(body.first_seq)
    return found


@given(st.lists(st.sampled_from(["trades", "watermark", "pump", "away", "back", "fail"]), max_size=80))
@settings(max_examples=30, deadline=None)
def test_whatever_happens_order_is_kept_and_loss_is_told(
    new_broker: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Outages and failing producers in any order: each record counts once, in order, or is inside a gap's count."""
    broker = new_broker()
    sender, spool = make(broker, tmp_path_factory.mktemp("spool"), spool_bytes=900)
    offered, refused = 0, []
    for step in steps:
        if step == "trades":
            if not sender.send_trades(0, trades(offered)):
                refused.append(offered)
            offered += 3
        elif step == "watermark":
            sender.send_control(0, Watermark((7,), 1000 + offered))
        elif step == "pump":
            sender.pump()
        elif step == "fail":
            sender.producer.failure = Unavailable("Kafka", "here", "test")
            sender._failed_over_s = float("-inf")
        else:
            broker.answers = step == "back"
    broker.answers = True
    sender._failed_over_s = float("-inf")
    while not sender.idle:
        sender.pump()
    assert seqs(broker, 0) == [seq for seq in range(0, offered, 3) if seq not in refused]
    assert sender.totals.published == offered - 3 * len(refused)
    assert sender.totals.dropped == 3 * len(refused)
    assert sender.unacknowledged_trades == 0
    gaps = [body for body in broker.bodies(0) if isinstance(body, Gap)]
    assert sum(gap.dropped for gap in gaps) == sender.totals.dropped
    told: set[int] = set()
    for body in broker.bodies(0):
        if isinstance(body, TradesRecord):
            told.update(body.trades.event_ts.tolist())
        elif isinstance(body, Gap):
            told.update(range(body.from_ts, body.to_ts + 1))
        elif isinstance(body, Watermark):
            assert told >= set(range(1000, body.event_ts)), "a watermark passed trades that were not told"
    assert spool.bytes_used == 0
    spool.close()


def test_a_watermark_never_overtakes_trades(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """While anything waits in the spool everything queues behind it; callbacks come with the offsets."""
    broker = new_broker()
    broker.answers = False
    sender, spool = make(broker, tmp_path, records=2)
    told: list[int] = []
    for number in range(6):
        assert sender.send_trades(0, trades(number * 3), "trace")
    assert sender.send_control(0, Watermark((7,), 5), told.append)
    assert not sender.has_room
    assert spool.records_waiting == 5
    broker.answers = True
    while not sender.idle:
        sender.pump()
    assert isinstance(broker.bodies(0)[-1], Watermark)
    assert told == [6]
    assert seqs(broker, 0) == [0, 3, 6, 9, 12, 15]
    spool.close()


async def test_a_failed_producer_is_replaced_once_a_second(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """What it had not got acknowledged goes first, then the new; the old one is let go."""
    broker = new_broker()
    broker.answers = False
    sender, spool = make(broker, tmp_path)
    sender.send_trades(0, trades(0))
    sender.producer.failure = Unavailable("Kafka", "here", "fenced")
    sender.send_trades(0, trades(3))
    sender.pump()
    assert len(broker.producers) == 2
    sender.producer.failure = Unavailable("Kafka", "here", "again")
    sender.pump()
    assert len(broker.producers) == 2
    sender.producer.failure = None
    broker.answers = True
    while not sender.idle:
        sender.pump()
    assert seqs(broker, 0) == [0, 3]
    await sender.close_retired()
    assert broker.producers[0].closed
    assert sender_module._FAILOVER_PAUSE_S == 1.0
    spool.close()


def test_what_is_left_at_the_end_goes_to_the_spool(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """A stop while Kafka is away loses nothing: the next start finds the trades."""
    broker = new_broker()
    broker.answers = False
    sender, spool = make(broker, tmp_path)
    sender.send_trades(1, trades(0))
    sender.send_control(1, Watermark((7,), 5))
    assert sender.keep_unacknowledged() == 1
    spool.close()
    again = Spool(tmp_path, 10**6)
    (left,) = again.leftover()
    body = decode_body(left.headers[KIND_HEADER], left.value)
    assert isinstance(body, TradesRecord)
    assert (left.partition, body.first_seq, len(body.trades)) == (1, 0, 3)
    again.close()


def test_what_was_being_drained_at_the_end_is_in_the_spool_once(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """Records read from the spool stay on disk until they are acknowledged; they must not be written there again."""
    broker = new_broker()
    broker.answers = False
    sender, spool = make(broker, tmp_path, records=2)
    for number in range(6):
        sender.send_trades(0, trades(number * 3))
    broker.answers = True
    sender.producer.poll()
    broker.answers = False
    sender.pump()
    assert (sender.totals.drained, spool.records_waiting) == (2, 2)
    assert sender.keep_unacknowledged() == 0
    spool.close()
    again = Spool(tmp_path, 10**6)
    left = [decode_body(one.headers[KIND_HEADER], one.value) for one in again.leftover()]
    assert [body.first_seq for body in left if isinstance(body, TradesRecord)] == [6, 9, 12, 15]
    again.close()


def test_what_was_sent_before_an_outage_is_found_before_what_was_spooled(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """The next start publishes a spool as it finds it, and trades of one stamp must keep their order."""
    broker = new_broker()
    broker.answers = False
    sender, spool = make(broker, tmp_path, records=2)
    for number in range(5):
        sender.send_trades(0, trades(number * 3))
    assert sender.keep_unacknowledged() == 2
    spool.close()
    again = Spool(tmp_path, 10**6)
    left = [decode_body(one.headers[KIND_HEADER], one.value) for one in again.leftover()]
    assert [body.first_seq for body in left if isinstance(body, TradesRecord)] == [0, 3, 6, 9, 12]
    again.close()
