"""A sink's own view of the log: one consumer, the readers' rule for each partition, and where both stand.

What was trimmed away before it was read is told by the readers as a gap; a replaced log ends the session (LogReplaced),
as everything that was known about owners is void.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from marketfeed.adapters.kafka import LogAdmin, LogConsumer, trades_topic
from marketfeed.domain.errors import LogTrimmed, MalformedRecord
from marketfeed.domain.log import Logged
from marketfeed.domain.ownership import PartitionReader, PartitionState
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeEvent
from marketfeed.domain.trades import SymbolTable
from marketfeed.recorder import metrics
from marketfeed.runtime.logs import get_logger

# One fetch: with the largest records the broker takes (1 MiB) this bounds what is decoded at a time.
RECORDS_MAX = 500
# A flush comes a few times a second, so nobody is served by a fetch for every few records of a busy log.
FETCH_BYTES_MIN = 128 << 10

log = get_logger("recorder")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a poll brought: events by the readers' rule, and records that could not be read."""

    events: list[TapeEvent]
    malformed: list[MalformedRecord]
    records: int


class LogTail:
    """Follows all partitions of <feed>.trades for one sink. `start` comes first; call from one task."""

    def __init__(self, bootstrap: str, feed: str, sink: str) -> None:
        self.topic = trades_topic(feed)
        self.sink = sink
        self.symbols = SymbolTable()
        self.readers: dict[int, PartitionReader] = {}
        self.append_ts: dict[int, int] = {}
        self.traceparent: str | None = None
        self._admin = LogAdmin(bootstrap)
        self._consumer = LogConsumer(bootstrap, self.topic, fetch_bytes_min=FETCH_BYTES_MIN)
        self._seen: dict[tuple[int, str], int] = {}

    async def identity(self) -> tuple[str, int]:
        """(topic id, number of partitions) of the log. Raises Unavailable while it does not exist."""
        return await self._admin.topic_id(self.topic), await self._admin.partitions(self.topic)

    async def start(self, topic_id: str, states: Mapping[int, PartitionState], append_ts: Mapping[int, int]) -> None:
        """Read on from these states with a new symbol table. A partition that was never read begins at offset 0.

        Raises LogReplaced if the topic is another one, Unavailable.
        """
        self.symbols = SymbolTable()
        # A state at offset 0 that knows nothing is no state: the reader has to find out whether the log begins there.
        self.readers = {
            partition: PartitionReader(partition, self.symbols, state if state.next_offset else None)
            for partition, state in states.items()
        }
        self.append_ts = dict(append_ts)
        self._seen = {}
        await self._consumer.assign(self._next_offsets(), topic_id)

    def _next_offsets(self) -> dict[int, int]:
        return {partition: reader.next_offset for partition, reader in self.readers.items()}

    def position(self, topic_id: str, before: Position) -> Position:
        """How far the log was read; a partition that is learning its owners stands where it stood `before`."""
        offsets = {
            partition: before.offsets[partition] if reader.learning else reader.next_offset
            for partition, reader in self.readers.items()
        }
        return Position(topic_id, offsets)

    async def poll(self, timeout_s: float) -> Taken:
        """What the log brought within `timeout_s`: gathered until then, unless there is much. Raises LogReplaced and
        Unavailable; a trimmed log is passed over with a gap."""
        try:
            records = await self._consumer.poll(RECORDS_MAX, timeout_s, gather_s=timeout_s)
        except LogTrimmed as trimmed:
            log.warning("the log was trimmed before it was read", sink=self.sink, error=str(trimmed))
            self.readers[trimmed.partition].restart(trimmed.first)
            await self._consumer.assign(self._next_offsets(), self._consumer.topic_id)
            return Taken([], [], 0)
        return self._read(records)

    def _read(self, records: list[Logged]) -> Taken:
        by_partition: dict[int, list[Logged]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        events: list[TapeEvent] = []
        for partition, batch in by_partition.items():
            events += self.readers[partition].read(batch)
            self.append_ts[partition] = batch[-1].append_ts
            self.traceparent = batch[-1].headers.get("traceparent", self.traceparent)
        malformed = list(self._consumer.malformed)
        self._consumer.malformed.clear()
        for bad in malformed:
            self.readers[bad.partition].pass_malformed(bad.offset)
            metrics.MALFORMED.labels(self.sink).inc()
        self._count()
        return Taken(events, malformed, len(records))

    def _count(self) -> None:
        """Carry the readers' counters over to the metrics."""
        for partition, reader in self.readers.items():
            for reason in ("foreign", "repeat", "learning"):
                now = getattr(reader, f"ignored_{reason}")
                before = self._seen.get((partition, reason), 0)
                if now > before:
                    metrics.IGNORED.labels(self.sink, reason).inc(now - before)
                    self._seen[partition, reason] = now

    async def behind(self) -> int:
        """Records of the log not read yet. Raises Unavailable."""
        ends = await self._consumer.end_offsets()
        return sum(max(0, ends.get(p, 0) - offset) for p, offset in self._next_offsets().items())

    async def begin_offsets(self) -> dict[int, int]:
        """The first offset still in the log, of every partition."""
        return await self._consumer.begin_offsets()

    async def close(self) -> None:
        """Stop reading."""
        await self._consumer.close()
