"""A log in memory that keeps the producer's contract, for the tests of what writes to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Body, Logged
from marketfeed.ingest.sender import OnLogged
from marketfeed.wire.records import KIND_HEADER, decode_body


@dataclass
class Broker:
    """Partitions of `f.trades` and `f.control`, and whether they answer."""

    log: dict[tuple[str, int], list[tuple[str, bytes, int]]] = field(default_factory=dict)
    answers: bool = True
    producers: list[MemoryProducer] = field(default_factory=list)

    def producer(self) -> MemoryProducer:
        self.producers.append(MemoryProducer(self))
        return self.producers[-1]

    def append(self, topic: str, partition: int, kind: str, value: bytes) -> int:
        records = self.log.setdefault((topic, partition), [])
        records.append((kind, value, time.time_ns()))
        return len(records) - 1

    def bodies(self, partition: int, topic: str = "f.trades") -> list[Body]:
        return [decode_body(kind, value) for kind, value, _ in self.log.get((topic, partition), [])]

    def reader(self, topic: str) -> MemoryReader:
        return MemoryReader(self, topic)


class MemoryReader:
    """Reads the log in memory as `LogConsumer` reads Kafka."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self.positions: dict[int, int] = {}

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        self.positions = dict(positions)

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        await asyncio.sleep(0.002)
        found: list[Logged] = []
        for partition, position in self.positions.items():
            records = self._broker.log.get((self._topic, partition), [])
            for offset in range(position, min(len(records), position + max_records)):
                kind, value, append_ts = records[offset]
                found.append(Logged(partition, offset, append_ts, decode_body(kind, value)))
                self.positions[partition] = offset + 1
        return found

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        return {partition: 0 for topic, partition in self._broker.log if topic == self._topic}

    async def begin_offsets(self) -> dict[int, int]:
        return {0: 0}

    async def end_offsets(self) -> dict[int, int]:
        return {0: len(self._broker.log.get((self._topic, 0), []))}

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class Sent:
    topic: str
    partition: int
    value: bytes
    headers: list[tuple[str, str]]
    on_ack: OnLogged | None


class MemoryProducer:
    """A log in memory with the producer's contract: in order, kept until acknowledged."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: list[Sent] = []
        self.failure: Unavailable | None = None
        self.closed = False

    @property
    def buffered_records(self) -> int:
        return len(self._waiting)

    @property
    def buffered_bytes(self) -> int:
        return sum(len(sent.value) for sent in self._waiting)

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Mapping[str, str] | None = None,
        on_ack: OnLogged | None = None,
    ) -> None:
        self.resend(Sent(topic, partition, value, list((headers or {}).items()), on_ack))

    def resend(self, sent: Any) -> None:
        assert self.failure is None
        self._waiting.append(sent)

    def unacknowledged(self) -> list[Any]:
        return list(self._waiting)

    def poll(self) -> int:
        served = 0
        while self._waiting and self._broker.answers and self.failure is None:
            sent = self._waiting.pop(0)
            offset = self._broker.append(sent.topic, sent.partition, dict(sent.headers)[KIND_HEADER], sent.value)
            served += 1
            if sent.on_ack is not None:
                sent.on_ack(offset)
        return served

    async def close(self, timeout_s: float = 5.0) -> int:
        self.closed = True
        return len(self._waiting)


@pytest.fixture(scope="session")
def new_broker() -> Callable[[], Broker]:
    """Makes a log in memory."""
    return Broker
