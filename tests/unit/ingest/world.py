"""A small world in virtual time: a feed, a log, and ingest processes that are slow, stand still, die and come back.

The processes are the real parts of ingest (claims, take-over, buffer, spool, cutter, sender, pipeline), each on an
event loop of its own that the world runs a little at a time, so that one can stand still while the others go on. Only
the sockets are played: the log delivers and acknowledges when the dice say so, keeps what a dying process had on its
way or loses it, and a feed's connection delivers late, breaks and returns. A seed makes one history, always the same.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from marketfeed.domain import claims, ownership
from marketfeed.domain.claims import Claimant
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Gap, Logged, Takeover, TradesRecord
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import NANOS, SymbolTable
from marketfeed.ingest import owner, pipeline, readback, sender, takeover
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.owner import Owner
from marketfeed.ingest.pipeline import Pipeline, PipelineOptions
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Bounds, Sender
from marketfeed.ingest.spill import Spill
from marketfeed.ingest.spool import Spool
from marketfeed.ingest.takeover import TakeoverDesk
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.records import KIND_HEADER, decode_body

PARTITIONS = 2
SYMBOLS = ("A", "B", "C", "D", "E")
STEP_S = 0.1
LATE_MS = 101
EPOCH_S = 1_700_000_000
# Turns of a process' loop in a step: enough for a take-over to get on, not so many that nothing else comes between.
_TURNS = 5

Trade = tuple[str, int, float]


class Clock:
    """The world's time, in the place of the module `time`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def perf_counter(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return EPOCH_S * NANOS + round(self.now_s * 1e9)


@contextmanager
def virtual_time(*, short: bool = False) -> Iterator[Clock]:
    """All of ingest reads this clock. `short`: of the log seconds are read back, where it would be two minutes."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        if short:
            patch.setattr(claims, "TAKEOVER_EVERY_S", 5.0)
            for reading in (readback, ownership):
                patch.setattr(reading, "LEARN_NS", 7 * NANOS)
            for module in (readback, takeover, owner):
                patch.setattr(module, "READ_BACK_NS", 20 * NANOS)
        for module in (owner, pipeline, sender, takeover):
            patch.setattr(module, "time", clock)
        patch.setattr(readback, "_RETRY_S", STEP_S)
        yield clock


class _NoWaiting(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is the world's and that never waits for it."""

    def __init__(self, clock: Clock) -> None:
        self._world_clock = clock
        super().__init__(_NoWaiting())

    def time(self) -> float:
        return self._world_clock.now_s

    def turn(self) -> None:
        """Run what is ready."""
        self.call_soon(self.stop)
        self.run_forever()


@dataclass(eq=False)
class Sent:
    topic: str
    partition: int
    value: bytes
    headers: list[tuple[str, str]]
    on_ack: Any
    arrives_s: float = 0.0
    offset: int | None = None
    acked_s: float = 0.0


class Line:
    """A producer: in order, late, kept until acknowledged; re-sent by the next one when it fails."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: deque[Sent] = deque()
        self._last_s = 0.0
        self.failure: Unavailable | None = None
        self.dead = False
        world.lines.append(self)

    @property
    def buffered_records(self) -> int:
        return len(self._waiting)

    @property
    def buffered_bytes(self) -> int:
        return sum(len(sent.value) for sent in self._waiting)

    def send(
        self, topic: str, partition: int, value: bytes, headers: Mapping[str, str] | None = None, on_ack: Any = None
    ) -> None:
        self.resend(Sent(topic, partition, value, list((headers or {}).items()), on_ack))

    def resend(self, sent: Sent) -> None:
        assert self.failure is None
        again = Sent(sent.topic, sent.partition, sent.value, sent.headers, sent.on_ack)
        self._last_s = max(self._last_s, self._world.clock.now_s + self._world.latency_s())
        again.arrives_s = self._last_s
        self._waiting.append(again)

    def unacknowledged(self) -> list[Any]:
        return list(self._waiting)

    def poll(self) -> int:
        served = 0
        while (
            self._waiting
            and (first := self._waiting[0]).offset is not None
            and first.acked_s <= self._world.clock.now_s
        ):
            self._waiting.popleft()
            served += 1
            if first.on_ack is not None:
                first.on_ack(first.offset)
        return served

    def deliver(self) -> None:
        """What has been on its way long enough is in the log."""
        now_s = self._world.clock.now_s
        for sent in self._waiting:
            if sent.offset is not None:
                continue
            if sent.arrives_s > now_s or now_s < self._world.broker_away_until_s:
                break
            sent.offset = self._world.append(sent)
            sent.acked_s = now_s + self._world.latency_s()

    def cut(self, arriving: int) -> None:
        """The process is gone: so many more of its records arrive, the others never."""
        left = [sent for sent in self._waiting if sent.offset is None]
        for sent in left[arriving:]:
            self._waiting.remove(sent)

    async def close(self, timeout_s: float = 5.0) -> int:
        return len(self._waiting)


class Reader:
    """Reads the log as `LogConsumer` does, some records at a time."""

    def __init__(self, world: World, topic: str) -> None:
        self._world = world
        self._topic = topic
        self.positions: dict[int, int] = {}

    def _log(self, partition: int) -> list[Logged]:
        return self._world.log.setdefault((self._topic, partition), [])

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        self.positions = dict(positions)

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        await asyncio.sleep(0)
        if self._world.clock.now_s < self._world.broker_away_until_s:
            await asyncio.sleep(STEP_S)
            raise Unavailable("Kafka", "here", "away")
        found: list[Logged] = []
        for partition, position in self.positions.items():
            some = self._log(partition)[position : position + self._world.rng.randint(1, 60)]
            found += some
            self.positions[partition] = position + len(some)
        if not found:
            await asyncio.sleep(STEP_S / 2)
        return found

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        await asyncio.sleep(0)
        found = {}
        for partition in range(PARTITIONS):
            log = self._log(partition)
            found[partition] = next((r.offset for r in log if r.append_ts >= ts_ns), len(log))
        return found

    async def begin_offsets(self) -> dict[int, int]:
        await asyncio.sleep(0)
        return {0: 0}

    async def end_offsets(self) -> dict[int, int]:
        await asyncio.sleep(0)
        return {0: len(self._log(0))}

    async def close(self) -> None:
        pass


class Process:
    """One ingest: its parts wired as the service wires them, its connection, its loop."""

    def __init__(self, world: World, shard: str, member: int, name: str) -> None:
        self.world, self.shard, self.member, self.name = world, shard, member, name
        self.loop = Loop(world.clock)
        folder = world.folder / f"{shard}-{member}"
        self.spool = Spool(folder, 10**6, fsync="never")
        # The broker is given little memory now and then, so that the spool and the buffer's disk have their part.
        memory = world.rng.choice([8, 1000])
        self.sender = Sender(lambda: Line(world), "f.trades", self.spool, Bounds(memory, 10**6), "f", shard)
        table = SymbolTable()
        self.cutter = Cutter(table, PARTITIONS)
        spill = Spill(folder / "standby", 10**7, segment_bytes=2000)
        self.buffer = StandbyBuffer(world.rng.choice([20, 10**6]), spill)
        options = PipelineOptions(flush_interval_s=STEP_S, flush_bytes=100_000, dedup=True)
        self.pipeline = Pipeline(table, self.cutter, self.sender, self.buffer, Quarantine(5), options)
        self.claimant = Claimant(shard, name, limit=world.limit)
        self.desk = TakeoverDesk(
            self.cutter, self.sender, self.pipeline, self.buffer, self.spool, lambda: Reader(world, "f.trades"), shard
        )
        control = Reader(world, "f.control")
        self.owner = Owner(
            self.claimant, control, "f.control", "f", self.cutter, self.sender, self.pipeline, self.buffer, self.desk,
            self.follow,
        )  # fmt: skip
        self.lag_s = world.rng.choice([0.0, 0.1, 0.3])
        self.still_until_s = 0.0
        self.away_until_s: float | None = None
        self.subscribed: dict[str, float] = {}  # symbol -> from when on the feed sends it
        self.received: Counter[Trade] = Counter()
        self.frames: deque[tuple[float, dict[str, float], bytes]] = deque()
        self.inbox: deque[tuple[float, bytes]] = deque()
        self.revision = -1
        self.adopt()
        self.connect()
        self.task = self.loop.create_task(self.run())

    async def run(self) -> None:
        async with TaskKit(self.name) as tasks:
            tasks.spawn("flush", self.pipeline.run())
            tasks.spawn("control", self.owner.follow_control(tasks))
            await self.owner.run(tasks)

    def adopt(self) -> None:
        """The plan's file has changed."""
        if self.revision != self.world.revision:
            self.revision = self.world.revision
            self.claimant.want([s for s, shard in self.world.plan.items() if shard == self.shard])
            self.follow()

    def follow(self) -> None:
        followed = self.claimant.followed()
        if followed != self.pipeline.followed:
            self.pipeline.follow(followed)
            begins_s = self.world.clock.now_s + self.world.rng.choice([0.0, 0.2])
            self.subscribed = {s: self.subscribed.get(s, begins_s) for s in followed}

    def connect(self) -> None:
        self.away_until_s = None
        begins_s = self.world.clock.now_s + 0.1
        self.subscribed = dict.fromkeys(self.claimant.followed(), begins_s)
        self.pipeline.on_open()

    def disconnect(self, until_s: float) -> None:
        """What was on its way is gone."""
        if self.away_until_s is None:
            self.pipeline.on_lost("played")
        self.inbox.clear()
        self.subscribed = {}
        self.away_until_s = until_s

    def hear(self, trades: list[Trade]) -> set[str]:
        """The feed sends what is subscribed to; a process that stands still finds it later. Returns whose it sent."""
        now_s = self.world.clock.now_s
        mine = [t for t in trades if self.subscribed.get(t[0], now_s + 1) <= now_s]
        if mine:
            data = [{"s": s, "p": p, "t": t, "v": 1, "c": None} for s, t, p in mine]
            self.inbox.append((now_s + self.lag_s, json.dumps({"type": "trade", "data": data}).encode()))
            self.received.update((s, t * 1_000_000, p) for s, t, p in mine)
        return {symbol for symbol, _, _ in mine}

    def turn(self) -> None:
        now_s = self.world.clock.now_s
        if now_s < self.still_until_s:
            return
        if self.away_until_s is not None and self.away_until_s <= now_s:
            self.connect()
        while self.inbox and self.inbox[0][0] <= now_s:
            self.pipeline.on_frame(self.inbox.popleft()[1], self.world.clock.time_ns())
        if self.world.rng.random() < 0.2:
            self.adopt()
        for _ in range(_TURNS):
            self.loop.turn()
        if self.task.done():
            self.task.result()

    def die(self) -> None:
        """As kill -9: its disk stays, of what was on its way some arrives."""
        for line in (self.sender.producer, *self.sender._retired):
            assert isinstance(line, Line)
            line.cut(self.world.rng.randint(0, line.buffered_records))
        self.task.cancel()
        for _ in range(20):
            self.loop.turn()
        self.loop.close()
        self.buffer.clear()  # its files are open
        self.spool.close()


@dataclass
class World:
    """See the module. `limit`: symbols that a connection may have, 0 for any number."""

    seed: int
    clock: Clock
    folder: Path
    limit: int = 0
    log: dict[tuple[str, int], list[Logged]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    emitted: Counter[Trade] = field(default_factory=Counter)
    plan: dict[str, str] = field(default_factory=dict)
    revision: int = 0
    started: int = 0
    broker_away_until_s: float = 0.0
    very_late_ms: int = 2503
    closed: bool = False  # nothing is traded any more

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def latency_s(self) -> float:
        return self.rng.choice([0.0, 0.0, 0.05, 0.3])

    def append(self, sent: Sent) -> int:
        log = self.log.setdefault((sent.topic, sent.partition), [])
        body = decode_body(dict(sent.headers)[KIND_HEADER], sent.value)
        log.append(Logged(sent.partition, len(log), self.clock.time_ns(), body))
        return len(log) - 1

    def start(self, shard: str, member: int = 0) -> Process:
        self.started += 1
        process = Process(self, shard, member, f"p{self.started}")
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        process.die()
        self.processes.remove(process)

    def replan(self, plan: dict[str, str]) -> None:
        self.plan = dict(plan)
        self.revision += 1

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def step(self) -> None:
        """The feed sends, the log takes what arrives, every process has a turn, in any order."""
        self.clock.now_s += STEP_S
        trades = self._trades()
        handed = set().union(*(process.hear(trades) for process in self.processes))
        self.emitted.update((s, t * 1_000_000, p) for s, t, p in trades if s in handed)
        for line in self.lines:
            line.deliver()
        for process in self.rng.sample(self.processes, len(self.processes)):
            process.turn()

    def _trades(self) -> list[Trade]:
        """Some are equal in every field, some are stamped late."""
        now_ms = self.clock.time_ns() // 1_000_000
        found: list[Trade] = []
        for _ in range(0 if self.closed else self.rng.randint(0, 3)):
            # Never a multiple of a step: two frames of one trade each, alike in every byte, are taken to be a repeat.
            late_ms = self.rng.choice([0, 0, 0, 0, 0, LATE_MS, self.very_late_ms])
            one = (self.rng.choice(SYMBOLS), now_ms - late_ms, self.rng.choice([1.0, 2.0]))
            found += [one] * self.rng.choice([1, 1, 1, 2])
        return found

    def drain(self) -> None:
        """No more trades; all that was received is sent, which with little memory may take a while."""
        self.closed = True
        self.run(3)
        for _ in range(100):
            if all(process.sender.idle for process in self.processes):
                return
            self.run(1)

    def stop(self) -> None:
        for process in tuple(self.processes):
            self.kill(process)

    # What the history comes to

    def counted(self) -> tuple[Counter[Trade], list[Gap]]:
        """What every reader counts, and the gaps that it is told."""
        trades: Counter[Trade] = Counter()
        gaps: list[Gap] = []
        for partition in range(PARTITIONS):
            names = SymbolTable()
            log = self.log.get(("f.trades", partition), [])
            for event in PartitionReader(partition, names).read(log):
                if isinstance(event, TapeTrades):
                    rows = zip(event.symbol_id.tolist(), event.event_ts.tolist(), event.price.tolist(), strict=True)
                    trades.update((names.name(one), stamp, price) for one, stamp, price in rows)
            gaps += [record.body for record in log if isinstance(record.body, Gap)]
        return trades, gaps

    def excused(self, trades: Counter[Trade], gaps: list[Gap]) -> Counter[Trade]:
        """Those of the trades that a gap names, or would if its owner had known before how late trades can be."""
        return Counter(
            {
                (s, stamp, price): count
                for (s, stamp, price), count in trades.items()
                if any(s in gap.symbols and gap.from_ts - LATE_MS * 10**6 <= stamp <= gap.to_ts for gap in gaps)
            }
        )

    def owners(self) -> dict[str, list[str]]:
        """Symbol -> the shards of those who publish it, under the epoch that readers listen to."""
        listened: dict[str, int] = {}
        for partition in range(PARTITIONS):
            for record in self.log.get(("f.trades", partition), []):
                if isinstance(record.body, Takeover):
                    for symbol in record.body.symbols:
                        listened[symbol] = max(record.body.epoch, listened.get(symbol, -1))
        return {
            symbol: [p.shard for p in self.processes if p.cutter.owned.get(symbol) == listened.get(symbol, -1)]
            for symbol in SYMBOLS
        }

    def publishers(self, symbol: str) -> int:
        """How many processes publish it, listened to or not."""
        return sum(symbol in process.cutter.owned for process in self.processes)


def partitions_used() -> set[int]:
    """Where the symbols are."""
    return {partition_of(symbol, PARTITIONS) for symbol in SYMBOLS}


def records_of(world: World) -> int:
    """Trades records in the log: what a history is worth."""
    return sum(isinstance(r.body, TradesRecord) for p in range(PARTITIONS) for r in world.log.get(("f.trades", p), []))
