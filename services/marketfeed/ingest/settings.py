"""The settings of ingest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSettings(Settings):
    """What is read, by which share, where it goes, and how much may wait."""

    feed: str = setting("demo", "id of the feed; prefixes the topics, never changes")
    kafka: str = setting("127.0.0.1:9092", "bootstrap servers of Kafka")
    partitions: int = setting(8, "partitions of <feed>.trades; fixed when the topic is made")
    retention_gb: float = setting(2.0, "trades kept at most, 10^9 bytes in all, if this process makes the topics")
    retention_h: float = setting(48.0, "trades kept at most, hours, if this process makes the topics")
    source: str = setting("finnhub", "both speak one protocol; only for /status", choices=("finnhub", "generator"))
    finnhub_url: str = setting("wss://ws.finnhub.io", "WebSocket of the feed, or any that speaks the same")
    finnhub_api_key: str = setting("", "API key of the feed; one connection per key", secret=True)
    symbols: tuple[str, ...] = setting((), "symbols of the whole feed, of which this shard takes its share")
    symbols_file: Path | None = setting(None, "the same from a file, one symbol a line, # for remarks")
    shard: str = setting("0/1", "which share of the symbols: i/n with 0 <= i < n, or i alone with a plan")
    member: int = setting(0, "which of the shard's processes: hot standbys of each other have one shard, own keys")
    plan: Path | None = setting(None, "plan file (JSON): which shard has which symbol; waited for, then followed")
    symbols_max: int = setting(0, "most symbols that one connection may have at a time; 0 for no limit")
    instance: str = setting("", "prefix of this process' name in the log; by default the host's name")
    spool_dir: Path = setting(Path(".marketfeed/spool"), "folder of records while Kafka is away; has one per process")
    spool_mb: float = setting(1024.0, "most that the spool holds, 10^6 bytes; beyond it trades are dropped, marked")
    spool_fsync: str = setting(
        "interval", "when the spool is forced to disk; no kill loses any", choices=("always", "interval", "never")
    )
    memory_mb: float = setting(64.0, "most that waits for Kafka in memory before the spool is used, 10^6 bytes")
    memory_records: int = setting(20_000, "the same in records")
    buffer_trades: int = setting(2_000_000, "most trades in memory of symbols that this process does not speak for")
    buffer_mb: float = setting(1024.0, "most that such trades take on disk beyond that, 10^6 bytes")
    flush_interval_ms: float = setting(20.0, "trades are handed to Kafka at least this often")
    flush_kb: float = setting(512.0, "frames of this many 10^3 bytes are handed on without waiting for the interval")
    dedup: str = setting(
        "frame",
        "frame: drop frames repeated within 2 s, and repeats after a reconnect; off: neither",
        choices=("frame", "off"),
    )
    watchdog_s: float = setting(75.0, "a connection without any frame for so long is cut; the feed pings every 60 s")
    stale_after_s: float = setting(300.0, "a symbol without a trade for so long counts as silent in /status")
    price_max: float = setting(1e12, "a price above this is absurd and quarantined")
    quarantine_keep: int = setting(200, "samples of refused trades and frames kept for /quarantine")
