"""The log's reader: assigned partitions of one topic from given offsets, decoded in a worker thread.

There is no consumer group: positions belong to whoever stores what was read. A position that is not in the log is an
error (`LogTrimmed`, or `LogReplaced` when the topic's id has changed), never a silent jump. The topic's id is checked
by `assign`, whenever a position turns out to be wrong, and when nothing has come for a while: of a topic that was
deleted and made anew the client says nothing. What is fetched ahead is bounded in bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from marketfeed.adapters.kafka.admin import LogAdmin
from marketfeed.adapters.kafka.connection import CONNECTION, client_log
from marketfeed.domain.errors import LogReplaced, LogTrimmed, MalformedRecord, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.wire.records import KIND_HEADER, decode_body

MALFORMED_KEPT = 1000
IDLE_CHECK_S = 5.0
# How long the broker holds a fetch for which it has less than `fetch_bytes_min`.
FETCH_WAIT_MS = 100


class LogConsumer:
    """Reads assigned partitions of one topic from given offsets. One task calls it.

    `positions` holds the next offset of each assigned partition, `malformed` the newest records that could not be
    decoded (bounded; the caller takes them out), `malformed_total` their number. `fetch_bytes_min` above 1 trades up to
    FETCH_WAIT_MS of delay for fewer, larger fetches, of which each costs the broker more than what is in it.
    """

    def __init__(
        self, bootstrap: str, topic: str, *, queue_bytes_max: int = 64 << 20, fetch_bytes_min: int = 1
    ) -> None:
        self.topic = topic
        self.topic_id: str | None = None
        self.positions: dict[int, int] = {}
        self.malformed: deque[MalformedRecord] = deque(maxlen=MALFORMED_KEPT)
        self.malformed_total = 0
        self._bootstrap = bootstrap
        self._admin = LogAdmin(bootstrap)
        self._worker = ThreadPoolExecutor(1, f"log-{topic}")
        self._reading: asyncio.Future[list[Logged]] | None = None
        self._fetched: dict[int, int] = {}  # written by the worker while `_reading` is under way
        self._heard_s = 0.0
        self._bad_news: KafkaError | None = None
        self._lost: Message | None = None
        self._consumer = Consumer(
            {
                **CONNECTION,
                "bootstrap.servers": bootstrap,
                "group.id": f"marketfeed-unused-{topic}",  # the client insists; nothing is committed to it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "fetch.min.bytes": fetch_bytes_min,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.queue.backoff.ms": 5,
                "fetch.error.backoff.ms": 100,
                "queued.max.messages.kbytes": max(queue_bytes_max >> 10, 1),
                "error_cb": self._on_error,
                "logger": client_log,
            }
        )

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        """Read these partitions from these offsets, in place of what was assigned before.

        `topic_id` is the log that the positions belong to: raises LogReplaced when it is another one now.
        """
        self.topic_id = await self._admin.topic_id(self.topic)
        if topic_id is not None and topic_id != self.topic_id:
            raise LogReplaced(self.topic, topic_id, self.topic_id)
        if self._reading is not None:
            await self._reading
            self._reading = None
        await self._assign(positions)

    async def _assign(self, positions: Mapping[int, int]) -> None:
        self._bad_news = self._lost = None
        self.positions = dict(positions)
        self._fetched = {}
        self._heard_s = asyncio.get_running_loop().time()
        places = [TopicPartition(self.topic, partition, offset) for partition, offset in positions.items()]
        await asyncio.get_running_loop().run_in_executor(self._worker, self._consumer.assign, places)

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        """Records as soon as there are any, in offset order within each partition; none when `timeout_s` passes.

        `gather_s`: wait that long for more after the first, to hand out fewer, larger batches. Raises LogTrimmed or
        LogReplaced (then `assign` anew) and Unavailable (then just poll again). A cancelled call loses nothing.
        """
        if self._bad_news is not None or self._lost is not None:
            await self._raise_trouble()
        if self._reading is None:
            loop = asyncio.get_running_loop()
            work = partial(self._fetch, max_records, timeout_s, gather_s)
            self._reading = loop.run_in_executor(self._worker, work)
        records = await asyncio.shield(self._reading)
        self._reading = None
        now_s = asyncio.get_running_loop().time()
        if self._fetched:
            self.positions.update(self._fetched)
            self._fetched = {}
            self._heard_s = now_s
        elif self.positions and now_s - self._heard_s > IDLE_CHECK_S:
            self._heard_s = now_s
            await self._check_silence()
        return records

    async def end_offsets(self) -> dict[int, int]:
        """The offset after the last record of every partition of the topic."""
        return await self._admin.end_offsets(self.topic)

    async def begin_offsets(self) -> dict[int, int]:
        """The first offset still in the log, of every partition."""
        return await self._admin.begin_offsets(self.topic)

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        """The first record of every partition appended at or after `ts_ns` (Unix ns); the end when there is none."""
        return await self._admin.offsets_for_time(self.topic, ts_ns)

    async def close(self) -> None:
        """Stop reading; waits for the worker thread, at most the timeout of a `poll` in progress."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._worker, self._consumer.close)
        self._worker.shutdown(wait=False)

    def _fetch(self, max_records: int, timeout_s: float, gather_s: float) -> list[Logged]:
        """In the worker thread. `poll` first: `consume` alone waits for a full batch or the whole timeout."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        records: list[Logged] = []
        self._decode_into(records, [first])
        if max_records > 1:
            self._decode_into(records, self._consumer.consume(max_records - 1, gather_s))
        return records

    def _decode_into(self, records: list[Logged], messages: Iterable[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(error, message)
                continue
            self._fetched[message.partition() or 0] = (message.offset() or 0) + 1
            try:
                records.append(_logged(message))
            except MalformedRecord as malformed:
                self.malformed.append(malformed)
                self.malformed_total += 1

    def _note(self, error: KafkaError, message: Message) -> None:
        """Keep an error for the next `poll`; one about a partition's position outranks one about a connection."""
        if error.code() in _POSITION_ERRORS and message.partition() is not None:
            self._lost = message
        else:
            self._bad_news = error

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._bad_news = error

    async def _check_silence(self) -> None:
        """Nothing came: raises LogReplaced or Unavailable if that is why, and fetches anew if there is something."""
        found = await self._admin.topic_id(self.topic)
        if self.topic_id is not None and found != self.topic_id:
            raise LogReplaced(self.topic, self.topic_id, found)
        ends = await self.end_offsets()
        if any(offset != ends.get(partition) for partition, offset in self.positions.items()):
            await self._assign(self.positions)

    async def _raise_trouble(self) -> None:
        news, lost = self._bad_news, self._lost
        if lost is None:
            self._bad_news = None
            raise Unavailable("Kafka", self._bootstrap, news.str() if news is not None else "")
        # What was lost stays noted until it is explained, which a topic that does not exist just now is not.
        found = await self._admin.topic_id(self.topic)
        partition = lost.partition() or 0
        wanted = self.positions.get(partition, -1)
        first, end = (await self.begin_offsets()).get(partition, 0), (await self.end_offsets()).get(partition, 0)
        self._bad_news = self._lost = None
        if self.topic_id is not None and found != self.topic_id:
            raise LogReplaced(self.topic, self.topic_id, found)
        if first <= wanted <= end:
            await self._assign(self.positions)
            raise Unavailable("Kafka topic", self.topic, "it was not to be found for a moment")
        # A log that ends below the position lost its tail: what is left was read before, so only its end is of use.
        raise LogTrimmed(self.topic, partition, wanted, end if wanted > end else first)


_POSITION_ERRORS = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


def _logged(message: Message) -> Logged:
    """A decoded record; raises MalformedRecord."""
    partition, offset = message.partition() or 0, message.offset() or 0
    headers = {name: _text(value) for name, value in dict(message.headers() or ()).items()}
    body = decode_body(headers.get(KIND_HEADER, ""), message.value() or b"", partition, offset)
    return Logged(partition, offset, message.timestamp()[1] * 1_000_000, body, headers)


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
