"""Settings of `prepare`, `topics` and `migrate`."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicsSettings(Settings):
    """The topics of a feed."""

    feed: str = setting("demo", "feed id: prefix of topics and keys")
    kafka: str = setting("127.0.0.1:9092", "Kafka's bootstrap address")
    partitions: int = setting(8, "partitions of the trades, fixed for the life of the feed")
    retention_gb: float = setting(2.0, "trades kept at most, 10^9 bytes over all partitions")
    retention_h: float = setting(48.0, "trades kept at most, hours")


@dataclass(frozen=True, kw_only=True, slots=True)
class MigrateSettings(Settings):
    """Where PostgreSQL is."""

    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL", secret=True
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings(TopicsSettings):
    """Both, and how long to wait for the servers."""

    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL", secret=True
    )
    timeout_s: float = setting(
        300.0, "time in which Kafka and PostgreSQL must come up: a cluster that starts from nothing takes minutes"
    )
