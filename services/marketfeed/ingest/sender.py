"""From cut records to the log: memory, then the spool, then (and only then) loss that is counted and marked.

Rules of this file
- A record is cut once. Its bytes are kept until Kafka has acknowledged them, and are sent again unchanged and in order.
- One order for all: while the spool holds anything, new records queue behind it, watermarks and gaps among them. So a
  watermark never overtakes trades, and sequence numbers only grow.
- A producer that has failed is replaced; the new one first re-sends, in order, what the old one had not got
  acknowledged. The broker may thus log repeats; readers drop them by (epoch, seq).
- Beyond both bounds a record is refused. Of trades it is remembered what they were, and as soon as there is room a
  `Gap` says so, before anything else of that partition. A watermark that is refused is simply not said.

Claims and signs of life do not pass here: late ones are worthless, see `owner.py`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Gap, TradesBody, TradesRecord
from marketfeed.ingest.spool import Spool, SpooledRecord
from marketfeed.wire.records import FEED_HEADER, KIND_HEADER, SHARD_HEADER, TRACEPARENT_HEADER, encode_body

OnLogged = Callable[[int], None]

# A producer that fails again and again (a record that no broker takes) must not become a hot loop.
_FAILOVER_PAUSE_S = 1.0
# Read from the spool in one go, so that a slow disk holds up the feed for moments only; 200 MB/s at 20 ms a pump.
_DRAIN_BYTES = 4_000_000


class Producer(Protocol):
    """What is used of the log's writer; see `adapters.kafka.LogProducer`."""

    failure: Unavailable | None

    @property
    def buffered_records(self) -> int:
        """Records not acknowledged."""

    @property
    def buffered_bytes(self) -> int:
        """Their bytes."""

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Mapping[str, str] | None = None,
        on_ack: OnLogged | None = None,
    ) -> None:
        """Send a record."""

    def resend(self, sent: Any) -> None:
        """Send what another producer left."""

    def unacknowledged(self) -> list[Any]:
        """What is not acknowledged, in order."""

    def poll(self) -> int:
        """Serve acknowledgements."""

    async def close(self, timeout_s: float = 5.0) -> int:
        """Flush and let go."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for Kafka in memory: records, and bytes of their values."""

    records: int
    bytes: int


@dataclass(slots=True)
class Totals:
    """Counters since the start, of trades unless named otherwise; `spooled` and `drained` count records."""

    published: int = 0
    spooled: int = 0
    drained: int = 0
    dropped: int = 0
    drop_gaps: int = 0
    failovers: int = 0


@dataclass(slots=True)
class _Loss:
    """Trades of one partition for which there was no room."""

    symbols: set[str] = field(default_factory=set)
    from_ts: int = 1 << 62
    to_ts: int = 0
    trades: int = 0


@dataclass(slots=True)
class _Drained:
    """A record that was read from the spool and sent: its bytes, and whether they are in the log."""

    value: bytes
    logged: bool = False


class Sender:
    """Sends the records of one shard to `<feed>.trades`. Not thread-safe: the event loop's thread calls it."""

    def __init__(
        self, make_producer: Callable[[], Producer], topic: str, spool: Spool, bounds: Bounds, feed: str, shard: str
    ) -> None:
        self._make_producer = make_producer
        self.producer = make_producer()
        self._retired: list[Producer] = []
        self._failed_over_s = float("-inf")
        self._topic = topic
        self._spool = spool
        self._bounds = bounds
        self._headers = {FEED_HEADER: feed, SHARD_HEADER: shard}
        self._spooled: deque[OnLogged | None] = deque()  # of the records in the spool that were not read yet
        self._draining: deque[_Drained] = deque()  # of those read and not yet given back to the spool, in order
        self._losses: dict[int, _Loss] = {}
        self._progress_s = time.monotonic()
        self.unacknowledged_trades = 0
        self.totals = Totals()

    @property
    def stuck_s(self) -> float:
        """Seconds for which Kafka has acknowledged nothing although something waits; 0 when nothing waits."""
        return 0.0 if self.idle else time.monotonic() - self._progress_s

    @property
    def idle(self) -> bool:
        """Whether everything has been acknowledged."""
        return not self.producer.buffered_records and not self._spool.records_waiting and not self._losses

    @property
    def has_room(self) -> bool:
        """Whether a record would go to memory now, so that a caller that can wait does not use up the spool."""
        return not self._spool.records_waiting and self._memory_has(0)

    def send_trades(
        self, partition: int, record: TradesRecord, traceparent: str | None = None, on_logged: OnLogged | None = None
    ) -> bool:
        """Send trades; False if there was no room anywhere, and then a Gap will follow for them."""
        kind, value = encode_body(record)
        headers = {KIND_HEADER: kind, **self._headers}
        if traceparent is not None:
            headers[TRACEPARENT_HEADER] = traceparent
        trades = record.trades
        cut = SpooledRecord(partition, headers, value, len(trades))
        if self._confess(partition) and self._take(cut, on_logged):
            return True
        loss = self._losses.setdefault(partition, _Loss())
        loss.symbols.update(trades.symbols)
        loss.from_ts = min(loss.from_ts, int(trades.event_ts.min()))
        loss.to_ts = max(loss.to_ts, int(trades.event_ts.max()))
        loss.trades += len(trades)
        self.totals.dropped += len(trades)
        return False

    def send_control(self, partition: int, body: TradesBody, on_logged: OnLogged | None = None) -> bool:
        """Send a watermark, gap or take-over in the order of the trades; False if there is no room for it."""
        kind, value = encode_body(body)
        record = SpooledRecord(partition, {KIND_HEADER: kind, **self._headers}, value, 0)
        return self._confess(partition) and self._take(record, on_logged)

    def pump(self) -> None:
        """Serve acknowledgements, replace a failed producer, drain the spool into the room there is."""
        before = self.producer.buffered_records
        self.producer.poll()
        if self.producer.buffered_records < before or not before:
            self._progress_s = time.monotonic()
        if self.producer.failure is not None:
            self._fail_over()
        drained_bytes = 0
        while self._spool.records_waiting and self._memory_has(0) and drained_bytes < _DRAIN_BYTES:
            record = self._spool.read()
            drained_bytes += len(record.value) if record is not None else 0
            on_logged = self._spooled.popleft()
            mark = _Drained(record.value if record is not None else b"")
            self._draining.append(mark)
            if record is None:  # Damaged on disk meanwhile; the spool has counted it.
                self._drained(mark, None, -1)
                continue
            self.totals.drained += 1
            self._produce(record, lambda offset, mark=mark, told=on_logged: self._drained(mark, told, offset))  # type: ignore[misc]
        for partition in list(self._losses):
            self._confess(partition)

    def keep_unacknowledged(self) -> int:
        """At the end: write the trades that Kafka has not acknowledged to the spool; returns the records that fit.

        What is being drained is still there. What was sent before any of it goes before it, in the order of sending.
        """
        drained = {id(mark.value) for mark in self._draining}
        older: list[SpooledRecord] = []
        newer: list[SpooledRecord] = []
        into = older if drained or self._spool.records_waiting else newer
        for sent in self.producer.unacknowledged():
            headers = {name: str(value) for name, value in sent.headers}
            if id(sent.value) in drained:
                into = newer
            elif sent.topic == self._topic and headers.get(KIND_HEADER) == "trades":
                into.append(SpooledRecord(sent.partition, headers, sent.value, 0))
        return self._spool.keep_first(older) + sum(map(self._spool.append, newer))

    async def close_retired(self) -> None:
        """Let failed producers go; they hold threads."""
        while self._retired:
            await self._retired.pop().close(0.0)

    def _take(self, record: SpooledRecord, on_logged: OnLogged | None) -> bool:
        if not self._spool.records_waiting and self._memory_has(len(record.value)):
            self._produce(record, on_logged)
            return True
        if not self._spool.append(record):
            return False
        self._spooled.append(on_logged)
        self.totals.spooled += 1
        return True

    def _memory_has(self, more_bytes: int) -> bool:
        producer = self.producer
        return (
            producer.failure is None
            and producer.buffered_records < self._bounds.records
            and producer.buffered_bytes + more_bytes <= self._bounds.bytes
        )

    def _produce(self, record: SpooledRecord, on_logged: OnLogged | None) -> None:
        trades = record.trades
        self.unacknowledged_trades += trades

        def logged(offset: int) -> None:
            self.unacknowledged_trades -= trades
            self.totals.published += trades
            if on_logged is not None:
                on_logged(offset)

        self.producer.send(self._topic, record.partition, record.value, record.headers, logged)

    def _drained(self, mark: _Drained, on_logged: OnLogged | None, offset: int) -> None:
        """A record from the spool is in the log; the spool takes them back in reading order."""
        mark.logged = True
        done = 0
        while self._draining and self._draining[0].logged:
            self._draining.popleft()
            done += 1
        if done:
            self._spool.acknowledged(done)
        if on_logged is not None:
            on_logged(offset)

    def _confess(self, partition: int) -> bool:
        """Say what was dropped of a partition, if anything; False while there is no room even for that."""
        loss = self._losses.get(partition)
        if loss is None:
            return True
        gap = Gap(tuple(sorted(loss.symbols)), loss.from_ts, loss.to_ts, "dropped", loss.trades)
        kind, value = encode_body(gap)
        if not self._take(SpooledRecord(partition, {KIND_HEADER: kind, **self._headers}, value, 0), None):
            return False
        del self._losses[partition]
        self.totals.drop_gaps += 1
        return True

    def _fail_over(self) -> None:
        now_s = time.monotonic()
        if now_s - self._failed_over_s < _FAILOVER_PAUSE_S:
            return
        self._failed_over_s = now_s
        old, self.producer = self.producer, self._make_producer()
        for sent in old.unacknowledged():
            self.producer.resend(sent)
        self._retired.append(old)
        self.totals.failovers += 1
