"""Topics of a feed: created with their retention, checked, described, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its documentation, not by its stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from marketfeed.adapters.kafka.connection import CONNECTION
from marketfeed.domain.errors import SettingError, Unavailable

REQUEST_TIMEOUT_S = 10.0
SEGMENT_BYTES_MIN = 1 << 20
SEGMENT_BYTES_MAX = 1 << 30
CONTROL_BYTES = 256 << 20
CONTROL_MS_MIN = 24 * 3_600_000
# What is answered while brokers do not yet agree on a partition's leader, as just after a topic was made: asked again.
LEADER_MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)


def trades_topic(feed: str) -> str:
    """The log of truth, one partition per hash of symbols."""
    return f"{feed}.trades"


def control_topic(feed: str) -> str:
    """Claims and signs of life; one partition."""
    return f"{feed}.control"


def bars_topic(feed: str) -> str:
    """Bars for other consumers."""
    return f"{feed}.bars"


class LogAdmin:
    """Topics of a feed. All errors of the connection are `Unavailable`."""

    def __init__(self, bootstrap: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._admin = AdminClient({**CONNECTION, "bootstrap.servers": bootstrap, "log_level": 2})

    async def ensure_topics(self, feed: str, partitions: int, retention_bytes: int, retention_ms: int) -> None:
        """Create <feed>.trades (n partitions), <feed>.control (1) and <feed>.bars (n) where they are missing.

        `retention_bytes` is for all of <feed>.trades; <feed>.bars gets an eighth of it. Raises SettingError when a
        topic exists with another number of partitions, which is immutable, or without the broker's time stamps.
        """
        wanted = _topics(feed, partitions, retention_bytes, retention_ms)
        created = self._admin.create_topics(list(wanted.values()), request_timeout=self._timeout_s)
        for topic, future in created.items():
            await self._answer(future, KafkaError.TOPIC_ALREADY_EXISTS)
            found = await self._settled(topic)
            expected = wanted[topic].num_partitions
            if found != expected:
                raise SettingError(
                    "partitions",
                    f"the topic {topic} has {found} partitions and the setting says {expected}; a feed keeps its number"
                    " of partitions for ever, so set it to that or use another feed id",
                )
            await self.end_offsets(topic)  # a leader that was just named may not know it yet
        await self._check_stamps([trades_topic(feed), control_topic(feed)])

    async def set_retention(self, feed: str, partitions: int, retention_bytes: int, retention_ms: int) -> list[str]:
        """Give existing topics the retention that `ensure_topics` makes them with; what was changed, in words."""
        wanted = _topics(feed, partitions, retention_bytes, retention_ms)
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in wanted]
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        changes, words = [], []
        for resource, future in answers.items():
            found = await self._answer(future)
            odd = {name: value for name, value in _retention(wanted[resource.name]) if found[name].value != value}
            if odd:
                entries = [
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in odd.items()
                ]
                changes.append(ConfigResource(ResourceType.TOPIC, resource.name, incremental_configs=entries))
                words.append(f"{resource.name}: " + ", ".join(f"{name}={value}" for name, value in odd.items()))
        if changes:
            altered = self._admin.incremental_alter_configs(changes, request_timeout=self._timeout_s)
            for future in altered.values():
                await self._answer(future)
        return words

    async def topic_id(self, topic: str) -> str:
        """Kafka's id of a topic: another id is another log. Raises Unavailable when there is no such topic."""
        described = await self._describe(topic)
        if described is None:
            raise Unavailable("Kafka topic", topic, "it does not exist yet")
        return str(described.topic_id)

    async def partitions(self, topic: str) -> int:
        """The number of partitions of a topic. Raises Unavailable when there is no such topic."""
        described = await self._describe(topic)
        if described is None:
            raise Unavailable("Kafka topic", topic, "it does not exist yet")
        return len(described.partitions)

    async def begin_offsets(self, topic: str) -> dict[int, int]:
        """The first offset still in the log, of every partition."""
        return await self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset after the last record, of every partition."""
        return await self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def offsets_for_time(self, topic: str, ts_ns: int) -> dict[int, int]:
        """The first record of every partition appended at or after `ts_ns` (Unix ns); the end when there is none."""
        found = await self._offsets(topic, OffsetSpec.for_timestamp(ts_ns // 1_000_000))
        ends = await self.end_offsets(topic)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    async def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        """For each partition the offset that `spec` asks for, -1 for a time after the last record."""
        count = await self.partitions(topic)
        found: dict[int, int] = {}

        async def answered() -> bool:
            asked = {TopicPartition(topic, p): spec for p in range(count) if p not in found}
            answers = self._admin.list_offsets(asked, request_timeout=self._timeout_s)
            for place, future in answers.items():
                answer = await self._answer(future, *LEADER_MOVING)
                if answer is not None:
                    found[place.partition] = answer.offset
            return len(found) == count

        await self._until(answered, f"{topic} has partitions whose leader is moving")
        return found

    async def delete_feed(self, feed: str) -> None:
        """Delete the three topics of a feed, those that exist, and wait until they are gone."""
        topics = [trades_topic(feed), control_topic(feed), bars_topic(feed)]
        for future in self._admin.delete_topics(topics, request_timeout=self._timeout_s).values():
            await self._answer(future, KafkaError.UNKNOWN_TOPIC_OR_PART)
        for topic in topics:
            await self._until(partial(self._gone, topic), f"{topic} is still being deleted")

    async def _gone(self, topic: str) -> bool:
        return await self._describe(topic) is None

    async def _settled(self, topic: str) -> int:
        """The number of partitions, once every one of them has a leader."""
        count = 0

        async def led() -> bool:
            nonlocal count
            described = await self._describe(topic)
            count = len(described.partitions) if described is not None else 0
            return described is not None and all(p.leader is not None for p in described.partitions)

        await self._until(led, f"{topic} has partitions without a leader")
        return count

    async def _until(self, condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        """Ask until the condition holds; Unavailable(otherwise) after the time of a request."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while not await condition():  # noqa: ASYNC110 (the brokers tell nobody; they have to be asked)
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise Unavailable("Kafka", self._bootstrap, otherwise) from error

    async def _check_stamps(self, topics: list[str]) -> None:
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        for resource, future in answers.items():
            stamps = (await self._answer(future))["message.timestamp.type"].value
            if stamps != "LogAppendTime":
                raise SettingError(
                    "feed",
                    f"the topic {resource.name} has message.timestamp.type={stamps}; set it to LogAppendTime"
                    " or use another feed id",
                )

    async def _describe(self, topic: str) -> Any:
        """A `TopicDescription`, or None when the topic does not exist."""
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._timeout_s)
        return await self._answer(asked[topic], KafkaError.UNKNOWN_TOPIC_OR_PART)

    async def _answer(self, future: Future[Any], *absent: int) -> Any:
        """The result of a request; None when its error is one of `absent`."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s + 5)
        except TimeoutError as error:
            raise Unavailable("Kafka", self._bootstrap, "no answer in time") from error
        except KafkaException as error:
            if error.args[0].code() in absent:
                return None
            raise Unavailable("Kafka", self._bootstrap, error.args[0].str()) from error


def _topics(feed: str, partitions: int, retention_bytes: int, retention_ms: int) -> dict[str, NewTopic]:
    """A feed's topics by name, as they should be."""
    return {
        trades_topic(feed): _topic(trades_topic(feed), partitions, retention_bytes, retention_ms),
        control_topic(feed): _topic(control_topic(feed), 1, CONTROL_BYTES, max(retention_ms, CONTROL_MS_MIN)),
        bars_topic(feed): _topic(bars_topic(feed), partitions, retention_bytes // 8, retention_ms),
    }


def _retention(topic: NewTopic) -> list[tuple[str, str]]:
    """The settings of a topic that bound what it keeps: those that may change while it lives."""
    settings = (topic.config or {}).items()
    return [(name, value) for name, value in settings if name.startswith(("retention.", "segment."))]


def _topic(name: str, partitions: int, retention_bytes: int, retention_ms: int) -> NewTopic:
    """Time and bytes bound every partition; segments are small enough for the bytes to be kept to within an eighth."""
    share = retention_bytes // partitions
    config = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "producer",
        "retention.ms": str(retention_ms),
        "retention.bytes": str(share),
        "segment.bytes": str(min(max(share // 8, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)),
        "segment.ms": str(max(retention_ms // 8, 60_000)),
    }
    return NewTopic(name, num_partitions=partitions, replication_factor=-1, config=config)
