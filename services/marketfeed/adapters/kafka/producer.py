"""The log's writer: every record is kept, bytes unchanged, until Kafka has acknowledged it.

Records go to explicit partitions, in order, idempotent and without a time limit. A full client queue delays a record
and never loses it. After an error that the client cannot mend the producer is dead (`failure`): make a new one and
`resend` the old one's `unacknowledged()` before anything new. The broker cannot drop the repeats among them; the
readers' rule does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from marketfeed.adapters.kafka.connection import CONNECTION, client_log
from marketfeed.domain.errors import Unavailable


@dataclass(slots=True, eq=False)
class Sent:
    """A record handed to a producer and not yet acknowledged."""

    topic: str
    partition: int
    value: bytes
    headers: list[tuple[str, str | bytes | None]]
    on_ack: Callable[[int], None] | None
    key: bytes | None = None


class LogProducer:
    """Writes records in order, each kept until it is acknowledged. Not thread-safe: one event loop's thread calls it.

    on_ack(offset) is called from within `poll`, `flush` or `close`, in order per partition.
    """

    def __init__(
        self, bootstrap: str, *, client_id: str = "marketfeed", linger_ms: int = 5, queue_bytes_max: int = 256 << 20
    ) -> None:
        self._bootstrap = bootstrap
        self._unacked: dict[int, Sent] = {}
        self._waiting: deque[int] = deque()
        self._next_token = 0
        self._bytes = 0
        self.failure: Unavailable | None = None
        self._producer = Producer(
            {
                **CONNECTION,
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "queue.buffering.max.kbytes": max(queue_bytes_max >> 10, 1),
                "queue.buffering.max.messages": 0,
                "error_cb": self._on_error,
                "logger": client_log,
            }
        )

    @property
    def buffered_records(self) -> int:
        """Records sent and not yet acknowledged."""
        return len(self._unacked)

    @property
    def buffered_bytes(self) -> int:
        """Their values' bytes."""
        return self._bytes

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Mapping[str, str] | None = None,
        on_ack: Callable[[int], None] | None = None,
        key: bytes | None = None,
    ) -> None:
        """Send a record; `on_ack` gets its offset. Raises Unavailable after a failure (the record was not taken)."""
        self.resend(Sent(topic, partition, value, list((headers or {}).items()), on_ack, key))

    def resend(self, sent: Sent) -> None:
        """Send what another producer left unacknowledged, bytes, headers and `on_ack` unchanged."""
        if self.failure is not None:
            raise self.failure
        token = self._next_token
        self._next_token = token + 1
        self._unacked[token] = sent
        self._bytes += len(sent.value)
        if self._waiting or not self._produce(token):
            self._waiting.append(token)

    def unacknowledged(self) -> list[Sent]:
        """The records not acknowledged, in the order in which they were sent."""
        return list(self._unacked.values())

    def poll(self) -> int:
        """Serve acknowledgements and errors without waiting; returns how many were served. Call it often."""
        served = self._producer.poll(0)
        while self._waiting and self.failure is None and self._produce(self._waiting[0]):
            self._waiting.popleft()
        return served

    async def flush(self, timeout_s: float) -> int:
        """Serve until all is acknowledged, the producer has failed or time is up; returns what is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self.poll()
        while self._unacked and self.failure is None and loop.time() < deadline:
            await asyncio.sleep(0.002)
            self.poll()
        return len(self._unacked)

    async def close(self, timeout_s: float = 5.0) -> int:
        """Flush and let go; returns how many records stay in `unacknowledged()`."""
        left = await self.flush(timeout_s)
        if self.failure is None:
            self.failure = Unavailable("Kafka producer", self._bootstrap, "it was closed")
        self._producer.purge()
        await asyncio.to_thread(self._producer.close)
        return left

    def _produce(self, token: int) -> bool:
        """Hand a record to the client; False when its queue is full."""
        sent = self._unacked[token]
        try:
            self._producer.produce(
                sent.topic,
                sent.value,
                key=sent.key,
                partition=sent.partition,
                headers=sent.headers,
                on_delivery=partial(self._delivered, token),
            )
        except BufferError:
            return False
        except KafkaException as error:
            self._fail(error.args[0])
        return True

    def _delivered(self, token: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._fail(error)
            return
        if self.failure is not None:  # Somebody else re-sends it, and is told then: `on_ack` is called once.
            return
        sent = self._unacked.pop(token)
        self._bytes -= len(sent.value)
        offset = message.offset()
        if sent.on_ack is not None and offset is not None:
            sent.on_ack(offset)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        """Records that fail stay unacknowledged; the first reason is kept."""
        if self.failure is None:
            self.failure = Unavailable("Kafka producer", self._bootstrap, error.str())
