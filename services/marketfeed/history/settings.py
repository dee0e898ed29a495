"""Settings of `history import` and `history replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class HistorySettings(Settings):
    """What both have in common."""

    files: tuple[str, ...] = setting((), "files to read, in this order; see docs/history-csv.md")
    feed: str = setting("history", "feed id: prefix of topics and keys")
    quarantine: Path | None = setting(None, "where bad lines go; default the first file's name and .quarantine.csv")
    result_file: Path | None = setting(
        None, "where one line of JSON with the counts goes at the end; /dev/termination-log in a pod"
    )
    timeout_s: float = setting(0.0, "time in which its server must come up; 0 tries once")
    quarantine_lines_max: int = setting(100_000, "bad lines written at most; the rest is counted only")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSettings(HistorySettings):
    """Files into PostgreSQL."""

    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL", secret=True
    )
    calendar: str = setting("24x7", "sessions and trade dates", choices=("24x7", "us-equity"))
    replace: bool = setting(False, "delete live bars of the symbols and days in the files; without it they are refused")
    bars_max: int = setting(200_000, "bars held in memory before they are written; one takes 300 bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings(HistorySettings):
    """Files through Kafka, as if they were a feed."""

    kafka: str = setting("127.0.0.1:9092", "Kafka's bootstrap address")
    partitions: int = setting(8, "partitions of the feed's log, if this makes it")
    retention_gb: float = setting(2.0, "trades kept at most, 10^9 bytes in all, if this makes the topics")
    retention_h: float = setting(48.0, "trades kept at most, hours, if this makes the topics")
    speed: str = setting("1", "how many times faster than real time, or max for as fast as Kafka takes it")
    append: bool = setting(False, "go on after what the feed's log already holds; without it a used feed is refused")
    buffer_bytes_max: int = setting(67_108_864, "bytes sent and not yet acknowledged at which reading waits")
    flush_interval_ms: int = setting(20, "time between two sends at real time")
    instance: str | None = setting(None, "name of this process in its claims; default host and process id")
