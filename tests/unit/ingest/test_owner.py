"""Speaking for symbols, on a log in memory: one process after another, and one beside another.

The rules of claiming are tested in `domain`; here it is that what they say is done, and that every trade counts once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marketfeed.adapters.finnhub import SourceState
from marketfeed.domain import claims, heard, watermarks
from marketfeed.domain.claims import Claimant
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Alive, Claim, Gap, Logged, Takeover, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import SymbolTable, TradeColumns
from marketfeed.ingest import pipeline
from marketfeed.ingest.assignment import Assigner
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.owner import Owner
from marketfeed.ingest.pipeline import Pipeline, PipelineOptions
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.readback import ReadBack
from marketfeed.ingest.sender import Bounds, Sender
from marketfeed.ingest.settings import IngestSettings
from marketfeed.ingest.spill import Spill
from marketfeed.ingest.spool import Spool
from marketfeed.ingest.status import Parts, Status, symbols_hash
from marketfeed.ingest.takeover import TakeoverDesk
from marketfeed.runtime.health import Health
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.records import encode_body

PARTITIONS = 2
SYMBOLS = ("A", "B", "C", "D")


class Member:
    """One ingest process without its sockets."""

    def __init__(
        self, broker: Any, folder: Path, name: str, shard: str = "0/1", records: int = 1000, memory: int = 100_000
    ) -> None:
        self.broker = broker
        self.folder = folder
        self.spool = Spool(folder, 10**6, fsync="never")
        self.sender = Sender(broker.producer, "f.trades", self.spool, Bounds(records, 10**6), "f", shard)
        table = SymbolTable()
        self.cutter = Cutter(table, PARTITIONS)
        self.buffer = StandbyBuffer(memory, Spill(folder / "standby", 10**7, segment_bytes=2000))
        quarantine = Quarantine(10)
        options = PipelineOptions(flush_interval_s=0.005, flush_bytes=100_000, dedup=True)
        self.pipeline = Pipeline(table, self.cutter, self.sender, self.buffer, quarantine, options)
        self.pipeline.follow(SYMBOLS)
        self.claimant = Claimant(shard, name, SYMBOLS)
        desk = self.desk = TakeoverDesk(
            self.cutter, self.sender, self.pipeline, self.buffer, self.spool, lambda: broker.reader("f.trades"), shard
        )
        control = broker.reader("f.control")
        self.owner = Owner(
            self.claimant, control, "f.control", "f", self.cutter, self.sender, self.pipeline, self.buffer, desk,
            lambda: None,
        )  # fmt: skip
        self.status = Status(
            Parts(
                IngestSettings(), self.claimant, SourceState(), self.pipeline, self.cutter, self.sender, self.buffer,
                self.spool, quarantine, self.owner, Assigner(IngestSettings(symbols=SYMBOLS), 0, 1),
            ),
            Health("ingest"),
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async with TaskKit("member") as tasks:
            tasks.spawn("flush", self.pipeline.run())
            tasks.spawn("control", self.owner.follow_control(tasks))
            await self.owner.run(tasks)

    def start(self, group: asyncio.TaskGroup) -> Member:
        self.pipeline.on_open()
        self.task = group.create_task(self.run())
        return self

    async def die(self) -> None:
        """As kill -9: nothing is sent any more, what is in memory is gone, the spool stays."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
        self.spool.close()

    async def live(self) -> None:
        await until(lambda: self.claimant.phase == "live")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is awaited happens in code that tells nobody)
            await asyncio.sleep(0.005)


class Feed:
    """Trades that are all different, as a vendor would send them to each connection."""

    def __init__(self, delay_ms: int = 0) -> None:
        self.sent: list[float] = []
        self.delay_ms = delay_ms

    def send(self, *members: Member, trades: int = 20) -> None:
        price = len(self.sent) + 1.0
        now_ms = time.time_ns() // 1_000_000 - self.delay_ms
        data = [{"s": SYMBOLS[i % 4], "p": price + i, "t": now_ms, "v": 1, "c": None} for i in range(trades)]
        self.sent += [one["p"] for one in data]  # type: ignore[misc]
        for member in members:
            member.pipeline.on_frame(json.dumps({"type": "trade", "data": data}).encode(), time.time_ns())


def counted(broker: Any) -> tuple[list[float], list[Gap]]:
    """What every reader counts, and the gaps."""
    prices: list[float] = []
    gaps: list[Gap] = []
    for partition in range(PARTITIONS):
        tape = PartitionReader(partition, SymbolTable())
        for event in tape.read(read_all(broker, partition)):
            if isinstance(event, TapeTrades):
                prices += event.price.tolist()
        gaps += [body for body in broker.bodies(partition) if isinstance(body, Gap)]
    return sorted(prices), gaps


def read_all(broker: Any, partition: int) -> list[Any]:
    return [
        Logged(partition, offset, broker.log["f.trades", partition][offset][2], body)
        for offset, body in enumerate(broker.bodies(partition))
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of patience become tenths."""
    monkeypatch.setattr(heard, "QUIET_S", 0.35)
    monkeypatch.setattr(pipeline, "SUBSCRIBED_AFTER_NS", 20_000_000)
    monkeypatch.setattr(claims, "ALIVE_EVERY_S", 0.1)
    monkeypatch.setattr(claims, "WATERMARK_EVERY_S", 0.05)


async def test_the_first_start_claims_at_once_and_misses_nothing(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """What arrives before the claim is answered is buffered and published; no gap."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        member = Member(broker, tmp_path, "one").start(group)
        feed.send(member)
        await member.live()
        feed.send(member)
        await until(lambda: len(counted(broker)[0]) == 40)
        await until(lambda: any(isinstance(b, Alive) for b in broker.bodies(0, "f.control")))
        member.status.refresh()
        body = member.status.body()
        assert body["phase"] == "live"
        assert body["trades"]["published"] == 40
        assert body["epochs"] == [0]
        assert (body["symbols"]["owned"], body["owns_nothing"]) == (4, False)
        assert body["last_event_age_s"] < 5
        await member.die()
    assert counted(broker) == (feed.sent, [])
    assert all(body.watermark > 0 for body in broker.bodies(0, "f.control") if isinstance(body, Alive))
    assert symbols_hash(frozenset("AB")) == symbols_hash(frozenset("BA")) != symbols_hash(frozenset("A"))


async def test_a_claim_made_while_the_producer_is_being_replaced_is_sent_later(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """Whoever waits for the answer to a claim claims nothing else."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        member = Member(broker, tmp_path, "one")
        member.sender._failed_over_s = time.monotonic()
        member.sender.producer.failure = Unavailable("Kafka", "here", "fenced")
        member.start(group)
        await until(lambda: member.claimant.phase == "claiming")
        feed.send(member)
        await member.live()
        await until(lambda: len(counted(broker)[0]) == 20)
        await member.die()
    assert counted(broker) == (feed.sent, [])


async def test_a_take_over_without_room_for_its_marker_waits_for_it(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """Memory and spool are full when the claim is answered: nothing is published that nobody would count."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        member = Member(broker, tmp_path, "one")
        member.spool._bytes_max = 10
        bounds, member.sender._bounds = member.sender._bounds, Bounds(0, 0)
        member.start(group)
        await until(lambda: member.claimant.phase == "preparing")
        feed.send(member)
        await asyncio.sleep(0.1)
        assert not member.cutter.owned
        member.sender._bounds = bounds
        await member.live()
        await until(lambda: len(counted(broker)[0]) == 20)
        await member.die()
    assert counted(broker) == (feed.sent, [])


@pytest.mark.parametrize("memory", [100_000, 50], ids=["in memory", "mostly on disk"])
async def test_a_hot_standby_takes_over_without_gap_or_double(
    new_broker: Callable[[], Any], tmp_path: Path, memory: int
) -> None:
    """Both receive everything; the owner dies at some moment; the standby publishes what was not logged."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        standby = Member(broker, tmp_path / "b", "standby", memory=memory)
        owner = Member(broker, tmp_path / "a", "owner").start(group)
        await owner.live()
        standby.start(group)
        for _ in range(40):
            feed.send(owner, standby)
            await asyncio.sleep(0.01)
        await owner.die()
        for _ in range(20):
            feed.send(standby)
            await asyncio.sleep(0.01)
        await standby.live()
        assert standby.buffer.spill is not None
        assert (standby.buffer.spill._number > 0) == (memory == 50)
        assert len(standby.buffer) == 0
        assert not list((tmp_path / "b" / "standby").glob("*.spill"))
        feed.send(standby)
        await until(lambda: len(counted(broker)[0]) >= len(feed.sent))
        await standby.die()
    assert counted(broker) == (feed.sent, [])


async def test_what_a_first_owner_held_before_anybody_heard_of_it_lies_in_a_gap(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """Its marker is logged and its trades are on their way when it dies: the gap begins with the first of them."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path / "a", "first").start(group)
        feed.send(first)
        await until(lambda: any(isinstance(b, Takeover) for b in broker.bodies(0)))
        broker.answers = False
        feed.send(first)
        await until(lambda: first.sender.unacknowledged_trades or first.buffer)
        await first.die()
        first.sender.producer._waiting.clear()  # type: ignore[attr-defined]
        broker.answers = True
        assert not any(isinstance(b, Alive) for b in broker.bodies(0, "f.control"))
        second = Member(broker, tmp_path / "b", "second").start(group)
        began_ts = time.time_ns()
        while second.claimant.phase != "live":
            feed.send(second)
            await asyncio.sleep(0.02)
        await until(lambda: {symbol for gap in counted(broker)[1] for symbol in gap.symbols} == set(SYMBOLS))
        await second.die()
    [claim, *_] = [b for b in broker.bodies(0, "f.control") if isinstance(b, Claim)]
    for gap in counted(broker)[1]:
        assert gap.reason == "restart"
        assert gap.from_ts == claim.held_from_ts < began_ts < gap.to_ts < began_ts + 200_000_000
    assert counted(broker)[0][-1] == feed.sent[-1]


async def test_a_restart_publishes_its_spool_and_marks_what_was_lost(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """Killed while Kafka is away: the spool counts once, what was in memory lies inside the gap."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path, "first", records=6).start(group)
        await first.live()
        feed.send(first)
        await until(lambda: len(counted(broker)[0]) == 20)
        await until(lambda: first.pipeline.acked.value == first.pipeline.clock.value)
        broker.answers = False
        for _ in range(30):
            feed.send(first)
            await asyncio.sleep(0.01)
        assert first.spool.records_waiting > 10
        in_memory = first.sender.unacknowledged_trades
        await first.die()
        broker.answers = True
        second = Member(broker, tmp_path, "second").start(group)
        assert second.spool.has_leftover
        feed.send(second)
        await second.live()
        feed.send(second)
        await until(lambda: len(counted(broker)[0]) == len(feed.sent) - in_memory)
        assert not second.spool.has_leftover
        await second.die()
    prices, gaps = counted(broker)
    assert len(prices) == len(set(prices)) == len(feed.sent) - in_memory
    assert set(prices) <= set(feed.sent)
    assert {gap.reason for gap in gaps} == {"restart"}
    assert {symbol for gap in gaps for symbol in gap.symbols} == set(SYMBOLS)


async def test_a_spool_is_kept_for_the_symbols_that_are_taken_over_later(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """A plan may give them back one after the other."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path, "first", records=0).start(group)
        broker.answers = False
        first.cutter.publish(SYMBOLS, 0)
        feed.send(first)
        await until(lambda: first.spool.records_waiting)
        await first.die()
        broker.answers = True
        second = Member(broker, tmp_path, "second")
        second.claimant.want(["A", "B"])
        second.start(group)
        await second.live()
        assert second.spool.has_leftover
        second.claimant.want(SYMBOLS)
        await until(lambda: not second.spool.has_leftover)
        await second.live()
        await second.die()
    assert counted(broker)[0] == feed.sent


async def test_a_delayed_feed_is_not_counted_twice_when_a_symbol_moves(
    new_broker: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the log holds is found by stamps, and these may be minutes behind our clock."""
    monkeypatch.setattr(watermarks, "DELAY_MAX_NS", 200_000_000)
    broker, feed = new_broker(), Feed(delay_ms=40_000)
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path / "a", "first", "0/2").start(group)
        await first.live()
        second = Member(broker, tmp_path / "b", "second", "1/2")
        second.claimant.want(["D"])
        first.claimant.want(["A", "B", "C"])
        second.start(group)
        for _ in range(100):
            feed.send(first, second)
            await asyncio.sleep(0.01)
            if "D" not in first.cutter.owned:
                break
        assert set(second.cutter.owned) == {"D"}
        await until(lambda: len(counted(broker)[0]) >= len(feed.sent))
        await first.die()
        await second.die()
    assert counted(broker)[0] == feed.sent


async def test_leaving_in_order_lets_the_next_start_at_once(new_broker: Callable[[], Any], tmp_path: Path) -> None:
    """An empty Alive: nobody has to wait for silence."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path, "first").start(group)
        await first.live()
        feed.send(first)
        await until(lambda: len(counted(broker)[0]) == 20)
        first.pipeline.send_watermarks()
        assert first.task is not None
        await until(lambda: first.sender.idle)
        first.task.cancel()
        await asyncio.wait([first.task])
        await first.owner.leave(1.0)
        first.spool.close()
        started_s = time.monotonic()
        second = Member(broker, tmp_path, "second").start(group)
        await second.live()
        assert time.monotonic() - started_s < 0.3
        await second.die()
    bodies = broker.bodies(0, "f.control")
    last = max(i for i, body in enumerate(bodies) if isinstance(body, Alive) and body.instance == "first")
    assert bodies[last].epochs == ()
    assert bodies[last - 1].watermark == first.pipeline.clock.value


async def test_a_symbol_that_moves_to_another_shard_is_served_until_that_is_live(
    new_broker: Callable[[], Any], tmp_path: Path
) -> None:
    """The plan gives D to the second shard: claimed, taken over, and let go; everything counts once, no gap."""
    broker, feed = new_broker(), Feed()
    async with asyncio.TaskGroup() as group:
        first = Member(broker, tmp_path / "a", "first", "0/2").start(group)
        await first.live()
        second = Member(broker, tmp_path / "b", "second", "1/2")
        second.claimant.want(["D"])
        first.claimant.want(["A", "B", "C"])
        for _ in range(5):
            feed.send(first)
            await asyncio.sleep(0.01)
        second.start(group)
        for _ in range(100):
            feed.send(first, second)
            await asyncio.sleep(0.01)
            if "D" not in first.cutter.owned:
                break
        assert set(first.cutter.owned) == {"A", "B", "C"}
        assert set(second.cutter.owned) == {"D"}
        for _ in range(5):
            feed.send(first, second)
        await until(lambda: len(counted(broker)[0]) >= len(feed.sent))
        await first.die()
        await second.die()
    assert counted(broker) == (feed.sent, [])


async def test_reading_back_counts_by_the_readers_rule_up_to_the_markers(new_broker: Callable[[], Any]) -> None:
    """Of our symbols, of stamps that could match, what counts before the marker; a zombie's trades do not."""
    broker = new_broker()
    name = next(symbol for symbol in SYMBOLS if partition_of(symbol, PARTITIONS) == 0)

    def append(body: Takeover | TradesRecord | Watermark) -> int:
        return int(broker.append("f.trades", 0, *encode_body(body)))

    def trades(epoch: int, first_seq: int, symbol: str, *stamps: int) -> TradesRecord:
        index = np.zeros(len(stamps), np.uint32)
        ones = np.ones(len(stamps))
        columns = TradeColumns((symbol,), index, np.array(stamps), ones, ones, (None,), index)
        return TradesRecord(epoch, first_seq, 1, columns)

    append(Takeover(3, (name, "other")))
    append(trades(3, 0, name, 100, 200, 300))
    append(trades(3, 3, "other", 300))
    append(trades(3, 0, name, 100, 200, 300))  # sent again
    append(Takeover(5, (name,)))
    append(trades(3, 4, name, 400))  # a zombie
    append(trades(5, 0, name, 500))
    marker = append(Takeover(9, (name,)))
    append(trades(5, 1, name, 600))  # came too late
    back = ReadBack(lambda: broker.reader("f.trades"), [name], [0], 0)
    found = await back.up_to({0: marker})
    assert found.symbols == (name,)
    assert found.event_ts.tolist() == [100, 200, 300, 500]
    append(trades(9, 0, name, 700))
    assert (await back.up_to({0: marker + 3})).event_ts.tolist() == [100, 200, 300, 500, 700]
    assert back.serves([name], [0], 5)
    assert not back.serves([name, "other"], [0], 5)
    assert not back.serves([name], [0, 1], 5)
    assert not back.serves([name], [0], -1)
    await back.close()
    begins = {0: 3}
    reader = broker.reader("f.trades")

    async def later(_: int) -> dict[int, int]:
        return begins

    reader.offsets_for_time = later
    learning = await ReadBack(lambda: reader, [name], [0], 0).up_to({0: marker})
    assert len(learning) == 0
    knowing = await ReadBack(lambda: reader, [name], [0], 0, {name: 3}).up_to({0: marker})
    assert knowing.event_ts.tolist() == [100, 200, 300, 500, 700]  # sent again, and counted before


async def test_what_was_read_ahead_is_read_on_up_to_the_markers(
    new_broker: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A silent owner's log is read before its time is up, by one reader; when it speaks again that is let go."""
    monkeypatch.setattr(claims, "SUSPECT_S", 0.3)
    monkeypatch.setattr(heard, "QUIET_S", 2.0)
    broker, feed, opened = new_broker(), Feed(), 0
    async with asyncio.TaskGroup() as group:
        owner = Member(broker, tmp_path / "a", "owner").start(group)
        await owner.live()
        standby = Member(broker, tmp_path / "b", "standby")
        open_reader = standby.desk._open_reader

        def counting() -> Any:
            nonlocal opened
            opened += 1
            return open_reader()

        monkeypatch.setattr(standby.desk, "_open_reader", counting)
        standby.start(group)
        for _ in range(40):
            feed.send(owner, standby)
            await asyncio.sleep(0.01)
        assert standby.desk._ahead_task is None
        await owner.die()
        await until(lambda: standby.desk._ahead is not None)
        assert standby.claimant.phase == "standby"
        feed.send(standby)
        await standby.live()
        assert opened == 1
        await until(lambda: standby.desk._ahead_task is None)
        await until(lambda: len(counted(broker)[0]) >= len(feed.sent))
        await standby.die()
    assert counted(broker) == (feed.sent, [])
